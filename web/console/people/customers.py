"""Customers for people: the list, and one customer with accounts, orders, invoices, payments and adjustments.

Rules. Read-only: changes are commands. Money is the ledger's: balances of accounts, posted transfers. Every view is on
the audit record before it is shown. A page reads in one snapshot.

Does not know: how balances come about, how rows are found (billing.customers.list_store).
"""

from collections.abc import Sequence
from typing import Final

from billing.customers.legal_entities_store import list_entities
from billing.customers.list_store import CUSTOMER_ROWS
from billing.database.cursors import Cursor
from billing.language import N_
from web.access.rights import Right
from web.site.lists.declaration import Kind, ListColumn, Listing, Tab

CUSTOMER_STATES: Final = {"active": N_("active"), "closed": N_("closed")}
ACCOUNT_STATES: Final = {"active": N_("active"), "inactive": N_("inactive"), "closed": N_("closed")}
LANGUAGES: Final = {"ru": N_("Russian"), "en": N_("English")}


async def entity_options(cur: Cursor) -> Sequence[tuple[str, str]]:
    """Legal entities to choose from."""
    return [(entity.number, entity.name) for entity in await list_entities(cur)]


CUSTOMERS: Final = Listing(
    "customers",
    N_("Customers"),
    CUSTOMER_ROWS,
    (
        ListColumn(
            "number", N_("Customer"), Kind.CODE, "/customers/{number}", under="name", place="title", is_primary=True
        ),
        ListColumn("name", N_("Name"), link="/customers/{number}", is_primary=True, place="under"),
        ListColumn(
            "account", N_("Account"), Kind.CODE, "/customers/{number}", is_primary=True,
        ),
        ListColumn("balance", N_("Balance"), Kind.MONEY, currency="currency", place="figure", is_primary=True),
        ListColumn("orders", N_("Orders in force"), Kind.NUMBER, "/orders?customer_number={number}"),
        ListColumn(
            "state", N_("State"), Kind.STATE, words=CUSTOMER_STATES, tones="customer_state", place="mark",
            is_primary=True,
        ),
        ListColumn("group", N_("Group")),
        ListColumn("created", N_("Since"), Kind.INSTANT),
        ListColumn("accounts", N_("Accounts"), Kind.NUMBER, is_shown=False),
        ListColumn("account_state", N_("State of the account"), Kind.STATE, words=ACCOUNT_STATES, is_shown=False),
        ListColumn("currency", N_("Currency"), Kind.CODE, is_shown=False),
        ListColumn(
            "parent", N_("Parent"), Kind.CODE, "/customers/{parent}", under="parent_name", is_shown=False
        ),
        ListColumn(
            "legal_entity", N_("Legal entity"), Kind.STATE, under="legal_entity_name", options=entity_options,
            is_shown=False,
        ),
        ListColumn("language", N_("Language"), Kind.STATE, words=LANGUAGES, is_shown=False),
        ListColumn("phone", N_("Phone"), Kind.CODE, is_shown=False),
        ListColumn("email", N_("Email"), Kind.CODE, is_shown=False),
        ListColumn("inn", N_("INN"), Kind.CODE, is_shown=False),
    ),
    order="number",
    noun=("%(num)s customer", "%(num)s customers"),
    needs=Right.CUSTOMERS_VIEW,
    tabs=(
        Tab(N_("All"), ""),
        Tab(N_("Active"), "state=active"),
        Tab(N_("In debt"), "balance.max=-0.01"),
        Tab(N_("Closed"), "state=closed"),
    ),
)  # fmt: skip
