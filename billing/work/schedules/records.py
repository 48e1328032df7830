"""Schedules as records: what a person sets, how it stands, a decision about an instant, and the words of both.

Does not know: rows of the database (store), which decision is right (decide).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from billing.refusals import Refusal

NAME_PATTERN: Final = r"[a-z][a-z0-9-]{0,47}"
NOTE_CHARS: Final = 500
#: A decision names that many skipped instants one by one; older ones it counts in one row.
MAX_NAMED: Final = 100
#: Runs of one schedule that may wait for the one before them; what comes then is skipped.
MAX_QUEUED: Final = 100
LATE_AFTER_S: Final = 600
MIN_LATE_AFTER_S: Final = 60
MAX_LATE_AFTER_S: Final = 86_400
MISSED_MAX: Final = 7


class ScheduleError(Refusal):
    """What was asked of a schedule cannot be; nothing was changed."""

    default_code = "schedule_refused"


class Missed(StrEnum):
    """What becomes of planned instants at which nobody was there to decide."""

    SKIP = "skip"  # none of them runs
    ONCE = "once"  # one run stands for all
    EACH = "each"  # the newest so many run, one after another


class Overlap(StrEnum):
    """What becomes of an instant while an earlier run of the schedule is not over."""

    SKIP = "skip"
    QUEUE = "queue"


class ScheduleState(StrEnum):
    """How a schedule stands."""

    ON = "on"
    PAUSED = "paused"
    REMOVED = "removed"


class RunReason(StrEnum):
    """Why an instant was decided as it was."""

    DUE = "due"  # it ran at its time
    CAUGHT_UP = "caught_up"  # it ran late, by the rule for missed ones
    ASKED = "asked"  # a person asked for a run now, or skipped this one
    MISSED = "missed"  # skipped: nobody was there in time
    MERGED = "merged"  # skipped: one later run stands for it
    TOO_MANY = "too_many"  # skipped: older than those that run each
    OVERLAP = "overlap"  # skipped: an earlier run was not over
    QUEUE_FULL = "queue_full"  # skipped: as many waited already


#: Skips that the rules decided: taken back where the clock turns out to have been ahead of their instants.
SKIPS_BY_RULE: Final = (
    RunReason.MISSED, RunReason.MERGED, RunReason.TOO_MANY, RunReason.OVERLAP, RunReason.QUEUE_FULL
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ScheduleTerms:
    """What a person sets. rule: a canonical line of `rules`. stops_after: no run after this instant.

    arguments: of the job; texts in them may name the planned instant (`arguments`). missed_max: of Missed.EACH.
    late_after_s: an instant decided later than that was missed.
    """

    kind: str
    rule: str
    zone: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    clock_change: str = "once"
    missed: Missed = Missed.ONCE
    missed_max: int = MISSED_MAX
    late_after_s: int = LATE_AFTER_S
    overlap: Overlap = Overlap.SKIP
    stops_after: datetime | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as it stands. decided_until_s, next_s: UTC seconds; next_s None: nothing is planned.

    problem: why it decides nothing until a person changes or resumes it; empty while all is well.
    """

    id: int
    name: str
    terms: ScheduleTerms
    state: ScheduleState
    decided_until_s: int
    next_s: int | None
    problem: str
    state_reason: str
    version: int
    created_at: datetime
    changed_at: datetime
    changed_by: str

    def is_late(self, now_s: int) -> bool:
        """Whether an instant is planned that should have been decided."""
        is_due = self.next_s is not None and now_s - self.next_s > self.terms.late_after_s
        return self.state is ScheduleState.ON and is_due


@dataclass(frozen=True, slots=True)
class RunDecision:
    """What becomes of a planned instant (UTC seconds). decision: "run", "queued" or "skipped".

    stands_for: instants that it decides; of several it is at the first.
    """

    planned_s: int
    decision: str
    reason: RunReason
    stands_for: int = 1


@dataclass(frozen=True, slots=True)
class ScheduleRun:
    """A decision as it is kept, and how its job ended.

    result: "done", "failed", "cancelled", "lost" (its job is gone without a word), or None while it is not over.
    job_state: of the job while it is kept.
    """

    id: int
    schedule_id: int
    planned_at: datetime
    origin: str
    decision: str
    reason: RunReason
    stands_for: int
    job_id: int | None
    decided_at: datetime
    decided_by: str
    note: str
    result: str | None
    job_state: str | None
    started_at: datetime | None
    finished_at: datetime | None
    message: str

    @property
    def outcome(self) -> str:
        """In one word: done, failed, cancelled, lost, running, waiting, or skipped."""
        if self.decision != "run":
            return "skipped" if self.decision == "skipped" else "waiting"
        return self.result or ("running" if self.job_state == "running" else "waiting")

    @property
    def duration_s(self) -> float | None:
        """Seconds from the job's beginning to its end; None while it is not over."""
        if self.started_at is None or self.finished_at is None:
            return None
        return max(0.0, (self.finished_at - self.started_at).total_seconds())
