"""What tests of deliveries share: a moved clock, kinds, a receiver that plays by a script, and one round of work.

``Stage`` does the engine's three transactions one after the other, so a test decides what happens when and what time it
is. The receiver keeps what it has by id, as one that knows repeats does.
"""

import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import aiopg

from billing.work.deliveries import work
from billing.work.deliveries.ladder import Ladder
from billing.work.deliveries.policies import Policies
from billing.work.deliveries.queue import enqueue
from billing.work.deliveries.records import (
    Delivery,
    DeliveryAction,
    DeliveryAttempt,
    DeliveryKind,
    DeliveryOutcome,
    DeliveryPolicy,
    NewDelivery,
    Verdict,
)
from billing.work.deliveries.store import AttemptResult
from billing.work.deliveries.work import Claimed

START = datetime(2027, 3, 1, 10, 0, tzinfo=UTC)
#: Waits without jitter, so that times can be written down.
PLAIN = Ladder((60, 120, 300), 600, 3_600, jitter_percent=0)
POLICY = DeliveryPolicy(PLAIN, time_out_s=10, concurrency=100)

HARMLESS = DeliveryKind("harmless", POLICY, repeat_is_harmless=True)
ASKED = DeliveryKind("asked", POLICY, has_status=True)
ONCE = DeliveryKind("once", POLICY)
RECEIPTED = DeliveryKind("receipted", POLICY, receipt_wait_s=1_000)
KINDS = {kind.name: kind for kind in (HARMLESS, ASKED, ONCE, RECEIPTED)}

ACCEPTED = DeliveryOutcome(Verdict.ACCEPTED, code="200")
BUSY = DeliveryOutcome(Verdict.TEMPORARY, code="503", reason="busy")
UNREACHED = DeliveryOutcome(Verdict.TEMPORARY, reason="connection refused", is_transport=True)
REFUSED = DeliveryOutcome(Verdict.REFUSED, code="400", reason="never")
SILENT = DeliveryOutcome(Verdict.SILENT, reason="no answer")
MISSING = DeliveryOutcome(Verdict.MISSING)

Answer = Callable[[Delivery, DeliveryAttempt], DeliveryOutcome]


@dataclass
class Stage:
    """A moved clock and one host's rounds of work on a cursor that commits each of them."""

    cur: Any
    kinds: Mapping[str, DeliveryKind] = field(default_factory=lambda: KINDS)
    host: str = "host-1"
    now: datetime = START
    margin_s: float = 5.0
    policies: Policies = field(init=False)
    sent: list[tuple[datetime, str, DeliveryAction]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.policies = Policies(self.kinds)

    def pass_s(self, seconds: float) -> None:
        """Move the clock."""
        self.now += timedelta(seconds=seconds)

    async def queue(self, kind: str, key: str, recipient: str = "there", **more: Any) -> int:
        """Queue a delivery that is due by this clock."""
        values = {"payload": key.encode(), "due": self.now, **more}
        return await enqueue(self.cur, NewDelivery(kind, key, recipient, **values))

    async def claim(self, free: int = 100, kinds: Any = None) -> list[Claimed]:
        """Take what is due; whoever is given it has committed that it is sent."""
        async with self._transaction():
            return await work.claim(
                self.cur, self.policies, kinds or self.kinds, self.host, self.now, free, self.margin_s
            )

    async def settle(self, *results: tuple[Claimed, DeliveryOutcome]) -> None:
        """Write outcomes."""
        told = [
            AttemptResult(c.delivery.id, c.attempt.no, outcome, 1, (c.delivery.kind, c.delivery.recipient))
            for c, outcome in results
        ]
        async with self._transaction():
            await work.settle(self.cur, self.policies, told, self.now)

    async def round(self, answer: Answer | DeliveryOutcome, free: int = 100) -> int:
        """Claim, let the receiver answer, settle; how many attempts."""
        claimed = await self.claim(free)
        results = []
        for one in claimed:
            self.sent.append((self.now, one.delivery.key, one.attempt.action))
            outcome = answer if isinstance(answer, DeliveryOutcome) else answer(one.delivery, one.attempt)
            results.append((one, outcome))
        await self.settle(*results)
        return len(claimed)

    async def look_after(self) -> int:
        """Leases, receipts, orders."""
        async with self._transaction():
            return await work.look_after(self.cur, self.policies, self.now)

    async def next_due(self) -> datetime | None:
        """When the engine has something to do next, or None."""
        await self.cur.execute(
            "SELECT min(greatest(d.due_at, r.breaker_until, r.paused_until)) FROM deliveries d "
            "JOIN delivery_recipients r USING (kind, recipient) "
            "WHERE d.state IN ('waiting', 'unknown', 'sending', 'accepted') AND NOT d.is_blocked AND NOT r.is_held"
        )
        return (await self.cur.fetchone())[0]

    async def run(self, answer: Answer | DeliveryOutcome, most: int = 1_000) -> None:
        """Move the clock from one due time to the next until nothing is left to do."""
        for _ in range(most):
            due = await self.next_due()
            if due is None:
                return
            self.now = max(self.now, due)
            await self.look_after()
            await self.round(answer)
        raise AssertionError(f"not done after {most} rounds")

    async def states(self) -> dict[str, str]:
        """State by key."""
        await self.cur.execute("SELECT key, state FROM deliveries ORDER BY id")
        return dict(await self.cur.fetchall())

    async def value(self, statement: str, *values: Any) -> Any:
        """The first value of a statement."""
        await self.cur.execute(statement, values or None)
        row = await self.cur.fetchone()
        return row[0] if row else None

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncIterator[None]:
        await self.cur.execute("BEGIN")
        try:
            yield
        except BaseException:
            await self.cur.execute("ROLLBACK")
            raise
        await self.cur.execute("COMMIT")


@contextlib.asynccontextmanager
async def staged(dsn: str, **more: Any) -> AsyncIterator[Stage]:
    """A stage on a connection of its own."""
    async with aiopg.connect(dsn, options="-c timezone=UTC") as connection, connection.cursor() as cur:
        yield Stage(cur, **more)


@dataclass
class KnowingReceiver:
    """A receiver that knows repeats by key; its answers come from a script, one a call, then ``then``."""

    script: list[Any] = field(default_factory=list)
    then: DeliveryOutcome = ACCEPTED
    had: Counter[str] = field(default_factory=Counter)
    calls: list[tuple[str, DeliveryAction]] = field(default_factory=list)

    def __call__(self, delivery: Delivery, attempt: DeliveryAttempt) -> DeliveryOutcome:
        self.calls.append((delivery.key, attempt.action))
        outcome: DeliveryOutcome = self.script.pop(0) if self.script else self.then
        if attempt.action is DeliveryAction.SEND and outcome.verdict in (Verdict.ACCEPTED, Verdict.SILENT):
            self.had[delivery.key] += 1
        return outcome
