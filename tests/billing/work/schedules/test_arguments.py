"""Arguments that name the planned instant."""

from datetime import UTC, datetime

import pytest

from billing.work.schedules.arguments import arguments_at, check_arguments
from billing.work.schedules.records import ScheduleError

#: In Moscow the new year has begun.
PLANNED_S = int(datetime(2026, 12, 31, 21, 30, tzinfo=UTC).timestamp())


def test_names_become_dates_by_the_clocks_of_the_zone() -> None:
    arguments = {
        "on": "{date}", "days": ["{date-1}", "{date+30}"], "of": {"month": "{month}", "before": "{month-13}"},
        "at": "{planned_at}", "text": "for {date}", "count": 3, "is_review": True, "none": None,
    }  # fmt: skip
    assert arguments_at(arguments, PLANNED_S, "Europe/Moscow") == {
        "on": "2027-01-01", "days": ["2026-12-31", "2027-01-31"], "of": {"month": "2027-01", "before": "2025-12"},
        "at": "2027-01-01T00:30:00+03:00", "text": "for {date}", "count": 3, "is_review": True, "none": None,
    }  # fmt: skip
    assert arguments_at({"on": "{date}"}, PLANNED_S, "UTC") == {"on": "2026-12-31"}


@pytest.mark.parametrize(
    "text", ["{day}", "{date-}", "{date-367}", "{month+25}", "{planned_at-1}", "{}", "{date}{date}"]
)
def test_braces_that_name_nothing_are_refused(text: str) -> None:
    with pytest.raises(ScheduleError):
        check_arguments({"on": [text]})
