"""Credit notes and late usage that lowers a line: no more goes back than was billed, whichever comes first."""

from collections.abc import Iterator

import pytest

from billing.catalogue.store import Source, catalogue_of, save_version
from billing.invoicing.credit_notes import CreditRequest
from billing.invoicing.credit_store import credit_invoice
from billing.invoicing.invoices import Invoice, InvoiceError
from billing.verification.lines import check_explained
from kopeck.databases.transactions import in_transaction
from ratingcore.money import Minor
from tests.billing.cycle.base import FEBRUARY, MARCH, Base, cycle_base
from tests.billing.cycle.test_schedules import CATALOGUE

APRIL = MARCH.replace(month=4)
#: 60 messages at 0.93, and 61 at 0.49.
BEFORE, AFTER = 5_580, 2_989
#: Lines of the first invoice: fee, messages, fund, minimum.
SMS, TOP_UP = 2, 4
#: What 21 messages, with their part of the fund and the fee, leave to a minimum of 400.00.
MISSING = 40_000 - 30_000 - 1_953 - 23


@pytest.fixture
def base(database) -> Iterator[Base]:
    with cycle_base(database.dsn, database.owner_dsn) as made:
        source = Source("cycle.yaml", {"cycle.yaml": CATALOGUE})
        in_transaction(database.dsn, lambda cur: save_version(cur, source, catalogue_of(source), "test"))
        yield made


def billed(base: Base, messages: int = 60, minimum_minor: int = 0) -> int:
    account = base.subscriber("S1")
    base.order(account, plan="small", minimum_minor=minimum_minor)
    for _ in range(messages):
        sent(base, account, "2026-01-15T12:00:00+03:00")
    base.bill(FEBRUARY)
    return account


def sent(base: Base, account: int, counts_at: str) -> None:
    """A message of January."""
    base.rows("SELECT usage_month(%s)::text", counts_at)
    base.rows(
        "INSERT INTO usage_events (id, account_id, item, at, counts_at, quantity_micro, import_id, line) "
        "VALUES (nextval('usage_ids'), %s, 'sms', '2026-01-15T12:00:00+03:00', %s, 1000000, 1, 1)",
        *(account, counts_at),
    )


def late(base: Base, account: int, month: int = 2) -> None:
    sent(base, account, f"2026-{month:02}-10T12:00:00+03:00")


def credit(base: Base, number: str, line: int, amount: int | None = None) -> Invoice:
    wanted = CreditRequest((line,), None if amount is None else Minor(amount))
    key = f"{number} {line} {base.one('SELECT count(*) FROM credit_notes')}"
    note, _ = in_transaction(
        base.dsn, lambda cur: credit_invoice(cur, number, wanted, key=key, actor="test", why="a mistake")
    )
    return note


def late_lines(base: Base, item: str = "sms") -> list[int]:
    """Amounts, in the order of invoices. item: '' is a minimum."""
    return [
        amount
        for (amount,) in base.rows(
            "SELECT l.amount_minor FROM invoice_lines l JOIN order_periods p "
            "ON p.invoice_id = l.invoice_id AND p.order_id = l.order_id AND p.part = 'late' "
            "AND l.period_start >= p.period_start AND l.period_start < p.period_end "
            "WHERE l.item = %s AND l.kind <> 'credit' ORDER BY l.invoice_id",
            item,
        )
    ]


def misjudged(base: Base) -> list[str]:
    return [one.what for one in in_transaction(base.dsn, lambda cur: check_explained(cur, None)).findings]


@pytest.mark.parametrize(("credited", "back"), [(BEFORE, 0), (4_000, BEFORE - 4_000), (2_000, BEFORE - AFTER)])
def test_late_usage_gives_back_no_more_than_credit_notes_left(base: Base, credited: int, back: int) -> None:
    account = billed(base)
    assert credit(base, "I-000001", SMS, credited).total == -credited
    late(base, account)
    assert base.bill(MARCH).summary.is_clean
    assert late_lines(base) == [-back]
    assert misjudged(base) == []
    if credited + back == BEFORE:
        with pytest.raises(InvoiceError, match=f"nothing is left to credit of line {SMS}"):
            credit(base, "I-000001", SMS)
    else:
        assert credit(base, "I-000001", SMS).total == -(BEFORE - credited - back)
    assert base.differences() == []
    assert misjudged(base) == []  # the late line knew of no later note


def test_a_credit_note_takes_no_more_than_late_usage_left(base: Base) -> None:
    account = billed(base)
    late(base, account)
    base.bill(MARCH)
    assert late_lines(base) == [AFTER - BEFORE]
    with pytest.raises(InvoiceError, match=r"line 2 has 29.89 left to credit"):
        credit(base, "I-000001", SMS, AFTER + 1)
    assert credit(base, "I-000001", SMS).total == -AFTER
    lowered = base.one("SELECT line FROM invoice_lines WHERE kind = 'usage' AND amount_minor < 0")
    assert credit(base, "I-000002", lowered).total == BEFORE - AFTER
    assert credit(base, "I-000001", SMS).total == -(BEFORE - AFTER)
    assert misjudged(base) == []


def test_what_late_usage_takes_of_several_lines_is_taken_once(base: Base) -> None:
    """40 messages at 0.93, 20 more of them, then one that makes all of them 0.49 each."""
    account = billed(base, 40)
    for _ in range(20):
        late(base, account)
    base.bill(MARCH)
    late(base, account, 3)
    base.bill(APRIL)
    assert late_lines(base) == [20 * 93, AFTER - BEFORE]
    assert credit(base, "I-000001", SMS).total == -(40 * 93 - (BEFORE - AFTER))
    second = base.one("SELECT line FROM invoice_lines WHERE kind = 'usage' AND amount_minor = 1860")
    assert credit(base, "I-000002", second).total == -20 * 93
    for number, line in (("I-000001", SMS), ("I-000002", second)):
        with pytest.raises(InvoiceError, match=f"nothing is left to credit of line {line}"):
            credit(base, number, line)
    assert misjudged(base) == []


@pytest.mark.parametrize(
    ("credited", "back"),
    [(0, [95, 94]), (1_000, [95, 94]), (MISSING - 96, [95, 1]), (MISSING - 24, [24, 0]), (MISSING, [0, 0])],
)
def test_a_top_up_that_was_credited_does_not_pay_for_late_usage_as_well(
    base: Base, credited: int, back: list[int]
) -> None:
    """A message and its part of the fund come late, twice: the minimum misses as much less, of what it still is."""
    account = billed(base, 21, minimum_minor=40_000)
    if credited:
        assert credit(base, "I-000001", TOP_UP, credited).total == -credited
    late(base, account)
    base.bill(MARCH)
    late(base, account, 3)
    base.bill(APRIL)
    assert late_lines(base) == [93, 93]
    assert late_lines(base, "fund") == [2, 1]
    assert late_lines(base, "") == [-one for one in back]
    paid = base.one("SELECT sum(amount_minor) FROM invoice_lines WHERE period_start < '2026-02-01T00:00:00+03:00'")
    assert paid == max(40_000 - credited, 30_000 + 23 * 93 + 26)
    assert misjudged(base) == []
