"""Composition root of the role deliveries: webhooks, mail, and the events that become webhooks. Any number may run.

Rules. KINDS names every kind there is, so leases of any are looked after here; a kind is sent by processes that have a
channel for it: mail only where settings name a mail server.

Does not know: what is sent.
"""

import asyncio
import ipaddress
import os
import secrets
import socket
from collections.abc import Mapping
from typing import Any, Final

import structlog

from billing.database.aiopg import create_pool, failed_is_away
from billing.database.session import IDLE_RELAY_S
from billing.work.deliveries.engine import Engine, EngineOptions
from billing.work.deliveries.records import Channel, DeliveryKind
from gateway.channels.endpoint_store import read_endpoints
from gateway.channels.endpoints import Endpoint
from gateway.channels.letters import LetterError, parse_sender
from gateway.channels.mail import MAIL, MailChannel, MailServer
from gateway.channels.outbound_http import OutboundHttp
from gateway.channels.webhooks import WEBHOOK, WebhookChannel
from gateway.events.feed import FeedOptions, run_feed
from kopeck.databases.stores import Stores
from kopeck.serve.process import RoleParts, wait_for_database
from kopeck.settings import Settings, SettingsError

log = structlog.get_logger("kopeck.deliveries")

#: Every kind of delivery.
KINDS: Final[Mapping[str, DeliveryKind]] = {kind.name: kind for kind in (WEBHOOK, MAIL)}
_STATEMENT_TIMEOUT_S: Final = 10.0


async def serve_deliveries(settings: Settings, stores: Stores, stop: asyncio.Event, parts: RoleParts) -> None:
    """Send what is due until the end is asked for, then let attempts under way finish; outlives the database's absence.

    Raises:
        SettingsError: a sender that is none.
    """
    server = mail_server(settings)
    if not await wait_for_database(stores.dsn, stop):
        return
    deliveries = settings.deliveries
    networks = [ipaddress.ip_network(network) for network in deliveries.webhook_networks]
    http = OutboundHttp(networks, deliveries.webhook_proxy, deliveries.under_way_max)
    pool = await create_pool(
        stores.dsn,
        name="kopeck-endpoints",
        size_max=1,
        statement_timeout_s=_STATEMENT_TIMEOUT_S,
        idle_transaction_s=IDLE_RELAY_S,
    )

    async def load() -> dict[str, Endpoint]:
        with failed_is_away():
            async with pool.acquire() as connection, connection.cursor() as cur:
                return await read_endpoints(cur, settings.gateway.key_passphrase)

    channels: dict[str, Channel] = {WEBHOOK.name: WebhookChannel(http, load)}
    if server is not None:
        channels[MAIL.name] = MailChannel(server)
    engine = Engine(engine_options(settings, stores.dsn), KINDS, channels)
    feed = FeedOptions(stores.dsn, deliveries.event_source, settings.gateway.key_passphrase)
    log.info("serving", channels=sorted(channels))
    parts["started"] = True
    try:
        await _together(stop, engine.run(stop), run_feed(feed, stop), _watch(engine, stop, parts))
    finally:
        http.close()
        pool.close()
        await pool.wait_closed()


def engine_options(settings: Settings, dsn: str) -> EngineOptions:
    """What the engine needs of the settings; its host's name is new for each process."""
    deliveries = settings.deliveries
    return EngineOptions(
        dsn=dsn,
        host=f"{socket.gethostname()[:60]}:{os.getpid()}:{secrets.token_hex(4)}",
        under_way_max=deliveries.under_way_max,
        poll_s=deliveries.poll_ms / 1000,
        lease_margin_s=deliveries.lease_margin_s,
        drain_s=deliveries.drain_s,
    )


def mail_server(settings: Settings) -> MailServer | None:
    """The mail server that settings name, or None.

    Raises:
        SettingsError: the sender is none.
    """
    deliveries = settings.deliveries
    if not deliveries.smtp_host:
        return None
    try:
        parse_sender(deliveries.mail_from)
    except LetterError as error:
        raise SettingsError(f"deliveries.mail_from: {error}") from error
    return MailServer(
        deliveries.smtp_host,
        deliveries.smtp_port,
        deliveries.smtp_tls,
        deliveries.smtp_user,
        deliveries.smtp_password,
        deliveries.smtp_ca_file,
    )


async def _together(stop: asyncio.Event, *works: Any) -> None:
    """All of them; the first that fails ends the others in order."""

    async def ended(work: Any) -> None:
        try:
            await work
        finally:
            stop.set()

    for error in await asyncio.gather(*map(ended, works), return_exceptions=True):
        if isinstance(error, BaseException):
            raise error


async def _watch(engine: Engine, stop: asyncio.Event, parts: RoleParts) -> None:
    """Keep the health report true until the end is asked for."""
    while not stop.is_set():
        parts["connected"] = engine.is_connected
        try:
            await asyncio.wait_for(stop.wait(), 0.5)
        except TimeoutError:
            continue
