"""Usage that does not count: events are voided, or stand corrected by others, with who did it and why.

Rules. Nothing is changed and nothing deleted: a void is a row of usage_voids, a correction a void with an event beside
it that says what was meant, in the period of the first. Billing, rating, verify and explanations pass voided events by.
What was billed stays billed: such an event is refused, for its invoice needs a credit note. A key acts once: the same
key with the same events changes nothing, with others it is refused. All of a request happens, or nothing.

Functions take the caller's cursor; UsageError means that nothing may be committed.

Does not know: what an event costs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa

from billing.database.arrays import int_array, text_array
from billing.database.cursors import Cursor
from billing.database.locks import hold_void_key, wait_for_billing
from billing.usage.ratable import Ratable, unratable
from billing.usage.store import UsageError
from billing.usage.values import MAX_DURATION_S, MAX_QUANTITY_MICRO

#: Events of one request: they are looked up one by one in each month.
MAX_EVENTS: Final = 100_000
MAX_KEY: Final = 200
MAX_WHY: Final = 500
#: Whose keys the events are that correct others.
SOURCE: Final = "corrections"


@dataclass(frozen=True, slots=True)
class Correction:
    """What an event should say; None: as it did. quantity_micro: millionths of the item's unit."""

    event_id: int
    item: str | None = None
    quantity_micro: int | None = None
    duration_s: int | None = None
    destination: str | None = None


@dataclass(frozen=True, slots=True)
class VoidRequest:
    """What a person asks for. key: makes a repeat harmless; name: of the file, or empty."""

    key: str
    why: str
    actor: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Voided:
    """What was done. is_repeat: it had been done before. replaced: events that stand corrected, by id."""

    events: int
    is_repeat: bool
    replaced: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class VoidRow:
    """A void as a list shows it."""

    event_id: int
    account: str
    item: str
    at: datetime | None
    replaced_by: int | None
    key: str
    why: str
    actor: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class _Event:
    id: int
    account_id: int
    item: str
    at: datetime
    counts_at: datetime
    quantity_micro: int
    duration_s: int
    destination: str


_BY_KEY: Final = "SELECT usage_id, replaced_by FROM usage_voids WHERE key = %s"

_EVENTS: Final = """
    SELECT id, account_id, item, at, counts_at, quantity_micro, duration_s, destination
    FROM usage_events WHERE id = ANY (%s::bigint[]) ORDER BY id
"""

_VOIDED: Final = "SELECT usage_id FROM usage_voids WHERE usage_id = ANY (%s::bigint[]) ORDER BY usage_id LIMIT 1"

_PAYERS: Final = """
    SELECT DISTINCT payer_account_id FROM (
        SELECT payer_account_id FROM billing_accounts WHERE account_id = ANY (%(accounts)s::bigint[])
        UNION SELECT payer_account_id FROM orders WHERE account_id = ANY (%(accounts)s::bigint[]) AND settled_at IS NULL
    ) p
"""

#: The first event that an invoice or a draft holds: the lowest order that has its item and covers it, and the record.
_BILLED: Final = """
    WITH items AS MATERIALIZED (
        SELECT t.id AS terms_id, unnest(CASE WHEN t.item <> '' THEN ARRAY[t.item] ELSE p.items END) AS item
        FROM order_terms t
        LEFT JOIN LATERAL (
            SELECT p.items FROM catalogue_versions v JOIN catalogue_plans p ON p.version_id = v.id
            WHERE v.catalogue_id = t.catalogue_id AND p.number = t.plan
            ORDER BY v.version DESC LIMIT 1) p ON true
        WHERE t.kind = 'recurring'
    )
    SELECT e.id, coalesce(o.number, '#' || o.id), n.full_number, p.run_id
    FROM usage_events e
    CROSS JOIN LATERAL (
        SELECT o.id, o.number FROM orders o JOIN items i ON i.terms_id = o.terms_id AND i.item = e.item
        WHERE o.account_id = e.account_id AND o.starts_at <= e.at AND e.at < coalesce(o.ends_at, 'infinity')
        ORDER BY o.id LIMIT 1) o
    JOIN order_periods p ON p.order_id = o.id AND p.part IN ('arrears', 'late') AND p.outcome = 'billed'
     AND p.period_start <= e.at AND e.at < p.period_end
    JOIN bill_runs r ON r.id = p.run_id AND (r.usage_until > e.counts_at OR r.usage_until IS NULL)
    LEFT JOIN numbered_invoices n ON n.id = p.invoice_id AND n.block_state = 'issued'
    WHERE e.id = ANY (%s::bigint[])
    ORDER BY e.id, p.run_id LIMIT 1
"""

_VOID: Final = """
    INSERT INTO usage_voids (usage_id, account_id, replaced_by, key, why, actor)
    SELECT usage_id, account_id, nullif(replaced_by, 0), %(key)s, %(why)s, %(actor)s
    FROM unnest(%(ids)s::bigint[], %(accounts)s::bigint[], %(replaced)s::bigint[])
         AS v (usage_id, account_id, replaced_by)
    ORDER BY usage_id
"""

_KNOWN_ITEMS: Final = """
    SELECT item FROM unnest(%s::text[]) AS n (item)
    WHERE EXISTS (SELECT FROM catalogue_items)
      AND NOT EXISTS (SELECT FROM catalogue_items i WHERE i.number = n.item)
    ORDER BY item LIMIT 1
"""

_SOURCE: Final = """
    WITH made AS (INSERT INTO usage_sources (name) VALUES (%(name)s) ON CONFLICT (name) DO NOTHING RETURNING id)
    SELECT id FROM made UNION ALL SELECT id FROM usage_sources WHERE name = %(name)s LIMIT 1
"""

_IMPORT: Final = """
    INSERT INTO usage_imports (source_id, format_name, format_text, file_name, late, actor, state, lines_count,
                               accepted_count, late_count, finished_at)
    VALUES (%(source_id)s, 'correction', '', %(name)s, 'accept', %(actor)s, 'done', %(count)s, %(count)s, %(late)s,
            now())
    RETURNING id
"""

_NEW_IDS: Final = "SELECT nextval('usage_ids') FROM generate_series(1, %s)"

_NEW_KEYS: Final = """
    INSERT INTO usage_keys (source_id, key, usage_id, counts_at)
    SELECT %(source_id)s, 'event ' || n.old, n.new, e.counts_at
    FROM unnest(%(old)s::bigint[], %(new)s::bigint[]) AS n (old, new) JOIN usage_events e ON e.id = n.old
"""

_NEW_EVENTS: Final = """
    INSERT INTO usage_events (id, account_id, item, at, counts_at, quantity_micro, duration_s, destination, import_id,
                              line)
    SELECT n.new, e.account_id, n.item, e.at, e.counts_at, n.quantity_micro, n.duration_s::int, n.destination,
           %(import_id)s, n.line
    FROM unnest(%(old)s::bigint[], %(new)s::bigint[], %(items)s::text[], %(quantities)s::bigint[],
                %(durations)s::bigint[], %(destinations)s::text[])
         WITH ORDINALITY AS n (old, new, item, quantity_micro, duration_s, destination, line)
    JOIN usage_events e ON e.id = n.old
"""

_LIST: Final = """
    SELECT v.usage_id, a.number, coalesce(e.item, ''), e.at, v.replaced_by, v.key, v.why, v.actor, v.created_at
    FROM (SELECT * FROM usage_voids ORDER BY created_at DESC, usage_id DESC LIMIT %s) v
    LEFT JOIN accounts a ON a.id = v.account_id
    LEFT JOIN LATERAL (SELECT e.item, e.at FROM usage_events e WHERE e.id = v.usage_id OFFSET 0) e ON true
    ORDER BY v.created_at DESC, v.usage_id DESC
"""


async def void_events(cur: Cursor, ids: Sequence[int], request: VoidRequest) -> Voided:
    """Void events, all or none.

    Raises:
        UsageError: one does not exist, is void already, or is billed; the key was used for others; roll back.
    """
    _check(request, ids)
    done = await _repeated(cur, request, ids)
    if done is not None:
        if any(by is not None for by in done.values()):
            raise UsageError(f"key {request.key[:40]!r} was used for a correction")
        return Voided(len(done), True, {})
    events = await _to_void(cur, ids)
    await cur.execute(_VOID, _void_values(events, [0] * len(events), request))
    return Voided(len(events), False, {})


async def correct_events(
    cur: Cursor, corrections: Sequence[Correction], request: VoidRequest, ratable: Ratable | None = None
) -> Voided:
    """Void events and store what they should have said, each in the period of the first; all or none.

    Args:
        ratable: what the catalogues in force could rate: a correction that they could not is refused.

    Raises:
        UsageError: as ``void_events``; a correction changes nothing, or could not be rated; roll back.
    """
    ids = [one.event_id for one in corrections]
    _check(request, ids)
    by_id = {one.event_id: one for one in corrections}
    done = await _repeated(cur, request, ids)
    if done is not None:
        await _check_repeat(cur, by_id, done, request)
        return Voided(len(done), True, {old: new for old, new in done.items() if new is not None})
    events = await _to_void(cur, ids)
    meant = [_corrected(one, by_id[one.id]) for one in events]
    for before, after in zip(events, meant, strict=True):
        if before == after:
            raise UsageError(f"event {before.id}: the correction says what the event says")
    await _check_meant(cur, meant, ratable or Ratable())
    new_ids = await _store(cur, meant, request)
    await cur.execute(_VOID, _void_values(events, new_ids, request))
    return Voided(len(events), False, dict(zip((one.id for one in events), new_ids, strict=True)))


async def list_voids(cur: Cursor, limit: int) -> list[VoidRow]:
    """The newest voids, newest first."""
    await cur.execute(_LIST, (limit,))
    return [VoidRow(*row) for row in await cur.fetchall()]


def _check(request: VoidRequest, ids: Sequence[int]) -> None:
    if not 1 <= len(request.key) <= MAX_KEY or not request.key.isprintable():
        raise UsageError(f"the key must be 1 to {MAX_KEY} printable characters")
    if not request.why.strip() or len(request.why) > MAX_WHY or not request.why.isprintable():
        raise UsageError(f"say why: 1 to {MAX_WHY} printable characters")
    if not 1 <= len(ids) <= MAX_EVENTS:
        raise UsageError(f"name 1 to {MAX_EVENTS:,} events")
    seen: set[int] = set()
    for one in ids:
        if one in seen:
            raise UsageError(f"event {one} is named twice")
        seen.add(one)


async def _repeated(cur: Cursor, request: VoidRequest, ids: Iterable[int]) -> dict[int, int | None] | None:
    """What the key did before, None where it is new."""
    await hold_void_key(cur, request.key)
    await cur.execute(_BY_KEY, (request.key,))
    done = dict(await cur.fetchall())
    if done and done.keys() != set(ids):
        raise UsageError(f"key {request.key[:40]!r} was used for other events")
    return done or None


async def _check_repeat(
    cur: Cursor, by_id: Mapping[int, Correction], done: Mapping[int, int | None], request: VoidRequest
) -> None:
    """A repeat says what was stored."""
    stored = {one.id: one for one in await _read(cur, [*done, *(new for new in done.values() if new is not None)])}
    for old, new in done.items():
        if new is None:
            raise UsageError(f"key {request.key[:40]!r} was used for a void")
        said = _said(_corrected(stored[old], by_id[old])) if old in stored else None
        if new not in stored or said != _said(stored[new]):
            raise UsageError(f"key {request.key[:40]!r} was used for another correction of event {old}")


def _said(event: _Event) -> tuple[object, ...]:
    return event.item, event.quantity_micro, event.duration_s, event.destination


async def _read(cur: Cursor, ids: Iterable[int]) -> list[_Event]:
    await cur.execute(_EVENTS, (int_array(ids),))
    return [_Event(*row) for row in await cur.fetchall()]


async def _to_void(cur: Cursor, ids: Sequence[int]) -> list[_Event]:
    """The events, by id, with billing kept off them until the transaction ends."""
    events = await _read(cur, ids)
    missing = sorted(set(ids) - {one.id for one in events})
    if missing:
        raise UsageError(f"there is no event {missing[0]}")
    await cur.execute(_PAYERS, {"accounts": int_array({one.account_id for one in events})})
    await wait_for_billing(cur, [payer for (payer,) in await cur.fetchall()])
    await cur.execute(_VOIDED, (int_array(ids),))
    row = await cur.fetchone()
    if row is not None:
        raise UsageError(f"event {row[0]} is void already: see `kopeck usage voids`")
    await cur.execute(_BILLED, (int_array(ids),))
    row = await cur.fetchone()
    if row is not None:
        raise UsageError(_billed_words(*row))
    return events


def _billed_words(event_id: int, order: str, invoice: str | None, run_id: int) -> str:
    if invoice is None:
        return (
            f"event {event_id} is billed: it stands on a draft of run {run_id} for order {order}, which is not issued "
            f"yet; `kopeck bill void-review` takes a review back"
        )
    return (
        f"event {event_id} is billed: it stands on invoice {invoice} for order {order}, which never changes; "
        f"`kopeck invoice credit {invoice}` takes the money back"
    )


def _corrected(event: _Event, said: Correction) -> _Event:
    return _Event(
        event.id,
        event.account_id,
        event.item if said.item is None else said.item,
        event.at,
        event.counts_at,
        event.quantity_micro if said.quantity_micro is None else said.quantity_micro,
        event.duration_s if said.duration_s is None else said.duration_s,
        event.destination if said.destination is None else said.destination,
    )


async def _check_meant(cur: Cursor, meant: Sequence[_Event], ratable: Ratable) -> None:
    for one in meant:
        if not 0 <= one.quantity_micro <= MAX_QUANTITY_MICRO:
            raise UsageError(f"event {one.id}: the quantity is below zero or absurd")
        if not 0 <= one.duration_s <= MAX_DURATION_S:
            raise UsageError(f"event {one.id}: the duration is 0 to {MAX_DURATION_S} seconds")
        if len(one.destination) > 64 or not all("!" <= char <= "~" for char in one.destination):
            raise UsageError(f"event {one.id}: the destination is not up to 64 ASCII characters")
    await cur.execute(_KNOWN_ITEMS, (text_array(sorted({one.item for one in meant})),))
    row = await cur.fetchone()
    if row is not None:
        raise UsageError(f"no catalogue has an item {row[0][:40]!r}")
    found = unratable(
        pa.array([one.item for one in meant]),
        np.array([one.quantity_micro for one in meant], np.int64),
        pa.array([one.destination for one in meant]),
        ratable,
    )
    for rows, words in (
        (found.broken_step, "the quantity is in no whole steps of the item"),
        (found.no_number, "the destination is no number of digits"),
        (found.no_rate, "no price of the item has a rate for the destination"),
    ):
        for place in np.flatnonzero(rows)[:1].tolist():
            raise UsageError(f"event {meant[place].id}: {words}")


async def _store(cur: Cursor, meant: Sequence[_Event], request: VoidRequest) -> list[int]:
    """Append events as an import of their own; returns their ids."""
    await cur.execute(_SOURCE, {"name": SOURCE})
    source_id = (await cur.fetchone())[0]
    late = sum(one.counts_at > one.at for one in meant)
    values = {"source_id": source_id, "name": request.name or request.key, "actor": request.actor}
    await cur.execute(_IMPORT, values | {"count": len(meant), "late": late})
    import_id = (await cur.fetchone())[0]
    await cur.execute(_NEW_IDS, (len(meant),))
    new_ids = [int(one) for (one,) in await cur.fetchall()]
    columns = {
        "source_id": source_id,
        "import_id": import_id,
        "old": int_array(one.id for one in meant),
        "new": int_array(new_ids),
        "items": text_array(one.item for one in meant),
        "quantities": int_array(one.quantity_micro for one in meant),
        "durations": int_array(one.duration_s for one in meant),
        "destinations": text_array(one.destination for one in meant),
    }
    await cur.execute(_NEW_KEYS, columns)
    await cur.execute(_NEW_EVENTS, columns)
    return new_ids


def _void_values(events: Sequence[_Event], replaced: Sequence[int], request: VoidRequest) -> dict[str, Any]:
    return {
        "ids": int_array(one.id for one in events),
        "accounts": int_array(one.account_id for one in events),
        "replaced": int_array(replaced),
        "key": request.key,
        "why": request.why.strip(),
        "actor": request.actor,
    }
