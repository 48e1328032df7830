"""An invoice for people: its page and its PDF.

Rules. The page lays out the same words as the PDF (billing.documents), in the reader's language; the PDF is in the
customer's. Every view is on the audit record before it is shown. A PDF is made in a thread: it takes tens of
milliseconds, which other pages need not wait for.

Does not know: what an invoice says, how it came about.
"""

import asyncio
from functools import partial
from typing import Any
from urllib.parse import quote

from tornado.web import HTTPError

from billing.documents import document_of, file_name_of, make_pdf, money_words, new_compiler
from billing.dunning_standing import Standing, standing_of
from billing.invoices import InvoiceDetails, InvoiceError, invoice_details, invoice_id_of
from web.page import Page
from web.shown import day


class InvoicePage(Page):
    """GET /invoices/NUMBER."""

    async def get(self, number: str) -> None:
        """The invoice with its state and what is unpaid of it."""
        found, standing = await self._load(number)
        document = document_of(found, self.language)
        say_money = partial(money_words, currency=found.invoice.currency, language=self.language)
        await self.show(
            "invoice.html",
            document=document,
            invoice=found.invoice,
            corrects=found.corrects_number,
            say_money=say_money,
            standing=standing,
            day=partial(day, zone=self.site.zone),
        )

    async def _load(self, number: str) -> tuple[InvoiceDetails, Standing]:
        """An issued invoice and how its account stands now, with the view on record. Drafts have no number, no page."""
        async with self.site.transaction("ISOLATION LEVEL REPEATABLE READ") as cur:
            try:
                [found] = await invoice_details(cur, [await invoice_id_of(cur, number)])
                standing = await standing_of(cur, found.invoice.account)
            except InvoiceError as error:
                raise HTTPError(404, "invoice.not_found") from error
            await self.record("invoice_viewed", "invoice", found.invoice.number, cur)
        return found, standing


class InvoicePdf(InvoicePage):
    """GET /invoices/NUMBER/pdf."""

    async def get(self, number: str) -> None:
        """The document as the customer gets it."""
        found, _ = await self._load(number)
        pdf = await asyncio.to_thread(_pdf, found)
        name = quote(file_name_of(found.invoice.number, found.invoice.id))
        self.set_header("Content-Type", "application/pdf")
        self.set_header("Content-Disposition", f"attachment; filename*=UTF-8''{name}")
        self.finish(pdf)


def _pdf(found: InvoiceDetails) -> Any:
    """A compiler of its own: one is not for several threads at once."""
    return make_pdf(new_compiler(), document_of(found), found.issued_at)
