"""Batches: requests that arrive while earlier batches are in flight form the next one.

Rules. Group commit without timers: an idle lane takes what waits at once, so a lone request waits for nobody. A batch
is one transaction (`gateway.payments.batch_work`). Commands whose account another session holds go back to the queue,
with a deadline. When a batch fails:

  lock time-out                                 commands whose clearing account is held wait aside
                                                (`gateway.payments.aside`), the rest runs again; at the second one
                                                it is parted by partner, then halved
  connection lost, deadlock, unique violation   the whole batch again: the keys make that safe; when it has had its
                                                share of the deadline, halved
  any other database error                      halved: a poisonous command never takes others down
  database away                                 wait a moment in a bounded queue, then `temporary`

A command that was in a batch when its deadline came is answered `in_progress`; its fate is in the database and a
repeat finds it. Nothing is decided after its deadline. Before a question is answered with "nothing is credited" it
leaves a fence, and pays that wait are announced (`gateway.payments.fences`).

Does not know: HTTP, protocols, what is decided.
"""

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, TypeVar

import psycopg2
import psycopg2.errors

from adapters.messages import Pay, Reason, RegistryLine, Result, Status
from billing.database.away import DatabaseAway
from gateway.payments import driver, failpoints, fence_store, metrics, store
from gateway.payments.aside import Aside, by_partner, clearing_of
from gateway.payments.batch_work import BatchWork
from gateway.payments.batches import Unsure, Waiting, temporary
from gateway.payments.decide import answer
from gateway.payments.driver import AGAIN, Connection, CoreOptions, at_the_edge
from gateway.payments.fence_store import Key
from gateway.payments.fences import Announcer, Heartbeat, answer_in_work, key_to_fence, pay_key
from gateway.payments.records import Command, Question
from gateway.payments.states import State

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Wait before a batch is run again, by how often it was run already; the last one repeats.
AGAIN_S: Final = (0.0, 0.005, 0.02, 0.1, 0.5)
#: Wait before a command whose account was held elsewhere is tried again.
HELD_S: Final = 0.003
#: The share of a request's deadline for which a batch is run again before one of its commands is taken for poison
#: although each failure looked passing; halves of it have half as long.
RUNS_SHARE: Final = 0.125
#: How long the aside lane waits in line for one held account before it looks at the next.
ASIDE_WAIT_S: Final = 0.25


class Core:
    """The lanes of one process and the queues before them."""

    def __init__(self, options: CoreOptions) -> None:
        self._options = options
        self._actions: deque[Waiting] = deque()
        self._questions: deque[Waiting] = deque()
        self._action_came = asyncio.Event()
        self._question_came = asyncio.Event()
        self._outstanding: dict[Waiting, None] = {}
        self._in_work: Counter[tuple[int, str]] = Counter()
        self._tasks: list[asyncio.Task[None]] = []
        self._work = BatchWork(self._in_work)
        self._away_since: float | None = None
        self._is_stopping = False
        self._registry_turn = asyncio.Semaphore(1)
        self._aside = Aside(options.queue_max)
        self._aside_came = asyncio.Event()
        self._heartbeat = Heartbeat()
        self._announcer = Announcer(options)

    # -- the outside ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the lanes on the running loop."""
        self._heartbeat.start()
        for number in range(self._options.lanes):
            self._tasks.append(asyncio.create_task(self._supervise(f"lane-{number}", self._run_lane)))
        self._tasks.append(asyncio.create_task(self._supervise("reader", self._run_reader)))
        self._tasks.append(asyncio.create_task(self._supervise("aside", self._run_aside)))
        self._tasks.append(asyncio.create_task(self._supervise("announcer", self._announcer.run)))
        self._tasks.append(asyncio.create_task(self._supervise("probe", self._probe)))
        self._tasks.append(asyncio.create_task(self._supervise("sweep", self._sweep)))

    async def stop(self, drain_s: float = 20.0) -> None:
        """Answer what waits, for at most ``drain_s``, then close."""
        self._is_stopping = True
        loop = asyncio.get_running_loop()
        end = loop.time() + drain_s
        while self._outstanding and loop.time() < end:
            await asyncio.sleep(0.01)
        await driver.end_tasks(self._tasks)
        self._heartbeat.stop()
        for waiting in list(self._outstanding):
            self._resolve(waiting, temporary(waiting))

    def submit(self, command: Command) -> "asyncio.Future[Result]":
        """Queue a command; the future is always answered, and never with an exception."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        deadline = now + self._options.request_deadline_s
        waiting = Waiting(command, loop.create_future(), now, self._heartbeat.unread_since, deadline)
        queue, came = (
            (self._questions, self._question_came)
            if isinstance(command.request, Question)
            else (self._actions, self._action_came)
        )
        if self._is_stopping or len(queue) >= self._options.queue_max or self._is_away_too_long(now):
            waiting.answer.set_result(temporary(waiting))
            return waiting.answer
        self._outstanding[waiting] = None
        key = pay_key(command)
        if key is not None:
            waiting.key_in_work = key
            self._in_work[key] += 1
            self._announcer.remember(waiting)
        queue.append(waiting)
        came.set()
        return waiting.answer

    async def registry(self, partner_id: int, start: datetime, end: datetime) -> tuple[RegistryLine, ...] | None:
        """The partner's posted payments of a period, on a connection of its own; None when it cannot be read now.

        One at a time: each reads up to REGISTRY_MAX rows, and PostgreSQL's connections are few.
        """
        if self._registry_turn.locked():
            return None
        await self._registry_turn.acquire()
        connection = Connection(self._options)
        try:
            return await at_the_edge(connection, lambda cur: store.read_registry(cur, partner_id, start, end))
        except (DatabaseAway, psycopg2.Error) as error:
            log.warning("registry_not_read", extra={"error": str(error)})
            return None
        finally:
            self._registry_turn.release()
            await connection.discard()

    @property
    def is_ready(self) -> bool:
        """Whether the database answered when it was last asked."""
        return self._away_since is None

    # -- lanes ---------------------------------------------------------------------------------------------------------

    async def _supervise(self, name: str, run: Callable[[str], Awaitable[None]]) -> None:
        """A lane must not die: what it failed to expect is logged and it starts again."""
        while True:
            try:
                await run(name)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self._is_stopping or (task is not None and task.cancelling()):
                    raise
                log.error("lane_cancelled_from_inside", extra={"lane": name})
            except Exception:
                log.exception("lane_failed", extra={"lane": name})
                await asyncio.sleep(0.5)

    async def _run_lane(self, name: str) -> None:
        connection = Connection(self._options)
        try:
            while True:
                batch = await self._take(self._actions, self._action_came)
                await self._serve(name, connection, batch, self._act_once)
        finally:
            await connection.discard()

    async def _run_reader(self, name: str) -> None:
        connection = Connection(self._options)
        try:
            while True:
                batch = await self._take(self._questions, self._question_came)
                await self._serve(name, connection, batch, self._answer_once)
        finally:
            await connection.discard()

    async def _run_aside(self, _: str) -> None:
        """Give the commands of a held clearing account back to the lanes when its row is free."""
        connection = Connection(self._options)
        try:
            while True:
                await self._aside_came.wait()
                for account in self._aside.accounts:
                    if await self._is_free(connection, account):
                        self._actions.extendleft(reversed(self._aside.give_back(account)))
                        self._action_came.set()
                        log.info("partner_goes_on", extra={"clearing_account": account})
                if not self._aside.accounts:
                    self._aside_came.clear()
                    await connection.discard()
        finally:
            await connection.discard()

    async def _is_free(self, connection: Connection, account: int) -> bool:
        try:
            await at_the_edge(connection, lambda cur: store.wait_for_account(cur, account, ASIDE_WAIT_S))
        except psycopg2.errors.LockNotAvailable:
            return False
        except (DatabaseAway, psycopg2.Error):
            await asyncio.sleep(ASIDE_WAIT_S)
            return False
        return True

    async def _take(self, queue: deque[Waiting], came: asyncio.Event) -> list[Waiting]:
        while True:
            while not queue:
                came.clear()
                await came.wait()
            batch: list[Waiting] = []
            now = asyncio.get_running_loop().time()
            while queue and len(batch) < self._options.batch_max:
                waiting = queue.popleft()
                if waiting.answer.done() or waiting.deadline <= now:
                    self._resolve(waiting, temporary(waiting))
                    self._leave(waiting)
                elif queue is self._actions and self._aside.takes(waiting):
                    self._set_aside(waiting)
                else:
                    waiting.in_batch = True
                    batch.append(waiting)
            if batch:
                return batch

    async def _serve(
        self,
        name: str,
        connection: Connection,
        batch: list[Waiting],
        once: Callable[[Connection, list[Waiting]], Awaitable[None]],
        budget_s: float | None = None,
    ) -> None:
        """Run a batch until every command in it is answered or back in the queue."""
        loop = asyncio.get_running_loop()
        budget_s = self._options.request_deadline_s * RUNS_SHARE if budget_s is None else budget_s
        until, runs, lock_failures = loop.time() + budget_s, 0, 0
        while batch:
            cause: Exception
            try:
                await once(connection, batch)
                self._away_since = None
                return
            except DatabaseAway as error:
                await self._wait_for_database(name, batch, error, runs)
                cause, is_poisoned = error, False
            except psycopg2.errors.LockNotAvailable as error:
                metrics.BATCHES_RUN_AGAIN.labels(type(error).__name__).inc()
                lock_failures += 1
                batch = await self._without_held(connection, batch)
                cause, is_poisoned = error, lock_failures > 1
            except AGAIN as error:
                metrics.BATCHES_RUN_AGAIN.labels(type(error).__name__).inc()
                await asyncio.sleep(AGAIN_S[min(runs, len(AGAIN_S) - 1)])
                cause, is_poisoned = error, loop.time() >= until
            except Exception as error:  # noqa: BLE001 - whatever it is, only the command that causes it may suffer
                cause, is_poisoned = error, True
            for waiting in batch:
                if waiting.answer.done():
                    self._leave(waiting)
            batch = [waiting for waiting in batch if not waiting.answer.done()]
            if is_poisoned and batch:
                await self._divide(name, connection, batch, once, cause, budget_s / 2)
                return
            runs += 1

    async def _without_held(self, connection: Connection, batch: list[Waiting]) -> list[Waiting]:
        """The batch without the commands whose clearing account another session holds now; those wait aside."""
        accounts = sorted({account for waiting in batch if (account := clearing_of(waiting)) is not None})
        try:
            held = await at_the_edge(connection, lambda cur: store.held_accounts(cur, accounts))
        except (DatabaseAway, psycopg2.Error):
            return batch  # the next run meets the same and says so
        if held:
            log.warning("partners_set_aside", extra={"clearing_accounts": sorted(held)})
            self._aside.open(held)
            self._aside_came.set()
        rest = []
        for waiting in batch:
            if waiting.answer.done() or not self._aside.takes(waiting):
                rest.append(waiting)
            else:
                self._set_aside(waiting)
        return rest

    def _set_aside(self, waiting: Waiting) -> None:
        waiting.in_batch = False
        if not self._aside.put(waiting):
            self._resolve(waiting, temporary(waiting))
            self._leave(waiting)
        elif waiting.key_in_work is not None:
            self._announcer.announce(waiting)

    async def _divide(
        self,
        name: str,
        connection: Connection,
        batch: list[Waiting],
        once: Callable[[Connection, list[Waiting]], Awaitable[None]],
        error: Exception,
        budget_s: float,
    ) -> None:
        """Run a batch in parts, so that what fails is found: by partner where a lock was waited for, else in halves."""
        parts = by_partner(batch) if isinstance(error, psycopg2.errors.LockNotAvailable) else [batch]
        if len(batch) > 1:
            if len(parts) == 1:
                middle = len(batch) // 2
                parts = [batch[:middle], batch[middle:]]
            for part in parts:
                await self._serve(name, connection, part, once, budget_s)
            return
        metrics.POISONOUS.inc()
        log.error("poisonous_command", extra={"command": repr(batch[0].command)[:2000]}, exc_info=error)
        self._resolve(batch[0], temporary(batch[0]))
        self._leave(batch[0])

    async def _wait_for_database(self, name: str, batch: list[Waiting], error: DatabaseAway, runs: int) -> None:
        now = asyncio.get_running_loop().time()
        if self._away_since is None:
            self._away_since = now
            log.warning("database_away", extra={"lane": name, "error": str(error)})
        if self._is_away_too_long(now):
            for waiting in [*batch, *self._actions, *self._questions, *self._aside]:
                self._resolve(waiting, temporary(waiting))
        # The first loss is often one stale connection: try at once, then with patience.
        await asyncio.sleep(0.0 if runs == 0 else 0.2)

    async def _probe(self, name: str) -> None:
        """While the database is away no command is taken that would notice its return: ask for it."""
        connection = Connection(self._options)
        try:
            while True:
                await asyncio.sleep(0.25)
                if self._away_since is None:
                    continue
                with contextlib.suppress(DatabaseAway, psycopg2.Error):
                    await at_the_edge(connection, store.ping)
                    self._away_since = None
                    log.warning("database_back", extra={"lane": name})
        finally:
            await connection.discard()

    # -- one batch -----------------------------------------------------------------------------------------------------

    async def _act_once(self, connection: Connection, batch: list[Waiting]) -> None:
        done = await at_the_edge(connection, lambda cur: self._work.act(cur, batch))
        failpoints.hit("after_commit_before_reply")
        metrics.BATCH_COMMANDS.observe(len(batch))
        for waiting, result in done.answers:
            self._resolve(waiting, result)
            self._leave(waiting)
        if done.unsure:
            await self._settle(connection, done.unsure)
        if done.held:
            self._put_back(done.held)

    async def _answer_once(self, connection: Connection, batch: list[Waiting]) -> None:
        loaded = await at_the_edge(connection, lambda cur: self._work.read(cur, batch))
        unsure: list[Unsure] = []
        for waiting in batch:
            result = answer(loaded, waiting.command)
            key = key_to_fence(loaded, waiting.command, result)
            if key is None:
                self._resolve(waiting, result)
            else:
                unsure.append((waiting, key, result))
        if unsure:
            await self._settle(connection, unsure)

    async def _settle(self, connection: Connection, unsure: list[Unsure]) -> None:
        """Answer questions about keys of which nothing is credited: a fence first, then what the database says now."""
        now = asyncio.get_running_loop().time()
        ages: dict[Key, float] = {}
        for waiting, key, _ in unsure:
            ages[key] = min(ages.get(key, now), now - waiting.submitted)
        fenced = await at_the_edge(connection, lambda cur: fence_store.fence_keys(cur, ages))
        self._announcer.has_fences = True
        payments = await at_the_edge(connection, lambda cur: store.read_payments(cur, sorted(fenced), ()))
        loaded = self._work.loaded({}, payments)
        for waiting, key, first in unsure:
            result = first
            if key not in fenced:
                result = answer_in_work(waiting.command)
            elif isinstance(waiting.command.request, Status):
                result = answer(loaded, waiting.command)
            elif key in payments and payments[key].state is not State.REFUSED:  # credited meanwhile: cancel that
                self._put_back([waiting])
                continue
            self._resolve(waiting, result)
            self._leave(waiting)

    # -- answers -------------------------------------------------------------------------------------------------------

    def _resolve(self, waiting: Waiting, result: Result) -> None:
        self._outstanding.pop(waiting, None)
        if not waiting.answer.done():
            waiting.answer.set_result(result)

    def _leave(self, waiting: Waiting) -> None:
        """The command is in no queue and no batch any more, whenever its caller was answered."""
        key, waiting.key_in_work = waiting.key_in_work, None
        if key is not None:
            self._in_work[key] -= 1
            if not self._in_work[key]:
                del self._in_work[key]

    def _put_back(self, held: list[Waiting]) -> None:
        for waiting in held:
            waiting.in_batch = False
            if waiting.key_in_work is not None:
                self._announcer.announce(waiting)

        def again() -> None:
            # Behind the others: a thousand commands on accounts a billing shard holds must not stall the rest.
            self._actions.extend(held)
            self._action_came.set()

        asyncio.get_running_loop().call_later(HELD_S, again)

    async def _sweep(self, _: str) -> None:
        """Answer commands that waited past their deadline; the oldest stand first. Keep the gauges."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(0.25)
            now = loop.time()
            for waiting in self._aside.drop(lambda waiting: waiting.answer.done()):
                self._leave(waiting)
            metrics.QUEUED.set(len(self._actions) + len(self._questions) + len(self._aside))
            metrics.DATABASE_AWAY.set(0 if self.is_ready else 1)
            for waiting in list(self._outstanding):
                if waiting.deadline > now:
                    break
                in_work = waiting.in_batch and isinstance(waiting.command.request, Pay)
                self._resolve(waiting, temporary(waiting, Reason.IN_PROGRESS if in_work else Reason.TEMPORARY))

    def _is_away_too_long(self, now: float) -> bool:
        return self._away_since is not None and now - self._away_since > self._options.away_grace_s
