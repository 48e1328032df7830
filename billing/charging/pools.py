"""Pools of a period: which orders share one, what of it there is at which instant, and the usage this needs.

Rules. Orders of one account with the very same period share its pools, whichever of them is billed first: those that
are billed in another run, or were billed in one, are rated *beside* the ones that are due, and not billed. At every
instant a pool holds what the orders that live then grant, less what was drawn since the period began, and never less
than nothing. So a plan that takes the place of another in the middle of a period goes on with what the other left.

An account with one order that has pools costs nothing here.

Does not know: prices, what an event draws.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from billing.calendar import HORIZON_END_S, HORIZON_START_S, boundaries
from billing.charging.due import Due, Flags, Periods, baskets_of, codes_of
from billing.charging.records import ARREARS, BILLED, Orders, ShardInput, Windows
from billing.charging.tariffs import Tariffs
from ratingcore import tariff as core
from ratingcore.arrays import Ints
from ratingcore.rate import Accumulators, Events, Lines, RatedColumns, rate_events

#: Instants are below 2^36.
_INSTANT_BITS: Final = 36
_INSTANTS: Final = (1 << _INSTANT_BITS) - 1


def with_neighbours(due: Due, shard: ShardInput, tariffs: Tariffs) -> Due:
    """The same, with the periods that share pools with those that are due."""
    beside = _neighbours(due, shard, tariffs)
    if not len(beside.order):
        return replace(due, beside=beside)
    periods, count = due.periods, len(due.periods.order)
    order, from_s, number = (
        np.concatenate([getattr(periods, name), getattr(beside, name)]) for name in ("order", "from_s", "number")
    )
    charge_sets, charge_set = baskets_of(shard, tariffs, due.entitlement, order, from_s, number)
    periods, beside = replace(periods, charge_set=charge_set[:count]), replace(beside, charge_set=charge_set[count:])
    return replace(due, periods=periods, charge_sets=charge_sets, beside=beside)


def periods_at(orders: Orders, tariffs: Tariffs, order: Ints, at_s: Ints) -> tuple[Ints, Ints, Ints]:
    """(start, end, number) of the periods of these recurring orders in which these instants lie."""
    start, end, number = (np.zeros(len(order), np.int64) for _ in range(3))
    cadence = tariffs.terms.cadence[orders.terms_id[order]]
    for one in np.unique(cadence).tolist():
        rows = np.flatnonzero(cadence == one)
        starts = boundaries(tariffs.cadences[one], HORIZON_START_S, HORIZON_END_S)
        place = np.clip(starts.searchsorted(at_s[rows], side="right") - 1, 0, len(starts) - 2)
        first = starts.searchsorted(orders.starts_s[order[rows]], side="right") - 1
        start[rows], end[rows], number[rows] = starts[place], starts[place + 1], place - first + 1
    return start, end, number


def pooled_orders(due: Due, shard: ShardInput, tariffs: Tariffs) -> Flags:
    """Recurring orders that draw on pools of their catalogue, or fill them."""
    orders = shard.orders
    matters = np.array(
        [
            bool(one.has_metered or one.grants) and bool(_pools_in(tariffs, one.offer.catalogue_id))
            for one in tariffs.entitlements
        ]
        or [False]
    )
    pooled: Flags = matters[due.entitlement] & ~tariffs.terms.once[orders.terms_id]
    return pooled & (orders.starts_s >= HORIZON_START_S) & (orders.starts_s < HORIZON_END_S)


def _pools_in(tariffs: Tariffs, catalogue_id: int) -> int:
    catalogue = tariffs.catalogues.get(catalogue_id)
    return len(catalogue.pools) if catalogue is not None else 0


def _neighbours(due: Due, shard: ShardInput, tariffs: Tariffs) -> Periods:
    periods, orders = due.periods, shard.orders
    none = Periods(*(getattr(periods, name)[:0] for name in Periods.__dataclass_fields__))
    pooled = pooled_orders(due, shard, tariffs)
    mine = np.flatnonzero((periods.part == ARREARS) & (periods.until_s > periods.from_s) & pooled[periods.order])
    if not len(mine):
        return none
    account, accounts = codes_of(orders.account_id)
    member = np.flatnonzero(pooled)
    counts = np.bincount(account[member], minlength=accounts)
    mine = mine[counts[account[periods.order[mine]]] > 1]
    if not len(mine):
        return none
    # Groups: the periods of accounts, as orders share them.
    span, spans = codes_of(periods.start_s[mine] << 29 | (periods.end_s - periods.start_s)[mine])
    group, groups = codes_of(account[periods.order[mine]] * spans + span)
    sample = np.zeros(groups, np.int64)
    sample[group] = mine
    last = np.zeros(groups, np.int64)
    np.maximum.at(last, group, periods.until_s[mine])
    of = account[periods.order[sample]]
    open_groups = np.flatnonzero(np.bincount(group, minlength=groups) < counts[of])
    # Every order of the account beside every such group.
    member = member[np.argsort(account[member], kind="stable")]
    begins = np.searchsorted(account[member], of[open_groups])
    several = counts[of[open_groups]]
    which = np.repeat(open_groups, several)
    order = member[np.arange(len(which)) + np.repeat(begins - (np.cumsum(several) - several), several)]
    start, end = periods.start_s[sample[which]], periods.end_s[sample[which]]
    lives = (orders.starts_s[order] < last[which]) & (orders.ends_s[order] > start)
    lives &= (orders.starts_s[order] < end) & (orders.ends_s[order] > orders.starts_s[order])
    lives &= ~np.isin(order * groups + which, periods.order[mine] * groups + group)
    order, start, end = order[lives], start[lives], end[lives]
    from_s = np.maximum(start, orders.starts_s[order])
    own_start, own_end, number = periods_at(
        orders, tariffs, order, (from_s + np.minimum(end, orders.ends_s[order])) // 2
    )
    same = (own_start == start) & (own_end == end)
    order, start, end, from_s, number = (one[same] for one in (order, start, end, from_s, number))
    nothing, one = np.zeros(len(order), np.int64), np.ones(len(order), np.int64)
    until_s = np.minimum(end, orders.ends_s[order])
    part, reason = np.full(len(order), ARREARS, np.uint8), np.full(len(order), BILLED, np.uint8)
    return Periods(order, part, start, end, from_s, until_s, number, nothing, one, reason, nothing)


def windows(due: Due, shard: ShardInput, tariffs: Tariffs) -> Windows:
    """The usage that is to be read, by account: service periods due in arrears of orders with metered items, and those
    that share their pools. Periods with late usage are not among them (late)."""
    periods = due.periods
    metered = np.array([one.has_metered for one in tariffs.entitlements] or [False])[due.entitlement]
    picked = np.flatnonzero((periods.part == ARREARS) & metered[periods.order] & (periods.until_s > periods.from_s))
    found = [Windows(shard.orders.account_id[periods.order[picked]], periods.from_s[picked], periods.until_s[picked])]
    beside = due.beside
    if beside is not None and len(beside.order):
        found.append(Windows(shard.orders.account_id[beside.order], beside.from_s, beside.until_s))
    return joined_windows(found)


def joined_windows(found: list[Windows]) -> Windows:
    """All of these, sorted, those of an account that meet or overlap as one."""
    account, from_s, until_s = (
        np.concatenate([getattr(one, name) for one in found]) for name in ("account_id", "from_s", "until_s")
    )
    by_account = np.lexsort((from_s, account))
    account, from_s, until_s = account[by_account], from_s[by_account], until_s[by_account]
    if not len(account):
        return Windows(account, from_s, until_s)
    # Running ends within an account: instants are below 2^40, so accounts keep apart.
    place = np.cumsum(np.diff(account, prepend=account[0]) != 0) << 40
    reached = np.maximum.accumulate(until_s + place) - place
    begins = np.ones(len(account), np.bool_)
    begins[1:] = (from_s[1:] > reached[:-1]) | (account[1:] != account[:-1])
    firsts = np.flatnonzero(begins)
    return Windows(account[firsts], from_s[firsts], np.maximum.reduceat(until_s, firsts))


# ---- what there is at which instant


@dataclass(frozen=True, slots=True)
class Grants:
    """What pools of some owners are granted as time goes on; owners whose grants never change are not among them.

    key: owner << _INSTANT_BITS | instant at which the grants change, ascending. nth: which change of its owner it is.
    granted: by (change, pool), from then on.
    """

    key: Ints
    nth: Ints
    granted: Ints

    def rounds_of(self, owner: Ints, at_s: Ints) -> Ints:
        """By event after which change of its owner it comes, 0 where there are none."""
        place = np.searchsorted(self.key, owner << _INSTANT_BITS | at_s, side="right") - 1
        known = (place >= 0) & (self.key[np.maximum(place, 0)] >> _INSTANT_BITS == owner)
        return np.where(known, self.nth[np.maximum(place, 0)], 0)


def grants_in_time(owner: Ints, owners: int, from_s: Ints, until_s: Ints, granted: Ints) -> Grants | None:
    """The changes of owners' grants; None where nothing changes.

    Args:
        owner, from_s, until_s: by service period that fills pools. granted: by (service period, pool), at most
        core.MAX_METER.
    """
    if not len(owner) or int(np.bincount(owner).max()) == 1:
        return None
    first, last = np.full(owners, np.iinfo(np.int64).max), np.zeros(owners, np.int64)
    lowest, highest = first.copy(), last.copy()
    np.minimum.at(first, owner, from_s)
    np.maximum.at(last, owner, from_s)
    np.minimum.at(lowest, owner, until_s)
    np.maximum.at(highest, owner, until_s)
    rows = np.flatnonzero(((first != last) | (lowest != highest))[owner])
    if not len(rows):
        return None
    owner, granted = owner[rows], granted[rows]
    granted = np.minimum(granted, core.MAX_METER // int(np.bincount(owner).max()))
    begin, end = owner << _INSTANT_BITS | from_s[rows], owner << _INSTANT_BITS | until_s[rows]
    key = np.unique(np.concatenate([begin, end]))
    change = np.zeros((len(key), granted.shape[1]), np.int64)
    np.add.at(change, np.searchsorted(key, begin), granted)
    np.subtract.at(change, np.searchsorted(key, end), granted)
    begins = np.flatnonzero(np.diff(key >> _INSTANT_BITS, prepend=-1))
    nth = np.arange(len(key)) - np.repeat(begins, np.diff(np.append(begins, len(key))))
    # What begins for an owner ends for him, so sums begin at nothing with the next one.
    return Grants(key, nth, np.cumsum(change, axis=0))


def rate_with_grants(
    lines: Lines, accumulators: Accumulators, events: Events, owner: Ints, grants: Grants | None
) -> RatedColumns:
    """Rate events whose owners' pools are filled as time goes on.

    Args:
        events: of each owner in the order of time. owner: by event.
    """
    if grants is None:
        return rate_events(lines, accumulators, events)
    zeros, small = np.zeros(len(owner), np.int64), np.zeros(len(owner), np.int32)
    out = RatedColumns(zeros, small, small.copy(), small.copy(), np.zeros(len(owner), np.uint8))
    turn = grants.rounds_of(owner, events.time_s)
    changed = grants.key >> _INSTANT_BITS
    width = grants.granted.shape[1]
    left = accumulators.pools[: lines.owners * width].reshape(lines.owners, width)
    drawn = np.zeros_like(left)
    for number in range(int(grants.nth.max()) + 1):
        edges = np.flatnonzero((grants.nth == number) & (changed < lines.owners))
        whose = changed[edges]
        held = np.maximum(0, grants.granted[edges] - drawn[whose])
        left[whose] = held
        rows = np.flatnonzero(turn == number)
        if len(rows):
            rated = rate_events(lines, accumulators, _some(events, rows))
            for name in RatedColumns.__dataclass_fields__:
                getattr(out, name)[rows] = getattr(rated, name)
        drawn[whose] += held - left[whose]
    return out


def _some(events: Events, rows: Ints) -> Events:
    found = (getattr(events, name) for name in Events.__dataclass_fields__)
    return Events(*(one[rows] if len(one) else one for one in found))
