"""web.access.throttle: how many tries, from where and how fast, in the real database."""

import asyncio
import doctest
from contextlib import asynccontextmanager

import aiopg
import pytest

from web.access import throttle, users
from web.access.rights import EVERYTHING
from web.access.throttle import FREE_TRIES_PER_LOGIN, TRIES_PER_ADDRESS, TRIES_PER_BROWSER, TRIES_PER_PAIR, TooManyTries

GOOD = "correct horse 42"
WRONG = "wrong wrong wrong"


@asynccontextmanager
async def cursor(database):
    async with aiopg.connect(database.dsn) as connection, connection.cursor() as cur:
        yield cur


def run(database, story):
    async def told():
        async with cursor(database) as cur:
            await users.add_user(cur, "anna", GOOD, "viewer", by=EVERYTHING, actor="system:test")
            return await story(cur)

    return asyncio.run(told())


async def outcome(cur, password, address="192.0.2.1", browser="", login="anna"):
    try:
        found = await users.authenticate(cur, login, password, address, browser)
    except TooManyTries:
        return "wait"
    return "in" if found else "no"


def test_failures_close_a_login_for_their_address_alone_until_the_window_is_over(database):
    async def story(cur):
        assert [await outcome(cur, WRONG) for _ in range(TRIES_PER_PAIR)] == ["no"] * TRIES_PER_PAIR
        assert await outcome(cur, GOOD) == "wait"
        assert await outcome(cur, GOOD, "192.0.2.2") == "in"
        await cur.execute("UPDATE sign_in_tries SET last_at = now() - interval '15 minutes 1 second'")
        assert await outcome(cur, GOOD) == "in"

    run(database, story)


def test_success_forgets_the_failures_before_it(database):
    async def story(cur):
        for _ in range(3):
            assert [await outcome(cur, WRONG) for _ in range(TRIES_PER_PAIR - 1)] == ["no"] * (TRIES_PER_PAIR - 1)
            assert await outcome(cur, GOOD) == "in"

    run(database, story)


def test_guesses_made_at_once_get_no_more_looks_than_guesses_in_a_row(database):
    async def guess(number):
        async with cursor(database) as cur:
            return await outcome(cur, f"{WRONG} {number}")

    async def story(_cur):
        told = await asyncio.gather(*[guess(number) for number in range(TRIES_PER_PAIR + 3)])
        assert sorted(told) == ["no"] * TRIES_PER_PAIR + ["wait"] * 3

    run(database, story)


def test_guesses_from_many_addresses_slow_the_login_down_and_never_close_it(database):
    async def story(cur):
        for number in range(FREE_TRIES_PER_LOGIN):
            assert await outcome(cur, WRONG, f"198.51.100.{number}") == "no"
        await cur.execute("UPDATE sign_in_tries SET tries = tries + 6, last_at = now() WHERE scope = 'login'")
        assert await outcome(cur, GOOD, "203.0.113.1") == "wait"
        await cur.execute("UPDATE sign_in_tries SET last_at = last_at - interval '61 seconds' WHERE scope = 'login'")
        assert await outcome(cur, WRONG, "203.0.113.2") == "no"
        await cur.execute("UPDATE sign_in_tries SET tries = 100000 WHERE scope = 'login'")
        await cur.execute("UPDATE sign_in_tries SET last_at = now() - interval '61 seconds' WHERE scope = 'login'")
        assert await outcome(cur, GOOD, "203.0.113.3") == "in"

    run(database, story)


def test_a_browser_that_is_known_waits_for_nobody_and_has_a_count_of_its_own(database):
    async def story(cur):
        user = await users.user_by_login(cur, "anna")
        token = await throttle.trust_browser(cur, user.id, "")
        assert await throttle.trust_browser(cur, user.id, token) == token
        for number in range(FREE_TRIES_PER_LOGIN):
            await outcome(cur, WRONG, f"198.51.100.{number}")
        await cur.execute("UPDATE sign_in_tries SET tries = tries + 6, last_at = now() WHERE scope = 'login'")
        assert await outcome(cur, GOOD, "203.0.113.1") == "wait"
        assert await outcome(cur, GOOD, "203.0.113.1", token) == "in"
        told = [await outcome(cur, WRONG, "203.0.113.1", token) for _ in range(TRIES_PER_BROWSER + 1)]
        assert told[-1] == "wait"  # it is a stranger again
        assert await outcome(cur, GOOD, "203.0.113.1", "someone-else's") == "wait"

    run(database, story)


def test_a_browser_is_known_to_the_user_who_signed_in_there_and_to_no_other(database):
    async def story(cur):
        await users.add_user(cur, "olga", "another horse 43", "viewer", by=EVERYTHING, actor="system:test")
        anna, olga = [await users.user_by_login(cur, login) for login in ("anna", "olga")]
        token = await throttle.trust_browser(cur, anna.id, "")
        other = await throttle.trust_browser(cur, olga.id, token)
        assert other != token
        await cur.execute("SELECT user_id FROM known_browsers ORDER BY created_at")
        assert [row[0] for row in await cur.fetchall()] == [anna.id, olga.id]

    run(database, story)


def test_an_address_leaves_a_bounded_number_of_rows(database):
    async def story(cur):
        told = [
            await outcome(cur, WRONG, f"2001:db8::{number:x}", login=f"guess{number}")
            for number in range(TRIES_PER_ADDRESS + 5)
        ]
        assert told == ["no"] * TRIES_PER_ADDRESS + ["wait"] * 5
        await cur.execute("SELECT scope, count(*)::int FROM sign_in_tries GROUP BY 1 ORDER BY 1")
        rows = await cur.fetchall()
        assert rows == [("address", 1), ("login", TRIES_PER_ADDRESS), ("pair", TRIES_PER_ADDRESS)]
        await cur.execute("UPDATE sign_in_tries SET last_at = now() - interval '16 minutes'")
        assert await outcome(cur, WRONG, "2001:db8:1::1") == "no"
        await cur.execute("SELECT count(*)::int FROM sign_in_tries")
        assert await cur.fetchone() == (2 * TRIES_PER_ADDRESS + 1 - 100 + 3,)

    run(database, story)


def test_the_examples_of_the_module_hold():
    assert doctest.testmod(throttle).failed == 0


def test_a_session_tries_its_own_password_five_times(database):
    async def story(cur):
        for _ in range(throttle.TRIES_PER_SESSION):
            await throttle.take_try_of_session(cur, b"s" * 32)
        with pytest.raises(TooManyTries):
            await throttle.take_try_of_session(cur, b"s" * 32)

    run(database, story)
