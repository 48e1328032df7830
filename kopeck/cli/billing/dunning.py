"""``kopeck dunning``: remind, warn, suspend and cancel who does not pay; the steps of it; how an account stands.

Does not know: when a step is due, what it does (billing.invoicing.dunning).
"""

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date, datetime
from typing import IO, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from billing.database.cursors import Cursor
from billing.invoicing.dunning import (
    DunningResult,
    added,
    count_accounts,
    list_steps,
    parse_steps,
    run_chunk,
    set_steps,
)
from billing.invoicing.dunning_delays import delay_account, withdraw_delay
from billing.invoicing.dunning_preview import Debtor, Preview, preview_span
from billing.invoicing.dunning_standing import Blocked, Standing
from billing.invoicing.dunning_store import (
    history_of,
    list_blocked,
    next_step,
    set_days_between,
    set_minimum,
    settings_of,
    standing_of,
)
from kopeck.cli.background import BACKGROUND, queue_job
from kopeck.cli.context import Context, Day, pass_context, show_table, shown_time
from kopeck.cli.output import AS_JSON, show_json, suspended_words
from kopeck.databases.transaction_steps import in_steps
from ratingcore.money import format_minor, parse_minor
from web.access.actors import Actor
from web.access.rights import Right

#: Rows of the list of blocked services read at a time.
PAGE = 5_000
_EVENTS = ("reminder", "warning", "suspension", "cancellation", "lifted")


@click.group()
def dunning() -> None:
    """What happens to those who do not pay."""


@dunning.command()
@click.option("--date", "on", type=Day(), help="Count days to this date instead of today.")
@click.option("--dry-run", is_flag=True, help="Only tell what would be done; nothing is changed, nobody waits.")
@click.option(
    "--largest", type=click.IntRange(0, 1000), default=10, show_default=True, help="Largest debts a dry run shows."
)
@click.option(
    "--list", "listed", type=click.File("w", encoding="utf-8"), help="With --dry-run: every account to this CSV file."
)
@click.option("--json", "as_json", is_flag=True, help="Counts as JSON.")
@BACKGROUND
@pass_context
def run(
    context: Context,
    on: datetime | None,
    dry_run: bool,
    largest: int,
    listed: IO[str] | None,
    as_json: bool,
    background: bool,
) -> None:
    """Do the steps that are due of every account in debt; once a day, say.

    Running it again does nothing twice. A suspension or cancellation comes some days after the step before it
    (`kopeck dunning settings`), so a first run on a base with old debts reminds and warns only. --dry-run shows first
    how many accounts a run would come to.
    """
    today = on.date() if on else None
    if background:
        if dry_run or listed is not None:
            raise click.UsageError("--dry-run and --list tell at once: they do not go with --background")
        queue_job(
            context, Right.DUNNING_MANAGE, "dunning.run", {"date": today.isoformat()} if today else {}, as_json=as_json
        )
        return
    if dry_run:
        _preview(context, today, largest, listed, as_json)
        return
    if listed is not None:
        raise click.UsageError("--list goes with --dry-run")

    total = DunningResult(0, {}, 0, 0)
    with context.stores() as stores, _progress() as progress:
        who = context.actor(stores, Right.DUNNING_MANAGE)

        async def step(cur: Cursor) -> bool:
            nonlocal total
            if not total.looked:
                progress(0, await count_accounts(cur))
            chunk = await run_chunk(cur, total.after or 0, today, who.name)
            total = added(total, chunk)
            progress(total.looked, None)
            return total.after is not None

        in_steps(stores.dsn, step)
    counts = {**total.actions, "orders_suspended": total.suspended, "orders_cancelled": total.cancelled}
    if as_json:
        click.echo(json.dumps(counts))
        return
    click.echo(f"events: {', '.join(f'{counts.get(name, 0)} {name}' for name in _EVENTS)}")
    click.echo(f"orders: {total.suspended} suspended, {total.cancelled} cancelled")


@contextmanager
def _progress() -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar of accounts looked at on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _done, _total: None
        return
    parts = (BarColumn(), MofNCompleteColumn(), TextColumn("accounts"), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*parts, console=console) as bar:
        task = bar.add_task("dunning", total=None)

        def show(done: int, total: int | None) -> None:
            bar.update(task, completed=done)
            if total is not None:
                bar.update(task, total=total)

        yield show


def _preview(context: Context, today: date | None, largest: int, listed: IO[str] | None, as_json: bool) -> None:
    preview, after, looked, days = Preview(largest), 0, 0, 0
    tell = _list_writer(listed)
    with context.stores() as stores, _progress() as progress:

        async def step(cur: Cursor) -> bool:
            nonlocal after, looked, days
            if not looked:
                progress(0, await count_accounts(cur))
                days = (await settings_of(cur)).days_between
            next_after, count = await preview_span(cur, preview, after, today, tell)
            after, looked = next_after or 0, looked + count
            progress(looked, None)
            return next_after is not None

        in_steps(stores.dsn, step)
    if as_json:
        told = {"lifted": preview.lifted, "orders_suspended": preview.suspended, "orders_cancelled": preview.cancelled}
        show_json(
            {
                "steps": [asdict(count) for count in preview.counts],
                "largest": [asdict(debtor) for debtor in preview.largest],
                **told,
            }
        )
        return
    _show_preview(preview, days)


def _list_writer(listed: IO[str] | None) -> Callable[[Iterable[Debtor]], None]:
    if listed is None:
        return lambda _debtors: None
    rows = csv.writer(listed)
    rows.writerow(("account", "customer", "would get", "overdue", "currency", "oldest unpaid invoice was due on"))

    def write(debtors: Iterable[Debtor]) -> None:
        for one in debtors:
            facts = (format_minor(one.overdue), one.currency, one.oldest_due_on.isoformat())
            rows.writerow((one.account, one.customer, " ".join(one.actions), *facts))

    return write


def _show_preview(preview: Preview, days: int) -> None:
    click.echo("a run would do this; nothing is changed")
    show_table(
        ("group", "step", "action", "accounts", "overdue", "currency"),
        [
            (
                *(count.group or "(all)", str(count.step), count.action, f"{count.accounts:,}"),
                *(format_minor(count.overdue), count.currency),
            )
            for count in preview.counts
        ],
        right=("step", "accounts", "overdue"),
    )
    click.echo(
        f"orders: {preview.suspended:,} would be suspended, {preview.cancelled:,} cancelled;"
        f" accounts that owe nothing overdue any more: {preview.lifted:,}"
    )
    if days:
        click.echo(f"a suspension or cancellation comes {days} days after the step before it, or later")
    if preview.largest:
        click.echo("the largest debts of these accounts:")
        _show_debtors(preview.largest)


def _show_debtors(debtors: Sequence[Debtor]) -> None:
    show_table(
        ("account", "customer", "overdue", "currency", "oldest unpaid invoice was due on", "would get"),
        [
            (
                *(one.account, one.customer or "-", format_minor(one.overdue), one.currency),
                *(one.oldest_due_on.isoformat(), ", ".join(one.actions)),
            )
            for one in debtors
        ],
        right=("overdue",),
    )


@dunning.group()
def steps() -> None:
    """The steps of each customer group."""


@steps.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@pass_context
def list_(context: Context, as_json: bool) -> None:
    """Show the steps of every group; (all) is for those whose group has none."""
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
    wanted = parse_steps(words)

    context.act(Right.DUNNING_MANAGE, lambda cur, who: set_steps(cur, group, wanted))
    click.echo(f"{group or '(all)'}: {len(wanted)} steps")


@dunning.group()
def settings() -> None:
    """Days between a warning and a suspension, and the least debt of each currency."""


@settings.command("show")
@AS_JSON
@pass_context
def show_settings(context: Context, as_json: bool) -> None:
    """Show the settings."""
    found = context.in_transaction(settings_of)
    if as_json:
        show_json({"days_between": found.days_between, "minimums": dict(found.minimums)})
        return
    click.echo(_days_said(found.days_between))
    for currency, minimum in found.minimums.items():
        click.echo(f"least debt in {currency}: {format_minor(minimum)}; less than that overdue is left alone")
    others = "in other currencies " if found.minimums else ""
    click.echo(f"{others}every overdue debt counts")


def _days_said(days: int) -> str:
    if not days:
        return "a suspension or cancellation may come in the same run as the step before it"
    return f"a suspension or cancellation comes {days} days after the step before it, or later"


@settings.command("set")
@click.option("--days-between", type=int, help="From a step to the suspension or cancellation after it, at least.")
@click.option("--minimum", help="The least overdue debt that is minded, such as 100.00; 0 for every debt.")
@click.option("--currency", default="RUB", show_default=True, help="Of --minimum.")
@pass_context
def set_settings(context: Context, days_between: int | None, minimum: str | None, currency: str) -> None:
    """Change the settings; what is not named stays."""
    if days_between is None and minimum is None:
        raise click.UsageError("say --days-between, --minimum, or both")
    try:
        least = None if minimum is None else parse_minor(minimum)
    except ValueError as error:
        raise click.ClickException(f"minimum: {error}") from error

    async def work(cur: Cursor, who: Actor) -> None:
        if days_between is not None:
            await set_days_between(cur, days_between)
        if least is not None:
            await set_minimum(cur, currency, least)

    context.act(Right.DUNNING_MANAGE, work)
    if days_between is not None:
        click.echo(_days_said(days_between))
    if least is not None:
        said = f"is {format_minor(least)}" if least else "is not set: every overdue debt counts"
        click.echo(f"the least debt in {currency} {said}")


@dunning.command()
@click.argument("account")
@click.option("--until", type=Day(), help="The last day of the delay.")
@click.option("--withdraw", is_flag=True, help="End the delay: what is due comes with the next run.")
@click.option("--reason", required=True, help="Kept in the history, such as: promised on the phone to pay on Friday.")
@pass_context
def delay(context: Context, account: str, until: datetime | None, withdraw: bool, reason: str) -> None:
    """Put dunning off for ACCOUNT through a date: a promised payment.

    No step comes to it meanwhile, and what its debt has suspended goes on at once. On the day after, what is due is due
    again, unless it was paid.
    """
    if (until is not None) == withdraw:
        raise click.UsageError("say --until DATE or --withdraw")

    async def work(cur: Cursor, who: Actor) -> bool:
        if until is None:
            return await withdraw_delay(cur, account, reason, who.name)
        return (await delay_account(cur, account, until.date(), reason, who.name))[1]

    is_new = context.act(Right.DUNNING_MANAGE, work)
    if until is None:
        click.echo(f"account {account}: {'the delay is withdrawn' if is_new else 'there is no delay'}")
        return
    click.echo(f"account {account}: dunning is put off through {until.date()}{'' if is_new else ' already'}")


@dunning.command()
@click.option("--reason", default="", help="Only those suspended for this: dunning (debt), asked (on request) ...")
@AS_JSON
@pass_context
def blocked(context: Context, reason: str, as_json: bool) -> None:
    """List every order that is suspended now, and why: what the network is to block.

    With tabs between the cells where the output is no terminal.
    """
    found = [*_blocked(context, reason)]
    if as_json:
        show_json([asdict(one) for one in found])
        return
    show_table(
        ("account", "order", "what", "state", "since (UTC)", "until (UTC)", "customer", "paid by account"),
        [
            (
                *(
                    one.account,
                    one.number or f"#{one.order_id}",
                    f"plan {one.plan}" if one.plan else f"item {one.item}",
                ),
                *(suspended_words(one.reason), shown_time(one.since), shown_time(one.until), one.customer or "-"),
                one.payer,
            )
            for one in found
        ],
    )


def _blocked(context: Context, reason: str) -> list[Blocked]:
    found: list[Blocked] = []
    with context.stores() as stores:

        async def step(cur: Cursor) -> bool:
            page = await list_blocked(cur, reason, found[-1].order_id if found else 0, PAGE)
            found.extend(page)
            return len(page) == PAGE

        in_steps(stores.dsn, step)
    return found


@dunning.command()
@click.argument("account")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="Newest events shown.")
@AS_JSON
@pass_context
def show(context: Context, account: str, limit: int, as_json: bool) -> None:
    """Show what an account owes overdue and what happened to it, in this debt and in those before."""

    async def work(cur: Cursor) -> Any:
        found = await standing_of(cur, account)
        return found, await next_step(cur, found), await history_of(cur, found.account_id, limit)

    found, coming, events = context.in_transaction(work)
    if as_json:
        following = None if coming is None else {"action": coming[0], "on_or_after": coming[1]}
        show_json(asdict(found) | {"next": following, "events": [asdict(event) for event in events]})
        return
    click.echo(f"{account}: balance {format_minor(found.balance)} {found.currency}, step {found.step}")
    _tell_standing(found)
    if coming is not None:
        click.echo(f"next: {coming[0]}, by a run on {coming[1]} or later")
    show_table(
        ("at (UTC)", "step", "action", "overdue", "oldest invoice", "by", "why"),
        [
            (
                *(shown_time(event.at), str(event.step or "-"), event.action, format_minor(event.overdue)),
                *(event.invoice or "-", event.actor, event.note or "-"),
            )
            for event in events
        ],
        right=("step", "overdue"),
    )


def _tell_standing(found: Standing) -> None:
    oldest = f", the oldest unpaid invoice was due on {found.oldest_due_on}" if found.oldest_due_on else ""
    click.echo(f"overdue {format_minor(found.overdue)} {found.currency}{oldest}")
    if found.payer:
        click.echo(f"paid by account {found.payer}: `kopeck dunning show {found.payer}` tells what its debt did")
    if found.suspended_at is not None:
        click.echo(f"suspended for debt since {shown_time(found.suspended_at)}")
    if found.delayed_until is not None:
        click.echo(f"put off through {found.delayed_until}: {found.delay_reason}")
