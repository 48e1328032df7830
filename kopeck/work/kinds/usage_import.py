"""usage.import: a file of usage that came with the job; the work of `kopeck usage import`.

Rules. All good lines of a file or none, each once by its key; so another attempt imports the file anew, or finds that
it was imported.

Does not know: where the file came from, what a line means (billing.usage).
"""

import contextlib
import gzip
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import IO, Any

from billing.files.lines import UnreadableFile
from billing.usage.format import parse_format
from billing.usage.importer import import_file
from billing.usage.load_store import LoadCounts, NewImport
from kopeck.work.context import ChildContext


def import_usage(context: ChildContext) -> Mapping[str, Any]:
    """Import the file. arguments: file (its name), format (name), format_text, late (accept or reject), again."""
    given = context.arguments
    made = parse_format(given["format_text"], f"{given['format']}.toml")
    late = given.get("late") or made.late
    new = NewImport(made.source, given["format"], given["format_text"], given["file"], late, context.asked_by)
    with context.input_file() as file, unpacked(file, given["file"]) as source:
        total = None if source is not file else _size_of(file)

        def progress(read_bytes: int, _counts: LoadCounts) -> None:
            context.check_cancelled()
            context.progress(read_bytes, total, "bytes")

        outcome = import_file(context.dsn, source, made, new, again=bool(given.get("again")), progress=progress)
    counts = asdict(outcome.counts)
    result = {"import": outcome.import_id, "same_as": outcome.same_as, **counts}
    return result | ({"attention": "rejected"} if outcome.counts.rejected else {})


@contextlib.contextmanager
def unpacked(file: IO[bytes], name: str) -> Iterator[IO[bytes]]:
    """The file's contents, unpacked where its name ends in .gz; a packed file that is broken is told as a sentence.

    Raises:
        UnreadableFile: it is broken.
    """
    if not name.endswith(".gz"):
        yield file
        return
    try:
        with gzip.open(file) as content:
            yield content  # type: ignore[misc]
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UnreadableFile(f"the packed file is broken: {error}") from error


def _size_of(file: IO[bytes]) -> int:
    size = file.seek(0, 2)
    file.seek(0)
    return size
