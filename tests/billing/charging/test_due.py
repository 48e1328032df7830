"""What is due of orders and which share of it, worked out by hand."""

import numpy as np
import pytest

from billing.charging.due import find_due
from billing.charging.pools import windows
from billing.charging.records import PARTS, REASONS
from tests.billing.catalogue.catalogues import HEAD, read
from tests.billing.charging.shards import Order, World, at, shard_of

SHOP = read(
    HEAD
    + """\
items: {fee: {unit: piece}, call: {unit: s}, setup: {unit: piece}}
plans: {both: {items: [fee, call]}, line: {items: [fee]}, talk: {items: [call]}}
prices:
  - {item: fee, versions: [{from: 2020-01-01, steps: [flat: {amount: 310}]}]}
  - {item: call, versions: [{from: 2020-01-01, steps: [per_unit: {price: 1, per: 60 s}]}]}
  - {item: setup, versions: [{from: 2020-01-01, steps: [flat: {amount: 100}]}]}
"""
)


def periods(day: str, *orders: Order) -> list[tuple[int, str, int, int, int]]:
    """(order, part, start, end, number) of what is due."""
    world = World(SHOP, list(orders))
    shard, tariffs = shard_of(world, day), world.tariffs()
    found = find_due(shard, tariffs).periods
    columns = (shard.orders.order_id[found.order], found.part, found.start_s, found.end_s, found.number)
    return [
        (order, PARTS[part], start, end, number)
        for order, part, start, end, number in zip(*(one.tolist() for one in columns), strict=True)
    ]


def shares(day: str, *orders: Order) -> list[tuple[int, int, str]]:
    """(num, den, reason) of what is due."""
    world = World(SHOP, list(orders))
    found = find_due(shard_of(world, day), world.tariffs()).periods
    columns = (found.num, found.den, found.reason)
    return [(num, den, REASONS[reason]) for num, den, reason in zip(*(one.tolist() for one in columns), strict=True)]


def month(start: str, end: str) -> tuple[int, int]:
    return at(start), at(end)


def test_arrears_are_due_on_the_day_on_which_the_period_is_over_and_not_before() -> None:
    order = Order(1, "2026-01-01", plan="both")
    assert periods("2026-01-31", order) == []
    assert periods("2026-02-01", order) == [(1, "arrears", *month("2026-01-01", "2026-02-01"), 1)]


def test_an_order_of_the_31_january_keeps_its_day() -> None:
    order = Order(1, "2026-01-31", plan="both", anchor=31)
    assert periods("2026-05-01", order) == [
        (1, "arrears", *month("2026-01-31", "2026-02-28"), 1),
        (1, "arrears", *month("2026-02-28", "2026-03-31"), 2),
        (1, "arrears", *month("2026-03-31", "2026-04-30"), 3),
    ]


def test_periods_follow_the_last_recorded_one() -> None:
    order = Order(1, "2026-01-31", plan="both", anchor=31, arrears_done="2026-03-31")
    assert periods("2026-05-01", order) == [(1, "arrears", *month("2026-03-31", "2026-04-30"), 3)]
    assert periods("2026-04-29", order) == []


def test_a_boundary_that_moved_after_it_was_billed_with_leaves_no_gap() -> None:
    order = Order(1, "2026-01-01", plan="both", arrears_done="2026-02-01 1:00")
    assert periods("2026-03-01", order) == [(1, "arrears", at("2026-02-01 1:00"), at("2026-03-01"), 2)]
    early = Order(1, "2026-01-01", plan="both", arrears_done="2026-01-31 23:00")
    assert periods("2026-03-01", early) == [(1, "arrears", at("2026-01-31 23:00"), at("2026-03-01"), 2)]


def test_what_is_in_advance_is_due_when_it_begins_and_its_usage_when_it_is_over() -> None:
    order = Order(1, "2026-01-10", plan="both", ahead=True)
    assert periods("2026-01-09", order) == []
    assert periods("2026-01-10", order) == [(1, "advance", *month("2026-01-01", "2026-02-01"), 1)]
    assert periods("2026-02-01", order) == [
        (1, "advance", *month("2026-01-01", "2026-02-01"), 1),
        (1, "arrears", *month("2026-01-01", "2026-02-01"), 1),
        (1, "advance", *month("2026-02-01", "2026-03-01"), 2),
    ]


def test_without_metered_items_or_a_minimum_an_order_in_advance_has_no_arrears() -> None:
    assert [one[1] for one in periods("2026-02-01", Order(1, "2026-01-01", plan="line", ahead=True))] == ["advance"] * 2
    least = Order(1, "2026-01-01", plan="line", ahead=True, minimum=1)
    assert [one[1] for one in periods("2026-02-01", least)] == ["advance", "arrears", "advance"]


def test_an_order_that_ends_within_its_period_is_due_when_it_ends() -> None:
    order = Order(1, "2026-01-01", plan="both", ends="2026-01-20")
    assert periods("2026-01-19", order) == []
    assert periods("2026-01-20", order) == [(1, "arrears", *month("2026-01-01", "2026-02-01"), 1)]
    assert periods("2026-06-01", order) == [(1, "arrears", *month("2026-01-01", "2026-02-01"), 1)]


def test_an_order_that_ends_where_a_period_does_has_no_period_behind_it() -> None:
    order = Order(1, "2026-01-01", plan="both", ends="2026-02-01", ahead=True)
    assert [one[1] for one in periods("2026-03-01", order)] == ["advance", "arrears"]


def test_an_order_of_no_time_has_no_period() -> None:
    assert periods("2026-06-01", Order(1, "2026-01-01", plan="both", ends="2026-01-01", ahead=True)) == []
    assert periods("2026-06-01", Order(1, "2026-01-05", plan="both", ends="2026-01-05")) == []


def test_each_zone_has_its_own_midnight() -> None:
    far = Order(1, "2026-01-01", plan="both", zone="America/New_York")
    assert periods("2026-02-01", far) == [
        (1, "arrears", at("2026-01-01", far.zone), at("2026-02-01", far.zone), 1),
    ]


def test_a_one_time_order_is_due_from_the_day_on_which_it_starts_until_it_is_recorded() -> None:
    order = Order(1, "2026-01-10 12:00", item="setup", kind="one_time")
    assert periods("2026-01-10", order) == []
    start = at("2026-01-10 12:00")
    assert periods("2026-01-11", order) == [(1, "once", start, start, 1)]
    assert periods("2026-01-11", Order(1, "2026-01-10", item="setup", kind="one_time", once_done=True)) == []


def test_the_periods_of_a_shard_are_ordered_by_order_start_and_part() -> None:
    rows = periods(
        "2026-03-01",
        Order(5, "2026-01-01", plan="both", account=2, ahead=True),
        Order(9, "2026-01-01", plan="both", account=1, every=("quarter", 1)),
        Order(3, "2026-01-15", plan="both", account=2, every=("week", 2)),
    )
    assert [(one[0], one[1], one[4]) for one in rows] == [
        *((3, "arrears", number) for number in (1, 2, 3)),
        *((5, part, number) for number in (1, 2) for part in ("advance", "arrears")),
        (5, "advance", 3),
    ]


# ---- shares


def test_a_first_period_is_prorated_by_day_by_second_or_not() -> None:
    starts = "2026-01-10 12:00"
    assert shares("2026-02-01", Order(1, starts, plan="both")) == [(21, 31, "")]
    by_second = Order(1, starts, plan="both", proration="second")
    assert shares("2026-02-01", by_second) == [(21 * 86_400 + 43_200, 31 * 86_400, "")]
    assert shares("2026-02-01", Order(1, starts, plan="both", proration="none")) == [(1, 1, "")]


def test_a_trial_is_not_charged() -> None:
    order = Order(1, "2026-01-01", plan="both", trial="2026-02-15")
    assert shares("2026-03-01", order) == [(0, 31, "trial"), (14, 28, "")]
    whole = Order(1, "2026-01-01", plan="both", trial="2026-02-15", proration="none")
    assert shares("2026-03-01", whole) == [(0, 1, "trial"), (1, 1, "")]


def test_suspensions_are_not_charged() -> None:
    order = Order(1, "2026-01-01", plan="both", pauses=[("2026-01-05", "2026-01-08"), ("2026-01-20", "")])
    assert shares("2026-03-01", order) == [(16, 31, ""), (0, 28, "suspended")]
    by_second = Order(1, "2026-01-01", plan="both", proration="second", pauses=[("2026-01-05 6:00", "2026-01-05 7:00")])
    assert shares("2026-02-01", by_second) == [(31 * 86_400 - 3_600, 31 * 86_400, "")]
    none = Order(1, "2026-01-01", plan="both", proration="none", pauses=[("2026-01-01", "2026-02-01 0:01")])
    assert shares("2026-03-01", none) == [(0, 1, "suspended"), (1, 1, "")]


def test_suspensions_that_overlap_are_counted_once() -> None:
    twice = [("2026-01-05", "2026-01-10"), ("2026-01-08", "2026-01-12")]
    assert shares("2026-02-01", Order(1, "2026-01-01", plan="both", pauses=twice)) == [(24, 31, "")]


def test_a_pause_within_a_day_leaves_the_day_to_whoever_was_there_when_it_began() -> None:
    pause = [("2026-01-05 6:00", "2026-01-05 20:00")]
    assert shares("2026-02-01", Order(1, "2026-01-01", plan="both", pauses=pause)) == [(31, 31, "")]


def test_an_order_that_saw_no_day_begin_was_not_active_by_day() -> None:
    order = Order(1, "2026-01-10 8:00", plan="both", ends="2026-01-10 20:00")
    assert shares("2026-02-01", order) == [(0, 31, "not_active")]


def test_a_day_of_the_clocks_change_is_a_day_and_has_its_own_seconds() -> None:
    york = {"plan": "both", "zone": "America/New_York", "starts": "2026-03-08"}
    assert shares("2026-04-01", Order(1, **york)) == [(24, 31, "")]
    (seconds,) = shares("2026-04-01", Order(1, **york, proration="second"))
    assert seconds == (24 * 86_400 - 3_600, 31 * 86_400 - 3_600, "")


# ---- windows


def test_usage_is_asked_for_where_metered_items_are_due_and_once_only() -> None:
    world = World(
        SHOP,
        [
            Order(1, "2026-01-01", plan="both"),
            Order(2, "2026-01-15", plan="talk", anchor=15),
            Order(3, "2026-01-01", plan="line"),
            Order(4, "2026-01-01", plan="line", account=2),
            Order(5, "2026-01-01", plan="talk", account=3, every=("week", 1)),
            Order(6, "2026-02-01", plan="talk", account=4, every=("day", 1)),
            Order(7, "2026-02-02", plan="talk", account=4, every=("day", 1), zone="Asia/Vladivostok"),
        ],
    )
    shard, tariffs = shard_of(world, "2026-02-20"), world.tariffs()
    found = windows(find_due(shard, tariffs), shard, tariffs)
    rows = zip(found.account_id.tolist(), found.from_s.tolist(), found.until_s.tolist(), strict=True)
    assert list(rows) == [
        (1, at("2026-01-01"), at("2026-02-15")),
        (3, at("2026-01-01"), at("2026-02-16")),
        (4, at("2026-02-01"), at("2026-02-20")),
    ]


def test_orders_that_are_not_sorted_or_without_terms_are_refused() -> None:
    world = World(SHOP, [Order(1, "2026-01-01", plan="both"), Order(2, "2026-01-01", plan="both")])
    shard, tariffs = shard_of(world, "2026-02-01"), world.tariffs()
    shard.orders.terms_id[1] = 7
    with pytest.raises(ValueError, match="not prepared for"):
        find_due(shard, tariffs)
    shard.orders.order_id[:] = shard.orders.order_id[::-1].copy()
    with pytest.raises(ValueError, match="row 1"):
        find_due(shard, tariffs)


def test_an_empty_shard_has_nothing_due() -> None:
    world = World(SHOP, [Order(1, "2026-01-01", plan="both", settled=True, ends="2026-01-02")])
    shard, tariffs = shard_of(world, "2026-02-01"), world.tariffs()
    due = find_due(shard, tariffs)
    assert len(due.periods.order) == 0
    assert len(windows(due, shard, tariffs).account_id) == 0
    assert due.periods.start_s.dtype == np.int64
