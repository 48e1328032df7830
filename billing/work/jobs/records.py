"""Jobs as records: a job, its log, its rows, its files; how an attempt ended and what follows.

Does not know: rows of the database (store), what follows from what (rules).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal

from billing.refusals import Refusal

#: Bytes of a part of a file in the database.
FILE_PART_BYTES: Final = 256 * 1024
#: Bytes of one file.
FILE_MAX_BYTES: Final = 4 << 30
FILES_MAX: Final = 100
#: Lines kept of a job: the newest.
LOG_LINES_MAX: Final = 1_000
LOG_LINE_CHARS: Final = 1_000
#: Objects that one mass action tells of.
ROWS_MAX: Final = 1_000_000
ARGUMENTS_MAX_BYTES: Final = 64 * 1024
RESULT_MAX_BYTES: Final = 64 * 1024
MESSAGE_CHARS: Final = 2_000
DOING_CHARS: Final = 200
KEY_CHARS: Final = 200


class JobError(Refusal):
    """What was asked of a job cannot be; nothing was changed."""

    default_code = "job_refused"


class JobState(StrEnum):
    """How a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens to it by itself."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


#: Why a job failed. refused: what was asked cannot be. error: it was tried as often as its kind says. silent: it said
#: nothing for too long and was ended. interrupted: its process was lost, and only a person may begin it again.
Failure = Literal["", "refused", "error", "silent", "interrupted"]

#: What became of one object of a mass action.
RowOutcome = Literal["done", "skipped", "refused", "failed"]

FilePurpose = Literal["input", "result"]


@dataclass(frozen=True, slots=True)
class Job:
    """A row of `jobs`. done, total: of the units its work counts in; total None: not known. saved: where the next
    attempt goes on. result: a summary for programs. due_at of a queued job: when it may begin."""

    id: int
    kind: str
    key: str | None
    arguments: Mapping[str, Any]
    queue: str
    priority: int
    asked_by: str
    asked_at: datetime
    due_at: datetime
    state: JobState
    attempt: int
    errors: int
    interruptions: int
    worker: str
    beat_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    cancel_by: str
    cancel_at: datetime | None
    done: int
    total: int | None
    doing: str
    failure: Failure
    message: str
    saved: Mapping[str, Any] | None
    result: Mapping[str, Any] | None
    lease_s: int
    beat: int

    @property
    def can_be_cancelled(self) -> bool:
        """Whether `cancel` would change anything."""
        return not self.state.is_over and self.cancel_at is None

    @property
    def can_be_retried(self) -> bool:
        """Whether a person may begin it again."""
        return self.state in (JobState.FAILED, JobState.CANCELLED)

    @property
    def share(self) -> float | None:
        """How much is done, 0 to 1; None where the total is not known."""
        if self.state is JobState.DONE:
            return 1.0
        return min(1.0, self.done / self.total) if self.total else None


@dataclass(frozen=True, slots=True)
class LogLine:
    """event: what the machinery did (`EVENTS`), with ``line`` as its detail; empty: the work's own words."""

    id: int
    attempt: int
    at: datetime
    event: str
    line: str


@dataclass(frozen=True, slots=True)
class NewRow:
    """What became of an object: ref names it to programs, label to people."""

    ref: str
    outcome: RowOutcome
    detail: str = ""
    label: str = ""


@dataclass(frozen=True, slots=True)
class JobRow:
    """A row of `job_rows`; no: its place in the order in which objects were first told of."""

    no: int
    ref: str
    label: str
    outcome: RowOutcome
    detail: str
    at: datetime


@dataclass(frozen=True, slots=True)
class JobFile:
    """A row of `job_files`. dropped_at: its content is gone; expires_at: when it will be."""

    id: int
    job_id: int
    purpose: FilePurpose
    name: str
    media_type: str
    size_bytes: int
    created_at: datetime
    expires_at: datetime | None
    dropped_at: datetime | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an attempt is."""

    done: int = 0
    total: int | None = None
    doing: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended.

    how: done, cancelled (its work stopped because it was asked to), refused, error, silent, interrupted.
    """

    how: Literal["done", "cancelled", "refused", "error", "silent", "interrupted"]
    message: str = ""
    result: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Next:
    """What follows an attempt: the job's state, and when it is queued again, after how many seconds.

    errors, interruptions: the job's counts afterwards.
    """

    state: JobState
    wait_s: int = 0
    failure: Failure = ""
    errors: int = 0
    interruptions: int = 0


#: What the machinery writes into a job's log.
EVENTS: Final = (
    "began", "done", "failed", "again", "cancel_asked", "cancelled", "given_back", "by_hand",
)  # fmt: skip
