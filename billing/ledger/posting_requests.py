"""Money moved by hand: what a person may ask for, the requests and what became of them, and their postings.

Rules.
 1. A key acts once. The same key with other contents (the reason aside) is refused and changes nothing.
 2. A request above a configured sum waits for a second person. Both have proven who they are by a password.
 3. A request is posted as one transfer whose step is its kind:

      cash        cash desk -> account          a person paid at the desk
      bank        bank -> account               a payer sent money to our bank account
      correction  adjustment -> account         or, with a negative sum, the other way
      write_off   write-off -> account          a debt is given up; at most what the account owes
      move        account -> other account      what a receipt brought to the wrong account
      refund      account -> partner, bank, cash   part or whole of a receipt
      payout      account -> bank, cash         the balance of a customer who leaves; at most the balance

 4. A receipt is a transfer that brought money to an account: a payment's, or a cash, bank or moved one. What moves and
    refunds take off a receipt never exceeds it; they name it (`corrects_id`).
 5. An account comes to owe, or owes more, only where the request says that it may. Its floor holds in any case.
 6. Money that leaves a receipt leaves the invoices it was directed to, those directed last first.

Does not know: payments and their events (gateway.payments.manual_money), who may do what, how a person proves who it
is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal

from billing.database.cursors import Cursor
from billing.ledger.accounts import PEOPLE_KINDS, AccountError, post_manual, system_account
from ratingcore.money import Minor, format_minor

KEY_MAX: Final = 200
WHY_MAX: Final = 500
DOCUMENT_MAX: Final = 200
#: Requests that one list holds.
LIST_MAX: Final = 1_000


class PostingError(AccountError):
    """A clear sentence on why money is not moved; nothing was changed."""


class Kind(StrEnum):
    """What is posted; each word is also the step of its transfer."""

    CASH = "cash"
    BANK = "bank"
    CORRECTION = "correction"
    WRITE_OFF = "write_off"
    MOVE = "move"
    REFUND = "refund"
    PAYOUT = "payout"


class RequestState(StrEnum):
    """What became of a request."""

    PENDING = "pending"
    POSTED = "posted"
    REJECTED = "rejected"


Way = Literal["", "partner", "bank", "cash"]
Proof = Literal["password", "os"]

#: The system account on the other side, for kinds that have one of their own.
OTHER_SIDE: Final = {
    Kind.CASH: "cash",
    Kind.BANK: "bank",
    Kind.CORRECTION: "adjustment",
    Kind.WRITE_OFF: "write_off",
}
#: Kinds that bring money to the account; the others take it away (a correction does either).
BRINGS: Final = frozenset({Kind.CASH, Kind.BANK, Kind.WRITE_OFF})
#: Kinds that take money off a receipt.
TAKES: Final = frozenset({Kind.MOVE, Kind.REFUND})


@dataclass(frozen=True, slots=True)
class Person:
    """Who acts. actor: as records name it. proof: `password` of a user of ours, or `os`: the system's word alone."""

    actor: str
    proof: Proof


@dataclass(frozen=True, slots=True)
class WantedPosting:
    """What a person asks for.

    account: empty for a move or refund, whose receipt says it. amount: minor units, negative only for a correction;
    None for all that is left of the receipt, or the whole balance of a payout. receipt: by payment_id or transfer_id.
    """

    kind: Kind
    key: str
    why: str
    account: str = ""
    amount: Minor | None = None
    document: str = ""
    to_account: str = ""
    payment_id: int | None = None
    transfer_id: int | None = None
    way: Way = ""
    may_owe: bool = False


@dataclass(frozen=True, slots=True)
class PostingRequest:
    """A row of `posting_requests`, with the numbers of its accounts."""

    id: int
    key: str
    kind: Kind
    account_id: int
    account: str
    to_account_id: int | None
    to_account: str
    receipt_id: int | None
    way: Way
    amount: Minor
    currency: str
    document: str
    why: str
    may_owe: bool
    needs_second: bool
    requested_by: str
    requested_at: datetime
    state: RequestState
    decided_by: str
    decided_at: datetime | None
    decided_why: str
    posting_id: int | None


@dataclass(frozen=True, slots=True)
class Receipt:
    """A transfer that brought money to an account.

    returned: what moves and refunds took off it. payment_id: of the payment whose posting it is, else None.
    clearing_account_id: of the partner who took the money first, through any number of moves; None: no partner did.
    """

    transfer_id: int
    account_id: int
    account: str
    amount: int
    returned: int
    is_reversed: bool
    payment_id: int | None
    clearing_account_id: int | None

    @property
    def left(self) -> Minor:
        """What can still be taken off it."""
        return Minor(0 if self.is_reversed else self.amount - self.returned)


@dataclass(frozen=True, slots=True)
class HeldAccount:
    """An account under lock; balance and floor in minor units."""

    id: int
    number: str
    kind: str
    state: str
    currency: str
    balance: int
    floor: int | None


_REQUEST: Final = """
    SELECT r.id, r.key, r.kind, r.account_id, a.number, r.to_account_id, coalesce(o.number, ''), r.receipt_id, r.way,
           r.amount_minor, r.currency, r.document, r.why, r.may_owe, r.needs_second, r.requested_by, r.requested_at,
           r.state, coalesce(r.decided_by, ''), r.decided_at, r.decided_why, r.posting_id
    FROM posting_requests r
    JOIN accounts a ON a.id = r.account_id
    LEFT JOIN accounts o ON o.id = r.to_account_id
"""
_BY_KEY: Final = f"{_REQUEST} WHERE r.key = %(key)s"
_BY_ID: Final = f"{_REQUEST} WHERE r.id = %(id)s FOR UPDATE OF r"
_LIST: Final = f"""
    {_REQUEST} WHERE (%(state)s::text IS NULL OR r.state = %(state)s)
      AND (%(before)s::bigint IS NULL OR r.id < %(before)s)
    ORDER BY r.id DESC LIMIT %(limit)s
"""
_INSERT: Final = """
    INSERT INTO posting_requests (key, kind, account_id, to_account_id, receipt_id, way, amount_minor, currency,
                                  document, why, may_owe, needs_second, requested_by, requested_proof)
    VALUES (%(key)s, %(kind)s, %(account)s, %(to_account)s, %(receipt)s, %(way)s, %(amount)s, %(currency)s,
            %(document)s, %(why)s, %(may_owe)s, %(needs_second)s, %(actor)s, %(proof)s)
    ON CONFLICT (key) DO NOTHING RETURNING id
"""
_DECIDE: Final = """
    UPDATE posting_requests
    SET state = %(state)s, decided_by = %(actor)s, decided_proof = %(proof)s, decided_why = %(why)s,
        posting_id = %(posting)s
    WHERE id = %(id)s
"""
_ID_OF_ACCOUNT: Final = "SELECT id FROM accounts WHERE number = %(number)s"
_HOLD_ACCOUNTS: Final = """
    SELECT id, number, kind, state, currency, balance_minor, floor_minor FROM accounts
    WHERE id = ANY(%(ids)s::bigint[]) ORDER BY id FOR NO KEY UPDATE
"""
_ID_OF_PAYMENT: Final = """
    SELECT id FROM transfers WHERE source = 'payment' AND source_id = %(id)s AND step = 'post'
"""
#: The chain leads from a moved receipt back to the one it was moved from.
_RECEIPT: Final = """
    WITH RECURSIVE chain AS (
        SELECT id, corrects_id, source, source_id FROM transfers WHERE id = %(id)s
        UNION
        SELECT t.id, t.corrects_id, t.source, t.source_id FROM chain c JOIN transfers t ON t.id = c.corrects_id
    )
    SELECT t.id, t.credit_account_id, a.number, t.amount_minor,
           coalesce((SELECT sum(r.amount_minor) FROM transfers r
                     WHERE r.corrects_id = t.id AND r.source = 'manual' AND r.step IN ('move', 'refund')), 0)::bigint,
           EXISTS (SELECT FROM transfers r
                   WHERE r.source = t.source AND r.source_id = t.source_id AND r.step = 'reverse'),
           CASE WHEN t.source = 'payment' THEN t.source_id END,
           (SELECT h.debit_account_id FROM chain c
            JOIN transfers h ON h.source = 'payment' AND h.source_id = c.source_id AND h.step = 'hold'
            WHERE c.source = 'payment')
    FROM transfers t JOIN accounts a ON a.id = t.credit_account_id
    WHERE t.id = %(id)s AND ((t.source = 'payment' AND t.step = 'post')
                             OR (t.source = 'manual' AND t.step IN ('cash', 'bank', 'move')))
"""
#: What of a receipt is directed to each invoice, less what left it again; the one directed last comes first.
_DIRECTED: Final = """
    SELECT p.invoice_id, sum(p.amount_minor)::bigint
    FROM payment_allocations p JOIN transfers t ON t.id = p.transfer_id
    WHERE (t.id = %(id)s AND p.amount_minor > 0) OR (t.corrects_id = %(id)s AND p.amount_minor < 0)
    GROUP BY p.invoice_id HAVING sum(p.amount_minor) > 0
    ORDER BY max(p.id) FILTER (WHERE p.amount_minor > 0) DESC
"""
_RELEASE: Final = """
    INSERT INTO payment_allocations (transfer_id, invoice_id, amount_minor, actor)
    VALUES (%(transfer)s, %(invoice)s, %(amount)s, %(actor)s)
"""
_ID_OF_TRANSFER: Final = """
    SELECT id FROM transfers WHERE source = 'manual' AND source_id = %(posting)s AND step = %(step)s
"""


def problem_with(wanted: WantedPosting) -> str | None:
    """What is wrong with a request by itself, as a sentence, or None. Pure."""
    for name, text, most in (("key", wanted.key, KEY_MAX), ("reason", wanted.why, WHY_MAX)):
        if not text.strip() or len(text) > most or not text.isprintable():
            return f"the {name} must be 1 to {most} printable characters"
    if len(wanted.document) > DOCUMENT_MAX or not wanted.document.isprintable():
        return f"the document must be at most {DOCUMENT_MAX} printable characters"
    if wanted.amount is None and wanted.kind not in TAKES | {Kind.PAYOUT}:
        return "say how much"
    if wanted.amount is not None and (wanted.amount == 0 or (wanted.amount < 0 and wanted.kind is not Kind.CORRECTION)):
        return "the amount must be more than nothing; only a correction may be negative"
    if wanted.kind in TAKES and (wanted.payment_id is None) == (wanted.transfer_id is None):
        return "name the payment, or the transfer that brought the money"
    if wanted.kind is Kind.REFUND and not wanted.way:
        return "say to whom it is refunded: partner, bank or cash"
    if wanted.kind is Kind.PAYOUT and wanted.way not in ("bank", "cash"):
        return "say how it is paid out: bank or cash"
    return None


def objection(
    kind: Kind,
    amount: int,
    account: HeldAccount,
    to_account: HeldAccount | None,
    receipt: Receipt | None,
    may_owe: bool,
) -> str | None:
    """Why an amount may not be moved as things stand, as a sentence, or None. Pure; sums in minor units."""
    for held in (account, to_account):
        if held is not None and held.kind not in PEOPLE_KINDS:
            return f"account {held.number} is one of our own, not a subscriber's"
    if to_account is not None and to_account.currency != account.currency:
        return f"account {to_account.number} is in {to_account.currency}, not in {account.currency}"
    receiver = to_account or (account if kind in BRINGS or (kind is Kind.CORRECTION and amount > 0) else None)
    if receiver is not None and receiver.state == "closed":
        return f"account {receiver.number} is closed"
    if receipt is not None and amount > receipt.left:
        gone = "it was reversed" if receipt.is_reversed else f"{format_minor(receipt.returned)} were taken off already"
        return (
            f"at most {format_minor(receipt.left)} of {format_minor(receipt.amount)} are left of that receipt: {gone}"
        )
    if kind is Kind.WRITE_OFF and amount > max(0, -account.balance):
        return f"account {account.number} owes {format_minor(max(0, -account.balance))}: no more can be written off"
    if kind is Kind.PAYOUT and amount > max(0, account.balance):
        return f"account {account.number} has {format_minor(max(0, account.balance))}: no more can be paid out"
    taken = 0 if receiver is account else abs(amount)
    after = account.balance - taken
    if taken and account.floor is not None and after < account.floor:
        return (
            f"account {account.number} has {format_minor(account.balance)} and may not go below "
            f"{format_minor(account.floor)}"
        )
    if taken and after < 0 and not may_owe:
        return f"account {account.number} would owe {format_minor(-after)} afterwards; say that it may (--may-owe)"
    return None


def repeats(standing: PostingRequest, wanted: WantedPosting, receipt_id: int | None) -> bool:
    """Whether a request with a known key asks for what stands already. Pure. The reason may be worded otherwise."""
    return (
        standing.kind is wanted.kind
        and wanted.account in ("", standing.account)
        and standing.to_account == wanted.to_account
        and standing.receipt_id == receipt_id
        and standing.way == wanted.way
        and standing.document == wanted.document
        and wanted.amount in (None, standing.amount)
    )


async def request_by_key(cur: Cursor, key: str) -> PostingRequest | None:
    """The request with this key, or None."""
    await cur.execute(_BY_KEY, {"key": key})
    row = await cur.fetchone()
    return _request(row) if row else None


async def hold_request(cur: Cursor, request_id: int) -> PostingRequest:
    """A request under lock, so that two people decide it once.

    Raises:
        PostingError: there is none.
    """
    await cur.execute(_BY_ID, {"id": request_id})
    row = await cur.fetchone()
    if row is None:
        raise PostingError(f"there is no posting request {request_id}")
    return _request(row)


async def list_requests(
    cur: Cursor, state: RequestState | None, before: int | None = None, limit: int = LIST_MAX
) -> list[PostingRequest]:
    """Requests, the newest first: those in ``state`` (None: all) with an id below ``before``; at most LIST_MAX."""
    await cur.execute(_LIST, {"state": state.value if state else None, "before": before, "limit": min(limit, LIST_MAX)})
    return [_request(row) for row in await cur.fetchall()]


async def account_id_of(cur: Cursor, number: str) -> int:
    """The id of an account. Raises PostingError where there is none."""
    await cur.execute(_ID_OF_ACCOUNT, {"number": number})
    row = await cur.fetchone()
    if row is None:
        raise PostingError(f"there is no account {number[:40]!r}")
    return int(row[0])


async def receipt_id_of(cur: Cursor, wanted: WantedPosting) -> int | None:
    """The transfer that a move or refund takes money off; None for other kinds.

    Raises:
        PostingError: the payment was never credited to an account.
    """
    if wanted.kind not in TAKES:
        return None
    if wanted.payment_id is None:
        return wanted.transfer_id
    await cur.execute(_ID_OF_PAYMENT, {"id": wanted.payment_id})
    row = await cur.fetchone()
    if row is None:
        raise PostingError(f"payment {wanted.payment_id} was credited to no account")
    return int(row[0])


async def read_receipt(cur: Cursor, transfer_id: int) -> Receipt:
    """A receipt as it stands; read it again once its account is held. Raises PostingError where it is none."""
    await cur.execute(_RECEIPT, {"id": transfer_id})
    row = await cur.fetchone()
    if row is None:
        raise PostingError(
            f"transfer {transfer_id} is no payment, cash, bank or moved receipt of a subscriber's account"
        )
    return Receipt(*row)


async def hold_accounts(cur: Cursor, ids: Iterable[int]) -> dict[int, HeldAccount]:
    """Subscribers' accounts locked in id order, by id."""
    await cur.execute(_HOLD_ACCOUNTS, {"ids": sorted(set(ids))})
    return {row[0]: HeldAccount(*row) for row in await cur.fetchall()}


async def add_request(
    cur: Cursor,
    wanted: WantedPosting,
    amount: int,
    account: HeldAccount,
    to_account_id: int | None,
    receipt_id: int | None,
    person: Person,
    *,
    needs_second: bool,
) -> PostingRequest | None:
    """Write a pending request; None where another one took the key meanwhile."""
    values = {
        "key": wanted.key,
        "kind": wanted.kind.value,
        "account": account.id,
        "to_account": to_account_id,
        "receipt": receipt_id,
        "way": wanted.way,
        "amount": amount,
        "currency": account.currency,
        "document": wanted.document,
        "why": wanted.why.strip(),
        "may_owe": wanted.may_owe,
        "needs_second": needs_second,
        "actor": person.actor,
        "proof": person.proof,
    }
    await cur.execute(_INSERT, values)
    row = await cur.fetchone()
    return await hold_request(cur, int(row[0])) if row else None


async def decide_request(
    cur: Cursor, request_id: int, state: RequestState, person: Person, why: str = "", posting_id: int | None = None
) -> None:
    """Record what became of a pending request and who decided."""
    values = {"id": request_id, "state": state.value, "actor": person.actor, "proof": person.proof}
    await cur.execute(_DECIDE, {**values, "why": why, "posting": posting_id})


async def post_request(cur: Cursor, request: PostingRequest, receipt: Receipt | None, actor: str) -> int:
    """Post a request's transfer and free the invoices that its receipt was directed to; returns the posting's id.

    The caller holds the subscribers' accounts and has seen no objection.

    Raises:
        PostingError: the ledger refused, or the key is one of another manual posting.
    """
    other = request.to_account_id or await _other_side(cur, request, receipt)
    debit, credit = (other, request.account_id) if _brings(request) else (request.account_id, other)
    step = request.kind.value
    posting = await post_manual(
        cur,
        key=request.key,
        actor=request.requested_by,
        why=request.why,
        debit_id=debit,
        credit_id=credit,
        amount=Minor(abs(request.amount)),
        currency=request.currency,
        step=step,
        corrects_id=request.receipt_id,
    )
    if posting is None:
        raise PostingError(f"key {request.key[:40]!r} belongs to another posting by hand")
    posting_id = posting.posted[0].source_id
    if receipt is not None:
        await cur.execute(_ID_OF_TRANSFER, {"posting": posting_id, "step": step})
        await _release(cur, receipt, request.amount, int((await cur.fetchone())[0]), actor)
    return posting_id


def _brings(request: PostingRequest) -> bool:
    return request.kind in BRINGS or (request.kind is Kind.CORRECTION and request.amount > 0)


async def _other_side(cur: Cursor, request: PostingRequest, receipt: Receipt | None) -> int:
    if request.way == "partner":
        if receipt is None or receipt.clearing_account_id is None:
            raise PostingError("no partner brought that money: refund it by bank or cash")
        return receipt.clearing_account_id
    return await system_account(cur, request.way or OTHER_SIDE[request.kind], "", request.currency)


async def _release(cur: Cursor, receipt: Receipt, amount: int, transfer_id: int, actor: str) -> None:
    """Take off invoices what of a receipt is directed beyond what is left of it (rule 6)."""
    await cur.execute(_DIRECTED, {"id": receipt.transfer_id})
    directed: Sequence[tuple[int, int]] = await cur.fetchall()
    excess = sum(row[1] for row in directed) - (receipt.left - amount)
    for invoice_id, sum_minor in directed:
        if excess <= 0:
            return
        freed = min(excess, sum_minor)
        values = {"transfer": transfer_id, "invoice": invoice_id, "amount": -freed, "actor": actor}
        await cur.execute(_RELEASE, values)
        excess -= freed


def _request(row: Sequence[Any]) -> PostingRequest:
    names = [field.name for field in fields(PostingRequest)]
    values = dict(zip(names, row, strict=True))
    values |= {"kind": Kind(values["kind"]), "state": RequestState(values["state"]), "amount": Minor(values["amount"])}
    return PostingRequest(**values)
