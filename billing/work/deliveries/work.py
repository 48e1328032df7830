"""The three transactions of the engine: take what is due, write what became of it, look after what nobody tells of.

Rules. Each is load, decide, write, in the caller's transaction. What is taken is marked as sent and committed before
anything is sent. A recipient's row is held while work is taken from its queue, so its limits, its order and the one
probe of its breaker hold over all hosts.

Does not know: channels, loops, connections.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import ceil
from typing import Final

from billing.database.cursors import Cursor
from billing.work.deliveries import receipt_store, store
from billing.work.deliveries.breaker import Breaker, after_results, is_held, probe_only, probing
from billing.work.deliveries.decide import (
    DeliveryChange,
    action_of,
    after_lease,
    after_outcome,
    after_recall,
    after_receipt_wait,
    begin,
)
from billing.work.deliveries.policies import Policies
from billing.work.deliveries.records import (
    Delivery,
    DeliveryAttempt,
    DeliveryOutcome,
    DeliveryState,
    Verdict,
)
from billing.work.deliveries.store import AttemptResult, ReadyQueue

#: Queues looked at in one go, and overdue deliveries.
QUEUES_MAX: Final = 200
OVERDUE_MAX: Final = 500
#: How much of a minute's limit may go at once after a pause.
BURST_S: Final = 1.0

_FAILED: Final = (Verdict.TEMPORARY, Verdict.SILENT)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery marked as sent, for the caller to send after the commit."""

    delivery: Delivery
    attempt: DeliveryAttempt


async def claim(
    cur: Cursor, policies: Policies, kinds: Iterable[str], host: str, now: datetime, free: int, margin_s: float
) -> list[Claimed]:
    """Take up to ``free`` deliveries that are due.

    kinds: those that can be sent here. margin_s: how long after its time-out an attempt may still be told of.
    """
    queues = await store.hold_ready_queues(cur, kinds, now, min(free, QUEUES_MAX))
    rooms = shared_rooms(queues, policies, now, free)
    if not rooms:
        return []
    deliveries = await store.take(cur, rooms, now)
    claimed, begun = [], []
    for delivery in deliveries:
        kind = policies.kinds[delivery.kind]
        policy = policies.of(delivery.kind, delivery.recipient)
        action = action_of(kind, delivery.state)
        state = begin(delivery.state, action)
        attempt = DeliveryAttempt(delivery.attempts + 1, action, now, policy.time_out_s)
        begun.append((delivery.id, state, action, now + timedelta(seconds=policy.time_out_s + margin_s)))
        sent = replace(
            delivery,
            state=state,
            attempts=attempt.no,
            step=delivery.step + 1,
            first_at=delivery.first_at or now,
            attempt_at=now,
        )
        claimed.append(Claimed(sent, attempt))
    unheard = [delivery for delivery in deliveries if delivery.state is DeliveryState.UNKNOWN]
    if unheard:  # a host that died while it asked leaves no other trace
        await store.tell_unheard(cur, unheard)
    await _set_paces(cur, queues, deliveries, policies, now, margin_s)
    if begun:
        await store.begin_attempts(cur, begun, host, now)
    return claimed


async def settle(cur: Cursor, policies: Policies, results: Sequence[AttemptResult], now: datetime) -> None:
    """Write what became of attempts."""
    batch: dict[int, AttemptResult] = {}
    later = []
    for result in results:
        if result.delivery_id in batch:
            later.append(result)
        else:
            batch[result.delivery_id] = result
    failed = [result.recipient for result in batch.values() if is_trouble(result.outcome)]
    breakers = await store.hold_recipients(cur, [result.recipient for result in batch.values()], failed)
    standing = await store.hold_deliveries(cur, batch)
    changes, told = [], []
    for delivery_id, result in batch.items():
        delivery = standing.get(delivery_id)
        if delivery is None:
            continue
        kind = policies.kinds[delivery.kind]
        policy = policies.of(delivery.kind, delivery.recipient)
        change = after_outcome(delivery, result.no, result.outcome, kind, policy, now)
        told.append((result, change is None or result.no != delivery.attempts))
        if change is not None:
            changes.append((delivery, change))
        if result.outcome.references:
            await store.insert_references(cur, result)
    await store.change_deliveries(cur, changes, now)
    await store.tell_attempts(cur, told)
    for queue, breaker in breakers.items():
        await _set_recipient(cur, queue, breaker, [r for r in batch.values() if r.recipient == queue], policies, now)
    if later:
        await settle(cur, policies, later, now)


async def recall(cur: Cursor, host: str, under_way: Iterable[int], now: datetime) -> int:
    """Take back what this host marked as sent and never sent: the commit of a claim was lost. Returns how many."""
    deliveries = await store.own_deliveries(cur, host, under_way)
    if deliveries:
        await store.change_deliveries(cur, [(delivery, after_recall(delivery, now)) for delivery in deliveries], now)
        await store.tell_recalled(cur, deliveries)
    return len(deliveries)


async def look_after(cur: Cursor, policies: Policies, now: datetime) -> int:
    """Leases that ended, receipts that came early or not at all, orders that nobody frees. Returns how many changed."""
    changes: list[tuple[Delivery, DeliveryChange]] = []
    told = []
    for delivery in await store.overdue_deliveries(cur, policies.kinds, now, OVERDUE_MAX):
        kind = policies.kinds[delivery.kind]
        policy = policies.of(delivery.kind, delivery.recipient)
        if delivery.state is DeliveryState.SENDING:
            change = after_lease(delivery, kind, policy, now)
            outcome = DeliveryOutcome(Verdict.SILENT, reason=change.detail)
            queue = (delivery.kind, delivery.recipient)
            told.append((AttemptResult(delivery.id, delivery.attempts, outcome, None, queue), False))
        else:
            change = after_receipt_wait(delivery, kind, policy, now)
        changes.append((delivery, change))
    await store.change_deliveries(cur, changes, now)
    await store.tell_attempts(cur, told)
    matched = await receipt_store.match_receipts(cur, now)
    return len(changes) + matched + await store.free_blocked(cur)


def shared_rooms(
    queues: Sequence[ReadyQueue], policies: Policies, now: datetime, free: int
) -> dict[tuple[str, str], int]:
    """How many deliveries each queue may send now, ``free`` in all, shared evenly. Pure."""
    wanted = {(queue.kind, queue.recipient): _room(queue, policies, now) for queue in queues}
    rooms = {}
    left = len(wanted)
    for name, room in sorted(wanted.items(), key=lambda item: item[1]):
        given = max(min(room, ceil(free / left)), 0)
        if given:
            rooms[name] = given
        free, left = free - given, left - 1
    return rooms


def paced(paced_until: datetime | None, per_minute: int, now: datetime) -> tuple[datetime, int]:
    """(from when the pace counts, attempts that may begin now) under a limit per minute. Pure.

    >>> from datetime import UTC
    >>> now = datetime(2026, 1, 1, tzinfo=UTC)
    >>> paced(None, 120, now)[1], paced(now, 60, now)[1], paced(now + timedelta(seconds=1), 60, now)[1]
    (3, 1, 0)
    """
    earliest = now - timedelta(seconds=BURST_S)
    start = earliest if paced_until is None else max(paced_until, earliest)
    if start > now:
        return start, 0
    return start, int((now - start).total_seconds() * per_minute / 60) + 1


def is_trouble(outcome: DeliveryOutcome) -> bool:
    """Whether an outcome may say something of its recipient, not only of its delivery."""
    return outcome.verdict in _FAILED or bool(outcome.stop) or outcome.pause_s is not None


def _room(queue: ReadyQueue, policies: Policies, now: datetime) -> int:
    policy = policies.of(queue.kind, queue.recipient)
    if is_held(queue.breaker, now):
        return 0
    room = min(policy.concurrency - queue.in_flight, queue.due)
    if probe_only(queue.breaker, policy.breaker_failures):
        room = min(room, 1)
    if policy.per_minute is not None:
        room = min(room, paced(queue.paced_until, policy.per_minute, now)[1])
    return max(room, 0)


async def _set_paces(
    cur: Cursor,
    queues: Iterable[ReadyQueue],
    taken: Iterable[Delivery],
    policies: Policies,
    now: datetime,
    margin_s: float,
) -> None:
    """Write the pace of queues with a limit, and that a probe is under way."""
    counts: dict[tuple[str, str], int] = {}
    for delivery in taken:
        queue_name = (delivery.kind, delivery.recipient)
        counts[queue_name] = counts.get(queue_name, 0) + 1
    for queue in queues:
        count = counts.get((queue.kind, queue.recipient), 0)
        policy = policies.of(queue.kind, queue.recipient)
        is_probe = probe_only(queue.breaker, policy.breaker_failures)
        if not count or not (policy.per_minute or is_probe):
            continue
        paced_until, breaker_until = queue.paced_until, queue.breaker.held_until
        if policy.per_minute is not None:
            start, _ = paced(paced_until, policy.per_minute, now)
            paced_until = start + timedelta(seconds=count * 60 / policy.per_minute)
        if is_probe:
            breaker_until = probing(queue.breaker, now, policy.time_out_s + margin_s).held_until
        await store.set_pace(cur, (queue.kind, queue.recipient), paced_until, breaker_until)


async def _set_recipient(
    cur: Cursor,
    queue: tuple[str, str],
    before: Breaker,
    results: Sequence[AttemptResult],
    policies: Policies,
    now: datetime,
) -> None:
    policy = policies.of(*queue)
    outcomes = [result.outcome for result in results]
    marks = [
        (outcome.verdict not in _FAILED, outcome.is_transport or outcome.verdict is Verdict.SILENT)
        for outcome in outcomes
    ]
    breaker = after_results(before, marks, limit=policy.breaker_failures, hold_s=policy.breaker_hold_s, now=now)
    held_why = next((outcome.stop for outcome in outcomes if outcome.stop), "")
    since = breaker.failing_since
    if not held_why and since and policy.hold_after_s and (now - since).total_seconds() >= policy.hold_after_s:
        held_why = f"it has failed since {since:%Y-%m-%d %H:%M} UTC without one success"
    pauses = [outcome.pause_s for outcome in outcomes if outcome.pause_s is not None]
    paused_until = now + timedelta(seconds=max(pauses)) if pauses else None
    if breaker != before or held_why or paused_until:
        await store.set_recipient(cur, queue, breaker, paused_until, held_why, now)
