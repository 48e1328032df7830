"""Migration 0020: views of stored lines, transfers and periods are read like their tables and written by no one."""

from contextlib import closing
from typing import Any

import psycopg2
import pytest

from billing.invoicing import allocation_store, credit_store, store
from tests.house_rules import STORED

VALUES = {"ids": [1 << 20], "id": 1 << 20, "invoice_id": 1, "account_id": 2, "payment_id": 3, "transfer_id": None}
STATEMENTS = {
    "lines of a document": store._LINES,
    "money of a document": store._MONEY,
    "lines to credit": credit_store._CREDITABLE,
    "what is left of a payment": allocation_store._PAYMENT,
}


def shape_of(node: dict[str, Any]) -> tuple[Any, ...]:
    """A plan without the names that a statement gives its tables."""
    named = tuple(node.get(name) for name in ("Node Type", "Join Type", "Relation Name", "Index Name", "Subplan Name"))
    return (*named, *(shape_of(child) for child in node.get("Plans", ())))


def plan_of(cur: Any, statement: str) -> tuple[Any, ...]:
    cur.execute(f"EXPLAIN (FORMAT JSON) {statement}", VALUES)
    return shape_of(cur.fetchone()[0][0]["Plan"])


@pytest.mark.parametrize("what", STATEMENTS)
def test_a_view_costs_no_plan(database: Any, what: str) -> None:
    reading_views = STATEMENTS[what]
    reading_tables = reading_views
    for table, view in STORED.items():
        reading_tables = reading_tables.replace(view, table)
    assert reading_tables != reading_views
    with closing(psycopg2.connect(database.dsn)) as connection, connection.cursor() as cur:
        assert plan_of(cur, reading_views) == plan_of(cur, reading_tables)


@pytest.mark.parametrize("table", STORED)
def test_a_view_has_every_column_of_its_table(database: Any, table: str) -> None:
    with closing(psycopg2.connect(database.dsn)) as connection, connection.cursor() as cur:
        columns = []
        for name in (table, STORED[table]):
            cur.execute(f"SELECT * FROM {name} LIMIT 0")
            columns.append([column.name for column in cur.description])
    assert columns[0] == columns[1]


@pytest.mark.parametrize("view", STORED.values())
def test_the_program_changes_nothing_through_a_view(database: Any, view: str) -> None:
    changes = f"DELETE FROM {view}", f"UPDATE {view} SET amount_minor = 1", f"INSERT INTO {view} DEFAULT VALUES"
    with closing(psycopg2.connect(database.dsn)) as connection, connection.cursor() as cur:
        for change in changes:
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                cur.execute(change)
            connection.rollback()
