"""The list of orders: what of them is shown, asked for and ordered by (billing.listing).

Rules. The state is derived, at the present instant: an order is planned until it starts, then suspended while it
pauses, active, ended, and billed when the cycle is done with it; one whose end is its start never begins.

Does not know: words, pages.
"""

from typing import Final

from billing.listing.records import Field, ListSource, Search

ORDER_STATES: Final = ("planned", "active", "suspended", "ended", "billed", "cancelled")

_STATE: Final = """
    CASE WHEN o.ends_at = o.starts_at THEN 'cancelled'
         WHEN o.settled_at IS NOT NULL THEN 'billed'
         WHEN o.ends_at <= now() THEN 'ended'
         WHEN o.starts_at > now() THEN 'planned'
         WHEN EXISTS (SELECT FROM order_suspensions s WHERE s.order_id = o.id AND s.from_at <= now()
                      AND (s.until_at IS NULL OR s.until_at > now())) THEN 'suspended'
         ELSE 'active' END"""

_CUSTOMERS: Final = """o.account_id IN (
    SELECT ob.account_id FROM billing_accounts ob JOIN customers oc ON oc.id = ob.customer_id WHERE {})"""

ORDER_ROWS: Final = ListSource(
    "orders",
    table="orders o",
    key="o.id",
    key_type="bigint",
    joins={
        "terms": "JOIN order_terms t ON t.id = o.terms_id JOIN catalogues g ON g.id = t.catalogue_id",
        "account": "LEFT JOIN accounts a ON a.id = o.account_id",
        "payer": "LEFT JOIN accounts y ON y.id = o.payer_account_id",
        "customer": """
            LEFT JOIN billing_accounts b ON b.account_id = o.account_id
            LEFT JOIN customers c ON c.id = b.customer_id""",
        "payer_customer": """
            LEFT JOIN billing_accounts yb ON yb.account_id = o.payer_account_id
            LEFT JOIN customers yc ON yc.id = yb.customer_id""",
    },
    fields={
        "number": Field("coalesce(o.number, '#' || o.id)", search=Search.CODE, is_ordered=True, is_quick=True),
        "customer": Field(
            "c.name", ("customer",), search=Search.WORDS, is_quick=True, within=_CUSTOMERS, asked="oc.name"
        ),
        "customer_number": Field(
            "c.number", ("customer",), search=Search.CODE, is_quick=True, within=_CUSTOMERS, asked="oc.number"
        ),
        "account": Field(
            "a.number", ("account",), search=Search.CODE, is_quick=True, asked="oa.number",
            within="o.account_id IN (SELECT oa.id FROM accounts oa WHERE {})",
        ),
        "payer": Field(
            "y.number", ("payer",), search=Search.CODE, is_quick=True, asked="oa.number",
            within="o.payer_account_id IN (SELECT oa.id FROM accounts oa WHERE {})",
        ),
        "payer_name": Field("coalesce(nullif(yc.name, ''), y.name)", ("payer", "payer_customer")),
        "state": Field(
            _STATE, search=Search.CHOICE, is_costly=True,
            implied={
                "planned": "(o.settled_at IS NULL AND o.starts_at > now())",
                "active": "(o.settled_at IS NULL AND o.starts_at <= now())",
                "suspended": """o.id IN (SELECT s.order_id FROM order_suspensions s WHERE s.from_at <= now()
                                         AND (s.until_at IS NULL OR s.until_at > now()))""",
            },
        ),
        "catalogue": Field("g.name", ("terms",), search=Search.CODE),
        "plan": Field("t.plan || t.item", ("terms",), search=Search.CODE),
        "kind": Field("t.kind", ("terms",), search=Search.CHOICE),
        "period": Field("t.interval_unit", ("terms",), search=Search.CHOICE),
        "period_count": Field("t.interval_count", ("terms",), "integer"),
        "quantity": Field("o.quantity", (), "bigint", Search.RANGE),
        "price": Field("o.price_minor", (), "bigint", Search.RANGE, is_null=True),
        "minimum": Field("o.minimum_minor", (), "bigint", Search.RANGE),
        "currency": Field("t.currency", ("terms",), search=Search.CODE),
        "starts": Field("o.starts_at", (), "timestamptz", Search.RANGE, is_ordered=True, is_quick=True),
        "ends": Field("o.ends_at", (), "timestamptz", Search.RANGE, is_null=True),
        "trial_until": Field("o.trial_until", (), "timestamptz", Search.RANGE, is_null=True),
        "zone": Field("t.zone", ("terms",)),
        "created": Field("o.created_at", (), "timestamptz", Search.RANGE),
    },
    legal_entity="""EXISTS (
        SELECT FROM billing_accounts sb
        WHERE sb.account_id = o.payer_account_id AND sb.legal_entity_id = ANY(%(legal_entities)s::integer[]))""",
)  # fmt: skip
