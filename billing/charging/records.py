"""What goes into a shard of the billing cycle and what comes out: columns, one record a table.

Rules. Every column is a NumPy array, one value a row; all columns of a record have one length. Times are UTC epoch
seconds, NEVER where there is no end. Money is minor units. What repeats is a code into a tuple beside it (items,
codes, buyers, PARTS, KINDS, REASONS). Nothing in here is changed once it is made.

Orders are sorted by (payer_account_id, order_id), payers by account_id, events by (account_id, at_s, id), the rest by
order_id or account; `bill_shard` refuses what is not.

The way of a shard: ``tariffs = prepare_tariffs(catalogues, terms)`` once a process and run (tariffs);
``due = find_due(shard, tariffs)`` and ``windows(due, shard, tariffs)``, the usage to read (due, pools); then, with the
events put in by ``dataclasses.replace``, ``bill_shard(shard, tariffs, due)`` (bills).

Does not know: the database, what any of it costs.
"""

from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

import numpy as np

from ratingcore.arrays import Bytes, Indices, Ints

#: Of a payer whose balance may fall without bound.
NO_FLOOR: Final = int(np.iinfo(np.int64).min)
#: In a column of times, prices or indexes: there is none.
NONE: Final = -1

#: Codes of order_periods.part, in the order in which an invoice shows them.
PARTS: Final = ("advance", "arrears", "once", "adjustment", "late")
ADVANCE, ARREARS, ONCE, ADJUSTED, LATE = range(5)

#: Codes of invoice_lines.kind.
KINDS: Final = ("recurring", "usage", "one_time", "percentage", "minimum", "adjustment", "manual")
RECURRING, USAGE, ONE_TIME, PERCENTAGE, MINIMUM, ADJUSTMENT, MANUAL = range(7)

#: Codes of order_periods.reason; the first is that of what was billed.
REASONS: Final = ("", "trial", "suspended", "not_active", "nothing_to_bill")
BILLED, TRIAL, SUSPENDED, NOT_ACTIVE, NOTHING_TO_BILL = range(5)


def no_ints() -> Ints:
    return np.zeros(0, np.int64)


def no_indices() -> Indices:
    return np.zeros(0, np.int32)


def no_bytes() -> Bytes:
    return np.zeros(0, np.uint8)


# ---- in


@dataclass(frozen=True, slots=True)
class Orders:
    """Unsettled orders of the shard's payers, and behind them the settled ones that matter (``ShardInput.live``).

    trial_until_s: 0 without a trial. price_minor: NONE without a price of its own. codes: index into ShardInput.codes.
    buyer: index into ShardInput.buyers. advance_done_s, arrears_done_s: the end of the last recorded period of the
    part, NONE before the first. once_done: 1 where a one-time order is recorded.
    """

    order_id: Ints
    account_id: Ints
    payer_account_id: Ints
    terms_id: Indices
    quantity: Ints
    starts_s: Ints
    ends_s: Ints
    trial_until_s: Ints
    minimum_minor: Ints
    price_minor: Ints
    codes: Indices
    buyer: Indices
    advance_done_s: Ints
    arrears_done_s: Ints
    once_done: Bytes


@dataclass(frozen=True, slots=True)
class Suspensions:
    """Sorted by order_id, from_s. until_s: NEVER while it lasts."""

    order_id: Ints = field(default_factory=no_ints)
    from_s: Ints = field(default_factory=no_ints)
    until_s: Ints = field(default_factory=no_ints)


@dataclass(frozen=True, slots=True)
class Adjustments:
    """Recurring lines and percentages of advance records without an adjustment record: billed, num > 0, of unsettled
    orders.

    One row a line, sorted by (order_id, start_s). start_s, end_s: the period; num, den: the share billed. Only orders
    that have an end or a suspension can differ from what was billed; others may be left out. Percentages of the
    period's arrears part may be among the rows. item: index into ShardInput.items. credited_minor: what credit notes
    took off amount_minor, with its sign.
    """

    order_id: Ints = field(default_factory=no_ints)
    start_s: Ints = field(default_factory=no_ints)
    end_s: Ints = field(default_factory=no_ints)
    num: Ints = field(default_factory=no_ints)
    den: Ints = field(default_factory=no_ints)
    item: Indices = field(default_factory=no_indices)
    amount_minor: Ints = field(default_factory=no_ints)
    tax_ppm: Ints = field(default_factory=no_ints)
    inside: Bytes = field(default_factory=no_bytes)
    credited_minor: Ints = field(default_factory=no_ints)


@dataclass(frozen=True, slots=True)
class AdvanceAmounts:
    """amount_minor of the advance records, and of their adjustments, of orders with a minimum, by (order_id, start_s).

    Those of periods whose arrears part is recorded may be left out.
    """

    order_id: Ints = field(default_factory=no_ints)
    start_s: Ints = field(default_factory=no_ints)
    amount_minor: Ints = field(default_factory=no_ints)


@dataclass(frozen=True, slots=True)
class Payers:
    """Every payer of the shard. currency: index into ShardInput.currencies. floor_minor: NO_FLOOR without one."""

    account_id: Ints
    currency: Indices
    legal_entity_id: Indices
    due_days: Indices
    balance_minor: Ints
    floor_minor: Ints


@dataclass(frozen=True, slots=True)
class ManualLines:
    """Open manual lines with bill_on not after the run's date, sorted by (payer_account_id, manual_line_id).

    day_s: local midnight of bill_on in the account's zone, shown as the line's period.
    """

    manual_line_id: Ints = field(default_factory=no_ints)
    payer_account_id: Ints = field(default_factory=no_ints)
    amount_minor: Ints = field(default_factory=no_ints)
    tax_ppm: Ints = field(default_factory=no_ints)
    inside: Bytes = field(default_factory=no_bytes)
    day_s: Ints = field(default_factory=no_ints)


@dataclass(frozen=True, slots=True)
class UsageEvents:
    """Usage within the windows asked for. item: index into ``items``, names of its own.

    counts_at_s: what was known by when: a run sees the events that count before the bound of usage it began with.

    destination: an Arrow array of strings, or None where no event has any.
    """

    account_id: Ints = field(default_factory=no_ints)
    item: Indices = field(default_factory=no_indices)
    at_s: Ints = field(default_factory=no_ints)
    counts_at_s: Ints = field(default_factory=no_ints)
    quantity_micro: Ints = field(default_factory=no_ints)
    duration_s: Ints = field(default_factory=no_ints)
    id: Ints = field(default_factory=no_ints)
    items: tuple[str, ...] = ()
    destination: Any = None


@dataclass(frozen=True, slots=True)
class LatePeriods:
    """Billed periods in arrears with usage that came later. order: row of Orders. start_s, end_s: the period on record.

    seen_s: usage that counts before it was billed already.
    """

    order: Ints = field(default_factory=no_ints)
    start_s: Ints = field(default_factory=no_ints)
    end_s: Ints = field(default_factory=no_ints)
    seen_s: Ints = field(default_factory=no_ints)


@dataclass(frozen=True, slots=True)
class CreditedLate:
    """Lines of a late period's kind, item and tax that credit notes took something off. start_s: of the period.

    kind: of KINDS; left_minor: what was billed of them, in the period's arrears and late parts, less the notes.
    """

    order_id: int
    start_s: int
    kind: str
    item: str
    tax_ppm: int
    inside: bool
    left_minor: int


@dataclass(frozen=True, slots=True)
class ShardInput:
    """All that a shard's bills follow from, but for prices. buyers: (group, number of a named customer or '').

    live: how many of the orders are unsettled; NONE: all. The settled ones stand behind them: an event belongs to the
    lowest order that covers it, settled or not, and orders of one period share its pools. late: periods that were
    billed before usage of them came. credited: what of those periods credit notes took back; notes are few.
    """

    bill_on: date
    orders: Orders
    payers: Payers
    currencies: tuple[str, ...]
    codes: tuple[tuple[str, ...], ...] = ((),)
    buyers: tuple[tuple[str, str], ...] = (("", ""),)
    items: tuple[str, ...] = ()
    suspensions: Suspensions = field(default_factory=Suspensions)
    adjustments: Adjustments = field(default_factory=Adjustments)
    advances: AdvanceAmounts = field(default_factory=AdvanceAmounts)
    manual: ManualLines = field(default_factory=ManualLines)
    events: UsageEvents = field(default_factory=UsageEvents)
    live: int = NONE
    late: LatePeriods = field(default_factory=LatePeriods)
    credited: tuple[CreditedLate, ...] = ()

    @property
    def live_orders(self) -> int:
        """How many of the orders are unsettled."""
        return len(self.orders.order_id) if self.live == NONE else self.live


@dataclass(frozen=True, slots=True)
class Range:
    """Accounts whose ids are in [first, last]."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Windows:
    """Usage a shard needs: at in [from_s, until_s) of the account; windows of an account do not overlap."""

    account_id: Ints
    from_s: Ints
    until_s: Ints


# ---- out


@dataclass(frozen=True, slots=True)
class PeriodColumns:
    """Rows of order_periods. part, reason: codes of PARTS and REASONS (BILLED: outcome 'billed', else 'waived').

    invoice: index into the shard's invoices, NONE where waived.
    """

    order_id: Ints
    part: Bytes
    start_s: Ints
    end_s: Ints
    reason: Bytes
    num: Ints
    den: Ints
    amount_minor: Ints
    invoice: Ints


@dataclass(frozen=True, slots=True)
class LineColumns:
    """Rows of invoice_lines, by invoice and line.

    order_id, manual_line_id: NONE without one. item: index into ShardBill.items.
    """

    invoice: Ints
    line: Indices
    kind: Bytes
    order_id: Ints
    manual_line_id: Ints
    item: Indices
    start_s: Ints
    end_s: Ints
    quantity: Ints
    discount_minor: Ints
    amount_minor: Ints
    tax_ppm: Indices
    inside: Bytes
    net_minor: Ints
    tax_minor: Ints


@dataclass(frozen=True, slots=True)
class InvoiceColumns:
    """Invoices, by account_id. payer: index into ShardInput.payers, which knows currency, series and due days."""

    payer: Ints
    account_id: Ints
    net_minor: Ints
    tax_minor: Ints
    total_minor: Ints


@dataclass(frozen=True, slots=True)
class Failure:
    """A row of bill_failures. order_id, start_s, part: NONE, NONE, '' for a whole payer or a line by hand.

    amount_minor: of what a balance does not bear, with tax; else None. usage_id: the first event that is at fault.
    """

    payer_account_id: int
    order_id: int
    start_s: int
    part: str
    reason: str
    detail: str
    amount_minor: int | None = None
    usage_id: int | None = None


@dataclass(frozen=True, slots=True)
class ManualBilled:
    """Manual lines that were billed, with the index of their invoice."""

    manual_line_id: Ints
    invoice: Ints


@dataclass(frozen=True, slots=True)
class Counts:
    """What a shard went through. events: that were billed."""

    payers: int
    orders: int
    events: int
    periods: int
    lines: int
    invoices: int


@dataclass(frozen=True, slots=True)
class ShardBill:
    """What a shard comes to. What failed is in ``failures`` only. items: names; 0 is ''."""

    periods: PeriodColumns
    lines: LineColumns
    invoices: InvoiceColumns
    manual: ManualBilled
    settled_order_ids: Ints
    failures: tuple[Failure, ...]
    items: tuple[str, ...]
    counts: Counts
