"""A command that works in many short transactions on one connection, such as a run over all accounts.

Does not know: what the steps do.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg2

from kopeck.transactions import CommandFailed, connected


def in_steps(dsn: str, step: Callable[[Any], Awaitable[bool]]) -> None:
    """Run ``step`` with a cursor in one READ COMMITTED transaction after another, until it returns False.

    An exception rolls back the step that raised it; those before it are committed.

    Raises:
        CommandFailed: the database refused or could not be reached; whatever else ``step`` raises.
    """
    asyncio.run(_in_steps(dsn, step))


async def _in_steps(dsn: str, step: Callable[[Any], Awaitable[bool]]) -> None:
    connection = await connected(dsn)
    async with connection, connection.cursor() as cur:
        goes_on = True
        while goes_on:
            try:
                await cur.execute("BEGIN")
                goes_on = await step(cur)
                await cur.execute("COMMIT")
            except psycopg2.Error as error:
                raise CommandFailed(f"the database refused: {str(error).strip()}") from error
