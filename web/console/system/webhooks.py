"""Webhooks: endpoints that are told of events, how that goes, and a test event by hand.

Rules. Secrets are never shown: they are made and replaced by `kopeck webhook`, which prints them once. A change and its
entry in the audit record are one transaction.

Does not know: how a webhook is sent.
"""

from collections.abc import Mapping
from secrets import token_hex
from typing import Final

from tornado.web import HTTPError

from adapters.cloudevents import encode_event
from billing.language import N_, NP_
from billing.work.deliveries.desk_store import release_queue
from billing.work.deliveries.queue import enqueue
from billing.work.deliveries.store import read_clock
from gateway.channels import endpoint_store
from gateway.channels.endpoints import EndpointError, EndpointRow
from gateway.events.envelopes import sample_event
from gateway.events.feed import webhook_delivery
from web.access.rights import Right
from web.site.page import Page, Refused

ENDPOINT_STATES: Final[Mapping[str, str]] = {
    "enabled": NP_("endpoint", "Works"),
    "failing": N_("Failing"),
    "held": NP_("queue", "Held"),
    "disabled": NP_("endpoint", "Disabled"),
}


class WebhooksPage(Page):
    """GET /webhooks."""

    needs = Right.DELIVERIES_VIEW
    section = "webhooks"

    async def get(self) -> None:
        """All endpoints."""
        async with self.site.cursor() as cur:
            rows = await endpoint_store.list_endpoints(cur)
        await self.show("webhooks.html", rows=[(row, endpoint_state(row)) for row in rows], states=ENDPOINT_STATES)


class WebhookActPage(Page):
    """POST /webhooks/NAME/act: test, enable or disable an endpoint."""

    needs = Right.DELIVERIES_MANAGE

    async def post(self, name: str) -> None:
        """Do it."""
        act = self.get_body_argument("act", "")
        if act not in ("test", "enable", "disable"):
            raise HTTPError(400)
        if act == "test":
            await self._test(name)
            return
        try:
            async with self.site.transaction() as cur:
                await endpoint_store.set_enabled(cur, name, act == "enable")
                if act == "enable":
                    await release_queue(cur, endpoint_store.KIND, name)
                await self.record("webhook_enabled" if act == "enable" else "webhook_disabled", "webhook", name, cur)
        except EndpointError as error:
            raise Refused(404, N_("There is no such endpoint")) from error
        enabled = N_("Endpoint %(endpoint)s is told of what happens from now on.")
        disabled = N_("Endpoint %(endpoint)s is told of nothing new.")
        await self.notify(enabled if act == "enable" else disabled, endpoint=name)
        self.redirect("/webhooks", status=303)

    async def _test(self, name: str) -> None:
        async with self.site.transaction() as cur:
            if name not in await endpoint_store.read_endpoints(cur, ""):
                raise Refused(404, N_("There is no such endpoint"))
            event = sample_event(name, token_hex(8), await read_clock(cur), self.site.options.event_source)
            number = await enqueue(cur, webhook_delivery(event, name, encode_event(event), self.user.actor))
            await self.record("webhook_tested", "webhook", name, cur, delivery=number)
        await self.notify(N_("A test event is queued: this page tells what becomes of it."), "info")
        self.redirect(f"/deliveries/{number}", status=303)


def endpoint_state(row: EndpointRow) -> str:
    """How an endpoint stands, as a code of ENDPOINT_STATES."""
    if row.held_why:
        return "held"
    if not row.is_enabled:
        return "disabled"
    return "failing" if row.failing_since else "enabled"
