"""What explaining a billed line takes and gives: the order, its usage, the record of a period, and a line made again.

Does not know: where rows come from, what a line costs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from billing.calendar import NEVER
from billing.catalogue.model import (
    Buyer,
)
from billing.charging.records import NONE
from billing.orders.terms import OrderTerms
from billing.rating.bills import BillLine, TaxPart
from ratingcore import tariff as core
from ratingcore.rounding import divide


@dataclass(frozen=True, slots=True)
class OrderFacts:
    """A row of orders with its terms and its customer's group and number. ends_s: NEVER; price_minor: NONE."""

    id: int
    account_id: int
    terms: OrderTerms
    quantity: int
    starts_s: int
    ends_s: int
    minimum_minor: int = 0
    price_minor: int = NONE
    codes: tuple[str, ...] = ()
    group: str = ""
    customer: str = ""

    @property
    def buyer(self) -> Buyer:
        return Buyer(self.terms.currency, self.terms.plan, self.group, self.customer)


@dataclass(frozen=True, slots=True)
class UsageFacts:
    """A usage event and the order it belongs to (``owner_of``). counts_at_s: when it was known, NONE: always."""

    id: int
    order_id: int
    item: str
    at_s: int
    quantity_micro: int
    duration_s: int = 0
    destination: str = ""
    counts_at_s: int = NONE


@dataclass(frozen=True, slots=True)
class BilledAhead:
    """A recurring line or a percentage of an advance record, with the share it was billed for: what an adjustment
    adjusts.

    credited_minor: what notes written before the adjustment took off the amount, with its sign.
    """

    item: str
    amount_minor: int
    tax_ppm: int
    inside: bool
    num: int
    den: int
    credited_minor: int = 0

    def changed_minor(self, num: int, den: int) -> int:
        """What another share makes of the amount, credit notes apart."""
        return divide(self.amount_minor * (num * self.den - den * self.num), den * self.num)


@dataclass(frozen=True, slots=True)
class RecordFacts:
    """A row of order_periods and what its lines followed from.

    sharing: the account's other orders with the same period. usage: events that belong to the order or to one of those
    and happened in the period, in any order. advance_minor: what the advance record of the same period and its
    adjustment came to. billed: of an adjustment. known_s: the run saw what counts before it; seen_s: of late usage,
    what was billed before counts before it. left: of late usage, what credit notes left of lines that they took
    something off, by kind, item and tax.
    """

    order: OrderFacts
    part: str
    start_s: int
    end_s: int
    num: int
    den: int
    sharing: tuple[OrderFacts, ...] = ()
    usage: tuple[UsageFacts, ...] = ()
    advance_minor: int = 0
    billed: tuple[BilledAhead, ...] = ()
    known_s: int = NEVER
    seen_s: int = 0
    left: Mapping[tuple[str, str, core.Tax], int] = field(default_factory=dict)

    @property
    def from_s(self) -> int:
        return max(self.start_s, self.order.starts_s)

    @property
    def until_s(self) -> int:
        return max(self.from_s, min(self.end_s, self.order.ends_s))


@dataclass(frozen=True, slots=True)
class Explained:
    """A line computed again. kind, item, quantity, amounts: as in invoice_lines.

    bill: events and their derivations, promotions, and all parts of the line, where it comes from a price list;
    flat_micro: of a recurring line, before quantity and share; had_minor, asked_minor: of a minimum, or of late usage:
    what the line comes to without it and with it; ahead: of an adjustment.
    """

    record: RecordFacts
    kind: str
    item: str
    quantity: int
    discount_minor: int
    part: TaxPart
    bill: BillLine | None = None
    flat_micro: int = NONE
    asked_minor: int = 0
    had_minor: int = 0
    ahead: BilledAhead | None = None

    @property
    def amount_minor(self) -> int:
        return self.part.amount
