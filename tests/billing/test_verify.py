"""billing.verify: truths 1 and 2 hold on a database the program wrote, and one corrupted row of each is found."""

import asyncio
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import aiopg
import psycopg2
import pytest

from billing.accounts import NewAccount, account_by_number, create_accounts, post_manual, system_account
from billing.verify import verify_ledger
from billing.verify_records import Check
from ratingcore.money import Minor


async def opened(dsn: str) -> None:
    """Two subscribers, one with an opening balance."""
    async with aiopg.connect(dsn) as connection, connection.cursor() as cur:
        await create_accounts(cur, [NewAccount("79161234567"), NewAccount("79265550102")])
        account = await account_by_number(cur, "79161234567")
        assert account is not None
        other = await system_account(cur, "adjustment", "opening", "RUB")
        posting = await post_manual(
            cur, key="open-1", actor="user:anna", why="opening balance", debit_id=other, credit_id=account.id,
            amount=Minor(25_000), currency="RUB",
        )  # fmt: skip
        assert posting is not None
        assert len(posting.posted) == 1


async def checked(dsn: str) -> list[Check]:
    async with aiopg.connect(dsn) as connection, connection.cursor() as cur:
        return await verify_ledger(cur, dsn)


def corrupt(admin_dsn: str, *statements: str) -> None:
    """Do what nobody may, as a superuser with triggers off."""
    with closing(psycopg2.connect(admin_dsn)) as connection, connection, connection.cursor() as cur:
        cur.execute("SET session_replication_role = replica")
        for statement in statements:
            cur.execute(statement)


def differing(checks: Sequence[Check]) -> list[tuple[int, str]]:
    return [(check.truth, finding.what) for check in checks for finding in check.findings]


def test_a_database_written_by_the_program_is_clean_and_every_check_examined_something(database: Any) -> None:
    asyncio.run(opened(database.dsn))
    checks = asyncio.run(checked(database.dsn))
    assert differing(checks) == []
    assert [check.name for check in checks if check.examined == 0] == []
    assert {check.truth for check in checks} == {1, 2}


def test_a_check_of_an_empty_ledger_says_that_it_examined_nothing(database: Any) -> None:
    checks = asyncio.run(checked(database.dsn))
    assert all(check.is_clean for check in checks)
    assert {check.of for check in checks if check.examined == 0} == {"accounts", "transfers"}


CORRUPTIONS = [
    (
        1,
        "column accounts.balance_minor is numeric",
        ["DROP TRIGGER accounts_ageing_lift ON accounts", "ALTER TABLE accounts ALTER balance_minor TYPE numeric"],
    ),
    (1, "column transfers.fee is double precision", ["ALTER TABLE transfers ADD fee double precision"]),
    (1, "column transfers.fee_amount is numeric", ["ALTER TABLE transfers ADD fee_amount numeric(12,2)"]),
    (2, "balances sum to 0.01", ["UPDATE accounts SET balance_minor = balance_minor + 1 WHERE number = '79161234567'"]),
    (
        2,
        "account 79161234567",
        ["UPDATE accounts SET balance_minor = balance_minor + CASE number WHEN '79161234567' THEN 1 ELSE -1 END "
         "WHERE number IN ('79161234567', '79265550102')"],
    ),
    (2, "debit account 999 does not exist", ["UPDATE transfers SET debit_account_id = 999"]),
    (2, "credit account", ["UPDATE accounts SET currency = 'EUR' WHERE number = '79161234567'"]),
    (2, "its manual posting does not exist", ["DELETE FROM manual_postings"]),
    (2, "no enabled trigger refuses DELETE on transfers", ["ALTER TABLE transfers DISABLE TRIGGER ALL"]),
    (2, "no enabled trigger refuses TRUNCATE on accounts", ["DROP TRIGGER accounts_are_kept ON accounts"]),
    (
        2,
        "no enabled trigger refuses UPDATE on transfers",
        ["CREATE OR REPLACE FUNCTION append_only() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"],
    ),
    (2, "role kopeck_app may UPDATE transfers", ["GRANT UPDATE (amount_minor) ON transfers TO kopeck_app"]),
    (2, "role kopeck_app may DELETE accounts", ["GRANT DELETE ON accounts TO kopeck_app"]),
    (
        2,
        "role kopeck_app is or belongs to the owner of transfers",
        ["ALTER TABLE transfers OWNER TO kopeck_app"],
    ),
    (
        2,
        "function public.bump_contracts_revision does not look into pg_temp last: its search_path is the caller's",
        ["ALTER FUNCTION bump_contracts_revision() RESET search_path"],
    ),
    (
        2,
        "function public.issued_stays does not look into pg_temp last: its search_path is pg_temp, public",
        ["ALTER FUNCTION issued_stays() SET search_path = pg_temp, public"],
    ),
    (
        2,
        'function public.usage_month looks into "$user"',
        ["ALTER FUNCTION usage_month(timestamptz) SET search_path = \"$user\", public, pg_temp"],
    ),
    (
        2,
        "function public.ageing_lift runs as its owner and everybody may call it",
        ["GRANT EXECUTE ON FUNCTION ageing_lift() TO PUBLIC"],
    ),
    (2, "role kopeck_app may create in schema public", ["GRANT CREATE ON SCHEMA public TO PUBLIC"]),
    (2, "role kopeck_app may create in schema more", ["CREATE SCHEMA more AUTHORIZATION kopeck_app"]),
]  # fmt: skip


@pytest.mark.parametrize(("truth", "words", "statements"), CORRUPTIONS, ids=[words for _, words, _ in CORRUPTIONS])
def test_one_corrupted_row_or_rule_is_found(database: Any, truth: int, words: str, statements: list[str]) -> None:
    asyncio.run(opened(database.dsn))
    corrupt(database.admin_dsn, *statements)
    found = differing(asyncio.run(checked(database.admin_dsn)))
    assert any(of == truth and words in what for of, what in found), found


def test_all_differing_rows_are_counted_and_the_first_fifty_listed(database: Any) -> None:
    asyncio.run(opened(database.dsn))
    corrupt(
        database.admin_dsn,
        "INSERT INTO accounts (number, kind, balance_minor) "
        "SELECT 'x' || n, 'subscriber', 1 FROM generate_series(1, 60) n",
    )
    balances = next(check for check in asyncio.run(checked(database.dsn)) if "equals its transfers" in check.name)
    assert (balances.found, len(balances.findings)) == (60, 50)
