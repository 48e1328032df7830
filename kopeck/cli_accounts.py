"""``kopeck account``: look at subscribers' accounts, open one, or many from a CSV file.

Does not know: the rules of accounts (billing.accounts) and of the file (kopeck.account_import).
"""

from typing import IO, Any

import click

from kopeck.cli_context import Context, actor, pass_context, show_table, shown_name, shown_time


@click.group()
def account() -> None:
    """Subscribers' accounts."""


@account.command()
@click.argument("number")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Newest transfers shown.")
@pass_context
def show(context: Context, number: str, limit: int) -> None:
    """Show an account, its balance and its newest transfers."""
    from billing.accounts import AccountError, account_by_number, statement
    from billing.dunning_standing import why_suspended
    from kopeck.cli_orders import suspended_words
    from ratingcore.money import format_minor

    async def work(cur: Any) -> tuple[Any, list[Any], list[str]]:
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
        ("transfer", "at", "cause", "other account", "amount"),
        [
            (
                str(line.transfer_id),
                shown_time(line.at),
                f"{line.source} {line.source_id} {line.step}",
                line.other_account,
                format_minor(line.amount),
            )
            for line in lines
        ],
        right=("transfer", "amount"),
    )


@account.command()
@click.argument("number")
@click.option("--name", default="", help="Name for people.")
@click.option("--kind", default="subscriber", show_default=True, help="subscriber, or prepaid: may never owe.")
@click.option("--currency", default="RUB", show_default=True)
@click.option("--state", default="active", show_default=True, help="active, inactive or closed.")
@pass_context
def add(context: Context, number: str, name: str, kind: str, currency: str, state: str) -> None:
    """Open an account with balance zero."""
    from billing.accounts import AccountError, NewAccount, create_accounts

    async def work(cur: Any) -> None:
        if not await create_accounts(cur, [NewAccount(number, kind, currency, name, state)]):
            raise AccountError(f"there is an account {number!r} already")

    context.in_transaction(work)
    click.echo(f"account {number} is open")


@account.command("import")
@click.argument("file", type=click.File("rb"))
@click.option("--dry-run", is_flag=True, help="Look at everything and keep nothing.")
@pass_context
def import_(context: Context, file: IO[bytes], dry_run: bool) -> None:
    """Open many accounts from a CSV file (UTF-8; - reads standard input): all of it, or on any mistake nothing.

    The first line names the columns, separated by comma, semicolon or tab: number, and any of name, kind, currency,
    state, balance (opening balance, such as 150.00). Accounts that exist are left as they are, so a file may be
    imported again.
    """
    from kopeck.account_import import ImportRefused, import_accounts

    async def work(cur: Any) -> Any:
        return await import_accounts(cur, file, shown_name(file), actor(), keep=not dry_run)

    try:
        done = context.in_transaction(work)
    except ImportRefused as error:
        for line in error.problems:
            click.echo(line, err=True)
        raise click.ClickException(f"nothing was imported: {error}") from error
    word = "would open" if dry_run else "opened"
    click.echo(f"{word} {done.opened} accounts, {done.existing} exist already, {done.lines} lines")
