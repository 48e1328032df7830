"""Telephone numbers as 64-bit keys, so that a prefix is a range of integers.

Rules. Four bits a digit from the top, zero as 10, and 0 where the number has ended: "7901" is 0x79a1000000000000.
So keys print as the number reads, a short number never looks like a longer one with zeros behind it, and all numbers
with a prefix lie between its key and the next. Sixteen digits fit; what follows cannot matter, because prefixes have
fifteen at most. Only ASCII digits: whoever has "+7 (901)" cleans it first.

Does not know: countries, numbering plans.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from ratingcore import _digits
from ratingcore.arrays import Words

KEY_DIGITS: Final = 16
#: Longer text is no telephone number; it bounds the memory of a batch.
MAX_NUMBER_CHARS: Final = 64


#: The key of what is no number: above every key of digits.
NO_NUMBER: Final = 2**64 - 1


def is_number(text: str) -> bool:
    """Digits only, not absurdly many; the empty text is a number without digits."""
    return not text or (text.isascii() and text.isdigit() and len(text) <= MAX_NUMBER_CHARS)


def pack_number(number: str) -> int:
    """The key of one number, NO_NUMBER where it is none.

    >>> hex(pack_number("7901"))
    '0x79a1000000000000'
    """
    if not is_number(number):
        return NO_NUMBER
    return sum((int(digit) or 10) << (60 - 4 * place) for place, digit in enumerate(number[:KEY_DIGITS]))


def pack_numbers(numbers: Sequence[str] | Sequence[bytes]) -> Words:
    """The keys of many numbers, given as text or as an array of dtype "S"; NO_NUMBER for each that is none.

    Raises:
        TypeError: something else than text.
    """
    texts = np.asarray(numbers)
    keys = np.zeros(len(texts), np.uint64)
    if len(texts) == 0:
        return keys
    if texts.dtype.kind == "U":
        texts = np.char.encode(texts, "utf-8")
    if texts.dtype.kind != "S":
        raise TypeError(f"numbers are text, not {texts.dtype}")
    width = min(max(texts.dtype.itemsize, 1), MAX_NUMBER_CHARS + 1)
    rows = np.ascontiguousarray(texts.astype(f"S{width}")).view(np.uint8).reshape(len(texts), width)
    _digits.pack_numbers(rows, keys, NO_NUMBER)
    if width > MAX_NUMBER_CHARS:
        keys[rows[:, MAX_NUMBER_CHARS] != 0] = NO_NUMBER
    return keys
