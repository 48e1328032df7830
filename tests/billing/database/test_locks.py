"""billing.database.locks: one file calls PostgreSQL's locks, in one order; who waits is as its table says."""

import ast
import re
import time
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from billing.database.adbc import import_connection
from billing.database.locks import (
    USAGE_SOURCE_SPACE,
    Lock,
    hold_bill_runs,
    hold_catalogue,
    hold_customer_tree,
    hold_customer_tree_for_load,
    hold_order_changes,
    hold_void_key,
    try_usage_source,
    wait_for_billing,
)
from tests.billing.orders.shop import act

ROOT = Path(__file__).resolve().parents[3]
ROOMS = ("adapters", "billing", "gateway", "kopeck", "web")
CALLS = re.compile(r"pg_(try_)?advisory_\w*lock\w*|\bLOCK\s+TABLE\b", re.IGNORECASE)
#: Who else locks, each with a reason.
OTHERS = {
    "billing/database/locks.py": "the register itself",
    "gateway/payments/fence_store.py": "a partner's key, beside no lock of billing",
    "kopeck/databases/migrate.py": "one migration at a time, before any program starts",
}


def modules_that_lock():
    for room in ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            tree = ast.parse(path.read_text("utf-8"))
            docs = {
                id(node.body[0].value)
                for node in ast.walk(tree)
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
                and node.body
                and isinstance(node.body[0], ast.Expr)
            }
            for node in ast.walk(tree):
                is_text = isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
                if is_text and CALLS.search(node.value):
                    yield path.relative_to(ROOT).as_posix()


def test_no_other_module_takes_a_lock_of_its_own():
    assert set(modules_that_lock()) == set(OTHERS)


def test_locks_are_numbered_in_the_order_of_the_table_at_the_head_of_the_module():
    text = (ROOT / "billing/database/locks.py").read_text("utf-8")
    told = re.findall(r"^  (\d)    ([A-Z_]+) ", text, re.MULTILINE)
    assert [(int(number), name) for number, name in told] == [(lock.number, lock.name) for lock in Lock]


def test_names_are_different_numbers_in_the_database(database):
    keys = ask(database.dsn, "SELECT hashtextextended(name, 0) FROM unnest(%s) AS name", [lock.value for lock in Lock])
    assert len(set(keys)) == len(Lock) == len({lock.number for lock in Lock})


BY_COLUMNS = [
    (hold_bill_runs, Lock.BILL_RUN.value),
    (hold_order_changes, Lock.ORDER_CHANGES.value),
    (hold_customer_tree_for_load, Lock.CUSTOMER_TREE.value),
]


@pytest.mark.parametrize(("take", "name"), BY_COLUMNS, ids=[name for _, name in BY_COLUMNS])
def test_a_lock_of_a_load_is_held_until_its_transaction_ends(database, take, name):
    with import_connection(database.dsn) as opened:
        take(opened)
        assert not is_free(database.dsn, name)
        opened.rollback()
        assert is_free(database.dsn, name)


BY_CURSOR = [
    (hold_customer_tree, Lock.CUSTOMER_TREE.value),
    (lambda cur: hold_catalogue(cur, "main"), Lock.CATALOGUE.value + "main"),
    (lambda cur: hold_void_key(cur, "K-1"), Lock.USAGE_VOID.value + "K-1"),
]


@pytest.mark.parametrize(("take", "name"), BY_CURSOR, ids=[name for _, name in BY_CURSOR])
def test_a_lock_of_a_command_is_held_until_its_transaction_ends(database, take, name):
    async def work(cur):
        await take(cur)
        return is_free(database.dsn, name)

    assert not act(database, work)
    assert is_free(database.dsn, name)


def test_changes_of_orders_go_together_and_keep_a_plan_waiting(database):
    async def work(cur):
        await wait_for_billing(cur, [1])
        return is_free(database.dsn, Lock.ORDER_CHANGES.value, "_shared"), is_free(
            database.dsn, Lock.ORDER_CHANGES.value
        )

    assert act(database, work) == (True, False)


def test_a_source_is_of_one_session_until_that_closes(database):
    with import_connection(database.dsn) as first, import_connection(database.dsn) as second:
        assert try_usage_source(first, 7)
        first.rollback()  # of the session, not of the transaction
        assert not try_usage_source(second, 7)
        assert try_usage_source(second, 8)
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s"
    while ask(database.dsn, held, USAGE_SOURCE_SPACE) != [(0,)]:  # until the server has ended both sessions
        time.sleep(0.01)


def is_free(dsn, name, kind=""):
    """Whether another session could take a lock now."""
    statement = f"SELECT pg_try_advisory_xact_lock{kind}(hashtextextended(%s, 0))"
    return ask(dsn, statement, name)[0][0]


def ask(dsn, statement, value):
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cur:
        cur.execute(statement, (value,))
        return cur.fetchall()
