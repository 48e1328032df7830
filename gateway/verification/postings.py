"""Money by hand on a live database: requests, their postings, receipts, and payments of which something was taken off.

Rules. A check is one statement, so one snapshot, and goes by an index: what is by hand is few among many. PostgreSQL
does the adding, and only rows that differ come back.
Postings older than requests (opening balances, imports) have no request: only steps that requests write are looked at.

Does not know: how money by hand is asked for, how a report is printed.
"""

from collections.abc import Sequence
from typing import Any, Final

from billing.database.cursors import Cursor
from billing.verification.ledger import Guard, check_guards, count
from billing.verification.records import MAX_LISTED, Check, listed
from ratingcore.money import format_minor

GUARDS: Final = (Guard("posting_requests", ("DELETE", "TRUNCATE"), ("DELETE", "TRUNCATE")),)

_STEPS: Final = "('cash', 'bank', 'correction', 'write_off', 'move', 'refund', 'payout')"
_TAKES: Final = "('move', 'refund')"

#: What a posted request must have in the ledger: one transfer with its sum, its account on the right side, and a system
#: account of the right kind on the other; or, without a posting, the reversal of its payment.
_REQUESTS: Final = """
    WITH sides AS (
        SELECT r.*, r.kind IN ('cash', 'bank', 'write_off') OR (r.kind = 'correction' AND r.amount_minor > 0) AS brings,
               CASE WHEN r.way = 'partner' THEN 'clearing' WHEN r.way <> '' THEN r.way
                    WHEN r.kind = 'correction' THEN 'adjustment' WHEN r.kind <> 'move' THEN r.kind END AS other_kind
        FROM posting_requests r WHERE r.state = 'posted'
    )
    SELECT r.id, r.kind, r.amount_minor, t.id, count(*) OVER ()
    FROM sides r
    LEFT JOIN transfers t ON t.source = 'manual' AND t.source_id = r.posting_id AND t.step = r.kind
    LEFT JOIN accounts o ON o.id = CASE WHEN r.brings THEN t.debit_account_id ELSE t.credit_account_id END
    WHERE CASE WHEN r.posting_id IS NULL THEN NOT EXISTS (
                   SELECT FROM transfers p JOIN transfers v ON v.source = 'payment' AND v.source_id = p.source_id
                   WHERE p.id = r.receipt_id AND p.source = 'payment' AND v.step = 'reverse'
                     AND v.amount_minor = r.amount_minor)
               ELSE t.id IS NULL OR t.amount_minor <> abs(r.amount_minor) OR t.currency <> r.currency
                    OR t.corrects_id IS DISTINCT FROM r.receipt_id
                    OR r.account_id <> CASE WHEN r.brings THEN t.credit_account_id ELSE t.debit_account_id END
                    OR o.id <> coalesce(r.to_account_id, o.id) OR o.kind <> coalesce(r.other_kind, o.kind)
          END
    ORDER BY r.id LIMIT %(limit)s
"""

_UNASKED: Final = f"""
    SELECT t.id, t.source_id, t.step, t.amount_minor, count(*) OVER () FROM transfers t
    WHERE t.source = 'manual' AND t.step IN {_STEPS}
      AND NOT EXISTS (SELECT FROM posting_requests r WHERE r.posting_id = t.source_id AND r.state = 'posted')
    ORDER BY t.id LIMIT %(limit)s
"""

_RECEIPTS: Final = f"""
    WITH taken AS (
        SELECT corrects_id, sum(amount_minor) AS taken FROM transfers
        WHERE corrects_id IS NOT NULL AND source = 'manual' AND step IN {_TAKES} GROUP BY corrects_id
    ), directed AS (
        SELECT CASE WHEN p.amount_minor > 0 THEN t.id ELSE t.corrects_id END AS id, sum(p.amount_minor) AS directed
        FROM payment_allocations p JOIN transfers t ON t.id = p.transfer_id GROUP BY 1
    )
    SELECT t.id, t.amount_minor, coalesce(k.taken, 0)::bigint, coalesce(d.directed, 0)::bigint, count(*) OVER ()
    FROM taken k FULL JOIN directed d ON d.id = k.corrects_id
    JOIN transfers t ON t.id = coalesce(k.corrects_id, d.id)
    WHERE coalesce(k.taken, 0) + coalesce(d.directed, 0) > t.amount_minor
    ORDER BY t.id LIMIT %(limit)s
"""

_RETURNED: Final = f"""
    WITH taken AS (
        SELECT t.source_id AS id, sum(r.amount_minor) AS taken, count(*) AS returns
        FROM transfers r JOIN transfers t ON t.id = r.corrects_id AND t.source = 'payment'
        WHERE r.source = 'manual' AND r.step IN {_TAKES} GROUP BY t.source_id
    )
    SELECT p.id, p.returned_minor, coalesce(k.taken, 0)::bigint, e.events, coalesce(k.returns, 0), count(*) OVER ()
    FROM (SELECT id FROM taken UNION SELECT id FROM payments WHERE returned_minor > 0) w
    JOIN payments p USING (id)
    LEFT JOIN taken k USING (id)
    CROSS JOIN LATERAL (
        SELECT count(*) AS events FROM payment_events e WHERE e.payment_id = p.id AND e.event IN {_TAKES}
    ) e
    WHERE p.returned_minor <> coalesce(k.taken, 0) OR e.events <> coalesce(k.returns, 0)
    ORDER BY p.id LIMIT %(limit)s
"""


async def verify_postings(cur: Cursor) -> list[Check]:
    """Every check of money by hand.

    Args:
        cur: aiopg cursor in no transaction, or in one that only reads.
    """
    requests = await count(cur, "posting_requests")
    by_hand = await count(cur, f"transfers WHERE source = 'manual' AND step IN {_STEPS}")
    receipts = await count(cur, f"transfers WHERE source = 'manual' AND step IN {_TAKES}")
    receipts += await count(cur, "payment_allocations")
    payments = await count(cur, "payments WHERE returned_minor > 0")
    return [
        await _look(cur, 2, "each posted request has its one transfer", requests, "requests", _REQUESTS),
        await _look(cur, 2, "each transfer by hand was asked for", by_hand, "transfers", _UNASKED),
        await _look(cur, 2, "no receipt gives more than it brought", receipts, "receipts", _RECEIPTS),
        await _look(cur, 3, "what was taken off a payment is told by it", payments, "payments", _RETURNED),
        await check_guards(cur, 2, GUARDS),
    ]


async def _look(cur: Cursor, truth: int, name: str, examined: int, of: str, sql: str) -> Check:
    await cur.execute(sql, {"limit": MAX_LISTED})
    return listed(truth, name, examined, of, await cur.fetchall(), _WORDS[sql])


def _request_fault(row: Sequence[Any]) -> str:
    transfer = f"transfer {row[3]} differs from it" if row[3] else "it has no transfer"
    return f"request {row[0]} ({row[1]} of {format_minor(row[2])}) is posted: {transfer}"


def _receipt_fault(row: Sequence[Any]) -> str:
    taken, directed = format_minor(row[2]), format_minor(row[3])
    return f"transfer {row[0]} brought {format_minor(row[1])}: {taken} were taken off and {directed} are directed"


def _payment_fault(row: Sequence[Any]) -> str:
    return (
        f"payment {row[0]} says {format_minor(row[1])} in {row[3]} events, "
        f"{format_minor(row[2])} in {row[4]} transfers were taken off"
    )


_WORDS: Final = {
    _REQUESTS: _request_fault,
    _UNASKED: lambda row: (
        f"transfer {row[0]} (manual {row[1]} {row[2]}, {format_minor(row[3])}): no request asked for it"
    ),
    _RECEIPTS: _receipt_fault,
    _RETURNED: _payment_fault,
}
