"""Receivers for tests: a web server that plays by a script, and a mail server in this process.

``WebReceiver`` answers each request by the next entry of its script: a status, ``(status, headers, body)``, or one of
``SILENCE`` (it reads and never answers), ``HANG_UP`` (it reads and closes). It keeps what it was sent.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email import message_from_bytes
from email.policy import default
from typing import Any

from aiosmtpd.smtp import SMTP as SmtpServer
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from billing.work.deliveries.records import Delivery, DeliveryAction, DeliveryAttempt, DeliveryState

SILENCE = "silence"
HANG_UP = "hang up"
NOW = datetime(2027, 1, 15, 8, tzinfo=UTC)


@dataclass
class WebReceiver:
    """See the module. then: the answer when the script is over."""

    script: list[Any] = field(default_factory=list)
    then: Any = 204
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks?token=hidden"

    @contextlib.asynccontextmanager
    async def serving(self, tls: Any = None) -> AsyncIterator["WebReceiver"]:
        stopped = asyncio.Event()
        application = Application([("/.*", _Handler, {"receiver": self, "stopped": stopped})], log_function=_quiet)
        server = HTTPServer(application, ssl_options=tls)
        sockets = bind_sockets(0, "127.0.0.1")
        self.port = sockets[0].getsockname()[1]
        server.add_sockets(sockets)
        try:
            yield self
        finally:
            stopped.set()
            server.stop()
            await server.close_all_connections()


class _Handler(RequestHandler):
    def initialize(self, receiver: WebReceiver, stopped: asyncio.Event) -> None:
        self.receiver, self.stopped = receiver, stopped

    async def post(self) -> None:
        headers = {name.lower(): value for name, value in self.request.headers.get_all()}
        self.receiver.requests.append((self.request.path, headers, self.request.body))
        answer = self.receiver.script.pop(0) if self.receiver.script else self.receiver.then
        if answer == SILENCE:
            await self.stopped.wait()
            return
        if answer == HANG_UP:
            self.request.connection.stream.close()
            self._finished = True
            return
        status, more, body = answer if isinstance(answer, tuple) else (answer, {}, b"")
        self.set_status(status)
        self.clear_header("Content-Type")
        for name, value in more.items():
            self.set_header(name, value)
        self.finish(body or None)


def _quiet(_handler: RequestHandler) -> None:
    pass


@dataclass
class MailSink:
    """A mail server. answers: by command (``RCPT``, ``DATA``, ``MAIL``), each taken once; then it takes everything.

    drops: how many letters it takes and closes without an answer.
    """

    answers: dict[str, list[str]] = field(default_factory=dict)
    drops: int = 0
    letters: list[Any] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    port: int = 0

    def _answer(self, command: str) -> str:
        waiting = self.answers.get(command, [])
        return waiting.pop(0) if waiting else "250 OK"

    async def handle_MAIL(self, _server: Any, _session: Any, envelope: Any, address: str, options: Any) -> str:
        envelope.mail_from = address
        return self._answer("MAIL")

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:
        answer = self._answer("RCPT")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: Any, _session: Any, envelope: Any) -> str:
        answer = self._answer("DATA")
        if answer.startswith("250"):
            self.raw.append(envelope.content)
            self.letters.append(message_from_bytes(envelope.content, policy=default))
        if self.drops:
            self.drops -= 1
            server.transport.abort()
        return answer

    @contextlib.asynccontextmanager
    async def serving(self, **options: Any) -> AsyncIterator["MailSink"]:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: SmtpServer(self, hostname="sink.example", **options), "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()


def a_delivery(payload: bytes = b"{}", **more: Any) -> Delivery:
    """A delivery that is being sent for the first time."""
    values = {
        "id": 1, "kind": "webhook", "key": "evt-1:crm", "recipient": "crm", "address": "", "subject": "",
        "order_key": "",
        "headers": {"id": "evt-1"}, "payload": payload, "state": DeliveryState.SENDING, "attempts": 1, "step": 1,
        "first_at": NOW, "attempt_at": NOW, "created_at": NOW,
    }  # fmt: skip
    return Delivery(**{**values, **more})


def an_attempt(time_out_s: float = 5.0) -> DeliveryAttempt:
    return DeliveryAttempt(1, DeliveryAction.SEND, NOW, time_out_s)
