"""SQL of the payment path: lock, load, write. One call is one round trip unless it says otherwise.

Rules. Every function takes the caller's cursor; the lane owns the transaction. Rows become records before they leave.
Locks are taken in the order subscriber accounts by id, payment keys sorted, system accounts by id.

Does not know: what is decided, batches' sizes, retries.
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from adapters.messages import Reason, RegistryLine
from billing.arrays import int_array, text_array
from billing.ledger import LedgerError, write_transfers
from gateway.decide import AccountRow, Attempt, Payment, World
from gateway.states import State
from ratingcore.money import Minor

#: `payment_ids` moves by this at each nextval (migration 0002): the ids [n, n + ID_BLOCK) are the caller's.
ID_BLOCK: Final = 100

#: Longest answer to a registry question, in payments, some 400 bytes of memory each until it is sent; a longer period
#: is refused with a temporary code.
REGISTRY_MAX: Final = 1_000_000
#: Payments of a registry read at once: while their rows are taken in, a few milliseconds, no other request is served.
REGISTRY_PAGE: Final = 1_000

_PAYABLE: Final = "kind IN ('subscriber', 'prepaid')"

_ACCOUNT_COLUMNS: Final = "id, number, state, name, balance_minor, currency, floor_minor"

#: Those another worker holds are skipped, so a billing shard never stalls the rest; see `held_elsewhere`.
_LOCK_BY_NUMBER: Final = f"""
    SELECT {_ACCOUNT_COLUMNS} FROM accounts
    WHERE number = ANY(%(numbers)s::text[]) AND {_PAYABLE}
    ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
"""

_LOCK_ANY: Final = f"""
    SELECT {_ACCOUNT_COLUMNS} FROM accounts
    WHERE id IN (
        SELECT id FROM accounts WHERE number = ANY(%(numbers)s::text[]) AND {_PAYABLE}
        UNION ALL
        SELECT p.account_id FROM unnest(%(partners)s::int[], %(keys)s::text[]) AS w (partner_id, partner_key)
            JOIN payments p USING (partner_id, partner_key)
        UNION ALL
        SELECT account_id FROM payments WHERE id = ANY(%(ids)s::bigint[])
    )
    ORDER BY id FOR NO KEY UPDATE SKIP LOCKED
"""

_READ_ACCOUNTS: Final = f"""
    SELECT {_ACCOUNT_COLUMNS} FROM accounts
    WHERE (number = ANY(%(numbers)s::text[]) AND {_PAYABLE}) OR id = ANY(%(ids)s::bigint[])
"""

_EXISTING_NUMBERS: Final = f"SELECT number FROM accounts WHERE number = ANY(%(numbers)s::text[]) AND {_PAYABLE}"

_PAYMENT_COLUMNS: Final = """p.id, p.partner_id, p.partner_key, p.contract_version, p.service, p.account_number,
    p.account_id, p.amount_minor, p.currency, p.partner_time, p.extras, p.state, p.reason, p.version,
    p.registered_at, p.created_at"""

_PAYMENTS_BY_KEY: Final = f"""
    SELECT {_PAYMENT_COLUMNS}
    FROM unnest(%(partners)s::int[], %(keys)s::text[]) AS w (partner_id, partner_key)
    JOIN payments p USING (partner_id, partner_key)
"""

_PAYMENTS_BY_ID: Final = f"SELECT {_PAYMENT_COLUMNS} FROM payments p WHERE p.id = ANY(%(ids)s::bigint[])"

_INSERT_PAYMENTS: Final = """
    INSERT INTO payments (id, partner_id, partner_key, contract_version, service, account_number, account_id,
                          amount_minor, currency, partner_time, extras, state, reason, version,
                          registered_at, created_at, updated_at)
    SELECT id, partner_id, partner_key, contract_version, service, account_number, account_id, amount, currency,
           partner_time, extras::jsonb, state, reason, version, %(now)s, %(now)s, %(now)s
    FROM unnest(%(ids)s::bigint[], %(partners)s::int[], %(keys)s::text[], %(contracts)s::int[], %(services)s::text[],
                %(numbers)s::text[], %(accounts)s::bigint[], %(amounts)s::bigint[], %(currencies)s::text[],
                %(times)s::timestamptz[], %(extras)s::text[], %(states)s::text[], %(reasons)s::text[],
                %(versions)s::int[])
        AS w (id, partner_id, partner_key, contract_version, service, account_number, account_id, amount, currency,
              partner_time, extras, state, reason, version)
"""

_UPDATE_PAYMENTS: Final = """
    UPDATE payments p
    SET contract_version = w.contract_version, account_id = w.account_id, state = w.state, reason = w.reason,
        version = w.version, registered_at = w.registered_at, updated_at = %(now)s
    FROM unnest(%(ids)s::bigint[], %(before)s::int[], %(contracts)s::int[], %(accounts)s::bigint[], %(states)s::text[],
                %(reasons)s::text[], %(versions)s::int[], %(registered)s::timestamptz[])
        AS w (id, before, contract_version, account_id, state, reason, version, registered_at)
    WHERE p.id = w.id AND p.version = w.before
"""

_INSERT_EVENTS: Final = """
    INSERT INTO payment_events (payment_id, seq, event, state, reason, actor, note, remote_ip, request, at)
    SELECT *, %(now)s FROM unnest(%(ids)s::bigint[], %(seqs)s::int[], %(events)s::text[], %(states)s::text[],
                                  %(reasons)s::text[], %(actors)s::text[], %(notes)s::text[], %(ips)s::text[],
                                  %(requests)s::text[])
"""

_OUTBOX: Final = "INSERT INTO outbox (topic, ref) SELECT 'payment', unnest(%(ids)s::bigint[])"

_INSERT_ATTEMPTS: Final = """
    WITH written AS (
        INSERT INTO attempts (at, partner_id, kind, op, reason, code, detail, partner_key, account_number,
                              amount_minor, payment_id, remote_ip, request, calls)
        SELECT * FROM unnest(%(ats)s::timestamptz[], %(partners)s::int[], %(kinds)s::text[], %(ops)s::text[],
                             %(reasons)s::text[], %(codes)s::text[], %(details)s::text[], %(keys)s::text[],
                             %(numbers)s::text[], %(amounts)s::bigint[], %(payments)s::bigint[], %(ips)s::text[],
                             %(requests)s::text[], %(calls)s::int[])
        RETURNING id
    )
    INSERT INTO outbox (topic, ref) SELECT 'attempt', id FROM written
"""

_REGISTRY: Final = """
    SELECT partner_key, id, account_number, amount_minor, partner_time FROM payments
    WHERE partner_id = %(partner)s AND state = 'posted' AND partner_time >= %(start)s AND partner_time < %(end)s
      AND (partner_time, id) > (%(start)s, %(after)s)
    ORDER BY partner_time, id LIMIT %(limit)s
"""

#: All pages of a registry show one instant: a payment that is cancelled meanwhile is in it whole or not at all.
_SNAPSHOT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class StaleWrite(Exception):
    """A payment moved under our feet although its account was locked: run the batch again."""


async def take_id_block(cur: Any) -> range:
    """The next block of payment ids."""
    await cur.execute("SELECT nextval('payment_ids')")
    first = int((await cur.fetchone())[0])
    return range(first, first + ID_BLOCK)


async def begin_and_lock(
    cur: Any, numbers: Sequence[str], keys: Sequence[tuple[int, str]], ids: Sequence[int]
) -> dict[str, AccountRow]:
    """BEGIN and lock the payable accounts named by number, or by a payment's (partner_id, key) or id.

    Accounts locked by somebody else are left out.
    """
    if keys or ids:
        wanted = {"numbers": text_array(numbers), "ids": int_array(ids), **_key_columns(keys)}
        lock = cur.mogrify(_LOCK_ANY, wanted)
    else:
        lock = cur.mogrify(_LOCK_BY_NUMBER, {"numbers": text_array(numbers)})
    await cur.execute(b"BEGIN ISOLATION LEVEL READ COMMITTED;" + lock)
    return {row[1]: AccountRow(*row) for row in await cur.fetchall()}


async def held_elsewhere(cur: Any, numbers: Sequence[str]) -> set[str]:
    """Of the numbers `begin_and_lock` did not return: those that exist, so somebody else holds them."""
    await cur.execute(_EXISTING_NUMBERS, {"numbers": text_array(numbers)})
    return {row[0] for row in await cur.fetchall()}


async def read_accounts(cur: Any, numbers: Sequence[str], ids: Sequence[int]) -> list[AccountRow]:
    """Accounts without a lock, by number (payable ones) or id."""
    await cur.execute(_READ_ACCOUNTS, {"numbers": text_array(numbers), "ids": int_array(ids)})
    return [AccountRow(*row) for row in await cur.fetchall()]


async def read_payments(
    cur: Any, keys: Sequence[tuple[int, str]], ids: Sequence[int]
) -> dict[tuple[int, str], Payment]:
    """Payments by (partner_id, key) or id; a statement of its own so that it sees what the lock waited for."""
    statement = cur.mogrify(_PAYMENTS_BY_KEY, _key_columns(keys))
    if ids:
        statement += b" UNION ALL " + cur.mogrify(_PAYMENTS_BY_ID, {"ids": int_array(ids)})
    await cur.execute(statement)
    return {(row[1], row[2]): _payment(row) for row in await cur.fetchall()}


async def write(cur: Any, world: World, system_ids: Iterable[int]) -> None:
    """Write everything a batch decided: payments, events, outbox, attempts, then transfers and balances.

    Raises:
        StaleWrite: a changed payment was not in the version that was loaded.
        psycopg2.errors.UniqueViolation: another batch inserted one of the keys first; run the batch again.
    """
    if world.changed:
        await cur.execute(_UPDATE_PAYMENTS, _changed_columns(world))
        if cur.rowcount != len(world.changed):
            raise StaleWrite(f"{len(world.changed) - cur.rowcount} payments had moved")
    statements = []
    if world.created:
        statements.append(cur.mogrify(_INSERT_PAYMENTS, _created_columns(world)))
    if world.events:
        statements.append(cur.mogrify(_INSERT_EVENTS, _event_columns(world)))
        statements.append(cur.mogrify(_OUTBOX, {"ids": int_array(sorted({*world.created, *world.changed}))}))
    if world.attempts:
        statements.append(cur.mogrify(_INSERT_ATTEMPTS, attempt_columns([(world.now, a) for a in world.attempts])))
    if statements:
        await cur.execute(b";".join(statements))
    if world.transfers:
        await write_transfers(cur, world.transfers, system_ids)


async def insert_attempts(cur: Any, attempts: Sequence[tuple[datetime, Attempt]]) -> None:
    """Attempts with their times, and their ids into the outbox, in one statement."""
    await cur.execute(_INSERT_ATTEMPTS, attempt_columns(attempts))


async def forget_attempts(cur: Any, before: datetime, most: int) -> int:
    """Delete at most ``most`` attempts from before ``before``, oldest first; how many were deleted.

    Raises:
        psycopg2.errors.RaiseException: they are younger than the database lets go.
    """
    await cur.execute("SELECT forget_attempts(%s, %s)", (before, most))
    return int((await cur.fetchone())[0])


async def known_numbers(cur: Any, numbers: Sequence[str]) -> set[str]:
    """Of the numbers those that payable accounts have."""
    await cur.execute(_EXISTING_NUMBERS, {"numbers": text_array(numbers)})
    return {row[0] for row in await cur.fetchall()}


async def read_registry(cur: Any, partner_id: int, start: datetime, end: datetime) -> tuple[RegistryLine, ...] | None:
    """The partner's posted payments with partner time in [start, end), oldest first; None when over REGISTRY_MAX.

    A transaction of its own, a round trip for each REGISTRY_PAGE of them.
    """
    await cur.execute(_SNAPSHOT)
    lines: list[RegistryLine] = []
    asked = {"partner": partner_id, "start": start, "end": end, "after": -1, "limit": REGISTRY_PAGE}
    while True:
        await cur.execute(_REGISTRY, asked)
        page = [RegistryLine(row[0], row[1], row[2], Minor(row[3]), row[4]) for row in await cur.fetchall()]
        lines += page
        if len(page) < REGISTRY_PAGE or len(lines) > REGISTRY_MAX:
            break
        asked |= {"start": page[-1].time, "after": page[-1].payment_id}
    await cur.execute("COMMIT")
    return tuple(lines) if len(lines) <= REGISTRY_MAX else None


def _key_columns(keys: Sequence[tuple[int, str]]) -> dict[str, str]:
    return {"partners": int_array(key[0] for key in keys), "keys": text_array(key[1] for key in keys)}


def _payment(row: Sequence[Any]) -> Payment:
    return Payment(
        id=row[0],
        partner_id=row[1],
        key=row[2],
        contract_version=row[3],
        service=row[4],
        account_number=row[5],
        account_id=row[6],
        amount=Minor(row[7]),
        currency=row[8],
        partner_time=row[9],
        extras=row[10],
        state=State(row[11]),
        reason=Reason(row[12]),
        version=row[13],
        registered_at=row[14],
        created_at=row[15],
    )


def _created_columns(world: World) -> dict[str, Any]:
    # Sorted by key: two batches that insert the same keys meet in the same order.
    rows = sorted(world.created.values(), key=lambda p: (p.partner_id, p.key))
    for row in rows:
        if row.registered_at != world.now or row.created_at != world.now:
            raise LedgerError(f"payment {row.id} is new and not of this batch's time")
    return {
        "now": world.now,
        "ids": int_array(p.id for p in rows),
        "partners": int_array(p.partner_id for p in rows),
        "keys": text_array(p.key for p in rows),
        "contracts": int_array(p.contract_version for p in rows),
        "services": text_array(p.service for p in rows),
        "numbers": text_array(p.account_number for p in rows),
        "accounts": int_array(p.account_id for p in rows),
        "amounts": int_array(p.amount for p in rows),
        "currencies": text_array(p.currency for p in rows),
        "times": text_array(p.partner_time.isoformat() if p.partner_time else None for p in rows),
        "extras": text_array(json.dumps(dict(p.extras), ensure_ascii=False) if p.extras else None for p in rows),
        "states": text_array(p.state.value for p in rows),
        "reasons": text_array(p.reason.value for p in rows),
        "versions": int_array(p.version for p in rows),
    }


def _changed_columns(world: World) -> dict[str, Any]:
    rows = sorted(world.changed.values(), key=lambda p: p.id)
    return {
        "now": world.now,
        "ids": int_array(p.id for p in rows),
        "before": int_array(world.versions_before[p.id] for p in rows),
        "contracts": int_array(p.contract_version for p in rows),
        "accounts": int_array(p.account_id for p in rows),
        "states": text_array(p.state.value for p in rows),
        "reasons": text_array(p.reason.value for p in rows),
        "versions": int_array(p.version for p in rows),
        "registered": text_array(p.registered_at.isoformat() for p in rows),
    }


def _event_columns(world: World) -> dict[str, Any]:
    rows = world.events
    return {
        "now": world.now,
        "ids": int_array(e.payment_id for e in rows),
        "seqs": int_array(e.seq for e in rows),
        "events": text_array(e.event.value for e in rows),
        "states": text_array(e.state.value for e in rows),
        "reasons": text_array(e.reason.value for e in rows),
        "actors": text_array(e.actor for e in rows),
        "notes": text_array(e.note for e in rows),
        "ips": text_array(e.remote_ip for e in rows),
        "requests": text_array(e.request_text for e in rows),
    }


def attempt_columns(attempts: Sequence[tuple[datetime, Attempt]]) -> dict[str, Any]:
    """The columns of `insert_attempts`, shared with the batch's own write."""
    return {
        "ats": text_array(at.isoformat() for at, _ in attempts),
        "partners": int_array(a.partner_id for _, a in attempts),
        "kinds": text_array(a.kind for _, a in attempts),
        "ops": text_array(a.op for _, a in attempts),
        "reasons": text_array(a.reason.value for _, a in attempts),
        "codes": text_array(a.code for _, a in attempts),
        "details": text_array(a.detail for _, a in attempts),
        "keys": text_array(a.key for _, a in attempts),
        "numbers": text_array(a.account_number for _, a in attempts),
        "amounts": int_array(a.amount for _, a in attempts),
        "payments": int_array(a.payment_id for _, a in attempts),
        "ips": text_array(a.remote_ip for _, a in attempts),
        "requests": text_array(a.request_text for _, a in attempts),
        "calls": int_array(a.calls for _, a in attempts),
    }
