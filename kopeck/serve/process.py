"""What every long-running process of ours has in common: logs, signals, the health port, an orderly end.

Rules. SIGTERM and SIGINT ask for the end once: the work drains and stops; a second one is not needed, since every step
of the end has a time limit. A process whose port is taken says so in one line and exits with status 1.

Does not know: what the process works on.
"""

import asyncio
import contextlib
import signal
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from socket import SO_REUSEADDR, SOL_SOCKET, socket
from typing import Any

import structlog
from tornado.netutil import bind_sockets

from billing.refusals import Unavailable
from kopeck.databases.migrate import DatabaseUnreachable, require_current
from kopeck.serve.health import Parts, serve_health
from kopeck.settings import Settings

log = structlog.get_logger("kopeck.serve.process")

#: A role's part of the health report: a name, and whether that works.
RoleParts = dict[str, bool]
#: What a process does until the event is set: it fills its roles' parts and returns when all have drained.
Work = Callable[[asyncio.Event, Mapping[str, RoleParts]], Awaitable[None]]


class ProcessError(Unavailable):
    """The process cannot run; the message is for the operator."""


def run_process(settings: Settings, metrics_port: int, roles: Sequence[str], work: Work) -> None:
    """Run ``work`` until a signal asks for the end. Raises ProcessError when a port is taken."""
    asyncio.run(_run(settings, metrics_port, roles, work))


async def _run(settings: Settings, metrics_port: int, roles: Sequence[str], work: Work) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, stop.set)
    parts: dict[str, RoleParts] = {role: {"started": False} for role in roles}

    def health() -> Parts:
        of_roles = {f"{role}.{name}": works for role in roles for name, works in parts[role].items()}
        return {**of_roles, "not_draining": not stop.is_set()}

    try:
        side = serve_health(settings.metrics.host, metrics_port, health)
    except OSError as error:
        raise ProcessError(_cannot_listen(settings.metrics.host, metrics_port, error)) from error
    try:
        await work(stop, parts)
    finally:
        side.stop()
        await side.close_all_connections()
    log.info("stopped")


async def finished_before(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Run ``work`` unless the end is asked for first. True when it finished; its exception is raised."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        return working.done()
    finally:
        stopping.cancel()
        working.cancel()
        await asyncio.gather(stopping, working, return_exceptions=True)


async def wait_for_database(dsn: str, stop: asyncio.Event) -> bool:
    """Wait until the database answers and has the schema this program needs; False when the end came first.

    Raises:
        MigrateError: it answers, and migrations are pending.
    """
    said = False
    while not stop.is_set():
        try:
            await asyncio.to_thread(require_current, dsn)
        except DatabaseUnreachable as error:
            if not said:
                log.warning("waiting_for_database", error=str(error))
            said = True
        else:
            return True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 0.5)
    return False


def listen(host: str, port: int, *, shared: bool = False) -> list[socket]:
    """Listening sockets of an address; ``shared``: other processes may listen on it too (SO_REUSEPORT).

    Raises:
        ProcessError: the address cannot be listened on.
    """
    try:
        return bind_sockets(port, host, reuse_port=shared)
    except OSError as error:
        raise ProcessError(_cannot_listen(host, port, error)) from error


def tls_context(section: str, cert: str, key: str) -> ssl.SSLContext | None:
    """The TLS a port speaks; None for plain HTTP. section: of the settings that name the files.

    Raises:
        ProcessError: the files cannot be read or do not belong together.
    """
    if not cert:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key)
    except OSError as error:  # ssl.SSLError is one
        raise ProcessError(f"{section}.tls_cert {cert} and {section}.tls_key {key} cannot be used: {error}") from error
    return context


def can_listen(host: str, port: int) -> bool:
    """Whether nobody listens on the address now."""
    with socket() as probe:
        probe.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _cannot_listen(host: str, port: int, error: OSError) -> str:
    return f"cannot listen on {host}:{port}: {error.strerror or error}"
