"""Composition root of the role schedules: decides which jobs begin when. Any number may run at once, on any host.

Rules. Each look is some short transactions: how jobs ended, runs that waited, instants that have come (each schedule in
one of its own). PostgreSQL away is no fault of the process: it tries again, and what came meanwhile goes by each
schedule's rule for missed runs. Every REFRESH_EVERY_S all schedules are planned anew, for zones or working days that
changed with the program.

Does not know: what is decided (billing.work.schedules), how jobs are done.
"""

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import psycopg2
import structlog
from prometheus_client import Counter, Gauge

from billing.database.away import DatabaseAway
from billing.database.cursors import Cursor
from billing.work.schedules.defaults import offer_defaults
from billing.work.schedules.scheduler import Clock, Decided, decide_one, refresh, start_one
from billing.work.schedules.schedules import coming_of
from billing.work.schedules.store import SchedulesStanding, database_clock, list_schedules, settle_runs, standing
from billing.work.schedules.working_days_store import read_working_days
from kopeck.databases.stores import Stores
from kopeck.serve.jobs import KINDS
from kopeck.serve.process import RoleParts, wait_for_database
from kopeck.settings import Settings
from kopeck.work.session import Session

#: How often every schedule is planned anew.
REFRESH_EVERY_S: Final = 3_600.0
#: Waits after a failure, doubling from the first to the last.
BACK_OFF_S: Final = (0.5, 10.0)

DECISIONS = Counter("kopeck_schedules_decisions_total", "Planned instants decided", ["decision", "reason"])
RESULTS = Counter("kopeck_schedules_results_total", "Runs whose job ended", ["result"])
WENT_BACK = Counter("kopeck_schedules_clock_went_back_total", "Times the database's clock was behind a decision")
FAILURES = Counter("kopeck_schedules_failures_total", "Looks that were given up and are tried again")
ON = Gauge("kopeck_schedules_on", "Schedules that are on")
LATE = Gauge("kopeck_schedules_late", "Schedules whose instant came and was not decided in time")
WITH_PROBLEM = Gauge("kopeck_schedules_with_problem", "Schedules that decide nothing until a person looks at them")
WAITING = Gauge("kopeck_schedules_waiting_runs", "Runs that wait for the run before them")

log = structlog.get_logger("kopeck.schedules")


@dataclass(frozen=True, slots=True)
class SchedulerOptions:
    """host: names this process in the rows. poll_s: between two looks. zone: of schedules that come with the program.

    clock: the database's, unless a test moves another one.
    """

    dsn: str
    host: str
    poll_s: float
    zone: str
    kinds: Collection[str]
    clock: Clock = database_clock


async def serve_schedules(settings: Settings, stores: Stores, stop: asyncio.Event, parts: RoleParts) -> None:
    """Decide until the end is asked for; outlives the database being away."""
    if not await wait_for_database(stores.dsn, stop):
        return
    options = SchedulerOptions(
        dsn=stores.dsn,
        host=f"{socket.gethostname()[:80]}:{os.getpid()}",
        poll_s=settings.schedules.poll_ms / 1000,
        zone=settings.web.time_zone,
        kinds=KINDS,
    )
    log.info("serving", host=options.host)
    parts["started"] = True
    await run_scheduler(options, stop)


async def run_scheduler(options: SchedulerOptions, stop: asyncio.Event) -> None:
    """Look again and again until ``stop`` is set."""
    session = Session(options.dsn, "kopeck-schedules")
    refreshed_at, pause_s = float("-inf"), BACK_OFF_S[0]
    try:
        while not stop.is_set():
            try:
                if time.monotonic() - refreshed_at >= REFRESH_EVERY_S:
                    await session.run(lambda cur: _plan_anew(cur, options))
                    refreshed_at = time.monotonic()
                await look(session, options, stop)
                wait_s, pause_s = options.poll_s, BACK_OFF_S[0]
            except (DatabaseAway, psycopg2.Error) as error:
                FAILURES.inc()
                log.warning("look_given_up", error=str(error).strip(), again_in_s=pause_s)
                wait_s, pause_s = pause_s, min(2 * pause_s, BACK_OFF_S[1])
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), wait_s)
    finally:
        await session.close()


async def look(session: Session, options: SchedulerOptions, stop: asyncio.Event) -> None:
    """One look: results, runs that waited, instants that have come.

    Raises:
        DatabaseAway: what was not committed is done by the next look. psycopg2.Error: the database refused.
    """
    for result in await session.run(settle_runs):
        RESULTS.labels(result).inc()
    while not stop.is_set() and (await session.run(lambda cur: start_one(cur, options.clock))) is not None:
        pass
    while not stop.is_set():
        decided = await session.run(lambda cur: decide_one(cur, options.clock, options.host))
        if decided is None:
            break
        _tell(decided)
    _show(await session.run(lambda cur: _standing(cur, options.clock)))


async def _standing(cur: Cursor, clock: Clock) -> SchedulesStanding:
    return await standing(cur, await clock(cur))


async def _plan_anew(cur: Cursor, options: SchedulerOptions) -> None:
    for name in await offer_defaults(cur, options.clock, options.zone, options.kinds):
        log.info("schedule_added", schedule=name)
    await refresh(cur, options.clock)
    now_s, working_days = await options.clock(cur), await read_working_days(cur)
    for schedule in await list_schedules(cur):
        coming = await coming_of(cur, schedule, working_days, now_s)
        if coming.guessed_years:
            log.warning("working_days_not_loaded", schedule=schedule.name, years=list(coming.guessed_years))


def _tell(decided: Decided) -> None:
    if decided.went_back:
        WENT_BACK.inc()
    for decision in decided.decisions:
        DECISIONS.labels(decision.decision, decision.reason.value).inc(decision.stands_for)
    if decided.decisions:
        last = decided.decisions[-1]
        log.info("decided", schedule=decided.name, decision=last.decision, reason=last.reason.value)


def _show(stands: SchedulesStanding) -> None:
    ON.set(stands.on)
    LATE.set(stands.late)
    WITH_PROBLEM.set(stands.with_problem)
    WAITING.set(stands.queued)
