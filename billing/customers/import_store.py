"""The import of customers inside PostgreSQL: staging tables, what is set aside, what is added.

Rules. Lines go to import_texts as they are read; `set_aside_known` makes import_customers of them, with contacts and
details as documents. The tree of customers is locked from the first statement on. All is one transaction.

Does not know: files, which lines are good (billing.customers.importer). Functions take the caller's connection.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa

from billing.database.adbc import columns, do, rows
from billing.database.cursors import ColumnConnection
from billing.database.locks import hold_customer_tree_for_load
from billing.database.zones import UNKNOWN_ZONE
from billing.files.tables import BAD_TABLE, SESSION, Ints, set_aside, stage

_CONTENTS: Final = (
    *("name", "grp", "parent", "pays", "language", "contacts", "details"),
    *("account", "kind", "currency", "zone", "legal_entity", "due_days"),
)

_TABLES: Final = (
    BAD_TABLE,
    """CREATE TEMPORARY TABLE import_texts (
        line bigint, number text COLLATE "C", name text, grp text, parent text COLLATE "C", pays boolean, language text,
        person text, email text, phone text, address text, inn text, kpp text, account text COLLATE "C", kind text,
        currency text, zone text, legal_entity text, due_days bigint
    ) ON COMMIT DROP""",
    """CREATE TEMPORARY TABLE import_customers (
        line bigint, number text COLLATE "C", name text, grp text, parent text COLLATE "C", pays boolean, language text,
        contacts jsonb, details jsonb, account text COLLATE "C", kind text, currency text, zone text, legal_entity text,
        due_days bigint
    ) ON COMMIT DROP""",
)

_TAKE: Final = """
    INSERT INTO import_customers
    SELECT line, number, name, grp, parent, pays, language,
           jsonb_strip_nulls(jsonb_build_object('person', nullif(person, ''), 'email', nullif(email, ''),
                                                'phone', nullif(phone, ''), 'address', nullif(address, ''))),
           jsonb_strip_nulls(jsonb_build_object('inn', nullif(inn, ''), 'kpp', nullif(kpp, ''))),
           account, kind, currency, zone, legal_entity, due_days
    FROM import_texts
"""


def _row(table: str) -> str:
    return f"({', '.join(f'{table}.{name}' for name in _CONTENTS)})"


_LATER: Final = f"""
    WITH firsts AS (SELECT number, min(line) AS line FROM import_customers GROUP BY number HAVING count(*) > 1)
    SELECT s.line, CASE WHEN {_row("s")} IS DISTINCT FROM {_row("f")}
                   THEN 'customer ' || s.number || ' stands on line ' || f.line || ' already, and is not the same' END
    FROM firsts x
    JOIN import_customers f ON f.line = x.line
    JOIN import_customers s ON s.number = x.number AND s.line > x.line
"""

_STORED: Final = f"""
    WITH firsts AS (
        SELECT DISTINCT ON (b.customer_id) b.* FROM billing_accounts b
        JOIN customers c ON c.id = b.customer_id JOIN import_customers s ON s.number = c.number
        ORDER BY b.customer_id, b.account_id)
    SELECT s.line, CASE WHEN {_row("s")} IS DISTINCT FROM
        (c.name, c.customer_group, coalesce(p.number, ''), b.payer_account_id <> b.account_id, c.language, c.contacts,
         c.details, a.number, a.kind, a.currency, b.zone, e.number, b.due_days::bigint)
        THEN 'there is a customer ' || s.number || ' already, and it is not the same' END
    FROM import_customers s
    JOIN customers c ON c.number = s.number
    JOIN firsts b ON b.customer_id = c.id
    JOIN accounts a ON a.id = b.account_id
    JOIN legal_entities e ON e.id = b.legal_entity_id
    LEFT JOIN customers p ON p.id = c.parent_id
"""

_SAME_ACCOUNT: Final = """
    WITH firsts AS (SELECT account, min(line) AS line FROM import_customers GROUP BY account HAVING count(*) > 1)
    SELECT s.line, 'account ' || s.account || ' is that of line ' || x.line || ' already'
    FROM firsts x JOIN import_customers s ON s.account = x.account AND s.line > x.line
"""

_TAKEN: Final = """
    SELECT s.line, CASE WHEN k.is_system THEN 'account ' || s.account || ' is a system account'
                        WHEN c.id IS NOT NULL THEN 'account ' || s.account || ' belongs to customer ' || c.number
                        WHEN a.state = 'closed' THEN 'account ' || s.account || ' is closed'
                        ELSE 'account ' || s.account || ' is there already and is a ' || a.kind || ' account in '
                             || a.currency END
    FROM import_customers s
    JOIN accounts a ON a.number = s.account
    JOIN account_kinds k ON k.kind = a.kind
    LEFT JOIN billing_accounts b ON b.account_id = a.id
    LEFT JOIN customers c ON c.id = b.customer_id
    WHERE k.is_system OR c.id IS NOT NULL OR a.state = 'closed' OR (a.kind, a.currency) <> (s.kind, s.currency)
"""

_UNKNOWN_ZONES: Final = f"""
    WITH unknown AS MATERIALIZED (
        SELECT zone FROM import_customers GROUP BY zone HAVING zone_or_utc(zone) <> zone)
    SELECT s.line, {UNKNOWN_ZONE} FROM import_customers s JOIN unknown u ON u.zone = s.zone
"""

_NO_ENTITY: Final = """
    SELECT s.line, 'there is no legal entity ' || s.legal_entity FROM import_customers s
    WHERE NOT EXISTS (SELECT FROM legal_entities e WHERE e.number = s.legal_entity)
"""

_NO_PARENT: Final = """
    SELECT s.line, 'there is no active customer ' || s.parent || ', or its line is bad' FROM import_customers s
    WHERE s.parent <> '' AND NOT EXISTS (SELECT FROM import_customers p WHERE p.number = s.parent)
      AND NOT EXISTS (SELECT FROM customers p WHERE p.number = s.parent AND p.state = 'active')
"""

#: The first account of stored parents in each currency.
_PARENTS: Final = """
    SELECT DISTINCT ON (c.number, a.currency) c.number, a.currency, b.account_id,
           b.payer_account_id = b.account_id AS pays_itself
    FROM customers c JOIN billing_accounts b ON b.customer_id = c.id JOIN accounts a ON a.id = b.account_id
    WHERE c.number IN (SELECT parent FROM import_customers WHERE pays)
    ORDER BY c.number, a.currency, b.account_id
"""

#: A payer for others pays for itself, in the same currency.
_NO_PAYER: Final = f"""
    SELECT s.line, 'parent ' || s.parent || ' has no account in ' || s.currency || ' from which it pays for itself,'
                   || ' so it cannot pay for others'
    FROM import_customers s
    LEFT JOIN import_customers p ON p.number = s.parent
    LEFT JOIN ({_PARENTS}) k ON k.number = s.parent AND k.currency = s.currency
    WHERE s.pays AND NOT coalesce(k.pays_itself, NOT p.pays AND p.currency = s.currency, false)
"""

_CHILDREN: Final = """
    SELECT s.line, p.line AS parent_line FROM import_customers s JOIN import_customers p ON p.number = s.parent
"""

_ADD: Final = (
    """INSERT INTO accounts (number, kind, currency, name)
       SELECT account, kind, currency, name FROM import_customers ORDER BY line ON CONFLICT (number) DO NOTHING""",
    """INSERT INTO customers (number, name, customer_group, language, contacts, details)
       SELECT number, name, grp, language, contacts, details FROM import_customers ORDER BY line""",
    """UPDATE customers c SET parent_id = p.id
       FROM import_customers s JOIN customers p ON p.number = s.parent WHERE c.number = s.number""",
    """INSERT INTO billing_accounts (account_id, customer_id, payer_account_id, legal_entity_id, zone, due_days)
       SELECT a.id, c.id, a.id, e.id, s.zone, s.due_days
       FROM import_customers s JOIN accounts a ON a.number = s.account JOIN customers c ON c.number = s.number
       JOIN legal_entities e ON e.number = s.legal_entity
       WHERE NOT s.pays ORDER BY a.id""",
    f"""INSERT INTO billing_accounts (account_id, customer_id, payer_account_id, legal_entity_id, zone, due_days)
       SELECT a.id, c.id, k.account_id, e.id, s.zone, s.due_days
       FROM import_customers s JOIN accounts a ON a.number = s.account JOIN customers c ON c.number = s.number
       JOIN legal_entities e ON e.number = s.legal_entity
       JOIN ({_PARENTS}) k ON k.number = s.parent AND k.currency = s.currency
       WHERE s.pays ORDER BY a.id""",
)

#: One entry for all: its time is the created_at of the customers.
_RECORD: Final = """
    INSERT INTO audit (actor, action, object_kind, detail)
    VALUES ($1, 'customers_imported', 'customer', $2::text::jsonb)
"""


def prepare(opened: ColumnConnection) -> None:
    """Lock the tree of customers and make the staging tables."""
    hold_customer_tree_for_load(opened)
    for statement in (*SESSION, *_TABLES):
        do(opened, statement)


def set_aside_known(opened: ColumnConnection) -> None:
    """Set aside lines that repeat, contradict or name what is not there, except parents."""
    do(opened, _TAKE)
    do(opened, "ANALYZE import_customers")
    for lines in (_LATER, _STORED, _SAME_ACCOUNT, _TAKEN, _NO_ENTITY, _UNKNOWN_ZONES):
        set_aside(opened, "import_customers", lines)


def lines_with_parents(opened: ColumnConnection) -> tuple[Ints, Ints]:
    """Lines whose parent is in the file as well, and the lines of those parents."""
    children = columns(opened, _CHILDREN)
    return np.asarray(children.column("line")), np.asarray(children.column("parent_line"))


def set_aside_circular(opened: ColumnConnection, lines: Ints) -> None:
    """Set aside lines whose parents form a circle."""
    if len(lines):
        reasons = pa.repeat("its parents form a circle", len(lines))
        stage(opened, "import_bad", pa.table({"line": lines, "reason": reasons}))
        do(opened, "DELETE FROM import_customers s USING import_bad b WHERE b.line = s.line")


def set_aside_without_parent(opened: ColumnConnection) -> None:
    """Set aside lines without their parent or a payer, until none is left: each may have been the parent of others."""
    left = -1
    while left != (left := int(rows(opened, "SELECT count(*) FROM import_customers")[0][0])):
        for lines in (_NO_PARENT, _NO_PAYER):
            set_aside(opened, "import_customers", lines)


def add_customers(opened: ColumnConnection) -> None:
    """Add what is left, with accounts and payers."""
    for statement in _ADD:
        do(opened, statement)


def record_import(opened: ColumnConnection, actor: str, detail: Mapping[str, Any]) -> None:
    """Write one entry of the audit record for all customers of a file."""
    do(opened, _RECORD, (actor, json.dumps(detail, ensure_ascii=False)))
