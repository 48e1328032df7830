"""gateway.channels.outbound_http: where a request may go, and whether it may have arrived; by real sockets."""

import asyncio
import ipaddress
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.channels.outbound_http import BODY_MAX, NoAnswer, NotReached, OutboundHttp, is_allowed, is_public
from tests.gateway.channels.receivers import HANG_UP, SILENCE, WebReceiver

LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]


def posted(receiver, *, url=None, allowed=LOOPBACK, proxy="", time_out_s=5.0, count=1):
    async def run():
        async with receiver.serving():
            http = OutboundHttp(allowed, proxy)
            try:
                return [
                    await http.post(url or receiver.url, {"Content-Type": "text/plain"}, b"body", time_out_s)
                    for _ in range(count)
                ][-1]
            finally:
                http.close()

    return asyncio.run(run())


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1", "2002:7f00:1::",
        "64:ff9b::7f00:1", "2001:db8::1", "240.0.0.1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address):
    assert not is_public(address)
    assert not is_allowed(address, ())


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2a00:1450:4001:81b::200e", "::ffff:8.8.8.8"])
def test_addresses_that_are(address):
    assert is_public(address)


@given(st.ip_addresses(v=4))
def test_what_hides_in_a_longer_form_is_judged_as_what_it_is(address):
    mapped = str(ipaddress.IPv6Address((0xFFFF << 32) | int(address)))
    translated = str(ipaddress.IPv6Address(int(ipaddress.IPv6Address("64:ff9b::")) | int(address)))
    assert is_public(mapped) == is_public(translated) == is_public(str(address))


def test_an_answer_comes_with_its_headers_and_the_beginning_of_its_body():
    receiver = WebReceiver([(200, {"X-What": "yes"}, b"x" * (BODY_MAX + 1000))])
    answer = posted(receiver)
    assert (answer.status, answer.headers["x-what"], len(answer.body)) == (200, "yes", BODY_MAX)
    path, headers, body = receiver.requests[0]
    assert (path, body, headers["user-agent"]) == ("/hooks", b"body", "Kopeck-Webhooks/1")


def test_a_redirect_is_an_answer_and_is_not_followed():
    receiver = WebReceiver([(302, {"Location": "/elsewhere"}, b"")])
    assert posted(receiver).status == 302
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0x7f.1", "2130706433"])
def test_an_address_that_is_not_public_is_not_connected_to_however_it_is_written(host):
    receiver = WebReceiver()

    async def run():
        async with receiver.serving():
            http = OutboundHttp()
            try:
                with pytest.raises(NotReached):
                    await http.post(f"http://{host}:{receiver.port}/", {}, b"x", 5.0)
            finally:
                http.close()

    asyncio.run(run())
    assert receiver.requests == []


def test_nobody_there_means_that_nothing_was_sent():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        with pytest.raises(NotReached, match="no connection"):
            posted(WebReceiver(), url=f"http://127.0.0.1:{probe.getsockname()[1]}/")


def test_a_server_without_tls_is_not_reached_by_https():
    receiver = WebReceiver()
    with pytest.raises(NotReached, match="no connection"):
        posted_https(receiver)
    assert receiver.requests == []


def posted_https(receiver):
    async def run():
        async with receiver.serving():
            http = OutboundHttp(LOOPBACK)
            try:
                return await http.post(f"https://127.0.0.1:{receiver.port}/", {}, b"x", 5.0)
            finally:
                http.close()

    return asyncio.run(run())


def test_one_that_never_answers_and_one_that_hangs_up_may_have_it():
    for behaviour in (SILENCE, HANG_UP):
        receiver = WebReceiver([behaviour])
        with pytest.raises(NoAnswer):
            posted(receiver, time_out_s=0.5)
        assert len(receiver.requests) == 1


def test_what_is_not_http_is_no_answer():
    async def run():
        async def babble(reader, writer):
            await reader.readuntil(b"body")
            writer.write(b"220 this is a mail server\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(babble, "127.0.0.1", 0)
        http = OutboundHttp(LOOPBACK)
        try:
            with pytest.raises(NoAnswer):
                await http.post(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", {}, b"body", 5.0)
        finally:
            http.close()
            server.close()

    asyncio.run(run())


def test_through_a_proxy_the_proxy_is_asked_to_connect_and_plain_addresses_are_judged_here():
    asked = []

    async def run():
        receiver = WebReceiver()

        async def proxy(reader, writer):
            head = await reader.readuntil(b"\r\n\r\n")
            asked.append(head.split(b"\r\n")[0])
            if b"refused.example" in head:
                writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
                writer.close()
                return
            there_in, there_out = await asyncio.open_connection("127.0.0.1", receiver.port)
            writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")

            async def carry(source, target):
                while data := await source.read(65536):
                    target.write(data)
                target.close()

            await asyncio.gather(carry(reader, there_out), carry(there_in, writer))

        async with receiver.serving():
            server = await asyncio.start_server(proxy, "127.0.0.1", 0)
            http = OutboundHttp([], f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
            try:
                answer = await http.post("http://crm.example/hooks", {}, b"body", 5.0)
                with pytest.raises(NotReached, match="refused"):
                    await http.post("http://refused.example/", {}, b"body", 5.0)
                with pytest.raises(NotReached, match="no public address"):
                    await http.post("http://10.1.2.3/", {}, b"body", 5.0)
            finally:
                http.close()
                server.close()
            return answer.status, receiver.requests[0][2]

    assert asyncio.run(run()) == (204, b"body")
    assert asked == [b"CONNECT crm.example:80 HTTP/1.1", b"CONNECT refused.example:80 HTTP/1.1"]
