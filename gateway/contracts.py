"""Contracts with partners as data: stored versions, keys with validity, and the book a gateway reads them from.

Rules. A contract version is never changed; a change is a new version. Private keys and shared secrets are stored
encrypted where a passphrase is set, and on a database of the operator's own one must be set. A key is retired by its
end and stays on record. Gateways poll one revision number and read everything again when it moved, so a row changed
here is in force within `contracts_poll_s`, without a restart. A broken contract takes its own partner down, never the
others.

Does not know: what a dialect's settings mean (adapters.protocols), how requests arrive.
"""

import hashlib
import ipaddress
import json
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from adapters.messages import Contract, Keys, Op, Protocol, Reason, Reply, Result
from adapters.protocols import PROTOCOLS, contract_from_json
from billing.accounts import system_account
from gateway.decide import Terms
from gateway.key_material import is_sealed, problem_with_basic, seal, unsealed
from gateway.keys import GOOD_BITS, LEAST_BITS, bits_of, is_too_short, partners_with_key

log = logging.getLogger(__name__)

#: A partner's code is the last part of its address.
CODE: Final = re.compile("[a-z0-9][a-z0-9-]{0,31}", re.ASCII)

PURPOSES: Final = ("verify", "sign", "basic", "secret")
_ENCRYPTED: Final = ("sign", "secret")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ContractError(ValueError):
    """A clear sentence for whoever edits partners."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A parsed key and when it may be used; valid_to None is without end."""

    id: int
    purpose: str
    key: Any
    valid_from: datetime
    valid_to: datetime | None

    def is_valid(self, now: datetime) -> bool:
        """Valid in [valid_from, valid_to)."""
        return self.valid_from <= now and (self.valid_to is None or now < self.valid_to)


@dataclass(frozen=True, slots=True)
class Binding:
    """A partner's present contract, ready to serve a request."""

    contract: Contract
    protocol: Protocol
    terms: Terms
    stored_keys: tuple[StoredKey, ...]
    networks: tuple[Network, ...]
    keys: Keys
    #: Replies to what proved nothing, by operation and reason: their bytes never change, so they are signed once.
    refusals: dict[tuple[Op | None, Reason], Reply] = field(default_factory=dict, compare=False, repr=False)

    def admits(self, ip: str) -> bool:
        """Whether the address is one of the partner's; no list admits every address."""
        if not self.networks:
            return True
        try:
            address = ipaddress.ip_address(ip)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self.networks)

    def refusal(self, result: Result) -> Reply:
        """The reply to a refused request; one without an id of the caller's in it is made once."""
        if result.key is not None or result.account is not None:
            return self.protocol.encode(result, self.contract, self.keys)
        known = self.refusals.get((result.op, result.reason))
        if known is None:
            known = self.protocol.encode(result, self.contract, self.keys)
            self.refusals[(result.op, result.reason)] = known
        return known


@dataclass(frozen=True, slots=True)
class Book:
    """Every partner's binding by code, as of one revision and one instant."""

    revision: int
    by_code: dict[str, Binding]
    by_partner_id: dict[int, Terms]
    broken: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PartnerRow:
    """A partner as lists show it."""

    id: int
    code: str
    name: str
    state: str
    protocol: str
    version: int
    clearing_balance: int
    body: dict[str, Any]


_PARTNERS: Final = """
    SELECT p.id, p.code, p.name, p.state, c.version, c.body, p.clearing_account_id, a.balance_minor, a.currency
    FROM partners p
    JOIN accounts a ON a.id = p.clearing_account_id
    JOIN LATERAL (SELECT version, body FROM contracts WHERE partner_id = p.id ORDER BY version DESC LIMIT 1) c ON true
    ORDER BY p.code
"""

_KEYS: Final = """
    SELECT partner_id, id, purpose, material, valid_from, valid_to FROM partner_keys
    WHERE valid_to IS NULL OR valid_to > now() ORDER BY valid_from DESC, id DESC
"""

#: By number, which is a unique index: there is none by kind, and the accounts may be millions.
_TRANSIT: Final = "SELECT currency, id FROM accounts WHERE number = ANY(%(numbers)s) AND kind = 'transit'"

_ADD_PARTNER: Final = """
    INSERT INTO partners (code, name, clearing_account_id) VALUES (%s, %s, %s)
    ON CONFLICT (code) DO NOTHING RETURNING id
"""

_ADD_CONTRACT: Final = """
    INSERT INTO contracts (partner_id, version, body, created_by)
    SELECT %(partner_id)s, coalesce(max(version), 0) + 1, %(body)s::jsonb, %(actor)s
    FROM contracts WHERE partner_id = %(partner_id)s
    RETURNING version
"""

_ADD_KEY: Final = """
    INSERT INTO partner_keys (partner_id, purpose, material, valid_from, valid_to, created_by)
    VALUES (%s, %s, %s, coalesce(%s, now()), %s, %s) RETURNING id
"""


async def revision(cur: Any) -> int:
    """The number that moves with every change of partners, contracts or keys."""
    await cur.execute("SELECT revision FROM contracts_revision")
    return int((await cur.fetchone())[0])


async def load_book(cur: Any, passphrase: str, now: datetime) -> Book:
    """Read every partner's newest contract and its keys.

    A partner whose contract or key does not parse is left out, logged and named in ``broken``.
    """
    current = await revision(cur)
    await cur.execute(_KEYS)
    materials: dict[int, list[tuple[Any, ...]]] = {}
    for row in await cur.fetchall():
        materials.setdefault(row[0], []).append(tuple(row[1:]))
    await cur.execute(_PARTNERS)
    partners = await cur.fetchall()
    await cur.execute(_TRANSIT, {"numbers": sorted({f"transit:{row[8]}" for row in partners})})
    transits = {row[0]: row[1] for row in await cur.fetchall()}
    by_code: dict[str, Binding] = {}
    terms: dict[int, Terms] = {}
    broken: list[str] = []
    for row in partners:
        partner_id, code, state, version, body, clearing_id, currency = (
            row[0], row[1], row[3], row[4], row[5], row[6], row[8],
        )  # fmt: skip
        try:
            contract = contract_from_json(partner_id, code, version, body, active=state == "active")
            if contract.currency != currency:
                raise ContractError(f"contract in {contract.currency}, clearing account in {currency}")
            keys = _usable_keys(code, materials.get(partner_id, []), passphrase)
            terms[partner_id] = Terms(contract, clearing_id, transits[contract.currency])
        except (ValueError, TypeError, KeyError) as error:
            log.error("partner_is_broken", extra={"partner": code, "error": str(error)})
            broken.append(code)
            continue
        networks = tuple(ipaddress.ip_network(source, strict=False) for source in contract.sources)
        protocol = PROTOCOLS[contract.protocol]
        by_code[code] = Binding(contract, protocol, terms[partner_id], keys, networks, keys_at(keys, now))
    return Book(current, by_code, terms, tuple(broken))


def book_at(book: Book, now: datetime) -> Book:
    """The same book with the keys valid at ``now``; the same object when none came or went."""
    changed = {}
    for code, binding in book.by_code.items():
        keys = keys_at(binding.stored_keys, now)
        if keys != binding.keys:
            changed[code] = Binding(
                binding.contract, binding.protocol, binding.terms, binding.stored_keys, binding.networks, keys
            )
    if not changed:
        return book
    return Book(book.revision, {**book.by_code, **changed}, book.by_partner_id, book.broken)


def keys_at(stored: Iterable[StoredKey], now: datetime) -> Keys:
    """The keys valid at ``now``; of several signing keys the one that came into force last signs."""
    valid: dict[str, list[Any]] = {purpose: [] for purpose in PURPOSES}
    for entry in stored:
        if entry.is_valid(now):
            valid[entry.purpose].append(entry.key)
    return Keys(
        verify=tuple(valid["verify"]),
        sign=valid["sign"][0] if valid["sign"] else None,
        basic=tuple(valid["basic"]),
        secrets=tuple(valid["secret"]),
    )


def _usable_keys(code: str, rows: Iterable[tuple[Any, ...]], passphrase: str) -> tuple[StoredKey, ...]:
    """The keys without those that are too short: an old one of those must not go on opening the door."""
    usable = []
    for row in rows:
        stored = _stored_key(row, passphrase)
        if is_too_short(stored.key):
            log.error("key_is_too_short", extra={"partner": code, "key": stored.id, "bits": bits_of(stored.key)})
        else:
            usable.append(stored)
    return tuple(usable)


def _stored_key(row: tuple[Any, ...], passphrase: str) -> StoredKey:
    key_id, purpose, material, valid_from, valid_to = row
    return StoredKey(key_id, purpose, parse_key(purpose, material, passphrase), valid_from, valid_to)


def parse_key(purpose: str, material: str, passphrase: str) -> Any:
    """Key material as stored to what adapters use.

    Raises:
        ContractError: material that is not of its purpose's kind, or a private key the passphrase does not open.
    """
    try:
        if purpose == "verify":
            public = serialization.load_pem_public_key(material.encode())
            if isinstance(public, RSAPublicKey):
                return public
        elif purpose == "sign":
            secret = passphrase.encode() if "ENCRYPTED" in material else None
            private = serialization.load_pem_private_key(material.encode(), password=secret)
            if isinstance(private, RSAPrivateKey):
                return private
        elif purpose == "basic":
            if len(material) == 64 and set(material) <= set("0123456789abcdef"):
                return material
        elif purpose == "secret" and material:
            return unsealed(material, passphrase) if is_sealed(material) else material.encode()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ContractError(f"{purpose} key cannot be read: {error}") from error
    raise ContractError(f"{purpose} key is of the wrong kind (verify and sign take RSA keys in PEM)")


def stored_form(purpose: str, material: str, passphrase: str) -> str:
    """What is written to the database: private keys and secrets encrypted, ``user:password`` hashed.

    Raises:
        ContractError: as `parse_key`.
    """
    if purpose not in PURPOSES:
        raise ContractError(f"purpose {purpose[:40]!r} must be one of: {', '.join(PURPOSES)}")
    if purpose == "basic":
        problem = problem_with_basic(material)
        if problem:
            raise ContractError(problem)
        return hashlib.sha256(material.encode()).hexdigest()
    if purpose == "secret" and is_sealed(material):
        raise ContractError("a secret is given as it is; it is sealed here")
    key = parse_key(purpose, material, passphrase)
    if is_too_short(key):
        raise ContractError(
            f"the key has {bits_of(key)} bits and can be factored, and then forged: "
            f"{LEAST_BITS} at least, better {GOOD_BITS}"
        )
    if purpose == "secret" and passphrase:
        return seal(material, passphrase)
    if purpose != "sign" or not passphrase:
        return material
    encrypted: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase.encode()),
    )
    return encrypted.decode()


# -- changes, for the command line and the admin pages -----------------------------------------------------------------


async def list_partners(cur: Any) -> list[PartnerRow]:
    """Every partner with its newest contract, by code."""
    await cur.execute(_PARTNERS)
    return [
        PartnerRow(row[0], row[1], row[2], row[3], row[5].get("protocol", ""), row[4], row[7], row[5])
        for row in await cur.fetchall()
    ]


async def add_partner(cur: Any, code: str, name: str, body: dict[str, Any], actor: str) -> int:
    """Connect a partner: the row, its clearing account and version 1 of its contract. Returns the partner's id.

    Raises:
        ContractError: no code or one that is taken, or a contract that does not hold (the sentence names the field).
    """
    if CODE.fullmatch(code) is None:
        raise ContractError(
            f"code {code[:40]!r} must be 1 to 32 small Latin letters, digits and dashes, and not begin with a dash"
        )
    contract = _checked(0, code, 1, body)
    clearing = await system_account(cur, "clearing", code, contract.currency)
    await system_account(cur, "transit", "", contract.currency)
    await cur.execute(_ADD_PARTNER, (code, name, clearing))
    row = await cur.fetchone()
    if row is None:
        raise ContractError(f"there is a partner {code!r} already; change it with set")
    await cur.execute(_ADD_CONTRACT, {"partner_id": row[0], "body": json.dumps(body), "actor": actor})
    return int(row[0])


async def set_contract(cur: Any, code: str, body: dict[str, Any], actor: str) -> int:
    """Write the next version of a partner's contract; returns its number.

    Raises:
        ContractError: no such partner, a contract that does not hold, or another currency than before.
    """
    partner_id = await _partner_id(cur, code)
    contract = _checked(partner_id, code, 1, body)
    await cur.execute(
        "SELECT a.currency FROM partners p JOIN accounts a ON a.id = p.clearing_account_id WHERE p.id = %s",
        (partner_id,),
    )
    if (await cur.fetchone())[0] != contract.currency:
        raise ContractError("a partner's currency cannot change: connect it again under another code")
    await cur.execute(_ADD_CONTRACT, {"partner_id": partner_id, "body": json.dumps(body), "actor": actor})
    return int((await cur.fetchone())[0])


async def set_partner_state(cur: Any, code: str, state: str) -> None:
    """Pause a partner (every call gets the protocol's temporary code) or resume it.

    Raises:
        ContractError: no such partner or state.
    """
    if state not in ("active", "paused"):
        raise ContractError(f"state {state[:40]!r} must be active or paused")
    await cur.execute("UPDATE partners SET state = %s WHERE id = %s", (state, await _partner_id(cur, code)))


async def add_key(
    cur: Any,
    code: str,
    purpose: str,
    material: str,
    actor: str,
    *,
    passphrase: str = "",
    needs_passphrase: bool = False,
    valid_from: datetime | None = None,
    valid_to: datetime | None = None,
    shared: bool = False,
) -> int:
    """Add a key beside those there are; both are valid until the old one is retired. Returns the key's id.

    Args:
        material: PEM for verify and sign (a private key unencrypted, or under ``passphrase``), ``user:password`` for
            basic, any text for secret.
        needs_passphrase: refuse what would be stored in clear: where the database is not the embedded one.
        shared: take a verify key that another partner has too. A request signed for one is then good at the other.

    Raises:
        ContractError: no such partner, unreadable material, no passphrase, a key that is too short or another
            partner's, or an end before the start.
    """
    if needs_passphrase and purpose in _ENCRYPTED and not passphrase:
        raise ContractError(
            f"a {purpose} key is stored encrypted: set gateway.key_passphrase (KOPECK_GATEWAY__KEY_PASSPHRASE) here "
            "and for every gateway"
        )
    stored = stored_form(purpose, material, passphrase)
    if purpose == "verify" and not shared:
        others = await partners_with_key(cur, parse_key(purpose, stored, passphrase), code)
        if others:
            raise ContractError(
                f"partner {', '.join(others)} has this very key: a request signed for one would be good at the other. "
                "Ask for a key of its own; where that cannot be had, add it as shared"
            )
    if valid_from is not None and valid_to is not None and valid_to <= valid_from:
        raise ContractError("a key's end must come after its start")
    await cur.execute(_ADD_KEY, (await _partner_id(cur, code), purpose, stored, valid_from, valid_to, actor))
    return int((await cur.fetchone())[0])


async def retire_key(cur: Any, key_id: int, at: datetime) -> str:
    """End a key's validity at ``at``; a key that has not begun by then never will. Returns the partner's code.

    Raises:
        ContractError: no such key.
    """
    await cur.execute(
        "SELECT p.code FROM partner_keys k JOIN partners p ON p.id = k.partner_id WHERE k.id = %s", (key_id,)
    )
    row = await cur.fetchone()
    if row is None:
        raise ContractError(f"there is no key {key_id}")
    await cur.execute("UPDATE partner_keys SET valid_to = greatest(%s, valid_from) WHERE id = %s", (at, key_id))
    return str(row[0])


async def list_keys(cur: Any, code: str) -> list[tuple[int, str, datetime, datetime | None, str]]:
    """A partner's keys without their material: (id, purpose, valid_from, valid_to, created_by)."""
    await cur.execute(
        "SELECT id, purpose, valid_from, valid_to, created_by FROM partner_keys WHERE partner_id = %s ORDER BY id",
        (await _partner_id(cur, code),),
    )
    return [tuple(row) for row in await cur.fetchall()]


def _checked(partner_id: int, code: str, version: int, body: dict[str, Any]) -> Contract:
    try:
        return contract_from_json(partner_id, code, version, body, active=True)
    except ContractError:
        raise
    except ValueError as error:
        raise ContractError(str(error)) from error


async def _partner_id(cur: Any, code: str) -> int:
    await cur.execute("SELECT id FROM partners WHERE code = %s", (code,))
    row = await cur.fetchone()
    if row is None:
        raise ContractError(f"there is no partner {code[:40]!r}")
    return int(row[0])
