"""How often who may try a password: counts per login and address, and browsers that are known.

Rules. A try is counted before the password is looked at, so guesses made at once get no more looks than guesses in a
row. What strangers do never closes a login to its owner: TRIES_PER_PAIR failures close one login for one address (IPv6:
its /64), TRIES_PER_ADDRESS all logins for that address, and failures from many addresses only slow the login down, to
one look in LONGEST_PAUSE_S. A browser in which the user signed in before has a count of its own and waits for nobody.
Unknown logins are counted like known ones, so a pause tells nobody which logins exist. A refused try is not counted
and adds no row: an address leaves at most TRIES_PER_ADDRESS rows a window. OWASP's "device cookies" are the model.

Does not know: passwords, pages, cookies' names.
"""

import hashlib
import ipaddress
import secrets
from typing import Final

from billing.database.cursors import Cursor

TRIES_PER_PAIR: Final = 5
TRIES_PER_ADDRESS: Final = 50
#: Failures of one login from anywhere before its looks are spaced out: 1, 2, 4 ... seconds.
FREE_TRIES_PER_LOGIN: Final = 10
LONGEST_PAUSE_S: Final = 60
#: Failures older than this are forgotten.
WINDOW_MINUTES: Final = 15
TRIES_PER_BROWSER: Final = 5
KNOWN_BROWSER_DAYS: Final = 180
BROWSERS_PER_USER: Final = 20
#: Tries of a signed-in session at its own password.
TRIES_PER_SESSION: Final = 5
_FORGET_AT_ONCE: Final = 100

# One row a scope. allowed: fewer tries than most within the window, or, where pauses are spaced out (free is not null),
# the pause since the last one is over. A try that is not allowed changes nothing.
_TAKE: Final = f"""
INSERT INTO sign_in_tries AS t (scope, key, tries) VALUES (%(scope)s, %(key)s, 1)
ON CONFLICT (scope, key) DO UPDATE SET
    tries = CASE WHEN t.last_at < now() - interval '{WINDOW_MINUTES} minutes' THEN 1 ELSE t.tries + 1 END,
    last_at = now()
WHERE t.last_at < now() - interval '{WINDOW_MINUTES} minutes'
   OR t.tries < %(most)s
   OR (%(spaced)s AND t.last_at <= now() - make_interval(
           secs => least({LONGEST_PAUSE_S}, power(2, least(t.tries - %(most)s, 10)))))
RETURNING tries
"""
_WAIT: Final = f"""
SELECT ceil(extract(epoch FROM last_at - now() + CASE WHEN %(spaced)s
    THEN make_interval(secs => least({LONGEST_PAUSE_S}, power(2, least(tries - %(most)s, 10))))
    ELSE interval '{WINDOW_MINUTES} minutes' END))::int
FROM sign_in_tries WHERE scope = %(scope)s AND key = %(key)s
"""
_FORGET_OLD: Final = f"""
DELETE FROM sign_in_tries WHERE (scope, key) IN (
    SELECT scope, key FROM sign_in_tries WHERE last_at < now() - interval '{WINDOW_MINUTES} minutes'
    ORDER BY last_at LIMIT {_FORGET_AT_ONCE} FOR UPDATE SKIP LOCKED)
"""
_FORGET: Final = "DELETE FROM sign_in_tries WHERE (scope = 'pair' AND key = %s) OR (scope = 'login' AND key = %s)"
_TAKE_OF_BROWSER: Final = f"""
UPDATE known_browsers k SET failures = failures + 1, seen_at = now() FROM users u
WHERE k.token_hash = %s AND u.id = k.user_id AND u.login = %s AND k.failures < {TRIES_PER_BROWSER}
  AND k.seen_at > now() - interval '{KNOWN_BROWSER_DAYS} days'
RETURNING k.user_id
"""
_TRUST: Final = """
INSERT INTO known_browsers (token_hash, user_id) VALUES (%s, %s)
ON CONFLICT (token_hash) DO UPDATE SET failures = 0, seen_at = now() WHERE known_browsers.user_id = excluded.user_id
RETURNING token_hash
"""
_FORGET_BROWSERS: Final = """
DELETE FROM known_browsers WHERE token_hash IN (
    SELECT token_hash FROM known_browsers WHERE user_id = %s ORDER BY seen_at DESC OFFSET %s)
"""
_FORGET_UNSEEN_BROWSERS: Final = f"""
DELETE FROM known_browsers WHERE token_hash IN (
    SELECT token_hash FROM known_browsers WHERE seen_at < now() - interval '{KNOWN_BROWSER_DAYS} days'
    LIMIT %s FOR UPDATE SKIP LOCKED)
"""
_FORGET_ALL_BROWSERS: Final = "DELETE FROM known_browsers WHERE user_id = %s"


class TooManyTries(Exception):
    """This try is not looked at. wait_s: seconds until the next one is."""

    def __init__(self, wait_s: int) -> None:
        super().__init__(f"too many tries, the next in {wait_s} s")
        self.wait_s = wait_s


async def take_try(cur: Cursor, login: str, address: str, browser: str) -> bool:
    """Count one try at a login before its password is looked at; returns whether it comes from a known browser.

    ``browser``: the token of its cookie, or "".

    Raises:
        TooManyTries: it is not to be looked at; nothing was counted against the login.
    """
    if browser:
        await cur.execute(_TAKE_OF_BROWSER, (_hash(browser), login))
        if await cur.fetchone() is not None:
            return True
    await cur.execute(_FORGET_OLD)
    place = network_of(address)
    await _take(cur, "address", _hash(place), TRIES_PER_ADDRESS)
    await _take(cur, "pair", _hash(login, place), TRIES_PER_PAIR)
    await _take(cur, "login", _hash(login), FREE_TRIES_PER_LOGIN, spaced=True)
    return False


async def forget_tries(cur: Cursor, login: str, address: str = "") -> None:
    """The password was right, or was replaced: failures of the login, and of it from this address, count no more."""
    await cur.execute(_FORGET, (_hash(login, network_of(address)), _hash(login)))


async def take_try_of_session(cur: Cursor, token_hash: bytes) -> None:
    """Count one try of a signed-in session at its own password.

    Raises:
        TooManyTries: it has had TRIES_PER_SESSION within the window.
    """
    await _take(cur, "session", token_hash, TRIES_PER_SESSION)


async def trust_browser(cur: Cursor, user_id: int, browser: str) -> str:
    """Remember a browser in which the user just signed in; returns the token for its cookie, the same one if it was
    the user's already."""
    token = browser
    await cur.execute(_TRUST, (_hash(token), user_id)) if token else None
    if not token or await cur.fetchone() is None:  # none yet, or another user's of the same browser
        token = secrets.token_urlsafe(32)
        await cur.execute(_TRUST, (_hash(token), user_id))
    await cur.execute(_FORGET_BROWSERS, (user_id, BROWSERS_PER_USER))
    return token


async def forget_browsers(cur: Cursor, user_id: int) -> None:
    """No browser of the user is known any more."""
    await cur.execute(_FORGET_ALL_BROWSERS, (user_id,))


def network_of(address: str) -> str:
    """What tries are counted by: an IPv4 address, or the /64 of an IPv6 one; what is neither counts as itself.

    >>> network_of("192.0.2.7"), network_of("2001:db8:1:2:3::4"), network_of("::ffff:192.0.2.7")
    ('192.0.2.7', '2001:db8:1:2::/64', '192.0.2.7')
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)


async def _take(cur: Cursor, scope: str, key: bytes, most: int, *, spaced: bool = False) -> None:
    values = {"scope": scope, "key": key, "most": most, "spaced": spaced}
    await cur.execute(_TAKE, values)
    if await cur.fetchone() is not None:
        return
    await cur.execute(_WAIT, values)
    row = await cur.fetchone()
    raise TooManyTries(max(1, row[0]) if row else 1)


def _hash(*parts: str) -> bytes:
    return hashlib.sha256("\0".join(parts).encode()).digest()


async def forget_old(cur: Cursor, most: int) -> int:
    """Delete counts of tries and known browsers that mean nothing any more; how many, some of each at a time."""
    await cur.execute(_FORGET_OLD)
    deleted = int(cur.rowcount)
    await cur.execute(_FORGET_UNSEEN_BROWSERS, (most,))
    return deleted + int(cur.rowcount)
