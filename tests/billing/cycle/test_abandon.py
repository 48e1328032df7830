"""A run that cannot be completed is given up: what is done stays, what is not is due again, numbers have no gap."""

import asyncio
from collections.abc import Iterator

import aiopg
import psycopg2
import pytest

from billing.cycle import run as cycle_run
from billing.cycle.plan import NewRun
from billing.cycle.posting import CycleRefused
from billing.cycle.run import Crew, abandon
from billing.cycle.shard import ShardJob, ShardWorker
from billing.verification.cycle import verify_cycle
from kopeck.databases.transactions import in_transaction
from tests.billing.cycle.base import FEBRUARY, MARCH, Base, cycle_base

FEE = 30_000


@pytest.fixture
def base(database) -> Iterator[Base]:
    with cycle_base(database.dsn, database.owner_dsn) as made:
        yield made


def begun(base: Base, done: tuple[int, ...], kind: str = "post") -> tuple[int, list[int]]:
    """A run of three shards of which some are done; returns its id and the accounts."""
    accounts = [base.subscriber(f"S{number}") for number in range(3)]
    for account in accounts:
        base.order(account)
    run_id = cycle_run.start_run(base.dsn, NewRun(FEBRUARY, kind, "test", shard_payers=1))
    worker = ShardWorker(ShardJob(base.dsn, run_id))
    for shard_no in done:
        assert worker.do(shard_no).state in ("posted", "drafted")
    worker.close()
    return run_id, accounts


def verified(base: Base) -> tuple[list[str], list[str]]:
    """(findings, notes) of what verify says of the cycle."""
    checks = in_transaction(base.dsn, lambda cur: verify_cycle(cur, None))
    return [one.what for check in checks for one in check.findings], [check.note for check in checks if check.note]


def test_what_is_done_stays_and_what_is_not_is_due_again(base: Base) -> None:
    run_id, accounts = begun(base, (0, 2))
    summary = abandon(base.dsn, run_id, "boss", "a shard that never ends")
    assert (summary.state, summary.posted, summary.due) == ("done", 2, 1)
    assert (summary.abandoned_by, summary.abandoned_why) == ("boss", "a shard that never ends")
    assert base.invoices() == [("I-000001", accounts[0], FEE), ("I-000002", accounts[2], FEE)]
    findings, notes = verified(base)
    assert findings == []
    assert [f"1 are in shards that run {run_id} was finished without" in one for one in notes] == [True]
    assert base.bill().summary.is_clean
    assert base.invoices()[2:] == [("I-000003", accounts[1], FEE)]
    assert base.differences() == []
    assert verified(base)[0] == []


def test_a_run_of_which_nothing_is_done_is_given_up_too(base: Base) -> None:
    run_id, accounts = begun(base, ())
    assert abandon(base.dsn, run_id, "boss", "wrong date").invoices == 0
    assert cycle_run.run_under_way(base.dsn) is None
    base.bill(MARCH)
    assert [base.balance(account) for account in accounts] == [-2 * FEE] * 3
    assert base.differences() == []


def test_a_worker_that_comes_later_bills_nothing(base: Base) -> None:
    run_id, accounts = begun(base, (0,))
    worker = ShardWorker(ShardJob(base.dsn, run_id))
    abandon(base.dsn, run_id, "boss", "enough")
    done = worker.do(1)
    worker.close()
    assert (done.state, done.why) == ("refused", f"run {run_id} is done: nothing is billed in it any more")
    assert base.balance(accounts[1]) == 0


def test_giving_up_waits_for_the_shard_at_work(base: Base) -> None:
    run_id, _ = begun(base, (0,))

    async def story() -> None:
        async with aiopg.connect(base.dsn) as opened, opened.cursor() as cur:
            await cur.execute("BEGIN")
            await cur.execute(
                "SELECT FROM bill_shards s JOIN bill_runs r ON r.id = s.run_id WHERE s.run_id = %s AND s.shard_no = 1 "
                "FOR UPDATE OF s FOR SHARE OF r",
                (run_id,),
            )
            given_up = asyncio.get_running_loop().run_in_executor(None, abandon, base.dsn, run_id, "boss", "enough")
            await asyncio.sleep(0.5)
            assert not given_up.done()
            await cur.execute("ROLLBACK")
            assert (await given_up).state == "done"

    asyncio.run(story())


def test_what_cannot_be_given_up_says_what_to_do(base: Base) -> None:
    run_id, _ = begun(base, (0, 1, 2), "review")
    for _ in range(2):
        with pytest.raises(CycleRefused, match="is a review: `kopeck bill void-review"):
            abandon(base.dsn, run_id, "boss", "enough")
        if cycle_run.summary_of(base.dsn, run_id).state == "running":
            cycle_run.go_on(base.dsn, run_id, Crew(1))
    cycle_run.approve(base.dsn, run_id, "boss")
    cycle_run.go_on(base.dsn, run_id, Crew(1))
    with pytest.raises(CycleRefused, match="is done: nothing of it is left"):
        abandon(base.dsn, run_id, "boss", "enough")
    with pytest.raises(CycleRefused, match="there is no run 99"):
        abandon(base.dsn, 99, "boss", "enough")
    with pytest.raises(CycleRefused, match="say why"):
        abandon(base.dsn, run_id, "boss", " ")


def approved(base: Base, poor: int) -> tuple[int, list[int]]:
    """A review of three payers, approved, whose payer ``poor`` lost its balance since; with what each had."""
    accounts = [base.subscriber(f"S{number}", kind="prepaid") for number in range(3)]
    for account in accounts:
        base.order(account, ends_at="2026-01-20T00:00:00+03:00")
        base.pay(account, FEE)
    base.rows(
        "INSERT INTO manual_lines (key, account_id, payer_account_id, description, amount_minor, tax_ppm, tax_inside, "
        "bill_on, actor, why) VALUES ('m', %s, %s, 'by hand', 100, 0, true, '2026-01-31', 'test', 'test')",
        *(accounts[poor], accounts[poor]),
    )
    run_id = base.bill(kind="review", shard_payers=1).summary.run_id
    cycle_run.approve(base.dsn, run_id, "boss")
    base.pay(accounts[poor], -FEE)
    return run_id, accounts


def test_an_approval_that_a_balance_stops_is_given_up_for_the_payers_that_are_left(base: Base) -> None:
    run_id, accounts = approved(base, 1)
    hindered = cycle_run.go_on(base.dsn, run_id, Crew(1))
    assert (hindered.summary.state, hindered.summary.posted, hindered.summary.drafted) == ("approving", 2, 1)
    summary = abandon(base.dsn, run_id, "boss", "S1 spent its money")
    assert (summary.state, summary.invoices, summary.payers) == ("done", 2, 2)
    assert [(number, account) for number, account, _ in base.invoices()] == [
        ("I-000001", accounts[0]),
        ("I-000002", accounts[2]),
    ]
    assert base.rows("SELECT count(*) FROM order_periods GROUP BY order_id") == [(1,), (1,)]
    assert base.rows("SELECT payer_account_id FROM orders WHERE settled_at IS NULL") == [(accounts[1],)]
    assert base.rows("SELECT invoice_id FROM manual_lines") == [(None,)]
    assert verified(base)[0] == []
    base.pay(accounts[1], 2 * FEE)
    assert base.bill().summary.is_clean
    assert [(number, account) for number, account, _ in base.invoices()[2:]] == [("I-000003", accounts[1])]
    assert base.differences() == []
    assert verified(base)[0] == []


def test_an_approval_of_which_nothing_is_posted_is_given_up_too(base: Base) -> None:
    run_id, accounts = approved(base, 0)
    assert abandon(base.dsn, run_id, "boss", "the wrong month").invoices == 0
    assert base.one("SELECT count(*) FROM order_periods") == base.one("SELECT count(*) FROM invoices") == 0
    assert base.one("SELECT count(*) FROM orders WHERE settled_at IS NOT NULL") == 0
    assert verified(base)[0] == []
    base.pay(accounts[0], 2 * FEE)
    assert base.bill().summary.is_clean
    assert [number for number, _, _ in base.invoices()] == ["I-000001", "I-000002", "I-000003"]
    assert base.differences() == []


def test_what_an_approval_posted_is_not_taken_back_with_the_rest(base: Base) -> None:
    run_id, _ = approved(base, 1)
    cycle_run.go_on(base.dsn, run_id, Crew(1))
    abandon(base.dsn, run_id, "boss", "S1 spent its money")
    for statement, words in (
        ("DELETE FROM order_periods", "stays so"),
        ("UPDATE orders SET settled_at = NULL", "is settled and stays so"),
        ("UPDATE invoice_blocks SET state = 'void'", "stays so"),
    ):
        with pytest.raises(psycopg2.Error, match=words):
            base.rows(statement)
