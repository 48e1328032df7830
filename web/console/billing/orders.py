"""Orders for people: the list, and one order with its terms, history and what was billed of it.

Rules. Read-only: changes are commands. Every view is on the audit record before it is shown.

Does not know: which changes are allowed, how rows are found (billing.orders.list_store).
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from tornado.web import HTTPError

from billing.database.cursors import Cursor
from billing.language import N_
from billing.listing.records import Match, Question, Row, TextIs
from billing.listing.store import page_of
from billing.orders.list_store import ORDER_ROWS, ORDER_STATES
from billing.orders.records import Order
from billing.orders.store import (
    events_of,
    list_orders,
    order_by_number,
    periods_of_order,
    periods_to_come,
    suspensions_of,
)
from web.access.rights import Right
from web.site.lists.declaration import Kind, ListColumn, Listing, Tab
from web.site.lists.pages import ListedPage
from web.site.site import SNAPSHOT

STATE_WORDS: Final = {
    "planned": N_("planned"),
    "active": N_("in force"),
    "suspended": N_("suspended"),
    "ended": N_("ended"),
    "billed": N_("billed to its end"),
    "cancelled": N_("never began"),
}
assert tuple(STATE_WORDS) == ORDER_STATES
KIND_WORDS: Final = {"recurring": N_("recurring"), "one_time": N_("one-time")}
PERIOD_WORDS: Final = {
    "day": N_("day"), "week": N_("week"), "month": N_("month"), "quarter": N_("quarter"), "year": N_("year"),
}  # fmt: skip

ORDERS: Final = Listing(
    "orders",
    N_("Orders"),
    ORDER_ROWS,
    (
        ListColumn("number", N_("Order"), Kind.CODE, "/orders/{number}", place="title", is_primary=True),
        ListColumn(
            "customer", N_("Customer"), link="/customers/{customer_number}", under="customer_number", place="under",
            is_primary=True,
        ),
        ListColumn("account", N_("Account"), Kind.CODE, "/customers/{customer_number}", is_primary=True),
        ListColumn("plan", N_("Plan or item"), Kind.CODE, is_primary=True),
        ListColumn("quantity", N_("Quantity"), Kind.NUMBER),
        ListColumn("starts", N_("Starts"), Kind.INSTANT),
        ListColumn("ends", N_("Ends"), Kind.INSTANT),
        ListColumn(
            "state", N_("State"), Kind.STATE, words=STATE_WORDS, tones="order_state", place="mark", is_primary=True
        ),
        ListColumn("customer_number", N_("Customer number"), Kind.CODE, "/customers/{customer_number}", is_shown=False),
        ListColumn("payer", N_("Paid by"), Kind.CODE, under="payer_name", is_shown=False),
        ListColumn("price", N_("Own price"), Kind.MONEY, currency="currency", is_shown=False),
        ListColumn("minimum", N_("Minimum"), Kind.MONEY, currency="currency", is_shown=False),
        ListColumn("currency", N_("Currency"), Kind.CODE, is_shown=False),
        ListColumn("kind", N_("Kind"), Kind.STATE, words=KIND_WORDS, is_shown=False),
        ListColumn("period", N_("Billed each"), Kind.STATE, words=PERIOD_WORDS, is_shown=False),
        ListColumn("catalogue", N_("Catalogue"), Kind.CODE, is_shown=False),
        ListColumn("trial_until", N_("Trial until"), Kind.INSTANT, is_shown=False),
        ListColumn("created", N_("Made at"), Kind.INSTANT, is_shown=False),
    ),
    order="-starts",
    noun=lambda language, rows: language.ngettext("%(num)s order", "%(num)s orders", rows),
    needs=Right.ORDERS_VIEW,
    tabs=(
        Tab(N_("All"), ""),
        Tab(N_("In force"), "state=active"),
        Tab(N_("Suspended"), "state=suspended"),
        Tab(N_("Planned"), "state=planned"),
    ),
)  # fmt: skip

#: Rows shown of each: periods that were billed, events.
SHOWN_ROWS: Final = 24
#: Periods to come that are told.
COMING: Final = 3
PART_WORDS: Final = {
    "advance": N_("in advance"),
    "arrears": N_("in arrears"),
    "once": N_("once"),
    "adjustment": N_("adjustment"),
    "late": N_("late usage"),
}
OUTCOME_WORDS: Final = {"billed": N_("billed"), "waived": N_("waived")}
REASON_WORDS: Final = {
    "asked": N_("suspended on request"),
    "dunning": N_("suspended for debt"),
    "balance": N_("suspended for lack of balance"),
}
PRORATION_WORDS: Final = {
    "none": N_("a broken period is billed whole"),
    "day": N_("a broken period is billed by the day"),
    "second": N_("a broken period is billed by the second"),
}
EVENT_WORDS: Final = {
    "created": N_("made"),
    "imported": N_("imported"),
    "ended": N_("end set"),
    "end_withdrawn": N_("end taken back"),
    "suspended": N_("suspended"),
    "resumed": N_("resumed"),
    "replaced": N_("replaced by another"),
    "payer_moved": N_("payer changed"),
}


class OrderPage(ListedPage):
    """GET /orders/NUMBER."""

    needs = Right.ORDERS_VIEW
    section = "orders"

    async def get(self, number: str) -> None:
        """The order with its terms, what was billed of it and what people did."""
        async with self.site.transaction(SNAPSHOT) as cur:
            row = await self._row(cur, number)
            order = await _order(cur, row)
            await self.record("order_viewed", "order", order.number, cur)
            billed = await periods_of_order(cur, order.id, SHOWN_ROWS)
            coming = await periods_to_come(cur, order, COMING)
            suspensions = await suspensions_of(cur, order.id)
            events = await events_of(cur, order.id, SHOWN_ROWS)
        await self.show(
            "order.html",
            order=order,
            row=row,
            billed=billed,
            coming=coming,
            suspensions=suspensions,
            events=events,
            said=self._said_of,
            at=lambda seconds: datetime.fromtimestamp(seconds, UTC) if seconds is not None else None,
            told=told,
        )

    def _said_of(self, words: str, code: str) -> str:
        """The word of a code of one of WORDS; a code without one stays as it is."""
        return self.spoken.gettext(WORDS[words][code]) if code in WORDS[words] else code

    async def _row(self, cur: Cursor, number: str) -> Row:
        """The order's row of the list, within what the user may see. Raises HTTPError: 404, there is none such."""
        if "\0" in number:
            raise HTTPError(404)
        question = Question((TextIs("number", Match.EQUALS, number),), legal_entities=self.legal_entities(ORDERS))
        names = ("number", "state", "customer", "customer_number", "account", "payer", "payer_name", "currency")
        rows = (await page_of(cur, ORDER_ROWS, question, names, None, 1)).rows
        if not rows:
            raise HTTPError(404)
        return rows[0]


WORDS: Final = {
    "state": STATE_WORDS, "part": PART_WORDS, "outcome": OUTCOME_WORDS, "reason": REASON_WORDS, "event": EVENT_WORDS,
    "proration": PRORATION_WORDS, "period": PERIOD_WORDS, "kind": KIND_WORDS,
}  # fmt: skip


async def _order(cur: Cursor, row: Row) -> Order:
    """The whole order of a row; one without a number is known by its id alone."""
    order = await order_by_number(cur, row["number"])
    if order is None:
        order_id = int(row["row_key"])
        order = next((one for one in await list_orders(cur, after=order_id - 1, limit=1) if one.id == order_id), None)
    if order is None:
        raise HTTPError(404)
    return order


def told(details: Mapping[str, Any]) -> str:
    """What an event tells besides its name."""
    return ", ".join(str(value) for value in details.values() if value not in ("", None))
