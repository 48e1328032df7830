"""A run that cannot be completed is given up: what is done stays, what is not is due again, numbers have no gap."""

import asyncio
from collections.abc import Iterator

import aiopg
import pytest

from billing.cycle import run as cycle_run
from billing.cycle.plan import NewRun
from billing.cycle.posting import CycleRefused
from billing.cycle.run import Crew, abandon
from billing.cycle.shard import ShardJob, ShardWorker
from billing.verification.invoices import verify_cycle
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
    with pytest.raises(CycleRefused, match="is being approved: `kopeck bill resume`"):
        abandon(base.dsn, run_id, "boss", "enough")
    cycle_run.go_on(base.dsn, run_id, Crew(1))
    with pytest.raises(CycleRefused, match="is done: nothing of it is left"):
        abandon(base.dsn, run_id, "boss", "enough")
    with pytest.raises(CycleRefused, match="there is no run 99"):
        abandon(base.dsn, 99, "boss", "enough")
    with pytest.raises(CycleRefused, match="say why"):
        abandon(base.dsn, run_id, "boss", " ")
