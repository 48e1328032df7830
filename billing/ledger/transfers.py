"""The double-entry ledger: transfers and the balances that follow from them (docs/truths.md, 1 and 2).

Rules. A transfer is a row with a debit and a credit account and is never changed; (source, source_id, step) acts once.
A balance is what was credited less what was debited. The database holds the floor of every account as a check
constraint; ``admit`` refuses before that.

Does not know: rows and locks (billing.ledger.transfer_store), payments, invoices, why money moves.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

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


def deltas(transfers: Iterable[Transfer]) -> dict[int, int]:
    """Net change of each account's balance in minor units; accounts that end where they began are left out."""
    moved: dict[int, int] = {}
    for transfer in transfers:
        moved[transfer.debit_account_id] = moved.get(transfer.debit_account_id, 0) - transfer.amount
        moved[transfer.credit_account_id] = moved.get(transfer.credit_account_id, 0) + transfer.amount
    return {account: delta for account, delta in moved.items() if delta}


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
