"""Several hosts on one queue: processes that are killed, a database that drops its connections, clocks that jump."""

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import psycopg2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.work.jobs.records import JobState
from billing.work.jobs.store import enqueue, list_jobs
from kopeck.work.worker import still_ones
from tests.gateway.until import until

ROOT = Path(__file__).parents[3]


@contextmanager
def host(database, processes=2):
    """A worker process of its own; killed at the end if it still lives."""
    argv = [sys.executable, "-m", "tests.kopeck.work.worker_process", database.dsn, str(processes)]
    process = subprocess.Popen(argv, cwd=ROOT)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_killed_host_loses_nothing_and_its_children_end_with_it(bench, database, tmp_path):
    async def main():
        with host(database) as first:
            again = await bench.enqueue("test.note", {"path": str(tmp_path / "again"), "seconds": 3})
            once = await bench.enqueue("test.once", {"path": str(tmp_path / "once"), "seconds": 3})
            for name in ("again", "once"):
                await until((tmp_path / name).exists, f"{name} did not begin")
            children = psutil.Process(first.pid).children(recursive=True)
            assert len(children) == 2
            first.kill()
            first.wait()
            with host(database):
                job = await bench.until_over(again)
                assert (job.state, job.attempt, job.interruptions) == (JobState.DONE, 2, 1)
                job = await bench.until_over(once)
                assert (job.state, job.failure) == (JobState.FAILED, "interrupted")
                assert "nothing was heard of" in job.message
            gone, alive = psutil.wait_procs(children, timeout=10)
            assert (len(gone), alive) == (2, [])

    asyncio.run(main())


def test_a_host_that_was_stopped_for_a_while_finds_its_job_gone_and_lets_it_be(bench, database, tmp_path):
    async def main():
        with host(database, 1) as first:
            job_id = await bench.enqueue("test.note", {"path": str(tmp_path / "notes"), "seconds": 4})
            await until((tmp_path / "notes").exists, "the work did not begin")
            first.send_signal(signal.SIGSTOP)
            with host(database, 1):
                job = await bench.until_state(job_id, JobState.DONE)
                assert job.attempt == 2
                first.send_signal(signal.SIGCONT)
                other = await bench.enqueue("test.tell")
                await bench.until_over(other)
            job = await bench.job(job_id)
            assert (job.state, job.attempt) == (JobState.DONE, 2)

    asyncio.run(main())


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("jobs", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_every_job_is_done_once_under_kills_of_hosts_and_connections(bench, database, tmp_path, jobs):
    """Two hosts, one of which is killed -9 again and again, while the database drops connections."""
    notes, chance = tmp_path / "notes", random.Random(jobs)

    async def main():
        async def queue(cur):
            await cur.execute("BEGIN")
            for number in range(jobs):
                await enqueue(cur, "test.note", {"path": str(notes)}, asked_by="user:anna", key=f"job-{number}")
            await cur.execute("COMMIT")

        await bench.run(queue)
        with host(database):
            kills = 0
            while kills < 4:
                with host(database) as victim:
                    await some_more(bench, jobs // 20, jobs)
                    if chance.random() < 0.5:
                        _end_sessions(database)
                    victim.kill()
                    victim.wait()
                    kills += 1
            await until_all(bench, jobs)
        states = Counter(job.state for job in await bench.run(lambda cur: list_jobs(cur, limit=1_000)))
        assert set(states) == {JobState.DONE}
        begun = Counter(int(line.split()[0]) for line in notes.read_text().splitlines())
        assert len(begun) == jobs

        async def attempts(cur):
            await cur.execute("SELECT id, attempt FROM jobs")
            return dict(await cur.fetchall())

        for job_id, attempt in (await bench.run(attempts)).items():
            assert 1 <= begun[job_id] <= attempt  # begun again only where an attempt was cut off

    asyncio.run(main())


async def done(bench):
    async def count(cur):
        await cur.execute("SELECT count(*) FROM jobs WHERE state = 'done'")
        return (await cur.fetchone())[0]

    return await bench.run(count)


async def some_more(bench, more, jobs):
    """Wait until so many more jobs are done, or all."""
    wanted = min(await done(bench) + more, jobs)

    async def is_reached():
        return await done(bench) >= wanted

    await until(is_reached, f"{wanted} jobs are not done")


async def until_all(bench, jobs):
    """Wait as long as some are done, however long all take."""
    while await done(bench) < jobs:
        await some_more(bench, 1, jobs)
        await bench.run(lambda cur: cur.execute("UPDATE jobs SET due_at = now() WHERE state = 'queued'"))
        await asyncio.sleep(0.2)


def _end_sessions(database):
    with closing(psycopg2.connect(database.admin_dsn)) as connection, connection, connection.cursor() as cur:
        cur.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE 'kopeck-jobs%'"
        )


class Seen:
    """Of a running job, what a watcher looks at."""

    def __init__(self, job_id, attempt, beat, lease_s):
        self.id, self.attempt, self.beat, self.lease_s = job_id, attempt, beat, lease_s


@given(st.lists(st.tuples(st.floats(0, 10), st.booleans()), min_size=1, max_size=60), st.integers(1, 30))
def test_a_job_is_taken_away_when_its_beat_stood_still_for_the_lease_by_the_watchers_own_time(looks, lease_s):
    """No clock but the watcher's monotonic one comes in: there is none to jump."""
    watched, beat, still_s, is_known = {}, 0, 0.0, False
    for passed_s, has_beaten in looks:
        beat += has_beaten
        taken = still_ones(watched, [Seen(1, 1, beat, lease_s)], passed_s)
        still_s = 0.0 if has_beaten or not is_known else still_s + passed_s
        is_known = True
        assert bool(taken) == (still_s >= lease_s)
    assert still_ones(watched, [], 1_000.0) == []
    assert watched == {}


@pytest.mark.parametrize("shift_s", [-31_536_000, 31_536_000])
def test_due_goes_by_the_databases_clock(bench, monkeypatch, shift_s):
    """A host whose clock is a year behind or ahead begins nothing earlier or later."""
    real = time.time
    monkeypatch.setattr("time.time", lambda: real() + shift_s)

    async def main():
        later = await bench.enqueue("test.tell")
        await bench.run(lambda cur: cur.execute("UPDATE jobs SET due_at = now() + interval '1 hour'"))
        async with bench.worker():
            job = await bench.until_over(await bench.enqueue("test.tell"))
            assert job.state is JobState.DONE
        assert (await bench.job(later)).state is JobState.QUEUED

    asyncio.run(main())
