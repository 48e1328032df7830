"""Delays: dunning put off for one account through a date, as for a promised payment, by a person and with a reason.

Rules. A delay is for the account that pays. Through its last day no step comes to it, and what its debt had suspended
goes on at once; the steps before the suspension stay done, so it comes back on the day after, unless it was paid. The
newest delay counts; the same again is nothing new; one is withdrawn by another row, nothing is erased.

Does not know: steps (billing.invoicing.dunning).
"""

from datetime import date
from typing import Final

from billing.database.cursors import Cursor
from billing.invoicing.dunning import DunningError, lock_accounts, resume_paid_by
from billing.invoicing.dunning_standing import Standing
from billing.invoicing.dunning_store import add_delay, standing_of, step_back, today_of

#: The longest delay.
MAX_DAYS: Final = 366
MAX_REASON: Final = 500


async def delay_account(cur: Cursor, number: str, until: date, reason: str, actor: str) -> tuple[Standing, bool]:
    """Put dunning off for an account through a date; False where it is put off just so already.

    Args:
        until: the last day of the delay, in the account's zone.

    Raises:
        DunningError: no such account, it does not pay itself, or the date or reason cannot be; roll back.
    """
    _check_reason(reason)
    standing = await _locked(cur, number)
    if (standing.delayed_until, standing.delay_reason) == (until, reason):
        return standing, False
    days = (until - await today_of(cur, standing.account_id)).days
    if not 0 <= days <= MAX_DAYS:
        raise DunningError(f"a delay ends today or within {MAX_DAYS} days, not on {until}")
    await add_delay(cur, standing.account_id, until, reason, actor, f"until {until}: {reason}")
    if standing.suspended_at is not None:
        await step_back(cur, standing.account_id)
        await resume_paid_by(cur, [standing.account_id], actor)
    return await standing_of(cur, number), True


async def withdraw_delay(cur: Cursor, number: str, reason: str, actor: str) -> bool:
    """End an account's delay now: steps are due again by the next run; False where there is none.

    Raises:
        DunningError: no such account, or the reason cannot be; roll back.
    """
    _check_reason(reason)
    standing = await _locked(cur, number)
    if standing.delayed_until is None:
        return False
    await add_delay(cur, standing.account_id, None, reason, actor, f"withdrawn: {reason}")
    return True


def _check_reason(reason: str) -> None:
    if not 1 <= len(reason) <= MAX_REASON or not reason.isprintable() or not reason.strip():
        raise DunningError(f"the reason must be 1 to {MAX_REASON} printable characters")


async def _locked(cur: Cursor, number: str) -> Standing:
    standing = await standing_of(cur, number)
    if standing.payer:
        raise DunningError(f"account {standing.payer} pays for account {number}: delay that one")
    await lock_accounts(cur, [standing.account_id])
    return await standing_of(cur, number)  # as it is now that no payment moves it
