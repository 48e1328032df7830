"""``kopeck serve deliveries`` as a process: a test event and a test letter arrive, and it ends in order."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from adapters.cloudevents import decode_event
from adapters.standard_webhooks import secret_key, verify
from kopeck.serve.deliveries import KINDS, mail_server
from kopeck.settings import Deliveries, Settings, SettingsError, load_settings
from tests.gateway.channels.receivers import MailSink, WebReceiver
from tests.gateway.until import until


def started():
    """The role as a service manager starts it, with this process's environment."""
    return subprocess.Popen([sys.executable, "-m", "kopeck", "serve", "deliveries"], env=os.environ.copy())


def test_a_test_event_and_a_test_letter_arrive_signed_and_whole(kopeck, database, monkeypatch):
    receiver, sink = WebReceiver([(200, {"Content-Type": "text/html"}, b"<html>Sign in</html>")]), MailSink()

    def set_up(web_port, mail_port):
        for name, value in {
            "GATEWAY__KEY_PASSPHRASE": "of tests",
            "DELIVERIES__WEBHOOK_PLAIN_HTTP": "true",
            "DELIVERIES__WEBHOOK_NETWORKS": "127.0.0.0/8",
            "DELIVERIES__SMTP_HOST": "127.0.0.1",
            "DELIVERIES__SMTP_PORT": str(mail_port),
            "DELIVERIES__SMTP_TLS": "none",
            "DELIVERIES__MAIL_FROM": "Kopeck <billing@example.org>",
            "DELIVERIES__METRICS_PORT": "0",
            "DELIVERIES__POLL_MS": "50",
        }.items():
            monkeypatch.setenv(f"KOPECK_{name}", value)
        secret = kopeck("webhook", "add", "crm", f"http://127.0.0.1:{web_port}/hooks").out.strip()
        assert kopeck("webhook", "test", "crm").status == 0
        assert kopeck("mail", "test", "ann@example.com").status == 0
        return secret

    async def story():
        async with receiver.serving(), sink.serving():
            secret = await asyncio.to_thread(set_up, receiver.port, sink.port)
            process = started()
            try:
                await until(lambda: sink.letters, "no letter arrives")
                # The first answer was a page for people, so it comes again, five seconds later, with the same id.
                await until(lambda: len(receiver.requests) == 2, "the event does not come again")
                process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(process.wait, 30) == 0
            finally:
                process.kill()
                process.wait()
            return secret

    secret = asyncio.run(story())
    (_, first, body), (_, second, same) = receiver.requests
    ids = {verify(headers, body, [secret_key(secret)], int(time.time())) for headers in (first, second)}
    assert ids == {decode_event(body).id}
    assert same == body
    assert sink.letters[0]["Subject"] == "Kopeck: a test letter"
    rows = json.loads(kopeck("delivery", "list", "--json").out)
    assert {(row["kind"], row["state"], row["attempts"]) for row in rows} == {
        ("webhook", "delivered", 2),
        ("mail", "delivered", 1),
    }


def test_every_kind_has_the_name_it_is_known_by():
    assert {name: kind.name for name, kind in KINDS.items()} == {"webhook": "webhook", "mail": "mail"}


def test_without_a_mail_server_there_is_no_mail_and_a_sender_must_be_one():
    assert mail_server(Settings()) is None
    with pytest.raises(SettingsError, match="mail_from"):
        mail_server(Settings(deliveries=Deliveries(smtp_host="mail.example.org", mail_from="nobody")))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("WEBHOOK_NETWORKS", "10.0.0.0/99", "webhook_networks"),
        ("WEBHOOK_PROXY", "proxy", "HOST:PORT"),
        ("SMTP_HOST", "mail.example.org", "belong together"),
        ("EVENT_SOURCE", "has a blank", "event_source"),
    ],
)
def test_settings_that_cannot_be_are_told(name, value, words):
    with pytest.raises(SettingsError, match=words):
        load_settings(None, {f"KOPECK_DELIVERIES__{name}": value})
