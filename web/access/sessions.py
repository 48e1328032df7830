"""Sessions of signed-in people: a random token in a cookie, its SHA-256 in the table.

Rules. Functions take the caller's aiopg cursor. A token is made at sign-in and at every change of password, never
taken from the browser (no fixation). A session ends at its expiry, after `idle_minutes` without a request, at
sign-out, and when its user is disabled. Roles and state are read with every request, so a change acts at once.

Does not know: cookies' names and flags, pages.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
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
INSERT INTO sessions (token_hash, user_id, csrf, expires_at, address, browser, is_new_browser)
VALUES (%s, %s, %s, now() + make_interval(mins => %s), %s, %s, %s)
RETURNING id
"""
_DELETE_STALE: Final = """
DELETE FROM sessions WHERE expires_at < now() OR token_hash IN (
    SELECT token_hash FROM sessions WHERE user_id = %s ORDER BY created_at DESC OFFSET %s)
"""
_READ: Final = f"""
SELECT s.id, s.csrf, s.notice, s.seen_at < now() - %(every)s::interval, {USER_COLUMNS}
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
_END_ONE: Final = "DELETE FROM sessions WHERE user_id = %s AND id = %s"
_END_OTHERS: Final = "DELETE FROM sessions WHERE user_id = %s AND id <> %s"
_LIST: Final = """
SELECT id, address, browser, is_new_browser, created_at, seen_at, expires_at FROM sessions
WHERE user_id = %s AND expires_at > now() AND seen_at > now() - make_interval(mins => %s)
ORDER BY seen_at DESC, id DESC
"""
#: A message that nobody has seen yet stays.
_TELL_OTHERS: Final = "UPDATE sessions SET notice = %s WHERE user_id = %s AND id <> %s AND notice IS NULL"

#: What a browser says of itself (User-Agent), as people call it; the first that is found. Order matters: most claim to
#: be several others as well.
_BROWSERS: Final = (
    ("YaBrowser", "Yandex Browser"), ("Edg", "Edge"), ("OPR", "Opera"), ("SamsungBrowser", "Samsung Internet"),
    ("Firefox", "Firefox"), ("FxiOS", "Firefox"), ("CriOS", "Chrome"), ("Chrome", "Chrome"), ("Safari", "Safari"),
    ("curl", "curl"), ("python", "Python"),
)  # fmt: skip
_SYSTEMS: Final = (
    ("Windows", "Windows"), ("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"), ("Linux", "Linux"),
)  # fmt: skip
_BROWSER_MAX: Final = 400


@dataclass(frozen=True, slots=True)
class Session:
    """One signed-in browser. ``notice``: (text key, values) to show on the next page."""

    token_hash: bytes
    id: int
    csrf: str
    notice: tuple[str, dict[str, str]] | None
    user: User


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session as its user, or who manages sessions, sees it. browser: as it calls itself."""

    id: int
    address: str
    browser: str
    is_new_browser: bool
    begun_at: datetime
    seen_at: datetime
    expires_at: datetime

    @property
    def browser_words(self) -> str:
        """Such as ``Firefox, Windows``; empty for what says nothing of itself."""
        return browser_words(self.browser)


async def begin_session(
    cur: Cursor, user: User, hours: int, address: str = "", browser: str = "", is_new_browser: bool = False
) -> tuple[str, Session]:
    """Start a session; returns the token for the cookie beside it.

    Args:
        address, browser: of the client (User-Agent). is_new_browser: the user never signed in with it before; his
            other sessions are then told on their next page.
    """
    token, csrf = secrets.token_urlsafe(_TOKEN_BYTES), secrets.token_urlsafe(_TOKEN_BYTES)
    said = "".join(letter if letter.isprintable() else " " for letter in browser)[:_BROWSER_MAX]
    values = (hash_of(token), user.id, csrf, hours * 60, address[:100], said, is_new_browser)
    await cur.execute(_INSERT, values)
    session_id = (await cur.fetchone())[0]
    await cur.execute(_DELETE_STALE, (user.id, MAX_SESSIONS_PER_USER))
    return token, Session(hash_of(token), session_id, csrf, None, user)


async def list_sessions(cur: Cursor, user_id: int, idle_minutes: int) -> list[OpenSession]:
    """Sessions of a user that still open something, the one used last first."""
    await cur.execute(_LIST, (user_id, idle_minutes))
    return [OpenSession(*row) for row in await cur.fetchall()]


async def read_session(cur: Cursor, token: str, idle_minutes: int) -> Session | None:
    """The live session of this token, or None."""
    token_hash = hash_of(token)
    await cur.execute(_READ, {"hash": token_hash, "every": _SEEN_EVERY, "idle": idle_minutes})
    row = await cur.fetchone()
    if row is None:
        return None
    session_id, csrf, notice, stale = row[:4]
    if stale:
        await cur.execute(_SEEN, (token_hash,))
    told = None if notice is None else (notice["key"], notice["values"])
    return Session(token_hash, session_id, csrf, told, user_of_row(row[4:]))


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


async def end_session_of(cur: Cursor, user_id: int, session_id: int) -> bool:
    """End one session of a user, by its number; False where it had ended already or is another user's."""
    await cur.execute(_END_ONE, (user_id, session_id))
    return cur.rowcount == 1


async def end_other_sessions(cur: Cursor, session: Session) -> int:
    """End all sessions of a user but this one; returns how many."""
    await cur.execute(_END_OTHERS, (session.user.id, session.id))
    return cur.rowcount


async def tell_other_sessions(cur: Cursor, session: Session, key: str, values: dict[str, str]) -> None:
    """Leave a message for the next page of each other session of the user."""
    told = Json({"key": key, "values": values})
    await cur.execute(_TELL_OTHERS, (told, session.user.id, session.id))


def browser_words(agent: str) -> str:
    """What a browser is, out of what it says of itself; nothing depends on it.

    >>> browser_words("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0")
    'Firefox, Windows'
    """
    browser = next((name for mark, name in _BROWSERS if re.search(rf"(?i)\b{mark}", agent)), "")
    system = next((name for mark, name in _SYSTEMS if mark in agent), "")
    return ", ".join(word for word in (browser, system) if word) or agent[:40]


def hash_of(token: str) -> bytes:
    """What the table keeps of a token. No salt and no stretching: the token itself is 256 random bits."""
    return hashlib.sha256(token.encode()).digest()


async def forget_expired(cur: Cursor, most: int) -> int:
    """Delete sessions that have expired; how many, at most ``most``."""
    await cur.execute(_FORGET_EXPIRED, (most,))
    return int(cur.rowcount)
