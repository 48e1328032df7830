"""What belongs to a job as rows: its log, what became of each object, its files.

Rules. Functions that write for an attempt take its number: if the job was taken over meanwhile they write nothing and
return False or None. A mass action calls `add_rows` in the transaction of what it did to the objects, so an object's
row is there if and only if it was done; `rows_done` tells the next attempt what to leave alone. A file is read and
written in parts, so nobody holds a whole one.

Does not know: what the lines, rows and files tell.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from typing import IO, Final

from billing.database.cursors import Cursor
from billing.database.rows import records
from billing.work.jobs.records import (
    FILE_MAX_BYTES,
    FILE_PART_BYTES,
    FILES_MAX,
    LOG_LINE_CHARS,
    LOG_LINES_MAX,
    FilePurpose,
    JobError,
    JobFile,
    JobRow,
    LogLine,
    NewRow,
    RowOutcome,
)

#: Rows and lines that one page or one look of a command holds.
PAGE_MAX: Final = 1_000
#: How long what a job was given is kept after it is over, so that it can begin again.
INPUT_KEEP_DAYS: Final = 30
#: Files whose content is deleted in one statement.
_DROP_MAX: Final = 20

_HELD: Final = "SELECT FROM jobs WHERE id = %(job)s AND attempt = %(attempt)s AND state = 'running' FOR SHARE"

_ADD_LOG: Final = """
    INSERT INTO job_log (job_id, attempt, event, line)
    SELECT id, attempt, %(event)s, line FROM jobs, unnest(%(lines)s::text[]) WITH ORDINALITY AS told (line, no)
    WHERE id = %(job)s AND (%(attempt)s::int IS NULL OR attempt = %(attempt)s) ORDER BY no
"""
_TRIM_LOG: Final = f"""
    DELETE FROM job_log WHERE job_id = %(job)s AND event = '' AND id <= (
        SELECT id FROM job_log WHERE job_id = %(job)s AND event = '' ORDER BY id DESC OFFSET {LOG_LINES_MAX} LIMIT 1)
"""
_LOG: Final = """
    SELECT id, attempt, at, event, line FROM job_log
    WHERE job_id = %(job)s AND id > %(after)s ORDER BY id LIMIT %(limit)s
"""
_NEWEST_LOG: Final = """
    SELECT id, attempt, at, event, line FROM job_log WHERE job_id = %(job)s ORDER BY id DESC LIMIT %(limit)s
"""

#: Twice under one ref in one call: the last one counts.
_ADD_ROWS: Final = """
    INSERT INTO job_rows (job_id, ref, label, outcome, detail)
    SELECT %(job)s, ref, label, outcome, detail FROM (
        SELECT DISTINCT ON (ref) ref, label, outcome, detail, no
        FROM unnest(%(refs)s::text[], %(labels)s::text[], %(outcomes)s::text[], %(details)s::text[])
             WITH ORDINALITY AS told (ref, label, outcome, detail, no) ORDER BY ref, no DESC) AS last
    ORDER BY no
    ON CONFLICT (job_id, ref) DO UPDATE
    SET label = excluded.label, outcome = excluded.outcome, detail = excluded.detail, at = clock_timestamp()
"""
_ROWS: Final = """
    SELECT no, ref, label, outcome, detail, at FROM job_rows
    WHERE job_id = %(job)s AND no > %(after)s AND (%(outcome)s = '' OR outcome = %(outcome)s)
    ORDER BY no LIMIT %(limit)s
"""
_ROW_COUNTS: Final = "SELECT outcome, count(*) FROM job_rows WHERE job_id = %s GROUP BY outcome"
_DONE_OF: Final = """
    SELECT ref FROM job_rows WHERE job_id = %s AND outcome IN ('done', 'skipped') AND ref = ANY(%s)
"""

_BEGIN_FILE: Final = """
    INSERT INTO job_files (job_id, purpose, attempt, name, media_type)
    VALUES (%(job)s, %(purpose)s, %(attempt)s, %(name)s, %(media_type)s) RETURNING id
"""
_COUNT_FILES: Final = "SELECT count(*) FROM job_files WHERE job_id = %s"
_ADD_PART: Final = "INSERT INTO job_file_parts (file_id, no, content) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
_COMPLETE: Final = """
    UPDATE job_files SET is_complete = true, expires_at = clock_timestamp() + make_interval(days => %(keep_days)s),
           size_bytes = (SELECT coalesce(sum(length(content)), 0) FROM job_file_parts WHERE file_id = %(file)s)
    WHERE id = %(file)s
"""
_FILE_COLUMNS: Final = "id, job_id, purpose, name, media_type, size_bytes, created_at, expires_at, dropped_at"
_FILES: Final = f"SELECT {_FILE_COLUMNS} FROM job_files WHERE job_id = %s AND is_complete ORDER BY id"
_FILE: Final = f"SELECT {_FILE_COLUMNS} FROM job_files WHERE job_id = %s AND id = %s AND is_complete"
_PART: Final = "SELECT content FROM job_file_parts WHERE file_id = %s AND no = %s"
_DROP_RESULTS: Final = "DELETE FROM job_files WHERE job_id = %s AND purpose = 'result'"
_DROP_INCOMPLETE: Final = "DELETE FROM job_files WHERE job_id = %s AND purpose = 'result' AND NOT is_complete"
_DROP_EXPIRED: Final = f"""
    WITH expired AS (
        UPDATE job_files SET dropped_at = clock_timestamp() WHERE id IN (
            SELECT f.id FROM job_files f JOIN jobs j ON j.id = f.job_id
            WHERE f.dropped_at IS NULL AND f.expires_at < clock_timestamp() AND j.finished_at IS NOT NULL
            ORDER BY f.expires_at LIMIT {_DROP_MAX} FOR UPDATE OF f SKIP LOCKED)
        RETURNING id),
    parts AS (DELETE FROM job_file_parts p USING expired WHERE p.file_id = expired.id)
    SELECT count(*) FROM expired
"""


async def is_held(cur: Cursor, job_id: int, attempt: int) -> bool:
    """Whether the job is still this attempt's; until the caller's transaction ends nobody takes it over."""
    await cur.execute(_HELD, {"job": job_id, "attempt": attempt})
    return await cur.fetchone() is not None


async def add_log(
    cur: Cursor, job_id: int, lines: Sequence[str], *, event: str = "", attempt: int | None = None
) -> None:
    """Write lines into a job's log. attempt: only while the job is at it; None: whatever it is at."""
    told = [line.replace("\0", "")[:LOG_LINE_CHARS] for line in lines]
    await cur.execute(_ADD_LOG, {"job": job_id, "attempt": attempt, "event": event, "lines": told})


async def trim_log(cur: Cursor, job_id: int) -> None:
    """Delete all but the newest LOG_LINES_MAX lines of the work; what the machinery did stays."""
    await cur.execute(_TRIM_LOG, {"job": job_id})


async def log_of(cur: Cursor, job_id: int, after: int = 0, limit: int = PAGE_MAX) -> list[LogLine]:
    """Lines of a job with a higher id, oldest first."""
    await cur.execute(_LOG, {"job": job_id, "after": after, "limit": limit})
    return await records(cur, LogLine)


async def newest_log(cur: Cursor, job_id: int, limit: int) -> list[LogLine]:
    """The newest lines of a job, oldest of them first."""
    await cur.execute(_NEWEST_LOG, {"job": job_id, "limit": limit})
    return (await records(cur, LogLine))[::-1]


async def add_rows(cur: Cursor, job_id: int, attempt: int, rows: Sequence[NewRow]) -> bool:
    """Tell what became of objects. False: the job is not this attempt's any more; roll back what was done to them."""
    if not await is_held(cur, job_id, attempt):
        return False
    if rows:
        columns = {
            "refs": [row.ref for row in rows], "labels": [row.label[:300] for row in rows],
            "outcomes": [row.outcome for row in rows], "details": [row.detail[:1_000] for row in rows],
        }  # fmt: skip
        await cur.execute(_ADD_ROWS, {"job": job_id, **columns})
    return True


async def rows_of(
    cur: Cursor, job_id: int, *, outcome: RowOutcome | str = "", after: int = 0, limit: int = PAGE_MAX
) -> list[JobRow]:
    """What became of objects, in order. after: only higher numbers."""
    await cur.execute(_ROWS, {"job": job_id, "outcome": outcome, "after": after, "limit": limit})
    return await records(cur, JobRow)


async def row_counts(cur: Cursor, job_id: int) -> dict[str, int]:
    """How many objects came to which outcome."""
    await cur.execute(_ROW_COUNTS, (job_id,))
    return dict(await cur.fetchall())


async def rows_done(cur: Cursor, job_id: int, refs: Collection[str]) -> set[str]:
    """Those of the objects that an earlier attempt did, or had a reason to pass over."""
    await cur.execute(_DONE_OF, (job_id, list(refs)))
    return {ref for (ref,) in await cur.fetchall()}


async def begin_file(
    cur: Cursor, job_id: int, attempt: int, name: str, media_type: str, purpose: FilePurpose = "result"
) -> int:
    """Begin a file of a job; its id. It is shown when it is complete.

    Raises:
        JobError: not a name, or the job has FILES_MAX files.
    """
    if not (0 < len(name) <= 200 and name.isprintable() and not set(name) & set('/\\"')):
        raise JobError(f"{name[:40]!r} is no name of a file", code="job_file_name")
    await cur.execute(_COUNT_FILES, (job_id,))
    if (await cur.fetchone())[0] >= FILES_MAX:
        raise JobError(f"a job has {FILES_MAX} files at most", code="job_files")
    values = {"job": job_id, "attempt": attempt, "name": name, "media_type": media_type, "purpose": purpose}
    await cur.execute(_BEGIN_FILE, values)
    return int((await cur.fetchone())[0])


async def add_part(cur: Cursor, file_id: int, no: int, content: bytes) -> None:
    """Write a part, FILE_PART_BYTES but for the last one. no: from 0. A part that is there already stays.

    Raises:
        JobError: the file would be too large.
    """
    if no * FILE_PART_BYTES + len(content) > FILE_MAX_BYTES:
        raise JobError(f"a file of a job is at most {FILE_MAX_BYTES} bytes", code="job_file_size")
    await cur.execute(_ADD_PART, (file_id, no, content))


async def complete_file(cur: Cursor, file_id: int, keep_days: int) -> None:
    """Show a file. keep_days: how long its content is kept."""
    await cur.execute(_COMPLETE, {"file": file_id, "keep_days": keep_days})


async def add_input(cur: Cursor, job_id: int, name: str, media_type: str, content: IO[bytes]) -> int:
    """Give a job a file, in the transaction that queues it; its id. Its content is kept INPUT_KEEP_DAYS at least."""
    file_id = await begin_file(cur, job_id, 0, name, media_type, "input")
    no = 0
    while part := content.read(FILE_PART_BYTES):
        await add_part(cur, file_id, no, part)
        no += 1
    await complete_file(cur, file_id, INPUT_KEEP_DAYS)
    return file_id


async def files_of(cur: Cursor, job_id: int) -> list[JobFile]:
    """Complete files of a job, oldest first."""
    await cur.execute(_FILES, (job_id,))
    return await records(cur, JobFile)


async def find_file(cur: Cursor, job_id: int, file_id: int) -> JobFile | None:
    """A complete file of a job, or None."""
    await cur.execute(_FILE, (job_id, file_id))
    return next(iter(await records(cur, JobFile)), None)


async def parts_of(cur: Cursor, file_id: int) -> AsyncIterator[bytes]:
    """The parts of a file in order."""
    no = 0
    while (part := await read_part(cur, file_id, no)) is not None:
        yield part
        no += 1


async def read_part(cur: Cursor, file_id: int, no: int) -> bytes | None:
    """One part of a file, None after the last."""
    await cur.execute(_PART, (file_id, no))
    row = await cur.fetchone()
    return None if row is None else bytes(row[0])


async def drop_results(cur: Cursor, job_id: int, *, incomplete_only: bool) -> None:
    """Delete files that a job made: all before another attempt, or those that were never completed."""
    await cur.execute(_DROP_INCOMPLETE if incomplete_only else _DROP_RESULTS, (job_id,))


async def drop_expired(cur: Cursor) -> int:
    """Delete the content of some files that are past their time, of jobs that are over; how many."""
    await cur.execute(_DROP_EXPIRED)
    return int((await cur.fetchone())[0])
