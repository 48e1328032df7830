"""Every line of random bills computed again by the judge, and derivations that a pocket calculator follows."""

from typing import Any

import pytest
from hypothesis import given, settings

from billing.calendar import NEVER
from billing.charging.records import KINDS, PARTS, ShardBill
from billing.explanation.lines import explain_line, explain_record, owner_of
from billing.explanation.records import BilledAhead, Explained, OrderFacts, RecordFacts, UsageFacts
from billing.explanation.words import explain_words
from billing.orders.terms import OrderTerms
from billing.wording import Words
from tests.billing.catalogue.catalogues import one_price, read
from tests.billing.charging.shards import Order, World, at, bill, periods
from tests.billing.charging.test_lines import BILLED, MINUTE, SHOP, made_worlds, shop


def facts_of(one: Order) -> OrderFacts:
    ends = at(one.ends, one.zone) if one.ends else NEVER
    return OrderFacts(
        one.id,
        one.account,
        one.terms,
        one.quantity,
        at(one.starts, one.zone),
        ends,
        one.minimum,
        one.price,
        one.codes,
        one.group,
        one.customer,
    )


def records_of(world: World, found: ShardBill) -> list[RecordFacts]:
    """Every record of a bill with what its lines followed from."""
    orders = {one.id: facts_of(one) for one in world.orders}
    columns = (found.periods.order_id, found.periods.part, found.periods.start_s, found.periods.end_s)
    rows = list(zip(*(one.tolist() for one in columns), strict=True))
    shares = list(zip(found.periods.num.tolist(), found.periods.den.tolist(), strict=True))
    amounts = dict(zip(rows, found.periods.amount_minor.tolist(), strict=True))
    records = []
    for (number, part, start, end), (num, den) in zip(rows, shares, strict=True):
        order = orders[number]
        same = [orders[row[0]] for row in rows if row[0] != number and row[1:] == (part, start, end)]
        sharing = tuple(one for one in same if one.account_id == order.account_id) if PARTS[part] == "arrears" else ()
        record = RecordFacts(order, PARTS[part], start, end, num, den, sharing)
        parts = (PARTS.index("advance"), PARTS.index("adjustment")) if PARTS[part] == "arrears" else ()
        ahead = sum(amounts.get((number, one, start, end), 0) for one in parts)
        usage = usage_of(world, orders, [record, *(RecordFacts(one, "arrears", start, end, 1, 1) for one in sharing)])
        billed = tuple(BilledAhead(*one[5:9], *one[3:5], one[9]) for one in world.adjustments if one[0] == number)
        records.append(RecordFacts(order, PARTS[part], start, end, num, den, sharing, usage, ahead, billed))
    return records


def usage_of(world: World, orders: dict[int, OrderFacts], records: list[RecordFacts]) -> tuple[UsageFacts, ...]:
    found = []
    for event in world.events:
        when = at(event.counts or event.when)
        mine = [one for one in orders.values() if one.account_id == event.account]
        owner = owner_of(mine, SHOP, event.item, when)
        if owner and any(one.order.id == owner.id and one.from_s <= when < one.until_s for one in records):
            micro, spent = event.quantity_micro, event.duration_s
            found.append(UsageFacts(event.id, owner.id, event.item, at(event.when), micro, spent, event.to))
    return tuple(found)


def billed_lines(found: ShardBill) -> list[tuple[Any, ...]]:
    one = found.lines
    columns = (one.kind, one.order_id, one.item, one.start_s, one.end_s, one.quantity, one.discount_minor)
    more = (one.amount_minor, one.tax_ppm, one.inside, one.net_minor, one.tax_minor)
    return [
        (KINDS[row[0]], row[1], found.items[row[2]], *row[3:])
        for row in zip(*(column.tolist() for column in (*columns, *more)), strict=True)
        if KINDS[row[0]] != "manual"
    ]


def judged(one: Explained) -> tuple[Any, ...]:
    part, record = one.part, one.record
    return (
        *(one.kind, record.order.id, one.item, record.from_s, record.until_s, one.quantity, one.discount_minor),
        *(part.amount, part.tax.rate_ppm, int(part.tax.inside), part.net, part.tax_amount),
    )


@settings(max_examples=60, deadline=None)
@given(made_worlds())
def test_the_judge_makes_the_same_lines(world: World) -> None:
    found = bill(world, "2026-03-06")
    again = [judged(line) for record in records_of(world, found) for line in explain_record(SHOP, record)]
    assert sorted(again) == sorted(billed_lines(found))


@settings(max_examples=20, deadline=None)
@given(made_worlds())
def test_every_derivation_comes_to_its_amount_in_both_languages(world: World) -> None:
    for record in records_of(world, bill(world, "2026-03-06")):
        for line in explain_record(SHOP, record):
            for language in ("en", "ru"):
                assert all(explain_words(SHOP, line, Words(language, "RUB")))


def only(world: World, day: str) -> RecordFacts:
    found = bill(world, day)
    assert len(periods(found)) == 1
    return records_of(world, found)[0]


def words(one: Explained | None) -> list[str]:
    assert one is not None
    return [text.replace("\u00a0", " ") for text in explain_words(SHOP, one, Words("en", "RUB"))]


def test_a_fee_is_explained_by_its_price_and_share() -> None:
    record = only(shop(Order(1, "2026-01-10", plan="line", quantity=3)), "2026-02-01")
    assert words(explain_line(SHOP, record, "recurring", "fee", 220_000, True)) == [
        "price of fee from 2020-01-01, for everybody (test.yaml:37:28)",
        "at the close of the period -> 310.00",
        "  1. flat: 310.00 - 0.00 = 310.00",
        "310.00 x 3 x 22 / 31 of the period = 660.00",
        "sum of the line: 660.00",
        "rounded (half away from zero) to 660.00 RUB",
        "of it tax 22 %: 660.00 RUB x 22 / 122 = 119.02 RUB, net 540.98 RUB",
    ]
    assert explain_line(SHOP, record, "recurring", "fee", 200_000, True) is None


def test_a_minimum_a_adjustment_and_an_own_price_are_explained() -> None:
    least = only(shop(Order(1, "2026-01-10", plan="line", minimum=62_000)), "2026-02-01")
    assert words(explain_line(SHOP, least, "minimum", "", 220_000, True)) == [
        "minimum 620.00 RUB x 22 / 31 of the period = 440.00 RUB, 220.00 RUB charged: 220.00 RUB missing"
    ]
    ended = Order(1, "2026-01-01", plan="line", ahead=True, advance_done="2026-02-01", ends="2026-01-11")
    record = only(shop(ended, adjustments=[BILLED]), "2026-01-11")
    assert words(explain_line(SHOP, record, "adjustment", "fee", 220_000, True)) == [
        "310.00 RUB billed for 31 / 31 of the period, 10 / 31 was used: -210.00 RUB"
    ]
    credited = (*BILLED[:-1], 12_000)
    again = only(shop(ended, adjustments=[credited]), "2026-01-11")
    assert words(explain_line(SHOP, again, "adjustment", "fee", 220_000, True)) == [
        "310.00 RUB billed for 31 / 31 of the period, 10 / 31 was used: -210.00 RUB",
        "120.00 RUB of it was credited before, so no more than the rest is given back: -190.00 RUB",
    ]
    own = only(shop(Order(1, "2026-01-10", item="odd", price=3_100)), "2026-02-01")
    assert words(explain_line(SHOP, own, "recurring", "odd", 220_000, True)) == [
        "the order's own price: 31.00",
        "31.00 x 1 x 22 / 31 of the period = 22.00",
    ]


def test_usage_without_a_price_was_never_billed() -> None:
    record = only(shop(Order(1, "2026-01-01", plan="text")), "2026-02-01")
    late = RecordFacts(record.order, "arrears", at("2019-01-01"), at("2019-02-01"), 1, 1)
    event = UsageFacts(9, 1, "sms", at("2019-01-05"), MINUTE)
    with pytest.raises(ValueError, match="event 9 cannot be rated: out of horizon"):
        explain_record(SHOP, RecordFacts(late.order, "arrears", late.start_s, late.end_s, 1, 1, usage=(event,)))


def test_lines_that_differ_in_their_rounding_alone_are_told_apart_by_their_place() -> None:
    text = one_price("- per_unit: {price: 0.015}", unit="piece", version="rounding: floor")
    again = "      - {from: 2026-01-15, rounding: ceiling, steps: [per_unit: {price: 0.015}]}\n"
    catalogue = read(text + again)
    terms = OrderTerms(1, "", "use", "RUB", "recurring", "month", 1, 1, 1, "Europe/Moscow", False, "none")
    start, end = at("2026-01-01"), at("2026-02-01")
    usage = tuple(
        UsageFacts(number, 1, "use", at(day), 1_000_000) for number, day in enumerate(("2026-01-10", "2026-01-20"))
    )
    record = RecordFacts(OrderFacts(1, 1, terms, 1, start, NEVER), "arrears", start, end, 1, 1, usage=usage)
    found = [explain_line(catalogue, record, "usage", "use", 0, True, place) for place in range(3)]
    assert [one and one.amount_minor for one in found] == [1, 2, None]
