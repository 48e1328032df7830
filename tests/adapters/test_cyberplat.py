"""CyberPlat's provider protocol against what the protocol says: worked examples, tables, switches, bad input."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import cyberplat
from adapters.messages import (
    NO_KEYS,
    TEMPORARY_REASONS,
    Balance,
    Cancel,
    Check,
    DecodeError,
    Keys,
    Op,
    Pay,
    RawRequest,
    Reason,
    Reply,
    Result,
    Status,
)
from ratingcore.money import Minor

NOW = datetime(2012, 5, 14, 7, 0, tzinfo=UTC)
UNSIGNED = {"require_signature": False}


def get(query):
    return RawRequest("GET", "/pay/cyberplat", query.encode("latin-1") if isinstance(query, str) else query)


def read(contract, query, keys=NO_KEYS, now=NOW):
    return cyberplat.decode(get(query), contract, keys, now)


# ---- worked examples; the signatures were verified with OpenSSL ----

CHECK = b"action=check&number=70012345&type=1&amount=250.00"
CHECK_SIGN = (
    "1b3117923d78c142edb63e160beea9849b09264c456db4e2a33c111a56683110dd6c446eae7163b322f3baf7e0d73ddb880d9498f0200a70"
    "15325fae1184ac54ad091a1268579827a18cf01fa21c44d99e75c4199bbc4ddfe2fa6623c72801292b68234d80d3371e428078642dcb4ba7"
    "65906036358e9eaf12d9cbe65f1dced1"
)
PAYMENT = b"action=payment&number=70012345&type=1&amount=250.00&receipt=1009000000123&date=2012-05-14T10:15:30"
PAYMENT_SIGN = (
    "9dfc21fab1d1d02b5996ae14a0f62dbec97701fcd808466cb6c1e95c33088b99fad373b07cf0793dca15cd5ad2adec635c5b233c370ff50a"
    "aa3f01e1cc2bf29de1900dab12ea795d30ef8c9e2e00d547cb200ba612be5ca45caa1016b58dc513b39f6bdfb7d7543268e4b5c8f002316d"
    "d998d72b2f861d019bfe50ed352db17a"
)
PAYMENT_SIGN_SHA256 = (
    "6f78fdf17e09ae1a3c963b7c0e5fd44bf391c6b5098412dd3f3c3b1cc393a9669ef5fbd98310892188bcb462dbd6f7fb96d1e72ad8b04949"
    "e2313708581d23615d6b1d4247d92cd126ad74c365f8f510dcf47bf800a5f1368c88b049d6b117ccb6645b63e0b4d32ba0919269b235e5b4"
    "b5d0f8511b0776e864b59dc196057bed"
)
REPLY = (
    '<?xml version="1.0" encoding="windows-1251"?><response><code>0</code><authcode>884213</authcode>'
    "<date>2012-05-14T10:15:31</date><message>Платеж принят</message></response>"
).encode("windows-1251")
REPLY_SIGN = (
    "625fba6055d3c17091b7860995a303b8565fc60a644d7a3fca6a078c73bf3440a091e15e8cabaf637becdeb707d8c8bf7f6fe2cc20868d46"
    "559a8c41a39436676896488ecf6db224dce8775326d0d77f7089ec9ae8614abc3253a6bb143f793bcd60517ee57faddb8f8a64beb9e0167f"
    "939c8dab680ae273411b7f8c626fe33e"
)

SHEET_PAY = Pay("1009000000123", "70012345", Minor(25000), "1", datetime(2012, 5, 14, 6, 15, 30, tzinfo=UTC))
EXAMPLE_RESULT = Result(
    Op.PAY, Reason.OK, "1009000000123", 884213, datetime(2012, 5, 14, 6, 15, 31, tzinfo=UTC), Minor(25000), "70012345"
)


def test_the_example_check_is_verified_and_read(contract_of, example_key):
    keys = Keys(verify=(example_key.public_key(),))
    found = read(contract_of("cyberplat"), CHECK + b"&sign=" + CHECK_SIGN.encode(), keys)
    assert found == Check("70012345", "1", Minor(25000))


@pytest.mark.parametrize(("digest", "sign"), [("sha1", PAYMENT_SIGN), ("sha256", PAYMENT_SIGN_SHA256)])
def test_the_example_payment_is_verified_with_either_digest(contract_of, example_key, digest, sign):
    keys = Keys(verify=(example_key.public_key(),))
    contract = contract_of("cyberplat", {"digest": digest})
    assert read(contract, PAYMENT + b"&sign=" + sign.encode(), keys) == SHEET_PAY
    assert read(contract, PAYMENT + b"&sign=" + sign.upper().encode(), keys) == SHEET_PAY


def test_the_examples_are_built_byte_for_byte(contract_of, example_key):
    keys = Keys(sign=example_key)
    contract = contract_of("cyberplat")
    check = Check("70012345", "1", Minor(25000))
    assert cyberplat.build(check, contract, keys) == CHECK + b"&sign=" + CHECK_SIGN.encode()
    assert cyberplat.build(SHEET_PAY, contract, keys) == PAYMENT + b"&sign=" + PAYMENT_SIGN.encode()
    sha256 = contract_of("cyberplat", {"digest": "sha256"})
    assert cyberplat.build(SHEET_PAY, sha256, keys) == PAYMENT + b"&sign=" + PAYMENT_SIGN_SHA256.encode()


def test_the_example_reply_is_worded_and_signed_byte_for_byte(contract_of, example_key):
    assert len(REPLY) == 171
    contract = contract_of("cyberplat")
    assert cyberplat.encode(EXAMPLE_RESULT, contract, NO_KEYS).body == REPLY
    signed = cyberplat.encode(EXAMPLE_RESULT, contract, Keys(sign=example_key))
    assert signed.body == REPLY.replace(b"</response>", f"<sign>{REPLY_SIGN}</sign></response>".encode())
    assert (signed.status, signed.content_type) == (200, "text/xml; charset=windows-1251")


def test_a_repeat_is_answered_to_the_letter_like_the_first(contract_of, example_key):
    contract, keys = contract_of("cyberplat"), Keys(sign=example_key)
    repeat = replace(EXAMPLE_RESULT, reason=Reason.DUPLICATE_OK)
    assert cyberplat.encode(repeat, contract, keys) == cyberplat.encode(EXAMPLE_RESULT, contract, keys)


def test_a_post_is_read_like_a_get_and_its_final_line_end_is_no_part_of_the_signature(contract_of, example_key):
    keys = Keys(verify=(example_key.public_key(),))
    data = PAYMENT + b"&sign=" + PAYMENT_SIGN.encode()
    contract = contract_of("cyberplat")
    for raw in (
        RawRequest("POST", "/pay/cyberplat", b"", data),
        RawRequest("POST", "/pay/cyberplat", b"", data + b"\r\n"),
        RawRequest("POST", "/pay/cyberplat", data, b""),
    ):
        assert cyberplat.decode(raw, contract, keys, NOW) == SHEET_PAY


def test_parameters_in_query_and_body_at_once_are_refused(contract_of, example_key):
    raw = RawRequest("POST", "/pay/cyberplat", b"action=check", PAYMENT + b"&sign=" + PAYMENT_SIGN.encode())
    found = cyberplat.decode(raw, contract_of("cyberplat"), Keys(verify=(example_key.public_key(),)), NOW)
    assert isinstance(found, DecodeError)
    assert found.reason is Reason.BAD_REQUEST


def test_other_methods_are_refused(contract_of):
    raw = RawRequest("PUT", "/pay/cyberplat", CHECK)
    found = cyberplat.decode(raw, contract_of("cyberplat", UNSIGNED), NO_KEYS, NOW)
    assert isinstance(found, DecodeError)
    assert found.reason is Reason.BAD_REQUEST


# ---- signatures ----


def test_either_of_two_keys_opens_while_one_replaces_the_other(contract_of, example_key, other_key):
    contract = contract_of("cyberplat")
    both = Keys(verify=(example_key.public_key(), other_key.public_key()))
    for key in (example_key, other_key):
        assert read(contract, cyberplat.build(SHEET_PAY, contract, Keys(sign=key)), both) == SHEET_PAY
    old = cyberplat.build(SHEET_PAY, contract, Keys(sign=other_key))
    assert read(contract, old, Keys(verify=(example_key.public_key(),))).reason is Reason.BAD_SIGNATURE


@pytest.mark.parametrize(
    "query",
    [
        b"",
        PAYMENT,
        PAYMENT + b"&sign=",
        PAYMENT + b"&sign=" + PAYMENT_SIGN[:-1].encode(),
        PAYMENT + b"&sign=" + PAYMENT_SIGN[:-2].encode(),
        PAYMENT + b"&sign=" + PAYMENT_SIGN.encode() + b"00",
        PAYMENT + b"&sign=" + PAYMENT_SIGN.encode() + b"&type=1",
        PAYMENT + b"&sign=" + PAYMENT_SIGN.encode() + b"\xff",
        PAYMENT + b"&sign=" + b" " + PAYMENT_SIGN[1:].encode(),
        PAYMENT + b"&sign=" + b"zz" * 128,
        PAYMENT + b"&sign=" + b"00" * 5000,
        PAYMENT + b"&sign=" + CHECK_SIGN.encode(),
        PAYMENT.replace(b"250.00", b"950.00") + b"&sign=" + PAYMENT_SIGN.encode(),
        PAYMENT.replace(b"10:15:30", b"10%3A15%3A30") + b"&sign=" + PAYMENT_SIGN.encode(),
        b"sign=" + PAYMENT_SIGN.encode() + b"&" + PAYMENT,
    ],
)
def test_whatever_the_signature_does_not_cover_is_a_bad_signature(contract_of, example_key, query):
    found = read(contract_of("cyberplat"), query, Keys(verify=(example_key.public_key(),)))
    assert isinstance(found, DecodeError)
    assert found.reason is Reason.BAD_SIGNATURE


def test_without_a_valid_key_nothing_opens(contract_of):
    found = read(contract_of("cyberplat"), PAYMENT + b"&sign=" + PAYMENT_SIGN.encode())
    assert isinstance(found, DecodeError)
    assert found.reason is Reason.BAD_SIGNATURE
    assert "no public key" in found.detail


def test_the_last_sign_counts_and_an_earlier_one_is_an_alien(contract_of, example_key):
    contract = contract_of("cyberplat")
    query = cyberplat.signed_query(PAYMENT + b"&sign=00", example_key, "sha1")
    found = read(contract, query, Keys(verify=(example_key.public_key(),)))
    assert isinstance(found, DecodeError)
    assert found.reason is Reason.BAD_REQUEST


def test_errors_are_signed_exactly_like_successes(contract_of, example_key):
    contract, keys = contract_of("cyberplat"), Keys(sign=example_key)
    for reason in Reason:
        body = cyberplat.encode(Result(None, reason), contract, keys).body
        reply = cyberplat.parse_reply(body)
        assert cyberplat.verify_reply(reply, example_key.public_key(), "sha1")
        assert reply.signed == cyberplat.encode(Result(None, reason), contract, NO_KEYS).body


def test_a_changed_or_unsigned_reply_is_not_verified(contract_of, example_key, other_key):
    body = cyberplat.encode(EXAMPLE_RESULT, contract_of("cyberplat"), Keys(sign=example_key)).body
    changed = cyberplat.parse_reply(body.replace(b"<code>0<", b"<code>7<"))
    unsigned = cyberplat.parse_reply(REPLY)
    assert not cyberplat.verify_reply(changed, example_key.public_key(), "sha1")
    assert not cyberplat.verify_reply(unsigned, example_key.public_key(), "sha1")
    assert not cyberplat.verify_reply(cyberplat.parse_reply(body), other_key.public_key(), "sha1")
    assert not cyberplat.verify_reply(cyberplat.parse_reply(body), example_key.public_key(), "sha256")


# ---- bad input: the code of each, in the order of checks ----

PAY_TAIL = "&receipt=1009000000123&date=2012-05-14T10:15:30"

BAD_INPUT = [
    ("", Reason.UNKNOWN_VERB, 1),
    ("action=", Reason.UNKNOWN_VERB, 1),
    ("action=refund&receipt=1", Reason.UNKNOWN_VERB, 1),
    ("action=Payment&receipt=1", Reason.UNKNOWN_VERB, 1),
    ("action=%zz", Reason.UNKNOWN_VERB, 1),
    ("number=70012345&type=1&amount=250.00", Reason.UNKNOWN_VERB, 1),
    ("action", Reason.BAD_REQUEST, 1),
    ("action=check&", Reason.BAD_REQUEST, 1),
    ("&action=check", Reason.BAD_REQUEST, 1),
    ("action=check&&number=1", Reason.BAD_REQUEST, 1),
    ("=check", Reason.BAD_REQUEST, 1),
    ("action=check&number=70012345&type=1&amount=250.00&number=70012345", Reason.BAD_REQUEST, 1),
    ("action=check&action=payment", Reason.BAD_REQUEST, 1),
    ("action=check&number=70012345&type=1&amount=250.00&receipt=1009", Reason.BAD_REQUEST, 1),
    ("action=check&number=70012345&type=1&amount=250.00&fio=x", Reason.BAD_REQUEST, 1),
    ("action=status&receipt=1009&number=70012345", Reason.BAD_REQUEST, 1),
    ("action=status&receipt=1009&mes=1", Reason.BAD_REQUEST, 1),
    ("action=cancel&receipt=1009&mes=1&date=2012-05-14T10:15:30", Reason.BAD_REQUEST, 1),
    ("action=check&\xe9=1", Reason.BAD_REQUEST, 1),
    ("&".join(f"p{n}=1" for n in range(50)), Reason.BAD_REQUEST, 1),
    ("action=check&type=1&amount=250.00", Reason.BAD_ACCOUNT_FORMAT, 2),
    ("action=check&number=&type=1&amount=250.00", Reason.BAD_ACCOUNT_FORMAT, 2),
    ("action=check&number=7%001&type=1&amount=250.00", Reason.BAD_ACCOUNT_FORMAT, 2),
    ("action=check&number=7%2&type=1&amount=250.00", Reason.BAD_ACCOUNT_FORMAT, 2),
    ("action=check&number=7%98&type=1&amount=250.00", Reason.BAD_ACCOUNT_FORMAT, 2),
    ("action=check&number=7\xe9&type=1&amount=250.00", Reason.BAD_ACCOUNT_FORMAT, 2),
    ("action=check&number=%C8%E2%E0%ED&type=1&amount=250.00", Reason.BAD_ACCOUNT_FORMAT, 2),
    (f"action=check&number={'7' * 31}&type=1&amount=250.00", Reason.BAD_ACCOUNT_FORMAT, 2),
    (f"action=check&number={'7' * 3000}&type=1&amount=250.00", Reason.BAD_ACCOUNT_FORMAT, 2),
    ("action=check&number=7+1&type=1&amount=250.00", Reason.BAD_ACCOUNT_FORMAT, 2),
    ("action=check&number=70012345&amount=250.00", Reason.BAD_SERVICE, -2),
    ("action=check&number=70012345&type=&amount=250.00", Reason.BAD_SERVICE, -2),
    ("action=check&number=70012345&type=a&amount=250.00", Reason.BAD_SERVICE, -2),
    ("action=check&number=70012345&type=-1&amount=250.00", Reason.BAD_SERVICE, -2),
    ("action=check&number=70012345&type=%B2&amount=250.00", Reason.BAD_SERVICE, -2),
    ("action=check&number=70012345&type=1&additional=%0A&amount=250.00", Reason.BAD_EXTRAS, -1),
    (f"action=check&number=70012345&type=1&additional={'x' * 251}&amount=250.00", Reason.BAD_EXTRAS, -1),
    ("action=check&number=70012345&type=1", Reason.BAD_AMOUNT, 3),
    ("action=check&number=70012345&type=1&amount=", Reason.BAD_AMOUNT, 3),
    ("action=check&number=70012345&type=1&amount=0", Reason.BAD_AMOUNT, 3),
    ("action=check&number=70012345&type=1&amount=0.00", Reason.BAD_AMOUNT, 3),
    ("action=check&number=70012345&type=1&amount=-250.00", Reason.BAD_AMOUNT, 3),
    ("action=check&number=70012345&type=1&amount=%2B250.00", Reason.BAD_AMOUNT, 3),
    ("action=check&number=70012345&type=1&amount=250.005", Reason.BAD_AMOUNT, 3),
    ("action=check&number=70012345&type=1&amount=250,00", Reason.BAD_AMOUNT, 3),
    ("action=check&number=70012345&type=1&amount=250.", Reason.BAD_AMOUNT, 3),
    ("action=check&number=70012345&type=1&amount=.50", Reason.BAD_AMOUNT, 3),
    ("action=check&number=70012345&type=1&amount=1e3", Reason.BAD_AMOUNT, 3),
    ("action=check&number=70012345&type=1&amount=1+000", Reason.BAD_AMOUNT, 3),
    ("action=check&number=70012345&type=1&amount=NaN", Reason.BAD_AMOUNT, 3),
    ("action=check&number=70012345&type=1&amount=12345678.00", Reason.BAD_AMOUNT, 3),
    (f"action=check&number=70012345&type=1&amount={'9' * 200}", Reason.BAD_AMOUNT, 3),
    ("action=payment&number=70012345&type=1&amount=250.00&date=2012-05-14T10:15:30", Reason.BAD_EXT_ID, 4),
    ("action=payment&number=70012345&type=1&amount=250.00&receipt=&date=2012-05-14T10:15:30", Reason.BAD_EXT_ID, 4),
    ("action=status&receipt=12a", Reason.BAD_EXT_ID, 4),
    ("action=status&receipt=-12", Reason.BAD_EXT_ID, 4),
    ("action=status&receipt=1234567890123456", Reason.BAD_EXT_ID, 4),
    ("action=status&receipt=12345678901234567890", Reason.BAD_EXT_ID, 4),
    ("action=status", Reason.BAD_EXT_ID, 4),
    ("action=cancel&mes=1", Reason.BAD_EXT_ID, 4),
    ("action=cancel&receipt=1009", Reason.BAD_REQUEST, 1),
    ("action=cancel&receipt=1009&mes=1234", Reason.BAD_REQUEST, 1),
    ("action=cancel&receipt=1009&mes=x", Reason.BAD_REQUEST, 1),
    ("action=payment&number=70012345&type=1&amount=250.00&receipt=1009", Reason.BAD_DATE, 5),
    *[
        (f"action=payment&number=70012345&type=1&amount=250.00&receipt=1009&date={date}", Reason.BAD_DATE, 5)
        for date in (
            "",
            "2012-02-30T10:15:30",
            "2011-02-29T10:15:30",
            "2012-13-01T10:15:30",
            "2012-05-14T24:00:00",
            "2012-05-14T10:60:00",
            "2012-05-14T10:15:60",
            "2012-05-14T10:15",
            "2012-05-14",
            "2012-05-14+10:15:30",
            "2012-05-14T10:15:30Z",
            "2012-05-14T10:15:30.5",
            "20120514101530",
            "14.05.2012T10:15:30",
            "0001-01-01T00:00:00",
            "9999-12-31T23:59:59",
            "%D9%A2012-05-14T10:15:30",
        )
    ],
]


@pytest.mark.parametrize(("query", "reason", "code"), BAD_INPUT)
def test_bad_input_gets_the_code_of_its_kind(contract_of, query, reason, code):
    contract = contract_of("cyberplat", UNSIGNED)
    found = read(contract, query)
    assert isinstance(found, DecodeError), found
    assert (found.reason, found.op is None or isinstance(found.op, Op)) == (reason, True)
    assert cyberplat.code_of(Result(found.op, found.reason), contract) == str(code)


def test_the_first_wrong_parameter_in_the_order_of_checks_gives_the_code(contract_of):
    contract = contract_of("cyberplat", UNSIGNED, services=["1"])
    wrong = {
        "number": ("", Reason.BAD_ACCOUNT_FORMAT),
        "type": ("x", Reason.BAD_SERVICE),
        "additional": ("%00", Reason.BAD_EXTRAS),
        "amount": ("0", Reason.BAD_AMOUNT),
        "receipt": ("x", Reason.BAD_EXT_ID),
        "date": ("x", Reason.BAD_DATE),
    }
    right = {
        "number": "7",
        "type": "1",
        "additional": "a",
        "amount": "1",
        "receipt": "5",
        "date": "2012-05-14T10:15:30",
    }
    for count, name in enumerate(wrong):
        mixed = {**right, **{later: wrong[later][0] for later in list(wrong)[count:]}}
        query = "action=payment&" + "&".join(f"{key}={value}" for key, value in mixed.items())
        assert read(contract, query).reason is wrong[name][1], name


def test_what_could_be_read_before_the_error_is_told_for_echo_and_search(contract_of):
    contract = contract_of("cyberplat", UNSIGNED)
    found = read(contract, "action=payment&number=70012345&type=1&amount=0" + PAY_TAIL)
    assert (found.op, found.key, found.account) == (Op.PAY, "1009000000123", "70012345")
    unreadable = read(contract, f"action=payment&number=%00&receipt={'9' * 200}")
    assert (unreadable.op, unreadable.key, unreadable.account) == (Op.PAY, None, None)


@pytest.mark.parametrize(
    ("written", "minor"),
    [("250.00", 25000), ("250.75", 25075), ("250", 25000), ("250.5", 25050), ("0.01", 1), ("0000250.00", 25000),
     ("9999999.99", 999_999_999)],
)  # fmt: skip
def test_sums_keep_their_kopecks(contract_of, written, minor):
    found = read(contract_of("cyberplat", UNSIGNED), f"action=check&number=7&type=1&amount={written}")
    assert found.amount == minor


def test_additional_is_windows_1251(contract_of):
    contract = contract_of("cyberplat", UNSIGNED)
    found = read(contract, "action=status&receipt=1009&additional=%C8%E2%E0%ED+%CF.")
    assert found == Status(key="1009", extras={"additional": "Иван П."})


def test_limits_of_the_contract_are_left_to_the_gateway_which_knows_repeats(contract_of):
    bound = contract_of(
        "cyberplat", UNSIGNED, services=["5"], account_pattern="[0-9]{3}", date_past_s=60, date_future_s=60
    )
    assert read(bound, "action=check&number=7&type=5&amount=1").reason is Reason.BAD_ACCOUNT_FORMAT
    assert read(bound, "action=check&number=777&type=2&amount=1").reason is Reason.BAD_SERVICE
    assert read(bound, "action=check&number=777&type=5&amount=1").service == "5"
    assert read(bound, PAYMENT, now=SHEET_PAY.partner_time + timedelta(days=300)) == SHEET_PAY


def test_a_number_has_at_most_thirty_characters_whatever_the_contracts_pattern(contract_of):
    contract = contract_of("cyberplat", UNSIGNED, account_pattern=".*")
    assert read(contract, f"action=check&number={'7' * 30}&type=1&amount=1").account == "7" * 30
    assert read(contract, f"action=check&number={'7' * 31}&type=1&amount=1").reason is Reason.BAD_ACCOUNT_FORMAT


def test_leading_zeros_go_where_the_contract_says_so(contract_of):
    query = "action=check&number=00700&type=1&amount=1"
    assert read(contract_of("cyberplat", UNSIGNED), query).account == "00700"
    assert read(contract_of("cyberplat", UNSIGNED, strip_leading_zeros=True), query).account == "700"


@pytest.mark.parametrize(
    ("written", "utc"),
    [
        ("2012-05-14T01:15:30", datetime(2012, 5, 13, 21, 15, 30, tzinfo=UTC)),
        ("2010-01-31T10:00:00", datetime(2010, 1, 31, 7, 0, tzinfo=UTC)),
        ("2011-03-27T02:30:00", datetime(2011, 3, 26, 23, 30, tzinfo=UTC)),  # skipped by summer time
        ("2014-10-26T01:30:00", datetime(2014, 10, 25, 21, 30, tzinfo=UTC)),  # happened twice: the first
    ],
)
def test_dates_are_read_in_the_contracts_zone(contract_of, written, utc):
    query = f"action=payment&number=7&type=1&amount=1&receipt=5&date={written}"
    assert read(contract_of("cyberplat", UNSIGNED), query).partner_time == utc


# ---- codes ----

# The table of codes, written down again by hand: (reason, check, payment, status, cancel).
TABLE = [
    (Reason.OK, 0, 0, 0, 0),
    (Reason.DUPLICATE_OK, 0, 0, 0, 0),
    (Reason.IN_PROGRESS, -3, -3, 8, 9),
    (Reason.TEMPORARY, -3, -3, -3, -3),
    (Reason.BAD_REQUEST, 1, 1, 1, 1),
    (Reason.UNKNOWN_VERB, 1, 1, 1, 1),
    (Reason.BAD_SIGNATURE, -4, -4, -4, -4),
    (Reason.BAD_SOURCE, -4, -4, -4, -4),
    (Reason.BAD_SERVICE, -2, -2, 6, 4),
    (Reason.BAD_ACCOUNT_FORMAT, 2, 2, 6, 4),
    (Reason.ACCOUNT_NOT_FOUND, 2, 2, 6, 4),
    (Reason.ACCOUNT_INACTIVE, 2, 2, 6, 4),
    (Reason.FORBIDDEN, 2, 2, 6, 4),
    (Reason.BAD_AMOUNT, 3, 3, 6, 4),
    (Reason.AMOUNT_TOO_SMALL, 3, 3, 6, 4),
    (Reason.AMOUNT_TOO_LARGE, 3, 3, 6, 4),
    (Reason.BAD_EXT_ID, 4, 4, 4, 4),
    (Reason.BAD_DATE, 5, 5, 6, 4),
    (Reason.BAD_EXTRAS, -1, -1, -1, -1),
    (Reason.CONFLICT, 4, 4, 4, 4),
    (Reason.PAYMENT_NOT_FOUND, 4, 4, 6, 4),
    (Reason.ALREADY_CANCELLED, 7, 7, 7, 7),
    (Reason.CANCEL_IMPOSSIBLE, 9, 9, 9, 9),
    (Reason.OTHER, 2, 2, 6, 4),
]


def test_the_code_table_is_the_protocols(contract_of):
    contract = contract_of("cyberplat")
    assert [row[0] for row in TABLE] == list(Reason)
    for reason, *codes in TABLE:
        for op, code in zip((Op.CHECK, Op.PAY, Op.STATUS, Op.CANCEL), codes, strict=True):
            assert cyberplat.code_of(Result(op, reason), contract) == str(code), (reason, op)


@pytest.mark.parametrize("in_work_code", [-3, 8])
def test_every_reason_and_operation_has_an_official_code_a_text_and_a_signed_reply(
    contract_of, example_key, in_work_code
):
    contract = contract_of("cyberplat", {"in_work_code": in_work_code})
    for reason in Reason:
        for op in (*Op, None):
            result = Result(op, reason, "1", 2, NOW, Minor(3), "4")
            reply = cyberplat.parse_reply(cyberplat.encode(result, contract, Keys(sign=example_key)).body)
            assert str(reply.code) == cyberplat.code_of(result, contract)
            assert -4 <= reply.code <= 9
            assert reply.message
            assert (reply.code == 0) == (reason in (Reason.OK, Reason.DUPLICATE_OK))
            is_temporary = reply.code in (-3, 8)
            is_undecided_cancel = (reason, op) == (Reason.IN_PROGRESS, Op.CANCEL)
            assert is_temporary == (reason in TEMPORARY_REASONS and not is_undecided_cancel)


# ---- what stands in a reply ----


@pytest.mark.parametrize(
    ("op", "reason", "elements"),
    [
        (Op.CHECK, Reason.OK, ["code", "message"]),
        (Op.PAY, Reason.OK, ["code", "authcode", "date", "message"]),
        (Op.STATUS, Reason.OK, ["code", "authcode", "date", "message"]),
        (Op.CANCEL, Reason.OK, ["code", "authcode", "message"]),
        (Op.PAY, Reason.ALREADY_CANCELLED, ["code", "authcode", "message"]),
        (Op.STATUS, Reason.ALREADY_CANCELLED, ["code", "authcode", "message"]),
        (Op.CANCEL, Reason.ALREADY_CANCELLED, ["code", "authcode", "message"]),
        (Op.CANCEL, Reason.CANCEL_IMPOSSIBLE, ["code", "message"]),
        (Op.PAY, Reason.IN_PROGRESS, ["code", "message"]),
        (Op.PAY, Reason.ACCOUNT_NOT_FOUND, ["code", "message"]),
        (None, Reason.BAD_SIGNATURE, ["code", "message"]),
    ],
)
def test_a_reply_has_the_elements_of_its_kind_in_order_and_sign_last(contract_of, example_key, op, reason, elements):
    result = Result(op, reason, "1009", 884213, NOW, Minor(25000), "70012345", display=(("name", "Иванов"),))
    contract = contract_of("cyberplat", display=["name"])
    reply = cyberplat.parse_reply(cyberplat.encode(result, contract, Keys(sign=example_key)).body)
    assert list(reply.fields) == [*elements, "sign"]


def test_the_standard_texts_of_the_sheets_examples(contract_of):
    contract = contract_of("cyberplat")

    def text(op, reason):
        return cyberplat.parse_reply(cyberplat.encode(Result(op, reason), contract, NO_KEYS).body).message

    assert text(Op.CHECK, Reason.OK) == "Абонент найден"
    assert text(Op.PAY, Reason.OK) == "Платеж принят"
    assert text(Op.STATUS, Reason.PAYMENT_NOT_FOUND) == "Платеж не найден"


def test_characters_outside_the_charset_become_references_markup_is_escaped_and_controls_go(contract_of):
    result = Result(Op.CHECK, Reason.OK, comment="Счёт №5 <b>&\"'\x00\x1b\x85\ud800\ufffe ₸ 漢\t\n.")
    body = cyberplat.encode(result, contract_of("cyberplat"), NO_KEYS).body
    inner = body.partition(b"<message>")[2].partition(b"</message>")[0]
    assert inner.decode("windows-1251") == "Счёт №5 &lt;b&gt;&amp;&quot;&#39; &#8376; &#28450;  ."
    assert cyberplat.parse_reply(body).message == "Счёт №5 <b>&\"' ₸ 漢  ."


def test_the_reply_date_is_in_the_contracts_zone_and_never_rounded_up(contract_of):
    result = replace(EXAMPLE_RESULT, registered_at=datetime(2020, 1, 31, 20, 59, 59, 999_999, tzinfo=UTC))
    for zone, date in (("Europe/Moscow", "2020-01-31T23:59:59"), ("Asia/Omsk", "2020-02-01T02:59:59")):
        body = cyberplat.encode(result, contract_of("cyberplat", time_zone=zone), NO_KEYS).body
        assert cyberplat.parse_reply(body).date == date


# ---- every switch of the dialect: what it refuses when off and does when on ----


def check_query(**changed):
    words = {"action": "check", "number": "70012345", "type": "1", "amount": "250.00", **changed}
    return "&".join(f"{name}={value}" for name, value in words.items() if value is not None)


def reason_or_request(found):
    return found.reason if isinstance(found, DecodeError) else found


# switch: (value, query, answer without it, answer with it)
REQUEST_SWITCHES = {
    "optional_type": (
        True, check_query(type=None), Reason.BAD_SERVICE, Check("70012345", "", Minor(25000))),
    "optional_amount_in_check": (
        True, check_query(amount=None), Reason.BAD_AMOUNT, Check("70012345", "1", None)),
    "receipt_in_check": (
        True, check_query(receipt="1009"), Reason.BAD_REQUEST, Check("70012345", "1", Minor(25000), "1009")),
    "comma_decimal": (
        True, check_query(amount="250,75"), Reason.BAD_AMOUNT, Check("70012345", "1", Minor(25075))),
    "cancel_without_mes": (
        True, "action=cancel&receipt=1009", Reason.BAD_REQUEST, Cancel(key="1009")),
    "receipt_min_digits": (
        3, "action=status&receipt=12", Status(key="12"), Reason.BAD_EXT_ID),
    "additional_pattern": (
        "[0-9]{9}", "action=status&receipt=12&additional=x", Status(key="12", extras={"additional": "x"}),
        Reason.BAD_EXTRAS),
}  # fmt: skip

PAID = replace(EXAMPLE_RESULT, display=(("name", "Иванов И."), ("balance", "10.00")))
CHECKED = Result(Op.CHECK, Reason.OK, amount=Minor(25000), account="70012345")

# switch: (value, result, a part of the reply that is there with it and not without it)
REPLY_SWITCHES = {
    "check_authcode": ("42", CHECKED, "<code>0</code><authcode>42</authcode>"),
    "add_element": (True, PAID, "</date><add>Абонент: Иванов И.; Баланс: 10.00</add><message>"),
    "in_work_code": (8, Result(Op.PAY, Reason.IN_PROGRESS), "<code>8</code>"),
}


@pytest.mark.parametrize("switch", REQUEST_SWITCHES)
def test_a_switch_changes_what_is_read(contract_of, switch):
    value, query, without, with_it = REQUEST_SWITCHES[switch]
    off, on = contract_of("cyberplat", UNSIGNED), contract_of("cyberplat", {**UNSIGNED, switch: value})
    assert reason_or_request(read(off, query)) == without
    assert reason_or_request(read(on, query)) == with_it


@pytest.mark.parametrize("switch", REPLY_SWITCHES)
def test_a_switch_changes_what_is_said(contract_of, switch):
    value, result, part = REPLY_SWITCHES[switch]
    off, on = contract_of("cyberplat"), contract_of("cyberplat", {switch: value})
    assert part not in cyberplat.encode(result, off, NO_KEYS).body.decode("windows-1251")
    assert part in cyberplat.encode(result, on, NO_KEYS).body.decode("windows-1251")


def test_require_signature_off_takes_signed_and_unsigned_alike(contract_of):
    contract = contract_of("cyberplat", UNSIGNED)
    assert read(contract, PAYMENT) == SHEET_PAY
    assert read(contract, PAYMENT + b"&sign=00") == SHEET_PAY


def test_a_reply_in_utf_8_says_so_and_is_signed_as_sent(contract_of, example_key):
    contract = contract_of("cyberplat", {"reply_charset": "utf-8", "reply_content_type": "application/xml"})
    reply = cyberplat.encode(EXAMPLE_RESULT, contract, Keys(sign=example_key))
    assert reply.content_type == "application/xml; charset=utf-8"
    assert reply.body.startswith(b'<?xml version="1.0" encoding="utf-8"?>')
    assert "Платеж принят" in reply.body.decode("utf-8")
    assert cyberplat.verify_reply(cyberplat.parse_reply(reply.body), example_key.public_key(), "sha1")


def test_every_switch_of_the_dialect_is_tested_here():
    elsewhere = {"digest", "require_signature", "reply_charset", "reply_content_type"}
    assert {field.name for field in fields(cyberplat.Dialect)} == {*REQUEST_SWITCHES, *REPLY_SWITCHES, *elsewhere}


# ---- the client side ----

DIGITS = st.text("0123456789", min_size=1, max_size=15)
SUMS = st.integers(1, 999_999_999).map(Minor)
SERVICES = st.integers(0, 10**9 - 1).map(str)
ACCOUNTS = st.from_regex(r"[0-9A-Za-z._@+-]{1,30}", fullmatch=True)
# Cp1251 has no byte 98; blanks and controls at the ends are another test's.
EXTRAS = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"additional": st.text('абвЁ№ &=%+#?"<>xyz09', min_size=1, max_size=250)}),
)
# From 2015 on the zone has no repeated hours.
TIMES = st.integers(1_420_000_000, 7_200_000_000).map(lambda at: datetime.fromtimestamp(at, UTC))

REQUESTS = st.one_of(
    st.builds(Check, account=ACCOUNTS, service=SERVICES, amount=SUMS, key=st.none() | DIGITS, extras=EXTRAS),
    st.builds(Pay, key=DIGITS, account=ACCOUNTS, amount=SUMS, service=SERVICES, partner_time=TIMES, extras=EXTRAS),
    st.builds(Status, key=DIGITS, extras=EXTRAS),
    st.builds(
        lambda key, extras, mes: Cancel(key=key, extras={**extras, "mes": mes}),
        DIGITS,
        EXTRAS,
        st.integers(0, 999).map(str),
    ),
)


@given(REQUESTS, st.booleans())
def test_what_is_built_is_read_back(contract_of, example_key, request_, in_body):
    contract = contract_of("cyberplat", {"receipt_in_check": True})
    query = cyberplat.build(request_, contract, Keys(sign=example_key))
    raw = RawRequest("POST", "/pay/p", b"", query) if in_body else get(query)
    assert cyberplat.decode(raw, contract, Keys(verify=(example_key.public_key(),)), NOW) == request_


@given(
    st.sampled_from([Op.CHECK, Op.PAY, Op.STATUS, Op.CANCEL]),
    st.sampled_from(Reason),
    st.integers(1, 2**63 - 1),
    TIMES,
    st.text(st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufeff\ufffe\uffff")),
)
def test_what_is_worded_is_parsed_back(contract_of, example_key, op, reason, payment_id, at, comment):
    contract = contract_of("cyberplat")
    result = Result(op, reason, "1", payment_id, at, Minor(1), "2", comment=comment)
    reply = cyberplat.parse_reply(cyberplat.encode(result, contract, Keys(sign=example_key)).body)
    assert str(reply.code) == cyberplat.code_of(result, contract)
    assert reply.message == comment.strip()
    has_id = op is not Op.CHECK and reason in (Reason.OK, Reason.DUPLICATE_OK, Reason.ALREADY_CANCELLED)
    assert reply.payment_id == (payment_id if has_id else None)
    assert cyberplat.verify_reply(reply, example_key.public_key(), "sha1")


NO_WORDS = [Balance(), Cancel(payment_id=5), Status(payment_id=5), replace(SHEET_PAY, partner_time=None)]


@pytest.mark.parametrize("request_", NO_WORDS)
def test_what_the_dialect_has_no_words_for_is_not_built(contract_of, request_):
    with pytest.raises(ValueError, match="CyberPlat"):
        cyberplat.build(request_, contract_of("cyberplat"), NO_KEYS)


def test_replies_of_others_are_read_by_name_with_stray_text_and_doubled_elements(example_key):
    body = (
        '<?xml version="1.0" encoding="windows-1251"?>\n<response>\n<authcode></authcode><authcode>15</authcode>'
        "<message>Да</message>\\n<code>0</code></response>"
    ).encode("windows-1251")
    reply = cyberplat.parse_reply(body)
    assert (reply.code, reply.payment_id, reply.message, reply.sign) == (0, 15, "Да", None)


@pytest.mark.parametrize("body", [b"", b"<html>", b"<response/>", b"<response><code>x</code></response>", b"\xff\xfe"])
def test_what_is_no_reply_is_a_value_error(body):
    with pytest.raises(ValueError, match="reply"):
        cyberplat.parse_reply(body)


def test_a_stored_reply_keeps_everything_but_the_signature(contract_of, example_key):
    reply = cyberplat.encode(EXAMPLE_RESULT, contract_of("cyberplat"), Keys(sign=example_key))
    assert cyberplat.scrub_reply(reply) == REPLY.decode("windows-1251").replace(
        "</response>", "<sign>***</sign></response>"
    )
    assert cyberplat.scrub_reply(Reply(b"<sign>secret", "text/xml; charset=windows-1251")) == "<sign>***"
