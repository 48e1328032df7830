"""Requests that wait for a second person, as rows.

Rules. A request is decided under its lock, so two people decide it once. The caller owns the transaction.

Does not know: who may decide (web/access/approvals.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from psycopg2.extras import Json

from billing.database.cursors import Cursor
from billing.language import N_
from web.access.actors import Actor
from web.access.rights import Right
from web.access.roles import AccessError

LIST_MAX: Final = 200

_COLUMNS: Final = """id, kind, key, arguments, changes, summary, asked_right, right_name, object_kind, object_id,
    object_version, amount_minor, currency, why, asked_by, asked_proof, asked_at, expires_at, state, decided_by,
    decided_at, decided_why, result"""

_BY_KEY: Final = f"SELECT {_COLUMNS} FROM approvals WHERE kind = %s AND key = %s"
_HOLD: Final = f"SELECT {_COLUMNS} FROM approvals WHERE id = %s FOR UPDATE"
_READ: Final = f"SELECT {_COLUMNS} FROM approvals WHERE id = %s"
_OF_ARGUMENT: Final = f"SELECT {_COLUMNS} FROM approvals WHERE kind = %s AND arguments @> %s ORDER BY id DESC LIMIT 1"
_INSERT: Final = """
INSERT INTO approvals (kind, key, arguments, changes, summary, asked_right, right_name, object_kind, object_id,
                       object_version, amount_minor, currency, why, asked_by, asked_proof, expires_at)
VALUES (%(kind)s, %(key)s, %(arguments)s, %(changes)s, %(summary)s, %(asked_right)s, %(right)s, %(object_kind)s,
        %(object_id)s, %(object_version)s, %(amount)s, %(currency)s, %(why)s, %(by)s, %(proof)s, %(expires)s)
ON CONFLICT (kind, key) DO NOTHING RETURNING id
"""
_DECIDE: Final = """
UPDATE approvals SET state = %s, decided_by = %s, decided_proof = %s, decided_why = %s, result = %s WHERE id = %s
"""
_LIST: Final = f"""
SELECT {_COLUMNS} FROM approvals
WHERE (%(before)s::bigint IS NULL OR id < %(before)s)
  AND CASE %(view)s
      WHEN 'waiting' THEN state = 'waiting' AND expires_at > now() AND asked_by <> %(who)s
                          AND right_name = ANY(%(rights)s::text[])
      WHEN 'mine' THEN asked_by = %(who)s
      ELSE (state <> 'waiting' OR expires_at <= now())
           AND (%(sees_all)s OR asked_by = %(who)s OR right_name = ANY(%(rights)s::text[])) END
ORDER BY id DESC LIMIT %(limit)s
"""
_COUNT: Final = """
SELECT count(*) FROM approvals
WHERE state = 'waiting' AND expires_at > now() AND asked_by <> %s AND right_name = ANY(%s::text[])
"""


class ApprovalState(StrEnum):
    """What became of a request."""

    WAITING = "waiting"
    DONE = "done"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    STALE = "stale"


@dataclass(frozen=True, slots=True)
class Request:
    """What shall wait, as its kind tells it.

    summary: what will be done, in English. changes: fact -> (before, after). asked_right, right: which right who asks
    and who approves need. object_version: of the object now; empty: it has none. amount: minor units.
    """

    summary: str
    asked_right: Right
    right: Right
    object_kind: str = ""
    object_id: str = ""
    object_version: str = ""
    changes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    amount: int | None = None
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Approval:
    """A row of `approvals`; amount in minor units."""

    id: int
    kind: str
    key: str
    arguments: Mapping[str, Any]
    changes: Mapping[str, Sequence[Any]]
    summary: str
    asked_right: Right
    right: Right
    object_kind: str
    object_id: str
    object_version: str
    amount: int | None
    currency: str
    why: str
    asked_by: str
    asked_proof: str
    asked_at: datetime
    expires_at: datetime
    state: ApprovalState
    decided_by: str | None
    decided_at: datetime | None
    decided_why: str
    result: Mapping[str, Any]

    def state_at(self, now: datetime) -> ApprovalState:
        """What it is called: one that waited too long has expired, whoever finds that out."""
        is_over = self.state is ApprovalState.WAITING and self.expires_at <= now
        return ApprovalState.EXPIRED if is_over else self.state


async def by_key(cur: Cursor, kind: str, key: str) -> Approval | None:
    """The request of a kind with this key, or None."""
    await cur.execute(_BY_KEY, (kind, key))
    row = await cur.fetchone()
    return _approval(row) if row else None


async def read(cur: Cursor, approval_id: int) -> Approval | None:
    """A request, or None."""
    await cur.execute(_READ, (approval_id,))
    row = await cur.fetchone()
    return _approval(row) if row else None


async def of_argument(cur: Cursor, kind: str, **arguments: Any) -> Approval | None:
    """The newest request of a kind whose arguments hold these; or None."""
    await cur.execute(_OF_ARGUMENT, (kind, Json(arguments)))
    row = await cur.fetchone()
    return _approval(row) if row else None


async def hold(cur: Cursor, approval_id: int) -> Approval:
    """A request under lock. Raises AccessError where there is none."""
    await cur.execute(_HOLD, (approval_id,))
    row = await cur.fetchone()
    if row is None:
        raise AccessError(N_("There is no request %(id)s"), id=approval_id)
    return _approval(row)


async def add(
    cur: Cursor,
    kind: str,
    key: str,
    arguments: Mapping[str, Any],
    request: Request,
    who: Actor,
    why: str,
    expires_at: datetime,
) -> Approval | None:
    """Write a request that waits; None where the key is taken."""
    values = {
        "kind": kind,
        "key": key,
        "arguments": Json(dict(arguments)),
        "changes": Json({fact: list(pair) for fact, pair in request.changes.items()}),
        "summary": request.summary[:500],
        "asked_right": request.asked_right.value,
        "right": request.right.value,
        "object_kind": request.object_kind,
        "object_id": request.object_id,
        "object_version": request.object_version,
        "amount": request.amount,
        "currency": request.currency,
        "why": why,
        "by": who.name,
        "proof": who.proof,
        "expires": expires_at,
    }
    await cur.execute(_INSERT, values)
    row = await cur.fetchone()
    return await hold(cur, row[0]) if row else None


async def decide(
    cur: Cursor, approval_id: int, state: ApprovalState, who: Actor, why: str, result: Mapping[str, Any]
) -> None:
    """Record what became of a request that waits, and who decided."""
    await cur.execute(_DECIDE, (state.value, who.name, who.proof, why[:500], Json(dict(result)), approval_id))


async def list_approvals(
    cur: Cursor, view: str, who: Actor, before: int | None = None, limit: int = LIST_MAX
) -> list[Approval]:
    """Requests, the newest first. view: `waiting` for this person, `mine`: asked by it, `decided`: all it may see."""
    values = {
        "view": view,
        "who": who.name,
        "rights": sorted(right.value for right in who.access.rights),
        "sees_all": who.access.may(Right.AUDIT_VIEW),
        "before": before,
        "limit": min(limit, LIST_MAX + 1),
    }
    await cur.execute(_LIST, values)
    return [_approval(row) for row in await cur.fetchall()]


async def count_waiting(cur: Cursor, who: Actor) -> int:
    """How many requests wait for this person."""
    await cur.execute(_COUNT, (who.name, sorted(right.value for right in who.access.rights)))
    return int((await cur.fetchone())[0])


def _approval(row: Sequence[Any]) -> Approval:
    values = dict(zip((column.name for column in fields(Approval)), row, strict=True))
    rights = {name: Right(values[name]) for name in ("asked_right", "right")}
    return Approval(**values | rights | {"state": ApprovalState(values["state"])})
