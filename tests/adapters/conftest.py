"""The worked examples' throw-away key, and contracts as partners of these tests have them."""

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPrivateNumbers,
    RSAPublicNumbers,
    generate_private_key,
    rsa_crt_dmp1,
    rsa_crt_dmq1,
    rsa_crt_iqmp,
    rsa_recover_prime_factors,
)
from hypothesis import settings

from adapters.messages import Contract
from adapters.protocols import contract_from_json

settings.register_profile("unhurried", deadline=None)  # a busy machine is no failure
settings.load_profile("unhurried")

# Made for the worked example; it protects nothing.
N = int(
    "b9287baa23a0aa895458bee275112af0d2770952e2ccbefc2a0c998acef3d6183c26d64f06148b1c25c226dade6e9cdd"
    "24dc6b35a7beacacb0fea59206c10c67f5d839ed51965ffabf64afff3644a2a1374dcfb9c32bcb72ecc378db9c8e1525"
    "c2cbf3a2ee22f4dadbae1b4a5affc1d125d8e5892b9c5b73d9db2e06822ec067",
    16,
)
E = 0x10001
D = int(
    "92632552609497ffb745eab4d3e55cd3c53203971a64d1e23fc47268423299e3d33ac958f4efad03f5fe4805e6b20126"
    "fe0b9e5f6f5ddadb359c3e7ef30411af8e9cd9f444416e3ca75065465c495d3588b008d748e313dbe144be5c0983d12d"
    "b6db09ef4f78fd7046a947f18ef96049b8853cdb6c5a2d0efefd5428186ba491",
    16,
)


@pytest.fixture(scope="session")
def example_key() -> RSAPrivateKey:
    """The 1024-bit key of the worked example: it signs requests and replies alike."""
    p, q = rsa_recover_prime_factors(N, E, D)
    private = RSAPrivateNumbers(
        p, q, D, rsa_crt_dmp1(D, p), rsa_crt_dmq1(D, q), rsa_crt_iqmp(p, q), RSAPublicNumbers(E, N)
    )
    return private.private_key()


@pytest.fixture(scope="session")
def other_key() -> RSAPrivateKey:
    """A key of nobody's, or the partner's next one."""
    return generate_private_key(public_exponent=E, key_size=2048)


ContractOf = Callable[..., Contract]


@pytest.fixture(scope="session")
def contract_of() -> ContractOf:
    """``contract_of("osmp", {"cancel": "prv_txn"}, display=["name"])``; the date window is off unless named."""

    def make(protocol: str, dialect: dict[str, Any] | None = None, **common: Any) -> Contract:
        body = {"protocol": protocol, "date_past_s": None, "date_future_s": None, **common, "dialect": dialect or {}}
        return contract_from_json(7, "partner", 1, body, True)

    return make
