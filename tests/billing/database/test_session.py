"""billing.database.session: what the server is asked for, whichever driver asks, and what it does about silence."""

import asyncio
import time

import adbc_driver_manager
import psycopg2
import pytest

from billing.database import adbc as database_adbc
from billing.database import aiopg as database_aiopg
from billing.database.away import DatabaseAway
from billing.database.session import session_dsn

#: Values of tcp_* read 0 on a socket of the file system, which the test's server listens on; who set them is told.
SHOWN = """
    SELECT current_setting('TimeZone') || ' ' || current_setting('idle_in_transaction_session_timeout') || ' '
        || current_setting('application_name'),
        (SELECT string_agg(name, ' ' ORDER BY name) FROM pg_settings WHERE source = 'client' AND name LIKE 'tcp%%')
"""
WANTED = (
    "UTC 7s kopeck-test",
    "tcp_keepalives_count tcp_keepalives_idle tcp_keepalives_interval tcp_user_timeout",
)


async def aiopg_cursor(dsn, **more):
    options = {"name": "kopeck-test", "statement_timeout_s": 10, "idle_transaction_s": 7} | more
    return await (await database_aiopg.connect(dsn, **options)).cursor()


def test_both_drivers_ask_for_the_same_session(database):
    async def by_aiopg():
        cur = await aiopg_cursor(database.dsn)
        await cur.execute(SHOWN, ())
        return (await cur.fetchone(), cur.connection.close())[0]

    with (
        database_adbc.connect(database.dsn, name="kopeck-test", idle_transaction_s=7) as opened,
        opened.cursor() as cur,
    ):
        cur.execute(SHOWN.replace("%%", "%"))
        by_adbc = cur.fetchone()
    assert tuple(asyncio.run(by_aiopg())) == tuple(by_adbc) == WANTED


def test_a_vanished_host_is_found_by_us_as_by_the_server():
    asked = psycopg2.extensions.parse_dsn(session_dsn("host=db", name="x", idle_transaction_s=7))
    assert (asked["keepalives_idle"], asked["tcp_user_timeout"]) == ("10", "25000")
    assert "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3" in asked["options"]
    assert "-c tcp_user_timeout=25000" in asked["options"]


def test_what_is_no_connection_string_is_left_for_the_driver_to_refuse():
    assert session_dsn("no such thing", name="x", idle_transaction_s=7) == "no such thing"
    with pytest.raises(adbc_driver_manager.Error):
        database_adbc.connect("no such thing", name="x", idle_transaction_s=7)


def test_options_of_the_connection_string_stay_in_force(database):
    given = psycopg2.extensions.make_dsn(database.dsn, options="-c work_mem=5MB")
    with psycopg2.connect(session_dsn(given, name="x", idle_transaction_s=7)) as connection, connection.cursor() as cur:
        cur.execute("SELECT current_setting('work_mem'), current_setting('TimeZone')")
        assert cur.fetchone() == ("5MB", "UTC")
    connection.close()


@pytest.mark.parametrize("driver", ["aiopg", "adbc"])
def test_a_process_that_stops_in_a_transaction_gives_its_locks_back(database, driver):
    lock = "SELECT number FROM accounts WHERE number = '79160000001' FOR UPDATE"
    with psycopg2.connect(database.dsn) as first, first.cursor() as sql:
        sql.execute("INSERT INTO accounts (number, kind) VALUES ('79160000001', 'subscriber')")
    first.close()

    def wait_for_the_row():
        with psycopg2.connect(database.dsn) as other, other.cursor() as cur:
            cur.execute("SET lock_timeout = '30s'")
            cur.execute(lock)
            assert cur.rowcount == 1
        other.close()

    async def story():
        cur = await aiopg_cursor(database.dsn, idle_transaction_s=0.3)
        await cur.execute("BEGIN")
        await cur.execute(lock)
        await asyncio.to_thread(wait_for_the_row)
        with pytest.raises(DatabaseAway), database_aiopg.failed_is_away():
            await cur.execute("COMMIT")
        await cur.connection.close()

    if driver == "aiopg":
        asyncio.run(story())
        return
    with database_adbc.connect(database.dsn, name="x", idle_transaction_s=0.3) as opened, opened.cursor() as cur:
        cur.execute(lock)
        cur.fetchall()
        wait_for_the_row()
        with pytest.raises(adbc_driver_manager.Error):
            cur.execute("SELECT 1")


def test_a_long_statement_is_no_idle_time(database):
    async def story():
        cur = await aiopg_cursor(database.dsn, idle_transaction_s=0.1)
        await cur.execute("BEGIN")
        began = time.monotonic()
        await cur.execute("SELECT pg_sleep(0.5)")
        await cur.execute("COMMIT")
        assert time.monotonic() - began >= 0.5
        cur.connection.close()

    asyncio.run(story())


def test_a_statement_the_server_cancels_means_that_the_database_is_away(database):
    async def story():
        cur = await aiopg_cursor(database.dsn)
        await cur.execute("SET statement_timeout = '50ms'")
        with pytest.raises(DatabaseAway, match="cancelled a statement"), database_aiopg.cancelled_is_away():
            await cur.execute("SELECT pg_sleep(5)")

    asyncio.run(story())


def test_a_cancellation_of_ours_stays_one(database):
    async def wait():
        with database_aiopg.failed_is_away():
            await asyncio.sleep(60)

    async def story():
        task = asyncio.create_task(wait())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(story())
