"""SQL of the journal's way: the outbox, and the rows that documents are made of. One call is one round trip.

Rules. Every function takes the caller's cursor, and the caller owns the transaction. Rows of documents leave by name:
a statement calls its columns what the document calls its fields.

Does not know: what a document says, MongoDB, totals (gateway.journal.totals).
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from billing.database.cursors import Cursor
from billing.database.rows import named_rows

Row = dict[str, Any]


class OutboxRow(NamedTuple):
    """A change that the journal has not seen. topic: payment or attempt; ref: its id."""

    id: int
    topic: str
    ref: int


_PAYMENTS: Final = """
    SELECT p.id AS _id, p.version, w.code AS partner, w.name AS partner_name, p.partner_id, p.contract_version,
           p.partner_key AS key, p.service, p.account_number AS account, p.account_id, a.name AS account_name,
           p.amount_minor AS amount, p.currency, p.state, p.reason, p.partner_time, p.registered_at, p.created_at,
           p.updated_at, p.extras, p.returned_minor AS returned
    FROM payments p
    JOIN partners w ON w.id = p.partner_id
    LEFT JOIN accounts a ON a.id = p.account_id
    WHERE p.id = ANY(%(ids)s::bigint[])
    ORDER BY p.id
"""

_EVENTS: Final = """
    SELECT payment_id, seq, event, state, reason, actor, note, at, remote_ip, request
    FROM payment_events WHERE payment_id = ANY(%(ids)s::bigint[])
    ORDER BY payment_id, seq
"""

_TRANSFERS: Final = """
    SELECT t.source_id AS payment_id, t.id, t.step, d.number AS debit, c.number AS credit, t.amount_minor AS amount,
           t.created_at AS at
    FROM posted_transfers t
    LEFT JOIN accounts d ON d.id = t.debit_account_id
    LEFT JOIN accounts c ON c.id = t.credit_account_id
    WHERE t.source = 'payment' AND t.source_id = ANY(%(ids)s::bigint[])
    ORDER BY t.source_id, t.id
"""

#: Refunds and moves: transfers by hand that name the one which credited the account.
_RETURNS: Final = """
    SELECT p.source_id AS payment_id, t.id, t.step, d.number AS debit, c.number AS credit, t.amount_minor AS amount,
           t.created_at AS at
    FROM posted_transfers p
    JOIN posted_transfers t ON t.corrects_id = p.id AND t.source = 'manual'
    LEFT JOIN accounts d ON d.id = t.debit_account_id
    LEFT JOIN accounts c ON c.id = t.credit_account_id
    WHERE p.source = 'payment' AND p.source_id = ANY(%(ids)s::bigint[]) AND p.step = 'post'
    ORDER BY p.source_id, t.id
"""

_CONTRACTS: Final = """
    SELECT c.partner_id, w.code AS partner, c.version, c.body, c.created_at
    FROM contracts c JOIN partners w ON w.id = c.partner_id
    WHERE c.partner_id = ANY(%(partners)s::integer[])
    ORDER BY c.partner_id, c.version
"""

_ATTEMPTS: Final = """
    SELECT t.id AS _id, t.at, coalesce(w.code, '') AS partner, t.kind, t.op, t.reason, t.code, t.detail,
           t.partner_key AS key, t.account_number AS account, t.amount_minor AS amount, t.payment_id, t.remote_ip,
           t.request, t.calls
    FROM attempts t LEFT JOIN partners w ON w.id = t.partner_id
    WHERE t.id = ANY(%(ids)s::bigint[])
    ORDER BY t.id
"""

_TAKE: Final = """
    SELECT id, topic, ref FROM outbox WHERE id >= %(floor)s AND NOT id = ANY(%(aside)s::bigint[])
    ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
"""
_GIVE_UP: Final = "DELETE FROM outbox WHERE id = ANY(%(ids)s::bigint[])"
_OLDEST: Final = """
    SELECT id, extract(epoch FROM now() - at)::float8 FROM outbox WHERE id >= %(floor)s ORDER BY id LIMIT 1
"""
_NEWEST: Final = "SELECT id FROM outbox ORDER BY id DESC LIMIT 1"
SNAPSHOT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_LEFT: Final = "SELECT count(*) FROM outbox WHERE id <= %(last)s AND topic = 'payment'"
_PAYMENT_IDS: Final = "SELECT id FROM payments WHERE id > %(after)s ORDER BY id LIMIT %(limit)s"
_ATTEMPT_IDS: Final = "SELECT id FROM attempts WHERE id > %(after)s ORDER BY id LIMIT %(limit)s"


async def take_rows(cur: Cursor, limit: int, aside: Sequence[int], floor: int) -> list[OutboxRow]:
    """Lock the first outbox rows from id ``floor`` on that no other relay holds, without those ``aside``."""
    await cur.execute(_TAKE, {"limit": limit, "aside": list(aside), "floor": floor})
    return [OutboxRow(int(row[0]), str(row[1]), int(row[2])) for row in await cur.fetchall()]


async def give_up_rows(cur: Cursor, ids: Sequence[int]) -> None:
    """Delete outbox rows whose documents MongoDB has acknowledged."""
    await cur.execute(_GIVE_UP, {"ids": list(ids)})


async def oldest_row(cur: Cursor, floor: int) -> tuple[int, float] | None:
    """(id, age in seconds) of the first outbox row from id ``floor`` on."""
    await cur.execute(_OLDEST, {"floor": floor})
    row = await cur.fetchone()
    return (int(row[0]), float(row[1])) if row else None


async def newest_row(cur: Cursor) -> int | None:
    """The highest id in the outbox."""
    await cur.execute(_NEWEST)
    row = await cur.fetchone()
    return int(row[0]) if row else None


async def payments_left(cur: Cursor, last: int) -> int:
    """How many rows of payments the outbox holds up to id ``last``."""
    await cur.execute(_LEFT, {"last": last})
    return int((await cur.fetchone())[0])


async def payment_ids(cur: Cursor, after: int, limit: int) -> list[int]:
    """The next ids of payments, ascending."""
    await cur.execute(_PAYMENT_IDS, {"after": after, "limit": limit})
    return [int(row[0]) for row in await cur.fetchall()]


async def attempt_ids(cur: Cursor, after: int, limit: int) -> list[int]:
    """The next ids of attempts, ascending."""
    await cur.execute(_ATTEMPT_IDS, {"after": after, "limit": limit})
    return [int(row[0]) for row in await cur.fetchall()]


async def read_payments(cur: Cursor, ids: Iterable[int]) -> list[Row]:
    """Payments with their partner's and account's names, by id."""
    await cur.execute(_PAYMENTS, {"ids": sorted(set(ids))})
    return await named_rows(cur)


async def read_events(cur: Cursor, ids: Sequence[int]) -> dict[int, list[Row]]:
    """The events of payments by payment id, in order."""
    await cur.execute(_EVENTS, {"ids": list(ids)})
    return _by_payment(await named_rows(cur))


async def read_transfers(cur: Cursor, ids: Sequence[int]) -> dict[int, list[Row]]:
    """The transfers of payments by payment id, in order."""
    await cur.execute(_TRANSFERS, {"ids": list(ids)})
    return _by_payment(await named_rows(cur))


async def read_returns(cur: Cursor, ids: Sequence[int]) -> dict[int, list[Row]]:
    """The refunds and moves of payments by payment id, in order."""
    await cur.execute(_RETURNS, {"ids": list(ids)})
    return _by_payment(await named_rows(cur))


async def read_contracts(cur: Cursor, partner_ids: Iterable[int]) -> list[Row]:
    """Every version of these partners' contracts."""
    await cur.execute(_CONTRACTS, {"partners": sorted(set(partner_ids))})
    return await named_rows(cur)


async def read_attempts(cur: Cursor, ids: Iterable[int]) -> list[Row]:
    """Attempts with their partner's code, by id."""
    await cur.execute(_ATTEMPTS, {"ids": sorted(set(ids))})
    return await named_rows(cur)


def _by_payment(rows: Iterable[Row]) -> dict[int, list[Row]]:
    groups: dict[int, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.pop("payment_id"), []).append(row)
    return groups
