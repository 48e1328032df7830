"""Arguments of a schedule's jobs: JSON values whose texts may name the planned instant.

Rules. A text that is one of these names, whole, becomes what it names by the zone's clocks: ``{date}`` (2026-12-01),
``{date-1}`` and ``{date+1}`` (days before and after), ``{month}`` (2026-12), ``{month-1}``, ``{planned_at}`` (ISO 8601
with the offset). So a run that is caught up late is for the day it was planned on. Other text in braces is refused.

Does not know: what the jobs do with them.
"""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from billing.work.schedules.instants import local_time
from billing.work.schedules.records import ScheduleError

MAX_DAYS: Final = 366
MAX_MONTHS: Final = 24
_NAMED: Final = re.compile(r"\{(date|month|planned_at)(?:([+-])(\d{1,3}))?\}")


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Raises ScheduleError: a text in braces that names nothing."""
    arguments_at(arguments, 0, "UTC")


def arguments_at(arguments: Mapping[str, Any], planned_s: int, zone: str) -> dict[str, Any]:
    """The arguments of the run of a planned instant.

    >>> arguments_at({"date": "{date-1}", "dry_run": True}, 1_798_761_600, "Europe/Moscow")
    {'date': '2026-12-31', 'dry_run': True}
    """
    return {name: _value(value, planned_s, zone) for name, value in arguments.items()}


def _value(value: Any, planned_s: int, zone: str) -> Any:
    if isinstance(value, str):
        return _text(value, planned_s, zone)
    if isinstance(value, Mapping):
        return arguments_at(value, planned_s, zone)
    return [_value(item, planned_s, zone) for item in value] if isinstance(value, list) else value


def _text(text: str, planned_s: int, zone: str) -> str:
    if not (text.startswith("{") and text.endswith("}")):
        return text
    named = _NAMED.fullmatch(text)
    if named is None:
        known = "{date}, {date-1}, {date+1}, {month}, {month-1}, {planned_at}"
        raise ScheduleError(f"{text[:40]!r} names nothing; what may stand in an argument: {known}")
    what, sign, digits = named.groups()
    count = int(digits or 0) * (-1 if sign == "-" else 1)
    moment = local_time(planned_s, zone)
    if what == "planned_at":
        if sign:
            raise ScheduleError(f"{text[:40]!r}: {{planned_at}} stands alone")
        return moment.isoformat()
    if abs(count) > (MAX_DAYS if what == "date" else MAX_MONTHS):
        raise ScheduleError(f"{text[:40]!r} is too far away: {MAX_DAYS} days or {MAX_MONTHS} months at most")
    if what == "date":
        return (moment.date() + timedelta(days=count)).isoformat()
    year, month = divmod(12 * moment.year + moment.month - 1 + count, 12)
    return f"{year:04}-{month + 1:02}"
