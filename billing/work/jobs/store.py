"""Jobs as rows: queued, claimed, kept alive, ended, cancelled, begun again, listed, forgotten.

Rules. `enqueue` belongs to the caller's transaction, so a job is there if and only if its cause is; NOTIFY wakes the
processes when that commits. All times are the database's. What a process writes about a job it holds carries the
attempt: if the job was taken over meanwhile, the statement finds no row and the function says so. A claim carries a
name that its process chose, so a process that lost its connection while claiming finds out whether it has the job.

Does not know: what follows the end of an attempt (rules), logs, rows and files of jobs (details_store), who may do
what.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final

from billing.database.cursors import Cursor
from billing.database.rows import named_rows
from billing.work.jobs.records import (
    ARGUMENTS_MAX_BYTES,
    KEY_CHARS,
    MESSAGE_CHARS,
    RESULT_MAX_BYTES,
    Job,
    JobError,
    JobState,
    Next,
    Progress,
)

#: The channel on which processes hear of new jobs and of cancels.
CHANNEL: Final = "kopeck_jobs"
#: Jobs one list holds.
LIST_MAX: Final = 1_000
#: Finished jobs forgotten in one statement.
FORGET_MAX: Final = 200
_KIND: Final = re.compile(r"[a-z_]+(\.[a-z_]+)*")

_COLUMNS: Final = ", ".join(field.name for field in fields(Job))

_INSERT: Final = """
    INSERT INTO jobs (kind, key, arguments, queue, priority, asked_by, due_at)
    VALUES (%(kind)s, %(key)s, %(arguments)s::jsonb, %(queue)s, %(priority)s, %(asked_by)s, coalesce(%(due)s, now()))
    ON CONFLICT (key) DO NOTHING RETURNING id
"""
_BY_KEY: Final = "SELECT id, kind FROM jobs WHERE key = %s"
_NOTIFY: Final = f"SELECT pg_notify('{CHANNEL}', %s)"

_CLAIM: Final = f"""
    UPDATE jobs SET state = 'running', attempt = attempt + 1, worker = %(worker)s, claim = %(claim)s,
           lease_s = %(lease_s)s, beat = beat + 1, beat_at = clock_timestamp(), started_at = clock_timestamp(),
           done = 0, total = NULL, doing = ''
    WHERE id = (SELECT id FROM jobs
                WHERE state = 'queued' AND due_at <= clock_timestamp() AND kind = ANY(%(kinds)s)
                  AND (%(queues)s::text[] = '{{}}' OR queue = ANY(%(queues)s))
                ORDER BY priority DESC, due_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING {_COLUMNS}
"""
_CLAIMED: Final = f"SELECT {_COLUMNS} FROM jobs WHERE state = 'running' AND claim = %s"

_BEAT: Final = """
    UPDATE jobs SET beat = beat + 1, beat_at = clock_timestamp(), done = %(done)s, total = %(total)s, doing = %(doing)s
    WHERE id = %(id)s AND attempt = %(attempt)s AND state = 'running'
    RETURNING cancel_at IS NOT NULL
"""
_SAVE: Final = """
    UPDATE jobs SET saved = %(saved)s::jsonb, beat = beat + 1, beat_at = clock_timestamp()
    WHERE id = %(id)s AND attempt = %(attempt)s AND state = 'running' RETURNING id
"""
_END: Final = """
    UPDATE jobs SET state = %(state)s, failure = %(failure)s, message = %(message)s, result = %(result)s::jsonb,
           errors = %(errors)s, interruptions = %(interruptions)s,
           done = CASE WHEN %(done)s::bigint IS NULL THEN done ELSE %(done)s END,
           total = CASE WHEN %(done)s::bigint IS NULL THEN total ELSE %(total)s END,
           finished_at = CASE WHEN %(state)s = 'queued' THEN NULL ELSE clock_timestamp() END,
           due_at = CASE WHEN %(state)s = 'queued' THEN clock_timestamp() + make_interval(secs => %(wait_s)s)
                         ELSE due_at END
    WHERE id = %(id)s AND attempt = %(attempt)s AND state = 'running'
      AND (%(beat)s::bigint IS NULL OR beat = %(beat)s)
    RETURNING id
"""
_RUNNING: Final = f"SELECT {_COLUMNS} FROM jobs WHERE state = 'running' ORDER BY id LIMIT {LIST_MAX}"

_HOLD: Final = f"SELECT {_COLUMNS} FROM jobs WHERE id = %s FOR NO KEY UPDATE"
_ONE: Final = f"SELECT {_COLUMNS} FROM jobs WHERE id = %s"
_CANCEL_QUEUED: Final = """
    UPDATE jobs SET state = 'cancelled', cancel_by = %(by)s, cancel_at = clock_timestamp(),
           finished_at = clock_timestamp()
    WHERE id = %(id)s
"""
_ASK_CANCEL: Final = "UPDATE jobs SET cancel_by = %(by)s, cancel_at = clock_timestamp() WHERE id = %(id)s"
_RETRY: Final = """
    UPDATE jobs SET state = 'queued', due_at = clock_timestamp(), errors = 0, interruptions = 0, finished_at = NULL,
           cancel_by = '', cancel_at = NULL, result = NULL
    WHERE id = %s
"""
_LIST: Final = f"""
    SELECT {_COLUMNS} FROM jobs
    WHERE (%(states)s::text[] = '{{}}' OR state = ANY(%(states)s)) AND (%(kind)s = '' OR kind = %(kind)s)
      AND (%(asked_by)s = '' OR asked_by = %(asked_by)s) AND (%(before)s::bigint IS NULL OR id < %(before)s)
    ORDER BY id DESC LIMIT %(limit)s
"""
_COUNTS: Final = """
    SELECT count(*) FILTER (WHERE state = 'queued' AND due_at <= clock_timestamp()),
           count(*) FILTER (WHERE state = 'queued' AND due_at > clock_timestamp()),
           count(*) FILTER (WHERE state = 'running'),
           coalesce(extract(epoch FROM clock_timestamp()
                    - min(due_at) FILTER (WHERE state = 'queued' AND due_at <= clock_timestamp())), 0)::float8
    FROM jobs WHERE state IN ('queued', 'running')
"""
_FAILED: Final = "SELECT count(*) FROM jobs WHERE finished_at IS NOT NULL AND state = 'failed'"
_KINDS: Final = """
    WITH RECURSIVE named AS (
        SELECT min(kind) AS kind FROM jobs
        UNION ALL
        SELECT (SELECT min(kind) FROM jobs WHERE kind > named.kind) FROM named WHERE named.kind IS NOT NULL)
    SELECT kind FROM named WHERE kind IS NOT NULL
"""
_FORGET: Final = f"""
    DELETE FROM jobs WHERE id IN (
        SELECT id FROM jobs WHERE finished_at < clock_timestamp() - make_interval(days => %s)
        ORDER BY finished_at LIMIT {FORGET_MAX} FOR UPDATE SKIP LOCKED)
"""


@dataclass(frozen=True, slots=True)
class JobCounts:
    """How many jobs stand how. waiting: queued for later. oldest_age_s: of those that are due, since they were."""

    due: int
    waiting: int
    running: int
    oldest_age_s: float
    failed: int


async def enqueue(
    cur: Cursor,
    kind: str,
    arguments: Mapping[str, Any],
    *,
    asked_by: str,
    key: str | None = None,
    due: datetime | None = None,
    queue: str = "main",
    priority: int = 0,
) -> int:
    """Queue a job in the caller's transaction; its id. It begins after that commits.

    Args:
        kind: as `kopeck.serve.jobs` names its work, such as ``bill.run``.
        arguments: JSON values for the work.
        asked_by: the actor, as the audit record names it.
        key: acts once: where a job with this key is kept, its id is returned and nothing is queued.
        due: not before this aware instant; None at once.
        priority: jobs of a higher one begin first.

    Raises:
        JobError: not a kind's name, arguments that are no JSON or too large, or the key of a job of another kind.
    """
    if not _KIND.fullmatch(kind):
        raise JobError(f"{kind!r} is no kind of job", code="job_kind", kind=kind)
    if key is not None and not (0 < len(key) <= KEY_CHARS and key.isprintable()):
        raise JobError(f"a job's key is 1 to {KEY_CHARS} printable characters", code="job_key")
    if due is not None and due.tzinfo is None:
        raise JobError("a job is due at an instant with a zone", code="job_due")
    values = {
        "kind": kind, "key": key, "arguments": _json(arguments, ARGUMENTS_MAX_BYTES, "arguments"), "queue": queue,
        "priority": priority, "asked_by": asked_by, "due": due,
    }  # fmt: skip
    await cur.execute(_INSERT, values)
    row = await cur.fetchone()
    if row is not None:
        await cur.execute(_NOTIFY, (queue,))
        return int(row[0])
    await cur.execute(_BY_KEY, (key,))
    row = await cur.fetchone()
    if row is None:  # forgotten in between
        raise JobError(f"the job with the key {key!r} was being forgotten: ask again", code="job_key_gone")
    if row[1] != kind:
        raise JobError(f"the key {key!r} belongs to a job of kind {row[1]}", code="job_key_taken", key=key)
    return int(row[0])


async def claim_job(
    cur: Cursor, claim: str, worker: str, kinds: Sequence[str], queues: Sequence[str], lease_s: int
) -> Job | None:
    """Begin the next job that is due, or None. claim: a name that no other claim has. queues: empty for all."""
    values = {"claim": claim, "worker": worker, "kinds": list(kinds), "queues": list(queues), "lease_s": lease_s}
    await cur.execute(_CLAIM, values)
    return await _first(cur)


async def claimed_job(cur: Cursor, claim: str) -> Job | None:
    """The job that was claimed under this name, if the claim was committed."""
    await cur.execute(_CLAIMED, (claim,))
    return await _first(cur)


async def beat(cur: Cursor, job_id: int, attempt: int, progress: Progress) -> bool | None:
    """Tell that an attempt lives, and how far it is.

    Returns:
        Whether the job was asked to stop; None: the job is not this attempt's any more.
    """
    values = {
        "id": job_id, "attempt": attempt, "done": progress.done, "total": progress.total, "doing": progress.doing,
    }  # fmt: skip
    await cur.execute(_BEAT, values)
    row = await cur.fetchone()
    return None if row is None else bool(row[0])


async def save_place(cur: Cursor, job_id: int, attempt: int, saved: Mapping[str, Any]) -> bool:
    """Keep where the next attempt goes on; False: the job is not this attempt's any more."""
    text = _json(saved, ARGUMENTS_MAX_BYTES, "saved place")
    await cur.execute(_SAVE, {"id": job_id, "attempt": attempt, "saved": text})
    return await cur.fetchone() is not None


async def end_attempt(
    cur: Cursor,
    job_id: int,
    attempt: int,
    following: Next,
    message: str = "",
    result: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    seen_beat: int | None = None,
) -> bool:
    """Write what follows an attempt; False: the job is not this attempt's any more.

    seen_beat: only if nobody raised the beat since.
    """
    values = {
        "id": job_id, "attempt": attempt, "state": following.state.value, "failure": following.failure,
        "message": message[:MESSAGE_CHARS], "errors": following.errors, "interruptions": following.interruptions,
        "result": None if result is None else _json(result, RESULT_MAX_BYTES, "result"), "wait_s": following.wait_s,
        "done": None if progress is None else progress.done, "total": None if progress is None else progress.total,
        "beat": seen_beat,
    }  # fmt: skip
    await cur.execute(_END, values)
    if await cur.fetchone() is None:
        return False
    if following.state is JobState.QUEUED and following.wait_s == 0:
        await cur.execute(_NOTIFY, ("again",))
    return True


async def running_jobs(cur: Cursor) -> list[Job]:
    """Jobs that processes are at, or were when they died."""
    await cur.execute(_RUNNING)
    return await _all(cur)


async def cancel_job(cur: Cursor, job_id: int, by: str) -> Job:
    """Cancel a queued job at once, ask a running one to stop; how it stands then.

    Raises:
        JobError: no such job, or it is over.
    """
    job = await _held(cur, job_id)
    if job.state.is_over:
        raise JobError(f"job {job_id} is {job.state} already", code="job_over", job=job_id, state=job.state.value)
    if job.state is JobState.QUEUED:
        await cur.execute(_CANCEL_QUEUED, {"id": job_id, "by": by})
    elif job.cancel_at is None:
        await cur.execute(_ASK_CANCEL, {"id": job_id, "by": by})
        await cur.execute(_NOTIFY, ("cancel",))
    return await _held(cur, job_id)


async def retry_job(cur: Cursor, job_id: int) -> Job:
    """Queue a failed or cancelled job again; it begins with its tries uncounted.

    Raises:
        JobError: no such job, or it did not fail.
    """
    job = await _held(cur, job_id)
    if not job.can_be_retried:
        sentence = f"job {job_id} is {job.state}: only a failed or cancelled job begins again"
        raise JobError(sentence, code="job_not_failed", job=job_id, state=job.state.value)
    await cur.execute(_RETRY, (job_id,))
    await cur.execute(_NOTIFY, (job.queue,))
    return await _held(cur, job_id)


async def find_job(cur: Cursor, job_id: int) -> Job | None:
    """A job, or None."""
    await cur.execute(_ONE, (job_id,))
    return await _first(cur)


async def list_jobs(
    cur: Cursor,
    *,
    states: Sequence[JobState] = (),
    kind: str = "",
    asked_by: str = "",
    before: int | None = None,
    limit: int = 50,
) -> list[Job]:
    """Jobs, newest first; empty arguments do not narrow. before: only lower ids."""
    values = {
        "states": [state.value for state in states], "kind": kind, "asked_by": asked_by, "before": before,
        "limit": min(limit, LIST_MAX),
    }  # fmt: skip
    await cur.execute(_LIST, values)
    return await _all(cur)


async def known_kinds(cur: Cursor) -> list[str]:
    """Kinds of all jobs that are kept, by name."""
    await cur.execute(_KINDS)
    return [kind for (kind,) in await cur.fetchall()]


async def count_jobs(cur: Cursor) -> JobCounts:
    """How many jobs stand how."""
    await cur.execute(_COUNTS)
    due, waiting, running, age_s = await cur.fetchone()
    await cur.execute(_FAILED)
    return JobCounts(due, waiting, running, age_s, (await cur.fetchone())[0])


async def forget_jobs(cur: Cursor, keep_days: int) -> int:
    """Delete some jobs that finished longer ago, with their logs, rows and files; how many, at most FORGET_MAX."""
    await cur.execute(_FORGET, (keep_days,))
    return cur.rowcount


async def _held(cur: Cursor, job_id: int) -> Job:
    await cur.execute(_HOLD, (job_id,))
    job = await _first(cur)
    if job is None:
        raise JobError(f"there is no job {job_id}", code="job_unknown", job=job_id)
    return job


async def _first(cur: Cursor) -> Job | None:
    jobs = await _all(cur)
    return jobs[0] if jobs else None


async def _all(cur: Cursor) -> list[Job]:
    return [Job(**row | {"state": JobState(row["state"])}) for row in await named_rows(cur)]


def _json(value: Mapping[str, Any], most_bytes: int, what: str) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise JobError(f"a job's {what} must be JSON: {error}", code="job_json") from error
    if len(text.encode()) > most_bytes or "\\u0000" in text:
        raise JobError(f"a job's {what} must be at most {most_bytes} bytes of JSON", code="job_json")
    return text
