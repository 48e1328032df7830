"""The bench's load generator: keep-alive connections that send prepared requests as fast as answers come back.

A closed loop over epoll in a process of its own: each connection sends, waits for the whole answer, notes how long
that took, and sends the next. Requests are prepared by the caller, so that neither building nor signing them costs
anything while the clock runs. What is left is about 15 microseconds of Python a request, and that is reported too:
``ceiling_per_s`` is what this generator could do if the server cost nothing.

Rules. A reply counts as good when it holds the bytes the caller named. A broken connection ends the run with an error:
a bench whose server fails has no figure.

Does not know: protocols, HTTP beyond Content-Length, why it is run.

    python -m loadtests.generator HOST PORT CONNECTIONS SECONDS GOOD < requests
"""

import json
import select
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from loadtests.figures import BenchError

#: Requests stand in the input one after the other, each ended by this; no request of ours holds it.
SEPARATOR: Final = b"\0\n"
SILENCE_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Run:
    """What one run measured. Latencies in milliseconds; good: replies that hold what they should."""

    count: int
    good: int
    seconds: float
    p50_ms: float
    p99_ms: float
    ceiling_per_s: float
    is_exhausted: bool

    @property
    def per_s(self) -> float:
        return self.good / self.seconds


class _Connection:
    """One socket with the request in flight on it."""

    __slots__ = ("buffer", "missing", "sent_at", "socket")

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=5)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.buffer = b""
        self.missing = 0
        self.sent_at = 0.0

    def send(self, request: bytes, now: float) -> None:
        self.buffer, self.missing, self.sent_at = b"", 0, now
        if self.socket.send(request) != len(request):
            raise BenchError("a request did not fit the socket's buffer")

    def receive(self) -> bytes | None:
        """The whole reply once it is there."""
        data = self.socket.recv(65_536)
        if not data:
            raise BenchError("the server closed a connection")
        self.buffer += data
        if not self.missing:
            head = self.buffer.find(b"\r\n\r\n")
            if head < 0:
                return None
            self.missing = head + 4 + content_length(self.buffer[:head])
        return self.buffer if len(self.buffer) >= self.missing else None


def content_length(head: bytes) -> int:
    """The length a reply's head announces.

    >>> content_length(b"HTTP/1.1 200 OK\\r\\nContent-Length: 12")
    12
    """
    _, _, rest = head.lower().partition(b"\r\ncontent-length:")
    if not rest:
        raise BenchError(f"a reply without Content-Length: {head[:200]!r}")
    return int(rest.partition(b"\r\n")[0])


def drive(address: tuple[str, int], connections: int, seconds: float, good: bytes, requests: Sequence[bytes]) -> Run:
    """Run the closed loop until the time or the requests are over."""
    poll = select.epoll()
    todo = iter(requests)
    latencies: list[float] = []
    count_good = 0
    opened: dict[int, _Connection] = {}
    for _ in range(connections):
        connection = _Connection(address)
        opened[connection.socket.fileno()] = connection
        poll.register(connection.socket.fileno(), select.EPOLLIN)
    started_at, cpu_at = time.perf_counter(), time.process_time()
    end = started_at + seconds
    waiting = sum(_send_next(connection, todo, started_at) for connection in opened.values())
    while waiting:
        ready = poll.poll(SILENCE_S)
        if not ready:
            raise BenchError(f"no reply for {SILENCE_S:.0f} s")
        for number, _ in ready:
            connection = opened[number]
            reply = connection.receive()
            if reply is None:
                continue
            now = time.perf_counter()
            latencies.append(now - connection.sent_at)
            count_good += good in reply
            if now >= end or not _send_next(connection, todo, now):
                waiting -= 1
    took, cpu = time.perf_counter() - started_at, time.process_time() - cpu_at
    for connection in opened.values():
        connection.socket.close()
    return _run(latencies, count_good, took, cpu, next(todo, None) is None)


def _send_next(connection: _Connection, todo: Iterator[bytes], now: float) -> bool:
    request = next(todo, None)
    if request is None:
        return False
    connection.send(request, now)
    return True


def _run(latencies: list[float], good: int, took: float, cpu: float, is_exhausted: bool) -> Run:
    if not latencies:
        raise BenchError("not one reply")
    latencies.sort()
    return Run(
        count=len(latencies),
        good=good,
        seconds=took,
        p50_ms=1000 * quantile(latencies, 50),
        p99_ms=1000 * quantile(latencies, 99),
        ceiling_per_s=len(latencies) / max(cpu, 1e-9),
        is_exhausted=is_exhausted,
    )


def quantile(ordered: Sequence[float], percent: int) -> float:
    """The value that ``percent`` of the ordered values do not exceed.

    >>> quantile([1.0, 2.0, 3.0, 4.0], 50)
    2.0
    """
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def main() -> None:
    host, port, connections, seconds, good = sys.argv[1:]
    requests = sys.stdin.buffer.read().split(SEPARATOR)[:-1]
    try:
        run = drive((host, int(port)), int(connections), float(seconds), good.encode(), requests)
    except (BenchError, OSError) as error:
        sys.exit(f"generator: {error}")
    print(json.dumps({name: getattr(run, name) for name in Run.__slots__}))


if __name__ == "__main__":
    main()
