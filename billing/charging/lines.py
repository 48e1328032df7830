"""Bills of a shard: what is due becomes lines, lines become invoices, what cannot be billed is told with the reason.

Rules. Lines are made in this order, each kind from columns of all tiles at once: recurring charges, usage, percentages
of both, true-ups of what was billed in advance, minimums; then lines that people wrote. A recurring line is
flat x quantity x share, rounded to the micro and then once to the minor unit. What cannot be billed fails its period
and what follows it (cycle_failures) and is due again; the rest of its payer is billed. A payer with a line has one
invoice. What is computed of a payer depends on no other payer's rows, so shards may be cut anywhere.

Does not know: where columns come from and go to, numbers of invoices, posting.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

import numpy as np

from billing.catalogue.tables import NO_ROW
from billing.charging.amounts import Cause, Drafts, Unrounded, amounts_of, joined
from billing.charging.due import Due, Flags, Tiles, find_due, shares_of
from billing.charging.failures import Asked, hold_floors, without_fault
from billing.charging.late import late_lines
from billing.charging.pools import with_neighbours
from billing.charging.prices import RowTable
from billing.charging.records import (
    ADJUSTMENT,
    ADVANCE,
    ARREARS,
    BILLED,
    MANUAL,
    MINIMUM,
    NEVER,
    NO_FLOOR,
    NONE,
    NOTHING_TO_BILL,
    ONCE,
    ONE_TIME,
    PARTS,
    PERCENTAGE,
    RECURRING,
    TRUEUP,
    Counts,
    Failure,
    InvoiceColumns,
    LineColumns,
    ManualBilled,
    PeriodColumns,
    ShardBill,
    ShardInput,
)
from billing.charging.tariffs import Shelf, Shelves, Tariffs, reject_reason, shelves_of
from billing.charging.usage import reject_words, usage_lines
from ratingcore import tariff as core
from ratingcore.arrays import Indices, Ints
from ratingcore.lines import Sums, Taxed, add_events, new_sums, tax_lines
from ratingcore.money import MAX_MINOR, format_minor
from ratingcore.rate import close_lines, make_events, make_lines, new_accumulators, rate_events
from ratingcore.rounding import MICRO_PER_MINOR, divide
from ratingcore.shares import share_amounts

#: Place of a minimum: behind every item of a plan.
_LAST_PLACE: Final = 2**15 - 1
#: An order's own price in micro is an event's amount at most (ratingcore.tariff.MAX_EVENT_MICRO).
_LARGEST_OWN: Final = core.MAX_EVENT_MICRO // MICRO_PER_MINOR
#: An invoice is bounded as a line is: 10^15 minor units.
_LARGEST_WHOLE: Final = MAX_MINOR // MICRO_PER_MINOR


@dataclass
class _Work:
    """A shard on its way: what is known of it, and what came up so far. Lives for one ``bill_shard``."""

    shard: ShardInput
    tariffs: Tariffs
    due: Due
    shelves: Shelves
    table: RowTable
    drafts: list[Drafts] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    events: int = 0

    def order_of(self, tile: Ints) -> Ints:
        return self.due.tiles.order[tile]

    def fail_tiles(self, tile: Ints, reject: Any, what: Iterable[str]) -> None:
        """A cause for every one of these tiles, by a reject of the core and what could not be rated."""
        for one, code, name in zip(tile.tolist(), reject.tolist(), what, strict=True):
            self.causes.append(Cause(one, reject_reason(code), f"item {name} cannot be billed: {reject_words(code)}"))


def bill_shard(shard: ShardInput, tariffs: Tariffs, due: Due | None = None) -> ShardBill:
    """Everything a shard comes to.

    Args:
        due: what ``find_due`` said of the same orders, if it was asked.

    Raises:
        ValueError: columns that are not sorted as ``cycle_records`` says.
    """
    found = find_due(shard, tariffs) if due is None else due
    if found.beside is None:
        found = with_neighbours(found, shard, tariffs)
    work = _Work(shard, tariffs, found, shelves_of(tariffs, found.baskets), tariffs.prices.table())
    _add_recurring(work)
    _add_usage(work)
    _add_once(work)
    _add_percentages(work)
    _add_trueups(work)
    _add_minimums(work)
    _add_late(work)
    return _bill_of(work)


# ---- lines of tiles


def _charged(work: _Work) -> Flags:
    """Tiles in which recurring items are charged: those with a share of the part that has them."""
    tiles, terms = work.due.tiles, work.tariffs.terms
    ahead = terms.in_advance[work.shard.orders.terms_id[tiles.order]]
    charged: Flags = (tiles.num > 0) & ((tiles.part != ARREARS) | ~ahead)
    return charged


def _add_recurring(work: _Work) -> None:
    tiles, orders, table, shelf = work.due.tiles, work.shard.orders, work.table, work.shelves.recurring
    charged = np.flatnonzero(_charged(work))
    rows, entry = shelf.expand(tiles.basket[charged])
    tile = charged[rows]
    order = tiles.order[tile]
    version, reject = table.versions_at(shelf.row[entry], tiles.from_s[tile])
    own = orders.price_minor[order]
    by_hand = own >= 0
    flat = np.where(by_hand, np.minimum(own, _LARGEST_OWN) * MICRO_PER_MINOR, table.close_micro[version])
    reject = np.where((reject == core.Reject.OK) & ~by_hand, table.close_reject[version], reject)
    reject[own > _LARGEST_OWN] = core.Reject.OUT_OF_RANGE
    shared = share_amounts(flat, orders.quantity[order], tiles.num[tile], tiles.den[tile])
    reject[(reject == core.Reject.OK) & (shared.reject > 0)] = core.Reject.OUT_OF_RANGE
    bad = np.flatnonzero(reject != core.Reject.OK)
    work.fail_tiles(tile[bad], reject[bad], (shelf.goods[one].item for one in entry[bad]))
    once = tiles.part[tile] == ONCE
    kind = np.where(once, ONE_TIME, RECURRING)
    good = np.flatnonzero(reject == core.Reject.OK)
    _round(work, shelf, good, tile, entry, kind, orders.quantity[order], shared.sums, version)


def _add_usage(work: _Work) -> None:
    parts, causes, work.events = usage_lines(work.shard, work.tariffs, work.due, work.shelves.metered, work.table)
    work.causes += causes
    _keep(work, parts)


def _add_once(work: _Work) -> None:
    """One-time orders on metered items: one event of so many whole units, closed at once."""
    tiles, orders, shelf = work.due.tiles, work.shard.orders, work.shelves.metered
    once = np.flatnonzero(tiles.part == ONCE)
    rows, entry = shelf.expand(tiles.basket[once])
    tile = once[rows]
    quantity = orders.quantity[tiles.order[tile]] * shelf.steps[entry]
    rated = _rate_alone(work, shelf, tile, entry, tiles.from_s[tile], quantity)
    _round(work, shelf, rated.good, tile, entry, np.full(len(tile), ONE_TIME), quantity, rated.sums, rated.version)


def _add_percentages(work: _Work) -> None:
    """Percentages, level by level: those of percentages come after what they are taken of."""
    recurring, metered = work.shelves.taken_recurring, work.shelves.taken_metered
    tiles = work.due.tiles
    charged, rest = np.flatnonzero(_charged(work)), np.flatnonzero((tiles.part == ARREARS) | (tiles.part == ONCE))
    for level in range(1, 1 + int(max(recurring.level.max(initial=0), metered.level.max(initial=0)))):
        _take_percentages(work, recurring, charged, level, always=True)
        _take_percentages(work, metered, rest, level, always=False)


def _take_percentages(work: _Work, shelf: Shelf, among: Ints, level: int, always: bool) -> None:
    tiles = work.due.tiles
    rows, entry = shelf.expand(tiles.basket[among])
    here = np.flatnonzero((shelf.level[entry] == level) & (shelf.row[entry] != NO_ROW))
    tile, entry = among[rows[here]], entry[here]
    if not len(tile):
        return
    base = np.maximum(_bases(work, shelf, tile, entry), 0)
    at_s = np.where(tiles.part[tile] == ARREARS, tiles.until_s[tile] - 1, tiles.from_s[tile])
    rated = _rate_alone(work, shelf, tile, entry, at_s, base)
    good = rated.good
    if not always:
        sums = rated.sums
        good = good[(base[good] != 0) | (sums.whole[good] != 0) | (sums.rest[good] != 0)]
    _round(work, shelf, good, tile, entry, np.full(len(tile), PERCENTAGE), base, rated.sums, rated.version)


def _bases(work: _Work, shelf: Shelf, tile: Ints, entry: Ints) -> Ints:
    """What each percentage is taken of: the amounts of those items in its tile."""
    wanted = sorted({item for one in np.flatnonzero(np.bincount(entry)).tolist() for item in shelf.goods[one].of_items})
    base = np.zeros(len(tile), np.int64)
    for item in wanted:
        code, amounts = work.tariffs.item_code(item), np.zeros(len(work.due.tiles.order), np.int64)
        for drafts in work.drafts:
            rows = np.flatnonzero(drafts.item == code)
            np.add.at(amounts, drafts.tile[rows], drafts.amount_minor[rows])
        has = np.array([item in one.of_items for one in shelf.goods], np.bool_)
        base += np.where(has[entry], amounts[tile], 0)
    return base


@dataclass(frozen=True, slots=True)
class _Alone:
    """Sums and versions of events that are rated by themselves, and the rows that could be."""

    sums: Sums
    version: Ints
    good: Ints


def _rate_alone(work: _Work, shelf: Shelf, tile: Ints, entry: Ints, at_s: Ints, quantity: Ints) -> _Alone:
    """One event on a fresh line each, without pools, closed at its own instant."""
    table, row = work.table, shelf.row[entry]
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
    work.fail_tiles(tile[bad], reject[bad], (shelf.goods[one].item for one in entry[bad]))
    return _Alone(sums, version, np.flatnonzero(reject == core.Reject.OK))


def _round(
    work: _Work,
    shelf: Shelf,
    good: Ints,
    tile: Ints,
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
        tile[good],
        kind[good],
        shelf.item[entry],
        shelf.place[entry],
        np.zeros(len(good), np.int64),
        quantity[good],
        Sums(sums.whole[good], sums.rest[good]),
        shelf.discounts[entry],
        version[good],
    )
    _keep(work, parts)


def _keep(work: _Work, parts: Unrounded) -> None:
    drafts, causes = amounts_of(parts, work.table, work.tariffs.discounts, work.tariffs.item_names)
    work.drafts.append(drafts)
    work.causes += causes


# ---- minimums


def _add_minimums(work: _Work) -> None:
    """What is missing from the minimums of orders, at the arrears part of their tiles."""
    tiles, orders = work.due.tiles, work.shard.orders
    tile = np.flatnonzero((tiles.part == ARREARS) & (orders.minimum_minor[tiles.order] > 0) & (tiles.num > 0))
    if not len(tile):
        return
    asked = orders.minimum_minor[tiles.order[tile]]
    # Minor units in place of micro: the quotient is the same, and below 2^63 as the minimum is.
    small = np.minimum(asked, MAX_MINOR)
    target = share_amounts(small, np.ones(len(tile), np.int64), tiles.num[tile], tiles.den[tile]).sums
    billed = np.zeros(len(tiles.order), np.int64)
    for drafts in work.drafts:
        np.add.at(billed, drafts.tile, drafts.amount_minor)
    missing = target.whole * MICRO_PER_MINOR + target.rest - billed[tile] - _advanced(work, tile, billed)
    version, found = _minimum_versions(work, tile)
    for one in tile[(asked > MAX_MINOR)].tolist():
        work.causes.append(Cause(one, "out_of_range", "its minimum is out of range"))
    for one in tile[(missing > 0) & ~found].tolist():
        work.causes.append(Cause(one, "no_price", "its minimum has no item whose tax it could take"))
    made = np.flatnonzero((missing > 0) & (missing <= MAX_MINOR) & found)
    none, one = np.zeros(len(made), np.int64), np.ones(len(made), np.int64)
    tax, inside = work.table.tax_ppm[version[made]], work.table.inside[version[made]].astype(np.int64)
    work.drafts.append(
        Drafts(tile[made], none + MINIMUM, none, none + _LAST_PLACE, none, one, none, missing[made], tax, inside)
    )


def _advanced(work: _Work, tile: Ints, billed: Ints) -> Ints:
    """What the advance part of the same tiles came to, in this run or before, and their true-ups."""
    tiles, before = work.due.tiles, work.shard.advances
    amounts = _trued_up(work, tile, billed)
    ahead = np.maximum(tile - 1, 0)  # tiles are in order of (order, start, part)
    here = (tiles.part[ahead] == ADVANCE) & (tiles.order[ahead] == tiles.order[tile])
    here &= tiles.start_s[ahead] == tiles.start_s[tile]
    amounts[here] += billed[ahead[here]]
    if not len(before.order_id):
        return amounts
    row = work.due.active.rows_of(before.order_id)
    known = {
        (one, start): amount
        for one, start, amount in zip(row.tolist(), before.start_s.tolist(), before.amount_minor.tolist(), strict=True)
    }
    for place in np.flatnonzero(~here).tolist():
        one = tile[place]
        amounts[place] += known.get((int(tiles.order[one]), int(tiles.start_s[one])), 0)
    return amounts


def _trued_up(work: _Work, tile: Ints, billed: Ints) -> Ints:
    """What true-ups of this run come to for the same tiles."""
    tiles = work.due.tiles
    key = tiles.order << 37 | tiles.start_s
    ups = np.flatnonzero(tiles.part == TRUEUP)
    ups = ups[np.argsort(key[ups])]
    if not len(ups):
        return np.zeros(len(tile), np.int64)
    found = ups[np.minimum(np.searchsorted(key[ups], key[tile]), len(ups) - 1)]
    return np.where(key[found] == key[tile], billed[found], 0)


def _minimum_versions(work: _Work, tile: Ints) -> tuple[Ints, Flags]:
    """(the version whose tax a minimum takes, whether there is one): that of the first item with a price in force."""
    tiles = work.due.tiles
    stock, at_s = work.due.stock[tiles.order[tile]], tiles.until_s[tile] - 1
    version, found = np.zeros(len(tile), np.int64), np.zeros(len(tile), np.bool_)
    for number in np.unique(stock).tolist():
        for row in work.tariffs.stocks[number].tax_rows:
            open_rows = np.flatnonzero((stock == number) & ~found)
            at, reject = work.table.versions_at(np.full(len(open_rows), row, np.int64), at_s[open_rows])
            good = open_rows[reject == core.Reject.OK]
            version[good], found[good] = at[reject == core.Reject.OK], True
    return version, found


# ---- true-ups


def _add_trueups(work: _Work) -> None:
    """Adjust what was billed in advance to the share it turned out to be; each record is a tile of its own."""
    orders, ups = work.shard.orders, work.shard.trueups
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
    tile = len(work.due.tiles.order) + np.cumsum(begins) - 1
    firsts = np.flatnonzero(begins)
    _append_tiles(work, order[firsts], ups.start_s[line[firsts]], ups.end_s[line[firsts]], num[firsts], den[firsts])
    columns = (ups.amount_minor[line], ups.credited_minor[line], num, den, ups.num[line], ups.den[line])
    amounts = [_adjustment(*one) for one in zip(*(column.tolist() for column in columns), strict=True)]
    for one, amount in zip(tile.tolist(), amounts, strict=True):
        if abs(amount) > MAX_MINOR:
            work.causes.append(Cause(one, "out_of_range", "its true-up is out of range"))
    bounded = np.array([amount if abs(amount) <= MAX_MINOR else 0 for amount in amounts], np.int64)
    codes = np.array([work.tariffs.item_code(item) for item in work.shard.items], np.int64)
    none = np.zeros(len(line), np.int64)
    place = np.arange(len(line)) - firsts[np.cumsum(begins) - 1]
    quantity = orders.quantity[order]
    item, tax, inside = codes[ups.item[line]], ups.tax_ppm[line], ups.inside[line].astype(np.int64)
    work.drafts.append(Drafts(tile, none + ADJUSTMENT, item, place, none, quantity, none, bounded, tax, inside))


def _in_arrears(work: _Work, order: Ints, item: Indices) -> Flags:
    """Which lines are percentages of metered items: they are of the arrears part, though on the same invoice."""
    found, stock = np.zeros(len(item), np.bool_), work.due.stock[order]
    for number in np.unique(stock).tolist():
        taken = {one.item for one in work.tariffs.stocks[number].goods if one.level and not one.recurring}
        codes = [code for code, name in enumerate(work.shard.items) if name in taken]
        found |= (stock == number) & np.isin(item, codes)
    return found


def _adjustment(billed: int, credited: int, num: int, den: int, billed_num: int, billed_den: int) -> int:
    """What the share makes of a line; no more of it is given back than credit notes left."""
    amount = divide(billed * (num * billed_den - den * billed_num), den * billed_num)
    left = billed - credited
    return max(amount, -max(0, left)) if billed >= 0 else min(amount, -min(0, left))


def _append_tiles(work: _Work, order: Ints, start: Ints, end: Ints, num: Ints, den: Ints) -> None:
    """True-ups as tiles behind those that were due."""
    tiles, orders = work.due.tiles, work.shard.orders
    low = np.maximum(start, orders.starts_s[order])
    more: dict[str, Any] = {
        "order": order,
        "part": np.full(len(order), TRUEUP, np.uint8),
        "start_s": start,
        "end_s": end,
        "from_s": low,
        "until_s": np.maximum(low, np.minimum(end, orders.ends_s[order])),
        "number": np.zeros(len(order), np.int64),
        "num": num,
        "den": den,
        "reason": np.full(len(order), BILLED, np.uint8),
        "basket": np.full(len(order), NONE, np.int64),
    }
    longer = {name: np.concatenate([getattr(tiles, name), column]) for name, column in more.items()}
    work.due = replace(work.due, tiles=replace(tiles, **longer))


# ---- late usage


def _add_late(work: _Work) -> None:
    """What usage that came late makes of periods that were billed; each is a tile of its own."""
    if not len(work.shard.late.order):
        return
    late = late_lines(work.shard, work.tariffs, work.due, _arrears_of)
    tiles, behind = work.due.tiles, len(work.due.tiles.order)
    names = Tiles.__dataclass_fields__
    longer = Tiles(*(np.concatenate([getattr(tiles, name), getattr(late.tiles, name)]) for name in names))
    work.due = replace(work.due, tiles=longer)
    work.drafts.append(replace(late.drafts, tile=late.drafts.tile + behind))
    work.causes += [replace(one, tile=one.tile + behind) for one in late.causes]
    work.events += late.events


def _arrears_of(shard: ShardInput, tariffs: Tariffs, due: Due) -> tuple[Drafts, list[Cause], int]:
    """Lines of periods in arrears, all of them or as far as some usage goes."""
    work = _Work(shard, tariffs, due, shelves_of(tariffs, due.baskets), tariffs.prices.table())
    _add_recurring(work)
    _add_usage(work)
    _add_percentages(work)
    _add_minimums(work)
    return joined(work.drafts), work.causes, work.events


# ---- invoices


def _bill_of(work: _Work) -> ShardBill:
    """Lines to invoices, without what cannot be billed."""
    payer = _payer_rows(work)
    manual = work.shard.manual
    by_hand = np.searchsorted(work.shard.payers.account_id, manual.payer_account_id)
    drafts = joined(work.drafts)
    taxed = tax_lines(drafts.amount_minor, drafts.tax_ppm, drafts.inside)
    own = tax_lines(manual.amount_minor, manual.tax_ppm, manual.inside)
    kept, hand = _without_fault(work, payer), np.ones(len(by_hand), np.bool_)
    _hold_floors(work, _Charged(drafts, taxed, own), payer, by_hand, kept, hand)
    drafts, taxed = _kept_lines(drafts, taxed, kept[drafts.tile])
    net_minor, tax_minor, billed = _totals(work, payer[work.order_of(drafts.tile)], by_hand, taxed, own, hand)
    large = _too_large(work, net_minor, tax_minor)
    if large.any():
        kept &= ~large[payer[work.due.tiles.order]]
        hand &= ~large[by_hand]
        drafts, taxed = _kept_lines(drafts, taxed, kept[drafts.tile])
    who = np.flatnonzero(billed & ~large)
    invoice = np.full(len(billed), NONE, np.int64)
    invoice[who] = np.arange(len(who))
    net, tax = (_whole(one, large)[who] for one in (net_minor, tax_minor))
    periods = _periods_of(work, drafts, payer, invoice, kept)
    lines = _lines_of(
        work, drafts, taxed, own, invoice[payer[work.order_of(drafts.tile)]], np.where(hand, invoice[by_hand], NONE)
    )
    counts = Counts(len(billed), work.shard.live_orders, work.events, len(periods.order_id), len(lines.line), len(who))
    return ShardBill(
        periods,
        lines,
        InvoiceColumns(who, work.shard.payers.account_id[who], net, tax, net + tax),
        ManualBilled(manual.manual_line_id[hand], invoice[by_hand[hand]]),
        _settled(work, kept),
        tuple(sorted(work.failures, key=lambda one: (one.payer_account_id, one.order_id, one.start_s, one.part))),
        tuple(work.tariffs.item_names),
        counts,
    )


@dataclass(frozen=True, slots=True)
class _Charged:
    """Lines of tiles with their tax, and the tax of lines that people wrote."""

    drafts: Drafts
    taxed: Taxed
    own: Taxed


def _kept_lines(drafts: Drafts, taxed: Taxed, kept: Flags) -> tuple[Drafts, Taxed]:
    if kept.all():
        return drafts, taxed
    rows = np.flatnonzero(kept)
    return (
        Drafts(*(getattr(drafts, one.name)[rows] for one in fields(Drafts))),
        Taxed(*(getattr(taxed, one.name)[rows] for one in fields(Taxed))),
    )


def _totals(work: _Work, payer: Ints, by_hand: Ints, taxed: Taxed, own: Taxed, hand: Flags) -> tuple[Sums, Sums, Flags]:
    """(net, tax, whether there is anything) by payer. payer: of each line."""
    size, rows = len(work.shard.payers.account_id), np.flatnonzero(hand)
    net, tax, billed = new_sums(size), new_sums(size), np.zeros(size, np.bool_)
    for sums, of_orders, of_people in ((net, taxed.net_minor, own.net_minor), (tax, taxed.tax_minor, own.tax_minor)):
        add_events(sums, payer, of_orders)
        add_events(sums, by_hand[rows], of_people[rows])
    billed[payer] = True
    billed[by_hand[rows]] = True
    return net, tax, billed


def _payer_rows(work: _Work) -> Ints:
    """The row of every order's payer."""
    accounts, wanted = work.shard.payers.account_id, work.shard.orders.payer_account_id
    if (np.diff(accounts) <= 0).any():
        raise ValueError("payers are sorted by account_id")
    manual = work.shard.manual.payer_account_id
    for column in (wanted, manual):
        rows = np.searchsorted(accounts, column)
        if len(column) and (rows.max() >= len(accounts) or (accounts[rows] != column).any()):
            raise ValueError("an order or a manual line has a payer who is not in the shard")
    return np.searchsorted(accounts, wanted)


def _without_fault(work: _Work, payer: Ints) -> Flags:
    """Which tiles can be billed; why others cannot goes to the work's failures."""
    shard, tiles = work.shard, work.due.tiles
    bad_tile, bad_order = np.zeros(len(tiles.order), np.bool_), np.zeros(len(payer), np.bool_)
    offers = [
        shard.currencies.index(one.currency) if one.currency in shard.currencies else NONE
        for one in work.tariffs.offers
    ]
    currency = np.array(offers or [NONE], np.int64)[work.tariffs.terms.offer[shard.orders.terms_id]]
    due = np.zeros(len(payer), np.bool_)
    due[tiles.order] = True
    for order in np.flatnonzero(due & (currency != shard.payers.currency[payer])).tolist():
        bad_order[order] = True
        _fail(work, order, NONE, "other_currency", "its currency is not that of the payer's account")
    for one in work.due.failures:
        if one.tile == NONE:
            bad_order[one.order] = True
        else:
            bad_tile[one.tile] = True
        _fail(work, one.order, one.tile, one.reason, one.detail)
    for cause in work.causes:
        bad_tile[cause.tile] = True
        _fail(work, int(tiles.order[cause.tile]), cause.tile, cause.reason, cause.detail, usage_id=cause.usage_id)
    return without_fault(tiles, bad_tile, bad_order)


def _fail(
    work: _Work,
    order: int,
    tile: int,
    reason: str,
    detail: str,
    amount_minor: int | None = None,
    usage_id: int | None = None,
) -> None:
    orders, tiles = work.shard.orders, work.due.tiles
    start, part = (int(tiles.start_s[tile]), PARTS[tiles.part[tile]]) if tile != NONE else (NONE, "")
    payer, number = int(orders.payer_account_id[order]), int(orders.order_id[order])
    work.failures.append(Failure(payer, number, start, part, reason, detail, amount_minor, usage_id))


def _fail_payer(work: _Work, row: int, reason: str, detail: str, amount_minor: int | None = None) -> None:
    account = int(work.shard.payers.account_id[row])
    work.failures.append(Failure(account, NONE, NONE, "", reason, detail, amount_minor))


def _too_large(work: _Work, net: Sums, tax: Sums) -> Flags:
    """Payers whose invoice passes the largest sum: nothing of theirs is billed."""
    large: Flags = np.zeros(len(net.whole), np.bool_)
    for sums in (net, tax):
        large |= (sums.whole > _LARGEST_WHOLE) | (sums.whole < -_LARGEST_WHOLE)
    for row in np.flatnonzero(large).tolist():
        _fail_payer(work, row, "out_of_range", "the invoice comes to too large a sum")
    return large


def _whole(sums: Sums, large: Flags) -> Ints:
    """Sums as integers, 0 where they are too large."""
    return np.where(large, 0, sums.whole) * MICRO_PER_MINOR + np.where(large, 0, sums.rest)


def _hold_floors(work: _Work, charged: _Charged, payer: Ints, by_hand: Ints, kept: Flags, hand: Flags) -> None:
    """Leave what prepaid payers' balances do not bear, and say so."""
    payers, tiles, manual = work.shard.payers, work.due.tiles, work.shard.manual
    has_floor = payers.floor_minor != NO_FLOOR
    if not has_floor.any():
        return
    gross = np.zeros(len(tiles.order), np.int64)
    np.add.at(gross, charged.drafts.tile, charged.taxed.net_minor + charged.taxed.tax_minor)
    asked = Asked(payer[tiles.order], gross, by_hand, charged.own.net_minor + charged.own.tax_minor)
    bears = np.where(has_floor, payers.balance_minor - np.where(has_floor, payers.floor_minor, 0), NEVER)
    for one in hold_floors(tiles, manual, asked, bears, kept, hand):
        currency = work.shard.currencies[payers.currency[one.payer]]
        due, left = (f"{format_minor(amount)} {currency}" for amount in (one.amount_minor, one.left_minor))
        if one.order == NONE:
            detail = f"a charge by hand comes to {due}, and the balance bears {left} of it"
            _fail_payer(work, one.payer, "balance_too_low", detail, one.amount_minor)
        else:
            detail = f"{due} are due from then on, and the balance bears {left} of it"
            _fail(work, one.order, one.tile, "balance_too_low", detail, one.amount_minor)


def _periods_of(work: _Work, drafts: Drafts, payer: Ints, invoice: Ints, kept: Flags) -> PeriodColumns:
    tiles, orders = work.due.tiles, work.shard.orders
    amount, billed = np.zeros(len(tiles.order), np.int64), np.zeros(len(tiles.order), np.bool_)
    np.add.at(amount, drafts.tile, drafts.amount_minor)
    billed[drafts.tile] = True
    reason = np.where(billed, BILLED, np.where(tiles.num > 0, NOTHING_TO_BILL, tiles.reason)).astype(np.uint8)
    rows = np.flatnonzero(kept)
    return PeriodColumns(
        orders.order_id[tiles.order[rows]],
        tiles.part[rows],
        tiles.start_s[rows],
        tiles.end_s[rows],
        reason[rows],
        tiles.num[rows],
        tiles.den[rows],
        amount[rows],
        np.where(billed, invoice[payer[tiles.order]], NONE)[rows],
    )


def _lines_of(work: _Work, drafts: Drafts, taxed: Taxed, own: Taxed, invoice: Ints, by_hand: Ints) -> LineColumns:
    """Lines in the order of their invoices; manual lines are the last of theirs."""
    tiles, manual = work.due.tiles, work.shard.manual
    rank = np.empty(len(tiles.order), np.int64)
    # Rows are below 2^24, instants below 2^35, parts below 8.
    rank[np.argsort(_by_id(work)[tiles.order] << 38 | tiles.start_s << 3 | tiles.part, kind="stable")] = np.arange(
        len(rank)
    )
    by_rank = np.argsort(rank[drafts.tile] << 24 | drafts.place << 8 | drafts.part, kind="stable")
    rows = by_rank[invoice[by_rank] != NONE]
    hand = np.flatnonzero(by_hand != NONE)
    tile, none, one = drafts.tile[rows], np.full(len(hand), NONE), np.ones(len(hand), np.int64)
    columns = {
        "invoice": (invoice[rows], by_hand[hand]),
        "kind": (drafts.kind[rows], none * 0 + MANUAL),
        "order_id": (work.shard.orders.order_id[tiles.order[tile]], none),
        "manual_line_id": (np.full(len(rows), NONE), manual.manual_line_id[hand]),
        "item": (drafts.item[rows], none * 0),
        "start_s": (tiles.from_s[tile], manual.day_s[hand]),
        "end_s": (tiles.until_s[tile], manual.day_s[hand]),
        "quantity": (drafts.quantity[rows], one),
        "discount_minor": (drafts.discount_minor[rows], none * 0),
        "amount_minor": (drafts.amount_minor[rows], manual.amount_minor[hand]),
        "tax_ppm": (drafts.tax_ppm[rows], manual.tax_ppm[hand]),
        "inside": (drafts.inside[rows], manual.inside[hand]),
        "net_minor": (taxed.net_minor[rows], own.net_minor[hand]),
        "tax_minor": (taxed.tax_minor[rows], own.tax_minor[hand]),
    }
    merged = (
        {name: np.concatenate(pair) for name, pair in columns.items()}
        if len(hand)
        else {name: pair[0] for name, pair in columns.items()}
    )
    if len(hand):
        by_invoice = np.argsort(merged["invoice"], kind="stable")
        merged = {name: column[by_invoice] for name, column in merged.items()}
    begins = np.flatnonzero(np.diff(merged["invoice"], prepend=-1))
    counts = np.diff(np.append(begins, len(merged["invoice"])))
    merged["line"] = np.arange(1, len(merged["invoice"]) + 1) - np.repeat(begins, counts)
    types = {"kind": np.uint8, "inside": np.uint8, "item": np.int32, "line": np.int32, "tax_ppm": np.int32}
    return LineColumns(
        **{
            name.name: merged[name.name].astype(types.get(name.name, np.int64), copy=False)
            for name in fields(LineColumns)
        }
    )


def _by_id(work: _Work) -> Ints:
    """The place of every order among all of the shard's, by payer and id."""
    orders, live = work.shard.orders, work.shard.live_orders
    place = np.arange(len(orders.order_id))
    if live < len(place):  # settled ones stand behind the others
        place[np.lexsort((orders.order_id, orders.payer_account_id))] = np.arange(len(place))
    return place


def _settled(work: _Work, kept: Flags) -> Ints:
    """Orders whose life is over and of which nothing is left to record."""
    orders, tiles = work.shard.orders, work.due.tiles
    once = work.tariffs.terms.once[orders.terms_id]
    done = (orders.ends_s <= work.due.bound_s) & ~once
    done |= once & ((orders.once_done > 0) | (orders.ends_s <= np.minimum(orders.starts_s, work.due.bound_s)))
    done[tiles.order[tiles.part == ONCE]] = True
    done[tiles.order[~kept]] = False
    done[[one.order for one in work.due.failures]] = False
    done[work.shard.live_orders :] = False  # those are settled
    return orders.order_id[np.flatnonzero(done)]
