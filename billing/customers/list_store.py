"""The list of customers: what of them is shown, asked for and ordered by (billing.listing).

Rules. A row is a customer. Account, balance and currency shown are those of the first account; a search for them finds
customers with any such account, and sums are over all their accounts.

Does not know: words, pages.
"""

from typing import Final

from billing.listing.records import Field, ListSource, Search, Sums

_OF_ACCOUNTS: Final = """c.id IN (
    SELECT ob.customer_id FROM billing_accounts ob JOIN accounts oa ON oa.id = ob.account_id WHERE {})"""

CUSTOMER_ROWS: Final = ListSource(
    "customers",
    table="customers c",
    key="c.id",
    key_type="bigint",
    joins={
        "account": """
            LEFT JOIN LATERAL (
                SELECT b.account_id, b.legal_entity_id, b.zone, b.due_days FROM billing_accounts b
                WHERE b.customer_id = c.id ORDER BY b.account_id LIMIT 1) b ON true
            LEFT JOIN accounts a ON a.id = b.account_id""",
        "entity": "LEFT JOIN legal_entities e ON e.id = b.legal_entity_id",
        "parent": "LEFT JOIN customers p ON p.id = c.parent_id",
        "counts": """
            LEFT JOIN LATERAL (
                SELECT count(*) AS accounts, coalesce(sum(n.orders), 0)::bigint AS orders
                FROM billing_accounts cb LEFT JOIN LATERAL (
                    SELECT count(*) AS orders FROM orders co
                    WHERE co.account_id = cb.account_id AND co.settled_at IS NULL) n ON true
                WHERE cb.customer_id = c.id) n ON true""",
    },
    needs={"entity": ("account",)},
    fields={
        "number": Field("c.number", search=Search.CODE, is_ordered=True, is_quick=True),
        "name": Field("c.name", search=Search.WORDS, is_ordered=True, is_quick=True, is_null=True),
        "state": Field("c.state", search=Search.CHOICE),
        "group": Field("c.customer_group", search=Search.CODE, is_null=True),
        "account": Field(
            "a.number", ("account",), search=Search.CODE, is_quick=True, within=_OF_ACCOUNTS, asked="oa.number"
        ),
        "account_state": Field(
            "a.state", ("account",), search=Search.CHOICE, within=_OF_ACCOUNTS, asked="oa.state"
        ),
        "balance": Field(
            "a.balance_minor", ("account",), "bigint", Search.RANGE, within=_OF_ACCOUNTS, asked="oa.balance_minor"
        ),
        "currency": Field(
            "a.currency", ("account",), search=Search.CODE, within=_OF_ACCOUNTS, asked="oa.currency"
        ),
        "accounts": Field("n.accounts", ("counts",), "bigint", Search.RANGE, is_costly=True),
        "orders": Field("n.orders", ("counts",), "bigint", Search.RANGE, is_costly=True),
        "parent": Field("p.number", ("parent",), search=Search.CODE, is_null=True),
        "parent_name": Field("p.name", ("parent",)),
        "legal_entity": Field(
            "e.number", ("entity",), search=Search.CHOICE, asked="oe.number",
            within="""c.id IN (
                SELECT ob.customer_id FROM billing_accounts ob JOIN legal_entities oe ON oe.id = ob.legal_entity_id
                WHERE {})""",
        ),
        "legal_entity_name": Field("e.name", ("entity",)),
        "language": Field("c.language", search=Search.CHOICE),
        "phone": Field("coalesce(c.contacts ->> 'phone', '')", search=Search.CODE, is_null=True),
        "email": Field("coalesce(c.contacts ->> 'email', '')", search=Search.CODE, is_null=True),
        "inn": Field("coalesce(c.details ->> 'inn', '')", search=Search.CODE, is_null=True),
        "created": Field("c.created_at", (), "timestamptz", Search.RANGE, is_ordered=True, is_quick=True),
    },
    sums=Sums(
        "sa.balance_minor", "sa.currency",
        "JOIN billing_accounts sb ON sb.customer_id = r.key JOIN accounts sa ON sa.id = sb.account_id",
    ),
    legal_entity="""EXISTS (
        SELECT FROM billing_accounts sb
        WHERE sb.customer_id = c.id AND sb.legal_entity_id = ANY(%(legal_entities)s::integer[]))""",
)  # fmt: skip
