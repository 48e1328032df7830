"""Bills of a shard: lines become invoices, and what cannot be billed is told with its reason.

Rules. What cannot be billed fails its period and what follows it (billing.charging.failures) and is due again; the rest
of its payer is billed. A payer with a line has one invoice. What is computed of a payer depends on no other payer's
rows, so shards may be cut anywhere.

Does not know: where columns come from and go to, numbers of invoices, posting.
"""

from dataclasses import dataclass, fields
from typing import Final

import numpy as np

from billing.calendar import NEVER
from billing.charging.amounts import Drafts, joined
from billing.charging.due import Due, Flags, find_due
from billing.charging.failures import Asked, hold_floors, without_fault
from billing.charging.lines import add_lines
from billing.charging.pools import with_neighbours
from billing.charging.records import (
    BILLED,
    MANUAL,
    NO_FLOOR,
    NONE,
    NOTHING_TO_BILL,
    ONCE,
    PARTS,
    Counts,
    Failure,
    InvoiceColumns,
    LineColumns,
    ManualBilled,
    PeriodColumns,
    ShardBill,
    ShardInput,
)
from billing.charging.tariffs import Tariffs, charge_tables_of
from billing.charging.work import Work
from ratingcore.arrays import Ints
from ratingcore.lines import Sums, Taxed, add_events, new_sums, tax_lines
from ratingcore.money import MAX_MINOR, format_minor
from ratingcore.rounding import MICRO_PER_MINOR

#: An invoice is bounded as a line is: 10^15 minor units.
_LARGEST_WHOLE: Final = MAX_MINOR // MICRO_PER_MINOR


def bill_shard(shard: ShardInput, tariffs: Tariffs, due: Due | None = None) -> ShardBill:
    """Everything a shard comes to.

    Args:
        due: what ``find_due`` said of the same orders, if it was asked.

    Raises:
        ValueError: columns that are not sorted as ``billing.charging.records`` says.
    """
    found = find_due(shard, tariffs) if due is None else due
    if found.beside is None:
        found = with_neighbours(found, shard, tariffs)
    work = Work(shard, tariffs, found, charge_tables_of(tariffs, found.charge_sets), tariffs.prices.table())
    add_lines(work)
    return _bill_of(work)


def _bill_of(work: Work) -> ShardBill:
    """Lines to invoices, without what cannot be billed."""
    payer = _payer_rows(work)
    manual = work.shard.manual
    by_hand = np.searchsorted(work.shard.payers.account_id, manual.payer_account_id)
    drafts = joined(work.drafts)
    taxed = tax_lines(drafts.amount_minor, drafts.tax_ppm, drafts.inside)
    own = tax_lines(manual.amount_minor, manual.tax_ppm, manual.inside)
    kept, hand = _without_fault(work, payer), np.ones(len(by_hand), np.bool_)
    _hold_floors(work, _Charged(drafts, taxed, own), payer, by_hand, kept, hand)
    drafts, taxed = _kept_lines(drafts, taxed, kept[drafts.period])
    net_minor, tax_minor, billed = _totals(work, payer[work.order_of(drafts.period)], by_hand, taxed, own, hand)
    large = _too_large(work, net_minor, tax_minor)
    if large.any():
        kept &= ~large[payer[work.due.periods.order]]
        hand &= ~large[by_hand]
        drafts, taxed = _kept_lines(drafts, taxed, kept[drafts.period])
    who = np.flatnonzero(billed & ~large)
    invoice = np.full(len(billed), NONE, np.int64)
    invoice[who] = np.arange(len(who))
    net, tax = (_whole(one, large)[who] for one in (net_minor, tax_minor))
    billed_periods = _periods_of(work, drafts, payer, invoice, kept)
    lines = _lines_of(
        work, drafts, taxed, own, invoice[payer[work.order_of(drafts.period)]], np.where(hand, invoice[by_hand], NONE)
    )
    counts = Counts(
        len(billed), work.shard.live_orders, work.events, len(billed_periods.order_id), len(lines.line), len(who)
    )
    return ShardBill(
        billed_periods,
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
    """Lines of periods with their tax, and the tax of lines that people wrote."""

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


def _totals(work: Work, payer: Ints, by_hand: Ints, taxed: Taxed, own: Taxed, hand: Flags) -> tuple[Sums, Sums, Flags]:
    """(net, tax, whether there is anything) by payer. payer: of each line."""
    size, rows = len(work.shard.payers.account_id), np.flatnonzero(hand)
    net, tax, billed = new_sums(size), new_sums(size), np.zeros(size, np.bool_)
    for sums, of_orders, of_people in ((net, taxed.net_minor, own.net_minor), (tax, taxed.tax_minor, own.tax_minor)):
        add_events(sums, payer, of_orders)
        add_events(sums, by_hand[rows], of_people[rows])
    billed[payer] = True
    billed[by_hand[rows]] = True
    return net, tax, billed


def _payer_rows(work: Work) -> Ints:
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


def _without_fault(work: Work, payer: Ints) -> Flags:
    """Which periods can be billed; why others cannot goes to the work's failures."""
    shard, periods = work.shard, work.due.periods
    bad_period, bad_order = np.zeros(len(periods.order), np.bool_), np.zeros(len(payer), np.bool_)
    offers = [
        shard.currencies.index(one.currency) if one.currency in shard.currencies else NONE
        for one in work.tariffs.offers
    ]
    currency = np.array(offers or [NONE], np.int64)[work.tariffs.terms.offer[shard.orders.terms_id]]
    due = np.zeros(len(payer), np.bool_)
    due[periods.order] = True
    for order in np.flatnonzero(due & (currency != shard.payers.currency[payer])).tolist():
        bad_order[order] = True
        _fail(work, order, NONE, "other_currency", "its currency is not that of the payer's account")
    for one in work.due.failures:
        if one.period == NONE:
            bad_order[one.order] = True
        else:
            bad_period[one.period] = True
        _fail(work, one.order, one.period, one.reason, one.detail)
    for cause in work.causes:
        bad_period[cause.period] = True
        _fail(work, int(periods.order[cause.period]), cause.period, cause.reason, cause.detail, usage_id=cause.usage_id)
    return without_fault(periods, bad_period, bad_order)


def _fail(
    work: Work,
    order: int,
    period: int,
    reason: str,
    detail: str,
    amount_minor: int | None = None,
    usage_id: int | None = None,
) -> None:
    orders, periods = work.shard.orders, work.due.periods
    start, part = (int(periods.start_s[period]), PARTS[periods.part[period]]) if period != NONE else (NONE, "")
    payer, number = int(orders.payer_account_id[order]), int(orders.order_id[order])
    work.failures.append(Failure(payer, number, start, part, reason, detail, amount_minor, usage_id))


def _fail_payer(work: Work, row: int, reason: str, detail: str, amount_minor: int | None = None) -> None:
    account = int(work.shard.payers.account_id[row])
    work.failures.append(Failure(account, NONE, NONE, "", reason, detail, amount_minor))


def _too_large(work: Work, net: Sums, tax: Sums) -> Flags:
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


def _hold_floors(work: Work, charged: _Charged, payer: Ints, by_hand: Ints, kept: Flags, hand: Flags) -> None:
    """Leave what prepaid payers' balances do not bear, and say so."""
    payers, periods, manual = work.shard.payers, work.due.periods, work.shard.manual
    has_floor = payers.floor_minor != NO_FLOOR
    if not has_floor.any():
        return
    gross = np.zeros(len(periods.order), np.int64)
    np.add.at(gross, charged.drafts.period, charged.taxed.net_minor + charged.taxed.tax_minor)
    asked = Asked(payer[periods.order], gross, by_hand, charged.own.net_minor + charged.own.tax_minor)
    bears = np.where(has_floor, payers.balance_minor - np.where(has_floor, payers.floor_minor, 0), NEVER)
    for one in hold_floors(periods, manual, asked, bears, kept, hand):
        currency = work.shard.currencies[payers.currency[one.payer]]
        due, left = (f"{format_minor(amount)} {currency}" for amount in (one.amount_minor, one.left_minor))
        if one.order == NONE:
            detail = f"a charge by hand comes to {due}, and the balance bears {left} of it"
            _fail_payer(work, one.payer, "balance_too_low", detail, one.amount_minor)
        else:
            detail = f"{due} are due from then on, and the balance bears {left} of it"
            _fail(work, one.order, one.period, "balance_too_low", detail, one.amount_minor)


def _periods_of(work: Work, drafts: Drafts, payer: Ints, invoice: Ints, kept: Flags) -> PeriodColumns:
    periods, orders = work.due.periods, work.shard.orders
    amount, billed = np.zeros(len(periods.order), np.int64), np.zeros(len(periods.order), np.bool_)
    np.add.at(amount, drafts.period, drafts.amount_minor)
    billed[drafts.period] = True
    reason = np.where(billed, BILLED, np.where(periods.num > 0, NOTHING_TO_BILL, periods.reason)).astype(np.uint8)
    rows = np.flatnonzero(kept)
    return PeriodColumns(
        orders.order_id[periods.order[rows]],
        periods.part[rows],
        periods.start_s[rows],
        periods.end_s[rows],
        reason[rows],
        periods.num[rows],
        periods.den[rows],
        amount[rows],
        np.where(billed, invoice[payer[periods.order]], NONE)[rows],
    )


def _lines_of(work: Work, drafts: Drafts, taxed: Taxed, own: Taxed, invoice: Ints, by_hand: Ints) -> LineColumns:
    """Lines in the order of their invoices; manual lines are the last of theirs."""
    periods, manual = work.due.periods, work.shard.manual
    rank = np.empty(len(periods.order), np.int64)
    # Rows are below 2^24, instants below 2^35, parts below 8.
    rank[np.argsort(_by_id(work)[periods.order] << 38 | periods.start_s << 3 | periods.part, kind="stable")] = (
        np.arange(len(rank))
    )
    by_rank = np.argsort(rank[drafts.period] << 24 | drafts.place << 8 | drafts.part, kind="stable")
    rows = by_rank[invoice[by_rank] != NONE]
    hand = np.flatnonzero(by_hand != NONE)
    period, none, one = drafts.period[rows], np.full(len(hand), NONE), np.ones(len(hand), np.int64)
    columns = {
        "invoice": (invoice[rows], by_hand[hand]),
        "kind": (drafts.kind[rows], none * 0 + MANUAL),
        "order_id": (work.shard.orders.order_id[periods.order[period]], none),
        "manual_line_id": (np.full(len(rows), NONE), manual.manual_line_id[hand]),
        "item": (drafts.item[rows], none * 0),
        "start_s": (periods.from_s[period], manual.day_s[hand]),
        "end_s": (periods.until_s[period], manual.day_s[hand]),
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


def _by_id(work: Work) -> Ints:
    """The place of every order among all of the shard's, by payer and id."""
    orders, live = work.shard.orders, work.shard.live_orders
    place = np.arange(len(orders.order_id))
    if live < len(place):  # settled ones stand behind the others
        place[np.lexsort((orders.order_id, orders.payer_account_id))] = np.arange(len(place))
    return place


def _settled(work: Work, kept: Flags) -> Ints:
    """Orders whose life is over and of which nothing is left to record."""
    orders, periods = work.shard.orders, work.due.periods
    once = work.tariffs.terms.once[orders.terms_id]
    done = (orders.ends_s <= work.due.bound_s) & ~once
    done |= once & ((orders.once_done > 0) | (orders.ends_s <= np.minimum(orders.starts_s, work.due.bound_s)))
    done[periods.order[periods.part == ONCE]] = True
    done[periods.order[~kept]] = False
    done[[one.order for one in work.due.failures]] = False
    done[work.shard.live_orders :] = False  # those are settled
    return orders.order_id[np.flatnonzero(done)]
