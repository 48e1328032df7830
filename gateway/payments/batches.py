"""A batch's commands: who waits for them, and what has to be loaded to decide them.

Does not know: SQL, what is decided.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from adapters.messages import OP_OF, Balance, Cancel, Check, Op, Pay, Reason, Result, Status
from gateway.payments.fence_store import Key
from gateway.payments.records import Command, LoadedState, OperatorCancel


@dataclass(slots=True, eq=False)
class Waiting:
    """A command and whoever waits for its answer. An entity: compared by identity. Times are the loop's.

    submitted: when it came to the core. received: it had not reached this process before (`Heartbeat`).
    """

    command: Command
    answer: "asyncio.Future[Result]"
    submitted: float
    received: float
    deadline: float
    in_batch: bool = False
    key_in_work: tuple[int, str] | None = None


#: A question whose answer is that nothing of this key is credited.
Unsure = tuple[Waiting, Key, Result]


@dataclass(frozen=True, slots=True)
class Wanted:
    """numbers: accounts to pay or look at; lock_keys: payments whose accounts are locked; keys, ids: payments read.

    pay_keys: of keys those that are to be paid.
    """

    numbers: list[str]
    lock_keys: list[tuple[int, str]]
    keys: list[tuple[int, str]]
    ids: list[int]
    clearing_ids: list[int]
    pay_keys: list[tuple[int, str]]

    @property
    def reads_accounts(self) -> bool:
        return bool(self.numbers or self.clearing_ids)


def wanted_by(commands: Sequence[Command]) -> Wanted:
    numbers: set[str] = set()
    lock_keys: set[tuple[int, str]] = set()
    keys: set[tuple[int, str]] = set()
    ids: set[int] = set()
    clearing: set[int] = set()
    pay_keys: set[tuple[int, str]] = set()
    for command in commands:
        request, terms = command.request, command.terms
        if isinstance(request, OperatorCancel):
            ids.add(request.payment_id)
            continue
        assert terms is not None
        partner_id = terms.contract.partner_id
        if isinstance(request, Pay | Check) or (isinstance(request, Balance) and request.account is not None):
            assert request.account is not None
            numbers.add(request.account)
        if isinstance(request, Balance) and request.account is None:
            clearing.add(terms.clearing_account_id)
        if isinstance(request, Pay | Cancel | Status):
            if request.key is not None:
                keys.add((partner_id, request.key))
                if isinstance(request, Pay):
                    pay_keys.add((partner_id, request.key))
                if isinstance(request, Cancel):
                    lock_keys.add((partner_id, request.key))
            if isinstance(request, Cancel | Status) and request.payment_id is not None:
                ids.add(request.payment_id)
    return Wanted(sorted(numbers), sorted(lock_keys), sorted(keys), sorted(ids), sorted(clearing), sorted(pay_keys))


def must_wait(command: Command, loaded: LoadedState, held: set[str], locked: set[int]) -> bool:
    """Whether somebody else holds the account this command is about."""
    request = command.request
    if isinstance(request, Pay):
        assert command.terms is not None
        return request.account in held
    payment = None
    if isinstance(request, OperatorCancel):
        payment = loaded.by_id.get(request.payment_id)
    elif isinstance(request, Cancel) and command.terms is not None:
        partner_id = command.terms.contract.partner_id
        payment = loaded.payments.get((partner_id, request.key)) if request.key is not None else None
        if payment is None and request.payment_id is not None:
            payment = loaded.by_id.get(request.payment_id)
    return payment is not None and payment.account_id is not None and payment.account_id not in locked


def system_ids(loaded: LoadedState) -> set[int]:
    """Accounts of this batch's transfers that are not payable ones, and so are locked last."""
    payable = {account.id for account in loaded.accounts.values()}
    touched = {t.debit_account_id for t in loaded.transfers} | {t.credit_account_id for t in loaded.transfers}
    return touched - payable


def temporary(waiting: Waiting, reason: Reason = Reason.TEMPORARY) -> Result:
    """The answer to a command that was not decided: the partner sends it again."""
    request = waiting.command.request
    op = Op.CANCEL if isinstance(request, OperatorCancel) else OP_OF[type(request)]
    key = None if isinstance(request, OperatorCancel | Balance) else request.key
    account = request.account if isinstance(request, Pay | Check | Balance) else None
    return Result(op, reason, key=key, account=account)
