"""Usage into PostgreSQL in columns: the one file that knows ADBC.

Rules. A load is one transaction a file: nothing of a file is visible before all of it is, and a kill leaves nothing.
Each block goes by binary COPY into a temporary staging table and from there in one statement to keys and events. Keys
are claimed in their order and one import of a source runs at a time (an advisory lock), so imports never deadlock.
ADBC is strict about types: what is bound here is int64, text, or cast in the statement.

Does not know: files, formats, where the lines came from.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import adbc_driver_manager
import numpy as np
import pyarrow as pa
from adbc_driver_postgresql import dbapi

from billing.arrays import int_array
from billing.usage_lines import Reject

#: pg_advisory_lock takes two numbers: this one, and the source's.
LOCK_SPACE: Final = int.from_bytes(b"use", "big")

_REJECTS: Final = pa.schema(
    [
        ("import_id", pa.int64()),
        ("line", pa.int64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("raw", pa.binary()),
        ("raw_is_cut", pa.bool_()),
    ]
)

_SOURCE: Final = """
    WITH made AS (INSERT INTO usage_sources (name) VALUES ($1) ON CONFLICT (name) DO NOTHING RETURNING id)
    SELECT id FROM made UNION ALL SELECT id FROM usage_sources WHERE name = $1 LIMIT 1
"""

_LOCK: Final = "SELECT pg_try_advisory_lock($1::int, $2::int)"

#: While the source's lock is ours, a running import of it is one whose process ended.
_BURY: Final = """
    UPDATE usage_imports SET state = 'failed', failure = 'its process ended before the file did', finished_at = now()
    WHERE source_id = $1 AND state = 'running'
"""

_SAME_FILE: Final = """
    SELECT id FROM usage_imports WHERE source_id = $1 AND file_sha256 = $2 AND state = 'done' ORDER BY id LIMIT 1
"""

_BEGIN: Final = """
    INSERT INTO usage_imports (source_id, format_name, format_text, file_name, refeeds_id, late, actor)
    VALUES ($1, $2, $3, $4, nullif($5, 0), $6, $7) RETURNING id
"""

_FAIL: Final = """
    UPDATE usage_imports SET state = 'failed', failure = $2, finished_at = now() WHERE id = $1 AND state = 'running'
"""

_DONE: Final = """
    UPDATE usage_imports
    SET state = 'done', file_sha256 = nullif($2, ''), header = nullif($3, ''), lines_count = $4, accepted_count = $5,
        repeated_count = $6, rejected_count = $7, late_count = $8, finished_at = now()
    WHERE id = $1
"""

#: Of any version: an event may be older than the version in force.
_ITEMS: Final = "SELECT DISTINCT number FROM catalogue_items"

_OPEN_FROM: Final = "SELECT open_from FROM usage_open FOR SHARE"

#: Sorting a block's keys stays in memory.
_MEMORY: Final = "SET LOCAL work_mem = '64MB'"

_STAGING: Final = """
    CREATE TEMPORARY TABLE usage_staging (
        key text COLLATE "C", account text, item text, at timestamptz, counts_at timestamptz, quantity_micro bigint,
        duration_s integer, destination text, line bigint
    ) ON COMMIT DROP
"""

#: Staged lines that were not stored; account_id: null where nobody has the number.
_LEFT: Final = "CREATE TEMPORARY TABLE usage_left (LIKE usage_staging, account_id bigint) ON COMMIT DROP"

#: A block's lines are many beside what the planner guesses of them: never look each up among the others.
_NO_LOOPS: Final = "SET LOCAL enable_nestloop = off"

_LOAD: Final = """
    WITH known AS MATERIALIZED (
        SELECT s.*, a.id AS account_id
        FROM usage_staging s
        LEFT JOIN (accounts a JOIN account_kinds k ON k.kind = a.kind AND NOT k.is_system) ON a.number = s.account
    ), firsts AS MATERIALIZED (
        SELECT DISTINCT ON (key) * FROM known WHERE account_id IS NOT NULL ORDER BY key, line
    ), fresh AS (
        INSERT INTO usage_keys (source_id, key, counts_at)
        SELECT $1, key, counts_at FROM firsts
        ON CONFLICT (source_id, key) DO NOTHING
        RETURNING key, usage_id
    ), stored AS (
        INSERT INTO usage_events (id, account_id, item, at, counts_at, quantity_micro, duration_s, destination,
                                  import_id, line)
        SELECT n.usage_id, f.account_id, f.item, f.at, f.counts_at, f.quantity_micro, f.duration_s, f.destination,
               $2, f.line
        FROM firsts f JOIN fresh n USING (key)
        RETURNING at, counts_at, line
    ), left_over AS (
        INSERT INTO usage_left
        SELECT k.* FROM known k WHERE NOT EXISTS (SELECT FROM stored d WHERE d.line = k.line)
    )
    SELECT count(*), count(*) FILTER (WHERE counts_at > at) FROM stored
"""

#: But they are few beside what is stored: look each up there by index, never read the tables through.
_ONLY_LOOPS: Final = (
    "SET LOCAL enable_nestloop = on",
    "SET LOCAL enable_hashjoin = off",
    "SET LOCAL enable_mergejoin = off",
)
_NO_LOOPS_AGAIN: Final = (_NO_LOOPS, "SET LOCAL enable_hashjoin = on", "SET LOCAL enable_mergejoin = on")

#: Of the lines that were not stored: those that are no harmless repeat, and why.
_REFUSED: Final = """
    SELECT s.line, s.account_id IS NULL AS is_unknown, s.account, u.import_id, u.line AS first_line
    FROM usage_left s
    LEFT JOIN usage_keys k ON k.source_id = $1 AND k.key = s.key
    LEFT JOIN usage_events u ON u.id = k.usage_id AND u.counts_at = k.counts_at
    WHERE s.account_id IS NULL
       OR (u.account_id, u.item, u.at, u.quantity_micro, u.duration_s, u.destination)
          IS DISTINCT FROM (s.account_id, s.item, s.at, s.quantity_micro, s.duration_s, s.destination)
"""

_REJECTS_TO_REFEED: Final = """
    SELECT id, raw FROM usage_rejects
    WHERE import_id = $1 AND state = 'open' AND NOT raw_is_cut AND reason <> 'cut_line'
    ORDER BY line LIMIT $2
"""

_CLAIM_REJECTS: Final = """
    WITH claimed AS (
        UPDATE usage_rejects SET state = 'refed', refed_import_id = $2, actor = $3, changed_at = now()
        WHERE import_id = $1 AND state = 'open' AND id = ANY ($4::text::bigint[])
        RETURNING id
    )
    SELECT count(*) FROM claimed
"""

#: No parameters: ADBC reads by binary COPY only without them. Filled with integers alone.
_EVENTS: Final = """
    SELECT account_id, item, at, counts_at, quantity_micro, duration_s, destination, id
    FROM usage_events
    WHERE account_id BETWEEN {first} AND {last}
      AND counts_at >= to_timestamp({from_s}) AND counts_at < to_timestamp({until_s})
    ORDER BY account_id, at, id
"""


class UsageStoreError(Exception):
    """The database did not take it, and nothing of the file is kept. The message is for people."""


@dataclass(frozen=True, slots=True)
class Counts:
    """Of lines. accepted + repeated + rejected are all; late ones are among the accepted."""

    lines: int = 0
    accepted: int = 0
    repeated: int = 0
    rejected: int = 0
    late: int = 0

    def plus(self, other: "Counts") -> "Counts":
        return Counts(
            self.lines + other.lines,
            self.accepted + other.accepted,
            self.repeated + other.repeated,
            self.rejected + other.rejected,
            self.late + other.late,
        )


@dataclass(frozen=True, slots=True)
class NewImport:
    """What is known of an import before its first line; refeeds: the import whose rejects these are, or None."""

    source: str
    format_name: str
    format_text: str
    file_name: str
    late: str
    actor: str
    refeeds: int | None = None


@contextmanager
def connection(dsn: str) -> Iterator[Any]:
    """A connection that rolls back what was not committed.

    Raises:
        UsageStoreError: no connection, or whatever the database refused inside the block.
    """
    try:
        with dbapi.connect(dsn) as opened:
            yield opened
    except adbc_driver_manager.Error as error:
        raise UsageStoreError(_plain(error)) from error


def _plain(error: Exception) -> str:
    """The database's sentence without the driver's words around it."""
    text = str(error).strip()
    for start in ("ERROR:", "FATAL:", "Failed to connect"):
        if start in text:
            text = text[text.index(start) :]
            break
    return f"the database refused: {text.splitlines()[0][:500]}"


def _rows(opened: Any, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    with opened.cursor() as cur:
        cur.execute(statement, tuple(parameters) or None)
        return list(cur.fetchall())


def _do(opened: Any, statement: str, parameters: Sequence[Any] = ()) -> None:
    with opened.cursor() as cur:
        cur.execute(statement, tuple(parameters) or None)


def lock_source(record: Any, name: str) -> int:
    """The id of a source, made on first use, which is ours until ``record`` closes; commits.

    Raises:
        UsageStoreError: another import of it is under way.
    """
    source_id = int(_rows(record, _SOURCE, (name,))[0][0])
    record.commit()
    if not _rows(record, _LOCK, (LOCK_SPACE, source_id))[0][0]:
        raise UsageStoreError(f"another import of source {name!r} is under way; wait for it")
    _do(record, _BURY, (source_id,))
    record.commit()
    return source_id


def same_file(record: Any, source_id: int, sha256: str) -> int | None:
    """The first import of this source that was done with a file of the same contents."""
    found = _rows(record, _SAME_FILE, (source_id, sha256))
    return int(found[0][0]) if found else None


def begin_import(record: Any, source_id: int, new: NewImport) -> int:
    """Write down that an import begins, and commit; returns its id."""
    values = (source_id, new.format_name, new.format_text, new.file_name, new.refeeds or 0, new.late, new.actor)
    found = _rows(record, _BEGIN, values)
    record.commit()
    return int(found[0][0])


def fail_import(record: Any, import_id: int, why: str) -> None:
    """Write down that nothing of the import was kept, and commit."""
    record.rollback()
    _do(record, _FAIL, (import_id, why[:2_000].replace("\0", "?")))
    record.commit()


def begin_load(load: Any) -> int | None:
    """Make the staging table and hold the boundary of closed periods; returns it as UTC seconds, None for no boundary.

    Ends with the transaction of ``load``.
    """
    open_from = _rows(load, _OPEN_FROM)[0][0]
    for statement in (_MEMORY, _NO_LOOPS, _STAGING, _LEFT):
        _do(load, statement)
    return int(open_from.timestamp()) if open_from is not None else None


def known_items(load: Any) -> frozenset[str] | None:
    """Numbers of items in any catalogue; None where no catalogue was ever loaded, so that none could be asked."""
    return frozenset(str(row[0]) for row in _rows(load, _ITEMS)) or None


def make_months(record: Any, events: pa.Table, known: set[int]) -> None:
    """Make the partitions these events need and ``known`` does not hold yet, and commit."""
    seconds = np.unique(np.asarray(events.column("counts_at").cast(pa.int64())) // 1_000_000 // 3_600)
    months = np.unique((seconds * 3_600).astype("datetime64[s]").astype("datetime64[M]").astype(np.int64))
    for month in sorted(set(months.tolist()) - known):
        start = datetime(1970 + month // 12, month % 12 + 1, 1, tzinfo=UTC)
        _rows(record, "SELECT usage_month($1::timestamptz)::text", (start.isoformat(),))
        record.commit()
        known.add(month)


def store_events(
    load: Any, source_id: int, import_id: int, events: pa.Table
) -> tuple[Counts, list[tuple[int, str, str]]]:
    """Store a block's events, each once by its key.

    Returns:
        Counts of these events, and (line, reason, detail) of those that are rejected. An event whose key was used with
        the same contents is a repeat.
    """
    if not events.num_rows:
        return Counts(), []
    with load.cursor() as cur:
        cur.adbc_ingest("usage_staging", events, mode="append", temporary=True)
    accepted, late = (int(value) for value in _rows(load, _LOAD, (source_id, import_id))[0])
    refused = []
    if accepted < events.num_rows:
        for statement in _ONLY_LOOPS:
            _do(load, statement)
        refused = [_refusal(*row) for row in _rows(load, _REFUSED, (source_id,))]
        for statement in _NO_LOOPS_AGAIN:
            _do(load, statement)
    _do(load, "TRUNCATE usage_staging, usage_left")
    repeated = events.num_rows - accepted - len(refused)
    return Counts(events.num_rows, accepted, repeated, len(refused), late), refused


def _refusal(
    line: int, is_unknown: bool, account: str, import_id: int | None, first_line: int | None
) -> tuple[int, str, str]:
    if is_unknown:
        return line, "unknown_account", f"there is no account {account!r}"
    what = f"the key was used with other contents by line {first_line} of import {import_id}"
    return line, "key_conflict", what


def store_rejects(load: Any, import_id: int, rejects: Iterable[Reject]) -> int:
    """Keep rejected lines; returns how many."""
    rows = list(rejects)
    if not rows:
        return 0
    columns = [
        [import_id] * len(rows),
        [row.line for row in rows],
        [row.reason for row in rows],
        [row.detail.replace("\0", "?")[:1_000] for row in rows],
        [row.raw.data for row in rows],
        [row.raw.cut for row in rows],
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, _REJECTS, strict=True)]
    with load.cursor() as cur:
        cur.adbc_ingest("usage_rejects", pa.Table.from_arrays(arrays, schema=_REJECTS), mode="append")
    return len(rows)


def finish_import(load: Any, import_id: int, sha256: str, header: str, counts: Counts) -> None:
    """Write down what came of the import, and commit it with everything that was loaded."""
    values = (counts.lines, counts.accepted, counts.repeated, counts.rejected, counts.late)
    _do(load, _DONE, (import_id, sha256, header, *values))
    load.commit()


def read_events(load: Any, first_account: int, last_account: int, from_s: int, until_s: int) -> pa.Table:
    """Events that count in [from_s, until_s) (UTC seconds), of a range of accounts' ids, in the order they are rated.

    Returns:
        account_id, item, at, counts_at (timestamps of microseconds, UTC), quantity_micro, duration_s, destination, id;
        by account, then event time, then id.
    """
    bounds = {"first": int(first_account), "last": int(last_account), "from_s": int(from_s), "until_s": int(until_s)}
    with load.cursor() as cur:
        cur.execute(_EVENTS.format_map(bounds))
        return cur.fetch_arrow_table()


def rejects_to_refeed(record: Any, import_id: int, limit: int) -> list[tuple[int, bytes]]:
    """Open rejects of an import that can be fed again as they are: (id, line). A line that was cut cannot."""
    return [(int(id_), bytes(raw)) for id_, raw in _rows(record, _REJECTS_TO_REFEED, (import_id, limit))]


def claim_rejects(load: Any, import_id: int, refeed_id: int, actor: str, ids: Sequence[int]) -> None:
    """Mark rejects as fed again by import ``refeed_id``.

    Raises:
        UsageStoreError: one of them is not an open reject of this import.
    """
    found = _rows(load, _CLAIM_REJECTS, (import_id, refeed_id, actor, int_array(ids)))
    claimed = int(found[0][0])
    if claimed != len(set(ids)):
        raise UsageStoreError(f"{len(set(ids)) - claimed} of these lines are no open rejects of import {import_id}")
