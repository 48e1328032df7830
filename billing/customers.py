"""Customers: who buys, on which account he is billed, whose child he is, and who pays for him.

Rules. A customer comes with an account and its billing record in one transaction; an account that is there already and
is nobody's becomes his. The account opened first stands for him; further ones are paid for as it is. A number acts
once: the same customer again is nothing new, another under the same number is refused. Parents form a tree of any
depth, but paying is one step: who pays for another pays for himself, in the same currency. Another payer gets future
invoices: unsettled orders and open manual lines move, invoices stay where they are. A shard of a bill run that is at
work on either payer is waited for: it reads orders and what belongs to them in several statements. Whoever changes the
tree waits for whoever is changing it (an advisory lock of the transaction).

A customer is closed when nothing is left to do for him: orders settled, no drafts, no open lines, balance zero, no
children. Migration 0009 holds accounts to the first three, whoever closes them.

Whoever changes a customer locks his row, and orders for him wait (orders.facts_of): nothing is ordered for one who is
being closed. What a change came to is told by ``changed(before, after)`` of ``recordable``, for the audit record.

Does not know: what orders say, prices. Functions take the caller's aiopg cursor.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from billing.accounts import NAME_MAX, NewAccount, create_accounts, problem_with
from billing.ageing import lock_accounts, stand_as_payer
from billing.orders import wait_for_billing
from billing.zones import problem_with_zone
from ratingcore.bands import zone_of

LANGUAGES: Final = ("ru", "en")
CONTACTS: Final = ("person", "email", "phone", "address")
DETAILS: Final = ("inn", "kpp")
#: What an invoice shows of who sells.
ENTITY_DETAILS: Final = (
    "inn",
    "kpp",
    "ogrn",
    "address",
    "phone",
    "email",
    "bank",
    "bik",
    "account",
    "correspondent_account",
    "director",
    "accountant",
)
MAX_DUE_DAYS: Final = 365
MAX_TEXT: Final = 500
_NUMBER: Final = re.compile(r"[0-9A-Za-z._@+-]{1,64}", re.ASCII)
_GROUP: Final = re.compile(r"[\w.:-]{0,64}")


class CustomerError(ValueError):
    """A clear sentence for whoever asked for the impossible."""


@dataclass(frozen=True, slots=True)
class NewCustomer:
    """A customer to be. account: its number, empty for the customer's own. parent: a customer's number, or empty."""

    number: str
    name: str = ""
    group: str = ""
    parent: str = ""
    parent_pays: bool = False
    language: str = "ru"
    contacts: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)
    account: str = ""
    kind: str = "subscriber"
    currency: str = "RUB"
    zone: str = "Europe/Moscow"
    legal_entity: str = "main"
    due_days: int = 14


@dataclass(frozen=True, slots=True)
class Customer:
    """A customer as he stands; facts: with his first account. suspended: why orders of his are suspended now."""

    id: int
    state: str
    created_at: datetime
    account_id: int
    facts: NewCustomer
    suspended: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FurtherAccount:
    """Another account of a customer to be. Empty, or None: as his first one has it."""

    number: str
    kind: str = ""
    currency: str = ""
    zone: str = ""
    legal_entity: str = ""
    due_days: int | None = None


@dataclass(frozen=True, slots=True)
class BilledAccount:
    """An account of a customer. payer: the number of the account that gets the invoices. suspended: why orders of it
    are suspended now."""

    id: int
    number: str
    currency: str
    kind: str
    state: str
    balance_minor: int
    payer_id: int
    payer: str
    zone: str
    legal_entity: str
    due_days: int
    suspended: Sequence[str]


@dataclass(frozen=True, slots=True)
class LegalEntity:
    """Who sells; prefixes: of the numbers of invoices and of credit notes."""

    number: str
    name: str
    details: Mapping[str, str]
    prefixes: Mapping[str, str]


LOCK_TREE: Final = "SELECT pg_advisory_xact_lock(hashtextextended('kopeck customers', 0))"

#: Reasons for which orders in force are suspended at this moment; {whose}: of which accounts.
_SUSPENDED: Final = """coalesce((
        SELECT array_agg(DISTINCT s.reason ORDER BY s.reason)
        FROM billing_accounts w JOIN orders o ON o.account_id = w.account_id
        JOIN order_suspensions s ON s.order_id = o.id
        WHERE {whose} AND o.settled_at IS NULL AND o.starts_at <= now() AND coalesce(o.ends_at > now(), true)
          AND s.from_at <= now() AND coalesce(s.until_at > now(), true)), '{{}}')"""

_FIND: Final = f"""
    SELECT c.id, c.state, c.created_at, b.account_id, {_SUSPENDED.format(whose="w.customer_id = c.id")},
           c.number, c.name, c.customer_group, coalesce(p.number, ''),
           b.payer_account_id <> b.account_id, c.language, c.contacts, c.details, a.number, a.kind, a.currency, b.zone,
           e.number, b.due_days
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
    SELECT a.id, a.number, a.currency, a.kind, a.state, a.balance_minor, b.payer_account_id, p.number, b.zone, e.number,
           b.due_days, {_SUSPENDED.format(whose="w.account_id = b.account_id")}
    FROM billing_accounts b
    JOIN accounts a ON a.id = b.account_id
    JOIN accounts p ON p.id = b.payer_account_id
    JOIN legal_entities e ON e.id = b.legal_entity_id
    WHERE b.customer_id = %s ORDER BY a.id
"""

_TAKEN: Final = """
    SELECT a.id, a.kind, a.currency, a.state, k.is_system, c.number
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

#: The account of a parent that would pay: the first in the currency. pays: for itself, as who pays for others must.
_PAYER: Final = """
    SELECT b.account_id, b.payer_account_id = b.account_id
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
                SELECT min(started_at) FROM bill_runs WHERE state IN ('running', 'reviewed', 'approving')))),
           (SELECT count(*) FROM manual_lines l JOIN billing_accounts b USING (account_id)
            WHERE b.customer_id = %(id)s AND (l.invoice_id IS NULL OR EXISTS (
                SELECT FROM invoice_blocks k WHERE k.id = l.invoice_id >> 20 AND k.state = 'draft'))),
           (SELECT count(*) FROM billing_accounts b JOIN invoices i USING (account_id)
            JOIN invoice_blocks k ON k.id = i.id >> 20 WHERE b.customer_id = %(id)s AND k.state = 'draft'),
           (SELECT count(*) FROM customers WHERE parent_id = %(id)s AND state = 'active'),
           (SELECT count(*) FROM accounts a JOIN billing_accounts b ON b.account_id = a.id
            WHERE b.customer_id = %(id)s AND a.balance_minor <> 0)
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

_ENTITIES: Final = """
    SELECT e.number, e.name, e.details, jsonb_object_agg(s.kind, s.prefix)
    FROM legal_entities e JOIN invoice_series s ON s.legal_entity_id = e.id
    GROUP BY e.id ORDER BY e.id
"""

_SET_ENTITY: Final = """
    INSERT INTO legal_entities (number, name, details) VALUES (%(number)s, %(name)s, %(details)s::jsonb)
    ON CONFLICT (number) DO UPDATE SET name = excluded.name, details = excluded.details
    RETURNING id
"""

#: A prefix is part of every number of its series, so it stays once a number was given.
_SET_SERIES: Final = """
    INSERT INTO invoice_series AS s (legal_entity_id, kind, prefix) VALUES (%s, %s, %s)
    ON CONFLICT (legal_entity_id, kind) DO UPDATE SET prefix = excluded.prefix
    WHERE s.next_number = 1 OR s.prefix = excluded.prefix
    RETURNING id
"""

_PREFIX_TAKEN: Final = """
    SELECT e.number, s.prefix FROM invoice_series s JOIN legal_entities e ON e.id = s.legal_entity_id
    WHERE s.prefix = ANY(%(prefixes)s::text[]) AND e.number <> %(number)s LIMIT 1
"""


def problem_with_customer(new: NewCustomer) -> str | None:
    """What is wrong with a customer to add, as a sentence, or None."""
    if not _NUMBER.fullmatch(new.number):
        return f"customer number {new.number[:40]!r} must be 1 to 64 letters, digits or ._@+-"
    account = NewAccount(new.account or new.number, new.kind, new.currency, new.name)
    return problem_with(account) or problem_with_facts(new)


def problem_with_facts(new: NewCustomer) -> str | None:
    """What is wrong with all of it but the numbers and the account."""
    if not _GROUP.fullmatch(new.group):
        return f"group {new.group[:40]!r} must be letters, digits or _.:- and at most 64"
    if new.language not in LANGUAGES:
        return f"language {new.language[:40]!r} must be one of: {', '.join(LANGUAGES)}"
    if len(new.name) > NAME_MAX or not new.name.isprintable():
        return f"name must be printable and at most {NAME_MAX} characters"
    if new.parent_pays and not new.parent:
        return "there is no parent who could pay"
    if new.parent == new.number:
        return "a customer cannot be his own parent"
    if not 0 <= new.due_days <= MAX_DUE_DAYS:
        return f"due days must be 0 to {MAX_DUE_DAYS}"
    problem = _problem_with_texts(CONTACTS, new.contacts) or _problem_with_texts(DETAILS, new.details)
    return problem or _problem_with_zone(new.zone)


def _problem_with_texts(known: Sequence[str], texts: Mapping[str, str]) -> str | None:
    for name, text in texts.items():
        if name not in known:
            return f"{name[:40]!r} is none of: {', '.join(known)}"
        if len(text) > MAX_TEXT or not text.isprintable():
            return f"{name} must be printable and at most {MAX_TEXT} characters"
    return None


def _problem_with_zone(zone: str) -> str | None:
    try:
        zone_of(zone)
    except ValueError as error:
        if "file of this host" in str(error):
            return f"zone: {error}"
        return f"zone {zone[:40]!r} is no IANA time zone, such as Europe/Moscow"
    return None


async def lock_tree(cur: Any) -> None:
    """Make others who would change who is whose child, or who pays, wait until the transaction ends."""
    await cur.execute(LOCK_TREE)


async def add_customer(cur: Any, new: NewCustomer) -> bool:
    """Add a customer with his account; False where the very same one is there already.

    Raises:
        CustomerError: a rule is broken; roll back.
    """
    new = replace(new, account=new.account or new.number)
    problem = problem_with_customer(new)
    if problem:
        raise CustomerError(problem)
    await lock_tree(cur)
    known = await customer_by_number(cur, new.number)
    if known is not None:
        if known.facts != new:
            raise CustomerError(
                f"there is a customer {new.number} already, and he is not the same: {_differs(known, new)}"
            )
        return False
    if new.parent:
        _refuse_closed(await find_customer(cur, new.parent))
    account_id = await _account_for(cur, new)
    payer_id = await _payer_of(cur, new.parent, new.currency) if new.parent_pays else account_id
    await cur.execute(_ADD, _columns(new))
    row = await cur.fetchone()
    await _bill(cur, new, row[0], account_id, payer_id)
    return True


async def _bill(cur: Any, new: NewCustomer, customer_id: int, account_id: int, payer_id: int) -> None:
    values = {"customer_id": customer_id, "account_id": account_id, "payer_id": payer_id}
    problem = await problem_with_zone(cur, new.zone)
    if problem:
        raise CustomerError(problem)
    await cur.execute(_BILL, _columns(new) | values)
    if await cur.fetchone() is None:
        raise CustomerError(f"there is no legal entity {new.legal_entity[:40]!r}")


async def add_account(cur: Any, number: str, further: FurtherAccount) -> bool:
    """Give a customer another account, paid for as his others are; False where he has the very same one already.

    Raises:
        CustomerError: a rule is broken; roll back.
    """
    await lock_tree(cur)
    known = await _to_change(cur, number)
    named = {name: value for name, value in asdict(further).items() if name != "number" and value not in ("", None)}
    new = replace(known.facts, account=further.number, **named)
    problem = problem_with_customer(new)
    if not further.number or problem:
        raise CustomerError(problem or "the account needs a number of its own")
    for one in await accounts_of(cur, known.id):
        if one.number == further.number:
            others = [name for name, value in named.items() if getattr(one, name) != value]
            if others:
                raise CustomerError(f"{number} has an account {one.number} already, with other {', '.join(others)}")
            return False
    account_id = await _account_for(cur, new)
    if account_id < known.account_id:
        why = f"older than {known.facts.account}, which stands for {number} as his first"
        raise CustomerError(f"account {further.number} is {why}: open a new one")
    payer_id = await _payer_of(cur, known.facts.parent, new.currency) if known.facts.parent_pays else account_id
    await _bill(cur, new, known.id, account_id, payer_id)
    return True


def _columns(new: NewCustomer) -> dict[str, Any]:
    texts = {name: json.dumps(dict(getattr(new, name)), ensure_ascii=False) for name in ("contacts", "details")}
    names = ("number", "name", "group", "parent", "language", "zone", "legal_entity", "due_days")
    return {name: getattr(new, name) for name in names} | texts


def _differs(known: Customer, new: NewCustomer) -> str:
    names = [name for name in NewCustomer.__slots__ if getattr(known.facts, name) != getattr(new, name)]
    return f"other {', '.join(names)}"


async def _account_for(cur: Any, new: NewCustomer) -> int:
    """The account of a new customer: opened now, or one that is there and is nobody's."""
    await create_accounts(cur, [NewAccount(new.account, new.kind, new.currency, new.name)])
    await cur.execute(_TAKEN, (new.account,))
    account_id, kind, currency, state, is_system, owner = await cur.fetchone()
    if is_system:
        raise CustomerError(f"account {new.account} is a system account")
    if owner is not None:
        raise CustomerError(f"account {new.account} belongs to customer {owner}")
    if state == "closed":
        raise CustomerError(f"account {new.account} is closed")
    if (kind, currency) != (new.kind, new.currency):
        raise CustomerError(f"account {new.account} is there already and is a {kind} account in {currency}")
    return int(account_id)


async def _payer_of(cur: Any, parent: str, currency: str) -> int:
    await cur.execute(_PAYER, {"parent": parent, "currency": currency})
    row = await cur.fetchone()
    if row is None:
        raise CustomerError(f"parent {parent} has no account in {currency}, so he cannot pay")
    if not row[1]:
        raise CustomerError(f"parent {parent} does not pay for himself, so he cannot pay for others")
    return int(row[0])


async def customer_by_number(cur: Any, number: str) -> Customer | None:
    """The customer with this number, or None."""
    found = await list_customers(cur, number=number, limit=1)
    return found[0] if found else None


async def find_customer(cur: Any, number: str) -> Customer:
    """The customer with this number. Raises CustomerError where there is none."""
    found = await customer_by_number(cur, number)
    if found is None:
        raise CustomerError(f"there is no customer {number[:40]!r}")
    return found


async def list_customers(
    cur: Any,
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
    rows = await cur.fetchall()
    return [Customer(row[0], row[1], row[2], row[3], NewCustomer(*row[5:]), tuple(row[4])) for row in rows]


async def accounts_of(cur: Any, customer_id: int) -> list[BilledAccount]:
    """Accounts of a customer, the first one first."""
    await cur.execute(_ACCOUNTS, (customer_id,))
    return [BilledAccount(*row) for row in await cur.fetchall()]


async def edit_customer(cur: Any, number: str, changes: Mapping[str, Any]) -> Customer:
    """Change facts of a customer that are not his numbers, account, parent or payer.

    Args:
        changes: fields of NewCustomer; contacts and details are merged, an empty text takes one away. Those of
            accounts (zone, due_days, legal_entity) are changed in all of his.

    Raises:
        CustomerError: no such customer, or a rule is broken.
    """
    known = await _to_change(cur, number)
    merged = {
        name: merge_texts(getattr(known.facts, name), changes[name])
        for name in ("contacts", "details")
        if name in changes
    }
    facts = replace(known.facts, **{**changes, **merged})
    problem = problem_with_facts(facts) or await problem_with_zone(cur, facts.zone)
    if problem:
        raise CustomerError(problem)
    if facts.legal_entity not in {one.number for one in await list_entities(cur)}:
        raise CustomerError(f"there is no legal entity {facts.legal_entity[:40]!r}")
    await cur.execute(_EDIT, _columns(facts))
    billing = {name: changes.get(name) for name in ("zone", "due_days", "legal_entity")}
    await cur.execute(_EDIT_BILLING, billing | {"id": known.id})
    return replace(known, facts=facts)


def merge_texts(known: Mapping[str, str], changes: Mapping[str, str]) -> dict[str, str]:
    """Texts by name with changes; an empty text takes one away."""
    return {name: text for name, text in (dict(known) | dict(changes)).items() if text}


async def lock_customer(cur: Any, number: str) -> None:
    """Make others who would change this customer, or order for him, wait until the transaction ends."""
    await cur.execute(_LOCK, (number,))


async def _to_change(cur: Any, number: str) -> Customer:
    await lock_customer(cur, number)
    known = await find_customer(cur, number)
    _refuse_closed(known)
    return known


def _refuse_closed(known: Customer) -> None:
    if known.state == "closed":
        raise CustomerError(f"customer {known.facts.number} is closed")


async def move_customer(cur: Any, number: str, parent: str, parent_pays: bool, actor: str) -> None:
    """Give a customer another parent, or none (empty), and say who pays from the next invoice on.

    Raises:
        CustomerError: a circle, a payer who does not pay for himself, or no account in the currency; roll back.
    """
    await lock_tree(cur)
    known = await _to_change(cur, number)
    problem = problem_with_facts(replace(known.facts, parent=parent, parent_pays=parent_pays))
    if problem:
        raise CustomerError(problem)
    if parent:
        _refuse_closed(await find_customer(cur, parent))
        await cur.execute(_ABOVE, {"number": parent})
        if number in {row[0] for row in await cur.fetchall()}:
            raise CustomerError(f"{parent} stands below {number}: they would be each other's parents")
    if parent_pays:
        await cur.execute(_PAID_FOR, {"id": known.id})
        paid_for = (await cur.fetchone())[0]
        if paid_for:
            raise CustomerError(f"{number} pays for {paid_for} other accounts, so he must pay for himself")
    await cur.execute(_MOVE, {"id": known.id, "parent": parent})
    moves = []
    for account in await accounts_of(cur, known.id):
        payer_id = await _payer_of(cur, parent, account.currency) if parent_pays else account.id
        if payer_id != account.payer_id:
            moves.append((account, payer_id))
    payers = sorted({one for account, payer_id in moves for one in (account.payer_id, payer_id)})
    await wait_for_billing(cur, payers)
    await lock_accounts(cur, payers)
    for account, payer_id in moves:
        details = json.dumps({"from": account.payer, "parent": parent})
        values = {"account_id": account.id, "payer_id": payer_id, "details": details, "actor": actor}
        await cur.execute(_MOVE_PAYER, values)
        await stand_as_payer(cur, account.id, payer_id, actor)


async def close_customer(cur: Any, number: str) -> bool:
    """Close a customer and his accounts for good; False where he is closed already.

    Raises:
        CustomerError: something is left to do for him; it says what.
    """
    await lock_tree(cur)
    await lock_customer(cur, number)
    known = await find_customer(cur, number)
    if known.state == "closed":
        return False
    await cur.execute(_LEFT_TO_DO, {"id": known.id})
    counts = await cur.fetchone()
    words = (
        f"orders that are not billed to their end{await _advice(cur, known.id) if counts[0] else ''}",
        "manual lines not billed",
        "invoice drafts (`kopeck bill approve` posts them, `kopeck bill void-review` deletes them)",
        "active children",
        "balances not zero",
    )
    left = [f"{count} {word}" for count, word in zip(counts, words, strict=True) if count]
    if left:
        raise CustomerError(f"customer {number} cannot be closed yet: {', '.join(left)}")
    await cur.execute(_CLOSE, {"id": known.id})
    return True


async def _advice(cur: Any, customer_id: int) -> str:
    """What to do about the first order that is left, in parentheses."""
    await cur.execute(_FIRST_LEFT, {"id": customer_id})
    row = await cur.fetchone()
    if row is None:
        return " (a billing run under way has yet to end)"
    order, goes_on = row
    if goes_on:
        return f" ({order} goes on: `kopeck order cancel {shlex.quote(order)} --now` ends it)"
    return f" ({order} has ended: the next billing run bills it)"


# ---- what the audit record says


async def recordable(cur: Any, number: str) -> dict[str, Any]:
    """Everything of a customer that can change, by name, and of each of his accounts; empty where there is none."""
    known = await customer_by_number(cur, number)
    if known is None:
        return {}
    found = {name: getattr(known.facts, name) for name in ("name", "group", "parent", "language")}
    found |= {"state": known.state, **known.facts.contacts, **known.facts.details}
    for one in await accounts_of(cur, known.id):
        facts = ("currency", "kind", "state", "payer", "zone", "legal_entity", "due_days")
        found |= {f"account {one.number}: {name}": getattr(one, name) for name in facts}
    return found


def changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """What differs, as [from what, to what] by name. Pure; what was not there was an empty text.

    >>> changed({"name": "Ann", "group": ""}, {"name": "Anna", "group": "", "email": "a@example.ru"})
    {'email': ['', 'a@example.ru'], 'name': ['Ann', 'Anna']}
    """
    pairs = {name: [before.get(name, ""), after.get(name, "")] for name in sorted({*before, *after})}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


# ---- legal entities


async def list_entities(cur: Any) -> list[LegalEntity]:
    """Who sells, the first one first."""
    await cur.execute(_ENTITIES)
    return [LegalEntity(*row) for row in await cur.fetchall()]


async def set_entity(cur: Any, entity: LegalEntity) -> None:
    """Make a legal entity or change one; prefixes it does not name stay, and a new one needs both.

    Raises:
        CustomerError: a rule is broken; roll back.
    """
    known = {one.number: one for one in await list_entities(cur)}
    if not re.fullmatch(r"[0-9A-Za-z._-]{1,30}", entity.number, re.ASCII):
        raise CustomerError(f"legal entity {entity.number[:40]!r} must be 1 to 30 letters, digits or ._-")
    problem = _problem_with_texts(ENTITY_DETAILS, entity.details)
    if problem or not entity.name:
        raise CustomerError(problem or "a legal entity needs a name")
    missing = {"invoice", "credit_note"} - set(entity.prefixes)
    if missing and entity.number not in known:
        raise CustomerError("a new legal entity needs a prefix for its invoices and one for its credit notes")
    if any(len(prefix) > 20 or not prefix.isprintable() for prefix in entity.prefixes.values()):
        raise CustomerError("a prefix must be printable and at most 20 characters")
    if len(set(entity.prefixes.values())) < len(entity.prefixes):
        raise CustomerError("invoices and credit notes need prefixes of their own")
    await cur.execute(_PREFIX_TAKEN, {"prefixes": list(entity.prefixes.values()), "number": entity.number})
    taken = await cur.fetchone()
    if taken:
        raise CustomerError(f"prefix {taken[1]!r} is that of legal entity {taken[0]} already")
    details = json.dumps(dict(entity.details), ensure_ascii=False)
    await cur.execute(_SET_ENTITY, {"number": entity.number, "name": entity.name, "details": details})
    entity_id = (await cur.fetchone())[0]
    for kind, prefix in entity.prefixes.items():
        await cur.execute(_SET_SERIES, (entity_id, kind, prefix))
        if await cur.fetchone() is None:
            raise CustomerError(f"numbers were given in the series of {kind}s already, so its prefix stays")
