"""Nothing final is said about a key while a pay of it is in work anywhere; what was said stays true."""

import asyncio
import signal

import psutil
import pytest

from adapters.messages import Cancel, Pay, Reason, Status
from gateway.partners.contracts import set_contract
from gateway.payments import fences
from gateway.payments.records import Command
from kopeck.databases.postgres import free_port
from ratingcore.money import Minor
from tests.gateway.processes import gateway_process, until_served
from tests.gateway.until import until

ACTIVE, UNKNOWN = "79160000001", "79169999999"
IBOX = {"cancel": "cancel_txn_id", "cancel_unknown_code": 300}


async def change(town, code, dialect):
    body = await town.one("SELECT body FROM contracts WHERE partner_id = %s", town.ids[code])
    async with town.cursor() as cur:
        await set_contract(cur, code, body | {"dialect": body["dialect"] | dialect}, "test")


def command(peer, request):
    return Command(request, peer.gateway.contracts.book.by_code["osmp"].terms, "partner:osmp")


async def until_stopped(process):
    await until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED, "the process does not stop")


#: The review's table: who asks what of a key in work, and the answer "in work" of its protocol.
QUESTIONS = [
    ("cyberplat", "action=status&receipt=71", 8),
    ("cyberplat", "action=cancel&receipt=71&mes=1", 9),
    ("osmp", "command=status&txn_id=71", 90),
    ("osmp", "command=cancel&txn_id=71&cancel_txn_id=72&sum=250.00", 90),
]


@pytest.mark.parametrize(("partner", "question", "in_work"), QUESTIONS)
def test_of_two_processes_neither_denies_a_pay_that_waits_in_one(
    town, database, pay, payment, peer_of, partner, question, in_work
):
    async def story():
        await change(town, "osmp", IBOX)
        one, other = peer_of(free_port()), peer_of(free_port())
        with gateway_process(database, one.port) as first, gateway_process(database, other.port) as second:
            await until_served(one, first)
            await until_served(other, second)
            async with town.cursor() as cur:
                await cur.execute("BEGIN")
                await cur.execute("SELECT FROM accounts WHERE number = %s FOR UPDATE", (ACTIVE,))
                paying = asyncio.create_task(getattr(one, partner)((payment if partner == "cyberplat" else pay)(71)))
                await until_announced(town, 1)
                asked = [getattr(peer, partner)(question) for peer in (one, other) * 8]
                assert {reply.code for reply in await asyncio.gather(*asked)} == {in_work}
                await cur.execute("ROLLBACK")
            assert (await paying).code == 0
            assert await town.balance(ACTIVE) == 25_000

    asyncio.run(story())


async def until_announced(town, count):
    async def announced():
        held = await town.one(
            "SELECT count(*) FROM pg_locks JOIN pg_stat_activity a USING (pid)"
            " WHERE locktype = 'advisory' AND mode = 'ShareLock' AND a.datname = current_database()"
            " AND virtualtransaction LIKE '%%/0'"  # a session's, and not a batch's
        )
        return held == count

    await until(announced, f"not {count} keys are announced")


async def code_when_in_no_batch(peer, key):
    """A batch that tries the pay again and again is seen by a question now and then: ask between two of them."""

    async def code():
        code = (await peer.osmp(f"command=status&txn_id={key}")).code
        return str(code) if code != 90 else None

    return int(await until(code, "the key is in work all the time", pause_s=0.005))


async def code_when_sent_again(peer, query):
    """A slow loop takes a pay for older than it is; the temporary code makes a partner send it once more."""

    async def code():
        code = (await peer.osmp(query)).code
        return str(code) if code != 1 else None

    return int(await until(code, "the pay is never taken", pause_s=0.05))


def test_what_was_denied_is_not_credited_until_it_is_sent_again(town, pay, monkeypatch):
    """Without announcements, as when the pay is too young for one."""
    monkeypatch.setattr(fences, "ANNOUNCED_MAX", 0)

    async def story():
        async with town.gateway() as one, town.gateway() as other, town.cursor() as cur:
            await cur.execute("BEGIN")
            await cur.execute("SELECT FROM accounts WHERE number = %s FOR UPDATE", (ACTIVE,))
            paying = asyncio.create_task(one.osmp(query := pay(71)))
            await until(lambda: one.gateway.core._in_work, "the pay is not in work")
            assert await code_when_in_no_batch(other, 71) == 300
            await cur.execute("ROLLBACK")
            assert (await paying).code == 1
            assert await town.balance(ACTIVE) == 0
            assert [await code_when_sent_again(one, query), await code_when_sent_again(other, query)] == [0, 0]
            assert await town.balance(ACTIVE) == 25_000

    asyncio.run(story())


@pytest.mark.parametrize("question", [Status, Cancel])
def test_pays_and_questions_that_race_never_contradict_each_other(town, question):
    """Each pay is submitted before its question: "nothing is credited" and then "credited" must not both be said."""

    async def story():
        async with town.gateway() as one, town.gateway() as other:
            contradictions, denied = [], 0
            for start in range(0, 600, 30):
                keys = [str(key) for key in range(start + 1, start + 31)]
                pays = [one.gateway.core.submit(command(one, Pay(key, ACTIVE, Minor(100)))) for key in keys]
                await asyncio.sleep(0.0005 * (start % 7))
                asked = [other.gateway.core.submit(command(other, question(key=key))) for key in keys]
                for key, paid, said in zip(keys, pays, asked, strict=True):
                    is_denied = (await said).reason is Reason.PAYMENT_NOT_FOUND
                    denied += is_denied
                    if is_denied and (await paid).reason is Reason.OK:
                        contradictions.append(key)
            assert contradictions == []
            assert await town.one("SELECT count(*) FROM payments") <= 600
            return denied

    asyncio.run(story())


def test_a_refused_payment_under_re_examination_is_not_denied_again(town, pay):
    async def story():
        async with town.gateway() as one, town.gateway() as other, town.cursor() as cur:
            query = pay(73, account=UNKNOWN)
            assert (await one.osmp(query)).code == 5
            assert (await other.osmp("command=status&txn_id=73")).code == 5
            await asyncio.sleep(
                20 * fences.BEAT_S
            )  # the repeat comes later than that question, however slow the loop is
            await cur.execute("INSERT INTO accounts (number, kind) VALUES (%s, 'subscriber')", (UNKNOWN,))
            await cur.execute("BEGIN")
            await cur.execute("SELECT FROM accounts WHERE number = %s FOR UPDATE", (UNKNOWN,))
            again = asyncio.create_task(one.osmp(query))
            await until_announced(town, 1)
            assert (await other.osmp("command=status&txn_id=73")).code == 90
            await cur.execute("ROLLBACK")
            assert (await again).code == 0

    asyncio.run(story())


def test_a_killed_process_leaves_nothing_in_work(town, database, pay, peer_of):
    async def story():
        doomed, other = peer_of(free_port()), peer_of(free_port())
        with gateway_process(database, doomed.port) as dying, gateway_process(database, other.port) as living:
            await until_served(doomed, dying)
            await until_served(other, living)
            async with town.cursor() as cur:
                await cur.execute("BEGIN")
                await cur.execute("SELECT FROM accounts WHERE number = %s FOR UPDATE", (ACTIVE,))
                paying = asyncio.create_task(doomed.get("/pay/osmp", pay(74).encode()))
                await until_announced(town, 1)
                assert (await other.osmp("command=status&txn_id=74")).code == 90
                dying.kill()
                assert await paying == (0, b"")
                await until_announced(town, 0)
                assert await code_when_in_no_batch(other, 74) == 300
                await cur.execute("ROLLBACK")
            assert await code_when_sent_again(other, pay(74)) == 0
            assert await town.balance(ACTIVE) == 25_000

    asyncio.run(story())


def test_a_pay_that_a_paused_process_had_not_read_is_old_when_it_goes_on(town, database, pay, peer_of):
    async def story():
        paused, other = peer_of(free_port()), peer_of(free_port())
        with gateway_process(database, paused.port) as process, gateway_process(database, other.port) as living:
            await until_served(paused, process)
            await until_served(other, living)
            process.send_signal(signal.SIGSTOP)
            await until_stopped(process)
            paying = asyncio.create_task(paused.osmp(pay(75)))
            await asyncio.sleep(0.3)
            assert (await other.osmp("command=status&txn_id=75")).code == 300
            process.send_signal(signal.SIGCONT)
            assert (await paying).code == 1
            assert await town.balance(ACTIVE) == 0
            assert await code_when_sent_again(paused, pay(75)) == 0

    asyncio.run(story())


def test_old_fences_are_deleted(town, monkeypatch):
    monkeypatch.setattr(fences, "FORGET_EVERY_S", 0.0)

    async def story():
        async with town.gateway() as peer, town.cursor() as cur:
            await cur.execute("INSERT INTO key_fences VALUES (1, 'old', now() - interval '61 minutes')")
            assert (await peer.osmp("command=status&txn_id=76")).code == 300

            async def forgotten():
                return await town.rows("SELECT partner_key FROM key_fences") == [("76",)]

            await until(forgotten, "the old fence is still there")

    asyncio.run(story())


def test_keys_are_announced_again_when_their_session_was_lost(town, database, pay):
    async def story():
        async with town.gateway() as one, town.gateway() as other, town.cursor() as cur:
            await cur.execute("BEGIN")
            await cur.execute("SELECT FROM accounts WHERE number = %s FOR UPDATE", (ACTIVE,))
            paying = asyncio.create_task(one.osmp(pay(77)))
            await until_announced(town, 1)
            async with town.cursor(database.admin_dsn) as admin:
                await admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_locks JOIN pg_stat_activity a USING (pid)"
                    " WHERE locktype = 'advisory' AND virtualtransaction LIKE '%/0' AND a.datname = current_database()"
                )
                assert await admin.fetchall() == [(True,)]
            await until_announced(town, 1)
            assert (await other.osmp("command=status&txn_id=77")).code == 90
            await cur.execute("ROLLBACK")
            assert (await paying).code == 0
            await until_announced(town, 0)

    asyncio.run(story())
