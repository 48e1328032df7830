"""What the rating bench rates: tariffs, a rate card of 50,000 prefixes and columns of usage, all from one seed.

Rules. Prices and quantities are such that every sum of an account's month, and every product on the way, fits int64:
programs that have no wider integers can compute the same amounts (the largest, 86,400 events of an hour in one
account at 150 a minute, is 7.8 * 10^14 micro of numerator). Events are in order of time, their accounts
random.

Does not know: who computes, or how fast.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from ratingcore.arrays import Ints, Words
from ratingcore.bands import DAYS, Rule, calendar_of
from ratingcore.compile import compile_catalogue
from ratingcore.rate import Events, Lines, make_events, make_lines
from ratingcore.tariff import (
    Allowance,
    Cap,
    Catalogue,
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
    Stairstep,
    Step,
    Tariff,
    Tier,
    Volume,
)

SEED: Final = 20_261_123
#: November 2026.
START_S, END_S = 1_793_491_200, 1_796_083_200
PREFIXES: Final = 50_000
PREFIX_DIGITS: Final = (2, 8)
NUMBER_DIGITS: Final = 11
POOL: Final = "family"
#: Seconds left in every account's pool: some accounts use theirs up.
POOL_QUANTITY: Final = 3_000
MINUTE: Final = 60
#: Seconds priced by the minute.
TIERS: Final = (
    Tier(600, 150_000_000),
    Tier(3_000, 120_000_000),
    Tier(12_000, 90_000_000),
    Tier(60_000, 60_000_000),
    Tier(None, 30_000_000),
)
STAIRS: Final = tuple(Tier(tier.upto, 0, 1_000_000 * (place + 1)) for place, tier in enumerate(TIERS))


@dataclass(frozen=True, slots=True)
class Case:
    """One tariff to be measured. what: its words in the table; timed, dialled: its events last, and go to numbers."""

    what: str
    tariff: Tariff
    timed: bool = False
    dialled: bool = False


@dataclass(frozen=True, slots=True)
class Usage:
    """Columns of events, and how many accounts they are of."""

    accounts: int
    account: Ints
    time_s: Ints
    quantity: Ints
    destination: Words

    @property
    def shown(self) -> str:
        """How much of it there is, for the table."""
        order = "sorted" if (np.diff(self.account) >= 0).all() else "in random order"
        return f"{_spaced(len(self.account))} events of {_spaced(self.accounts)} accounts {order}"


def cases(rates: tuple[Rate, ...]) -> Mapping[str, Case]:
    """Every step a tariff may have, and a tariff of several."""
    five = f"{len(TIERS)} tiers"
    return {
        "graduated": Case(f"graduated, {five}", _of(Graduated(TIERS, MINUTE))),
        "per_unit": Case("per unit", _of(PerUnit(2_500_000))),
        "per_unit_free": Case("per minute beyond free seconds", _of(PerUnit(150_000_000, MINUTE, free=1_800))),
        "volume": Case(f"volume, {five}", _of(Volume(TIERS, MINUTE))),
        "stairstep": Case(f"stairstep, {five}", _of(Stairstep(STAIRS))),
        "package": Case("package of 300 s", _of(Package(700_000_000, 300))),
        "percentage": Case(
            "percentage, fixed part, bounds", _of(Percentage(15_000, 100_000, 2_000_000, 40_000_000, 1))
        ),
        "flat": Case("flat and per unit", _of(Flat(300_000_000), PerUnit(2_500_000))),
        "increments": Case("increments 60/6 and per unit", _of(Increments(60, 6, 3), PerUnit(2_500_000))),
        "allowance": Case("own allowance and per unit", _of(Allowance(1_800), PerUnit(2_500_000))),
        "pool": Case("an account's pool and per unit", _of(Allowance(pool=POOL), PerUnit(2_500_000))),
        "cap": Case("per unit, capped", _of(PerUnit(2_500_000), Cap(9_000_000_000))),
        "commitment": Case("per unit, minimum committed", _of(PerUnit(2_500_000), MinimumCommitment(9_000_000_000))),
        "bands": Case("time bands: day, night, weekend; calls cross them", _banded(), timed=True),
        "calls": Case(f"rate card, {shown_card(rates)}", _of(RateCard(rates)), dialled=True),
        "mobile": Case("increments, pool, graduated, discount, cap", _mobile()),
    }


def _of(*steps: Step) -> Tariff:
    return Tariff(steps)


def _mobile() -> Tariff:
    steps = (Increments(60, 60, 3), Allowance(pool=POOL), Graduated(TIERS, MINUTE), Multiplier(900_000))
    return _of(*steps, Cap(9_000_000_000))


def _banded() -> Tariff:
    """Dear by day, cheaper by night and at the weekend, at the cheapest on a second meter."""
    week, rest = DAYS[:5], DAYS[5:]
    rules = [
        Rule(week, 0, 480, "night"),
        Rule(week, 480, 1320, "day"),
        Rule(week, 1320, 1440, "night"),
        Rule(rest, 0, 1440, "weekend"),
    ]
    steps = (
        PerUnit(150_000_000, MINUTE, bands=("day",)),
        PerUnit(90_000_000, MINUTE, bands=("night",)),
        PerUnit(60_000_000, MINUTE, bands=("weekend",)),
    )
    return Tariff(steps, calendar_of("Europe/Moscow", rules))


def random_rates(prefixes: int = PREFIXES) -> tuple[Rate, ...]:
    """A rate card: one rate for every number, and ``prefixes`` of their own within one another, at 360 prices."""
    draw = np.random.default_rng(SEED)
    texts: dict[str, None] = {}
    while len(texts) < prefixes:
        length = int(draw.integers(PREFIX_DIGITS[0], PREFIX_DIGITS[1], endpoint=True))
        texts["".join(map(str, draw.integers(0, 10, length).tolist()))] = None
    rates = [Rate("", 90_000_000, MINUTE, first=60, next=60)]
    for prefix, kind in zip(texts, draw.integers(0, 360, prefixes).tolist(), strict=True):
        first, following = ((1, 1), (60, 60), (30, 6))[kind % 3]
        fee, minimum = ((0, 0), (5_000_000, 0), (0, 20_000_000))[kind // 3 % 3]
        rates.append(Rate(prefix, (kind // 9 + 1) * 2_500_001, MINUTE, fee, minimum, first, following, kind % 4))
    return tuple(rates)


def shown_card(rates: tuple[Rate, ...]) -> str:
    """How large a card is, for the table."""
    prices = len({(rate.price_micro, rate.fee_micro, rate.minimum_micro, rate.first, rate.grace) for rate in rates})
    return f"{_spaced(len(rates) - 1)} prefixes, {prices} prices"


def _spaced(count: int) -> str:
    return f"{count:,}".replace(",", " ")


def random_usage(events: int, accounts: int, keys: Words) -> Usage:
    """Usage of one month: up to an hour each, calls to random numbers under random ones of the ``keys``.

    Args:
        keys: packed prefixes, at most PREFIX_DIGITS long.
    """
    draw = np.random.default_rng(SEED + 1)
    account = draw.integers(0, accounts, events)
    time_s = np.sort(draw.integers(START_S, END_S, events))
    quantity = draw.integers(1, 3_600, events)
    number = np.zeros(events, np.uint64)
    for place in range(NUMBER_DIGITS):
        number |= draw.integers(1, 11, events, np.uint64) << np.uint64(60 - 4 * place)
    prefix = keys[draw.integers(0, len(keys), events)]
    # A prefix ends where its digits end: below them the number's own stand.
    for place in range(PREFIX_DIGITS[1]):
        digit = np.uint64(15 << (60 - 4 * place))
        number = np.where(prefix & digit, (number & ~digit) | (prefix & digit), number)
    return Usage(accounts, account, time_s, quantity, number)


def number_of(key: int) -> str:
    """The digits of a packed number, for the judge."""
    return f"{key:016x}".rstrip("0").replace("a", "0")


def catalogue_of(case: Case) -> Catalogue:
    """A catalogue of this tariff alone."""
    return Catalogue((Price(((START_S, case.tariff),)),), START_S, END_S, (POOL,))


def lines_of(case: Case, accounts: int) -> Lines:
    """One line an account."""
    return make_lines(compile_catalogue(catalogue_of(case)), np.zeros(accounts, np.int32), np.arange(accounts))


def pools_of(accounts: int) -> Ints:
    """What every account has in its pool."""
    return np.full((accounts, 1), POOL_QUANTITY)


def events_of(case: Case, usage: Usage) -> Events:
    """The columns this case uses."""
    duration_s = usage.quantity if case.timed else None
    return make_events(
        usage.account, usage.time_s, usage.quantity, duration_s, usage.destination if case.dialled else None
    )
