"""Dunning: reminders, warnings, suspension and cancellation of accounts that do not pay, and what lifts them.

Rules.
 1. Steps are data, by customer group (the group '' for those whose group has none), each so many days after the due
    date of the oldest unpaid invoice. A step on that date or before it (days 0 and below) comes once for an invoice and
    is of no spell.
 2. A run does every step whose day has come and that this spell of debt has not seen, in order, one event each. A spell
    begins with its first step and ends when nothing is overdue; accounts.dunning_step is the last step done.
 3. Suspension and cancellation come no sooner than ``days_between`` days after the step before them, however old the
    debt is: a first run on a base with history reminds and warns only. 0 days switch this off.
 4. What is overdue and less than the least debt of its currency (dunning_settings) is left alone, and a payment that
    leaves less than that lifts. Nothing comes to an account through the last day of its delay (dunning_delays).
 5. Suspension suspends all orders of the payer that are not over; what a person suspended on request stays as it is.
    Cancellation ends them at the run's instant, or where billed arrears end if that is later.
 6. A payment lifts the state at once, in its own transaction (trigger of migration 0016): suspensions by dunning end. A
    run lifts what became settled otherwise. Cancelled orders stay cancelled: selling again is a new order. Orders that
    move to another payer stand as its do: suspended by dunning if that payer is, else resumed.
 7. A chunk looks at LOOKED accounts without locks; of those with something to do at most LOCKED are locked by id,
    looked at again and written in its transaction, so a payment waits for a moment only. Cancellation changes orders,
    so it first waits for the shard of a billing run at work on the payer, as every change of an order does: nothing is
    locked the other way round.

Does not know: how people are told (a reader of dunning_events is).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from billing.database.arrays import int_array, text_array
from billing.database.cursors import Cursor
from billing.database.locks import wait_for_billing
from billing.invoicing.invoices import InvoiceError
from ratingcore.money import Minor

#: Accounts that one transaction looks at, and most that it locks.
LOOKED: Final = 2_000
LOCKED: Final = 500
MAX_STEPS: Final = 100
FIRST_DAY: Final = -60
LAST_DAY: Final = 3650
ACTIONS: Final = ("reminder", "warning", "suspension", "cancellation")


class DunningError(InvoiceError):
    """What was asked of dunning cannot be; nothing was changed."""


@dataclass(frozen=True, slots=True)
class DunningStep:
    """What happens so many days after the due date."""

    step: int
    days: int
    action: str


@dataclass(frozen=True, slots=True)
class DueStep:
    """A step that is due of an account. overdue: minor units; oldest: its oldest unpaid invoice and when it was due."""

    account_id: int
    step: int
    action: str
    overdue: Minor
    oldest_invoice_id: int
    currency: str
    oldest_due_on: date
    group: str


@dataclass(frozen=True, slots=True)
class DunningResult:
    """Result of one chunk. after: the id to go on from, None at the end; events by action; orders suspended and
    cancelled; accounts looked at."""

    after: int | None
    actions: Mapping[str, int]
    suspended: int
    cancelled: int
    looked: int = 0


#: Steps that are due. The debt lies on the newest invoices (billing.invoicing.invoices rule 2); {accounts} says whose.
_DUE: Final = """
    WITH owing AS MATERIALIZED (
        SELECT a.id, -a.balance_minor AS debt, a.dunning_step, a.currency, z.zone,
               coalesce(%(today)s::date, (now() AT TIME ZONE z.zone)::date) AS today,
               dunning_minimum(a.currency) AS least,
               CASE WHEN EXISTS (SELECT FROM dunning_steps s WHERE s.customer_group = c.customer_group)
                    THEN c.customer_group ELSE '' END AS steps_of
        FROM accounts a
        JOIN billing_accounts b ON b.account_id = a.id
        JOIN customers c ON c.id = b.customer_id
        CROSS JOIN LATERAL (SELECT zone_or_utc(b.zone) AS zone OFFSET 0) z
        WHERE a.balance_minor < 0 AND {accounts}
    ), unpaid AS MATERIALIZED (
        SELECT w.*, u.*
        FROM owing w
        CROSS JOIN LATERAL (
            SELECT min(i.due_on) AS oldest_due_on,
                   (array_agg(i.invoice_id ORDER BY i.due_on, i.invoice_id))[1] AS oldest_id,
                   coalesce(sum(i.unpaid_minor), 0)::bigint AS unpaid,
                   coalesce(sum(i.unpaid_minor) FILTER (WHERE i.due_on < w.today), 0)::bigint AS overdue
            FROM unpaid_invoices(w.id, w.debt) i) u
        WHERE u.unpaid >= w.least
          AND NOT coalesce((SELECT d.until_on >= w.today FROM dunning_delays d WHERE d.account_id = w.id
                            ORDER BY d.id DESC LIMIT 1), false)
    )
    SELECT u.id, s.step, s.action, CASE WHEN u.overdue >= u.least THEN u.overdue ELSE 0 END, u.oldest_id,
           u.currency, u.oldest_due_on, u.steps_of
    FROM unpaid u
    JOIN (
        SELECT *, lag(step) OVER (PARTITION BY customer_group ORDER BY step) AS step_before FROM dunning_steps
    ) s ON s.customer_group = u.steps_of AND s.step > u.dunning_step AND u.oldest_due_on + s.days_after_due <= u.today
    CROSS JOIN dunning_settings n
    WHERE (u.overdue >= u.least OR s.days_after_due <= 0)
      AND (s.days_after_due > 0 OR NOT EXISTS (
        SELECT FROM dunning_events e
        WHERE e.account_id = u.id AND e.step = s.step AND e.oldest_invoice_id = u.oldest_id))
      AND CASE WHEN s.action NOT IN ('suspension', 'cancellation') OR s.step_before IS NULL OR n.days_between = 0
               THEN true
               ELSE coalesce((
                   SELECT (max(e.at) AT TIME ZONE u.zone)::date + n.days_between <= u.today
                   FROM dunning_events e
                   WHERE e.account_id = u.id AND e.step BETWEEN 1 AND s.step - 1
                     AND (e.step = s.step_before OR u.dunning_step >= s.step_before)
                     AND (e.oldest_invoice_id = u.oldest_id OR e.id > coalesce((
                        SELECT max(l.id) FROM dunning_events l WHERE l.account_id = u.id AND l.action = 'lifted'), 0))
                   ), false) END
    ORDER BY u.id, s.step
"""

_DUE_AFTER: Final = _DUE.format(accounts="a.id > %(after)s AND a.id <= %(last)s")
_DUE_OF: Final = _DUE.format(accounts="a.id = ANY(%(ids)s::bigint[])")

_LAST_OF_CHUNK: Final = """
    SELECT max(account_id), count(*) FROM (
        SELECT account_id FROM billing_accounts WHERE account_id > %(after)s ORDER BY account_id LIMIT %(limit)s) n
"""

_COUNT_SPAN: Final = """
    SELECT count(*) FROM billing_accounts WHERE account_id > %(after)s AND account_id <= %(last)s
"""

_COUNT_ACCOUNTS: Final = "SELECT count(*) FROM billing_accounts"

#: Accounts that owe nothing overdue any more, or less than the least debt, though no payment said so.
_SETTLED: Final = """
    SELECT id FROM accounts
    WHERE dunning_step > 0 AND id > %(after)s AND id <= %(last)s
      AND overdue_minor(id, balance_minor) < dunning_minimum(currency)
"""

_LOCK: Final = "SELECT id FROM accounts WHERE id = ANY(%(ids)s::bigint[]) ORDER BY id FOR NO KEY UPDATE"

_EVENTS: Final = """
    INSERT INTO dunning_events (account_id, step, action, overdue_minor, oldest_invoice_id, actor)
    SELECT e.*, %(actor)s
    FROM unnest(%(ids)s::bigint[], %(steps)s::smallint[], %(actions)s::text[], %(overdue)s::bigint[],
                %(oldest)s::bigint[]) AS e (account_id, step, action, overdue_minor, oldest_invoice_id)
    ORDER BY account_id, step
"""

_STEP: Final = """
    UPDATE accounts a SET dunning_step = n.step
    FROM (SELECT id, max(step) AS step
          FROM unnest(%(ids)s::bigint[], %(steps)s::smallint[], %(overdue)s::bigint[]) AS s (id, step, overdue)
          WHERE overdue > 0 GROUP BY id) n
    WHERE a.id = n.id
"""

#: {orders}: which; those that are over and those that are suspended already stay as they are.
_SUSPEND: Final = """
    WITH made AS (
        INSERT INTO order_suspensions (order_id, from_at, reason, actor)
        SELECT id, date_trunc('second', now()), 'dunning', %(actor)s FROM orders
        WHERE {orders} AND settled_at IS NULL AND (ends_at IS NULL OR ends_at > now())
        ORDER BY id
        ON CONFLICT (order_id) WHERE until_at IS NULL DO NOTHING
        RETURNING order_id
    )
    INSERT INTO order_events (order_id, event, details, actor)
    SELECT order_id, 'suspended', '{{"reason": "dunning"}}', %(actor)s FROM made ORDER BY order_id
"""
_SUSPEND_PAID_BY: Final = _SUSPEND.format(orders="payer_account_id = ANY(%(ids)s::bigint[])")
_SUSPEND_MOVED: Final = _SUSPEND.format(orders="account_id = %(account_id)s AND payer_account_id = %(payer_id)s")

_CANCEL: Final = """
    WITH ended AS (
        UPDATE orders o SET ends_at = greatest(date_trunc('second', now()), o.starts_at, (
            SELECT max(p.period_end) FROM recorded_periods p WHERE p.order_id = o.id AND p.part = 'arrears'))
        WHERE o.payer_account_id = ANY(%(ids)s::bigint[]) AND o.settled_at IS NULL
          AND (o.ends_at IS NULL OR o.ends_at > now())
        RETURNING o.id, o.ends_at
    )
    INSERT INTO order_events (order_id, event, details, actor)
    SELECT id, 'ended', jsonb_build_object('reason', 'dunning', 'ends_at', ends_at), %(actor)s FROM ended ORDER BY id
"""

#: {orders}: ids of those whose suspension by dunning ends.
_RESUME: Final = """
    WITH lifted AS (
        UPDATE order_suspensions s
        SET until_at = greatest(date_trunc('second', now()), s.from_at + interval '1 second')
        WHERE s.until_at IS NULL AND s.reason = 'dunning' AND s.order_id = ANY (ARRAY({orders}))
        RETURNING s.order_id
    )
    INSERT INTO order_events (order_id, event, details, actor)
    SELECT order_id, 'resumed', '{{"reason": "dunning"}}', %(actor)s FROM lifted ORDER BY order_id
"""
_RESUME_PAID_BY: Final = _RESUME.format(
    orders="SELECT o.id FROM billing_accounts b JOIN orders o ON o.account_id = b.account_id"
    " WHERE b.payer_account_id = ANY(%(ids)s::bigint[]) AND o.payer_account_id = b.payer_account_id"
)
_RESUME_MOVED: Final = _RESUME.format(
    orders="SELECT id FROM orders WHERE account_id = %(account_id)s AND payer_account_id = %(payer_id)s"
)

#: A payer's own spell of debt has suspended what it pays for, and no payment or delay has ended that since.
_IS_SUSPENDED: Final = """
    SELECT a.dunning_step > 0 AND coalesce((
        SELECT e.action = 'suspension' FROM dunning_events e
        WHERE e.account_id = a.id AND e.action IN ('suspension', 'lifted', 'delayed')
        ORDER BY e.id DESC LIMIT 1), false)
    FROM accounts a WHERE a.id = %s
"""

_LIFT: Final = """
    WITH lifted AS (
        UPDATE accounts SET dunning_step = 0
        WHERE id = ANY(%(ids)s::bigint[]) AND dunning_step > 0
          AND overdue_minor(id, balance_minor) < dunning_minimum(currency)
        RETURNING id, overdue_minor(id, balance_minor) AS overdue
    )
    INSERT INTO dunning_events (account_id, step, action, overdue_minor, actor)
    SELECT id, 0, 'lifted', overdue, %(actor)s FROM lifted ORDER BY id
    RETURNING account_id
"""

_STEPS: Final = """
    SELECT customer_group, step, days_after_due, action FROM dunning_steps ORDER BY customer_group, step
"""
_FORGET_STEPS: Final = "DELETE FROM dunning_steps WHERE customer_group = %(group)s"
_NEW_STEPS: Final = """
    INSERT INTO dunning_steps
    SELECT %(group)s, * FROM unnest(%(steps)s::smallint[], %(days)s::smallint[], %(actions)s::text[])
"""

_TOMORROW: Final = "SELECT (now() AT TIME ZONE 'UTC')::date + 1"


async def run_chunk(cur: Cursor, after: int, today: date | None, actor: str, looked: int = LOOKED) -> DunningResult:
    """Do what is due of the next accounts after an id; the caller commits and asks again until ``after`` is None.

    Args:
        cur: aiopg cursor inside the caller's READ COMMITTED transaction.
        today: the date to count by; None: the present one in each account's zone.

    Raises:
        DunningError: a date to come.
    """
    span = await next_span(cur, after, today, looked)
    if span is None:
        return DunningResult(None, {}, 0, 0)
    seen = await find_due_steps(cur, span)
    settled = await find_settled(cur, span)
    ids = sorted({one.account_id for one in seen} | settled)
    next_after, count = span.last if span.goes_on else None, span.count
    if len(ids) > LOCKED:
        ids, next_after = ids[:LOCKED], ids[LOCKED - 1]
        await cur.execute(_COUNT_SPAN, {"after": after, "last": next_after})
        count = int((await cur.fetchone())[0])
    due: list[DueStep] = []
    if ids:
        cancelled = sorted({one.account_id for one in seen if one.action == "cancellation"} & {*ids})
        await wait_for_billing(cur, cancelled)
        await lock_accounts(cur, ids)  # all at once: two sets one after the other may deadlock
        await cur.execute(_DUE_OF, {"ids": ids, "today": today})
        found = [DueStep(*row) for row in await cur.fetchall()]
        due = [one for one in found if one.action != "cancellation" or one.account_id in cancelled]
    counts = await _do(cur, due, actor)
    lifted = await _lift(cur, [one for one in ids if one in settled], actor)
    actions = Counter(one.action for one in due) + Counter({"lifted": lifted})
    return DunningResult(next_after, dict(actions), *counts, count)


@dataclass(frozen=True, slots=True)
class Span:
    """Accounts that are looked at together: ids above ``after`` up to ``last``. today: as in ``run_chunk``."""

    after: int
    last: int
    count: int
    goes_on: bool
    today: date | None


async def next_span(cur: Cursor, after: int, today: date | None, looked: int = LOOKED) -> Span | None:
    """The next billed accounts after an id, or None after the last one.

    Raises:
        DunningError: a date to come.
    """
    await _check_date(cur, today)
    await cur.execute(_LAST_OF_CHUNK, {"after": after, "limit": looked})
    last, count = await cur.fetchone()
    return Span(after, int(last), int(count), count == looked, today) if count else None


async def find_due_steps(cur: Cursor, span: Span) -> list[DueStep]:
    """Steps that are due of a span's accounts, by account and step; without locks."""
    await cur.execute(_DUE_AFTER, {"after": span.after, "last": span.last, "today": span.today})
    return [DueStep(*row) for row in await cur.fetchall()]


async def find_settled(cur: Cursor, span: Span) -> set[int]:
    """Accounts of a span whose spell of debt is over although no payment has ended it."""
    await cur.execute(_SETTLED, {"after": span.after, "last": span.last})
    return {int(row[0]) for row in await cur.fetchall()}


async def count_accounts(cur: Cursor) -> int:
    """Accounts that a whole run looks at."""
    await cur.execute(_COUNT_ACCOUNTS)
    return int((await cur.fetchone())[0])


async def _check_date(cur: Cursor, today: date | None) -> None:
    await cur.execute(_TOMORROW)
    tomorrow = (await cur.fetchone())[0]
    if today is not None and today > tomorrow:  # east of Greenwich it may be tomorrow already
        raise DunningError(f"{today} is to come: nobody is overdue by it yet")


async def _do(cur: Cursor, due: Sequence[DueStep], actor: str) -> tuple[int, int]:
    """Write the steps; returns how many orders were suspended and cancelled."""
    if not due:
        return 0, 0
    values = {
        "ids": int_array(one.account_id for one in due),
        "steps": int_array(one.step for one in due),
        "actions": text_array(one.action for one in due),
        "overdue": int_array(one.overdue for one in due),
        "oldest": int_array(one.oldest_invoice_id for one in due),
        "actor": actor,
    }
    await cur.execute(_EVENTS, values)
    await cur.execute(_STEP, values)
    counts = []
    for action, statement in (("suspension", _SUSPEND_PAID_BY), ("cancellation", _CANCEL)):
        ids = [one.account_id for one in due if one.action == action]
        await cur.execute(statement, {"ids": int_array(ids), "actor": actor})
        counts.append(int(cur.rowcount))
    return counts[0], counts[1]


async def _lift(cur: Cursor, ids: Sequence[int], actor: str) -> int:
    """Lift those of these accounts, which are locked, that owe nothing overdue any more."""
    if not ids:
        return 0
    await cur.execute(_LIFT, {"ids": list(ids), "actor": actor})
    lifted = [int(row[0]) for row in await cur.fetchall()]
    await resume_paid_by(cur, lifted, actor)
    return len(lifted)


async def resume_paid_by(cur: Cursor, ids: Sequence[int], actor: str) -> None:
    """End the suspensions for debt of what these accounts, which are locked, pay for."""
    await cur.execute(_RESUME_PAID_BY, {"ids": int_array(ids), "actor": actor})


async def stand_as_payer(cur: Cursor, account_id: int, payer_id: int, actor: str) -> None:
    """Suspend orders that moved to this payer if it is suspended, else resume what a former payer's debt suspended.

    The caller holds both payers' accounts locked: neither pays nor is suspended meanwhile.
    """
    await cur.execute(_IS_SUSPENDED, (payer_id,))
    is_suspended = (await cur.fetchone())[0]
    values = {"account_id": account_id, "payer_id": payer_id, "actor": actor}
    await cur.execute(_SUSPEND_MOVED if is_suspended else _RESUME_MOVED, values)


async def lock_accounts(cur: Cursor, ids: Sequence[int]) -> None:
    """Make payments to these accounts, and other takers of this lock, wait until the transaction ends."""
    await cur.execute(_LOCK, {"ids": list(ids)})


async def list_steps(cur: Cursor) -> dict[str, list[DunningStep]]:
    """Steps by customer group."""
    await cur.execute(_STEPS)
    found: dict[str, list[DunningStep]] = {}
    for group, *step in await cur.fetchall():
        found.setdefault(group, []).append(DunningStep(*step))
    return found


async def set_steps(cur: Cursor, group: str, steps: Sequence[DunningStep]) -> None:
    """Replace a group's steps; none: the group goes by those of ''. Accounts in debt keep the number of their last one.

    Raises:
        DunningError: steps that cannot be.
    """
    check_steps(steps)
    if not steps and not group:
        raise DunningError("the steps of everybody cannot be empty: name at least one")
    await cur.execute(_FORGET_STEPS, {"group": group})
    values = {
        "group": group,
        "steps": int_array(one.step for one in steps),
        "days": int_array(one.days for one in steps),
        "actions": text_array(one.action for one in steps),
    }
    await cur.execute(_NEW_STEPS, values)


def check_steps(steps: Sequence[DunningStep]) -> None:
    """Refuse steps that are out of order or impossible. Pure.

    Raises:
        DunningError: what is wrong, as a sentence.
    """
    if len(steps) > MAX_STEPS:
        raise DunningError(f"{len(steps)} steps, at most {MAX_STEPS}")
    for one in steps:
        if one.action not in ACTIONS:
            raise DunningError(f"action {one.action[:40]!r} must be one of: {', '.join(ACTIONS)}")
        if not FIRST_DAY <= one.days <= LAST_DAY:
            raise DunningError(f"a step is {FIRST_DAY} to {LAST_DAY} days after the due date, not {one.days}")
        if one.days < 1 and one.action in ("suspension", "cancellation"):
            raise DunningError(f"{one.action} comes after the due date, not {one.days} days after it")
    days = [one.days for one in steps]
    if days != sorted(set(days)):
        raise DunningError("the days of the steps must ascend")


def added(total: DunningResult, one: DunningResult) -> DunningResult:
    """The results of two chunks, one after the other."""
    actions = Counter(total.actions) + Counter(one.actions)
    orders = total.suspended + one.suspended, total.cancelled + one.cancelled
    return DunningResult(one.after, dict(actions), *orders, total.looked + one.looked)


def parse_steps(words: Iterable[str]) -> list[DunningStep]:
    """Steps as a person writes them, ``7:warning``, numbered from 1.

    Raises:
        DunningError: a word that is no step.

    >>> parse_steps(["1:reminder", "14:suspension"])
    [DunningStep(step=1, days=1, action='reminder'), DunningStep(step=2, days=14, action='suspension')]
    """
    steps = []
    for number, word in enumerate(words, 1):
        days, _, action = word.partition(":")
        digits = days.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 4 and action):
            raise DunningError(f"{word[:40]!r} is no step such as 7:warning")
        steps.append(DunningStep(number, int(days), action))
    return steps
