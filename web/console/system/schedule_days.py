"""Thirty days of a schedule, a day each: what its runs came to, for the strip and for the table beside it.

Rules. A day is worth its worst outcome. A day without a run is a day too.

Does not know: rows, templates, colours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

DAYS: Final = 30
#: The worst first: a day is told by the first that it has.
WORST_FIRST: Final = ("failed", "lost", "cancelled", "running", "waiting", "skipped", "done")


@dataclass(frozen=True, slots=True)
class DayOfRuns:
    """counts: runs by outcome. worst: the outcome that tells the day; empty: no run."""

    day: date
    counts: Mapping[str, int]
    worst: str

    @property
    def total(self) -> int:
        """Runs of the day, skipped ones too."""
        return sum(self.counts.values())


def last_days(results: Mapping[date, Mapping[str, int]], today: date, count: int = DAYS) -> list[DayOfRuns]:
    """The last ``count`` days through today, oldest first.

    >>> day = date(2026, 12, 1)
    >>> [(found.day.day, found.worst) for found in last_days({day: {"done": 2, "failed": 1}}, day, 2)]
    [(30, ''), (1, 'failed')]
    """
    days = []
    for back in range(count - 1, -1, -1):
        day = today - timedelta(days=back)
        counts = results.get(day, {})
        days.append(DayOfRuns(day, counts, next((outcome for outcome in WORST_FIRST if counts.get(outcome)), "")))
    return days
