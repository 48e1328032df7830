"""Connections of the partner port: the address at the other end, limits on their number, half-closed ones.

Rules. X-Forwarded-For is believed from trusted proxies only. What is over a limit is closed at once. The end of a
client's input is no end of its connection while a reply is being made.

Does not know: requests.
"""

import ipaddress
from collections.abc import Sequence
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream, SSLIOStream

from gateway import metrics
from gateway.contracts import Network


def client_ip(peer: str, headers: dict[str, str], trusted: Sequence[Network]) -> str:
    """The caller's address: the peer, or, through trusted proxies, the right-most address that is none of them.

    Empty where a trusted proxy says something that is no address: then the caller is not known, and no contract that
    lists addresses lets it in.

    >>> client_ip("10.0.0.1", {"x-forwarded-for": "1.2.3.4, 5.6.7.8"}, [ipaddress.ip_network("10.0.0.0/8")])
    '5.6.7.8'
    """
    if not trusted or not _is_in(peer, trusted):
        return peer
    forwarded = headers.get("x-forwarded-for", "").strip()
    for hop in reversed(forwarded.split(",") if forwarded else []):
        hop = hop.strip()
        try:
            ipaddress.ip_address(hop)
        except ValueError:
            return ""
        peer = hop
        if not _is_in(hop, trusted):
            break
    return peer


def _is_in(ip: str, networks: Sequence[Network]) -> bool:
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # what a peer of IPv4 is called on a port that listens on ::
    return any(address in network for network in networks)


class _HalfClosableStream(IOStream):
    """A stream whose other side may stop sending and still read: ``nc -N``, and clients that shut down their half.

    Tornado closes at the end of input even while a reply is being made. Here the end of input counts when it is read
    for: before that it is left in the socket, and the socket is watched for nothing but writing.
    """

    _has_ended = False

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        """Tornado's hook; None is "nothing now"."""
        count = super().read_from_fd(buf)
        if count == 0 and not self.reading():
            self._has_ended = True
            return None
        return count

    def _handle_events(self, fd: int | Any, events: int) -> None:
        super()._handle_events(fd, events)
        if self._has_ended and not self.closed() and self._state is not None and self._state & IOLoop.READ:
            # Else an input that has ended would wake the loop without end.
            self._state &= ~IOLoop.READ
            self.io_loop.update_handler(self.fileno(), self._state)


class LimitedServer(HTTPServer):
    """HTTPServer with named limits on open connections."""

    connections_max = 0
    #: Connections of one address; trusted proxies speak for many and have no such limit.
    connections_per_address_max = 0
    trusted_proxies: Sequence[Network] = ()

    def handle_stream(self, stream: IOStream, address: tuple[str, int]) -> None:
        """Close at once what is over a limit: a queue of idle connections is of no use."""
        if len(self._connections) >= self.connections_max or self._has_enough(address):
            metrics.CONNECTIONS_REFUSED.inc()
            stream.close()
            return
        if not isinstance(stream, SSLIOStream):
            stream = _HalfClosableStream(
                stream.socket, max_buffer_size=self.max_buffer_size, read_chunk_size=self.read_chunk_size
            )
        super().handle_stream(stream, address)

    def _has_enough(self, address: tuple[str, int]) -> bool:
        ip = ip_of(address)
        if len(self._connections) < self.connections_per_address_max or _is_in(ip, self.trusted_proxies):
            return False
        theirs = sum(ip_of(getattr(connection.context, "address", None)) == ip for connection in self._connections)
        return theirs >= self.connections_per_address_max


def ip_of(address: object) -> str:
    """The IP of a socket's address; empty where it has none, as a unix socket's."""
    return str(address[0]) if isinstance(address, tuple) else ""
