"""What goes into a shard of the billing cycle and what comes out: columns, one record a table.

Rules. Every column is a NumPy array, one value a row; all columns of a record have one length. Times are UTC epoch
seconds, NEVER where there is no end. Money is minor units. What repeats is a code into a tuple beside it (items,
codes, buyers, PARTS, KINDS, REASONS). Nothing in here is changed once it is made.

Orders are sorted by (payer_account_id, order_id), payers by account_id, events by (account_id, at_s, id), the rest by
order_id or account; `bill_shard` refuses what is not.

The way of a shard: ``tariffs = prepare_tariffs(catalogues, terms)`` once a process and run (cycle_tariffs);
``due = find_due(shard, tariffs)`` and ``windows(due, shard, tariffs)``, the usage to read (cycle_due); then, with the
events put in by ``dataclasses.replace``, ``bill_shard(shard, tariffs, due)`` (cycle_lines).

Does not know: the database, what any of it costs.
"""

from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

import numpy as np

from ratingcore.arrays import Bytes, Indices, Ints

#: No end: above every instant, and far enough below 2^63 to be added to.
NEVER: Final = 2**62
#: Of a payer whose balance may fall without bound.
NO_FLOOR: Final = int(np.iinfo(np.int64).min)
#: In a column of times, prices or indexes: there is none.
NONE: Final = -1

#: Codes of order_periods.part, in the order in which an invoice shows them.
PARTS: Final = ("advance", "arrears", "once", "trueup")
ADVANCE, ARREARS, ONCE, TRUEUP = range(4)

#: Codes of invoice_lines.kind.
KINDS: Final = ("recurring", "usage", "one_time", "percentage", "minimum", "adjustment", "manual")
RECURRING, USAGE, ONE_TIME, PERCENTAGE, MINIMUM, ADJUSTMENT, MANUAL = range(7)

#: Codes of order_periods.reason; the first is that of what was billed.
REASONS: Final = ("", "trial", "suspended", "not_active", "nothing_to_bill")
BILLED, TRIAL, SUSPENDED, NOT_ACTIVE, NOTHING_TO_BILL = range(5)


@dataclass(frozen=True, slots=True)
class OrderTerms:
    """A row of order_terms."""

    catalogue_id: int
    plan: str
    item: str
    currency: str
    kind: str
    interval_unit: str
    interval_count: int
    anchor_day: int
    anchor_month: int
    zone: str
    in_advance: bool
    proration: str
    anchor_phase: int = 0


def no_ints() -> Ints:
    return np.zeros(0, np.int64)


def no_indices() -> Indices:
    return np.zeros(0, np.int32)


def no_bytes() -> Bytes:
    return np.zeros(0, np.uint8)


# ---- in


@dataclass(frozen=True, slots=True)
class Orders:
    """Unsettled orders of the shard's payers.

    trial_until_s: 0 without a trial. price_minor: NONE without a price of its own. codes: index into ShardInput.codes.
    buyer: index into ShardInput.buyers. advance_done_s, arrears_done_s: the end of the last recorded tile of the part,
    NONE before the first. once_done: 1 where a one-time order is recorded.
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
class SettledOrders:
    """Settled orders of accounts that have unsettled ones too, sorted by (account_id, order_id).

    An event belongs to the lowest order that covers it, so one that is billed and gone still keeps its usage from
    those that overlap it. Those that end before any window of usage begins may be left out.
    """

    account_id: Ints = field(default_factory=no_ints)
    order_id: Ints = field(default_factory=no_ints)
    terms_id: Indices = field(default_factory=no_indices)
    starts_s: Ints = field(default_factory=no_ints)
    ends_s: Ints = field(default_factory=no_ints)


@dataclass(frozen=True, slots=True)
class Suspensions:
    """Sorted by order_id, from_s. until_s: NEVER while it lasts."""

    order_id: Ints = field(default_factory=no_ints)
    from_s: Ints = field(default_factory=no_ints)
    until_s: Ints = field(default_factory=no_ints)


@dataclass(frozen=True, slots=True)
class TrueUps:
    """Recurring lines and percentages of advance records without a trueup record: billed, num > 0, of unsettled orders.

    One row a line, sorted by (order_id, start_s). start_s, end_s: the tile; num, den: the share billed. Only orders
    that have an end or a suspension can differ from what was billed; others may be left out. Percentages of the tile's
    arrears part may be among the rows. item: index into ShardInput.items. credited_minor: what credit notes took off
    amount_minor, with its sign.
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
    """amount_minor of the advance records, and of their true-ups, of orders with a minimum, by (order_id, start_s).

    Those of tiles whose arrears part is recorded may be left out.
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
class ShardInput:
    """All that a shard's bills follow from, but for prices. buyers: (group, number of a named customer or '')."""

    bill_on: date
    orders: Orders
    payers: Payers
    currencies: tuple[str, ...]
    codes: tuple[tuple[str, ...], ...] = ((),)
    buyers: tuple[tuple[str, str], ...] = (("", ""),)
    items: tuple[str, ...] = ()
    suspensions: Suspensions = field(default_factory=Suspensions)
    trueups: TrueUps = field(default_factory=TrueUps)
    advances: AdvanceAmounts = field(default_factory=AdvanceAmounts)
    manual: ManualLines = field(default_factory=ManualLines)
    settled: SettledOrders = field(default_factory=SettledOrders)
    events: UsageEvents = field(default_factory=UsageEvents)


@dataclass(frozen=True, slots=True)
class Windows:
    """Usage a shard needs: counts_at in [from_s, until_s) of the account; windows of an account do not overlap."""

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
    """A row of bill_failures. order_id, start_s, part: NONE, NONE, '' for a whole payer."""

    payer_account_id: int
    order_id: int
    start_s: int
    part: str
    reason: str
    detail: str


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
    """What a shard comes to. A payer with a failure is in ``failures`` only. items: names; 0 is ''."""

    periods: PeriodColumns
    lines: LineColumns
    invoices: InvoiceColumns
    manual: ManualBilled
    settled_order_ids: Ints
    failures: tuple[Failure, ...]
    items: tuple[str, ...]
    counts: Counts
