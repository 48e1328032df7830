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

Does not know: rows (billing.ledger.posting_store), payments and their events (gateway.payments.manual_money), who may
do what, how a person proves who it is.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Literal

from billing.ledger.accounts import PEOPLE_KINDS, AccountError
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
Proof = Literal["password", "token", "os"]

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
    """Who acts. actor: as records name it. proof: `password` or `token` of a user of ours, or `os`: the system's
    word alone."""

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


def brings(request: PostingRequest) -> bool:
    """Whether a request brings money to its account, rather than taking it away."""
    return request.kind in BRINGS or (request.kind is Kind.CORRECTION and request.amount > 0)
