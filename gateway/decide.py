"""What becomes of a command: plain functions on what was loaded, in arrival order.

Rules. No await, SQL, clock or log here. Each command sees the effects of those before it in its batch (`World`).
Every change goes through the table in `states`; entries of the batch sum to zero. A refusal is a value.

The contract's limits are looked at for new payments alone, in this order: account's format, service, date window,
account known, account active, sum within bounds. A repeat of a credited payment is answered from its state although a
limit moved since: a fatal answer to it would make the partner give the payer's cash back.

A card's number that stands where an account's should is kept masked: no account has it, so no money hangs on it.

Does not know: where the world came from, protocols' codes, other batches.
"""

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from adapters.cards import mask_cards
from adapters.messages import (
    Balance,
    Cancel,
    Check,
    Contract,
    Op,
    Pay,
    Reason,
    Result,
    Status,
)
from adapters.wire import fits
from billing.ledger import Transfer
from gateway.states import OPEN, Effect, Event, State, transition
from ratingcore.money import Minor, format_minor

NOTE_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class OperatorCancel:
    """A person takes a payment back by hand; the contract's cancel switch and window do not bind him."""

    payment_id: int
    note: str


#: What changes payments, and so runs in a locked batch.
Action = Pay | Cancel | OperatorCancel
#: What only reads.
Question = Check | Status | Balance


@dataclass(frozen=True, slots=True)
class Terms:
    """A contract with the system accounts its money moves through."""

    contract: Contract
    clearing_account_id: int
    transit_account_id: int


@dataclass(frozen=True, slots=True)
class Command:
    """One request on its way to a decision.

    terms: None only for OperatorCancel, whose contract is that of the payment's partner.
    request_text: the scrubbed raw request, kept with the event it causes.
    """

    request: Action | Question
    terms: Terms | None
    actor: str
    remote_ip: str = ""
    request_text: str = ""


@dataclass(frozen=True, slots=True)
class AccountRow:
    """A payable account; balance in minor units."""

    id: int
    number: str
    state: str
    name: str
    balance: int
    currency: str
    floor: int | None = None


@dataclass(frozen=True, slots=True)
class Payment:
    """A row of `payments`."""

    id: int
    partner_id: int
    key: str
    contract_version: int
    service: str
    account_number: str
    account_id: int | None
    amount: Minor
    currency: str
    partner_time: datetime | None
    extras: Mapping[str, str] | None
    state: State
    reason: Reason
    version: int
    registered_at: datetime
    created_at: datetime


@dataclass(frozen=True, slots=True)
class EventRow:
    """A row of `payment_events`, at the batch's time."""

    payment_id: int
    seq: int
    event: Event
    state: State
    reason: Reason
    actor: str
    note: str
    remote_ip: str
    request_text: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """A row of `attempts`: a call that changed no payment. calls: how many alike it stands for (gateway.strangers)."""

    kind: str
    reason: Reason
    partner_id: int | None = None
    op: str = ""
    code: str = ""
    detail: str = ""
    key: str = ""
    account_number: str = ""
    amount: Minor | None = None
    payment_id: int | None = None
    remote_ip: str = ""
    request_text: str = ""
    calls: int = 1


@dataclass(slots=True)
class World:
    """What a batch loaded, and what its commands made of it so far.

    accounts: payable accounts held under lock, by number. terms: by partner id, for people's commands.
    in_work: keys of pays that this process has not decided yet; what is asked of them has no final answer.
    next_id: gives the id of the next new payment.
    """

    now: datetime
    next_id: Callable[[], int]
    accounts: dict[str, AccountRow]
    payments: dict[tuple[int, str], Payment]
    terms: Mapping[int, Terms] = field(default_factory=dict)
    in_work: Container[tuple[int, str]] = frozenset()
    by_id: dict[int, Payment] = field(default_factory=dict)
    balances: dict[int, int] = field(default_factory=dict)
    created: dict[int, Payment] = field(default_factory=dict)
    changed: dict[int, Payment] = field(default_factory=dict)
    versions_before: dict[int, int] = field(default_factory=dict)
    events: list[EventRow] = field(default_factory=list)
    transfers: list[Transfer] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Index by id what was loaded by key and number."""
        self.by_id.update({payment.id: payment for payment in self.payments.values()})
        self.balances.update({account.id: account.balance for account in self.accounts.values()})

    @property
    def is_unchanged(self) -> bool:
        """True when there is nothing to write."""
        return not (self.events or self.attempts)


def decide(world: World, command: Command) -> Result:
    """One command's answer; its changes are left in ``world``."""
    request = command.request
    if isinstance(request, Pay):
        assert command.terms is not None
        return _pay(world, command, command.terms, request)
    if isinstance(request, Cancel):
        assert command.terms is not None
        return _cancel(world, command, command.terms, request)
    if isinstance(request, OperatorCancel):
        return _operator_cancel(world, command, request)
    return answer(world, command)


def answer(world: World, command: Command) -> Result:
    """A question's answer; changes nothing."""
    request = command.request
    assert command.terms is not None
    contract = command.terms.contract
    if isinstance(request, Check):
        return _check(world, contract, request)
    if isinstance(request, Status):
        return _status(world, contract, request)
    assert isinstance(request, Balance)
    return _balance(world, command.terms, request)


# -- pay ---------------------------------------------------------------------------------------------------------------


def _pay(world: World, command: Command, terms: Terms, request: Pay) -> Result:
    contract = terms.contract
    known = world.payments.get((contract.partner_id, request.key))
    if known is not None:
        return _repeat(world, command, terms, request, known)
    account = world.accounts.get(request.account)
    reason = _examine_pay(world, account, request, contract)
    command = _without_cards(world, command, request)
    payment = Payment(
        id=world.next_id(),
        partner_id=contract.partner_id,
        key=request.key,
        contract_version=contract.version,
        service=request.service,
        account_number=_kept_number(world, request.account),
        account_id=account.id if account else None,
        amount=request.amount,
        currency=contract.currency,
        partner_time=request.partner_time,
        extras=request.extras or None,
        state=State.REFUSED,
        reason=reason,
        version=0,
        registered_at=world.now,
        created_at=world.now,
    )
    event = Event.ACCEPT if reason is Reason.OK else Event.REFUSE
    return _pay_result(_happen(world, command, terms, payment, event, reason), Reason.OK)


def _kept_number(world: World, number: str) -> str:
    """The account number as it is kept: to the letter, unless it is a card's and no account's."""
    return number if number in world.accounts else mask_cards(number)


def _without_cards(world: World, command: Command, request: Pay) -> Command:
    """The command, its text without a card's number in the account's place. Other places are masked before us."""
    if _kept_number(world, request.account) == request.account:
        return command
    return replace(command, request_text=mask_cards(command.request_text, (request.key,)))


def _repeat(world: World, command: Command, terms: Terms, request: Pay, known: Payment) -> Result:
    contract = terms.contract
    command = _without_cards(world, command, request)
    is_tombstone = known.state is State.VOIDED and known.amount == 0  # a cancel came first and knew no requisites
    if not is_tombstone and not _same_requisites(known, request, contract):
        detail = (
            f"payment {known.id} has account {known.account_number}, sum {format_minor(known.amount)}, "
            f"service {known.service or '-'}"
        )
        _note(world, command, "conflict", Reason.CONFLICT, known, detail)
        return Result(Op.PAY, Reason.CONFLICT, key=request.key, account=request.account)
    if known.state is State.REFUSED and known.reason in contract.re_examine:
        return _re_examine(world, command, terms, request, known)
    return _pay_result(known, Reason.DUPLICATE_OK)


def _re_examine(world: World, command: Command, terms: Terms, request: Pay, known: Payment) -> Result:
    # By the number as the contract reads it now: the payment's own may have been taken down under another version.
    account = world.accounts.get(request.account)
    kept = _kept_number(world, request.account)
    note = "" if known.account_number in (request.account, kept) else f"account {kept}"
    reason = _examine_pay(world, account, request, terms.contract)
    if reason is known.reason:
        return _pay_result(known, Reason.DUPLICATE_OK)
    looked_at = replace(known, account_id=account.id if account else None, contract_version=terms.contract.version)
    if reason is not Reason.OK:
        return _pay_result(_happen(world, command, terms, looked_at, Event.REFUSE, reason, note), Reason.OK)
    looked_at = replace(looked_at, registered_at=world.now)
    return _pay_result(_happen(world, command, terms, looked_at, Event.ACCEPT, reason, note), Reason.OK)


def _same_requisites(known: Payment, request: Pay, contract: Contract) -> bool:
    if known.amount != request.amount or known.service != request.service:
        return False
    if known.contract_version != contract.version:
        # Whether leading zeros are stripped may have changed since; the number is the same.
        return known.account_number.lstrip("0") == request.account.lstrip("0")
    return known.account_number in (request.account, mask_cards(request.account))


def _examine_pay(world: World, account: AccountRow | None, request: Pay, contract: Contract) -> Reason:
    reason = _examine_address(request.account, request.service, contract)
    if reason is not Reason.OK:
        return reason
    if request.partner_time is not None and not _in_window(request.partner_time, world.now, contract):
        return Reason.BAD_DATE
    return _examine(account, request.amount, contract)


def _examine_address(number: str, service: str, contract: Contract) -> Reason:
    if not fits(contract.account_pattern, number):
        return Reason.BAD_ACCOUNT_FORMAT
    if contract.services and service not in contract.services:
        return Reason.BAD_SERVICE
    return Reason.OK


def _in_window(time: datetime, now: datetime, contract: Contract) -> bool:
    past_s, future_s = contract.date_past_s, contract.date_future_s
    return (past_s is None or time >= now - timedelta(seconds=past_s)) and (
        future_s is None or time <= now + timedelta(seconds=future_s)
    )


def _examine(account: AccountRow | None, amount: Minor | None, contract: Contract) -> Reason:
    if account is None or account.currency != contract.currency:
        return Reason.ACCOUNT_NOT_FOUND
    if account.state != "active":
        return Reason.ACCOUNT_INACTIVE
    if amount is None:
        return Reason.OK
    if amount < contract.min_minor:
        return Reason.AMOUNT_TOO_SMALL
    if amount > contract.max_minor:
        return Reason.AMOUNT_TOO_LARGE
    return Reason.OK


def _pay_result(payment: Payment, when_posted: Reason) -> Result:
    """How a pay is answered from the payment's present state."""
    if payment.state is State.REFUSED:
        return Result(Op.PAY, payment.reason, key=payment.key, account=payment.account_number)
    if payment.state is State.POSTED:
        reason = when_posted
    elif payment.state in OPEN:
        reason = Reason.IN_PROGRESS
    else:
        reason = Reason.ALREADY_CANCELLED
    return _named(Op.PAY, reason, payment)


# -- cancel ------------------------------------------------------------------------------------------------------------


def _cancel(world: World, command: Command, terms: Terms, request: Cancel) -> Result:
    contract = terms.contract
    payment = _find(world, contract.partner_id, request.key, request.payment_id)
    if _is_in_work(world, contract, request.key, payment):
        return Result(Op.CANCEL, Reason.IN_PROGRESS, key=request.key, cancel_key=request.cancel_key)
    if payment is None:
        return _cancel_of_unknown(world, command, terms, request)
    if request.amount is not None and request.amount != payment.amount and payment.amount:
        _note(world, command, "conflict", Reason.CONFLICT, payment, f"cancel names sum {format_minor(request.amount)}")
        return _named(Op.CANCEL, Reason.CONFLICT, payment, request.cancel_key)
    if payment.state is State.REFUSED:
        if contract.cancel_tombstone and contract.cancel_allowed:
            # Nothing moved, but a repeat might yet be credited on re-examination: the cancel closes the key.
            payment = replace(payment, registered_at=world.now)
            closed = _happen(world, command, terms, payment, Event.TOMBSTONE, Reason.OK)
            return _named(Op.CANCEL, Reason.OK, closed, request.cancel_key)
        return Result(Op.CANCEL, Reason.PAYMENT_NOT_FOUND, key=payment.key, cancel_key=request.cancel_key)
    if payment.state in OPEN:
        return _named(Op.CANCEL, Reason.IN_PROGRESS, payment, request.cancel_key)
    if payment.state is not State.POSTED:
        return _named(Op.CANCEL, Reason.ALREADY_CANCELLED, payment, request.cancel_key)
    if not _may_cancel(world, contract, payment):
        return _named(Op.CANCEL, Reason.CANCEL_IMPOSSIBLE, payment, request.cancel_key)
    reversed_ = _happen(world, command, terms, payment, Event.REVERSE, Reason.OK)
    return _named(Op.CANCEL, Reason.OK, reversed_, request.cancel_key)


def _may_cancel(world: World, contract: Contract, payment: Payment) -> bool:
    if not contract.cancel_allowed:
        return False
    window_s = contract.cancel_window_s
    if window_s is not None and world.now - payment.registered_at > timedelta(seconds=window_s):
        return False
    return _covers(world, payment) if contract.cancel_needs_balance else _is_above_floor(world, payment)


def _covers(world: World, payment: Payment) -> bool:
    return payment.account_id is not None and world.balances.get(payment.account_id, 0) >= payment.amount


def _is_above_floor(world: World, payment: Payment) -> bool:
    """Whether the database would let the account give the sum back (accounts_balance_floor)."""
    account = next((a for a in world.accounts.values() if a.id == payment.account_id), None)
    if account is None:
        return False
    return account.floor is None or world.balances[account.id] - payment.amount >= account.floor


def _cancel_of_unknown(world: World, command: Command, terms: Terms, request: Cancel) -> Result:
    contract = terms.contract
    if not contract.cancel_tombstone or not contract.cancel_allowed or request.key is None:
        return Result(Op.CANCEL, Reason.PAYMENT_NOT_FOUND, key=request.key, cancel_key=request.cancel_key)
    payment = Payment(
        id=world.next_id(),
        partner_id=contract.partner_id,
        key=request.key,
        contract_version=contract.version,
        service="",
        account_number="",
        account_id=None,
        amount=Minor(0),
        currency=contract.currency,
        partner_time=None,
        extras=None,
        state=State.VOIDED,
        reason=Reason.OK,
        version=0,
        registered_at=world.now,
        created_at=world.now,
    )
    return _named(
        Op.CANCEL,
        Reason.OK,
        _happen(world, command, terms, payment, Event.TOMBSTONE, Reason.OK),
        request.cancel_key,
    )


def _operator_cancel(world: World, command: Command, request: OperatorCancel) -> Result:
    payment = world.by_id.get(request.payment_id)
    if payment is None or payment.partner_id not in world.terms:
        return Result(Op.CANCEL, Reason.PAYMENT_NOT_FOUND, payment_id=request.payment_id)
    terms = world.terms[payment.partner_id]
    if payment.state is State.POSTED and _covers(world, payment):
        event = Event.REVERSE
    elif payment.state is State.HELD:
        event = Event.VOID
    elif payment.state in (State.REVERSED, State.VOIDED):
        return _named(Op.CANCEL, Reason.ALREADY_CANCELLED, payment)
    else:
        return _named(Op.CANCEL, Reason.CANCEL_IMPOSSIBLE, payment)
    changed = _happen(world, command, terms, payment, event, Reason.OK, request.note[:NOTE_MAX])
    return _named(Op.CANCEL, Reason.OK, changed)


# -- questions ---------------------------------------------------------------------------------------------------------


def _check(world: World, contract: Contract, request: Check) -> Result:
    account = world.accounts.get(request.account)
    reason = _examine_address(request.account, request.service, contract)
    if reason is Reason.OK:
        reason = _examine(account, request.amount, contract)
    display: tuple[tuple[str, str], ...] = ()
    if account is not None and reason is Reason.OK:
        shown = {"name": account.name, "balance": format_minor(account.balance)}
        display = tuple((name, shown[name]) for name in contract.display if name in shown)
    return Result(Op.CHECK, reason, key=request.key, account=request.account, amount=request.amount, display=display)


def _status(world: World, contract: Contract, request: Status) -> Result:
    payment = _find(world, contract.partner_id, request.key, request.payment_id)
    if _is_in_work(world, contract, request.key, payment):
        return Result(Op.STATUS, Reason.IN_PROGRESS, key=request.key)
    if payment is None:
        return Result(Op.STATUS, Reason.PAYMENT_NOT_FOUND, key=request.key)
    return replace(_pay_result(payment, Reason.OK), op=Op.STATUS)


def _balance(world: World, terms: Terms, request: Balance) -> Result:
    if request.account is None:
        # What the partner owes us is negative on his clearing account; to him it is what he still has to pay over.
        balance = world.balances.get(terms.clearing_account_id, 0)
        return Result(Op.BALANCE, Reason.OK, amount=Minor(balance))
    account = world.accounts.get(request.account)
    reason = _examine(account, None, terms.contract)
    amount = Minor(account.balance) if account is not None and reason is Reason.OK else None
    return Result(Op.BALANCE, reason, account=request.account, amount=amount)


# -- shared ------------------------------------------------------------------------------------------------------------


def _find(world: World, partner_id: int, key: str | None, payment_id: int | None) -> Payment | None:
    """A partner's own payment; another partner's id finds nothing."""
    found = world.payments.get((partner_id, key)) if key is not None else None
    if found is None and payment_id is not None:
        found = world.by_id.get(payment_id)
    return found if found is not None and found.partner_id == partner_id else None


def _is_in_work(world: World, contract: Contract, key: str | None, payment: Payment | None) -> bool:
    """Whether a pay of this key waits to be decided while there is nothing, or a refusal, to answer from."""
    if key is None or (payment is not None and payment.state is not State.REFUSED):
        return False
    return (contract.partner_id, key) in world.in_work


def _named(op: Op, reason: Reason, payment: Payment, cancel_key: str | None = None) -> Result:
    return Result(
        op,
        reason,
        key=payment.key,
        payment_id=payment.id,
        registered_at=payment.registered_at,
        amount=payment.amount,
        account=payment.account_number,
        cancel_key=cancel_key,
    )


def _happen(
    world: World, command: Command, terms: Terms, payment: Payment, event: Event, reason: Reason, note: str = ""
) -> Payment:
    """Let an event happen: the only place where a payment changes."""
    before = None if payment.version == 0 else payment.state
    state, effects = transition(before, event)
    after = replace(payment, state=state, reason=reason, version=payment.version + 1)
    for effect in effects:
        world.transfers.append(_transfer(world, terms, after, effect))
    world.events.append(
        EventRow(
            after.id, after.version, event, state, reason, command.actor, note, command.remote_ip, command.request_text
        )
    )
    if before is None or after.id in world.created:
        world.created[after.id] = after
    else:
        world.versions_before.setdefault(after.id, payment.version)
        world.changed[after.id] = after
    world.payments[(after.partner_id, after.key)] = after
    world.by_id[after.id] = after
    return after


def _transfer(world: World, terms: Terms, payment: Payment, effect: Effect) -> Transfer:
    assert payment.account_id is not None
    clearing, transit = terms.clearing_account_id, terms.transit_account_id
    debit, credit = {
        Effect.HOLD: (clearing, transit),
        Effect.POST: (transit, payment.account_id),
        Effect.VOID: (transit, clearing),
        Effect.REVERSE: (payment.account_id, clearing),
    }[effect]
    for account, delta in ((debit, -payment.amount), (credit, payment.amount)):
        if account in world.balances:
            world.balances[account] += delta
    return Transfer("payment", payment.id, effect.value, debit, credit, payment.amount, payment.currency)


def _note(world: World, command: Command, kind: str, reason: Reason, payment: Payment, detail: str) -> None:
    """Leave an attempt for a person to see, written in the batch's own transaction."""
    request = command.request
    world.attempts.append(
        Attempt(
            kind=kind,
            reason=reason,
            partner_id=payment.partner_id,
            op=Op.PAY.value if isinstance(request, Pay) else Op.CANCEL.value,
            detail=detail,
            key=payment.key,
            account_number=_kept_number(world, request.account) if isinstance(request, Pay) else payment.account_number,
            amount=request.amount if isinstance(request, Pay | Cancel) else None,
            payment_id=payment.id,
            remote_ip=command.remote_ip,
            request_text=command.request_text,
        )
    )
