"""Which days are working days: the weekdays, and what a loaded calendar says of a year.

Rules. In a year that is loaded a day is what the file says of it, else Monday to Friday work. A year that is not loaded
works Monday to Friday, and whoever shows or plans by it warns. The file is CSV with the headings ``date`` and ``kind``
(and ``note``): each line a date that is ``off`` or ``working``, such as the holidays and the working Saturdays of the
yearly production calendar of Russia. A load replaces the years that the file names, whole.

    date,kind,note
    2026-01-01,off,New Year
    2026-11-07,working,Saturday for Monday the 9th

Does not know: rows (working_days_store.py), rules that ask.
"""

import csv
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Final

from billing.refusals import Refusal

KINDS: Final = ("off", "working")
HEADINGS: Final = ("date", "kind", "note")
FIRST_YEAR: Final = 1990
LAST_YEAR: Final = 2100
MAX_LINES: Final = 10_000
MAX_NOTE_CHARS: Final = 200
#: A year with fewer working days than that is a file of something else.
LEAST_WORKING_DAYS: Final = 100
#: How far a shift looks for a working day; where none is as near, the day itself stands.
SHIFT_DAYS: Final = 62

_SATURDAY: Final = 5


class WorkingDaysRefused(Refusal):
    """A file that is no calendar; the sentence begins with file and line."""

    default_code = "working_days_file"


@dataclass(frozen=True, slots=True)
class SpecialDay:
    """A line of the file."""

    day: date
    is_working: bool
    note: str = ""


@dataclass(frozen=True)
class WorkingDays:
    """years: loaded ones. working, off: what they say of single days."""

    years: frozenset[int] = frozenset()
    working: frozenset[date] = frozenset()
    off: frozenset[date] = frozenset()

    def is_working(self, day: date) -> bool:
        """Whether people work on that day."""
        if day.year in self.years and (day in self.working or day in self.off):
            return day in self.working
        return day.weekday() < _SATURDAY


def calendar_of_days(days: Iterable[SpecialDay], years: Iterable[int]) -> WorkingDays:
    """The calendar of loaded years and what they say."""
    given = tuple(days)
    return WorkingDays(
        frozenset(years),
        frozenset(special.day for special in given if special.is_working),
        frozenset(special.day for special in given if not special.is_working),
    )


#: Nothing loaded: Monday to Friday.
WEEKDAYS_ONLY: Final = WorkingDays()


def moved(day: date, shift: str, calendar: WorkingDays) -> date:
    """The day, or the next or previous working day if it is none. shift: "", "next" or "previous"."""
    if not shift:
        return day
    step = timedelta(days=1 if shift == "next" else -1)
    for days in range(SHIFT_DAYS + 1):
        if calendar.is_working(day + days * step):
            return day + days * step
    return day


@lru_cache(maxsize=512)
def working_days_of(year: int, month: int, calendar: WorkingDays) -> tuple[date, ...]:
    """The working days of a month, ascending."""
    first = date(year, month, 1)
    days = (first + timedelta(days=place) for place in range(31))
    return tuple(day for day in days if day.month == month and calendar.is_working(day))


def read_calendar_file(name: str, text: str) -> list[SpecialDay]:
    """The lines of a file of the form above. name: how messages call it.

    Raises:
        WorkingDaysRefused: the first line that is wrong, or a year that cannot be one.
    """
    rows = csv.reader(text.removeprefix("\ufeff").splitlines(), strict=True)
    try:
        headings = next(rows, None)
    except csv.Error as error:
        raise WorkingDaysRefused(f"{name}:1: not CSV: {error}") from error
    if headings is None:
        raise WorkingDaysRefused(f"{name}:1: the file is empty; its first line is date,kind,note")
    columns = [heading.strip().lower() for heading in headings]
    if columns[:2] != ["date", "kind"] or columns[2:] not in ([], ["note"]):
        raise WorkingDaysRefused(
            f"{name}:1: the headings are date,kind or date,kind,note, not {','.join(columns)[:60]}"
        )
    days: dict[date, int] = {}
    specials = []
    for line, special in _specials(name, rows, len(columns)):
        if special.day in days:
            raise WorkingDaysRefused(f"{name}:{line}: {special.day} stands on line {days[special.day]} already")
        days[special.day] = line
        specials.append(special)
    if not specials:
        raise WorkingDaysRefused(f"{name}:2: the file names no day")
    _check_years(name, specials)
    return specials


def _specials(name: str, rows: Iterator[list[str]], columns: int) -> Iterator[tuple[int, SpecialDay]]:
    line = 1
    try:
        for line, row in enumerate(rows, 2):
            if line > MAX_LINES:
                raise WorkingDaysRefused(f"{name}:{line}: a calendar has {MAX_LINES:,} lines at most")
            if any(cell.strip() for cell in row):
                yield line, _special(f"{name}:{line}", [cell.strip() for cell in row], columns)
    except csv.Error as error:
        raise WorkingDaysRefused(f"{name}:{line + 1}: not CSV: {error}") from error


def _special(place: str, cells: list[str], columns: int) -> SpecialDay:
    if not 2 <= len(cells) <= columns:
        raise WorkingDaysRefused(f"{place}: {len(cells)} values where the headings name {columns}")
    try:
        day = date.fromisoformat(cells[0])
    except ValueError:
        raise WorkingDaysRefused(f"{place}: {cells[0][:40]!r} is no date such as 2026-01-31") from None
    if not FIRST_YEAR <= day.year <= LAST_YEAR:
        raise WorkingDaysRefused(f"{place}: {day} is outside the years {FIRST_YEAR} to {LAST_YEAR}")
    if cells[1].lower() not in KINDS:
        raise WorkingDaysRefused(f"{place}: {cells[1][:40]!r} is no kind of day: they are {' and '.join(KINDS)}")
    note = cells[2] if len(cells) > 2 else ""
    if len(note) > MAX_NOTE_CHARS:
        raise WorkingDaysRefused(f"{place}: a note has {MAX_NOTE_CHARS} characters at most")
    return SpecialDay(day, cells[1].lower() == "working", note)


def _check_years(name: str, specials: Iterable[SpecialDay]) -> None:
    given = tuple(specials)
    years = Counter(special.day.year for special in given)
    calendar = calendar_of_days(given, years)
    for year in sorted(years):
        working = sum(len(working_days_of(year, month, calendar)) for month in range(1, 13))
        if working < LEAST_WORKING_DAYS:
            raise WorkingDaysRefused(f"{name}: {year} would have {working} working days: that is no calendar of a year")
