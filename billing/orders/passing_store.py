"""Which usage changes its order when an order's end is moved, and whether the other order is billed for that time.

Rules. An event belongs to the lowest order of its account that has its item and covers it (billing.charging.usage). So
an end that is moved gives usage to the next order, or takes it from that one. If the period of that order is billed
already, by a run that knew of the event, nobody would bill what it is given, and what is taken from it would be billed
twice: such an end is refused. Late usage is no such event: it is billed to the period it is of.

Functions take the caller's cursor. Does not know: how ends are moved, what usage costs.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from billing.database.cursors import Cursor

#: Items of recurring orders, by the newest version of their catalogue, with what they were in earlier ones.
_PASSING: Final = """
    WITH items AS MATERIALIZED (
        SELECT t.id AS terms_id, unnest(CASE WHEN t.item <> '' THEN ARRAY[t.item] ELSE p.items END) AS item
        FROM order_terms t
        LEFT JOIN LATERAL (
            SELECT p.items FROM catalogue_versions v JOIN catalogue_plans p ON p.version_id = v.id
            WHERE v.catalogue_id = t.catalogue_id AND p.number = t.plan
            ORDER BY v.version DESC LIMIT 1) p ON true
        WHERE t.kind = 'recurring'
    )
    SELECT coalesce(n.number, '#' || n.id), count(*), min(e.at), max(p.period_end)
    FROM orders o JOIN items i ON i.terms_id = o.terms_id
    JOIN usage_events e
      ON e.account_id = o.account_id AND e.item = i.item AND e.at >= to_timestamp(%(from_s)s)
     AND e.at < coalesce(to_timestamp(%(until_s)s), 'infinity')
     AND e.counts_at >= to_timestamp(%(from_s)s)
    CROSS JOIN LATERAL (
        SELECT n.id, n.number FROM orders n JOIN items m ON m.terms_id = n.terms_id AND m.item = e.item
        WHERE n.account_id = o.account_id AND n.id <> o.id AND n.starts_at <= e.at
          AND e.at < coalesce(n.ends_at, 'infinity')
        ORDER BY n.id LIMIT 1) n
    JOIN recorded_periods p
      ON p.order_id = n.id AND p.part = 'arrears' AND p.period_start <= e.at AND e.at < p.period_end
    JOIN bill_runs r ON r.id = p.run_id AND coalesce(r.usage_until > e.counts_at, true)
    WHERE o.id = %(order_id)s AND n.id > o.id AND o.starts_at <= e.at
      AND NOT EXISTS (SELECT FROM usage_voids v WHERE v.usage_id = e.id)
    GROUP BY n.id, n.number ORDER BY n.id LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class PassingUsage:
    """Events that another order was billed without, or with. order: its number; until_at: the end of what it paid."""

    order: str
    events: int
    first_at: datetime
    until_at: datetime


async def passing_usage(cur: Cursor, order_id: int, from_s: int, until_s: int | None) -> PassingUsage | None:
    """Usage of [from_s, until_s) that an order shares with a later one whose period of that time is billed.

    Args:
        from_s, until_s: the time between the end that stands and the end that is to be, UTC seconds; None: no end.
    """
    await cur.execute(_PASSING, {"order_id": order_id, "from_s": from_s, "until_s": until_s})
    row = await cur.fetchone()
    return PassingUsage(*row) if row is not None else None
