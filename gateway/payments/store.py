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
from billing.database.arrays import int_array, text_array
from billing.database.cursors import Cursor
from billing.database.rows import named_rows, records
from billing.database.unnest import Unnested
from billing.ledger.transfer_store import write_transfers
from billing.ledger.transfers import LedgerError
from gateway.payments.fence_store import LOCK_PAYS, Key, key_columns
from gateway.payments.records import AccountRow, Attempt, LoadedState, Payment, Sides
from gateway.payments.states import State
from ratingcore.money import Minor

#: `payment_ids` moves by this at each nextval (migration 0002): the ids [n, n + ID_BLOCK) are the caller's.
ID_BLOCK: Final = 100

#: Longest answer to a registry question, in payments, some 400 bytes of memory each until it is sent; a longer period
#: is refused with a temporary code.
REGISTRY_MAX: Final = 1_000_000
#: Payments of a registry read at once: while their rows are taken in, a few milliseconds, no other request is served.
REGISTRY_PAGE: Final = 1_000

_PAYABLE: Final = "kind IN ('subscriber', 'prepaid')"

_ACCOUNT_COLUMNS: Final = """id, number, state, name, balance_minor AS balance, currency,
    floor_minor AS floor"""

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

_PAYMENT_COLUMNS: Final = """p.id, p.partner_id, p.partner_key AS key, p.contract_version, p.service,
    p.account_number, p.account_id, p.amount_minor AS amount, p.currency, p.partner_time, p.extras, p.state, p.reason,
    p.version, p.registered_at, p.created_at, p.returned_minor AS returned"""

_PAYMENTS_BY_KEY: Final = f"""
    SELECT {_PAYMENT_COLUMNS}
    FROM unnest(%(partners)s::int[], %(keys)s::text[]) AS w (partner_id, partner_key)
    JOIN payments p USING (partner_id, partner_key)
"""

_PAYMENTS_BY_ID: Final = f"SELECT {_PAYMENT_COLUMNS} FROM payments p WHERE p.id = ANY(%(ids)s::bigint[])"

#: Every payment that moved money began with a hold, by whichever contract.
_SIDES: Final = """
    SELECT source_id, debit_account_id, credit_account_id FROM posted_transfers
    WHERE source = 'payment' AND source_id = ANY(%(ids)s::bigint[]) AND step = 'hold'
"""

#: Payments, and the fences of pays' keys as rows that have an age and no id.
_PAYMENTS_AND_FENCES: Final = f"""
    SELECT {_PAYMENT_COLUMNS}, NULL::bigint AS fence_age_ms
    FROM unnest(%(partners)s::int[], %(keys)s::text[]) AS w (partner_id, partner_key)
    JOIN payments p USING (partner_id, partner_key)
    UNION ALL
    SELECT NULL, f.partner_id, f.partner_key, {", ".join(["NULL"] * 14)},
        (extract(epoch FROM clock_timestamp() - f.fenced_at) * 1000)::bigint
    FROM unnest(%(pay_partners)s::int[], %(pay_keys)s::text[]) AS w (partner_id, partner_key)
    JOIN key_fences f USING (partner_id, partner_key)
"""

_PAYMENTS_AND_NO_FENCE_BY_ID: Final = f"""
    SELECT {_PAYMENT_COLUMNS}, NULL::bigint FROM payments p WHERE p.id = ANY(%(ids)s::bigint[])
"""

_IS_FREE: Final = "SELECT id FROM accounts WHERE id = ANY(%(ids)s::bigint[]) FOR NO KEY UPDATE SKIP LOCKED"

#: In line with the others that want the row, so a busy one is got in its turn.
_WAIT_FOR_ACCOUNT: Final = """
    BEGIN; SELECT set_config('lock_timeout', %(wait_ms)s, true);
    SELECT FROM accounts WHERE id = %(id)s FOR NO KEY UPDATE; ROLLBACK
"""

_NEW: Final = Unnested(
    "w",
    {
        "id": "bigint",
        "partner_id": "int",
        "partner_key": "text",
        "contract_version": "int",
        "service": "text",
        "account_number": "text",
        "account_id": "bigint",
        "amount_minor": "bigint",
        "currency": "text",
        "partner_time": "timestamptz",
        "extras": "jsonb",
        "state": "text",
        "reason": "text",
        "version": "int",
    },
)
_INSERT_PAYMENTS: Final = f"""
    INSERT INTO payments ({", ".join(_NEW.types)}, registered_at, created_at, updated_at)
    SELECT w.*, %(now)s, %(now)s, %(now)s FROM {_NEW.source}
"""

_CHANGED: Final = Unnested(
    "w",
    {
        "id": "bigint",
        "version_before": "int",
        "contract_version": "int",
        "account_id": "bigint",
        "state": "text",
        "reason": "text",
        "version": "int",
        "registered_at": "timestamptz",
        "returned_minor": "bigint",
    },
)
_UPDATE_PAYMENTS: Final = f"""
    UPDATE payments p
    SET contract_version = w.contract_version, account_id = w.account_id, state = w.state, reason = w.reason,
        version = w.version, registered_at = w.registered_at, returned_minor = w.returned_minor, updated_at = %(now)s
    FROM {_CHANGED.source}
    WHERE p.id = w.id AND p.version = w.version_before
"""

_EVENTS: Final = Unnested(
    "w",
    {
        "payment_id": "bigint",
        "seq": "int",
        "event": "text",
        "state": "text",
        "reason": "text",
        "actor": "text",
        "note": "text",
        "remote_ip": "text",
        "request": "text",
    },
)
_INSERT_EVENTS: Final = f"""
    INSERT INTO payment_events ({", ".join(_EVENTS.types)}, at) SELECT w.*, %(now)s FROM {_EVENTS.source}
"""

_OUTBOX: Final = "INSERT INTO outbox (topic, ref) SELECT 'payment', unnest(%(ids)s::bigint[])"

_ATTEMPTS: Final = Unnested(
    "w",
    {
        "at": "timestamptz",
        "partner_id": "int",
        "kind": "text",
        "op": "text",
        "reason": "text",
        "code": "text",
        "detail": "text",
        "partner_key": "text",
        "account_number": "text",
        "amount_minor": "bigint",
        "payment_id": "bigint",
        "remote_ip": "text",
        "request": "text",
        "calls": "int",
    },
)
_INSERT_ATTEMPTS: Final = f"""
    WITH written AS (
        INSERT INTO attempts ({", ".join(_ATTEMPTS.types)}) SELECT w.* FROM {_ATTEMPTS.source} RETURNING id
    )
    INSERT INTO outbox (topic, ref) SELECT 'attempt', id FROM written
"""

_REGISTRY: Final = """
    SELECT partner_key, id, account_number, amount_minor, partner_time FROM payments
    WHERE partner_id = %(partner)s AND state = 'posted' AND partner_time >= %(start)s AND partner_time < %(end)s
      AND (partner_time, id) > (%(start)s, %(after)s)
    ORDER BY partner_time, id LIMIT %(limit)s
"""

_PING: Final = "SELECT 1"

#: All pages of a registry show one instant: a payment that is cancelled meanwhile is in it whole or not at all.
_SNAPSHOT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"


class StaleWrite(Exception):
    """Optimistic check failed: a payment's version changed after it was read. Run the batch again."""


async def take_id_block(cur: Cursor) -> range:
    """The next block of payment ids."""
    await cur.execute("SELECT nextval('payment_ids')")
    first = int((await cur.fetchone())[0])
    return range(first, first + ID_BLOCK)


async def begin_and_lock(
    cur: Cursor, numbers: Sequence[str], keys: Sequence[tuple[int, str]], ids: Sequence[int]
) -> dict[str, AccountRow]:
    """BEGIN and lock the payable accounts named by number, or by a payment's (partner_id, key) or id.

    Accounts that another session holds are left out.
    """
    if keys or ids:
        wanted = {"numbers": text_array(numbers), "ids": int_array(ids), **key_columns(keys)}
        lock = cur.mogrify(_LOCK_ANY, wanted)
    else:
        lock = cur.mogrify(_LOCK_BY_NUMBER, {"numbers": text_array(numbers)})
    await cur.execute(b"BEGIN ISOLATION LEVEL READ COMMITTED;" + lock)
    return {account.number: account for account in await records(cur, AccountRow)}


async def held_elsewhere(cur: Cursor, numbers: Sequence[str]) -> set[str]:
    """Of the numbers `begin_and_lock` did not return: those that exist, so another session holds them."""
    await cur.execute(_EXISTING_NUMBERS, {"numbers": text_array(numbers)})
    return {row[0] for row in await cur.fetchall()}


async def read_accounts(cur: Cursor, numbers: Sequence[str], ids: Sequence[int]) -> list[AccountRow]:
    """Accounts without a lock, by number (payable ones) or id."""
    await cur.execute(_READ_ACCOUNTS, {"numbers": text_array(numbers), "ids": int_array(ids)})
    return await records(cur, AccountRow)


async def read_payments(
    cur: Cursor, keys: Sequence[tuple[int, str]], ids: Sequence[int]
) -> dict[tuple[int, str], Payment]:
    """Payments by (partner_id, key) or id; a statement of its own so that it sees what the lock waited for."""
    statement = cur.mogrify(_PAYMENTS_BY_KEY, key_columns(keys))
    if ids:
        statement += b" UNION ALL " + cur.mogrify(_PAYMENTS_BY_ID, {"ids": int_array(ids)})
    await cur.execute(statement)
    return {(row["partner_id"], row["key"]): _payment(row) for row in await named_rows(cur)}


async def read_sides(cur: Cursor, ids: Sequence[int]) -> dict[int, Sides]:
    """The system accounts of these payments, of those that moved money."""
    await cur.execute(_SIDES, {"ids": int_array(ids)})
    return {row[0]: Sides(row[1], row[2]) for row in await cur.fetchall()}


async def read_for_batch(
    cur: Cursor, keys: Sequence[Key], ids: Sequence[int], pay_keys: Sequence[Key]
) -> tuple[dict[Key, Payment], dict[Key, float]]:
    """As `read_payments`, and the fences of ``pay_keys`` by age in seconds.

    The pays' key locks are held from here to the end of the transaction: a question about one of them is answered
    before, by a fence that is read here, or hears that the key is in work.
    """
    statement = b""
    if pay_keys:
        statement = cur.mogrify(LOCK_PAYS, key_columns(pay_keys)) + b";"
    pays = {"pay_" + name: column for name, column in key_columns(pay_keys).items()}
    statement += cur.mogrify(_PAYMENTS_AND_FENCES, key_columns(keys) | pays)
    if ids:
        statement += b" UNION ALL " + cur.mogrify(_PAYMENTS_AND_NO_FENCE_BY_ID, {"ids": int_array(ids)})
    await cur.execute(statement)
    payments: dict[Key, Payment] = {}
    fences: dict[Key, float] = {}
    for row in await named_rows(cur):
        key, fence_age_ms = (row["partner_id"], row["key"]), row.pop("fence_age_ms")
        if row["id"] is None:
            fences[key] = fence_age_ms / 1000
        else:
            payments[key] = _payment(row)
    return payments, fences


async def held_accounts(cur: Cursor, ids: Sequence[int]) -> set[int]:
    """Of these accounts those that another session holds now."""
    await cur.execute(_IS_FREE, {"ids": int_array(ids)})
    return set(ids) - {row[0] for row in await cur.fetchall()}


async def wait_for_account(cur: Cursor, account_id: int, wait_s: float) -> None:
    """Wait until an account is free.

    Raises:
        psycopg2.errors.LockNotAvailable: it is still held after ``wait_s``.
    """
    await cur.execute(_WAIT_FOR_ACCOUNT, {"id": account_id, "wait_ms": str(int(wait_s * 1000))})


async def write(cur: Cursor, loaded: LoadedState, system_ids: Iterable[int]) -> None:
    """Write everything a batch decided: payments, events, outbox, attempts, then transfers and balances.

    Raises:
        StaleWrite: a changed payment was not in the version that was loaded.
        psycopg2.errors.UniqueViolation: another batch inserted one of the keys first; run the batch again.
    """
    if loaded.changed:
        await cur.execute(_UPDATE_PAYMENTS, _changed_columns(loaded))
        if cur.rowcount != len(loaded.changed):
            raise StaleWrite(f"{len(loaded.changed) - cur.rowcount} payments had moved")
    statements = []
    if loaded.created:
        statements.append(cur.mogrify(_INSERT_PAYMENTS, _created_columns(loaded)))
    if loaded.events:
        statements.append(cur.mogrify(_INSERT_EVENTS, _event_columns(loaded)))
        statements.append(cur.mogrify(_OUTBOX, {"ids": int_array(sorted({*loaded.created, *loaded.changed}))}))
    if loaded.attempts:
        statements.append(cur.mogrify(_INSERT_ATTEMPTS, attempt_columns([(loaded.now, a) for a in loaded.attempts])))
    if statements:
        await cur.execute(b";".join(statements))
    if loaded.transfers:
        await write_transfers(cur, loaded.transfers, system_ids)


async def insert_attempts(cur: Cursor, attempts: Sequence[tuple[datetime, Attempt]]) -> None:
    """Attempts with their times, and their ids into the outbox, in one statement."""
    await cur.execute(_INSERT_ATTEMPTS, attempt_columns(attempts))


async def forget_attempts(cur: Cursor, before: datetime, most: int) -> int:
    """Delete at most ``most`` attempts from before ``before``, oldest first; how many were deleted.

    Raises:
        psycopg2.errors.RaiseException: they are younger than the database lets go.
    """
    await cur.execute("SELECT forget_attempts(%s, %s)", (before, most))
    return int((await cur.fetchone())[0])


async def ping(cur: Cursor) -> None:
    """Ask whether the database answers."""
    await cur.execute(_PING)


async def known_numbers(cur: Cursor, numbers: Sequence[str]) -> set[str]:
    """Of the numbers those that payable accounts have."""
    await cur.execute(_EXISTING_NUMBERS, {"numbers": text_array(numbers)})
    return {row[0] for row in await cur.fetchall()}


async def read_registry(
    cur: Cursor, partner_id: int, start: datetime, end: datetime
) -> tuple[RegistryLine, ...] | None:
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


def _payment(row: dict[str, Any]) -> Payment:
    """A record of `_PAYMENT_COLUMNS`, whose columns are called as its fields."""
    return Payment(**row | {"state": State(row["state"]), "reason": Reason(row["reason"])})


def _created_columns(loaded: LoadedState) -> dict[str, Any]:
    # Sorted by key: two batches that insert the same keys meet in the same order.
    rows = sorted(loaded.created.values(), key=lambda p: (p.partner_id, p.key))
    for row in rows:
        if row.registered_at != loaded.now or row.created_at != loaded.now:
            raise LedgerError(f"payment {row.id} is new and not of this batch's time")
    values = (
        (
            p.id,
            p.partner_id,
            p.key,
            p.contract_version,
            p.service,
            p.account_number,
            p.account_id,
            p.amount,
            p.currency,
            p.partner_time.isoformat() if p.partner_time else None,
            json.dumps(dict(p.extras), ensure_ascii=False) if p.extras else None,
            p.state.value,
            p.reason.value,
            p.version,
        )
        for p in rows
    )
    return {"now": loaded.now, **_NEW.values(values)}


def _changed_columns(loaded: LoadedState) -> dict[str, Any]:
    values = (
        (
            p.id,
            loaded.versions_before[p.id],
            p.contract_version,
            p.account_id,
            p.state.value,
            p.reason.value,
            p.version,
            p.registered_at.isoformat(),
            p.returned,
        )
        for p in sorted(loaded.changed.values(), key=lambda p: p.id)
    )
    return {"now": loaded.now, **_CHANGED.values(values)}


def _event_columns(loaded: LoadedState) -> dict[str, Any]:
    values = (
        (
            e.payment_id,
            e.seq,
            e.event.value,
            e.state.value,
            e.reason.value,
            e.actor,
            e.note,
            e.remote_ip,
            e.request_text,
        )
        for e in loaded.events
    )
    return {"now": loaded.now, **_EVENTS.values(values)}


def attempt_columns(attempts: Sequence[tuple[datetime, Attempt]]) -> dict[str, Any]:
    """The columns of `insert_attempts`, shared with the batch's own write."""
    return _ATTEMPTS.values(
        (
            at.isoformat(),
            a.partner_id,
            a.kind,
            a.op,
            a.reason.value,
            a.code,
            a.detail,
            a.key,
            a.account_number,
            a.amount,
            a.payment_id,
            a.remote_ip,
            a.request_text,
            a.calls,
        )
        for at, a in attempts
    )
