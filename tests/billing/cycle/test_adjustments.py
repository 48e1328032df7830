"""What becomes of an advance charge: its percentages go back with it, nothing goes back twice, minimums see it."""

import asyncio
from collections.abc import Iterator

import aiopg
import psycopg2
import pytest

from billing.catalogue.store import Source, catalogue_of, save_version
from billing.cycle import run as cycle_run
from billing.invoicing.credit_notes import CreditRequest
from billing.invoicing.credit_store import credit_invoice
from billing.invoicing.invoices import Invoice, InvoiceError
from billing.verification.lines import check_explained
from kopeck.databases.transactions import in_transaction
from ratingcore.money import Minor
from tests.billing.cycle.base import CATALOGUE, FEBRUARY, MARCH, Base, cycle_base

#: Plan `cared`: the fee of 300.00 and 10 % of it in advance, calls and 5 % of them and 1.00 in arrears.
CARED = (
    CATALOGUE.replace(b"plans:\n", b"plans:\n  cared: {name: Cared, items: [fee, care, voice, share]}\n")
    .replace(
        b"  setup: {",
        b"  care: {name: Care, tax: vat, percentage_of: [fee]}\n"
        b"  share: {name: Share, tax: vat, percentage_of: [voice]}\n"
        b"  setup: {",
    )
    .replace(
        b"promotions:\n",
        b"  - {item: care, versions: [{from: 2025-01-01, steps: [{percentage: {percent: 10}}]}]}\n"
        b"  - {item: share, versions: [{from: 2025-01-01, steps: [{percentage: {percent: 5, fixed: 1.00}}]}]}\n"
        b"promotions:\n",
    )
)

#: Lines of the first invoice: January's fee, care and share, then February's fee and care.
FEE, CARE = 4, 5


@pytest.fixture
def base(database) -> Iterator[Base]:
    with cycle_base(database.dsn, database.owner_dsn) as made:
        source = Source("cycle.yaml", {"cycle.yaml": CARED})
        in_transaction(database.dsn, lambda cur: save_version(cur, source, catalogue_of(source), "test"))
        yield made


def billed(base: Base, minimum_minor: int = 0) -> int:
    """An order that was billed January, and February in advance."""
    order = base.order(base.subscriber("S1"), plan="cared", in_advance=True, minimum_minor=minimum_minor)
    base.bill(FEBRUARY)
    return order


def end(base: Base, order: int, day: str) -> None:
    base.rows("UPDATE orders SET ends_at = %s WHERE id = %s", f"{day}T00:00:00+03:00", order)


def credit(base: Base, number: str, line: int, amount: int | None = None) -> Invoice:
    wanted = CreditRequest((line,), None if amount is None else Minor(amount))
    key = f"{number} {line} {base.one('SELECT count(*) FROM credit_notes')}"
    note, _ = in_transaction(
        base.dsn, lambda cur: credit_invoice(cur, number, wanted, key=key, actor="test", why="a mistake")
    )
    return note


def lines(base: Base, kind: str) -> list[tuple[str, int]]:
    return base.rows("SELECT item, amount_minor FROM invoice_lines WHERE kind = %s ORDER BY invoice_id, line", kind)


def misjudged(base: Base) -> list[str]:
    """What the judge of verify makes otherwise, of every line there is."""

    async def checked(cur) -> list[str]:
        check = await check_explained(cur, None)
        assert check.examined
        return [one.what for one in check.findings]

    return in_transaction(base.dsn, checked)


def test_a_percentage_that_was_billed_in_advance_goes_back_in_the_same_share(base: Base) -> None:
    order = billed(base)
    end(base, order, "2026-02-08")
    base.bill(MARCH)
    assert lines(base, "adjustment") == [("fee", -22_500), ("care", -2_250)]
    assert lines(base, "percentage") == [("care", 3_000), ("share", 100), ("care", 3_000), ("share", 100)]
    assert misjudged(base) == []


def test_a_percentage_billed_in_arrears_is_not_trued_up_though_it_is_on_the_same_invoice(base: Base) -> None:
    order = billed(base)
    end(base, order, "2026-01-16")  # staff's commands refuse it: January is billed in arrears
    base.bill(MARCH)
    assert lines(base, "adjustment") == [("fee", -15_484), ("care", -1_548), ("fee", -30_000), ("care", -3_000)]


def test_what_a_credit_note_took_off_a_line_is_not_given_back_again(base: Base) -> None:
    order = billed(base)
    credit(base, "I-000001", FEE, 20_000)
    credit(base, "I-000001", CARE)
    end(base, order, "2026-02-08")
    base.bill(MARCH)
    assert lines(base, "adjustment") == [("fee", -10_000), ("care", 0)]
    assert misjudged(base) == []
    for line in (FEE, CARE):
        with pytest.raises(InvoiceError, match=f"nothing is left to credit of line {line}"):
            credit(base, "I-000001", line)


def test_what_was_credited_does_not_matter_while_enough_is_left(base: Base) -> None:
    order = billed(base)
    credit(base, "I-000001", FEE, 7_500)
    end(base, order, "2026-02-08")
    base.bill(MARCH)
    assert lines(base, "adjustment")[0] == ("fee", -22_500)
    assert misjudged(base) == []


def test_what_a_adjustment_gave_back_is_not_credited_again_unless_that_was_taken_back(base: Base) -> None:
    order = billed(base)
    end(base, order, "2026-02-08")
    base.bill(MARCH)
    with pytest.raises(InvoiceError, match=r"line 4 has 75.00 left to credit"):
        credit(base, "I-000001", FEE, 7_501)
    assert credit(base, "I-000001", FEE).total == -7_500
    adjusted = base.one("SELECT line FROM invoice_lines WHERE kind = 'adjustment' AND item = 'fee'")
    assert credit(base, "I-000002", adjusted).total == 22_500
    assert credit(base, "I-000001", FEE).total == -22_500
    assert misjudged(base) == []  # the adjustment knew of none of these notes


def test_a_note_for_all_of_an_invoice_takes_what_adjustments_left(base: Base) -> None:
    order = billed(base)
    end(base, order, "2026-02-08")
    base.bill(MARCH)
    credit_all = CreditRequest()
    note, _ = in_transaction(
        base.dsn, lambda cur: credit_invoice(cur, "I-000001", credit_all, key="k", actor="test", why="all")
    )
    assert -note.total == 30_000 + 3_000 + 100 + 7_500 + 750
    assert base.differences() == []


def test_a_adjustment_that_waits_for_approval_counts_and_one_that_was_voided_does_not(base: Base) -> None:
    order = billed(base)
    end(base, order, "2026-02-08")
    review = base.bill(MARCH, "review").summary.run_id
    assert credit(base, "I-000001", FEE, 1_000).total == -1_000
    with pytest.raises(InvoiceError, match=r"line 4 has 65.00 left to credit"):
        credit(base, "I-000001", FEE, 6_501)
    cycle_run.void_review(base.dsn, review)
    assert credit(base, "I-000001", FEE, 20_000).total == -20_000
    base.bill(MARCH)
    assert lines(base, "adjustment")[0] == ("fee", -9_000)
    assert misjudged(base) == []


def test_a_share_that_grew_is_charged_whatever_was_credited(base: Base) -> None:
    order = base.order(
        base.subscriber("S1"), plan="cared", in_advance=True, starts_at="2026-02-01T00:00:00+03:00",
        ends_at="2026-02-15T00:00:00+03:00",
    )  # fmt: skip
    base.bill(FEBRUARY)
    credit(base, "I-000001", 1)
    base.rows("UPDATE orders SET ends_at = NULL WHERE id = %s", order)
    base.rows("INSERT INTO order_events (order_id, event, actor) VALUES (%s, 'end_withdrawn', 'test')", order)
    base.bill(MARCH)
    assert lines(base, "adjustment") == [("fee", 15_000), ("care", 1_500)]
    assert misjudged(base) == []


def test_a_minimum_sees_what_a_adjustment_left_of_the_advance(base: Base) -> None:
    order = billed(base, minimum_minor=40_000)
    end(base, order, "2026-02-15")
    base.bill(MARCH)
    assert lines(base, "adjustment") == [("fee", -15_000), ("care", -1_500)]
    # Half of 400.00, less 165.00 in advance and 1.00 of the share.
    assert lines(base, "minimum")[-1] == ("", 20_000 - 16_500 - 100)
    assert misjudged(base) == []


def test_a_credit_note_on_an_advance_charge_waits_for_the_shard_that_may_true_it_up(base: Base) -> None:
    billed(base)
    base.rows("INSERT INTO bill_runs (bill_on, kind, actor) VALUES ('2026-03-01', 'post', 'test')")
    base.rows(
        "INSERT INTO bill_shards (run_id, shard_no, first_account_id, last_account_id)"
        " SELECT max(id), 0, 1, 1000000 FROM bill_runs"
    )

    async def impatient() -> None:
        async with aiopg.connect(base.dsn) as connection, connection.cursor() as cur:
            await cur.execute("BEGIN")
            await cur.execute("SET LOCAL lock_timeout = '100ms'")
            await credit_invoice(cur, "I-000001", CreditRequest((FEE,)), key="k", actor="test", why="w")

    with psycopg2.connect(base.dsn) as worker, worker.cursor() as cur:
        cur.execute("SELECT FROM bill_shards WHERE state = 'due' FOR UPDATE")
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            asyncio.run(impatient())
        worker.rollback()
    assert credit(base, "I-000001", FEE).total == -30_000
