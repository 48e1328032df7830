"""Charges by hand: lines that a person writes for the next invoice of an account.

Rules. A key acts once: the same charge again writes nothing, another one under the same key is refused.

Does not know: orders, what a run makes of the line. Functions take the caller's aiopg cursor.
"""

from datetime import date

from billing.database.cursors import Cursor
from billing.orders.records import MAX_NOTE, ManualCharge
from billing.orders.rules import OrderError
from billing.orders.store import date_of_same_charge, insert_charge, ordering_account
from ratingcore.money import MAX_MINOR, format_minor

MAX_KEY = 200
MAX_TAX_PPM = 10_000_000


async def add_charge(cur: Cursor, charge: ManualCharge, actor: str) -> tuple[date, bool]:
    """Write a line for the next invoice on or after its date; returns that date, and False for a repeat of the key.

    Raises:
        OrderError: a rule is broken, or the key was used with other contents; roll back.
    """
    problem = problem_with_charge(charge)
    if problem:
        raise OrderError(problem)
    account = await ordering_account(cur, charge.account)
    if account.problem:
        raise OrderError(account.problem)
    bill_on = await insert_charge(cur, charge, account.account_id, actor)
    if bill_on is not None:
        return bill_on, True
    bill_on = await date_of_same_charge(cur, charge, account.account_id)
    if bill_on is None:
        raise OrderError(f"key {charge.key[:40]!r} was used for another charge")
    return bill_on, False


def problem_with_charge(charge: ManualCharge) -> str | None:
    """What is wrong with a charge, as a sentence, or None."""
    if not 1 <= len(charge.key) <= MAX_KEY or not charge.key.isprintable():
        return f"the key must be 1 to {MAX_KEY} printable characters"
    if not charge.amount_minor or abs(charge.amount_minor) > MAX_MINOR:
        return f"the amount must not be 0, and at most {format_minor(MAX_MINOR)}"
    if not 0 <= charge.tax_ppm <= MAX_TAX_PPM:
        return "the tax must be 0 to 1000 percent"
    for name, text in (("description", charge.description), ("why", charge.why)):
        if not 1 <= len(text) <= MAX_NOTE or not text.isprintable():
            return f"{name} must be 1 to {MAX_NOTE} printable characters"
    return None
