"""Changes of orders: adding, ending, replacing, pausing. What a customer ordered, until it is billed to its end.

Rules. An order never changes but for its end: another plan or quantity is another order that replaces it from an
instant on. A number acts once: the same order again is nothing new, another under the same number is refused. What is
billed stays: an end, a pause or its end may not lie before what of the order was billed in arrears or adjusted; before
that only a credit note helps, or after an adjustment a charge by hand. Within a period billed in advance they lead to
an adjustment by the next run. What is done to an order is done to the orders that are to replace it as well. Every step
is an order_events row in the same transaction, with its actor.

Changing an order takes a share lock on the running shard of its payer, so it sees what that shard billed. A shard that
starts later waits for the change, which takes milliseconds (billing.database.locks).

Does not know: files, what things cost. Functions take the caller's aiopg cursor.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

from billing.catalogue.model import Catalogue
from billing.database.cursors import Cursor
from billing.database.zones import problem_with_zone
from billing.orders.passing_store import passing_usage
from billing.orders.periods import format_instant
from billing.orders.reading import problem_with_order, read_order
from billing.orders.records import NewOrder, Order, OrderingAccount, WantedOrder
from billing.orders.rules import OrderError
from billing.orders.store import (
    billed_until,
    end_suspension,
    find_order,
    free_number,
    insert_order,
    insert_suspension,
    lock_orders,
    newest_catalogue,
    note_event,
    order_by_number,
    ordering_account,
    set_end,
    suspensions_of,
    take_back,
)

# ---- adding


async def add_order(cur: Cursor, wanted: WantedOrder, actor: str, now_s: int | None = None) -> tuple[Order, bool]:
    """Add an order; False if the very same one is there already.

    Without a number it gets one from its account's, and a repeat would be another order.

    Args:
        now_s: an order that names no start begins with this instant's day.

    Raises:
        OrderError: a rule is broken; roll back.
    """
    account = await ordering_account(cur, wanted.account)
    catalogue = await newest_catalogue(cur, wanted.catalogue)
    number = wanted.number or await free_number(cur, wanted.account, account.account_id)
    new = read_order(replace(wanted, number=number), account, catalogue.name, now_s)
    known = await order_by_number(cur, number)
    if known is not None:
        if not _is_same(known, account, new):
            raise OrderError(f"there is an order {number} already, and it is not the same")
        return known, False
    unknown = await problem_with_zone(cur, new.terms.zone)
    if unknown:
        raise OrderError(f"zone: {unknown}")
    await _insert(cur, new, catalogue, account, actor)
    return await find_order(cur, number), True


def _is_same(known: Order, account: OrderingAccount, new: NewOrder) -> bool:
    """Its end and its note may have changed since."""
    same = replace(known.contents, ends_s=new.ends_s, note=new.note)
    return known.account_id == account.account_id and same == new


async def _insert(
    cur: Cursor,
    new: NewOrder,
    catalogue: Catalogue,
    account: OrderingAccount,
    actor: str,
    replaces: Order | None = None,
) -> None:
    problem = problem_with_order(new, catalogue, account)
    if problem:
        raise OrderError(problem)
    order_id = await insert_order(cur, new, account, replaces.id if replaces else None)
    if order_id is None:
        raise OrderError(f"there is an order {new.number} already")
    details = {"quantity": new.quantity, "what": new.terms.what} | ({"replaces": replaces.number} if replaces else {})
    await note_event(cur, order_id, "created", details, actor)


# ---- changing


async def _to_change(cur: Cursor, number: str) -> list[Order]:
    """An order and those that are to replace it, locked while no run bills them.

    Raises:
        OrderError: there is no such order, or it is billed to its end.
    """
    orders = await lock_orders(cur, number)
    if orders[0].is_settled:
        _refuse_settled(orders[0])
    return orders


def _refuse_settled(order: Order) -> NoReturn:
    if order.never_begins:
        raise OrderError(f"order {order.number} is taken back for good: add another")
    raise OrderError(f"order {order.number} is billed to its end; nothing of it can change")


async def _guard(cur: Cursor, order: Order, at_s: int, what: str) -> None:
    """Refuse to change what is billed for good."""
    billed = await billed_until(cur, order.id)
    if billed.until_s is not None and at_s < billed.until_s:
        until = format_instant(billed.until_s, order.contents.terms.zone)
        # What was adjusted has its share on two invoices: the difference is a line by hand, up or down.
        is_adjusted = billed.adjusted_until_s is not None and at_s < billed.adjusted_until_s
        way = "is put right by `kopeck order charge`" if is_adjusted else "needs a credit note instead"
        raise OrderError(f"order {order.number} is billed until {until}: {what} earlier {way}")


async def end_order(cur: Cursor, number: str, at_s: int, actor: str, why: str = "", *, is_exact: bool = False) -> bool:
    """End an order, and let nothing replace it any more; False if it ends by then already.

    Args:
        at_s: when; before its start it never begins. is_exact: move an earlier end to then as well.

    Raises:
        OrderError: it is billed beyond that instant, or replaced by then; roll back.
    """
    order, *later = await lock_orders(cur, number)
    new = order.contents
    if order.is_settled:
        if is_exact or order.covers(at_s):
            _refuse_settled(order)
        return False
    if new.terms.kind == "one_time":
        return await _end_once(cur, order, actor, why)
    at_s = max(at_s, new.starts_s)
    if new.ends_s == at_s or (new.ends_s is not None and new.ends_s < at_s and not (is_exact or later)):
        return False
    if later and new.ends_s is not None and new.ends_s < at_s:
        raise OrderError(f"order {number} is replaced by {order.replaced_by} by then: cancel that one")
    await _guard(cur, order, at_s if new.ends_s is None else min(at_s, new.ends_s), "an end")
    await _set_end(cur, order, at_s, actor, why)
    for successor in later:
        if not successor.never_begins:
            await _guard(cur, successor, successor.contents.starts_s, "an end")
            await _set_end(cur, successor, successor.contents.starts_s, actor, why)
    return True


async def _refuse_passing(cur: Cursor, order: Order, at_s: int | None) -> None:
    """Refuse to move an end to ``at_s`` if usage would pass to, or from, an order that is billed for that time."""
    ends_s, zone = order.contents.ends_s, order.contents.terms.zone
    if ends_s == at_s:
        return
    is_earlier = at_s is not None and (ends_s is None or at_s < ends_s)
    low, high = (at_s, ends_s) if is_earlier else (ends_s, at_s)
    assert low is not None  # one of two that differ
    passing = await passing_usage(cur, order.id, low, high)
    if passing is None:
        return
    first, until = (format_instant(int(at.timestamp()), zone) for at in (passing.first_at, passing.until_at))
    usage = f"{passing.events} events from {first} on"
    other = f"order {passing.order}, which is billed until {until}"
    if is_earlier:
        raise OrderError(
            f"order {order.number}: an end then gives {usage} to {other} without them; end it on {until}, or credit "
            f"and charge by hand (`kopeck order charge`)"
        )
    raise OrderError(
        f"order {order.number}: going on then takes {usage} from {other} with them; add another order instead"
    )


async def _set_end(cur: Cursor, order: Order, at_s: int, actor: str, why: str) -> None:
    await _refuse_passing(cur, order, at_s)
    await set_end(cur, order.id, at_s)
    await note_event(cur, order.id, "ended", {"at": format_instant(at_s, order.contents.terms.zone), "why": why}, actor)


async def _end_once(cur: Cursor, order: Order, actor: str, why: str) -> bool:
    if (await billed_until(cur, order.id)).once:
        raise OrderError(f"order {order.number} is billed: a credit note takes it back")
    await take_back(cur, order.id)
    await note_event(cur, order.id, "ended", {"why": why}, actor)
    return True


async def withdraw_end(cur: Cursor, number: str, actor: str) -> bool:
    """Let an order that was to end go on; False if no end is set.

    Raises:
        OrderError: it is billed to that end, or something replaces it; roll back.
    """
    order, *later = await _to_change(cur, number)
    ends_s = order.contents.ends_s
    if ends_s is None:
        return False
    if any(successor.covers(0) for successor in later):
        raise OrderError(f"order {number} is replaced by {order.replaced_by}: cancel that one first")
    await _guard(cur, order, ends_s, "going on")
    await _refuse_passing(cur, order, None)
    await set_end(cur, order.id, None)
    await note_event(cur, order.id, "end_withdrawn", {"was": format_instant(ends_s, order.contents.terms.zone)}, actor)
    return True


async def replace_order(
    cur: Cursor,
    number: str,
    at_s: int,
    actor: str,
    *,
    plan: str = "",
    quantity: int = 0,
    new_number: str = "",
    codes: Sequence[str] = (),
    is_exact: bool = False,
) -> tuple[Order, bool]:
    """Let another plan or another quantity begin where an order ends; False if just that was done already.

    Args:
        at_s: when; before the order's start it is its start. codes: of promotions, besides those it has.
        is_exact: a change that was made already must have been made for this instant.

    Raises:
        OrderError: a rule is broken; roll back.
    """
    account = await ordering_account(cur, (await find_order(cur, number)).account)  # customers are locked before orders
    order, *later = await _to_change(cur, number)
    old = order.contents
    wanted = replace(old.terms, plan=plan) if plan else old.terms
    at_s = max(at_s, old.starts_s)
    if later:
        successor = later[0]
        from_s = successor.contents.starts_s
        is_same = (successor.contents.terms, successor.contents.quantity) == (wanted, quantity or old.quantity)
        if is_same and not (is_exact and from_s != at_s):
            return successor, False
        why = f"order {number} is replaced by {successor.number} already, from {format_instant(from_s, old.terms.zone)}"
        raise OrderError(f"{why}: {'cancel' if is_same else 'change'} that one")
    await _refuse_change(cur, order, at_s, plan)
    new = replace(
        old,
        number=new_number or await free_number(cur, order.account, order.account_id),
        terms=wanted,
        quantity=quantity or old.quantity,
        starts_s=at_s,
        trial_until_s=old.trial_until_s if old.trial_until_s is not None and old.trial_until_s > at_s else None,
        codes=tuple(dict.fromkeys([*old.codes, *codes])),
    )
    if (new.terms, new.quantity) == (old.terms, old.quantity):
        raise OrderError(f"order {number} is just that already")
    await _insert(cur, new, await newest_catalogue(cur, old.terms.catalogue), account, actor, order)
    await _refuse_passing(cur, order, at_s)
    await set_end(cur, order.id, at_s)
    await note_event(cur, order.id, "replaced", {"at": format_instant(at_s, old.terms.zone), "by": new.number}, actor)
    return await find_order(cur, new.number), True


async def _refuse_change(cur: Cursor, order: Order, at_s: int, plan: str) -> None:
    old = order.contents
    if old.terms.kind == "one_time":
        raise OrderError(f"order {order.number} is a one_time order: cancel it and add another")
    if plan and not old.terms.plan:
        raise OrderError(f"order {order.number} is on an item, not on a plan")
    if old.ends_s is not None and old.ends_s <= at_s:
        raise OrderError(f"order {order.number} ends at {format_instant(old.ends_s, old.terms.zone)}")
    if any(pause.until_s is None or pause.until_s > at_s for pause in await suspensions_of(cur, order.id)):
        raise OrderError(f"order {order.number} is suspended then: resume it first")
    await _guard(cur, order, at_s, "a change")


async def suspend_order(cur: Cursor, number: str, from_s: int, until_s: int | None, actor: str, why: str = "") -> bool:
    """Pause an order, and what replaces it meanwhile; False if it pauses just so already.

    Raises:
        OrderError: it is billed beyond that instant, ended, or paused otherwise in that time; roll back.
    """
    orders = await _to_change(cur, number)
    if orders[0].contents.terms.kind == "one_time":
        raise OrderError(f"order {number} is a one_time order: there is nothing to pause")
    if until_s is not None and until_s <= from_s:
        raise OrderError("the suspension ends before it begins")
    living = [
        order for order in orders if order.covers(from_s) and (until_s is None or order.contents.starts_s < until_s)
    ]
    if not living:
        raise OrderError(f"order {number} has ended by then")
    done = [await _suspend(cur, order, from_s, until_s, actor, why) for order in living]
    return any(done)


async def _suspend(cur: Cursor, order: Order, from_s: int, until_s: int | None, actor: str, why: str) -> bool:
    zone, from_s = order.contents.terms.zone, max(from_s, order.contents.starts_s)
    for pause in await suspensions_of(cur, order.id):
        if (pause.until_s is None or pause.until_s > from_s) and (until_s is None or pause.from_s < until_s):
            if pause.reason == "asked" and pause.from_s <= from_s and pause.until_s == until_s:
                return False
            since, until = format_instant(pause.from_s, zone), ""
            if pause.until_s is not None:
                until = f" until {format_instant(pause.until_s, zone)}"
            raise OrderError(f"order {order.number} is suspended ({pause.reason}) from {since}{until}")
    await _guard(cur, order, from_s, "a suspension")
    await insert_suspension(cur, order.id, from_s, until_s, actor)
    details = {
        "from": format_instant(from_s, zone),
        "until": None if until_s is None else format_instant(until_s, zone),
        "why": why,
    }
    await note_event(cur, order.id, "suspended", details, actor)
    return True


async def resume_order(cur: Cursor, number: str, at_s: int, actor: str) -> bool:
    """End the pauses of an order, and of what replaces it, at an instant; False if it is not paused then.

    A pause that has not begun is taken back.

    Raises:
        OrderError: it pauses for debt, or is billed beyond that instant; roll back.
    """
    changed = False
    for order in await _to_change(cur, number):
        for pause in await suspensions_of(cur, order.id):
            if pause.until_s is not None and pause.until_s <= max(at_s, pause.from_s):
                continue
            if pause.reason == "dunning":
                raise OrderError(f"order {order.number} is suspended for debt: a payment resumes it at once")
            await _guard(cur, order, max(at_s, pause.from_s), "a resumption")
            await end_suspension(cur, pause.id, at_s)
            zone = order.contents.terms.zone
            await note_event(cur, order.id, "resumed", {"at": format_instant(max(at_s, pause.from_s), zone)}, actor)
            changed = True
    return changed
