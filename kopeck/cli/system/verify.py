"""``kopeck verify``: does everything agree?

Does not know: what is verified, how (kopeck.work.kinds.verify).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console

from billing.verification.slices import Say
from kopeck.cli.background import BACKGROUND, queue_job
from kopeck.cli.context import Context, pass_context
from kopeck.work.kinds.verify import verify_all
from web.access.rights import Right


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
        queue_job(
            context, Right.JOBS_MANAGE, "verify", {"lines": lines, "all_lines": all_lines, "no_journal": no_journal}
        )
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
