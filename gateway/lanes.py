"""Batches: requests that arrive while earlier batches are in flight form the next one.

Rules. Group commit without timers: an idle lane takes what waits at once, so a lone request waits for nobody. A batch
is BEGIN and lock, read payments, decide, write, COMMIT. Commands whose account somebody else holds go back to the
queue, with a deadline. When a batch fails:

  connection lost, deadlock, lock time-out, unique violation  the whole batch again: the keys make that safe
  any other database error                                    bisect: a poisonous command never takes others down
  database away                                               wait a moment in a bounded queue, then `temporary`

A command that was in a batch when its deadline came is answered `in_progress`; its fate is in the database and a
repeat finds it. aiopg turns a statement cancelled by the server into CancelledError: translated here, at the edge.

Does not know: HTTP, protocols, what is decided.
"""

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import psycopg2
import psycopg2.errors

from adapters.messages import OP_OF, Balance, Cancel, Check, Op, Pay, Reason, RegistryLine, Result, Status
from gateway import driver, failpoints, metrics, store
from gateway.decide import Command, OperatorCancel, Question, World, answer, decide

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Wait before a batch is run again, by how often it was run already; the last one repeats.
AGAIN_S: Final = (0.0, 0.005, 0.02, 0.1, 0.5)
#: Wait before a command whose account was held elsewhere is tried again.
HELD_S: Final = 0.003
#: Batches of the same commands before one is taken for poison although each failure looked passing.
MAX_RUNS: Final = 50

#: The database said no for a reason that another run may not meet.
_AGAIN: Final = (
    psycopg2.errors.UniqueViolation,
    psycopg2.errors.DeadlockDetected,
    psycopg2.errors.SerializationFailure,
    psycopg2.errors.LockNotAvailable,
    store.StaleWrite,
)


class DatabaseAway(Exception):
    """The connection broke or never came up; what was in flight has an unknown outcome."""


@dataclass(frozen=True, slots=True)
class CoreOptions:
    """Limits of the core, each by name. Times in seconds.

    queue_max: commands waiting at most; more are answered `temporary` at once.
    request_deadline_s: longest a caller waits for an answer.
    away_grace_s: how long a command may wait for a database that is away.
    """

    dsn: str
    lanes: int = 2
    batch_max: int = 100
    queue_max: int = 5_000
    request_deadline_s: float = 20.0
    away_grace_s: float = 2.0
    lock_timeout_s: float = 3.0
    database_timeout_s: float = 10.0


@dataclass(slots=True, eq=False)
class Waiting:
    """A command and whoever waits for its answer. An entity: compared by identity."""

    command: Command
    answer: "asyncio.Future[Result]"
    deadline: float
    in_batch: bool = False
    key_in_work: tuple[int, str] | None = None


class Connection:
    """One aiopg connection with one cursor, opened when needed and thrown away when it misbehaved."""

    def __init__(self, options: CoreOptions) -> None:
        self._options = options
        self._connection: Any = None
        self._cursor: Any = None

    async def cursor(self) -> Any:
        """The cursor of an open connection.

        Raises:
            DatabaseAway: it could not be opened.
        """
        if self._connection is None or self._connection.closed:
            options = self._options
            try:
                self._connection = await driver.connect(
                    options.dsn, timeout_s=options.database_timeout_s, lock_timeout_s=options.lock_timeout_s
                )
                self._cursor = await self._connection.cursor()
            except (psycopg2.Error, OSError, TimeoutError) as error:
                await self.discard()
                raise DatabaseAway(str(error).strip()) from error
        return self._cursor

    async def discard(self) -> None:
        """Close and forget; the server rolls back whatever was open."""
        connection, self._connection, self._cursor = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(psycopg2.Error):
                await connection.close()


async def at_the_edge(connection: Connection, work: Callable[[Any], Awaitable[T]]) -> T:
    """Run ``work`` on the connection's cursor and translate the driver's ways of failing.

    Raises:
        DatabaseAway: the connection is gone, timed out, or the server cancelled the statement.
        psycopg2.Error: what the server itself answered; the transaction was rolled back.
    """
    cur: Any = None
    try:
        cur = await connection.cursor()
        return await work(cur)
    except asyncio.CancelledError as error:
        await connection.discard()
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise DatabaseAway("the server cancelled a statement") from error
    except DatabaseAway:
        raise
    except (
        psycopg2.OperationalError,
        psycopg2.InterfaceError,
        psycopg2.errors.ReadOnlySqlTransaction,
        TimeoutError,
        OSError,
    ) as error:
        if isinstance(error, _AGAIN):
            await _roll_back(connection, cur)
            raise
        await connection.discard()
        raise DatabaseAway(str(error).strip()) from error
    except BaseException:
        await _roll_back(connection, cur)
        raise


async def _roll_back(connection: Connection, cur: Any) -> None:
    try:
        await cur.execute("ROLLBACK")
    except (psycopg2.Error, TimeoutError, OSError, asyncio.CancelledError):
        await connection.discard()
    except RuntimeError:  # aiopg: the connection is busy or broken after an interrupted call
        await connection.discard()


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
        self._ids: deque[int] = deque()
        self._away_since: float | None = None
        self._is_stopping = False
        self._registry_turn = asyncio.Semaphore(1)

    # -- the outside ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the lanes on the running loop."""
        for number in range(self._options.lanes):
            self._tasks.append(asyncio.create_task(self._supervise(f"lane-{number}", self._run_lane)))
        self._tasks.append(asyncio.create_task(self._supervise("reader", self._run_reader)))
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
        for waiting in list(self._outstanding):
            self._resolve(waiting, self._temporary(waiting))

    def submit(self, command: Command) -> "asyncio.Future[Result]":
        """Queue a command; the future is always answered, and never with an exception."""
        loop = asyncio.get_running_loop()
        waiting = Waiting(command, loop.create_future(), loop.time() + self._options.request_deadline_s)
        queue, came = (
            (self._questions, self._question_came)
            if isinstance(command.request, Question)
            else (self._actions, self._action_came)
        )
        if self._is_stopping or len(queue) >= self._options.queue_max or self._is_away_too_long(loop.time()):
            waiting.answer.set_result(self._temporary(waiting))
            return waiting.answer
        self._outstanding[waiting] = None
        if isinstance(command.request, Pay) and command.terms is not None:
            waiting.key_in_work = (command.terms.contract.partner_id, command.request.key)
            self._in_work[waiting.key_in_work] += 1
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

    async def _take(self, queue: deque[Waiting], came: asyncio.Event) -> list[Waiting]:
        while True:
            while not queue:
                came.clear()
                await came.wait()
            batch: list[Waiting] = []
            while queue and len(batch) < self._options.batch_max:
                waiting = queue.popleft()
                if waiting.answer.done():
                    self._leave(waiting)
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
    ) -> None:
        """Run a batch until every command in it is answered or back in the queue."""
        runs = 0
        while batch:
            cause: Exception
            try:
                await once(connection, batch)
                self._away_since = None
                return
            except DatabaseAway as error:
                await self._wait_for_database(name, batch, error, runs)
                cause, is_poisoned = error, False
            except _AGAIN as error:
                metrics.BATCHES_RUN_AGAIN.labels(type(error).__name__).inc()
                await asyncio.sleep(AGAIN_S[min(runs, len(AGAIN_S) - 1)])
                cause, is_poisoned = error, runs >= MAX_RUNS
            except Exception as error:  # noqa: BLE001 - whatever it is, only the command that causes it may suffer
                cause, is_poisoned = error, True
            for waiting in batch:
                if waiting.answer.done():
                    self._leave(waiting)
            batch = [waiting for waiting in batch if not waiting.answer.done()]
            if is_poisoned and batch:
                await self._bisect(name, connection, batch, once, cause)
                return
            runs += 1

    async def _bisect(
        self,
        name: str,
        connection: Connection,
        batch: list[Waiting],
        once: Callable[[Connection, list[Waiting]], Awaitable[None]],
        error: Exception,
    ) -> None:
        if len(batch) > 1:
            middle = len(batch) // 2
            await self._serve(name, connection, batch[:middle], once)
            await self._serve(name, connection, batch[middle:], once)
            return
        metrics.POISONOUS.inc()
        log.error("poisonous_command", extra={"command": repr(batch[0].command)[:2000]}, exc_info=error)
        self._resolve(batch[0], self._temporary(batch[0]))
        self._leave(batch[0])

    async def _wait_for_database(self, name: str, batch: list[Waiting], error: DatabaseAway, runs: int) -> None:
        now = asyncio.get_running_loop().time()
        if self._away_since is None:
            self._away_since = now
            log.warning("database_away", extra={"lane": name, "error": str(error)})
        if self._is_away_too_long(now):
            for waiting in [*batch, *self._actions, *self._questions]:
                self._resolve(waiting, self._temporary(waiting))
        # The first loss is often one stale connection: try at once, then with patience.
        await asyncio.sleep(0.0 if runs == 0 else 0.2)

    async def _probe(self, name: str) -> None:
        """While the database is away nobody is let in; so somebody has to ask whether it is back."""
        connection = Connection(self._options)
        try:
            while True:
                await asyncio.sleep(0.25)
                if self._away_since is None:
                    continue
                with contextlib.suppress(DatabaseAway, psycopg2.Error):
                    await at_the_edge(connection, lambda cur: cur.execute("SELECT 1"))
                    self._away_since = None
                    log.warning("database_back", extra={"lane": name})
        finally:
            await connection.discard()

    # -- one batch -----------------------------------------------------------------------------------------------------

    async def _act_once(self, connection: Connection, batch: list[Waiting]) -> None:
        results, held = await at_the_edge(connection, lambda cur: self._act(cur, batch))
        failpoints.hit("after_commit_before_reply")
        metrics.BATCH_COMMANDS.observe(len(batch))
        for waiting, result in results:
            self._resolve(waiting, result)
            self._leave(waiting)
        if held:
            self._put_back(held)

    async def _act(self, cur: Any, batch: list[Waiting]) -> tuple[list[tuple[Waiting, Result]], list[Waiting]]:
        wanted = _wanted([waiting.command for waiting in batch])
        accounts = await store.begin_and_lock(cur, wanted.numbers, wanted.lock_keys, wanted.ids)
        payments = await store.read_payments(cur, wanted.keys, wanted.ids)
        by_people = [w.command.request.payment_id for w in batch if isinstance(w.command.request, OperatorCancel)]
        sides = await store.read_sides(cur, by_people) if by_people else {}
        missing = [number for number in wanted.numbers if number not in accounts]
        held = await store.held_elsewhere(cur, missing) if missing else set()
        locked = {account.id for account in accounts.values()}
        while len(self._ids) < len(batch):
            self._ids.extend(await store.take_id_block(cur))
        world = World(datetime.now(UTC), self._ids.popleft, accounts, payments, sides, self._in_work)
        results: list[tuple[Waiting, Result]] = []
        back: list[Waiting] = []
        for waiting in batch:
            if _must_wait(waiting.command, world, held, locked):
                back.append(waiting)
            else:
                results.append((waiting, decide(world, waiting.command)))
        if world.is_unchanged:
            await cur.execute("ROLLBACK")
            return results, back
        await store.write(cur, world, _system_ids(world))
        failpoints.hit("after_write_before_commit")
        await cur.execute("COMMIT")
        return results, back

    async def _answer_once(self, connection: Connection, batch: list[Waiting]) -> None:
        results = await at_the_edge(connection, lambda cur: self._answer(cur, batch))
        for waiting, result in results:
            self._resolve(waiting, result)

    async def _answer(self, cur: Any, batch: list[Waiting]) -> list[tuple[Waiting, Result]]:
        wanted = _wanted([waiting.command for waiting in batch])
        accounts = await store.read_accounts(cur, wanted.numbers, wanted.clearing_ids) if wanted.reads_accounts else []
        payments = await store.read_payments(cur, wanted.keys, wanted.ids) if wanted.keys or wanted.ids else {}
        numbers = set(wanted.numbers)
        world = World(
            datetime.now(UTC),
            self._ids.popleft,
            {account.number: account for account in accounts if account.number in numbers},
            payments,
            in_work=self._in_work,
        )
        world.balances.update({account.id: account.balance for account in accounts})
        return [(waiting, answer(world, waiting.command)) for waiting in batch]

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

        def again() -> None:
            # Behind the others: a thousand commands on accounts a billing shard holds must not stall the rest.
            self._actions.extend(held)
            self._action_came.set()

        asyncio.get_running_loop().call_later(HELD_S, again)

    async def _sweep(self, _: str) -> None:
        """Answer whoever waited past his deadline; the oldest stand first. Keep the gauges."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(0.25)
            now = loop.time()
            metrics.QUEUED.set(len(self._actions) + len(self._questions))
            metrics.DATABASE_AWAY.set(0 if self.is_ready else 1)
            for waiting in list(self._outstanding):
                if waiting.deadline > now:
                    break
                in_work = waiting.in_batch and isinstance(waiting.command.request, Pay)
                self._resolve(waiting, self._temporary(waiting, Reason.IN_PROGRESS if in_work else Reason.TEMPORARY))

    def _is_away_too_long(self, now: float) -> bool:
        return self._away_since is not None and now - self._away_since > self._options.away_grace_s

    def _temporary(self, waiting: Waiting, reason: Reason = Reason.TEMPORARY) -> Result:
        request = waiting.command.request
        op = Op.CANCEL if isinstance(request, OperatorCancel) else OP_OF[type(request)]
        key = None if isinstance(request, OperatorCancel | Balance) else request.key
        account = request.account if isinstance(request, Pay | Check | Balance) else None
        return Result(op, reason, key=key, account=account)


# -- what a batch has to load ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Wanted:
    """numbers: accounts to pay or look at; lock_keys: payments whose accounts are locked; keys, ids: payments read."""

    numbers: list[str]
    lock_keys: list[tuple[int, str]]
    keys: list[tuple[int, str]]
    ids: list[int]
    clearing_ids: list[int]

    @property
    def reads_accounts(self) -> bool:
        return bool(self.numbers or self.clearing_ids)


def _wanted(commands: Sequence[Command]) -> _Wanted:
    numbers: set[str] = set()
    lock_keys: set[tuple[int, str]] = set()
    keys: set[tuple[int, str]] = set()
    ids: set[int] = set()
    clearing: set[int] = set()
    for command in commands:
        request, terms = command.request, command.terms
        if isinstance(request, OperatorCancel):
            ids.add(request.payment_id)
            continue
        assert terms is not None
        partner_id = terms.contract.partner_id
        if isinstance(request, Pay | Check) or (isinstance(request, Balance) and request.account is not None):
            assert request.account is not None
            numbers.add(request.account)
        if isinstance(request, Balance) and request.account is None:
            clearing.add(terms.clearing_account_id)
        if isinstance(request, Pay | Cancel | Status):
            if request.key is not None:
                keys.add((partner_id, request.key))
                if isinstance(request, Cancel):
                    lock_keys.add((partner_id, request.key))
            if isinstance(request, Cancel | Status) and request.payment_id is not None:
                ids.add(request.payment_id)
    return _Wanted(sorted(numbers), sorted(lock_keys), sorted(keys), sorted(ids), sorted(clearing))


def _must_wait(command: Command, world: World, held: set[str], locked: set[int]) -> bool:
    """Whether somebody else holds the account this command is about."""
    request = command.request
    if isinstance(request, Pay):
        assert command.terms is not None
        return request.account in held
    payment = None
    if isinstance(request, OperatorCancel):
        payment = world.by_id.get(request.payment_id)
    elif isinstance(request, Cancel) and command.terms is not None:
        partner_id = command.terms.contract.partner_id
        payment = world.payments.get((partner_id, request.key)) if request.key is not None else None
        if payment is None and request.payment_id is not None:
            payment = world.by_id.get(request.payment_id)
    return payment is not None and payment.account_id is not None and payment.account_id not in locked


def _system_ids(world: World) -> set[int]:
    """Accounts of this batch's transfers that are not payable ones, and so are locked last."""
    payable = {account.id for account in world.accounts.values()}
    touched = {t.debit_account_id for t in world.transfers} | {t.credit_account_id for t in world.transfers}
    return touched - payable
