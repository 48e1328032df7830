"""What happens to one payment on the aggregator's side, from first request to last: the stories load is made of.

A deck of stories is dealt from a seed in exact shares, so that every kind of fault happens as often as promised. A
story is a plain function of a `Talk`; it repeats a request under the same key, with the same contents and the same
date, until the answer is final, as aggregators do, who hold the payer's cash, only faster.

Rules. Every story ends with a payment that was credited, except where it is taken back; keys of two stories never
meet. Only `Talk.ask` sends, and it writes down what it sends.

Does not know: sockets, Locust, what the provider made of it.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Protocol

from adapters.messages import Cancel, Check, Keys, Pay, Request, Status
from loadtests.partners import Heard, Line, Meaning, build_query, sign_again, spoil_signature
from loadtests.record import FORGED, GOOD, MALFORMED, Sent
from ratingcore.money import Minor

#: Answers after which an aggregator repeats the same request.
AGAIN: Final = frozenset({Meaning.LATER, Meaning.SILENCE})
#: Pauses between repeats, doubling from the first to the last; real ones are minutes.
PAUSE_S: Final = (0.05, 1.0)
#: After this long a payment is left as it stands: the record says that it was never settled.
PATIENCE_S: Final = 180.0

KEYS_PER_STORY: Final = 4
#: Largest sum of a payment here, within every contract.
MAX_AMOUNT: Final = 1_500_000
NOBODY: Final = "70000000000"


@dataclass(frozen=True, slots=True)
class Story:
    """One payment to be. keys: its own and spare ones; other_account is somebody else's."""

    kind: str
    line: Line
    keys: tuple[str, ...]
    account: str
    other_account: str
    amount: Minor
    seed: int

    @property
    def key(self) -> str:
        return self.keys[0]


class Wire(Protocol):
    """What a story is told over; see `swarm.Caller`."""

    def exchange(self, line: Line, sent: Sent, query: bytes, *, hang_up: bool = False) -> Heard:
        """Write down, send, and hear; ``hang_up``: leave before the answer."""

    def raw(self, line: Line, sent: Sent, request: bytes) -> Heard:
        """Send bytes that may not even be HTTP."""

    def together(self, calls: Sequence[Callable[["Wire"], None]]) -> None:
        """Make calls at the same time, each on a connection of its own."""

    def pause(self, seconds: float) -> None:
        """Let time pass."""

    def now(self) -> float:
        """Seconds of a clock that only goes forward."""


class Talk:
    """One story being told: the payment's contents, and the line it is sent over."""

    def __init__(self, story: Story, wire: Wire) -> None:
        self.story = story
        self.wire = wire
        self.chance = random.Random(story.seed)
        self.at = datetime.now(UTC).replace(microsecond=0)
        self._give_up_at = wire.now() + PATIENCE_S

    def on(self, wire: Wire) -> "Talk":
        """The same story over another connection."""
        other = Talk(replace(self.story, seed=self.chance.randrange(2**32)), wire)
        other.at = self.at
        return other

    def pay_request(self, amount: int | None = None, account: str | None = None, key: str | None = None) -> Pay:
        """The story's pay, or one that differs in what is named."""
        story = self.story
        return Pay(key or story.key, account or story.account, Minor(amount or story.amount), self._service(), self.at)

    def _service(self) -> str:
        return "1" if self.story.line.contract.protocol == "cyberplat" else ""

    def ask(self, request: Request, form: str = GOOD, *, hang_up: bool = False) -> Heard:
        """Send one request, with the wrong signature if ``form`` says so, and return what was heard."""
        line = self.story.line
        query = build_query(line, request)
        sent = _described(line.code, request, form, self.story.key)
        return self.wire.exchange(line, sent, spoil_signature(query) if form == FORGED else query, hang_up=hang_up)

    def until_final(self, request: Request) -> Heard:
        """Repeat one request until its answer is final, or patience ends."""
        pause = PAUSE_S[0]
        while True:
            heard = self.ask(request)
            if heard.meaning not in AGAIN or self.wire.now() > self._give_up_at:
                return heard
            self.wire.pause(pause * self.chance.uniform(0.8, 1.2))
            pause = min(2 * pause, PAUSE_S[1])

    def settle(self) -> Heard:
        """The story's pay until it is final."""
        return self.until_final(self.pay_request())

    def status(self) -> Heard:
        """One status question."""
        return self.ask(Status(key=self.story.key))


def _described(partner: str, request: Request, form: str, key: str) -> Sent:
    """The request for the record. key: the payment's, which OSMP's cancel names by our number instead."""
    if isinstance(request, Pay):
        time = request.partner_time.isoformat() if request.partner_time else ""
        return Sent(partner, "pay", request.key, form, request.account, request.amount, request.service, time)
    if isinstance(request, Check):
        return Sent(partner, "check", "", form, request.account, request.amount or 0, request.service)
    return Sent(partner, "cancel" if isinstance(request, Cancel) else "status", key, form)


# ---- the stories ----


def _look(talk: Talk) -> None:
    """Ask whether the account may be paid. OSMP names the payment's id; CyberPlat has no place for it."""
    story = talk.story
    is_osmp = story.line.contract.protocol == "osmp"
    key = story.key if is_osmp else None
    talk.ask(Check(story.account, talk._service(), story.amount, key))


def plain(talk: Talk) -> None:
    """Check, then pay."""
    _look(talk)
    talk.settle()


def repeat(talk: Talk) -> None:
    """The aggregator repeats a payment that was answered: up to three times, now and later."""
    plain(talk)
    for _ in range(talk.chance.randint(1, 3)):
        talk.wire.pause(talk.chance.choice((0.0, 0.01, 0.3)))
        talk.settle()


def lost_reply(talk: Talk) -> None:
    """The connection breaks after sending, once or more; the repeat finds what became of it, or pays."""
    _look(talk)
    for _ in range(talk.chance.randint(1, 2)):
        talk.ask(talk.pay_request(), hang_up=True)
        talk.wire.pause(talk.chance.choice((0.0, 0.0, 0.02)))
    if talk.chance.random() < 0.3:
        talk.status()
    talk.settle()


def parallel(talk: Talk) -> None:
    """The same payment comes over several connections at once: one credit, equal answers."""
    _look(talk)
    talk.wire.together([_final(talk, talk.pay_request())] * talk.chance.randint(2, 4))
    talk.settle()


def race(talk: Talk) -> None:
    """One key with two sums or two accounts at once: one of them wins, the other is a conflict."""
    story = talk.story
    mine = talk.pay_request()
    if talk.chance.random() < 0.5:
        other = talk.pay_request(amount=story.amount + 1)
    else:
        other = talk.pay_request(account=story.other_account)
    requests = [mine, other] if talk.chance.random() < 0.5 else [other, mine]
    talk.wire.together([_final(talk, request) for request in requests])


def conflict_sum(talk: Talk) -> None:
    """A settled payment's key comes again with another sum."""
    plain(talk)
    talk.ask(talk.pay_request(amount=talk.chance.randint(1, MAX_AMOUNT - 1) if talk.chance.random() < 0.5 else 1))
    talk.settle()


def conflict_account(talk: Talk) -> None:
    """A settled payment's key comes again for another account."""
    plain(talk)
    talk.ask(talk.pay_request(account=talk.story.other_account))
    talk.settle()


def bad_signature(talk: Talk) -> None:
    """A stranger, who cannot sign, tries the key before and after its owner, with sums of his own."""
    talk.ask(talk.pay_request(amount=MAX_AMOUNT), FORGED)
    plain(talk)
    talk.ask(talk.pay_request(amount=MAX_AMOUNT - 1), FORGED)
    talk.ask(talk.pay_request(key=talk.story.keys[1]), FORGED)


def status(talk: Talk) -> None:
    """Status before, in the middle, after."""
    talk.status()
    talk.wire.together([_final(talk, talk.pay_request()), _once(talk, Status(key=talk.story.key))])
    talk.settle()
    talk.until_final(Status(key=talk.story.key))


def cancel(talk: Talk) -> None:
    """Pay, take it back, and ask for it again in every way."""
    plain(talk)
    paid = talk.settle()
    if talk.story.line.contract.protocol == "cyberplat":
        request = Cancel(key=talk.story.key, extras={"mes": "1"})
    elif paid.payment_id is not None:
        request = Cancel(payment_id=paid.payment_id)
    else:
        return  # patience ended before the provider told its number
    talk.until_final(request)
    talk.settle()
    talk.status()
    if talk.chance.random() < 0.3:
        talk.until_final(request)


def refused(talk: Talk) -> None:
    """Payments that must be refused for good, repeated; then a good one."""
    story = talk.story
    talk.ask(Check(NOBODY, talk._service(), story.amount, None))
    nobody = talk.pay_request(account=NOBODY, key=story.keys[1])
    too_much = talk.pay_request(amount=MAX_AMOUNT + 1, key=story.keys[2])
    odd = talk.pay_request(account="../../etc", key=story.keys[3])
    for request in (nobody, too_much, odd, nobody):
        talk.until_final(request)
    plain(talk)


def bad_input(talk: Talk) -> None:
    """Nonsense of one kind under a spare key, then a good payment."""
    story = talk.story
    line = story.line
    request = talk.pay_request(key=story.keys[1])
    sent = _described(line.code, request, MALFORMED, request.key)
    good = build_query(replace(line, keys=Keys()), request)
    spoil = talk.chance.choice(SPOILT + _BROKEN_HTTP)
    if spoil in _BROKEN_HTTP:
        talk.wire.raw(line, sent, spoil(good))
    else:
        talk.wire.exchange(line, sent, sign_again(line, spoil(good)))
    plain(talk)


def _final(talk: Talk, request: Request) -> Callable[[Wire], None]:
    """A call that repeats a request over its own connection; its answers go to the record alone."""

    def call(wire: Wire) -> None:
        talk.on(wire).until_final(request)

    return call


def _once(talk: Talk, request: Request) -> Callable[[Wire], None]:
    def call(wire: Wire) -> None:
        talk.on(wire).ask(request)

    return call


# ---- nonsense ----


def _swap(*names: bytes, by: bytes) -> Callable[[bytes], bytes]:
    """Replaces the value of whichever of ``names`` the query has."""

    def spoil(query: bytes) -> bytes:
        pieces = query.split(b"&")
        return b"&".join([p.partition(b"=")[0] + b"=" + by if p.partition(b"=")[0] in names else p for p in pieces])

    return spoil


def _drop(*names: bytes) -> Callable[[bytes], bytes]:
    def spoil(query: bytes) -> bytes:
        return b"&".join([piece for piece in query.split(b"&") if piece.partition(b"=")[0] not in names])

    return spoil


def _double(query: bytes) -> bytes:
    return query + b"&" + query.split(b"&")[-1]


_SUM: Final = (b"sum", b"amount")
_ACCOUNT: Final = (b"account", b"number")
_ID: Final = (b"txn_id", b"receipt")
_DATE: Final = (b"txn_date", b"date")
_VERB: Final = (b"command", b"action")

SPOILT: Final[tuple[Callable[[bytes], bytes], ...]] = (
    *(
        _swap(*_SUM, by=by)
        for by in (b"10.555", b"10,50", b"0", b"0.00", b"-5", b"1e3", b"", b"%2010", b"9" * 40, b"NaN")
    ),
    *(_swap(*_ACCOUNT, by=by) for by in (b"%98%FF", b"7%zz", b"", b"7" * 70, b"<&>", b"%00")),
    *(_swap(*_ID, by=by) for by in (b"1" * 21, b"12x", b"", b"-1", b"%D9%A1%D9%A2", b"1.0")),
    *(_swap(*_DATE, by=by) for by in (b"20261332101530", b"2026-02-30T10:15:30", b"20120230101530", b"now", b"")),
    *(_swap(*_VERB, by=by) for by in (b"payy", b"PAY", b"", b"drop%20table")),
    *(_drop(*names) for names in (_SUM, _ACCOUNT, _ID, _DATE, _VERB)),
    _double,
)


def _too_long_a_line(query: bytes) -> bytes:
    return b"GET /pay/x?" + query + b"&pad=" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: kopeck\r\n\r\n"


def _too_much_body(query: bytes) -> bytes:
    return b"POST /pay/x HTTP/1.1\r\nHost: kopeck\r\nContent-Length: 99999999\r\n\r\n" + query


def _no_http(query: bytes) -> bytes:
    return b"\x16\x03\x01\x02\x00" + query + b"\r\n\r\n"


def _odd_method(query: bytes) -> bytes:
    return b"DELETE /pay/x?" + query + b" HTTP/1.1\r\nHost: kopeck\r\n\r\n"


_BROKEN_HTTP: Final[tuple[Callable[[bytes], bytes], ...]] = (_too_long_a_line, _too_much_body, _no_http, _odd_method)


# ---- the deck ----

#: Stories of each kind in a thousand; the rest are plain. At 100,000 payments the rarest comes 700 times.
PER_THOUSAND: Final[dict[str, int]] = {
    "repeat": 15,
    "lost_reply": 20,
    "parallel": 8,
    "race": 8,
    "conflict_sum": 8,
    "conflict_account": 7,
    "bad_signature": 10,
    "status": 15,
    "cancel": 15,
    "refused": 7,
    "bad_input": 15,
}

_STORIES: Final[dict[str, Callable[[Talk], None]]] = {
    "plain": plain,
    "repeat": repeat,
    "lost_reply": lost_reply,
    "parallel": parallel,
    "race": race,
    "conflict_sum": conflict_sum,
    "conflict_account": conflict_account,
    "bad_signature": bad_signature,
    "status": status,
    "cancel": cancel,
    "refused": refused,
    "bad_input": bad_input,
}


def deal(payments: int, lines: Sequence[Line], accounts: Sequence[str], seed: int, first: int = 0) -> list[Story]:
    """Shuffled stories in exact shares (at least one of each kind), over the lines in turn.

    One payment in ten goes to one of ten accounts, so that batches meet on the same rows. first: how many stories
    other decks have dealt, whose keys are taken.
    """
    chance = random.Random(seed)
    kinds = [kind for kind, share in PER_THOUSAND.items() for _ in range(max(1, payments * share // 1000))]
    kinds += ["plain"] * (payments - len(kinds))
    chance.shuffle(kinds)
    return [_story(number, kind, lines, accounts, chance) for number, kind in enumerate(kinds, first)]


def _story(number: int, kind: str, lines: Sequence[Line], accounts: Sequence[str], chance: random.Random) -> Story:
    line = lines[number % len(lines)]
    # OSMP allows 20 digits, CyberPlat 15: both to their last one.
    first = 10**19 if line.contract.protocol == "osmp" else 10**14
    keys = tuple(str(first + number * KEYS_PER_STORY + spare) for spare in range(KEYS_PER_STORY))
    account, other = chance.sample(accounts[:10] if chance.random() < 0.1 else accounts, 2)
    amount = Minor(chance.randint(2, MAX_AMOUNT - 1))
    return Story(kind, line, keys, account, other, amount, chance.randrange(2**32))


def tell(story: Story, wire: Wire) -> None:
    """Play one story to its end."""
    _STORIES[story.kind](Talk(story, wire))
