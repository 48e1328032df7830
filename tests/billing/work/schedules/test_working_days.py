"""Working days: what a calendar says, what a file must be, which day a shift finds."""

from datetime import date

import pytest

from billing.work.schedules.working_days import (
    WEEKDAYS_ONLY,
    SpecialDay,
    WorkingDaysRefused,
    calendar_of_days,
    moved,
    read_calendar_file,
    working_days_of,
)
from tests.billing.work.schedules.strategies import RUSSIA_2026

FILE = """date,kind,note
2026-01-01,off,New Year
2026-01-02,off
2026-11-07,working,Saturday for Monday the 9th

2026-11-09,off,
"""


def test_a_file_tells_days_off_and_working_saturdays() -> None:
    assert read_calendar_file("ru.csv", FILE) == [
        SpecialDay(date(2026, 1, 1), False, "New Year"),
        SpecialDay(date(2026, 1, 2), False),
        SpecialDay(date(2026, 11, 7), True, "Saturday for Monday the 9th"),
        SpecialDay(date(2026, 11, 9), False),
    ]


def test_excel_writes_a_mark_at_the_beginning_and_other_ends_of_lines() -> None:
    assert read_calendar_file("ru.csv", "\ufeff" + FILE.replace("\n", "\r\n")) == read_calendar_file("ru.csv", FILE)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "ru.csv:1: the file is empty"),
        ("day;kind\n", "ru.csv:1: the headings are date,kind"),
        ("date,kind\n", "ru.csv:2: the file names no day"),
        ("date,kind\n2026-01-01\n", "ru.csv:2: 1 values where the headings name 2"),
        ("date,kind\n2026-01-01,off,x\n", "ru.csv:2: 3 values where the headings name 2"),
        ("date,kind\n01.01.2026,off\n", "ru.csv:2: '01.01.2026' is no date such as 2026-01-31"),
        ("date,kind\n2026-02-29,off\n", "ru.csv:2: '2026-02-29' is no date"),
        ("date,kind\n1926-01-01,off\n", "ru.csv:2: 1926-01-01 is outside the years 1990 to 2100"),
        ("date,kind\n2026-01-01,holiday\n", "ru.csv:2: 'holiday' is no kind of day: they are off and working"),
        ("date,kind\n2026-01-01,off\n2026-01-01,off\n", "ru.csv:3: 2026-01-01 stands on line 2 already"),
        ("date,kind,note\n2026-01-01,off," + "x" * 201 + "\n", "ru.csv:2: a note has 200 characters at most"),
        ("date,kind\n" + "2026-01-01,off\n" * 10_001, "ru.csv:3: 2026-01-01 stands on line 2"),
        ("date,kind\n" + "\n" * 10_001, "ru.csv:10001: a calendar has 10,000 lines at most"),
        ('date,kind\n2026-01-01,"off\n', "ru.csv:2: not CSV"),
        ('"date,kind\n', "ru.csv:1: not CSV"),
        (
            "date,kind\n" + "".join(f"{date.fromordinal(date(2026, 1, 1).toordinal() + n)},off\n" for n in range(300)),
            "2026 would have 47 working days: that is no calendar of a year",
        ),
    ],
)
def test_what_is_no_calendar_is_refused_by_file_and_line(text: str, sentence: str) -> None:
    with pytest.raises(WorkingDaysRefused) as refused:
        read_calendar_file("ru.csv", text)
    assert sentence in str(refused.value)


def test_a_year_that_is_not_loaded_works_from_monday_to_friday() -> None:
    assert not RUSSIA_2026.is_working(date(2026, 1, 9))
    assert RUSSIA_2026.is_working(date(2027, 1, 8))
    assert not RUSSIA_2026.is_working(date(2027, 1, 9))
    stray = calendar_of_days([SpecialDay(date(2027, 1, 8), False)], [2026])
    assert stray.is_working(date(2027, 1, 8))


def test_a_shift_finds_the_nearest_working_day() -> None:
    assert moved(date(2026, 1, 1), "next", RUSSIA_2026) == date(2026, 1, 12)
    assert moved(date(2026, 1, 1), "previous", RUSSIA_2026) == date(2025, 12, 31)
    assert moved(date(2026, 11, 7), "next", RUSSIA_2026) == date(2026, 11, 7)
    assert moved(date(2026, 11, 7), "next", WEEKDAYS_ONLY) == date(2026, 11, 9)
    assert moved(date(2026, 11, 8), "", RUSSIA_2026) == date(2026, 11, 8)


def test_a_shift_that_finds_no_working_day_leaves_the_day() -> None:
    off = calendar_of_days([SpecialDay(date.fromordinal(n), False) for n in range(739_000, 739_500)], range(2024, 2028))
    assert moved(date.fromordinal(739_200), "next", off) == date.fromordinal(739_200)


def test_working_days_of_a_month_are_counted_by_the_calendar() -> None:
    january = working_days_of(2026, 1, RUSSIA_2026)
    assert (january[0], january[-1], len(january)) == (date(2026, 1, 12), date(2026, 1, 30), 15)
    assert len(working_days_of(2026, 11, RUSSIA_2026)) == 21
