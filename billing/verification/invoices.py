"""Truth 8 on a live database: invoices are numbered without gaps, add up, stand in the ledger, and cannot be rewritten.

Rules. As in billing.verification.ledger: nothing written, a snapshot for each check, or for each slice of invoices;
PostgreSQL does the adding and returns only what differs. ``billing.verification.cycle`` runs these.

Does not know: what an invoice should have cost, how a report is printed.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final

from billing.database.cursors import Cursor
from billing.verification.ledger import Guard, Step, check_guards, check_steps, count
from billing.verification.records import MAX_LISTED, Check, listed
from billing.verification.slices import Say, silent, slices, snapshot, together
from ratingcore.money import format_minor

TRUTH: Final = 8

#: The program may delete invoices and lines of voided reviews, which the triggers look into; nobody may update them.
GUARDS: Final = (
    Guard("invoices", ("UPDATE", "DELETE", "TRUNCATE"), ("UPDATE", "TRUNCATE")),
    Guard("invoice_lines", ("UPDATE", "DELETE", "TRUNCATE"), ("UPDATE", "TRUNCATE")),
    Guard("invoice_blocks", ("UPDATE", "DELETE", "TRUNCATE"), ("DELETE", "TRUNCATE")),
    Guard("order_periods", ("UPDATE", "DELETE", "TRUNCATE"), ("UPDATE", "TRUNCATE")),
    Guard("credit_notes", ("UPDATE", "DELETE", "TRUNCATE"), ("UPDATE", "DELETE", "TRUNCATE")),
    Guard("order_events", ("UPDATE", "DELETE", "TRUNCATE"), ("UPDATE", "DELETE", "TRUNCATE")),
    Guard("dunning_events", ("UPDATE", "DELETE", "TRUNCATE"), ("UPDATE", "DELETE", "TRUNCATE")),
    Guard("dunning_delays", ("UPDATE", "DELETE", "TRUNCATE"), ("UPDATE", "DELETE", "TRUNCATE")),
    Guard("bill_runs", ("DELETE", "TRUNCATE"), ("DELETE", "TRUNCATE")),
    Guard("bill_shards", ("DELETE", "TRUNCATE"), ("DELETE", "TRUNCATE")),
    Guard("bill_shard_totals", ("UPDATE", "DELETE", "TRUNCATE"), ("UPDATE", "DELETE", "TRUNCATE")),
    Guard("bill_run_catalogues", ("UPDATE", "DELETE", "TRUNCATE"), ("UPDATE", "DELETE", "TRUNCATE")),
    Guard("orders", ("DELETE", "TRUNCATE"), ("DELETE", "TRUNCATE")),
    Guard("invoice_series", ("DELETE", "TRUNCATE"), ("DELETE", "TRUNCATE")),
)

#: What is written once stays by GUARDS; these see to it that it is written only then (migration 0010).
STEPS: Final = (
    Step("invoice_blocks", "invoice_blocks_begin"),
    Step("invoices", "invoices_with_block"),
    Step("invoice_lines", "invoice_lines_with_block"),
    Step("order_periods", "order_periods_of_run"),
    Step("bill_runs", "bill_runs_steps"),
    Step("bill_shards", "bill_shards_steps"),
    Step("invoice_series", "invoice_series_upwards"),
    Step("orders", "orders_stay_settled"),
)

_NUMBERS: Final = """
    WITH blocks AS (
        SELECT s.prefix, b.id, b.first_number AS first,
               lag(b.first_number + b.invoices_count) OVER (PARTITION BY s.id ORDER BY b.first_number) AS expected
        FROM invoice_blocks b JOIN invoice_series s ON s.id = b.series_id WHERE b.state = 'issued'
        UNION ALL
        SELECT s.prefix, NULL, s.next_number, max(b.first_number + b.invoices_count)
        FROM invoice_blocks b JOIN invoice_series s ON s.id = b.series_id WHERE b.state = 'issued' GROUP BY s.id
    )
    SELECT prefix, id, first, expected, count(*) OVER () FROM blocks WHERE first <> expected
    ORDER BY prefix, first LIMIT %(limit)s
"""

_PLACES: Final = """
    WITH held AS (
        SELECT id >> 20 AS block_id, count(*) AS count, max(id & 1048575) AS last FROM invoices GROUP BY id >> 20
    )
    SELECT coalesce(b.id, h.block_id), coalesce(b.state, 'missing'),
           CASE b.state WHEN 'void' THEN 0 ELSE b.invoices_count END, coalesce(h.count, 0), h.last, count(*) OVER ()
    FROM invoice_blocks b FULL JOIN held h ON h.block_id = b.id
    WHERE b.id IS NULL OR coalesce(h.count, 0) <> CASE b.state WHEN 'void' THEN 0 ELSE b.invoices_count END
       OR h.last <> h.count - 1
    ORDER BY 1 LIMIT %(limit)s
"""

#: Each line's net and tax are its amount, and the lines are the invoice.
_SUMS: Final = """
    WITH sums AS (
        SELECT invoice_id, sum(net_minor) AS net, sum(tax_minor) AS tax,
               count(*) FILTER (WHERE amount_minor <> net_minor + CASE WHEN tax_inside THEN tax_minor ELSE 0 END) AS bad
        FROM invoice_lines WHERE invoice_id > %(after)s AND invoice_id <= %(last)s GROUP BY invoice_id
    )
    SELECT coalesce(i.id, s.invoice_id), i.net_minor, i.tax_minor, s.net::bigint, s.tax::bigint, coalesce(s.bad, 0),
           count(*) OVER ()
    FROM (SELECT * FROM invoices WHERE id > %(after)s AND id <= %(last)s) i FULL JOIN sums s ON s.invoice_id = i.id
    WHERE i.id IS NULL OR s.invoice_id IS NULL OR s.net <> i.net_minor OR s.tax <> i.tax_minor OR s.bad > 0
    ORDER BY 1 LIMIT %(limit)s
"""

#: Amounts as the payer's account sees them, debits positive.
_TRANSFERS: Final = """
    WITH due AS (
        SELECT i.id, i.account_id, i.currency, p.step, p.amount
        FROM invoices i
        JOIN invoice_blocks b ON b.id = i.id >> 20 AND b.state IN ('posted', 'issued')
        CROSS JOIN LATERAL (VALUES ('revenue', i.net_minor), ('tax', i.tax_minor)) AS p (step, amount)
        WHERE p.amount <> 0 AND i.id > %(after)s AND i.id <= %(last)s
    ), made AS (
        SELECT t.source_id AS id, t.step, t.currency, t.debit_account_id, t.credit_account_id, t.amount_minor
        FROM transfers t WHERE t.source = 'invoice' AND t.source_id > %(after)s AND t.source_id <= %(last)s
    )
    SELECT coalesce(d.id, m.id), coalesce(d.step, m.step), d.amount, m.amount_minor, count(*) OVER ()
    FROM due d FULL JOIN made m ON m.id = d.id AND m.step = d.step
    LEFT JOIN accounts a
      ON a.id = CASE WHEN d.amount > 0 THEN m.credit_account_id ELSE m.debit_account_id END
    WHERE d.id IS NULL OR m.id IS NULL OR abs(d.amount) <> m.amount_minor OR d.currency <> m.currency
       OR d.account_id <> CASE WHEN d.amount > 0 THEN m.debit_account_id ELSE m.credit_account_id END
       OR a.number IS DISTINCT FROM d.step || ':' || d.currency
    ORDER BY 1, 2 LIMIT %(limit)s
"""

#: What the shards of a run wrote down beside what is there. Drafts of a run that is done were given up.
_RUNS: Final = """
    WITH held AS (
        SELECT b.run_id, b.shard_no, i.currency, sum(i.net_minor) AS net, sum(i.tax_minor) AS tax,
               sum(i.total_minor) AS total
        FROM invoices i JOIN invoice_blocks b ON b.id = i.id >> 20
        WHERE b.run_id IS NOT NULL GROUP BY b.run_id, b.shard_no, i.currency
    ), told AS (
        SELECT t.* FROM bill_shard_totals t
        JOIN bill_runs r ON r.id = t.run_id AND r.state <> 'void'
        JOIN bill_shards s ON s.run_id = t.run_id AND s.shard_no = t.shard_no
         AND NOT (r.state = 'done' AND s.state = 'drafted')
    )
    SELECT coalesce(h.run_id, t.run_id), coalesce(h.shard_no, t.shard_no), coalesce(h.currency, t.currency),
           t.total_minor, h.total::bigint, count(*) OVER ()
    FROM held h
    FULL JOIN told t ON t.run_id = h.run_id AND t.shard_no = h.shard_no AND t.currency = h.currency
    WHERE h.net IS DISTINCT FROM t.net_minor OR h.tax IS DISTINCT FROM t.tax_minor
       OR h.total IS DISTINCT FROM t.total_minor
    ORDER BY 1, 2, 3 LIMIT %(limit)s
"""

_COUNTS: Final = """
    WITH held AS (
        SELECT b.run_id, b.shard_no, sum(b.invoices_count) AS count
        FROM invoice_blocks b WHERE b.run_id IS NOT NULL AND b.state <> 'void' GROUP BY b.run_id, b.shard_no
    )
    SELECT s.run_id, s.shard_no, s.invoices_count, coalesce(h.count, 0)::bigint, count(*) OVER ()
    FROM bill_shards s
    JOIN bill_runs r ON r.id = s.run_id AND r.state <> 'void'
    LEFT JOIN held h ON h.run_id = s.run_id AND h.shard_no = s.shard_no
    WHERE (s.state = 'posted' OR (s.state = 'drafted' AND r.state <> 'done'))
      AND s.invoices_count <> coalesce(h.count, 0)
    ORDER BY 1, 2 LIMIT %(limit)s
"""

#: What was recorded as billed of an order stands on the invoice, no more and no less: nothing is billed twice.
_PERIODS: Final = """
    WITH recorded AS (
        SELECT invoice_id, order_id, sum(amount_minor) AS amount FROM order_periods
        WHERE invoice_id IS NOT NULL GROUP BY invoice_id, order_id
    ), shown AS (
        SELECT invoice_id, order_id, sum(amount_minor) AS amount FROM invoice_lines
        WHERE order_id IS NOT NULL AND kind <> 'credit' GROUP BY invoice_id, order_id
    )
    SELECT coalesce(r.invoice_id, s.invoice_id), coalesce(r.order_id, s.order_id), r.amount::bigint, s.amount::bigint,
           count(*) OVER ()
    FROM recorded r FULL JOIN shown s ON s.invoice_id = r.invoice_id AND s.order_id = r.order_id
    WHERE r.amount IS DISTINCT FROM s.amount
    ORDER BY 1, 2 LIMIT %(limit)s
"""

_MANUAL: Final = """
    SELECT coalesce(m.id, l.manual_line_id), m.invoice_id, l.invoice_id, m.amount_minor, l.amount_minor,
           count(*) OVER ()
    FROM (SELECT * FROM manual_lines WHERE invoice_id IS NOT NULL) m
    FULL JOIN (SELECT * FROM invoice_lines WHERE kind = 'manual') l
      ON l.manual_line_id = m.id AND l.invoice_id = m.invoice_id
    WHERE m.id IS NULL OR l.manual_line_id IS NULL OR m.amount_minor <> l.amount_minor
    ORDER BY 1 LIMIT %(limit)s
"""

_CREDITS: Final = """
    WITH credited AS (
        SELECT n.corrects_id AS invoice_id, c.line, sum(c.net_minor) AS net, sum(c.tax_minor) AS tax
        FROM invoices n JOIN invoice_lines c ON c.invoice_id = n.id
        WHERE n.corrects_id IS NOT NULL GROUP BY n.corrects_id, c.line
    )
    SELECT c.invoice_id, c.line, l.net_minor + l.tax_minor, (c.net + c.tax)::bigint, count(*) OVER ()
    FROM credited c LEFT JOIN invoice_lines l ON l.invoice_id = c.invoice_id AND l.line = c.line
    WHERE l.line IS NULL OR abs(c.net + c.tax) > abs(l.net_minor + l.tax_minor) OR abs(c.net) > abs(l.net_minor)
       OR abs(c.tax) > abs(l.tax_minor) OR (c.net + c.tax) * (l.net_minor + l.tax_minor) > 0
    ORDER BY 1, 2 LIMIT %(limit)s
"""


def _sum(amount: int | None) -> str:
    return "nothing" if amount is None else format_minor(amount)


#: Queries that walk invoices slice by slice: where a row of the examined table belongs to an invoice.
_INVOICE_COLUMN: Final = {_SUMS: "invoice_id", _TRANSFERS: "source_id"}

#: (name, table that is examined, its word, query, a differing row in words)
_CHECKS: Final[Sequence[tuple[str, str, str, str, Callable[[Sequence[Any]], str]]]] = (
    (
        "numbers of each series have no gap and none is twice",
        "invoice_blocks WHERE state = 'issued'",
        "blocks",
        _NUMBERS,
        lambda row: (
            f"series {row[0]!r}: block {row[1]} begins with {row[2]}, must begin with {row[3]}"
            if row[1] is not None
            else f"series {row[0]!r}: the next number is {row[2]}, must be {row[3]}"
        ),
    ),
    (
        "each block holds its invoices, from place 0 on",
        "invoices",
        "invoices",
        _PLACES,
        lambda row: f"block {row[0]} ({row[1]}) has {row[3]} invoices up to place {row[4]}, must have {row[2]}",
    ),
    (
        "each invoice is the sum of its lines",
        "invoice_lines WHERE true",
        "lines",
        _SUMS,
        lambda row: (
            f"invoice {row[0]}: net {_sum(row[1])} tax {_sum(row[2])}; its lines net {_sum(row[3])} tax "
            f"{_sum(row[4])}, {row[5]} of them not the sum of their own"
        ),
    ),
    (
        "each posted invoice is its transfers",
        "transfers WHERE source = 'invoice'",
        "transfers",
        _TRANSFERS,
        lambda row: f"invoice {row[0]}: {row[1]} {_sum(row[2])}, transferred {_sum(row[3])}, or between other accounts",
    ),
    (
        "totals of each run are those of its invoices",
        "bill_shard_totals",
        "totals",
        _RUNS,
        lambda row: f"run {row[0]} shard {row[1]} {row[2]}: total {_sum(row[3])}, invoices {_sum(row[4])}",
    ),
    (
        "counts of each run are those of its blocks",
        "bill_shards",
        "shards",
        _COUNTS,
        lambda row: f"run {row[0]} shard {row[1]}: {row[2]} invoices told, {row[3]} in its blocks",
    ),
    (
        "what was recorded of each order stands on its invoice once",
        "order_periods WHERE invoice_id IS NOT NULL",
        "periods",
        _PERIODS,
        lambda row: f"invoice {row[0]} order {row[1]}: recorded {_sum(row[2])}, on the invoice {_sum(row[3])}",
    ),
    (
        "each manual line stands on its invoice once",
        "manual_lines WHERE invoice_id IS NOT NULL",
        "manual lines",
        _MANUAL,
        lambda row: f"manual line {row[0]}: {_sum(row[3])} of invoice {row[1]}, {_sum(row[4])} on invoice {row[2]}",
    ),
    (
        "credit notes take off no more than was charged",
        "credit_notes",
        "credit notes",
        _CREDITS,
        lambda row: f"invoice {row[0]} line {row[1]}: charged {_sum(row[2])}, credited {_sum(row[3])}",
    ),
)


async def verify_invoices(cur: Cursor, say: Say = silent) -> list[Check]:
    """Every check of truth 8.

    Args:
        cur: aiopg cursor, in no transaction.
    """
    checks = []
    for done, (name, table, of, query, words) in enumerate(_CHECKS):
        say("checks of invoices", done, len(_CHECKS))
        column = _INVOICE_COLUMN.get(query)
        if column is not None:
            checks.append(await _by_invoice(cur, say, name, table, column, of, query, words))
            continue
        async with snapshot(cur):
            examined = await count(cur, table)
            await cur.execute(query, {"limit": MAX_LISTED})
            checks.append(listed(TRUTH, name, examined, of, await cur.fetchall(), words))
    return [*checks, await check_guards(cur, TRUTH, GUARDS), await check_steps(cur, TRUTH, STEPS)]


async def _by_invoice(
    cur: Cursor,
    say: Say,
    name: str,
    table: str,
    column: str,
    of: str,
    query: str,
    words: Callable[[Sequence[Any]], str],
) -> Check:
    """A check over slices of invoices; what belongs to none lies before the first, between two, or after the last."""
    bounds = [last async for _, last in slices(cur, "invoices", say=say)][:-1]
    checks: list[Check] = []
    for after, last in pairwise([-1, *bounds, 2**63 - 1]):
        say(of, sum(check.examined for check in checks), None)
        async with snapshot(cur):
            examined = await count(cur, f"{table} AND {column} > {after} AND {column} <= {last}")
            await cur.execute(query, {"after": after, "last": last, "limit": MAX_LISTED})
            checks.append(listed(TRUTH, name, examined, of, await cur.fetchall(), words))
    return together(checks)
