"""Statements of the demo.

Does not know: what the demo is for.
"""

from datetime import datetime
from typing import Final

from billing.database.cursors import Cursor

#: When the demo's orders began, where their first month is still to be billed and nobody else has billed anything.
_UNBILLED: Final = """
    SELECT starts_at FROM orders
    WHERE number = 'demo-1' AND NOT EXISTS (SELECT FROM bill_runs WHERE state = 'done' OR actor <> %s)
"""
_POSTING: Final = """
    INSERT INTO manual_postings (key, actor, why) VALUES ('demo:opening', %s, 'opening balances of the demo')
    RETURNING id
"""
_SUBSCRIBERS: Final = "SELECT number, id FROM accounts WHERE kind = 'subscriber'"


async def unbilled_since(cur: Cursor, actor: str) -> datetime | None:
    """When the demo's orders began, if their first month is not billed and only ``actor`` has billed; else None."""
    await cur.execute(_UNBILLED, (actor,))
    row = await cur.fetchone()
    return row[0] if row else None


async def add_opening_posting(cur: Cursor, actor: str) -> int:
    """A manual posting for the opening balances; its id."""
    await cur.execute(_POSTING, (actor,))
    return int((await cur.fetchone())[0])


async def subscriber_ids(cur: Cursor) -> dict[str, int]:
    """Ids of all subscribers' accounts by number."""
    await cur.execute(_SUBSCRIBERS)
    return dict(await cur.fetchall())
