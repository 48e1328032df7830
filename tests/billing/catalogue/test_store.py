"""Catalogues in a real database: whole or not at all, never changed, back to the byte; and the commands over it."""

import asyncio
from contextlib import asynccontextmanager

import aiopg
import psycopg2
import pytest

from billing.catalogue.model import Buyer, resolve_price
from billing.catalogue.store import (
    CatalogueStoreError,
    Source,
    catalogue_of,
    find_version,
    list_versions,
    read_source,
    read_version,
    save_version,
)
from tests.billing.catalogue.catalogues import EXAMPLES, example, one_price

MOBILE = Source("mobile.yaml", {name: (EXAMPLES / name).read_bytes() for name in ("mobile.yaml", "roaming.csv")})
TABLES = (
    "catalogues",
    "catalogue_versions",
    "catalogue_files",
    "catalogue_items",
    "catalogue_plans",
    "catalogue_prices",
)


@asynccontextmanager
async def transaction(dsn: str):
    connection = await aiopg.connect(dsn)
    try:
        cur = await connection.cursor()
        await cur.execute("BEGIN")
        yield cur
        await cur.execute("COMMIT")
    finally:
        await connection.close()


async def save(dsn: str, source: Source = MOBILE):
    async with transaction(dsn) as cur:
        return await save_version(cur, source, catalogue_of(source), "test", "why")


def test_a_catalogue_is_saved_and_comes_back_to_the_byte_and_to_the_price(database) -> None:
    async def story() -> None:
        saved, is_new = await save(database.dsn)
        assert (saved.name, saved.version, saved.note, is_new) == ("mobile", 1, "why", True)
        async with transaction(database.dsn) as cur:
            found = await find_version(cur, "mobile")
            assert await read_source(cur, found) == MOBILE
            again = await read_version(cur, found)
        buyer = Buyer("RUB", "smart")
        prices = [resolve_price(one, "voice", buyer).price for one in (again, example("mobile.yaml"))]
        assert prices[0] == prices[1]

    asyncio.run(story())


def test_the_same_files_are_no_new_version_and_others_are_the_next(database) -> None:
    async def story() -> None:
        await save(database.dsn)
        saved, is_new = await save(database.dsn)
        assert (saved.version, is_new) == (1, False)
        other = Source("mobile.yaml", {**MOBILE.files, "roaming.csv": b"prefix,price\n7,1\n"})
        saved, is_new = await save(database.dsn, other)
        assert (saved.version, is_new) == (2, True)
        async with transaction(database.dsn) as cur:
            assert [one.version for one in await list_versions(cur)] == [2, 1]
            assert await read_source(cur, await find_version(cur, "mobile", 1)) == MOBILE
            assert await find_version(cur, "mobile", 3) is None

    asyncio.run(story())


def test_two_who_load_at_once_make_two_versions_one_after_the_other(database) -> None:
    async def story() -> None:
        sources = [Source("c.yaml", {"c.yaml": one_price(f"- flat: {{amount: {n}}}").encode()}) for n in range(1, 6)]
        saved = await asyncio.gather(*(save(database.dsn, source) for source in sources))
        assert sorted(one.version for one, _ in saved) == [1, 2, 3, 4, 5]

    asyncio.run(story())


def test_a_load_that_breaks_off_leaves_nothing(database) -> None:
    async def broken() -> None:
        async with transaction(database.dsn) as cur:
            await save_version(cur, MOBILE, catalogue_of(MOBILE), "test")
            raise ZeroDivisionError

    async def counts() -> list[int]:
        async with transaction(database.dsn) as cur:
            found = []
            for table in TABLES:
                await cur.execute(f"SELECT count(*) FROM {table}")
                found += await cur.fetchone()
            return found

    with pytest.raises(ZeroDivisionError):
        asyncio.run(broken())
    assert asyncio.run(counts()) == [0] * 6
    asyncio.run(save(database.dsn))
    assert asyncio.run(counts()) == [1, 1, 2, 4, 1, 4]


def test_rows_tell_what_the_files_say(database) -> None:
    async def story() -> None:
        await save(database.dsn)
        async with transaction(database.dsn) as cur:
            await cur.execute("SELECT number, names->>'ru', unit, tax FROM catalogue_items ORDER BY number")
            assert ("voice", "Звонки по России", "s", "vat") in await cur.fetchall()
            await cur.execute("SELECT items FROM catalogue_plans")
            assert await cur.fetchall() == [(["fee", "voice", "data", "roaming"],)]
            await cur.execute("SELECT kinds FROM catalogue_prices WHERE item = 'voice'")
            assert await cur.fetchall() == [(["Increments", "Allowance", "Graduated", "Multiplier"],)]

    asyncio.run(story())


def test_nobody_changes_or_removes_what_was_saved(database) -> None:
    asyncio.run(save(database.dsn))
    columns = {"catalogues": "name", "catalogue_versions": "note"}
    for dsn in (database.dsn, database.owner_dsn):
        for table in TABLES:
            column = columns.get(table, "version_id")
            for change in (
                f"DELETE FROM {table}",
                f"UPDATE {table} SET {column} = {column}",
                f"TRUNCATE {table} CASCADE",
            ):
                connection = psycopg2.connect(dsn)
                with connection.cursor() as cur, pytest.raises(psycopg2.Error, match=r"append-only|permission denied"):
                    cur.execute(change)
                connection.close()


def test_files_that_are_not_those_that_were_saved_are_refused(database) -> None:
    asyncio.run(save(database.dsn))
    connection = psycopg2.connect(database.admin_dsn)
    with connection, connection.cursor() as cur:
        cur.execute("ALTER TABLE catalogue_files DISABLE TRIGGER ALL")
        cur.execute("UPDATE catalogue_files SET content = 'prefix,price\n7,0\n' WHERE name = 'roaming.csv'")
    connection.close()

    async def story() -> None:
        async with transaction(database.dsn) as cur:
            with pytest.raises(CatalogueStoreError, match="is not what was saved"):
                await read_version(cur, await find_version(cur, "mobile"))

    asyncio.run(story())


# ---- the commands


def test_load_diff_list_and_export_over_a_database(kopeck, tmp_path) -> None:
    source = str(EXAMPLES / "mobile.yaml")
    assert kopeck("catalog", "diff", source)[0] == 2
    assert kopeck("catalog", "load", source, "--note", "first")[:2] == (0, "catalogue mobile has version 1\n")
    assert kopeck("catalog", "load", source)[:2] == (0, "catalogue mobile has version 1, as before\n")
    assert kopeck("catalog", "diff", source)[:2] == (0, "0 changes against mobile version 1\n")
    assert kopeck("catalog", "export", "mobile", "--to", str(tmp_path))[0] == 0
    assert (tmp_path / "mobile.yaml").read_bytes() == MOBILE.files["mobile.yaml"]
    assert (tmp_path / "roaming.csv").read_bytes() == MOBILE.files["roaming.csv"]
    assert "mobile\t1\t" in kopeck("catalog", "list")[1]


def test_a_load_that_would_change_the_past_is_refused_until_it_is_meant(kopeck, tmp_path) -> None:
    kopeck("catalog", "load", str(EXAMPLES / "mobile.yaml"))
    kopeck("catalog", "export", "mobile", "--to", str(tmp_path))
    edited = tmp_path / "mobile.yaml"
    text = edited.read_text("utf-8")
    edited.write_text(text.replace("amount: 450.00", "amount: 500.00"), "utf-8")
    status, out, err = kopeck("catalog", "load", str(edited))
    assert (status, out) == (1, "")
    assert (
        "item fee, RUB: costs something else from 2025-01-01 (plan smart)\n    example: 0 piece: 450.00 -> 500.00"
        in err
    )
    assert "nothing was loaded" in err
    assert "mobile\t2" not in kopeck("catalog", "list")[1]
    assert kopeck("catalog", "export", "mobile", "--to", str(tmp_path))[0] == 2  # it holds something else
    assert kopeck("catalog", "load", str(edited), "--rewrite-past")[0] == 0
    fee = "          - flat: {amount: 450.00}\n"
    later = text.replace(fee, f"{fee}      - from: 2029-01-01\n        steps:\n          - flat: {{amount: 500.00}}\n")
    kopeck("catalog", "load", str(EXAMPLES / "mobile.yaml"), "--rewrite-past")
    edited.write_text(later, "utf-8")
    status, out, _ = kopeck("catalog", "load", str(edited))
    assert status == 0
    assert "from 2029-01-01 (plan smart)" in out
    assert out.endswith("catalogue mobile has version 4\n")


def test_a_catalogue_with_errors_and_a_broken_one_are_not_loaded(kopeck, tmp_path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(one_price("- flat: {amount: 1}").replace("items:\n", "items:\n  sms: {unit: piece}\n"), "utf-8")
    status, _, err = kopeck("catalog", "load", str(file))
    assert status == 1
    assert "item sms has no price" in err
    file.write_text("nonsense", "utf-8")
    assert kopeck("catalog", "load", str(file))[0] == 2
    assert kopeck("catalog", "list")[1] == "catalogue\tversion\tloaded\tby\tsha256\tnote\n"


def test_what_is_not_there_is_one_sentence_and_status_2(kopeck, tmp_path) -> None:
    status, _, err = kopeck("catalog", "export", "none", "--to", str(tmp_path))
    assert (status, err) == (2, "kopeck: there is no catalogue 'none'\n")
