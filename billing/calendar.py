"""The calendar: which billing periods an order has, as a pure function of its cadence. The only module that knows.

Rules.
 1. The periods of a cadence tile time: half-open [start, end), each end the next one's start, none empty.
 2. A period starts with a local day, and a local day starts with the first instant at which the zone's clocks have
    reached its date. So where midnight is skipped the day starts with whatever the clocks show next, where it comes
    twice with the first coming; what a clock put back shows of "yesterday" after that stays in the day begun.
 3. A date that a zone skipped (Samoa's 30 December 2011) has no instant: it starts when the next day does, and a
    period that would be empty is not there; its neighbour's start stands for both.
 4. Nothing is added to a previous start. A month starts on the anchor day or on its last day if it is shorter, so the
    anchor never drifts: 31 January, 28 February, 31 March.
 5. Periods of several units are counted from a fixed origin: days and weeks from Monday 1970-01-05 (weeks from the
    anchor's weekday in that week), months, quarters and years from the anchor month of year 0. The anchor phase moves
    the origin by so many days, weeks or months, so periods can start on any date (``anchor_of``). A phase below the
    length of a period says it all, so orders whose periods are the same have the same anchors. No state is kept.
 6. A day is counted for whoever is there at its first instant; so the days of the parts of a span sum to its days.

Outside are UTC seconds, inside are local dates. The horizon is 1990 to 2100 in UTC; a period over its edge is whole.
A zone's midnights, and then a cadence's starts, are laid out once for the whole horizon; the rest is binary search.

Does not know: orders, which of the periods are due, prices. Zones' rules for the future are what the installed time
zone database says today (the host's, or the tzdata package's where the host has none): after an update, periods not
yet begun may move by an hour, so whoever bills keeps the instants a period was billed with.
"""

from bisect import bisect_left
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache, lru_cache
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from ratingcore.bands import zone_of

Ints = NDArray[np.int64]

#: Instants the calendar answers for: 1990-01-01 to 2101-01-01, UTC.
HORIZON_START_S: Final = 631_152_000
HORIZON_END_S: Final = 4_133_980_800

#: Units and how many of each a period may have: none is longer than ten years.
MAX_COUNTS: Final = {"day": 1000, "week": 500, "month": 120, "quarter": 40, "year": 10}
_MONTHS: Final = {"month": 1, "quarter": 3, "year": 12}

#: Years laid out, the last excluded: the horizon and the longest period on both sides of it.
_FIRST_YEAR: Final = 1979
_END_YEAR: Final = 2112
_EPOCH: Final = date(1970, 1, 1).toordinal()
#: Local dates laid out, in days since 1970-01-01.
_FIRST_DAY: Final = date(_FIRST_YEAR, 1, 1).toordinal() - _EPOCH
_END_DAY: Final = date(_END_YEAR, 1, 1).toordinal() - _EPOCH
_MONDAY: Final = date(1970, 1, 5).toordinal() - _EPOCH


@dataclass(frozen=True, slots=True)
class Interval:
    """``count`` of a ``unit``: "day", "week", "month", "quarter" or "year".

    Raises:
        ValueError: no such unit, or a count outside 1 to MAX_COUNTS.
    """

    unit: str
    count: int = 1

    def __post_init__(self) -> None:
        if self.unit not in MAX_COUNTS:
            raise ValueError(f"a period is counted in {', '.join(MAX_COUNTS)}, not in {self.unit!r}")
        if not 1 <= self.count <= MAX_COUNTS[self.unit]:
            raise ValueError(f"a period has 1 to {MAX_COUNTS[self.unit]} {self.unit}s, not {self.count}")

    @property
    def steps(self) -> int:
        """Its length in days, weeks or, for what is made of months, in months."""
        return self.count * _MONTHS.get(self.unit, 1)


@dataclass(frozen=True, slots=True)
class Cadence:
    """What makes a tiling of time. Few differ among millions of orders, so what is derived is kept by cadence.

    anchor_day: for months, quarters and years the day of the month, 1 to 31; for weeks the ISO weekday, 1 to 7; for
        days 1.
    anchor_month: a month in which a period starts, 1 to 12; 1 for days, weeks and single months.
    anchor_phase: days, weeks or months (for quarters and years too) after the origin of rule 5, less than a period.

    Raises:
        ValueError: an anchor that the interval does not have, or an unknown zone.
    """

    interval: Interval
    anchor_day: int
    anchor_month: int
    zone: str
    anchor_phase: int = 0

    def __post_init__(self) -> None:
        unit = self.interval.unit
        days = {"day": 1, "week": 7}.get(unit, 31)
        if not 1 <= self.anchor_day <= days:
            raise ValueError(f"periods in {unit}s have the anchor day {_up_to(days)}, not {self.anchor_day}")
        months = 12 if unit in _MONTHS and self.interval != Interval("month") else 1
        if not 1 <= self.anchor_month <= months:
            what = f"{self.interval.count} {unit}s" if self.interval.count > 1 else f"one {unit}"
            raise ValueError(f"periods of {what} have the anchor month {_up_to(months)}, not {self.anchor_month}")
        if not 0 <= self.anchor_phase < self.interval.steps:
            raise ValueError(f"the phase of these periods is 0 to {self.interval.steps - 1}, not {self.anchor_phase}")
        zone_of(self.zone)


def anchor_of(interval: Interval, start: date) -> tuple[int, int, int]:
    """(anchor_day, anchor_month, anchor_phase) of periods of which one starts on a local date.

    >>> anchor_of(Interval("week", 2), date(2026, 9, 7))
    (1, 1, 1)
    >>> anchor_of(Interval("year", 2), date(2025, 9, 1))
    (1, 9, 12)
    """
    if interval.unit not in _MONTHS:
        days = start.toordinal() - _EPOCH - _MONDAY
        if interval.unit == "week":
            return start.isoweekday(), 1, days // 7 % interval.count
        return 1, 1, days % interval.count
    month = 1 if interval == Interval("month") else start.month
    return start.day, month, (12 * start.year + start.month - month) % interval.steps


def _up_to(most: int) -> str:
    return f"1 to {most}" if most > 1 else "1"


def local_midnight(day: date, zone: str) -> int:
    """The first instant of a local day, in UTC seconds; of a day that the zone skipped, that of the next.

    Raises:
        ValueError: a date outside 1990 to 2100, or an unknown zone.
    """
    if not 1990 <= day.year <= 2100:
        raise ValueError(f"{day.isoformat()} is outside the calendar's years, 1990 to 2100")
    return int(_midnights(zone)[day.toordinal() - _EPOCH - _FIRST_DAY])


def period_containing(cadence: Cadence, time_s: int) -> tuple[int, int]:
    """The period [start, end) that an instant is in.

    Raises:
        ValueError: a time outside the horizon.
    """
    _check(time_s, time_s)
    starts = _starts(cadence)
    place = int(starts.searchsorted(time_s, side="right"))
    return int(starts[place - 1]), int(starts[place])


def periods_of(cadence: Cadence, times_s: Ints) -> tuple[Ints, Ints]:
    """``period_containing`` of many instants at once: (starts, ends).

    Raises:
        ValueError: a time outside the horizon.
    """
    if not len(times_s):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    _check(int(times_s.min()), int(times_s.max()))
    starts = _starts(cadence)
    places = starts.searchsorted(times_s, side="right")
    return starts[places - 1], starts[places]


def boundaries(cadence: Cadence, from_s: int, until_s: int) -> Ints:
    """The tiling that covers [from_s, until_s]: consecutive starts of periods, ascending.

    The first is the last start not after ``from_s``, the last the first start not before ``until_s``; both are the
    same one if a period starts at ``from_s == until_s``. A read-only view: it costs two searches and no copy.

    Raises:
        ValueError: a time outside the horizon (whose end may be ``until_s``), or times in the wrong order.
    """
    _check_span(from_s, until_s)
    starts = _starts(cadence)
    first = int(starts.searchsorted(from_s, side="right")) - 1
    return starts[first : int(starts.searchsorted(until_s, side="left")) + 1]


def days_between(start_s: int, end_s: int, zone: str) -> int:
    """How many local days have their first instant in [start_s, end_s): the days to prorate by.

    So a day belongs to whoever is there when it starts: coming at noon is free until midnight, leaving at noon pays
    to midnight, and a change at noon leaves the day to what was before. Split anywhere, the parts sum to the whole.

    Raises:
        ValueError: a time outside the horizon (whose end may be ``end_s``), times in the wrong order, or an unknown
            zone.
    """
    _check_span(start_s, end_s)
    days = _days(zone)
    return int(days.searchsorted(end_s, side="left")) - int(days.searchsorted(start_s, side="left"))


def days_of(starts_s: Ints, ends_s: Ints, zone: str) -> Ints:
    """``days_between`` of many spans at once; the same errors."""
    if not len(starts_s):
        return np.zeros(0, np.int64)
    if (starts_s > ends_s).any():
        row = int((starts_s > ends_s).argmax())
        _check_span(int(starts_s[row]), int(ends_s[row]))
    _check_span(int(starts_s.min()), int(ends_s.max()))
    days = _days(zone)
    return days.searchsorted(ends_s, side="left") - days.searchsorted(starts_s, side="left")


def _check(low_s: int, high_s: int) -> None:
    if low_s < HORIZON_START_S or high_s >= HORIZON_END_S:
        outside_s = low_s if low_s < HORIZON_START_S else high_s
        raise ValueError(f"time {outside_s} (UTC seconds) is outside the calendar's years, 1990 to 2100")


def _check_span(start_s: int, end_s: int) -> None:
    if start_s > end_s:
        raise ValueError(f"a span from {start_s} to {end_s} (UTC seconds) ends before it starts")
    _check(start_s, end_s - 1 if end_s == HORIZON_END_S else end_s)


@lru_cache(maxsize=512)
def _starts(cadence: Cadence) -> Ints:
    """All starts of periods of a cadence, a little beyond the horizon, ascending, without doubles (rule 3)."""
    midnights = _midnights(cadence.zone)[_start_days(cadence) - _FIRST_DAY]
    starts: Ints = midnights[np.append(midnights[:-1] < midnights[1:], True)]
    starts.setflags(write=False)
    return starts


@lru_cache(maxsize=128)
def _days(zone: str) -> Ints:
    """First instants of the days that a zone had: its periods of one day."""
    return _starts(Cadence(Interval("day"), 1, 1, zone))


def _start_days(cadence: Cadence) -> Ints:
    """Local dates on which periods start, in days since 1970-01-01, for all years laid out; zones have no say."""
    interval = cadence.interval
    if interval.unit not in _MONTHS:
        days = 7 if interval.unit == "week" else 1
        origin = _MONDAY + cadence.anchor_day - 1 + days * cadence.anchor_phase
        return _multiples(origin, days * interval.steps, _FIRST_DAY, _END_DAY)
    # Months are counted from January of year 0; NumPy's from January 1970.
    origin = cadence.anchor_month - 1 + cadence.anchor_phase
    months = _multiples(origin, interval.steps, 12 * _FIRST_YEAR, 12 * _END_YEAR) - 12 * 1970
    firsts, nexts = _first_days(months), _first_days(months + 1)
    return np.minimum(firsts + cadence.anchor_day, nexts) - 1


def _multiples(origin: int, step: int, first: int, end: int) -> Ints:
    """origin + n * step, for every whole n, in [first, end)."""
    return np.arange(first + (origin - first) % step, end, step, dtype=np.int64)


def _first_days(months: Ints) -> Ints:
    return months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)


@lru_cache(maxsize=128)
def _midnights(zone: str) -> Ints:
    """First instants of the local dates of all years laid out, one a date, so never descending."""
    found = zone_of(zone)
    before, after = _offsets(found, 0), _offsets(found, 1)
    # A wall time that is not there has the offset before the change, and with fold=1 the one after it; one that comes
    # twice has them too, the other way round (PEP 495). So the first coming is right unless the clocks went forward.
    midnights = np.arange(_FIRST_DAY, _END_DAY, dtype=np.int64) * 86_400 - before
    for place in np.flatnonzero(after > before):
        lost_s = int(after[place] - before[place])
        midnights[place] = _change(_walls(0)[place], found, int(midnights[place]), lost_s)
    midnights.setflags(write=False)
    return midnights


def _offsets(zone: ZoneInfo, fold: int) -> Ints:
    """Seconds by which clocks are ahead of UTC at midnight of every date laid out."""
    offsets = map(zone.utcoffset, _walls(fold))  # never None: fromiter would miss it in the count
    seconds = (offset.days * 86_400 + offset.seconds for offset in offsets if offset is not None)
    return np.fromiter(seconds, np.int64, _END_DAY - _FIRST_DAY)


@cache
def _walls(fold: int) -> tuple[datetime, ...]:
    """Midnight of every date laid out, as a wall clock shows it; the same for all zones."""
    days = range(_EPOCH + _FIRST_DAY, _EPOCH + _END_DAY)
    return tuple(datetime.fromordinal(day).replace(fold=fold) for day in days)


def _change(wall: datetime, zone: ZoneInfo, by_old_clock_s: int, lost_s: int) -> int:
    """When the clocks went past ``wall`` without showing it: after the instant it had by the new clock, and at the
    latest at the one it had by the old."""
    span = range(by_old_clock_s - lost_s + 1, by_old_clock_s)
    return span.start + bisect_left(
        span, True, key=lambda time_s: datetime.fromtimestamp(time_s, zone).replace(tzinfo=None) >= wall
    )
