"""Rating the imported usage of a month, without billing it: what events come to under a catalogue, by the kernel.

Rules. An event belongs to the order that the billing cycle would bill it in, and costs what that order's plan (or item)
says for its buyer; one that no order covers costs what the catalogue says for a plan named by the caller, or for
everybody. A line is what one order (or one account without it) used of one item in the calendar month of the
catalogue's zone, by `counts_at`; events are rated at their own time, in order of (at, id) over the account, lines are
closed at the last second of the month, where they were used, and rounded once. Pools hold what the account's orders
alive in the month grant.

What the cycle adds is left out: lines that nothing was used on, charges for time, promotions, percentages, minimums of
orders, tax. Items that are not charged by use are counted as `not_metered`.

Does not know: where columns come from, how totals are shown.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np

from billing.catalogue.model import Buyer, plan_grants
from billing.catalogue.tables import NO_ROW, is_recurring
from billing.charging.due import codes_of, entitlements_of
from billing.charging.prices import RowTable
from billing.charging.records import NONE, ShardInput
from billing.charging.tariffs import Entitlement, Tariffs, reject_reason
from billing.charging.usage import orders_of_events
from billing.usage.ratable import number_keys
from ratingcore import tariff as core
from ratingcore.arrays import Bytes, Ints
from ratingcore.lines import Sums, add_events, new_sums, round_sums
from ratingcore.rate import Accumulators, Lines, close_lines, make_events, make_lines, new_accumulators, rate_events
from ratingcore.rounding import MICRO_PER_MINOR

#: In place of a row: the item is charged for time or as a percentage; no catalogue has the item.
_NOT_METERED: Final = -2
_UNKNOWN_ITEM: Final = -3
_REASONS: Final = {NO_ROW: "no_price", _NOT_METERED: "not_metered", _UNKNOWN_ITEM: "unknown_item"}


class Key(NamedTuple):
    """Whose usage of what. plan: empty for orders on an item and for usage outside orders at everybody's price."""

    catalogue: str
    plan: str
    item: str
    currency: str


@dataclass
class ItemTotal:
    """What an item came to. quantity: steps of the unit; amount_minor: sum of lines, each rounded."""

    rows: int = 0
    quantity: int = 0
    amount_minor: int = 0
    lines: int = 0
    rejects: dict[str, int] = field(default_factory=dict)

    def add(self, other: "ItemTotal") -> None:
        self.rows += other.rows
        self.quantity += other.quantity
        self.amount_minor += other.amount_minor
        self.lines += other.lines
        for reason, count in other.rejects.items():
            self.rejects[reason] = self.rejects.get(reason, 0) + count


@dataclass(frozen=True, slots=True)
class UncoveredUsage:
    """How usage that no order covers is rated. buyers: (group, number) by account, of those whom catalogues name."""

    plan: str = ""
    buyers: Mapping[int, tuple[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Book:
    """Who pays which price: rows by (context, item). plans, currencies: by context; grants: (pool, quantity)."""

    rows: Ints
    plans: tuple[str, ...]
    currencies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Placed:
    """Events by row: the context that prices them, the line and the account they are on."""

    context: Ints
    line: Ints
    account: Ints


def rate_month(
    shard: ShardInput, tariffs: Tariffs, outside: UncoveredUsage, from_s: int, until_s: int
) -> tuple[dict[Key, ItemTotal], int]:
    """(totals, accounts) of the usage of a range of accounts.

    Args:
        shard: orders of the accounts, and their usage that counts in [from_s, until_s).
    """
    events = shard.events
    if not len(events.id):
        return {}, 0
    order = np.full(len(events.id), NONE, np.int64)
    of_order, rows = orders_of_events(shard, tariffs)
    order[of_order] = rows
    account, accounts = codes_of(events.account_id)
    entitlement = entitlements_of(shard, tariffs)
    buyers, buyer = _buyers_of(shard, outside, order, account)
    book = _book_of(tariffs, events.items, outside.plan, buyers)
    context = np.where(order == NONE, len(tariffs.entitlements) + buyer, np.append(entitlement, 0)[order])
    owner = np.where(order == NONE, len(shard.orders.order_id) + account, order)
    line, _ = codes_of((owner * len(events.items) + events.item).astype(np.int64))
    placed = _Placed(context, line, account)
    pools = _Pools(
        shard, tariffs, entitlement, events.account_id, account, accounts, outside.plan, order, from_s, until_s
    )
    return _totals_of(shard, tariffs, book, placed, pools, until_s), accounts


# ---- which price


def _buyers_of(
    shard: ShardInput, outside: UncoveredUsage, order: Ints, account: Ints
) -> tuple[tuple[tuple[str, str], ...], Ints]:
    """(buyers outside orders, the buyer of every event); buyer 0 is nobody in particular."""
    buyers = (("", ""), *sorted(set(outside.buyers.values()) - {("", "")}))
    if len(buyers) == 1:
        return buyers, np.zeros(len(order), np.int64)
    named = {one: buyers.index(pair) for one, pair in outside.buyers.items()}
    ids, first = np.unique(shard.events.account_id, return_index=True)
    by_account = np.zeros(int(account.max()) + 1, np.int64)
    by_account[account[first]] = [named.get(one, 0) for one in ids.tolist()]
    return buyers, by_account[account]


def _book_of(tariffs: Tariffs, items: tuple[str, ...], plan: str, buyers: Iterable[tuple[str, str]]) -> _Book:
    rows = [_rows_of_entitlement(tariffs, entitlement, items) for entitlement in tariffs.entitlements]
    plans = [entitlement.offer.plan for entitlement in tariffs.entitlements]
    currencies = [entitlement.offer.currency for entitlement in tariffs.entitlements]
    home = next((one for one in tariffs.catalogues.values() if plan in one.plans), None)
    for group, number in buyers:
        rows.append([_row_outside(tariffs, item, plan, group, number) for item in items])
        plans.append(plan)
        currencies.append(home.currency if home else "")
    return _Book(np.array(rows, np.int64).reshape(len(rows), len(items)), tuple(plans), tuple(currencies))


def _rows_of_entitlement(tariffs: Tariffs, entitlement: Entitlement, items: tuple[str, ...]) -> list[int]:
    if entitlement.failure is not None:
        return [NO_ROW] * len(items)
    known = {one.item: _NOT_METERED if one.recurring or one.level else one.row for one in entitlement.charges}
    return [known.get(item, NO_ROW) for item in items]


def _row_outside(tariffs: Tariffs, item: str, plan: str, group: str, number: str) -> int:
    """The row of an item outside orders, in the first catalogue that has the item (and the plan)."""
    for catalogue_id, catalogue in sorted(tariffs.catalogues.items()):
        if item not in catalogue.items or (plan and plan not in catalogue.plans):
            continue
        buyer = Buyer(catalogue.currency, plan, group, number)
        resolved = tariffs.prices.resolve(catalogue_id, item, buyer)
        if resolved is None:
            return NO_ROW
        if catalogue.items[item].percentage_of or is_recurring(catalogue, item, {item: resolved}):
            return _NOT_METERED
        return tariffs.prices.row_of(catalogue_id, item, buyer)
    return _UNKNOWN_ITEM


# ---- pools


@dataclass(frozen=True, slots=True)
class _Pools:
    """What fills the pools of the accounts of events: orders alive in the month, or the plan outside orders."""

    shard: ShardInput
    tariffs: Tariffs
    entitlement: Ints
    account_ids: Ints
    account: Ints
    accounts: int
    plan: str
    order: Ints
    from_s: int
    until_s: int

    def of(self, catalogue_id: int) -> Ints | None:
        """By account and pool of a catalogue; None where it has no pools."""
        catalogue = self.tariffs.catalogues[catalogue_id]
        names = tuple(catalogue.pools)
        if not names:
            return None
        held = new_sums(self.accounts * len(names))
        orders, number = self.shard.orders, self._numbers()
        once = self.tariffs.terms.once[orders.terms_id]
        lives = (orders.starts_s < self.until_s) & (orders.ends_s > self.from_s) & (number != NONE) & ~once
        for place, entitlement in enumerate(self.tariffs.entitlements):
            mine = np.flatnonzero(lives & (self.entitlement == place))
            if entitlement.offer.catalogue_id != catalogue_id or not len(mine):
                continue
            for pool, grant in entitlement.grants:
                most = core.MAX_METER // max(1, grant)
                add_events(held, number[mine] * len(names) + pool, np.minimum(orders.quantity[mine], most) * grant)
        if self.plan in catalogue.plans:
            alone = np.unique(self.account[self.order == NONE])
            for name, grant in plan_grants(catalogue, self.plan).items():
                add_events(held, alone * len(names) + names.index(name), np.full(len(alone), grant, np.int64))
        full = held.whole >= core.MAX_METER // MICRO_PER_MINOR
        left = np.where(full, core.MAX_METER, np.where(full, 0, held.whole) * MICRO_PER_MINOR + held.rest)
        return left.reshape(self.accounts, len(names))

    def _numbers(self) -> Ints:
        """The account of every order as events number it, NONE where it has no events."""
        ids, first = np.unique(self.account_ids, return_index=True)
        wanted = self.shard.orders.account_id
        places = np.minimum(np.searchsorted(ids, wanted), len(ids) - 1)
        return np.where(ids[places] == wanted, self.account[first][places], NONE)


# ---- what it comes to


def _totals_of(
    shard: ShardInput, tariffs: Tariffs, book: _Book, placed: _Placed, pools: _Pools, until_s: int
) -> dict[Key, ItemTotal]:
    events, table = shard.events, tariffs.prices.table()
    row = book.rows[placed.context, events.item]
    cell = placed.context * len(events.items) + events.item
    reject = np.zeros(len(row), np.uint8)
    priced = np.flatnonzero(row >= 0)
    quantity = np.zeros(len(row), np.int64)
    if len(priced):
        divisor = _divisors(tariffs, table, events.items, book)[cell[priced]]
        quantity[priced] = events.quantity_micro[priced] // divisor
        reject[priced[quantity[priced] * divisor != events.quantity_micro[priced]]] = core.Reject.BAD_QUANTITY
    lines = int(placed.line.max()) + 1
    row_of, cell_of = np.full(lines, NO_ROW, np.int64), np.zeros(lines, np.int64)
    row_of[placed.line[priced]], cell_of[placed.line] = row[priced], cell
    account_of = np.zeros(lines, np.int64)
    account_of[placed.line] = placed.account
    tally = _Tally(table, row_of)
    for catalogue_id in np.unique(np.append(table.catalogue, NONE)[row[priced]]).tolist():
        mine = priced[(table.catalogue[row[priced]] == catalogue_id) & (reject[priced] == 0)]
        _rate(shard, tariffs, catalogue_id, placed.line, mine, quantity, reject, account_of, tally, pools, until_s)
    return _gathered(tariffs, book, events.items, cell, row, reject, quantity, cell_of, tally)


def _divisors(tariffs: Tariffs, table: RowTable, items: tuple[str, ...], book: _Book) -> Ints:
    """Millionths of a unit in a step, by (context, item), laid out flat; 1 where there is no price."""
    found = np.ones(book.rows.size, np.int64)
    for place in np.flatnonzero(book.rows.reshape(-1) >= 0).tolist():
        catalogue = tariffs.catalogues[int(table.catalogue[book.rows.reshape(-1)[place]])]
        found[place] = MICRO_PER_MINOR // catalogue.items[items[place % len(items)]].unit.steps
    return found


class _Tally:
    """Exact sums of lines by part: one for each tax and rounding of the line's price."""

    def __init__(self, table: RowTable, row_of: Ints) -> None:
        groups = np.append(table.groups, 0)[row_of]
        self.table, self.row_of = table, row_of
        self.first = np.cumsum(groups) - groups
        self.line = np.repeat(np.arange(len(row_of)), groups)
        self.sums: Sums = new_sums(int(groups.sum()))
        self.closing_rejects: dict[int, int] = {}

    def add(self, line: Ints, version: Any, amount_micro: Ints, reject: Bytes) -> None:
        group = self.table.group[self.table.first[self.row_of[line]] + np.maximum(version, 0)]
        add_events(self.sums, self.first[line] + group, amount_micro, reject)

    def rounded(self) -> tuple[Ints, Bytes]:
        """(minor units, reject) of every part."""
        group = np.arange(len(self.line)) - self.first[self.line]
        version = self.table.group_version[self.table.group_first[self.row_of[self.line]] + group]
        found = round_sums(self.sums, self.table.rounding[version])
        return found.amount_minor, found.reject


def _rate(
    shard: ShardInput,
    tariffs: Tariffs,
    catalogue_id: int,
    line: Ints,
    mine: Ints,
    quantity: Ints,
    reject: Bytes,
    account_of: Ints,
    tally: _Tally,
    pools: _Pools,
    until_s: int,
) -> None:
    """Rate the events ``mine`` of one catalogue and close their lines, into the tally and ``reject``."""
    table, events = tally.table, shard.events
    used = np.unique(line[mine]) if len(mine) else np.zeros(0, np.int64)
    if not len(used):
        return
    owner, left = account_of[used], pools.of(catalogue_id)
    local = np.full(len(account_of), NONE, np.int64)
    local[used] = np.arange(len(used))
    lines = make_lines(tariffs.prices.compiled(catalogue_id), table.local[tally.row_of[used]], owner)
    accumulators = new_accumulators(lines, None if left is None else left[: int(owner.max()) + 1])
    columns = make_events(
        local[line[mine]],
        events.at_s[mine],
        quantity[mine],
        events.duration_s[mine],
        number_keys(events.destination, mine),
    )
    rated = rate_events(lines, accumulators, columns)
    tally.add(line[mine], rated.version, rated.amount_micro, rated.reject)
    reject[mine] = rated.reject
    _close(tariffs, catalogue_id, lines, accumulators, used, tally, until_s)


def _close(
    tariffs: Tariffs,
    catalogue_id: int,
    lines: Lines,
    accumulators: Accumulators,
    used: Ints,
    tally: _Tally,
    until_s: int,
) -> None:
    closing = np.flatnonzero(tally.table.needs_close[tally.row_of[used]])
    last_s = min(until_s, tariffs.catalogues[catalogue_id].end_s) - 1
    closed = close_lines(lines, accumulators, closing, last_s)
    tally.add(used[closing], closed.version, closed.amount_micro, closed.reject)
    for one, code in zip(used[closing].tolist(), closed.reject.tolist(), strict=True):
        if code not in (core.Reject.OK, core.Reject.NO_PRICE):
            tally.closing_rejects[one] = code


def _gathered(
    tariffs: Tariffs,
    book: _Book,
    items: tuple[str, ...],
    cell: Ints,
    row: Ints,
    reject: Bytes,
    quantity: Ints,
    cell_of: Ints,
    tally: _Tally,
) -> dict[Key, ItemTotal]:
    cells = book.rows.size
    good = np.flatnonzero((row >= 0) & (reject == 0))
    rows, lines = np.bincount(cell[good], minlength=cells), np.bincount(cell_of, minlength=cells)
    quantities, amounts = new_sums(cells), new_sums(cells)
    add_events(quantities, cell[good], quantity[good])
    amount, over = tally.rounded()
    add_events(amounts, cell_of[tally.line], amount, over)
    rejects: dict[int, dict[str, int]] = {}
    for code in np.unique(reject[reject > 0]).tolist():
        _count(rejects, cell[reject == code], reject_reason(code))
    for code, reason in _REASONS.items():
        _count(rejects, cell[row == code], reason)
    _count(rejects, cell_of[tally.line[over > 0]], "out_of_range")
    for line, code in tally.closing_rejects.items():
        _count(rejects, cell_of[[line]], reject_reason(code))
    found: dict[Key, ItemTotal] = {}
    for place in np.union1d(np.flatnonzero(rows), sorted(rejects)).astype(np.int64).tolist():
        one = ItemTotal(
            int(rows[place]),
            _whole(quantities, place),
            _whole(amounts, place),
            int(lines[place]),
            rejects.get(place, {}),
        )
        found.setdefault(_key_of(tariffs, book, items, place), ItemTotal()).add(one)
    return found


def _key_of(tariffs: Tariffs, book: _Book, items: tuple[str, ...], place: int) -> Key:
    context, item = divmod(place, len(items))
    if context < len(tariffs.entitlements):
        catalogue = tariffs.catalogues.get(tariffs.entitlements[context].offer.catalogue_id)
    else:
        having = (one for _, one in sorted(tariffs.catalogues.items()) if items[item] in one.items)
        catalogue = next((one for one in having if not book.plans[context] or book.plans[context] in one.plans), None)
    currency = book.currencies[context] or (catalogue.currency if catalogue else "")
    return Key(catalogue.name if catalogue else "", book.plans[context], items[item], currency)


def _count(rejects: dict[int, dict[str, int]], cells: Ints, reason: str) -> None:
    for place, count in zip(*(one.tolist() for one in np.unique(cells, return_counts=True)), strict=True):
        by_reason = rejects.setdefault(place, {})
        by_reason[reason] = by_reason.get(reason, 0) + count


def _whole(sums: Sums, place: int) -> int:
    """A sum as one integer, however large."""
    return int(sums.whole[place]) * MICRO_PER_MINOR + int(sums.rest[place])
