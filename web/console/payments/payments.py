"""Payments for people: the list with its search, the export, one payment, and taking one back.

Rules. Lists come from the journal, totals and one payment come fresh from PostgreSQL: what a person decides about is
never a copy. Every view is on the audit record before it is shown. A cancel is a command to the gateway's core like
any other, so two people, or one pressing twice, cancel a payment once.

Does not know: how payments are found, who may cancel a payment in which state of its account (gateway.payments.decide
says).
"""

import asyncio
import contextlib
import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from tornado.iostream import StreamClosedError
from tornado.web import HTTPError

from adapters.messages import Reason, Result
from billing.language import N_
from billing.ledger.account_store import account_by_number
from gateway.journal.documents import Document, payment_documents
from gateway.journal.search import Filter, JournalAway, JournalError
from gateway.journal.totals import PaymentCounts, Totals, payment_totals, totals_of
from gateway.partners.contracts import list_partners
from gateway.partners.records import PartnerRow
from gateway.payments.records import NOTE_MAX, Command, OperatorCancel
from gateway.payments.states import TABLE, Event, State
from web.access.rights import Right
from web.console.payments.conflicts import conflicts_told, distinct
from web.site import filters
from web.site import formatting as shown
from web.site.filters import Choices, Form
from web.site.lists.views_store import View, views_of
from web.site.page import UNAVAILABLE, Page, Refused, safe_target
from web.site.site import SNAPSHOT

PAGE_ROWS: Final = 50
#: A spreadsheet holds 1,048,576 lines.
EXPORT_MAX_ROWS: Final = 1_000_000
#: Columns of the export and their headings.
EXPORT_COLUMNS: Final = {
    "id": N_("No."),
    "received": N_("Received"),
    "partner": N_("Partner"),
    "key": N_("Partner's key"),
    "service": N_("Service"),
    "account": N_("Account"),
    "name": N_("Name"),
    "sum": N_("Amount"),
    "currency": N_("Currency"),
    "state_code": N_("State code"),
    "state": N_("State"),
    "reason": N_("Reason"),
    "code": N_("Code"),
    "registered": N_("Registered"),
    "partner_time": N_("Partner's time"),
}
#: Parameters of the list's address that say days.
_DAYS: Final = frozenset({"period", "from", "to"})
_NO_ANSWER: Final = N_(
    "There is no answer yet: the reversal may or may not have happened. Reload the page and repeat if needed; "
    "a payment is never reversed twice."
)
#: Shorter is not a reason.
NOTE_MIN: Final = 5
_MAX_ID: Final = 2**63 - 1

#: States from which `gateway.payments.decide` lets a person take the money back; sent and unknown wait for an answer
#: (truth 7).
CANCELLABLE: Final = frozenset({State.HELD, State.POSTED})
assert all((state, Event.VOID) in TABLE or (state, Event.REVERSE) in TABLE for state in CANCELLABLE)

#: The order in which totals are told: money that arrived, money under way, money that did not stay.
TOTAL_ORDER: Final = (
    State.POSTED, State.HELD, State.SENT, State.UNKNOWN, State.REVERSED, State.VOIDED, State.REFUSED,
)  # fmt: skip
assert set(TOTAL_ORDER) == set(State)


def choices(partners: Iterable[PartnerRow]) -> Choices:
    """What may be named in the list's filter."""
    return Choices("state", tuple(state.value for state in State), tuple(partner.code for partner in partners))


class CountedPage(Page):
    """A page that knows how many payments each hour has, and how many a filter by date, state and partner finds."""

    @property
    def counts(self) -> PaymentCounts:
        """What windows of the list are measured by."""
        return PaymentCounts(self.site.cursor)

    async def counted(self, wanted: Filter) -> Totals | None:
        """The filter's totals; None for a text or a range of sums, which nothing counts."""
        if not wanted.is_counted:
            return None
        async with self.site.cursor() as cur:
            return await payment_totals(cur, wanted.start, wanted.end, wanted.states, wanted.partners)


class PaymentsPage(CountedPage):
    """GET /payments: the list."""

    needs = Right.PAYMENTS_VIEW
    section = "payments"

    async def get(self) -> None:
        """The filtered list, its totals, or what is wrong with the filter."""
        async with self.site.cursor() as cur:
            partners = await list_partners(cur)
        form = filters.parse_form(self.arguments, choices(partners), self.now, self.site.zone)
        shared = {"form": form, "partners": partners, "states": list(State), "limits": filters.LIMITS}
        shared |= {"export_max": EXPORT_MAX_ROWS, "query": filters.query_string, "views": await self._views(form)}
        if form.filter is None:
            self.set_status(400)
            await self.show("payments.html", page=None, totals=None, broken="", **shared)
            return
        if not filters.is_canonical(form, parse_qsl(self.request.query)):
            self.redirect(f"/payments?{filters.query_string(form, after=form.after)}".rstrip("?"))
            return
        await self.record("payments_listed", filter=filters.query_string(form))
        search = self.site.journal.search_payments(form.filter, form.after or None, PAGE_ROWS, self.counts)
        try:
            page, counted = await asyncio.gather(search, self.counted(form.filter))
        except ValueError:
            self.set_status(400)
            await self.show("payments.html", page=None, totals=None, broken=filters.BROKEN_PLACE, **shared)
            return
        totals = counted or (totals_of(within(form.filter, page.rows)) if page.is_everything else None)
        await self.show("payments.html", page=page, totals=totals and grouped(totals), broken="", **shared)

    async def _views(self, form: Form) -> list[tuple[View, str]]:
        """Saved views with their addresses; one without days keeps those of the page."""
        async with self.site.cursor() as cur:
            views = await views_of(cur, self.user.id, "payments")
        days = [pair for pair in parse_qsl(filters.query_string(form)) if pair[0] in _DAYS]
        addresses = []
        for view in views:
            pairs = parse_qsl(view.query)
            kept = pairs if any(name in _DAYS for name, _ in pairs) else pairs + days
            addresses.append(f"/payments?{urlencode(kept)}")
        return list(zip(views, addresses, strict=True))


class PaymentsExport(CountedPage):
    """GET /payments.csv: the same filter as a file."""

    needs = Right.PAYMENTS_EXPORT
    section = "payments"

    async def get(self) -> None:
        """UTF-8 with a mark at the start and semicolons: what spreadsheets of the Russian locale open as a table.

        The file is sent while it is read. What nothing counts ends at EXPORT_MAX_ROWS with a line that says so.
        """
        async with self.site.cursor() as cur:
            partners = await list_partners(cur)
        form = filters.parse_form(self.arguments, choices(partners), self.now, self.site.zone)
        if form.filter is None:
            raise Refused(400, N_("Correct the marked fields."))
        totals = await self.counted(form.filter)
        if totals and totals.count > EXPORT_MAX_ROWS:
            self.set_status(400)
            title = self._(
                "More than %(limit)s payments match, which is the limit of an export. Narrow the period.",
                limit=self.formats.count(EXPORT_MAX_ROWS),
            )
            await self.show("error.html", title=title, hint="", away="")
            return
        counted = {"rows": totals.count} if totals else {}
        await self.record("payments_exported", filter=filters.query_string(form), **counted)
        name = f"payments-{form.filter.start.astimezone(self.site.zone):%Y%m%d}-{self.now:%Y%m%dT%H%M%S}Z.csv"
        self.set_header("Content-Type", "text/csv; charset=utf-8")
        self.set_header("Content-Disposition", f'attachment; filename="{name}"')
        self.write("\ufeff" + csv_lines([self._heading()]))
        try:
            await self._write_rows(form.filter)
        except StreamClosedError:
            return
        except (JournalError, *UNAVAILABLE):
            # Ending the response properly would make half a file look whole.
            self.request.connection.stream.close()  # type: ignore[union-attr]

    async def _write_rows(self, wanted: Filter) -> None:
        left = EXPORT_MAX_ROWS
        async with contextlib.aclosing(self.site.journal.export_payments(wanted, self.counts)) as portions:
            async for documents in portions:
                self.write(csv_lines(self._row(document) for document in documents[:left]))
                await self.flush()
                left -= len(documents)
                if left < 0:
                    limit = self.formats.count(EXPORT_MAX_ROWS)
                    end = self._("The file ends here: an export has %(limit)s rows at most", limit=limit)
                    self.write(csv_lines([[end]]))
                    break
        self.finish()

    def _heading(self) -> list[str]:
        return [self._(heading) for heading in EXPORT_COLUMNS.values()]

    def _row(self, row: Document) -> list[str]:
        zone = self.site.zone
        return [
            str(row["_id"]),
            shown.spreadsheet_instant(row["created_at"], zone),
            row["partner"],
            row["key"],
            row["service"],
            row["account"],
            row["account_name"],
            shown.decimal_comma(row["amount"]),
            row["currency"],
            row["state"],
            self.word("state", row["state"]),
            self.word("reason", row["reason"]),
            row["code"],
            shown.spreadsheet_instant(row["registered_at"], zone),
            shown.spreadsheet_instant(row["partner_time"], zone),
        ]


class OpenPayment(Page):
    """GET /payments/open?id=: a number typed where the list cannot be shown."""

    needs = Right.PAYMENTS_VIEW

    async def get(self) -> None:
        """To the payment's own page."""
        self.redirect(f"/payments/{payment_id_of(self.get_query_argument('id', ''))}", status=303)


class PaymentPage(Page):
    """GET /payments/ID."""

    needs = Right.PAYMENTS_VIEW
    section = "payments"

    async def get(self, number: str) -> None:
        """Everything about one payment."""
        document = await load_payment(self, number, "payment_viewed")
        attempts: list[Document] | None = None
        with contextlib.suppress(JournalAway):  # the page says so; the payment itself is here
            attempts = await self.site.journal.attempts_of_payment(
                document["_id"], document["partner"], document["key"]
            )
        back = list_target(self.request.headers.get("Referer", ""), self.request.host)
        told = conflicts_told(self.spoken, {document["_id"]: document}, attempts or [])
        values = {"may_cancel": may_cancel(self, document), "back": back}
        values |= {"conflict_words": told, "conflicts": distinct(told)}
        await self.show("payment.html", payment=document, attempts=attempts, **values)


async def load_payment(page: Page, number: str, action: str) -> Document:
    """The payment as PostgreSQL has it now, with its view on record.

    Raises:
        HTTPError: 404, there is none.
    """
    payment_id = payment_id_of(number)
    async with page.site.transaction(SNAPSHOT) as cur:
        documents = await payment_documents(cur, [payment_id])
        if not documents:
            raise Refused(404, N_("There is no payment with this number"))
        await page.record(action, "payment", str(payment_id), cur)
    return documents[0]


def may_cancel(page: Page, document: Document) -> bool:
    """Whether the payment can be taken back now, and by this person."""
    is_open = State(document["state"]) in CANCELLABLE and document["amount"] > 0 and not document.get("returned")
    return is_open and page.site.core is not None and page.may(Right.PAYMENTS_CANCEL)


@dataclass(frozen=True, slots=True)
class Balances:
    """An account's balance before and after a payment is taken back, and its floor (None: none), in minor units."""

    now: int
    after: int
    floor: int | None

    @property
    def are_borne(self) -> bool:
        """Whether the account may have the balance after."""
        return self.floor is None or self.after >= self.floor

    @property
    def will_owe(self) -> bool:
        """Whether a person has to say that the account may owe afterwards."""
        return self.are_borne and self.after < 0


class CancelPage(Page):
    """/payments/ID/cancel: what would happen, why, and yes."""

    needs = Right.PAYMENTS_CANCEL
    section = "payments"

    async def get(self, number: str) -> None:
        """The step of thinking twice."""
        await self._ask(await load_payment(self, number, "payment_viewed"), "", {})

    async def post(self, number: str) -> None:
        """Take the payment back, or say what is missing."""
        note = " ".join(self.get_body_argument("reason", "").split())
        errors = cancel_errors(note, self.get_body_argument("confirmed", ""))
        may_owe = self.get_body_argument("may_owe", "") == "yes"
        document = await load_payment(self, number, "payment_cancel_asked")
        balances = await self._balances(document)
        if balances is not None and balances.will_owe and not may_owe:
            errors["may_owe"] = N_("Confirm that the account may owe")
        if errors:
            self.set_status(400)
            await self._ask(document, note, errors)
            return
        result = await self._cancel(document["_id"], note, may_owe)
        reason = self.word("reason", result.reason.value)
        await self.record("payment_cancelled", "payment", str(document["_id"]), reason=result.reason.value, note=note)
        text, tone = cancel_message(result, document["state"])
        await self.notify(text, tone, reason=reason)
        self.redirect(f"/payments/{document['_id']}", status=303)

    async def _ask(self, document: Document, note: str, errors: dict[str, str]) -> None:
        bounds = {"least": NOTE_MIN, "most": NOTE_MAX}
        is_open = may_cancel(self, document)
        balances = await self._balances(document)
        is_borne = balances is None or balances.are_borne
        if not (is_open and is_borne) and not errors:
            self.set_status(409)
        values = {"may_cancel": is_open, "balances": balances, "is_borne": is_borne}
        await self.show("cancel.html", payment=document, note=note, errors=errors, bounds=bounds, **values)

    async def _balances(self, document: Document) -> "Balances | None":
        """What the account of a posted payment has now and would have afterwards; None where nothing would move it."""
        if not may_cancel(self, document) or document["state"] != State.POSTED:
            return None
        async with self.site.cursor() as cur:
            account = await account_by_number(cur, document["account"])
        if account is None:
            return None
        return Balances(account.balance, account.balance - document["amount"], account.floor)

    async def _cancel(self, payment_id: int, note: str, may_owe: bool) -> Result:
        if self.site.core is None:
            raise HTTPError(503)
        command = Command(OperatorCancel(payment_id, note, may_owe), None, self.user.actor, self.address)
        return await self.site.core.submit(command)


def list_target(referer: str, host: str) -> str:
    """The list one came from, with its filter; the plain list for a visitor from elsewhere.

    >>> list_target("https://kopeck.example/payments?q=7", "kopeck.example")
    '/payments?q=7'
    """
    try:
        parts = urlsplit(referer)
    except ValueError:
        return "/payments"
    is_list = parts.netloc == host and parts.path == "/payments" and parts.query
    return safe_target(f"/payments?{parts.query}") if is_list else "/payments"


def payment_id_of(text: str) -> int:
    """A payment's number out of an address; anything else is no page of ours."""
    plain = text.strip()
    if not (plain.isascii() and plain.isdecimal() and len(plain) <= 19 and int(plain) <= _MAX_ID):
        raise Refused(404, N_("There is no payment with this number"))
    return int(plain)


def cancel_errors(note: str, confirmed: str) -> dict[str, str]:
    """What is missing before a payment may be taken back: field -> text."""
    errors = {}
    if not NOTE_MIN <= len(note) <= NOTE_MAX:
        errors["reason"] = N_("Write the reason: %(least)s to %(most)s characters")
    if confirmed != "yes":
        errors["confirmed"] = N_("Confirm that you have checked the payment")
    return errors


def cancel_message(result: Result, state: str) -> tuple[str, str]:
    """What tells of a cancel, and its tone; state: the payment's before it."""
    match result.reason:
        case Reason.OK if state == State.HELD:
            return N_("The payment is voided."), "good"
        case Reason.OK:
            return N_("The payment is reversed."), "good"
        case Reason.ALREADY_CANCELLED:
            return N_("The payment had been reversed before; nothing happened a second time."), "info"
        case Reason.TEMPORARY | Reason.IN_PROGRESS:
            return _NO_ANSWER, "warn"
    return N_("The payment was not reversed: %(reason)s. Its state is unchanged."), "bad"


def grouped(totals: Totals) -> dict[str, Any]:
    """Totals as the page tells them: per currency, each state that occurs, in TOTAL_ORDER.

    There is no sum over states: money that was refused and money that arrived do not add up to anything.

    Returns {count, currencies: [(currency, [(state, count, amount_minor)])]}.
    """
    currencies = []
    for currency in sorted({line.currency for line in totals.sums}):
        lines = {State(line.state): line for line in totals.sums if line.currency == currency}
        states = [(state.value, lines[state].count, lines[state].amount) for state in TOTAL_ORDER if state in lines]
        currencies.append((currency, states))
    return {"count": totals.count, "currencies": currencies}


def within(wanted: Filter, rows: Iterable[Document]) -> list[Document]:
    """Rows of the filter's dates: an exact number is found outside them too."""
    return [row for row in rows if wanted.start <= row["created_at"] < wanted.end]


def csv_lines(rows: Iterable[list[str]]) -> str:
    """Rows as CSV text; no cell is a formula."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=";", lineterminator="\r\n")
    writer.writerows([[shown.spreadsheet_cell(cell) for cell in row] for row in rows])
    return out.getvalue()
