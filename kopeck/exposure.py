"""What is said when a process stands more open than an operator may think: ports, root, failpoints.

Rules. One line for each thing, in the log, when the process starts. Nothing is refused but
failpoints where the database is a real one: they kill the process.

Does not know: how the processes serve.
"""

import ipaddress
from collections.abc import Mapping, Sequence

import structlog

from kopeck.settings import Settings, SettingsError

#: Set to 1 by crash tests, which run processes with failpoints on databases of their own.
ALLOW_FAILPOINTS = "KOPECK_TEST_FAILPOINTS"

log = structlog.get_logger("kopeck.exposure")


def require_no_failpoints(settings: Settings, environ: Mapping[str, str]) -> None:
    """Refuse failpoints beside an external database.

    Raises:
        SettingsError: they are set.
    """
    if settings.gateway.failpoints and settings.database.dsn and environ.get(ALLOW_FAILPOINTS) != "1":
        raise SettingsError(
            "gateway.failpoints kill the process in the midst of payments: they are for crash tests on the embedded "
            "database, and database.dsn names another one"
        )


def warn_of_exposure(settings: Settings, sections: Sequence[str]) -> None:
    """Say which ports of these sections (gateway, web, metrics) others can reach without protection."""
    for sentence in exposed(settings, sections):
        log.warning("exposed", what=sentence)


def exposed(settings: Settings, sections: Sequence[str]) -> list[str]:
    """A sentence for each port that is not on loopback and should be, or should speak TLS."""
    said = []
    for section in sections:
        record = getattr(settings, section)
        if is_loopback(record.host):
            continue
        if section == "metrics":
            said.append(
                f"metrics.host {record.host} lets others read health and metrics, which name partners: keep it to an "
                "address of your own network"
            )
        elif not record.tls_cert and not record.trusted_proxies:
            secret = "passwords and sessions" if section == "web" else "partners' passwords"
            said.append(
                f"{section}.host {record.host} is served in plain HTTP, so {secret} can be read on the way: name "
                f"{section}.tls_cert and {section}.tls_key, or the TLS proxy in front in {section}.trusted_proxies"
            )
    return said


def warn_of_root(uid: int) -> None:
    """Say that everything but PostgreSQL has root's rights."""
    if uid == 0:
        log.warning(
            "running_as_root",
            what="the partner port, the pages, the relay and the embedded journal run as root; only PostgreSQL does "
            "not. Run kopeck as a user of its own wherever strangers can reach it",
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address. A name that is no address counts as reachable, but localhost."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
