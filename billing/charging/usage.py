"""Usage in a shard of the billing cycle: whose event is whose, and what it comes to, by the kernel.

Rules. An event belongs to the account's lowest recurring order that has its item and whose life covers the time it
happened; that depends neither on what is due nor on when it came. It is billed in the arrears period of that order
whose service period covers that time, if the item is metered there; else it is passed over. Events are rated at their
own time, in order of (at, id) over the whole account, for pools are shared by all its lines of one period
(pools). A line closes one second before its service period ends. Quantities are steps of the item's unit exactly,
or the order cannot be billed.

Does not know: promotions but for free units in prices, rounding, recurring charges.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from billing.catalogue.model import plan_items
from billing.catalogue.tables import NO_ROW
from billing.charging.amounts import MAX_QUANTITY, Cause, Unrounded
from billing.charging.due import Due, Periods, codes_of
from billing.charging.pools import Grants, grants_in_time, rate_with_grants
from billing.charging.prices import RowTable
from billing.charging.records import ARREARS, NONE, USAGE, ShardInput, UsageEvents
from billing.charging.tariffs import ChargeTable, Tariffs, reject_reason
from billing.usage.ratable import number_keys
from ratingcore import tariff as core
from ratingcore.arrays import Ints
from ratingcore.lines import Sums, add_events, new_sums
from ratingcore.rate import Accumulators, Lines, close_lines, make_events, make_lines, new_accumulators
from ratingcore.rounding import MICRO_PER_MINOR

_LARGEST_WHOLE: Final = MAX_QUANTITY // MICRO_PER_MINOR


@dataclass(frozen=True, slots=True)
class Slots:
    """Lines of usage to be, by period and place. entry: index into the metered charge table; row: of the price, or
    NO_ROW."""

    period: Ints
    entry: Ints
    row: Ints


@dataclass(frozen=True, slots=True)
class Metered:
    """Events that are billed: row among the shard's, period, entry of the metered charge table, slot, quantity in
    steps."""

    event: Ints
    period: Ints
    entry: Ints
    slot: Ints
    quantity: Ints


@dataclass(frozen=True, slots=True)
class Tally:
    """What slots come to, by part: those of a slot begin at ``first``, one for each tax and rounding of its price.

    seen: the first event of each part, where prices come back to an earlier tax (else parts are in order anyway).
    """

    first: Ints
    seen: Ints
    sums: Sums
    quantities: Sums


def usage_lines(
    shard: ShardInput, tariffs: Tariffs, due: Due, charge_table: ChargeTable, table: RowTable
) -> tuple[Unrounded, list[Cause], int]:
    """(parts of lines, why periods cannot be billed, how many events were billed).

    Periods beside those that are due are rated along, for pools they share, and left out of all that is told.
    """
    billed = len(due.periods.order)
    due = _with_beside(due)
    event, period = _service_periods(shard, due, *orders_of_events(shard, tariffs))
    entry = _entries_of(shard, tariffs, due, charge_table, event, period)
    kept = np.flatnonzero(entry != NONE)
    event, period, entry = event[kept], period[kept], entry[kept]
    slots, slot = _slots_of(due, charge_table, table, period, entry)
    micro, divisor = shard.events.quantity_micro[event], charge_table.divisor[entry]
    quantity = micro // divisor
    used = Metered(event, period, entry, slot, quantity)
    priced = charge_table.row[entry] != NO_ROW
    whole = quantity * divisor == micro
    causes = _causes(shard, charge_table, used, np.flatnonzero(~priced), "no_price", "has no price for this buyer")
    causes += _causes(
        shard, charge_table, used, np.flatnonzero(priced & ~whole), "bad_quantity", "is in no whole steps"
    )
    groups = np.append(table.groups, 0)[slots.row]
    parts = int(groups.sum())
    seen = np.full(parts, len(event), np.int64)
    tally = Tally(np.cumsum(groups) - groups, seen, new_sums(parts), new_sums(parts))
    book = np.append(table.catalogue, NONE)[slots.row]
    ratable = priced & whole
    for catalogue_id in np.unique(book[book != NONE]).tolist():
        mine = np.flatnonzero(ratable & (book[slot] == catalogue_id))
        there = np.flatnonzero(book == catalogue_id)
        causes += _rate(shard, tariffs, due, charge_table, table, catalogue_id, slots, there, used, mine, tally)
    parts_of_lines = _unrounded(charge_table, table, slots, groups, tally, causes)
    if len(due.periods.order) > billed:
        kept = np.flatnonzero(parts_of_lines.period < billed)
        parts_of_lines = _some_parts(parts_of_lines, kept)
        causes = [one for one in causes if one.period < billed]
    return parts_of_lines, causes, int(np.count_nonzero(period < billed))


def _with_beside(due: Due) -> Due:
    """The periods beside those that are due, as periods behind them."""
    beside = due.beside
    if beside is None or not len(beside.order):
        return due
    names = Periods.__dataclass_fields__
    return replace(
        due, periods=Periods(*(np.concatenate([getattr(due.periods, name), getattr(beside, name)]) for name in names))
    )


def _some_parts(parts: Unrounded, rows: Ints) -> Unrounded:
    kept = {name: getattr(parts, name)[rows] for name in Unrounded.__dataclass_fields__ if name != "sums"}
    return Unrounded(**kept, sums=Sums(parts.sums.whole[rows], parts.sums.rest[rows]))


# ---- whose event


@dataclass(frozen=True, slots=True)
class _Owners:
    """Recurring orders by account and id, settled ones too. row: of Orders."""

    account: Ints
    offer: Ints
    starts_s: Ints
    ends_s: Ints
    row: Ints


def _owners_of(shard: ShardInput, tariffs: Tariffs) -> _Owners:
    orders, terms = shard.orders, tariffs.terms
    row = np.flatnonzero(~terms.once[orders.terms_id])
    account, number = orders.account_id[row], orders.order_id[row]
    later = (account[1:] > account[:-1]) | ((account[1:] == account[:-1]) & (number[1:] > number[:-1]))
    if not later.all():
        row = row[np.lexsort((number, account))]
    offer = terms.offer[orders.terms_id[row]]
    return _Owners(orders.account_id[row], offer, orders.starts_s[row], orders.ends_s[row], row)


def orders_of_events(shard: ShardInput, tariffs: Tariffs) -> tuple[Ints, Ints]:
    """(row of the event, row of the order it belongs to) of events that belong to an order."""
    owners, events = _owners_of(shard, tariffs), shard.events
    if not len(events.id) or not len(owners.account):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    has = _items_by_offer(tariffs, events.items)
    firsts = np.flatnonzero(np.diff(owners.account, prepend=-1))
    ends = np.append(firsts[1:], len(owners.account))
    accounts = owners.account[firsts]
    low = np.searchsorted(events.account_id, accounts)
    counts = np.searchsorted(events.account_id, accounts, side="right") - low
    # Events of accounts without orders lie between the others and are passed over.
    event = np.arange(counts.sum()) + np.repeat(low - (np.cumsum(counts) - counts), counts)
    owner, end = np.repeat(firsts, counts), np.repeat(ends, counts)
    found: list[tuple[Ints, Ints]] = []
    while len(event):
        at_s = events.at_s[event]
        covers = (
            has[owners.offer[owner], events.item[event]]
            & (owners.starts_s[owner] <= at_s)
            & (at_s < owners.ends_s[owner])
        )
        found.append((event[covers], owners.row[owner[covers]]))
        left = np.flatnonzero(~covers & (owner + 1 < end))
        event, owner, end = event[left], owner[left] + 1, end[left]
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    event, row = (np.concatenate(columns) for columns in zip(*found, strict=True))
    return event, row


def _items_by_offer(tariffs: Tariffs, items: tuple[str, ...]) -> NDArray[np.bool_]:
    """Which offers have which items, whatever the price."""
    has = np.zeros((len(tariffs.offers), len(items)), np.bool_)
    for number, offer in enumerate(tariffs.offers):
        catalogue = tariffs.catalogues.get(offer.catalogue_id)
        known = catalogue is not None and offer.plan in catalogue.plans
        listed = plan_items(catalogue, offer.plan) if catalogue is not None and known else (offer.item,)
        has[number] = [item in listed for item in items]
    return has


def _service_periods(shard: ShardInput, due: Due, event: Ints, row: Ints) -> tuple[Ints, Ints]:
    """The arrears period of its order in which an event happened; those without are left out. Events in their order."""
    arrears = np.flatnonzero(due.periods.part == ARREARS)
    if due.beside is not None and len(due.beside.order):
        arrears = arrears[np.lexsort((due.periods.start_s[arrears], due.periods.order[arrears]))]
    counts = np.bincount(due.periods.order[arrears], minlength=len(shard.orders.order_id))
    ends = np.cumsum(counts)
    nth, end = (ends - counts)[row], ends[row]
    found: list[tuple[Ints, Ints]] = []
    live = np.flatnonzero(nth < end)
    event, nth, end = event[live], nth[live], end[live]
    while len(event):
        period = arrears[nth]
        at = shard.events.at_s[event]
        within = (due.periods.from_s[period] <= at) & (at < due.periods.until_s[period])
        found.append((event[within], period[within]))
        left = np.flatnonzero(~within & (nth + 1 < end))
        event, nth, end = event[left], nth[left] + 1, end[left]
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    event, period = (np.concatenate(columns) for columns in zip(*found, strict=True))
    by_event = np.argsort(event, kind="stable")  # a few runs in order: quick to merge
    return event[by_event], period[by_event]


def _entries_of(
    shard: ShardInput, tariffs: Tariffs, due: Due, charge_table: ChargeTable, event: Ints, period: Ints
) -> Ints:
    """Which of its charge set's metered items an event is of, as index into the charge table; NONE where it is not
    metered."""
    places = np.full((len(due.charge_sets), max(1, len(shard.events.items))), NONE, np.int64)
    codes = {tariffs.item_code(item): number for number, item in enumerate(shard.events.items)}
    charge_sets, entries = charge_table.expand(np.arange(len(due.charge_sets)))
    for charge_set, entry in zip(charge_sets.tolist(), entries.tolist(), strict=True):
        number = codes.get(int(charge_table.item[entry]))
        if number is not None:
            places[charge_set, number] = entry
    return places[due.periods.charge_set[period], shard.events.item[event]]


def _slots_of(due: Due, charge_table: ChargeTable, table: RowTable, period: Ints, entry: Ints) -> tuple[Slots, Ints]:
    """(slots that have events or must be closed, the slot of each event)."""
    width = max(1, int(np.diff(charge_table.first).max(initial=0)))
    charge_set = due.periods.charge_set
    arrears = np.flatnonzero(due.periods.part == ARREARS)
    rows, entries = charge_table.expand(charge_set[arrears])
    closes = np.append(table.needs_close, False)[charge_table.row[entries]]
    rows, entries = rows[closes], entries[closes]
    live = np.zeros(len(charge_set) * width, np.bool_)
    live[arrears[rows] * width + entries - charge_table.first[charge_set[arrears[rows]]]] = True
    key = period * width + entry - charge_table.first[charge_set[period]]
    live[key] = True
    dense = np.flatnonzero(live)
    number = np.cumsum(live) - 1
    periods = dense // width
    found = charge_table.first[charge_set[periods]] + dense % width
    return Slots(periods, found, charge_table.row[found]), number[key]


# ---- what it comes to


def _rate(
    shard: ShardInput,
    tariffs: Tariffs,
    due: Due,
    charge_table: ChargeTable,
    table: RowTable,
    catalogue_id: int,
    slots: Slots,
    there: Ints,
    used: Metered,
    mine: Ints,
    tally: Tally,
) -> list[Cause]:
    """Rate the slots ``there`` and their events ``mine`` under one catalogue, into the tally."""
    owner, pools, grants = _pools_of(shard, tariffs, due, catalogue_id, slots.period[there])
    lines = make_lines(tariffs.prices.compiled(catalogue_id), table.local[slots.row[there]], owner)
    accumulators = new_accumulators(lines, pools)
    line_of = np.full(len(slots.period), NONE, np.int64)
    line_of[there] = np.arange(len(there))
    events, event, slot = shard.events, used.event[mine], used.slot[mine]
    columns = make_events(
        line_of[slot],
        events.at_s[event],
        used.quantity[mine],
        events.duration_s[event],
        number_keys(events.destination, event),
    )
    rated = rate_with_grants(lines, accumulators, columns, owner[line_of[slot]], grants)
    part = _part_of(table, slots, tally, slot, rated.version)
    add_events(tally.sums, part, rated.amount_micro, rated.reject)
    add_events(tally.quantities, part, used.quantity[mine], rated.reject)
    if table.returns:
        np.minimum.at(tally.seen, part, mine)
    causes = []
    for reject in np.unique(rated.reject[rated.reject != core.Reject.OK]).tolist():
        rows = mine[np.flatnonzero(rated.reject == reject)]
        causes += _causes(
            shard, charge_table, used, rows, reject_reason(reject), f"cannot be rated: {reject_words(reject)}"
        )
    return causes + _close(due, charge_table, table, slots, there, lines, accumulators, tally)


def _close(
    due: Due,
    charge_table: ChargeTable,
    table: RowTable,
    slots: Slots,
    there: Ints,
    lines: Lines,
    accumulators: Accumulators,
    tally: Tally,
) -> list[Cause]:
    """Close lines at the last second of their service periods. One without a price by then had no event that
    counted."""
    local = np.flatnonzero(table.needs_close[slots.row[there]])
    slot = there[local]
    closed = close_lines(lines, accumulators, local, due.periods.until_s[slots.period[slot]] - 1)
    add_events(tally.sums, _part_of(table, slots, tally, slot, closed.version), closed.amount_micro, closed.reject)
    failed = np.flatnonzero((closed.reject != core.Reject.OK) & (closed.reject != core.Reject.NO_PRICE))
    return [
        Cause(
            int(slots.period[slot[row]]),
            reject_reason(closed.reject[row]),
            f"item {charge_table.charges[slots.entry[slot[row]]].item} cannot be closed: "
            f"{reject_words(closed.reject[row])}",
        )
        for row in failed
    ]


def _part_of(table: RowTable, slots: Slots, tally: Tally, slot: Ints, version: Any) -> Ints:
    group: Ints = table.group[table.first[slots.row[slot]] + np.maximum(version, 0)]
    return tally.first[slot] + group


def _pools_of(
    shard: ShardInput, tariffs: Tariffs, due: Due, catalogue_id: int, period: Ints
) -> tuple[Ints, Ints | None, Grants | None]:
    """(owner of the slots of these periods, what each owner has in the catalogue's pools at the start, and how that
    changes)."""
    width = len(tariffs.catalogues[catalogue_id].pools)
    if not width:
        return np.zeros(len(period), np.int64), None, None
    periods, orders = due.periods, shard.orders
    arrears = np.flatnonzero(periods.part == ARREARS)
    order = periods.order[arrears]
    account, _ = codes_of(orders.account_id)
    # Instants are below 2^35 and periods shorter than 2^29 seconds: ten years.
    span, spans = codes_of(periods.start_s[arrears] << 29 | (periods.end_s - periods.start_s)[arrears])
    owner, owners = codes_of(account[order] * spans + span)
    grants = np.zeros((len(tariffs.entitlements), width), np.int64)
    catalogue_of_stock = np.array([entitlement.offer.catalogue_id for entitlement in tariffs.entitlements] or [0])
    for number, entitlement in enumerate(tariffs.entitlements):
        if entitlement.offer.catalogue_id == catalogue_id:
            for pool, grant in entitlement.grants:
                grants[number, pool] = grant
    held = new_sums(owners * width)
    granted = np.zeros((len(order), width), np.int64)
    for pool in range(width):
        grant = grants[due.entitlement[order], pool]
        most = core.MAX_METER // np.maximum(grant, 1)
        granted[:, pool] = np.minimum(orders.quantity[order], most) * grant
        add_events(held, owner * width + pool, granted[:, pool])
    # A pool holds MAX_METER at most: nobody uses up more in a period.
    full = held.whole >= core.MAX_METER // MICRO_PER_MINOR
    left = np.where(full, core.MAX_METER, np.where(full, 0, held.whole) * MICRO_PER_MINOR + held.rest)
    of_period = np.zeros(len(periods.order), np.int64)
    of_period[arrears] = owner
    ours = np.flatnonzero(catalogue_of_stock[due.entitlement[order]] == catalogue_id)
    in_time = grants_in_time(
        owner[ours], owners, periods.from_s[arrears[ours]], periods.until_s[arrears[ours]], granted[ours]
    )
    # Owners whom no line has would only make the pools longer; the last one there is counts them.
    return of_period[period], left.reshape(owners, width)[: int(of_period[period].max(initial=-1)) + 1], in_time


def _unrounded(
    charge_table: ChargeTable, table: RowTable, slots: Slots, groups: Ints, tally: Tally, causes: list[Cause]
) -> Unrounded:
    """Parts of lines in which something was used or that come to something."""
    slot = np.repeat(np.arange(len(groups)), groups)
    group = np.arange(len(slot)) - tally.first[slot]
    used, sums = tally.quantities, tally.sums
    made = np.flatnonzero((used.whole != 0) | (used.rest != 0) | (sums.whole != 0) | (sums.rest != 0))
    made = made[np.lexsort((tally.seen[made], slot[made]))] if table.returns else made
    slot, group = slot[made], group[made]
    begins = np.append(True, slot[1:] != slot[:-1])[: len(slot)]
    nth = np.arange(len(slot)) - np.flatnonzero(begins)[np.cumsum(begins) - 1]
    too_many = np.flatnonzero(used.whole[made] >= _LARGEST_WHOLE)
    causes += [
        Cause(
            int(slots.period[slot[row]]),
            "out_of_range",
            f"too much is used of {charge_table.charges[slots.entry[slot[row]]].item}",
        )
        for row in too_many
    ]
    whole = np.minimum(used.whole[made], _LARGEST_WHOLE)
    entry = slots.entry[slot]
    return Unrounded(
        slot,
        slots.period[slot],
        np.full(len(slot), USAGE, np.int64),
        charge_table.item[entry],
        charge_table.place[entry],
        nth,
        whole * MICRO_PER_MINOR + used.rest[made],
        Sums(sums.whole[made], sums.rest[made]),
        charge_table.discounts[entry],
        table.group_version[table.group_first[slots.row[slot]] + group],
    )


# ---- causes


def reject_words(reject: int) -> str:
    """Why the core refused, in words that follow a colon."""
    return _WORDS[core.Reject(reject)]


_WORDS: Final = {
    core.Reject.BAD_LINE: "it has no line",
    core.Reject.BAD_QUANTITY: "its quantity is out of bounds",
    core.Reject.BAD_DURATION: "its duration is out of bounds",
    core.Reject.OUT_OF_HORIZON: "the catalogue is not good for that time",
    core.Reject.NO_PRICE: "there is no price yet at that time",
    core.Reject.NO_RATE: "the rate card has no rate for its destination",
    core.Reject.OUT_OF_RANGE: "the amount is out of range",
    core.Reject.BAD_DESTINATION: "its destination is no number",
}


def _causes(
    shard: ShardInput, charge_table: ChargeTable, used: Metered, rows: Ints, reason: str, why: str
) -> list[Cause]:
    """One cause a period, naming the first of its events and counting the others."""
    first: dict[int, int] = {}
    counts: dict[int, int] = {}
    for row in rows.tolist():
        period = int(used.period[row])
        first.setdefault(period, row)
        counts[period] = counts.get(period, 0) + 1
    return [
        Cause(
            period,
            reason,
            f"{_event_words(shard.events, int(used.event[row]))}: item {charge_table.charges[used.entry[row]].item} "
            f"{why}" + (f" (and {counts[period] - 1} more events)" if counts[period] > 1 else ""),
            int(shard.events.id[used.event[row]]),
        )
        for period, row in first.items()
    ]


def _event_words(events: UsageEvents, event: int) -> str:
    """Which one it is, for whoever looks for it in the usage file."""
    at = datetime.fromtimestamp(int(events.at_s[event]), UTC)
    called = events.destination[event].as_py() if events.destination is not None else None
    return f"event {events.id[event]} of {at:%Y-%m-%d %H:%M:%SZ}" + (f" to {called}" if called else "")
