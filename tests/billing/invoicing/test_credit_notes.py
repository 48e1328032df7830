"""billing.invoicing.credit_notes: what a note takes off, that it acts once, and payments told where to go, on a real
database."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import aiopg
import psycopg2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.invoicing.allocation_store import allocate_payment
from billing.invoicing.credit_notes import Creditable, CreditRequest, plan_credits
from billing.invoicing.credit_store import credit_invoice
from billing.invoicing.invoices import Invoice, InvoiceError
from billing.invoicing.store import invoices_by_id
from ratingcore import reference
from ratingcore import tariff as core
from ratingcore.money import Minor
from tests.billing.invoicing.invoice_books import Books, Charge

T = TypeVar("T")
TODAY = datetime.now(UTC).date()
LONG_AGO = TODAY - timedelta(days=100)
ALL = CreditRequest()


def done(dsn: str, work: Callable[[Any], Awaitable[T]]) -> T:
    async def inside() -> T:
        async with aiopg.connect(dsn) as connection, connection.cursor() as cur:
            await cur.execute("BEGIN")
            result = await work(cur)
            await cur.execute("COMMIT")
            return result

    return asyncio.run(inside())


def credited(books: Books, number: str, wanted: CreditRequest, key: str = "k1") -> tuple[Invoice, bool]:
    return done(books.dsn, lambda cur: credit_invoice(cur, number, wanted, key=key, actor="user:anna", why="a mistake"))


@pytest.fixture
def books(database: Any) -> Books:
    found = Books(database.dsn)
    found.catalogue()
    return found


# ---- pure


def line(number: int, amount: int, ppm: int, inside: bool) -> Creditable:
    net, tax, _ = reference.tax_of(Minor(amount), core.Tax(ppm, inside))
    at = datetime(2026, 10, 1, tzinfo=UTC)
    return Creditable(number, None, None, "fee", at, at, 1, ppm, inside, net, tax, 0, 0)


@given(
    amount=st.integers(1, 10**12),
    ppm=st.sampled_from([0, 100_000, 200_000, 220_000]),
    inside=st.booleans(),
    cuts=st.lists(st.integers(1, 10**12), max_size=6),
)
def test_however_a_line_is_credited_in_parts_exactly_its_net_and_tax_are_taken_off(
    amount: int, ppm: int, inside: bool, cuts: list[int]
) -> None:
    one = line(1, amount, ppm, inside)
    for cut in cuts:
        if one.left:
            (part,) = plan_credits([one], CreditRequest((1,), Minor(min(cut, one.left))))
            assert part.net >= 0
            assert part.tax >= 0
            one = replace(one, credited_net=one.credited_net + part.net, credited_tax=one.credited_tax + part.tax)
    if one.left:
        (rest,) = plan_credits([one], ALL)
        one = replace(one, credited_net=one.credited_net + rest.net, credited_tax=one.credited_tax + rest.tax)
    assert (one.credited_net, one.credited_tax) == (one.net, one.tax)


@given(
    amount=st.integers(-5_000, 5_000).filter(bool),
    ppm=st.sampled_from([0, 100_000, 200_000, 220_000]),
    inside=st.booleans(),
    before=st.integers(0, 5_000),
    back=st.integers(0, 5_000),
)
def test_a_note_never_takes_more_than_notes_and_a_adjustment_left(
    amount: int, ppm: int, inside: bool, before: int, back: int
) -> None:
    one, sign = line(1, amount, ppm, inside), 1 if amount > 0 else -1
    first = min(before, one.gross) if sign > 0 else 0  # a part of a line is a part of a charge
    parts = plan_credits([one], CreditRequest((1,), Minor(first))) if first else []
    net, tax = sum(part.net for part in parts), sum(part.tax for part in parts)
    rest = abs(amount) - abs(net + tax if inside else net)
    given, given_tax, _ = reference.tax_of(Minor(sign * min(back, rest)), core.Tax(ppm, inside))
    one = replace(one, credited_net=net + given, credited_tax=tax + given_tax)
    # Tax on top is rounded on the adjustment's own line.
    assert abs(net + tax + given + given_tax) <= abs(one.gross) + (0 if inside else 1)
    if not one.left:
        with pytest.raises(InvoiceError, match="nothing is left"):
            plan_credits([one], ALL)
        return
    (note,) = plan_credits([one], ALL)
    assert note.net * sign >= 0
    assert note.tax * sign >= 0
    assert note.net + note.tax == one.left
    assert one.credited_net + one.credited_tax + one.left == one.gross
    assert abs(one.credited_tax + note.tax - one.tax) <= 1


def test_tax_goes_off_in_proportion() -> None:
    (part,) = plan_credits([line(1, 12_200, 220_000, inside=True)], CreditRequest((1,), Minor(6_100)))
    assert (part.net, part.tax) == (5_000, 1_100)


REFUSED = [
    (CreditRequest((3,)), "no line 3"),
    (CreditRequest((1, 1)), "named twice"),
    (CreditRequest((1, 2), Minor(5)), "of one line"),
    (CreditRequest((1,), Minor(0)), "more than nothing"),
    (CreditRequest((1,), Minor(101)), "has 1.00 left"),
    (CreditRequest((2,), Minor(1)), "has 0.00 left"),
]


@pytest.mark.parametrize(("wanted", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_what_cannot_be_credited_is_refused_with_a_sentence(wanted: CreditRequest, words: str) -> None:
    with pytest.raises(InvoiceError, match=words):
        plan_credits([line(1, 100, 0, True), line(2, -50, 0, True)], wanted)


# ---- in the database


def test_a_note_for_all_of_an_invoice_gives_the_money_back_and_the_invoice_is_credited(books: Books) -> None:
    account = books.account("A1")
    lines = [Charge(12_200), Charge(10_000, "data", "usage", tax_ppm=200_000, inside=False), Charge(-610)]
    invoice = books.invoices(books.run(LONG_AGO), [(account, lines)], on=LONG_AGO)[0]
    assert books.balance(account) == -(12_200 + 12_000 - 610)
    note, is_new = credited(books, "I-000001", ALL)
    assert is_new
    assert (note.number, note.kind, note.corrects_id) == ("C-000001", "credit_note", invoice)
    assert (note.net, note.tax, note.total) == (-19_500, -4_090, -23_590)
    assert books.balance(account) == 0
    assert books.ask("SELECT step, amount_minor FROM transfers WHERE source_id = %s ORDER BY step", note.id) == [
        ("revenue", 19_500),
        ("tax", 4_090),
    ]
    assert books.ask("SELECT line, kind, amount_minor, net_minor, tax_minor FROM invoice_lines WHERE invoice_id = %s"
                     " ORDER BY line", note.id) == [
        (1, "credit", -12_200, -10_000, -2_200), (2, "credit", -10_000, -10_000, -2_000), (3, "credit", 610, 500, 110),
    ]  # fmt: skip
    found = done(books.dsn, lambda cur: invoices_by_id(cur, [invoice]))[0]
    assert (found.state.value, found.credited, found.unpaid) == ("credited", 23_590, 0)
    assert books.ask("SELECT key, actor, why FROM credit_notes") == [("k1", "user:anna", "a mistake")]


def test_a_repeat_of_the_key_does_nothing_and_answers_with_the_note(books: Books) -> None:
    account = books.account("A1")
    books.invoices(books.run(LONG_AGO), [(account, [Charge(12_200), Charge(500)])], on=LONG_AGO)
    first, _ = credited(books, "I-000001", CreditRequest((1,)))
    again, is_new = credited(books, "I-000001", CreditRequest((1,)))
    assert (again.id, is_new) == (first.id, False)
    assert books.balance(account) == -500
    with pytest.raises(InvoiceError, match="nothing is left to credit of line 1"):
        credited(books, "I-000001", CreditRequest((1,)), "k2")
    assert (
        books.one("SELECT next_number FROM invoice_series WHERE kind = 'credit_note'") == 2
    )  # a refusal takes no number


@pytest.mark.parametrize(
    "other",
    [CreditRequest((2,)), CreditRequest((1, 2)), CreditRequest((1,), Minor(101)), CreditRequest((2,), Minor(100))],
)
def test_another_correction_under_a_used_key_is_refused(books: Books, other: CreditRequest) -> None:
    account = books.account("A1")
    books.invoices(books.run(LONG_AGO), [(account, [Charge(12_200), Charge(500)])], on=LONG_AGO)
    first, _ = credited(books, "I-000001", CreditRequest((1,), Minor(100)))
    with pytest.raises(InvoiceError, match=r"^key 'k1' wrote C-000001 before, which credits 1\.00 of line 1: "):
        credited(books, "I-000001", other)
    again, is_new = credited(books, "I-000001", CreditRequest((1,), Minor(100)))
    assert (again.id, is_new) == (first.id, False)


def test_a_key_of_another_invoices_note_is_refused(books: Books) -> None:
    account = books.account("A1")
    books.invoices(books.run(LONG_AGO), [(account, [Charge(100)]), (account, [Charge(200)])], on=LONG_AGO)
    credited(books, "I-000001", ALL)
    with pytest.raises(InvoiceError, match="of another invoice"):
        credited(books, "I-000002", ALL)


def test_drafts_and_notes_themselves_are_not_credited(books: Books) -> None:
    account = books.account("A1")
    books.invoices(books.run(LONG_AGO), [(account, [Charge(100)])], on=LONG_AGO)
    credited(books, "I-000001", ALL)
    for number, words in (("C-000001", "is a credit note itself"), ("I-000002", "no invoice")):
        with pytest.raises(InvoiceError, match=words):
            credited(books, number, ALL, "k2")


def test_what_is_issued_never_changes_even_for_the_owner(books: Books, database: Any) -> None:
    account = books.account("A1")
    books.invoices(books.run(LONG_AGO), [(account, [Charge(100)])], on=LONG_AGO)
    credited(books, "I-000001", ALL)
    owner = Books(database.owner_dsn)
    for statement in (
        "UPDATE invoices SET net_minor = 1", "DELETE FROM invoices", "DELETE FROM invoice_lines",
        "UPDATE invoice_lines SET amount_minor = 1", "UPDATE credit_notes SET why = 'x'", "DELETE FROM invoice_blocks",
        "TRUNCATE invoice_lines",
    ):  # fmt: skip
        with pytest.raises(psycopg2.errors.RaiseException):
            owner.ask(statement)


def test_two_notes_at_once_take_consecutive_numbers_and_never_more_than_is_left(books: Books) -> None:
    account = books.account("A1")
    books.invoices(books.run(LONG_AGO), [(account, [Charge(1_000)])], on=LONG_AGO)

    async def race() -> list[Any]:
        return await asyncio.gather(*(one(f"k{number}") for number in range(5)), return_exceptions=True)

    async def one(key: str) -> Invoice:
        async with aiopg.connect(books.dsn) as connection, connection.cursor() as cur:
            await cur.execute("BEGIN")
            part = CreditRequest((1,), Minor(300))
            note, _ = await credit_invoice(cur, "I-000001", part, key=key, actor="t", why="race")
            await cur.execute("COMMIT")
            return note

    found = asyncio.run(race())
    notes = [one for one in found if isinstance(one, Invoice)]
    assert sorted(note.number for note in notes) == ["C-000001", "C-000002", "C-000003"]
    assert [str(one) for one in found if not isinstance(one, Invoice)] == [
        "line 1 has 1.00 left to credit, tax included"
    ] * 2
    assert books.balance(account) == -100


# ---- payments told where to go


def allocated(books: Books, number: str, amount: int | None, transfer: int) -> tuple[int, bool]:
    sum_ = None if amount is None else Minor(amount)
    return done(
        books.dsn,
        lambda cur: allocate_payment(cur, number, sum_, payment_id=None, transfer_id=transfer, actor="user:anna"),
    )


def test_a_payment_is_directed_once_and_no_further_than_it_goes(books: Books) -> None:
    account = books.account("A1")
    books.invoices(books.run(LONG_AGO), [(account, [Charge(10_000)]), (account, [Charge(20_000)])], on=LONG_AGO)
    transfer = books.pay(account, 12_000)
    assert allocated(books, "I-000002", 11_000, transfer) == (11_000, True)
    assert allocated(books, "I-000002", 11_000, transfer) == (11_000, False)
    with pytest.raises(InvoiceError, match=r"110.00 of that payment were directed to I-000002 already"):
        allocated(books, "I-000002", 500, transfer)
    with pytest.raises(InvoiceError, match=r"at most 10.00 can be directed"):
        allocated(books, "I-000001", 1_001, transfer)
    assert allocated(books, "I-000001", None, transfer) == (1_000, True)
    other = books.account("A2")
    foreign = books.pay(other, 100)
    with pytest.raises(InvoiceError, match="account A1 has no such payment"):
        allocated(books, "I-000001", None, foreign)


def test_a_directed_payment_that_was_reversed_went_nowhere(books: Books) -> None:
    account = books.account("A1")
    new, old = books.invoices(
        books.run(TODAY), [(account, [Charge(10_000)]), (account, [Charge(20_000)])], on=TODAY, due_days=9
    )
    transfer = books.transfer("payment", 77, "post", books.system("clearing"), account, 20_000)
    assert allocated(books, "I-000002", None, transfer) == (20_000, True)
    assert [one.unpaid for one in done(books.dsn, lambda cur: invoices_by_id(cur, [new, old]))] == [10_000, 0]
    books.transfer("payment", 77, "reverse", account, books.system("clearing"), 20_000)
    assert [one.unpaid for one in done(books.dsn, lambda cur: invoices_by_id(cur, [new, old]))] == [10_000, 20_000]
    with pytest.raises(InvoiceError, match="was reversed"):
        allocated(books, "I-000001", None, transfer)
