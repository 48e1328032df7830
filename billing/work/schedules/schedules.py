"""What people do with schedules: add, change, pause, resume, remove, run now, skip an instant; load working days.

Rules. What is added or changed is checked whole: name, kind, rule, zone, arguments; nothing is kept of what is refused.
Instants that come while a schedule is paused, and those before it was added or changed, are not made up. A change names
the version it was made from, and is refused if another change came first. A run that a person asks for is a run beside
the plan; asked again with the same key it is the same run. Each function is part of a transaction of the caller, which
writes the audit record too.

Does not know: who may do it, which kinds of job there are (the caller says).
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from billing.database.cursors import Cursor
from billing.work.jobs import enqueue
from billing.work.schedules import store
from billing.work.schedules.arguments import arguments_at, check_arguments
from billing.work.schedules.instants import CLOCK_CHANGES, local_time, next_instants, previous_instant
from billing.work.schedules.records import (
    MAX_LATE_AFTER_S,
    MAX_NAMED,
    MIN_LATE_AFTER_S,
    NAME_PATTERN,
    NOTE_CHARS,
    RunDecision,
    RunReason,
    Schedule,
    ScheduleError,
    ScheduleState,
    ScheduleTerms,
)
from billing.work.schedules.rules import parse_rule, text_of
from billing.work.schedules.scheduler import Clock, next_of, plan_of, refresh, stop_s
from billing.work.schedules.working_days import SpecialDay, WorkingDays
from billing.work.schedules.working_days_store import put_years, read_working_days
from ratingcore.bands import zone_of

#: Coming instants that a person sees, and of which it may skip one.
COMING: Final = 5


@dataclass(frozen=True, slots=True)
class ComingInstants:
    """Planned instants (UTC seconds), and of them those that a person skipped; years without loaded working days."""

    instants: Sequence[int]
    skipped: Collection[int]
    guessed_years: Sequence[int]


def checked_terms(terms: ScheduleTerms, kinds: Collection[str]) -> ScheduleTerms:
    """The terms with their rule in its canonical form.

    Raises:
        RuleRefused, ScheduleError: the first thing that cannot be.
    """
    if terms.kind not in kinds:
        known = ", ".join(sorted(kinds)) or "none"
        raise ScheduleError(f"{terms.kind[:60]!r} is no kind of job; there are: {known}", code="schedule_kind")
    rule = text_of(parse_rule(terms.rule))
    try:
        zone_of(terms.zone)
    except ValueError as error:
        raise ScheduleError(f"{error}: an IANA name such as Europe/Moscow", code="schedule_zone") from error
    if terms.clock_change not in CLOCK_CHANGES:
        raise ScheduleError(f"a change of the clocks is treated as {' or '.join(CLOCK_CHANGES)}")
    if not 1 <= terms.missed_max <= MAX_NAMED:
        raise ScheduleError(f"1 to {MAX_NAMED} missed runs are made up, not {terms.missed_max}")
    if not MIN_LATE_AFTER_S <= terms.late_after_s <= MAX_LATE_AFTER_S:
        bounds = f"{MIN_LATE_AFTER_S // 60} minute to {MAX_LATE_AFTER_S // 3600} hours"
        raise ScheduleError(f"a run is late after {bounds}, not {terms.late_after_s} s")
    if terms.stops_after is not None and terms.stops_after.tzinfo is None:
        raise ScheduleError("a schedule stops after an instant with a zone")
    check_note(terms.note)
    check_arguments(terms.arguments)
    return replace(terms, rule=rule)


def check_note(note: str) -> str:
    """The note or reason without blanks around it. Raises ScheduleError: too long, or not printable."""
    told = " ".join(note.split())
    if len(told) > NOTE_CHARS or not told.isprintable():
        raise ScheduleError(f"a note or reason is {NOTE_CHARS} printable characters at most", code="schedule_note")
    return told


async def add_schedule(
    cur: Cursor,
    clock: Clock,
    name: str,
    terms: ScheduleTerms,
    actor: str,
    *,
    kinds: Collection[str],
    state: ScheduleState = ScheduleState.ON,
) -> Schedule:
    """A new schedule.

    Raises:
        RuleRefused, ScheduleError: what it is made of cannot be, or the name is taken.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise ScheduleError(
            f"{name[:60]!r} is no name of a schedule: small letters, digits and hyphens, a letter first, 48 at most",
            code="schedule_name",
        )
    terms = checked_terms(terms, kinds)
    now_s = await clock(cur)
    next_s = next_of(terms, await read_working_days(cur), now_s)
    if next_s is None:
        raise ScheduleError(f"{terms.rule!r} comes at no instant after now", code="schedule_never")
    planned_s = next_s if state is ScheduleState.ON else None
    if await store.insert_schedule(cur, name, terms, state, "", now_s, planned_s, actor) is None:
        raise ScheduleError(f"there is a schedule {name} already", code="schedule_taken", schedule=name)
    return await held_schedule(cur, name)


async def change_schedule(
    cur: Cursor,
    clock: Clock,
    name: str,
    terms: ScheduleTerms,
    actor: str,
    *,
    kinds: Collection[str],
    version: int | None = None,
) -> Schedule:
    """Replace what a person sets; what comes next follows from the new terms alone. version: the one it was made from.

    Raises:
        RuleRefused, ScheduleError: as add_schedule; no such schedule; another change came first.
    """
    schedule = await held_schedule(cur, name)
    _check_version(schedule, version)
    terms = checked_terms(terms, kinds)
    now_s = await clock(cur)
    next_s = next_of(terms, await read_working_days(cur), now_s)
    if next_s is None:
        raise ScheduleError(f"{terms.rule!r} comes at no instant after now", code="schedule_never")
    planned_s = next_s if schedule.state is ScheduleState.ON else None
    await store.put_terms(cur, schedule.id, terms, now_s, planned_s, actor)
    return await held_schedule(cur, name)


async def pause_schedule(
    cur: Cursor, clock: Clock, name: str, reason: str, actor: str, *, version: int | None = None
) -> bool:
    """Plan nothing until it is resumed; runs that are queued already go on. False: it was paused.

    Raises:
        ScheduleError: no such schedule, no reason, or another change came first.
    """
    schedule = await held_schedule(cur, name)
    if schedule.state is ScheduleState.PAUSED:
        return False
    _check_version(schedule, version)
    told = _reason(reason)
    await store.put_state(cur, schedule.id, ScheduleState.PAUSED, told, await clock(cur), None, actor)
    return True


async def resume_schedule(cur: Cursor, clock: Clock, name: str, actor: str, *, version: int | None = None) -> bool:
    """Plan again from now on; what came meanwhile is not made up. False: it was on, without a problem.

    Raises:
        RuleRefused, ScheduleError: no such schedule, or it cannot be planned.
    """
    schedule = await held_schedule(cur, name)
    if schedule.state is ScheduleState.ON and not schedule.problem:
        return False
    _check_version(schedule, version)
    now_s = await clock(cur)
    try:
        next_s = next_of(schedule.terms, await read_working_days(cur), now_s)
    except ValueError as error:
        raise ScheduleError(f"schedule {name} cannot be planned: {error}", code="schedule_problem") from error
    await store.put_state(cur, schedule.id, ScheduleState.ON, "", now_s, next_s, actor)
    return True


async def remove_schedule(
    cur: Cursor, clock: Clock, name: str, reason: str, actor: str, *, version: int | None = None
) -> None:
    """Plan nothing more and give the name free; its runs are kept.

    Raises:
        ScheduleError: no such schedule, no reason, or another change came first.
    """
    schedule = await held_schedule(cur, name)
    _check_version(schedule, version)
    await store.put_state(cur, schedule.id, ScheduleState.REMOVED, _reason(reason), await clock(cur), None, actor)


async def run_now(cur: Cursor, clock: Clock, name: str, actor: str, *, request_key: str, note: str = "") -> int:
    """Queue a job of the schedule beside its plan, also while it is paused; the job's id.

    request_key: the same key asks for the same run, once (a double click).

    Raises:
        ScheduleError: no such schedule. JobError: the job cannot be queued.
    """
    schedule = await held_schedule(cur, name)
    earlier = await store.job_of_request(cur, schedule.id, request_key)
    if earlier is not None:
        return earlier
    now_s = await clock(cur)
    job_id = await enqueue(
        cur,
        schedule.terms.kind,
        arguments_at(schedule.terms.arguments, now_s, schedule.terms.zone),
        asked_by=actor,
        key=f"schedule/{schedule.id}/asked/{request_key}",
    )
    decision = RunDecision(now_s, "run", RunReason.ASKED)
    await store.add_run(
        cur, schedule.id, decision, now_s, actor, job_id=job_id, origin="person", request_key=request_key,
        note=check_note(note),
    )  # fmt: skip
    return job_id


async def skip_instant(cur: Cursor, clock: Clock, name: str, planned_s: int, reason: str, actor: str) -> None:
    """Decide now that a coming instant of the plan does not run.

    Raises:
        ScheduleError: no such schedule, no reason, not one of the coming instants, or it is decided already.
    """
    schedule = await held_schedule(cur, name)
    now_s = await clock(cur)
    plan = plan_of(schedule.terms, await read_working_days(cur))
    if planned_s <= now_s:
        raise ScheduleError("that instant has come already", code="schedule_instant_past")
    if previous_instant(plan, planned_s) != planned_s or planned_s > stop_s(schedule.terms):
        raise ScheduleError(f"schedule {name} does not come at that instant", code="schedule_instant")
    decision = RunDecision(planned_s, "skipped", RunReason.ASKED)
    if await store.add_run(cur, schedule.id, decision, now_s, actor, note=_reason(reason)) is None:
        raise ScheduleError("that instant is decided already", code="schedule_instant_decided")


async def unskip_instant(cur: Cursor, clock: Clock, name: str, planned_s: int) -> None:
    """Let a coming instant run after all.

    Raises:
        ScheduleError: no such schedule, or nobody skipped that instant, or it has passed.
    """
    schedule = await held_schedule(cur, name)
    if not await store.delete_skip(cur, schedule.id, planned_s, await clock(cur)):
        raise ScheduleError("nobody skipped that instant, or it has passed", code="schedule_not_skipped")


async def load_working_days(
    cur: Cursor, clock: Clock, days: Sequence[SpecialDay], file_name: str, actor: str
) -> list[int]:
    """Replace the years that the days are of, and plan every schedule anew; which years."""
    years = await put_years(cur, days, file_name, actor)
    await refresh(cur, clock)
    return years


async def held_schedule(cur: Cursor, name: str) -> Schedule:
    """The schedule of a name, held until the transaction ends. Raises ScheduleError: there is none."""
    schedule = await store.find_schedule(cur, name, hold=True)
    if schedule is None:
        raise ScheduleError(f"there is no schedule {name[:60]}", code="schedule_unknown", schedule=name)
    return schedule


async def coming_of(
    cur: Cursor, schedule: Schedule, working_days: WorkingDays, now_s: int, count: int = COMING
) -> ComingInstants:
    """What comes of a schedule, whether it is on or not; nothing where its rule cannot be planned."""
    try:
        plan = plan_of(schedule.terms, working_days)
        instants = [at for at in next_instants(plan, now_s, count) if at <= stop_s(schedule.terms)]
    except ValueError:
        return ComingInstants((), (), ())
    skipped = await store.decided_between(cur, schedule.id, now_s, instants[-1]) if instants else set()
    return ComingInstants(instants, skipped, guessed_years(schedule.terms, working_days, now_s, instants))


def guessed_years(
    terms: ScheduleTerms, working_days: WorkingDays, now_s: int, instants: Sequence[int]
) -> tuple[int, ...]:
    """Years that the instants depend on and whose working days are not loaded: Monday to Friday is a guess there."""
    plan = plan_of(terms, working_days)
    if not plan.rule.needs_working_days or not instants:
        return ()
    first, last = local_time(now_s, terms.zone).year, local_time(instants[-1], terms.zone).year
    years = range(first, last + 1)
    return tuple(year for year in years if year not in working_days.years)


def _check_version(schedule: Schedule, version: int | None) -> None:
    if version is not None and version != schedule.version:
        raise ScheduleError(
            f"schedule {schedule.name} was changed by {schedule.changed_by} meanwhile: look at it again",
            code="schedule_stale",
            schedule=schedule.name,
            by=schedule.changed_by,
        )


def _reason(reason: str) -> str:
    told = check_note(reason)
    if not told:
        raise ScheduleError("say why: the reason is kept", code="schedule_reason")
    return told
