"""Deliveries: what is sent to others, each recipient's queue, and what a person may do about them.

Rules. Looking and acting are two rights. What a person does is one transaction with its row in the delivery's log and
its entry in the audit record. What a receiver answered is a stranger's text: it is shown escaped.

Does not know: how deliveries are sent, when they are tried again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urlencode

from tornado.web import HTTPError

from billing.language import N_, NP_, Language
from billing.work.deliveries import desk_store
from billing.work.deliveries.decide import TABLE, DeliveryEvent
from billing.work.deliveries.desk_store import DeliveryFilter, QueueRow
from billing.work.deliveries.records import DeliveryRefused, DeliveryState
from billing.work.deliveries.store import read_clock
from web.access.rights import Right
from web.site.page import Page, Refused
from web.site.words import DELIVERY_KINDS

ROWS: Final = 50
WHY_MAX: Final = 500
#: Views of the list: the states each shows.
VIEWS: Final[Mapping[str, tuple[str, ...]]] = {
    "open": ("waiting", "sending", "unknown", "accepted", "manual"),
    "person": ("manual",),
    "failed": ("refused", "abandoned"),
    "all": (),
}
VIEW_WORDS: Final[Mapping[str, str]] = {
    "open": N_("Not done"),
    "person": N_("Need a person"),
    "failed": N_("Refused and given up"),
    "all": N_("All deliveries"),
}
#: What a person may do to a delivery: its entry in the audit record and what the next page says.
ACTS: Final[Mapping[DeliveryEvent, tuple[str, str]]] = {
    DeliveryEvent.PUSH: ("delivery_pushed", N_("Delivery %(delivery)s is tried now.")),
    DeliveryEvent.RESEND: ("delivery_resent", N_("Delivery %(delivery)s is sent again.")),
    DeliveryEvent.SETTLE: ("delivery_settled", N_("Delivery %(delivery)s counts as delivered.")),
    DeliveryEvent.GIVE_UP: ("delivery_given_up", N_("Delivery %(delivery)s is given up.")),
}
QUEUE_STATES: Final[Mapping[str, str]] = {
    "flows": NP_("queue", "Flows"),
    "failing": N_("Failing"),
    "breaker": N_("Cannot be reached"),
    "paused": N_("Paused by the recipient"),
    "held": NP_("queue", "Held"),
}


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What the list's address names. before: the id that the page begins below."""

    view: str
    kind: str
    recipient: str
    text: str
    before: int | None

    @property
    def filter(self) -> DeliveryFilter:
        """What the store is asked for. A text that is looked for is looked for in every state."""
        return DeliveryFilter(self.kind, self.recipient, VIEWS[self.view], self.text)

    def address(self, **changes: object) -> str:
        """The list with some of it changed; what is empty is left out."""
        named = {
            "view": self.view,
            "kind": self.kind,
            "recipient": self.recipient,
            "q": self.text,
            "before": self.before,
        }
        values = {name: value for name, value in {**named, **changes}.items() if value}
        if values.get("view") == "open":
            del values["view"]
        return "/deliveries" + (f"?{urlencode(values)}" if values else "")


class DeliveriesPage(Page):
    """GET /deliveries."""

    needs = Right.DELIVERIES_VIEW
    section = "deliveries"

    async def get(self) -> None:
        """The filtered list, newest first."""
        query = self._query()
        async with self.site.cursor() as cur:
            rows = await desk_store.list_deliveries(cur, query.filter, query.before, ROWS + 1)
            queues = await desk_store.list_queues(cur)
            now = await read_clock(cur)
        following = query.address(before=rows[ROWS - 1].id) if len(rows) > ROWS else ""
        waiting = sum(queue.manual for queue in queues)
        counts = {"open": None, "person": waiting, "failed": None, "all": None}
        tabs = [(query.address(view=view, before=None), word, counts[view], view) for view, word in VIEW_WORDS.items()]
        await self.show(
            "deliveries.html",
            rows=rows[:ROWS],
            query=query,
            tabs=tabs,
            kind_words=kind_words(self.spoken),
            kind_options=[(kind, kind_words(self.spoken).get(kind, kind)) for kind in sorted({q.kind for q in queues})],
            recipient_options=[(name, name) for name in sorted({queue.recipient for queue in queues})],
            held=[(queue, state) for queue in queues if (state := queue_state(queue, now)) not in ("flows", "failing")],
            queue_states=QUEUE_STATES,
            moment=now,
            following=following,
        )

    def _query(self) -> ListQuery:
        def named(name: str) -> str:
            return self.get_query_argument(name, "")[:320].replace("\x00", "")

        before = named("before")
        if before and not (before.isascii() and before.isdecimal() and len(before) < 19):
            raise Refused(400, N_("The link to this page of the list is broken. Start from the newest."))
        view = named("view") or "open"
        if view not in VIEWS:
            raise Refused(400, N_("There is no such view of deliveries"))
        return ListQuery(view, named("kind"), named("recipient"), named("q"), int(before) if before else None)


class QueuesPage(Page):
    """GET /deliveries/queues: each recipient's queue, and what holds it."""

    needs = Right.DELIVERIES_VIEW
    section = "deliveries"

    async def get(self) -> None:
        """All queues, those that are held first."""
        async with self.site.cursor() as cur:
            queues = await desk_store.list_queues(cur)
            now = await read_clock(cur)
        rows = sorted(((queue, queue_state(queue, now)) for queue in queues), key=lambda row: row[1] == "flows")
        waiting = sum(queue.manual for queue in queues)
        shared = {"kind_words": kind_words(self.spoken), "queue_states": QUEUE_STATES, "views": VIEW_WORDS}
        await self.show("delivery_queues.html", rows=rows, moment=now, waiting=waiting, **shared)


class QueueStatePage(Page):
    """POST /deliveries/queues/state: hold a queue or let it go."""

    needs = Right.DELIVERIES_MANAGE

    async def post(self) -> None:
        """One queue, named by kind and recipient."""
        kind, recipient = self.get_body_argument("kind", ""), self.get_body_argument("recipient", "")
        act = self.get_body_argument("act", "")
        why = self.get_body_argument("why", "").strip()
        if act not in ("hold", "release") or not recipient:
            raise HTTPError(400)
        if act == "hold" and not (0 < len(why) <= WHY_MAX and why.isprintable()):
            raise Refused(400, N_("Say why the queue is held, in at most 500 characters"))
        try:
            async with self.site.transaction() as cur:
                if act == "hold":
                    await desk_store.hold_queue(cur, kind, recipient, self.user.actor, why)
                    await self.record("delivery_queue_held", kind, recipient, cur, why=why)
                else:
                    await desk_store.release_queue(cur, kind, recipient)
                    await self.record("delivery_queue_released", kind, recipient, cur)
        except DeliveryRefused as error:
            raise Refused(404, N_("There is no such queue")) from error
        held, released = N_("The queue of %(recipient)s is held."), N_("The queue of %(recipient)s goes on.")
        await self.notify(held if act == "hold" else released, recipient=recipient)
        self.redirect("/deliveries/queues", status=303)


class DeliveryPage(Page):
    """GET /deliveries/ID: everything that happened to one."""

    needs = Right.DELIVERIES_VIEW
    section = "deliveries"

    async def get(self, number: str) -> None:
        """The delivery with its attempts."""
        try:
            async with self.site.cursor() as cur:
                log = await desk_store.read_delivery(cur, int(number))
                payload = await desk_store.read_payload(cur, int(number))
                now = await read_clock(cur)
                await self.record("delivery_viewed", "delivery", number, cur)
        except DeliveryRefused as error:
            raise Refused(404, N_("There is no delivery with this number")) from error
        content = payload[:20_000].decode("utf-8", "replace")
        acts = {act: possible(act, log.row.state) for act in ACTS}
        shared = {"kind_words": kind_words(self.spoken), "content": content, "acts": acts, "moment": now}
        await self.show("delivery.html", log=log, row=log.row, **shared)


class DeliveryActPage(Page):
    """POST /deliveries/ID/act: push, resend, settle or give_up."""

    needs = Right.DELIVERIES_MANAGE

    async def post(self, number: str) -> None:
        """Do it if the delivery still stands where that can be."""
        why = self.get_body_argument("why", "").strip()
        try:
            event = DeliveryEvent(self.get_body_argument("act", ""))
        except ValueError as error:
            raise HTTPError(400) from error
        if event not in ACTS:
            raise HTTPError(400)
        action, words = ACTS[event]
        try:
            async with self.site.transaction() as cur:
                now = await read_clock(cur)
                await desk_store.act_on_delivery(cur, int(number), event, self.user.actor, why, now)
                await self.record(action, "delivery", number, cur, why=why)
        except DeliveryRefused as error:
            if error.code == "delivery_unknown":
                raise Refused(404, N_("There is no delivery with this number")) from error
            await self.notify(
                N_("Delivery %(delivery)s has moved on meanwhile: look at it anew."), "warn", delivery=number
            )
        else:
            await self.notify(words, delivery=number)
        self.redirect(f"/deliveries/{number}", status=303)


def kind_words(language: Language) -> dict[str, str]:
    """Words of the kinds that have some; a kind of a newer program is told by its code."""
    return {kind: language.gettext(text) for kind, text in DELIVERY_KINDS.items()}


def queue_state(queue: QueueRow, now: datetime) -> str:
    """What holds a queue, as a code of QUEUE_STATES."""
    if queue.is_held:
        return "held"
    if queue.paused_until is not None and queue.paused_until > now:
        return "paused"
    if queue.breaker_until is not None:
        return "breaker"
    return "failing" if queue.failing_since is not None else "flows"


def possible(event: DeliveryEvent, state: str) -> bool:
    """Whether a person may do that to a delivery in a state."""
    return (DeliveryState(state), event) in TABLE
