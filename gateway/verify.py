"""Truths 1 to 5 on a live database, in one repeatable-read snapshot: what `kopeck verify` runs.

Rules. Reads only; gateways and relays go on meanwhile. Payments are walked in id order, BATCH at a time, so memory
does not grow with the database. Everything a payment must have follows from its events and the table in
`gateway.states`: its state, its version, its times, and exactly which transfers. The journal may be ahead of the
snapshot and never behind it: verify first waits until the relay has carried what the snapshot's outbox holds.

Facts in a document (money, parties, states, times, requests) must equal PostgreSQL's. Wording (names, search terms,
replies and codes worded by a newer program) may lag until a rebuild and is counted as a note, not as a difference.

Does not know: who asked, how it is printed (`Report.lines` gives plain text), truths 6 and up.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import aiopg
import psycopg2

from billing.verify import MAX_LISTED, Check, Finding, Guard, check_guards, check_of, count, listed, verify_ledger
from gateway.documents import Document, payment_documents
from gateway.journal import Journal
from gateway.journal_search import JournalAway, JournalError
from gateway.relay import drain
from gateway.states import TABLE, Effect, Event, State
from ratingcore.money import format_minor

#: Payments in memory at once.
BATCH: Final = 1_000
#: Longest one statement may take: some of them read every transfer there is.
STATEMENT_TIMEOUT_S: Final = 6 * 3_600.0

_GUARDS: Final = (
    Guard("payments", ("DELETE", "TRUNCATE"), ("DELETE", "TRUNCATE")),
    Guard("payment_events", ("UPDATE", "DELETE", "TRUNCATE"), ("UPDATE", "DELETE", "TRUNCATE")),
    Guard("contracts", ("UPDATE", "DELETE", "TRUNCATE"), ("UPDATE", "DELETE", "TRUNCATE")),
)

#: What a rebuild may word differently: not compared as fact.
_WORDING: Final = frozenset({"partner_name", "account_name", "protocol", "code", "terms"})

_EVENTS_BY_WORD: Final = {event.value: event for event in Event}

_SNAPSHOT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"

_DOUBLED_KEYS: Final = """
    SELECT partner_id, partner_key, array_agg(id ORDER BY id), count(*) OVER ()
    FROM payments GROUP BY partner_id, partner_key HAVING count(*) > 1
    ORDER BY partner_id, partner_key LIMIT %(limit)s
"""

_KEY_IS_UNIQUE: Final = """
    SELECT EXISTS (
        SELECT FROM pg_index i
        WHERE i.indrelid = to_regclass('payments') AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
          AND (SELECT array_agg(a.attname::text ORDER BY a.attname::text) FROM pg_attribute a
               WHERE a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)) = ARRAY['partner_id', 'partner_key'])
"""

_TRANSFERS_OF_NOBODY: Final = """
    SELECT t.id, t.source_id, t.step, count(*) OVER () FROM transfers t
    WHERE t.source = 'payment' AND NOT EXISTS (SELECT FROM payments p WHERE p.id = t.source_id)
    ORDER BY t.id LIMIT %(limit)s
"""

_EVENTS_OF_NOBODY: Final = """
    SELECT e.payment_id, e.seq, e.event, count(*) OVER () FROM payment_events e
    WHERE NOT EXISTS (SELECT FROM payments p WHERE p.id = e.payment_id)
    ORDER BY e.payment_id, e.seq LIMIT %(limit)s
"""

#: No foreign keys hold these (migration 0002 says why), so somebody has to look.
_ORPHANS: Final = """
    SELECT p.id, p.partner_id, p.contract_version, p.account_id, count(*) OVER () FROM payments p
    LEFT JOIN contracts c ON c.partner_id = p.partner_id AND c.version = p.contract_version
    LEFT JOIN accounts a ON a.id = p.account_id
    WHERE c.version IS NULL OR (p.account_id IS NOT NULL AND a.number IS DISTINCT FROM p.account_number)
    ORDER BY p.id LIMIT %(limit)s
"""

_PAYMENTS: Final = """
    SELECT p.id, p.state, p.reason, p.version, p.amount_minor, p.currency, p.account_id, w.clearing_account_id,
           p.registered_at, p.created_at, p.updated_at
    FROM payments p JOIN partners w ON w.id = p.partner_id
    WHERE p.id > %(after)s ORDER BY p.id LIMIT %(limit)s
"""

_EVENTS: Final = """
    SELECT payment_id, seq, event, state, reason, at FROM payment_events
    WHERE payment_id BETWEEN %(first)s AND %(last)s ORDER BY payment_id, seq
"""

_TRANSFERS: Final = """
    SELECT source_id, step, debit_account_id, credit_account_id, amount_minor, currency FROM transfers
    WHERE source = 'payment' AND source_id BETWEEN %(first)s AND %(last)s ORDER BY source_id, id
"""

_TRANSITS: Final = "SELECT id, currency FROM accounts WHERE kind = 'transit'"
_IDS: Final = "SELECT id FROM payments WHERE id > %(after)s ORDER BY id LIMIT %(limit)s"
_KNOWN: Final = "SELECT id FROM payments WHERE id = ANY(%(ids)s::bigint[])"
_LAST_IN_OUTBOX: Final = "SELECT coalesce(max(id), 0) FROM outbox WHERE topic = 'payment'"


class VerifyAway(Exception):
    """PostgreSQL could not be reached, or broke off: nothing is known."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was checked, at which instant, and what differs."""

    at: datetime
    checks: tuple[Check, ...]

    @property
    def is_clean(self) -> bool:
        """No check found a difference."""
        return all(check.is_clean for check in self.checks)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The listed differences of all checks."""
        return tuple(finding for check in self.checks for finding in check.findings)

    def lines(self) -> list[str]:
        """The report as plain text: a line a check, below it the rows that differ."""
        lines = [f"snapshot of {self.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"]
        for check in self.checks:
            lines.append(_line(check))
            lines += [f"    {finding.what}" for finding in check.findings]
            if check.found > len(check.findings):
                lines.append(f"    and {check.found - len(check.findings):,} more")
            if check.note:
                lines.append(f"    note: {check.note}")
        found = sum(check.found for check in self.checks)
        lines.append("no differences" if self.is_clean else f"{found:,} differences")
        return lines


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


async def verify(
    dsn: str,
    journal: Journal | None,
    wait_s: float = 60.0,
    also: Sequence[Callable[[Any], Awaitable[list[Check]]]] = (),
) -> Report:
    """Check truths 1 to 5.

    Args:
        dsn: of the program's role or any that may read; nothing is written.
        journal: None leaves truth 5 unexamined, and the report says so.
        wait_s: how long the relay may take to carry what the snapshot's outbox holds.
        also: further checks in the same snapshot; each is given its cursor.

    Raises:
        VerifyAway: PostgreSQL is away. (MongoDB away is a finding: truth 5 does not hold then.)
    """
    with _translated():
        async with _connection(dsn) as cur, _connection(dsn) as live:
            await cur.execute(_SNAPSHOT)
            await cur.execute("SELECT now()")
            at = (await cur.fetchone())[0]
            await cur.execute(_LAST_IN_OUTBOX)
            last = int((await cur.fetchone())[0])
            checks = await verify_ledger(cur)
            checks += await _verify_payments(cur)
            for examine in also:
                checks += await examine(cur)
            checks += await _verify_journal(cur, live, journal, last, wait_s)
            await cur.execute("COMMIT")
    return Report(at, tuple(checks))


# -- truths 3 and 4 ----------------------------------------------------------------------------------------------------


async def _verify_payments(cur: Any) -> list[Check]:
    checks = [
        await _check_keys(cur),
        await _check_orphans(cur),
        await _check_owners(cur, 3, _TRANSFERS_OF_NOBODY, "payment transfers"),
    ]
    effects, replay = _Faults(3), _Faults(4)
    await cur.execute(_TRANSITS)
    transits = {int(row[0]): str(row[1]) for row in await cur.fetchall()}
    async for payments, events, transfers in _walk(cur):
        for payment in payments:
            effects.examined += 1
            effects.add(payment.id, transfer_faults(payment, events[payment.id], transfers[payment.id], transits))
            replay.examined += len(events[payment.id])
            replay.add(payment.id, replay_faults(payment, events[payment.id]))
    checks.append(effects.check("each payment's transfers are those of its events, once", "payments"))
    checks.append(replay.check("events replay through the table to the payment", "events"))
    checks.append(await _check_owners(cur, 4, _EVENTS_OF_NOBODY, "payment_events"))
    checks.append(await check_guards(cur, 4, _GUARDS))
    return checks


async def _check_keys(cur: Any) -> Check:
    """Truth 3: a partner's key names one payment, and an index holds that for the future."""
    examined = await count(cur, "payments")
    await cur.execute(_DOUBLED_KEYS, {"limit": MAX_LISTED})
    check = listed(
        3,
        "each partner's key names one payment",
        examined,
        "payments",
        await cur.fetchall(),
        lambda row: f"partner {row[0]} key {row[1]!r}: payments {', '.join(map(str, row[2]))}",
    )
    await cur.execute(_KEY_IS_UNIQUE)
    if (await cur.fetchone())[0]:
        return check
    missing = Finding(3, "payments has no valid unique index on (partner_id, partner_key)")
    return Check(3, check.name, examined, check.of, check.found + 1, (missing, *check.findings))


async def _check_orphans(cur: Any) -> Check:
    """Truth 3: each payment was made under a contract and to an account that are there."""
    examined = await count(cur, "payments")
    await cur.execute(_ORPHANS, {"limit": MAX_LISTED})
    return listed(
        3,
        "each payment's contract and account exist",
        examined,
        "payments",
        await cur.fetchall(),
        lambda row: f"payment {row[0]}: partner {row[1]} has no contract {row[2]}, or account {row[3]} is another",
    )


async def _check_owners(cur: Any, truth: int, sql: str, of: str) -> Check:
    """Truths 3 and 4: no transfer or event of a payment that does not exist."""
    if of == "payment_events":
        examined = await count(cur, of)
        name, words = "each event belongs to a payment", "payment {0} does not exist but has event {1} ({2})"
    else:
        examined = await count(cur, "transfers WHERE source = 'payment'")
        name, words = "each payment's transfer belongs to a payment", "transfer {0} is of payment {1}, not there ({2})"
    await cur.execute(sql, {"limit": MAX_LISTED})
    rows = await cur.fetchall()
    return listed(truth, name, examined, of.replace("_", " "), rows, lambda row: words.format(*row[:3]))


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
    """(debit, credit) of a step: the four money verbs of `gateway.states`."""
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
    cur: Any,
) -> AsyncIterator[tuple[list[_Payment], Mapping[int, list[_Event]], Mapping[int, list[_Transfer]]]]:
    """Payments in id order with their events and transfers, BATCH at a time."""
    after = -1
    while True:
        await cur.execute(_PAYMENTS, {"after": after, "limit": BATCH})
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


# -- truth 5 -----------------------------------------------------------------------------------------------------------


async def _verify_journal(cur: Any, live: Any, journal: Journal | None, last: int, wait_s: float) -> list[Check]:
    if journal is None:
        return [Check(5, "the journal holds every payment", 0, "payments", note="no journal was given: not examined")]
    try:
        left = await drain(live, last, wait_s)
        late = (
            [f"after {wait_s:g} s the relay has not carried {left:,} changes made before the snapshot"] if left else []
        )
        checks = [check_of(5, "the relay has carried every change of the snapshot", 1, "outboxes", late)]
        documents = await _check_documents(cur, journal)
        checks += [documents, await _check_strays(live, journal, documents)]
    except (JournalAway, JournalError) as error:
        return [check_of(5, "the journal holds every payment", 0, "payments", [f"the journal cannot be read: {error}"])]
    return checks


async def _check_documents(cur: Any, journal: Journal) -> Check:
    """Every payment has a document, no older than the snapshot, and equal where it is of the same version."""
    faults = _Faults(5)
    reworded = 0
    after = -1
    while True:
        await cur.execute(_IDS, {"after": after, "limit": BATCH})
        ids = [int(row[0]) for row in await cur.fetchall()]
        if not ids:
            break
        after = ids[-1]
        stored = await journal.payments_by_id(ids)
        for document in await payment_documents(cur, ids):
            faults.examined += 1
            found = stored.get(document["_id"])
            faults.add(document["_id"], document_faults(document, found))
            reworded += found is not None and found["version"] == document["version"] and is_reworded(document, found)
    note = (
        f"{reworded:,} documents are worded by an older program or name; a rebuild refreshes them" if reworded else ""
    )
    return faults.check("each payment has its document in the journal", "payments", note)


async def _check_strays(live: Any, journal: Journal, documents: Check) -> Check:
    """No document without a payment. Asked of the present: a payment may be younger than the snapshot.

    When every payment has its document and there are as many documents as payments, none is left over and no id needs
    to be read.
    """
    faults = _Faults(5)
    faults.examined = await journal.count_payments()
    if not documents.is_clean or faults.examined != documents.examined:
        faults.examined = 0
        async for ids in journal.payment_ids(BATCH):
            faults.examined += len(ids)
            await live.execute(_KNOWN, {"ids": ids})
            known = {row[0] for row in await live.fetchall()}
            for stray in sorted(set(ids) - known):
                faults.add(stray, ["the journal has a document of it, PostgreSQL does not know it"])
    return faults.check("each document in the journal has its payment", "documents")


def document_faults(expected: Document, found: Document | None) -> list[str]:
    """What facts differ between the document that PostgreSQL gives and the stored one, which may be newer."""
    if found is None:
        return ["the journal has no document of it"]
    if found.get("version", 0) > expected["version"]:
        return []
    if found.get("version", 0) < expected["version"]:
        return [f"the journal has version {found.get('version')}, PostgreSQL {expected['version']}"]
    facts, stored = _facts(expected), _facts(found)
    return [
        f"{name}: the journal has {stored.get(name)!r}, PostgreSQL {facts.get(name)!r}"[:400]
        for name in sorted(facts.keys() | stored.keys())
        if facts.get(name) != stored.get(name)
    ]


def is_reworded(expected: Document, found: Document) -> bool:
    """Whether the wording differs while the facts may be equal."""
    if any(expected[name] != found.get(name) for name in _WORDING):
        return True
    return [event["reply"] for event in expected["timeline"]] != [
        event.get("reply") for event in found.get("timeline", [])
    ]


def _facts(document: Document) -> Document:
    facts = {name: value for name, value in document.items() if name not in _WORDING}
    facts["timeline"] = [
        {name: value for name, value in event.items() if name != "reply"} for event in facts.get("timeline", [])
    ]
    return facts


# -- inside ------------------------------------------------------------------------------------------------------------


class _Faults:
    """Counts what a walk examined and found; keeps the first MAX_LISTED. Lives for one check."""

    def __init__(self, truth: int) -> None:
        self.examined = 0
        self._truth = truth
        self._found = 0
        self._findings: list[Finding] = []

    def add(self, payment_id: int, faults: Iterable[str]) -> None:
        """One payment's faults; several are one difference."""
        words = "; ".join(faults)
        if not words:
            return
        self._found += 1
        if len(self._findings) < MAX_LISTED:
            self._findings.append(Finding(self._truth, f"payment {payment_id}: {words}"))

    def check(self, name: str, of: str, note: str = "") -> Check:
        """The walk's outcome."""
        return Check(self._truth, name, self.examined, of, self._found, tuple(self._findings), note)


def _unequal(name: str, found: Any, expected: Any) -> list[str]:
    return [] if found == expected else [f"{name} is {found}, must be {expected}"]


def _line(check: Check) -> str:
    examined = f"{check.examined:,} {check.of}" if check.examined else f"EXAMINED NOTHING ({check.of})"
    outcome = "ok" if check.is_clean else f"{check.found:,} DIFFER"
    return f"truth {check.truth}  {check.name:<62}  {examined:>28}  {outcome if check.examined or check.found else '-'}"


@contextlib.asynccontextmanager
async def _connection(dsn: str) -> AsyncIterator[Any]:
    connection = await aiopg.connect(
        dsn, timeout=STATEMENT_TIMEOUT_S, options="-c timezone=UTC", application_name="kopeck-verify"
    )
    try:
        yield await connection.cursor()
    finally:
        await connection.close()


@contextlib.contextmanager
def _translated() -> Any:
    """PostgreSQL's failures in our words; aiopg reports a statement the server cancelled as CancelledError."""
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise VerifyAway("PostgreSQL cancelled a statement") from error
    except (psycopg2.Error, TimeoutError, OSError) as error:
        raise VerifyAway(str(error).strip() or type(error).__name__) from error
