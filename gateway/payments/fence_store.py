"""SQL of fences and of announced keys. One call is one round trip.

Locks. A key's lock is an advisory lock on the hash of (partner, key). A pay holds it shared: in the transaction of its
batch, and, while it waits longer, in the session that announces it. A question holds it alone, for one statement that
is a transaction of its own, so that no pause of a client can keep it. Two keys with one hash make a question "in work"
that need not be, and nothing worse.

Does not know: who asks, what is answered.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from billing.database.arrays import int_array, text_array
from billing.database.cursors import Cursor

Key = tuple[int, str]

#: How long fences are kept, in seconds: far longer than a pay may wait in a gateway (`gateway.request_deadline_s`).
KEPT_S: Final = 3_600

_HASH: Final = "hashtextextended(partner_key, partner_id)"
_KEYS: Final = "unnest(%(partners)s::int[], %(keys)s::text[]) AS w (partner_id, partner_key)"

#: Waits only for a question's single statement. Run before the statement that reads, which then sees its fence.
LOCK_PAYS: Final = f"SELECT count(pg_advisory_xact_lock_shared({_HASH})) FROM {_KEYS}"

_FENCE: Final = f"""
    INSERT INTO key_fences AS f (partner_id, partner_key, fenced_at)
    SELECT partner_id, partner_key, clock_timestamp() - age_ms * interval '1 millisecond'
    FROM unnest(%(partners)s::int[], %(keys)s::text[], %(ages)s::bigint[]) AS w (partner_id, partner_key, age_ms)
    WHERE pg_try_advisory_xact_lock({_HASH})
    ON CONFLICT (partner_id, partner_key) DO UPDATE SET fenced_at = greatest(f.fenced_at, excluded.fenced_at)
    RETURNING partner_id, partner_key
"""

_ANNOUNCE: Final = f"SELECT partner_id, partner_key FROM {_KEYS} WHERE pg_try_advisory_lock_shared({_HASH})"
_WITHDRAW: Final = f"SELECT count(pg_advisory_unlock_shared({_HASH})) FROM {_KEYS}"

_FORGET: Final = "DELETE FROM key_fences WHERE fenced_at < now() - %(kept_s)s * interval '1 second'"


_PING: Final = "SELECT 1"


async def fence_keys(cur: Cursor, ages_s: Mapping[Key, float]) -> set[Key]:
    """Fence keys as of ``age`` seconds ago, outside a transaction; what is returned is committed.

    Returns:
        The keys fenced now. The others have a pay in work.
    """
    keys = sorted(ages_s)
    ages = int_array(int(ages_s[key] * 1000) for key in keys)
    await cur.execute(_FENCE, {**key_columns(keys), "ages": ages})
    return {(row[0], row[1]) for row in await cur.fetchall()}


async def announce_keys(cur: Cursor, keys: Sequence[Key]) -> list[Key]:
    """Hold the keys' locks shared in this session, once for each time a key is named; returns those it holds now.

    A key that a question holds at this instant is left out.
    """
    await cur.execute(_ANNOUNCE, key_columns(keys))
    return [(row[0], row[1]) for row in await cur.fetchall()]


async def withdraw_keys(cur: Cursor, keys: Sequence[Key]) -> None:
    """Let go of announced keys, once for each time a key is named."""
    await cur.execute(_WITHDRAW, key_columns(keys))


async def forget_fences(cur: Cursor) -> None:
    """Delete the fences older than KEPT_S."""
    await cur.execute(_FORGET, {"kept_s": KEPT_S})


async def ping(cur: Cursor) -> None:
    """A statement that keeps the session from being idle."""
    await cur.execute(_PING)


def key_columns(keys: Sequence[Key]) -> dict[str, str]:
    """Keys as the parameters ``partners`` and ``keys`` of a statement."""
    return {"partners": int_array(key[0] for key in keys), "keys": text_array(key[1] for key in keys)}
