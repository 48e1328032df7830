"""Invoices and credit notes as documents: every word and number of one, and the PDF of it.

Rules. ``document_of`` makes the whole document in words: the template (templates/invoice.typ) and the page for people
(web/templates/invoice.html) only lay it out, so one template serves every language. Sums are `1 234,56` in Russian and
`1,234.56` in English. Tax is shown by rate; the parts of a table sum to its total because they are sums of the lines.
A price is shown where it is an exact number of up to PRICE_DECIMALS decimals, on the basis of the line's tariff (with
or without tax); what `kopeck invoice explain` derives is not repeated here. The same invoice gives the same bytes.

What a person may have written into ``legal_entities.details`` and ``customers.details`` or ``contacts`` is shown under
the names in SELLER_DETAILS, BANK_DETAILS and BUYER_DETAILS; anything else is not shown.

Does not know: the database, files.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import typst

from billing.invoicing.amount_in_words import amount_in_words
from billing.invoicing.invoices import Invoice, InvoiceDetails, Line, Party
from billing.language import N_, NBSP, NP_, Formats, language_of
from billing.wording import Words
from ratingcore.bands import zone_of

TEMPLATE: Final = Path(__file__).parent / "templates" / "invoice.typ"
#: Most decimals of a price on a document.
PRICE_DECIMALS: Final = 8
SECONDS_OF_MINUTE: Final = 60

#: What of a party is shown, in this order; the words are TEXTS' ``party.NAME``.
SELLER_DETAILS: Final = ("inn", "kpp", "ogrn", "address", "phone", "email")
BANK_DETAILS: Final = ("account", "bank", "bik", "correspondent_account")
BUYER_DETAILS: Final = ("inn", "kpp", "address", "person", "phone", "email")

#: Words of documents by their keys.
TEXTS: Final[Mapping[str, str]] = {
    "invoice": N_("Invoice No. %(number)s of %(date)s"),
    "credit_note": N_("Credit note No. %(number)s of %(date)s"),
    "draft": N_("Draft invoice of %(date)s"),
    "corrects": N_("to invoice No. %(number)s of %(date)s"),
    "why": N_("Reason: %(why)s"),
    "draft_mark": N_("DRAFT"),
    "seller": N_("Seller"),
    "buyer": N_("Buyer"),
    "account_number": N_("Account"),
    "due": N_("Due date"),
    "currency": N_("Currency"),
    "pay_to": N_("Bank details for payment"),
    "party.inn": N_("Tax number (INN)"),
    "party.kpp": N_("KPP"),
    "party.ogrn": N_("Registration number (OGRN)"),
    "party.address": N_("Address"),
    "party.phone": N_("Phone"),
    "party.email": N_("E-mail"),
    "party.person": N_("Contact"),
    "party.account": NP_("bank", "Account"),
    "party.bank": N_("Bank"),
    "party.bik": N_("Bank code (BIK)"),
    "party.correspondent_account": N_("Correspondent account"),
    "no": N_("No."),
    "name": N_("Description"),
    "quantity": N_("Quantity"),
    "price": N_("Price"),
    "price.inside": N_("Price incl. VAT"),
    "price.outside": N_("Price excl. VAT"),
    "net": N_("Net amount"),
    "rate": N_("VAT"),
    "tax": N_("VAT amount"),
    "gross": N_("Gross amount"),
    "total": N_("Total"),
    "taxes": N_("VAT by rate"),
    "no_tax": N_("No VAT"),
    "balance": N_("Statement"),
    "previous_debt": N_("Balance brought forward (owed)"),
    "previous_credit": N_("Balance brought forward (in credit)"),
    "payments": N_("Payments received"),
    "corrections": N_("Corrections"),
    "this": N_("This invoice"),
    "to_pay": N_("Amount to pay"),
    "nothing_to_pay": N_("Nothing to pay; balance in credit"),
    "credited": N_("Total credited"),
    "charged": N_("Total charged"),
    "in_words": N_("In words"),
    "director": N_("Director"),
    "accountant": N_("Chief accountant"),
    "signature": N_("signature"),
    "page": N_("Page %(page)s of %(pages)s"),
    "with_tax": N_("incl. VAT"),
    "without_tax": N_("excl. VAT"),
    "plan": N_("plan %(plan)s"),
    "of_account": N_("account\u00a0%(account)s"),
    "share_days": N_("%(active)s of %(whole)s days of the period"),
    "share_part": N_("%(percent)s%% of the period"),
    "discount": N_("after a discount of %(sum)s"),
    "line.minimum": N_("Minimum charge, difference"),
    "line.adjustment": N_("adjustment"),
    "line.credit": N_("credit of line %(line)s"),
    "state.draft": N_("draft"),
    "state.issued": N_("issued"),
    "state.paid": N_("paid"),
    "state.overdue": N_("overdue"),
    "state.credited": N_("credited in full"),
    "state.unpaid": N_("unpaid %(sum)s"),
    "state.credited_sum": N_("credited %(sum)s"),
    "kind.recurring": N_("recurring"),
    "kind.usage": N_("usage"),
    "kind.one_time": N_("one time"),
    "kind.percentage": N_("percentage"),
    "kind.minimum": N_("minimum charge"),
    "kind.adjustment": N_("adjustment"),
    "kind.manual": N_("by hand"),
    "kind.credit": N_("credit"),
    "by_hand": N_("written by a person: %(sum)s, tax %(tax)s"),
    "differs": N_("differs from what was billed: %(why)s"),
}


class _Writer:
    """Numbers, dates and sentences of one document."""

    def __init__(self, language: str, currency: str) -> None:
        self.language = language
        self.words = Words(language, currency)

    def say(self, key: str, **values: Any) -> str:
        return self.words.say(TEXTS[key], **values)

    @property
    def formats(self) -> Formats:
        return self.words.spoken.formats

    @property
    def page(self) -> str:
        """What stands under a page; the template puts in the numbers, which nobody knows before."""
        return self.say("page", page="{page}", pages="{pages}")

    def sum(self, minor: int) -> str:
        return self.formats.amount(minor)

    def money(self, minor: int) -> str:
        return self.formats.money(minor, self.words.currency)

    def day(self, day: date) -> str:
        return self.formats.date(day)

    def percent(self, ppm: int) -> str:
        return self.formats.percent(ppm)

    def rate(self, ppm: int, is_taxed: bool) -> str:
        """A rate of nothing is a rate; no tax is not (Russian Tax Code, articles 164 and 149)."""
        return self.percent(ppm) if is_taxed else self.say("no_tax")


def document_of(details: InvoiceDetails, language: str | None = None) -> dict[str, Any]:
    """The document in words, ready to be laid out; JSON types only.

    Args:
        language: a code; None: the customer's.
    """
    invoice = details.invoice
    writer = _Writer(language or details.language, invoice.currency)
    lines = [_line(line, invoice.account, writer) for line in details.lines]
    return {
        "language": writer.language,
        "texts": {key: writer.say(key) for key, text in TEXTS.items() if "%" not in text} | {"page": writer.page},
        "title": _title(details, writer),
        "subtitle": _subtitle(details, writer),
        "draft": writer.say("draft_mark") if not invoice.number else "",
        "is_credit_note": invoice.corrects_id is not None,
        "facts": _facts(details, writer),
        "seller": _party(details.seller, SELLER_DETAILS, writer),
        "bank": _labelled(details.seller, BANK_DETAILS, writer),
        "buyer": _party(details.buyer, BUYER_DETAILS, writer),
        "price": writer.say(_price_heading(details.lines)),
        "lines": lines,
        "totals": [writer.sum(value) for value in (invoice.net, invoice.tax, invoice.total)],
        "taxes": _taxes(details.lines, writer),
        "balance": _balance(details, writer),
        "result": _result(details, writer),
        "director": details.seller.details.get("director", ""),
        "accountant": details.seller.details.get("accountant", ""),
    }


def money_words(amount: int, currency: str, language: str) -> str:
    """A sum as documents of this language have it."""
    return _Writer(language, currency).money(amount)


def state_words(invoice: Invoice, language: str) -> list[str]:
    """What became of an invoice, for a terminal: its state, what of it is unpaid and what notes took off it."""
    writer = _Writer(language, invoice.currency)
    words = [writer.say(f"state.{invoice.state.value}")]
    if invoice.corrects_id is None:
        words.append(writer.say("state.unpaid", sum=writer.words.money(invoice.unpaid)))
    if invoice.credited:
        words.append(writer.say("state.credited_sum", sum=writer.words.money(invoice.credited)))
    return words


def line_words(language: str, key: str, **values: Any) -> str:
    """A sentence of TEXTS about a line."""
    return language_of(language).gettext(TEXTS[key], **values)


def new_compiler() -> typst.Compiler:
    """What makes PDFs; one a process, used again and again. Fonts are those of the wheel, so machines agree."""
    return typst.Compiler(TEMPLATE, root=TEMPLATE.parent, ignore_system_fonts=True)


def make_pdf(compiler: typst.Compiler, document: Mapping[str, Any], issued_at: datetime | None) -> bytes:
    """The document as a PDF.

    Args:
        issued_at: goes into the file as its date; None: of a draft, the epoch.
    """
    stamp = int(issued_at.timestamp()) if issued_at else 0
    inputs = {"document": json.dumps(document, ensure_ascii=False)}
    found = compiler.compile(format="pdf", sys_inputs=inputs, timestamp=stamp)
    assert isinstance(found, bytes)  # of a single file
    return found


def _title(details: InvoiceDetails, writer: _Writer) -> str:
    invoice = details.invoice
    kind = "draft" if not invoice.number else "credit_note" if invoice.corrects_id is not None else "invoice"
    return writer.say(kind, number=invoice.number, date=writer.day(invoice.invoiced_on))


def _subtitle(details: InvoiceDetails, writer: _Writer) -> list[str]:
    if details.invoice.corrects_id is None or details.corrects_on is None:
        return []
    corrects = writer.say("corrects", number=details.corrects_number, date=writer.day(details.corrects_on))
    return [corrects, writer.say("why", why=details.why)] if details.why else [corrects]


def _facts(details: InvoiceDetails, writer: _Writer) -> list[list[str]]:
    invoice = details.invoice
    facts = [[writer.say("account_number"), invoice.account], [writer.say("currency"), invoice.currency]]
    if invoice.corrects_id is None:
        facts.insert(0, [writer.say("due"), writer.day(invoice.due_on)])
    return facts


def _party(party: Party, names: Iterable[str], writer: _Writer) -> dict[str, Any]:
    return {"name": party.name, "details": _labelled(party, names, writer)}


def _labelled(party: Party, names: Iterable[str], writer: _Writer) -> list[list[str]]:
    return [[writer.say(f"party.{name}"), party.details[name]] for name in names if name in party.details]


# ---- lines


def _line(line: Line, payer: str, writer: _Writer) -> dict[str, Any]:
    return {
        "number": str(line.line),
        "name": _name(line, writer),
        "notes": [note for note in _notes(line, payer, writer) if note],
        "quantity": _quantity(line, writer),
        "price": _price(line, writer),
        "net": writer.sum(line.net),
        "rate": writer.rate(line.tax_ppm, line.is_taxed),
        "tax": writer.sum(line.tax) if line.is_taxed else "\u2013",
        "gross": writer.sum(line.net + line.tax),
    }


def _name(line: Line, writer: _Writer) -> str:
    if line.description:
        return line.description
    name = writer.words.name(line.names) if line.names else line.item
    if line.kind == "minimum" or not name:
        return writer.say("line.minimum")
    return f"{name}, {writer.say('line.adjustment')}" if line.kind == "adjustment" else name


def _notes(line: Line, payer: str, writer: _Writer) -> list[str]:
    """What stands under a line's name: whose, which plan, which period, which part of it, what came off."""
    plan = writer.say("plan", plan=writer.words.name(line.plan_names)) if line.plan_names else ""
    account = writer.say("of_account", account=line.account) if line.account not in ("", payer) else ""
    discount = writer.say("discount", sum=writer.money(line.discount)) if line.discount else ""
    first = ", ".join(part for part in (plan, account) if part)
    credit = writer.say("line.credit", line=line.line) if line.kind == "credit" else ""
    period = "" if line.description else _period(line, writer)
    second = ", ".join(part for part in (period, _share(line, writer), credit, discount) if part)
    return [first[:1].upper() + first[1:], second]


def _period(line: Line, writer: _Writer) -> str:
    """First and last day, in the order's zone."""
    zone = zone_of(line.zone)
    last = max(line.period_start, line.period_end - timedelta(seconds=1)).astimezone(zone).date()
    first = line.period_start.astimezone(zone).date()
    return writer.day(first) if first == last else f"{writer.day(first)}\u2013{writer.day(last)}"


def _share(line: Line, writer: _Writer) -> str:
    if line.share is None or line.share[0] == line.share[1]:
        return ""
    active, whole = line.share
    if line.proration == "day":
        return writer.say("share_days", active=active, whole=whole)
    # In hundredths of a percent: it is only shown, the amount was made from the exact share.
    return writer.say("share_part", percent=writer.words.percent(100 * round(Fraction(active * 10_000, whole))))


def _quantity(line: Line, writer: _Writer) -> str:
    if line.kind in ("minimum", "manual", "adjustment", "percentage", "credit") or not line.unit:
        return ""
    if _is_in_minutes(line):
        minutes, seconds = divmod(line.quantity, SECONDS_OF_MINUTE)
        rest = f"{NBSP}{seconds}{NBSP}{writer.words.unit('s', {})}" if seconds else ""
        return f"{writer.words.count(minutes)}{NBSP}{writer.words.unit('min', {})}{rest}"
    unit = writer.words.unit(line.unit, line.unit_names)
    return f"{writer.words.decimal(line.quantity, line.decimals)}{NBSP}{unit}"


def _is_in_minutes(line: Line) -> bool:
    """Whether seconds are shown as people count them: in minutes, and the price by the minute."""
    return line.unit == "s" and not line.decimals and not line.unit_names and abs(line.quantity) >= SECONDS_OF_MINUTE


def _price(line: Line, writer: _Writer) -> str:
    """The line's amount by its quantity, where that is an exact price."""
    if not _quantity(line, writer) or line.quantity <= 0:
        return ""
    per = SECONDS_OF_MINUTE if _is_in_minutes(line) else 1
    micro = Fraction(line.amount * 10 ** (PRICE_DECIMALS - 2) * 10**line.decimals * per, line.quantity)
    if micro.denominator != 1:
        return ""
    price = writer.formats.decimal(int(micro), PRICE_DECIMALS, 2)
    return f"{price}{NBSP}/{NBSP}{writer.words.unit('min', {})}" if per > 1 else price


def _price_heading(lines: Sequence[Line]) -> str:
    inside = {line.tax_inside for line in lines if line.tax_ppm}
    return "price" if len(inside) != 1 else "price.inside" if inside == {True} else "price.outside"


# ---- sums


def _taxes(lines: Iterable[Line], writer: _Writer) -> list[list[str]]:
    """(rate, net, tax, gross) of each rate, the highest first and what is not taxed last."""
    sums: dict[tuple[int, bool], tuple[int, int]] = {}
    for line in lines:
        net, tax = sums.get((line.tax_ppm, line.is_taxed), (0, 0))
        sums[line.tax_ppm, line.is_taxed] = (net + line.net, tax + line.tax)
    return [
        [
            writer.rate(ppm, is_taxed),
            writer.sum(net),
            writer.sum(tax) if is_taxed else "\u2013",
            writer.sum(net + tax),
        ]
        for (ppm, is_taxed), (net, tax) in sorted(sums.items(), reverse=True)
    ]


def _balance(details: InvoiceDetails, writer: _Writer) -> list[list[str]]:
    """The way from the previous balance to what is to be paid, which is its sum; a credit note has none."""
    if details.invoice.corrects_id is not None:
        return []
    previous = "previous_credit" if details.previous > 0 else "previous_debt"
    rows = [[writer.say(previous), writer.sum(-details.previous)]]
    rows.append([writer.say("payments"), writer.sum(-details.payments)])
    if details.corrections:
        rows.append([writer.say("corrections"), writer.sum(-details.corrections)])
    return [*rows, [writer.say("this"), writer.sum(details.invoice.total)]]


def _result(details: InvoiceDetails, writer: _Writer) -> dict[str, str]:
    """The last line: what is to be paid, or what is left for the buyer; in words too."""
    if details.invoice.corrects_id is not None:
        key, sum_ = "credited" if details.invoice.total <= 0 else "charged", abs(details.invoice.total)
    else:
        key = "to_pay" if details.balance_after <= 0 else "nothing_to_pay"
        sum_ = abs(details.balance_after)
    words = amount_in_words(sum_, details.invoice.currency, writer.language)
    return {"label": writer.say(key), "sum": writer.money(sum_), "words": words}


def file_name_of(number: str, invoice_id: int) -> str:
    """A name for the file of an invoice: its number as far as every file system takes it; a draft has its id.

    >>> file_name_of("И/1-000012", 5), file_name_of("", 5)
    ('И_1-000012.pdf', 'draft-5.pdf')
    """
    kept = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in number)
    return f"{kept or f'draft-{invoice_id}'}.pdf"
