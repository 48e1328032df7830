"""Deliveries for people: lists, one with its log, counts, and what people do to them.

Rules. What a person does is a row beside the change, in its transaction. A queue that is held keeps its deliveries;
nothing of it is lost. The caller owns the transaction and says what time it is.

Does not know: who may do what, sending.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from psycopg2.extras import Json

from billing.database.cursors import Cursor
from billing.database.rows import first_record, records
from billing.work.deliveries.decide import DeliveryEvent, asked_by_person
from billing.work.deliveries.policies import policy_fields
from billing.work.deliveries.records import Delivery, DeliveryRefused
from billing.work.deliveries.store import change_deliveries, hold_deliveries, plain_text

#: Deliveries on one page of a list.
LIST_MAX: Final = 200
_DONE: Final = "('delivered', 'refused', 'abandoned')"

_ROW: Final = """
    SELECT d.id, d.kind, d.key, d.recipient, d.address, d.subject, d.order_key, d.state, d.due_at, d.is_blocked,
           d.attempts, d.first_at, d.attempt_at, d.created_at, d.done_at, d.reason, d.detail, d.asked_by, d.headers,
           length(d.payload) AS size, r.is_held, r.breaker_until, r.paused_until
    FROM deliveries d JOIN delivery_recipients r ON r.kind = d.kind AND r.recipient = d.recipient
"""

_LIST: Final = f"""
    {_ROW}
    WHERE (%(kind)s = '' OR d.kind = %(kind)s) AND (%(recipient)s = '' OR d.recipient = %(recipient)s)
      AND (%(states)s::text[] = '{{}}' OR d.state = ANY(%(states)s::text[]))
      AND (%(text)s = '' OR d.address = %(text)s OR d.key = %(text)s OR d.recipient = %(text)s)
      AND (%(before)s::bigint IS NULL OR d.id < %(before)s)
    ORDER BY d.id DESC LIMIT %(limit)s
"""
_ONE: Final = f"{_ROW} WHERE d.id = %(id)s"
_PAYLOAD: Final = "SELECT payload FROM deliveries WHERE id = %(id)s"
_ATTEMPTS: Final = """
    SELECT no, action, at, host, outcome, is_late, code, detail, request, reply, duration_ms
    FROM delivery_attempts WHERE delivery_id = %(id)s ORDER BY no
"""
_RECEIPTS: Final = """
    SELECT reference, outcome, code, detail, raw, at FROM delivery_receipts WHERE delivery_id = %(id)s ORDER BY id
"""
_NOTES: Final = "SELECT event, actor, why, at FROM delivery_notes WHERE delivery_id = %(id)s ORDER BY id"
_NOTE: Final = """
    INSERT INTO delivery_notes (delivery_id, event, actor, why) VALUES (%(id)s, %(event)s, %(actor)s, %(why)s)
"""

_QUEUES: Final = f"""
    SELECT r.kind, r.recipient, r.failures, r.breaker_until, r.failing_since, r.paused_until, r.is_held, r.held_why,
           r.held_by, r.held_at, coalesce(o.waiting, 0)::bigint AS waiting, coalesce(o.sending, 0)::bigint AS sending,
           coalesce(o.unknown, 0)::bigint AS unknown, coalesce(o.accepted, 0)::bigint AS accepted,
           coalesce(o.manual, 0)::bigint AS manual, o.oldest_at, o.next_at
    FROM delivery_recipients r
    LEFT JOIN (
        SELECT kind, recipient, count(*) FILTER (WHERE state = 'waiting') AS waiting,
               count(*) FILTER (WHERE state = 'sending') AS sending,
               count(*) FILTER (WHERE state = 'unknown') AS unknown,
               count(*) FILTER (WHERE state = 'accepted') AS accepted,
               count(*) FILTER (WHERE state = 'manual') AS manual,
               min(created_at) FILTER (WHERE state <> 'accepted') AS oldest_at,
               min(due_at) FILTER (WHERE state IN ('waiting', 'unknown') AND NOT is_blocked) AS next_at
        FROM deliveries WHERE state NOT IN {_DONE} GROUP BY kind, recipient) o
      ON o.kind = r.kind AND o.recipient = r.recipient
    ORDER BY r.kind, r.recipient
"""

_OPEN: Final = f"""
    SELECT kind, state, count(*) AS count, min(created_at) AS oldest_at FROM deliveries
    WHERE state NOT IN {_DONE} GROUP BY kind, state
"""
_HELD: Final = """
    SELECT count(*) FILTER (WHERE breaker_until > %(now)s), count(*) FILTER (WHERE paused_until > %(now)s),
           count(*) FILTER (WHERE is_held)
    FROM delivery_recipients
"""

_HOLD_QUEUE: Final = """
    UPDATE delivery_recipients SET is_held = true, held_why = %(why)s, held_by = %(actor)s, held_at = now()
    WHERE kind = %(kind)s AND (%(recipient)s = '' OR recipient = %(recipient)s)
    RETURNING recipient
"""
_RELEASE_QUEUE: Final = """
    UPDATE delivery_recipients
    SET is_held = false, held_why = '', held_by = '', held_at = NULL, failures = 0, breaker_until = NULL,
        failing_since = NULL, paused_until = NULL
    WHERE kind = %(kind)s AND (%(recipient)s = '' OR recipient = %(recipient)s)
    RETURNING recipient
"""

_POLICY: Final = "SELECT body FROM delivery_policies WHERE kind = %(kind)s AND recipient = %(recipient)s FOR UPDATE"
_SET_POLICY: Final = """
    INSERT INTO delivery_policies (kind, recipient, body, changed_by)
    VALUES (%(kind)s, %(recipient)s, %(body)s, %(actor)s)
    ON CONFLICT (kind, recipient)
    DO UPDATE SET body = EXCLUDED.body, changed_by = EXCLUDED.changed_by, changed_at = now()
"""
_DROP_POLICY: Final = "DELETE FROM delivery_policies WHERE kind = %(kind)s AND recipient = %(recipient)s"
_FORGET: Final = "SELECT forget_deliveries(%(before)s, %(most)s)"


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """A delivery in a list. size: bytes of what is sent. is_held, breaker_until, paused_until: of its queue."""

    id: int
    kind: str
    key: str
    recipient: str
    address: str
    subject: str
    order_key: str
    state: str
    due_at: datetime | None
    is_blocked: bool
    attempts: int
    first_at: datetime | None
    attempt_at: datetime | None
    created_at: datetime
    done_at: datetime | None
    reason: str
    detail: str
    asked_by: str
    headers: Mapping[str, Any]
    size: int
    is_held: bool
    breaker_until: datetime | None
    paused_until: datetime | None


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """An attempt in a delivery's log. outcome: "" while it is under way. is_late: after it was given up."""

    no: int
    action: str
    at: datetime
    host: str
    outcome: str
    is_late: bool
    code: str
    detail: str
    request: str
    reply: str
    duration_ms: int | None


@dataclass(frozen=True, slots=True)
class ReceiptRow:
    """A receipt of a delivery."""

    reference: str
    outcome: str
    code: str
    detail: str
    raw: str
    at: datetime


@dataclass(frozen=True, slots=True)
class NoteRow:
    """What a person did to a delivery."""

    event: str
    actor: str
    why: str
    at: datetime


@dataclass(frozen=True, slots=True)
class DeliveryLog:
    """Everything that happened to a delivery."""

    row: DeliveryRow
    attempts: list[AttemptRow]
    receipts: list[ReceiptRow]
    notes: list[NoteRow]


@dataclass(frozen=True, slots=True)
class QueueRow:
    """A recipient's queue: what holds it, how many of each open state, the age of the oldest, when the next is due."""

    kind: str
    recipient: str
    failures: int
    breaker_until: datetime | None
    failing_since: datetime | None
    paused_until: datetime | None
    is_held: bool
    held_why: str
    held_by: str
    held_at: datetime | None
    waiting: int
    sending: int
    unknown: int
    accepted: int
    manual: int
    oldest_at: datetime | None
    next_at: datetime | None


@dataclass(frozen=True, slots=True)
class OpenCount:
    """How many deliveries of a kind are in an open state, and since when."""

    kind: str
    state: str
    count: int
    oldest_at: datetime


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """What to list; empty fields name everything. text: an address, a key or a recipient, whole."""

    kind: str = ""
    recipient: str = ""
    states: tuple[str, ...] = ()
    text: str = ""


async def list_deliveries(
    cur: Cursor, wanted: DeliveryFilter, before: int | None = None, limit: int = LIST_MAX
) -> list[DeliveryRow]:
    """Newest first, those with an id below ``before``; at most LIST_MAX + 1."""
    values = {
        "kind": wanted.kind,
        "recipient": wanted.recipient,
        "states": list(wanted.states),
        "text": wanted.text,
        "before": before,
        "limit": min(limit, LIST_MAX + 1),
    }
    await cur.execute(_LIST, values)
    return await records(cur, DeliveryRow)


async def read_delivery(cur: Cursor, delivery_id: int) -> DeliveryLog:
    """A delivery with everything that happened to it.

    Raises:
        DeliveryRefused: there is none.
    """
    values = {"id": delivery_id}
    await cur.execute(_ONE, values)
    row = await first_record(cur, DeliveryRow)
    if row is None:
        raise DeliveryRefused(f"there is no delivery {delivery_id}", code="delivery_unknown", delivery=delivery_id)
    await cur.execute(_ATTEMPTS, values)
    attempts = await records(cur, AttemptRow)
    await cur.execute(_RECEIPTS, values)
    receipts = await records(cur, ReceiptRow)
    await cur.execute(_NOTES, values)
    return DeliveryLog(row, attempts, receipts, await records(cur, NoteRow))


async def read_payload(cur: Cursor, delivery_id: int) -> bytes:
    """What is sent, byte for byte."""
    await cur.execute(_PAYLOAD, {"id": delivery_id})
    row = await cur.fetchone()
    return bytes(row[0]) if row else b""


async def list_queues(cur: Cursor) -> list[QueueRow]:
    """Every recipient's queue, by kind."""
    await cur.execute(_QUEUES)
    return await records(cur, QueueRow)


async def count_open(cur: Cursor) -> list[OpenCount]:
    """What is not done, by kind and state."""
    await cur.execute(_OPEN)
    return await records(cur, OpenCount)


async def count_held(cur: Cursor, now: datetime) -> dict[str, int]:
    """How many queues are held, by what holds them: breaker, pause, person."""
    await cur.execute(_HELD, {"now": now})
    return dict(zip(("breaker", "pause", "person"), await cur.fetchone(), strict=True))


async def act_on_delivery(
    cur: Cursor, delivery_id: int, event: DeliveryEvent, actor: str, why: str, now: datetime
) -> Delivery:
    """A person's push, resend, settle or give_up, under lock; the delivery as it was.

    Raises:
        DeliveryRefused: there is none, or it stands where that cannot be.
    """
    delivery = (await hold_deliveries(cur, [delivery_id])).get(delivery_id)
    if delivery is None:
        raise DeliveryRefused(f"there is no delivery {delivery_id}", code="delivery_unknown", delivery=delivery_id)
    if len(why) > 500 or (why and not why.isprintable()):
        raise DeliveryRefused("the reason must be at most 500 printable characters", code="delivery_why_bad")
    change = asked_by_person(delivery, event, why, now)
    await change_deliveries(cur, [(delivery, change)], now)
    await cur.execute(_NOTE, {"id": delivery_id, "event": event.value, "actor": actor, "why": plain_text(why, 500)})
    return delivery


async def hold_queue(cur: Cursor, kind: str, recipient: str, actor: str, why: str) -> list[str]:
    """Hold a recipient's queue, or all of a kind (recipient ""), until it is released; the recipients held.

    Raises:
        DeliveryRefused: there is no such queue.
    """
    await cur.execute(_HOLD_QUEUE, {"kind": kind, "recipient": recipient, "actor": actor, "why": plain_text(why, 500)})
    return _touched(await cur.fetchall(), kind, recipient)


async def release_queue(cur: Cursor, kind: str, recipient: str) -> list[str]:
    """Let a queue go on, whatever holds it: a person, a pause or its breaker; the recipients let go.

    Raises:
        DeliveryRefused: there is no such queue.
    """
    await cur.execute(_RELEASE_QUEUE, {"kind": kind, "recipient": recipient})
    return _touched(await cur.fetchall(), kind, recipient)


async def set_policy(
    cur: Cursor, kind: str, recipient: str, changes: Mapping[str, Any], unset: tuple[str, ...], actor: str
) -> dict[str, Any]:
    """Set fields of a policy for a kind (recipient "") or one recipient; what is set afterwards.

    Raises:
        DeliveryRefused: an unknown field, or a value out of bounds.
    """
    queue = {"kind": kind, "recipient": recipient}
    await cur.execute(_POLICY, queue)
    row = await cur.fetchone()
    body = {name: value for name, value in {**(row[0] if row else {}), **changes}.items() if name not in unset}
    policy_fields(body)
    if body:
        await cur.execute(_SET_POLICY, {**queue, "body": Json(body), "actor": actor})
    else:
        await cur.execute(_DROP_POLICY, queue)
    return body


async def forget_deliveries(cur: Cursor, before: datetime, most: int) -> int:
    """Delete deliveries that were done before an instant, 30 days ago at least; at most ``most``, how many."""
    await cur.execute(_FORGET, {"before": before, "most": most})
    return int((await cur.fetchone())[0])


def _touched(rows: list[Any], kind: str, recipient: str) -> list[str]:
    if not rows:
        name = f"{kind} {recipient}".strip()
        raise DeliveryRefused(f"there is no queue {name[:80]!r}", code="delivery_queue_unknown", queue=name)
    return sorted(row[0] for row in rows)
