"""Contracts as data: what is read, what is refused and in which words, and that nothing is lost on the way."""

import json
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import cyberplat, osmp, protocols
from adapters.messages import Contract, Reason
from adapters.protocols import PROTOCOLS, contract_from_json, contract_to_json, default_body, describe_fields
from ratingcore.money import MAX_MINOR, Minor


def read(**body):
    return contract_from_json(7, "pegas", 3, {"protocol": "osmp", **body}, True)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_contract_of_nothing_but_a_protocol_has_the_defaults_of_the_records(name):
    contract = contract_from_json(7, "pegas", 3, {"protocol": name}, False)
    assert contract == Contract(7, "pegas", 3, name, PROTOCOLS[name].Dialect(), active=False)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_default_body_names_every_field_and_reads_back(name):
    body = default_body(name)
    own = {"partner_id", "partner", "version", "active"}
    assert set(body) == {field.name for field in fields(Contract)} - own
    assert set(body["dialect"]) == {field.name for field in fields(PROTOCOLS[name].Dialect)}
    again = contract_from_json(1, "x", 1, json.loads(json.dumps(body)), True)
    assert again == contract_from_json(1, "x", 1, {"protocol": name}, True)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_modules_are_what_the_waist_asks_for(name):
    protocol = PROTOCOLS[name]
    assert name == protocol.NAME
    for part in ("Dialect", "decode", "encode", "scrub", "scrub_reply", "code_of", "check_settings", "build"):
        assert callable(getattr(protocol, part))


def test_every_field_is_read_into_its_type():
    contract = read(
        currency="KZT",
        time_zone="Asia/Almaty",
        sources=["192.0.2.0/24", "2001:db8::/32", "198.51.100.7"],
        services=["10", "11"],
        account_pattern="[0-9]{8}",
        strip_leading_zeros=True,
        min_minor=100,
        max_minor=200,
        date_past_s=None,
        date_future_s=0,
        re_examine=["account_not_found", "amount_too_large"],
        display=["balance"],
        cancel_allowed=True,
        cancel_window_s=None,
        cancel_needs_balance=False,
        cancel_tombstone=True,
        dialect={"cancel": "cancel_txn_id", "extras": ["fio"]},
    )
    assert contract.sources == ("192.0.2.0/24", "2001:db8::/32", "198.51.100.7")
    assert contract.re_examine == frozenset({Reason.ACCOUNT_NOT_FOUND, Reason.AMOUNT_TOO_LARGE})
    assert (contract.min_minor, contract.max_minor, contract.date_past_s, contract.date_future_s) == (100, 200, None, 0)
    assert contract.dialect == osmp.Dialect(cancel="cancel_txn_id", extras=("fio",))
    hash(contract)  # frozen through and through


# (body, the field that is named, a word of what is allowed)
REFUSED = [
    ({"protocol": "eport"}, "protocol", "cyberplat, osmp"),
    ({"protocol": None}, "protocol", "cyberplat, osmp"),
    ({"protocol": ["osmp"]}, "protocol", "cyberplat, osmp"),
    ({"minimum": 1}, "minimum", "fields are"),
    ({"active": True}, "active", "fields are"),
    ({"partner_id": 1}, "partner_id", "fields are"),
    ({"dialect": []}, "dialect", "object"),
    ({"dialect": None}, "dialect", "object"),
    ({"dialect": {"pst": True}}, "dialect.pst", "fields are"),
    ({"dialect": {"post": 1}}, "dialect.post", "true or false"),
    ({"dialect": {"post": None}}, "dialect.post", "true or false"),
    ({"dialect": {"cancel": "pegas"}}, "dialect.cancel", "off, prv_txn, cancel_txn_id"),
    ({"dialect": {"cancel_impossible_code": 80}}, "dialect.cancel_impossible_code", "79, 251"),
    ({"dialect": {"extras": "fio"}}, "dialect.extras", "list"),
    ({"dialect": {"extras": ["sum"]}}, "dialect.extras", "otherwise"),
    ({"dialect": {"extras": ["a&b"]}}, "dialect.extras", "otherwise"),
    ({"dialect": {"id_element": "1x"}}, "dialect.id_element", "element name"),
    ({"dialect": {"id_element": "a><b"}}, "dialect.id_element", "element name"),
    ({"dialect": {"id_element": "result"}}, "dialect.id_element", "otherwise"),
    ({"dialect": {"field_type": 'x"'}}, "dialect.field_type", "letters"),
    ({"dialect": {"reply_content_type": "text/xml\r\nX: 1"}}, "dialect.reply_content_type", "media type"),
    ({"dialect": {"conflict_code": 0}}, "dialect.conflict_code", "final"),
    ({"dialect": {"conflict_code": 90}}, "dialect.conflict_code", "final"),
    ({"dialect": {"cancel_unknown_code": 1}}, "dialect.cancel_unknown_code", "0, 79, 251 or 300"),
    ({"dialect": {"cancel": "cancel_txn_id"}}, "dialect.cancel_unknown_code", "cancel_tombstone"),
    ({"currency": "rub"}, "currency", "three capital"),
    ({"currency": 643}, "currency", "text"),
    ({"time_zone": "Moscow"}, "time_zone", "IANA"),
    ({"time_zone": ""}, "time_zone", "IANA"),
    ({"time_zone": "Europe"}, "time_zone", "IANA"),
    ({"time_zone": "../etc/passwd"}, "time_zone", "IANA"),
    ({"time_zone": "a\x00b"}, "time_zone", "IANA"),
    ({"sources": ["192.0.2.1/24"]}, "sources", "host bits"),
    ({"sources": ["example.org"]}, "sources", "networks"),
    ({"sources": ["300.0.0.0/8"]}, "sources", "networks"),
    ({"sources": "192.0.2.0/24"}, "sources", "list"),
    ({"sources": ["192.0.2.0/24"] * 257}, "sources", "256"),
    ({"services": ["x"]}, "services", "digits"),
    ({"services": [1]}, "services", "texts"),
    ({"services": [""]}, "services", "characters"),
    ({"services": ["1", "1"]}, "services", "different"),
    ({"account_pattern": "[0-9"}, "account_pattern", "regular expression"),
    ({"account_pattern": "a{99999999999}"}, "account_pattern", "too large"),
    ({"account_pattern": "(" * 200}, "account_pattern", "regular expression"),
    ({"account_pattern": ""}, "account_pattern", "1 to 200"),
    ({"account_pattern": "a" * 201}, "account_pattern", "1 to 200"),
    ({"min_minor": 0}, "min_minor", "1 <="),
    ({"min_minor": 200, "max_minor": 100}, "max_minor", "min_minor <= max_minor"),
    ({"max_minor": MAX_MINOR + 1}, "max_minor", str(MAX_MINOR)),
    ({"max_minor": 100.0}, "max_minor", "whole number"),
    ({"max_minor": "100"}, "max_minor", "whole number"),
    ({"max_minor": True}, "max_minor", "whole number"),
    ({"max_minor": None}, "max_minor", "whole number"),
    ({"date_past_s": -1}, "date_past_s", "null or 0 to"),
    ({"date_future_s": 10**12}, "date_future_s", "null or 0 to"),
    ({"date_past_s": "1d"}, "date_past_s", "whole number or null"),
    ({"cancel_window_s": -1}, "cancel_window_s", "null or 0 to"),
    ({"re_examine": ["account_missing"]}, "re_examine", "account_not_found"),
    ({"re_examine": ["ok"]}, "re_examine", "account_not_found"),
    ({"re_examine": ["conflict"]}, "re_examine", "account_not_found"),
    ({"display": ["phone"]}, "display", "name, balance"),
    ({"display": ["name", "name"]}, "display", "different"),
    ({"cancel_allowed": "yes"}, "cancel_allowed", "true or false"),
    ({"protocol": "cyberplat", "services": ["a"]}, "services", "digits"),
    ({"protocol": "cyberplat", "dialect": {"digest": "md5"}}, "dialect.digest", "sha1, sha256"),
    ({"protocol": "cyberplat", "dialect": {"receipt_min_digits": 0}}, "dialect.receipt_min_digits", "1 to 15"),
    ({"protocol": "cyberplat", "dialect": {"receipt_min_digits": 16}}, "dialect.receipt_min_digits", "1 to 15"),
    ({"protocol": "cyberplat", "dialect": {"check_authcode": "x"}}, "dialect.check_authcode", "digits"),
    ({"protocol": "cyberplat", "dialect": {"additional_pattern": "("}}, "dialect.additional_pattern", "regular"),
    ({"protocol": "cyberplat", "dialect": {"in_work_code": 7}}, "dialect.in_work_code", "-3, 8"),
    ({"protocol": "cyberplat", "dialect": {"reply_charset": "koi8-r"}}, "dialect.reply_charset", "windows-1251"),
    ({"protocol": "cyberplat", "dialect": {"reply_content_type": "xml"}}, "dialect.reply_content_type", "media type"),
    ({"protocol": "cyberplat", "dialect": {"post": True}}, "dialect.post", "fields are"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "named", "allowed"), REFUSED)
def test_a_wrong_field_is_named_with_what_is_allowed(body, named, allowed):
    with pytest.raises(ValueError, match=f"^{named}|{named} ") as refused:
        read(**body)
    assert allowed in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_contract_that_is_no_object_is_refused():
    with pytest.raises(ValueError, match="object"):
        contract_from_json(1, "x", 1, [], True)


FIELDS = {name: sorted({*default_body(name), "x"}) for name in PROTOCOLS}
SETTINGS = {name: sorted({*default_body(name)["dialect"], "x"}) for name in PROTOCOLS}
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["off", "prv_txn", "sha1", "utf-8", "UTC", "name", "account_not_found", "10.0.0.0/8", "text/xml"]),
)
JSON = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(st.text(max_size=3), SCALARS, max_size=2)


def contract_or_words(body):
    try:
        return contract_from_json(1, "x", 1, body, True)
    except ValueError as error:
        return str(error)


@given(st.data(), st.sampled_from(sorted(PROTOCOLS)))
def test_any_json_is_a_contract_or_a_value_error_of_one_line(data, name):
    body = data.draw(st.dictionaries(st.sampled_from(FIELDS[name]), JSON, max_size=3))
    body["dialect"] = data.draw(st.dictionaries(st.sampled_from(SETTINGS[name]), JSON, max_size=3) | JSON)
    found = contract_or_words({**body, "protocol": name})
    if isinstance(found, str):
        assert "must" in found or "is not a field" in found
        assert found.isprintable()
    else:
        assert contract_from_json(1, "x", 1, contract_to_json(found), True) == found


CONTRACTS = st.builds(
    replace,
    st.sampled_from(
        [
            Contract(1, "x", 1, "osmp", osmp.Dialect(extras=("fio", "phone"), cancel="prv_txn", comments="ru")),
            Contract(1, "x", 1, "cyberplat", cyberplat.Dialect(digest="sha256", in_work_code=8)),
        ]
    ),
    sources=st.lists(st.ip_addresses().map(str), max_size=3, unique=True).map(tuple),
    services=st.lists(st.integers(0, 999).map(str), max_size=3, unique=True).map(tuple),
    min_minor=st.integers(1, 100).map(Minor),
    max_minor=st.integers(100, MAX_MINOR).map(Minor),
    date_past_s=st.none() | st.integers(0, 10**8),
    cancel_window_s=st.none() | st.integers(0, 10**8),
    re_examine=st.frozensets(st.sampled_from(sorted(protocols.RE_EXAMINABLE))),
    display=st.permutations(protocols.DISPLAY_FIELDS).map(tuple),
)


@given(CONTRACTS)
def test_a_contract_comes_back_from_its_json_unchanged(contract):
    stored = json.dumps(contract_to_json(contract))
    assert contract_from_json(1, "x", 1, json.loads(stored), True) == contract
    assert json.dumps(contract_to_json(contract)) == stored


@pytest.mark.parametrize("name", PROTOCOLS)
def test_the_table_of_settings_describes_every_field(name):
    notes = describe_fields(name)
    body = default_body(name)
    names = {*body, *(f"dialect.{field}" for field in body["dialect"])} - {"dialect"}
    assert {note.name for note in notes} == names
    for note in notes:
        assert note.type
        assert note.meaning
        path = note.name.partition("dialect.")
        value = body["dialect"][path[2]] if path[1] else body[note.name]
        assert note.name == "protocol" or json.loads(note.default) == value
    assert describe_fields() == [note for note in notes if not note.name.startswith("dialect.")]


def test_an_unknown_protocol_has_no_table_and_no_default():
    for function in (describe_fields, default_body):
        with pytest.raises(ValueError, match="protocol must be one of"):
            function("eport")
