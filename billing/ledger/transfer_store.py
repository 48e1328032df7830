"""Transfers as rows: a batch is locked, admitted (billing.ledger.transfers) and written with the balances it moves.

Rules. Rows of `accounts` are locked subscribers first, then system accounts, each by id, so batches that overlap in any
way wait for each other and never deadlock. Entries sum to zero, checked last. The caller owns the transaction.

Does not know: payments, invoices, why money moves.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from billing.database.arrays import int_array, text_array
from billing.database.cursors import Cursor
from billing.ledger.transfers import MAX_TRANSFERS, LedgerError, Posting, Transfer, admit, deltas

_LOCK: Final = """
    SELECT a.id, a.currency, a.balance_minor, a.floor_minor
    FROM accounts a JOIN account_kinds k USING (kind)
    WHERE a.id = ANY(%(ids)s::bigint[])
    ORDER BY k.is_system, a.id
    FOR NO KEY UPDATE OF a
"""

_EXISTING: Final = """
    SELECT t.source, t.source_id, t.step, t.debit_account_id, t.credit_account_id, t.amount_minor, t.currency
    FROM unnest(%(sources)s::text[], %(source_ids)s::bigint[], %(steps)s::text[]) AS w (source, source_id, step)
    JOIN transfers t USING (source, source_id, step)
"""

_INSERT: Final = """
    INSERT INTO transfers (source, source_id, step, debit_account_id, credit_account_id, amount_minor, currency,
                           corrects_id)
    SELECT * FROM unnest(%(sources)s::text[], %(source_ids)s::bigint[], %(steps)s::text[], %(debits)s::bigint[],
                         %(credits)s::bigint[], %(amounts)s::bigint[], %(currencies)s::text[],
                         %(corrects)s::bigint[])
"""

_MOVE: Final = """
    UPDATE accounts a SET balance_minor = a.balance_minor + d.delta
    FROM unnest(%(ids)s::bigint[], %(deltas)s::bigint[]) AS d (id, delta)
    WHERE a.id = d.id
"""

_LOCK_IN_ORDER: Final = "SELECT FROM accounts WHERE id = ANY(%(ids)s::bigint[]) ORDER BY id FOR NO KEY UPDATE"


async def post_transfers(cur: Cursor, transfers: Sequence[Transfer]) -> Posting:
    """Post a batch under lock, each transfer on its own merits and in the given order.

    Args:
        cur: aiopg cursor inside the caller's READ COMMITTED transaction.
        transfers: at most MAX_TRANSFERS; later ones see the balances that earlier ones left.

    Returns:
        A Posting; a repeat of a posted key with the same contents is `repeated`, not an error.

    Raises:
        LedgerError: more than MAX_TRANSFERS.
    """
    if len(transfers) > MAX_TRANSFERS:
        raise LedgerError(f"{len(transfers)} transfers in one batch, at most {MAX_TRANSFERS}")
    if not transfers:
        return Posting((), (), ())
    ids = sorted({t.debit_account_id for t in transfers} | {t.credit_account_id for t in transfers})
    await cur.execute(_LOCK, {"ids": int_array(ids)})
    accounts = {row[0]: (row[1], row[2], row[3]) for row in await cur.fetchall()}
    await cur.execute(_EXISTING, _columns(transfers))
    existing = {(row[0], row[1], row[2]): tuple(row[3:]) for row in await cur.fetchall()}
    posting = admit(transfers, accounts, existing)
    if posting.posted:
        await write_transfers(cur, posting.posted, system_ids=())
    return posting


async def write_transfers(cur: Cursor, transfers: Sequence[Transfer], system_ids: Iterable[int]) -> None:
    """Insert transfers that were admitted already and move the balances, in one round trip.

    The caller holds the locks of every account that is not in ``system_ids`` and knows the keys to be new (a key
    that is not raises psycopg2.errors.UniqueViolation). Accounts in ``system_ids`` are the hot rows every batch
    touches: they are locked here, in id order, as the last thing before COMMIT.

    Raises:
        LedgerError: an account vanished (accounts are never deleted: our mistake), or entries that do not balance.
    """
    moved = deltas(transfers)
    if sum(moved.values()) != 0:
        raise LedgerError(f"entries do not sum to zero: {moved}")
    system = set(system_ids)
    cold = sorted(account for account in moved if account not in system)
    hot = sorted(account for account in moved if account in system)
    columns = _columns(sorted(transfers, key=lambda t: t.key))
    statement, last = cur.mogrify(_INSERT, columns), 0
    if cold:
        statement += b";" + cur.mogrify(_MOVE, {"ids": int_array(cold), "deltas": int_array(moved[a] for a in cold)})
        last = len(cold)
    if hot:
        statement += b";" + cur.mogrify(_LOCK_IN_ORDER, {"ids": int_array(hot)})
        statement += b";" + cur.mogrify(_MOVE, {"ids": int_array(hot), "deltas": int_array(moved[a] for a in hot)})
        last = len(hot)
    await cur.execute(statement)
    if last and cur.rowcount != last:
        raise LedgerError(f"{last - cur.rowcount} of {last} accounts to move do not exist")


def _columns(transfers: Sequence[Transfer]) -> dict[str, str]:
    return {
        "sources": text_array(t.source for t in transfers),
        "source_ids": int_array(t.source_id for t in transfers),
        "steps": text_array(t.step for t in transfers),
        "debits": int_array(t.debit_account_id for t in transfers),
        "credits": int_array(t.credit_account_id for t in transfers),
        "amounts": int_array(t.amount for t in transfers),
        "currencies": text_array(t.currency for t in transfers),
        "corrects": int_array(t.corrects_id for t in transfers),
    }
