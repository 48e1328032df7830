"""billing.verification.invoices: truths 6 and 8 hold on what a run wrote, and one corrupted row is found."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any

import aiopg
import pytest

from billing.invoicing.credit_notes import CreditRequest
from billing.invoicing.credit_store import credit_invoice
from billing.verification import periods as cycle_verify_periods
from billing.verification import slices as verify_slices
from billing.verification.cycle import verify_cycle
from billing.verification.records import Check
from tests.billing.invoicing.invoice_books import Books, Charge

BILL_ON = date(2026, 3, 1)
PERIODS = ["2026-01-01 00:00+03", "2026-02-01 00:00+03", "2026-03-01 00:00+03", "2026-04-01 00:00+03"]


async def checked(dsn: str) -> list[Check]:
    async with aiopg.connect(dsn) as connection, connection.cursor() as cur:
        return await verify_cycle(cur, sample=0)  # the amounts here are made up


def differing(checks: Sequence[Check]) -> list[tuple[int, str]]:
    return [(check.truth, finding.what) for check in checks for finding in check.findings]


@pytest.fixture
def books(database: Any) -> Books:
    """Orders in arrears, in advance and once, billed by two runs up to 1 March 2026, a manual line, a credit note."""
    found = Books(database.dsn, admin_dsn=database.admin_dsn)
    found.catalogue()
    account = found.account("A1")
    arrears = found.order(account, "2026-01-10 00:00+03")
    advance = found.order(account, "2026-01-01 00:00+03", plan="", item="fee", in_advance=True)
    once = found.order(account, "2026-01-15 00:00+03", plan="", item="setup", kind="one_time")
    manual = found.one(
        "INSERT INTO manual_lines (key, account_id, payer_account_id, description, amount_minor, tax_ppm, tax_inside,"
        " bill_on, actor, why) VALUES ('m', %s, %s, 'visit', 700, 0, true, '2026-01-01', 't', 'w') RETURNING id",
        account, account,
    )  # fmt: skip
    first = found.run(date(2026, 2, 1))
    lines = [Charge(100, order_id=arrears), Charge(300, order_id=advance), Charge(50, "setup", "one_time", once),
             Charge(700, "", "manual", tax_ppm=0, manual_line_id=manual)]  # fmt: skip
    one = found.invoices(first, [(account, lines)], on=date(2026, 2, 1))[0]
    found.ask("UPDATE manual_lines SET invoice_id = %s", one)
    second = found.run(BILL_ON)
    two = found.invoices(
        second, [(account, [Charge(400, order_id=arrears), Charge(200, order_id=advance)])], on=BILL_ON
    )[0]
    found.period(arrears, "arrears", PERIODS[0], PERIODS[1], run=first, invoice=one, amount=100)
    found.period(arrears, "arrears", PERIODS[1], PERIODS[2], run=second, invoice=two, amount=400)
    found.period(advance, "advance", PERIODS[0], PERIODS[1], run=first, invoice=one, amount=100)
    found.period(advance, "advance", PERIODS[1], PERIODS[2], run=first, invoice=one, amount=200)
    found.period(advance, "advance", PERIODS[2], PERIODS[3], run=second, invoice=two, amount=200)
    found.period(once, "once", "2026-01-15 00:00+03", "2026-01-15 00:00+03", run=first, invoice=one, amount=50)

    async def credit() -> None:
        async with aiopg.connect(found.dsn) as connection, connection.cursor() as cur:
            await cur.execute("BEGIN")
            await credit_invoice(cur, "I-000001", CreditRequest((2,)), key="k", actor="t", why="w")
            await cur.execute("COMMIT")

    asyncio.run(credit())
    return found


def test_what_a_run_wrote_is_clean_and_every_check_examined_something(books: Books) -> None:
    checks = asyncio.run(checked(books.dsn))
    assert differing(checks) == []
    assert [check.name for check in checks if check.examined == 0] == [
        "each event of closed usage belongs to an order or is reported",
        "late usage is billed to the period it is of, or reported",
        "lines come to the same when the judge computes them",
    ]
    assert {check.truth for check in checks} == {6, 8, 9}


def test_an_empty_database_is_clean(database: Any) -> None:
    assert differing(asyncio.run(checked(database.dsn))) == []


CORRUPTIONS = [
    (6, "no arrears recorded since 2026-01-31T21:00:00Z, was due up to 2026-02-28T21:00:00Z",
     "DELETE FROM order_periods WHERE part = 'arrears' AND period_start > '2026-01-15'"),
    (6, "no arrears recorded at all", "DELETE FROM order_periods WHERE part = 'arrears'"),
    (6, "no advance recorded since",
     "DELETE FROM order_periods WHERE part = 'advance' AND period_start > '2026-02-15'"),
    (6, "no once recorded at all", "DELETE FROM order_periods WHERE part = 'once'"),
    (6, "there is a gap before it",
     "DELETE FROM order_periods WHERE part = 'advance' AND period_start BETWEEN '2026-01-15' AND '2026-02-15'"),
    (6, "it overlaps the one before it",
     "UPDATE order_periods SET period_end = '2026-02-15' WHERE part = 'advance' AND period_start < '2026-01-15'"),
    (6, "is no period of the order's calendar",
     "UPDATE order_periods SET period_end = period_end + interval '3 days' WHERE part = 'advance' "
     "AND period_start > '2026-02-15'"),
    (6, "is the first, but the order starts", "UPDATE orders SET starts_at = '2025-11-11' WHERE id = 1"),
    (6, "there is no such order", "UPDATE order_periods SET order_id = 99 WHERE part = 'once'"),
    (6, "such an order has no such part", "UPDATE order_periods SET part = 'once' WHERE part = 'arrears' "
     "AND period_start > '2026-01-15'"),
    (6, "was not due in run 1", "UPDATE order_periods SET run_id = 1"),
    (6, "nothing was billed in advance then",
     "INSERT INTO order_periods SELECT order_id, 'adjustment', '2026-06-01 00:00+03', '2026-07-01 00:00+03', "
     "outcome, reason, 1, 1, "
     "0, NULL, run_id FROM order_periods WHERE part = 'advance' AND period_start > '2026-02-15'"),
    (8, "block 1 begins with 5, must begin with 3",
     "UPDATE invoice_blocks SET first_number = 5 WHERE first_number = 1 AND series_id = 1"),
    (8, "begins with 9, must begin with 2",
     "UPDATE invoice_blocks SET first_number = 9 WHERE first_number = 2 AND series_id = 1"),
    (8, "the next number is 7, must be 3", "UPDATE invoice_series SET next_number = 7 WHERE id = 1"),
    (8, "has 0 invoices up to place None, must have 1", "DELETE FROM invoices WHERE invoiced_on = '2026-03-01'"),
    (8, "has 1 invoices up to place 1, must have 1",
     "UPDATE invoices SET id = id + 1 WHERE invoiced_on = '2026-03-01'"),
    (8, "its lines net", "UPDATE invoices SET net_minor = net_minor + 1, total_minor = total_minor + 1 "
     "WHERE invoiced_on = '2026-02-01'"),
    (8, "1 of them not the sum of their own",
     "UPDATE invoice_lines SET amount_minor = amount_minor + 1 WHERE amount_minor = 400"),
    (8, "its lines net nothing", "DELETE FROM invoice_lines WHERE amount_minor IN (200, 400)"),
    (8, "or between other accounts",
     "UPDATE transfers SET amount_minor = amount_minor + 1 WHERE source = 'invoice' AND step = 'tax'"),
    (8, "or between other accounts", "UPDATE transfers SET debit_account_id = credit_account_id, "
     "credit_account_id = debit_account_id WHERE source = 'invoice' AND step = 'revenue'"),
    (8, "transferred nothing", "DELETE FROM transfers WHERE source = 'invoice' AND step = 'tax'"),
    (8, "revenue nothing",
     "INSERT INTO transfers (source, source_id, step, debit_account_id, credit_account_id, amount_minor, "
     "currency) VALUES ('invoice', 12345, 'revenue', 1, 2, 5, 'RUB')"),
    (8, "run 2 shard 0 RUB: total", "UPDATE bill_shard_totals SET tax_minor = tax_minor + 1 WHERE run_id = 2"),
    (8, "2 invoices told, 1 in its blocks", "UPDATE bill_shards SET invoices_count = 2 WHERE run_id = 1"),
    (8, "recorded 4.01, on the invoice 4.00", "UPDATE order_periods SET amount_minor = 401 WHERE amount_minor = 400"),
    (8, "manual line 1", "UPDATE manual_lines SET invoice_id = NULL"),
    (8, "charged 3.00, credited", "UPDATE invoice_lines SET net_minor = net_minor * 2 WHERE kind = 'credit'"),
    (8, "no enabled trigger refuses UPDATE on invoices", "DROP TRIGGER invoices_stay ON invoices"),
    (8, "trigger bill_runs_steps on bill_runs is disabled", "ALTER TABLE bill_runs DISABLE TRIGGER bill_runs_steps"),
    (8, "trigger invoice_lines_with_block on invoice_lines does not exist",
     "DROP TRIGGER invoice_lines_with_block ON invoice_lines"),
    (8, "trigger bill_shards_steps on bill_shards refuses nothing",
     "CREATE OR REPLACE FUNCTION bill_shard_steps() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"),
    (8, "role kopeck_app may UPDATE invoice_lines", "GRANT UPDATE ON invoice_lines TO kopeck_app"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("truth", "words", "statement"), CORRUPTIONS, ids=[f"{n}-{row[1]}" for n, row in enumerate(CORRUPTIONS)]
)
def test_one_corrupted_row_or_rule_is_found(
    books: Books, database: Any, truth: int, words: str, statement: str
) -> None:
    Books(database.admin_dsn).ask(f"SET session_replication_role = replica; {statement}")
    found = differing(asyncio.run(checked(database.admin_dsn)))
    assert any(of == truth and words in what for of, what in found), found


@pytest.mark.parametrize(("what", "place"), [(what, place) for what in ("lines", "transfers") for place in (0, 1, 2)])
def test_a_fault_is_found_in_whatever_slice_its_invoice_lies(
    books: Books, monkeypatch: pytest.MonkeyPatch, what: str, place: int
) -> None:
    monkeypatch.setattr(verify_slices.slices, "__defaults__", ("id", 1, verify_slices.silent))
    clean = asyncio.run(checked(books.dsn))
    assert differing(clean) == []
    invoice = books.one("SELECT id FROM invoices ORDER BY id OFFSET %s LIMIT 1", place)
    if what == "lines":
        books.forge("UPDATE invoice_lines SET net_minor = net_minor + 1 WHERE invoice_id = %s", invoice)
        words = f"invoice {invoice}: net "
    else:
        books.forge("DELETE FROM transfers WHERE source = 'invoice' AND source_id = %s AND step = 'tax'", invoice)
        words = f"invoice {invoice}: tax "
    found = asyncio.run(checked(books.dsn))
    assert any(line.startswith(words) for truth, line in differing(found) if truth == 8)
    assert [check.examined for check in found if check.of == "lines"] == [
        check.examined for check in clean if check.of == "lines"
    ]


def noted(books: Books) -> tuple[int, str]:
    periods = asyncio.run(checked(books.dsn))[0]
    return periods.found, periods.note


def test_what_failed_or_came_later_is_counted_and_no_difference(books: Books) -> None:
    failing, later, changed = (books.account(f"B{number}") for number in range(3))
    books.order(failing, "2026-01-01 00:00+03")
    books.ask("INSERT INTO bill_failures (run_id, payer_account_id, reason) VALUES (2, %s, 'no_price')", failing)
    order = books.order(changed, "2026-01-01 00:00+03")
    books.ask("INSERT INTO order_events (order_id, event, actor) VALUES (%s, 'ended', 't')", order)
    books.ask("INSERT INTO orders (account_id, payer_account_id, terms_id, starts_at) VALUES (%s, %s, 1, '2026-01-01')",
              later, later)  # fmt: skip
    assert noted(books) == (
        0,
        "orders not billed up to 2026-03-01: 1 could not be billed and are in the failures of run 2; 2 were ordered or "
        "changed since run 2 and are due in the next",
    )


def test_a_failure_of_another_run_excuses_nothing(books: Books) -> None:
    account = books.account("B1")
    books.order(account, "2026-01-01 00:00+03")
    books.ask("INSERT INTO bill_failures (run_id, payer_account_id, reason) VALUES (1, %s, 'no_price')", account)
    assert noted(books) == (1, "")


def test_an_order_that_ended_is_billed_to_its_end_and_no_further(books: Books) -> None:
    account = books.account("B1")
    over = books.order(account, "2026-01-01 00:00+03", ends="2026-02-10 00:00+03")
    books.order(account, "2026-01-05 00:00+03", ends="2026-01-05 00:00+03")  # never lived
    books.order(account, "2026-02-20 00:00+03", ends="2026-03-10 00:00+03")
    books.period(over, "arrears", PERIODS[0], PERIODS[1], run=1)
    assert noted(books)[0] == 2
    books.period(over, "arrears", PERIODS[1], PERIODS[2], run=2)
    assert noted(books)[0] == 1
    books.period(3 + 3, "arrears", PERIODS[1], PERIODS[2], run=2)
    assert noted(books) == (0, "")


def test_usage_of_an_order_in_advance_is_billed_in_arrears_too(books: Books) -> None:
    order = books.order(books.account("B1"), "2026-01-01 00:00+03", in_advance=True)
    for start, end in pairwise(PERIODS):
        books.period(order, "advance", start, end, run=2)
    assert noted(books)[0] == 1  # plan home has data, which is metered; the order on the fee alone has no such part
    for start, end in pairwise(PERIODS[:3]):
        books.period(order, "arrears", start, end, run=2)
    assert noted(books) == (0, "")


def test_records_may_begin_where_an_earlier_system_stopped(books: Books) -> None:
    order = books.order(books.account("B1"), "2020-01-01 00:00+03")
    books.forge(
        "INSERT INTO order_periods SELECT %s, 'arrears', %s, %s, 'billed', '', 1, 1, 500, NULL, 1", order, *PERIODS[:2]
    )
    books.period(order, "arrears", *PERIODS[1:3], run=2)
    assert noted(books) == (0, "")


def test_orders_are_walked_in_chunks(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cycle_verify_periods, "CHUNK", 2)
    periods = asyncio.run(checked(books.dsn))[0]
    assert (periods.examined, periods.found) == (3, 0)


def test_events_that_no_order_covers_are_told(books: Books, database: Any) -> None:
    account = books.one("SELECT id FROM accounts WHERE number = 'A1'")
    at = datetime.now(UTC) - timedelta(days=1)
    Books(database.owner_dsn).ask("SELECT usage_month(%s)", at)
    for number, item in enumerate(("data", "voice"), 1):
        books.ask("INSERT INTO usage_events (id, account_id, item, at, counts_at, quantity_micro, import_id, line)"
                  " VALUES (%s, %s, %s, %s, %s, 1, 1, 1)", number, account, item, at, at)  # fmt: skip
    books.ask("UPDATE usage_open SET open_from = now()")
    usage = asyncio.run(checked(books.dsn))[1]
    assert (usage.examined, usage.found) == (2, 0)
    assert usage.note == "1 events that no order covers are not billed: 1 of item voice; `kopeck usage unbilled`"
