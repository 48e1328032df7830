"""The kinds of what may wait for a second person: money by hand, a role, a partner's contract.

Rules. A kind demands the right to ask, says whether one person is enough, and does what was approved through the same
function that does it at once. Money is judged again under lock when it is approved, so it needs no version: what was
right when it was asked for and is not any more is refused then (gateway/payments/manual_money.py). A role and a
contract are approved in the version that was asked about.

Does not know: who approves and how often (web/access/approvals.py).
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from billing.database.cursors import Cursor
from billing.language import N_
from billing.ledger.posting_requests import KEY_MAX, Kind, Person, PostingError, RequestState, WantedPosting
from billing.ledger.posting_store import hold_request
from gateway.partners.contracts import list_partners, set_contract
from gateway.partners.records import ContractError, PartnerRow
from gateway.payments import manual_money
from ratingcore.money import Minor
from web.access.actors import Actor
from web.access.approval_store import Approval, Request, by_key
from web.access.approvals import Answer, ApprovalKind, Kinds
from web.access.audit import changed_facts, record_as
from web.access.rights import ALONE, Access, Right
from web.access.roles import (
    StaleError,
    WantedRole,
    add_role,
    change_role,
    checked,
    legal_entities,
    list_roles,
    refuse_what_is_lacked,
    remove_role,
    role_facts,
)

MONEY, ROLE, CONTRACT = "money", "role", "partner_contract"

#: Which right each kind of posting needs.
RIGHT_OF_POSTING: Final[Mapping[Kind, Right]] = MappingProxyType(
    {
        Kind.CASH: Right.MONEY_POST,
        Kind.BANK: Right.MONEY_POST,
        Kind.CORRECTION: Right.MONEY_POST,
        Kind.WRITE_OFF: Right.MONEY_POST,
        Kind.MOVE: Right.MONEY_MOVE,
        Kind.REFUND: Right.MONEY_REFUND,
        Kind.PAYOUT: Right.MONEY_PAY_OUT,
    }
)
assert set(RIGHT_OF_POSTING) == set(Kind)
#: What a posting is asked by, beside its key and reason: fields of WantedPosting, JSON.
POSTING_FIELDS: Final = ("account", "amount", "document", "to_account", "payment_id", "transfer_id", "way", "may_owe")


def approval_kinds(second_above: int) -> Kinds:
    """Every kind. second_above: minor units of money by hand above which an installation wants a second person; a role
    may say less, not more."""
    return MappingProxyType(
        {
            MONEY: ApprovalKind(
                MONEY,
                N_("Money by hand"),
                partial(_ask_money, second_above),
                _post_money,
                _reject_money,
                repeat=partial(_ask_money, second_above),
            ),
            ROLE: ApprovalKind(ROLE, N_("Role"), _ask_role, _change_role, version=_role_version),
            CONTRACT: ApprovalKind(
                CONTRACT, N_("Contract of a partner"), _ask_contract, _set_contract, version=_contract_version
            ),
        }
    )


# ---- money by hand. arguments: {"kind": Kind, and any of POSTING_FIELDS}


async def _ask_money(
    second_above: int, cur: Cursor, arguments: Mapping[str, Any], who: Actor, key: str, why: str, now: datetime
) -> Answer:
    kind = Kind(arguments["kind"])
    right = RIGHT_OF_POSTING[kind]
    who.demand(right)
    given = {name: arguments[name] for name in POSTING_FIELDS if arguments.get(name) is not None}
    wanted = WantedPosting(kind, key[:KEY_MAX], why, **given)
    limit = Minor(min(second_above, who.access.reach(right)))
    outcome = await manual_money.ask(cur, wanted, Person(who.name, who.proof), limit, now)
    request = outcome.request
    told: dict[str, Any] = {"request": request.id, "state": request.state.value}
    if request.state is not RequestState.PENDING:
        if outcome.is_new:
            await _record_posting(cur, who, "posting_posted", request.id, outcome)
        return Answer(None, told, outcome, outcome.is_new)
    if not outcome.is_new:  # it waits, and was asked for in other words
        return Answer(None, told, outcome, is_new=False)
    await _record_posting(cur, who, "posting_requested", request.id, outcome)
    to = f", to {request.to_account or request.way}" if request.to_account or request.way else ""
    waits = Request(
        f"{kind.value.replace('_', '-')}, account {request.account}{to}",
        right,
        Right.MONEY_APPROVE,
        "account",
        request.account,
        changes=_balances(outcome.expected),
        amount=request.amount,
        currency=request.currency,
    )
    return Answer(waits, told, outcome)


async def _post_money(cur: Cursor, approval: Approval, asker: Access, who: Actor, why: str, now: datetime) -> Answer:
    request_id = await _posting_request(cur, approval)
    outcome = await manual_money.approve(cur, request_id, Person(who.name, who.proof), why, now)
    if outcome.is_new:
        await _record_posting(cur, who, "posting_approved", request_id, outcome)
    return Answer(None, {"request": request_id, "posting": outcome.request.posting_id}, outcome)


async def _reject_money(cur: Cursor, approval: Approval, who: Actor, why: str) -> None:
    request_id = await _posting_request(cur, approval)
    request = await manual_money.reject(cur, request_id, Person(who.name, who.proof), why)
    await _record_posting(cur, who, "posting_rejected", request_id, manual_money.PostingOutcome(request, True))


async def approval_of_posting(cur: Cursor, request_id: int) -> Approval:
    """The request for approval of a posting by hand. Raises PostingError where nothing waits or waited."""
    request = await hold_request(cur, request_id)
    if request.state is RequestState.REJECTED:
        raise PostingError(f"request {request_id} was rejected by {request.decided_by}")
    approval = await by_key(cur, MONEY, request.key)
    if approval is None:
        raise PostingError(f"posting request {request_id} was posted at once")
    return approval


async def _posting_request(cur: Cursor, approval: Approval) -> int:
    request = await manual_money.request_with_key(cur, approval.key)
    return request.id


async def _record_posting(
    cur: Cursor, who: Actor, action: str, request_id: int, outcome: manual_money.PostingOutcome
) -> None:
    request = outcome.request
    detail = {"request": request_id, "kind": request.kind.value, "amount_minor": request.amount, "why": request.why}
    detail |= {"to": request.to_account or request.way, "proof": who.proof}
    changes = _balances(outcome.balances)
    await record_as(cur, who, action, "account", request.account, changes, **detail)


def _balances(balances: Iterable[manual_money.Balance]) -> dict[str, tuple[int, int]]:
    return {f"account {one.account}: balance_minor": (one.before, one.after) for one in balances}


# ---- roles. arguments: {"role": id, null to add; "version": int; "remove": bool; and the fields of WantedRole}


def _wanted_role(arguments: Mapping[str, Any]) -> WantedRole:
    return WantedRole(
        arguments["name"], tuple(arguments["rights"]), dict(arguments["limits"]), tuple(arguments["entities"])
    )


async def _ask_role(cur: Cursor, arguments: Mapping[str, Any], who: Actor, key: str, why: str, now: datetime) -> Answer:
    who.demand(Right.ROLES_MANAGE)
    if who.access.reach(Right.ROLES_MANAGE) >= ALONE:
        return await _write_role(cur, arguments, who.access, who, who.name)
    entities = await legal_entities(cur)
    before: dict[str, Any] = {}
    name = arguments.get("name", "")
    if arguments["role"] is not None:
        row = next((row for row in await list_roles(cur) if row.role.id == arguments["role"]), None)
        if row is None or row.version != arguments["version"] or row.role.code is not None:
            raise StaleError(N_("This role was changed meanwhile: look at it again"))
        refuse_what_is_lacked(who.access, row.role.access)
        before, name = role_facts(row.role, entities), row.role.key
    after: dict[str, Any] = {}
    if not arguments.get("remove"):
        role = checked(_wanted_role(arguments), entities)
        refuse_what_is_lacked(who.access, role.access)
        after = role_facts(role, entities)
    verb = "remove" if arguments.get("remove") else "change" if before else "add"
    waits = Request(
        f"{verb} role {name}",
        Right.ROLES_MANAGE,
        Right.ROLES_APPROVE,
        "role",
        name,
        str(arguments["version"] or ""),
        changed_facts(before, after),
    )
    return Answer(waits)


async def _change_role(cur: Cursor, approval: Approval, asker: Access, who: Actor, why: str, now: datetime) -> Answer:
    return await _write_role(cur, approval.arguments, asker, who, approval.asked_by)


async def _write_role(cur: Cursor, arguments: Mapping[str, Any], by: Access, who: Actor, changed_by: str) -> Answer:
    """Add, change or remove a role with what ``by`` may give; ``who`` is on record for it."""
    entities = await legal_entities(cur)
    if arguments["role"] is None:
        added = await add_role(cur, _wanted_role(arguments), by, changed_by)
        changes = changed_facts({}, role_facts(added, entities))
        await record_as(cur, who, "role_added", "role", added.name, changes)
        return Answer(None, {"role": added.id}, added)
    if arguments.get("remove"):
        removed = await remove_role(cur, arguments["role"], arguments["version"], by)
        changes = changed_facts(role_facts(removed, entities), {})
        await record_as(cur, who, "role_removed", "role", removed.name, changes)
        return Answer(None, {}, removed)
    before, after = await change_role(
        cur, arguments["role"], arguments["version"], _wanted_role(arguments), by, changed_by
    )
    changes = changed_facts(role_facts(before, entities), role_facts(after, entities))
    await record_as(cur, who, "role_changed", "role", after.name, changes)
    return Answer(None, {"role": after.id}, after)


async def _role_version(cur: Cursor, approval: Approval) -> str:
    if approval.arguments["role"] is None:
        return ""
    versions = {row.role.id: str(row.version) for row in await list_roles(cur)}
    return versions.get(approval.arguments["role"], "removed")


# ---- a partner's contract. arguments: {"code", "body": the whole contract, "version": the one it was made of}


async def _ask_contract(
    cur: Cursor, arguments: Mapping[str, Any], who: Actor, key: str, why: str, now: datetime
) -> Answer:
    who.demand(Right.PARTNERS_CHANGE)
    if who.access.reach(Right.PARTNERS_CHANGE) >= ALONE:
        return await _write_contract(cur, arguments, who, who.name)
    row = await _partner(cur, arguments)
    waits = Request(
        f"contract of partner {row.code}",
        Right.PARTNERS_CHANGE,
        Right.PARTNERS_APPROVE,
        "partner",
        row.code,
        str(row.version),
        changed_facts(row.body, arguments["body"]),
    )
    return Answer(waits)


async def _set_contract(cur: Cursor, approval: Approval, asker: Access, who: Actor, why: str, now: datetime) -> Answer:
    return await _write_contract(cur, approval.arguments, who, approval.asked_by)


async def _write_contract(cur: Cursor, arguments: Mapping[str, Any], who: Actor, changed_by: str) -> Answer:
    row = await _partner(cur, arguments)
    version = await set_contract(cur, row.code, arguments["body"], changed_by)
    changes = changed_facts(row.body, arguments["body"])
    await record_as(cur, who, "partner_contract_set", "partner", row.code, changes, version=version)
    return Answer(None, {"version": version}, version)


async def _partner(cur: Cursor, arguments: Mapping[str, Any]) -> PartnerRow:
    row = next((row for row in await list_partners(cur) if row.code == arguments["code"]), None)
    if row is None:
        raise ContractError(f"there is no partner {arguments['code'][:40]!r}")
    if row.version != arguments["version"]:
        raise StaleError(
            N_("The contract of %(code)s has version %(version)s meanwhile: look at it again"),
            code=row.code,
            version=row.version,
        )
    return row


async def _contract_version(cur: Cursor, approval: Approval) -> str:
    versions = {row.code: str(row.version) for row in await list_partners(cur)}
    return versions.get(approval.object_id, "")
