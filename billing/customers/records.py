"""Records of customers: as they are asked for, as they are stored, their accounts, and the legal entities that sell.

Does not know: the database, which customers are allowed (billing.customers.rules).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class NewCustomer:
    """A customer to add. account: its number, empty for the customer's own. parent: a customer's number, or empty."""

    number: str
    name: str = ""
    group: str = ""
    parent: str = ""
    parent_pays: bool = False
    language: str = "ru"
    contacts: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)
    account: str = ""
    kind: str = "subscriber"
    currency: str = "RUB"
    zone: str = "Europe/Moscow"
    legal_entity: str = "main"
    due_days: int = 14


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer as it stands; facts: with its first account. suspended: why orders of it are suspended now."""

    id: int
    state: str
    created_at: datetime
    account_id: int
    facts: NewCustomer
    suspended: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FurtherAccount:
    """Another account of a customer. Empty, or None: as the first one has it."""

    number: str
    kind: str = ""
    currency: str = ""
    zone: str = ""
    legal_entity: str = ""
    due_days: int | None = None


@dataclass(frozen=True, slots=True)
class BilledAccount:
    """An account of a customer. payer: the number of the account that gets the invoices. suspended: why orders of it
    are suspended now."""

    id: int
    number: str
    currency: str
    kind: str
    state: str
    balance_minor: int
    payer_id: int
    payer: str
    zone: str
    legal_entity: str
    due_days: int
    suspended: Sequence[str]


@dataclass(frozen=True, slots=True)
class LegalEntity:
    """A seller. prefixes: of the numbers of its invoices and of its credit notes."""

    number: str
    name: str
    details: Mapping[str, str]
    prefixes: Mapping[str, str]
