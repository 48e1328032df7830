"""The aggregators that load plays: their contracts, their keys, what they send and how they read what they hear.

Everything here is the aggregator's side: requests are built and replies read by the adapters' client side with the
contract as the aggregator knows it, and what a code means to an aggregator is a table of this file, written from the
protocols' lists of codes and not from the gateway.

Does not know: which requests are sent when, what the provider's database holds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from adapters import cyberplat, osmp
from adapters.messages import Contract, Keys, Request
from adapters.protocols import PROTOCOLS, contract_from_json

#: What partners' keys had when the protocol was young; twice as long costs the gateway three times the signing.
RSA_BITS: Final = 1024


@dataclass(frozen=True, slots=True)
class Partner:
    """An aggregator. body: the contract's JSON as both sides signed it.

    private_pem: the aggregator's key; reply_private_pem: the provider's, which the product is given; both empty
    where the dialect does not sign. password: of HTTP Basic, user is the code.
    """

    code: str
    body: Mapping[str, Any]
    private_pem: str = ""
    reply_private_pem: str = ""
    password: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A partner ready to talk: contract, keys and the fixed parts of its HTTP requests.

    forged: headers as a stranger would send them, who does not know the password.
    """

    code: str
    contract: Contract
    keys: Keys
    headers: bytes
    forged: bytes


class Meaning(StrEnum):
    """What an answer means to the aggregator's money."""

    DONE = "done"  # credited, or cancelled as asked; of a check: yes
    LATER = "later"  # nothing is settled: repeat
    CONFLICT = "conflict"  # the id is taken by a payment with other requisites
    CANCELLED = "cancelled"  # it was cancelled before
    NOT_FOUND = "not_found"
    IMPOSSIBLE = "impossible"  # of a cancel: the payment stands
    REFUSED = "refused"  # final: the payer gets his cash back
    DENIED = "denied"  # the signature or the password is wrong
    SILENCE = "silence"  # no answer, or none that can be read: repeat


@dataclass(frozen=True, slots=True)
class Heard:
    """One answer as the aggregator reads it. code -1000: none. payment_id, date, amount: None where not told."""

    meaning: Meaning
    code: int = -1000
    payment_id: int | None = None
    date: str | None = None
    amount: int | None = None


SILENCE: Final = Heard(Meaning.SILENCE)

_CANCELS: Final = {"cancel_allowed": True, "cancel_window_s": None}


def osmp_partner(code: str, password: str) -> Partner:
    """Speaks OSMP with HTTP Basic, status by txn_id and cancel by our number; codes that other answers share are
    moved apart, so that every answer says one thing."""
    dialect = {"cancel": "prv_txn", "status": "txn_id", "conflict_code": 215, "cancel_unknown_code": 79}
    return Partner(code, {"protocol": "osmp", "dialect": dialect, **_CANCELS}, password=password)


def cyberplat_partner(code: str, digest: str = "sha1") -> Partner:
    """Speaks CyberPlat's protocol, signed both ways."""
    body = {"protocol": "cyberplat", "dialect": {"digest": digest}, "services": ["1"], **_CANCELS}
    return Partner(code, body, private_pem=new_private_pem(), reply_private_pem=new_private_pem())


def unsigned_cyberplat_partner(code: str) -> Partner:
    """CyberPlat's protocol without signatures: for the bench alone, to see what they cost."""
    body = {"protocol": "cyberplat", "dialect": {"require_signature": False}, "services": ["1"], **_CANCELS}
    return Partner(code, body)


def new_private_pem() -> str:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=RSA_BITS)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def public_pem(private_pem: str) -> str:
    """The public half of a private key."""
    public = _private_key(private_pem).public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def _private_key(pem: str) -> rsa.RSAPrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ValueError("not an RSA key")
    return key


def open_line(partner: Partner) -> Line:
    """Everything the partner needs to talk."""
    keys = Keys()
    if partner.private_pem:
        reply_key = _private_key(partner.reply_private_pem).public_key()
        keys = Keys(verify=(reply_key,), sign=_private_key(partner.private_pem))
    headers, forged = b"Host: kopeck\r\n", b"Host: kopeck\r\n"
    if partner.password:
        headers += _authorization(partner.code, partner.password)
        forged += _authorization(partner.code, partner.password + "x")
    contract = contract_from_json(0, partner.code, 1, partner.body, True)
    return Line(partner.code, contract, keys, headers, forged)


def _authorization(user: str, password: str) -> bytes:
    return f"Authorization: {osmp.basic_authorization(user, password)}\r\n".encode("ascii")


def build_query(line: Line, request: Request) -> bytes:
    """The raw query of a request, signed where the dialect signs."""
    return PROTOCOLS[line.contract.protocol].build(request, line.contract, line.keys)


def spoil_signature(query: bytes) -> bytes:
    """The query with another last digit in its signature; a query without one is left alone."""
    if b"&sign=" not in query:
        return query
    return query[:-1] + (b"0" if query[-1:] != b"0" else b"1")


def sign_again(line: Line, query: bytes) -> bytes:
    """A query without signature, signed where the partner signs: for what `build_query` would never say."""
    if line.keys.sign is None:
        return query
    return cyberplat.signed_query(query, line.keys.sign, line.contract.dialect.digest)


def http_request(line: Line, query: bytes, *, is_forged: bool = False) -> bytes:
    """The bytes of one GET."""
    headers = line.forged if is_forged else line.headers
    return b"GET /pay/%s?%s HTTP/1.1\r\n%s\r\n" % (line.code.encode("ascii"), query, headers)


# ---- what they hear ----

_COMMON: Final = {0: Meaning.DONE}
_OSMP: Final[dict[int, Meaning]] = {
    **_COMMON,
    1: Meaning.LATER,
    90: Meaning.LATER,
    215: Meaning.CONFLICT,
    **dict.fromkeys((4, 5, 7, 8, 79, 241, 242, 243, 300), Meaning.REFUSED),
}
_CYBERPLAT: Final[dict[int, Meaning]] = {
    **_COMMON,
    -3: Meaning.LATER,
    8: Meaning.LATER,
    -4: Meaning.DENIED,
    **dict.fromkeys((-2, -1, 1, 2, 3, 5), Meaning.REFUSED),
}

#: By protocol, then what the operation changes of it. 300 to a well-formed OSMP pay says that it was cancelled:
#: the only other thing it could say, a conflict, has a code of its own in our contract.
_MEANING: Final[Mapping[tuple[str, str], Mapping[int, Meaning]]] = {
    ("osmp", "check"): _OSMP,
    ("osmp", "pay"): _OSMP | {300: Meaning.CANCELLED},
    ("osmp", "status"): _OSMP | {300: Meaning.NOT_FOUND},
    ("osmp", "cancel"): _OSMP | {79: Meaning.NOT_FOUND, 251: Meaning.IMPOSSIBLE},
    ("cyberplat", "check"): _CYBERPLAT,
    ("cyberplat", "pay"): _CYBERPLAT | {4: Meaning.CONFLICT, 7: Meaning.CANCELLED},
    ("cyberplat", "status"): _CYBERPLAT | {6: Meaning.NOT_FOUND, 7: Meaning.CANCELLED},
    ("cyberplat", "cancel"): _CYBERPLAT | {4: Meaning.NOT_FOUND, 7: Meaning.CANCELLED, 9: Meaning.IMPOSSIBLE},
}


def read_reply(line: Line, op: str, status: int, body: bytes) -> Heard:
    """A reply as its aggregator reads it; what it cannot read or trust is no answer."""
    if status in (401, 403):
        return Heard(Meaning.DENIED, status)
    if status != 200:
        return SILENCE
    protocol = line.contract.protocol
    try:
        reply = PROTOCOLS[protocol].parse_reply(body)
    except ValueError:
        return SILENCE
    if line.keys.verify and not cyberplat.verify_reply(reply, line.keys.verify[0], line.contract.dialect.digest):
        return SILENCE
    meaning = _MEANING[protocol, op].get(reply.code, Meaning.SILENCE)
    return Heard(meaning, reply.code, reply.payment_id, reply.date, reply.amount)
