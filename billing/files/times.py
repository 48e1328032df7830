"""Times of usage files: columns of text to UTC seconds, through patterns and zones.

Rules. A pattern's fields stand at fixed places (``%Y %m %d %H %M %S``), so a column is read digit by digit as one
array; ``%f`` (after ``%S``: one to nine digits, dropped) and ``%z`` (at the end: ``Z``, ``+03:00`` or ``+0300``) may
vary. Dates that do not exist are refused, second 60 too. Local times become UTC by the zone's own changes of clocks:
one that a change skipped or repeated follows the named policy, never a guess.

Does not know: which times are plausible.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

#: Formats that are numbers: how many to a second.
EPOCH_UNITS: Final = {"unix_s": 1, "unix_ms": 1_000}
_WIDTHS: Final = {"Y": 4, "m": 2, "d": 2, "H": 2, "M": 2, "S": 2}
#: A zone's changes are looked for at this distance; real ones are weeks apart.
_STEP_S: Final = 6 * 3_600
_DAYS_OF: Final = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], np.int64)


class TimePatternError(ValueError):
    """A pattern that cannot be read by; the message says why."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """places: where each field begins; width: of the part at fixed places; regex: the whole."""

    places: dict[str, int]
    width: int
    has_zone: bool
    regex: str


@dataclass(frozen=True, slots=True)
class Changes:
    """A zone's changes of clocks: at ``at_s`` (UTC) the offset goes from ``offsets_s[i]`` to ``offsets_s[i + 1]``."""

    at_s: Ints
    offsets_s: Ints


@dataclass(frozen=True, slots=True)
class Times:
    """utc_s, and which rows have none: text that is no such time, times that clocks skipped or repeated."""

    utc_s: Ints
    malformed: Flags
    skipped: Flags
    repeated: Flags


def parse_pattern(text: str) -> Pattern:
    """Read a pattern such as ``%d.%m.%Y %H:%M:%S``; seconds may be left out.

    Raises:
        TimePatternError: an unknown, doubled or missing field, or one in the wrong place.
    """
    places: dict[str, int] = {}
    width, regex, tail = 0, "", ""
    for part in re.findall(r"%.?|[^%]+", text, re.DOTALL):
        if tail.endswith("z") or (tail and part != "%z"):
            raise TimePatternError("after %f only %z may stand, and after %z nothing")
        if part in ("%f", "%z"):
            tail += part[1]
        elif part.startswith("%"):
            width += _place_field(part[1:], width, places)
            regex += f"[0-9]{{{_WIDTHS[part[1:]]}}}"
        elif not part.isascii() or not part.isprintable():
            raise TimePatternError(f"{part!r}: only ASCII may stand between fields")
        else:
            regex, width = regex + re.escape(part), width + len(part)
    missing = [name for name in "YmdHM" if name not in places]
    if missing:
        raise TimePatternError(f"%{missing[0]} is missing: a time has %Y %m %d %H %M at least")
    if "f" in tail:
        whole, mark = text.partition("%f")[0][:-1], text.partition("%f")[0][-1:]
        if not whole.endswith("%S") or mark not in ".,":
            raise TimePatternError("%f stands for a fraction of seconds: after %S and a dot or comma")
        regex, width = regex.removesuffix(re.escape(mark)) + f"(?:{re.escape(mark)}[0-9]{{1,9}})?", width - 1
    if "z" in tail:
        regex += "(?:Z|[+-][0-9]{2}:?[0-9]{2})"
    return Pattern(places, width, "z" in tail, f"^{regex}$")


def _place_field(name: str, width: int, places: dict[str, int]) -> int:
    """Note where a field begins; returns its width."""
    if name not in _WIDTHS:
        raise TimePatternError(f"%{name} is not known; known are %Y %m %d %H %M %S %f %z")
    if name in places:
        raise TimePatternError(f"%{name} stands twice")
    places[name] = width
    return _WIDTHS[name]


def read_times(texts: pa.Array, form: str, zone: str, gap: str, ambiguous: str) -> Times:
    """UTC seconds of a column.

    Args:
        texts: strings without nulls. form: a name of EPOCH_UNITS or a pattern.
        gap: "reject" or "forward". ambiguous: "reject", "earlier" or "later".
    """
    count = len(texts)
    none = np.zeros(count, np.bool_)
    if form in EPOCH_UNITS:
        good = flags(pc.match_substring_regex(texts, r"^[0-9]{1,14}$"))
        numbers = np.asarray(pc.cast(pc.if_else(pa.array(good), texts, "0"), pa.int64()))
        return Times(numbers // EPOCH_UNITS[form], ~good, none, none)
    pattern = parse_pattern(form)
    good = flags(pc.match_substring_regex(texts, pattern.regex))
    example = _example(pattern)
    sound = texts if good.all() else pc.if_else(pa.array(good), texts, example)
    wall_s, real = _wall_clock(sound, pattern)
    good &= real
    if pattern.has_zone:
        offsets, plausible = _written_offsets(sound)
        return Times(wall_s - offsets, ~(good & plausible), none, none)
    wall_s[~good] = 0
    utc_s, skipped, repeated = to_utc(wall_s, zone, ambiguous)
    skipped &= good & (gap == "reject")
    repeated &= good & (ambiguous == "reject")
    return Times(utc_s, ~good, skipped, repeated)


def flags(column: Any) -> Flags:
    """An Arrow column of booleans as an array of its own."""
    return np.array(column.to_numpy(zero_copy_only=False), dtype=np.bool_)


def _example(pattern: Pattern) -> str:
    """Some text of the pattern's width, to stand where the file has none."""
    letters = ["0"] * pattern.width
    for name, value in (("Y", "2000"), ("m", "01"), ("d", "01")):
        letters[pattern.places[name] : pattern.places[name] + len(value)] = value
    return "".join(letters) + ("+00:00" if pattern.has_zone else "")


def _wall_clock(texts: pa.Array, pattern: Pattern) -> tuple[Ints, Flags]:
    """Seconds as if the clock were UTC's, and which dates and times exist."""
    count = len(texts)
    heads = pc.binary_slice(pc.cast(texts, pa.binary()), 0, pattern.width)
    offset = heads.offset * pattern.width
    raw = (
        np.frombuffer(heads.buffers()[2], np.uint8)[offset : offset + count * pattern.width]
        if count
        else (np.zeros(0, np.uint8))
    )
    digits = raw.reshape(count, pattern.width).astype(np.int64) - 48

    def field(name: str) -> Ints:
        total = np.zeros(count, np.int64)
        if name in pattern.places:
            for place in range(pattern.places[name], pattern.places[name] + _WIDTHS[name]):
                total = total * 10 + digits[:, place]
        return total

    year, month, day, hour, minute, second = (field(name) for name in "YmdHMS")
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    real = (month >= 1) & (month <= 12) & (hour < 24) & (minute < 60) & (second < 60) & (year >= 1)
    month = np.clip(month, 1, 12)
    real &= (day >= 1) & (day <= _DAYS_OF[month] + (leap & (month == 2)))
    months = (year - 1970) * 12 + month - 1
    days = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) + day - 1
    return days * 86_400 + hour * 3_600 + minute * 60 + second, real


def _written_offsets(texts: pa.Array) -> tuple[Ints, Flags]:
    """Offsets from UTC at the end of each text, and which are within a day's half and a bit."""
    tails = pc.replace_substring(pc.utf8_slice_codeunits(texts, -6), ":", "")
    tails = pc.if_else(pc.ends_with(tails, "Z"), "+0000", tails)
    numbers = np.asarray(pc.cast(pc.utf8_slice_codeunits(tails, -4), pa.int64()))
    signs = np.where(flags(pc.equal(pc.utf8_slice_codeunits(tails, -5, -4), "-")), -1, 1)
    hours, minutes = numbers // 100, numbers % 100
    return signs * (hours * 3_600 + minutes * 60), (hours <= 14) & (minutes < 60)


def to_utc(wall_s: Ints, zone: str, ambiguous: str) -> tuple[Ints, Flags, Flags]:
    """Local seconds to UTC: (utc_s, skipped by a change of clocks, repeated by one).

    A skipped time is read with the offset before the change, which puts it as far behind the change as its clock had
    run on. A repeated one is its first coming unless ``ambiguous`` is "later".
    """
    if not len(wall_s):
        return wall_s, np.zeros(0, np.bool_), np.zeros(0, np.bool_)
    year = 366 * 86_400  # whole years, so that every block of a file finds the same table
    changes = changes_of(zone, int(wall_s.min()) // year - 1, int(wall_s.max()) // year + 2)
    before, after = changes.offsets_s[:-1], changes.offsets_s[1:]
    done = np.searchsorted(changes.at_s + np.maximum(before, after), wall_s, side="right")
    begun = np.searchsorted(changes.at_s + np.minimum(before, after), wall_s, side="right")
    between = done != begun
    forward = np.zeros(len(wall_s), np.bool_)
    forward[between] = (after > before)[done[between]]
    chosen = np.where(between & ~forward & (ambiguous == "later"), begun, done)
    return wall_s - changes.offsets_s[chosen], between & forward, between & ~forward


@lru_cache(maxsize=64)
def changes_of(zone: str, first_year: int, last_year: int) -> Changes:
    """A zone's changes between two numbers of 366-day years since 1970, found by asking the zone."""
    found = ZoneInfo(zone)

    def offset(at_s: int) -> int:
        delta = datetime.fromtimestamp(at_s, UTC).astimezone(found).utcoffset()
        assert delta is not None
        return delta.days * 86_400 + delta.seconds

    year = 366 * 86_400
    low, high = max(first_year * year, 631_152_000), min(last_year * year, 4_102_444_800)  # 1990 to 2100
    at: list[int] = []
    offsets = [offset(low)]
    for left in range(low, high, _STEP_S):
        right = left + _STEP_S
        if offset(right) == offsets[-1]:
            continue
        while right - left > 1:
            middle = (left + right) // 2
            left, right = (middle, right) if offset(middle) == offsets[-1] else (left, middle)
        at.append(right)
        offsets.append(offset(right))
    return Changes(np.array(at, np.int64), np.array(offsets, np.int64))
