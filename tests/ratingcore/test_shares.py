"""Shares of amounts against the one rounding function, on both sides of 64 bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratingcore.money import MAX_MINOR
from ratingcore.rounding import MICRO_PER_MINOR, divide
from ratingcore.shares import MAX_COUNT, MAX_PARTS, share_amounts
from ratingcore.tariff import MAX_EVENT_MICRO

AMOUNTS = st.integers(-MAX_EVENT_MICRO, MAX_EVENT_MICRO) | st.integers(-(10**12), 10**12)
COUNTS = st.integers(0, MAX_COUNT) | st.integers(0, 3)
PARTS = st.integers(1, MAX_PARTS) | st.integers(1, 31)
ROWS = st.tuples(AMOUNTS, COUNTS, st.integers(0, MAX_PARTS) | st.integers(0, 31), PARTS)


def judged(amount: int, quantity: int, num: int, den: int) -> tuple[int, int, int]:
    exact = divide(amount * quantity * num, den)
    if abs(exact) > MAX_MINOR * MICRO_PER_MINOR:
        return 0, 0, 1
    return *divmod(exact, MICRO_PER_MINOR), 0


def shared(rows: list[tuple[int, int, int, int]]) -> list[tuple[int, int, int]]:
    columns = np.array(rows, np.int64).reshape(-1, 4).T
    found = share_amounts(*(np.ascontiguousarray(one) for one in columns))
    return list(zip(found.sums.whole.tolist(), found.sums.rest.tolist(), found.reject.tolist(), strict=True))


@given(st.lists(ROWS, max_size=20))
def test_a_share_is_the_exact_quotient_rounded_once_or_a_reject(rows) -> None:
    assert shared(rows) == [judged(*row) for row in rows]


EDGES = [
    *((amount, 1, 1, den) for amount in (1, -1, 2, -2, 3, -3) for den in (2, 3)),
    *((sign * (2**62 + 1), 3, 1, 2) for sign in (1, -1)),
    *((sign * amount, 10**9, 1, 1) for sign in (1, -1) for amount in (10**12, 10**12 + 1)),
    *((sign * MAX_EVENT_MICRO, MAX_COUNT, MAX_PARTS, 1) for sign in (1, -1)),
    *((2**62, quantity, 1, den) for quantity in (1, 2) for den in (1, 2)),
    *((2**63 // 3, 1, 3, den) for den in (1, 2, 10**9)),
    *((-(10**12), quantity, 1, 1) for quantity in (1, 10**7)),
]


@pytest.mark.parametrize("row", EDGES)
def test_halves_go_away_from_zero_and_bounds_are_within_on_both_sides_of_64_bits(row) -> None:
    assert shared([row]) == [judged(*row)]


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ((MAX_EVENT_MICRO + 1, 1, 1, 1), "amount_micro"),
        ((1, MAX_COUNT + 1, 1, 1), "quantity"),
        ((1, -1, 1, 1), "quantity"),
        ((1, 1, MAX_PARTS + 1, 1), "num"),
        ((1, 1, 1, 0), "den"),
    ],
)
def test_what_could_pass_128_bits_is_refused_by_name(row, name) -> None:
    with pytest.raises(ValueError, match=f"^{name}: row 0"):
        share_amounts(*([value] for value in row))
