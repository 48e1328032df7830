"""A schedule and its runs in words for the terminal, and as JSON for programs.

Does not know: where schedules come from, where the text goes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from billing.work.jobs.words import title_of
from billing.work.schedules.instants import local_time
from billing.work.schedules.records import (
    Missed,
    Overlap,
    RunReason,
    Schedule,
    ScheduleRun,
    ScheduleState,
)
from billing.work.schedules.schedules import ComingInstants
from kopeck.cli.output import plain_instant
from kopeck.cli.system.job_printout import span_words

HEADINGS: Final = ("schedule", "kind", "rule", "zone", "state", "last", "result", "took", "next")
RUN_HEADINGS: Final = ("planned", "result", "job", "took", "why", "message")
_REASONS: Final = {
    RunReason.DUE: "",
    RunReason.CAUGHT_UP: "made up late",
    RunReason.ASKED: "",
    RunReason.MISSED: "nobody was there in time",
    RunReason.MERGED: "one later run stands for it",
    RunReason.TOO_MANY: "older than those that are made up",
    RunReason.OVERLAP: "the run before it was not over",
    RunReason.QUEUE_FULL: "too many runs waited",
}


def instant_words(instant_s: int, zone: str) -> str:
    """An instant by the clocks of the zone, such as ``Fri 2026-12-04 09:00 MSK (+03:00)``."""
    try:
        moment = local_time(instant_s, zone)
    except ValueError:  # a zone that this program does not know any more
        moment = datetime.fromtimestamp(instant_s, UTC)
    offset = moment.isoformat()[-6:]
    name = moment.tzname() or ""
    named = f" {name} ({offset})" if name[:1].isalpha() else f" ({offset})"
    return f"{moment:%a %Y-%m-%d %H:%M}{named}"


def state_words(schedule: Schedule) -> str:
    """How it stands, in a few words."""
    if schedule.problem:
        return "has a problem"
    if schedule.state is ScheduleState.ON and schedule.next_s is None:
        return "ended"
    return schedule.state.value


def list_row(schedule: Schedule, last: ScheduleRun | None) -> tuple[str, ...]:
    """Under HEADINGS."""
    zone, next_s = schedule.terms.zone, schedule.next_s
    told = ("-", "-", "-") if last is None else (_planned(last, zone), last.outcome, _took(last))
    coming = "-" if next_s is None else instant_words(next_s, zone)
    return (schedule.name, schedule.terms.kind, schedule.terms.rule, zone, state_words(schedule), *told, coming)


def schedule_lines(schedule: Schedule, coming: ComingInstants, now_s: int) -> Iterator[str]:
    """Everything a person set, how it stands, what comes."""
    terms = schedule.terms
    yield f"{schedule.name}: {title_of(terms.kind)} ({terms.kind}), {terms.rule}, {terms.zone}"
    if terms.note:
        yield terms.note
    if terms.arguments:
        yield "arguments: " + ", ".join(f"{name}={value}" for name, value in terms.arguments.items())
    yield from _rule_lines(schedule)
    state = state_words(schedule)
    why = f": {schedule.state_reason}" if schedule.state_reason else ""
    yield f"{state}{why}; changed by {schedule.changed_by} at {schedule.changed_at.astimezone(UTC):%Y-%m-%d %H:%M}Z"
    if schedule.problem:
        yield f"problem: {schedule.problem}"
        yield f"mend it, then `kopeck schedule resume {schedule.name}`"
    if schedule.is_late(now_s):
        yield "late: is `kopeck serve schedules` running?"
    if coming.instants:
        yield "next:" if schedule.state is ScheduleState.ON else "resumed now, it would come:"
        for instant in coming.instants:
            skipped = "  skipped" if instant in coming.skipped else ""
            yield f"  {instant_words(instant, terms.zone)}{skipped}"
    if coming.guessed_years:
        yield guess_words("this schedule", coming.guessed_years)


def _rule_lines(schedule: Schedule) -> Iterator[str]:
    terms = schedule.terms
    missed = {
        Missed.SKIP: "missed runs are skipped",
        Missed.ONCE: "one run stands for missed ones",
        Missed.EACH: f"of missed runs the newest {terms.missed_max} are made up, one after another",
    }[terms.missed]
    overlap = {
        Overlap.SKIP: "while a run is not over, the next one is skipped",
        Overlap.QUEUE: "while a run is not over, the next one waits",
    }[terms.overlap]
    yield f"{missed} (late after {terms.late_after_s // 60} min); {overlap}"
    if terms.clock_change == "as_shown":
        yield "at a change of the clocks it comes as often as they show its time"
    if terms.stops_after is not None:
        yield f"stops after {instant_words(int(terms.stops_after.timestamp()), terms.zone)}"


def guess_words(what: str, years: Sequence[int]) -> str:
    """A warning: which working days are a guess."""
    told = ", ".join(map(str, years))
    return (
        f"{what} depends on working days of {told}, which are not loaded: Monday to Friday are taken "
        "(`kopeck schedule calendar load FILE`)"
    )


def run_row(run: ScheduleRun, zone: str) -> tuple[str, ...]:
    """Under RUN_HEADINGS."""
    count = f" and {run.stands_for - 1:,} more" if run.stands_for > 1 else ""
    job = "-" if run.job_id is None else str(run.job_id)
    who = f"asked for by {run.decided_by}" if run.reason is RunReason.ASKED else _REASONS[run.reason]
    why = ": ".join(part for part in (who, run.note) if part)
    return (f"{_planned(run, zone)}{count}", run.outcome, job, _took(run), why or "-", run.message or "-")


def run_json(run: ScheduleRun) -> dict[str, Any]:
    """A run for programs."""
    return asdict(run) | {"reason": run.reason.value, "outcome": run.outcome, "duration_s": run.duration_s}


def schedule_json(schedule: Schedule, last: ScheduleRun | None, coming: ComingInstants) -> dict[str, Any]:
    """A schedule for programs."""
    terms = asdict(schedule.terms)
    terms |= {"missed": schedule.terms.missed.value, "overlap": schedule.terms.overlap.value}
    return {
        "name": schedule.name,
        **terms,
        "state": schedule.state.value,
        "state_reason": schedule.state_reason,
        "problem": schedule.problem,
        "changed_at": schedule.changed_at,
        "changed_by": schedule.changed_by,
        "next": plain_instant(schedule.next_s),
        "coming": [plain_instant(instant) for instant in coming.instants],
        "skipped": [plain_instant(instant) for instant in sorted(coming.skipped)],
        "working_days_not_loaded": list(coming.guessed_years),
        "last": None if last is None else run_json(last),
    }


def _planned(run: ScheduleRun, zone: str) -> str:
    return instant_words(int(run.planned_at.timestamp()), zone)


def _took(run: ScheduleRun) -> str:
    return "-" if run.duration_s is None else span_words(run.duration_s)
