"""Sessions of signed-in people: a random token in a cookie, its SHA-256 in the table.

Rules. Functions take the caller's aiopg cursor. A token is made at sign-in and at every change of password, never
taken from the browser (no fixation). A session ends at its expiry, after `idle_minutes` without a request, at
sign-out, and when its user is disabled. Roles and state are read with every request, so a change acts at once.

Does not know: cookies' names and flags, pages.
"""

import hashlib
import secrets
from dataclasses import dataclass
from typing import Final

from psycopg2.extras import Json

from billing.database.cursors import Cursor
from web.access.users import USER_COLUMNS, User, user_of_row

_TOKEN_BYTES: Final = 32
#: How often seen_at is written again: a minute is exact enough for a time-out of many, and spares a write a request.
_SEEN_EVERY: Final = "1 minute"
#: Sessions of one user at a time; the oldest goes when one more begins.
MAX_SESSIONS_PER_USER: Final = 10

_INSERT: Final = """
INSERT INTO sessions (token_hash, user_id, csrf, expires_at) VALUES (%s, %s, %s, now() + make_interval(mins => %s))
"""
_DELETE_STALE: Final = """
DELETE FROM sessions WHERE expires_at < now() OR token_hash IN (
    SELECT token_hash FROM sessions WHERE user_id = %s ORDER BY created_at DESC OFFSET %s)
"""
_READ: Final = f"""
SELECT s.csrf, s.notice, s.seen_at < now() - %(every)s::interval, {USER_COLUMNS}
FROM sessions s JOIN users u ON u.id = s.user_id
WHERE s.token_hash = %(hash)s AND s.expires_at > now() AND u.state = 'active'
  AND s.seen_at > now() - make_interval(mins => %(idle)s)
"""
_SEEN: Final = "UPDATE sessions SET seen_at = now() WHERE token_hash = %s"
_SET_NOTICE: Final = "UPDATE sessions SET notice = %s WHERE token_hash = %s"
_CLEAR_NOTICE: Final = "UPDATE sessions SET notice = NULL WHERE token_hash = %s"
_FORGET_EXPIRED: Final = """
DELETE FROM sessions WHERE token_hash IN (
    SELECT token_hash FROM sessions WHERE expires_at < now() LIMIT %s FOR UPDATE SKIP LOCKED)
"""
_END: Final = "DELETE FROM sessions WHERE token_hash = %s"
_END_OF_USER: Final = "DELETE FROM sessions WHERE user_id = %s"


@dataclass(frozen=True, slots=True)
class Session:
    """One signed-in browser. ``notice``: (text key, values) to show on the next page."""

    token_hash: bytes
    csrf: str
    notice: tuple[str, dict[str, str]] | None
    user: User


async def begin_session(cur: Cursor, user: User, hours: int) -> tuple[str, Session]:
    """Start a session; returns the token for the cookie beside it."""
    token, csrf = secrets.token_urlsafe(_TOKEN_BYTES), secrets.token_urlsafe(_TOKEN_BYTES)
    await cur.execute(_INSERT, (hash_of(token), user.id, csrf, hours * 60))
    await cur.execute(_DELETE_STALE, (user.id, MAX_SESSIONS_PER_USER))
    return token, Session(hash_of(token), csrf, None, user)


async def read_session(cur: Cursor, token: str, idle_minutes: int) -> Session | None:
    """The live session of this token, or None."""
    token_hash = hash_of(token)
    await cur.execute(_READ, {"hash": token_hash, "every": _SEEN_EVERY, "idle": idle_minutes})
    row = await cur.fetchone()
    if row is None:
        return None
    csrf, notice, stale = row[:3]
    if stale:
        await cur.execute(_SEEN, (token_hash,))
    told = None if notice is None else (notice["key"], notice["values"])
    return Session(token_hash, csrf, told, user_of_row(row[3:]))


async def set_notice(cur: Cursor, session: Session, key: str, values: dict[str, str]) -> None:
    """Leave a message for the session's next page."""
    await cur.execute(_SET_NOTICE, (Json({"key": key, "values": values}), session.token_hash))


async def clear_notice(cur: Cursor, session: Session) -> None:
    """The message was shown."""
    await cur.execute(_CLEAR_NOTICE, (session.token_hash,))


async def end_session(cur: Cursor, session: Session) -> None:
    """Sign out this browser."""
    await cur.execute(_END, (session.token_hash,))


async def end_sessions_of(cur: Cursor, user_id: int) -> None:
    """Sign a user out everywhere."""
    await cur.execute(_END_OF_USER, (user_id,))


def hash_of(token: str) -> bytes:
    """What the table keeps of a token. No salt and no stretching: the token itself is 256 random bits."""
    return hashlib.sha256(token.encode()).digest()


async def forget_expired(cur: Cursor, most: int) -> int:
    """Delete sessions that have expired; how many, at most ``most``."""
    await cur.execute(_FORGET_EXPIRED, (most,))
    return int(cur.rowcount)
