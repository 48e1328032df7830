"""One HTTP request to an address that somebody typed: where it may go, and whether it may have arrived.

Rules. The address is judged after its name was resolved, at the very connection: what is not a public unicast address
(private, loopback, link-local, carrier's, reserved, or one of these inside an IPv6 form) is refused unless it lies in a
network that settings allow. Redirects are not followed. Through a proxy the proxy does the resolving and the judging;
what is plainly an address is judged here too. A request that failed before its connection stood was not sent
(`NotReached`); one that got no whole answer afterwards may have arrived (`NoAnswer`). Of an answer the first BODY_MAX
bytes are kept.

Does not know: what is sent, what an answer means.
"""

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tornado.httpclient import HTTPRequest
from tornado.httputil import HTTPHeaders
from tornado.iostream import IOStream, StreamClosedError
from tornado.netutil import Resolver
from tornado.simple_httpclient import HTTPStreamClosedError, HTTPTimeoutError, SimpleAsyncHTTPClient
from tornado.tcpclient import TCPClient

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

BODY_MAX: Final = 64 * 1024
#: A longer answer is cut off, and counts as none.
ANSWER_MAX: Final = 4 * 1024 * 1024
CONNECT_TIMEOUT_S: Final = 10.0
USER_AGENT: Final = "Kopeck-Webhooks/1"
_PROXY_REPLY_MAX: Final = 8 * 1024


class NotReached(Exception):
    """Nothing was sent: no such name, an address that is not allowed, no connection, no TLS. The message says why."""


class NoAnswer(Exception):
    """It was sent, or some of it, and no whole answer came."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """An answer. headers: names in lower case. body: its first BODY_MAX bytes."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class OutboundHttp:
    """Requests of one process. ``close`` it."""

    def __init__(self, allowed: Sequence[Network] = (), proxy: str = "", connections_max: int = 500) -> None:
        """allowed: networks that are no public ones and may be sent to. proxy: HOST:PORT of an HTTP proxy, or ""."""
        resolver = _GuardedResolver(allowed=tuple(allowed))
        self._client = SimpleAsyncHTTPClient(
            force_instance=True, max_clients=connections_max, resolver=resolver, max_body_size=ANSWER_MAX
        )
        self._client.tcp_client = _ThroughProxy(proxy, tuple(allowed)) if proxy else _SayingClient(resolver=resolver)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes, time_out_s: float) -> HttpAnswer:
        """Send once.

        Raises:
            NotReached, NoAnswer: as they say.
        """
        kept = bytearray()

        def keep(chunk: bytes) -> None:
            kept.extend(chunk[: BODY_MAX - len(kept)])

        request = HTTPRequest(
            url,
            "POST",
            headers=HTTPHeaders(dict(headers)),
            body=body,
            connect_timeout=0,
            request_timeout=time_out_s,
            follow_redirects=False,
            user_agent=USER_AGENT,
            decompress_response=False,
            streaming_callback=keep,
        )
        try:
            answer = await self._client.fetch(request, raise_error=False)
        except NotReached:
            raise
        except HTTPTimeoutError as error:
            raise NoAnswer(f"no answer within {time_out_s:g} s") from error
        except (HTTPStreamClosedError, OSError) as error:
            raise NoAnswer(f"the connection broke off: {error}") from error
        told = {name.lower(): value for name, value in answer.headers.get_all()}
        return HttpAnswer(answer.code, told, bytes(kept))

    def close(self) -> None:
        """Give its connections up."""
        self._client.close()


def is_public(address: str) -> bool:
    """Whether an IP address is a public unicast one, also where it hides inside another form.

    >>> [is_public(address) for address in ("8.8.8.8", "10.1.2.3", "169.254.169.254", "::ffff:10.0.0.1")]
    [True, False, False, False]
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    inner: Any = None
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if inner is None and found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
    return _is_public(found if inner is None else inner)


def is_allowed(address: str, allowed: Sequence[Network]) -> bool:
    """Whether it may be connected to."""
    found = ipaddress.ip_address(address.partition("%")[0])
    return is_public(address) or any(found in network for network in allowed if network.version == found.version)


_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.is_global and not address.is_multicast and not address.is_reserved and not address.is_unspecified


class _GuardedResolver(Resolver):
    """Names to those of their addresses that may be connected to."""

    def initialize(self, allowed: tuple[Network, ...]) -> None:
        """Tornado's hook instead of a constructor."""
        self._allowed = allowed

    async def resolve(
        self, host: str, port: int, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[tuple[int, Any]]:
        """(family, address) pairs. Raises NotReached where there is none that may be connected to."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise NotReached(f"the name {host[:100]} does not resolve: {error}") from error
        addresses: list[tuple[int, Any]] = [(kind, address) for kind, _, _, _, address in found]
        usable = [(kind, address) for kind, address in addresses if is_allowed(address[0], self._allowed)]
        if not usable:
            shown = ", ".join(sorted({str(address[0]) for _, address in addresses}))
            raise NotReached(f"{host[:100]} is {shown}: no public address (deliveries.webhook_networks allows others)")
        return usable


class _SayingClient(TCPClient):
    """Connections whose failures say that nothing was sent."""

    async def connect(self, host: str, port: int, *args: Any, **kwargs: Any) -> IOStream:
        """Tornado's interface. Raises NotReached."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await super().connect(host, port, *args, **{**kwargs, "timeout": None})
        except (TimeoutError, OSError, StreamClosedError) as error:
            raise NotReached(f"no connection to {host[:100]}:{port}: {_words(error)}") from error


class _ThroughProxy(TCPClient):
    """Connections through an HTTP proxy that is asked to CONNECT, also for plain HTTP."""

    def __init__(self, proxy: str, allowed: tuple[Network, ...]) -> None:
        super().__init__()
        self._host, _, port = proxy.rpartition(":")
        self._port = int(port)
        self._allowed = allowed

    async def connect(self, host: str, port: int, *args: Any, **kwargs: Any) -> IOStream:
        """Tornado's interface. Raises NotReached."""
        self._judge(host)
        ssl_options = kwargs.get("ssl_options")
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                stream = await super().connect(self._host, self._port, max_buffer_size=kwargs.get("max_buffer_size"))
                name = f"[{host}]" if ":" in host else host
                await stream.write(f"CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\n\r\n".encode("ascii"))
                reply = await stream.read_until(b"\r\n\r\n", max_bytes=_PROXY_REPLY_MAX)
                status = reply.split(b" ", 2)[1:2]
                if status != [b"200"]:
                    stream.close()
                    raise NotReached(f"the proxy refused {host[:100]}:{port}: {reply.splitlines()[0][:100]!r}")
                if ssl_options is None:
                    return stream
                return await stream.start_tls(False, ssl_options, server_hostname=host)
        except (TimeoutError, OSError, StreamClosedError, UnicodeError, IndexError) as error:
            raise NotReached(f"no connection to {host[:100]}:{port} by the proxy: {_words(error)}") from error

    def _judge(self, host: str) -> None:
        try:
            allowed = is_allowed(host, self._allowed)
        except ValueError:
            return  # a name: the proxy resolves and judges it
        if not allowed:
            raise NotReached(f"{host[:100]} is no public address (deliveries.webhook_networks allows others)")


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"none within {CONNECT_TIMEOUT_S:g} s"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if isinstance(error, StreamClosedError) and error.real_error is not None:
        return _words(error.real_error)
    return str(error) or type(error).__name__
