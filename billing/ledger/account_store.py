"""Accounts as rows: found by number, opened, read as statements, and posted to by hand.

Rules. An account opens with balance zero; money comes by transfers. System accounts are named ``kind:what:CURRENCY``
and made on first use. The caller owns the transaction.

Does not know: who may post, requests for postings (billing.ledger.posting_requests).
"""

from collections.abc import Sequence
from typing import Final

from billing.database.cursors import Cursor
from billing.ledger.accounts import Account, AccountError, NewAccount, StatementLine, problem_with
from billing.ledger.transfer_store import post_transfers
from billing.ledger.transfers import Posting, Transfer
from ratingcore.money import Minor

_ACCOUNT_COLUMNS: Final = "id, number, kind, currency, state, name, balance_minor, floor_minor, created_at"

_BY_NUMBER: Final = f"SELECT {_ACCOUNT_COLUMNS} FROM accounts WHERE number = %s"

_CREATE: Final = """
    INSERT INTO accounts (number, kind, currency, name, state)
    SELECT * FROM unnest(%(numbers)s::text[], %(kinds)s::text[], %(currencies)s::text[], %(names)s::text[],
                         %(states)s::text[])
    ON CONFLICT (number) DO NOTHING
    RETURNING number
"""

_ENSURE: Final = """
    INSERT INTO accounts (number, kind, currency) VALUES (%(number)s, %(kind)s, %(currency)s)
    ON CONFLICT (number) DO NOTHING
"""

_STATEMENT: Final = """
    SELECT t.id, t.created_at, t.source, t.source_id, t.step, o.number,
           CASE WHEN t.credit_account_id = %(id)s THEN t.amount_minor ELSE -t.amount_minor END,
           CASE t.source
               WHEN 'invoice' THEN (SELECT coalesce(i.full_number, 'draft ' || i.id) FROM numbered_invoices i
                                    WHERE i.id = t.source_id)
               WHEN 'payment' THEN (SELECT p.partner_key FROM payments p WHERE p.id = t.source_id)
               WHEN 'manual' THEN (SELECT r.document FROM posting_requests r WHERE r.posting_id = t.source_id)
           END
    FROM (
        (SELECT * FROM transfers WHERE debit_account_id = %(id)s ORDER BY id DESC LIMIT %(limit)s)
        UNION ALL
        (SELECT * FROM transfers WHERE credit_account_id = %(id)s ORDER BY id DESC LIMIT %(limit)s)
    ) t
    JOIN accounts o
      ON o.id = CASE WHEN t.credit_account_id = %(id)s THEN t.debit_account_id ELSE t.credit_account_id END
    ORDER BY t.id DESC LIMIT %(limit)s
"""

_MANUAL: Final = """
    INSERT INTO manual_postings (key, actor, why) VALUES (%(key)s, %(actor)s, %(why)s)
    ON CONFLICT (key) DO NOTHING RETURNING id
"""


_SYSTEM: Final = "SELECT id, kind, currency FROM accounts WHERE number = %s"

_OPENED_NOW: Final = "SELECT number FROM accounts WHERE number = ANY(%s) AND created_at = transaction_timestamp()"

_IDS_BY_NUMBER: Final = "SELECT number, id FROM accounts WHERE number = ANY(%s)"

_OPENING: Final = """
    INSERT INTO manual_postings (key, actor, why)
    VALUES ('import:' || pg_current_xact_id()::text || ':' || to_char(now(), 'YYYYMMDDHH24MISSUS'), %s, %s)
    RETURNING id
"""


async def create_accounts(cur: Cursor, accounts: Sequence[NewAccount]) -> list[str]:
    """Open accounts; returns the numbers opened now (one that exists already is left as it is, and left out).

    Raises:
        AccountError: the first account that breaks a rule; nothing is written then.
    """
    for account in accounts:
        problem = problem_with(account)
        if problem:
            raise AccountError(problem)
    await cur.execute(
        _CREATE,
        {
            "numbers": [a.number for a in accounts],
            "kinds": [a.kind for a in accounts],
            "currencies": [a.currency for a in accounts],
            "names": [a.name for a in accounts],
            "states": [a.state for a in accounts],
        },
    )
    return [row[0] for row in await cur.fetchall()]


async def account_by_number(cur: Cursor, number: str) -> Account | None:
    """The account with this number, or None."""
    await cur.execute(_BY_NUMBER, (number,))
    row = await cur.fetchone()
    return Account(*row) if row else None


async def system_account(cur: Cursor, kind: str, what: str, currency: str) -> int:
    """The id of a system account, made on first use: ``clearing:osmp-demo:RUB``, or ``transit:RUB`` without what."""
    number = ":".join(part for part in (kind, what, currency) if part)
    await cur.execute(_ENSURE, {"number": number, "kind": kind, "currency": currency})
    await cur.execute(_SYSTEM, (number,))
    row = await cur.fetchone()
    if row is None or (row[1], row[2]) != (kind, currency):
        raise AccountError(f"account {number!r} exists and is no {kind} account in {currency}")
    return int(row[0])


async def statement(cur: Cursor, account_id: int, limit: int) -> list[StatementLine]:
    """The newest ``limit`` transfers of an account, newest first."""
    await cur.execute(_STATEMENT, {"id": account_id, "limit": limit})
    return [
        StatementLine(transfer_id, at, source, source_id, step, other, amount, document or "")
        for transfer_id, at, source, source_id, step, other, amount, document in await cur.fetchall()
    ]


async def post_manual(
    cur: Cursor,
    *,
    key: str,
    actor: str,
    why: str,
    debit_id: int,
    credit_id: int,
    amount: Minor,
    currency: str,
    step: str = "post",
    corrects_id: int | None = None,
) -> Posting | None:
    """A person's posting between two accounts; None when ``key`` was used already (nothing is done then).

    Args:
        step: what it is for, as the ledger names it. corrects_id: the transfer that it takes back, in part or whole.

    Raises:
        AccountError: the ledger refused it (the sentence says why); roll back.
    """
    await cur.execute(_MANUAL, {"key": key, "actor": actor, "why": why})
    row = await cur.fetchone()
    if row is None:
        return None
    transfer = Transfer("manual", int(row[0]), step, debit_id, credit_id, amount, currency, corrects_id)
    posting = await post_transfers(cur, [transfer])
    if posting.refused:
        raise AccountError(posting.refused[0][1].value.replace("_", " "))
    return posting


async def opened_now(cur: Cursor, numbers: Sequence[str]) -> set[str]:
    """Those of these numbers whose accounts this very transaction opened."""
    await cur.execute(_OPENED_NOW, (list(numbers),))
    return {row[0] for row in await cur.fetchall()}


async def ids_by_number(cur: Cursor, numbers: Sequence[str]) -> dict[str, int]:
    """Ids of the accounts with these numbers; one that does not exist is left out."""
    await cur.execute(_IDS_BY_NUMBER, (list(numbers),))
    return dict(await cur.fetchall())


async def new_opening(cur: Cursor, file_name: str, actor: str) -> int:
    """A manual posting under which opening balances of a file are posted; its key is this transaction's own."""
    await cur.execute(_OPENING, (actor, f"opening balances imported from {file_name[:200]}"))
    return int((await cur.fetchone())[0])
