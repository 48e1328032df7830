"""Time bands: which named band of the week an instant falls into, by the wall clock of one zone.

Rules. The band of an instant is what the wall clock shows at it: weekday (or holiday) and minute of the day. Where
clocks go forward the minutes that never were belong to nobody; where they go back an hour is lived twice and has its
band twice. Every minute of every kind of day has exactly one band: ``calendar_of`` refuses gaps and overlaps with an
example. Instants are UTC epoch seconds. Offsets are whole minutes, as they are everywhere since 1972.

Two ways to the same answer: ``band_at`` asks the wall clock of one instant and serves the judge; ``edges_of`` lays
out all changes of a stretch of years at once and serves compiled tables. tests/ratingcore/test_bands.py compares them.

Does not know: prices, billing periods (another module's calendar), how holidays are found out.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo

#: Kinds of day in the order of ``Calendar.week``; the first seven are date.weekday().
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun", "holiday")
MINUTES: Final = 24 * 60
#: A step's bands are bits of a 32-bit word, the top one kept free.
MAX_BANDS: Final = 31

_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
_PROBE_S: Final = 6 * 3600  # no zone has changed its offset twice within six hours


@dataclass(frozen=True, slots=True)
class Rule:
    """``band`` holds on ``days`` from ``start_minute`` (included) to ``end_minute`` (excluded, up to 1440)."""

    days: tuple[str, ...]
    start_minute: int
    end_minute: int
    band: str


@dataclass(frozen=True, slots=True)
class Calendar:
    """The bands of a week in a zone; made by ``calendar_of``, which has checked it.

    bands: their names; a band's number is its place here.
    week: for each of DAYS, (first minute, band number) in ascending order, the first at minute 0.
    holidays: local dates that follow "holiday" instead of their weekday.
    """

    zone: str
    bands: tuple[str, ...]
    week: tuple[tuple[tuple[int, int], ...], ...]
    holidays: frozenset[date] = frozenset()


@cache
def zone_of(name: str) -> ZoneInfo:
    """The IANA zone of this name.

    A host's folder of zones holds files that are none: the host's own zone (localtime), the rules of the United States
    (posixrules), and each zone again by POSIX and with leap seconds, which Python opens too. Databases do not.

    Raises:
        ValueError: there is none, or it is the name of such a file.
    """
    if name in ("localtime", "posixrules") or name.startswith(("posix/", "right/")):
        raise ValueError(f"{name!r} is a file of this host, not a time zone such as Europe/Moscow")
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:
        raise ValueError(f"no time zone {name!r}") from error


def calendar_of(zone: str, rules: Iterable[Rule], holidays: Iterable[date] = ()) -> Calendar:
    """A checked calendar from rules in any order.

    Raises:
        ValueError: an unknown zone or day, a time that is none, too many bands, or a minute of some kind of day
            with no band or with two; the message shows one such minute.
    """
    zone_of(zone)
    given = tuple(rules)
    for rule in given:
        _check_rule(rule)
    bands = tuple(dict.fromkeys(rule.band for rule in given))
    if not 1 <= len(bands) <= MAX_BANDS:
        raise ValueError(f"a calendar has 1 to {MAX_BANDS} bands, not {len(bands)}")
    return Calendar(zone, bands, tuple(_day_of(day, given, bands) for day in DAYS), frozenset(holidays))


def _check_rule(rule: Rule) -> None:
    unknown = [day for day in rule.days if day not in DAYS]
    if unknown or not rule.days:
        raise ValueError(f"band {rule.band!r}: days are some of {', '.join(DAYS)}, not {', '.join(unknown) or 'none'}")
    if not 0 <= rule.start_minute < rule.end_minute <= MINUTES:
        raise ValueError(f"band {rule.band!r}: minutes {rule.start_minute} to {rule.end_minute} are no part of a day")


def _day_of(day: str, rules: tuple[Rule, ...], bands: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    spans = sorted((rule.start_minute, rule.end_minute, rule.band) for rule in rules if day in rule.days)
    minute = 0
    pieces: list[tuple[int, int]] = []
    for start, end, band in spans:
        if start != minute:
            trouble = "in no band" if start > minute else f"in two bands, {bands[pieces[-1][1]]!r} and {band!r}"
            raise ValueError(f"{day} {_clock(min(start, minute))} is {trouble}")
        pieces.append((start, bands.index(band)))
        minute = end
    if minute != MINUTES:
        raise ValueError(f"{day} {_clock(minute)} is in no band")
    return tuple(pieces)


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


def offset_s(calendar: Calendar, time_s: int) -> int:
    """Seconds by which the zone's clocks are ahead of UTC at an instant.

    Raises:
        ValueError: an offset that is no whole number of minutes: a time before standard time.
    """
    delta = datetime.fromtimestamp(time_s, UTC).astimezone(zone_of(calendar.zone)).utcoffset() or timedelta()
    seconds = delta.days * 86_400 + delta.seconds
    if seconds % 60:
        raise ValueError(f"{calendar.zone} was {seconds} s off UTC at {time_s}: bands need whole minutes")
    return seconds


def band_at(calendar: Calendar, time_s: int) -> int:
    """The number of the band in force at an instant, read off the wall clock."""
    local = datetime.fromtimestamp(time_s + offset_s(calendar, time_s), UTC)
    pieces = calendar.week[_kind_of_day(calendar, local.date())]
    minute = local.hour * 60 + local.minute
    return next(band for start, band in reversed(pieces) if start <= minute)


def _kind_of_day(calendar: Calendar, day: date) -> int:
    return DAYS.index("holiday") if day in calendar.holidays else day.weekday()


def edges_of(calendar: Calendar, start_s: int, end_s: int) -> list[tuple[int, int]]:
    """Every change of band in [start_s, end_s): (instant, band from then on), the first at ``start_s``."""
    edges: list[tuple[int, int]] = []
    for low_s, high_s, ahead_s in _stretches(calendar, start_s, end_s):
        for time_s, band in _edges_of_stretch(calendar, low_s, high_s, ahead_s):
            if not edges or edges[-1][1] != band:
                edges.append((time_s, band))
    return edges


def _stretches(calendar: Calendar, start_s: int, end_s: int) -> Iterator[tuple[int, int, int]]:
    """Spans of constant offset: (from, to, offset), found by probing and then halving."""
    low_s, ahead_s = start_s, offset_s(calendar, start_s)
    probe_s = start_s
    while probe_s < end_s:
        next_s = min(probe_s + _PROBE_S, end_s)
        if offset_s(calendar, next_s) != ahead_s:
            same_s, other_s = probe_s, next_s
            while other_s - same_s > 1:
                middle_s = (same_s + other_s) // 2
                if offset_s(calendar, middle_s) == ahead_s:
                    same_s = middle_s
                else:
                    other_s = middle_s
            yield low_s, other_s, ahead_s
            low_s, ahead_s = other_s, offset_s(calendar, next_s)
        probe_s = next_s
    if low_s < end_s:
        yield low_s, end_s, ahead_s


def _edges_of_stretch(calendar: Calendar, low_s: int, high_s: int, ahead_s: int) -> Iterator[tuple[int, int]]:
    first_day, last_day = (low_s + ahead_s) // 86_400, (high_s + ahead_s - 1) // 86_400
    for day in range(first_day, last_day + 1):
        pieces = calendar.week[_kind_of_day(calendar, date.fromordinal(_EPOCH_DAY + day))]
        midnight_s = day * 86_400 - ahead_s
        if day == first_day:
            minute = (low_s - midnight_s) // 60
            yield low_s, pieces[bisect_right(pieces, minute, key=lambda piece: piece[0]) - 1][1]
        for start, band in pieces:
            if low_s < midnight_s + 60 * start < high_s:
                yield midnight_s + 60 * start, band
