"""What people call schedules: rules, results, reasons, in the language they read. Texts are msgids of billing.language.

Does not know: who shows them; zones.
"""

from collections.abc import Mapping
from typing import Final

from billing.language import N_, NP_, Language
from billing.work.schedules.records import Missed, Overlap, RunReason
from billing.work.schedules.rules import (
    LAST,
    DayNumber,
    DaysOfMonth,
    DaysOfWeek,
    EachWorkingDay,
    EveryMinutes,
    MonthDay,
    NthWorkingDay,
    ScheduleRule,
    clock_text,
)

#: How a schedule stands, by what `state_of` says.
STATES: Final[Mapping[str, str]] = {
    "on": NP_("schedule", "On"),
    "paused": NP_("schedule", "Paused"),
    "ended": NP_("schedule", "Ended"),
    "problem": NP_("schedule", "Has a problem"),
    "late": NP_("schedule", "Late"),
}

#: By ScheduleRun.outcome.
OUTCOMES: Final[Mapping[str, str]] = {
    "done": NP_("run", "Done"),
    "failed": NP_("run", "Failed"),
    "cancelled": NP_("run", "Cancelled"),
    "lost": NP_("run", "Result unknown"),
    "running": NP_("run", "Running"),
    "waiting": NP_("run", "Waiting"),
    "skipped": NP_("run", "Skipped"),
}

REASONS: Final[Mapping[RunReason, str]] = {
    RunReason.DUE: N_("By plan"),
    RunReason.CAUGHT_UP: N_("Made up late"),
    RunReason.ASKED: N_("Asked for by %(who)s"),
    RunReason.MISSED: N_("Nobody was there in time"),
    RunReason.MERGED: N_("One later run stands for it"),
    RunReason.TOO_MANY: N_("Older than those that are made up"),
    RunReason.OVERLAP: N_("The run before it was not over"),
    RunReason.QUEUE_FULL: N_("Too many runs waited"),
}

#: With ``number`` of those that are made up.
MISSED: Final[Mapping[Missed, str]] = {
    Missed.SKIP: N_("Are skipped"),
    Missed.ONCE: N_("One run stands for all"),
    Missed.EACH: N_("The newest %(number)s run one after another"),
}

OVERLAPS: Final[Mapping[Overlap, str]] = {
    Overlap.SKIP: N_("The next one is skipped"),
    Overlap.QUEUE: N_("The next one waits"),
}

CLOCK_CHANGES: Final[Mapping[str, str]] = {
    "once": NP_("clocks", "Once"),
    "as_shown": NP_("clocks", "As often as they show its time"),
}


def rule_words(language: Language, rule: ScheduleRule) -> str:
    """A rule as a phrase, with a capital.

    >>> from billing.language import language_of
    >>> from billing.work.schedules.rules import parse_rule
    >>> rule_words(language_of("en"), parse_rule("monthly on 10 or next working day of mar at 09:00"))
    'Monthly on the 10th or the next working day, in March, at 09:00'
    """
    days, hours = _days(language, rule), rule.hours
    if isinstance(hours, EveryMinutes):
        told = _every(language, hours)
        words = f"{told}, {days[:1].lower()}{days[1:]}" if days else told
    else:
        times = ", ".join(clock_text(minute) for minute in hours.minutes)
        words = language.gettext(N_("%(days)s at %(times)s"), days=days or language.gettext(N_("Daily")), times=times)
    return words[:1].upper() + words[1:]


def _every(language: Language, hours: EveryMinutes) -> str:
    if hours.minutes % 60:
        told = language.ngettext("every minute", "every %(num)s minutes", hours.minutes)
    else:
        told = language.ngettext("every hour", "every %(num)s hours", hours.minutes // 60)
    if hours.start is None or hours.end is None:
        return told
    span = {"start": clock_text(hours.start), "end": clock_text(hours.end)}
    return language.gettext(N_("%(every)s from %(start)s to %(end)s"), every=told, **span)


def _days(language: Language, rule: ScheduleRule) -> str:
    """Empty for each day."""
    days = rule.days
    if isinstance(days, EachWorkingDay):
        return language.gettext(N_("On working days"))
    if isinstance(days, DaysOfWeek):
        return language.gettext(N_("On %(days)s"), days=", ".join(_weekday(language, day) for day in days.days))
    if not isinstance(days, DaysOfMonth):
        return ""
    told = ", ".join(_month_day(language, day) for day in days.days)
    if days.shift == "next":
        told = language.gettext(N_("%(days)s or the next working day"), days=told)
    elif days.shift == "previous":
        told = language.gettext(N_("%(days)s or the previous working day"), days=told)
    if not days.months:
        return language.gettext(N_("Monthly on %(days)s"), days=told)
    names = language.formats.locale.months["stand-alone"]["wide"]
    months = ", ".join(names[month] for month in days.months)
    return language.gettext(N_("Monthly on %(days)s, in %(months)s,"), days=told, months=months)


def _month_day(language: Language, day: MonthDay) -> str:
    if isinstance(day, DayNumber):
        if day.number == LAST:
            return language.gettext(N_("the last day"))
        return language.gettext(N_("the %(nth)s"), nth=_nth(language, day.number))
    if isinstance(day, NthWorkingDay):
        if day.nth == LAST:
            return language.gettext(N_("the last working day"))
        return language.gettext(N_("the %(nth)s working day"), nth=_nth(language, day.nth))
    weekday = _weekday(language, day.weekday)
    if day.nth == LAST:
        return language.gettext(N_("the last %(weekday)s"), weekday=weekday)
    return language.gettext(N_("the %(nth)s %(weekday)s"), nth=_nth(language, day.nth), weekday=weekday)


def _nth(language: Language, number: int) -> str:
    if language.code != "en":
        return str(number)
    return f"{number}{'th' if number in (11, 12, 13) else {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th')}"


def _weekday(language: Language, day: int) -> str:
    return str(language.formats.locale.days["stand-alone"]["abbreviated"][day])
