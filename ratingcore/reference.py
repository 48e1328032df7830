"""The judge: what every step of a tariff does, slowly and obviously, in integers and Fraction only.

This file is the specification. Kernels agree with it by ``==``: tests/ratingcore/test_rate.py throws random tariffs,
events and splits into batches at both. It shares with them the records of ``ratingcore.tariff`` and no arithmetic.

How an event becomes money. Its line names its price; the version in force when it starts applies to all of it. With a
calendar it is cut where the band changes, its quantity in proportion to time: up to a cut at ``t`` the floor of
``quantity * t / duration`` has passed, so the parts sum to the whole. Each part runs through the steps in order. A
step that remembers (a meter) charges what its total rose by: F(after) - F(before), F rounded to the micro half away
from zero. So the charges of a line sum to F(everything), however the events were cut into parts or batches.

A rejected event costs nothing and leaves every meter and pool as it was. No amount passes 10^15 minor units on its
way, no event's amount 9 * 10^18 micro: beyond is a reject.

Long because it is the specification: one step after the other, each read beside its neighbours.

Does not know: speed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Final

from ratingcore.bands import Calendar, band_at
from ratingcore.digits import is_number
from ratingcore.money import Minor
from ratingcore.rounding import MICRO_PER_MINOR, divide
from ratingcore.tariff import (
    MAX_AMOUNT_MICRO,
    MAX_DURATION_S,
    MAX_EVENT_MICRO,
    MAX_METER,
    MAX_QUANTITY,
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
    Reject,
    Scope,
    Stairstep,
    Step,
    Tariff,
    Tax,
    Tier,
    Volume,
    bands_of,
    kind_of,
    step_meters,
)


@dataclass(frozen=True, slots=True)
class Line:
    """What is billed together over a period: one price for one owner (the account whose pools it draws on)."""

    owner: int
    price: int


@dataclass(frozen=True, slots=True)
class Event:
    """One usage event of a line. Instants are UTC epoch seconds; destination is digits, or empty."""

    line: int
    time_s: int
    quantity: int
    duration_s: int = 0
    destination: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """What a period remembers. meters: by (line, meter, what it holds); pools: what is left, by (owner, pool)."""

    meters: Mapping[tuple[int, str, str], int] = field(default_factory=dict)
    pools: Mapping[tuple[int, str], int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Term:
    """``quantity * price_micro / per``, exact."""

    quantity: int
    price_micro: int
    per: int


@dataclass(frozen=True, slots=True)
class Total:
    """carried + flat + the sum of terms rounded once to the micro, then kept within its bounds."""

    terms: tuple[Term, ...] = ()
    flat_micro: int = 0
    carried_micro: int = 0
    at_least_micro: int | None = None
    at_most_micro: int | None = None


@dataclass(frozen=True, slots=True)
class Incremented:
    """A quantity counted in increments: ``seen`` and ``counted`` are what came and was counted of this event before."""

    step: int
    first: int
    next: int
    grace: int
    event_quantity: int
    seen: int
    counted: int
    quantity_in: int
    quantity_out: int


@dataclass(frozen=True, slots=True)
class Drawn:
    """A quantity less what was ``left`` of an allowance; pool is empty for the line's own."""

    step: int
    pool: str
    left: int
    quantity_in: int
    quantity_out: int


@dataclass(frozen=True, slots=True)
class Charged:
    """Money added: the total after less the total before. prefix: of the rate that applied; tier: the one reached."""

    step: int
    kind: str
    before: Total
    after: Total
    amount_in_micro: int
    amount_out_micro: int
    tier: int | None = None
    prefix: str | None = None


@dataclass(frozen=True, slots=True)
class Scaled:
    """Money times ``ratio_ppm`` millionths, half away from zero."""

    step: int
    ratio_ppm: int
    amount_in_micro: int
    amount_out_micro: int


@dataclass(frozen=True, slots=True)
class Capped:
    """Money let through below ``maximum_micro``, of which ``running_micro`` had come before."""

    step: int
    maximum_micro: int
    running_micro: int
    amount_in_micro: int
    amount_out_micro: int


Entry = Incremented | Drawn | Charged | Scaled | Capped


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of an event within one band (empty without a calendar), and what each step made of it, in order."""

    band: str
    start_s: int
    duration_s: int
    quantity: int
    entries: tuple[Entry, ...]
    amount_micro: int


@dataclass(frozen=True, slots=True)
class Rated:
    """An event's price and its derivation; ``recompute`` finds the same amount from the derivation alone.

    version: of the line's price; tier: index of the tier reached by the last curve; rate: index of the last rate
    used within its card; -1 where there was none.
    """

    amount_micro: int
    reject: Reject = Reject.OK
    version: int = -1
    tier: int = -1
    rate: int = -1
    parts: tuple[Part, ...] = ()


class _RejectedError(Exception):
    """Ends the rating of one event; never leaves this module."""

    def __init__(self, reject: Reject) -> None:
        self.reject = reject


@dataclass(frozen=True, slots=True)
class _Frame:
    """An event on its way through the steps. The second half is about the whole event, the rest about this part."""

    line: int
    owner: int
    event: Event
    closing: bool
    meters: Mapping[tuple[int, str, str], int]
    pools: Mapping[tuple[int, str], int]
    quantity: int = 0
    amount_micro: int = 0
    entries: tuple[Entry, ...] = ()
    seen: int = 0
    counted: int = 0
    raw_micro: int = 0
    paid_micro: int = 0
    connected: bool = False
    tier: int = -1
    rate: int = -1


def rate_events(
    catalogue: Catalogue, lines: Sequence[Line], state: State, events: Sequence[Event]
) -> tuple[list[Rated], State]:
    """Rate events in the order given; what the first leaves in meters and pools the next finds there."""
    rated = []
    for event in events:
        one, state = rate_event(catalogue, lines, state, event)
        rated.append(one)
    return rated, state


def rate_event(catalogue: Catalogue, lines: Sequence[Line], state: State, event: Event) -> tuple[Rated, State]:
    """Rate one event. A rejected one has amount 0 and returns the state it was given."""
    try:
        _check_event(catalogue, lines, event)
        line = lines[event.line]
        version, tariff = _version_at(catalogue.prices[line.price], event.time_s)
        cuts = parts_of(tariff.calendar, event)
        return _run(tariff, version, line, event, cuts, state, closing=False)
    except _RejectedError as rejected:
        return Rated(0, rejected.reject), state


def close_line(
    catalogue: Catalogue, lines: Sequence[Line], state: State, line: int, time_s: int
) -> tuple[Rated, State]:
    """What a line still owes when its period ends: flats never charged, minimums not reached.

    A second close adds nothing. Steps confined to bands, rate cards, percentages and flats per event take no part: a
    close is no event.
    """
    event = Event(line, time_s, 0)
    try:
        _check_event(catalogue, lines, event)
        version, tariff = _version_at(catalogue.prices[lines[line].price], time_s)
        return _run(tariff, version, lines[line], event, [("", time_s, 0, 0)], state, closing=True)
    except _RejectedError as rejected:
        return Rated(0, rejected.reject), state


def _check_event(catalogue: Catalogue, lines: Sequence[Line], event: Event) -> None:
    if not 0 <= event.line < len(lines):
        raise _RejectedError(Reject.BAD_LINE)
    if not 0 <= event.quantity <= MAX_QUANTITY:
        raise _RejectedError(Reject.BAD_QUANTITY)
    if not 0 <= event.duration_s <= MAX_DURATION_S:
        raise _RejectedError(Reject.BAD_DURATION)
    if not is_number(event.destination):
        raise _RejectedError(Reject.BAD_DESTINATION)
    if not catalogue.start_s <= event.time_s < catalogue.end_s:
        raise _RejectedError(Reject.OUT_OF_HORIZON)


def _version_at(price: Price, time_s: int) -> tuple[int, Tariff]:
    found = [(number, tariff) for number, (since_s, tariff) in enumerate(price.versions) if since_s <= time_s]
    if not found:
        raise _RejectedError(Reject.NO_PRICE)
    return found[-1]


def parts_of(calendar: Calendar | None, event: Event) -> list[tuple[str, int, int, int]]:
    """Cut an event where the band changes: (band, start, duration, quantity) each, walking from minute to minute."""
    if calendar is None:
        return [("", event.time_s, event.duration_s, event.quantity)]
    if event.duration_s == 0:
        return [(calendar.bands[band_at(calendar, event.time_s)], event.time_s, 0, event.quantity)]
    end_s = event.time_s + event.duration_s
    starts: list[tuple[int, int]] = []
    time_s = event.time_s
    while time_s < end_s:
        band = band_at(calendar, time_s)
        if not starts or starts[-1][1] != band:
            starts.append((time_s, band))
        time_s = (time_s // 60 + 1) * 60
    parts, before = [], 0
    for number, (start_s, band) in enumerate(starts):
        stop_s = starts[number + 1][0] if number + 1 < len(starts) else end_s
        passed = event.quantity * (stop_s - event.time_s) // event.duration_s
        parts.append((calendar.bands[band], start_s, stop_s - start_s, passed - before))
        before = passed
    return parts


def _run(
    tariff: Tariff,
    version: int,
    line: Line,
    event: Event,
    cuts: list[tuple[str, int, int, int]],
    state: State,
    closing: bool,
) -> tuple[Rated, State]:
    frame = _Frame(event.line, line.owner, event, closing, _forget_event(tariff, event.line, state.meters), state.pools)
    parts = []
    for band, start_s, duration_s, quantity in cuts:
        frame = replace(frame, quantity=quantity, amount_micro=0, entries=())
        for number, step in enumerate(tariff.steps):
            if not bands_of(step) or (band in bands_of(step) and not closing):
                frame = _apply(number, step, frame)
                if abs(frame.amount_micro) > MAX_AMOUNT_MICRO:
                    raise _RejectedError(Reject.OUT_OF_RANGE)
        parts.append(Part(band, start_s, duration_s, quantity, frame.entries, frame.amount_micro))
    amount = sum(part.amount_micro for part in parts)
    if abs(amount) > MAX_EVENT_MICRO:
        raise _RejectedError(Reject.OUT_OF_RANGE)
    rated = Rated(amount, Reject.OK, version, frame.tier, frame.rate, tuple(parts))
    return rated, State(frame.meters, frame.pools)


def _forget_event(
    tariff: Tariff, line: int, meters: Mapping[tuple[int, str, str], int]
) -> Mapping[tuple[int, str, str], int]:
    """Meters that count within one event start it at nothing."""
    found = [key for number, step in enumerate(tariff.steps) for key in step_meters(number, step)]
    return {**meters, **{(line, *key): 0 for key, scope in found if scope == Scope.EVENT}}


def _apply(number: int, step: Step, frame: _Frame) -> _Frame:
    match step:
        case Increments():
            return _increment(number, step, frame)
        case Allowance():
            return _draw(number, step, frame)
        case Flat():
            return _flat(number, step, frame)
        case Percentage():
            return _percentage(number, step, frame)
        case RateCard():
            return _rate_card(number, step, frame)
        case Multiplier():
            return _multiply(number, step, frame)
        case Cap():
            return _cap(number, step, frame)
        case MinimumCommitment():
            return _commitment(number, step, frame)
        case _:
            return _curve(number, step, frame)


def total_micro(total: Total) -> int:
    """What a total comes to."""
    exact = sum((Fraction(term.quantity * term.price_micro, term.per) for term in total.terms), Fraction())
    amount = total.carried_micro + total.flat_micro + divide(exact.numerator, exact.denominator)
    if total.at_least_micro is not None:
        amount = max(amount, total.at_least_micro)
    if total.at_most_micro is not None:
        amount = min(amount, total.at_most_micro)
    return amount


NOTHING: Final = Total()


def _charge(
    number: int,
    step: Step,
    frame: _Frame,
    before: Total,
    after: Total,
    tier: int | None = None,
    prefix: str | None = None,
) -> _Frame:
    amount = frame.amount_micro + total_micro(after) - total_micro(before)
    entry = Charged(number, kind_of(step), before, after, frame.amount_micro, amount, tier, prefix)
    return replace(frame, amount_micro=amount, entries=(*frame.entries, entry))


def _meter(number: int, step: Step, frame: _Frame, holds: str) -> tuple[tuple[int, str, str], int]:
    """The key and the value of the meter of ``step`` that holds this."""
    name = next(key[0] for key, _ in step_meters(number, step) if key[1] == holds)
    key = (frame.line, name, holds)
    return key, frame.meters.get(key, 0)


# ---- pricing by quantity: every curve is a total of the quantity so far


def _curve(number: int, step: Curve, frame: _Frame) -> _Frame:
    key, quantity = _meter(number, step, frame, "quantity")
    reached = quantity + frame.quantity
    if reached > MAX_METER:
        raise _RejectedError(Reject.OUT_OF_RANGE)
    before, _ = curve_total(step, quantity)
    after, tier = curve_total(step, reached)
    frame = replace(frame, meters={**frame.meters, key: reached}, tier=tier)
    return _charge(number, step, frame, before, after, tier)


def curve_total(step: Curve, quantity: int) -> tuple[Total, int]:
    """What ``quantity`` costs in all, and the index of the tier it reached. Nothing costs nothing."""
    match step:
        case PerUnit():
            total = Total((Term(max(0, quantity - step.free), step.price_micro, step.per),))
            return total, 1 if 0 < step.free < quantity else 0
        case Package():
            blocks = -(-max(0, quantity - step.free) // step.size)
            return Total((Term(blocks, step.price_micro, 1),)), 1 if 0 < step.free < quantity else 0
        case _:
            tier = _tier_of(step.tiers, quantity)
            if quantity == 0:
                return NOTHING, tier
            return _tiered_total(step, quantity, tier), tier


def _tier_of(tiers: tuple[Tier, ...], quantity: int) -> int:
    return next(index for index, tier in enumerate(tiers) if tier.upto is None or quantity <= tier.upto)


def _tiered_total(step: Graduated | Volume | Stairstep, quantity: int, tier: int) -> Total:
    match step:
        case Stairstep():
            return Total(flat_micro=step.tiers[tier].flat_micro)
        case Volume():
            reached = step.tiers[tier]
            return Total((Term(quantity, reached.price_micro, step.per),), reached.flat_micro)
        case Graduated():
            terms, below = [], 0
            for entered in step.tiers[: tier + 1]:
                top = quantity if entered.upto is None else min(quantity, entered.upto)
                terms.append(Term(top - below, entered.price_micro, step.per))
                below = top
            return Total(tuple(terms), sum(entered.flat_micro for entered in step.tiers[: tier + 1]))


# ---- pricing by event


def _flat(number: int, step: Flat, frame: _Frame) -> _Frame:
    key, charged = _meter(number, step, frame, "charged")
    if charged or (frame.closing and step.scope == Scope.EVENT):
        return frame
    frame = replace(frame, meters={**frame.meters, key: 1})
    return _charge(number, step, frame, NOTHING, Total(flat_micro=step.amount_micro))


def _percentage(number: int, step: Percentage, frame: _Frame) -> _Frame:
    """The base grows over the parts of an event; fixed part and bounds are of the whole event's base."""
    if frame.closing:
        return frame
    count_key, count = _meter(number, step, frame, "count")
    base_key, base = _meter(number, step, frame, "base")
    first_part = base == 0
    count += 1 if first_part else 0
    grown = (base or 1) + frame.quantity
    frame = replace(frame, meters={**frame.meters, count_key: count, base_key: grown})
    if count <= step.free_events:
        return frame
    before = NOTHING if first_part else _percentage_total(step, base - 1)
    return _charge(number, step, frame, before, _percentage_total(step, grown - 1))


def _percentage_total(step: Percentage, base_minor: int) -> Total:
    # A minor unit times a part of a million is a micro.
    term = Term(base_minor, step.rate_ppm, 1)
    return Total((term,), step.fixed_micro, 0, step.minimum_micro, step.maximum_micro)


def _rate_card(number: int, step: RateCard, frame: _Frame) -> _Frame:
    """Fee once an event, when its first increment is counted; the event pays at least the highest minimum it met."""
    if frame.closing:
        return frame
    index = longest_prefix(step.rates, frame.event.destination)
    if index is None:
        raise _RejectedError(Reject.NO_RATE)
    rate = step.rates[index]
    frame = _count_increments(number, rate, replace(frame, rate=index))
    if frame.quantity == 0:
        return frame
    fee = 0 if frame.connected else rate.fee_micro
    terms = (Term(frame.quantity, rate.price_micro, rate.per),)
    at_least = max(frame.paid_micro, rate.minimum_micro)
    after = Total(terms, fee, frame.raw_micro, at_least)
    raw = total_micro(replace(after, at_least_micro=None))
    charged = _charge(number, step, frame, Total(carried_micro=frame.paid_micro), after, prefix=rate.prefix)
    return replace(charged, raw_micro=raw, paid_micro=total_micro(after), connected=True)


def longest_prefix(rates: Sequence[Rate], destination: str) -> int | None:
    """The index of the rate with the longest prefix of a destination."""
    matching = [index for index, rate in enumerate(rates) if destination.startswith(rate.prefix)]
    return max(matching, key=lambda index: len(rates[index].prefix), default=None)


# ---- quantity


def _increment(number: int, step: Increments, frame: _Frame) -> _Frame:
    return _count_increments(number, step, frame)


def _count_increments(number: int, step: Increments | Rate, frame: _Frame) -> _Frame:
    """An increment belongs to the part in which it begins; time already counted is not counted again."""
    seen = frame.seen + frame.quantity
    out = max(0, increments_of(step, frame.event.quantity, seen) - frame.counted)
    entry = Incremented(
        number, step.first, step.next, step.grace, frame.event.quantity, frame.seen, frame.counted, frame.quantity, out
    )
    return replace(frame, quantity=out, seen=seen, counted=frame.counted + out, entries=(*frame.entries, entry))


def increments_of(step: Increments | Rate | Incremented, event_quantity: int, quantity: int) -> int:
    """What counts of the first ``quantity`` of an event."""
    if event_quantity <= step.grace or quantity == 0:
        return 0
    if quantity <= step.first:
        return step.first
    return step.first + -(-(quantity - step.first) // step.next) * step.next


def _draw(number: int, step: Allowance, frame: _Frame) -> _Frame:
    if step.pool:
        left = frame.pools.get((frame.owner, step.pool), 0)
        drawn = min(left, frame.quantity)
        frame = replace(frame, pools={**frame.pools, (frame.owner, step.pool): left - drawn})
    else:
        key, used = _meter(number, step, frame, "used")
        left = max(0, step.quantity - used)
        drawn = min(left, frame.quantity)
        frame = replace(frame, meters={**frame.meters, key: used + drawn})
    entry = Drawn(number, step.pool, left, frame.quantity, frame.quantity - drawn)
    return replace(frame, quantity=frame.quantity - drawn, entries=(*frame.entries, entry))


# ---- money


def _multiply(number: int, step: Multiplier, frame: _Frame) -> _Frame:
    amount = divide(frame.amount_micro * step.ratio_ppm, MICRO_PER_MINOR)
    entry = Scaled(number, step.ratio_ppm, frame.amount_micro, amount)
    return replace(frame, amount_micro=amount, entries=(*frame.entries, entry))


def _cap(number: int, step: Cap, frame: _Frame) -> _Frame:
    key, running = _meter(number, step, frame, "amount")
    reached = running + frame.amount_micro
    if abs(reached) > MAX_AMOUNT_MICRO:
        raise _RejectedError(Reject.OUT_OF_RANGE)
    amount = min(reached, step.maximum_micro) - min(running, step.maximum_micro)
    entry = Capped(number, step.maximum_micro, running, frame.amount_micro, amount)
    return replace(frame, amount_micro=amount, meters={**frame.meters, key: reached}, entries=(*frame.entries, entry))


def _commitment(number: int, step: MinimumCommitment, frame: _Frame) -> _Frame:
    key, running = _meter(number, step, frame, "amount")
    reached = running + frame.amount_micro
    if abs(reached) > MAX_AMOUNT_MICRO:
        raise _RejectedError(Reject.OUT_OF_RANGE)
    if frame.closing:
        before = Total(carried_micro=reached)
        frame = _charge(number, step, frame, before, replace(before, at_least_micro=step.minimum_micro))
        reached = max(reached, step.minimum_micro)
    return replace(frame, meters={**frame.meters, key: reached})


# ---- explanations


def recompute(rated: Rated) -> int:
    """The amount of an event from its derivation alone: no tariff, no state, only the numbers in the entries.

    Raises:
        ValueError: a derivation whose steps do not follow from one another.
    """
    return sum(_recompute_part(part) for part in rated.parts)


def _recompute_part(part: Part) -> int:
    quantity, amount = part.quantity, 0
    for entry in part.entries:
        if isinstance(entry, Incremented | Drawn):
            came, left = (quantity, entry.quantity_in), _quantity_of(entry)
            quantity, stated = left, entry.quantity_out
        else:
            came, left = (amount, entry.amount_in_micro), _amount_of(entry)
            amount, stated = left, entry.amount_out_micro
        if came[0] != came[1] or left != stated:
            raise ValueError(f"step {entry.step + 1} does not follow: came {came[0]}, left {left}, stated {entry}")
    if amount != part.amount_micro:
        raise ValueError(f"the part comes to {amount}, stated {part.amount_micro}")
    return amount


def _quantity_of(entry: Incremented | Drawn) -> int:
    if isinstance(entry, Drawn):
        return entry.quantity_in - min(entry.left, entry.quantity_in)
    return max(0, increments_of(entry, entry.event_quantity, entry.seen + entry.quantity_in) - entry.counted)


def _amount_of(entry: Charged | Scaled | Capped) -> int:
    match entry:
        case Charged():
            return entry.amount_in_micro + total_micro(entry.after) - total_micro(entry.before)
        case Scaled():
            return divide(entry.amount_in_micro * entry.ratio_ppm, MICRO_PER_MINOR)
        case Capped():
            reached = entry.running_micro + entry.amount_in_micro
            return min(reached, entry.maximum_micro) - min(entry.running_micro, entry.maximum_micro)


# ---- lines


def tax_of(amount: int, tax: Tax) -> tuple[Minor, Minor, Minor]:
    """(net, tax, gross) of a rounded line.

    >>> tax_of(12_200, Tax(220_000, inside=True))
    (10000, 2200, 12200)
    """
    if tax.inside:
        share = divide(amount * tax.rate_ppm, MICRO_PER_MINOR + tax.rate_ppm)
        return Minor(amount - share), Minor(share), Minor(amount)
    share = divide(amount * tax.rate_ppm, MICRO_PER_MINOR)
    return Minor(amount), Minor(share), Minor(amount + share)
