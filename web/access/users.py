"""Who may sign in: logins, argon2id passwords, the roles of each user.

Rules. Functions take the caller's aiopg cursor. A try is counted *before* the password is looked at and the count is
cleared on success (web/access/throttle.py). An unknown or disabled login costs the same work and gets the same answer
as a wrong password. Hashing runs in a thread: it takes tens of milliseconds and 64 MiB, and the loop must not wait for
it. A password that is quickly guessed is refused (web/access/passwords.py); a temporary one serves TEMPORARY_DAYS.
Nobody gives a role that grants what he lacks, nor changes, disables or gives a password to a user who may do more than
he (``by``). Somebody always administers.

Does not know: cookies, pages, sessions, how many sign-ins a process takes at once (web/site/site.py).
"""

import asyncio
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import psycopg2.errors
from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from billing.database.cursors import Cursor
from billing.language import N_, languages
from billing.refusals import Refusal
from web.access.passwords import MAX_PASSWORD_BYTES, problem_with_password
from web.access.rights import Access
from web.access.roles import (
    ROLE_JSON,
    AccessError,
    Role,
    StaleError,
    hold_access,
    keep_an_administrator,
    refuse_what_is_lacked,
    role_of,
    roles_named,
)
from web.access.throttle import forget_tries, take_try

TEMPORARY_DAYS: Final = 7

_LOGIN: Final = re.compile(r"[a-z0-9][a-z0-9._@-]{1,63}", re.ASCII)
#: RFC 9106, section 4, second recommended option; argon2-cffi's own defaults may move between releases.
_HASHER: Final = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=4)
#: Hash of a random password nobody kept, with the parameters above: the work done for a login that does not exist.
NOBODY_HASH: Final = "$argon2id$v=19$m=65536,t=3,p=4$T73fh09HV75XQ0htjxdxLg$zIFiLg4wibmNtcSxiOyPpFMYcw65YVqhjd3e1evROrQ"


@dataclass(frozen=True, slots=True)
class User:
    """One row of users with the user's roles, without the password."""

    id: int
    login: str
    roles: tuple[Role, ...]
    state: str
    locale: str | None
    password_is_temporary: bool
    signed_in_at: datetime | None
    created_at: datetime

    @property
    def access(self) -> Access:
        """What all the roles together allow."""
        return Access.of(*(role.grants for role in self.roles))

    @property
    def actor(self) -> str:
        """As events and the audit record name him."""
        return f"user:{self.login}"


class UserError(Refusal):
    """What was asked of a user cannot be.

    The sentence with its values is `message % values`; pages translate the message and fill in the values.
    """

    default_code = "user_refused"

    def __init__(self, message: str, /, *, code: str = "", **values: Any) -> None:
        super().__init__(message % values if values else message, code=code, **values)
        self.message = message


#: Of `users u`, as `user_of_row` takes them.
USER_COLUMNS: Final = f"""u.id, u.login, (
    SELECT coalesce(jsonb_agg({ROLE_JSON} ORDER BY r.id), '[]')
    FROM user_roles ur JOIN roles r ON r.id = ur.role_id WHERE ur.user_id = u.id),
    u.state, u.locale, u.password_is_temporary, u.signed_in_at, u.created_at"""

_INSERT: Final = "INSERT INTO users (login, password_hash, password_is_temporary) VALUES (%s, %s, %s) RETURNING id"
_LIST: Final = f"SELECT {USER_COLUMNS} FROM users u ORDER BY u.login LIMIT 1000"
_ONE: Final = f"SELECT {USER_COLUMNS} FROM users u WHERE u.login = %s"
_SET_PASSWORD: Final = """
UPDATE users SET password_hash = %s, password_is_temporary = %s, password_set_at = now() WHERE login = %s
"""
_PASSWORD_OF: Final = f"""
SELECT password_hash, password_is_temporary AND password_set_at < now() - interval '{TEMPORARY_DAYS} days'
FROM users WHERE login = %s AND state = 'active'
"""
_SIGNED_IN: Final = f"""
UPDATE users u SET signed_in_at = now(),
    password_hash = CASE WHEN password_hash = %(old)s THEN coalesce(%(new)s, password_hash) ELSE password_hash END
WHERE login = %(login)s AND state = 'active' AND password_hash = %(old)s RETURNING {USER_COLUMNS}
"""
_SET_LOCALE: Final = "UPDATE users SET locale = %s WHERE id = %s"
_SET_STATE: Final = "UPDATE users SET state = %s WHERE id = %s"
_TAKE_ROLES: Final = "DELETE FROM user_roles WHERE user_id = %s AND NOT role_id = ANY(%s::int[])"
_GIVE_ROLES: Final = """
INSERT INTO user_roles (user_id, role_id, given_by) SELECT %s, unnest(%s::int[]), %s ON CONFLICT DO NOTHING
"""


async def add_user(
    cur: Cursor,
    login: str,
    password: str,
    roles: str | Iterable[str],
    temporary: bool = False,
    *,
    by: Access,
    actor: str,
) -> User:
    """Make a user with roles, named by their keys. Inside the caller's transaction.

    Args:
        temporary: the password has to be replaced at the first sign-in.
        by: what whoever asks may do himself. actor: as records name him.

    Raises:
        UserError: login taken or malformed, password that may not be used.
        AccessError: no such role, or one that grants what ``by`` lacks.
    """
    name = checked_login(login)
    given = await roles_named(cur, [roles] if isinstance(roles, str) else roles)
    if not given:
        raise AccessError(N_("A user has one role at least"), field="roles")
    refuse_what_is_lacked(by, Access.of(*(role.grants for role in given)))
    hashed = await _hash(checked_password(name, password))
    try:
        await cur.execute(_INSERT, (name, hashed, temporary))
    except psycopg2.errors.UniqueViolation as error:
        raise UserError(N_("The login %(login)s exists already"), code="taken", login=name) from error
    user_id = (await cur.fetchone())[0]
    await cur.execute(_GIVE_ROLES, (user_id, [role.id for role in given], actor))
    return await _user_called(cur, name)


async def set_password(
    cur: Cursor, login: str, password: str, temporary: bool = False, *, by: Access | None = None
) -> User:
    """Replace the password and forget failed tries. The caller ends the user's sessions (web/access/sessions.py).

    Args:
        by: what whoever does it may do; None: the user himself, or the owner of the machine.

    Raises:
        UserError: no such user, or a password that may not be used.
        AccessError: the user may do more than ``by``.
    """
    name = checked_login(login)
    user = await _user_called(cur, name)
    if by is not None:
        refuse_what_is_lacked(by, user.access)
    hashed = await _hash(checked_password(name, password))
    await cur.execute(_SET_PASSWORD, (hashed, temporary, name))
    await forget_tries(cur, name)
    return await _user_called(cur, name)


async def list_users(cur: Cursor) -> list[User]:
    """All users by login."""
    await cur.execute(_LIST)
    return [user_of_row(row) for row in await cur.fetchall()]


async def user_by_login(cur: Cursor, login: str) -> User | None:
    """One user, or None."""
    await cur.execute(_ONE, (login.strip().lower(),))
    row = await cur.fetchone()
    return None if row is None else user_of_row(row)


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
    return None if row is None else user_of_row(row)


async def is_password_of(cur: Cursor, user: User, password: str) -> bool:
    """Whether this is the password of a user who is signed in already. The caller counts tries."""
    stored, _ = await _password_of(cur, user.login)
    return await _matches(stored or NOBODY_HASH, password) and stored is not None


async def set_locale(cur: Cursor, user_id: int, locale: str) -> None:
    """Remember the language a user chose; None for one that has no file."""
    await cur.execute(_SET_LOCALE, (locale if locale in [known.code for known in languages()] else None, user_id))


async def set_roles(
    cur: Cursor, login: str, roles: Iterable[str], *, by: Access, actor: str, had: Iterable[str] | None = None
) -> tuple[User, User]:
    """Give a user these roles and no others; returns him before and after. Inside the caller's transaction.

    Args:
        roles: keys. had: keys of the roles the change was made of; None: whatever they are.

    Raises:
        StaleError: the user has other roles meanwhile.
        UserError, AccessError: no such user or role, what ``by`` lacks is given or taken, or nobody would administer.
    """
    somebody_did = await hold_access(cur)
    before = await _user_called(cur, login)
    if had is not None and sorted(had) != sorted(role.key for role in before.roles):
        raise StaleError(N_("The roles of %(login)s were changed meanwhile: look at them again"), login=before.login)
    given = await roles_named(cur, roles)
    if not given:
        raise AccessError(N_("A user has one role at least"), field="roles")
    refuse_what_is_lacked(by, before.access)
    refuse_what_is_lacked(by, Access.of(*(role.grants for role in given)))
    ids = [role.id for role in given]
    await cur.execute(_TAKE_ROLES, (before.id, ids))
    await cur.execute(_GIVE_ROLES, (before.id, ids, actor))
    await keep_an_administrator(cur, somebody_did)
    return before, await _user_called(cur, login)


async def set_state(cur: Cursor, login: str, state: str, *, by: Access) -> User:
    """Disable or enable a user. Inside the caller's transaction.

    Raises:
        UserError, AccessError: no such user or state, the user may do more than ``by``, or nobody would administer.
    """
    if state not in ("active", "disabled"):
        raise UserError(N_("There is no such state"), code="state")
    somebody_did = await hold_access(cur)
    user = await _user_called(cur, login)
    refuse_what_is_lacked(by, user.access)
    await cur.execute(_SET_STATE, (state, user.id))
    await keep_an_administrator(cur, somebody_did)
    return await _user_called(cur, login)


def checked_login(login: str) -> str:
    """The login in the form it is stored in."""
    name = login.strip().lower()
    if not _LOGIN.fullmatch(name):
        raise UserError(
            N_("A login is 2 to 64 of a–z, 0–9, dot, @, _ and hyphen, and begins with a letter or a digit"),
            code="login",
        )
    return name


def checked_password(login: str, password: str) -> str:
    """The password, if it may be used. Raises UserError."""
    problem = problem_with_password(login, password)
    if problem is not None:
        raise UserError(problem.message, code=problem.code, **problem.values)
    return password


def temporary_password() -> str:
    """Something an administrator can read out: 20 letters and digits in groups, about 99 bits."""
    alphabet = "abcdefghjkmnpqrstuvwxyz23456789"
    return "-".join("".join(secrets.choice(alphabet) for _ in range(5)) for _ in range(4))


async def _password_of(cur: Cursor, login: str) -> tuple[str | None, bool]:
    await cur.execute(_PASSWORD_OF, (login,))
    row = await cur.fetchone()
    return (None, False) if row is None else (row[0], row[1])


async def _user_called(cur: Cursor, login: str) -> User:
    user = await user_by_login(cur, login)
    if user is None:
        raise UserError(N_("There is no user %(login)s"), code="unknown", login=login[:64])
    return user


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


def user_of_row(row: Any) -> User:
    """A user out of USER_COLUMNS."""
    return User(row[0], row[1], tuple(role_of(told) for told in row[2]), *row[3:])
