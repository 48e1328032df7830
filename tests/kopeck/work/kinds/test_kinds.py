"""The jobs that are served, done by a worker: what they come to, and that another attempt does nothing twice."""

import asyncio
import io
import json
from datetime import UTC, datetime, timedelta
from importlib import import_module

import pytest

from billing.cycle.plan import NewRun
from billing.cycle.run import newest, start_run
from billing.work.jobs.details_store import add_input, log_of
from billing.work.jobs.records import JobState
from billing.work.jobs.store import cancel_job, enqueue, retry_job
from billing.work.jobs.words import TITLES, attention_of
from kopeck.serve.jobs import KINDS
from kopeck.settings import Billing, Settings
from tests.billing.cycle.base import FEBRUARY, cycle_base
from tests.billing.usage.usage_files import CALLS, CALLS_HEADER, call
from tests.billing.work.schedules.hosts import rows
from tests.gateway.until import until

ANNA = "user:anna"


@pytest.fixture
def base(database):
    with cycle_base(database.dsn, database.owner_dsn) as made:
        yield made


def test_each_kind_has_work_and_a_title():
    assert set(KINDS) == set(TITLES)
    for kind in KINDS.values():
        module, _, function = kind.place.partition(":")
        assert callable(getattr(import_module(module), function))


def done(bench, kind, arguments, prepare=None):
    """The job after a worker did it. prepare: what else happens in the transaction that queues it."""

    async def main():
        async def queue(cur):
            await cur.execute("BEGIN")
            job_id = await enqueue(cur, kind, arguments, asked_by=ANNA)
            if prepare is not None:
                await prepare(cur, job_id)
            await cur.execute("COMMIT")
            return job_id

        job_id = await bench.run(queue)
        async with bench.worker(kinds=KINDS, lease_s=30):
            job = await bench.until_over(job_id)
        lines = await bench.run(lambda cur: log_of(cur, job_id))
        return job, [line.line for line in lines]

    return asyncio.run(main())


def test_a_billing_run_is_done_and_tells_what_it_came_to(bench, base, database):
    base.order(base.subscriber("S1"))
    job, lines = done(bench, "bill.run", {"date": "2026-02-01"})
    assert (job.state, job.message) == (JobState.DONE, "")
    assert (job.done, job.total) == (1, 1)
    assert (job.result["run"], job.result["state"], job.result["invoices"]) == (1, "done", 1)
    assert job.result["money"] == [{"currency": "RUB", "net_minor": 24590, "tax_minor": 5410, "total_minor": 30000}]
    assert "reconciled: lines = invoices = transfers" in lines
    assert [run.actor for run in newest(database.dsn, 9)] == [ANNA]


def test_a_billing_run_that_an_attempt_planned_before_it_was_killed_is_gone_on_with(bench, base, database):
    base.order(base.subscriber("S1"))
    start_run(database.dsn, NewRun(FEBRUARY, "post", ANNA, "", 20_000))

    async def begun(cur, job_id):
        await cur.execute("UPDATE jobs SET attempt = 1, saved = %s WHERE id = %s", ('{"date": "2026-02-01"}', job_id))

    job, _ = done(bench, "bill.run", {"date": "2026-02-01"}, begun)
    assert (job.state, job.attempt, job.result["run"]) == (JobState.DONE, 2, 1)
    assert len(newest(database.dsn, 9)) == 1
    assert len(base.invoices()) == 1


def test_an_attempt_after_the_run_was_done_tells_of_it_and_plans_none(bench, base, database):
    base.order(base.subscriber("S1"))
    base.bill()

    async def begun(cur, job_id):
        saved = json.dumps({"date": "2026-02-01", "run": 1})
        await cur.execute("UPDATE jobs SET attempt = 1, saved = %s WHERE id = %s", (saved, job_id))

    job, _ = done(bench, "bill.run", {"date": "2026-02-01"}, begun)
    assert (job.state, job.result["run"], job.result["state"]) == (JobState.DONE, 1, "done")
    assert len(newest(database.dsn, 9)) == 1


def test_another_run_under_way_is_a_refusal_and_failures_call_for_attention(bench, base, database):
    base.order(base.subscriber("S1"))
    base.order(base.subscriber("S2"), plan="gone")
    start_run(database.dsn, NewRun(FEBRUARY, "post", "user:boris", "", 20_000))
    job, _ = done(bench, "bill.run", {"date": "2026-02-01"})
    assert (job.state, job.failure) == (JobState.FAILED, "refused")
    assert "run 1" in job.message
    job, _ = done(bench, "bill.resume", {})
    assert job.state is JobState.DONE
    assert attention_of(job.result) == "Failures: 1. kopeck bill status 1 lists them."
    job, _ = done(bench, "bill.run", {"date": "2099-01-01"})
    assert job.message == "2099-01-01 has not come yet, and usage up to it would be closed for good"


def test_a_file_of_usage_is_imported_once_however_often_the_job_is_begun(bench, kopeck):
    assert kopeck("account", "add", "79010000001").status == 0
    begun = (datetime.now(UTC) - timedelta(days=2)).strftime("%d.%m.%Y %H:%M:%S")
    content = (CALLS_HEADER + call(1, begun=begun) + call(2, minutes="x", begun=begun)).encode()
    arguments = {"file": "calls.csv", "format": "calls", "format_text": CALLS}

    async def give(cur, job_id):
        await add_input(cur, job_id, "calls.csv", "text/csv", io.BytesIO(content))

    job, _ = done(bench, "usage.import", arguments, give)
    assert job.state is JobState.DONE
    assert (job.result["accepted"], job.result["rejected"], job.result["same_as"]) == (1, 1, None)
    assert attention_of(job.result) == "Rejected lines: 1. kopeck usage rejects list 1 lists them."
    again, _ = done(bench, "usage.import", arguments, give)
    assert (again.result["import"], again.result["same_as"]) == (1, 1)
    broken, _ = done(bench, "usage.import", {**arguments, "file": "calls.csv.gz"}, give)
    assert (broken.failure, broken.message[:26]) == ("refused", "the packed file is broken:")


def test_dunning_and_the_deletion_of_old_attempts_tell_their_counts(bench, base, journal_uri, journal_name):
    bench.journal = (journal_uri, journal_name)
    base.subscriber("S1")
    job, _ = done(bench, "dunning.run", {})
    assert job.state is JobState.DONE
    assert (job.result["orders_suspended"], job.result["orders_cancelled"]) == (0, 0)
    job, _ = done(bench, "attempts.forget", {"days": 40})
    assert (job.state, job.message) == (JobState.DONE, "")
    assert (job.result["deleted"], job.result["deleted_in_journal"]) == (0, 0)


def test_verification_tells_what_differs_and_calls_for_attention(bench, base, database):
    base.order(base.subscriber("S1"))
    base.bill()
    job, lines = done(bench, "verify", {"no_journal": True})
    assert (job.state, job.result["differences"]) == (JobState.DONE, 0)
    assert lines[-2] == "no differences"
    with base.without_trigger("transfers", "transfers_append_only"):
        base.one("UPDATE transfers SET amount_minor = amount_minor + 1 RETURNING id")
    job, lines = done(bench, "verify", {"no_journal": True})
    assert job.result["differences"] > 0
    assert attention_of(job.result) == f"Differences: {job.result['differences']}. The log lists them."


def test_a_cancelled_run_stops_after_a_shard_and_goes_on_when_it_is_begun_again(bench, base, database):
    payers = 40
    for number in range(payers):
        base.order(base.subscriber(f"S{number}"))
    bench.settings = Settings(billing=Billing(shard_payers=1))

    async def main():
        job_id = await bench.enqueue("bill.run", {"date": "2026-02-01", "workers": 1})
        async with bench.worker(kinds=KINDS, lease_s=2):
            await until(lambda: _shards(bench), "no shard is done")
            await bench.run(lambda cur: cancel_job(cur, job_id, ANNA))
            job = await bench.until_over(job_id)
            assert job.state is JobState.CANCELLED
            assert job.message == "run 1 is under way still: `kopeck bill resume` goes on with it"
            assert 0 < await _shards(bench) < payers
            await bench.run(lambda cur: retry_job(cur, job_id))
            job = await bench.until_over(job_id)
        assert (job.state, job.attempt) == (JobState.DONE, 2)
        assert len(newest(database.dsn, 9)) == 1
        assert len(base.invoices()) == payers

    asyncio.run(main())


async def _shards(bench):
    async def count(cur):
        await cur.execute("SELECT count(*) FROM bill_shards WHERE state = 'posted'")
        return (await cur.fetchone())[0]

    return await bench.run(count)


def test_expired_sign_ins_and_old_tries_are_deleted_and_living_ones_stay(bench, database):
    rows(database.dsn, "INSERT INTO users (login, password_hash) VALUES ('ann', '$argon2id$x')")
    rows(
        database.dsn,
        "INSERT INTO sessions (token_hash, user_id, csrf, created_at, expires_at)"
        " SELECT sha256(n::text::bytea), 1, repeat('x', 32), now() - interval '1 day', now() + n * interval '1 hour'"
        " FROM generate_series(-2, 2) n WHERE n <> 0",
    )
    rows(
        database.dsn,
        "INSERT INTO sign_in_tries (scope, key, tries, last_at)"
        " SELECT 'login', sha256(n::text::bytea), 1, now() - n * interval '10 days' FROM generate_series(0, 2) n",
    )
    job, _ = done(bench, "sessions.forget", {})
    assert (job.state, job.result) == (JobState.DONE, {"sessions": 2, "tries_and_browsers": 2})
    assert rows(database.dsn, "SELECT count(*) FROM sessions") == [(2,)]
    assert rows(database.dsn, "SELECT count(*) FROM sign_in_tries") == [(1,)]
