"""The calendar: periods tile time for every anchor, interval and zone of the world, and days add up.

The whole of it is three facts and each is walked to its end: which instant a local date starts with (every zone and
date), which dates a cadence starts on (every interval and anchor and the edges of its phases, against what each date
says of itself), and that periods start at the first instants of those dates (every zone with every anchor). The long
forms are slow ones.
"""

import struct
import zoneinfo
from bisect import bisect_left
from calendar import monthrange
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from operator import le, lt, ne
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.calendar import (
    HORIZON_END_S,
    HORIZON_START_S,
    MAX_COUNTS,
    Cadence,
    Interval,
    anchor_of,
    boundaries,
    days_between,
    days_of,
    local_midnight,
    period_containing,
    periods_of,
)
from tests.billing.usage.usage_files import UNHURRIED

NASTY = (
    "UTC",
    "Africa/Cairo",
    "Africa/Casablanca",
    "America/Asuncion",
    "America/Havana",
    "America/Sao_Paulo",
    "America/St_Johns",
    "Antarctica/Troll",
    "Asia/Beirut",
    "Asia/Gaza",
    "Asia/Kathmandu",
    "Asia/Pyongyang",
    "Australia/Lord_Howe",
    "Europe/Moscow",
    "Pacific/Apia",
    "Pacific/Kiritimati",
    "Pacific/Kwajalein",
)
#: All of the host's, without the files that are none (`zone_of` refuses those: localtime where a host has it).
EVERY = tuple(name for name in sorted(available_timezones()) if name not in {"localtime", "posixrules"})
SHORT_AND_WHOLE = pytest.mark.parametrize(
    "zones", [pytest.param(NASTY, id="nasty-zones"), pytest.param(EVERY, id="every-zone", marks=pytest.mark.slow)]
)
#: Dates that a zone leapt over, as its history tells; the zones are found by walking them all.
LEAPT = {
    "Pacific/Apia": date(2011, 12, 30),
    "Pacific/Fakaofo": date(2011, 12, 30),
    "Pacific/Kiritimati": date(1994, 12, 31),
    "Pacific/Kwajalein": date(1993, 8, 21),
}

FROM, UNTIL = date(1990, 1, 1), date(2061, 1, 1)
WALKED = [date.fromordinal(day) for day in range(FROM.toordinal(), UNTIL.toordinal())]
WALKED_ORDINALS = [day.toordinal() for day in WALKED]
FROM_S, UNTIL_S = 631_152_000, 2_871_763_200
DATES = [date.fromordinal(day) for day in range(date(1979, 1, 1).toordinal(), date(2112, 1, 1).toordinal())]
ORDINALS = np.array([day.toordinal() for day in DATES])
YEARS, MONTHS, DAYS = (np.array([getattr(day, name) for day in DATES]) for name in ("year", "month", "day"))
LASTS = np.array([monthrange(day.year, day.month)[1] for day in DATES])
WEEKDAYS = np.array([day.isoweekday() for day in DATES])
IN_REACH = (YEARS >= 1990) & (YEARS <= 2060)
WEEKS = (ORDINALS - date(1970, 1, 5).toordinal()) // 7


def tilings(counts: dict[str, tuple[int, ...]], anchor_months: tuple[int, ...]) -> list[Cadence]:
    """Every anchor day of every interval, in UTC."""
    found = []
    for unit in MAX_COUNTS:
        for count in counts[unit]:
            interval = Interval(unit, count)
            single = unit in ("day", "week") or interval == Interval("month")
            for day in range(1, {"day": 1, "week": 7}.get(unit, 31) + 1):
                months = (1,) if single else anchor_months
                sample = (0, 1, interval.steps // 2, interval.steps - 1) if day in (1, 31) else (0,)
                phases = sorted({*sample} & {*range(interval.steps)})
                found += [Cadence(interval, day, month, "UTC", phase) for month in months for phase in phases]
    return found


ALL_TILINGS = tilings(
    {
        "day": (1, 2, 3, 7, 10, 30, 90, 365, 1000),
        "week": (1, 2, 3, 4, 52, 500),
        "month": (1, 2, 3, 5, 6, 120),
        "quarter": (1, 2, 3, 40),
        "year": (1, 2, 3, 10),
    },
    tuple(range(1, 13)),
)
MAIN_TILINGS = tilings({"day": (1, 2, 30), "week": (1, 2), "month": (1, 2, 5), "quarter": (1, 2), "year": (1, 3)}, (2,))


def begins(cadence: Cadence) -> np.ndarray:
    """For each of DATES, whether a period begins on it: what the date says of itself, without any other."""
    unit, count = cadence.interval.unit, cadence.interval.count
    if unit == "day":
        return (ORDINALS - date(1970, 1, 5).toordinal() - cadence.anchor_phase) % count == 0
    if unit == "week":
        return (cadence.anchor_day == WEEKDAYS) & ((WEEKS - cadence.anchor_phase) % count == 0)
    months = count * {"month": 1, "quarter": 3, "year": 12}[unit]
    return (np.minimum(LASTS, cadence.anchor_day) == DAYS) & (
        (12 * YEARS + MONTHS - cadence.anchor_month - cadence.anchor_phase) % months == 0
    )


def instant(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def shown(time_s: int, zone: str) -> str:
    return datetime.fromtimestamp(time_s, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S")


def starts(cadence: Cadence, start: str, end: str) -> list[str]:
    return [shown(int(time_s), cadence.zone) for time_s in boundaries(cadence, instant(start), instant(end))]


def assert_no_clock_was_there_before(zone: ZoneInfo, ordinal: int, low: datetime, high: datetime) -> None:
    """Between two instants of the day before, whose offsets differ, no clock showed the day."""
    span = range(int(low.timestamp()), int(high.timestamp()) + 1)
    offset = high.utcoffset()
    change_s = span[bisect_left(span, True, key=lambda at_s: datetime.fromtimestamp(at_s, zone).utcoffset() == offset)]
    assert datetime.fromtimestamp(change_s - 1, zone).toordinal() < ordinal


def walk_days(zone_name: str) -> list[date]:
    """Assert that every date starts at its first instant, asking only what clocks show; returns the dates leapt over.

    What comes before the day before is that day's own assertion; no zone changed its clocks twice within a day.
    """
    zone = ZoneInfo(zone_name)
    starts_s = [local_midnight(day, zone_name) for day in WALKED]
    firsts = [datetime.fromtimestamp(start_s, zone) for start_s in starts_s]
    befores = [datetime.fromtimestamp(start_s - 1, zone) for start_s in starts_s]
    first_days, before_days = ([*map(datetime.toordinal, shown)] for shown in (firsts, befores))
    late = [place for place, ordinal in enumerate(WALKED_ORDINALS) if first_days[place] != ordinal]
    assert all(map(lt, before_days, WALKED_ORDINALS)), zone_name
    assert all(map(le, WALKED_ORDINALS, first_days)), zone_name
    begun, ended = ([*map(datetime.utcoffset, shown)] for shown in (firsts, befores))
    for place in np.flatnonzero([*map(ne, begun[:-1], ended[1:])]):
        if starts_s[place] < starts_s[place + 1]:
            assert_no_clock_was_there_before(zone, WALKED_ORDINALS[place + 1], firsts[place], befores[place + 1])
    return [WALKED[place] for place in late]


@SHORT_AND_WHOLE
def test_every_local_day_starts_with_its_first_instant(zones) -> None:
    leapt = {zone: days for zone in zones if (days := walk_days(zone))}
    assert {zone: [day] for zone, day in LEAPT.items() if zone in zones}.items() <= leapt.items()
    assert {day for days in leapt.values() for day in days} <= {*LEAPT.values(), date(1994, 12, 31)}


def test_every_interval_and_anchor_starts_on_the_dates_that_say_so() -> None:
    for cadence in ALL_TILINGS:
        days = boundaries(cadence, FROM_S, UNTIL_S) // 86_400 + date(1970, 1, 1).toordinal()
        says_so = ORDINALS[begins(cadence)]
        assert np.array_equal(days, says_so[(says_so >= days[0]) & (says_so <= days[-1])]), cadence
        assert days[0] <= FROM.toordinal() < days[1], cadence
        assert days[-2] < UNTIL.toordinal() <= days[-1], cadence
    assert {cadence.anchor_day for cadence in ALL_TILINGS} == set(range(1, 32))


@SHORT_AND_WHOLE
def test_periods_of_every_zone_and_anchor_start_at_the_first_instants_of_their_dates(zones) -> None:
    places = [np.flatnonzero(begins(cadence)[IN_REACH]) for cadence in MAIN_TILINGS]
    for zone in zones:
        midnights = np.array([local_midnight(day, zone) for day in WALKED])
        low_s, high_s = max(FROM_S, midnights[0]), min(UNTIL_S, midnights[-1])
        for cadence, begun in zip(MAIN_TILINGS, places, strict=True):
            here = replace(cadence, zone=zone)
            periods = boundaries(here, FROM_S, UNTIL_S)
            assert (periods[1:] > periods[:-1]).all(), here
            assert periods[0] <= FROM_S < periods[1], here
            assert periods[-2] < UNTIL_S <= periods[-1], here
            expected = midnights[begun]
            expected = expected[np.append(True, expected[1:] > expected[:-1])]  # dates leapt over are the next one's
            inside = periods[periods.searchsorted(low_s) : periods.searchsorted(high_s)]
            assert np.array_equal(inside, expected[expected.searchsorted(low_s) : expected.searchsorted(high_s)]), here


TIMES = st.integers(HORIZON_START_S, HORIZON_END_S - 1)
ZONES = st.sampled_from(NASTY) | st.sampled_from(EVERY)


@st.composite
def cadences(draw: st.DrawFn) -> Cadence:
    unit = draw(st.sampled_from(list(MAX_COUNTS)))
    count = draw(st.integers(1, 6) | st.integers(1, MAX_COUNTS[unit]))
    months = 1 if unit in ("day", "week") or (unit, count) == ("month", 1) else 12
    day = draw(st.integers(1, {"day": 1, "week": 7}.get(unit, 31)))
    interval = Interval(unit, count)
    phase = draw(st.integers(0, interval.steps - 1))
    return Cadence(interval, day, draw(st.integers(1, months)), draw(ZONES), phase)


@UNHURRIED
@given(cadences(), TIMES)
def test_any_period_runs_from_a_date_that_begins_one_to_the_next_such_date(cadence, time_s) -> None:
    start_s, end_s = period_containing(cadence, time_s)
    assert start_s <= time_s < end_s
    zone = ZoneInfo(cadence.zone)
    marks = [datetime.fromtimestamp(at_s, zone).toordinal() for at_s in (start_s - 1, start_s, end_s - 1, end_s)]
    begun = ORDINALS[begins(cadence)]
    # A date leapt over begins a period too: then one with the day after it, or together with that day's own.
    assert ((begun > marks[0]) & (begun <= marks[1])).any()
    assert ((begun > marks[2]) & (begun <= marks[3])).any()
    assert not ((begun > marks[1]) & (begun <= marks[2])).any()
    assert marks[0] < marks[1] <= marks[2] < marks[3]


@UNHURRIED
@given(cadences(), TIMES, TIMES)
def test_the_tiling_of_a_span_is_the_periods_in_it_one_after_another(cadence, one_s, other_s) -> None:
    from_s, until_s = sorted((one_s, other_s))
    until_s = min(until_s, from_s + 400 * 86_400)
    periods = [period_containing(cadence, from_s)]
    while periods[-1][1] < until_s:
        periods.append(period_containing(cadence, periods[-1][1]))
    tiling = boundaries(cadence, from_s, until_s)
    assert tiling.tolist() == [start_s for start_s, _ in periods] + [periods[-1][1]] * (until_s > periods[-1][0])
    times = np.array([from_s, *(start_s for start_s, _ in periods[1:])])
    found_starts, found_ends = periods_of(cadence, times)
    assert list(zip(found_starts.tolist(), found_ends.tolist(), strict=True)) == periods


@UNHURRIED
@given(ZONES, st.lists(TIMES | st.integers(1_325_000_000, 1_325_500_000), min_size=2, max_size=6))
def test_days_of_parts_sum_to_the_days_of_the_whole_however_a_span_is_split(zone, times) -> None:
    times.sort()
    parts = [days_between(start_s, end_s, zone) for start_s, end_s in pairwise(times)]
    assert sum(parts) == days_between(times[0], times[-1], zone)
    assert days_of(np.array(times[:-1]), np.array(times[1:]), zone).tolist() == parts


@UNHURRIED
@given(ZONES, st.dates(FROM, date(2100, 12, 1)), st.integers(0, 30))
def test_from_midnight_to_midnight_there_are_as_many_days_as_dates_that_the_zone_had(zone, day, count) -> None:
    days = [day + timedelta(days=number) for number in range(count + 1)]
    had = sum(local_midnight(one, zone) < local_midnight(one + timedelta(days=1), zone) for one in days[:-1])
    start_s = max(local_midnight(day, zone), HORIZON_START_S)
    missed = start_s > local_midnight(day, zone)
    assert days_between(start_s, max(start_s, local_midnight(days[-1], zone)), zone) == had - (missed and count > 0)


def test_the_thirty_first_does_not_drift() -> None:
    cadence = Cadence(Interval("month"), 31, 1, "Europe/Moscow")
    assert starts(cadence, "2026-01-31", "2026-04-30") == [
        "2026-01-31 00:00:00",
        "2026-02-28 00:00:00",
        "2026-03-31 00:00:00",
        "2026-04-30 00:00:00",
        "2026-05-31 00:00:00",
    ]


def test_a_year_from_29_february_starts_on_28_february_where_there_is_no_other() -> None:
    cadence = Cadence(Interval("year"), 29, 2, "UTC")
    assert [text[:10] for text in starts(cadence, "2023-03-01", "2025-03-01")] == [
        "2023-02-28",
        "2024-02-29",
        "2025-02-28",
        "2026-02-28",
    ]


def test_quarters_start_in_the_anchor_month_and_every_third_after_it() -> None:
    cadence = Cadence(Interval("quarter"), 30, 11, "UTC")
    found = [text[:10] for text in starts(cadence, "2026-11-30", "2027-08-30")]
    assert found == ["2026-11-30", "2027-02-28", "2027-05-30", "2027-08-30"]


INTERVALS = st.sampled_from([*MAX_COUNTS]).flatmap(
    lambda unit: st.builds(Interval, st.just(unit), st.integers(1, 6) | st.integers(1, MAX_COUNTS[unit]))
)


@UNHURRIED
@given(INTERVALS, st.dates(FROM, date(2100, 12, 1)), st.sampled_from(("UTC", "Europe/Moscow", "Asia/Kathmandu")))
def test_an_anchor_date_starts_a_period_of_every_interval(interval, day, zone) -> None:
    start_s = local_midnight(day, zone)
    if start_s >= HORIZON_START_S:
        assert period_containing(Cadence(interval, *_placed(anchor_of(interval, day), zone)), start_s)[0] == start_s


def _placed(anchor: tuple[int, int, int], zone: str) -> tuple[int, int, str, int]:
    day, month, phase = anchor
    return day, month, zone, phase


@UNHURRIED
@given(cadences(), TIMES)
def test_anchors_found_from_any_start_of_a_period_are_those_of_the_tiling(cadence, time_s) -> None:
    if cadence.anchor_day > 28:  # the last day of a short month names another anchor
        return
    cadence = replace(cadence, zone="UTC")
    start_s, _ = period_containing(cadence, time_s)
    found = anchor_of(cadence.interval, datetime.fromtimestamp(start_s, UTC).date())
    again = Cadence(cadence.interval, *_placed(found, "UTC"))
    span = HORIZON_START_S, HORIZON_END_S
    assert np.array_equal(boundaries(again, *span), boundaries(cadence, *span))


@pytest.mark.parametrize("interval", [Interval("day"), Interval("week", 2), Interval("quarter"), Interval("year", 2)])
def test_a_phase_is_less_than_a_period(interval) -> None:
    for phase in (-1, interval.steps):
        with pytest.raises(ValueError, match=f"is 0 to {interval.steps - 1}, not {phase}"):
            Cadence(interval, 1, 1, "UTC", phase)
    Cadence(interval, 1, 1, "UTC", interval.steps - 1)


def test_fortnights_without_a_phase_are_counted_from_the_first_week_of_1970() -> None:
    cadence = Cadence(Interval("week", 2), 1, 1, "UTC")
    found = [date.fromisoformat(text[:10]) for text in starts(cadence, "2026-11-02", "2026-11-30")]
    assert [day.isoweekday() for day in found] == [1] * len(found)
    assert {(day - date(1970, 1, 5)).days % 14 for day in found} == {0}


def test_a_period_holds_its_start_and_not_its_end() -> None:
    cadence = Cadence(Interval("month"), 1, 1, "Asia/Kathmandu")
    start_s, end_s = instant("2026-10-31T18:15"), instant("2026-11-30T18:15")
    assert period_containing(cadence, start_s) == period_containing(cadence, end_s - 1) == (start_s, end_s)
    assert period_containing(cadence, start_s - 1)[1] == start_s
    assert period_containing(cadence, end_s)[0] == end_s
    assert boundaries(cadence, start_s, end_s).tolist() == [start_s, end_s]
    assert boundaries(cadence, start_s, start_s).tolist() == [start_s]


@pytest.mark.parametrize(
    ("zone", "day", "start", "first_shown", "shown_before"),
    [
        # Midnight is not there: the clocks go from 23:59:59 to 01:00.
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00", "2018-11-04 01:00:00", "2018-11-03 23:59:59"),
        ("Asia/Beirut", "2026-03-29", "2026-03-28T22:00", "2026-03-29 01:00:00", "2026-03-28 23:59:59"),
        # The gap ends with midnight: 23:30 became 00:00.
        ("Asia/Pyongyang", "2018-05-05", "2018-05-04T15:00", "2018-05-05 00:00:00", "2018-05-04 23:29:59"),
        # Midnight comes twice: at 01:00 the clocks go back to it.
        ("America/Havana", "2026-11-01", "2026-11-01T04:00", "2026-11-01 00:00:00", "2026-10-31 23:59:59"),
        # At a minute past midnight the clocks go back into yesterday, and midnight comes again.
        ("America/St_Johns", "2010-11-07", "2010-11-07T02:30", "2010-11-07 00:00:00", "2010-11-06 23:59:59"),
        # Days that a zone leapt over start when the next one does.
        ("Pacific/Apia", "2011-12-30", "2011-12-30T10:00", "2011-12-31 00:00:00", "2011-12-29 23:59:59"),
        ("Pacific/Kwajalein", "1993-08-21", "1993-08-21T12:00", "1993-08-22 00:00:00", "1993-08-20 23:59:59"),
    ],
)
def test_a_day_starts_with_the_first_the_clocks_show_of_it(zone, day, start, first_shown, shown_before) -> None:
    start_s = local_midnight(date.fromisoformat(day), zone)
    assert start_s == instant(start)
    assert (shown(start_s, zone), shown(start_s - 1, zone)) == (first_shown, shown_before)


def test_a_day_starts_within_an_hour_that_a_change_of_clocks_took_or_gave_around_midnight(tmp_path) -> None:
    """No zone does that in these years (Toronto did in 1919), so one is made: clocks go from 23:30 to 00:30 on the
    last Sunday of March, and from 00:30 back to 23:30 on the last Sunday of October."""
    counts = struct.pack(">4sc15x6l", b"TZif", b"2", 0, 0, 0, 0, 1, 4) + struct.pack(">lBB4s", 0, 0, 0, b"AAA")
    (tmp_path / "Late").write_bytes(2 * counts + b"\nAAA0BBB,M3.5.0/23:30,M10.5.0/0:30\n")
    paths = zoneinfo.TZPATH
    zoneinfo.reset_tzpath(to=[str(tmp_path), *paths])
    try:
        assert walk_days("Late") == []
        assert shown(local_midnight(date(2026, 3, 30), "Late"), "Late") == "2026-03-30 00:30:00"
        assert local_midnight(date(2026, 3, 30), "Late") == instant("2026-03-29T23:30")
        assert local_midnight(date(2026, 10, 25), "Late") == instant("2026-10-24T23:00")
    finally:
        zoneinfo.reset_tzpath(to=paths)


def test_a_day_that_a_zone_leapt_over_makes_no_empty_period_and_counts_for_nobody() -> None:
    daily = Cadence(Interval("day"), 1, 1, "Pacific/Apia")
    found = [text[:10] for text in starts(daily, "2011-12-29T10:00", "2011-12-31T10:00")]
    assert found == ["2011-12-29", "2011-12-31", "2012-01-01"]
    december = period_containing(Cadence(Interval("month"), 1, 1, "Pacific/Apia"), instant("2011-12-15"))
    assert days_between(*december, "Pacific/Apia") == 30
    from_the_30th = Cadence(Interval("month"), 30, 1, "Pacific/Apia")
    assert [text[:10] for text in starts(from_the_30th, "2011-12-01", "2012-01-31")] == [
        "2011-11-30",
        "2011-12-31",
        "2012-01-30",
        "2012-02-29",
    ]


def test_a_day_counts_for_whoever_is_there_when_it_starts() -> None:
    march, noon, april = instant("2026-02-28T21:00"), instant("2026-03-10T09:00"), instant("2026-03-31T21:00")
    assert days_between(march, april, "Europe/Moscow") == 31
    assert days_between(march, noon, "Europe/Moscow") == 10
    assert days_between(noon, april, "Europe/Moscow") == 21
    assert days_between(noon, noon + 3_600, "Europe/Moscow") == 0
    assert days_between(march, march, "Europe/Moscow") == 0
    assert days_between(march, march + 1, "Europe/Moscow") == 1


def test_a_day_of_23_or_25_hours_is_one_day() -> None:
    for start, end in (("2026-03-28T23:00", "2026-03-29T22:00"), ("2026-10-24T22:00", "2026-10-25T23:00")):
        assert days_between(instant(start), instant(end), "Europe/Berlin") == 1
        daily = Cadence(Interval("day"), 1, 1, "Europe/Berlin")
        assert boundaries(daily, instant(start), instant(end)).tolist() == [instant(start), instant(end)]


@pytest.mark.parametrize("unit", MAX_COUNTS)
def test_the_longest_periods_are_whole_at_both_ends_of_the_horizon(unit) -> None:
    for day in (1, {"day": 1, "week": 7}.get(unit, 31)):
        for month in (1,) if unit in ("day", "week") else (1, 12):
            cadence = Cadence(Interval(unit, MAX_COUNTS[unit]), day, month, "Pacific/Kiritimati")
            tiling = boundaries(cadence, HORIZON_START_S, HORIZON_END_S)
            assert tiling[0] <= HORIZON_START_S < tiling[1]
            assert tiling[-2] < HORIZON_END_S <= tiling[-1]
            assert 900 * 86_400 < np.diff(tiling).min() <= np.diff(tiling).max() <= 3_653 * 86_400 + 7_200


def test_nothing_asked_is_nothing_answered() -> None:
    none = np.zeros(0, np.int64)
    assert [len(some) for some in periods_of(Cadence(Interval("week"), 5, 1, "UTC"), none)] == [0, 0]
    assert len(days_of(none, none, "UTC")) == 0


def test_nobody_can_write_into_a_tiling_that_others_share() -> None:
    tiling = boundaries(Cadence(Interval("month"), 1, 1, "UTC"), FROM_S, UNTIL_S)
    with pytest.raises(ValueError, match="read-only"):
        tiling[0] = 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Interval("fortnight"), "counted in day, week, month, quarter, year, not in 'fortnight'"),
        (lambda: Interval("month", 0), "1 to 120 months, not 0"),
        (lambda: Interval("year", 11), "1 to 10 years, not 11"),
        (lambda: Cadence(Interval("month"), 32, 1, "UTC"), "months have the anchor day 1 to 31, not 32"),
        (lambda: Cadence(Interval("week"), 8, 1, "UTC"), "weeks have the anchor day 1 to 7, not 8"),
        (lambda: Cadence(Interval("day", 3), 2, 1, "UTC"), "days have the anchor day 1, not 2"),
        (lambda: Cadence(Interval("month"), 1, 2, "UTC"), "one month have the anchor month 1, not 2"),
        (lambda: Cadence(Interval("month", 2), 1, 13, "UTC"), "2 months have the anchor month 1 to 12, not 13"),
        (lambda: Cadence(Interval("month"), 1, 1, "Mars/Olympus"), "no time zone 'Mars/Olympus'"),
    ],
)
def test_a_cadence_that_makes_no_sense_is_refused_in_words(make, words) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_times_outside_the_horizon_or_in_the_wrong_order_are_refused_in_words() -> None:
    monthly = Cadence(Interval("month"), 1, 1, "UTC")
    early_s, late_s = HORIZON_START_S - 1, HORIZON_END_S
    row, late_row = np.array([FROM_S]), np.array([late_s + 1])
    for ask, time_s in (
        (lambda: period_containing(monthly, early_s), early_s),
        (lambda: period_containing(monthly, late_s), late_s),
        (lambda: periods_of(monthly, np.array([FROM_S, early_s])), early_s),
        (lambda: periods_of(monthly, np.array([FROM_S, late_s])), late_s),
        (lambda: boundaries(monthly, early_s, FROM_S), early_s),
        (lambda: boundaries(monthly, FROM_S, late_s + 1), late_s + 1),
        (lambda: days_between(FROM_S, late_s + 1, "UTC"), late_s + 1),
        (lambda: days_of(row, late_row, "UTC"), late_s + 1),
    ):
        with pytest.raises(ValueError, match=rf"time {time_s} .* outside the calendar's years, 1990 to 2100"):
            ask()
    for ask in (
        lambda: boundaries(monthly, UNTIL_S, FROM_S),
        lambda: days_between(UNTIL_S, FROM_S, "UTC"),
        lambda: days_of(np.array([FROM_S, UNTIL_S]), np.array([UNTIL_S, FROM_S]), "UTC"),
    ):
        with pytest.raises(ValueError, match=f"a span from {UNTIL_S} to {FROM_S} .* ends before it starts"):
            ask()
    for day in (date(1989, 12, 31), date(2101, 1, 1)):
        with pytest.raises(ValueError, match=f"{day} is outside the calendar's years"):
            local_midnight(day, "UTC")
