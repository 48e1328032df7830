"""``kopeck attempts``: old calls that changed no payment are forgotten.

Does not know: what attempts are (gateway.attempts), how the journal keeps its copies.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from kopeck.cli_context import Context, actor, pass_context, shown_time

if TYPE_CHECKING:
    from kopeck.embedded import Stores

#: Attempts deleted in one transaction.
SLICE = 10_000


@click.group()
def attempts() -> None:
    """Calls of partners and strangers that changed no payment."""


@attempts.command()
@click.option("--days", type=click.IntRange(30), help="Age in days; else gateway.attempts_keep_days.")
@pass_context
def forget(context: Context, days: int | None) -> None:
    """Delete attempts older than gateway.attempts_keep_days, conflicts too, from PostgreSQL and the journal.

    In slices, while gateways run; an interrupted run is continued by the next. Meant to be run daily by cron.
    """
    from kopeck.transactions import in_transaction
    from web.audit import record

    age_days = days or context.settings.gateway.attempts_keep_days
    before = datetime.now(UTC) - timedelta(days=age_days)
    with context.stores() as stores:
        deleted = _forget(stores, before)
        in_journal = asyncio.run(_forget_in_journal(stores, before))

        async def note(cur: Any) -> None:
            await record(cur, actor(), "attempts_forgotten", "", "", "", before=before.isoformat(), deleted=deleted)

        in_transaction(stores.dsn, note)
    click.echo(f"{deleted} attempts from before {shown_time(before)} are deleted, and {in_journal} of the journal's")


def _forget(stores: "Stores", before: datetime) -> int:
    from gateway.store import forget_attempts
    from kopeck.transactions import in_transaction

    async def work(cur: Any) -> int:
        return await forget_attempts(cur, before, SLICE)

    deleted = 0
    while gone := in_transaction(stores.dsn, work):
        deleted += gone
    return deleted


async def _forget_in_journal(stores: "Stores", before: datetime) -> int:
    from gateway.journal import Journal
    from gateway.journal_search import JournalAway
    from kopeck.transactions import CommandFailed

    journal = Journal(stores.journal_uri, stores.journal_database)
    try:
        return await journal.forget_attempts(before)
    except JournalAway as error:
        raise CommandFailed(f"{error}; PostgreSQL's attempts are deleted, run it again for the journal's") from error
    finally:
        journal.close()
