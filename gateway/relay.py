"""From the outbox to the journal, and the journal made again.

Rules. A transaction that changes a payment leaves its id in the outbox. The relay locks some rows (SKIP LOCKED, so
any number of relays share the work), renders the whole documents in one snapshot that begins after the rows were
taken, puts them into MongoDB, and deletes the rows only after MongoDB acknowledged. A relay that dies anywhere leaves
its rows to the next; a document put twice, or older than the stored one, changes nothing. Ids are taken in whatever
order they committed, so none is skipped however late it comes. With MongoDB or PostgreSQL away the rows stay and the
relay tries again after BACK_OFF_S.

While an old snapshot is open PostgreSQL keeps the rows that were carried, and each look from the outbox's beginning
steps over all of them. So a relay begins FLOOR_MARGIN below the highest id it took and looks at everything every
FULL_LOOK_S: for rows that another relay dropped, that were set aside, or that committed later still. Nothing counts
the outbox.

Two lanes take turns: one renders while MongoDB writes the other's documents. A third task folds the totals of the
search page (`gateway.payment_totals`), which need no MongoDB, and measures how far the journal lags.

A document that MongoDB refuses for itself (too large) is set aside for SET_ASIDE_S, its row kept, so that it neither
blocks the others nor is forgotten.

What a rebuild cannot bring back: attempts that retention has deleted from PostgreSQL. It removes nothing either; to be
rid of documents without a payment, drop the journal database and rebuild.

Does not know: what is in a document, how MongoDB is spoken to, who pays.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import psycopg2
from prometheus_client import Counter, Gauge

from billing.database_aiopg import connect
from billing.database_session import IDLE_RELAY_S
from gateway.documents import Document, attempt_documents, payment_documents
from gateway.journal import Journal, Written
from gateway.journal_search import JournalAway, JournalError
from gateway.payment_totals import FOLD_MAX, fold, rebuild_totals

log = logging.getLogger(__name__)

#: Waits after a failure, doubling from the first to the last.
BACK_OFF_S: Final = (0.5, 10.0)
#: How long a refused document's row is left alone.
SET_ASIDE_S: Final = 60.0
#: Refused documents at which the relay stops taking it for their fault.
MAX_SET_ASIDE: Final = 1_000
#: How often the lag is measured and how often the totals are folded.
LAG_EVERY_S: Final = 5.0
FOLD_EVERY_S: Final = 1.0
#: How far below the highest id taken a relay looks, and how often it looks at the whole outbox.
FLOOR_MARGIN: Final = 5_000
FULL_LOOK_S: Final = 30.0
#: How often the indexes are looked after: somebody may drop the journal database under a running relay.
INDEXES_EVERY_S: Final = 60.0
#: Longest a statement may take before the connection is given up.
STATEMENT_TIMEOUT_S: Final = 60.0

DOCUMENTS = Counter("kopeck_relay_documents_total", "Documents put into the journal", ["topic", "outcome"])
FAILURES = Counter("kopeck_relay_failures_total", "Batches that were given up and are tried again", ["cause"])
REFUSED = Counter("kopeck_relay_refused_documents_total", "Documents MongoDB refused: wake someone")
OUTBOX_ROWS = Gauge("kopeck_relay_outbox_rows", "Changes that the journal has not seen yet, about: the ids between")
OUTBOX_AGE = Gauge("kopeck_relay_outbox_oldest_age_seconds", "Age of the oldest of them")
JOURNAL_AWAY = Gauge("kopeck_relay_journal_away", "1 while MongoDB does not take documents")

_TAKE: Final = """
    SELECT id, topic, ref FROM outbox WHERE id >= %(floor)s AND NOT id = ANY(%(aside)s::bigint[])
    ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED
"""
_GIVE_UP: Final = "DELETE FROM outbox WHERE id = ANY(%(ids)s::bigint[])"
_OLDEST: Final = """
    SELECT id, extract(epoch FROM now() - at)::float8 FROM outbox WHERE id >= %(floor)s ORDER BY id LIMIT 1
"""
_NEWEST: Final = "SELECT id FROM outbox ORDER BY id DESC LIMIT 1"
_SNAPSHOT: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_LEFT: Final = "SELECT count(*) FROM outbox WHERE id <= %(last)s AND topic = 'payment'"
_PAYMENT_IDS: Final = "SELECT id FROM payments WHERE id > %(after)s ORDER BY id LIMIT %(limit)s"
_ATTEMPT_IDS: Final = "SELECT id FROM attempts WHERE id > %(after)s ORDER BY id LIMIT %(limit)s"

Render = Callable[[Any, Iterable[int]], Awaitable[list[Document]]]
Put = Callable[..., Awaitable[Written]]


class DatabaseAway(Exception):
    """PostgreSQL broke off, timed out or cancelled a statement; whatever was open there is rolled back."""


@dataclass(frozen=True, slots=True)
class RelayOptions:
    """batch_max: outbox rows in one go; poll_s: how often an idle relay looks into the outbox; lanes: batches in work
    at the same time."""

    dsn: str
    batch_max: int = 500
    poll_s: float = 0.2
    lanes: int = 2


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """How far a rebuild has come: documents put, and the ids to continue after (`rebuild`'s arguments)."""

    payments: int = 0
    attempts: int = 0
    after_payment: int = 0
    after_attempt: int = 0


@dataclass(slots=True)
class _Aside:
    """Outbox rows whose documents were refused, and when (monotonic) each is tried again."""

    until: dict[int, float] = field(default_factory=dict)

    def add(self, ids: Iterable[int], now: float) -> None:
        self.until.update(dict.fromkeys(ids, now + SET_ASIDE_S))

    def ids(self, now: float) -> list[int]:
        self.until = {row: until for row, until in self.until.items() if until > now}
        return list(self.until)


@dataclass(slots=True)
class _Floor:
    """Where the next look into the outbox begins: see the module's rules. looked_at: the last full look, monotonic."""

    id: int = 0
    looked_at: float = float("-inf")

    def begin(self, now: float) -> int:
        """The lowest id of a look at ``now``."""
        if now - self.looked_at >= FULL_LOOK_S:
            self.looked_at = now
            return 0
        return self.id

    def took(self, highest: int) -> None:
        self.id = max(self.id, highest - FLOOR_MARGIN)


async def run_relay(options: RelayOptions, journal: Journal, stop: asyncio.Event) -> None:
    """Carry the outbox into the journal until ``stop`` is set; survives either database being away."""
    aside, floor = _Aside(), _Floor()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_watch(options, floor, stop))
        for _ in range(options.lanes):
            tasks.create_task(_run_lane(options, journal, aside, floor, stop))


async def _run_lane(options: RelayOptions, journal: Journal, aside: _Aside, floor: _Floor, stop: asyncio.Event) -> None:
    """Batches one after the other until ``stop``, on two connections of its own."""
    wait_s = BACK_OFF_S[0]
    while not stop.is_set():
        try:
            async with _session(options.dsn) as taking, _session(options.dsn) as reading:
                async for _ in _batches(options, journal, taking, reading, aside, floor, stop):
                    wait_s = BACK_OFF_S[0]
                    JOURNAL_AWAY.set(0)
        except (JournalAway, JournalError) as error:
            JOURNAL_AWAY.set(1)
            _failed("journal", error, wait_s)
        except DatabaseAway as error:
            _failed("database", error, wait_s)
        else:
            continue
        await _sleep(stop, wait_s)
        wait_s = min(wait_s * 2, BACK_OFF_S[1])


async def _watch(options: RelayOptions, floor: _Floor, stop: asyncio.Event) -> None:
    """Fold the totals and measure the lag until ``stop``: off the path of the documents."""
    measured_at = float("-inf")
    totals_floor = _Floor()
    while not stop.is_set():
        try:
            async with _session(options.dsn) as cur:
                while not stop.is_set():
                    while await _fold(cur, totals_floor) == FOLD_MAX:
                        pass
                    if time.monotonic() - measured_at >= LAG_EVERY_S:
                        measured_at = time.monotonic()
                        await _measure_lag(cur, floor)
                    await _sleep(stop, FOLD_EVERY_S)
        except DatabaseAway as error:
            _failed("database", error, FOLD_EVERY_S)
            await _sleep(stop, FOLD_EVERY_S)


async def _fold(cur: Any, floor: _Floor) -> int:
    """One portion of changed totals; how many rows it moved."""
    moved, highest = await fold(cur, floor.begin(time.monotonic()))
    if moved:
        floor.took(highest)
    return moved


async def relay_batch(
    taking: Any, reading: Any, journal: Journal, limit: int, aside: Sequence[int] = (), floor: int = 0
) -> "Batch":
    """Carry one batch: take, render, put, give up the rows. One transaction, rolled back unless all went well.

    Args:
        taking, reading: cursors of two connections, neither in a transaction.
        aside: outbox rows to leave alone.
        floor: rows with a lower id are left alone too.
    """
    async with _transaction(taking, "BEGIN"):
        await taking.execute(_TAKE, {"limit": limit, "aside": list(aside), "floor": floor})
        rows = [(int(row[0]), str(row[1]), int(row[2])) for row in await taking.fetchall()]
        if not rows:
            return Batch(0, (), 0)
        refs = {topic: {ref for _, of, ref in rows if of == topic} for topic in ("payment", "attempt")}
        async with _transaction(reading, _SNAPSHOT):
            payments = await payment_documents(reading, refs["payment"])
            attempts = await attempt_documents(reading, refs["attempt"])
        refused = {("payment", ref) for ref in await _put("payment", journal.put_payments, payments)}
        refused |= {("attempt", ref) for ref in await _put("attempt", journal.put_attempts, attempts)}
        done = [row for row, topic, ref in rows if (topic, ref) not in refused]
        await taking.execute(_GIVE_UP, {"ids": done})
    return Batch(len(done), tuple(row for row, topic, ref in rows if (topic, ref) in refused), rows[-1][0])


@dataclass(frozen=True, slots=True)
class Batch:
    """What became of one batch of outbox rows: given up, and kept because their documents were refused. highest: the
    highest id of all, 0 where there was none."""

    done: int
    refused: tuple[int, ...]
    highest: int


async def rebuild(
    dsn: str,
    journal: Journal,
    progress: Callable[[Rebuilt], None] | None = None,
    *,
    after_payment: int = 0,
    after_attempt: int = 0,
    batch_max: int = 500,
) -> Rebuilt:
    """Make every document and the totals again from PostgreSQL, in id order, while relays and gateways run.

    Documents of the same version are replaced too, for the sake of their wording. Resumable: a call that failed is
    continued after the ids it last reported.

    Raises:
        JournalAway, JournalError, DatabaseAway: as they come; what was reported is done.
    """
    done = Rebuilt(after_payment=after_payment, after_attempt=after_attempt)
    async with _session(dsn) as cur:
        await journal.ensure_indexes()
        async for count, last in _remade(cur, _PAYMENT_IDS, payment_documents, journal.put_payments, done, batch_max):
            done = Rebuilt(done.payments + count, done.attempts, last, done.after_attempt)
            if progress is not None:
                progress(done)
        async for count, last in _remade(cur, _ATTEMPT_IDS, attempt_documents, journal.put_attempts, done, batch_max):
            done = Rebuilt(done.payments, done.attempts + count, done.after_payment, last)
            if progress is not None:
                progress(done)
        await rebuild_totals(cur)
    return done


async def drain(cur: Any, last: int, wait_s: float, poll_s: float = 0.1) -> int:
    """Wait until the outbox holds no payment row up to id ``last``; how many it still holds after ``wait_s``.

    Args:
        cur: a cursor outside any transaction, or it would look at one instant for ever.
    """
    deadline = time.monotonic() + wait_s
    while True:
        await cur.execute(_LEFT, {"last": last})
        left = int((await cur.fetchone())[0])
        if left == 0 or time.monotonic() >= deadline:
            return left
        await asyncio.sleep(poll_s)


# -- inside ------------------------------------------------------------------------------------------------------------


async def _batches(
    options: RelayOptions,
    journal: Journal,
    taking: Any,
    reading: Any,
    aside: _Aside,
    floor: _Floor,
    stop: asyncio.Event,
) -> AsyncIterator[Batch]:
    """Batch after batch until ``stop``; a short one means that the outbox is empty for now."""
    indexed_at = float("-inf")
    while not stop.is_set():
        now = time.monotonic()
        if now - indexed_at >= INDEXES_EVERY_S:
            await journal.ensure_indexes()
            indexed_at = now
        batch = await relay_batch(taking, reading, journal, options.batch_max, aside.ids(now), floor.begin(now))
        floor.took(batch.highest)
        if batch.refused:
            aside.add(batch.refused, now)
            if len(aside.until) > MAX_SET_ASIDE:
                raise JournalError(f"MongoDB refuses more than {MAX_SET_ASIDE} documents, so it is not their fault")
        yield batch
        if batch.done + len(batch.refused) < options.batch_max:
            await _sleep(stop, options.poll_s)


async def _remade(
    cur: Any, ids_sql: str, render: Render, put: Put, done: Rebuilt, batch_max: int
) -> AsyncIterator[tuple[int, int]]:
    """(documents put, last id) for each batch of ids. Ids and documents are of one snapshot a batch."""
    after = done.after_payment if ids_sql is _PAYMENT_IDS else done.after_attempt
    while True:
        async with _transaction(cur, _SNAPSHOT):
            await cur.execute(ids_sql, {"after": after, "limit": batch_max})
            ids = [int(row[0]) for row in await cur.fetchall()]
            documents = await render(cur, ids) if ids else []
        if not ids:
            return
        await put(documents, refresh=True)
        after = ids[-1]
        yield len(documents), after


async def _put(topic: str, put: Put, documents: Sequence[Document]) -> set[int]:
    """Put documents; returns the ids of those MongoDB refuses for themselves. Any other failure is raised."""
    refused: set[int] = set()
    rest = list(documents)
    while rest:
        try:
            written = await put(rest)
        except JournalError as error:
            if not error.ids:
                raise
            log.error("document_refused", extra={"topic": topic, "ids": error.ids[:20], "cause": str(error)})
            REFUSED.inc(len(error.ids))
            refused.update(error.ids)
            rest = [document for document in rest if document["_id"] not in refused]
            continue
        for outcome in ("inserted", "replaced", "stale"):
            DOCUMENTS.labels(topic, outcome).inc(getattr(written, outcome))
        break
    return refused


async def _measure_lag(cur: Any, floor: _Floor) -> None:
    await cur.execute(_OLDEST, {"floor": floor.id})
    oldest = await cur.fetchone()
    await cur.execute(_NEWEST)
    newest = await cur.fetchone()
    OUTBOX_ROWS.set(newest[0] - oldest[0] + 1 if oldest and newest else 0)
    OUTBOX_AGE.set(oldest[1] if oldest else 0)


def _failed(cause: str, error: Exception, wait_s: float) -> None:
    FAILURES.labels(cause).inc()
    log.warning("relay_failed", extra={"away": cause, "cause": str(error), "again_in_s": wait_s})


async def _sleep(stop: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


@contextlib.asynccontextmanager
async def _session(dsn: str) -> AsyncIterator[Any]:
    """A cursor of a connection of its own, with the driver's ways of failing translated.

    Raises:
        DatabaseAway: not reached, broken off, timed out, or a statement was cancelled by the server (which aiopg
            reports as CancelledError, past every ``except Exception``).
    """
    try:
        connection = await connect(
            dsn, name="kopeck-relay", statement_timeout_s=STATEMENT_TIMEOUT_S, idle_transaction_s=IDLE_RELAY_S
        )
        try:
            yield await connection.cursor()
        finally:
            await connection.close()
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise DatabaseAway("PostgreSQL cancelled a statement") from error
    except (psycopg2.Error, TimeoutError, OSError) as error:
        raise DatabaseAway(str(error).strip() or type(error).__name__) from error


@contextlib.asynccontextmanager
async def _transaction(cur: Any, begin: str) -> AsyncIterator[None]:
    """COMMIT when the block ends, ROLLBACK when it fails. A broken connection needs neither and says so later."""
    await cur.execute(begin)
    try:
        yield
    except BaseException:
        with contextlib.suppress(psycopg2.Error, TimeoutError, RuntimeError):
            await cur.execute("ROLLBACK")
        raise
    await cur.execute("COMMIT")
