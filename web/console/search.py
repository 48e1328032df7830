"""The search box of every page: one exact hit opens its object, everything else is told by kinds.

Rules. A kind is looked for only by who may see it, within the legal entities of the right. Each source has its own
time: one that is away or slow is told beside the others. What a person typed is on the audit record before it is shown.
Payments are named exactly by PostgreSQL, whatever the journal has; parts of them are found by the journal.

Does not know: how rows are found (billing.search, gateway.journal), what lists show.
"""

import asyncio
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote, urlencode

from billing.language import N_
from billing.listing.records import Between, Condition, TextIs
from billing.search import store
from billing.search.records import FoundGroup
from billing.search.terms import MAX_CHARS, SearchError, SearchKind, SearchText, folded, read_search
from gateway.journal.documents import Document, payment_documents
from gateway.journal.figures_store import ids_named
from gateway.journal.search import MAX_TEXT, Filter, JournalAway, JournalError, search_terms
from gateway.partners.contracts import list_partners
from ratingcore.money import format_minor
from web.access.rights import Open, Right
from web.access.users import list_users
from web.console.billing.invoice_list import STATE_WORDS as INVOICE_STATES
from web.console.billing.orders import STATE_WORDS as ORDER_STATES
from web.console.payments.payments import CountedPage
from web.console.people.customers import ACCOUNT_STATES, CUSTOMER_STATES
from web.site import formatting as shown
from web.site.filters import MAX_RANGE_DAYS
from web.site.site import DATABASE_ERRORS, READ_ONLY_SNAPSHOT
from web.site.templates import role_words

log = logging.getLogger(__name__)

#: What one statement of PostgreSQL has, and the journal.
STORE_LIMIT_MS: Final = 700
JOURNAL_LIMIT_S: Final = 1.0

NEEDS: Final[Mapping[SearchKind, Right]] = MappingProxyType(
    {
        SearchKind.CUSTOMER: Right.CUSTOMERS_VIEW,
        SearchKind.ACCOUNT: Right.CUSTOMERS_VIEW,
        SearchKind.ORDER: Right.ORDERS_VIEW,
        SearchKind.INVOICE: Right.INVOICES_VIEW,
        SearchKind.PAYMENT: Right.PAYMENTS_VIEW,
        SearchKind.PARTNER: Right.PARTNERS_VIEW,
        SearchKind.USER: Right.USERS_MANAGE,
    }
)
TITLES: Final[Mapping[SearchKind, str]] = MappingProxyType(
    {
        SearchKind.CUSTOMER: N_("Customers"),
        SearchKind.ACCOUNT: N_("Accounts"),
        SearchKind.ORDER: N_("Orders"),
        SearchKind.INVOICE: N_("Invoices"),
        SearchKind.PAYMENT: N_("Payments"),
        SearchKind.PARTNER: N_("Partners"),
        SearchKind.USER: N_("Users"),
    }
)
#: Lists that show all of a kind.
LISTS: Final[Mapping[SearchKind, str]] = MappingProxyType(
    {
        SearchKind.CUSTOMER: "/customers",
        SearchKind.ACCOUNT: "/customers",
        SearchKind.ORDER: "/orders",
        SearchKind.INVOICE: "/invoices",
        SearchKind.PAYMENT: "/payments",
        SearchKind.PARTNER: "/partners",
        SearchKind.USER: "/users",
    }
)
#: What a kind is asked for by, as the page tells it.
PREFIXES: Final[Mapping[SearchKind, str]] = MappingProxyType(
    {
        SearchKind.CUSTOMER: N_("customer:"),
        SearchKind.ACCOUNT: N_("account:"),
        SearchKind.ORDER: N_("order:"),
        SearchKind.INVOICE: N_("invoice:"),
        SearchKind.PAYMENT: N_("payment:"),
        SearchKind.PARTNER: N_("partner:"),
        SearchKind.USER: N_("user:"),
    }
)
_REFUSALS: Final = {
    "search_long": N_("Search for at most %(limit)s characters."),
    "search_words": N_("Search for at most %(limit)s words."),
}
_AWAY: Final = N_("These did not answer in time. Reload the page in a few seconds.")
_JOURNAL: Final = N_(
    "The payment journal is away, so only payments named by their number or the partner's key are found. Accepting "
    "payments does not depend on it."
)


@dataclass(frozen=True, slots=True)
class ShownRow:
    """One line of a group. badge: (table of tones, code, word). detail: a faint line; href: empty where there is no
    page of it, or none for who asks."""

    href: str
    title: str
    name: str = ""
    detail: str = ""
    amount: int | None = None
    currency: str = "RUB"
    badge: tuple[str, str, str] = ("", "", "")


@dataclass(frozen=True, slots=True)
class ShownGroup:
    """Lines of one kind. exact: how many at the head were named exactly. more: the list that shows all, or "".

    has_more: there are others. problem: why something may be missing, marked for translation. note: what was looked at.
    """

    kind: SearchKind
    rows: tuple[ShownRow, ...] = ()
    exact: int = 0
    has_more: bool = False
    more: str = ""
    problem: str = ""
    note: str = ""


class SearchPage(CountedPage):
    """GET /search?q=."""

    needs = Open.TO_SIGNED_IN
    section = "search"

    def decode_argument(self, value: bytes, name: str | None = None) -> str:
        """What is no UTF-8 is shown as such, not refused: it may be pasted from anywhere."""
        return value.decode("utf-8", "replace")

    async def get(self) -> None:
        """The object that is named, or what was found, or what may be searched for."""
        typed = self.get_query_argument("q", "")
        try:
            wanted = read_search(typed)
        except SearchError as error:
            self.set_status(400)
            await self._show(typed[: MAX_CHARS // 4] + "…", problem=self._(_REFUSALS[error.code], **error.values))
            return
        kinds = [kind for kind in SearchKind if self.may(NEEDS[kind])]
        if wanted.kind is not None and wanted.kind not in kinds:
            self.set_status(403)
            await self.record("denied", path=self.request.path, right=NEEDS[wanted.kind].value)
            await self._show(typed, problem=self._("Your role does not allow this. If your work needs it, ask an "
                                                   "administrator."))  # fmt: skip
            return
        if wanted.is_empty:
            await self._show(typed, kinds=kinds)
            return
        await self.record("searched", text=wanted.text, **({"kind": wanted.kind.value} if wanted.kind else {}))
        groups = [await self._stored(kind, wanted) for kind in kinds if wanted.asks_for(kind)]
        targets = {row.href for group in groups for row in group.rows[: group.exact]}
        if len(targets) == 1 and "" not in targets and not any(group.problem for group in groups):
            self.redirect(targets.pop(), status=303)
            return
        groups = [
            await self._with_journal(group, wanted) if group.kind is SearchKind.PAYMENT else group for group in groups
        ]
        await self._show(typed, groups=sorted(groups, key=lambda group: not group.exact), kinds=kinds)

    async def _show(self, typed: str, **values: Any) -> None:
        groups = [group for group in values.pop("groups", ()) if group.rows or group.problem or group.note]
        kinds = values.pop("kinds", ())
        values = {"problem": "", **values}
        await self.show(
            "search.html",
            search_text=typed.strip(),
            groups=groups,
            is_found=any(group.rows for group in groups),
            titles=TITLES,
            prefixes=[(self._(PREFIXES[kind]), self._(TITLES[kind])) for kind in kinds],
            **values,
        )

    # -- PostgreSQL

    async def _stored(self, kind: SearchKind, wanted: SearchText) -> ShownGroup:
        """What PostgreSQL has of one kind; a group with its problem where it does not answer."""
        try:
            async with self.site.transaction(READ_ONLY_SNAPSHOT) as cur:
                await store.limit_search(cur, STORE_LIMIT_MS)
                return await self._find(cur, kind, wanted)
        except DATABASE_ERRORS as error:
            log.warning("search_source_away", extra={"kind": kind.value, "error": str(error)})
            return ShownGroup(kind, problem=_AWAY)

    async def _find(self, cur: Any, kind: SearchKind, wanted: SearchText) -> ShownGroup:
        entities = self.access.entities(NEEDS[kind])
        scope = None if entities is None else sorted(entities)
        match kind:
            case SearchKind.CUSTOMER:
                return _group(await store.find_customers(cur, wanted, scope), self._customer)
            case SearchKind.ACCOUNT:
                return _group(await store.find_accounts(cur, wanted, scope), self._account)
            case SearchKind.ORDER:
                return _group(await store.find_orders(cur, wanted, scope), self._order)
            case SearchKind.INVOICE:
                return _group(await store.find_invoices(cur, wanted, scope), self._invoice)
            case SearchKind.PARTNER:
                return self._partners(await list_partners(cur), wanted)
            case SearchKind.USER:
                return self._users(await list_users(cur), wanted)
            case SearchKind.PAYMENT:
                ids = [] if wanted.is_amount else await ids_named(cur, wanted.number, wanted.codes, store.GROUP_ROWS)
                documents = await payment_documents(cur, ids)
                rows = tuple(self._payment(document) for document in reversed(documents))
                return ShownGroup(kind, rows, len(rows))

    def _customer(self, row: Mapping[str, Any]) -> ShownRow:
        detail = " · ".join(part for part in (row["account"] or "", row["phone"] or "") if part)
        return ShownRow(
            _path("/customers", row["number"]), row["number"], row["name"], detail, row["balance"],
            row["currency"] or "RUB", ("customer_state", row["state"], self._(CUSTOMER_STATES[row["state"]])),
        )  # fmt: skip

    def _account(self, row: Mapping[str, Any]) -> ShownRow:
        href = _path("/customers", row["customer_number"]) if row["customer_number"] else ""
        if not href and self.may(Right.PAYMENTS_VIEW):
            href = f"/payments?{urlencode({'q': row['number'], 'period': 'year'})}"
        return ShownRow(
            href, row["number"], row["name"], row["customer_number"], row["balance"], row["currency"],
            ("account_state", row["state"], self._(ACCOUNT_STATES[row["state"]])),
        )  # fmt: skip

    def _order(self, row: Mapping[str, Any]) -> ShownRow:
        days = f"{self._day(row['starts'])} – {self._day(row['ends'])}"
        return ShownRow(
            _path("/orders", row["number"]), row["number"], row["customer"] or row["account"] or "",
            f"{row['plan']} · {days}", badge=("order_state", row["state"], self._(ORDER_STATES[row["state"]])),
        )  # fmt: skip

    def _invoice(self, row: Mapping[str, Any]) -> ShownRow:
        number = row["number"] or self._("draft")
        badge = ("invoice_state", row["state"], self._(INVOICE_STATES[row["state"]]))
        return ShownRow(
            _path("/invoices", row["number"]) if row["number"] else "", number, row["customer"] or row["account"] or "",
            self.formats.date(row["invoiced"]), row["total"], row["currency"], badge,
        )  # fmt: skip

    def _payment(self, document: Document) -> ShownRow:
        name = " · ".join(part for part in (document["account"], document["account_name"]) if part)
        detail = f"{document['partner_name']} · {document['key']} · {self._instant(document['created_at'])}"
        badge = ("state", document["state"], self.word("state", document["state"]))
        return ShownRow(
            f"/payments/{document['_id']}", f"№ {document['_id']}", shown.raw(name), shown.raw(detail),
            document["amount"], document["currency"], badge,
        )  # fmt: skip

    def _partners(self, partners: Iterable[Any], wanted: SearchText) -> ShownGroup:
        rows = []
        for partner in partners:
            is_exact = partner.code in wanted.codes
            if not is_exact and not _holds(f"{partner.code} {partner.name}", wanted):
                continue
            href = f"/partners/{partner.code}"
            if not self.may(Right.PARTNERS_TERMS):
                href = f"/payments?{urlencode({'partner': partner.code})}" if self.may(Right.PAYMENTS_VIEW) else ""
            badge = ("partner_state", partner.state, self.word("partner_state", partner.state))
            balance = partner.clearing_balance
            currency = str(partner.body.get("currency", "RUB"))
            rows.append((not is_exact, ShownRow(href, partner.name, partner.code, partner.protocol, balance, currency,
                                                badge)))  # fmt: skip
        return _listed(SearchKind.PARTNER, rows)

    def _users(self, users: Iterable[Any], wanted: SearchText) -> ShownGroup:
        rows = []
        for user in users:
            is_exact = user.login in wanted.codes
            if is_exact or _holds(user.login, wanted):
                badge = ("user_state", user.state, self.word("user_state", user.state))
                roles = str(role_words(self.spoken, user.roles))
                rows.append((not is_exact, ShownRow(f"/users#{user.login}", user.login, roles, badge=badge)))
        return _listed(SearchKind.USER, rows)

    # -- the journal

    async def _with_journal(self, group: ShownGroup, wanted: SearchText) -> ShownGroup:
        """The group of payments with those that the journal finds behind those that PostgreSQL named."""
        text = wanted.text[:MAX_TEXT]
        now = self.now
        try:
            search_terms(text)
            question = Filter(now - timedelta(days=MAX_RANGE_DAYS - 1), now + timedelta(minutes=1), text)
        except ValueError:  # more words than the journal takes
            return group
        # Given up, not cancelled: what it holds goes back when its own time ends.
        search = asyncio.create_task(
            self.site.journal.search_payments(question, None, store.GROUP_ROWS + 1 + len(group.rows), self.counts)
        )
        done, _ = await asyncio.wait({search}, timeout=JOURNAL_LIMIT_S)
        if not done:
            search.add_done_callback(_forget)
            return replace(group, problem=_JOURNAL)
        try:
            page = search.result()
        except (JournalAway, JournalError, *DATABASE_ERRORS) as error:
            log.warning("search_source_away", extra={"kind": "journal", "error": str(error)})
            return replace(group, problem=_JOURNAL)
        known = {row.href for row in group.rows}
        rows = [row for row in map(self._payment, page.rows) if row.href not in known]
        place = max(0, store.GROUP_ROWS - len(group.rows))
        has_more = len(rows) > place or page.next is not None
        note = ""
        if page.reached is not None:
            note = self._("Searched back to %(time)s in the time there was.", time=self._instant(page.reached))
        more = f"/payments?{urlencode({'q': text, 'period': 'year'})}" if has_more or note else ""
        return replace(group, rows=(*group.rows, *rows[:place]), has_more=has_more, more=more, note=note)

    def _day(self, at: Any) -> str:
        return "…" if at is None else self.formats.date(at.astimezone(self.site.zone).date())

    def _instant(self, at: Any) -> str:
        return self.formats.instant(at, self.site.zone)


def _forget(task: "asyncio.Task[Any]") -> None:
    """Take the result of what nobody waits for any more, so that its failure is not told as forgotten."""
    if not task.cancelled() and task.exception() is not None:
        log.warning("search_source_away", extra={"kind": "journal", "error": str(task.exception())})


def _group(found: FoundGroup, row_of: Any) -> ShownGroup:
    more = ""
    if found.has_more and found.conditions:
        more = f"{LISTS[found.kind]}?{urlencode(list_pairs(found.conditions))}"
    return ShownGroup(found.kind, tuple(map(row_of, found.rows)), found.exact, found.has_more, more)


def _listed(kind: SearchKind, rows: list[tuple[bool, ShownRow]]) -> ShownGroup:
    """Rows of a short list, the exact ones (False) first."""
    rows = sorted(rows, key=lambda row: row[0])
    exact = sum(not is_other for is_other, _ in rows)
    few = tuple(row for _, row in rows[: store.GROUP_ROWS])
    has_more = len(rows) > len(few)
    return ShownGroup(kind, few, min(exact, len(few)), has_more, LISTS[kind] if has_more else "")


def _holds(text: str, wanted: SearchText) -> bool:
    """Whether every typed word is part of the text."""
    return bool(wanted.words) and all(word in folded(text) for word in wanted.words)


def _path(folder: str, number: str) -> str:
    return f"{folder}/{quote(number, safe='')}"


def list_pairs(conditions: Iterable[Condition]) -> list[tuple[str, str]]:
    """The filter of a list as its address has it (web.site.lists.request).

    >>> from billing.listing.records import Match
    >>> list_pairs([TextIs("name", Match.STARTS, "Ли"), Between("total", 12345, 12345)])
    [('name', 'Ли'), ('name.match', 'starts'), ('total.min', '123.45'), ('total.max', '123.45')]
    """
    pairs = []
    for condition in conditions:
        match condition:
            case TextIs(field=field, match=match, text=text):
                pairs += [(field, text), (f"{field}.match", match.value)]
            case Between(field=field, least=least, most=most):
                pairs += [(f"{field}.min", format_minor(least)), (f"{field}.max", format_minor(most))]
            case _:
                raise ValueError(f"a search does not filter by {condition}")
    return pairs
