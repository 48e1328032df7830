"""adapters.cloudevents: the envelope of the fact sheet, there and back, and what is no event."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.cloudevents import MAX_BYTES, CloudEvent, CloudEventError, decode_event, encode_event

EVENT = CloudEvent(
    id="evt-000123",
    source="https://billing.example/tenant/7",
    type="example.billing.payment.succeeded.v1",
    time=datetime(2027, 1, 15, 8, tzinfo=UTC),
    data={"payment_id": "p-1", "amount": "250.00", "currency": "RUB"},
    subject="payment/p-1",
    extensions={"partitionkey": "account/70012345"},
)


def test_the_envelope_of_the_fact_sheet():
    assert json.loads(encode_event(EVENT)) == {
        "specversion": "1.0",
        "id": "evt-000123",
        "source": "https://billing.example/tenant/7",
        "type": "example.billing.payment.succeeded.v1",
        "subject": "payment/p-1",
        "time": "2027-01-15T08:00:00.000Z",
        "datacontenttype": "application/json",
        "partitionkey": "account/70012345",
        "data": {"payment_id": "p-1", "amount": "250.00", "currency": "RUB"},
    }


def test_the_same_event_is_the_same_bytes():
    assert encode_event(EVENT) == encode_event(EVENT)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
printable = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=20)


@given(printable, printable, printable, st.datetimes(timezones=st.just(UTC)), json_values)
def test_what_is_encoded_is_decoded(event_id, source, kind, at, data):
    at = at.replace(microsecond=at.microsecond // 1000 * 1000)
    event = CloudEvent(event_id, source, kind, at, data, extensions={"sequence": "7"})
    assert decode_event(encode_event(event)) == event


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_refused(body):
    with pytest.raises(CloudEventError):
        decode_event(body)


@pytest.mark.parametrize(
    "change",
    [
        {"specversion": "0.3"},
        {"id": ""},
        {"source": None},
        {"type": 7},
        {"time": "yesterday"},
        {"time": "2027-01-15T08:00:00"},
        {"subject": 7},
        {"data_base64": "AA=="},
    ],
)
def test_what_is_no_event(change):
    envelope = {**json.loads(encode_event(EVENT)), **change}
    with pytest.raises(CloudEventError):
        decode_event(json.dumps(envelope).encode())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", ""),
        ("source", "a\nb"),
        ("time", datetime(2027, 1, 1)),  # noqa: DTZ001
        ("extensions", {"Upper": "x"}),
        ("extensions", {"id": "x"}),
        ("extensions", {"number": 2**31}),
        ("data", "x" * MAX_BYTES),
    ],
)
def test_what_is_not_encoded(field, value):
    values = {name: getattr(EVENT, name) for name in CloudEvent.__slots__}
    with pytest.raises(CloudEventError):
        encode_event(CloudEvent(**{**values, field: value}))
