"""The list of invoices and credit notes: what of them is shown, asked for and ordered by (billing.listing).

Rules. What is void is not in it. The state and what is unpaid are those of billing.invoicing.invoices, derived by the
statement that lists. A number is found through its series and block, a run through its day, as no invoice
stores either.

Does not know: words, pages.
"""

from typing import Final

from billing.invoicing.invoices import InvoiceState
from billing.listing.records import Field, ListSource, Search, Sums

INVOICE_STATES: Final = tuple(state.value for state in InvoiceState)

#: What is unpaid, as in billing/invoicing/store.py.
_UNPAID: Final = """
    LEFT JOIN LATERAL (SELECT w.open_minor, w.credited_minor FROM open_invoices w WHERE w.id = i.id OFFSET 0) w ON true
    CROSS JOIN LATERAL (
        SELECT CASE WHEN a.balance_minor >= 0 OR coalesce(w.open_minor, 0) = 0 THEN 0
                    ELSE greatest(0, least(w.open_minor, -a.balance_minor - coalesce((
                        SELECT sum(n.open_minor) FROM open_invoices n
                        WHERE n.account_id = i.account_id AND (n.due_on, n.id) > (i.due_on, i.id)), 0)))::bigint
               END AS unpaid_minor
        OFFSET 0
    ) u"""

_STATE: Final = """
    CASE WHEN k.state <> 'issued' THEN 'draft'
         WHEN i.total_minor > 0 AND i.total_minor + coalesce(w.credited_minor, 0) <= 0 THEN 'credited'
         WHEN i.corrects_id IS NOT NULL THEN 'issued'
         WHEN u.unpaid_minor = 0 THEN 'paid'
         WHEN i.due_on < (now() AT TIME ZONE zone_or_utc(b.zone))::date THEN 'overdue'
         ELSE 'issued' END"""

_NUMBER: Final = """
    CASE WHEN k.state = 'issued' THEN s.prefix || lpad(
        (k.first_number + (i.id & 1048575))::text,
        greatest(s.digits, length((k.first_number + (i.id & 1048575))::text)), '0') ELSE '' END"""

_HAS_NUMBER: Final = """i.id IN (
    SELECT (nk.id << 20) + (n.number - nk.first_number)
    FROM invoice_series ns
    CROSS JOIN LATERAL (SELECT substr({0}, length(ns.prefix) + 1) AS digits) d
    CROSS JOIN LATERAL (SELECT CASE WHEN d.digits ~ '^[0-9]{{1,18}}$' THEN d.digits::bigint END AS number) n
    JOIN invoice_blocks nk ON nk.series_id = ns.id AND nk.state = 'issued'
     AND n.number >= nk.first_number AND n.number < nk.first_number + nk.invoices_count
    WHERE starts_with({0}, ns.prefix)
      AND d.digits = lpad(n.number::text, greatest(ns.digits, length(n.number::text)), '0'))"""

#: A run dates its invoices by its own day (billing/cycle/write_store.py).
_OF_RUN: Final = """(k.run_id = {0}::integer
    AND i.invoiced_on = (SELECT rr.bill_on FROM bill_runs rr WHERE rr.id = {0}::integer))"""

_DRAFTS: Final = """(k.state <> 'issued'
    AND i.id >= (SELECT min(dk.id) << 20 FROM invoice_blocks dk WHERE dk.state IN ('draft', 'posted'))
    AND i.id < (SELECT (max(dk.id) + 1) << 20 FROM invoice_blocks dk WHERE dk.state IN ('draft', 'posted')))"""

_IN_DEBT: Final = "i.account_id IN (SELECT da.id FROM accounts da WHERE da.balance_minor < 0)"

_CUSTOMERS: Final = """i.account_id IN (
    SELECT ob.account_id FROM billing_accounts ob JOIN customers oc ON oc.id = ob.customer_id WHERE {})"""

INVOICE_ROWS: Final = ListSource(
    "invoices",
    table="invoices i JOIN invoice_blocks k ON k.id = i.id >> 20 JOIN invoice_series s ON s.id = k.series_id",
    key="i.id",
    key_type="bigint",
    always="k.state <> 'void'",
    joins={
        "account": "LEFT JOIN accounts a ON a.id = i.account_id",
        "customer": """
            LEFT JOIN billing_accounts b ON b.account_id = i.account_id
            LEFT JOIN customers c ON c.id = b.customer_id""",
        "unpaid": _UNPAID,
        "entity": "LEFT JOIN legal_entities e ON e.id = s.legal_entity_id",
        "corrects": "LEFT JOIN numbered_invoices x ON x.id = i.corrects_id",
    },
    needs={"unpaid": ("account", "customer")},
    fields={
        "number": Field(_NUMBER, search=Search.CODE, equals=_HAS_NUMBER, is_quick=True),
        "kind": Field("s.kind", search=Search.CHOICE, implied={"credit_note": "i.corrects_id IS NOT NULL"}),
        "customer": Field(
            "coalesce(nullif(c.name, ''), a.name)", ("account", "customer"), search=Search.WORDS, is_quick=True,
            within=_CUSTOMERS, asked="oc.name",
        ),
        "customer_number": Field(
            "c.number", ("customer",), search=Search.CODE, is_quick=True, within=_CUSTOMERS, asked="oc.number"
        ),
        "account": Field(
            "a.number", ("account",), search=Search.CODE, is_quick=True, asked="oa.number",
            within="i.account_id IN (SELECT oa.id FROM accounts oa WHERE {})",
        ),
        "invoiced": Field("i.invoiced_on", (), "date", Search.RANGE, is_ordered=True, is_quick=True),
        "due": Field("i.due_on", (), "date", Search.RANGE, is_ordered=True, is_quick=True),
        "net": Field("i.net_minor", (), "bigint", Search.RANGE),
        "tax": Field("i.tax_minor", (), "bigint", Search.RANGE),
        "total": Field("i.total_minor", (), "bigint", Search.RANGE),
        "credited": Field("-coalesce(w.credited_minor, 0)", ("unpaid",), "bigint", Search.RANGE, is_costly=True),
        "unpaid": Field("u.unpaid_minor", ("unpaid",), "bigint", Search.RANGE, is_costly=True),
        "currency": Field("i.currency", search=Search.CODE),
        "state": Field(
            _STATE, ("unpaid",), search=Search.CHOICE, is_costly=True,
            implied={"draft": _DRAFTS, "overdue": f"({_IN_DEBT} AND i.due_on <= now()::date + 1)"},
        ),
        "run": Field("k.run_id", (), "integer", Search.CODE, equals=_OF_RUN, is_quick=True, is_null=True),
        "corrects": Field("x.full_number", ("corrects",)),
        "legal_entity": Field("e.number", ("entity",), search=Search.CHOICE),
        "legal_entity_name": Field("e.name", ("entity",)),
    },
    sums=Sums("i.total_minor", "i.currency"),
    legal_entity="s.legal_entity_id = ANY(%(legal_entities)s::integer[])",
)  # fmt: skip
