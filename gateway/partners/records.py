"""Records of partners, and the one refusal of what cannot be a partner, a contract or a key.

Does not know: SQL, dialects.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from billing.refusals import Refusal


class ContractError(Refusal):
    """A partner, contract or key that cannot be so; the sentence is for the person who edits partners."""

    default_code = "contract_refused"


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A parsed key and when it may be used; valid_to None is without end."""

    id: int
    purpose: str
    key: Any
    valid_from: datetime
    valid_to: datetime | None

    def is_valid(self, now: datetime) -> bool:
        """Valid in [valid_from, valid_to)."""
        return self.valid_from <= now and (self.valid_to is None or now < self.valid_to)


@dataclass(frozen=True, slots=True)
class PartnerRow:
    """A partner as lists show it."""

    id: int
    code: str
    name: str
    state: str
    protocol: str
    version: int
    clearing_balance: int
    body: dict[str, Any]
