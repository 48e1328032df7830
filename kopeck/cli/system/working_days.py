"""``kopeck schedule calendar``: working days are loaded from a file, listed and shown.

Does not know: what a file must be (billing.work.schedules.working_days), which schedules depend on it.
"""

from dataclasses import asdict
from typing import IO, Any, Final

import click

from billing.database.cursors import Cursor
from billing.work.schedules.records import ScheduleError
from billing.work.schedules.schedules import load_working_days
from billing.work.schedules.store import database_clock
from billing.work.schedules.working_days import MAX_LINES, WorkingDaysRefused, read_calendar_file
from billing.work.schedules.working_days_store import days_of_year, list_years
from kopeck.cli.context import (
    CHARSET,
    CHARSET_HINT,
    NOT_UTF_8,
    Context,
    pass_context,
    show_table,
    shown_name,
    shown_time,
)
from kopeck.cli.output import AS_JSON, show_json
from web.access.actors import Actor
from web.access.audit import record_as
from web.access.rights import Right

#: Bytes of a calendar file: MAX_LINES of them, with their notes.
_FILE_MAX_BYTES: Final = MAX_LINES * 300


@click.group()
def calendar() -> None:
    """Working days: the calendar of days off and working Saturdays."""


@calendar.command()
@click.argument("file", type=click.File("rb"))
@CHARSET
@pass_context
def load(context: Context, file: IO[bytes], charset: str) -> None:
    """Load working days from a CSV FILE (- is standard input); the years that it names are replaced, whole.

    \b
    date,kind,note
    2026-01-01,off,New Year
    2026-11-07,working,Saturday for Monday the 9th
    """
    name, content = shown_name(file), file.read(_FILE_MAX_BYTES + 1)
    if len(content) > _FILE_MAX_BYTES:
        raise WorkingDaysRefused(f"{name}: the file is larger than {_FILE_MAX_BYTES:,} bytes: that is no calendar")
    try:
        text = content.decode(charset)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        hint = f"\n{CHARSET_HINT}" if charset == "utf-8" else ""
        wrong = NOT_UTF_8 if charset == "utf-8" else f"not {charset}"
        raise WorkingDaysRefused(f"{name}:{line}: {wrong}{hint}") from error
    days = read_calendar_file(name, text)

    async def work(cur: Cursor, who: Actor) -> list[int]:
        years = await load_working_days(cur, database_clock, days, name, who.name)
        told: dict[str, Any] = {"years": years, "days": len(days)}
        await record_as(cur, who, "working_days_loaded", "working_days", ", ".join(map(str, years))[:60], **told)
        return years

    years = context.act(Right.SCHEDULES_MANAGE, work)
    click.echo(f"working days of {', '.join(map(str, years))} are loaded: {len(days)} days")


@calendar.command("list")
@AS_JSON
@pass_context
def list_calendar(context: Context, as_json: bool) -> None:
    """List the years that are loaded."""
    years = context.in_transaction(list_years)
    if as_json:
        show_json([asdict(year) for year in years])
        return
    show_table(
        ("year", "days off", "working days", "file", "loaded at", "by"),
        [
            (
                str(year.year),
                str(year.off),
                str(year.working),
                year.file_name,
                shown_time(year.loaded_at),
                year.loaded_by,
            )
            for year in years
        ],
        right=("year", "days off", "working days"),
    )


@calendar.command("show")
@click.argument("year", type=click.IntRange(1990, 2100))
@pass_context
def show_calendar(context: Context, year: int) -> None:
    """Show the days of a YEAR that are not what their day of the week says."""

    async def work(cur: Cursor) -> Any:
        return [loaded.year for loaded in await list_years(cur)], await days_of_year(cur, year)

    years, days = context.in_transaction(work)
    if year not in years:
        raise ScheduleError(f"the working days of {year} are not loaded", code="working_days_unknown", year=year)
    rows = [
        (special.day.isoformat(), f"{special.day:%a}".lower(), "working" if special.is_working else "off", special.note)
        for special in days
    ]
    show_table(("date", "day", "kind", "note"), rows)
