"""``kopeck ageing``: remind, warn, suspend and cancel who does not pay; the steps of it; how an account stands.

Does not know: when a step is due, what it does (billing.ageing).
"""

import json
from datetime import date, datetime
from typing import Any

import click

from kopeck.cli_context import Context, Day, actor, pass_context, show_table, shown_time


@click.group()
def ageing() -> None:
    """What happens to those who do not pay."""


@ageing.command()
@click.option("--date", "on", type=Day(), help="Count days to this date instead of today.")
@click.option("--json", "as_json", is_flag=True, help="Counts as JSON.")
@pass_context
def run(context: Context, on: datetime | None, as_json: bool) -> None:
    """Do the steps that are due of every account in debt; once a day, say.

    Running it again does nothing twice.
    """
    from billing.ageing import Ran, added, run_chunk
    from kopeck.transactions import in_transaction

    today, who = (on.date() if on else None), actor()
    total = Ran(0, {}, 0, 0)
    with context.stores() as stores:
        while total.after is not None:
            chunk = in_transaction(stores.dsn, _chunk(run_chunk, total.after, today, who))
            total = added(total, chunk)
    counts = {**total.actions, "orders_suspended": total.suspended, "orders_cancelled": total.cancelled}
    if as_json:
        click.echo(json.dumps(counts))
        return
    said = ", ".join(
        f"{counts.get(name, 0)} {name}" for name in ("reminder", "warning", "suspension", "cancellation", "lifted")
    )
    click.echo(f"events: {said}")
    click.echo(f"orders: {total.suspended} suspended, {total.cancelled} cancelled")


def _chunk(run_chunk: Any, after: int, today: date | None, who: str) -> Any:
    async def work(cur: Any) -> Any:
        return await run_chunk(cur, after, today, who)

    return work


@ageing.group()
def steps() -> None:
    """The steps of each customer group."""


@steps.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_context
def list_(context: Context, as_json: bool) -> None:
    """Show the steps of every group; (all) is for those whose group has none."""
    from billing.ageing import list_steps

    found = context.in_transaction(list_steps)
    if as_json:
        told = {
            group: [{"step": s.step, "days": s.days, "action": s.action} for s in of] for group, of in found.items()
        }
        click.echo(json.dumps(told, ensure_ascii=False))
        return
    rows = [(group or "(all)", str(one.step), str(one.days), one.action) for group, of in found.items() for one in of]
    show_table(("group", "step", "days after due", "action"), rows, right=("step", "days after due"))


@steps.command("set")
@click.argument("words", metavar="DAYS:ACTION...", nargs=-1)
@click.option("--group", default="", help="Customer group; without it, the steps of those whose group has none.")
@pass_context
def set_(context: Context, words: tuple[str, ...], group: str) -> None:
    """Replace the steps of a group, such as: 1:reminder 7:warning 14:suspension 60:cancellation.

    None at all gives a group back to the steps of everybody. A step before the due date has days below zero (write --
    before the first one).
    """
    from billing.ageing import parse_steps, set_steps

    wanted = parse_steps(words)

    async def work(cur: Any) -> None:
        await set_steps(cur, group, wanted)

    context.in_transaction(work)
    click.echo(f"{group or '(all)'}: {len(wanted)} steps")


@ageing.command()
@click.argument("account")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Newest events shown.")
@pass_context
def show(context: Context, account: str, limit: int) -> None:
    """Show what an account owes overdue and what happened to it."""
    from billing.ageing import history_of, standing_of
    from ratingcore.money import format_minor

    async def work(cur: Any) -> Any:
        found = await standing_of(cur, account)
        return found, await history_of(cur, found.account_id, limit)

    found, events = context.in_transaction(work)
    click.echo(f"{account}: balance {format_minor(found.balance)} {found.currency}, step {found.step}")
    oldest = f", the oldest unpaid invoice was due on {found.oldest_due_on}" if found.oldest_due_on else ""
    click.echo(f"overdue {format_minor(found.overdue)} {found.currency}{oldest}")
    show_table(
        ("at", "step", "action", "overdue", "oldest invoice", "by"),
        [(shown_time(e.at), str(e.step), e.action, format_minor(e.overdue), e.invoice, e.actor) for e in events],
        right=("step", "overdue"),
    )
