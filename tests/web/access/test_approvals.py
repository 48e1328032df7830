"""What waits for a second person, in the real database: asked, approved once by another, refused, expired, stale."""

import asyncio
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import aiopg
import psycopg2
import pytest

from billing.ledger.account_store import account_by_number, create_accounts
from billing.ledger.accounts import NewAccount
from gateway.partners.contracts import add_partner, list_partners
from web.access import approvals, users
from web.access.actors import DeniedError, actor_of, machine
from web.access.approval_kinds import CONTRACT, MONEY, ROLE, approval_kinds
from web.access.approval_store import list_approvals
from web.access.approvals import Ending
from web.access.rights import EVERYTHING
from web.access.roles import AccessError, WantedRole, add_role, list_roles

NUMBER = "79161234567"
LIMIT = 10_000
KINDS = approval_kinds(LIMIT)
BODY = {"protocol": "osmp", "max_minor": 500_000}


@asynccontextmanager
async def cursor(database):
    async with aiopg.connect(database.dsn, options="-c timezone=UTC") as connection, connection.cursor() as cur:
        yield cur


@asynccontextmanager
async def transaction(cur):
    await cur.execute("BEGIN")
    try:
        yield
    except BaseException:
        await cur.execute("ROLLBACK")
        raise
    await cur.execute("COMMIT")


class Office:
    """People with roles, an account and a partner; each method is a transaction."""

    def __init__(self, cur):
        self.cur = cur

    async def open(self):
        by = {"by": EVERYTHING, "actor": "system:test"}
        async with transaction(self.cur):
            await create_accounts(self.cur, [NewAccount(NUMBER)])
            await add_partner(self.cur, "osmp", "OSMP", BODY, "system:test")
            careful = WantedRole(
                "Careful", ("roles.manage", "partners.change", "money.post"), {"roles.manage": 0, "partners.change": 0}
            )
            await add_role(self.cur, careful, EVERYTHING, "system:test")
            await add_role(
                self.cur, WantedRole("Cashier", ("money.post",), {"money.post": 500}), EVERYTHING, "system:test"
            )
            await users.add_user(self.cur, "oleg", "correct horse 42", "operator", **by)
            await self.cur.execute("SELECT password_hash FROM users")
            hashed = (await self.cur.fetchone())[0]
            for login, role in (("vera", "viewer"), ("anna", "administrator"), ("ira", "Careful"), ("kira", "Cashier")):
                await self.cur.execute(
                    "WITH added AS (INSERT INTO users (login, password_hash) VALUES (%s, %s) RETURNING id) "
                    "INSERT INTO user_roles SELECT a.id, r.id, 'system:test' FROM added a, roles r WHERE r.name = %s",
                    (login, hashed, role),
                )

    async def who(self, login):
        return actor_of(await users.user_by_login(self.cur, login), request_id="r-1")

    async def ask(self, login, kind, arguments, key="k-1", why="because"):
        async with transaction(self.cur):
            return await approvals.request_or_act(
                self.cur, KINDS, kind, arguments, await self.who(login), key=key, why=why, now=datetime.now(UTC)
            )

    async def post(self, login, amount, key="k-1"):
        return await self.ask(login, MONEY, {"kind": "cash", "account": NUMBER, "amount": amount}, key)

    async def approve(self, approval, login, after=timedelta(0)):
        async with transaction(self.cur):
            now = datetime.now(UTC) + after
            return await approvals.approve(self.cur, KINDS, approval.id, await self.who(login), "", now)

    async def refuse(self, approval, login, why="no"):
        async with transaction(self.cur):
            return await approvals.refuse(self.cur, KINDS, approval.id, await self.who(login), why)

    async def balance(self):
        return (await account_by_number(self.cur, NUMBER)).balance

    async def seen(self, login, view):
        return [one.id for one in await list_approvals(self.cur, view, await self.who(login))]

    async def actions(self):
        await self.cur.execute("SELECT actor, action FROM audit ORDER BY id")
        return [(actor.partition(":")[2], action) for actor, action in await self.cur.fetchall()]


def run(database, story):
    async def told():
        async with cursor(database) as cur:
            office = Office(cur)
            await office.open()
            return await story(office)

    return asyncio.run(told())


def test_money_up_to_the_limit_is_posted_at_once_and_above_it_by_a_second_person(database):
    async def story(office):
        assert (await office.post("oleg", LIMIT)).ending is Ending.DONE
        assert await office.balance() == LIMIT
        asked = await office.post("oleg", LIMIT + 1, "k-2")
        assert asked.ending is Ending.WAITS
        approval = asked.approval
        assert (approval.amount, approval.currency, approval.object_id) == (LIMIT + 1, "RUB", NUMBER)
        assert approval.changes == {f"account {NUMBER}: balance_minor": [LIMIT, 2 * LIMIT + 1]}
        assert await office.balance() == LIMIT
        assert await office.seen("oleg", "mine") == await office.seen("anna", "waiting") == [approval.id]
        assert await office.seen("oleg", "waiting") == await office.seen("vera", "waiting") == []
        for login in ("oleg", "vera"):
            with pytest.raises(DeniedError):
                await office.approve(approval, login)
        done = await office.approve(approval, "anna")
        assert (done.ending, done.is_new) == (Ending.DONE, True)
        again = await office.approve(approval, "anna")
        assert (again.ending, again.is_new) == (Ending.DONE, False)
        assert await office.balance() == 2 * LIMIT + 1
        assert await office.seen("anna", "decided") == [approval.id]
        assert await office.actions() == [
            ("oleg", "posting_posted"),
            ("oleg", "posting_requested"),
            ("oleg", "approval_asked"),
            ("anna", "posting_approved"),
            ("anna", "approval_done"),
        ]

    run(database, story)


def test_a_role_may_say_less_than_the_installation(database):
    async def story(office):
        assert (await office.post("kira", 500)).ending is Ending.DONE
        assert (await office.post("kira", 501, "k-2")).ending is Ending.WAITS
        with pytest.raises(DeniedError):
            await office.ask("kira", MONEY, {"kind": "payout", "account": NUMBER, "way": "cash"}, "k-3")
        with pytest.raises(DeniedError):
            await office.post("vera", 1, "k-4")

    run(database, story)


def test_a_key_acts_once_and_says_what_stands(database):
    async def story(office):
        first = await office.post("oleg", LIMIT + 1)
        second = await office.post("oleg", LIMIT + 1)
        assert (second.approval.id, second.is_new) == (first.approval.id, False)
        with pytest.raises(ValueError, match="asked for something else"):
            await office.post("oleg", LIMIT + 2)
        role = {"role": None, "version": None, "name": "Desk", "rights": ["money.post"], "limits": {}, "entities": []}
        role |= {"limits": {"money.post": 1}}
        asked = await office.ask("ira", ROLE, role)  # a key of another kind is another key
        assert (await office.ask("ira", ROLE, role)).approval.id == asked.approval.id
        for login, other in (("ira", role | {"name": "Desk 2"}), ("anna", role)):
            with pytest.raises(AccessError, match="asked for something else"):
                await office.ask(login, ROLE, other)

    run(database, story)


def test_two_people_who_approve_at_once_post_once(database):
    async def approve(approval, login):
        async with cursor(database) as cur:
            return await Office(cur).approve(approval, login)

    async def story(office):
        async with transaction(office.cur):
            by = {"by": EVERYTHING, "actor": "system:test"}
            await users.add_user(office.cur, "olga", "correct horse 42", "operator", **by)
        approval = (await office.post("oleg", LIMIT + 1)).approval
        ended = await asyncio.gather(approve(approval, "anna"), approve(approval, "olga"))
        assert sorted(outcome.is_new for outcome in ended) == [False, True]
        assert await office.balance() == LIMIT + 1

    run(database, story)


def test_refused_or_withdrawn_nothing_is_done_and_it_stays_so(database):
    async def story(office):
        refused = (await office.post("oleg", LIMIT + 1)).approval
        withdrawn = (await office.post("oleg", LIMIT + 2, "k-2")).approval
        with pytest.raises(DeniedError):
            await office.refuse(refused, "vera")
        with pytest.raises(AccessError, match="reason"):
            await office.refuse(refused, "anna", "  ")
        assert (await office.refuse(refused, "anna")).approval.state == "refused"
        assert (await office.refuse(withdrawn, "oleg")).approval.state == "withdrawn"
        for approval in (refused, withdrawn):
            with pytest.raises(AccessError, match=r"was refused by anna|was withdrawn by oleg|has expired"):
                await office.approve(approval, "anna")
        assert await office.balance() == 0
        await office.cur.execute("SELECT state FROM posting_requests")
        assert await office.cur.fetchall() == [("rejected",), ("rejected",)]

    run(database, story)


def test_what_nobody_decided_expires_and_is_not_done(database):
    async def story(office):
        approval = (await office.post("oleg", LIMIT + 1)).approval
        ended = await office.approve(approval, "anna", after=approvals.WAITS)
        assert ended.ending is Ending.EXPIRED
        assert await office.balance() == 0
        with pytest.raises(AccessError, match=r"was refused by anna|was withdrawn by oleg|has expired"):
            await office.approve(approval, "anna")

    run(database, story)


def test_what_cannot_be_done_as_things_stand_goes_on_waiting(database):
    async def story(office):
        await office.post("oleg", LIMIT)
        await office.post("oleg", LIMIT, "k-2")
        payout = {"kind": "payout", "account": NUMBER, "way": "cash", "amount": LIMIT + 1}
        approval = (await office.ask("oleg", MONEY, payout, "k-3")).approval
        await office.ask("oleg", MONEY, payout | {"amount": LIMIT}, "k-4")
        with pytest.raises(ValueError, match=r"."):
            await office.approve(approval, "anna")
        assert await office.seen("anna", "waiting") == [approval.id]
        await office.post("oleg", LIMIT, "k-5")
        assert (await office.approve(approval, "anna")).ending is Ending.DONE

    run(database, story)


def test_who_may_not_ask_any_more_has_nothing_approved(database):
    async def story(office):
        approval = (await office.post("oleg", LIMIT + 1)).approval
        async with transaction(office.cur):
            await users.set_roles(office.cur, "oleg", ["viewer"], by=EVERYTHING, actor="user:anna")
        with pytest.raises(AccessError, match="may not do it any more"):
            await office.approve(approval, "anna")
        assert (await office.refuse(approval, "anna")).ending is Ending.REFUSED

    run(database, story)


def test_a_role_and_a_contract_are_approved_in_the_version_that_was_asked_about(database):
    async def story(office):
        role = {"role": None, "version": None, "name": "Desk", "rights": ["money.post"], "limits": {}, "entities": []}
        added = await office.ask("ira", ROLE, role | {"limits": {"money.post": 7}})
        assert added.ending is Ending.WAITS
        assert added.approval.changes["limits.money.post"] == [None, 7]
        assert (await office.approve(added.approval, "anna")).ending is Ending.DONE
        [desk] = [row for row in await list_roles(office.cur) if row.role.key == "Desk"]
        assert (desk.version, desk.changed_by) == (1, "user:ira")
        change = role | {"role": desk.role.id, "version": 1, "limits": {"money.post": 9}}
        asked = await office.ask("ira", ROLE, change, "k-2")
        other = await office.ask("anna", ROLE, change | {"limits": {"money.post": 5}}, "k-3")
        assert other.ending is Ending.DONE  # one person is enough for her
        assert (await office.approve(asked.approval, "anna")).ending is Ending.STALE
        [desk] = [row for row in await list_roles(office.cur) if row.role.key == "Desk"]
        assert (desk.version, dict(desk.role.limits)) == (2, {"money.post": 5})
        with pytest.raises(AccessError, match="you cannot give"):
            await office.ask("ira", ROLE, role | {"name": "Desk 2", "rights": ["money.refund"]}, "k-4")
        contract = {"code": "osmp", "body": BODY | {"max_minor": 100}, "version": 1}
        asked = await office.ask("ira", CONTRACT, contract, "k-5")
        assert asked.approval.changes == {"max_minor": [500_000, 100]}
        assert (await office.approve(asked.approval, "anna")).result == {"version": 2}
        [partner] = await list_partners(office.cur)
        assert partner.body["max_minor"] == 100
        await office.cur.execute("SELECT actor, changes FROM audit WHERE action = 'partner_contract_set'")
        assert await office.cur.fetchall() == [("user:anna", {"max_minor": [500_000, 100]})]

    run(database, story)


def test_the_machine_asks_for_nothing_that_needs_two_people_and_approves_nothing(database):
    async def story(office):
        me = machine("system:cli:root")
        arguments = {"kind": "cash", "account": NUMBER, "amount": LIMIT + 1}
        with pytest.raises(ValueError, match="--as LOGIN"):
            async with transaction(office.cur):
                await approvals.request_or_act(
                    office.cur, KINDS, MONEY, arguments, me, key="k", why="w", now=datetime.now(UTC)
                )
        approval = (await office.post("oleg", LIMIT + 1)).approval
        with pytest.raises(DeniedError, match="--as LOGIN"):
            async with transaction(office.cur):
                await approvals.approve(office.cur, KINDS, approval.id, me, "", datetime.now(UTC))

    run(database, story)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE approvals SET state = 'done', decided_by = asked_by, decided_proof = 'password', decided_at = now()",
        "UPDATE approvals SET state = 'done', decided_by = 'user:x', decided_proof = 'os', decided_at = now()",
        "UPDATE approvals SET arguments = '{}'",
        "UPDATE approvals SET amount_minor = 1",
        "DELETE FROM approvals",
        "TRUNCATE approvals",
    ],
)
def test_the_database_itself_keeps_what_was_asked_and_wants_two_people(database, statement):
    async def story(office):
        await office.post("oleg", LIMIT + 1)
        for dsn in (database.dsn, database.owner_dsn):
            async with aiopg.connect(dsn) as connection, connection.cursor() as cur:
                with pytest.raises(psycopg2.Error):
                    await cur.execute(statement)

    run(database, story)
