"""Rows of the calendar of working days.

Does not know: files (working_days.py), schedules.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from billing.database.cursors import Cursor
from billing.database.rows import records
from billing.database.unnest import Unnested
from billing.work.schedules.working_days import SpecialDay, WorkingDays, calendar_of_days

_DAYS: Final = Unnested("d", {"day": "text", "is_working": "bigint", "note": "text"})

_PUT_YEAR: Final = """
    INSERT INTO working_years (year, file_name, loaded_by) VALUES (%(year)s, %(file)s, %(actor)s)
    ON CONFLICT (year) DO UPDATE SET file_name = excluded.file_name, loaded_by = excluded.loaded_by, loaded_at = now()
"""
_CLEAR: Final = "DELETE FROM special_days WHERE year = ANY(%s::int[])"
_INSERT: Final = f"""
    INSERT INTO special_days (day, year, is_working, note)
    SELECT day::date, extract(year FROM day::date), is_working = 1, note FROM {_DAYS.source}
"""
_READ: Final = "SELECT day, is_working, note FROM special_days ORDER BY day"
_YEARS: Final = """
    SELECT y.year::int AS year, y.file_name, y.loaded_at, y.loaded_by,
           count(*) FILTER (WHERE NOT s.is_working)::int AS off, count(*) FILTER (WHERE s.is_working)::int AS working
    FROM working_years y LEFT JOIN special_days s ON s.year = y.year GROUP BY y.year ORDER BY y.year
"""


@dataclass(frozen=True, slots=True)
class LoadedYear:
    """A year of the calendar. off, working: days that its file names."""

    year: int
    file_name: str
    loaded_at: datetime
    loaded_by: str
    off: int
    working: int


async def put_years(cur: Cursor, days: Sequence[SpecialDay], file_name: str, actor: str) -> list[int]:
    """Replace the years that the days are of; which they are."""
    years = sorted({special.day.year for special in days})
    await cur.execute(_CLEAR, (years,))
    for year in years:
        await cur.execute(_PUT_YEAR, {"year": year, "file": file_name[:200], "actor": actor})
    rows = ((special.day.isoformat(), int(special.is_working), special.note) for special in days)
    await cur.execute(_INSERT, _DAYS.values(rows))
    return years


async def read_working_days(cur: Cursor) -> WorkingDays:
    """The calendar as it is loaded."""
    years = [year.year for year in await list_years(cur)]
    await cur.execute(_READ)
    return calendar_of_days([SpecialDay(*row) for row in await cur.fetchall()], years)


async def list_years(cur: Cursor) -> list[LoadedYear]:
    """The years that are loaded."""
    await cur.execute(_YEARS)
    return await records(cur, LoadedYear)


async def days_of_year(cur: Cursor, year: int) -> list[SpecialDay]:
    """What the calendar says of the days of a year."""
    return [special for special in await _all(cur) if special.day.year == year]


async def _all(cur: Cursor) -> list[SpecialDay]:
    await cur.execute(_READ)
    return [SpecialDay(*row) for row in await cur.fetchall()]
