"""The payment journal in MongoDB: what people search. The only file that knows MongoDB's driver.

Rules. PostgreSQL decides; nothing here is ever read to decide about money, and everything here can be made again
(`gateway.journal.relay.rebuild`). A document is replaced only by one of a higher version, so writers may race and
repeat. Every list carries a half-open date range [start, end) and every query is served by an index: a pipeline names
first the clauses its index serves, then the rest. MongoDB's planner merges the two; simpler servers plan by the first
alone. Pages are keysets on (time, _id), newest first, so page 1,000 costs what page 1 does.

MongoDB steers its users from motor towards PyMongo's own async API; that change is a change of this file.

Does not know: PostgreSQL, how documents are made (`gateway.journal.documents`), HTML.
"""

import base64
import binascii
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import bson
from bson.errors import InvalidDocument
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import IndexModel, InsertOne, ReplaceOne
from pymongo.errors import BulkWriteError, ConnectionFailure, ExecutionTimeout, PyMongoError

from gateway.journal.documents import MIN_FRAGMENT, Document, cut_to_millisecond, fold
from ratingcore.money import format_minor, parse_minor

#: Rows of one page at most.
MAX_PAGE: Final = 500
#: Documents that totals look at; past it they say so.
MAX_TOTALLED: Final = 1_000_000
#: Characters and words of a search text.
MAX_TEXT: Final = 100
MAX_WORDS: Final = 6
#: Attempts shown with one payment.
MAX_ATTEMPTS_OF_PAYMENT: Final = 100

SELECTION_TIMEOUT_S: Final = 2
QUERY_TIMEOUT_S: Final = 30
SOCKET_TIMEOUT_S: Final = 60
EXPORT_BATCH: Final = 500
#: Ids looked up by one query; the embedded server compares each document with each of them.
LOOKUP_BATCH: Final = 50

_DUPLICATE_KEY: Final = 11000
#: MongoDB's own limit of a document.
_MAX_DOCUMENT_BYTES: Final = 16 * 1024 * 1024
_MAX_INT64: Final = 2**63 - 1
#: Sorts after every character, so [prefix, prefix + this) holds what begins with the prefix.
_LAST_CHARACTER: Final = "\U0010ffff"
#: What lists leave out of a document; `Journal.payment` gives it whole.
_NOT_IN_LISTS: Final = {"terms": 0, "timeline": 0, "transfers": 0}

Clause = dict[str, Any]
Pipeline = list[dict[str, Any]]


class JournalAway(Exception):
    """MongoDB cannot be reached now. Payments go on without it; the relay catches up."""


class JournalBusy(JournalAway):
    """MongoDB did not answer within QUERY_TIMEOUT_S: ask for less."""


class JournalError(Exception):
    """MongoDB answered that it will not do this; names the documents at fault in ``ids``."""

    def __init__(self, message: str, ids: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.ids = tuple(ids)


@dataclass(frozen=True, slots=True)
class Filter:
    """What a list shows. start, end: aware instants, half-open. Sums in minor units, both ends included.

    text: anything a person types: an id, a key, an account or phone or a part of one, a sum, words of a name.
    states, partners: of payments; kinds, reasons, partners: of attempts; empty means all.
    """

    start: datetime
    end: datetime
    text: str = ""
    states: tuple[str, ...] = ()
    partners: tuple[str, ...] = ()
    min_minor: int | None = None
    max_minor: int | None = None
    kinds: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError with a sentence for a person."""
        if self.start.tzinfo is None or self.end.tzinfo is None:
            raise ValueError("the date range needs a time zone")
        if self.start >= self.end:
            raise ValueError("the date range ends before it begins")
        for amount in (self.min_minor, self.max_minor):
            if amount is not None and not 0 <= amount <= _MAX_INT64:
                raise ValueError("a sum must not be negative")
        if self.min_minor is not None and self.max_minor is not None and self.min_minor > self.max_minor:
            raise ValueError("the smallest sum is more than the largest")
        search_terms(self.text)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list, newest first. next, previous: cursors, None where there is nothing more.

    exact: how many rows at the head were found by an exact payment id or key, whatever their date; only on page one.
    """

    rows: list[Document]
    next: str | None = None
    previous: str | None = None
    exact: int = 0


@dataclass(frozen=True, slots=True)
class Sum:
    """Totals of one currency and state; amount in minor units."""

    currency: str
    state: str
    count: int
    amount: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Totals of a filtered set. is_capped: there are more than MAX_TOTALLED, and these are of that many."""

    count: int
    sums: tuple[Sum, ...]
    is_capped: bool


@dataclass(frozen=True, slots=True)
class Written:
    """What became of documents put: new, written over or beside, or left because the journal had newer ones."""

    inserted: int
    replaced: int
    stale: int


@dataclass(frozen=True, slots=True)
class Plan:
    """How MongoDB runs one query: its stages, the indexes it walks, documents looked at and returned."""

    query: str
    stages: frozenset[str]
    indexes: frozenset[str]
    examined: int
    returned: int


@dataclass(frozen=True, slots=True)
class SearchTerm:
    """One word of a search: any of ``values``, whole or (``is_prefix``) as the beginning of a term."""

    values: tuple[str, ...]
    is_prefix: bool


@dataclass(frozen=True, slots=True)
class _List:
    """What differs between the two lists: collection, its time field, and fields an index can lead with."""

    collection: str
    time: str
    equalities: tuple[str, ...]


_PAYMENTS: Final = _List("payments", "created_at", ("amount", "state", "partner"))
_ATTEMPTS: Final = _List("attempts", "at", ("amount", "kind", "partner"))


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

    def __init__(self, uri: str, database: str) -> None:
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
        self._small_server: bool | None = None

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    # -- writing -------------------------------------------------------------------------------------------------------

    async def ensure_indexes(self) -> None:
        """Make the indexes that are missing; quick when none is."""
        with _translated():
            for collection, indexes in _INDEXES.items():
                await self._db[collection].create_indexes(indexes)

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
        """How many payments the journal holds, exactly."""
        with _translated():
            if await self._is_small_server():
                # Its `count` walks the documents without keeping them; an aggregation would hold them all in memory.
                return int(await self._db.payments.estimated_document_count())
            return int(await self._db.payments.count_documents({}, hint="_id_"))

    async def payment_ids(self, batch: int) -> AsyncIterator[list[int]]:
        """Every payment id in the journal, in batches, in no order."""
        with _translated():
            ids: list[int] = []
            async for document in self._db.payments.find({}, {"_id": 1}).batch_size(batch):
                ids.append(document["_id"])
                if len(ids) == batch:
                    yield ids
                    ids = []
            if ids:
                yield ids

    async def search_payments(self, wanted: Filter, after: str | None = None, limit: int = 50) -> Page:
        """One page of payments, without timeline, transfers and terms.

        Payments whose id or partner key is exactly the text come first on page one, whatever their date.

        Raises:
            ValueError: a cursor this code did not make, or a limit outside 1 to MAX_PAGE.
        """
        exact = await self._exact_payments(wanted) if wanted.text else []
        page = await self._page(_PAYMENTS, wanted, after, limit, [row["_id"] for row in exact])
        return page if after is not None else replace(page, rows=exact + page.rows, exact=len(exact))

    async def payment_totals(self, wanted: Filter) -> Totals:
        """Count and sums of the filtered set; counts what the date range holds, so not the exact finds outside it."""
        rows = await self._aggregate(_PAYMENTS, await self._totals_pipeline(wanted))
        sums = [Sum(row["_id"]["currency"], row["_id"]["state"], int(row["count"]), int(row["amount"])) for row in rows]
        sums.sort(key=lambda s: (s.currency, s.state))
        count = sum(s.count for s in sums)
        return Totals(count, tuple(sums), count >= MAX_TOTALLED)

    async def export_payments(self, wanted: Filter) -> AsyncIterator[Document]:
        """Every payment of the filtered set, newest first, read from the server in small batches."""
        lead, rest = await self._clauses(_PAYMENTS, wanted)
        pipeline = [*_match(lead, rest), {"$sort": {"created_at": -1, "_id": -1}}, {"$project": _NOT_IN_LISTS}]
        with _translated():
            async for row in self._db.payments.aggregate(pipeline, batchSize=EXPORT_BATCH, allowDiskUse=True):
                yield row

    # -- attempts ------------------------------------------------------------------------------------------------------

    async def attempt(self, attempt_id: int) -> Document | None:
        """One attempt, or None."""
        with _translated():
            found: Document | None = await self._db.attempts.find_one({"_id": attempt_id})
            return found

    async def search_attempts(self, wanted: Filter, after: str | None = None, limit: int = 50) -> Page:
        """One page of attempts; errors as of `search_payments`."""
        return await self._page(_ATTEMPTS, wanted, after, limit, [])

    async def attempts_of_payment(self, payment_id: int, partner: str, key: str) -> list[Document]:
        """The newest attempts that name this payment by our id or by its partner's key, newest first."""
        found: dict[int, Document] = {}
        for pipeline in _attempts_of_pipelines(payment_id, partner, key):
            found.update({row["_id"]: row for row in await self._aggregate(_ATTEMPTS, pipeline)})
        newest = sorted(found.values(), key=lambda row: (row["at"], row["_id"]), reverse=True)
        return newest[:MAX_ATTEMPTS_OF_PAYMENT]

    # -- explain -------------------------------------------------------------------------------------------------------

    async def explain_payments(self, wanted: Filter, after: str | None = None, limit: int = 50) -> list[Plan]:
        """How each query behind a page of payments with totals runs, the payment's own page included."""
        queries = [
            ("list", (await self._page_pipeline(_PAYMENTS, wanted, _position(after), limit, []))[0]),
            ("totals", await self._totals_pipeline(wanted)),
            ("one", [{"$match": {"_id": 1}}]),
            *[("exact", pipeline) for pipeline in _exact_pipelines(wanted)],
        ]
        return [await self._explain(_PAYMENTS, name, pipeline) for name, pipeline in queries]

    async def explain_attempts(self, wanted: Filter, after: str | None = None, limit: int = 50) -> list[Plan]:
        """The same for a page of attempts, with those that a payment's page shows."""
        queries = [
            ("list", (await self._page_pipeline(_ATTEMPTS, wanted, _position(after), limit, []))[0]),
            *[("of payment", pipeline) for pipeline in _attempts_of_pipelines(1, "-", "-")],
        ]
        return [await self._explain(_ATTEMPTS, name, pipeline) for name, pipeline in queries]

    async def _explain(self, of: _List, query: str, pipeline: Pipeline, *, verbosity: str = "executionStats") -> Plan:
        aggregate = {"aggregate": of.collection, "pipeline": pipeline, "cursor": {}}
        with _translated():
            reply = await self._db.command({"explain": aggregate, "verbosity": verbosity})
        return _plan(query, reply)

    # -- how a query is put together -----------------------------------------------------------------------------------

    async def _exact_payments(self, wanted: Filter) -> list[Document]:
        """Payments whose id or key is the text itself."""
        found: dict[int, Document] = {}
        for pipeline in _exact_pipelines(wanted):
            found.update({row["_id"]: row for row in await self._aggregate(_PAYMENTS, pipeline)})
        return sorted(found.values(), key=lambda row: (row["created_at"], row["_id"]), reverse=True)

    async def _page(self, of: _List, wanted: Filter, after: str | None, limit: int, without: list[int]) -> Page:
        if not 1 <= limit <= MAX_PAGE:
            raise ValueError(f"a page has 1 to {MAX_PAGE} rows, not {limit}")
        position = _position(after)
        pipeline, is_forward = await self._page_pipeline(of, wanted, position, limit, without)
        rows = await self._aggregate(of, pipeline)
        has_more, rows = len(rows) > limit, rows[:limit]
        if not is_forward:
            rows.reverse()
        if not rows:
            return Page([])
        newer = _cursor("p", rows[0][of.time], rows[0]["_id"])
        older = _cursor("n", rows[-1][of.time], rows[-1]["_id"])
        if not is_forward:
            return Page(rows, older, newer if has_more else None)
        return Page(rows, older if has_more else None, newer if position else None)

    async def _page_pipeline(
        self, of: _List, wanted: Filter, position: "_Position | None", limit: int, without: list[int]
    ) -> tuple[Pipeline, bool]:
        """The pipeline of one page, one row longer than the page, and whether it runs newest first."""
        is_forward = position is None or position.is_forward
        lead, rest = await self._clauses(of, wanted if position is None else _narrowed(wanted, position))
        if position is not None:
            beyond = "$lt" if is_forward else "$gt"
            rest.append({"$or": [{of.time: {beyond: position.at}}, {"_id": {beyond: position.id}}]})
        if without:
            rest.append({"_id": {"$nin": without}})
        direction = -1 if is_forward else 1
        order = {"$sort": {of.time: direction, "_id": direction}}
        return [*_match(lead, rest), order, {"$limit": limit + 1}, {"$project": _NOT_IN_LISTS}], is_forward

    async def _totals_pipeline(self, wanted: Filter) -> Pipeline:
        lead, rest = await self._clauses(_PAYMENTS, wanted)
        group = {
            "_id": {"currency": "$currency", "state": "$state"},
            "count": {"$sum": 1},
            "amount": {"$sum": "$amount"},
        }
        return [*_match(lead, rest), {"$limit": MAX_TOTALLED}, {"$group": group}]

    async def _clauses(self, of: _List, wanted: Filter) -> tuple[Clause, list[Clause]]:
        """(what an index serves, all other clauses): see `_split`."""
        terms = search_terms(wanted.text)
        by_range = any(term.is_prefix for term in terms) and await self._is_small_server()
        return _split(of, wanted, terms, by_range)

    async def _is_small_server(self) -> bool:
        """Is this not MongoDB but a server that walks the whole index for a ``^prefix``, such as the embedded one?"""
        if self._small_server is None:
            some: Pipeline = [{"$match": {"terms": {"$regex": "^0"}}}, {"$limit": 1}]
            plan = await self._explain(_PAYMENTS, "prefix", some, verbosity="queryPlanner")
            if not plan.indexes:
                with _translated():
                    if "by_terms" not in await self._db.payments.index_information():
                        return False  # nothing to plan with yet: ask again when there is
            self._small_server = not plan.indexes
        return self._small_server

    async def _aggregate(self, of: _List, pipeline: Pipeline) -> list[Document]:
        with _translated():
            cursor = self._db[of.collection].aggregate(
                pipeline, maxTimeMS=int(QUERY_TIMEOUT_S * 1000), batchSize=MAX_PAGE + 1
            )
            rows: list[Document] = await cursor.to_list(None)
            return rows


# -- search text -------------------------------------------------------------------------------------------------------

_SUM: Final = re.compile(r"([0-9]{1,3}(?: [0-9]{3})+|[0-9]{1,16})(?:[.,]([0-9]{1,2}))?( ?(?:₽|руб\.?|р\.?))?", re.ASCII)
_PHONE: Final = re.compile(r"[+0-9][0-9 ()-]*", re.ASCII)


#: What people copy along with a name, and no term begins or ends with.
_QUOTES: Final = "«»„“”\"',;()"


def search_terms(text: str) -> list[SearchTerm]:
    """What a person typed as terms that must all be found.

    A sum with decimals or a rouble sign is that sum. A phone in any spelling is its digits (of +7 and 8 the ten that
    follow). Digits shorter than MIN_FRAGMENT are whole numbers or sums; everything longer finds what begins with it.

    Raises:
        ValueError: longer than MAX_TEXT characters or MAX_WORDS words.

    >>> search_terms("1 234,5")
    [SearchTerm(values=('1234.50',), is_prefix=False)]
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"search for at most {MAX_TEXT} characters")
    folded = fold(text)
    if not folded:
        return []
    amount = _sum_of(folded)
    if amount is not None:
        return [SearchTerm((amount,), is_prefix=False)]
    words = _phone_of(folded) or [word.strip(_QUOTES) or word for word in folded.split(" ")]
    if len(words) > MAX_WORDS:
        raise ValueError(f"search for at most {MAX_WORDS} words")
    return [_term(word) for word in words]


def _sum_of(text: str) -> str | None:
    """The sum's own term where the text can only be a sum: decimals or a currency sign."""
    found = _SUM.fullmatch(text)
    if found is None or not (found[2] or found[3]):
        return None
    try:
        return format_minor(parse_minor(found[1].replace(" ", "") + ("." + found[2] if found[2] else "")))
    except ValueError:
        return None


def _phone_of(text: str) -> list[str] | None:
    """The digits of a spelled-out phone or spaced number as one word; None where it is neither."""
    if not _PHONE.fullmatch(text) or not re.search(r"[ +(]", text):
        return None
    digits = re.sub(r"[^0-9]", "", text)
    is_national = len(digits) == 11 and digits[0] in "78"
    return [digits[1:] if is_national else digits]


def _term(word: str) -> SearchTerm:
    if word.isdecimal():
        if len(word) < MIN_FRAGMENT:
            return SearchTerm((word, f"{int(word)}.00"), is_prefix=False)
        return SearchTerm((word,), is_prefix=True)
    return SearchTerm((word,), is_prefix=len(word) > 1)


# -- clauses -----------------------------------------------------------------------------------------------------------


def _split(of: _List, wanted: Filter, terms: Sequence[SearchTerm], by_range: bool) -> tuple[Clause, list[Clause]]:
    """(lead, rest): the lead is what one index serves, always with equality before the date range; all must hold.

    The most selective comes first: a whole term, a beginning, a sum, a state or partner, the date range.

    Args:
        by_range: lead a beginning with its range of terms, for servers that find none for a pattern. MongoDB must not
            be asked so: on an array the two bounds may hold for two different terms.
    """
    range_ = {of.time: _instants(wanted)}
    fields = _field_clauses(wanted)
    by_selectivity = sorted(terms, key=lambda t: (t.is_prefix, len(t.values), -len(t.values[0])))
    others = [_term_clause(term) for term in by_selectivity[1:]] + [range_]
    if by_selectivity:
        first = by_selectivity[0]
        if not first.is_prefix and len(first.values) == 1:
            return {"terms": first.values[0], **range_}, others[:-1] + list(fields.values())
        whole = _term_clause(first)
        if not (by_range and first.is_prefix):
            return whole, others + list(fields.values())
        prefix = first.values[0]
        walked = {"terms": {"$gte": prefix, "$lt": prefix + _LAST_CHARACTER}}
        return walked, [whole, *others, *fields.values()]
    for field in of.equalities:
        clause = fields.get(field)
        if clause is not None and not isinstance(clause[field], dict):
            return {**clause, **range_}, [other for name, other in fields.items() if name != field]
    return range_, list(fields.values())


def _instants(wanted: Filter) -> Clause:
    """[start, end) as an open range: the same at BSON's resolution of a millisecond. SecantusDB 0.7.0b3 loses rows
    that equal an inclusive bound inside a compound index."""
    return {"$gt": cut_to_millisecond(wanted.start) - _MILLISECOND, "$lt": cut_to_millisecond(wanted.end)}


def _field_clauses(wanted: Filter) -> dict[str, Clause]:
    """Clauses by field; one allowed value is an equality."""
    clauses: dict[str, Clause] = {}
    for field, values in (
        ("state", wanted.states),
        ("partner", wanted.partners),
        ("kind", wanted.kinds),
        ("reason", wanted.reasons),
    ):
        if values:
            clauses[field] = {field: values[0] if len(set(values)) == 1 else {"$in": sorted(set(values))}}
    if wanted.min_minor is not None or wanted.max_minor is not None:
        low, high = wanted.min_minor, wanted.max_minor
        bounds = {operator: amount for operator, amount in (("$gte", low), ("$lte", high)) if amount is not None}
        clauses["amount"] = {"amount": low if low == high else bounds}
    return clauses


def _term_clause(term: SearchTerm) -> Clause:
    if term.is_prefix:
        return {"terms": {"$regex": "^" + re.escape(term.values[0])}}
    return {"terms": term.values[0] if len(term.values) == 1 else {"$in": list(term.values)}}


def _match(lead: Clause, rest: Sequence[Clause]) -> Pipeline:
    if not rest:
        return [{"$match": lead}]
    return [{"$match": lead}, {"$match": rest[0] if len(rest) == 1 else {"$and": list(rest)}}]


def _exact_pipelines(wanted: Filter) -> list[Pipeline]:
    """Look-ups by payment id and by partner key, without the date range."""
    text = wanted.text.strip()
    rest = list(_field_clauses(wanted).values())
    leads: list[Clause] = [{"key": text}] if text else []
    if text.isascii() and text.isdecimal() and int(text) <= _MAX_INT64:
        leads.append({"_id": int(text)})
    return [[*_match(lead, rest), {"$limit": MAX_PAGE}, {"$project": _NOT_IN_LISTS}] for lead in leads]


def _attempts_of_pipelines(payment_id: int, partner: str, key: str) -> list[Pipeline]:
    newest: Pipeline = [
        {"$sort": {"at": -1, "_id": -1}},
        {"$limit": MAX_ATTEMPTS_OF_PAYMENT},
        {"$project": _NOT_IN_LISTS},
    ]
    by_key = [*_match({"key": key}, [{"partner": partner}]), *newest] if key else []
    return [pipeline for pipeline in ([{"$match": {"payment_id": payment_id}}, *newest], by_key) if pipeline]


# -- cursors -----------------------------------------------------------------------------------------------------------

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_CURSOR: Final = re.compile(r"([np])(-?[0-9]{1,15})\.([0-9]{1,19})", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Position:
    """A row's place in the order; the page lies after it, or before it when not is_forward."""

    is_forward: bool
    at: datetime
    id: int


def _cursor(direction: str, at: datetime, row_id: int) -> str:
    milliseconds = (at - _EPOCH) // _MILLISECOND
    return base64.urlsafe_b64encode(f"{direction}{milliseconds}.{row_id}".encode()).decode().rstrip("=")


def _position(cursor: str | None) -> _Position | None:
    """A cursor's position.

    Raises:
        ValueError: not one of ours.
    """
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4), b"-_", validate=True).decode(
            "ascii"
        )
    except (UnicodeError, binascii.Error) as error:
        raise ValueError("this page address is damaged: start from the first page") from error
    found = _CURSOR.fullmatch(text)
    if found is None or int(found[3]) > _MAX_INT64:
        raise ValueError("this page address is damaged: start from the first page")
    try:
        at = _EPOCH + int(found[2]) * _MILLISECOND
    except OverflowError as error:
        raise ValueError("this page address is damaged: start from the first page") from error
    return _Position(found[1] == "n", at, int(found[3]))


def _narrowed(wanted: Filter, position: _Position) -> Filter:
    """The date range cut at the position, which itself stays in it: rows of one instant are told apart by id."""
    just_after = position.at + _MILLISECOND
    if position.is_forward:
        end = min(wanted.end, just_after)
        return replace(wanted, end=end) if wanted.start < end else wanted
    start = max(wanted.start, position.at)
    return replace(wanted, start=start) if start < wanted.end else wanted


# -- the driver's words ------------------------------------------------------------------------------------------------


@contextmanager
def _translated() -> Iterator[None]:
    """The driver's errors in our words; BulkWriteError passes, its caller reads it."""
    try:
        yield
    except ConnectionFailure as error:
        raise JournalAway(f"MongoDB cannot be reached: {_short(error)}") from error
    except ExecutionTimeout as error:
        raise JournalBusy(f"MongoDB did not answer within {QUERY_TIMEOUT_S} s") from error
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


def _plan(query: str, reply: Mapping[str, Any]) -> Plan:
    """Read an explain reply of an aggregation."""
    stages: set[str] = set()
    indexes: set[str] = set()
    examined = returned = 0
    for source in _planners(reply):
        _walk(source["queryPlanner"]["winningPlan"], stages, indexes)
        statistics = source.get("executionStats", {})
        examined += int(statistics.get("totalDocsExamined", 0))
        returned += int(statistics.get("nReturned", 0))
    return Plan(query, frozenset(stages), frozenset(indexes), examined, returned)


def _planners(reply: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Where the reply holds its plans: at its top, in its first $cursor stage, or the same once a shard."""
    if "shards" in reply:
        return [source for shard in reply["shards"].values() for source in _planners(shard)]
    if "queryPlanner" in reply:
        return [reply]
    return [stage["$cursor"] for stage in reply["stages"] if "$cursor" in stage]


def _walk(node: Any, stages: set[str], indexes: set[str]) -> None:
    if isinstance(node, Mapping):
        if isinstance(node.get("stage"), str):
            stages.add(node["stage"])
        if isinstance(node.get("indexName"), str):
            indexes.add(node["indexName"])
        for child in node.values():
            _walk(child, stages, indexes)
    elif isinstance(node, list):
        for child in node:
            _walk(child, stages, indexes)
