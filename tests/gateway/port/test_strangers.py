"""Callers that proved nothing cost little: work, storage and signatures are counted, however many calls there are."""

import asyncio
import ipaddress
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from adapters.messages import RawRequest, Reason
from billing.ledger.account_store import create_accounts
from billing.ledger.accounts import NewAccount
from gateway.partners.contracts import set_contract
from gateway.payments import metrics
from gateway.payments.records import Attempt
from gateway.port.strangers import (
    GROUPS_MAX,
    MINUTE_S,
    STRANGER_PAUSE_S,
    STRANGER_TEXT,
    STRANGERS_BURST,
    STRANGERS_PER_S,
    Recorded,
    StrangerLimit,
)
from gateway.verification.live import verify

ACTIVE = "79160000001"
CARD = "4111111111111111"
FOREIGN = ["192.0.2.0/24"]


def counted() -> float:
    return sum(sample.value for family in metrics.STRANGERS_COUNTED.collect() for sample in family.samples
               if sample.name.endswith("_total"))  # fmt: skip


async def change(town, code, **fields):
    async with town.cursor() as cur:
        await cur.execute(
            "SELECT body FROM contracts JOIN partners p ON p.id = partner_id WHERE code = %s "
            "ORDER BY contracts.version DESC LIMIT 1",
            (code,),
        )
        await set_contract(cur, code, (await cur.fetchone())[0] | fields, "test")


async def flood(port, requests, body):
    """One connection that sends the same hostile request again and again, and reads the answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    head = b"POST /pay/cyberplat HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    replies = set()
    try:
        for _ in range(requests):
            writer.write(head + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in answer.split(b"\r\n") if line.startswith(b"Content-Length:"))
            replies.add(await reader.readexactly(length))
    finally:
        writer.close()
    return replies


@pytest.mark.parametrize("body", [b"\xff\n" * 4_096, b"\n" * 8_192, b"pass=1&" * 1_170, b"\x9f" * 8_192])
def test_a_flood_from_foreign_addresses_leaves_few_rows_and_is_signed_once_while_a_payer_pays(town, pay, body):
    async def story():
        await change(town, "cyberplat", sources=FOREIGN)
        loop = asyncio.get_running_loop()
        before = counted()
        async with town.gateway() as peer:
            began = loop.time()
            floods = asyncio.gather(*[flood(peer.port, 12, body) for _ in range(20)])
            for key in range(5):
                assert (await peer.osmp(pay(key + 1))).code == 0
            replies = set().union(*await floods)
            took_s = loop.time() - began
        assert len(replies) == 1  # the very bytes: one signature for all of them
        rows = await town.rows("SELECT calls, length(request), length(detail) FROM attempts WHERE kind = 'bad_source'")
        assert sum(calls for calls, _, _ in rows) == 240
        assert len(rows) <= STRANGERS_BURST + STRANGERS_PER_S * took_s + 1
        over = counted() - before
        assert took_s >= over // 20 * STRANGER_PAUSE_S  # twice a second and connection
        assert max(length for _, length, _ in rows) <= STRANGER_TEXT
        assert await town.balance(ACTIVE) == 5 * 25_000
        assert await town.one("SELECT count(*) FROM outbox WHERE topic = 'attempt'") == await town.one(
            "SELECT count(*) FROM attempts"
        )

    asyncio.run(story())


def test_a_refusal_without_an_id_is_made_once_for_a_contract_version_and_anew_for_the_next(town):
    async def story():
        async with town.gateway() as peer:
            port = peer.gateway.port
            raw = RawRequest("GET", "/pay/cyberplat", b"action=check&sign=00", b"", {}, "203.0.113.9")
            first, second = await port.serve(raw), await port.serve(replace(raw, query=b"action=pay&sign=ff"))
            assert first is second
            await change(town, "cyberplat", services=["7"])
            await peer.reads_contracts()
            third = await port.serve(raw)
            assert third is not first
            assert third == first  # RSA of PKCS 1 v1.5 signs the same bytes alike

    asyncio.run(story())


def test_a_wrong_password_is_a_strangers_call_and_a_partners_mistake_is_kept_whole(town):
    async def story():
        async with town.gateway() as peer:
            long = "x" * 2_000
            assert b"<code>-4</code>" in (await peer.get("/pay/cyberplat", f"note={long}&sign=00".encode()))[1]
            assert (await peer.cyberplat(f"action=payment&number={ACTIVE}&type=1&mes={long}")).code == 1
            stranger, partner = await town.attempts(2)
            assert (stranger[0], len(stranger[5])) == ("bad_signature", STRANGER_TEXT)
            assert partner[0] == "malformed"
            assert long in partner[5]

    asyncio.run(story())


def recorded(ip="203.0.113.9", kind="malformed", reason=Reason.BAD_REQUEST, partner_id=None):
    return Recorded(datetime.now(UTC), Attempt(kind, reason, partner_id, remote_ip=ip))


def test_of_each_kind_a_burst_and_then_so_many_a_second_are_kept_in_full():
    limit = StrangerLimit()
    kept = [limit.admit(recorded(), 0.0) for _ in range(STRANGERS_BURST + 50)]
    assert [one is not None for one in kept] == [True] * STRANGERS_BURST + [False] * 50
    assert limit.admit(recorded(kind="bad_source", reason=Reason.BAD_SOURCE), 0.0) is not None
    later = [limit.admit(recorded(), 1.0) is not None for _ in range(20)]
    assert sum(later) == STRANGERS_PER_S
    assert limit.due(MINUTE_S - 1) == []
    (group,) = limit.due(MINUTE_S)
    assert group.attempt.calls == 50 + 10
    assert limit.due(2 * MINUTE_S) == []


def test_groups_are_by_partner_address_and_reason_and_no_more_than_there_is_room_for():
    limit = StrangerLimit()
    for _ in range(STRANGERS_BURST):
        limit.admit(recorded(), 0.0)
    for number in range(GROUPS_MAX + 500):
        limit.admit(recorded(ip=f"2001:db8::{number:x}"), 0.0)
        limit.admit(recorded(ip=f"2001:db8::{number:x}"), 0.0)
    groups = limit.due(MINUTE_S)
    assert len(groups) == GROUPS_MAX
    assert {group.attempt.calls for group in groups} == {2}


def test_what_waits_to_be_written_holds_no_more_of_a_request_than_is_kept_of_it(town):
    async def story():
        async with town.gateway() as peer:
            writer = peer.gateway.attempts
            raw = RawRequest("POST", "/pay/cyberplat", b"", b"\xff\n" * 30_000, {"cookie": "x" * 9_000}, "203.0.113.9")
            await peer.gateway.port.serve(raw)
            (waiting,) = writer._buffer  # before the writer's task has its turn
            held = waiting.text.args[0]
            assert len(held.query) + len(held.body) <= STRANGER_TEXT
            assert held.headers == {}

    asyncio.run(story())


def test_a_card_number_in_any_field_is_masked_wherever_it_is_kept(town, pay):
    async def story():
        async with town.gateway() as peer:
            spaced = "4111+1111-1111%201111"
            assert (await peer.osmp(f"command=check&txn_id=1&account={CARD}&sum=1.00&trm_id={spaced}")).code == 5
            assert (await peer.osmp(pay(2) + f"&trm_id={CARD}&note={spaced}")).code == 0
            assert (await peer.osmp(pay(3, account=CARD))).code == 5
            assert (await peer.osmp(pay(3, account=CARD))).code == 5
            assert (await peer.osmp(pay(3, account=CARD, amount="7.00"))).code == 300
            assert (await peer.osmp(f"command=pay&txn_id={CARD}&account=1&sum=x")).code == 300
            assert (await peer.osmp(f"command=pay&txn_id=4&account={CARD}&sum=x")).code == 300
            await town.attempts(5)
        stored = []
        for table in ("attempts", "payments", "payment_events"):
            stored += [str(row[0]) for row in await town.rows(f"SELECT to_jsonb(t) FROM {table} t")]
        assert sum("411111******1111" in text for text in stored) >= 7
        assert not [text for text in stored if CARD in text or "1111 1111" in text or spaced in text]

    asyncio.run(story())


def test_an_account_number_that_looks_like_a_cards_is_left_where_the_account_is_known(town, pay):
    async def story():
        async with town.cursor() as cur:
            await create_accounts(cur, [NewAccount(CARD)])
        async with town.gateway() as peer:
            assert (await peer.osmp(f"command=check&txn_id=1&account={CARD}&sum=1.00")).code == 0
            assert (await peer.osmp(pay(2, account=CARD))).code == 0
            assert (await peer.osmp(pay(2, account=CARD))).code == 0
            assert (await peer.osmp(f"command=pay&txn_id=4&account={CARD}&sum=x")).code == 300
            attempts = await town.attempts(3)
        assert all(f"account={CARD}" in row[5] for row in attempts)
        assert await town.rows("SELECT account_number FROM attempts") == [(CARD,)] * 3
        assert await town.one("SELECT account_number FROM payments") == CARD
        assert CARD in await town.one("SELECT request FROM payment_events")

    asyncio.run(story())


def test_a_payment_kept_masked_is_credited_once_its_account_is_opened(town, pay):
    async def story():
        async with town.gateway() as peer:
            line = pay(3, account=CARD)
            assert (await peer.osmp(line)).code == 5
            async with town.cursor() as cur:
                await create_accounts(cur, [NewAccount(CARD)])
            assert (await peer.osmp(line)).code == 0
            assert (await peer.osmp(line)).code == 0
            assert (await peer.osmp(pay(3, account=CARD[:-1] + "2"))).code == 300
        assert await town.balance(CARD) == 25_000
        report = await verify(town.dsn, None)
        assert report.is_clean, report.lines()

    asyncio.run(story())


def test_an_absolute_request_target_is_served_like_its_path(town, pay):
    async def story():
        async with town.gateway() as peer:
            for target in ("http://pay.example:8080/pay/osmp?", "HTTPS://x/pay/osmp?"):
                line = f"GET {target}{pay(1)} HTTP/1.1\r\nHost: x\r\n\r\n"
                status, body = await peer.exchange(line.encode())
                assert (status, b"<result>0</result>" in body) == (200, True)
            assert (await peer.exchange(b"GET http://x?a=/pay/osmp HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 404

    asyncio.run(story())


def test_a_client_that_stops_sending_still_reads_its_answers(town, pay):
    async def story():
        async with town.gateway() as peer:
            reader, writer = await asyncio.open_connection("127.0.0.1", peer.port)
            for key in (1, 2, 3):
                writer.write(b"GET /pay/osmp?" + pay(key).encode() + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            writer.write_eof()
            async with asyncio.timeout(20):
                answers = await reader.read()
            assert answers.count(b"<result>0</result>") == 3
            writer.close()

    asyncio.run(story())


def test_a_half_closed_client_costs_no_turns_of_the_loop_while_its_payment_waits(town, pay):
    async def story():
        async with town.gateway() as peer, town.cursor(town.owner_dsn) as cur:
            await cur.execute("BEGIN")
            await cur.execute("SELECT FROM accounts WHERE number = %s FOR UPDATE", (ACTIVE,))
            reader, writer = await asyncio.open_connection("127.0.0.1", peer.port)
            writer.write(b"GET /pay/osmp?" + pay(1).encode() + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            writer.write_eof()
            await asyncio.sleep(0.3)
            (stream,) = [connection.stream for connection in peer.gateway._server._connections]
            reads = []
            original = stream.read_from_fd
            stream.read_from_fd = lambda buf: reads.append(1) or original(buf)
            await asyncio.sleep(0.3)
            assert reads == []
            await cur.execute("COMMIT")
            async with asyncio.timeout(20):
                assert b"<result>0</result>" in await reader.read()
            writer.close()

    asyncio.run(story())


def test_one_address_cannot_take_every_connection_unless_it_is_a_trusted_proxy(town, pay):
    async def refused(peer):
        before = metrics.CONNECTIONS_REFUSED._value.get()
        held = []
        for _ in range(4):
            held.append(await asyncio.open_connection("127.0.0.1", peer.port))
            with suppress(ConnectionResetError):
                await asyncio.sleep(0.05)
        count = metrics.CONNECTIONS_REFUSED._value.get() - before
        for _, writer in held:
            writer.close()
        return count

    async def story():
        async with town.gateway(connections_max=100, connections_per_address_max=3) as peer:
            assert await refused(peer) == 1
        async with town.gateway(connections_max=6) as peer:
            assert await refused(peer) == 1  # half of all
        proxies = (ipaddress.ip_network("127.0.0.0/8"),)
        async with town.gateway(connections_max=100, connections_per_address_max=3, trusted_proxies=proxies) as peer:
            assert await refused(peer) == 0

    asyncio.run(story())
