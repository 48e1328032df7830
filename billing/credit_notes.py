"""Corrections of issued invoices: credit notes, and payments told which invoice they are for.

Rules.
 1. An issued invoice never changes. A credit note is an invoice with negative sums that names it, numbered without gaps
    in the credit-note series of the same legal entity, and posted to the ledger in the same transaction.
 2. A line of a credit note has the number of the line it corrects. It takes off no more than all notes together left,
    and what a true-up gave back of a line billed in advance (unless notes took that back). Tax goes off in proportion,
    cumulatively: when all of a line is credited, exactly its tax is.
 3. One key acts once: a repeat answers with the note that stands, and another correction under its key is refused.
 4. True-ups give back no more than notes left either (billing.cycle_lines). So whoever credits an advance charge waits
    for a shard that may true it up, and sees what it did; a shard that has not begun waits for him.
 5. A payment is directed to an invoice at most up to its sum and to what the invoice still asks for; whatever nobody
    directs goes to the oldest.

The row of the series is locked first, so notes of one legal entity are written one after the other; then the ledger's
locks in their order. The billing cycle does not touch this series.

Does not know: why, how a note looks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from billing.accounts import system_account
from billing.invoices import Invoice, InvoiceError, invoice_id_of, invoices_by_id
from billing.ledger import Transfer, post_transfers
from billing.orders import wait_for_billing
from ratingcore.money import Minor, format_minor
from ratingcore.rounding import divide

KEY_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Creditable:
    """A line of an issued invoice: its net and tax, and what notes and true-ups took off them so far, in its sign."""

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
        return left if left * self.gross > 0 else 0  # a true-up's own tax may round a minor unit beyond the line's


@dataclass(frozen=True, slots=True)
class Credit:
    """What a note takes off a line: net and tax in minor units, with the line's own sign."""

    of: Creditable
    net: int
    tax: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to credit: these lines (None: all) of what is left of them, or ``amount`` of one line, tax included."""

    lines: tuple[int, ...] | None = None
    amount: Minor | None = None


_SERIES: Final = """
    SELECT s.id, s.next_number FROM numbered_invoices i
    JOIN invoice_series s ON s.legal_entity_id = i.legal_entity_id AND s.kind = 'credit_note'
    WHERE i.id = %(id)s
    FOR UPDATE OF s
"""

#: Whose shards may true up what an invoice charged in advance.
_TRUED_UP_BY: Final = """
    SELECT DISTINCT o.payer_account_id
    FROM invoice_lines l JOIN orders o ON o.id = l.order_id JOIN order_terms t ON t.id = o.terms_id
    WHERE l.invoice_id = %(id)s AND l.kind IN ('recurring', 'percentage') AND t.in_advance AND o.settled_at IS NULL
    ORDER BY 1
"""

_CREDITABLE: Final = """
    WITH taken AS (
        SELECT c.line, c.net_minor, c.tax_minor
        FROM invoices n JOIN invoice_lines c ON c.invoice_id = n.id
        WHERE n.corrects_id = %(id)s
        UNION ALL
        SELECT l.line, a.net_minor + g.net_minor, a.tax_minor + g.tax_minor
        FROM invoice_lines l
        JOIN order_periods p
          ON p.order_id = l.order_id AND p.part = 'advance' AND p.invoice_id = l.invoice_id
         AND p.period_start <= l.period_start AND l.period_start < p.period_end
        JOIN order_periods u ON u.order_id = p.order_id AND u.part = 'trueup' AND u.period_start = p.period_start
        JOIN invoice_lines a
          ON a.invoice_id = u.invoice_id AND a.kind = 'adjustment' AND a.order_id = l.order_id AND a.item = l.item
         AND a.period_start >= p.period_start AND a.period_start < p.period_end
         AND sign(a.amount_minor) = -sign(l.amount_minor)
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(c.net_minor), 0) AS net_minor, coalesce(sum(c.tax_minor), 0) AS tax_minor
            FROM invoices n JOIN invoice_lines c ON c.invoice_id = n.id AND c.line = a.line
            WHERE n.corrects_id = a.invoice_id
        ) g
        WHERE l.invoice_id = %(id)s AND l.kind IN ('recurring', 'percentage')
    )
    SELECT l.line, l.order_id, l.manual_line_id, l.item, l.period_start, l.period_end, l.quantity, l.tax_ppm,
           l.tax_inside, l.net_minor, l.tax_minor, -coalesce(sum(t.net_minor), 0)::bigint,
           -coalesce(sum(t.tax_minor), 0)::bigint
    FROM invoice_lines l LEFT JOIN taken t ON t.line = l.line
    WHERE l.invoice_id = %(id)s
    GROUP BY l.invoice_id, l.line
    ORDER BY l.line
"""

_BY_KEY: Final = """
    SELECT n.invoice_id, i.corrects_id FROM credit_notes n JOIN invoices i ON i.id = n.invoice_id WHERE n.key = %(key)s
"""

_CREDITED: Final = "SELECT line, -(net_minor + tax_minor) FROM invoice_lines WHERE invoice_id = %(id)s"

_TODAY: Final = """
    SELECT (now() AT TIME ZONE zone_or_utc((SELECT zone FROM billing_accounts WHERE account_id = %s)))::date
"""

_BLOCK: Final = """
    INSERT INTO invoice_blocks (series_id, invoices_count, state, first_number, issued_at)
    VALUES (%(series)s, 1, 'issued', %(number)s, now()) RETURNING id << 20
"""

_NEXT: Final = "UPDATE invoice_series SET next_number = next_number + 1 WHERE id = %(series)s"

_NOTE: Final = """
    INSERT INTO invoices (id, account_id, currency, invoiced_on, due_on, net_minor, tax_minor, total_minor, corrects_id)
    VALUES (%(id)s, %(account_id)s, %(currency)s, %(today)s, %(today)s, %(net)s, %(tax)s, %(net)s + %(tax)s,
            %(corrects)s)
"""

_WHY: Final = "INSERT INTO credit_notes (invoice_id, key, actor, why) VALUES (%(id)s, %(key)s, %(actor)s, %(why)s)"

_LINE: Final = """
    INSERT INTO invoice_lines (invoice_id, line, kind, order_id, manual_line_id, item, period_start, period_end,
                               quantity, discount_minor, amount_minor, tax_ppm, tax_inside, net_minor, tax_minor)
    VALUES (%(id)s, %(line)s, 'credit', %(order_id)s, %(manual_line_id)s, %(item)s, %(period_start)s, %(period_end)s,
            %(quantity)s, 0, %(amount)s, %(tax_ppm)s, %(tax_inside)s, %(net)s, %(tax)s)
"""

_PAYMENT: Final = """
    SELECT t.id, t.amount_minor - coalesce((
               SELECT sum(amount_minor) FROM payment_allocations WHERE transfer_id = t.id), 0),
           (SELECT amount_minor FROM payment_allocations WHERE transfer_id = t.id AND invoice_id = %(invoice_id)s),
           EXISTS (SELECT FROM transfers r
                   WHERE r.source = t.source AND r.source_id = t.source_id AND r.step = 'reverse')
    FROM transfers t
    WHERE t.credit_account_id = %(account_id)s AND t.source <> 'invoice'
      AND CASE WHEN %(payment_id)s::bigint IS NULL THEN t.id = %(transfer_id)s
               ELSE t.source = 'payment' AND t.source_id = %(payment_id)s END
    ORDER BY t.id DESC LIMIT 1
"""

_LOCK_ACCOUNT: Final = "SELECT FROM accounts WHERE id = %s FOR NO KEY UPDATE"

_ALLOCATE: Final = """
    INSERT INTO payment_allocations (transfer_id, invoice_id, amount_minor, actor) VALUES (%s, %s, %s, %s)
"""

_OPEN: Final = "SELECT open_minor FROM open_invoices WHERE id = %s"


async def credit_invoice(
    cur: Any, number: str, wanted: Wanted, *, key: str, actor: str, why: str
) -> tuple[Invoice, bool]:
    """Write a credit note; returns it, and False where the key wrote it before (nothing is done then).

    Args:
        cur: aiopg cursor inside the caller's READ COMMITTED transaction.
        number: of an issued invoice.

    Raises:
        InvoiceError: it cannot be credited so; roll back.
    """
    if not 1 <= len(key) <= KEY_MAX or not why.strip():
        raise InvoiceError(f"a credit note needs a key of 1 to {KEY_MAX} characters and a reason")
    original = await _one(cur, await invoice_id_of(cur, number))
    if original.corrects_id is not None:
        raise InvoiceError(f"{number} is a credit note itself")
    await cur.execute(_TRUED_UP_BY, {"id": original.id})
    await wait_for_billing(cur, [payer for (payer,) in await cur.fetchall()])
    await cur.execute(_SERIES, {"id": original.id})
    series = await cur.fetchone()
    if series is None:
        raise InvoiceError(f"the legal entity of {number} has no series of credit notes")
    await cur.execute(_BY_KEY, {"key": key})
    standing = await cur.fetchone()
    if standing is not None:
        if standing[1] != original.id:
            raise InvoiceError(f"key {key[:40]!r} wrote a credit note of another invoice")
        await _require_same(cur, standing[0], wanted, key)
        return await _one(cur, standing[0]), False
    await cur.execute(_CREDITABLE, {"id": original.id})
    credits = plan_credits([Creditable(*row) for row in await cur.fetchall()], wanted)
    note_id = await _write(cur, original, series, credits)
    await cur.execute(_WHY, {"id": note_id, "key": key, "actor": actor, "why": why.strip()})
    return await _one(cur, note_id), True


async def _require_same(cur: Any, note_id: int, wanted: Wanted, key: str) -> None:
    """Refuse a correction that a standing note cannot be: of other lines, or of another amount."""
    await cur.execute(_CREDITED, {"id": note_id})
    credited = dict(await cur.fetchall())
    is_other = wanted.lines is not None and set(wanted.lines) != set(credited)
    if is_other or (wanted.amount is not None and [int(one) for one in credited.values()] != [wanted.amount]):
        note = await _one(cur, note_id)
        told = ", ".join(f"{format_minor(amount)} of line {line}" for line, amount in sorted(credited.items())[:10])
        raise InvoiceError(
            f"key {key[:40]!r} wrote {note.number} before, which credits {told}: another needs its own key"
        )


def plan_credits(lines: Sequence[Creditable], wanted: Wanted) -> list[Credit]:
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
    tax = min(max(tax, min(0, gross)), max(0, gross))  # a true-up's own tax may have been rounded otherwise
    return Credit(one, gross - tax, tax)


async def _write(cur: Any, original: Invoice, series: Sequence[int], credits: Iterable[Credit]) -> int:
    credits = list(credits)
    net, tax = (-sum(getattr(one, name) for one in credits) for name in ("net", "tax"))
    await cur.execute(_TODAY, (original.account_id,))
    today = (await cur.fetchone())[0]
    await cur.execute(_BLOCK, {"series": series[0], "number": series[1]})
    note_id = int((await cur.fetchone())[0])
    await cur.execute(_NEXT, {"series": series[0]})
    values = {"id": note_id, "account_id": original.account_id, "currency": original.currency, "today": today}
    await cur.execute(_NOTE, values | {"net": net, "tax": tax, "corrects": original.id})
    for one in credits:
        amount = -(one.net + one.tax) if one.of.tax_inside else -one.net
        line = {name: getattr(one.of, name) for name in _COPIED}
        await cur.execute(_LINE, line | {"id": note_id, "amount": amount, "net": -one.net, "tax": -one.tax})
    await _post(cur, note_id, original, net, tax)
    return note_id


#: What a line of a note has in common with the line it corrects.
_COPIED: Final = (
    "line", "order_id", "manual_line_id", "item", "period_start", "period_end", "quantity", "tax_ppm", "tax_inside",
)  # fmt: skip


async def _post(cur: Any, note_id: int, original: Invoice, net: int, tax: int) -> None:
    """The note's transfers: a negative sum goes from the system account back to the payer."""
    transfers = []
    for step, amount in (("revenue", net), ("tax", tax)):
        if amount:
            other = await system_account(cur, step, "", original.currency)
            debit, credit = (original.account_id, other) if amount > 0 else (other, original.account_id)
            key = ("invoice", note_id, step)
            transfers.append(Transfer(*key, debit, credit, Minor(abs(amount)), original.currency))
    posting = await post_transfers(cur, transfers)
    if posting.refused:
        raise InvoiceError(f"the ledger refused: {posting.refused[0][1].value.replace('_', ' ')}")


async def allocate_payment(
    cur: Any, number: str, amount: Minor | None, *, payment_id: int | None, transfer_id: int | None, actor: str
) -> tuple[Minor, bool]:
    """Direct a payment to an invoice of its account; returns the sum directed, and False where it was so before.

    Args:
        amount: None for as much as the payment has and the invoice asks for.
        payment_id, transfer_id: one of them; the payment, or the transfer that credited the account.

    Raises:
        InvoiceError: it cannot be directed so; roll back.
    """
    invoice = await _one(cur, await invoice_id_of(cur, number))
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


async def _one(cur: Any, invoice_id: int) -> Invoice:
    found = await invoices_by_id(cur, [invoice_id])
    if not found:
        raise InvoiceError(f"invoice {invoice_id} is void")
    return found[0]
