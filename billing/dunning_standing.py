"""How an account stands in dunning, what happened to it, and which services are blocked now.

Rules. What happened stays: events of past spells of debt are shown beside those of the present one. Blocked is an order
that is in force and suspended at this moment, for whatever reason.

Does not know: when steps come (billing.ageing), delays (dunning_delays).
"""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from billing.ageing import AgeingError
from ratingcore.money import Minor


@dataclass(frozen=True, slots=True)
class Event:
    """A row of the record of ageing. step 0: lifted or delayed. note: why, where a person said so."""

    at: datetime
    step: int
    action: str
    overdue: Minor
    invoice: str
    actor: str
    note: str


@dataclass(frozen=True, slots=True)
class Standing:
    """How an account stands. step: the last step done, 0 for none. oldest_due_on: of its oldest unpaid invoice.

    payer: the account that pays for it, empty where it pays itself. suspended_at: since when its debt suspends what it
    pays for. delayed_until: the last day of a delay that runs; delay_reason: why.
    """

    account_id: int
    balance: Minor
    currency: str
    step: int
    group: str
    overdue: Minor
    oldest_due_on: date | None
    payer: str
    suspended_at: datetime | None
    delayed_until: date | None
    delay_reason: str


@dataclass(frozen=True, slots=True)
class Blocked:
    """An order that is suspended now. number: empty where it has none. what: a plan or an item. until: None: open."""

    order_id: int
    number: str
    account: str
    customer: str
    payer: str
    plan: str
    item: str
    reason: str
    since: datetime
    until: datetime | None


_STANDING: Final = """
    SELECT a.id, a.balance_minor, a.currency, a.ageing_step, coalesce(c.customer_group, ''),
           overdue_minor(a.id, a.balance_minor),
           (SELECT min(u.due_on) FROM unpaid_invoices(a.id, -a.balance_minor) u),
           CASE WHEN p.id <> a.id THEN p.number ELSE '' END,
           CASE WHEN a.ageing_step > 0 AND e.action = 'suspension' THEN e.at END,
           d.until_on, coalesce(d.reason, '')
    FROM accounts a
    LEFT JOIN billing_accounts b ON b.account_id = a.id
    LEFT JOIN customers c ON c.id = b.customer_id
    LEFT JOIN accounts p ON p.id = b.payer_account_id
    LEFT JOIN LATERAL (
        SELECT e.action, e.at FROM ageing_events e
        WHERE e.account_id = a.id AND e.action IN ('suspension', 'lifted', 'delayed')
        ORDER BY e.id DESC LIMIT 1) e ON true
    LEFT JOIN LATERAL (
        SELECT * FROM ageing_delays d WHERE d.account_id = a.id ORDER BY d.id DESC LIMIT 1
    ) d ON d.until_on >= (now() AT TIME ZONE zone_or_utc(b.zone))::date
    WHERE a.number = %(number)s
"""

#: The step that comes next of an account in debt, and the first day on which it can.
_NEXT: Final = """
    SELECT s.action, greatest(
        %(oldest)s::date + s.days_after_due, %(delayed)s::date + 1,
        CASE WHEN s.action IN ('suspension', 'cancellation') AND n.days_between > 0 THEN (
            SELECT (max(e.at) AT TIME ZONE zone_or_utc(b.zone))::date + n.days_between FROM ageing_events e
            WHERE e.account_id = b.account_id AND e.step BETWEEN 1 AND s.step - 1 AND e.id > coalesce((
                SELECT max(l.id) FROM ageing_events l WHERE l.account_id = b.account_id AND l.action = 'lifted'), 0))
        END)
    FROM billing_accounts b
    JOIN customers c ON c.id = b.customer_id
    JOIN ageing_steps s ON s.customer_group = CASE WHEN EXISTS (
        SELECT FROM ageing_steps g WHERE g.customer_group = c.customer_group) THEN c.customer_group ELSE '' END
    CROSS JOIN ageing_settings n
    WHERE b.account_id = %(id)s AND s.step > %(step)s AND %(overdue)s >= ageing_minimum(%(currency)s)
    ORDER BY s.step LIMIT 1
"""

_HISTORY: Final = """
    SELECT e.at, e.step, e.action, e.overdue_minor, coalesce(i.full_number, ''), e.actor, e.note
    FROM ageing_events e LEFT JOIN numbered_invoices i ON i.id = e.oldest_invoice_id
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


async def standing_of(cur: Any, number: str) -> Standing:
    """How an account stands.

    Raises:
        AgeingError: there is no such account.
    """
    await cur.execute(_STANDING, {"number": number})
    row = await cur.fetchone()
    if row is None:
        raise AgeingError(f"there is no account {number[:40]!r}")
    return Standing(*row)


async def next_step(cur: Any, standing: Standing) -> tuple[str, date] | None:
    """(action, first day on which a run does it) of the step that comes next, or None where none does."""
    names = {"id": "account_id", "step": "step", "overdue": "overdue", "currency": "currency"}
    values = {name: getattr(standing, field) for name, field in names.items()}
    await cur.execute(_NEXT, values | {"oldest": standing.oldest_due_on, "delayed": standing.delayed_until})
    row = await cur.fetchone()
    return None if row is None else (row[0], row[1])


async def history_of(cur: Any, account_id: int, limit: int) -> list[Event]:
    """The newest events of an account, the newest first."""
    await cur.execute(_HISTORY, {"id": account_id, "limit": limit})
    return [Event(*row) for row in await cur.fetchall()]


async def why_suspended(cur: Any, account_id: int) -> list[str]:
    """The reasons for which orders of an account are suspended now, none if none is."""
    await cur.execute(_WHY, (account_id,))
    return [reason for (reason,) in await cur.fetchall()]


async def list_blocked(cur: Any, reason: str, after: int, limit: int) -> list[Blocked]:
    """Orders that are suspended now, by id, from the one after an id; reason: empty for any."""
    await cur.execute(_BLOCKED, {"reason": reason, "after": after, "limit": limit})
    return [Blocked(*row) for row in await cur.fetchall()]
