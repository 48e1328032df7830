"""Composition root of a web process: pages for people.

A person's cancel goes the way a partner's does, through a gateway core of this process's own.
"""

import asyncio

import structlog

from gateway.journal import Journal
from gateway.lanes import Core
from gateway.server import ContractBook
from kopeck.embedded import Stores, attach
from kopeck.exposure import warn_of_exposure
from kopeck.process import finished_before, listen, run_process, tls_context, wait_for_database
from kopeck.requests_in_flight import Counted
from kopeck.run_gateway import core_options, port_options
from kopeck.settings import Settings
from web.app import WebOptions, close, make_app, make_server

log = structlog.get_logger("kopeck.web")


def run_web(settings: Settings) -> None:
    """Serve pages until SIGTERM."""
    stores = attach(settings)
    warn_of_exposure(settings, ("web", "metrics"))
    tls = tls_context("web", settings.web.tls_cert, settings.web.tls_key)

    async def work(stop: asyncio.Event, parts: dict[str, bool]) -> None:
        if not await wait_for_database(stores.dsn, stop):
            return
        book = ContractBook(core_options(settings, stores.dsn), port_options(settings))
        core = Core(core_options(settings, stores.dsn), lambda: book.book.by_partner_id if book.book else {})
        journal = Journal(stores.journal_uri, stores.journal_database)
        app = make_app(web_options(settings, stores, journal, core))
        requests = Counted(app)
        server = make_server(requests, tls)
        try:
            if await finished_before(stop, book.start()):
                core.start()
                server.add_sockets(listen(settings.web.host, settings.web.port, shared=True))
                log.info("serving", host=settings.web.host, port=settings.web.port)
                parts["started"] = True
                await stop.wait()
        finally:
            server.stop()
            await requests.drain(settings.web.drain_s)
            await server.close_all_connections()
            await core.stop(settings.web.drain_s)
            await close(app)
            await book.stop()
            journal.close()

    run_process(settings, settings.web.metrics_port, work)


def web_options(settings: Settings, stores: Stores, journal: Journal, core: Core | None) -> WebOptions:
    """What the pages share, as settings want it."""
    web = settings.web
    return WebOptions(
        dsn=stores.dsn,
        journal=journal,
        core=core,
        secure_cookies={"auto": None, "always": True, "never": False}[web.cookie_secure],
        session_hours=web.session_hours,
        idle_minutes=web.idle_minutes,
        trusted_proxies=web.trusted_proxies,
        time_zone=web.time_zone,
    )
