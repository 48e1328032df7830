"""``kopeck verify``: does everything agree?

Does not know: what is verified.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import click
from rich.console import Console

from billing.database.away import DatabaseAway
from billing.verification.cycle import verify_cycle
from billing.verification.slices import Say
from billing.verification.usage import verify_usage
from gateway.journal.journal import Journal
from gateway.journal.relay import RelayOptions, run_relay
from gateway.journal.totals import verify_payment_totals
from gateway.partners.keys import key_warnings, warning_sentences
from gateway.verification.live import Report
from gateway.verification.live import verify as examine
from gateway.verification.postings import verify_postings
from kopeck.cli.context import Context, pass_context
from kopeck.databases.stores import Stores
from kopeck.databases.transactions import CommandFailed, in_transaction


@click.command()
@click.option("--wait", "wait_s", type=click.IntRange(0), default=60, show_default=True, help="Seconds for the relay.")
@click.option("--no-journal", is_flag=True, help="Look at PostgreSQL alone.")
@click.option(
    "--lines", type=click.IntRange(0), default=1_000, show_default=True, help="Lines the judge computes again."
)
@click.option("--all-lines", is_flag=True, help="All lines of all invoices; a long time.")
@pass_context
def verify(context: Context, wait_s: int, no_journal: bool, lines: int, all_lines: bool) -> None:
    """Check on the live database that money, usage and invoices add up and that the journal tells the same.

    Reads slice by slice while gateways run on. Prints what was examined and every row that differs; exit status 1 on
    any difference. Warns of partners' keys that are short or that two partners share.
    """
    with context.stores() as stores:
        try:
            with progress() as say:
                report = asyncio.run(_verify(stores, wait_s, no_journal, None if all_lines else lines, say))
        except DatabaseAway as error:
            raise CommandFailed(str(error)) from error
        warnings = in_transaction(
            stores.dsn, lambda cur: key_warnings(cur, passphrase=context.settings.gateway.key_passphrase)
        )
    for line in [*report.lines(), *warning_sentences(warnings)]:
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


async def _verify(stores: Stores, wait_s: int, no_journal: bool, lines: int | None, say: Say) -> Report:
    journal = None if no_journal else Journal(stores.journal_uri, stores.journal_database)
    stop = asyncio.Event()
    relay: asyncio.Task[None] | None = None
    if journal is not None and stores.started_here:  # nobody else would carry what the outbox still holds
        relay = asyncio.create_task(run_relay(RelayOptions(stores.dsn), journal, stop))
    try:
        usage, bills = partial(verify_usage, say=say), partial(verify_cycle, sample=lines, say=say)
        also = (verify_payment_totals, verify_postings, usage, bills)
        return await examine(stores.dsn, journal, wait_s, also, say)
    finally:
        stop.set()
        if relay is not None:
            await relay
        if journal is not None:
            journal.close()
