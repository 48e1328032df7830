"""Times of usage files: exact, and right where clocks are changed."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.files.times import TimePatternError, changes_of, parse_pattern, read_times, to_utc
from tests.billing.usage.usage_files import UNHURRIED

ZONES = (
    "Europe/Moscow",
    "Europe/Berlin",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Asia/Gaza",
    "UTC",
    "Asia/Kolkata",
)


def read(text: str, form: str, zone: str = "UTC", gap: str = "reject", ambiguous: str = "reject") -> datetime | str:
    times = read_times(pa.array([text]), form, zone, gap, ambiguous)
    for name in ("malformed", "skipped", "repeated"):
        if getattr(times, name)[0]:
            return name
    return datetime.fromtimestamp(int(times.utc_s[0]), UTC)


@UNHURRIED
@given(st.integers(662_688_000, 2_840_140_800), st.sampled_from(ZONES))
def test_local_times_become_utc_as_the_zone_says(at_s, zone) -> None:
    wall = datetime.fromtimestamp(at_s, UTC).replace(tzinfo=None)
    utc_s, skipped, repeated = to_utc(np.array([int(wall.replace(tzinfo=UTC).timestamp())]), zone, "earlier")
    earlier, later = (wall.replace(tzinfo=ZoneInfo(zone), fold=fold) for fold in (0, 1))
    really_skipped = earlier.astimezone(UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None) != wall
    assert bool(skipped[0]) == really_skipped
    assert bool(repeated[0]) == (not really_skipped and earlier.utcoffset() != later.utcoffset())
    assert int(utc_s[0]) == int(earlier.timestamp())


@UNHURRIED
@given(st.integers(0, 3_600 * 24 * 365 * 30), st.sampled_from(ZONES), st.sampled_from(["earlier", "later"]))
def test_every_instant_comes_back_from_its_local_time(at_s, zone, ambiguous) -> None:
    local = datetime.fromtimestamp(946_684_800 + at_s, UTC).astimezone(ZoneInfo(zone))
    wall_s = int(local.replace(tzinfo=UTC).timestamp())
    utc_s, skipped, repeated = to_utc(np.array([wall_s]), zone, ambiguous)
    assert not skipped[0]
    if not repeated[0] or (ambiguous == "later") == bool(local.fold):
        assert int(utc_s[0]) == 946_684_800 + at_s


def test_a_gap_and_a_repeated_hour_follow_their_policies() -> None:
    form = "%Y-%m-%d %H:%M"
    assert read("2026-03-29 02:30", form, "Europe/Berlin") == "skipped"
    assert read("2026-03-29 02:30", form, "Europe/Berlin", gap="forward") == datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
    assert read("2026-10-25 02:30", form, "Europe/Berlin") == "repeated"
    first, second = (read("2026-10-25 02:30", form, "Europe/Berlin", ambiguous=which) for which in ("earlier", "later"))
    assert (first, second - first) == (datetime(2026, 10, 25, 0, 30, tzinfo=UTC), timedelta(hours=1))


@pytest.mark.parametrize(
    ("text", "form", "expected"),
    [
        ("29.02.2024 23:59:59", "%d.%m.%Y %H:%M:%S", datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC)),
        ("29.02.2026 23:59:59", "%d.%m.%Y %H:%M:%S", "malformed"),
        ("29.02.1900 00:00:00", "%d.%m.%Y %H:%M:%S", "malformed"),
        ("31.04.2026 00:00:00", "%d.%m.%Y %H:%M:%S", "malformed"),
        ("00.04.2026 00:00:00", "%d.%m.%Y %H:%M:%S", "malformed"),
        ("01.13.2026 00:00:00", "%d.%m.%Y %H:%M:%S", "malformed"),
        ("01.01.2026 24:00:00", "%d.%m.%Y %H:%M:%S", "malformed"),
        ("01.01.2026 10:00:60", "%d.%m.%Y %H:%M:%S", "malformed"),
        ("1.1.2026 10:00:00", "%d.%m.%Y %H:%M:%S", "malformed"),
        ("01.01.2026 10:00:00 ", "%d.%m.%Y %H:%M:%S", "malformed"),
        ("٠١.01.2026 10:00:00", "%d.%m.%Y %H:%M:%S", "malformed"),
        ("", "%d.%m.%Y %H:%M:%S", "malformed"),
        ("20260102030405", "%Y%m%d%H%M%S", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05.999Z", "%Y-%m-%dT%H:%M:%S.%f%z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05+0330", "%Y-%m-%dT%H:%M:%S.%f%z", datetime(2026, 1, 1, 23, 34, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05-03:30", "%Y-%m-%dT%H:%M:%S%z", datetime(2026, 1, 2, 6, 34, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05+15:00", "%Y-%m-%dT%H:%M:%S%z", "malformed"),
        ("2026-01-02T03:04:05", "%Y-%m-%dT%H:%M:%S%z", "malformed"),
        ("1767322800", "unix_s", datetime(2026, 1, 2, 3, tzinfo=UTC)),
        ("1767322800999", "unix_ms", datetime(2026, 1, 2, 3, tzinfo=UTC)),
        ("-1", "unix_s", "malformed"),
        ("9" * 30, "unix_s", "malformed"),
        ("1.5", "unix_s", "malformed"),
    ],
)
def test_texts_are_read_exactly_or_refused(text, form, expected) -> None:
    assert read(text, form) == expected


@pytest.mark.parametrize(
    "text", ["", "%Y", "%Y-%m-%d", "%Y-%m-%d %H:%M %", "%Y-%m-%d %H:%M%z%S", "%Y-%m-%d %H:%M.%f", "ё%Y"]
)
def test_a_pattern_that_cannot_work_is_refused(text) -> None:
    with pytest.raises(TimePatternError):
        parse_pattern(text)


def test_moscow_left_summer_time_for_good() -> None:
    changes = changes_of("Europe/Moscow", 40, 60)
    assert datetime.fromtimestamp(int(changes.at_s[-1]), UTC) == datetime(2014, 10, 25, 22, tzinfo=UTC)
    assert changes.offsets_s[-1] == 3 * 3_600
