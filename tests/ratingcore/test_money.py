"""Money's text at the edges, and shares that sum to the whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratingcore.money import (
    MAX_MINOR,
    format_minor,
    format_price_micro,
    parse_minor,
    parse_price_micro,
    split_minor,
)


@given(st.integers(0, MAX_MINOR))
def test_what_is_printed_is_parsed_again(amount: int) -> None:
    assert parse_minor(format_minor(amount)) == amount


@pytest.mark.parametrize(("text", "amount"), [("250", 25_000), ("250.5", 25_050), ("0.07", 7), ("00012.30", 1_230)])
def test_sums_with_up_to_two_decimals_are_read(text: str, amount: int) -> None:
    assert parse_minor(text) == amount


@pytest.mark.parametrize(
    "text",
    ["", " 1", "1 ", "1,50", "1.", ".5", "1.505", "+1", "-1", "1e3", "٣", "0x10", "1_000", "10000000000000.01", "1\n"],
)
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a sum|more than"):
        parse_minor(text)


@given(st.integers(0, MAX_MINOR * 10**6))
def test_a_price_that_is_printed_is_parsed_again(price_micro: int) -> None:
    assert parse_price_micro(format_price_micro(price_micro)) == price_micro


def test_prices_are_printed_with_two_decimals_and_as_many_more_as_they_have() -> None:
    prices = [150_000_000, 1, 1_500_000, 0, -123_456_789]
    assert [format_price_micro(price) for price in prices] == ["1.50", "0.00000001", "0.015", "0.00", "-1.23456789"]


@pytest.mark.parametrize("text", ["", "1,5", "0.123456789", "-1", "1e-3", "10000000000000.00000001", ".5", "1.", "٣"])
def test_a_price_finer_than_a_micro_or_written_otherwise_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a price|more than"):
        parse_price_micro(text)


def test_a_debt_is_printed_with_its_sign() -> None:
    assert [format_minor(amount) for amount in (-5, -25_005, 0)] == ["-0.05", "-250.05", "0.00"]


@given(st.integers(-(10**18), 10**18), st.lists(st.integers(0, 10**12), min_size=1, max_size=9).filter(any))
def test_shares_sum_to_the_whole_and_none_is_a_unit_off(total: int, weights: list[int]) -> None:
    parts = split_minor(total, weights)
    assert sum(parts) == total
    for part, weight in zip(parts, weights, strict=True):
        assert abs(part * sum(weights) - total * weight) < sum(weights)
        assert weight or part == 0


@pytest.mark.parametrize("weights", [[], [0, 0], [1, -1], [2, -1]])
def test_weights_that_share_nothing_are_refused(weights: list[int]) -> None:
    with pytest.raises(ValueError, match="non-negative with a positive sum"):
        split_minor(1, weights)
