"""What a shard needs beside what is due: settled orders, and usage that came after its period was billed.

Rules. As in billing.cycle.store. Late events are few and have an index of their own, so that asking for them where
there are none costs a look at it. Late usage goes back as far as the newest run that was done for everybody; where it
left something of a payer unbilled, further. Closed accounts get no invoice: their late usage is told by `kopeck usage
unbilled`.

Does not know: what late usage makes of a period (billing.charging.late).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import numpy as np
import pyarrow as pa

from billing.calendar import HORIZON_END_S
from billing.charging.due import Due, activity_of, entitlements_of
from billing.charging.late import BilledPeriods, all_windows, find_late
from billing.charging.pools import with_neighbours
from billing.charging.records import ARREARS, AdvanceAmounts, CreditedLate, Orders, ShardInput, Suspensions, UsageEvents
from billing.charging.tariffs import Tariffs
from billing.cycle.columns import ints, seconds
from billing.cycle.store import Claim, ReadRequest, codes_in, orders_in, read_buyers, read_payers, suspensions_in
from billing.cycle.usage_store import EVENT_COLUMNS, events_of, read_usage, wheres_of, without_void
from billing.database.adbc import columns, do, rows
from billing.database.arrays import int_array
from billing.database.cursors import ColumnConnection
from ratingcore.arrays import Ints

#: Late usage that counts before it was considered for all payers of a range, in UTC seconds.
_LATE_FROM: Final = """
    WITH last AS (
        SELECT r.id, r.usage_until FROM bill_runs r
        WHERE r.state = 'done' AND r.only_account_id IS NULL AND r.usage_until IS NOT NULL
          AND NOT EXISTS (SELECT FROM bill_shards s WHERE s.run_id = r.id AND s.state <> 'posted')
        ORDER BY r.usage_until DESC, r.id DESC LIMIT 1
    )
    SELECT extract(epoch FROM greatest(
        coalesce(late_since, '2000-01-01'),
        (SELECT usage_until FROM last
         WHERE NOT EXISTS (SELECT FROM bill_failures f
                           WHERE f.run_id >= last.id AND f.payer_account_id BETWEEN $1::bigint AND $2::bigint)),
        '2000-01-01'))::bigint
    FROM usage_open
"""

_LATE_PAYERS: Final = """
    SELECT DISTINCT b.payer_account_id
    FROM usage_events e JOIN billing_accounts b ON b.account_id = e.account_id
    JOIN accounts a ON a.id = e.account_id AND a.state <> 'closed'
    JOIN accounts p ON p.id = b.payer_account_id AND p.state <> 'closed'
    WHERE e.counts_at > e.at AND e.counts_at >= to_timestamp({from_s}) AND e.counts_at < to_timestamp({until_s})
    ORDER BY b.payer_account_id
"""

#: Of accounts that a range of payers pays for.
_LATE: Final = f"""
    WITH e AS MATERIALIZED (
        SELECT {EVENT_COLUMNS} FROM usage_events e
        WHERE e.counts_at > e.at AND e.account_id BETWEEN {{first}} AND {{last}}
          AND e.counts_at >= to_timestamp({{from_s}}) AND e.counts_at < to_timestamp({{until_s}})
        UNION ALL
        SELECT {EVENT_COLUMNS}
        FROM (SELECT account_id FROM billing_accounts
              WHERE payer_account_id BETWEEN {{first}} AND {{last}}
                AND account_id NOT BETWEEN {{first}} AND {{last}} OFFSET 0) b
        JOIN usage_events e ON e.account_id = b.account_id
        WHERE e.counts_at > e.at
          AND e.counts_at >= to_timestamp({{from_s}}) AND e.counts_at < to_timestamp({{until_s}})
    )
    SELECT {EVENT_COLUMNS}
    FROM e JOIN billing_accounts b ON b.account_id = e.account_id
    JOIN accounts a ON a.id = e.account_id AND a.state <> 'closed'
    JOIN accounts p ON p.id = b.payer_account_id AND p.state <> 'closed'
    WHERE b.payer_account_id BETWEEN {{first}} AND {{last}}
"""

#: The payer is who pays for the account today: who paid for an order when it was settled may not any more.
_SETTLED: Final = """
    SELECT o.id, o.account_id, coalesce(b.payer_account_id, o.payer_account_id) AS payer_account_id, o.terms_id,
           o.quantity, o.starts_at, o.ends_at, o.trial_until, o.minimum_minor, o.price_minor,
           array_to_json(o.codes)::text AS codes, NULL::timestamptz AS advance_done, NULL::timestamptz AS arrears_done,
           true AS once_done
    FROM orders o LEFT JOIN billing_accounts b ON b.account_id = o.account_id
    WHERE {accounts} AND o.settled_at IS NOT NULL AND o.ends_at > to_timestamp({from_s})
    ORDER BY payer_account_id, o.id
"""

_BILLED: Final = """
    SELECT p.order_id, p.period_start, p.period_end,
           max(coalesce(extract(epoch FROM r.usage_until), {never}))::bigint AS seen_s
    FROM orders o JOIN order_periods p ON p.order_id = o.id JOIN bill_runs r ON r.id = p.run_id
    WHERE o.account_id = ANY ('{accounts}'::bigint[]) AND p.part IN ('arrears', 'late')
      AND p.period_end > to_timestamp({from_s}) AND (p.outcome = 'waived' OR p.invoice_id IS NOT NULL)
    GROUP BY p.order_id, p.period_start, p.period_end
    ORDER BY p.order_id, p.period_start
"""

_SUSPENSIONS: Final = """
    SELECT order_id, from_at, until_at FROM order_suspensions
    WHERE order_id = ANY ('{orders}'::bigint[]) ORDER BY order_id, from_at
"""

_ADVANCES: Final = """
    SELECT p.order_id, p.period_start, sum(p.amount_minor)::bigint AS amount_minor
    FROM orders o JOIN order_periods p ON p.order_id = o.id AND p.part IN ('advance', 'adjustment')
    WHERE o.id = ANY ('{orders}'::bigint[]) AND o.minimum_minor > 0
    GROUP BY p.order_id, p.period_start ORDER BY p.order_id, p.period_start
"""

#: The sums of a late period's lines that credit notes took something off. A note waits for the shards of its payer.
_CREDITED: Final = """
    SELECT p.order_id, extract(epoch FROM p.period_start)::bigint, l.kind, l.item, l.tax_ppm, l.tax_inside,
           (sum(l.amount_minor) + sum(c.amount_minor))::bigint
    FROM unnest($1::text::bigint[], $2::text::bigint[]) AS w (order_id, start_s)
    JOIN order_periods p
      ON p.order_id = w.order_id AND p.part IN ('arrears', 'late') AND p.period_start = to_timestamp(w.start_s)
    JOIN invoice_lines l
      ON l.invoice_id = p.invoice_id AND l.order_id = p.order_id
     AND l.kind IN ('recurring', 'usage', 'percentage', 'minimum')
     AND l.period_start >= p.period_start AND l.period_start < p.period_end
    CROSS JOIN LATERAL (
        SELECT count(*) AS count, coalesce(sum(c.amount_minor), 0) AS amount_minor
        FROM invoices n JOIN invoice_lines c ON c.invoice_id = n.id AND c.line = l.line
        WHERE n.corrects_id = l.invoice_id) c
    GROUP BY p.order_id, p.period_start, l.kind, l.item, l.tax_ppm, l.tax_inside
    HAVING sum(c.count) > 0
"""


def late_payers(opened: ColumnConnection, until_s: int) -> Ints:
    """Who pays for accounts with usage that came late, and may not be billed yet."""
    from_s = int(rows(opened, _LATE_FROM, (-(2**62), 2**62))[0][0])
    with _by_index(opened):
        return ints(columns(opened, _LATE_PAYERS.format(from_s=from_s, until_s=until_s)), "payer_account_id")


def read_rest(
    opened: ColumnConnection, claim: Claim, wanted: ReadRequest, shard: ShardInput, tariffs: Tariffs, due: Due
) -> tuple[ShardInput, Due]:
    """The shard with its settled orders, its late periods and its usage, and what is due of it."""
    late = _read_late(opened, claim)
    billed = _read_billed(opened, late) if len(late.id) else None
    shard, due = _with_settled(opened, claim, wanted, shard, tariffs, due, late, billed)
    due = with_neighbours(due, shard, tariffs)
    if billed is not None:
        shard = replace(shard, late=find_late(shard, tariffs, due, late, billed))
        shard = _with_credited(opened, _with_advances(opened, shard))
    windows = all_windows(shard, tariffs, due)
    return replace(shard, events=read_usage(opened, claim.accounts, windows, claim.usage_until_s)), due


def _read_late(opened: ColumnConnection, claim: Claim) -> UsageEvents:
    first, last = claim.first_account_id, claim.last_account_id
    from_s = int(rows(opened, _LATE_FROM, (first, last))[0][0])
    bounds = {"first": first, "last": last, "from_s": from_s, "until_s": claim.usage_until_s}
    with _by_index(opened):
        found = columns(opened, _LATE.format_map(bounds))
    return events_of(without_void(opened, found, -(2**62), 2**62))


@contextmanager
def _by_index(opened: ColumnConnection) -> Iterator[None]:
    """For a statement inside: nobody has told the planner that few events are late."""
    do(opened, "SET LOCAL enable_seqscan = off")
    yield
    do(opened, "SET LOCAL enable_seqscan = on")


def _with_settled(
    opened: ColumnConnection,
    claim: Claim,
    wanted: ReadRequest,
    shard: ShardInput,
    tariffs: Tariffs,
    due: Due,
    late: UsageEvents,
    billed: BilledPeriods | None,
) -> tuple[ShardInput, Due]:
    """Settled orders that may own some of the usage, or share pools with what is billed, behind the others."""
    periods, orders = due.periods, shard.orders
    metered = np.array([one.has_metered for one in tariffs.entitlements] or [False])[due.entitlement]
    picked = np.flatnonzero((periods.part == ARREARS) & metered[periods.order])
    accounts = np.union1d(orders.account_id[periods.order[picked]], late.account_id)
    if not len(accounts):
        return shard, due
    since = (periods.start_s[picked], late.at_s, billed.start_s if billed is not None else late.at_s)
    starts = [int(one.min()) for one in since if len(one)]
    found = pa.concat_tables(
        columns(opened, _SETTLED.format(accounts=where, from_s=min(starts)))
        for where in wheres_of("o.account_id", accounts, claim.accounts)
    ).combine_chunks()
    found = found.filter(pa.array(np.isin(ints(found, "account_id"), accounts))).combine_chunks()
    if not found.num_rows:
        return shard, due
    codes, words = codes_in(found)
    buyer, buyers = read_buyers(opened, claim, ints(found, "account_id"), wanted)
    all_words, code_of = _merged(shard.codes, words)
    all_buyers, buyer_of = _merged(shard.buyers, buyers)
    settled = orders_in(found, code_of[codes], buyer_of[buyer])
    names = Orders.__dataclass_fields__
    joined = Orders(**{name: np.concatenate([getattr(orders, name), getattr(settled, name)]) for name in names})
    pauses = shard.suspensions
    if len(late.id):
        more = suspensions_in(columns(opened, _SUSPENSIONS.format(orders=int_array(settled.order_id.tolist()))))
        parts = (
            np.concatenate([getattr(pauses, name), getattr(more, name)]) for name in Suspensions.__dataclass_fields__
        )
        pauses = Suspensions(*parts)
    shard = replace(
        shard, orders=joined, live=len(orders.order_id), codes=all_words, buyers=all_buyers, suspensions=pauses
    )
    if not np.isin(settled.payer_account_id, shard.payers.account_id).all():
        paying = np.union1d(shard.payers.account_id, settled.payer_account_id)
        payers, currencies = read_payers(opened, claim.first_account_id, claim.last_account_id, paying)
        shard = replace(shard, payers=payers, currencies=currencies)
    bound = tariffs.bounds(shard.bill_on)[tariffs.terms.zone[joined.terms_id]]
    return shard, replace(
        due, entitlement=entitlements_of(shard, tariffs), bound_s=bound, active=activity_of(joined, shard.suspensions)
    )


def _merged(known: tuple[Any, ...], more: tuple[Any, ...]) -> tuple[tuple[Any, ...], Any]:
    """Words of both, and by place in ``more`` the place among them."""
    merged = tuple(dict.fromkeys((*known, *more)))
    places = {word: place for place, word in enumerate(merged)}
    return merged, np.array([places[word] for word in more], np.int32)


def _read_billed(opened: ColumnConnection, late: UsageEvents) -> BilledPeriods:
    accounts = int_array(np.unique(late.account_id).tolist())
    found = columns(opened, _BILLED.format(accounts=accounts, from_s=int(late.at_s.min()), never=HORIZON_END_S))
    return BilledPeriods(
        ints(found, "order_id"), seconds(found, "period_start"), seconds(found, "period_end"), ints(found, "seen_s")
    )


def _with_credited(opened: ColumnConnection, shard: ShardInput) -> ShardInput:
    """What credit notes took of the lines of late periods."""
    if not len(shard.late.order):
        return shard
    periods = (shard.orders.order_id[shard.late.order], shard.late.start_s)
    found = rows(opened, _CREDITED, tuple(int_array(column.tolist()) for column in periods))
    return replace(shard, credited=tuple(CreditedLate(*row) for row in found))


def _with_advances(opened: ColumnConnection, shard: ShardInput) -> ShardInput:
    """What was billed in advance of late periods with a minimum, beside what is known of those that are due."""
    late, orders, known = shard.late, shard.orders, shard.advances
    some = np.unique(late.order[orders.minimum_minor[late.order] > 0]) if len(late.order) else late.order
    if not len(some):
        return shard
    found = columns(opened, _ADVANCES.format(orders=int_array(orders.order_id[some].tolist())))
    more = AdvanceAmounts(ints(found, "order_id"), seconds(found, "period_start"), ints(found, "amount_minor"))
    joined = (
        np.concatenate([getattr(known, name), getattr(more, name)]) for name in AdvanceAmounts.__dataclass_fields__
    )
    return replace(shard, advances=AdvanceAmounts(*joined))
