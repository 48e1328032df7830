"""The channel of webhooks: a CloudEvent, signed as Standard Webhooks, posted to an endpoint.

Rules. ``webhook-id`` is the event's id on every repeat, so a receiver knows a repeat by it; the body is what was
queued, byte for byte; timestamp and signature are new for each attempt. 2xx acknowledges where the endpoint's rule
agrees. Everything else is tried again, other 4xx too, for receivers are misconfigured for hours; only 410 is for ever,
and holds the endpoint's queue. 429 and 503 with Retry-After hold the queue for that long. Of an address the log shows
no query, of signatures nothing.

Does not know: when it is tried again, which events there are, rows.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

from adapters.cloudevents import CONTENT_TYPE
from adapters.standard_webhooks import SIGNATURE, signed_headers
from billing.refusals import Unavailable
from billing.work.deliveries.ladder import WEBHOOK_LADDER
from billing.work.deliveries.records import (
    Delivery,
    DeliveryAttempt,
    DeliveryKind,
    DeliveryOutcome,
    DeliveryPolicy,
    Verdict,
)
from gateway.channels.endpoint_store import KIND
from gateway.channels.endpoints import Endpoint, objection_to
from gateway.channels.outbound_http import HttpAnswer, NoAnswer, NotReached, OutboundHttp

#: A receiver knows a repeat by webhook-id. Five days without one success hold the endpoint.
WEBHOOK: Final = DeliveryKind(
    KIND,
    DeliveryPolicy(WEBHOOK_LADDER, time_out_s=20, concurrency=8, hold_after_s=5 * 86_400),
    repeat_is_harmless=True,
)
#: Longest pause of a queue that a receiver may ask for.
PAUSE_MAX_S: Final = 3_600.0
_BODY_SHOWN: Final = 2_000

Endpoints = Mapping[str, Endpoint]


class WebhookChannel:
    """Sends to endpoints. ``load`` reads them; what it gave is used for FRESH_S."""

    FRESH_S: Final = 1.0

    def __init__(
        self,
        http: OutboundHttp,
        load: Callable[[], Awaitable[Endpoints]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """clock: Unix seconds, for the timestamps that receivers compare with their own clock."""
        self._http = http
        self._load = load
        self._clock = clock
        self._endpoints: Endpoints = {}
        self._loaded_at = float("-inf")
        self._loading = asyncio.Lock()

    async def send(self, delivery: Delivery, attempt: DeliveryAttempt) -> DeliveryOutcome:
        """Post once."""
        try:
            endpoint = (await self._fresh()).get(delivery.recipient)
        except Unavailable as error:
            return DeliveryOutcome(Verdict.TEMPORARY, reason=f"the endpoint cannot be looked up: {error}")
        if endpoint is None:
            return DeliveryOutcome(
                Verdict.TEMPORARY, reason="there is no such endpoint", stop="there is no such endpoint"
            )
        if not endpoint.keys:
            why = "its secret cannot be opened: is gateway.key_passphrase the one it was sealed with?"
            return DeliveryOutcome(Verdict.TEMPORARY, reason=why, stop=why)
        message_id = str(delivery.headers.get("id", delivery.key))
        headers = {
            "Content-Type": CONTENT_TYPE,
            **signed_headers(message_id, int(self._clock()), delivery.payload, endpoint.keys),
        }
        request = _request_shown(endpoint.url, headers, delivery.payload)
        try:
            answer = await self._http.post(endpoint.url, headers, delivery.payload, attempt.time_out_s)
        except NotReached as error:
            return DeliveryOutcome(Verdict.TEMPORARY, reason=str(error), is_transport=True, request=request)
        except NoAnswer as error:
            return DeliveryOutcome(Verdict.SILENT, reason=str(error), is_transport=True, request=request)
        outcome = outcome_of(answer, endpoint, self._clock())
        return replace(outcome, code=str(answer.status), request=request, reply=_reply_shown(answer))

    async def _fresh(self) -> Endpoints:
        async with self._loading:
            if time.monotonic() - self._loaded_at > self.FRESH_S:
                self._endpoints = await self._load()
                self._loaded_at = time.monotonic()
        return self._endpoints


def outcome_of(answer: HttpAnswer, endpoint: Endpoint, now: float) -> DeliveryOutcome:
    """What an answer means. now: Unix seconds."""
    status = answer.status
    if 200 <= status < 300:
        objection = objection_to(answer, endpoint)
        if objection is None:
            return DeliveryOutcome(Verdict.ACCEPTED)
        return DeliveryOutcome(Verdict.TEMPORARY, reason=objection)
    if status == 410:
        why = "the endpoint answered 410: it is gone"
        return DeliveryOutcome(Verdict.REFUSED, reason=why, stop=why)
    wait_s = retry_after_s(answer.headers.get("retry-after", ""), now)
    pause_s = min(wait_s, PAUSE_MAX_S) if wait_s is not None and status in (429, 503) else None
    words = "redirects are not followed" if 300 <= status < 400 else f"the endpoint answered {status}"
    return DeliveryOutcome(Verdict.TEMPORARY, reason=words, retry_after_s=wait_s, pause_s=pause_s)


def retry_after_s(text: str, now: float) -> float | None:
    """Seconds that a Retry-After header asks for, as a number or a date; None where it says nothing.

    >>> retry_after_s("120", 0), retry_after_s("Thu, 01 Jan 1970 00:01:00 GMT", 0), retry_after_s("soon", 0)
    (120.0, 60.0, None)
    """
    text = text.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max((aware - datetime.fromtimestamp(now, UTC)).total_seconds(), 0.0)


def _request_shown(url: str, headers: Mapping[str, str], body: bytes) -> str:
    parts = urlsplit(url)
    lines = [f"POST {parts.scheme}://{parts.netloc}{parts.path}{'?…' if parts.query else ''}"]
    lines += [f"{name}: {'v1,…' if name == SIGNATURE else value}" for name, value in headers.items()]
    return "\n".join([*lines, "", body[:_BODY_SHOWN].decode("utf-8", "replace")])


def _reply_shown(answer: HttpAnswer) -> str:
    lines = [f"HTTP {answer.status}"]
    lines += [
        f"{name}: {value[:200]}" for name, value in answer.headers.items() if name in ("content-type", "retry-after")
    ]
    return "\n".join([*lines, "", answer.body[:_BODY_SHOWN].decode("utf-8", "replace")])
