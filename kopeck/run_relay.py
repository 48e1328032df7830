"""Composition root of a relay process: outbox to journal. Any number may run at once."""

import asyncio

from gateway.journal import Journal
from gateway.relay import RelayOptions
from gateway.relay import run_relay as carry
from kopeck.embedded import attach
from kopeck.exposure import warn_of_exposure
from kopeck.process import run_process, wait_for_database
from kopeck.settings import Settings


def run_relay(settings: Settings) -> None:
    """Carry changes into the journal until SIGTERM; outlives either database being away."""
    stores = attach(settings)
    warn_of_exposure(settings, ("metrics",))
    options = RelayOptions(stores.dsn, settings.relay.batch_max, settings.relay.poll_ms / 1000)

    async def work(stop: asyncio.Event, parts: dict[str, bool]) -> None:
        if not await wait_for_database(stores.dsn, stop):
            return
        journal = Journal(stores.journal_uri, stores.journal_database)
        parts["started"] = True  # MongoDB away is no fault of the process: it says so in its metrics and tries again
        try:
            await carry(options, journal, stop)
        finally:
            journal.close()

    run_process(settings, settings.relay.metrics_port, work)
