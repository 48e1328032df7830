"""Voids and corrections of usage in PostgreSQL.

Rules. Functions take the caller's aiopg cursor; the caller owns the transaction. Nothing is changed and nothing
deleted: a void and an event are rows that are added.

Does not know: what may be voided (billing.usage.voids).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from billing.database.arrays import int_array, text_array
from billing.database.cursors import Cursor
from billing.database.locks import wait_for_billing
from billing.database.rows import first_record, records
from billing.database.unnest import Unnested

#: The source of events that correct others.
SOURCE: Final = "corrections"


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """A row of usage_events. quantity_micro: millionths of the unit of the item."""

    id: int
    account_id: int
    item: str
    at: datetime
    counts_at: datetime
    quantity_micro: int
    duration_s: int
    destination: str


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
class BilledEvent:
    """An event that an invoice or a draft holds. invoice: its number, None for a draft."""

    event_id: int
    order: str
    invoice: str | None
    run_id: int


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
    SELECT e.id AS event_id, coalesce(o.number, '#' || o.id) AS order, n.full_number AS invoice, p.run_id
    FROM usage_events e
    CROSS JOIN LATERAL (
        SELECT o.id, o.number FROM orders o JOIN items i ON i.terms_id = o.terms_id AND i.item = e.item
        WHERE o.account_id = e.account_id AND o.starts_at <= e.at AND e.at < coalesce(o.ends_at, 'infinity')
        ORDER BY o.id LIMIT 1) o
    JOIN recorded_periods p ON p.order_id = o.id AND p.part IN ('arrears', 'late') AND p.outcome = 'billed'
     AND p.period_start <= e.at AND e.at < p.period_end
    JOIN bill_runs r ON r.id = p.run_id AND (r.usage_until > e.counts_at OR r.usage_until IS NULL)
    LEFT JOIN numbered_invoices n ON n.id = p.invoice_id AND n.block_state = 'issued'
    WHERE e.id = ANY (%s::bigint[])
    ORDER BY e.id, p.run_id LIMIT 1
"""

_VOIDS: Final = Unnested("v", {"usage_id": "bigint", "account_id": "bigint", "replaced_by": "bigint"})

_VOID: Final = f"""
    INSERT INTO usage_voids (usage_id, account_id, replaced_by, key, why, actor)
    SELECT usage_id, account_id, replaced_by, %(key)s, %(why)s, %(actor)s FROM {_VOIDS.source}
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

_NEW: Final = Unnested(
    "n",
    {
        "old": "bigint",
        "new": "bigint",
        "item": "text",
        "quantity_micro": "bigint",
        "duration_s": "int",
        "destination": "text",
    },
    number="line",
)

_NEW_KEYS: Final = f"""
    INSERT INTO usage_keys (source_id, key, usage_id, counts_at)
    SELECT %(source_id)s, 'event ' || n.old, n.new, e.counts_at
    FROM {_NEW.source} JOIN usage_events e ON e.id = n.old
"""

_NEW_EVENTS: Final = f"""
    INSERT INTO usage_events (id, account_id, item, at, counts_at, quantity_micro, duration_s, destination, import_id,
                              line)
    SELECT n.new, e.account_id, n.item, e.at, e.counts_at, n.quantity_micro, n.duration_s, n.destination,
           %(import_id)s, n.line
    FROM {_NEW.source}
    JOIN usage_events e ON e.id = n.old
"""

_LIST: Final = """
    SELECT v.usage_id AS event_id, a.number AS account, coalesce(e.item, '') AS item, e.at, v.replaced_by, v.key, v.why,
           v.actor, v.created_at
    FROM (SELECT * FROM usage_voids ORDER BY created_at DESC, usage_id DESC LIMIT %s) v
    LEFT JOIN accounts a ON a.id = v.account_id
    LEFT JOIN LATERAL (SELECT e.item, e.at FROM usage_events e WHERE e.id = v.usage_id OFFSET 0) e ON true
    ORDER BY v.created_at DESC, v.usage_id DESC
"""


async def done_under(cur: Cursor, key: str) -> dict[int, int | None]:
    """Events that were voided under a key, each with the event that stands for it, or None."""
    await cur.execute(_BY_KEY, (key,))
    return dict(await cur.fetchall())


async def read_events(cur: Cursor, ids: Iterable[int]) -> list[StoredEvent]:
    """The events with these ids, by id."""
    await cur.execute(_EVENTS, (int_array(ids),))
    return await records(cur, StoredEvent)


async def keep_billing_off(cur: Cursor, events: Sequence[StoredEvent]) -> None:
    """Keep runs from billing the payers of these events until the transaction ends."""
    await cur.execute(_PAYERS, {"accounts": int_array({event.account_id for event in events})})
    await wait_for_billing(cur, [payer for (payer,) in await cur.fetchall()])


async def first_void(cur: Cursor, ids: Sequence[int]) -> int | None:
    """The first of these events that is void, or None."""
    await cur.execute(_VOIDED, (int_array(ids),))
    row = await cur.fetchone()
    return None if row is None else int(row[0])


async def first_billed(cur: Cursor, ids: Sequence[int]) -> BilledEvent | None:
    """The first of these events that an invoice or a draft holds, or None."""
    await cur.execute(_BILLED, (int_array(ids),))
    return await first_record(cur, BilledEvent)


async def first_unknown_item(cur: Cursor, items: Iterable[str]) -> str | None:
    """The first of these items that no catalogue has; None while there is no catalogue."""
    await cur.execute(_KNOWN_ITEMS, (text_array(sorted(set(items))),))
    row = await cur.fetchone()
    return None if row is None else str(row[0])


async def insert_voids(
    cur: Cursor, events: Sequence[StoredEvent], replaced_by: Sequence[int | None], key: str, why: str, actor: str
) -> None:
    """Void events; replaced_by: for each the event that stands for it, or None."""
    rows = [(event.id, event.account_id, by) for event, by in zip(events, replaced_by, strict=True)]
    await cur.execute(_VOID, _VOIDS.values(rows) | {"key": key, "why": why.strip(), "actor": actor})


async def insert_events(cur: Cursor, meant: Sequence[StoredEvent], name: str, actor: str) -> list[int]:
    """Store what events should have said, as an import of their own; returns the new ids. name: of the import."""
    await cur.execute(_SOURCE, {"name": SOURCE})
    source_id = (await cur.fetchone())[0]
    late = sum(event.counts_at > event.at for event in meant)
    values = {"source_id": source_id, "name": name, "actor": actor, "count": len(meant), "late": late}
    await cur.execute(_IMPORT, values)
    import_id = (await cur.fetchone())[0]
    await cur.execute(_NEW_IDS, (len(meant),))
    new_ids = [int(new_id) for (new_id,) in await cur.fetchall()]
    rows = _NEW.values(
        (event.id, new_id, event.item, event.quantity_micro, event.duration_s, event.destination)
        for event, new_id in zip(meant, new_ids, strict=True)
    )
    await cur.execute(_NEW_KEYS, rows | {"source_id": source_id})
    await cur.execute(_NEW_EVENTS, rows | {"import_id": import_id})
    return new_ids


async def list_voids(cur: Cursor, limit: int) -> list[VoidRow]:
    """The newest voids, newest first."""
    await cur.execute(_LIST, (limit,))
    return await records(cur, VoidRow)
