"""Composition root of the role web: pages for people.

A person's cancel goes the way a partner's does, through a gateway core of this process's own.
"""

import asyncio

import structlog

from gateway.journal.journal import Journal
from gateway.payments.lanes import Core
from kopeck.databases.stores import Stores
from kopeck.serve.gateway import core_options
from kopeck.serve.process import RoleParts, listen, tls_context, wait_for_database
from kopeck.serve.requests_in_flight import Counted
from kopeck.settings import Settings
from web.app import close, make_app, make_server
from web.site.site import WebOptions

log = structlog.get_logger("kopeck.web")


async def serve_web(settings: Settings, stores: Stores, stop: asyncio.Event, parts: RoleParts) -> None:
    """Serve pages until the end is asked for, then answer what is in flight.

    Raises:
        ProcessError: the port is taken, or its TLS cannot be used.
    """
    tls = tls_context("web", settings.web.tls_cert, settings.web.tls_key)
    if not await wait_for_database(stores.dsn, stop):
        return
    core = Core(core_options(settings, stores.dsn))
    journal = Journal(stores.journal_uri, stores.journal_database)
    app = make_app(web_options(settings, stores, journal, core))
    requests = Counted(app)
    server = make_server(requests, tls)
    try:
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
        journal.close()


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
        second_person_above_minor=settings.billing.second_person_above_minor,
        event_source=settings.deliveries.event_source,
    )
