"""``kopeck invoice``: look at invoices, make their PDFs, explain, credit, and say what a payment was for.

Does not know: what a state is (billing.invoicing.invoices), the rules of credit notes (billing.invoicing.credit_notes),
how a document looks.
"""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from billing.database.cursors import Cursor
from billing.explanation.store import KINDS, judge_lines
from billing.explanation.words import derivation
from billing.invoicing.allocation_store import allocate_payment
from billing.invoicing.credit_notes import CreditRequest
from billing.invoicing.credit_store import credit_invoice
from billing.invoicing.documents import document_of, file_name_of, make_pdf, new_compiler, state_words
from billing.invoicing.invoices import (
    Invoice,
    InvoiceDetails,
    InvoiceError,
    InvoiceFilter,
    InvoiceState,
    draft_id_of,
)
from billing.invoicing.store import invoice_details, invoice_id_of, list_invoices
from kopeck.cli.billing.invoice_files import write_run
from kopeck.cli.context import LANGUAGE, LANGUAGES, AliasedOption, Context, Day, pass_context, show_table
from kopeck.cli.progress import progress
from kopeck.databases.transactions import in_transaction
from ratingcore.money import Minor, format_minor, parse_minor
from web.access.rights import Right

DAY = Day()
#: Invoices that a list reads at a time.
PAGE = 1_000
STATES = ("draft", "issued", "paid", "overdue", "credited")


class Sum(click.ParamType):  # type: ignore[type-arg]
    """A sum of money more than nothing, such as 150.00."""

    name = "sum"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Minor:
        """Text to minor units."""
        try:
            return parse_minor(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class LineNumbers(click.ParamType):  # type: ignore[type-arg]
    """Numbers of lines with commas between them."""

    name = "lines"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Text to numbers."""
        words = [word.strip() for word in value.split(",")]
        if not all(word.isascii() and word.isdigit() and len(word) < 9 for word in words):
            self.fail(f"{value[:40]!r} are no line numbers such as 1,3", param, ctx)
        return tuple(int(word) for word in words)


@click.group()
def invoice() -> None:
    """Invoices and credit notes."""


@invoice.command("list")
@click.option("--account", metavar="NUMBER", help="Of this account.")
@click.option("--state", type=click.Choice(STATES), help="In this state.")
@click.option("--run", "run_id", type=int, help="Of this billing run.")
@click.option("--credit-notes", is_flag=True, help="Credit notes only.")
@click.option("--since", type=DAY, help="Dated on or after this day.")
@click.option("--until", type=DAY, help="Dated on or before this day.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="The newest of them.")
@click.option("--all", "everything", is_flag=True, help="All of them, however many.")
@click.option("--json", "as_json", is_flag=True, help="As JSON; sums in minor units.")
@pass_context
def list_(
    context: Context,
    account: str | None,
    state: str | None,
    run_id: int | None,
    credit_notes: bool,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    everything: bool,
    as_json: bool,
) -> None:
    """List invoices, the newest first. They are read and written page by page, so --all needs no memory in a pipe."""
    wanted = InvoiceFilter(
        account=account,
        state=InvoiceState(state) if state else None,
        kind="credit_note" if credit_notes else None,
        run_id=run_id,
        since=since.date() if since else None,
        until=until.date() if until else None,
    )

    with context.stores() as stores:
        found = _listed(stores.dsn, wanted, None if everything else limit)
        if as_json:
            _print_json(asdict(invoice) for invoice in found)
            return
        show_table(
            ("number", "date", "account", "customer", "total", "unpaid", "currency", "due", "state"),
            (
                (
                    invoice.number or f"draft {invoice.id}",
                    str(invoice.invoiced_on),
                    invoice.account,
                    invoice.customer,
                    format_minor(invoice.total),
                    format_minor(invoice.unpaid),
                    invoice.currency,
                    str(invoice.due_on),
                    invoice.state.value,
                )
                for invoice in found
            ),
            right=("total", "unpaid"),
        )


def _listed(dsn: str, wanted: InvoiceFilter, limit: int | None) -> Iterator[Invoice]:
    """Invoices page by page, each page below the last of the one before. limit: None for all."""
    left = limit
    while left is None or left > 0:
        size = PAGE if left is None else min(PAGE, left)
        page = in_transaction(dsn, lambda cur, asked=wanted, size=size: list_invoices(cur, asked, size))  # type: ignore[misc]
        yield from page
        if len(page) < size:
            return
        wanted = replace(wanted, before_id=page[-1].id)
        left = None if left is None else left - len(page)


def _print_json(rows: Iterator[Any]) -> None:
    """A JSON array, row by row as they come."""
    click.echo("[", nl=False)
    for place, row in enumerate(rows):
        click.echo((",\n" if place else "") + json.dumps(row, default=str, ensure_ascii=False), nl=False)
    click.echo("]")


@invoice.command()
@click.argument("number")
@LANGUAGE
@click.option("--json", "as_json", is_flag=True, help="As JSON; sums in minor units.")
@pass_context
def show(context: Context, number: str, language: str, as_json: bool) -> None:
    """Show an invoice with its lines, taxes and payments. A draft is named as lists name it: "draft 123" or 123."""
    found = _details(context, number)
    if as_json:
        click.echo(json.dumps(asdict(found), default=str, ensure_ascii=False))
        return
    document = document_of(found, language)
    click.echo("  ".join([document["title"], *document["subtitle"]]))
    click.echo("; ".join(state_words(found.invoice, language)))
    click.echo(f"{document['buyer']['name']}; {'; '.join(f'{name}: {value}' for name, value in document['facts'])}")
    texts = document["texts"]
    headings = (
        texts["no"],
        texts["name"],
        texts["quantity"],
        texts["net"],
        texts["rate"],
        texts["tax"],
        texts["gross"],
    )
    rows = [
        (
            one["number"],
            " · ".join([one["name"], *one["notes"]]),
            *(one[name] for name in ("quantity", "net", "rate", "tax", "gross")),
        )
        for one in document["lines"]
    ]
    show_table(headings, rows, right=headings[:1] + headings[2:])
    for row in [*document["taxes"], *document["balance"]]:
        click.echo("  ".join(row))
    click.echo(f"{document['result']['label']}: {document['result']['sum']}")


def _details(context: Context, number: str) -> InvoiceDetails:
    async def work(cur: Cursor) -> Any:
        draft = draft_id_of(number)
        found = await invoice_details(cur, [draft]) if draft is not None else []
        if not found or found[0].invoice.number:  # only drafts go by their id: numbers may be digits alone
            found = await invoice_details(cur, [await invoice_id_of(cur, number)])
        if not found:
            raise InvoiceError(f"there is no invoice {number[:40]!r}")
        return found[0]

    found: InvoiceDetails = context.in_transaction(work)
    return found


@invoice.command()
@click.argument("number")
@click.option("--line", type=click.IntRange(1), help="Only this line.")
@LANGUAGE
@pass_context
def explain(context: Context, number: str, line: int | None, language: str) -> None:
    """Derive the lines of an invoice: events, price, steps, share, promotions, rounding, tax.

    Each line is computed again by the judge; exit status 1 where it does not come to what was billed.
    """
    found = _details(context, number)
    lines = [one for one in found.lines if line is None or one.line == line]
    if not lines:
        raise InvoiceError(f"{number} has no line {line}")
    wanted = [(found.invoice.id, one.line) for one in lines if one.kind in KINDS]

    judged = {one.line.line: one for one in context.in_transaction(lambda cur: judge_lines(cur, wanted, {}))}
    for one in lines:
        heading, sentences = derivation(one, judged.get(one.line), language, found.invoice.currency)
        click.echo(heading)
        for sentence in sentences:
            click.echo(f"    {sentence}")
    if any(one.wrong for one in judged.values()):
        raise click.exceptions.Exit(1)


@invoice.command()
@click.argument("number", required=False)
@click.option("--run", "run_id", type=int, help="All invoices of this billing run.")
@click.option("--out", type=click.Path(path_type=Path), help="File, or with --run the folder.")
@click.option(
    "--language", "--lang", cls=AliasedOption, type=click.Choice(LANGUAGES), help="Instead of the customer's own."
)
@click.option("--workers", type=click.IntRange(1, 64), help="Processes, with --run. [default: one a processor]")
@pass_context
def pdf(
    context: Context,
    number: str | None,
    run_id: int | None,
    out: Path | None,
    language: str | None,
    workers: int | None,
) -> None:
    """Make the PDF of an invoice, or of all invoices of a run into a folder."""
    if (number is None) == (run_id is None):
        raise click.UsageError("name an invoice, or a run with --run")
    if run_id is not None:
        if out is None:
            raise click.UsageError("--run needs --out FOLDER")
        _pdfs(context, run_id, out, language, workers)
        return

    assert number is not None
    found = _details(context, number)
    path = out or Path(file_name_of(found.invoice.number, found.invoice.id))
    made = make_pdf(new_compiler(), document_of(found, language), found.issued_at)
    try:
        path.write_bytes(made)
    except OSError as error:
        raise click.ClickException(f"cannot write {path}: {error.strerror}") from error
    click.echo(str(path))


def _pdfs(context: Context, run_id: int, out: Path, language: str | None, workers: int | None) -> None:
    began = time.monotonic()
    with context.stores() as stores, progress(f"PDFs of run {run_id}", 1_000) as report:

        def told(done: int, total: int) -> None:
            pace = done / max(0.001, time.monotonic() - began)
            report(1_000 * done // total, f"{done:,} of {total:,}, {pace:,.0f} a second")

        count = write_run(stores.dsn, run_id, out, language, workers or os.cpu_count() or 1, told)
    spent_s = time.monotonic() - began
    click.echo(f"{count} PDFs in {out}, {spent_s:.1f} s, {count / spent_s:.0f} a second")


@invoice.command()
@click.argument("number")
@click.option("--lines", type=LineNumbers(), help="Credit what is left of these lines, such as 1,3.")
@click.option("--all", "everything", is_flag=True, help="Credit what is left of the whole invoice.")
@click.option("--amount", type=Sum(), help="Credit this much of one line, tax included.")
@click.option("--line", type=click.IntRange(1), help="The line of --amount.")
@click.option("--key", required=True, help="Your own key of this correction: a repeat does nothing.")
@click.option("--why", required=True, help="The reason; it is printed on the credit note.")
@pass_context
def credit(
    context: Context,
    number: str,
    lines: tuple[int, ...] | None,
    everything: bool,
    amount: Minor | None,
    line: int | None,
    key: str,
    why: str,
) -> None:
    """Write a credit note on an issued invoice and post it."""
    if [lines is not None, everything, amount is not None].count(True) != 1 or (amount is None) != (line is None):
        raise click.UsageError("say what to credit: --lines 1,3, or --all, or --amount X --line N")
    wanted = CreditRequest((line,) if line is not None else lines, amount)

    note, is_new = context.act(
        Right.INVOICES_CHANGE,
        lambda cur, who: credit_invoice(cur, number, wanted, key=key, actor=who.name, why=why),
    )
    said = "" if is_new else "was written before with this key: it "
    word = "credits" if note.total <= 0 else "charges"  # what takes a negative line back
    click.echo(f"{note.number} {said}{word} {format_minor(abs(note.total))} {note.currency} of {number}")


@invoice.command()
@click.argument("number")
@click.option("--payment", "payment_id", type=click.IntRange(1), help="The payment's number.")
@click.option(
    "--transfer", "transfer_id", type=click.IntRange(1), help="Or the transfer, as `kopeck account show` has it."
)
@click.option("--amount", type=Sum(), help="This much of it; without, as much as both allow.")
@pass_context
def allocate(
    context: Context, number: str, payment_id: int | None, transfer_id: int | None, amount: Minor | None
) -> None:
    """Say that a payment is for this invoice; what nobody directs goes to the oldest."""
    if (payment_id is None) == (transfer_id is None):
        raise click.UsageError("name the payment with --payment or the transfer with --transfer")

    directed, is_new = context.act(
        Right.INVOICES_CHANGE,
        lambda cur, who: allocate_payment(
            cur, number, amount, payment_id=payment_id, transfer_id=transfer_id, actor=who.name
        ),
    )
    click.echo(f"{format_minor(directed)} {'go' if is_new else 'went already'} to {number}")
