"""Deliveries, queues and webhooks, as people look at them and act."""

import asyncio
from datetime import UTC, datetime, timedelta

import aiopg
import psycopg2
import pytest

from billing.work.deliveries.queue import enqueue_all
from billing.work.deliveries.records import DeliveryOutcome, NewDelivery, Verdict
from gateway.channels import endpoint_store
from gateway.channels.endpoints import new_secret
from gateway.channels.letters import Letter, queued_letter
from gateway.channels.mail import MAIL
from gateway.channels.webhooks import WEBHOOK
from tests.billing.work.deliveries.deskwork import Stage

KINDS = {"webhook": WEBHOOK, "mail": MAIL}


def filled(dsn):
    """A webhook that waits after a page for people, a letter that a person must decide, one delivered; ids by key."""

    async def run():
        async with aiopg.connect(dsn) as connection, connection.cursor() as cur:
            for name in ("crm", "erp"):
                await endpoint_store.add_endpoint(
                    cur, name, f"https://{name}.example/hooks", ["kopeck.payment.*"], new_secret(), "user:ann",
                    passphrase="",
                )  # fmt: skip
            stage = Stage(cur, KINDS, now=datetime.now(UTC) + timedelta(seconds=5))
            letter = Letter("anna@example.org", "Счёт <b>I-1</b>", "Здравствуйте!")
            await enqueue_all(
                cur,
                [
                    NewDelivery(
                        "webhook", "evt-1:crm", "crm", b'{"x":"<script>1</script>"}', "kopeck.payment payment/1"
                    ),
                    NewDelivery("webhook", "evt-2:erp", "erp", b"{}", "kopeck.payment payment/2"),
                    queued_letter(letter, key="l-1", sender="Kopeck <a@b.example>", at=stage.now, asked_by="user:ann"),
                ],
            )
            page = DeliveryOutcome(Verdict.TEMPORARY, "200", "a page <i>for people</i>", reply="<html>")
            outcomes = {
                "evt-1:crm": page,
                "evt-2:erp": DeliveryOutcome(Verdict.ACCEPTED, "204"),
                "l-1": DeliveryOutcome(Verdict.SILENT, reason="connection lost"),
            }
            await stage.round(lambda delivery, _attempt: outcomes[delivery.key])
            await cur.execute("SELECT key, id FROM deliveries")
            return dict(await cur.fetchall())

    return asyncio.run(run())


@pytest.fixture
def ids(own_site):
    return filled(own_site.dsn)


def one(site, statement):
    with psycopg2.connect(site.dsn) as connection, connection.cursor() as cur:
        cur.execute(statement)
        return cur.fetchone()


def test_the_list_shows_what_is_not_done_and_the_views_the_rest(own_site, ids):
    person = own_site.person("anna")
    page = person.get("/deliveries")
    assert "kopeck.payment payment/1" in page.words
    assert "Счёт <b>I-1</b>" in page.words  # as it was typed, escaped
    assert "payment/2" not in page.words
    assert "Нужен человек" in page.words
    assert "payment/1" not in person.get("/deliveries?view=person").words
    assert "payment/2" in person.get("/deliveries?view=all&recipient=erp").words
    assert "payment/1" not in person.get("/deliveries?view=all&recipient=erp").words
    found = person.get("/deliveries?view=all&q=anna%40example.org")
    assert "I-1" in found.words
    assert "payment" not in found.words.partition("Доставки")[2].partition("Фильтр")[2]
    assert person.get("/deliveries?view=lost").status == 400
    assert person.get("/deliveries?before=x").status == 400


def test_a_delivery_tells_every_attempt_and_a_strangers_text_is_escaped(own_site, ids):
    page = own_site.person("anna").get(f"/deliveries/{ids['evt-1:crm']}")
    assert "a page <i>for people</i>" in page.words
    assert "<script>1" not in page.text
    assert "&lt;script&gt;1" in page.text
    assert own_site.person("anna").get("/deliveries/999999").status == 404


def test_a_person_decides_a_letter_that_stayed_unknown_and_it_is_on_record(own_site, ids):
    person, number = own_site.person("anna"), ids["l-1"]
    path = f"/deliveries/{number}"
    assert "Нет ответа: могло дойти" in person.get(path).words
    answer = person.post(f"{path}/act", {"act": "settle", "why": "в ящике"}, path)
    assert answer.location == path
    page = person.get(path)
    assert "отмечена как доставленная" in page.words
    assert "в ящике" in page.words
    assert one(own_site, f"SELECT state FROM deliveries WHERE id = {number}") == ("delivered",)
    assert one(own_site, "SELECT actor, object_id FROM audit WHERE action = 'delivery_settled'") == (
        "user:anna",
        str(number),
    )
    again = person.post(f"{path}/act", {"act": "settle"}, path)  # the back button
    assert again.status == 303
    assert "тем временем изменилась" in person.get(path).words
    assert person.post(f"{path}/act", {"act": "eat"}, path).status == 400


def test_a_queue_is_held_with_a_reason_and_let_go(own_site, ids):
    person = own_site.person("anna")
    form = {"kind": "webhook", "recipient": "crm", "act": "hold"}
    assert person.post("/deliveries/queues/state", form, "/deliveries/queues").status == 400
    person.post("/deliveries/queues/state", {**form, "why": "ремонт"}, "/deliveries/queues")
    page = person.get("/deliveries/queues")
    assert "Очередь получателя crm остановлена" in page.words
    assert "ремонт" in page.words
    assert "ремонт" in person.get("/deliveries").words
    person.post("/deliveries/queues/state", {**form, "act": "release"}, "/deliveries/queues")
    assert one(own_site, "SELECT is_held FROM delivery_recipients WHERE recipient = 'crm'") == (False,)
    assert (
        person.post("/deliveries/queues/state", {**form, "act": "release", "recipient": "x"}, "/deliveries").status
        == 404
    )


def test_endpoints_are_listed_tested_and_disabled(own_site, ids):
    person = own_site.person("anna")
    page = person.get("/webhooks")
    assert "https://crm.example/hooks" in page.words
    assert "whsec_" not in page.text
    answer = person.post("/webhooks/crm/act", {"act": "test"}, "/webhooks")
    assert answer.location.startswith("/deliveries/")
    assert "kopeck.webhook.test.v1" in person.get(answer.location).words
    person.post("/webhooks/crm/act", {"act": "disable"}, "/webhooks")
    assert "не узнаёт о новых событиях" in person.get("/webhooks").words
    assert one(own_site, "SELECT is_enabled FROM webhook_endpoints WHERE name = 'crm'") == (False,)
    assert person.post("/webhooks/nobody/act", {"act": "test"}, "/webhooks").status == 404
    assert person.post("/webhooks/nobody/act", {"act": "enable"}, "/webhooks").status == 404
    assert person.post("/webhooks/crm/act", {"act": "eat"}, "/webhooks").status == 400


def test_without_the_rights_there_is_nothing_to_see_and_nothing_to_do(own_site, ids):
    viewer = own_site.person("vera")
    number = ids["l-1"]
    seen = viewer.get("/deliveries").status
    assert seen in (200, 403)
    for path, form in (
        (f"/deliveries/{number}/act", {"act": "resend"}),
        ("/deliveries/queues/state", {"kind": "webhook", "recipient": "crm", "act": "hold", "why": "x"}),
        ("/webhooks/crm/act", {"act": "disable"}),
    ):
        assert viewer.post(path, form, "/payments").status == 403
    assert one(own_site, f"SELECT state FROM deliveries WHERE id = {number}") == ("manual",)


def test_an_empty_installation_says_so_in_both_languages(own_site):
    person = own_site.person("anna")
    assert "Ничего не ждёт отправки" in person.get("/deliveries").words
    assert "Очередей ещё нет" in person.get("/deliveries/queues").words
    assert "Адресов вебхуков ещё нет" in person.get("/webhooks").words
