"""Money by hand, the one function behind the command, the console and the API: ask, approve, reject.

Rules.
 1. Everything is looked at again under lock when it is posted, so what was right when it was asked for and is not any
    more is refused at the approval; the request stays pending.
 2. Who approves is another person than who asked. Above the sum both have proven who they are by a password.
 3. A refund of a whole payment to its partner, before anything was taken off it, is a reversal: the payment's own
    transition, as if its partner had cancelled it. Any other refund or move leaves the payment posted, adds an event to
    it and raises its `returned`, so that neither a partner nor a person can cancel it afterwards.
 4. Locks: subscribers' accounts by id, then the payment, then system accounts.

Does not know: passwords and roles (the caller proves the person), the audit record (the caller writes it in the same
transaction), SQL of requests and receipts (billing.ledger.posting_requests).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from adapters.messages import Reason
from billing.database.cursors import Cursor
from billing.ledger.posting_requests import (
    HeldAccount,
    Kind,
    Person,
    PostingError,
    PostingRequest,
    Receipt,
    RequestState,
    WantedPosting,
    brings,
    objection,
    problem_with,
    repeats,
)
from billing.ledger.posting_store import (
    account_id_of,
    add_request,
    decide_request,
    hold_accounts,
    hold_request,
    post_request,
    read_receipt,
    receipt_id_of,
    request_by_key,
)
from gateway.payments import store
from gateway.payments.decide import decide, take_off
from gateway.payments.records import Command, LoadedState, OperatorCancel
from gateway.payments.states import Event
from ratingcore.money import Minor, format_minor

_EVENT_OF: Final = {Kind.MOVE: Event.MOVE, Kind.REFUND: Event.REFUND}


@dataclass(frozen=True, slots=True)
class Balance:
    """A subscriber's balance before and after, in minor units; the same where nothing was posted."""

    account: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class PostingOutcome:
    """A request with what became of it. is_new: False for a repeat of a known key, which did nothing.

    expected: of a request that waits, the balances as they would become now.
    """

    request: PostingRequest
    is_new: bool
    balances: tuple[Balance, ...] = ()
    expected: tuple[Balance, ...] = ()


async def ask(cur: Cursor, wanted: WantedPosting, person: Person, second_above: Minor, now: datetime) -> PostingOutcome:
    """Post what a person asks for, or keep it for a second person where it is above ``second_above``.

    Args:
        cur: aiopg cursor inside the caller's READ COMMITTED transaction.
        second_above: minor units; a larger amount waits for a second person.
        now: aware UTC; the time of the payment's event.

    Raises:
        PostingError: it cannot be done so; roll back.
    """
    problem = problem_with(wanted)
    if problem:
        raise PostingError(problem)
    receipt_id = await receipt_id_of(cur, wanted)
    standing = await request_by_key(cur, wanted.key)
    if standing is not None:
        return _repeated(standing, wanted, receipt_id)
    account_id = await _account_of(cur, wanted, receipt_id)
    to_account_id = await account_id_of(cur, wanted.to_account) if wanted.kind is Kind.MOVE else None
    if to_account_id == account_id:
        raise PostingError("that is the account where the money is")
    held = await hold_accounts(cur, [account_id, *([to_account_id] if to_account_id else [])])
    receipt = await read_receipt(cur, receipt_id) if receipt_id is not None else None
    amount = wanted.amount if wanted.amount is not None else receipt.left if receipt else held[account_id].balance
    if amount == 0 or (amount < 0 and wanted.kind is not Kind.CORRECTION):
        raise PostingError("nothing is left to move")
    needs_second = abs(amount) > second_above
    if needs_second and person.proof == "os":
        raise PostingError(
            f"more than {format_minor(second_above)} needs a second person, and both by password: add --as LOGIN"
        )
    refused = objection(wanted.kind, amount, held[account_id], held.get(to_account_id or 0), receipt, wanted.may_owe)
    if refused:
        raise PostingError(refused)
    request = await add_request(
        cur, wanted, amount, held[account_id], to_account_id, receipt_id, person, needs_second=needs_second
    )
    if request is None:  # another took the key between our look and our write
        standing = await request_by_key(cur, wanted.key)
        assert standing is not None
        return _repeated(standing, wanted, receipt_id)
    if needs_second:
        return PostingOutcome(request, True, expected=_expected(request, held))
    return await _post(cur, request, person, "", now)


async def approve(cur: Cursor, request_id: int, person: Person, why: str, now: datetime) -> PostingOutcome:
    """Post a pending request as the second person; a request that was posted already is told as it stands.

    Raises:
        PostingError: no such request, it was rejected, the same person asked for it, or it cannot be posted as things
            stand now; roll back.
    """
    request = await hold_request(cur, request_id)
    if request.state is RequestState.POSTED:
        return PostingOutcome(request, False)
    if request.state is RequestState.REJECTED:
        raise PostingError(f"request {request_id} was rejected by {request.decided_by}")
    if request.requested_by == person.actor:
        raise PostingError(f"{person.actor} asked for request {request_id}: another person approves it")
    if person.proof == "os":
        raise PostingError("who approves proves it by a password: add --as LOGIN")
    return await _post(cur, request, person, why, now)


async def reject(cur: Cursor, request_id: int, person: Person, why: str) -> PostingRequest:
    """Reject a pending request; who asked for it may withdraw it so.

    Raises:
        PostingError: no such request, or it was decided already.
    """
    if not why.strip():
        raise PostingError("a rejection needs a reason")
    request = await hold_request(cur, request_id)
    if request.state is not RequestState.PENDING:
        raise PostingError(f"request {request_id} is {request.state.value} already")
    await decide_request(cur, request_id, RequestState.REJECTED, person, why.strip())
    return await hold_request(cur, request_id)


async def request_with_key(cur: Cursor, key: str) -> PostingRequest:
    """The request that was asked for under this key. Raises PostingError where there is none."""
    request = await request_by_key(cur, key)
    if request is None:
        raise PostingError(f"there is no posting request with key {key[:40]!r}")
    return request


async def _account_of(cur: Cursor, wanted: WantedPosting, receipt_id: int | None) -> int:
    if receipt_id is None:
        return await account_id_of(cur, wanted.account)
    receipt = await read_receipt(cur, receipt_id)
    if wanted.account and wanted.account != receipt.account:
        raise PostingError(f"that receipt is of account {receipt.account}, not of {wanted.account[:40]}")
    return receipt.account_id


def _expected(request: PostingRequest, held: Mapping[int, HeldAccount]) -> tuple[Balance, ...]:
    account = held[request.account_id]
    change = abs(request.amount) if brings(request) else -abs(request.amount)
    expected = [Balance(account.number, account.balance, account.balance + change)]
    if request.to_account_id is not None:
        other = held[request.to_account_id]
        expected.append(Balance(other.number, other.balance, other.balance + request.amount))
    return tuple(expected)


def _repeated(standing: PostingRequest, wanted: WantedPosting, receipt_id: int | None) -> PostingOutcome:
    if not repeats(standing, wanted, receipt_id):
        raise PostingError(
            f"key {wanted.key[:40]!r} is of request {standing.id}, which asked for something else: "
            f"{standing.kind.value} of {format_minor(standing.amount)} {standing.currency}, account {standing.account}"
        )
    return PostingOutcome(standing, False)


async def _post(cur: Cursor, request: PostingRequest, person: Person, why: str, now: datetime) -> PostingOutcome:
    ids = [request.account_id, *([request.to_account_id] if request.to_account_id else [])]
    before = await hold_accounts(cur, ids)
    receipt = await read_receipt(cur, request.receipt_id) if request.receipt_id is not None else None
    to_account = before.get(request.to_account_id or 0)
    refused = objection(request.kind, request.amount, before[request.account_id], to_account, receipt, request.may_owe)
    if refused:
        raise PostingError(refused)
    posting_id: int | None = None
    if receipt is not None and _is_reversal(request, receipt):
        await _reverse(cur, request, receipt, person, now)
    else:
        posting_id = await post_request(cur, request, receipt, person.actor)
        if receipt is not None and receipt.payment_id is not None:
            await _take_off(cur, request, receipt, person, now)
    await decide_request(cur, request.id, RequestState.POSTED, person, why.strip(), posting_id)
    after = await hold_accounts(cur, ids)
    balances = tuple(Balance(before[one].number, before[one].balance, after[one].balance) for one in ids)
    return PostingOutcome(await hold_request(cur, request.id), True, balances)


def _is_reversal(request: PostingRequest, receipt: Receipt) -> bool:
    return (
        request.kind is Kind.REFUND
        and request.way == "partner"
        and receipt.payment_id is not None
        and not receipt.returned
        and request.amount == receipt.amount
    )


async def _reverse(cur: Cursor, request: PostingRequest, receipt: Receipt, person: Person, now: datetime) -> None:
    assert receipt.payment_id is not None
    loaded = await _loaded(cur, receipt, now)
    command = Command(OperatorCancel(receipt.payment_id, request.why, may_owe=True), None, person.actor)
    result = decide(loaded, command)
    if result.reason is not Reason.OK:
        raise PostingError(f"payment {receipt.payment_id} cannot be reversed: {result.reason.value.replace('_', ' ')}")
    await _write(cur, loaded, receipt)


async def _take_off(cur: Cursor, request: PostingRequest, receipt: Receipt, person: Person, now: datetime) -> None:
    assert receipt.payment_id is not None
    loaded = await _loaded(cur, receipt, now)
    to = f"account {request.to_account}" if request.to_account else request.way
    note = f"{format_minor(request.amount)} {request.currency} to {to}: {request.why}"
    command = Command(OperatorCancel(receipt.payment_id, note), None, person.actor)
    take_off(loaded, command, receipt.payment_id, _EVENT_OF[request.kind], request.amount, note)
    await _write(cur, loaded, receipt)


async def _loaded(cur: Cursor, receipt: Receipt, now: datetime) -> LoadedState:
    """The one payment and its account, which the caller holds."""
    assert receipt.payment_id is not None
    accounts = await store.read_accounts(cur, [], [receipt.account_id])
    payments = await store.read_payments(cur, [], [receipt.payment_id])
    sides = await store.read_sides(cur, [receipt.payment_id])
    no_new_payments: Iterator[int] = iter(())
    return LoadedState(now, no_new_payments.__next__, {one.number: one for one in accounts}, payments, sides)


async def _write(cur: Cursor, loaded: LoadedState, receipt: Receipt) -> None:
    sides = loaded.sides[receipt.payment_id or 0]
    await store.write(cur, loaded, {sides.clearing_account_id, sides.transit_account_id})
