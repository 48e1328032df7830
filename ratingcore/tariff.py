"""Tariffs as records: what a price is made of, checked when it is made.

A ``Tariff`` is a list of steps applied in order to every event. Quantity steps change how much is priced
(``Increments``, ``Allowance``), pricing steps add money for what is left (``Flat``, ``PerUnit``, ``Graduated``,
``Volume``, ``Stairstep``, ``Package``, ``Percentage``, ``RateCard``), money steps change what was added so far
(``Multiplier``, ``Cap``, ``MinimumCommitment``). With a calendar an event is first split where bands change, and a
step may be confined to some bands. ``ratingcore.reference`` says what each step does, to the micro.

Rules. Money is micro: 1/1,000,000 of a minor unit. Quantities are integers of the item's smallest step (seconds,
bytes, millionths of a GB); a price is for ``per`` of them. What a step remembers over the period it keeps under its
``meter``; steps of different versions or bands that name one meter share it. A meter without a name is called after
its step's place, so name those that shall go on when a later version puts steps elsewhere. Bounds are chosen so that
no kernel can overflow 128 bits: see the table of limits.

Does not know: items' names in any language, currencies, customers, promotions; whether a tariff is wise (the linter's).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from itertools import pairwise
from typing import Final

from ratingcore.bands import Calendar
from ratingcore.money import MAX_MINOR, format_price_micro
from ratingcore.rounding import MICRO_PER_MINOR, Rounding

#: Limits, by name. quantity x price + rest stays below 2^127 (4 * 10^18 * 10^18 + 10^18), amounts times a ratio too.
MAX_PRICE_MICRO: Final = 10**18
MAX_QUANTITY: Final = 10**18
MAX_METER: Final = 4 * 10**18
MAX_PER: Final = 10**12
MAX_RATIO_PPM: Final = 10**9
MAX_AMOUNT_MICRO: Final = MAX_MINOR * MICRO_PER_MINOR
MAX_EVENT_MICRO: Final = 9 * 10**18
MAX_DURATION_S: Final = 31 * 86_400
MAX_HORIZON_S: Final = 20 * 366 * 86_400
MAX_STEPS: Final = 32
MAX_TIERS: Final = 100_000
MAX_RATES: Final = 2_000_000
MAX_PREFIX_DIGITS: Final = 15
MAX_POOLS: Final = 16
MAX_METERS: Final = 64

assert (MAX_METER * MAX_PRICE_MICRO + MAX_PER) * 2 < 2**127
assert MAX_AMOUNT_MICRO * MAX_RATIO_PPM + MICRO_PER_MINOR < 2**127
assert MAX_METER + MAX_QUANTITY + MAX_PER < 2**63
assert MAX_EVENT_MICRO < 2**63


class Scope(IntEnum):
    """Over what a step counts: the billing period, or each event by itself."""

    PERIOD = 0
    EVENT = 1


class Reject(IntEnum):
    """Why an event was not rated. A rejected event changes nothing and costs nothing; the numbers never change."""

    OK = 0
    BAD_LINE = 1
    BAD_QUANTITY = 2
    BAD_DURATION = 3
    OUT_OF_HORIZON = 4
    NO_PRICE = 5
    NO_RATE = 6
    OUT_OF_RANGE = 7
    BAD_DESTINATION = 8


@dataclass(frozen=True, slots=True)
class Tier:
    """One tier: quantities above the tier before, up to and including ``upto`` (None: without end)."""

    upto: int | None
    price_micro: int = 0
    flat_micro: int = 0


@dataclass(frozen=True, slots=True)
class Flat:
    """``amount_micro`` once a period (at the first event, or at the close if there was none), or once an event."""

    amount_micro: int
    scope: Scope = Scope.PERIOD
    bands: tuple[str, ...] = ()
    meter: str = ""


@dataclass(frozen=True, slots=True)
class PerUnit:
    """``price_micro`` for every ``per`` steps of quantity beyond the first ``free``."""

    price_micro: int
    per: int = 1
    free: int = 0
    scope: Scope = Scope.PERIOD
    bands: tuple[str, ...] = ()
    meter: str = ""


@dataclass(frozen=True, slots=True)
class Graduated:
    """Each slice of the quantity at its own tier's price, and each tier's flat once it is entered."""

    tiers: tuple[Tier, ...]
    per: int = 1
    scope: Scope = Scope.PERIOD
    bands: tuple[str, ...] = ()
    meter: str = ""


@dataclass(frozen=True, slots=True)
class Volume:
    """The whole quantity at the price of the tier it reached, and that tier's flat.

    Reaching a cheaper tier re-prices what came before, so an event's amount may be negative.
    """

    tiers: tuple[Tier, ...]
    per: int = 1
    scope: Scope = Scope.PERIOD
    bands: tuple[str, ...] = ()
    meter: str = ""


@dataclass(frozen=True, slots=True)
class Stairstep:
    """The flat of the tier that the quantity reached, whatever the quantity within it."""

    tiers: tuple[Tier, ...]
    scope: Scope = Scope.PERIOD
    bands: tuple[str, ...] = ()
    meter: str = ""


@dataclass(frozen=True, slots=True)
class Package:
    """``price_micro`` for every started block of ``size`` beyond the first ``free``."""

    price_micro: int
    size: int
    free: int = 0
    scope: Scope = Scope.PERIOD
    bands: tuple[str, ...] = ()
    meter: str = ""


@dataclass(frozen=True, slots=True)
class Percentage:
    """``rate_ppm`` of the event's quantity read as minor units, plus a fixed part, kept within bounds.

    The first ``free_events`` of the period cost nothing.
    """

    rate_ppm: int
    fixed_micro: int = 0
    minimum_micro: int = 0
    maximum_micro: int | None = None
    free_events: int = 0
    bands: tuple[str, ...] = ()
    meter: str = ""


@dataclass(frozen=True, slots=True)
class Increments:
    """Count a quantity as ``first``, then in whole steps of ``next``; events up to ``grace`` count nothing."""

    first: int
    next: int
    grace: int = 0
    bands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Allowance:
    """Free quantity, used up in event order: ``quantity`` of the line's own, or what is left in a shared ``pool``."""

    quantity: int = 0
    pool: str = ""
    bands: tuple[str, ...] = ()
    meter: str = ""


@dataclass(frozen=True, slots=True)
class Rate:
    """What a call to numbers with this prefix costs."""

    prefix: str
    price_micro: int
    per: int = 60
    fee_micro: int = 0
    minimum_micro: int = 0
    first: int = 1
    next: int = 1
    grace: int = 0


@dataclass(frozen=True, slots=True)
class RateCard:
    """Price a call by the rate with the longest prefix of its destination. An empty prefix matches every number."""

    rates: tuple[Rate, ...]
    bands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Multiplier:
    """What the steps before it charged, times ``ratio_ppm`` millionths: 500_000 halves it."""

    ratio_ppm: int
    bands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Cap:
    """No more than ``maximum_micro`` a period (or an event) of what the steps before it charge."""

    maximum_micro: int
    scope: Scope = Scope.PERIOD
    bands: tuple[str, ...] = ()
    meter: str = ""


@dataclass(frozen=True, slots=True)
class MinimumCommitment:
    """At the close of the period, what is missing from ``minimum_micro`` of what the steps before it charged."""

    minimum_micro: int
    meter: str = ""


Curve = PerUnit | Graduated | Volume | Stairstep | Package
Step = Curve | Flat | Percentage | Increments | Allowance | RateCard | Multiplier | Cap | MinimumCommitment


@dataclass(frozen=True, slots=True)
class Tax:
    """``rate_ppm`` of the net, contained in the line's amount (inside) or put on top of it."""

    rate_ppm: int
    inside: bool


@dataclass(frozen=True, slots=True)
class Tariff:
    """One version of a price. See the module's docstring.

    Raises:
        ValueError: what makes it no tariff, naming the step.
    """

    steps: tuple[Step, ...]
    calendar: Calendar | None = None
    rounding: Rounding = Rounding.HALF_AWAY
    tax: Tax = Tax(0, True)

    def __post_init__(self) -> None:
        if not 1 <= len(self.steps) <= MAX_STEPS:
            raise ValueError(f"a tariff has 1 to {MAX_STEPS} steps, not {len(self.steps)}")
        _between("tax rate_ppm", self.tax.rate_ppm, 0, 10_000_000)
        for number, step in enumerate(self.steps):
            try:
                _check_step(step)
                _check_bands(step, self.calendar)
            except ValueError as error:
                raise ValueError(f"step {number + 1} ({kind_of(step)}): {error}") from error
        _check_sharing(self)


@dataclass(frozen=True, slots=True)
class Price:
    """What an item costs, over time: (in force from, tariff), ascending.

    Before the first instant there is no price; a version ends where the next begins.
    """

    versions: tuple[tuple[int, Tariff], ...]

    def __post_init__(self) -> None:
        starts = [since_s for since_s, _ in self.versions]
        if not starts or any(after <= before for before, after in pairwise(starts)):
            raise ValueError("a price has one or more versions in ascending order of their start")
        scopes: dict[tuple[str, str], int] = {}
        for _, tariff in self.versions:
            for key, scope in meters_of(tariff):
                if scopes.setdefault(key, scope) != scope:
                    raise ValueError(f"meter {key[0]!r} counts by event in one version and by period in another")
        if meter_width(scopes) > MAX_METERS:
            raise ValueError(f"more than {MAX_METERS} meters")


@dataclass(frozen=True, slots=True)
class Catalogue:
    """One version of all prices, good for events in [start_s, end_s).

    pools: names of shared allowances; how much is in one is the state's to say.
    """

    prices: tuple[Price, ...]
    start_s: int
    end_s: int
    pools: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.prices:
            raise ValueError("a catalogue has a price at least")
        if not 0 < self.end_s - self.start_s <= MAX_HORIZON_S:
            raise ValueError("a catalogue ends after it starts, within twenty years")
        if len(set(self.pools)) != len(self.pools) or len(self.pools) > MAX_POOLS:
            raise ValueError(f"pools have different names and are at most {MAX_POOLS}")
        used = {step.pool for tariff in tariffs_of(self) for step in tariff.steps if isinstance(step, Allowance)}
        unknown = sorted(used - set(self.pools) - {""})
        if unknown:
            raise ValueError(f"no pool {unknown[0]!r} in this catalogue")


def tariffs_of(catalogue: Catalogue) -> Iterator[Tariff]:
    """Every version of every price, in order."""
    return (tariff for price in catalogue.prices for _, tariff in price.versions)


def kind_of(step: Step) -> str:
    """A step's name in messages and explanations."""
    return type(step).__name__


def bands_of(step: Step) -> tuple[str, ...]:
    """The bands a step is confined to; none means that it applies always."""
    return () if isinstance(step, MinimumCommitment) else step.bands


def scope_of(step: Step) -> Scope:
    """What a step's own meter counts over."""
    return step.scope if isinstance(step, Curve | Flat | Cap) else Scope.PERIOD


def meters_of(tariff: Tariff) -> list[tuple[tuple[str, str], Scope]]:
    """The meters of a tariff, in order of their steps: ((name, what it holds), scope).

    What a meter holds: "quantity" (of a curve), "charged" (a flat: 0 or 1), "used" (an allowance), "count" and "base"
    (a percentage: events of the period; 1 + sum of this event so far), "amount" (a cap or commitment: micro, wide).
    """
    return [meter for number, step in enumerate(tariff.steps) for meter in step_meters(number, step)]


def step_meters(number: int, step: Step) -> list[tuple[tuple[str, str], Scope]]:
    """The meters of the step at place ``number``; an unnamed meter takes its name from the place."""
    if isinstance(step, Increments | RateCard | Multiplier) or (isinstance(step, Allowance) and step.pool):
        return []
    name = step.meter or f"step {number + 1}"
    match step:
        case Flat():
            return [((name, "charged"), step.scope)]
        case Allowance():
            return [((name, "used"), Scope.PERIOD)]
        case Percentage():
            return [((name, "count"), Scope.PERIOD), ((name, "base"), Scope.EVENT)]
        case Cap():
            return [((name, "amount"), step.scope)]
        case MinimumCommitment():
            return [((name, "amount"), Scope.PERIOD)]
        case _:
            return [((name, "quantity"), step.scope)]


def meter_width(keys: Iterable[tuple[str, str]]) -> int:
    """How many 64-bit words these meters take: amounts are 128 bits wide."""
    return sum(2 if holds == "amount" else 1 for _, holds in set(keys))


def _between(name: str, value: int, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{name} is an integer, not {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}, outside {low} to {high}")


#: Bounds of every integer field of a step, rate or tier, by the field's name.
_BOUNDS: Final[Mapping[str, tuple[int, int]]] = {
    "amount_micro": (0, MAX_PRICE_MICRO),
    "price_micro": (0, MAX_PRICE_MICRO),
    "flat_micro": (0, MAX_PRICE_MICRO),
    "fee_micro": (0, MAX_PRICE_MICRO),
    "fixed_micro": (0, MAX_PRICE_MICRO),
    "minimum_micro": (0, MAX_PRICE_MICRO),
    "maximum_micro": (0, MAX_PRICE_MICRO),
    "per": (1, MAX_PER),
    "size": (1, MAX_PER),
    "first": (0, MAX_PER),
    "next": (1, MAX_PER),
    "grace": (0, MAX_QUANTITY),
    "free": (0, MAX_QUANTITY),
    "quantity": (0, MAX_QUANTITY),
    "free_events": (0, MAX_QUANTITY),
    "upto": (1, MAX_METER),
    "rate_ppm": (0, MAX_RATIO_PPM),
    "ratio_ppm": (0, MAX_RATIO_PPM),
}


def _check_bounds(record: Step | Tier | Rate) -> None:
    for field in fields(record):
        value = getattr(record, field.name)
        if field.name in _BOUNDS and value is not None:
            _between(field.name, value, *_BOUNDS[field.name])


def _check_step(step: Step) -> None:
    _check_bounds(step)
    match step:
        case Graduated() | Volume() | Stairstep():
            _check_tiers(step)
        case Percentage() if step.maximum_micro is not None and step.maximum_micro < step.minimum_micro:
            maximum, minimum = format_price_micro(step.maximum_micro), format_price_micro(step.minimum_micro)
            raise ValueError(f"the maximum {maximum} is below the minimum {minimum}")
        case Allowance() if step.pool and (step.quantity or step.meter):
            raise ValueError("an allowance has a quantity of its own or a pool, not both")
        case RateCard():
            _check_rates(step)


def _check_tiers(step: Graduated | Volume | Stairstep) -> None:
    if not 1 <= len(step.tiers) <= MAX_TIERS:
        raise ValueError(f"1 to {MAX_TIERS} tiers, not {len(step.tiers)}")
    below = 0
    for number, tier in enumerate(step.tiers, 1):
        try:
            _check_bounds(tier)
        except ValueError as error:
            raise ValueError(f"tier {number}: {error}") from error
        if isinstance(step, Stairstep) and tier.price_micro:
            raise ValueError(f"tier {number} of a stairstep has a flat, no price")
        if (tier.upto is None) != (number == len(step.tiers)):
            raise ValueError(f"tier {number}: the last tier, and only it, is without end")
        if tier.upto is not None and tier.upto <= below:
            raise ValueError(f"tier {number} ends at {tier.upto}, not above {below}, where the tier before it ends")
        below = tier.upto or below


def _check_rates(step: RateCard) -> None:
    if not 1 <= len(step.rates) <= MAX_RATES:
        raise ValueError(f"1 to {MAX_RATES} rates, not {len(step.rates)}")
    seen: set[str] = set()
    for rate in step.rates:
        if rate.prefix and not (rate.prefix.isascii() and rate.prefix.isdigit()):
            raise ValueError(f"prefix {rate.prefix!r} is not of digits")
        if len(rate.prefix) > MAX_PREFIX_DIGITS:
            raise ValueError(f"prefix {rate.prefix!r} has more than {MAX_PREFIX_DIGITS} digits")
        if rate.prefix in seen:
            raise ValueError(f"prefix {rate.prefix!r} comes twice")
        seen.add(rate.prefix)
        try:
            _check_bounds(rate)
        except ValueError as error:
            raise ValueError(f"prefix {rate.prefix!r}: {error}") from error


def _check_bands(step: Step, calendar: Calendar | None) -> None:
    names = bands_of(step)
    if names and calendar is None:
        raise ValueError("confined to bands, but the tariff has no calendar")
    if calendar is not None:
        unknown = [name for name in names if name not in calendar.bands]
        if unknown:
            raise ValueError(f"no band {unknown[0]!r}: one of {', '.join(calendar.bands)}")


def _check_sharing(tariff: Tariff) -> None:
    """Two steps that count in increments, or in one meter, must never meet in one band."""
    every = tariff.calendar.bands if tariff.calendar else ("",)
    for band in every:
        counting: set[object] = set()
        for number, step in enumerate(tariff.steps):
            if bands_of(step) and band not in bands_of(step):
                continue
            keys: list[object] = [key for key, _ in step_meters(number, step)]
            if isinstance(step, Increments | RateCard):
                keys.append("increments")
            for key in keys:
                if key in counting:
                    what = "increments" if key == "increments" else f"the meter {key}"
                    raise ValueError(f"step {number + 1} ({kind_of(step)}): a step before it already counts {what}")
                counting.add(key)
    scopes: dict[tuple[str, str], int] = {}
    for key, scope in meters_of(tariff):
        if scopes.setdefault(key, scope) != scope:
            raise ValueError(f"meter {key[0]!r} counts both by event and by period")
