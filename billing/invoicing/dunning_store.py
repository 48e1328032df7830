"""Dunning as rows, apart from its runs: how an account stands, delays, settings, names for a preview.

Rules. What happened stays: nothing here is erased but the settings. Blocked is an order that is in force and suspended
at this moment, for whatever reason. The caller owns the transaction.

Does not know: which steps are due and what they do (billing.invoicing.dunning).
"""

from collections.abc import Sequence
from datetime import date
from typing import Final, cast

from billing.database.cursors import Cursor
from billing.invoicing.dunning import DunningError
from billing.invoicing.dunning_settings import MAX_DAYS_BETWEEN, Settings
from billing.invoicing.dunning_standing import Blocked, Event, Standing
from ratingcore.money import MAX_MINOR, Minor

_STANDING: Final = """
    SELECT a.id, a.balance_minor, a.currency, a.dunning_step, coalesce(c.customer_group, ''),
           overdue_minor(a.id, a.balance_minor),
           (SELECT min(u.due_on) FROM unpaid_invoices(a.id, -a.balance_minor) u),
           CASE WHEN p.id <> a.id THEN p.number ELSE '' END,
           CASE WHEN a.dunning_step > 0 AND e.action = 'suspension' THEN e.at END,
           d.until_on, coalesce(d.reason, '')
    FROM accounts a
    LEFT JOIN billing_accounts b ON b.account_id = a.id
    LEFT JOIN customers c ON c.id = b.customer_id
    LEFT JOIN accounts p ON p.id = b.payer_account_id
    LEFT JOIN LATERAL (
        SELECT e.action, e.at FROM dunning_events e
        WHERE e.account_id = a.id AND e.action IN ('suspension', 'lifted', 'delayed')
        ORDER BY e.id DESC LIMIT 1) e ON true
    LEFT JOIN LATERAL (
        SELECT * FROM dunning_delays d WHERE d.account_id = a.id ORDER BY d.id DESC LIMIT 1
    ) d ON d.until_on >= (now() AT TIME ZONE zone_or_utc(b.zone))::date
    WHERE a.number = %(number)s
"""

#: The step that comes next of an account in debt, and the first day on which it can.
_NEXT: Final = """
    SELECT s.action, greatest(
        %(oldest)s::date + s.days_after_due, %(delayed)s::date + 1,
        CASE WHEN s.action IN ('suspension', 'cancellation') AND n.days_between > 0 THEN (
            SELECT (max(e.at) AT TIME ZONE zone_or_utc(b.zone))::date + n.days_between FROM dunning_events e
            WHERE e.account_id = b.account_id AND e.step BETWEEN 1 AND s.step - 1 AND e.id > coalesce((
                SELECT max(l.id) FROM dunning_events l WHERE l.account_id = b.account_id AND l.action = 'lifted'), 0))
        END)
    FROM billing_accounts b
    JOIN customers c ON c.id = b.customer_id
    JOIN dunning_steps s ON s.customer_group = CASE WHEN EXISTS (
        SELECT FROM dunning_steps g WHERE g.customer_group = c.customer_group) THEN c.customer_group ELSE '' END
    CROSS JOIN dunning_settings n
    WHERE b.account_id = %(id)s AND s.step > %(step)s AND %(overdue)s >= dunning_minimum(%(currency)s)
    ORDER BY s.step LIMIT 1
"""

_HISTORY: Final = """
    SELECT e.at, e.step, e.action, e.overdue_minor, coalesce(i.full_number, ''), e.actor, e.note
    FROM dunning_events e LEFT JOIN numbered_invoices i ON i.id = e.oldest_invoice_id
    WHERE e.account_id = %(id)s ORDER BY e.id DESC LIMIT %(limit)s
"""

_WHY: Final = """
    SELECT DISTINCT s.reason FROM orders o JOIN order_suspensions s ON s.order_id = o.id
    WHERE o.account_id = %s AND o.settled_at IS NULL AND o.starts_at <= now() AND coalesce(o.ends_at > now(), true)
      AND s.from_at <= now() AND coalesce(s.until_at > now(), true)
    ORDER BY s.reason
"""

#: By order, from the one after an id.
_BLOCKED: Final = """
    SELECT o.id, coalesce(o.number, ''), a.number, coalesce(c.number, ''), p.number, t.plan, t.item, s.reason,
           s.from_at, s.until_at
    FROM order_suspensions s
    JOIN orders o ON o.id = s.order_id
    JOIN order_terms t ON t.id = o.terms_id
    JOIN accounts a ON a.id = o.account_id
    JOIN accounts p ON p.id = o.payer_account_id
    LEFT JOIN billing_accounts b ON b.account_id = o.account_id
    LEFT JOIN customers c ON c.id = b.customer_id
    WHERE s.from_at <= now() AND (s.until_at IS NULL OR s.until_at > now())
      AND o.settled_at IS NULL AND o.starts_at <= now() AND (o.ends_at IS NULL OR o.ends_at > now())
      AND (%(reason)s = '' OR s.reason = %(reason)s) AND o.id > %(after)s
    ORDER BY o.id LIMIT %(limit)s
"""


async def standing_of(cur: Cursor, number: str) -> Standing:
    """How an account stands.

    Raises:
        DunningError: there is no such account.
    """
    await cur.execute(_STANDING, {"number": number})
    row = await cur.fetchone()
    if row is None:
        raise DunningError(f"there is no account {number[:40]!r}")
    return Standing(*row)


async def next_step(cur: Cursor, standing: Standing) -> tuple[str, date] | None:
    """(action, first day on which a run does it) of the step that comes next, or None where none does."""
    names = {"id": "account_id", "step": "step", "overdue": "overdue", "currency": "currency"}
    values = {name: getattr(standing, field) for name, field in names.items()}
    await cur.execute(_NEXT, values | {"oldest": standing.oldest_due_on, "delayed": standing.delayed_until})
    row = await cur.fetchone()
    return None if row is None else (row[0], row[1])


async def history_of(cur: Cursor, account_id: int, limit: int) -> list[Event]:
    """The newest events of an account, the newest first."""
    await cur.execute(_HISTORY, {"id": account_id, "limit": limit})
    return [Event(*row) for row in await cur.fetchall()]


async def why_suspended(cur: Cursor, account_id: int) -> list[str]:
    """The reasons for which orders of an account are suspended now, none if none is."""
    await cur.execute(_WHY, (account_id,))
    return [reason for (reason,) in await cur.fetchall()]


async def list_blocked(cur: Cursor, reason: str, after: int, limit: int) -> list[Blocked]:
    """Orders that are suspended now, by id, from the one after an id; reason: empty for any."""
    await cur.execute(_BLOCKED, {"reason": reason, "after": after, "limit": limit})
    return [Blocked(*row) for row in await cur.fetchall()]


_SETTINGS: Final = "SELECT days_between FROM dunning_settings"

_SET_DAYS_BETWEEN: Final = "UPDATE dunning_settings SET days_between = %s"

_MINIMUMS: Final = "SELECT currency, minimum_minor FROM dunning_minimums ORDER BY currency"

_FORGET_MINIMUM: Final = "DELETE FROM dunning_minimums WHERE currency = %s"

_SET_MINIMUM: Final = """
    INSERT INTO dunning_minimums VALUES (%s, %s)
    ON CONFLICT (currency) DO UPDATE SET minimum_minor = excluded.minimum_minor
"""


async def settings_of(cur: Cursor) -> Settings:
    """The days between steps and the least debts."""
    await cur.execute(_SETTINGS)
    days = int((await cur.fetchone())[0])
    await cur.execute(_MINIMUMS)
    return Settings(days, {currency: Minor(amount) for currency, amount in await cur.fetchall()})


async def set_days_between(cur: Cursor, days: int) -> None:
    """Set how many days pass before a suspension or cancellation after the step before it; 0: none.

    Raises:
        DunningError: a number that cannot be.
    """
    if not 0 <= days <= MAX_DAYS_BETWEEN:
        raise DunningError(f"0 to {MAX_DAYS_BETWEEN} days, not {days}")
    await cur.execute(_SET_DAYS_BETWEEN, (days,))


async def set_minimum(cur: Cursor, currency: str, minimum: Minor) -> None:
    """Set the least overdue debt that dunning minds in a currency; 0: every debt.

    Raises:
        DunningError: no such currency or sum.
    """
    if len(currency) != 3 or not (currency.isascii() and currency.isalpha() and currency.isupper()):
        raise DunningError(f"currency {currency[:40]!r} is none such as RUB")
    if not 0 <= minimum <= MAX_MINOR:
        raise DunningError(f"the least debt is 0 to {MAX_MINOR} minor units, not {minimum}")
    if minimum:
        await cur.execute(_SET_MINIMUM, (currency, minimum))
    else:
        await cur.execute(_FORGET_MINIMUM, (currency,))


_TODAY: Final = """
    SELECT (now() AT TIME ZONE zone_or_utc((SELECT zone FROM billing_accounts WHERE account_id = %s)))::date
"""

_DELAY: Final = "INSERT INTO dunning_delays (account_id, until_on, reason, actor) VALUES (%s, %s, %s, %s)"

_EVENT: Final = """
    INSERT INTO dunning_events (account_id, step, action, overdue_minor, actor, note)
    SELECT id, 0, 'delayed', overdue_minor(id, balance_minor), %(actor)s, %(note)s FROM accounts WHERE id = %(id)s
"""

#: Back to the last step that only told: the suspension is due again when the delay is over.
_STEP_BACK: Final = """
    UPDATE accounts SET dunning_step = coalesce((
        SELECT max(e.step) FROM dunning_events e
        WHERE e.account_id = %(id)s AND e.action IN ('reminder', 'warning') AND e.overdue_minor > 0
          AND e.id > coalesce((
            SELECT max(l.id) FROM dunning_events l WHERE l.account_id = %(id)s AND l.action = 'lifted'), 0)), 0)
    WHERE id = %(id)s
"""


_NAMES: Final = """
    SELECT a.id, a.number, coalesce(c.number, '')
    FROM accounts a
    LEFT JOIN billing_accounts b ON b.account_id = a.id
    LEFT JOIN customers c ON c.id = b.customer_id
    WHERE a.id = ANY(%(ids)s::bigint[])
"""

#: The orders that a suspension or cancellation of these accounts would touch. A suspended one is not suspended again.
_ORDERS: Final = """
    SELECT count(*) FILTER (WHERE o.payer_account_id = ANY(%(suspended)s::bigint[]) AND NOT EXISTS (
               SELECT FROM order_suspensions s WHERE s.order_id = o.id AND s.until_at IS NULL)),
           count(*) FILTER (WHERE o.payer_account_id = ANY(%(cancelled)s::bigint[]))
    FROM orders o
    WHERE o.payer_account_id = ANY(%(suspended)s::bigint[] || %(cancelled)s::bigint[])
      AND o.settled_at IS NULL AND (o.ends_at IS NULL OR o.ends_at > now())
"""


async def today_of(cur: Cursor, account_id: int) -> date:
    """The present date in an account's zone."""
    await cur.execute(_TODAY, (account_id,))
    return cast(date, (await cur.fetchone())[0])


async def add_delay(cur: Cursor, account_id: int, until: date | None, reason: str, actor: str, note: str) -> None:
    """Write a delay, None to withdraw the one that runs, and the event that tells of it."""
    await cur.execute(_DELAY, (account_id, until, reason, actor))
    await cur.execute(_EVENT, {"id": account_id, "actor": actor, "note": note})


async def step_back(cur: Cursor, account_id: int) -> None:
    """Set an account's step back to the last that only told."""
    await cur.execute(_STEP_BACK, {"id": account_id})


async def names_of(cur: Cursor, account_ids: Sequence[int]) -> dict[int, tuple[str, str]]:
    """(number of the account, number of its customer) by id."""
    await cur.execute(_NAMES, {"ids": list(account_ids)})
    return {row[0]: (row[1], row[2]) for row in await cur.fetchall()}


async def count_touched_orders(cur: Cursor, suspended: Sequence[int], cancelled: Sequence[int]) -> tuple[int, int]:
    """(orders that a suspension of these payers would suspend, orders that a cancellation of those would end)."""
    await cur.execute(_ORDERS, {"suspended": list(suspended), "cancelled": list(cancelled)})
    row = await cur.fetchone()
    return int(row[0]), int(row[1])
