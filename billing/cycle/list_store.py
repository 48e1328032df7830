"""The list of billing runs: what of them is shown, asked for and ordered by (billing.listing).

Rules. Functions take the caller's aiopg cursor. Drafts of a run that is done were given up and are gone: they are in no
number, as in billing.cycle.summary.

Does not know: words, pages.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from billing.database.cursors import Cursor
from billing.database.rows import records
from billing.listing.records import Field, ListSource, Search

RUN_STATES: Final = ("running", "reviewed", "approving", "done", "void")

RUN_ROWS: Final = ListSource(
    "runs",
    table="bill_runs r",
    key="r.id",
    key_type="integer",
    joins={
        "shards": """
            LEFT JOIN LATERAL (
                SELECT count(*) AS shards, count(*) FILTER (WHERE h.state IN ('posted', 'drafted')) AS done,
                       count(*) FILTER (WHERE h.state = 'failed') AS failed_shards,
                       coalesce(sum(h.orders_count) FILTER (WHERE h.is_there), 0)::bigint AS orders,
                       coalesce(sum(h.invoices_count) FILTER (WHERE h.is_there), 0)::bigint AS invoices,
                       coalesce(sum(h.failures_count), 0)::bigint AS failures
                FROM (SELECT bs.*, NOT (r.state = 'done' AND bs.state = 'drafted') AS is_there
                      FROM bill_shards bs WHERE bs.run_id = r.id) h) h ON true""",
        "totals": """
            LEFT JOIN LATERAL (
                SELECT json_object_agg(g.currency, g.total) AS totals
                FROM (SELECT bt.currency, sum(bt.total_minor)::bigint AS total
                      FROM bill_shard_totals bt
                      JOIN bill_shards bs ON bs.run_id = bt.run_id AND bs.shard_no = bt.shard_no
                      WHERE bt.run_id = r.id AND NOT (r.state = 'done' AND bs.state = 'drafted')
                      GROUP BY bt.currency ORDER BY bt.currency) g) g ON true""",
        "only": "LEFT JOIN accounts oa ON oa.id = r.only_account_id",
    },
    fields={
        "run": Field("r.id", (), "integer", Search.CODE, is_ordered=True, order_sql="r.id", is_quick=True),
        "bill_on": Field("r.bill_on", (), "date", Search.RANGE, is_ordered=True),
        "kind": Field("r.kind", search=Search.CHOICE),
        "state": Field("r.state", search=Search.CHOICE),
        "account": Field("oa.number", ("only",), search=Search.CODE, is_null=True),
        "shards": Field("h.shards", ("shards",), "bigint", Search.RANGE),
        "shards_done": Field("h.done", ("shards",), "bigint", Search.RANGE),
        "shards_failed": Field("h.failed_shards", ("shards",), "bigint", Search.RANGE),
        "orders": Field("h.orders", ("shards",), "bigint", Search.RANGE),
        "invoices": Field("h.invoices", ("shards",), "bigint", Search.RANGE),
        "failures": Field("h.failures", ("shards",), "bigint", Search.RANGE),
        "totals": Field("g.totals", ("totals",), "json"),
        "started": Field("r.started_at", (), "timestamptz", Search.RANGE, is_ordered=True),
        "finished": Field("r.finished_at", (), "timestamptz", Search.RANGE, is_null=True),
        "actor": Field("r.actor", search=Search.CODE),
        "approved_by": Field("r.approved_by", search=Search.CODE, is_null=True),
    },
)  # fmt: skip

_TOTALS: Final = """
    SELECT t.currency, sum(t.net_minor)::bigint AS net_minor, sum(t.tax_minor)::bigint AS tax_minor,
           sum(t.total_minor)::bigint AS total_minor
    FROM bill_shard_totals t JOIN bill_runs r ON r.id = t.run_id
    JOIN bill_shards s ON s.run_id = t.run_id AND s.shard_no = t.shard_no
    WHERE t.run_id = %s AND NOT (r.state = 'done' AND s.state = 'drafted')
    GROUP BY t.currency ORDER BY t.currency
"""

#: Those that failed first, then those that are not done.
_SHARDS: Final = """
    SELECT shard_no, state, coalesce(failure, '') AS failure, accounts_count, orders_count, invoices_count,
           failures_count, duration_ms, finished_at
    FROM bill_shards WHERE run_id = %s ORDER BY state <> 'failed', state <> 'due', shard_no LIMIT %s
"""

_FAILURES: Final = """
    SELECT coalesce(a.number, '') AS account, coalesce(c.name, '') AS customer,
           coalesce(c.number, '') AS customer_number,
           CASE WHEN f.order_id IS NULL THEN '' ELSE coalesce(o.number, '#' || f.order_id) END AS order_number,
           f.period_start, f.reason, f.detail
    FROM (SELECT * FROM bill_failures WHERE run_id = %s ORDER BY payer_account_id, id LIMIT %s) f
    LEFT JOIN accounts a ON a.id = f.payer_account_id
    LEFT JOIN billing_accounts b ON b.account_id = f.payer_account_id
    LEFT JOIN customers c ON c.id = b.customer_id
    LEFT JOIN orders o ON o.id = f.order_id
    ORDER BY f.payer_account_id, f.id
"""


@dataclass(frozen=True, slots=True)
class CurrencyTotals:
    """Sums of a run in one currency, minor units."""

    currency: str
    net_minor: int
    tax_minor: int
    total_minor: int


@dataclass(frozen=True, slots=True)
class ShardRow:
    """A shard as it stands. failure: why it failed as a whole, empty where it did not."""

    shard_no: int
    state: str
    failure: str
    accounts_count: int
    orders_count: int
    invoices_count: int
    failures_count: int
    duration_ms: int
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class FailureRow:
    """What could not be billed. order_number: empty for a whole account."""

    account: str
    customer: str
    customer_number: str
    order_number: str
    period_start: datetime | None
    reason: str
    detail: str


async def totals_of_run(cur: Cursor, run_id: int) -> list[CurrencyTotals]:
    """Money of a run by currency."""
    await cur.execute(_TOTALS, (run_id,))
    return await records(cur, CurrencyTotals)


async def shards_of_run(cur: Cursor, run_id: int, limit: int) -> list[ShardRow]:
    """Shards of a run: those that failed, those that are due, the others."""
    await cur.execute(_SHARDS, (run_id, limit))
    return await records(cur, ShardRow)


async def failures_of_run(cur: Cursor, run_id: int, limit: int) -> list[FailureRow]:
    """What of a run could not be billed, by account."""
    await cur.execute(_FAILURES, (run_id, limit))
    return await records(cur, FailureRow)
