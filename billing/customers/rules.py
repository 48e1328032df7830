"""What customers may say, and what differs between two states of one. Pure.

Does not know: the database. Zones are known to the program here, to the database in billing.database.zones.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

from billing.customers.records import Customer, NewCustomer
from billing.language import languages
from billing.ledger.accounts import NAME_MAX, NewAccount, problem_with
from billing.refusals import Refusal
from ratingcore.bands import zone_of

CONTACTS: Final = ("person", "email", "phone", "address")
DETAILS: Final = ("inn", "kpp")
#: What an invoice shows of its seller.
ENTITY_DETAILS: Final = (
    "inn",
    "kpp",
    "ogrn",
    "address",
    "phone",
    "email",
    "bank",
    "bik",
    "account",
    "correspondent_account",
    "director",
    "accountant",
)
MAX_DUE_DAYS: Final = 365
MAX_TEXT: Final = 500
_NUMBER: Final = re.compile(r"[0-9A-Za-z._@+-]{1,64}", re.ASCII)
_GROUP: Final = re.compile(r"[\w.:-]{0,64}")


class CustomerError(Refusal):
    """A customer, an account of one or a legal entity cannot be as it was asked for."""

    default_code = "customer_refused"


def problem_with_customer(new: NewCustomer) -> str | None:
    """What is wrong with a customer to add, as a sentence, or None."""
    if not _NUMBER.fullmatch(new.number):
        return f"customer number {new.number[:40]!r} must be 1 to 64 letters, digits or ._@+-"
    account = NewAccount(new.account or new.number, new.kind, new.currency, new.name)
    return problem_with(account) or problem_with_facts(new)


def problem_with_facts(new: NewCustomer) -> str | None:
    """What is wrong with all of it but the numbers and the account."""
    if not _GROUP.fullmatch(new.group):
        return f"group {new.group[:40]!r} must be letters, digits or _.:- and at most 64"
    known = [language.code for language in languages()]
    if new.language not in known:
        return f"language {new.language[:40]!r} must be one of: {', '.join(known)}"
    if len(new.name) > NAME_MAX or not new.name.isprintable():
        return f"name must be printable and at most {NAME_MAX} characters"
    if new.parent_pays and not new.parent:
        return "there is no parent who could pay"
    if new.parent == new.number:
        return "a customer cannot be its own parent"
    if not 0 <= new.due_days <= MAX_DUE_DAYS:
        return f"due days must be 0 to {MAX_DUE_DAYS}"
    problem = problem_with_texts(CONTACTS, new.contacts) or problem_with_texts(DETAILS, new.details)
    return problem or _problem_with_zone(new.zone)


def problem_with_texts(known: Sequence[str], texts: Mapping[str, str]) -> str | None:
    """What is wrong with texts that may have these names, as a sentence, or None."""
    for name, text in texts.items():
        if name not in known:
            return f"{name[:40]!r} is none of: {', '.join(known)}"
        if len(text) > MAX_TEXT or not text.isprintable():
            return f"{name} must be printable and at most {MAX_TEXT} characters"
    return None


def _problem_with_zone(zone: str) -> str | None:
    try:
        zone_of(zone)
    except ValueError as error:
        if "file of this host" in str(error):
            return f"zone: {error}"
        return f"zone {zone[:40]!r} is no IANA time zone, such as Europe/Moscow"
    return None


def what_differs(known: Customer, new: NewCustomer) -> str:
    """The names of fields that differ, in words."""
    names = [
        field.name for field in fields(NewCustomer) if getattr(known.facts, field.name) != getattr(new, field.name)
    ]
    return f"other {', '.join(names)}"


def merge_texts(known: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    """Texts by name with changes; an empty text takes one away."""
    return {name: text for name, text in (dict(known) | dict(changes)).items() if text}


def refuse_closed(known: Customer) -> None:
    """Raise CustomerError for a closed customer."""
    if known.state == "closed":
        raise CustomerError(f"customer {known.facts.number} is closed")


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What differs, as [from what, to what] by name. What was not there was an empty text.

    >>> changed({"name": "Ann", "group": ""}, {"name": "Anna", "group": "", "email": "a@example.ru"})
    {'email': ['', 'a@example.ru'], 'name': ['Ann', 'Anna']}
    """
    pairs = {name: [before.get(name, ""), after.get(name, "")] for name in sorted({*before, *after})}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
