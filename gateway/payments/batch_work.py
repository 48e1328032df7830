"""What is done with one batch inside its transaction: lock, read payments, decide, write, COMMIT.

Rules. `act` is one transaction and leaves none open. Commands whose account another session holds are not decided but
handed back, those whose deadline came meanwhile are answered `temporary`, and what would say "nothing is credited" is
handed back as unsure, for a fence (`gateway.payments.fences`). Failures of the driver are the caller's.

Does not know: queues, lanes, what happens to a batch that fails.
"""

import asyncio
from collections import deque
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from adapters.messages import Result
from billing.database.cursors import Cursor
from gateway.payments import failpoints, store
from gateway.payments.batches import Unsure, Waiting, must_wait, system_ids, temporary, wanted_by
from gateway.payments.decide import decide
from gateway.payments.fence_store import Key
from gateway.payments.fences import is_fenced, key_to_fence
from gateway.payments.records import AccountRow, LoadedState, OperatorCancel, Payment


@dataclass(slots=True)
class BatchResult:
    """What a committed batch decided.

    unsure: answers that say nothing is credited, to be fenced before they are given. held: commands to be tried again.
    """

    answers: list[tuple[Waiting, Result]] = field(default_factory=list)
    unsure: list[Unsure] = field(default_factory=list)
    held: list[Waiting] = field(default_factory=list)


class BatchWork:
    """What the batches of one process share: a stock of payment ids, and the keys of the pays it has in work."""

    def __init__(self, in_work: Container[Key]) -> None:
        self._in_work = in_work
        self._ids: deque[int] = deque()

    def loaded(self, accounts: dict[str, AccountRow], payments: dict[Key, Payment]) -> LoadedState:
        """What was read without locks, for questions; nothing is in work."""
        return LoadedState(datetime.now(UTC), self._ids.popleft, accounts, payments)

    async def read(self, cur: Cursor, batch: Sequence[Waiting]) -> LoadedState:
        """What a batch of questions is answered from."""
        wanted = wanted_by([waiting.command for waiting in batch])
        accounts = await store.read_accounts(cur, wanted.numbers, wanted.clearing_ids) if wanted.reads_accounts else []
        payments = await store.read_payments(cur, wanted.keys, wanted.ids) if wanted.keys or wanted.ids else {}
        numbers = set(wanted.numbers)
        loaded = LoadedState(
            datetime.now(UTC),
            self._ids.popleft,
            {account.number: account for account in accounts if account.number in numbers},
            payments,
            in_work=self._in_work,
        )
        loaded.balances.update({account.id: account.balance for account in accounts})
        return loaded

    async def act(self, cur: Cursor, batch: Sequence[Waiting]) -> BatchResult:
        """Decide a batch of actions in a transaction of its own, and commit what they changed.

        Raises:
            psycopg2.Error, StaleWrite: nothing was changed; the keys make it safe to run the batch again.
        """
        wanted = wanted_by([waiting.command for waiting in batch])
        accounts = await store.begin_and_lock(cur, wanted.numbers, wanted.lock_keys, wanted.ids)
        payments, fences = await store.read_for_batch(cur, wanted.keys, wanted.ids, wanted.pay_keys)
        by_people = [w.command.request.payment_id for w in batch if isinstance(w.command.request, OperatorCancel)]
        sides = await store.read_sides(cur, by_people) if by_people else {}
        now = asyncio.get_running_loop().time()
        missing = [number for number in wanted.numbers if number not in accounts]
        held = await store.held_elsewhere(cur, missing) if missing else set()
        while len(self._ids) < len(batch):
            self._ids.extend(await store.take_id_block(cur))
        loaded = LoadedState(datetime.now(UTC), self._ids.popleft, accounts, payments, sides, self._in_work)
        result = _decide_all(loaded, batch, held, fences, now)
        if loaded.is_unchanged:
            await cur.execute("ROLLBACK")
            return result
        await store.write(cur, loaded, system_ids(loaded))
        failpoints.hit("after_write_before_commit")
        await cur.execute("COMMIT")
        return result


def _decide_all(
    loaded: LoadedState, batch: Sequence[Waiting], held: set[str], fences: Mapping[Key, float], now: float
) -> BatchResult:
    locked = {account.id for account in loaded.accounts.values()}
    result = BatchResult()
    for waiting in batch:
        key = waiting.key_in_work
        if waiting.deadline <= now or (key and is_fenced(loaded, key, now - waiting.received, fences.get(key))):
            result.answers.append((waiting, temporary(waiting)))
        elif must_wait(waiting.command, loaded, held, locked):
            result.held.append(waiting)
        else:
            answer = decide(loaded, waiting.command)
            key = key_to_fence(loaded, waiting.command, answer)
            if key is None:
                result.answers.append((waiting, answer))
            else:
                result.unsure.append((waiting, key, answer))
    return result
