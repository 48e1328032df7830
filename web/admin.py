"""Partners, users and the audit record, for those who manage them.

Rules. Everyone sees partners; an administrator also sees contracts, and pauses and resumes. Users and the audit record
are the administrator's alone. A change and its entry in the audit record are one transaction. Key material never
leaves the database: pages name a key by its purpose and validity. A password an administrator gives is random, shown
once and replaced at the first sign-in, so that nobody knows another person's password.

Does not know: what a contract's fields mean, how passwords are kept.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import parse_qsl

from tornado.web import HTTPError

from adapters.messages import Contract
from adapters.protocols import contract_from_json
from gateway.contracts import PartnerRow, list_keys, list_partners, set_partner_state
from gateway.keys import key_warnings
from web import filters
from web.audit import ACTIONS, CHANGES, AuditFilter, list_entries
from web.filters import Choices, Form
from web.page import Page
from web.sessions import end_sessions_of
from web.texts import CATALOGUE
from web.users import (
    Role,
    User,
    UserError,
    add_user,
    list_users,
    set_password,
    set_role,
    set_state,
    temporary_password,
    user_by_login,
)

AUDIT_ROWS: Final = 100
#: What our pages write into an entry's detail, and the beginning of the text key where the value is a code.
_TOLD: Final = {"reason": "reason.", "note": "", "rows": "", "role": "role.", "state": "user_state.", "path": ""}
_FILTER_LABELS: Final = {
    "q": "search.label", "period": "filter.period", "from": "filter.from", "to": "filter.to", "state": "filter.state",
    "kind": "filter.kind", "action": "filter.action", "partner": "filter.partner", "min": "filter.min",
    "max": "filter.max",
}  # fmt: skip


class PartnersPage(Page):
    """GET /partners."""

    section = "partners"

    async def get(self) -> None:
        """The list."""
        async with self.site.cursor() as cur:
            partners = await list_partners(cur)
            await self.record("partners_listed", "", "", cur)
        rows = [(partner, contract_of(partner)) for partner in partners]
        await self.show("partners.html", partners=rows, totals=settlement_totals(rows))


class PartnerPage(Page):
    """GET /partners/CODE: the contract."""

    needs = Role.ADMINISTRATOR
    section = "partners"

    async def get(self, code: str) -> None:
        """The newest version and the keys' validity."""
        async with self.site.cursor() as cur:
            partner = next((row for row in await list_partners(cur) if row.code == code), None)
            if partner is None:
                raise HTTPError(404, "partners.not_found")
            keys = await list_keys(cur, code)
            warnings = await key_warnings(cur, code)
            await self.record("partner_viewed", "partner", code, cur)
        body = json.dumps(partner.body, ensure_ascii=False, indent=2, sort_keys=True)
        shown = {"partner": partner, "contract": contract_of(partner), "keys": keys, "warnings": warnings}
        await self.show("partner.html", body=body, **shown)


class PartnerStatePage(Page):
    """POST /partners/CODE/state."""

    needs = Role.ADMINISTRATOR

    async def post(self, code: str) -> None:
        """Pause or resume; in force at the gateways within their poll of contracts."""
        state = self.get_body_argument("state", "")
        if state not in ("active", "paused"):
            raise HTTPError(400)
        action = "partner_paused" if state == "paused" else "partner_resumed"
        async with self.site.transaction() as cur:
            if code not in [partner.code for partner in await list_partners(cur)]:
                raise HTTPError(404, "partners.not_found")
            await set_partner_state(cur, code, state)
            await self.record(action, "partner", code, cur)
        await self.notify(f"partners.{state}_notice", partner=code)
        self.redirect(f"/partners/{code}", status=303)


class UsersPage(Page):
    """/users: the list, and one more."""

    needs = Role.ADMINISTRATOR
    section = "users"

    async def get(self) -> None:
        """The list."""
        async with self.site.cursor() as cur:
            await self.record("users_listed", "", "", cur)
        await self.list({}, {})

    async def post(self) -> None:
        """Add a user with a temporary password, shown on the page that answers and never again."""
        typed = {name: self.get_body_argument(name, "")[:100] for name in ("login", "role")}
        password = temporary_password()
        try:
            async with self.site.transaction() as cur:
                user = await add_user(cur, typed["login"], password, typed["role"], temporary=True)
                await self.record("user_added", "user", user.login, cur, role=user.role.value)
        except UserError as error:
            self.set_status(400)
            await self.list(typed, {"role" if error.key == "user.error.role" else "login": error.key})
            return
        await self.list({}, {}, (user.login, password))

    async def list(
        self, typed: Mapping[str, str], errors: Mapping[str, str], given: tuple[str, str] | None = None, wrong: str = ""
    ) -> None:
        """given: a login and its temporary password, to be shown this once. wrong: text key of what failed."""
        async with self.site.cursor() as cur:
            users = await list_users(cur)
        values = {"typed": typed, "errors": errors, "given": given, "wrong": wrong}
        await self.show("users.html", users=users, roles=list(Role), **values)


class UserPage(UsersPage):
    """POST /users/LOGIN: change one."""

    async def get(self, login: str = "") -> None:
        """There is no page of one user."""
        self.redirect("/users")

    async def post(self, login: str = "") -> None:
        """role, state or password: what the pressed button is named."""
        try:
            given = await self._change(login, self.get_body_argument("do", ""))
        except UserError as error:
            self.set_status(400)
            await self.list({}, {}, None, error.key)
            return
        if given is not None:
            await self.list({}, {}, given)
            return
        self.redirect("/users", status=303)

    async def _change(self, login: str, what: str) -> tuple[str, str] | None:
        if login == self.user.login:
            raise UserError("users.not_yourself", "an administrator does not change himself")
        async with self.site.transaction() as cur:
            if await user_by_login(cur, login) is None:
                raise HTTPError(404)
            if what == "role":
                user = await set_role(cur, login, self.get_body_argument("role", ""))
                await self.record("user_role_set", "user", login, cur, role=user.role.value)
                told = ("users.role_set", {"role": self.t(f"role.{user.role.value}")})
            elif what in ("disabled", "active"):
                user = await set_state(cur, login, what)
                await end_sessions_of(cur, user.id)
                await self.record("user_state_set", "user", login, cur, state=what)
                told = ("users.disabled" if what == "disabled" else "users.enabled", {})
            elif what == "password":
                return await self._reset(cur, login)
            else:
                raise HTTPError(400)
        await self.notify(told[0], login=login, **told[1])
        return None

    async def _reset(self, cur: Any, login: str) -> tuple[str, str]:
        password = temporary_password()
        user: User = await set_password(cur, login, password, temporary=True)
        await end_sessions_of(cur, user.id)
        await self.record("user_password_reset", "user", login, cur)
        return login, password


class AuditPage(Page):
    """GET /audit."""

    needs = Role.ADMINISTRATOR
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


@dataclass(frozen=True, slots=True)
class SettlementTotal:
    """What partners owe us and what we owe partners, minor units, of one currency; the two are not set off."""

    currency: str
    owed_to_us: int
    owed_by_us: int


def settlement_totals(rows: Iterable[tuple[PartnerRow, Contract | None]]) -> list[SettlementTotal]:
    """Totals of the partners' clearing balances per currency; a clearing account is negative by what is owed to us."""
    balances: dict[str, list[int]] = {}
    for partner, contract in rows:
        balances.setdefault(currency_of(contract), []).append(partner.clearing_balance)
    return [
        SettlementTotal(currency, -sum(min(balance, 0) for balance in owed), sum(max(balance, 0) for balance in owed))
        for currency, owed in sorted(balances.items())
    ]


def currency_of(contract: Contract | None) -> str:
    """The contract's currency; of a contract that cannot be read, the platform's own."""
    return contract.currency if contract else "RUB"


def audit_filter(form: Form) -> AuditFilter:
    """The fields of the list's form as the record is asked."""
    assert form.filter is not None
    return AuditFilter(form.filter.start, form.filter.end, form.text, form.marks)


def detail_told(t: Callable[..., str], detail: Mapping[str, Any]) -> str:
    """An entry's detail in words; names that no page of ours writes stay as they are."""
    told = []
    for name, value in sorted(detail.items()):
        if value == "":
            continue
        if name == "filter":
            told.append(filter_told(t, str(value)))
        elif name in _TOLD:
            worded = f"{_TOLD[name]}{value}"
            told.append(f"{t(f'detail.{name}')}: {t(worded) if worded in CATALOGUE else value}")
        else:
            told.append(f"{name}: {_change_told(value)}")
    return "; ".join(told)


def _change_told(value: object) -> str:
    """Two values are what a fact was and what it became; an empty one is a dash."""
    if isinstance(value, list) and len(value) == 2:
        return " → ".join("—" if one == "" else str(one) for one in value)
    return str(value)


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


def contract_of(partner: PartnerRow) -> Contract | None:
    """The validated contract; None for one that no longer holds, which the page then says."""
    try:
        return contract_from_json(
            partner.id, partner.code, partner.version, partner.body, active=partner.state == "active"
        )
    except ValueError:
        return None
