"""An invoice for people: its page, its PDF, and how each line of it came about.

Rules. The page lays out the same words as the PDF (billing.invoicing.documents), in the reader's language; the PDF is
in the customer's. Every view is on the audit record before it is shown. A PDF is made in a thread: it takes tens of
milliseconds, which other pages need not wait for. A line is derived by the judge, which computes it again and says
where it comes to another sum.

Does not know: what an invoice says, how it came about.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from billing.explanation.store import KINDS, judge_lines
from billing.explanation.words import derivation
from billing.invoicing.allocation_store import Allocation, allocations_of
from billing.invoicing.documents import document_of, file_name_of, make_pdf, money_words, new_compiler
from billing.invoicing.dunning_standing import Standing
from billing.invoicing.dunning_store import standing_of
from billing.invoicing.invoices import InvoiceDetails, InvoiceError
from billing.invoicing.list_store import INVOICE_ROWS
from billing.invoicing.store import invoice_details, invoice_id_of
from billing.language import N_
from billing.listing.records import Question, Row
from billing.listing.store import rows_by_key
from web.access.rights import Right
from web.console.billing.invoice_list import INVOICES
from web.site.lists.pages import ListedPage
from web.site.page import Refused
from web.site.site import READ_ONLY_SNAPSHOT, SNAPSHOT

#: Of an invoice's row in the list: what its page links to.
LINKED_FIELDS: Final = ("customer", "customer_number", "account", "run")


class InvoicePage(ListedPage):
    """GET /invoices/NUMBER."""

    needs = Right.INVOICES_VIEW
    section = "invoices"

    async def get(self, number: str) -> None:
        """The invoice with its state and what is unpaid of it."""
        loaded = await load_invoice(self, number)
        details = loaded.details
        document = document_of(details, self.language)
        say_money = partial(money_words, currency=details.invoice.currency, language=self.language)
        await self.show(
            "invoice.html",
            document=document,
            invoice=details.invoice,
            corrects=details.corrects_number,
            notes=details.notes,
            say_money=say_money,
            standing=loaded.standing,
            allocations=loaded.allocations,
            links=loaded.links,
            day=partial(self.formats.day, zone=self.site.zone),
        )


@dataclass(frozen=True, slots=True)
class LoadedInvoice:
    """An invoice, how its account stands now, what was directed to it, and what it leads to: LINKED_FIELDS."""

    details: InvoiceDetails
    standing: Standing
    allocations: Sequence[Allocation]
    links: Row


async def load_invoice(page: ListedPage, number: str) -> LoadedInvoice:
    """An issued invoice and how its account stands now, with the view on record. Drafts have no number, no page.

    Raises:
        HTTPError: 404, there is none.
    """
    if "\0" in number:  # PostgreSQL has no such text
        raise Refused(404, N_("There is no invoice with this number"))
    async with page.site.transaction(SNAPSHOT) as cur:
        try:
            invoice_id = await invoice_id_of(cur, number)
            scope = Question(legal_entities=page.legal_entities(INVOICES))
            rows = await rows_by_key(cur, INVOICE_ROWS, scope, [str(invoice_id)], LINKED_FIELDS)
            if not rows:
                raise InvoiceError("the invoice is another legal entity's")
            [details] = await invoice_details(cur, [invoice_id])
            standing = await standing_of(cur, details.invoice.account)
        except InvoiceError as error:
            raise Refused(404, N_("There is no invoice with this number")) from error
        allocations = await allocations_of(cur, invoice_id)
        await page.record("invoice_viewed", "invoice", details.invoice.number, cur)
    return LoadedInvoice(details, standing, allocations, rows[0])


class InvoiceExplainPage(ListedPage):
    """GET /invoices/NUMBER/explain."""

    needs = Right.INVOICES_VIEW
    section = "invoices"

    async def get(self, number: str) -> None:
        """Every line with its derivation: events, price, steps, share, promotions, rounding, tax."""
        details = (await load_invoice(self, number)).details
        wanted = [(details.invoice.id, line.line) for line in details.lines if line.kind in KINDS]
        async with self.site.transaction(READ_ONLY_SNAPSHOT) as cur:
            judged = {judged.line.line: judged for judged in await judge_lines(cur, wanted, {})}
        currency = details.invoice.currency
        lines = [
            (line.line, *derivation(line, judged.get(line.line), self.language, currency)) for line in details.lines
        ]
        is_wrong = any(line.wrong for line in judged.values())
        await self.show("invoice_explain.html", invoice=details.invoice, lines=lines, is_wrong=is_wrong)


class InvoicePdf(ListedPage):
    """GET /invoices/NUMBER/pdf."""

    needs = Right.INVOICES_VIEW

    async def get(self, number: str) -> None:
        """The document as the customer gets it."""
        details = (await load_invoice(self, number)).details
        pdf = await asyncio.to_thread(_pdf, details)
        name = quote(file_name_of(details.invoice.number, details.invoice.id))
        self.set_header("Content-Type", "application/pdf")
        self.set_header("Content-Disposition", f"attachment; filename*=UTF-8''{name}")
        self.finish(pdf)


def _pdf(details: InvoiceDetails) -> Any:
    """A compiler of its own: one is not for several threads at once."""
    return make_pdf(new_compiler(), document_of(details), details.issued_at)
