"""gateway.channels.webhooks: signed events to a real server, and what each of its answers means."""

import asyncio
import ipaddress
from dataclasses import replace

import pytest

from adapters.cloudevents import CloudEvent, decode_event, encode_event
from adapters.standard_webhooks import verify
from billing.work.deliveries.records import Verdict
from gateway.channels.endpoints import Endpoint
from gateway.channels.outbound_http import OutboundHttp
from gateway.channels.webhooks import PAUSE_MAX_S, WebhookChannel
from tests.gateway.channels.receivers import HANG_UP, NOW, SILENCE, WebReceiver, a_delivery, an_attempt

A, B = bytes(range(32)), bytes(range(32, 64))
EVENT = encode_event(CloudEvent("evt-1", "urn:kopeck", "kopeck.payment.posted.v1", NOW, {"amount": "250.00"}))


def sent(receiver, *, endpoint=None, keys=(A,), time_out_s=5.0, **more):
    """(outcome, the receiver's requests) of one delivery of EVENT."""

    async def run():
        async with receiver.serving():
            plain = Endpoint("crm", receiver.url, ("*",), "no_page", "", "", True, keys)
            known = {"crm": replace(plain, **(endpoint or {}))}

            async def load():
                return known

            http = OutboundHttp([ipaddress.ip_network("127.0.0.0/8")])
            channel = WebhookChannel(http, load, clock=NOW.timestamp)
            try:
                return await channel.send(a_delivery(EVENT, **more), an_attempt(time_out_s))
            finally:
                http.close()

    return asyncio.run(run())


def test_the_receiver_believes_it_and_reads_the_event():
    receiver = WebReceiver()
    outcome = sent(receiver)
    assert (outcome.verdict, outcome.code) == (Verdict.ACCEPTED, "204")
    _, headers, body = receiver.requests[0]
    assert verify(headers, body, [A], int(NOW.timestamp())) == "evt-1"
    assert headers["content-type"] == "application/cloudevents+json; charset=UTF-8"
    assert body == EVENT
    assert decode_event(body).id == "evt-1"


def test_while_a_secret_is_replaced_the_receiver_believes_by_either():
    receiver = WebReceiver()
    sent(receiver, keys=(B, A))
    _, headers, body = receiver.requests[0]
    assert {verify(headers, body, [key], int(NOW.timestamp())) for key in (A, B)} == {"evt-1"}


def test_the_log_shows_neither_the_query_of_the_address_nor_the_signature():
    outcome = sent(WebReceiver())
    assert "token=hidden" not in outcome.request
    assert "v1,…" in outcome.request
    assert '"amount":"250.00"' in outcome.request
    assert outcome.reply.startswith("HTTP 204")


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (200, Verdict.ACCEPTED),
        (201, Verdict.ACCEPTED),
        ((200, {"Content-Type": "application/json"}, b'{"ok":true}'), Verdict.ACCEPTED),
        ((200, {"Content-Type": "text/html"}, b"<h1>Sign in</h1>"), Verdict.TEMPORARY),
        ((200, {}, b"  <!DOCTYPE html><html>"), Verdict.TEMPORARY),
        ((200, {"Content-Type": "text/html"}, b""), Verdict.ACCEPTED),
        ((302, {"Location": "/"}, b""), Verdict.TEMPORARY),
        (400, Verdict.TEMPORARY),
        (404, Verdict.TEMPORARY),
        (410, Verdict.REFUSED),
        (429, Verdict.TEMPORARY),
        (500, Verdict.TEMPORARY),
        (503, Verdict.TEMPORARY),
        (SILENCE, Verdict.SILENT),
        (HANG_UP, Verdict.SILENT),
    ],
)
def test_what_an_answer_means(answer, verdict):
    outcome = sent(WebReceiver([answer]), time_out_s=0.5)
    assert outcome.verdict is verdict
    assert outcome.is_transport == (verdict is Verdict.SILENT)
    assert bool(outcome.stop) == (answer == 410)


@pytest.mark.parametrize(
    ("rule", "answer", "verdict"),
    [
        ({"expects": "any"}, (200, {"Content-Type": "text/html"}, b"<html>"), Verdict.ACCEPTED),
        (
            {"expected_type": "application/json"},
            (200, {"Content-Type": "application/json; charset=x"}, b"{}"),
            Verdict.ACCEPTED,
        ),
        ({"expected_type": "application/json"}, (200, {"Content-Type": "text/plain"}, b"ok"), Verdict.TEMPORARY),
        ({"expected_type": "application/json"}, 204, Verdict.TEMPORARY),
        ({"expected_text": '"accepted"'}, (200, {}, b'{"state":"accepted"}'), Verdict.ACCEPTED),
        ({"expected_text": '"accepted"'}, (200, {}, b'{"error":"database"}'), Verdict.TEMPORARY),
        ({"expected_text": "ok"}, (500, {}, b"ok"), Verdict.TEMPORARY),
    ],
)
def test_a_rule_of_the_endpoint_says_which_answer_acknowledges(rule, answer, verdict):
    assert sent(WebReceiver([answer]), endpoint=rule).verdict is verdict


def test_a_receiver_that_asks_for_time_gets_it_for_its_whole_queue():
    limited = sent(WebReceiver([(429, {"Retry-After": "90"}, b"")]))
    assert (limited.retry_after_s, limited.pause_s) == (90.0, 90.0)
    long = sent(WebReceiver([(503, {"Retry-After": "999999"}, b"")]))
    assert long.pause_s == PAUSE_MAX_S
    dated = sent(WebReceiver([(503, {"Retry-After": "Fri, 15 Jan 2027 08:02:00 GMT"}, b"")]))
    assert dated.retry_after_s == 120.0
    assert sent(WebReceiver([(500, {"Retry-After": "soon"}, b"")])).retry_after_s is None


def test_an_endpoint_that_is_not_there_or_has_no_secret_holds_its_queue():
    assert "no such endpoint" in sent(WebReceiver(), recipient="gone").stop
    outcome = sent(WebReceiver(), keys=())
    assert "secret" in outcome.stop
    assert outcome.verdict is Verdict.TEMPORARY
