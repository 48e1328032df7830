"""What typed text may be: every text is read or refused with a sentence, every spelling of a phone is one phone."""

import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from billing.search.terms import (
    KIND_WORDS,
    MAX_CHARS,
    MAX_CODE_CHARS,
    PHONE_DIGITS,
    SearchError,
    SearchKind,
    clean,
    read_search,
)


@given(st.text(alphabet=st.characters(), max_size=MAX_CHARS + 50))
def test_any_text_is_read_or_refused_with_a_sentence_and_reads_the_same_again(typed: str) -> None:
    try:
        wanted = read_search(typed)
    except SearchError:
        assume(False)
    assert len(wanted.text) <= MAX_CHARS
    assert all(unicodedata.category(letter)[0] != "C" for letter in wanted.text)
    assert all(0 < len(code) <= MAX_CODE_CHARS for code in wanted.codes)
    assert wanted.number is None or 0 <= wanted.number < 2**63
    assert wanted.is_empty == (not wanted.words)
    if wanted.kind is None:
        assert read_search(wanted.text).codes == wanted.codes


@given(st.text(alphabet=st.characters(categories=["Cc", "Cf", "Cs"]) | st.sampled_from(" \t\n\u00a0"), max_size=60))
def test_what_nobody_sees_is_nothing_to_search_for(unseen: str) -> None:
    assert read_search(unseen).is_empty
    assert clean(f"Ёлкина{unseen}") == "Ёлкина"


@given(
    st.from_regex(r"\A[0-9]{10}\Z"),
    st.sampled_from(["+7 (%s%s%s) %s%s%s-%s%s-%s%s", "8%s%s%s%s%s%s%s%s%s%s", "8 %s%s%s %s%s%s %s%s %s%s",
                     "7%s%s%s%s%s%s%s%s%s%s", "(%s%s%s) %s%s%s-%s%s-%s%s", "+7.%s%s%s.%s%s%s.%s%s%s%s"]),
)  # fmt: skip
def test_every_spelling_of_a_phone_is_one_phone(digits: str, spelling: str) -> None:
    wanted = read_search(spelling % tuple(digits))
    assert wanted.phone == digits
    assert {digits, f"7{digits}", f"8{digits}", f"+7{digits}"} <= set(wanted.codes)


@given(st.from_regex(r"\A[0-9]{1,19}\Z"))
def test_digits_are_a_number_a_code_and_of_the_right_length_a_phone(digits: str) -> None:
    wanted = read_search(f"№ {digits}")
    assert wanted.codes[0] == digits
    assert wanted.number == (int(digits) if int(digits) < 2**63 else None)
    assert bool(wanted.phone) == (len(digits) in PHONE_DIGITS)


@pytest.mark.parametrize("word", KIND_WORDS)
def test_a_kind_is_asked_for_by_its_word_in_any_case(word: str) -> None:
    wanted = read_search(f" {word.upper()} :  Ёж-7 ")
    assert (wanted.kind, wanted.text) == (KIND_WORDS[word], "Ёж-7")
    assert wanted.asks_for(KIND_WORDS[word])
    assert sum(map(wanted.asks_for, SearchKind)) == 1


def test_a_word_before_a_colon_that_is_no_kind_is_part_of_the_text() -> None:
    wanted = read_search("txn:42")
    assert (wanted.kind, wanted.text) == (None, "txn:42")
    assert "txn:42" in wanted.codes


def test_a_sum_is_read_as_people_write_it() -> None:
    assert read_search("1 234,50").amount == 1_234_50
    assert read_search("250 ₽").amount == 250_00
    assert read_search("250 ₽").is_amount
    assert read_search("250").amount == 250_00
    assert not read_search("250").is_amount
    assert read_search("Ромашка").amount is None


def test_e_mail_and_lower_case() -> None:
    assert read_search("Anna@Example.RU").email == "anna@example.ru"
    assert read_search("anna @ example").email == ""
    assert read_search("«ЁЛКИНА  Анна»").folded == "елкина анна"


def test_too_much_is_refused() -> None:
    with pytest.raises(SearchError) as long:
        read_search("х" * 500)
    assert (long.value.code, long.value.values) == ("search_long", {"limit": MAX_CHARS})
    with pytest.raises(SearchError) as many:
        read_search(" ".join("абвгдежзик"))
    assert many.value.code == "search_words"
