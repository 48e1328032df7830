"""Partners' requests that changed no payment: repeats, refusals, and what a person should look at.

Rules. Conflicts come first on the page: they are the only kind that waits for a person. Every view is on the audit
record. A stranger's text is shown escaped and with its invisible letters written out.

Does not know: how attempts are found or kept.
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import parse_qsl

from gateway.journal.documents import Document
from gateway.journal.search import Filter
from gateway.partners.contracts import list_partners
from gateway.partners.records import PartnerRow
from web.access.rights import Right
from web.console.payments.conflicts import conflicts_told
from web.console.payments.payments import PAGE_ROWS
from web.site import filters
from web.site.filters import Choices, Form
from web.site.page import Page

KINDS: Final = (
    "conflict", "bad_signature", "bad_source", "malformed", "refusal", "repeat", "call", "overload",
)  # fmt: skip
#: Conflicts are counted no further: a few are a job for a person, hundreds for a telephone call.
CONFLICTS_COUNTED: Final = 99


def choices(partners: Iterable[PartnerRow]) -> Choices:
    """What may be named in the list's filter."""
    return Choices("kind", KINDS, tuple(partner.code for partner in partners), sums=False)


class AttemptsPage(Page):
    """GET /attempts."""

    needs = Right.ATTEMPTS_VIEW
    section = "attempts"

    async def get(self) -> None:
        """The filtered list."""
        async with self.site.cursor() as cur:
            partners = await list_partners(cur)
        form = filters.parse_form(self.arguments, choices(partners), self.now, self.site.zone)
        shared = {"form": form, "partners": partners, "kinds": KINDS, "limits": filters.LIMITS}
        shared |= {"query": filters.query_string, "partner_names": {p.code: p.name for p in partners}}
        if form.filter is None:
            self.set_status(400)
            await self.show("attempts.html", page=None, conflicts=0, broken="", **shared)
            return
        if not filters.is_canonical(form, parse_qsl(self.request.query)):
            self.redirect(f"/attempts?{filters.query_string(form, after=form.after)}".rstrip("?"))
            return
        await self.record("attempts_listed", filter=filters.query_string(form))
        try:
            page, conflicts = await asyncio.gather(
                self.site.journal.search_attempts(form.filter, form.after or None, PAGE_ROWS), self._conflicts(form)
            )
        except ValueError:
            self.set_status(400)
            await self.show("attempts.html", page=None, conflicts=0, broken=filters.BROKEN_PLACE, **shared)
            return
        told = await self._told(page.rows)
        await self.show("attempts.html", page=page, conflicts=conflicts, conflict_words=told, broken="", **shared)

    async def _told(self, rows: Iterable[Document]) -> dict[Any, str]:
        """Words of the conflicts among ``rows``, beside their payments as the journal has them."""
        ids = {row["payment_id"] for row in rows if row["kind"] == "conflict" and row["payment_id"] is not None}
        return conflicts_told(self.spoken, await self.site.journal.payments_by_id(sorted(ids)), rows) if ids else {}

    async def _conflicts(self, form: Form) -> int:
        """How many conflicts the period has, whatever else the filter says; at most CONFLICTS_COUNTED. None where the
        list shows them."""
        if form.filter is None or form.marks == ("conflict",):
            return 0
        period = Filter(start=form.filter.start, end=form.filter.end, kinds=("conflict",))
        return len((await self.site.journal.search_attempts(period, None, CONFLICTS_COUNTED)).rows)
