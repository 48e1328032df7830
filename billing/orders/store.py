"""Orders in PostgreSQL: what is read of them, what changes write, and the locks that a change takes.

Rules. Functions take the caller's aiopg cursor; the caller owns the transaction. A change locks in the order of
billing.database.locks: the customer's and the account's rows (`ordering_account`), the shard at work on the payer, then
the orders (`lock_orders`).

Does not know: which changes are allowed (billing.orders.orders).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from datetime import date
from typing import Any, Final

from billing.catalogue.model import Catalogue
from billing.catalogue.store import find_version, read_version
from billing.database.arrays import text_array
from billing.database.cursors import Cursor
from billing.database.locks import wait_for_billing
from billing.database.rows import first_record, named_rows, part_of, records
from billing.orders.periods import periods_from
from billing.orders.records import (
    BilledPeriod,
    BilledUntil,
    ManualCharge,
    NewOrder,
    Order,
    OrderEvent,
    OrderingAccount,
    PeriodToCome,
    Suspension,
)
from billing.orders.rules import OrderError
from billing.orders.terms import Terms

#: Columns of order_terms, besides the catalogue.
TERMS_COLUMNS: Final = tuple(field.name for field in fields(Terms) if field.name != "catalogue")

_ACCOUNT: Final = """
    SELECT b.account_id, b.payer_account_id, a.currency, p.currency AS payer_currency, b.zone,
           c.customer_group AS "group", c.number AS customer, c.state, a.state AS account_state
    FROM accounts a
    JOIN billing_accounts b ON b.account_id = a.id
    JOIN accounts p ON p.id = b.payer_account_id
    JOIN customers c ON c.id = b.customer_id
    WHERE a.number = %s
    FOR SHARE OF c FOR NO KEY UPDATE OF b
"""

_CATALOGUES: Final = "SELECT name FROM catalogues ORDER BY name"

_FIND: Final = """
    WITH RECURSIVE line AS (
        SELECT o.* FROM orders o WHERE {which}
        UNION ALL
        SELECT n.* FROM orders n JOIN line ON n.replaces_id = line.id AND %(with_later)s
    )
    SELECT o.id, a.number AS account, o.account_id, p.number AS payer, o.payer_account_id,
           coalesce(o.number, '#' || o.id) AS number, c.name AS catalogue, {terms}, o.quantity,
           extract(epoch FROM o.starts_at)::bigint AS starts_s, extract(epoch FROM o.ends_at)::bigint AS ends_s,
           extract(epoch FROM o.trial_until)::bigint AS trial_until_s, o.minimum_minor, o.price_minor,
           coalesce(o.codes, '{{}}') AS codes, o.note,
           coalesce((SELECT number FROM orders e WHERE e.id = o.replaces_id), '') AS replaces,
           coalesce((SELECT number FROM orders l WHERE l.replaces_id = o.id), '') AS replaced_by,
           o.settled_at IS NOT NULL AS is_settled, o.created_at,
           s.reason AS pause_reason, extract(epoch FROM s.from_at)::bigint AS pause_from_s,
           extract(epoch FROM s.until_at)::bigint AS pause_until_s, s.actor AS pause_actor
    FROM line o
    JOIN order_terms t ON t.id = o.terms_id
    JOIN catalogues c ON c.id = t.catalogue_id
    JOIN accounts a ON a.id = o.account_id
    JOIN accounts p ON p.id = o.payer_account_id
    LEFT JOIN LATERAL (
        SELECT s.reason, s.from_at, s.until_at, s.actor FROM order_suspensions s
        WHERE s.order_id = o.id AND s.from_at <= now() AND (s.until_at IS NULL OR s.until_at > now())
          AND o.starts_at <= now() AND coalesce(o.ends_at > now(), true)
        LIMIT 1) s ON true
    ORDER BY o.id
"""
_TERMS_READ: Final = ", ".join(f"t.{name}" for name in TERMS_COLUMNS)
_BY_NUMBER: Final = _FIND.format(terms=_TERMS_READ, which="o.number = %(number)s")
_LISTED: Final = _FIND.format(
    terms=_TERMS_READ,
    which="""o.id IN (
        SELECT w.id FROM orders w
        LEFT JOIN billing_accounts b ON b.account_id = w.account_id
        LEFT JOIN customers k ON k.id = b.customer_id
        WHERE (%(account)s::text IS NULL OR w.account_id = (SELECT id FROM accounts WHERE number = %(account)s))
          AND (%(customer)s::text IS NULL OR k.number = %(customer)s)
          AND (NOT %(open)s OR w.settled_at IS NULL)
          AND w.id > %(after)s
        ORDER BY w.id LIMIT %(limit)s)""",
)

_TERMS_GIVEN: Final = ", ".join(f"%({name})s" for name in TERMS_COLUMNS)

_ADD_TERMS: Final = f"""
    INSERT INTO order_terms (catalogue_id, {", ".join(TERMS_COLUMNS)})
    SELECT id, {_TERMS_GIVEN} FROM catalogues WHERE name = %(catalogue)s
    ON CONFLICT DO NOTHING
"""

_TERMS_ID: Final = f"""
    SELECT t.id FROM order_terms t JOIN catalogues c ON c.id = t.catalogue_id
    WHERE (c.name, {_TERMS_READ}) = (%(catalogue)s, {_TERMS_GIVEN})
"""

_ADD: Final = """
    INSERT INTO orders (number, account_id, payer_account_id, terms_id, quantity, starts_at, ends_at, trial_until,
                        minimum_minor, price_minor, codes, replaces_id, note)
    VALUES (%(number)s, %(account_id)s, %(payer_account_id)s, %(terms_id)s, %(quantity)s, to_timestamp(%(starts_s)s),
            to_timestamp(%(ends_s)s), to_timestamp(%(trial_until_s)s), %(minimum_minor)s, %(price_minor)s,
            nullif(%(codes)s::text[], '{}'), %(replaces_id)s, %(note)s)
    ON CONFLICT (number) DO NOTHING
    RETURNING id
"""

_COUNT: Final = "SELECT count(*) FROM orders WHERE account_id = %s"

_ANY_IN_ADVANCE: Final = """
    SELECT EXISTS (
        SELECT FROM order_terms t
        WHERE t.catalogue_id = (SELECT id FROM catalogues WHERE name = %s) AND t.in_advance
          AND EXISTS (SELECT FROM orders o WHERE o.terms_id = t.id AND o.settled_at IS NULL))
"""

_EVENT: Final = "INSERT INTO order_events (order_id, event, details, actor) VALUES (%s, %s, %s::jsonb, %s)"

_LOCK: Final = "SELECT FROM orders WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE"

_BILLED_UNTIL: Final = """
    SELECT extract(epoch FROM max(period_end) FILTER (WHERE part IN ('arrears', 'adjustment')))::bigint AS until_s,
           count(*) FILTER (WHERE part = 'once') > 0 AS once,
           extract(epoch FROM max(period_end) FILTER (WHERE part = 'adjustment'))::bigint AS adjusted_until_s
    FROM order_periods WHERE order_id = %s
"""

_END: Final = "UPDATE orders SET ends_at = to_timestamp(%s) WHERE id = %s"

#: A one-time order that is taken back is nothing to the cycle any more.
_TAKE_BACK: Final = "UPDATE orders SET ends_at = starts_at, settled_at = now() WHERE id = %s"

_SUSPENSIONS: Final = """
    SELECT id, extract(epoch FROM from_at)::bigint AS from_s, extract(epoch FROM until_at)::bigint AS until_s, reason,
           actor
    FROM order_suspensions WHERE order_id = %s ORDER BY from_at
"""

_SUSPEND: Final = """
    INSERT INTO order_suspensions (order_id, from_at, until_at, reason, actor)
    VALUES (%s, to_timestamp(%s), to_timestamp(%s), 'asked', %s)
"""

#: One taken back before it began lasts no whole second, so it pauses nothing.
_RESUME: Final = """
    UPDATE order_suspensions SET until_at = greatest(to_timestamp(%s), from_at + interval '1 microsecond') WHERE id = %s
"""

_PERIODS: Final = """
    SELECT p.part, p.period_start AS start, p.period_end AS "end", p.outcome, p.reason, p.active_num, p.active_den,
           p.amount_minor,
           CASE WHEN p.invoice_id IS NULL THEN '' ELSE coalesce(i.full_number, '-') END AS invoice
    FROM order_periods p LEFT JOIN numbered_invoices i ON i.id = p.invoice_id
    WHERE p.order_id = %s ORDER BY p.period_start DESC, p.part DESC LIMIT %s
"""

_LAST_PERIOD: Final = """
    SELECT extract(epoch FROM max(period_end))::bigint FROM order_periods WHERE order_id = %s AND part = %s
"""

_EVENTS: Final = "SELECT at, event, details, actor FROM order_events WHERE order_id = %s ORDER BY id DESC LIMIT %s"

_CHARGE: Final = """
    INSERT INTO manual_lines (key, account_id, payer_account_id, description, amount_minor, tax_ppm, tax_inside,
                              bill_on, actor, why)
    SELECT %(key)s, b.account_id, b.payer_account_id, %(description)s, %(amount_minor)s, %(tax_ppm)s, %(tax_inside)s,
           coalesce(%(bill_on)s, (now() AT TIME ZONE zone_or_utc(b.zone))::date), %(actor)s, %(why)s
    FROM billing_accounts b WHERE b.account_id = %(account_id)s
    ON CONFLICT (key) DO NOTHING
    RETURNING bill_on
"""

_SAME_CHARGE: Final = """
    SELECT bill_on FROM manual_lines
    WHERE key = %(key)s AND account_id = %(account_id)s AND description = %(description)s
      AND amount_minor = %(amount_minor)s AND tax_ppm = %(tax_ppm)s AND tax_inside = %(tax_inside)s
      AND why = %(why)s AND bill_on = coalesce(%(bill_on)s, bill_on)
"""


# ---- accounts and catalogues


async def ordering_account(cur: Cursor, number: str) -> OrderingAccount:
    """What orders of an account take from it. Other orders for it, a move and a close of its customer wait.

    Raises:
        OrderError: no customer has such an account.
    """
    await cur.execute(_ACCOUNT, (number,))
    account = await first_record(cur, OrderingAccount)
    if account is None:
        raise OrderError(f"no customer has an account {number[:40]!r}")
    return account


async def newest_catalogue(cur: Cursor, name: str = "") -> Catalogue:
    """The newest version of a catalogue, of the only one if none is named.

    Raises:
        OrderError: there is none, or more than one and none is named.
    """
    await cur.execute(_CATALOGUES)
    names = [known for (known,) in await cur.fetchall()]
    if not name and len(names) > 1:
        raise OrderError(f"there are several catalogues, name one by --catalogue: {', '.join(names)[:300]}")
    version = await find_version(cur, name or names[0]) if names else None
    if version is None:
        raise OrderError(f"there is no catalogue{f' {name[:40]!r}' if name else ': `kopeck catalogue load` loads one'}")
    return await read_version(cur, version)


async def is_sold_in_advance(cur: Cursor, catalogue: str) -> bool:
    """Whether an order on this catalogue that is not settled yet pays in advance."""
    await cur.execute(_ANY_IN_ADVANCE, (catalogue,))
    return bool((await cur.fetchone())[0])


# ---- finding


async def _orders(cur: Cursor, statement: str, values: Mapping[str, Any]) -> list[Order]:
    await cur.execute(statement, values)
    return [_order(row) for row in await named_rows(cur)]


def _order(row: Mapping[str, Any]) -> Order:
    contents = part_of({**row, "terms": part_of(row, Terms), "codes": tuple(row["codes"])}, NewOrder)
    pause = None
    if row["pause_reason"] is not None:
        pause = Suspension(0, row["pause_from_s"], row["pause_until_s"], row["pause_reason"], row["pause_actor"])
    return part_of({**row, "contents": contents, "pause": pause}, Order)


async def order_by_number(cur: Cursor, number: str) -> Order | None:
    """The order with this number, or None."""
    orders = await _orders(cur, _BY_NUMBER, {"number": number, "with_later": False})
    return orders[0] if orders else None


async def find_order(cur: Cursor, number: str) -> Order:
    """The order with this number. Raises OrderError if there is none."""
    order = await order_by_number(cur, number)
    if order is None:
        raise OrderError(f"there is no order {number[:40]!r}")
    return order


async def list_orders(
    cur: Cursor,
    *,
    account: str | None = None,
    customer: str | None = None,
    only_open: bool = False,
    after: int = 0,
    limit: int = 100,
) -> list[Order]:
    """Orders in the order in which they were made, from the one after the id ``after``."""
    wanted = {"account": account, "customer": customer, "open": only_open, "after": after, "limit": limit}
    return await _orders(cur, _LISTED, wanted | {"with_later": False})


async def lock_orders(cur: Cursor, number: str) -> list[Order]:
    """An order and those that are to replace it, locked; waits for the shard at work on their payer.

    Raises:
        OrderError: there is no such order.
    """
    values = {"number": number, "with_later": True}
    orders = await _orders(cur, _BY_NUMBER, values)
    if not orders:
        raise OrderError(f"there is no order {number[:40]!r}")
    await wait_for_billing(cur, [orders[0].payer_account_id])
    await cur.execute(_LOCK, ([order.id for order in orders],))
    return await _orders(cur, _BY_NUMBER, values)  # as they are now that no other transaction changes them


async def periods_of_order(cur: Cursor, order_id: int, limit: int) -> list[BilledPeriod]:
    """What of an order was billed or waived, the newest first."""
    await cur.execute(_PERIODS, (order_id, limit))
    return await records(cur, BilledPeriod)


async def suspensions_of(cur: Cursor, order_id: int) -> list[Suspension]:
    """Pauses of an order, the first one first."""
    await cur.execute(_SUSPENSIONS, (order_id,))
    return await records(cur, Suspension)


async def events_of(cur: Cursor, order_id: int, limit: int) -> list[OrderEvent]:
    """What people did to an order, the newest first."""
    await cur.execute(_EVENTS, (order_id, limit))
    return await records(cur, OrderEvent)


async def periods_to_come(cur: Cursor, order: Order, count: int) -> list[PeriodToCome]:
    """The first ``count`` periods of an order that are not billed, missed ones among them."""
    new = order.contents
    if order.is_settled or new.terms.kind == "one_time":
        return []
    await cur.execute(_LAST_PERIOD, (order.id, "advance" if new.terms.in_advance else "arrears"))
    from_s = max((await cur.fetchone())[0] or 0, new.starts_s)
    return periods_from(new, from_s, count)


async def billed_until(cur: Cursor, order_id: int) -> BilledUntil:
    """Up to where an order is billed for good."""
    await cur.execute(_BILLED_UNTIL, (order_id,))
    return (await records(cur, BilledUntil))[0]


async def free_number(cur: Cursor, account: str, account_id: int) -> str:
    """A number for the next order of an account: the account's and a count."""
    await cur.execute(_COUNT, (account_id,))
    count = (await cur.fetchone())[0] + 1
    while await order_by_number(cur, f"{account}-{count}") is not None:
        count += 1
    return f"{account}-{count}"


# ---- writing


async def insert_order(cur: Cursor, new: NewOrder, account: OrderingAccount, replaces_id: int | None) -> int | None:
    """Add an order with its terms; returns its id, None if the number is another order's."""
    terms = asdict(new.terms)
    await cur.execute(_ADD_TERMS, terms)
    await cur.execute(_TERMS_ID, terms)
    values = {field.name: getattr(new, field.name) for field in fields(NewOrder) if field.name != "terms"} | {
        "terms_id": (await cur.fetchone())[0],
        "codes": text_array(new.codes),
        "account_id": account.account_id,
        "payer_account_id": account.payer_account_id,
        "replaces_id": replaces_id,
    }
    await cur.execute(_ADD, values)
    row = await cur.fetchone()
    return None if row is None else int(row[0])


async def note_event(cur: Cursor, order_id: int, event: str, details: Mapping[str, Any], actor: str) -> None:
    """Write down what a person did to an order."""
    await cur.execute(_EVENT, (order_id, event, json.dumps(details, ensure_ascii=False), actor))


async def set_end(cur: Cursor, order_id: int, at_s: int | None) -> None:
    """Let an order end at an instant, or go on (None)."""
    await cur.execute(_END, (at_s, order_id))


async def take_back(cur: Cursor, order_id: int) -> None:
    """Take a one-time order back before it is billed."""
    await cur.execute(_TAKE_BACK, (order_id,))


async def insert_suspension(cur: Cursor, order_id: int, from_s: int, until_s: int | None, actor: str) -> None:
    """Pause an order on a person's request."""
    await cur.execute(_SUSPEND, (order_id, from_s, until_s, actor))


async def end_suspension(cur: Cursor, suspension_id: int, at_s: int) -> None:
    """End a pause at an instant; one that has not begun pauses nothing then."""
    await cur.execute(_RESUME, (at_s, suspension_id))


async def insert_charge(cur: Cursor, charge: ManualCharge, account_id: int, actor: str) -> date | None:
    """Write a line for an invoice; returns its date, None if the key was used before."""
    await cur.execute(_CHARGE, asdict(charge) | {"account_id": account_id, "actor": actor})
    row = await cur.fetchone()
    return None if row is None else row[0]


async def date_of_same_charge(cur: Cursor, charge: ManualCharge, account_id: int) -> date | None:
    """The date of the charge that this key wrote, None if that charge is another one."""
    await cur.execute(_SAME_CHARGE, asdict(charge) | {"account_id": account_id})
    row = await cur.fetchone()
    return None if row is None else row[0]
