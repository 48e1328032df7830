"""Three hosts and a moved clock in three zones: every run once, missed ones by rule, whatever the clocks do.

The judge knows no rule of ours: it walks the minutes of UTC and reads the zone's clocks. Hosts look late by up to five
minutes, all at once; twice they are away for some days, once through a change of the clocks.
"""

import itertools
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import psycopg2
import pytest

from billing.work.schedules.records import Missed
from billing.work.schedules.schedules import load_working_days
from billing.work.schedules.working_days import SpecialDay
from tests.billing.work.schedules.hosts import Hosts, MovedClock, add, done, rows, seconds
from tests.billing.work.schedules.strategies import RUSSIA_2026

ZONES = ("Europe/Moscow", "America/New_York", "Australia/Lord_Howe")
MISSED_MAX = 3
LATE_S = 600
END_JOBS = """
    UPDATE jobs SET state = 'done', attempt = 1, started_at = now(), finished_at = now() WHERE state = 'queued'
"""


def minutes_of(zone: str, first: date, last: date) -> Iterator[tuple[int, datetime]]:
    """Every minute of UTC and what the zone's clocks show, with the days around."""
    at = datetime(first.year, first.month, first.day, tzinfo=UTC) - timedelta(days=2)
    end = datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=2)
    place = ZoneInfo(zone)
    while at < end:
        yield int(at.timestamp()), at.astimezone(place).replace(tzinfo=None)
        at += timedelta(minutes=1)


def judge(zone: str, first: date, last: date, time_of_day: str, is_day: Callable[[date], bool]) -> list[int]:
    """The first minute of each wanted day at which the clocks show the time or have passed it."""
    hour, minute = (int(part) for part in time_of_day.split(":"))
    waiting = [
        datetime.combine(day, datetime.min.time()).replace(hour=hour, minute=minute)
        for day in (first + timedelta(days=n) for n in range(-2, (last - first).days + 3))
        if is_day(day)
    ]
    instants, place = [], 0
    for at_s, wall in minutes_of(zone, first, last):
        while place < len(waiting) and wall >= waiting[place]:
            if wall - waiting[place] < timedelta(days=1):
                instants.append(at_s)
            place += 1
    return instants


def last_of_month(day: date) -> bool:
    return (day + timedelta(days=1)).day == 1


def shifted(day: date) -> bool:
    """The tenth, or the working day after it."""
    tenth = day.replace(day=10)
    while not RUSSIA_2026.is_working(tenth):
        tenth += timedelta(days=1)
    return day == tenth


RULES: tuple[tuple[str, str, str, Callable[[date], bool]], ...] = (
    ("night", "daily at 02:30", "02:30", lambda day: True),
    ("half", "daily at 01:45", "01:45", lambda day: True),
    ("mondays", "weekly on mon at 09:00", "09:00", lambda day: day.weekday() == 0),
    ("ends", "monthly on last day at 23:30", "23:30", last_of_month),
    ("tenths", "monthly on 10 or next working day at 12:00", "12:00", shifted),
    ("work", "working days at 10:00", "10:00", RUSSIA_2026.is_working),
)


def expected(instants: list[int], looks: list[int], missed: Missed) -> Counter[str]:
    """How often each decision is made, by the rules read aloud."""
    counts: Counter[str] = Counter()
    before = looks[0]
    for now in looks[1:]:
        come = [at for at in instants if before < at <= now]
        before = now
        if not come:
            continue
        on_time = now - come[-1] <= LATE_S
        if missed is Missed.EACH:
            counts["run"] += min(len(come), MISSED_MAX)
            counts["skipped"] += max(0, len(come) - MISSED_MAX)
        else:
            runs = 1 if on_time or missed is Missed.ONCE else 0
            counts["run"] += runs
            counts["skipped"] += len(come) - runs
    return counts


def play(database: Any, first: date, last: date, away: list[tuple[str, str]], rules: Any) -> None:
    """Hosts through the days from first to last. away: from and until when no host looks."""
    clock = MovedClock(first.isoformat())
    begin_s, end_s = clock.now_s, seconds(last.isoformat())
    special = [SpecialDay(day, False) for day in RUSSIA_2026.off] + [
        SpecialDay(day, True) for day in RUSSIA_2026.working
    ]
    done(database.dsn, lambda cur: load_working_days(cur, clock, special, "ru.csv", "user:ann"))
    wanted: dict[str, tuple[list[int], Missed]] = {}
    for zone, (name, rule, time_of_day, is_day) in itertools.product(ZONES, rules):
        instants = [at for at in judge(zone, first, last, time_of_day, is_day) if begin_s < at <= end_s]
        for missed in Missed:
            full = f"{name}-{missed.value}-{zone.lower().replace('/', '-').replace('_', '-')}"
            add(database.dsn, clock, full, rule, zone, missed=missed, missed_max=MISSED_MAX, late_after_s=LATE_S)
            wanted[full] = (instants, missed)
    closed = [(seconds(begin), seconds(end)) for begin, end in away]
    chance = random.Random(f"{first}")
    every = {at + chance.randrange(0, 300) for instants, _ in wanted.values() for at in instants}
    looks = sorted(at for at in every | {end for _, end in closed} if not any(b <= at < e for b, e in closed))
    looks = [begin_s, *(at for at in looks if at <= end_s), end_s]
    with Hosts(database.dsn, clock, 3) as hosts, closing(psycopg2.connect(database.dsn)) as workers:
        workers.autocommit = True
        for now_s in looks[1:]:
            clock.set(now_s)
            hosts.look()
            while end_jobs_by(workers):
                hosts.look()
    found: dict[str, list[tuple[int, str, int]]] = {name: [] for name in wanted}
    statement = """
        SELECT s.name, extract(epoch FROM r.planned_at)::bigint, r.decision, r.stands_for
        FROM schedule_runs r JOIN schedules s ON s.id = r.schedule_id ORDER BY r.planned_at
    """
    for name, planned_s, decision, stands_for in rows(database.dsn, statement):
        found[name].append((planned_s, decision, stands_for))
    for name, (instants, missed) in wanted.items():
        assert [planned_s for planned_s, _, _ in found[name]] == instants, name
        assert Counter(decision for _, decision, _ in found[name]) == expected(instants, looks, missed), name
    runs = sum(decision == "run" for made in found.values() for _, decision, _ in made)
    assert rows(database.dsn, "SELECT count(*), count(DISTINCT key) FROM jobs") == [(runs, runs)]
    assert rows(database.dsn, "SELECT count(*) FROM schedules WHERE problem <> ''") == [(0,)]
    assert len(rows(database.dsn, "SELECT DISTINCT decided_by FROM schedule_runs")) > 1


def end_jobs_by(connection: Any) -> int:
    with connection.cursor() as cur:
        cur.execute(END_JOBS)
        return int(cur.rowcount)


@pytest.mark.parametrize(
    ("first", "last", "away"),
    [
        (date(2026, 10, 2), date(2026, 10, 7), ("2026-10-05T10:00", "2026-10-06T20:00")),
        (date(2026, 10, 31), date(2026, 11, 5), ("2026-10-31T03:00", "2026-11-01T12:00")),
    ],
)
def test_days_at_a_change_of_the_clocks_in_three_zones(
    database: Any, first: date, last: date, away: tuple[str, str]
) -> None:
    play(database, first, last, [away], (RULES[0], RULES[5]))


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_a_year_in_three_zones(database: Any) -> None:
    away = [
        ("2026-03-07T18:00", "2026-03-10T07:00"),
        ("2026-06-01T00:00", "2026-06-01T12:00"),
        ("2026-10-03T10:00", "2026-10-05T20:00"),
    ]
    play(database, date(2026, 1, 1), date(2027, 1, 1), away, RULES)
