"""Deliveries of three kinds through rough weather: each once by id at its receiver, and none lost.

Two hosts send signed webhooks, letters, and deliveries of a kind that can be asked. Receivers answer, keep silent
before and after they took what they got, hang up, and say that they are busy although they have it. Hosts and
PostgreSQL are killed (-9) over and over. Letters that stayed unknown are decided by a person, who looks into the
mailbox.

``SIM_DELIVERIES`` sets the number of the long form (``make sim``).
"""

import asyncio
import contextlib
import os
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import aiopg
import psycopg2
import pytest
from aiosmtpd.smtp import SMTP as SmtpServer
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application, RequestHandler

from adapters.cloudevents import CloudEvent, decode_event, encode_event
from adapters.standard_webhooks import verify
from billing.work.deliveries.decide import DeliveryEvent
from billing.work.deliveries.desk_store import DeliveryFilter, act_on_delivery, list_deliveries
from billing.work.deliveries.queue import enqueue_all
from billing.work.deliveries.records import NewDelivery
from gateway.channels.letters import Letter, queued_letter
from gateway.events.feed import webhook_delivery
from kopeck.databases.migrate import migrate
from kopeck.databases.postgres import APP, OWNER, Postgres
from tests.kopeck.serve.storm_host import KEY

ROOT = Path(__file__).parents[3]
SENDER = "Kopeck <billing@example.org>"


@dataclass
class World:
    """What the receivers have, by kind and id: how often each thing took effect, repeats dropped by id."""

    dice: random.Random
    has: dict[str, set[str]] = field(default_factory=lambda: {"webhook": set(), "asked": set()})
    letters: Counter[str] = field(default_factory=Counter)
    repeats: int = 0
    behaviours: Counter[str] = field(default_factory=Counter)
    calm: bool = False

    def behaviour(self) -> str:
        """How the next call goes."""
        names = ("well", "silent before", "silent after", "hang up after", "busy before", "busy after")
        weights = (100, 0, 0, 0, 0, 0) if self.calm else (70, 6, 7, 6, 6, 5)
        chosen = self.dice.choices(names, weights)[0]
        self.behaviours[chosen] += 1
        return chosen

    def take(self, kind: str, key: str) -> None:
        self.repeats += key in self.has[kind]
        self.has[kind].add(key)


class _Hooks(RequestHandler):
    """The webhook receiver: it verifies, keeps by webhook-id, and behaves."""

    def initialize(self, world: World) -> None:
        self.world = world

    async def post(self) -> None:
        headers = {name.lower(): value for name, value in self.request.headers.get_all()}
        event_id = verify(headers, self.request.body, [KEY], int(time.time()))
        assert decode_event(self.request.body).id == event_id
        how = self.world.behaviour()
        if how.endswith("after") or how == "well":
            self.world.take("webhook", event_id)
        await _behave(self, how, b"")


class _Asked(RequestHandler):
    """A receiver that can be asked what it has, and keeps by key."""

    def initialize(self, world: World) -> None:
        self.world = world

    async def post(self, verb: str) -> None:
        key, how = self.request.headers["x-key"], self.world.behaviour()
        if verb == "status":
            word = b"accepted" if key in self.world.has["asked"] else b"missing"
            await _behave(self, how, b"temporary" if how.startswith("busy") else word)
            return
        if how.endswith("after") or how == "well":
            self.world.take("asked", key)
        await _behave(self, how, b"temporary" if how.startswith("busy") else b"accepted")


async def _behave(handler: RequestHandler, how: str, body: bytes) -> None:
    if how.startswith("silent"):
        await asyncio.sleep(2.5)
    if how.startswith(("silent", "hang up")):
        handler.request.connection.stream.close()  # type: ignore[union-attr]
        handler._finished = True
        return
    if how.startswith("busy") and not body:
        handler.set_status(503)
    handler.finish(body)


class _Mailbox:
    """A mail server without any idea of repeats."""

    def __init__(self, world: World) -> None:
        self.world = world

    async def handle_RCPT(self, _server, _session, envelope, address, _options):
        if self.world.behaviour() == "busy before":
            return "451 4.7.1 Greylisted"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, _session, envelope):
        how = self.world.behaviour()
        if how == "busy before":
            return "451 4.3.0 Try again"
        if how == "silent before":
            server.transport.abort()
            return "250 OK"
        head = envelope.content.split(b"\r\n\r\n")[0].decode()
        self.world.letters[head.partition("Message-ID: ")[2].partition("\r\n")[0]] += 1
        if how in ("silent after", "hang up after"):
            server.transport.abort()
        return "250 OK"


@contextlib.asynccontextmanager
async def receivers(world):
    application = Application(
        [("/hooks", _Hooks, {"world": world}), ("/asked/(send|status)", _Asked, {"world": world})],
        log_function=lambda _handler: None,
    )
    web = HTTPServer(application)
    sockets = bind_sockets(0, "127.0.0.1")
    web.add_sockets(sockets)
    mail = await asyncio.get_running_loop().create_server(
        lambda: SmtpServer(_Mailbox(world), hostname="mailbox.example"), "127.0.0.1", 0
    )
    try:
        yield sockets[0].getsockname()[1], mail.sockets[0].getsockname()[1]
    finally:
        web.stop()
        mail.close()


def all_deliveries(count):
    """A third of each kind; keys are distinct."""
    now = datetime.now(UTC)
    for number in range(count // 3):
        event = CloudEvent(f"evt-{number}", "urn:storm", "kopeck.webhook.test.v1", now, {"number": number})
        yield webhook_delivery(event, "crm", encode_event(event))
        order = f"o-{number % 50}" if number % 3 == 0 else ""
        yield NewDelivery("asked", f"ask-{number}", "there", str(number).encode(), order_key=order)
        letter = Letter("ann@example.com", f"Letter {number}", "Hello.")
        yield queued_letter(letter, key=f"letter-{number}", sender=SENDER, at=now, asked_by="storm")


class Hosts:
    """Engine processes that are killed and started again."""

    def __init__(self, dsn, ports, count=2):
        self._arguments = [sys.executable, "-m", "tests.kopeck.serve.storm_host", dsn, *map(str, ports)]
        self.processes = [self._start() for _ in range(count)]
        self.killed = 0

    def _start(self):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(self._arguments, cwd=ROOT, env=environment)

    def kill(self, index):
        assert self.processes[index].poll() is None, "a host ended by itself"
        self.processes[index].kill()
        self.processes[index].wait()
        self.processes[index] = self._start()
        self.killed += 1

    def end(self):
        for process in self.processes:
            process.kill()
            process.wait()


async def look(dsn, work):
    async with aiopg.connect(dsn) as connection, connection.cursor() as cur:
        return await work(cur)


async def a_person_decides(dsn, world):
    """Letters that stayed unknown: those in the mailbox are settled, the others sent again."""

    async def work(cur):
        rows = await list_deliveries(cur, DeliveryFilter("mail", states=("manual",)))
        for row in rows:
            assert row.reason == "silence"
            event = DeliveryEvent.SETTLE if world.letters[row.headers["message_id"]] else DeliveryEvent.RESEND
            await act_on_delivery(cur, row.id, event, "user:ann", "looked into the mailbox", datetime.now(UTC))
        return len(rows)

    return await look(dsn, work)


async def not_done(dsn):
    async def work(cur):
        await cur.execute(
            "SELECT count(*) FILTER (WHERE state NOT IN ('delivered', 'manual')), "
            "count(*) FILTER (WHERE state = 'manual') FROM deliveries"
        )
        return await cur.fetchone()

    return await look(dsn, work)


async def storm(server, count, seed, kills, database_kills, limit_s):
    """Everything delivered; (world, hosts, decisions of the person)."""
    world, dsn, decided = World(random.Random(seed)), server.dsn(APP), 0
    async with receivers(world) as ports:
        hosts = Hosts(dsn, ports)
        try:
            every = list(all_deliveries(count))
            for start in range(0, len(every), 500):
                await look(dsn, lambda cur, part=every[start : start + 500]: enqueue_all(cur, part))
            end = time.monotonic() + limit_s
            while True:
                await asyncio.sleep(world.dice.uniform(1.0, 2.5))
                if hosts.killed < kills:
                    hosts.kill(hosts.killed % 2)
                    if hosts.killed in database_kills:
                        server.kill()
                        await asyncio.sleep(0.5)
                        server.start()  # not in a thread: the server would end with it
                try:
                    left, manual = await not_done(dsn)
                    decided += await a_person_decides(dsn, world) if manual else 0
                except psycopg2.Error:
                    continue
                world.calm = hosts.killed >= kills and left < count // 20
                if not left and not manual and hosts.killed >= kills:
                    return world, hosts.killed, decided
                assert time.monotonic() < end, f"{left} are not done, {manual} wait for a person"
        finally:
            hosts.end()


async def audited(dsn):
    """(states by kind, attempts of each outcome, orders kept) from the rows."""

    async def work(cur):
        await cur.execute("SELECT kind, state, count(*) FROM deliveries GROUP BY kind, state ORDER BY kind")
        states = await cur.fetchall()
        await cur.execute("SELECT outcome, count(*) FROM delivery_attempts GROUP BY outcome")
        outcomes = dict(await cur.fetchall())
        await cur.execute(
            "SELECT count(*) FROM (SELECT done_at, lag(done_at) OVER (PARTITION BY order_key ORDER BY id) AS before "
            "FROM deliveries WHERE order_key <> '') o WHERE done_at < before"
        )
        return states, outcomes, (await cur.fetchone())[0]

    return await look(dsn, work)


def weather(server_folder, count, seed, kills, database_kills, limit_s):
    server = Postgres(server_folder / f"storm-{seed}", durable=False, shared_buffers="64MB")
    server.start()
    try:
        migrate(server.dsn(OWNER))
        began = time.monotonic()
        world, killed, decided = asyncio.run(storm(server, count, seed, kills, database_kills, limit_s))
        took_s = time.monotonic() - began
        states, outcomes, out_of_order = asyncio.run(audited(server.dsn(APP)))
    finally:
        server.stop()
    third = count // 3
    print(
        f"{3 * third} deliveries in {took_s:.0f} s, {killed} hosts and {len(database_kills)} times PostgreSQL killed; "
        f"attempts {outcomes}; receivers {dict(world.behaviours)}; {world.repeats} repeats known by their id; "
        f"{decided} letters decided by a person"
    )
    assert states == [("asked", "delivered", third), ("mail", "delivered", third), ("webhook", "delivered", third)]
    assert world.has["webhook"] == {f"evt-{number}" for number in range(third)}
    assert world.has["asked"] == {f"ask-{number}" for number in range(third)}
    assert (len(world.letters), set(world.letters.values())) == (third, {1})
    assert out_of_order == 0
    assert killed == kills
    return world, outcomes


def test_each_is_delivered_once_through_a_short_storm(server_folder):
    world, outcomes = weather(server_folder, 240, 1, kills=4, database_kills={2}, limit_s=240)
    assert min(world.behaviours.values()) > 0
    assert outcomes.get("silent", 0) > 0
    assert outcomes.get("", 0) == 0


@pytest.mark.slow
def test_each_is_delivered_once_through_a_long_storm(server_folder):
    count = int(os.environ.get("SIM_DELIVERIES", "100000"))
    kills = max(12, count // 2_000)
    database_kills = set(range(3, kills, max(4, kills // 4)))
    weather(server_folder, count, 2, kills=kills, database_kills=database_kills, limit_s=60 + count / 4)
