"""Many customers from a CSV file, with their accounts, in columns and in one transaction.

Rules. A line means what ``kopeck customer add`` with the same words means, under the same rules
(customers.problem_with_customer). A number acts once: the first line of a number counts, the very same customer again
is nothing new, another under the same number is a bad line. A parent may stand anywhere in the file. What hangs on a
bad line is bad as well. The tree of customers is locked from the first statement on. What was added is one entry of the
audit record; the file is the record of each.

Does not know: the command line.
"""

import json
from typing import IO, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from billing.accounts import NAME_MAX
from billing.customers import (
    CONTACTS,
    DETAILS,
    LOCK_TREE,
    MAX_TEXT,
    CustomerError,
    NewCustomer,
    problem_with_customer,
)
from billing.cycle_link import columns, do, rows
from billing.import_columns import (
    BAD_TABLE,
    SESSION,
    BadLine,
    How,
    Ints,
    Loaded,
    Part,
    Problems,
    Steps,
    Target,
    coded,
    each,
    load_file,
    set_aside,
    stage,
    unprintable,
    whole_number,
    yes_or_no,
)
from billing.usage_bulk import connection
from billing.zones import UNKNOWN_ZONE

COLUMNS: Final = (
    *("number", "name", "group", "parent", "parent_pays", "language", *CONTACTS, *DETAILS),
    *("account", "kind", "currency", "zone", "legal_entity", "due_days"),
)
NEEDED: Final = ("number",)

_NONE: Final = NewCustomer("")
_NUMBER: Final = r"^[0-9A-Za-z._@+-]{1,64}$"
_ACCOUNT: Final = r"^[0-9A-Za-z._@+-]{1,30}$"

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
        THEN 'there is a customer ' || s.number || ' already, and he is not the same' END
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
    SELECT s.line, 'there is no active customer ' || s.parent || ', or his line is bad' FROM import_customers s
    WHERE s.parent <> '' AND NOT EXISTS (SELECT FROM import_customers p WHERE p.number = s.parent)
      AND NOT EXISTS (SELECT FROM customers p WHERE p.number = s.parent AND p.state = 'active')
"""

#: The first account of stored parents in each currency.
_PARENTS: Final = """
    SELECT DISTINCT ON (c.number, a.currency) c.number, a.currency, b.account_id,
           b.payer_account_id = b.account_id AS pays_himself
    FROM customers c JOIN billing_accounts b ON b.customer_id = c.id JOIN accounts a ON a.id = b.account_id
    WHERE c.number IN (SELECT parent FROM import_customers WHERE pays)
    ORDER BY c.number, a.currency, b.account_id
"""

#: Who pays for others pays for himself, in the same currency.
_NO_PAYER: Final = f"""
    SELECT s.line, 'parent ' || s.parent || ' has no account in ' || s.currency || ' from which he pays for himself,'
                   || ' so he cannot pay for others'
    FROM import_customers s
    LEFT JOIN import_customers p ON p.number = s.parent
    LEFT JOIN ({_PARENTS}) k ON k.number = s.parent AND k.currency = s.currency
    WHERE s.pays AND NOT coalesce(k.pays_himself, NOT p.pays AND p.currency = s.currency, false)
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


def import_customers(dsn: str, source: IO[bytes], how: How, actor: str, file_name: str = "") -> Loaded:
    """Load the customers of a file; actor and file_name: as on the audit record.

    Raises:
        ImportFileError: the file as a whole is wrong. UsageStoreError: the database refused. Nothing is kept then.
    """
    with connection(dsn) as opened:
        for statement in (*SESSION, LOCK_TREE, *_TABLES):
            do(opened, statement)

        def add(found: Loaded) -> None:
            for statement in _ADD:
                do(opened, statement)
            if found.added:
                detail = {"file": file_name, "lines": found.lines, "added": found.added}
                do(opened, _RECORD, (actor, json.dumps(detail, ensure_ascii=False)))

        target = Target(COLUMNS, NEEDED, "import_texts", "import_customers")
        return load_file(opened, source, target, Steps(_judge, lambda: _check(opened), add), how)


def _check(opened: Any) -> None:
    """Set aside whatever the database says is no new customer."""
    do(opened, _TAKE)
    do(opened, "ANALYZE import_customers")
    for found in (_LATER, _STORED, _SAME_ACCOUNT, _TAKEN, _NO_ENTITY, _UNKNOWN_ZONES):
        set_aside(opened, "import_customers", found)
    _set_aside_circles(opened)
    left = -1
    while left != (left := int(rows(opened, "SELECT count(*) FROM import_customers")[0][0])):
        for found in (_NO_PARENT, _NO_PAYER):  # a line that goes may have been the parent of others
            set_aside(opened, "import_customers", found)


def _set_aside_circles(opened: Any) -> None:
    """Lines that are, through parents of the file, their own parents, or stand below such."""
    found = columns(opened, _CHILDREN)
    lines, parents = (np.asarray(found.column(name)) for name in ("line", "parent_line"))
    circular = lines[below_circles(lines, parents)]
    if len(circular):
        named = pa.table({"line": circular, "reason": pa.repeat("its parents form a circle", len(circular))})
        stage(opened, "import_bad", named)
        do(opened, "DELETE FROM import_customers s USING import_bad b WHERE b.line = s.line")


def below_circles(children: Ints, parents: Ints) -> Any:
    """Rows (child, parent) whose way up never ends. Each step goes twice as far, so depth costs its logarithm."""
    order = np.argsort(children)
    place = np.searchsorted(children[order], parents)
    place = np.minimum(place, max(len(children) - 1, 0))
    is_child = children[order][place] == parents if len(children) else np.zeros(0, np.bool_)
    above = np.where(is_child, order[place], -1) if len(children) else np.zeros(0, np.int64)
    for _ in range(len(children).bit_length() + 1):
        above = np.where(above >= 0, above[above], -1)
    return above >= 0


def _judge(part: Part) -> tuple[pa.Table, list[BadLine]]:
    """Rows for the staging table, and lines that are no customer."""
    texts, problems = part.texts, Problems()
    account = pc.if_else(pc.equal(texts["account"], ""), texts["number"], texts["account"])
    numbers = ((texts["number"], _NUMBER, "customer number", 64), (account, _ACCOUNT, "account number", 30))
    for column, pattern, what, longest in numbers:
        wrong = pc.invert(pc.match_substring_regex(column, pattern))
        problems.add(wrong, f"the {what} must be 1 to {longest} letters, digits or ._@+-")
    for name, longest in (("name", NAME_MAX), *((name, MAX_TEXT) for name in (*CONTACTS, *DETAILS))):
        problems.add(unprintable(texts[name], longest), f"{name} must be printable and at most {longest} characters")
    problems.add(pc.and_(pc.equal(texts["parent"], texts["number"]), pc.not_equal(texts["number"], "")), _OWN_PARENT)
    facts = each([coded(texts[name]) for name in _WORDS], _facts, _NONE, problems, "")
    pays = _column(facts.codes, [one.parent_pays for one in facts.values], pa.bool_())
    problems.add(pc.and_(pays, pc.equal(texts["parent"], "")), "there is no parent who could pay")
    words = {
        name: _column(facts.codes, [getattr(one, name) for one in facts.values], pa.string())
        for name in ("language", "kind", "currency", "zone", "legal_entity")
    }
    staged = pa.table(
        {
            "line": part.lines,
            **{name: texts[name] for name in ("number", "name", "parent", *CONTACTS, *DETAILS)},
            "grp": texts["group"],
            "pays": pays,
            "account": account,
            **words,
            "due_days": _column(facts.codes, [one.due_days for one in facts.values], pa.int64()),
        }
    )
    good = problems.good(len(part.lines))
    return (staged if good.all() else staged.filter(pa.array(good))), problems.lines(part)


_OWN_PARENT: Final = "a customer cannot be his own parent"
_WORDS: Final = ("group", "parent_pays", "language", "kind", "currency", "zone", "legal_entity", "due_days")


def _column(codes: Ints, values: list[Any], kind: pa.DataType) -> pa.Array:
    return pa.array(values, kind).take(pa.array(codes))


def _facts(*said: str) -> NewCustomer:
    """What few words say for many customers, with the defaults put in."""
    group, pays, language, kind, currency, zone, legal_entity, due_days = said
    new = NewCustomer(
        "x",
        group=group,
        parent="y",
        parent_pays=yes_or_no(pays),
        language=language or _NONE.language,
        kind=kind or _NONE.kind,
        currency=currency or _NONE.currency,
        zone=zone or _NONE.zone,
        legal_entity=legal_entity or _NONE.legal_entity,
        due_days=whole_number(due_days, _NONE.due_days),
    )
    problem = problem_with_customer(new)
    if problem:
        raise CustomerError(problem)
    return new
