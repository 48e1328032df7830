"""Usage that no invoice will show: events that no order covers, and late usage that was not billed.

Rules. An event belongs to the order that covered its time. An event of closed usage that no order covered then is not
billed; nor is late usage of a closed account, which gets no invoice, nor usage that passed to an order whose period was
billed before, by an end that was moved (orders are kept from that now, dunning and earlier versions were not). All are
listed, for a person to decide. Late usage that a run had to bill and did not is a difference, unless the run tells
of a failure of its payer.

Does not know: prices. Nothing is written.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from billing.database.cursors import Cursor
from billing.database.rows import records
from billing.verification.records import MAX_LISTED, Check, listed
from billing.verification.slices import snapshot

TRUTH: Final = 6

#: Items of recurring orders, by the newest version of their catalogue, with what they were in earlier ones.
_ITEMS: Final = """
    items AS MATERIALIZED (
        SELECT DISTINCT t.id AS terms_id, unnest(CASE WHEN t.item <> '' THEN ARRAY[t.item] ELSE p.items END) AS item
        FROM order_terms t
        LEFT JOIN LATERAL (
            SELECT p.items FROM catalogue_versions v JOIN catalogue_plans p ON p.version_id = v.id
            WHERE v.catalogue_id = t.catalogue_id AND p.number = t.plan
            ORDER BY v.version DESC LIMIT 1) p ON true
        WHERE t.kind = 'recurring'
    )
"""

_COVERED: Final = """
    EXISTS (SELECT FROM orders o JOIN items i ON i.terms_id = o.terms_id
            WHERE o.account_id = e.account_id AND i.item = e.item AND o.starts_at <= e.at
              AND e.at < coalesce(o.ends_at, 'infinity'))
"""

#: Of closed usage.
_UNCOVERED: Final = f"""
    WITH {_ITEMS}, closed AS (
        SELECT e.id, e.account_id, e.item, e.at
        FROM usage_events e
        WHERE e.counts_at < (SELECT open_from FROM usage_open)
          AND NOT EXISTS (SELECT FROM usage_voids v WHERE v.usage_id = e.id)
    )
    SELECT (SELECT count(*) FROM closed), e.item, count(*) FROM closed e WHERE NOT {_COVERED}
    GROUP BY e.item
    UNION ALL SELECT (SELECT count(*) FROM closed), NULL, 0
    ORDER BY 3 DESC
"""

#: Late events that a complete run saw, the period of the order they belong to, and what of it was billed since. What an
#: order in advance has on its arrears part alone is left to billing.verification.periods: without such a record there
#: is no late usage.
_LATE: Final = f"""
    WITH {_ITEMS}, last AS (
        SELECT r.id, r.usage_until FROM bill_runs r
        WHERE r.state = 'done' AND r.only_account_id IS NULL
          AND NOT EXISTS (SELECT FROM bill_shards s WHERE s.run_id = r.id AND s.state <> 'posted')
        ORDER BY r.usage_until DESC NULLS LAST, r.id DESC LIMIT 1
    ), late AS MATERIALIZED (
        SELECT e.id, e.account_id, e.item, e.at, e.counts_at, e.quantity_micro
        FROM usage_events e
        WHERE e.counts_at > e.at AND e.counts_at >= coalesce((SELECT late_since FROM usage_open), '2000-01-01')
          AND NOT EXISTS (SELECT FROM usage_voids v WHERE v.usage_id = e.id)
    ), owned AS MATERIALIZED (
        SELECT e.*, o.id AS order_id
        FROM late e
        CROSS JOIN LATERAL (
            SELECT o.id FROM orders o JOIN items i ON i.terms_id = o.terms_id
            WHERE o.account_id = e.account_id AND i.item = e.item AND o.starts_at <= e.at
              AND e.at < coalesce(o.ends_at, 'infinity')
            ORDER BY o.id LIMIT 1) o
    ), missing AS MATERIALIZED (
        SELECT e.*, p.period_start, b.payer_account_id, a.state = 'closed' OR y.state = 'closed' AS is_closed,
               e.counts_at < (SELECT usage_until FROM last) AS was_due
        FROM owned e
        JOIN recorded_periods p ON p.order_id = e.order_id AND p.part = 'arrears' AND p.period_start <= e.at
         AND e.at < p.period_end AND (p.outcome = 'waived' OR p.invoice_id IS NOT NULL)
        JOIN bill_runs r ON r.id = p.run_id AND r.usage_until <= e.counts_at
        JOIN billing_accounts b ON b.account_id = e.account_id
        JOIN accounts a ON a.id = e.account_id JOIN accounts y ON y.id = b.payer_account_id
        WHERE NOT EXISTS (
            SELECT FROM recorded_periods l JOIN bill_runs n ON n.id = l.run_id
            WHERE l.order_id = e.order_id AND l.part = 'late' AND l.period_start = p.period_start
              AND n.usage_until > e.counts_at)
    )
"""

_MISSED: Final = (
    _LATE
    + """
    SELECT m.order_id, m.period_start, count(*), count(*) OVER ()
    FROM missing m
    WHERE m.was_due AND NOT m.is_closed
      AND NOT EXISTS (SELECT FROM bill_failures f
                      WHERE f.run_id >= (SELECT id FROM last) AND f.payer_account_id = m.payer_account_id)
    GROUP BY m.order_id, m.period_start ORDER BY 1, 2 LIMIT %(limit)s
"""
)

_WAITING: Final = (
    _LATE
    + """
    SELECT (SELECT count(*) FROM late), count(*) FILTER (WHERE NOT is_closed), count(*) FILTER (WHERE is_closed)
    FROM missing
"""
)

#: Usage of an order until its end was moved, after the period of the order that has it now was billed without it.
_PASSED: Final = """
    moved AS MATERIALIZED (
        SELECT o.id, o.account_id, o.terms_id, o.starts_at, o.ends_at, t.zone, max(m.at) AS moved_at
        FROM order_events m JOIN orders o ON o.id = m.order_id JOIN order_terms t ON t.id = o.terms_id
        WHERE m.event IN ('ended', 'replaced') AND o.ends_at IS NOT NULL
        GROUP BY o.id, t.zone
    ), doubtful AS MATERIALIZED (
        SELECT o.*, n.id AS other_id, p.period_start, p.period_end, r.usage_until,
               coalesce(b.written_at, r.started_at) AS written_at
        FROM moved o
        CROSS JOIN LATERAL (SELECT n.id FROM orders n WHERE n.account_id = o.account_id AND n.id > o.id OFFSET 0) n
        CROSS JOIN LATERAL (
            SELECT p.* FROM order_periods p
            WHERE p.order_id = n.id AND p.part = 'arrears' AND p.period_end > o.ends_at OFFSET 0) p
        JOIN bill_runs r ON r.id = p.run_id LEFT JOIN invoice_blocks b ON b.id = p.invoice_id >> 20
        WHERE o.moved_at > coalesce(b.written_at, r.started_at)
    ), passed AS MATERIALIZED (
        SELECT DISTINCT e.id, e.account_id, e.item, e.at, e.quantity_micro
        FROM doubtful o
        LEFT JOIN LATERAL (
            SELECT w.event, (w.details ->> 'at')::timestamp AT TIME ZONE o.zone AS ended_at FROM order_events w
            WHERE w.order_id = o.id AND w.event IN ('ended', 'replaced', 'end_withdrawn') AND w.at < o.written_at
            ORDER BY w.id DESC LIMIT 1) before ON true
        CROSS JOIN LATERAL (
            SELECT e.* FROM usage_events e
            WHERE e.account_id = o.account_id AND e.counts_at >= greatest(o.ends_at, o.period_start)
              AND e.at >= greatest(o.ends_at, o.starts_at, o.period_start) AND e.at < o.period_end
              AND coalesce(e.counts_at < o.usage_until, true) OFFSET 0) e
        CROSS JOIN LATERAL (
            SELECT n.id FROM orders n JOIN items k ON k.terms_id = n.terms_id AND k.item = e.item
            WHERE n.account_id = e.account_id AND n.starts_at <= e.at AND e.at < coalesce(n.ends_at, 'infinity')
            ORDER BY n.id LIMIT 1) n
        WHERE n.id = o.other_id AND EXISTS (SELECT FROM items i WHERE i.terms_id = o.terms_id AND i.item = e.item)
          AND (before.event IS NULL OR before.event = 'end_withdrawn' OR coalesce(before.ended_at > e.at, true))
          AND NOT EXISTS (SELECT FROM usage_voids v WHERE v.usage_id = e.id)
    )
"""

_COUNT_PASSED: Final = f"WITH {_ITEMS}, {_PASSED} SELECT count(*) FROM passed"

_LIST: Final = (
    _LATE
    + f"""
    , {_PASSED}, nobody AS (
        SELECT e.account_id, e.item, e.at, e.quantity_micro, 'no order' AS why FROM usage_events e
        WHERE e.counts_at < (SELECT open_from FROM usage_open) AND NOT {_COVERED}
          AND NOT EXISTS (SELECT FROM usage_voids v WHERE v.usage_id = e.id)
        UNION ALL
        SELECT account_id, item, at, quantity_micro, 'end moved' FROM passed
        UNION ALL
        SELECT account_id, item, at, quantity_micro, CASE WHEN is_closed THEN 'closed account' ELSE 'next run' END
        FROM missing
    )
    SELECT a.number AS account, n.item, n.why, count(*) AS events, sum(n.quantity_micro)::bigint AS quantity_micro,
           min(n.at) AS first_at, max(n.at) AS last_at
    FROM nobody n JOIN accounts a ON a.id = n.account_id
    WHERE %(account)s = '' OR a.number = %(account)s
    GROUP BY a.number, n.item, n.why ORDER BY n.why, a.number, n.item LIMIT %(limit)s
"""
)


@dataclass(frozen=True, slots=True)
class UnbilledUsage:
    """Events of an account and an item. why: 'no order', 'closed account', 'end moved' (they passed to an order
    that was billed before them), or 'next run', which bills them."""

    account: str
    item: str
    why: str
    events: int
    quantity_micro: int
    first_at: datetime
    last_at: datetime


async def list_unbilled(cur: Cursor, account: str, limit: int) -> list[UnbilledUsage]:
    """Closed usage that is on no invoice. account: a number, or '' for all."""
    await cur.execute(_LIST, {"account": account, "limit": limit})
    return await records(cur, UnbilledUsage)


async def check_usage(cur: Cursor) -> Check:
    """Every event of closed usage is an order's; the others are told, for a person to decide."""
    await cur.execute(_UNCOVERED)
    rows = await cur.fetchall()
    told = [f"{number} of item {item}" for _, item, number in rows if item is not None]
    unbilled = sum(row[2] for row in rows)
    await cur.execute(_COUNT_PASSED)
    passed = int((await cur.fetchone())[0])
    notes = (
        [f"{passed} events passed to an order that was billed before them: `kopeck usage unbilled`"] if passed else []
    )
    notes += (
        [f"{unbilled} events that no order covers are not billed: {', '.join(told[:10])}; `kopeck usage unbilled`"]
        if told
        else []
    )
    name = "each event of closed usage belongs to an order or is reported"
    return Check(TRUTH, name, int(rows[0][0]), "events", note="; ".join(notes))


async def check_late(cur: Cursor) -> Check:
    """Usage that came after its period was billed is billed by the next run over all payers, or reported."""
    async with snapshot(cur):
        await cur.execute(_WAITING)
        examined, waiting, closed = await cur.fetchone()
        await cur.execute(_MISSED, {"limit": MAX_LISTED})
        rows = await cur.fetchall()
    found = listed(
        TRUTH,
        "late usage is billed to the period it is of, or reported",
        int(examined),
        "late events",
        rows,
        lambda row: f"order {row[0]}: {row[2]} late events of the period of {row[1]:%Y-%m-%d} are not billed",
    )
    told = [f"{waiting} late events are due in the next run"] if waiting else []
    told += [f"{closed} late events are of closed accounts: `kopeck usage unbilled`"] if closed else []
    return replace(found, note="; ".join(told))
