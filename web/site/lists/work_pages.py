"""What people do with all rows of a list: take them away as a file, act on many at once.

Rules. A small export is sent at once; a larger one, and every bulk action, is a job that is queued in the transaction
of its record, and its page tells progress and results. A bulk action says first how many rows it will touch; above the
number that its declaration names, that number is typed. If the rows changed meanwhile, it asks again. A form that is
sent twice queues one job.

Does not know: how the work is done (web/console/list_work.py), which lists there are.
"""

import secrets
import tempfile
from asyncio import to_thread
from dataclasses import dataclass
from typing import Any, Final

from tornado.web import HTTPError

from billing.language import N_
from billing.listing.records import Question, TooSlow
from billing.listing.store import count_of, portions_of, rows_by_key
from billing.work.jobs import enqueue
from web.site.lists import shown
from web.site.lists.declaration import BulkAction, Listing
from web.site.lists.export import Columns, FileFormat, list_file
from web.site.lists.pages import ListServicePage, scoped
from web.site.lists.request import ListRequest
from web.site.site import READ_ONLY_SNAPSHOT

#: Rows that are sent at once; more are a job.
DIRECT_ROWS: Final = 5_000
#: Rows that may be ticked one by one; a page shows fewer.
MAX_TICKED: Final = 1_000
#: A count before a bulk action, which somebody waits for.
COUNT_MS: Final = 15_000
_SPOOLED_BYTES: Final = 4 << 20
_TOKEN_CHARS: Final = 24


class ExportPage(ListServicePage):
    """POST /lists/NAME/export: all rows of the filter as a file."""

    async def post(self, name: str) -> None:
        """Send the file, or queue the job that makes it."""
        listing = await self.listing_named(name)
        await self.demand(listing.exports)
        request = await self.posted_request(listing)
        try:
            form = FileFormat(self.get_body_argument("format", ""))
        except ValueError as error:
            raise HTTPError(400) from error
        question = scoped(request, self.legal_entities(listing))
        async with self.site.transaction(READ_ONLY_SNAPSHOT) as cur:
            count = await count_of(cur, listing.source, question)
        if count.is_exact and count.rows <= DIRECT_ROWS:
            await self._send(listing, request, question, form)
            return
        async with self.site.transaction() as cur:
            await self.record(
                "list_exported", "list", listing.name, cur, filter=request.query(), rows=count.rows, format=form.value
            )
            arguments = {**job_arguments(self, listing, request), "format": form.value, "rows": count.rows}
            job_id = await enqueue(cur, "list.export", arguments, asked_by=self.user.actor)
        await self.notify(N_("The file is being made. This page tells how far it is, and has the link to it."))
        self.redirect(f"/jobs/{job_id}", status=303)

    async def _send(self, listing: Listing, request: ListRequest, question: Question, form: FileFormat) -> None:
        _, options = await self.read(listing, {})
        labels = {column.name: dict(shown.choices_of(column, options, self.spoken)) for column in listing.columns}
        columns = Columns(listing, request.columns, self.spoken, self.site.zone, labels)
        names = listing.fields_of(request.columns)
        title = self.spoken.gettext(listing.title)
        rows = 0
        with tempfile.SpooledTemporaryFile(_SPOOLED_BYTES) as file:
            written = list_file(form, file, columns.heading, title)
            async with self.site.transaction(READ_ONLY_SNAPSHOT) as cur:
                async for portion in portions_of(cur, listing.source, question, names):
                    rows += len(portion)
                    await to_thread(written.write, [columns.cells(row) for row in portion])
            await to_thread(written.close)
            await self.record(
                "list_exported", "list", listing.name, filter=request.query(), rows=rows, format=form.value
            )
            self.set_header("Content-Type", form.media_type)
            file_name = f"{listing.name}-{self.now.astimezone(self.site.zone):%Y%m%d-%H%M%S}.{form.ending}"
            self.set_header("Content-Disposition", f'attachment; filename="{file_name}"')
            file.seek(0)
            self.finish(file.read())


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which rows an action is for: those ticked, or all of the filter. rows: how many there are now."""

    is_all: bool
    keys: tuple[str, ...]
    rows: int


class BulkPage(ListServicePage):
    """POST /lists/NAME/act: what will be done, then the job that does it."""

    async def post(self, name: str) -> None:
        """Ask, or queue."""
        listing = await self.listing_named(name)
        action = next((one for one in listing.actions if one.name == self.get_body_argument("action", "")), None)
        if action is None:
            raise HTTPError(400)
        await self.demand(action.needs)
        request = await self.posted_request(listing)
        try:
            chosen = await self._chosen(listing, scoped(request, self.legal_entities(listing)))
        except TooSlow:
            await self.notify(N_("There are too many rows to count. Narrow the filter first."), "bad")
            self.redirect(request.address(), status=303)
            return
        if not chosen.rows:
            await self.notify(N_("No row is chosen."), "warn")
            self.redirect(request.address(), status=303)
            return
        problem = self._problem(action, chosen)
        if problem is None:
            await self._queue(listing, action, request, chosen)
            return
        self.set_status(400 if problem else 200)
        await self.show(
            "list_confirm.html",
            listing=listing,
            action=action,
            request=request,
            chosen=chosen,
            must_type=chosen.rows > action.typed_above,
            problem=problem,
            token=secrets.token_urlsafe(_TOKEN_CHARS)[:_TOKEN_CHARS],
        )

    async def _chosen(self, listing: Listing, question: Question) -> Chosen:
        """Raises TooSlow."""
        if self.get_body_argument("all", "") == "yes":
            async with self.site.transaction(READ_ONLY_SNAPSHOT) as cur:
                count = await count_of(cur, listing.source, question, is_patient=True, timeout_ms=COUNT_MS)
            if not count.is_exact:
                raise TooSlow("the rows could not be counted in time")
            return Chosen(True, (), count.rows)
        keys = tuple(dict.fromkeys(self.get_body_arguments("row")))
        if len(keys) > MAX_TICKED or any(not (key.isascii() and key.isdecimal() and len(key) < 19) for key in keys):
            raise HTTPError(400)
        async with self.site.transaction(READ_ONLY_SNAPSHOT) as cur:
            rows = await rows_by_key(cur, listing.source, question, keys, ())
        found = {row["row_key"] for row in rows}
        return Chosen(False, tuple(key for key in keys if key in found), len(found))

    def _problem(self, action: BulkAction, chosen: Chosen) -> str | None:
        """What keeps the job from being queued, in words; empty: it was not confirmed yet; None: nothing does."""
        if self.get_body_argument("confirmed", "") != "yes":
            return ""
        if self.get_body_argument("count", "") != str(chosen.rows):
            return self.spoken.gettext("The rows of the filter have changed since you were asked. Look again.")
        typed = "".join(self.get_body_argument("typed", "").split())
        if chosen.rows > action.typed_above and typed != str(chosen.rows):
            return self.spoken.gettext("Type the number of rows, so that it is certain that you mean all of them.")
        return None

    async def _queue(self, listing: Listing, action: BulkAction, request: ListRequest, chosen: Chosen) -> None:
        token = self.get_body_argument("token", "")[:_TOKEN_CHARS]
        arguments = job_arguments(self, listing, request) | {"rows": chosen.rows}
        arguments["keys"] = None if chosen.is_all else list(chosen.keys)
        async with self.site.transaction() as cur:
            detail = {"filter": request.query(), "rows": chosen.rows, "name": action.name}
            await self.record("bulk_started", "list", listing.name, cur, **detail)
            key = f"bulk:{self.user.id}:{token}" if token else None
            job_id = await enqueue(cur, f"bulk.{action.name}", arguments, asked_by=self.user.actor, key=key)
        self.redirect(f"/jobs/{job_id}", status=303)


def job_arguments(page: ListServicePage, listing: Listing, request: ListRequest) -> dict[str, Any]:
    """What a job needs to read the same rows: the address as it stands now, and what its asker may see."""
    entities = page.legal_entities(listing)
    return {
        "list": listing.name,
        "query": request.query(columns=".".join(request.columns)),
        "at": page.now.isoformat(),
        "language": page.language,
        "zone": str(page.site.zone),
        "legal_entities": None if entities is None else list(entities),
    }
