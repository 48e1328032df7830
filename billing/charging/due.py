"""What is due: which periods of which orders a run bills, in which part, and which share of each is charged.

Rules. A period is a period of an order's cadence; its *service period* is what of it lies in the order's life. An order
in advance has a part `advance` for its recurring items, due when the service period begins, and one `arrears` for the
rest (or none, where it has neither metered items nor a minimum); other orders have `arrears` for everything, due when
the service period is over; a one-time order has `once`, due when it starts, unless it was cancelled before. Due means
not after the midnight that begins the run's date in the order's zone. Periods missed earlier are due too: from the end
of the last recorded period of the part on. Where the zone's rules moved a boundary that was billed with
(billing.calendar), the next period begins at the billed instant all the same, so that records period time.

The share of a period is what of it the order was active: its life less trial and suspensions. By day, a day counts for
whoever is there at its first instant.

Does not know: prices, usage, what a waived period means to anybody.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from billing.calendar import HORIZON_END_S, HORIZON_START_S, NEVER, boundaries, days_of
from billing.charging.records import (
    ADVANCE,
    ARREARS,
    BILLED,
    NONE,
    NOT_ACTIVE,
    ONCE,
    SUSPENDED,
    TRIAL,
    Orders,
    ShardInput,
    Suspensions,
)
from billing.charging.tariffs import BY_DAY, BY_SECOND, Tariffs
from ratingcore.arrays import Bytes, Ints

Flags = NDArray[np.bool_]

#: A boundary within half a day of a recorded end is the one that was meant.
_HALF_DAY_S: Final = 43_200


@dataclass(frozen=True, slots=True)
class Periods:
    """Periods by (order, start, part). order: row of Orders. from_s, until_s: the service period. number: from 1.

    num, den: the share; reason: why there is none, BILLED where there is one. charge_set: as in Due.charge_sets.
    """

    order: Ints
    part: Bytes
    start_s: Ints
    end_s: Ints
    from_s: Ints
    until_s: Ints
    number: Ints
    num: Ints
    den: Ints
    reason: Bytes
    charge_set: Ints


@dataclass(frozen=True, slots=True)
class OrderFailure:
    """Why an order cannot be billed. period: the one at which that came up, NONE before any."""

    order: int
    period: int
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Due:
    """What a shard bills. charge_sets: numbers of the tariffs' charge sets, as Periods.charge_set counts them.

    By order: bound_s, the midnight of the run's date in its zone; entitlement, a number of the tariffs' entitlements.
    beside: periods that are not billed, but share pools with some that are (pools); None: not looked for yet.
    """

    periods: Periods
    charge_sets: tuple[int, ...]
    bound_s: Ints
    entitlement: Ints
    active: "Activity"
    failures: tuple[OrderFailure, ...]
    beside: Periods | None = None


@dataclass(frozen=True, slots=True)
class Activity:
    """When orders are suspended: rows of ``from_s`` to ``until_s`` that do not overlap within an order.

    ids, by_id: ids of orders ascending, and their rows; first: where an order's suspensions begin, and one more.
    """

    by_id: Ints
    ids: Ints
    first: Ints
    from_s: Ints
    until_s: Ints

    def rows_of(self, order_id: Ints) -> Ints:
        """Rows of Orders with these ids, NONE where there is none."""
        if not len(self.ids):
            return np.full(len(order_id), NONE, np.int64)
        found = np.minimum(np.searchsorted(self.ids, order_id), len(self.ids) - 1)
        return np.where(self.ids[found] == order_id, self.by_id[found], NONE)


def find_due(shard: ShardInput, tariffs: Tariffs) -> Due:
    """Periods due on the shard's date, with their shares.

    Raises:
        ValueError: orders that are not sorted, or with terms the tariffs were not prepared for.
    """
    orders = shard.orders
    _check(orders, tariffs, shard.live_orders)
    active = activity_of(orders, shard.suspensions)
    bound = tariffs.bounds(shard.bill_on)[tariffs.terms.zone[orders.terms_id]]
    entitlement = entitlements_of(shard, tariffs)
    outside = (orders.starts_s < HORIZON_START_S) | (orders.starts_s >= HORIZON_END_S)
    valid = ~outside
    outside[shard.live_orders :], valid[shard.live_orders :] = False, False
    metered = np.array([one.has_metered for one in tariffs.entitlements] or [False])[entitlement]
    order, part, start, end, number = _periods_of(orders, tariffs, bound, metered | (orders.minimum_minor > 0), valid)
    from_s = np.maximum(start, orders.starts_s[order])
    until_s = np.maximum(from_s, np.minimum(end, orders.ends_s[order]))
    num, den, reason = shares_of(orders, tariffs, active, order, start, end)
    once = part == ONCE
    num[once], den[once], reason[once] = 1, 1, BILLED
    # A pause may end before the period does: what is paused all through is decided when the period is over.
    decided = np.flatnonzero((part != ADVANCE) | (reason != SUSPENDED) | (until_s <= bound[order]))
    order, start, end, number = (one[decided] for one in (order, start, end, number))
    from_s, until_s, num, den = (one[decided] for one in (from_s, until_s, num, den))
    part, reason = part[decided], reason[decided]
    charge_sets, charge_set = baskets_of(shard, tariffs, entitlement, order, from_s, number)
    periods = Periods(order, part, start, end, from_s, until_s, number, num, den, reason, charge_set)
    failures = [
        OrderFailure(int(row), NONE, "out_of_horizon", f"it starts at {int(orders.starts_s[row])} (UTC seconds)")
        for row in np.flatnonzero(outside)
    ]
    return Due(
        periods,
        charge_sets,
        bound,
        entitlement,
        active,
        (
            *failures,
            *failing_periods(tariffs, entitlement, charge_sets, periods, tariffs.terms.in_advance[orders.terms_id]),
        ),
    )


def _check(orders: Orders, tariffs: Tariffs, live: int) -> None:
    payer, number = orders.payer_account_id[:live], orders.order_id[:live]
    later = (payer[1:] > payer[:-1]) | ((payer[1:] == payer[:-1]) & (number[1:] > number[:-1]))
    if not later.all():
        raise ValueError(f"orders are sorted by payer and id: row {int(np.flatnonzero(~later)[0]) + 1} is not")
    known = tariffs.terms.known
    if len(orders.terms_id) and not (
        int(orders.terms_id.min()) >= 0 and int(orders.terms_id.max()) < len(known) and known[orders.terms_id].all()
    ):
        raise ValueError("an order has terms that the tariffs were not prepared for")


# ---- periods


def _periods_of(
    orders: Orders, tariffs: Tariffs, bound: Ints, has_rest: Flags, valid: Flags
) -> tuple[Ints, Bytes, Ints, Ints, Ints]:
    """(order, part, start, end, number) of every period due, by (order, start, part)."""
    terms, of = tariffs.terms, orders.terms_id
    recurring = np.flatnonzero(~terms.once[of] & valid)
    in_advance = terms.in_advance[of[recurring]]
    spans = _spans_of(orders, tariffs, bound, recurring)
    advance = np.where(in_advance, np.maximum(spans.last_advance - spans.next_advance + 1, 0), 0)
    rest = ~in_advance | has_rest[recurring]
    arrears = np.where(rest, np.maximum(spans.last_arrears - spans.next_arrears + 1, 0), 0)
    found = [
        _expanded(spans, recurring, spans.next_advance, advance, orders.advance_done_s, ADVANCE),
        _expanded(spans, recurring, spans.next_arrears, arrears, orders.arrears_done_s, ARREARS),
    ]
    begun = (orders.starts_s <= bound) & (orders.ends_s > orders.starts_s)
    once = np.flatnonzero(terms.once[of] & valid & (orders.once_done == 0) & begun)
    at = orders.starts_s[once]
    found.append((once, np.full(len(once), ONCE, np.uint8), at, at, np.ones(len(once), np.int64)))
    order, part, start, end, number = (np.concatenate(columns) for columns in zip(*found, strict=True))
    # Rows are below 2^24, instants below 2^35 (the calendar ends in 2100), parts below 4.
    by_order = np.argsort(order << 37 | start << 2 | part, kind="stable")  # three runs in order: quick to merge
    return order[by_order], part[by_order], start[by_order], end[by_order], number[by_order]


@dataclass(frozen=True, slots=True)
class _Spans:
    """By recurring order: indexes of periods within ``starts``, all cadences' starts one after the other."""

    starts: Ints
    first: Ints
    next_advance: Ints
    last_advance: Ints
    next_arrears: Ints
    last_arrears: Ints


def _spans_of(orders: Orders, tariffs: Tariffs, bound: Ints, rows: Ints) -> _Spans:
    cadence = tariffs.terms.cadence[orders.terms_id[rows]]
    # Cadences are few; NumPy sorts 16 bits by radix.
    by_cadence = np.argsort(cadence.astype(np.int16) if len(tariffs.cadences) < 2**15 else cadence, kind="stable")
    cuts = np.flatnonzero(np.diff(cadence[by_cadence], prepend=-1))
    found = np.zeros((5, len(rows)), np.int64)
    laid: list[Ints] = []
    before = 0
    for first, last in pairwise([*cuts.tolist(), len(rows)]):
        group = by_cadence[first:last]
        starts = boundaries(tariffs.cadences[cadence[group[0]]], HORIZON_START_S, HORIZON_END_S)
        found[:, group] = before + _group_spans(orders, starts, int(bound[rows[group[0]]]), rows[group])
        laid.append(starts)
        before += len(starts)
    return _Spans(np.concatenate(laid) if laid else np.zeros(0, np.int64), *found)


def _group_spans(orders: Orders, starts: Ints, bound: int, rows: Ints) -> Ints:
    """For orders of one cadence: first period of their lives, next and last period due in advance, and in arrears."""
    begins, ends = orders.starts_s[rows], orders.ends_s[rows]
    first = starts.searchsorted(begins, side="right") - 1
    found = np.empty((5, len(rows)), np.int64)
    found[0] = first
    for place, done in ((1, orders.advance_done_s[rows]), (3, orders.arrears_done_s[rows])):
        found[place] = first
        if (done >= 0).any():
            found[place] = np.where(done >= 0, starts.searchsorted(done - _HALF_DAY_S), first)
    lives = ends > begins
    begun = starts.searchsorted(np.minimum(bound, ends - 1), side="right") - 1
    found[2] = np.where(lives & (begins <= bound), begun, -1)
    over = int(starts.searchsorted(bound, side="right")) - 2
    ended = ends <= bound
    last = starts.searchsorted(ends[ended]) - 1
    found[4] = np.where(lives, over, -1)
    found[4, ended] = np.where(lives[ended], last, -1)
    # What must not be due is far below, also behind the cadences laid out before this one.
    found[2, found[2] == -1] = -NEVER
    found[4, found[4] == -1] = -NEVER
    return found


def _expanded(
    spans: _Spans, rows: Ints, begin: Ints, count: Ints, done_s: Ints, part: int
) -> tuple[Ints, Bytes, Ints, Ints, Ints]:
    """The periods of a part: ``count`` from ``begin`` on, of each of these orders."""
    picked = np.flatnonzero(count)
    counts = count[picked]
    which = np.repeat(picked, counts)
    nth = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    period = begin[which] + nth
    order = rows[which]
    start, end = spans.starts[period], spans.starts[period + 1]
    carried = (nth == 0) & (done_s[order] >= 0)
    start = np.where(carried, done_s[order], start)
    return order, np.full(len(which), part, np.uint8), start, end, period - spans.first[which] + 1


# ---- shares


def shares_of(
    orders: Orders, tariffs: Tariffs, active: Activity, order: Ints, start: Ints, end: Ints
) -> tuple[Ints, Ints, Bytes]:
    """(num, den, reason) of periods: the share that is charged, and why nothing is where that is so."""
    low = np.maximum(start, np.maximum(orders.starts_s[order], orders.trial_until_s[order]))
    high = np.maximum(low, np.minimum(end, orders.ends_s[order]))
    proration = tariffs.terms.proration[orders.terms_id[order]]
    zone = tariffs.terms.zone[orders.terms_id[order]]
    seconds = high - low
    lost, out_from, out_until = _suspended(active, order, low, high)
    out_s = np.zeros(len(order), np.int64)
    np.add.at(out_s, lost, out_until - out_from)
    num, den = np.minimum(seconds - out_s, 1), np.ones(len(order), np.int64)
    before = seconds > 0
    by_second = proration == BY_SECOND
    num[by_second], den[by_second] = (seconds - out_s)[by_second], (end - start)[by_second]
    by_day = np.flatnonzero(proration == BY_DAY)
    if len(by_day):
        days = _days(tariffs, zone[by_day], low[by_day], high[by_day])
        before[by_day] = days > 0
        num[by_day], den[by_day] = days, np.maximum(1, _days(tariffs, zone[by_day], start[by_day], end[by_day]))
        among = np.flatnonzero(proration[lost] == BY_DAY)
        np.subtract.at(num, lost[among], _days(tariffs, zone[lost[among]], out_from[among], out_until[among]))
    reason = np.full(len(order), BILLED, np.uint8)
    trial = orders.trial_until_s[order] > np.maximum(start, orders.starts_s[order])
    reason[num == 0] = np.where(before, SUSPENDED, np.where(trial, TRIAL, NOT_ACTIVE))[num == 0]
    return num, np.maximum(den, 1), reason


def _days(tariffs: Tariffs, zone: Ints, low: Ints, high: Ints) -> Ints:
    """Local days of spans, each in its zone."""
    days = np.zeros(len(zone), np.int64)
    for number in np.unique(zone):
        rows = np.flatnonzero(zone == number)
        days[rows] = days_of(low[rows], high[rows], tariffs.zones[number])
    return days


def _suspended(active: Activity, order: Ints, low: Ints, high: Ints) -> tuple[Ints, Ints, Ints]:
    """What suspensions take of [low, high): (row of the period, from, until), none empty."""
    counts = active.first[order + 1] - active.first[order]
    rows = np.repeat(np.arange(len(order)), counts)
    ends = np.cumsum(counts)
    pause = np.arange(len(rows)) + np.repeat(active.first[order] - (ends - counts), counts)
    out_from = np.maximum(active.from_s[pause], low[rows])
    out_until = np.minimum(active.until_s[pause], high[rows])
    kept = np.flatnonzero(out_until > out_from)
    return rows[kept], out_from[kept], out_until[kept]


def activity_of(orders: Orders, suspensions: Suspensions) -> Activity:
    by_id = np.argsort(orders.order_id, kind="stable")
    ids = orders.order_id[by_id]
    empty = Activity(by_id, ids, np.zeros(len(ids) + 1, np.int64), *_apart(suspensions)[1:])
    number, from_s, until_s = _apart(suspensions)
    row = empty.rows_of(number)
    kept = np.flatnonzero(row != NONE)
    kept = kept[np.argsort(row[kept], kind="stable")]
    counts = np.bincount(row[kept], minlength=len(ids))
    return Activity(by_id, ids, np.concatenate([[0], np.cumsum(counts)]), from_s[kept], until_s[kept])


def _apart(suspensions: Suspensions) -> tuple[Ints, Ints, Ints]:
    """Suspensions that do not overlap within an order; those that did are joined."""
    number, from_s, until_s = suspensions.order_id, suspensions.from_s, suspensions.until_s
    if not ((number[1:] == number[:-1]) & (from_s[1:] < until_s[:-1])).any():
        return number, from_s, until_s
    joined: list[list[int]] = []
    for one in sorted(zip(number.tolist(), from_s.tolist(), until_s.tolist(), strict=True)):
        if joined and joined[-1][0] == one[0] and one[1] <= joined[-1][2]:
            joined[-1][2] = max(joined[-1][2], one[2])
        else:
            joined.append(list(one))
    columns = np.array(joined, np.int64).T
    return columns[0], columns[1], columns[2]


# ---- entitlements and charge sets


def entitlements_of(shard: ShardInput, tariffs: Tariffs) -> Ints:
    """The entitlement of every order."""
    orders = shard.orders
    offer = tariffs.terms.offer[orders.terms_id]
    by_hand = orders.price_minor >= 0
    key = (offer * len(shard.buyers) + orders.buyer) * 2 + by_hand
    return _by_distinct(
        key,
        lambda number: tariffs.entitlement(
            number // 2 // len(shard.buyers), *shard.buyers[number // 2 % len(shard.buyers)], bool(number % 2)
        ),
    )


def baskets_of(
    shard: ShardInput, tariffs: Tariffs, entitlement: Ints, order: Ints, at_s: Ints, number: Ints
) -> tuple[tuple[int, ...], Ints]:
    """(numbers of the charge sets there are, by period which of them). Failing entitlements have a charge set without
    items."""
    time, of_period = np.zeros(len(order), np.int64), np.zeros(len(order), np.int64)
    catalogue = np.array([one.offer.catalogue_id for one in tariffs.entitlements] or [0])[entitlement][order]
    for catalogue_id, edges in tariffs.edges.items():
        if len(edges.times):
            rows = np.flatnonzero(catalogue == catalogue_id)
            time[rows] = np.searchsorted(edges.times, at_s[rows], side="right")
            of_period[rows] = np.searchsorted(edges.periods, number[rows], side="left")
    sizes = (len(shard.codes), int(time.max(initial=0)) + 1, int(of_period.max(initial=0)) + 1)
    key = ((entitlement[order] * sizes[0] + shard.orders.codes[order]) * sizes[1] + time) * sizes[2] + of_period

    def charge_set(one: int) -> int:
        one, nth = divmod(one, sizes[2])
        one, when = divmod(one, sizes[1])
        which, codes = divmod(one, sizes[0])
        return tariffs.charge_set(which, shard.codes[codes], when, nth)

    numbers = _by_distinct(key, charge_set)
    used = np.flatnonzero(np.bincount(numbers, minlength=1)) if len(numbers) else np.zeros(0, np.int64)
    places = np.zeros(int(used.max(initial=-1)) + 1, np.int64)
    places[used] = np.arange(len(used))
    return tuple(used.tolist()), places[numbers]


def _by_distinct(key: Ints, number_of: Callable[[int], int]) -> Ints:
    """A number for every key, asked for once for each there is."""
    codes, count = codes_of(key)
    distinct = np.zeros(count, np.int64)
    distinct[codes] = key
    return np.array([number_of(one) for one in distinct.tolist()], np.int64)[codes]


def codes_of(key: Ints) -> tuple[Ints, int]:
    """(numbers from 0 without gaps that are equal and ordered as the keys are, how many), without sorting if it can."""
    if not len(key):
        return np.zeros(0, np.int64), 0
    steps = np.diff(key)
    if (steps >= 0).all():
        codes = np.cumsum(np.append(False, steps != 0))
        return codes, int(codes[-1]) + 1
    low, size = int(key.min()), int(key.max()) - int(key.min()) + 1
    if size > 16 * len(key) + 1_000_000:
        distinct, codes = np.unique(key, return_inverse=True)
        return codes.astype(np.int64), len(distinct)
    seen = np.zeros(size, np.bool_)
    seen[key - low] = True
    numbers = np.cumsum(seen)
    return numbers[key - low] - 1, int(numbers[-1])


def failing_periods(
    tariffs: Tariffs, entitlement: Ints, charge_sets: tuple[int, ...], periods: Periods, in_advance: Flags
) -> list[OrderFailure]:
    """Periods of orders whose entitlement, or whose charge set then, cannot be billed."""
    at_all = np.array([one.failure is not None for one in tariffs.entitlements] or [False])
    ahead = np.array([one.advance_failure is not None for one in tariffs.entitlements] or [False])
    unpriced = np.array([tariffs.charge_sets[one].failure is not None for one in charge_sets] or [False])
    of = entitlement[periods.order]
    ahead_of = ahead[of] & in_advance[periods.order]
    unpriced_of = unpriced[periods.charge_set] if len(periods.charge_set) else np.zeros(0, np.bool_)
    return [
        OrderFailure(
            int(periods.order[period]),
            int(period),
            *_words(tariffs, int(of[period]), charge_sets[periods.charge_set[period]]),
        )
        for period in np.flatnonzero(at_all[of] | ahead_of | unpriced_of)
    ]


def _words(tariffs: Tariffs, entitlement: int, charge_set: int) -> tuple[str, str]:
    one = tariffs.entitlements[entitlement]
    failing = one.failure or tariffs.charge_sets[charge_set].failure or one.advance_failure
    assert failing is not None  # its flag said so
    return failing.reason, failing.detail
