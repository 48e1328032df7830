"""Short snapshots for `kopeck verify`: a table of millions is looked at slice by slice.

Rules. A snapshot that is held keeps every dead row of the database, and payments step over them: so none lasts longer
than one slice or one statement. What belongs together (a payment with its events and transfers, a run with its blocks)
is read in one snapshot. A walk ends at what stood when it began, or it would never end.

Does not know: what is checked.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from psycopg2.extensions import TRANSACTION_STATUS_IDLE

from billing.verify_records import MAX_LISTED, Check

#: Rows of a slice, unless the caller says otherwise: about a second of PostgreSQL's work.
SLICE_ROWS: Final = 200_000

_SNAPSHOT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

#: Told where a walk has come to: what is examined, how far, of how much (None: not known).
Say = Callable[[str, int, int | None], None]


def silent(what: str, done: int, of: int | None) -> None:
    """For a caller who shows no progress."""


@asynccontextmanager
async def snapshot(cur: Any) -> AsyncIterator[None]:
    """One instant for several statements. In a transaction of the caller's, it is that one's."""
    if cur.connection.raw.info.transaction_status != TRANSACTION_STATUS_IDLE:
        yield
        return
    await cur.execute(_SNAPSHOT)
    try:
        yield
    finally:
        await cur.execute("COMMIT")


async def slices(
    cur: Any, table: str, column: str = "id", rows: int = SLICE_ROWS, say: Say = silent
) -> AsyncIterator[tuple[int, int]]:
    """Ranges (after, last] of an indexed column that together hold every value it had at the beginning.

    Args:
        table, column: names of ours, never input.
    """
    await cur.execute(f"SELECT min({column}), max({column}) FROM {table}")
    first, end = await cur.fetchone()
    if first is None:
        return
    after, done = int(first) - 1, 0
    while after < end:
        say(table.replace("_", " "), done, None)
        await cur.execute(
            f"SELECT {column} FROM {table} WHERE {column} > %(after)s AND {column} <= %(end)s"
            f" ORDER BY {column} OFFSET %(rows)s - 1 LIMIT 1",
            {"after": after, "end": end, "rows": rows},
        )
        row = await cur.fetchone()
        last = int(row[0]) if row else int(end)
        yield after, last
        after, done = last, done + rows


def together(checks: Sequence[Check]) -> Check:
    """What a check found in each slice, as one: all counted, the first listed."""
    findings = tuple(finding for check in checks for finding in check.findings)[:MAX_LISTED]
    examined, found = (sum(getattr(check, name) for check in checks) for name in ("examined", "found"))
    return replace(checks[0], examined=examined, found=found, findings=findings)
