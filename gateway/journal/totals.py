"""Payments counted by hour, partner, currency and state: what the search page tells instead of counting documents.

Rules. PostgreSQL counts, the journal does not: a trigger writes what a statement changed into payment_total_changes,
in the transaction of the payments themselves. `fold` moves those rows into payment_totals, in one statement, so a row
is in exactly one of the two tables at every instant; everybody reads both. That is exact however often a relay is
killed, repeats a batch, meets another relay, or carries an older version after a newer one: none of these is counted.
`rebuild_totals` counts again from the payments, while gateways and relays run.

Does not know: the journal, pages.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from billing.database.cursors import Cursor
from billing.verification.records import MAX_LISTED, Check, listed

#: Rows moved by one `fold`.
FOLD_MAX: Final = 5_000
HOUR: Final = timedelta(hours=1)

_FOLD: Final = """
    WITH taken AS (
        DELETE FROM payment_total_changes WHERE id = ANY (ARRAY(
            SELECT id FROM payment_total_changes WHERE id >= %(floor)s
            ORDER BY id LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
        RETURNING id, minute, partner_id, currency, state, payments, amount_minor
    ), folded AS (
        INSERT INTO payment_totals AS t (hour, partner_id, currency, state, payments, amount_minor)
        SELECT date_trunc('hour', minute, 'UTC'), partner_id, currency, state, sum(payments), sum(amount_minor)
        FROM taken GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4
        ON CONFLICT (hour, partner_id, currency, state) DO UPDATE
        SET payments = t.payments + excluded.payments, amount_minor = t.amount_minor + excluded.amount_minor
    ), folded_minutes AS (
        INSERT INTO payment_minutes AS t (minute, payments)
        SELECT minute, sum(payments) FROM taken GROUP BY 1 HAVING sum(payments) <> 0 ORDER BY 1
        ON CONFLICT (minute) DO UPDATE SET payments = t.payments + excluded.payments
    )
    SELECT count(*), coalesce(max(id), 0) FROM taken
"""

#: Both tables; a part of an hour is not in them.
_COUNTED: Final = """
    SELECT hour, partner_id, currency, state, payments, amount_minor FROM payment_totals
    WHERE hour >= %(start)s AND hour < %(end)s
    UNION ALL
    SELECT date_trunc('hour', minute, 'UTC'), partner_id, currency, state, payments, amount_minor
    FROM payment_total_changes WHERE minute >= %(start)s AND minute < %(end)s
"""

_WANTED: Final = """
    (%(states)s::text[] = '{}' OR state = ANY(%(states)s::text[]))
    AND (%(partners)s::text[] = '{}'
         OR partner_id = ANY(ARRAY(SELECT id FROM partners WHERE code = ANY(%(partners)s::text[]))))
"""

_TOTALS: Final = f"""
    SELECT currency, state, sum(payments)::bigint, sum(amount_minor)::bigint FROM ({_COUNTED}) c WHERE {_WANTED}
    GROUP BY currency, state HAVING sum(payments) <> 0 ORDER BY currency, state
"""

_PART_OF_AN_HOUR: Final = f"""
    SELECT currency, state, count(*), sum(amount_minor)::bigint FROM payments
    WHERE created_at >= %(start)s AND created_at < %(end)s AND {_WANTED}
    GROUP BY currency, state
"""

_HOURS: Final = f"""
    SELECT hour, sum(payments)::bigint FROM ({_COUNTED}) c WHERE {_WANTED}
    GROUP BY hour HAVING sum(payments) > 0 ORDER BY hour
"""
_NEWEST_HOURS: Final = _HOURS + " DESC LIMIT %(limit)s"
_OLDEST_HOURS: Final = _HOURS + " ASC LIMIT %(limit)s"

_MINUTES: Final = """
    SELECT minute, sum(payments)::bigint FROM (
        SELECT minute, payments FROM payment_minutes WHERE minute >= %(start)s AND minute < %(end)s
        UNION ALL
        SELECT minute, payments FROM payment_total_changes WHERE minute >= %(start)s AND minute < %(end)s
    ) c
    GROUP BY minute HAVING sum(payments) > 0 ORDER BY minute
"""

_SECONDS: Final = """
    SELECT date_trunc('second', created_at), count(*) FROM payments
    WHERE created_at >= %(start)s AND created_at < %(end)s GROUP BY 1 ORDER BY 1
"""

_BEGIN_REBUILD: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ"
#: Before the snapshot: a fold is then either in it whole, or waits and is added afterwards.
_LOCK: Final = "LOCK TABLE payment_totals IN SHARE ROW EXCLUSIVE MODE"
_EMPTY: Final = "DELETE FROM payment_totals"
_EMPTY_MINUTES: Final = "DELETE FROM payment_minutes"
_COUNT_MINUTES_AGAIN: Final = """
    INSERT INTO payment_minutes (minute, payments)
    SELECT minute, sum(payments) FROM (
        SELECT date_trunc('minute', created_at) AS minute, count(*) AS payments FROM payments GROUP BY 1
        UNION ALL
        SELECT minute, -payments FROM payment_total_changes
    ) c
    GROUP BY minute HAVING sum(payments) <> 0
"""
_COUNT_AGAIN: Final = """
    INSERT INTO payment_totals (hour, partner_id, currency, state, payments, amount_minor)
    SELECT hour, partner_id, currency, state, sum(payments), sum(amount_minor) FROM (
        SELECT date_trunc('hour', created_at, 'UTC') AS hour, partner_id, currency, state,
               count(*) AS payments, sum(amount_minor) AS amount_minor
        FROM payments GROUP BY 1, 2, 3, 4
        UNION ALL
        SELECT date_trunc('hour', minute, 'UTC'), partner_id, currency, state, -payments, -amount_minor
        FROM payment_total_changes
    ) c
    GROUP BY hour, partner_id, currency, state HAVING sum(payments) <> 0 OR sum(amount_minor) <> 0
"""

_DIFFERENCES: Final = """
    SELECT hour, partner_id, currency, state, sum(payments)::bigint, sum(amount_minor)::bigint, count(*) OVER ()
    FROM (
        SELECT hour, partner_id, currency, state, payments, amount_minor FROM payment_totals
        UNION ALL
        SELECT date_trunc('hour', minute, 'UTC'), partner_id, currency, state, payments, amount_minor
        FROM payment_total_changes
        UNION ALL
        SELECT date_trunc('hour', created_at, 'UTC'), partner_id, currency, state, -count(*), -sum(amount_minor)
        FROM payments GROUP BY 1, 2, 3, 4
    ) c
    GROUP BY hour, partner_id, currency, state HAVING sum(payments) <> 0 OR sum(amount_minor) <> 0
    ORDER BY hour, partner_id, currency, state LIMIT %(limit)s
"""
_EXAMINED: Final = "SELECT count(*) FROM payment_totals"


@dataclass(frozen=True, slots=True)
class Sum:
    """Totals of one currency and state; amount in minor units."""

    currency: str
    state: str
    count: int
    amount: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Totals of a set of payments, in order of currency and state."""

    count: int
    sums: tuple[Sum, ...]


async def fold(cur: Cursor, floor: int = 0, limit: int = FOLD_MAX) -> tuple[int, int]:
    """Move changes into the totals; safe beside other folds. Returns (rows moved, highest id moved or 0).

    Args:
        floor: changes with a lower id are left alone; a caller that remembers its place spares PostgreSQL the rows
            that are deleted and still kept for an old snapshot.
    """
    await cur.execute(_FOLD, {"floor": floor, "limit": limit})
    count, highest = await cur.fetchone()
    return int(count), int(highest)


async def payment_totals(
    cur: Cursor, start: datetime, end: datetime, states: Sequence[str] = (), partners: Sequence[str] = ()
) -> Totals:
    """Totals of payments created in [start, end), aware; empty ``states`` or ``partners`` (codes): all."""
    wanted = {"states": list(states), "partners": list(partners)}
    first, last = _next_hour(start), _hour_of(end)
    rows = []
    if first < last:
        await cur.execute(_TOTALS, {**wanted, "start": first, "end": last})
        rows += await cur.fetchall()
    parts = [(start, first), (last, end)] if first <= last else [(start, end)]
    for part_start, part_end in parts:
        if part_start < part_end:
            await cur.execute(_PART_OF_AN_HOUR, {**wanted, "start": part_start, "end": part_end})
            rows += await cur.fetchall()
    counts: dict[tuple[str, str], tuple[int, int]] = {}
    for currency, state, count, amount in rows:
        before = counts.get((currency, state), (0, 0))
        counts[currency, state] = (before[0] + int(count), before[1] + int(amount))
    return _totals(counts)


async def payment_hours(
    cur: Cursor,
    start: datetime,
    end: datetime,
    newest_first: bool,
    limit: int,
    states: Sequence[str] = (),
    partners: Sequence[str] = (),
) -> list[tuple[datetime, int]]:
    """(hour, payments) of the hours that touch [start, end) and have any, ``limit`` at most."""
    wanted = {"states": list(states), "partners": list(partners), "limit": limit}
    statement = _NEWEST_HOURS if newest_first else _OLDEST_HOURS
    await cur.execute(statement, {**wanted, "start": _hour_of(start), "end": _next_hour(end)})
    return [(row[0].astimezone(UTC), int(row[1])) for row in await cur.fetchall()]


def totals_of(rows: Iterable[Mapping[str, Any]]) -> Totals:
    """Totals of documents that are at hand."""
    counts: dict[tuple[str, str], tuple[int, int]] = {}
    for row in rows:
        before = counts.get((row["currency"], row["state"]), (0, 0))
        counts[row["currency"], row["state"]] = (before[0] + 1, before[1] + row["amount"])
    return _totals(counts)


def _totals(counts: Mapping[tuple[str, str], tuple[int, int]]) -> Totals:
    sums = tuple(Sum(*key, *counts[key]) for key in sorted(counts))
    return Totals(sum(line.count for line in sums), sums)


async def payment_minutes(cur: Cursor, hour: datetime) -> list[tuple[datetime, int]]:
    """(minute, payments) of the minutes of one hour that have any, of all states and partners."""
    await cur.execute(_MINUTES, {"start": hour, "end": hour + HOUR})
    return [(row[0].astimezone(UTC), int(row[1])) for row in await cur.fetchall()]


async def payment_seconds(cur: Cursor, minute: datetime) -> list[tuple[datetime, int]]:
    """The same by seconds of one minute, counted from the payments."""
    await cur.execute(_SECONDS, {"start": minute, "end": minute + timedelta(minutes=1)})
    return [(row[0].astimezone(UTC), int(row[1])) for row in await cur.fetchall()]


async def rebuild_totals(cur: Cursor) -> None:
    """Count all payments again; the cursor is in no transaction. Folds wait meanwhile, gateways and readers do not."""
    await cur.execute(_BEGIN_REBUILD)
    try:
        for statement in (_LOCK, _EMPTY, _EMPTY_MINUTES, _COUNT_AGAIN, _COUNT_MINUTES_AGAIN):
            await cur.execute(statement)
    except BaseException:
        await cur.execute("ROLLBACK")
        raise
    await cur.execute("COMMIT")


async def verify_payment_totals(cur: Cursor) -> list[Check]:
    """Truth 5: the totals of the search page are those of the payments. For `gateway.verification.live.verify`'s
    ``also``."""
    await cur.execute(_EXAMINED)
    examined = int((await cur.fetchone())[0])
    await cur.execute(_DIFFERENCES, {"limit": MAX_LISTED})
    name = "the search page's totals are those of the payments"
    return [listed(5, name, examined, "totals", await cur.fetchall(), _told)]


def _told(row: Sequence[Any]) -> str:
    return (
        f"hour {row[0]:%Y-%m-%d %H:%M}Z partner {row[1]} {row[2]} {row[3]}: the totals have {row[4]:+} payments and "
        f"{row[5]:+} minor units more than there are; kopeck journal rebuild counts again"
    )


def _hour_of(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)


def _next_hour(instant: datetime) -> datetime:
    hour = _hour_of(instant)
    return hour if hour == instant else hour + HOUR


class PaymentCounts:
    """How many payments there are when (`gateway.journal.search.Hours`), asked on cursors of ``cursor``."""

    def __init__(self, cursor: Callable[[], AbstractAsyncContextManager[Cursor]]) -> None:
        self._cursor = cursor

    async def hours(
        self,
        start: datetime,
        end: datetime,
        newest_first: bool,
        most: int,
        states: Sequence[str],
        partners: Sequence[str],
    ) -> Sequence[tuple[datetime, int]]:
        """See `gateway.journal.search.Hours`."""
        async with self._cursor() as cur:
            return await payment_hours(cur, start, end, newest_first, most, states, partners)

    async def minutes(self, hour: datetime) -> Sequence[tuple[datetime, int]]:
        """See `gateway.journal.search.Hours`."""
        async with self._cursor() as cur:
            return await payment_minutes(cur, hour)

    async def seconds(self, minute: datetime) -> Sequence[tuple[datetime, int]]:
        """See `gateway.journal.search.Hours`."""
        async with self._cursor() as cur:
            return await payment_seconds(cur, minute)
