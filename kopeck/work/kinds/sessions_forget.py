"""sessions.forget: sign-ins that have expired, and counts of wrong tries that mean nothing any more, are deleted.

Rules. In slices; another attempt deletes what is left. Nobody who is signed in notices.

Does not know: when a session expires (web.access.sessions), what a try is (web.access.throttle).
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from billing.database.cursors import Cursor
from kopeck.databases.transactions import in_transaction
from kopeck.work.context import ChildContext
from web.access.sessions import forget_expired
from web.access.throttle import forget_old

#: Rows deleted in one transaction.
SLICE: Final = 5_000


def forget_sessions(context: ChildContext) -> Mapping[str, Any]:
    """Delete them. No arguments."""
    sessions = _all(context, forget_expired, 0)
    return {"sessions": sessions, "tries_and_browsers": _all(context, forget_old, sessions)}


def _all(context: ChildContext, forget: Callable[[Cursor, int], Awaitable[int]], before: int) -> int:
    deleted = 0
    while gone := in_transaction(context.dsn, lambda cur: forget(cur, SLICE)):
        deleted += gone
        context.progress(before + deleted, None, "rows")
        context.check_cancelled()
    return deleted
