"""Rows of a list in PostgreSQL: a page, how many there are, all of them in portions.

Rules. Statements are put together from constants of a `ListSource`; what was asked travels as parameters. A page reads
the keys of its rows first and joins only to them, so an expensive column costs as many rows as are shown. A page is the
rows after a place by (order, key), which an index serves at any depth; rows that are added or taken away meanwhile move
no other row to another page.

Counting has a limit of work, in rows and in time: what is over it is said to be an estimate. A statement over its time
raises `TooSlow`; the transaction it ran in is lost, so a caller that goes on takes a savepoint.

Does not know: what is listed, words, who asks.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import psycopg2

from billing.database.aiopg import quiet_cancels
from billing.database.cursors import Cursor
from billing.database.rows import named_rows
from billing.listing.records import (
    GRAM_CHARS,
    Between,
    Condition,
    Count,
    Emptiness,
    Field,
    ListError,
    ListPlace,
    ListSource,
    Match,
    OneOf,
    PlaceError,
    Question,
    Row,
    Rows,
    Search,
    TextIs,
    TooSlow,
)

#: Rows that are counted and added up one by one; more are estimated, unless the asker waits for it.
COUNTED_ROWS: Final = 50_000
COUNT_TIMEOUT_MS: Final = 100
PAGE_TIMEOUT_MS: Final = 5_000
#: Rows that one FETCH of a stream brings.
PORTION_ROWS: Final = 2_000

_ESCAPED: Final = str.maketrans({"\\": "\\\\", "%": "\\%", "_": "\\_"})


async def page_of(
    cur: Cursor, source: ListSource, question: Question, names: Sequence[str], place: ListPlace | None, limit: int
) -> Rows:
    """A page of at most ``limit`` rows with the fields ``names``, inside the caller's transaction.

    Raises:
        TooSlow: it took longer than PAGE_TIMEOUT_MS. PlaceError: the place is of other types than the order.
    """
    is_forward = place is None or place.is_forward
    statement, values = page_statement(source, question, names, place, limit + 1)
    await cur.execute(_TIMEOUT.format(ms=PAGE_TIMEOUT_MS))
    try:
        with _time_is_told():
            await cur.execute(statement, values)
    except psycopg2.DataError as error:
        if place is None:
            raise
        raise PlaceError("the address of this page is damaged", code="list_place_damaged") from error
    rows = await named_rows(cur)
    has_more, rows = len(rows) > limit, rows[:limit]
    if not is_forward:
        rows.reverse()
    seen = place.seen if place is not None else 0
    first = seen if is_forward else max(0, seen - len(rows))
    if not is_forward and not has_more:
        first = 0
    has_before = place is not None if is_forward else has_more
    has_after = has_more if is_forward else True
    previous = following = None
    if rows and has_before:
        previous = ListPlace(False, rows[0][_ORDER], rows[0][_KEY], first)
    if rows and has_after:
        following = ListPlace(True, rows[-1][_ORDER], rows[-1][_KEY], first + len(rows))
    shown = tuple({name: value for name, value in row.items() if name != _ORDER} for row in rows)
    return Rows(shown, first, previous, following)


async def count_of(
    cur: Cursor, source: ListSource, question: Question, *, is_patient: bool = False, timeout_ms: int | None = None
) -> Count:
    """How many rows there are, with their sums, inside the caller's transaction.

    is_patient: count and add up all of them, whatever it takes within ``timeout_ms`` (None: COUNT_TIMEOUT_MS).

    Counted one by one up to COUNTED_ROWS and within the time; beyond that the number is the planner's estimate.
    """
    limit = None if is_patient else COUNTED_ROWS + 1
    statement, values = count_statement(source, question, limit)
    await cur.execute(_SAVEPOINT)
    await cur.execute(_TIMEOUT.format(ms=COUNT_TIMEOUT_MS if timeout_ms is None else timeout_ms))
    at_least = 0
    try:
        with _time_is_told():
            await cur.execute(statement, values)
            groups = await cur.fetchall()
    except TooSlow:
        await cur.execute(_BACK)
    else:
        rows = sum(int(number) for _, number, _ in groups)
        if limit is None or rows < limit:
            sums = {currency: int(amount) for currency, _, amount in groups if amount is not None}
            return Count(rows, True, rows, sums if source.sums else None)
        at_least = rows
    await cur.execute(_TIMEOUT.format(ms=PAGE_TIMEOUT_MS))
    return Count(max(at_least, await estimate_of(cur, source, question)), False, at_least)


async def estimate_of(cur: Cursor, source: ListSource, question: Question) -> int:
    """How many rows the planner expects."""
    statement, values = keys_statement(source, question)
    await cur.execute(f"EXPLAIN (FORMAT JSON) {statement}", values)
    [[[plan]]] = await cur.fetchall()
    return int(plan["Plan"]["Plan Rows"])


async def portions_of(
    cur: Cursor, source: ListSource, question: Question, names: Sequence[str], size: int = PORTION_ROWS
) -> AsyncIterator[Sequence[Row]]:
    """All rows in order, ``size`` at a time, inside the caller's transaction: memory does not grow with them."""
    statement, values = rows_statement(source, question, names)
    await cur.execute(f"DECLARE list_rows NO SCROLL CURSOR FOR {statement}", values)
    while True:
        await cur.execute(f"FETCH {size} FROM list_rows")
        rows = await named_rows(cur)
        if not rows:
            break
        yield rows
    await cur.execute("CLOSE list_rows")


async def keys_after(cur: Cursor, source: ListSource, question: Question, after: str | None, limit: int) -> list[str]:
    """Keys of the rows of a question by key, those above ``after``, as text: for work that goes through all of them."""
    where, values, joins = _where(source, question)
    if after is not None:
        where.append(f"{source.key} > %(after_key)s::{source.key_type}")
        values["after_key"] = after
    from_ = _from(source, joins)
    await cur.execute(
        f"SELECT ({source.key})::text FROM {from_} WHERE {' AND '.join(where)} ORDER BY {source.key} LIMIT {limit:d}",
        values,
    )
    return [str(key) for (key,) in await cur.fetchall()]


async def rows_by_key(
    cur: Cursor, source: ListSource, question: Question, keys: Iterable[str], names: Sequence[str]
) -> list[Row]:
    """Those of these rows that are in the question, by key."""
    where, values, joins = _where(source, question)
    where.append(f"{source.key} = ANY(%(keys)s::{source.key_type}[])")
    values["keys"] = list(keys)
    joins |= _joins_of(source, names)
    await cur.execute(
        f"SELECT ({source.key})::text AS {_KEY}{_columns(source, names)} FROM {_from(source, joins)} "
        f"WHERE {' AND '.join(where)} ORDER BY {source.key}",
        values,
    )
    return list(await named_rows(cur))


# ---- statements

_KEY: Final = "row_key"
_ORDER: Final = "row_order"
_TIMEOUT: Final = "SET LOCAL statement_timeout = {ms:d}"
_SAVEPOINT: Final = "SAVEPOINT list_count"
_BACK: Final = "ROLLBACK TO SAVEPOINT list_count"


def page_statement(
    source: ListSource, question: Question, names: Sequence[str], place: ListPlace | None, limit: int
) -> tuple[str, dict[str, Any]]:
    """The statement of a page and its values. Pure."""
    where, values, joins = _where(source, question)
    order, order_type, order_joins = _order(source, question)
    is_forward = place is None or place.is_forward
    direction = "DESC" if question.order.is_descending == is_forward else "ASC"
    if place is not None:
        beyond = "<" if direction == "DESC" else ">"
        values["place_key"] = place.key
        if order:
            values["place_order"] = place.order
            row = f"(%(place_order)s::{order_type}, %(place_key)s::{source.key_type})"
            where.append(f"({order}, {source.key}) {beyond} {row}")
        else:
            where.append(f"{source.key} {beyond} %(place_key)s::{source.key_type}")
    by = f"{order} {direction}, {source.key} {direction}" if order else f"{source.key} {direction}"
    keys = (
        f"SELECT {source.key} AS place_key, {order or 'NULL'} AS place_order FROM {_from(source, joins | order_joins)} "
        f"WHERE {' AND '.join(where)} ORDER BY {by} LIMIT {limit:d}"
    )
    again = f"page.place_order {direction}, page.place_key {direction}" if order else f"page.place_key {direction}"
    statement = (
        f"SELECT page.place_key::text AS {_KEY}, coalesce(page.place_order::text, '') AS {_ORDER}"
        f"{_columns(source, names)} FROM {source.table} JOIN ({keys}) page ON {source.key} = page.place_key "
        f"{_more(source, _joins_of(source, names))} ORDER BY {again}"
    )
    return statement, values


def count_statement(source: ListSource, question: Question, limit: int | None) -> tuple[str, dict[str, Any]]:
    """(currency, rows, sum) of at most ``limit`` rows, and its values; a line for rows alone has no sum. Pure."""
    where, values, joins = _where(source, question)
    limited = "" if limit is None else f" LIMIT {limit:d}"
    rows = f"FROM {_from(source, joins)} WHERE {' AND '.join(where)}{limited}"
    sums = source.sums
    if sums is None:
        return f"SELECT '', count(*), NULL FROM (SELECT {rows}) r", values
    if not sums.joins:
        rows = f"SELECT {sums.currency} AS currency, {sums.amount} AS amount {rows}"
        return f"SELECT currency, count(*), sum(amount) FROM ({rows}) r GROUP BY currency ORDER BY currency", values
    statement = (
        f"WITH r AS MATERIALIZED (SELECT {source.key} AS key {rows}) "
        f"SELECT '', count(*), NULL FROM r UNION ALL (SELECT {sums.currency}, 0, sum({sums.amount}) "
        f"FROM r {sums.joins} GROUP BY 1 ORDER BY 1)"
    )
    return statement, values


def keys_statement(source: ListSource, question: Question) -> tuple[str, dict[str, Any]]:
    """The keys of all rows, in no order, and its values. Pure."""
    where, values, joins = _where(source, question)
    return f"SELECT {source.key} FROM {_from(source, joins)} WHERE {' AND '.join(where)}", values


def rows_statement(source: ListSource, question: Question, names: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """All rows in order, and its values. Pure."""
    where, values, joins = _where(source, question)
    order, _, order_joins = _order(source, question)
    direction = "DESC" if question.order.is_descending else "ASC"
    by = f"{order} {direction}, {source.key} {direction}" if order else f"{source.key} {direction}"
    from_ = _from(source, joins | order_joins | _joins_of(source, names))
    columns = f"({source.key})::text AS {_KEY}{_columns(source, names)}"
    return f"SELECT {columns} FROM {from_} WHERE {' AND '.join(where)} ORDER BY {by}", values


def _where(source: ListSource, question: Question) -> tuple[list[str], dict[str, Any], set[str]]:
    where, values, joins = [source.always], dict[str, Any](), set[str]()
    if question.legal_entities is not None:
        # A list that belongs to no legal entity is for those whose right is not limited.
        where.append(source.legal_entity or "false")
        values["legal_entities"] = list(question.legal_entities)
        joins |= set(source.legal_entity_joins)
    for number, condition in enumerate(question.conditions):
        where.append(_condition(source, condition, f"v{number}", values))
        if not source.fields[condition.field].within:
            joins |= set(source.fields[condition.field].joins)
    return where, values, joins


def _condition(source: ListSource, condition: Condition, name: str, values: dict[str, Any]) -> str:
    field = source.fields[condition.field]
    told = _told(field, condition, name, values)
    if field.is_costly:
        told = f"coalesce({told}, false)"
    if isinstance(condition, OneOf) and condition.values and set(condition.values) <= set(field.implied):
        told += f" AND ({' OR '.join(field.implied[value] for value in condition.values)})"
    return field.within.format(told) if field.within else told


def _told(field: Field, condition: Condition, name: str, values: dict[str, Any]) -> str:
    sql = field.asked or field.sql
    match condition:
        case OneOf(values=wanted):
            values[name] = list(wanted)
            return f"{sql} = ANY(%({name})s::{field.type}[])"
        case Between(least=least, most=most, is_below=is_below):
            parts = []
            if least is not None:
                values[f"{name}_least"] = least
                parts.append(f"{sql} >= %({name}_least)s::{field.type}")
            if most is not None:
                values[f"{name}_most"] = most
                parts.append(f"{sql} {'<' if is_below else '<='} %({name}_most)s::{field.type}")
            return " AND ".join(parts) or "true"
        case Emptiness(is_empty=is_empty):
            if field.type == "text":
                return f"coalesce({sql}, '') {'=' if is_empty else '<>'} ''"
            return f"{sql} IS {'' if is_empty else 'NOT '}NULL"
        case TextIs(match=match, text=text):
            return _text(field, condition.field, name, values, match, text)


def _text(field: Field, field_name: str, name: str, values: dict[str, Any], match: Match, text: str) -> str:
    asked = f"search_fold(%({name})s)" if field.search is Search.WORDS else f"%({name})s"
    if match is Match.EQUALS:
        values[name] = text
        if field.equals:
            return field.equals.format(f"%({name})s")
        return f"{field.compared} = {asked if field.type == 'text' else f'{asked}::{field.type}'}"
    pattern = text.translate(_ESCAPED)
    if match is Match.STARTS:
        values[name] = f"{pattern}%"
        return f"{field.compared} LIKE {asked}"
    if field.search is not Search.WORDS or len(text) < GRAM_CHARS:
        raise ListError(f"{field_name} is not searched for a part of it", code="list_contains")
    # The gram says less than the pattern, but an index knows it. Of several grams the planner multiplies the shares, as
    # if they met by chance, and is then sure of few rows where there are thousands.
    middle = (len(text) - GRAM_CHARS) // 2
    values[name], values[f"{name}_gram"] = f"%{pattern}%", text[middle : middle + GRAM_CHARS]
    sql = field.asked or field.sql
    return f"(search_grams({sql}) @> search_grams(%({name}_gram)s) AND coalesce({field.compared} LIKE {asked}, false))"


def _order(source: ListSource, question: Question) -> tuple[str, str, set[str]]:
    """(expression, its type, joins); no expression for the order of keys alone."""
    if not question.order.field:
        return "", "", set()
    field = source.fields[question.order.field]
    if not field.order:
        raise ListError(f"the list is not ordered by {question.order.field}", code="list_order")
    return ("", "", set()) if field.order == source.key else (field.order, field.type, set(field.joins))


def _joins_of(source: ListSource, names: Iterable[str]) -> set[str]:
    return {join for name in names for join in source.fields[name].joins}


def _columns(source: ListSource, names: Sequence[str]) -> str:
    return "".join(f', {source.fields[name].sql} AS "{name}"' for name in names)


def _from(source: ListSource, joins: set[str]) -> str:
    return f"{source.table} {_more(source, joins)}"


def _more(source: ListSource, joins: set[str]) -> str:
    """The joins with those they stand on, in the order of the source."""
    wanted = set(joins)
    while more := {need for join in wanted for need in source.needs.get(join, ())} - wanted:
        wanted |= more
    return " ".join(sql for name, sql in source.joins.items() if name in wanted)


@contextmanager
def _time_is_told() -> Iterator[None]:
    """TooSlow for a statement that the server cancelled; a cancellation of ours passes through."""
    quiet_cancels()
    try:
        yield
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise TooSlow("no index serves this filter in the time a list has") from error
    except psycopg2.errors.QueryCanceled as error:
        raise TooSlow("no index serves this filter in the time a list has") from error
