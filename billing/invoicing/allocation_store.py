"""Payments told which invoice they are for.

Rules. A payment is directed to an invoice at most up to what is left of it and to what the invoice still asks for;
what no one directs goes to the oldest. The account is locked first. The same again is nothing new.

Does not know: why, what a payment is (gateway).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from billing.database.cursors import Cursor
from billing.database.rows import records
from billing.invoicing.invoices import InvoiceError
from billing.invoicing.store import invoice_by_id, invoice_id_of
from ratingcore.money import Minor, format_minor

_PAYMENT: Final = """
    SELECT t.id,
           t.amount_minor - coalesce((
               SELECT sum(r.amount_minor) FROM posted_transfers r
               WHERE r.corrects_id = t.id AND r.source = 'manual' AND r.step IN ('move', 'refund')), 0)
           - coalesce((
               SELECT sum(p.amount_minor) FROM payment_allocations p JOIN posted_transfers o ON o.id = p.transfer_id
               WHERE (o.id = t.id AND p.amount_minor > 0) OR (o.corrects_id = t.id AND p.amount_minor < 0)), 0),
           (SELECT amount_minor FROM payment_allocations WHERE transfer_id = t.id AND invoice_id = %(invoice_id)s),
           EXISTS (SELECT FROM posted_transfers r
                   WHERE r.source = t.source AND r.source_id = t.source_id AND r.step = 'reverse')
    FROM posted_transfers t
    WHERE t.credit_account_id = %(account_id)s AND t.source <> 'invoice'
      AND CASE WHEN %(payment_id)s::bigint IS NULL THEN t.id = %(transfer_id)s
               ELSE t.source = 'payment' AND t.source_id = %(payment_id)s END
    ORDER BY t.id DESC LIMIT 1
"""

_LOCK_ACCOUNT: Final = "SELECT FROM accounts WHERE id = %s FOR NO KEY UPDATE"

_ALLOCATE: Final = """
    INSERT INTO payment_allocations (transfer_id, invoice_id, amount_minor, actor) VALUES (%s, %s, %s, %s)
"""

_OF_INVOICE: Final = """
    SELECT p.amount_minor, p.actor, p.created_at AS at, t.source,
           CASE WHEN t.source = 'payment' THEN t.source_id END AS payment_id
    FROM payment_allocations p JOIN posted_transfers t ON t.id = p.transfer_id
    WHERE p.invoice_id = %s ORDER BY p.id
"""

_OPEN: Final = "SELECT open_minor FROM open_invoices WHERE id = %s"


async def allocate_payment(
    cur: Cursor, number: str, amount: Minor | None, *, payment_id: int | None, transfer_id: int | None, actor: str
) -> tuple[Minor, bool]:
    """Direct a payment to an invoice of its account; returns the sum directed, and False where it was so before.

    Args:
        amount: None for as much as the payment has and the invoice asks for.
        payment_id, transfer_id: one of them; the payment, or the transfer that credited the account.

    Raises:
        InvoiceError: it cannot be directed so; roll back.
    """
    invoice = await invoice_by_id(cur, await invoice_id_of(cur, number))
    if invoice.corrects_id is not None:
        raise InvoiceError(f"{number} is a credit note: payments are for invoices")
    await cur.execute(_LOCK_ACCOUNT, (invoice.account_id,))
    values = {"invoice_id": invoice.id, "account_id": invoice.account_id}
    await cur.execute(_PAYMENT, values | {"payment_id": payment_id, "transfer_id": transfer_id})
    row = await cur.fetchone()
    if row is None:
        raise InvoiceError(f"account {invoice.account} has no such payment")
    transfer, undirected, standing, is_reversed = row
    if is_reversed:
        raise InvoiceError("that payment was reversed")
    if standing is not None:
        if amount not in (None, standing):
            raise InvoiceError(f"{format_minor(standing)} of that payment were directed to {number} already")
        return Minor(standing), False
    await cur.execute(_OPEN, (invoice.id,))
    asked = int((await cur.fetchone())[0])
    most = min(int(undirected), asked)
    if most <= 0 or (amount is not None and not 0 < amount <= most):
        left = f"the payment has {format_minor(int(undirected))} undirected, the invoice asks for {format_minor(asked)}"
        raise InvoiceError(f"at most {format_minor(max(0, most))} can be directed: {left}")
    await cur.execute(_ALLOCATE, (transfer, invoice.id, amount or most, actor))
    return Minor(amount or most), True


@dataclass(frozen=True, slots=True)
class Allocation:
    """Money that was told to go to an invoice. payment_id: None where it is no partner's payment."""

    amount_minor: int
    actor: str
    at: datetime
    source: str
    payment_id: int | None


async def allocations_of(cur: Cursor, invoice_id: int) -> list[Allocation]:
    """What was directed to an invoice, the oldest first; what nobody directs goes to the oldest invoice."""
    await cur.execute(_OF_INVOICE, (invoice_id,))
    return await records(cur, Allocation)
