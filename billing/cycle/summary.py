"""What a billing run came to: counts, money, failures, how it compares with a month before, and whether it reconciles.

Rules. Reconciliation trusts no sum that was kept: lines, invoices and transfers are added up again by PostgreSQL and
laid beside each other, by currency. Of a run that did not post there are no transfers to compare.

Does not know: how a summary is printed. Functions take the caller's connection and change nothing.
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from billing.database.adbc import do, rows
from billing.database.arrays import int_array
from billing.database.cursors import ColumnConnection

#: Failures that a summary lists; all are counted.
MAX_LISTED: Final = 20

_RUN: Final = """
    SELECT r.id, r.bill_on, r.kind, r.state, r.actor, r.started_at, r.finished_at, coalesce(a.number, ''),
           coalesce(r.abandoned_by, ''), coalesce(r.abandoned_why, '')
    FROM bill_runs r LEFT JOIN accounts a ON a.id = r.only_account_id
    WHERE r.id = $1::int
"""

_NEWEST: Final = "SELECT id FROM bill_runs ORDER BY id DESC LIMIT $1::int"

_UNDER_WAY: Final = "SELECT id FROM bill_runs WHERE state IN ('running', 'reviewed', 'approving')"

#: Drafts of a run that is done were given up and are gone.
_SHARDS: Final = """
    SELECT count(*) FILTER (WHERE s.state = 'due'), count(*) FILTER (WHERE s.state = 'drafted'),
           count(*) FILTER (WHERE s.state = 'posted'), count(*) FILTER (WHERE s.state = 'failed'),
           coalesce(sum(accounts_count) FILTER (WHERE is_there), 0)::bigint,
           coalesce(sum(orders_count) FILTER (WHERE is_there), 0)::bigint,
           coalesce(sum(events_count) FILTER (WHERE is_there), 0)::bigint,
           coalesce(sum(periods_count) FILTER (WHERE is_there), 0)::bigint,
           coalesce(sum(invoices_count) FILTER (WHERE is_there), 0)::bigint,
           coalesce(sum(lines_count) FILTER (WHERE is_there), 0)::bigint,
           coalesce(sum(failures_count), 0)::bigint
    FROM (SELECT s.*, NOT (r.state = 'done' AND s.state = 'drafted') AS is_there
          FROM bill_shards s JOIN bill_runs r ON r.id = s.run_id WHERE s.run_id = $1::int) s
"""

#: Names of what _SHARDS counts, in its order.
_COUNTED: Final = (
    "due",
    "drafted",
    "posted",
    "failed",
    "payers",
    "orders",
    "events",
    "periods",
    "invoices",
    "lines",
    "failures",
)

_FAILED_SHARDS: Final = """
    SELECT shard_no, failure FROM bill_shards WHERE run_id = $1::int AND state = 'failed' ORDER BY shard_no
"""

_TOTALS: Final = """
    SELECT t.currency, sum(t.net_minor)::bigint, sum(t.tax_minor)::bigint, sum(t.total_minor)::bigint
    FROM bill_shard_totals t JOIN bill_runs r ON r.id = t.run_id
    JOIN bill_shards s ON s.run_id = t.run_id AND s.shard_no = t.shard_no
    WHERE t.run_id = $1::int AND NOT (r.state = 'done' AND s.state = 'drafted')
    GROUP BY t.currency ORDER BY t.currency
"""

_FAILURES: Final = """
    SELECT a.number, f.order_id, coalesce(o.number, '#' || f.order_id), f.period_start, coalesce(f.part, ''), f.reason,
           f.detail || coalesce(' (' || i.file_name || ', line ' || e.line || ', of import ' || e.import_id || ')', '')
    FROM (SELECT * FROM bill_failures WHERE run_id = $1::int ORDER BY payer_account_id, id LIMIT $2::int) f
    LEFT JOIN accounts a ON a.id = f.payer_account_id LEFT JOIN orders o ON o.id = f.order_id
    LEFT JOIN LATERAL (SELECT e.line, e.import_id FROM usage_events e WHERE e.id = f.usage_id OFFSET 0) e ON true
    LEFT JOIN usage_imports i ON i.id = e.import_id
    ORDER BY f.payer_account_id, f.id
"""

_REASONS: Final = """
    SELECT reason, count(*), count(DISTINCT payer_account_id) FROM bill_failures
    WHERE run_id = $1::int GROUP BY reason ORDER BY 2 DESC, 1
"""

_WAIVED: Final = """
    SELECT reason, count(*) FROM order_periods WHERE run_id = $1::int AND outcome = 'waived'
    GROUP BY reason ORDER BY reason
"""

#: The run to compare with: the newest that is done and a month or more older, else the newest that is done.
_BEFORE: Final = """
    SELECT p.id, p.bill_on FROM bill_runs p, bill_runs r
    WHERE r.id = $1::int AND p.id < r.id AND p.state = 'done'
      AND p.only_account_id IS NOT DISTINCT FROM r.only_account_id
    ORDER BY p.bill_on <= r.bill_on - interval '1 month' DESC, p.bill_on DESC, p.id DESC LIMIT 1
"""

_BOUNDS: Final = """
    SELECT min(id) << 20, ((max(id) + 1) << 20) - 1 FROM invoice_blocks WHERE run_id = $1::int HAVING count(*) > 0
"""

#: Blocks in between that are not the run's: credit notes written meanwhile.
_OTHERS: Final = """
    SELECT id FROM invoice_blocks
    WHERE id BETWEEN $2::bigint >> 20 AND $3::bigint >> 20 AND run_id IS DISTINCT FROM $1::int
"""

#: Workers have done their shards, so the cores are free for the server.
_ON_ALL_CORES: Final = "SET LOCAL max_parallel_workers_per_gather = 4"

# A run's invoices lie between the first and the last of its blocks: one sweep over the range, written into the
# statement, for the planner must see how much it is.

_SUM_INVOICES: Final = """
    SELECT i.currency, sum(i.net_minor)::bigint, sum(i.tax_minor)::bigint
    FROM invoices i
    WHERE i.id BETWEEN {low} AND {high} AND i.id >> 20 <> ALL ('{others}'::bigint[])
    GROUP BY i.currency ORDER BY i.currency
"""

_SUM_LINES: Final = """
    SELECT i.currency, sum(l.net_minor)::bigint, sum(l.tax_minor)::bigint
    FROM invoice_lines l JOIN invoices i ON i.id = l.invoice_id
    WHERE l.invoice_id BETWEEN {low} AND {high} AND i.id BETWEEN {low} AND {high}
      AND i.id >> 20 <> ALL ('{others}'::bigint[])
    GROUP BY i.currency ORDER BY i.currency
"""

#: Both ends of a transfer are looked at: what is credited to revenue or tax less what is debited.
_SUM_TRANSFERS: Final = """
    SELECT t.currency,
           sum(t.amount_minor * ((t.credit_account_id = s.revenue_id)::int - (t.debit_account_id = s.revenue_id)::int))
               ::bigint,
           sum(t.amount_minor * ((t.credit_account_id = s.tax_id)::int - (t.debit_account_id = s.tax_id)::int))::bigint
    FROM transfers t
    JOIN (
        SELECT c.currency, r.id AS revenue_id, x.id AS tax_id
        FROM (SELECT DISTINCT currency FROM bill_shard_totals WHERE run_id = {run_id}) c
        JOIN accounts r ON r.number = 'revenue:' || c.currency
        JOIN accounts x ON x.number = 'tax:' || c.currency
    ) s ON s.currency = t.currency
    WHERE t.source = 'invoice' AND t.source_id BETWEEN {low} AND {high}
      AND t.source_id >> 20 <> ALL ('{others}'::bigint[])
    GROUP BY t.currency ORDER BY t.currency
"""


@dataclass(frozen=True, slots=True)
class MoneyTotals:
    """Sums of a currency in minor units."""

    currency: str
    net_minor: int
    tax_minor: int

    @property
    def total_minor(self) -> int:
        return self.net_minor + self.tax_minor


@dataclass(frozen=True, slots=True)
class RunFailure:
    """Something that could not be billed. order_id, period_start: None for a whole account."""

    account: str
    order_id: int | None
    order: str | None
    period_start: datetime | None
    part: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Reconciled:
    """Sums of a run by currency: of lines, of invoices, of transfers (None: nothing was posted yet)."""

    lines: tuple[MoneyTotals, ...]
    invoices: tuple[MoneyTotals, ...]
    transfers: tuple[MoneyTotals, ...] | None

    @property
    def agrees(self) -> bool:
        return self.lines == self.invoices and self.transfers in (None, self.invoices)


@dataclass(frozen=True, slots=True)
class Before:
    """The run that a review is compared with."""

    run_id: int
    bill_on: date
    invoices: int
    money: tuple[MoneyTotals, ...]


@dataclass(frozen=True, slots=True)
class Summary:
    """A run as it stands. due, drafted, posted, failed: shards; failures: all; failed_shards: (number, why).

    abandoned_by, abandoned_why: of a run that was given up; its other shards are due again.
    """

    run_id: int
    bill_on: date
    kind: str
    state: str
    actor: str
    account: str
    started_at: datetime
    finished_at: datetime | None
    due: int
    drafted: int
    posted: int
    failed: int
    payers: int
    orders: int
    events: int
    periods: int
    invoices: int
    lines: int
    failures: int
    money: tuple[MoneyTotals, ...]
    failed_shards: tuple[tuple[int, str], ...] = ()
    listed: tuple[RunFailure, ...] = ()
    reasons: tuple[tuple[str, int, int], ...] = ()
    waived: tuple[tuple[str, int], ...] = ()
    before: Before | None = None
    abandoned_by: str = ""
    abandoned_why: str = ""

    @property
    def is_clean(self) -> bool:
        """Nothing failed and nothing is left to do."""
        return not (self.failures or self.failed or self.due)


def under_way(opened: ColumnConnection) -> int | None:
    """The run that is not done, if there is one."""
    found = rows(opened, _UNDER_WAY)
    return int(found[0][0]) if found else None


def newest_runs(opened: ColumnConnection, limit: int) -> list[int]:
    """Newest first."""
    return [int(row[0]) for row in rows(opened, _NEWEST, (limit,))]


def summarise(opened: ColumnConnection, run_id: int, *, with_details: bool = True) -> Summary | None:
    """A run as it stands, None where there is none.

    Args:
        with_details: also failures, waived periods and the run before; these read many rows.
    """
    found = rows(opened, _RUN, (run_id,))
    if not found:
        return None
    _, bill_on, kind, state, actor, started_at, finished_at, account, abandoned_by, abandoned_why = found[0]
    details: dict[str, Any] = dict(zip(_COUNTED, map(int, rows(opened, _SHARDS, (run_id,))[0]), strict=True))
    if with_details:
        details |= {
            "listed": tuple(RunFailure(*row) for row in rows(opened, _FAILURES, (run_id, MAX_LISTED))),
            "reasons": tuple((str(row[0]), int(row[1]), int(row[2])) for row in rows(opened, _REASONS, (run_id,))),
            "waived": tuple((str(row[0]), int(row[1])) for row in rows(opened, _WAIVED, (run_id,))),
            "before": _before(opened, run_id),
        }
    return Summary(
        run_id,
        bill_on,
        kind,
        state,
        actor,
        account,
        started_at,
        finished_at,
        money=_money(opened, run_id),
        abandoned_by=abandoned_by,
        abandoned_why=abandoned_why,
        failed_shards=tuple((int(row[0]), str(row[1])) for row in rows(opened, _FAILED_SHARDS, (run_id,))),
        **details,
    )


def _money(opened: ColumnConnection, run_id: int) -> tuple[MoneyTotals, ...]:
    return tuple(MoneyTotals(str(row[0]), int(row[1]), int(row[2])) for row in rows(opened, _TOTALS, (run_id,)))


def _before(opened: ColumnConnection, run_id: int) -> Before | None:
    found = rows(opened, _BEFORE, (run_id,))
    if not found:
        return None
    before_id, bill_on = int(found[0][0]), found[0][1]
    invoices = rows(opened, _SHARDS, (before_id,))[0][_COUNTED.index("invoices")]
    return Before(before_id, bill_on, int(invoices), _money(opened, before_id))


def reconcile(opened: ColumnConnection, run_id: int, *, is_posted: bool) -> Reconciled:
    """Add up the run's lines, invoices and, where it is posted, transfers."""

    bounds = rows(opened, _BOUNDS, (run_id,))
    if not bounds:
        return Reconciled((), (), () if is_posted else None)
    low, high = bounds[0]
    others = int_array(row[0] for row in rows(opened, _OTHERS, (run_id, low, high)))
    do(opened, _ON_ALL_CORES)

    def sums(statement: str) -> tuple[MoneyTotals, ...]:
        found = rows(opened, statement.format(run_id=int(run_id), low=int(low), high=int(high), others=others))
        return tuple(MoneyTotals(str(currency), int(net), int(tax)) for currency, net, tax in found)

    transfers = sums(_SUM_TRANSFERS) if is_posted else None
    return Reconciled(sums(_SUM_LINES), sums(_SUM_INVOICES), transfers)
