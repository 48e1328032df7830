"""`kopeck verify` looks at tables slice by slice, and finds in the last slice what it finds in the first."""

import asyncio
from contextlib import closing
from typing import Any

import aiopg
import psycopg2
import pytest

from billing import verify_balances, verify_slices
from billing.verify import check_transfers
from billing.verify_balances import check_balances
from billing.verify_records import Check, Finding
from billing.verify_slices import slices, snapshot, together
from tests.billing.test_verify import corrupt


def told(dsn: str, *statements: str) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cur:
        for statement in statements:
            cur.execute(statement)
        return cur.fetchall() if cur.description else []


def moved(database: Any, count: int) -> None:
    """Accounts a and b, and so many transfers of 1.00 from a to b."""
    told(
        database.owner_dsn,
        "INSERT INTO accounts (number, kind) VALUES ('a', 'subscriber'), ('b', 'subscriber')",
        "INSERT INTO manual_postings (key, actor, why) VALUES ('k', 't', 't')",
        "INSERT INTO transfers (source, source_id, step, debit_account_id, credit_account_id, amount_minor, currency) "
        f"SELECT 'manual', 1, n::text, 1, 2, 100, 'RUB' FROM generate_series(1, {count}) n",
        f"UPDATE accounts SET balance_minor = CASE number WHEN 'a' THEN -100 ELSE 100 END * {count}",
    )


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_balances, "TRANSFERS", 3)
    monkeypatch.setattr(verify_balances, "ACCOUNTS", 1)
    monkeypatch.setattr(verify_balances, "AGAIN", 1)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9])
def test_slices_hold_every_id_once(database: Any, count: int) -> None:
    moved(database, 9)

    async def story() -> list[tuple[int, int]]:
        async with aiopg.connect(database.dsn) as connection, connection.cursor() as cur:
            return [one async for one in slices(cur, "transfers", rows=count)]

    found = asyncio.run(story())
    assert found[0][0] == 0
    assert found[-1][1] == 9
    assert [first for first, _ in found[1:]] == [last for _, last in found[:-1]]
    assert max(last - first for first, last in found) == count


def test_a_table_without_rows_has_no_slices(database: Any) -> None:
    async def story() -> list[tuple[int, int]]:
        async with aiopg.connect(database.dsn) as connection, connection.cursor() as cur:
            return [one async for one in slices(cur, "transfers")]

    assert asyncio.run(story()) == []


def test_a_snapshot_is_one_instant_and_then_given_up(database: Any) -> None:
    async def story() -> list[int]:
        async with aiopg.connect(database.dsn) as connection, connection.cursor() as cur:

            async def count() -> int:
                await cur.execute("SELECT count(*) FROM transfers")
                return int((await cur.fetchone())[0])

            async with snapshot(cur):
                before = await count()
                moved(database, 2)
                within = await count()
            return [before, within, await count()]

    assert asyncio.run(story()) == [0, 0, 2]


def test_slices_are_one_check_of_which_all_is_counted_and_the_first_listed() -> None:
    many = tuple(Finding(2, str(number)) for number in range(40))
    found = together([Check(2, "x", 3, "rows"), Check(2, "x", 4, "rows", 70, many), Check(2, "x", 5, "rows", 40, many)])
    assert (found.examined, found.found, len(found.findings)) == (12, 110, 50)


@pytest.mark.parametrize("transfer", [1, 5, 9])
def test_a_transfer_to_nowhere_is_found_in_whatever_slice(
    database: Any, monkeypatch: pytest.MonkeyPatch, transfer: int
) -> None:
    monkeypatch.setattr(verify_slices.slices, "__defaults__", ("id", 4, verify_slices.silent))
    moved(database, 9)
    corrupt(database.admin_dsn, f"UPDATE transfers SET credit_account_id = 77 WHERE id = {transfer}")

    async def story() -> Check:
        async with aiopg.connect(database.dsn) as connection, connection.cursor() as cur:
            return await check_transfers(cur)

    found = asyncio.run(story())
    assert (found.examined, found.found) == (9, 1)
    assert f"transfer {transfer} " in found.findings[0].what


@pytest.mark.usefixtures("small")
def test_balances_are_added_up_over_slices_and_every_differing_account_is_told(database: Any) -> None:
    moved(database, 10)
    assert check_balances(database.dsn) == Check(2, "each balance equals its transfers", 2, "accounts")
    corrupt(database.admin_dsn, "UPDATE accounts SET balance_minor = balance_minor + 1")
    found = check_balances(database.dsn)
    assert (found.examined, found.found) == (2, 2)
    assert [finding.what for finding in found.findings] == [
        "account a (id 1): balance -9.99, transfers -10.00",
        "account b (id 2): balance 10.01, transfers 10.00",
    ]


@pytest.mark.usefixtures("small")
def test_what_commits_an_older_transfer_while_they_are_added_up_is_no_difference(database: Any) -> None:
    """The id was taken before the walk began, the commit comes after its slice was read."""
    moved(database, 8)
    with closing(psycopg2.connect(database.dsn)) as slow, slow.cursor() as cur:
        posting = (
            "INSERT INTO transfers (source, source_id, step, debit_account_id, credit_account_id, amount_minor, "
            "currency) VALUES ('manual', 1, '{}', 1, 2, 100, 'RUB')"
        )
        move = "UPDATE accounts SET balance_minor = balance_minor + CASE number WHEN 'a' THEN -100 ELSE 100 END"
        cur.execute(posting.format("slow"))  # id 9
        told(database.dsn, posting.format("fast"), move)  # id 10
        stages: list[tuple[str, int]] = []

        def say(what: str, done: int, of: int | None) -> None:
            stages.append((what, done))
            if (what, done) == ("accounts", 0):
                cur.execute(move)
                slow.commit()

        found = check_balances(database.dsn, say)
    assert ("transfers", 9) in stages
    assert (found.examined, found.found) == (2, 0)


@pytest.mark.usefixtures("small")
def test_transfers_that_come_after_the_beginning_are_counted_with_the_balances(database: Any) -> None:
    moved(database, 4)
    is_done: list[bool] = []

    def say(what: str, done: int, of: int | None) -> None:
        if what == "transfers" and not is_done:
            is_done.append(True)
            told(
                database.owner_dsn,
                "INSERT INTO transfers (source, source_id, step, debit_account_id, credit_account_id, amount_minor,"
                " currency) SELECT 'manual', 1, 'later' || n, 1, 2, 100, 'RUB' FROM generate_series(1, 5) n",
                "UPDATE accounts SET balance_minor = balance_minor + CASE number WHEN 'a' THEN -500 ELSE 500 END",
            )

    found = check_balances(database.dsn, say)
    assert (is_done, found.examined, found.found) == ([True], 2, 0)
