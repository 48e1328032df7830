"""The double-entry ledger: transfers and the balances that follow from them (design, truths 1 and 2).

Rules. A transfer is a row with a debit and a credit account and is never changed; (source, source_id, step) acts once.
A balance is what was credited less what was debited. Rows of `accounts` are locked subscribers first, then system
accounts, each by id, so batches that overlap in any way wait for each other and never deadlock. The database holds
the floor of every account as a check constraint; this module refuses before that.

Does not know: payments, invoices, why money moves.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from billing.database.arrays import int_array, text_array
from billing.database.cursors import Cursor
from ratingcore.money import Minor

#: Most transfers one call posts; a larger caller posts in slices of this.
MAX_TRANSFERS: Final = 100_000


class LedgerError(Exception):
    """Our own mistake in a posting: nothing of the batch may be committed."""


class TransferRefusal(StrEnum):
    """Why a transfer was not posted, in the order in which they are looked for."""

    NOT_POSITIVE = "amount_not_positive"
    SAME_ACCOUNT = "debit_and_credit_are_one_account"
    UNKNOWN_ACCOUNT = "unknown_account"
    OTHER_CURRENCY = "account_in_another_currency"
    KEY_WITH_OTHER_CONTENTS = "key_exists_with_other_contents"
    BELOW_FLOOR = "balance_would_fall_below_its_floor"


@dataclass(frozen=True, slots=True)
class Transfer:
    """One movement of ``amount`` > 0 from the debit to the credit account.

    (source, source_id, step) is the idempotency key: what caused it ('payment', 'manual', 'invoice', 'settlement'),
    which one, and which of its steps this is.
    """

    source: str
    source_id: int
    step: str
    debit_account_id: int
    credit_account_id: int
    amount: Minor
    currency: str
    corrects_id: int | None = None

    @property
    def key(self) -> tuple[str, int, str]:
        """The idempotency key."""
        return self.source, self.source_id, self.step


@dataclass(frozen=True, slots=True)
class Posting:
    """What became of a batch: transfers posted now, those that stood already, and those refused with the reason."""

    posted: tuple[Transfer, ...]
    repeated: tuple[Transfer, ...]
    refused: tuple[tuple[Transfer, TransferRefusal], ...]


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


def deltas(transfers: Iterable[Transfer]) -> dict[int, int]:
    """Net change of each account's balance in minor units; accounts that end where they began are left out."""
    moved: dict[int, int] = {}
    for transfer in transfers:
        moved[transfer.debit_account_id] = moved.get(transfer.debit_account_id, 0) - transfer.amount
        moved[transfer.credit_account_id] = moved.get(transfer.credit_account_id, 0) + transfer.amount
    return {account: delta for account, delta in moved.items() if delta}


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


def admit(
    transfers: Sequence[Transfer],
    accounts: dict[int, tuple[str, int, int | None]],
    existing: dict[tuple[str, int, str], tuple[Any, ...]],
) -> Posting:
    """Decide what of a batch may be posted. Pure.

    Args:
        accounts: id -> (currency, balance, floor or None) of every account we have among those named.
        existing: key -> (debit, credit, amount, currency) of keys that stand in the ledger.
    """
    known = dict(existing)
    balances = {account: row[1] for account, row in accounts.items()}
    posted: list[Transfer] = []
    repeated: list[Transfer] = []
    refused: list[tuple[Transfer, TransferRefusal]] = []
    for transfer in transfers:
        contents = (transfer.debit_account_id, transfer.credit_account_id, transfer.amount, transfer.currency)
        if known.get(transfer.key) == contents:
            repeated.append(transfer)
            continue
        refusal = _refusal(transfer, accounts, balances, transfer.key in known)
        if refusal is not None:
            refused.append((transfer, refusal))
            continue
        balances[transfer.debit_account_id] -= transfer.amount
        balances[transfer.credit_account_id] += transfer.amount
        known[transfer.key] = contents
        posted.append(transfer)
    return Posting(tuple(posted), tuple(repeated), tuple(refused))


def _refusal(
    transfer: Transfer,
    accounts: dict[int, tuple[str, int, int | None]],
    balances: dict[int, int],
    key_is_taken: bool,
) -> TransferRefusal | None:
    if transfer.amount <= 0:
        return TransferRefusal.NOT_POSITIVE
    if transfer.debit_account_id == transfer.credit_account_id:
        return TransferRefusal.SAME_ACCOUNT
    debit, credit = accounts.get(transfer.debit_account_id), accounts.get(transfer.credit_account_id)
    if debit is None or credit is None:
        return TransferRefusal.UNKNOWN_ACCOUNT
    if debit[0] != transfer.currency or credit[0] != transfer.currency:
        return TransferRefusal.OTHER_CURRENCY
    if key_is_taken:
        return TransferRefusal.KEY_WITH_OTHER_CONTENTS
    floor = debit[2]
    if floor is not None and balances[transfer.debit_account_id] - transfer.amount < floor:
        return TransferRefusal.BELOW_FLOOR
    return None


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
