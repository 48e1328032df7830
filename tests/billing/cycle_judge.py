"""The judge of the billing cycle: what a run must bill, slowly and obviously, in plain Python.

Written from the rules of docs/billing.md alone, one order, one tile and one event after the other, in integers. It
shares with the program the records of the catalogue, the reference rating and rounding; it has a calendar of its own,
and remembers by itself what it has billed.

Does not know: storage, numbers of invoices, transfers.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import NamedTuple
from zoneinfo import ZoneInfo

from billing.catalogue import (
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
PARTS = ("advance", "arrears", "once", "trueup")
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


@dataclass(frozen=True)
class Payer:
    account: int
    currency: str
    balance: int
    floor: int | None


@dataclass(frozen=True)
class World:
    """Everything a run may look at. orders: of all times, by account and id; usage: by account and (at, id).

    credited: what credit notes took off lines that were charged in advance, by (order, item, start of the line).
    """

    payers: Mapping[int, Payer]
    orders: Mapping[int, Sequence[Order]]
    usage: Mapping[int, Sequence[Usage]]
    manual: Sequence[Manual]
    credited: Mapping[tuple[int, str, int], int] = field(default_factory=dict)


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
    """What is billed so far: records by (order, part, tile's start), lines of advance records, manual lines."""

    records: dict[tuple[int, str, int], Record] = field(default_factory=dict)
    advance_lines: dict[tuple[int, int], list[Line]] = field(default_factory=dict)
    manual: set[int] = field(default_factory=set)


@dataclass
class Bill:
    """What a run makes: lines by payer, records, (payer, order, tile's start, part) of what failed.

    advance_lines: those of advance records, by (order, tile's start). manual: manual lines that were billed.
    """

    invoices: dict[int, list[Line]] = field(default_factory=dict)
    records: list[Record] = field(default_factory=list)
    advance_lines: dict[tuple[int, int], list[Line]] = field(default_factory=dict)
    manual: set[int] = field(default_factory=set)
    failures: set[tuple[int, int, int, str]] = field(default_factory=set)


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


def tiles_of(order: Order) -> Iterator[tuple[int, int]]:
    """Tiles of an order, the one that contains its start first."""
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
    """What of a tile is charged."""
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
    """A part of a tile that is due: [start, end) and what of it the order lives (since, until)."""

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
    for number, (start, end) in enumerate(tiles_of(order), 1):
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


def usage_lines(prices: Prices, parts: Sequence[Part], world: World) -> None:
    """What orders of one account used in one tile: they share pools."""
    rows = [row for part in parts for row in rows_of(prices, part)]
    if not rows:
        return
    table = prices.table(row.price.price for row in rows)
    lines = [reference.Line(0, number) for number in range(len(rows))]
    state = reference.State({}, pools_of(prices, parts))
    rated: list[list[Rated]] = [[] for _ in rows]
    failed: list[Part] = []
    for number, usage in used_in(prices, rows, world):
        steps, rest = divmod(usage.quantity_micro * prices.catalogue.items[usage.item].unit.steps, 10**6)
        event = reference.Event(number, usage.at, steps, usage.duration_s, usage.destination)
        one, state = reference.rate_event(table, lines, state, event)
        if rest or one.reject:
            failed.append(rows[number].part)
        rated[number].append((steps, one))
    if failed:
        raise _FailedError("events that have no price", failed)
    for number, row in enumerate(rows):
        closed, state = reference.close_line(table, lines, state, number, row.part.until - 1)
        if closed.reject:
            raise _FailedError(closed.reject.name, [row.part])
        if closed.amount_micro:
            rated[number].append((0, closed))
        row.part.drafts += metered_lines(prices, row.part, "usage", (row.place, row.item), row.price, rated[number])


def rows_of(prices: Prices, part: Part) -> Iterator[Row]:
    for place, item in enumerate(prices.items(part.order)):
        if not prices.is_percentage(item) and not prices.is_recurring(part.order, item):
            gifts = [one for one in prices.promotions(part, item) if one.free_units]
            yield Row(part, place, item, prices.needed(part.order, item, gifts))


def pools_of(prices: Prices, parts: Sequence[Part]) -> dict[tuple[int, str], int]:
    pools: dict[tuple[int, str], int] = {}
    for part in parts:
        for pool, granted in (plan_grants(prices.catalogue, part.order.plan) if part.order.plan else {}).items():
            pools[0, pool] = pools.get((0, pool), 0) + granted * part.order.quantity
    return pools


def used_in(prices: Prices, rows: Sequence[Row], world: World) -> Iterator[tuple[int, Usage]]:
    """Events with the number of their row, in order."""
    for usage in world.usage.get(rows[0].part.order.account, ()):
        within = [
            (number, row.part.order.id)
            for number, row in enumerate(rows)
            if row.item == usage.item and row.part.since <= usage.counts_at < row.part.until
        ]
        owner = owner_of(prices, world, usage) if within else None
        yield from ((number, usage) for number, order in within if order == owner)


def owner_of(prices: Prices, world: World, usage: Usage) -> int | None:
    """The order an event belongs to."""
    fitting = [
        order.id
        for order in world.orders[usage.account]
        if order.kind == "recurring"
        and order.starts <= usage.counts_at < order.ends
        and usage.item in prices.items(order)
    ]
    return min(fitting, default=None)


def minimum(prices: Prices, part: Part, book: Book, today: Mapping[tuple[int, str, int], Part]) -> None:
    """What is missing from what the order shall come to."""
    order = part.order
    if order.minimum == 0:
        return
    advance = 0
    for name in ("advance", "trueup"):
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


def true_ups(prices: Prices, order: Order, bill_on: date, book: Book, world: World) -> Iterator[Part]:
    """What became of advance charges, percentages too, when the order ended or paused within their tiles.

    Credit notes gave some of a line back already: a true-up gives back the rest of it at most.
    """
    bound = midnight(bill_on, order.zone)
    for record in [one for one in book.records.values() if one.order == order.id and one.part == "advance"]:
        is_over = record.end <= bound or order.ends <= bound
        is_done = (order.id, "trueup", record.start) in book.records
        num, den = share_of(order, record.start, record.end)
        if record.outcome != "billed" or not record.num or not is_over or is_done:
            continue
        if num * record.den == record.num * den:
            continue
        part = Part(order, "trueup", record.start, record.end, 0)
        for line in book.advance_lines[order.id, record.start]:
            changed = num * record.den - record.num * den
            amount = divide(line.amount * changed, den * record.num)
            rest = line.amount - world.credited.get((order.id, line.item, line.start), 0)
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
    made = Bill()
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
    ups = [part for order in orders for part in true_ups(prices, order, bill_on, book, world)]
    failed = _fill(prices, world, parts, ups, book)
    if {part.order.currency for part in parts} - {payer.currency}:
        failed.add((0, 0, ""))
    if failed:
        made.failures |= {(payer.account, *one) for one in failed}
        return
    parts += ups
    lines: list[tuple[tuple[int, ...], Line]] = []
    for part in parts:
        rank = (part.order.id, part.start, PARTS.index(part.part))
        lines += [((0, *rank, *draft.place), _taxed(part.order.id, draft)) for draft in part.drafts]
    for one in manual:
        tax = core.Tax(one.tax_ppm, one.inside)
        lines.append(((1, one.id), _taxed(0, Draft("manual", "", (0, 0), 0, 0, 1, 0, one.amount, tax))))
    total = sum(line.net + line.tax for _, line in lines)
    if payer.floor is not None and payer.balance - total < payer.floor and lines:
        made.failures.add((payer.account, 0, 0, ""))
        return
    if lines:
        made.invoices[payer.account] = [line for _, line in sorted(lines, key=lambda one: one[0])]
    made.manual |= {one.id for one in manual}
    made.records += [_record(part) for part in parts]
    for part in parts:
        if part.part == "advance":
            made.advance_lines[part.order.id, part.start] = [_taxed(part.order.id, one) for one in part.drafts]


def _fill(
    prices: Prices, world: World, parts: Sequence[Part], ups: Sequence[Part], book: Book
) -> set[tuple[int, int, str]]:
    """Put lines into parts, true-ups apart; returns (order, tile's start, part) of those that cannot be billed."""
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
        tried(lambda group=group: usage_lines(prices, group, world), *group)
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
    book.advance_lines |= made.advance_lines
    book.manual |= made.manual
