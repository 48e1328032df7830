"""Truth 9 on a live database: lines of invoices computed again by the judge, from the rows that still stand.

Rules. As in billing.verification.ledger: nothing written, a snapshot for each batch. A sample is drawn anew each time,
about the same number from each block of invoices, one line of an invoice; every line is taken where asked for, or where
there are no more than the sample is to have. BATCH lines are in memory at once.

Does not know: how a line comes about (billing.explanation).
"""

from collections.abc import AsyncIterator
from typing import Any, Final

from billing.catalogue.model import Catalogue
from billing.database.cursors import Cursor
from billing.explanation.store import KINDS, judge_lines
from billing.verification.records import Check, check_of
from billing.verification.slices import Say, silent, snapshot

TRUTH: Final = 9
#: Invoices are drawn in excess, for some are drawn twice and some have no such line.
_DRAWN_FOR_ONE: Final = 3

#: Lines computed again unless another number is asked for.
SAMPLE: Final = 1_000
BATCH: Final = 500

_DRAWN: Final = """
    WITH blocks AS (
        SELECT b.id, b.invoices_count FROM invoice_blocks b
        WHERE b.run_id IS NOT NULL AND b.state IN ('posted', 'issued')
    ), picked AS (
        SELECT DISTINCT (b.id << 20) + floor(random() * b.invoices_count)::bigint AS invoice_id
        FROM blocks b, generate_series(1, 1 + %(drawn)s / (SELECT greatest(1, count(*)) FROM blocks)::int)
    )
    SELECT l.invoice_id, l.line
    FROM picked p CROSS JOIN LATERAL (
        SELECT l.invoice_id, l.line FROM invoice_lines l
        WHERE l.invoice_id = p.invoice_id AND l.kind = ANY(%(kinds)s) ORDER BY random() LIMIT 1) l
    ORDER BY random() LIMIT %(sample)s
"""

_COUNTED: Final = """
    SELECT count(*) FROM (
        SELECT FROM invoice_lines l
        JOIN invoice_blocks b ON b.id = l.invoice_id >> 20 AND b.state IN ('posted', 'issued')
        WHERE l.kind = ANY(%(kinds)s) LIMIT %(limit)s) n
"""

_ALL: Final = """
    SELECT l.invoice_id, l.line FROM invoice_lines l
    JOIN invoice_blocks b ON b.id = l.invoice_id >> 20 AND b.state IN ('posted', 'issued')
    WHERE (l.invoice_id, l.line) > (%(invoice_id)s, %(line)s) AND l.kind = ANY(%(kinds)s)
    ORDER BY l.invoice_id, l.line LIMIT %(limit)s
"""


async def check_explained(cur: Cursor, sample: int | None = SAMPLE, say: Say = silent) -> Check:
    """Lines come to the same minor unit when the judge computes them again.

    Args:
        cur: aiopg cursor, in no transaction.
        sample: how many; None: every line there is.
    """
    catalogues: dict[Any, Catalogue] = {}
    examined, faults = 0, []
    are_few = sample is None or await _count(cur, sample + 1) <= sample
    batches = _every(cur) if sample is None or are_few else _drawn(cur, sample)
    async for batch in batches:
        say("lines computed again", examined, None)
        async with snapshot(cur):
            judged = await judge_lines(cur, batch, catalogues)
        for one in judged:
            examined += 1
            if one.wrong:
                what = f"{one.line.kind} {one.line.item}".strip()
                faults.append(f"invoice {one.line.invoice_id} line {one.line.line} ({what}): {one.wrong}")
    return check_of(TRUTH, "lines come to the same when the judge computes them", examined, "lines", faults)


async def _count(cur: Cursor, most: int) -> int:
    """Lines there are, counted up to ``most``."""
    await cur.execute(_COUNTED, {"kinds": list(KINDS), "limit": most})
    return int((await cur.fetchone())[0])


async def _drawn(cur: Cursor, sample: int) -> AsyncIterator[list[tuple[int, int]]]:
    await cur.execute(_DRAWN, {"sample": sample, "drawn": _DRAWN_FOR_ONE * sample, "kinds": list(KINDS)})
    rows = await cur.fetchall()
    for first in range(0, len(rows), BATCH):
        yield rows[first : first + BATCH]


async def _every(cur: Cursor) -> AsyncIterator[list[tuple[int, int]]]:
    last = (0, 0)
    while True:
        await cur.execute(_ALL, {"invoice_id": last[0], "line": last[1], "kinds": list(KINDS), "limit": BATCH})
        rows = await cur.fetchall()
        if not rows:
            return
        yield rows
        last = rows[-1]
