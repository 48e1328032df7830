"""The waist: what every partner protocol says, in one set of frozen records.

A protocol module turns ``RawRequest`` into one of the requests below (or a ``DecodeError``) and a ``Result``
into a ``Reply``. The gateway knows these records and nothing of any dialect, so connecting a dialect touches
no gateway code.

Rules. Amounts are Minor. Instants are aware UTC datetimes. A protocol module has, in this order:
``NAME``, ``Dialect``, its code tables, ``decode``, ``encode``, ``scrub``, and its client side (what a partner
would send and read: used by tests, load and our own outgoing calls). See ``Protocol``.

Does not know: HTTP servers, SQL, the state machine.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from typing import Protocol as TypingProtocol

from ratingcore.money import Minor


class Op(StrEnum):
    """The eight operations met across partner protocols."""

    CHECK = "check"
    PAY = "pay"
    CONFIRM = "confirm"
    CANCEL = "cancel"
    STATUS = "status"
    BALANCE = "balance"
    REGISTRY = "registry"
    NOTIFY = "notify"


class Reason(StrEnum):
    """Why a request got its answer; each protocol maps every one of these to a code of its own."""

    OK = "ok"
    DUPLICATE_OK = "duplicate_ok"
    IN_PROGRESS = "in_progress"
    TEMPORARY = "temporary"
    BAD_REQUEST = "bad_request"
    UNKNOWN_VERB = "unknown_verb"
    BAD_SIGNATURE = "bad_signature"
    BAD_SOURCE = "bad_source"
    BAD_SERVICE = "bad_service"
    BAD_ACCOUNT_FORMAT = "bad_account_format"
    ACCOUNT_NOT_FOUND = "account_not_found"
    ACCOUNT_INACTIVE = "account_inactive"
    FORBIDDEN = "forbidden"
    BAD_AMOUNT = "bad_amount"
    AMOUNT_TOO_SMALL = "amount_too_small"
    AMOUNT_TOO_LARGE = "amount_too_large"
    BAD_EXT_ID = "bad_ext_id"
    BAD_DATE = "bad_date"
    BAD_EXTRAS = "bad_extras"
    CONFLICT = "conflict"
    PAYMENT_NOT_FOUND = "payment_not_found"
    ALREADY_CANCELLED = "already_cancelled"
    CANCEL_IMPOSSIBLE = "cancel_impossible"
    OTHER = "other"


#: Answers after which the same request may yet succeed; nothing is settled by them.
TEMPORARY_REASONS: Final = frozenset({Reason.TEMPORARY, Reason.IN_PROGRESS})


@dataclass(frozen=True, slots=True)
class RawRequest:
    """One request as it came over the wire.

    query: the raw, still percent-encoded query string, without the question mark.
    headers: names in lower case; of a repeated header the last value.
    remote_ip: the client's address after trusted proxies were peeled off.
    """

    method: str
    path: str
    query: bytes
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    remote_ip: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """May this account be paid this sum? Reads only; ``key`` is an echo and is never stored."""

    account: str
    service: str = ""
    amount: Minor | None = None
    key: str | None = None
    extras: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pay:
    """Credit ``amount`` to ``account``, once per ``key``.

    partner_time: the payment's time at the partner, UTC; None where the dialect has none.
    """

    key: str
    account: str
    amount: Minor
    service: str = ""
    partner_time: datetime | None = None
    extras: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Confirm:
    """Second phase of a dialect that holds first (E-Port): settle the payment held under ``key``."""

    key: str
    extras: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Cancel:
    """Take a payment back. Named by the partner's ``key`` or by our ``payment_id`` (one of them is set).

    cancel_key: the cancel's own id where the dialect has one (Ibox). amount: where the dialect repeats the sum,
    it must equal the payment's.
    """

    key: str | None = None
    payment_id: int | None = None
    cancel_key: str | None = None
    amount: Minor | None = None
    extras: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Status:
    """What became of a payment? Named as in Cancel."""

    key: str | None = None
    payment_id: int | None = None
    extras: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Balance:
    """The partner's own balance with us, or (Pegas) an account's."""

    account: str | None = None
    extras: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Registry:
    """List the partner's credited payments whose partner time lies in [start, end)."""

    start: datetime
    end: datetime
    extras: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Notify:
    """A push protocol's report that money was taken (ChronoPay, Robokassa): a Pay that was not asked for first.

    kind: the dialect's own word for what happened, canonical in extras.
    """

    key: str
    account: str
    amount: Minor
    kind: str
    service: str = ""
    partner_time: datetime | None = None
    extras: Mapping[str, str] = field(default_factory=dict)


Request = Check | Pay | Confirm | Cancel | Status | Balance | Registry | Notify

OP_OF: Final[Mapping[type, Op]] = {
    Check: Op.CHECK,
    Pay: Op.PAY,
    Confirm: Op.CONFIRM,
    Cancel: Op.CANCEL,
    Status: Op.STATUS,
    Balance: Op.BALANCE,
    Registry: Op.REGISTRY,
    Notify: Op.NOTIFY,
}


@dataclass(frozen=True, slots=True)
class DecodeError:
    """A request that is no request: answered with the protocol's own code, kept as an attempt, changes nothing.

    detail: one English sentence for the list of attempts; never sent to the partner, never holds a secret.
    op, key, account: what could be read before it went wrong, for echo and search.
    is_proven: whether the caller had shown by then that it is the partner; little is kept of others.
    """

    reason: Reason
    detail: str
    op: Op | None = None
    key: str | None = None
    account: str | None = None
    is_proven: bool = False


@dataclass(frozen=True, slots=True)
class RegistryLine:
    """One credited payment in the answer to Registry."""

    key: str
    payment_id: int
    account: str
    amount: Minor
    time: datetime


@dataclass(frozen=True, slots=True)
class Result:
    """The gateway's answer, before a dialect words it. Enough to word it again years later, to the letter.

    payment_id, registered_at: ours; given once, the same on every repeat.
    amount: the credited sum (or, for BALANCE, the balance).
    display: (name, value) pairs for the payer's screen, only as the contract allows.
    comment: overrides the dialect's standard text for the reason.
    """

    op: Op | None
    reason: Reason
    key: str | None = None
    payment_id: int | None = None
    registered_at: datetime | None = None
    amount: Minor | None = None
    account: str | None = None
    cancel_key: str | None = None
    display: tuple[tuple[str, str], ...] = ()
    registry: tuple[RegistryLine, ...] = ()
    comment: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back over the wire. headers holds extra headers besides Content-Type and Content-Length."""

    body: bytes
    content_type: str
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ParsedReply:
    """A reply as the one who asked reads it: the client side of a protocol, the other end of Reply.

    code: the protocol's own. payment_id: the provider's number of the payment.
    date: as written, in the provider's zone. fields: every element by name.
    signed: the bytes the signature covers; sign: the signature in lower-case hex, or None.
    """

    code: int
    payment_id: int | None = None
    date: str | None = None
    amount: Minor | None = None
    message: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    signed: bytes = b""
    sign: str | None = None


@dataclass(frozen=True, slots=True)
class Keys:
    """Key material of one contract at one instant; several may be valid while one is being replaced.

    verify: the partner's public keys (cryptography RSAPublicKey), any of which may have signed a request.
    sign: our private key (RSAPrivateKey) for replies, or None.
    basic: lower-case hex SHA-256 of ``user:password`` (UTF-8), any of which opens HTTP Basic.
    secrets: shared secrets of dialects that concatenate and hash.
    """

    verify: tuple[Any, ...] = ()
    sign: Any = None
    basic: tuple[str, ...] = ()
    secrets: tuple[bytes, ...] = ()


NO_KEYS: Final = Keys()

_ONE_KOPECK: Final = Minor(1)
_FIFTEEN_THOUSAND: Final = Minor(1_500_000)


@dataclass(frozen=True, slots=True)
class Contract:
    """One version of the agreement with a partner: everything that may differ between two partners of one
    protocol. Data, not code; `adapters.protocols.contract_from_json` builds it from the stored JSON.

    services: service codes accepted in the dialect's service field; empty accepts any.
    account_pattern: full-match regular expression (RE2) of account numbers after normalisation.
    date_past_s, date_future_s: how far the partner's time may lie behind or ahead of ours; None switches it off.
    re_examine: refusals that a repeat may overturn: the same payment is looked at again, not answered from memory.
    display: account fields the payer's screen may show: any of "name", "balance".
    cancel_*: whether and when a partner may take a payment back; window is since registration, None is unlimited.
    dialect: the protocol's own settings, a ``Dialect`` of its module.
    """

    partner_id: int
    partner: str
    version: int
    protocol: str
    dialect: Any
    active: bool = True
    currency: str = "RUB"
    time_zone: str = "Europe/Moscow"
    sources: tuple[str, ...] = ()
    services: tuple[str, ...] = ()
    account_pattern: str = r"[0-9A-Za-z._@+-]{1,30}"
    strip_leading_zeros: bool = False
    min_minor: Minor = _ONE_KOPECK
    max_minor: Minor = _FIFTEEN_THOUSAND
    date_past_s: int | None = 30 * 86_400
    date_future_s: int | None = 4 * 3_600
    re_examine: frozenset[Reason] = frozenset({Reason.ACCOUNT_NOT_FOUND, Reason.ACCOUNT_INACTIVE, Reason.FORBIDDEN})
    display: tuple[str, ...] = ()
    cancel_allowed: bool = False
    cancel_window_s: int | None = 86_400
    cancel_needs_balance: bool = True
    cancel_tombstone: bool = False


class Protocol(TypingProtocol):
    """What `adapters.protocols.PROTOCOLS` holds: a module with these names."""

    NAME: str
    Dialect: type[Any]

    def decode(self, raw: RawRequest, contract: Contract, keys: Keys, now: datetime) -> Request | DecodeError:
        """Any bytes to a request or a DecodeError; never raises on input."""

    def encode(self, result: Result, contract: Contract, keys: Keys) -> Reply:
        """Word the result in this dialect, signed where the dialect signs."""

    def scrub(self, raw: RawRequest, contract: Contract, most: int = ...) -> str:
        """At most ``most`` characters of the request for a person to read: signatures and passwords masked.

        Card numbers are masked where it is known which numbers are accounts (adapters.cards).
        """

    def scrub_reply(self, reply: Reply) -> str:
        """The same for a reply."""

    def code_of(self, result: Result, contract: Contract) -> str:
        """The protocol's own result code for this result, as text, for lists and search."""

    def check_settings(self, contract: Contract) -> None:
        """Raises ValueError, naming the field, where the contract asks for what the dialect cannot do."""

    def build(self, request: Request, contract: Contract, keys: Keys) -> bytes:
        """Client side: the raw query that ``decode`` reads as ``request``; ``keys.sign`` signs it."""

    def parse_reply(self, body: bytes) -> ParsedReply:
        """Client side: read a reply. Raises ValueError for what is no reply; its payment is then unknown."""
