"""Schedules: the list, a schedule with what comes and what came; run now, pause, resume, skip a run.

Rules. Instants are shown by the clocks of the schedule's zone. A form carries a key (asked twice, a run begins once)
and the version it was made from. A change and its entry in the audit record are one transaction. What is refused
changes nothing, and the page shows again what was typed.

Does not know: what becomes of an instant (billing.work.schedules), rules as they are typed (the command adds them).
"""

import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo

from tornado.web import HTTPError

from billing.database.cursors import Cursor
from billing.language import N_, NP_
from billing.refusals import Refusal
from billing.work.jobs.words import title_of
from billing.work.schedules import store, words
from billing.work.schedules.instants import local_time
from billing.work.schedules.records import RunReason, Schedule, ScheduleRun, ScheduleState
from billing.work.schedules.rules import parse_rule
from billing.work.schedules.schedules import (
    ComingInstants,
    coming_of,
    pause_schedule,
    resume_schedule,
    run_now,
    skip_instant,
    unskip_instant,
)
from billing.work.schedules.store import database_clock
from billing.work.schedules.working_days_store import read_working_days
from ratingcore.bands import zone_of
from web.access.rights import Right
from web.console.system.schedule_days import DAYS, DayOfRuns, last_days
from web.site.page import Page, Refused

RUNS_SHOWN: Final = 25
REASON_MAX_CHARS: Final = 500
DAY_S: Final = 86_400
_NO_SCHEDULE: Final = N_("There is no such schedule")
#: What a refusal says, by its code; others say the general sentence.
REFUSALS: Final[Mapping[str, str]] = {
    "schedule_stale": N_("It was changed by %(by)s meanwhile. Look at it again, then repeat."),
    "schedule_reason": N_("Say why: the reason is kept."),
    "schedule_note": N_("A reason is at most 500 characters, without control characters."),
    "schedule_instant_past": N_("That run has begun already."),
    "schedule_instant": N_("The schedule does not come at that time any more."),
    "schedule_instant_decided": N_("That run is decided already."),
    "schedule_not_skipped": N_("That run is not skipped, or its time has passed."),
    "schedule_problem": N_("The schedule cannot be planned: its rule or its zone has to be mended first."),
}
_ARGUMENTS: Final = N_("Arguments")
_REFUSED: Final = N_("This cannot be done now. Look at the schedule again.")


class SchedulesPage(Page):
    """GET /schedules."""

    needs = Right.SCHEDULES_VIEW
    section = "schedules"

    async def get(self) -> None:
        """All schedules by name."""
        async with self.site.cursor() as cur:
            now_s, working_days = await database_clock(cur), await read_working_days(cur)
            schedules = await store.list_schedules(cur)
            ids = [schedule.id for schedule in schedules]
            lasts = await store.last_runs(cur, ids)
            results = await store.day_results(cur, ids, now_s - (DAYS + 1) * DAY_S, now_s + DAY_S)
            comings = [await coming_of(cur, schedule, working_days, now_s, 1) for schedule in schedules]
        lines = [
            {
                "schedule": schedule,
                "told": told_schedule(self, schedule, now_s),
                "last": None if schedule.id not in lasts else told_run(self, schedule, lasts[schedule.id]),
                "days": (days := last_days(results[schedule.id], local_day(schedule, now_s))),
                "strip": strip_words(self, days),
            }
            for schedule in schedules
        ]
        late = [schedule.name for schedule in schedules if schedule.is_late(now_s)]
        guesses = {year for coming in comings for year in coming.guessed_years}
        told = {"late": late, "guessed": sorted(guesses), "day_words": lambda day: day_words(self, day)}
        await self.show("schedules.html", lines=lines, **told)


class SchedulePage(Page):
    """/schedules/NAME: one schedule; POST: what its buttons do."""

    needs = Right.SCHEDULES_VIEW
    section = "schedules"

    async def get(self, name: str) -> None:
        """What it is, what comes, what came."""
        before = self.get_query_argument("before", "")
        await self._show(name, int(before) if before.isascii() and before.isdecimal() and len(before) < 19 else None)

    async def post(self, name: str) -> None:
        """do: run, pause, resume, skip or unskip."""
        await self.demand(Right.SCHEDULES_MANAGE)
        typed = {field: self.get_body_argument(field, "")[: REASON_MAX_CHARS + 1] for field in ("reason", "instant")}
        typed["reason"] = typed["reason"] or self.get_body_argument("pause-reason", "")[: REASON_MAX_CHARS + 1]
        do = self.get_body_argument("do", "")
        try:
            async with self.site.transaction() as cur:
                if await store.find_schedule(cur, name) is None:
                    raise Refused(404, _NO_SCHEDULE)
                text, values = await self._do(cur, name, do, typed)
        except Refusal as error:
            self.set_status(409 if error.code == "schedule_stale" else 400)
            wrong = self._(REFUSALS.get(error.code, _REFUSED), **{"by": "", **error.values})
            await self._show(name, None, typed=typed | {"do": do}, wrong=wrong)
            return
        await self.notify(text, **values)
        self.redirect(f"/schedules/{name}", status=303)

    async def _do(self, cur: Cursor, name: str, do: str, typed: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        """Do it on record; a notice and its values."""
        actor, reason = self.user.actor, typed["reason"]
        kind = ("schedule", name, cur)
        if do == "run":
            key = self.get_body_argument("key", "")[:100] or secrets.token_urlsafe(16)
            job_id = await run_now(cur, database_clock, name, actor, request_key=key, note=reason)
            await self.record("schedule_run_asked", *kind, job=job_id, note=reason)
            return N_("The run is queued: job No. %(job)s."), {"job": str(job_id)}
        if do == "pause":
            if await pause_schedule(cur, database_clock, name, reason, actor, version=self._version()):
                await self.record("schedule_paused", *kind, note=reason)
            return N_("The schedule is paused."), {}
        if do == "resume":
            if await resume_schedule(cur, database_clock, name, actor, version=self._version()):
                await self.record("schedule_resumed", *kind)
            return N_("The schedule is on. What came meanwhile is not made up."), {}
        instant = typed["instant"]
        if do not in ("skip", "unskip") or not (instant.isascii() and instant.isdecimal() and len(instant) < 12):
            raise HTTPError(400)
        at = datetime.fromtimestamp(int(instant), UTC).isoformat()
        if do == "skip":
            await skip_instant(cur, database_clock, name, int(instant), reason, actor)
            await self.record("schedule_instant_skipped", *kind, at=at, note=reason)
            return N_("That run is skipped."), {}
        await unskip_instant(cur, database_clock, name, int(instant))
        await self.record("schedule_instant_unskipped", *kind, at=at)
        return N_("That run takes place after all."), {}

    def _version(self) -> int | None:
        version = self.get_body_argument("version", "")
        return int(version) if version.isascii() and version.isdecimal() and len(version) < 10 else None

    async def _show(
        self, name: str, before: int | None, *, typed: Mapping[str, str] | None = None, wrong: str = ""
    ) -> None:
        async with self.site.cursor() as cur:
            schedule = await store.find_schedule(cur, name)
            if schedule is None:
                raise Refused(404, _NO_SCHEDULE)
            now_s, working_days = await database_clock(cur), await read_working_days(cur)
            coming = await coming_of(cur, schedule, working_days, now_s)
            runs = await store.runs_of(cur, schedule.id, before=before, limit=RUNS_SHOWN + 1)
            since_s = now_s - (DAYS + 1) * DAY_S
            results = await store.day_results(cur, [schedule.id], since_s, now_s + DAY_S)
        days = last_days(results[schedule.id], local_day(schedule, now_s))
        coming_told = [told_coming(self, schedule, coming, instant) for instant in coming.instants]
        past = [run for run in runs[:RUNS_SHOWN] if run.planned_at.timestamp() <= now_s or run.decision != "skipped"]
        await self.show(
            "schedule.html",
            schedule=schedule,
            told=told_schedule(self, schedule, now_s),
            terms=terms_of(self, schedule),
            coming=coming_told,
            guessed=coming.guessed_years,
            runs=[told_run(self, schedule, run) for run in past],
            next_runs=f"/schedules/{name}?before={runs[RUNS_SHOWN - 1].id}" if len(runs) > RUNS_SHOWN else "",
            is_first=before is None,
            days=days,
            strip=strip_words(self, days),
            day_words=lambda day: day_words(self, day),
            outcome_words={outcome: self._(word) for outcome, word in words.OUTCOMES.items()},
            changed_by=actor_told(self, schedule.changed_by),
            skippable=[(str(at["at_s"]), at["text"]) for at in coming_told if not at["is_skipped"]],
            may_see_jobs=self.may(Right.JOBS_VIEW),
            may_manage=self.may(Right.SCHEDULES_MANAGE),
            typed=typed or {},
            wrong=wrong,
            key=secrets.token_urlsafe(16),
        )


def zone_of_schedule(schedule: Schedule) -> tzinfo:
    """Its zone; UTC where this program does not know it any more."""
    try:
        zone: ZoneInfo = zone_of(schedule.terms.zone)
    except ValueError:
        return UTC
    return zone


def local_day(schedule: Schedule, now_s: int) -> date:
    """The day that the clocks of its zone show."""
    return datetime.fromtimestamp(now_s, zone_of_schedule(schedule)).date()


def told_schedule(page: Page, schedule: Schedule, now_s: int) -> dict[str, Any]:
    """How a schedule stands, in the page's language."""
    state = state_of(schedule, now_s)
    try:
        rule = words.rule_words(page.spoken, parse_rule(schedule.terms.rule))
    except ValueError:
        rule = schedule.terms.rule
    coming = None if schedule.next_s is None else told_instant(page, schedule, schedule.next_s)
    return {
        "state": state,
        "state_word": page._(words.STATES[state]),
        "rule": rule,
        "kind": page._(title_of(schedule.terms.kind)),
        "note": page._(schedule.terms.note.replace("%", "%%")) if schedule.terms.note else "",
        "next": coming,
    }


def state_of(schedule: Schedule, now_s: int) -> str:
    """A code of words.STATES."""
    if schedule.problem:
        return "problem"
    if schedule.is_late(now_s):
        return "late"
    if schedule.state is ScheduleState.ON and schedule.next_s is None:
        return "ended"
    return "on" if schedule.state is ScheduleState.ON else "paused"


def told_instant(page: Page, schedule: Schedule, instant_s: int) -> dict[str, Any]:
    """An instant by the clocks of the schedule's zone."""
    zone = zone_of_schedule(schedule)
    moment = datetime.fromtimestamp(instant_s, zone)
    weekday = str(page.formats.locale.days["stand-alone"]["abbreviated"][moment.weekday()])
    return {"text": f"{weekday} {page.formats.instant(moment, zone)}", "machine": moment.isoformat(), "at_s": instant_s}


def told_coming(page: Page, schedule: Schedule, coming: ComingInstants, instant_s: int) -> dict[str, Any]:
    """A coming instant, and whether a person skipped it."""
    seconds = max(0, instant_s - int(page.now.timestamp()))
    step = DAY_S if seconds >= DAY_S else 60
    wait = page.formats.duration(seconds // step * step)
    told = told_instant(page, schedule, instant_s)
    return told | {"is_skipped": instant_s in coming.skipped, "wait": page._(N_("in %(time)s"), time=wait)}


def told_run(page: Page, schedule: Schedule, run: ScheduleRun) -> dict[str, Any]:
    """A run in the page's language."""
    reason = words.REASONS[run.reason]
    who = actor_told(page, run.decided_by) if run.reason is RunReason.ASKED else ""
    took = None if run.duration_s is None else page.formats.duration(round(run.duration_s))
    return {
        "run": run,
        "planned": told_instant(page, schedule, int(run.planned_at.timestamp())),
        "outcome": run.outcome,
        "outcome_word": page._(words.OUTCOMES[run.outcome]),
        "why": page._(reason, who=who),
        "took": took,
        "more": run.stands_for - 1,
    }


def actor_told(page: Page, actor: str) -> str:
    """Who acted, as the audit record names it, in words."""
    kind, _, name = actor.partition(":")
    return name if kind == "user" else page.word("actor", kind, name=name)


def terms_of(page: Page, schedule: Schedule) -> list[tuple[str, str, bool]]:
    """What a person set: terms, values, whether a value is code."""
    terms = schedule.terms
    late = page.formats.duration(terms.late_after_s)
    told = [
        (N_("Missed runs"), page._(words.MISSED[terms.missed], number=terms.missed_max)),
        (N_("A run is late after"), late),
        (N_("While a run is not over"), page._(words.OVERLAPS[terms.overlap])),
        (N_("At a change of the clocks"), page._(words.CLOCK_CHANGES[terms.clock_change])),
    ]
    if terms.arguments:
        told.append((_ARGUMENTS, ", ".join(f"{name}={value}" for name, value in terms.arguments.items())))
    if terms.stops_after is not None:
        moment = local_time(int(terms.stops_after.timestamp()), terms.zone)
        told.append((N_("Stops after"), page.formats.instant(moment, zone_of_schedule(schedule))))
    return [(page._(term), value, term == _ARGUMENTS) for term, value in told]


def strip_words(page: Page, days: Sequence[DayOfRuns]) -> str:
    """What the strip shows, in one line."""
    totals: Counter[str] = Counter()
    for day in days:
        totals.update(day.counts)
    counts = _counts_told(page, totals)
    return page._(N_("Runs of 30 days: %(counts)s"), counts=counts or page._(NP_("runs", "none")))


def _counts_told(page: Page, counts: Mapping[str, int]) -> str:
    told = (
        f"{page._(word).lower()}: {page.formats.count(counts[outcome])}"
        for outcome, word in words.OUTCOMES.items()
        if counts.get(outcome)
    )
    return ", ".join(told)


def day_words(page: Page, day: DayOfRuns) -> str:
    """A day of the strip: its date and what its runs came to."""
    counts = _counts_told(page, day.counts)
    return f"{page.formats.date(day.day)} — {counts or page._(N_('no runs'))}"
