"""Forms, dates and XML text at the edges the dialect tests do not reach."""

from datetime import UTC, datetime, timedelta

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from adapters import wire
from adapters.messages import RawRequest, Reason

STORABLE = st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufeff\ufffe\uffff")


@given(st.text(STORABLE, max_size=wire.MAX_VALUE))
def test_quoted_text_is_ascii_and_decodes_to_itself(text):
    quoted = wire.quote(text, "utf-8").encode("ascii")
    assert wire.decode_text(quoted, "utf-8") == text


@given(st.binary(max_size=60), st.sampled_from(["utf-8", "windows-1251"]))
def test_a_value_decodes_to_storable_text_or_is_refused(value, charset):
    try:
        text = wire.decode_text(value, charset)
    except ValueError:
        return
    assert (
        wire.xml_text(text)
        .replace("&#39;", "'")
        .replace("&quot;", '"')
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
        == text
    )


def test_a_plus_is_a_blank_and_an_escaped_plus_is_a_plus():
    assert wire.decode_text(b"a+b%2Bc%2b", "utf-8") == "a b+c+"


@pytest.mark.parametrize(
    "value", [b"%", b"a%", b"%2", b"%zz", b"%+1", b"% 1", b"%2g", b"%%20", b"\xc3\xa9", b"%\xc3\xa9"]
)
def test_broken_percent_encoding_and_raw_bytes_are_refused_not_guessed(value):
    with pytest.raises(ValueError, match=r"percent-encod"):
        wire.decode_text(value, "utf-8")


def test_a_value_may_hold_an_equals_sign_and_a_name_may_not_come_twice():
    assert wire.split_form(b"a=b=c&d=") == {"a": b"b=c", "d": b""}
    with pytest.raises(wire.Nonsense, match="twice"):
        wire.split_form(b"a=1&a=1")


def test_the_number_of_parameters_is_bounded():
    most = b"&".join(b"p%d=1" % number for number in range(wire.MAX_PARAMETERS))
    assert len(wire.split_form(most)) == wire.MAX_PARAMETERS
    with pytest.raises(wire.Nonsense, match="parameters"):
        wire.split_form(most + b"&q=1")


def test_a_values_length_is_bounded_in_characters():
    assert len(wire.decode_text(b"%D0%98" * wire.MAX_VALUE, "utf-8")) == wire.MAX_VALUE
    with pytest.raises(ValueError, match="longer"):
        wire.decode_text(b"%D0%98" * (wire.MAX_VALUE + 1), "utf-8")


@pytest.mark.parametrize("text", ["", "1" * 21, "１", "²", "٣", "-1", "1 ", "1\n"])
def test_digits_are_ascii_digits(text):
    assert not wire.is_digits(text, 1, 20)


@given(st.datetimes(datetime(2000, 1, 1), datetime(2199, 12, 31)), st.sampled_from(["Europe/Moscow", "Pacific/Apia"]))  # noqa: DTZ001 - wall clock
def test_a_wall_clock_time_comes_back_unless_a_clock_change_swallowed_it(moment, zone):
    written = moment.isoformat(timespec="seconds")
    instant = wire.local_time(written, zone)
    back = wire.wall_clock(instant, zone)
    shift = abs(datetime.fromisoformat(back) - datetime.fromisoformat(written))
    assert shift in (timedelta(0), timedelta(hours=1), timedelta(hours=24))
    assert wire.wall_clock(wire.local_time(back, zone), zone) == back


@pytest.mark.parametrize("year", ["0001", "1999", "2200", "9999"])
def test_years_that_no_payment_has_are_refused(year):
    with pytest.raises(wire.Nonsense) as refused:
        wire.local_time(f"{year}-01-01T00:00:00", "Pacific/Apia")
    assert refused.value.reason is Reason.BAD_DATE


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_reply_that_declares_entities_is_refused_in_any_encoding(encoding):
    body = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE r [<!ENTITY e "x">]><r><code>&e;</code></r>'
    with pytest.raises(ValueError, match="document type"):
        wire.parse_xml(body.encode(encoding))


def test_a_reply_is_bounded():
    with pytest.raises(ValueError, match="larger"):
        wire.parse_xml(b"<r>" + b" " * wire.MAX_REPLY + b"</r>")


@pytest.mark.parametrize("instant", [datetime(2026, 1, 1, 23, 59, 59, 999_999, tzinfo=UTC)])
def test_fractions_of_a_second_are_cut(instant):
    assert wire.wall_clock(instant, "UTC") == "2026-01-01T23:59:59"


# ---- patterns ----


@pytest.mark.parametrize(
    "pattern",
    [r"(\d+)+x", "([0-9]+)*", "(a|a)*b", "(a|aa)+$", r"(.*)*(.*)*(.*)*=", "[0-9]{1,30}", r"\d{10}", ".{1,250}"],
)  # fmt: skip
def test_a_pattern_that_backtracks_elsewhere_is_matched_in_linear_time_here(pattern):
    wire.check_pattern("account_pattern", pattern)
    for text in ("1" * 255, "a" * 255, "=" * 255):
        wire.fits(pattern, text)  # Python's own engine ends none of the first five in a lifetime


@pytest.mark.parametrize(
    "pattern", [r"(a)\1", "(?=a)b", "(?<=a)b", "(?!x)[0-9]+", "((a{100}){100}){100}", "(?(1)a|b)", "a{1,1001}(b)"]
)
def test_what_no_linear_engine_can_express_is_refused_with_the_reason(pattern):
    with pytest.raises(ValueError, match="account_pattern must be a regular expression"):
        wire.check_pattern("account_pattern", pattern)


PLAIN = st.lists(
    st.sampled_from(["[0-9]", "[A-Za-z]", "[^x]", "7", "a", ".", r"\d", r"\.", "-"]).flatmap(
        lambda atom: st.sampled_from(["", "{2}", "{3}"]).map(lambda count: atom + count)
    ),
    max_size=4,
)


@given(PLAIN, st.sampled_from(["", "[0-9]{1,3}", "[a-z]*", ".+", "7?"]), PLAIN, st.text("0179ax.-٣é", max_size=12))
def test_the_quick_way_for_plain_patterns_and_re2_say_the_same(before, varying, after, text):
    pattern = "".join([*before, varying, *after])
    if pattern:
        assert wire.fits(pattern, text) == (re2.compile(pattern).fullmatch(text) is not None)


# ---- masked copies ----


@given(st.binary(max_size=3_000), st.integers(0, 400), st.sampled_from(["utf-8", "windows-1251"]))
def test_a_masked_copy_is_bounded_printable_and_made_of_the_beginning_alone(body, most, charset):
    raw = RawRequest("POST", "/pay/x", b"", body, {"authorization": "Basic x"})
    cut = wire.cut_request(raw, most)
    assert len(cut.body) <= most
    text = wire.scrubbed_request(raw, charset, most)
    assert text == wire.scrubbed_request(cut, charset, most)
    assert len(text) <= most
    assert text.replace("\n", "").isprintable()


def test_a_card_number_that_the_cut_runs_through_leaves_nothing_of_itself():
    body = b"x" * 290 + b"&pay=4111111111111111"
    assert "4111" not in wire.scrubbed_request(RawRequest("POST", "/", b"", body), "utf-8", 305)


@pytest.mark.parametrize("name", ["pass", "PASS", "%70ass", "+pass+", "p%41ss", "%0Apass", "card_number", "%63vv2"])
def test_a_secret_is_masked_by_its_name_among_few_parameters_and_among_many(name):
    for others in (b"", b"&a=1" * 60):
        text = wire.scrubbed_request(RawRequest("GET", "/", f"{name}=tell".encode() + others), "utf-8")
        assert "tell" not in text
        assert f"{name}=***" in text
