"""A gateway's connections to PostgreSQL, and the ending of its tasks.

Rules. A connection is opened when it is needed and thrown away when it misbehaved; `at_the_edge` is the one place where
the driver's ways of failing become ours.

Does not know: SQL, what is decided.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import psycopg2
import psycopg2.errors

from billing.database.aiopg import cancelled_is_away, connect
from billing.database.away import DatabaseAway
from billing.database.cursors import Cursor
from billing.database.session import IDLE_GATEWAY_S
from gateway.payments import store

T = TypeVar("T")

#: The database said no for a reason that another run may not meet.
AGAIN: Final = (
    psycopg2.errors.UniqueViolation,
    psycopg2.errors.DeadlockDetected,
    psycopg2.errors.SerializationFailure,
    psycopg2.errors.LockNotAvailable,
    store.StaleWrite,
)

#: The connection is of no use any more, or was never there.
_AWAY: Final = (
    psycopg2.OperationalError,
    psycopg2.InterfaceError,
    psycopg2.errors.ReadOnlySqlTransaction,
    psycopg2.errors.IdleInTransactionSessionTimeout,
    TimeoutError,
    OSError,
)


@dataclass(frozen=True, slots=True)
class CoreOptions:
    """Limits of the core, each by name. Times in seconds.

    queue_max: commands waiting at most; more are answered `temporary` at once.
    request_deadline_s: longest a caller waits for an answer.
    away_grace_s: how long a command may wait for a database that is away.
    lock_timeout_s: longest wait of a batch for a row lock.
    idle_transaction_s: after this long without a statement of ours PostgreSQL ends a batch and frees its locks.
    idle_session_s: after this long without a word PostgreSQL ends the session that announces pays.
    """

    dsn: str
    lanes: int = 2
    batch_max: int = 100
    queue_max: int = 5_000
    request_deadline_s: float = 20.0
    away_grace_s: float = 2.0
    lock_timeout_s: float = 1.0
    database_timeout_s: float = 10.0
    idle_transaction_s: float = IDLE_GATEWAY_S
    idle_session_s: float = 30.0


class Connection:
    """One aiopg connection with one cursor, opened when needed and thrown away when it misbehaved."""

    def __init__(self, options: CoreOptions, idle_session_s: float | None = None) -> None:
        self._options = options
        self._idle_session_s = idle_session_s
        self._connection: Any = None
        self._cursor: Any = None

    @property
    def is_open(self) -> bool:
        """False after a loss that was noticed."""
        return self._connection is not None and not self._connection.closed

    async def cursor(self) -> Any:
        """The cursor of an open connection. After a failover a standby is as good as away.

        Raises:
            DatabaseAway: it could not be opened.
        """
        if not self.is_open:
            options = self._options
            try:
                self._connection = await connect(
                    options.dsn,
                    name="kopeck-gateway",
                    statement_timeout_s=options.database_timeout_s,
                    idle_transaction_s=options.idle_transaction_s,
                    lock_timeout_s=options.lock_timeout_s,
                    idle_session_s=self._idle_session_s,
                    must_write=True,
                )
                self._cursor = await self._connection.cursor()
            except (psycopg2.Error, OSError, TimeoutError) as error:
                await self.discard()
                raise DatabaseAway(str(error).strip()) from error
        return self._cursor

    async def discard(self) -> None:
        """Close and forget; the server rolls back whatever was open."""
        connection, self._connection, self._cursor = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(psycopg2.Error):
                await connection.close()


async def at_the_edge(connection: Connection, work: Callable[[Cursor], Awaitable[T]]) -> T:
    """Run ``work`` on the connection's cursor and translate the driver's ways of failing.

    Raises:
        DatabaseAway: the connection is gone, timed out, or the server cancelled the statement.
        psycopg2.Error: what the server itself answered; the transaction was rolled back.
    """
    cur: Any = None
    try:
        with cancelled_is_away():
            cur = await connection.cursor()
            return await work(cur)
    except (asyncio.CancelledError, DatabaseAway):
        await connection.discard()
        raise
    except _AWAY as error:
        if isinstance(error, AGAIN):
            await _roll_back(connection, cur)
            raise
        await connection.discard()
        raise DatabaseAway(str(error).strip()) from error
    except BaseException:
        await _roll_back(connection, cur)
        raise


async def _roll_back(connection: Connection, cur: Cursor) -> None:
    try:
        await cur.execute("ROLLBACK")
    except (psycopg2.Error, TimeoutError, OSError, asyncio.CancelledError):
        await connection.discard()
    except RuntimeError:  # aiopg: the connection is busy or broken after an interrupted call
        await connection.discard()


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
