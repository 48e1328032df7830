"""Numbers, money, dates and times are written exactly, and as people of the language write them."""

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.language import MINUS, NBSP, Formats

RUSSIAN, ENGLISH = Formats("ru"), Formats("en")
MOSCOW = ZoneInfo("Europe/Moscow")
AT = datetime(2026, 2, 1, 11, 5, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("minor", "currency", "russian", "english"),
    [
        (123456, "RUB", "1 234,56 ₽", "₽1,234.56"),
        (-5, "RUB", f"{MINUS}0,05 ₽", f"{MINUS}₽0.05"),
        (0, "USD", "0,00 $", "$0.00"),
        (100, "CHF", "1,00 CHF", "CHF 1.00"),
        (100, "BYN", "1,00 Br", "Br 1.00"),
        (10**17 + 1, "EUR", "1 000 000 000 000 000,01 €", "€1,000,000,000,000,000.01"),
    ],
)
def test_money_stands_with_its_sign_where_the_language_puts_it(
    minor: int, currency: str, russian: str, english: str
) -> None:
    assert RUSSIAN.money(minor, currency).replace(NBSP, " ") == russian
    assert ENGLISH.money(minor, currency).replace(NBSP, " ") == english
    assert " " not in RUSSIAN.money(minor, currency) + ENGLISH.money(minor, currency)


@given(st.integers(-(10**40), 10**40), st.integers(0, 12), st.sampled_from(["ru", "en", "kk", "de"]))
def test_a_number_of_any_size_is_written_to_its_last_digit(value: int, decimals: int, code: str) -> None:
    formats = Formats(code)
    text = formats.decimal(value, decimals, decimals)
    digits = "".join(letter for letter in text if letter.isdigit())
    assert int(digits) == abs(value)
    assert text.startswith(MINUS) == (value < 0)
    assert " " not in text


def test_zeros_at_the_end_of_a_number_are_left_out_down_to_the_decimals_asked_for() -> None:
    assert RUSSIAN.decimal(150_000_000, 8, 2) == "1,50"
    assert RUSSIAN.decimal(150_000_001, 8, 2) == "1,50000001"
    assert ENGLISH.decimal(2_000, 3) == "2"
    assert ENGLISH.decimal(-1, 3) == f"{MINUS}0.001"


def test_percent_has_a_space_where_the_language_has_one() -> None:
    assert RUSSIAN.percent(220_000) == f"22{NBSP}%"
    assert ENGLISH.percent(220_000) == "22%"
    assert ENGLISH.percent(1) == "0.0001%"


def test_a_day_is_read_one_way() -> None:
    assert RUSSIAN.date(date(2026, 2, 1)) == "01.02.2026"
    assert ENGLISH.date(date(2026, 2, 1)) == "1 Feb 2026"
    assert "/" not in Formats("fr").date(date(2026, 2, 1))


def test_an_instant_is_shown_in_the_zone_that_is_named() -> None:
    assert RUSSIAN.instant(AT, MOSCOW) == "01.02.2026 14:05"
    assert RUSSIAN.instant(AT, MOSCOW, seconds=True) == "01.02.2026 14:05:09"
    assert ENGLISH.instant(AT, MOSCOW) == "1 Feb 2026, 14:05"
    assert ENGLISH.instant(None, MOSCOW) == ""
    late = datetime(2026, 1, 31, 22, 0, tzinfo=UTC)
    assert (RUSSIAN.day(late, MOSCOW), RUSSIAN.day(late, UTC)) == ("01.02.2026", "31.01.2026")


def test_a_month_has_its_name_and_year() -> None:
    assert (RUSSIAN.month(date(2026, 3, 1)), ENGLISH.month(date(2026, 3, 1))) == ("март 2026", "March 2026")
    assert [RUSSIAN.month_name(1), ENGLISH.month_name(12)] == ["январь", "December"]


@pytest.mark.parametrize(
    ("seconds", "russian", "english"),
    [
        (0, "0 с", "0 sec"),
        (59, "59 с", "59 sec"),
        (5_400, "1 ч 30 мин", "1 hr 30 min"),
        (259_200, "3 дн.", "3 days"),
        (90_061, "1 дн. 1 ч 1 мин 1 с", "1 day 1 hr 1 min 1 sec"),
        (-60, f"{MINUS}1 мин", f"{MINUS}1 min"),
    ],
)
def test_a_length_of_time_is_told_exactly(seconds: int, russian: str, english: str) -> None:
    assert RUSSIAN.duration(seconds).replace(NBSP, " ") == russian
    assert ENGLISH.duration(seconds).replace(NBSP, " ") == english


@pytest.mark.parametrize(
    ("octets", "shown"),
    [(0, "0 Б"), (999, "999 Б"), (1_000, "1 кБ"), (1_550, "1,6 кБ"), (12_345_678, "12,3 МБ"), (3 * 10**15, "3 000 ТБ")],
)
def test_a_size_is_told_in_the_largest_unit_it_has(octets: int, shown: str) -> None:
    assert RUSSIAN.size(octets).replace(NBSP, " ") == shown
