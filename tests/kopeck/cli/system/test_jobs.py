"""``kopeck job`` as an operator types it."""

import asyncio
import json

import pytest

from billing.database.aiopg import connect
from billing.work.jobs.details_store import add_log, add_part, add_rows, begin_file, complete_file
from billing.work.jobs.records import Ending, JobState, NewRow, Next, Progress
from billing.work.jobs.store import beat, claim_job, end_attempt, enqueue


def run(database, work):
    async def main():
        connection = await connect(database.dsn, name="test", statement_timeout_s=60, idle_transaction_s=60)
        async with connection, connection.cursor() as cur:
            return await work(cur)

    return asyncio.run(main())


@pytest.fixture
def failed(kopeck, database):
    """Job 1: failed after half of its work, with rows, a log and a file."""

    async def work(cur):
        job_id = await enqueue(
            cur, "bill.run", {"date": "2026-02-01", "review": False}, asked_by="user:anna", key="k-1"
        )
        await claim_job(cur, "claim", "host-1:77", ["bill.run"], (), 30)
        await beat(cur, job_id, 1, Progress(1_500, 3_000, "shards"))
        await add_log(cur, job_id, ["host-1:77"], event="began")
        await add_log(cur, job_id, ["run 1 of 2026-02-01"])
        await add_rows(cur, job_id, 1, [NewRow("a:1", "done"), NewRow("a:2", "refused", "is closed", "Иванов")])
        file_id = await begin_file(cur, job_id, 1, "list.csv", "text/csv")
        await add_part(cur, file_id, 0, b"1;2\n")
        await complete_file(cur, file_id, 7)
        await end_attempt(cur, job_id, 1, Next(JobState.FAILED, failure="interrupted"), "its process was lost")
        await add_log(cur, job_id, ["its process was lost"], event="failed")
        return job_id

    return run(database, work)


def test_jobs_are_listed_newest_first_and_narrowed(kopeck, failed) -> None:
    assert kopeck("bill", "run", "--date", "2026-02-01", "--background").out == (
        "job 2 is queued: `kopeck job show 2` tells how it goes\n"
    )
    listed = [line.split("\t") for line in kopeck("job", "list").out.splitlines()]
    assert listed[0] == ["job", "kind", "state", "progress", "asked by", "asked at", "note"]
    assert [line[:3] for line in listed[1:]] == [["2", "bill.run", "queued"], ["1", "bill.run", "failed (interrupted)"]]
    assert listed[2][3:5] == ["1,500 of 3,000 shards (50 %)", "user:anna"]
    assert listed[2][6] == "its process was lost"
    for narrow, numbers in (
        (("--open",), ["2"]),
        (("--state", "failed", "--state", "done"), ["1"]),
        (("--by", "user:anna"), ["1"]),
        (("--kind", "verify"), []),
        (("--limit", "1"), ["2"]),
    ):
        assert [line.split("\t")[0] for line in kopeck("job", "list", *narrow).out.splitlines()[1:]] == numbers
    told = json.loads(kopeck("job", "list", "--json").out)
    assert [(job["id"], job["state"]) for job in told] == [(2, "queued"), (1, "failed")]


def test_a_job_is_told_whole(kopeck, failed) -> None:
    said = kopeck("job", "show", "1").out
    for sentence in (
        "job 1: Billing run (bill.run): failed (interrupted)\n",
        "asked for by user:anna at 20",
        ", key k-1\n",
        "attempt 1 on host-1:77, began 20",
        "progress: 1,500 of 3,000 shards (50 %)\n",
        "why: its process was lost\n",
        "asked: date 2026-02-01, review false\n",
        "objects: 1 done, 1 refused; `kopeck job show 1 --rows all` lists them\n",
        "made list.csv, 4 bytes, kept until 20",
        "`kopeck job file 1 1 --output list.csv` writes it\n",
        "`kopeck job retry 1` begins it again\n",
        "Attempt begins on host-1:77\n",
        "Failed: its process was lost\n",
    ):
        assert sentence in said, said
    assert kopeck("job", "show", "1", "--rows", "refused").out == (
        "object\tname\toutcome\tdetail\na:2\tИванов\trefused\tis closed\n"
    )
    told = json.loads(kopeck("job", "show", "1", "--json", "--rows", "all").out)
    assert (told["failure"], told["row_counts"], len(told["rows"])) == ("interrupted", {"done": 1, "refused": 1}, 2)
    assert told["files"][0]["name"] == "list.csv"


def test_the_log_is_printed_for_people_and_programs(kopeck, failed) -> None:
    lines = kopeck("job", "log", "1").out.splitlines()
    assert [line.partition("Z  ")[2] for line in lines] == [
        "Attempt begins on host-1:77", "run 1 of 2026-02-01", "Failed: its process was lost",
    ]  # fmt: skip
    told = json.loads(kopeck("job", "log", "1", "--json").out)
    assert [line["event"] for line in told] == ["began", "", "failed"]


def test_a_file_is_written(kopeck, failed, tmp_path) -> None:
    assert kopeck("job", "file", "1", "--output", str(tmp_path / "out.csv")).status == 0
    assert (tmp_path / "out.csv").read_bytes() == b"1;2\n"
    said = kopeck("job", "file", "1", "99")
    assert (said.status, said.err) == (2, "kopeck: job 1 has no file 99\n")


def test_a_failed_job_begins_again_and_a_queued_one_is_cancelled(kopeck, failed, database) -> None:
    assert kopeck("job", "retry", "1").out == "job 1 is queued again\n"
    assert "queued again" in kopeck("job", "list").out
    assert kopeck("job", "cancel", "1").out == "job 1 is cancelled\n"

    async def audit(cur):
        await cur.execute("SELECT action, object_kind, object_id FROM audit ORDER BY id DESC LIMIT 2")
        return await cur.fetchall()

    assert run(database, audit) == [("job_cancelled", "job", "1"), ("job_retried", "job", "1")]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("show", "9"), "there is no job 9"),
        (("log", "9"), "there is no job 9"),
        (("retry", "9"), "there is no job 9"),
        (("cancel", "9"), "there is no job 9"),
        (("cancel", "1"), "job 1 is failed already"),
        (("file", "9"), "there is no job 9"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(kopeck, failed, arguments, sentence) -> None:
    said = kopeck("job", *arguments)
    assert (said.status, said.err) == (2, f"kopeck: {sentence}\n")


def test_a_job_that_is_done_does_not_begin_again(kopeck, failed, database) -> None:
    async def finish(cur):
        job_id = await enqueue(cur, "verify", {}, asked_by="user:anna")
        await claim_job(cur, "claim-2", "host-1:77", ["verify"], (), 30)
        await end_attempt(cur, job_id, 1, Next(JobState.DONE), "", Ending("done", "", {"differences": 0}).result)

    run(database, finish)
    said = kopeck("job", "retry", "2")
    assert (said.status, said.err) == (2, "kopeck: job 2 is done: only a failed or cancelled job begins again\n")
    assert "result: differences 0\n" in kopeck("job", "show", "2").out


def test_long_commands_go_to_the_background(kopeck, database, tmp_path, monkeypatch) -> None:
    from tests.billing.usage.usage_files import CALLS, CALLS_HEADER, call

    (tmp_path / "calls.toml").write_text(CALLS, "utf-8")
    (tmp_path / "calls.csv").write_text(CALLS_HEADER + call(1), "utf-8")
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ("bill", "run", "--date", "2026-02-01", "--background", "--json"),
        ("bill", "resume", "--background", "--json"),
        ("dunning", "run", "--background", "--json"),
        ("usage", "import", "calls.csv", "--format", "calls.toml", "--background", "--json"),
    ):
        said = kopeck(*arguments)
        assert said.status == 0, said.err
        assert json.loads(said.out)["job"] > 0
    assert kopeck("verify", "--background").out == "job 5 is queued: `kopeck job show 5` tells how it goes\n"
    assert kopeck("attempts", "forget", "--background").status == 0
    kinds = [job["kind"] for job in json.loads(kopeck("job", "list", "--json").out)]
    assert kinds == ["attempts.forget", "verify", "usage.import", "dunning.run", "bill.resume", "bill.run"]
    assert "was given calls.csv, " in kopeck("job", "show", "4").out
    refused = kopeck("bill", "run", "--date", "2026-02-01", "--background", "--dask", "tcp://x:1")
    assert refused.status == 2
    assert kopeck("dunning", "run", "--background", "--dry-run").status == 2
