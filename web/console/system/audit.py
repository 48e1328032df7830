"""The audit record, for administrators: what people saw and did, in words.

Does not know: who writes to it (web.access.audit).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final
from urllib.parse import parse_qs, parse_qsl
from zoneinfo import ZoneInfo

from billing.language import N_, NP_, Language
from web.access.audit import ACTIONS, CHANGES, AuditFilter, Entry, list_entries
from web.access.rights import RIGHTS, Right
from web.console.listings import LISTINGS
from web.site import filters, words
from web.site.filters import Choices, Form
from web.site.lists.declaration import Listing
from web.site.lists.request import read_request
from web.site.lists.shown import set_filters
from web.site.page import Page

AUDIT_ROWS: Final = 100
#: What of an entry's detail is told, by its name.
DETAILS: Final[Mapping[str, str]] = {
    "reason": N_("Answer"),
    "note": N_("Reason"),
    "why": N_("Reason"),
    "rows": N_("Rows"),
    "role": N_("Role"),
    "state": N_("State"),
    "path": N_("Page"),
    "version": N_("Version"),
    "changes": N_("Changes"),
    "sha256": N_("Checksum"),
    "protocol": N_("Protocol"),
    "key": N_("Key"),
    "purpose": N_("Purpose"),
    "at": N_("At"),
    "before": N_("Older than"),
    "deleted": N_("Deleted"),
    "request": N_("Request"),
    "job": N_("Job"),
    "years": N_("Years"),
    "days": N_("Days"),
    "kind": N_("Kind"),
    "amount_minor": N_("Amount"),
    "to": NP_("audit", "To"),
    "proof": N_("Proof"),
    "name": N_("Name"),
    "group": N_("Group"),
    "parent": N_("Parent"),
    "language": N_("Language"),
    "person": N_("Contact person"),
    "email": N_("Email"),
    "phone": N_("Phone"),
    "address": N_("Address"),
    "inn": N_("INN"),
    "kpp": N_("KPP"),
    "currency": N_("Currency"),
    "payer": N_("Paid by"),
    "zone": N_("Time zone"),
    "legal_entity": N_("Legal entity"),
    "due_days": N_("Days to pay"),
    "invoice_prefix": N_("Prefix of invoice numbers"),
    "credit_note_prefix": N_("Prefix of credit note numbers"),
    "differences": N_("Changes"),
    "right": N_("Right"),
    "rights": N_("Rights"),
    "limits": N_("Second person above"),
    "legal_entities": N_("Legal entities"),
    "roles": N_("Roles"),
    "object": N_("Object"),
    "asked_by": N_("Asked by"),
    "token": N_("Token"),
    "os": N_("Account of the machine"),
    "sudo_user": N_("Called by sudo as"),
    "balance_minor": N_("Balance"),
    "sessions": N_("Sessions"),
    "browser": N_("Browser"),
    "is_new_browser": N_("Browser seen for the first time"),
    "expires_at": N_("Valid until"),
}
#: States of customers and users.
DETAIL_STATES: Final[Mapping[str, str]] = {
    "active": N_("active"),
    "inactive": N_("inactive"),
    "closed": N_("closed"),
    "disabled": N_("disabled"),
}
#: Details whose values are codes, and their words.
_CODES: Final[Mapping[str, Mapping[str, str]]] = {
    "reason": words.REASONS,
    "role": words.ROLES,
    "state": DETAIL_STATES,
    "purpose": words.PURPOSES,
    "right": {right.value: note.words for right, note in RIGHTS.items()},
    "rights": {right.value: note.words for right, note in RIGHTS.items()},
    "roles": words.ROLES,
}
#: What a limit of a role is recorded as: `limits.RIGHT`.
_LIMIT: Final = "limits."
#: Digits of a checksum that tell one from another; the rest only fills the line.
_CHECKSUM_DIGITS: Final = 12
#: What `billing.customers` records of an account: `account NUMBER: FACT`.
_OF_ACCOUNT: Final = re.compile(r"account (.{1,60}): (\w+)")
_FILTER_LABELS: Final[Mapping[str, str]] = {
    "q": NP_("field", "Search"),
    "period": N_("Period"),
    "from": NP_("period", "From"),
    "to": NP_("period", "To"),
    "state": N_("State"),
    "kind": N_("Kind"),
    "action": N_("Action"),
    "partner": N_("Partner"),
    "min": N_("Amount from"),
    "max": N_("Amount to"),
}
#: Fields of a list whose values are codes, and their words.
_FILTER_CODES: Final[Mapping[str, Mapping[str, str]]] = {
    "state": words.STATES,
    "kind": words.ATTEMPT_KINDS,
    "action": words.ACTIONS,
    "period": words.PERIODS,
}


class AuditPage(Page):
    """GET /audit."""

    needs = Right.AUDIT_VIEW
    section = "audit"

    async def get(self) -> None:
        """The filtered record, newest first."""
        choices = Choices("action", ACTIONS, (), sums=False)
        form = filters.parse_form(self.arguments, choices, self.now, self.site.zone)
        before = form.after if form.after.isascii() and form.after.isdecimal() and len(form.after) < 19 else ""
        shared: dict[str, Any] = {"form": form, "actions": ACTIONS, "limits": filters.LIMITS}
        is_changes = form.marks == CHANGES
        changes = replace(form, marks=() if is_changes else CHANGES)
        shared |= {"query": filters.query_string, "is_changes": is_changes}
        shared |= {
            "changes_query": filters.query_string(changes),
            "told": self._told,
            "listings": LISTINGS,
            "changes_told": lambda changes: changes_told(self.spoken, changes),
        }
        if form.filter is None or (form.after and not before):
            self.set_status(400)
            broken = "" if form.filter is None else filters.BROKEN_PLACE
            await self.show("audit.html", entries=None, next=None, broken=broken, **shared)
            return
        if not filters.is_canonical(form, parse_qsl(self.request.query)):
            self.redirect(f"/audit?{filters.query_string(form, after=form.after)}".rstrip("?"))
            return
        wanted = audit_filter(form)
        async with self.site.cursor() as cur:
            await self.record("audit_listed", "", "", cur, filter=filters.query_string(form))
            entries = await list_entries(cur, wanted, int(before) if before else None, AUDIT_ROWS + 1)
        following = str(entries[AUDIT_ROWS - 1].id) if len(entries) > AUDIT_ROWS else None
        await self.show("audit.html", entries=entries[:AUDIT_ROWS], next=following, broken="", **shared)

    def _told(self, entry: Entry) -> str:
        """An entry's detail in words; what was asked of a list in the words of that list."""
        listing = LISTINGS.get(entry.object_id) if entry.object_kind == "list" else None
        detail = dict(entry.detail)
        if listing is None or "filter" not in detail:
            return detail_told(self.spoken, detail)
        asked = list_filter_told(self.spoken, listing, str(detail.pop("filter")), self.now, self.site.zone)
        return "; ".join(part for part in (asked, detail_told(self.spoken, detail)) if part)


def audit_filter(form: Form) -> AuditFilter:
    """The fields of the list's form as the record is asked."""
    assert form.filter is not None
    return AuditFilter(form.filter.start, form.filter.end, form.text, form.marks)


def detail_told(language: Language, detail: Mapping[str, Any]) -> str:
    """An entry's detail in words; a name that has none stays as it is."""
    told = []
    for name, value in sorted(detail.items()):
        if value in ("", []):
            continue
        if name == "filter":
            told.append(filter_told(language, str(value)))
        else:
            told.append(f"{_name_told(language, name)}: {_value_told(language, name, value)}")
    return "; ".join(told)


def _name_told(language: Language, name: str) -> str:
    _ = language.gettext
    if of_account := _OF_ACCOUNT.fullmatch(name):
        what = _name_told(language, of_account[2]).lower()
        return _("Account %(account)s: %(name)s", account=of_account[1], name=what)
    if name.startswith(_LIMIT):
        right = _CODES["right"].get(name.removeprefix(_LIMIT), name)
        return f"{_(right)}: {_(DETAILS['limits']).lower()}"
    return _(DETAILS[name]) if name in DETAILS else name


def changes_told(language: Language, changes: Mapping[str, Sequence[Any]]) -> list[tuple[str, str, str]]:
    """(fact, before, after) of everything that changed, in words; of a list what went and what came."""
    told = []
    for fact, (before, after) in sorted(changes.items()):
        name = _name_told(language, fact)
        if isinstance(before, list) and isinstance(after, list):
            gone, come = [x for x in before if x not in after], [x for x in after if x not in before]
            told.append((name, _plain_told(language, fact, gone), _plain_told(language, fact, come)))
        else:
            told.append((name, _plain_told(language, fact, before), _plain_told(language, fact, after)))
    return told


def _value_told(language: Language, name: str, value: object) -> str:
    """Two values are what a fact was and what it became."""
    if isinstance(value, list) and len(value) == 2 and name != "rights":
        return " → ".join(_plain_told(language, name, item) for item in value)
    return _plain_told(language, name, value)


def _plain_told(language: Language, name: str, value: object) -> str:
    """A value in words; an empty one is a dash."""
    _ = language.gettext
    if value in ("", None, [], {}):
        return _("—")
    if isinstance(value, list):
        return ", ".join(_plain_told(language, name, item) for item in value)
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if (name.endswith("_minor") or name.startswith(_LIMIT)) and isinstance(value, int):
        return language.formats.amount(value)
    text = str(value)
    if name == "sha256":
        return text[:_CHECKSUM_DIGITS]
    codes = _CODES.get(name.rpartition(": ")[2], {})
    return _(codes[text]) if text in codes else text


def list_filter_told(language: Language, listing: Listing, query: str, now: datetime, zone: ZoneInfo) -> str:
    """The query string of a list page as that page tells its filters; choices of the database by their values."""
    arguments = parse_qs(query)
    chosen = [column.name for column in listing.columns if column.options is not None]
    options = {name: [(value, value) for value in arguments.get(name, ())] for name in chosen}
    request = read_request(listing, arguments, language, now, zone, options=options)
    sentence = "; ".join(f"{asked.title.lower()}: {asked.text}" for asked in set_filters(request, options, language))
    return sentence[:1].upper() + sentence[1:]


def filter_told(language: Language, query: str) -> str:
    """The query string of a list as its filter names things; what it does not know is left as it is."""
    _ = language.gettext
    told: dict[str, list[str]] = {}
    for name, value in parse_qsl(query):
        codes = _FILTER_CODES.get(name, {})
        told.setdefault(name, []).append(_(codes[value]).lower() if value in codes else value)
    parts = []
    for name, values in told.items():
        shown = _("%(n)s chosen", n=len(values)) if len(values) > 3 else ", ".join(values)
        label = _(_FILTER_LABELS[name]) if name in _FILTER_LABELS else name
        parts.append(f"{label.lower()}: {shown}")
    sentence = ", ".join(parts)
    return sentence[:1].upper() + sentence[1:]
