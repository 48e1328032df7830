"""A month of usage rated in columns: equal to the judge of ``kopeck rate``, by hand where orders decide."""

import io
import random
from collections.abc import Iterator

import pytest

from billing.catalogue.model import Catalogue
from billing.charging.records import Windows
from billing.rating.bills import BillTerms, rate_usage
from billing.rating.rated_file import read_usage
from billing.simulation.store import MonthError, month_of
from billing.simulation.usage import ItemTotal, Key, UncoveredUsage, rate_month
from billing.simulation.usage_run import rate_base
from tests.billing.catalogue.catalogues import HEAD, example, read
from tests.billing.charging.shards import Event, Order, World, at, ints, shard_of, with_events
from tests.billing.cycle.base import Base, cycle_base
from tests.billing.simulation.test_whatif import draft_of

MINUTE = 60_000_000
JANUARY = month_of("2026-01")

SHOP = read(
    HEAD
    + """\
valid: {from: 2020-01-01, until: 2036-01-01}
items:
  fee: {unit: piece}
  call: {unit: s}
  data: {unit: GB, decimals: 3}
  late: {unit: piece}
  cut: {percentage_of: [fee, call]}
pools:
  minutes: {unit: s}
plans:
  both: {items: [fee, call, data], pools: [{pool: minutes, quantity: 60 s}]}
  fees: {items: [fee]}
prices:
  - {item: fee, versions: [{from: 2020-01-01, steps: [flat: {amount: 300}]}]}
  - {item: call, versions: [{from: 2020-01-01, steps: [per_unit: {price: 1, per: 60 s}]}]}
  - {item: call, group: staff, versions: [{from: 2020-01-01, steps: [per_unit: {price: 0.5, per: 60 s}]}]}
  - item: call
    plan: both
    versions: [{from: 2020-01-01, steps: [allowance: {pool: minutes}, per_unit: {price: 2, per: 60 s}]}]
  - item: data
    versions: [{from: 2020-01-01, steps: [per_unit: {price: 10, per: 1 GB}, minimum_commitment: {minimum: 5}]}]
  - {item: late, versions: [{from: 2026-02-01, steps: [per_unit: {price: 1}]}]}
  - {item: cut, versions: [{from: 2020-01-01, steps: [percentage: {percent: 5}]}]}
"""
)


def rated(world: World, outside: UncoveredUsage | None = None) -> dict[tuple[str, str], ItemTotal]:
    """January of a world by (plan, item)."""
    accounts = ints(sorted({one.account for one in world.events}))
    low, high = at("2026-01-01"), at("2026-02-01")
    read_windows = Windows(accounts, accounts * 0 + low, accounts * 0 + high)
    shard = with_events(shard_of(world, "2026-02-01"), world.events, read_windows)
    totals, _ = rate_month(shard, world.tariffs(), outside or UncoveredUsage(), low, high)
    return {(key.plan, key.item): one for key, one in totals.items()}


def call(number: int, account: int = 1, minutes: int = 2, day: int = 15, item: str = "call") -> Event:
    return Event(number, item, f"2026-01-{day:02d} 12:00", minutes * MINUTE, account=account)


def test_usage_costs_what_the_plan_of_its_order_says() -> None:
    orders = [Order(1, "2026-01-10", plan="both"), Order(2, "2026-01-01", item="call", ends="2026-01-12", account=2)]
    events = [call(1, day=9), call(2), call(3, minutes=1), call(4, account=2, day=11), call(5, account=2, day=13)]
    found = rated(World(SHOP, orders, events))
    # Within the order: 60 s of 180 are in the pool, 2 minutes at 2.00. Before it and after the other: 1.00 a minute.
    assert found["both", "call"] == ItemTotal(2, 180, 400, 1)
    assert found["", "call"] == ItemTotal(3, 360, 600, 3)


def test_outside_orders_a_named_plan_and_the_group_decide() -> None:
    world = World(SHOP, [], [call(1), call(2, account=2)])
    assert rated(world)["", "call"].amount_minor == 400
    assert rated(world, UncoveredUsage("", {2: ("staff", "")}))["", "call"].amount_minor == 200 + 100
    assert rated(world, UncoveredUsage("both"))["both", "call"] == ItemTotal(2, 240, 400, 2)  # 60 s free for either


def test_a_line_is_closed_where_it_was_used() -> None:
    found = rated(World(SHOP, [Order(1, "2026-01-01", plan="both")], [Event(1, "data", "2026-01-02", 100_000)]))
    assert found == {("both", "data"): ItemTotal(1, 100, 500, 1)}  # 1.00, of the minimum of 5.00


def test_what_cannot_be_rated_is_counted_by_reason() -> None:
    events = [
        call(1, item="fee"),
        call(2, item="cut"),
        call(3, item="gone"),
        call(4, item="late"),
        Event(5, "data", "2026-01-02", 1),
        call(6),
    ]
    found = rated(World(SHOP, [], events))
    assert {item: one.rejects for (_, item), one in found.items()} == {
        "fee": {"not_metered": 1},
        "cut": {"not_metered": 1},
        "gone": {"unknown_item": 1},
        "late": {"no_price": 1},
        "data": {"bad_quantity": 1},
        "call": {},
    }
    assert sum(one.rows for one in found.values()) == 1


@pytest.mark.parametrize("seed", range(5))
def test_a_month_comes_to_what_the_judge_says(seed: int) -> None:
    catalogue: Catalogue = example("mobile.yaml")
    dice = random.Random(seed)
    events, rows = [], ["account,item,time,quantity,duration,destination"]
    for number in range(1, 300):
        item, account = dice.choice(["voice", "data", "roaming"]), dice.randint(1, 9)
        when = f"{dice.randint(1, 31):02d} {dice.randint(0, 23):02d}:{dice.randint(0, 59):02d}"
        amount = dice.randint(1, 4_000)
        length, to = (amount, dice.choice(["79161234567", "4915123456", "1"])) if item != "data" else (0, "")
        events.append(Event(number, item, f"2026-01-{when}", amount * 1_000_000, account, "", length, to))
        rows.append(f"{account},{item},2026-01-{when.replace(' ', 'T')}:00,{amount},{length},{to}")
    usage, bad = read_usage("u.csv", io.BytesIO("\n".join(rows).encode()), catalogue, "smart")
    bills, unrated = rate_usage(catalogue, usage, BillTerms("RUB"))
    assert bad == []
    found = rated(World(catalogue, [], events), UncoveredUsage("smart"))
    assert len(unrated) == sum(count for one in found.values() for count in one.rejects.values())
    for item in ("voice", "data", "roaming"):
        lines = [line for bill in bills for line in bill.lines if line.item == item and line.used]
        total = found["smart", item]
        assert total.amount_minor == sum(line.amount for line in lines)
        assert total.quantity == sum(line.used for line in lines)


# ---- the real database


@pytest.fixture
def base(database) -> Iterator[Base]:
    with cycle_base(database.dsn, database.owner_dsn) as made:
        yield made


def test_usage_in_the_database_is_rated_in_ranges(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 7):
        account = base.subscriber(f"S{number}")
        if number > 2:
            base.order(account)
        base.call(account, "2026-01-15T12:00:00+03:00", number)
        base.call(account, "2026-01-31T23:59:59+03:00", 10)
        base.call(account, "2026-02-01T00:00:00+03:00", 1_000)
    expected = {
        Key("cycle", "", "voice", "RUB"): ItemTotal(4, 23 * 60, 2_300, 2),
        Key("cycle", "basic", "voice", "RUB"): ItemTotal(8, 58 * 60, 5_800, 4),
    }
    whole = rate_base(base.dsn, JANUARY, processes=1)
    assert whole.totals == expected
    assert (whole.accounts, whole.rated, whole.rejects, whole.zone) == (6, 12, {}, "Europe/Moscow")
    monkeypatch.setattr("billing.simulation.usage_run.EVENTS_PER_RANGE", 2)
    assert rate_base(base.dsn, JANUARY, processes=2).totals == expected
    dearer = rate_base(base.dsn, JANUARY, draft_of((b"price: 1.00", b"price: 2.00")), processes=1)
    assert [one.amount_minor for one in dearer.totals.values()] == [4_600, 11_600]


def test_a_month_without_usage_comes_to_nothing(base: Base) -> None:
    assert rate_base(base.dsn, JANUARY, processes=1).totals == {}


def test_a_plan_that_no_catalogue_has_is_refused(base: Base) -> None:
    with pytest.raises(MonthError, match=r"^no catalogue has a plan 'gold'$"):
        rate_base(base.dsn, JANUARY, plan="gold", processes=1)


def test_without_a_catalogue_there_is_nothing_to_rate_by(database) -> None:
    with pytest.raises(MonthError, match=r"^there is no catalogue"):
        rate_base(database.dsn, JANUARY, processes=1)
    assert rate_base(database.dsn, JANUARY, draft_of(), processes=1).catalogues[0].version == 0
