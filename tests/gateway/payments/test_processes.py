"""Real gateway processes killed at the worst instants; the repeat goes to the other one."""

import asyncio
import signal

import pytest

from kopeck.databases.postgres import free_port
from tests.gateway.processes import gateway_process, until_served

ACTIVE, OTHER = "79160000001", "79160000003"


@pytest.mark.parametrize(
    ("failpoint", "is_written"), [("after_write_before_commit", False), ("after_commit_before_reply", True)]
)
def test_a_gateway_killed_around_commit_loses_and_doubles_nothing(town, database, pay, peer_of, failpoint, is_written):
    async def story():
        doomed, other = peer_of(free_port()), peer_of(free_port())
        with (
            gateway_process(database, doomed.port, failpoint=failpoint) as dying,
            gateway_process(database, other.port) as living,
        ):
            await until_served(doomed, dying)
            await until_served(other, living)
            query = pay(4001)
            assert await doomed.get("/pay/osmp", query.encode()) == (0, b"")
            assert await asyncio.to_thread(dying.wait, 10) == -signal.SIGKILL
            assert await town.balance(ACTIVE) == (25_000 if is_written else 0)
            first = await other.osmp(query)
            again = await other.osmp(query)
            assert (first.code, first.payment_id) == (0, again.payment_id)
            assert await town.balance(ACTIVE) == 25_000
            assert (await other.osmp(pay(4001, amount="1.00"))).code == 300

    asyncio.run(story())


def test_two_processes_share_one_port_and_one_truth(town, database, pay, peer_of):
    async def story():
        peer = peer_of(free_port())
        with gateway_process(database, peer.port) as one, gateway_process(database, peer.port) as two:
            await until_served(peer, one)
            await until_served(peer, two)
            query = pay(4002)
            replies = await asyncio.gather(*[peer.osmp(query) for _ in range(50)])
            assert {reply.code for reply in replies} == {0}
            assert len({reply.payment_id for reply in replies}) == 1
            for key in range(4100, 4120):
                split = await asyncio.gather(peer.osmp(pay(key)), peer.osmp(pay(key, account=OTHER)))
                assert sorted(reply.code for reply in split) == [0, 300]
            assert await town.balance(ACTIVE) + await town.balance(OTHER) == 21 * 25_000

    asyncio.run(story())


def test_sigterm_answers_what_is_in_flight_before_the_end(town, database, pay, peer_of):
    async def story():
        peer = peer_of(free_port())
        with gateway_process(database, peer.port) as process:
            await until_served(peer, process)
            async with town.cursor() as cur:
                await cur.execute("BEGIN")
                await cur.execute("SELECT FROM accounts WHERE number = %s FOR UPDATE", (ACTIVE,))
                held = asyncio.create_task(peer.osmp(pay(4003)))
                await asyncio.sleep(0.3)
                process.send_signal(signal.SIGTERM)
                await asyncio.sleep(0.3)
                await cur.execute("ROLLBACK")
            assert (await held).code == 0
            assert await asyncio.to_thread(process.wait, 20) == 0

    asyncio.run(story())
