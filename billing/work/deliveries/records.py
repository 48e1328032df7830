"""Records of the delivery engine, and the interface of a channel.

Rules. A kind says what may be done with its deliveries; a policy, which is data, says how often and how many. A channel
sends: it gets a delivery as it stands, touches the network, and says what became of it. It raises nothing for what a
receiver does: refusal, delay and silence are outcomes. What it tells of requests and replies is masked by it and cut by
the engine.

Does not know: rows, decisions (billing.work.deliveries.decide), networks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Protocol

from billing.refusals import Refusal
from billing.work.deliveries.ladder import STANDARD_LADDER, Ladder

KEY_MAX: Final = 200
PAYLOAD_MAX_BYTES: Final = 1 << 20
#: Characters kept of a request, and of a reply.
LOG_MAX: Final = 4_000


class DeliveryRefused(Refusal):
    """A clear sentence on why nothing is queued or changed."""

    default_code = "delivery_refused"


class DeliveryState(StrEnum):
    """Where a delivery stands; each word is also the word in the column, the URL and the page."""

    WAITING = "waiting"
    SENDING = "sending"
    UNKNOWN = "unknown"
    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    REFUSED = "refused"
    MANUAL = "manual"
    ABANDONED = "abandoned"


#: States in which a delivery is not done: it holds back those behind it in its order.
OPEN: Final = frozenset(DeliveryState) - {DeliveryState.DELIVERED, DeliveryState.REFUSED, DeliveryState.ABANDONED}


class Verdict(StrEnum):
    """What a receiver's answer means.

    accepted: it has the delivery. delivered: a receipt or a status says that the end has it. refused: never.
    temporary: not now, and it does not have it. missing: asked for the status, it says that it never had it.
    silent: no answer, and it may have it.
    """

    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    REFUSED = "refused"
    TEMPORARY = "temporary"
    MISSING = "missing"
    SILENT = "silent"


class DeliveryAction(StrEnum):
    """What an attempt does."""

    SEND = "send"
    ASK = "ask"


@dataclass(frozen=True, slots=True)
class DeliveryOutcome:
    """What became of one attempt, or what a receipt says.

    code: the receiver's own, for the log. reason: a sentence for people. retry_after_s: the receiver asks to wait.
    is_transport: it was not reached, or broke off: the breaker counts it. pause_s: leave this recipient alone so long.
    stop: a reason to hold the recipient's whole queue until a person lets it go (wrong password, endpoint gone).
    references: the receiver's ids of it, under which receipts come; one for each part. request, reply: masked.
    """

    verdict: Verdict
    code: str = ""
    reason: str = ""
    retry_after_s: float | None = None
    is_transport: bool = False
    pause_s: float | None = None
    stop: str = ""
    references: tuple[str, ...] = ()
    request: str = ""
    reply: str = ""


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """How a kind's deliveries go to one recipient.

    time_out_s: of one attempt. concurrency: attempts at once, over all hosts. per_minute: attempts begun in a minute,
    over all hosts; None: no limit. breaker_failures, breaker_hold_s: billing.work.deliveries.breaker.
    hold_after_s: a recipient that failed for so long without one success is held for a person; None: never.
    """

    ladder: Ladder = STANDARD_LADDER
    time_out_s: int = 30
    concurrency: int = 8
    per_minute: int | None = None
    breaker_failures: int = 5
    breaker_hold_s: int = 60
    hold_after_s: int | None = None


@dataclass(frozen=True, slots=True)
class DeliveryKind:
    """What may be done with deliveries of a kind.

    repeat_is_harmless: the receiver knows a repeat by its id, so after silence it is sent again; else a person decides.
    has_status: the receiver can be asked; after silence it is asked first. receipt_wait_s: acceptance is not the end,
    a receipt comes within so many seconds; None: acceptance is the end. receipt_is_needed: without a receipt a person
    decides; else the delivery counts as delivered, and says that no receipt came.
    """

    name: str
    policy: DeliveryPolicy = field(default_factory=DeliveryPolicy)
    repeat_is_harmless: bool = False
    has_status: bool = False
    receipt_wait_s: int | None = None
    receipt_is_needed: bool = False


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """What is to be sent. recipient: the system that is spoken to (an endpoint, a mail server), the unit of queues,
    breakers and limits. address: whom it reaches there (a mail address, a number), for people to find it by.

    order_key: deliveries of a recipient with the same one go one after the other; "" for no order. subject: a line for
    people. headers: what the channel needs beside the payload. due: not before; None: at once.
    """

    kind: str
    key: str
    recipient: str
    payload: bytes
    subject: str = ""
    address: str = ""
    order_key: str = ""
    headers: Mapping[str, Any] = field(default_factory=dict)
    due: datetime | None = None
    asked_by: str = "system"


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery as a channel and a decision get it. attempts: begun so far, this one included; also its fence.

    step: attempts of the present ladder; resending begins a new one. first_at: when its first attempt began.
    attempt_at: when the last attempt began.
    """

    id: int
    kind: str
    key: str
    recipient: str
    address: str
    subject: str
    order_key: str
    headers: Mapping[str, Any]
    payload: bytes
    state: DeliveryState
    attempts: int
    step: int
    first_at: datetime | None
    attempt_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """An attempt under way. no: counts from 1. at: when it began, by the engine's clock. time_out_s: the longest."""

    no: int
    action: DeliveryAction
    at: datetime
    time_out_s: float


class Channel(Protocol):
    """What sends deliveries of one kind. Many calls run at once; cancelling one is silence.

    One whose kind has a status is an `AskingChannel`.
    """

    async def send(self, delivery: Delivery, attempt: DeliveryAttempt) -> DeliveryOutcome:
        """Send it once."""
        ...


class AskingChannel(Channel, Protocol):
    """A channel that can ask what became of a delivery."""

    async def status(self, delivery: Delivery, attempt: DeliveryAttempt) -> DeliveryOutcome:
        """Ask once: accepted, delivered, refused, missing (it never had it), temporary (in work) or silent."""
        ...
