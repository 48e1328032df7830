"""Partners: who they are, what their contract says, what they owe, and whether they may pay.

Rules. Partners, their contracts, and pausing and resuming them are three rights. A change and its entry in
the audit record are one transaction. Key material never leaves the database: pages name a key by its purpose and
validity. A contract is told in words; one that cannot be read is shown as it is stored.

Does not know: how a contract is enforced.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from tornado.web import HTTPError

from adapters.messages import Contract
from adapters.protocols import contract_from_json
from billing.language import N_, Language
from gateway.partners.contracts import list_partners, set_partner_state
from gateway.partners.keys import key_warnings, list_keys
from gateway.partners.records import PartnerRow
from web.access.rights import Right
from web.site.page import Page, Refused
from web.site.words import REASONS

#: Fields of a contract that the page tells elsewhere.
_TOLD_ELSEWHERE: Final = ("partner_id", "partner", "version", "protocol", "active", "dialect")

#: Terms of a contract (adapters.messages.Contract).
TERMS: Final[Mapping[str, str]] = {
    "currency": N_("Currency"),
    "time_zone": N_("Time zone"),
    "sources": N_("Addresses requests are accepted from"),
    "services": N_("Service codes"),
    "account_pattern": N_("Pattern of account numbers (RE2)"),
    "strip_leading_zeros": N_("Leading zeros of a number are dropped"),
    "min_minor": N_("Smallest payment"),
    "max_minor": N_("Largest payment"),
    "date_past_s": N_("The partner's time may lie behind by"),
    "date_future_s": N_("The partner's time may lie ahead by"),
    "re_examine": N_("Refusals that a repeat may overturn"),
    "display": N_("The payer sees"),
    "cancel_allowed": N_("The partner may cancel a payment"),
    "cancel_window_s": N_("A cancel is accepted for"),
    "cancel_needs_balance": N_("A cancel needs the money on the account"),
    "cancel_tombstone": N_("A cancel that comes before its payment forbids the payment"),
}
#: What an empty list of a term means, where it is not nothing.
_NOTHING: Final[Mapping[str, str]] = {
    "sources": N_("any"),
    "services": N_("any"),
    "re_examine": N_("none"),
    "display": N_("nothing"),
}
#: What a payer may be shown.
_DISPLAYED: Final[Mapping[str, str]] = {
    "name": N_("the subscriber's name"),
    "balance": N_("the balance"),
}
#: What is wrong with a key (gateway.partners.keys.KeyWarning).
KEY_WARNINGS: Final[Mapping[str, str]] = {
    "forgeable": N_("%(bits)s bits: it can be forged, so it is not used. Replace it by a key of 2048 bits or more."),
    "short": N_("%(bits)s bits: replace it by a key of 2048 bits or more."),
    "shared": N_("Partners with the same key: %(partners)s. A request signed for one is accepted for the other."),
}


class PartnersPage(Page):
    """GET /partners."""

    needs = Right.PARTNERS_VIEW
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

    needs = Right.PARTNERS_TERMS
    section = "partners"

    async def get(self, code: str) -> None:
        """The newest version and the keys' validity."""
        async with self.site.cursor() as cur:
            partner = next((row for row in await list_partners(cur) if row.code == code), None)
            if partner is None:
                raise Refused(404, N_("There is no partner with this code"))
            keys = await list_keys(cur, code)
            warnings = await key_warnings(cur, code)
            await self.record("partner_viewed", "partner", code, cur)
        body = json.dumps(partner.body, ensure_ascii=False, indent=2, sort_keys=True)
        contract = contract_of(partner)
        terms = None if contract is None else contract_words(self.spoken, contract)
        values = {"partner": partner, "contract": contract, "terms": terms, "keys": keys, "warnings": warnings}
        await self.show("partner.html", body=body, key_warnings=KEY_WARNINGS, **values)


class PartnerStatePage(Page):
    """POST /partners/CODE/state."""

    needs = Right.PARTNERS_CHANGE

    async def post(self, code: str) -> None:
        """Pause or resume; in force at the gateways within their poll of contracts."""
        state = self.get_body_argument("state", "")
        if state not in ("active", "paused"):
            raise HTTPError(400)
        action = "partner_paused" if state == "paused" else "partner_resumed"
        async with self.site.transaction() as cur:
            if code not in [partner.code for partner in await list_partners(cur)]:
                raise Refused(404, N_("There is no partner with this code"))
            await set_partner_state(cur, code, state)
            await self.record(action, "partner", code, cur)
        text = N_("Partner %(partner)s is paused.") if state == "paused" else N_("Partner %(partner)s works again.")
        await self.notify(text, partner=code)
        self.redirect(f"/partners/{code}", status=303)


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


def contract_of(partner: PartnerRow) -> Contract | None:
    """The validated contract; None for one that no longer holds, which the page then says."""
    try:
        return contract_from_json(
            partner.id, partner.code, partner.version, partner.body, active=partner.state == "active"
        )
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class ContractWords:
    """A contract for people: (what, value) in words; dialect: (setting, value) of the protocol, by its own names."""

    terms: list[tuple[str, str]]
    dialect: list[tuple[str, str]]


def contract_words(language: Language, contract: Contract) -> ContractWords:
    """Every term of a contract, those left at their defaults included."""
    names = [field.name for field in fields(contract) if field.name not in _TOLD_ELSEWHERE]
    terms = [
        (language.gettext(TERMS[name]), _value_words(language, contract, name, getattr(contract, name)))
        for name in names
    ]
    settings = fields(contract.dialect)
    dialect = [
        (field.name, _value_words(language, contract, field.name, getattr(contract.dialect, field.name)))
        for field in settings
    ]
    return ContractWords(terms, dialect)


def _value_words(language: Language, contract: Contract, name: str, value: Any) -> str:
    _ = language.gettext
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if value is None:
        return _("without limit")
    if name.endswith("_minor"):
        return language.formats.money(value, contract.currency)
    if name.endswith("_s"):
        return language.formats.duration(int(value))
    if isinstance(value, tuple | list | frozenset):
        words = [_code_words(language, name, str(item)) for item in value]
        return ", ".join(sorted(words) if isinstance(value, frozenset) else words) or _(_NOTHING.get(name, "—"))
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {item}" for key, item in sorted(value.items())) or _("—")
    return str(value) or _("—")


def _code_words(language: Language, name: str, code: str) -> str:
    """A code of a list in words, where it is one that has words."""
    words = REASONS if name == "re_examine" else _DISPLAYED if name == "display" else {}
    return language.gettext(words[code]) if code in words else code
