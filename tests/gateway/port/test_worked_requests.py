"""The protocols' worked requests, to the byte, answered by a running gateway with the examples' own key."""

import asyncio
import re

import pytest

from adapters import cyberplat
from gateway.partners.contracts import set_contract
from gateway.partners.keys import add_key
from tests.adapters.conftest import example_key
from tests.adapters.test_cyberplat import CHECK, CHECK_SIGN, PAYMENT, PAYMENT_SIGN, PAYMENT_SIGN_SHA256
from tests.gateway.conftest import private_pem, public_pem

__all__ = ["example_key"]  # the fixture

ACCOUNT = "70012345"
NO_WINDOW = {"date_past_s": None, "date_future_s": None}


@pytest.mark.parametrize(("digest", "sign"), [("sha1", PAYMENT_SIGN), ("sha256", PAYMENT_SIGN_SHA256)])
def test_cyberplats_worked_requests_are_verified_credited_and_answered_signed(town, example_key, digest, sign):
    async def story():
        async with town.cursor() as cur:
            await cur.execute("INSERT INTO accounts (number, kind) VALUES (%s, 'subscriber')", (ACCOUNT,))
            body = {"protocol": "cyberplat", "dialect": {"digest": digest}, **NO_WINDOW}
            await set_contract(cur, "cyberplat", body, "test")
            await add_key(cur, "cyberplat", "verify", public_pem(example_key), "test")
            await add_key(cur, "cyberplat", "sign", private_pem(example_key), "test")
        async with town.gateway() as peer:
            if digest == "sha1":
                _, body = await peer.get("/pay/cyberplat", CHECK + b"&sign=" + CHECK_SIGN.encode())
                assert cyberplat.parse_reply(body).code == 0
            replies = [await peer.get("/pay/cyberplat", PAYMENT + b"&sign=" + sign.encode()) for _ in range(2)]
            assert replies[0] == replies[1]
            paid = cyberplat.parse_reply(replies[0][1])
            assert paid.code == 0
            assert cyberplat.verify_reply(paid, example_key.public_key(), digest)
            assert await town.balance(ACCOUNT) == 25_000
            assert str(await town.one("SELECT partner_time FROM payments")) == "2012-05-14 06:15:30+00:00"

    asyncio.run(story())


def test_osmps_worked_requests_are_answered_as_on_the_sheet(town):
    async def story():
        async with town.cursor() as cur:
            await cur.execute("INSERT INTO accounts (number, kind) VALUES (%s, 'subscriber')", (ACCOUNT,))
            body = {"protocol": "osmp", "dialect": {"require_basic": False}, **NO_WINDOW}
            await set_contract(cur, "osmp", body, "test")
        async with town.gateway() as peer:
            asked = f"txn_id=1234567&account={ACCOUNT}&sum=250.00"
            status, body = await peer.get("/pay/osmp", f"command=check&{asked}".encode())
            head = b'<?xml version="1.0" encoding="UTF-8"?>\n<response><osmp_txn_id>1234567</osmp_txn_id>'
            assert (status, body) == (200, head + b"<result>0</result><comment></comment></response>")
            _, body = await peer.get("/pay/osmp", f"command=pay&{asked}&txn_date=20120514101530".encode())
            rest = rb"<prv_txn>\d+</prv_txn><sum>250\.00</sum><result>0</result><comment>OK</comment></response>"
            assert re.fullmatch(re.escape(head) + rest, body)
            _, body = await peer.get("/pay/osmp", f"command=check&{asked}".replace(ACCOUNT, "1").encode())
            assert body == head + b"<result>5</result><comment>Account not found</comment></response>"

    asyncio.run(story())
