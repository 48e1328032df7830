"""Late usage: events of periods that were billed before they came, and what they make of those periods.

Rules. Whose an event is, at which plan, price and pool, goes by the time it happened. A period that was billed in
arrears and has usage since is billed again as a part ``late``: what the whole period comes to with all that is known
now, less what it comes to with what was known when it was last billed, line by line, both by the prices of this run. So
tiers, pools, minimums and percentages come out as if the usage had come in time, and a price that was corrected since
acts on the late usage alone. What goes back of a line is at most what credit notes left of it. Periods that share pools
with it are due again as well, for what one draws the other has not. Where nothing came late, nothing of this is done.

Does not know: where events and records come from; how a period's lines are made (the caller says).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from billing.charging.amounts import Cause, Drafts
from billing.charging.due import Due, Periods, baskets_of, codes_of, failing_periods, shares_of
from billing.charging.pools import joined_windows, periods_at, pooled_orders, windows, with_neighbours
from billing.charging.records import ARREARS, KINDS, LATE, MINIMUM, LatePeriods, ShardInput, UsageEvents, Windows
from billing.charging.tariffs import Tariffs
from billing.charging.usage import orders_of_events
from ratingcore.arrays import Ints

#: Lines of periods in arrears, why some cannot be billed, and how many events were rated.
ArrearsOf = Callable[[ShardInput, Tariffs, Due], tuple[Drafts, list[Cause], int]]


@dataclass(frozen=True, slots=True)
class BilledPeriods:
    """Periods of orders that were billed in arrears, by (order_id, start_s). seen_s: as in LatePeriods."""

    order_id: Ints
    start_s: Ints
    end_s: Ints
    seen_s: Ints


@dataclass(frozen=True, slots=True)
class LateLines:
    """What late periods come to. Drafts and causes count ``periods`` from 0."""

    periods: Periods
    drafts: Drafts
    causes: list[Cause]
    events: int


def find_late(shard: ShardInput, tariffs: Tariffs, due: Due, events: UsageEvents, billed: BilledPeriods) -> LatePeriods:
    """The billed periods that these events, which came late, make something else of.

    Args:
        events: late ones of the shard's accounts, by (account_id, at_s, id).
    """
    orders = shard.orders
    event, owner = orders_of_events(replace(shard, events=events), tariffs)
    row = due.active.rows_of(billed.order_id)
    known = np.flatnonzero(row >= 0)
    row, start, end, seen = row[known], billed.start_s[known], billed.end_s[known], billed.seen_s[known]
    if not len(event) or not len(row):
        return LatePeriods()
    # Every event beside every billed period of its account: late ones are few.
    accounts = orders.account_id[row]
    by_account = np.argsort(accounts, kind="stable")
    low = np.searchsorted(accounts[by_account], events.account_id[event])
    counts = np.searchsorted(accounts[by_account], events.account_id[event], side="right") - low
    pair = np.repeat(np.arange(len(event)), counts)
    period = by_account[np.arange(len(pair)) + np.repeat(low - (np.cumsum(counts) - counts), counts)]
    at_s, whose = events.at_s[event[pair]], owner[pair]
    fresh = events.counts_at_s[event[pair]] >= seen[period]
    own = (row[period] == whose) & (start[period] <= at_s) & (at_s < end[period])
    shares = np.zeros(len(pair), np.bool_)
    pooled = pooled_orders(due, shard, tariffs)
    catalogue = np.array([one.offer.catalogue_id for one in tariffs.entitlements] or [0])[due.entitlement]
    others = np.flatnonzero(
        fresh & ~own & pooled[whose] & pooled[row[period]] & (catalogue[whose] == catalogue[row[period]])
    )
    if len(others):
        period_start, period_end, _ = periods_at(orders, tariffs, whose[others], at_s[others])
        of = period[others]
        same = (period_start == start[of]) & (period_end == end[of])
        shares[others] = same & (at_s[others] < orders.ends_s[row[of]])
    found = np.unique(period[fresh & (own | shares)])
    found = found[np.lexsort((start[found], row[found]))]
    return LatePeriods(row[found], start[found], end[found], seen[found])


def late_windows(shard: ShardInput, tariffs: Tariffs, due: Due) -> Windows:
    """The usage that late periods need, and those that share their pools."""
    if not len(shard.late.order):
        return Windows(*(np.zeros(0, np.int64) for _ in range(3)))
    return windows(_due_of(shard, tariffs, due, _periods_of(shard, tariffs, due)), shard, tariffs)


def all_windows(shard: ShardInput, tariffs: Tariffs, due: Due) -> Windows:
    """The usage that a shard needs."""
    found = windows(due, shard, tariffs)
    return joined_windows([found, late_windows(shard, tariffs, due)]) if len(shard.late.order) else found


def late_lines(shard: ShardInput, tariffs: Tariffs, due: Due, arrears_of: ArrearsOf) -> LateLines:
    """What the shard's late periods come to."""
    periods = _periods_of(shard, tariffs, due)
    every = np.arange(len(periods.order))
    drafts, causes, events = _rated(shard, tariffs, due, periods, every, arrears_of)
    found, signs = [drafts], [np.ones(len(drafts.period), np.int64)]
    for seen_s in np.unique(shard.late.seen_s).tolist():
        rows = np.flatnonzero(shard.late.seen_s == seen_s)
        before = replace(shard, events=_some_events(shard.events, np.flatnonzero(shard.events.counts_at_s < seen_s)))
        drafts, more, known = _rated(before, tariffs, due, periods, rows, arrears_of)
        found.append(drafts)
        signs.append(np.full(len(drafts.period), -1, np.int64))
        causes += more
        events -= known
    late = replace(periods, part=np.full(len(every), LATE, np.uint8))
    left = _left_of(shard, tariffs) if shard.credited else {}
    return LateLines(late, _difference(found, signs, left), causes, events)


def _left_of(shard: ShardInput, tariffs: Tariffs) -> dict[tuple[int, ...], int]:
    """What credit notes left of late periods' lines, by period, kind, item, tax and whether it is inside."""
    late = shard.late
    order_ids = shard.orders.order_id[late.order].tolist()
    periods = {key: period for period, key in enumerate(zip(order_ids, late.start_s.tolist(), strict=True))}
    return {
        (
            periods[line.order_id, line.start_s],
            KINDS.index(line.kind),
            tariffs.item_code(line.item),
            line.tax_ppm,
            int(line.inside),
        ): line.left_minor
        for line in shard.credited
    }


def _periods_of(shard: ShardInput, tariffs: Tariffs, due: Due) -> Periods:
    """Late periods as periods in arrears."""
    late, orders = shard.late, shard.orders
    from_s = np.maximum(late.start_s, orders.starts_s[late.order])
    until_s = np.maximum(from_s, np.minimum(late.end_s, orders.ends_s[late.order]))
    _, _, number = periods_at(orders, tariffs, late.order, np.maximum(from_s, (late.start_s + late.end_s) // 2))
    num, den, reason = shares_of(orders, tariffs, due.active, late.order, late.start_s, late.end_s)
    part, charge_set = np.full(len(late.order), ARREARS, np.uint8), np.zeros(len(late.order), np.int64)
    return Periods(late.order, part, late.start_s, late.end_s, from_s, until_s, number, num, den, reason, charge_set)


def _due_of(shard: ShardInput, tariffs: Tariffs, due: Due, periods: Periods) -> Due:
    """These periods as if they were what is due."""
    charge_sets, charge_set = baskets_of(shard, tariffs, due.entitlement, periods.order, periods.from_s, periods.number)
    alone = replace(
        due, periods=replace(periods, charge_set=charge_set), charge_sets=charge_sets, failures=(), beside=None
    )
    return with_neighbours(alone, shard, tariffs)


def _rated(
    shard: ShardInput, tariffs: Tariffs, due: Due, periods: Periods, rows: Ints, arrears_of: ArrearsOf
) -> tuple[Drafts, list[Cause], int]:
    """Lines of some of the periods with the shard's events, by the number of their period among all."""
    some = _due_of(
        shard, tariffs, due, Periods(*(getattr(periods, name)[rows] for name in Periods.__dataclass_fields__))
    )
    drafts, causes, events = arrears_of(shard, tariffs, some)
    in_advance = tariffs.terms.in_advance[shard.orders.terms_id]
    failing = failing_periods(tariffs, due.entitlement, some.charge_sets, some.periods, in_advance)
    causes = [*causes, *(Cause(one.period, one.reason, one.detail) for one in failing)]
    return (
        replace(drafts, period=rows[drafts.period]),
        [replace(one, period=int(rows[one.period])) for one in causes],
        events,
    )


def _some_events(events: UsageEvents, rows: Ints) -> UsageEvents:
    kept = {
        name: getattr(events, name)[rows]
        for name in UsageEvents.__dataclass_fields__
        if name not in ("items", "destination")
    }
    destination = events.destination.take(pa.array(rows)) if events.destination is not None else None
    return UsageEvents(**kept, items=events.items, destination=destination)


def _difference(drafts: list[Drafts], signs: list[Ints], left: Mapping[tuple[int, ...], int]) -> Drafts:
    """What lines come to with one sign and the other, by period, kind, item and tax; what is as it was is left out.

    Args:
        left: what at most goes back of some of them, by all these.
    """
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(one, name) for one in drafts]) for name in Drafts.__dataclass_fields__
    }
    sign = np.concatenate(signs)
    keys = np.stack([columns[name] for name in ("period", "place", "kind", "item", "tax_ppm", "inside")], axis=1)
    if not len(keys):
        return drafts[0]
    distinct, code = np.unique(keys, axis=0, return_inverse=True)
    sums: dict[str, Any] = {}
    for name in ("quantity", "discount_minor", "amount_minor"):
        sums[name] = np.zeros(len(distinct), np.int64)
        np.add.at(sums[name], code.reshape(-1), columns[name] * sign)
    kept = np.flatnonzero((sums["amount_minor"] != 0) | (sums["quantity"] != 0))
    period, place, kind, item, tax_ppm, inside = distinct[kept].T
    amount = sums["amount_minor"][kept]
    if left:
        for row, key in enumerate(zip(*(one.tolist() for one in (period, kind, item, tax_ppm, inside)), strict=True)):
            if amount[row] < 0 and key in left:
                amount[row] = max(int(amount[row]), -max(0, left[key]))
    quantity = np.where(kind == MINIMUM, 1, sums["quantity"][kept])
    line, _ = codes_of(period << 16 | place)
    nth = np.arange(len(kept)) - np.searchsorted(line, line)
    return Drafts(
        period,
        kind,
        item,
        place,
        nth,
        quantity,
        sums["discount_minor"][kept],
        amount,
        tax_ppm,
        inside,
    )
