"""Customers in PostgreSQL: what is read of them, what changes write, and the locks that a change takes.

Rules. Functions take the caller's aiopg cursor; the caller owns the transaction. A change locks in the order of
billing.database.locks: the tree of customers, the customer's row (`lock_customer`), the shards at work on its payers,
then accounts. While the row of a customer is locked nothing is ordered for it.

Does not know: which changes are allowed (billing.customers.customers).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from billing.customers.records import BilledAccount, Customer, NewCustomer
from billing.customers.rules import CustomerError
from billing.database.cursors import Cursor
from billing.database.rows import first_record, named_rows, part_of, records

#: Reasons for which orders in force are suspended at this moment; {whose}: of which accounts.
_SUSPENDED: Final = """coalesce((
        SELECT array_agg(DISTINCT s.reason ORDER BY s.reason)
        FROM billing_accounts w JOIN orders o ON o.account_id = w.account_id
        JOIN order_suspensions s ON s.order_id = o.id
        WHERE {whose} AND o.settled_at IS NULL AND o.starts_at <= now() AND coalesce(o.ends_at > now(), true)
          AND s.from_at <= now() AND coalesce(s.until_at > now(), true)), '{{}}')"""

_FIND: Final = f"""
    SELECT c.id, c.state, c.created_at, b.account_id, {_SUSPENDED.format(whose="w.customer_id = c.id")} AS suspended,
           c.number, c.name, c.customer_group AS "group", coalesce(p.number, '') AS parent,
           b.payer_account_id <> b.account_id AS parent_pays, c.language, c.contacts, c.details, a.number AS account,
           a.kind, a.currency, b.zone, e.number AS legal_entity, b.due_days
    FROM customers c
    JOIN LATERAL (SELECT * FROM billing_accounts b WHERE b.customer_id = c.id ORDER BY b.account_id LIMIT 1) b ON true
    JOIN accounts a ON a.id = b.account_id
    JOIN legal_entities e ON e.id = b.legal_entity_id
    LEFT JOIN customers p ON p.id = c.parent_id
    WHERE (%(number)s::text IS NULL OR c.number = %(number)s)
      AND (%(group)s::text IS NULL OR c.customer_group = %(group)s)
      AND (%(parent)s::text IS NULL OR c.parent_id = (SELECT id FROM customers WHERE number = %(parent)s))
      AND (%(state)s::text IS NULL OR c.state = %(state)s)
      AND c.number > %(after)s
    ORDER BY c.number LIMIT %(limit)s
"""

_ACCOUNTS: Final = f"""
    SELECT a.id, a.number, a.currency, a.kind, a.state, a.balance_minor, b.payer_account_id AS payer_id,
           p.number AS payer, b.zone, e.number AS legal_entity, b.due_days,
           {_SUSPENDED.format(whose="w.account_id = b.account_id")} AS suspended
    FROM billing_accounts b
    JOIN accounts a ON a.id = b.account_id
    JOIN accounts p ON p.id = b.payer_account_id
    JOIN legal_entities e ON e.id = b.legal_entity_id
    WHERE b.customer_id = %s ORDER BY a.id
"""

_TAKEN: Final = """
    SELECT a.id, a.kind, a.currency, a.state, k.is_system, c.number AS owner
    FROM accounts a JOIN account_kinds k USING (kind)
    LEFT JOIN billing_accounts b ON b.account_id = a.id
    LEFT JOIN customers c ON c.id = b.customer_id
    WHERE a.number = %s
    FOR KEY SHARE OF a
"""

_ADD: Final = """
    INSERT INTO customers (number, name, customer_group, parent_id, language, contacts, details)
    VALUES (%(number)s, %(name)s, %(group)s, (SELECT id FROM customers WHERE number = %(parent)s), %(language)s,
            %(contacts)s::jsonb, %(details)s::jsonb)
    ON CONFLICT (number) DO NOTHING
    RETURNING id
"""

_BILL: Final = """
    INSERT INTO billing_accounts (account_id, customer_id, payer_account_id, legal_entity_id, zone, due_days)
    SELECT %(account_id)s, %(customer_id)s, %(payer_id)s, e.id, %(zone)s, %(due_days)s
    FROM legal_entities e WHERE e.number = %(legal_entity)s
    RETURNING account_id
"""

#: The account of a parent that would pay: the first in the currency.
_PAYER: Final = """
    SELECT b.account_id, b.payer_account_id = b.account_id AS pays_itself
    FROM billing_accounts b JOIN accounts a ON a.id = b.account_id JOIN customers c ON c.id = b.customer_id
    WHERE c.number = %(parent)s AND a.currency = %(currency)s ORDER BY b.account_id LIMIT 1
"""

_ABOVE: Final = """
    WITH RECURSIVE above AS (
        SELECT id, number, parent_id FROM customers WHERE number = %(number)s
        UNION
        SELECT p.id, p.number, p.parent_id FROM customers p JOIN above ON p.id = above.parent_id
    )
    SELECT number FROM above
"""

_PAID_FOR: Final = """
    SELECT count(*) FROM billing_accounts b
    WHERE b.payer_account_id IN (SELECT account_id FROM billing_accounts WHERE customer_id = %(id)s)
      AND b.customer_id <> %(id)s
"""

_LOCK: Final = "SELECT FROM customers WHERE number = %s FOR NO KEY UPDATE"

_EDIT: Final = """
    UPDATE customers SET name = %(name)s, customer_group = %(group)s, language = %(language)s,
           contacts = %(contacts)s::jsonb, details = %(details)s::jsonb
    WHERE number = %(number)s
"""

#: Null leaves each account what it has.
_EDIT_BILLING: Final = """
    UPDATE billing_accounts SET zone = coalesce(%(zone)s, zone), due_days = coalesce(%(due_days)s, due_days),
           legal_entity_id = coalesce((SELECT id FROM legal_entities WHERE number = %(legal_entity)s), legal_entity_id)
    WHERE customer_id = %(id)s
"""

_MOVE: Final = """
    UPDATE customers SET parent_id = (SELECT id FROM customers WHERE number = %(parent)s) WHERE id = %(id)s
"""

_MOVE_PAYER: Final = """
    WITH moved AS (
        UPDATE billing_accounts SET payer_account_id = %(payer_id)s
        WHERE account_id = %(account_id)s AND payer_account_id <> %(payer_id)s RETURNING account_id
    ), lines AS (
        UPDATE manual_lines l SET payer_account_id = %(payer_id)s
        FROM moved m WHERE l.account_id = m.account_id AND l.invoice_id IS NULL
    ), unsettled AS (
        UPDATE orders o SET payer_account_id = %(payer_id)s
        FROM moved m WHERE o.account_id = m.account_id AND o.settled_at IS NULL RETURNING o.id
    )
    INSERT INTO order_events (order_id, event, details, actor)
    SELECT id, 'payer_moved', %(details)s::jsonb, %(actor)s FROM unsettled ORDER BY id
"""

#: What a billing run under way has settled is a draft, or not committed by all: it may yet be undone or charged.
_LEFT_TO_DO: Final = """
    SELECT (SELECT count(*) FROM orders o JOIN billing_accounts b USING (account_id)
            WHERE b.customer_id = %(id)s AND (o.settled_at IS NULL OR o.settled_at >= (
                SELECT min(started_at) FROM bill_runs WHERE state IN ('running', 'reviewed', 'approving')))) AS orders,
           (SELECT count(*) FROM manual_lines l JOIN billing_accounts b USING (account_id)
            WHERE b.customer_id = %(id)s AND (l.invoice_id IS NULL OR EXISTS (
                SELECT FROM invoice_blocks k WHERE k.id = l.invoice_id >> 20 AND k.state = 'draft'))) AS manual_lines,
           (SELECT count(*) FROM billing_accounts b JOIN invoices i USING (account_id)
            JOIN invoice_blocks k ON k.id = i.id >> 20 WHERE b.customer_id = %(id)s AND k.state = 'draft')
               AS drafts,
           (SELECT count(*) FROM customers WHERE parent_id = %(id)s AND state = 'active') AS children,
           (SELECT count(*) FROM accounts a JOIN billing_accounts b ON b.account_id = a.id
            WHERE b.customer_id = %(id)s AND a.balance_minor <> 0) AS balances
"""

#: An order that goes on, or else one that waits for its last bill.
_FIRST_LEFT: Final = """
    SELECT coalesce(o.number, '#' || o.id), o.ends_at IS NULL OR o.ends_at > greatest(now(), o.starts_at) AS goes_on
    FROM orders o JOIN billing_accounts b USING (account_id)
    WHERE b.customer_id = %(id)s AND o.settled_at IS NULL ORDER BY goes_on DESC, o.id LIMIT 1
"""

_CLOSE: Final = """
    WITH closed AS (UPDATE customers SET state = 'closed' WHERE id = %(id)s RETURNING id)
    UPDATE accounts a SET state = 'closed'
    FROM billing_accounts b JOIN closed c ON c.id = b.customer_id WHERE a.id = b.account_id
"""


@dataclass(frozen=True, slots=True)
class AccountInUse:
    """An account by its number. owner: the number of its customer, None if it has none."""

    id: int
    kind: str
    currency: str
    state: str
    is_system: bool
    owner: str | None


@dataclass(frozen=True, slots=True)
class ParentAccount:
    """The account of a parent that would pay. pays_itself: for itself, as a payer for others must."""

    account_id: int
    pays_itself: bool


@dataclass(frozen=True, slots=True)
class LeftToDo:
    """What keeps a customer from being closed, as counts."""

    orders: int
    manual_lines: int
    drafts: int
    children: int
    balances: int


# ---- reading


async def customer_by_number(cur: Cursor, number: str) -> Customer | None:
    """The customer with this number, or None."""
    customers = await list_customers(cur, number=number, limit=1)
    return customers[0] if customers else None


async def find_customer(cur: Cursor, number: str) -> Customer:
    """The customer with this number. Raises CustomerError if there is none."""
    customer = await customer_by_number(cur, number)
    if customer is None:
        raise CustomerError(f"there is no customer {number[:40]!r}")
    return customer


async def list_customers(
    cur: Cursor,
    *,
    number: str | None = None,
    group: str | None = None,
    parent: str | None = None,
    state: str | None = None,
    after: str = "",
    limit: int = 100,
) -> list[Customer]:
    """Customers in order of their numbers, from the one after ``after``."""
    wanted = {"number": number, "group": group, "parent": parent, "state": state, "after": after, "limit": limit}
    await cur.execute(_FIND, wanted)
    return [
        part_of({**row, "facts": part_of(row, NewCustomer), "suspended": tuple(row["suspended"])}, Customer)
        for row in await named_rows(cur)
    ]


async def accounts_of(cur: Cursor, customer_id: int) -> list[BilledAccount]:
    """Accounts of a customer, the first one first."""
    await cur.execute(_ACCOUNTS, (customer_id,))
    return await records(cur, BilledAccount)


async def account_in_use(cur: Cursor, number: str) -> AccountInUse:
    """An account that is there, kept from being deleted until the transaction ends."""
    await cur.execute(_TAKEN, (number,))
    return (await records(cur, AccountInUse))[0]


async def parent_account(cur: Cursor, parent: str, currency: str) -> ParentAccount | None:
    """The first account of a parent in a currency, or None."""
    await cur.execute(_PAYER, {"parent": parent, "currency": currency})
    return await first_record(cur, ParentAccount)


async def numbers_above(cur: Cursor, number: str) -> set[str]:
    """Numbers of a customer and of all its parents."""
    await cur.execute(_ABOVE, {"number": number})
    return {above for (above,) in await cur.fetchall()}


async def count_paid_for(cur: Cursor, customer_id: int) -> int:
    """How many accounts of other customers a customer pays for."""
    await cur.execute(_PAID_FOR, {"id": customer_id})
    return int((await cur.fetchone())[0])


async def left_to_do(cur: Cursor, customer_id: int) -> LeftToDo:
    """What is left to do for a customer before it can be closed."""
    await cur.execute(_LEFT_TO_DO, {"id": customer_id})
    return (await records(cur, LeftToDo))[0]


async def first_order_left(cur: Cursor, customer_id: int) -> tuple[str, bool] | None:
    """The number of an order that is not settled and whether it goes on, one that goes on first; None without any."""
    await cur.execute(_FIRST_LEFT, {"id": customer_id})
    row = await cur.fetchone()
    return None if row is None else (str(row[0]), bool(row[1]))


# ---- writing


async def lock_customer(cur: Cursor, number: str) -> None:
    """Make others who would change this customer, or order for it, wait until the transaction ends."""
    await cur.execute(_LOCK, (number,))


async def insert_customer(cur: Cursor, new: NewCustomer) -> int:
    """Add a customer without an account; returns its id."""
    await cur.execute(_ADD, _values(new))
    return int((await cur.fetchone())[0])


async def insert_billing(cur: Cursor, new: NewCustomer, customer_id: int, account_id: int, payer_id: int) -> bool:
    """Give a customer an account with its payer; False if there is no such legal entity."""
    ids = {"customer_id": customer_id, "account_id": account_id, "payer_id": payer_id}
    await cur.execute(_BILL, _values(new) | ids)
    return await cur.fetchone() is not None


async def update_customer(cur: Cursor, customer_id: int, facts: NewCustomer, billing: Mapping[str, Any]) -> None:
    """Write what a customer is now. billing: zone, due_days, legal_entity of all its accounts, None for no change."""
    await cur.execute(_EDIT, _values(facts))
    await cur.execute(_EDIT_BILLING, {**billing, "id": customer_id})


async def set_parent(cur: Cursor, customer_id: int, parent: str) -> None:
    """Give a customer another parent, or none (empty)."""
    await cur.execute(_MOVE, {"id": customer_id, "parent": parent})


async def move_payer(cur: Cursor, account: BilledAccount, payer_id: int, parent: str, actor: str) -> None:
    """Give an account another payer, with its orders that are not settled and its manual lines without an invoice."""
    details = json.dumps({"from": account.payer, "parent": parent})
    values = {"account_id": account.id, "payer_id": payer_id, "details": details, "actor": actor}
    await cur.execute(_MOVE_PAYER, values)


async def close(cur: Cursor, customer_id: int) -> None:
    """Close a customer and its accounts."""
    await cur.execute(_CLOSE, {"id": customer_id})


def _values(new: NewCustomer) -> dict[str, Any]:
    texts = {name: json.dumps(dict(getattr(new, name)), ensure_ascii=False) for name in ("contacts", "details")}
    names = ("number", "name", "group", "parent", "language", "zone", "legal_entity", "due_days")
    return {name: getattr(new, name) for name in names} | texts
