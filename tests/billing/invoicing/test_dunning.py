"""billing.invoicing.dunning: steps in order and once a spell, suspension and cancellation, and payments that lift at
once."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

import aiopg
import psycopg2
import pytest

from billing.customers.customers import move_customer
from billing.invoicing.dunning import (
    DunningError,
    DunningStep,
    check_steps,
    list_steps,
    parse_steps,
    run_chunk,
    set_steps,
)
from billing.invoicing.dunning_store import history_of, standing_of
from billing.ledger.account_store import post_manual
from ratingcore.money import Minor
from tests.billing.invoicing.invoice_books import Books, Charge, utc_today

T = TypeVar("T")


def done(dsn: str, work: Callable[[Any], Awaitable[T]]) -> T:
    async def inside() -> T:
        async with aiopg.connect(dsn) as connection, connection.cursor() as cur:
            await cur.execute("BEGIN")
            result = await work(cur)
            await cur.execute("COMMIT")
            return result

    return asyncio.run(inside())


@pytest.fixture
def books(database: Any) -> Books:
    found = Books(database.dsn, admin_dsn=database.admin_dsn)
    found.catalogue()
    found.ask("UPDATE dunning_settings SET days_between = 0")  # test_dunning has what days between steps do
    return found


def owe(books: Books, account: int, amount: int, due_days_ago: int) -> int:
    due = utc_today() - timedelta(days=due_days_ago)
    on = due - timedelta(days=14)
    return books.invoices(books.run(on), [(account, [Charge(amount)])], on=on)[0]


def run(books: Books, today: date | None = None) -> dict[str, int]:
    return dict(done(books.dsn, lambda cur: run_chunk(cur, 0, today, "t")).actions)


def events(books: Books, account: int) -> list[tuple[int, str]]:
    return books.ask("SELECT step, action FROM dunning_events WHERE account_id = %s ORDER BY id", account)  # type: ignore[return-value]


def open_suspensions(books: Books) -> list[int]:
    return [row[0] for row in books.ask("SELECT order_id FROM order_suspensions WHERE until_at IS NULL ORDER BY 1")]


def paid_by_hand(books: Books, account: int, amount: int) -> None:
    """A posting through the ledger of the program, as a payment is."""
    other = books.system("adjustment")

    async def work(cur: Any) -> None:
        posting = await post_manual(
            cur,
            key="paid",
            actor="t",
            why="bank",
            debit_id=other,
            credit_id=account,
            amount=Minor(amount),
            currency="RUB",
        )
        assert posting is not None
        assert len(posting.posted) == 1

    done(books.dsn, work)


def test_steps_come_in_order_one_event_each_and_never_twice_in_a_spell(books: Books) -> None:
    account = books.account("A1")
    owe(books, account, 10_000, due_days_ago=5)
    assert run(books) == {"reminder": 1}
    assert run(books) == {}
    assert run(books, utc_today()) == {}
    owe(books, account, 20_000, due_days_ago=1)  # another invoice joins the same spell
    assert run(books) == {}
    older = books.account("A2")
    owe(books, older, 10_000, due_days_ago=20)
    assert run(books) == {"reminder": 1, "warning": 1, "suspension": 1}
    assert events(books, older) == [(1, "reminder"), (2, "warning"), (3, "suspension")]
    assert books.one("SELECT dunning_step FROM accounts WHERE id = %s", older) == 3


@pytest.mark.parametrize(
    ("due_days_ago", "steps"), [(0, []), (1, [1]), (6, [1]), (7, [1, 2]), (13, [1, 2]), (14, [1, 2, 3])]
)
def test_a_step_comes_on_its_day_and_not_before(books: Books, due_days_ago: int, steps: list[int]) -> None:
    account = books.account("A1", zone="UTC")
    owe(books, account, 100, due_days_ago)
    run(books)
    assert [step for step, _ in events(books, account)] == steps


def test_what_is_not_due_yet_or_paid_is_left_alone(books: Books) -> None:
    paid, early = books.account("A1"), books.account("A2")
    owe(books, paid, 10_000, due_days_ago=30)
    books.pay(paid, 10_000)
    owe(books, early, 10_000, due_days_ago=-3)
    assert run(books) == {}


def test_a_debt_no_invoice_tells_of_is_not_overdue(books: Books) -> None:
    account = books.account("A1")
    books.pay(account, -5_000)
    assert run(books) == {}
    assert books.one("SELECT overdue_minor(%s, %s)", account, books.balance(account)) == 0


def test_a_paid_newer_invoice_does_not_hide_an_older_unpaid_one(books: Books) -> None:
    account = books.account("A1")
    owe(books, account, 10_000, due_days_ago=3)
    new = owe(books, account, 50_000, due_days_ago=-10)
    transfer = books.pay(account, 50_000)
    books.direct(transfer, new, 50000)
    assert run(books) == {"reminder": 1}
    assert done(books.dsn, lambda cur: standing_of(cur, "A1")).overdue == 10_000


# ---- suspension, cancellation, and what lifts them


def suspended(books: Books) -> tuple[int, int, int]:
    """(account, its open order, one suspended on request) after suspension; an order that is over is left alone."""
    account = books.account("A1")
    order = books.order(account, "2026-01-01 00:00+03")
    asked = books.order(account, "2026-02-01 00:00+03")
    books.order(account, "2025-01-01 00:00+03", ends="2025-06-01 00:00+03")
    books.ask(
        "INSERT INTO order_suspensions (order_id, from_at, reason, actor) VALUES (%s, now(), 'asked', 't')", asked
    )
    owe(books, account, 10_000, due_days_ago=20)
    assert run(books)["suspension"] == 1
    assert open_suspensions(books) == [order, asked]
    assert books.ask("SELECT order_id, event FROM order_events") == [(order, "suspended")]
    return account, order, asked


def test_a_payment_lifts_suspension_at_once_and_leaves_what_was_asked_for(books: Books) -> None:
    account, order, asked = suspended(books)
    paid_by_hand(books, account, 10_000)
    assert open_suspensions(books) == [asked]
    assert events(books, account)[-1] == (0, "lifted")
    assert books.one("SELECT dunning_step FROM accounts WHERE id = %s", account) == 0
    assert books.ask("SELECT order_id, event, actor FROM order_events ORDER BY id")[-1] == (
        order, "resumed", "system:payment",
    )  # fmt: skip
    assert run(books) == {}


def test_a_payment_of_a_part_lifts_nothing(books: Books) -> None:
    account, order, asked = suspended(books)
    paid_by_hand(books, account, 9_999)
    assert open_suspensions(books) == [order, asked]
    assert books.one("SELECT dunning_step FROM accounts WHERE id = %s", account) == 3


def test_who_pays_what_is_overdue_is_lifted_though_he_owes_what_is_not_due(books: Books) -> None:
    account, _order, asked = suspended(books)
    owe(books, account, 70_000, due_days_ago=-10)
    paid_by_hand(books, account, 10_000)
    assert open_suspensions(books) == [asked]
    assert books.balance(account) == -70_000


def test_a_new_spell_begins_again_with_the_first_step(books: Books) -> None:
    account, *_ = suspended(books)
    paid_by_hand(books, account, 10_000)
    owe(books, account, 500, due_days_ago=2)
    assert run(books) == {"reminder": 1}


def test_cancellation_ends_orders_and_payment_does_not_bring_them_back(books: Books) -> None:
    account, order, _ = suspended(books)
    books.period(order, "arrears", "2026-01-01 00:00+03", "2026-02-01 00:00+03", run=books.run(utc_today()))
    before = datetime.now(UTC).replace(microsecond=0)
    owe(books, account, 10_000, due_days_ago=70)
    assert run(books) == {"cancellation": 1}
    ends = books.one("SELECT ends_at FROM orders WHERE id = %s", order)
    assert before <= ends <= datetime.now(UTC)
    paid_by_hand(books, account, 20_000)
    assert books.one("SELECT ends_at FROM orders WHERE id = %s", order) == ends
    assert [row[0] for row in books.ask("SELECT event FROM order_events WHERE order_id = %s ORDER BY id", order)] == [
        "suspended", "ended", "resumed",
    ]  # fmt: skip


def test_cancellation_does_not_end_an_order_before_what_was_billed_of_it(books: Books) -> None:
    account = books.account("A1")
    order = books.order(account, "2026-01-01 00:00+03")
    billed_to = (utc_today() + timedelta(days=5)).isoformat()
    books.period(order, "arrears", "2026-01-01 00:00+03", f"{billed_to} 00:00+03", run=books.run(utc_today()))
    owe(books, account, 10_000, due_days_ago=70)
    run(books)
    assert books.one("SELECT ends_at = %s::timestamptz FROM orders WHERE id = %s", f"{billed_to} 00:00+03", order)


def test_a_payer_answers_for_the_orders_of_those_he_pays_for(books: Books) -> None:
    payer, child = books.account("A1"), books.account("A2")
    order = books.order(child, "2026-01-01 00:00+03", payer=payer)
    owe(books, payer, 10_000, due_days_ago=15)
    run(books)
    assert open_suspensions(books) == [order]


def test_another_payer_lifts_what_the_former_ones_debt_suspended(books: Books) -> None:
    _, order, asked = suspended(books)
    books.account("B1")
    done(books.dsn, lambda cur: move_customer(cur, "A1", "B1", True, "t"))
    assert open_suspensions(books) == [asked]
    assert books.ask("SELECT event, actor FROM order_events WHERE order_id = %s ORDER BY id", order) == [
        ("suspended", "t"), ("payer_moved", "t"), ("resumed", "t"),
    ]  # fmt: skip


def test_a_payer_who_is_suspended_himself_lifts_nothing_until_he_pays(books: Books) -> None:
    _, order, asked = suspended(books)
    payer = books.account("B1")
    owe(books, payer, 500, due_days_ago=20)
    run(books)
    done(books.dsn, lambda cur: move_customer(cur, "A1", "B1", True, "t"))
    assert open_suspensions(books) == [order, asked]
    paid_by_hand(books, payer, 500)
    assert open_suspensions(books) == [asked]


def test_who_moves_there_and_back_is_suspended_again(books: Books) -> None:
    account, order, asked = suspended(books)
    books.account("B1")
    done(books.dsn, lambda cur: move_customer(cur, "A1", "B1", True, "t"))
    done(books.dsn, lambda cur: move_customer(cur, "A1", "", False, "t"))
    assert open_suspensions(books) == [order, asked]
    paid_by_hand(books, account, 10_000)
    assert open_suspensions(books) == [asked]


def test_orders_that_move_to_a_payer_who_is_suspended_are_suspended(books: Books) -> None:
    _, order, asked = suspended(books)
    child = books.order(books.account("B1"), "2026-01-01 00:00+03")
    done(books.dsn, lambda cur: move_customer(cur, "B1", "A1", True, "t"))
    assert open_suspensions(books) == [order, asked, child]


def test_a_payer_who_was_only_reminded_lifts_what_the_former_ones_debt_suspended(books: Books) -> None:
    _, _, asked = suspended(books)
    payer = books.account("B1")
    owe(books, payer, 500, due_days_ago=20)
    run(books)
    paid_by_hand(books, payer, 500)  # an earlier spell, with a suspension, is over
    owe(books, payer, 500, due_days_ago=2)
    assert run(books) == {"reminder": 1}
    done(books.dsn, lambda cur: move_customer(cur, "A1", "B1", True, "t"))
    assert open_suspensions(books) == [asked]


def test_a_run_lifts_what_became_settled_without_a_payment(books: Books) -> None:
    account, _order, asked = suspended(books)
    books.ask("UPDATE billing_accounts SET zone = 'UTC'")
    transfer = books.pay(account, 1)
    claim = books.one("SELECT id FROM invoices")
    books.direct(transfer, claim, 10000)
    assert run(books) == {"lifted": 1}
    assert open_suspensions(books) == [asked]


def test_accounts_to_lift_and_to_remind_are_locked_in_one_order(books: Books) -> None:
    low, high = books.account("low"), books.account("high")
    books.ask("UPDATE accounts SET dunning_step = 1 WHERE id = %s", low)  # settled by what was no payment
    owe(books, high, 10000, 2)
    with closing(psycopg2.connect(books.dsn)) as payment, payment.cursor() as cur:
        cur.execute("SELECT FROM accounts WHERE id = %s FOR NO KEY UPDATE", (low,))
        dunning = threading.Thread(target=run, args=(books,))
        dunning.start()
        while dunning.is_alive() and not books.one(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ):
            time.sleep(0.01)
        cur.execute("SELECT FROM accounts WHERE id = %s FOR NO KEY UPDATE NOWAIT", (high,))  # it holds nothing above
        payment.rollback()
        dunning.join()
    assert events(books, low) == [(0, "lifted")]
    assert events(books, high) == [(1, "reminder")]


# ---- steps as data


def test_a_group_goes_by_its_own_steps_and_the_others_by_those_of_everybody(books: Books) -> None:
    gold, other = books.account("A1", group="gold"), books.account("A2", group="tin")
    done(books.dsn, lambda cur: set_steps(cur, "gold", parse_steps(["3:reminder", "90:suspension"])))
    for account in (gold, other):
        owe(books, account, 100, due_days_ago=20)
    run(books)
    assert [step for step, _ in events(books, gold)] == [1]
    assert [step for step, _ in events(books, other)] == [1, 2, 3]
    assert done(books.dsn, list_steps)["gold"] == [DunningStep(1, 3, "reminder"), DunningStep(2, 90, "suspension")]
    done(books.dsn, lambda cur: set_steps(cur, "gold", []))
    assert run(books) == {"warning": 1, "suspension": 1}


def test_a_reminder_before_the_due_date_comes_once_for_an_invoice(books: Books) -> None:
    done(books.dsn, lambda cur: set_steps(cur, "", parse_steps(["-3:reminder", "1:warning"])))
    account = books.account("A1", zone="UTC")
    owe(books, account, 100, due_days_ago=-2)
    assert run(books) == {"reminder": 1}
    assert run(books) == {}
    assert books.one("SELECT dunning_step FROM accounts WHERE id = %s", account) == 0
    owe(books, account, 100, due_days_ago=1)
    assert run(books) == {"reminder": 1, "warning": 1}


IMPOSSIBLE = [
    ([DunningStep(1, 7, "warning"), DunningStep(2, 7, "suspension")], "must ascend"),
    ([DunningStep(1, 7, "shouting")], "must be one of"),
    ([DunningStep(1, 4_000, "warning")], "-60 to 3650"),
    ([DunningStep(1, 0, "cancellation")], "comes after the due date"),
    ([DunningStep(n, n, "warning") for n in range(1, 102)], "at most 100"),
]


@pytest.mark.parametrize(("steps", "words"), IMPOSSIBLE, ids=[words for _, words in IMPOSSIBLE])
def test_impossible_steps_are_refused(steps: list[DunningStep], words: str) -> None:
    with pytest.raises(DunningError, match=words):
        check_steps(steps)


@pytest.mark.parametrize("word", ["7", "seven:warning", "7:", ":warning", "٧:warning", "--7:warning"])
def test_words_that_are_no_step_are_refused(word: str) -> None:
    with pytest.raises(DunningError, match="no step such as"):
        parse_steps([word])


def test_a_date_to_come_is_refused(books: Books) -> None:
    with pytest.raises(DunningError, match="is to come"):
        run(books, utc_today() + timedelta(days=2))


def test_everybody_cannot_be_left_without_steps(books: Books) -> None:
    with pytest.raises(DunningError, match="cannot be empty"):
        done(books.dsn, lambda cur: set_steps(cur, "", []))


def test_an_accounts_standing_and_history_are_told(books: Books) -> None:
    account, *_ = suspended(books)
    paid_by_hand(books, account, 4_000)
    found = done(books.dsn, lambda cur: standing_of(cur, "A1"))
    assert (found.balance, found.overdue, found.step) == (-6_000, 6_000, 3)
    assert found.oldest_due_on == utc_today() - timedelta(days=20)
    history = done(books.dsn, lambda cur: history_of(cur, account, 2))
    assert [(one.action, one.invoice, one.overdue) for one in history] == [
        ("suspension", "I-000001", 10_000),
        ("warning", "I-000001", 10_000),
    ]


def test_chunks_go_on_where_the_last_one_ended(books: Books) -> None:
    for number in range(5):
        owe(books, books.account(f"A{number}"), 100, due_days_ago=2)
    after: int | None = 0
    counts = []
    while after is not None:
        start = after
        ran = done(books.dsn, lambda cur, start=start: run_chunk(cur, start, None, "t", looked=2))
        counts.append(ran.actions.get("reminder", 0))
        after = ran.after
    assert sum(counts) == 5
    assert max(counts) == 2


def test_a_payment_that_lifts_reads_the_payers_orders_and_no_others(books: Books, database: Any) -> None:
    account, *_ = suspended(books)
    with closing(psycopg2.connect(database.admin_dsn)) as connection, connection, connection.cursor() as cur:
        cur.execute(
            "WITH others AS (INSERT INTO accounts (number, kind) SELECT 'B' || n, 'subscriber'"
            " FROM generate_series(1, 20000) n RETURNING id),"
            " billed AS (INSERT INTO billing_accounts (account_id, customer_id, payer_account_id)"
            " SELECT o.id, c.id, o.id FROM others o, (SELECT min(id) AS id FROM customers) c),"
            " ordered AS (INSERT INTO orders (account_id, payer_account_id, terms_id, starts_at, settled_at)"
            " SELECT o.id, o.id, t.id, '2026-01-01', CASE WHEN o.id % 2 = 0 THEN now() END"
            " FROM others o, (SELECT min(id) AS id FROM order_terms) t RETURNING id)"
            " INSERT INTO order_suspensions (order_id, from_at, reason, actor)"
            " SELECT id, '2026-06-01', 'dunning', 'test' FROM ordered"
        )
        cur.execute("ANALYZE accounts, billing_accounts, orders, order_suspensions")
    with closing(psycopg2.connect(books.dsn)) as connection, connection.cursor() as cur:
        cur.execute("UPDATE accounts SET balance_minor = 0 WHERE id = %s", (account,))
        cur.execute(
            "SELECT relname, seq_scan, idx_tup_fetch FROM pg_stat_xact_user_tables"
            " WHERE relname IN ('orders', 'order_suspensions', 'billing_accounts')"
        )
        found = {name: (scans, fetched) for name, scans, fetched in cur.fetchall()}
        cur.execute("SELECT dunning_step FROM accounts WHERE id = %s", (account,))
        assert cur.fetchone() == (0,)
    assert {name: scans for name, (scans, _) in found.items()} == dict.fromkeys(found, 0)
    assert set(found) == {"orders", "order_suspensions", "billing_accounts"}
    assert max(fetched for _, fetched in found.values()) < 20
