"""What partners' secrets look like in the database: shared secrets sealed with the passphrase, passwords long enough.

Rules. A sealed secret is AES-256-GCM under a key that scrypt derives from the passphrase and a salt of its own; nobody
can change it unnoticed, and a wrong passphrase does not open it. A password of HTTP Basic is kept as SHA-256 without
salt, because it is compared with every call: so it must be one that cannot be guessed, and ours are made at random.

Does not know: partners, where a key is stored, RSA keys.
"""

import base64
import os
import secrets
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

#: Shortest password of HTTP Basic, and how many different characters it has at least.
PASSWORD_MIN: Final = 16
PASSWORD_CHARACTERS_MIN: Final = 6

_SEALED: Final = "kopeck-sealed-1:"
_SALT_BYTES: Final = 16
_NONCE_BYTES: Final = 12
#: 16 MiB and some 40 ms a guess; a gateway derives each key once.
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 1 << 14, 8, 1


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
