"""``kopeck account``: look at subscribers' accounts, open one, or many from a CSV file.

Does not know: the rules of accounts (billing.ledger.accounts) and of the file (billing.ledger.account_import).
"""

from typing import IO, Any

import click

from billing.database.cursors import Cursor
from billing.invoicing.dunning_store import why_suspended
from billing.ledger.account_import import ImportRefused, import_accounts
from billing.ledger.account_store import account_by_number, create_accounts, statement
from billing.ledger.accounts import AccountError, NewAccount, StatementLine
from kopeck.cli.context import (
    CHARSET,
    CHARSET_HINT,
    NOT_UTF_8,
    Context,
    pass_context,
    show_table,
    shown_name,
    shown_time,
)
from kopeck.cli.output import suspended_words
from kopeck.cli.progress import progress, size_of
from ratingcore.money import format_minor
from web.access.actors import Actor
from web.access.rights import Right


@click.group()
def account() -> None:
    """Subscribers' accounts."""


@account.command()
@click.argument("number")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Newest transfers shown.")
@pass_context
def show(context: Context, number: str, limit: int) -> None:
    """Show an account, its balance and its newest transfers."""

    async def work(cur: Cursor) -> tuple[Any, list[Any], list[str]]:
        found = await account_by_number(cur, number)
        if found is None:
            raise AccountError(f"there is no account {number[:40]!r}")
        return found, await statement(cur, found.id, limit), await why_suspended(cur, found.id)

    found, lines, reasons = context.in_transaction(work)
    click.echo(f"{found.number}  {found.name or '(no name)'}")
    state = ", ".join([found.state, *map(suspended_words, reasons)])
    click.echo(f"{found.kind}, {state}, opened {shown_time(found.created_at)}")
    click.echo(f"balance {format_minor(found.balance)} {found.currency}")
    show_table(
        ("transfer", "at", "cause", "document", "other account", "amount"),
        [
            (
                str(line.transfer_id),
                shown_time(line.at),
                cause(line),
                line.document or "-",
                line.other_account,
                format_minor(line.amount),
            )
            for line in lines
        ],
        right=("transfer", "amount"),
    )


def cause(line: StatementLine) -> str:
    """What moved the money, in words: an invoice and its revenue or tax, a payment and its number, a kind by hand."""
    if line.source == "invoice":
        return f"invoice, {line.step}"
    if line.source == "payment":
        return f"payment {line.source_id}, {line.step}"
    if line.source == "manual":
        return f"by hand, {'opening balance' if line.step.startswith('open-') else line.step.replace('_', '-')}"
    return f"{line.source} {line.source_id}, {line.step}"


@account.command()
@click.argument("number")
@click.option("--name", default="", help="Name for people.")
@click.option("--kind", default="subscriber", show_default=True, help="subscriber, or prepaid: may never owe.")
@click.option("--currency", default="RUB", show_default=True)
@click.option("--state", default="active", show_default=True, help="active, inactive or closed.")
@pass_context
def add(context: Context, number: str, name: str, kind: str, currency: str, state: str) -> None:
    """Open an account with balance zero."""

    async def work(cur: Cursor, who: Actor) -> None:
        if not await create_accounts(cur, [NewAccount(number, kind, currency, name, state)]):
            raise AccountError(f"there is an account {number!r} already")

    context.act(Right.CUSTOMERS_CHANGE, work)
    click.echo(f"account {number} is open")


@account.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--dry-run", is_flag=True, help="Look at everything and keep nothing.")
@CHARSET
@pass_context
def import_(context: Context, file: IO[bytes], dry_run: bool, charset: str) -> None:
    """Open many accounts from a CSV file (- reads standard input): all of it, or on any mistake nothing.

    The first line names the columns, separated by comma, semicolon or tab: number, and any of name, kind, currency,
    state, balance (opening balance, such as 150.00). Accounts that exist are left as they are, so a file may be
    imported again.
    """

    def told(lines: int) -> None:
        report(file.tell() if file.seekable() else 0, f"{lines:,} lines")

    async def work(cur: Cursor, who: Actor) -> Any:
        who.demand(Right.MONEY_POST)  # opening balances
        name = shown_name(file)
        return await import_accounts(cur, file, name, who.name, keep=not dry_run, charset=charset, progress=told)

    try:
        with progress("import of accounts", size_of(file)) as report:
            done = context.act(Right.CUSTOMERS_CHANGE, work)
    except ImportRefused as error:
        for line in error.problems:
            click.echo(line, err=True)
        if any(line.endswith(NOT_UTF_8) for line in error.problems):
            click.echo(CHARSET_HINT, err=True)
        raise click.ClickException(f"nothing was imported: {error}") from error
    word = "would open" if dry_run else "opened"
    click.echo(f"{word} {done.opened} accounts, {done.existing} exist already, {done.lines} lines")
