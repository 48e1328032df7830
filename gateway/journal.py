"""The payment journal in MongoDB: what people search. The only file that knows MongoDB's driver.

Rules. PostgreSQL decides; nothing here is ever read to decide about money, and everything here can be made again
(`gateway.relay.rebuild`). A document is replaced only by one of a higher version, so writers may race and repeat.
Lists are read in windows of time (`gateway.journal_windows`), each served by an index (`gateway.journal_clauses`), so
no query holds the server for long, and one that nobody waits for any more ends by itself. Pages are keysets on
(time, _id), newest first, so page 1,000 costs what page 1 does. Nothing is counted here: see `gateway.payment_totals`.

MongoDB steers its users from motor towards PyMongo's own async API; that change is a change of this file.

Does not know: PostgreSQL, how documents are made (`gateway.documents`), HTML.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final

import bson
from bson.errors import InvalidDocument
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import IndexModel, InsertOne, ReplaceOne
from pymongo.errors import BulkWriteError, ConnectionFailure, ExecutionTimeout, PyMongoError

from gateway.documents import Document
from gateway.journal_clauses import (
    ATTEMPTS,
    MAX_ATTEMPTS_OF_PAYMENT,
    MAX_PAGE,
    PAYMENTS,
    ListKind,
    Pipeline,
    Query,
    attempts_of_pipelines,
    exact_pipelines,
    query_of,
    window_pipelines,
)
from gateway.journal_cursors import MILLISECOND, Position, format_cursor, parse_cursor
from gateway.journal_search import Filter, Hours, JournalAway, JournalBusy, JournalError, Page
from gateway.journal_windows import Counts, Rows, Span, TooSlow, merged, read_page, windows

SELECTION_TIMEOUT_S: Final = 2
SOCKET_TIMEOUT_S: Final = 60
#: A look-up that takes longer is given up, by us and by the server.
QUERY_TIMEOUT_S: Final = 10.0
#: The same for one window of a list: a shorter window is tried then.
WINDOW_TIMEOUT_S: Final = 0.5
#: Time for one page of a list; what has been found by then is shown.
PAGE_BUDGET_S: Final = 0.12
#: Ids looked up by one query; the embedded server compares each document with each of them.
LOOKUP_BATCH: Final = 50

_DUPLICATE_KEY: Final = 11000
#: MongoDB's own limit of a document.
_MAX_DOCUMENT_BYTES: Final = 16 * 1024 * 1024
#: A word or number is mostly in few documents: fewer questions, and not too much where it is in all of them.
_WIDER_FOR_TEXT: Final = 4.0
#: Every payment lies between.
_EVER: Final = (datetime(1970, 1, 1, tzinfo=UTC), datetime(2500, 1, 1, tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class Written:
    """What became of documents put: new, written over or beside, or left because the journal had newer ones."""

    inserted: int
    replaced: int
    stale: int


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _indexes(time: str, *leading: str) -> list[IndexModel]:
    """The list's own order, and the same order within each leading field."""
    newest = [(time, -1), ("_id", -1)]
    named = [IndexModel(newest, name="by_time")]
    return named + [IndexModel([(field, 1), *newest], name=f"by_{field}") for field in leading]


_INDEXES: Final = {
    "payments": [*_indexes("created_at", "terms", "state", "partner", "amount"), IndexModel("key", name="by_key")],
    "attempts": [
        *_indexes("at", "terms", "kind", "partner", "amount", "payment_id"),
        IndexModel([("key", 1), ("at", -1)], name="by_key"),
    ],
}


class Journal:
    """One MongoDB database. Makes no connection before its first use; every method may raise JournalAway."""

    def __init__(self, uri: str, database: str, now: Callable[[], datetime] = _utc_now) -> None:
        self._client: Any = AsyncIOMotorClient(
            uri,
            appname="kopeck",
            tz_aware=True,
            tzinfo=UTC,
            serverSelectionTimeoutMS=SELECTION_TIMEOUT_S * 1000,
            connectTimeoutMS=SELECTION_TIMEOUT_S * 1000,
            socketTimeoutMS=SOCKET_TIMEOUT_S * 1000,
        )
        self._db = self._client[database]
        self._now = now

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    # -- writing -------------------------------------------------------------------------------------------------------

    async def ensure_indexes(self) -> None:
        """Make the indexes that are missing; quick when none is.

        Asks each collection for something without a limit of time too: secantusd-rs reads its indexes at the first
        query after a start (6 s with 300,000 payments), and a query that it gives up for its time never gets there.
        """
        with _translated():
            for collection, indexes in _INDEXES.items():
                await self._db[collection].create_indexes(indexes)
                await self._db[collection].find_one({"key": "-"}, {"_id": 1})

    async def put_payments(self, documents: Sequence[Document], *, refresh: bool = False) -> Written:
        """Store documents that are new or of a higher version than the stored ones.

        Args:
            documents: at most one for each _id.
            refresh: replace those of the same version too (a rebuild: the wording may have changed).

        Raises:
            JournalError: MongoDB refuses the documents named in its ids; put the rest again.
        """
        # A first version is nearly always new, and an insert costs a quarter of a replacement; a later one rarely is.
        likely_new = [d for d in documents if refresh or d["version"] == 1]
        known = await self._insert("payments", likely_new)
        inserted = len(likely_new) - len(known)
        known += [d for d in documents if not refresh and d["version"] != 1]
        operator = "$lte" if refresh else "$lt"
        replaced = await self._bulk(
            "payments",
            [ReplaceOne({"_id": d["_id"], "version": {operator: d["version"]}}, d, upsert=True) for d in known],
            known,
        )
        return Written(inserted, replaced, len(known) - replaced)

    async def put_attempts(self, documents: Sequence[Document], *, refresh: bool = False) -> Written:
        """Store attempts; one never changes, so a stored one is left alone unless ``refresh``."""
        known = await self._insert("attempts", documents)
        if not refresh:
            return Written(len(documents) - len(known), 0, len(known))
        replaced = await self._bulk("attempts", [ReplaceOne({"_id": d["_id"]}, d, upsert=True) for d in known], known)
        return Written(len(documents) - len(known), replaced, len(known) - replaced)

    async def forget_attempts(self, before: datetime) -> int:
        """Delete attempts from before ``before``; how many there were."""
        with _translated():
            return int((await self._db.attempts.delete_many({"at": {"$lt": before}})).deleted_count)

    async def _insert(self, collection: str, documents: Sequence[Document]) -> list[Document]:
        """Insert what is new; returns what was there already. New is the common case and the cheap one."""
        if not documents:
            return []
        try:
            with _translated():
                await self._db[collection].bulk_write([InsertOne(d) for d in documents], ordered=False)
        except BulkWriteError as error:
            return _duplicates(error, documents)
        except InvalidDocument as error:
            raise JournalError(f"not a document MongoDB can hold: {_short(error)}", _unstorable(documents)) from error
        return []

    async def _bulk(self, collection: str, writes: Sequence[ReplaceOne[Document]], of: Sequence[Document]) -> int:
        """Run replacements; returns how many took place. A duplicate key means that a newer one is stored."""
        if not writes:
            return 0
        try:
            with _translated():
                result = await self._db[collection].bulk_write(writes, ordered=False)
                return int(result.matched_count + result.upserted_count)
        except BulkWriteError as error:
            _duplicates(error, of)
            return int(error.details["nMatched"] + error.details["nUpserted"])
        except InvalidDocument as error:
            raise JournalError(f"not a document MongoDB can hold: {_short(error)}", _unstorable(of)) from error

    # -- payments ------------------------------------------------------------------------------------------------------

    async def payment(self, payment_id: int) -> Document | None:
        """The whole document of one payment, or None."""
        return (await self.payments_by_id([payment_id])).get(payment_id)

    async def payments_by_id(self, ids: Sequence[int]) -> dict[int, Document]:
        """Whole documents by id; ids the journal does not have are left out."""
        found: dict[int, Document] = {}
        with _translated():
            for start in range(0, len(ids), LOOKUP_BATCH):
                some = list(ids[start : start + LOOKUP_BATCH])
                async for document in self._db.payments.find({"_id": {"$in": some}}):
                    found[document["_id"]] = document
        return found

    async def count_payments(self) -> int:
        """How many payments the journal holds, as its server keeps count; exact unless MongoDB has crashed since."""
        with _translated():
            return int(await self._db.payments.estimated_document_count())

    async def payment_ids(self, batch: int) -> AsyncIterator[list[int]]:
        """Every payment id in the journal, in batches, newest first."""
        ids: list[int] = []
        query = query_of(PAYMENTS, Filter(*_EVER))
        async for rows, _ in windows(
            partial(self._window, query, True), Span(*_EVER, now=self._now()), None, time.monotonic
        ):
            ids += [row["_id"] for row in rows]
            while len(ids) >= batch:
                yield ids[:batch]
                ids = ids[batch:]
        if ids:
            yield ids

    async def search_payments(
        self, wanted: Filter, after: str | None = None, limit: int = 50, hours: Hours | None = None
    ) -> Page:
        """One page of payments, without timeline, transfers and terms.

        Payments whose id or partner key is exactly the text come first on page one, whatever their date.

        Args:
            hours: how many payments there are when, to choose windows by; None: windows grow from a short one.

        Raises:
            ValueError: a cursor this code did not make, or a limit outside 1 to MAX_PAGE.
        """
        exact = await self._exact_payments(wanted) if wanted.text and after is None else []
        page = await self._page(PAYMENTS, wanted, after, limit, [row["_id"] for row in exact], hours)
        return replace(page, rows=exact + page.rows, exact=len(exact)) if exact else page

    async def export_payments(self, wanted: Filter, hours: Hours | None = None) -> AsyncGenerator[list[Document], None]:
        """Every payment of the filtered set, newest first, in portions that the server reads at once."""
        query = query_of(PAYMENTS, wanted)
        read = partial(self._window, query, True)
        span = Span(wanted.start, wanted.end, now=self._now())
        async for rows, _ in windows(read, span, _counts(query, hours), time.monotonic):
            if rows:
                yield rows

    # -- attempts ------------------------------------------------------------------------------------------------------

    async def attempt(self, attempt_id: int) -> Document | None:
        """One attempt, or None."""
        with _translated():
            found: Document | None = await self._db.attempts.find_one({"_id": attempt_id})
            return found

    async def search_attempts(self, wanted: Filter, after: str | None = None, limit: int = 50) -> Page:
        """One page of attempts; errors as of `search_payments`."""
        return await self._page(ATTEMPTS, wanted, after, limit, [], None)

    async def attempts_of_payment(self, payment_id: int, partner: str, key: str) -> list[Document]:
        """The newest attempts that name this payment by our id or by its partner's key, newest first."""
        pipelines = attempts_of_pipelines(payment_id, partner, key)
        found = await asyncio.gather(*[self._aggregate(ATTEMPTS, pipeline) for pipeline in pipelines])
        return merged(found, "at", True)[:MAX_ATTEMPTS_OF_PAYMENT]

    # -- how a page is read --------------------------------------------------------------------------------------------

    async def _exact_payments(self, wanted: Filter) -> list[Document]:
        """Payments whose id or key is the text itself."""
        found = await asyncio.gather(*[self._aggregate(PAYMENTS, pipeline) for pipeline in exact_pipelines(wanted)])
        return merged(found, "created_at", True)

    async def _page(
        self, of: ListKind, wanted: Filter, after: str | None, limit: int, without: list[int], hours: Hours | None
    ) -> Page:
        if not 1 <= limit <= MAX_PAGE:
            raise ValueError(f"a page has 1 to {MAX_PAGE} rows, not {limit}")
        position = parse_cursor(after) if after is not None else None
        span = self._span(wanted, position)
        if span is None:
            return Page([])
        query = query_of(of, wanted, position, without)
        read = partial(self._window, query, span.is_forward)
        rows = await read_page(read, span, limit + 1, PAGE_BUDGET_S, _counts(query, hours), time.monotonic)
        return _page_of(of, rows, limit, position)

    def _span(self, wanted: Filter, position: Position | None) -> Span | None:
        """The filter's range cut at the position, whose instant stays in it: rows of one instant are told apart by id.
        Where nothing of that instant is left (id 0) it does not, so that a page always comes further than the last.
        None where nothing is left."""
        start, end = wanted.start, wanted.end
        if position is not None and position.is_forward:
            end = min(end, position.at + (MILLISECOND if position.id else MILLISECOND * 0))
        elif position is not None:
            start = max(start, position.at)
        is_forward = position is None or position.is_forward
        first = _WIDER_FOR_TEXT if wanted.text.strip() else 1.0
        return Span(start, end, is_forward, self._now(), first) if start < end else None

    async def _window(
        self, query: Query, is_forward: bool, start: datetime, end: datetime, limit: int
    ) -> list[Document]:
        """The rows of one window.

        Raises:
            TooSlow: the server gave it up after WINDOW_TIMEOUT_S.
        """
        pipelines = window_pipelines(query, start, end, is_forward, limit)
        try:
            found = await asyncio.gather(
                *[self._aggregate(query.list, pipeline, WINDOW_TIMEOUT_S) for pipeline in pipelines]
            )
        except JournalBusy as error:
            raise TooSlow from error
        rows = merged(found, query.list.time, is_forward)
        return rows[:limit] if limit else rows

    async def _aggregate(self, of: ListKind, pipeline: Pipeline, timeout_s: float = 0.0) -> list[Document]:
        limit_ms = max(1, int((timeout_s or QUERY_TIMEOUT_S) * 1000))
        with _translated():
            cursor = self._db[of.collection].aggregate(pipeline, maxTimeMS=limit_ms, batchSize=MAX_PAGE + 1)
            rows: list[Document] = await cursor.to_list(None)
            return rows


def _counts(query: Query, hours: Hours | None) -> Counts | None:
    """What the query's leads walk. More than the query finds is right too: windows are then shorter."""
    return None if hours is None else Counts(hours, query.states, query.partners)


def _page_of(of: ListKind, found: Rows, limit: int, position: Position | None) -> Page:
    """Rows in reading order as a page, newest first, with the ways on."""
    is_forward = position is None or position.is_forward
    has_more, rows = len(found.rows) > limit, found.rows[:limit]
    if not rows and not position and found.reached is None:
        return Page([])
    first = Position(not is_forward, rows[0][of.time], rows[0]["_id"]) if rows else None
    last = Position(is_forward, rows[-1][of.time], rows[-1]["_id"]) if rows else None
    onward = last if has_more else None
    if onward is None and found.reached is not None:
        onward = Position(is_forward, found.reached, 0)
    back = first if position else None
    if back is None and position:  # nothing here: back to where this page begins
        back = replace(position, is_forward=not is_forward, id=max(position.id + (-1 if is_forward else 1), 0))
    ways = [format_cursor(way) if way else None for way in (onward, back)]
    if not is_forward:
        rows.reverse()
        ways.reverse()
    return Page(rows, ways[0], ways[1], reached=found.reached, is_backward=not is_forward)


# -- the driver's words ------------------------------------------------------------------------------------------------


@contextmanager
def _translated() -> Iterator[None]:
    """The driver's errors in our words; BulkWriteError passes, its caller reads it."""
    try:
        yield
    except ConnectionFailure as error:
        raise JournalAway(f"MongoDB cannot be reached: {_short(error)}") from error
    except ExecutionTimeout as error:
        raise JournalBusy("MongoDB did not answer in time") from error
    except BulkWriteError:
        raise
    except PyMongoError as error:
        raise JournalError(f"MongoDB refused: {_short(error)}") from error


def _duplicates(error: BulkWriteError, documents: Sequence[Document]) -> list[Document]:
    """The documents that were refused because their _id is there; any other reason is an error.

    Raises:
        JournalError: names the documents refused for another reason.
    """
    failures = error.details.get("writeErrors", [])
    bad = [failure for failure in failures if failure.get("code") != _DUPLICATE_KEY]
    if bad or error.details.get("writeConcernErrors"):
        messages = [str(failure.get("errmsg")) for failure in bad] or [str(error.details["writeConcernErrors"])]
        raise JournalError(
            f"MongoDB refused {len(bad)} documents: {messages[0][:300]}",
            [documents[failure["index"]]["_id"] for failure in bad],
        ) from error
    return [documents[failure["index"]] for failure in failures]


def _unstorable(documents: Sequence[Document]) -> list[int]:
    """The documents too large or not encodable, found one by one because the driver names none of a batch."""
    culprits = []
    for document in documents:
        try:
            if len(bson.encode(document)) > _MAX_DOCUMENT_BYTES:
                culprits.append(document["_id"])
        except InvalidDocument:
            culprits.append(document["_id"])
    return culprits


def _short(error: Exception) -> str:
    """A driver's message without its topology dump."""
    return str(error).split(", Timeout:", 1)[0][:300]
