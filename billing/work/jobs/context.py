"""What the work of a job is handed: how it tells what it does, and how it hears that it shall stop.

A work function takes one of these and returns a summary: a mapping of JSON values, or None. It may be ``async``. What
it raises ends the attempt: `Refusal` for what cannot be (its sentence is shown), `Unavailable` for what is away,
JobCancelled from `check_cancelled`; anything else is a mistake of ours and is told as one.

    def export_customers(context: JobContext) -> Mapping[str, Any]:
        with context.file("customers.csv", "text/csv") as file:
            for count, line in enumerate(lines(context.dsn, context.arguments), 1):
                file.write(line)
                context.progress(count, doing="customers")
                context.check_cancelled()
        return {"rows": count}

Does not know: processes, how what is told reaches the database (kopeck.work).
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractContextManager
from typing import IO, Any, Protocol, TypeVar

from billing.database.cursors import Cursor
from billing.work.jobs.records import RowOutcome

T = TypeVar("T")


class JobCancelled(Exception):
    """The work stops because it was asked to."""


class JobContext(Protocol):
    """The job an attempt is at. Methods are quick, and may be called from any thread of the process."""

    job_id: int
    attempt: int
    kind: str
    asked_by: str
    arguments: Mapping[str, Any]
    #: Databases, as settings name them.
    dsn: str
    journal_uri: str
    journal_database: str
    #: What an earlier attempt saved, or None.
    saved: Mapping[str, Any] | None

    def progress(self, done: int, total: int | None = None, doing: str = "") -> None:
        """Tell how far the work is, as often as it likes. total: None where it is not known. doing: a word or two."""

    def log(self, line: str) -> None:
        """Write a line into the job's log."""

    @property
    def is_cancelled(self) -> bool:
        """Whether the work should stop as soon as it can, leaving nothing half done."""
        ...

    def check_cancelled(self) -> None:
        """Raise JobCancelled if the work should stop."""

    def save(self, place: Mapping[str, Any]) -> None:
        """Keep where the next attempt goes on; it is in the database when this returns."""

    def row(self, ref: str, outcome: RowOutcome, detail: str = "", label: str = "") -> None:
        """Tell what became of an object. Where it must be as sure as the deed: `details_store.add_rows`."""

    def rows_done(self, refs: Collection[str]) -> set[str]:
        """Those of the objects that an earlier attempt did or passed over."""
        ...

    def file(self, name: str, media_type: str) -> AbstractContextManager[IO[bytes]]:
        """A file to write; it belongs to the job's results when the block ends well."""
        ...

    def input_file(self) -> IO[bytes]:
        """The file the job was given, from its beginning; the caller closes it. Refusal where there is none."""
        ...

    def in_transaction(self, work: Callable[[Cursor], Awaitable[T]]) -> T:
        """Run an async function of a cursor in one transaction of its own, and commit. Not inside async work."""
        ...
