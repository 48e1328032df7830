"""Raw text, machine times and cells of spreadsheets: what is written in one way whatever the reader's language.

Rules. How a language writes sums, numbers and times is told by billing.language.formats. Cells of spreadsheets are in
the way of the Russian locale in every language, since programs read them. Pure functions on integers and aware
datetimes.

Does not know: words, HTML.
"""

import re
import unicodedata
from datetime import datetime, tzinfo
from typing import Final

_FORMULA_START: Final = ("=", "+", "-", "@", "\t", "\r", "\n")
#: Where a spreadsheet with another separator would begin a cell.
_FORMULA_INSIDE: Final = re.compile(r"""([,;\t]"*)(?=[=+\-@])""")


def decimal_comma(amount_minor: int) -> str:
    """Minor units for a spreadsheet of the Russian locale: no grouping, comma, no sign of the currency."""
    units, cents = divmod(abs(amount_minor), 100)
    return f"{'-' if amount_minor < 0 else ''}{units},{cents:02d}"


def spreadsheet_instant(at: datetime | None, zone: tzinfo) -> str:
    """An aware datetime in ``zone``, to the second; None is an empty string."""
    return "" if at is None else at.astimezone(zone).strftime("%d.%m.%Y %H:%M:%S")


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
    """Text that no spreadsheet takes for a formula (OWASP, CSV injection), whatever it separates cells by.

    >>> spreadsheet_cell("=1+1"), spreadsheet_cell("Anna,=1+1")
    ("'=1+1", "Anna,'=1+1")
    """
    begins = text.startswith(_FORMULA_START)
    rest = _FORMULA_INSIDE.sub(r"\1'", text[1:])
    return f"'{text[0]}{rest}" if begins else text[:1] + rest
