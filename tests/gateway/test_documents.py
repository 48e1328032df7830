"""gateway.documents: a payment as people read it, made from PostgreSQL alone."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import aiopg
import pytest

from adapters.messages import NO_KEYS, Contract, Reason
from adapters.protocols import PROTOCOLS, contract_from_json, default_body
from gateway.contracts import set_contract
from gateway.decide import Attempt, Command, OperatorCancel
from gateway.documents import (
    MAX_ACCOUNT_GRAMS,
    OP_OF_EVENT,
    Document,
    attempt_documents,
    cut_to_millisecond,
    fold,
    payment_documents,
    payment_terms,
    result_of,
    with_grams,
)
from gateway.journal_search import search_terms
from ratingcore.money import Minor
from tests.gateway.shop import Shop, act, note_attempt, open_shop


async def rendered(dsn: str, *ids: int) -> list[Document]:
    async with aiopg.connect(dsn, options="-c timezone=UTC") as connection, connection.cursor() as cur:
        if not ids:
            await cur.execute("SELECT id FROM payments")
            ids = tuple(row[0] for row in await cur.fetchall())
        return await payment_documents(cur, ids)


def test_a_posted_payment_shows_its_parties_sum_timeline_and_transfers(database: Any) -> None:
    async def story() -> Document:
        shop = await open_shop(database.dsn)
        await act(
            database.dsn,
            [shop.pay("1009", "79161234567", 25_000, service="1", extras={"phone": "1"})],
            now=datetime(2026, 11, 23, 9, 30, 15, 123456, tzinfo=UTC),
        )
        return (await rendered(database.dsn))[0]

    document = asyncio.run(story())
    assert {name: document[name] for name in ("partner", "partner_name", "protocol", "key", "service", "account")} == {
        "partner": "osmp-demo",
        "partner_name": "Терминалы Ёлка",
        "protocol": "osmp",
        "key": "1009",
        "service": "1",
        "account": "79161234567",
    }
    assert (document["amount"], document["currency"], document["state"], document["code"]) == (
        25_000,
        "RUB",
        "posted",
        "0",
    )
    assert document["account_name"] == "Ёлкина Анна Петровна"
    assert document["extras"] == {"phone": "1"}
    assert document["created_at"] == datetime(2026, 11, 23, 9, 30, 15, 123000, tzinfo=UTC)
    assert [(t["step"], t["debit"], t["credit"], t["amount"]) for t in document["transfers"]] == [
        ("hold", "clearing:osmp-demo:RUB", "transit:RUB", 25_000),
        ("post", "transit:RUB", "79161234567", 25_000),
    ]
    event = document["timeline"][0]
    assert (event["seq"], event["event"], event["state"], event["actor"]) == (
        1,
        "accept",
        "posted",
        "partner:osmp-demo",
    )
    assert event["request"] == "command=pay&txn_id=1009"
    assert f"<prv_txn>{document['_id']}</prv_txn>" in event["reply"]
    assert "<sum>250.00</sum>" in event["reply"]


def test_a_cancel_by_the_partner_has_a_reply_and_one_by_a_person_has_none(database: Any) -> None:
    async def story() -> list[Document]:
        shop = await open_shop(database.dsn)
        first, second = await act(database.dsn, [shop.pay("1", "79161234567", 100), shop.pay("2", "79161234567", 200)])
        await act(database.dsn, [shop.cancel("1")])
        assert second.payment_id is not None
        await act(database.dsn, [Command(OperatorCancel(second.payment_id, "двойная оплата"), None, "user:anna")])
        assert first.payment_id is not None
        return await rendered(database.dsn, first.payment_id, second.payment_id)

    by_partner, by_person = asyncio.run(story())
    assert [event["event"] for event in by_partner["timeline"]] == ["accept", "reverse"]
    assert all(event["reply"] for event in by_partner["timeline"])
    assert [(event["actor"], event["note"], bool(event["reply"])) for event in by_person["timeline"]] == [
        ("partner:osmp-demo", "", True),
        ("user:anna", "двойная оплата", False),
    ]
    assert by_person["state"] == "reversed"
    assert by_person["version"] == 2


def test_a_refusal_is_worded_with_its_own_code_and_without_ids(database: Any) -> None:
    async def story() -> Document:
        shop = await open_shop(database.dsn)
        await act(database.dsn, [shop.pay("7", "70000000000", 100)])
        return (await rendered(database.dsn))[0]

    document = asyncio.run(story())
    assert (document["state"], document["reason"], document["code"]) == ("refused", "account_not_found", "5")
    assert document["account_id"] is None
    assert document["account_name"] == ""
    assert "prv_txn>1" not in document["timeline"][0]["reply"]
    assert document["transfers"] == []


def test_each_reply_is_worded_with_the_contract_of_its_time(database: Any) -> None:
    async def story() -> Document:
        shop = await open_shop(database.dsn)
        await act(database.dsn, [shop.pay("5", "70000000000", 100)])
        await act(database.dsn, [shop.pay("6", "79161234567", 100)])
        async with aiopg.connect(database.dsn) as connection, connection.cursor() as cur:
            body = {**default_body("osmp"), "cancel_allowed": True, "dialect": {"id_element": "ibox_txn_id"}}
            await set_contract(cur, "osmp-demo", body, "test")
        await act(database.dsn, [shop.cancel("6")])
        return (await rendered(database.dsn))[1]

    document = asyncio.run(story())
    pay, cancel = document["timeline"]
    assert "<osmp_txn_id>6</osmp_txn_id>" in pay["reply"]
    assert "<ibox_txn_id>6</ibox_txn_id>" in cancel["reply"]


def test_a_stored_contract_that_no_longer_validates_keeps_the_payment_and_says_why(database: Any) -> None:
    async def story() -> Document:
        shop = await open_shop(database.dsn)
        await act(database.dsn, [shop.pay("5", "79161234567", 100)])
        async with aiopg.connect(database.admin_dsn) as connection, connection.cursor() as cur:
            await cur.execute("SET session_replication_role = replica")
            await cur.execute("UPDATE contracts SET body = jsonb_set(body, '{min_minor}', '-5')")
        return (await rendered(database.dsn))[0]

    document = asyncio.run(story())
    assert document["state"] == "posted"
    assert "contract version 1" in document["timeline"][0]["reply"]
    assert "min_minor" in document["timeline"][0]["reply"]


def test_a_cyberplat_reply_is_worded_without_a_private_key(database: Any) -> None:
    async def story() -> Document:
        shop = await open_shop(database.dsn)
        await act(database.dsn, [shop.pay("1009000000123", "79265550102", 123_456, "cyber-demo")])
        return (await rendered(database.dsn))[0]

    document = asyncio.run(story())
    assert document["code"] == "0"
    assert f"<authcode>{document['_id']}</authcode>" in document["timeline"][0]["reply"]


def test_any_number_of_payments_takes_one_query_a_table(database: Any) -> None:
    class Counting:
        def __init__(self, cur: Any) -> None:
            self.cur, self.queries = cur, 0

        async def execute(self, *statement: Any) -> None:
            self.queries += 1
            await self.cur.execute(*statement)

        async def fetchall(self) -> list[Any]:
            rows: list[Any] = await self.cur.fetchall()
            return rows

    async def story() -> tuple[int, int, int]:
        shop = await open_shop(database.dsn)
        await act(database.dsn, [shop.pay(str(n), "79161234567", 100 + n) for n in range(30)])
        async with aiopg.connect(database.dsn) as connection, connection.cursor() as cur:
            await cur.execute("SELECT id FROM payments")
            ids = [row[0] for row in await cur.fetchall()]
            one, many = Counting(cur), Counting(cur)
            await payment_documents(one, ids[:1])
            documents = await payment_documents(many, ids)
            return one.queries, many.queries, len(documents)

    one, many, documents = asyncio.run(story())
    assert one == many
    assert documents == 30


def test_unknown_ids_are_left_out(database: Any) -> None:
    assert asyncio.run(rendered(database.dsn, 1, 2, 3)) == []


def test_an_attempt_shows_who_asked_what_and_the_answer(database: Any) -> None:
    async def story() -> list[Document]:
        shop: Shop = await open_shop(database.dsn)
        partner_id = shop.terms["osmp-demo"].contract.partner_id
        at = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
        attempt = Attempt(
            "conflict", Reason.CONFLICT, partner_id, "pay", "300", "same key, other sum", "1009", "79161234567",
            Minor(300), 100_000, "203.0.113.7", "command=pay",
        )  # fmt: skip
        await note_attempt(database.dsn, attempt, at)
        await note_attempt(database.dsn, Attempt("bad_source", Reason.BAD_SOURCE, remote_ip="198.51.100.9"), at)
        async with aiopg.connect(database.dsn, options="-c timezone=UTC") as connection, connection.cursor() as cur:
            await cur.execute("SELECT id FROM attempts")
            return await attempt_documents(cur, [row[0] for row in await cur.fetchall()] + [999])

    conflict, foreign = asyncio.run(story())
    assert conflict.pop("terms")[:3] == ["osmp-demo", "203.0.113.7", "3.00"]
    assert conflict == {
        "_id": conflict["_id"], "at": datetime(2026, 11, 23, 9, 0, tzinfo=UTC), "partner": "osmp-demo",
        "kind": "conflict", "op": "pay", "reason": "conflict", "code": "300", "detail": "same key, other sum",
        "key": "1009", "account": "79161234567", "amount": 300, "payment_id": 100_000, "remote_ip": "203.0.113.7",
        "request": "command=pay", "calls": 1,
    }  # fmt: skip
    assert (foreign["partner"], foreign["amount"], foreign["terms"]) == ("", None, ["198.51.100.9"])


def test_every_fragment_of_an_account_ends_with_one_of_its_terms() -> None:
    account = "79161234567"
    terms = with_grams(account, MAX_ACCOUNT_GRAMS)
    fragments = [account[i:j] for i in range(len(account)) for j in range(i + 4, len(account) + 1)]
    assert len(fragments) == 36
    assert all(fragment[-4:] in terms for fragment in fragments)


def test_the_terms_of_a_long_key_are_of_its_end() -> None:
    terms = with_grams("0F8FAD5B-D9CB-469F-A165-70867728950E", 6)
    assert terms[0] == "0f8fad5b-d9cb-469f-a165-70867728950e"
    assert terms[1:] == ["6772", "7728", "7289", "2895", "8950", "950e"]


def test_a_name_in_quotes_is_found_by_its_word() -> None:
    payment = {
        "_id": 1,
        "amount": 100,
        "partner": "p",
        "key": "7",
        "account": "5",
        "account_name": "ООО «Ёж-Сервис», ИП",
    }
    assert {"ооо", "еж-сервис", "еж-", "ип"} <= set(payment_terms(payment))
    assert [term.fragment for term in search_terms("«Ёж-Сервис»")] == ["еж-сервис"]


@pytest.mark.parametrize(
    ("text", "folded"),
    [("  Ёлкина  АННА ", "елкина анна"), ("ﬁ", "fi"), ("1\u00a0234", "1 234"), ("", ""), ("O'Hara", "o'hara")],
)
def test_text_is_folded_alike_when_stored_and_when_sought(text: str, folded: str) -> None:
    assert fold(text) == folded
    assert fold(folded) == folded


def test_instants_are_cut_to_the_millisecond_never_rounded_up() -> None:
    instant = datetime(2026, 11, 23, 9, 0, 0, 999_999, tzinfo=UTC)
    assert cut_to_millisecond(instant) == datetime(2026, 11, 23, 9, 0, 0, 999_000, tzinfo=UTC)
    moscow = instant.astimezone(ZoneInfo("Europe/Moscow"))
    assert cut_to_millisecond(moscow).utcoffset() == timedelta(0)


def test_every_protocol_words_every_result_an_event_can_have() -> None:
    payment = {
        "_id": 100_000, "key": "1009", "account": "79161234567", "amount": 100,
        "registered_at": datetime(2026, 11, 23, tzinfo=UTC),
    }  # fmt: skip
    worded = 0
    for name, protocol in PROTOCOLS.items():
        contract: Contract = contract_from_json(1, "demo", 1, default_body(name), True)
        for event, op in OP_OF_EVENT.items():
            for reason in Reason:
                result = result_of(payment, {"event": event, "reason": reason.value}, op)
                assert protocol.scrub_reply(protocol.encode(result, contract, NO_KEYS))
                assert protocol.code_of(result, contract)
                worded += 1
    assert worded == len(PROTOCOLS) * len(OP_OF_EVENT) * len(Reason)
