"""``kopeck journal``: the journal made again.

Does not know: how a document is made.
"""

import asyncio

import click
from rich.console import Console

from billing.database.away import DatabaseAway
from gateway.journal.journal import Journal
from gateway.journal.relay import Rebuilt
from gateway.journal.relay import rebuild as make_again
from gateway.journal.search import JournalAway, JournalError
from kopeck.cli.context import Context, pass_context
from kopeck.databases.stores import Stores
from kopeck.databases.transactions import CommandFailed


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
