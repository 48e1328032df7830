"""Numbers, units and months in words are one everywhere, in both languages."""

from billing.catalogue.units import Unit
from billing.language import NBSP
from billing.wording import UNITS, Words


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


def test_every_unit_has_a_word_in_russian() -> None:
    russian = Words("ru", "RUB")
    assert [name for name in UNITS if russian.unit(name, {}) == name] == []


def test_a_year_has_twelve_months_in_both_languages() -> None:
    for language in ("ru", "en"):
        assert len({Words(language, "RUB").month(month) for month in range(1, 13)}) == 12
    assert Words("ru", "RUB").month(1) == "январь"
