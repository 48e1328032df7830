"""The context of a job on the side of its child process: `billing.work.jobs.JobContext`, over the worker's socket.

Rules. Progress is sent at most each PROGRESS_EVERY_S, rows in portions; what asks for an answer waits for it, which
holds the work back while the database is away. Methods may be called from any thread.

Does not know: what the worker does with what it is told.
"""

import contextlib
import json
import queue
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from typing import IO, Any, Final, TypeVar

from billing.database.cursors import Cursor
from billing.refusals import Refusal
from billing.work.jobs.context import JobCancelled
from billing.work.jobs.details_store import files_of, read_part, rows_done
from billing.work.jobs.records import DOING_CHARS, FILE_PART_BYTES, LOG_LINE_CHARS, JobError, RowOutcome
from kopeck.databases.transactions import in_transaction
from kopeck.settings import Settings
from kopeck.work import frames

T = TypeVar("T")

PROGRESS_EVERY_S: Final = 0.25
#: Rows sent in one portion, and how long a row may wait for others.
ROWS_AT_ONCE: Final = 500
ROWS_EVERY_S: Final = 1.0
#: An input up to this size is read into memory, a larger one into a temporary file.
_INPUT_MEMORY_BYTES: Final = 8 << 20

Send = Callable[[frames.ToWorker], None]


class ChildContext:
    """One attempt at one job."""

    def __init__(self, run: frames.Run, setup: frames.Setup, send: Send) -> None:
        self.job_id = run.job_id
        self.attempt = run.attempt
        self.kind = run.kind
        self.asked_by = run.asked_by
        self.arguments: Mapping[str, Any] = json.loads(run.arguments)
        self.saved: Mapping[str, Any] | None = json.loads(run.saved) if run.saved else None
        self.dsn = setup.stores.dsn
        self.journal_uri = setup.stores.journal_uri
        self.journal_database = setup.stores.journal_database
        #: For work of the command's own room.
        self.settings: Settings = setup.settings
        self._send = send
        self._stopping = threading.Event()
        self._answers: queue.SimpleQueue[frames.Answer] = queue.SimpleQueue()
        self._asking = threading.Lock()
        self._told: frames.Told | None = None
        self._told_at = float("-inf")
        self._rows: list[frames.Row] = []
        self._rows_at = 0.0
        self._rows_lock = threading.Lock()

    def progress(self, done: int, total: int | None = None, doing: str = "") -> None:
        """See `billing.work.jobs.JobContext`."""
        self._told = frames.Told(max(0, done), total, _plain(doing, DOING_CHARS))
        if time.monotonic() - self._told_at >= PROGRESS_EVERY_S:
            self.flush_progress()

    def log(self, line: str) -> None:
        """See `billing.work.jobs.JobContext`."""
        self._send(frames.Said([_plain(part, LOG_LINE_CHARS) for part in line.splitlines() or [""]][:100]))

    @property
    def is_cancelled(self) -> bool:
        """See `billing.work.jobs.JobContext`."""
        return self._stopping.is_set()

    def check_cancelled(self) -> None:
        """See `billing.work.jobs.JobContext`."""
        if self._stopping.is_set():
            raise JobCancelled

    def save(self, place: Mapping[str, Any]) -> None:
        """See `billing.work.jobs.JobContext`."""
        self._ask(frames.Save(json.dumps(place, allow_nan=False)))
        self.saved = place

    def row(self, ref: str, outcome: RowOutcome, detail: str = "", label: str = "") -> None:
        """See `billing.work.jobs.JobContext`."""
        with self._rows_lock:
            if not self._rows:
                self._rows_at = time.monotonic()
            self._rows.append(frames.Row(ref, outcome, _plain(detail, 1_000), _plain(label, 300)))
            if len(self._rows) >= ROWS_AT_ONCE or time.monotonic() - self._rows_at >= ROWS_EVERY_S:
                self._flush_rows()

    def rows_done(self, refs: Collection[str]) -> set[str]:
        """See `billing.work.jobs.JobContext`."""
        with self._rows_lock:
            self._flush_rows()
        return self.in_transaction(lambda cur: rows_done(cur, self.job_id, refs))

    @contextlib.contextmanager
    def file(self, name: str, media_type: str) -> Iterator[IO[bytes]]:
        """See `billing.work.jobs.JobContext`."""
        file_id = self._ask(frames.BeginFile(name, media_type))
        parts = _Parts(lambda no, content: self._ask(frames.FilePart(file_id, no, content)))
        yield parts  # type: ignore[misc]  # as much of IO[bytes] as a writer needs
        parts.finish()
        self._ask(frames.EndFile(file_id))

    def input_file(self) -> IO[bytes]:
        """See `billing.work.jobs.JobContext`."""
        spool: Any = tempfile.SpooledTemporaryFile(max_size=_INPUT_MEMORY_BYTES)  # noqa: SIM115 - the caller closes it

        async def read(cur: Cursor) -> None:
            given = [file for file in await files_of(cur, self.job_id) if file.purpose == "input"]
            if not given or given[0].dropped_at is not None:
                raise JobError(f"job {self.job_id} has no file any more", code="job_input")
            no = 0
            while (part := await read_part(cur, given[0].id, no)) is not None:
                spool.write(part)
                no += 1

        try:
            self.in_transaction(read)
        except BaseException:
            spool.close()
            raise
        spool.seek(0)
        file: IO[bytes] = spool
        return file

    def in_transaction(self, work: Callable[[Cursor], Awaitable[T]]) -> T:
        """See `billing.work.jobs.JobContext`."""
        return in_transaction(self.dsn, work)

    # -- for the process ---------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """The worker asks the work to stop."""
        self._stopping.set()

    def answered(self, answer: frames.Answer) -> None:
        """The worker's answer to what was asked last."""
        self._answers.put(answer)

    def flush(self) -> None:
        """Send what was held back."""
        self.flush_progress()
        with self._rows_lock:
            self._flush_rows()

    def flush_progress(self) -> None:
        """Send how far the work is."""
        told, self._told = self._told, None
        if told is not None:
            self._told_at = time.monotonic()
            self._send(told)

    def _flush_rows(self) -> None:
        rows, self._rows = self._rows, []
        if rows:
            self._ask(frames.Rows(rows))

    def _ask(self, frame: frames.ToWorker) -> int:
        with self._asking:
            self._send(frame)
            answer = self._answers.get()
        if answer.refused:
            raise Refusal(answer.refused)
        return answer.value


class _Parts:
    """A file to write that goes away in parts of one size. It cannot seek, which zipfile and csv do not need."""

    def __init__(self, put: Callable[[int, bytes], object]) -> None:
        self._put = put
        self._no = 0
        self._held = bytearray()
        self._position = 0

    def write(self, data: Any) -> int:
        """Add bytes."""
        self._held += data
        while len(self._held) >= FILE_PART_BYTES:
            self._put(self._no, bytes(self._held[:FILE_PART_BYTES]))
            del self._held[:FILE_PART_BYTES]
            self._no += 1
        size = memoryview(data).nbytes
        self._position += size
        return size

    def tell(self) -> int:
        """Bytes written so far."""
        return self._position

    def flush(self) -> None:
        """Nothing: parts go when they are full."""

    def finish(self) -> None:
        """Send the last part."""
        if self._held:
            self._put(self._no, bytes(self._held))
            self._held.clear()

    def close(self) -> None:
        """Nothing: the block's end completes the file."""

    def seekable(self) -> bool:
        """No."""
        return False

    def writable(self) -> bool:
        """Yes."""
        return True

    def readable(self) -> bool:
        """No."""
        return False

    @property
    def closed(self) -> bool:
        """Never, inside its block."""
        return False


def _plain(text: str, most: int) -> str:
    """What the database takes as text: no NUL, not too long, no half characters."""
    return text.replace("\0", "")[:most].encode("utf-8", "replace").decode()
