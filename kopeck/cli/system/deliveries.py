"""``kopeck delivery``: what is sent to others, what became of it, and what a person may do about it.

Does not know: what is sent, when it is tried again.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

from billing.database.cursors import Cursor
from billing.work.deliveries import desk_store
from billing.work.deliveries.decide import DeliveryEvent
from billing.work.deliveries.desk_store import DeliveryFilter, DeliveryLog, DeliveryRow, QueueRow
from billing.work.deliveries.records import DeliveryRefused, DeliveryState
from kopeck.cli.context import INSTANT, Context, pass_context, show_table, shown_time
from kopeck.cli.output import AS_JSON, show_json
from web.access.audit import record
from web.access.rights import Right

STATES: Final = tuple(state.value for state in DeliveryState)
#: Deliveries sent again in one transaction.
PORTION: Final = 500
_DONE: Final = {
    DeliveryEvent.PUSH: ("delivery_pushed", "is tried now"),
    DeliveryEvent.RESEND: ("delivery_resent", "is sent again"),
    DeliveryEvent.SETTLE: ("delivery_settled", "counts as delivered"),
    DeliveryEvent.GIVE_UP: ("delivery_given_up", "is given up"),
}
WHY = click.option("--why", default="", metavar="TEXT", help="Reason, kept in the delivery's log.")
IDS = click.argument("ids", nargs=-1, required=True, type=click.IntRange(1, 2**63 - 1), metavar="ID...")


@click.group()
def delivery() -> None:
    """Deliveries: webhooks and mail, their queues and log."""


@delivery.command("list")
@click.option("--kind", default="", help="Such as webhook or mail.")
@click.option("--recipient", default="", help="An endpoint, a mail server.")
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="May be given several times.")
@click.option("--find", "text", default="", metavar="TEXT", help="An address, a key or a recipient, as a whole.")
@click.option("--before", type=click.IntRange(1), metavar="ID", help="Those queued before this one: the next page.")
@click.option("--limit", type=click.IntRange(1, desk_store.LIST_MAX), default=50, show_default=True)
@AS_JSON
@pass_context
def list_(
    context: Context,
    kind: str,
    recipient: str,
    states: tuple[str, ...],
    text: str,
    before: int | None,
    limit: int,
    as_json: bool,
) -> None:
    """List deliveries, the newest first."""
    wanted = DeliveryFilter(kind, recipient, states, text)
    rows = context.in_transaction(lambda cur: desk_store.list_deliveries(cur, wanted, before, limit))
    if as_json:
        show_json([asdict(row) for row in rows])
        return
    show_table(
        ("id", "kind", "recipient", "address", "subject", "state", "tries", "next", "why"),
        [_row(row) for row in rows],
        right=("id", "tries"),
    )


@delivery.command()
@AS_JSON
@pass_context
def queues(context: Context, as_json: bool) -> None:
    """Show each recipient's queue: how many wait, since when, and what holds it."""
    rows = context.in_transaction(desk_store.list_queues)
    now = datetime.now(UTC)
    if as_json:
        show_json([asdict(row) for row in rows])
        return
    headings = (
        "kind",
        "recipient",
        "waiting",
        "sending",
        "unknown",
        "accepted",
        "for a person",
        "oldest",
        "next",
        "held",
    )
    numbers = headings[2:7]
    show_table(
        headings,
        [
            (
                row.kind,
                row.recipient,
                *map(str, (row.waiting, row.sending, row.unknown, row.accepted, row.manual)),
                shown_time(row.oldest_at),
                shown_time(row.next_at),
                held_words(row, now),
            )
            for row in rows
        ],
        right=numbers,
    )


@delivery.command()
@click.argument("delivery_id", type=click.IntRange(1, 2**63 - 1), metavar="ID")
@click.option("--payload", is_flag=True, help="Print what is sent, byte for byte, and nothing else.")
@AS_JSON
@pass_context
def show(context: Context, delivery_id: int, payload: bool, as_json: bool) -> None:
    """Show a delivery with every attempt."""

    async def work(cur: Cursor) -> tuple[DeliveryLog, bytes]:
        log = await desk_store.read_delivery(cur, delivery_id)
        content = await desk_store.read_payload(cur, delivery_id) if payload else b""
        return log, content

    log, content = context.in_transaction(work)
    if payload:
        click.echo(content, nl=False)
        return
    if as_json:
        show_json(asdict(log))
        return
    for line in _log_lines(log):
        click.echo(line)


@delivery.command()
@IDS
@WHY
@pass_context
def push(context: Context, ids: tuple[int, ...], why: str) -> None:
    """Try deliveries that wait now."""
    _act(context, ids, DeliveryEvent.PUSH, why)


@delivery.command()
@click.argument("ids", nargs=-1, type=click.IntRange(1, 2**63 - 1), metavar="[ID]...")
@click.option("--kind", default="", help="With --recipient and --state: all of them.")
@click.option("--recipient", default="")
@click.option("--state", "states", multiple=True, type=click.Choice(("manual", "refused", "abandoned")))
@click.option("--yes", is_flag=True, help="Do not only count them.")
@WHY
@pass_context
def resend(
    context: Context,
    ids: tuple[int, ...],
    kind: str,
    recipient: str,
    states: tuple[str, ...],
    yes: bool,
    why: str,
) -> None:
    """Send deliveries again that are done or wait for a person: by their ids, or all of a queue in some states.

    They go with the same id, so a receiver that had one knows it; a letter may arrive twice.
    """
    if bool(ids) == bool(kind or recipient or states):
        raise click.UsageError("name deliveries by their ids, or a queue by --kind, --recipient and --state")
    if ids:
        _act(context, ids, DeliveryEvent.RESEND, why)
        return
    if not (kind and recipient and states):
        raise click.UsageError("a queue is named by --kind, --recipient and --state together")
    _resend_queue(context, DeliveryFilter(kind, recipient, states), yes, why)


@delivery.command()
@IDS
@WHY
@pass_context
def settle(context: Context, ids: tuple[int, ...], why: str) -> None:
    """Mark deliveries whose outcome is not known as delivered: the receiver was asked and has them."""
    _act(context, ids, DeliveryEvent.SETTLE, why)


@delivery.command("give-up")
@IDS
@WHY
@pass_context
def give_up(context: Context, ids: tuple[int, ...], why: str) -> None:
    """Give deliveries up: they are not sent any more."""
    _act(context, ids, DeliveryEvent.GIVE_UP, why)


@delivery.command()
@click.argument("kind")
@click.argument("recipient", default="")
@click.option("--why", required=True, metavar="TEXT", help="Reason, shown beside the queue.")
@pass_context
def hold(context: Context, kind: str, recipient: str, why: str) -> None:
    """Hold a recipient's queue, or every queue of a KIND; its deliveries wait."""

    async def work(cur: Cursor, actor: str) -> list[str]:
        held = await desk_store.hold_queue(cur, kind, recipient, actor, why)
        for name in held:
            await record(cur, actor, "delivery_queue_held", "", kind, name, why=why)
        return held

    for name in _as_person(context, work):
        click.echo(f"queue {kind} {name} is held")


@delivery.command()
@click.argument("kind")
@click.argument("recipient", default="")
@pass_context
def release(context: Context, kind: str, recipient: str) -> None:
    """Let a queue go on, or every queue of a KIND, whatever holds it: a person, a pause or its breaker."""

    async def work(cur: Cursor, actor: str) -> list[str]:
        released = await desk_store.release_queue(cur, kind, recipient)
        for name in released:
            await record(cur, actor, "delivery_queue_released", "", kind, name)
        return released

    for name in _as_person(context, work):
        click.echo(f"queue {kind} {name} goes on")


@delivery.command()
@click.argument("kind")
@click.argument("pairs", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--recipient", default="", help="For this one alone; else for the kind.")
@click.option("--unset", multiple=True, metavar="FIELD", help="Go back to what the kind or the program says.")
@pass_context
def policy(context: Context, kind: str, pairs: tuple[str, ...], recipient: str, unset: tuple[str, ...]) -> None:
    """Set how a KIND's deliveries are tried: waits, limits, breaker. Without FIELDs it shows what is in force.

    Fields: waits_s, then_s, stop_s, jitter_percent, time_out_s, concurrency, per_minute, breaker_failures,
    breaker_hold_s, hold_after_s. For example: kopeck delivery policy webhook --recipient crm per_minute=60
    waits_s=[10,60,600]
    """
    from billing.work.deliveries.policies import Policies
    from billing.work.deliveries.store import read_policies
    from kopeck.serve.deliveries import KINDS

    if kind not in KINDS:
        raise DeliveryRefused(f"there is no kind {kind[:40]!r}; there are {', '.join(sorted(KINDS))}")
    changes = dict(_pair(pair) for pair in pairs)

    async def work(cur: Cursor, actor: str) -> Policies:
        if changes or unset:
            body = await desk_store.set_policy(cur, kind, recipient, changes, unset, actor)
            await record(cur, actor, "delivery_policy_set", "", kind, recipient, policy=json.dumps(body))
        return Policies(KINDS, await read_policies(cur))

    found = _as_person(context, work).of(kind, recipient)
    show_json({**asdict(found.ladder), **{name: value for name, value in asdict(found).items() if name != "ladder"}})


@delivery.command()
@click.option("--before", type=INSTANT, help="Done before this instant; else 90 days ago. At least 30 days ago.")
@pass_context
def forget(context: Context, before: datetime | None) -> None:
    """Delete deliveries that were done long ago, with their log."""
    moment = before or datetime.now(UTC) - timedelta(days=90)
    if moment > datetime.now(UTC) - timedelta(days=30):
        raise DeliveryRefused("deliveries are kept for 30 days at least")
    gone = 0
    while True:

        async def work(cur: Cursor, actor: str) -> int:
            count = await desk_store.forget_deliveries(cur, moment, 5_000)
            if count:
                await record(cur, actor, "deliveries_forgotten", "", before=moment.isoformat(), count=count)
            return count

        portion = _as_person(context, work)
        gone += portion
        if portion < 5_000:
            break
    click.echo(f"{gone} deliveries are deleted")


def held_words(row: QueueRow, now: datetime) -> str:
    """What holds a queue, or a dash."""
    if row.is_held:
        return f"by {row.held_by} since {shown_time(row.held_at)}: {row.held_why}"
    if row.paused_until is not None and row.paused_until > now:
        return f"its receiver asked for a pause until {shown_time(row.paused_until)}"
    if row.breaker_until is not None:
        return f"{row.failures} failures in a row; one try at {shown_time(row.breaker_until)}"
    return "-"


def _act(context: Context, ids: tuple[int, ...], event: DeliveryEvent, why: str) -> None:
    action, words = _DONE[event]

    async def work(cur: Cursor, actor: str) -> None:
        for number in sorted(set(ids)):
            await desk_store.act_on_delivery(cur, number, event, actor, why, datetime.now(UTC))
            await record(cur, actor, action, "", "delivery", str(number), why=why)

    _as_person(context, work)
    for number in sorted(set(ids)):
        click.echo(f"delivery {number} {words}")


def _resend_queue(context: Context, wanted: DeliveryFilter, yes: bool, why: str) -> None:
    async def work(cur: Cursor, actor: str) -> int:
        rows, before = [], None
        while portion := await desk_store.list_deliveries(cur, wanted, before, desk_store.LIST_MAX):
            rows += portion
            before = portion[-1].id
        for row in reversed(rows if yes else []):
            await desk_store.act_on_delivery(cur, row.id, DeliveryEvent.RESEND, actor, why, datetime.now(UTC))
            await record(cur, actor, "delivery_resent", "", "delivery", str(row.id), why=why)
        return len(rows)

    count = _as_person(context, work)
    click.echo(f"{count} deliveries are sent again" if yes else f"{count} deliveries; say --yes to send them again")


def _as_person(context: Context, work: Callable[[Cursor, str], Awaitable[Any]]) -> Any:
    return context.act(Right.DELIVERIES_MANAGE, lambda cur, who: work(cur, who.name))


def _row(row: DeliveryRow) -> tuple[str, ...]:
    why = ": ".join(part for part in (row.reason, row.detail) if part)
    subject = row.subject if len(row.subject) < 60 else row.subject[:59] + "…"
    return (
        str(row.id), row.kind, row.recipient, row.address or "-", subject, row.state, str(row.attempts),
        shown_time(row.due_at if row.state in ("waiting", "unknown") else None), why or "-",
    )  # fmt: skip


def _log_lines(log: DeliveryLog) -> list[str]:
    row = log.row
    to = f"{row.recipient} for {row.address}" if row.address else row.recipient
    lines = [
        f"delivery {row.id}: {row.kind} {row.key}",
        f"to {to}: {row.subject}",
        f"state {row.state}, {row.size} bytes",
    ]
    if row.reason or row.detail:
        lines.append(f"why: {row.reason} {row.detail}".rstrip())
    if row.state in ("waiting", "unknown"):
        lines.append(
            f"next try {shown_time(row.due_at)}{', behind another one of its order' if row.is_blocked else ''}"
        )
    lines.append(f"queued {shown_time(row.created_at)} by {row.asked_by}; done {shown_time(row.done_at)}")
    for attempt in log.attempts:
        took = f" in {attempt.duration_ms} ms" if attempt.duration_ms is not None else ""
        late = " (late)" if attempt.is_late else ""
        code = f" {attempt.code}" if attempt.code else ""
        told = attempt.outcome or "under way"
        lines += [
            "",
            f"{attempt.no}. {attempt.action} {shown_time(attempt.at)} {told}{code}{took}{late} by {attempt.host}",
        ]
        lines += [f"   {attempt.detail}"] if attempt.detail else []
        for name, text in (("request", attempt.request), ("reply", attempt.reply)):
            lines += [f"   {name}: {line}" for line in text.splitlines()[:40]]
    for receipt in log.receipts:
        lines.append(f"receipt {shown_time(receipt.at)} {receipt.reference}: {receipt.outcome} {receipt.code}")
    for note in log.notes:
        lines.append(f"{note.event} {shown_time(note.at)} by {note.actor} {note.why}".rstrip())
    return lines


def _pair(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.UsageError(f"{text[:60]!r} is not FIELD=VALUE")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
