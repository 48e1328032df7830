"""Usage into PostgreSQL in columns, through ADBC.

Rules. A load is one transaction a file: nothing of a file is visible before all of it is, and a kill leaves nothing.
A batch (some hundred thousand events) comes sorted by key. Its keys are looked up in that order, and those that are
new go by binary COPY into the keys, in that order, and into the events, by account and time: each index is walked
once a batch from left to right, so a large table costs hardly more than a small one, and the events of a range of
accounts lie together. One import of a source runs at a time (a lock of its session), so no other one takes its keys
meanwhile. ADBC is strict about types: what is bound here is int64, text, or cast in the statement. It reads by binary
COPY only where a statement has no parameters, so such statements are filled with integers, and with nothing else.

Does not know: files, formats, where the lines came from.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from billing.database.adbc import ImportStoreError, columns, do, ingest, rows
from billing.database.arrays import int_array
from billing.database.cursors import ColumnConnection
from billing.database.locks import try_usage_source
from billing.files.lines import Reject
from billing.files.times import Ints, flags

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

#: Waits for a run that is being planned; what that closed is read by the next statements.
_HOLD_BOUNDARY: Final = "SELECT FROM usage_open FOR SHARE"

#: A review of everybody that waits has seen what counts before its bound (billing.cycle.boundary_store).
_OPEN_FROM: Final = """
    SELECT open_from, (SELECT max(usage_until) FROM bill_runs
                       WHERE state IN ('running', 'reviewed', 'approving') AND only_account_id IS NULL) AS seen_until
    FROM usage_open
"""

_OPEN_ACCOUNTS: Final = """
    SELECT a.account_id, max(a.open_from) AS open_from FROM usage_open_accounts a, usage_open u
    WHERE u.open_from IS NULL OR a.open_from > u.open_from
    GROUP BY a.account_id ORDER BY a.account_id
"""

_SETTINGS: Final = ("SET LOCAL work_mem = '64MB'", "SET LOCAL jit = off")

_TEMPORARY: Final = (
    "CREATE TEMPORARY TABLE usage_numbers (number text) ON COMMIT DROP",
    """CREATE TEMPORARY TABLE usage_asked (key text COLLATE "C", place bigint) ON COMMIT DROP""",
    """CREATE TEMPORARY TABLE usage_left (
        key text COLLATE "C", account_id bigint, item text, at timestamptz, quantity_micro bigint, duration_s integer,
        destination text, line bigint
    ) ON COMMIT DROP""",
)

_ACCOUNTS: Final = """
    SELECT a.number, a.id
    FROM usage_numbers n JOIN accounts a USING (number) JOIN account_kinds k ON k.kind = a.kind AND NOT k.is_system
"""

#: A batch's keys are many, but few beside what is stored: look each up by index, never read the tables through.
_BY_INDEX: Final = tuple(f"SET LOCAL enable_{way} = off" for way in ("hashjoin", "mergejoin", "seqscan"))
_AS_PLANNED: Final = tuple(f"SET LOCAL enable_{way} = on" for way in ("hashjoin", "mergejoin", "seqscan"))

#: Numbers that grow, as most keys are, lie beyond all earlier ones, and none of them needs to be looked up.
_USED_BETWEEN: Final = "SELECT EXISTS (SELECT FROM usage_keys WHERE source_id = $1 AND key >= $2 AND key <= $3)"

#: A subquery and not a join, so that it stays a look-up per key whatever the planner thinks of a new table.
_USED: Final = """
    SELECT a.place FROM usage_asked a
    WHERE (SELECT true FROM usage_keys k WHERE k.source_id = {source_id} AND k.key = a.key)
"""

_IDS: Final = "SELECT nextval('usage_ids') FROM generate_series(1, {count})"

#: Of events that were not stored: those that are no harmless repeat, and where their key acted.
_CONFLICTS: Final = """
    SELECT s.line, u.import_id, u.line AS first_line
    FROM usage_left s
    LEFT JOIN usage_keys k ON k.source_id = $1 AND k.key = s.key
    LEFT JOIN usage_events u ON u.id = k.usage_id AND u.counts_at = k.counts_at
    WHERE (u.account_id, u.item, u.at, u.quantity_micro, u.duration_s, u.destination)
          IS DISTINCT FROM (s.account_id, s.item, s.at, s.quantity_micro, s.duration_s, s.destination)
    ORDER BY s.line
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


@dataclass(frozen=True, slots=True)
class LoadCounts:
    """Of lines. accepted + repeated + rejected are all; late ones are among the accepted."""

    lines: int = 0
    accepted: int = 0
    repeated: int = 0
    rejected: int = 0
    late: int = 0

    def plus(self, other: "LoadCounts") -> "LoadCounts":
        return LoadCounts(
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


@dataclass(slots=True)
class Accounts:
    """Accounts that a load has met, by number: a file names the same ones again and again."""

    numbers: pa.Array = field(default_factory=lambda: pa.array([], pa.string()))
    ids: pa.Array = field(default_factory=lambda: pa.array([], pa.int64()))
    boundary: "Boundary" = field(default_factory=lambda: Boundary())


@dataclass(frozen=True, slots=True)
class Boundary:
    """Where open usage begins, in UTC seconds; None: nowhere.

    open_from_s: for everybody. seen_from_s: a review that waits has seen what counts before. accounts: ``account_id``
    (ascending) and ``open_from`` of those whose usage is closed further; None where there are none.
    """

    open_from_s: int | None = None
    seen_from_s: int | None = None
    accounts: pa.Table | None = None


@dataclass(frozen=True, slots=True)
class LoadClaim:
    """A batch whose new keys were taken.

    fresh: events with new keys, with ``account_id`` and ``id`` (ascending) and without ``account``; by account, time
    and line. left: events whose key was used before, in this batch or earlier; without ``id``. strangers: (line,
    reason, detail) of events of unknown accounts.
    """

    fresh: pa.Table
    left: pa.Table
    strangers: list[tuple[int, str, str]]


def lock_source(record: ColumnConnection, name: str) -> int:
    """The id of a source, made on first use, which is ours until ``record`` closes; commits.

    Raises:
        ImportStoreError: another import of it is under way.
    """
    source_id = int(rows(record, _SOURCE, (name,))[0][0])
    record.commit()
    if not try_usage_source(record, source_id):
        raise ImportStoreError(f"another import of source {name!r} is under way; wait for it")
    do(record, _BURY, (source_id,))
    record.commit()
    return source_id


def same_file(record: ColumnConnection, source_id: int, sha256: str) -> int | None:
    """The first import of this source that was done with a file of the same contents."""
    found = rows(record, _SAME_FILE, (source_id, sha256))
    return int(found[0][0]) if found else None


def begin_import(record: ColumnConnection, source_id: int, new: NewImport) -> int:
    """Write down that an import begins, and commit; returns its id."""
    values = (source_id, new.format_name, new.format_text, new.file_name, new.refeeds or 0, new.late, new.actor)
    found = rows(record, _BEGIN, values)
    record.commit()
    return int(found[0][0])


def fail_import(record: ColumnConnection, import_id: int, why: str) -> None:
    """Write down that nothing of the import was kept, and commit."""
    record.rollback()
    do(record, _FAIL, (import_id, why[:2_000].replace("\0", "?")))
    record.commit()


def begin_load(load: ColumnConnection) -> Boundary:
    """Make temporary tables and hold the boundary of open usage; ends with the transaction of ``load``."""
    do(load, _HOLD_BOUNDARY)
    instants = rows(load, _OPEN_FROM)[0]
    accounts = columns(load, _OPEN_ACCOUNTS)
    for statement in (*_SETTINGS, *_TEMPORARY):
        do(load, statement)
    open_from_s, seen_from_s = (int(at.timestamp()) if at is not None else None for at in instants)
    return Boundary(open_from_s, seen_from_s, accounts if accounts.num_rows else None)


def known_items(load: ColumnConnection) -> frozenset[str] | None:
    """Numbers of items in any catalogue; None where no catalogue was ever loaded, so that none could be asked."""
    return frozenset(str(row[0]) for row in rows(load, _ITEMS)) or None


def make_months(record: ColumnConnection, events: pa.Table, known: set[int]) -> None:
    """Make the partitions these events need and ``known`` does not hold yet, and commit."""
    seconds = np.unique(np.asarray(events.column("counts_at").cast(pa.int64())) // 1_000_000 // 3_600)
    months = np.unique((seconds * 3_600).astype("datetime64[s]").astype("datetime64[M]").astype(np.int64))
    for month in sorted(set(months.tolist()) - known):
        start = datetime(1970 + month // 12, month % 12 + 1, 1, tzinfo=UTC)
        rows(record, "SELECT usage_month($1::timestamptz)::text", (start.isoformat(),))
        record.commit()
        known.add(month)


def claim_keys(load: ColumnConnection, source_id: int, events: pa.Table, accounts: Accounts) -> LoadClaim:
    """Find a batch's accounts, and take the keys that were never used, each for the first event that has it.

    Args:
        events: of `billing.usage.values.SCHEMA`, sorted by key and line.
        accounts: those of earlier batches; this batch's are added.
    """
    events, strangers = _with_accounts(load, events, accounts)
    keys = events.column("key")
    is_first = np.ones(events.num_rows, np.bool_)
    is_first[1:] = ~flags(pc.equal(keys.slice(1), keys.slice(0, max(0, events.num_rows - 1))))
    is_new = is_first.copy()
    is_new[_used(load, source_id, keys, np.flatnonzero(is_first))] = False
    fresh, left = events, events.slice(0, 0)
    if not is_new.all():
        fresh, left = events.filter(pa.array(is_new)), events.filter(pa.array(~is_new))
    count = fresh.num_rows
    ids = np.asarray(columns(load, _IDS.format(count=count)).column(0)) if count else np.zeros(0, np.int64)
    order = np.lexsort([np.asarray(fresh.column(name).cast(pa.int64())) for name in ("line", "at", "account_id")])
    id_of_key = np.empty(count, np.int64)
    id_of_key[order] = ids
    taken = {
        "source_id": pa.repeat(pa.scalar(source_id, pa.int32()), count),
        "key": fresh.column("key"),
        "usage_id": pa.array(id_of_key),
        "counts_at": fresh.column("counts_at"),
    }
    ingest(load, "usage_keys", pa.table(taken))
    return LoadClaim(fresh.take(pa.array(order)).append_column("id", pa.array(ids)), left, strangers)


def _with_accounts(
    load: ColumnConnection, events: pa.Table, known: Accounts
) -> tuple[pa.Table, list[tuple[int, str, str]]]:
    """Events with the id of their account, and those of accounts that do not exist as (line, reason, detail)."""
    numbers = events.column("account").combine_chunks()
    places = pc.index_in(numbers, value_set=known.numbers)
    if places.null_count:
        ingest(load, "usage_numbers", pa.table({"number": numbers.filter(pc.is_null(places)).unique()}), temporary=True)
        found = columns(load, _ACCOUNTS)
        do(load, "TRUNCATE usage_numbers")
        known.numbers = pa.concat_arrays([known.numbers, found.column("number").combine_chunks()])
        known.ids = pa.concat_arrays([known.ids, found.column("id").combine_chunks()])
        places = pc.index_in(numbers, value_set=known.numbers)
    ids = known.ids.take(places)
    events = _marked(events.drop_columns(["account"]).append_column("account_id", ids), known.boundary.accounts)
    if not ids.null_count:
        return events, []
    unknown = pc.is_null(ids)
    lines, names = events.column("line").filter(unknown).to_pylist(), numbers.filter(unknown).to_pylist()
    strangers = [
        (line, "unknown_account", f"there is no account {name!r}") for line, name in zip(lines, names, strict=True)
    ]
    return events.filter(pc.invert(unknown)), strangers


def _marked(events: pa.Table, closed: pa.Table | None) -> pa.Table:
    """The events, those of accounts whose usage is closed further counting from there on."""
    if closed is None:
        return events
    places = pc.index_in(events.column("account_id"), value_set=closed.column("account_id").combine_chunks())
    from_there = closed.column("open_from").combine_chunks().take(places.combine_chunks())
    counts_at = events.column("counts_at").combine_chunks()
    is_closed = pc.fill_null(pc.less(counts_at, from_there.cast(counts_at.type)), False)
    counts_at = pc.if_else(is_closed, from_there.cast(counts_at.type), counts_at)
    return events.set_column(events.schema.get_field_index("counts_at"), "counts_at", counts_at)


def _used(load: ColumnConnection, source_id: int, keys: pa.ChunkedArray, places: Ints) -> Ints:
    """Those of these places in ``keys`` whose key was used by an earlier batch or import."""
    if len(places) < len(keys):
        keys = keys.take(pa.array(places))
    if not len(keys):
        return places
    with _by_index(load):
        is_any = rows(load, _USED_BETWEEN, (source_id, keys[0].as_py(), keys[-1].as_py()))[0][0]
    if not is_any:
        return places[:0]
    ingest(load, "usage_asked", pa.table({"key": keys, "place": pa.array(places)}), temporary=True)
    with _by_index(load):
        found = columns(load, _USED.format(source_id=int(source_id)))
    do(load, "TRUNCATE usage_asked")
    return np.asarray(found.column("place"))


def append_events(load: ColumnConnection, import_id: int, claimed: LoadClaim) -> None:
    """Store the events whose keys were taken, by account and time."""
    events = claimed.fresh.drop_columns(["key"])
    events = events.append_column("import_id", pa.repeat(pa.scalar(import_id, pa.int64()), events.num_rows))
    ingest(load, "usage_events", events)


def judge_left(
    load: ColumnConnection, source_id: int, claimed: LoadClaim
) -> tuple[LoadCounts, list[tuple[int, str, str]]]:
    """The outcome of a batch, after its events were appended.

    Returns:
        Counts, and (line, reason, detail) of the events that are rejected. An event whose key was used with the same
        contents is a repeat.
    """
    refused = list(claimed.strangers)
    if claimed.left.num_rows:
        ingest(load, "usage_left", claimed.left.drop_columns(["counts_at"]), temporary=True)
        with _by_index(load):
            found = rows(load, _CONFLICTS, (source_id,))
        do(load, "TRUNCATE usage_left")
        said = "the key was used with other contents by line {} of import {}"
        refused += [(line, "key_conflict", said.format(first, import_)) for line, import_, first in found]
    accepted = claimed.fresh.num_rows
    late = int(pc.sum(pc.greater(claimed.fresh.column("counts_at"), claimed.fresh.column("at"))).as_py() or 0)
    lines = accepted + claimed.left.num_rows + len(claimed.strangers)
    return LoadCounts(lines, accepted, lines - accepted - len(refused), len(refused), late), refused


@contextmanager
def _by_index(load: ColumnConnection) -> Iterator[None]:
    """For statements inside. After one that failed nothing is set back: the transaction is over."""
    for statement in _BY_INDEX:
        do(load, statement)
    yield
    for statement in _AS_PLANNED:
        do(load, statement)


def store_rejects(load: ColumnConnection, import_id: int, rejects: Iterable[Reject]) -> int:
    """Keep rejected lines; returns how many."""
    kept = list(rejects)
    if not kept:
        return 0
    values = [
        [import_id] * len(kept),
        [reject.line for reject in kept],
        [reject.reason for reject in kept],
        [reject.detail.replace("\0", "?")[:1_000] for reject in kept],
        [reject.raw.data for reject in kept],
        [reject.raw.cut for reject in kept],
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(values, _REJECTS, strict=True)]
    ingest(load, "usage_rejects", pa.Table.from_arrays(arrays, schema=_REJECTS))
    return len(kept)


def finish_import(load: ColumnConnection, import_id: int, sha256: str, header: str, counts: LoadCounts) -> None:
    """Write down the outcome of the import, and commit it with everything that was loaded."""
    values = (counts.lines, counts.accepted, counts.repeated, counts.rejected, counts.late)
    do(load, _DONE, (import_id, sha256, header, *values))
    load.commit()


def rejects_to_refeed(record: ColumnConnection, import_id: int, limit: int) -> list[tuple[int, bytes]]:
    """Open rejects of an import that can be fed again as they are: (id, line). A line that was cut cannot."""
    return [(int(id_), bytes(raw)) for id_, raw in rows(record, _REJECTS_TO_REFEED, (import_id, limit))]


def claim_rejects(load: ColumnConnection, import_id: int, refeed_id: int, actor: str, ids: Sequence[int]) -> None:
    """Mark rejects as fed again by import ``refeed_id``.

    Raises:
        ImportStoreError: one of them is not an open reject of this import.
    """
    found = rows(load, _CLAIM_REJECTS, (import_id, refeed_id, actor, int_array(ids)))
    claimed = int(found[0][0])
    if claimed != len(set(ids)):
        raise ImportStoreError(f"{len(set(ids)) - claimed} of these lines are no open rejects of import {import_id}")
