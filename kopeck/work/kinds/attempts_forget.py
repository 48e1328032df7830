"""attempts.forget: old calls that changed no payment are deleted; the work of `kopeck attempts forget`.

Rules. In slices, while gateways run; another attempt deletes what is left.

Does not know: what attempts are (gateway.payments.attempts), how the journal keeps its copies.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from billing.database.cursors import Cursor
from gateway.journal.journal import Journal
from gateway.journal.search import JournalAway
from gateway.payments.store import forget_attempts
from kopeck.databases.stores import Stores
from kopeck.databases.transactions import CommandFailed, in_transaction
from kopeck.work.context import ChildContext
from web.access.audit import record

#: Attempts deleted in one transaction.
SLICE: Final = 10_000


def run_forget(context: ChildContext) -> Mapping[str, Any]:
    """Delete them. arguments: days (age), else gateway.attempts_keep_days."""
    age_days = max(30, int(context.arguments.get("days") or context.settings.gateway.attempts_keep_days))
    before = datetime.now(UTC) - timedelta(days=age_days)
    stores = Stores(context.dsn, "", context.journal_uri, context.journal_database)

    def tell(deleted: int) -> None:
        context.check_cancelled()
        context.progress(deleted, None, "attempts")

    deleted, in_journal = forget_all(stores, before, context.asked_by, tell)
    return {"before": before.isoformat(), "deleted": deleted, "deleted_in_journal": in_journal}


def forget_all(stores: Stores, before: datetime, actor: str, tell: Callable[[int], None]) -> tuple[int, int]:
    """Delete attempts from before an instant, and tell the audit record; how many of PostgreSQL and of the journal.

    Raises:
        CommandFailed: the journal is away; PostgreSQL's are deleted then.
    """
    deleted = 0
    while gone := in_transaction(stores.dsn, lambda cur: forget_attempts(cur, before, SLICE)):
        deleted += gone
        tell(deleted)
    in_journal = asyncio.run(_forget_in_journal(stores, before))

    async def note(cur: Cursor) -> None:
        await record(cur, actor, "attempts_forgotten", "", "", "", before=before.isoformat(), deleted=deleted)

    in_transaction(stores.dsn, note)
    return deleted, in_journal


async def _forget_in_journal(stores: Stores, before: datetime) -> int:
    journal = Journal(stores.journal_uri, stores.journal_database)
    try:
        return await journal.forget_attempts(before)
    except JournalAway as error:
        raise CommandFailed(f"{error}; PostgreSQL's attempts are deleted, run it again for the journal's") from error
    finally:
        journal.close()
