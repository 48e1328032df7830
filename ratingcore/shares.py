"""Shares of amounts: a price for a period times a quantity, times the part of the period that is charged.

Rules. ``amount * quantity * num / den`` is rounded once, to the micro, half away from zero; what comes out is a sum as
``lines.Sums`` has it. Beyond 10^15 minor units is a reject, never a wrap. The face of the kernel in ``_shares.pyx``.

Does not know: what a period is, or why only part of it is charged.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from ratingcore import _shares
from ratingcore.arrays import Bytes, Ints, column, require_range
from ratingcore.lines import Sums
from ratingcore.money import MAX_MINOR
from ratingcore.tariff import MAX_EVENT_MICRO

MAX_COUNT: Final = 10**9
#: Seconds of ten years, the longest period, are a third of it.
MAX_PARTS: Final = 10**9

assert (MAX_EVENT_MICRO * MAX_COUNT * MAX_PARTS + MAX_PARTS) * 2 < 2**127


@dataclass(frozen=True, slots=True)
class Shared:
    """Exact sums in micro. reject: 1 where one passed MAX_MINOR; its sum is then 0 and must not be used."""

    sums: Sums
    reject: Bytes


def share_amounts(amount_micro: ArrayLike, quantity: ArrayLike, num: ArrayLike, den: ArrayLike) -> Shared:
    """``amount_micro * quantity * num / den`` in every row.

    Args:
        amount_micro: up to MAX_EVENT_MICRO either way.
        quantity: 0 to MAX_COUNT.
        num, den: the share, 0 <= num <= MAX_PARTS, 1 <= den <= MAX_PARTS.

    Raises:
        TypeError, ValueError: columns that are not such.
    """
    amounts: Ints = column("amount_micro", amount_micro, np.int64)
    count = len(amounts)
    counts, nums, dens = (
        column(name, values, np.int64, count) for name, values in (("quantity", quantity), ("num", num), ("den", den))
    )
    require_range("amount_micro", amounts, -MAX_EVENT_MICRO, MAX_EVENT_MICRO)
    require_range("quantity", counts, 0, MAX_COUNT)
    require_range("num", nums, 0, MAX_PARTS)
    require_range("den", dens, 1, MAX_PARTS)
    shared = Shared(Sums(np.empty(count, np.int64), np.empty(count, np.int64)), np.empty(count, np.uint8))
    _shares.share_amounts(amounts, counts, nums, dens, MAX_MINOR, shared.sums.whole, shared.sums.rest, shared.reject)
    return shared
