"""``kopeck job``: background jobs: how they go, what they told and made; begin one again, cancel it.

Rules. A job is done by a process of the role jobs (`kopeck serve jobs`; `kopeck run` starts one). What a person does to
a job is in its log and in the audit record.

Does not know: how jobs are done, how they are told (kopeck.cli.system.job_printout).
"""

import time
from dataclasses import asdict
from typing import IO, Any, Final

import click

from billing.database.cursors import Cursor
from billing.work.jobs import by_people
from billing.work.jobs.details_store import files_of, find_file, log_of, newest_log, parts_of, row_counts, rows_of
from billing.work.jobs.records import Job, JobError, JobRow, JobState
from billing.work.jobs.store import LIST_MAX, count_jobs, find_job, list_jobs
from kopeck.cli.context import Context, pass_context, show_table, shown_time
from kopeck.cli.output import AS_JSON, show_json
from kopeck.cli.system.job_printout import (
    job_json,
    job_lines,
    line_words,
    note_words,
    progress_words,
    span_words,
    state_words,
)
from web.access.actors import Actor
from web.access.audit import record_as
from web.access.rights import Right

#: Log lines that `show` ends with.
_LOG_SHOWN: Final = 10
_FOLLOW_EVERY_S: Final = 1.0
_OPEN: Final = (JobState.QUEUED, JobState.RUNNING)
JOB_ID = click.argument("job_id", metavar="JOB", type=click.IntRange(1, 2**63 - 1))


@click.group("job")
def jobs() -> None:
    """Background jobs: how they go, what they told and made; begin one again, cancel it."""


@jobs.command("list")
@click.option(
    "--state", "states", multiple=True, type=click.Choice([state.value for state in JobState]), help="In this state."
)
@click.option("--open", "is_open", is_flag=True, help="Queued and running ones.")
@click.option("--kind", default="", help="Of this kind, such as bill.run.")
@click.option("--by", "asked_by", default="", metavar="ACTOR", help="Asked for by, such as user:anna.")
@click.option("--limit", type=click.IntRange(1, LIST_MAX), default=20, show_default=True, help="Newest jobs shown.")
@AS_JSON
@pass_context
def list_(
    context: Context, states: tuple[str, ...], is_open: bool, kind: str, asked_by: str, limit: int, as_json: bool
) -> None:
    """List jobs, newest first.

    Says on standard error when due jobs wait and no process does any.
    """
    wanted = [*map(JobState, states), *(_OPEN if is_open else ())]

    async def work(cur: Cursor) -> Any:
        return await list_jobs(cur, states=wanted, kind=kind, asked_by=asked_by, limit=limit), await count_jobs(cur)

    found, counts = context.in_transaction(work)
    if as_json:
        show_json([job_json(job) for job in found])
        return
    rows = [
        (
            str(job.id),
            job.kind,
            state_words(job),
            progress_words(job),
            job.asked_by,
            shown_time(job.asked_at),
            note_words(job),
        )
        for job in found
    ]
    show_table(("job", "kind", "state", "progress", "asked by", "asked at", "note"), rows, right=("job",))
    if counts.due and not counts.running and counts.oldest_age_s > 60:
        click.echo(
            f"kopeck: {counts.due} due jobs wait, the oldest for {span_words(counts.oldest_age_s)}, and none runs: "
            "is `kopeck serve jobs` running?",
            err=True,
        )


@jobs.command()
@JOB_ID
@click.option("--rows", "outcome", type=click.Choice(["all", "done", "skipped", "refused", "failed"]),
              help="List what became of its objects.")  # fmt: skip
@AS_JSON
@pass_context
def show(context: Context, job_id: int, outcome: str | None, as_json: bool) -> None:
    """Tell everything of a JOB.

    How it stands, what it was asked, what it made, its newest log lines.
    """

    async def work(cur: Cursor) -> Any:
        job = await _found(cur, job_id)
        rows: list[JobRow] = []
        if outcome is not None:
            while page := await rows_of(cur, job_id, outcome="" if outcome == "all" else outcome,
                                        after=rows[-1].no if rows else 0):  # fmt: skip
                rows += page
        return (job, await files_of(cur, job_id), await row_counts(cur, job_id),
                await newest_log(cur, job_id, _LOG_SHOWN), rows)  # fmt: skip

    job, files, counts, lines, rows = context.in_transaction(work)
    if as_json:
        content = job_json(job) | {"files": [asdict(file) for file in files], "row_counts": counts}
        show_json(content | ({"rows": [asdict(row) for row in rows]} if outcome is not None else {}))
        return
    if outcome is not None:
        show_table(
            ("object", "name", "outcome", "detail"), [(row.ref, row.label, row.outcome, row.detail) for row in rows]
        )
        return
    for line in job_lines(job, files, counts, lines):
        click.echo(line)


@jobs.command()
@JOB_ID
@click.option("--follow", is_flag=True, help="Go on until the job is over.")
@AS_JSON
@pass_context
def log(context: Context, job_id: int, follow: bool, as_json: bool) -> None:
    """Print the log of a JOB, oldest line first.

    Of very many lines the newest are kept.
    """
    after, told = 0, list[Any]()
    while True:

        async def work(cur: Cursor, after: int = after) -> Any:
            job = await _found(cur, job_id)
            return job, await log_of(cur, job_id, after)

        job, lines = context.in_transaction(work)
        for line in lines:
            after = line.id
            if as_json:
                told.append(asdict(line))
            else:
                click.echo(f"{shown_time(line.at)}  {line_words(line)}")
        if not lines:
            if not follow or job.state.is_over:
                break
            time.sleep(_FOLLOW_EVERY_S)
    if as_json:
        show_json(told)


@jobs.command()
@JOB_ID
@pass_context
def retry(context: Context, job_id: int) -> None:
    """Begin a failed or cancelled JOB again."""

    async def work(cur: Cursor, who: Actor) -> Job:
        job = await by_people.begin_again(cur, job_id, who.name)
        await record_as(cur, who, "job_retried", "job", str(job_id), kind=job.kind)
        return job

    context.act(Right.JOBS_MANAGE, work)
    click.echo(f"job {job_id} is queued again")


@jobs.command()
@JOB_ID
@pass_context
def cancel(context: Context, job_id: int) -> None:
    """Cancel a JOB.

    A queued one is cancelled at once. A running one is asked to stop, and stops where nothing is left half done.
    """

    async def work(cur: Cursor, who: Actor) -> Job:
        job = await by_people.cancel(cur, job_id, who.name)
        await record_as(cur, who, "job_cancelled", "job", str(job_id), kind=job.kind)
        return job

    job = context.act(Right.JOBS_MANAGE, work)
    is_over = job.state is JobState.CANCELLED
    asked = f"job {job_id} is asked to stop: `kopeck job log {job_id} --follow` tells when it did"
    click.echo(f"job {job_id} is cancelled" if is_over else asked)


@jobs.command("file")
@JOB_ID
@click.argument("file_id", metavar="[FILE]", type=click.IntRange(1, 2**63 - 1), required=False)
@click.option("--output", type=click.File("wb"), default="-", help="A file instead of standard output.")
@pass_context
def file_(context: Context, job_id: int, file_id: int | None, output: IO[bytes]) -> None:
    """Write a file that a JOB made.

    Its only one, or the one with the number FILE, which `kopeck job show` tells.
    """

    async def work(cur: Cursor) -> None:
        await _found(cur, job_id)
        made = [file for file in await files_of(cur, job_id) if file.purpose == "result"]
        if file_id is None and len(made) != 1:
            numbers = ", ".join(f"{file.id} ({file.name})" for file in made)
            raise JobError(f"job {job_id} made {len(made)} files{': name one: ' if made else ''}{numbers}")
        file = made[0] if file_id is None else await find_file(cur, job_id, file_id)
        if file is None:
            raise JobError(f"job {job_id} has no file {file_id}")
        if file.dropped_at is not None:
            raise JobError(f"the content of {file.name} was deleted {shown_time(file.dropped_at)}, by its age")
        async for part in parts_of(cur, file.id):
            output.write(part)

    context.in_transaction(work)


async def _found(cur: Cursor, job_id: int) -> Job:
    job = await find_job(cur, job_id)
    if job is None:
        raise JobError(f"there is no job {job_id}", code="job_unknown", job=job_id)
    return job
