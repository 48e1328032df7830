"""The import of orders inside PostgreSQL: staging tables, what is read of accounts and catalogues, what is added.

Rules. Customers are not moved meanwhile (the lock of their tree). Rows go in by account, so that those of one payer lie
together when a run bills it. All is one transaction.

Does not know: files, which lines are good (billing.orders.importer). Functions take the caller's connection.
"""

from collections.abc import Mapping
from dataclasses import astuple, fields
from typing import Final

import numpy as np
import pyarrow as pa

from billing.catalogue.model import Catalogue
from billing.catalogue.store import Source, catalogue_of
from billing.database.adbc import columns, do, rows
from billing.database.cursors import ColumnConnection
from billing.database.locks import hold_customer_tree_for_load
from billing.database.zones import UNKNOWN_ZONE
from billing.files.store import BAD_TABLE, SESSION, set_aside, stage
from billing.orders.rules import OrderError
from billing.orders.store import TERMS_COLUMNS
from billing.orders.terms import Terms, WantedTerms

_TABLES: Final = (
    BAD_TABLE,
    'CREATE TEMPORARY TABLE import_accounts (place bigint, number text COLLATE "C") ON COMMIT DROP',
    """CREATE TEMPORARY TABLE import_orders (
        line bigint, number text COLLATE "C", account_id bigint, payer_account_id bigint, terms bigint, quantity bigint,
        starts_s bigint, ends_s bigint, trial_until_s bigint, minimum_minor bigint, price_minor bigint, codes text,
        note text
    ) ON COMMIT DROP""",
    """CREATE TEMPORARY TABLE import_terms (
        place bigint, catalogue text, plan text, item text, currency text, kind text, interval_unit text,
        interval_count bigint, anchor_day bigint, anchor_month bigint, zone text, in_advance boolean, proration text,
        anchor_phase bigint
    ) ON COMMIT DROP""",
)

_ACCOUNTS: Final = """
    SELECT w.place, b.account_id, b.payer_account_id, a.currency, p.currency AS payer_currency, b.zone,
           c.customer_group, c.number AS customer, c.state, a.state AS account_state
    FROM import_accounts w
    JOIN accounts a ON a.number = w.number
    JOIN billing_accounts b ON b.account_id = a.id
    JOIN accounts p ON p.id = b.payer_account_id
    JOIN customers c ON c.id = b.customer_id
"""

_CATALOGUES: Final = "SELECT name FROM catalogues ORDER BY name"
_NEWEST: Final = """
    SELECT v.id, v.version, v.main_file, v.sha256 FROM catalogue_versions v JOIN catalogues c ON c.id = v.catalogue_id
    WHERE c.name = $1 ORDER BY v.version DESC LIMIT 1
"""
_FILES: Final = "SELECT name, content FROM catalogue_files WHERE version_id = $1"

_ADD_TERMS: Final = f"""
    INSERT INTO order_terms (catalogue_id, {", ".join(TERMS_COLUMNS)})
    SELECT c.id, {", ".join(TERMS_COLUMNS)} FROM import_terms w JOIN catalogues c ON c.name = w.catalogue
    ON CONFLICT DO NOTHING
"""

_KNOWN_TERMS: Final = f"""
    SELECT w.place, t.id FROM import_terms w JOIN catalogues c ON c.name = w.catalogue
    JOIN order_terms t ON (t.catalogue_id, {", ".join(f"t.{name}" for name in TERMS_COLUMNS)})
                        = (c.id, {", ".join(f"w.{name}" for name in TERMS_COLUMNS)})
"""

#: Lines of a number that an earlier line has: the same (no reason) or not.
_LATER: Final = """
    WITH firsts AS (SELECT number, min(line) AS line FROM import_orders GROUP BY number HAVING count(*) > 1)
    SELECT s.line, CASE WHEN (s.account_id, s.terms, s.quantity, s.starts_s, s.ends_s, s.trial_until_s,
                              s.minimum_minor, s.price_minor, s.codes)
                             IS DISTINCT FROM (f.account_id, f.terms, f.quantity, f.starts_s, f.ends_s,
                              f.trial_until_s, f.minimum_minor, f.price_minor, f.codes)
                   THEN 'order ' || s.number || ' stands on line ' || f.line || ' already, and is not the same' END
    FROM firsts x
    JOIN import_orders f ON f.line = x.line
    JOIN import_orders s ON s.number = x.number AND s.line > x.line
"""

_STORED: Final = f"""
    WITH terms AS MATERIALIZED ({_KNOWN_TERMS})
    SELECT s.line, CASE WHEN (s.account_id, t.id, s.quantity, to_timestamp(s.starts_s), to_timestamp(s.trial_until_s),
                              s.minimum_minor, s.price_minor, string_to_array(nullif(s.codes, ''), ' '))
                             IS DISTINCT FROM (o.account_id, o.terms_id, o.quantity, o.starts_at, o.trial_until,
                              o.minimum_minor, o.price_minor, o.codes)
                   THEN 'there is an order ' || s.number || ' already, and it is not the same' END
    FROM import_orders s JOIN orders o ON o.number = s.number JOIN terms t ON t.place = s.terms
"""

_UNKNOWN_ZONES: Final = f"""
    WITH unknown AS MATERIALIZED (SELECT place, zone FROM import_terms WHERE zone_or_utc(zone) <> zone)
    SELECT s.line, 'zone: ' || {UNKNOWN_ZONE} FROM import_orders s JOIN unknown u ON u.place = s.terms
"""

_ADD: Final = f"""
    WITH terms AS MATERIALIZED ({_KNOWN_TERMS})
    INSERT INTO orders (number, account_id, payer_account_id, terms_id, quantity, starts_at, ends_at, trial_until,
                        minimum_minor, price_minor, codes, note)
    SELECT s.number, s.account_id, s.payer_account_id, t.id, s.quantity, to_timestamp(s.starts_s),
           to_timestamp(s.ends_s), to_timestamp(s.trial_until_s), s.minimum_minor, s.price_minor,
           string_to_array(nullif(s.codes, ''), ' '), s.note
    FROM import_orders s JOIN terms t ON t.place = s.terms
    ORDER BY s.account_id, s.line
"""


def prepare(opened: ColumnConnection) -> None:
    """Lock the tree of customers and make the staging tables."""
    hold_customer_tree_for_load(opened)
    for statement in (*SESSION, *_TABLES):
        do(opened, statement)


def catalogue_names(opened: ColumnConnection) -> list[str]:
    """Names of all catalogues, in order."""
    return [str(name) for (name,) in rows(opened, _CATALOGUES)]


def read_newest(opened: ColumnConnection, name: str) -> Catalogue:
    """The newest version of a catalogue. OrderError: what is stored is not what was saved."""
    version_id, version, main_file, sha256 = rows(opened, _NEWEST, (name,))[0]
    source = Source(main_file, {file: bytes(content) for file, content in rows(opened, _FILES, (version_id,))})
    if source.sha256 != sha256:
        raise OrderError(f"catalogue {name} version {version} is not what was saved: restore it")
    return catalogue_of(source)


def read_accounts(opened: ColumnConnection, numbers: pa.Array) -> pa.Table:
    """What orders take from these accounts, with ``place``, the number's place; accounts of no customer are missing."""
    do(opened, "TRUNCATE import_accounts")
    stage(opened, "import_accounts", pa.table({"place": np.arange(len(numbers)), "number": numbers}))
    do(opened, "ANALYZE import_accounts")
    return columns(opened, _ACCOUNTS)


def set_aside_known(opened: ColumnConnection, terms: Mapping[WantedTerms, int]) -> None:
    """Store the terms, and set aside lines that repeat, contradict or name a zone unknown to the database."""
    if terms:
        values = zip(*(astuple(wanted) for wanted in terms), strict=True)
        named = dict(zip((field.name for field in fields(Terms)), values, strict=True))
        stage(opened, "import_terms", pa.table({"place": list(terms.values()), **named}))
    do(opened, _ADD_TERMS)
    do(opened, "ANALYZE import_orders")
    for lines in (_LATER, _STORED, _UNKNOWN_ZONES):
        set_aside(opened, "import_orders", lines)


def add_orders(opened: ColumnConnection) -> None:
    """Add what is left."""
    do(opened, _ADD)
