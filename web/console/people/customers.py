"""Customers for people: the list, and one customer with accounts, orders, invoices, payments and adjustments.

Rules. Read-only: changes are commands. Money is the ledger's: balances of accounts, posted transfers. Every view is on
the audit record before it is shown. A page reads in one snapshot.

Does not know: how balances come about, how rows are found (billing.customers.list_store).
"""

from collections.abc import Sequence
from typing import Final
from urllib.parse import urlencode

from tornado.web import HTTPError

from billing.customers.legal_entities_store import list_entities
from billing.customers.list_store import CUSTOMER_ROWS
from billing.customers.store import accounts_of, customer_by_number
from billing.database.cursors import Cursor
from billing.language import N_, languages
from billing.ledger.account_store import statement
from billing.ledger.accounts import StatementLine
from billing.listing.records import Match, Question, TextIs
from billing.listing.store import page_of
from web.access.rights import Right
from web.site.lists.declaration import Kind, ListColumn, Listing, Tab, linked
from web.site.lists.excerpts import excerpt_of
from web.site.lists.pages import ListedPage
from web.site.site import SNAPSHOT

CUSTOMER_STATES: Final = {"active": N_("active"), "closed": N_("closed")}
ACCOUNT_STATES: Final = {"active": N_("active"), "inactive": N_("inactive"), "closed": N_("closed")}
#: Of others there may be a file, which gives their own names.
LANGUAGES: Final = {"ru": N_("Russian"), "en": N_("English")}


async def entity_options(cur: Cursor) -> Sequence[tuple[str, str]]:
    """Legal entities to choose from."""
    return [(entity.number, entity.name) for entity in await list_entities(cur)]


async def further_languages(cur: Cursor) -> Sequence[tuple[str, str]]:
    """Languages to choose from that are files alone."""
    return [(language.code, language.name) for language in languages() if language.code not in LANGUAGES]


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
        ListColumn(
            "orders", N_("Orders in force"), Kind.NUMBER,
            "/orders?customer_number={number}&customer_number.match=equals",
        ),
        ListColumn(
            "state", N_("State"), Kind.STATE, words=CUSTOMER_STATES, tones="customer_state", place="mark",
            is_primary=True,
        ),
        ListColumn("group", N_("Group")),
        ListColumn("created", N_("Customer since"), Kind.INSTANT),
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
        ListColumn("language", N_("Language"), Kind.STATE, words=LANGUAGES, options=further_languages, is_shown=False),
        ListColumn("phone", N_("Phone"), Kind.CODE, is_shown=False),
        ListColumn("email", N_("Email"), Kind.CODE, is_shown=False),
        ListColumn("inn", N_("INN"), Kind.CODE, is_shown=False),
    ),
    order="number",
    noun=lambda language, rows: language.ngettext("%(num)s customer", "%(num)s customers", rows),
    needs=Right.CUSTOMERS_VIEW,
    tabs=(
        Tab(N_("All"), ""),
        Tab(N_("In force"), "state=active"),
        Tab(N_("In debt"), "balance.max=-0.01"),
        Tab(N_("Closed"), "state=closed"),
    ),
)  # fmt: skip

#: Movements of money shown of each account.
STATEMENT_LINES: Final = 20


class CustomerPage(ListedPage):
    """GET /customers/NUMBER."""

    needs = Right.CUSTOMERS_VIEW
    section = "customers"

    async def get(self, number: str) -> None:
        """The customer with accounts, orders, invoices and the newest movements of money."""
        # Here, since the lists of orders and invoices link back to customers.
        from web.console.billing.invoice_list import INVOICES
        from web.console.billing.orders import ORDERS

        query = urlencode({"customer_number": number, "customer_number.match": "equals"})
        async with self.site.transaction(SNAPSHOT) as cur:
            if not await self._is_visible(cur, number):
                raise HTTPError(404)
            customer = await customer_by_number(cur, number)
            assert customer is not None
            await self.record("customer_viewed", "customer", number, cur)
            accounts = await accounts_of(cur, customer.id)
            orders = await excerpt_of(
                self, cur, ORDERS, query, ("number", "account", "plan", "starts", "ends", "state")
            )
            invoices = await excerpt_of(
                self, cur, INVOICES, query, ("number", "account", "invoiced", "due", "total", "unpaid", "state")
            )
            lines = {account.number: await statement(cur, account.id, STATEMENT_LINES) for account in accounts}
        movements = sorted(
            ((account, line) for account in accounts for line in lines[account.number]),
            key=lambda movement: (movement[1].at, movement[1].transfer_id),
            reverse=True,
        )
        await self.show(
            "customer.html",
            customer=customer,
            accounts=accounts,
            orders=orders,
            invoices=invoices,
            movements=movements[:STATEMENT_LINES],
            source_word=lambda line: self.spoken.gettext(SOURCE_WORDS[line.source]),
            line_href=line_href,
            state_word=self.spoken.gettext(CUSTOMER_STATES[customer.state]),
            account_word=lambda account: self.spoken.gettext(ACCOUNT_STATES[account.state]),
        )

    async def _is_visible(self, cur: Cursor, number: str) -> bool:
        """Whether there is such a customer within what the user may see."""
        if "\0" in number:
            return False
        question = Question((TextIs("number", Match.EQUALS, number),), legal_entities=self.legal_entities(CUSTOMERS))
        return bool((await page_of(cur, CUSTOMER_ROWS, question, (), None, 1)).rows)


SOURCE_WORDS: Final = {
    "payment": N_("Payment"),
    "invoice": N_("Invoice"),
    "manual": N_("Posting by hand"),
    "settlement": N_("Settlement"),
}


def line_href(line: StatementLine) -> str:
    """The page of what moved the money; empty where it has none."""
    if line.source == "payment":
        return f"/payments/{line.source_id}"
    if line.source == "invoice" and line.document and not line.document.startswith("draft "):
        return linked("/invoices/{number}", {"number": line.document})
    return ""
