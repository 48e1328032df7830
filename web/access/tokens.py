"""Personal access tokens, with which the command and the API act as a user.

Rules. A token is ``kpk_``, eight characters that tell people which one it is, a dash and 256 random bits; only its
SHA-256 is kept, and it is shown once. It allows what its user may at that moment and, of that, the rights it was given;
it ends at its expiry, when it is revoked and when its user is disabled. Its last use is written again after a minute.
Functions take the caller's aiopg cursor.

Does not know: cookies, headers, how often a caller may try (256 bits are not guessed).
"""

import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final

from billing.database.cursors import Cursor
from billing.language import N_
from web.access.actors import Actor, DeniedError
from web.access.rights import Right, right_of
from web.access.roles import AccessError
from web.access.sessions import hash_of
from web.access.users import USER_COLUMNS, User, user_of_row

MAX_DAYS: Final = 366
MAX_TOKENS_PER_USER: Final = 50
NAME_MAX: Final = 100
_SHAPE: Final = re.compile(r"kpk_[0-9a-z]{8}-[0-9A-Za-z_-]{43}", re.ASCII)
_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"

_COLUMNS: Final = """t.id, t.user_id, t.name, t.prefix, t.rights, t.created_at, t.expires_at, t.last_used_at,
    t.last_used_from, t.revoked_at, t.revoked_by"""
_INSERT: Final = """
INSERT INTO tokens (user_id, name, prefix, token_hash, rights, expires_at)
SELECT %(user)s, %(name)s, %(prefix)s, %(hash)s, %(rights)s, now() + make_interval(days => %(days)s)
WHERE (SELECT count(*) FROM tokens
       WHERE user_id = %(user)s AND revoked_at IS NULL AND expires_at > now()) < %(most)s
RETURNING id
"""
_LIST: Final = f"SELECT {_COLUMNS} FROM tokens t WHERE t.user_id = %s ORDER BY t.id DESC LIMIT 200"
_ONE: Final = f"SELECT {_COLUMNS} FROM tokens t WHERE t.id = %s AND t.user_id = %s"
_REVOKE: Final = """
UPDATE tokens SET revoked_at = now(), revoked_by = %s WHERE id = %s AND user_id = %s AND revoked_at IS NULL
RETURNING id
"""
_VERIFY: Final = f"""
SELECT t.id, t.prefix, t.rights, t.last_used_at IS NULL OR t.last_used_at < now() - interval '1 minute', {USER_COLUMNS}
FROM tokens t JOIN users u ON u.id = t.user_id
WHERE t.token_hash = %s AND t.revoked_at IS NULL AND t.expires_at > now() AND u.state = 'active'
  AND NOT u.password_is_temporary
"""
_USED: Final = "UPDATE tokens SET last_used_at = now(), last_used_from = %s WHERE id = %s"


@dataclass(frozen=True, slots=True)
class Token:
    """A row of `tokens`, without what would open anything."""

    id: int
    user_id: int
    name: str
    prefix: str
    rights: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    last_used_from: str
    revoked_at: datetime | None
    revoked_by: str | None

    def is_live(self, now: datetime) -> bool:
        """Whether it opens anything."""
        return self.revoked_at is None and self.expires_at > now


async def make_token(cur: Cursor, user: User, name: str, rights: Iterable[str], days: int) -> tuple[str, Token]:
    """Make a token of a user; returns it as text, for this once, beside its row.

    Raises:
        AccessError: no name, no rights, none that the user has, a time it cannot have, or too many tokens.
    """
    called = " ".join(name.split())
    if not called or len(called) > NAME_MAX or not called.isprintable():
        raise AccessError(N_("A token has a name of 1 to %(most)s characters"), field="name", most=NAME_MAX)
    if not 1 <= days <= MAX_DAYS:
        raise AccessError(N_("A token lives from 1 to %(most)s days"), field="days", most=MAX_DAYS)
    given = _given(user, rights)
    prefix = "kpk_" + "".join(secrets.choice(_ALPHABET) for _ in range(8))
    text = f"{prefix}-{secrets.token_urlsafe(32)}"
    values = {"user": user.id, "name": called, "prefix": prefix, "hash": hash_of(text), "rights": given, "days": days}
    await cur.execute(_INSERT, {**values, "most": MAX_TOKENS_PER_USER})
    row = await cur.fetchone()
    if row is None:
        raise AccessError(N_("You have %(most)s tokens already: revoke one"), most=MAX_TOKENS_PER_USER)
    return text, await read_token(cur, user.id, row[0])


async def list_tokens(cur: Cursor, user_id: int) -> list[Token]:
    """Tokens of a user, the newest first."""
    await cur.execute(_LIST, (user_id,))
    return [_token(row) for row in await cur.fetchall()]


async def read_token(cur: Cursor, user_id: int, token_id: int) -> Token:
    """A token of a user. Raises AccessError where there is none."""
    await cur.execute(_ONE, (token_id, user_id))
    row = await cur.fetchone()
    if row is None:
        raise AccessError(N_("There is no such token"))
    return _token(row)


async def revoke_token(cur: Cursor, user_id: int, token_id: int, actor: str) -> Token:
    """Let a token open nothing any more; harmless for one that does not. Raises AccessError where there is none."""
    await cur.execute(_REVOKE, (actor, token_id, user_id))
    return await read_token(cur, user_id, token_id)


async def person_of_token(cur: Cursor, text: str, address: str, request_id: str = "") -> Actor | None:
    """Who acts with this token, with what it allows now; None for one that opens nothing.

    Args:
        address: of the client, for the list of tokens and the record.
    """
    if not _SHAPE.fullmatch(text):
        return None
    await cur.execute(_VERIFY, (hash_of(text),))
    row = await cur.fetchone()
    if row is None:
        return None
    token_id, prefix, names, is_stale = row[:4]
    user = user_of_row(row[4:])
    if is_stale:
        await cur.execute(_USED, (address[:100], token_id))
    access = user.access.only(right for right in map(right_of, names) if right)
    return Actor(user.actor, access, "token", address, request_id, {"token": prefix})


def _given(user: User, names: Iterable[str]) -> list[str]:
    rights: set[Right] = set()
    for name in names:
        right = right_of(name)
        if right is None:
            raise AccessError(N_("There is no right %(right)s"), field="rights", right=name[:40])
        if not user.access.may(right):
            raise DeniedError(
                N_("You cannot give or take what you do not have yourself: %(rights)s"),
                field="rights",
                rights=right.value,
            )
        rights.add(right)
    if not rights:
        raise AccessError(N_("A token has one right at least"), field="rights")
    return sorted(right.value for right in rights)


def _token(row: Sequence[Any]) -> Token:
    values = dict(zip((column.name for column in fields(Token)), row, strict=True))
    return Token(**values | {"rights": tuple(values["rights"])})
