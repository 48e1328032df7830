"""The search over real rows: each thing that people type finds what it names, and nothing of another legal entity."""

import asyncio
from contextlib import closing
from typing import Any

import aiopg
import psycopg2
import pytest

from billing.listing.records import Between, Match, TextIs
from billing.search import store
from billing.search.records import FoundGroup
from billing.search.terms import read_search

_ROWS = """
    INSERT INTO legal_entities (number, name) VALUES ('other', 'Other company');
    INSERT INTO invoice_series (legal_entity_id, kind, prefix)
    SELECT id, 'invoice', 'B/2026-' FROM legal_entities WHERE number = 'other';
    INSERT INTO accounts (id, number, kind, name) VALUES
        (101, '79161234567', 'subscriber', ''), (102, 'L-0002', 'subscriber', ''), (103, 'L-0003', 'prepaid', ''),
        (104, '100%', 'subscriber', 'Ёлкин Пётр без договора');
    INSERT INTO customers (id, number, name, contacts, details) VALUES
        (101, 'C-1', 'Ёлкина Анна Петровна', '{"phone": "8 (916) 123-45-67", "email": "Anna@Example.ru"}', '{}'),
        (102, 'C-2', 'ООО «Ромашка»', '{"phone": "+7 495 111-22-33"}', '{"inn": "7701234567"}'),
        (103, 'C-3', 'Иванов_100% <b>Олег</b>', '{}', '{}');
    INSERT INTO billing_accounts (account_id, customer_id, payer_account_id, legal_entity_id)
    SELECT v.id, v.id, v.id, e.id FROM (VALUES (101, 'main'), (102, 'main'), (103, 'other')) v (id, entity)
    JOIN legal_entities e ON e.number = v.entity;
    INSERT INTO catalogues (name) VALUES ('plans');
    INSERT INTO order_terms (catalogue_id, plan, item, currency, kind, interval_unit, interval_count, anchor_day,
                             anchor_month, zone, in_advance, proration)
    SELECT id, 'home', '', 'RUB', 'recurring', 'month', 1, 1, 1, 'Europe/Moscow', false, 'day' FROM catalogues;
    INSERT INTO orders (id, number, account_id, payer_account_id, terms_id, starts_at)
    SELECT v.id, v.number, v.account, v.account, t.id, now() - interval '1 day'
    FROM (VALUES (11, 'O-11', 101), (12, NULL, 102), (13, 'O-13', 103)) v (id, number, account), order_terms t;
    INSERT INTO invoice_blocks (id, series_id, invoices_count, state, first_number, issued_at)
    OVERRIDING SYSTEM VALUE
    SELECT v.id, s.id, 2, 'issued', v.first, now()
    FROM (VALUES (7, 'I-', 122), (8, 'B/2026-', 123)) v (id, prefix, first)
    JOIN invoice_series s ON s.prefix = v.prefix;
    INSERT INTO invoices (id, account_id, currency, invoiced_on, due_on, net_minor, tax_minor, total_minor)
    SELECT v.block << 20 | v.place, v.account, 'RUB', '2026-01-01', '2026-01-15', 100000, 20000, 120000
    FROM (VALUES (7::bigint, 0, 101), (7, 1, 102), (8, 0, 103), (8, 1, 103)) v (block, place, account);
"""


@pytest.fixture
def found(database: Any) -> Any:
    """Search by one of the store's functions, within legal entities."""
    with closing(psycopg2.connect(database.admin_dsn)) as connection, connection, connection.cursor() as cur:
        cur.execute(_ROWS)

    def find(function: Any, typed: str, *entities: str) -> FoundGroup:
        async def go() -> FoundGroup:
            async with aiopg.connect(database.dsn, options="-c timezone=UTC") as connection, connection.cursor() as cur:
                await cur.execute("BEGIN")
                await store.limit_search(cur, 5_000)
                scope = None
                if entities:
                    await cur.execute("SELECT id FROM legal_entities WHERE number = ANY(%s)", (list(entities),))
                    scope = [row[0] for row in await cur.fetchall()]
                group: FoundGroup = await function(cur, read_search(typed), scope)
                return group

        return asyncio.run(go())

    return find


def numbers(group: FoundGroup) -> list[str]:
    return [row["number"] for row in group.rows]


@pytest.mark.parametrize(
    ("typed", "number"),
    [
        ("C-1", "C-1"), ("c-1", "C-1"), ("79161234567", "C-1"), ("+7 916 123 45 67", "C-1"), ("9161234567", "C-1"),
        ("anna@example.RU", "C-1"), ("7701234567", "C-2"), ("8(495)1112233", "C-2"), ("клиент: С-1", None),
        ("customer: L-0003", "C-3"),
    ],
)  # fmt: skip
def test_an_exact_number_phone_or_e_mail_names_its_customer(found: Any, typed: str, number: str | None) -> None:
    group = found(store.find_customers, typed)
    assert numbers(group)[: group.exact] == ([number] if number else [])


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("елкин", ["C-1"]), ("ЁЛКИНУ", ["C-1"]), ("анна ёлкина", ["C-1"]), ("петровне", ["C-1"]), ("машк", ["C-2"]),
        ("ромашки", ["C-2"]), ("ооо ромашка", ["C-2"]), ("«Ромашка»", ["C-2"]), ("ан", ["C-1"]),
        ("100%", ["C-3"]), ("_100", ["C-3"]), ("%", []), ("%%%", []), ("___", []), ("ёлкина олег", []),
        ("<b>олег</b>", ["C-3"]), ("ел\u202eкина", ["C-1"]), ("' OR 1=1 --", []), ("\\", []), ("916123", ["C-1"]),
        ("икто", []), ("':*", []), ("олег & !анна", []),
    ],
)  # fmt: skip
def test_a_part_of_a_name_or_another_form_of_it_finds_customers(found: Any, typed: str, expected: list[str]) -> None:
    group = found(store.find_customers, typed)
    assert (numbers(group), group.exact, group.has_more) == (expected, 0, False)


def test_accounts_by_number_and_those_without_a_customer_by_name(found: Any) -> None:
    assert numbers(found(store.find_accounts, "79161234567")) == ["79161234567"]
    assert numbers(found(store.find_accounts, "8 916 1234567")) == ["79161234567"]
    assert numbers(found(store.find_accounts, "l-0")) == []
    group = found(store.find_accounts, "L-0")
    assert (numbers(group), group.exact) == (["L-0002", "L-0003"], 0)
    assert numbers(found(store.find_accounts, "ёлкину")) == ["100%"]
    assert numbers(found(store.find_accounts, "100%")) == ["100%"]
    assert found(store.find_accounts, "10_%").rows == ()
    assert found(store.find_accounts, "clearing").rows == ()


def test_orders_by_number_and_by_the_id_of_one_without(found: Any) -> None:
    assert numbers(found(store.find_orders, "o-11")) == ["O-11"]
    for typed in ("#12", "12"):
        group = found(store.find_orders, typed)
        assert (numbers(group), group.exact) == (["#12"], 1)
    group = found(store.find_orders, "O-1")
    assert (numbers(group), group.exact) == (["O-11", "O-13"], 0)
    assert found(store.find_orders, "11").exact == 0


def test_invoices_by_number_digits_and_total(found: Any) -> None:
    for typed in ("I-000123", "i-000123", "№ I-000123", "счёт: I-000123"):
        group = found(store.find_invoices, typed)
        assert (numbers(group), group.exact) == (["I-000123"], 1)
    group = found(store.find_invoices, "123")
    assert (sorted(numbers(group)), group.exact) == (["B/2026-000123", "I-000123"], 0)
    group = found(store.find_invoices, "1 200,00 ₽")
    assert (len(group.rows), group.exact) == (4, 0)
    assert found(store.find_invoices, "I-123").exact == 0
    assert found(store.find_invoices, "I-000999").rows == ()


def test_a_right_limited_to_legal_entities_finds_theirs_alone(found: Any) -> None:
    assert numbers(found(store.find_customers, "ёлкина", "main")) == ["C-1"]
    assert found(store.find_customers, "ёлкина", "other").rows == ()
    assert found(store.find_customers, "C-1", "other").rows == ()
    assert numbers(found(store.find_accounts, "L-", "other")) == ["L-0003"]
    assert found(store.find_accounts, "ёлкину", "main").rows == ()
    assert numbers(found(store.find_orders, "O-1", "other")) == ["O-13"]
    assert numbers(found(store.find_invoices, "123", "main")) == ["I-000123"]
    assert found(store.find_invoices, "I-000123", "other").rows == ()
    assert len(found(store.find_invoices, "1200.00", "other").rows) == 2


def test_many_rows_are_few_on_the_page_with_the_filter_that_shows_all(found: Any, database: Any) -> None:
    with closing(psycopg2.connect(database.admin_dsn)) as connection, connection, connection.cursor() as cur:
        cur.execute(
            "INSERT INTO accounts (number, kind) SELECT 'M-' || n, 'subscriber' FROM generate_series(10, 39) n;"
            "INSERT INTO customers (number, name) SELECT 'M-' || n, 'Морозов ' || n FROM generate_series(10, 39) n;"
            "INSERT INTO billing_accounts (account_id, customer_id, payer_account_id)"
            " SELECT a.id, c.id, a.id FROM accounts a JOIN customers c ON c.number = a.number WHERE a.number LIKE 'M-%'"
        )
    group = found(store.find_customers, "морозов")
    assert (len(group.rows), group.has_more) == (store.GROUP_ROWS, True)
    assert group.conditions == (TextIs("name", Match.STARTS, "морозов"),)
    assert numbers(group)[0] == "M-10"
    group = found(store.find_customers, "орозо")
    assert group.conditions == (TextIs("name", Match.CONTAINS, "орозо"),)
    group = found(store.find_accounts, "M-")
    assert (len(group.rows), group.has_more) == (store.GROUP_ROWS, True)
    assert group.conditions == (TextIs("account", Match.STARTS, "M-"),)
    assert Between("total", 1, 1) not in group.conditions


class Explaining:
    """A cursor that keeps the plan of each query before it runs it."""

    def __init__(self, cur: Any) -> None:
        self._cur = cur
        self.plans: list[str] = []

    async def execute(self, statement: str, values: Any = None) -> None:
        if statement.split(maxsplit=1)[0] in ("SELECT", "WITH"):
            await self._cur.execute(f"EXPLAIN {statement}", values)
            self.plans.append("\n".join(row[0] for row in await self._cur.fetchall()))
        await self._cur.execute(statement, values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cur, name)


@pytest.mark.parametrize(
    "typed", ["79161234567", "ёлкину", "елкин анна", "I-000123", "123", "1 200,00", "a@b.ru", "#12"]
)
def test_no_search_reads_a_big_table_from_end_to_end(found: Any, database: Any, typed: str) -> None:
    async def plans() -> list[str]:
        async with aiopg.connect(database.dsn, options="-c timezone=UTC") as connection, connection.cursor() as cur:
            await cur.execute("BEGIN")
            await store.limit_search(cur, 5_000)
            kept = Explaining(cur)
            explaining: Any = kept
            for find in (store.find_customers, store.find_accounts, store.find_orders, store.find_invoices):
                await find(explaining, read_search(typed), None)
            return kept.plans

    told = asyncio.run(plans())
    assert len(told) >= 1
    for plan in told:
        for table in ("customers", "accounts", "orders", "invoices", "billing_accounts"):
            assert f"Seq Scan on {table}" not in plan, plan
