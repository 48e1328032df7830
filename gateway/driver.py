"""Connections of the payment path, and a mend of aiopg that a process with many sockets needs.

After each SQL error aiopg (1.4) asks ``select.select`` whether its descriptor is still open. select() knows none above
1023 and raises ValueError there, the waiter is never woken, and every unique violation becomes a time-out: with a
thousand partners connected, ten races for a key took 70 s. Importing this module mends that for the whole process.

Does not know: SQL.
"""

import os
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import aiopg
import aiopg.connection


def _open_or_oserror(read: Sequence[int], *_: object) -> tuple[list[int], list[int], list[int]]:
    """What aiopg asks for: OSError (EBADF) when a descriptor is closed, as select would raise."""
    for descriptor in read:
        os.fstat(descriptor)
    return [], [], []


aiopg.connection.select = SimpleNamespace(select=_open_or_oserror)


async def connect(dsn: str, *, timeout_s: float, lock_timeout_s: float) -> Any:
    """An aiopg connection that may write: after a failover a standby is as good as away.

    No hstore: looking for its types is a query of its own at every connect, and its cancellation is not ours to see.
    """
    return await aiopg.connect(
        dsn,
        timeout=timeout_s,
        enable_hstore=False,
        options=f"-c lock_timeout={int(lock_timeout_s * 1000)} -c timezone=UTC",
        application_name="kopeck-gateway",
        target_session_attrs="read-write",
    )
