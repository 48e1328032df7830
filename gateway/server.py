"""The partner port: bytes in, decode, core, encode, bytes out, on Tornado's low-level interface.

Rules. A path is ``/pay/CODE`` and names a partner; what it says is decoded by that partner's protocol. Whatever is not
a request of a known partner becomes an attempt and changes nothing. Every answer is the protocol's own. Limits have
names (`PortOptions`): line, headers, body, time, connections. X-Forwarded-For is believed from trusted proxies only.
Repeats, checks and status questions are recorded as attempts of kind 'repeat' and 'call' while `record_calls` is on.
A caller that has not proved that it is a partner costs little (gateway.strangers, docs/operators.md): nothing of its
request is scrubbed here, and a refusal without an id in it is made and signed once.

A request is a coroutine of its own from end to end. Callbacks through six methods were no cheaper: 4,000 OSMP pays over
32 connections, six runs each in turn, took 337 to 380 us of a gateway's processor time per pay with them and 310 to 368
without, which is within the noise of the busy machine this was measured on.

Does not know: any dialect, SQL.
"""

import asyncio
import contextlib
import logging
import re
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from http.client import responses as STATUS_WORDS
from socket import socket
from typing import Any, Final

from tornado import httputil
from tornado.http1connection import HTTP1Connection
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream, StreamClosedError

from adapters.cards import mask_cards
from adapters.messages import (
    OP_OF,
    Balance,
    Cancel,
    Check,
    DecodeError,
    Op,
    Pay,
    RawRequest,
    Reason,
    Registry,
    Reply,
    Request,
    Result,
    Status,
)
from adapters.wire import MAX_SCRUBBED, cut_request
from gateway import metrics
from gateway.attempts import AttemptWriter
from gateway.connections import LimitedServer, client_ip, ip_of
from gateway.contracts import Binding, Book, Network, book_at, load_book, revision
from gateway.decide import Attempt, Command
from gateway.driver import end_tasks
from gateway.lanes import Connection, Core, CoreOptions, DatabaseAway, at_the_edge
from gateway.strangers import STRANGER_PAUSE_S, STRANGER_TEXT, Text

log = logging.getLogger(__name__)

PREFIX: Final = "/pay/"

#: Kinds of attempts by the reason of a request that was none.
_KIND_OF: Final = {Reason.BAD_SIGNATURE: "bad_signature", Reason.BAD_SOURCE: "bad_source"}


@dataclass(frozen=True, slots=True)
class PortOptions:
    """Limits of the partner port by name; sizes in bytes, times in seconds.

    connections_per_address_max: of one address that is no trusted proxy; 0: half of connections_max.
    trusted_proxies: networks whose X-Forwarded-For is believed.
    record_calls: whether checks, repeats and status questions are kept as attempts.
    """

    line_max: int = 4_096
    header_max: int = 16_384
    body_max: int = 65_536
    header_timeout_s: float = 15.0
    body_timeout_s: float = 15.0
    connections_max: int = 2_000
    connections_per_address_max: int = 0
    contracts_poll_s: float = 1.0
    trusted_proxies: tuple[Network, ...] = ()
    record_calls: bool = True
    key_passphrase: str = field(default="", repr=False)
    tls_cert: str = ""
    tls_key: str = ""


class ContractBook:
    """The book as it stands now, kept fresh by polling one number."""

    def __init__(self, core_options: CoreOptions, port_options: PortOptions) -> None:
        self._connection = Connection(core_options)
        self._options = port_options
        self._task: asyncio.Task[None] | None = None
        self.book: Book | None = None

    async def start(self) -> None:
        """Read the book, waiting for the database as long as it takes, and keep reading."""
        while self.book is None:
            await self._refresh()
            if self.book is None:
                await asyncio.sleep(0.5)
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop polling."""
        if self._task is not None:
            await end_tasks([self._task])
        await self._connection.discard()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._options.contracts_poll_s)
            try:
                await self._refresh()
            except Exception:
                # A poll that dies would freeze contracts for ever; the next one may do better.
                log.exception("contracts_not_read")

    async def _refresh(self) -> None:
        now = datetime.now(UTC)
        try:
            current = await at_the_edge(self._connection, revision)
            if self.book is None or current != self.book.revision:
                passphrase = self._options.key_passphrase
                self.book = await at_the_edge(self._connection, lambda cur: _read_book(cur, passphrase, now))
                metrics.BROKEN_PARTNERS.set(len(self.book.broken))
                log.info("contracts_loaded", extra={"revision": current, "partners": len(self.book.by_code)})
        except DatabaseAway as error:
            log.warning("contracts_not_read", extra={"error": str(error)})
        if self.book is not None:
            self.book = book_at(self.book, now)


async def _read_book(cur: Any, passphrase: str, now: datetime) -> Book:
    """In one snapshot: a change between two of its queries would pair new contracts with old keys."""
    await cur.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    book = await load_book(cur, passphrase, now)
    await cur.execute("COMMIT")
    return book


class PartnerPort(httputil.HTTPServerConnectionDelegate):
    """Turns HTTP exchanges into commands for the core."""

    def __init__(
        self, core: Core, book: Callable[[], Book | None], attempts: AttemptWriter, options: PortOptions
    ) -> None:
        self.core = core
        self.book = book
        self.attempts = attempts
        self.options = options
        self.in_flight = 0

    def start_request(self, server_conn: object, request_conn: httputil.HTTPConnection) -> httputil.HTTPMessageDelegate:
        """Tornado's hook: one Exchange for each request."""
        assert isinstance(request_conn, HTTP1Connection)
        return Exchange(self, request_conn)

    async def serve(self, raw: RawRequest) -> Reply:
        """The reply to one raw request: find the partner, decode, decide, put on record, encode."""
        book = self.book()
        if book is None:
            return plain(503, "not ready")
        binding = book.by_code.get(raw.path[len(PREFIX) :]) if raw.path.startswith(PREFIX) else None
        if binding is None:
            if raw.path.startswith(PREFIX):
                await self._note_unknown_path(raw)
            return plain(404, "no such address")
        if not binding.admits(raw.remote_ip):
            foreign = DecodeError(Reason.BAD_SOURCE, f"{raw.remote_ip} is not among the partner's addresses")
            return await self._refuse(binding, raw, foreign)
        request = binding.protocol.decode(raw, binding.contract, binding.keys, datetime.now(UTC))
        if isinstance(request, DecodeError):
            return await self._refuse(binding, raw, request)
        text = _kept_text(binding, raw, request) if isinstance(request, Pay | Cancel) else None
        result = await self._result(binding, raw, request, text or "")
        if isinstance(request, Registry):
            # Wording a long day takes seconds. In a thread payments are served meanwhile.
            reply = await asyncio.to_thread(binding.protocol.encode, result, binding.contract, binding.keys)
        else:
            reply = binding.protocol.encode(result, binding.contract, binding.keys)
        metrics.REQUESTS.labels(binding.contract.partner, OP_OF[type(request)].value, result.reason.value).inc()
        self._note(binding, raw, request, result, text)
        return reply

    async def _result(self, binding: Binding, raw: RawRequest, request: Request, text: str) -> Result:
        """What the core says. text: the scrubbed request, kept with the event it causes."""
        contract = binding.contract
        if not contract.active:
            return _plain_result(request, Reason.TEMPORARY)
        if isinstance(request, Pay | Cancel | Check | Status | Balance):
            return await self.core.submit(
                Command(request, binding.terms, f"partner:{contract.partner}", raw.remote_ip, text)
            )
        if isinstance(request, Registry):
            lines = await self.core.registry(contract.partner_id, request.start, request.end)
            return Result(Op.REGISTRY, Reason.TEMPORARY if lines is None else Reason.OK, registry=lines or ())
        # Confirm and Notify belong to dialects that hold first or push; none is connected yet.
        return _plain_result(request, Reason.UNKNOWN_VERB)

    def _note(self, binding: Binding, raw: RawRequest, request: Request, result: Result, text: str | None) -> None:
        """Put an answered request on record, unless a payment's event or a conflict is its record."""
        kind = _kind_of(request, result)
        if kind is None or (kind in ("call", "repeat") and not self.options.record_calls):
            return
        attempt = Attempt(
            kind=kind,
            reason=result.reason,
            partner_id=binding.contract.partner_id,
            op=OP_OF[type(request)].value,
            code=binding.protocol.code_of(result, binding.contract),
            key=getattr(request, "key", None) or "",
            account_number=getattr(request, "account", None) or result.account or "",
            amount=getattr(request, "amount", None),
            payment_id=result.payment_id,
            remote_ip=raw.remote_ip,
            request_text=text or "",
        )
        self.attempts.record(attempt, _later(binding, raw, MAX_SCRUBBED) if text is None else None)

    async def _refuse(self, binding: Binding, raw: RawRequest, error: DecodeError) -> Reply:
        """Put on record and answer what is no request; little is kept of a caller that proved nothing."""
        result = Result(error.op, error.reason, key=error.key, account=error.account)
        op = error.op.value if error.op else ""
        metrics.REQUESTS.labels(binding.contract.partner, op or "none", error.reason.value).inc()
        attempt = Attempt(
            kind=_KIND_OF.get(error.reason, "malformed"),
            reason=error.reason,
            partner_id=binding.contract.partner_id,
            op=op,
            code=binding.protocol.code_of(result, binding.contract),
            detail=error.detail[:500],
            key=(error.key or "")[:64],
            account_number=(error.account or "")[:64],
            remote_ip=raw.remote_ip,
        )
        if error.is_proven:
            self.attempts.record(attempt, _later(binding, raw, MAX_SCRUBBED))
        else:
            await self._note_stranger(attempt, _later(binding, raw, STRANGER_TEXT))
        return binding.refusal(result)

    async def _note_unknown_path(self, raw: RawRequest) -> None:
        path = raw.path[:100].encode("ascii", "backslashreplace").decode()
        await self._note_stranger(
            Attempt("malformed", Reason.BAD_REQUEST, detail=f"no partner at {path}", remote_ip=raw.remote_ip)
        )

    async def _note_stranger(self, attempt: Attempt, text: Text | None = None) -> None:
        """Put a stranger's call on record. In a flood the answer waits, so that a connection asks twice a second."""
        if not self.attempts.record_stranger(attempt, text):
            await asyncio.sleep(STRANGER_PAUSE_S)


def _kept_text(binding: Binding, raw: RawRequest, request: Pay | Cancel) -> str:
    """The scrubbed request; gateway.decide masks a card's number in the account's place."""
    known = [number for number in (request.key, getattr(request, "account", None)) if number]
    return mask_cards(binding.protocol.scrub(raw, binding.contract), known)


def _later(binding: Binding, raw: RawRequest, most: int) -> Text:
    """Makes a masked copy of at most ``most`` characters; until then no more of the request is held than it needs."""
    cut = cut_request(raw, most)
    return partial(binding.protocol.scrub, cut, binding.contract, most)


def _kind_of(request: Request, result: Result) -> str | None:
    """What kind of attempt an answered request is; None when a payment's own event or a conflict records it."""
    if result.reason is Reason.CONFLICT:
        return None
    if result.reason is Reason.TEMPORARY:
        return "overload"
    if isinstance(request, Pay):
        return None if result.reason is Reason.OK else "repeat" if result.payment_id is not None else "refusal"
    if isinstance(request, Cancel):
        return None if result.reason is Reason.OK else "refusal"
    return "call" if result.reason is Reason.OK else "refusal"


def _plain_result(request: Request, reason: Reason) -> Result:
    return Result(
        OP_OF[type(request)], reason, key=getattr(request, "key", None), account=getattr(request, "account", None)
    )


def plain(status: int, text: str) -> Reply:
    """An answer to what no protocol can answer."""
    return Reply(f"{text}\n".encode(), "text/plain; charset=utf-8", status)


class Exchange(httputil.HTTPMessageDelegate):
    """One request and its reply on one connection."""

    __slots__ = (
        "_body",
        "_connection",
        "_headers",
        "_is_over",
        "_port",
        "_reply",
        "_start",
        "_started_at",
        "_stream",
        "_task",
    )

    def __init__(self, port: PartnerPort, connection: HTTP1Connection) -> None:
        self._port = port
        self._connection = connection
        self._body = b""
        self._reply: Reply | None = None
        self._is_over = False

    def headers_received(self, start_line: Any, headers: httputil.HTTPHeaders) -> None:
        """Refuse what is not GET or POST, or too long a line, before the body is read."""
        self._start = start_line
        self._headers = headers
        self._stream = self._connection.stream
        if start_line.method not in ("GET", "POST"):
            self._reply = plain(405, "GET or POST")
        elif len(start_line.path) > self._port.options.line_max:
            self._reply = plain(414, "request line too long")

    def data_received(self, chunk: bytes) -> None:
        """Tornado has checked the body's size already."""
        self._body += chunk

    def finish(self) -> None:
        """The request is whole."""
        self._started_at = asyncio.get_running_loop().time()
        if self._reply is not None:
            self._answer(self._reply)
            return
        path, _, query = origin_form(self._start.path).partition("?")
        headers = {name.lower(): value for name, value in self._headers.items()}
        raw = RawRequest(
            method=self._start.method,
            path=path,
            query=query.encode("latin-1"),
            body=self._body,
            headers=headers,
            remote_ip=client_ip(self._peer(), headers, self._port.options.trusted_proxies),
        )
        self._port.in_flight += 1
        self._task = asyncio.create_task(self._serve(raw))

    async def _serve(self, raw: RawRequest) -> None:
        try:
            reply = await self._port.serve(raw)
        except Exception:
            # Our own mistake: to the partner it is no answer, so it repeats; a broken port would be worse.
            log.exception("exchange_failed", extra={"path": raw.path[:100]})
            reply = plain(500, "internal error")
        finally:
            self._port.in_flight -= 1
        self._answer(reply)

    def on_connection_close(self) -> None:
        """The partner hung up; what was submitted goes on and its repeat finds it."""
        self._is_over = True

    def _answer(self, reply: Reply) -> None:
        if self._is_over:
            return
        self._is_over = True
        headers = httputil.HTTPHeaders({"Content-Type": reply.content_type, "Content-Length": str(len(reply.body))})
        for name, value in reply.headers:
            headers.add(name, value)
        line = httputil.ResponseStartLine("HTTP/1.1", reply.status, STATUS_WORDS.get(reply.status, "Unknown"))
        body = b"" if self._start.method == "HEAD" else reply.body
        with contextlib.suppress(StreamClosedError):
            self._connection.write_headers(line, headers, body)
            self._connection.finish()
            if self._stream.writing():
                asyncio.get_running_loop().call_later(self._port.options.body_timeout_s, _hang_up_on, self._stream)
        metrics.REPLY_SECONDS.observe(asyncio.get_running_loop().time() - self._started_at)

    def _peer(self) -> str:
        return ip_of(getattr(self._connection.context, "address", None))


_ABSOLUTE: Final = re.compile("https?://[^/?]*", re.IGNORECASE)


def origin_form(target: str) -> str:
    """Path and query of a request target. A server takes the absolute form too (RFC 9112, 3.2.2).

    >>> origin_form("http://pay.example/pay/osmp?command=check")
    '/pay/osmp?command=check'
    """
    absolute = _ABSOLUTE.match(target)
    if absolute is None:
        return target
    rest = target[absolute.end() :]
    return rest if rest.startswith("/") else f"/{rest}"


def _hang_up_on(stream: IOStream) -> None:
    """A client that does not read its reply holds a connection for ever; nothing else times it out."""
    if stream.writing():
        stream.close()


class Gateway:
    """A gateway process: core, book, attempts and port, started and stopped in order."""

    def __init__(self, core_options: CoreOptions, port_options: PortOptions) -> None:
        self.contracts = ContractBook(core_options, port_options)
        self.core = Core(core_options, lambda: self.contracts.book.by_partner_id if self.contracts.book else {})
        self.attempts = AttemptWriter(core_options)
        self.port = PartnerPort(self.core, lambda: self.contracts.book, self.attempts, port_options)
        self._options = port_options
        self._server: HTTPServer | None = None

    @property
    def is_ready(self) -> bool:
        """Whether partners can be served."""
        return self.contracts.book is not None and self._server is not None and self.core.is_ready

    async def prepare(self) -> None:
        """Read contracts, waiting for the database as long as it takes, and start the lanes.

        Bind no socket before this is over: a connection in our backlog would wait with us, and not reach a sibling
        that shares the port.
        """
        await self.contracts.start()
        self.core.start()
        self.attempts.start()

    def listen(self, sockets: Sequence[socket]) -> None:
        """Serve partners on ``sockets``."""
        options = self._options
        tls = None
        if options.tls_cert:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.load_cert_chain(options.tls_cert, options.tls_key or None)
        server = LimitedServer(
            self.port,
            ssl_options=tls,
            max_header_size=options.header_max,
            max_body_size=options.body_max,
            max_buffer_size=options.header_max + options.body_max + 65_536,
            idle_connection_timeout=options.header_timeout_s,
            body_timeout=options.body_timeout_s,
        )
        server.connections_max = options.connections_max
        server.connections_per_address_max = options.connections_per_address_max or max(options.connections_max // 2, 1)
        server.trusted_proxies = options.trusted_proxies
        server.add_sockets(list(sockets))
        self._server = server

    async def stop(self, drain_s: float = 20.0) -> None:
        """Listen no more, answer what is in flight, write what is buffered, close."""
        if self._server is not None:
            self._server.stop()
        loop = asyncio.get_running_loop()
        end = loop.time() + drain_s
        while self.port.in_flight and loop.time() < end:
            await asyncio.sleep(0.01)
        await self.core.stop(max(end - loop.time(), 0.1))
        if self._server is not None:
            await self._server.close_all_connections()
        await self.attempts.stop()
        await self.contracts.stop()
