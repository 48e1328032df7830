"""Composition root of a gateway process: the partner port.

Several share one port (SO_REUSEPORT) and nothing else but the database.
"""

import asyncio
import ipaddress
import os
import resource

import structlog

from gateway import failpoints
from gateway.lanes import CoreOptions
from gateway.server import Gateway, PortOptions
from kopeck.embedded import attach
from kopeck.exposure import require_no_failpoints, warn_of_exposure
from kopeck.process import ProcessError, finished_before, listen, run_process, tls_context, wait_for_database
from kopeck.settings import Settings, SettingsError

log = structlog.get_logger("kopeck.gateway")


def run_gateway(settings: Settings, index: int = 0) -> None:
    """Serve partners until SIGTERM. index: which of this host's gateway processes it is, for its metrics port."""
    require_no_failpoints(settings, os.environ)
    stores = attach(settings)
    warn_of_exposure(settings, ("gateway", "metrics"))
    _allow_descriptors(settings.gateway.connections_max)
    tls_context("gateway", settings.gateway.tls_cert, settings.gateway.tls_key)  # the port loads them; here they speak
    try:
        failpoints.arm(settings.gateway.failpoints)
    except ValueError as error:
        raise SettingsError(f"gateway.failpoints: {error}") from error

    async def work(stop: asyncio.Event, parts: dict[str, bool]) -> None:
        if not await wait_for_database(stores.dsn, stop):
            return
        gateway = Gateway(core_options(settings, stores.dsn), port_options(settings))
        try:
            if await finished_before(stop, gateway.prepare()):
                gateway.listen(listen(settings.gateway.host, settings.gateway.port, shared=True))
                log.info("serving", host=settings.gateway.host, port=settings.gateway.port)
                parts["started"] = True
                await _watch(gateway, stop, parts)
        finally:
            await gateway.stop(settings.gateway.drain_s)

    run_process(settings, settings.gateway.metrics_port + index, work)


#: Descriptors a gateway needs beside partners' connections: databases, logs, the health port.
OTHER_DESCRIPTORS = 100


def _allow_descriptors(connections_max: int) -> None:
    """Raise this process's limit of open files to what its connections need.

    Out of descriptors, a server spins on accept instead of refusing.

    Raises:
        ProcessError: the system does not allow as many.
    """
    needed = connections_max + OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ProcessError(
            f"gateway.connections_max = {connections_max} needs {needed} open files, and this system allows {hard}: "
            "lower it, or raise the limit (ulimit -Hn, LimitNOFILE)"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


async def _watch(gateway: Gateway, stop: asyncio.Event, parts: dict[str, bool]) -> None:
    """Keep the health report true until the end is asked for."""
    while not stop.is_set():
        parts["ready"] = gateway.is_ready
        try:
            await asyncio.wait_for(stop.wait(), 0.5)
        except TimeoutError:
            continue


def core_options(settings: Settings, dsn: str) -> CoreOptions:
    """The gateway's core as settings want it; the web process makes one too, for people's cancels."""
    gateway = settings.gateway
    return CoreOptions(
        dsn=dsn,
        lanes=gateway.lanes,
        batch_max=gateway.batch_max,
        queue_max=gateway.queue_max,
        request_deadline_s=gateway.request_deadline_s,
        away_grace_s=gateway.away_grace_ms / 1000,
        lock_timeout_s=gateway.lock_timeout_ms / 1000,
        database_timeout_s=gateway.database_timeout_s,
    )


def port_options(settings: Settings) -> PortOptions:
    """The partner port's limits as settings want them."""
    gateway = settings.gateway
    return PortOptions(
        line_max=gateway.line_max_bytes,
        header_max=gateway.header_max_bytes,
        body_max=gateway.body_max_bytes,
        header_timeout_s=gateway.header_timeout_s,
        body_timeout_s=gateway.body_timeout_s,
        connections_max=gateway.connections_max,
        connections_per_address_max=gateway.connections_per_address_max,
        contracts_poll_s=gateway.contracts_poll_s,
        trusted_proxies=tuple(ipaddress.ip_network(network) for network in gateway.trusted_proxies),
        record_calls=gateway.record_calls,
        key_passphrase=gateway.key_passphrase,
        tls_cert=gateway.tls_cert,
        tls_key=gateway.tls_key,
    )
