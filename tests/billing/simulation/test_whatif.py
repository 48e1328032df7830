"""A month under two catalogues: worked out by hand, whatever the ranges, and equal to what the cycle bills."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.catalogue.model import Buyer, Catalogue, prices_as_of, resolve_price
from billing.catalogue.store import Source, catalogue_of
from billing.charging.records import PARTS
from billing.charging.tariffs import prepare_tariffs
from billing.simulation.store import MonthError, month_of
from billing.simulation.whatif import EDGES, Compared, Paid, compare, due_in, usage_of
from billing.simulation.whatif_run import compare_base
from tests.billing.catalogue.catalogues import HEAD, read
from tests.billing.charging.shards import Event, Order, World, at, shard_of, with_events
from tests.billing.cycle.base import CATALOGUE, MARCH, Base, cycle_base

JANUARY = month_of("2026-01")
MINUTE = 60_000_000


def offer(fee: str = "300", call: str = "1.20", more: str = "", plans: str = "") -> Catalogue:
    return read(
        HEAD
        + f"""\
valid: {{from: 2020-01-01, until: 2036-01-01}}
taxes:
  vat: {{rates: [{{from: 2026-01-01, percent: 25}}]}}
items:
  fee: {{unit: piece, tax: vat}}
  call: {{unit: s, tax: vat}}
plans:
  both: {{items: [fee, call]}}
{plans}
prices:
  - {{item: fee, versions: [{{from: 2026-01-01, steps: [flat: {{amount: {fee}}}]}}]}}
  - {{item: call, versions: [{{from: 2026-01-01, steps: [per_unit: {{price: {call}, per: 60 s}}]}}]}}
{more}
"""
    )


def what_if(world: World, draft: Catalogue, month: str = "2026-01") -> Compared:
    """The world of one catalogue compared with the same world under a draft."""
    terms = {number: one for one, number in world.terms.items()}
    both = [prepare_tariffs({1: one}, terms) for one in (world.catalogue, draft)]
    shard, before = due_in(shard_of(world, "2026-01-01"), both[0], month_of(month))
    _, after = due_in(shard, both[1], month_of(month))
    read_windows = usage_of(shard, ((before, both[0]), (after, both[1])))
    return compare(with_events(shard, world.events, read_windows), (before, both[0]), (after, both[1]))


def callers(minutes: dict[int, int]) -> World:
    """Accounts with the plan and so many minutes of calls in January."""
    orders = [Order(one, "2026-01-01", plan="both", account=one) for one in minutes]
    events = [
        Event(one, "call", "2026-01-15 12:00", length * MINUTE, account=one)
        for one, length in minutes.items()
        if length
    ]
    return World(offer(), orders, events)


def test_the_same_catalogue_changes_nothing() -> None:
    found = what_if(callers({1: 0, 2: 100, 3: 50}), offer())
    money = found.money["RUB"]
    assert (money.total_before_minor, money.total_after_minor) == (108_000, 108_000)  # 300 + 420 + 360
    assert (money.gain, money.lose, money.same) == (0, 0, 3)
    assert (found.up, found.down, found.from_nothing, sum(found.bars)) == ([], [], 0, 0)


def test_winners_losers_and_their_bars_are_those_worked_out_by_hand() -> None:
    found = what_if(callers({1: 0, 2: 100, 3: 50}), offer(fee="330", call="0.60"))
    # Account 1: 300 -> 330. Account 2: 300 + 120 -> 330 + 60. Account 3: 300 + 60 -> 330 + 30.
    assert found.up == [Paid(1, "RUB", 30_000, 33_000)]
    assert found.down == [Paid(2, "RUB", 42_000, 39_000)]
    money = found.money["RUB"]
    assert (money.accounts, money.gain, money.lose, money.same) == (3, 1, 1, 1)
    assert (money.total_before_minor, money.total_after_minor) == (108_000, 108_000)
    assert (money.net_before_minor, money.net_after_minor) == (86_400, 86_400)  # 25 % inside
    # 10 % exactly is the end of +5..+10; -7.1 % lies within -10..-5.
    assert found.bars == [0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0]
    assert found.items == {("RUB", "fee"): (72_000, 79_200), ("RUB", "call"): (14_400, 7_200)}


@pytest.mark.parametrize(
    ("fee", "bar"),
    [
        ("149.99", 0),
        ("150", 1),
        ("285", 4),
        ("284.99", 3),
        ("299.99", 5),
        ("300.01", 6),
        ("303", 6),
        ("303.01", 7),
        ("450", 10),
        ("450.01", 11),
    ],
)
def test_a_change_of_just_an_edge_is_in_the_bar_nearer_to_no_change(fee: str, bar: int) -> None:
    found = what_if(callers({1: 0}), offer(fee=fee))
    assert found.bars == [int(place == bar) for place in range(len(EDGES) + 1)]


def test_who_paid_nothing_before_has_a_bar_of_his_own() -> None:
    found = what_if(World(offer(fee="0"), [Order(1, "2026-01-01", plan="both")]), offer())
    assert (found.from_nothing, sum(found.bars), found.up) == (1, 0, [Paid(1, "RUB", 0, 30_000)])


def periods_of(orders: list[Order], month: str) -> list[tuple[Any, ...]]:
    """(order, part, period, num, den) of what a month takes."""
    world = World(offer(), orders)
    shard, due = due_in(shard_of(world, "2026-01-01"), world.tariffs(), month_of(month))
    periods = due.periods
    columns = (periods.order, periods.part, periods.start_s, periods.end_s, periods.num, periods.den)
    return [
        (int(shard.orders.order_id[order]), PARTS[part], start, end, num, den)
        for order, part, start, end, num, den in zip(*(one.tolist() for one in columns), strict=True)
    ]


def test_a_month_takes_the_periods_that_end_in_it() -> None:
    february, march = at("2026-02-01"), at("2026-03-01")
    orders = [
        Order(1, "2026-01-01", plan="both"),
        Order(2, "2026-01-01", plan="both", ahead=True),
        Order(3, "2026-01-01", plan="both", anchor=15),
        Order(4, "2026-02-10", plan="both", anchor=15),
        Order(5, "2026-01-01", plan="both", ends="2026-02-08"),
        Order(6, "2026-01-01", plan="both", ends="2026-02-01"),
        Order(7, "2026-03-01", plan="both"),
        Order(8, "2026-01-01", plan="both", every=("quarter", 1)),
        Order(9, "2026-02-03", item="call", kind="one_time"),
        Order(10, "2026-01-31", item="call", kind="one_time"),
        Order(11, "2026-02-01", plan="both", ahead=True, ends="2026-02-15", anchor=15),
    ]
    middle = (at("2026-01-15"), at("2026-02-15"))
    assert periods_of(orders, "2026-02") == [
        (1, "arrears", february, march, 28, 28),
        (2, "advance", february, march, 28, 28),
        (2, "arrears", february, march, 28, 28),
        (3, "arrears", *middle, 31, 31),
        (4, "arrears", *middle, 5, 31),
        (5, "arrears", february, march, 7, 28),
        (9, "once", at("2026-02-03"), at("2026-02-03"), 1, 1),
        (11, "advance", *middle, 14, 31),
        (11, "arrears", *middle, 14, 31),
    ]
    assert [period[:2] for period in periods_of(orders[7:8], "2026-03")] == [(8, "arrears")]


def test_a_month_is_that_of_the_orders_zone() -> None:
    far = Order(1, "2026-01-01", plan="both", zone="Asia/Vladivostok")
    start, end = at("2026-01-01", far.zone), at("2026-02-01", far.zone)
    assert periods_of([far], "2026-01") == [(1, "arrears", start, end, 31, 31)]


def test_a_suspension_known_today_counts() -> None:
    paused = Order(1, "2026-01-01", plan="both", ahead=True, pauses=[("2026-01-11", "")])
    found = what_if(World(offer(), [paused]), offer(fee="620"))
    assert found.up == [Paid(1, "RUB", 9_677, 20_000)]  # 300 and 620, 10 days of 31


def test_who_cannot_be_billed_under_the_draft_is_counted_apart() -> None:
    plans = "  late: {items: [fee]}"
    world = World(
        offer(plans=plans),
        [Order(1, "2026-01-01", plan="both", account=1), Order(2, "2026-01-01", plan="late", account=2)],
    )
    found = what_if(world, offer(fee="310"))
    assert found.money["RUB"].accounts == 1
    assert found.money["RUB"].total_before_minor == 30_000
    assert (found.after.accounts, found.after.reasons) == (1, {"unknown_plan": 1})
    assert found.after.other_net_minor == {"RUB": 24_000}
    assert [(one.account_id, one.order_id) for one in found.after.listed] == [(2, 2)]
    assert "no plan late" in found.after.listed[0].detail
    assert found.before.accounts == 0


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=30), st.integers(0, 30))
def test_ranges_add_up_to_the_whole(minutes: list[int], cut: int) -> None:
    world, draft = callers(dict(enumerate(minutes, 1))), offer(fee="330", call="0.60")
    parts = [
        World(world.catalogue, orders, world.events) for orders in (world.orders[:cut], world.orders[cut:]) if orders
    ]
    added = Compared()
    for part in parts:
        added.add(what_if(part, draft))
    assert added == what_if(world, draft)


def test_prices_as_of_a_date_are_in_force_at_all_times() -> None:
    more = """
  - {item: call, plan: both, versions: [{from: 2026-06-01, steps: [per_unit: {price: 9, per: 60 s}]}]}
"""
    rising = offer(more=more)
    assert what_if(callers({1: 10}), rising).up == []
    may, july = (prices_as_of(rising, at(f"2026-{month}-01")) for month in ("05", "07"))
    assert what_if(callers({1: 10}), may).up == []
    assert what_if(callers({1: 10}), july).up == [Paid(1, "RUB", 31_200, 39_000)]
    assert resolve_price(prices_as_of(rising, 0), "fee", Buyer("RUB", "both")) is None


@pytest.mark.parametrize("text", ["2026", "2026-13", "2026-1", "26-01-01", "1970-01", "２０２６-01", ""])
def test_what_is_no_month_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(MonthError, match=r"^(a period is a month such as 2026-10|there are no periods of)"):
        month_of(text)


# ---- the real database


@pytest.fixture
def base(database) -> Iterator[Base]:
    with cycle_base(database.dsn, database.owner_dsn) as made:
        yield made


def draft_of(*changes: tuple[bytes, bytes]) -> tuple[Catalogue, Source]:
    text = CATALOGUE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    source = Source("cycle.yaml", {"cycle.yaml": text})
    return catalogue_of(source), source


def plain_month(base: Base) -> None:
    """January of a few accounts: in arrears and in advance, a group, a promotion, a child, an end, a minimum."""
    parent = base.subscriber("S1")
    for number, minutes in ((2, 10), (3, 25)):
        account = base.subscriber(f"S{number}", payer=parent if number == 3 else None)
        base.order(account, codes=["SPRING"] if number == 2 else None)
        base.call(account, "2026-01-15T12:00:00+03:00", minutes)
    base.order(base.subscriber("S4", group="staff"), in_advance=True)
    ended = base.subscriber("S5")
    base.order(ended, ends_at="2026-01-16T00:00:00+03:00")
    base.call(ended, "2026-01-15T23:59:59+03:00", 7)
    base.call(ended, "2026-01-16T00:00:00+03:00", 1_000)
    base.order(parent, minimum_minor=50_000, quantity=1)
    base.order(base.subscriber("S6"), item="setup", kind="one_time", price_minor=99_000)


def test_a_month_comes_to_what_the_cycle_bills_for_it_before_and_after_it_was_billed(base: Base) -> None:
    plain_month(base)
    unbilled = compare_base(base.dsn, JANUARY, draft_of(), processes=1)
    assert unbilled.in_force.version == 1
    # The advance part of January is due in January, the one of February in the run of February: S4 has it twice.
    base.bill()
    billed = base.one("SELECT sum(total_minor) FROM invoices") - 10_000
    money = unbilled.compared.money["RUB"]
    assert (money.total_before_minor, money.total_after_minor, money.accounts) == (billed, billed, 6)
    base.bill(MARCH)
    again = compare_base(base.dsn, JANUARY, draft_of(), processes=1)
    assert again.compared == unbilled.compared


def test_ranges_on_several_processes_come_to_the_same(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    plain_month(base)
    draft = draft_of((b"amount: 300.00", b"amount: 310.00"))
    whole = compare_base(base.dsn, JANUARY, draft, processes=1)
    monkeypatch.setattr("billing.simulation.whatif_run.ACCOUNTS_PER_RANGE", 1)
    parts = compare_base(base.dsn, JANUARY, draft, processes=2)
    assert parts.compared == whole.compared
    assert [(parts.numbers[one.account_id], one.change_minor) for one in parts.compared.up] == [
        ("S3", 1_000),
        ("S2", 500),
        ("S5", 484),  # 15 days of 31
    ]


def test_a_draft_of_a_name_nobody_buys_under_is_refused(base: Base) -> None:
    with pytest.raises(MonthError, match=r"^nothing is sold under a catalogue 'other'; the database has: cycle$"):
        compare_base(base.dsn, JANUARY, draft_of((b"name: cycle", b"name: other")), processes=1)
    with pytest.raises(MonthError, match=r"^no order began before the end of 2026-01"):
        compare_base(base.dsn, JANUARY, draft_of(), processes=1)


def test_nothing_is_written(base: Base) -> None:
    plain_month(base)
    compare_base(base.dsn, JANUARY, draft_of(), processes=1)
    for table in ("bill_runs", "order_periods", "invoices", "transfers"):
        assert base.one(f"SELECT count(*) FROM {table}") == 0
