"""``kopeck attempts``: old calls that changed no payment are forgotten.

Does not know: what attempts are (gateway.payments.attempts), how the journal keeps its copies.
"""

import asyncio
from datetime import UTC, datetime, timedelta

import click

from billing.database.cursors import Cursor
from gateway.journal.journal import Journal
from gateway.journal.search import JournalAway
from gateway.payments.store import forget_attempts
from kopeck.cli.context import Context, pass_context, shown_time
from kopeck.databases.stores import Stores
from kopeck.databases.transactions import CommandFailed, in_transaction
from web.access.audit import record_as
from web.access.rights import Right

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
    age_days = days or context.settings.gateway.attempts_keep_days
    before = datetime.now(UTC) - timedelta(days=age_days)
    with context.stores() as stores:
        who = context.actor(stores, Right.JOBS_MANAGE)
        deleted = _forget(stores, before)
        in_journal = asyncio.run(_forget_in_journal(stores, before))

        async def note(cur: Cursor) -> None:
            await record_as(cur, who, "attempts_forgotten", before=before.isoformat(), deleted=deleted)

        in_transaction(stores.dsn, note)
    click.echo(f"{deleted} attempts from before {shown_time(before)} are deleted, and {in_journal} of the journal's")


def _forget(stores: Stores, before: datetime) -> int:
    deleted = 0
    while gone := in_transaction(stores.dsn, lambda cur: forget_attempts(cur, before, SLICE)):
        deleted += gone
    return deleted


async def _forget_in_journal(stores: Stores, before: datetime) -> int:
    journal = Journal(stores.journal_uri, stores.journal_database)
    try:
        return await journal.forget_attempts(before)
    except JournalAway as error:
        raise CommandFailed(f"{error}; PostgreSQL's attempts are deleted, run it again for the journal's") from error
    finally:
        journal.close()
