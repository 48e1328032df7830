"""The scheduler: decides about instants that have come, and queues their jobs, once over any number of hosts.

Rules.
 1. One transaction a schedule: hold its row, read the clock, decide, write a row per instant and queue its job. A row
    per (schedule, planned instant) is unique, so an instant acts once, whatever else goes wrong. A process that finds
    a row held leaves the schedule to its holder.
 2. One clock rules: the database's, read after the row is held. Hosts' own clocks are not asked. (Tests pass another
    one; nothing here calls for the time.)
 3. A clock that jumped forward decides by the rule for missed instants. When it comes back, what the rules skipped or
    let wait ahead of the time is taken back and decided when it comes; what ran has run, and does not run again.
 4. A fault belongs to the schedule that has it: its problem is written down, it decides nothing more until a person
    changes or resumes it, and its neighbours go on.

Does not know: how jobs are done, how long to wait between two looks (kopeck.serve.schedules).
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias

import psycopg2

from billing.database.cursors import Cursor
from billing.work.jobs import enqueue
from billing.work.schedules import store
from billing.work.schedules.arguments import arguments_at
from billing.work.schedules.decide import Undecided, decide
from billing.work.schedules.instants import SchedulePlan, count_instants, newest_instants, next_instant
from billing.work.schedules.records import MAX_NAMED, RunDecision, Schedule, ScheduleState, ScheduleTerms
from billing.work.schedules.rules import parse_rule
from billing.work.schedules.working_days import WorkingDays
from billing.work.schedules.working_days_store import read_working_days

log = logging.getLogger(__name__)

#: The time in whole UTC seconds, as the transaction of the cursor sees it.
Clock: TypeAlias = Callable[[Cursor], Awaitable[int]]

#: Schedules looked at in one go before the caller may look at its other duties.
MAX_PER_LOOK: Final = 1_000


@dataclass(frozen=True, slots=True)
class Decided:
    """What one look at a schedule did. went_back: decisions that were taken back, because the clock went back."""

    name: str
    decisions: Sequence[RunDecision] = ()
    went_back: int = 0
    problem: str = ""


def plan_of(terms: ScheduleTerms, working_days: WorkingDays) -> SchedulePlan:
    """The rule of a schedule where it is in force.

    Raises:
        RuleRefused: the rule is none (any more). ValueError: so is the zone.
    """
    return SchedulePlan(parse_rule(terms.rule), terms.zone, working_days, terms.clock_change)


def next_of(terms: ScheduleTerms, working_days: WorkingDays, after_s: int) -> int | None:
    """The next planned instant, before the schedule stops."""
    coming = next_instant(plan_of(terms, working_days), after_s)
    return None if coming is None or coming > stop_s(terms) else coming


def stop_s(terms: ScheduleTerms) -> float:
    """The last second at which an instant may be planned."""
    return float("inf") if terms.stops_after is None else terms.stops_after.timestamp()


def asked_by(name: str) -> str:
    """How jobs and the audit record name a schedule as the one that asks."""
    return f"system:schedule:{name}"


async def decide_one(cur: Cursor, clock: Clock, host: str) -> Decided | None:
    """Decide about one schedule, in the caller's transaction. None: nothing is left to decide.

    host: names this process in the rows.
    """
    schedule = await store.pick_due(cur, await clock(cur))
    if schedule is None:
        return None
    return await _guarded(cur, schedule, lambda: _decide(cur, schedule, clock, host))


async def start_one(cur: Cursor, clock: Clock) -> Decided | None:
    """Queue the job of one run that waited for the run before it, in the caller's transaction. None: none waits."""
    schedule = await store.pick_queued(cur, await clock(cur))
    if schedule is None:
        return None
    return await _guarded(cur, schedule, lambda: _start(cur, schedule))


async def refresh(cur: Cursor, clock: Clock) -> None:
    """Plan every schedule that is on anew, in the caller's transaction: working days or zones may have changed.

    What has not come by the old plan is not made up by the new one.
    """
    schedules = await store.list_schedules(cur, hold=True)
    now_s, working_days = await clock(cur), await read_working_days(cur)
    for schedule in schedules:
        is_due = schedule.next_s is not None and schedule.next_s <= now_s
        if schedule.state is not ScheduleState.ON or schedule.problem or is_due or schedule.decided_until_s > now_s:
            continue
        try:
            next_s = next_of(schedule.terms, working_days, now_s)
        except ValueError as error:
            await store.put_problem(cur, schedule.id, str(error))
        else:
            await store.put_decided(cur, schedule.id, now_s, next_s)


async def _guarded(cur: Cursor, schedule: Schedule, work: Callable[[], Awaitable[Decided]]) -> Decided:
    """Rule 4: what the database or the rules refuse becomes the schedule's problem."""
    await cur.execute("SAVEPOINT of_schedule")
    try:
        decided = await work()
    except (psycopg2.OperationalError, psycopg2.InterfaceError):  # away, a deadlock: looked at again
        raise
    except (psycopg2.Error, ValueError) as error:  # a Refusal is a ValueError
        await cur.execute("ROLLBACK TO SAVEPOINT of_schedule")
        problem = str(error).strip().partition("\n")[0]
        log.error("schedule_has_problem", extra={"schedule": schedule.name, "problem": problem})
        await store.put_problem(cur, schedule.id, problem)
        return Decided(schedule.name, problem=problem)
    await cur.execute("RELEASE SAVEPOINT of_schedule")
    return decided


async def _decide(cur: Cursor, schedule: Schedule, clock: Clock, host: str) -> Decided:
    now_s = await clock(cur)
    after_s, went_back = schedule.decided_until_s, 0
    working_days = await read_working_days(cur)
    plan = plan_of(schedule.terms, working_days)
    if after_s > now_s:
        went_back, after_s = await _take_back(cur, schedule, plan, now_s), now_s
    until_s = int(min(now_s, stop_s(schedule.terms)))
    decided = await store.decided_between(cur, schedule.id, after_s, until_s)
    undecided = _undecided(plan, after_s, until_s, decided)
    is_busy, queued = await store.load_of(cur, schedule.id)
    decisions = decide(schedule.terms, undecided, now_s, is_busy, queued)
    for decision in decisions:
        job_id = None
        if decision.decision == "run":
            job_id = await _enqueue(cur, schedule, decision.planned_s)
        await store.add_run(cur, schedule.id, decision, now_s, host, job_id=job_id)
    await store.put_decided(cur, schedule.id, now_s, next_of(schedule.terms, working_days, now_s))
    return Decided(schedule.name, decisions, went_back)


async def _take_back(cur: Cursor, schedule: Schedule, plan: SchedulePlan, now_s: int) -> int:
    """Rule 3. How many decisions were taken back."""
    told = {"schedule": schedule.name, "decided_until": _shown(schedule.decided_until_s), "now": _shown(now_s)}
    log.warning("clock_went_back", extra=told)
    counted = await store.newest_counted(cur, schedule.id)
    if counted is not None:
        run_id, first_s, count = counted
        have_come = count_instants(plan, first_s - 1, now_s)
        if 1 <= have_come < count:
            await store.put_count(cur, run_id, have_come)
    return await store.take_back_future(cur, schedule.id, now_s)


def _undecided(plan: SchedulePlan, after_s: int, until_s: int, decided: set[int]) -> Undecided:
    instants = newest_instants(plan, after_s, until_s, MAX_NAMED + len(decided))
    newest = [instant for instant in instants if instant not in decided][-MAX_NAMED:]
    if not newest:
        return Undecided(())
    before_s = newest[0] - 1
    older = count_instants(plan, after_s, before_s) - sum(1 for instant in decided if instant <= before_s)
    if older <= 0:
        return Undecided(newest)
    oldest = next_instant(plan, after_s)
    while oldest is not None and oldest in decided:
        oldest = next_instant(plan, oldest)
    assert oldest is not None
    return Undecided(newest, older, oldest)


async def _start(cur: Cursor, schedule: Schedule) -> Decided:
    waiting = await store.oldest_queued(cur, schedule.id)
    if waiting is None:
        return Decided(schedule.name)
    run_id, planned_s = waiting
    await store.start_queued(cur, run_id, await _enqueue(cur, schedule, planned_s))
    return Decided(schedule.name)


async def _enqueue(cur: Cursor, schedule: Schedule, planned_s: int) -> int:
    terms = schedule.terms
    return await enqueue(
        cur,
        terms.kind,
        arguments_at(terms.arguments, planned_s, terms.zone),
        asked_by=asked_by(schedule.name),
        key=f"schedule/{schedule.id}/{planned_s}",
    )


def _shown(instant_s: int) -> str:
    return datetime.fromtimestamp(instant_s, UTC).isoformat()
