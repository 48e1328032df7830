"""Orders that a prepaid balance does not bear: suspended by the transaction that posts their shard.

Rules. What a run left for its payer's balance is in bill_failures, with what it comes to. Its order is suspended for
reason `balance` from the midnight, in its zone, of the run's date or of today, the later one: so a run that is late
takes back no service that was given. `need_minor` is what must be there for the order to go on. A payment, or a lower
floor, resumes it in its own transaction (trigger of migration 0015), and the next run bills it from then on. An order
that is suspended already stays as it is; what a run bills of one that is short is not needed any more.

Payers that become short are looked at again when their rows are locked, for a payment may have come since the shard was
read. Functions take the caller's connection and do not commit.

Does not know: what was left, and why.
"""

from datetime import UTC, date, datetime
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from billing.calendar import local_midnight
from billing.database.adbc import do, rows
from billing.database.arrays import int_array
from billing.database.cursors import ColumnConnection
from ratingcore.arrays import Ints

_UNBORNE: Final = """
    SELECT f.order_id, o.payer_account_id, t.zone, f.amount_minor, extract(epoch FROM o.starts_at)::bigint,
           coalesce(extract(epoch FROM o.ends_at)::bigint, 9223372036854775807), r.bill_on,
           extract(epoch FROM now())::bigint
    FROM bill_shards s JOIN bill_runs r ON r.id = s.run_id
    JOIN bill_failures f ON f.run_id = s.run_id AND f.payer_account_id BETWEEN s.first_account_id AND s.last_account_id
    JOIN orders o ON o.id = f.order_id JOIN order_terms t ON t.id = o.terms_id AND t.kind = 'recurring'
    WHERE s.run_id = $1::int AND s.shard_no = $2::int AND f.reason = 'balance_too_low'
    ORDER BY f.order_id
"""

_SUSPEND: Final = """
    WITH made AS (
        INSERT INTO order_suspensions (order_id, from_at, reason, need_minor, actor)
        SELECT u.id, to_timestamp(u.from_s), 'balance', u.need_minor, r.actor
        FROM unnest($2::text::bigint[], $3::text::bigint[], $4::text::bigint[]) AS u (id, from_s, need_minor)
        CROSS JOIN bill_runs r
        WHERE r.id = $1::int
        ORDER BY u.id
        ON CONFLICT (order_id) WHERE until_at IS NULL DO NOTHING
        RETURNING order_id, actor
    )
    INSERT INTO order_events (order_id, event, details, actor)
    SELECT order_id, 'suspended', '{"reason": "balance"}', actor FROM made ORDER BY order_id
"""

#: Of orders that were short before: what this run billed of them is not needed any more.
_LESS_NEED: Final = """
    UPDATE order_suspensions s SET need_minor = greatest(0, s.need_minor - b.gross)
    FROM (
        SELECT l.order_id, sum(l.net_minor + l.tax_minor)::bigint AS gross
        FROM bill_shards h
        JOIN accounts a ON a.id BETWEEN h.first_account_id AND h.last_account_id AND a.balance_short
        JOIN invoices i ON i.account_id = a.id
        JOIN invoice_blocks b ON b.id = i.id >> 20 AND b.run_id = h.run_id AND b.shard_no = h.shard_no
        JOIN invoice_lines l ON l.invoice_id = i.id
        WHERE h.run_id = $1::int AND h.shard_no = $2::int
        GROUP BY l.order_id
    ) b
    WHERE s.order_id = b.order_id AND s.until_at IS NULL AND s.reason = 'balance'
"""

_LOCK: Final = "SELECT id FROM accounts WHERE id = ANY ($1::text::bigint[]) ORDER BY id FOR NO KEY UPDATE"

_MARK: Final = """
    UPDATE accounts SET balance_short = resume_borne(id, balance_minor, floor_minor, 'system:payment')
    WHERE id = ANY ($1::text::bigint[])
"""


def suspend_unborne(opened: ColumnConnection, run_id: int, shard_no: int) -> Ints:
    """Suspend the orders of which a shard left something for their balance; returns the ids of their payers."""
    do(opened, _LESS_NEED, (run_id, shard_no))
    found = rows(opened, _UNBORNE, (run_id, shard_no))
    ids, froms, needs, payers = [], [], [], set()
    for order_id, payer_id, zone, need_minor, starts_s, ends_s, bill_on, now_s in found:
        from_s = max(suspended_from(bill_on, str(zone), int(now_s)), int(starts_s))
        if from_s < int(ends_s):
            ids.append(int(order_id))
            froms.append(from_s)
            needs.append(int(need_minor))
            payers.add(int(payer_id))
    if ids:
        do(opened, _SUSPEND, (run_id, int_array(ids), int_array(froms), int_array(needs)))
    return np.array(sorted(payers), np.int64)


def suspended_from(bill_on: date, zone: str, now_s: int) -> int:
    """The later midnight of the run's date and of today in a zone, as UTC seconds.

    >>> [suspended_from(date(2026, month, 1), "UTC", 1_780_279_200) for month in (5, 6)]
    [1780272000, 1780272000]
    """
    today = datetime.fromtimestamp(now_s, UTC).astimezone(ZoneInfo(zone)).date()
    return local_midnight(max(bill_on, today), zone)


def lock_short(opened: ColumnConnection, short: Ints, charged: Ints) -> None:
    """Lock payers that are short together with those that are charged, by id, as everybody locks accounts."""
    if len(short):
        rows(opened, _LOCK, (int_array(np.union1d(short, charged).tolist()),))


def mark_short(opened: ColumnConnection, short: Ints) -> None:
    """Have payments to these payers, whose rows are locked, look at what is suspended for their balance."""
    if len(short):
        do(opened, _MARK, (int_array(short.tolist()),))
