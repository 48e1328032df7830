"""The audit record, for administrators: what people saw and did, in words.

Does not know: who writes to it (web.access.audit).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import parse_qsl

from web.access.audit import ACTIONS, CHANGES, AuditFilter, list_entries
from web.access.rights import Right
from web.site import filters, formatting
from web.site.filters import Choices, Form
from web.site.page import Page
from web.site.texts import CATALOGUE

AUDIT_ROWS: Final = 100
#: Details whose values are codes: the beginnings of the text keys that word them, tried in order.
_CODES: Final = {
    "reason": ("reason.",),
    "role": ("role.",),
    "state": ("detail.state.",),
    "purpose": ("purpose.",),
}
#: Digits of a checksum that tell one from another; the rest only fills the line.
_CHECKSUM_DIGITS: Final = 12
#: What `billing.customers` records of an account: `account NUMBER: FACT`.
_OF_ACCOUNT: Final = re.compile(r"account (.{1,60}): (\w+)")
_FILTER_LABELS: Final = {
    "q": "search.label", "period": "filter.period", "from": "filter.from", "to": "filter.to", "state": "filter.state",
    "kind": "filter.kind", "action": "filter.action", "partner": "filter.partner", "min": "filter.min",
    "max": "filter.max",
}  # fmt: skip


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
        shared |= {"changes_query": filters.query_string(changes), "told": lambda detail: detail_told(self.t, detail)}
        if form.filter is None or (form.after and not before):
            self.set_status(400)
            broken = "" if form.filter is None else "error.page"
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


def audit_filter(form: Form) -> AuditFilter:
    """The fields of the list's form as the record is asked."""
    assert form.filter is not None
    return AuditFilter(form.filter.start, form.filter.end, form.text, form.marks)


def detail_told(t: Callable[..., str], detail: Mapping[str, Any]) -> str:
    """An entry's detail in words; a name that has none stays as it is."""
    told = []
    for name, value in sorted(detail.items()):
        if value in ("", []):
            continue
        if name == "filter":
            told.append(filter_told(t, str(value)))
        else:
            told.append(f"{_name_told(t, name)}: {_value_told(t, name, value)}")
    return "; ".join(told)


def _name_told(t: Callable[..., str], name: str) -> str:
    of_account = _OF_ACCOUNT.fullmatch(name)
    if of_account:
        return t("detail.of_account", account=of_account[1], name=_name_told(t, of_account[2]).lower())
    key = f"detail.{name}"
    return t(key) if key in CATALOGUE else name


def _value_told(t: Callable[..., str], name: str, value: object) -> str:
    """Two values are what a fact was and what it became; an empty one is a dash."""
    if isinstance(value, list) and len(value) == 2:
        return " → ".join(_value_told(t, name, item) for item in value)
    if isinstance(value, list):
        return ", ".join(_value_told(t, name, item) for item in value)
    if value in ("", None):
        return t("none")
    if isinstance(value, bool):
        return t("yes" if value else "no")
    if name.endswith("_minor") and isinstance(value, int):
        return formatting.decimal_comma(value)
    text = str(value)
    if name == "sha256":
        return text[:_CHECKSUM_DIGITS]
    fact = name.rpartition(": ")[2]
    return next((t(key + text) for key in _CODES.get(fact, ()) if key + text in CATALOGUE), text)


def filter_told(t: Callable[..., str], query: str) -> str:
    """The query string of a list as its filter names things; what it does not know is left as it is."""
    told: dict[str, list[str]] = {}
    for name, value in parse_qsl(query):
        key = f"{name}.{value}"
        told.setdefault(name, []).append(t(key).lower() if key in CATALOGUE else value)
    words = []
    for name, values in told.items():
        label = _FILTER_LABELS.get(name)
        shown = t("filter.chosen", n=len(values)) if len(values) > 3 else ", ".join(values)
        words.append(f"{(t(label) if label else name).lower()}: {shown}")
    sentence = ", ".join(words)
    return sentence[:1].upper() + sentence[1:]
