"""Records of the payment path: commands, what is loaded for them, and the rows that deciding them makes.

Rules. Records are frozen, but for `LoadedState`: what a batch loaded and what its commands made of it so far, which
lives as long as the batch. Sums are integers of minor units, times aware UTC.

Does not know: how a command is decided, SQL.
"""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from adapters.messages import Balance, Cancel, Check, Contract, Pay, Reason, Status
from billing.ledger.transfers import Transfer
from gateway.payments.states import Event, State
from ratingcore.money import Minor

NOTE_MAX: Final = 500
_NOTHING: Final = Minor(0)


@dataclass(frozen=True, slots=True)
class OperatorCancel:
    """A person takes a payment back by hand; the contract's cancel switch and window do not apply.

    may_owe: the person has seen that the account will owe, and wants it so. Without it the balance must cover the
    payment. A floor holds in any case.
    """

    payment_id: int
    note: str
    may_owe: bool = False


#: What changes payments, and so runs in a locked batch.
Action = Pay | Cancel | OperatorCancel
#: What only reads.
Question = Check | Status | Balance


@dataclass(frozen=True, slots=True)
class Terms:
    """A contract with the system accounts its money moves through.

    stripping: the contract's versions, older ones too, that drop zeros at the front of account numbers.
    """

    contract: Contract
    clearing_account_id: int
    transit_account_id: int
    stripping: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Sides:
    """The system accounts that a payment moved through, as its own transfers say."""

    clearing_account_id: int
    transit_account_id: int


@dataclass(frozen=True, slots=True)
class Command:
    """One request on its way to a decision.

    terms: None only for OperatorCancel, which goes by no contract.
    request_text: the scrubbed raw request, kept with the event it causes.
    """

    request: Action | Question
    terms: Terms | None
    actor: str
    remote_ip: str = ""
    request_text: str = ""


@dataclass(frozen=True, slots=True)
class AccountRow:
    """A payable account; balance in minor units."""

    id: int
    number: str
    state: str
    name: str
    balance: int
    currency: str
    floor: int | None = None


@dataclass(frozen=True, slots=True)
class Payment:
    """A row of `payments`."""

    id: int
    partner_id: int
    key: str
    contract_version: int
    service: str
    account_number: str
    account_id: int | None
    amount: Minor
    currency: str
    partner_time: datetime | None
    extras: Mapping[str, str] | None
    state: State
    reason: Reason
    version: int
    registered_at: datetime
    created_at: datetime
    #: What people took off the account again, by refunds and moves, in minor units.
    returned: Minor = _NOTHING


@dataclass(frozen=True, slots=True)
class EventRow:
    """A row of `payment_events`, at the batch's time."""

    payment_id: int
    seq: int
    event: Event
    state: State
    reason: Reason
    actor: str
    note: str
    remote_ip: str
    request_text: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """A row of `attempts`: a call that changed no payment. calls: how many alike it stands for
    (gateway.port.strangers)."""

    kind: str
    reason: Reason
    partner_id: int | None = None
    op: str = ""
    code: str = ""
    detail: str = ""
    key: str = ""
    account_number: str = ""
    amount: Minor | None = None
    payment_id: int | None = None
    remote_ip: str = ""
    request_text: str = ""
    calls: int = 1


@dataclass(slots=True)
class LoadedState:
    """What a batch loaded, and what its commands made of it so far.

    accounts: payable accounts held under lock, by number. sides: by payment id, for people's commands: a partner whose
    contract or key is broken keeps nobody from taking its payments back.
    in_work: keys of pays that this process has not decided yet; what is asked of them has no final answer.
    next_id: gives the id of the next new payment.
    """

    now: datetime
    next_id: Callable[[], int]
    accounts: dict[str, AccountRow]
    payments: dict[tuple[int, str], Payment]
    sides: Mapping[int, Sides] = field(default_factory=dict)
    in_work: Container[tuple[int, str]] = frozenset()
    by_id: dict[int, Payment] = field(default_factory=dict)
    balances: dict[int, int] = field(default_factory=dict)
    created: dict[int, Payment] = field(default_factory=dict)
    changed: dict[int, Payment] = field(default_factory=dict)
    versions_before: dict[int, int] = field(default_factory=dict)
    events: list[EventRow] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Index by id what was loaded by key and number."""
        self.by_id.update({payment.id: payment for payment in self.payments.values()})
        self.balances.update({account.id: account.balance for account in self.accounts.values()})

    @property
    def is_unchanged(self) -> bool:
        """True when there is nothing to write."""
        return not (self.events or self.attempts)
