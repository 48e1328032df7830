"""What is no tariff is refused when it is made, with a message that names the step and the number."""

from collections.abc import Callable

import pytest

from ratingcore.bands import DAYS, Rule, calendar_of
from ratingcore.tariff import (
    MAX_METER,
    MAX_PRICE_MICRO,
    MAX_STEPS,
    Allowance,
    Cap,
    Catalogue,
    Flat,
    Graduated,
    Increments,
    Percentage,
    PerUnit,
    Price,
    Rate,
    RateCard,
    Scope,
    Stairstep,
    Step,
    Tariff,
    Tax,
    Tier,
    Volume,
    meters_of,
)

WEEK = calendar_of("Europe/Moscow", [Rule(DAYS, 0, 480, "night"), Rule(DAYS, 480, 1440, "day")])
ONE = PerUnit(1)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (PerUnit(-1), "step 1 .PerUnit.: price_micro is -1, outside 0"),
        (PerUnit(MAX_PRICE_MICRO + 1), "price_micro is 1000000000000000001"),
        (PerUnit(1, per=0), "per is 0, outside 1"),
        (PerUnit(1.5), "price_micro is an integer, not 1.5"),  # type: ignore[arg-type]
        (PerUnit(True), "price_micro is an integer, not True"),
        (PerUnit(1, free=-1), "free is -1"),
        (Flat(-1), "amount_micro is -1"),
        (Graduated(()), "1 to 100000 tiers, not 0"),
        (Graduated((Tier(10, 1),)), "tier 1: the last tier, and only it, is without end"),
        (Graduated((Tier(None, 1), Tier(None, 1))), "tier 1: the last tier"),
        (Volume((Tier(10, 1), Tier(10, 1), Tier(None))), "tier 2 ends at 10, not above 10"),
        (Volume((Tier(10, 1), Tier(9, 1), Tier(None))), "tier 2 ends at 9, not above 10"),
        (Volume((Tier(MAX_METER + 1, 1), Tier(None))), "tier 1: upto is 4000000000000000001"),
        (Stairstep((Tier(None, 1),)), "tier 1 of a stairstep has a flat, no price"),
        (Percentage(1, minimum_micro=5, maximum_micro=4), "the maximum 0.00000004 is below the minimum 0.00000005"),
        (Increments(1, 0), "next is 0"),
        (Allowance(5, pool="family"), "a quantity of its own or a pool, not both"),
        (RateCard(()), "1 to 2000000 rates, not 0"),
        (RateCard((Rate("7a", 1),)), "prefix '7a' is not of digits"),
        (RateCard((Rate("٧", 1),)), "is not of digits"),
        (RateCard((Rate("7" * 16, 1),)), "more than 15 digits"),
        (RateCard((Rate("7", 1), Rate("7", 2))), "prefix '7' comes twice"),
        (RateCard((Rate("7", 1, per=0),)), "prefix '7': per is 0"),
        (PerUnit(1, bands=("night",)), "no calendar"),
    ],
)
def test_a_step_that_is_none_is_refused(step: Step, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tariff((step,))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Tariff(()), "1 to 32 steps, not 0"),
        (lambda: Tariff((ONE,) * (MAX_STEPS + 1)), "1 to 32 steps, not 33"),
        (lambda: Tariff((ONE,), tax=Tax(-1, True)), "tax rate_ppm is -1"),
        (lambda: Tariff((PerUnit(1, bands=("noon",)),), WEEK), "no band 'noon': one of night, day"),
        (lambda: Tariff((Increments(1, 1), RateCard((Rate("", 1),)))), "already counts increments"),
        (lambda: Tariff((PerUnit(1, meter="m"), PerUnit(2, meter="m"))), "step 2 .PerUnit.: a step before it already"),
        (
            lambda: Tariff((PerUnit(1, meter="m", bands=("day",)), PerUnit(2, meter="m")), WEEK),
            "already counts the meter",
        ),
        (
            lambda: Tariff(
                (
                    PerUnit(1, meter="m", bands=("day",)),
                    PerUnit(2, meter="m", bands=("night",), scope=Scope.EVENT),
                ),
                WEEK,
            ),
            "counts both by event and by period",
        ),
        (lambda: Price(()), "one or more versions"),
        (lambda: Price(((5, Tariff((ONE,))), (5, Tariff((ONE,))))), "ascending order"),
        (
            lambda: Price(((0, Tariff((ONE,))), (1, Tariff((PerUnit(1, scope=Scope.EVENT),))))),
            "by event in one version and by period in another",
        ),
        (
            lambda: Price(tuple((at, Tariff(tuple(Cap(1, meter=f"{at} {n}") for n in range(20)))) for at in range(2))),
            "more than 64 meters",
        ),
        (lambda: Catalogue((), 0, 1), "a price at least"),
        (lambda: Catalogue((Price(((0, Tariff((ONE,))),)),), 1, 1), "ends after it starts"),
        (lambda: Catalogue((Price(((0, Tariff((ONE,))),)),), 0, 1, ("a", "a")), "different names"),
        (lambda: Catalogue((Price(((0, Tariff((Allowance(pool="x"),))),)),), 0, 1, ("a",)), "no pool 'x'"),
    ],
)
def test_what_does_not_go_together_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_steps_of_different_bands_may_share_a_meter_and_count_in_increments_each() -> None:
    tariff = Tariff(
        (
            Increments(60, 60, bands=("day",)),
            Increments(60, 1, bands=("night",)),
            PerUnit(1, meter="m", bands=("day",)),
            PerUnit(2, meter="m", bands=("night",)),
        ),
        WEEK,
    )
    assert [key for key, _ in meters_of(tariff)] == [("m", "quantity")] * 2
