"""The partner port under nonsense, strangers, slow clients and changing contracts."""

import asyncio
import ipaddress
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from gateway.connections import client_ip
from gateway.contracts import add_key, retire_key, set_contract, set_partner_state

ACTIVE, UNKNOWN = "79160000001", "79169999999"
NO_SIGN = "00" * 128


async def read_reply(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    return int(head.split(b" ", 2)[1]), await reader.readexactly(length)


def osmp_query(**changed):
    words = {
        "command": "pay",
        "txn_id": "77",
        "txn_date": "20261120101530",
        "account": ACTIVE,
        "sum": "250.00",
    } | changed
    return "&".join(f"{name}={value}" for name, value in words.items() if value is not None)


def cyberplat_query(**changed):
    words = {
        "action": "payment",
        "number": ACTIVE,
        "type": "1",
        "amount": "250.00",
        "receipt": "770077",
        "date": "2026-11-20T10:15:30",
    } | changed
    return "&".join(f"{name}={value}" for name, value in words.items() if value is not None)


BAD_OSMP = [
    (osmp_query(command="steal"), 300),
    (osmp_query(command=None), 300),
    (osmp_query(txn_id=None), 300),
    (osmp_query() + "&sum=1.00", 300),
    (osmp_query() + "&account=1", 300),
    (osmp_query(txn_id="1" * 21), 300),
    (osmp_query(txn_id="12a"), 300),
    (osmp_query(account="%D0"), 4),
    (osmp_query(account="a%00b"), 4),
    (osmp_query(account="%ZZ"), 4),
    (osmp_query(account=""), 4),
    (osmp_query(sum="-1.00"), 241),
    (osmp_query(sum="0.00"), 241),
    (osmp_query(sum="1.005"), 300),
    (osmp_query(sum="1,50"), 300),
    (osmp_query(sum="9" * 40), 300),
    (osmp_query(sum="1e3"), 300),
    (osmp_query(sum=None), 300),
    (osmp_query(txn_date="20261131101530"), 300),
    (osmp_query(txn_date="20261120251530"), 300),
    (osmp_query(txn_date="yesterday"), 300),
    ("", 300),
    ("%", 300),
    ("&&&=", 300),
]

BAD_CYBERPLAT = [
    (cyberplat_query(action="steal"), 1),
    (cyberplat_query() + "&mes=1", 1),
    (cyberplat_query() + "&amount=1.00", 1),
    (cyberplat_query(number=""), 2),
    (cyberplat_query(number="1" * 31), 2),
    (cyberplat_query(number="%00"), 2),
    (cyberplat_query(type="x"), -2),
    (cyberplat_query(amount="-1"), 3),
    (cyberplat_query(amount="0"), 3),
    (cyberplat_query(amount="1.005"), 3),
    (cyberplat_query(amount="1,50"), 3),
    (cyberplat_query(amount="99999999999"), 3),
    (cyberplat_query(receipt="1" * 16), 4),
    (cyberplat_query(receipt="12x"), 4),
    (cyberplat_query(receipt=None), 4),
    (cyberplat_query(date="2026-02-30T10:00:00"), 5),
    (cyberplat_query(date="2026-11-20%2010:00:00"), 5),
    (cyberplat_query(date=None), 5),
]


@pytest.mark.parametrize("protocol", ["osmp", "cyberplat"])
def test_nonsense_gets_the_protocols_code_changes_nothing_and_is_on_record(town, protocol):
    async def story():
        async with town.gateway() as peer:
            cases = BAD_OSMP if protocol == "osmp" else BAD_CYBERPLAT
            heard = [(query, (await getattr(peer, protocol)(query)).code) for query, _ in cases]
            assert heard == cases
            attempts = await town.attempts(len(cases))
            assert {row[0] for row in attempts} == {"malformed"}
            assert [row[2] for row in attempts] == [str(code) for _, code in cases]
            assert all(row[3] for row in attempts)
            assert await town.one("SELECT count(*) FROM payments") == 0
            assert await town.one("SELECT count(*) FROM transfers") == 0

    asyncio.run(story())


def test_a_bad_signature_is_refused_recorded_and_claims_no_key(town):
    async def story():
        async with town.gateway() as peer:
            for tail in (f"&sign={NO_SIGN}", "&sign=xyz", "&sign=", ""):
                _, body = await peer.get("/pay/cyberplat", (cyberplat_query() + tail).encode())
                assert b"<code>-4</code>" in body
            attempts = await town.attempts(4, "bad_signature")
            assert NO_SIGN not in "".join(row[5] for row in attempts)
            assert (await peer.cyberplat(cyberplat_query())).code == 0

    asyncio.run(story())


def test_a_foreign_address_is_refused_in_the_protocols_own_way(town):
    async def story():
        async with town.gateway() as peer, town.cursor() as cur:
            for code in ("osmp", "cyberplat"):
                await cur.execute(
                    "SELECT body FROM contracts JOIN partners p ON p.id = partner_id WHERE code = %s", (code,)
                )
                body = (await cur.fetchone())[0]
                await set_contract(cur, code, body | {"sources": ["192.0.2.0/24", "2001:db8::/32"]}, "test")
            await asyncio.sleep(0.3)
            assert (await peer.get("/pay/osmp", osmp_query().encode()))[0] == 403
            assert (await peer.cyberplat(cyberplat_query())).code == -4
            assert len(await town.attempts(2, "bad_source")) == 2

    asyncio.run(story())


def test_a_trusted_proxys_word_for_the_address_is_taken_and_nobody_elses(town):
    async def story():
        async with town.cursor() as cur:
            await cur.execute("SELECT body FROM contracts JOIN partners p ON p.id = partner_id WHERE code = 'osmp'")
            body = (await cur.fetchone())[0]
            await set_contract(cur, "osmp", body | {"sources": ["192.0.2.0/24"]}, "test")
        header = "X-Forwarded-For: 203.0.113.9, 192.0.2.7\r\n"
        async with town.gateway() as peer:
            assert (await peer.get("/pay/osmp", osmp_query().encode(), header))[0] == 403
        async with town.gateway(trusted_proxies=(ipaddress.ip_network("127.0.0.0/8"),)) as peer:
            assert (await peer.get("/pay/osmp", osmp_query().encode(), header))[0] == 200
            lying = "X-Forwarded-For: 192.0.2.7, 203.0.113.9\r\n"
            assert (await peer.get("/pay/osmp", osmp_query().encode(), lying))[0] == 403

    asyncio.run(story())


def test_the_address_behind_proxies_is_the_right_most_that_is_none_of_them():
    proxies = [ipaddress.ip_network("10.0.0.0/8")]
    assert client_ip("10.0.0.1", {"x-forwarded-for": "1.2.3.4, 5.6.7.8, 10.0.0.2"}, proxies) == "5.6.7.8"
    assert client_ip("10.0.0.1", {"x-forwarded-for": "nonsense"}, proxies) == ""
    assert client_ip("10.0.0.1", {"x-forwarded-for": "1.2.3.4, unknown, 10.0.0.2"}, proxies) == ""
    assert client_ip("10.0.0.1", {}, proxies) == "10.0.0.1"
    assert client_ip("::ffff:10.0.0.1", {"x-forwarded-for": "1.2.3.4"}, proxies) == "1.2.3.4"
    assert client_ip("9.9.9.9", {"x-forwarded-for": "1.2.3.4"}, proxies) == "9.9.9.9"


def test_pausing_and_rewriting_a_contract_need_no_restart(town):
    async def story():
        async with town.gateway() as peer, town.cursor() as cur:
            await set_partner_state(cur, "osmp", "paused")
            await asyncio.sleep(0.3)
            assert (await peer.osmp(osmp_query())).code == 1
            await set_partner_state(cur, "osmp", "active")
            await cur.execute("SELECT body FROM contracts JOIN partners p ON p.id = partner_id WHERE code = 'osmp'")
            body = (await cur.fetchone())[0]
            await set_contract(cur, "osmp", body | {"max_minor": 24_999}, "test")
            await asyncio.sleep(0.3)
            assert (await peer.osmp(osmp_query())).code == 242

    asyncio.run(story())


def test_two_keys_are_valid_while_one_is_rotated_and_a_retired_one_is_not(town, partner_key, provider_key):
    async def story():
        new_key = rsa.generate_private_key(65537, 1024)
        pem = new_key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        async with town.gateway() as peer, town.cursor() as cur:
            old_id = await town.one("SELECT id FROM partner_keys WHERE purpose = 'verify'")
            await add_key(cur, "cyberplat", "verify", pem.decode(), "test")
            await asyncio.sleep(0.3)
            old_peer, new_peer = peer, replace(peer, town=replace(town, partner_key=new_key))
            assert (await old_peer.cyberplat(cyberplat_query())).code == 0
            assert (await new_peer.cyberplat(cyberplat_query())).code == 0
            await retire_key(cur, old_id, datetime.now(UTC))
            await asyncio.sleep(0.3)
            assert (await old_peer.cyberplat(cyberplat_query())).code == -4
            assert (await new_peer.cyberplat(cyberplat_query())).code == 0

    asyncio.run(story())


def test_a_broken_contract_takes_down_its_own_partner_alone(town):
    async def story():
        async with town.gateway() as peer, town.cursor(town.owner_dsn) as cur:
            await cur.execute(
                "INSERT INTO contracts (partner_id, version, body, created_by) VALUES (%s, 2, '{}', 'x')",
                (town.ids["cyberplat"],),
            )
            await asyncio.sleep(0.3)
            assert (await peer.osmp(osmp_query())).code == 0
            assert (await peer.get("/pay/cyberplat", b"action=check"))[0] == 404
            assert peer.gateway.contracts.book.broken == ("cyberplat",)

    asyncio.run(story())


def test_an_unknown_partner_is_a_404_on_record(town):
    async def story():
        async with town.gateway() as peer:
            assert (await peer.get("/pay/nobody", b"x=1"))[0] == 404
            assert (await peer.get("/", b""))[0] == 404
            attempts = await town.attempts(1)
            assert attempts[0][3] == "no partner at /pay/nobody"

    asyncio.run(story())


def test_oversized_and_broken_http_is_turned_away(town):
    async def story():
        async with town.gateway(header_max=4_096, body_max=1_000, line_max=1_000) as peer:
            line = b"GET /pay/osmp?x=%s HTTP/1.1\r\nHost: x\r\n\r\n"
            assert (await peer.exchange(line % (b"1" * 1_200)))[0] == 414
            assert (await peer.exchange(line % (b"1" * 100_000)))[0] in (0, 400, 431)
            post = b"POST /pay/osmp HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n"
            assert (await peer.exchange(post + b"1" * 5_000))[0] in (0, 400, 413)
            assert (await peer.exchange(b"DELETE /pay/osmp HTTP/1.1\r\nHost: x\r\n\r\n"))[0] == 405
            assert (await peer.exchange(b"\x16\x03\x01\x00\r\n\r\n"))[0] in (0, 400)
            assert (await peer.exchange(b"GET /pay/osmp HTTP/1.1\r\nbroken\r\n\r\n"))[0] in (0, 400)
            assert (await peer.osmp(osmp_query())).code == 0

    asyncio.run(story())


def test_a_slow_client_is_hung_up_on(town):
    async def story():
        async with town.gateway(header_timeout_s=0.3, body_timeout_s=0.3) as peer:
            for head in (b"GET /pay/osm", b"POST /pay/osmp HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n1"):
                reader, writer = await asyncio.open_connection("127.0.0.1", peer.port)
                writer.write(head)
                async with asyncio.timeout(5):
                    assert b"HTTP/1.1 200" not in await reader.read()
                writer.close()

    asyncio.run(story())


def test_connections_over_the_limit_are_closed_and_the_rest_served(town):
    async def story():
        async with town.gateway(connections_max=2) as peer:
            held = [await asyncio.open_connection("127.0.0.1", peer.port) for _ in range(2)]
            await asyncio.sleep(0.1)
            assert await peer.exchange(b"GET /pay/osmp HTTP/1.1\r\nHost: x\r\n\r\n") == (0, b"")
            for _, writer in held:
                writer.close()
            await asyncio.sleep(0.1)
            assert (await peer.osmp(osmp_query())).code == 0

    asyncio.run(story())


def test_a_client_that_hangs_up_before_the_reply_has_still_paid(town):
    async def story():
        async with town.gateway() as peer:
            _, writer = await asyncio.open_connection("127.0.0.1", peer.port)
            writer.write(b"GET /pay/osmp?" + osmp_query().encode() + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            await writer.drain()
            writer.close()
            for _ in range(100):
                if await town.balance(ACTIVE):
                    break
                await asyncio.sleep(0.02)
            assert (await peer.osmp(osmp_query())).code == 0
            assert await town.balance(ACTIVE) == 25_000

    asyncio.run(story())


def test_kept_alive_and_pipelined_requests_are_answered_in_order(town):
    async def story():
        async with town.gateway() as peer:
            reader, writer = await asyncio.open_connection("127.0.0.1", peer.port)
            for key in range(5):
                query = osmp_query(txn_id=str(900 + key)).encode()
                writer.write(b"GET /pay/osmp?" + query + b" HTTP/1.1\r\nHost: x\r\n\r\n")
            for key in range(5):
                status, body = await read_reply(reader)
                assert status == 200
                assert b"<osmp_txn_id>%d</osmp_txn_id>" % (900 + key) in body
            writer.close()

    asyncio.run(story())
