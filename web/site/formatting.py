"""How sums, instants and raw exchanges look to people, in either language.

Rules. Sums are `1 234,56 ₽` with no-break spaces and instants `дд.мм.гггг чч:мм` in the configured zone, whatever the
language: the same people read the same papers, and a comma that is sometimes a decimal sign costs money. Pure
functions on integers and aware datetimes.

Does not know: words (web/site/texts.py), HTML.
"""

import unicodedata
from datetime import datetime, tzinfo
from typing import Final

NBSP: Final = "\u00a0"
MINUS: Final = "\u2212"
#: Where a sign is not commonly known, the code says it better.
_SIGNS: Final = {"RUB": "₽", "USD": "$", "EUR": "€", "KZT": "₸", "BYN": "Br", "GBP": "£"}
_FORMULA_START: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def money(amount_minor: int, currency: str = "RUB") -> str:
    """Minor units of a two-digit currency as people write them.

    >>> money(123456).replace(NBSP, " ")
    '1 234,56 ₽'
    """
    units, cents = divmod(abs(amount_minor), 100)
    grouped = f"{units:,}".replace(",", NBSP)
    sign = MINUS if amount_minor < 0 else ""
    return f"{sign}{grouped},{cents:02d}{NBSP}{_SIGNS.get(currency, currency)}"


def count(number: int) -> str:
    """A whole number with grouped digits."""
    return f"{number:,}".replace(",", NBSP)


def decimal_comma(amount_minor: int) -> str:
    """Minor units for a spreadsheet of the Russian locale: no grouping, comma, no sign of the currency."""
    units, cents = divmod(abs(amount_minor), 100)
    return f"{'-' if amount_minor < 0 else ''}{units},{cents:02d}"


def instant(at: datetime | None, zone: tzinfo, seconds: bool = False) -> str:
    """An aware datetime in ``zone``; None is an empty string."""
    if at is None:
        return ""
    return at.astimezone(zone).strftime("%d.%m.%Y %H:%M:%S" if seconds else "%d.%m.%Y %H:%M")


def day(at: datetime, zone: tzinfo) -> str:
    """The date alone."""
    return at.astimezone(zone).strftime("%d.%m.%Y")


def machine_instant(at: datetime, zone: tzinfo) -> str:
    """For the datetime attribute of <time>: with the offset."""
    return at.astimezone(zone).isoformat(timespec="seconds")


def zone_name(zone: tzinfo, at: datetime) -> str:
    """The zone as the page names it: its IANA key and its offset at that instant.

    >>> from zoneinfo import ZoneInfo
    >>> zone_name(ZoneInfo("Europe/Moscow"), datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC")))
    'Europe/Moscow, UTC+3'
    """
    offset = at.astimezone(zone).utcoffset()
    minutes = 0 if offset is None else int(offset.total_seconds()) // 60
    hours, rest = divmod(abs(minutes), 60)
    return f"{zone}, UTC{'-' if minutes < 0 else '+'}{hours}{f':{rest:02d}' if rest else ''}"


def raw(text: str) -> str:
    """A stranger's request for showing: what would move, hide or reorder letters on the screen is written out.

    Direction marks can make an account number read differently from what was sent.
    """
    return "".join(letter if _is_plain(letter) else f"\\u{ord(letter):04x}" for letter in text.replace("\r\n", "\n"))


def _is_plain(letter: str) -> bool:
    return letter in "\n\t" or unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Co", "Cn")


def spreadsheet_cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula (OWASP, CSV injection).

    >>> spreadsheet_cell("=1+1")
    "'=1+1"
    """
    return f"'{text}" if text.startswith(_FORMULA_START) else text
