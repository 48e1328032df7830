"""The delivery engine of one process: it takes what is due, lets channels send it, and writes what became of it.

Rules. Three loops, each on a connection of its own: claiming, settling, looking after. Any number of processes and
hosts do the same on one database. What was claimed is committed before its channel is called. Results are settled in
batches that form while the batch before is written. A database that is away stops nothing but the loops' progress:
results wait in memory and are written when it is back; a claim whose commit was lost is taken back, because this
process knows that it sent none of it. At the end no more is claimed, what is under way may finish, and what does not is
silence.

The clock is a function that is passed in; without one it is the database's, so that hosts agree and a clock that jumps
moves nothing.

Does not know: SQL, what a channel does, decisions.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, cast

import psycopg2
from prometheus_client import Counter, Gauge, Histogram

from billing.database.aiopg import connect, failed_is_away
from billing.database.away import DatabaseAway
from billing.database.cursors import Cursor
from billing.database.session import IDLE_RELAY_S
from billing.work.deliveries import desk_store, store, work
from billing.work.deliveries.policies import Policies
from billing.work.deliveries.records import (
    AskingChannel,
    Channel,
    DeliveryAction,
    DeliveryKind,
    DeliveryOutcome,
    Verdict,
)
from billing.work.deliveries.store import AttemptResult
from billing.work.deliveries.work import Claimed

log = logging.getLogger(__name__)

#: Waits after a failure of the database, doubling from the first to the last.
BACK_OFF_S: Final = (0.2, 5.0)
STATEMENT_TIMEOUT_S: Final = 30.0
#: How long after its time-out a channel may say itself what became of an attempt.
GRACE_S: Final = 0.5
#: How often the counts of what is open are measured.
MEASURE_EVERY_S: Final = 15.0

ATTEMPTS = Counter(
    "kopeck_delivery_attempts_total", "Attempts of deliveries by what became of them", ["kind", "verdict"]
)
SECONDS = Histogram("kopeck_delivery_seconds", "Time of an attempt", ["kind"])
UNDER_WAY = Gauge("kopeck_delivery_under_way", "Attempts under way in this process")
OPEN_COUNT = Gauge("kopeck_deliveries_open", "Deliveries that are not done", ["kind", "state"])
OLDEST_AGE = Gauge("kopeck_deliveries_oldest_age_seconds", "Age of the oldest of them", ["kind", "state"])
HELD = Gauge("kopeck_delivery_queues_held", "Queues that a breaker, a pause or a person holds", ["why"])
REFUSED = Counter("kopeck_delivery_results_refused_total", "Results the database refused: wake someone")
AWAY = Counter("kopeck_delivery_database_away_total", "Times the database was away")

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """host: how attempts name this process; unique. under_way_max: attempts at once. batch_max: deliveries in one
    transaction. poll_s: how often an idle engine looks. look_after_s: how often leases and orders are looked after.

    lease_margin_s: how long after its time-out an attempt is given up. drain_s: how long the end waits for attempts.
    """

    dsn: str
    host: str
    under_way_max: int = 200
    batch_max: int = 100
    poll_s: float = 0.2
    look_after_s: float = 2.0
    lease_margin_s: float = 30.0
    drain_s: float = 15.0


class Engine:
    """One process's part of the work. ``run`` once."""

    def __init__(
        self,
        options: EngineOptions,
        kinds: Mapping[str, DeliveryKind],
        channels: Mapping[str, Channel],
        clock: Clock | None = None,
    ) -> None:
        """kinds: all that may be looked after; channels: by kind, those that can be sent from here."""
        missing = set(channels) - set(kinds)
        if missing:
            raise ValueError(f"channels of unknown kinds: {', '.join(sorted(missing))}")
        self._options = options
        self._channels = dict(channels)
        self._policies = Policies(kinds)
        self._clock = clock
        self._read_at: tuple[datetime, float] | None = None
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._results: asyncio.Queue[AttemptResult] = asyncio.Queue()
        self._room = asyncio.Event()
        self._room.set()
        self._away: set[str] = set()

    @property
    def is_connected(self) -> bool:
        """Whether every loop reaches the database."""
        return not self._away

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set, then let what is under way finish; survives the database being away."""
        done = asyncio.Event()
        settling = asyncio.create_task(self._loop("settle", done, self._settle_batches))
        looking = asyncio.create_task(self._loop("look_after", stop, self._look_after))
        claiming = asyncio.create_task(self._loop("claim", stop, self._claim_batches))
        tasks = (claiming, looking, settling)
        ended = asyncio.create_task(stop.wait())
        await asyncio.wait({ended, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        stop.set()  # also when a loop failed: a process without one of its loops is to be started anew
        await asyncio.wait({claiming, looking})
        await self._drain()
        done.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._options.drain_s):
                await asyncio.wait({settling})
        settling.cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome

    # -- loops ---------------------------------------------------------------------------------------------------------

    async def _loop(self, name: str, stop: asyncio.Event, work_on: Callable[[Cursor, asyncio.Event], Any]) -> None:
        """A loop on connections of its own, opened again after each loss."""
        wait_s = BACK_OFF_S[0]
        while not stop.is_set():
            try:
                async with self._session() as cur:
                    await self._read_clock(cur)
                    self._away.discard(name)
                    wait_s = BACK_OFF_S[0]
                    await work_on(cur, stop)
                    return
            except DatabaseAway as error:
                self._away.add(name)
                AWAY.inc()
                log.warning("deliveries_database_away", extra={"loop": name, "cause": str(error), "again_in_s": wait_s})
            await _sleep(stop, wait_s)
            wait_s = min(wait_s * 2, BACK_OFF_S[1])

    async def _claim_batches(self, cur: Cursor, stop: asyncio.Event) -> None:
        options = self._options
        async with _transaction(cur):
            taken_back = await work.recall(cur, options.host, self._under_way, self._now())
        if taken_back:
            log.warning("deliveries_taken_back", extra={"count": taken_back})
        while not stop.is_set():
            free = min(options.under_way_max - len(self._under_way), options.batch_max)
            if free <= 0:
                self._room.clear()
                await _first(self._room, stop)
                continue
            async with _transaction(cur):
                claimed = await work.claim(
                    cur, self._policies, self._channels, options.host, self._now(), free, options.lease_margin_s
                )
            for one in claimed:
                self._under_way[one.delivery.id] = asyncio.create_task(self._attempt(one))
            UNDER_WAY.set(len(self._under_way))
            if not claimed:
                await _sleep(stop, options.poll_s)

    async def _settle_batches(self, cur: Cursor, stop: asyncio.Event) -> None:
        batch: list[AttemptResult] = []
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    batch.append(await asyncio.wait_for(self._results.get(), self._options.poll_s))
                while not self._results.empty() and len(batch) < self._options.batch_max:
                    batch.append(self._results.get_nowait())
                if not batch:
                    if stop.is_set() and not self._under_way:
                        return
                    continue
                await self._write(cur, batch)
                for result in batch:
                    self._under_way.pop(result.delivery_id, None)
                batch = []
                self._room.set()
                UNDER_WAY.set(len(self._under_way))
        finally:
            for result in batch:  # not written: the next connection does it; a repeat of a lost commit changes nothing
                self._results.put_nowait(result)

    async def _write(self, cur: Cursor, batch: list[AttemptResult]) -> None:
        """Settle a batch; one result that the database refuses for itself takes no other with it."""
        try:
            async with _transaction(cur):
                await work.settle(cur, self._policies, batch, self._now())
        except (psycopg2.DataError, psycopg2.IntegrityError):
            if len(batch) == 1:  # its lease will end in silence
                log.exception("delivery_result_refused", extra={"delivery": batch[0].delivery_id})
                REFUSED.inc()
                return
            half = len(batch) // 2
            await self._write(cur, batch[:half])
            await self._write(cur, batch[half:])

    async def _look_after(self, cur: Cursor, stop: asyncio.Event) -> None:
        measured_at = float("-inf")
        while not stop.is_set():
            self._policies = Policies(self._policies.kinds, await store.read_policies(cur))
            await self._read_clock(cur)
            async with _transaction(cur):
                changed = await work.look_after(cur, self._policies, self._now())
            if time.monotonic() - measured_at >= MEASURE_EVERY_S:
                measured_at = time.monotonic()
                await self._measure(cur)
            if changed < work.OVERDUE_MAX:
                await _sleep(stop, self._options.look_after_s)

    async def _measure(self, cur: Cursor) -> None:
        OPEN_COUNT.clear()
        OLDEST_AGE.clear()
        now = self._now()
        for count in await desk_store.count_open(cur):
            OPEN_COUNT.labels(count.kind, count.state).set(count.count)
            OLDEST_AGE.labels(count.kind, count.state).set(max((now - count.oldest_at).total_seconds(), 0))
        for why, number in (await desk_store.count_held(cur, now)).items():
            HELD.labels(why).set(number)

    # -- attempts ------------------------------------------------------------------------------------------------------

    async def _attempt(self, claimed: Claimed) -> None:
        delivery, attempt = claimed.delivery, claimed.attempt
        began = time.monotonic()
        outcome = await self._outcome(claimed)
        duration_ms = round((time.monotonic() - began) * 1000)
        ATTEMPTS.labels(delivery.kind, outcome.verdict.value).inc()
        SECONDS.labels(delivery.kind).observe(duration_ms / 1000)
        result = AttemptResult(delivery.id, attempt.no, outcome, duration_ms, (delivery.kind, delivery.recipient))
        self._results.put_nowait(result)

    async def _outcome(self, claimed: Claimed) -> DeliveryOutcome:
        """What became of an attempt. A channel that fails by our own mistake may have sent: silence."""
        delivery, attempt = claimed.delivery, claimed.attempt
        channel = self._channels[delivery.kind]
        try:
            async with asyncio.timeout(attempt.time_out_s + GRACE_S):
                if attempt.action is DeliveryAction.ASK:
                    return await cast(AskingChannel, channel).status(delivery, attempt)
                return await channel.send(delivery, attempt)
        except TimeoutError:
            return DeliveryOutcome(Verdict.SILENT, reason=f"no answer within {attempt.time_out_s:g} s")
        except asyncio.CancelledError:
            return DeliveryOutcome(Verdict.SILENT, reason="this process ended before the answer came")
        except Exception as error:
            log.exception("delivery_channel_failed", extra={"delivery": delivery.id, "kind": delivery.kind})
            return DeliveryOutcome(Verdict.SILENT, code="error", reason=f"our own mistake: {type(error).__name__}")

    async def _drain(self) -> None:
        """Wait for attempts under way, then end those that go on."""
        tasks = [task for task in self._under_way.values() if not task.done()]
        if tasks:
            await asyncio.wait(tasks, timeout=self._options.drain_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- clock and connections -----------------------------------------------------------------------------------------

    def _now(self) -> datetime:
        if self._clock is not None:
            return self._clock()
        assert self._read_at is not None, "the database's clock is read when a loop connects"
        at, monotonic = self._read_at
        return at + timedelta(seconds=time.monotonic() - monotonic)

    async def _read_clock(self, cur: Cursor) -> None:
        if self._clock is None:
            with failed_is_away():
                self._read_at = (await store.read_clock(cur), time.monotonic())

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[Cursor]:
        """A cursor of a connection of its own; whatever the database fails with inside is DatabaseAway."""
        with failed_is_away():
            connection = await connect(
                self._options.dsn,
                name="kopeck-deliveries",
                statement_timeout_s=STATEMENT_TIMEOUT_S,
                idle_transaction_s=IDLE_RELAY_S,
                must_write=True,
            )
            try:
                yield await connection.cursor()
            finally:
                await connection.close()


@contextlib.asynccontextmanager
async def _transaction(cur: Cursor) -> AsyncIterator[None]:
    """COMMIT when the block ends, ROLLBACK when it fails. A broken connection needs neither and says so later."""
    await cur.execute("BEGIN")
    try:
        yield
    except BaseException:
        with contextlib.suppress(psycopg2.Error, TimeoutError, RuntimeError):
            await cur.execute("ROLLBACK")
        raise
    await cur.execute("COMMIT")


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


async def _first(*events: asyncio.Event) -> None:
    """Until one of them is set."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
