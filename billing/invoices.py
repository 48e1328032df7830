"""Invoices as they stand: found, listed, with what is unpaid of each, and with everything that a document shows.

Rules.
 1. The state of an invoice is derived, never stored. Draft: its block is not issued. Credited: its credit notes cover
    it. Paid: nothing of it is unpaid. Overdue: unpaid, and the due date has passed in the account's zone. Else issued.
 2. The ledger says what is owed. Payments that somebody directed (payment_allocations) go where they were told; what is
    left goes to the oldest, so the debt lies on the newest: by due date, then by id (``apply_payments``). A debt that
    no invoice tells of (a posting by hand) stays beside them.
 3. An invoice's previous balance is the account's up to the last transfer of the invoice before it, in the order of
    transfers. Previous balance + payments + corrections - total is the balance after it, always.
 4. A name is in the customer's language and of the catalogue version that the run billed by.
 5. Seller and buyer of an issued document are those of the moment it was issued; of a draft, those of today.

Does not know: how documents look (documents), how credit notes are written (credit_notes), steps of ageing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Final

from ratingcore.money import Minor

#: Most invoices one page of a list holds, and most whose details are read at once.
MAX_LISTED: Final = 10_000
MAX_DETAILED: Final = 500


class InvoiceError(ValueError):
    """A clear sentence for whoever asked for the impossible; nothing was changed."""


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

    names, plan_names: by language, empty where a line has none. period_start, period_end: of what the line is for.
    quantity: in steps of 10**-decimals of the unit. share: (active, whole) of the period by its proration, or None.
    account: whose order it is. description: of a line written by a person. amount: before tax on top. is_taxed: False
    where no tax is charged at all, which is not a rate of nothing.
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
    for one in sorted(invoices, key=lambda one: (one.due_on, one.id), reverse=True):
        unpaid[one.id] = Minor(min(one.open, left))
        left -= unpaid[one.id]
    return Applied(unpaid, Minor(left))


#: What is not void. Overdue: by the present date in the account's zone.
_INVOICES: Final = """
    SELECT i.id, coalesce(i.full_number, ''), i.kind, i.account_id, a.number, coalesce(nullif(c.name, ''), a.name),
           i.currency, i.invoiced_on, i.due_on, i.net_minor, i.tax_minor, i.total_minor, -coalesce(o.credited_minor, 0),
           u.unpaid_minor,
           CASE WHEN i.block_state <> 'issued' THEN 'draft'
                WHEN i.total_minor > 0 AND i.total_minor + coalesce(o.credited_minor, 0) <= 0 THEN 'credited'
                WHEN i.corrects_id IS NOT NULL THEN 'issued'
                WHEN u.unpaid_minor = 0 THEN 'paid'
                WHEN i.due_on < (now() AT TIME ZONE zone_or_utc(b.zone))::date THEN 'overdue'
                ELSE 'issued' END AS state,
           i.run_id, i.corrects_id
    FROM numbered_invoices i
    JOIN accounts a ON a.id = i.account_id
    LEFT JOIN billing_accounts b ON b.account_id = i.account_id
    LEFT JOIN customers c ON c.id = b.customer_id
    LEFT JOIN LATERAL (SELECT o.open_minor, o.credited_minor FROM open_invoices o WHERE o.id = i.id) o ON true
    CROSS JOIN LATERAL (
        SELECT CASE WHEN a.balance_minor >= 0 OR coalesce(o.open_minor, 0) = 0 THEN 0
                    ELSE greatest(0, least(o.open_minor, -a.balance_minor - coalesce((
                        SELECT sum(n.open_minor) FROM open_invoices n
                        WHERE n.account_id = i.account_id AND (n.due_on, n.id) > (i.due_on, i.id)), 0)))::bigint
               END AS unpaid_minor
    ) u
    WHERE i.block_state <> 'void'
"""

_LIST: Final = f"""
    SELECT * FROM ({_INVOICES}
      AND (%(account)s::text IS NULL OR a.number = %(account)s)
      AND (%(run_id)s::int IS NULL OR i.run_id = %(run_id)s)
      AND (%(kind)s::text IS NULL OR i.kind = %(kind)s)
      AND (%(since)s::date IS NULL OR i.invoiced_on >= %(since)s)
      AND (%(until)s::date IS NULL OR i.invoiced_on <= %(until)s)
      AND (%(before_id)s::bigint IS NULL OR i.id < %(before_id)s)
    ) found
    WHERE %(state)s::text IS NULL OR state = %(state)s
    ORDER BY id DESC LIMIT %(limit)s
"""

_BY_IDS: Final = f"SELECT * FROM ({_INVOICES} AND i.id = ANY(%(ids)s::bigint[])) found ORDER BY id"

#: A number is a prefix and digits: the series of that prefix, the block that holds the number, the place in it.
_ID_OF_NUMBER: Final = """
    SELECT (b.id << 20) + (n.number - b.first_number)
    FROM invoice_series s
    CROSS JOIN LATERAL (SELECT substr(%(number)s, length(s.prefix) + 1) AS digits) d
    CROSS JOIN LATERAL (SELECT CASE WHEN d.digits ~ '^[0-9]{1,18}$' THEN d.digits::bigint END AS number) n
    JOIN invoice_blocks b ON b.series_id = s.id AND b.state = 'issued'
     AND n.number >= b.first_number AND n.number < b.first_number + b.invoices_count
    WHERE starts_with(%(number)s, s.prefix)
      AND d.digits = lpad(n.number::text, greatest(s.digits, length(n.number::text)), '0')
"""

_IDS_OF_RUN: Final = """
    SELECT i.id FROM invoice_blocks b JOIN invoices i ON i.id >= b.id << 20 AND i.id < (b.id + 1) << 20
    WHERE b.run_id = %(run_id)s AND b.state <> 'void' AND i.id > %(after)s
    ORDER BY i.id LIMIT %(limit)s
"""

_OPEN: Final = "SELECT id, due_on, open_minor FROM open_invoices WHERE account_id = %(account_id)s"

#: Of a party a version is what stood until it was replaced: the first that was replaced after the invoice was issued,
#: or what stands now. A draft has no such time, so it gets what stands now.
_HEADS: Final = """
    SELECT i.id, i.issued_at, coalesce(lv.name, l.name), coalesce(lv.details, l.details),
           coalesce(nullif(coalesce(cv.name, c.name), ''), av.name, a.name), coalesce(cv.contacts, c.contacts, '{}'),
           coalesce(cv.details, c.details, '{}'), coalesce(cv.language, c.language, 'ru'), coalesce(o.full_number, ''),
           o.invoiced_on, coalesce(n.why, '')
    FROM numbered_invoices i
    JOIN accounts a ON a.id = i.account_id
    JOIN legal_entities l ON l.id = i.legal_entity_id
    LEFT JOIN billing_accounts b ON b.account_id = i.account_id
    LEFT JOIN customers c ON c.id = b.customer_id
    LEFT JOIN LATERAL (SELECT * FROM legal_entity_versions v WHERE v.legal_entity_id = l.id AND v.until_at > i.issued_at
                       ORDER BY v.until_at LIMIT 1) lv ON true
    LEFT JOIN LATERAL (SELECT * FROM customer_versions v WHERE v.customer_id = c.id AND v.until_at > i.issued_at
                       ORDER BY v.until_at LIMIT 1) cv ON true
    LEFT JOIN LATERAL (SELECT * FROM account_versions v WHERE v.account_id = a.id AND v.until_at > i.issued_at
                       ORDER BY v.until_at LIMIT 1) av ON true
    LEFT JOIN numbered_invoices o ON o.id = i.corrects_id
    LEFT JOIN credit_notes n ON n.invoice_id = i.id
    WHERE i.id = ANY(%(ids)s::bigint[])
"""

#: A credit note is billed by no run: its lines are named as those that they correct. Of lines at a rate of nothing: an
#: item with a tax class has that rate, one without is not taxed; a minimum is as its plan, untaxed where all of it is;
#: and who writes a line by hand with 0 % says that there is no tax.
_LINES: Final = """
    SELECT l.invoice_id, l.line, l.kind, l.order_id, l.item, coalesce(ci.names, '{}'), coalesce(cp.names, '{}'),
           coalesce(oa.number, ''), coalesce(m.description, ''), coalesce(ci.unit, ''), coalesce(ci.decimals, 0),
           coalesce(t.zone, ba.zone, 'UTC'), l.period_start, l.period_end, coalesce(t.proration, 'none'),
           p.active_num, p.active_den, l.quantity, l.discount_minor, l.amount_minor, l.tax_ppm, l.tax_inside,
           l.net_minor, l.tax_minor,
           l.tax_ppm > 0 OR CASE WHEN ci.number IS NOT NULL THEN ci.tax <> '' ELSE EXISTS (
               SELECT FROM catalogue_items pi
               WHERE pi.version_id = rc.version_id AND pi.tax <> '' AND pi.number = ANY(cp.items || t.item)) END
    FROM invoices i
    JOIN invoice_lines l ON l.invoice_id = i.id
    LEFT JOIN billing_accounts ba ON ba.account_id = i.account_id
    LEFT JOIN orders o ON o.id = l.order_id
    LEFT JOIN accounts oa ON oa.id = o.account_id
    LEFT JOIN order_terms t ON t.id = o.terms_id
    LEFT JOIN invoice_blocks b ON b.id = coalesce(i.corrects_id, i.id) >> 20
    LEFT JOIN bill_run_catalogues rc ON rc.run_id = b.run_id AND rc.catalogue_id = t.catalogue_id
    LEFT JOIN catalogue_items ci ON ci.version_id = rc.version_id AND ci.number = l.item
    LEFT JOIN catalogue_plans cp ON cp.version_id = rc.version_id AND cp.number = t.plan AND t.plan <> ''
    LEFT JOIN manual_lines m ON m.id = l.manual_line_id
    LEFT JOIN LATERAL (
        SELECT p.active_num, p.active_den FROM order_periods p
        WHERE l.kind = 'recurring' AND p.order_id = l.order_id AND p.invoice_id = l.invoice_id
          AND p.part = CASE WHEN t.in_advance THEN 'advance' ELSE 'arrears' END
          AND p.period_start <= l.period_start AND p.period_end > l.period_start
        LIMIT 1
    ) p ON true
    WHERE i.id = ANY(%(ids)s::bigint[])
    ORDER BY l.invoice_id, l.line
"""

#: Of a draft nothing is in the ledger yet: it comes after everything. An issued invoice of nothing has no transfers, so
#: the instant it was issued at stands for them. Transfers are summed in the order of their ids, as they were written.
_MONEY: Final = """
    WITH pairs AS (
        SELECT w.id, w.account_id, (
            SELECT p.id FROM invoices p JOIN invoice_blocks pb ON pb.id = p.id >> 20
            WHERE p.account_id = w.account_id AND p.id < w.id AND p.corrects_id IS NULL
              AND pb.state IN ('posted', 'issued')
            ORDER BY p.id DESC LIMIT 1) AS previous_id
        FROM invoices w WHERE w.id = ANY(%(ids)s::bigint[])
    ), cuts AS (
        SELECT i.id, coalesce(
            (SELECT max(t.id) FROM transfers t WHERE t.source = 'invoice' AND t.source_id = i.id),
            CASE WHEN b.state = 'issued' THEN coalesce((
                SELECT max(t.id) FROM transfers t
                WHERE i.account_id IN (t.debit_account_id, t.credit_account_id)
                  AND t.created_at <= b.issued_at), 0) END,
            9223372036854775807) AS last_id
        FROM invoices i JOIN invoice_blocks b ON b.id = i.id >> 20
        WHERE i.id IN (SELECT id FROM pairs UNION SELECT previous_id FROM pairs)
    )
    SELECT w.id,
           coalesce(sum(t.delta) FILTER (WHERE t.id <= f.last_id), 0)::bigint,
           coalesce(sum(t.delta) FILTER (WHERE t.id > coalesce(f.last_id, 0) AND t.source IN ('payment', 'manual')),
                    0)::bigint,
           coalesce(sum(t.delta) FILTER (WHERE t.id > coalesce(f.last_id, 0) AND t.source NOT IN ('payment', 'manual')
                    AND NOT (t.source = 'invoice' AND t.source_id = w.id)), 0)::bigint
    FROM pairs w
    JOIN cuts c ON c.id = w.id
    LEFT JOIN cuts f ON f.id = w.previous_id
    LEFT JOIN LATERAL (
        SELECT id, source, source_id, amount_minor AS delta FROM transfers
        WHERE credit_account_id = w.account_id AND id <= c.last_id
        UNION ALL
        SELECT id, source, source_id, -amount_minor FROM transfers
        WHERE debit_account_id = w.account_id AND id <= c.last_id
    ) t ON true
    GROUP BY w.id
"""


async def list_invoices(cur: Any, wanted: InvoiceFilter, limit: int) -> list[Invoice]:
    """Invoices and credit notes, the newest first; at most MAX_LISTED of them.

    Raises:
        InvoiceError: there is no such account.
    """
    if wanted.account is not None:
        await cur.execute("SELECT FROM accounts WHERE number = %s", (wanted.account,))
        if await cur.fetchone() is None:
            raise InvoiceError(f"there is no account {wanted.account[:40]!r}")
    values = {
        "account": wanted.account,
        "state": wanted.state.value if wanted.state else None,
        "kind": wanted.kind,
        "run_id": wanted.run_id,
        "since": wanted.since,
        "until": wanted.until,
        "before_id": wanted.before_id,
        "limit": min(limit, MAX_LISTED),
    }
    await cur.execute(_LIST, values)
    return [_invoice(row) for row in await cur.fetchall()]


async def invoice_id_of(cur: Any, number: str) -> int:
    """The id of an issued invoice or credit note with this number.

    Raises:
        InvoiceError: there is none.
    """
    await cur.execute(_ID_OF_NUMBER, {"number": number})
    row = await cur.fetchone()
    if row is None:
        raise InvoiceError(f"there is no invoice {number[:40]!r}")
    return int(row[0])


async def invoices_by_id(cur: Any, ids: Sequence[int]) -> list[Invoice]:
    """Those of these invoices that exist, by id."""
    await cur.execute(_BY_IDS, {"ids": list(ids)})
    return [_invoice(row) for row in await cur.fetchall()]


async def ids_of_run(cur: Any, run_id: int, after: int, limit: int) -> list[int]:
    """Ids of invoices of a billing run, ascending, those above ``after``."""
    await cur.execute(_IDS_OF_RUN, {"run_id": run_id, "after": after, "limit": limit})
    return [int(row[0]) for row in await cur.fetchall()]


async def open_invoices(cur: Any, account_id: int) -> list[OpenInvoice]:
    """What the invoices of an account ask for, posted ones included; credit notes are in what they correct."""
    await cur.execute(_OPEN, {"account_id": account_id})
    return [OpenInvoice(int(row[0]), row[1], Minor(int(row[2]))) for row in await cur.fetchall()]


async def invoice_details(cur: Any, ids: Sequence[int]) -> list[InvoiceDetails]:
    """Everything that documents of these invoices show, by id: four statements, however many they are.

    Raises:
        InvoiceError: more than MAX_DETAILED.
    """
    if len(ids) > MAX_DETAILED:
        raise InvoiceError(f"details of {len(ids)} invoices at once, at most {MAX_DETAILED}")
    found = await invoices_by_id(cur, ids)
    wanted = {"ids": list(ids)}
    await cur.execute(_HEADS, wanted)
    heads = {row[0]: row[1:] for row in await cur.fetchall()}
    await cur.execute(_LINES, wanted)
    lines: dict[int, list[Line]] = {}
    for row in await cur.fetchall():
        lines.setdefault(row[0], []).append(_line(row[1:]))
    await cur.execute(_MONEY, wanted)
    money = {row[0]: row[1:] for row in await cur.fetchall()}
    return [_details(one, heads[one.id], lines.get(one.id, []), money[one.id]) for one in found]


def _invoice(row: Any) -> Invoice:
    return Invoice(*(*row[:14], InvoiceState(row[14]), *row[15:]))


def _line(row: Any) -> Line:
    share = None if row[15] is None else (int(row[14]), int(row[15]))
    return Line(*(*row[:14], share, *row[16:]))


def _details(invoice: Invoice, head: Sequence[Any], lines: Sequence[Line], money: Sequence[Any]) -> InvoiceDetails:
    issued_at, seller, seller_details, buyer, contacts, details, language, corrects, corrects_on, why = head
    return InvoiceDetails(
        invoice,
        tuple(lines),
        Party(seller, _texts(seller_details)),
        Party(buyer, _texts(contacts) | _texts(details)),
        language,
        issued_at,
        corrects,
        corrects_on,
        why,
        *(Minor(int(value)) for value in money),
    )


def _texts(details: Mapping[str, Any]) -> dict[str, str]:
    """What people wrote into a JSON object, as text."""
    return {name: str(value) for name, value in details.items() if value not in (None, "")}
