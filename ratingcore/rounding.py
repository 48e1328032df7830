"""Rounding: the one place where an exact quotient becomes an integer.

Rules. Rated amounts are ``micro``: integers of 1/1,000,000 of a minor unit. Events stay in micro; a line is the
wide sum of its events and is rounded once, by ``round_micro``, half away from zero unless its price names another
mode. Whatever needs a quotient (a price per 60 seconds, a share of a tax) takes it from ``divide``. The kernels of
``_lines.pyx`` and ``_rate.pyx`` repeat these few lines in C and are held to them by tests/ratingcore.

Does not know: what is being rounded, currencies with other than integer minor units.
"""

from enum import IntEnum
from typing import Final

from ratingcore.money import Minor

#: Parts of a minor unit that a price or a rated amount can tell apart.
MICRO_PER_MINOR: Final = 1_000_000


class Rounding(IntEnum):
    """Modes by name; the numbers are what compiled tables hold and never change their meaning."""

    HALF_AWAY = 0
    HALF_EVEN = 1
    AWAY = 2
    TOWARD_ZERO = 3
    FLOOR = 4
    CEILING = 5


def rounding_of(name: str) -> Rounding:
    """The mode a catalogue names, in lower case with underscores.

    Raises:
        ValueError: no such mode; the message lists those there are.

    >>> rounding_of("half_even").name
    'HALF_EVEN'
    """
    for mode in Rounding:
        if mode.name.lower() == name:
            return mode
    raise ValueError(f"no rounding {name!r}: one of {', '.join(mode.name.lower() for mode in Rounding)}")


def divide(numerator: int, denominator: int, mode: Rounding = Rounding.HALF_AWAY) -> int:
    """``numerator / denominator`` as an integer.

    Args:
        numerator: any integer.
        denominator: positive.
        mode: what becomes of the rest.

    Raises:
        ValueError: a denominator that is not positive.

    >>> divide(5, 2), divide(-5, 2), divide(5, 2, Rounding.HALF_EVEN), divide(-5, 2, Rounding.CEILING)
    (3, -3, 2, -2)
    """
    if denominator <= 0:
        raise ValueError(f"a denominator is positive, not {denominator}")
    whole, rest = divmod(abs(numerator), denominator)
    if rest and _goes_away(whole, rest, denominator, numerator < 0, mode):
        whole += 1
    return -whole if numerator < 0 else whole


def _goes_away(whole: int, rest: int, denominator: int, negative: bool, mode: Rounding) -> bool:
    """Does a magnitude of ``whole`` and a rest that is not zero move away from zero?"""
    match mode:
        case Rounding.HALF_AWAY:
            return 2 * rest >= denominator
        case Rounding.HALF_EVEN:
            return 2 * rest > denominator or (2 * rest == denominator and whole % 2 == 1)
        case Rounding.AWAY:
            return True
        case Rounding.TOWARD_ZERO:
            return False
        case Rounding.FLOOR:
            return negative
        case Rounding.CEILING:
            return not negative


def round_micro(amount_micro: int, mode: Rounding = Rounding.HALF_AWAY) -> Minor:
    """A rated amount or a line's sum in micro to minor units.

    >>> round_micro(1_500_000), round_micro(-1_500_000), round_micro(1_499_999)
    (2, -2, 1)
    """
    return Minor(divide(amount_micro, MICRO_PER_MINOR, mode))
