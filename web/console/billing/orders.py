"""Orders for people: the list, and one order with its terms, history and what was billed of it.

Rules. Read-only: changes are commands. Every view is on the audit record before it is shown.

Does not know: which changes are allowed, how rows are found (billing.orders.list_store).
"""

from typing import Final

from billing.language import N_
from billing.orders.list_store import ORDER_ROWS, ORDER_STATES
from web.access.rights import Right
from web.site.lists.declaration import Kind, ListColumn, Listing, Tab

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
        ListColumn("starts", N_("From"), Kind.INSTANT),
        ListColumn("ends", N_("Until"), Kind.INSTANT),
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
    noun=("%(num)s order", "%(num)s orders"),
    needs=Right.ORDERS_VIEW,
    tabs=(
        Tab(N_("All"), ""),
        Tab(N_("In force"), "state=active"),
        Tab(N_("Suspended"), "state=suspended"),
        Tab(N_("Planned"), "state=planned"),
    ),
)  # fmt: skip
