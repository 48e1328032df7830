"""``kopeck approval``: what waits for a second person.

Does not know: what may wait and who decides (web.access.approvals, approval_kinds).
"""

import json
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any

import click

from billing.database.cursors import Cursor
from kopeck.cli.context import Context, pass_context, show_table, shown_time
from kopeck.cli.output import AS_JSON, show_json
from ratingcore.money import format_minor
from web.access import approvals
from web.access.actors import Actor
from web.access.approval_kinds import approval_kinds
from web.access.approval_store import Approval, list_approvals, read
from web.access.approvals import Ending, Kinds, Outcome
from web.access.roles import AccessError

VIEWS = ("waiting", "mine", "decided")
NUMBER = click.argument("approval_id", metavar="ID", type=click.IntRange(1, 2**63 - 1))


@click.group()
def approval() -> None:
    """What waits for a second person. Who asked never approves; both prove who they are (`kopeck --as LOGIN`)."""


@approval.command("list")
@click.argument("view", type=click.Choice(VIEWS), default="waiting")
@click.option("--limit", type=click.IntRange(1, 200), default=100, show_default=True, help="The newest of them.")
@click.option("--before", type=click.IntRange(1), help="Those with a lower number, for the next page.")
@AS_JSON
@pass_context
def list_(context: Context, view: str, limit: int, before: int | None, as_json: bool) -> None:
    """List what is waiting for whoever acts, mine: asked by it, or decided."""
    found: list[Approval] = _acted(context, lambda cur, _, who: list_approvals(cur, view, who, before, limit))
    now = datetime.now(UTC)
    if as_json:
        show_json([_as_json(one, now) for one in found])
        return
    show_table(
        ("request", "asked", "by", "what", "amount", "currency", "why", "state", "until"),
        [
            (
                *(str(one.id), shown_time(one.asked_at), one.asked_by, one.summary),
                *("" if one.amount is None else format_minor(one.amount), one.currency, one.why),
                *(_state(one, now), shown_time(one.expires_at)),
            )
            for one in found
        ],
        right=("request", "amount"),
    )


@approval.command()
@NUMBER
@AS_JSON
@pass_context
def show(context: Context, approval_id: int, as_json: bool) -> None:
    """Show a request with everything that will change."""

    async def work(cur: Cursor, _: Kinds, who: Actor) -> Approval:
        found = await read(cur, approval_id)
        if found is None or not approvals.may_see(found, who):
            raise AccessError(f"there is no request {approval_id} that {who.login or who.name} may see")
        return found

    found = _acted(context, work)
    now = datetime.now(UTC)
    if as_json:
        show_json(_as_json(found, now))
        return
    click.echo(f"request {found.id}: {found.summary}, {_state(found, now)}")
    if found.amount is not None:
        click.echo(f"amount: {format_minor(found.amount)} {found.currency}")
    click.echo(f"asked by {found.asked_by} at {shown_time(found.asked_at)}: {found.why}")
    click.echo(f"waits until {shown_time(found.expires_at)} for who has the right {found.right.value}")
    show_table(
        ("fact", "before", "after"),
        [(fact, _shown(fact, before), _shown(fact, after)) for fact, (before, after) in found.changes.items()],
    )


@approval.command()
@NUMBER
@click.option("--why", default="", help="A remark of yours.")
@pass_context
def approve(context: Context, approval_id: int, why: str) -> None:
    """Do what another person asked for."""
    outcome = _acted(
        context, lambda cur, kinds, who: approvals.approve(cur, kinds, approval_id, who, why, datetime.now(UTC))
    )
    if outcome.ending in (Ending.EXPIRED, Ending.STALE):
        reason = "has expired" if outcome.ending is Ending.EXPIRED else "is about something that changed since"
        raise click.ClickException(f"request {approval_id} {reason}: nothing was done, it has to be asked again")
    click.echo(f"request {approval_id} is {'approved and done' if outcome.is_new else 'done already'}")


@approval.command()
@NUMBER
@click.option("--why", required=True, help="The reason.")
@pass_context
def refuse(context: Context, approval_id: int, why: str) -> None:
    """Refuse a request, or withdraw your own; nothing is done."""

    async def work(cur: Cursor, kinds: Kinds, who: Actor) -> Outcome:
        return await approvals.refuse(cur, kinds, approval_id, who, why)

    outcome = _acted(context, work)
    assert outcome.approval is not None
    click.echo(f"request {approval_id} is {outcome.approval.state.value}")


def _acted(context: Context, work: Callable[[Cursor, Kinds, Actor], Coroutine[Any, Any, Any]]) -> Any:
    kinds = approval_kinds(context.settings.billing.second_person_above_minor)
    return context.act(None, lambda cur, who: work(cur, kinds, who))


def _state(found: Approval, now: datetime) -> str:
    state = found.state_at(now).value
    return f"{state} by {found.decided_by}" if found.decided_by else state


def _shown(fact: str, value: Any) -> str:
    if value is None:
        return "-"
    if fact.endswith("_minor") and isinstance(value, int):
        return format_minor(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _as_json(found: Approval, now: datetime) -> dict[str, Any]:
    names = (
        *("id", "kind", "summary", "object_kind", "object_id", "amount", "currency", "why", "asked_by", "asked_at"),
        *("expires_at", "decided_by", "decided_at", "decided_why"),
    )
    return {
        **{name: getattr(found, name) for name in names},
        "state": found.state_at(now).value,
        "changes": {fact: list(pair) for fact, pair in found.changes.items()},
    }
