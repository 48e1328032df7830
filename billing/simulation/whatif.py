"""A month of the whole base under two sets of tariffs: what everybody would pay, and who would pay more or less.

Rules. What is rated: every period of an order that ended within the month (by its period's end or by the order's own),
whole, with all its charges: recurring ones, be they billed in advance or in arrears, usage, percentages, the order's
minimum, with promotions and proration; and one-time orders that began within the month. The month is the calendar
month of each order's own zone. Orders are as they stand today, so shares are final and there are no adjustments; lines
written by people are left out. It is computed by the very code that bills (`bill_shard`), each account by itself.

An account that cannot be billed under one of the sets is compared with nothing: it is counted apart.

Does not know: the database, pictures.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np

from billing.calendar import HORIZON_END_S, HORIZON_START_S, boundaries
from billing.charging.bills import bill_shard
from billing.charging.due import Due, Periods, find_due
from billing.charging.pools import windows, with_neighbours
from billing.charging.records import NONE, ONCE, ShardBill, ShardInput, Windows
from billing.charging.tariffs import Tariffs
from billing.simulation.store import CalendarMonth
from ratingcore.arrays import Ints

#: Edges of the histogram, in percent of what was paid before; no change has a bar of its own.
EDGES: Final = (-50, -20, -10, -5, -1, 0, 1, 5, 10, 20, 50)
#: Changes kept either way, and causes.
LARGEST: Final = 10
LISTED: Final = 20


@dataclass(frozen=True, slots=True)
class Paid:
    """What one account would pay."""

    account_id: int
    currency: str
    before_minor: int
    after_minor: int

    @property
    def change_minor(self) -> int:
        return self.after_minor - self.before_minor


@dataclass
class MoneyCompared:
    """Sums of accounts that can be billed under both. total: tax included."""

    accounts: int = 0
    net_before_minor: int = 0
    net_after_minor: int = 0
    total_before_minor: int = 0
    total_after_minor: int = 0
    gain: int = 0
    lose: int = 0
    same: int = 0

    def add(self, other: "MoneyCompared") -> None:
        for name in self.__dataclass_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True, slots=True)
class Unbilled:
    """Why an account cannot be billed."""

    account_id: int
    order_id: int
    reason: str
    detail: str


@dataclass
class Side:
    """Accounts that cannot be billed under one set. other_net_minor: what they pay under the other, by currency."""

    accounts: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    listed: list[Unbilled] = field(default_factory=list)
    other_net_minor: dict[str, int] = field(default_factory=dict)

    def add(self, other: "Side") -> None:
        self.accounts += other.accounts
        _add_up(self.reasons, other.reasons)
        _add_up(self.other_net_minor, other.other_net_minor)
        self.listed = sorted([*self.listed, *other.listed], key=lambda one: (one.account_id, one.order_id))[:LISTED]


@dataclass
class Compared:
    """A month under two sets of tariffs, before and after.

    bars: accounts by change in percent: below EDGES[0], between two edges and so on; unchanged ones are in ``same``,
    those that paid nothing before in ``from_nothing``. items: (net before, net after) by (currency, item).
    """

    money: dict[str, MoneyCompared] = field(default_factory=dict)
    bars: list[int] = field(default_factory=lambda: [0] * (len(EDGES) + 1))
    from_nothing: int = 0
    items: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    down: list[Paid] = field(default_factory=list)
    up: list[Paid] = field(default_factory=list)
    before: Side = field(default_factory=Side)
    after: Side = field(default_factory=Side)
    orders: int = 0
    events: int = 0

    def add(self, other: "Compared") -> None:
        """Take in another range of accounts."""
        for currency, money in other.money.items():
            self.money.setdefault(currency, MoneyCompared()).add(money)
        self.bars = [mine + more for mine, more in zip(self.bars, other.bars, strict=True)]
        self.from_nothing += other.from_nothing
        for key, (before, after) in other.items.items():
            known = self.items.get(key, (0, 0))
            self.items[key] = known[0] + before, known[1] + after
        self.down = largest([*self.down, *other.down], -1)
        self.up = largest([*self.up, *other.up], 1)
        self.before.add(other.before)
        self.after.add(other.after)
        self.orders += other.orders
        self.events += other.events


def largest(paid: Iterable[Paid], way: int) -> list[Paid]:
    """The largest changes up (1) or down (-1), the largest first."""
    moved = (one for one in paid if one.change_minor * way > 0)
    return sorted(moved, key=lambda one: (-one.change_minor * way, one.account_id))[:LARGEST]


# ---- what a month takes


def due_in(shard: ShardInput, tariffs: Tariffs, month: CalendarMonth) -> tuple[ShardInput, Due]:
    """The shard as of the month's end with nothing billed before the month, and the periods that are the month's."""
    low = tariffs.bounds(month.first)[tariffs.terms.zone]
    high = tariffs.bounds(month.following)[tariffs.terms.zone]
    terms = shard.orders.terms_id
    done = _done_before(shard, tariffs, low)
    orders = replace(shard.orders, advance_done_s=done, arrears_done_s=done)
    at_end = replace(shard, bill_on=month.following, orders=orders)
    due = find_due(at_end, tariffs)
    periods = due.periods
    from_s, to_s = low[terms[periods.order]], high[terms[periods.order]]
    ended = (periods.until_s > from_s) & (periods.until_s <= to_s)
    begun = (periods.from_s >= from_s) & (periods.from_s < to_s)
    ours = _only(due, np.flatnonzero(np.where(periods.part == ONCE, begun, ended)))
    return at_end, with_neighbours(ours, at_end, tariffs)


def _done_before(shard: ShardInput, tariffs: Tariffs, low: Ints) -> Ints:
    """By order the beginning of the period in which the month begins, NONE where the order begins later."""
    terms = tariffs.terms
    starts = np.full(len(terms.cadence), NONE, np.int64)
    for number in np.flatnonzero(terms.known).tolist():
        periods = boundaries(tariffs.cadences[int(terms.cadence[number])], HORIZON_START_S, HORIZON_END_S)
        starts[number] = periods[np.searchsorted(periods, low[number], side="right") - 1]
    begins = starts[shard.orders.terms_id]
    return np.where(shard.orders.starts_s < begins, begins, NONE)


def _only(due: Due, kept: Ints) -> Due:
    """Some of the periods, and what fails of them."""
    periods = Periods(*(getattr(due.periods, name)[kept] for name in Periods.__dataclass_fields__))
    places = {period: place for place, period in enumerate(kept.tolist())}
    failures = tuple(
        replace(one, period=places.get(one.period, NONE))
        for one in due.failures
        if one.period == NONE or one.period in places
    )
    return replace(due, periods=periods, failures=failures)


def usage_of(shard: ShardInput, dues: Iterable[tuple[Due, Tariffs]]) -> Windows:
    """The usage that any of these needs: one window an account, with a little more where they differ."""
    found = [windows(due, shard, tariffs) for due, tariffs in dues]
    account, from_s, until_s = (
        np.concatenate([getattr(one, name) for one in found]) for name in ("account_id", "from_s", "until_s")
    )
    accounts, place = np.unique(account, return_inverse=True)
    low, high = np.full(len(accounts), HORIZON_END_S), np.full(len(accounts), HORIZON_START_S)
    np.minimum.at(low, place, from_s)
    np.maximum.at(high, place, until_s)
    return Windows(accounts, low, high)


# ---- the comparison


def compare(shard: ShardInput, before: tuple[Due, Tariffs], after: tuple[Due, Tariffs]) -> Compared:
    """What the accounts of a shard, usage included, pay before and after."""
    bills = [bill_shard(shard, tariffs, due) for due, tariffs in (before, after)]
    accounts = shard.payers.account_id
    failed = [np.isin(accounts, [one.payer_account_id for one in bill.failures]) for bill in bills]
    net, total = ([_by_account(accounts, bill, name) for bill in bills] for name in ("net_minor", "total_minor"))
    billed = [np.isin(accounts, bill.invoices.account_id) for bill in bills]
    both = np.flatnonzero(~failed[0] & ~failed[1] & (billed[0] | billed[1]))
    found = Compared(orders=len(shard.orders.order_id), events=bills[0].counts.events)
    for code, currency in enumerate(shard.currencies):
        rows = both[shard.payers.currency[both] == code]
        if len(rows):
            found.money[currency] = _money(*(one[rows] for one in (*net, *total)))
            _add_changes(found, accounts[rows], currency, total[0][rows], total[1][rows])
    _add_items(found, shard, bills, both)
    found.before = _side(shard, bills[0], np.flatnonzero(failed[0]), net[1])
    found.after = _side(shard, bills[1], np.flatnonzero(failed[1]), net[0])
    return found


def _by_account(accounts: Ints, bill: ShardBill, name: str) -> Ints:
    amounts = np.zeros(len(accounts), np.int64)
    amounts[np.searchsorted(accounts, bill.invoices.account_id)] = getattr(bill.invoices, name)
    return amounts


def _money(net_before: Ints, net_after: Ints, before: Ints, after: Ints) -> MoneyCompared:
    return MoneyCompared(
        len(before),
        *(_sum(one) for one in (net_before, net_after, before, after)),
        *(int(flags.sum()) for flags in (after < before, after > before, after == before)),
    )


def _sum(amounts: Ints) -> int:
    """An exact sum: of amounts up to 10^15 each, thousands fit 63 bits but millions need not."""
    whole, rest = np.divmod(amounts, 1_000_000)
    return int(whole.sum()) * 1_000_000 + int(rest.sum())


def _add_changes(found: Compared, accounts: Ints, currency: str, before: Ints, after: Ints) -> None:
    change = after - before
    moved = np.flatnonzero(change)
    nothing = before[moved] <= 0
    found.from_nothing += int(nothing.sum())
    rows = moved[~nothing]
    bar = np.zeros(len(rows), np.int64)
    for edge in EDGES:
        # A change of exactly an edge is in the bar nearer to zero.
        beyond = change[rows] * 100 - before[rows] * edge
        bar += (beyond >= 0) if edge <= 0 else (beyond > 0)
    counts = np.bincount(bar, minlength=len(EDGES) + 1).tolist()
    found.bars = [mine + more for mine, more in zip(found.bars, counts, strict=True)]
    # Of those that change alike, the first by id, however accounts are cut into ranges.
    few = {
        row for way in (1, -1) for row in moved[np.lexsort((accounts[moved], change[moved] * way))[:LARGEST]].tolist()
    }
    paid = [Paid(int(accounts[row]), currency, int(before[row]), int(after[row])) for row in sorted(few)]
    found.down, found.up = largest([*found.down, *paid], -1), largest([*found.up, *paid], 1)


def _add_items(found: Compared, shard: ShardInput, bills: list[ShardBill], both: Ints) -> None:
    """Net sums by currency and item, of accounts that can be billed under both."""
    kept = np.zeros(len(shard.payers.account_id), np.bool_)
    kept[both] = True
    sums: list[dict[tuple[str, str], int]] = [{}, {}]
    for bill, of_side in zip(bills, sums, strict=True):
        payer = bill.invoices.payer[bill.lines.invoice]
        rows = np.flatnonzero(kept[payer])
        key = shard.payers.currency[payer[rows]].astype(np.int64) * len(bill.items) + bill.lines.item[rows]
        for one in np.unique(key).tolist():
            currency, item = shard.currencies[one // len(bill.items)], bill.items[one % len(bill.items)]
            of_side[currency, item] = _sum(bill.lines.net_minor[rows[key == one]])
    for names in sorted({*sums[0], *sums[1]}):
        found.items[names] = sums[0].get(names, 0), sums[1].get(names, 0)


def _side(shard: ShardInput, bill: ShardBill, failed: Ints, other_net: Ints) -> Side:
    reasons: dict[str, int] = {}
    for one in bill.failures:
        _add_up(reasons, {one.reason: 1})
    listed = [Unbilled(one.payer_account_id, one.order_id, one.reason, one.detail) for one in bill.failures[:LISTED]]
    other: dict[str, int] = {}
    for row in failed[other_net[failed] != 0].tolist():
        _add_up(other, {shard.currencies[shard.payers.currency[row]]: int(other_net[row])})
    return Side(len(failed), reasons, listed, other)


def _add_up(into: dict[Any, int], more: Mapping[Any, int]) -> None:
    for key, value in more.items():
        into[key] = into.get(key, 0) + value
