"""How an account stands in dunning, what happened to it, and which services are blocked now.

Rules. What happened stays: events of past spells of debt are shown beside those of the present one. Blocked is an order
that is in force and suspended at this moment, for whatever reason.

Does not know: rows (dunning_store), when steps come (billing.invoicing.dunning), delays (dunning_delays).
"""

from dataclasses import dataclass
from datetime import date, datetime

from ratingcore.money import Minor


@dataclass(frozen=True, slots=True)
class Event:
    """A row of the record of dunning. step 0: lifted or delayed. note: why, where a person said so."""

    at: datetime
    step: int
    action: str
    overdue: Minor
    invoice: str
    actor: str
    note: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How an account stands. step: the last step done, 0 for none. oldest_due_on: of its oldest unpaid invoice.

    payer: the account that pays for it, empty where it pays itself. suspended_at: since when its debt suspends what it
    pays for. delayed_until: the last day of a delay that runs; delay_reason: why.
    """

    account_id: int
    balance: Minor
    currency: str
    step: int
    group: str
    overdue: Minor
    oldest_due_on: date | None
    payer: str
    suspended_at: datetime | None
    delayed_until: date | None
    delay_reason: str


@dataclass(frozen=True, slots=True)
class Blocked:
    """An order that is suspended now. number: empty where it has none. what: a plan or an item. until: None: open."""

    order_id: int
    number: str
    account: str
    customer: str
    payer: str
    plan: str
    item: str
    reason: str
    since: datetime
    until: datetime | None
