"""Money as integers of minor units, and its text at the edges.

Rules. Money is ``Minor``: an ``int`` of minor units (kopecks). No float ever touches it. Text is parsed
strictly and printed exactly; whoever needs a comma or three decimals says so by name.

Does not know: currencies' names, locales, accounts. Rounding of rated amounts lives in the rating modules.
"""

import re
from dataclasses import dataclass
from typing import Final, NewType

Minor = NewType("Minor", int)

#: No sum of ours leaves int64; 10^15 minor units is the largest single amount accepted anywhere (issue: catalogue).
MAX_MINOR: Final = 10**15

_DECIMAL: Final = re.compile(r"([0-9]{1,16})(?:\.([0-9]{1,2}))?", re.ASCII)
_PRICE: Final = re.compile(r"([0-9]{1,16})(?:\.([0-9]{1,8}))?", re.ASCII)

#: Digits are spelled out: \d would take any script's, and re.ASCII would take the case from the rouble's letters.
_TYPED: Final = re.compile(
    r"([0-9]{1,3}(?: [0-9]{3}){1,5}|[0-9]{1,13})(?:[.,]([0-9]{1,2}))?( ?(?:₽|р\.?|руб\.?))?", re.IGNORECASE
)
#: The English way. One comma alone is read two ways, so it needs decimals after it or a sign before it.
_TYPED_ENGLISH: Final = re.compile(r"(₽ ?)?([0-9]{1,3}(?:,[0-9]{3}){1,4}|[0-9]{1,13})(?:\.([0-9]{1,2}))?")


@dataclass(frozen=True, slots=True)
class TypedSum:
    """A sum as a person typed it. is_marked: it has decimals or a sign of the rouble, so it can be nothing else."""

    amount: Minor
    is_marked: bool


def parse_minor(text: str) -> Minor:
    """``"250"``, ``"250.5"``, ``"250.75"`` to minor units of a two-digit currency.

    Only ASCII digits, one dot, at most two fraction digits, no sign, no blanks, no exponent.

    Raises:
        ValueError: any other text, or more than MAX_MINOR.

    >>> parse_minor("250.75")
    25075
    """
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise ValueError(f"not a sum with at most two decimals and a dot: {text[:40]!r}")
    amount = int(match[1]) * 100 + int((match[2] or "").ljust(2, "0"))
    if amount > MAX_MINOR:
        raise ValueError(f"more than {MAX_MINOR} minor units: {text[:40]!r}")
    return Minor(amount)


def read_typed_sum(text: str) -> TypedSum | None:
    """A sum as people type it: groups of three, a comma or a dot, perhaps the sign of the rouble. None: no sum.

    >>> read_typed_sum("1 234,5"), read_typed_sum("250 руб.").amount, read_typed_sum("12-50")
    (TypedSum(amount=123450, is_marked=True), 25000, None)
    >>> read_typed_sum("₽1,234.50").amount, read_typed_sum("1,234,567").amount, read_typed_sum("1,234")
    (123450, 123456700, None)
    """
    typed = " ".join(text.split())
    if match := _TYPED.fullmatch(typed):
        units, cents, sign = match[1].replace(" ", ""), match[2], match[3]
    elif (match := _TYPED_ENGLISH.fullmatch(typed)) and (match[1] or match[3] or match[2].count(",") > 1):
        units, cents, sign = match[2].replace(",", ""), match[3], match[1] or ","
    else:
        return None
    try:
        amount = parse_minor(units + (f".{cents}" if cents else ""))
    except ValueError:  # more than any sum of ours
        return None
    return TypedSum(amount, bool(cents or sign))


def format_minor(amount: int) -> str:
    """Minor units to the wire's form: dot, two digits, sign only when negative.

    >>> format_minor(25005)
    '250.05'
    """
    sign = "-" if amount < 0 else ""
    units, cents = divmod(abs(amount), 100)
    return f"{sign}{units}.{cents:02d}"


def parse_price_micro(text: str) -> int:
    """A price in currency units, with up to eight decimals, to millionths of a minor unit of a two-digit currency.

    Only ASCII digits and one dot, as in ``parse_minor``: a price finer than that is refused, never rounded.

    Raises:
        ValueError: any other text, or more than MAX_MINOR minor units.

    >>> parse_price_micro("1.5"), parse_price_micro("0.00000001")
    (150000000, 1)
    """
    match = _PRICE.fullmatch(text)
    if match is None:
        raise ValueError(f"not a price with at most eight decimals and a dot: {text[:40]!r}")
    price = int(match[1]) * 10**8 + int((match[2] or "").ljust(8, "0"))
    if price > MAX_MINOR * 10**6:
        raise ValueError(f"more than {MAX_MINOR} minor units: {text[:40]!r}")
    return price


def format_price_micro(price_micro: int) -> str:
    """A price in currency units: two decimals, and as many more as it has.

    >>> format_price_micro(150_000_000), format_price_micro(-1)
    ('1.50', '-0.00000001')
    """
    sign = "-" if price_micro < 0 else ""
    units, rest = divmod(abs(price_micro), 10**8)
    decimals = f"{rest:08d}"
    return f"{sign}{units}.{decimals[:2]}{decimals[2:].rstrip('0')}"


def split_minor(total: int, weights: list[int]) -> list[Minor]:
    """Share ``total`` by ``weights`` so that the parts sum to the whole: floor every share, then give the
    remaining units one each from the first part on (never to a part of weight zero).

    Args:
        total: minor units, any sign.
        weights: one or more non-negative integers, not all zero.

    Raises:
        ValueError: empty, negative or all-zero weights.

    >>> split_minor(100, [1, 1, 1])
    [34, 33, 33]
    """
    whole = sum(weights)
    if whole <= 0 or any(weight < 0 for weight in weights):
        raise ValueError("weights must be non-negative with a positive sum")
    sign = -1 if total < 0 else 1
    parts = [abs(total) * weight // whole for weight in weights]
    rest = abs(total) - sum(parts)
    for index, weight in enumerate(weights):
        if rest == 0:
            break
        if weight:
            parts[index] += 1
            rest -= 1
    return [Minor(sign * part) for part in parts]
