"""What a billing run is measured against, on the run's own database: bare copying, and billing by SQL alone.

Bare copying: the rows a run reads are copied out, and the rows it wrote are copied into empty tables with the same
columns, indexes and constraints, with the balances updated, by as many processes as the run had workers. No row is
looked at on the way: nothing that bills can do less.

SQL alone: orders with nothing special about them (monthly, in arrears, no trial, end, pause, minimum, code or price of
their own) are billed for their plan's flat fee, which is all that one INSERT ... SELECT can do with a bearable text.
Its lines are compared with the run's before it has a figure.

Rules. Whatever is made here is in schemas of its own; balances of the accounts do change, so the database is of no use
afterwards. Nothing here knows how the run does it.
"""

import multiprocessing
import os
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import psycopg2

from loadtests.base import BILL_ON, Slot, fee_minor, slots
from loadtests.figures import BenchError

_WRITTEN: Final = ("invoices", "invoice_lines", "order_periods", "transfers")

#: Of what a run reads, by a range of accounts or, where there is none, of orders.
_READ: Final = (
    """
    SELECT id, account_id, payer_account_id, terms_id, quantity, starts_at, ends_at, trial_until, minimum_minor,
           price_minor, codes
    FROM orders WHERE payer_account_id BETWEEN {first} AND {last}
    """,
    "SELECT id, currency, balance_minor, floor_minor FROM accounts WHERE id BETWEEN {first} AND {last}",
    """
    SELECT account_id, legal_entity_id, zone, due_days FROM billing_accounts
    WHERE account_id BETWEEN {first} AND {last}
    """,
    """
    SELECT account_id, item, at, counts_at, quantity_micro, duration_s, destination, id
    FROM usage_events WHERE account_id BETWEEN {first} AND {last} AND counts_at < '{until}'
    """,
    """
    SELECT order_id, part, period_start, period_end FROM order_periods
    WHERE order_id BETWEEN {first_order} AND {last_order} AND run_id < {run_id}
    """,
)

#: Of what a run wrote, by a range of its invoices or orders: (table, columns, rows).
_WROTE: Final = (
    (
        "invoices",
        "id, account_id, currency, invoiced_on, due_on, net_minor, tax_minor, total_minor",
        "FROM invoices WHERE id BETWEEN {first_invoice} AND {last_invoice} ORDER BY id",
    ),
    (
        "invoice_lines",
        "invoice_id, line, kind, order_id, manual_line_id, item, period_start, period_end, quantity, discount_minor, "
        "amount_minor, tax_ppm, tax_inside, net_minor, tax_minor",
        "FROM invoice_lines WHERE invoice_id BETWEEN {first_invoice} AND {last_invoice} ORDER BY invoice_id, line",
    ),
    (
        "order_periods",
        "order_id, part, period_start, period_end, outcome, reason, active_num, active_den, amount_minor, invoice_id, "
        "run_id",
        "FROM order_periods WHERE order_id BETWEEN {first_order} AND {last_order} AND run_id = {run_id} ORDER BY 1, 2",
    ),
    (
        "transfers",
        "source, source_id, step, debit_account_id, credit_account_id, amount_minor, currency",
        "FROM transfers WHERE source = 'invoice' AND source_id BETWEEN {first_invoice} AND {last_invoice} ORDER BY id",
    ),
)

_MOVE: Final = """
    UPDATE accounts a SET balance_minor = a.balance_minor - i.total_minor
    FROM {schema}.invoices i
    WHERE i.id BETWEEN {first_invoice} AND {last_invoice} AND a.id = i.account_id
"""

_BLOCKS: Final = """
    SELECT id << 20, (id << 20) + invoices_count - 1, invoices_count
    FROM invoice_blocks WHERE run_id = %(run_id)s ORDER BY id
"""

#: numbered: ids of invoices as the run gives them, a block for each chunk.
_PLAIN: Final = """
    WITH known AS (
        SELECT * FROM unnest('{{{terms_id}}}'::int[], '{{{fee}}}'::bigint[], '{{{starts}}}'::timestamptz[],
                             '{{{ends}}}'::timestamptz[]) AS t (terms_id, fee, period_start, period_end)
    ), due AS MATERIALIZED (
        SELECT o.id AS order_id, o.payer_account_id, t.period_start, t.period_end, o.quantity,
               t.fee * o.quantity AS amount, (t.fee * o.quantity * 440000 + 1220000) / 2440000 AS tax,
               (SELECT p.period_end FROM order_periods p
                WHERE p.order_id = o.id AND p.part = 'arrears' AND p.run_id < {run_id}
                ORDER BY p.period_start DESC LIMIT 1) AS done
        FROM orders o JOIN known t USING (terms_id)
        WHERE o.payer_account_id BETWEEN {first} AND {last} AND o.ends_at IS NULL AND o.trial_until IS NULL
          AND o.minimum_minor = 0 AND o.price_minor IS NULL AND o.codes IS NULL AND o.starts_at < t.period_start
          AND NOT EXISTS (SELECT FROM order_suspensions s WHERE s.order_id = o.id)
    ), invoiced AS MATERIALIZED (
        SELECT payer_account_id, sum(amount)::bigint AS total, sum(tax)::bigint AS tax,
               {first_invoice} + row_number() OVER (ORDER BY payer_account_id) - 1 AS invoice_id
        FROM due WHERE done = period_start GROUP BY payer_account_id
    ), numbered AS (
        INSERT INTO plain.invoices
        SELECT invoice_id, payer_account_id, 'RUB', '{bill_on}', date '{bill_on}' + 14, total - tax, tax, total
        FROM invoiced ORDER BY invoice_id
    ), lined AS (
        INSERT INTO plain.invoice_lines
        SELECT i.invoice_id, row_number() OVER (PARTITION BY i.invoice_id ORDER BY d.order_id), 'recurring', d.order_id,
               NULL, 'fee', d.period_start, d.period_end, d.quantity, 0, d.amount, 220000, true, d.amount - d.tax, d.tax
        FROM due d JOIN invoiced i USING (payer_account_id) WHERE d.done = d.period_start
    ), recorded AS (
        INSERT INTO plain.order_periods
        SELECT d.order_id, 'arrears', d.period_start, d.period_end, 'billed', '', 1, 1, d.amount, i.invoice_id, {run_id}
        FROM due d JOIN invoiced i USING (payer_account_id) WHERE d.done = d.period_start
    ), posted AS (
        INSERT INTO plain.transfers (source, source_id, step, debit_account_id, credit_account_id, amount_minor,
                                     currency)
        SELECT 'invoice', i.invoice_id, m.step, i.payer_account_id, s.id, m.amount, 'RUB'
        FROM invoiced i CROSS JOIN LATERAL (VALUES ('revenue', i.total - i.tax), ('tax', i.tax)) AS m (step, amount)
        JOIN accounts s ON s.number = m.step || ':RUB'
    )
    UPDATE accounts a SET balance_minor = a.balance_minor - i.total
    FROM invoiced i WHERE a.id = i.payer_account_id
"""

_COMPARE: Final = """
    SELECT (SELECT count(*) FROM plain.invoice_lines),
           count(*), coalesce(sum(abs(p.amount_minor - l.amount_minor)), 0)::bigint,
           coalesce(sum(abs(p.tax_minor - l.tax_minor)), 0)::bigint
    FROM plain.invoice_lines p
    JOIN (SELECT order_id, amount_minor, tax_minor, period_start FROM invoice_lines WHERE kind = 'recurring') l
      ON l.order_id = p.order_id AND l.period_start = p.period_start
"""


@dataclass(frozen=True, slots=True)
class Run:
    """The run that is measured against: its number, and the ids of accounts it was over."""

    dsn: str
    run_id: int
    first_account: int
    last_account: int
    workers: int


@dataclass(frozen=True, slots=True)
class Copied:
    """Seconds of bare copying, and how many rows were written."""

    out_s: float
    in_s: float
    rows: int

    @property
    def seconds(self) -> float:
        return self.out_s + self.in_s


@dataclass(frozen=True, slots=True)
class Plain:
    """How many lines SQL alone billed, in what time."""

    lines: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Job:
    """One process's share of copying: statements to copy out, or files to copy in by transactions."""

    dsn: str
    out: tuple[str, ...] = ()
    into: tuple[tuple[tuple[tuple[str, str], ...], str], ...] = ()


def copy_bare(run: Run, folder: Path) -> Copied:
    """Copy what a run read out and what it wrote in. folder: where what it wrote is kept meanwhile, uncounted."""
    folder.mkdir(parents=True, exist_ok=True)
    _make_tables(run.dsn, "bare")
    chunks = _chunks(run)
    saved = [_save(run, one, folder / str(number)) for number, one in enumerate(chunks)]
    _do(run.dsn, "CHECKPOINT")
    with multiprocessing.get_context("spawn").Pool(run.workers) as pool:
        pool.map(_copy, [_Job(run.dsn)] * run.workers)  # started, and connected once
        reading = [_Job(run.dsn, out=tuple(text.format_map(one) for text in _READ)) for one in chunks]
        out_s = _timed(pool, reading)
        in_s = _timed(pool, [_Job(run.dsn, into=(one,)) for one in saved])
    rows = sum(int(_row(run.dsn, f"SELECT count(*) FROM bare.{table}")[0]) for table in _WRITTEN)
    return Copied(out_s, in_s, rows)


def bill_plain(run: Run) -> Plain:
    """Bill the simple orders by SQL alone.

    Raises:
        BenchError: it came to other sums than the run.
    """
    _make_tables(run.dsn, "plain")
    statements = [_PLAIN.format_map(one | _known_terms(run.dsn)) for one in _chunks(run)]
    _do(run.dsn, "CHECKPOINT")
    with multiprocessing.get_context("spawn").Pool(run.workers) as pool:
        pool.map(_copy, [_Job(run.dsn)] * run.workers)
        seconds = _timed(pool, [_Job(run.dsn, into=(((), one),)) for one in statements])
    lines, found, amount, tax = _row(run.dsn, _COMPARE)
    if not lines or lines != found or amount or tax:
        raise BenchError(f"SQL alone billed {lines} lines; the run has {found} of them, {amount} and {tax} apart")
    return Plain(lines, seconds)


def _timed(pool: Any, jobs: Sequence[_Job]) -> float:
    begun = time.perf_counter()
    pool.map(_copy, jobs, chunksize=1)
    return time.perf_counter() - begun


def _copy(job: _Job) -> None:
    """A job of one process, each transaction with a commit of its own."""
    with closing(psycopg2.connect(job.dsn)) as connection:
        with connection, connection.cursor() as cur, Path(os.devnull).open("wb") as nowhere:
            cur.execute("SET jit = off; SET max_parallel_workers_per_gather = 0; SET enable_hashjoin = on")
            for statement in job.out:
                cur.copy_expert(f"COPY ({statement}) TO STDOUT (FORMAT binary)", nowhere)
        for files, statement in job.into:
            with connection, connection.cursor() as cur:
                for target, path in files:
                    with Path(path).open("rb") as file:
                        cur.copy_expert(f"COPY {target} FROM STDIN (FORMAT binary)", file)
                cur.execute(statement)


def _save(run: Run, chunk: dict[str, Any], path: Path) -> tuple[tuple[tuple[str, str], ...], str]:
    """Files with what the run wrote of a chunk, and the statement that moves its balances."""
    files = []
    with closing(psycopg2.connect(run.dsn)) as connection, connection.cursor() as cur:
        for table, columns, rows in _WROTE:
            name = f"{path}-{table}"
            with Path(name).open("wb") as file:
                cur.copy_expert(f"COPY (SELECT {columns} {rows.format_map(chunk)}) TO STDOUT (FORMAT binary)", file)
            files.append((f"bare.{table} ({columns})", name))
    return tuple(files), _MOVE.format_map(chunk | {"schema": "bare"})


def _chunks(run: Run) -> list[dict[str, Any]]:
    """Ranges of accounts, of orders and of the run's invoices, as many of each: together they are everything."""
    blocks = _rows(run.dsn, _BLOCKS, {"run_id": run.run_id})
    low, high = _row(run.dsn, "SELECT min(id), max(id) FROM orders")
    count = len(blocks)
    accounts = _ranges(run.first_account, run.last_account, count)
    orders = _ranges(low, high, count)
    until = (datetime.combine(BILL_ON, datetime.min.time(), UTC) + timedelta(hours=12)).isoformat()
    return [
        {"first": first, "last": last, "first_order": first_order, "last_order": last_order}
        | {"first_invoice": invoice, "last_invoice": last_invoice}
        | {"run_id": run.run_id, "until": until, "bill_on": BILL_ON.isoformat()}
        for (first, last), (first_order, last_order), (invoice, last_invoice, _) in zip(
            accounts, orders, blocks, strict=True
        )
    ]


def _ranges(first: int, last: int, count: int) -> list[tuple[int, int]]:
    """The integers from ``first`` to ``last`` in ``count`` ranges.

    >>> _ranges(1, 10, 3)
    [(1, 3), (4, 6), (7, 10)]
    """
    total = last - first + 1
    cuts = [first + total * place // count for place in range(count + 1)]
    return [(low, high - 1) for low, high in pairwise(cuts)]


def _known_terms(dsn: str) -> dict[str, str]:
    """Terms in arrears with their plan's fee and the period that is due, as lists for SQL."""
    query = """
        SELECT t.plan, t.anchor_day, t.zone, t.proration, t.id FROM order_terms t
        JOIN catalogues c ON c.id = t.catalogue_id
        WHERE c.name = 'synthetic' AND NOT t.in_advance AND t.kind = 'recurring'
    """
    ids = {tuple(row[:4]): int(row[4]) for row in _rows(dsn, query, {})}
    known = {_terms_of(ids, one): one for one in slots() if not one.in_advance}  # several slots share terms
    return {
        "terms_id": ",".join(str(number) for number in known),
        "fee": ",".join(str(fee_minor(one.plan)) for one in known.values()),
        "starts": ",".join(f'"{datetime.fromtimestamp(one.periods[1], UTC).isoformat()}"' for one in known.values()),
        "ends": ",".join(f'"{datetime.fromtimestamp(one.periods[2], UTC).isoformat()}"' for one in known.values()),
    }


def _terms_of(ids: dict[tuple[Any, ...], int], one: Slot) -> int:
    return ids[f"plan{one.plan + 1:02d}", one.anchor, one.zone, one.proration]


def _make_tables(dsn: str, schema: str) -> None:
    """Empty tables as the run's are, with their indexes and constraints; checks for other tables do not come along."""
    made = "; ".join(f"CREATE TABLE {schema}.{name} (LIKE public.{name} INCLUDING ALL)" for name in _WRITTEN)
    _do(dsn, f"CREATE SCHEMA {schema}; {made}")


def _do(dsn: str, statement: str) -> None:
    with closing(psycopg2.connect(dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cur:
            cur.execute(statement)


def _rows(dsn: str, query: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cur:
        cur.execute(query, values)
        return list(cur.fetchall())


def _row(dsn: str, query: str) -> tuple[Any, ...]:
    return _rows(dsn, query, {})[0]
