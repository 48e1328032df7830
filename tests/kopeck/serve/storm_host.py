"""A host of deliveries for the storm: the real engine and channels, with short waits and a kind that can be asked.

``python -m tests.kopeck.serve.storm_host DSN WEB_PORT MAIL_PORT``; it runs until it is killed.
"""

import asyncio
import ipaddress
import os
import secrets
import signal
import sys
from dataclasses import replace

from billing.work.deliveries.engine import Engine, EngineOptions
from billing.work.deliveries.ladder import Ladder
from billing.work.deliveries.records import (
    Delivery,
    DeliveryAttempt,
    DeliveryKind,
    DeliveryOutcome,
    DeliveryPolicy,
    Verdict,
)
from gateway.channels.endpoints import Endpoint
from gateway.channels.mail import MAIL, MailChannel, MailServer
from gateway.channels.outbound_http import NoAnswer, NotReached, OutboundHttp
from gateway.channels.webhooks import WEBHOOK, WebhookChannel

#: Short waits; nothing is given up while the storm lasts.
SOON = Ladder((1, 1, 2), 2, 86_400, jitter_percent=30)
POLICY = DeliveryPolicy(SOON, time_out_s=1, concurrency=40, breaker_failures=30, breaker_hold_s=1)
ASKED = DeliveryKind("asked", POLICY, has_status=True)
KINDS = {
    kind.name: kind
    for kind in (replace(WEBHOOK, policy=POLICY), replace(MAIL, policy=replace(POLICY, time_out_s=2)), ASKED)
}
KEY = bytes(range(32))
LOOPBACK = [ipaddress.ip_network("127.0.0.0/8")]


class AskingHttpChannel:
    """A made-up protocol: POST /asked/send and /asked/status with the key in a header."""

    def __init__(self, http: OutboundHttp, port: int) -> None:
        self._http, self._port = http, port

    async def send(self, delivery: Delivery, attempt: DeliveryAttempt) -> DeliveryOutcome:
        return await self._post("send", delivery, attempt)

    async def status(self, delivery: Delivery, attempt: DeliveryAttempt) -> DeliveryOutcome:
        return await self._post("status", delivery, attempt)

    async def _post(self, verb: str, delivery: Delivery, attempt: DeliveryAttempt) -> DeliveryOutcome:
        url = f"http://127.0.0.1:{self._port}/asked/{verb}"
        try:
            answer = await self._http.post(url, {"x-key": delivery.key}, delivery.payload, attempt.time_out_s)
        except NotReached as error:
            verdict = Verdict.SILENT if verb == "status" else Verdict.TEMPORARY
            return DeliveryOutcome(verdict, reason=str(error), is_transport=True)
        except NoAnswer as error:
            return DeliveryOutcome(Verdict.SILENT, reason=str(error), is_transport=True)
        return DeliveryOutcome(Verdict(answer.body.decode()))


async def main(dsn: str, web_port: int, mail_port: int) -> None:
    http = OutboundHttp(LOOPBACK)

    async def load() -> dict[str, Endpoint]:
        url = f"http://127.0.0.1:{web_port}/hooks"
        return {"crm": Endpoint("crm", url, ("*",), "no_page", "", "", True, (KEY,))}

    channels = {
        "webhook": WebhookChannel(http, load),
        "mail": MailChannel(MailServer("127.0.0.1", mail_port, tls="none")),
        "asked": AskingHttpChannel(http, web_port),
    }
    host = f"storm:{os.getpid()}:{secrets.token_hex(4)}"
    options = EngineOptions(dsn, host, poll_s=0.05, look_after_s=0.5, lease_margin_s=1.0, drain_s=5.0)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await Engine(options, KINDS, channels).run(stop)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
