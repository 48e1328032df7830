"""Accounts: who holds money with us, what one may be called and how it is stated.

Rules. An account is found by its number and never deleted.

Does not know: rows (billing.ledger.account_store), how many orders or payments an account has.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from billing.refusals import Refusal
from ratingcore.money import Minor

STATES: Final = ("active", "inactive", "closed")
PEOPLE_KINDS: Final = ("subscriber", "prepaid")
_NUMBER: Final = re.compile(r"[0-9A-Za-z._@+-]{1,30}", re.ASCII)
_CURRENCY: Final = re.compile(r"[A-Z]{3}", re.ASCII)
NAME_MAX: Final = 200


class AccountError(Refusal):
    """What was asked of an account cannot be; nothing was changed."""

    default_code = "account_refused"


@dataclass(frozen=True, slots=True)
class NewAccount:
    """An account to open."""

    number: str
    kind: str = "subscriber"
    currency: str = "RUB"
    name: str = ""
    state: str = "active"


@dataclass(frozen=True, slots=True)
class Account:
    """An account as it stands. balance: minor units; floor: the lowest balance allowed, None for no floor."""

    id: int
    number: str
    kind: str
    currency: str
    state: str
    name: str
    balance: Minor
    floor: Minor | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class StatementLine:
    """One transfer as its account sees it: ``amount`` is positive when credited.

    document: what a person knows it by: the number of an invoice or credit note (`draft ID` until it has one), the
    partner's key of a payment, the number of the paper of a posting by hand; empty where there is none.
    """

    transfer_id: int
    at: datetime
    source: str
    source_id: int
    step: str
    other_account: str
    amount: int
    document: str


def problem_with(account: NewAccount) -> str | None:
    """What is wrong with an account to open, as a sentence, or None."""
    if not _NUMBER.fullmatch(account.number):
        return f"account number {account.number[:40]!r} must be 1 to 30 letters, digits or ._@+-"
    if account.kind not in PEOPLE_KINDS:
        return f"kind {account.kind[:40]!r} must be one of: {', '.join(PEOPLE_KINDS)}"
    if not _CURRENCY.fullmatch(account.currency):
        return f"currency {account.currency[:40]!r} must be three capital letters, such as RUB"
    if account.state not in STATES:
        return f"state {account.state[:40]!r} must be one of: {', '.join(STATES)}"
    if len(account.name) > NAME_MAX or not account.name.isprintable():
        return f"name must be printable and at most {NAME_MAX} characters"
    return None
