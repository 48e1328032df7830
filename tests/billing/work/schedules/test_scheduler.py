"""The scheduler on a moved clock: once over several hosts, missed runs by rule, overlap, clocks that jump, faults."""

from datetime import UTC, datetime
from typing import Any

import pytest

from billing.work.schedules.records import Missed, Overlap
from billing.work.schedules.scheduler import refresh
from billing.work.schedules.schedules import (
    load_working_days,
    pause_schedule,
    resume_schedule,
    run_now,
    skip_instant,
    unskip_instant,
)
from billing.work.schedules.store import find_schedule, runs_of, standing
from billing.work.schedules.working_days import read_calendar_file
from tests.billing.work.schedules.hosts import Hosts, MovedClock, add, done, end_jobs, look_once, rows, seconds, told


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock("2026-12-01T00:00")


def jobs(dsn: str) -> list[tuple[Any, ...]]:
    return rows(dsn, "SELECT kind, arguments, asked_by, state FROM jobs ORDER BY id")


def test_an_instant_queues_one_job_with_its_arguments(database: Any, clock: MovedClock) -> None:
    arguments = {"date": "{date}", "is_review": True}
    add(database.dsn, clock, "daily-bills", "daily at 03:00", "Europe/Moscow", arguments=arguments)
    look_once(database.dsn, clock)
    assert jobs(database.dsn) == []  # in Moscow it is 03:00 already
    clock.set("2026-12-02T00:00")
    look_once(database.dsn, clock)
    look_once(database.dsn, clock)
    assert told(database.dsn, "daily-bills")[-1] == ("2026-12-02T00:00", "run", "due")
    last = jobs(database.dsn)[-1]
    assert last == ("bill.run", {"date": "2026-12-02", "is_review": True}, "system:schedule:daily-bills", "queued")


def test_three_hosts_that_look_at_once_queue_each_run_once(database: Any, clock: MovedClock) -> None:
    for name in ("a", "b", "c", "d"):
        add(database.dsn, clock, name, "every minute", overlap=Overlap.QUEUE)
    with Hosts(database.dsn, clock, 3) as hosts:
        for _ in range(15):
            clock.now_s += 60
            hosts.look()
            end_jobs(database.dsn)
    assert rows(database.dsn, "SELECT count(*), count(DISTINCT key) FROM jobs") == [(60, 60)]
    assert rows(database.dsn, "SELECT DISTINCT decision, reason FROM schedule_runs") == [("run", "due")]


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        (Missed.SKIP, [("skipped", "missed")] * 3),
        (Missed.ONCE, [("skipped", "merged"), ("skipped", "merged"), ("run", "caught_up")]),
        (Missed.EACH, [("run", "caught_up")] * 3),
    ],
)
def test_runs_that_nobody_was_there_for_go_by_the_rule(
    database: Any, clock: MovedClock, missed: Missed, expected: list[tuple[str, str]]
) -> None:
    add(database.dsn, clock, "daily", "daily at 03:00", missed=missed)
    clock.set("2026-12-03T12:00")
    for _ in range(5):
        look_once(database.dsn, clock)
        assert rows(database.dsn, "SELECT count(*) <= 1 FROM jobs WHERE state = 'queued'") == [(True,)]
        end_jobs(database.dsn)
    days = ["2026-12-01T03:00", "2026-12-02T03:00", "2026-12-03T03:00"]
    assert told(database.dsn, "daily") == [(day, *made) for day, made in zip(days, expected, strict=True)]


def test_a_month_of_missed_minutes_is_counted_in_few_rows(database: Any, clock: MovedClock) -> None:
    add(database.dsn, clock, "minutes", "every minute")
    clock.set("2026-12-31T00:00")
    look_once(database.dsn, clock)
    statement = "SELECT count(*), sum(stands_for) FROM schedule_runs"
    assert rows(database.dsn, statement) == [(101, 30 * 1440)]
    assert told(database.dsn, "minutes")[0] == ("2026-12-01T00:01", "skipped", "merged")
    assert told(database.dsn, "minutes")[-1] == ("2026-12-31T00:00", "run", "due")


def test_a_run_that_is_not_over_makes_the_next_one_skip_or_wait(database: Any, clock: MovedClock) -> None:
    add(database.dsn, clock, "skips", "daily at 03:00")
    add(database.dsn, clock, "waits", "daily at 03:00", overlap=Overlap.QUEUE)
    for day in ("2026-12-01T03:00", "2026-12-02T03:00", "2026-12-03T03:00"):
        clock.set(day)
        look_once(database.dsn, clock)
    assert [made[1:] for made in told(database.dsn, "skips")] == [
        ("run", "due"), ("skipped", "overlap"), ("skipped", "overlap")
    ]  # fmt: skip
    assert [made[1] for made in told(database.dsn, "waits")] == ["run", "queued", "queued"]
    end_jobs(database.dsn)
    look_once(database.dsn, clock)
    look_once(database.dsn, clock)
    assert [made[1] for made in told(database.dsn, "waits")] == ["run", "run", "queued"]
    end_jobs(database.dsn)
    clock.set("2026-12-04T03:00")
    look_once(database.dsn, clock)
    assert [made[1] for made in told(database.dsn, "waits")] == ["run", "run", "run", "queued"]
    assert told(database.dsn, "skips")[-1][1:] == ("run", "due")


def test_how_a_job_ended_stays_when_the_job_is_deleted(database: Any, clock: MovedClock) -> None:
    schedule = add(database.dsn, clock, "daily", "daily at 03:00")
    for day, state in (("2026-12-01T03:00", "done"), ("2026-12-02T03:00", "failed")):
        clock.set(day)
        look_once(database.dsn, clock)
        end_jobs(database.dsn, state)
    look_once(database.dsn, clock)
    rows(database.dsn, "DELETE FROM jobs")
    kept = done(database.dsn, lambda cur: runs_of(cur, schedule.id))
    assert [run.outcome for run in kept] == ["failed", "done"]
    assert all(run.duration_s is not None for run in kept)
    clock.set("2026-12-03T03:00")
    look_once(database.dsn, clock)
    rows(database.dsn, "DELETE FROM jobs")
    look_once(database.dsn, clock)
    assert done(database.dsn, lambda cur: runs_of(cur, schedule.id))[0].outcome == "lost"


def test_a_job_that_a_person_begins_again_is_not_over(database: Any, clock: MovedClock) -> None:
    schedule = add(database.dsn, clock, "daily", "daily at 03:00")
    clock.set("2026-12-01T03:00")
    look_once(database.dsn, clock)
    end_jobs(database.dsn, "failed")
    look_once(database.dsn, clock)
    rows(database.dsn, "UPDATE jobs SET state = 'queued', finished_at = NULL")
    clock.set("2026-12-02T03:00")
    look_once(database.dsn, clock)
    assert told(database.dsn, "daily")[-1][1:] == ("skipped", "overlap")
    end_jobs(database.dsn, "done")
    look_once(database.dsn, clock)
    assert done(database.dsn, lambda cur: runs_of(cur, schedule.id))[1].outcome == "done"


def test_a_clock_that_goes_back_repeats_no_run(database: Any, clock: MovedClock) -> None:
    add(database.dsn, clock, "hourly", "every hour")
    clock.set("2026-12-01T05:00")
    look_once(database.dsn, clock)
    end_jobs(database.dsn)
    before = told(database.dsn, "hourly")
    for moment in ("2026-12-01T04:30", "2026-12-01T05:00", "2026-12-01T05:30"):
        clock.set(moment)
        look_once(database.dsn, clock)
    assert [made for made in told(database.dsn, "hourly") if made[1] == "run"] == [
        made for made in before if made[1] == "run"
    ]
    clock.set("2026-12-01T06:00")
    look_once(database.dsn, clock)
    assert told(database.dsn, "hourly")[-1] == ("2026-12-01T06:00", "run", "due")


def test_a_clock_that_jumped_a_month_ahead_and_comes_back_takes_no_run_away(database: Any, clock: MovedClock) -> None:
    add(database.dsn, clock, "daily", "daily at 03:00")
    add(database.dsn, clock, "each", "daily at 03:00", missed=Missed.EACH, missed_max=3)
    clock.set("2026-12-31T12:00")
    look_once(database.dsn, clock)
    end_jobs(database.dsn)
    assert told(database.dsn, "daily")[-1] == ("2026-12-31T03:00", "run", "caught_up")
    clock.set("2026-12-01T01:00")
    look_once(database.dsn, clock)
    assert told(database.dsn, "daily") == [("2026-12-31T03:00", "run", "caught_up")]
    for day in range(1, 32):
        clock.set(f"2026-12-{day:02}T03:00")
        look_once(database.dsn, clock)
        end_jobs(database.dsn)
    ran = [planned for planned, decision, _ in told(database.dsn, "daily") if decision == "run"]
    assert ran == [f"2026-12-{day:02}T03:00" for day in range(1, 32)]
    ran = [planned for planned, decision, _ in told(database.dsn, "each") if decision == "run"]
    assert ran == [f"2026-12-{day:02}T03:00" for day in range(1, 32)]


def test_minutes_that_were_counted_ahead_of_their_time_come_again(database: Any, clock: MovedClock) -> None:
    add(database.dsn, clock, "minutes", "every minute", missed=Missed.SKIP)
    clock.set("2026-12-02T00:00")
    look_once(database.dsn, clock)
    end_jobs(database.dsn)
    clock.set("2026-12-01T00:10")
    look_once(database.dsn, clock)
    assert told(database.dsn, "minutes") == [
        ("2026-12-01T00:01", "skipped", "missed"), ("2026-12-02T00:00", "run", "due")
    ]  # fmt: skip
    assert rows(database.dsn, "SELECT stands_for FROM schedule_runs ORDER BY planned_at") == [(10,), (1,)]
    clock.set("2026-12-01T00:11")
    look_once(database.dsn, clock)
    assert told(database.dsn, "minutes")[1] == ("2026-12-01T00:11", "run", "due")


def test_what_comes_while_a_schedule_is_paused_is_not_made_up(database: Any, clock: MovedClock) -> None:
    add(database.dsn, clock, "daily", "daily at 03:00", missed=Missed.EACH)
    assert done(database.dsn, lambda cur: pause_schedule(cur, clock, "daily", "audit", "user:ann"))
    assert not done(database.dsn, lambda cur: pause_schedule(cur, clock, "daily", "audit", "user:ann"))
    clock.set("2026-12-05T12:00")
    look_once(database.dsn, clock)
    assert done(database.dsn, lambda cur: resume_schedule(cur, clock, "daily", "user:ann"))
    look_once(database.dsn, clock)
    clock.set("2026-12-06T03:00")
    look_once(database.dsn, clock)
    assert told(database.dsn, "daily") == [("2026-12-06T03:00", "run", "due")]


def test_a_schedule_stops_after_its_last_instant(database: Any, clock: MovedClock) -> None:
    add(database.dsn, clock, "daily", "daily at 03:00", stops_after=datetime(2026, 12, 2, 3, tzinfo=UTC))
    for day in range(1, 5):
        clock.set(f"2026-12-{day:02}T03:00")
        look_once(database.dsn, clock)
        end_jobs(database.dsn)
    assert [planned for planned, _, _ in told(database.dsn, "daily")] == ["2026-12-01T03:00", "2026-12-02T03:00"]
    schedule = done(database.dsn, lambda cur: find_schedule(cur, "daily"))
    assert schedule is not None
    assert schedule.next_s is None


def test_an_instant_that_a_person_skipped_does_not_run(database: Any, clock: MovedClock) -> None:
    add(database.dsn, clock, "daily", "daily at 03:00")
    skipped, kept = seconds("2026-12-02T03:00"), seconds("2026-12-03T03:00")
    for instant in (skipped, kept):
        done(database.dsn, lambda cur, at=instant: skip_instant(cur, clock, "daily", at, "holiday", "user:ann"))  # type: ignore[misc]
    done(database.dsn, lambda cur: unskip_instant(cur, clock, "daily", kept))
    for day in range(1, 5):
        clock.set(f"2026-12-{day:02}T03:00")
        look_once(database.dsn, clock)
        end_jobs(database.dsn)
    assert [made[1:] for made in told(database.dsn, "daily")] == [
        ("run", "due"), ("skipped", "asked"), ("run", "due"), ("run", "due")
    ]  # fmt: skip


def test_a_run_that_a_person_asks_for_stands_beside_the_plan(database: Any, clock: MovedClock) -> None:
    add(database.dsn, clock, "daily", "daily at 03:00", arguments={"date": "{date}"})
    clock.set("2026-12-01T03:00")
    first = done(database.dsn, lambda cur: run_now(cur, clock, "daily", "user:ann", request_key="form-1"))
    again = done(database.dsn, lambda cur: run_now(cur, clock, "daily", "user:ann", request_key="form-1"))
    assert first == again
    end_jobs(database.dsn)
    look_once(database.dsn, clock)
    assert sorted(told(database.dsn, "daily")) == [
        ("2026-12-01T03:00", "run", "asked"), ("2026-12-01T03:00", "run", "due")
    ]  # fmt: skip
    assert {asked_by for _, _, asked_by, _ in jobs(database.dsn)} == {"user:ann", "system:schedule:daily"}


def test_a_fault_of_one_schedule_leaves_its_neighbours_alone(database: Any, clock: MovedClock) -> None:
    for name in ("broken-rule", "broken-zone", "healthy"):
        add(database.dsn, clock, name, "daily at 03:00")
    rows(database.dsn, "UPDATE schedules SET rule = 'sometimes' WHERE name = 'broken-rule'")
    rows(database.dsn, "UPDATE schedules SET zone = 'Mars/Olympus' WHERE name = 'broken-zone'")
    clock.set("2026-12-01T03:00")
    look_once(database.dsn, clock)
    assert told(database.dsn, "healthy") == [("2026-12-01T03:00", "run", "due")]
    problems = dict(rows(database.dsn, "SELECT name, problem FROM schedules"))
    assert "is no rule" in problems["broken-rule"]
    assert "no time zone" in problems["broken-zone"]
    stands = done(database.dsn, lambda cur: standing(cur, clock.now_s))
    assert (stands.on, stands.with_problem, stands.late) == (3, 2, 0)
    rows(database.dsn, "UPDATE schedules SET zone = 'UTC' WHERE name = 'broken-zone'")
    assert done(database.dsn, lambda cur: resume_schedule(cur, clock, "broken-zone", "user:ann"))
    clock.set("2026-12-02T03:00")
    look_once(database.dsn, clock)
    assert told(database.dsn, "broken-zone") == [("2026-12-02T03:00", "run", "due")]


def test_late_schedules_are_counted_until_they_are_decided(database: Any, clock: MovedClock) -> None:
    add(database.dsn, clock, "daily", "daily at 03:00")
    clock.set("2026-12-01T03:10")
    assert done(database.dsn, lambda cur: standing(cur, clock.now_s)).late == 0
    clock.set("2026-12-01T03:11")
    assert done(database.dsn, lambda cur: standing(cur, clock.now_s)).late == 1
    look_once(database.dsn, clock)
    assert done(database.dsn, lambda cur: standing(cur, clock.now_s)).late == 0


def test_a_calendar_that_is_loaded_plans_anew(database: Any, clock: MovedClock) -> None:
    add(database.dsn, clock, "workdays", "working days at 09:00")
    days = read_calendar_file("ru.csv", "date,kind\n2026-12-01,off\n2026-12-02,off\n2026-12-05,working\n")
    years = done(database.dsn, lambda cur: load_working_days(cur, clock, days, "ru.csv", "user:ann"))
    assert years == [2026]
    for day in range(1, 8):
        clock.set(f"2026-12-{day:02}T09:00")
        look_once(database.dsn, clock)
        end_jobs(database.dsn)
    assert [planned[8:10] for planned, _, _ in told(database.dsn, "workdays")] == ["03", "04", "05", "07"]


def test_planning_anew_makes_up_nothing_and_loses_nothing(database: Any, clock: MovedClock) -> None:
    add(database.dsn, clock, "workdays", "working days at 09:00")
    rows(database.dsn, "UPDATE schedules SET next_at = NULL")
    done(database.dsn, lambda cur: refresh(cur, clock))
    clock.set("2026-12-01T09:05")
    done(database.dsn, lambda cur: refresh(cur, clock))
    look_once(database.dsn, clock)
    assert told(database.dsn, "workdays") == [("2026-12-01T09:00", "run", "due")]
