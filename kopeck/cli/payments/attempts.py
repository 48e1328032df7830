"""``kopeck attempts``: old calls that changed no payment are forgotten.

Does not know: how they are deleted (kopeck.work.kinds.attempts_forget).
"""

from datetime import UTC, datetime, timedelta

import click

from kopeck.cli.background import BACKGROUND, queue_job
from kopeck.cli.context import Context, pass_context, shown_time
from kopeck.work.kinds.attempts_forget import forget_all
from web.access.rights import Right


@click.group()
def attempts() -> None:
    """Calls of partners and strangers that changed no payment."""


@attempts.command()
@click.option("--days", type=click.IntRange(30), help="Age in days; else gateway.attempts_keep_days.")
@BACKGROUND
@pass_context
def forget(context: Context, days: int | None, background: bool) -> None:
    """Delete attempts older than gateway.attempts_keep_days, conflicts too, from PostgreSQL and the journal.

    In slices, while gateways run; an interrupted run is continued by the next. Meant to be run daily.
    """
    if background:
        queue_job(context, Right.JOBS_MANAGE, "attempts.forget", {"days": days} if days else {})
        return
    age_days = days or context.settings.gateway.attempts_keep_days
    before = datetime.now(UTC) - timedelta(days=age_days)
    with context.stores() as stores:
        who = context.actor(stores, Right.JOBS_MANAGE)
        deleted, in_journal = forget_all(stores, before, who.name, lambda _deleted: None)
    click.echo(f"{deleted} attempts from before {shown_time(before)} are deleted, and {in_journal} of the journal's")
