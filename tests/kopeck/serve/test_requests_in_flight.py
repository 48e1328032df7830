"""A web process that ends lets requests in flight have their answers."""

import asyncio

from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream
from tornado.tcpclient import TCPClient
from tornado.web import Application, RequestHandler

from kopeck.serve.process import listen
from kopeck.serve.requests_in_flight import Counted


class Slow(RequestHandler):
    """Answers when it is allowed to."""

    def initialize(self, entered: asyncio.Event, allowed: asyncio.Event) -> None:
        self.entered, self.allowed = entered, allowed

    async def get(self) -> None:
        self.entered.set()
        await self.allowed.wait()
        self.finish("done")


async def _served() -> tuple[Counted, HTTPServer, int, asyncio.Event, asyncio.Event]:
    entered, allowed = asyncio.Event(), asyncio.Event()
    counted = Counted(Application([("/", Slow, {"entered": entered, "allowed": allowed})]))
    server = HTTPServer(counted)
    sockets = listen("127.0.0.1", 0)
    server.add_sockets(sockets)
    return counted, server, sockets[0].getsockname()[1], entered, allowed


def test_draining_waits_for_the_answer_of_a_request_that_is_being_served() -> None:
    async def scene() -> None:
        counted, server, port, entered, allowed = await _served()
        asked = asyncio.ensure_future(AsyncHTTPClient().fetch(f"http://127.0.0.1:{port}/"))
        await entered.wait()
        server.stop()
        draining = asyncio.ensure_future(counted.drain(30))
        await asyncio.sleep(0.1)
        assert not draining.done()
        allowed.set()
        await draining
        assert (await asked).body == b"done"
        assert counted.in_flight == 0
        await server.close_all_connections()

    asyncio.run(scene())


def test_draining_gives_up_at_its_limit() -> None:
    async def scene() -> None:
        counted, server, port, entered, allowed = await _served()
        asked = asyncio.ensure_future(AsyncHTTPClient().fetch(f"http://127.0.0.1:{port}/"))
        await entered.wait()
        await counted.drain(0.05)
        assert counted.in_flight == 1
        allowed.set()
        await asked
        server.stop()
        await server.close_all_connections()

    asyncio.run(scene())


def test_a_client_that_leaves_while_sending_is_not_waited_for() -> None:
    async def scene() -> None:
        counted, server, port, _, _ = await _served()
        stream: IOStream = await TCPClient().connect("127.0.0.1", port)
        await stream.write(b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\nfew")
        while counted.in_flight == 0:
            await asyncio.sleep(0.01)
        stream.close()
        await counted.drain(30)
        assert counted.in_flight == 0
        server.stop()
        await server.close_all_connections()

    asyncio.run(scene())
