"""Numbers as keys: ranges are prefixes, and the kernel packs as Python does."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratingcore.digits import KEY_DIGITS, MAX_NUMBER_CHARS, NO_NUMBER, is_number, pack_number, pack_numbers

DIGITS = st.text("0123456789", max_size=20)


@given(DIGITS, st.text("0123456789", max_size=15))
def test_a_number_lies_in_the_range_of_a_prefix_exactly_when_it_begins_with_it(number: str, prefix: str) -> None:
    low = pack_number(prefix)
    assert (low <= pack_number(number) < low + (1 << (64 - 4 * len(prefix)))) == number.startswith(prefix)


@given(st.lists(DIGITS | st.text("/0189:", max_size=6) | st.text(max_size=70), max_size=20))
def test_the_kernel_packs_as_python_does(numbers: list[str]) -> None:
    cleaned = [number.rstrip("\0") for number in numbers]
    assert pack_numbers(numbers).tolist() == [pack_number(number) for number in cleaned]


def test_a_key_prints_as_the_number_reads() -> None:
    assert hex(pack_number("79161234567")) == "0x79161234567" + "0" * 5
    assert hex(pack_number("7900")) == "0x79aa" + "0" * 12
    assert pack_number("") == 0


@pytest.mark.parametrize("text", ["+7495", "7 495", "٧٤", "7495\n", "-1", "7" * (MAX_NUMBER_CHARS + 1), "1\0002"])
def test_what_is_no_number_is_marked(text: str) -> None:
    assert not is_number(text)
    assert pack_number(text) == NO_NUMBER
    assert pack_numbers([text, "7"]).tolist() == [NO_NUMBER, pack_number("7")]


def test_digits_beyond_the_sixteenth_do_not_matter_and_no_number_is_above_all_numbers() -> None:
    assert pack_number("9" * KEY_DIGITS) == pack_number("9" * MAX_NUMBER_CHARS)
    assert pack_number("0" * MAX_NUMBER_CHARS) < NO_NUMBER


def test_numbers_may_come_as_bytes_and_not_as_integers() -> None:
    assert pack_numbers(np.array([b"7495", b""], "S4")).tolist() == [pack_number("7495"), 0]
    assert pack_numbers([]).tolist() == []
    assert pack_numbers(["", ""]).tolist() == [0, 0]
    with pytest.raises(TypeError, match="numbers are text"):
        pack_numbers(np.array([7495]))
