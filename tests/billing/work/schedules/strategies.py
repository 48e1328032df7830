"""Random rules, zones and instants for the tests of schedules."""

from datetime import date

from hypothesis import strategies as st

from billing.work.schedules.instants import CLOCK_CHANGES, SchedulePlan
from billing.work.schedules.rules import (
    LAST,
    SHIFTS,
    DayNumber,
    DaysOfMonth,
    DaysOfWeek,
    EachWorkingDay,
    EveryDay,
    EveryMinutes,
    NthWeekday,
    NthWorkingDay,
    ScheduleRule,
    TimesOfDay,
)
from billing.work.schedules.working_days import SpecialDay, calendar_of_days

#: Clocks that changed in every way: by an hour north and south, by half an hour, at midnight, for good, over a date.
ZONES = (
    "Europe/Moscow", "Europe/Berlin", "America/New_York", "America/Santiago", "Australia/Lord_Howe", "Asia/Kathmandu",
    "Pacific/Apia", "America/Sao_Paulo", "Africa/Cairo", "UTC",
)  # fmt: skip

RUSSIA_2026 = calendar_of_days(
    [
        *(SpecialDay(date(2026, 1, day), False) for day in range(1, 12)),
        SpecialDay(date(2026, 2, 23), False),
        SpecialDay(date(2026, 3, 9), False),
        SpecialDay(date(2026, 5, 1), False),
        SpecialDay(date(2026, 5, 11), False),
        SpecialDay(date(2026, 6, 12), False),
        SpecialDay(date(2026, 11, 4), False),
        SpecialDay(date(2026, 12, 31), False),
        SpecialDay(date(2026, 11, 7), True),
    ],
    [2026],
)

minutes_of_day = st.integers(0, 1439)
nth = st.sampled_from((1, 2, 3, 4, 5, LAST))
month_days = st.one_of(
    st.builds(DayNumber, st.one_of(st.integers(1, 31), st.just(LAST))),
    st.builds(NthWeekday, nth, st.integers(0, 6)),
    st.builds(NthWorkingDay, st.one_of(st.integers(1, 23), st.just(LAST))),
)
days = st.one_of(
    st.just(EveryDay()),
    st.just(EachWorkingDay()),
    st.builds(DaysOfWeek, st.sets(st.integers(0, 6), min_size=1, max_size=6).map(lambda found: tuple(sorted(found)))),
    st.builds(
        DaysOfMonth,
        st.lists(month_days, min_size=1, max_size=3, unique=True).map(tuple),
        st.sampled_from(("", *SHIFTS)),
        st.sets(st.integers(1, 12), max_size=11).map(lambda found: tuple(sorted(found))),
    ),
)
windows = st.tuples(minutes_of_day, minutes_of_day).filter(lambda pair: pair[0] != pair[1])
hours = st.one_of(
    st.builds(TimesOfDay, st.sets(minutes_of_day, min_size=1, max_size=4).map(lambda found: tuple(sorted(found)))),
    st.builds(EveryMinutes, st.integers(1, 1440)),
    st.builds(
        lambda minutes, window: EveryMinutes(minutes, *window), st.sampled_from((5, 15, 60, 90, 120, 1440)), windows
    ),
)
rules = st.builds(ScheduleRule, days, hours)
plans = st.builds(
    SchedulePlan,
    rules,
    st.sampled_from(ZONES),
    st.just(RUSSIA_2026),
    st.sampled_from(CLOCK_CHANGES),
)
#: 1991 to 2099, so that an answer is inside the horizon.
instants = st.integers(662_688_000, 4_070_908_800)
