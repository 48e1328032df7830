"""Records of orders: as they are asked for, as they are stored, and what belongs to them.

Rules. Times are UTC epoch seconds unless they are datetimes, money is minor units.

Does not know: the database, which orders are allowed (billing.orders.rules, billing.orders.reading).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from billing.orders.terms import WantedTerms

MAX_NUMBER: Final = 64
MAX_NOTE: Final = 500


@dataclass(frozen=True, slots=True)
class WantedOrder:
    """An order as it is typed or stands in a file: text; None or empty means the default."""

    account: str
    number: str = ""
    catalogue: str = ""
    plan: str = ""
    item: str = ""
    kind: str = "recurring"
    quantity: int = 1
    starts: str = ""
    ends: str = ""
    trial_until: str = ""
    period: str = "month"
    anchor_day: int | None = None
    anchor_month: int | None = None
    anchor_date: str = ""
    zone: str = ""
    in_advance: bool = False
    proration: str = "day"
    minimum: str = ""
    price: str = ""
    codes: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class OrderingAccount:
    """What an order takes from its account and customer. zone: of the account; currency: its own, as the payer's."""

    account_id: int
    payer_account_id: int
    currency: str
    payer_currency: str
    zone: str
    group: str
    customer: str
    state: str
    account_state: str

    @property
    def problem(self) -> str | None:
        """Why nothing can be ordered for this account."""
        if self.state == "closed":
            return f"customer {self.customer} is closed"
        if self.account_state == "closed":
            return "the account is closed"
        if self.currency != self.payer_currency:
            return f"the account is in {self.currency} and its payer's in {self.payer_currency}"
        return None


@dataclass(frozen=True, slots=True)
class NewOrder:
    """An order in numbers. ends_s, trial_until_s, price_minor: None for none."""

    number: str
    terms: WantedTerms
    quantity: int
    starts_s: int
    ends_s: int | None
    trial_until_s: int | None
    minimum_minor: int
    price_minor: int | None
    codes: tuple[str, ...]
    note: str


@dataclass(frozen=True, slots=True)
class Order:
    """An order as it stands. replaces, replaced_by: numbers, or empty. pause: the one it is in now, if any."""

    id: int
    account: str
    account_id: int
    payer: str
    payer_account_id: int
    contents: NewOrder
    replaces: str
    replaced_by: str
    is_settled: bool
    created_at: datetime
    pause: "Suspension | None" = None

    @property
    def number(self) -> str:
        return self.contents.number

    @property
    def never_begins(self) -> bool:
        """Whether it was cancelled before its start."""
        return self.contents.ends_s == self.contents.starts_s

    def covers(self, time_s: int) -> bool:
        """Whether some of its life lies after an instant."""
        ends_s = self.contents.ends_s
        return ends_s is None or ends_s > max(time_s, self.contents.starts_s)


@dataclass(frozen=True, slots=True)
class BilledPeriod:
    """A row of order_periods. invoice: its number, a dash while it is a draft, empty for none."""

    part: str
    start: datetime
    end: datetime
    outcome: str
    reason: str
    active_num: int
    active_den: int
    amount_minor: int
    invoice: str


@dataclass(frozen=True, slots=True)
class Suspension:
    """id: 0 for one that is not stored yet. until_s: None while it lasts."""

    id: int
    from_s: int
    until_s: int | None
    reason: str
    actor: str


@dataclass(frozen=True, slots=True)
class OrderEvent:
    """What a person did to an order, at which time."""

    at: datetime
    event: str
    details: Mapping[str, Any]
    actor: str


@dataclass(frozen=True, slots=True)
class PeriodToCome:
    """A period that is not billed yet: its number and bounds, and when its advance and arrears parts are due."""

    number: int
    start_s: int
    end_s: int
    due_s: int


@dataclass(frozen=True, slots=True)
class ManualCharge:
    """A line written by a person. amount_minor may be negative; tax_ppm: millionths of the net."""

    key: str
    account: str
    description: str
    amount_minor: int
    tax_ppm: int
    tax_inside: bool
    bill_on: date | None
    why: str


@dataclass(frozen=True, slots=True)
class BilledUntil:
    """Up to where an order is billed for good. None: not at all.

    until_s: the end of what was billed in arrears or adjusted. once: its only part is billed. adjusted_until_s: the end
    of what was adjusted.
    """

    until_s: int | None
    once: bool
    adjusted_until_s: int | None
