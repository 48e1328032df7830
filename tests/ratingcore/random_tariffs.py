"""Random tariffs, events and splits for the kernel's trial: small numbers that collide, and huge ones that overflow."""

from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from ratingcore.bands import DAYS, Calendar, Rule, calendar_of
from ratingcore.reference import Event, Line
from ratingcore.tariff import (
    MAX_DURATION_S,
    MAX_PER,
    MAX_PRICE_MICRO,
    MAX_QUANTITY,
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
    Scope,
    Stairstep,
    Step,
    Tariff,
    Tier,
    Volume,
)

#: Clocks in Berlin go forward on 29 March 2026 at 01:00 UTC; the horizon lies around it.
SPRING_S = 1_774_746_000
START_S, END_S = SPRING_S - 2 * 86_400, SPRING_S + 2 * 86_400
POOLS = ("family", "roaming")

SCOPES = st.sampled_from([Scope.PERIOD, Scope.PERIOD, Scope.EVENT])
METERS = st.sampled_from(["", "", "", "shared"])
PREFIXES = st.text("0179", max_size=3)
NUMBERS = st.text("0179", min_size=2, max_size=6)


@dataclass(frozen=True)
class World:
    """How large numbers get: small ones meet every tier's bound, wild ones every limit."""

    money: st.SearchStrategy[int]
    count: st.SearchStrategy[int]
    per: st.SearchStrategy[int]
    width: st.SearchStrategy[int]
    quantity: st.SearchStrategy[int]


SMALL = World(
    st.integers(0, 9),
    st.integers(0, 12),
    st.sampled_from([1, 1, 2, 3, 7]),
    st.integers(1, 6),
    st.integers(0, 3) | st.integers(0, 25),
)
WILD = World(
    st.integers(0, 3_000_000) | st.integers(0, MAX_PRICE_MICRO),
    st.integers(0, 10**6),
    st.sampled_from([1, 2, 60, 10**6, 2**30, MAX_PER]),
    st.integers(1, 10**6) | st.integers(1, 10**17),
    st.integers(0, 10**7) | st.integers(0, MAX_QUANTITY),
)

#: Products from 10^17 to 10^19 micro: where 64 bits end and an event may still be rated.
EDGE = World(
    st.integers(10**9, 10**10) | st.integers(0, 9),
    st.integers(0, 10**8),
    st.sampled_from([1, 1, 2, 3]),
    st.integers(1, 10**8),
    st.integers(10**8, 10**9) | st.sampled_from([10**8, 6 * 10**8]),
)


@st.composite
def tiers(draw: st.DrawFn, world: World, priced: bool = True) -> tuple[Tier, ...]:
    widths = draw(st.lists(world.width, min_size=draw(st.sampled_from([0, 1, 2, 9])), max_size=11))
    uppers: list[int | None] = [sum(widths[: number + 1]) for number in range(len(widths))]
    costs = [(draw(world.money) if priced else 0, draw(st.just(0) | world.money)) for _ in range(len(widths) + 1)]
    # Falling prices and flats are the usual thing, and with volume they give money back.
    if draw(st.booleans()):
        costs.sort(reverse=True)
    return tuple(Tier(upper, *cost) for upper, cost in zip([*uppers, None], costs, strict=True))


@st.composite
def rate_cards(draw: st.DrawFn, world: World, bands: tuple[str, ...]) -> RateCard:
    prefixes = draw(st.lists(PREFIXES, min_size=1, max_size=8, unique=True))
    optional = st.just(0) | world.money
    increment = st.sampled_from([1, 1, 2, 6, 30, 60])
    rates = [
        Rate(
            prefix,
            draw(world.money),
            per=draw(world.per),
            fee_micro=draw(optional),
            minimum_micro=draw(optional),
            first=draw(st.just(0) | increment),
            next=draw(increment),
            grace=draw(st.sampled_from([0, 0, 1, 2, 3])),
        )
        for prefix in prefixes
    ]
    return RateCard(tuple(rates), bands)


@st.composite
def steps(draw: st.DrawFn, world: World, calendar: Calendar | None) -> Step:
    bands: tuple[str, ...] = ()
    if calendar is not None and draw(st.booleans()):
        bands = tuple(draw(st.lists(st.sampled_from(calendar.bands), min_size=1, unique=True)))
    kind = draw(st.sampled_from(STEP_KINDS))
    return draw(curves(world, kind, bands) if kind in CURVE_KINDS else other_steps(world, kind, bands))


@st.composite
def curves(draw: st.DrawFn, world: World, kind: Any, bands: tuple[str, ...]) -> Step:
    scope, meter = draw(SCOPES), draw(METERS)
    if kind in (Graduated, Volume):
        return kind(draw(tiers(world)), draw(world.per), scope, bands, meter)
    if kind is Stairstep:
        return Stairstep(draw(tiers(world, priced=False)), scope, bands, meter)
    return kind(draw(world.money), draw(world.per), draw(world.count), scope, bands, meter)


@st.composite
def other_steps(draw: st.DrawFn, world: World, kind: Any, bands: tuple[str, ...]) -> Step:
    if kind is RateCard:
        return draw(rate_cards(world, bands))
    if kind in (Flat, Cap):
        return kind(draw(world.money), draw(SCOPES), bands, draw(METERS))
    if kind is Percentage:
        low, high = sorted((draw(world.money), draw(world.money)))
        most = draw(st.sampled_from([None, high]))
        rate = draw(st.integers(0, 3) | st.integers(0, 10**9))
        return Percentage(rate, draw(world.money), low, most, draw(st.integers(0, 3)), bands, draw(METERS))
    if kind is Increments:
        first, following = draw(st.sampled_from([0, 1, 6, 60])), draw(st.sampled_from([1, 2, 6, 30]))
        return Increments(first, following, draw(st.sampled_from([0, 0, 1, 2, 3])), bands)
    if kind is Allowance:
        pool = draw(st.sampled_from(["", *POOLS]))
        return Allowance(0 if pool else draw(world.count), pool, bands, "" if pool else draw(METERS))
    if kind is Multiplier:
        return Multiplier(draw(st.sampled_from([0, 1, 333_333, 500_000, 999_999, 2_000_000, 10**9])), bands)
    return MinimumCommitment(draw(world.money), draw(METERS))


CURVE_KINDS = (Graduated, Volume, Stairstep, Package, PerUnit)
STEP_KINDS = (
    *(*CURVE_KINDS, RateCard, RateCard, Flat, Cap),
    *(Percentage, Increments, Allowance, Allowance, Multiplier, MinimumCommitment),
)


@st.composite
def calendars(draw: st.DrawFn) -> Calendar:
    names = ("day", "night", "weekend")
    rules: list[Rule] = []
    for days in (DAYS[:5], DAYS[5:7], DAYS[7:]):
        cut = st.sampled_from([60, 120, 121, 150, 179, 180, 240, 1320]) | st.integers(1, 1439)
        cuts = sorted({0, 1440, *draw(st.lists(cut, min_size=1, max_size=5))})
        turn = draw(st.integers(0, 2))
        rules += [Rule(days, *span, names[(turn + place) % 3]) for place, span in enumerate(pairwise(cuts))]
    zone = draw(st.sampled_from(["Europe/Berlin", "Europe/London", "Europe/Moscow"]))
    return calendar_of(zone, rules, draw(st.sampled_from([(), (date(2026, 3, 30),)])))


@st.composite
def tariffs(draw: st.DrawFn, world: World) -> Tariff:
    """Steps that cannot stand beside those before them are left out."""
    calendar = draw(calendars()) if draw(st.integers(0, 2)) else None
    kept: list[Step] = []
    for step in [*draw(st.lists(steps(world, calendar), min_size=1, max_size=6)), PerUnit(1)]:
        try:
            Tariff((*kept, step), calendar)
        except ValueError:
            continue
        kept.append(step)
        if len(kept) == 1 and draw(st.integers(0, 5)) == 0:
            break
    return Tariff(tuple(kept), calendar)


@st.composite
def prices(draw: st.DrawFn, world: World) -> Price:
    first = draw(tariffs(world))
    since_s = draw(st.sampled_from([START_S, START_S, SPRING_S - 3600]))
    if draw(st.booleans()):
        return Price(((since_s, first),))
    try:
        return Price(((since_s, first), (SPRING_S, draw(tariffs(world)))))
    except ValueError:
        return Price(((since_s, first),))


@dataclass(frozen=True)
class Trial:
    """Everything one comparison needs. cuts: where the events are split into batches."""

    catalogue: Catalogue
    lines: list[Line]
    events: list[Event]
    pools: list[list[int]]
    cuts: list[int]
    threads: int


@st.composite
def events(draw: st.DrawFn, world: World, lines: int) -> Event:
    time_s = SPRING_S + draw(st.integers(-4000, 9000) | st.integers(-1, 1) | st.integers(-86_400, 86_400))
    quantity = draw(world.quantity)
    duration_s = draw(st.sampled_from([0, quantity % 5000, 3600, 7200, 20_000]) | st.integers(1, 20_000))
    event = Event(draw(st.integers(0, lines - 1)), time_s, quantity, duration_s, draw(NUMBERS))
    if draw(st.integers(0, 15)) < 15:
        return event
    return replace(event, **draw(st.sampled_from(FAULTS)), line=draw(st.sampled_from([event.line, -1, lines])))


FAULTS: tuple[dict[str, Any], ...] = (
    {},
    {"quantity": -1},
    {"quantity": MAX_QUANTITY},
    {"quantity": MAX_QUANTITY + 1},
    {"duration_s": -1},
    {"duration_s": MAX_DURATION_S},
    {"duration_s": MAX_DURATION_S + 1},
    {"destination": "7" * 20},
    {"destination": "0" * 16 + "9"},
    {"destination": "7x"},
    {"destination": "7 9"},
    {"destination": "٧"},
    {"destination": ""},
    {"destination": "7" * 65},
    {"time_s": START_S - 1},
    {"time_s": START_S},
    {"time_s": END_S - 1},
    {"time_s": END_S},
)


@st.composite
def trials(draw: st.DrawFn) -> Trial:
    world = draw(st.sampled_from([SMALL, SMALL, WILD, EDGE]))
    found = draw(st.lists(prices(world), min_size=1, max_size=2))
    catalogue = Catalogue(tuple(found), START_S, END_S, POOLS)
    count = draw(st.integers(1, 4))
    owners = sorted(draw(st.lists(st.integers(0, 2), min_size=count, max_size=count)))
    lines = [Line(owner, draw(st.integers(0, len(found) - 1))) for owner in owners]
    usage = draw(st.lists(events(world, count), min_size=3, max_size=14))
    pools = [[draw(world.count), draw(world.count)] for _ in range(max(owners) + 1)]
    cuts = sorted(draw(st.lists(st.integers(0, len(usage)), max_size=3)))
    return Trial(catalogue, lines, usage, pools, cuts, draw(st.integers(1, 3)))
