"""Compiled tables: ranges of prefixes, the form that all curves take, and where 64 bits end."""

import pickle
from bisect import bisect_right
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratingcore.compile import NARROW, compile_catalogue, narrow_of, ranges_of, tiers_of
from ratingcore.digits import pack_number
from ratingcore.reference import curve_total, longest_prefix, total_micro
from ratingcore.tariff import (
    MAX_METER,
    MAX_PER,
    MAX_PRICE_MICRO,
    Catalogue,
    Curve,
    Graduated,
    Package,
    PerUnit,
    Price,
    Rate,
    RateCard,
    Tariff,
    Tier,
    Volume,
)
from tests.ratingcore.random_tariffs import CURVE_KINDS, EDGE, SMALL, WILD, curves

PREFIXES = st.lists(st.text("0129", max_size=4), min_size=1, max_size=30, unique=True)


@given(PREFIXES, st.text("0129", max_size=8))
def test_the_range_of_a_number_is_that_of_its_longest_prefix(prefixes: list[str], number: str) -> None:
    rates = [Rate(prefix, 1) for prefix in prefixes]
    ranges = ranges_of(rates)
    starts = [start for start, _ in ranges]
    assert starts == sorted(set(starts))
    assert starts[0] == 0
    found = ranges[bisect_right(starts, pack_number(number)) - 1][1]
    expected = longest_prefix(rates, number)
    assert found == (-1 if expected is None else expected)


CURVES = st.one_of([curves(world, kind, ()) for world in (SMALL, WILD, EDGE) for kind in CURVE_KINDS])


@given(CURVES, st.integers(1, 30) | st.integers(1, MAX_METER))
def test_every_curve_takes_the_one_form_and_narrow_quantities_stay_below_2_to_the_61(
    step: Curve, quantity: int
) -> None:
    by_block = isinstance(step, Package)
    per = step.size if isinstance(step, Package) else getattr(step, "per", 1)
    tiers = tiers_of(step)
    index = next(index for index, tier in enumerate(tiers) if quantity <= tier[0])
    _, origin, price, rest, base = tiers[index]
    product = price * -(-(quantity - origin) // per) if by_block else rest + price * (quantity - origin) + per // 2
    expected, tier = curve_total(step, quantity)
    assert (base + (product if by_block else product // per), index) == (total_micro(expected), tier)
    if quantity <= narrow_of(tiers, per, by_block):
        assert max(base, product) < NARROW


@pytest.mark.parametrize(
    "step",
    [
        PerUnit(10**10, per=3),
        Package(10**10, 7),
        Graduated((Tier(10**6, 10**10), Tier(None, 10**9)), per=60),
        Volume((Tier(10**6, 10**9), Tier(None, 10**10))),
        Graduated((Tier(5, MAX_PRICE_MICRO), Tier(None, 0))),
    ],
)
def test_narrow_is_not_far_from_the_largest_quantity_that_it_could_be(
    step: PerUnit | Package | Graduated | Volume,
) -> None:
    per = step.size if isinstance(step, Package) else step.per
    narrow = narrow_of(tiers_of(step), per, isinstance(step, Package))
    assert narrow > 0
    beyond, _ = curve_total(step, 2 * narrow + 2 * per)
    assert total_micro(beyond) * per >= NARROW


def test_the_wildest_tariff_compiles() -> None:
    tiers = (*(Tier(10**17 * n, MAX_PRICE_MICRO, MAX_PRICE_MICRO) for n in range(1, 40)), Tier(None, MAX_PRICE_MICRO))
    tariff = Tariff((Graduated(tiers, per=MAX_PER), Graduated(tiers)))
    compiled = compile_catalogue(Catalogue((Price(((0, tariff),)),), 0, 10))
    assert len(compiled.tiers) == 80


def test_rates_that_cost_alike_share_a_row_and_keep_their_own_index() -> None:
    card = RateCard(tuple(Rate(str(prefix), 5 if prefix % 2 else 7) for prefix in range(10, 60)))
    compiled = compile_catalogue(Catalogue((Price(((0, Tariff((card,))),)),), 0, 10))
    assert len(compiled.rates) == 2
    assert sorted(set(compiled.ranges["rate"].tolist()) - {-1}) == list(range(50))


def test_tables_travel_to_another_process_whole() -> None:
    card = RateCard((Rate("7", 5), Rate("79", 7)))
    compiled = compile_catalogue(Catalogue((Price(((0, Tariff((card, PerUnit(3)))),)),), 0, 10, ("family",)))
    copy = pickle.loads(pickle.dumps(compiled))
    for field in fields(compiled):
        mine, theirs = getattr(compiled, field.name), getattr(copy, field.name)
        assert np.array_equal(mine, theirs) if isinstance(mine, np.ndarray) else mine == theirs
