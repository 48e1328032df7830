"""gateway.channels.mail and letters: real SMTP against a sink, and what is never sent twice."""

import asyncio
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.policy import default

import pytest
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from billing.work.deliveries.records import Verdict
from gateway.channels.letters import (
    Letter,
    LetterError,
    is_address,
    letter_bytes,
    message_id,
    parse_sender,
    queued_letter,
)
from gateway.channels.mail import MailChannel, MailServer
from tests.gateway.channels.receivers import NOW, MailSink, a_delivery, an_attempt

SENDER = "Kopeck <billing@example.org>"
LETTER = Letter(
    "ann@example.com", "Счёт I-000001", "Здравствуйте!\n\nСчёт на 250,00 ₽.\n", "<p>Счёт на <b>250,00 ₽</b></p>"
)


def delivery_of(letter=LETTER, key="invoice-1"):
    queued = queued_letter(letter, key=key, sender=SENDER, at=NOW, asked_by="user:ann")
    return a_delivery(
        queued.payload, kind="mail", key=queued.key, recipient="smtp", address=queued.address, headers=queued.headers
    )


def sent(sink, *, server=None, time_out_s=5.0, count=1, **options):
    async def run():
        async with sink.serving(**options):
            plain = MailServer("127.0.0.1", sink.port, tls="none")
            channel = MailChannel(replace(plain, **(server or {})))
            return [await channel.send(delivery_of(), an_attempt(time_out_s)) for _ in range(count)]

    return asyncio.run(run())


def test_a_letter_arrives_as_it_was_written():
    sink = MailSink()
    outcome = sent(sink)[0]
    assert (outcome.verdict, outcome.code) == (Verdict.ACCEPTED, "250")
    letter = sink.letters[0]
    assert letter["Subject"] == "Счёт I-000001"
    assert str(letter["From"]) == SENDER
    assert letter["Message-ID"] == message_id("invoice-1", SENDER)
    assert letter.get_body(("plain",)).get_content().replace("\r\n", "\n") == LETTER.text
    assert "<b>250,00 ₽</b>" in letter.get_body(("html",)).get_content()
    assert sink.raw[0].isascii()
    assert sink.raw[0] == delivery_of().payload


def test_the_same_key_is_the_same_letter_byte_for_byte():
    assert delivery_of().payload == delivery_of().payload
    assert message_id("invoice-1", SENDER) != message_id("invoice-2", SENDER)


def test_a_server_that_greylists_takes_it_at_the_second_try():
    sink = MailSink({"RCPT": ["451 4.7.1 Greylisted, try again later"]})
    first, second = sent(sink, count=2)
    assert (first.verdict, first.code, first.is_transport) == (Verdict.TEMPORARY, "451", False)
    assert "Greylisted" in first.reason
    assert second.verdict is Verdict.ACCEPTED
    assert len(sink.letters) == 1


@pytest.mark.parametrize(
    ("command", "answer", "verdict"),
    [
        ("RCPT", "550 5.1.1 No such user", Verdict.REFUSED),
        ("RCPT", "452 4.2.2 Mailbox full", Verdict.TEMPORARY),
        ("DATA", "554 5.7.1 Message rejected", Verdict.REFUSED),
        ("DATA", "451 4.3.0 Try again", Verdict.TEMPORARY),
        ("MAIL", "451 4.3.2 Try again", Verdict.TEMPORARY),
    ],
)
def test_four_is_for_now_and_five_is_for_ever(command, answer, verdict):
    sink = MailSink({command: [answer]})
    outcome = sent(sink)[0]
    assert (outcome.verdict, outcome.stop) == (verdict, "")
    assert sink.letters == []


def test_a_server_that_takes_the_text_and_says_nothing_may_have_it():
    sink = MailSink(drops=1)
    outcome = sent(sink)[0]
    assert (outcome.verdict, outcome.is_transport) == (Verdict.SILENT, True)
    assert len(sink.letters) == 1


def test_a_server_that_is_not_there_was_not_sent_to():
    async def run():
        channel = MailChannel(MailServer("127.0.0.1", 1, tls="none"))
        return await channel.send(delivery_of(), an_attempt())

    outcome = asyncio.run(run())
    assert (outcome.verdict, outcome.is_transport) == (Verdict.TEMPORARY, True)


def test_a_server_that_says_nothing_before_the_text_was_not_sent_to():
    async def run():
        async def silent(reader, writer):
            await reader.read()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        channel = MailChannel(MailServer("127.0.0.1", port, tls="none"))
        try:
            silence = await channel.send(delivery_of(), an_attempt(1.0))
            ended = asyncio.create_task(channel.send(delivery_of(), an_attempt(60.0)))
            await asyncio.sleep(0.2)
            ended.cancel()
            return silence, await ended
        finally:
            server.close()

    silence, ended = asyncio.run(run())
    assert silence.verdict is Verdict.TEMPORARY
    assert ended.verdict is Verdict.TEMPORARY


def test_what_concerns_every_letter_holds_the_queue_and_refuses_none():
    without_tls = sent(MailSink(), server={"tls": "starttls"})[0]
    assert (without_tls.verdict, "STARTTLS" in without_tls.stop) == (Verdict.TEMPORARY, True)
    sender = sent(MailSink({"MAIL": ["550 5.7.1 Sender not allowed"]}))[0]
    assert (sender.verdict, "sender" in sender.stop) == (Verdict.TEMPORARY, True)


def test_starttls_and_a_password_are_used_and_a_wrong_one_holds_the_queue(tmp_path):
    certificate = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    seen = []

    def check(_server, session, _envelope, mechanism, data):
        seen.append((mechanism, session.ssl is not None))
        return AuthResult(success=data.password == b"right", handled=False)

    options = {"tls_context": context, "authenticator": check, "auth_require_tls": True, "require_starttls": True}
    sink = MailSink()
    server = {
        "host": "localhost",
        "tls": "starttls",
        "user": "kopeck",
        "password": "right",
        "ca_file": str(certificate[0]),
    }
    good = sent(sink, server=server, **options)[0]
    assert good.verdict is Verdict.ACCEPTED
    assert "right" not in good.request + good.reply
    wrong = sent(sink, server={**server, "password": "wrong"}, **options)[0]
    assert (wrong.verdict, "password" in wrong.stop) == (Verdict.TEMPORARY, True)
    stranger = sent(sink, server={**server, "ca_file": ""}, **options)[0]
    assert (stranger.verdict, stranger.is_transport) == (Verdict.TEMPORARY, True)
    assert len(sink.letters) == 1
    assert all(encrypted for _, encrypted in seen)


def make_certificate(folder):
    """A certificate of localhost that signs itself, and its key, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    plain = serialization.NoEncryption()
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return paths


@pytest.mark.parametrize(
    "change",
    [
        {"to": "ann"},
        {"to": "ann@example.com\nBcc: all@example.com"},
        {"to": "ann@пример.рф"},
        {"to": "ann@example.com, ben@example.com"},
        {"subject": ""},
        {"subject": "Hello\r\nBcc: all@example.com"},
        {"subject": "x" * 201},
        {"text": "  "},
    ],
)
def test_what_cannot_be_a_letter(change):
    with pytest.raises(LetterError):
        letter_bytes(replace(LETTER, **change), key="k", sender=SENDER, at=NOW)


@pytest.mark.parametrize("sender", ["", "Kopeck", "Kopeck <billing>", "a@b.example, c@d.example", "A\nB <a@b.example>"])
def test_what_is_no_sender(sender):
    with pytest.raises(LetterError):
        parse_sender(sender)


@given(st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=100), st.text(max_size=500))
def test_any_words_arrive_as_they_are(subject, text):
    letter = Letter("ann@example.com", subject, "x" + text)
    read = message_from_bytes(letter_bytes(letter, key="k", sender=SENDER, at=NOW), policy=default)
    assert read["Subject"] == subject
    told = read.get_body(("plain",)).get_content()
    assert told.rstrip("\r\n").splitlines() == ("x" + text).rstrip("\r\n").splitlines()


def test_addresses():
    assert is_address("ann+billing@mail.example.org")
    assert not is_address("ann@" + "a" * 250 + ".org")
