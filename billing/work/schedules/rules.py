"""Calendar rules as people write them, as records, and back: ``monthly on 10 or next working day at 09:00``.

Rules.
 1. One line of English words is the rule in the database, the command and the pages. `parse_rule` reads it, `text_of`
    writes it in one canonical form, and the two are inverse.
 2. A rule names days and hours. Days: every day, days of the week, working days, or days of months. Hours: times of
    the day, or every so many minutes, all day or from one time through another (through midnight too).
 3. A day of the month that a month lacks is its last day, as the anchors of billing periods are (billing.calendar). A
    fifth Monday or a twentieth working day that a month lacks is none.
 4. A shift moves a day of the month that is no working day to the next or previous one, over the end of the month too.
 5. Cron lines are not read: they cannot say a last day, a working day or what happens at a change of the clocks.

    every 15 minutes                               daily at 03:00
    every 2 hours from 08:00 to 20:00              weekly on mon, thu at 03:00, 15:30
    every 5 minutes on working days                working days at 09:00
    monthly on 1, last day at 00:30                monthly on 2nd tue at 10:00
    monthly on 10 or next working day of mar, jun, sep, dec at 09:00
    monthly on 3rd working day at 12:00            monthly on last working day at 18:00

Does not know: zones and instants (instants.py), which days are working days (working_days.py).
"""

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from billing.refusals import Refusal

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
#: Which of its kind in a month; the last is -1.
LAST: Final = -1
_ORDINALS: Final = {1: "1st", 2: "2nd", 3: "3rd", 21: "21st", 22: "22nd", 23: "23rd", 31: "31st"}
SHIFTS: Final = ("next", "previous")

DAY_MINUTES: Final = 24 * 60
MAX_TIMES: Final = 48
MAX_RULE_CHARS: Final = 500
#: A month has no more working days than that.
MAX_WORKING_DAY: Final = 23

EXAMPLES: Final = (
    "every 15 minutes",
    "every 2 hours from 08:00 to 20:00 on mon-fri",
    "daily at 03:00",
    "weekly on mon, thu at 03:00",
    "working days at 09:00",
    "monthly on 1, last day at 00:30",
    "monthly on 2nd tue at 10:00",
    "monthly on last working day at 18:00",
    "monthly on 10 or next working day of mar, jun, sep, dec at 09:00",
)


class RuleRefused(Refusal):
    """The text is no rule; the sentence says what is wrong and shows rules that are."""

    default_code = "schedule_rule"


@dataclass(frozen=True, slots=True)
class TimesOfDay:
    """minutes: after midnight by the clocks of the zone, ascending, no two the same."""

    minutes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EveryMinutes:
    """Every so many minutes of elapsed time, counted from the start of each day's window.

    start, end: minutes after midnight, both within; the end is on the next day where it is not after the start. None,
    None: from midnight until the next day begins.
    """

    minutes: int
    start: int | None = None
    end: int | None = None


@dataclass(frozen=True, slots=True)
class EveryDay:
    """Each day."""


@dataclass(frozen=True, slots=True)
class DaysOfWeek:
    """days: 0 is Monday; ascending."""

    days: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EachWorkingDay:
    """Each working day of the loaded calendar."""


@dataclass(frozen=True, slots=True)
class DayNumber:
    """number: 1 to 31, or LAST."""

    number: int


@dataclass(frozen=True, slots=True)
class NthWeekday:
    """nth: 1 to 5, or LAST. weekday: 0 is Monday."""

    nth: int
    weekday: int


@dataclass(frozen=True, slots=True)
class NthWorkingDay:
    """nth: 1 to MAX_WORKING_DAY, or LAST."""

    nth: int


MonthDay: TypeAlias = "DayNumber | NthWeekday | NthWorkingDay"


@dataclass(frozen=True, slots=True)
class DaysOfMonth:
    """shift: "", "next" or "previous" (rule 4). months: 1 to 12, ascending; empty: each month."""

    days: tuple[MonthDay, ...]
    shift: str = ""
    months: tuple[int, ...] = ()


Days: TypeAlias = "EveryDay | DaysOfWeek | EachWorkingDay | DaysOfMonth"
Hours: TypeAlias = "TimesOfDay | EveryMinutes"


@dataclass(frozen=True, slots=True)
class ScheduleRule:
    """What a line of words says."""

    days: Days
    hours: Hours

    @property
    def needs_working_days(self) -> bool:
        """Whether its days depend on the calendar of working days."""
        if isinstance(self.days, DaysOfMonth):
            return bool(self.days.shift) or any(isinstance(day, NthWorkingDay) for day in self.days.days)
        return isinstance(self.days, EachWorkingDay)


_TIME: Final = r"\d{1,2}:\d{2}"
_EVERY: Final = re.compile(
    rf"every (?:(?P<count>\d{{1,6}}) )?(?P<unit>minutes?|hours?)"
    rf"(?: from (?P<start>{_TIME}) to (?P<end>{_TIME}))?(?: on (?P<days>.+))?"
)
_AT: Final = re.compile(r"(?P<days>.+) at (?P<times>[^a-z]+)")
_MONTHLY: Final = re.compile(
    r"monthly on (?P<days>.+?)(?: or (?P<shift>next|previous) working day)?(?: of (?P<months>[a-z ,-]+))?"
)
_NTH: Final = re.compile(r"(?:(?P<nth>\d{1,2})(?:st|nd|rd|th)|last) (?P<what>[a-z ]+)")
_RANGE: Final = re.compile(r"([a-z]+) ?- ?([a-z]+)")


def parse_rule(text: str) -> ScheduleRule:
    """A line of words as a rule.

    Raises:
        RuleRefused: it is none.

    >>> parse_rule("daily at 3:00")
    ScheduleRule(days=EveryDay(), hours=TimesOfDay(minutes=(180,)))
    """
    if len(text) > MAX_RULE_CHARS:
        raise RuleRefused(f"a rule has {MAX_RULE_CHARS} characters at most", text=text[:40])
    words = re.sub(r"\s+", " ", text.lower()).strip()
    words = re.sub(r" ?(?:,| and ) ?", ", ", words)
    every = _EVERY.fullmatch(words)
    if every is not None:
        days = _days(every["days"], text, weekly="") if every["days"] else EveryDay()
        return ScheduleRule(days, _every(every, text))
    at = _AT.fullmatch(words)
    if at is None:
        raise _refused(text, "it names no hours: end it with `at 03:00`, or begin it with `every 15 minutes`")
    return ScheduleRule(_days(at["days"], text, weekly="weekly on "), TimesOfDay(_times(at["times"], text)))


def text_of(rule: ScheduleRule) -> str:
    """The canonical line of a rule.

    >>> text_of(parse_rule("Monthly on last  friday and 1 at 9:05"))
    'monthly on last fri, 1 at 09:05'
    """
    days = _days_text(rule.days)
    if isinstance(rule.hours, TimesOfDay):
        if isinstance(rule.days, DaysOfWeek):
            days = f"weekly on {days}"
        return f"{days or 'daily'} at {', '.join(clock_text(minute) for minute in rule.hours.minutes)}"
    hours = every_text(rule.hours.minutes)
    if rule.hours.start is not None and rule.hours.end is not None:
        hours += f" from {clock_text(rule.hours.start)} to {clock_text(rule.hours.end)}"
    return f"{hours} on {days}" if days else hours


def clock_text(minute: int) -> str:
    """Minutes after midnight as a clock shows them."""
    return f"{minute // 60:02}:{minute % 60:02}"


def every_text(minutes: int) -> str:
    """``every 15 minutes``, ``every hour``, ``every 2 hours``."""
    count, unit = (minutes // 60, "hour") if minutes % 60 == 0 else (minutes, "minute")
    return f"every {unit}" if count == 1 else f"every {count} {unit}s"


def _every(match: re.Match[str], text: str) -> EveryMinutes:
    minutes = int(match["count"] or 1) * (60 if match["unit"].startswith("hour") else 1)
    if not 1 <= minutes <= DAY_MINUTES:
        raise _refused(text, "it may come every minute at most, and every 24 hours at least")
    if match["start"] is None:
        return EveryMinutes(minutes)
    start, end = _minute(match["start"], text), _minute(match["end"], text)
    if start == end:
        raise _refused(text, "its hours end where they start: leave them out for the whole day")
    return EveryMinutes(minutes, start, end)


def _times(words: str, text: str) -> tuple[int, ...]:
    minutes = sorted({_minute(word, text) for word in words.split(", ")})
    if len(minutes) > MAX_TIMES:
        raise _refused(text, f"it names {len(minutes)} times, {MAX_TIMES} at most: write `every 15 minutes` for more")
    return tuple(minutes)


def _minute(word: str, text: str) -> int:
    if not re.fullmatch(_TIME, word.strip()):
        raise _refused(text, f"`{word.strip()[:20]}` is no time such as 03:00")
    hour, minute = (int(part) for part in word.split(":"))
    if hour > 23 or minute > 59:
        raise _refused(text, f"`{word}` is no time: a day has 00:00 to 23:59")
    return hour * 60 + minute


def _days(words: str, text: str, weekly: str) -> Days:
    if words == "daily":
        return EveryDay()
    if words.removeprefix("on ") in ("working days", "working day"):
        return EachWorkingDay()
    monthly = _MONTHLY.fullmatch(words)
    if monthly is not None:
        days = tuple(dict.fromkeys(_month_day(word, text) for word in monthly["days"].split(", ")))
        months = _named(monthly["months"], MONTHS, "month", text) if monthly["months"] else ()
        whole_year = len(months) == len(MONTHS)
        return DaysOfMonth(days, monthly["shift"] or "", () if whole_year else tuple(month + 1 for month in months))
    if not words.startswith(weekly):
        raise _refused(text, f"`{words[:40]}` names no days")
    weekdays = _named(words.removeprefix(weekly), WEEKDAYS, "day of the week", text)
    return EveryDay() if len(weekdays) == len(WEEKDAYS) else DaysOfWeek(weekdays)


def _named(words: str, names: tuple[str, ...], what: str, text: str) -> tuple[int, ...]:
    """Places of names and ranges of names, such as ``mon, wed-fri``; a range may pass the end: sat-mon."""
    places: set[int] = set()
    for word in words.split(", "):
        between = _RANGE.fullmatch(word)
        if between is None:
            places.add(_place(word, names, what, text))
            continue
        first, last = (_place(name, names, what, text) for name in between.groups())
        places.update((first + step) % len(names) for step in range((last - first) % len(names) + 1))
    return tuple(sorted(places))


def _place(word: str, names: tuple[str, ...], what: str, text: str) -> int:
    full = _FULL_NAMES.get(word, word)
    if full not in names:
        raise _refused(text, f"`{word[:40]}` is no {what}: they are {', '.join(names)}")
    return names.index(full)


_FULL_NAMES: Final = {
    "monday": "mon", "tuesday": "tue", "wednesday": "wed", "thursday": "thu", "friday": "fri", "saturday": "sat",
    "sunday": "sun", "january": "jan", "february": "feb", "march": "mar", "april": "apr", "june": "jun", "july": "jul",
    "august": "aug", "september": "sep", "october": "oct", "november": "nov", "december": "dec",
}  # fmt: skip


def _month_day(word: str, text: str) -> MonthDay:
    if word.isdecimal():
        if not 1 <= int(word[:4]) <= 31:
            raise _refused(text, f"a month has no day {word[:20]}: 1 to 31, or `last day`")
        return DayNumber(int(word))
    nth = _NTH.fullmatch(word)
    if nth is None:
        raise _refused(text, f"`{word[:40]}` is no day of a month")
    number = LAST if nth["nth"] is None else int(nth["nth"])
    if nth["what"] == "day":
        if number != LAST and not 1 <= number <= 31:
            raise _refused(text, f"a month has no {word[:20]}: 1 to 31, or `last day`")
        return DayNumber(number)
    most = MAX_WORKING_DAY if nth["what"] == "working day" else 5
    if number != LAST and not 1 <= number <= most:
        raise _refused(text, f"a month has no {word[:40]}: 1st to {ordinal(most)}, or last")
    if nth["what"] == "working day":
        return NthWorkingDay(number)
    return NthWeekday(number, _place(nth["what"], WEEKDAYS, "day of the week", text))


def _days_text(days: Days) -> str:
    """Empty for each day."""
    if isinstance(days, EveryDay):
        return ""
    if isinstance(days, EachWorkingDay):
        return "working days"
    if isinstance(days, DaysOfWeek):
        return ", ".join(WEEKDAYS[day] for day in days.days)
    words = f"monthly on {', '.join(_month_day_text(day) for day in days.days)}"
    if days.shift:
        words += f" or {days.shift} working day"
    return f"{words} of {', '.join(MONTHS[month - 1] for month in days.months)}" if days.months else words


def _month_day_text(day: MonthDay) -> str:
    if isinstance(day, DayNumber):
        return "last day" if day.number == LAST else str(day.number)
    nth = "last" if day.nth == LAST else ordinal(day.nth)
    return f"{nth} working day" if isinstance(day, NthWorkingDay) else f"{nth} {WEEKDAYS[day.weekday]}"


def ordinal(number: int) -> str:
    """1st, 2nd, 3rd, 4th."""
    return _ORDINALS.get(number, f"{number}th")


def _refused(text: str, why: str) -> RuleRefused:
    examples = "; ".join(EXAMPLES)
    return RuleRefused(f"{text.strip()[:80]!r} is no rule: {why}. Rules look like: {examples}", text=text, why=why)
