"""Which periods of a shard are billed: those without a fault and, of prepaid payers, those that the balance bears.

Rules. A fault belongs to the period that has it. Periods of a part follow one another, so with a period the later ones
of its order and part are left; the arrears of a period also count what its advance charge and its true-up came to (for
the order's minimum), so they are left with these. Other parts, other orders and lines by hand are billed.

A payer with a floor pays in advance. What goes back to it is billed first; then its periods and its lines by hand
follow oldest first, by the instant at which each was due, and each is billed if what is left of the balance bears it
with tax. With a period that it does not bear the later ones of the same order are left; other orders go on.

Does not know: lines, invoices, who is suspended for what was left.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from billing.charging.due import Flags, Tiles
from billing.charging.records import ADVANCE, ARREARS, NEVER, NONE, ONCE, PARTS, TRUEUP, ManualLines
from ratingcore.arrays import Ints

#: By part, of those that are due at one instant: a true-up and an advance charge before the arrears that count them.
_RANK: Final = np.array(
    [{TRUEUP: 0, ADVANCE: 1, ARREARS: 2}.get(part, 3 + part) for part in range(len(PARTS))], np.int64
)
_MANUAL_RANK: Final = 3 + len(PARTS)


def without_fault(tiles: Tiles, bad_tile: Flags, bad_order: Flags) -> Flags:
    """Tiles that can be billed.

    Args:
        bad_tile: tiles with a fault; bad_order: orders with one that is none of a tile.
    """
    if not bad_tile.any() and not bad_order.any():
        return np.ones(len(tiles.order), np.bool_)
    advance, arrears = (np.full(len(bad_order), NEVER, np.int64) for _ in range(2))
    bad = np.flatnonzero(bad_tile)
    ahead = bad[tiles.part[bad] == ADVANCE]
    np.minimum.at(advance, tiles.order[ahead], tiles.start_s[ahead])
    followed = bad[np.isin(tiles.part[bad], (ADVANCE, ARREARS, TRUEUP))]
    np.minimum.at(arrears, tiles.order[followed], tiles.start_s[followed])
    kept: Flags = ~bad_tile & ~bad_order[tiles.order]
    kept &= (tiles.part != ADVANCE) | (tiles.start_s < advance[tiles.order])
    kept &= (tiles.part != ARREARS) | (tiles.start_s < arrears[tiles.order])
    return kept


@dataclass(frozen=True, slots=True)
class Held:
    """What a balance does not bear. payer: row; order: row, or NONE for a line by hand; tile: the first that is left.

    amount_minor: of all that is left of the order, with tax; left_minor: what the balance could still bear.
    """

    payer: int
    order: int
    tile: int
    amount_minor: int
    left_minor: int


@dataclass(frozen=True, slots=True)
class Asked:
    """What tiles and lines by hand ask of payers. payer: rows, by tile and by line; gross: minor units, by both."""

    tile_payer: Ints
    tile_gross: Ints
    line_payer: Ints
    line_gross: Ints


def hold_floors(tiles: Tiles, manual: ManualLines, asked: Asked, bears: Ints, kept: Flags, hand: Flags) -> list[Held]:
    """Take out of ``kept`` (tiles) and ``hand`` (lines by hand) what prepaid payers cannot bear.

    Args:
        bears: by payer, what its balance bears in minor units; NEVER without a floor.
    """
    size = len(bears)
    total = np.zeros(size, np.int64)
    np.add.at(total, asked.tile_payer[kept], asked.tile_gross[kept])
    np.add.at(total, asked.line_payer[hand], asked.line_gross[hand])
    short = (total > bears) & (total > 0)
    if not short.any():
        return []
    tile = np.flatnonzero(kept & short[asked.tile_payer])
    line = np.flatnonzero(hand & short[asked.line_payer])
    return _walk(*_in_turn(tiles, manual, asked, tile, line), bears, tiles, kept, hand)


def _in_turn(tiles: Tiles, manual: ManualLines, asked: Asked, tile: Ints, line: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """(payer, gross, tile or NONE, line or NONE) in the order in which the balance is asked."""
    part = tiles.part[tile]
    due = np.where((part == ADVANCE) | (part == ONCE), tiles.from_s[tile], tiles.until_s[tile])
    gross = np.concatenate([asked.tile_gross[tile], asked.line_gross[line]])
    free = np.concatenate([part == TRUEUP, np.ones(len(line), np.bool_)])
    keys = (
        np.concatenate([_RANK[part], np.full(len(line), _MANUAL_RANK)]),
        np.concatenate([tiles.order[tile], np.full(len(line), NONE)]),
        np.concatenate([tiles.start_s[tile], manual.day_s[line]]),
        np.concatenate([due, manual.day_s[line]]),
        ~(free & (gross <= 0)),
        np.concatenate([asked.tile_payer[tile], asked.line_payer[line]]),
    )
    order = np.lexsort(keys)
    of_tile = np.concatenate([tile, np.full(len(line), NONE)])
    of_line = np.concatenate([np.full(len(tile), NONE), line])
    return keys[-1][order], gross[order], of_tile[order], of_line[order]


def _walk(
    payer: Ints, gross: Ints, tile: Ints, line: Ints, bears: Ints, tiles: Tiles, kept: Flags, hand: Flags
) -> list[Held]:
    held: dict[tuple[int, int], Held] = {}
    order = np.where(tile == NONE, NONE, tiles.order[np.maximum(tile, 0)])
    rows = zip(payer.tolist(), gross.tolist(), tile.tolist(), line.tolist(), order.tolist(), strict=True)
    left, at = 0, NONE
    for who, amount, of_tile, of_line, of_order in rows:
        if who != at:
            left, at = int(bears[who]), who
        before = held.get((of_order, 0)) if of_order != NONE else None
        if before is None and (amount <= left or amount <= 0):
            left -= amount
            continue
        if of_tile != NONE:
            kept[of_tile] = False
        else:
            hand[of_line] = False
        key = (of_order, 0) if of_order != NONE else (NONE, of_line)
        sofar = before.amount_minor if before else 0
        first = before.tile if before else of_tile
        held[key] = Held(who, of_order, first, sofar + amount, before.left_minor if before else left)
    return list(held.values())
