"""The OSMP family's provider protocol against what the protocol says: worked examples, tables, switches, bad input."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import osmp
from adapters.messages import (
    NO_KEYS,
    TEMPORARY_REASONS,
    Balance,
    Cancel,
    Check,
    Confirm,
    DecodeError,
    Keys,
    Op,
    Pay,
    RawRequest,
    Reason,
    Registry,
    RegistryLine,
    Result,
    Status,
)
from ratingcore.money import Minor

NOW = datetime(2012, 5, 14, 7, 0, tzinfo=UTC)
OPEN = {"require_basic": False}
ALL_VERBS = {**OPEN, "cancel": "prv_txn", "status": "txn_id", "verify": True, "balance": True}
IBOX = {**OPEN, "cancel": "cancel_txn_id", "cancel_unknown_code": 300, "id_element": "ibox_txn_id"}


def get(query, **headers):
    return RawRequest("GET", "/pay/osmp", query.encode("latin-1") if isinstance(query, str) else query, b"", headers)


def read(contract, query, keys=NO_KEYS, now=NOW):
    return osmp.decode(get(query), contract, keys, now)


def said(result, contract):
    return osmp.encode(result, contract, NO_KEYS).body.decode("utf-8")


# ---- worked examples ----

CHECK = "command=check&txn_id=1234567&account=70012345&sum=250.00"
PAY = "command=pay&txn_id=1234567&txn_date=20120514101530&account=70012345&sum=250.00"
SHEET_CHECK = Check("70012345", "", Minor(25000), "1234567")
SHEET_PAY = Pay("1234567", "70012345", Minor(25000), "", datetime(2012, 5, 14, 6, 15, 30, tzinfo=UTC))
EXAMPLE_RESULT = Result(Op.PAY, Reason.OK, "1234567", 884213, NOW, Minor(25000), "70012345")
HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'


def test_the_examples_are_read(contract_of):
    contract = contract_of("osmp", OPEN)
    assert read(contract, CHECK) == SHEET_CHECK
    assert read(contract, PAY) == SHEET_PAY
    official = "command=check&txn_id=1234567&account=0957835959&sum=10.45"
    assert read(contract, official) == Check("0957835959", "", Minor(1045), "1234567")


def test_the_examples_are_built_byte_for_byte(contract_of):
    contract = contract_of("osmp")
    assert osmp.build(SHEET_CHECK, contract, NO_KEYS) == CHECK.encode()
    assert osmp.build(SHEET_PAY, contract, NO_KEYS) == PAY.encode()


@pytest.mark.parametrize(
    ("result", "body"),
    [
        (
            Result(Op.CHECK, Reason.OK, "1234567", amount=Minor(25000), account="70012345"),
            "<response><osmp_txn_id>1234567</osmp_txn_id><result>0</result><comment></comment></response>",
        ),
        (
            EXAMPLE_RESULT,
            "<response><osmp_txn_id>1234567</osmp_txn_id><prv_txn>884213</prv_txn><sum>250.00</sum>"
            "<result>0</result><comment>OK</comment></response>",
        ),
        (
            Result(Op.PAY, Reason.ACCOUNT_NOT_FOUND, "1234567", account="70012345"),
            "<response><osmp_txn_id>1234567</osmp_txn_id><result>5</result>"
            "<comment>Account not found</comment></response>",
        ),
    ],
)
def test_the_example_replies_are_worded_byte_for_byte(contract_of, result, body):
    reply = osmp.encode(result, contract_of("osmp"), NO_KEYS)
    assert reply.body == (HEAD + body).encode()
    assert (reply.status, reply.content_type, reply.headers) == (200, "text/xml; charset=utf-8", ())


def test_the_example_basic_authorization_is_made_and_taken(contract_of):
    header = osmp.basic_authorization("osmp", "secret")
    assert header == "Basic b3NtcDpzZWNyZXQ="
    keys = Keys(basic=("0" * 64, osmp.basic_key("osmp", "secret")))
    assert osmp.decode(get(PAY, authorization=header), contract_of("osmp"), keys, NOW) == SHEET_PAY
    lower = header.replace("Basic", "basic")
    assert osmp.decode(get(PAY, authorization=lower), contract_of("osmp"), keys, NOW) == SHEET_PAY


def test_a_repeat_is_answered_to_the_letter_like_the_first(contract_of):
    repeat = replace(EXAMPLE_RESULT, reason=Reason.DUPLICATE_OK)
    assert said(repeat, contract_of("osmp")) == said(EXAMPLE_RESULT, contract_of("osmp"))


# ---- access ----


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic b3NtcDpzZWNyZXQ",
        "Basic b3NtcDpzZWNyZXQ=x",
        "Bearer b3NtcDpzZWNyZXQ=",
        "Basic b3NtcDp3cm9uZw==",
        "Basic \u0431",
        "Basic " + "A" * 4000,
    ],
)
@pytest.mark.parametrize("dialect", [{}, OPEN])
def test_where_there_is_a_basic_key_a_call_without_it_stays_out(contract_of, authorization, dialect):
    headers = {} if authorization is None else {"authorization": authorization}
    contract = contract_of("osmp", dialect)
    found = osmp.decode(get(PAY, **headers), contract, Keys(basic=(osmp.basic_key("osmp", "secret"),)), NOW)
    assert isinstance(found, DecodeError)
    assert found.reason is Reason.BAD_SIGNATURE


def test_require_basic_closes_a_contract_whose_keys_have_run_out(contract_of):
    headers = {"authorization": osmp.basic_authorization("osmp", "secret")}
    found = osmp.decode(get(PAY, **headers), contract_of("osmp"), NO_KEYS, NOW)
    assert isinstance(found, DecodeError)
    assert found.reason is Reason.BAD_SIGNATURE
    assert osmp.decode(get(PAY), contract_of("osmp", OPEN), NO_KEYS, NOW) == SHEET_PAY


@pytest.mark.parametrize(("reason", "status"), [(Reason.BAD_SIGNATURE, 401), (Reason.BAD_SOURCE, 403)])
def test_whoever_is_not_let_in_gets_http_and_no_word_of_the_protocol(contract_of, reason, status):
    contract = contract_of("osmp")
    reply = osmp.encode(Result(None, reason), contract, NO_KEYS)
    assert reply.status == status
    assert b"<" not in reply.body
    assert dict(reply.headers).get("WWW-Authenticate", "").startswith("Basic ") == (status == 401)
    assert osmp.code_of(Result(None, reason), contract) == str(status)
    with pytest.raises(ValueError, match="reply"):
        osmp.parse_reply(reply.body)


# ---- bad input ----

PAYEE = "&account=70012345&sum=250.00"

BAD_INPUT = [
    ("", Reason.UNKNOWN_VERB, 300),
    ("command=", Reason.UNKNOWN_VERB, 300),
    ("command=refund", Reason.UNKNOWN_VERB, 300),
    ("command=PAY&txn_id=1", Reason.UNKNOWN_VERB, 300),
    ("command=p%", Reason.UNKNOWN_VERB, 300),
    ("txn_id=1" + PAYEE, Reason.UNKNOWN_VERB, 300),
    ("command", Reason.BAD_REQUEST, 300),
    ("command=check&", Reason.BAD_REQUEST, 300),
    ("command=check&&txn_id=1", Reason.BAD_REQUEST, 300),
    ("command=check&txn_id=1&txn_id=1" + PAYEE, Reason.BAD_REQUEST, 300),
    ("command=check&\xf3=1", Reason.BAD_REQUEST, 300),
    ("&".join(f"p{n}=1" for n in range(50)), Reason.BAD_REQUEST, 300),
    ("command=check" + PAYEE, Reason.BAD_EXT_ID, 300),
    ("command=check&txn_id=" + PAYEE, Reason.BAD_EXT_ID, 300),
    ("command=check&txn_id=12a" + PAYEE, Reason.BAD_EXT_ID, 300),
    ("command=check&txn_id=-12" + PAYEE, Reason.BAD_EXT_ID, 300),
    ("command=check&txn_id=%D9%A1" + PAYEE, Reason.BAD_EXT_ID, 300),
    ("command=check&txn_id=123456789012345678901" + PAYEE, Reason.BAD_EXT_ID, 300),
    ("command=pay&txn_id=0&txn_date=20120514101530" + PAYEE, Reason.BAD_EXT_ID, 300),
    ("command=pay&txn_id=000&txn_date=20120514101530" + PAYEE, Reason.BAD_EXT_ID, 300),
    ("command=check&txn_id=1&sum=1", Reason.BAD_ACCOUNT_FORMAT, 4),
    ("command=check&txn_id=1&account=&sum=1", Reason.BAD_ACCOUNT_FORMAT, 4),
    ("command=check&txn_id=1&account=%00&sum=1", Reason.BAD_ACCOUNT_FORMAT, 4),
    ("command=check&txn_id=1&account=%ED%A0%80&sum=1", Reason.BAD_ACCOUNT_FORMAT, 4),
    ("command=check&txn_id=1&account=%C8%E2%E0%ED&sum=1", Reason.BAD_ACCOUNT_FORMAT, 4),
    ("command=check&txn_id=1&account=%D0%98&sum=1", Reason.BAD_ACCOUNT_FORMAT, 4),
    ("command=check&txn_id=1&account=7+1&sum=1", Reason.BAD_ACCOUNT_FORMAT, 4),
    ("command=check&txn_id=1&account=\xd8&sum=1", Reason.BAD_ACCOUNT_FORMAT, 4),
    (f"command=check&txn_id=1&account={'7' * 31}&sum=1", Reason.BAD_ACCOUNT_FORMAT, 4),
    ("command=check&txn_id=1&account=not!agreed", Reason.BAD_ACCOUNT_FORMAT, 4),
    ("command=check&txn_id=1&account=7&prv_id=x&sum=1", Reason.BAD_SERVICE, 300),
    ("command=check&txn_id=1&account=7", Reason.BAD_AMOUNT, 300),
    ("command=pay&txn_id=1&txn_date=20120514101530&account=7", Reason.BAD_AMOUNT, 300),
    *[
        (f"command=pay&txn_id=1&txn_date=20120514101530&account=7&sum={written}", Reason.BAD_AMOUNT, 300)
        for written in (
            "", "%2B1", "1.005", "1,00", "1.", ".5", "1e3", "NaN", "1+000", "9" * 17, "9" * 18,
        )
    ],
    ("command=pay&txn_id=1&txn_date=20120514101530&account=7&sum=-10.45", Reason.AMOUNT_TOO_SMALL, 241),
    ("command=pay&txn_id=1&txn_date=20120514101530&account=7&sum=--10.45", Reason.BAD_AMOUNT, 300),
    ("command=pay&txn_id=1&txn_date=20120514101530&account=7&sum=0", Reason.AMOUNT_TOO_SMALL, 241),
    ("command=pay&txn_id=1&txn_date=20120514101530&account=7&sum=0.00", Reason.AMOUNT_TOO_SMALL, 241),
    ("command=pay&txn_id=1&account=7&sum=1", Reason.BAD_DATE, 300),
    *[
        (f"command=pay&txn_id=1&account=7&sum=1&txn_date={written}", Reason.BAD_DATE, 300)
        for written in (
            "", "20120230101530", "20110229101530", "20121301101530", "20120514240000", "20120514106000",
            "20120514101560", "2012051410153", "201205141015300", "2012-05-14T10:15:30", "00010101000000",
            "99991231235959", "%D9%A00120514101530",
        )
    ],
    ("command=check&txn_id=1&account=7&sum=1&trm_id=%00", Reason.BAD_EXTRAS, 300),
    ("command=cancel&prv_txn=x", Reason.BAD_EXT_ID, 300),
    ("command=cancel&txn_id=1", Reason.BAD_EXT_ID, 300),
    ("command=cancel&prv_txn=18446744073709551616", Reason.PAYMENT_NOT_FOUND, 0),
    ("command=status", Reason.BAD_EXT_ID, 300),
    ("command=status&txn_id=0", Reason.BAD_EXT_ID, 300),
    ("command=verify", Reason.BAD_DATE, 300),
    ("command=verify&date=20120231", Reason.BAD_DATE, 300),
    ("command=verify&date=2012-02-01", Reason.BAD_DATE, 300),
    ("command=balance&account=%00", Reason.BAD_ACCOUNT_FORMAT, 4),
]  # fmt: skip


@pytest.mark.parametrize(("query", "reason", "code"), BAD_INPUT)
def test_bad_input_gets_the_code_of_its_kind(contract_of, query, reason, code):
    contract = contract_of("osmp", ALL_VERBS)
    found = read(contract, query)
    assert isinstance(found, DecodeError), found
    assert found.reason is reason
    assert osmp.code_of(Result(found.op, found.reason), contract) == str(code)


@pytest.mark.parametrize("words", ["cancel&prv_txn=1", "status&txn_id=1", "verify&date=20120501", "balance"])
def test_verbs_that_the_contract_does_not_have_are_unknown(contract_of, words):
    assert read(contract_of("osmp", OPEN), f"command={words}").reason is Reason.UNKNOWN_VERB


def test_a_post_is_refused_unless_the_contract_takes_it(contract_of):
    raw = RawRequest("POST", "/pay/osmp", b"", PAY.encode())
    assert osmp.decode(raw, contract_of("osmp", OPEN), NO_KEYS, NOW).reason is Reason.BAD_REQUEST


def test_what_could_be_read_before_the_error_is_told_and_echoed(contract_of):
    contract = contract_of("osmp", OPEN)
    found = read(contract, "command=pay&txn_id=1234567&txn_date=x" + PAYEE)
    assert (found.op, found.key, found.account) == (Op.PAY, "1234567", "70012345")
    reply = osmp.parse_reply(said(Result(found.op, found.reason, found.key), contract).encode())
    assert (reply.fields["osmp_txn_id"], reply.code) == ("1234567", 300)
    nameless = read(contract, "command=pay")
    assert "<osmp_txn_id></osmp_txn_id>" in said(Result(nameless.op, nameless.reason, nameless.key), contract)


def test_an_echoed_id_cannot_break_the_xml(contract_of):
    contract = contract_of("osmp", OPEN)
    found = read(contract, "command=pay&txn_id=%3C/x%3E%26" + PAYEE)
    reply = osmp.parse_reply(said(Result(found.op, found.reason, found.key), contract).encode())
    assert reply.fields["osmp_txn_id"] == "</x>&"


# ---- what is read ----


def test_a_twenty_digit_id_is_kept_exactly(contract_of):
    contract = contract_of("osmp", OPEN)
    found = read(contract, PAY.replace("1234567", "98765432109876543210"))
    assert found.key == "98765432109876543210"
    assert "<osmp_txn_id>98765432109876543210</osmp_txn_id>" in said(replace(EXAMPLE_RESULT, key=found.key), contract)


def test_a_terminals_look_up_with_id_and_sum_zero_is_a_check_of_no_sum(contract_of):
    found = read(contract_of("osmp", OPEN), "command=check&txn_id=0&account=70012345&sum=0.00")
    assert found == Check("70012345", "", None, "0")


def test_day_and_hour_are_not_mistaken_for_each_other(contract_of):
    found = read(contract_of("osmp", OPEN, time_zone="UTC"), PAY.replace("20120514101530", "20120203040506"))
    assert found.partner_time == datetime(2012, 2, 3, 4, 5, 6, tzinfo=UTC)


def test_unknown_parameters_are_ignored_and_agreed_ones_kept(contract_of):
    query = CHECK + "&trm_id=77&sum_from=260.00&terminal=&phone=%2B7&fio=%D0%98%D0%B2%D0%B0%D0%BD+%D0%9F.&junk=%00"
    plain = read(contract_of("osmp", OPEN), query)
    assert plain.extras == {"trm_id": "77", "sum_from": "260.00"}
    agreed = read(contract_of("osmp", {**OPEN, "extras": ["fio"]}), query)
    assert agreed.extras == {"trm_id": "77", "sum_from": "260.00", "fio": "Иван П."}


def test_limits_of_the_contract_are_left_to_the_gateway_which_knows_repeats(contract_of):
    bound = contract_of("osmp", OPEN, services=["10"], account_pattern="[0-9]{3}", date_past_s=60, date_future_s=60)
    assert read(bound, CHECK).reason is Reason.BAD_ACCOUNT_FORMAT
    assert read(bound, CHECK.replace("70012345", "700")).reason is Reason.BAD_SERVICE
    assert read(bound, CHECK.replace("70012345", "700") + "&prv_id=10").service == "10"
    assert read(bound, PAY, now=SHEET_PAY.partner_time + timedelta(days=300)) == SHEET_PAY


def test_an_account_fits_its_column_whatever_the_contracts_pattern(contract_of):
    contract = contract_of("osmp", OPEN, account_pattern=".*")
    assert read(contract, f"command=check&txn_id=1&sum=1&account={'7' * 64}").account == "7" * 64
    assert read(contract, f"command=check&txn_id=1&sum=1&account={'7' * 65}").reason is Reason.BAD_ACCOUNT_FORMAT


def test_a_pay_without_a_date_is_taken_where_the_contract_says_so_and_has_our_time(contract_of):
    query = "command=pay&txn_id=1&account=7&sum=1"
    assert read(contract_of("osmp", OPEN), query).reason is Reason.BAD_DATE
    contract = contract_of("osmp", {**OPEN, "optional_txn_date": True})
    assert read(contract, query).partner_time == NOW
    assert read(contract, query + "&txn_date=20120514101530").partner_time < NOW
    assert read(contract, query + "&txn_date=").reason is Reason.BAD_DATE


def test_an_id_with_zeros_in_front_is_another_id_unless_the_contract_refuses_it(contract_of):
    query = "command=pay&txn_id=0777&account=7&sum=1&txn_date=20120514101530"
    assert read(contract_of("osmp", OPEN), query).key == "0777"
    contract = contract_of("osmp", {**OPEN, "refuse_padded_id": True})
    assert read(contract, query).reason is Reason.BAD_EXT_ID
    assert read(contract, query.replace("0777", "7770")).key == "7770"


def test_leading_zeros_go_where_the_contract_says_so(contract_of):
    query = "command=check&txn_id=1&sum=1&account=000"
    assert read(contract_of("osmp", OPEN), query).account == "000"
    assert read(contract_of("osmp", OPEN, strip_leading_zeros=True), query).account == "0"


# ---- codes ----

# Section 4 and the table on other systems, written down again by hand: (reason, code, code of a cancel).
TABLE = [
    (Reason.OK, 0, 0),
    (Reason.DUPLICATE_OK, 0, 0),
    (Reason.IN_PROGRESS, 90, 90),
    (Reason.TEMPORARY, 1, 1),
    (Reason.BAD_REQUEST, 300, 300),
    (Reason.UNKNOWN_VERB, 300, 300),
    (Reason.BAD_SIGNATURE, 401, 401),
    (Reason.BAD_SOURCE, 403, 403),
    (Reason.BAD_SERVICE, 300, 300),
    (Reason.BAD_ACCOUNT_FORMAT, 4, 4),
    (Reason.ACCOUNT_NOT_FOUND, 5, 5),
    (Reason.ACCOUNT_INACTIVE, 79, 79),
    (Reason.FORBIDDEN, 7, 7),
    (Reason.BAD_AMOUNT, 300, 300),
    (Reason.AMOUNT_TOO_SMALL, 241, 241),
    (Reason.AMOUNT_TOO_LARGE, 242, 242),
    (Reason.BAD_EXT_ID, 300, 300),
    (Reason.BAD_DATE, 300, 300),
    (Reason.BAD_EXTRAS, 300, 300),
    (Reason.CONFLICT, 300, 300),
    (Reason.PAYMENT_NOT_FOUND, 300, 0),
    (Reason.ALREADY_CANCELLED, 300, 0),
    (Reason.CANCEL_IMPOSSIBLE, 251, 251),
    (Reason.OTHER, 300, 300),
]


def test_the_code_table_is_the_protocols(contract_of):
    contract = contract_of("osmp", ALL_VERBS)
    assert [row[0] for row in TABLE] == list(Reason)
    for reason, code, cancel_code in TABLE:
        for op in (*Op, None):
            expected = cancel_code if op is Op.CANCEL else code
            assert osmp.code_of(Result(op, reason), contract) == str(expected), (reason, op)


@pytest.mark.parametrize("dialect", [ALL_VERBS, IBOX, {**OPEN, "comments": "ru", "status": "balance"}])
def test_every_reason_and_operation_is_worded_and_only_ours_to_repeat_is_temporary(contract_of, dialect):
    contract = contract_of("osmp", dialect)
    for reason in Reason:
        for op in (*Op, None):
            result = Result(op, reason, "1", 2, NOW, Minor(3), "4")
            reply = osmp.encode(result, contract, NO_KEYS)
            if reply.status != 200:
                assert reason in (Reason.BAD_SIGNATURE, Reason.BAD_SOURCE)
                continue
            parsed = osmp.parse_reply(reply.body)
            assert str(parsed.code) == osmp.code_of(result, contract)
            assert (parsed.code in (1, 90)) == (reason in TEMPORARY_REASONS)
            if op is not Op.CANCEL:
                assert (parsed.code == 0) == (reason in (Reason.OK, Reason.DUPLICATE_OK))
            assert parsed.message or parsed.code == 0


# ---- every switch of the dialect: what it refuses or says when off, and what when on ----


def reason_or_request(found):
    return found.reason if isinstance(found, DecodeError) else found


# (switch, value, query, answer without it, answer with it)
REQUEST_SWITCHES = [
    (
        "charset", "windows-1251", CHECK + "&trm_id=%C8", Reason.BAD_EXTRAS,
        replace(SHEET_CHECK, extras={"trm_id": "И"}),
    ),
    ("optional_sum_in_check", True, "command=check&txn_id=1&account=7", Reason.BAD_AMOUNT, Check("7", "", None, "1")),
    (
        "optional_txn_date", True, "command=pay&txn_id=1&account=7&sum=1", Reason.BAD_DATE,
        Pay("1", "7", Minor(100), "", NOW),
    ),
    (
        "refuse_padded_id", True, PAY.replace("=1234567", "=01234567"), replace(SHEET_PAY, key="01234567"),
        Reason.BAD_EXT_ID,
    ),
    ("extras", ["fio"], CHECK + "&fio=x", SHEET_CHECK, replace(SHEET_CHECK, extras={"fio": "x"})),
    ("cancel", "prv_txn", "command=cancel&prv_txn=884213", Reason.UNKNOWN_VERB, Cancel(payment_id=884213)),
    ("status", "txn_id", "command=status&txn_id=5", Reason.UNKNOWN_VERB, Status(key="5")),
    ("status", "balance", "command=status", Reason.UNKNOWN_VERB, Balance()),
    ("status", "balance", "command=status&account=7", Reason.UNKNOWN_VERB, Balance("7")),
    ("balance", True, "command=balance", Reason.UNKNOWN_VERB, Balance()),
    (
        "verify", True, "command=verify&date=20120514", Reason.UNKNOWN_VERB,
        Registry(datetime(2012, 5, 13, 20, tzinfo=UTC), datetime(2012, 5, 14, 20, tzinfo=UTC)),
    ),
]  # fmt: skip

SHOWN = Result(Op.CHECK, Reason.OK, "1", display=(("name", 'И"<'), ("balance", "-10.00")))

# (switch, value, result, the reply without it, the reply with it)
REPLY_SWITCHES = [
    ("id_element", "txn_id", EXAMPLE_RESULT, "<response><osmp_txn_id>1234567</osmp_txn_id>",
     "<response><txn_id>1234567</txn_id>"),
    ("cancel_unknown_code", 300, Result(Op.CANCEL, Reason.PAYMENT_NOT_FOUND), "<result>0<", "<result>300<"),
    ("cancel_impossible_code", 79, Result(Op.CANCEL, Reason.CANCEL_IMPOSSIBLE), "<result>251<", "<result>79<"),
    ("conflict_code", 215, Result(Op.PAY, Reason.CONFLICT), "<result>300<", "<result>215<"),
    ("comments", "ru", Result(Op.PAY, Reason.BAD_DATE), "<comment>Wrong date<", "<comment>Неверная дата<"),
    ("field_type", "disp", SHOWN,
     '<fields><field1 name="name">И&quot;&lt;</field1><field2 name="balance">-10.00</field2></fields></response>',
     '<fields><field1 name="name" type="disp">И&quot;&lt;</field1><field2 name="balance" type="disp">-10.00</field2>'),
]  # fmt: skip


@pytest.mark.parametrize(("switch", "value", "query", "without", "with_it"), REQUEST_SWITCHES)
def test_a_switch_changes_what_is_read(contract_of, switch, value, query, without, with_it):
    assert reason_or_request(read(contract_of("osmp", OPEN), query)) == without
    assert reason_or_request(read(contract_of("osmp", {**OPEN, switch: value}), query)) == with_it


@pytest.mark.parametrize(("switch", "value", "result", "without", "with_it"), REPLY_SWITCHES)
def test_a_switch_changes_what_is_said(contract_of, switch, value, result, without, with_it):
    assert without in said(result, contract_of("osmp"))
    assert with_it in said(result, contract_of("osmp", {switch: value}))


def test_post_on_takes_get_and_post(contract_of):
    contract = contract_of("osmp", {**OPEN, "post": True})
    assert osmp.decode(RawRequest("POST", "/pay/osmp", b"", PAY.encode()), contract, NO_KEYS, NOW) == SHEET_PAY
    assert read(contract, PAY) == SHEET_PAY


def test_the_reply_content_type_is_the_contracts(contract_of):
    contract = contract_of("osmp", {"reply_content_type": "application/xml"})
    assert osmp.encode(EXAMPLE_RESULT, contract, NO_KEYS).content_type == "application/xml; charset=utf-8"


def test_every_switch_of_the_dialect_is_tested_here():
    tested = {row[0] for row in (*REQUEST_SWITCHES, *REPLY_SWITCHES)} | {"post", "reply_content_type", "require_basic"}
    assert {field.name for field in fields(osmp.Dialect)} == tested


# ---- the family's other verbs ----


def test_pegas_cancels_by_our_number(contract_of):
    contract = contract_of("osmp", ALL_VERBS)
    done = Result(Op.CANCEL, Reason.OK, "1234567", 884213, NOW, Minor(25000))
    assert said(done, contract) == (
        HEAD + "<response><prv_txn>884213</prv_txn><result>0</result><comment>OK</comment></response>"
    )
    again = replace(done, reason=Reason.ALREADY_CANCELLED)
    assert "<prv_txn>884213</prv_txn><result>0</result>" in said(again, contract)
    unknown = Result(Op.CANCEL, Reason.PAYMENT_NOT_FOUND)
    assert said(unknown, contract) == (
        HEAD + "<response><result>0</result><comment>Payment not found</comment></response>"
    )


def test_ibox_cancels_by_its_own_two_numbers_and_the_sum(contract_of):
    contract = contract_of("osmp", IBOX)
    found = read(contract, "command=cancel&txn_id=5&cancel_txn_id=6&sum=250.00")
    assert found == Cancel(key="5", cancel_key="6", amount=Minor(25000))
    done = Result(Op.CANCEL, Reason.OK, "5", 884213, NOW, Minor(25000), cancel_key="6")
    assert said(done, contract) == (
        HEAD + "<response><ibox_txn_id>5</ibox_txn_id><cancel_txn_id>6</cancel_txn_id><prv_txn>884213</prv_txn>"
        "<sum>250.00</sum><result>0</result><comment>OK</comment></response>"
    )


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("command=cancel&txn_id=5&sum=1", Reason.BAD_EXT_ID),
        ("command=cancel&cancel_txn_id=5&sum=1", Reason.BAD_EXT_ID),
        ("command=cancel&txn_id=5&cancel_txn_id=6", Reason.BAD_AMOUNT),
        ("command=cancel&prv_txn=5", Reason.BAD_EXT_ID),
    ],
)
def test_an_incomplete_ibox_cancel_is_refused(contract_of, query, reason):
    assert read(contract_of("osmp", IBOX), query).reason is reason


def test_status_tells_number_and_sum(contract_of):
    result = replace(EXAMPLE_RESULT, op=Op.STATUS)
    assert "<prv_txn>884213</prv_txn><sum>250.00</sum><result>0</result>" in said(
        result, contract_of("osmp", ALL_VERBS)
    )


@pytest.mark.parametrize("minor", [0, 12345, -12345])
def test_balance_tells_the_balance_with_its_sign(contract_of, minor):
    body = said(Result(Op.BALANCE, Reason.OK, amount=Minor(minor)), contract_of("osmp", ALL_VERBS))
    reply = osmp.parse_reply(body.encode())
    assert (reply.code, reply.amount) == (0, minor)
    assert "<balance>" in body


def test_verify_lists_the_days_payments(contract_of):
    lines = (
        RegistryLine("1", 101, "7001", Minor(25000), datetime(2012, 5, 14, 6, 15, 30, tzinfo=UTC)),
        RegistryLine("2", 102, "a<&\"'", Minor(5), datetime(2012, 5, 14, 19, 59, 59, tzinfo=UTC)),
    )
    contract = contract_of("osmp", ALL_VERBS)
    assert said(Result(Op.REGISTRY, Reason.OK, registry=lines), contract) == (
        HEAD + '<response><verify><payment txn_id="1" prv_txn="101" account="7001" amount="250.00" '
        'date="14.05.2012 10:15:30"/><payment txn_id="2" prv_txn="102" account="a&lt;&amp;&quot;&#39;" amount="0.05" '
        'date="14.05.2012 23:59:59"/></verify><result>0</result></response>'
    )
    empty = said(Result(Op.REGISTRY, Reason.OK), contract)
    assert empty == HEAD + "<response><verify></verify><result>0</result></response>"
    assert "<result>1</result>" in said(Result(Op.REGISTRY, Reason.TEMPORARY), contract)


def test_days_of_the_registry_tile_time_through_summer_time(contract_of):
    contract = contract_of("osmp", ALL_VERBS, time_zone="America/Sao_Paulo")  # its clocks changed at midnight
    days = [read(contract, f"command=verify&date=201810{day:02}") for day in range(1, 32)]
    days += [read(contract, f"command=verify&date=201811{day:02}") for day in range(1, 31)]
    assert all(day.end == following.start for day, following in pairwise(days))
    assert {(day.end - day.start) // timedelta(hours=1) for day in days} == {23, 24}


# ---- the client side ----

KEYS_OF = st.integers(1, 10**20 - 1).map(str)
SUMS = st.integers(1, 10**15).map(Minor)
ACCOUNTS = st.from_regex(r"[0-9A-Za-z._@+-]{1,30}", fullmatch=True)
SERVICES = st.just("") | st.integers(0, 10**20 - 1).map(str)
TIMES = st.integers(1_420_000_000, 7_200_000_000).map(lambda at: datetime.fromtimestamp(at, UTC))
PRINTABLE = st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufeff\ufffe\uffff")
EXTRAS = st.dictionaries(st.sampled_from(["trm_id", "fio"]), st.text(PRINTABLE, min_size=1, max_size=255))

DAYS = (
    st.integers(16_500, 83_000)
    .map(lambda day: datetime.fromtimestamp(day * 86_400, UTC))
    .map(lambda midnight: Registry(midnight, midnight + timedelta(days=1)))
)

REQUESTS = st.one_of(
    st.builds(Check, account=ACCOUNTS, service=SERVICES, amount=SUMS | st.none(), key=KEYS_OF, extras=EXTRAS),
    st.builds(Pay, key=KEYS_OF, account=ACCOUNTS, amount=SUMS, service=SERVICES, partner_time=TIMES, extras=EXTRAS),
    st.builds(Cancel, payment_id=st.integers(0, 2**63 - 1), extras=EXTRAS),
    st.builds(Status, key=KEYS_OF, extras=EXTRAS),
    st.builds(Balance, account=st.none() | ACCOUNTS, extras=EXTRAS),
    DAYS,
)


@given(REQUESTS, st.booleans())
def test_what_is_built_is_read_back(contract_of, request_, in_body):
    contract = contract_of("osmp", {**ALL_VERBS, "post": True, "extras": ["fio"]}, time_zone="UTC")
    query = osmp.build(request_, contract, NO_KEYS)
    raw = RawRequest("POST", "/pay/p", b"", query) if in_body else get(query)
    assert osmp.decode(raw, contract, NO_KEYS, NOW) == request_


@given(KEYS_OF, KEYS_OF, SUMS)
def test_an_ibox_cancel_that_is_built_is_read_back(contract_of, key, cancel_key, amount):
    contract = contract_of("osmp", IBOX)
    cancel = Cancel(key=key, cancel_key=cancel_key, amount=amount)
    assert read(contract, osmp.build(cancel, contract, NO_KEYS)) == cancel


@given(
    st.sampled_from([Op.CHECK, Op.PAY, Op.STATUS]),
    st.sampled_from([reason for reason in Reason if reason not in (Reason.BAD_SIGNATURE, Reason.BAD_SOURCE)]),
    st.integers(1, 2**63 - 1),
    SUMS,
    st.text(PRINTABLE),
)
def test_what_is_worded_is_parsed_back(contract_of, op, reason, payment_id, amount, comment):
    contract = contract_of("osmp", ALL_VERBS)
    result = Result(op, reason, "77", payment_id, NOW, amount, "2", comment=comment)
    reply = osmp.parse_reply(osmp.encode(result, contract, NO_KEYS).body)
    done = reason in (Reason.OK, Reason.DUPLICATE_OK) and op is not Op.CHECK
    assert str(reply.code) == osmp.code_of(result, contract)
    assert reply.message == comment.strip()
    assert (reply.payment_id, reply.amount) == ((payment_id, amount) if done else (None, None))
    assert reply.fields["osmp_txn_id"] == "77"


NO_WORDS = [Confirm("1"), Cancel(payment_id=1), Status(key="1"), Balance(), replace(SHEET_PAY, partner_time=None)]


@pytest.mark.parametrize("request_", NO_WORDS)
def test_what_the_contract_has_no_words_for_is_not_built(contract_of, request_):
    with pytest.raises(ValueError, match=r"words|date"):
        osmp.build(request_, contract_of("osmp"), NO_KEYS)


@pytest.mark.parametrize("body", [b"", b"OK", b"<response/>", b"<response><result></result></response>"])
def test_what_is_no_reply_is_a_value_error(body):
    with pytest.raises(ValueError, match="reply"):
        osmp.parse_reply(body)


def test_a_stored_reply_is_the_whole_reply(contract_of):
    reply = osmp.encode(EXAMPLE_RESULT, contract_of("osmp"), NO_KEYS)
    assert osmp.scrub_reply(reply) == said(EXAMPLE_RESULT, contract_of("osmp"))
