"""Logins, passwords and roles, in the real database."""

import asyncio
from contextlib import asynccontextmanager

import aiopg
import psycopg2
import pytest

from web.access import users
from web.access.rights import EVERYTHING
from web.access.roles import AccessError, StaleError, WantedRole, add_role
from web.access.users import UserError

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


@asynccontextmanager
async def transaction(cur):
    await cur.execute("BEGIN")
    try:
        yield
    except BaseException:
        await cur.execute("ROLLBACK")
        raise
    await cur.execute("COMMIT")


async def added_user(cur, login, password, roles, temporary=False):
    async with transaction(cur):
        return await users.add_user(cur, login, password, roles, temporary, by=EVERYTHING, actor="system:test")


async def refused(cur, change):
    with pytest.raises((UserError, AccessError)) as refusal:
        async with transaction(cur):
            await change
    return refusal.value


def keys(user):
    return [role.key for role in user.roles]


def test_a_user_signs_in_with_his_password_and_no_other(database):
    async def story(cur):
        added = await added_user(cur, "Anna", GOOD, "operator")
        assert added.login == "anna"
        assert keys(added) == ["operator"]
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
        await added_user(cur, "anna", GOOD, "viewer")
        await cur.execute("SELECT password_hash FROM users")
        [[hashed]] = await cur.fetchall()
        assert hashed.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
        with pytest.raises(psycopg2.errors.CheckViolation):
            await cur.execute("UPDATE users SET password_hash = %s", (GOOD,))

    run(database, story)


IMPOSSIBLE = [
    ("a", GOOD, "viewer", "login"),
    ("анна", GOOD, "viewer", "login"),
    ("-anna", GOOD, "viewer", "login"),
    ("x" * 65, GOOD, "viewer", "login"),
    ("anna", "short", "viewer", "short"),
    ("anna", "x" * 1025, "viewer", "long"),
    ("anna", "my-Anna-2026", "viewer", "login_inside"),
    ("anna", "aaaaaaaaaa", "viewer", "guessed"),
    ("anna", "1234567890", "viewer", "guessed"),
    ("anna", "password12", "viewer", "guessed"),
    ("anna", "qwertyuiop", "viewer", "guessed"),
    ("anna", "йцукенгшщз", "viewer", "guessed"),
    ("anna", "парольпароль", "viewer", "guessed"),
    ("anna", "gfhjkmgfhjkm", "viewer", "guessed"),
    ("oleg", GOOD, "viewer", "taken"),
]


def test_a_user_that_cannot_be_is_refused_with_its_reason(database):
    async def story(cur):
        await added_user(cur, "oleg", GOOD, "viewer")
        for login, password, role, code in IMPOSSIBLE:
            with pytest.raises(UserError) as refusal:
                await added_user(cur, login, password, role)
            assert refusal.value.code == code
        for roles in ("root", ["viewer", "root"], []):
            with pytest.raises(AccessError) as refusal:
                await added_user(cur, "anna", GOOD, roles)
            assert refusal.value.field == "roles"
        assert [user.login for user in await users.list_users(cur)] == ["oleg"]

    run(database, story)


def test_a_disabled_user_does_not_sign_in_and_an_enabled_one_does(database):
    async def story(cur):
        await added_user(cur, "anna", GOOD, "viewer")
        await users.set_state(cur, "anna", "disabled", by=EVERYTHING)
        assert await users.authenticate(cur, "anna", GOOD) is None
        await users.set_state(cur, "anna", "active", by=EVERYTHING)
        assert await users.authenticate(cur, "anna", GOOD) is not None

    run(database, story)


def set_roles(cur, login, *roles, by=EVERYTHING, had=None):
    return users.set_roles(cur, login, roles, by=by, actor="system:test", had=had)


def set_state(cur, login, state, by=EVERYTHING):
    return users.set_state(cur, login, state, by=by)


def test_the_last_active_administrator_stays_one(database):
    async def story(cur):
        await added_user(cur, "anna", GOOD, ["administrator", "viewer"])
        await added_user(cur, "olga", GOOD, "administrator")
        await set_state(cur, "olga", "disabled")
        for change in (set_state(cur, "anna", "disabled"), set_roles(cur, "anna", "viewer")):
            assert "last active administrator" in str(await refused(cur, change))
        assert keys(await users.user_by_login(cur, "anna")) == ["viewer", "administrator"]
        await set_state(cur, "olga", "active")
        before, after = await set_roles(cur, "anna", "viewer", "operator")
        assert (keys(before), keys(after)) == (["viewer", "administrator"], ["viewer", "operator"])

    run(database, story)


def test_nobody_gives_what_he_lacks_and_nobody_changes_who_may_more(database):
    async def story(cur):
        await added_user(cur, "anna", GOOD, "administrator")
        await added_user(cur, "olga", GOOD, "administrator")
        await added_user(cur, "vera", GOOD, "viewer")
        async with transaction(cur):
            wanted = WantedRole("Desk", ("users.manage", "payments.view", "roles.manage"))
            desk = await add_role(cur, wanted, EVERYTHING, "system:test")
        by = desk.access
        for change in (
            set_roles(cur, "vera", "viewer", "operator", by=by),
            set_roles(cur, "vera", "Desk", by=by),  # takes from her what the giver lacks
            set_roles(cur, "anna", "Desk", by=by),
            set_state(cur, "anna", "disabled", by=by),
            users.set_password(cur, "anna", "another horse 43", True, by=by),
            users.add_user(cur, "ivan", GOOD, "operator", by=by, actor="user:desk"),
        ):
            refusal = await refused(cur, change)
            assert str(refusal).startswith("you cannot give or take what you do not have yourself")
        async with transaction(cur):
            await users.add_user(cur, "ivan", GOOD, "Desk", by=by, actor="user:desk")
            await set_state(cur, "ivan", "disabled", by=by)

    run(database, story)


def test_roles_that_were_changed_meanwhile_are_looked_at_again(database):
    async def story(cur):
        await added_user(cur, "anna", GOOD, "administrator")
        await added_user(cur, "vera", GOOD, "viewer")
        await set_roles(cur, "vera", "operator", had=["viewer"])
        refusal = await refused(cur, set_roles(cur, "vera", "administrator", had=["viewer"]))
        assert isinstance(refusal, StaleError)
        assert keys(await users.user_by_login(cur, "vera")) == ["operator"]

    run(database, story)


def test_two_administrators_who_demote_each_other_at_once_leave_one(database):
    async def demote(login):
        async with cursor(database) as cur:
            await cur.execute("BEGIN")
            try:
                await set_roles(cur, login, "viewer")
            except AccessError:
                await cur.execute("ROLLBACK")
                return "refused"
            await asyncio.sleep(0.05)
            await cur.execute("COMMIT")
            return "done"

    async def story(cur):
        await added_user(cur, "anna", GOOD, "administrator")
        await added_user(cur, "olga", GOOD, "administrator")
        told = await asyncio.gather(demote("anna"), demote("olga"))
        assert sorted(told) == ["done", "refused"]

    run(database, story)


def test_an_old_hash_is_renewed_when_its_owner_signs_in(database):
    from argon2 import PasswordHasher

    async def story(cur):
        await added_user(cur, "anna", GOOD, "viewer")
        weak = PasswordHasher(time_cost=1, memory_cost=1024, parallelism=1).hash(GOOD)
        await cur.execute("UPDATE users SET password_hash = %s", (weak,))
        assert await users.authenticate(cur, "anna", GOOD) is not None
        await cur.execute("SELECT password_hash FROM users")
        [[renewed]] = await cur.fetchall()
        assert renewed.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
        assert await users.authenticate(cur, "anna", GOOD) is not None

    run(database, story)


def test_a_new_password_replaces_the_old(database):
    async def story(cur):
        await added_user(cur, "anna", GOOD, "viewer")
        changed = await users.set_password(cur, "anna", "another horse 43", temporary=True)
        assert changed.password_is_temporary
        assert await users.authenticate(cur, "anna", GOOD) is None
        assert await users.authenticate(cur, "anna", "another horse 43") is not None
        with pytest.raises(UserError):
            await users.set_password(cur, "nobody", GOOD)

    run(database, story)


def test_a_temporary_password_serves_for_seven_days(database):
    async def story(cur):
        await added_user(cur, "anna", GOOD, "viewer", temporary=True)
        await cur.execute("UPDATE users SET password_set_at = now() - interval '6 days 23 hours'")
        assert await users.authenticate(cur, "anna", GOOD) is not None
        await cur.execute("UPDATE users SET password_set_at = now() - interval '7 days 1 minute'")
        with pytest.raises(users.PasswordExpired):
            await users.authenticate(cur, "anna", GOOD)
        assert await users.authenticate(cur, "anna", "wrong wrong wrong") is None
        await users.set_password(cur, "anna", "another horse 43", temporary=True)
        assert await users.authenticate(cur, "anna", "another horse 43") is not None

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


def test_temporary_passwords_are_long_and_differ():
    made = {users.temporary_password() for _ in range(100)}
    assert len(made) == 100
    assert all(len(password) == 23 for password in made)
