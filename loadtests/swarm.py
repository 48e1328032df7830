"""Locust's part: users who each tell one story after the other until the deck is empty.

Runs headless as a process of its own, ``python -m loadtests.swarm ORDER``: an order is a JSON file that says whom to
call, as whom, and how much (`Order`). Users speak HTTP over raw sockets, since they must be able to do what HTTP
libraries are made to prevent: leave after sending, break a connection by reset, send what is no HTTP. Every exchange
is an event of Locust's and counted in its statistics.

The order's deck is told to its end, and stories like it are added for as long as standard input stays open: whoever
started the swarm closes it when nothing more is to happen. Standard output gets a line of JSON twice a second,
``{"told": n}``, and at the end ``{"told": n, "kinds": {...}, "stats": [...]}``.

Does not know: what the provider should have answered.
"""

import json
import os
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import gevent
import msgspec
from gevent import socket as gsocket
from locust import User, constant, task
from locust.env import Environment
from locust.exception import StopUser

from loadtests.partners import SILENCE, Heard, Line, Meaning, Partner, http_request, open_line, read_reply
from loadtests.record import FORGED, GOOD, Recorder, Sent
from loadtests.stories import Story, deal, tell

ANSWER_TIMEOUT_S: Final = 30.0
#: Stories of each further deck.
MORE: Final = 200
CONNECT_TIMEOUT_S: Final = 5.0


class Order(msgspec.Struct, frozen=True):
    """What the swarm is to do; record: the file that it appends to."""

    host: str
    port: int
    partners: list[Partner]
    accounts: list[str]
    payments: int
    users: int
    seed: int
    record: str


class Caller:
    """One user's connection: kept alive, opened anew after whatever went wrong. What a story is told over."""

    def __init__(self, environment: Environment, address: tuple[str, int], recorder: Recorder) -> None:
        self._environment = environment
        self._address = address
        self._recorder = recorder
        self._socket: Any = None
        self._left = 0

    def exchange(self, line: Line, sent: Sent, query: bytes, *, hang_up: bool = False) -> Heard:
        """Write down, send, hear, write down. ``hang_up``: leave before the answer, each time in another way."""
        request = http_request(line, query, is_forged=sent.form == FORGED)
        number = self._recorder.sent(sent)
        started_at = time.perf_counter()
        try:
            if hang_up:
                self._leave(request)
                self._fire(line, sent, started_at, "left")
                return SILENCE
            status, body = self._ask(request)
            heard = read_reply(line, sent.op, status, body)
        except (OSError, ValueError):
            self.close()
            heard = SILENCE
        if heard.meaning is not Meaning.SILENCE:
            self._recorder.heard(number, heard)
        self._fire(line, sent, started_at, is_answered=heard.meaning is not Meaning.SILENCE)
        return heard

    def raw(self, line: Line, sent: Sent, request: bytes) -> Heard:
        """Send bytes on a connection that is then given up; any 4xx or a closed connection is the right answer."""
        number = self._recorder.sent(sent)
        started_at = time.perf_counter()
        heard = SILENCE
        self.close()
        try:
            status, _ = self._ask(request)
            if 400 <= status < 500:
                heard = Heard(Meaning.REFUSED, status)
            elif status < 400:
                heard = Heard(Meaning.DONE, status)
        except (OSError, ValueError):
            pass  # closed without a word, which is right too
        self.close()
        if heard.meaning is not Meaning.SILENCE:
            self._recorder.heard(number, heard)
        self._fire(line, sent, started_at, "broken")
        return heard

    def together(self, calls: Sequence[Callable[["Caller"], None]]) -> None:
        """Make calls at the same time, each over a connection of its own."""
        callers = [Caller(self._environment, self._address, self._recorder) for _ in calls]
        for caller in callers:
            caller.connect()
        gevent.joinall(
            [gevent.spawn(call, caller) for call, caller in zip(calls, callers, strict=True)], raise_error=True
        )
        for caller in callers:
            caller.close()

    def pause(self, seconds: float) -> None:
        """Let the other users go on."""
        gevent.sleep(seconds)

    def now(self) -> float:
        """A clock that only goes forward."""
        return time.monotonic()

    def connect(self) -> None:
        """Open the connection if there is none; a provider that is away is found out when something is sent."""
        if self._socket is None:
            try:
                self._socket = gsocket.create_connection(self._address, CONNECT_TIMEOUT_S)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._socket.settimeout(ANSWER_TIMEOUT_S)
            except OSError:
                self._socket = None

    def close(self) -> None:
        """Forget the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, request: bytes) -> None:
        self.connect()
        if self._socket is None:
            raise ConnectionError("nobody listens")
        self._socket.sendall(request)

    def _ask(self, request: bytes) -> tuple[int, bytes]:
        """Send and read one reply: its status and body."""
        self._send(request)
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._more()
        head = data[:end].lower()
        length = int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0] or b"0")
        while len(data) < end + 4 + length:
            data += self._more()
        if b"\r\nconnection: close" in head:
            self.close()
        return int(head[9:12]), data[end + 4 : end + 4 + length]

    def _more(self) -> bytes:
        data: bytes = self._socket.recv(65_536)
        if not data:
            raise ConnectionError("closed before the whole answer came")
        return data

    def _leave(self, request: bytes) -> None:
        """Send and go: at once, a moment later, or by a reset that may overtake what was sent."""
        self._send(request)
        self._left += 1
        if self._left % 3 == 1:
            gevent.sleep(0.002)
        elif self._left % 3 == 2:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def _fire(self, line: Line, sent: Sent, started_at: float, how: str = "", *, is_answered: bool = True) -> None:
        """Tell Locust; its failures are requests that had a right to an answer and got none."""
        self._environment.events.request.fire(
            request_type=line.contract.protocol,
            name=" ".join([sent.op, how or ("" if sent.form == GOOD else sent.form)]).strip(),
            response_time=1000 * (time.perf_counter() - started_at),
            response_length=0,
            exception=None if is_answered else ConnectionError("no answer"),
            context={},
        )


class Crowd:
    """What the users share: the deck, the record and how far they have come."""

    def __init__(self, order: Order) -> None:
        self.address = (order.host, order.port)
        self.recorder = Recorder(Path(order.record))
        self.told: Counter[str] = Counter()
        self.is_released = False
        self._taken = 0
        self._order = order
        self._lines = [open_line(partner) for partner in order.partners]
        self._deck = self._stories()

    @property
    def is_over(self) -> bool:
        """Whether every story that was begun has been told, and no other will be."""
        return self.is_released and self.told.total() == self._taken >= self._order.payments

    def next_story(self) -> Story | None:
        """The next story, or None when there shall be no more."""
        if self.is_released and self._taken >= self._order.payments:
            return None
        self._taken += 1
        return next(self._deck)

    def _stories(self) -> Iterator[Story]:
        order, first = self._order, 0
        count = order.payments
        while True:
            yield from deal(count, self._lines, order.accounts, order.seed + first, first)
            first += count
            count = MORE


class Aggregator(User):
    """Takes the next story from the deck and tells it, as whichever partner the story is about."""

    abstract = True
    wait_time = constant(0)
    crowd: Crowd

    def on_start(self) -> None:
        self._caller = Caller(self.environment, self.crowd.address, self.crowd.recorder)

    @task
    def tell_next(self) -> None:
        """One story, or the end when there is none left."""
        story = self.crowd.next_story()
        if story is None:
            raise StopUser
        tell(story, self._caller)
        self.crowd.told[story.kind] += 1

    def on_stop(self) -> None:
        self._caller.close()


def run(order: Order, report: Callable[[dict[str, Any]], None]) -> None:
    """Play the whole deck, and more until released.

    Raises:
        RuntimeError: a user broke off, so that some story was not told to its end.
    """
    crowd = Crowd(order)
    playing = type("Playing", (Aggregator,), {"crowd": crowd})
    environment = Environment(user_classes=[playing])
    runner = environment.create_local_runner()
    gevent.spawn(_wait_for_release, crowd)
    runner.start(order.users, spawn_rate=order.users)
    while not crowd.is_over and not runner.exceptions:
        gevent.sleep(0.5)
        crowd.recorder.flush()
        report({"told": crowd.told.total()})
    runner.quit()
    crowd.recorder.close()
    report({"told": crowd.told.total(), "kinds": crowd.told, "stats": _stats(environment)})
    if runner.exceptions:
        raise RuntimeError("\n".join(found["traceback"] for found in runner.exceptions.values()))


def _wait_for_release(crowd: Crowd) -> None:
    """Standard input says nothing; it only ends."""
    while True:
        gsocket.wait_read(sys.stdin.fileno())
        if not os.read(sys.stdin.fileno(), 1):
            crowd.is_released = True
            return


def _stats(environment: Environment) -> list[list[Any]]:
    """Locust's table: name, requests, without answer, median and 99th percentile in milliseconds."""
    return [
        [
            f"{entry.method} {entry.name}",
            entry.num_requests,
            entry.num_failures,
            entry.median_response_time,
            entry.get_response_time_percentile(0.99),
        ]
        for entry in sorted(environment.stats.entries.values(), key=lambda entry: (entry.method, entry.name))
    ]


def main() -> None:
    order = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Order)

    def report(news: dict[str, Any]) -> None:
        print(json.dumps(news), flush=True)

    run(order, report)


if __name__ == "__main__":
    main()
