"""Sums, rounding, tax and shares of lines: every kernel against plain Python integers."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratingcore.lines import MAX_TAX_PPM, MAX_WEIGHT, add_events, new_sums, round_sums, split_lines, tax_lines
from ratingcore.money import MAX_MINOR, split_minor
from ratingcore.rounding import MICRO_PER_MINOR, Rounding, divide, round_micro

INT64 = 2**63 - 1
#: Random ones hardly ever meet: quarters make whole units and ties.
QUARTERS = st.integers(-12, 12).map(lambda quarters: quarters * MICRO_PER_MINOR // 4)
MICROS = st.integers(-INT64, INT64) | st.integers(-3 * MICRO_PER_MINOR, 3 * MICRO_PER_MINOR) | QUARTERS
MINORS = st.integers(-MAX_MINOR, MAX_MINOR) | st.integers(-(10**13), 10**13) | st.integers(-1000, 1000)
RATES = st.sampled_from([0, 100_000, 200_000, 220_000, 500_000, MAX_TAX_PPM]) | st.integers(0, MAX_TAX_PPM)
EVENTS = st.lists(st.tuples(st.integers(0, 3), MICROS, st.integers(0, 2)), max_size=60)


@given(EVENTS, st.integers(0, 60))
def test_a_line_is_the_exact_sum_of_its_accepted_events_however_they_are_batched(
    events: list[tuple[int, int, int]], cut: int
) -> None:
    sums = new_sums(4)
    for batch in (events[:cut], events[cut:]):
        line, amount, reject = ([event[field] for event in batch] for field in range(3))
        add_events(sums, line, amount, reject)
    for row in range(4):
        exact = sum(amount for line, amount, reject in events if line == row and reject == 0)
        assert int(sums.whole[row]) * MICRO_PER_MINOR + int(sums.rest[row]) == exact
        assert 0 <= sums.rest[row] < MICRO_PER_MINOR


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("short", [0, 1])
def test_two_halves_make_a_whole_and_a_micro_less_does_not(sign: int, short: int) -> None:
    half = MICRO_PER_MINOR // 2
    sums = new_sums(1)
    add_events(sums, [0, 0], [sign * half, sign * (half - short)])
    whole, rest = divmod(sign * (2 * half - short), MICRO_PER_MINOR)
    assert (sums.whole.tolist(), sums.rest.tolist()) == ([whole], [rest])


@given(st.lists(st.tuples(MICROS, st.sampled_from(Rounding)), min_size=1, max_size=20))
def test_a_line_is_rounded_by_its_own_mode_as_the_one_rounding_function_rounds(
    lines: list[tuple[int, Rounding]],
) -> None:
    sums = new_sums(len(lines))
    add_events(sums, range(len(lines)), [amount for amount, _ in lines])
    rounded = round_sums(sums, [int(mode) for _, mode in lines])
    assert rounded.amount_minor.tolist() == [round_micro(amount, mode) for amount, mode in lines]
    assert not rounded.reject.any()


@pytest.mark.parametrize("mode", Rounding)
@pytest.mark.parametrize("rest", [-500_001, -500_000, -499_999, -1, 0, 1, 499_999, 500_000, 500_001])
@pytest.mark.parametrize("whole", [-2, -1, 0, 1, 2])
def test_every_mode_agrees_with_the_one_rounding_function_around_every_tie(
    whole: int, rest: int, mode: Rounding
) -> None:
    amount = whole * MICRO_PER_MINOR + rest
    sums = new_sums(1)
    add_events(sums, [0], [amount])
    assert round_sums(sums, mode).amount_minor[0] == round_micro(amount, mode)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_line_reaches_the_largest_sum_and_is_rejected_one_step_beyond(sign: int) -> None:
    sums = new_sums(3)
    sums.whole[:] = sign * MAX_MINOR
    add_events(sums, [0, 1, 2], [sign * (MICRO_PER_MINOR // 2 - 1), sign * MICRO_PER_MINOR // 2, sign * INT64])
    rounded = round_sums(sums)
    assert rounded.reject.tolist() == [0, 1, 1]
    assert rounded.amount_minor.tolist() == [sign * MAX_MINOR, 0, 0]


@given(st.lists(st.tuples(MINORS, RATES, st.booleans()), min_size=1, max_size=20))
def test_tax_is_the_rounded_share_and_net_with_tax_is_gross(lines: list[tuple[int, int, bool]]) -> None:
    amount, rate, inside = ([line[field] for line in lines] for field in range(3))
    taxed = tax_lines(amount, rate, inside)
    assert (taxed.net_minor + taxed.tax_minor == taxed.gross_minor).all()
    for row, (value, ppm, contained) in enumerate(lines):
        exact = Fraction(value * ppm, 10**6 + ppm if contained else 10**6)
        assert taxed.tax_minor[row] == divide(exact.numerator, exact.denominator)
        assert (taxed.gross_minor if contained else taxed.net_minor)[row] == value


def test_vat_of_22_percent_inside_122_roubles_is_22_and_on_top_of_100_is_22() -> None:
    taxed = tax_lines([12_200, 10_000], [220_000, 220_000], [1, 0])
    assert taxed.net_minor.tolist() == [10_000, 10_000]
    assert taxed.tax_minor.tolist() == [2_200, 2_200]
    assert taxed.gross_minor.tolist() == [12_200, 12_200]


WEIGHTS = st.lists(st.integers(0, MAX_WEIGHT) | st.integers(0, 3), min_size=1, max_size=8).filter(any)


@given(st.lists(st.tuples(MINORS, WEIGHTS), max_size=8))
def test_shares_sum_to_the_whole_and_equal_the_slow_twin(groups: list[tuple[int, list[int]]]) -> None:
    first = np.cumsum([0, *(len(weights) for _, weights in groups)])
    parts = split_lines([total for total, _ in groups], first, [w for _, weights in groups for w in weights])
    for group, (total, weights) in enumerate(groups):
        mine = parts[first[group] : first[group + 1]].tolist()
        assert sum(mine) == total
        assert mine == split_minor(total, weights)


@pytest.mark.parametrize(
    ("line", "amount", "message"),
    [
        ([2], [1], "row 0 is 2"),
        ([-1], [1], "row 0 is -1"),
        ([0, 1], [1], "expected 1"),
        ([0], [2**63], "outside"),
    ],
)
def test_events_that_name_no_line_or_do_not_fit_are_refused(line: list[int], amount: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        add_events(new_sums(2), line, amount)


def test_a_float_is_no_amount() -> None:
    with pytest.raises(TypeError, match="integers expected"):
        add_events(new_sums(1), [0], [1.5])


@pytest.mark.parametrize(
    ("first", "weight", "message"),
    [([0, 0, 2], [1, 1], "parts of a group"), ([0, 1, 2], [1, 0], "weights"), ([0, 1, 1], [1, 1], "from 0 to 2")],
)
def test_groups_without_parts_or_weight_are_refused(first: list[int], weight: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split_lines([5, 5], first, weight)
