"""gateway.events.feed: what happened becomes one delivery for each endpoint that wants it, whoever dies."""

import asyncio
import json

import aiopg

from adapters.cloudevents import decode_event
from gateway.channels import endpoint_store
from gateway.channels.endpoints import new_secret
from gateway.events import feed
from tests.billing.cycle.base import cycle_base
from tests.gateway.shop import act, open_shop


async def added(cur, name, *types):
    await endpoint_store.add_endpoint(
        cur, name, f"https://{name}.example/", types, new_secret(), "user:ann", passphrase=""
    )


async def told(cur, source="urn:test"):
    """Portions until the outbox is empty."""
    while True:
        await cur.execute("BEGIN")
        count = await feed.tell_portion(cur, source)
        await cur.execute("COMMIT")
        if not count:
            return


async def queued(cur):
    await cur.execute("SELECT recipient, payload, headers FROM deliveries WHERE kind = 'webhook' ORDER BY id")
    return [(name, decode_event(bytes(payload)), headers) for name, payload, headers in await cur.fetchall()]


def story(database, work):
    async def run():
        async with aiopg.connect(database.dsn) as connection, connection.cursor() as cur:
            return await work(cur)

    return asyncio.run(run())


def test_a_posted_payment_is_told_once_to_each_endpoint_that_wants_it(database):
    async def work(cur):
        shop = await open_shop(database.dsn)
        await act(database.dsn, [shop.pay("before", "79161234567", 100)])  # nobody is told: nothing is written
        await added(cur, "crm", "kopeck.payment.*")
        await added(cur, "all", "*")
        await added(cur, "bills", "kopeck.invoice.issued.v1")
        await act(database.dsn, [shop.pay("1", "79161234567", 25_000), shop.pay("2", "70000000000", 100)])
        await act(database.dsn, [shop.pay("1", "79161234567", 25_000)])  # a repeat
        await told(cur)
        await told(cur)
        return await queued(cur)

    found = story(database, work)
    assert [name for name, _, _ in found] == ["all", "crm"]
    (_, event, headers), (_, same, _) = found
    assert event == same
    assert (event.type, event.source) == ("kopeck.payment.posted.v1", "urn:test")
    assert headers == {"id": event.id, "type": event.type}
    assert "." not in event.id
    assert event.data["amount"] == "250.00"
    assert (event.data["partner_key"], event.data["account"]) == ("1", "79161234567")
    assert event.subject == f"payment/{event.data['payment_id']}"


def test_issued_invoices_and_a_finished_run_are_told_in_portions(database, kopeck, monkeypatch):
    monkeypatch.setattr(feed, "PORTION", 2)
    with cycle_base(database.dsn, database.owner_dsn) as base:
        for number in range(5):
            base.order(base.subscriber(f"S{number}"))
        story(database, lambda cur: added(cur, "erp", "*"))
        assert kopeck("bill", "run", "--date", "2026-02-01").status == 0

    async def work(cur):
        await told(cur)
        await cur.execute("SELECT count(*) FROM event_outbox")
        left = await cur.fetchone()
        return await queued(cur), left

    found, left = story(database, work)
    assert left == (0,)
    types = sorted(event.type for _, event, _ in found)
    assert types == ["kopeck.bill_run.finished.v1", *["kopeck.invoice.issued.v1"] * 5]
    invoices = [event for _, event, _ in found if event.type == "kopeck.invoice.issued.v1"]
    assert {event.data["account"] for event in invoices} == {f"S{number}" for number in range(5)}
    assert len({event.data["number"] for event in invoices}) == 5
    assert {event.data["total"] for event in invoices} == {"300.00"}
    run = next(event for _, event, _ in found if event.type == "kopeck.bill_run.finished.v1")
    assert (run.data["bill_on"], run.data["invoices"]) == ("2026-02-01", 5)
    assert json.dumps(run.data)


def test_a_feed_that_dies_before_its_commit_leaves_everything_to_the_next(database):
    async def work(cur):
        shop = await open_shop(database.dsn)
        await added(cur, "crm", "*")
        await act(database.dsn, [shop.pay("1", "79161234567", 100)])
        await cur.execute("BEGIN")
        assert await feed.tell_portion(cur, "urn:test") == 1
        async with aiopg.connect(database.dsn) as other, other.cursor() as second:
            await second.execute("BEGIN")
            assert await feed.tell_portion(second, "urn:test") == 0  # another process has it
            await second.execute("COMMIT")
        await cur.execute("ROLLBACK")
        await told(cur)
        return len(await queued(cur))

    assert story(database, work) == 1


def test_a_disabled_endpoint_and_one_whose_queue_the_engine_holds_are_told_nothing_new(database):
    async def work(cur):
        shop = await open_shop(database.dsn)
        for name in ("off", "gone", "held-by-person"):
            await added(cur, name, "*")
        await endpoint_store.set_enabled(cur, "off", False)
        await cur.execute(
            "UPDATE delivery_recipients SET is_held = true, held_by = CASE recipient WHEN 'gone' "
            "THEN 'system:deliveries' ELSE 'user:ann' END WHERE recipient IN ('gone', 'held-by-person')"
        )
        await act(database.dsn, [shop.pay("1", "79161234567", 100)])
        await told(cur)
        return [name for name, _, _ in await queued(cur)]

    assert story(database, work) == ["held-by-person"]
