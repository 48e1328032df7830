"""One attempt at one job, on the worker's side: from the claim to what follows it.

Rules.
 1. The job is ours while its row has our attempt. Each statement asks, so a worker that was paused, or cut off from the
    database, and whose job was taken over, finds out with the next one: it ends the child and writes nothing.
 2. A beat is raised each third of the lease. What the child asks is written in the order of asking and answered then;
    while the database is away the child waits.
 3. A cancel is passed on at the next beat (a notice brings it forward). Work that has not stopped after the grace of
    its kind is ended by force. Work that tells nothing for the time its kind allows is ended as silent.
 4. When the process drains, repeatable work is asked to stop and given back; other work may go on until `drain_until`.

Does not know: what follows an ending (billing.work.jobs.rules), how jobs are claimed.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import psycopg2
from prometheus_client import Counter, Histogram

from billing.database.cursors import Cursor
from billing.work.jobs import details_store as details
from billing.work.jobs.records import Ending, Job, JobError, JobState, NewRow, Next, Progress
from billing.work.jobs.rules import JobKind, next_of
from billing.work.jobs.store import beat, end_attempt, save_place
from kopeck.work import frames
from kopeck.work.child_process import ChildGone, ChildProcess
from kopeck.work.session import GaveUp, Session

T = TypeVar("T")

#: Progress is written at most so often, and at each beat.
PROGRESS_EVERY_S: Final = 1.0
#: Lines of the work after which old ones are deleted.
_TRIM_EVERY: Final = 100

ENDED = Counter("kopeck_jobs_attempts_total", "Attempts at jobs that ended", ["kind", "how"])
SECONDS = Histogram(
    "kopeck_jobs_attempt_seconds", "Time of an attempt", ["kind"], buckets=(0.1, 1, 10, 60, 600, 3_600, 36_000)
)

log = logging.getLogger(__name__)


class Lost(Exception):
    """The job was taken over by another process."""


@dataclass(slots=True)
class Draining:
    """Whether the process ends, and until when (monotonic) jobs may go on."""

    stop: asyncio.Event
    drain_until: float = float("inf")

    def may_go_on(self) -> bool:
        """Whether there is time left."""
        return time.monotonic() < self.drain_until


class Attempt:
    """The attempt that the job's row tells of."""

    def __init__(
        self, job: Job, kind: JobKind, child: ChildProcess, session: Session, draining: Draining, files_keep_days: int
    ) -> None:
        self.job = job
        self.child = child
        self._kind = kind
        self._session = session
        self._draining = draining
        self._files_keep_days = files_keep_days
        self._progress = Progress()
        self._written = Progress()
        self._lines = 0
        self._rss_bytes = 0
        self._beat_at = self._heard_at = time.monotonic()
        self._stop_asked_at: float | None = None
        self._is_nudged = False

    async def run(self) -> int | None:
        """Do it. Bytes that the child holds afterwards; None where it must not be used again."""
        begun = time.monotonic()
        try:
            ending = await self._to_the_end()
            try:
                following = await self._write(lambda cur: self._end(cur, ending))
            except psycopg2.Error as error:
                ending = self._mistake(error)
                following = await self._write(lambda cur: self._end(cur, ending))
        except Lost:
            log.warning("job_lost", extra={"job": self.job.id, "attempt": self.job.attempt})
            ENDED.labels(self.job.kind, "lost").inc()
            return None
        except GaveUp as error:
            log.warning("job_left", extra={"job": self.job.id, "attempt": self.job.attempt, "cause": str(error)})
            ENDED.labels(self.job.kind, "left").inc()
            return None
        SECONDS.labels(self.job.kind).observe(time.monotonic() - begun)
        ENDED.labels(self.job.kind, ending.how).inc()
        level = logging.INFO if following.state is not JobState.FAILED else logging.WARNING
        told = {"job": self.job.id, "kind": self.job.kind, "attempt": self.job.attempt, "how": ending.how}
        log.log(level, "job_ended", extra={**told, "state": following.state.value, "cause": ending.message})
        return self._rss_bytes if ending.how in ("done", "refused") else None

    async def _to_the_end(self) -> Ending:
        try:
            await self._write(self._begin)
            self.child.tell(_run_frame(self.job, self._kind))
            while True:
                due = await self._look_after()
                if due is not None:
                    return due
                frame = await self.child.hear(self._next_look_s())
                if isinstance(frame, frames.Ended):
                    self._rss_bytes = frame.rss_bytes
                    return Ending(frame.how, frame.message, json.loads(frame.result) if frame.result else None)
                if frame is not None:
                    self._heard_at = time.monotonic()
                    await self._serve(frame)
        except ChildGone as gone:
            return Ending("interrupted", str(gone))
        except psycopg2.Error as error:
            return self._mistake(error)

    def _mistake(self, error: psycopg2.Error) -> Ending:
        log.exception("job_write_refused", extra={"job": self.job.id})
        sentence = str(error).partition("\n")[0]
        return Ending("error", f"internal error, please report it: {type(error).__name__}: {sentence}")

    def _next_look_s(self) -> float:
        now = time.monotonic()
        waits = [self._beat_at + self._beat_every_s - now, self._heard_at + self._kind.silent_s - now]
        if self._progress != self._written:
            waits.append(self._beat_at + PROGRESS_EVERY_S - now)
        if self._stop_asked_at is not None:
            waits.append(self._stop_asked_at + self._kind.cancel_grace_s - now)
        if self._draining.stop.is_set():
            waits.append(self._draining.drain_until - now)
        return max(0.0, min(waits))

    @property
    def _beat_every_s(self) -> float:
        return max(0.1, self.job.lease_s / 3)

    async def _look_after(self) -> Ending | None:
        """Beat, pass on that the work shall stop, and say if it has to be ended by force."""
        now = time.monotonic()
        changed = self._progress != self._written and now - self._beat_at >= PROGRESS_EVERY_S
        if changed or now - self._beat_at >= self._beat_every_s or self._is_nudged:
            self._is_nudged = False
            await self._beat()
        if self._draining.stop.is_set() and self._kind.is_repeatable:
            self._ask_to_stop()
        if not self._draining.may_go_on():
            why = "the process that was at it had to end"
            return await self._forced(Ending("cancelled" if self._kind.is_repeatable else "interrupted", why))
        if self._stop_asked_at is not None and now - self._stop_asked_at >= self._kind.cancel_grace_s:
            return await self._forced(Ending("cancelled", f"ended by force after {self._kind.cancel_grace_s:g} s"))
        if now - self._heard_at >= self._kind.silent_s:
            return await self._forced(Ending("silent", f"told nothing for {self._kind.silent_s:g} s and was ended"))
        return None

    def nudge(self) -> None:
        """Something may have happened to the job: look at its row now."""
        self._is_nudged = True
        self.child.nudge()

    async def _forced(self, ending: Ending) -> Ending:
        await self.child.end()
        return ending

    def _ask_to_stop(self) -> None:
        if self._stop_asked_at is None:
            self._stop_asked_at = time.monotonic()
            self.child.tell(frames.Stop())

    async def _beat(self) -> None:
        progress = self._progress

        async def write(cur: Cursor) -> bool:
            asked = await beat(cur, self.job.id, self.job.attempt, progress)
            if asked is None:
                raise Lost
            return asked

        is_cancel_asked = await self._write(write)
        self._written = progress
        self._beat_at = time.monotonic()
        if is_cancel_asked:
            self._ask_to_stop()

    async def _serve(self, frame: frames.ToWorker) -> None:
        if isinstance(frame, frames.Told):
            self._progress = Progress(frame.done, frame.total, frame.doing)
        elif isinstance(frame, frames.Said):
            await self._write(lambda cur: self._add_lines(cur, frame.lines))
        else:
            self.child.tell(await self._answer(frame))

    async def _answer(self, frame: frames.ToWorker) -> frames.Answer:
        try:
            return frames.Answer(await self._write(lambda cur: self._asked(cur, frame)))
        except JobError as refused:
            return frames.Answer(refused=str(refused))

    async def _asked(self, cur: Cursor, frame: frames.ToWorker) -> int:
        job_id, attempt = self.job.id, self.job.attempt
        if isinstance(frame, frames.Save):
            if not await save_place(cur, job_id, attempt, json.loads(frame.place)):
                raise Lost
            return 0
        if isinstance(frame, frames.Rows):
            rows = [NewRow(row.ref, row.outcome, row.detail, row.label) for row in frame.rows]
            if not await details.add_rows(cur, job_id, attempt, rows):
                raise Lost
            return 0
        if not await details.is_held(cur, job_id, attempt):
            raise Lost
        if isinstance(frame, frames.BeginFile):
            return await details.begin_file(cur, job_id, attempt, frame.name, frame.media_type)
        if isinstance(frame, frames.FilePart):
            await details.add_part(cur, frame.file_id, frame.no, frame.content)
        elif isinstance(frame, frames.EndFile):
            await details.complete_file(cur, frame.file_id, self._files_keep_days)
        return 0

    async def _add_lines(self, cur: Cursor, lines: list[str]) -> None:
        await details.add_log(cur, self.job.id, lines, attempt=self.job.attempt)
        before, self._lines = self._lines, self._lines + len(lines)
        if before // _TRIM_EVERY != self._lines // _TRIM_EVERY:
            await details.trim_log(cur, self.job.id)

    async def _begin(self, cur: Cursor) -> None:
        if not await details.is_held(cur, self.job.id, self.job.attempt):
            raise Lost
        await details.drop_results(cur, self.job.id, incomplete_only=False)
        await details.add_log(cur, self.job.id, [self.job.worker], event="began", attempt=self.job.attempt)

    async def _end(self, cur: Cursor, ending: Ending) -> Next:
        job = self.job
        asked = await beat(cur, job.id, job.attempt, self._progress)
        if asked is None:
            raise Lost
        following = next_of(self._kind, ending, job.errors, job.interruptions, is_cancel_asked=asked)
        await end_and_tell(cur, job, following, ending, self._progress)
        await details.trim_log(cur, job.id)
        return following

    async def _write(self, work: Callable[[Cursor], Awaitable[T]]) -> T:
        return await self._session.insist(work, self._draining.may_go_on)


async def end_and_tell(
    cur: Cursor,
    job: Job,
    following: Next,
    ending: Ending,
    progress: Progress | None = None,
    seen_beat: int | None = None,
) -> bool:
    """Write what follows an attempt and tell of it in the log; False: the job is not this attempt's any more."""
    is_done = ending.how == "done"
    event, line = event_of(following, ending)
    await details.add_log(cur, job.id, [line], event=event, attempt=job.attempt)
    if not await end_attempt(cur, job.id, job.attempt, following, ending.message, ending.result, progress, seen_beat):
        raise Lost
    await details.drop_results(cur, job.id, incomplete_only=is_done)
    return True


def event_of(following: Next, ending: Ending) -> tuple[str, str]:
    """What the log tells of an ending: the event, and its detail. Pure."""
    if following.state is JobState.QUEUED:
        if ending.how == "cancelled":
            return "given_back", ending.message
        return "again", ending.message
    return following.state.value, ending.message


def _run_frame(job: Job, kind: JobKind) -> frames.Run:
    def text(value: Mapping[str, Any] | None) -> str:
        return "" if value is None else json.dumps(value, ensure_ascii=False)

    return frames.Run(kind.place, job.id, job.attempt, job.kind, job.asked_by, text(job.arguments), text(job.saved))
