"""Truths 3 and 4 on a live database, in short snapshots: each key acted once, and events replay to their payment.

Rules. Reads only; gateways and relays go on meanwhile. Payments are walked in id order, BATCH at a time, each batch
with its events and transfers in a snapshot of its own, up to the last payment there was at the beginning; so neither
memory nor the dead rows that a snapshot keeps grow with the database. Everything a payment must have follows from its
events and the table in `gateway.payments.states`: its state, its version, its times, and exactly which transfers.

Does not know: who asked, other truths (`gateway.verification.live` runs them all).
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from billing.database.cursors import Cursor
from billing.verification.ledger import Guard, check_guards, count
from billing.verification.records import MAX_LISTED, Check, Finding, listed
from billing.verification.slices import SLICE_ROWS, Say, silent, slices, snapshot, together
from gateway.payments.states import TABLE, Effect, Event, State
from gateway.verification.faults import Faults
from ratingcore.money import format_minor

#: Payments in memory at once.
BATCH: Final = 1_000

_GUARDS: Final = (
    Guard("payments", ("DELETE", "TRUNCATE"), ("DELETE", "TRUNCATE")),
    Guard("payment_events", ("UPDATE", "DELETE", "TRUNCATE"), ("UPDATE", "DELETE", "TRUNCATE")),
    Guard("contracts", ("UPDATE", "DELETE", "TRUNCATE"), ("UPDATE", "DELETE", "TRUNCATE")),
    Guard("partner_keys", ("DELETE", "TRUNCATE"), ("DELETE", "TRUNCATE")),
)

_EVENTS_BY_WORD: Final = {event.value: event for event in Event}

#: A page of keys in the order of their index, which alone is read: the doubled ones, and the last of the page.
_KEYS: Final = """
    WITH page AS MATERIALIZED (
        SELECT partner_id, partner_key FROM payments WHERE (partner_id, partner_key) >= (%(partner)s, %(key)s)
        ORDER BY partner_id, partner_key LIMIT %(limit)s
    )
    SELECT partner_id, partner_key, count(*), (SELECT count(*) FROM page) FROM page GROUP BY partner_id, partner_key
    HAVING count(*) > 1 OR (partner_id, partner_key) = (
        SELECT partner_id, partner_key FROM page ORDER BY partner_id DESC, partner_key DESC LIMIT 1)
    ORDER BY partner_id, partner_key
"""

_OF_KEY: Final = "SELECT id FROM payments WHERE partner_id = %s AND partner_key = %s ORDER BY id"

_KEY_IS_UNIQUE: Final = """
    SELECT EXISTS (
        SELECT FROM pg_index i
        WHERE i.indrelid = to_regclass('payments') AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
          AND (SELECT array_agg(a.attname::text ORDER BY a.attname::text) FROM pg_attribute a
               WHERE a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)) = ARRAY['partner_id', 'partner_key'])
"""

_TRANSFERS_OF_NOBODY: Final = """
    SELECT t.id, t.source_id, t.step, count(*) OVER () FROM transfers t
    WHERE t.id > %(after)s AND t.id <= %(last)s AND t.source = 'payment'
      AND NOT EXISTS (SELECT FROM payments p WHERE p.id = t.source_id)
    ORDER BY t.id LIMIT %(limit)s
"""

_EVENTS_OF_NOBODY: Final = """
    SELECT e.payment_id, e.seq, e.event, count(*) OVER () FROM payment_events e
    WHERE e.payment_id > %(after)s AND e.payment_id <= %(last)s
      AND NOT EXISTS (SELECT FROM payments p WHERE p.id = e.payment_id)
    ORDER BY e.payment_id, e.seq LIMIT %(limit)s
"""

#: No foreign keys hold these (migration 0002 says why), so verify looks. A payment keeps the number it came
#: with: one that was refused may be accepted under a version that drops zeros at the front, and a number that was kept
#: masked, because it looked like a card's and was no account's yet, agrees in its ends (gateway.payments.decide).
_ORPHANS: Final = """
    SELECT p.id, p.partner_id, p.contract_version, p.account_id, count(*) OVER () FROM payments p
    LEFT JOIN contracts c ON c.partner_id = p.partner_id AND c.version = p.contract_version
    LEFT JOIN accounts a ON a.id = p.account_id
    WHERE p.id > %(after)s AND p.id <= %(last)s AND (c.version IS NULL OR (
        p.account_id IS NOT NULL AND a.number IS DISTINCT FROM p.account_number
        AND NOT (c.body @> '{"strip_leading_zeros": true}' AND ltrim(a.number, '0') = ltrim(p.account_number, '0'))
        AND NOT (p.account_number ~ '^[0-9]{6}[*]{3,9}[0-9]{4}$'
                 AND a.number ~ ('^' || replace(p.account_number, '*', '[0-9]') || '$'))))
    ORDER BY p.id LIMIT %(limit)s
"""

_PAYMENTS: Final = """
    SELECT p.id, p.state, p.reason, p.version, p.amount_minor, p.currency, p.account_id, w.clearing_account_id,
           p.registered_at, p.created_at, p.updated_at, p.returned_minor
    FROM payments p JOIN partners w ON w.id = p.partner_id
    WHERE p.id > %(after)s AND p.id <= %(last)s ORDER BY p.id LIMIT %(limit)s
"""

_EVENTS: Final = """
    SELECT payment_id, seq, event, state, reason, at FROM payment_events
    WHERE payment_id BETWEEN %(first)s AND %(last)s ORDER BY payment_id, seq
"""

_TRANSFERS: Final = """
    SELECT source_id, step, debit_account_id, credit_account_id, amount_minor, currency FROM transfers
    WHERE source = 'payment' AND source_id BETWEEN %(first)s AND %(last)s ORDER BY source_id, id
"""

_LAST: Final = "SELECT coalesce(max(id), 0) FROM payments"

#: By number, which is a unique index; by kind, all accounts would be read.
_TRANSITS: Final = """
    SELECT id, currency FROM accounts
    WHERE kind = 'transit' AND number = ANY (ARRAY(
        SELECT DISTINCT 'transit:' || a.currency FROM partners p JOIN accounts a ON a.id = p.clearing_account_id))
"""


@dataclass(frozen=True, slots=True)
class _Payment:
    """A payment as truths 3 and 4 see it; sums in minor units."""

    id: int
    state: str
    reason: str
    version: int
    amount: int
    currency: str
    account_id: int | None
    clearing_account_id: int
    registered_at: datetime
    created_at: datetime
    updated_at: datetime
    returned: int


@dataclass(frozen=True, slots=True)
class _Event:
    seq: int
    event: str
    state: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class _Transfer:
    step: str
    debit: int
    credit: int
    amount: int
    currency: str


async def verify_payments(cur: Cursor, say: Say = silent) -> list[Check]:
    """Every check of truths 3 and 4.

    Args:
        cur: aiopg cursor, in no transaction.
        say: told how far it is.
    """
    checks = [
        await _check_keys(cur, say),
        await _check_orphans(cur, say),
        await _check_transfers_of_payments(cur, say),
    ]
    effects, replay = Faults(3), Faults(4)
    await cur.execute(_TRANSITS)
    transits = {int(row[0]): str(row[1]) for row in await cur.fetchall()}
    async for payments, events, transfers in _walk(cur):
        say("payments", effects.examined, None)
        for payment in payments:
            effects.examined += 1
            effects.add(payment.id, transfer_faults(payment, events[payment.id], transfers[payment.id], transits))
            replay.examined += len(events[payment.id])
            replay.add(payment.id, replay_faults(payment, events[payment.id]))
    checks.append(effects.check("each payment's transfers are those of its events, once", "payments"))
    checks.append(replay.check("events replay through the table to the payment", "events"))
    checks.append(await _check_events_of_payments(cur, say))
    checks.append(await check_guards(cur, 4, _GUARDS))
    return checks


async def _check_keys(cur: Cursor, say: Say) -> Check:
    """Truth 3: a partner's key names one payment, and an index holds that for the future."""
    doubled: dict[tuple[int, str], None] = {}
    examined, partner, key, limit = 0, -1, "", SLICE_ROWS
    while True:
        say("payment keys", examined, None)
        await cur.execute(_KEYS, {"partner": partner, "key": key, "limit": limit})
        rows = await cur.fetchall()
        doubled |= {(row[0], row[1]): None for row in rows if row[2] > 1}
        read = int(rows[-1][3]) if rows else 0
        if read < limit:
            break
        partner, key, overlap = rows[-1][:3]  # the last key is read again: its double may be on the next page
        limit = SLICE_ROWS if overlap < read else 2 * limit  # a page of one key alone leads nowhere
        examined += read - overlap
    examined += read
    findings = []
    for partner, key in list(doubled)[:MAX_LISTED]:
        await cur.execute(_OF_KEY, (partner, key))
        ids = ", ".join(str(row[0]) for row in await cur.fetchall())
        findings.append(Finding(3, f"partner {partner} key {key!r}: payments {ids}"))
    await cur.execute(_KEY_IS_UNIQUE)
    if not (await cur.fetchone())[0]:
        findings.insert(0, Finding(3, "payments has no valid unique index on (partner_id, partner_key)"))
        doubled[-1, ""] = None
    return Check(3, "each partner's key names one payment", examined, "payments", len(doubled), tuple(findings))


async def _check_orphans(cur: Cursor, say: Say) -> Check:
    """Truth 3: each payment was made under a contract and to an account that are there."""
    name = "each payment's contract and account exist"
    words = "payment {0}: partner {1} has no contract {2}, or account {3} is another"
    return await _sliced(cur, say, 3, name, ("payments", "id", ""), _ORPHANS, words)


async def _check_transfers_of_payments(cur: Cursor, say: Say) -> Check:
    """Truth 3: no transfer of a payment that does not exist."""
    name, words = "each payment's transfer belongs to a payment", "transfer {0} is of payment {1}, not there ({2})"
    of = ("transfers", "id", "source = 'payment' AND")
    return await _sliced(cur, say, 3, name, of, _TRANSFERS_OF_NOBODY, words)


async def _check_events_of_payments(cur: Cursor, say: Say) -> Check:
    """Truth 4: no event of a payment that does not exist."""
    name, words = "each event belongs to a payment", "payment {0} does not exist but has event {1} ({2})"
    return await _sliced(cur, say, 4, name, ("payment_events", "payment_id", ""), _EVENTS_OF_NOBODY, words)


async def _sliced(
    cur: Cursor, say: Say, truth: int, name: str, of: tuple[str, str, str], sql: str, words: str
) -> Check:
    """A check slice by slice. of: table, column it is sliced by, and which of its rows are counted."""
    table, column, where = of
    word = "payment transfers" if where else table.replace("_", " ")
    checks = [Check(truth, name, 0, word)]
    async for after, last in slices(cur, table, column, say=say):
        examined = await count(cur, f"{table} WHERE {where} {column} > {after} AND {column} <= {last}")
        await cur.execute(sql, {"after": after, "last": last, "limit": MAX_LISTED})
        checks.append(listed(truth, name, examined, word, await cur.fetchall(), lambda row: words.format(*row[:-1])))
    return together(checks)


def replay_faults(payment: _Payment, events: Sequence[_Event]) -> list[str]:
    """What contradicts the table or the payment when its events are played from the first on."""
    if not events:
        return ["it has no events"]
    faults: list[str] = []
    state: State | None = None
    for number, event in enumerate(events, 1):
        if event.seq != number:
            return [*faults, f"event {number} has number {event.seq}"]
        kind = _EVENTS_BY_WORD.get(event.event)
        found = TABLE.get((state, kind)) if kind else None
        if found is None:
            return [*faults, f"event {number} ({event.event}) cannot happen in state {state or 'new'}"]
        state = found[0]
        if event.state != state:
            faults.append(f"event {number} ({event.event}) says {event.state}, the table {state}")
    faults += _unequal("state", payment.state, state)
    faults += _unequal("version", payment.version, len(events))
    faults += _unequal("reason", payment.reason, events[-1].reason)
    faults += _unequal("created_at", payment.created_at, events[0].at)
    faults += _unequal("updated_at", payment.updated_at, events[-1].at)
    faults += _unequal("registered_at", payment.registered_at, _registered_at(events))
    if not payment.returned and any(event.event in (Event.REFUND, Event.MOVE) for event in events):
        faults.append("an event tells of a refund or move, and nothing was taken off it")
    return faults


def transfer_faults(
    payment: _Payment, events: Sequence[_Event], transfers: Sequence[_Transfer], transits: Mapping[int, str]
) -> list[str]:
    """What differs between a payment's transfers and those its events cause.

    Args:
        transits: currency of each transit account by id.
    """
    expected = _effects(events)
    steps = [transfer.step for transfer in transfers]
    if sorted(steps) != sorted(expected):
        return [f"transfers {', '.join(steps) or 'none'}; its events cause {', '.join(expected) or 'none'}"]
    faults = []
    own = {account for transfer in transfers for account in (transfer.debit, transfer.credit) if account in transits}
    if transfers and (len(own) != 1 or transits[min(own)] != payment.currency):
        return [f"transfers pass through transit accounts {sorted(own)}, must be the one in {payment.currency}"]
    transit = min(own, default=0)
    for transfer in transfers:
        faults += _unequal(f"{transfer.step} amount", format_minor(transfer.amount), format_minor(payment.amount))
        faults += _unequal(f"{transfer.step} currency", transfer.currency, payment.currency)
        faults += _unequal(
            f"{transfer.step} accounts", (transfer.debit, transfer.credit), _sides(payment, transfer, transit)
        )
    return faults


def _effects(events: Sequence[_Event]) -> list[str]:
    """The steps that the events cause, as far as they can be played."""
    state: State | None = None
    steps: list[str] = []
    for event in events:
        kind = _EVENTS_BY_WORD.get(event.event)
        found = TABLE.get((state, kind)) if kind else None
        if found is None:
            break
        state = found[0]
        steps += [effect.value for effect in found[1]]
    return steps


def _sides(payment: _Payment, transfer: _Transfer, transit: int) -> tuple[int | None, int | None]:
    """(debit, credit) of a step: the four money verbs of `gateway.payments.states`."""
    clearing, account = payment.clearing_account_id, payment.account_id
    sides: dict[Effect, tuple[int | None, int | None]] = {
        Effect.HOLD: (clearing, transit),
        Effect.POST: (transit, account),
        Effect.VOID: (transit, clearing),
        Effect.REVERSE: (account, clearing),
    }
    return sides[Effect(transfer.step)]


def _registered_at(events: Sequence[_Event]) -> datetime:
    """When the payment was registered: its hold, accept or tombstone; while there is none, its first refusal."""
    taken = [event.at for event in events if event.event in (Event.ACCEPT, Event.HOLD, Event.TOMBSTONE)]
    return taken[0] if taken else events[0].at


async def _walk(
    cur: Cursor,
) -> AsyncIterator[tuple[list[_Payment], Mapping[int, list[_Event]], Mapping[int, list[_Transfer]]]]:
    """Payments in id order with their events and transfers, BATCH at a time."""
    await cur.execute(_LAST)
    last, after = int((await cur.fetchone())[0]), -1
    while True:
        async with snapshot(cur):
            await cur.execute(_PAYMENTS, {"after": after, "last": last, "limit": BATCH})
            payments = [_Payment(*row) for row in await cur.fetchall()]
            if not payments:
                return
            bounds = {"first": payments[0].id, "last": payments[-1].id}
            events: dict[int, list[_Event]] = {payment.id: [] for payment in payments}
            transfers: dict[int, list[_Transfer]] = {payment.id: [] for payment in payments}
            await cur.execute(_EVENTS, bounds)
            for row in await cur.fetchall():
                events.get(row[0], []).append(_Event(*row[1:]))
            await cur.execute(_TRANSFERS, bounds)
            for row in await cur.fetchall():
                transfers.get(row[0], []).append(_Transfer(*row[1:]))
        yield payments, events, transfers
        after = payments[-1].id


# -- inside ------------------------------------------------------------------------------------------------------------


def _unequal(name: str, found: Any, expected: Any) -> list[str]:
    return [] if found == expected else [f"{name} is {found}, must be {expected}"]
