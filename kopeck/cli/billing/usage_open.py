"""``kopeck usage unbilled`` and ``kopeck usage reopen``: usage that no invoice shows, and a boundary that went too far.

Does not know: whose usage is whose (billing.verification.unbilled), who closes it (billing.cycle.boundary_store).
"""

import json
from datetime import datetime

import click

from billing.cycle.run import reopen_usage
from billing.verification.unbilled import list_unbilled
from kopeck.cli.context import Context, pass_context, show_table, shown_time

_MICRO = 1_000_000


@click.command()
@click.option("--account", default="", metavar="NUMBER", help="Of this account alone.")
@click.option("--limit", type=click.IntRange(1, 100_000), default=1_000, show_default=True, help="Most rows shown.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_context
def unbilled(context: Context, account: str, limit: int, as_json: bool) -> None:
    """List closed usage that is on no invoice, by account and item, and why.

    "no order": no order of the account had the item when it was used. "closed account": it came after the account was
    closed. "next run": it came after its period was billed, and the next run bills it.
    """

    found = context.in_transaction(lambda cur: list_unbilled(cur, account, limit))
    rows = [
        (one.account, one.item, one.why, one.events, _quantity(one.quantity_micro), one.first_at, one.last_at)
        for one in found
    ]
    names = ("account", "item", "why", "events", "quantity", "first", "last")
    if as_json:
        shown = [dict(zip(names, (*row[:5], row[5].isoformat(), row[6].isoformat()), strict=True)) for row in rows]
        click.echo(json.dumps(shown, indent=1))
        return
    cells = [(*row[:3], str(row[3]), row[4], shown_time(row[5]), shown_time(row[6])) for row in rows]
    show_table(names, cells, ("events", "quantity"))


def _quantity(micro: int) -> str:
    whole, rest = divmod(micro, _MICRO)
    return f"{whole}.{rest:06d}".rstrip("0").rstrip(".")


@click.command()
@pass_context
def reopen(context: Context) -> None:
    """Move the boundary of open usage back to where runs over all payers rely on it.

    For a database whose usage was closed too far ahead. Nothing that was billed is opened again.
    """

    with context.stores() as stores:
        before, after = reopen_usage(stores.dsn)
    if before == after:
        click.echo(f"usage is open from {_shown(before)}, as runs over all payers need it: nothing to do")
    else:
        click.echo(f"usage was open from {_shown(before)}, and is now from {_shown(after)}")


def _shown(at: datetime | None) -> str:
    return shown_time(at) if at is not None else "the beginning"
