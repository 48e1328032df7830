"""Compile a catalogue version to flat tables, once; the kernel of ``_rate.pyx`` reads nothing else.

Rules. Every table is an array of fixed records (the dtypes below repeat the kernel's structs field by field, and
NumPy refuses a kernel built from others). All curves become one form: in the tier that a quantity q reached,

    F(q) = base + round_half_up((rest + price * (q - origin)) / per)        or, by blocks,
    F(q) = base + price * ceil((q - origin) / per)

where base, 128 bits wide, holds what the tiers below and the flats come to. ``narrow`` is the largest quantity for
which 64 bits hold every intermediate of F; below it the kernel takes its fast path. A rate card becomes sorted ranges
of packed numbers, each with the rate of its longest prefix, under an index of the leading bits. A calendar becomes
its edges over the horizon, under an index of time.

Does not know: events, state, what a step means beyond its numbers (``ratingcore.reference`` does).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ratingcore.arrays import Indices, Ints
from ratingcore.bands import Calendar, edges_of
from ratingcore.digits import pack_number
from ratingcore.tariff import (
    MAX_DURATION_S,
    MAX_EVENT_MICRO,
    MAX_METER,
    MAX_PRICE_MICRO,
    Allowance,
    Cap,
    Catalogue,
    Curve,
    Flat,
    Graduated,
    Increments,
    MinimumCommitment,
    Multiplier,
    Package,
    Percentage,
    PerUnit,
    Price,
    Rate,
    RateCard,
    Scope,
    Stairstep,
    Step,
    Tariff,
    Volume,
    bands_of,
    meter_width,
    meters_of,
    scope_of,
    step_meters,
)

#: Records of the tables, laid out as C lays out the kernel's structs.
TIER: Final = np.dtype(
    [("upper", "i8"), ("origin", "i8"), ("price", "i8"), ("rest", "i8"), ("base_low", "u8"), ("base_high", "i8")]
)
STEP: Final = np.dtype(
    [
        *((name, "i4") for name in ("kind", "slot", "slot2", "by_event", "first", "count", "by_block")),
        ("bands", "u4"),
        *((name, "i8") for name in ("per", "narrow", "a", "b", "c", "d")),
    ]
)
TARIFF: Final = np.dtype([(name, "i4") for name in ("first_step", "steps", "calendar", "single")])
VERSION: Final = np.dtype([("since_s", "i8"), ("tariff", "i8")])
PRICE: Final = np.dtype([(name, "i4") for name in ("first_version", "versions", "slots", "card")])
RATE: Final = np.dtype(
    [(name, "i8") for name in ("price", "per", "fee", "minimum", "first", "next", "grace", "narrow")]
)
RANGE: Final = np.dtype([("start", "u8"), ("rate", "i4"), ("row", "i4")])
CARD: Final = np.dtype([("first_index", "i8"), ("shift", "i8"), ("rounds", "i8")])
CALENDAR: Final = np.dtype([(name, "i8") for name in ("start_s", "first_index", "last_edge")])

#: Step kinds, as in the kernel.
FLAT, CURVE, PERCENTAGE, INCREMENTS, ALLOWANCE, POOL, RATE_CARD, MULTIPLIER, CAP, COMMITMENT = range(10)
SINGLE_CURVE, SINGLE_CARD = 1, 2
ALWAYS: Final = 0xFFFF_FFFF
#: A calendar's edges are found from the 2^15 seconds (nine hours) an instant lies in.
EDGE_SHIFT: Final = 15
NARROW: Final = 2**61
#: Calls below it at prices and increments below it need no more than 64 bits.
NARROW_CALL: Final = 2**30

#: first + quantity + next counted at most, and a fee: the largest event's amount is out of reach.
assert 3 * NARROW_CALL * NARROW_CALL + MAX_PRICE_MICRO < MAX_EVENT_MICRO
KEY_BITS: Final = 64
#: Five digits. Six of sixteen values of four bits are never used, so little of the index is ever touched.
MAX_INDEX_BITS: Final = 20


@dataclass(frozen=True, slots=True)
class Compiled:
    """The tables. slots: per price, ((meter, what it holds), first word) in the order of a line's meters."""

    start_s: int
    end_s: int
    pools: tuple[str, ...]
    slots: tuple[tuple[tuple[tuple[str, str], int], ...], ...]
    prices: NDArray[Any]
    versions: NDArray[Any]
    tariffs: NDArray[Any]
    steps: NDArray[Any]
    tiers: NDArray[Any]
    rates: NDArray[Any]
    cards: NDArray[Any]
    card_index: Indices
    ranges: NDArray[Any]
    calendars: NDArray[Any]
    calendar_index: Indices
    edges: Ints
    edge_band: Indices


class _Tables:
    """Rows gathered while a catalogue is walked; lives for one ``compile_catalogue``."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.prices: list[tuple[int, ...]] = []
        self.versions: list[tuple[int, ...]] = []
        self.tariffs: list[tuple[int, ...]] = []
        self.steps: list[tuple[int, ...]] = []
        self.tiers: list[tuple[int, ...]] = []
        self.rates: dict[tuple[int, ...], int] = {}
        self.cards: list[tuple[int, ...]] = []
        self.card_index: list[Indices] = []
        self.ranges: list[NDArray[Any]] = []
        self.calendars: dict[Calendar, int] = {}
        self.calendar_rows: list[tuple[int, ...]] = []
        self.calendar_index: list[Indices] = []
        self.edges: list[Ints] = []
        self.edge_band: list[Indices] = []


def compile_catalogue(catalogue: Catalogue) -> Compiled:
    """The tables of a catalogue version.

    Raises:
        ValueError: a calendar whose zone had no whole-minute offset within the horizon.
    """
    tables = _Tables(catalogue)
    slots = tuple(_add_price(tables, price) for price in catalogue.prices)
    return Compiled(
        catalogue.start_s,
        catalogue.end_s,
        catalogue.pools,
        slots,
        _rows(tables.prices, PRICE),
        _rows(tables.versions, VERSION),
        _rows(tables.tariffs, TARIFF),
        _rows(tables.steps, STEP),
        _rows(tables.tiers, TIER),
        _rows(list(tables.rates), RATE),
        _rows(tables.cards, CARD),
        _joined(tables.card_index, np.int32),
        _joined(tables.ranges, RANGE),
        _rows(tables.calendar_rows, CALENDAR),
        _joined(tables.calendar_index, np.int32),
        _joined(tables.edges, np.int64),
        _joined(tables.edge_band, np.int32),
    )


def _rows(rows: Sequence[tuple[int, ...]], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Never empty: a kernel takes the address of the first row of every table."""
    return np.array(list(rows) or [tuple(0 for _ in dtype.names or ())], dtype)


def _joined(arrays: Sequence[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.zeros(1, dtype)


def slots_of(price: Price) -> tuple[tuple[tuple[str, str], int], ...]:
    """Where a line with this price keeps each meter: versions share the meters that they name alike."""
    keys = list(dict.fromkeys(key for _, tariff in price.versions for key, _ in meters_of(tariff)))
    return tuple((key, meter_width(keys[:number])) for number, key in enumerate(keys))


def _add_price(tables: _Tables, price: Price) -> tuple[tuple[tuple[str, str], int], ...]:
    slots = slots_of(price)
    row = len(tables.prices)
    tables.prices.append(())
    first_version, card = len(tables.versions), -1
    for since_s, tariff in price.versions:
        tables.versions.append((since_s, len(tables.tariffs)))
        cards = len(tables.cards)
        _add_tariff(tables, tariff, dict(slots))
        if len(tables.cards) > cards and _single_of(tariff) != SINGLE_CARD:
            card = cards
    tables.prices[row] = (first_version, len(price.versions), meter_width(key for key, _ in slots), card)
    return slots


def _add_tariff(tables: _Tables, tariff: Tariff, slots: dict[tuple[str, str], int]) -> None:
    calendar = -1 if tariff.calendar is None else _add_calendar(tables, tariff.calendar)
    tables.tariffs.append((len(tables.steps), len(tariff.steps), calendar, _single_of(tariff)))
    for number, step in enumerate(tariff.steps):
        row = dict.fromkeys(STEP.names or (), 0)
        row["bands"] = _mask_of(step, tariff.calendar)
        row["by_event"] = int(scope_of(step))
        for name, (key, _) in zip(("slot", "slot2"), step_meters(number, step), strict=False):
            row[name] = slots[key]
        row.update(_step_row(tables, step))
        tables.steps.append(tuple(row.values()))


def _single_of(tariff: Tariff) -> int:
    """Whether the kernel may take one of its short ways: one step, no calendar, nothing to put back on a reject."""
    first = tariff.steps[0]
    if len(tariff.steps) > 1 or tariff.calendar is not None:
        return 0
    if isinstance(first, Curve) and first.scope == Scope.PERIOD:
        return SINGLE_CURVE
    return SINGLE_CARD if isinstance(first, RateCard) else 0


def _mask_of(step: Step, calendar: Calendar | None) -> int:
    names = bands_of(step)
    if not names or calendar is None:
        return ALWAYS
    return sum(1 << calendar.bands.index(name) for name in set(names))


def _step_row(tables: _Tables, step: Step) -> dict[str, int]:
    """The fields of a step beyond bands and slots."""
    match step:
        case Flat():
            return {"kind": FLAT, "a": step.amount_micro}
        case Percentage():
            most = -1 if step.maximum_micro is None else step.maximum_micro
            row = {"a": step.rate_ppm, "b": step.fixed_micro, "c": step.minimum_micro, "d": most}
            return {"kind": PERCENTAGE, "per": step.free_events, **row}
        case Increments():
            return {"kind": INCREMENTS, "a": step.first, "b": step.next, "c": step.grace}
        case Allowance():
            if step.pool:
                return {"kind": POOL, "first": tables.catalogue.pools.index(step.pool)}
            return {"kind": ALLOWANCE, "a": step.quantity}
        case RateCard():
            _add_card(tables, step.rates)
            return {"kind": RATE_CARD, "first": len(tables.cards) - 1}
        case Multiplier():
            return {"kind": MULTIPLIER, "a": step.ratio_ppm}
        case Cap():
            return {"kind": CAP, "a": step.maximum_micro}
        case MinimumCommitment():
            return {"kind": COMMITMENT, "a": step.minimum_micro}
        case _:
            return _curve_row(tables, step)


# ---- curves


def _curve_row(tables: _Tables, step: Curve) -> dict[str, int]:
    by_block = isinstance(step, Package)
    per = step.size if isinstance(step, Package) else 1 if isinstance(step, Stairstep) else step.per
    tiers = tiers_of(step)
    first = len(tables.tiers)
    for upper, origin, price, rest, base in tiers:
        tables.tiers.append((upper, origin, price, rest, base & (2**64 - 1), base >> 64))
    narrow = narrow_of(tiers, per, by_block)
    return {
        "kind": CURVE,
        "first": first,
        "count": len(tiers),
        "by_block": int(by_block),
        "per": per,
        "narrow": narrow,
    }


def tiers_of(step: Curve) -> list[tuple[int, int, int, int, int]]:
    """(upper, origin, price, rest, base) of every tier: see the module's docstring."""
    match step:
        case PerUnit() | Package():
            free = [(step.free, 0, 0, 0, 0)] if step.free else []
            return [*free, (MAX_METER, step.free, step.price_micro, 0, 0)]
        case Volume() | Stairstep():
            return [
                (MAX_METER if tier.upto is None else tier.upto, 0, tier.price_micro, 0, tier.flat_micro)
                for tier in step.tiers
            ]
        case Graduated():
            return _graduated_tiers(step)


def _graduated_tiers(step: Graduated) -> list[tuple[int, int, int, int, int]]:
    rows, below, slices, flats = [], 0, 0, 0
    for tier in step.tiers:
        upper = MAX_METER if tier.upto is None else tier.upto
        flats += tier.flat_micro
        rows.append((upper, below, tier.price_micro, slices % step.per, slices // step.per + flats))
        slices += tier.price_micro * (upper - below)
        below = upper
    return rows


def narrow_of(tiers: Sequence[tuple[int, int, int, int, int]], per: int, by_block: bool) -> int:
    """The largest quantity up to which neither base nor product of any tier reaches 2^61."""
    narrow = 0
    for upper, origin, price, rest, base in tiers:
        if base >= NARROW:
            return narrow
        room = NARROW - 1 - rest - per
        if price:
            held = origin + ((NARROW // price - 1) * per if by_block else room // price)
            if held < upper:
                return max(narrow, held)
        narrow = upper
    return narrow


# ---- rate cards


def _add_card(tables: _Tables, rates: Sequence[Rate]) -> None:
    """Rates that cost alike share a row: a card has many prefixes and few prices, so the rows stay in cache."""
    rows = [tables.rates.setdefault(_rate_row(rate), len(tables.rates)) for rate in rates]
    found = ranges_of(rates)
    ranges = np.array([(start, rate, rows[rate] if rate >= 0 else -1) for start, rate in found], RANGE)
    bits = max(4, min(MAX_INDEX_BITS, len(found).bit_length() + 3))
    shift = KEY_BITS - bits
    buckets = np.arange(2**bits, dtype=np.uint64) << np.uint64(shift)
    before = sum(len(block) for block in tables.ranges)
    first = np.searchsorted(ranges["start"], buckets, side="right") - 1 + before
    index = np.append(first, before + len(found) - 1).astype(np.int32)
    # Halvings that find one among as many ranges as any entry of the index leaves open.
    rounds = int(np.diff(index).max()).bit_length()
    tables.cards.append((sum(len(block) for block in tables.card_index), shift, rounds))
    tables.card_index.append(index)
    tables.ranges.append(ranges)


def _rate_row(rate: Rate) -> tuple[int, ...]:
    terms = (rate.price_micro, rate.per, rate.fee_micro, rate.minimum_micro, rate.first, rate.next, rate.grace)
    return (*terms, int(max(rate.price_micro, rate.first, rate.next) < NARROW_CALL))


def ranges_of(rates: Sequence[Rate]) -> list[tuple[int, int]]:
    """Packed numbers as ranges: (first key, index of the rate with the longest prefix or -1), ascending from 0."""
    spans = []
    for index, rate in enumerate(rates):
        low = pack_number(rate.prefix)
        spans.append((low, low + (1 << (KEY_BITS - 4 * len(rate.prefix))), index))
    spans.sort(key=lambda span: (span[0], -span[1]))
    starts: dict[int, int] = {0: -1}
    open_spans: list[tuple[int, int]] = [(1 << KEY_BITS, -1)]
    for low, high, index in spans:
        _close_spans(starts, open_spans, low)
        starts[low] = index
        open_spans.append((high, index))
    _close_spans(starts, open_spans, (1 << KEY_BITS) - 1)
    return sorted(starts.items())


def _close_spans(starts: dict[int, int], open_spans: list[tuple[int, int]], upto: int) -> None:
    """End every open span that does not contain ``upto``: the one around it applies again from there."""
    while open_spans[-1][0] <= upto:
        high, _ = open_spans.pop()
        starts[high] = open_spans[-1][1]


# ---- calendars


def _add_calendar(tables: _Tables, calendar: Calendar) -> int:
    if calendar in tables.calendars:
        return tables.calendars[calendar]
    start_s, end_s = tables.catalogue.start_s, tables.catalogue.end_s + MAX_DURATION_S + 1
    edges = edges_of(calendar, start_s, end_s)
    times = np.array([time_s for time_s, _ in edges], np.int64)
    buckets = np.arange(start_s, end_s, 1 << EDGE_SHIFT, dtype=np.int64)
    before = sum(len(block) for block in tables.edges)
    first_index = sum(len(block) for block in tables.calendar_index)
    tables.calendar_rows.append((start_s, first_index, before + len(edges) - 1))
    tables.calendar_index.append((np.searchsorted(times, buckets, side="right") - 1 + before).astype(np.int32))
    tables.edges.append(times)
    tables.edge_band.append(np.array([band for _, band in edges], np.int32))
    tables.calendars[calendar] = len(tables.calendar_rows) - 1
    return tables.calendars[calendar]
