"""Columns of a shard out of the real database and back: what is read, what is left out, what is written."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pytest

from billing import cycle_store
from billing.cycle_link import Link
from billing.cycle_plan import NewRun, plan_run
from billing.cycle_records import NEVER, NO_FLOOR, NONE, ShardInput, Windows
from billing.cycle_store import Claim, Wanted, claim_shard, read_settled, read_shard, read_terms, read_usage
from tests.billing.cycle_base import FEBRUARY, MARCH, Base, cycle_base


def second(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


@pytest.fixture
def base(database) -> Iterator[Base]:
    with cycle_base(database.dsn, database.owner_dsn) as made:
        yield made


@pytest.fixture
def link(base: Base) -> Iterator[Link]:
    made = Link(base.dsn)
    yield made
    made.close()


def whole(bill_on: date = FEBRUARY) -> Claim:
    """A shard of all payers, without a run."""
    return Claim(1, 0, "due", "post", "running", bill_on, 1, 1_000_000)


def shard(link: Link, groups: tuple[str, ...] = (), customers: tuple[str, ...] = ()) -> ShardInput:
    def read(opened: Any) -> ShardInput:
        terms = read_terms(opened)
        wanted = Wanted(
            frozenset(number for number, one in terms.items() if one.in_advance),
            frozenset(number for number, one in terms.items() if one.kind == "one_time"),
            frozenset(groups),
            frozenset(customers),
        )
        return read_shard(opened, whole(), wanted)

    return link.run(read)


def test_an_order_is_read_with_its_last_records(base: Base, link: Link) -> None:
    advance = base.order(base.subscriber("S1"), in_advance=True, quantity=3, codes=["SPRING", "OTHER"], minimum_minor=7)
    arrears = base.order(base.subscriber("S2"), ends_at="2026-05-01T00:00:00+03:00")
    once = base.order(base.subscriber("S3"), item="setup", kind="one_time", price_minor=500)
    base.rows("UPDATE orders SET trial_until = '2026-01-08T00:00:00+03:00' WHERE id = %s", advance)
    base.bill()
    before = shard(link)
    assert before.orders.order_id.tolist() == [advance, arrears]  # the one-time order is billed and settled
    with base.without_trigger("orders", "orders_stay_settled"):
        base.rows("UPDATE orders SET settled_at = NULL WHERE id = %s", once)
    orders = shard(link).orders
    assert orders.order_id.tolist() == [advance, arrears, once]
    assert orders.quantity.tolist() == [3, 1, 1]
    assert orders.ends_s.tolist() == [NEVER, second("2026-05-01T00:00:00+03:00"), NEVER]
    assert orders.trial_until_s.tolist() == [second("2026-01-08T00:00:00+03:00"), 0, 0]
    assert orders.price_minor.tolist() == [NONE, NONE, 500]
    assert orders.minimum_minor.tolist() == [7, 0, 0]
    february, march = second("2026-02-01T00:00:00+03:00"), second("2026-03-01T00:00:00+03:00")
    assert orders.advance_done_s.tolist() == [march, NONE, NONE]
    assert orders.arrears_done_s.tolist() == [february, february, NONE]
    assert orders.once_done.tolist() == [0, 0, 1]
    assert [before.codes[code] for code in before.orders.codes] == [("SPRING", "OTHER"), ()]


def test_a_payer_is_read_once_and_with_his_floor(base: Base, link: Link) -> None:
    debtor, prepaid = base.subscriber("S1"), base.subscriber("S2", kind="prepaid")
    base.subscriber("S3")  # has nothing
    for account in (debtor, debtor, prepaid):
        base.order(account)
    base.pay(prepaid, 700)
    found = shard(link)
    assert found.payers.account_id.tolist() == [debtor, prepaid]
    assert found.payers.floor_minor.tolist() == [NO_FLOOR, 0]
    assert found.payers.balance_minor.tolist() == [0, 700]
    assert [found.currencies[code] for code in found.payers.currency] == ["RUB", "RUB"]


def test_a_buyer_is_somebody_only_where_a_catalogue_names_him(base: Base, link: Link) -> None:
    for number, group in (("S1", "staff"), ("S2", "others"), ("S3", "")):
        base.order(base.subscriber(number, group=group))
    found = shard(link, groups=("staff", "o'clock"), customers=("S3",))
    assert [found.buyers[buyer] for buyer in found.orders.buyer] == [("staff", ""), ("", ""), ("", "S3")]
    assert set(shard(link).orders.buyer.tolist()) == {0}


def test_manual_lines_are_read_from_their_day_on(base: Base, link: Link) -> None:
    account = base.subscriber("S1")
    for key, day in (("a", "2026-01-31"), ("b", "2026-02-01"), ("c", "2026-02-02")):
        base.rows(
            "INSERT INTO manual_lines (key, account_id, payer_account_id, description, amount_minor, tax_ppm, "
            "tax_inside, bill_on, actor, why) VALUES (%s, %s, %s, 'x', -100, 220000, false, %s, 'test', 'x')",
            key,
            account,
            account,
            day,
        )
    found = shard(link)
    assert found.manual.amount_minor.tolist() == [-100, -100]
    assert found.manual.day_s.tolist() == [second("2026-01-31T00:00:00+03:00"), second("2026-02-01T00:00:00+03:00")]
    assert found.payers.account_id.tolist() == [account]


def test_only_an_end_or_a_suspension_makes_an_advance_worth_looking_at(base: Base, link: Link) -> None:
    orders = [base.order(base.subscriber(f"S{number}"), in_advance=True) for number in range(1, 5)]
    base.bill()
    assert shard(link).trueups.order_id.tolist() == []
    base.rows("UPDATE orders SET ends_at = '2026-02-10T00:00:00+03:00' WHERE id = %s", orders[1])
    for order, from_at in ((orders[2], "2026-01-10T00:00:00+03:00"), (orders[3], "2026-03-10T00:00:00+03:00")):
        base.rows(
            "INSERT INTO order_suspensions (order_id, from_at, reason, actor) VALUES (%s, %s, 'asked', 'test')",
            order,
            from_at,
        )
    found = shard(link)
    starts = [second(f"2026-0{month}-01T00:00:00+03:00") for month in (1, 2)]
    rows = list(zip(found.trueups.order_id.tolist(), found.trueups.start_s.tolist(), strict=True))
    assert rows == [(orders[1], starts[1]), (orders[2], starts[0]), (orders[2], starts[1])]
    assert found.trueups.amount_minor.tolist() == [30_000] * 3
    assert {found.items[item] for item in found.trueups.item} == {"fee"}
    assert found.suspensions.order_id.tolist() == orders[2:]


def test_usage_is_read_within_its_windows_either_way(base: Base, link: Link, monkeypatch) -> None:
    accounts = [base.subscriber(f"S{number}") for number in range(1, 6)]
    rng = np.random.default_rng(4)
    for account in accounts:
        for minute in rng.integers(0, 59 * 24 * 60, 12):
            at = datetime(2026, 1, 1, tzinfo=UTC).timestamp() + int(minute) * 60
            base.call(account, datetime.fromtimestamp(at, UTC).isoformat(), 1 + int(minute) % 5)
    start, middle, end = (second(f"2026-0{month}-01T00:00:00+00:00") for month in (1, 2, 3))
    windows = Windows(
        account_id=np.array([accounts[0], accounts[1], accounts[1], accounts[3], accounts[4]]),
        from_s=np.array([start, start, middle + 86_400, middle, middle - 86_400]),
        until_s=np.array([middle, start + 10 * 86_400, end, end, middle + 86_400]),
    )
    listed = base.rows(
        "SELECT e.id FROM unnest(%s, %s, %s) AS w (account_id, from_s, until_s) JOIN usage_events e "
        "ON e.account_id = w.account_id AND counts_at >= to_timestamp(from_s) AND counts_at < to_timestamp(until_s) "
        "ORDER BY e.account_id, at, id",
        *(column.tolist() for column in (windows.account_id, windows.from_s, windows.until_s)),
    )
    assert len(listed) > 10
    for dense in (0.0, 2.0):  # all by one range; all by their windows
        monkeypatch.setattr(cycle_store, "_DENSE", dense)
        found = link.run(lambda opened: read_usage(opened, whole(), windows))
        assert found.id.tolist() == [number for (number,) in listed]
        assert found.items == ("voice",)
        assert found.destination is None


def test_settled_orders_of_the_same_accounts_are_read(base: Base, link: Link) -> None:
    account, other = base.subscriber("S1"), base.subscriber("S2")
    gone = base.order(account, ends_at="2026-01-20T00:00:00+03:00")
    base.order(other, ends_at="2026-01-20T00:00:00+03:00")
    base.bill()
    base.order(account)
    found = shard(link)
    from_s = second("2026-01-19T00:00:00+03:00")
    windows = Windows(np.array([account]), np.array([from_s]), np.array([from_s + 86_400]))
    settled = link.run(lambda opened: read_settled(opened, whole(), found, windows))
    assert settled.order_id.tolist() == [gone]
    later = replace(windows, from_s=windows.from_s + 2 * 86_400)
    assert link.run(lambda opened: read_settled(opened, whole(), found, later)).order_id.tolist() == []


def test_what_a_shard_came_to_is_written_whole(base: Base) -> None:
    account = base.subscriber("S1")
    order = base.order(account, in_advance=True)
    base.call(account, "2026-01-15T12:00:00+03:00", 2)
    base.order(base.subscriber("S2"), plan="gone")
    base.bill()
    lines = base.rows(
        "SELECT line, kind, order_id, item, quantity, amount_minor, tax_ppm, tax_inside, net_minor + tax_minor, "
        "(period_start AT TIME ZONE 'Europe/Moscow')::date, (period_end AT TIME ZONE 'Europe/Moscow')::date "
        "FROM invoice_lines ORDER BY line"
    )
    january, february = date(2026, 1, 1), FEBRUARY
    assert lines == [
        (1, "recurring", order, "fee", 1, 30_000, 220_000, True, 30_000, january, february),
        (2, "usage", order, "voice", 120, 200, 220_000, True, 200, january, february),
        (3, "recurring", order, "fee", 1, 30_000, 220_000, True, 30_000, february, MARCH),
    ]
    periods = base.rows(
        "SELECT order_id, part, outcome, reason, amount_minor, invoice_id FROM order_periods ORDER BY 2, 3"
    )
    invoice = base.one("SELECT id FROM invoices WHERE account_id = %s", account)
    assert sorted(periods) == sorted(
        [
            (order, "advance", "billed", "", 30_000, invoice),
            (order, "advance", "billed", "", 30_000, invoice),
            (order, "arrears", "billed", "", 200, invoice),
        ]
    )
    assert base.rows("SELECT invoiced_on, due_on FROM invoices") == [(FEBRUARY, date(2026, 2, 15))]
    assert base.rows("SELECT reason, part FROM bill_failures") == [("unknown_plan", "arrears")]
    counts = "SELECT accounts_count, orders_count, invoices_count, lines_count, failures_count FROM bill_shards"
    assert base.rows(counts) == [(2, 2, 1, 3, 1)]


def test_a_shard_is_claimed_by_one(base: Base, link: Link) -> None:
    base.order(base.subscriber("S1"))
    run_id = link.run(lambda opened: plan_run(opened, NewRun(FEBRUARY, "post", "test")))
    other = Link(base.dsn)

    def claim(opened: Any) -> None:
        mine = claim_shard(opened, run_id, 0)
        assert mine is not None
        assert (mine.state, mine.kind, mine.bill_on) == ("due", "post", FEBRUARY)
        assert other.run(lambda them: claim_shard(them, run_id, 0)) is None

    link.run(claim)
    assert other.run(lambda opened: claim_shard(opened, run_id, 0)) is not None
    other.close()


@pytest.mark.parametrize(
    ("count", "accounts", "instants"),
    [(0, 1, 1), (1, 1, 1), (500, 5, 5), (500, 40, 2**40), (500, 2**40, 2**40), (500, 40, 2**50)],
)
def test_usage_is_in_order_of_account_instant_and_id(count: int, accounts: int, instants: int) -> None:
    chance = np.random.default_rng(count)
    account, at = chance.integers(0, accounts, count) + 7, chance.integers(0, instants, count)
    ids = chance.permutation(count)
    order = cycle_store._by_account_and_time(account, at, ids)
    expected = sorted(range(count), key=lambda row: (account[row], at[row], ids[row]))
    assert order.tolist() == expected
