"""Migration 0010: the program's role does not become the owner, deceives no trigger and dates nothing back.

Each refusal is tried on a real database as the role that would do it; what must not change is read again afterwards.
"""

import asyncio
from contextlib import closing
from datetime import date
from typing import Any

import psycopg2
import pytest

from billing.cycle_verify import GUARDS as CYCLE_GUARDS
from billing.cycle_verify import STEPS
from kopeck.migrate import MigrateError, migrate
from tests.billing.invoice_books import Books, Charge
from tests.billing.test_verify import opened

ON = date(2026, 2, 1)


def told(dsn: str, *statements: str) -> list[tuple[Any, ...]]:
    """Statements in one transaction; returns the rows of the last."""
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cur:
        for statement in statements:
            cur.execute(statement)
        return cur.fetchall() if cur.description else []


@pytest.fixture
def books(database: Any) -> Books:
    """An issued invoice of 1.00, a posted period of it, and a review with a draft of 2.00."""
    found = Books(database.dsn, admin_dsn=database.admin_dsn)
    found.catalogue()
    account = found.account("A1")
    order = found.order(account, "2026-01-01 00:00+03")
    run = found.run(ON)
    (invoice,) = found.invoices(run, [(account, [Charge(100, order_id=order)])], on=ON)
    found.period(order, "arrears", "2026-01-01 00:00+03", "2026-02-01 00:00+03", run=run, invoice=invoice, amount=100)
    review = found.run(date(2026, 3, 1), "reviewed")
    found.invoices(review, [(account, [Charge(200)])], on=date(2026, 3, 1), state="draft")
    return found


# ---- temporary tables


def test_a_temporary_table_does_not_make_the_program_the_owner(database: Any) -> None:
    asyncio.run(opened(database.dsn))
    told(
        database.owner_dsn,
        "INSERT INTO accounts (number, kind) VALUES ('clearing:x:RUB', 'clearing')",
        "INSERT INTO partners (code, name, clearing_account_id) SELECT 'x', 'X', id FROM accounts "
        "WHERE number = 'clearing:x:RUB'",
    )
    before = told(database.dsn, "SELECT amount_minor FROM transfers ORDER BY id")
    revision = told(database.dsn, "SELECT revision FROM contracts_revision")[0][0]
    ran = told(
        database.dsn,
        "CREATE TEMP TABLE contracts_revision (only_row boolean, revision bigint)",
        "INSERT INTO contracts_revision VALUES (true, 1)",
        "GRANT ALL ON contracts_revision TO PUBLIC",
        "CREATE TEMP TABLE ran (role text)",
        "GRANT ALL ON ran TO PUBLIC",
        """
        CREATE FUNCTION pg_temp.evil() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO pg_temp.ran VALUES (current_user);
            EXECUTE 'ALTER TABLE public.transfers DISABLE TRIGGER transfers_append_only';
            EXECUTE 'UPDATE public.transfers SET amount_minor = 123456789';
            EXECUTE 'ALTER TABLE public.transfers ENABLE TRIGGER transfers_append_only';
            RETURN NEW;
        END $$
        """,
        "CREATE TRIGGER evil BEFORE UPDATE ON contracts_revision FOR EACH ROW EXECUTE FUNCTION pg_temp.evil()",
        "UPDATE partners SET name = name WHERE code = 'x'",
        "SELECT role FROM ran",
    )
    assert ran == []
    assert told(database.dsn, "SELECT amount_minor FROM transfers ORDER BY id") == before
    assert told(database.dsn, "SELECT revision FROM contracts_revision") == [(revision + 1,)]


@pytest.mark.parametrize(
    ("deception", "act"),
    [
        ("CREATE TEMP TABLE invoice_blocks AS SELECT id, 'void' AS state FROM public.invoice_blocks",
         "DELETE FROM public.invoice_lines"),
        ("CREATE TEMP TABLE invoice_blocks AS SELECT id, 'void' AS state FROM public.invoice_blocks",
         "DELETE FROM public.invoices"),
        ("CREATE TEMP TABLE bill_runs AS SELECT id, 'void' AS state FROM public.bill_runs",
         "DELETE FROM public.order_periods"),
    ],
    ids=["lines", "invoices", "periods"],
)  # fmt: skip
def test_a_temporary_table_does_not_deceive_the_triggers_that_keep_invoices(
    books: Books, deception: str, act: str
) -> None:
    table = act.rpartition(" ")[2]
    before = told(books.dsn, f"SELECT count(*) FROM {table}")
    with pytest.raises(psycopg2.errors.RaiseException):
        told(books.dsn, deception, act)
    assert told(books.dsn, f"SELECT count(*) FROM {table}") == before
    assert before != [(0,)]


def test_a_temporary_table_does_not_take_the_floor_from_a_prepaid_account(database: Any) -> None:
    found = told(
        database.dsn,
        "CREATE TEMP TABLE account_kinds AS SELECT kind, true AS may_go_negative FROM public.account_kinds",
        "INSERT INTO public.accounts (number, kind) VALUES ('p1', 'prepaid') RETURNING floor_minor",
    )
    assert found == [(0,)]


def test_every_function_of_ours_that_a_trigger_or_the_owner_runs_looks_into_pg_temp_last(database: Any) -> None:
    found = told(
        database.dsn,
        """
        SELECT p.proname, p.prosecdef, coalesce(array_to_string(p.proconfig, ';'), ''),
               has_function_privilege('public', p.oid, 'EXECUTE')
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
          AND (p.prosecdef OR p.prorettype = 'trigger'::regtype)
        """,
    )
    names = {name for name, *_ in found}
    assert {"bump_contracts_revision", "ageing_lift", "usage_month", "append_only", "forget_attempts"} <= names
    assert [name for name, _, config, _ in found if "search_path=public, pg_temp" not in config] == []
    assert [name for name, _, _, is_public in found if is_public] == []


def test_the_program_creates_nothing_in_schema_public(database: Any) -> None:
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        told(database.dsn, "CREATE TABLE planted (id int)")


def test_where_the_schema_is_the_superusers_and_open_the_migration_asks_him(database: Any) -> None:
    """As PostgreSQL 14 makes a database: the owner of the database cannot revoke what PUBLIC may in schema public."""
    told(
        database.admin_dsn,
        "DELETE FROM _yoyo_migration WHERE migration_id >= '0010'",
        "GRANT CREATE ON SCHEMA public TO PUBLIC",
        "ALTER SCHEMA public OWNER TO postgres",
    )
    with pytest.raises(MigrateError, match=r"0010-guards failed(.|\n)*REVOKE CREATE ON SCHEMA public FROM PUBLIC"):
        migrate(database.owner_dsn)


# ---- invoices

_LINE = """
    INSERT INTO invoice_lines SELECT invoice_id, line + 98, kind, order_id, manual_line_id, item, period_start,
        period_end, quantity, discount_minor, amount_minor, tax_ppm, tax_inside, net_minor, tax_minor
    FROM invoice_lines l JOIN invoice_blocks b ON b.id = l.invoice_id >> 20 WHERE b.state = '{state}'
"""
_INVOICE = """
    INSERT INTO invoices SELECT i.id + 1, account_id, currency, invoiced_on, due_on, net_minor, tax_minor, total_minor
    FROM invoices i JOIN invoice_blocks b ON b.id = i.id >> 20 WHERE b.state = '{state}'
"""


@pytest.mark.parametrize("state", ["issued", "draft"])
@pytest.mark.parametrize("statement", [_LINE, _INVOICE], ids=["line", "invoice"])
@pytest.mark.parametrize("role", ["dsn", "owner_dsn"])
def test_nothing_is_added_to_a_block_that_stands(
    books: Books, database: Any, role: str, statement: str, state: str
) -> None:
    with pytest.raises(psycopg2.errors.RaiseException, match="was not begun by this transaction"):
        told(getattr(database, role), statement.format(state=state))
    touched = "UPDATE invoice_blocks SET state = 'posted' WHERE state = 'draft'"
    with pytest.raises(psycopg2.errors.RaiseException, match="was not begun by this transaction"):
        told(getattr(database, role), touched, statement.format(state="posted" if state == "draft" else state))


def test_a_block_does_not_say_itself_when_it_was_written(books: Books, database: Any) -> None:
    told(
        database.owner_dsn,
        "INSERT INTO invoice_blocks (series_id, invoices_count, written_in, written_at) "
        "VALUES (1, 1, '3', '2020-01-01')",
    )
    written = "SELECT count(*) FROM invoice_blocks WHERE written_at < now() - interval '1 day' OR written_in < '10'"
    assert told(database.dsn, written) == [(0,)]
    with pytest.raises(psycopg2.errors.RaiseException, match="stays so"):
        told(database.owner_dsn, "UPDATE invoice_blocks SET written_in = pg_current_xact_id()")


@pytest.mark.parametrize("role", ["dsn", "owner_dsn"])
def test_a_period_of_a_run_that_is_done_or_reviewed_is_not_added(books: Books, database: Any, role: str) -> None:
    for state in ("done", "reviewed"):
        with pytest.raises(psycopg2.errors.RaiseException, match="is not"):
            told(
                getattr(database, role),
                "INSERT INTO order_periods (order_id, part, period_start, period_end, outcome, active_num, active_den, "
                "amount_minor, run_id) SELECT 1, 'arrears', '2026-02-01', '2026-03-01', 'billed', 1, 1, 0, id "
                f"FROM bill_runs WHERE state = '{state}'",
            )


RUNS = {
    "post": {("running", "done")},
    "review": {("running", "reviewed"), ("running", "void"), ("reviewed", "approving"), ("reviewed", "void"),
               ("approving", "done")},
}  # fmt: skip
RUN_STATES = ("running", "reviewed", "approving", "done", "void")


@pytest.mark.parametrize("kind", ["post", "review"])
def test_runs_go_the_steps_of_the_table_and_no_other_even_for_the_owner(database: Any, kind: str) -> None:
    states = RUN_STATES if kind == "review" else ("running", "done")
    taken = set()
    for before in states:
        for after in states:
            with closing(psycopg2.connect(database.admin_dsn)) as connection, connection.cursor() as cur:
                cur.execute("SET session_replication_role = replica")
                finished = "now()" if before in ("done", "void") else "NULL"
                cur.execute(
                    f"INSERT INTO bill_runs (bill_on, kind, state, actor, finished_at) "
                    f"VALUES ('2026-02-01', '{kind}', '{before}', 't', {finished})"
                )
                cur.execute("SET session_replication_role = origin")
                cur.execute("SET ROLE kopeck_owner")
                finished = "now()" if after in ("done", "void") else "NULL"
                try:
                    cur.execute(f"UPDATE bill_runs SET state = '{after}', finished_at = {finished}")
                except psycopg2.errors.RaiseException:
                    continue
                taken.add((before, after))
    assert taken - {(state, state) for state in states} == RUNS[kind]
    assert {("done", "done"), ("void", "void")} & taken == set()


SHARDS = {("due", "drafted"), ("due", "posted"), ("due", "failed"), ("failed", "drafted"), ("failed", "posted"),
          ("drafted", "posted")}  # fmt: skip
SHARD_STATES = ("due", "drafted", "posted", "failed")


def test_shards_go_the_steps_of_the_table_and_no_other_even_for_the_owner(database: Any) -> None:
    taken = set()
    for before in SHARD_STATES:
        for after in SHARD_STATES:
            with closing(psycopg2.connect(database.admin_dsn)) as connection, connection.cursor() as cur:
                cur.execute("SET session_replication_role = replica")
                cur.execute("INSERT INTO bill_runs (bill_on, kind, actor) VALUES ('2026-02-01', 'post', 't')")
                failure = "'x'" if before == "failed" else "NULL"
                cur.execute(
                    "INSERT INTO bill_shards (run_id, shard_no, first_account_id, last_account_id, state, failure) "
                    f"SELECT id, 0, 1, 2, '{before}', {failure} FROM bill_runs"
                )
                cur.execute("SET session_replication_role = origin")
                cur.execute("SET ROLE kopeck_owner")
                failure = "'x'" if after == "failed" else "NULL"
                try:
                    cur.execute(f"UPDATE bill_shards SET state = '{after}', failure = {failure}")
                except psycopg2.errors.RaiseException:
                    continue
                taken.add((before, after))
    assert taken - {(state, state) for state in SHARD_STATES} == SHARDS
    assert ("posted", "posted") not in taken


REFUSED = [
    ("INSERT INTO bill_runs (bill_on, kind, state, actor, finished_at) "
     "VALUES ('2026-02-01', 'review', 'void', 't', now())", "begins as running"),
    ("UPDATE bill_runs SET bill_on = '2020-01-01' WHERE state = 'reviewed'", "planned"),
    ("INSERT INTO bill_shards (run_id, shard_no, first_account_id, last_account_id, state) "
     "SELECT id, 7, 1, 2, 'posted' FROM bill_runs LIMIT 1", "begins as due"),
    ("UPDATE bill_shards SET last_account_id = last_account_id + 5 WHERE state = 'due'", "keeps its accounts"),
    ("UPDATE invoice_series SET next_number = 1", "upwards only"),
    ("UPDATE orders SET settled_at = NULL", "settled and stays so"),
    ("UPDATE orders SET settled_at = '2026-01-01'", "settled and stays so"),
    ("UPDATE invoice_blocks SET state = 'void' WHERE state = 'draft'", "void only with its run"),
    ("UPDATE invoice_blocks SET state = 'issued', first_number = 99, issued_at = now() WHERE state = 'draft'",
     "stays so"),
    ("UPDATE invoice_blocks SET run_id = NULL", "stays so"),
    ("DELETE FROM orders", "append-only"),
    ("DELETE FROM bill_shards", "append-only"),
    ("DELETE FROM bill_runs", "append-only"),
    ("UPDATE bill_shard_totals SET net_minor = 0", "append-only"),
    ("DELETE FROM invoice_series", "append-only"),
    ("DELETE FROM partner_keys", "append-only"),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "words"), REFUSED, ids=[statement for statement, _ in REFUSED])
def test_the_owner_is_refused_what_would_rewrite_billing(
    books: Books, database: Any, statement: str, words: str
) -> None:
    told(
        database.admin_dsn,
        "SET session_replication_role = replica",
        "UPDATE orders SET settled_at = '2026-02-01'",
        "INSERT INTO bill_shards (run_id, shard_no, first_account_id, last_account_id) "
        "SELECT id, 50, 1, 2 FROM bill_runs",
    )
    with pytest.raises(psycopg2.errors.RaiseException, match=words):
        told(database.owner_dsn, statement)


def test_verify_names_each_of_these_triggers() -> None:
    assert {(step.table, step.trigger) for step in STEPS} == {
        ("invoice_blocks", "invoice_blocks_begin"), ("invoices", "invoices_with_block"),
        ("invoice_lines", "invoice_lines_with_block"), ("order_periods", "order_periods_of_run"),
        ("bill_runs", "bill_runs_steps"), ("bill_shards", "bill_shards_steps"),
        ("invoice_series", "invoice_series_upwards"), ("orders", "orders_stay_settled"),
    }  # fmt: skip
    assert {"bill_runs", "bill_shards", "bill_shard_totals", "orders", "invoice_series"} <= {
        guard.table for guard in CYCLE_GUARDS
    }


# ---- evidence


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO audit (at, actor, action) VALUES ('2020-01-01', 'user:boss', 'payment_cancelled')",
        "INSERT INTO audit (id, actor, action) OVERRIDING SYSTEM VALUE VALUES (1, 'user:boss', 'payment_cancelled')",
        "INSERT INTO transfers (source, source_id, step, debit_account_id, credit_account_id, amount_minor, currency,"
        " created_at) VALUES ('manual', 1, 'x', 1, 2, 1, 'RUB', '2020-01-01')",
        "INSERT INTO manual_postings (key, actor, why, created_at) VALUES ('k', 'a', 'w', '2020-01-01')",
        "INSERT INTO credit_notes (invoice_id, key, actor, why, created_at) VALUES (1, 'k', 'a', 'w', '2020-01-01')",
        "INSERT INTO contracts (partner_id, version, body, created_by, created_at) "
        "VALUES (1, 9, '{}', 'a', '2020-01-01')",
        "DELETE FROM partner_keys",
        "DELETE FROM attempts",
    ],
)
def test_the_program_does_not_date_back_or_delete_evidence(database: Any, statement: str) -> None:
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        told(database.dsn, statement)


def test_attempts_are_forgotten_in_portions_and_only_those_older_than_thirty_days(database: Any) -> None:
    told(
        database.dsn,
        "INSERT INTO attempts (at, kind, reason) SELECT now() - make_interval(days => d), 'malformed', 'bad_request' "
        "FROM unnest(ARRAY[1, 29, 31, 40, 50]) d",
    )
    forget = "SELECT forget_attempts(now() - make_interval(days => {days}), 2)"
    with pytest.raises(psycopg2.errors.RaiseException, match="kept for 30 days at least"):
        told(database.dsn, forget.format(days=29))
    with pytest.raises(psycopg2.errors.RaiseException, match="kept for 30 days at least"):
        told(database.dsn, "SELECT forget_attempts(NULL, 2)")
    assert [told(database.dsn, forget.format(days=30)) for _ in range(3)] == [[(2,)], [(1,)], [(0,)]]
    assert told(database.dsn, "SELECT count(*) FROM attempts") == [(2,)]
