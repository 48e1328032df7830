"""What people keep and take of the list of payments: saved views, and all payments of a filter as a file.

Rules. A view belongs to who saved it (web/site/lists/views_store.py). A file is made by a job, so it may have any size;
its rows are those of the journal, in the columns of the export that is sent at once.

Does not know: how payments are found, how the job is done (web/console/list_work.py).
"""

from datetime import datetime, tzinfo
from decimal import Decimal
from urllib.parse import parse_qsl

from tornado.web import HTTPError

from billing.language import N_, Language
from billing.work.jobs import enqueue
from gateway.journal.documents import Document
from gateway.partners.contracts import list_partners
from ratingcore.money import format_minor
from web.access.rights import Right
from web.console.payments.payments import choices
from web.site import filters
from web.site.filters import Form
from web.site.lists.export import Cell, FileFormat
from web.site.lists.pages import change_views
from web.site.page import Page
from web.site.words import word


class PaymentViewsPage(Page):
    """POST /payments/views: save the filter under a name, or remove a view."""

    needs = Right.PAYMENTS_VIEW
    section = "payments"

    async def post(self) -> None:
        """Save or remove, and show the list as it was."""
        form = await posted_form(self)
        query = filters.query_string(form)
        await change_views(self, "payments", query)
        self.redirect(f"/payments?{query}".rstrip("?"), status=303)


class PaymentsJobExport(Page):
    """POST /payments/export: all payments of the filter as a file, made by a job."""

    needs = Right.PAYMENTS_EXPORT
    section = "payments"

    async def post(self) -> None:
        """Queue the job and show its page."""
        form = await posted_form(self)
        try:
            file_format = FileFormat(self.get_body_argument("format", ""))
        except ValueError as error:
            raise HTTPError(400) from error
        arguments = {
            "query": filters.query_string(form),
            "at": self.now.isoformat(),
            "language": self.language,
            "zone": str(self.site.zone),
            "format": file_format.value,
        }
        async with self.site.transaction() as cur:
            await self.record("payments_exported", "", "", cur, filter=arguments["query"], format=file_format.value)
            job_id = await enqueue(cur, "payments.export", arguments, asked_by=self.user.actor)
        await self.notify(N_("The file is being made. This page tells how far it is, and has the link to it."))
        self.redirect(f"/jobs/{job_id}", status=303)


def payment_cells(row: Document, language: Language, zone: tzinfo) -> list[Cell]:
    """A payment as a row of a file, in the order of EXPORT_COLUMNS."""

    def local(at: datetime | None) -> datetime | None:
        return None if at is None else at.astimezone(zone).replace(tzinfo=None, microsecond=0)

    return [
        str(row["_id"]), local(row["created_at"]), row["partner"], row["key"], row["service"], row["account"],
        row["account_name"], Decimal(format_minor(row["amount"])), row["currency"], row["state"],
        word(language, "state", row["state"]), word(language, "reason", row["reason"]), row["code"],
        local(row["registered_at"]), local(row["partner_time"]),
    ]  # fmt: skip


async def posted_form(page: Page) -> Form:
    """The filter that a posted field ``query`` holds. Raises HTTPError: 400, it is none."""
    arguments: dict[str, list[str]] = {}
    for name, value in parse_qsl(page.get_body_argument("query", "")[:8_000]):
        arguments.setdefault(name, []).append(value)
    async with page.site.cursor() as cur:
        partners = await list_partners(cur)
    form = filters.parse_form(arguments, choices(partners), page.now, page.site.zone)
    if form.filter is None:
        raise HTTPError(400)
    return form
