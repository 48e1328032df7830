"""Whose usage a run closes, what becomes of usage that comes late, and the way out of a boundary that went too far."""

import io
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import psycopg2
import pytest

from billing.cycle import run as cycle_run
from billing.cycle.plan import NewRun
from billing.cycle.posting import CycleRefused
from billing.usage.format import parse_format
from billing.usage.importer import import_file
from billing.usage.load_store import NewImport
from billing.verification.cycle import verify_cycle
from billing.verification.unbilled import list_unbilled
from kopeck.databases.transactions import in_transaction
from tests.billing.cycle.base import FEBRUARY, MARCH, Base, cycle_base
from tests.billing.cycle.test_schedules import FORMAT

FEE = 30_000
HEADER = "id;number;item;at;quantity\n"


@pytest.fixture
def base(database: Any) -> Iterator[Base]:
    with cycle_base(database.dsn, database.owner_dsn) as made:
        yield made


def called(base: Base, key: str, number: str, at: str, minutes: int, late: str = "accept") -> Any:
    """Import a call of this length, as a file of its own."""
    second = int(datetime.fromisoformat(at).timestamp())
    data = f"{HEADER}{key};{number};voice;{second};{minutes * 60}\n".encode()
    new = NewImport("switch", "switch", FORMAT, f"{key}.csv", late, "test")
    now = datetime(2026, 11, 1, tzinfo=UTC)
    return import_file(base.dsn, io.BytesIO(data), parse_format(FORMAT, "switch.toml"), new, now=lambda: now).counts


def run(base: Base, day: date, kind: str = "post", account: str = "") -> int:
    run_id = cycle_run.start_run(base.dsn, NewRun(day, kind, "test", account=account))
    cycle_run.go_on(base.dsn, run_id, cycle_run.Crew(1))
    return run_id


def open_from(base: Base) -> str | None:
    return base.one("SELECT (open_from AT TIME ZONE 'Europe/Moscow')::text FROM usage_open")  # type: ignore[no-any-return]


def is_marked(base: Base, key: str) -> bool:
    return bool(
        base.one(
            "SELECT e.counts_at > e.at FROM usage_keys k JOIN usage_events e ON e.id = k.usage_id WHERE k.key = %s", key
        )
    )


def lines(base: Base, account: int) -> list[tuple[Any, ...]]:
    return base.rows(
        "SELECT l.order_id, l.kind, l.item, l.quantity, l.amount_minor FROM invoice_lines l "
        "JOIN invoices i ON i.id = l.invoice_id WHERE i.account_id = %s AND i.corrects_id IS NULL "
        "ORDER BY l.invoice_id, l.line",
        account,
    )


def findings(base: Base) -> list[str]:
    async def work(cur: Any) -> list[str]:
        return [str(one) for check in await verify_cycle(cur, None) for one in check.findings]

    return in_transaction(base.dsn, work)


def notes(base: Base) -> str:
    async def work(cur: Any) -> str:
        return "; ".join(check.note for check in await verify_cycle(cur, None) if check.note)

    return in_transaction(base.dsn, work)


def unbilled(base: Base) -> list[tuple[str, str, str, int]]:
    async def work(cur: Any) -> Any:
        return await list_unbilled(cur, "", 100)

    return [(one.account, one.item, one.why, one.events) for one in in_transaction(base.dsn, work)]


def test_a_run_of_one_payer_closes_his_usage_and_nobody_elses(base: Base) -> None:
    his, other = base.subscriber("A"), base.subscriber("B")
    base.order(his)
    base.order(other)
    run(base, FEBRUARY, account="A")
    assert open_from(base) is None
    called(base, "a", "A", "2026-01-05T12:00:00+03:00", 3)
    called(base, "b", "B", "2026-01-05T12:00:00+03:00", 5, late="reject")
    assert (is_marked(base, "a"), is_marked(base, "b")) == (True, False)
    run(base, FEBRUARY)
    assert [line[3:] for line in lines(base, other)] == [(1, FEE), (300, 500)]
    run(base, MARCH)
    assert [line[3:] for line in lines(base, his)] == [(1, FEE), (180, 300), (1, FEE)]
    assert findings(base) == []


def test_a_review_closes_usage_when_it_is_approved_and_not_before(base: Base) -> None:
    account = base.subscriber("A")
    base.order(account)
    review = run(base, FEBRUARY, "review")
    assert open_from(base) is None
    assert called(base, "a", "A", "2026-01-05T12:00:00+03:00", 3, late="reject").rejected == 0
    cycle_run.approve(base.dsn, review, "test")
    cycle_run.go_on(base.dsn, review, cycle_run.Crew(1))
    assert open_from(base) == "2026-02-01 00:00:00"
    assert lines(base, account)[-1][1] == "recurring"  # what came while it waited was not in its drafts
    run(base, MARCH)
    assert (180, 300) in [line[3:] for line in lines(base, account)]
    assert findings(base) == []


def test_a_void_review_leaves_nothing_closed(base: Base) -> None:
    account = base.subscriber("A")
    base.order(account)
    cycle_run.void_review(base.dsn, run(base, FEBRUARY, "review"))
    cycle_run.void_review(base.dsn, run(base, FEBRUARY, "review", "A"))
    assert open_from(base) is None
    assert base.one("SELECT count(*) FROM usage_open_accounts") == 0
    called(base, "a", "A", "2026-01-05T12:00:00+03:00", 3)
    assert not is_marked(base, "a")
    run(base, FEBRUARY)
    assert [line[3:] for line in lines(base, account)] == [(1, FEE), (180, 300)]


def test_a_date_beyond_what_usage_can_be_kept_for_is_refused(base: Base) -> None:
    base.order(base.subscriber("A"))
    far = datetime.now(UTC).date().replace(day=1)
    far = far.replace(year=far.year + 1)
    for kind, account in (("post", ""), ("review", ""), ("post", "A")):
        with pytest.raises(CycleRefused, match="usage is kept up to three months ahead"):
            cycle_run.start_run(base.dsn, NewRun(far, kind, "test", account=account))
    assert base.one("SELECT count(*) FROM bill_runs") == 0
    assert open_from(base) is None


def test_a_boundary_that_went_too_far_is_moved_back_to_what_was_billed(base: Base) -> None:
    base.order(base.subscriber("A"))
    run(base, FEBRUARY)
    base.rows("UPDATE usage_open SET open_from = '2027-06-01'")
    cycle_run.reopen_usage(base.dsn)
    assert open_from(base) == "2026-02-01 00:00:00"
    before, after = cycle_run.reopen_usage(base.dsn)
    assert before == after
    with pytest.raises(psycopg2.Error, match="stays closed"):
        base.rows("UPDATE usage_open SET open_from = '2026-01-01'")


def test_late_usage_of_an_order_that_has_ended_reaches_an_invoice(base: Base) -> None:
    account = base.subscriber("A")
    order = base.order(account, ends_at="2026-01-20T00:00:00+03:00")
    run(base, FEBRUARY)
    assert base.one("SELECT settled_at IS NOT NULL FROM orders WHERE id = %s", order)
    called(base, "a", "A", "2026-01-15T12:00:00+03:00", 7)
    assert "1 late events are due in the next run" in notes(base)
    assert unbilled(base) == [("A", "voice", "next run", 1)]
    run(base, MARCH)
    assert lines(base, account)[1:] == [(order, "usage", "voice", 420, 700)]
    assert base.rows("SELECT part, amount_minor, supplement > 0 FROM order_periods ORDER BY supplement") == [
        ("arrears", 18_387, False),
        ("late", 700, True),
    ]
    run(base, MARCH.replace(month=4))
    assert len(lines(base, account)) == 2
    assert (findings(base), unbilled(base), base.differences()) == ([], [], [])


def test_late_usage_is_billed_at_the_plan_of_its_time(base: Base) -> None:
    account = base.subscriber("A")
    old = base.order(account, ends_at="2026-02-01T00:00:00+03:00")
    run(base, FEBRUARY)
    base.order(account, starts_at="2026-02-01T00:00:00+03:00", item="setup", price_minor=500)
    called(base, "a", "A", "2026-01-31T23:59:59+03:00", 1)
    run(base, MARCH)
    assert (old, "usage", "voice", 60, 100) in lines(base, account)
    assert base.rows("SELECT reason FROM bill_failures") == []


def test_usage_that_no_order_covers_and_that_of_closed_accounts_is_listed(base: Base) -> None:
    account, gone = base.subscriber("A"), base.subscriber("B")
    base.order(account)
    base.order(gone, ends_at="2026-01-20T00:00:00+03:00")
    run(base, FEBRUARY)
    base.pay(gone, -base.balance(gone))
    base.rows("UPDATE accounts SET state = 'closed' WHERE id = %s", gone)
    called(base, "a", "A", "2025-12-15T12:00:00+03:00", 1)
    called(base, "b", "B", "2026-01-15T12:00:00+03:00", 1)
    called(base, "c", "B", "2026-01-25T12:00:00+03:00", 1)
    run(base, MARCH)
    assert unbilled(base) == [
        ("B", "voice", "closed account", 1),
        ("A", "voice", "no order", 1),
        ("B", "voice", "no order", 1),
    ]
    assert "2 events that no order covers are not billed" in notes(base)
    assert "1 late events are of closed accounts" in notes(base)
    assert findings(base) == []


def test_verify_finds_late_usage_that_a_run_passed_over(base: Base) -> None:
    account = base.subscriber("A")
    order = base.order(account)
    run(base, FEBRUARY)
    called(base, "a", "A", "2026-01-15T12:00:00+03:00", 7)
    passed = base.one(
        "INSERT INTO bill_runs (bill_on, kind, actor, usage_until) VALUES ('2026-03-01', 'post', 'test', '2026-03-01') "
        "RETURNING id"
    )
    base.rows("UPDATE bill_runs SET state = 'done', finished_at = now() WHERE id = %s", passed)
    assert any(f"order {order}: 1 late events of the period of 2025-12-31" in one for one in findings(base))


def test_a_payer_who_failed_is_asked_for_his_late_usage_again(base: Base) -> None:
    account = base.subscriber("A")
    base.order(account)
    run(base, FEBRUARY)
    called(base, "a", "A", "2026-01-15T12:00:00+03:00", 7)
    bad = base.order(account, plan="gone", starts_at="2026-02-01T00:00:00+03:00")
    run(base, MARCH)
    assert base.rows("SELECT reason FROM bill_failures") == [("unknown_plan",)]
    base.rows("UPDATE orders SET ends_at = starts_at WHERE id = %s", bad)
    run(base, MARCH.replace(month=4))
    assert (420, 700) in [line[3:] for line in lines(base, account)]
    assert findings(base) == []
