"""The queue as rows, on a real database: a model of it, driven by hypothesis, and what each function promises."""

import asyncio
from contextlib import closing
from datetime import UTC, datetime, timedelta

import psycopg2
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from billing.database.aiopg import connect
from billing.work.jobs import details_store as details
from billing.work.jobs.records import Ending, JobError, JobState, NewRow, Progress
from billing.work.jobs.rules import JobKind, next_of
from billing.work.jobs.store import (
    beat,
    cancel_job,
    claim_job,
    claimed_job,
    count_jobs,
    end_attempt,
    enqueue,
    find_job,
    forget_jobs,
    list_jobs,
    retry_job,
    running_jobs,
    save_place,
)

KINDS = {
    "test.again": JobKind("a:b", ladder_s=(0, 0), is_repeatable=True),
    "test.once": JobKind("a:b", ladder_s=(0,)),
}


class Desk:
    """A loop and one connection whose statements commit by themselves."""

    def __init__(self, dsn):
        self.runner = asyncio.Runner()
        self.connection = self.run(connect(dsn, name="test", statement_timeout_s=60, idle_transaction_s=60))
        self.cur = self.run(self._cursor())

    async def _cursor(self):
        return await self.connection.cursor()

    def run(self, work):
        return self.runner.run(work)

    def close(self):
        self.cur.close()
        self.run(self._given_up())
        self.runner.close()

    async def _given_up(self):
        await self.connection.close()


@pytest.fixture
def desk(database):
    made = Desk(database.dsn)
    yield made
    made.close()


class Workers(RuleBasedStateMachine):
    """Workers that claim, work, die and are taken for dead; people who cancel and begin again.

    The model knows who may write about a job: the newest attempt, while the job runs. What it did before is stale.
    """

    desk: Desk

    def __init__(self):
        super().__init__()
        self.states = {}
        self.kinds = {}
        self.keys = {}
        self.attempts = {}  # job -> number of the newest
        self.counts = {}  # job -> (errors, interruptions)
        self.asked = set()  # jobs that were asked to stop
        self.hands = []  # (job, attempt) that some worker believes to be its own, stale ones too
        self.claims = 0

    def call(self, work):
        return self.desk.run(work)

    @rule(kind=st.sampled_from(sorted(KINDS)), key=st.none() | st.sampled_from(["k1", "k2"]))
    def queue(self, kind, key):
        if key in self.keys and self.kinds[self.keys[key]] != kind:
            with pytest.raises(JobError):
                self.call(enqueue(self.desk.cur, kind, {}, asked_by="user:anna", key=key))
            return
        job_id = self.call(enqueue(self.desk.cur, kind, {"n": 1}, asked_by="user:anna", key=key))
        if key in self.keys:
            assert job_id == self.keys[key]
            return
        assert job_id not in self.states
        self.states[job_id], self.kinds[job_id], self.attempts[job_id] = JobState.QUEUED, kind, 0
        self.counts[job_id] = (0, 0)
        if key is not None:
            self.keys[key] = job_id

    @rule()
    def claim(self):
        self.claims += 1
        name = f"claim-{id(self)}-{self.claims}"
        job = self.call(claim_job(self.desk.cur, name, "host", sorted(KINDS), (), 30))
        due = [job_id for job_id, state in self.states.items() if state is JobState.QUEUED]
        if job is None:
            assert due == []
            return
        assert job.id in due
        self.attempts[job.id] += 1
        assert (job.attempt, job.state) == (self.attempts[job.id], JobState.RUNNING)
        assert self.call(claimed_job(self.desk.cur, name)).id == job.id
        self.states[job.id] = JobState.RUNNING
        self.hands.append((job.id, job.attempt))

    def holds(self, hand):
        return self.states[hand[0]] is JobState.RUNNING and self.attempts[hand[0]] == hand[1]

    @precondition(lambda self: self.hands)
    @rule(data=st.data())
    def tell(self, data):
        hand = data.draw(st.sampled_from(self.hands))
        told = self.call(beat(self.desk.cur, *hand, Progress(1, 2, "rows")))
        saved = self.call(save_place(self.desk.cur, *hand, {"at": 1}))
        rows = self.call(details.add_rows(self.desk.cur, *hand, [NewRow("r", "done")]))
        assert told == ((hand[0] in self.asked) if self.holds(hand) else None)
        assert (saved, rows) == (self.holds(hand), self.holds(hand))

    @precondition(lambda self: self.hands)
    @rule(data=st.data(), how=st.sampled_from(["done", "cancelled", "refused", "error", "silent", "interrupted"]))
    def end(self, data, how):
        hand = data.draw(st.sampled_from(self.hands))
        self.finish(hand, how, None)
        self.hands.remove(hand)

    @precondition(lambda self: any(state is JobState.RUNNING for state in self.states.values()))
    @rule(data=st.data(), spoke_since=st.booleans())
    def take_away(self, data, spoke_since):
        """A watcher that takes a worker for dead; the worker may well live and keep its hand."""
        running = self.call(running_jobs(self.desk.cur))
        assert {job.id for job in running} == {
            job_id for job_id, state in self.states.items() if state is JobState.RUNNING
        }
        job = data.draw(st.sampled_from(running))
        if spoke_since:
            assert self.call(beat(self.desk.cur, job.id, job.attempt, Progress())) is not None
            following = next_of(KINDS[job.kind], Ending("interrupted"), 0, 0, is_cancel_asked=False)
            assert not self.call(end_attempt(self.desk.cur, job.id, job.attempt, following, seen_beat=job.beat))
            return
        self.finish((job.id, job.attempt), "interrupted", job.beat)

    def finish(self, hand, how, seen_beat):
        job_id, attempt = hand
        asked = job_id in self.asked
        following = next_of(KINDS[self.kinds[job_id]], Ending(how), *self.counts[job_id], is_cancel_asked=asked)
        was_held = self.holds(hand)
        assert was_held == self.call(end_attempt(self.desk.cur, job_id, attempt, following, "why", seen_beat=seen_beat))
        if was_held:
            self.states[job_id] = following.state
            self.counts[job_id] = (following.errors, following.interruptions)
            self.call(self.desk.cur.execute("UPDATE jobs SET due_at = now() WHERE id = %s", (job_id,)))

    @precondition(lambda self: self.states)
    @rule(data=st.data())
    def cancel(self, data):
        job_id = data.draw(st.sampled_from(sorted(self.states)))
        if self.states[job_id].is_over:
            with pytest.raises(JobError):
                self.call(cancel_job(self.desk.cur, job_id, "user:boris"))
            return
        job = self.call(cancel_job(self.desk.cur, job_id, "user:boris"))
        if self.states[job_id] is JobState.QUEUED:
            self.states[job_id] = JobState.CANCELLED
        self.asked.add(job_id)
        assert (job.state, job.cancel_by) == (self.states[job_id], "user:boris")

    @precondition(lambda self: self.states)
    @rule(data=st.data())
    def begin_again(self, data):
        job_id = data.draw(st.sampled_from(sorted(self.states)))
        if self.states[job_id] not in (JobState.FAILED, JobState.CANCELLED):
            with pytest.raises(JobError):
                self.call(retry_job(self.desk.cur, job_id))
            return
        self.call(retry_job(self.desk.cur, job_id))
        self.states[job_id], self.counts[job_id] = JobState.QUEUED, (0, 0)
        self.asked.discard(job_id)

    @invariant()
    def rows_are_as_the_model_says(self):
        jobs = self.call(list_jobs(self.desk.cur, limit=1_000))
        assert {job.id: (job.state, job.attempt) for job in jobs} == {
            job_id: (state, self.attempts[job_id]) for job_id, state in self.states.items()
        }
        for job in jobs:
            assert (job.finished_at is not None) == job.state.is_over
            assert (job.errors, job.interruptions) == self.counts[job.id]

    def teardown(self):
        self.call(self.desk.cur.execute("DELETE FROM jobs"))


@pytest.mark.parametrize(
    ("examples", "steps"), [(15, 25), pytest.param(100, 50, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_whatever_workers_and_people_do_a_job_is_in_one_hand_and_is_as_it_was_told(desk, examples, steps):
    class OnThisDatabase(Workers):
        pass

    OnThisDatabase.desk = desk
    run_state_machine_as_test(
        OnThisDatabase,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_a_job_is_there_if_and_only_if_its_cause_is(desk, database):
    async def main():
        cur = desk.cur
        await cur.execute("BEGIN")
        gone = await enqueue(cur, "test.once", {}, asked_by="user:anna", key="k")
        await cur.execute("ROLLBACK")
        assert await find_job(cur, gone) is None
        await cur.execute("BEGIN")
        job_id = await enqueue(cur, "test.once", {}, asked_by="user:anna", key="k")
        with closing(psycopg2.connect(database.dsn)) as other, other.cursor() as elsewhere:
            elsewhere.execute("SELECT count(*) FROM jobs")
            assert elsewhere.fetchone() == (0,)
        await cur.execute("COMMIT")
        assert (await find_job(cur, job_id)).state is JobState.QUEUED

    desk.run(main())


def test_jobs_begin_by_priority_then_as_they_are_due_and_not_before(desk):
    async def main():
        cur, now = desk.cur, datetime.now(UTC)
        later = await enqueue(cur, "test.once", {}, asked_by="a", due=now + timedelta(hours=1), priority=9)
        low = await enqueue(cur, "test.once", {}, asked_by="a", due=now - timedelta(hours=2))
        lower = await enqueue(cur, "test.once", {}, asked_by="a", priority=-1)
        high = await enqueue(cur, "test.once", {}, asked_by="a", priority=5)
        other = await enqueue(cur, "test.once", {}, asked_by="a", queue="slow", priority=9)
        unknown = await enqueue(cur, "test.newer", {}, asked_by="a", priority=9)
        began = []
        while job := await claim_job(cur, f"c{len(began)}", "host", ["test.once"], ("main",), 30):
            began.append(job.id)
        assert began == [high, low, lower]
        counts = await count_jobs(cur)
        assert (counts.due, counts.waiting, counts.running) == (2, 1, 3)
        assert counts.oldest_age_s >= 0
        assert (await claim_job(cur, "slow", "host", ["test.once"], ("slow",), 30)).id == other
        for job_id in (later, unknown):
            assert (await find_job(cur, job_id)).state is JobState.QUEUED

    desk.run(main())


@pytest.mark.parametrize(
    ("kind", "arguments", "more"),
    [
        ("Bad Kind", {}, {}),
        ("test.once", {"x": object()}, {}),
        ("test.once", {"x": float("nan")}, {}),
        ("test.once", {"x": "a" * 70_000}, {}),
        ("test.once", {"x": "\0"}, {}),
        ("test.once", {}, {"key": ""}),
        ("test.once", {}, {"key": "k" * 201}),
        ("test.once", {}, {"due": datetime(2026, 1, 1)}),  # noqa: DTZ001 - an instant without a zone is refused
    ],
)
def test_what_is_no_job_is_refused_in_a_sentence(desk, kind, arguments, more):
    with pytest.raises(JobError):
        desk.run(enqueue(desk.cur, kind, arguments, asked_by="user:anna", **more))
    assert desk.run(list_jobs(desk.cur)) == []


def test_a_log_keeps_its_newest_lines_and_what_the_machinery_did(desk):
    async def main():
        cur = desk.cur
        job_id = await enqueue(cur, "test.once", {}, asked_by="a")
        await details.add_log(cur, job_id, ["host"], event="began")
        await details.add_log(cur, job_id, [f"line {n}" for n in range(details.LOG_LINES_MAX + 50)])
        await details.trim_log(cur, job_id)
        lines = await details.log_of(cur, job_id, limit=5_000)
        assert len(lines) == details.LOG_LINES_MAX + 1
        assert (lines[0].event, lines[1].line, lines[-1].line) == ("began", "line 50", "line 1049")

    desk.run(main())


def test_old_jobs_are_forgotten_with_all_that_belongs_to_them_and_files_before(desk, database):
    async def main():
        cur = desk.cur
        ids = []
        for number in range(3):
            job_id = await enqueue(cur, "test.once", {}, asked_by="a")
            await claim_job(cur, f"c{number}", "host", ["test.once"], (), 30)
            await details.add_rows(cur, job_id, 1, [NewRow("r", "done")])
            await details.add_log(cur, job_id, ["a line"])
            file_id = await details.begin_file(cur, job_id, 1, "a.csv", "text/csv")
            await details.add_part(cur, file_id, 0, b"abc")
            await details.complete_file(cur, file_id, 7)
            if number < 2:
                following = next_of(KINDS["test.once"], Ending("done"), 0, 0, is_cancel_asked=False)
                await end_attempt(cur, job_id, 1, following)
            ids.append(job_id)
        with closing(psycopg2.connect(database.owner_dsn)) as owner, owner, owner.cursor() as past:
            past.execute("UPDATE jobs SET finished_at = now() - interval '91 days' WHERE id = %s", (ids[0],))
            past.execute("UPDATE job_files SET expires_at = now() - interval '1 day'")
        assert await details.drop_expired(cur) == 2  # not that of the job which is running
        assert await details.drop_expired(cur) == 0
        (file,) = await details.files_of(cur, ids[1])
        assert file.dropped_at is not None
        assert await details.read_part(cur, file.id, 0) is None
        assert await forget_jobs(cur, 90) == 1
        assert {job.id for job in await list_jobs(cur)} == set(ids[1:])
        await cur.execute("SELECT (SELECT count(*) FROM job_log), (SELECT count(*) FROM job_rows)")
        assert await cur.fetchone() == (2, 2)

    desk.run(main())


@pytest.mark.parametrize("name", ["", "a/b.csv", "a\nb", 'a"b', "x" * 201])
def test_a_name_that_is_none_is_refused(desk, name):
    job_id = desk.run(enqueue(desk.cur, "test.once", {}, asked_by="a"))
    with pytest.raises(JobError):
        desk.run(details.begin_file(desk.cur, job_id, 1, name, "text/csv"))
