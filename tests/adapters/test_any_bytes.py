"""Whatever a stranger sends: a request or a DecodeError, never an exception, and nothing secret in what is kept."""

import hashlib
from dataclasses import fields
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters import cyberplat, osmp, wire
from adapters.messages import OP_OF, DecodeError, Keys, RawRequest, Reason, Reply, Result
from adapters.protocols import PROTOCOLS

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

# Contracts with every verb and switch open, so that as much code as possible meets the bytes.
WIDE = {
    "cyberplat": {
        "require_signature": False,
        "optional_type": True,
        "optional_amount_in_check": True,
        "receipt_in_check": True,
        "comma_decimal": True,
        "cancel_without_mes": True,
    },
    "osmp": {
        "require_basic": False,
        "post": True,
        "cancel": "prv_txn",
        "status": "txn_id",
        "verify": True,
        "balance": True,
        "extras": ["fio"],
    },
}
NARROW = {"cyberplat": {}, "osmp": {"post": True}}

NAMES = st.sampled_from(
    b"action command number account type prv_id amount sum receipt txn_id date txn_date mes additional sign prv_txn "
    b"cancel_txn_id fio trm_id ".split(b" ")
)
VALUES = st.one_of(
    st.sampled_from([b"check", b"pay", b"payment", b"status", b"cancel", b"verify", b"balance", b"1", b"0", b"250.00"]),
    st.sampled_from([b"20120514101530", b"2012-05-14T10:15:30", b"20120514", b"70012345", b"%C8", b"%D0%98", b"%00"]),
    st.sampled_from(
        [b"%ED%A0%80", b"%F4%90%80%80", b"%EF%BB%BF", b"%EF%BF%BE", b"%98", b"%", b"%2", b"%zz", b"+", b"="]
    ),
    st.binary(max_size=40),
    st.integers(0, 10**25).map(lambda number: str(number).encode()),
)
ALMOST = st.lists(st.tuples(NAMES, VALUES), max_size=12).map(lambda pairs: b"&".join(n + b"=" + v for n, v in pairs))
BYTES = ALMOST | st.binary(max_size=300)
HEADERS = st.dictionaries(st.sampled_from(["authorization", "content-type", "host", "x"]), st.text(max_size=60))
RAW = st.builds(
    RawRequest,
    st.sampled_from(["GET", "POST", "PUT", ""]),
    st.text(max_size=20),
    BYTES,
    BYTES,
    HEADERS,
    st.text(max_size=9),
)


@pytest.fixture(scope="session")
def meetings(contract_of, example_key):
    """(protocol, contract, keys) in every pairing of open and closed."""
    keys = Keys((example_key.public_key(),), example_key, (osmp.basic_key("osmp", "secret"),))
    return [
        (protocol, contract_of(name, dialect), some_keys)
        for name, protocol in PROTOCOLS.items()
        for dialect in (WIDE[name], NARROW[name])
        for some_keys in (keys, Keys())
    ]


def texts_of(message):
    for field in fields(message):
        value = getattr(message, field.name)
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from value.keys()
            yield from value.values()


def assert_storable(message):
    """PostgreSQL text holds it and XML can say it."""
    for text in texts_of(message):
        text.encode("utf-8")
        assert not any(ord(character) < 32 for character in text)


@given(RAW)
@example(RawRequest("GET", "/", b"action=payment&number=1&type=1&amount=1&receipt=1&date=0001-01-01T00:00:00"))
@example(RawRequest("GET", "/", b"command=pay&txn_id=1&account=1&sum=1&txn_date=99991231235959"))
@example(RawRequest("GET", "/", b"", b"", {"authorization": "Basic \udcff"}))
def test_any_bytes_give_a_request_or_a_decode_error_and_an_answer(meetings, raw):
    for protocol, contract, keys in meetings:
        found = protocol.decode(raw, contract, keys, NOW)
        assert isinstance(found, DecodeError) or type(found) in OP_OF
        assert_storable(found)
        if isinstance(found, DecodeError):
            assert found.detail
            assert found.reason not in (Reason.OK, Reason.DUPLICATE_OK, Reason.TEMPORARY, Reason.IN_PROGRESS)
            assert len(found.key or "") <= 64
            assert len(found.account or "") <= 64
            result = Result(found.op, found.reason, found.key, account=found.account)
            assert protocol.encode(result, contract, keys).body


@given(RAW)
def test_any_bytes_can_be_kept_as_bounded_printable_text(meetings, raw):
    for protocol, contract, _ in meetings:
        kept = protocol.scrub(raw, contract)
        assert len(kept) <= wire.MAX_SCRUBBED
        assert kept.replace("\n", "").isprintable()
        reply = protocol.scrub_reply(Reply(raw.body, "text/xml; charset=windows-1251"))
        assert len(reply) <= wire.MAX_SCRUBBED
        assert reply.replace("\n", "").isprintable()


# A secret no other part of a generated request can hold by chance.
SECRET = hashlib.sha256(b"a secret of the tests").hexdigest()
SECRET_NAMES = st.sampled_from(["sign", "SIGN", "Sign", "%73ign", "s%69gn", "password", "signature", "pan", "cvv2"])


@given(BYTES, SECRET_NAMES, BYTES, st.booleans())
def test_what_is_kept_never_holds_a_signature_or_a_password(meetings, before, name, after, in_body):
    data = before + f"&{name}={SECRET}&".encode() + after
    header = {"authorization": osmp.basic_authorization("osmp", SECRET)}
    raw = RawRequest("POST", "/pay/p", b"" if in_body else data, data if in_body else b"", header)
    for protocol, contract, keys in meetings:
        kept = protocol.scrub(raw, contract)
        assert SECRET not in kept
        assert header["authorization"].partition(" ")[2] not in kept
        found = protocol.decode(raw, contract, keys, NOW)
        assert not isinstance(found, DecodeError) or SECRET not in found.detail


@pytest.mark.parametrize(
    "body",
    [
        f'{{"password": "two words {SECRET}", "x": 1}}',
        f"{{'token': 'x{SECRET}'}}",
        f"<request><sign>{SECRET}</sign><x>ё</x></request>",
        f"<request><pin>1 {SECRET}</pin></request>",
        f"Authorization: Basic {SECRET}\r\n",
        f"a=1&sign={SECRET}",
        f"a=ё&sign={SECRET}",
    ],
)
def test_secrets_in_bodies_that_are_no_forms_are_masked_too(meetings, body):
    for protocol, contract, _ in meetings:
        kept = protocol.scrub(RawRequest("POST", "/pay/p", b"", body.encode("utf-8")), contract)
        assert SECRET not in kept
        assert wire.MASK in kept


def test_a_kept_request_shows_everything_but_the_secret(contract_of):
    raw = RawRequest("GET", "/pay/p", b"action=status&receipt=5&sign=00ff", b"", {"authorization": "Basic eDp5"})
    assert cyberplat.scrub(raw, contract_of("cyberplat")) == (
        "GET /pay/p?action=status&receipt=5&sign=***\nAuthorization: ***"
    )
    odd = RawRequest("POST", "/\x1b[31m", b"", "fio=Иван\r\n".encode())
    assert osmp.scrub(odd, contract_of("osmp")) == "POST /\\x1b[31m\n\nfio=Иван\\x0d\\x0a"


@given(st.binary(max_size=400))
def test_any_bytes_are_a_reply_or_a_value_error(body):
    for protocol in PROTOCOLS.values():
        try:
            reply = protocol.parse_reply(body)
        except ValueError:
            continue
        assert isinstance(reply.code, int)
