"""``kopeck verify`` and ``kopeck journal``: does everything agree, and the journal made again.

Does not know: what is verified, how a document is made.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from kopeck.cli_context import Context, pass_context

if TYPE_CHECKING:
    from billing.verify_slices import Say
    from gateway.verify import Report
    from kopeck.embedded import Stores


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
    from gateway.keys import key_warnings, warning_sentences
    from gateway.verify import VerifyAway
    from kopeck.transactions import CommandFailed, in_transaction

    with context.stores() as stores:
        try:
            with progress() as say:
                report = asyncio.run(_verify(stores, wait_s, no_journal, None if all_lines else lines, say))
        except VerifyAway as error:
            raise CommandFailed(str(error)) from error
        warnings = in_transaction(
            stores.dsn, lambda cur: key_warnings(cur, passphrase=context.settings.gateway.key_passphrase)
        )
    for line in [*report.lines(), *warning_sentences(warnings)]:
        click.echo(line)
    if not report.is_clean:
        raise click.exceptions.Exit(1)


@contextmanager
def progress() -> Iterator["Say"]:
    """Shows what is looked at and how far, on one line of standard error; nothing where that is no terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("begins") as status:

        def say(what: str, done: int, of: int | None) -> None:
            status.update(f"{what}: {done:,}" if of is None else f"{what}: {done:,} of {of:,}")

        yield say


async def _verify(stores: "Stores", wait_s: int, no_journal: bool, lines: int | None, say: "Say") -> "Report":
    from functools import partial

    from billing.cycle_verify import verify_cycle
    from billing.usage_verify import verify_usage
    from gateway.journal import Journal
    from gateway.payment_totals import verify_payment_totals
    from gateway.posting_verify import verify_postings
    from gateway.relay import RelayOptions, run_relay
    from gateway.verify import verify as examine

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
    from rich.console import Console

    from gateway.relay import DatabaseAway, Rebuilt
    from gateway.relay import rebuild as make_again
    from kopeck.transactions import CommandFailed

    reached = Rebuilt(after_payment=after_payment, after_attempt=after_attempt)

    async def work(stores: "Stores") -> Rebuilt:
        from gateway.journal import Journal

        into = Journal(stores.journal_uri, stores.journal_database)
        try:
            return await make_again(stores.dsn, into, report, after_payment=after_payment, after_attempt=after_attempt)
        finally:
            into.close()

    def report(done: Rebuilt) -> None:
        nonlocal reached
        reached = done
        status.update(f"{done.payments} payments, {done.attempts} attempts")

    from gateway.journal_search import JournalAway, JournalError

    with context.stores() as stores, Console(stderr=True).status("starting") as status:
        try:
            done = asyncio.run(work(stores))
        except (JournalAway, JournalError, DatabaseAway) as error:
            raise CommandFailed(
                f"{error}; continue with: kopeck journal rebuild --after-payment {reached.after_payment} "
                f"--after-attempt {reached.after_attempt}"
            ) from error
    click.echo(f"{done.payments} payments and {done.attempts} attempts are in the journal")
