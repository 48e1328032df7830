"""What every session of the program asks of PostgreSQL, and of the network under it.

Rules. A session is opened by `billing.database.aiopg` or `billing.database.adbc` (and by `kopeck.databases.migrate`,
for the owner), with the parameters made here. They travel as options of the session, so a server needs no set-up for
them:

  UTC                 nothing of ours may depend on the server's zone
  idle transaction    a process that was paused between two statements gives its locks back after `idle_transaction_s`;
                      a statement at work is no idle time, so this never ends a long query
  keep-alives         a host that vanished (power, network) is found within KEEPALIVE_S, by the server and by us;
                      the kernel's own default is two hours

The longest idle time that is legitimate differs by work: a batch of payments computes for milliseconds, a shard of
invoices for seconds, an import reads a file between two statements. The constants below say it by work.

Does not know: drivers, statements.
"""

from typing import Final

import psycopg2
from psycopg2.extensions import make_dsn, parse_dsn

#: Longest time, in seconds, that a transaction may wait for our next statement.
IDLE_GATEWAY_S: Final = 10.0
IDLE_WEB_S: Final = 30.0
IDLE_COMMAND_S: Final = 300.0
IDLE_RELAY_S: Final = 120.0
IDLE_VERIFY_S: Final = 900.0
IDLE_BILLING_S: Final = 120.0
IDLE_IMPORT_S: Final = 900.0

#: Seconds of silence before a connection is probed, between probes, and probes that may fail.
_PROBE_AFTER_S: Final = 10
_PROBE_EACH_S: Final = 5
_PROBES: Final = 3
#: A peer that acknowledges nothing for this long is gone.
KEEPALIVE_S: Final = _PROBE_AFTER_S + _PROBE_EACH_S * _PROBES


def session_dsn(
    dsn: str,
    *,
    name: str,
    idle_transaction_s: float,
    lock_timeout_s: float | None = None,
    idle_session_s: float | None = None,
    must_write: bool = False,
) -> str:
    """The connection string ``dsn`` with the session's parameters in it; options that it has already stay in force.

    Args:
        name: application_name, as pg_stat_activity shows it.
        idle_transaction_s: the server ends a transaction that waits longer for its next statement.
        lock_timeout_s: longest wait for a lock; None leaves the server's.
        idle_session_s: the server ends a session without a transaction that is silent longer; None never.
        must_write: refuse a standby.

    Returns:
        What is no connection string comes back as it is: its driver refuses it, in the driver's own way.
    """
    try:
        given = parse_dsn(dsn).get("options", "")
    except psycopg2.ProgrammingError:
        return dsn
    settings = {
        "timezone": "UTC",
        "idle_in_transaction_session_timeout": str(_ms(idle_transaction_s)),
        "tcp_keepalives_idle": str(_PROBE_AFTER_S),
        "tcp_keepalives_interval": str(_PROBE_EACH_S),
        "tcp_keepalives_count": str(_PROBES),
        "tcp_user_timeout": str(_ms(KEEPALIVE_S)),
    }
    if lock_timeout_s is not None:
        settings["lock_timeout"] = str(_ms(lock_timeout_s))
    if idle_session_s is not None:
        settings["idle_session_timeout"] = str(_ms(idle_session_s))
    ours = " ".join(f"-c {setting}={value}" for setting, value in settings.items())
    more = {"target_session_attrs": "read-write"} if must_write else {}
    return str(
        make_dsn(
            dsn,
            application_name=name,
            options=f"{ours} {given}".strip(),
            keepalives=1,
            keepalives_idle=_PROBE_AFTER_S,
            keepalives_interval=_PROBE_EACH_S,
            keepalives_count=_PROBES,
            tcp_user_timeout=_ms(KEEPALIVE_S),
            **more,
        )
    )


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
