"""What waits for a second person: asked for, then approved or refused by another, once.

Rules.
 1. Who asked never approves, whatever rights it has. Both prove who they are by a password or a token; the database
    holds that too (`approvals_two_people`).
 2. What was asked for is done in the transaction that approves it, by the function of its kind, or not at all. Where it
    cannot be done as things stand now, the refusal is told and the request goes on waiting.
 3. Silence is no answer: a request that nobody decided expires, and then is asked again. So is one whose object has
    changed since (its version), because it was not this that the second person would be agreeing to.
 4. A key of a kind acts once. The same key with the same contents is told what stands, with other contents refused.
 5. Rights are looked at when something is done: who asked must still hold the right when it is approved.
 6. Who asked may withdraw; a refusal and a withdrawal say why.

Does not know: what there is to approve (web/access/approval_kinds.py), rows (approval_store.py), pages.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from billing.database.cursors import Cursor
from billing.language import N_
from web.access import approval_store as store
from web.access.actors import Actor, DeniedError
from web.access.approval_store import Approval, ApprovalState, Request
from web.access.audit import record_as
from web.access.rights import Access, Right
from web.access.roles import AccessError
from web.access.users import user_by_login

WHY_MAX: Final = 500
KEY_MAX: Final = 200
#: How long a request waits.
WAITS: Final = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Answer:
    """What asking came to: done at once with a result, or a request that waits.

    told: what the function behind it answered, for whoever asked; it is not kept. is_new: False for a repeat.
    """

    waits: Request | None = None
    result: Mapping[str, Any] = field(default_factory=dict)
    told: Any = None
    is_new: bool = True


Ask = Callable[[Cursor, Mapping[str, Any], Actor, str, str, datetime], Awaitable[Answer]]
Act = Callable[[Cursor, Approval, Access, Actor, str, datetime], Awaitable[Answer]]
Lapse = Callable[[Cursor, Approval, Actor, str], Awaitable[None]]
Version = Callable[[Cursor, Approval], Awaitable[str]]


async def _nothing(cur: Cursor, approval: Approval, who: Actor, why: str) -> None:
    """Of a kind that leaves nothing behind while it waits."""


async def _unversioned(cur: Cursor, approval: Approval) -> str:
    return approval.object_version


@dataclass(frozen=True, slots=True)
class ApprovalKind:
    """A kind of what may wait.

    name: in the address, the record and the command. words: English, translated where they are shown.
    ask: (cursor, arguments, who, key, why, now): does it, or says what shall wait; demands the right to ask.
    act: (cursor, approval, access of who asked, who approves, why, now): does what waited.
    lapse: (cursor, approval, who, why): undoes what asking left behind, when it is refused or expires.
    version: of the object as it is now.
    repeat: as ``ask``, of a key that stands; for a kind that tells itself whether a repeat asks for the same.
    """

    name: str
    words: str
    ask: Ask
    act: Act
    lapse: Lapse = _nothing
    version: Version = _unversioned
    repeat: Ask | None = None


Kinds = Mapping[str, ApprovalKind]


class Ending(StrEnum):
    """What became of a question."""

    DONE = "done"
    WAITS = "waits"
    REFUSED = "refused"
    STALE = "stale"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What asking, approving or refusing came to. approval: None where it was done at once. is_new: False for a repeat,
    which did nothing. told: as in `Answer`."""

    ending: Ending
    approval: Approval | None
    result: Mapping[str, Any]
    told: Any = None
    is_new: bool = True


_ENDINGS: Final = {
    ApprovalState.WAITING: Ending.WAITS,
    ApprovalState.DONE: Ending.DONE,
    ApprovalState.REFUSED: Ending.REFUSED,
    ApprovalState.WITHDRAWN: Ending.REFUSED,
    ApprovalState.EXPIRED: Ending.EXPIRED,
    ApprovalState.STALE: Ending.STALE,
}


_DECIDED: Final = {
    ApprovalState.DONE: N_("Request %(id)s was approved by %(who)s already"),
    ApprovalState.REFUSED: N_("Request %(id)s was refused by %(who)s"),
    ApprovalState.WITHDRAWN: N_("Request %(id)s was withdrawn by %(who)s"),
    ApprovalState.EXPIRED: N_("Request %(id)s has expired: it has to be asked again"),
    ApprovalState.STALE: N_("Request %(id)s is about something that changed since: it has to be asked again"),
}


async def request_or_act(
    cur: Cursor,
    kinds: Kinds,
    kind: str,
    arguments: Mapping[str, Any],
    who: Actor,
    *,
    key: str,
    why: str,
    now: datetime,
) -> Outcome:
    """Do something, or have it wait for a second person where the rule of who asks says so.

    Args:
        cur: aiopg cursor inside the caller's READ COMMITTED transaction.
        arguments: JSON; what the kind takes.
        key: the caller's own of this question, such as one of the form: a repeat does nothing and is told what stands.
        why: for the second person and the record.
        now: aware UTC.

    Raises:
        AccessError (DeniedError), Refusal: it cannot be asked so; roll back.
    """
    _checked(N_("The key has 1 to %(most)s printable characters"), key, KEY_MAX, "key")
    _checked(N_("The reason has 1 to %(most)s printable characters"), why, WHY_MAX, "why")
    standing = await store.by_key(cur, kind, key)
    repeat = kinds[kind].repeat
    if standing is not None and repeat is not None:
        answer = await repeat(cur, arguments, who, key, why, now)
        return Outcome(_ENDINGS[standing.state], standing, standing.result, answer.told, is_new=False)
    if standing is not None:
        return _repeated(standing, arguments, who)
    answer = await kinds[kind].ask(cur, arguments, who, key, why, now)
    if answer.waits is None:
        return Outcome(Ending.DONE, None, answer.result, answer.told, answer.is_new)
    if who.proof == "os":
        raise DeniedError(
            N_("This waits for a second person, and both prove who they are: act as a user (add --as LOGIN)")
        )
    approval = await store.add(cur, kind, key, arguments, answer.waits, who, why.strip(), now + WAITS)
    if approval is None:  # another took the key between our look and our write
        standing = await store.by_key(cur, kind, key)
        assert standing is not None
        return _repeated(standing, arguments, who)
    await record_as(
        cur, who, "approval_asked", "approval", str(approval.id), answer.waits.changes, **_detail(approval), why=why
    )
    return Outcome(Ending.WAITS, approval, {}, answer.told)


async def approve(cur: Cursor, kinds: Kinds, approval_id: int, who: Actor, why: str, now: datetime) -> Outcome:
    """Do what waits, as the second person. What was done already is told as it stands.

    Commit also where the ending is STALE or EXPIRED: the request is closed then, and nothing was done.

    Raises:
        AccessError (DeniedError), Refusal: not by this person, not any more, or not as things stand; roll back.
    """
    approval = await store.hold(cur, approval_id)
    if approval.state is ApprovalState.DONE:
        return Outcome(Ending.DONE, approval, approval.result, is_new=False)
    _still_waits(approval)
    if approval.asked_by == who.name:
        raise DeniedError(N_("You asked for this yourself: another person approves it"))
    who.demand(approval.right)
    if who.proof == "os":
        raise DeniedError(N_("Who approves proves who it is: act as a user (add --as LOGIN)"))
    kind = kinds[approval.kind]
    if approval.expires_at <= now:
        return await _lapse(cur, kind, approval, ApprovalState.EXPIRED, who, "expired")
    if await kind.version(cur, approval) != approval.object_version:
        return await _lapse(cur, kind, approval, ApprovalState.STALE, who, "changed since it was asked for")
    asker = await _access_of_asker(cur, approval)
    answer = await kind.act(cur, approval, asker, who, why.strip(), now)
    await store.decide(cur, approval_id, ApprovalState.DONE, who, why.strip(), answer.result)
    detail = {**_detail(approval), "asked_by": approval.asked_by, "why": approval.why}
    await record_as(cur, who, "approval_done", "approval", str(approval_id), approval.changes, **detail)
    return Outcome(Ending.DONE, await store.hold(cur, approval_id), answer.result, answer.told)


async def refuse(cur: Cursor, kinds: Kinds, approval_id: int, who: Actor, why: str) -> Outcome:
    """Refuse what waits, or, as who asked for it, withdraw it. Nothing is done.

    Raises:
        AccessError (DeniedError): not by this person, decided already, or without a reason; roll back.
    """
    _checked(N_("The reason has 1 to %(most)s printable characters"), why, WHY_MAX, "why")
    approval = await store.hold(cur, approval_id)
    _still_waits(approval)
    is_own = approval.asked_by == who.name
    if not is_own:
        who.demand(approval.right)
    await kinds[approval.kind].lapse(cur, approval, who, why.strip())
    state = ApprovalState.WITHDRAWN if is_own else ApprovalState.REFUSED
    await store.decide(cur, approval_id, state, who, why.strip(), {})
    action = "approval_withdrawn" if is_own else "approval_refused"
    await record_as(cur, who, action, "approval", str(approval_id), **_detail(approval), why=why.strip())
    return Outcome(Ending.REFUSED, await store.hold(cur, approval_id), {})


def may_see(approval: Approval, who: Actor) -> bool:
    """Whether a person sees a request: who asked, who could approve, who reads the audit record."""
    return approval.asked_by == who.name or who.access.may(approval.right) or who.access.may(Right.AUDIT_VIEW)


def may_approve(approval: Approval, who: Actor, now: datetime) -> bool:
    """Whether a person may approve a request now."""
    is_open = approval.state is ApprovalState.WAITING and approval.expires_at > now
    return is_open and approval.asked_by != who.name and who.access.may(approval.right)


async def _lapse(
    cur: Cursor, kind: ApprovalKind, approval: Approval, state: ApprovalState, who: Actor, why: str
) -> Outcome:
    await kind.lapse(cur, approval, who, why)
    await store.decide(cur, approval.id, state, who, why, {})
    await record_as(cur, who, "approval_lapsed", "approval", str(approval.id), **_detail(approval), why=why)
    return Outcome(_ENDINGS[state], await store.hold(cur, approval.id), {})


async def _access_of_asker(cur: Cursor, approval: Approval) -> Access:
    login = approval.asked_by.partition(":")[2]
    asker = await user_by_login(cur, login)
    if asker is None or asker.state != "active" or not asker.access.may(approval.asked_right):
        raise AccessError(
            N_("%(login)s, who asked for this, may not do it any more: refuse it"), login=login or approval.asked_by
        )
    return asker.access


def _still_waits(approval: Approval) -> None:
    if approval.state is not ApprovalState.WAITING:
        who = (approval.decided_by or "").removeprefix("user:")
        raise AccessError(_DECIDED[approval.state], id=approval.id, who=who)


def _repeated(standing: Approval, arguments: Mapping[str, Any], who: Actor) -> Outcome:
    if standing.arguments != dict(arguments) or standing.asked_by != who.name:
        raise AccessError(
            N_("Key %(key)s is of request %(id)s, which asked for something else"), key=standing.key, id=standing.id
        )
    return Outcome(_ENDINGS[standing.state], standing, standing.result, is_new=False)


def _detail(approval: Approval) -> dict[str, Any]:
    amount = {} if approval.amount is None else {"amount_minor": approval.amount, "currency": approval.currency}
    return {"kind": approval.kind, "object": approval.object_id, **amount}


def _checked(message: str, text: str, most: int, name: str) -> None:
    if not text.strip() or len(text) > most or not text.isprintable():
        raise AccessError(message, field=name, most=most)
