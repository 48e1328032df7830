"""The section ``calendars`` of a catalogue: bands of the week and of holidays, in the calendar's zone.

Rules. Each minute of each day is in one band (ratingcore.bands holds that); a band that runs past midnight becomes two
rules.

Does not know: which prices follow a calendar.
"""

from datetime import date

from billing.catalogue.nodes import Fields, Node, NodeRefused, Place, Scalar, text_of
from billing.catalogue.reading import CatalogueReading, check_zone, read_identifier, read_value
from ratingcore.bands import DAYS, MINUTES, Calendar, Rule, calendar_of


def read_calendar(number: str, fields: Fields, reading: CatalogueReading) -> tuple[Calendar, Place]:
    zone = read_value(fields.take("zone") or Scalar(fields.place, reading.zone, False), "zone", check_zone)
    holidays = [read_value(node, "holiday", _local_date) for node in fields.nodes("holidays")]
    rules: list[Rule] = []
    for node in fields.nodes("bands"):
        rules += _band_rules(Fields(node, "a band"))
    try:
        return calendar_of(zone, rules, holidays), fields.place
    except ValueError as error:
        hint = (
            "each minute of mon to sun and of holiday is in one band; one may pass midnight: from: 23:00, until: 06:00"
        )
        raise NodeRefused(fields.place, f"calendar {number}: {error}", hint) from error


def _local_date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text[:40]!r} is no date such as 2026-01-01") from error


def _band_rules(fields: Fields) -> list[Rule]:
    """A band's line: rules for its days; a time that runs past midnight becomes two."""
    band = read_identifier(fields.require("band"), "band")
    days = tuple(day for node in fields.nodes("days") for day in _days(node)) or DAYS
    start = _minute(fields.take("from"), 0)
    end = _minute(fields.take("until"), MINUTES)
    fields.done()
    if start == end:
        raise NodeRefused(fields.place, f"band {band!r} lasts no time", "leave out from and until for the whole day")
    if start < end:
        return [Rule(days, start, end, band)]
    early = [Rule(days, 0, end, band)] if end else []
    return [*early, Rule(days, start, MINUTES, band)]


def _days(node: Node) -> tuple[str, ...]:
    """``mon``, ``mon-fri``, ``all`` or ``holiday``."""
    text = text_of(node, "days")
    if text == "all":
        return DAYS
    first, dash, last = text.partition("-")
    if first in DAYS and not dash:
        return (first,)
    if first in DAYS[:7] and last in DAYS[:7] and DAYS.index(first) < DAYS.index(last):
        return DAYS[DAYS.index(first) : DAYS.index(last) + 1]
    raise NodeRefused(node.place, f"{text[:40]!r} is no day", f"write all, mon-fri, or some of: {', '.join(DAYS)}")


def _minute(node: Node | None, default: int) -> int:
    if node is None:
        return default
    text = text_of(node, "time")
    hour, colon, minute = text.partition(":")
    good = colon and len(minute) == 2 and hour.isascii() and hour.isdigit() and minute.isascii() and minute.isdigit()
    if not good or (text != "24:00" and not (int(hour[:4]) < 24 and int(minute) < 60)):
        raise NodeRefused(node.place, f"{text[:40]!r} is no time of day such as 08:00")
    return int(hour) * 60 + int(minute)
