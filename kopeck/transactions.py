"""One transaction for one command of a person at the terminal.

Does not know: batches, lanes, retries; those are the gateway's.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import aiopg
import psycopg2

T = TypeVar("T")

CONNECT_TIMEOUT_S = 10.0
STATEMENT_TIMEOUT_S = 600.0


class CommandFailed(Exception):
    """The database did not do it; nothing was changed. The message is for the person at the terminal."""


def in_transaction(dsn: str, work: Callable[[Any], Awaitable[T]]) -> T:
    """Run ``work`` with a cursor inside one READ COMMITTED transaction and commit; any exception rolls back.

    Raises:
        CommandFailed: the database refused or could not be reached; whatever else ``work`` raises.
    """
    return asyncio.run(_in_transaction(dsn, work))


async def connected(dsn: str) -> Any:
    """A connection for a command. Raises CommandFailed."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            return await aiopg.connect(dsn, timeout=STATEMENT_TIMEOUT_S, application_name="kopeck-cli")
    except (psycopg2.Error, TimeoutError) as error:
        raise CommandFailed(f"cannot connect to the database: {str(error).strip() or 'no answer'}") from error


async def _in_transaction(dsn: str, work: Callable[[Any], Awaitable[T]]) -> T:
    connection = await connected(dsn)
    async with connection, connection.cursor() as cur:
        try:
            await cur.execute("BEGIN")
            result = await work(cur)
            await cur.execute("COMMIT")
        except psycopg2.Error as error:
            raise CommandFailed(f"the database refused: {str(error).strip()}") from error
        return result  # an exception closes the connection, which rolls back
