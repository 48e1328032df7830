"""Lines of what is due in a shard, each kind from columns of all periods at once.

Rules. Lines are made in this order: recurring charges, usage, percentages of both, adjustments of what was billed in
advance, minimums, and what late usage makes of periods that were billed. A recurring line is flat x quantity x share,
rounded to the micro and then once to the minor unit.

Does not know: invoices, payers.
"""

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from billing.catalogue.tables import NO_ROW
from billing.charging.amounts import Cause, Drafts, Unrounded, amounts_of, joined
from billing.charging.due import Due, Flags, Periods, shares_of
from billing.charging.late import late_lines
from billing.charging.records import (
    ADJUSTED,
    ADJUSTMENT,
    ADVANCE,
    ARREARS,
    BILLED,
    MINIMUM,
    NONE,
    ONCE,
    ONE_TIME,
    PERCENTAGE,
    RECURRING,
    ShardInput,
)
from billing.charging.tariffs import ChargeTable, Tariffs, charge_tables_of
from billing.charging.usage import usage_lines
from billing.charging.work import Work
from ratingcore import tariff as core
from ratingcore.arrays import Indices, Ints
from ratingcore.lines import Sums, add_events, new_sums
from ratingcore.money import MAX_MINOR
from ratingcore.rate import close_lines, make_events, make_lines, new_accumulators, rate_events
from ratingcore.rounding import MICRO_PER_MINOR, divide
from ratingcore.shares import share_amounts

#: Place of a minimum: behind every item of a plan.
_LAST_PLACE: Final = 2**15 - 1
#: An order's own price in micro is an event's amount at most (ratingcore.tariff.MAX_EVENT_MICRO).
_LARGEST_OWN: Final = core.MAX_EVENT_MICRO // MICRO_PER_MINOR


def add_lines(work: Work) -> None:
    """Make every line of the shard's periods, and say of which there can be none."""
    _add_recurring(work)
    _add_usage(work)
    _add_once(work)
    _add_percentages(work)
    _add_adjustments(work)
    _add_minimums(work)
    _add_late(work)


# ---- lines of periods


def _charged(work: Work) -> Flags:
    """Periods in which recurring items are charged: those with a share of the part that has them."""
    periods, terms = work.due.periods, work.tariffs.terms
    ahead = terms.in_advance[work.shard.orders.terms_id[periods.order]]
    charged: Flags = (periods.num > 0) & ((periods.part != ARREARS) | ~ahead)
    return charged


def _add_recurring(work: Work) -> None:
    periods, orders, table, charge_table = work.due.periods, work.shard.orders, work.table, work.charge_tables.recurring
    charged = np.flatnonzero(_charged(work))
    rows, entry = charge_table.expand(periods.charge_set[charged])
    period = charged[rows]
    order = periods.order[period]
    version, reject = table.versions_at(charge_table.row[entry], periods.from_s[period])
    own = orders.price_minor[order]
    by_hand = own >= 0
    flat = np.where(by_hand, np.minimum(own, _LARGEST_OWN) * MICRO_PER_MINOR, table.close_micro[version])
    reject = np.where((reject == core.Reject.OK) & ~by_hand, table.close_reject[version], reject)
    reject[own > _LARGEST_OWN] = core.Reject.OUT_OF_RANGE
    shared = share_amounts(flat, orders.quantity[order], periods.num[period], periods.den[period])
    reject[(reject == core.Reject.OK) & (shared.reject > 0)] = core.Reject.OUT_OF_RANGE
    bad = np.flatnonzero(reject != core.Reject.OK)
    work.fail_periods(period[bad], reject[bad], (charge_table.charges[one].item for one in entry[bad]))
    once = periods.part[period] == ONCE
    kind = np.where(once, ONE_TIME, RECURRING)
    good = np.flatnonzero(reject == core.Reject.OK)
    _round(work, charge_table, good, period, entry, kind, orders.quantity[order], shared.sums, version)


def _add_usage(work: Work) -> None:
    parts, causes, work.events = usage_lines(work.shard, work.tariffs, work.due, work.charge_tables.metered, work.table)
    work.causes += causes
    _keep(work, parts)


def _add_once(work: Work) -> None:
    """One-time orders on metered items: one event of so many whole units, closed at once."""
    periods, orders, charge_table = work.due.periods, work.shard.orders, work.charge_tables.metered
    once = np.flatnonzero(periods.part == ONCE)
    rows, entry = charge_table.expand(periods.charge_set[once])
    period = once[rows]
    quantity = orders.quantity[periods.order[period]] * charge_table.steps[entry]
    rated = _rate_alone(work, charge_table, period, entry, periods.from_s[period], quantity)
    _round(
        work,
        charge_table,
        rated.good,
        period,
        entry,
        np.full(len(period), ONE_TIME),
        quantity,
        rated.sums,
        rated.version,
    )


def _add_percentages(work: Work) -> None:
    """Percentages, level by level: those of percentages come after what they are taken of."""
    recurring, metered = work.charge_tables.taken_recurring, work.charge_tables.taken_metered
    periods = work.due.periods
    charged, rest = np.flatnonzero(_charged(work)), np.flatnonzero((periods.part == ARREARS) | (periods.part == ONCE))
    for level in range(1, 1 + int(max(recurring.level.max(initial=0), metered.level.max(initial=0)))):
        _take_percentages(work, recurring, charged, level, always=True)
        _take_percentages(work, metered, rest, level, always=False)


def _take_percentages(work: Work, charge_table: ChargeTable, among: Ints, level: int, always: bool) -> None:
    periods = work.due.periods
    rows, entry = charge_table.expand(periods.charge_set[among])
    here = np.flatnonzero((charge_table.level[entry] == level) & (charge_table.row[entry] != NO_ROW))
    period, entry = among[rows[here]], entry[here]
    if not len(period):
        return
    base = np.maximum(_bases(work, charge_table, period, entry), 0)
    at_s = np.where(periods.part[period] == ARREARS, periods.until_s[period] - 1, periods.from_s[period])
    rated = _rate_alone(work, charge_table, period, entry, at_s, base)
    good = rated.good
    if not always:
        sums = rated.sums
        good = good[(base[good] != 0) | (sums.whole[good] != 0) | (sums.rest[good] != 0)]
    _round(work, charge_table, good, period, entry, np.full(len(period), PERCENTAGE), base, rated.sums, rated.version)


def _bases(work: Work, charge_table: ChargeTable, period: Ints, entry: Ints) -> Ints:
    """What each percentage is taken of: the amounts of those items in its period."""
    wanted = sorted(
        {item for one in np.flatnonzero(np.bincount(entry)).tolist() for item in charge_table.charges[one].of_items}
    )
    base = np.zeros(len(period), np.int64)
    for item in wanted:
        code, amounts = work.tariffs.item_code(item), np.zeros(len(work.due.periods.order), np.int64)
        for drafts in work.drafts:
            rows = np.flatnonzero(drafts.item == code)
            np.add.at(amounts, drafts.period[rows], drafts.amount_minor[rows])
        has = np.array([item in one.of_items for one in charge_table.charges], np.bool_)
        base += np.where(has[entry], amounts[period], 0)
    return base


@dataclass(frozen=True, slots=True)
class _Alone:
    """Sums and versions of events that are rated by themselves, and the rows that could be."""

    sums: Sums
    version: Ints
    good: Ints


def _rate_alone(work: Work, charge_table: ChargeTable, period: Ints, entry: Ints, at_s: Ints, quantity: Ints) -> _Alone:
    """One event on a fresh line each, without pools, closed at its own instant."""
    table, row = work.table, charge_table.row[entry]
    sums, version = new_sums(len(row)), np.zeros(len(row), np.int64)
    reject = np.where(row == NO_ROW, core.Reject.NO_PRICE, core.Reject.OK).astype(np.uint8)
    book = np.append(table.catalogue, NONE)[row]
    for catalogue_id in np.unique(book[book != NONE]).tolist():
        there = np.flatnonzero(book == catalogue_id)
        lines = make_lines(
            work.tariffs.prices.compiled(catalogue_id), table.local[row[there]], np.zeros(len(there), int)
        )
        accumulators, line = new_accumulators(lines), np.arange(len(there))
        rated = rate_events(lines, accumulators, make_events(line, at_s[there], quantity[there]))
        closed = close_lines(lines, accumulators, line, at_s[there])
        for one in (rated, closed):
            add_events(sums, there, one.amount_micro, one.reject)
        version[there] = table.first[row[there]] + np.maximum(rated.version, 0)
        reject[there] = np.maximum(rated.reject, closed.reject)
    bad = np.flatnonzero(reject != core.Reject.OK)
    work.fail_periods(period[bad], reject[bad], (charge_table.charges[one].item for one in entry[bad]))
    return _Alone(sums, version, np.flatnonzero(reject == core.Reject.OK))


def _round(
    work: Work,
    charge_table: ChargeTable,
    good: Ints,
    period: Ints,
    entry: Ints,
    kind: Ints,
    quantity: Ints,
    sums: Sums,
    version: Ints,
) -> None:
    """Make lines of those rows: one part each."""
    entry = entry[good]
    parts = Unrounded(
        np.arange(len(good)),
        period[good],
        kind[good],
        charge_table.item[entry],
        charge_table.place[entry],
        np.zeros(len(good), np.int64),
        quantity[good],
        Sums(sums.whole[good], sums.rest[good]),
        charge_table.discounts[entry],
        version[good],
    )
    _keep(work, parts)


def _keep(work: Work, parts: Unrounded) -> None:
    drafts, causes = amounts_of(parts, work.table, work.tariffs.discounts, work.tariffs.item_names)
    work.drafts.append(drafts)
    work.causes += causes


# ---- minimums


def _add_minimums(work: Work) -> None:
    """What is missing from the minimums of orders, at the arrears part of their periods."""
    periods, orders = work.due.periods, work.shard.orders
    period = np.flatnonzero((periods.part == ARREARS) & (orders.minimum_minor[periods.order] > 0) & (periods.num > 0))
    if not len(period):
        return
    asked = orders.minimum_minor[periods.order[period]]
    # Minor units in place of micro: the quotient is the same, and below 2^63 as the minimum is.
    small = np.minimum(asked, MAX_MINOR)
    target = share_amounts(small, np.ones(len(period), np.int64), periods.num[period], periods.den[period]).sums
    billed = np.zeros(len(periods.order), np.int64)
    for drafts in work.drafts:
        np.add.at(billed, drafts.period, drafts.amount_minor)
    missing = target.whole * MICRO_PER_MINOR + target.rest - billed[period] - _advanced(work, period, billed)
    version, found = _minimum_versions(work, period)
    for one in period[(asked > MAX_MINOR)].tolist():
        work.causes.append(Cause(one, "out_of_range", "its minimum is out of range"))
    for one in period[(missing > 0) & ~found].tolist():
        work.causes.append(Cause(one, "no_price", "its minimum has no item whose tax it could take"))
    made = np.flatnonzero((missing > 0) & (missing <= MAX_MINOR) & found)
    none, one = np.zeros(len(made), np.int64), np.ones(len(made), np.int64)
    tax, inside = work.table.tax_ppm[version[made]], work.table.inside[version[made]].astype(np.int64)
    work.drafts.append(
        Drafts(period[made], none + MINIMUM, none, none + _LAST_PLACE, none, one, none, missing[made], tax, inside)
    )


def _advanced(work: Work, period: Ints, billed: Ints) -> Ints:
    """What the advance part of the same periods came to, in this run or before, and their adjustments."""
    periods, before = work.due.periods, work.shard.advances
    amounts = _trued_up(work, period, billed)
    ahead = np.maximum(period - 1, 0)  # periods are in order of (order, start, part)
    here = (periods.part[ahead] == ADVANCE) & (periods.order[ahead] == periods.order[period])
    here &= periods.start_s[ahead] == periods.start_s[period]
    amounts[here] += billed[ahead[here]]
    if not len(before.order_id):
        return amounts
    row = work.due.active.rows_of(before.order_id)
    known = {
        (one, start): amount
        for one, start, amount in zip(row.tolist(), before.start_s.tolist(), before.amount_minor.tolist(), strict=True)
    }
    for place in np.flatnonzero(~here).tolist():
        one = period[place]
        amounts[place] += known.get((int(periods.order[one]), int(periods.start_s[one])), 0)
    return amounts


def _trued_up(work: Work, period: Ints, billed: Ints) -> Ints:
    """What adjustments of this run come to for the same periods."""
    periods = work.due.periods
    key = periods.order << 37 | periods.start_s
    ups = np.flatnonzero(periods.part == ADJUSTED)
    ups = ups[np.argsort(key[ups])]
    if not len(ups):
        return np.zeros(len(period), np.int64)
    found = ups[np.minimum(np.searchsorted(key[ups], key[period]), len(ups) - 1)]
    return np.where(key[found] == key[period], billed[found], 0)


def _minimum_versions(work: Work, period: Ints) -> tuple[Ints, Flags]:
    """(the version whose tax a minimum takes, whether there is one): that of the first item with a price in force."""
    periods = work.due.periods
    entitlement, at_s = work.due.entitlement[periods.order[period]], periods.until_s[period] - 1
    version, found = np.zeros(len(period), np.int64), np.zeros(len(period), np.bool_)
    for number in np.unique(entitlement).tolist():
        for row in work.tariffs.entitlements[number].tax_rows:
            open_rows = np.flatnonzero((entitlement == number) & ~found)
            at, reject = work.table.versions_at(np.full(len(open_rows), row, np.int64), at_s[open_rows])
            good = open_rows[reject == core.Reject.OK]
            version[good], found[good] = at[reject == core.Reject.OK], True
    return version, found


# ---- adjustments


def _add_adjustments(work: Work) -> None:
    """Adjust what was billed in advance to the share it turned out to be; each record is a period of its own."""
    orders, ups = work.shard.orders, work.shard.adjustments
    row = work.due.active.rows_of(ups.order_id)
    known = np.flatnonzero(row != NONE)
    known = known[~_in_arrears(work, row[known], ups.item[known])]
    over = np.minimum(ups.end_s[known], orders.ends_s[row[known]]) <= work.due.bound_s[row[known]]
    line = known[over]
    if not len(line):
        return
    order = row[line]
    num, den, _ = shares_of(orders, work.tariffs, work.due.active, order, ups.start_s[line], ups.end_s[line])
    # Shares are below 2^30 on either side.
    other = num * ups.den[line] != ups.num[line] * den
    line, order, num, den = line[other], order[other], num[other], den[other]
    if not len(line):
        return
    begins = np.append(True, (np.diff(order) != 0) | (np.diff(ups.start_s[line]) != 0))
    period = len(work.due.periods.order) + np.cumsum(begins) - 1
    firsts = np.flatnonzero(begins)
    _append_periods(work, order[firsts], ups.start_s[line[firsts]], ups.end_s[line[firsts]], num[firsts], den[firsts])
    columns = (ups.amount_minor[line], ups.credited_minor[line], num, den, ups.num[line], ups.den[line])
    amounts = [_adjustment(*one) for one in zip(*(column.tolist() for column in columns), strict=True)]
    for one, amount in zip(period.tolist(), amounts, strict=True):
        if abs(amount) > MAX_MINOR:
            work.causes.append(Cause(one, "out_of_range", "its adjustment is out of range"))
    bounded = np.array([amount if abs(amount) <= MAX_MINOR else 0 for amount in amounts], np.int64)
    codes = np.array([work.tariffs.item_code(item) for item in work.shard.items], np.int64)
    none = np.zeros(len(line), np.int64)
    place = np.arange(len(line)) - firsts[np.cumsum(begins) - 1]
    quantity = orders.quantity[order]
    item, tax, inside = codes[ups.item[line]], ups.tax_ppm[line], ups.inside[line].astype(np.int64)
    work.drafts.append(Drafts(period, none + ADJUSTMENT, item, place, none, quantity, none, bounded, tax, inside))


def _in_arrears(work: Work, order: Ints, item: Indices) -> Flags:
    """Which lines are percentages of metered items: they are of the arrears part, though on the same invoice."""
    found, entitlement = np.zeros(len(item), np.bool_), work.due.entitlement[order]
    for number in np.unique(entitlement).tolist():
        taken = {one.item for one in work.tariffs.entitlements[number].charges if one.level and not one.recurring}
        codes = [code for code, name in enumerate(work.shard.items) if name in taken]
        found |= (entitlement == number) & np.isin(item, codes)
    return found


def _adjustment(billed: int, credited: int, num: int, den: int, billed_num: int, billed_den: int) -> int:
    """What the share makes of a line; no more of it is given back than credit notes left."""
    amount = divide(billed * (num * billed_den - den * billed_num), den * billed_num)
    left = billed - credited
    return max(amount, -max(0, left)) if billed >= 0 else min(amount, -min(0, left))


def _append_periods(work: Work, order: Ints, start: Ints, end: Ints, num: Ints, den: Ints) -> None:
    """Adjustments as periods behind those that were due."""
    periods, orders = work.due.periods, work.shard.orders
    low = np.maximum(start, orders.starts_s[order])
    more: dict[str, Any] = {
        "order": order,
        "part": np.full(len(order), ADJUSTED, np.uint8),
        "start_s": start,
        "end_s": end,
        "from_s": low,
        "until_s": np.maximum(low, np.minimum(end, orders.ends_s[order])),
        "number": np.zeros(len(order), np.int64),
        "num": num,
        "den": den,
        "reason": np.full(len(order), BILLED, np.uint8),
        "charge_set": np.full(len(order), NONE, np.int64),
    }
    longer = {name: np.concatenate([getattr(periods, name), column]) for name, column in more.items()}
    work.due = replace(work.due, periods=replace(periods, **longer))


# ---- late usage


def _add_late(work: Work) -> None:
    """What usage that came late makes of periods that were billed; each is a period of its own."""
    if not len(work.shard.late.order):
        return
    late = late_lines(work.shard, work.tariffs, work.due, _arrears_of)
    periods, behind = work.due.periods, len(work.due.periods.order)
    names = Periods.__dataclass_fields__
    longer = Periods(*(np.concatenate([getattr(periods, name), getattr(late.periods, name)]) for name in names))
    work.due = replace(work.due, periods=longer)
    work.drafts.append(replace(late.drafts, period=late.drafts.period + behind))
    work.causes += [replace(one, period=one.period + behind) for one in late.causes]
    work.events += late.events


def _arrears_of(shard: ShardInput, tariffs: Tariffs, due: Due) -> tuple[Drafts, list[Cause], int]:
    """Lines of periods in arrears, all of them or as far as some usage goes."""
    work = Work(shard, tariffs, due, charge_tables_of(tariffs, due.charge_sets), tariffs.prices.table())
    _add_recurring(work)
    _add_usage(work)
    _add_percentages(work)
    _add_minimums(work)
    return joined(work.drafts), work.causes, work.events
