"""Time bands: the two ways to the same answer, the days clocks change, and rules that do not tile a week."""

from datetime import UTC, date, datetime
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ratingcore.bands import DAYS, Calendar, Rule, band_at, calendar_of, edges_of

WORK, REST = DAYS[:5], DAYS[5:]
RULES = (
    Rule(WORK, 0, 480, "night"),
    Rule(WORK, 480, 1320, "day"),
    Rule(WORK, 1320, 1440, "night"),
    Rule(REST, 0, 1440, "weekend"),
)


def instant(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def named_edges(calendar: Calendar, start: str, end: str) -> list[tuple[str, str]]:
    return [
        (datetime.fromtimestamp(time_s, UTC).strftime("%d %H:%M"), calendar.bands[band])
        for time_s, band in edges_of(calendar, instant(start), instant(end))
    ]


def test_a_week_in_moscow_changes_where_its_rules_say() -> None:
    calendar = calendar_of("Europe/Moscow", RULES)
    assert named_edges(calendar, "2026-03-26T12:00", "2026-03-30T06:00") == [
        ("26 12:00", "day"),
        ("26 19:00", "night"),
        ("27 05:00", "day"),
        ("27 19:00", "night"),
        ("27 21:00", "weekend"),
        ("29 21:00", "night"),
        ("30 05:00", "day"),
    ]


def test_a_holiday_follows_its_own_rules_whatever_its_weekday() -> None:
    calendar = calendar_of("Europe/Moscow", RULES, [date(2026, 5, 1)])
    assert named_edges(calendar, "2026-04-30T18:00", "2026-05-02T00:00") == [
        ("30 18:00", "day"),
        ("30 19:00", "night"),
        ("30 21:00", "weekend"),
    ]


HOURS = tuple(Rule(DAYS, 60 * hour, 60 * hour + 60, f"hour {hour}") for hour in range(24))


def test_the_hour_that_never_was_has_no_band_when_clocks_go_forward() -> None:
    edges = named_edges(calendar_of("Europe/Berlin", HOURS), "2026-03-29T00:00", "2026-03-29T02:00")
    assert edges == [("29 00:00", "hour 1"), ("29 01:00", "hour 3")]


def test_the_hour_that_is_lived_twice_has_its_band_twice_when_clocks_go_back() -> None:
    edges = named_edges(calendar_of("Europe/Berlin", HOURS), "2026-10-24T23:00", "2026-10-25T03:00")
    assert edges == [("24 23:00", "hour 1"), ("25 00:00", "hour 2"), ("25 02:00", "hour 3")]


def test_a_band_that_ends_within_the_repeated_hour_comes_back() -> None:
    rules = [Rule(DAYS, 0, 150, "before"), Rule(DAYS, 150, 1440, "after")]
    edges = named_edges(calendar_of("Europe/Berlin", rules), "2026-10-24T23:00", "2026-10-25T03:00")
    assert edges == [("24 23:00", "before"), ("25 00:30", "after"), ("25 01:00", "before"), ("25 01:30", "after")]


#: Half hours, a change of 30 minutes, one that is suspended in Ramadan, a day left out, offsets of 45 minutes.
ZONES = [
    ("Europe/Moscow", "2014-10-20T00:00"),
    ("Europe/Berlin", "2026-03-25T00:00"),
    ("Europe/Berlin", "2026-10-20T00:00"),
    ("Australia/Lord_Howe", "2026-04-01T00:00"),
    ("Africa/Casablanca", "2026-02-12T00:00"),
    ("Pacific/Apia", "2011-12-27T00:00"),
    ("Asia/Kathmandu", "2026-01-01T00:00"),
    ("America/St_Johns", "2026-11-01T00:00"),
]


@pytest.mark.parametrize(("zone", "start"), ZONES)
@given(cuts=st.sets(st.integers(1, 1439), max_size=5), offset=st.integers(0, 86_400), holiday=st.booleans())
@settings(max_examples=5, deadline=None)
def test_edges_agree_with_the_wall_clock_at_every_minute(
    zone: str, start: str, cuts: set[int], offset: int, holiday: bool
) -> None:
    start_s = instant(start) + offset
    spans = list(pairwise([0, *sorted(cuts), 1440]))
    rules = [Rule(WORK, *span, f"work {number % 3}") for number, span in enumerate(spans)]
    rules.append(Rule(REST, 0, 1440, "rest"))
    days = [datetime.fromtimestamp(start_s + 86_400, UTC).date()] if holiday else []
    calendar = calendar_of(zone, rules, days)
    edges = edges_of(calendar, start_s, start_s + 7 * 86_400)
    assert edges[0][0] == start_s
    for (time_s, band), (next_s, next_band) in pairwise([*edges, (start_s + 7 * 86_400, -1)]):
        assert time_s < next_s
        assert band != next_band
        probes = {time_s, next_s - 1, (time_s + next_s) // 2, *range(time_s - time_s % 60 + 60, next_s, 60 * 17)}
        assert {band_at(calendar, probe) for probe in probes} == {band}
        if time_s > start_s:
            assert band_at(calendar, time_s - 1) != band


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([Rule(DAYS, 0, 1380, "day")], "mon 23:00 is in no band"),
        ([Rule(DAYS, 60, 1440, "day")], "mon 00:00 is in no band"),
        ([Rule(DAYS, 0, 600, "day"), Rule(DAYS, 540, 1440, "late")], "mon 09:00 is in two bands, 'day' and 'late'"),
        ([Rule(WORK, 0, 1440, "day")], "sat 00:00 is in no band"),
        ([Rule(DAYS[:7], 0, 1440, "day")], "holiday 00:00 is in no band"),
        ([Rule(("monday",), 0, 1440, "day")], "not monday"),
        ([Rule((), 0, 1440, "day")], "not none"),
        ([Rule(DAYS, 600, 600, "day")], "no part of a day"),
        ([Rule(DAYS, 0, 1441, "day")], "no part of a day"),
        ([], "1 to 31 bands"),
        ([Rule(DAYS, 40 * n, 40 * n + 40, f"b{n}") for n in range(36)], "1 to 31 bands, not 36"),
    ],
)
def test_rules_that_do_not_tile_a_week_are_refused_with_an_example(rules: list[Rule], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        calendar_of("Europe/Moscow", rules)


@pytest.mark.parametrize("zone", ["localtime", "posixrules", "posix/Europe/Moscow", "right/Europe/Moscow"])
def test_files_of_the_host_that_are_no_zones_are_refused(zone: str) -> None:
    with pytest.raises(ValueError, match="is a file of this host, not a time zone such as Europe/Moscow"):
        calendar_of(zone, RULES)


@pytest.mark.parametrize("zone", ["Europe/Moskow", "", "../etc/passwd", "/etc/localtime", "Europe"])
def test_a_zone_there_is_not_is_refused(zone: str) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        calendar_of(zone, RULES)


def test_a_time_before_standard_time_is_refused() -> None:
    calendar = calendar_of("Europe/Moscow", RULES)
    with pytest.raises(ValueError, match="whole minutes"):
        edges_of(calendar, instant("1900-01-01T00:00"), instant("1900-01-02T00:00"))
