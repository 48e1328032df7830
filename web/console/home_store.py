"""What waits for people and has no store of its own that counts it.

Rules. Each statement reads an index of rows that are open, which are few.

Does not know: who asks, pages.
"""

from typing import Final

from billing.database.aiopg import quiet_cancels
from billing.database.cursors import Cursor

_APPROVALS: Final = "SELECT count(*) FROM approvals WHERE state = 'waiting' AND expires_at > now()"
_RUNS: Final = """
    SELECT r.id, r.state FROM bill_runs r WHERE r.state IN ('running', 'reviewed', 'approving') ORDER BY r.id
"""


async def limit_time(cur: Cursor, timeout_ms: int) -> None:
    """The time of every following statement of this transaction."""
    quiet_cancels()
    await cur.execute(f"SET LOCAL statement_timeout = {timeout_ms:d}")


async def waiting_approvals(cur: Cursor) -> int:
    """Requests that wait for a second person."""
    await cur.execute(_APPROVALS)
    return int((await cur.fetchone())[0])


async def open_runs(cur: Cursor) -> list[tuple[int, str]]:
    """(id, state) of bill runs that are not over."""
    await cur.execute(_RUNS)
    return [(int(row[0]), str(row[1])) for row in await cur.fetchall()]
