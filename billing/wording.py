"""Numbers, money, units and names of a catalogue in words of a language: one way to write each, for every report.

Rules. A number is written exactly: it comes as an integer of 10**-decimals, never as a float. How a language writes it
is told by billing.language.formats. A unit is called as the catalogue calls it in that language, else as people do,
else by its name.

Does not know: sentences (each report and document has its own), catalogues, where a number comes from.
"""

from collections.abc import Mapping
from typing import Final, Protocol

from billing.language import MINUS, NBSP, NP_, SOURCE, language_of

#: Decimals of a price: a millionth of a kopeck, which is the core's micro.
PRICE_DECIMALS: Final = 8

#: Units as people write them in English; a unit that is not here is written as the catalogue does.
UNITS: Final = {
    "s": NP_("unit", "s"),
    "min": NP_("unit", "min"),
    "h": NP_("unit", "h"),
    "piece": NP_("unit", "piece"),
    "pcs": NP_("unit", "pcs"),
    "day": NP_("unit", "day"),
    "week": NP_("unit", "week"),
    "month": NP_("unit", "month"),
    "year": NP_("unit", "year"),
    "call": NP_("unit", "call"),
    "sms": NP_("unit", "sms"),
    "message": NP_("unit", "message"),
    "event": NP_("unit", "event"),
    "user": NP_("unit", "user"),
    "B": NP_("unit", "B"),
    "kB": NP_("unit", "kB"),
    "MB": NP_("unit", "MB"),
    "GB": NP_("unit", "GB"),
    "TB": NP_("unit", "TB"),
    "KiB": NP_("unit", "KiB"),
    "MiB": NP_("unit", "MiB"),
    "GiB": NP_("unit", "GiB"),
    "TiB": NP_("unit", "TiB"),
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


class Words:
    """Numbers and names in one language for one currency, as reports of terminals have them: a minus is a hyphen."""

    def __init__(self, language: str, currency: str) -> None:
        self.language = language
        self.currency = currency
        self.spoken = language_of(language)

    def say(self, text: str, /, **values: object) -> str:
        """A marked text of a table in this language."""
        return self.spoken.gettext(text, **values)

    def count(self, number: int) -> str:
        """A whole number."""
        return _hyphened(self.spoken.formats.count(number))

    def decimal(self, value: int, decimals: int) -> str:
        """An integer of 10**-decimals."""
        return _hyphened(self.spoken.formats.decimal(value, decimals))

    def price(self, micro: int) -> str:
        """An exact amount, without its currency."""
        return _hyphened(self.spoken.formats.decimal(micro, PRICE_DECIMALS, 2))

    def percent(self, ppm: int) -> str:
        """Parts of a million as percent, without the sign."""
        return _hyphened(self.spoken.formats.decimal(ppm, 4))

    def money(self, minor: int) -> str:
        """A rounded amount with its currency: the rouble's sign in Russian, else the code after the number.

        Programs read reports in English too, and a sum there is a number and a code throughout the command.
        """
        formats = self.spoken.formats
        if self.currency == "RUB" and self.language != SOURCE:
            return _hyphened(formats.money(minor, self.currency))
        return f"{_hyphened(formats.amount(minor))}{NBSP}{self.currency}"

    def quantity(self, steps: int, unit: Counted) -> str:
        """A quantity with its unit."""
        return f"{self.decimal(steps, unit.decimals)} {self.unit(unit.name, unit.names)}"

    def unit(self, name: str, names: Mapping[str, str]) -> str:
        """A unit as the catalogue calls it in this language, else as people do, else by its name."""
        return names.get(self.language) or (self.say(UNITS[name]) if name in UNITS else name)

    def name(self, names: Mapping[str, str]) -> str:
        """A name in this language, or in any there is."""
        return names.get(self.language) or names.get("") or next(iter(names.values()), "")

    def month(self, month: int) -> str:
        """The name of a month, 1 to 12, in the nominative."""
        return self.spoken.formats.month_name(month)


def _hyphened(number: str) -> str:
    return number.replace(MINUS, "-")
