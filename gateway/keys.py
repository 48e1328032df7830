"""How strong partners' keys are, and which of them two partners share.

Rules. An RSA key below LEAST_BITS is refused: it can be factored, and then payments can be forged. Below GOOD_BITS it
works and is warned of, when it is added, by `kopeck verify` and on the partner's page. CyberPlat's signature covers the
query and not the path, so a verify key that two partners have makes a request signed for one good at the other.

Does not know: contracts, how material is stored (gateway.contracts says so and calls us with it as stored).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

#: Bits of an RSA modulus. 512 are factored in hours for a hundred dollars; 1024 are what old partners still have.
LEAST_BITS: Final = 1024
GOOD_BITS: Final = 2048

_KEYS: Final = """
    SELECT k.id, p.code, k.purpose, k.material FROM partner_keys k JOIN partners p ON p.id = k.partner_id
    WHERE k.purpose IN ('verify', 'sign') AND (k.valid_to IS NULL OR k.valid_to > now())
    ORDER BY p.code, k.id
"""


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


def bits_of(key: Any) -> int | None:
    """Size of an RSA key's modulus; None for what is no RSA key."""
    return key.key_size if isinstance(key, RSAPublicKey | RSAPrivateKey) else None


def is_too_short(key: Any) -> bool:
    """Whether the key must not be used."""
    bits = bits_of(key)
    return bits is not None and bits < LEAST_BITS


async def key_warnings(
    cur: Any, code: str | None = None, key_id: int | None = None, *, passphrase: str = ""
) -> list[KeyWarning]:
    """Warnings of all keys that are or will be valid; of one partner's, or of one key, where that is said.

    Private keys that are stored encrypted are looked into where the passphrase opens them.
    """
    await cur.execute(_KEYS)
    keys = [(row[0], row[1], row[2], _opened(row[2], row[3], passphrase)) for row in await cur.fetchall()]
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


async def partners_with_key(cur: Any, public: RSAPublicKey, besides: str) -> list[str]:
    """Codes of partners other than ``besides`` that have this verify key."""
    await cur.execute(_KEYS)
    wanted = _identity(public)
    return sorted(
        {
            row[1]
            for row in await cur.fetchall()
            if row[2] == "verify" and row[1] != besides and _is_same(_opened("verify", row[3]), wanted)
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
