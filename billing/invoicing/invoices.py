"""Invoices as they stand: records of a list and of a document, and how a debt lies on invoices.

Rules.
 1. The state of an invoice is derived, never stored. Draft: its block is not issued. Credited: its credit notes cover
    it. Paid: nothing of it is unpaid. Overdue: unpaid, and the due date has passed in the account's zone. Else issued.
 2. The ledger says what is owed. Payments that were directed to an invoice (payment_allocations) count for it; what is
    left goes to the oldest, so the debt lies on the newest: by due date, then by id (``apply_payments``). A debt that
    no invoice tells of (a posting by hand) stays beside them.
 3. An invoice's previous balance is the account's up to the last transfer of the invoice before it, in the order of
    transfers. Previous balance + payments + corrections - total is the balance after it, always.
 4. A name is in the customer's language and of the catalogue version that the run billed by.
 5. Seller and buyer of an issued document are those of the moment it was issued; of a draft, those of today.

Does not know: rows (store), how documents look (documents), credit notes (credit_notes), steps of dunning.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Final

from billing.refusals import Refusal
from ratingcore.money import Minor

#: Most invoices one page of a list holds, and most whose details are read at once.
MAX_LISTED: Final = 10_000
MAX_DETAILED: Final = 500


class InvoiceError(Refusal):
    """What was asked of invoices cannot be; nothing was changed."""

    default_code = "invoice_refused"


class InvoiceState(StrEnum):
    """What became of an invoice."""

    DRAFT = "draft"
    ISSUED = "issued"
    PAID = "paid"
    OVERDUE = "overdue"
    CREDITED = "credited"


@dataclass(frozen=True, slots=True)
class OpenInvoice:
    """What an invoice asks for. open: its total less its credit notes and payments directed to it, never negative."""

    id: int
    due_on: date
    open: Minor


@dataclass(frozen=True, slots=True)
class Applied:
    """unpaid: minor units by invoice id; not_invoiced: the part of the debt that lies on no invoice."""

    unpaid: Mapping[int, Minor]
    not_invoiced: Minor


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice or credit note in a list. number: empty for a draft. credited: what its credit notes took off."""

    id: int
    number: str
    kind: str
    account_id: int
    account: str
    customer: str
    currency: str
    invoiced_on: date
    due_on: date
    net: Minor
    tax: Minor
    total: Minor
    credited: Minor
    unpaid: Minor
    state: InvoiceState
    run_id: int | None
    corrects_id: int | None


@dataclass(frozen=True, slots=True)
class InvoiceFilter:
    """Which invoices. None: no matter. before_id: those made before this one, for the next page."""

    account: str | None = None
    state: InvoiceState | None = None
    kind: str | None = None
    run_id: int | None = None
    since: date | None = None
    until: date | None = None
    before_id: int | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A line as a document shows it.

    names, plan_names, unit_names: by language, empty where a line has none. period_start, period_end: of what the line
    is for. quantity: in steps of 10**-decimals of the unit. share: (active, whole) of the period by its proration, or
    None. account: whose order it is. description: of a line written by a person. amount: before tax on top. is_taxed:
    False where no tax is charged at all, which is not a rate of nothing.
    """

    line: int
    kind: str
    order_id: int | None
    item: str
    names: Mapping[str, str]
    plan_names: Mapping[str, str]
    account: str
    description: str
    unit: str
    decimals: int
    zone: str
    period_start: datetime
    period_end: datetime
    proration: str
    share: tuple[int, int] | None
    quantity: int
    discount: Minor
    amount: Minor
    tax_ppm: int
    tax_inside: bool
    net: Minor
    tax: Minor
    is_taxed: bool
    unit_names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Party:
    """The seller or the buyer: its name and what is known of it (inn, kpp, address, bank, ...)."""

    name: str
    details: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class InvoiceDetails:
    """Everything a document shows.

    previous, payments, corrections: as in rule 3; ``balance_after`` is the account's balance with this invoice.
    """

    invoice: Invoice
    lines: tuple[Line, ...]
    seller: Party
    buyer: Party
    language: str
    issued_at: datetime | None
    corrects_number: str
    corrects_on: date | None
    why: str
    previous: Minor
    payments: Minor
    corrections: Minor
    #: Numbers of the credit notes that correct it, the oldest first.
    notes: tuple[str, ...] = ()

    @property
    def balance_after(self) -> Minor:
        """What the account has after this invoice; negative is to be paid."""
        return Minor(self.previous + self.payments + self.corrections - self.invoice.total)


def apply_payments(debt: int, invoices: Iterable[OpenInvoice]) -> Applied:
    """Lay a debt on invoices from the newest back, which is payments applied oldest first. Pure.

    Args:
        debt: what the account owes, in minor units; nothing or less leaves no invoice unpaid.
        invoices: of one account, in any order.
    """
    left = max(0, debt)
    unpaid: dict[int, Minor] = {}
    for invoice in sorted(invoices, key=lambda invoice: (invoice.due_on, invoice.id), reverse=True):
        unpaid[invoice.id] = Minor(min(invoice.open, left))
        left -= unpaid[invoice.id]
    return Applied(unpaid, Minor(left))


def draft_id_of(text: str) -> int | None:
    """The id of a draft as lists print it, None where the text is none. Pure.

    >>> draft_id_of("draft 6306457"), draft_id_of("6306457"), draft_id_of("I-000001")
    (6306457, 6306457, None)
    """
    digits = text.strip().lower().removeprefix("draft").strip()
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 19 else None
