"""adapters.standard_webhooks: the worked example of the fact sheet, rotation, and what must not convince."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.standard_webhooks import (
    SECRET_MAX_BYTES,
    SECRET_MIN_BYTES,
    SIGNATURE,
    TIMESTAMP,
    WebhookError,
    secret_key,
    secret_text,
    signed_headers,
    verify,
)

A = bytes(range(32))
B = bytes(range(32, 64))
ID = "msg_01TEST0001"
AT = 1_800_000_000
BODY = (
    b'{"type":"payment.succeeded","timestamp":"2027-01-15T08:00:00Z",'
    b'"data":{"payment_id":"p-1","amount":"250.00","currency":"RUB"}}'
)
BY_A = "v1,UeFt3D6Abtk+DCIse7R7gnXdZEFAFuZNVDUTdrNn1T8="
BY_B = "v1,J6MA5dAnYHPsy3AYu1XFUPydlxcFTDsQnUgsyIhgAJM="


def test_the_worked_example():
    assert len(BODY) == 126
    assert secret_key("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=") == A
    assert secret_text(B) == "whsec_ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="
    assert signed_headers(ID, AT, BODY, [A]) == {
        "webhook-id": ID,
        "webhook-timestamp": "1800000000",
        "webhook-signature": BY_A,
    }


def test_while_a_secret_is_replaced_both_sign_and_either_convinces():
    headers = signed_headers(ID, AT, BODY, [B, A])
    assert headers[SIGNATURE] == f"{BY_B} {BY_A}"
    assert [verify(headers, BODY, [key], AT) for key in (A, B)] == [ID, ID]


@pytest.mark.parametrize(
    ("change", "body", "now"),
    [
        ({}, BODY + b" ", AT),
        ({}, BODY, AT + 301),
        ({}, BODY, AT - 301),
        ({SIGNATURE: BY_A.replace("v1,", "v1a,")}, BODY, AT),
        ({SIGNATURE: BY_A.removeprefix("v1,")}, BODY, AT),
        ({SIGNATURE: "v1,H9a6scdigJhoVfAVKkYW0BE6oi1MK9nmqfwjUPlKEgs="}, BODY, AT),  # key: the text whsec_... itself
        ({SIGNATURE: ""}, BODY, AT),
        ({TIMESTAMP: "1800000000.5"}, BODY, AT),
        ({TIMESTAMP: ""}, BODY, AT),
        ({"webhook-id": "msg_other"}, BODY, AT),
    ],
)
def test_what_does_not_convince(change, body, now):
    with pytest.raises(WebhookError):
        verify({**signed_headers(ID, AT, BODY, [A]), **change}, body, [A], now)


def test_the_edges_of_the_tolerance_convince_and_a_good_second_signature_does():
    headers = signed_headers(ID, AT, BODY, [A])
    assert verify(headers, BODY, [A], AT + 300) == verify(headers, BODY, [A], AT - 300) == ID
    assert verify({**headers, SIGNATURE: f"v1,AAAA v9,x {BY_A}"}, BODY, [A], AT) == ID


@pytest.mark.parametrize("text", ["", "whsec_", "AAEC", "whsec_***", secret_text(A)[:-3], "whsec_" + "A" * 200])
def test_what_is_no_secret(text):
    with pytest.raises(WebhookError):
        secret_key(text)


@pytest.mark.parametrize("message_id", ["", "a.b", "a\nb", "ж"])
def test_ids_that_would_be_ambiguous_are_not_signed(message_id):
    with pytest.raises(WebhookError):
        signed_headers(message_id, AT, BODY, [A])


def test_nothing_is_sent_unsigned():
    with pytest.raises(WebhookError, match="no secret"):
        signed_headers(ID, AT, BODY, [])


@given(st.binary(min_size=SECRET_MIN_BYTES, max_size=SECRET_MAX_BYTES), st.binary(max_size=300), st.integers(0, 2**40))
def test_what_is_signed_convinces_whatever_the_body(key, body, at):
    assert verify(signed_headers("id", at, body, [secret_key(secret_text(key))]), body, [key], at) == "id"


@given(st.dictionaries(st.sampled_from(["webhook-id", TIMESTAMP, SIGNATURE]), st.text()), st.binary(max_size=50))
def test_any_headers_convince_or_are_refused(headers, body):
    with pytest.raises(WebhookError):
        verify(headers, body, [A], AT)
