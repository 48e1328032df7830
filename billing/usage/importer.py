"""Import a usage file: mediation on one side, the store on the other, one record of what came of it.

Rules. One transaction a file: all of its good lines or none. That was chosen over a commit a block because nobody has
to reason about half a file: a kill, a full disk or a wrong format leaves nothing, and the same command again is the
resumption, for keys make it act once. The price is that a file of tens of millions of lines is one long transaction,
which holds back vacuum while it runs: split such files.

The record of the import is committed before the first line and outlives a failure. More bad lines than the format's
``max_rejects_percent`` mean that the wrong format was named: the import fails, nothing is kept.

Reading and storing overlap: the next batch is read and sorted by a second thread while the database takes this one.

Does not know: the command line, where files come from.
"""

import hashlib
import io
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import IO, Final, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from billing.database.adbc import import_connection
from billing.database.cursors import ColumnConnection
from billing.files.format import Format
from billing.files.lines import BLOCK_BYTES, Reject, UsageFileError
from billing.usage.catalogues_store import ratable_now
from billing.usage.load_store import (
    Accounts,
    Boundary,
    LoadCounts,
    NewImport,
    append_events,
    begin_import,
    begin_load,
    claim_keys,
    claim_rejects,
    fail_import,
    finish_import,
    judge_left,
    known_items,
    lock_source,
    make_months,
    rejects_to_refeed,
    same_file,
    store_rejects,
)
from billing.usage.mediation import Mediated, mediate
from billing.usage.values import Known

MAX_REFEED: Final = 200_000
#: What is stored at once: many enough that neighbouring keys and accounts meet in one batch, few enough for memory.
BATCH_ROWS: Final = 1_000_000
BATCH_BYTES: Final = 96 << 20
_HASH_BYTES: Final = 1 << 20
#: Lines a file may have before its share of rejects is judged: a short file may well be all wrong.
_SHARE_FROM_LINES: Final = 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stages:
    """Where the time went, in seconds. read_s is a second thread's and passes beside the others, which follow in turn.

    waited_s: for the reader. keys_s: finding accounts, looking keys up, taking them. events_s: storing events and
    rejects. commit_s: the record and the commit.
    """

    read_s: float = 0.0
    waited_s: float = 0.0
    keys_s: float = 0.0
    events_s: float = 0.0
    commit_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ImportResult:
    """import_id: the record's. same_as: the import that had this very file before, so that nothing was done."""

    import_id: int
    counts: LoadCounts
    same_as: int | None = None
    stages: Stages = field(default=Stages(), compare=False)


@dataclass(frozen=True, slots=True)
class Refeed:
    """Lines of rejects, corrected or as they were. ids: of the rejects, one a line."""

    import_id: int
    ids: tuple[int, ...]


def import_file(
    dsn: str,
    source: IO[bytes],
    made: Format,
    new: NewImport,
    *,
    again: bool = False,
    refeed: Refeed | None = None,
    progress: Callable[[int, LoadCounts], None] = lambda _bytes, _counts: None,
    block_bytes: int = BLOCK_BYTES,
    batch_rows: int = BATCH_ROWS,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> ImportResult:
    """Import a file; a file of a source that was imported before is left alone unless ``again``.

    Args:
        progress: told the bytes read and the counts so far, after every batch.

    Raises:
        UsageFileError: the file as a whole is wrong. ImportStoreError: the database refused. Nothing is kept of it then
            but the import's record.
    """
    with import_connection(dsn) as record:
        source_id = lock_source(record, new.source)
        sha256 = _sha256(source) if source.seekable() and refeed is None else ""
        earlier = same_file(record, source_id, sha256) if sha256 and not again else None
        if earlier is not None:
            return ImportResult(earlier, LoadCounts(), same_as=earlier)
        import_id = begin_import(record, source_id, new)
        try:
            with import_connection(dsn) as load:
                boundary = begin_load(load)
                if refeed is not None:
                    claim_rejects(load, refeed.import_id, import_id, new.actor, refeed.ids)
                seen_s = boundary.seen_from_s
                known = Known(
                    int(now().timestamp()), boundary.open_from_s, known_items(load), seen_s, ratable_now(load)
                )
                blocks = mediate(source, made, new.late, known, block_bytes)
                run = _Run(record, load, source_id, import_id, progress, boundary)
                counts, header, stages = _load_batches(run, batches(blocks, batch_rows))
                _judge_share(counts, made)
                begun = time.monotonic()
                finish_import(load, import_id, sha256, header, counts)
                stages = replace(stages, commit_s=time.monotonic() - begun)
        except BaseException as error:
            _write_failure(record, import_id, error)
            raise
        return ImportResult(import_id, counts, stages=stages)


@dataclass(frozen=True, slots=True)
class _Run:
    record: ColumnConnection
    load: ColumnConnection
    source_id: int
    import_id: int
    progress: Callable[[int, LoadCounts], None]
    boundary: Boundary


@dataclass(frozen=True, slots=True)
class Batch:
    """Blocks that are stored together. events: theirs, sorted by key and line; read_s: what reading them took."""

    parts: tuple[Mediated, ...]
    events: pa.Table
    read_s: float

    @property
    def header(self) -> str:
        return next((part.block.header for part in self.parts if part.block.header), "")

    def rejects(self) -> list[Reject]:
        return [reject for part in self.parts for reject in part.rejects]

    def as_rejects(self, refused: list[tuple[int, str, str]]) -> list[Reject]:
        """(line, reason, detail) of events of this batch, with their lines as they came."""
        parts = [part for part in self.parts if part.events.num_rows]
        starts = [part.events.column("line")[0].as_py() for part in parts]
        return [
            Reject(line, reason, detail, parts[bisect_right(starts, line) - 1].block.raw(line))
            for line, reason, detail in refused
        ]


def batches(mediated: Iterator[Mediated], rows: int = BATCH_ROWS) -> Iterator[Batch]:
    """Blocks joined until there are ``rows`` lines or BATCH_BYTES of them."""
    parts: list[Mediated] = []
    lines, first_byte, begun = 0, 0, time.monotonic()
    for part in mediated:
        parts.append(part)
        lines += part.lines
        if lines >= rows or part.block.read_bytes - first_byte >= BATCH_BYTES:
            first_byte = part.block.read_bytes
            yield _batch(parts, begun)
            parts, lines, begun = [], 0, time.monotonic()
    if parts:
        yield _batch(parts, begun)


def _batch(parts: list[Mediated], begun: float) -> Batch:
    joined = pa.concat_tables([part.events for part in parts]).combine_chunks()
    order = pc.sort_indices(joined.column("key").combine_chunks())  # stable, and by bytes, as COLLATE "C" does
    kept = tuple(replace(part, events=part.events.select(["line"])) for part in parts)
    return Batch(kept, joined.take(order), time.monotonic() - begun)


def _load_batches(run: _Run, coming: Iterator[Batch]) -> tuple[LoadCounts, str, Stages]:
    counts, header, spent = LoadCounts(), "", Stages()
    months, accounts = set[int](), Accounts(boundary=run.boundary)
    if run.boundary.accounts is not None:
        make_months(run.record, run.boundary.accounts.rename_columns(["account_id", "counts_at"]), months)
    asked = time.monotonic()
    for batch in _read_ahead(coming):
        begun = time.monotonic()
        header = batch.header or header
        make_months(run.record, batch.events, months)
        claimed = claim_keys(run.load, run.source_id, batch.events, accounts)
        taken = time.monotonic()
        append_events(run.load, run.import_id, claimed)
        stored, refused = judge_left(run.load, run.source_id, claimed)
        rejects = batch.rejects()
        store_rejects(run.load, run.import_id, [*rejects, *batch.as_rejects(refused)])
        counts = counts.plus(stored).plus(LoadCounts(lines=len(rejects), rejected=len(rejects)))
        run.progress(batch.parts[-1].block.read_bytes, counts)
        done = time.monotonic()
        spent = Stages(
            spent.read_s + batch.read_s,
            spent.waited_s + begun - asked,
            spent.keys_s + taken - begun,
            spent.events_s + done - taken,
        )
        asked = done
    return counts, header, spent


def _read_ahead(parts: Iterator[T]) -> Iterator[T]:
    """The same values, with the next one being made while the caller uses this one."""
    with ThreadPoolExecutor(1, "usage-reader") as pool:
        coming = pool.submit(next, parts, None)
        while (part := coming.result()) is not None:
            coming = pool.submit(next, parts, None)
            yield part


def _judge_share(counts: LoadCounts, made: Format) -> None:
    if counts.lines >= _SHARE_FROM_LINES and counts.rejected * 100 > made.max_rejects_percent * counts.lines:
        raise UsageFileError(
            f"{counts.rejected} of {counts.lines} lines would be rejected, more than max_rejects_percent = "
            f"{made.max_rejects_percent}: is this the right format?"
        )


def _write_failure(record: ColumnConnection, import_id: int, error: BaseException) -> None:
    """Best effort: the database that failed the import may refuse this too, and the import's lock tells it then."""
    try:
        fail_import(record, import_id, str(error) or type(error).__name__)
    except Exception as again:  # noqa: BLE001 - the first error is the one to tell
        error.add_note(f"and its record could not be updated: {again}")


def _sha256(source: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while data := source.read(_HASH_BYTES):
        digest.update(data)
    source.seek(0)
    return digest.hexdigest()


def refeed_as_they_are(dsn: str, import_id: int, made: Format, header: str, new: NewImport) -> ImportResult | None:
    """Feed the open rejects of an import again as they were kept, at most MAX_REFEED; None where there are none.

    Rejects whose line was cut are left for a person: half a line may look like a whole one.

    Raises:
        as ``import_file``.
    """
    with import_connection(dsn) as record:
        rejects = rejects_to_refeed(record, import_id, MAX_REFEED)
    if not rejects:
        return None
    lines = b"".join(raw + b"\n" for _, raw in rejects)
    refeed = Refeed(import_id, tuple(id_ for id_, _ in rejects))
    return refeed_lines(dsn, refeed, lines, made, header, new)


def refeed_lines(dsn: str, refeed: Refeed, lines: bytes, made: Format, header: str, new: NewImport) -> ImportResult:
    """Feed corrected lines of rejects. The rejects are done with; a line that is wrong again is a new reject.

    Raises:
        as ``import_file``; ImportStoreError also where one of the ids is no open reject of the import.
    """
    begun = (header.encode(made.charset) + b"\n") if made.has_header else b""
    as_fed = msgspec.structs.replace(made, skip_lines=0, skip_prefix="", last_line_ends=False, max_rejects_percent=100)
    return import_file(dsn, io.BytesIO(begun + lines), as_fed, new, refeed=refeed)


def read_corrected(data: bytes) -> tuple[tuple[int, ...], bytes]:
    """A file of corrected rejects, each line ``id|line`` as exported, to (ids, lines).

    Raises:
        UsageFileError: naming the line that does not begin so, or repeats an id.
    """
    ids: dict[int, None] = {}
    lines: list[bytes] = []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if not line.strip() or line.startswith(b"#|"):
            continue
        head, bar, rest = line.partition(b"|")
        if not bar or not head.isdigit() or len(head) > 18:
            raise UsageFileError(f"line {number} does not begin with the number of a reject and a bar, as exported")
        if int(head) in ids:
            raise UsageFileError(f"line {number}: reject {int(head)} stands here twice")
        ids[int(head)] = None
        lines.append(rest.removesuffix(b"\r") + b"\n")
    if not ids:
        raise UsageFileError("no rejects in the file")
    return tuple(ids), b"".join(lines)
