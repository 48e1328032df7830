"""The one rounding function, against Fraction and the names of the modes."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratingcore.rounding import MICRO_PER_MINOR, Rounding, divide, round_micro, rounding_of

NUMERATORS = st.integers(-(10**30), 10**30) | st.integers(-50, 50)
DENOMINATORS = st.integers(1, 10**20) | st.integers(1, 10)


@given(NUMERATORS, DENOMINATORS, st.sampled_from(Rounding))
def test_a_rounded_quotient_is_less_than_one_away_and_exact_where_it_divides(
    numerator: int, denominator: int, mode: Rounding
) -> None:
    exact = Fraction(numerator, denominator)
    rounded = divide(numerator, denominator, mode)
    assert abs(rounded - exact) < 1
    if exact.denominator == 1:
        assert rounded == exact


@given(NUMERATORS, DENOMINATORS)
def test_the_half_modes_go_to_a_nearest_integer_and_differ_only_at_a_tie(numerator: int, denominator: int) -> None:
    exact = Fraction(numerator, denominator)
    away, even = divide(numerator, denominator), divide(numerator, denominator, Rounding.HALF_EVEN)
    assert abs(away - exact) <= Fraction(1, 2)
    assert even == round(exact)
    assert (away == even) or (abs(away - exact) == Fraction(1, 2) and abs(away) > abs(exact))


@given(NUMERATORS, DENOMINATORS)
def test_the_directed_modes_go_where_their_names_say(numerator: int, denominator: int) -> None:
    exact = Fraction(numerator, denominator)
    assert divide(numerator, denominator, Rounding.FLOOR) <= exact <= divide(numerator, denominator, Rounding.CEILING)
    assert abs(divide(numerator, denominator, Rounding.TOWARD_ZERO)) <= abs(exact)
    assert abs(divide(numerator, denominator, Rounding.AWAY)) >= abs(exact)


@given(NUMERATORS, DENOMINATORS, st.sampled_from([Rounding.HALF_AWAY, Rounding.HALF_EVEN, Rounding.AWAY]))
def test_a_credit_rounds_as_the_charge_it_takes_back(numerator: int, denominator: int, mode: Rounding) -> None:
    assert divide(-numerator, denominator, mode) == -divide(numerator, denominator, mode)


def test_half_a_kopeck_is_charged_as_a_whole_one_unless_the_price_says_otherwise() -> None:
    half = MICRO_PER_MINOR // 2
    assert [round_micro(half, mode) for mode in Rounding] == [1, 0, 1, 0, 0, 1]
    assert [round_micro(-half, mode) for mode in Rounding] == [-1, 0, -1, 0, -1, 0]
    assert round_micro(half - 1) == 0


def test_modes_are_found_by_the_name_a_catalogue_uses_and_others_are_refused_with_the_list() -> None:
    assert [rounding_of(mode.name.lower()) for mode in Rounding] == list(Rounding)
    with pytest.raises(ValueError, match="half_away, half_even, away, toward_zero, floor, ceiling"):
        rounding_of("bankers")


@pytest.mark.parametrize("denominator", [0, -1])
def test_a_denominator_that_is_not_positive_is_refused(denominator: int) -> None:
    with pytest.raises(ValueError, match="positive"):
        divide(1, denominator)
