"""What key material may be, and what it looks like in the database: sealed, encrypted, hashed, strong enough.

Rules. A key is parsed and tried before it is stored. Private keys and shared secrets are stored encrypted where a
passphrase is set. An RSA key below LEAST_BITS is refused: it can be factored, and then payments can be forged. A sealed
secret is AES-256-GCM under a key that scrypt derives from the passphrase and a salt of its own; nobody can change it
unnoticed, and a wrong passphrase does not open it. A password of HTTP Basic is kept as SHA-256 without
salt, because it is compared with every call: so it must be one that cannot be guessed, and ours are made at random.

Does not know: partners, where a key is stored, when it is valid.
"""

import base64
import hashlib
import os
import secrets
from functools import lru_cache
from typing import Any, Final

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from gateway.partners.records import ContractError

PURPOSES: Final = ("verify", "sign", "basic", "secret")

#: Bits of an RSA modulus. 512 are factored in hours for a hundred dollars; 1024 are what old partners still have.
LEAST_BITS: Final = 1024
GOOD_BITS: Final = 2048

#: Shortest password of HTTP Basic, and how many different characters it has at least.
PASSWORD_MIN: Final = 16
PASSWORD_CHARACTERS_MIN: Final = 6

_SEALED: Final = "kopeck-sealed-1:"
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
#: 16 MiB and some 40 ms a guess; a gateway derives each key once.
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 1 << 14, 8, 1


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


def bits_of(key: Any) -> int | None:
    """Size of an RSA key's modulus; None for what is no RSA key."""
    return key.key_size if isinstance(key, RSAPublicKey | RSAPrivateKey) else None


def is_too_short(key: Any) -> bool:
    """Whether the key must not be used."""
    bits = bits_of(key)
    return bits is not None and bits < LEAST_BITS


def seal(text: str, passphrase: str) -> str:
    """A secret as it is stored under a passphrase; every time another one."""
    salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
    sealed = AESGCM(_derived(passphrase, salt)).encrypt(nonce, text.encode(), _SEALED.encode())
    return _SEALED + base64.b64encode(salt + nonce + sealed).decode()


def is_sealed(stored: str) -> bool:
    """Whether a stored secret was sealed; those of earlier versions were not."""
    return stored.startswith(_SEALED)


def unsealed(stored: str, passphrase: str) -> bytes:
    """The secret of a sealed one.

    Raises:
        ValueError: another passphrase, or not what was stored.
    """
    if not passphrase:
        raise ValueError("it is sealed, and gateway.key_passphrase is not set")
    packed = base64.b64decode(stored[len(_SEALED) :], validate=True)
    salt, nonce = packed[:_SALT_BYTES], packed[_SALT_BYTES : _SALT_BYTES + _NONCE_BYTES]
    try:
        return AESGCM(_derived(passphrase, salt)).decrypt(nonce, packed[_SALT_BYTES + _NONCE_BYTES :], _SEALED.encode())
    except InvalidTag as error:
        raise ValueError("gateway.key_passphrase does not open it") from error


def generated_password() -> str:
    """A new password of HTTP Basic or shared secret: 192 random bits in letters, digits, - and _."""
    return secrets.token_urlsafe(24)


def problem_with_basic(material: str) -> str | None:
    """What is wrong with ``user:password``, as a sentence, or None."""
    user, colon, password = material.partition(":")
    if not colon or not user or material != material.strip():
        return "basic takes user:password without blanks around it"
    if len(password) < PASSWORD_MIN or len(set(password)) < PASSWORD_CHARACTERS_MIN:
        return (
            f"the password has to be {PASSWORD_MIN} characters or longer, {PASSWORD_CHARACTERS_MIN} of them different; "
            f"`--generate` makes one"
        )
    return None


@lru_cache(maxsize=1_024)
def _derived(passphrase: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P).derive(passphrase.encode())
