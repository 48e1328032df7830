"""Prepaid payers on the real database: billed oldest first as the balance bears, suspended, resumed by payment."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from billing.charging.bills import bill_shard
from billing.charging.tariffs import prepare_tariffs
from billing.cycle import run as cycle_run
from billing.cycle.plan import NewRun
from billing.cycle.posting import post_shard
from billing.cycle.run import Crew
from billing.cycle.store import ReadRequest, claim_shard, read_catalogues, read_shard, read_terms
from billing.cycle.write_store import write_shard
from billing.database.link import Link
from billing.orders.orders import resume_order
from billing.verification.periods import check_periods
from kopeck.databases.transactions import in_transaction
from tests.billing.cycle.base import Base, cycle_base

FEE = 30_000
MOSCOW = "Europe/Moscow"


@pytest.fixture
def base(database) -> Iterator[Base]:
    with cycle_base(database.dsn, database.owner_dsn) as made:
        yield made


def prepaid(base: Base, starts_at: str = "2026-06-01T00:00:00+03:00", number: str = "P1", **more: Any) -> int:
    account = base.subscriber(number, kind="prepaid")
    base.order(account, in_advance=True, starts_at=starts_at, **more)
    return account


def billed(base: Base, account: int) -> list[tuple[str, int]]:
    """(period's start in Moscow, amount) of what is recorded."""
    return base.rows(
        "SELECT (p.period_start AT TIME ZONE 'Europe/Moscow')::date::text, p.amount_minor FROM order_periods p "
        "JOIN orders o ON o.id = p.order_id WHERE o.account_id = %s AND part = 'advance' ORDER BY p.period_start",
        account,
    )


def pauses(base: Base) -> list[tuple[str, bool, int]]:
    """(reason, whether it lasts, need) of every suspension."""
    return base.rows("SELECT reason, until_at IS NULL, need_minor FROM order_suspensions ORDER BY id")


def verified(base: Base) -> list[str]:
    check = in_transaction(base.dsn, check_periods)
    return [one.text for one in check.findings]


def test_a_prepaid_subscriber_who_once_could_not_pay_is_billed_by_later_payments(base: Base) -> None:
    """June is unpaid; then the fee of a month comes in before each run of July to November."""
    account = prepaid(base)
    for month in range(6, 12):
        if month > 6:
            base.pay(account, FEE)
        outcome = base.bill(date(2026, month, 1))
        assert [one.reason for one in outcome.summary.listed] == ["balance_too_low"]
        assert base.balance(account) == 0
        assert verified(base) == []
    months = [f"2026-{month:02d}-01" for month in range(6, 11)]
    assert billed(base, account) == [(month, FEE) for month in months]
    assert [one[0] for one in pauses(base)][:1] == ["balance"]
    assert base.differences() == []


def test_what_is_not_borne_suspends_its_order_from_the_date_of_the_run(base: Base) -> None:
    day = datetime.now(UTC).date() + timedelta(days=40)
    first = day.replace(day=1)
    account = prepaid(base, f"{first}T00:00:00+03:00")
    assert base.bill(first).summary.failures == 1
    assert base.rows("SELECT (from_at AT TIME ZONE 'Europe/Moscow')::date, need_minor FROM order_suspensions") == [
        (first, FEE)
    ]
    assert base.rows("SELECT event, details->>'reason', actor FROM order_events") == [("suspended", "balance", "test")]
    assert base.one("SELECT balance_short FROM accounts WHERE id = %s", account) is True
    # The order is paused and waits: nothing more of it is due, and nothing fails.
    assert base.bill(first).summary.failures == 0
    assert len(pauses(base)) == 1


def test_a_payment_resumes_what_the_balance_bears_again_and_the_next_run_bills_it(base: Base) -> None:
    first = (datetime.now(UTC).date() + timedelta(days=40)).replace(day=1)
    account = prepaid(base, f"{first}T00:00:00+03:00")
    base.bill(first)
    base.pay(account, FEE - 1)
    assert [one[1] for one in pauses(base)] == [True]
    base.pay(account, 1)
    assert [one[1] for one in pauses(base)] == [False]
    assert base.one("SELECT balance_short FROM accounts WHERE id = %s", account) is False
    assert base.rows("SELECT event, actor FROM order_events ORDER BY id")[-1] == ("resumed", "system:payment")
    assert base.bill(first).summary.is_clean
    # It was taken back before it had begun, so the whole month is charged.
    assert billed(base, account) == [(str(first), FEE)]
    assert base.differences() == []


def test_a_suspension_that_lasted_is_not_charged(base: Base) -> None:
    account = prepaid(base, "2026-01-01T00:00:00+03:00")
    order = base.one("SELECT id FROM orders")
    base.rows(
        "INSERT INTO order_suspensions (order_id, from_at, reason, need_minor, actor) "
        "VALUES (%s, '2026-02-01T00:00:00+03:00', 'balance', 100, 'test')",
        order,
    )
    base.pay(account, 2 * FEE)
    base.bill(date(2026, 1, 1))
    base.rows("UPDATE order_suspensions SET until_at = '2026-02-15T00:00:00+03:00'")
    assert base.bill(date(2026, 2, 15)).summary.is_clean
    assert billed(base, account) == [("2026-01-01", FEE), ("2026-02-01", FEE // 2)]


def test_a_lower_floor_resumes_too(base: Base) -> None:
    account = prepaid(base)
    base.bill(date(2026, 6, 1))
    base.rows("UPDATE accounts SET floor_minor = %s WHERE id = %s", -FEE, account)
    assert [one[1] for one in pauses(base)] == [False]


def test_a_payment_resumes_oldest_first_and_each_order_that_it_bears(base: Base) -> None:
    account = prepaid(base, quantity=5)
    base.order(account, in_advance=True, starts_at="2026-06-02T00:00:00+03:00", quantity=1)
    base.order(account, in_advance=True, starts_at="2026-06-03T00:00:00+03:00", quantity=1)
    base.bill(date(2026, 6, 3))
    assert [one[1:] for one in pauses(base)] == [(True, 5 * FEE), (True, FEE * 29 // 30), (True, FEE * 28 // 30)]
    base.pay(account, FEE)
    assert [one[1] for one in pauses(base)] == [True, False, True]
    assert base.one("SELECT balance_short FROM accounts WHERE id = %s", account) is True


def test_what_a_run_bills_of_a_short_order_is_not_needed_any_more(base: Base) -> None:
    """Usage of the month before is borne by a small payment; to go on, the order then needs the fee alone."""
    first = (datetime.now(UTC).date() + timedelta(days=40)).replace(day=1)
    before = (first - timedelta(days=1)).replace(day=1)
    account = prepaid(base, f"{before}T00:00:00+03:00")
    base.pay(account, FEE)
    base.bill(before)
    base.call(account, f"{before}T12:00:00+03:00", 100)
    base.bill(first)
    assert [one[2] for one in pauses(base)] == [10_000 + FEE]
    base.pay(account, 12_000)
    assert base.bill(first).summary.is_clean
    assert base.balance(account) == 2_000
    assert [one[1:] for one in pauses(base)] == [(True, FEE)]
    base.pay(account, FEE - 2_000)
    assert [one[1] for one in pauses(base)] == [False]
    assert base.bill(first).summary.is_clean
    assert base.balance(account) == 0
    assert base.differences() == []


def test_a_review_suspends_when_it_is_approved(base: Base) -> None:
    prepaid(base)
    run_id = base.bill(date(2026, 6, 1), "review").summary.run_id
    assert pauses(base) == []
    cycle_run.approve(base.dsn, run_id, "boss")
    cycle_run.go_on(base.dsn, run_id, Crew(1))
    assert pauses(base) == [("balance", True, FEE)]


def test_a_person_may_resume_what_a_balance_does_not_bear(base: Base) -> None:
    account = prepaid(base)
    base.rows("UPDATE orders SET number = 'O-1' WHERE account_id = %s", account)
    base.bill(date(2026, 6, 1))
    now_s = int(datetime.now(UTC).timestamp())
    assert in_transaction(base.dsn, lambda cur: resume_order(cur, "O-1", now_s, "boss"))
    assert [one[1] for one in pauses(base)] == [False]
    base.pay(account, 1)
    assert base.one("SELECT balance_short FROM accounts WHERE id = %s", account) is False


def test_an_order_that_moves_goes_by_the_balance_of_its_new_payer(base: Base) -> None:
    prepaid(base)
    base.bill(date(2026, 6, 1))
    poor, rich = base.subscriber("P2", kind="prepaid"), base.subscriber("P3", kind="prepaid")
    base.rows("UPDATE orders SET payer_account_id = %s", poor)
    assert [one[1] for one in pauses(base)] == [True]
    assert base.one("SELECT balance_short FROM accounts WHERE id = %s", poor) is True
    base.pay(rich, FEE)
    base.rows("UPDATE orders SET payer_account_id = %s", rich)
    assert [one[1] for one in pauses(base)] == [False]


def test_a_payment_that_comes_while_a_shard_is_computed_is_seen(base: Base) -> None:
    """The shard read a balance of nothing; a payment committed before the shard locked the account."""
    account = prepaid(base)
    run_id = cycle_run.start_run(base.dsn, NewRun(date(2026, 6, 1), "post", "test"))
    link = Link(base.dsn)

    def shard(opened: Any) -> None:
        claim = claim_shard(opened, run_id, 0)
        tariffs = prepare_tariffs(read_catalogues(opened, run_id).readable, read_terms(opened))
        read = read_shard(opened, claim, ReadRequest(frozenset({1}), frozenset(), frozenset(), frozenset()))
        base.pay(account, FEE)
        bill = bill_shard(read, tariffs)
        write_shard(opened, claim, read, bill, "test")
        post_shard(opened, run_id, 0)

    link.run(shard)
    link.close()
    assert [one[1] for one in pauses(base)] == [False]
    assert base.one("SELECT balance_short FROM accounts WHERE id = %s", account) is False
    cycle_run.go_on(base.dsn, run_id, Crew(1))
    base.bill(date(2026, 6, 1))
    assert base.balance(account) == 0


def test_a_postpaid_order_of_the_same_run_is_billed_beside_a_short_one(base: Base) -> None:
    prepaid(base)
    other = base.subscriber("S2")
    base.order(other, starts_at="2026-05-01T00:00:00+03:00")
    base.bill(date(2026, 6, 1))
    assert base.balance(other) == -FEE
