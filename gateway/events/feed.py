"""From what happened to deliveries: each event once to each endpoint that wants it.

Rules. Outbox rows are locked, their events queued for every enabled endpoint whose patterns name them, and the rows
deleted, in one transaction: an event is queued whole or not at all, however often a process dies. Any number of
processes share the work (SKIP LOCKED). A row that stands for a block of invoices is told in portions of PORTION and
says how far it is. An endpoint added later hears of what happens later.

Does not know: SQL, how a webhook is sent.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import psycopg2
from prometheus_client import Counter, Gauge

from adapters.cloudevents import CloudEvent, encode_event
from billing.database.aiopg import connect, failed_is_away
from billing.database.away import DatabaseAway
from billing.database.cursors import Cursor
from billing.database.session import IDLE_RELAY_S
from billing.work.deliveries.queue import enqueue_all
from billing.work.deliveries.records import NewDelivery
from gateway.channels.endpoint_store import KIND, read_endpoints
from gateway.channels.endpoints import Endpoint, wants
from gateway.events import event_store
from gateway.events.envelopes import bill_run_event, invoice_event, payment_event
from gateway.events.event_store import OutboxEvent

log = logging.getLogger(__name__)

#: Outbox rows in one transaction, and invoices of one row.
ROWS_MAX: Final = 200
PORTION: Final = 200
BACK_OFF_S: Final = (0.5, 10.0)
STATEMENT_TIMEOUT_S: Final = 60.0

TOLD = Counter("kopeck_events_told_total", "Events queued for an endpoint", ["type"])
OUTBOX = Gauge("kopeck_event_outbox_rows", "What happened and was not told yet")
OUTBOX_AGE = Gauge("kopeck_event_outbox_oldest_age_seconds", "Age of the oldest of it")


@dataclass(frozen=True, slots=True)
class FeedOptions:
    """source: the CloudEvents source of our events. passphrase: of the secrets; the feed needs it to read endpoints."""

    dsn: str
    source: str
    passphrase: str = ""
    poll_s: float = 0.5


async def run_feed(options: FeedOptions, stop: asyncio.Event) -> None:
    """Tell what happens until ``stop`` is set; survives the database being away."""
    wait_s = BACK_OFF_S[0]
    while not stop.is_set():
        try:
            with failed_is_away():
                connection = await connect(
                    options.dsn,
                    name="kopeck-events",
                    statement_timeout_s=STATEMENT_TIMEOUT_S,
                    idle_transaction_s=IDLE_RELAY_S,
                    must_write=True,
                )
                try:
                    cur = await connection.cursor()
                    while not stop.is_set():
                        told = await _portion(cur, options)
                        wait_s = BACK_OFF_S[0]
                        if not told:
                            rows, age_s = await event_store.outbox_lag(cur)
                            OUTBOX.set(rows)
                            OUTBOX_AGE.set(age_s)
                            await _sleep(stop, options.poll_s)
                finally:
                    await connection.close()
        except DatabaseAway as error:
            log.warning("event_feed_failed", extra={"cause": str(error), "again_in_s": wait_s})
            await _sleep(stop, wait_s)
            wait_s = min(wait_s * 2, BACK_OFF_S[1])


async def tell_portion(cur: Cursor, source: str, passphrase: str = "") -> int:
    """Queue one portion of what happened, in the caller's transaction; how many outbox rows it looked at."""
    rows = await event_store.take_events(cur, ROWS_MAX)
    if not rows:
        return 0
    endpoints = await read_endpoints(cur, passphrase)
    events: list[CloudEvent] = []
    done = [row.id for row in rows if row.topic != "invoices"]
    payments = [row for row in rows if row.topic == "payment"]
    runs = [row for row in rows if row.topic == "bill_run"]
    if payments:
        events += [payment_event(payment, source) for payment in await event_store.read_payments(cur, payments)]
    if runs:
        events += [bill_run_event(run, source) for run in await event_store.read_runs(cur, runs)]
    left = PORTION
    for row in rows:
        if row.topic == "invoices" and left > 0:
            told, is_done = await _tell_block(cur, row, left, source)
            events += told
            left -= len(told)
            if is_done:
                done.append(row.id)
    await enqueue_all(cur, list(webhook_deliveries(events, endpoints)))
    await event_store.drop_events(cur, done)
    return len(rows)


def webhook_deliveries(events: Iterable[CloudEvent], endpoints: Mapping[str, Endpoint]) -> Iterable[NewDelivery]:
    """Each event for each enabled endpoint that wants it. Pure."""
    for event in events:
        body = None
        for endpoint in endpoints.values():
            if endpoint.is_enabled and wants(endpoint.types, event.type):
                body = body or encode_event(event)
                TOLD.labels(event.type).inc()
                yield webhook_delivery(event, endpoint.name, body)


def webhook_delivery(event: CloudEvent, endpoint: str, body: bytes, asked_by: str = "system:events") -> NewDelivery:
    """One event for one endpoint."""
    return NewDelivery(
        KIND,
        f"{event.id}:{endpoint}",
        endpoint,
        body,
        subject=f"{event.type} {event.subject}"[:200],
        headers={"id": event.id, "type": event.type},
        asked_by=asked_by,
    )


async def _tell_block(cur: Cursor, row: OutboxEvent, limit: int, source: str) -> tuple[list[CloudEvent], bool]:
    invoices = await event_store.read_invoices(cur, row.ref, row.after, limit)
    is_done = len(invoices) < limit
    if not is_done:
        await event_store.move_event(cur, row.id, invoices[-1].invoice_id)
    return [invoice_event(invoice, source) for invoice in invoices], is_done


async def _portion(cur: Any, options: FeedOptions) -> int:
    await cur.execute("BEGIN")
    try:
        told = await tell_portion(cur, options.source, options.passphrase)
    except BaseException:
        with contextlib.suppress(psycopg2.Error, TimeoutError, RuntimeError):
            await cur.execute("ROLLBACK")
        raise
    await cur.execute("COMMIT")
    return told


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
