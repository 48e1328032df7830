"""``kopeck verify`` and ``kopeck journal``: does everything agree, and the journal made again.

Does not know: what is verified, how a document is made.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console

from billing.database.away import DatabaseAway
from billing.verification.slices import Say
from gateway.journal.journal import Journal
from gateway.journal.relay import Rebuilt
from gateway.journal.relay import rebuild as make_again
from gateway.journal.search import JournalAway, JournalError
from kopeck.cli.background import BACKGROUND, queue_job
from kopeck.cli.context import Context, pass_context
from kopeck.databases.stores import Stores
from kopeck.databases.transactions import CommandFailed
from kopeck.work.kinds.verify import verify_all


@click.command()
@click.option("--wait", "wait_s", type=click.IntRange(0), default=60, show_default=True, help="Seconds for the relay.")
@click.option("--no-journal", is_flag=True, help="Look at PostgreSQL alone.")
@click.option(
    "--lines", type=click.IntRange(0), default=1_000, show_default=True, help="Lines the judge computes again."
)
@click.option("--all-lines", is_flag=True, help="All lines of all invoices; a long time.")
@BACKGROUND
@pass_context
def verify(context: Context, wait_s: int, no_journal: bool, lines: int, all_lines: bool, background: bool) -> None:
    """Check on the live database that money, usage and invoices add up and that the journal tells the same.

    Reads slice by slice while gateways run on. Prints what was examined and every row that differs; exit status 1 on
    any difference. Warns of partners' keys that are short or that two partners share.
    """
    if background:
        queue_job(context, "verify", {"lines": lines, "all_lines": all_lines, "no_journal": no_journal})
        return
    with context.stores() as stores:
        wanted = None if all_lines else lines
        passphrase = context.settings.gateway.key_passphrase
        with progress() as say:
            report, warnings = verify_all(stores, passphrase, say, wait_s=wait_s, lines=wanted, no_journal=no_journal)
    for line in [*report.lines(), *warnings]:
        click.echo(line)
    if not report.is_clean:
        raise click.exceptions.Exit(1)


@contextmanager
def progress() -> Iterator[Say]:
    """Shows what is looked at and how far, on one line of standard error; nothing where that is no terminal."""
    console = Console(stderr=True)
    with console.status("begins") as status:

        def say(what: str, done: int, of: int | None) -> None:
            status.update(f"{what}: {done:,}" if of is None else f"{what}: {done:,} of {of:,}")

        yield say


@click.group()
def journal() -> None:
    """The payment journal that people search."""


@journal.command()
@click.option("--after-payment", type=int, default=0, help="Continue an interrupted run after this payment id.")
@click.option("--after-attempt", type=int, default=0, help="Continue an interrupted run after this attempt id.")
@pass_context
def rebuild(context: Context, after_payment: int, after_attempt: int) -> None:
    """Make every document and the totals of the search page again; gateways and relays may run meanwhile.

    What it cannot bring back: attempts that retention has deleted from PostgreSQL.
    """
    reached = Rebuilt(after_payment=after_payment, after_attempt=after_attempt)

    async def work(stores: Stores) -> Rebuilt:
        into = Journal(stores.journal_uri, stores.journal_database)
        try:
            return await make_again(stores.dsn, into, report, after_payment=after_payment, after_attempt=after_attempt)
        finally:
            into.close()

    def report(done: Rebuilt) -> None:
        nonlocal reached
        reached = done
        status.update(f"{done.payments} payments, {done.attempts} attempts")

    with context.stores() as stores, Console(stderr=True).status("starting") as status:
        try:
            done = asyncio.run(work(stores))
        except (JournalAway, JournalError, DatabaseAway) as error:
            raise CommandFailed(
                f"{error}; continue with: kopeck journal rebuild --after-payment {reached.after_payment} "
                f"--after-attempt {reached.after_attempt}"
            ) from error
    click.echo(f"{done.payments} payments and {done.attempts} attempts are in the journal")
