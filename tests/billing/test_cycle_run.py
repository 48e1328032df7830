"""Whole runs of the billing cycle on the real database: money, numbers, reviews, what goes wrong on the way."""

import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from datetime import date, datetime
from typing import Any

import numpy as np
import psutil
import psycopg2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing import cycle_run, cycle_shard, cycle_store
from billing.customers import CustomerError, close_customer, move_customer
from billing.cycle_link import CycleStoreError, DatabaseAway, Link, rows
from billing.cycle_plan import NewRun, cut_shards
from billing.cycle_post import CycleRefused
from billing.cycle_run import Crew, Outcome
from billing.cycle_shard import Job, ShardWorker
from billing.cycle_summary import reconcile
from billing.orders import end_order, withdraw_end
from kopeck.transactions import in_transaction
from tests.billing.cycle_base import FEBRUARY, MARCH, Base, cycle_base

FEE = 30_000


@pytest.fixture
def base(database) -> Iterator[Base]:
    with cycle_base(database.dsn, database.owner_dsn) as made:
        yield made


def subscribers(base: Base, count: int) -> list[int]:
    """Accounts that owe the fee and minutes of January: 1 to ``count`` of them."""
    made = [base.subscriber(f"S{number}") for number in range(1, count + 1)]
    for number, account in enumerate(made, 1):
        base.order(account)
        base.call(account, "2026-01-15T12:00:00+03:00", number)
    return made


def totals(outcome: Outcome) -> list[tuple[str, int]]:
    return [(money.currency, money.total_minor) for money in outcome.summary.money]


def test_orders_become_numbered_invoices_and_money_moves(base: Base) -> None:
    accounts = subscribers(base, 3)
    outcome = base.bill()
    assert outcome.summary.state == "done"
    assert outcome.summary.is_clean
    assert outcome.reconciled is not None
    assert outcome.reconciled.agrees
    assert base.invoices() == [
        ("I-000001", accounts[0], FEE + 100),
        ("I-000002", accounts[1], FEE + 200),
        ("I-000003", accounts[2], FEE + 300),
    ]
    assert [base.balance(account) for account in accounts] == [-30_100, -30_200, -30_300]
    revenue, tax = (
        base.one("SELECT balance_minor FROM accounts WHERE number = %s", f"{kind}:RUB") for kind in ("revenue", "tax")
    )
    assert (revenue + tax, tax) == (90_600, sum(round(total * 22 / 122) for total in (FEE, 100, FEE, 200, FEE, 300)))
    assert base.differences() == []


def test_a_credit_note_written_meanwhile_is_none_of_the_runs(base: Base) -> None:
    accounts = subscribers(base, 2)
    run_id = cycle_run.start_run(base.dsn, NewRun(FEBRUARY, "post", "test", shard_payers=1))
    worker = ShardWorker(Job(base.dsn, run_id))
    assert worker.do(0).state == "posted"
    base.rows(
        "WITH block AS (INSERT INTO invoice_blocks (series_id, invoices_count) "
        "SELECT id, 1 FROM invoice_series WHERE kind = 'credit_note' RETURNING id) "
        "INSERT INTO invoices (id, account_id, currency, invoiced_on, due_on, net_minor, tax_minor, total_minor) "
        "SELECT id << 20, %s, 'RUB', '2026-02-01', '2026-02-01', -82, -18, -100 FROM block",
        accounts[0],
    )
    assert worker.do(1).state == "posted"
    worker.close()
    outcome = cycle_run.go_on(base.dsn, run_id, Crew(1))
    assert outcome.reconciled is not None
    assert outcome.reconciled.agrees
    assert sum(money.total_minor for money in outcome.reconciled.invoices) == 2 * FEE + 300


def test_a_run_that_does_not_reconcile_says_so(base: Base) -> None:
    account = subscribers(base, 1)[0]
    run_id = base.bill().summary.run_id
    invoice = base.one("SELECT id FROM invoices WHERE account_id = %s", account)
    base.rows(
        "INSERT INTO transfers (source, source_id, step, debit_account_id, credit_account_id, amount_minor, currency) "
        "SELECT 'invoice', %s, 'again', %s, id, 1, 'RUB' FROM accounts WHERE number = 'tax:RUB'",
        invoice,
        account,
    )
    link = Link(base.dsn)
    found = link.run(lambda opened: reconcile(opened, run_id, is_posted=True))
    link.close()
    assert found.lines == found.invoices
    assert not found.agrees


def test_what_was_billed_is_not_billed_again_and_what_was_missed_is(base: Base) -> None:
    account = subscribers(base, 1)[0]
    base.bill()
    assert base.bill().summary.invoices == 0
    outcome = base.bill(MARCH.replace(month=5))
    assert (outcome.summary.invoices, outcome.summary.lines) == (1, 3)  # February, March, April
    assert base.balance(account) == -(FEE + 100) - 3 * FEE
    assert base.differences() == []


def test_only_one_run_is_under_way(base: Base) -> None:
    subscribers(base, 1)
    run_id = cycle_run.start_run(base.dsn, NewRun(FEBRUARY, "post", "test"))
    with pytest.raises(
        CycleRefused, match=f"the run {run_id} of 2026-02-01 is running: `kopeck bill resume` comes first"
    ):
        cycle_run.start_run(base.dsn, NewRun(MARCH, "post", "test"))
    assert cycle_run.run_under_way(base.dsn) == run_id


def test_a_run_closes_usage_up_to_its_date(base: Base) -> None:
    subscribers(base, 1)
    base.bill()
    assert str(base.one("SELECT open_from AT TIME ZONE 'UTC' FROM usage_open")) == "2026-01-31 21:00:00"


def test_a_payer_who_cannot_be_billed_fails_alone_and_is_due_again(base: Base) -> None:
    good, bad = subscribers(base, 2)
    base.order(bad, plan="gone")
    outcome = base.bill()
    assert not outcome.summary.is_clean
    assert [(one.account, one.reason) for one in outcome.summary.listed] == [("S2", "unknown_plan")]
    assert (base.balance(good), base.balance(bad)) == (-FEE - 100, 0)
    base.rows(
        "UPDATE orders SET ends_at = starts_at WHERE account_id = %s AND terms_id = (SELECT max(id) FROM order_terms)",
        bad,
    )
    assert base.bill(MARCH).summary.is_clean
    assert base.balance(bad) == -(FEE + 200) - FEE


def test_each_legal_entity_has_numbers_of_its_own(base: Base) -> None:
    entity = base.one("INSERT INTO legal_entities (number, name) VALUES ('second', 'Second') RETURNING id")
    for number in range(1, 5):
        base.order(base.subscriber(f"S{number}", entity=1 if number % 2 else entity))
    with pytest.raises(CycleRefused, match="legal entities without a series of invoices: second"):
        base.bill()
    base.rows("INSERT INTO invoice_series (legal_entity_id, kind, prefix) VALUES (%s, 'invoice', 'B-')", entity)
    base.bill(shard_payers=1)
    assert [number for number, _, _ in base.invoices()] == ["I-000001", "I-000002", "B-000001", "B-000002"]
    assert base.differences() == []


def test_a_parent_pays_for_children_wherever_their_accounts_lie(base: Base) -> None:
    first, parent = base.subscriber("S1"), base.subscriber("S2")
    child = base.subscriber("S3", payer=parent)
    base.rows("UPDATE billing_accounts SET payer_account_id = %s WHERE account_id = %s", parent, first)
    for account in (first, child):
        base.order(account)
        base.call(account, "2026-01-31T23:59:59+03:00", 7)
        base.call(account, "2026-02-01T00:00:00+03:00", 1_000)  # of the next period
    base.bill()
    assert base.invoices() == [("I-000001", parent, 2 * (FEE + 700))]
    with pytest.raises(CycleRefused, match="account S3 gets no invoices: S2 pays for it"):
        cycle_run.start_run(base.dsn, NewRun(MARCH, "post", "test", account="S3"))


def test_a_run_for_one_account_leaves_the_others_due(base: Base) -> None:
    one, other = subscribers(base, 2)
    run_id = cycle_run.start_run(base.dsn, NewRun(FEBRUARY, "post", "test", account="S1"))
    cycle_run.go_on(base.dsn, run_id, Crew(1))
    assert (base.balance(one), base.balance(other)) == (-FEE - 100, 0)
    base.bill()
    assert base.balance(other) == -FEE - 200
    with pytest.raises(CycleRefused, match="there is no account 'nobody'"):
        cycle_run.start_run(base.dsn, NewRun(MARCH, "post", "test", account="nobody"))


# ---- reviews


def test_a_review_moves_no_money_and_approval_posts_what_was_reviewed(base: Base) -> None:
    accounts = subscribers(base, 3)
    reviewed = base.bill(kind="review")
    assert (reviewed.summary.state, reviewed.summary.drafted) == ("reviewed", 1)
    assert reviewed.reconciled is not None
    assert reviewed.reconciled.agrees
    assert base.one("SELECT count(*) FROM transfers WHERE source = 'invoice'") == 0
    base.call(accounts[0], "2026-01-20T12:00:00+03:00", 500)  # too late for what is frozen
    base.rows("UPDATE orders SET ends_at = '2026-01-10T00:00:00+03:00'")
    cycle_run.approve(base.dsn, reviewed.summary.run_id, "somebody")
    approved = cycle_run.go_on(base.dsn, reviewed.summary.run_id, Crew(1))
    assert approved.summary.state == "done"
    assert totals(approved) == totals(reviewed) == [("RUB", 3 * FEE + 600)]
    assert [base.balance(account) for account in accounts] == [-30_100, -30_200, -30_300]
    assert base.one("SELECT approved_by FROM bill_runs WHERE id = %s", reviewed.summary.run_id) == "somebody"
    assert base.differences() == []


def test_a_voided_review_leaves_everything_due(base: Base) -> None:
    account = subscribers(base, 2)[1]
    base.rows(
        "INSERT INTO manual_lines (key, account_id, payer_account_id, description, amount_minor, tax_ppm, tax_inside, "
        "bill_on, actor, why) VALUES ('k', %s, %s, 'A card', 5000, 220000, true, '2026-01-20', 'test', 'lost')",
        account,
        account,
    )
    base.rows("UPDATE orders SET ends_at = '2026-01-11T00:00:00+03:00' WHERE account_id = %s", account)
    reviewed = base.bill(kind="review")
    assert base.one("SELECT count(*) FROM orders WHERE settled_at IS NOT NULL") == 1
    cycle_run.void_review(base.dsn, reviewed.summary.run_id)
    assert base.one("SELECT count(*) FROM invoices") == base.one("SELECT count(*) FROM invoice_lines") == 0
    assert base.one("SELECT count(*) FROM order_periods") == 0
    assert base.one("SELECT count(*) FROM orders WHERE settled_at IS NOT NULL") == 0
    again = base.bill()
    assert totals(again) == totals(reviewed)
    assert base.invoices()[0][0] == "I-000001"
    assert base.differences() == []


def test_only_a_review_that_waits_is_approved_or_voided(base: Base) -> None:
    subscribers(base, 1)
    posted = base.bill().summary.run_id
    with pytest.raises(CycleRefused, match=f"run {posted} is done: only a review that is complete can be approved"):
        cycle_run.approve(base.dsn, posted, "test")
    with pytest.raises(CycleRefused, match=f"run {posted} is a posting run: nothing of it can be voided"):
        cycle_run.void_review(base.dsn, posted)
    with pytest.raises(CycleRefused, match="there is no run 99"):
        cycle_run.approve(base.dsn, 99, "test")
    with pytest.raises(CycleRefused, match=f"run {posted} is done: nothing of it is left to be done"):
        cycle_run.go_on(base.dsn, posted, Crew(1))


def test_a_prepaid_payer_who_cannot_bear_his_invoice_is_not_billed(base: Base) -> None:
    poor, rich = (base.subscriber(number, kind="prepaid") for number in ("S1", "S2"))
    for account in (poor, rich):
        base.order(account)
    base.pay(poor, FEE - 1)
    base.pay(rich, FEE)
    outcome = base.bill()
    assert [(one.account, one.reason) for one in outcome.summary.listed] == [("S1", "balance_too_low")]
    assert (base.balance(poor), base.balance(rich)) == (FEE - 1, 0)


def test_approval_is_refused_while_a_prepaid_balance_does_not_bear_the_draft(base: Base) -> None:
    account = base.subscriber("S1", kind="prepaid")
    base.order(account)
    base.pay(account, FEE)
    run_id = base.bill(kind="review").summary.run_id
    base.pay(account, -1)
    with pytest.raises(CycleRefused, match="1 prepaid accounts cannot bear their invoices any more: S1"):
        cycle_run.approve(base.dsn, run_id, "test")
    base.pay(account, 1)
    cycle_run.approve(base.dsn, run_id, "test")
    base.pay(account, -1)  # between the decision and its execution
    hindered = cycle_run.go_on(base.dsn, run_id, Crew(1))
    assert (hindered.summary.state, hindered.summary.drafted) == ("approving", 1)
    assert [one.state for one in hindered.troubles] == ["failed"]
    assert "accounts_balance_floor" in hindered.troubles[0].why
    base.pay(account, 1)
    assert cycle_run.go_on(base.dsn, run_id, Crew(1)).summary.state == "done"
    assert base.differences() == []


# ---- what goes wrong


def test_a_shard_that_fails_is_told_and_done_by_a_later_resume(base: Base) -> None:
    accounts = subscribers(base, 3)
    base.rows(f"ALTER TABLE invoices ADD CONSTRAINT broken CHECK (account_id <> {accounts[1]})")
    outcome = base.bill(shard_payers=1)
    assert (outcome.summary.state, outcome.summary.posted, outcome.summary.failed) == ("running", 2, 1)
    assert "broken" in outcome.summary.failed_shards[0][1]
    assert base.invoices() == []  # numbers wait for everybody
    base.rows("ALTER TABLE invoices DROP CONSTRAINT broken")
    resumed = cycle_run.go_on(base.dsn, outcome.summary.run_id, Crew(1))
    assert (resumed.summary.state, resumed.summary.failed) == ("done", 0)
    assert [account for _, account, _ in base.invoices()] == accounts
    assert base.differences() == []


def test_a_run_may_be_finished_without_a_shard_that_fails(base: Base) -> None:
    accounts = subscribers(base, 2)
    base.rows(f"ALTER TABLE invoices ADD CONSTRAINT broken CHECK (account_id <> {accounts[0]})")
    run_id = base.bill(shard_payers=1).summary.run_id
    finished = cycle_run.go_on(base.dsn, run_id, Crew(1), leave_failed=True)
    assert (finished.summary.state, finished.summary.failed) == ("done", 1)
    assert base.invoices() == [("I-000001", accounts[1], FEE + 200)]
    base.rows("ALTER TABLE invoices DROP CONSTRAINT broken")
    base.bill(MARCH)
    assert base.balance(accounts[0]) == -(FEE + 100) - FEE
    assert base.differences() == []


def test_a_stopped_run_goes_on_where_it_was(base: Base) -> None:
    accounts = subscribers(base, 4)
    done = []
    run_id = cycle_run.start_run(base.dsn, NewRun(FEBRUARY, "post", "test", shard_payers=1))
    stopped = cycle_run.go_on(base.dsn, run_id, Crew(1), lambda _left, one: done.append(one), lambda: bool(done))
    assert stopped.stopped
    assert (stopped.summary.state, stopped.summary.due) == ("running", 3)
    resumed = cycle_run.go_on(base.dsn, run_id, Crew(2))
    assert (resumed.troubles, resumed.summary.state) == ((), "done")
    assert [account for _, account, _ in base.invoices()] == accounts
    assert base.differences() == []


def test_a_killed_worker_loses_nothing(base: Base) -> None:
    accounts = subscribers(base, 3)

    def kill(backends: list[int]) -> None:
        workers = [one for one in psutil.Process().children() if "spawn_main" in " ".join(one.cmdline())]
        assert len(workers) == len(backends) == 1
        workers[0].kill()

    outcome = while_posting(base, accounts[1], kill)
    assert outcome.summary.state == "done"
    assert outcome.troubles == ()
    assert [account for _, account, _ in base.invoices()] == accounts
    assert base.differences() == []


def test_a_worker_whose_connection_is_cut_opens_another(base: Base, database) -> None:
    accounts = subscribers(base, 3)

    def cut(backends: list[int]) -> None:
        with closing(psycopg2.connect(database.admin_dsn)) as admin, admin.cursor() as cur:
            cur.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s) AS pid", (backends,))

    outcome = while_posting(base, accounts[1], cut)
    assert outcome.summary.state == "done"
    assert outcome.troubles == ()
    assert base.differences() == []


def while_posting(base: Base, account: int, act: Callable[[list[int]], None]) -> Outcome:
    """A run during which ``act`` gets the backends that wait for ``account``, which is held until it returns."""
    run_id = cycle_run.start_run(base.dsn, NewRun(FEBRUARY, "post", "test", shard_payers=1))
    found: list[Outcome] = []
    runner = threading.Thread(target=lambda: found.append(cycle_run.go_on(base.dsn, run_id, Crew(1))))
    with closing(psycopg2.connect(base.dsn)) as holder, holder.cursor() as cur:
        cur.execute("SELECT FROM accounts WHERE id = %s FOR UPDATE", (account,))
        runner.start()
        act(waiting_backends(base))
    runner.join(60)
    assert not runner.is_alive()
    return found[0]


def waiting_backends(base: Base, programs: str = "kopeck-bill") -> list[int]:
    """Backends, of workers unless others are named, that wait for a lock, as soon as there are any."""
    deadline = time.monotonic() + 30
    with closing(psycopg2.connect(base.dsn)) as program, program.cursor() as cur:  # who sees sessions of its own role
        while time.monotonic() < deadline:
            cur.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
                "AND application_name LIKE %s",
                (programs,),
            )
            found = [int(pid) for (pid,) in cur.fetchall()]
            if found:
                return found
            program.rollback()
            time.sleep(0.05)
    raise AssertionError("no worker came to post")


def test_a_shard_that_another_session_holds_is_waited_for(base: Base) -> None:
    subscribers(base, 1)
    run_id = cycle_run.start_run(base.dsn, NewRun(FEBRUARY, "post", "test"))
    with closing(psycopg2.connect(base.dsn)) as holder, holder.cursor() as cur:
        cur.execute("SELECT FROM bill_shards WHERE run_id = %s FOR UPDATE", (run_id,))
        release = threading.Timer(0.5, holder.rollback)
        release.start()
        done = ShardWorker(Job(base.dsn, run_id)).do(0)
        release.join()
    assert done.state == "posted"
    assert ShardWorker(Job(base.dsn, run_id)).do(0).state == "posted"  # and is not done again
    assert base.one("SELECT count(*) FROM invoices") == 1


def test_a_database_that_stays_away_is_a_sentence(base: Base) -> None:
    away = "postgresql://nobody@127.0.0.1:1/none"
    with pytest.raises(DatabaseAway, match="the database is away: connection to server"):
        Link(away, 0.3).run(lambda opened: rows(opened, "SELECT 1"))
    assert ShardWorker(Job(away, 1, 0.3)).do(0).state == "away"


def test_what_the_database_refuses_is_one_sentence_and_the_link_goes_on(base: Base) -> None:
    link = Link(base.dsn)
    with pytest.raises(CycleStoreError, match='the database refused: ERROR: relation "nothing" does not exist'):
        link.run(lambda opened: rows(opened, "SELECT * FROM nothing"))
    assert link.run(lambda opened: rows(opened, "SELECT 1")) == [(1,)]
    link.close()


# ---- shards


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 40)), max_size=60),
    st.integers(1, 10),
)
def test_every_payer_is_in_one_shard_and_no_shard_is_too_large(gaps: list[tuple[int, int]], shard_payers: int) -> None:
    payers = np.cumsum(np.array([gap for gap, _ in gaps], np.int64))
    orders = np.array([count for _, count in gaps], np.int64)
    first, last = cut_shards(payers, orders, shard_payers)
    assert np.array_equal(first[1:] > last[:-1], np.ones(max(0, len(first) - 1), bool))
    inside = [(payers >= low) & (payers <= high) for low, high in zip(first, last, strict=True)]
    assert sum(int(one.sum()) for one in inside) == len(payers)
    assert all(0 < one.sum() <= shard_payers for one in inside)


# ---- a cluster


def test_shards_on_a_dask_cluster_come_to_the_same(base: Base) -> None:
    from distributed import LocalCluster

    accounts = subscribers(base, 4)
    run_id = cycle_run.start_run(base.dsn, NewRun(FEBRUARY, "post", "test", shard_payers=1))
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster:
        outcome = cycle_run.go_on(base.dsn, run_id, Crew(dask=cluster.scheduler_address))
    assert outcome.summary.state == "done"
    assert [(account, total) for _, account, total in base.invoices()] == [
        (account, FEE + 100 * place) for place, account in enumerate(accounts, 1)
    ]
    assert base.differences() == []


# ---- between runs and people


def told(base: Base, work: Callable[..., Awaitable[Any]], *values: Any, **more: Any) -> Any:
    """What a command comes to, in its own transaction."""

    async def act(cur: Any) -> Any:
        return await work(cur, *values, **more)

    return in_transaction(base.dsn, act)


def in_advance(base: Base, account: int, ends_at: str | None = None) -> None:
    """Order A1 for the fee from February on, paid at the beginning of each month."""
    base.order(account, in_advance=True, starts_at="2026-02-01T00:00:00+03:00", ends_at=ends_at)
    base.rows("UPDATE orders SET number = 'A1'")


def charge(base: Base, account: int) -> None:
    """A line of 50.00 written by a person."""
    base.rows(
        "INSERT INTO manual_lines (key, account_id, payer_account_id, description, amount_minor, tax_ppm, tax_inside, "
        "bill_on, actor, why) VALUES ('k', %s, %s, 'A card', 5000, 220000, true, '2026-01-20', 'test', 'lost')",
        account,
        account,
    )


def instant(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def test_an_end_that_is_withdrawn_after_the_advance_is_charged_up(base: Base) -> None:
    account = base.subscriber("S1")
    in_advance(base, account, "2026-02-15T00:00:00+03:00")
    base.bill()
    assert base.balance(account) == -FEE // 2
    told(base, withdraw_end, "A1", "test")
    base.bill(MARCH)
    assert base.balance(account) == -2 * FEE
    base.bill(MARCH)
    assert base.balance(account) == -2 * FEE


def test_an_end_that_moves_out_of_a_billed_month_is_charged_up(base: Base) -> None:
    account = base.subscriber("S1")
    in_advance(base, account, "2026-02-15T00:00:00+03:00")
    base.bill()
    told(base, end_order, "A1", instant("2026-03-10T00:00:00+03:00"), "test", is_exact=True)
    base.bill(MARCH)
    assert base.balance(account) == -FEE - round(FEE * 9 / 31)


def test_a_one_time_order_cancelled_before_its_start_is_not_billed(base: Base) -> None:
    account, start = base.subscriber("S1"), "2026-01-05T00:00:00+03:00"
    base.order(account, item="setup", kind="one_time", price_minor=100, starts_at=start, ends_at=start)
    base.bill()
    assert base.balance(account) == 0
    assert base.one("SELECT count(*) FROM orders WHERE settled_at IS NULL") == 0


def test_a_payer_with_nothing_but_a_line_by_hand_is_billed(base: Base) -> None:
    account = base.subscriber("S1")
    charge(base, account)
    assert base.bill().summary.is_clean
    assert base.balance(account) == -5_000


@pytest.mark.parametrize("before", ["_read_suspensions", "_read_trueups", "write_shard", "post_shard"])
def test_whoever_moves_to_another_payer_waits_for_the_shard_at_work_on_him(base: Base, monkeypatch, before) -> None:
    child, parent = base.subscriber("S1"), base.subscriber("S2")
    order = base.order(child)
    pause = ("2026-01-11 00:00+03", "2026-01-21 00:00+03")
    base.rows(
        "INSERT INTO order_suspensions (order_id, from_at, until_at, reason, actor) VALUES (%s, %s, %s, 'asked', 't')",
        order, *pause,
    )  # fmt: skip
    charge(base, child)
    base.order(parent)
    run_id = cycle_run.start_run(base.dsn, NewRun(FEBRUARY, "post", "test", shard_payers=1))
    mover = threading.Thread(target=told, args=(base, move_customer, "S1", "S2", True, "test"))
    room = cycle_store if before.startswith("_") else cycle_shard
    real = getattr(room, before)

    def move_first(*values: Any) -> Any:
        if not mover.ident:
            mover.start()
            assert waiting_backends(base, "%")
        return real(*values)

    monkeypatch.setattr(room, before, move_first)
    worker = ShardWorker(Job(base.dsn, run_id))
    assert worker.do(0).state == "posted"
    mover.join()
    assert worker.do(1).state == "posted"
    worker.close()
    share = round(FEE * 21 / 31)
    assert (base.balance(child), base.balance(parent)) == (-share - 5_000, -FEE)
    assert base.rows("SELECT payer_account_id FROM orders ORDER BY id") == [(parent,), (parent,)]


def test_a_change_under_way_is_seen_by_the_run_that_begins(base: Base) -> None:
    account = base.subscriber("S1")
    base.order(account)
    base.rows("UPDATE orders SET number = 'A1'")
    begun, waited = threading.Event(), threading.Event()

    async def end_slowly(cur: Any) -> None:
        await end_order(cur, "A1", instant("2026-01-11T00:00:00+03:00"), "test")
        begun.set()
        waited.wait(30)

    change = threading.Thread(target=in_transaction, args=(base.dsn, end_slowly))
    change.start()
    assert begun.wait(30)
    run = threading.Thread(target=base.bill)
    run.start()
    while run.is_alive() and not waiting_backends(base):
        time.sleep(0.01)
    waited.set()
    change.join()
    run.join()
    assert base.balance(account) == -round(FEE * 10 / 31)


def test_a_voided_review_forgets_what_it_settled_and_asks_who_pays_again(base: Base) -> None:
    child, parent = base.subscriber("S1"), base.subscriber("S2")
    gone = base.order(child, starts_at="2026-01-01T00:00:00+03:00", ends_at="2026-01-20T00:00:00+03:00")
    base.bill(date(2026, 1, 25))
    with base.without_trigger("orders", "orders_stay_settled"):  # ended, and nothing of it is left to record
        base.rows("UPDATE orders SET settled_at = NULL WHERE id = %s", gone)
    base.order(child, ends_at="2026-01-20T00:00:00+03:00")
    charge(base, child)
    before = base.balance(child)
    run_id = base.bill(kind="review").summary.run_id
    assert base.one("SELECT count(*) FROM orders WHERE settled_at IS NULL") == 0
    told(base, move_customer, "S1", "S2", True, "test")
    cycle_run.void_review(base.dsn, run_id)
    assert base.one("SELECT count(*) FROM orders WHERE settled_at IS NOT NULL") == 0
    base.bill()
    assert base.balance(child) == before
    assert base.balance(parent) < -5_000


def test_nobody_is_closed_while_his_invoice_is_a_draft(base: Base) -> None:
    account = base.subscriber("S1")
    base.order(account, ends_at="2026-01-20T00:00:00+03:00")
    base.bill(kind="review")
    with pytest.raises(CustomerError, match="1 orders that are not billed to their end"):
        told(base, close_customer, "S1")


def test_a_review_that_left_a_shard_behind_is_approved_without_it(base: Base) -> None:
    accounts = subscribers(base, 2)
    base.rows(f"ALTER TABLE invoices ADD CONSTRAINT broken CHECK (account_id <> {accounts[0]})")
    run_id = base.bill(kind="review", shard_payers=1).summary.run_id
    assert cycle_run.go_on(base.dsn, run_id, Crew(1), leave_failed=True).summary.state == "reviewed"
    cycle_run.approve(base.dsn, run_id, "somebody")
    assert cycle_run.go_on(base.dsn, run_id, Crew(1)).summary.state == "done"
    assert base.invoices() == [("I-000001", accounts[1], FEE + 200)]
