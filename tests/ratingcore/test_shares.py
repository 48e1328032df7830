"""Shares of amounts against the one rounding function, on both sides of 64 bits."""

import numpy as np
import pytest
from hypothesis import example, given
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


@given(st.lists(ROWS, max_size=20))
@example([(1, 1, 1, 2), (-1, 1, 1, 2), (3, 1, 1, 2), (-3, 1, 1, 2), (1, 1, 1, 3), (2, 1, 1, 3)])
@example([(2**62, 2, 1, 1), (2**62, 2, 1, 2), (2**33, 2**29, 2, 2), (3037000500, 10**9, 3, 3)])
@example([(MAX_EVENT_MICRO, MAX_COUNT, MAX_PARTS, 1), (-MAX_EVENT_MICRO, MAX_COUNT, MAX_PARTS, 1)])
@example([(10**12, 10**9, 1, 1), (10**12 + 1, 10**9, 1, 1), (-(10**12), 10**9, 1, 1), (-(10**12) - 1, 10**9, 1, 1)])
@example([(9223372036854775807 // 3, 1, 3, 2), (9223372036854775807 // 3, 1, 3, 10**9)])
def test_a_share_is_the_exact_quotient_rounded_once_or_a_reject(rows) -> None:
    columns = np.array(rows, np.int64).reshape(-1, 4).T
    shared = share_amounts(*(np.ascontiguousarray(one) for one in columns))
    found = zip(shared.sums.whole.tolist(), shared.sums.rest.tolist(), shared.reject.tolist(), strict=True)
    assert list(found) == [judged(*row) for row in rows]


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
