"""Rate a usage file under a catalogue, without a database: what ``kopeck rate`` does, by the judge.

``billing.rating.bulk`` rates the rows of long files by the kernel, and takes all else from here.

Rules. A billing period is a calendar month of the catalogue's zone. An account's orders are the plans its rows name;
rows without a plan are bought at everybody's price. Each period that lies between an account's first and last row is
billed, with every item of its plans, used or not. Pools hold what all orders of the account grant. Events are rated
in the order of time, then of the file. A line is the exact sum of its events and of its close, less promotions, rounded
once and then taxed; where the tax rate or the rounding changes within the period the line falls into parts, and
promotions are shared among them by their sums. Percentage items come last, on the rounded lines they are a part of.

Does not know: orders that begin within a period (no proration here), what was billed before, words.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby

from billing.catalogue.model import (
    Buyer,
    Catalogue,
    Discount,
    Promotion,
    Resolved,
    discounts_of,
    percentage_order,
    plan_grants,
    plan_items,
    promotions_for,
    resolve_price,
)
from billing.rating.rated_file import RejectedRow, Usage
from ratingcore import reference
from ratingcore import tariff as core
from ratingcore.bands import zone_of
from ratingcore.money import Minor, split_minor
from ratingcore.rounding import Rounding, round_micro


@dataclass(frozen=True, slots=True)
class BillMonth:
    """A calendar month: [start_s, end_s)."""

    year: int
    month: int
    start_s: int
    end_s: int

    @property
    def label(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"


@dataclass(frozen=True, slots=True)
class BillTerms:
    """How to rate. codes: promotion codes given; first_month: (year, month) in which orders began.

    Without first_month an account's orders began in the month of its first row.
    """

    currency: str
    codes: tuple[str, ...] = ()
    first_month: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class RatedEvent:
    """A row and its price. usage is None at the close of the period and for a percentage."""

    usage: Usage | None
    event: reference.Event
    rated: reference.Rated
    closing: bool = False


@dataclass(frozen=True, slots=True)
class TaxPart:
    """What of a line is rounded and taxed together."""

    tax: core.Tax
    rounding: Rounding
    sum_micro: int
    discounted_micro: int
    amount: Minor
    net: Minor
    tax_amount: Minor
    gross: Minor


@dataclass(frozen=True, slots=True)
class BillLine:
    """An item of an order over a period. used: its quantity in steps. base: what a percentage is taken of, or None."""

    plan: str
    item: str
    resolved: Resolved
    events: tuple[RatedEvent, ...]
    used: int
    sum_micro: int
    discounts: tuple[Discount, ...]
    parts: tuple[TaxPart, ...]
    amount: Minor
    gross: Minor


@dataclass(frozen=True, slots=True)
class Bill:
    """What an account owes for a period. total: tax included."""

    account: str
    period: BillMonth
    lines: tuple[BillLine, ...]
    net: Minor
    tax: Minor
    total: Minor


@dataclass
class RatedOrder:
    """An order of an account in one period while it is rated: its lines, by item.

    events: rows rated one by one; bulk: what rows rated in bulk came to, in their place.
    """

    buyer: Buyer
    prices: dict[str, Resolved] = field(default_factory=dict)
    gifts: dict[str, list[Promotion]] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    events: dict[str, list[RatedEvent]] = field(default_factory=dict)
    bulk: dict[str, "Bulk"] = field(default_factory=dict)


@dataclass
class Bulk:
    """Rows of a line rated in bulk. sums_micro: exact, by version of its price, in order of time."""

    used: int = 0
    sums_micro: dict[int, int] = field(default_factory=dict)


@dataclass
class MonthlyUsage:
    """A bill before its rows are rated."""

    account: str
    period: BillMonth
    orders: dict[tuple[str, str], RatedOrder]
    rows: Sequence[Usage]
    prices: tuple[core.Price, ...]


Resolve = Callable[[Catalogue, str, Buyer, Sequence[Promotion]], Resolved | None]


def rate_usage(catalogue: Catalogue, usage: Sequence[Usage], terms: BillTerms) -> tuple[list[Bill], list[RejectedRow]]:
    """Bills by account and period, and rows that could not be rated."""
    bills: list[Bill] = []
    rejected: list[RejectedRow] = []
    for month in months_of(catalogue, usage, terms, resolve_price):
        bill = _bill_of(catalogue, month, rejected)
        bills += [bill] if bill.lines else []
    return bills, rejected


def rate_plan(catalogue: Catalogue, plan: str, group: str, terms: BillTerms, month: tuple[int, int]) -> Bill:
    """What a plan costs in a (year, month) in which nothing is used; the account of the bill is ``-``."""
    period = period_of(*month, catalogue.zone)
    begun = BillTerms(terms.currency, terms.codes, terms.first_month or month)
    orders = {(plan, group): _open_order(catalogue, "-", period, (plan, group), [], begun, resolve_price)}
    return _bill_of(catalogue, MonthlyUsage("-", period, orders, [], _numbered(orders)), [])


def _bill_of(catalogue: Catalogue, month: MonthlyUsage, rejected: list[RejectedRow]) -> Bill:
    """The bill of a month; rows that could not be rated are added to ``rejected``."""
    tables, pools = tables_of(catalogue, month), pools_at_start(catalogue, month)
    state = reference.State({}, pools)
    if tables:
        state = _rate_rows(tables, state, month, rejected)
    else:
        rejected += [without_price(one) for one in month.rows]
    return close_month(catalogue, month, tables, state)


def months_of(
    catalogue: Catalogue, usage: Sequence[Usage], terms: BillTerms, resolve: Resolve
) -> Iterator[MonthlyUsage]:
    """Every account's periods in order, with orders and rows; ``resolve`` finds prices as ``resolve_price`` does."""
    ordered = sorted(usage, key=lambda one: (one.account, one.time_s, one.place.line))
    for account, group in groupby(ordered, key=lambda one: one.account):
        rows = list(group)
        begun = _with_start(terms, rows, catalogue)
        for period in _periods(catalogue, rows):
            month = [one for one in rows if period.start_s <= one.time_s < period.end_s]
            plans = _orders_of(rows)
            orders = {one: _open_order(catalogue, account, period, one, month, begun, resolve) for one in plans}
            yield MonthlyUsage(account, period, orders, month, _numbered(orders))


def month_of(time_s: int, zone: str) -> tuple[int, int]:
    """Year and month of an instant in a zone."""
    local = datetime.fromtimestamp(time_s, UTC).astimezone(zone_of(zone))
    return local.year, local.month


def period_of(year: int, month: int, zone: str) -> BillMonth:
    """A calendar month in a zone."""
    following = (year + month // 12, month % 12 + 1)
    start, end = (int(datetime(*one, 1, tzinfo=zone_of(zone)).timestamp()) for one in ((year, month), following))
    return BillMonth(year, month, start, end)


def _periods(catalogue: Catalogue, rows: Sequence[Usage]) -> Iterator[BillMonth]:
    year, month = month_of(rows[0].time_s, catalogue.zone)
    last = month_of(rows[-1].time_s, catalogue.zone)
    while (year, month) <= last:
        yield period_of(year, month, catalogue.zone)
        year, month = year + month // 12, month % 12 + 1


def _with_start(terms: BillTerms, rows: Sequence[Usage], catalogue: Catalogue) -> BillTerms:
    first = terms.first_month or month_of(rows[0].time_s, catalogue.zone)
    return BillTerms(terms.currency, terms.codes, first)


def _orders_of(rows: Iterable[Usage]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((one.plan, one.group) for one in rows))


def _numbered(orders: dict[tuple[str, str], RatedOrder]) -> tuple[core.Price, ...]:
    """The prices of all lines of a bill, which are numbered on the way."""
    prices: list[core.Price] = []
    for order in orders.values():
        for item, resolved in order.prices.items():
            order.rows[item] = len(prices)
            prices.append(resolved.price)
    return tuple(prices)


def tables_of(catalogue: Catalogue, month: MonthlyUsage) -> core.Catalogue | None:
    """What the judge rates a month under; None where its buyer has no prices."""
    if not month.prices:
        return None
    return core.Catalogue(month.prices, catalogue.start_s, catalogue.end_s, tuple(catalogue.pools))


def close_month(
    catalogue: Catalogue, month: MonthlyUsage, tables: core.Catalogue | None, state: reference.State
) -> Bill:
    """The bill of a month whose rows are rated; ``state`` is what they left."""
    lines: list[BillLine] = []
    for order in month.orders.values() if tables else ():
        assert tables is not None
        lines += _close_order(catalogue, order, tables, _judged(month), state, month.period)
    net, tax = (sum(getattr(part, name) for line in lines for part in line.parts) for name in ("net", "tax_amount"))
    return Bill(month.account, month.period, tuple(lines), Minor(net), Minor(tax), Minor(net + tax))


def _judged(month: MonthlyUsage) -> list[reference.Line]:
    return [reference.Line(0, number) for number in range(len(month.prices))]


def _open_order(
    catalogue: Catalogue,
    account: str,
    period: BillMonth,
    which: tuple[str, str],
    rows: Sequence[Usage],
    terms: BillTerms,
    resolve: Resolve,
) -> RatedOrder:
    plan, group = which
    order = RatedOrder(Buyer(terms.currency, plan, group, account))
    first = terms.first_month or (period.year, period.month)
    number = (period.year - first[0]) * 12 + period.month - first[1] + 1
    used = [one.item for one in rows if (one.plan, one.group) == which]
    for item in percentage_order(catalogue, [*(plan_items(catalogue, plan) if plan else ()), *used]):
        acting = promotions_for(catalogue, item, order.buyer, terms.codes, period.start_s, number)
        resolved = resolve(catalogue, item, order.buyer, [one for one in acting if one.free_units])
        if resolved is not None:
            order.prices[item], order.gifts[item], order.events[item] = resolved, acting, []
    return order


def pools_at_start(catalogue: Catalogue, month: MonthlyUsage) -> dict[tuple[int, str], int]:
    """What all orders of the account grant, as the judge has it."""
    left: dict[tuple[int, str], int] = {}
    for plan, _ in month.orders:
        for pool, quantity in (plan_grants(catalogue, plan) if plan else {}).items():
            left[0, pool] = left.get((0, pool), 0) + quantity
    return left


def _rate_rows(
    tables: core.Catalogue, state: reference.State, month: MonthlyUsage, rejected: list[RejectedRow]
) -> reference.State:
    priced = _judged(month)
    for one in month.rows:
        order = month.orders[one.plan, one.group]
        if one.item not in order.rows:
            rejected.append(without_price(one))
            continue
        event = reference.Event(order.rows[one.item], one.time_s, one.quantity, one.duration_s, one.destination)
        rated, state = reference.rate_event(tables, priced, state, event)
        if rated.reject:
            rejected.append(RejectedRow(one.place, reason_of(rated.reject, one)))
            continue
        order.events[one.item].append(RatedEvent(one, event, rated))
    return state


def without_price(usage: Usage) -> RejectedRow:
    """A row for which there is no line."""
    return RejectedRow(usage.place, f"item {usage.item} has no price for this buyer")


def reason_of(reject: core.Reject, usage: Usage) -> str:
    """Why a row was not rated, in words."""
    match reject:
        case core.Reject.NO_PRICE:
            return f"item {usage.item} has no price yet at that time"
        case core.Reject.NO_RATE:
            return f"the rate card of item {usage.item} has no rate for destination {usage.destination or '(none)'}"
        case core.Reject.OUT_OF_RANGE:
            return "the amount is out of range"
        case _:
            return reject.name.lower().replace("_", " ")


def _close_order(
    catalogue: Catalogue,
    order: RatedOrder,
    tables: core.Catalogue,
    priced: list[reference.Line],
    state: reference.State,
    period: BillMonth,
) -> Iterator[BillLine]:
    """Lines of an order, closed: percentages after what they are taken of (the order of ``prices``)."""
    close_s = min(period.end_s, catalogue.end_s) - 1
    done: dict[str, BillLine] = {}
    for item, resolved in order.prices.items():
        row, events = order.rows[item], order.events[item]
        parts_of = catalogue.items[item].percentage_of
        if parts_of:
            base = sum(done[one].amount for one in parts_of if one in done)
            event = reference.Event(row, close_s, max(0, base))
            rated, state = reference.rate_event(tables, priced, state, event)
            events.append(RatedEvent(None, event, rated))
        closed, state = reference.close_line(tables, priced, state, row, close_s)
        if not closed.reject and any(part.entries for part in closed.parts):
            events.append(RatedEvent(None, reference.Event(row, close_s, 0), closed, closing=True))
        if events or item in order.bulk:
            bulk = order.bulk.get(item, Bulk())
            done[item] = _line(order.buyer.plan, item, resolved, events, bulk, order.gifts[item])
            yield done[item]


def _line(
    plan: str, item: str, resolved: Resolved, events: list[RatedEvent], bulk: Bulk, promotions: list[Promotion]
) -> BillLine:
    sums: dict[tuple[core.Tax, Rounding], int] = {}
    rated = [(one.rated.version, one.rated.amount_micro) for one in events]
    for version, amount_micro in (*bulk.sums_micro.items(), *rated):
        if version >= 0:
            tariff = resolved.price.versions[version][1]
            key = (tariff.tax, tariff.rounding)
            sums[key] = sums.get(key, 0) + amount_micro
    total = sum(sums.values())
    discounts = discounts_of(promotions, total)
    off = discounts[0].before_micro - discounts[-1].after_micro if discounts else 0
    shares = split_minor(off, [max(0, value) for value in sums.values()]) if off else [Minor(0)] * len(sums)
    parts = tuple(part_of(*key, value, value - share) for (key, value), share in zip(sums.items(), shares, strict=True))
    used = bulk.used + sum(one.event.quantity for one in events if not one.closing)
    amount, gross = (Minor(sum(getattr(part, name) for part in parts)) for name in ("amount", "gross"))
    return BillLine(plan, item, resolved, tuple(events), used, total, tuple(discounts), parts, amount, gross)


def part_of(tax: core.Tax, rounding: Rounding, sum_micro: int, discounted_micro: int) -> TaxPart:
    """What is left of a sum after promotions, rounded once and taxed."""
    amount = round_micro(discounted_micro, rounding)
    return TaxPart(tax, rounding, sum_micro, discounted_micro, amount, *reference.tax_of(amount, tax))
