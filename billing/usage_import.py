"""Import a usage file: mediation on one side, the store on the other, one record of what came of it.

Rules. One transaction a file: all of its good lines or none. That was chosen over a commit a block because nobody has
to reason about half a file: a kill, a full disk or a wrong format leaves nothing, and the same command again is the
resumption, for keys make it act once. The price is that a file of tens of millions of lines is one long transaction,
which holds back vacuum while it runs: split such files.

The record of the import is committed before the first line and outlives a failure. More bad lines than the format's
``max_rejects_percent`` mean that the wrong format was named: the import fails, nothing is kept.

Reading and storing overlap: the next block is read by a second thread while the database takes this one.

Does not know: the command line, where files come from.
"""

import hashlib
import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any, Final, TypeVar

import msgspec

from billing.mediation import Mediated, mediate
from billing.usage_bulk import (
    Counts,
    NewImport,
    begin_import,
    begin_load,
    claim_rejects,
    connection,
    fail_import,
    finish_import,
    known_items,
    lock_source,
    make_months,
    rejects_to_refeed,
    same_file,
    store_events,
    store_rejects,
)
from billing.usage_format import Format
from billing.usage_lines import BLOCK_BYTES, Reject, UsageFileError
from billing.usage_values import Known

MAX_REFEED: Final = 200_000
_HASH_BYTES: Final = 1 << 20
#: Lines a file may have before its share of rejects is judged: a short file may well be all wrong.
_SHARE_FROM_LINES: Final = 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome:
    """import_id: the record's. same_as: the import that had this very file before, so that nothing was done."""

    import_id: int
    counts: Counts
    same_as: int | None = None


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
    progress: Callable[[int, Counts], None] = lambda _bytes, _counts: None,
    block_bytes: int = BLOCK_BYTES,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Outcome:
    """Import a file; a file of a source that was imported before is left alone unless ``again``.

    Args:
        progress: told the bytes read and the counts so far, after every block.

    Raises:
        UsageFileError: the file as a whole is wrong. UsageStoreError: the database refused. Nothing is kept of it then
            but the import's record.
    """
    with connection(dsn) as record:
        source_id = lock_source(record, new.source)
        sha256 = _sha256(source) if source.seekable() and refeed is None else ""
        earlier = same_file(record, source_id, sha256) if sha256 and not again else None
        if earlier is not None:
            return Outcome(earlier, Counts(), same_as=earlier)
        import_id = begin_import(record, source_id, new)
        try:
            with connection(dsn) as load:
                open_from_s = begin_load(load)
                if refeed is not None:
                    claim_rejects(load, refeed.import_id, import_id, new.actor, refeed.ids)
                known = Known(int(now().timestamp()), open_from_s, known_items(load))
                blocks = mediate(source, made, new.late, known, block_bytes)
                run = _Run(record, load, source_id, import_id, progress)
                counts, header = _load_blocks(run, blocks)
                _judge_share(counts, made)
                finish_import(load, import_id, sha256, header, counts)
        except BaseException as error:
            _write_failure(record, import_id, error)
            raise
        return Outcome(import_id, counts)


@dataclass(frozen=True, slots=True)
class _Run:
    record: Any
    load: Any
    source_id: int
    import_id: int
    progress: Callable[[int, Counts], None]


def _load_blocks(run: _Run, blocks: Iterator[Mediated]) -> tuple[Counts, str]:
    counts, header, months = Counts(), "", set[int]()
    for part in _read_ahead(blocks):
        header = part.block.header or header
        make_months(run.record, part.events, months)
        stored, refused = store_events(run.load, run.source_id, run.import_id, part.events)
        found = [Reject(line, reason, detail, part.block.raw(line)) for line, reason, detail in refused]
        store_rejects(run.load, run.import_id, [*part.rejects, *found])
        counts = counts.plus(stored).plus(Counts(lines=len(part.rejects), rejected=len(part.rejects)))
        run.progress(part.block.read_bytes, counts)
    return counts, header


def _read_ahead(parts: Iterator[T]) -> Iterator[T]:
    """The same values, with the next one being made while the caller uses this one."""
    with ThreadPoolExecutor(1, "usage-reader") as pool:
        coming = pool.submit(next, parts, None)
        while (part := coming.result()) is not None:
            coming = pool.submit(next, parts, None)
            yield part


def _judge_share(counts: Counts, made: Format) -> None:
    if counts.lines >= _SHARE_FROM_LINES and counts.rejected * 100 > made.max_rejects_percent * counts.lines:
        raise UsageFileError(
            f"{counts.rejected} of {counts.lines} lines would be rejected, more than max_rejects_percent = "
            f"{made.max_rejects_percent}: is this the right format?"
        )


def _write_failure(record: Any, import_id: int, error: BaseException) -> None:
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


def refeed_as_they_are(dsn: str, import_id: int, made: Format, header: str, new: NewImport) -> Outcome | None:
    """Feed the open rejects of an import again as they were kept, at most MAX_REFEED; None where there are none.

    Rejects whose line was cut are left for a person: half a line may look like a whole one.

    Raises:
        as ``import_file``.
    """
    with connection(dsn) as record:
        rejects = rejects_to_refeed(record, import_id, MAX_REFEED)
    if not rejects:
        return None
    lines = b"".join(raw + b"\n" for _, raw in rejects)
    refeed = Refeed(import_id, tuple(id_ for id_, _ in rejects))
    return refeed_lines(dsn, refeed, lines, made, header, new)


def refeed_lines(dsn: str, refeed: Refeed, lines: bytes, made: Format, header: str, new: NewImport) -> Outcome:
    """Feed corrected lines of rejects. The rejects are done with; a line that is wrong again is a new reject.

    Raises:
        as ``import_file``; UsageStoreError also where one of the ids is no open reject of the import.
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
