"""An end that is moved is refused if usage then passes to an order whose period is billed; if it did, it is told."""

from collections.abc import Iterator
from typing import Any

import pytest

from billing.orders.orders import end_order, replace_order, withdraw_end
from billing.orders.rules import OrderError
from billing.verification.cycle import verify_cycle
from billing.verification.unbilled import list_unbilled
from kopeck.databases.transactions import in_transaction
from tests.billing.cycle.base import FEBRUARY, MARCH, Base, cycle_base

FEE = 30_000
CALL = "2026-01-25T12:00:00+03:00"


@pytest.fixture
def base(database) -> Iterator[Base]:
    with cycle_base(database.dsn, database.owner_dsn) as made:
        yield made


def when(base: Base, text: str) -> int:
    return int(base.one("SELECT extract(epoch FROM %s::timestamptz)::bigint", text))


def end(base: Base, number: str, at: str) -> bool:
    return in_transaction(
        base.dsn, lambda cur: end_order(cur, number, when(base, at), "anna", "moved away", is_exact=True)
    )


def unbilled(base: Base) -> list[tuple[str, str, str, int]]:
    async def work(cur: Any) -> Any:
        return await list_unbilled(cur, "", 100)

    return [(one.account, one.item, one.why, one.events) for one in in_transaction(base.dsn, work)]


def verified(base: Base) -> tuple[list[str], str]:
    """(findings, notes) of what verify says of the cycle."""
    checks = in_transaction(base.dsn, lambda cur: verify_cycle(cur, None))
    return [one.what for check in checks for one in check.findings], "; ".join(check.note for check in checks)


def two_orders(base: Base, ends_at: str | None = None) -> int:
    """An account with two orders on calls: #1, billed by quarters, and #2, billed by months, which is billed before."""
    account = base.subscriber("A")
    first = base.order(account, ends_at=ends_at)
    base.rows("UPDATE order_terms SET interval_unit = 'month', interval_count = 3")
    second = base.order(account)
    base.rows("UPDATE orders SET number = 'N-' || id")
    assert (first, second) == (1, 2)
    base.call(account, CALL, 7)
    return account


def test_an_end_that_gives_usage_to_an_order_that_is_billed_is_refused(base: Base) -> None:
    account = two_orders(base)
    assert base.bill(FEBRUARY).summary.is_clean
    assert base.balance(account) == -FEE
    words = "an end then gives 1 events from 2026-01-25 12:00:00 on to order N-2, which is billed until 2026-02-01"
    with pytest.raises(OrderError, match=words):
        end(base, "N-1", "2026-01-20T00:00:00+03:00")
    assert end(base, "N-1", "2026-02-01T00:00:00+03:00")
    assert base.bill(MARCH).summary.is_clean
    assert base.one("SELECT sum(amount_minor) FROM invoice_lines WHERE kind = 'usage'") == 700
    assert (unbilled(base), verified(base)[0], base.differences()) == ([], [], [])


def test_a_plan_change_that_gives_usage_to_an_order_that_is_billed_is_refused(base: Base) -> None:
    two_orders(base)
    base.bill(FEBRUARY)
    with pytest.raises(OrderError, match="order N-2, which is billed until 2026-02-01"):
        in_transaction(
            base.dsn, lambda cur: replace_order(cur, "N-1", when(base, "2026-01-20T00:00:00+03:00"), "anna", quantity=2)
        )


@pytest.mark.parametrize("later", ["", "2026-01-28T00:00:00+03:00"])
def test_an_end_that_takes_usage_from_an_order_that_is_billed_is_refused(base: Base, later: str) -> None:
    account = two_orders(base, "2026-01-20T00:00:00+03:00")
    base.call(account, "2026-01-10T12:00:00+03:00", 1)
    base.rows("ALTER TABLE usage_events DISABLE TRIGGER USER")
    base.rows("UPDATE usage_events SET quantity_micro = 60500000 WHERE at < '2026-01-20'")
    base.rows("ALTER TABLE usage_events ENABLE TRIGGER USER")
    assert [(one.order, one.reason) for one in base.bill(FEBRUARY).summary.listed] == [("N-1", "bad_quantity")]
    assert base.balance(account) == -FEE - 700
    words = "takes 1 events from 2026-01-25 12:00:00 on from order N-2, which is billed until 2026-02-01"

    def move() -> None:
        if later:
            end(base, "N-1", later)
        else:
            in_transaction(base.dsn, lambda cur: withdraw_end(cur, "N-1", "anna"))

    with pytest.raises(OrderError, match=words):
        move()
    assert end(base, "N-1", "2026-01-24T00:00:00+03:00")


@pytest.mark.parametrize("details", ['{"at": "2026-01-20"}', '{"reason": "dunning"}'])
def test_usage_that_an_earlier_program_let_pass_to_a_billed_order_is_listed(base: Base, details: str) -> None:
    two_orders(base)
    base.bill(FEBRUARY)
    base.rows("UPDATE orders SET ends_at = '2026-01-20T00:00:00+03:00' WHERE id = 1")
    base.rows("INSERT INTO order_events (order_id, event, details, actor) VALUES (1, 'ended', %s, 'test')", details)
    base.bill(MARCH)
    assert unbilled(base) == [("A", "voice", "end moved", 1)]
    assert "1 events passed to an order that was billed before them" in verified(base)[1]


def test_usage_of_an_order_whose_end_was_known_to_its_run_is_not_listed(base: Base) -> None:
    two_orders(base)
    assert end(base, "N-1", "2026-01-20T00:00:00+03:00")
    assert base.bill(FEBRUARY).summary.is_clean
    assert base.one("SELECT order_id FROM invoice_lines WHERE kind = 'usage'") == 2
    assert (unbilled(base), verified(base)[0]) == ([], [])
    assert "passed to" not in verified(base)[1]
