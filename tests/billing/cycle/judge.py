"""The judge of the billing cycle: what a run must bill, slowly and obviously, in plain Python.

Written from the rules of docs/billing.md alone, one order, one period and one event after the other, in integers. It
shares with the program the records of the catalogue, the reference rating and rounding; it has a calendar of its own,
and remembers by itself what it has billed.

Does not know: storage, numbers of invoices, transfers.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from billing.catalogue.model import (
    Buyer,
    Catalogue,
    Promotion,
    Resolved,
    discounts_of,
    percentage_order,
    plan_grants,
    plan_items,
    promotions_for,
    resolve_price,
    tax_ppm_at,
)
from ratingcore import reference
from ratingcore import tariff as core
from ratingcore.money import split_minor
from ratingcore.rounding import MICRO_PER_MINOR, Rounding, divide, round_micro

NEVER = 2**62
PARTS = ("advance", "arrears", "once", "adjustment", "late")
MONTHS = {"month": 1, "quarter": 3, "year": 12}


# ---- what it is told


@dataclass(frozen=True)
class Order:
    """An order as it stands at the run. ends, pauses' ends: NEVER while open. price: of a person, or None."""

    id: int
    account: int
    payer: int
    plan: str
    item: str
    currency: str
    kind: str
    unit: str
    count: int
    anchor_day: int
    anchor_month: int
    zone: str
    in_advance: bool
    proration: str
    phase: int
    quantity: int
    starts: int
    ends: int
    trial_until: int
    minimum: int
    price: int | None
    codes: tuple[str, ...]
    group: str
    customer: str
    pauses: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Usage:
    id: int
    account: int
    item: str
    at: int
    counts_at: int
    quantity_micro: int
    duration_s: int
    destination: str


@dataclass(frozen=True)
class Manual:
    id: int
    payer: int
    amount: int
    tax_ppm: int
    inside: bool
    bill_on: date
    zone: str


@dataclass(frozen=True)
class Payer:
    account: int
    currency: str
    balance: int
    floor: int | None


@dataclass(frozen=True)
class World:
    """Everything a run may look at. orders: of all times, by account and id; usage: by account and (at, id).

    credited: what credit notes took off lines, by ``about`` of them.
    """

    payers: Mapping[int, Payer]
    orders: Mapping[int, Sequence[Order]]
    usage: Mapping[int, Sequence[Usage]]
    manual: Sequence[Manual]
    credited: Mapping["About", int] = field(default_factory=dict)


# ---- what it says


class Line(NamedTuple):
    """A line of an invoice. start, end: 0 where the rules do not say."""

    order: int
    kind: str
    item: str
    start: int
    end: int
    quantity: int
    discount: int
    amount: int
    tax_ppm: int
    inside: bool
    net: int
    tax: int


About = tuple[int, str, str, int, int, bool]


def about(line: Line) -> About:
    """What a line and the late lines of the same period have in common."""
    return line.order, line.kind, line.item, line.start, line.tax_ppm, line.inside


class Record(NamedTuple):
    """A row of order_periods."""

    order: int
    part: str
    start: int
    end: int
    outcome: str
    num: int
    den: int
    amount: int


@dataclass
class Book:
    """What is billed so far: records by (order, part, period's start), lines of advance records, manual lines.

    in_arrears: what lines of arrears and late parts came to. seen: by (order, period's start), usage that counts before
    it is billed.
    """

    records: dict[tuple[int, str, int], Record] = field(default_factory=dict)
    advance_lines: dict[tuple[int, int], list[Line]] = field(default_factory=dict)
    in_arrears: Counter[About] = field(default_factory=Counter)
    manual: set[int] = field(default_factory=set)
    seen: dict[tuple[int, int], int] = field(default_factory=dict)


@dataclass
class Bill:
    """What a run makes: lines by payer, records, (payer, order, period's start, part) of what failed.

    advance_lines: those of advance records, by (order, period's start). manual: manual lines that were billed. until:
    usage that counts before it was seen. in_arrears: lines of arrears and late parts.
    """

    invoices: dict[int, list[Line]] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    advance_lines: dict[tuple[int, int], list[Line]] = field(default_factory=dict)
    manual: set[int] = field(default_factory=set)
    failures: set[tuple[int, int, int, str]] = field(default_factory=set)
    until: int = 0
    in_arrears: list[Line] = field(default_factory=list)


class _FailedError(Exception):
    """Parts that cannot be billed: those named, or the one that is being billed."""

    def __init__(self, why: str, parts: "Sequence[Part]" = ()) -> None:
        super().__init__(why)
        self.parts = parts


# ---- calendar


@cache
def midnight(day: date, zone: str) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).timestamp())


@cache
def tiling(unit: str, count: int, anchor_day: int, anchor_month: int, zone: str, phase: int) -> tuple[int, ...]:
    """Starts of periods from 2020 to 2030; phase: in days, weeks or months."""
    days = [date(2020, 1, 1) + timedelta(days=number) for number in range(3653)]
    if unit in MONTHS:
        length = MONTHS[unit] * count
        anchor = anchor_month + phase
        months = [day for day in days if day.day == 1 and (day.year * 12 + day.month - anchor) % length == 0]
        lasts = [((first + timedelta(days=31)).replace(day=1) - timedelta(days=1)).day for first in months]
        starts = [first.replace(day=min(anchor_day, last)) for first, last in zip(months, lasts, strict=True)]
    else:
        days_each = 7 if unit == "week" else 1
        origin = date(1970, 1, 5) + timedelta(days=anchor_day - 1 + phase * days_each)
        length = count * days_each
        starts = [day for day in days if (day - origin).days % length == 0]
    return tuple(midnight(day, zone) for day in starts)


def periods_of(order: Order) -> Iterator[tuple[int, int]]:
    """Periods of an order, the one that contains its start first."""
    starts = tiling(order.unit, order.count, order.anchor_day, order.anchor_month, order.zone, order.phase)
    return pairwise(starts[bisect_right(starts, order.starts) - 1 :])


def days_in(start: int, end: int, zone: str) -> int:
    """Local days that begin within."""
    day = datetime.fromtimestamp(start, UTC).astimezone(ZoneInfo(zone)).date()
    count = 0
    while midnight(day, zone) < end:
        count += midnight(day, zone) >= start
        day += timedelta(days=1)
    return count


def share_of(order: Order, start: int, end: int) -> tuple[int, int]:
    """What of a period is charged."""
    active = [(max(start, order.starts, order.trial_until), min(end, order.ends))]
    for since, until in order.pauses:
        active = [cut for one in active for cut in ((one[0], min(one[1], since)), (max(one[0], until), one[1]))]
    active = [(since, until) for since, until in active if since < until]
    match order.proration:
        case "second":
            return sum(until - since for since, until in active), end - start
        case "day":
            return sum(days_in(*one, order.zone) for one in active), days_in(start, end, order.zone)
        case _:
            return (1 if active else 0), 1


# ---- prices


@dataclass(frozen=True)
class Draft:
    """A line before its tax. place: of its item, and of its tax part."""

    kind: str
    item: str
    place: tuple[int, int]
    start: int
    end: int
    quantity: int
    discount: int
    amount: int
    tax: core.Tax


@dataclass
class Part:
    """A part of a period that is due: [start, end) and what of it the order lives (since, until)."""

    order: Order
    part: str
    start: int
    end: int
    number: int
    drafts: list[Draft] = field(default_factory=list)

    @property
    def since(self) -> int:
        return max(self.start, self.order.starts)

    @property
    def until(self) -> int:
        return min(self.end, self.order.ends)

    @property
    def total(self) -> int:
        return sum(draft.amount for draft in self.drafts)


class Prices:
    """A catalogue as orders see it."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._known: dict[tuple[object, ...], Resolved | None] = {}
        self._items: dict[tuple[str, str], list[str]] = {}
        self._recurring: dict[tuple[object, ...], bool] = {}

    def buyer(self, order: Order) -> Buyer:
        return Buyer(order.currency, order.plan, order.group, order.customer)

    def items(self, order: Order) -> list[str]:
        key = (order.plan, order.item)
        if key not in self._items:
            wanted = plan_items(self.catalogue, order.plan) if order.plan else (order.item,)
            self._items[key] = percentage_order(self.catalogue, wanted)
        return self._items[key]

    def price(self, order: Order, item: str, gifts: Sequence[Promotion] = ()) -> Resolved | None:
        key = (item, self.buyer(order), tuple(gift.number for gift in gifts))
        if key not in self._known:
            self._known[key] = resolve_price(self.catalogue, item, self.buyer(order), gifts)
        return self._known[key]

    def needed(self, order: Order, item: str, gifts: Sequence[Promotion] = ()) -> Resolved:
        found = self.price(order, item, gifts)
        if found is None:
            raise _FailedError(f"{item} has no price")
        return found

    def promotions(self, part: Part, item: str) -> list[Promotion]:
        order = part.order
        return promotions_for(self.catalogue, item, self.buyer(order), order.codes, part.since, part.number)

    def is_recurring(self, order: Order, item: str) -> bool:
        key = (self.buyer(order), order.item, order.price is None, item)
        if key not in self._recurring:
            self._recurring[key] = self._find_recurring(order, item)
        return self._recurring[key]

    def _find_recurring(self, order: Order, item: str) -> bool:
        among = self.items(order)
        bases = [base for base in self.catalogue.items[item].percentage_of if base in among]
        if self.catalogue.items[item].percentage_of:
            return all(self.is_recurring(order, base) for base in bases)
        if order.price is not None:
            return True
        found = self.price(order, item)
        return found is not None and all(
            _reads_no_quantity(step) for _, tariff in found.price.versions for step in tariff.steps
        )

    def is_percentage(self, item: str) -> bool:
        return bool(self.catalogue.items[item].percentage_of)

    def metered(self, order: Order) -> list[str]:
        return [item for item in self.items(order) if not self.is_recurring(order, item)]

    def table(self, prices: Iterable[core.Price]) -> core.Catalogue:
        own = self.catalogue
        return core.Catalogue(tuple(prices), own.start_s, own.end_s, tuple(own.pools))


def _reads_no_quantity(step: core.Step) -> bool:
    match step:
        case core.Flat():
            return step.scope == core.Scope.PERIOD
        case core.Multiplier() | core.Cap() | core.MinimumCommitment():
            return True
        case _:
            return False


def flat_micro(prices: Prices, order: Order, item: str, at: int) -> tuple[int, core.Tax, Rounding]:
    """What a recurring item costs a whole period, and how it is taxed and rounded."""
    found = prices.price(order, item)
    if found is None and order.price is not None:
        tax = prices.catalogue.taxes.get(prices.catalogue.items[item].tax)
        return order.price * MICRO_PER_MINOR, core.Tax(tax_ppm_at(tax, at) or 0, True), Rounding.HALF_AWAY
    rated, tariff = _closed(prices, prices.needed(order, item), at)
    micro = rated if order.price is None else order.price * MICRO_PER_MINOR
    return micro, tariff.tax, tariff.rounding


def _closed(prices: Prices, found: Resolved, at: int) -> tuple[int, core.Tariff]:
    table = prices.table([found.price])
    rated, _ = reference.close_line(table, [reference.Line(0, 0)], reference.State(), 0, at)
    if rated.reject:
        raise _FailedError(rated.reject.name)
    return rated.amount_micro, found.price.versions[rated.version][1]


# ---- which parts are due


def due_parts(prices: Prices, order: Order, bill_on: date, book: Book) -> Iterator[Part]:
    """Parts that are due and not recorded, oldest first, advance before arrears."""
    bound = midnight(bill_on, order.zone)
    if order.kind == "one_time":
        if order.starts <= bound and order.starts < order.ends and (order.id, "once", order.starts) not in book.records:
            yield Part(order, "once", order.starts, order.starts, 1)
        return
    has_arrears = not order.in_advance or order.minimum > 0 or bool(prices.metered(order))
    for number, (start, end) in enumerate(periods_of(order), 1):
        advance, arrears = (Part(order, name, start, end, number) for name in ("advance", "arrears"))
        if advance.since > bound or advance.since >= order.ends:
            return
        if order.in_advance and (order.id, "advance", start) not in book.records and not _waits(advance, bound):
            yield advance
        if has_arrears and arrears.until <= bound and (order.id, "arrears", start) not in book.records:
            yield arrears


def _waits(part: Part, bound: int) -> bool:
    """Whether only pauses keep a part that is not over from being charged: they may end yet."""
    order, is_over = part.order, part.until <= bound
    paused = not share_of(order, part.start, part.end)[0]
    return paused and not is_over and bool(share_of(replace(order, pauses=()), part.start, part.end)[0])


# ---- lines


def recurring(prices: Prices, part: Part) -> None:
    """Charges of a period by its share."""
    order = part.order
    num, den = share_of(order, part.start, part.end)
    for place, item in enumerate(prices.items(order)):
        if num == 0 or prices.is_percentage(item) or not prices.is_recurring(order, item):
            continue
        micro, tax, rounding = flat_micro(prices, order, item, part.since)
        share = divide(micro * order.quantity * num, den)
        part.drafts.append(_flat_line(prices, part, "recurring", (place, item), share, tax, rounding))


def once(prices: Prices, part: Part) -> None:
    """A one-time order."""
    order, item = part.order, part.order.item
    if prices.is_recurring(order, item):
        micro, tax, rounding = flat_micro(prices, order, item, order.starts)
        part.drafts.append(_flat_line(prices, part, "one_time", (0, item), micro * order.quantity, tax, rounding))
        return
    quantity = order.quantity * prices.catalogue.items[item].unit.steps
    gifts = [one for one in prices.promotions(part, item) if one.free_units]
    found = prices.needed(order, item, gifts)
    event = reference.Event(0, order.starts, quantity)
    part.drafts += rate_alone(prices, part, "one_time", (0, item), found, event)


def _flat_line(
    prices: Prices, part: Part, kind: str, what: tuple[int, str], micro: int, tax: core.Tax, rounding: Rounding
) -> Draft:
    place, item = what
    off = _off(prices.promotions(part, item), micro)
    amount = round_micro(micro - off, rounding)
    taken = divide(off, MICRO_PER_MINOR)
    return Draft(kind, item, (place, 0), part.since, part.until, part.order.quantity, taken, amount, tax)


def _off(promotions: Sequence[Promotion], micro: int) -> int:
    found = discounts_of(promotions, micro)
    return found[0].before_micro - found[-1].after_micro if found else 0


Rated = tuple[int, reference.Rated]  # quantity, what it costs


def metered_lines(
    prices: Prices, part: Part, kind: str, what: tuple[int, str], found: Resolved, rated: Sequence[Rated]
) -> list[Draft]:
    """What events and the close of a line add up to, by tax and rounding."""
    place, item = what
    sums: dict[tuple[core.Tax, Rounding], list[int]] = {}
    for quantity, one in rated:
        tariff = found.price.versions[one.version][1]
        known = sums.setdefault((tariff.tax, tariff.rounding), [0, 0])
        known[0] += one.amount_micro
        known[1] += quantity
    total = sum(micro for micro, _ in sums.values())
    off = _off(prices.promotions(part, item), total)
    weights = [max(0, micro) for micro, _ in sums.values()]
    shares = split_minor(off, weights) if off else [0] * len(weights)
    return [
        Draft(
            kind,
            item,
            (place, number),
            part.since,
            part.until,
            quantity,
            divide(share, MICRO_PER_MINOR),
            round_micro(micro - share, rounding),
            tax,
        )
        for number, (((tax, rounding), (micro, quantity)), share) in enumerate(zip(sums.items(), shares, strict=True))
    ]


def rate_alone(
    prices: Prices, part: Part, kind: str, what: tuple[int, str], found: Resolved, event: reference.Event
) -> list[Draft]:
    """A line of one event that nothing else shares anything with, closed when it happens."""
    table, lines = prices.table([found.price]), [reference.Line(0, 0)]
    rated, state = reference.rate_event(table, lines, reference.State(), event)
    closed, _ = reference.close_line(table, lines, state, 0, event.time_s)
    if rated.reject or closed.reject:
        raise _FailedError("rejected")
    made = [(event.quantity, rated), *([(0, closed)] if closed.amount_micro else [])]
    return metered_lines(prices, part, kind, what, found, made)


def percentages(prices: Prices, part: Part) -> None:
    """Parts of the lines before them."""
    order = part.order
    num, _ = share_of(order, part.start, part.end)
    for place, item in enumerate(prices.items(order)):
        if not prices.is_percentage(item):
            continue
        is_recurring = prices.is_recurring(order, item)
        if (part.part == "advance" and not is_recurring) or (
            order.in_advance and part.part == "arrears" and is_recurring
        ):
            continue
        if is_recurring and num == 0:
            continue
        bases = prices.catalogue.items[item].percentage_of
        base = max(0, sum(draft.amount for draft in part.drafts if draft.item in bases))
        gifts = [one for one in prices.promotions(part, item) if one.free_units]
        found = prices.needed(order, item, gifts)
        at = part.since if part.part == "advance" else part.until - 1
        drafts = rate_alone(prices, part, "percentage", (place, item), found, reference.Event(0, at, base))
        if is_recurring or base or any(draft.amount for draft in drafts):
            part.drafts += drafts


class Row(NamedTuple):
    """A line of usage to be: an item of an order's part at its price."""

    part: Part
    place: int
    item: str
    price: Resolved


def usage_lines(prices: Prices, parts: Sequence[Part], world: World, until: int) -> None:
    """What orders of one account used in one period, as far as it is known by ``until``.

    They share pools with all orders of the account that have this period: these are rated beside them, and not billed.
    """
    if not any(True for part in parts for _ in rows_of(prices, part)):
        return
    every = [*parts, *beside(prices, parts, world)]
    rows = [row for part in every for row in rows_of(prices, part)]
    table = prices.table(row.price.price for row in rows)
    lines = [reference.Line(0, number) for number in range(len(rows))]
    state, drawn = reference.State(), dict.fromkeys(prices.catalogue.pools, 0)
    rated: list[list[Rated]] = [[] for _ in rows]
    failed: list[Part] = []
    for number, usage in used_in(prices, rows, world, until):
        granted = granted_at(prices, every, usage.at)
        left = {pool: max(0, granted.get(pool, 0) - drawn[pool]) for pool in drawn}
        steps, rest = divmod(usage.quantity_micro * prices.catalogue.items[usage.item].unit.steps, 10**6)
        event = reference.Event(number, usage.at, steps, usage.duration_s, usage.destination)
        filled = reference.State(state.meters, {(0, pool): amount for pool, amount in left.items()})
        # What is in no whole steps cannot be billed; it draws nothing.
        one, then = reference.rate_event(table, lines, filled, event)
        if rest or one.reject:
            failed.append(rows[number].part)
            continue
        state = then
        for pool, amount in left.items():
            drawn[pool] += amount - state.pools.get((0, pool), 0)
        rated[number].append((steps, one))
    for number, row in enumerate(rows):
        if row.part not in parts or row.part in failed:
            continue
        closed, state = reference.close_line(table, lines, state, number, row.part.until - 1)
        if closed.reject:
            failed.append(row.part)
            continue
        if closed.amount_micro:
            rated[number].append((0, closed))
        row.part.drafts += metered_lines(prices, row.part, "usage", (row.place, row.item), row.price, rated[number])
    if wrong := [part for part in failed if part in parts]:
        raise _FailedError("events that have no price", wrong)


def rows_of(prices: Prices, part: Part) -> Iterator[Row]:
    for place, item in enumerate(prices.items(part.order)):
        if not prices.is_percentage(item) and not prices.is_recurring(part.order, item):
            gifts = [one for one in prices.promotions(part, item) if one.free_units]
            yield Row(part, place, item, prices.needed(part.order, item, gifts))


def beside(prices: Prices, parts: Sequence[Part], world: World) -> Iterator[Part]:
    """Parts of the account's other orders with the same period."""
    start, end, mine = parts[0].start, parts[0].end, {part.order.id for part in parts}
    for order in world.orders[parts[0].order.account]:
        if order.kind != "recurring" or order.id in mine or order.starts >= order.ends:
            continue
        periods = enumerate(periods_of(order), 1)
        number = next((number for number, period in periods if period == (start, end) and period[0] < order.ends), 0)
        if number and all(prices.price(order, item) is not None for item in prices.metered(order)):
            yield Part(order, "arrears", start, end, number)


def granted_at(prices: Prices, parts: Sequence[Part], at: int) -> dict[str, int]:
    """What orders that live at an instant put into pools."""
    pools: dict[str, int] = {}
    for part in parts:
        if part.since <= at < part.until and part.order.plan:
            for pool, granted in plan_grants(prices.catalogue, part.order.plan).items():
                pools[pool] = pools.get(pool, 0) + granted * part.order.quantity
    return pools


def used_in(prices: Prices, rows: Sequence[Row], world: World, until: int) -> Iterator[tuple[int, Usage]]:
    """Events with the number of their row, in order."""
    for usage in world.usage.get(rows[0].part.order.account, ()):
        within = [
            (number, row.part.order.id)
            for number, row in enumerate(rows)
            if row.item == usage.item and row.part.since <= usage.at < row.part.until and usage.counts_at < until
        ]
        owner = owner_of(prices, world, usage) if within else None
        yield from ((number, usage) for number, order in within if order == owner)


def owner_of(prices: Prices, world: World, usage: Usage) -> int | None:
    """The order an event belongs to."""
    fitting = [
        order.id
        for order in world.orders[usage.account]
        if order.kind == "recurring" and order.starts <= usage.at < order.ends and usage.item in prices.items(order)
    ]
    return min(fitting, default=None)


# ---- usage that came late


def late_parts(prices: Prices, order: Order, world: World, book: Book, until: int) -> Iterator[tuple[Part, int]]:
    """(a billed part of the order that later usage makes something else of, what of usage was seen before)."""
    for (number, start), seen in book.seen.items():
        if number != order.id:
            continue
        record = book.records[order.id, "arrears", start]
        nth = next(nth for nth, period in enumerate(periods_of(order), 1) if period[0] == start)
        part = Part(order, "late", start, record.end, nth)
        fresh = [one for one in world.usage.get(order.account, ()) if seen <= one.counts_at < until]
        if any(concerns(prices, part, usage, world) for usage in fresh):
            yield part, seen


def concerns(prices: Prices, part: Part, usage: Usage, world: World) -> bool:
    """Whether an event is of this part, or of another order with which it shares pools."""
    owner = owner_of(prices, world, usage)
    if owner == part.order.id:
        return part.since <= usage.at < part.until
    if owner is None or not prices.catalogue.pools or not fills_or_draws(prices, part.order):
        return False
    other = next(one for one in world.orders[usage.account] if one.id == owner)
    shared = any(
        period == (part.start, part.end) and period[0] <= usage.at < period[1] for period in _until(other, part.end)
    )
    return shared and fills_or_draws(prices, other) and usage.at < part.until


def _until(order: Order, end: int) -> Iterator[tuple[int, int]]:
    yield from (period for period in periods_of(order) if period[1] <= end)


def fills_or_draws(prices: Prices, order: Order) -> bool:
    return bool(prices.metered(order)) or bool(order.plan and plan_grants(prices.catalogue, order.plan))


def late(prices: Prices, part: Part, seen: int, until: int, world: World, book: Book) -> None:
    """What the whole part comes to with all that is known now, less what it came to with what was known then.

    Of a line that credit notes took something off, what they left goes back at most.
    """
    sums: dict[tuple[object, ...], list[int]] = {}
    for sign, known in ((1, until), (-1, seen)):
        whole = replace(part, part="arrears", drafts=[])
        _charges(prices, whole)
        usage_lines(prices, [whole], world, known)
        _of_others(prices, whole, book, {})
        for one in whole.drafts:
            key = (one.place[0], one.kind, one.item, one.tax.rate_ppm, one.tax.inside)
            line = sums.setdefault(key, [0, 0, 0])
            for number, value in enumerate((one.quantity, one.discount, one.amount)):
                line[number] += sign * value
    for nth, (key, (quantity, discount, amount)) in enumerate(sorted(sums.items())):
        place, kind, item, rate, inside = key
        if quantity or amount:
            shown = 1 if kind == "minimum" else quantity
            tax = core.Tax(rate, inside)
            draft = Draft(kind, item, (place, nth), part.since, part.until, shown, discount, amount, tax)
            what = about(_taxed(part.order.id, draft))
            if what in world.credited:
                draft = replace(draft, amount=max(amount, min(0, world.credited[what] - book.in_arrears[what])))
            part.drafts.append(draft)


def minimum(prices: Prices, part: Part, book: Book, today: Mapping[tuple[int, str, int], Part]) -> None:
    """What is missing from what the order shall come to."""
    order = part.order
    if order.minimum == 0:
        return
    advance = 0
    for name in ("advance", "adjustment"):
        billed, now = book.records.get((order.id, name, part.start)), today.get((order.id, name, part.start))
        advance += billed.amount if billed else now.total if now else 0
    num, den = share_of(order, part.start, part.end)
    missing = divide(order.minimum * num, den) - part.total - advance
    if missing <= 0:
        return
    wanted = plan_items(prices.catalogue, order.plan) if order.plan else (order.item,)
    priced = [item for item in wanted if order.price is not None or prices.price(order, item) is not None]
    if not priced:
        raise _FailedError("nothing of the order has a price")
    _, tax, _ = flat_micro(prices, order, priced[0], part.until - 1)
    place = (len(prices.items(order)), 0)
    part.drafts.append(Draft("minimum", "", place, part.since, part.until, 1, 0, missing, tax))


def adjustments(prices: Prices, order: Order, bill_on: date, book: Book, world: World) -> Iterator[Part]:
    """What became of advance charges, percentages too, when the order ended or paused within their periods.

    Credit notes gave some of a line back already: an adjustment gives back the rest of it at most.
    """
    bound = midnight(bill_on, order.zone)
    for record in [one for one in book.records.values() if one.order == order.id and one.part == "advance"]:
        is_over = record.end <= bound or order.ends <= bound
        is_done = (order.id, "adjustment", record.start) in book.records
        num, den = share_of(order, record.start, record.end)
        if record.outcome != "billed" or not record.num or not is_over or is_done:
            continue
        if num * record.den == record.num * den:
            continue
        part = Part(order, "adjustment", record.start, record.end, 0)
        for line in book.advance_lines[order.id, record.start]:
            changed = num * record.den - record.num * den
            amount = divide(line.amount * changed, den * record.num)
            rest = line.amount - world.credited.get(about(line), 0)
            if line.amount > 0:
                amount = max(amount, -rest)
            elif line.amount < 0:
                amount = min(amount, -rest)
            place = (prices.items(order).index(line.item), 0)
            tax = core.Tax(line.tax_ppm, line.inside)
            part.drafts.append(
                Draft("adjustment", line.item, place, part.since, part.until, order.quantity, 0, amount, tax)
            )
        yield part


# ---- payers


def bill(world: World, catalogue: Catalogue, bill_on: date, book: Book) -> Bill:
    """Everything a run bills; nothing is noted in the book."""
    prices = Prices(catalogue)
    zones = {order.zone for orders in world.orders.values() for order in orders}
    made = Bill(until=max((midnight(bill_on, zone) for zone in zones), default=0))
    by_payer: dict[int, list[Order]] = {}
    for order in (one for orders in world.orders.values() for one in orders):
        by_payer.setdefault(order.payer, []).append(order)
    for payer in sorted(world.payers):
        manual = [
            one
            for one in sorted(world.manual, key=lambda one: one.id)
            if one.payer == payer and one.bill_on <= bill_on and one.id not in book.manual
        ]
        _bill_payer(prices, world, world.payers[payer], by_payer.get(payer, []), manual, bill_on, book, made)
    return made


def _bill_payer(
    prices: Prices,
    world: World,
    payer: Payer,
    orders: Sequence[Order],
    manual: Sequence[Manual],
    bill_on: date,
    book: Book,
    made: Bill,
) -> None:
    parts = [part for order in orders for part in due_parts(prices, order, bill_on, book)]
    ups = [part for order in orders for part in adjustments(prices, order, bill_on, book, world)]
    failed = _fill(prices, world, parts, ups, book, made.until)
    again, wrong = _late(prices, world, orders, book, made.until)
    failed |= wrong
    parts += ups + again
    foreign = {part.order.id for part in parts if part.order.currency != payer.currency}
    failed |= {(order, 0, "") for order in foreign}
    made.failures |= {(payer.account, *one) for one in failed}
    parts = [part for part in parts if part.order.id not in foreign and not _held_back(part, failed)]
    charges = [(part, _gross(part)) for part in parts] + [(one, _gross_by_hand(one)) for one in manual]
    if payer.floor is not None:
        charges, left = _borne(charges, payer.balance - payer.floor)
        made.failures |= {(payer.account, *one) for one in left}
    lines: list[tuple[tuple[int, ...], Line]] = []
    for what, _ in charges:
        if isinstance(what, Manual):
            lines.append(((1, what.id), _by_hand(what)))
            made.manual.add(what.id)
            continue
        rank = (what.order.id, what.start, PARTS.index(what.part))
        lines += [((0, *rank, *draft.place), _taxed(what.order.id, draft)) for draft in what.drafts]
        made.records.append(_record(what))
        of_part = [_taxed(what.order.id, draft) for draft in what.drafts]
        if what.part == "advance":
            made.advance_lines[what.order.id, what.start] = of_part
        elif what.part in ("arrears", "late"):
            made.in_arrears += of_part
    if lines:
        made.invoices[payer.account] = [line for _, line in sorted(lines, key=lambda one: one[0])]


def _held_back(part: Part, failed: set[tuple[int, int, str]]) -> bool:
    """Whether a part failed, or one that it follows: an earlier one, or one that its minimum counts."""
    for order, start, name in failed:
        if order != part.order.id:
            continue
        if (start, name) == (part.start, part.part):
            return True
        follows = part.part == "arrears" or (part.part == "advance" and name == "advance")
        if follows and name in ("advance", "arrears", "adjustment") and start <= part.start:
            return True
    return False


def _gross(part: Part) -> int:
    return sum(line.net + line.tax for line in (_taxed(part.order.id, draft) for draft in part.drafts))


def _by_hand(one: Manual) -> Line:
    return _taxed(0, Draft("manual", "", (0, 0), 0, 0, 1, 0, one.amount, core.Tax(one.tax_ppm, one.inside)))


def _gross_by_hand(one: Manual) -> int:
    line = _by_hand(one)
    return line.net + line.tax


Charges = list[tuple[Part | Manual, int]]


def _borne(charges: Charges, left: int) -> tuple[Charges, set[tuple[int, int, str]]]:
    """What a prepaid balance bears, oldest first, and the first part of each order that it does not.

    What goes back and depends on nothing comes before everything; with a part that is not borne the later ones of its
    order are left.
    """
    kept: Charges = []
    held: dict[int, tuple[int, int, str]] = {}
    if sum(gross for _, gross in charges) <= max(0, left):
        return charges, set()
    failures = set()
    for what, gross in sorted(charges, key=_turn):
        if isinstance(what, Manual):
            if gross <= 0 or gross <= left:
                kept.append((what, gross))
                left -= gross
            else:
                failures.add((0, 0, ""))
        elif what.order.id not in held and (gross <= 0 or gross <= left):
            kept.append((what, gross))
            left -= gross
        else:
            held.setdefault(what.order.id, (what.order.id, what.start, what.part))
    return kept, failures | set(held.values())


def _turn(charge: tuple[Part | Manual, int]) -> tuple[object, ...]:
    what, gross = charge
    if isinstance(what, Manual):
        day = midnight(what.bill_on, what.zone)
        return gross > 0, day, day, 0, 4
    due = what.since if what.part in ("advance", "once") else what.until
    rank = ("adjustment", "advance", "arrears", "once", "late").index(what.part)
    return not (what.part == "adjustment" and gross <= 0), due, what.start, what.order.id, rank


def _late(
    prices: Prices, world: World, orders: Sequence[Order], book: Book, until: int
) -> tuple[list[Part], set[tuple[int, int, str]]]:
    """Late parts with their lines, and (order, period's start, part) of those that cannot be billed."""
    found: list[Part] = []
    failed: set[tuple[int, int, str]] = set()
    for order in orders:
        for part, seen in late_parts(prices, order, world, book, until):
            found.append(part)
            try:
                late(prices, part, seen, until, world, book)
            except _FailedError:
                failed.add((order.id, part.start, "late"))
    return found, failed


def _fill(
    prices: Prices, world: World, parts: Sequence[Part], ups: Sequence[Part], book: Book, until: int
) -> set[tuple[int, int, str]]:
    """Put lines into parts, adjustments apart; returns (order, period's start, part) of those that cannot be billed."""
    today = {(part.order.id, part.part, part.start): part for part in (*parts, *ups)}
    pooled: dict[tuple[int, int, int], list[Part]] = {}
    for part in parts:
        if part.part == "arrears":
            pooled.setdefault((part.order.account, part.start, part.end), []).append(part)
    failed: set[tuple[int, int, str]] = set()

    def tried(work: Callable[[], None], *concerned: Part) -> None:
        try:
            work()
        except _FailedError as error:
            failed.update((part.order.id, part.start, part.part) for part in error.parts or concerned)

    for part in parts:
        tried(lambda part=part: _charges(prices, part), part)
    for group in pooled.values():
        tried(lambda group=group: usage_lines(prices, group, world, until), *group)
    for part in parts:
        tried(lambda part=part: _of_others(prices, part, book, today), part)
    return failed


def _charges(prices: Prices, part: Part) -> None:
    if part.part == "once":
        once(prices, part)
    elif part.part == "advance" or not part.order.in_advance:
        recurring(prices, part)


def _of_others(prices: Prices, part: Part, book: Book, today: Mapping[tuple[int, str, int], Part]) -> None:
    if part.part != "once":
        percentages(prices, part)
    if part.part == "arrears":
        minimum(prices, part, book, today)


def _taxed(order: int, draft: Draft) -> Line:
    net, tax, _ = _tax_of(draft.amount, draft.tax)
    return Line(
        order,
        draft.kind,
        draft.item,
        draft.start,
        draft.end,
        draft.quantity,
        draft.discount,
        draft.amount,
        draft.tax.rate_ppm,
        draft.tax.inside,
        net,
        tax,
    )


def _tax_of(amount: int, tax: core.Tax) -> tuple[int, int, int]:
    if tax.inside:
        part = divide(amount * tax.rate_ppm, 1_000_000 + tax.rate_ppm)
        return amount - part, part, amount
    part = divide(amount * tax.rate_ppm, 1_000_000)
    return amount, part, amount + part


def _record(part: Part) -> Record:
    num, den = (1, 1) if part.part == "once" else share_of(part.order, part.start, part.end)
    outcome = "billed" if part.drafts else "waived"
    return Record(part.order.id, part.part, part.start, part.end, outcome, num, den, part.total)


def note(book: Book, made: Bill) -> None:
    """Remember what a run has billed."""
    book.records |= {(one.order, one.part, one.start): one for one in made.records}
    for one in made.records:
        if one.part in ("arrears", "late"):
            book.seen[one.order, one.start] = max(made.until, book.seen.get((one.order, one.start), 0))
    book.advance_lines |= made.advance_lines
    for line in made.in_arrears:
        book.in_arrears[about(line)] += line.amount
    book.manual |= made.manual
