"""When a rule comes: its planned instants as a pure function of the rule, the zone and the working days.

Rules.
 1. An instant follows from its local day and hour alone, none from the one before it: whenever it is asked, and from
    wherever, the answer is the same. Two hours of one rule that fall on one instant are one.
 2. A time of the day is reached at the first instant at which the zone's clocks show it or have passed it. So with the
    rule ONCE, 02:30 that does not exist comes when the clocks jump over it, and 02:30 that comes twice comes the
    first time. With AS_SHOWN it comes as often as the clocks show it: not at all, or twice.
 3. Every so many minutes is elapsed time, counted from the start of the day's window: a change of the clocks makes the
    day longer or shorter and the step stays. Each day counts anew. A window that the clocks jumped over whole is none.
 4. Whole seconds of UTC outside; nothing before 1990 or after 2100 is answered: None.

Does not know: rows, which of the instants are due. What working days a year has that is not loaded is a guess
(working_days.py); who plans by one says so.
"""

import calendar as months
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from billing.calendar import HORIZON_END_S, HORIZON_START_S
from billing.work.schedules.rules import (
    DAY_MINUTES,
    LAST,
    DayNumber,
    DaysOfMonth,
    DaysOfWeek,
    EveryDay,
    EveryMinutes,
    MonthDay,
    NthWeekday,
    ScheduleRule,
)
from billing.work.schedules.working_days import SHIFT_DAYS, WorkingDays, moved, working_days_of
from ratingcore.bands import zone_of

ONCE: Final = "once"
AS_SHOWN: Final = "as_shown"
CLOCK_CHANGES: Final = (ONCE, AS_SHOWN)

_FIRST_DAY: Final = date(1989, 12, 31)
_LAST_DAY: Final = date(2101, 1, 1)
#: Local days that an instant may belong to before and after the date that its zone shows: a window that began the day
#: before, a date line that moved.
_REACH: Final = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class SchedulePlan:
    """A rule where it is in force.

    zone: an IANA name. clock_change: ONCE or AS_SHOWN (rule 2).
    """

    rule: ScheduleRule
    zone: str
    working_days: WorkingDays
    clock_change: str = ONCE


def next_instant(plan: SchedulePlan, after_s: int) -> int | None:
    """The first planned instant after ``after_s``, in UTC seconds; None: there is none before the year 2101.

    Raises:
        ValueError: an unknown zone.
    """
    best: int | None = None
    for day in _days_from(plan, _local_day(plan, after_s) - _REACH):
        instants = _of_day(plan, day)
        place = bisect_right(instants, after_s)
        if best is not None:  # the day after the one found: by clocks put back at midnight it may begin earlier
            best = min(best, instants[place]) if place < len(instants) else best
            break
        best = instants[place] if place < len(instants) else None
    return best if best is not None and best < HORIZON_END_S else None


def previous_instant(plan: SchedulePlan, until_s: int) -> int | None:
    """The last planned instant not after ``until_s``, in UTC seconds; None: there is none since 1990.

    Raises:
        ValueError: an unknown zone.
    """
    best: int | None = None
    for day in _days_until(plan, _local_day(plan, until_s) + _REACH):
        instants = _of_day(plan, day)
        place = bisect_right(instants, until_s)
        if best is not None:
            best = max(best, instants[place - 1]) if place else best
            break
        best = instants[place - 1] if place else None
    return best if best is not None and best >= HORIZON_START_S else None


def next_instants(plan: SchedulePlan, after_s: int, count: int) -> list[int]:
    """The first ``count`` planned instants after ``after_s``; fewer where the years end."""
    instants: list[int] = []
    while len(instants) < count and (coming := next_instant(plan, after_s)) is not None:
        instants.append(coming)
        after_s = coming
    return instants


def newest_instants(plan: SchedulePlan, after_s: int, until_s: int, count: int) -> list[int]:
    """The newest ``count`` planned instants in (after_s, until_s], ascending."""
    instants: list[int] = []
    while len(instants) < count and (past := previous_instant(plan, until_s)) is not None and past > after_s:
        instants.append(past)
        until_s = past - 1
    return instants[::-1]


def count_instants(plan: SchedulePlan, after_s: int, until_s: int) -> int:
    """How many planned instants are in (after_s, until_s]; costs a little per day, not per instant."""
    if until_s <= after_s:
        return 0
    count, last = 0, after_s
    end = _local_day(plan, until_s) + _REACH
    for day in _days_from(plan, _local_day(plan, after_s) - _REACH):
        if day > end:
            break
        instants = _of_day(plan, day)
        first, past = bisect_right(instants, last), bisect_right(instants, until_s)
        if past > first:
            count += past - first
            last = instants[past - 1]
    return count


def local_time(instant_s: int, zone: str) -> datetime:
    """The instant by the clocks of the zone."""
    return datetime.fromtimestamp(instant_s, zone_of(zone))


def _local_day(plan: SchedulePlan, instant_s: int) -> date:
    inside = min(max(instant_s, HORIZON_START_S), HORIZON_END_S)
    return local_time(inside, plan.zone).date()


def _of_day(plan: SchedulePlan, day: date) -> Sequence[int]:
    """The instants of a local day, ascending, no two the same."""
    zone, hours = zone_of(plan.zone), plan.rule.hours
    if isinstance(hours, EveryMinutes):
        return _window(zone, day, hours)
    walls = [datetime.combine(day, time(minute // 60, minute % 60)) for minute in hours.minutes]
    if plan.clock_change == AS_SHOWN:
        return sorted({instant for wall in walls for instant in _shown(zone, wall)})
    return sorted({_reached(zone, wall) for wall in walls})


def _window(zone: ZoneInfo, day: date, hours: EveryMinutes) -> Sequence[int]:
    step_s = 60 * hours.minutes
    midnight = datetime.combine(day, time())
    if hours.start is None or hours.end is None:
        return range(_reached(zone, midnight), _reached(zone, midnight + timedelta(days=1)), step_s)
    end_minute = hours.end if hours.end > hours.start else hours.end + DAY_MINUTES
    start_s = _reached(zone, midnight + timedelta(minutes=hours.start))
    end_s = _reached(zone, midnight + timedelta(minutes=end_minute))
    return range(start_s, end_s + 1, step_s) if start_s < end_s else range(0)


def _reached(zone: ZoneInfo, wall: datetime) -> int:
    """The first instant at which the clocks show ``wall`` or have passed it (as billing.calendar begins a day)."""
    instant_s = _utc_s(zone, wall)
    if _wall(zone, instant_s) == wall:
        return instant_s
    # The wall time is not there. Fold 0 gives it by the clock before the jump, fold 1 by the one after (PEP 495).
    span = range(_utc_s(zone, wall.replace(fold=1)) + 1, instant_s)
    return span.start + bisect_left(span, True, key=lambda second: _wall(zone, second) >= wall)


def _shown(zone: ZoneInfo, wall: datetime) -> Iterator[int]:
    """Every instant at which the clocks show ``wall``."""
    for fold in (0, 1):
        instant_s = _utc_s(zone, wall.replace(fold=fold))
        if _wall(zone, instant_s) == wall:
            yield instant_s


def _utc_s(zone: ZoneInfo, wall: datetime) -> int:
    return int(wall.replace(tzinfo=zone).astimezone(UTC).timestamp())


def _wall(zone: ZoneInfo, instant_s: int) -> datetime:
    return datetime.fromtimestamp(instant_s, zone).replace(tzinfo=None, fold=0)


def _days_from(plan: SchedulePlan, first: date) -> Iterator[date]:
    """The local days of a rule from a day on, ascending."""
    first = max(first, _FIRST_DAY)
    if isinstance(plan.rule.days, DaysOfMonth):
        year, month = (first - timedelta(days=SHIFT_DAYS)).year, (first - timedelta(days=SHIFT_DAYS)).month
        yield from _in_order(plan, 12 * year + month - 1, 1, first)
        return
    day = first
    while day <= _LAST_DAY:
        if _is_of_week(plan, day):
            yield day
        day += timedelta(days=1)


def _days_until(plan: SchedulePlan, last: date) -> Iterator[date]:
    """The local days of a rule up to a day, descending."""
    last = min(last, _LAST_DAY)
    if isinstance(plan.rule.days, DaysOfMonth):
        beyond = last + timedelta(days=SHIFT_DAYS)
        yield from _in_order(plan, 12 * beyond.year + beyond.month - 1, -1, last)
        return
    day = last
    while day >= _FIRST_DAY:
        if _is_of_week(plan, day):
            yield day
        day -= timedelta(days=1)


def _in_order(plan: SchedulePlan, month_number: int, step: int, limit: date) -> Iterator[date]:
    """Days of months onwards from a month, each once, those before ``limit`` left out.

    A shift moves a day by SHIFT_DAYS at most, so a day waits until no later month can put one before it.
    """
    assert isinstance(plan.rule.days, DaysOfMonth)
    waiting: set[date] = set()
    while True:
        year, month = divmod(month_number, 12)
        in_years = _FIRST_DAY.year <= year <= _LAST_DAY.year
        if in_years:
            waiting |= _days_of(plan.rule.days, year, month + 1, plan.working_days)
        edge = date(max(min(year, 9998), 1), month + 1, 1)
        settled = edge - timedelta(days=SHIFT_DAYS) if step > 0 else edge + timedelta(days=31 + SHIFT_DAYS)
        ready = {day for day in waiting if (day < settled if step > 0 else day > settled)} if in_years else waiting
        waiting = waiting - ready
        for day in sorted(ready, reverse=step < 0):
            if (day >= limit if step > 0 else day <= limit) and _FIRST_DAY <= day <= _LAST_DAY:
                yield day
        if not in_years and (year > _LAST_DAY.year) == (step > 0):
            return
        month_number += step


def _days_of(days: DaysOfMonth, year: int, month: int, working_days: WorkingDays) -> set[date]:
    if days.months and month not in days.months:
        return set()
    found = (_day_of(day, year, month, working_days) for day in days.days)
    return {moved(day, days.shift, working_days) for day in found if day is not None}


def _day_of(day: MonthDay, year: int, month: int, working_days: WorkingDays) -> date | None:
    length = months.monthrange(year, month)[1]
    if isinstance(day, DayNumber):
        return date(year, month, length if day.number == LAST else min(day.number, length))
    if isinstance(day, NthWeekday):
        first = 1 + (day.weekday - date(year, month, 1).weekday()) % 7
        candidates = [date(year, month, number) for number in range(first, length + 1, 7)]
    else:
        candidates = list(working_days_of(year, month, working_days))
    if day.nth == LAST:
        return candidates[-1] if candidates else None
    return candidates[day.nth - 1] if day.nth <= len(candidates) else None


def _is_of_week(plan: SchedulePlan, day: date) -> bool:
    days = plan.rule.days
    if isinstance(days, EveryDay):
        return True
    return day.weekday() in days.days if isinstance(days, DaysOfWeek) else plan.working_days.is_working(day)
