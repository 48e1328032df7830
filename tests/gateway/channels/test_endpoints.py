"""gateway.channels.endpoints and their store: what may be an endpoint, and which events are written at all."""

import asyncio
from datetime import UTC, datetime, timedelta

import aiopg
import pytest

from adapters.standard_webhooks import secret_key
from gateway.channels import endpoint_store
from gateway.channels.endpoints import (
    EndpointError,
    new_secret,
    problem_with_url,
    require_endpoint,
    require_secret,
    wants,
)


@pytest.mark.parametrize(
    "url",
    ["http://crm.example/", "ftp://x.example/", "https://", "crm.example", "https://ann:pw@crm.example/",
     "https://crm.example/#x", "https://crm.example/ж", "https://crm.example:99999/", "https://crm.example/a b"],
)  # fmt: skip
def test_addresses_that_are_refused_with_a_sentence(url):
    assert problem_with_url(url, plain_http=False)


def test_plain_http_is_taken_where_settings_say_so():
    assert problem_with_url("http://crm.example/", plain_http=True) is None
    assert problem_with_url("https://crm.example:8443/hooks?tenant=7", plain_http=False) is None


@pytest.mark.parametrize(
    ("name", "types", "words"),
    [
        ("CRM", ["*"], "a name is"),
        ("crm", [], "1 to 50"),
        ("crm", ["payment posted"], "no type of events"),
        ("crm", ["kopeck.refund.*"], "no event has a type"),
        ("crm", ["kopeck.pay*"], "no type of events"),
    ],
)
def test_what_is_no_endpoint(name, types, words):
    with pytest.raises(EndpointError, match=words):
        require_endpoint(name, "https://crm.example/", types, "", "", plain_http=False)


def test_patterns():
    assert wants(["*"], "kopeck.payment.posted.v1")
    assert wants(["kopeck.invoice.issued.v1", "kopeck.payment.*"], "kopeck.payment.posted.v1")
    assert not wants(["kopeck.payment.*"], "kopeck.payments.v1")


def test_secrets_are_made_and_judged():
    assert require_secret(new_secret()).startswith("whsec_")
    assert new_secret() != new_secret()
    with pytest.raises(EndpointError, match="whsec_"):
        require_secret("hunter2")


def story(database, work):
    async def run():
        async with aiopg.connect(database.dsn) as connection, connection.cursor() as cur:
            return await work(cur)

    return asyncio.run(run())


@pytest.mark.parametrize("passphrase", ["", "a passphrase"])
def test_an_endpoint_is_added_read_rotated_and_disabled(database, passphrase):
    first, second = new_secret(), new_secret()

    async def work(cur):
        await endpoint_store.add_endpoint(
            cur, "crm", "https://crm.example/", ["kopeck.payment.*"], first, "user:ann", passphrase=passphrase
        )
        with pytest.raises(EndpointError, match="already"):
            await endpoint_store.add_endpoint(
                cur, "crm", "https://other.example/", ["*"], first, "user:ann", passphrase=passphrase
            )
        keys = [(await endpoint_store.read_endpoints(cur, passphrase))["crm"].keys]
        until = datetime.now(UTC) + timedelta(hours=1)
        await endpoint_store.rotate_secret(cur, "crm", second, "user:ann", until, passphrase=passphrase)
        keys.append((await endpoint_store.read_endpoints(cur, passphrase))["crm"].keys)
        third = new_secret()
        await endpoint_store.rotate_secret(cur, "crm", third, "user:ann", datetime.now(UTC), passphrase=passphrase)
        keys.append((await endpoint_store.read_endpoints(cur, passphrase))["crm"].keys)
        await cur.execute("SELECT topic FROM event_topics WHERE is_wanted")
        wanted = [await cur.fetchall()]
        await endpoint_store.set_enabled(cur, "crm", False)
        await cur.execute("SELECT topic FROM event_topics WHERE is_wanted")
        wanted.append(await cur.fetchall())
        with pytest.raises(EndpointError, match="no endpoint"):
            await endpoint_store.set_enabled(cur, "nobody", True)
        await cur.execute("SELECT material FROM webhook_secrets ORDER BY id LIMIT 1")
        stored = (await cur.fetchone())[0]
        row = (await endpoint_store.list_endpoints(cur))[0]
        wrong = (await endpoint_store.read_endpoints(cur, "another"))["crm"].keys
        return keys, wanted, stored, (row.name, row.is_enabled, row.secrets), wrong, third

    keys, wanted, stored, row, wrong, third = story(database, work)
    assert keys[0] == (secret_key(first),)
    assert keys[1] == (secret_key(second), secret_key(first))
    assert keys[2] == (secret_key(third),)
    assert wanted == [[("payment",)], []]
    assert (stored == first) == (passphrase == "")
    assert row == ("crm", False, 1)
    assert bool(wrong) == (passphrase == "")
