"""The auditor: compares what the aggregators sent and heard with what the books hold, row by row.

It believes the load's own record (`record`) and what plain SQL reads from PostgreSQL, and asks the server nothing: no
code of the gateway's, none of its answers but those the aggregators heard. What it holds to be true of each key:

  heard done        exactly one payment with this key, of the account and sum it was done for; every answer gave the
                    same number and date, and they are the row's
  heard nothing     one payment or none; if there is one, its contents were sent under this key
  heard conflict    there is a payment, and it has other contents than those
  heard refused     a payment on record as refused; no money moved
  heard cancelled   its money went back, once
  never well sent   no payment: strangers and nonsense leave none

Then the sums: every account's balance, every partner's clearing account and transit are what the keys add up to, the
transfers behind them are the expected ones and no other, and all balances together are zero.

Rules. `judge` is pure. A difference is a sentence that names the key. What cannot be known is a note, with its number.

Does not know: how the gateway decides, what happened inside a crash.
"""

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import psycopg2

from loadtests.faults import GATEWAY_KILLED, POSTGRES_KILLED, Struck
from loadtests.partners import Line, Meaning
from loadtests.record import FORGED, GOOD, MALFORMED, Exchange

Key = tuple[str, str]
#: account number, minor units, service
Contents = tuple[str, int, str]
#: step, debit account id, credit account id, minor units
Movement = tuple[str, int, int, int]

#: Attempts are written behind the answer; this long before a gateway is killed they may still be in its memory.
ATTEMPTS_AT_RISK_S: Final = 1.5
#: A batch whose COMMIT was cut off is run again, and an attempt in it is then on record twice: at most this many
#: for each time PostgreSQL was killed (batch, lanes and processes of the default settings, and as many written behind).
ATTEMPTS_TWICE: Final = 2_500


@dataclass(frozen=True, slots=True)
class PaymentRow:
    """A row of `payments` as SQL gives it."""

    id: int
    partner: str
    key: str
    account: str
    amount: int
    service: str
    partner_time: datetime | None
    state: str
    reason: str
    version: int
    registered_at: datetime


@dataclass(frozen=True, slots=True)
class AccountRow:
    """A row of `accounts`; moved: the sum of its transfers, credits less debits."""

    id: int
    number: str
    kind: str
    balance: int
    moved: int


@dataclass(frozen=True, slots=True)
class Books:
    """Everything the auditor reads, of one instant.

    movements: the transfers of each payment by its id. events: (count, last state) of each payment by its id.
    clearing: each partner's clearing account id. conflicts, forged: attempts on record, by key and by partner.
    """

    payments: tuple[PaymentRow, ...]
    accounts: tuple[AccountRow, ...]
    movements: Mapping[int, tuple[Movement, ...]]
    events: Mapping[int, tuple[int, str]]
    clearing: Mapping[str, int]
    conflicts: Mapping[Key, int]
    forged: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Background:
    """What is known besides the record: who calls, whom may be paid, what was done to the processes when."""

    lines: Mapping[str, Line]
    accounts: frozenset[str]
    struck: tuple[Struck, ...] = ()


@dataclass(slots=True)
class Audit:
    """The judgement. examined: how much was looked at; notes: what cannot be known, and how much of it."""

    differences: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    examined: dict[str, int] = field(default_factory=dict)


# ---- reading ----

_PAYMENTS: Final = """
    SELECT p.id, r.code, p.partner_key, p.account_number, p.amount_minor, p.service, p.partner_time, p.state, p.reason,
           p.version, p.registered_at
    FROM payments p JOIN partners r ON r.id = p.partner_id ORDER BY p.id
"""
_ACCOUNTS: Final = """
    SELECT a.id, a.number, a.kind, a.balance_minor, coalesce(c.sum, 0)::bigint - coalesce(d.sum, 0)::bigint
    FROM accounts a
    LEFT JOIN (SELECT credit_account_id AS id, sum(amount_minor) FROM transfers GROUP BY 1) c USING (id)
    LEFT JOIN (SELECT debit_account_id AS id, sum(amount_minor) FROM transfers GROUP BY 1) d USING (id)
    ORDER BY a.id
"""
_MOVEMENTS: Final = """
    SELECT source_id, step, debit_account_id, credit_account_id, amount_minor FROM transfers
    WHERE source = 'payment' ORDER BY id
"""
_EVENTS: Final = """
    SELECT payment_id, count(*), (array_agg(state ORDER BY seq DESC))[1] FROM payment_events GROUP BY payment_id
"""
_CLEARING: Final = "SELECT code, clearing_account_id FROM partners"
_CONFLICTS: Final = """
    SELECT r.code, a.partner_key, count(*) FROM attempts a JOIN partners r ON r.id = a.partner_id
    WHERE a.kind = 'conflict' GROUP BY 1, 2
"""
_FORGED: Final = """
    SELECT r.code, count(*) FROM attempts a JOIN partners r ON r.id = a.partner_id
    WHERE a.kind = 'bad_signature' GROUP BY 1
"""


def read_books(dsn: str) -> Books:
    """Read everything in one snapshot, by plain SQL."""
    with contextlib.closing(psycopg2.connect(dsn)) as connection:
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
        with connection.cursor() as cur:
            movements: dict[int, list[Movement]] = defaultdict(list)
            for row in _rows(cur, _MOVEMENTS):
                movements[row[0]].append((row[1], row[2], row[3], row[4]))
            return Books(
                payments=tuple(PaymentRow(*row) for row in _rows(cur, _PAYMENTS)),
                accounts=tuple(AccountRow(*row) for row in _rows(cur, _ACCOUNTS)),
                movements={payment: tuple(found) for payment, found in movements.items()},
                events={row[0]: (row[1], row[2]) for row in _rows(cur, _EVENTS)},
                clearing=dict(_rows(cur, _CLEARING)),
                conflicts={(row[0], row[1]): row[2] for row in _rows(cur, _CONFLICTS)},
                forged=dict(_rows(cur, _FORGED)),
            )


def _rows(cur: Any, query: str) -> list[tuple[Any, ...]]:
    cur.execute(query)
    return list(cur.fetchall())


# ---- judging ----


def audit(exchanges: Sequence[Exchange], books: Books, background: Background) -> Audit:
    """Compare the record with the books."""
    found = Audit()
    by_key: dict[Key, list[Exchange]] = defaultdict(list)
    for exchange in exchanges:
        if exchange.sent.key:
            by_key[exchange.sent.partner, exchange.sent.key].append(exchange)
    rows: dict[Key, list[PaymentRow]] = defaultdict(list)
    for row in books.payments:
        rows[row.partner, row.key].append(row)
    for key, told in by_key.items():
        line = background.lines[key[0]]
        found.differences += [f"{_named(key)}: {text}" for text in judge(told, rows[key], line, background.accounts)]
    for key in rows.keys() - by_key.keys():
        found.differences += [f"{_named(key)}: {len(rows[key])} payments that nobody sent"] if rows[key] else []
    found.differences += _judge_checks(exchanges, background.accounts)
    found.differences += _judge_movements(books)
    found.differences += _judge_sums(by_key, rows, books)
    _judge_attempts(by_key, exchanges, books, background.struck, found)
    _count(found, exchanges, by_key, rows, books)
    return found


def _named(key: Key) -> str:
    return f"{key[0]} {key[1]}"


def judge(told: Sequence[Exchange], rows: Sequence[PaymentRow], line: Line, payable: frozenset[str]) -> Iterator[str]:
    """What is wrong with one key, as sentences. Pure.

    Args:
        told: every exchange under this key, in the order of sending.
        rows: payments on the books under this key; more than one is a difference by itself.
        payable: account numbers that exist.
    """
    pays = [one for one in told if one.sent.op == "pay" and one.sent.form == GOOD]
    yield from _judge_manners(told, payable, line)
    if len(rows) > 1:
        yield f"{len(rows)} payments: {', '.join(str(row.id) for row in rows)}"
        return
    row = rows[0] if rows else None
    if row is None:
        yield from _judge_absence(told)
    elif not pays:
        yield f"payment {row.id} although nobody who may ever asked for one"
    else:
        yield from _judge_contents(pays, row)
        yield from _judge_answers(told, row, line)
        yield from _judge_state(told, row)


def _judge_manners(told: Sequence[Exchange], payable: frozenset[str], line: Line) -> Iterator[str]:
    """Answers that are wrong whatever the books hold."""
    settled_at = min((one.heard_at for one in told if one.sent.op == "pay" and _is_done(one)), default=float("inf"))
    was_cancelled = bool(_cancels(told))
    for one in told:
        wrong = _wrong_answer(one, one.sent.account in payable and one.sent.amount <= line.contract.max_minor)
        if wrong is not None:
            yield f"request {one.number} ({one.sent.form} {one.sent.op}): {wrong}"
        is_lost = one.sent.op == "status" and one.heard.meaning is Meaning.NOT_FOUND and settled_at < one.sent_at
        if is_lost and not was_cancelled:
            yield f"request {one.number} (status): not found after the payment was done"


#: What each form of request may never hear.
_NEVER: Final[Mapping[str, frozenset[Meaning]]] = {
    FORGED: frozenset(Meaning) - {Meaning.DENIED, Meaning.SILENCE},
    MALFORMED: frozenset({Meaning.DONE, Meaning.LATER, Meaning.DENIED}),
    GOOD: frozenset({Meaning.DENIED}),
}


def _wrong_answer(one: Exchange, may_be_paid: bool) -> str | None:
    """What is wrong with an answer, whatever came before and after it; None if nothing is."""
    op, meaning = one.sent.op, one.heard.meaning
    if meaning in _NEVER[one.sent.form]:
        return f"heard {meaning} ({one.heard.code})"
    if one.sent.form != GOOD:
        return None
    if op == "pay" and meaning is Meaning.REFUSED and may_be_paid:
        return f"refused ({one.heard.code}), and nothing is wrong with it"
    if op == "pay" and meaning is Meaning.DONE and not may_be_paid:
        return "done, and it must be refused"
    if op == "cancel" and meaning in (Meaning.NOT_FOUND, Meaning.IMPOSSIBLE, Meaning.REFUSED):
        return f"{meaning} ({one.heard.code}), and nothing stands against it"
    return None


def _judge_absence(told: Sequence[Exchange]) -> Iterator[str]:
    """No payment on the books: nobody may have heard of one."""
    for one in told:
        if one.sent.form == GOOD and one.heard.meaning in (Meaning.DONE, Meaning.CONFLICT, Meaning.CANCELLED):
            yield f"LOST: request {one.number} ({one.sent.op}) heard {one.heard.meaning} and there is no payment"
        elif one.sent.form == GOOD and one.sent.op == "pay" and one.heard.meaning is Meaning.REFUSED:
            yield f"request {one.number} was refused and the refusal is not on record"


def _judge_contents(pays: Sequence[Exchange], row: PaymentRow) -> Iterator[str]:
    """The row holds something that was sent, and not what somebody was told is in conflict with it."""
    contents = (row.account, row.amount, row.service)
    same = [one for one in pays if _contents(one) == contents]
    if not same:
        yield f"payment {row.id} has contents that nobody sent: {contents}"
        return
    times = {datetime.fromisoformat(one.sent.time) for one in same}
    if row.partner_time not in times:
        yield f"payment {row.id} has the date {row.partner_time}, sent were {sorted(times)}"
    for one in pays:
        if one.heard.meaning in (Meaning.DONE, Meaning.CANCELLED) and _contents(one) != contents:
            yield f"request {one.number} heard {one.heard.meaning} for {_contents(one)}; the payment has {contents}"
        if one.heard.meaning is Meaning.CONFLICT and _contents(one) == contents:
            yield f"request {one.number} heard conflict and has the payment's own contents"


def _judge_answers(told: Sequence[Exchange], row: PaymentRow, line: Line) -> Iterator[str]:
    """Numbers, dates and sums as heard are the row's, on every repeat."""
    date = row.registered_at.astimezone(ZoneInfo(line.contract.time_zone)).isoformat(timespec="seconds")[:19]
    for one in told:
        heard = one.heard
        if one.sent.form != GOOD or one.sent.op == "check" or heard.meaning not in (Meaning.DONE, Meaning.CANCELLED):
            continue
        if heard.payment_id is not None and heard.payment_id != row.id:
            yield f"request {one.number} heard number {heard.payment_id}; the payment is {row.id}"
        if heard.payment_id is None and heard.meaning is Meaning.DONE and one.sent.op == "pay":
            yield f"request {one.number} heard done without a number"
        if heard.date is not None and heard.date != date:
            yield f"request {one.number} heard the date {heard.date}; the payment has {date}"
        if heard.amount is not None and heard.amount != row.amount:
            yield f"request {one.number} heard the sum {heard.amount}; the payment has {row.amount}"


def _judge_state(told: Sequence[Exchange], row: PaymentRow) -> Iterator[str]:
    """The row's state is one that the answers allow."""
    cancels = _cancels(told)
    was_cancelled = any(one.heard.meaning in (Meaning.DONE, Meaning.CANCELLED) for one in cancels)
    was_told_so = any(one.heard.meaning is Meaning.CANCELLED for one in told if one.sent.form == GOOD)
    was_done = any(_is_done(one) for one in told if one.sent.op in ("pay", "status"))
    if was_cancelled or was_told_so:
        allowed = {"reversed"} if cancels else set()
    elif was_done:
        allowed = {"posted", "reversed"} if cancels else {"posted"}
    elif any(one.heard.meaning is Meaning.REFUSED for one in told if one.sent.op == "pay" and one.sent.form == GOOD):
        allowed = {"refused"}
    else:
        allowed = {"posted", "refused", *({"reversed"} if cancels else set())}
    if row.state not in allowed:
        yield f"payment {row.id} is {row.state}; heard was {', '.join(sorted(allowed)) or 'what cannot be'}"


def _contents(one: Exchange) -> Contents:
    return one.sent.account, one.sent.amount, one.sent.service


def _is_done(one: Exchange) -> bool:
    return one.sent.form == GOOD and one.heard.meaning is Meaning.DONE


def _cancels(told: Iterable[Exchange]) -> list[Exchange]:
    return [one for one in told if one.sent.op == "cancel" and one.sent.form == GOOD]


def _judge_checks(exchanges: Sequence[Exchange], payable: frozenset[str]) -> Iterator[str]:
    for one in exchanges:
        if one.sent.op != "check" or one.heard.meaning in (Meaning.LATER, Meaning.SILENCE):
            continue
        expected = Meaning.DONE if one.sent.account in payable else Meaning.REFUSED
        if one.heard.meaning is not expected:
            yield f"request {one.number} (check of {one.sent.account}) heard {one.heard.meaning}"


# ---- sums ----

_STEPS: Final[Mapping[str, tuple[str, ...]]] = {
    "refused": (),
    "posted": ("hold", "post"),
    "reversed": ("hold", "post", "reverse"),
}


def _judge_movements(books: Books) -> Iterator[str]:
    """Behind each payment stand the transfers of its state and no other, and its events end in its state."""
    ids = {account.number: account.id for account in books.accounts}
    transit = next((account.id for account in books.accounts if account.kind == "transit"), 0)
    known = {row.id for row in books.payments}
    for row in books.payments:
        account, clearing = ids.get(row.account, 0), books.clearing[row.partner]
        ways = {"hold": (clearing, transit), "post": (transit, account), "reverse": (account, clearing)}
        expected = [(step, *ways[step], row.amount) for step in _STEPS.get(row.state, ())]
        if sorted(expected) != sorted(books.movements.get(row.id, ())):
            yield f"payment {row.id} ({row.state}): transfers are {books.movements.get(row.id, ())}, not {expected}"
        if books.events.get(row.id) != (row.version, row.state):
            yield f"payment {row.id}: events are {books.events.get(row.id)}, the row {(row.version, row.state)}"
    for payment in sorted(books.movements.keys() - known):
        yield f"transfers of payment {payment}, which does not exist"


def _judge_sums(
    by_key: Mapping[Key, Sequence[Exchange]], rows: Mapping[Key, Sequence[PaymentRow]], books: Books
) -> Iterator[str]:
    """Balances are what the keys add up to: as heard where something was heard, else as the books say."""
    expected: Counter[str] = Counter()
    owed: Counter[int] = Counter()
    for key, told in by_key.items():
        for number, amount in _credited(told, rows[key]):
            expected[number] += amount
            owed[books.clearing[key[0]]] -= amount
    for account in books.accounts:
        should = owed[account.id] if account.kind == "clearing" else 0
        if account.kind in ("subscriber", "prepaid"):
            should = expected[account.number]
        if account.balance != should:
            yield f"account {account.number} has {account.balance}, and {should} was paid"
        if account.balance != account.moved:
            yield f"account {account.number} has {account.balance}, and its transfers sum to {account.moved}"
    total = sum(account.balance for account in books.accounts)
    if total:
        yield f"all balances together are {total}, not zero"


def _credited(told: Sequence[Exchange], rows: Sequence[PaymentRow]) -> Iterator[tuple[str, int]]:
    """What a key must have credited: (account, minor units), at most one."""
    if any(one.heard.meaning in (Meaning.DONE, Meaning.CANCELLED) for one in _cancels(told)):
        return
    done = [one for one in told if one.sent.op == "pay" and _is_done(one)]
    undecided = bool(_cancels(told)) or not done
    if undecided:
        yield from [(row.account, row.amount) for row in rows[:1] if row.state == "posted"]
    else:
        yield done[0].sent.account, done[0].sent.amount


# ---- attempts ----


def _judge_attempts(
    by_key: Mapping[Key, Sequence[Exchange]],
    exchanges: Sequence[Exchange],
    books: Books,
    struck: Sequence[Struck],
    found: Audit,
) -> None:
    """Conflicts are on record with their batch, so every one that was heard; strangers best effort."""
    may_double = ATTEMPTS_TWICE * sum(event.name == POSTGRES_KILLED for event in struck)
    doubled = 0
    for key, told in by_key.items():
        heard = sum(one.heard.meaning is Meaning.CONFLICT for one in told if one.sent.form == GOOD)
        sent = sum(one.sent.op == "pay" and one.sent.form == GOOD for one in told)
        recorded = books.conflicts.get(key, 0)
        if recorded < heard:
            found.differences.append(f"{_named(key)}: {heard} conflicts heard, {recorded} on record")
        doubled += max(0, recorded - sent)
    if doubled > may_double:
        found.differences.append(f"{doubled} conflicts on record that nobody sent, at most {may_double} can be")
    elif doubled:
        found.notes.append(f"{doubled} conflicts are on record twice: their batch was cut off and run again")
    for partner in sorted({one.sent.partner for one in exchanges}):
        _judge_strangers(partner, exchanges, books.forged.get(partner, 0), struck, may_double, found)


def _judge_strangers(
    partner: str,
    exchanges: Sequence[Exchange],
    recorded: int,
    struck: Sequence[Struck],
    may_double: int,
    found: Audit,
) -> None:
    sent = [one for one in exchanges if one.sent.partner == partner and one.sent.form == FORGED]
    denied = [one for one in sent if one.heard.meaning is Meaning.DENIED]
    kills = [event.at for event in struck if event.name == GATEWAY_KILLED]
    at_risk = sum(any(kill - ATTEMPTS_AT_RISK_S <= one.sent_at <= kill + 1.0 for kill in kills) for one in denied)
    missing = len(denied) - recorded
    if missing > at_risk:
        found.differences.append(
            f"{partner}: {len(denied)} strangers denied, {recorded} on record; only {at_risk} were in a gateway's "
            "memory when it was killed"
        )
    elif missing > 0:
        found.notes.append(
            f"{partner}: {missing} denied strangers went with a killed gateway's memory ({at_risk} could)"
        )
    if recorded > len(sent) + may_double:
        found.differences.append(f"{partner}: {recorded} strangers on record, {len(sent)} came")


# ---- counting ----


def _count(
    found: Audit,
    exchanges: Sequence[Exchange],
    by_key: Mapping[Key, Sequence[Exchange]],
    rows: Mapping[Key, Sequence[PaymentRow]],
    books: Books,
) -> None:
    """How much was looked at; an audit of nothing is a difference."""
    meanings = Counter(one.heard.meaning for one in exchanges if one.sent.form == GOOD)
    done = {key for key, told in by_key.items() if any(one.sent.op == "pay" and _is_done(one) for one in told)}
    asked = {key for key, told in by_key.items() if any(one.sent.op == "pay" and one.sent.form == GOOD for one in told)}
    final = (Meaning.DONE, Meaning.REFUSED, Meaning.CANCELLED)
    open_keys = [key for key in asked if all(one.heard.meaning not in final for one in by_key[key])]
    found.examined = {
        "requests sent": len(exchanges),
        "requests without an answer": meanings[Meaning.SILENCE],
        "told to repeat later": meanings[Meaning.LATER],
        "conflicts heard": meanings[Meaning.CONFLICT],
        "strangers denied": sum(one.heard.meaning is Meaning.DENIED for one in exchanges),
        "malformed requests": sum(one.sent.form == MALFORMED for one in exchanges),
        "keys sent": len(by_key),
        "keys heard done": len(done),
        "keys never settled": len(open_keys),
        "payments on the books": len(books.payments),
        "payments reversed": sum(row.state == "reversed" for row in books.payments),
        "payments refused": sum(row.state == "refused" for row in books.payments),
        "transfers on the books": sum(len(found) for found in books.movements.values()),
        "accounts": len(books.accounts),
    }
    if not done or not books.payments or not rows:
        found.differences.append("nothing was examined: no payment was heard done, or the books are empty")
    if open_keys:
        found.notes.append(f"{len(open_keys)} keys were never settled, such as {_named(open_keys[0])}")
