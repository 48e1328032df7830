"""Who may sign in: logins, argon2id passwords, roles.

Rules. Functions take the caller's aiopg cursor. A try is counted *before* the password is looked at and the count is
cleared on success (web/access/throttle.py). An unknown or disabled login costs the same work and gets the same answer
as a wrong password. Hashing runs in a thread: it takes tens of milliseconds and 64 MiB, and the loop must not wait for
it. A password that is quickly guessed is refused (NIST SP 800-63B, 5.1.1.2); a temporary one serves TEMPORARY_DAYS.
The last active administrator stays one.

Does not know: cookies, pages, sessions, how many sign-ins a process takes at once (web/site/site.py).
"""

import asyncio
import re
import secrets
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import psycopg2.errors
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError
from zxcvbn import zxcvbn

from billing.database.cursors import Cursor
from billing.refusals import Refusal
from web.access.throttle import forget_tries, take_try

MIN_PASSWORD_CHARS: Final = 10
#: Guesses that must not find a password, as a power of ten: zxcvbn's score 2 and more (a throttled attack online).
MIN_GUESSES_LOG10: Final = 6
#: zxcvbn's work grows with the length; what is longer than this is judged by its beginning.
_JUDGED_CHARS: Final = 72
TEMPORARY_DAYS: Final = 7
MAX_PASSWORD_BYTES: Final = 1024

_LOGIN: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{1,63}", re.ASCII)
#: RFC 9106, section 4, second recommended option; argon2-cffi's own defaults may move between releases.
_HASHER: Final = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=4)
#: Hash of a random password nobody kept, with the parameters above: the work done for a login that does not exist.
NOBODY_HASH: Final = "$argon2id$v=19$m=65536,t=3,p=4$T73fh09HV75XQ0htjxdxLg$zIFiLg4wibmNtcSxiOyPpFMYcw65YVqhjd3e1evROrQ"


class Role(StrEnum):
    """A viewer sees; an operator also cancels and exports; an administrator also manages users and partners."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMINISTRATOR = "administrator"


_RANK: Final = {Role.VIEWER: 0, Role.OPERATOR: 1, Role.ADMINISTRATOR: 2}


def may(role: Role, needed: Role) -> bool:
    """Whether someone with ``role`` may do what asks for ``needed``."""
    return _RANK[role] >= _RANK[needed]


@dataclass(frozen=True, slots=True)
class User:
    """One row of users, without the password."""

    id: int
    login: str
    role: Role
    state: str
    locale: str | None
    password_is_temporary: bool
    signed_in_at: datetime | None
    created_at: datetime

    @property
    def actor(self) -> str:
        """As events and the audit record name him."""
        return f"user:{self.login}"


class UserError(Refusal):
    """What was asked cannot be done; ``key`` names the text of web/site/texts.py that says why."""

    default_code = "user_refused"

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


_COLUMNS: Final = "id, login, role, state, locale, password_is_temporary, signed_in_at, created_at"

_INSERT: Final = f"""
INSERT INTO users (login, password_hash, role, password_is_temporary) VALUES (%s, %s, %s, %s) RETURNING {_COLUMNS}
"""
_LIST: Final = f"SELECT {_COLUMNS} FROM users ORDER BY login LIMIT 1000"
_ONE: Final = f"SELECT {_COLUMNS} FROM users WHERE login = %s"
_SET_PASSWORD: Final = f"""
UPDATE users SET password_hash = %s, password_is_temporary = %s, password_set_at = now()
WHERE login = %s RETURNING {_COLUMNS}
"""
_PASSWORD_OF: Final = f"""
SELECT password_hash, password_is_temporary AND password_set_at < now() - interval '{TEMPORARY_DAYS} days'
FROM users WHERE login = %s AND state = 'active'
"""
_SIGNED_IN: Final = f"""
UPDATE users SET signed_in_at = now(),
    password_hash = CASE WHEN password_hash = %(old)s THEN coalesce(%(new)s, password_hash) ELSE password_hash END
WHERE login = %(login)s AND state = 'active' AND password_hash = %(old)s RETURNING {_COLUMNS}
"""
_SET_LOCALE: Final = "UPDATE users SET locale = %s WHERE id = %s"
# One administrator changing another while that one changes him: both lock the same set in one order.
_LOCK_ADMINISTRATORS: Final = """
SELECT login FROM users WHERE role = 'administrator' AND state = 'active' ORDER BY id FOR UPDATE
"""
_SET_ROLE: Final = f"UPDATE users SET role = %s WHERE login = %s RETURNING {_COLUMNS}"
_SET_STATE: Final = f"UPDATE users SET state = %s WHERE login = %s RETURNING {_COLUMNS}"


async def add_user(cur: Cursor, login: str, password: str, role: str, temporary: bool = False) -> User:
    """Make a user. ``temporary``: he must replace the password at his first sign-in.

    Raises:
        UserError: login taken or malformed, password too short, too long or equal to the login, no such role.
    """
    name = checked_login(login)
    granted = checked_role(role)
    hashed = await _hash(checked_password(name, password))
    try:
        await cur.execute(_INSERT, (name, hashed, granted.value, temporary))
    except psycopg2.errors.UniqueViolation as error:
        raise UserError("user.error.taken", f"login {name} exists already") from error
    return _user(await cur.fetchone())


async def set_password(cur: Cursor, login: str, password: str, temporary: bool = False) -> User:
    """Replace the password and forget failed tries. The caller ends the user's sessions (web/access/sessions.py)."""
    name = checked_login(login)
    hashed = await _hash(checked_password(name, password))
    await cur.execute(_SET_PASSWORD, (hashed, temporary, name))
    changed = _found(await cur.fetchone(), name)
    await forget_tries(cur, name)
    return changed


async def list_users(cur: Cursor) -> list[User]:
    """All users by login."""
    await cur.execute(_LIST)
    return [_user(row) for row in await cur.fetchall()]


async def user_by_login(cur: Cursor, login: str) -> User | None:
    """One user, or None."""
    await cur.execute(_ONE, (login.strip().lower(),))
    row = await cur.fetchone()
    return None if row is None else _user(row)


class PasswordExpired(Exception):
    """The password is right, but it was a temporary one and its days are over."""


async def authenticate(cur: Cursor, login: str, password: str, address: str = "", browser: str = "") -> User | None:
    """The user whose login and password these are; None for every other case, after the same work.

    Args:
        address: of the caller, "" for none. browser: token of a known browser's cookie, "" for none.

    Raises:
        TooManyTries: the password was not looked at.
        PasswordExpired: the password is right and no longer serves.
    """
    name = login.strip().lower()
    is_known = await take_try(cur, name[:200], address, browser)
    stored, is_expired = await _password_of(cur, name) if _LOGIN.fullmatch(name) else (None, False)
    right = await _matches(stored or NOBODY_HASH, password)
    if stored is None or not right:
        return None
    if not is_known:  # a known browser's success says nothing of what strangers tried meanwhile
        await forget_tries(cur, name, address)
    if is_expired:
        raise PasswordExpired
    renewed = await _hash(password) if _HASHER.check_needs_rehash(stored) else None
    await cur.execute(_SIGNED_IN, {"login": name, "old": stored, "new": renewed})
    row = await cur.fetchone()
    return None if row is None else _user(row)


async def is_password_of(cur: Cursor, user: User, password: str) -> bool:
    """Whether this is the password of a user who is signed in already. The caller counts tries."""
    stored, _ = await _password_of(cur, user.login)
    return await _matches(stored or NOBODY_HASH, password) and stored is not None


async def set_locale(cur: Cursor, user_id: int, locale: str) -> None:
    """Remember the language a user chose."""
    await cur.execute(_SET_LOCALE, (locale, user_id))


async def set_role(cur: Cursor, login: str, role: str) -> User:
    """Change a role. Inside the caller's transaction: it locks the administrators.

    Raises:
        UserError: no such user or role, or nobody would be left to administer.
    """
    granted = checked_role(role)
    if granted is not Role.ADMINISTRATOR:
        await _keep_one_administrator(cur, login)
    await cur.execute(_SET_ROLE, (granted.value, login))
    return _found(await cur.fetchone(), login)


async def set_state(cur: Cursor, login: str, state: str) -> User:
    """Disable or enable a user. Inside the caller's transaction, as set_role."""
    if state not in ("active", "disabled"):
        raise UserError("user.error.state", f"no such state of a user: {state[:20]!r}")
    if state == "disabled":
        await _keep_one_administrator(cur, login)
    await cur.execute(_SET_STATE, (state, login))
    return _found(await cur.fetchone(), login)


def checked_login(login: str) -> str:
    """The login in the form it is stored in."""
    name = login.strip().lower()
    if not _LOGIN.fullmatch(name):
        raise UserError("user.error.login", "a login is 2 to 64 of a-z, 0-9, dot, @, _ and -, starting with a-z or 0-9")
    return name


def checked_role(role: str) -> Role:
    """The role of that name."""
    try:
        return Role(role)
    except ValueError as error:
        raise UserError("user.error.role", f"no such role: {role[:20]!r}; one of {', '.join(Role)}") from error


def checked_password(login: str, password: str) -> str:
    """The password, if it may be used: long enough, not the login, small enough to hash."""
    if len(password) < MIN_PASSWORD_CHARS:
        raise UserError("user.error.short", f"a password has at least {MIN_PASSWORD_CHARS} characters")
    if len(password.encode()) > MAX_PASSWORD_BYTES:
        raise UserError("user.error.long", f"a password has at most {MAX_PASSWORD_BYTES} bytes")
    if login in password.lower():
        raise UserError("user.error.login_inside", "a password must not contain the login")
    if zxcvbn(password[:_JUDGED_CHARS], [login])["guesses_log10"] < MIN_GUESSES_LOG10:
        raise UserError("user.error.guessed", "this password is among the first that are guessed; take several words")
    return password


def temporary_password() -> str:
    """Something an administrator can read out: 20 letters and digits in groups, about 99 bits."""
    alphabet = "abcdefghjkmnpqrstuvwxyz23456789"
    return "-".join("".join(secrets.choice(alphabet) for _ in range(5)) for _ in range(4))


async def _password_of(cur: Cursor, login: str) -> tuple[str | None, bool]:
    await cur.execute(_PASSWORD_OF, (login,))
    row = await cur.fetchone()
    return (None, False) if row is None else (row[0], row[1])


async def _keep_one_administrator(cur: Cursor, login: str) -> None:
    await cur.execute(_LOCK_ADMINISTRATORS)
    administrators = [row[0] for row in await cur.fetchall()]
    if administrators == [login]:
        raise UserError("user.error.last_administrator", f"{login} is the last active administrator")


async def _hash(password: str) -> str:
    return await asyncio.to_thread(_HASHER.hash, password)


async def _matches(hashed: str, password: str) -> bool:
    if len(password.encode(errors="replace")) > MAX_PASSWORD_BYTES:
        password = ""  # never the right one (MIN_PASSWORD_CHARS), same work, and nobody makes us hash a megabyte
    return await asyncio.to_thread(_verify, hashed, password)


def _verify(hashed: str, password: str) -> bool:
    try:
        return _HASHER.verify(hashed, password)
    except VerificationError:
        return False


def _found(row: Any, login: str) -> User:
    if row is None:
        raise UserError("user.error.unknown", f"no such user: {login[:64]}")
    return _user(row)


def _user(row: Any) -> User:
    return User(row[0], row[1], Role(row[2]), *row[3:])
