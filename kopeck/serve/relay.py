"""Composition root of the role relay: outbox to journal. Any number may run at once."""

import asyncio

from gateway.journal.journal import Journal
from gateway.journal.relay import RelayOptions, run_relay
from kopeck.databases.stores import Stores
from kopeck.serve.process import RoleParts, wait_for_database
from kopeck.settings import Settings


async def serve_relay(settings: Settings, stores: Stores, stop: asyncio.Event, parts: RoleParts) -> None:
    """Carry changes into the journal until the end is asked for; outlives either database being away."""
    options = RelayOptions(stores.dsn, settings.relay.batch_max, settings.relay.poll_ms / 1000)
    if not await wait_for_database(stores.dsn, stop):
        return
    journal = Journal(stores.journal_uri, stores.journal_database)
    parts["started"] = True  # MongoDB away is no fault of the process: it says so in its metrics and tries again
    try:
        await run_relay(options, journal, stop)
    finally:
        journal.close()
