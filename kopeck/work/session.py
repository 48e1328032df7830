"""A worker's connection to PostgreSQL: opened when it is needed, and again after it was lost.

Rules. What is away (the connection, a time-out, a cancelled statement) is DatabaseAway, and `insist` tries again until
it may not any more; the work it is given must bear being run again after a COMMIT whose answer was lost. What the
database refuses on a connection that is well is raised as it is: it would be refused again.

Does not know: jobs.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import psycopg2

from billing.database.aiopg import cancelled_is_away, connect
from billing.database.away import DatabaseAway
from billing.database.cursors import Cursor
from billing.database.session import IDLE_COMMAND_S

T = TypeVar("T")

#: Waits after a failure, doubling from the first to the last.
BACK_OFF_S: Final = (0.1, 5.0)
STATEMENT_TIMEOUT_S: Final = 60.0
CONNECT_TIMEOUT_S: Final = 10.0

log = logging.getLogger(__name__)


class GaveUp(Exception):
    """The database was away for as long as it was waited for."""


class Session:
    """One connection, one piece of work at a time."""

    def __init__(self, dsn: str, name: str) -> None:
        self._dsn = dsn
        self._name = name
        self._connection: Any = None
        self._turn = asyncio.Lock()

    async def run(self, work: Callable[[Cursor], Awaitable[T]]) -> T:
        """Run ``work`` with a cursor in one READ COMMITTED transaction, and commit.

        Raises:
            DatabaseAway: nothing is known of what became of it; psycopg2.Error: the database refused.
        """
        async with self._turn:
            try:
                with cancelled_is_away():
                    return await self._once(work)
            except (psycopg2.OperationalError, psycopg2.InterfaceError, TimeoutError, OSError) as error:
                raise DatabaseAway(str(error).strip() or type(error).__name__) from error
            finally:
                if self._connection is not None and self._in_transaction():
                    await self._drop()

    async def insist(self, work: Callable[[Cursor], Awaitable[T]], may_go_on: Callable[[], bool]) -> T:
        """Run ``work`` as `run` does, again and again while the database is away.

        Raises:
            GaveUp: ``may_go_on`` said no; psycopg2.Error: the database refused.
        """
        wait_s = BACK_OFF_S[0]
        while True:
            try:
                return await self.run(work)
            except DatabaseAway as error:
                await self._drop()
                if not may_go_on():
                    raise GaveUp(str(error)) from error
                log.warning("database_away", extra={"cause": str(error), "again_in_s": wait_s})
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, BACK_OFF_S[1])

    async def notified(self, channel: str) -> None:
        """Wait for a notice on ``channel``; the session hears only while somebody waits or runs work in it.

        Raises:
            DatabaseAway: the connection is lost, and what was said meanwhile is not heard.
        """
        async with self._turn:
            try:
                if self._connection is None:
                    opened = await self._open()
                    async with opened.cursor() as cur:
                        await cur.execute(f"LISTEN {channel}")
                notices = self._connection.notifies
                await notices.get()
                while not notices.empty():
                    notices.get_nowait()
            except (psycopg2.Error, TimeoutError, OSError) as error:
                await self._drop()
                raise DatabaseAway(str(error).strip() or type(error).__name__) from error

    async def close(self) -> None:
        """Give the connection up; what was not committed is rolled back."""
        await self._drop()

    async def _once(self, work: Callable[[Cursor], Awaitable[T]]) -> T:
        opened = self._connection
        if opened is None or opened.closed:
            opened = await self._open()
        async with opened.cursor() as cur:
            await cur.execute("BEGIN")
            result = await work(cur)
            await cur.execute("COMMIT")
        return result

    async def _open(self) -> Any:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            self._connection = await connect(
                self._dsn, name=self._name, statement_timeout_s=STATEMENT_TIMEOUT_S, idle_transaction_s=IDLE_COMMAND_S
            )
        return self._connection

    def _in_transaction(self) -> bool:
        """Whether the last work did not come to its COMMIT: the connection is thrown away, which rolls back."""
        raw = self._connection.raw
        return bool(
            self._connection.closed or raw.info.transaction_status != psycopg2.extensions.TRANSACTION_STATUS_IDLE
        )

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg2.Error, RuntimeError, OSError):
                await connection.close()
