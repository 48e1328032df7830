"""Lines: what rated events add up to, rounded once, taxed, and shared out. The face of the kernels in ``_lines.pyx``.

Rules. A line's sum is exact: whole minor units and a rest of micro (see ``Sums``); it is rounded once, by its own
mode. A rounded line beyond 10^15 minor units is rejected, never wrapped. Tax is of the rounded line, half away from
zero. Shares sum to the whole.

Does not know: which events belong to which line, or what a tax class is.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from ratingcore import _lines
from ratingcore.arrays import Bytes, Ints, column, require_range
from ratingcore.money import MAX_MINOR
from ratingcore.rounding import MICRO_PER_MINOR, Rounding

#: Tax rates are parts of a million of the net: 220_000 is 22 %. Ten times the net is beyond any law.
MAX_TAX_PPM: Final = 10_000_000
#: Weights of a split add up to less than int64 holds, however many there are.
MAX_WEIGHT: Final = 10**15
MAX_SPLIT_PARTS: Final = 9_000


@dataclass(frozen=True, slots=True)
class Sums:
    """Exact sums per line: ``whole[i] * 10^6 + rest[i]`` micro, 0 <= rest < 10^6. ``add_events`` adds in place.

    whole never leaves int64 before 10^6 events of the largest amount meet in one line.
    """

    whole: Ints
    rest: Ints


@dataclass(frozen=True, slots=True)
class Rounded:
    """Lines in minor units. reject: 1 where the sum passed MAX_MINOR; its amount is then 0 and must not be used."""

    amount_minor: Ints
    reject: Bytes


@dataclass(frozen=True, slots=True)
class Taxed:
    """Lines with tax: ``net + tax == gross`` in every row, one of them being the amount that came in."""

    net_minor: Ints
    tax_minor: Ints
    gross_minor: Ints


def new_sums(lines: int) -> Sums:
    """Sums of nothing for ``lines`` lines."""
    return Sums(np.zeros(lines, np.int64), np.zeros(lines, np.int64))


def add_events(sums: Sums, line: ArrayLike, amount_micro: ArrayLike, reject: ArrayLike | None = None) -> None:
    """Add rated events to the lines they belong to, in place.

    Args:
        sums: one row per line.
        line: row of ``sums`` per event.
        amount_micro: micro per event.
        reject: 0 where the event counts; all count where it is None.

    Raises:
        TypeError, ValueError: columns that are not integers, of unequal length, or naming no line.
    """
    amounts: Ints = column("amount_micro", amount_micro, np.int64)
    rows: Ints = column("line", line, np.int64, len(amounts))
    flags: Bytes = np.zeros(len(amounts), np.uint8) if reject is None else column("reject", reject, np.uint8, len(rows))
    require_range("line", rows, 0, len(sums.whole) - 1)
    _lines.sum_lines(amounts, rows, flags, sums.whole, sums.rest)


def round_sums(sums: Sums, mode: ArrayLike | Rounding = Rounding.HALF_AWAY) -> Rounded:
    """Every line's sum in minor units, rounded once.

    Args:
        sums: exact sums.
        mode: one ``Rounding`` for all, or a column of them.

    Raises:
        TypeError, ValueError: a mode there is not, or a column of another length.
    """
    count = len(sums.whole)
    given = np.full(count, int(mode)) if isinstance(mode, Rounding) else mode
    modes = column("mode", given, np.int8, count)
    require_range("mode", modes, min(Rounding), max(Rounding))
    require_range("rest", sums.rest, 0, MICRO_PER_MINOR - 1)
    rounded = Rounded(np.zeros(count, np.int64), np.zeros(count, np.uint8))
    _lines.round_lines(sums.whole, sums.rest, modes, MAX_MINOR, rounded.amount_minor, rounded.reject)
    return rounded


def tax_lines(amount_minor: ArrayLike, rate_ppm: ArrayLike, inside: ArrayLike) -> Taxed:
    """Tax of rounded lines.

    Args:
        amount_minor: minor units, up to 10^15 either way.
        rate_ppm: parts of a million, 0 to MAX_TAX_PPM.
        inside: 1 where the amount contains its tax, 0 where tax comes on top.

    Raises:
        TypeError, ValueError: columns that are not such.
    """
    amounts: Ints = column("amount_minor", amount_minor, np.int64)
    rates: Ints = column("rate_ppm", rate_ppm, np.int64, len(amounts))
    flags: Bytes = column("inside", inside, np.uint8, len(amounts))
    require_range("amount_minor", amounts, -MAX_MINOR, MAX_MINOR)
    require_range("rate_ppm", rates, 0, MAX_TAX_PPM)
    require_range("inside", flags, 0, 1)
    taxed = Taxed(np.zeros_like(amounts), np.zeros_like(amounts), np.zeros_like(amounts))
    _lines.tax_lines(amounts, rates, flags, taxed.net_minor, taxed.tax_minor, taxed.gross_minor)
    return taxed


def split_lines(total_minor: ArrayLike, first: ArrayLike, weight: ArrayLike) -> Ints:
    """Share totals by weights so that the parts sum to the whole: ``money.split_minor`` for many at once.

    Args:
        total_minor: one total per group, up to 10^15 either way.
        first: one more than there are groups; group g owns ``weight[first[g]:first[g + 1]]``.
        weight: 0 to 10^15 each, at most MAX_SPLIT_PARTS a group, not all zero within one.

    Returns:
        The parts, in the order of ``weight``.

    Raises:
        TypeError, ValueError: columns that are not such.
    """
    totals: Ints = column("total_minor", total_minor, np.int64)
    starts: Ints = column("first", first, np.int64, len(totals) + 1)
    weights: Ints = column("weight", weight, np.int64)
    require_range("total_minor", totals, -MAX_MINOR, MAX_MINOR)
    require_range("weight", weights, 0, MAX_WEIGHT)
    if starts[0] != 0 or starts[-1] != len(weights):
        raise ValueError(f"first: must run from 0 to {len(weights)}")
    require_range("parts of a group", np.diff(starts), 1, MAX_SPLIT_PARTS)
    parts = np.zeros(len(weights), np.int64)
    if len(totals) == 0:
        return parts
    require_range("sum of a group's weights", np.add.reduceat(weights, starts[:-1]), 1, MAX_WEIGHT * MAX_SPLIT_PARTS)
    _lines.split_lines(totals, starts, weights, parts)
    return parts
