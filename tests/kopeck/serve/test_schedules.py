"""The role schedules: its own schedules at the first start, and three real processes that share the work."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from billing.work.schedules.records import Missed
from billing.work.schedules.store import list_schedules
from kopeck.serve.schedules import SchedulerOptions, run_scheduler
from tests.billing.work.schedules.hosts import MovedClock, add, done, end_jobs, rows
from tests.gateway.until import until

KINDS = ("bill.run", "dunning.run", "verify", "sessions.forget", "attempts.forget")
SCHEDULES, MISSED = 12, 5


@contextmanager
def host(dsn: str) -> Iterator[subprocess.Popen[bytes]]:
    """A `kopeck serve schedules` of its own."""
    environment = os.environ | {
        "KOPECK_DATABASE__DSN": dsn,
        "KOPECK_JOURNAL__URI": "mongodb://127.0.0.1:1",
        "KOPECK_SCHEDULES__METRICS_PORT": "0",
        "KOPECK_SCHEDULES__POLL_MS": "100",
    }
    process = subprocess.Popen([sys.executable, "-m", "kopeck", "serve", "schedules"], env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_three_processes_of_which_one_is_killed_run_each_instant_once(database: Any) -> None:
    now_s = rows(database.dsn, "SELECT floor(extract(epoch FROM now()))::bigint")[0][0]
    clock = MovedClock("2026-01-01")
    clock.set(now_s - MISSED * 86_400)
    for number in range(SCHEDULES):
        add(database.dsn, clock, f"daily-{number}", "daily at 12:00", missed=Missed.EACH, missed_max=MISSED)

    async def play() -> None:
        with ExitStack() as stack:
            processes = [stack.enter_context(host(database.dsn)) for _ in range(3)]

            def runs() -> int:
                end_jobs(database.dsn)
                statement = """
                    SELECT count(*) FROM schedule_runs r JOIN schedules s ON s.id = r.schedule_id
                    WHERE r.decision = 'run' AND s.name LIKE 'daily-_%'
                """
                return int(rows(database.dsn, statement.replace("%'", "%%'"))[0][0])

            await until(lambda: runs() >= SCHEDULES, "no process decides")
            processes[0].kill()
            await until(lambda: runs() >= SCHEDULES * MISSED, "two processes do not go on alone")
            for process in processes[1:]:
                process.terminate()
            await until(lambda: all(process.poll() == 0 for process in processes[1:]), "they do not end")

    asyncio.run(play())
    statement = """
        SELECT count(*), count(DISTINCT j.key), count(DISTINCT (r.schedule_id, r.planned_at))
        FROM schedule_runs r JOIN jobs j ON j.id = r.job_id JOIN schedules s ON s.id = r.schedule_id
        WHERE s.name LIKE 'daily-_%%'
    """
    total = SCHEDULES * MISSED
    assert rows(database.dsn, statement) == [(total, total, total)]
    assert rows(database.dsn, "SELECT count(*) FROM schedule_runs WHERE decision <> 'run'") == [(0,)]


def options(dsn: str, clock: MovedClock, host: str = "host-1") -> SchedulerOptions:
    return SchedulerOptions(dsn, host, 0.02, "Europe/Moscow", KINDS, clock)


def test_the_first_start_offers_the_schedules_of_the_program_once(database: Any) -> None:
    clock = MovedClock("2026-12-01")

    async def start() -> None:
        stop = asyncio.Event()
        hosts = [asyncio.create_task(run_scheduler(options(database.dsn, clock, f"host-{no}"), stop)) for no in (1, 2)]
        statement = "SELECT count(*) FROM schedule_defaults"
        await until(lambda: rows(database.dsn, statement)[0][0] == 5, "nothing is offered")
        stop.set()
        await asyncio.gather(*hosts)

    asyncio.run(start())
    found = {schedule.name: schedule for schedule in done(database.dsn, list_schedules)}
    states = {name: schedule.state.value for name, schedule in found.items()}
    assert states == {
        "daily-bills": "paused", "dunning": "paused", "old-attempts": "paused", "old-sessions": "on", "verify": "on"
    }  # fmt: skip
    assert {schedule.terms.zone for schedule in found.values()} == {"Europe/Moscow"}
    assert found["verify"].next_s is not None
    assert found["daily-bills"].next_s is None
    rows(database.dsn, "UPDATE schedules SET state = 'removed', next_at = NULL WHERE name = 'verify'")
    asyncio.run(start())
    assert "verify" not in {schedule.name for schedule in done(database.dsn, list_schedules)}


def test_a_database_that_goes_away_is_waited_for(database: Any) -> None:
    clock = MovedClock("2026-12-01")
    add(database.dsn, clock, "daily", "daily at 12:00")

    async def play() -> None:
        stop = asyncio.Event()
        running = asyncio.create_task(run_scheduler(options(database.dsn, clock), stop))
        mine = "application_name = 'kopeck-schedules' AND datname = current_database()"
        await until(lambda: rows(database.dsn, f"SELECT 1 FROM pg_stat_activity WHERE {mine}"), "it does not connect")
        rows(database.admin_dsn, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {mine}")
        clock.set("2026-12-01T12:00")
        statement = "SELECT 1 FROM schedule_runs WHERE decision = 'run'"
        await until(lambda: rows(database.dsn, statement), "it does not come back")
        stop.set()
        await running

    asyncio.run(play())
