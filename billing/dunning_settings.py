"""Settings of dunning: days between a warning and a suspension, and the least debt of each currency.

Rules. They are in the database, not in the settings file: a payment lifts a suspension in its own transaction, by the
same least debt as a run, on whatever machine it comes.

Does not know: steps and what they do (billing.ageing).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from billing.ageing import AgeingError
from ratingcore.money import MAX_MINOR, Minor

MAX_DAYS_BETWEEN: Final = 365


@dataclass(frozen=True, slots=True)
class Settings:
    """days_between: rule 3. minimums: the least debt in minor units by currency (rule 4)."""

    days_between: int
    minimums: Mapping[str, Minor]


_SETTINGS: Final = "SELECT days_between FROM ageing_settings"
_SET_DAYS_BETWEEN: Final = "UPDATE ageing_settings SET days_between = %s"
_MINIMUMS: Final = "SELECT currency, minimum_minor FROM ageing_minimums ORDER BY currency"
_FORGET_MINIMUM: Final = "DELETE FROM ageing_minimums WHERE currency = %s"
_SET_MINIMUM: Final = """
    INSERT INTO ageing_minimums VALUES (%s, %s)
    ON CONFLICT (currency) DO UPDATE SET minimum_minor = excluded.minimum_minor
"""


async def settings_of(cur: Any) -> Settings:
    """The days between steps and the least debts."""
    await cur.execute(_SETTINGS)
    days = int((await cur.fetchone())[0])
    await cur.execute(_MINIMUMS)
    return Settings(days, {currency: Minor(amount) for currency, amount in await cur.fetchall()})


async def set_days_between(cur: Any, days: int) -> None:
    """Set how many days pass before a suspension or cancellation after the step before it; 0: none.

    Raises:
        AgeingError: a number that cannot be.
    """
    if not 0 <= days <= MAX_DAYS_BETWEEN:
        raise AgeingError(f"0 to {MAX_DAYS_BETWEEN} days, not {days}")
    await cur.execute(_SET_DAYS_BETWEEN, (days,))


async def set_minimum(cur: Any, currency: str, minimum: Minor) -> None:
    """Set the least overdue debt that ageing minds in a currency; 0: every debt.

    Raises:
        AgeingError: no such currency or sum.
    """
    if len(currency) != 3 or not (currency.isascii() and currency.isalpha() and currency.isupper()):
        raise AgeingError(f"currency {currency[:40]!r} is none such as RUB")
    if not 0 <= minimum <= MAX_MINOR:
        raise AgeingError(f"the least debt is 0 to {MAX_MINOR} minor units, not {minimum}")
    if minimum:
        await cur.execute(_SET_MINIMUM, (currency, minimum))
    else:
        await cur.execute(_FORGET_MINIMUM, (currency,))
