"""What happened and was not told yet, and the facts that an event tells.

Rules. An outbox row is deleted in the transaction that queues what it says. Functions take the caller's cursor.

Does not know: who is told, how.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from billing.database.cursors import Cursor
from billing.database.rows import records

_TAKE: Final = """
    SELECT id, topic, ref, seq, after, at FROM event_outbox ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
"""
_DROP: Final = "DELETE FROM event_outbox WHERE id = ANY(%(ids)s::bigint[])"
_MOVE: Final = "UPDATE event_outbox SET after = %(after)s WHERE id = %(id)s"
_LAG: Final = "SELECT count(*), extract(epoch FROM now() - min(at))::float8 FROM event_outbox"

_PAYMENTS: Final = """
    SELECT p.id AS payment_id, e.seq, e.at, w.code AS partner, p.partner_key AS key, p.service,
           p.account_number AS account, p.amount_minor, p.currency
    FROM unnest(%(ids)s::bigint[], %(seqs)s::int[]) AS o (id, seq)
    JOIN payments p ON p.id = o.id
    JOIN payment_events e ON e.payment_id = o.id AND e.seq = o.seq
    JOIN partners w ON w.id = p.partner_id
    ORDER BY p.id, e.seq
"""

_INVOICES: Final = """
    SELECT i.id AS invoice_id, i.full_number AS number, i.kind, i.issued_at AS at, a.number AS account, i.currency,
           i.invoiced_on, i.due_on, i.net_minor, i.tax_minor, i.total_minor, c.full_number AS corrects
    FROM numbered_invoices i
    JOIN accounts a ON a.id = i.account_id
    LEFT JOIN numbered_invoices c ON c.id = i.corrects_id
    WHERE i.id >= %(block)s::bigint << 20 AND i.id < (%(block)s::bigint + 1) << 20 AND i.id > %(after)s
    ORDER BY i.id LIMIT %(limit)s
"""

_BILL_RUNS: Final = """
    SELECT r.id AS run_id, r.bill_on, r.kind, r.finished_at AS at,
           coalesce((SELECT sum(b.invoices_count) FROM invoice_blocks b
                     WHERE b.run_id = r.id AND b.state = 'issued'), 0)::bigint AS invoices
    FROM bill_runs r WHERE r.id = ANY(%(ids)s::bigint[]) ORDER BY r.id
"""


@dataclass(frozen=True, slots=True)
class OutboxEvent:
    """A row of the outbox. after: of a topic that stands for many objects, the last one told of."""

    id: int
    topic: str
    ref: int
    seq: int
    after: int
    at: datetime


@dataclass(frozen=True, slots=True)
class PostedPayment:
    """What is told of a payment that was credited. seq: of the event that did it."""

    payment_id: int
    seq: int
    at: datetime
    partner: str
    key: str
    service: str
    account: str
    amount_minor: int
    currency: str


@dataclass(frozen=True, slots=True)
class IssuedInvoice:
    """What is told of an invoice or credit note. corrects: the number of the invoice that a credit note corrects."""

    invoice_id: int
    number: str
    kind: str
    at: datetime
    account: str
    currency: str
    invoiced_on: date
    due_on: date
    net_minor: int
    tax_minor: int
    total_minor: int
    corrects: str | None


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """What is told of a bill run that is done."""

    run_id: int
    bill_on: date
    kind: str
    at: datetime
    invoices: int


async def take_events(cur: Cursor, limit: int) -> list[OutboxEvent]:
    """The first rows of the outbox that no other process has, under lock."""
    await cur.execute(_TAKE, {"limit": limit})
    return await records(cur, OutboxEvent)


async def drop_events(cur: Cursor, ids: Sequence[int]) -> None:
    """Delete rows that were told."""
    await cur.execute(_DROP, {"ids": list(ids)})


async def move_event(cur: Cursor, event_id: int, after: int) -> None:
    """Write how far a row was told."""
    await cur.execute(_MOVE, {"id": event_id, "after": after})


async def outbox_lag(cur: Cursor) -> tuple[int, float]:
    """(rows of the outbox, age of the oldest in seconds)."""
    await cur.execute(_LAG)
    row = await cur.fetchone()
    return int(row[0]), float(row[1] or 0)


async def read_payments(cur: Cursor, events: Iterable[OutboxEvent]) -> list[PostedPayment]:
    """Payments of outbox rows."""
    rows = list(events)
    await cur.execute(_PAYMENTS, {"ids": [row.ref for row in rows], "seqs": [row.seq for row in rows]})
    return await records(cur, PostedPayment)


async def read_invoices(cur: Cursor, block: int, after: int, limit: int) -> list[IssuedInvoice]:
    """The next invoices of a block that was issued."""
    await cur.execute(_INVOICES, {"block": block, "after": after, "limit": limit})
    return await records(cur, IssuedInvoice)


async def read_runs(cur: Cursor, events: Iterable[OutboxEvent]) -> list[FinishedRun]:
    """Bill runs of outbox rows."""
    await cur.execute(_BILL_RUNS, {"ids": [row.ref for row in events]})
    return await records(cur, FinishedRun)
