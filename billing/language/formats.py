"""Numbers, money, dates and lengths of time as people of a language write them, by Babel.

Rules. A number is an integer of 10**-decimals and is written exactly, whatever its size: no float, no rounding but
where a function says so. Digits that belong together are held by no-break spaces; a minus is U+2212. A sum stands with
the sign of its currency where the language puts it, or with the code where no sign is known. A day is written in
digits where they are read one way (`01.12.2026`), and has its month in letters where they are not: English writes
`1 Dec 2026`, since 01/12 is read two ways. Times have 24 hours. Instants are shown in a zone the caller names.

Does not know: texts, units of a catalogue (billing/wording.py), machine formats.
"""

import datetime as dt
import decimal
from datetime import datetime, tzinfo
from decimal import Decimal
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from babel import Locale
    from babel.numbers import NumberPattern

NBSP: Final = "\u00a0"
MINUS: Final = "\u2212"
#: Where a sign is not commonly known, the code says it better.
CURRENCY_SIGNS: Final = {"RUB": "₽", "USD": "$", "EUR": "€", "KZT": "₸", "BYN": "Br", "GBP": "£"}
#: Patterns of a day where that of the locale (skeleton yMd) will not do.
_DAYS: Final = {"en": "d MMM y"}
#: The same of a month with its year: Russian without its "г.".
_MONTHS: Final = {"ru": "LLLL y"}
_SIZES: Final = ("digital-byte", "digital-kilobyte", "digital-megabyte", "digital-gigabyte", "digital-terabyte")
_LENGTHS: Final = (
    ("duration-day", 86_400),
    ("duration-hour", 3_600),
    ("duration-minute", 60),
    ("duration-second", 1),
)


@cache
def _pattern(text: str) -> "NumberPattern":
    from babel.numbers import parse_pattern

    return parse_pattern(text)


class Formats:
    """The formats of one language. Each is made when first asked for, so a language that only speaks costs none."""

    def __init__(self, code: str) -> None:
        self.code = code

    @cached_property
    def locale(self) -> "Locale":
        """What Babel knows of the language."""
        from babel import Locale

        return Locale.parse(self.code)

    @property
    def language_name(self) -> str:
        """What the language calls itself, with a capital."""
        name = str(self.locale.get_display_name(self.code) or self.code)
        return name[:1].upper() + name[1:]

    # ---- numbers

    def decimal(self, value: int, decimals: int, at_least: int = 0) -> str:
        """An integer of 10**-decimals.

        Args:
            at_least: decimals to show even where they are zeros; others are left out where they are.

        >>> Formats("en").decimal(-123450, 2), Formats("ru").decimal(150, 2, 2)
        ('−1,234.5', '1,50')
        """
        return self._apply(f"#,##0.{'0' * at_least}{'#' * (decimals - at_least)}", value, decimals)

    def count(self, number: int) -> str:
        """A whole number.

        >>> Formats("en").count(1234567)
        '1,234,567'
        """
        return self._apply("#,##0", number, 0)

    def percent(self, ppm: int) -> str:
        """Parts of a million as percent, with the sign.

        >>> Formats("en").percent(205_000), Formats("ru").percent(200_000).replace(NBSP, " ")
        ('20.5%', '20 %')
        """
        pattern: str = self.locale.percent_formats[None].pattern
        return self._apply(pattern.replace("#,##0", "#,##0.####"), ppm, 6)

    def amount(self, minor: int) -> str:
        """Minor units of a currency of two decimals, without the currency."""
        return self.decimal(minor, 2, 2)

    def money(self, minor: int, currency: str) -> str:
        """Minor units of a currency of two decimals.

        >>> Formats("ru").money(123456, "RUB").replace(NBSP, " "), Formats("en").money(-123456, "RUB")
        ('1 234,56 ₽', '−₽1,234.56')
        """
        sign = CURRENCY_SIGNS.get(currency, currency)
        pattern: str = self.locale.currency_formats["standard"].pattern
        # A code of letters does not touch digits (Unicode LDML, part 3, currency spacing).
        if pattern.startswith("¤#") and sign[-1:].isalpha():
            pattern = pattern.replace("¤", "¤" + NBSP)
        return self._apply(pattern, minor, 2).replace("¤", sign)

    def size(self, octets: int) -> str:
        """A size of a file in the largest unit it has one of, rounded to a tenth.

        >>> Formats("en").size(1_536_000).replace(NBSP, " "), Formats("ru").size(12).replace(NBSP, " ")
        ('1.5 MB', '12 Б')
        """
        place = 0
        while place + 1 < len(_SIZES) and abs(octets) >= 1000 ** (place + 1):
            place += 1
        tenths = (abs(octets) * 20 + 1000**place) // (2 * 1000**place)
        return self._with_unit(tenths if octets >= 0 else -tenths, 1, _SIZES[place])

    # ---- time

    def date(self, day: dt.date) -> str:
        """A day.

        >>> day = dt.date(2026, 12, 1)
        >>> Formats("ru").date(day), Formats("en").date(day)
        ('01.12.2026', '1 Dec 2026')
        """
        from babel.dates import format_date

        return format_date(day, self._day_pattern, locale=self.locale)

    def time(self, at: datetime, zone: tzinfo, seconds: bool = False) -> str:
        """The time of day alone, in a zone."""
        return at.astimezone(zone).strftime("%H:%M:%S" if seconds else "%H:%M")

    def instant(self, at: datetime | None, zone: tzinfo, seconds: bool = False) -> str:
        """An aware datetime in a zone; None is an empty string."""
        if at is None:
            return ""
        between = ", " if "MMM" in self._day_pattern else " "
        return f"{self.day(at, zone)}{between}{self.time(at, zone, seconds)}"

    def day(self, at: datetime, zone: tzinfo) -> str:
        """The day of an aware datetime in a zone."""
        return self.date(at.astimezone(zone).date())

    def month_name(self, month: int) -> str:
        """The name of a month, 1 to 12, as it stands alone."""
        names: Any = self.locale.months["stand-alone"]["wide"]
        return str(names[month])

    def month(self, day: dt.date) -> str:
        """The month of a day with its year.

        >>> day = dt.date(2026, 12, 1)
        >>> Formats("ru").month(day), Formats("en").month(day)
        ('декабрь 2026', 'December 2026')
        """
        from babel.dates import format_date

        skeletons: Any = self.locale.datetime_skeletons
        return format_date(day, _MONTHS.get(self.code) or skeletons["yMMMM"].pattern, locale=self.locale)

    def duration(self, seconds: int) -> str:
        """A length of time, exactly: days, hours, minutes and seconds, those it has.

        >>> Formats("en").duration(5400).replace(NBSP, " "), Formats("ru").duration(86400).replace(NBSP, " ")
        ('1 hr 30 min', '1 дн.')
        """
        rest, parts = abs(seconds), []
        for unit, length in _LENGTHS:
            number, rest = divmod(rest, length)
            if number:
                parts.append(self._with_unit(number, 0, unit))
        text = " ".join(parts) or self._with_unit(0, 0, "duration-second")
        return f"{MINUS}{text}" if seconds < 0 else text

    # ---- by Babel

    @cached_property
    def _day_pattern(self) -> str:
        if self.code in _DAYS:
            return _DAYS[self.code]
        skeletons: Any = self.locale.datetime_skeletons
        pattern = str(skeletons["yMd"].pattern)
        return str(skeletons["yMMMd"].pattern) if "/" in pattern else pattern

    def _apply(self, pattern: str, value: int, decimals: int) -> str:
        with decimal.localcontext(prec=max(28, len(str(value)) + decimals + 2)):
            number = Decimal(value).scaleb(-decimals)
            text: str = _pattern(pattern).apply(number, self.locale, currency_digits=False)
        return text.replace("-", MINUS)

    def _with_unit(self, value: int, decimals: int, unit: str) -> str:
        from babel.units import format_unit

        number = Decimal(value).scaleb(-decimals)
        text = format_unit(number, unit, "short", format="#,##0.#", locale=self.locale)
        return text.replace(" ", NBSP).replace("-", MINUS)
