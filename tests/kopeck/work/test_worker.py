"""Jobs done by real child processes: what they tell, how they end, what becomes of them when they are killed."""

import asyncio
import io
import os
import signal
from contextlib import closing

import psycopg2
import pytest

from billing.work.jobs.details_store import add_input, files_of, log_of, parts_of, row_counts, rows_of
from billing.work.jobs.records import FILE_PART_BYTES, JobState
from billing.work.jobs.store import cancel_job, enqueue
from tests.gateway.until import until


def test_work_tells_how_far_it_is_and_what_it_did(bench):
    async def main():
        async with bench.worker():
            job_id = await bench.enqueue("test.tell")
            job = await bench.until_over(job_id)
            assert job.state is JobState.DONE
            assert (job.done, job.total, job.doing) == (10, 10, "rows")
            assert job.result == {"rows": 10, "asked_by": "user:anna"}
            lines = await bench.run(lambda cur: log_of(cur, job_id))
            assert [line.event for line in lines] == ["began", "", "", "", "done"]
            assert [line.line for line in lines[1:4]] == ["first", "second", "nul  and half ?"]
            other = await bench.until_over(await bench.enqueue("test.async"))
            assert other.result == {"attempt": 1}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("kind", "arguments", "state", "attempts", "failure", "says"),
    [
        ("test.refuse", {}, "failed", 1, "refused", "there is no partner X"),
        ("test.away", {"times": 2}, "done", 3, "", ""),
        ("test.away", {"times": 9}, "failed", 3, "error", "the bank does not answer"),
        ("test.mistake", {}, "failed", 1, "error", "internal error, please report it: ValueError at tried_work.py"),
        ("test.missing", {}, "failed", 1, "error", "internal error, please report it: AttributeError"),
        ("test.bad_result", {}, "failed", 1, "error", "is no JSON"),
        ("test.die", {"times": 1}, "done", 2, "", ""),
        ("test.die_once", {"times": 1}, "failed", 1, "interrupted", "its process was ended by SIGKILL"),
    ],
)
def test_what_becomes_of_a_job_follows_from_how_its_attempts_end(
    bench, kind, arguments, state, attempts, failure, says
):
    async def main():
        async with bench.worker():
            job = await bench.until_over(await bench.enqueue(kind, arguments))
        assert (job.state, job.attempt, job.failure) == (state, attempts, failure)
        assert says in job.message
        assert "Traceback" not in job.message

    asyncio.run(main())


def test_a_running_job_stops_at_its_next_check_when_it_is_cancelled(bench, tmp_path):
    async def main():
        async with bench.worker(lease_s=60):
            job_id = await bench.enqueue("test.wait", {"path": str(tmp_path / "here")})
            await until((tmp_path / "here").exists, "the work did not begin")
            job = await bench.run(lambda cur: cancel_job(cur, job_id, "user:boris"))
            assert job.state is JobState.RUNNING
            job = await bench.until_over(job_id)
            assert (job.state, job.cancel_by) == (JobState.CANCELLED, "user:boris")

    asyncio.run(main())


@pytest.mark.parametrize(("kind", "state"), [("test.stubborn", "cancelled"), ("test.silent", "failed")])
def test_work_that_does_not_stop_or_tells_nothing_is_ended_by_force(bench, tmp_path, kind, state):
    async def main():
        async with bench.worker():
            job_id = await bench.enqueue(kind, {"path": str(tmp_path / "pid")})
            pid = int(await until(lambda: _text(tmp_path / "pid"), "the work did not begin"))
            if kind == "test.stubborn":
                await bench.run(lambda cur: cancel_job(cur, job_id, "user:boris"))
            job = await bench.until_over(job_id)
            assert job.state == state
            assert job.failure == ("silent" if state == "failed" else "")
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)

    asyncio.run(main())


def test_a_file_of_many_parts_is_a_result_and_those_of_attempts_that_failed_are_not(bench):
    async def main():
        async with bench.worker():
            job_id = await bench.enqueue("test.file", {"lines": 30_000})
            job = await bench.until_over(job_id)
            assert job.state is JobState.DONE
            (file,) = await bench.run(lambda cur: files_of(cur, job_id))

            async def content(cur):
                return [part async for part in parts_of(cur, file.id)]

            parts = await bench.run(content)
            assert b"".join(parts) == b"".join(b"%d;some text of a line\n" % number for number in range(30_000))
            assert [len(part) for part in parts[:-1]] == [FILE_PART_BYTES] * (len(parts) - 1)
            assert len(parts) > 2
            assert file.size_bytes == sum(map(len, parts))
            assert file.expires_at > file.created_at
            failed = await bench.enqueue("test.file", {"lines": 10, "fails": True})
            assert (await bench.until_over(failed)).state is JobState.FAILED
            assert await bench.run(lambda cur: files_of(cur, failed)) == []

    asyncio.run(main())


def test_work_reads_the_file_it_was_given(bench):
    async def main():
        async def give(cur):
            await cur.execute("BEGIN")
            job_id = await enqueue(cur, "test.input", {}, asked_by="user:anna")
            await add_input(cur, job_id, "usage.csv", "text/csv", io.BytesIO(b"a line\n" * 100_000))
            await cur.execute("COMMIT")
            return job_id

        async with bench.worker():
            job = await bench.until_over(await bench.run(give))
            assert job.result == {"lines": 100_000}
            job = await bench.until_over(await bench.enqueue("test.input"))
            assert job.failure == "refused"

    asyncio.run(main())


def test_rows_tell_what_became_of_each_object(bench):
    async def main():
        async with bench.worker():
            job_id = await bench.enqueue("test.rows", {"rows": 1_234})
            assert (await bench.until_over(job_id)).result == {"rows": 1_234, "before": 0}
            assert await bench.run(lambda cur: row_counts(cur, job_id)) == {"done": 617, "refused": 617}
            first = (await bench.run(lambda cur: rows_of(cur, job_id, limit=2)))[1]
            assert (first.ref, first.label, first.outcome) == ("r-1", "row 1", "done")
            refused = await bench.run(lambda cur: rows_of(cur, job_id, outcome="refused"))
            assert len(refused) == 617

    asyncio.run(main())


def test_objects_whose_rows_are_written_with_the_deed_are_done_once_although_the_work_was_killed(bench, database):
    with closing(psycopg2.connect(database.owner_dsn)) as connection, connection, connection.cursor() as cur:
        cur.execute("CREATE TABLE tried (ref text); GRANT ALL ON tried TO kopeck_app")

    async def main():
        async with bench.worker():
            job_id = await bench.enqueue("test.sure_rows", {"rows": 20, "dies_at": 11})
            job = await bench.until_over(job_id)
            assert (job.state, job.attempt) == (JobState.DONE, 2)
            assert await bench.run(lambda cur: row_counts(cur, job_id)) == {"done": 20}

            async def told(cur):
                await cur.execute("SELECT count(*), count(DISTINCT ref) FROM tried")
                return await cur.fetchone()

            assert await bench.run(told) == (20, 20)

    asyncio.run(main())


def test_an_attempt_goes_on_where_the_killed_one_saved_its_place(bench):
    async def main():
        async with bench.worker():
            job_id = await bench.enqueue("test.saved")
            await until(lambda: _attempts(bench, job_id, 2), "no second attempt")
            # the second interruption waits for ten seconds: a person need not
            await bench.run(lambda cur: cur.execute("UPDATE jobs SET due_at = now() WHERE id = %s", (job_id,)))
            job = await bench.until_over(job_id)
            assert (job.state, job.result, job.attempt) == (JobState.DONE, {"place": 3}, 3)

    asyncio.run(main())


async def _attempts(bench, job_id, attempt):
    job = await bench.job(job_id)
    return job.attempt == attempt and job.state is JobState.QUEUED


def test_draining_gives_repeatable_work_back_and_waits_for_other_work(bench, tmp_path):
    async def main():
        async with bench.worker(processes=2):
            again = await bench.enqueue("test.wait_again", {"path": str(tmp_path / "again")})
            once = await bench.enqueue("test.once", {"path": str(tmp_path / "once"), "seconds": 1.0})
            await until((tmp_path / "again").exists, "the work did not begin")
            await until((tmp_path / "once").exists, "the work did not begin")
        job = await bench.job(again)
        assert (job.state, job.attempt, job.errors, job.interruptions) == (JobState.QUEUED, 1, 0, 0)
        assert (await bench.job(once)).state is JobState.DONE

    asyncio.run(main())


def test_work_that_does_not_end_within_the_drain_is_told_as_interrupted(bench, tmp_path):
    async def main():
        async with bench.worker(drain_s=0.3):
            job_id = await bench.enqueue("test.stubborn", {"path": str(tmp_path / "pid")})
            await until(lambda: _text(tmp_path / "pid"), "the work did not begin")
        job = await bench.job(job_id)
        assert (job.state, job.failure) == (JobState.FAILED, "interrupted")

    asyncio.run(main())


def test_a_process_does_job_after_job_until_it_holds_much_memory(bench, tmp_path):
    async def main():
        path = str(tmp_path / "notes")
        async with bench.worker(processes=1):
            for _ in range(3):
                await bench.until_over(await bench.enqueue("test.once", {"path": path}))
            await bench.until_over(await bench.enqueue("test.memory"))
            await bench.until_over(await bench.enqueue("test.once", {"path": path}))
        pids = [line.split()[2] for line in (tmp_path / "notes").read_text().splitlines()]
        assert len(set(pids[:3])) == 1
        assert pids[3] != pids[0]

    asyncio.run(main())


def test_a_worker_outlives_the_loss_of_its_connections(bench, database, tmp_path):
    async def main():
        async with bench.worker(lease_s=10):
            job_id = await bench.enqueue("test.wait", {"path": str(tmp_path / "here")})
            await until((tmp_path / "here").exists, "the work did not begin")
            _end_sessions(database)
            other = await bench.enqueue("test.tell")
            assert (await bench.until_over(other)).state is JobState.DONE
            await bench.run(lambda cur: cancel_job(cur, job_id, "user:anna"))
            job = await bench.until_over(job_id)
            assert (job.state, job.attempt) == (JobState.CANCELLED, 1)

    asyncio.run(main())


def _end_sessions(database):
    with closing(psycopg2.connect(database.admin_dsn)) as connection, connection, connection.cursor() as cur:
        cur.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE datname = current_database() AND application_name LIKE 'kopeck-jobs%'"
        )
        assert cur.fetchone()[0] >= 3


def test_a_worker_whose_job_was_taken_over_writes_nothing_more(bench, tmp_path):
    async def main():
        async with bench.worker(lease_s=1):
            job_id = await bench.enqueue("test.once", {"path": str(tmp_path / "notes"), "seconds": 1.5})
            await until((tmp_path / "notes").exists, "the work did not begin")
            # another one's claim, as after a takeover
            await bench.run(
                lambda cur: cur.execute(
                    "UPDATE jobs SET attempt = attempt + 1, worker = 'other', lease_s = 3600 WHERE id = %s", (job_id,)
                )
            )
            await asyncio.sleep(2.5)
            job = await bench.job(job_id)
            assert (job.state, job.worker, job.attempt) == (JobState.RUNNING, "other", 2)
            events = [line.event for line in await bench.run(lambda cur: log_of(cur, job_id))]
            assert events == ["began"]

    asyncio.run(main())


def test_a_killed_child_takes_what_it_started_with_it(bench, tmp_path):
    async def main():
        async with bench.worker():
            job_id = await bench.enqueue("test.stubborn", {"path": str(tmp_path / "pid")})
            pid = int(await until(lambda: _text(tmp_path / "pid"), "the work did not begin"))
            os.kill(pid, signal.SIGKILL)
            job = await bench.until_over(job_id)
            assert (job.failure, job.message) == ("interrupted", "its process was ended by SIGKILL")

    asyncio.run(main())


def _text(path):
    return path.read_text() if path.exists() else ""
