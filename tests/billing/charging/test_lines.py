"""Bills of the cycle worked out by hand, rule by rule; and that shards may be cut anywhere."""

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.charging.bills import bill_shard
from billing.charging.records import ShardBill
from tests.billing.catalogue.catalogues import HEAD, read
from tests.billing.charging.shards import Event, Order, Payer, World, amounts, at, bill, lines, periods, shard_of

SHOP = read(
    HEAD
    + """\
valid: {from: 2020-01-01, until: 2036-01-01}
taxes:
  vat: {rates: [{from: 2019-01-01, percent: 20}, {from: 2026-01-01, percent: 22}]}
items:
  fee: {unit: piece, tax: vat}
  call: {unit: s, tax: vat}
  sms: {unit: piece, tax: vat}
  data: {unit: GB, decimals: 3, tax: vat}
  abroad: {unit: s, tax: vat}
  care: {tax: vat, percentage_of: [fee]}
  levy: {tax: vat, percentage_of: [fee, call]}
  top: {tax: vat, percentage_of: [levy]}
  cut: {tax: vat, percentage_of: [call]}
  setup: {unit: piece, tax: vat, manual: true}
  odd: {unit: piece, tax: vat, manual: true}
  late: {unit: piece, tax: vat}
pools:
  minutes: {unit: s}
rate_cards:
  world: {unit: s, file: world.csv}
plans:
  line: {items: [fee]}
  both: {items: [fee, call]}
  text: {items: [sms]}
  gigs: {items: [data]}
  world: {items: [abroad]}
  pooled: {items: [fee, call], pools: [{pool: minutes, quantity: 100 s}]}
  cared: {items: [care, fee, call]}
  levied: {items: [top, levy, fee, call]}
  shared: {items: [care, fee, call, cut]}
  later: {items: [late]}
prices:
  - {item: fee, versions: [{from: 2020-01-01, steps: [flat: {amount: 310}]}]}
  - {item: fee, group: staff, versions: [{from: 2020-01-01, steps: [flat: {amount: 31}]}]}
  - {item: fee, customer: "77", versions: [{from: 2020-01-01, steps: [flat: {amount: 62}]}]}
  - {item: fee, currency: EUR, versions: [{from: 2020-01-01, steps: [flat: {amount: 3}]}]}
  - {item: call, versions: [{from: 2020-01-01, steps: [per_unit: {price: 1.20, per: 60 s}]}]}
  - item: call
    plan: pooled
    versions: [{from: 2020-01-01, steps: [allowance: {pool: minutes}, per_unit: {price: 0.60, per: 60 s}]}]
  - {item: sms, versions: [{from: 2020-01-01, tax: outside, steps: [per_unit: {price: 1}]}]}
  - item: data
    versions: [{from: 2020-01-01, steps: [per_unit: {price: 10, per: 1 GB}, minimum_commitment: {minimum: 5}]}]
  - {item: abroad, versions: [{from: 2020-01-01, steps: [rate_card: {card: world}]}]}
  - {item: care, versions: [{from: 2020-01-01, steps: [percentage: {percent: 10, fixed: 1}]}]}
  - {item: levy, versions: [{from: 2020-01-01, steps: [percentage: {percent: 5}]}]}
  - {item: top, versions: [{from: 2020-01-01, steps: [percentage: {percent: 50}]}]}
  - {item: cut, versions: [{from: 2020-01-01, steps: [percentage: {percent: 2}]}]}
  - {item: setup, versions: [{from: 2020-01-01, tax: outside, steps: [flat: {amount: 100}]}]}
  - {item: late, versions: [{from: 2026-02-10, steps: [flat: {amount: 1}]}]}
promotions:
  - {promotion: half, code: HALF, from: 2020-01-01, items: [fee], percent: 50, periods: 2}
  - {promotion: gift, code: GIFT, from: 2020-01-01, items: [sms], free_units: 3}
  - {promotion: ten, code: TEN, from: 2025-12-01, until: 2026-01-01, items: [call], amount: 10}
""",
    world_csv="prefix,price\n7,1.00\n49,3.00\n",
)
MINUTE = 60_000_000


def shop(*orders: Order, **more) -> World:
    return World(SHOP, list(orders), **more)


def taxes(found: ShardBill) -> list[tuple[int, bool, int, int]]:
    """(ppm, inside, net, tax) of every line."""
    one = found.lines
    columns = (one.tax_ppm, one.inside, one.net_minor, one.tax_minor)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def reasons(found: ShardBill) -> list[tuple[int, int, str, str]]:
    return [(one.payer_account_id, one.order_id, one.part, one.reason) for one in found.failures]


# ---- recurring charges


def test_a_fee_is_charged_for_the_part_of_the_period_in_which_the_order_was_active() -> None:
    found = bill(shop(Order(1, "2026-01-10", plan="line")), "2026-02-01")
    assert lines(found) == [(1, "recurring", "fee", 1, 22_000)]  # 310.00 * 22 / 31
    assert taxes(found) == [(220_000, True, 18_033, 3_967)]
    assert periods(found) == [(1, "arrears", at("2026-01-01"), "", 22, 31, 22_000)]
    assert (found.lines.start_s.tolist(), found.lines.end_s.tolist()) == ([at("2026-01-10")], [at("2026-02-01")])
    assert found.invoices.total_minor.tolist() == [22_000]


def test_a_fee_by_second_is_rounded_once() -> None:
    order = Order(1, "2026-01-10 7:00", plan="line", proration="second", quantity=3)
    # 3 * 310.00 * (21 days 17 hours) / 31 days = 651.25
    assert lines(bill(shop(order), "2026-02-01")) == [(1, "recurring", "fee", 3, 65_125)]


def test_quantities_and_prices_beyond_64_bits_are_exact() -> None:
    order = Order(1, "2026-01-10 0:01", item="odd", quantity=999_999_999, price=100_001, proration="second")
    # 999999999 * 100001 * 1900740 s / 2678400 s = 70966282716083.96...
    assert amounts(bill(shop(order), "2026-02-01")) == [(999_999_999 * 100_001 * 1_900_740 * 2 // 2_678_400 + 1) // 2]


def test_several_missed_periods_are_billed_at_once_oldest_first() -> None:
    found = bill(shop(Order(1, "2025-12-31", plan="line", anchor=31)), "2026-04-01")
    assert periods(found) == [
        (1, "arrears", at("2025-12-31"), "", 31, 31, 31_000),
        (1, "arrears", at("2026-01-31"), "", 28, 28, 31_000),
        (1, "arrears", at("2026-02-28"), "", 31, 31, 31_000),
    ]
    # The price is that of the beginning: 20 % VAT for the period that began in December.
    assert [one[0] for one in taxes(found)] == [200_000, 220_000, 220_000]
    assert found.invoices.total_minor.tolist() == [93_000]


def test_the_buyer_decides_the_price() -> None:
    orders = [
        Order(1, "2026-01-01", plan="line"),
        Order(2, "2026-01-01", plan="line", group="staff"),
        Order(3, "2026-01-01", plan="line", customer="77", group="guests"),
        Order(4, "2026-01-01", plan="line", customer="78"),
    ]
    assert amounts(bill(shop(*orders), "2026-02-01")) == [31_000, 3_100, 6_200, 31_000]


def test_a_part_without_a_line_is_waived_with_its_reason() -> None:
    orders = [
        Order(1, "2026-01-01", plan="line", trial="2026-03-01"),
        Order(2, "2026-01-01", plan="line", pauses=[("2025-12-01", "2026-02-01")]),
        Order(3, "2026-01-10 1:00", plan="line", ends="2026-01-10 2:00"),
        Order(4, "2026-01-01", plan="text"),
    ]
    found = bill(shop(*orders), "2026-02-01")
    assert [one[3:] for one in periods(found)] == [
        ("trial", 0, 31, 0),
        ("suspended", 0, 31, 0),
        ("not_active", 0, 31, 0),
        ("nothing_to_bill", 31, 31, 0),
    ]
    assert len(found.invoices.account_id) == 0
    assert found.settled_order_ids.tolist() == [3]


def test_a_period_in_advance_that_is_paused_all_through_waits_until_the_pause_ends_or_the_period_is_over() -> None:
    def billed(until: str, on: str) -> list[Any]:
        order = Order(1, "2026-02-01", plan="line", ahead=True, pauses=[("2026-02-01", until)])
        return periods(bill(shop(order), on))

    assert billed("", "2026-02-01") == []
    assert [one[3:6] for one in billed("2026-02-03", "2026-02-04")] == [("", 26, 28)]
    assert [one[3:6] for one in billed("", "2026-03-01")] == [("suspended", 0, 28)]


def test_usage_in_a_suspended_period_is_billed_all_the_same() -> None:
    order = Order(1, "2026-01-01", plan="both", pauses=[("2025-12-01", "2026-03-01")])
    found = bill(shop(order, events=[Event(1, "call", "2026-01-05", MINUTE)]), "2026-02-01")
    assert lines(found) == [(1, "usage", "call", 60, 120)]
    assert periods(found) == [(1, "arrears", at("2026-01-01"), "", 0, 31, 120)]


# ---- prices of an order's own, and what is bought once


def test_an_order_may_have_its_own_price_with_the_tax_of_the_list() -> None:
    found = bill(shop(Order(1, "2026-01-10", item="setup", price=3_100, quantity=2)), "2026-02-01")
    assert lines(found) == [(1, "recurring", "setup", 2, 4_400)]
    assert taxes(found) == [(220_000, False, 4_400, 968)]


def test_an_item_without_a_price_takes_the_tax_of_its_class_inside() -> None:
    found = bill(shop(Order(1, "2025-12-01", item="odd", price=12_000)), "2026-01-01")
    assert taxes(found) == [(200_000, True, 10_000, 2_000)]


def test_a_one_time_order_is_charged_once_and_settled() -> None:
    order = Order(1, "2026-01-10", item="setup", kind="one_time", quantity=3)
    found = bill(shop(order), "2026-01-10")
    assert lines(found) == [(1, "one_time", "setup", 3, 30_000)]
    assert periods(found) == [(1, "once", at("2026-01-10"), "", 1, 1, 30_000)]
    assert found.settled_order_ids.tolist() == [1]
    order.once_done = True
    again = bill(shop(order), "2026-01-11")
    assert (lines(again), again.settled_order_ids.tolist()) == ([], [1])


def test_a_one_time_order_of_a_metered_item_is_one_event_of_whole_units() -> None:
    found = bill(shop(Order(1, "2026-01-10", item="data", kind="one_time", quantity=3)), "2026-01-10")
    assert lines(found) == [(1, "one_time", "data", 3_000, 3_000)]


# ---- in advance


def test_what_is_in_advance_is_followed_by_its_usage_in_arrears() -> None:
    order = Order(1, "2026-01-01", plan="both", ahead=True, advance_done="2026-02-01")
    found = bill(shop(order, events=[Event(1, "call", "2026-01-05", MINUTE)]), "2026-02-01")
    assert lines(found) == [(1, "usage", "call", 60, 120), (1, "recurring", "fee", 1, 31_000)]
    assert periods(found) == [
        (1, "arrears", at("2026-01-01"), "", 31, 31, 120),
        (1, "advance", at("2026-02-01"), "", 28, 28, 31_000),
    ]


BILLED = (1, "2026-01-01", "2026-02-01", 31, 31, "fee", 31_000, 220_000, True, 0)


def test_an_order_that_ended_within_what_was_paid_in_advance_gets_the_rest_back() -> None:
    order = Order(1, "2026-01-01", plan="line", ahead=True, advance_done="2026-02-01", ends="2026-01-11")
    found = bill(shop(order, adjustments=[BILLED]), "2026-01-11")
    assert lines(found) == [(1, "adjustment", "fee", 1, -21_000)]
    assert taxes(found) == [(220_000, True, -17_213, -3_787)]
    assert periods(found) == [(1, "adjustment", at("2026-01-01"), "", 10, 31, -21_000)]
    assert found.settled_order_ids.tolist() == [1]
    assert (found.lines.start_s.tolist(), found.lines.end_s.tolist()) == ([at("2026-01-01")], [at("2026-01-11")])
    assert lines(bill(shop(order, adjustments=[BILLED]), "2026-01-10")) == []


def test_a_suspension_is_credited_when_the_period_is_over() -> None:
    order = Order(
        1, "2026-01-01", plan="line", ahead=True, advance_done="2026-03-01", pauses=[("2026-01-05", "2026-01-08")]
    )
    assert lines(bill(shop(order, adjustments=[BILLED]), "2026-01-31")) == []
    found = bill(shop(order, adjustments=[BILLED]), "2026-02-01")
    assert periods(found) == [(1, "adjustment", at("2026-01-01"), "", 28, 31, -3_000)]
    assert found.settled_order_ids.tolist() == []


def test_nothing_is_recorded_where_the_share_is_as_billed() -> None:
    order = Order(1, "2026-01-01", plan="line", ahead=True, advance_done="2026-03-01")
    assert periods(bill(shop(order, adjustments=[BILLED]), "2026-02-01")) == []


@pytest.mark.parametrize(
    ("amount", "credited", "adjusted"),
    [
        (31_000, 10_000, -21_000),
        (31_000, 10_001, -20_999),
        (31_000, 31_000, 0),
        (-31_000, -10_000, 21_000),
        (-31_000, -10_001, 20_999),
        (-31_000, -31_000, 0),
    ],
)
def test_a_adjustment_gives_back_at_most_what_was_not_credited(amount: int, credited: int, adjusted: int) -> None:
    order = Order(1, "2026-01-01", plan="line", ahead=True, advance_done="2026-02-01", ends="2026-01-11")
    found = bill(shop(order, adjustments=[(*BILLED[:6], amount, *BILLED[7:9], credited)]), "2026-01-11")
    assert amounts(found) == [adjusted]
    assert periods(found) == [(1, "adjustment", at("2026-01-01"), "", 10, 31, adjusted)]


def test_percentages_of_what_is_used_are_not_trued_up() -> None:
    order = Order(1, "2026-01-01", plan="shared", ahead=True, advance_done="2026-02-01", ends="2026-01-11")
    rows = [
        (*BILLED[:5], item, amount, *BILLED[7:]) for item, amount in (("care", 3_200), ("fee", 31_000), ("cut", 99))
    ]
    found = bill(shop(order, adjustments=rows), "2026-01-11")
    assert [(one[1], one[6]) for one in periods(found)] == [("arrears", 0), ("adjustment", -21_000 - 2_168)]


def test_the_minimum_sees_the_adjustment_of_what_was_billed_in_advance() -> None:
    order = Order(
        1, "2026-01-01", plan="line", minimum=62_000, ahead=True, advance_done="2026-02-01", ends="2026-01-11"
    )
    found = bill(shop(order, adjustments=[BILLED], advances=[(1, "2026-01-01", 31_000)]), "2026-01-11")
    assert sorted(amounts(found)) == [-21_000, 20_000 - 10_000]


def test_a_suspension_lifted_after_the_bill_is_charged_in_the_adjustment() -> None:
    partly = (1, "2026-01-01", "2026-02-01", 10, 31, "fee", 10_000, 220_000, True, 10_000)
    order = Order(1, "2026-01-01", plan="line", ahead=True, advance_done="2026-03-01")
    assert periods(bill(shop(order, adjustments=[partly]), "2026-02-01")) == [
        (1, "adjustment", at("2026-01-01"), "", 31, 31, 21_000)
    ]


# ---- usage


def test_a_line_of_usage_falls_into_parts_where_the_tax_changes() -> None:
    order = Order(1, "2025-12-15", plan="both", anchor=15)
    events = [Event(1, "call", "2025-12-20", 61_000_000), Event(2, "call", "2026-01-05", 30_000_000)]
    found = bill(shop(order, events=events), "2026-01-15")
    # 61 s: 1.22; 91 s in all: 1.82, so the second is 0.60
    assert lines(found)[1:] == [(1, "usage", "call", 61, 122), (1, "usage", "call", 30, 60)]
    assert taxes(found)[1:] == [(200_000, True, 102, 20), (220_000, True, 49, 11)]


def test_promotions_are_shared_among_the_parts_by_their_sums() -> None:
    order = Order(1, "2025-12-15", plan="both", anchor=15, codes=("TEN",))
    events = [Event(1, "call", "2025-12-20", 20 * MINUTE), Event(2, "call", "2026-01-05", 10 * MINUTE)]
    found = bill(shop(order, events=events), "2026-01-15")
    # 24.00 and 12.00 less 10.00, two thirds and a third of it
    assert amounts(found)[1:] == [2_400 - 667, 1_200 - 333]
    assert found.lines.discount_minor.tolist()[1:] == [667, 333]


def test_parts_are_in_the_order_of_their_first_event_where_a_tax_comes_back() -> None:
    back = read(
        HEAD
        + """\
taxes: {t: {rates: [{from: 2020-01-01, percent: 0}, {from: 2026-01-10, percent: 10}, {from: 2026-01-20, percent: 0}]}}
items: {use: {unit: piece, tax: t}}
prices: [{item: use, versions: [{from: 2020-01-01, steps: [per_unit: {price: 1}]}]}]
promotions: [{promotion: off, from: 2020-01-01, amount: 0.01}]
"""
    )
    events = [Event(1, "use", "2026-01-25", 1_000_000), Event(2, "use", "2026-01-15", 1_000_000)]
    found = bill(World(back, [Order(1, "2026-01-01", item="use")], events), "2026-02-01")
    assert [(one[0], amount) for one, amount in zip(taxes(found), amounts(found), strict=True)] == [
        (100_000, 100),
        (0, 100),
    ]
    assert found.lines.discount_minor.tolist() == [1, 1]  # half a kopeck each
    early = Event(3, "use", "2026-01-05", 1_000_000)
    again = bill(World(back, [Order(1, "2026-01-01", item="use")], [*events, early]), "2026-02-01")
    assert [one[0] for one in taxes(again)] == [0, 100_000]


def test_an_event_is_billed_in_the_period_in_which_it_happened_whenever_it_came() -> None:
    order = Order(1, "2025-12-01", plan="both")
    found = bill(shop(order, events=[Event(1, "call", "2025-12-30", MINUTE, counts="2026-01-01")]), "2026-02-01")
    assert (lines(found)[1], taxes(found)[1][0]) == ((1, "usage", "call", 60, 120), 200_000)
    assert [one[1] for one in lines(found)] == ["recurring", "usage", "recurring"]


def test_an_event_of_a_billed_period_is_none_of_the_next_ones() -> None:
    order = Order(1, "2025-11-01", plan="both", arrears_done="2026-01-01")
    found = bill(shop(order, events=[Event(1, "call", "2025-12-30", MINUTE, counts="2026-01-01")]), "2026-02-01")
    assert [one[1] for one in lines(found)] == ["recurring"]


def test_an_event_belongs_to_the_lowest_order_that_covers_it_whatever_is_due() -> None:
    orders = [
        Order(2, "2026-01-01", plan="both", every=("quarter", 1)),
        Order(3, "2026-01-01", plan="both"),
        Order(4, "2026-01-01", plan="line"),
    ]
    world = shop(*orders, events=[Event(1, "call", "2026-01-05", MINUTE)])
    assert [one[1] for one in lines(bill(world, "2026-02-01"))] == ["recurring", "recurring"]
    assert [one for one in lines(bill(world, "2026-04-01")) if one[1] == "usage"] == [(2, "usage", "call", 60, 120)]


def test_an_order_that_is_settled_keeps_its_usage() -> None:
    gone = Order(1, "2025-01-01", plan="both", ends="2026-01-10", settled=True)
    events = [Event(1, "call", "2026-01-05", MINUTE), Event(2, "call", "2026-01-10", 2 * MINUTE)]
    found = bill(shop(gone, Order(2, "2026-01-01", plan="both"), events=events), "2026-02-01")
    assert lines(found)[1] == (2, "usage", "call", 120, 240)


def test_usage_of_an_item_that_is_charged_for_time_costs_nothing_more() -> None:
    found = bill(
        shop(Order(1, "2026-01-01", plan="both"), events=[Event(1, "fee", "2026-01-05", 1_000_000)]), "2026-02-01"
    )
    assert (lines(found), found.counts.events) == ([(1, "recurring", "fee", 1, 31_000)], 0)


def test_a_minimum_of_the_price_is_charged_without_usage() -> None:
    assert lines(bill(shop(Order(1, "2026-01-01", plan="gigs")), "2026-02-01")) == [(1, "usage", "data", 0, 500)]
    used = shop(Order(1, "2026-01-01", plan="gigs"), events=[Event(1, "data", "2026-01-05", 200_000)])
    assert lines(bill(used, "2026-02-01")) == [(1, "usage", "data", 200, 500)]


def test_a_pool_is_shared_by_the_orders_of_an_account_with_the_same_period() -> None:
    orders = [
        Order(1, "2026-01-01", plan="pooled"),
        Order(2, "2026-01-01", plan="pooled", quantity=2, ends="2026-01-20"),
        Order(3, "2026-01-01", plan="pooled", account=2),
    ]
    events = [
        Event(1, "call", "2026-01-05", 250_000_000),
        Event(2, "call", "2026-01-06", 110_000_000),
        Event(3, "call", "2026-01-05", 110_000_000, account=2),
    ]
    found = bill(shop(*orders, events=events), "2026-02-01")
    # 300 s for account 1: 60 s of the second call are beyond; 10 s for account 2
    assert [one for one in lines(found) if one[1] == "usage"] == [
        (1, "usage", "call", 360, 60),
        (3, "usage", "call", 110, 10),
    ]


def test_an_order_with_another_period_does_not_share_the_pool() -> None:
    orders = [Order(1, "2026-01-01", plan="pooled"), Order(2, "2026-01-01", plan="pooled", every=("month", 2))]
    found = bill(shop(*orders, events=[Event(1, "call", "2026-01-05", 160_000_000)]), "2026-03-01")
    assert [one for one in lines(found) if one[1] == "usage"] == [(1, "usage", "call", 160, 60)]


def test_free_units_come_off_the_quantity() -> None:
    order = Order(1, "2026-01-01", plan="text", codes=("GIFT",))
    found = bill(shop(order, events=[Event(1, "sms", "2026-01-05", 5_000_000)]), "2026-02-01")
    assert lines(found) == [(1, "usage", "sms", 5, 200)]
    assert found.invoices.total_minor.tolist() == [244]


def test_calls_are_rated_by_their_destination() -> None:
    events = [
        Event(1, "abroad", "2026-01-05", 60_000_000, to="4930"),
        Event(2, "abroad", "2026-01-06", 60_000_000, to="7901"),
    ]
    found = bill(shop(Order(1, "2026-01-01", plan="world"), events=events), "2026-02-01")
    assert lines(found) == [(1, "usage", "abroad", 120, 24_000)]


# ---- promotions, percentages, minimums


def test_a_promotion_of_two_periods_ends_with_the_second() -> None:
    found = bill(shop(Order(1, "2026-01-10", plan="line", codes=("HALF",))), "2026-04-01")
    assert amounts(found) == [11_000, 15_500, 31_000]
    assert found.lines.discount_minor.tolist() == [11_000, 15_500, 0]


def test_a_percentage_is_taken_of_the_rounded_lines_of_its_part() -> None:
    found = bill(shop(Order(1, "2026-01-10", plan="cared", ahead=True)), "2026-01-10")
    assert lines(found) == [(1, "recurring", "fee", 1, 22_000), (1, "percentage", "care", 22_000, 2_300)]


def test_percentages_of_percentages_come_last() -> None:
    world = shop(Order(1, "2026-01-01", plan="levied"), events=[Event(1, "call", "2026-01-05", 50 * MINUTE)])
    assert lines(bill(world, "2026-02-01")) == [
        (1, "recurring", "fee", 1, 31_000),
        (1, "usage", "call", 3_000, 6_000),
        (1, "percentage", "levy", 37_000, 1_850),
        (1, "percentage", "top", 1_850, 925),
    ]


def test_a_percentage_of_recurring_and_metered_items_cannot_be_in_advance() -> None:
    found = bill(shop(Order(1, "2026-01-01", plan="levied", ahead=True)), "2026-01-01")
    assert reasons(found) == [(1, 1, "advance", "mixed_percentage")]


def test_a_suspended_recurring_percentage_is_not_made() -> None:
    order = Order(1, "2026-01-01", plan="cared", ahead=True, pauses=[("2025-12-01", "2026-03-01")])
    assert periods(bill(shop(order), "2026-01-01")) == []
    found = bill(shop(order), "2026-02-01")
    assert lines(found) == []
    assert [(one[1], one[3]) for one in periods(found)] == [("advance", "suspended"), ("arrears", "suspended")]


def test_what_is_missing_from_the_minimum_is_charged_in_arrears() -> None:
    events = [Event(1, "call", "2026-01-20", 5 * MINUTE)]
    found = bill(shop(Order(1, "2026-01-10", plan="both", minimum=62_000), events=events), "2026-02-01")
    # 620.00 * 22 / 31 = 440.00, of which 220.00 and 6.00 are there
    assert lines(found)[2] == (1, "minimum", "", 1, 21_400)
    assert taxes(found)[2][:2] == (220_000, True)
    assert periods(found) == [(1, "arrears", at("2026-01-01"), "", 22, 31, 44_000)]


def test_the_minimum_counts_what_was_billed_in_advance() -> None:
    order = Order(1, "2026-01-01", plan="line", minimum=40_000, ahead=True, advance_done="2026-02-01")
    found = bill(shop(order, advances=[(1, "2026-01-01", 31_000)]), "2026-02-01")
    assert lines(found) == [(1, "minimum", "", 1, 9_000), (1, "recurring", "fee", 1, 31_000)]
    late = Order(1, "2026-01-01", plan="line", minimum=40_000, ahead=True)
    assert amounts(bill(shop(late), "2026-02-01")) == [31_000, 9_000, 31_000]


# ---- invoices


def test_lines_of_people_come_last_and_alone_make_an_invoice() -> None:
    world = shop(
        Order(5, "2026-01-01", plan="line"),
        manual=[(9, 1, -500, 220_000, True), (8, 2, 100, 0, False), (7, 1, 1_000, 200_000, False)],
    )
    found = bill(world, "2026-02-01")
    assert [one[:2] + one[4:] for one in lines(found)] == [
        (5, "recurring", 31_000),
        (-1, "manual", 1_000),
        (-1, "manual", -500),
        (-1, "manual", 100),
    ]
    assert found.lines.invoice.tolist() == [0, 0, 0, 1]
    assert found.lines.line.tolist() == [1, 2, 3, 1]
    assert found.lines.manual_line_id.tolist() == [-1, 7, 9, 8]
    assert found.invoices.total_minor.tolist() == [31_000 + 1_200 - 500, 100]
    assert sorted(zip(found.manual.manual_line_id.tolist(), found.manual.invoice.tolist(), strict=True)) == [
        (7, 0),
        (8, 1),
        (9, 0),
    ]


def test_a_parent_pays_for_the_accounts_of_its_children() -> None:
    orders = [
        Order(1, "2026-01-01", plan="both", account=3, payer=9),
        Order(2, "2026-01-01", plan="both", account=2, payer=9),
    ]
    events = [Event(1, "call", "2026-01-05", MINUTE, account=3), Event(2, "call", "2026-01-05", 2 * MINUTE, account=2)]
    found = bill(shop(*orders, events=events), "2026-02-01")
    assert found.invoices.account_id.tolist() == [9]
    assert amounts(found) == [31_000, 120, 31_000, 240]


def test_an_order_that_is_over_is_settled_when_all_of_it_is_billed() -> None:
    orders = [Order(1, "2026-01-01", plan="line", ends="2026-03-05"), Order(2, "2026-01-01", plan="line")]
    assert bill(shop(*orders), "2026-03-04").settled_order_ids.tolist() == []
    assert bill(shop(*orders), "2026-03-05").settled_order_ids.tolist() == [1]


# ---- failures


def test_a_fault_of_an_order_fails_that_order_and_no_other_of_its_payer() -> None:
    orders = [
        Order(1, "2026-01-01", plan="line"),
        Order(2, "2026-01-01", plan="gone"),
        Order(3, "2026-01-01", plan="line", account=2),
    ]
    found = bill(shop(*orders, manual=[(7, 1, 100, 0, True)]), "2026-02-01")
    assert reasons(found) == [(1, 2, "arrears", "unknown_plan")]
    assert [one[0] for one in periods(found)] == [1, 3]
    assert found.invoices.account_id.tolist() == [1, 2]
    assert found.manual.manual_line_id.tolist() == [7]
    assert [one.start_s for one in found.failures] == [at("2026-01-01")]


def test_a_period_with_a_fault_holds_back_what_follows_it_and_nothing_before() -> None:
    events = [Event(1, "call", "2026-01-05", MINUTE), Event(2, "call", "2026-02-05", 1)]
    found = bill(shop(Order(1, "2026-01-01", plan="both", ends="2026-04-01"), events=events), "2026-04-01")
    assert reasons(found) == [(1, 1, "arrears", "bad_quantity")]
    assert [one[2] for one in periods(found)] == [at("2026-01-01")]
    assert found.settled_order_ids.tolist() == []


def test_an_advance_charge_is_billed_beside_usage_that_cannot_be() -> None:
    events = [Event(2, "call", "2026-01-05", 1)]
    found = bill(shop(Order(1, "2026-01-01", plan="both", ahead=True), events=events), "2026-02-01")
    assert reasons(found) == [(1, 1, "arrears", "bad_quantity")]
    assert [one[1:3] for one in periods(found)] == [("advance", at("2026-01-01")), ("advance", at("2026-02-01"))]


@pytest.mark.parametrize(
    ("event", "reason", "words"),
    [
        (
            Event(41, "call", "2026-01-05", 1),
            "bad_quantity",
            "event 41 of 2026-01-04 21:00:00Z: item call is in no whole steps",
        ),
        (
            Event(42, "abroad", "2026-01-05", MINUTE, to="33"),
            "no_rate",
            "event 42 of 2026-01-04 21:00:00Z to 33: item abroad cannot be rated",
        ),
        (Event(43, "abroad", "2026-01-05", MINUTE, to="x"), "bad_destination", "event 43"),
        (Event(44, "call", "2026-01-05", MINUTE, duration_s=10**8), "bad_duration", "event 44"),
    ],
)
def test_usage_that_cannot_be_rated_names_the_event(event, reason, words) -> None:
    orders = [Order(1, "2026-01-01", plan="world"), Order(2, "2026-01-01", plan="both")]
    found = bill(shop(*orders, events=[event]), "2026-02-01")
    assert [one.reason for one in found.failures] == [reason]
    assert found.failures[0].detail.startswith(words)
    assert {one[0] for one in lines(found)} == {2} - {found.failures[0].order_id}  # order 1 has no fee


def test_two_bad_events_of_a_period_are_one_failure() -> None:
    events = [Event(1, "call", "2026-01-05", 1), Event(2, "call", "2026-01-06", 2)]
    found = bill(shop(Order(1, "2026-01-01", plan="both"), events=events), "2026-02-01")
    assert [one.detail for one in found.failures] == [
        "event 1 of 2026-01-04 21:00:00Z: item call is in no whole steps (and 1 more events)"
    ]


def test_prices_that_are_not_there_are_failures() -> None:
    orders = [
        Order(1, "2026-02-01", plan="later", account=1),
        Order(2, "2026-03-01", plan="later", account=2),
        Order(3, "2035-12-01", plan="line", account=3, every=("day", 20)),
        Order(4, "2026-02-01", item="fee", price=1, account=4),
        Order(5, "2026-02-01", item="nothing", account=5),
    ]
    found = bill(shop(*orders[:2], *orders[3:]), "2026-04-01")
    assert [one[:2] + one[3:] for one in reasons(found)] == [
        (1, 1, "no_price"),
        *((4, 4, "price_not_manual") for _ in range(2)),
        *((5, 5, "unknown_item") for _ in range(2)),
    ]
    assert found.invoices.account_id.tolist() == [2]
    outside = bill(shop(orders[2]), "2036-04-01")
    assert {one[3] for one in reasons(outside)} == {"out_of_horizon"}


def test_usage_of_an_item_without_a_price_for_the_buyer_is_a_failure() -> None:
    order = Order(1, "2026-01-01", plan="both", currency="EUR")
    payers = [Payer(1, currency="EUR")]
    assert amounts(bill(shop(order, payers=payers), "2026-02-01")) == [300]
    found = bill(shop(order, payers=payers, events=[Event(5, "call", "2026-01-05", MINUTE)]), "2026-02-01")
    assert reasons(found) == [(1, 1, "arrears", "no_price")]


def test_an_order_in_another_currency_than_the_account_is_a_failure() -> None:
    found = bill(shop(Order(1, "2026-01-01", plan="line", currency="EUR")), "2026-02-01")
    assert reasons(found) == [(1, 1, "", "other_currency")]


def test_who_pays_in_advance_must_have_the_money() -> None:
    for balance, failed in ((31_000, []), (30_999, [(1, 1, "arrears", "balance_too_low")])):
        world = shop(Order(1, "2026-01-01", plan="line"), payers=[Payer(1, balance=balance, floor=0)])
        found = bill(world, "2026-02-01")
        assert reasons(found) == failed
        assert [one.detail for one in found.failures] == [
            "310.00 RUB are due from then on, and the balance bears 309.99 RUB of it" for _ in failed
        ]


def test_a_balance_bears_the_oldest_periods_first() -> None:
    world = shop(Order(1, "2026-01-01", plan="line"), payers=[Payer(1, balance=61_999, floor=0)])
    found = bill(world, "2026-05-01")
    assert [one[2] for one in periods(found)] == [at("2026-01-01")]
    assert found.invoices.total_minor.tolist() == [31_000]
    (failure,) = found.failures
    assert (failure.start_s, failure.amount_minor) == (at("2026-02-01"), 3 * 31_000)
    assert found.settled_order_ids.tolist() == []


def test_an_order_that_a_balance_does_not_bear_keeps_no_other_back() -> None:
    orders = [Order(1, "2026-01-01", plan="line", quantity=5), Order(2, "2026-01-02", plan="line", proration="none")]
    manual = [(7, 1, -100, 0, True), (8, 1, 50, 0, True), (9, 1, 40_000, 0, True)]
    found = bill(shop(*orders, payers=[Payer(1, balance=31_000, floor=0)], manual=manual), "2026-02-01")
    assert [one[0] for one in periods(found)] == [2]
    assert found.manual.manual_line_id.tolist() == [7, 8]
    assert found.invoices.total_minor.tolist() == [31_000 - 100 + 50]
    assert reasons(found) == [(1, -1, "", "balance_too_low"), (1, 1, "arrears", "balance_too_low")]


def test_what_goes_back_is_borne_before_what_is_charged() -> None:
    orders = [
        Order(1, "2026-01-01", plan="line", ahead=True, ends="2026-01-11", advance_done="2026-02-01"),
        Order(2, "2026-01-11", plan="line", ahead=True, proration="none"),
    ]
    adjustment = (1, "2026-01-01", "2026-02-01", 31, 31, "line", 31_000, 220_000, True, 0)
    world = shop(*orders, payers=[Payer(1, balance=10_000, floor=0)], adjustments=[adjustment])
    found = bill(world, "2026-01-20")
    assert found.failures == ()
    assert found.invoices.total_minor.tolist() == [31_000 - 21_000]


def test_sums_out_of_range_are_failures() -> None:
    orders = [
        Order(1, "2026-01-01", item="odd", price=10**12, quantity=1_001, account=1),
        Order(2, "2026-01-01", item="odd", price=10**13, account=2),
        Order(3, "2026-01-01", item="odd", price=9 * 10**11, quantity=1_000, account=3),
        Order(4, "2026-01-01", item="odd", price=9 * 10**11, quantity=1_000, account=3),
    ]
    found = bill(shop(*orders), "2026-02-01")
    assert reasons(found) == [
        (1, 1, "arrears", "out_of_range"),
        (2, 2, "arrears", "out_of_range"),
        (3, -1, "", "out_of_range"),
    ]


def test_a_payer_who_is_not_in_the_shard_is_our_mistake() -> None:
    world = shop(Order(1, "2026-01-01", plan="line"), Order(2, "2026-01-01", plan="line", account=2))
    shard, tariffs = shard_of(world, "2026-02-01"), world.tariffs()
    shard.payers.account_id[1] = 3
    with pytest.raises(ValueError, match="not in the shard"):
        bill_shard(shard, tariffs)


def test_tariffs_grow_with_the_buyers_that_shards_bring() -> None:
    events = [Event(1, "call", "2026-01-05", MINUTE), Event(2, "sms", "2026-01-05", 5_000_000)]
    plain = Order(1, "2026-01-01", plan="both")
    staff = Order(1, "2026-01-01", plan="both", group="staff")
    named = Order(1, "2026-01-01", plan="both", customer="77", codes=("GIFT",))
    tariffs = shop(plain).tariffs()
    for order, fee in ((plain, 31_000), (staff, 3_100), (named, 6_200), (plain, 31_000)):
        assert amounts(bill(shop(order, events=events), "2026-02-01", tariffs)) == [fee, 120]


# ---- cuts

PLANS = ("", "", "line", "both", "text", "gigs", "world", "pooled", "pooled", "cared", "levied", "later", "gone")
ITEMS = ("call", "sms", "data", "fee", "abroad")
STARTS = st.sampled_from(("2025-10-31", "2025-12-15 7:00", "2026-01-01", "2026-01-20", "2026-02-28"))


@st.composite
def made_orders(draw, number: int) -> Order:
    account = draw(st.integers(1, 6))
    pauses = draw(st.sampled_from(([], [("2026-01-03", "2026-01-20")], [("2026-02-10", "")])))
    plan = draw(st.sampled_from(PLANS))
    item, price = (
        ("", -1) if plan else draw(st.sampled_from((("odd", 3_333), ("setup", 777), ("setup", -1), ("data", -1))))
    )
    return Order(
        number,
        draw(STARTS),
        plan=plan,
        item=item,
        price=price,
        kind=draw(st.sampled_from(("recurring", "one_time"))) if item else "recurring",
        account=account,
        payer=account % 4 + 10,
        ends=draw(st.sampled_from(("", "", "2026-02-28", "2026-03-05 3:00"))),
        trial=draw(st.sampled_from(("", "", "2026-03-02"))),
        quantity=draw(st.integers(1, 3)),
        minimum=draw(st.sampled_from((0, 0, 50_000))),
        codes=draw(st.sampled_from(((), ("HALF",), ("GIFT", "TEN")))),
        group=draw(st.sampled_from(("", "staff"))),
        every=draw(st.sampled_from((("month", 1), ("week", 2), ("quarter", 1)))),
        anchor=draw(st.sampled_from((1, 5))),
        ahead=draw(st.booleans()),
        proration=draw(st.sampled_from(("none", "day", "second"))),
        pauses=pauses,
    )


@st.composite
def made_worlds(draw) -> World:
    orders = [draw(made_orders(number)) for number in range(1, draw(st.integers(2, 9)))]
    events = [
        Event(
            number,
            draw(st.sampled_from(ITEMS)),
            draw(st.sampled_from(("2025-12-20", "2026-01-04", "2026-01-25 12:00", "2026-02-03"))),
            draw(st.integers(1, 400)) * 1_000_000,
            account=draw(st.integers(1, 6)),
            to=draw(st.sampled_from(("", "", "7901", "49"))),
        )
        for number in range(1, draw(st.integers(1, 12)))
    ]
    manual = [(1, 11, 500, 220_000, True), (2, 13, -70, 0, False)]
    return shop(*orders, events=events, manual=manual)


def rows_of(found: ShardBill) -> list[object]:
    """A shard's bill as rows that do not name places in the shard."""
    who = found.invoices.account_id.tolist()
    names = [one.name for one in fields(found.lines)]
    columns = [getattr(found.lines, name).tolist() for name in names]
    shown = []
    for row in zip(*columns, strict=True):
        line = dict(zip(names, row, strict=True))
        line["invoice"], line["item"] = who[line["invoice"]], found.items[line["item"]]
        shown.append(line)
    return [
        shown,
        periods(found),
        list(found.failures),
        found.settled_order_ids.tolist(),
        sorted(found.manual.manual_line_id.tolist()),
        list(zip(who, found.invoices.net_minor.tolist(), found.invoices.tax_minor.tolist(), strict=True)),
    ]


@settings(max_examples=60, deadline=None)
@given(made_worlds(), st.integers(10, 14))
def test_shards_may_be_cut_anywhere(world: World, cut: int) -> None:
    tariffs = world.tariffs()
    whole = rows_of(bill(world, "2026-03-06", tariffs))
    parts = []
    for low, high in ((0, cut), (cut, 99)):
        orders = [one for one in world.orders if low <= one.payer < high]
        some = World(
            SHOP,
            orders,
            [one for one in world.events if any(order.account == one.account for order in orders)],
            manual=[one for one in world.manual if low <= one[1] < high],
        )
        parts.append(rows_of(bill(some, "2026-03-06")))
    assert [one + other for one, other in zip(*parts, strict=True)] == whole


def test_each_order_is_due_by_the_midnight_of_its_own_zone() -> None:
    orders = [
        Order(1, "2026-01-01", plan="line", zone="Asia/Vladivostok"),
        Order(2, "2026-01-01", plan="line", zone="America/New_York"),
    ]
    assert amounts(bill(shop(*orders), "2026-02-01")) == [31_000, 31_000]
    assert amounts(bill(shop(*orders), "2026-01-31")) == []
