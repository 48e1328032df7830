"""``kopeck account post|move|refund|payout`` and ``pending|approve|reject``: money by hand (docs/payments-by-hand.md).

Does not know: what may be moved and who agrees (gateway.payments.manual_money), how people prove who they are
(kopeck.cli.person).
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import click

from billing.database.cursors import Cursor
from billing.ledger.posting_requests import Kind, PostingRequest, RequestState
from billing.ledger.posting_store import hold_request as posting_request
from billing.ledger.posting_store import list_requests
from gateway.payments.manual_money import PostingOutcome
from kopeck.cli.context import Context, pass_context, show_table, shown_time
from kopeck.cli.payments.accounts import account
from kopeck.cli.person import AS_LOGIN
from ratingcore.money import format_minor, parse_minor
from web.access import approvals
from web.access.actors import Actor
from web.access.approval_kinds import MONEY, RIGHT_OF_POSTING, approval_kinds, approval_of_posting
from web.access.approvals import Kinds
from web.access.rights import Right

KINDS = ("cash", "bank", "correction", "write-off")


class SignedSum(click.ParamType):  # type: ignore[type-arg]
    """A sum of money such as 150.00, or -150.00 where less than nothing has a meaning."""

    name = "sum"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Text to minor units."""
        try:
            return parse_minor(value.removeprefix("-")) * (-1 if value.startswith("-") else 1)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def decorate(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_COMMON = _options(
    click.option("--key", required=True, help="Your own key of this posting: a repeat does nothing."),
    click.option("--why", required=True, help="The reason, for who looks later."),
    click.option("--document", default="", help="Number of the paper: cash order, bank order, letter."),
    click.option("--may-owe", is_flag=True, help="The account may owe, or owe more, afterwards."),
    AS_LOGIN,
    click.option("--dry-run", is_flag=True, help="Show balances before and after, and keep nothing."),
)
_RECEIPT = _options(
    click.option("--payment", "payment_id", type=click.IntRange(1), help="The payment that brought the money."),
    click.option(
        "--transfer", "transfer_id", type=click.IntRange(1), help="Or the transfer, as `kopeck account show` has it."
    ),
)


@account.command()
@click.argument("number")
@click.option("--kind", type=click.Choice(KINDS), required=True, help="Where the money comes from.")
@click.option("--amount", type=SignedSum(), required=True, help="Such as 150.00; a correction may be -150.00.")
@_COMMON
@pass_context
def post(context: Context, /, number: str, kind: str, login: str | None, dry_run: bool, **given: Any) -> None:
    """Record money on an account by hand.

    cash and bank are payments: they pay invoices, oldest first or as `invoice allocate` says, and lift suspensions.
    correction mends a balance, either way. write-off gives up a debt.
    """
    _ask(context, login, dry_run, kind=kind.replace("-", "_"), account=number, **given)


@account.command()
@_RECEIPT
@click.option("--to", "to_account", required=True, metavar="NUMBER", help="The account it was meant for.")
@click.option("--amount", type=SignedSum(), help="This much of it; without, all that is left.")
@_COMMON
@pass_context
def move(context: Context, /, login: str | None, dry_run: bool, **given: Any) -> None:
    """Move a wrong payment, or part of it, from the account it went to to another one.

    The payment stays posted: to its partner nothing changes. What was directed to invoices is freed first.
    """
    _ask(context, login, dry_run, kind="move", **given)


@account.command()
@_RECEIPT
@click.option("--to", "way", type=click.Choice(("partner", "bank", "cash")), required=True, help="Who gives it back.")
@click.option("--amount", type=SignedSum(), help="This much of it; without, all that is left.")
@_COMMON
@pass_context
def refund(context: Context, /, login: str | None, dry_run: bool, **given: Any) -> None:
    """Refund a payment, or part of it: through its partner, from the bank or from the cash desk.

    All of a payment to its partner, before anything else was taken off it, reverses the payment. Refunds and moves
    never exceed the payment.
    """
    _ask(context, login, dry_run, kind="refund", **given)


@account.command()
@click.argument("number")
@click.option("--by", "way", type=click.Choice(("bank", "cash")), required=True, help="How it is paid out.")
@click.option("--amount", type=SignedSum(), help="This much; without, the whole balance.")
@_COMMON
@pass_context
def payout(context: Context, /, number: str, login: str | None, dry_run: bool, **given: Any) -> None:
    """Pay out the balance of an account, as of a customer who leaves."""
    _ask(context, login, dry_run, kind="payout", account=number, **given)


@account.command()
@click.option("--all", "everything", is_flag=True, help="Decided ones too.")
@click.option("--limit", type=click.IntRange(1, 1_000), default=100, show_default=True, help="The newest of them.")
@click.option("--before", type=click.IntRange(1), help="Those with a lower number, for the next page.")
@click.option("--json", "as_json", is_flag=True, help="As JSON; sums in minor units.")
@pass_context
def pending(context: Context, everything: bool, limit: int, before: int | None, as_json: bool) -> None:
    """List postings by hand that wait for a second person."""
    state = None if everything else RequestState.PENDING
    requests = context.in_transaction(lambda cur: list_requests(cur, state, before, limit))
    if as_json:
        click.echo(json.dumps([asdict(request) for request in requests], default=str, ensure_ascii=False))
        return
    headings = ("request", "asked", "by", "kind", "account", "to", "amount", "currency", "document", "why", "state")
    show_table(
        headings,
        [
            (
                str(request.id),
                shown_time(request.requested_at),
                request.requested_by,
                request.kind.value.replace("_", "-"),
                request.account,
                request.to_account or request.way,
                format_minor(request.amount),
                request.currency,
                request.document,
                request.why,
                _state(request),
            )
            for request in requests
        ],
        right=("request", "amount"),
    )


@account.command()
@click.argument("request_id", metavar="ID", type=click.IntRange(1))
@click.option("--why", default="", help="A remark of yours.")
@AS_LOGIN
@click.option("--dry-run", is_flag=True, help="Show balances before and after, and keep nothing.")
@pass_context
def approve(context: Context, request_id: int, why: str, login: str | None, dry_run: bool) -> None:
    """Post a request of another person; give your own login with --as."""

    async def work(cur: Cursor, kinds: Kinds, who: Actor) -> PostingOutcome:
        standing = await approval_of_posting(cur, request_id)
        outcome = await approvals.approve(cur, kinds, standing.id, who, why, datetime.now(UTC))
        if outcome.told is None:
            return PostingOutcome(await posting_request(cur, request_id), False)
        told: PostingOutcome = outcome.told
        return told

    _done(_decided(context, Right.MONEY_APPROVE, login, work, dry_run), dry_run)


@account.command()
@click.argument("request_id", metavar="ID", type=click.IntRange(1))
@click.option("--why", required=True, help="The reason.")
@AS_LOGIN
@pass_context
def reject(context: Context, request_id: int, why: str, login: str | None) -> None:
    """Reject a request; nothing is posted. Who asked for it may withdraw it so."""

    async def work(cur: Cursor, kinds: Kinds, who: Actor) -> PostingOutcome:
        standing = await approval_of_posting(cur, request_id)
        await approvals.refuse(cur, kinds, standing.id, who, why)
        return PostingOutcome(await posting_request(cur, request_id), True)

    _decided(context, None, login, work, dry_run=False)  # who asked may withdraw, whatever rights are left
    click.echo(f"request {request_id} is rejected")


def _ask(context: Context, login: str | None, dry_run: bool, *, kind: str, key: str, why: str, **given: Any) -> None:
    arguments = {
        "kind": kind,
        **{name: value for name, value in given.items() if value is not None and value is not False},
    }

    async def work(cur: Cursor, kinds: Kinds, who: Actor) -> PostingOutcome:
        now = datetime.now(UTC)
        outcome = await approvals.request_or_act(cur, kinds, MONEY, arguments, who, key=key, why=why, now=now)
        told: PostingOutcome = outcome.told
        return told

    _done(_decided(context, RIGHT_OF_POSTING[Kind(kind)], login, work, dry_run), dry_run)


def _decided(
    context: Context,
    right: Right | None,
    login: str | None,
    work: Callable[[Cursor, Kinds, Actor], Awaitable[PostingOutcome]],
    dry_run: bool,
) -> PostingOutcome:
    """Prove the person and act; what was done is on record in the same transaction."""
    kinds = approval_kinds(context.settings.billing.second_person_above_minor)

    async def act(cur: Cursor, who: Actor) -> PostingOutcome:
        outcome = await work(cur, kinds, who)
        if dry_run:
            await cur.execute("ROLLBACK")
            await cur.execute("BEGIN")
        return outcome

    return context.act(right, act, login)


def _done(outcome: PostingOutcome, dry_run: bool) -> None:
    request = outcome.request
    amount = f"{format_minor(request.amount)} {request.currency}"
    what = f"{request.kind.value.replace('_', '-')} of {amount}, account {request.account}"
    if request.to_account or request.way:
        what += f", to {request.to_account or request.way}"
    if dry_run:
        click.echo(f"dry run, nothing is kept: {what}")
    elif not outcome.is_new:
        click.echo(f"request {request.id} stands already and is {_state(request)}: {what}")
    elif request.state.value == "pending":
        click.echo(f"request {request.id} waits for a second person: {what}")
        click.echo(f"another person posts it with: kopeck account approve {request.id} --as LOGIN")
    else:
        click.echo(f"request {request.id} is posted: {what}")
    for balance in outcome.balances:
        shown = f"{format_minor(balance.before)} before, {format_minor(balance.after)} after"
        click.echo(f"account {balance.account}: balance {shown}, {request.currency}")


def _state(request: PostingRequest) -> str:
    if request.state.value == "pending":
        return "pending"
    return f"{request.state.value} by {request.decided_by}"
