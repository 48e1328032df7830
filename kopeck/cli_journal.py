"""``kopeck verify`` and ``kopeck journal``: does everything agree, and the journal made again.

Does not know: what is verified, how a document is made.
"""

import asyncio

import click

from kopeck.cli_context import Context, pass_context


@click.group()
def journal() -> None:
    """The payment journal that people search."""


@journal.command()
@click.option("--after-payment", type=int, default=0, help="Continue an interrupted run after this payment id.")
@click.option("--after-attempt", type=int, default=0, help="Continue an interrupted run after this attempt id.")
@pass_context
def rebuild(context: Context, after_payment: int, after_attempt: int) -> None:
    """Make every document again from PostgreSQL; gateways and relays may run meanwhile.

    What it cannot bring back: attempts that retention has deleted from PostgreSQL.
    """
    from rich.console import Console

    from gateway.relay import DatabaseAway, Rebuilt
    from gateway.relay import rebuild as make_again
    from kopeck.embedded import Stores, open_stores
    from kopeck.logs import configure_logs
    from kopeck.transactions import CommandFailed

    configure_logs(context.settings.log, "cli")
    reached = Rebuilt(after_payment=after_payment, after_attempt=after_attempt)

    async def work(stores: Stores) -> Rebuilt:
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

    from gateway.journal import JournalAway, JournalError

    with open_stores(context.settings) as stores, Console(stderr=True).status("starting") as status:
        try:
            done = asyncio.run(work(stores))
        except (JournalAway, JournalError, DatabaseAway) as error:
            raise CommandFailed(
                f"{error}; continue with: kopeck journal rebuild --after-payment {reached.after_payment} "
                f"--after-attempt {reached.after_attempt}"
            ) from error
    click.echo(f"{done.payments} payments and {done.attempts} attempts are in the journal")
