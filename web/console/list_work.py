"""The work behind lists, done by jobs: a list of any size as a file, and actions on many rows.

Rules. What the job reads is what its asker saw: the address as it was, the instant it was asked at, the legal entities
its right was for. Rows come through a cursor of the server in one snapshot, so memory does not grow with them. An
action tells what became of each row; what it did before it was cut off is told again, not done twice.

Does not know: how a job is begun and ended (kopeck.work).
"""

import zipfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qs
from zoneinfo import ZoneInfo

from billing.database.aiopg import connect
from billing.database.cursors import Cursor
from billing.database.session import IDLE_IMPORT_S
from billing.invoicing.documents import document_of, file_name_of, make_pdf, new_compiler
from billing.invoicing.invoices import MAX_DETAILED
from billing.invoicing.store import invoice_details
from billing.language import language_of
from billing.listing.records import Question
from billing.listing.store import keys_after, portions_of, rows_by_key
from billing.refusals import Refusal
from billing.work.jobs import JobContext
from gateway.journal.journal import Journal
from gateway.journal.totals import PaymentCounts, payment_totals
from gateway.partners.contracts import list_partners
from web.console.listings import LISTINGS
from web.console.payments.kept import payment_cells
from web.console.payments.payments import EXPORT_COLUMNS, choices
from web.site.filters import parse_form
from web.site.lists import shown
from web.site.lists.declaration import Listing
from web.site.lists.export import Columns, FileFormat, list_file
from web.site.lists.request import ListRequest, read_request

#: A query of a list of millions that has to be sorted first.
STATEMENT_TIMEOUT_S: Final = 3_600.0
#: Rows between two looks at whether the job shall stop.
PORTION_ROWS: Final = 2_000
#: Invoices whose details are read at once.
INVOICES_AT_ONCE: Final = 100
assert INVOICES_AT_ONCE <= MAX_DETAILED


async def export_list(context: JobContext) -> Mapping[str, Any]:
    """``list.export``: write all rows of a list to a file."""
    listing, language, zone = _asked(context)
    form = FileFormat(context.arguments["format"])
    async with _snapshot(context) as cur:
        request, labels = await _request(cur, context, listing)
        question = _question(context, request)
        names = listing.fields_of(request.columns)
        columns = Columns(listing, request.columns, language, zone, labels)
        expected = int(context.arguments.get("rows", 0)) or None
        rows = 0
        file_name = f"{listing.name}-{datetime.fromisoformat(context.arguments['at']).astimezone(zone):%Y%m%d-%H%M%S}"
        with context.file(f"{file_name}.{form.ending}", form.media_type) as file:
            written = list_file(form, file, columns.heading, language.gettext(listing.title))
            async for portion in portions_of(cur, listing.source, question, names, PORTION_ROWS):
                context.check_cancelled()
                written.write(columns.cells(row) for row in portion)
                rows += len(portion)
                context.progress(rows, max(expected or 0, rows) if expected else None, doing=listing.name)
            written.close()
    context.progress(rows, rows)
    return {"rows": rows}


async def export_payments(context: JobContext) -> Mapping[str, Any]:
    """``payments.export``: write all payments of a filter, as the journal has them, newest first."""
    language, zone = language_of(context.arguments["language"]), ZoneInfo(context.arguments["zone"])
    form, at = FileFormat(context.arguments["format"]), datetime.fromisoformat(context.arguments["at"])
    journal = Journal(context.journal_uri, context.journal_database)
    connection = await connect(
        context.dsn, name="kopeck-job", statement_timeout_s=STATEMENT_TIMEOUT_S, idle_transaction_s=IDLE_IMPORT_S
    )
    try:
        async with connection, connection.cursor() as cur:
            partners = await list_partners(cur)
            wanted = parse_form(parse_qs(context.arguments["query"]), choices(partners), at, zone).filter
            if wanted is None:
                raise Refusal("the list has changed since this was asked for: ask again on its page")
            totals = await payment_totals(cur, wanted.start, wanted.end, wanted.states, wanted.partners)
            expected = totals.count if wanted.is_counted else None
            heading = [language.gettext(words) for words in EXPORT_COLUMNS.values()]
            rows = 0

            @asynccontextmanager
            async def lent() -> AsyncIterator[Cursor]:
                yield cur

            file_name = f"payments-{at.astimezone(zone):%Y%m%d-%H%M%S}.{form.ending}"
            with context.file(file_name, form.media_type) as file:
                written = list_file(form, file, heading, language.gettext("Payments"))
                async for portion in journal.export_payments(wanted, PaymentCounts(lent)):
                    context.check_cancelled()
                    written.write(payment_cells(document, language, zone) for document in portion)
                    rows += len(portion)
                    context.progress(rows, max(expected, rows) if expected is not None else None, doing="payments")
                written.close()
    finally:
        journal.close()
    context.progress(rows, rows)
    return {"rows": rows}


async def invoice_pdfs(context: JobContext) -> Mapping[str, Any]:
    """``bulk.invoice_pdfs``: a PDF of each invoice in one archive."""
    listing, *_ = _asked(context)
    made = 0
    compiler = new_compiler()
    async with _snapshot(context) as cur:
        request, _ = await _request(cur, context, listing)
        question = _question(context, request)
        with (
            context.file("invoices.zip", "application/zip") as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
        ):
            async for keys in _keys(cur, context, listing, question, INVOICES_AT_ONCE):
                for details in await invoice_details(cur, [int(key) for key in keys]):
                    context.check_cancelled()
                    name = file_name_of(details.invoice.number, details.invoice.id)
                    pdf = make_pdf(compiler, document_of(details), details.issued_at)
                    archive.writestr(name, pdf)
                    context.row(str(details.invoice.id), "done", name, details.invoice.number)
                    made += 1
                    context.progress(made, int(context.arguments["rows"]))
    return {"rows": made}


def _asked(context: JobContext) -> tuple[Listing, Any, ZoneInfo]:
    listing = LISTINGS.get(str(context.arguments.get("list")))
    if listing is None:
        raise Refusal(f"there is no list {str(context.arguments.get('list'))[:40]!r}")
    return listing, language_of(context.arguments["language"]), ZoneInfo(context.arguments["zone"])


@asynccontextmanager
async def _snapshot(context: JobContext) -> AsyncIterator[Cursor]:
    """A cursor in one snapshot of its own."""
    connection = await connect(
        context.dsn,
        name="kopeck-job",
        statement_timeout_s=STATEMENT_TIMEOUT_S,
        idle_transaction_s=IDLE_IMPORT_S,
    )
    async with connection, connection.cursor() as cur:
        await cur.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield cur
        await cur.execute("COMMIT")


async def _request(
    cur: Cursor, context: JobContext, listing: Listing
) -> tuple[ListRequest, Mapping[str, Mapping[str, str]]]:
    """The request as it was when the job was asked for, and the words of codes."""
    _, language, zone = _asked(context)
    options = {column.name: await column.options(cur) for column in listing.columns if column.options}
    at = datetime.fromisoformat(context.arguments["at"])
    request = read_request(listing, parse_qs(context.arguments["query"]), language, at, zone, options=options)
    if request.question is None:
        raise Refusal("the list has changed since this was asked for: ask again on its page")
    return request, {column.name: dict(shown.choices_of(column, options, language)) for column in listing.columns}


def _question(context: JobContext, request: ListRequest) -> Question:
    assert request.question is not None
    entities = context.arguments["legal_entities"]
    return Question(request.question.conditions, request.question.order, None if entities is None else tuple(entities))


async def _keys(
    cur: Cursor, context: JobContext, listing: Listing, question: Question, size: int
) -> AsyncIterator[Sequence[str]]:
    """Keys of the chosen rows, in portions: those that were ticked, or all of the filter."""
    ticked = context.arguments.get("keys")
    if ticked is not None:
        for start in range(0, len(ticked), size):
            rows = await rows_by_key(cur, listing.source, question, ticked[start : start + size], ())
            yield [row["row_key"] for row in rows]
        return
    after: str | None = None
    while keys := await keys_after(cur, listing.source, question, after, size):
        yield keys
        after = keys[-1]
