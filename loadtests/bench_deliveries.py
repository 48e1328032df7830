"""Figures of deliveries: signed webhooks from one process to a receiver on this machine.

Deliveries are written by SQL while their queue is held, as after a receiver's outage; then the queue is let go and the
receiver counts ids until it has all. Each is marked as sent and committed, signed, posted on a connection of its own,
and written down. The process has the other back-office roles too, which are idle. A delivery that does not arrive, or
that PostgreSQL does not know as delivered, ends the bench.

Does not know: which figures are good enough.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Final

import psycopg2

from adapters.standard_webhooks import WebhookError, secret_key, verify
from loadtests.figures import BenchError, Figure, Setting
from loadtests.stand import Stand, new_folder

PER_SECOND_OF_BENCH: Final = 1_000
#: Attempts at once; each waits for the receiver most of its time.
CONCURRENCY: Final = 100
LIMIT_S: Final = 600
SETTINGS: Final = {
    "KOPECK_DELIVERIES__WEBHOOK_NETWORKS": "127.0.0.0/8",
    "KOPECK_DELIVERIES__WEBHOOK_PLAIN_HTTP": "true",
}
_WRITE: Final = """
    INSERT INTO deliveries (kind, key, recipient, headers, payload, asked_by, due_at)
    SELECT 'webhook', 'bench-' || n, 'bench', jsonb_build_object('id', 'bench-' || n),
           convert_to('{"specversion":"1.0","id":"bench-' || n || '","source":"urn:bench","type":"bench",'
                      || '"data":{"filler":"' || repeat('x', 400) || '"}}', 'UTF8'), 'bench', now()
    FROM generate_series(1, %s) n
"""


class Receiver:
    """A web server in a thread of its own that verifies the first request and counts the ids of all."""

    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.calls = 0
        self.problem = ""
        self.key = b""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "Receiver":
        self._thread.start()
        serving = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._answer, "127.0.0.1", 0), self._loop)
        self.port = serving.result(10).sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[1:]
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head if line)}
            body = await reader.readexactly(int(headers["content-length"]))
        except (asyncio.IncompleteReadError, ConnectionError, KeyError, ValueError) as error:
            self.problem = f"a request cannot be read: {error}"
            writer.close()
            return
        if not self.calls:
            try:
                verify(headers, body, [self.key], int(time.time()))
            except WebhookError as error:
                self.problem = f"the first request does not convince: {error}"
        self.calls += 1
        self.ids.add(headers["webhook-id"])
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()


def figures(setting: Setting) -> Iterator[Figure]:
    """All figures of the group."""
    count = setting.seconds * PER_SECOND_OF_BENCH
    with Stand(new_folder(setting.folder), gateways=1, settings=SETTINGS) as stand, Receiver() as receiver:
        receiver.key = secret_key(stand.do("webhook", "add", "bench", f"http://127.0.0.1:{receiver.port}/").strip())
        stand.do("delivery", "policy", "webhook", f"concurrency={CONCURRENCY}")
        stand.do("delivery", "hold", "webhook", "bench", "--why", "the bench begins later")
        with contextlib.closing(psycopg2.connect(stand.dsn())) as connection, connection, connection.cursor() as cur:
            cur.execute(_WRITE, (count,))
        stand.do("delivery", "release", "webhook", "bench")
        _wait(receiver, 1)
        began, first, cpu_s = time.monotonic(), len(receiver.ids), _cpu_s(stand)
        _wait(receiver, count)
        took_s = time.monotonic() - began
        stand.wait_until("written down", lambda: stand.ask(_LEFT) == (0,), 60)
        what = "signed webhooks, each committed as sent and as delivered; one back-office process"
        yield Figure("deliveries_per_s", (count - first) / took_s, "deliveries/s", what)
        cpu_ms = (_cpu_s(stand) - cpu_s) * 1_000 / (count - first)
        yield Figure("deliveries_cpu_ms", cpu_ms, "ms", "processor time of that process for each")
        memory = stand.relay().memory_info().rss / 1e6
        yield Figure("deliveries_process_mb", memory, "MB", "memory of that process afterwards")


def _cpu_s(stand: Stand) -> float:
    times = stand.relay().cpu_times()
    return float(times.user + times.system)


_LEFT: Final = "SELECT count(*) FROM deliveries WHERE state <> 'delivered'"


def _wait(receiver: Receiver, count: int) -> None:
    """Until the receiver has so many. Raises BenchError where it does not come to that."""
    deadline = time.monotonic() + LIMIT_S
    while len(receiver.ids) < count:
        if receiver.problem or time.monotonic() > deadline:
            raise BenchError(receiver.problem or f"{len(receiver.ids)} of {count} deliveries arrived")
        time.sleep(0.005)
