"""aiopg: how connections are opened, how its failures read, and a mend that a process with many sockets needs.

Rules. aiopg is imported here and nowhere else. Sessions are those of `billing.database.session`; no hstore: looking for
its types is a query of its own at every connect, and its cancellation is not ours to see.

A statement that the server cancels reaches the caller as CancelledError, which passes by ``except Exception``:
`cancelled_is_away` turns it into DatabaseAway, and `failed_is_away` everything else that the driver fails with, too.

After each SQL error aiopg (1.4) asks ``select.select`` whether its descriptor is still open. select() knows none above
1023 and raises ValueError there, the waiter is never woken, and every unique violation becomes a time-out: with a
thousand partners connected, ten races for a key took 70 s. Importing this module mends that for the whole process.

Does not know: SQL.
"""

import asyncio
import contextlib
import os
import weakref
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import aiopg
import aiopg.connection
import psycopg2
import psycopg2.extensions

from billing.database.away import DatabaseAway
from billing.database.session import session_dsn


def _open_or_oserror(read: Sequence[int], *_: object) -> tuple[list[int], list[int], list[int]]:
    """What aiopg asks for: OSError (EBADF) when a descriptor is closed, as select would raise."""
    for descriptor in read:
        os.fstat(descriptor)
    return [], [], []


aiopg.connection.select = SimpleNamespace(select=_open_or_oserror)


async def connect(
    dsn: str,
    *,
    name: str,
    statement_timeout_s: float,
    idle_transaction_s: float,
    lock_timeout_s: float | None = None,
    idle_session_s: float | None = None,
    must_write: bool = False,
) -> Any:
    """An aiopg connection; see `session_dsn` for the parameters.

    statement_timeout_s: a call that takes longer raises TimeoutError and closes the connection: what it did is unknown.
    """
    session = session_dsn(
        dsn,
        name=name,
        idle_transaction_s=idle_transaction_s,
        lock_timeout_s=lock_timeout_s,
        idle_session_s=idle_session_s,
        must_write=must_write,
    )
    return await aiopg.connect(session, timeout=statement_timeout_s, enable_hstore=False)


async def create_pool(
    dsn: str, *, name: str, size_max: int, statement_timeout_s: float, idle_transaction_s: float
) -> Any:
    """A pool of at most ``size_max`` such connections, opened when they are needed."""
    session = session_dsn(dsn, name=name, idle_transaction_s=idle_transaction_s)
    return await aiopg.create_pool(
        session, minsize=0, maxsize=size_max, timeout=statement_timeout_s, enable_hstore=False
    )


@contextlib.contextmanager
def cancelled_is_away() -> Iterator[None]:
    """Raise DatabaseAway for a statement that the server cancelled inside; a cancellation of ours passes through."""
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise DatabaseAway("PostgreSQL cancelled a statement") from error


#: Loops whose handler of stray errors knows what aiopg does with a cancelled statement.
_QUIET: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()


def quiet_cancels() -> None:
    """Keep the running loop's log free of statements that the server cancelled because they were to be.

    aiopg hands such an error to the loop's handler of errors that nobody awaits, although it also raises it.
    """
    loop = asyncio.get_running_loop()
    if loop in _QUIET:
        return
    before = loop.get_exception_handler()

    def handle(handled_in: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if isinstance(context.get("exception"), psycopg2.extensions.QueryCanceledError):
            return
        if before is None:
            handled_in.default_exception_handler(context)
        else:
            before(handled_in, context)

    loop.set_exception_handler(handle)
    _QUIET.add(loop)


@contextlib.contextmanager
def failed_is_away(*more: type[Exception]) -> Iterator[None]:
    """Raise DatabaseAway for whatever PostgreSQL or the driver fails with inside, and for ``more``."""
    try:
        with cancelled_is_away():
            yield
    except (psycopg2.Error, TimeoutError, OSError, *more) as error:
        raise DatabaseAway(str(error).strip() or type(error).__name__) from error
