"""The list of billing runs: what of them is shown, asked for and ordered by (billing.listing).

Rules. Drafts of a run that is done were given up and are gone: they are in no number, as in billing.cycle.summary.

Does not know: words, pages.
"""

from typing import Final

from billing.listing.records import Field, Search, Source

RUN_STATES: Final = ("running", "reviewed", "approving", "done", "void")

RUN_ROWS: Final = Source(
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
