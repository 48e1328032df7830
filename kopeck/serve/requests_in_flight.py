"""Counts a Tornado application's requests from their headers to their last byte, so that a process can drain.

Does not know: what the requests ask for.
"""

import asyncio
from typing import Any

from prometheus_client import Gauge, Histogram
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerConnectionDelegate,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.web import Application, RequestHandler

IN_FLIGHT = Gauge("kopeck_web_requests_in_flight", "Requests being answered")
SECONDS = Histogram("kopeck_web_request_seconds", "Time to answer a page", ["handler", "status"])


class Counted(HTTPServerConnectionDelegate):
    """Stands between the server and the application."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self.in_flight = 0
        app.settings["log_function"] = self._answered

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> HTTPMessageDelegate:
        """Tornado's hook, called before the request line is read."""
        return _Request(self, self._app.start_request(server_conn, request_conn))

    def on_close(self, server_conn: object) -> None:
        """Tornado's hook."""
        self._app.on_close(server_conn)

    async def drain(self, drain_s: float) -> None:
        """Wait until every request has its answer, at most ``drain_s``."""
        end = asyncio.get_running_loop().time() + drain_s
        while self.in_flight and asyncio.get_running_loop().time() < end:
            await asyncio.sleep(0.02)

    def began(self) -> None:
        """A request's headers are here."""
        self.in_flight += 1
        IN_FLIGHT.set(self.in_flight)

    def ended(self) -> None:
        """It has its answer, or its sender went away while sending it."""
        self.in_flight -= 1
        IN_FLIGHT.set(self.in_flight)

    def _answered(self, handler: RequestHandler) -> None:
        self.ended()
        SECONDS.labels(type(handler).__name__, str(handler.get_status())).observe(handler.request.request_time())


class _Request(HTTPMessageDelegate):
    def __init__(self, counted: Counted, inner: HTTPMessageDelegate) -> None:
        self._counted = counted
        self._inner = inner
        self._is_being_sent = False

    def headers_received(self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders) -> Any:
        self._counted.began()
        self._is_being_sent = True
        return self._inner.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Any:
        return self._inner.data_received(chunk)

    def finish(self) -> None:
        self._is_being_sent = False
        self._inner.finish()

    def on_connection_close(self) -> None:
        if self._is_being_sent:  # no handler was made, so nobody else will say that it ended
            self._counted.ended()
        self._inner.on_connection_close()
