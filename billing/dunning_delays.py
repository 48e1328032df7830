"""Delays: dunning put off for one account through a date, as for a promised payment, by a person and with a reason.

Rules. A delay is for the account that pays. Through its last day no step comes to it, and what its debt had suspended
goes on at once; the steps before the suspension stay done, so it comes back on the day after, unless it was paid. The
newest delay counts; the same again is nothing new; one is withdrawn by another row, nothing is erased.

Does not know: steps (billing.ageing).
"""

from datetime import date
from typing import Any, Final

from billing.ageing import AgeingError, lock_accounts, resume_paid_by
from billing.dunning_standing import Standing, standing_of

#: The longest delay.
MAX_DAYS: Final = 366
MAX_REASON: Final = 500

_TODAY: Final = """
    SELECT (now() AT TIME ZONE zone_or_utc((SELECT zone FROM billing_accounts WHERE account_id = %s)))::date
"""

_DELAY: Final = "INSERT INTO ageing_delays (account_id, until_on, reason, actor) VALUES (%s, %s, %s, %s)"

_EVENT: Final = """
    INSERT INTO ageing_events (account_id, step, action, overdue_minor, actor, note)
    SELECT id, 0, 'delayed', overdue_minor(id, balance_minor), %(actor)s, %(note)s FROM accounts WHERE id = %(id)s
"""

#: Back to the last step that only told: the suspension is due again when the delay is over.
_STEP_BACK: Final = """
    UPDATE accounts SET ageing_step = coalesce((
        SELECT max(e.step) FROM ageing_events e
        WHERE e.account_id = %(id)s AND e.action IN ('reminder', 'warning') AND e.overdue_minor > 0
          AND e.id > coalesce((
            SELECT max(l.id) FROM ageing_events l WHERE l.account_id = %(id)s AND l.action = 'lifted'), 0)), 0)
    WHERE id = %(id)s
"""


async def delay_account(cur: Any, number: str, until: date, reason: str, actor: str) -> tuple[Standing, bool]:
    """Put dunning off for an account through a date; False where it is put off just so already.

    Args:
        until: the last day of the delay, in the account's zone.

    Raises:
        AgeingError: no such account, it does not pay itself, or the date or reason cannot be; roll back.
    """
    _check_reason(reason)
    standing = await _locked(cur, number)
    if (standing.delayed_until, standing.delay_reason) == (until, reason):
        return standing, False
    await cur.execute(_TODAY, (standing.account_id,))
    days = (until - (await cur.fetchone())[0]).days
    if not 0 <= days <= MAX_DAYS:
        raise AgeingError(f"a delay ends today or within {MAX_DAYS} days, not on {until}")
    await cur.execute(_DELAY, (standing.account_id, until, reason, actor))
    await _note(cur, standing, f"until {until}: {reason}", actor)
    if standing.suspended_at is not None:
        await cur.execute(_STEP_BACK, {"id": standing.account_id})
        await resume_paid_by(cur, [standing.account_id], actor)
    return await standing_of(cur, number), True


async def withdraw_delay(cur: Any, number: str, reason: str, actor: str) -> bool:
    """End an account's delay now: steps are due again by the next run; False where there is none.

    Raises:
        AgeingError: no such account, or the reason cannot be; roll back.
    """
    _check_reason(reason)
    standing = await _locked(cur, number)
    if standing.delayed_until is None:
        return False
    await cur.execute(_DELAY, (standing.account_id, None, reason, actor))
    await _note(cur, standing, f"withdrawn: {reason}", actor)
    return True


def _check_reason(reason: str) -> None:
    if not 1 <= len(reason) <= MAX_REASON or not reason.isprintable() or not reason.strip():
        raise AgeingError(f"the reason must be 1 to {MAX_REASON} printable characters")


async def _locked(cur: Any, number: str) -> Standing:
    standing = await standing_of(cur, number)
    if standing.payer:
        raise AgeingError(f"account {standing.payer} pays for account {number}: delay that one")
    await lock_accounts(cur, [standing.account_id])
    return await standing_of(cur, number)  # as it is now that no payment moves it


async def _note(cur: Any, standing: Standing, note: str, actor: str) -> None:
    await cur.execute(_EVENT, {"id": standing.account_id, "actor": actor, "note": note})
