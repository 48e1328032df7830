"""Nothing final is said about a payment's key while a pay of it may be in work, in any process on any host.

A partner that hears "there is no such payment" gives the payer's cash back; so nothing that waits anywhere may be
credited afterwards. Two means, both in PostgreSQL:

Announcements. A pay that is not decided at once (its account is held, the database is slow) is announced: its process
holds the key's lock shared, in a session of its own. A question about the key finds the lock taken and answers
`in_progress`. The lock ends with the session: by kill -9 at once, with a lost host by keep-alive, with a paused process
by `idle_session_timeout`.

Fences. A pay that is not announced yet, or whose process is paused, cannot be seen. So before a question is answered
with "not found" (or a refusal), it leaves a fence: a row of the key with the time at which the question came. A pay
that came before that time and is decided after it gets the temporary code and changes nothing; its repeat came later
and is decided as ever. Fences cost a pay one look-up in a table that is nearly empty.

Rules. Ages are compared, never the clocks of two hosts: a fence's age is measured by PostgreSQL, a pay's by its own
process, each at the time of the same statement, and where the statement's length leaves it open the pay counts as the
earlier one. A pay counts as received at the last beat but one (`Heartbeat`): it may have lain unread for as long as the
loop did not turn, so a process that was paused takes what it finds for old. A pay is not decided after its deadline, so
a fence need not be kept longer than any deadline.

Does not know: SQL, protocols, what else a batch does.
"""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any, Final, TypeVar
from typing import Protocol as TypingProtocol

import psycopg2

from adapters.messages import Cancel, Op, Pay, Reason, Result, Status
from billing.database.away import DatabaseAway
from gateway.payments import fence_store
from gateway.payments.driver import Connection, CoreOptions, at_the_edge
from gateway.payments.fence_store import Key
from gateway.payments.records import Command, LoadedState
from gateway.payments.states import State

T = TypeVar("T")

BEAT_S: Final = 0.05
#: Age at which a pay that is not decided is announced. One that is put back because its account is held is at once.
ANNOUNCE_AFTER_S: Final = 0.1
#: Announced pays of one process at most: PostgreSQL's table of locks has room for a few thousand in all. Pays beyond it
#: are guarded by fences alone.
ANNOUNCED_MAX: Final = 200
#: A session with announcements says a word this often; without any it is closed after as long.
WORD_EVERY_S: Final = 5.0
FORGET_EVERY_S: Final = 60.0


def pay_key(command: Command) -> Key | None:
    """The key of a partner's pay; None of anything else."""
    if isinstance(command.request, Pay) and command.terms is not None:
        return command.terms.contract.partner_id, command.request.key
    return None


def is_fenced(loaded: LoadedState, key: Key, pay_age_s: float, fence_age_s: float | None) -> bool:
    """Whether a pay came before its key's fence while nothing of the key is credited."""
    if fence_age_s is None or pay_age_s < fence_age_s:
        return False
    known = loaded.payments.get(key)
    return known is None or known.state is State.REFUSED


def key_to_fence(loaded: LoadedState, command: Command, result: Result) -> Key | None:
    """The key of which ``result`` says that nothing is credited; None where it says something else."""
    request = command.request
    if not isinstance(request, Cancel | Status) or request.key is None or command.terms is None:
        return None
    if result.reason is Reason.IN_PROGRESS:
        return None
    key = (command.terms.contract.partner_id, request.key)
    known = loaded.payments.get(key)
    return key if known is None or known.state is State.REFUSED else None


def answer_in_work(command: Command) -> Result:
    """The answer to a question about a key whose pay is in work."""
    request = command.request
    if isinstance(request, Cancel):
        return Result(Op.CANCEL, Reason.IN_PROGRESS, key=request.key, cancel_key=request.cancel_key)
    assert isinstance(request, Status)
    return Result(Op.STATUS, Reason.IN_PROGRESS, key=request.key)


class Heartbeat:
    """When the loop turned last, and the time before: what is read now may have come since then."""

    def __init__(self) -> None:
        self._beats = (0.0, 0.0)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Beat on the running loop."""
        now = asyncio.get_running_loop().time()
        self._beats = (now, now)
        self._beat()

    def stop(self) -> None:
        """Beat no more."""
        if self._timer is not None:
            self._timer.cancel()

    @property
    def unread_since(self) -> float:
        """Loop time: what is submitted now had not reached this process before."""
        return self._beats[0]

    def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        self._beats = (self._beats[1], loop.time())
        self._timer = loop.call_later(BEAT_S, self._beat)


class AnyPay(TypingProtocol):
    """A pay on its way to a decision, compared by identity.

    submitted: loop time. key_in_work: its key until it is decided, then None.
    """

    @property
    def submitted(self) -> float: ...

    @property
    def key_in_work(self) -> Key | None: ...


class Announcer:
    """Holds the keys of pays that wait, in a session of its own.

    has_fences: this process has fenced keys since old fences were last deleted.
    """

    def __init__(self, options: CoreOptions) -> None:
        self._connection = Connection(options, idle_session_s=options.idle_session_s)
        self._young: deque[AnyPay] = deque()
        self._due: dict[AnyPay, Key] = {}
        self._held: dict[AnyPay, Key] = {}
        self._last_word = 0.0
        self._forgotten_at = 0.0
        self.has_fences = False

    def remember(self, pay: AnyPay) -> None:
        """A pay that came: announce it if it is not decided when it is ANNOUNCE_AFTER_S old."""
        self._young.append(pay)

    def announce(self, pay: AnyPay) -> None:
        """A pay that will wait: announce it at the next beat."""
        if pay.key_in_work is not None and pay not in self._held:
            self._due[pay] = pay.key_in_work

    async def run(self, _: str) -> None:
        """Announce and withdraw until cancelled."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await asyncio.sleep(BEAT_S)
                with contextlib.suppress(DatabaseAway, psycopg2.Error):
                    await self._turn(loop.time())
        finally:
            await self._connection.discard()

    async def _turn(self, now: float) -> None:
        while self._young:
            pay = self._young[0]
            if pay.key_in_work is not None:
                if now - pay.submitted < ANNOUNCE_AFTER_S:
                    break
                self.announce(pay)
            self._young.popleft()
        self._due = {pay: key for pay, key in self._due.items() if pay.key_in_work is not None}
        try:
            if self._held and not self._connection.is_open:  # a session that ended took every lock with it
                self._give_up()
            await self._keep(now)
        except (DatabaseAway, psycopg2.Error):
            await self._connection.discard()
            self._give_up()
            raise

    async def _keep(self, now: float) -> None:
        decided = [pay for pay in self._held if pay.key_in_work is None]
        if decided:
            await self._withdraw(decided, now)
        due = list(islice(self._due.items(), max(ANNOUNCED_MAX - len(self._held), 0)))
        if due:
            await self._announce(due, now)
        if self.has_fences and now - self._forgotten_at > FORGET_EVERY_S:
            self.has_fences, self._forgotten_at = False, now
            await self._ask(fence_store.forget_fences, now)
        if now - self._last_word > WORD_EVERY_S:
            if self._held:
                await self._ask(fence_store.ping, now)
            else:
                await self._connection.discard()

    async def _announce(self, pays: list[tuple[AnyPay, Key]], now: float) -> None:
        keys = [key for _, key in pays]
        held = Counter(await self._ask(lambda cur: fence_store.announce_keys(cur, keys), now))
        for pay, key in pays:
            if held[key] > 0:
                held[key] -= 1
                self._held[pay] = key
                self._due.pop(pay, None)

    async def _withdraw(self, pays: list[AnyPay], now: float) -> None:
        keys = [self._held[pay] for pay in pays]
        await self._ask(lambda cur: fence_store.withdraw_keys(cur, keys), now)
        for pay in pays:
            self._held.pop(pay)

    async def _ask(self, work: Callable[[Any], Awaitable[T]], now: float) -> T:
        self._last_word = now
        return await at_the_edge(self._connection, work)

    def _give_up(self) -> None:
        self._due.update(self._held)
        self._held.clear()
