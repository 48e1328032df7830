"""Planned instants: in order, inverse, the same from wherever they are asked; each change of the clocks by name."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.work.schedules.instants import (
    AS_SHOWN,
    ONCE,
    SchedulePlan,
    count_instants,
    local_time,
    newest_instants,
    next_instant,
    next_instants,
    previous_instant,
)
from billing.work.schedules.rules import parse_rule
from billing.work.schedules.working_days import WEEKDAYS_ONLY, WorkingDays
from tests.billing.work.schedules.strategies import RUSSIA_2026, ZONES, instants, minutes_of_day, plans


def plan_of(text: str, zone: str, clock_change: str = ONCE, working_days: WorkingDays = WEEKDAYS_ONLY) -> SchedulePlan:
    return SchedulePlan(parse_rule(text), zone, working_days, clock_change)


def seconds(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def told(plan: SchedulePlan, after: str, count: int) -> list[str]:
    """Coming instants by the zone's clocks, with the offset."""
    coming = next_instants(plan, seconds(after), count)
    return [local_time(instant_s, plan.zone).isoformat(timespec="minutes") for instant_s in coming]


@settings(deadline=None)
@given(plans, instants)
def test_the_next_instant_is_after_and_the_previous_one_is_not(plan: SchedulePlan, at_s: int) -> None:
    coming, past = next_instant(plan, at_s), previous_instant(plan, at_s)
    assert coming is None or coming > at_s
    assert past is None or past <= at_s


@settings(deadline=None)
@given(plans, instants)
def test_next_and_previous_are_inverse(plan: SchedulePlan, at_s: int) -> None:
    coming = next_instant(plan, at_s)
    past = previous_instant(plan, at_s)
    if coming is not None:
        assert previous_instant(plan, coming) == coming
        assert previous_instant(plan, coming - 1) == past
    if past is not None:
        assert next_instant(plan, past - 1) == past
        assert next_instant(plan, past) == coming


@settings(deadline=None)
@given(plans, instants, st.data())
def test_an_instant_is_the_same_from_wherever_it_is_asked(plan: SchedulePlan, at_s: int, data: st.DataObject) -> None:
    past, coming = previous_instant(plan, at_s), next_instant(plan, at_s)
    if past is None or coming is None:
        return
    between = data.draw(st.integers(past, coming - 1))
    assert next_instant(plan, between) == coming
    assert previous_instant(plan, between) == past


@settings(deadline=None)
@given(plans, instants, st.integers(1, 20))
def test_instants_forwards_and_backwards_are_the_same_ones(plan: SchedulePlan, at_s: int, count: int) -> None:
    forwards = next_instants(plan, at_s, count)
    if not forwards:
        return
    assert newest_instants(plan, at_s, forwards[-1], count + 5) == forwards
    assert count_instants(plan, at_s, forwards[-1]) == len(forwards)


def slow_reached(zone: str, day: date, minute: int) -> int:
    """The judge: walk the minutes of UTC until the clocks show the time or have passed it."""
    wall = datetime.combine(day, datetime.min.time()) + timedelta(minutes=minute)
    instant = wall.replace(tzinfo=UTC) - timedelta(hours=30)
    while instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None) < wall:
        instant += timedelta(minutes=1)
    return int(instant.timestamp())


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(ZONES), st.dates(date(1991, 1, 1), date(2040, 1, 1)), minutes_of_day)
def test_a_time_of_the_day_comes_when_the_judge_sees_it(zone: str, day: date, minute: int) -> None:
    expected = slow_reached(zone, day, minute)
    plan = plan_of(f"daily at {minute // 60:02}:{minute % 60:02}", zone)
    assert next_instant(plan, expected - 1) == expected


@pytest.mark.parametrize("zone", ZONES)
def test_every_local_day_has_one_run_at_its_time_through_forty_years(zone: str) -> None:
    plan = plan_of("daily at 02:30", zone)
    coming = next_instants(plan, seconds("1991-01-01T12:00"), 366 * 40)
    days = [local_time(instant_s, zone).date() for instant_s in coming]
    every = [days[0] + timedelta(days=place) for place in range(len(days))]
    if zone == "Pacific/Apia":  # 30 December 2011 is not there: its run comes as the 31st begins
        every = [day.replace(day=31) if day == date(2011, 12, 30) else day for day in every]
    assert days == every


@pytest.mark.parametrize(
    ("zone", "rule", "after", "expected"),
    [
        # clocks go forward: 02:30 is not there and comes as they jump
        ("Europe/Berlin", "daily at 02:30", "2026-03-28T12:00", ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]),
        ("America/New_York", "daily at 02:30", "2026-03-07T12:00", ["2026-03-08T03:00-04:00"]),
        # half an hour forward: 02:00 to 02:30
        ("Australia/Lord_Howe", "daily at 02:15", "2026-10-03T00:00", ["2026-10-04T02:30+11:00"]),
        # clocks go back: the first of the two
        ("Europe/Berlin", "daily at 02:30", "2026-10-24T12:00", ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]),
        ("Australia/Lord_Howe", "daily at 01:45", "2026-04-04T00:00", ["2026-04-05T01:45+11:00"]),
        # Moscow: the last summer time, the change for good of 2011, the one of 2014
        ("Europe/Moscow", "daily at 02:30", "2010-10-30T12:00", ["2010-10-31T02:30+04:00"]),
        ("Europe/Moscow", "daily at 02:30", "2011-03-26T12:00", ["2011-03-27T03:00+04:00", "2011-03-28T02:30+04:00"]),
        ("Europe/Moscow", "daily at 01:30", "2014-10-25T12:00", ["2014-10-26T01:30+04:00", "2014-10-27T01:30+03:00"]),
        ("Europe/Moscow", "daily at 02:30", "2026-03-28T12:00", ["2026-03-29T02:30+03:00", "2026-03-30T02:30+03:00"]),
        # midnight is skipped in Cairo, comes twice in Santiago's autumn
        ("Africa/Cairo", "daily at 00:00", "2026-04-23T12:00", ["2026-04-24T01:00+03:00"]),
        (
            "America/Santiago",
            "daily at 23:30",
            "2026-04-04T12:00",
            ["2026-04-04T23:30-03:00", "2026-04-05T23:30-04:00"],
        ),
        # a date that is not there comes when the next one begins
        ("Pacific/Apia", "monthly on 30 at 12:00", "2011-12-15", ["2011-12-31T00:00+14:00", "2012-01-30T12:00+14:00"]),
    ],
)
def test_a_change_of_the_clocks_takes_no_run_and_adds_none(
    zone: str, rule: str, after: str, expected: list[str]
) -> None:
    assert told(plan_of(rule, zone), after, len(expected)) == expected


def test_as_the_clocks_show_it_comes_never_or_twice() -> None:
    plan = plan_of("daily at 02:30", "Europe/Berlin", AS_SHOWN)
    assert told(plan, "2026-03-28T12:00", 1) == ["2026-03-30T02:30+02:00"]
    assert told(plan, "2026-10-24T12:00", 2) == ["2026-10-25T02:30+02:00", "2026-10-25T02:30+01:00"]


def test_two_hours_that_fall_on_one_instant_are_one_run() -> None:
    plan = plan_of("daily at 02:30, 03:00", "Europe/Berlin")
    assert told(plan, "2026-03-28T12:00", 2) == ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]


@pytest.mark.parametrize(
    ("zone", "day", "runs"),
    [
        ("Europe/Berlin", "2026-03-29", 23 * 4),
        ("Europe/Berlin", "2026-10-25", 25 * 4),
        ("Australia/Lord_Howe", "2026-10-04", 23 * 4 + 2),
        ("Australia/Lord_Howe", "2026-04-05", 24 * 4 + 2),
        ("Europe/Moscow", "2014-10-26", 25 * 4),
        ("Europe/Moscow", "2026-03-29", 24 * 4),
    ],
)
def test_every_quarter_of_an_hour_follows_the_length_of_the_day(zone: str, day: str, runs: int) -> None:
    plan = plan_of("every 15 minutes", zone)
    start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone))
    end = (datetime.fromisoformat(day) + timedelta(days=1)).replace(tzinfo=ZoneInfo(zone))
    assert count_instants(plan, int(start.timestamp()) - 1, int(end.timestamp()) - 1) == runs


def test_a_step_of_elapsed_time_never_grows_with_the_clocks() -> None:
    plan = plan_of("every 2 hours", "Europe/Berlin")
    coming = next_instants(plan, seconds("2026-01-01"), 12 * 365)
    assert max(later - earlier for earlier, later in pairwise(coming)) == 7200


def test_a_window_holds_its_first_and_its_last_time() -> None:
    plan = plan_of("every 6 hours from 08:00 to 20:00 on mon", "Europe/Moscow")
    assert told(plan, "2026-11-30", 3) == [
        "2026-11-30T08:00+03:00",
        "2026-11-30T14:00+03:00",
        "2026-11-30T20:00+03:00",
    ]


def test_a_window_through_midnight_belongs_to_the_day_it_starts_on() -> None:
    plan = plan_of("every 4 hours from 22:00 to 06:00 on fri", "Europe/Moscow")
    assert told(plan, "2026-11-30", 4) == [
        "2026-12-04T22:00+03:00",
        "2026-12-05T02:00+03:00",
        "2026-12-05T06:00+03:00",
        "2026-12-11T22:00+03:00",
    ]


def test_a_window_that_the_clocks_jumped_over_is_none() -> None:
    plan = plan_of("every 5 minutes from 02:10 to 02:50", "Europe/Berlin")
    assert told(plan, "2026-03-28T12:00", 1) == ["2026-03-30T02:10+02:00"]


@pytest.mark.parametrize(
    ("rule", "after", "expected"),
    [
        ("monthly on 31 at 12:00", "2026-01-31T12:00", ["02-28", "03-31", "04-30"]),
        ("monthly on 29 of feb at 12:00", "2026-03-01", ["02-28", "02-29"]),
        ("monthly on last day at 12:00", "2026-01-31T12:00", ["02-28", "03-31", "04-30"]),
        ("monthly on 5th mon at 12:00", "2026-01-01", ["03-30", "06-29", "08-31"]),
        ("monthly on last fri at 12:00", "2026-01-01", ["01-30", "02-27", "03-27"]),
        ("working days at 12:00", "2026-01-01", ["01-12", "01-13", "01-14"]),
        ("working days at 12:00", "2026-11-05T20:00", ["11-06", "11-07", "11-09"]),
        ("monthly on 1st working day at 12:00", "2026-01-01", ["01-12", "02-02", "03-02"]),
        ("monthly on last working day at 12:00", "2026-12-01", ["12-30"]),
        ("monthly on 1, 3 or next working day of jan at 12:00", "2026-01-01", ["01-12", "01-01"]),
        ("monthly on 31 or next working day of oct at 12:00", "2026-10-01", ["11-02"]),
        ("monthly on 1 or previous working day of jan at 12:00", "2025-12-01", ["12-31", "01-01"]),
        ("monthly on 10 or previous working day of jan, feb at 12:00", "2025-12-02", ["12-31", "02-10"]),
    ],
)
def test_days_of_months_by_the_calendar_of_russia(rule: str, after: str, expected: list[str]) -> None:
    plan = plan_of(rule, "Europe/Moscow", working_days=RUSSIA_2026)
    assert [text[5:10] for text in told(plan, after, len(expected))] == expected


def test_a_rule_that_comes_no_more_has_no_next_instant() -> None:
    plan = plan_of("daily at 12:00", "UTC")
    assert next_instant(plan, seconds("2100-12-31T12:00")) is None
    assert previous_instant(plan, seconds("1990-01-01")) is None


def test_an_unknown_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        next_instant(plan_of("daily at 12:00", "Mars/Olympus"), 0)
