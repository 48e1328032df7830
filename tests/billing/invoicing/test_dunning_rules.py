"""Dunning: warnings before suspensions, the least debt, delays, previews, who is blocked, and short locks."""

import threading
import time
from contextlib import closing
from datetime import date, timedelta
from typing import Any

import psycopg2
import pytest

import billing.invoicing.dunning
from billing.invoicing.dunning import DunningError, parse_steps, run_chunk, set_steps
from billing.invoicing.dunning_delays import delay_account, withdraw_delay
from billing.invoicing.dunning_preview import Debtor, Preview, preview_span
from billing.invoicing.dunning_store import (
    history_of,
    list_blocked,
    next_step,
    set_days_between,
    set_minimum,
    settings_of,
    standing_of,
)
from billing.invoicing.invoices import InvoiceFilter
from billing.invoicing.store import list_invoices
from ratingcore.money import Minor
from tests.billing.invoicing.invoice_books import Books, utc_today
from tests.billing.invoicing.test_dunning import done, events, open_suspensions, owe, paid_by_hand, run


@pytest.fixture
def books(database: Any) -> Books:
    found = Books(database.dsn)
    found.catalogue()
    return found


def days_between(books: Books, days: int) -> None:
    done(books.dsn, lambda cur: set_days_between(cur, days))


# ---- warned first


def test_a_first_run_on_old_debts_reminds_and_warns_only(books: Books) -> None:
    for number, ago in enumerate((15, 70, 400)):
        account = books.account(f"A{number}")
        books.order(account, "2026-01-01 00:00+03")
        owe(books, account, 10_000, due_days_ago=ago)
    assert run(books) == {"reminder": 3, "warning": 3}
    assert run(books) == {}
    assert open_suspensions(books) == []


def test_each_harm_waits_for_the_days_after_the_step_before_it(books: Books) -> None:
    account = books.account("A1", zone="UTC")
    books.order(account, "2026-01-01 00:00+03")
    owe(books, account, 10_000, due_days_ago=70)
    days_between(books, 1)
    assert run(books) == {"reminder": 1, "warning": 1}
    assert run(books, utc_today()) == {}
    assert run(books, utc_today() + timedelta(days=1)) == {
        "suspension": 1
    }  # and no cancellation, though the debt is old enough
    days_between(books, 2)
    assert run(books, utc_today() + timedelta(days=1)) == {}
    days_between(books, 0)
    assert run(books) == {"cancellation": 1}


def test_days_are_those_of_the_accounts_zone(books: Books) -> None:
    east, west = books.account("A1", zone="Pacific/Kiritimati"), books.account("A2", zone="Pacific/Pago_Pago")
    for account in (east, west):
        owe(books, account, 10_000, due_days_ago=20)
    days_between(books, 1)
    assert run(books) == {"reminder": 2, "warning": 2}
    assert run(books) == {}


def test_a_warning_of_an_earlier_debt_is_none_of_this_one(books: Books, database: Any) -> None:
    account = books.account("A1", zone="UTC")
    owe(books, account, 10_000, due_days_ago=30)
    assert run(books) == {"reminder": 1, "warning": 1}
    with closing(psycopg2.connect(database.admin_dsn)) as connection, connection, connection.cursor() as cur:
        cur.execute("SET session_replication_role = replica")
        cur.execute("UPDATE dunning_events SET at = at - interval '10 days'")
    paid_by_hand(books, account, 10_000)
    owe(books, account, 500, due_days_ago=30)
    assert run(books) == {"reminder": 1, "warning": 1}
    assert run(books, utc_today() + timedelta(days=1)) == {}


def test_steps_without_a_warning_suspend_at_once(books: Books) -> None:
    done(books.dsn, lambda cur: set_steps(cur, "", parse_steps(["5:suspension", "9:cancellation"])))
    account = books.account("A1")
    owe(books, account, 10_000, due_days_ago=30)
    assert run(books) == {"suspension": 1}


# ---- the least debt


def test_less_than_the_least_debt_is_left_alone_and_the_rest_of_a_debt_lifts(books: Books) -> None:
    small, large = books.account("A1"), books.account("A2")
    order = books.order(large, "2026-01-01 00:00+03")
    done(books.dsn, lambda cur: set_minimum(cur, "RUB", Minor(1_000)))
    days_between(books, 0)
    owe(books, small, 999, due_days_ago=20)
    owe(books, large, 5_000, due_days_ago=20)
    assert run(books) == {"reminder": 1, "warning": 1, "suspension": 1}
    assert events(books, small) == []
    assert open_suspensions(books) == [order]
    paid_by_hand(books, large, 4_001)
    assert open_suspensions(books) == []
    assert events(books, large)[-1] == (0, "lifted")
    assert run(books) == {}
    assert done(books.dsn, settings_of).minimums == {"RUB": 1_000}
    done(books.dsn, lambda cur: set_minimum(cur, "RUB", Minor(0)))
    assert run(books)["suspension"] == 2


def test_a_least_debt_is_of_its_currency_only(books: Books) -> None:
    account = books.account("A1")
    done(books.dsn, lambda cur: set_minimum(cur, "USD", Minor(1_000_000)))
    owe(books, account, 1, due_days_ago=2)
    assert run(books) == {"reminder": 1}


@pytest.mark.parametrize(("currency", "minimum"), [("rub", 1), ("RUBL", 1), ("RUB", -1), ("РУБ", 1)])
def test_a_least_debt_that_cannot_be_is_refused(books: Books, currency: str, minimum: int) -> None:
    with pytest.raises(DunningError):
        done(books.dsn, lambda cur: set_minimum(cur, currency, Minor(minimum)))


# ---- delays


def suspended(books: Books) -> tuple[int, int]:
    account = books.account("A1", zone="UTC")
    order = books.order(account, "2026-01-01 00:00+03")
    owe(books, account, 10_000, due_days_ago=20)
    days_between(books, 0)
    assert run(books)["suspension"] == 1
    assert open_suspensions(books) == [order]
    return account, order


def delay(books: Books, until: date, reason: str = "promised", number: str = "A1") -> Any:
    return done(books.dsn, lambda cur: delay_account(cur, number, until, reason, "ann"))


def test_a_delay_resumes_at_once_and_nothing_comes_through_its_last_day(books: Books) -> None:
    account, order = suspended(books)
    standing, is_new = delay(books, utc_today())
    assert (standing.delayed_until, standing.delay_reason, standing.suspended_at, is_new) == (
        utc_today(), "promised", None, True,
    )  # fmt: skip
    assert open_suspensions(books) == []
    assert run(books) == {}
    assert not delay(books, utc_today())[1]
    assert run(books, utc_today() + timedelta(days=1)) == {"suspension": 1}
    assert open_suspensions(books) == [order]
    history = done(books.dsn, lambda cur: history_of(cur, account, 10))
    assert [(event.action, event.note, event.actor) for event in history][:2] == [
        ("suspension", "", "t"), ("delayed", f"until {utc_today()}: promised", "ann"),
    ]  # fmt: skip


def test_a_delay_ends_with_the_debt_and_can_be_withdrawn(books: Books) -> None:
    account, order = suspended(books)
    delay(books, utc_today() + timedelta(days=30))
    assert run(books, utc_today() + timedelta(days=1)) == {}
    assert done(books.dsn, lambda cur: withdraw_delay(cur, "A1", "did not keep it", "ann"))
    assert not done(books.dsn, lambda cur: withdraw_delay(cur, "A1", "did not keep it", "ann"))
    assert run(books) == {"suspension": 1}
    assert open_suspensions(books) == [order]
    delay(books, utc_today() + timedelta(days=1), "again")
    paid_by_hand(books, account, 10_000)
    assert events(books, account)[-1] == (0, "lifted")
    assert run(books) == {}


def test_a_delay_that_cannot_be_is_refused(books: Books) -> None:
    payer = books.account("A1")
    child = books.account("A2")
    books.ask("UPDATE billing_accounts SET payer_account_id = %s WHERE account_id = %s", payer, child)
    for number, until, reason, message in (
        ("A1", utc_today() - timedelta(days=2), "x", "within 366 days"),
        ("A1", utc_today() + timedelta(days=400), "x", "within 366 days"),
        ("A1", utc_today(), " ", "reason"),
        ("A2", utc_today(), "x", "account A1 pays for account A2"),
        ("A3", utc_today(), "x", "there is no account 'A3'"),
    ):
        with pytest.raises(DunningError, match=message):
            delay(books, until, reason, number)
    assert books.one("SELECT count(*) FROM dunning_delays") == 0


# ---- what is seen


def test_history_stays_in_view_after_a_payment_lifts(books: Books) -> None:
    account, _ = suspended(books)
    assert done(books.dsn, lambda cur: standing_of(cur, "A1")).suspended_at is not None
    paid_by_hand(books, account, 10_000)
    standing = done(books.dsn, lambda cur: standing_of(cur, "A1"))
    assert (standing.step, standing.overdue, standing.suspended_at) == (0, 0, None)
    history = done(books.dsn, lambda cur: history_of(cur, account, 10))
    assert [event.action for event in history] == ["lifted", "suspension", "warning", "reminder"]


def test_the_next_step_is_told_with_its_first_day(books: Books) -> None:
    account = books.account("A1", zone="UTC")

    def coming() -> Any:
        async def work(cur: Any) -> Any:
            return await next_step(cur, await standing_of(cur, "A1"))

        return done(books.dsn, work)

    assert coming() is None
    owe(books, account, 10_000, due_days_ago=5)
    assert coming() == ("reminder", utc_today() - timedelta(days=4))
    run(books)
    assert coming() == ("warning", utc_today() + timedelta(days=2))
    owe(books, account, 10_000, due_days_ago=20)
    run(books)
    assert coming() == ("suspension", utc_today() + timedelta(days=3))
    delay(books, utc_today() + timedelta(days=9))
    assert coming() == ("suspension", utc_today() + timedelta(days=10))
    done(books.dsn, lambda cur: set_minimum(cur, "RUB", Minor(100_000)))
    assert coming() is None


def test_who_is_blocked_now_is_listed(books: Books) -> None:
    account, order = suspended(books)
    asked, over, early, gone = (books.order(account, "2026-01-01 00:00+03") for _ in range(4))
    for one, since, until in (
        (asked, "-1 hour", "1 hour"), (over, "-2 hours", "-1 hour"), (early, "1 hour", None), (gone, "-1 hour", None),
    ):  # fmt: skip
        books.ask(
            "INSERT INTO order_suspensions (order_id, from_at, until_at, reason, actor)"
            " VALUES (%s, now() + %s::interval, now() + %s::interval, 'asked', 't')",
            one, since, until,
        )  # fmt: skip
    books.ask("UPDATE orders SET ends_at = now() WHERE id = %s", gone)
    found = done(books.dsn, lambda cur: list_blocked(cur, "", 0, 10))
    assert [(one.order_id, one.reason, one.account, one.plan) for one in found] == [
        (order, "dunning", "A1", "home"), (asked, "asked", "A1", "home"),
    ]  # fmt: skip
    assert [one.order_id for one in done(books.dsn, lambda cur: list_blocked(cur, "dunning", 0, 10))] == [order]
    assert [one.order_id for one in done(books.dsn, lambda cur: list_blocked(cur, "", order, 10))] == [asked]


def previewed(books: Books, most: int = 10) -> tuple[Preview, list[Debtor]]:
    preview, told = Preview(most), list[Debtor]()
    assert done(books.dsn, lambda cur: preview_span(cur, preview, 0, None, told.extend)) == (None, 4)
    return preview, told


def test_a_preview_tells_what_the_run_then_does_and_changes_nothing(books: Books) -> None:
    days_between(books, 0)
    for number, (amount, ago) in enumerate(((100, 2), (900, 8), (500, 20), (7_000, 70))):
        account = books.account(f"A{number}")
        books.order(account, "2026-01-01 00:00+03")
        owe(books, account, amount, due_days_ago=ago)
    preview, told = previewed(books)
    counts = {count.action: (count.accounts, count.overdue) for count in preview.counts}
    assert counts == {
        "reminder": (4, 8_500), "warning": (3, 8_400), "suspension": (2, 7_500), "cancellation": (1, 7_000),
    }  # fmt: skip
    assert (preview.suspended, preview.cancelled, preview.lifted) == (2, 1, 0)
    assert [(one.account, one.overdue) for one in previewed(books, 2)[0].largest] == [("A3", 7_000), ("A1", 900)]
    assert [one.actions for one in told][:2] == [("reminder",), ("reminder", "warning")]
    assert books.one("SELECT count(*) FROM dunning_events") == 0
    ran = done(books.dsn, lambda cur: run_chunk(cur, 0, None, "t"))
    assert ran.actions == {action: accounts for action, (accounts, _) in counts.items()}
    assert (ran.suspended, ran.cancelled) == (2, 1)


# ---- short locks


def test_no_more_accounts_are_locked_at_once_than_the_limit(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(billing.invoicing.dunning, "LOCKED", 2)
    for number in range(5):
        owe(books, books.account(f"A{number}"), 100, due_days_ago=2)
    counts, looked, after = [], [], 0
    while True:
        ran = done(books.dsn, lambda cur, after=after: run_chunk(cur, after, None, "t"))
        counts.append(ran.actions.get("reminder", 0))
        looked.append(ran.looked)
        if ran.after is None:
            break
        after = ran.after
    assert counts == [2, 2, 1]
    assert looked == [2, 2, 1]
    assert billing.invoicing.dunning.LOOKED >= 500


def test_the_cost_does_not_grow_with_paid_history(books: Books, database: Any) -> None:
    account = books.account("A1")
    with closing(psycopg2.connect(database.admin_dsn)) as connection, connection, connection.cursor() as cur:
        cur.execute(
            "WITH block AS (INSERT INTO invoice_blocks (series_id, invoices_count, state) VALUES (1, 20000, 'posted')"
            " RETURNING id) INSERT INTO invoices (id, account_id, currency, invoiced_on, due_on, net_minor, tax_minor,"
            " total_minor) SELECT (b.id << 20) + n, CASE WHEN n < 200 THEN %s ELSE 1000000 + n %% 500 END, 'RUB',"
            " '2020-01-01'::date + n / 500, '2020-02-01'::date + n / 500, 100, 0, 100"
            " FROM block b, generate_series(0, 19999) n",
            (account,),
        )
        cur.execute("ANALYZE invoices, invoice_blocks")
    owe(books, account, 100, due_days_ago=2)
    with closing(psycopg2.connect(books.dsn)) as connection, connection.cursor() as cur:
        cur.execute("SELECT overdue_minor(id, balance_minor) FROM accounts WHERE id = %s", (account,))
        assert cur.fetchone() == (100,)
        cur.execute("SELECT idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'invoices'")
        [(fetched,)] = cur.fetchall()
    assert 1 <= fetched <= 10


def test_dunning_waits_for_a_shard_at_work_and_never_deadlocks_with_it(books: Books) -> None:
    days_between(books, 0)
    account = books.account("A1")
    order = books.order(account, "2026-01-01 00:00+03", plan="", item="setup", kind="one_time")
    owe(books, account, 10_000, due_days_ago=70)
    billing_run = books.run(utc_today(), "running")
    books.ask(
        "INSERT INTO bill_shards (run_id, shard_no, first_account_id, last_account_id) VALUES (%s, 0, 1, %s)",
        billing_run, account,
    )  # fmt: skip
    found: list[Any] = []
    with closing(psycopg2.connect(books.dsn)) as shard, shard.cursor() as cur:
        cur.execute("SELECT FROM bill_shards WHERE run_id = %s FOR UPDATE", (billing_run,))
        cur.execute("UPDATE orders SET settled_at = now() WHERE id = %s", (order,))
        dunning = threading.Thread(target=lambda: found.append(run(books)))
        dunning.start()
        while dunning.is_alive() and not books.one(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ):
            time.sleep(0.01)
        cur.execute("UPDATE accounts SET balance_minor = balance_minor - 1 WHERE id = %s", (account,))
        shard.rollback()
        dunning.join()
    assert found[0]["cancellation"] == 1


# ---- zones that the server does not know


def test_a_zone_that_the_server_does_not_know_stops_nobody(books: Books) -> None:
    stranger, other = books.account("A1"), books.account("A2")
    order = books.order(stranger, "2026-01-01 00:00+03")
    for account in (stranger, other):
        owe(books, account, 10_000, due_days_ago=20)
    books.ask("UPDATE billing_accounts SET zone = 'Moon/Tranquility' WHERE account_id = %s", stranger)
    days_between(books, 0)
    assert run(books)["suspension"] == 2
    assert len(done(books.dsn, lambda cur: list_invoices(cur, InvoiceFilter(), 10))) == 2
    assert done(books.dsn, lambda cur: standing_of(cur, "A1")).overdue == 10_000
    paid_by_hand(books, stranger, 10_000)
    assert order not in open_suspensions(books)


def test_a_zone_falls_back_to_utc_only_where_the_server_has_none(books: Books) -> None:
    asked = ("Europe/Moscow", "UTC", "Moon/Tranquility", "", None)
    assert [books.one("SELECT zone_or_utc(%s)", zone) for zone in asked] == ["Europe/Moscow", "UTC", *["UTC"] * 3]


def test_a_preview_of_no_accounts_is_empty(books: Books) -> None:
    assert done(books.dsn, lambda cur: preview_span(cur, Preview(1), 0, None, lambda _: None)) == (None, 0)
