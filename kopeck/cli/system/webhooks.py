"""``kopeck webhook`` and ``kopeck mail``: who is told of events, and whether a letter arrives.

Rules. A secret is shown once, when it is made; it is never taken from the command line, where others could see it.

Does not know: how a webhook is sent.
"""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import IO, Any

import click

from adapters.cloudevents import encode_event
from billing.database.cursors import Cursor
from billing.work.deliveries.desk_store import release_queue
from billing.work.deliveries.queue import enqueue
from gateway.channels import endpoint_store
from gateway.channels.endpoints import (
    ROTATION_HOURS,
    EndpointError,
    EndpointRow,
    Expects,
    new_secret,
    require_endpoint,
    require_secret,
)
from gateway.channels.letters import Letter, queued_letter
from gateway.events.envelopes import sample_event
from gateway.events.feed import webhook_delivery
from kopeck.cli.context import Context, pass_context, show_table, shown_name, shown_time
from kopeck.cli.output import AS_JSON, show_json
from kopeck.settings import SettingsError
from web.access.audit import record
from web.access.rights import Right

NAME = click.argument("name")
SECRET = click.option(
    "--secret-file",
    "file",
    type=click.File("rb"),
    help="File with a secret (whsec_...); - reads stdin. Else one is made.",
)


@click.group()
def webhook() -> None:
    """Endpoints that are told of events by webhooks."""


@webhook.command()
@NAME
@click.argument("url")
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Such as kopeck.payment.*; several; else all.")
@click.option("--expect-type", default="", metavar="TYPE", help="An answer must be of this content type.")
@click.option("--expect-text", default="", metavar="TEXT", help="An answer must hold this text.")
@click.option("--expect-any", is_flag=True, help="Any 2xx answer acknowledges, a page for people too.")
@SECRET
@pass_context
def add(
    context: Context,
    name: str,
    url: str,
    types: tuple[str, ...],
    expect_type: str,
    expect_text: str,
    expect_any: bool,
    file: IO[bytes] | None,
) -> None:
    """Add an endpoint and print the secret that its receiver verifies with.

    For example: kopeck webhook add crm https://crm.example.org/hooks --type kopeck.payment.*
    """
    patterns = types or ("*",)
    plain_http = context.settings.deliveries.webhook_plain_http
    require_endpoint(name, url, patterns, expect_type, expect_text, plain_http=plain_http)
    secret = _secret(file)
    expects: Expects = "any" if expect_any else "no_page"

    async def work(cur: Cursor, actor: str) -> None:
        passphrase = _passphrase(context)
        await endpoint_store.add_endpoint(
            cur, name, url, patterns, secret, actor, passphrase=passphrase,
            expects=expects, expected_type=expect_type, expected_text=expect_text,
        )  # fmt: skip
        await record(cur, actor, "webhook_added", "", "webhook", name, types=list(patterns))

    _as_person(context, work)
    click.echo(f"endpoint {name} is added; try it with `kopeck webhook test {name}`", err=True)
    if file is None:
        click.echo(secret)


@webhook.command("list")
@AS_JSON
@pass_context
def list_(context: Context, as_json: bool) -> None:
    """List endpoints with what they are told of and how that goes."""
    rows = context.in_transaction(endpoint_store.list_endpoints)
    if as_json:
        show_json([asdict(row) for row in rows])
        return
    show_table(
        ("name", "address", "types", "state", "secrets", "waiting", "for a person"),
        [
            (
                row.name,
                row.url,
                ", ".join(row.types),
                state_words(row),
                *map(str, (row.secrets, row.waiting, row.manual)),
            )
            for row in rows
        ],
        right=("secrets", "waiting", "for a person"),
    )


@webhook.command()
@NAME
@click.option("--hours", type=click.IntRange(0, 720), default=ROTATION_HOURS, show_default=True,
              help="How long the old secret signs too.")  # fmt: skip
@SECRET
@pass_context
def rotate(context: Context, name: str, hours: int, file: IO[bytes] | None) -> None:
    """Replace an endpoint's secret and print the new one; for a while both sign."""
    secret = _secret(file)
    until = datetime.now(UTC) + timedelta(hours=hours)

    async def work(cur: Cursor, actor: str) -> None:
        await endpoint_store.rotate_secret(cur, name, secret, actor, until, passphrase=_passphrase(context))
        await record(cur, actor, "webhook_rotated", "", "webhook", name, until=until.isoformat())

    _as_person(context, work)
    click.echo(f"endpoint {name} has a new secret; the old one signs until {shown_time(until)}", err=True)
    if file is None:
        click.echo(secret)


@webhook.command()
@NAME
@pass_context
def test(context: Context, name: str) -> None:
    """Send a test event to an endpoint; `kopeck delivery show` tells what became of it."""
    settings = context.settings

    async def work(cur: Cursor, actor: str) -> int:
        if name not in await endpoint_store.read_endpoints(cur, ""):
            raise EndpointError(f"there is no endpoint {name[:40]!r}")
        event = sample_event(name, token_hex(8), datetime.now(UTC), settings.deliveries.event_source)
        number = await enqueue(cur, webhook_delivery(event, name, encode_event(event), actor))
        await record(cur, actor, "webhook_tested", "", "webhook", name, delivery=number)
        return number

    number = _as_person(context, work)
    click.echo(f"delivery {number} is queued; `kopeck delivery show {number}` tells what became of it")


@webhook.command()
@NAME
@pass_context
def disable(context: Context, name: str) -> None:
    """Tell an endpoint of nothing new; what waits for it is still sent (`kopeck delivery hold` keeps it)."""
    _set_enabled(context, name, False)
    click.echo(f"endpoint {name} is told of nothing new")


@webhook.command()
@NAME
@pass_context
def enable(context: Context, name: str) -> None:
    """Tell an endpoint of what happens from now on, and let its queue go on."""
    _set_enabled(context, name, True)
    click.echo(f"endpoint {name} is told of what happens from now on")


@click.group()
def mail() -> None:
    """Mail: send a letter to try the mail server."""


@mail.command("test")
@click.argument("address")
@pass_context
def test_mail(context: Context, address: str) -> None:
    """Send a test letter to ADDRESS; `kopeck delivery show` tells what became of it."""
    deliveries = context.settings.deliveries
    if not deliveries.smtp_host:
        raise SettingsError("no mail server: set deliveries.smtp_host and deliveries.mail_from")
    now = datetime.now(UTC)
    letter = Letter(
        address,
        "Kopeck: a test letter",
        f"This letter was sent by hand at {shown_time(now)} to try the mail server {deliveries.smtp_host}.\n\n"
        "Nothing happened; no answer is needed.\n",
    )

    async def work(cur: Cursor, actor: str) -> int:
        queued = queued_letter(letter, key=f"test-{token_hex(8)}", sender=deliveries.mail_from, at=now, asked_by=actor)
        number = await enqueue(cur, queued)
        await record(cur, actor, "mail_tested", "", "delivery", str(number))
        return number

    number = _as_person(context, work)
    click.echo(f"delivery {number} is queued; `kopeck delivery show {number}` tells what became of it")


def state_words(row: EndpointRow) -> str:
    """How an endpoint stands, for a table."""
    if row.held_why:
        return f"held: {row.held_why}"
    if not row.is_enabled:
        return "disabled"
    return f"failing since {shown_time(row.failing_since)}" if row.failing_since else "enabled"


def _set_enabled(context: Context, name: str, enabled: bool) -> None:
    async def work(cur: Cursor, actor: str) -> None:
        await endpoint_store.set_enabled(cur, name, enabled)
        if enabled:
            await release_queue(cur, endpoint_store.KIND, name)
        await record(cur, actor, "webhook_enabled" if enabled else "webhook_disabled", "", "webhook", name)

    _as_person(context, work)


def _as_person(context: Context, work: Callable[[Cursor, str], Awaitable[Any]]) -> Any:
    return context.act(Right.DELIVERIES_MANAGE, lambda cur, who: work(cur, who.name))


def _passphrase(context: Context) -> str:
    """What seals secrets.

    Raises:
        EndpointError: none is set beside an external database.
    """
    passphrase = context.settings.gateway.key_passphrase
    if context.settings.database.dsn and not passphrase:
        raise EndpointError("secrets are stored sealed: set gateway.key_passphrase, for every process")
    return passphrase


def _secret(file: IO[bytes] | None) -> str:
    if file is None:
        return new_secret()
    try:
        return require_secret(file.read(1_000).decode("ascii").strip())
    except UnicodeDecodeError as error:
        raise EndpointError(f"{shown_name(file)} holds no secret such as whsec_...") from error
