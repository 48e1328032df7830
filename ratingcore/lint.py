"""What is odd about a catalogue, proved rather than guessed: each finding comes with events that show it.

Rules. A tariff that breaks a rule of the records is refused when it is made (``ratingcore.tariff``); here is what can
be rated and is hardly meant. A finding is exact: its examples, rated by the judge, do what its text says. Curves rise
within a tier, so totals fall only from a tier's end to the next one's start: that is all that has to be looked at.
Prefixes are looked at as ranges of numbers.

Does not know: names, currencies, promotions, or what a provider means by a price; those checks belong to the catalogue.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ratingcore.bands import edges_of
from ratingcore.compile import ranges_of, tiers_of
from ratingcore.digits import pack_number
from ratingcore.reference import Event
from ratingcore.rounding import divide
from ratingcore.tariff import (
    MAX_METER,
    MAX_QUANTITY,
    Allowance,
    Cap,
    Catalogue,
    Graduated,
    Increments,
    MinimumCommitment,
    Multiplier,
    Price,
    Rate,
    RateCard,
    Scope,
    Stairstep,
    Step,
    Tariff,
    Volume,
    bands_of,
    kind_of,
    step_meters,
)

Tiered = Graduated | Volume | Stairstep


@dataclass(frozen=True, slots=True)
class Finding:
    """Something odd. price, version: where in the catalogue; step: its place, -1 for the version as a whole.

    rule: "no price", "never in force", "less for more", "tier never reached", "prefix never reached",
    "prefix changes nothing", "step changes nothing" or "band without price".
    examples: events of a line with this price that show it, each rated by itself.
    """

    rule: str
    text: str
    price: int
    version: int
    step: int = -1
    examples: tuple[Event, ...] = ()


def findings_of(catalogue: Catalogue) -> list[Finding]:
    """Everything odd about a catalogue, in the order of its prices, versions and steps."""
    return [
        replace(finding, price=number)
        for number, price in enumerate(catalogue.prices)
        for finding in _price_findings(catalogue, price)
    ]


def _price_findings(catalogue: Catalogue, price: Price) -> Iterator[Finding]:
    first_s = price.versions[0][0]
    if first_s > catalogue.start_s:
        yield Finding("no price", f"there is no price before {first_s}", 0, 0, -1, (Event(0, catalogue.start_s, 1),))
    ends = [since_s for since_s, _ in price.versions[1:]] + [catalogue.end_s]
    for version, ((since_s, tariff), end_s) in enumerate(zip(price.versions, ends, strict=True)):
        from_s, to_s = max(since_s, catalogue.start_s), min(end_s, catalogue.end_s)
        if from_s >= to_s:
            text = f"in force from {since_s} to {end_s}, never within the catalogue's time"
            yield Finding("never in force", text, 0, version)
            continue
        for finding in _tariff_findings(tariff, from_s, to_s):
            yield replace(finding, version=version)


def _tariff_findings(tariff: Tariff, from_s: int, to_s: int) -> Iterator[Finding]:
    for number, step in enumerate(tariff.steps):
        found: Iterator[Finding] = iter(())
        if isinstance(step, Tiered):
            found = _tier_findings(step, from_s)
        elif isinstance(step, RateCard):
            found = _card_findings(step, from_s)
        for finding in found:
            yield replace(finding, step=number)
    yield from _idle_steps(tariff)
    yield from _unpriced_bands(tariff, from_s, to_s)


# ---- tiers


def _tier_findings(step: Tiered, from_s: int) -> Iterator[Finding]:
    reach = MAX_QUANTITY if step.scope == Scope.EVENT else MAX_METER
    per = 1 if isinstance(step, Stairstep) else step.per
    rows = tiers_of(step)
    for number, (row, following) in enumerate(pairwise(rows), 2):
        end = row[0]
        if end >= reach:
            text = f"tier {number} begins above {end}, which no quantity passes"
            yield Finding("tier never reached", text, 0, 0)
            return
        at, after = _total_in(row, per, end), _total_in(following, per, end + 1)
        if after < at and end < MAX_QUANTITY:
            text = f"{end} cost {at} micro, one more only {after}"
            yield Finding("less for more", text, 0, 0, -1, (Event(0, from_s, end), Event(0, from_s, end + 1)))


def _total_in(row: tuple[int, int, int, int, int], per: int, quantity: int) -> int:
    """What a quantity within this tier costs in all: the judge's total, without walking the tiers below."""
    _, origin, price, rest, base = row
    return base + divide(rest + price * (quantity - origin), per)


# ---- prefixes


def _card_findings(step: RateCard, from_s: int) -> Iterator[Finding]:
    by_prefix = {rate.prefix: rate for rate in step.rates}
    ranges = ranges_of(step.rates)
    starts = [start for start, _ in ranges]
    reached = _widely_reached(step.rates, ranges)
    for index, rate in enumerate(step.rates):
        if index not in reached:
            example = Event(0, from_s, 1, destination=rate.prefix + "0")
            taken = ranges[bisect_right(starts, pack_number(example.destination)) - 1][1]
            by = step.rates[taken].prefix
            text = f"prefix {rate.prefix!r}: every longer number has a longer prefix of its own, as {by!r}"
            yield Finding("prefix never reached", text, 0, 0, -1, (example,))
            continue
        shorter = next((by_prefix[cut] for cut in _shorter(rate.prefix) if cut in by_prefix), None)
        if shorter is not None and replace(rate, prefix=shorter.prefix) == shorter:
            text = f"prefix {rate.prefix!r} costs what {shorter.prefix!r} costs"
            yield Finding("prefix changes nothing", text, 0, 0, -1, (Event(0, from_s, 1, destination=rate.prefix),))


def _shorter(prefix: str) -> Iterator[str]:
    return (prefix[:length] for length in range(len(prefix) - 1, -1, -1))


def _widely_reached(rates: Sequence[Rate], ranges: Sequence[tuple[int, int]]) -> set[int]:
    """Rates that some number longer than their own prefix reaches; the bare prefix itself is a single key."""
    reached = set()
    for (start, rate), end in zip(ranges, [start for start, _ in ranges[1:]] + [1 << 64], strict=True):
        if rate < 0:
            continue
        prefix = rates[rate].prefix
        # Behind the bare prefix its range goes on with a digit 1 to 10 in the next four bits.
        digit = 1 << (60 - 4 * len(prefix))
        first_longer = pack_number(prefix) + digit
        last_longer = pack_number(prefix) + 10 * digit + digit
        if max(start, first_longer) < min(end, last_longer):
            reached.add(rate)
    return reached


# ---- steps and bands


def _idle_steps(tariff: Tariff) -> Iterator[Finding]:
    """Quantity that nothing prices any more, and money steps with no money before them."""
    bands = tariff.calendar.bands if tariff.calendar else ("",)
    for number, step in enumerate(tariff.steps):
        if isinstance(step, Increments | Allowance):
            others, where = tariff.steps[number + 1 :], "after"
        elif isinstance(step, Multiplier | Cap):
            others, where = tariff.steps[:number], "before"
        else:
            continue
        own = [band for band in bands if not bands_of(step) or band in bands_of(step)]
        if not _is_shared(tariff, number) and not any(_prices_in(other, band) for other in others for band in own):
            yield Finding("step changes nothing", f"{kind_of(step)}: no step {where} it charges", 0, 0, number)


def _is_shared(tariff: Tariff, number: int) -> bool:
    """Whether what a step counts changes what another finds: a pool, a meter, an event's increments."""
    step = tariff.steps[number]
    if isinstance(step, Allowance) and step.pool:
        return True
    keys = {key for key, _ in step_meters(number, step)}
    for other, another in enumerate(tariff.steps):
        increments = isinstance(step, Increments) and isinstance(another, Increments | RateCard)
        if other != number and (increments or keys & {key for key, _ in step_meters(other, another)}):
            return True
    return False


def _prices_in(step: Step, band: str) -> bool:
    counting = isinstance(step, Increments | Allowance | Multiplier | Cap | MinimumCommitment)
    return not counting and (not bands_of(step) or band in bands_of(step))


def _unpriced_bands(tariff: Tariff, from_s: int, to_s: int) -> Iterator[Finding]:
    if tariff.calendar is None:
        return
    bands = tariff.calendar.bands
    priced = Counter(band for band in bands for step in tariff.steps if _prices_in(step, band))
    instants = {bands[band]: time_s for time_s, band in reversed(edges_of(tariff.calendar, from_s, to_s))}
    for band in bands:
        if not priced[band] and band in instants:
            text = f"band {band!r}: no step charges anything, as at {instants[band]}"
            yield Finding("band without price", text, 0, 0, -1, (Event(0, instants[band], 1),))
