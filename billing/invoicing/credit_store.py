"""Credit notes as rows: what of an invoice's lines is left, and the note that takes it off.

Rules. The row of the series is locked first, so notes of one legal entity are written one after the other; then the
ledger's locks in their order. The billing cycle does not touch this series. Crediting an advance charge waits for a
running shard that may adjust it, and sees what that shard did; a shard that starts later waits for the note. One key
acts once.

Does not know: how much a note takes off (billing.invoicing.credit_notes), how it looks (documents).
"""

from collections.abc import Iterable, Sequence
from typing import Final

from billing.database.cursors import Cursor
from billing.database.locks import wait_for_billing
from billing.invoicing.credit_notes import KEY_MAX, Credit, Creditable, CreditRequest, plan_credits
from billing.invoicing.invoices import Invoice, InvoiceError
from billing.invoicing.store import invoice_by_id, invoice_id_of
from billing.ledger.account_store import system_account
from billing.ledger.transfer_store import post_transfers
from billing.ledger.transfers import Transfer
from ratingcore.money import Minor, format_minor

_SERIES: Final = """
    SELECT s.id, s.next_number FROM numbered_invoices i
    JOIN invoice_series s ON s.legal_entity_id = i.legal_entity_id AND s.kind = 'credit_note'
    WHERE i.id = %(id)s
    FOR UPDATE OF s
"""

#: Whose shards may lower what an invoice charged: an adjustment, or late usage, which goes to today's payer.
_LOWERED_BY: Final = """
    SELECT DISTINCT p.payer_account_id
    FROM billed_lines l JOIN orders o ON o.id = l.order_id
    LEFT JOIN billing_accounts b ON b.account_id = o.account_id
    CROSS JOIN LATERAL (VALUES (o.payer_account_id), (b.payer_account_id)) AS p (payer_account_id)
    WHERE l.invoice_id = %(id)s AND l.kind IN ('recurring', 'usage', 'percentage', 'minimum')
      AND p.payer_account_id IS NOT NULL
    ORDER BY 1
"""

#: Late usage that lowers lines of one kind, item and tax takes off them in their order, each up to what notes left.
_CREDITABLE: Final = """
    WITH beside AS (
        SELECT l.line, a.amount_minor >= 0 AS is_more, a.net_minor + g.net_minor AS net_minor,
               a.tax_minor + g.tax_minor AS tax_minor, (a.invoice_id, a.line) < (l.invoice_id, l.line) AS is_before,
               a.invoice_id = l.invoice_id AND a.line = l.line AS is_self
        FROM billed_lines l
        JOIN recorded_periods p
          ON p.order_id = l.order_id AND p.part IN ('arrears', 'late') AND p.invoice_id = l.invoice_id
         AND p.period_start <= l.period_start AND l.period_start < p.period_end
        JOIN recorded_periods u
          ON u.order_id = p.order_id AND u.part IN ('arrears', 'late') AND u.period_start = p.period_start
        JOIN billed_lines a
          ON a.invoice_id = u.invoice_id AND a.order_id = l.order_id
         AND (a.kind, a.item, a.tax_ppm, a.tax_inside) = (l.kind, l.item, l.tax_ppm, l.tax_inside)
         AND a.period_start >= p.period_start AND a.period_start < p.period_end
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(c.net_minor), 0) AS net_minor, coalesce(sum(c.tax_minor), 0) AS tax_minor
            FROM invoices n JOIN billed_lines c ON c.invoice_id = n.id AND c.line = a.line
            WHERE n.corrects_id = a.invoice_id
        ) g
        WHERE l.invoice_id = %(id)s AND l.kind IN ('recurring', 'usage', 'percentage', 'minimum') AND l.amount_minor > 0
    ), lowered AS (
        SELECT line, coalesce(abs(sum(net_minor + tax_minor) FILTER (WHERE is_self)), 0) AS room,
               coalesce(abs(sum(net_minor + tax_minor) FILTER (WHERE is_more AND is_before)), 0) AS before,
               coalesce(abs(sum(net_minor + tax_minor) FILTER (WHERE NOT is_more)), 0) AS back,
               coalesce(abs(sum(tax_minor) FILTER (WHERE NOT is_more)), 0) AS back_tax
        FROM beside GROUP BY line
    ), late AS (
        SELECT line, back, back_tax, least(room, greatest(0, back - before)) AS off FROM lowered WHERE back > 0
    ), taken AS (
        SELECT c.line, c.net_minor, c.tax_minor
        FROM invoices n JOIN billed_lines c ON c.invoice_id = n.id
        WHERE n.corrects_id = %(id)s
        UNION ALL
        SELECT l.line, a.net_minor + g.net_minor, a.tax_minor + g.tax_minor
        FROM billed_lines l
        JOIN recorded_periods p
          ON p.order_id = l.order_id AND p.part = 'advance' AND p.invoice_id = l.invoice_id
         AND p.period_start <= l.period_start AND l.period_start < p.period_end
        JOIN recorded_periods u ON u.order_id = p.order_id AND u.part = 'adjustment' AND u.period_start = p.period_start
        JOIN billed_lines a
          ON a.invoice_id = u.invoice_id AND a.kind = 'adjustment' AND a.order_id = l.order_id AND a.item = l.item
         AND a.period_start >= p.period_start AND a.period_start < p.period_end
         AND sign(a.amount_minor) = -sign(l.amount_minor)
        CROSS JOIN LATERAL (
            SELECT coalesce(sum(c.net_minor), 0) AS net_minor, coalesce(sum(c.tax_minor), 0) AS tax_minor
            FROM invoices n JOIN billed_lines c ON c.invoice_id = n.id AND c.line = a.line
            WHERE n.corrects_id = a.invoice_id
        ) g
        WHERE l.invoice_id = %(id)s AND l.kind IN ('recurring', 'percentage')
        UNION ALL
        SELECT line, round(back_tax * off / back) - off, -round(back_tax * off / back)
        FROM late WHERE off > 0
    )
    SELECT l.line, l.order_id, l.manual_line_id, l.item, l.period_start, l.period_end, l.quantity, l.tax_ppm,
           l.tax_inside, l.net_minor, l.tax_minor, -coalesce(sum(t.net_minor), 0)::bigint,
           -coalesce(sum(t.tax_minor), 0)::bigint
    FROM billed_lines l LEFT JOIN taken t ON t.line = l.line
    WHERE l.invoice_id = %(id)s
    GROUP BY l.line, l.order_id, l.manual_line_id, l.item, l.period_start, l.period_end, l.quantity, l.tax_ppm,
             l.tax_inside, l.net_minor, l.tax_minor
    ORDER BY l.line
"""

_BY_KEY: Final = """
    SELECT n.invoice_id, i.corrects_id FROM credit_notes n JOIN invoices i ON i.id = n.invoice_id WHERE n.key = %(key)s
"""

_CREDITED: Final = "SELECT line, -(net_minor + tax_minor) FROM billed_lines WHERE invoice_id = %(id)s"

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


async def credit_invoice(
    cur: Cursor, number: str, wanted: CreditRequest, *, key: str, actor: str, why: str
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
    original = await invoice_by_id(cur, await invoice_id_of(cur, number))
    if original.corrects_id is not None:
        raise InvoiceError(f"{number} is a credit note itself")
    await cur.execute(_LOWERED_BY, {"id": original.id})
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
        return await invoice_by_id(cur, standing[0]), False
    await cur.execute(_CREDITABLE, {"id": original.id})
    credits = plan_credits([Creditable(*row) for row in await cur.fetchall()], wanted)
    note_id = await _write(cur, original, series, credits)
    await cur.execute(_WHY, {"id": note_id, "key": key, "actor": actor, "why": why.strip()})
    return await invoice_by_id(cur, note_id), True


async def _require_same(cur: Cursor, note_id: int, wanted: CreditRequest, key: str) -> None:
    """Refuse a correction that a standing note cannot be: of other lines, or of another amount."""
    await cur.execute(_CREDITED, {"id": note_id})
    credited = dict(await cur.fetchall())
    is_other = wanted.lines is not None and set(wanted.lines) != set(credited)
    if is_other or (wanted.amount is not None and [int(one) for one in credited.values()] != [wanted.amount]):
        note = await invoice_by_id(cur, note_id)
        told = ", ".join(f"{format_minor(amount)} of line {line}" for line, amount in sorted(credited.items())[:10])
        raise InvoiceError(
            f"key {key[:40]!r} wrote {note.number} before, which credits {told}: another needs its own key"
        )


async def _write(cur: Cursor, original: Invoice, series: Sequence[int], credits: Iterable[Credit]) -> int:
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


async def _post(cur: Cursor, note_id: int, original: Invoice, net: int, tax: int) -> None:
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
