"""Journal documents, rendered from PostgreSQL: one a payment, with its timeline, and one an attempt.

Rules. A document is a function of what PostgreSQL holds, so a rebuild makes it again. Rendering is set-based: one
query a table for any number of ids. Sums are minor units; instants are aware UTC, cut to the millisecond that BSON
can hold. Replies are not stored anywhere: they are worded again by the protocol's `encode` from the stored result
with the contract's version of that time, without keys (so unsigned) and scrubbed.

Terms are what an index of the journal finds a document by, each as a whole: lower-cased words and numbers, every run of
GRAM characters of an account and of the end of a partner's key, and the first BEGINNING letters of each word of a name.
A search looks for one of these and compares the rest of what was typed with the whole words among them
(`gateway.journal_search`), so each search is an equality that an index serves in the order of time.

Does not know: MongoDB, who reads the documents, what a reply held beyond the stored result: the cancel's own id of
dialects that have one, and the signature, are not kept, so a reply that is worded again leaves them out.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from adapters.messages import NO_KEYS, Contract, Op, Reason, Result
from adapters.protocols import PROTOCOLS, contract_from_json
from ratingcore.money import Minor, format_minor

Document = dict[str, Any]

#: Characters of the runs stored of a number, and so the shortest fragment that is found: shorter ones would match half
#: the journal and help nobody.
GRAM: Final = 4
#: Letters of a name's word that are stored, and so the shortest beginning that is found.
BEGINNING: Final = 3
#: Runs kept of one number, the last ones. Each is one more index entry: most of what a document costs to write.
MAX_ACCOUNT_GRAMS: Final = 24
MAX_KEY_GRAMS: Final = 12
#: Words of a name that are searchable.
MAX_NAME_WORDS: Final = 8
#: A word of a name, without the quotes and commas around it: «Ромашка» is found by ромашка.
_WORD: Final = re.compile(r"\w[\w'-]*")

_PAYMENTS: Final = """
    SELECT p.id, p.version, w.code, w.name, p.partner_id, p.contract_version, p.partner_key, p.service,
           p.account_number, p.account_id, a.name, p.amount_minor, p.currency, p.state, p.reason,
           p.partner_time, p.registered_at, p.created_at, p.updated_at, p.extras, p.returned_minor
    FROM payments p
    JOIN partners w ON w.id = p.partner_id
    LEFT JOIN accounts a ON a.id = p.account_id
    WHERE p.id = ANY(%(ids)s::bigint[])
    ORDER BY p.id
"""

_EVENTS: Final = """
    SELECT payment_id, seq, event, state, reason, actor, note, at, remote_ip, request
    FROM payment_events WHERE payment_id = ANY(%(ids)s::bigint[])
    ORDER BY payment_id, seq
"""

_TRANSFERS: Final = """
    SELECT t.source_id, t.id, t.step, d.number, c.number, t.amount_minor, t.created_at
    FROM transfers t
    LEFT JOIN accounts d ON d.id = t.debit_account_id
    LEFT JOIN accounts c ON c.id = t.credit_account_id
    WHERE t.source = 'payment' AND t.source_id = ANY(%(ids)s::bigint[])
    ORDER BY t.source_id, t.id
"""

#: Refunds and moves: transfers by hand that name the one which credited the account.
_RETURNS: Final = """
    SELECT p.source_id, t.id, t.step, d.number, c.number, t.amount_minor, t.created_at
    FROM transfers p
    JOIN transfers t ON t.corrects_id = p.id AND t.source = 'manual'
    LEFT JOIN accounts d ON d.id = t.debit_account_id
    LEFT JOIN accounts c ON c.id = t.credit_account_id
    WHERE p.source = 'payment' AND p.source_id = ANY(%(ids)s::bigint[]) AND p.step = 'post'
    ORDER BY p.source_id, t.id
"""

_CONTRACTS: Final = """
    SELECT c.partner_id, w.code, c.version, c.body, c.created_at
    FROM contracts c JOIN partners w ON w.id = c.partner_id
    WHERE c.partner_id = ANY(%(partners)s::integer[])
    ORDER BY c.partner_id, c.version
"""

_ATTEMPTS: Final = """
    SELECT t.id, t.at, coalesce(w.code, ''), t.kind, t.op, t.reason, t.code, t.detail, t.partner_key,
           t.account_number, t.amount_minor, t.payment_id, t.remote_ip, t.request, t.calls
    FROM attempts t LEFT JOIN partners w ON w.id = t.partner_id
    WHERE t.id = ANY(%(ids)s::bigint[])
    ORDER BY t.id
"""

_PAYMENT_FIELDS: Final = (
    "_id", "version", "partner", "partner_name", "partner_id", "contract_version", "key", "service",
    "account", "account_id", "account_name", "amount", "currency", "state", "reason",
    "partner_time", "registered_at", "created_at", "updated_at", "extras", "returned",
)  # fmt: skip
_EVENT_FIELDS: Final = ("seq", "event", "state", "reason", "actor", "note", "at", "remote_ip", "request")
_TRANSFER_FIELDS: Final = ("id", "step", "debit", "credit", "amount", "at")
_ATTEMPT_FIELDS: Final = (
    "_id", "at", "partner", "kind", "op", "reason", "code", "detail", "key",
    "account", "amount", "payment_id", "remote_ip", "request", "calls",
)  # fmt: skip

#: Which call of the partner's an event answered. Sending and silence are ours, not an answer to anybody.
OP_OF_EVENT: Final[Mapping[str, Op]] = {
    "accept": Op.PAY,
    "hold": Op.PAY,
    "refuse": Op.PAY,
    "post": Op.PAY,
    "reverse": Op.CANCEL,
    "void": Op.CANCEL,
    "tombstone": Op.CANCEL,
}
#: Events that write `payments.contract_version`.
_RECORDS_VERSION: Final = frozenset({"accept", "hold", "refuse", "tombstone"})


@dataclass(frozen=True, slots=True)
class _Version:
    """One stored version of a contract, not yet validated: most versions are never needed."""

    partner: str
    version: int
    body: dict[str, Any]
    created_at: datetime


async def payment_documents(cur: Any, ids: Iterable[int]) -> list[Document]:
    """The documents of these payments, in id order; ids that do not exist are left out.

    Args:
        cur: aiopg cursor. In a REPEATABLE READ transaction the parts of a document are of one instant; without one,
            a payment that changes meanwhile may show an event that its version does not count yet.
    """
    wanted = {"ids": sorted(set(ids))}
    await cur.execute(_PAYMENTS, wanted)
    payments = [dict(zip(_PAYMENT_FIELDS, row, strict=True)) for row in await cur.fetchall()]
    if not payments:
        return []
    await cur.execute(_EVENTS, wanted)
    events = _grouped(await cur.fetchall(), _EVENT_FIELDS)
    await cur.execute(_TRANSFERS, wanted)
    transfers = _grouped(await cur.fetchall(), _TRANSFER_FIELDS)
    if returned := [payment["_id"] for payment in payments if payment["returned"]]:
        await cur.execute(_RETURNS, {"ids": returned})
        for payment_id, returns in _grouped(await cur.fetchall(), _TRANSFER_FIELDS).items():
            transfers[payment_id] += returns
    await cur.execute(_CONTRACTS, {"partners": sorted({payment["partner_id"] for payment in payments})})
    wording = _Wording(await cur.fetchall())
    return [
        _payment_document(payment, events.get(payment["_id"], []), transfers.get(payment["_id"], []), wording)
        for payment in payments
    ]


async def attempt_documents(cur: Any, ids: Iterable[int]) -> list[Document]:
    """The documents of these attempts, in id order; ids that do not exist (any more) are left out."""
    await cur.execute(_ATTEMPTS, {"ids": sorted(set(ids))})
    documents = []
    for row in await cur.fetchall():
        document = _in_milliseconds(dict(zip(_ATTEMPT_FIELDS, row, strict=True)))
        document["terms"] = attempt_terms(document)
        documents.append(document)
    return documents


def payment_terms(payment: Mapping[str, Any]) -> list[str]:
    """Everything the search box finds this payment by, each term once."""
    names = _WORD.findall(fold(payment["account_name"]))[:MAX_NAME_WORDS]
    return _unique(
        [str(payment["_id"]), format_minor(payment["amount"]), payment["partner"]],
        with_grams(payment["key"], MAX_KEY_GRAMS),
        with_grams(payment["account"], MAX_ACCOUNT_GRAMS),
        names,
        [name[:BEGINNING] for name in names],
    )


def attempt_terms(attempt: Mapping[str, Any]) -> list[str]:
    """The same for an attempt; its key as a whole only, since there may be many attempts."""
    amount, payment_id = attempt["amount"], attempt["payment_id"]
    return _unique(
        [attempt["partner"], attempt["remote_ip"]],
        [] if amount is None else [format_minor(amount)],
        [] if payment_id is None else [str(payment_id)],
        [attempt["key"]],
        with_grams(attempt["account"], MAX_ACCOUNT_GRAMS),
    )


def fold(text: str) -> str:
    """Text as it is compared: compatibility-composed, lower case, ё as е, single blanks (NUL, which MongoDB's
    patterns cannot hold, is one).

    >>> fold("  Ёлкина  АННА ")
    'елкина анна'
    """
    folded = unicodedata.normalize("NFKC", text).lower().replace("ё", "е").replace("\0", " ")
    return " ".join(folded.split())


def with_grams(number: str, most: int) -> list[str]:
    """The words of a number, each followed by the last ``most`` runs of GRAM characters in it.

    >>> with_grams("7916123", 2)
    ['7916123', '1612', '6123']
    """
    terms = []
    for word in fold(number).split(" "):
        count = len(word) - GRAM + 1
        terms.append(word)
        terms += [word[start : start + GRAM] for start in range(max(0, count - most), count)]
    return terms


def cut_to_millisecond(instant: datetime) -> datetime:
    """An aware instant as BSON will give it back: UTC, whole milliseconds."""
    utc = instant.astimezone(UTC)
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000)


def _payment_document(
    payment: Document, events: list[Document], transfers: list[Document], wording: "_Wording"
) -> Document:
    """Put one payment's parts together; order of fields as people read them."""
    version = payment.pop("contract_version")
    timeline = []
    code = ""
    for event, version_then in zip(events, wording.versions(payment, events, version), strict=True):
        answer = wording.answer(payment, event, version_then)
        code = answer.code or code
        timeline.append(_in_milliseconds({**event, "reply": answer.reply}))
    document = _in_milliseconds(payment)
    document["account_name"] = document["account_name"] or ""
    document["extras"] = document["extras"] or {}
    if not document["returned"]:  # additive: a document written before refunds were known stays equal to its payment
        del document["returned"]
    document["protocol"] = wording.protocol(payment["partner_id"], version)
    document["code"] = code
    document["terms"] = payment_terms(document)
    document["timeline"] = timeline
    document["transfers"] = [_in_milliseconds(transfer) for transfer in transfers]
    return document


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a partner was told: the scrubbed reply and the protocol's own code; both empty when nobody asked."""

    reply: str = ""
    code: str = ""


class _Wording:
    """Words stored results again, with the contract's version of their time; lives for one rendering."""

    def __init__(self, rows: Sequence[tuple[Any, ...]]) -> None:
        self._versions: dict[int, list[_Version]] = {}
        self._contracts: dict[tuple[int, int], Contract | str] = {}
        for partner_id, partner, version, body, created_at in rows:
            self._versions.setdefault(partner_id, []).append(_Version(partner, version, body, created_at))

    def protocol(self, partner_id: int, version: int) -> str:
        """The protocol named by the contract, read without validating the rest of it."""
        return next((str(v.body.get("protocol", "")) for v in self._of(partner_id) if v.version == version), "")

    def answer(self, payment: Document, event: Document, version: int) -> _Answer:
        """The answer to the partner's call that made ``event``; empty for events made by people or by ourselves."""
        op = OP_OF_EVENT.get(event["event"])
        if op is None or not event["actor"].startswith("partner:"):
            return _Answer()
        contract = self._contract(payment["partner_id"], version)
        if isinstance(contract, str):
            return _Answer(reply=contract)
        try:
            result = result_of(payment, event, op)
            protocol = PROTOCOLS[contract.protocol]
            reply = protocol.scrub_reply(protocol.encode(result, contract, NO_KEYS))
            return _Answer(reply, protocol.code_of(result, contract))
        except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, AssertionError) as error:
            # One payment that a newer protocol module cannot word must not keep all the others out of the journal.
            return _Answer(reply=f"(cannot be worded again: {type(error).__name__}: {error})")

    def versions(self, payment: Document, events: Sequence[Document], recorded: int) -> list[int]:
        """The contract version each event was answered with.

        The payment records the one of its latest pay; for events before and after it, the version in force then is
        taken, never newer or older than the recorded one.
        """
        stored = self._of(payment["partner_id"])
        pays = [index for index, event in enumerate(events) if event["event"] in _RECORDS_VERSION]
        latest_pay = pays[-1] if pays else 0
        versions = []
        for index, event in enumerate(events):
            in_force = max((v.version for v in stored if v.created_at <= event["at"]), default=recorded)
            if index == latest_pay:
                versions.append(recorded)
            else:
                versions.append(min(in_force, recorded) if index < latest_pay else max(in_force, recorded))
        return versions

    def _of(self, partner_id: int) -> list[_Version]:
        return self._versions.get(partner_id, [])

    def _contract(self, partner_id: int, version: int) -> Contract | str:
        """The validated contract, or the sentence why an old body no longer validates."""
        key = (partner_id, version)
        if key not in self._contracts:
            stored = next((v for v in self._of(partner_id) if v.version == version), None)
            if stored is None:
                self._contracts[key] = f"(cannot be worded again: contract version {version} is not stored)"
            else:
                try:
                    contract = contract_from_json(partner_id, stored.partner, version, stored.body, True)
                    self._contracts[key] = contract
                except ValueError as error:
                    self._contracts[key] = f"(cannot be worded again: contract version {version}: {error})"
        return self._contracts[key]


def result_of(payment: Mapping[str, Any], event: Mapping[str, Any], op: Op) -> Result:
    """The gateway's answer that went with an event, as `decide` gave it and as far as it is stored.

    Raises:
        ValueError: the event's reason is none of the waist's.
    """
    reason = Reason(event["reason"])
    if event["event"] == "refuse":
        return Result(op, reason, key=payment["key"], account=payment["account"])
    if event["event"] == "hold":
        reason = Reason.IN_PROGRESS
    return Result(
        op,
        reason,
        key=payment["key"],
        payment_id=payment["_id"],
        registered_at=payment["registered_at"],
        amount=Minor(payment["amount"]),
        account=payment["account"],
    )


def _grouped(rows: Iterable[tuple[Any, ...]], fields: tuple[str, ...]) -> dict[int, list[Document]]:
    """Rows by their first column, which is left out; the rest named by ``fields``."""
    groups: dict[int, list[Document]] = {}
    for row in rows:
        groups.setdefault(row[0], []).append(dict(zip(fields, row[1:], strict=True)))
    return groups


def _in_milliseconds(document: Document) -> Document:
    return {
        name: cut_to_millisecond(value) if isinstance(value, datetime) else value for name, value in document.items()
    }


def _unique(*groups: Iterable[str]) -> list[str]:
    """Terms in order, each once, without the empty; a search is for words, so one with blanks is its words."""
    return list(dict.fromkeys(word for group in groups for term in group for word in fold(term).split(" ") if word))
