"""The partner port: bytes in, decode, core, encode, bytes out, on Tornado's low-level interface.

Rules. A path is ``/pay/CODE`` and names a partner; what it says is decoded by that partner's protocol. Whatever is not
a request of a known partner becomes an attempt and changes nothing. Every answer is the protocol's own. Limits have
names (`PortOptions`): line, headers, body, time, connections. X-Forwarded-For is believed from trusted proxies only.
Repeats, checks and status questions are recorded as attempts of kind 'repeat' and 'call' while `record_calls` is on.

Does not know: any dialect, SQL.
"""

import asyncio
import contextlib
import ipaddress
import logging
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import responses as STATUS_WORDS
from socket import socket
from typing import Any, Final

from tornado import httputil
from tornado.http1connection import HTTP1Connection
from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream, StreamClosedError

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
from gateway import metrics
from gateway.attempts import AttemptWriter
from gateway.contracts import Binding, Book, Network, book_at, load_book, revision
from gateway.decide import Attempt, Command
from gateway.driver import end_tasks
from gateway.lanes import Connection, Core, CoreOptions, DatabaseAway, at_the_edge

log = logging.getLogger(__name__)

PREFIX: Final = "/pay/"

#: Kinds of attempts by the reason of a request that was none.
_KIND_OF: Final = {Reason.BAD_SIGNATURE: "bad_signature", Reason.BAD_SOURCE: "bad_source"}


@dataclass(frozen=True, slots=True)
class PortOptions:
    """Limits of the partner port by name; sizes in bytes, times in seconds.

    trusted_proxies: networks whose X-Forwarded-For is believed.
    record_calls: whether checks, repeats and status questions are kept as attempts.
    """

    line_max: int = 4_096
    header_max: int = 16_384
    body_max: int = 65_536
    header_timeout_s: float = 15.0
    body_timeout_s: float = 15.0
    connections_max: int = 2_000
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

    def serve(self, raw: RawRequest, answer: Callable[[Reply], None]) -> None:
        """Serve one raw request; ``answer`` is called exactly once, now or later."""
        book = self.book()
        if book is None:
            answer(plain(503, "not ready"))
            return
        binding = book.by_code.get(raw.path[len(PREFIX) :]) if raw.path.startswith(PREFIX) else None
        if binding is None:
            answer(plain(404, "no such address"))
            if raw.path.startswith(PREFIX):
                self._record_stranger(raw)
            return
        if not binding.admits(raw.remote_ip):
            error = DecodeError(Reason.BAD_SOURCE, f"{raw.remote_ip} is not among the partner's addresses")
            self._refuse(binding, raw, error, answer)
            return
        request = binding.protocol.decode(raw, binding.contract, binding.keys, datetime.now(UTC))
        if isinstance(request, DecodeError):
            self._refuse(binding, raw, request, answer)
        elif not binding.contract.active:
            self._finish(binding, raw, request, _plain_result(request, Reason.TEMPORARY), answer)
        elif isinstance(request, Pay | Cancel | Check | Status | Balance):
            self._submit(binding, raw, request, answer)
        elif isinstance(request, Registry):
            task = asyncio.ensure_future(self._answer_registry(binding, raw, request, answer))
            task.add_done_callback(lambda done: done.result())
        else:
            # Confirm and Notify belong to dialects that hold first or push; none is connected yet.
            self._finish(binding, raw, request, _plain_result(request, Reason.UNKNOWN_VERB), answer)

    def _submit(
        self,
        binding: Binding,
        raw: RawRequest,
        request: Pay | Cancel | Check | Status | Balance,
        answer: Callable[[Reply], None],
    ) -> None:
        changes = isinstance(request, Pay | Cancel)
        command = Command(
            request,
            binding.terms,
            actor=f"partner:{binding.contract.partner}",
            remote_ip=raw.remote_ip,
            request_text=binding.protocol.scrub(raw, binding.contract) if changes else "",
        )
        future = self.core.submit(command)
        if future.done():
            self._finish(binding, raw, request, future.result(), answer)
        else:
            future.add_done_callback(lambda done: self._finish_later(binding, raw, request, done.result(), answer))

    def _finish_later(
        self, binding: Binding, raw: RawRequest, request: Request, result: Result, answer: Callable[[Reply], None]
    ) -> None:
        try:
            self._finish(binding, raw, request, result, answer)
        except Exception:
            # Nobody stands above a future's callback: without an answer the connection would wait for ever.
            log.exception("reply_failed", extra={"partner": binding.contract.partner})
            answer(plain(500, "internal error"))

    async def _answer_registry(
        self, binding: Binding, raw: RawRequest, request: Registry, answer: Callable[[Reply], None]
    ) -> None:
        lines = await self.core.registry(binding.contract.partner_id, request.start, request.end)
        reason = Reason.TEMPORARY if lines is None else Reason.OK
        result = Result(Op.REGISTRY, reason, registry=lines or ())
        # Wording a long day takes seconds. In a thread payments are served meanwhile, and the lines are nobody else's.
        reply = await asyncio.to_thread(binding.protocol.encode, result, binding.contract, binding.keys)
        self._finish(binding, raw, request, result, answer, reply)

    def _finish(
        self,
        binding: Binding,
        raw: RawRequest,
        request: Request,
        result: Result,
        answer: Callable[[Reply], None],
        reply: Reply | None = None,
    ) -> None:
        """reply: the result in the partner's words, where it was encoded already."""
        answer(reply or binding.protocol.encode(result, binding.contract, binding.keys))
        op = OP_OF[type(request)]
        metrics.REQUESTS.labels(binding.contract.partner, op.value, result.reason.value).inc()
        kind = _kind_of(request, result)
        if kind is None or (kind in ("call", "repeat") and not self.options.record_calls):
            return
        self.attempts.record(
            Attempt(
                kind=kind,
                reason=result.reason,
                partner_id=binding.contract.partner_id,
                op=op.value,
                code=binding.protocol.code_of(result, binding.contract),
                key=getattr(request, "key", None) or "",
                account_number=getattr(request, "account", None) or result.account or "",
                amount=getattr(request, "amount", None),
                payment_id=result.payment_id,
                remote_ip=raw.remote_ip,
                request_text=binding.protocol.scrub(raw, binding.contract),
            )
        )

    def _refuse(self, binding: Binding, raw: RawRequest, error: DecodeError, answer: Callable[[Reply], None]) -> None:
        result = Result(error.op, error.reason, key=error.key, account=error.account)
        answer(binding.protocol.encode(result, binding.contract, binding.keys))
        partner = binding.contract.partner
        metrics.REQUESTS.labels(partner, error.op.value if error.op else "none", error.reason.value).inc()
        self.attempts.record(
            Attempt(
                kind=_KIND_OF.get(error.reason, "malformed"),
                reason=error.reason,
                partner_id=binding.contract.partner_id,
                op=error.op.value if error.op else "",
                code=binding.protocol.code_of(result, binding.contract),
                detail=error.detail[:500],
                key=(error.key or "")[:64],
                account_number=(error.account or "")[:64],
                remote_ip=raw.remote_ip,
                request_text=binding.protocol.scrub(raw, binding.contract),
            )
        )

    def _record_stranger(self, raw: RawRequest) -> None:
        path = raw.path[:100].encode("ascii", "backslashreplace").decode()
        self.attempts.record(
            Attempt("malformed", Reason.BAD_REQUEST, detail=f"no partner at {path}", remote_ip=raw.remote_ip)
        )


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
        "_is_in_flight",
        "_is_over",
        "_port",
        "_reply",
        "_start",
        "_started_at",
        "_stream",
    )

    def __init__(self, port: PartnerPort, connection: HTTP1Connection) -> None:
        self._port = port
        self._connection = connection
        self._body = b""
        self._reply: Reply | None = None
        self._is_over = False
        self._is_in_flight = False

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
        path, _, query = self._start.path.partition("?")
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
        self._is_in_flight = True
        try:
            self._port.serve(raw, self._answer_in_flight)
        except Exception:
            # Our own mistake: to the partner it is no answer, so he repeats; a broken port would be worse.
            log.exception("exchange_failed", extra={"path": path[:100]})
            self._answer_in_flight(plain(500, "internal error"))

    def on_connection_close(self) -> None:
        """The partner hung up; what was submitted goes on and its repeat finds it."""
        self._is_over = True

    def _answer_in_flight(self, reply: Reply) -> None:
        if self._is_in_flight:
            self._is_in_flight = False
            self._port.in_flight -= 1
        self._answer(reply)

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
        address = getattr(self._connection.context, "address", None)
        return address[0] if isinstance(address, tuple) else ""


def _hang_up_on(stream: IOStream) -> None:
    """A client that does not read its reply holds a connection for ever; nothing else times it out."""
    if stream.writing():
        stream.close()


def client_ip(peer: str, headers: dict[str, str], trusted: Sequence[Network]) -> str:
    """The caller's address: the peer, or, through trusted proxies, the right-most address that is none of them.

    >>> client_ip("10.0.0.1", {"x-forwarded-for": "1.2.3.4, 5.6.7.8"}, [ipaddress.ip_network("10.0.0.0/8")])
    '5.6.7.8'
    """
    if not trusted or not _is_in(peer, trusted):
        return peer
    for hop in reversed(headers.get("x-forwarded-for", "").split(",")):
        hop = hop.strip()
        try:
            ipaddress.ip_address(hop)
        except ValueError:
            return peer
        peer = hop
        if not _is_in(hop, trusted):
            break
    return peer


def _is_in(ip: str, networks: Sequence[Network]) -> bool:
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return False
    return any(address in network for network in networks)


class _LimitedServer(HTTPServer):
    """HTTPServer with a named limit on open connections."""

    connections_max = 0

    def handle_stream(self, stream: IOStream, address: tuple[str, int]) -> None:
        """Close at once what is over the limit: a queue of idle connections helps nobody."""
        if len(self._connections) >= self.connections_max:
            metrics.CONNECTIONS_REFUSED.inc()
            stream.close()
            return
        super().handle_stream(stream, address)


class Gateway:
    """A gateway process: core, book, attempts and port, started and stopped in order."""

    def __init__(self, core_options: CoreOptions, port_options: PortOptions) -> None:
        self.contracts = ContractBook(core_options, port_options)
        self.core = Core(core_options)
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
        server = _LimitedServer(
            self.port,
            ssl_options=tls,
            max_header_size=options.header_max,
            max_body_size=options.body_max,
            max_buffer_size=options.header_max + options.body_max + 65_536,
            idle_connection_timeout=options.header_timeout_s,
            body_timeout=options.body_timeout_s,
        )
        server.connections_max = options.connections_max
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
