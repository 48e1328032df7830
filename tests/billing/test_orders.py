"""Orders: what may be ordered, replaced, paused and ended, against what is billed already."""

from datetime import date, datetime
from itertools import product

import psycopg2
import pytest

from billing.calendar import Interval, period_containing
from billing.order_rules import OrderError, anchors_of, parse_instant, parse_interval
from billing.orders import (
    Charge,
    WantedOrder,
    add_charge,
    add_order,
    end_of_period,
    end_order,
    events_of,
    find_order,
    list_orders,
    replace_order,
    resume_order,
    suspend_order,
    suspensions_of,
    tiles_from,
    tiles_to_come,
    withdraw_end,
)
from tests.billing.shop import act, bill, open_shop, rows


def at(text: str) -> int:
    return parse_instant(text, "Europe/Moscow")


@pytest.fixture
def shop(database):
    open_shop(database)
    return database


def add(shop, number="A1", **wanted):
    facts = {"account": "ann", "plan": "basic", "starts": "2026-01-31"} | wanted
    if "item" in wanted:
        facts["plan"] = ""
    return act(shop, lambda cur: add_order(cur, WantedOrder(number=number, **facts), "test"))


def end(shop, number, when, **how):
    return act(shop, lambda cur: end_order(cur, number, at(when), "test", **how))


def find(shop, number):
    return act(shop, lambda cur: find_order(cur, number))


def life(shop, number):
    contents = find(shop, number).contents
    return contents.starts_s, contents.ends_s


def pauses(shop, number):
    order = find(shop, number)
    return [(one.from_s, one.until_s) for one in act(shop, lambda cur: suspensions_of(cur, order.id))]


def events(shop, number):
    order = find(shop, number)
    return [one.event for one in reversed(act(shop, lambda cur: events_of(cur, order.id, 50)))]


# ---- text


def test_periods_are_read_as_people_write_them() -> None:
    assert parse_interval("month") == Interval("month")
    assert parse_interval("3 months") == parse_interval("3 month") == Interval("month", 3)
    assert parse_interval(" 2 weeks") == Interval("week", 2)


@pytest.mark.parametrize("text", ["", "0 months", "fortnight", "3", "-1 month", "1000 years", "٣ months"])
def test_what_is_no_period_is_refused(text) -> None:
    with pytest.raises(OrderError, match="is none such as month, 3 months or 2 weeks"):
        parse_interval(text)


def test_a_date_is_the_beginning_of_that_local_day() -> None:
    assert parse_instant("2026-01-31", "Europe/Moscow") == parse_instant("2026-01-30T21:00:00Z", "Asia/Tokyo")
    assert parse_instant("2026-01-31T10:00", "Europe/Moscow") == parse_instant("2026-01-31T07:00+00:00", "UTC")


@pytest.mark.parametrize(
    "text", ["", "31.01.2026", "2026-02-30", "2026-01-31T10:00:00.5", "1980-01-01", "9999-12-31T10"]
)
def test_what_is_no_instant_is_refused(text) -> None:
    with pytest.raises(OrderError, match="is no date such as 2026-01-31"):
        parse_instant(text, "Europe/Moscow")


def test_periods_start_on_the_day_the_order_does() -> None:
    day = date(2026, 10, 31)  # a Saturday
    said = None, None, ""
    assert anchors_of(Interval("month"), day, *said) == (31, 1, 0)
    assert anchors_of(Interval("month", 3), day, *said) == anchors_of(Interval("year"), day, *said) == (31, 10, 0)
    assert anchors_of(Interval("week"), day, *said) == (6, 1, 0)
    assert anchors_of(Interval("day"), day, *said) == (1, 1, 0)


LONG = (
    "day",
    "2 days",
    "10 days",
    "week",
    "2 weeks",
    "3 weeks",
    "month",
    "5 months",
    "quarter",
    "3 quarters",
    "2 years",
)


def test_the_first_period_is_whole_whatever_its_length_and_the_day_it_starts(shop) -> None:
    starts = ("2026-09-07", "2026-09-01", "2025-09-01", "2028-02-29", "2026-01-31")
    for number, (period, day) in enumerate(product(LONG, starts)):
        order, _ = add(shop, f"L{number}", period=period, starts=day)
        [tile] = tiles_from(order.contents, order.contents.starts_s, 1)
        assert (tile.number, tile.start_s) == (1, at(day)), (period, day)


def test_a_period_starts_on_the_anchor_date(shop) -> None:
    for number, (period, day) in enumerate(product(LONG, ("2026-09-10", "2027-03-31", "1999-12-06"))):
        order, _ = add(shop, f"L{number}", period=period, starts="2026-09-07", anchor_date=day)
        assert period_containing(order.contents.terms.cadence, at(day))[0] == at(day), (period, day)


def test_an_anchor_weekday_or_month_is_the_first_on_or_after_the_start(shop) -> None:
    two_weeks, _ = add(shop, "A1", period="2 weeks", starts="2026-09-04", anchor_day=1)  # a Friday
    assert period_containing(two_weeks.contents.terms.cadence, at("2026-09-04"))[1] == at("2026-09-07")
    two_years, _ = add(shop, "A2", period="2 years", starts="2026-09-07", anchor_month=3, anchor_day=1)
    assert period_containing(two_years.contents.terms.cadence, at("2026-09-07"))[1] == at("2027-03-01")
    later, _ = add(shop, "A3", period="2 years", starts="2026-09-07", anchor_month=10)
    assert period_containing(later.contents.terms.cadence, at("2026-09-07"))[1] == at("2026-10-07")


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"anchor_date": "2026-02-30"}, "anchor date '2026-02-30' is no date such as 2026-01-31"),
        ({"anchor_date": "1980-01-01"}, "from 1990 to 2100"),
        ({"anchor_date": "2026-09-01", "anchor_day": 3}, "leave those out"),
    ],
)
def test_an_anchor_date_that_cannot_be_is_told(shop, said, message) -> None:
    with pytest.raises(OrderError, match=message):
        add(shop, "A1", period="2 weeks", **said)


def test_an_order_keeps_its_phase_when_it_is_replaced(shop) -> None:
    old, _ = add(shop, "A1", period="2 weeks", starts="2026-09-07")
    assert old.contents.terms.anchor_phase == 1
    new, _ = change(shop, "A1", "2026-09-14", quantity=3)
    assert new.contents.terms == old.contents.terms


# ---- adding


def test_an_order_is_added_with_terms_that_others_share(shop) -> None:
    first, is_new = add(shop)
    assert is_new
    assert add(shop, "A2", starts="2026-03-31", quantity=5)[1]
    assert add(shop, "A3", starts="2026-03-30")[1]
    assert rows(shop, "SELECT count(*), count(DISTINCT terms_id) FROM orders") == [(3, 2)]
    assert (first.contents.terms.anchor_day, first.contents.starts_s) == (31, at("2026-01-31"))
    assert events(shop, "A1") == ["created"]


def test_the_same_order_again_is_nothing_new_and_another_is_refused(shop) -> None:
    add(shop)
    assert not add(shop)[1]
    end(shop, "A1", "2026-05-05")
    assert not add(shop)[1]
    with pytest.raises(OrderError, match="there is an order A1 already, and it is not the same"):
        add(shop, quantity=2)
    assert rows(shop, "SELECT count(*) FROM orders") == [(1,)]


def test_orders_without_a_number_get_one_of_their_account(shop) -> None:
    add(shop, "ann-2")
    assert [add(shop, "")[0].number for _ in range(2)] == ["ann-3", "ann-4"]


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"account": "nobody"}, "no customer has an account 'nobody'"),
        ({"plan": ""}, "an order is on a plan or on an item"),
        ({"plan": "none"}, "catalogue test has no plan 'none'"),
        ({"item": "none"}, "catalogue test has no item 'none'"),
        ({"catalogue": "other"}, "there is no catalogue 'other'"),
        ({"account": "eve"}, "item fee has no price in USD for this buyer"),
        ({"plan": "dear"}, "item club has no price in RUB for this buyer"),
        ({"plan": "dear", "account": "ben"}, "item club has no price at the order's start"),
        ({"starts": "2024-12-31"}, "the catalogue is not valid at the order's start"),
        ({"starts": "soon"}, "start: 'soon' is no date"),
        ({"price": "5"}, "plan basic takes its price from the catalogue"),
        ({"item": "setup", "price": "5"}, "item setup takes its price from the catalogue"),
        ({"item": "work"}, "item work has no price in RUB"),
        ({"kind": "one_time"}, "a one_time order is on an item, not on a plan"),
        ({"kind": "often"}, "kind 'often' must be one of"),
        ({"item": "setup", "kind": "one_time", "minimum": "5"}, "a minimum belongs to recurring orders"),
        ({"item": "setup", "kind": "one_time", "ends": "2026-05-05"}, "a one_time order has no end"),
        ({"item": "setup", "kind": "one_time", "trial_until": "2026-05-05"}, "a one_time order has no trial"),
        ({"quantity": 0}, "quantity must be 1 to 1000000000"),
        ({"ends": "2026-01-31"}, "the order ends before it starts"),
        ({"trial_until": "2026-01-30"}, "the trial ends before the order starts"),
        ({"period": "2 moons"}, "period '2 moons' is none such as"),
        ({"anchor_day": 32}, "the anchor day 1 to 31, not 32"),
        ({"anchor_month": 2}, "the anchor month 1, not 2"),
        ({"zone": "Europe/Nowhere"}, "^zone: no time zone 'Europe/Nowhere'"),
        ({"proration": "hour"}, "proration 'hour' must be one of"),
        ({"minimum": "5,00"}, "minimum: not a sum"),
        ({"codes": ("HALF", "NONE")}, "no promotion of catalogue test has the code 'NONE'"),
        ({"plan": "mixed", "in_advance": True}, "item fund is a percentage of recurring and of metered items"),
        ({"number": "a\nb"}, "the order's number must be"),
    ],
)
def test_what_cannot_be_ordered_is_refused_in_a_sentence(shop, wanted, sentence) -> None:
    with pytest.raises(OrderError, match=sentence):
        add(shop, **wanted)
    assert rows(shop, "SELECT count(*) FROM orders") == [(0,)]
    assert rows(shop, "SELECT count(*) FROM order_terms") == [(0,)]


@pytest.mark.parametrize(
    "wanted",
    [
        {"plan": "mixed"},
        {"plan": "dear", "account": "ben", "starts": "2026-06-01"},
        {"item": "work", "price": "12.50", "kind": "one_time"},
        {"item": "work", "price": "12.50"},
        {"minimum": "500", "codes": ("HALF",), "trial_until": "2026-03-01", "ends": "2027-01-01"},
        {"period": "2 weeks", "anchor_day": 7, "in_advance": True, "proration": "second"},
        {"period": "quarter", "anchor_day": 15, "anchor_month": 2, "zone": "Asia/Vladivostok"},
    ],
)
def test_what_can_be_ordered_is(shop, wanted) -> None:
    assert add(shop, **wanted)[1]


def test_a_closed_customer_orders_nothing(shop) -> None:
    with psycopg2.connect(shop.owner_dsn) as connection, connection.cursor() as cur:
        cur.execute("UPDATE customers SET state = 'closed' WHERE number = 'ann'")
    with pytest.raises(OrderError, match="customer ann is closed"):
        add(shop)


# ---- looking


def test_periods_to_come_begin_with_the_first_that_is_not_billed(shop) -> None:
    add(shop)
    add(shop, "A2", in_advance=True, ends="2026-03-10")
    bill(shop, "A1", "arrears", "2026-01-31", "2026-02-28")

    def to_come(number):
        order = find(shop, number)
        return [(one.number, one.start_s, one.due_s) for one in act(shop, lambda cur: tiles_to_come(cur, order, 3))]

    starts = ["2026-02-28", "2026-03-31", "2026-04-30", "2026-05-31"]
    assert to_come("A1") == [(n + 2, at(starts[n]), at(starts[n + 1])) for n in range(3)]
    assert to_come("A2") == [(n + 1, at(start), at(start)) for n, start in enumerate(["2026-01-31", "2026-02-28"])]


def test_orders_are_listed_by_account_and_customer(shop) -> None:
    add(shop)
    add(shop, "B1", account="ben")

    def listed(**wanted):
        return [one.number for one in act(shop, lambda cur: list_orders(cur, **wanted))]

    assert (listed(), listed(account="ben"), listed(customer="ann", only_open=True)) == (["A1", "B1"], ["B1"], ["A1"])


# ---- ending


def test_an_order_ends_once(shop) -> None:
    add(shop)
    assert end(shop, "A1", "2026-05-05", why="moved away")
    assert not end(shop, "A1", "2026-05-05")
    assert not end(shop, "A1", "2026-06-06")
    assert life(shop, "A1")[1] == at("2026-05-05")
    assert end(shop, "A1", "2026-06-06", is_exact=True)
    assert end(shop, "A1", "2026-04-04")
    assert life(shop, "A1")[1] == at("2026-04-04")
    assert events(shop, "A1") == ["created", "ended", "ended", "ended"]


def test_an_order_that_ends_before_it_starts_never_begins(shop) -> None:
    add(shop)
    assert end(shop, "A1", "2026-01-01")
    assert life(shop, "A1") == (at("2026-01-31"), at("2026-01-31"))


def test_what_is_billed_in_arrears_keeps_its_end(shop) -> None:
    add(shop)
    bill(shop, "A1", "arrears", "2026-01-31", "2026-02-28")
    with pytest.raises(OrderError, match="A1 is billed until 2026-02-28: an end earlier needs a credit note"):
        end(shop, "A1", "2026-02-27")
    assert end(shop, "A1", "2026-02-28")


def test_what_is_billed_in_advance_may_end_and_what_was_trued_up_may_not(shop) -> None:
    add(shop, in_advance=True)
    bill(shop, "A1", "advance", "2026-01-31", "2026-02-28")
    assert end(shop, "A1", "2026-02-10")
    bill(shop, "A1", "trueup", "2026-01-31", "2026-02-28")
    with pytest.raises(OrderError, match="billed until 2026-02-28"):
        end(shop, "A1", "2026-02-05")


def test_what_was_trued_up_is_put_right_by_a_charge(shop) -> None:
    add(shop, in_advance=True)
    bill(shop, "A1", "advance", "2026-01-31", "2026-02-28")
    bill(shop, "A1", "arrears", "2026-01-31", "2026-02-28")
    bill(shop, "A1", "trueup", "2026-01-31", "2026-02-28")
    with pytest.raises(OrderError, match=r"2026-02-28: a suspension earlier is put right by `kopeck order charge`$"):
        act(shop, lambda cur: suspend_order(cur, "A1", at("2026-02-20"), None, "test"))
    bill(shop, "A1", "advance", "2026-02-28", "2026-03-31")
    bill(shop, "A1", "arrears", "2026-02-28", "2026-03-31")
    with pytest.raises(OrderError, match=r"2026-03-31: a suspension earlier needs a credit note instead$"):
        act(shop, lambda cur: suspend_order(cur, "A1", at("2026-03-20"), None, "test"))


def test_an_end_is_taken_back_until_it_is_billed(shop) -> None:
    add(shop)
    assert not act(shop, lambda cur: withdraw_end(cur, "A1", "test"))
    end(shop, "A1", "2026-02-10")
    assert act(shop, lambda cur: withdraw_end(cur, "A1", "test"))
    assert life(shop, "A1")[1] is None
    end(shop, "A1", "2026-02-10")
    bill(shop, "A1", "arrears", "2026-01-31", "2026-02-28")
    with pytest.raises(OrderError, match="going on earlier needs a credit note"):
        act(shop, lambda cur: withdraw_end(cur, "A1", "test"))


def test_a_one_time_order_is_taken_back_until_it_is_billed(shop) -> None:
    for number in ("A1", "A2"):
        add(shop, number, item="setup", kind="one_time")
    assert end(shop, "A1", "2026-03-01")
    assert not end(shop, "A1", "2026-03-01")
    assert life(shop, "A1") == (at("2026-01-31"), at("2026-01-31"))
    assert [one.number for one in act(shop, lambda cur: list_orders(cur, only_open=True))] == ["A2"]
    with pytest.raises(OrderError, match="A1 is taken back for good"):
        act(shop, lambda cur: withdraw_end(cur, "A1", "test"))
    bill(shop, "A2", "once", "2026-01-31", "2026-01-31")
    with pytest.raises(OrderError, match="order A2 is billed: a credit note takes it back"):
        end(shop, "A2", "2026-03-01")


def test_an_order_billed_to_its_end_does_not_change(shop) -> None:
    add(shop, ends="2026-02-10")
    with psycopg2.connect(shop.owner_dsn) as connection, connection.cursor() as cur:
        cur.execute("UPDATE orders SET settled_at = now()")
    with pytest.raises(OrderError, match="A1 is billed to its end"):
        end(shop, "A1", "2026-02-05")
    with pytest.raises(OrderError, match="A1 is billed to its end"):
        suspend(shop, "A1", "2026-02-05")
    assert not end(shop, "A1", "2026-03-01")


# ---- replacing


def change(shop, number, when, **wanted):
    return act(shop, lambda cur: replace_order(cur, number, at(when), "test", **wanted))


def test_another_plan_begins_where_the_old_one_ends(shop) -> None:
    add(shop, quantity=2, codes=("HALF",), trial_until="2026-06-01", minimum="100")
    order, is_new = change(shop, "A1", "2026-05-05T12:00", plan="plus", new_number="A2")
    assert (is_new, order.replaces, find(shop, "A1").replaced_by) == (True, "A1", "A2")
    assert life(shop, "A1")[1] == life(shop, "A2")[0] == at("2026-05-05T12:00")
    new = order.contents
    assert (new.terms.plan, new.terms.anchor_day, new.quantity, new.codes) == ("plus", 31, 2, ("HALF",))
    assert (new.trial_until_s, new.minimum_minor, new.ends_s) == (at("2026-06-01"), 10_000, None)
    assert (events(shop, "A1"), events(shop, "A2")) == (["created", "replaced"], ["created"])


def test_the_same_change_again_is_nothing_new_and_another_is_refused(shop) -> None:
    add(shop)
    change(shop, "A1", "2026-05-05", plan="plus")
    order, is_new = change(shop, "A1", "2026-05-06", plan="plus")
    assert (order.number, is_new) == ("ann-2", False)
    with pytest.raises(OrderError, match="A1 is replaced by ann-2 already"):
        change(shop, "A1", "2026-05-06", quantity=7)
    assert rows(shop, "SELECT count(*) FROM orders") == [(2,)]


def test_a_change_at_a_date_is_the_same_change_at_that_date_only(shop) -> None:
    add(shop)
    order, is_new = change(shop, "A1", "2026-05-05", plan="plus", is_exact=True)
    assert (order.replaces, order.contents.starts_s, is_new) == ("A1", at("2026-05-05"), True)
    assert find(shop, "A1").replaced_by == order.number
    assert change(shop, "A1", "2026-05-05", plan="plus", is_exact=True) == (order, False)
    with pytest.raises(OrderError, match="A1 is replaced by ann-2 already, from 2026-05-05: cancel that one"):
        change(shop, "A1", "2026-05-06", plan="plus", is_exact=True)


def test_a_change_at_the_end_of_the_period_waits_for_it(shop) -> None:
    order, _ = add(shop)
    assert end_of_period(order, at("2026-02-10")) == at("2026-02-28")
    assert end_of_period(order, at("2026-01-01")) == at("2026-02-28")
    assert end_of_period(order, at("2026-02-28")) == at("2026-03-31")


def test_a_change_before_the_start_lets_the_old_order_never_begin(shop) -> None:
    add(shop)
    change(shop, "A1", "2026-01-01", quantity=3, new_number="A2")
    assert life(shop, "A1") == (at("2026-01-31"), at("2026-01-31"))
    assert life(shop, "A2") == (at("2026-01-31"), None)


@pytest.mark.parametrize(
    ("when", "wanted", "sentence"),
    [
        ("2026-02-10", {"plan": "plus"}, "billed until 2026-02-28: a change earlier"),
        ("2026-05-05", {"plan": "basic"}, "order A1 is just that already"),
        ("2026-05-05", {"plan": "dear"}, "item club has no price"),
        ("2026-05-05", {"quantity": -1}, "quantity must be 1"),
        ("2026-09-01", {"plan": "plus"}, "order A1 ends at 2026-09-01"),
        ("2026-05-05", {"plan": "plus", "new_number": "A1"}, "there is an order A1 already"),
    ],
)
def test_a_change_that_cannot_be_changes_nothing(shop, when, wanted, sentence) -> None:
    add(shop, ends="2026-09-01")
    bill(shop, "A1", "arrears", "2026-01-31", "2026-02-28")
    with pytest.raises(OrderError, match=sentence):
        change(shop, "A1", when, **wanted)
    assert rows(shop, "SELECT count(*) FROM orders") == [(1,)]
    assert life(shop, "A1")[1] == at("2026-09-01")


def test_what_is_to_replace_an_order_ends_with_it(shop) -> None:
    add(shop)
    change(shop, "A1", "2026-05-31", plan="plus", new_number="A2")
    assert end(shop, "A1", "2026-05-05")
    assert life(shop, "A1")[1] == at("2026-05-05")
    assert life(shop, "A2") == (at("2026-05-31"), at("2026-05-31"))


def test_an_order_replaced_by_then_is_not_the_one_to_end(shop) -> None:
    add(shop)
    change(shop, "A1", "2026-05-05", plan="plus", new_number="A2")
    with pytest.raises(OrderError, match="A1 is replaced by A2 by then: cancel that one"):
        end(shop, "A1", "2026-06-06")
    with pytest.raises(OrderError, match="A1 is replaced by A2: cancel that one first"):
        act(shop, lambda cur: withdraw_end(cur, "A1", "test"))


# ---- pausing


def suspend(shop, number, start, until=None):
    until_s = at(until) if until else None
    return act(shop, lambda cur: suspend_order(cur, number, at(start), until_s, "test", "asked"))


def resume(shop, number, when):
    return act(shop, lambda cur: resume_order(cur, number, at(when), "test"))


def test_an_order_pauses_and_goes_on(shop) -> None:
    add(shop)
    assert suspend(shop, "A1", "2026-03-01")
    assert not suspend(shop, "A1", "2026-03-05")
    assert resume(shop, "A1", "2026-03-10")
    assert not resume(shop, "A1", "2026-03-12")
    assert suspend(shop, "A1", "2026-04-01", "2026-04-05")
    assert pauses(shop, "A1") == [(at("2026-03-01"), at("2026-03-10")), (at("2026-04-01"), at("2026-04-05"))]
    assert events(shop, "A1") == ["created", "suspended", "resumed", "suspended"]


def test_pauses_do_not_overlap(shop) -> None:
    add(shop)
    suspend(shop, "A1", "2026-03-01", "2026-03-10")
    for start, until in (("2026-03-05", None), ("2026-02-01", "2026-03-02"), ("2026-02-01", None)):
        with pytest.raises(OrderError, match=r"is suspended \(asked\) from 2026-03-01 until 2026-03-10"):
            suspend(shop, "A1", start, until)
    assert suspend(shop, "A1", "2026-02-01", "2026-03-01")
    assert suspend(shop, "A1", "2026-03-10")


def test_a_pause_that_has_not_begun_is_taken_back_without_a_trace_in_seconds(shop) -> None:
    add(shop)
    suspend(shop, "A1", "2026-05-01")
    assert resume(shop, "A1", "2026-04-01")
    assert pauses(shop, "A1") == [(at("2026-05-01"), at("2026-05-01"))]
    assert suspend(shop, "A1", "2026-05-01")


def test_pauses_leave_alone_what_is_billed(shop) -> None:
    add(shop)
    suspend(shop, "A1", "2026-02-10")
    bill(shop, "A1", "arrears", "2026-01-31", "2026-02-28")
    with pytest.raises(OrderError, match="billed until 2026-02-28: a resumption earlier"):
        resume(shop, "A1", "2026-02-20")
    assert resume(shop, "A1", "2026-02-28")
    with pytest.raises(OrderError, match="billed until 2026-02-28: a suspension earlier"):
        suspend(shop, "A1", "2026-02-01", "2026-02-05")


def test_what_replaces_an_order_pauses_with_it(shop) -> None:
    add(shop)
    change(shop, "A1", "2026-03-31", plan="plus", new_number="A2")
    assert suspend(shop, "A1", "2026-03-10")
    assert (pauses(shop, "A1"), pauses(shop, "A2")) == ([(at("2026-03-10"), None)], [(at("2026-03-31"), None)])
    assert resume(shop, "A1", "2026-04-10")
    assert pauses(shop, "A2") == [(at("2026-03-31"), at("2026-04-10"))]


def test_a_paused_order_is_not_replaced(shop) -> None:
    add(shop)
    suspend(shop, "A1", "2026-03-01")
    with pytest.raises(OrderError, match="A1 is suspended then: resume it first"):
        change(shop, "A1", "2026-03-10", plan="plus")


def test_a_pause_for_debt_ends_by_paying_only(shop) -> None:
    add(shop)
    with psycopg2.connect(shop.dsn) as connection, connection.cursor() as cur:
        cur.execute(
            "INSERT INTO order_suspensions (order_id, from_at, reason, actor) "
            "SELECT id, '2026-03-01', 'ageing', 'system' FROM orders"
        )
    with pytest.raises(OrderError, match="A1 is suspended for debt: a payment resumes it at once"):
        resume(shop, "A1", "2026-03-10")


def test_an_order_that_has_ended_does_not_pause(shop) -> None:
    add(shop, ends="2026-03-01")
    with pytest.raises(OrderError, match="order A1 has ended by then"):
        suspend(shop, "A1", "2026-03-01")


# ---- charges


CHARGE = Charge("k1", "ann", "Repair", -15_000, 220_000, True, date(2026, 3, 1), "broken twice")


def test_a_charge_acts_once_by_its_key(shop) -> None:
    assert act(shop, lambda cur: add_charge(cur, CHARGE, "test")) == (date(2026, 3, 1), True)
    assert act(shop, lambda cur: add_charge(cur, CHARGE, "test")) == (date(2026, 3, 1), False)
    other = Charge("k1", "ann", "Repair", -15_001, 220_000, True, date(2026, 3, 1), "broken twice")
    with pytest.raises(OrderError, match="key 'k1' was used for another charge"):
        act(shop, lambda cur: add_charge(cur, other, "test"))
    assert rows(shop, "SELECT amount_minor, tax_ppm, actor FROM manual_lines") == [(-15_000, 220_000, "test")]


def test_a_charge_without_a_date_is_billed_from_the_accounts_today_on(shop) -> None:
    today = rows(shop, "SELECT (now() AT TIME ZONE 'Europe/Moscow')::date")[0][0]
    charge = Charge("k1", "ann", "Repair", 1, 0, False, None, "x")
    found, _ = act(shop, lambda cur: add_charge(cur, charge, "test"))
    assert found in (today, rows(shop, "SELECT (now() AT TIME ZONE 'Europe/Moscow')::date")[0][0])
    assert not isinstance(found, datetime)


@pytest.mark.parametrize(
    ("charge", "sentence"),
    [
        (Charge("", "ann", "x", 1, 0, True, None, "x"), "the key must be"),
        (Charge("k", "ann", "x", 0, 0, True, None, "x"), "the amount must not be 0"),
        (Charge("k", "ann", "x", 1, -1, True, None, "x"), "the tax must be"),
        (Charge("k", "ann", "", 1, 0, True, None, "x"), "description must be"),
        (Charge("k", "ann", "x", 1, 0, True, None, ""), "why must be"),
        (Charge("k", "nobody", "x", 1, 0, True, None, "x"), "no customer has an account 'nobody'"),
    ],
)
def test_what_is_no_charge_is_refused(shop, charge, sentence) -> None:
    with pytest.raises(OrderError, match=sentence):
        act(shop, lambda cur: add_charge(cur, charge, "test"))


def test_whoever_changes_an_order_waits_for_the_shard_that_bills_it(shop) -> None:
    add(shop)
    with psycopg2.connect(shop.dsn) as connection, connection.cursor() as cur:
        cur.execute("INSERT INTO bill_runs (bill_on, kind, actor) VALUES ('2026-03-01', 'post', 'x') RETURNING id")
        (run_id,) = cur.fetchone()
        cur.execute(
            "INSERT INTO bill_shards (run_id, shard_no, first_account_id, last_account_id) VALUES (%s, 0, 1, 99)",
            (run_id,),
        )
        connection.commit()
        cur.execute("SELECT FROM bill_shards FOR UPDATE")

        async def impatient(cur):
            await cur.execute("SET LOCAL lock_timeout = '100ms'")
            await end_order(cur, "A1", at("2026-02-10"), "test")

        with pytest.raises(Exception, match="lock timeout"):
            act(shop, impatient)
    assert end(shop, "A1", "2026-02-10")
