"""billing.work.deliveries.engine: the loops of one process with channels that obey the interface."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aiopg
import pytest

from billing.work.deliveries.engine import Engine, EngineOptions
from billing.work.deliveries.queue import enqueue_all
from billing.work.deliveries.records import Delivery, DeliveryAttempt, DeliveryOutcome, NewDelivery
from billing.work.deliveries.store import AttemptResult, plain_text
from tests.billing.work.deliveries.deskwork import ACCEPTED, HARMLESS, KINDS, ONCE
from tests.gateway.until import until


@dataclass
class KeepingChannel:
    """Keeps what it is sent and answers at once; with ``waits`` it never answers."""

    waits: bool = False
    fails: bool = False
    sent: list[str] = field(default_factory=list)

    async def send(self, delivery: Delivery, _attempt: DeliveryAttempt) -> DeliveryOutcome:
        self.sent.append(delivery.key)
        if self.fails:
            raise RuntimeError("a mistake of the channel")
        if self.waits:
            await asyncio.Event().wait()
        return ACCEPTED


async def queued(dsn: str, kind: str, count: int) -> None:
    async with aiopg.connect(dsn) as connection, connection.cursor() as cur:
        await enqueue_all(cur, [NewDelivery(kind, f"k-{number}", "there", b"x") for number in range(count)])


async def states(dsn: str) -> dict[str, int]:
    async with aiopg.connect(dsn) as connection, connection.cursor() as cur:
        await cur.execute("SELECT state, count(*) FROM deliveries GROUP BY state")
        return dict(await cur.fetchall())


def options(dsn: str) -> EngineOptions:
    return EngineOptions(dsn, "host-1", batch_max=10, poll_s=0.05, look_after_s=0.1, drain_s=0.5)


def test_an_engine_sends_everything_once_and_ends_when_it_is_asked_to(database):
    channel = KeepingChannel()

    async def story():
        await queued(database.dsn, "harmless", 45)
        stop = asyncio.Event()
        engine = Engine(options(database.dsn), KINDS, {"harmless": channel})
        running = asyncio.create_task(engine.run(stop))

        async def are_done():
            return await states(database.dsn) == {"delivered": 45}

        await until(are_done, "not everything is delivered")
        assert engine.is_connected
        stop.set()
        await asyncio.wait_for(running, 20)

    asyncio.run(story())
    assert sorted(channel.sent) == sorted({f"k-{number}" for number in range(45)})


def test_what_is_under_way_at_the_end_is_silence(database):
    channel = KeepingChannel(waits=True)

    async def story():
        await queued(database.dsn, "once", 3)
        stop = asyncio.Event()
        running = asyncio.create_task(Engine(options(database.dsn), KINDS, {"once": channel}).run(stop))
        await until(lambda: len(channel.sent) == 3, "nothing is sent")
        stop.set()
        await asyncio.wait_for(running, 20)
        return await states(database.dsn)

    assert asyncio.run(story()) == {"manual": 3}


def test_a_mistake_of_a_channel_is_silence_and_stops_nothing(database):
    channels = {"once": KeepingChannel(fails=True), "harmless": KeepingChannel()}

    async def story():
        await queued(database.dsn, "once", 1)
        await queued(database.dsn, "harmless", 1)
        stop = asyncio.Event()
        running = asyncio.create_task(Engine(options(database.dsn), KINDS, channels).run(stop))

        async def are_done():
            return await states(database.dsn) == {"delivered": 1, "manual": 1}

        await until(are_done, "the others are held up")
        stop.set()
        await asyncio.wait_for(running, 20)

    asyncio.run(story())


def test_one_result_that_the_database_refuses_takes_no_other_with_it(database):
    async def story():
        await queued(database.dsn, "harmless", 3)
        engine = Engine(options(database.dsn), {"harmless": HARMLESS, "once": ONCE}, {}, lambda: datetime.now(UTC))
        async with aiopg.connect(database.dsn) as connection, connection.cursor() as cur:
            await cur.execute("UPDATE deliveries SET state = 'sending', attempts = 1")
            await cur.execute("SELECT id FROM deliveries ORDER BY id")
            ids = [row[0] for row in await cur.fetchall()]
            await cur.execute(
                "INSERT INTO delivery_attempts (delivery_id, no, action, at, host) "
                "SELECT id, 1, 'send', now(), 'host-1' FROM deliveries"
            )
            too_long = 1 << 40
            results = [
                AttemptResult(number, 1, ACCEPTED, too_long if number == ids[1] else 5, ("harmless", "there"))
                for number in ids
            ]
            await engine._write(cur, results)
        return await states(database.dsn)

    assert asyncio.run(story()) == {"delivered": 2, "sending": 1}


def test_channels_of_kinds_that_nobody_knows_are_refused():
    with pytest.raises(ValueError, match="unknown kinds: telegram"):
        Engine(options(""), KINDS, {"telegram": KeepingChannel()})


def test_a_strangers_text_fits_its_column():
    assert plain_text("a\x00b\ud800", 10) == "a\ufffdb?"
    assert plain_text("x" * 20, 10) == "x" * 9 + "…"
