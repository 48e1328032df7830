"""The worker of a process: claims jobs that are due, has them done by child processes, and looks after all of them.

Rules. Any number of workers on any number of hosts share the queue: a claim takes a row that nobody else has (SKIP
LOCKED). Whether the process at a job still lives is judged by its beat: if that stands still for the lease of the job,
by the monotonic clock of the worker that watches, the job is ended as interrupted. So no clock that jumps, the
database's included, takes a job from a living process. Time in which the watcher itself stood still does not count.

A child is used for job after job, so that a small job does not wait for an interpreter and its imports; it is replaced
when its work failed or was ended, when it holds more than CHILD_BYTES_MAX, and after CHILD_JOBS jobs, and it is ended
when it was idle for CHILD_IDLE_S, so that what work took of memory is given back.

When the database is away, lanes wait for it. When the end is asked for, nothing more is claimed (kopeck.work.attempt
says what becomes of work under way).

Does not know: the kinds of jobs.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import psycopg2
from prometheus_client import Gauge

from billing.database.away import DatabaseAway
from billing.database.cursors import Cursor
from billing.work.jobs.details_store import drop_expired
from billing.work.jobs.records import Ending, Job, JobState, Next
from billing.work.jobs.rules import JobKind, next_of
from billing.work.jobs.store import (
    CHANNEL,
    FORGET_MAX,
    JobCounts,
    claim_job,
    claimed_job,
    count_jobs,
    forget_jobs,
    running_jobs,
)
from kopeck.work import frames
from kopeck.work.attempt import Attempt, Draining, Lost, end_and_tell
from kopeck.work.child_process import ChildProcess
from kopeck.work.session import GaveUp, Session

CHILD_BYTES_MAX: Final = 256 << 20
CHILD_JOBS: Final = 200
CHILD_IDLE_S: Final = 60.0
#: How often old jobs and files are looked for.
FORGET_EVERY_S: Final = 600.0
#: A job waits so long where the system gives no process for it.
NO_PROCESS_PAUSE_S: Final = 10
#: A pause after a failure of the watch or of listening.
_PAUSE_S: Final = 1.0

DUE = Gauge("kopeck_jobs_due", "Queued jobs that are due")
WAITING = Gauge("kopeck_jobs_waiting", "Queued jobs that are due later")
RUNNING = Gauge("kopeck_jobs_running", "Jobs that processes are at, of all hosts")
FAILED = Gauge("kopeck_jobs_failed", "Failed jobs that are kept")
OLDEST_AGE = Gauge("kopeck_jobs_oldest_due_age_seconds", "How long the oldest due job waits")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """processes: jobs at once. queues: whose jobs; empty for all. lease_s: of jobs claimed here. poll_s: how often an
    idle lane looks without a notice. keep_days: of finished jobs; files_keep_days: of their files' content."""

    setup: frames.Setup
    kinds: Mapping[str, JobKind]
    processes: int = 2
    queues: tuple[str, ...] = ()
    lease_s: int = 30
    poll_s: float = 2.0
    keep_days: int = 90
    files_keep_days: int = 7
    drain_s: float = 30.0

    @property
    def dsn(self) -> str:
        """Of the database."""
        return self.setup.stores.dsn


@dataclass(slots=True)
class _Watched:
    """A running job as a watcher knows it: how long its beat stood still, seconds of the watcher's own."""

    attempt: int
    beat: int
    still_s: float = 0.0


class Worker:
    """The jobs of one process. Use it in the main thread's event loop."""

    def __init__(self, options: WorkerOptions) -> None:
        self._options = options
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._attempts: dict[int, Attempt] = {}
        self._wakes = [asyncio.Event() for _ in range(options.processes)]
        #: Whether the last look at the database went well.
        self.sees_database = False

    async def run(self, stop: asyncio.Event) -> None:
        """Do jobs until ``stop`` is set, then drain."""
        draining = Draining(stop)
        others = [asyncio.create_task(self._watch()), asyncio.create_task(self._listen())]
        lanes = [asyncio.create_task(self._lane(wake, draining)) for wake in self._wakes]
        stopping = asyncio.create_task(stop.wait())
        tasks: list[asyncio.Task[Any]] = [stopping, *lanes, *others]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            stop.set()  # a lane that failed is a mistake of ours: the others drain, and it is raised below
            draining.drain_until = time.monotonic() + self._options.drain_s
            self._wake_all()
            await asyncio.gather(*lanes)
            for task in others:
                if task.done():
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # -- doing jobs --------------------------------------------------------------------------------------------------

    async def _lane(self, wake: asyncio.Event, draining: Draining) -> None:
        """One job after the other until the end is asked for."""
        session = Session(self._options.dsn, "kopeck-jobs")
        child: ChildProcess | None = None
        try:
            while not draining.stop.is_set():
                wake.clear()
                try:
                    job = await self._claim(session, draining)
                except GaveUp:
                    continue
                if job is None:
                    child = await self._rest(child, wake)
                    continue
                try:
                    child = child or await ChildProcess.start(self._options.setup)
                except OSError as error:
                    await self._give_back(job, f"no process could be started: {error}", session, draining)
                    continue
                child = await self._do(job, child, session, draining)
        finally:
            await session.close()
            if child is not None:
                await child.end()

    async def _claim(self, session: Session, draining: Draining) -> Job | None:
        options = self._options
        claim, kinds = secrets.token_hex(16), list(options.kinds)
        tries = 0

        async def work(cur: Cursor) -> Job | None:
            nonlocal tries
            tries += 1
            job = await claimed_job(cur, claim) if tries > 1 else None  # an earlier try's COMMIT was not answered
            return job or await claim_job(cur, claim, self.name, kinds, options.queues, options.lease_s)

        return await session.insist(work, lambda: not draining.stop.is_set())

    async def _rest(self, child: ChildProcess | None, wake: asyncio.Event) -> ChildProcess | None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(wake.wait(), self._options.poll_s)
        if child is not None and time.monotonic() - child.idle_since > CHILD_IDLE_S:
            await child.end()
            return None
        return child

    async def _do(self, job: Job, child: ChildProcess, session: Session, draining: Draining) -> ChildProcess | None:
        """One attempt; the child, if it can be used again."""
        options = self._options
        attempt = Attempt(job, options.kinds[job.kind], child, session, draining, options.files_keep_days)
        self._attempts[job.id] = attempt
        held: int | None = None
        try:
            held = await attempt.run()
        finally:
            del self._attempts[job.id]
            child.jobs += 1
            child.idle_since = time.monotonic()
            is_spent = held is None or held > CHILD_BYTES_MAX or child.jobs >= CHILD_JOBS
            if is_spent:
                await child.end()
        return None if is_spent else child

    async def _give_back(self, job: Job, why: str, session: Session, draining: Draining) -> None:
        """Queue a job again of which nothing was done."""
        log.error("no_process", extra={"job": job.id, "cause": why})
        following = Next(JobState.QUEUED, NO_PROCESS_PAUSE_S, "", job.errors, job.interruptions)
        ending = Ending("cancelled", why)
        with contextlib.suppress(Lost, GaveUp):
            await session.insist(lambda cur: end_and_tell(cur, job, following, ending), draining.may_go_on)

    # -- looking after them ------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        """Wake lanes for new jobs, and attempts for cancels, when the database says that there may be some."""
        session = Session(self._options.dsn, "kopeck-jobs-listen")
        try:
            while True:
                try:
                    await session.notified(CHANNEL)
                except DatabaseAway:
                    await asyncio.sleep(_PAUSE_S)
                self._wake_all()
        finally:
            await session.close()

    def _wake_all(self) -> None:
        for wake in self._wakes:
            wake.set()
        for attempt in self._attempts.values():
            attempt.nudge()

    async def _watch(self) -> None:
        """Find jobs whose process is lost, count, and forget what is old."""
        every_s = min(5.0, max(0.1, self._options.lease_s / 6))
        session = Session(self._options.dsn, "kopeck-jobs-watch")
        watched: dict[int, _Watched] = {}
        looked_at, forgot_at = time.monotonic(), float("-inf")
        try:
            while True:
                now = time.monotonic()
                passed_s, looked_at = min(now - looked_at, 2 * every_s), now
                try:
                    _told(await session.run(count_jobs))
                    running = await session.run(running_jobs)
                    self.sees_database = True
                    for job in still_ones(watched, running, passed_s):
                        await self._take_away(session, job)
                    if now - forgot_at >= FORGET_EVERY_S:
                        forgot_at = now
                        await self._forget(session)
                except (DatabaseAway, psycopg2.Error) as error:
                    self.sees_database = False
                    log.warning("jobs_watch_failed", extra={"cause": str(error)})
                    watched.clear()
                await asyncio.sleep(every_s)
        finally:
            await session.close()

    async def _take_away(self, session: Session, job: Job) -> None:
        kind = self._options.kinds.get(job.kind)
        if kind is None or job.id in self._attempts:
            return
        ending = Ending("interrupted", f"nothing was heard of {job.worker} for {job.lease_s} s")
        is_asked = job.cancel_at is not None
        following = next_of(kind, ending, job.errors, job.interruptions, is_cancel_asked=is_asked)
        with contextlib.suppress(Lost):
            await session.run(lambda cur: end_and_tell(cur, job, following, ending, seen_beat=job.beat))
            log.warning("job_taken_away", extra={"job": job.id, "worker": job.worker, "state": following.state.value})
        if following.wait_s == 0:
            self._wake_all()

    async def _forget(self, session: Session) -> None:
        while await session.run(drop_expired):
            pass
        while await session.run(lambda cur: forget_jobs(cur, self._options.keep_days)) == FORGET_MAX:
            pass


def still_ones(watched: dict[int, _Watched], running: list[Job], passed_s: float) -> list[Job]:
    """Jobs whose beat stood still for their lease; keeps in ``watched`` what it has to know. Pure but for that.

    passed_s: since the last look, as far as the watcher itself was awake.
    """
    for gone in set(watched) - {job.id for job in running}:
        del watched[gone]
    still = []
    for job in running:
        known = watched.get(job.id)
        if known is None or (known.attempt, known.beat) != (job.attempt, job.beat):
            watched[job.id] = _Watched(job.attempt, job.beat)
            continue
        known.still_s += passed_s
        if known.still_s >= job.lease_s:
            still.append(job)
    return still


def _told(counts: JobCounts) -> None:
    DUE.set(counts.due)
    WAITING.set(counts.waiting)
    RUNNING.set(counts.running)
    FAILED.set(counts.failed)
    OLDEST_AGE.set(counts.oldest_age_s)
