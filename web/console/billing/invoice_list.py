"""The list of invoices and credit notes.

Does not know: how an invoice looks (invoices), how rows are found (billing.invoicing.list_store).
"""

from typing import Final

from billing.invoicing.list_store import INVOICE_ROWS, INVOICE_STATES
from billing.language import N_
from web.access.rights import Right
from web.console.people.customers import entity_options
from web.site import words
from web.site.lists.declaration import BulkAction, Kind, ListColumn, Listing, Tab

STATE_WORDS: Final = words.INVOICE_STATES
assert tuple(STATE_WORDS) == INVOICE_STATES
KIND_WORDS: Final = {"invoice": N_("invoice"), "credit_note": N_("credit note")}

INVOICES: Final = Listing(
    "invoices",
    N_("Invoices"),
    INVOICE_ROWS,
    (
        ListColumn("number", N_("Invoice"), Kind.CODE, "/invoices/{number}", place="title", is_primary=True),
        ListColumn(
            "customer", N_("Customer"), link="/customers/{customer_number}", under="customer_number", place="under",
            is_primary=True,
        ),
        ListColumn("account", N_("Account"), Kind.CODE, "/customers/{customer_number}", is_primary=True),
        ListColumn("invoiced", N_("Dated"), Kind.DATE, is_primary=True),
        ListColumn("due", N_("Due"), Kind.DATE),
        ListColumn("total", N_("Total"), Kind.MONEY, currency="currency", place="figure"),
        ListColumn("unpaid", N_("Unpaid"), Kind.MONEY, currency="currency"),
        ListColumn(
            "state", N_("State"), Kind.STATE, words=STATE_WORDS, tones="invoice_state", place="mark", is_primary=True
        ),
        ListColumn("kind", N_("Kind"), Kind.STATE, words=KIND_WORDS, is_shown=False),
        ListColumn("customer_number", N_("Customer number"), Kind.CODE, "/customers/{customer_number}", is_shown=False),
        ListColumn("net", N_("Net"), Kind.MONEY, currency="currency", is_shown=False),
        ListColumn("tax", N_("Tax"), Kind.MONEY, currency="currency", is_shown=False),
        ListColumn("credited", N_("Credited"), Kind.MONEY, currency="currency", is_shown=False),
        ListColumn("currency", N_("Currency"), Kind.CODE, is_shown=False),
        ListColumn("run", N_("Run"), Kind.CODE, "/runs/{run}", is_shown=False),
        ListColumn(
            "corrects", N_("Corrects"), Kind.CODE, "/invoices/{corrects}", is_shown=False,
            why_not=N_("Open the corrected invoice: it names its credit notes."),
        ),
        ListColumn(
            "legal_entity", N_("Legal entity"), Kind.STATE, under="legal_entity_name", options=entity_options,
            is_shown=False,
        ),
    ),
    order="-invoiced",
    noun=lambda language, rows: language.ngettext("%(num)s invoice", "%(num)s invoices", rows),
    needs=Right.INVOICES_VIEW,
    actions=(
        BulkAction(
            "invoice_pdfs", N_("Make PDF files"), N_("A PDF of each of these invoices is made, all in one archive."),
            Right.EXPORTS_RUN, label="number",
        ),
    ),
    tabs=(
        Tab(N_("All"), ""),
        Tab(N_("Overdue"), "state=overdue"),
        Tab(N_("Drafts"), "state=draft"),
        Tab(N_("Credit notes"), "kind=credit_note"),
    ),
)  # fmt: skip
