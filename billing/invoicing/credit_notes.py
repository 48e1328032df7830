"""Credit notes, which correct issued invoices: what of a line is left, and what a note takes off which lines.

Rules.
 1. An issued invoice never changes. A credit note is an invoice with negative sums that names it, numbered without gaps
    in the credit-note series of the same legal entity, and posted to the ledger in the same transaction.
 2. A line of a credit note has the number of the line it corrects. It takes off no more than all notes together left,
    and what an adjustment gave back of a line billed in advance, or late usage of a line billed in arrears (unless
    notes took that back). Tax goes off in proportion, cumulatively: when all of a line is credited, exactly its tax is.
 3. One key acts once: a repeat answers with the note that stands, and another correction under its key is refused.
 4. Adjustments and late usage give back no more than notes left either (billing.charging). So a note on what an order
    was charged waits for a shard that may lower it, and sees what it did; a shard that has not begun waits for it.

Does not know: rows and locks (credit_store), payments directed to invoices (allocation_store), how a note looks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from billing.invoicing.invoices import InvoiceError
from ratingcore.money import Minor, format_minor
from ratingcore.rounding import divide

KEY_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Creditable:
    """A line of an issued invoice: its net and tax, and what notes and adjustments took off them so far, in its
    sign."""

    line: int
    order_id: int | None
    manual_line_id: int | None
    item: str
    period_start: datetime
    period_end: datetime
    quantity: int
    tax_ppm: int
    tax_inside: bool
    net: int
    tax: int
    credited_net: int
    credited_tax: int

    @property
    def gross(self) -> int:
        return self.net + self.tax

    @property
    def left(self) -> int:
        """What of the line, tax included, nothing has taken off yet."""
        left = self.gross - self.credited_net - self.credited_tax
        return left if left * self.gross > 0 else 0  # an adjustment's own tax may round a minor unit beyond the line's


@dataclass(frozen=True, slots=True)
class Credit:
    """What a note takes off a line: net and tax in minor units, with the line's own sign."""

    of: Creditable
    net: int
    tax: int


@dataclass(frozen=True, slots=True)
class CreditRequest:
    """What to credit: these lines (None: all) of what is left of them, or ``amount`` of one line, tax included."""

    lines: tuple[int, ...] | None = None
    amount: Minor | None = None


def plan_credits(lines: Sequence[Creditable], wanted: CreditRequest) -> list[Credit]:
    """What a note takes off which lines. Pure.

    Raises:
        InvoiceError: no such line, nothing left of what was asked for, or more asked than is left.
    """
    by_number = {one.line: one for one in lines}
    numbers = tuple(by_number) if wanted.lines is None else wanted.lines
    unknown = [str(one) for one in numbers if one not in by_number]
    if unknown:
        raise InvoiceError(f"the invoice has no line {', '.join(unknown)}")
    if len(set(numbers)) < len(numbers):
        raise InvoiceError("a line is named twice")
    if wanted.amount is not None:
        return [_part_of(by_number, numbers, wanted.amount)]
    empty = [str(one) for one in numbers if not by_number[one].left]
    if wanted.lines is not None and empty:
        raise InvoiceError(f"nothing is left to credit of line {', '.join(empty)}")
    credits = [_credit(by_number[one], by_number[one].left) for one in sorted(numbers) if by_number[one].left]
    if not credits:
        raise InvoiceError("nothing is left to credit")
    return credits


def _part_of(by_number: dict[int, Creditable], numbers: Sequence[int], amount: Minor) -> Credit:
    if len(numbers) != 1:
        raise InvoiceError("an amount is credited of one line: name it")
    one = by_number[numbers[0]]
    if amount <= 0:
        raise InvoiceError("the amount to credit must be more than nothing")
    if amount > one.left:
        raise InvoiceError(f"line {one.line} has {format_minor(max(0, one.left))} left to credit, tax included")
    return _credit(one, amount)


def _credit(one: Creditable, gross: int) -> Credit:
    """``gross`` of what is left of a line; its tax is that of all taken off so far, less what went before (rule 2)."""
    credited = one.credited_net + one.credited_tax + gross
    sign = 1 if one.gross > 0 else -1
    tax = divide(one.tax * credited * sign, abs(one.gross)) - one.credited_tax
    tax = min(max(tax, min(0, gross)), max(0, gross))  # an adjustment's own tax may have been rounded otherwise
    return Credit(one, gross - tax, tax)
