"""billing.invoices: what is unpaid of which invoice, states, and what a document is told, on a real database."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any, TypeVar

import aiopg
import psycopg2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.invoices import (
    InvoiceError,
    InvoiceFilter,
    InvoiceState,
    OpenInvoice,
    apply_payments,
    ids_of_run,
    invoice_details,
    invoice_id_of,
    invoices_by_id,
    list_invoices,
    open_invoices,
)
from ratingcore.money import Minor
from tests.billing.invoice_books import Books, Charge

T = TypeVar("T")
TODAY = datetime.now(UTC).date()
LONG_AGO = TODAY - timedelta(days=100)


def done(dsn: str, work: Callable[[Any], Awaitable[T]]) -> T:
    async def inside() -> T:
        async with aiopg.connect(dsn) as connection, connection.cursor() as cur:
            return await work(cur)

    return asyncio.run(inside())


def shown(books: Books, *ids: int) -> list[tuple[str, int]]:
    """(state, unpaid) of these invoices."""
    return [(one.state.value, one.unpaid) for one in done(books.dsn, lambda cur: invoices_by_id(cur, ids))]


@pytest.fixture
def books(database: Any) -> Books:
    found = Books(database.dsn, admin_dsn=database.admin_dsn)
    found.catalogue()
    return found


# ---- payments applied oldest first


CLAIMS = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 10**12)), max_size=12)


@given(debt=st.integers(-(10**13), 10**13), claims=CLAIMS)
def test_the_parts_of_a_debt_sum_to_the_debt_and_older_invoices_are_paid_first(debt: int, claims: Any) -> None:
    invoices = [OpenInvoice(i, date(2026, 1, 1) + timedelta(days=d), Minor(m)) for i, (d, m) in enumerate(claims, 1)]
    applied = apply_payments(debt, invoices)
    assert sum(applied.unpaid.values()) + applied.not_invoiced == max(0, debt)
    assert all(0 <= applied.unpaid[one.id] <= one.open for one in invoices)
    ordered = sorted(invoices, key=lambda one: (one.due_on, one.id))
    for older, newer in pairwise(ordered):
        if applied.unpaid[older.id]:
            assert applied.unpaid[newer.id] == newer.open  # nothing went to the newer while the older waited
    if applied.not_invoiced:
        assert all(applied.unpaid[one.id] == one.open for one in invoices)


def test_a_partial_payment_leaves_the_newest_unpaid_and_the_oldest_partly() -> None:
    three = [OpenInvoice(number, date(2026, number, 15), Minor(100)) for number in (1, 2, 3)]
    assert dict(apply_payments(150, three).unpaid) == {1: 0, 2: 50, 3: 100}


# ---- states


def test_states_follow_from_the_ledger_and_the_due_date(books: Books) -> None:
    account = books.account("A1")
    old = books.invoices(books.run(LONG_AGO), [(account, [Charge(10_000)])], on=LONG_AGO)[0]
    new = books.invoices(books.run(TODAY), [(account, [Charge(20_000)])], on=TODAY)[0]
    assert shown(books, old, new) == [("overdue", 10_000), ("issued", 20_000)]
    books.pay(account, 4_000)
    assert shown(books, old, new) == [("overdue", 6_000), ("issued", 20_000)]
    books.pay(account, 16_000)
    assert shown(books, old, new) == [("paid", 0), ("issued", 10_000)]
    books.pay(account, 50_000)
    assert shown(books, old, new) == [("paid", 0), ("paid", 0)]


def test_a_draft_is_a_draft_and_has_no_number_and_no_debt(books: Books) -> None:
    account = books.account("A1")
    draft = books.invoices(books.run(TODAY, "reviewed"), [(account, [Charge(10_000)])], on=TODAY, state="draft")[0]
    found = done(books.dsn, lambda cur: invoices_by_id(cur, [draft]))[0]
    assert (found.number, found.state, found.unpaid) == ("", InvoiceState.DRAFT, 0)


def test_a_debt_that_no_invoice_tells_of_stays_beside_them(books: Books) -> None:
    account = books.account("A1")
    one = books.invoices(books.run(TODAY), [(account, [Charge(10_000)])], on=TODAY)[0]
    books.pay(account, -2_500)
    assert shown(books, one) == [("issued", 10_000)]
    claims = done(books.dsn, lambda cur: open_invoices(cur, account))
    assert apply_payments(-books.balance(account), claims).not_invoiced == 2_500


def test_a_directed_payment_goes_where_it_was_told(books: Books) -> None:
    account = books.account("A1")
    old = books.invoices(books.run(LONG_AGO), [(account, [Charge(10_000)])], on=LONG_AGO)[0]
    new = books.invoices(books.run(TODAY), [(account, [Charge(20_000)])], on=TODAY)[0]
    transfer = books.pay(account, 20_000)
    books.direct(transfer, new, 20000)
    assert shown(books, old, new) == [("overdue", 10_000), ("paid", 0)]
    assert books.one("SELECT overdue_minor(%s, %s)", account, books.balance(account)) == 10_000


@pytest.mark.parametrize("seed", range(3))
def test_the_database_and_the_pure_function_lay_a_debt_alike(books: Books, seed: int) -> None:
    chance = random.Random(seed)
    account = books.account("A1")
    for _ in range(8):
        on = TODAY - timedelta(days=chance.randrange(60))
        books.invoices(books.run(on), [(account, [Charge(chance.randrange(-300, 1_000))])], on=on,
                       due_days=chance.randrange(40))  # fmt: skip
    books.pay(account, chance.randrange(3_000))
    listed = done(books.dsn, lambda cur: list_invoices(cur, InvoiceFilter(account="A1"), 50))
    claims = done(books.dsn, lambda cur: open_invoices(cur, account))
    applied = apply_payments(-books.balance(account), claims)
    assert {one.id: one.unpaid for one in listed} == dict(applied.unpaid)
    overdue = sum(one.unpaid for one in listed if one.state == InvoiceState.OVERDUE)
    assert books.one("SELECT overdue_minor(%s, %s)", account, books.balance(account)) == overdue


def test_lists_are_filtered_and_newest_first(books: Books) -> None:
    first, second = books.account("A1"), books.account("A2")
    run = books.run(LONG_AGO)
    ids = books.invoices(run, [(first, [Charge(10_000)]), (second, [Charge(5_000)])], on=LONG_AGO)
    later = books.invoices(books.run(TODAY), [(first, [Charge(20_000)])], on=TODAY)[0]

    def listed(**wanted: Any) -> list[int]:
        return [one.id for one in done(books.dsn, lambda cur: list_invoices(cur, InvoiceFilter(**wanted), 10))]

    assert listed() == [later, ids[1], ids[0]]
    assert listed(account="A1") == [later, ids[0]]
    assert listed(state=InvoiceState.OVERDUE) == [ids[1], ids[0]]
    assert listed(run_id=run) == [ids[1], ids[0]]
    assert listed(since=TODAY) == [later]
    assert listed(before_id=later) == [ids[1], ids[0]]
    assert done(books.dsn, lambda cur: ids_of_run(cur, run, ids[0], 10)) == [ids[1]]


def test_a_number_finds_its_invoice_and_only_as_it_is_written(books: Books) -> None:
    account = books.account("A1")
    ids = books.invoices(books.run(TODAY), [(account, [Charge(100)]), (account, [Charge(200)])], on=TODAY)
    assert done(books.dsn, lambda cur: invoice_id_of(cur, "I-000002")) == ids[1]
    for number in ("I-2", "I-000003", "I-", "000001", "C-000001", "I-00000a", "I-0000001"):
        with pytest.raises(InvoiceError, match="no invoice"):
            done(books.dsn, lambda cur, number=number: invoice_id_of(cur, number))


# ---- what a document is told


def test_previous_balance_payments_and_total_are_the_balance_after(books: Books) -> None:
    account = books.account("A1")
    books.pay(account, 1_000)
    first = books.invoices(books.run(LONG_AGO), [(account, [Charge(10_000)])], on=LONG_AGO)[0]
    books.pay(account, 7_000)
    books.pay(account, -500)
    second = books.invoices(books.run(TODAY), [(account, [Charge(20_000)])], on=TODAY)[0]
    books.pay(account, 999)
    found = done(books.dsn, lambda cur: invoice_details(cur, [first, second]))
    assert [(one.previous, one.payments, one.corrections, one.balance_after) for one in found] == [
        (0, 1_000, 0, -9_000),
        (-9_000, 6_500, 0, -22_500),
    ]


def test_an_invoice_of_nothing_ends_where_it_was_issued(books: Books) -> None:
    account = books.account("A1")
    books.pay(account, 300)
    nothing = books.invoices(books.run(LONG_AGO), [(account, [Charge(0)])], on=LONG_AGO)[0]
    books.pay(account, 700)
    later = books.invoices(books.run(TODAY), [(account, [Charge(2_000)])], on=TODAY)[0]
    found = done(books.dsn, lambda cur: invoice_details(cur, [nothing, later]))
    assert [(one.previous, one.payments, one.balance_after) for one in found] == [(0, 300, 300), (300, 700, -1_000)]


def test_a_draft_comes_after_everything_in_the_ledger(books: Books) -> None:
    account = books.account("A1")
    books.invoices(books.run(LONG_AGO), [(account, [Charge(10_000)])], on=LONG_AGO)
    books.pay(account, 4_000)
    draft = books.invoices(books.run(TODAY, "reviewed"), [(account, [Charge(5_000)])], on=TODAY, state="draft")[0]
    found = done(books.dsn, lambda cur: invoice_details(cur, [draft]))[0]
    assert (found.previous, found.payments, found.balance_after) == (-10_000, 4_000, -11_000)


def test_lines_carry_the_names_of_the_runs_catalogue_and_the_share_that_was_billed(books: Books) -> None:
    payer, child = books.account("A1"), books.account("A2")
    order = books.order(child, "2026-10-16 00:00+03", payer=payer)
    run = books.run(TODAY)
    charge = Charge(25_000, order_id=order, start=datetime(2026, 10, 15, 21, tzinfo=UTC))
    data = Charge(1_500, "data", "usage", order, 1_500)
    invoice = books.invoices(run, [(payer, [charge, data])], on=TODAY)[0]
    books.period(
        order, "arrears", "2026-10-01 00:00+03", "2026-11-01 00:00+03", run=run, invoice=invoice, num=16, den=31
    )
    books.ask(
        "INSERT INTO catalogue_versions (catalogue_id, version, main_file, sha256, currency, zone, starts_at, ends_at,"
        " actor) SELECT catalogue_id, 2, main_file, sha256, currency, zone, starts_at, ends_at, actor"
        " FROM catalogue_versions"
    )
    fee, used = done(books.dsn, lambda cur: invoice_details(cur, [invoice]))[0].lines
    assert (fee.names["ru"], fee.plan_names["en"], fee.account) == ("Абонентская плата", "Home 100", "A2")
    assert (fee.share, fee.proration, fee.zone) == ((16, 31), "day", "Europe/Moscow")
    assert (used.share, used.quantity, used.unit, used.decimals) == (None, 1_500, "GB", 3)


# ---- seller and buyer


def parties(books: Books, invoice: int) -> tuple[str, str | None, str, str | None, str]:
    """(seller, his director, buyer, his address, language) of a document."""
    found = done(books.dsn, lambda cur: invoice_details(cur, [invoice]))[0]
    return (
        found.seller.name, found.seller.details.get("director"),
        found.buyer.name, found.buyer.details.get("address"), found.language,
    )  # fmt: skip


def versions(books: Books) -> tuple[int, int]:
    """How many rows are kept of legal entities and of customers."""
    return books.ask("SELECT (SELECT count(*) FROM legal_entity_versions), (SELECT count(*) FROM customer_versions)")[0]


def test_an_issued_invoice_names_seller_and_buyer_as_they_were_and_a_draft_as_they_are(books: Books) -> None:
    account = books.account("A1", name="Romashka", contacts={"address": "Old street"})

    def billed(state: str = "issued") -> int:
        run = books.run(TODAY, "reviewed" if state == "draft" else "done")
        return books.invoices(run, [(account, [Charge(100)])], on=TODAY, state=state)[0]

    books.ask("UPDATE legal_entities SET name = 'Seller 1', details = %s", '{"director": "First"}')
    first = billed()
    books.ask("UPDATE legal_entities SET name = 'Seller 2'")
    books.ask("UPDATE customers SET name = 'Daisy', language = 'en', contacts = %s", '{"address": "New street"}')
    second = billed()
    books.ask("UPDATE legal_entities SET details = %s", '{"director": "Second"}')
    books.ask("UPDATE customers SET contacts = '{}'")
    third, draft = billed(), billed("draft")
    books.ask("UPDATE customers SET name = ''")
    books.ask("UPDATE accounts SET name = 'A person' WHERE id = %s", account)
    fourth = billed()
    books.ask("UPDATE accounts SET name = 'Somebody' WHERE id = %s", account)
    assert parties(books, first) == ("Seller 1", "First", "Romashka", "Old street", "ru")
    assert parties(books, second) == ("Seller 2", "First", "Daisy", "New street", "en")
    assert parties(books, third) == ("Seller 2", "Second", "Daisy", None, "en")
    assert parties(books, fourth) == ("Seller 2", "Second", "A person", None, "en")
    assert parties(books, draft) == ("Seller 2", "Second", "Somebody", None, "en")


def test_of_changes_in_one_transaction_only_what_stood_before_them_was_ever_in_force(books: Books) -> None:
    account = books.account("A1", name="Before")
    invoice = books.invoices(books.run(TODAY), [(account, [Charge(100)])], on=TODAY)[0]
    books.ask("UPDATE customers SET name = 'Between'; SELECT pg_sleep(0.01); UPDATE customers SET name = 'After'")
    later = books.invoices(books.run(TODAY), [(account, [Charge(100)])], on=TODAY)[0]
    assert (parties(books, invoice)[2], parties(books, later)[2]) == ("Before", "After")


def test_what_is_kept_holds_until_the_change_is_committed_and_not_until_it_was_begun(books: Books) -> None:
    account = books.account("A1", name="Before")
    with psycopg2.connect(books.dsn) as connection, connection.cursor() as cur:
        cur.execute("UPDATE customers SET name = 'After'")
        invoice = books.invoices(books.run(TODAY), [(account, [Charge(100)])], on=TODAY)[0]
        assert parties(books, invoice)[2] == "Before"
    connection.close()
    assert parties(books, invoice)[2] == "Before"


def test_a_version_is_kept_only_of_what_a_document_prints_and_only_when_it_changed(books: Books) -> None:
    books.account("A1", name="Romashka")
    books.ask("UPDATE customers SET name = name, customer_group = 'gold', state = 'closed'")
    books.ask("INSERT INTO customers (number, parent_id) SELECT 'C' || n, 1 FROM generate_series(1, 100) n")
    books.ask("UPDATE legal_entities SET name = name, details = details")
    assert versions(books) == (0, 0)
    books.ask('UPDATE legal_entities SET details = \'{"inn": "1"}\'')
    books.ask("UPDATE customers SET language = 'en' WHERE number = 'C7'")
    assert versions(books) == (1, 1)


def test_nobody_writes_versions_by_hand(books: Books, database: Any) -> None:
    books.account("A1", name="Romashka")
    books.ask("UPDATE customers SET name = 'Daisy'")
    books.ask("UPDATE legal_entities SET name = 'Seller'")
    books.ask("UPDATE accounts SET name = 'Daisy' WHERE number = 'A1'")
    owner = Books(database.owner_dsn)
    for table in ("customer_versions", "legal_entity_versions", "account_versions"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            books.ask(f"INSERT INTO {table} SELECT * FROM {table}")
        for words in (f"UPDATE {table} SET name = 'x'", f"DELETE FROM {table}", f"TRUNCATE {table}"):
            with pytest.raises(psycopg2.errors.RaiseException, match="append-only"):
                owner.ask(words)


def test_a_series_that_has_given_numbers_keeps_its_prefix(books: Books, database: Any) -> None:
    owner = Books(database.owner_dsn)
    owner.ask("UPDATE invoice_series SET prefix = 'A-' WHERE id = 1")
    account = books.account("A1")
    books.invoices(books.run(TODAY), [(account, [Charge(100)])], on=TODAY)
    owner.ask("UPDATE invoice_series SET prefix = 'A-', next_number = next_number + 1 WHERE id = 1")
    for words in ("prefix = 'B-'", "digits = 9"):
        with pytest.raises(psycopg2.errors.RaiseException, match="has given numbers"):
            owner.ask(f"UPDATE invoice_series SET {words} WHERE id = 1")


class Counting:
    """A cursor that counts what it is asked."""

    def __init__(self, cur: Any) -> None:
        self.cur, self.count = cur, 0

    async def execute(self, *words: Any) -> None:
        self.count += 1
        await self.cur.execute(*words)

    async def fetchall(self) -> Any:
        return await self.cur.fetchall()


def test_many_documents_take_no_more_statements_than_one(books: Books) -> None:
    run = books.run(TODAY)
    bills = [(books.account(f"A{n}", name="Before"), [Charge(100)]) for n in range(20)]
    ids = books.invoices(run, bills, on=TODAY)
    books.ask("UPDATE customers SET name = 'After'")

    async def read(cur: Any) -> tuple[set[str], int]:
        counting = Counting(cur)
        return {one.buyer.name for one in await invoice_details(counting, ids)}, counting.count

    assert done(books.dsn, read) == ({"Before"}, 4)


# ---- a rate of nothing


def test_a_rate_of_nothing_and_no_tax_are_told_apart_by_the_class_of_the_item(books: Books) -> None:
    account = books.account("A1")
    home, abroad, software = (books.order(account, "2026-01-01 00:00+03", plan=one) for one in
                              ("home", "abroad", "software"))  # fmt: skip
    by_hand = books.one(
        "INSERT INTO manual_lines (key, account_id, payer_account_id, description, amount_minor, tax_ppm, tax_inside,"
        " bill_on, actor, why) VALUES ('k', %s, %s, 'Fine', 100, 0, true, %s, 't', 'w') RETURNING id",
        account, account, TODAY,
    )  # fmt: skip
    charges = [
        Charge(100, order_id=home),
        Charge(100, "roaming", order_id=abroad, tax_ppm=0),
        Charge(100, "licence", order_id=abroad, tax_ppm=0),
        Charge(100, "", "minimum", abroad, tax_ppm=0),
        Charge(100, "", "minimum", software, tax_ppm=0),
        Charge(100, "", "manual", tax_ppm=0, manual_line_id=by_hand),
    ]
    invoice = books.invoices(books.run(TODAY), [(account, charges)], on=TODAY)[0]
    lines = done(books.dsn, lambda cur: invoice_details(cur, [invoice]))[0].lines
    assert [one.is_taxed for one in lines] == [True, True, False, True, False, False]
