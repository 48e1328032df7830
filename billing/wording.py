"""Numbers, money, units and months in words, Russian and English: one way to write each, for every document and report.

Rules. A number is written exactly: it comes as an integer of 10**-decimals, never as a float. Russian groups digits by
a no-break space and has a decimal comma, English a comma and a dot. A unit is called as the catalogue calls it in that
language, else as people do, else by its name. Russian counts in three forms, English in two.

Does not know: sentences (each report and document has its own), catalogues, where a number comes from.
"""

from collections.abc import Mapping
from typing import Final, Protocol

NBSP: Final = "\u00a0"
MINUS: Final = "\u2212"
#: Decimals of a price: a millionth of a kopeck, which is the core's micro.
PRICE_DECIMALS: Final = 8

#: Units as people write them; a unit that is not here is written as the catalogue does.
UNITS_RU: Final = {
    "s": "с",
    "min": "мин",
    "h": "ч",
    "piece": "шт.",
    "pcs": "шт.",
    "day": "дн.",
    "week": "нед.",
    "month": "мес.",
    "year": "г.",
    "call": "выз.",
    "sms": "SMS",
    "message": "сообщ.",
    "event": "соб.",
    "user": "польз.",
    "B": "Б",
    "kB": "кБ",
    "MB": "МБ",
    "GB": "ГБ",
    "TB": "ТБ",
    "KiB": "КиБ",
    "MiB": "МиБ",
    "GiB": "ГиБ",
    "TiB": "ТиБ",
}
MONTHS: Final = {
    "en": "January February March April May June July August September October November December",
    "ru": "январь февраль март апрель май июнь июль август сентябрь октябрь ноябрь декабрь",
}


class Counted(Protocol):
    """A unit: its name, the decimals of its steps, and what it is called by language (billing.catalogue.units.Unit)."""

    @property
    def name(self) -> str: ...

    @property
    def decimals(self) -> int: ...

    @property
    def names(self) -> Mapping[str, str]: ...


def format_decimal(value: int, decimals: int, at_least: int = 0) -> str:
    """An integer of 10**-decimals as text with a dot, exact.

    Args:
        at_least: decimals to show even where they are zeros.

    >>> format_decimal(150_000_000, 8, 2)
    '1.50'
    """
    sign = "-" if value < 0 else ""
    whole, rest = divmod(abs(value), int(10**decimals))
    tail = f"{rest:0{decimals}d}".rstrip("0").ljust(at_least, "0") if decimals else ""
    return f"{sign}{whole}.{tail}" if tail else f"{sign}{whole}"


def format_price(micro: int) -> str:
    """A price in micro as units of its currency.

    >>> format_price(150_000_000)
    '1.50'
    """
    return format_decimal(micro, PRICE_DECIMALS, 2)


def format_number(text: str, language: str) -> str:
    """A decimal as ``format_decimal`` writes it, as people of a language do.

    >>> format_number("-1234.5", "ru").replace(NBSP, " "), format_number("-1234.5", "en")
    ('-1 234,5', '-1,234.5')
    """
    whole, dot, rest = text.partition(".")
    sign, digits = ("-", whole[1:]) if whole.startswith("-") else ("", whole)
    grouped = f"{int(digits):,}"
    if language == "ru":
        return sign + grouped.replace(",", NBSP) + ("," + rest if dot else "")
    return sign + grouped + (dot + rest if dot else "")


def plural_ru(number: int, forms: tuple[str, str, str]) -> str:
    """The form that goes with a whole number; forms: of one, of two to four, of five and more.

    >>> [plural_ru(number, ("рубль", "рубля", "рублей")) for number in (1, 3, 11, 25, 101)]
    ['рубль', 'рубля', 'рублей', 'рублей', 'рубль']
    """
    if number % 100 in range(11, 20) or number % 10 == 0 or number % 10 >= 5:
        return forms[2]
    return forms[0] if number % 10 == 1 else forms[1]


def plural_en(number: int, forms: tuple[str, str]) -> str:
    """The form that goes with a whole number; forms: of one, of any other."""
    return forms[0] if number == 1 else forms[1]


class Words:
    """Numbers and names in one language for one currency."""

    def __init__(self, language: str, currency: str) -> None:
        self.language = language
        self.currency = currency

    def number(self, text: str) -> str:
        """A decimal as people of this language write it."""
        return format_number(text, self.language)

    def price(self, micro: int) -> str:
        """An exact amount, without its currency."""
        return self.number(format_price(micro))

    def percent(self, ppm: int) -> str:
        """Parts of a million as percent, without the sign."""
        return self.number(format_decimal(ppm, 4))

    def money(self, minor: int) -> str:
        """A rounded amount with its currency."""
        sign = "₽" if self.currency == "RUB" and self.language == "ru" else self.currency
        return f"{self.number(format_decimal(minor, 2, 2))}{NBSP}{sign}"

    def quantity(self, steps: int, unit: Counted) -> str:
        """A quantity with its unit."""
        number = format_decimal(steps, unit.decimals)
        return f"{self.number(number)} {self.unit(unit.name, unit.names)}"

    def unit(self, name: str, names: Mapping[str, str]) -> str:
        """A unit as the catalogue calls it in this language, else as people do."""
        return names.get(self.language) or (UNITS_RU.get(name, name) if self.language == "ru" else name)

    def name(self, names: Mapping[str, str]) -> str:
        """A name in this language, or in any there is."""
        return names.get(self.language) or names.get("") or next(iter(names.values()), "")

    def month(self, month: int) -> str:
        """The name of a month, 1 to 12, in the nominative."""
        return MONTHS[self.language].split()[month - 1]
