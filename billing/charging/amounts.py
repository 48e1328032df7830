"""From exact sums to the amounts of invoice lines: promotions off, rounded once, where they cannot be with a cause.

Rules. What one order pays for one item in one period is one line, or several *parts* of it where versions of different
tax or rounding meet. Promotions come off the line's whole sum and are shared among its parts by their sums, as in
catalogue_rate; then each part is rounded by its own mode and becomes a line of the invoice.

Does not know: where sums come from, invoices.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from billing.catalogue.model import Promotion, discounts_of
from billing.charging.prices import RowTable
from ratingcore.arrays import Ints
from ratingcore.lines import Sums, round_sums
from ratingcore.money import Minor, split_minor
from ratingcore.rounding import MICRO_PER_MINOR, divide

#: Steps beyond it are no quantity of a line; also the bound of one event (ratingcore.tariff.MAX_QUANTITY).
MAX_QUANTITY: Final = 10**18


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a period cannot be billed: a code and a sentence. usage_id: the event it is about, else None."""

    period: int
    reason: str
    detail: str
    usage_id: int | None = None


@dataclass(frozen=True, slots=True)
class Drafts:
    """Lines of invoices before they have one. period: index into Due.periods; item: code; place, part: their order."""

    period: Ints
    kind: Ints
    item: Ints
    place: Ints
    part: Ints
    quantity: Ints
    discount_minor: Ints
    amount_minor: Ints
    tax_ppm: Ints
    inside: Ints


@dataclass(frozen=True, slots=True)
class Unrounded:
    """Exact sums of parts of lines. line: equal, and side by side, for parts of one line; version: of the price table.

    discounts: number of the set of promotions that come off the line.
    """

    line: Ints
    period: Ints
    kind: Ints
    item: Ints
    place: Ints
    part: Ints
    quantity: Ints
    sums: Sums
    discounts: Ints
    version: Ints


def joined(drafts: Sequence[Drafts]) -> Drafts:
    """All of these, one after the other."""
    return Drafts(*(np.concatenate([getattr(one, name.name) for one in drafts]) for name in fields(Drafts)))


def amounts_of(
    parts: Unrounded, table: RowTable, sets: Sequence[tuple[Promotion, ...]], names: Sequence[str]
) -> tuple[Drafts, list[Cause]]:
    """The lines that parts come to.

    Args:
        sets: sets of promotions by number.
        names: of items, for causes.
    """
    off = _take_off(parts, sets)
    rounded = round_sums(parts.sums, table.rounding[parts.version])
    causes = [
        Cause(int(parts.period[row]), "out_of_range", f"item {names[parts.item[row]]} comes to too large a sum")
        for row in np.flatnonzero(rounded.reject)
    ]
    drafts = Drafts(
        parts.period,
        parts.kind,
        parts.item,
        parts.place,
        parts.part,
        parts.quantity,
        off,
        rounded.amount_minor,
        table.tax_ppm[parts.version],
        table.inside[parts.version].astype(np.int64),
    )
    return drafts, causes


def _take_off(parts: Unrounded, sets: Sequence[tuple[Promotion, ...]]) -> Ints:
    """Take promotions off the sums, in place; what they took, in minor units. What repeats is worked out once."""
    off = np.zeros(len(parts.line), np.int64)
    rows = np.flatnonzero(parts.discounts)
    if not len(rows):
        return off
    begins = np.flatnonzero(np.diff(parts.line[rows], prepend=-1))
    known: dict[tuple[int, ...], list[tuple[int, int, int]]] = {}
    sums = (parts.sums.whole[rows], parts.sums.rest[rows])
    chosen, whole, rest = (one.tolist() for one in (parts.discounts[rows], *sums))
    found: list[tuple[int, int, int]] = []
    for begin, end in zip(begins.tolist(), [*begins[1:].tolist(), len(rows)], strict=True):
        values = [whole[row] * MICRO_PER_MINOR + rest[row] for row in range(begin, end)]
        key = (chosen[begin], *values)
        if key not in known:
            known[key] = _discounted(sets[chosen[begin]], values)
        found += known[key]
    parts.sums.whole[rows], parts.sums.rest[rows], off[rows] = np.array(found, np.int64).T
    return off


def _discounted(promotions: Iterable[Promotion], values: list[int]) -> list[tuple[int, int, int]]:
    """(whole, rest, off in minor units) of each part of a line."""
    steps = discounts_of(promotions, sum(values))
    taken = steps[0].before_micro - steps[-1].after_micro if steps else 0
    shares = split_minor(taken, [max(0, value) for value in values]) if taken else [Minor(0)] * len(values)
    return [
        (*divmod(value - share, MICRO_PER_MINOR), divide(share, MICRO_PER_MINOR))
        for value, share in zip(values, shares, strict=True)
    ]
