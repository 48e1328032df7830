"""Connections of the payment path, and a mend of aiopg that a process with many sockets needs.

After each SQL error aiopg (1.4) asks ``select.select`` whether its descriptor is still open. select() knows none above
1023 and raises ValueError there, the waiter is never woken, and every unique violation becomes a time-out: with a
thousand partners connected, ten races for a key took 70 s. Importing this module mends that for the whole process.

Does not know: SQL.
"""

import asyncio
import os
from collections.abc import Iterable, Sequence
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


async def end_tasks(tasks: Iterable["asyncio.Task[None]"], again_s: float = 1.0) -> None:
    """Cancel tasks until they have ended; what they raised is passed over.

    Once is not enough: ``asyncio.wait_for``, in which aiopg waits for PostgreSQL, forgets a cancellation that meets the
    answer it waited for (Python 3.11), and a task that polls for ever would be awaited for ever.
    """
    named = list(tasks)
    while waiting := [task for task in named if not task.done()]:
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting, timeout=again_s)
    await asyncio.gather(*named, return_exceptions=True)


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
