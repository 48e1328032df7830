"""Deliveries as rows on their way: queued, taken, told of, freed. One call is one round trip.

Rules. Functions take the caller's cursor; the caller owns the transaction and says what time it is. Locks are taken in
this order: rows of recipients, then of deliveries by id; who takes work skips what another one holds, so it waits for
nobody.

Does not know: what follows from an outcome (billing.work.deliveries.decide), lists for people (desk_store).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from billing.database.cursors import Cursor
from billing.database.rows import named_rows
from billing.database.unnest import Unnested
from billing.work.deliveries.breaker import Breaker
from billing.work.deliveries.decide import DeliveryChange
from billing.work.deliveries.records import (
    LOG_MAX,
    OPEN,
    Delivery,
    DeliveryAction,
    DeliveryOutcome,
    DeliveryState,
    NewDelivery,
)

_DONE: Final = "('delivered', 'refused', 'abandoned')"

_NEW: Final = Unnested(
    "n",
    {
        "kind": "text", "key": "text", "recipient": "text", "address": "text", "subject": "text", "order_key": "text",
        "headers": "jsonb", "payload": "text", "asked_by": "text", "due": "timestamptz",
    },
    number="place",
)  # fmt: skip

_KNOWN_RECIPIENTS: Final = f"""
    INSERT INTO delivery_recipients (kind, recipient)
    SELECT DISTINCT n.kind, n.recipient FROM {_NEW.source}
    WHERE NOT EXISTS (SELECT FROM delivery_recipients r WHERE r.kind = n.kind AND r.recipient = n.recipient)
    ORDER BY n.kind, n.recipient
    ON CONFLICT DO NOTHING
"""

_ENQUEUE: Final = f"""
    INSERT INTO deliveries (kind, key, recipient, address, subject, order_key, headers, payload, asked_by, due_at,
                            is_blocked)
    SELECT n.kind, n.key, n.recipient, n.address, n.subject, n.order_key, n.headers, decode(n.payload, 'hex'),
           n.asked_by, coalesce(n.due, now()),
           n.order_key <> '' AND (
               row_number() OVER (PARTITION BY n.kind, n.recipient, n.order_key ORDER BY n.place) > 1
               OR EXISTS (SELECT FROM deliveries o
                          WHERE o.kind = n.kind AND o.recipient = n.recipient AND o.order_key = n.order_key
                            AND o.order_key <> '' AND o.state NOT IN {_DONE}))
    FROM {_NEW.source}
    ORDER BY n.place
    ON CONFLICT (kind, key) DO NOTHING
    RETURNING kind, key, id
"""

_STANDING: Final = f"""
    SELECT n.kind, n.key, d.id,
           d.recipient = n.recipient AND d.address = n.address AND d.payload = decode(n.payload, 'hex') AS is_same
    FROM {_NEW.source} JOIN deliveries d ON d.kind = n.kind AND d.key = n.key
"""

_READY: Final = """
    SELECT r.kind, r.recipient, r.failures, r.breaker_until, r.failing_since, r.paced_until,
           (SELECT count(*) FROM deliveries s
            WHERE s.kind = r.kind AND s.recipient = r.recipient AND s.state = 'sending') AS in_flight,
           d.due
    FROM delivery_recipients r
    CROSS JOIN LATERAL (
        SELECT count(*) AS due FROM (
            SELECT FROM deliveries d
            WHERE d.kind = r.kind AND d.recipient = r.recipient AND d.state IN ('waiting', 'unknown')
              AND NOT d.is_blocked AND d.due_at <= %(now)s LIMIT %(limit)s) f) d
    WHERE r.kind = ANY(%(kinds)s::text[]) AND NOT r.is_held
      AND (r.paused_until IS NULL OR r.paused_until <= %(now)s)
      AND (r.breaker_until IS NULL OR r.breaker_until <= %(now)s)
      AND d.due > 0
    ORDER BY random() LIMIT %(limit)s
    FOR UPDATE OF r SKIP LOCKED
"""

_FIELDS: Final = """
    d.id, d.kind, d.key, d.recipient, d.address, d.subject, d.order_key, d.headers, d.payload, d.state, d.attempts,
    d.step, d.first_at, d.attempt_at, d.created_at
"""

#: The same without what is sent, which no decision needs.
_HEAD: Final = _FIELDS.replace("d.payload", "''::bytea AS payload")

_ROOMS: Final = Unnested("q", {"kind": "text", "recipient": "text", "room": "int"})

_TAKE: Final = f"""
    SELECT {_FIELDS} FROM {_ROOMS.source}
    CROSS JOIN LATERAL (
        SELECT * FROM deliveries t
        WHERE t.kind = q.kind AND t.recipient = q.recipient AND t.state IN ('waiting', 'unknown')
          AND NOT t.is_blocked AND t.due_at <= %(now)s
          AND (t.order_key = '' OR t.state = 'unknown' OR NOT EXISTS (
                SELECT FROM deliveries o
                WHERE o.kind = t.kind AND o.recipient = t.recipient AND o.order_key = t.order_key
                  AND o.order_key <> '' AND o.state NOT IN {_DONE} AND o.id <> t.id
                  AND (o.id < t.id OR o.state IN ('sending', 'unknown'))))
        ORDER BY t.due_at, t.id LIMIT q.room
        FOR UPDATE SKIP LOCKED
    ) d
"""

_BEGUN: Final = Unnested("b", {"id": "bigint", "state": "text", "action": "text", "lease_ends": "timestamptz"})

_BEGIN: Final = f"""
    WITH begun AS (
        UPDATE deliveries d
        SET state = b.state, due_at = b.lease_ends, attempts = d.attempts + 1, step = d.step + 1,
            first_at = coalesce(d.first_at, %(now)s), attempt_at = %(now)s, host = %(host)s
        FROM {_BEGUN.source} WHERE d.id = b.id
        RETURNING d.id, d.attempts, b.action
    )
    INSERT INTO delivery_attempts (delivery_id, no, action, at, host)
    SELECT id, attempts, action, %(now)s, %(host)s FROM begun ORDER BY id
"""

_PACE: Final = """
    UPDATE delivery_recipients SET paced_until = %(paced_until)s, breaker_until = %(breaker_until)s
    WHERE kind = %(kind)s AND recipient = %(recipient)s
"""

_HOLD_RECIPIENTS: Final = """
    SELECT r.kind, r.recipient, r.failures, r.breaker_until, r.failing_since
    FROM delivery_recipients r
    WHERE (r.kind, r.recipient) IN (SELECT * FROM unnest(%(kinds)s::text[], %(recipients)s::text[]))
      AND (r.failures > 0 OR r.failing_since IS NOT NULL OR r.breaker_until IS NOT NULL
           OR (r.kind, r.recipient) IN (SELECT * FROM unnest(%(bad_kinds)s::text[], %(bad_recipients)s::text[])))
    ORDER BY r.kind, r.recipient FOR UPDATE OF r
"""

_SET_RECIPIENT: Final = """
    UPDATE delivery_recipients
    SET failures = %(failures)s, breaker_until = %(breaker_until)s, failing_since = %(failing_since)s,
        paused_until = coalesce(%(paused_until)s, paused_until),
        is_held = is_held OR %(held_why)s <> '',
        held_why = CASE WHEN is_held OR %(held_why)s = '' THEN held_why ELSE %(held_why)s END,
        held_by = CASE WHEN is_held OR %(held_why)s = '' THEN held_by ELSE 'system:deliveries' END,
        held_at = CASE WHEN is_held OR %(held_why)s = '' THEN held_at ELSE %(now)s END
    WHERE kind = %(kind)s AND recipient = %(recipient)s
"""

_HOLD: Final = f"""
    SELECT {_HEAD} FROM deliveries d WHERE d.id = ANY(%(ids)s::bigint[]) ORDER BY d.id FOR UPDATE
"""

_OVERDUE: Final = f"""
    SELECT {_HEAD} FROM deliveries d
    WHERE d.state IN ('sending', 'accepted') AND d.due_at <= %(now)s AND d.kind = ANY(%(kinds)s::text[])
    ORDER BY d.due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
"""

_OWN: Final = f"""
    SELECT {_HEAD} FROM deliveries d
    WHERE d.state = 'sending' AND d.host = %(host)s AND NOT d.id = ANY(%(under_way)s::bigint[])
    ORDER BY d.id FOR UPDATE
"""

_CHANGED: Final = Unnested(
    "c", {"id": "bigint", "state": "text", "due": "timestamptz", "reason": "text", "detail": "text", "anew": "int"}
)

_CHANGE: Final = f"""
    UPDATE deliveries d
    SET state = c.state, due_at = c.due, reason = c.reason, detail = c.detail,
        step = CASE c.anew WHEN 1 THEN 0 ELSE d.step END,
        first_at = CASE c.anew WHEN 1 THEN NULL ELSE d.first_at END,
        done_at = CASE WHEN c.state IN {_DONE} THEN %(now)s::timestamptz END
    FROM {_CHANGED.source} WHERE d.id = c.id
"""

_TOLD: Final = Unnested(
    "a",
    {
        "delivery_id": "bigint", "no": "int", "outcome": "text", "late": "int", "code": "text", "detail": "text",
        "request": "text", "reply": "text", "duration_ms": "int",
    },
)  # fmt: skip

_TELL: Final = f"""
    UPDATE delivery_attempts t
    SET outcome = a.outcome, is_late = a.late = 1, code = a.code, detail = a.detail, request = a.request,
        reply = a.reply, duration_ms = a.duration_ms
    FROM {_TOLD.source} WHERE t.delivery_id = a.delivery_id AND t.no = a.no AND t.outcome IN ('', 'silent')
"""

_ORDERS: Final = Unnested("f", {"kind": "text", "recipient": "text", "order_key": "text"})

_FREE: Final = f"""
    UPDATE deliveries d SET is_blocked = false
    FROM (SELECT (SELECT min(o.id) FROM deliveries o
                  WHERE o.kind = f.kind AND o.recipient = f.recipient AND o.order_key = f.order_key
                    AND o.order_key <> '' AND o.state NOT IN {_DONE}) AS id
          FROM {_ORDERS.source}) h
    WHERE d.id = h.id AND d.is_blocked
"""

_FREE_ALL: Final = f"""
    UPDATE deliveries d SET is_blocked = false
    WHERE d.id = ANY (ARRAY(
        SELECT b.id FROM deliveries b
        WHERE b.is_blocked AND b.order_key <> '' AND b.state NOT IN {_DONE} AND NOT EXISTS (
            SELECT FROM deliveries o
            WHERE o.kind = b.kind AND o.recipient = b.recipient AND o.order_key = b.order_key
              AND o.order_key <> '' AND o.state NOT IN {_DONE} AND o.id < b.id)
        ORDER BY b.id FOR UPDATE SKIP LOCKED))
"""

_NOW: Final = "SELECT clock_timestamp()"

_POLICIES: Final = "SELECT kind, recipient, body FROM delivery_policies"


@dataclass(frozen=True, slots=True)
class ReadyQueue:
    """A recipient's queue that has something due, under lock. in_flight: sent and not told of yet, over all hosts.

    due: how many are due, as far as they were counted.
    """

    kind: str
    recipient: str
    breaker: Breaker
    paced_until: datetime | None
    in_flight: int
    due: int


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """What became of an attempt. duration_ms: None when its sender ended first. recipient: (kind, recipient)."""

    delivery_id: int
    no: int
    outcome: DeliveryOutcome
    duration_ms: int | None
    recipient: tuple[str, str]


async def insert_deliveries(cur: Cursor, wanted: Sequence[NewDelivery]) -> dict[tuple[str, str], int]:
    """Queue deliveries; the ids of those whose key is new, by (kind, key)."""
    values = _new_values(wanted)
    await cur.execute(_KNOWN_RECIPIENTS, values)
    await cur.execute(_ENQUEUE, values)
    return {(row[0], row[1]): int(row[2]) for row in await cur.fetchall()}


async def standing_deliveries(cur: Cursor, wanted: Sequence[NewDelivery]) -> dict[tuple[str, str], tuple[int, bool]]:
    """(id, has the same contents) of deliveries whose key exists, by (kind, key)."""
    await cur.execute(_STANDING, _new_values(wanted))
    return {(row[0], row[1]): (int(row[2]), bool(row[3])) for row in await cur.fetchall()}


async def hold_ready_queues(cur: Cursor, kinds: Iterable[str], now: datetime, limit: int) -> list[ReadyQueue]:
    """Queues with something due that no other host looks at, under lock, in any order."""
    await cur.execute(_READY, {"kinds": sorted(kinds), "now": now, "limit": limit})
    return [
        ReadyQueue(row[0], row[1], Breaker(row[2], row[3], row[4]), row[5], row[6], row[7])
        for row in await cur.fetchall()
    ]


async def take(cur: Cursor, rooms: Mapping[tuple[str, str], int], now: datetime) -> list[Delivery]:
    """Deliveries that are due, under lock: as many of each queue as it has room, the longest due first."""
    rows = [(kind, recipient, room) for (kind, recipient), room in rooms.items()]
    await cur.execute(_TAKE, {"now": now, **_ROOMS.values(rows)})
    return await _deliveries(cur)


async def begin_attempts(
    cur: Cursor, begun: Iterable[tuple[int, DeliveryState, DeliveryAction, datetime]], host: str, now: datetime
) -> None:
    """Write that attempts begin: (delivery, its state, what is done, when the lease ends)."""
    rows = [(number, state.value, action.value, ends.isoformat()) for number, state, action, ends in begun]
    await cur.execute(_BEGIN, {"now": now, "host": host, **_BEGUN.values(rows)})


async def set_pace(
    cur: Cursor, queue: tuple[str, str], paced_until: datetime | None, breaker_until: datetime | None
) -> None:
    """Write when the next attempt to a recipient may begin: by its limit, and by its breaker during a probe."""
    values = {"paced_until": paced_until, "breaker_until": breaker_until}
    await cur.execute(_PACE, {"kind": queue[0], "recipient": queue[1], **values})


async def hold_recipients(
    cur: Cursor, all_queues: Iterable[tuple[str, str]], failed: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], Breaker]:
    """Breakers that results may change, under lock: of recipients that failed now or were failing before."""
    queues, bad = sorted(set(all_queues)), sorted(set(failed))
    values = {
        "kinds": [kind for kind, _ in queues],
        "recipients": [recipient for _, recipient in queues],
        "bad_kinds": [kind for kind, _ in bad],
        "bad_recipients": [recipient for _, recipient in bad],
    }
    await cur.execute(_HOLD_RECIPIENTS, values)
    return {(row[0], row[1]): Breaker(row[2], row[3], row[4]) for row in await cur.fetchall()}


async def set_recipient(
    cur: Cursor, queue: tuple[str, str], breaker: Breaker, paused_until: datetime | None, held_why: str, now: datetime
) -> None:
    """Write a recipient's breaker; held_why: hold its queue until a person lets it go, "" to leave that as it is."""
    values = {
        "kind": queue[0],
        "recipient": queue[1],
        "failures": breaker.failures,
        "breaker_until": breaker.held_until,
        "failing_since": breaker.failing_since,
        "paused_until": paused_until,
        "held_why": held_why[:500],
        "now": now,
    }
    await cur.execute(_SET_RECIPIENT, values)


async def hold_deliveries(cur: Cursor, ids: Iterable[int]) -> dict[int, Delivery]:
    """Deliveries under lock, by id."""
    await cur.execute(_HOLD, {"ids": sorted(set(ids))})
    return {delivery.id: delivery for delivery in await _deliveries(cur)}


async def overdue_deliveries(cur: Cursor, kinds: Iterable[str], now: datetime, limit: int) -> list[Delivery]:
    """Deliveries whose lease has ended, or whose receipt did not come, under lock."""
    await cur.execute(_OVERDUE, {"kinds": sorted(kinds), "now": now, "limit": limit})
    return await _deliveries(cur)


async def own_deliveries(cur: Cursor, host: str, under_way: Iterable[int]) -> list[Delivery]:
    """Deliveries that stand as being sent by a host and are not under way there, under lock."""
    await cur.execute(_OWN, {"host": host, "under_way": sorted(under_way)})
    return await _deliveries(cur)


async def change_deliveries(cur: Cursor, changes: Sequence[tuple[Delivery, DeliveryChange]], now: datetime) -> None:
    """Write what became of deliveries, and free those behind them."""
    rows = [
        (
            delivery.id,
            change.state.value,
            change.due.isoformat() if change.due else None,
            change.reason.value,
            plain_text(change.detail, 500),
            int(change.begins_anew),
        )
        for delivery, change in changes
    ]
    if rows:
        await cur.execute(_CHANGE, {"now": now, **_CHANGED.values(rows)})
    freed = {
        (delivery.kind, delivery.recipient, delivery.order_key)
        for delivery, change in changes
        if delivery.order_key and change.frees(delivery.state)
    }
    if freed:
        await cur.execute(_FREE, _ORDERS.values(sorted(freed)))


async def tell_attempts(cur: Cursor, results: Iterable[tuple[AttemptResult, bool]]) -> None:
    """Write what became of attempts: (result, it came late)."""
    rows = [
        (
            result.delivery_id,
            result.no,
            result.outcome.verdict.value,
            int(is_late),
            plain_text(result.outcome.code, 100),
            plain_text(result.outcome.reason, 500),
            plain_text(result.outcome.request, LOG_MAX),
            plain_text(result.outcome.reply, LOG_MAX),
            result.duration_ms,
        )
        for result, is_late in results
    ]
    if rows:
        await cur.execute(_TELL, _TOLD.values(rows))


_UNHEARD: Final = """
    UPDATE delivery_attempts t SET outcome = 'silent', detail = 'its sender ended before it told what became of it'
    FROM unnest(%(ids)s::bigint[], %(nos)s::int[]) AS r (id, no)
    WHERE t.delivery_id = r.id AND t.no = r.no AND t.outcome = ''
"""


async def tell_unheard(cur: Cursor, deliveries: Sequence[Delivery]) -> None:
    """Write that nothing was heard of the last attempts of deliveries, where they were not told of."""
    values = {"ids": [delivery.id for delivery in deliveries], "nos": [delivery.attempts for delivery in deliveries]}
    await cur.execute(_UNHEARD, values)


_RECALL: Final = """
    UPDATE delivery_attempts t SET outcome = 'recalled'
    FROM unnest(%(ids)s::bigint[], %(nos)s::int[]) AS r (id, no) WHERE t.delivery_id = r.id AND t.no = r.no
"""


async def tell_recalled(cur: Cursor, deliveries: Sequence[Delivery]) -> None:
    """Write that the last attempts of deliveries never touched the network."""
    values = {"ids": [delivery.id for delivery in deliveries], "nos": [delivery.attempts for delivery in deliveries]}
    await cur.execute(_RECALL, values)


async def free_blocked(cur: Cursor) -> int:
    """Free what stands first in its order and is still blocked: it was queued while the one before it ended."""
    await cur.execute(_FREE_ALL)
    return cur.rowcount


async def read_clock(cur: Cursor) -> datetime:
    """The database's clock, which all hosts share."""
    await cur.execute(_NOW)
    return (await cur.fetchone())[0]  # type: ignore[no-any-return]


_REFERENCES: Final = """
    INSERT INTO delivery_references (kind, recipient, reference, delivery_id, attempt)
    SELECT %(kind)s, %(recipient)s, r.reference, %(id)s, %(no)s
    FROM unnest(%(references)s::text[]) AS r (reference)
    ON CONFLICT DO NOTHING
"""


async def insert_references(cur: Cursor, result: AttemptResult) -> None:
    """Write the recipient's ids of what it accepted."""
    kind, recipient = result.recipient
    references = sorted({plain_text(reference, 200) for reference in result.outcome.references if reference})
    values = {"kind": kind, "recipient": recipient, "id": result.delivery_id, "no": result.no}
    await cur.execute(_REFERENCES, {**values, "references": references})


async def read_policies(cur: Cursor) -> dict[tuple[str, str], dict[str, Any]]:
    """What differs from the kinds' own policies, by (kind, recipient); of a kind as a whole the recipient is ""."""
    await cur.execute(_POLICIES)
    return {(row[0], row[1]): row[2] for row in await cur.fetchall()}


def plain_text(text: str, most: int) -> str:
    """Text as a column takes it: without NUL and halves of characters, cut, and the cut shown."""
    clean = text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
    return clean if len(clean) <= most else clean[: most - 1] + "…"


def delivery_of(row: Mapping[str, Any]) -> Delivery:
    """A row with a delivery's columns as its record."""
    values = {name: row[name] for name in Delivery.__slots__}
    return Delivery(**{**values, "payload": bytes(row["payload"]), "state": DeliveryState(row["state"])})


async def _deliveries(cur: Cursor) -> list[Delivery]:
    return [delivery_of(row) for row in await named_rows(cur)]


def _new_values(wanted: Sequence[NewDelivery]) -> dict[str, str]:
    return _NEW.values(
        (
            new.kind,
            new.key,
            new.recipient,
            new.address,
            new.subject,
            new.order_key,
            json.dumps(dict(new.headers), ensure_ascii=False),
            new.payload.hex(),
            new.asked_by,
            new.due.isoformat() if new.due else None,
        )
        for new in wanted
    )


assert set(OPEN) == {state for state in DeliveryState if state.value not in _DONE}
