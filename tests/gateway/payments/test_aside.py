"""One partner's held clearing account, or one command that always fails, stops nobody else."""

import asyncio
import signal

import psutil

from adapters.messages import Pay, Reason
from gateway.payments.records import Command
from kopeck.databases.postgres import free_port
from ratingcore.money import Minor
from tests.gateway.processes import gateway_process, until_served

ACTIVE, OTHER = "79160000001", "79160000003"
CLEARING = "SELECT FROM accounts WHERE number = 'clearing:osmp:RUB' FOR UPDATE"


def submit(peer, partner, key, account=ACTIVE):
    terms = peer.gateway.contracts.book.by_code[partner].terms
    return peer.gateway.core.submit(Command(Pay(str(key), account, Minor(100)), terms, f"partner:{partner}"))


async def answers(futures):
    return {(await asyncio.wait_for(future, 20)).reason for future in futures}


def test_a_partner_never_waits_for_anothers_row(town):
    """The review's recipe: two partners, one idle transaction that holds the first one's clearing account."""

    async def story():
        async with town.gateway(core={"lock_timeout_s": 0.3}) as peer, town.cursor() as cur:
            await cur.execute("BEGIN")
            await cur.execute(CLEARING)
            alpha, beta = [], []
            for key in range(60):
                alpha.append(submit(peer, "osmp", key))
                beta.append(submit(peer, "cyberplat", key, OTHER))
                await asyncio.sleep(0.02)
            assert await answers(beta) == {Reason.OK}
            assert not any(future.done() for future in alpha)
            await cur.execute("ROLLBACK")
            assert await answers(alpha) == {Reason.OK}
            assert (await town.balance(ACTIVE), await town.balance(OTHER)) == (6_000, 6_000)
            assert await answers([submit(peer, "osmp", 100)]) == {Reason.OK}
            assert not peer.gateway.core._aside.accounts

    asyncio.run(story())


def test_what_waits_aside_past_its_deadline_is_answered_and_not_carried_out(town):
    async def story():
        core = {"lock_timeout_s": 0.1, "request_deadline_s": 1.0, "queue_max": 20}
        async with town.gateway(core=core) as peer, town.cursor() as cur:
            await cur.execute("BEGIN")
            await cur.execute(CLEARING)
            first = submit(peer, "osmp", 1)
            while not peer.gateway.core._aside.accounts:
                await asyncio.sleep(0.02)
            more = []
            for start in range(
                2, 42, 10
            ):  # more than may wait, a few at a time, so that it is not the queue that refuses
                more += [submit(peer, "osmp", key) for key in range(start, start + 10)]
                await asyncio.sleep(0.1)
            assert len(peer.gateway.core._aside) <= 20
            assert await answers([first, *more]) == {Reason.TEMPORARY}
            await asyncio.sleep(0.6)
            assert len(peer.gateway.core._aside) == 0
            assert not peer.gateway.core._in_work
            await cur.execute("ROLLBACK")
            assert await answers([submit(peer, "osmp", 1)]) == {Reason.OK}
            assert await town.balance(ACTIVE) == 100

    asyncio.run(story())


def test_a_key_that_another_transaction_inserts_costs_its_neighbours_no_answer(town):
    """A lock that is no clearing account's: the batch is parted by partner, then halved."""

    async def story():
        async with town.gateway(core={"lock_timeout_s": 0.1}) as peer, town.cursor() as cur:
            await cur.execute("BEGIN")
            await cur.execute(
                "INSERT INTO payments SELECT 1, p.id, '7', 1, '', '', NULL, 0, 'RUB', NULL, NULL, 'voided', 'ok', 1,"
                " now(), now(), now() FROM partners p WHERE code = 'osmp'"
            )
            stuck = submit(peer, "osmp", 7)
            free = [submit(peer, "osmp", key) for key in range(20, 40)]
            others = [submit(peer, "cyberplat", key, OTHER) for key in range(20)]
            assert await answers([*free, *others]) == {Reason.OK}
            assert await answers([stuck]) == {Reason.TEMPORARY}
            await cur.execute("ROLLBACK")
            assert await answers([submit(peer, "osmp", 7)]) == {Reason.OK}

    asyncio.run(story())


def test_a_command_that_conflicts_for_ever_is_found_before_the_others_deadline(town):
    async def story():
        async with town.cursor(town.owner_dsn) as cur:
            await cur.execute(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
                " $$ BEGIN RAISE EXCEPTION 'always' USING ERRCODE = 'unique_violation'; END $$;"
                " CREATE TRIGGER refuse BEFORE INSERT ON payments FOR EACH ROW WHEN (NEW.partner_key = '7')"
                " EXECUTE FUNCTION refuse()"
            )
        async with town.gateway(core={"request_deadline_s": 6.0}) as peer:
            poison = submit(peer, "osmp", 7)
            neighbours = [submit(peer, "osmp", key) for key in range(20, 70)]
            assert await answers(neighbours) == {Reason.OK}
            assert await answers([poison]) == {Reason.TEMPORARY}

    asyncio.run(story())


def test_a_process_paused_in_a_transaction_stops_neither_other_partners_nor_its_own_for_long(
    town, database, pay, payment, peer_of
):
    async def story():
        paused, other = peer_of(free_port()), peer_of(free_port())
        failpoint = "after_write_before_commit:1:stop"
        with (
            gateway_process(database, paused.port, failpoint=failpoint) as process,
            gateway_process(database, other.port) as living,
        ):
            await until_served(paused, process)
            await until_served(other, living)
            paying = asyncio.create_task(paused.osmp(pay(81)))
            while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
                await asyncio.sleep(0.05)
            assert (await other.osmp("command=status&txn_id=81")).code == 90
            held = asyncio.create_task(other.osmp(pay(82, account=OTHER)))
            for key in range(5):
                assert (await other.cyberplat(payment(key, account=OTHER))).code == 0
            assert not held.done()
            assert not paying.done()
            assert (await held).code == 0  # PostgreSQL ended the transaction of the paused process
            assert await town.balance(ACTIVE) == 0
            process.send_signal(signal.SIGCONT)
            assert (await paying).code in (0, 1, 90)  # its deadline may have passed
            assert (await other.osmp(pay(81))).code == 0
            assert (await town.balance(ACTIVE), await town.balance(OTHER)) == (25_000, 6 * 25_000)

    asyncio.run(story())
