"""Numbers, units and months in words are one everywhere, in both languages."""

import pytest

from billing.catalogue.units import Unit
from billing.wording import MONTHS, NBSP, Words, plural_en, plural_ru

ROUBLES = ("рубль", "рубля", "рублей")


@pytest.mark.parametrize(
    ("number", "form"),
    [(0, 2), (1, 0), (2, 1), (4, 1), (5, 2), (11, 2), (14, 2), (21, 0), (22, 1), (111, 2), (112, 2), (121, 0)],
)
def test_russian_counts_in_three_forms(number: int, form: int) -> None:
    assert plural_ru(number, ROUBLES) == ROUBLES[form]


def test_english_counts_in_two_forms() -> None:
    assert [plural_en(number, ("kopeck", "kopecks")) for number in (0, 1, 2, 11)] == [
        "kopecks", "kopeck", "kopecks", "kopecks",
    ]  # fmt: skip


def test_sums_are_written_as_people_of_the_language_write_them() -> None:
    assert Words("ru", "RUB").money(-1234567) == f"-12{NBSP}345,67{NBSP}₽"
    assert Words("en", "RUB").money(-1234567) == f"-12,345.67{NBSP}RUB"
    assert Words("ru", "USD").money(5) == f"0,05{NBSP}USD"


def test_a_unit_is_called_as_the_catalogue_says_else_as_people_do() -> None:
    russian = Words("ru", "RUB")
    assert russian.quantity(1500, Unit("GB", 3)) == "1,5 ГБ"
    assert russian.quantity(2, Unit("seat", 0, {"ru": "место"})) == "2 место"
    assert russian.quantity(2, Unit("seat")) == "2 seat"
    assert Words("en", "RUB").quantity(1500, Unit("GB", 3)) == "1.5 GB"


def test_a_year_has_twelve_months_in_both_languages() -> None:
    for language in MONTHS:
        assert len({Words(language, "RUB").month(month) for month in range(1, 13)}) == 12
    assert Words("ru", "RUB").month(1) == "январь"
