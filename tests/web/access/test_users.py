"""Logins, passwords, roles and the lock, in the real database."""

import asyncio
from contextlib import asynccontextmanager

import aiopg
import psycopg2
import pytest

from web.access import users
from web.access.users import LOCK_MINUTES, MAX_FAILURES, Role, UserError

GOOD = "correct horse 42"


@asynccontextmanager
async def cursor(database):
    async with aiopg.connect(database.dsn) as connection, connection.cursor() as cur:
        yield cur


def run(database, story):
    async def told():
        async with cursor(database) as cur:
            return await story(cur)

    return asyncio.run(told())


def test_a_user_signs_in_with_his_password_and_no_other(database):
    async def story(cur):
        added = await users.add_user(cur, "Anna", GOOD, "operator")
        assert added.login == "anna"
        assert added.role is Role.OPERATOR
        assert added.actor == "user:anna"
        right = await users.authenticate(cur, " ANNA ", GOOD)
        assert right is not None
        assert right.id == added.id
        assert right.signed_in_at is not None
        assert await users.authenticate(cur, "anna", GOOD + "!") is None
        assert await users.authenticate(cur, "nobody", GOOD) is None
        assert await users.authenticate(cur, "'; DROP TABLE users; --", GOOD) is None

    run(database, story)


def test_the_password_is_kept_as_argon2id_only(database):
    async def story(cur):
        await users.add_user(cur, "anna", GOOD, "viewer")
        await cur.execute("SELECT password_hash FROM users")
        [[hashed]] = await cur.fetchall()
        assert hashed.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
        with pytest.raises(psycopg2.errors.CheckViolation):
            await cur.execute("UPDATE users SET password_hash = %s", (GOOD,))

    run(database, story)


IMPOSSIBLE = [
    ("a", GOOD, "viewer", "user.error.login"),
    ("анна", GOOD, "viewer", "user.error.login"),
    ("-anna", GOOD, "viewer", "user.error.login"),
    ("x" * 65, GOOD, "viewer", "user.error.login"),
    ("anna", "short", "viewer", "user.error.short"),
    ("anna", "x" * 1025, "viewer", "user.error.long"),
    ("anna", "my-Anna-2026", "viewer", "user.error.login_inside"),
    ("anna", GOOD, "root", "user.error.role"),
    ("oleg", GOOD, "viewer", "user.error.taken"),
]


def test_a_user_that_cannot_be_is_refused_with_its_reason(database):
    async def story(cur):
        await users.add_user(cur, "oleg", GOOD, "viewer")
        for login, password, role, key in IMPOSSIBLE:
            with pytest.raises(UserError) as refusal:
                await users.add_user(cur, login, password, role)
            assert refusal.value.key == key
        assert [user.login for user in await users.list_users(cur)] == ["oleg"]

    run(database, story)


def test_failures_lock_the_login_even_for_the_right_password_until_the_time_is_over(database):
    async def story(cur):
        await users.add_user(cur, "anna", GOOD, "viewer")
        for _ in range(MAX_FAILURES):
            assert await users.authenticate(cur, "anna", "wrong wrong wrong") is None
        assert await users.authenticate(cur, "anna", GOOD) is None
        locked = await users.user_by_login(cur, "anna")
        await cur.execute("SELECT locked_until - now() FROM users")
        [[left]] = await cur.fetchall()
        assert locked is not None
        assert locked.locked_until is not None
        assert (LOCK_MINUTES - 1) * 60 < left.total_seconds() <= LOCK_MINUTES * 60
        await cur.execute("UPDATE users SET locked_until = now()")
        assert await users.authenticate(cur, "anna", "wrong again, wrong") is None  # the count starts anew
        assert await users.authenticate(cur, "anna", GOOD) is not None

    run(database, story)


def test_guesses_made_at_once_get_no_more_looks_than_guesses_in_a_row(database):
    """The try is taken before the hash is computed: the right password among many is found only if it is early."""

    async def guess(number):
        async with cursor(database) as cur:
            return await users.authenticate(cur, "anna", f"wrong guess {number}")

    async def story(cur):
        await users.add_user(cur, "anna", GOOD, "viewer")
        assert await asyncio.gather(*[guess(number) for number in range(MAX_FAILURES + 3)]) == [None] * 8
        await cur.execute("SELECT failed_count, locked_until > now() FROM users")
        assert await cur.fetchall() == [(MAX_FAILURES, True)]

    run(database, story)


def test_success_clears_the_count_of_failures(database):
    async def story(cur):
        await users.add_user(cur, "anna", GOOD, "viewer")
        for _ in range(2):
            for _ in range(MAX_FAILURES - 1):
                await users.authenticate(cur, "anna", "wrong wrong wrong")
            assert await users.authenticate(cur, "anna", GOOD) is not None

    run(database, story)


def test_a_disabled_user_does_not_sign_in_and_an_enabled_one_does(database):
    async def story(cur):
        await users.add_user(cur, "anna", GOOD, "viewer")
        await users.set_state(cur, "anna", "disabled")
        assert await users.authenticate(cur, "anna", GOOD) is None
        await users.set_state(cur, "anna", "active")
        assert await users.authenticate(cur, "anna", GOOD) is not None

    run(database, story)


def test_the_last_active_administrator_stays_one(database):
    async def story(cur):
        await users.add_user(cur, "anna", GOOD, "administrator")
        await users.add_user(cur, "olga", GOOD, "administrator")
        await users.set_state(cur, "olga", "disabled")
        for change in (users.set_state(cur, "anna", "disabled"), users.set_role(cur, "anna", "viewer")):
            with pytest.raises(UserError) as refusal:
                await change
            assert refusal.value.key == "user.error.last_administrator"
        await users.set_state(cur, "olga", "active")
        assert (await users.set_role(cur, "anna", "viewer")).role is Role.VIEWER

    run(database, story)


def test_two_administrators_who_demote_each_other_at_once_leave_one(database):
    async def demote(login):
        async with cursor(database) as cur:
            await cur.execute("BEGIN")
            try:
                await users.set_role(cur, login, "viewer")
            except UserError as error:
                await cur.execute("ROLLBACK")
                return error.key
            await asyncio.sleep(0.05)
            await cur.execute("COMMIT")
            return "done"

    async def story(cur):
        await users.add_user(cur, "anna", GOOD, "administrator")
        await users.add_user(cur, "olga", GOOD, "administrator")
        told = await asyncio.gather(demote("anna"), demote("olga"))
        assert sorted(told) == ["done", "user.error.last_administrator"]

    run(database, story)


def test_an_old_hash_is_renewed_when_its_owner_signs_in(database):
    from argon2 import PasswordHasher

    async def story(cur):
        await users.add_user(cur, "anna", GOOD, "viewer")
        weak = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(GOOD)
        await cur.execute("UPDATE users SET password_hash = %s", (weak,))
        assert await users.authenticate(cur, "anna", GOOD) is not None
        await cur.execute("SELECT password_hash FROM users")
        [[renewed]] = await cur.fetchall()
        assert renewed.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
        assert await users.authenticate(cur, "anna", GOOD) is not None

    run(database, story)


def test_a_new_password_replaces_the_old_and_lifts_the_lock(database):
    async def story(cur):
        await users.add_user(cur, "anna", GOOD, "viewer")
        for _ in range(MAX_FAILURES):
            await users.authenticate(cur, "anna", "wrong wrong wrong")
        changed = await users.set_password(cur, "anna", "another horse 43", temporary=True)
        assert changed.password_is_temporary
        assert await users.authenticate(cur, "anna", GOOD) is None
        assert await users.authenticate(cur, "anna", "another horse 43") is not None
        with pytest.raises(UserError):
            await users.set_password(cur, "nobody", GOOD)

    run(database, story)


def test_an_unknown_login_costs_a_hash_of_the_same_strength():
    from argon2 import extract_parameters

    real = extract_parameters(users._HASHER.hash("whatever it is"))
    nobody = extract_parameters(users.NOBODY_HASH)
    assert (nobody.time_cost, nobody.memory_cost, nobody.parallelism, nobody.type) == (
        real.time_cost,
        real.memory_cost,
        real.parallelism,
        real.type,
    )


def test_roles_rank_viewer_operator_administrator():
    allowed = {(role, needed) for role in Role for needed in Role if users.may(role, needed)}
    viewer, operator, administrator = Role
    assert allowed == {
        (viewer, viewer),
        (operator, viewer),
        (operator, operator),
        (administrator, viewer),
        (administrator, operator),
        (administrator, administrator),
    }


def test_temporary_passwords_are_long_and_differ():
    made = {users.temporary_password() for _ in range(100)}
    assert len(made) == 100
    assert all(len(password) == 23 for password in made)
