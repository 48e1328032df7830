"""Changes of customers: adding, editing, moving, closing. Accounts, parents and payers with them.

Rules. A customer comes with an account and its billing record in one transaction; an account that exists and has no
customer becomes the new one's. The account opened first stands for the customer; further ones have its payer. A number
acts once: the same customer again is nothing new, another under the same number is refused. Parents form a tree of any
depth. Payers do not chain: a payer pays its own invoices, in the same currency. Another payer gets future invoices:
unsettled orders and open manual lines move, invoices stay where they are. A change of payers waits for the shard of a
bill run that is at work on either payer: it reads orders and what belongs to them in several statements.

A customer is closed when nothing is left to do for it: orders settled, no drafts, no open lines, balance zero, no
children. Migration 0009 holds accounts to the first three, whatever closes them.

What a change did is told by ``changed(before, after)`` of ``recordable``, for the audit record.

Does not know: what orders say, prices. Functions take the caller's aiopg cursor.
"""

import shlex
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from billing.customers.legal_entities_store import list_entities
from billing.customers.records import Customer, FurtherAccount, NewCustomer
from billing.customers.rules import (
    CustomerError,
    merge_texts,
    problem_with_customer,
    problem_with_facts,
    refuse_closed,
    what_differs,
)
from billing.customers.store import (
    account_in_use,
    accounts_of,
    close,
    count_paid_for,
    customer_by_number,
    find_customer,
    first_order_left,
    insert_billing,
    insert_customer,
    left_to_do,
    lock_customer,
    move_payer,
    numbers_above,
    parent_account,
    set_parent,
    update_customer,
)
from billing.database.cursors import Cursor
from billing.database.locks import hold_customer_tree, wait_for_billing
from billing.database.zones import problem_with_zone
from billing.invoicing.dunning import lock_accounts, stand_as_payer
from billing.ledger.accounts import NewAccount, create_accounts


async def add_customer(cur: Cursor, new: NewCustomer) -> bool:
    """Add a customer with its account; False if the very same one is there already.

    Raises:
        CustomerError: a rule is broken; roll back.
    """
    new = replace(new, account=new.account or new.number)
    problem = problem_with_customer(new)
    if problem:
        raise CustomerError(problem)
    await hold_customer_tree(cur)
    known = await customer_by_number(cur, new.number)
    if known is not None:
        if known.facts != new:
            what = what_differs(known, new)
            raise CustomerError(f"there is a customer {new.number} already, and it is not the same: {what}")
        return False
    if new.parent:
        refuse_closed(await find_customer(cur, new.parent))
    account_id = await _account_for(cur, new)
    payer_id = await _payer_of(cur, new.parent, new.currency) if new.parent_pays else account_id
    await _bill(cur, new, await insert_customer(cur, new), account_id, payer_id)
    return True


async def _bill(cur: Cursor, new: NewCustomer, customer_id: int, account_id: int, payer_id: int) -> None:
    problem = await problem_with_zone(cur, new.zone)
    if problem:
        raise CustomerError(problem)
    if not await insert_billing(cur, new, customer_id, account_id, payer_id):
        raise CustomerError(f"there is no legal entity {new.legal_entity[:40]!r}")


async def add_account(cur: Cursor, number: str, further: FurtherAccount) -> bool:
    """Give a customer another account with the payer of its others; False if it has the very same one already.

    Raises:
        CustomerError: a rule is broken; roll back.
    """
    await hold_customer_tree(cur)
    known = await _to_change(cur, number)
    named = {name: value for name, value in asdict(further).items() if name != "number" and value not in ("", None)}
    new = replace(known.facts, account=further.number, **named)
    problem = problem_with_customer(new)
    if not further.number or problem:
        raise CustomerError(problem or "the account needs a number of its own")
    for account in await accounts_of(cur, known.id):
        if account.number == further.number:
            others = [name for name, value in named.items() if getattr(account, name) != value]
            if others:
                raise CustomerError(f"{number} has an account {account.number} already, with other {', '.join(others)}")
            return False
    account_id = await _account_for(cur, new)
    if account_id < known.account_id:
        why = f"older than {known.facts.account}, which stands for {number} as its first"
        raise CustomerError(f"account {further.number} is {why}: open a new one")
    payer_id = await _payer_of(cur, known.facts.parent, new.currency) if known.facts.parent_pays else account_id
    await _bill(cur, new, known.id, account_id, payer_id)
    return True


async def _account_for(cur: Cursor, new: NewCustomer) -> int:
    """The account of a new customer: opened now, or one that exists and has no customer."""
    await create_accounts(cur, [NewAccount(new.account, new.kind, new.currency, new.name)])
    account = await account_in_use(cur, new.account)
    if account.is_system:
        raise CustomerError(f"account {new.account} is a system account")
    if account.owner is not None:
        raise CustomerError(f"account {new.account} belongs to customer {account.owner}")
    if account.state == "closed":
        raise CustomerError(f"account {new.account} is closed")
    if (account.kind, account.currency) != (new.kind, new.currency):
        what = f"a {account.kind} account in {account.currency}"
        raise CustomerError(f"account {new.account} is there already and is {what}")
    return account.id


async def _payer_of(cur: Cursor, parent: str, currency: str) -> int:
    payer = await parent_account(cur, parent, currency)
    if payer is None:
        raise CustomerError(f"parent {parent} has no account in {currency}, so it cannot pay")
    if not payer.pays_itself:
        raise CustomerError(f"parent {parent} does not pay for itself, so it cannot pay for others")
    return payer.account_id


async def edit_customer(cur: Cursor, number: str, changes: Mapping[str, Any]) -> Customer:
    """Change facts of a customer that are not its numbers, account, parent or payer.

    Args:
        changes: fields of NewCustomer; contacts and details are merged, an empty text takes one away. Those of
            accounts (zone, due_days, legal_entity) are changed in all of its accounts.

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
    if facts.legal_entity not in {entity.number for entity in await list_entities(cur)}:
        raise CustomerError(f"there is no legal entity {facts.legal_entity[:40]!r}")
    billing = {name: changes.get(name) for name in ("zone", "due_days", "legal_entity")}
    await update_customer(cur, known.id, facts, billing)
    return replace(known, facts=facts)


async def _to_change(cur: Cursor, number: str) -> Customer:
    await lock_customer(cur, number)
    known = await find_customer(cur, number)
    refuse_closed(known)
    return known


async def move_customer(cur: Cursor, number: str, parent: str, parent_pays: bool, actor: str) -> None:
    """Give a customer another parent, or none (empty), and say who pays from the next invoice on.

    Raises:
        CustomerError: a circle, a payer that does not pay for itself, or no account in the currency; roll back.
    """
    await hold_customer_tree(cur)
    known = await _to_change(cur, number)
    problem = problem_with_facts(replace(known.facts, parent=parent, parent_pays=parent_pays))
    if problem:
        raise CustomerError(problem)
    if parent:
        refuse_closed(await find_customer(cur, parent))
        if number in await numbers_above(cur, parent):
            raise CustomerError(f"{parent} stands below {number}: they would be each other's parents")
    if parent_pays:
        paid_for = await count_paid_for(cur, known.id)
        if paid_for:
            raise CustomerError(f"{number} pays for {paid_for} other accounts, so it must pay for itself")
    await set_parent(cur, known.id, parent)
    moves = []
    for account in await accounts_of(cur, known.id):
        payer_id = await _payer_of(cur, parent, account.currency) if parent_pays else account.id
        if payer_id != account.payer_id:
            moves.append((account, payer_id))
    payers = sorted({payer for account, payer_id in moves for payer in (account.payer_id, payer_id)})
    await wait_for_billing(cur, payers)
    await lock_accounts(cur, payers)
    for account, payer_id in moves:
        await move_payer(cur, account, payer_id, parent, actor)
        await stand_as_payer(cur, account.id, payer_id, actor)


async def close_customer(cur: Cursor, number: str) -> bool:
    """Close a customer and its accounts for good; False if it is closed already.

    Raises:
        CustomerError: something is left to do for it; the sentence says what.
    """
    await hold_customer_tree(cur)
    await lock_customer(cur, number)
    known = await find_customer(cur, number)
    if known.state == "closed":
        return False
    left = await left_to_do(cur, known.id)
    drafts = "invoice drafts (`kopeck bill approve` posts them, `kopeck bill void-review` deletes them)"
    counts = (
        (left.orders, f"orders that are not billed to their end{await _advice(cur, known.id) if left.orders else ''}"),
        (left.manual_lines, "manual lines not billed"),
        (left.drafts, drafts),
        (left.children, "active children"),
        (left.balances, "balances not zero"),
    )
    words = [f"{count} {what}" for count, what in counts if count]
    if words:
        raise CustomerError(f"customer {number} cannot be closed yet: {', '.join(words)}")
    await close(cur, known.id)
    return True


async def _advice(cur: Cursor, customer_id: int) -> str:
    """What to do about the first order that is left, in parentheses."""
    left = await first_order_left(cur, customer_id)
    if left is None:
        return " (a billing run under way has yet to end)"
    order, goes_on = left
    if goes_on:
        return f" ({order} goes on: `kopeck order cancel {shlex.quote(order)} --now` ends it)"
    return f" ({order} has ended: the next billing run bills it)"


async def recordable(cur: Cursor, number: str) -> dict[str, Any]:
    """Everything of a customer that can change, by name, and of each of its accounts; empty if there is none."""
    known = await customer_by_number(cur, number)
    if known is None:
        return {}
    values = {name: getattr(known.facts, name) for name in ("name", "group", "parent", "language")}
    values |= {"state": known.state, **known.facts.contacts, **known.facts.details}
    for account in await accounts_of(cur, known.id):
        facts = ("currency", "kind", "state", "payer", "zone", "legal_entity", "due_days")
        values |= {f"account {account.number}: {name}": getattr(account, name) for name in facts}
    return values
