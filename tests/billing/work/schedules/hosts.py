"""A moved clock, hosts that decide by it, and workers that end jobs: what the tests of the scheduler share."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, TypeVar

import psycopg2

from billing.database.aiopg import connect
from billing.work.schedules.records import Schedule, ScheduleTerms
from billing.work.schedules.scheduler import decide_one, start_one
from billing.work.schedules.schedules import add_schedule
from billing.work.schedules.store import settle_runs

T = TypeVar("T")
KINDS = ("bill.run", "dunning.run")


def seconds(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


class MovedClock:
    """A clock that shows what it is set to, to every host alike."""

    def __init__(self, now: str) -> None:
        self.now_s = seconds(now)

    def set(self, now: str | int) -> None:
        self.now_s = seconds(now) if isinstance(now, str) else now

    async def __call__(self, _cur: Any) -> int:
        return self.now_s


async def opened(dsn: str) -> Any:
    return await connect(dsn, name="test-schedules", statement_timeout_s=60, idle_transaction_s=60)


def done(dsn: str, work: Callable[[Any], Awaitable[T]]) -> T:
    """Run an async function of a cursor in one transaction."""

    async def inside() -> T:
        connection = await opened(dsn)
        async with connection, connection.cursor() as cur:
            await cur.execute("BEGIN")
            result = await work(cur)
            await cur.execute("COMMIT")
            return result

    return asyncio.run(inside())


def add(dsn: str, clock: MovedClock, name: str, rule: str, zone: str = "UTC", **terms: Any) -> Schedule:
    kind = terms.pop("kind", "bill.run")
    wanted = ScheduleTerms(kind, rule, zone, **terms)
    return done(dsn, lambda cur: add_schedule(cur, clock, name, wanted, "user:ann", kinds=KINDS))


async def look(cur: Any, clock: MovedClock, host: str) -> None:
    """What a host does each time it looks: results, runs that waited, instants that have come."""
    await cur.execute("BEGIN")
    await settle_runs(cur)
    await cur.execute("COMMIT")
    for work in (lambda: start_one(cur, clock), lambda: decide_one(cur, clock, host)):
        goes_on = True
        while goes_on:
            await cur.execute("BEGIN")
            goes_on = await work() is not None
            await cur.execute("COMMIT")


def look_once(dsn: str, clock: MovedClock, host: str = "host-1") -> None:
    async def inside() -> None:
        connection = await opened(dsn)
        async with connection, connection.cursor() as cur:
            await look(cur, clock, host)

    asyncio.run(inside())


class Hosts:
    """Hosts with an event loop, a thread and a connection each, that look at the same time, each time they are told."""

    def __init__(self, dsn: str, clock: MovedClock, count: int) -> None:
        self._dsn, self._clock = dsn, clock
        self._begin, self._end = threading.Barrier(count + 1), threading.Barrier(count + 1)
        self._goes_on = True
        self.errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._serve, args=(f"host-{no + 1}",)) for no in range(count)]

    def __enter__(self) -> "Hosts":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._goes_on = False
        self._begin.wait(60)
        for thread in self._threads:
            thread.join(60)

    def look(self) -> None:
        """All look at once; returns when all have."""
        self._begin.wait(60)
        self._end.wait(60)
        if self.errors:
            raise self.errors[0]

    def _serve(self, host: str) -> None:
        asyncio.run(self._looks(host))

    async def _looks(self, host: str) -> None:
        connection = await opened(self._dsn)
        async with connection, connection.cursor() as cur:
            while True:
                self._begin.wait(60)
                if not self._goes_on:
                    return
                try:
                    await look(cur, self._clock, host)
                except BaseException as error:  # noqa: BLE001 - told to the test, in its thread
                    self.errors.append(error)
                self._end.wait(60)


def rows(dsn: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cur:
        cur.execute("SET timezone = 'UTC'")
        cur.execute(statement, values)
        found = cur.fetchall() if cur.description else []
        connection.commit()
        return found


def end_jobs(dsn: str, state: str = "done") -> int:
    """All jobs that are queued are done, as workers would."""
    statement = """
        UPDATE jobs SET state = %s, finished_at = clock_timestamp(), started_at = clock_timestamp(), attempt = 1,
               failure = CASE WHEN %s = 'failed' THEN 'error' ELSE '' END
        WHERE state = 'queued' RETURNING id
    """
    return len(rows(dsn, statement, state, state))


def told(dsn: str, name: str) -> list[tuple[str, str, str]]:
    """(planned instant in UTC, decision, reason) of a schedule, in order."""
    statement = """
        SELECT to_char(r.planned_at, 'YYYY-MM-DD"T"HH24:MI'), r.decision, r.reason
        FROM schedule_runs r JOIN schedules s ON s.id = r.schedule_id WHERE s.name = %s ORDER BY r.planned_at, r.id
    """
    return [(planned, decision, reason) for planned, decision, reason in rows(dsn, statement, name)]
