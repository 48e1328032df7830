"""Rate a usage file under a catalogue, without a database: what ``kopeck rate`` does, by the judge.

Rules. A billing period is a calendar month of the catalogue's zone. An account's orders are the plans its rows name;
rows without a plan are bought at everybody's price. Each period that lies between an account's first and last row is
billed, with every item of its plans, used or not. Pools hold what all orders of the account grant. Events are rated
in the order of time, then of the file. A line is the exact sum of its events and of its close, less promotions, rounded
once and then taxed; where the tax rate or the rounding changes within the period the line falls into parts, and
promotions are shared among them by their sums. Percentage items come last, on the rounded lines they are a part of.

Does not know: orders that begin within a period (no proration here), what was billed before, words.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby

from billing.catalogue import (
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
from billing.catalogue_usage import RejectedRow, Usage
from ratingcore import reference
from ratingcore import tariff as core
from ratingcore.bands import zone_of
from ratingcore.money import Minor, split_minor
from ratingcore.rounding import Rounding, round_micro


@dataclass(frozen=True, slots=True)
class Period:
    """A calendar month: [start_s, end_s)."""

    year: int
    month: int
    start_s: int
    end_s: int

    @property
    def label(self) -> str:
        return f"{self.year:04d}-{self.month:02d}"


@dataclass(frozen=True, slots=True)
class Terms:
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
    period: Period
    lines: tuple[BillLine, ...]
    net: Minor
    tax: Minor
    total: Minor


@dataclass
class _Order:
    """An order of an account in one period while it is rated: its lines, by item."""

    buyer: Buyer
    prices: dict[str, Resolved] = field(default_factory=dict)
    gifts: dict[str, list[Promotion]] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    events: dict[str, list[RatedEvent]] = field(default_factory=dict)


def rate_usage(catalogue: Catalogue, usage: Sequence[Usage], terms: Terms) -> tuple[list[Bill], list[RejectedRow]]:
    """Bills by account and period, and rows that could not be rated."""
    bills: list[Bill] = []
    rejected: list[RejectedRow] = []
    ordered = sorted(usage, key=lambda one: (one.account, one.time_s, one.place.line))
    for account, group in groupby(ordered, key=lambda one: one.account):
        rows = list(group)
        for period in _periods(catalogue, rows):
            month = [one for one in rows if period.start_s <= one.time_s < period.end_s]
            bill = _bill(
                catalogue, account, period, _orders_of(rows), month, _with_start(terms, rows, catalogue), rejected
            )
            bills += [bill] if bill.lines else []
    return bills, rejected


def month_of(time_s: int, zone: str) -> tuple[int, int]:
    """Year and month of an instant in a zone."""
    local = datetime.fromtimestamp(time_s, UTC).astimezone(zone_of(zone))
    return local.year, local.month


def period_of(year: int, month: int, zone: str) -> Period:
    """A calendar month in a zone."""
    following = (year + month // 12, month % 12 + 1)
    start, end = (int(datetime(*one, 1, tzinfo=zone_of(zone)).timestamp()) for one in ((year, month), following))
    return Period(year, month, start, end)


def _periods(catalogue: Catalogue, rows: Sequence[Usage]) -> Iterator[Period]:
    year, month = month_of(rows[0].time_s, catalogue.zone)
    last = month_of(rows[-1].time_s, catalogue.zone)
    while (year, month) <= last:
        yield period_of(year, month, catalogue.zone)
        year, month = year + month // 12, month % 12 + 1


def _with_start(terms: Terms, rows: Sequence[Usage], catalogue: Catalogue) -> Terms:
    first = terms.first_month or month_of(rows[0].time_s, catalogue.zone)
    return Terms(terms.currency, terms.codes, first)


def _orders_of(rows: Iterable[Usage]) -> list[tuple[str, str]]:
    return list(dict.fromkeys((one.plan, one.group) for one in rows))


def _bill(
    catalogue: Catalogue,
    account: str,
    period: Period,
    plans: list[tuple[str, str]],
    rows: Sequence[Usage],
    terms: Terms,
    rejected: list[RejectedRow],
) -> Bill:
    orders = {one: _open_order(catalogue, account, period, one, rows, terms) for one in plans}
    prices: list[core.Price] = []
    for order in orders.values():
        for item, resolved in order.prices.items():
            order.rows[item] = len(prices)
            prices.append(resolved.price)
    lines: list[BillLine] = []
    if prices:
        tables = core.Catalogue(tuple(prices), catalogue.start_s, catalogue.end_s, tuple(catalogue.pools))
        priced = [reference.Line(0, number) for number in range(len(prices))]
        state = _rate_rows(tables, priced, _pools_at_start(catalogue, plans), orders, rows, rejected)
        for order in orders.values():
            lines += _close_order(catalogue, order, tables, priced, state, period)
    else:
        rejected += [RejectedRow(one.place, f"item {one.item} has no price for this buyer") for one in rows]
    net, tax = (sum(getattr(part, name) for line in lines for part in line.parts) for name in ("net", "tax_amount"))
    return Bill(account, period, tuple(lines), Minor(net), Minor(tax), Minor(net + tax))


def _open_order(
    catalogue: Catalogue,
    account: str,
    period: Period,
    which: tuple[str, str],
    rows: Sequence[Usage],
    terms: Terms,
) -> _Order:
    plan, group = which
    order = _Order(Buyer(terms.currency, plan, group, account))
    first = terms.first_month or (period.year, period.month)
    number = (period.year - first[0]) * 12 + period.month - first[1] + 1
    used = [one.item for one in rows if (one.plan, one.group) == which]
    for item in percentage_order(catalogue, [*(plan_items(catalogue, plan) if plan else ()), *used]):
        acting = promotions_for(catalogue, item, order.buyer, terms.codes, period.start_s, number)
        resolved = resolve_price(catalogue, item, order.buyer, [one for one in acting if one.free_units])
        if resolved is not None:
            order.prices[item], order.gifts[item], order.events[item] = resolved, acting, []
    return order


def _pools_at_start(catalogue: Catalogue, plans: Iterable[tuple[str, str]]) -> reference.State:
    left: dict[tuple[int, str], int] = {}
    for plan, _ in plans:
        for pool, quantity in (plan_grants(catalogue, plan) if plan else {}).items():
            left[0, pool] = left.get((0, pool), 0) + quantity
    return reference.State({}, left)


def _rate_rows(
    tables: core.Catalogue,
    priced: list[reference.Line],
    state: reference.State,
    orders: dict[tuple[str, str], _Order],
    rows: Sequence[Usage],
    rejected: list[RejectedRow],
) -> reference.State:
    for one in rows:
        order = orders[one.plan, one.group]
        if one.item not in order.rows:
            rejected.append(RejectedRow(one.place, f"item {one.item} has no price for this buyer"))
            continue
        event = reference.Event(order.rows[one.item], one.time_s, one.quantity, one.duration_s, one.destination)
        rated, state = reference.rate_event(tables, priced, state, event)
        if rated.reject:
            rejected.append(RejectedRow(one.place, _reason(rated.reject, one)))
            continue
        order.events[one.item].append(RatedEvent(one, event, rated))
    return state


def _reason(reject: core.Reject, usage: Usage) -> str:
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
    order: _Order,
    tables: core.Catalogue,
    priced: list[reference.Line],
    state: reference.State,
    period: Period,
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
        if events:
            done[item] = _line(order.buyer.plan, item, resolved, events, order.gifts[item])
            yield done[item]


def _line(plan: str, item: str, resolved: Resolved, events: list[RatedEvent], promotions: list[Promotion]) -> BillLine:
    sums: dict[tuple[core.Tax, Rounding], int] = {}
    for one in events:
        if one.rated.version >= 0:
            tariff = resolved.price.versions[one.rated.version][1]
            key = (tariff.tax, tariff.rounding)
            sums[key] = sums.get(key, 0) + one.rated.amount_micro
    total = sum(sums.values())
    discounts = discounts_of(promotions, total)
    off = discounts[0].before_micro - discounts[-1].after_micro if discounts else 0
    shares = split_minor(off, [max(0, value) for value in sums.values()]) if off else [Minor(0)] * len(sums)
    parts = tuple(part_of(*key, value, value - share) for (key, value), share in zip(sums.items(), shares, strict=True))
    used = sum(one.event.quantity for one in events if not one.closing)
    amount, gross = (Minor(sum(getattr(part, name) for part in parts)) for name in ("amount", "gross"))
    return BillLine(plan, item, resolved, tuple(events), used, total, tuple(discounts), parts, amount, gross)


def part_of(tax: core.Tax, rounding: Rounding, sum_micro: int, discounted_micro: int) -> TaxPart:
    """What is left of a sum after promotions, rounded once and taxed."""
    amount = round_micro(discounted_micro, rounding)
    return TaxPart(tax, rounding, sum_micro, discounted_micro, amount, *reference.tax_of(amount, tax))
