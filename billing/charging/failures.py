"""Which periods of a shard are billed: those without a fault and, of prepaid payers, those that the balance bears.

Rules. A fault belongs to the period that has it. Periods of a part follow one another, so with a period the later ones
of its order and part are left; the arrears of a period also count what its advance charge and its adjustment came to
(for the order's minimum), so they are left with these. Other parts, other orders and lines by hand are billed.

A payer with a floor pays in advance. What goes back to it is billed first; then its periods and its lines by hand
follow oldest first, by the instant at which each was due, and each is billed if what is left of the balance bears it
with tax. With a period that it does not bear the later ones of the same order are left; other orders go on.

Does not know: lines, invoices, who is suspended for what was left.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from billing.calendar import NEVER
from billing.charging.due import Flags, Periods
from billing.charging.records import ADJUSTED, ADVANCE, ARREARS, NONE, ONCE, PARTS, ManualLines
from ratingcore.arrays import Ints

#: By part, of those that are due at one instant: an adjustment and an advance charge before the arrears that count
#: them.
_RANK: Final = np.array(
    [{ADJUSTED: 0, ADVANCE: 1, ARREARS: 2}.get(part, 3 + part) for part in range(len(PARTS))], np.int64
)
_MANUAL_RANK: Final = 3 + len(PARTS)


def without_fault(periods: Periods, bad_period: Flags, bad_order: Flags) -> Flags:
    """Periods that can be billed.

    Args:
        bad_period: periods with a fault; bad_order: orders with one that is none of a period.
    """
    if not bad_period.any() and not bad_order.any():
        return np.ones(len(periods.order), np.bool_)
    advance, arrears = (np.full(len(bad_order), NEVER, np.int64) for _ in range(2))
    bad = np.flatnonzero(bad_period)
    ahead = bad[periods.part[bad] == ADVANCE]
    np.minimum.at(advance, periods.order[ahead], periods.start_s[ahead])
    followed = bad[np.isin(periods.part[bad], (ADVANCE, ARREARS, ADJUSTED))]
    np.minimum.at(arrears, periods.order[followed], periods.start_s[followed])
    kept: Flags = ~bad_period & ~bad_order[periods.order]
    kept &= (periods.part != ADVANCE) | (periods.start_s < advance[periods.order])
    kept &= (periods.part != ARREARS) | (periods.start_s < arrears[periods.order])
    return kept


@dataclass(frozen=True, slots=True)
class Held:
    """What a balance does not bear. payer: row; order: row, or NONE for a line by hand; period: the first that is left.

    amount_minor: of all that is left of the order, with tax; left_minor: what the balance could still bear.
    """

    payer: int
    order: int
    period: int
    amount_minor: int
    left_minor: int


@dataclass(frozen=True, slots=True)
class Asked:
    """What periods and lines by hand ask of payers. payer: rows, by period and by line; gross: minor units, by both."""

    period_payer: Ints
    period_gross: Ints
    line_payer: Ints
    line_gross: Ints


def hold_floors(
    periods: Periods, manual: ManualLines, asked: Asked, bears: Ints, kept: Flags, hand: Flags
) -> list[Held]:
    """Take out of ``kept`` (periods) and ``hand`` (lines by hand) what prepaid payers cannot bear.

    Args:
        bears: by payer, what its balance bears in minor units; NEVER without a floor.
    """
    size = len(bears)
    total = np.zeros(size, np.int64)
    np.add.at(total, asked.period_payer[kept], asked.period_gross[kept])
    np.add.at(total, asked.line_payer[hand], asked.line_gross[hand])
    short = (total > bears) & (total > 0)
    if not short.any():
        return []
    period = np.flatnonzero(kept & short[asked.period_payer])
    line = np.flatnonzero(hand & short[asked.line_payer])
    return _walk(*_in_turn(periods, manual, asked, period, line), bears, periods, kept, hand)


def _in_turn(
    periods: Periods, manual: ManualLines, asked: Asked, period: Ints, line: Ints
) -> tuple[Ints, Ints, Ints, Ints]:
    """(payer, gross, period or NONE, line or NONE) in the order in which the balance is asked."""
    part = periods.part[period]
    due = np.where((part == ADVANCE) | (part == ONCE), periods.from_s[period], periods.until_s[period])
    gross = np.concatenate([asked.period_gross[period], asked.line_gross[line]])
    free = np.concatenate([part == ADJUSTED, np.ones(len(line), np.bool_)])
    keys = (
        np.concatenate([_RANK[part], np.full(len(line), _MANUAL_RANK)]),
        np.concatenate([periods.order[period], np.full(len(line), NONE)]),
        np.concatenate([periods.start_s[period], manual.day_s[line]]),
        np.concatenate([due, manual.day_s[line]]),
        ~(free & (gross <= 0)),
        np.concatenate([asked.period_payer[period], asked.line_payer[line]]),
    )
    order = np.lexsort(keys)
    of_period = np.concatenate([period, np.full(len(line), NONE)])
    of_line = np.concatenate([np.full(len(period), NONE), line])
    return keys[-1][order], gross[order], of_period[order], of_line[order]


def _walk(
    payer: Ints, gross: Ints, period: Ints, line: Ints, bears: Ints, periods: Periods, kept: Flags, hand: Flags
) -> list[Held]:
    held: dict[tuple[int, int], Held] = {}
    order = np.where(period == NONE, NONE, periods.order[np.maximum(period, 0)])
    rows = zip(payer.tolist(), gross.tolist(), period.tolist(), line.tolist(), order.tolist(), strict=True)
    left, at = 0, NONE
    for who, amount, of_period, of_line, of_order in rows:
        if who != at:
            left, at = int(bears[who]), who
        before = held.get((of_order, 0)) if of_order != NONE else None
        if before is None and (amount <= left or amount <= 0):
            left -= amount
            continue
        if of_period != NONE:
            kept[of_period] = False
        else:
            hand[of_line] = False
        key = (of_order, 0) if of_order != NONE else (NONE, of_line)
        sofar = before.amount_minor if before else 0
        first = before.period if before else of_period
        held[key] = Held(who, of_order, first, sofar + amount, before.left_minor if before else left)
    return list(held.values())
