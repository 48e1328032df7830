"""Figures of payments for a first look, and payments by what names them exactly: from PostgreSQL alone.

Rules. Hours and partners are counted from the totals (gateway.journal.totals), never from payments one by one; what is
under way stands in an index of its own. Hours are those of UTC.

Does not know: the journal, pages, which states mean success.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from billing.database.cursors import Cursor
from billing.database.rows import records

_COUNTED: Final = """
    SELECT hour, partner_id, currency, state, payments, amount_minor FROM payment_totals
    WHERE hour >= %(start)s AND hour < %(end)s
    UNION ALL
    SELECT date_trunc('hour', minute, 'UTC'), partner_id, currency, state, payments, amount_minor
    FROM payment_total_changes WHERE minute >= %(start)s AND minute < %(end)s
"""
_BY_HOUR: Final = f"""
    SELECT hour AS at, currency, sum(payments)::bigint AS count, sum(amount_minor)::bigint AS amount_minor
    FROM ({_COUNTED}) c WHERE state = ANY(%(states)s::text[])
    GROUP BY hour, currency HAVING sum(payments) <> 0 ORDER BY hour, currency
"""
_BY_PARTNER: Final = f"""
    SELECT w.code, w.name, c.state, sum(c.payments)::bigint AS count
    FROM ({_COUNTED}) c JOIN partners w ON w.id = c.partner_id
    GROUP BY w.code, w.name, c.state HAVING sum(c.payments) <> 0 ORDER BY w.name, w.code, c.state
"""
#: The condition is that of the index payments_under_way.
_UNDER_WAY: Final = """
    SELECT currency, count(*) AS count, sum(amount_minor)::bigint AS amount_minor, min(created_at) AS oldest
    FROM payments WHERE state IN ('held', 'sent', 'unknown') AND created_at < %(before)s
    GROUP BY currency ORDER BY currency
"""
#: One look-up for each partner: keys are unique within one.
_NAMED: Final = """
    SELECT id FROM payments WHERE id = %(number)s::bigint
    UNION
    SELECT p.id FROM partners w JOIN payments p ON p.partner_id = w.id AND p.partner_key = ANY(%(keys)s::text[])
    ORDER BY id DESC LIMIT %(limit)s
"""


@dataclass(frozen=True, slots=True)
class HourSum:
    """Payments of one hour and currency; at: its beginning, UTC; amount_minor: minor units."""

    at: datetime
    currency: str
    count: int
    amount_minor: int


@dataclass(frozen=True, slots=True)
class PartnerCount:
    """Payments of one partner and state."""

    code: str
    name: str
    state: str
    count: int


@dataclass(frozen=True, slots=True)
class UnderWay:
    """Payments of one currency that are neither posted nor given back; oldest: when the first of them came."""

    currency: str
    count: int
    amount_minor: int
    oldest: datetime


async def sums_by_hour(cur: Cursor, start: datetime, end: datetime, states: Sequence[str]) -> list[HourSum]:
    """Payments created in the hours from ``start`` to ``end``, both whole hours of UTC, in these states."""
    await cur.execute(_BY_HOUR, {"start": start, "end": end, "states": list(states)})
    sums = await records(cur, HourSum)
    return [HourSum(line.at.astimezone(UTC), line.currency, line.count, line.amount_minor) for line in sums]


async def counts_by_partner(cur: Cursor, start: datetime, end: datetime) -> list[PartnerCount]:
    """Payments created in the hours from ``start`` to ``end``, both whole hours of UTC, by partner and state."""
    await cur.execute(_BY_PARTNER, {"start": start, "end": end})
    return await records(cur, PartnerCount)


async def under_way(cur: Cursor, before: datetime) -> list[UnderWay]:
    """Payments held, sent or of unknown outcome that came before an instant, by currency."""
    await cur.execute(_UNDER_WAY, {"before": before})
    return await records(cur, UnderWay)


async def ids_named(cur: Cursor, number: int | None, keys: Sequence[str], limit: int) -> list[int]:
    """Ids of payments with this id or one of these keys of a partner, newest first."""
    await cur.execute(_NAMED, {"number": number, "keys": list(keys), "limit": limit})
    return [int(row[0]) for row in await cur.fetchall()]
