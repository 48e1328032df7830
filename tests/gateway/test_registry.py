"""A partner's question which payments were credited: read in pages of one instant, worded beside the payments."""

import asyncio
import re
import threading
from datetime import UTC, datetime, timedelta

import pytest

from adapters import osmp
from adapters.messages import Op
from gateway import store
from tests.gateway.conftest import ACTIVE

DAY = datetime(2026, 11, 20, tzinfo=UTC)

_PAYMENTS = """
    INSERT INTO payments (id, partner_id, partner_key, contract_version, service, account_number, amount_minor,
                          currency, partner_time, state, reason, version, registered_at, created_at, updated_at)
    SELECT n, %s, 'k' || n, 1, '', %s, 100, 'RUB', %s::timestamptz + make_interval(secs => n / 4), 'posted', 'ok', 1,
           now(), now(), now()
    FROM generate_series(1, %s) n
"""


@pytest.mark.parametrize("payments", [0, 1, 6, 7, 8, 13, 14])
def test_every_payment_is_in_one_page_though_many_have_one_time(town, monkeypatch, payments):
    monkeypatch.setattr(store, "REGISTRY_PAGE", 7)

    async def story():
        async with town.cursor() as cur:
            await cur.execute(_PAYMENTS, (town.ids["osmp"], ACTIVE, DAY, payments))
            lines = await store.read_registry(cur, town.ids["osmp"], DAY, DAY + timedelta(days=1))
            assert [line.payment_id for line in lines] == list(range(1, payments + 1))
            await cur.execute("SHOW transaction_isolation")
            assert await cur.fetchone() == ("read committed",)  # the snapshot is given up

    asyncio.run(story())


def test_a_partner_with_more_than_a_hundred_thousand_payments_a_day_gets_its_registry(town):
    async def story():
        async with town.cursor() as cur:
            await cur.execute(_PAYMENTS, (town.ids["osmp"], ACTIVE, DAY, 100_001))
        async with town.gateway() as peer:
            _, body = await peer.get("/pay/osmp", b"command=verify&date=20261120")
            assert len(re.findall(rb"<payment ", body)) == 100_001
            assert b"<result>0</result>" in body

    asyncio.run(story())


def test_a_period_over_the_limit_is_refused_for_now(town, monkeypatch):
    monkeypatch.setattr(store, "REGISTRY_PAGE", 7)
    monkeypatch.setattr(store, "REGISTRY_MAX", 20)

    async def story():
        async with town.cursor() as cur:
            await cur.execute(_PAYMENTS, (town.ids["osmp"], ACTIVE, DAY, 21))
            assert await store.read_registry(cur, town.ids["osmp"], DAY, DAY + timedelta(days=1)) is None

    asyncio.run(story())


def test_payments_are_served_while_a_registry_is_worded(town, pay, monkeypatch):
    """The wording here ends when a payment was answered, so it would never end if it held up the payments."""
    is_paid = threading.Event()
    encode = osmp.encode

    def waiting(result, contract, keys):
        if result.op is Op.REGISTRY:
            assert is_paid.wait(20), "no payment was served meanwhile"
        return encode(result, contract, keys)

    monkeypatch.setattr(osmp, "encode", waiting)

    async def story():
        async with town.gateway() as peer:
            asked = asyncio.create_task(peer.osmp("command=verify&date=20261120"))
            await asyncio.sleep(0.2)
            assert (await peer.osmp(pay(1))).code == 0
            assert not asked.done()
            is_paid.set()
            assert (await asked).code == 0

    asyncio.run(story())
