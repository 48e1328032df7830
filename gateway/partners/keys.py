"""Partners' keys: added, listed and retired; how strong they are, and which of them two partners share.

Rules. A key is retired by its end and stays on record. On a database of the operator's own, private keys and shared
secrets are refused where no passphrase is set. A key below GOOD_BITS works and is warned of, when it is added, by
`kopeck verify` and on the partner's page. CyberPlat's signature covers the query and not the path, so a verify key that
two partners have makes a request signed for one good at the other.

Does not know: contracts, SQL, how material is stored (gateway.partners.key_material).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from billing.database.cursors import Cursor
from gateway.partners import store
from gateway.partners.key_material import GOOD_BITS, LEAST_BITS, bits_of, parse_key, stored_form
from gateway.partners.records import ContractError

#: Purposes whose material is a secret of ours.
_ENCRYPTED: Final = ("sign", "secret")


@dataclass(frozen=True, slots=True)
class KeyWarning:
    """What a person should do something about.

    kind: forgeable (too short to be used: it opens nothing), short, or shared with other partners.
    bits: of a forgeable or short key. partners: codes of those that share it.
    """

    partner: str
    key_id: int
    kind: str
    bits: int = 0
    partners: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """For operators, in English."""
        if self.kind == "shared":
            others = ", ".join(self.partners)
            return (
                f"key {self.key_id} of partner {self.partner} is also a key of {others}: "
                "a request signed for one of them is good at the other"
            )
        fate = (
            f"it is not used; keys have {LEAST_BITS} bits at least"
            if self.kind == "forgeable"
            else f"replace it by one of {GOOD_BITS} or more"
        )
        return f"key {self.key_id} of partner {self.partner} has {self.bits} bits: {fate}"


async def add_key(
    cur: Cursor,
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
    partner_id = await store.partner_id_of(cur, code)
    return await store.insert_key(cur, partner_id, purpose, stored, valid_from, valid_to, actor)


async def retire_key(cur: Cursor, key_id: int, at: datetime) -> str:
    """End a key's validity at ``at``; a key that has not begun by then never will. Returns the partner's code.

    Raises:
        ContractError: no such key.
    """
    code = await store.partner_of_key(cur, key_id)
    if code is None:
        raise ContractError(f"there is no key {key_id}")
    await store.end_key(cur, key_id, at)
    return code


async def list_keys(cur: Cursor, code: str) -> list[tuple[int, str, datetime, datetime | None, str]]:
    """A partner's keys without their material: (id, purpose, valid_from, valid_to, created_by)."""
    return await store.keys_of(cur, await store.partner_id_of(cur, code))


async def key_warnings(
    cur: Cursor, code: str | None = None, key_id: int | None = None, *, passphrase: str = ""
) -> list[KeyWarning]:
    """Warnings of all keys that are or will be valid; of one partner's, or of one key, where that is said.

    Private keys that are stored encrypted are looked into where the passphrase opens them.
    """
    keys = [
        (row.key_id, row.partner, row.purpose, _opened(row.purpose, row.material, passphrase))
        for row in await store.read_rsa_keys(cur)
    ]
    holders: dict[bytes, set[str]] = {}
    for _, partner, purpose, key in keys:
        if purpose == "verify" and key is not None:
            holders.setdefault(_identity(key), set()).add(partner)
    found = []
    for number, partner, purpose, key in keys:
        if key is None or code not in (None, partner) or key_id not in (None, number):
            continue
        bits = bits_of(key) or 0
        if bits < GOOD_BITS:
            found.append(KeyWarning(partner, number, "forgeable" if bits < LEAST_BITS else "short", bits))
        others = holders[_identity(key)] - {partner} if purpose == "verify" else set()
        if others:
            found.append(KeyWarning(partner, number, "shared", partners=tuple(sorted(others))))
    return found


async def partners_with_key(cur: Cursor, public: RSAPublicKey, besides: str) -> list[str]:
    """Codes of partners other than ``besides`` that have this verify key."""
    wanted = _identity(public)
    return sorted(
        {
            row.partner
            for row in await store.read_rsa_keys(cur)
            if row.purpose == "verify" and row.partner != besides and _is_same(_opened("verify", row.material), wanted)
        }
    )


def warning_sentences(warnings: Iterable[KeyWarning]) -> list[str]:
    """One line each."""
    return [f"warning: {warning.sentence}" for warning in warnings]


def _is_same(key: Any, wanted: bytes) -> bool:
    return key is not None and _identity(key) == wanted


def _opened(purpose: str, material: str, passphrase: str = "") -> Any:
    """The RSA key; None where it cannot be opened or is none."""
    try:
        if purpose == "verify":
            key: Any = serialization.load_pem_public_key(material.encode())
        else:
            password = passphrase.encode() if passphrase and "ENCRYPTED" in material else None
            key = serialization.load_pem_private_key(material.encode(), password=password)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key if bits_of(key) is not None else None


def _identity(key: Any) -> bytes:
    public = key.public_key() if isinstance(key, RSAPrivateKey) else key
    encoded: bytes = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return encoded
