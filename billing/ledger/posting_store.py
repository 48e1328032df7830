"""Requests for postings by hand as rows: written, held, decided, posted; receipts, and the invoices they pay.

Rules. A request is decided under its lock, so two people decide it once. Its transfer is posted while the subscribers'
accounts are held. The caller owns the transaction.

Does not know: what may be asked for (billing.ledger.posting_requests), who may do what.
"""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any, Final

from billing.database.cursors import Cursor
from billing.ledger.account_store import post_manual, system_account
from billing.ledger.posting_requests import (
    LIST_MAX,
    OTHER_SIDE,
    TAKES,
    HeldAccount,
    Kind,
    Person,
    PostingError,
    PostingRequest,
    Receipt,
    RequestState,
    WantedPosting,
    brings,
)
from ratingcore.money import Minor

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
    debit, credit = (other, request.account_id) if brings(request) else (request.account_id, other)
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
