"""Who acts at the terminal: a user by password, a user by token, the owner of the machine; and what each may do."""

import asyncio
import os
from contextlib import closing

import aiopg
import psycopg2
import pytest

from web.access.tokens import make_token, revoke_token
from web.access.users import user_by_login

PASSWORD = "correct horse battery"
BODY = ("--name", "OSMP", "--protocol", "osmp")


@pytest.fixture
def office(kopeck, database):
    for login, role in (("anna", "administrator"), ("oleg", "operator"), ("vera", "viewer")):
        assert kopeck("user", "add", login, "--role", role, stdin=f"{PASSWORD}\n").status == 0

    def rows(query, *values):
        with closing(psycopg2.connect(database.owner_dsn)) as connection, connection, connection.cursor() as cur:
            cur.execute(query, values)
            return cur.fetchall() if cur.description else []

    return rows


def token_of(database, login, *rights, days=1):
    async def made():
        async with aiopg.connect(database.dsn) as connection, connection.cursor() as cur:
            return await make_token(cur, await user_by_login(cur, login), "test", rights, days)

    return asyncio.run(made())


def test_who_is_named_acts_under_that_name_with_its_rights(kopeck, office, monkeypatch):
    assert kopeck("--as", "anna", "partner", "add", "osmp", *BODY, stdin=f"{PASSWORD}\n").status == 0
    assert office("SELECT actor, action FROM audit ORDER BY id DESC LIMIT 1") == [("user:anna", "partner_added")]
    assert office("SELECT created_by FROM contracts") == [("user:anna",)]
    monkeypatch.setenv("KOPECK_ACTOR", "oleg")
    said = kopeck("partner", "pause", "osmp", stdin=f"{PASSWORD}\n")
    assert (said.status, said.err) == (2, "kopeck: oleg has no role with the right partners.change\n")
    wrong = kopeck("partner", "pause", "osmp", stdin="not the password\n")
    assert (wrong.status, "login or password is wrong" in wrong.err) == (2, True)
    assert office("SELECT state FROM partners") == [("active",)]
    assert office("SELECT object_id FROM audit WHERE action = 'sign_in_failed'") == [("oleg",)]


def test_passwords_of_who_acts_and_of_who_is_added_are_two_lines(kopeck, office):
    said = kopeck("--as", "anna", "user", "add", "ira", stdin=f"{PASSWORD}\nanother horse battery\n")
    assert said.out == "user ira is added as viewer\n"
    denied = kopeck("--as", "ira", "user", "passwd", "anna", stdin="another horse battery\nyet another horse 1\n")
    assert denied.err == "kopeck: ira has no role with the right users.manage\n"


def test_a_token_acts_with_the_rights_it_was_given_until_it_is_revoked(kopeck, office, database, monkeypatch):
    text, token = token_of(database, "anna", "partners.change")
    monkeypatch.setenv("KOPECK_TOKEN", text)
    assert kopeck("partner", "add", "osmp", *BODY).status == 0
    [(actor, detail)] = office("SELECT actor, detail FROM audit ORDER BY id DESC LIMIT 1")
    assert (actor, detail["token"]) == ("user:anna", token.prefix)
    assert "has no role with the right users.manage" in kopeck("user", "disable", "vera").err
    office("DELETE FROM user_roles WHERE user_id = (SELECT id FROM users WHERE login = 'anna')")
    assert "has no role with the right partners.change" in kopeck("partner", "pause", "osmp").err

    async def revoke():
        async with aiopg.connect(database.dsn) as connection, connection.cursor() as cur:
            await revoke_token(cur, token.user_id, token.id, "user:anna")

    asyncio.run(revoke())
    said = kopeck("partner", "pause", "osmp")
    assert (said.status, "unknown, expired or revoked" in said.err) == (2, True)
    monkeypatch.setenv("KOPECK_TOKEN", "kpk_")
    assert kopeck("partner", "pause", "osmp").status == 2


def test_without_a_person_the_owner_of_the_data_folder_acts_and_nobody_else(kopeck, office, monkeypatch, tmp_path):
    monkeypatch.setenv("KOPECK_DATA_DIR", str(tmp_path))
    assert kopeck("partner", "add", "osmp", *BODY).status == 0
    [(actor, detail)] = office("SELECT actor, detail FROM audit ORDER BY id DESC LIMIT 1")
    assert actor.startswith("system:cli:")
    assert detail["os"] == actor
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 4_000)
    said = kopeck("partner", "pause", "osmp")
    assert said.status == 2
    assert f"{tmp_path} belongs to" in said.err
    assert kopeck("--as", "anna", "partner", "pause", "osmp", stdin=f"{PASSWORD}\n").status == 0


def test_where_a_person_is_required_the_machine_makes_the_first_administrator_only(kopeck, monkeypatch):
    monkeypatch.setenv("KOPECK_ACCESS__PERSON_REQUIRED", "true")
    assert kopeck("user", "add", "anna", "--role", "administrator", stdin=f"{PASSWORD}\n").status == 0
    said = kopeck("user", "add", "oleg", stdin=f"{PASSWORD}\n")
    assert (said.status, "access.person_required is set" in said.err) == (2, True)
    assert kopeck("--as", "anna", "user", "add", "oleg", stdin=f"{PASSWORD}\nanother horse 42\n").status == 0
    assert kopeck("user", "list").status == 0


def test_roles_are_made_given_and_removed_and_a_role_that_waits_is_approved(kopeck, office):
    anna = ("--as", "anna")
    made = kopeck(
        *anna, "role", "set", "Careful", "--right", "roles.manage", "--right", "money.post", "--above",
        "money.post=50.00", "--above", "roles.manage=0", stdin=f"{PASSWORD}\n",
    )  # fmt: skip
    assert made.out == "role Careful is set\n"
    assert "money.post\tMoney by hand\tPost money by hand\tabove 50.00" in kopeck("role", "show", "Careful").out
    assert kopeck(*anna, "user", "roles", "vera", "Careful", "viewer", stdin=f"{PASSWORD}\n").status == 0
    assert "vera\tCareful, viewer\tactive" in kopeck("user", "list").out
    asked = kopeck(
        "--as",
        "vera",
        "role",
        "set",
        "Desk",
        "--right",
        "money.post",
        "--above",
        "money.post=50",
        stdin=f"{PASSWORD}\n",
    )
    assert "request 1 waits for a second person" in asked.out
    assert "Desk" not in kopeck("role", "list").out
    assert "add role Desk" in kopeck(*anna, "approval", "list", stdin=f"{PASSWORD}\n").out
    assert "add role Desk" in kopeck("--as", "vera", "approval", "list", "mine", stdin=f"{PASSWORD}\n").out
    assert (
        "you asked for this yourself" in kopeck("--as", "vera", "approval", "approve", "1", stdin=f"{PASSWORD}\n").err
    )
    assert "rights\t-\t" in kopeck(*anna, "approval", "show", "1", stdin=f"{PASSWORD}\n").out
    done = kopeck(*anna, "approval", "approve", "1", stdin=f"{PASSWORD}\n")
    assert done.out == "request 1 is approved and done\n"
    assert "Desk\t1\t0\t1\tuser:vera" in kopeck("role", "list").out
    assert "users have this role" in kopeck(*anna, "role", "remove", "Careful", stdin=f"{PASSWORD}\n").err
    assert kopeck(*anna, "role", "remove", "Desk", stdin=f"{PASSWORD}\n").out == "role Desk is removed\n"
    assert "stays as it is" in kopeck("role", "set", "viewer", "--right", "money.post").err
    for bad in (("--right", "money.fly"), ("--right", "money.post", "--above", "money.post=x"), ()):
        assert kopeck("role", "set", "Bad", *bad).status == 2


def test_money_above_a_limit_is_refused_by_another_person(kopeck, office, monkeypatch):
    monkeypatch.setenv("KOPECK_BILLING__SECOND_PERSON_ABOVE_MINOR", "0")
    kopeck("account", "add", "79161234567")
    what = ("account", "post", "79161234567", "--kind", "cash", "--amount", "5", "--key", "k", "--why", "desk")
    assert "waits for a second person" in kopeck("--as", "oleg", *what, stdin=f"{PASSWORD}\n").out
    said = kopeck("--as", "anna", "approval", "refuse", "1", "--why", "twice", stdin=f"{PASSWORD}\n")
    assert said.out == "request 1 is refused\n"
    assert office("SELECT state, decided_by FROM posting_requests") == [("rejected", "user:anna")]
