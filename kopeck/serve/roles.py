"""Roles: what a process of Kopeck can do, and how one process takes several of them.

Rules. A role is an async function of (settings, stores, stop, parts): it works until ``stop`` is set, drains, returns,
and keeps its part of the health report true in ``parts``. Roles of one process share its event loop, its health port
(parts by role: ``relay.started``) and its end: the first role that ends or fails ends the others in order. A role's
module is imported when the role is served, so a gateway carries nothing of the pages. A role that works for people at
once (gateway, web) stands alone where load matters; the others share `BACK_OFFICE`.

Does not know: what the roles do.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from importlib import import_module
from typing import Final, NamedTuple

from kopeck.databases.stores import Stores, attach
from kopeck.serve.exposure import warn_of_exposure
from kopeck.serve.process import RoleParts, run_process
from kopeck.settings import Settings

#: What a role does until ``stop`` is set: it fills its part of the health report and returns when it has drained.
Work = Callable[[Settings, Stores, asyncio.Event, RoleParts], Awaitable[None]]


class Role(NamedTuple):
    """place: ``module:function`` of its work. does, uses: for people.

    section: of the settings that name its ports. drain_s: the longest it takes to end.
    """

    place: str
    does: str
    uses: str
    section: str
    has_port: bool
    drain_s: Callable[[Settings], float]

    def work(self) -> Work:
        """Import the role."""
        module, _, function = self.place.partition(":")
        work: Work = getattr(import_module(module), function)
        return work


ROLES: Final = {
    "gateway": Role(
        place="kopeck.serve.gateway:serve_gateway",
        does="answers aggregators on the partner port",
        uses="PostgreSQL",
        section="gateway",
        has_port=True,
        drain_s=lambda settings: settings.gateway.drain_s,
    ),
    "relay": Role(
        place="kopeck.serve.relay:serve_relay",
        does="carries payments and attempts into the journal",
        uses="PostgreSQL, the journal",
        section="relay",
        has_port=False,
        drain_s=lambda _settings: 10,
    ),
    "jobs": Role(
        place="kopeck.serve.jobs:serve_jobs",
        does="does background jobs: exports, imports, runs",
        uses="PostgreSQL, the journal",
        section="jobs",
        has_port=False,
        drain_s=lambda settings: settings.jobs.drain_s + 5,
    ),
    "schedules": Role(
        place="kopeck.serve.schedules:serve_schedules",
        does="begins jobs by calendar rules",
        uses="PostgreSQL",
        section="schedules",
        has_port=False,
        drain_s=lambda _settings: 10,
    ),
    "deliveries": Role(
        place="kopeck.serve.deliveries:serve_deliveries",
        does="sends webhooks and mail",
        uses="PostgreSQL, receivers",
        section="deliveries",
        has_port=False,
        drain_s=lambda settings: settings.deliveries.drain_s + 5,
    ),
    "web": Role(
        place="kopeck.serve.web:serve_web",
        does="serves pages to people",
        uses="PostgreSQL, the journal",
        section="web",
        has_port=True,
        drain_s=lambda settings: settings.web.drain_s,
    ),
}

#: Roles that `kopeck run` puts into one process: none of them answers a partner or a person.
BACK_OFFICE: Final = ("relay", "jobs", "schedules", "deliveries")


def health_port(settings: Settings, roles: Sequence[str], index: int = 0) -> int:
    """The port for health and metrics of a process: that of its first role. index: which gateway of the host."""
    first = roles[0]
    port: int = getattr(settings, ROLES[first].section).metrics_port
    return port + index if first == "gateway" else port


def serve_roles(settings: Settings, roles: Sequence[str], index: int = 0) -> None:
    """Serve the roles in this process until SIGTERM.

    Raises:
        ProcessError: a port is taken.
    """
    stores = attach(settings)
    ports = [ROLES[role].section for role in roles if ROLES[role].has_port]
    warn_of_exposure(settings, (*ports, "metrics"))
    works = {role: ROLES[role].work() for role in roles}

    async def work(stop: asyncio.Event, parts: Mapping[str, RoleParts]) -> None:
        async def serve(role: str) -> None:
            try:
                await works[role](settings, stores, stop, parts[role])
            finally:
                stop.set()  # a process without one of its roles is to be started anew, not to limp on

        for error in await asyncio.gather(*map(serve, roles), return_exceptions=True):
            if error is not None:
                raise error

    run_process(settings, health_port(settings, roles, index), roles, work)
