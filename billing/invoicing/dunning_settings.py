"""Settings of dunning: days between a warning and a suspension, and the least debt of each currency.

Rules. They are in the database, not in the settings file: a payment lifts a suspension in its own transaction, by the
same least debt as a run, on whatever machine it comes.

Does not know: rows (dunning_store), steps and what they do (billing.invoicing.dunning).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ratingcore.money import Minor

MAX_DAYS_BETWEEN: Final = 365


@dataclass(frozen=True, slots=True)
class Settings:
    """days_between: rule 3. minimums: the least debt in minor units by currency (rule 4)."""

    days_between: int
    minimums: Mapping[str, Minor]
