"""The life of a delivery as one table, and what each thing that happens makes of it.

Rules.
 1. Every change of a delivery's state is an event in the table; what is not in it cannot happen.
 2. SENT is written before anything is sent, so a delivery whose sender died stands as sending, and its lease ends in
    silence.
 3. Silence is not refusal. After it a kind with a status is asked first and sent again only when the receiver never had
    it; a kind whose repeat is harmless is sent again with the same id; of any other a person decides.
 4. An acceptance counts whenever it comes, also from an attempt that was given up. Nothing else does when it is late.
    One that comes after a refusal contradicts it: a person looks at both.
 5. When its time is over (the ladder ends) a delivery goes to a person. It is never dropped.
 6. What is done stays done: only a person sends it again.

Does not know: rows, clocks, networks.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from billing.work.deliveries.ladder import next_due
from billing.work.deliveries.records import (
    OPEN,
    Delivery,
    DeliveryAction,
    DeliveryKind,
    DeliveryOutcome,
    DeliveryPolicy,
    DeliveryRefused,
    DeliveryState,
    Verdict,
)


class DeliveryEvent(StrEnum):
    """What can happen to a delivery."""

    SEND = "send"
    ASK = "ask"
    ACCEPT = "accept"
    TAKE = "take"
    REFUSE = "refuse"
    DELAY = "delay"
    SILENCE = "silence"
    MISS = "miss"
    RECALL = "recall"
    DOUBT = "doubt"
    STOP = "stop"
    PUSH = "push"
    RESEND = "resend"
    SETTLE = "settle"
    GIVE_UP = "give_up"
    CONTRADICT = "contradict"


_S = DeliveryState
_E = DeliveryEvent

#: (state, event) -> state. `recall`: the host never sent what it marked as sent. `doubt`: no receipt came in time.
TABLE: Final[dict[tuple[DeliveryState, DeliveryEvent], DeliveryState]] = {
    (_S.WAITING, _E.SEND): _S.SENDING,
    (_S.WAITING, _E.ACCEPT): _S.DELIVERED,  # late
    (_S.WAITING, _E.TAKE): _S.ACCEPTED,  # late
    (_S.WAITING, _E.STOP): _S.MANUAL,
    (_S.WAITING, _E.PUSH): _S.WAITING,
    (_S.WAITING, _E.GIVE_UP): _S.ABANDONED,
    (_S.SENDING, _E.ACCEPT): _S.DELIVERED,
    (_S.SENDING, _E.TAKE): _S.ACCEPTED,
    (_S.SENDING, _E.REFUSE): _S.REFUSED,
    (_S.SENDING, _E.DELAY): _S.WAITING,
    (_S.SENDING, _E.SILENCE): _S.UNKNOWN,
    (_S.SENDING, _E.RECALL): _S.WAITING,
    (_S.SENDING, _E.STOP): _S.MANUAL,
    (_S.UNKNOWN, _E.ASK): _S.UNKNOWN,
    (_S.UNKNOWN, _E.SEND): _S.SENDING,
    (_S.UNKNOWN, _E.ACCEPT): _S.DELIVERED,
    (_S.UNKNOWN, _E.TAKE): _S.ACCEPTED,
    (_S.UNKNOWN, _E.REFUSE): _S.REFUSED,
    (_S.UNKNOWN, _E.DELAY): _S.UNKNOWN,
    (_S.UNKNOWN, _E.SILENCE): _S.UNKNOWN,
    (_S.UNKNOWN, _E.MISS): _S.WAITING,
    (_S.UNKNOWN, _E.STOP): _S.MANUAL,
    (_S.UNKNOWN, _E.PUSH): _S.UNKNOWN,
    (_S.UNKNOWN, _E.SETTLE): _S.DELIVERED,
    (_S.UNKNOWN, _E.GIVE_UP): _S.ABANDONED,
    (_S.ACCEPTED, _E.ACCEPT): _S.DELIVERED,
    (_S.ACCEPTED, _E.REFUSE): _S.REFUSED,
    (_S.ACCEPTED, _E.DOUBT): _S.UNKNOWN,
    (_S.ACCEPTED, _E.STOP): _S.MANUAL,
    (_S.ACCEPTED, _E.SETTLE): _S.DELIVERED,
    (_S.ACCEPTED, _E.GIVE_UP): _S.ABANDONED,
    (_S.MANUAL, _E.ACCEPT): _S.DELIVERED,  # late
    (_S.MANUAL, _E.TAKE): _S.ACCEPTED,  # late
    (_S.MANUAL, _E.REFUSE): _S.REFUSED,  # a late receipt
    (_S.MANUAL, _E.RESEND): _S.WAITING,
    (_S.MANUAL, _E.SETTLE): _S.DELIVERED,
    (_S.MANUAL, _E.GIVE_UP): _S.ABANDONED,
    (_S.DELIVERED, _E.RESEND): _S.WAITING,
    (_S.REFUSED, _E.RESEND): _S.WAITING,
    (_S.REFUSED, _E.CONTRADICT): _S.MANUAL,
    (_S.ABANDONED, _E.RESEND): _S.WAITING,
}


class ImpossibleDeliveryEvent(Exception):
    """Our own mistake: an event that the table does not have in this state."""


class Reason(StrEnum):
    """Why a delivery stands where it stands; pages word it."""

    NONE = ""
    TEMPORARY = "temporary"
    SILENCE = "silence"
    MISSING = "missing"
    RECALLED = "recalled"
    REFUSED = "refused"
    STOPPED = "stopped"
    NO_RECEIPT = "no_receipt"
    PUSHED = "pushed"
    RESENT = "resent"
    SETTLED = "settled"
    GIVEN_UP = "given_up"
    CONTRADICTION = "contradiction"


@dataclass(frozen=True, slots=True)
class DeliveryChange:
    """What becomes of a delivery. due: when it is looked at next; None: never, it is done or a person's.

    reason, detail: why, as a code and as the receiver's sentence. begins_anew: its ladder begins from the first step.
    """

    state: DeliveryState
    due: datetime | None
    reason: Reason
    detail: str = ""
    begins_anew: bool = False

    def frees(self, before: DeliveryState) -> bool:
        """Whether those behind it in its order may go now."""
        return before in OPEN and self.state not in OPEN

    def blocks(self, before: DeliveryState) -> bool:
        """Whether it stands in its order again."""
        return before not in OPEN and self.state in OPEN


def after(state: DeliveryState, event: DeliveryEvent) -> DeliveryState:
    """The state after an event.

    Raises:
        ImpossibleDeliveryEvent: the table has no such row.
    """
    found = TABLE.get((state, event))
    if found is None:
        raise ImpossibleDeliveryEvent(f"no {event.value} of a delivery that is {state.value}")
    return found


def action_of(kind: DeliveryKind, state: DeliveryState) -> DeliveryAction:
    """What the next attempt of a delivery that is due does (rule 3)."""
    return DeliveryAction.ASK if state is _S.UNKNOWN and kind.has_status else DeliveryAction.SEND


def begin(state: DeliveryState, action: DeliveryAction) -> DeliveryState:
    """The state while an attempt is under way."""
    return after(state, _E.SEND if action is DeliveryAction.SEND else _E.ASK)


def after_outcome(
    delivery: Delivery,
    attempt_no: int,
    outcome: DeliveryOutcome,
    kind: DeliveryKind,
    policy: DeliveryPolicy,
    now: datetime,
) -> DeliveryChange | None:
    """What an attempt's outcome makes of a delivery; None: it is late and changes nothing (rule 4).

    delivery: as it stands now, which may be after another host took it over.
    """
    state = delivery.state
    if outcome.verdict in (Verdict.ACCEPTED, Verdict.DELIVERED):
        return _accepted(delivery, outcome, kind, now)
    if attempt_no != delivery.attempts or state not in (_S.SENDING, _S.UNKNOWN):
        return None
    detail = outcome.reason
    if outcome.verdict is Verdict.REFUSED:
        return DeliveryChange(after(state, _E.REFUSE), None, Reason.REFUSED, detail)
    if outcome.verdict is Verdict.MISSING:
        if state is not _S.UNKNOWN:  # a channel's mistake: what is being sent was not asked about
            return _silence(delivery, detail, kind, policy, now)
        return _or_stop(delivery, DeliveryChange(after(state, _E.MISS), now, Reason.MISSING, detail), policy, now)
    if outcome.verdict is Verdict.SILENT:
        return _silence(delivery, detail, kind, policy, now)
    due = _due(delivery, policy, now, outcome.retry_after_s)
    if due is None:
        return DeliveryChange(after(state, _E.STOP), None, Reason.STOPPED, detail)
    return DeliveryChange(after(state, _E.DELAY), due, Reason.TEMPORARY, detail)


def after_lease(delivery: Delivery, kind: DeliveryKind, policy: DeliveryPolicy, now: datetime) -> DeliveryChange:
    """The sender of a delivery that is sending said nothing until its lease ended: it may have died (rule 2)."""
    assert delivery.state is _S.SENDING
    return _silence(delivery, "its sender ended before it told what became of it", kind, policy, now)


def after_recall(delivery: Delivery, now: datetime) -> DeliveryChange:
    """Its host is sure that it was never sent."""
    return DeliveryChange(after(delivery.state, _E.RECALL), now, Reason.RECALLED)


def after_receipt_wait(delivery: Delivery, kind: DeliveryKind, policy: DeliveryPolicy, now: datetime) -> DeliveryChange:
    """No receipt came in time."""
    assert delivery.state is _S.ACCEPTED
    in_time = delivery.first_at is None or now <= delivery.first_at + timedelta(seconds=policy.ladder.stop_s)
    if kind.has_status and in_time:
        return DeliveryChange(after(delivery.state, _E.DOUBT), now, Reason.NO_RECEIPT)
    event = _E.STOP if kind.receipt_is_needed or kind.has_status else _E.ACCEPT
    return DeliveryChange(after(delivery.state, event), None, Reason.NO_RECEIPT)


def after_receipt(delivery: Delivery, outcome: DeliveryOutcome) -> DeliveryChange | None:
    """What a receipt makes of a delivery; None: nothing. Only final words count: delivered or refused."""
    if outcome.verdict is Verdict.DELIVERED:
        event, reason = _E.ACCEPT, Reason.NONE
    elif outcome.verdict is Verdict.REFUSED:
        event, reason = _E.REFUSE, Reason.REFUSED
    else:
        return None
    state = TABLE.get((delivery.state, event))
    return None if state is None else DeliveryChange(state, None, reason, outcome.reason)


def asked_by_person(delivery: Delivery, event: DeliveryEvent, why: str, now: datetime) -> DeliveryChange:
    """What a person's push, resend, settle or give_up makes of a delivery.

    Raises:
        DeliveryRefused: it stands where that cannot be asked for; the sentence says what can.
    """
    state = TABLE.get((delivery.state, event))
    if state is None:
        raise DeliveryRefused(
            f"delivery {delivery.id} is {delivery.state.value}: {_INSTEAD[event]}",
            code=f"delivery_{event.value}_impossible",
            delivery=delivery.id,
            state=delivery.state.value,
        )
    reasons = {_E.PUSH: Reason.PUSHED, _E.RESEND: Reason.RESENT, _E.SETTLE: Reason.SETTLED}
    due = now if event in (_E.PUSH, _E.RESEND) else None
    return DeliveryChange(state, due, reasons.get(event, Reason.GIVEN_UP), why, begins_anew=event is _E.RESEND)


_INSTEAD: Final = {
    _E.PUSH: "only one that waits can be pushed; `resend` sends one again that is done or waits for a person",
    _E.RESEND: "it is under way; wait for it, or push it",
    _E.SETTLE: "only one whose outcome is not known can be marked as delivered",
    _E.GIVE_UP: "it is done, or being sent at this moment",
}


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> waiting"]
    lines += [f"    {state.value} --> {then.value}: {event.value}" for (state, event), then in TABLE.items()]
    return "\n".join(lines) + "\n"


def _accepted(delivery: Delivery, outcome: DeliveryOutcome, kind: DeliveryKind, now: datetime) -> DeliveryChange | None:
    if delivery.state is _S.REFUSED:
        return DeliveryChange(after(delivery.state, _E.CONTRADICT), None, Reason.CONTRADICTION, outcome.reason)
    awaits = kind.receipt_wait_s is not None and outcome.verdict is Verdict.ACCEPTED
    state = TABLE.get((delivery.state, _E.TAKE if awaits else _E.ACCEPT))
    if state is None:
        return None
    due = now + timedelta(seconds=kind.receipt_wait_s) if awaits and kind.receipt_wait_s is not None else None
    return DeliveryChange(state, due, Reason.NONE, outcome.reason)


def _silence(
    delivery: Delivery, detail: str, kind: DeliveryKind, policy: DeliveryPolicy, now: datetime
) -> DeliveryChange:
    state = after(delivery.state, _E.SILENCE)
    if not (kind.has_status or kind.repeat_is_harmless):
        return DeliveryChange(after(state, _E.STOP), None, Reason.SILENCE, detail)
    due = _due(delivery, policy, now, None)
    if due is None:
        return DeliveryChange(after(state, _E.STOP), None, Reason.STOPPED, detail)
    return DeliveryChange(state, due, Reason.SILENCE, detail)


def _or_stop(delivery: Delivery, change: DeliveryChange, policy: DeliveryPolicy, now: datetime) -> DeliveryChange:
    """The change, or a person where the delivery's time is over."""
    first = delivery.first_at or now
    if change.due is not None and change.due > first + timedelta(seconds=policy.ladder.stop_s):
        return DeliveryChange(after(change.state, _E.STOP), None, Reason.STOPPED, change.detail)
    return change


def _due(delivery: Delivery, policy: DeliveryPolicy, now: datetime, retry_after_s: float | None) -> datetime | None:
    tried = delivery.attempt_at or now
    return next_due(
        policy.ladder,
        max(delivery.step, 1),
        f"{delivery.kind}:{delivery.key}",
        first_at=delivery.first_at or tried,
        tried_at=tried,
        now=now,
        retry_after_s=retry_after_s,
    )
