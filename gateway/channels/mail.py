"""The channel of mail: one letter over SMTP.

Rules. A letter is never sent twice blindly. SMTP has no key that a server knows a repeat by, so silence after the text
has begun to go (DATA) leaves it unknown, and a person decides; all that fails before that was not sent and is tried
again. 4xx is temporary: a server that greylists takes the letter from the same sender a little later. 5xx of the
receiver or of the text refuses this letter. What concerns every letter (a wrong password, a sender that is not allowed,
a server without the TLS that settings ask for) holds the whole queue for a person, and refuses none.

Does not know: what is written, when it is tried again.
"""

import asyncio
import contextlib
import ssl
from dataclasses import dataclass, replace
from typing import Final, Literal

import aiosmtplib
from aiosmtplib import SMTP, SMTPAuthenticationError, SMTPException, SMTPResponseException

from billing.work.deliveries.ladder import Ladder
from billing.work.deliveries.records import (
    Delivery,
    DeliveryAttempt,
    DeliveryKind,
    DeliveryOutcome,
    DeliveryPolicy,
    Verdict,
)
from gateway.channels.letters import KIND

#: Greylisting wants a second try within the hour; servers themselves give up after some days.
MAIL_LADDER: Final = Ladder((60, 300, 900, 1_800, 3_600), 3_600, 72 * 3_600)
MAIL: Final = DeliveryKind(KIND, DeliveryPolicy(MAIL_LADDER, time_out_s=60, concurrency=4))

Tls = Literal["starttls", "tls", "none"]


@dataclass(frozen=True, slots=True)
class MailServer:
    """The server that takes our letters. user: "" for none. ca_file: PEM of its authority; "" for the system's."""

    host: str
    port: int = 587
    tls: Tls = "starttls"
    user: str = ""
    password: str = ""
    ca_file: str = ""
    #: How we name ourselves to it; "" for the host's own name.
    greeting: str = ""


class MailChannel:
    """Sends letters, each on a connection of its own: a connection that broke says nothing of another letter."""

    def __init__(self, server: MailServer) -> None:
        self._server = server

    async def send(self, delivery: Delivery, attempt: DeliveryAttempt) -> DeliveryOutcome:
        """Send once. Half of the time is for what comes before the text, so that only the text can stay unknown."""
        log: list[str] = []
        has_begun = False
        client = self._client(attempt.time_out_s / 2)
        sender = str(delivery.headers.get("from", ""))
        request = f"MAIL FROM:<{sender}>\nRCPT TO:<{delivery.address}>\nDATA: {len(delivery.payload)} bytes"
        try:
            async with asyncio.timeout(attempt.time_out_s / 2):
                objection = await self._ready(client, log) or await self._address(client, delivery, log)
            if objection is not None:
                return _shown(objection, request, log)
            has_begun = True
            answer = await client.data(delivery.payload)
            log.append(f"{answer.code} {answer.message}")
            return _shown(DeliveryOutcome(Verdict.ACCEPTED, code=str(answer.code)), request, log)
        except SMTPResponseException as error:
            log.append(f"{error.code} {error.message}")
            return _shown(_answered(error.code, error.message), request, log)
        except (SMTPException, OSError, TimeoutError) as error:
            why = str(error) or f"no answer within {attempt.time_out_s / 2:g} s"
            verdict = Verdict.SILENT if has_begun else Verdict.TEMPORARY
            return _shown(DeliveryOutcome(verdict, reason=why, is_transport=True), request, log)
        except asyncio.CancelledError:
            if has_begun:
                raise
            return DeliveryOutcome(Verdict.TEMPORARY, reason="this process ended before the text began to go")
        finally:
            await _leave(client)

    def _client(self, time_out_s: float) -> SMTP:
        server = self._server
        context = ssl.create_default_context(cafile=server.ca_file or None) if server.tls != "none" else None
        return SMTP(
            hostname=server.host,
            port=server.port,
            use_tls=server.tls == "tls",
            start_tls=False,
            tls_context=context,
            timeout=time_out_s,
            local_hostname=server.greeting or None,
        )

    async def _ready(self, client: SMTP, log: list[str]) -> DeliveryOutcome | None:
        """Connect, encrypt, sign in; an outcome where the server does not let us, which no letter is guilty of."""
        server = self._server
        try:
            greeting = await client.connect()
            log.append(f"{greeting.code} {greeting.message}")
            await client.ehlo()
            if server.tls == "starttls":
                if not client.supports_extension("starttls"):
                    return _queue_stops(f"{server.host} offers no STARTTLS, and deliveries.smtp_tls asks for it")
                await client.starttls()
                await client.ehlo()
            if server.user:
                if not client.supports_extension("auth"):
                    return _queue_stops(f"{server.host} asks for no name and password, and settings give them")
                await client.login(server.user, server.password)
        except SMTPAuthenticationError as error:
            if 500 <= error.code < 600:
                return _queue_stops(f"{server.host} does not take our name and password: {error.code} {error.message}")
            return DeliveryOutcome(Verdict.TEMPORARY, code=str(error.code), reason=error.message)
        except SMTPResponseException as error:
            return DeliveryOutcome(Verdict.TEMPORARY, code=str(error.code), reason=error.message, is_transport=True)
        return None

    async def _address(self, client: SMTP, delivery: Delivery, log: list[str]) -> DeliveryOutcome | None:
        """Say from whom and to whom; an outcome where the server does not want that."""
        try:
            answer = await client.mail(str(delivery.headers.get("from", "")))
        except aiosmtplib.SMTPSenderRefused as error:
            if 400 <= error.code < 500:
                return _answered(error.code, error.message)
            return _queue_stops(f"{self._server.host} does not take our sender: {error.code} {error.message}")
        log.append(f"{answer.code} {answer.message}")
        answer = await client.rcpt(delivery.address)
        log.append(f"{answer.code} {answer.message}")
        return None


def _answered(code: int, message: str) -> DeliveryOutcome:
    """What a negative answer means: 4yz later, 5yz never (RFC 5321, section 4.2.1); anything else is no answer."""
    if 400 <= code < 500:
        return DeliveryOutcome(Verdict.TEMPORARY, code=str(code), reason=message)
    if 500 <= code < 600:
        return DeliveryOutcome(Verdict.REFUSED, code=str(code), reason=message)
    return DeliveryOutcome(Verdict.SILENT, code=str(code), reason=message, is_transport=True)


def _queue_stops(why: str) -> DeliveryOutcome:
    return DeliveryOutcome(Verdict.TEMPORARY, reason=why, stop=why)


def _shown(outcome: DeliveryOutcome, request: str, log: list[str]) -> DeliveryOutcome:
    return replace(outcome, request=request, reply="\n".join(log))


async def _leave(client: SMTP) -> None:
    """Say good-bye if there is anyone to say it to; what was accepted stays accepted whatever comes of that."""
    with contextlib.suppress(SMTPException, OSError, TimeoutError):
        if client.is_connected:
            async with asyncio.timeout(2):
                await client.quit()
    client.close()
