"""Numbers of a catalogue: prices, percentages, quantities with their units, dates. Text in, integers out.

Rules. A number is ASCII digits with at most one dot; no float is ever made of it. A price has up to eight decimals: a
millionth of a kopeck, which is the core's micro. A quantity is counted in its item's steps: the item's unit divided by
10^decimals; `300 min` for an item in seconds is 18000, and what is no whole number of steps is refused. Units of time
and of data convert within their family (GB is 10^9 bytes, GiB is 2^30); any other unit only equals itself. A date is
midnight in the catalogue's zone.

Does not know: which field means what.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from fractions import Fraction
from typing import Final

from billing.wording import format_decimal
from ratingcore.bands import zone_of

PERCENT_DECIMALS: Final = 4
MAX_DECIMALS: Final = 6
MAX_DIGITS: Final = 20

#: Currencies whose minor unit is not a hundredth; the ledger counts hundredths only.
NOT_HUNDREDTHS: Final = frozenset(
    {
        *("BHD", "BIF", "CLF", "CLP", "DJF", "GNF", "IQD", "ISK", "JOD", "JPY", "KMF", "KRW", "KWD", "LYD"),
        *("OMR", "PYG", "RWF", "TND", "UGX", "UYI", "VND", "VUV", "XAF", "XOF", "XPF"),
    }
)

TIME: Final = {"s": 1, "min": 60, "h": 3600}
DATA: Final = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
FAMILIES: Final = (TIME, DATA)

_NUMBER: Final = re.compile(r"([0-9]+)(?:\.([0-9]+))?", re.ASCII)
_QUANTITY: Final = re.compile(r"([0-9.,+\-_eE]+)\s*([^\W\d_][\w/%.]{0,19})?")
_CURRENCY: Final = re.compile(r"[A-Z]{3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Unit:
    """What an item is counted in; the core's quantities are ``name / 10**decimals``.

    names: what documents call it, by language, where the catalogue says so; two units are one by name and decimals.
    """

    name: str
    decimals: int = 0
    names: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def steps(self) -> int:
        """How many steps one unit has."""
        return int(10**self.decimals)


def parse_decimal(text: str, decimals: int) -> int:
    """A non-negative number with at most so many decimals, as an integer of 10**-decimals.

    Raises:
        ValueError: any other text, saying what to write.

    >>> parse_decimal("1.5", 8)
    150000000
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is no number{_advice(text)}")
    whole, rest = match[1], (match[2] or "")
    kept = rest.rstrip("0")
    if len(kept) > decimals:
        allowed = f"at most {decimals} decimals are kept" if decimals else "a whole number is needed"
        raise ValueError(f"{text[:40]} has {len(kept)} decimals, {allowed}")
    if len(whole.lstrip("0")) > MAX_DIGITS:
        raise ValueError(f"{text[:40]}... has more than {MAX_DIGITS} digits")
    return int(whole) * int(10**decimals) + int(kept.ljust(decimals, "0") or "0")


def _advice(text: str) -> str:
    if re.fullmatch(r"[0-9]+,[0-9]+", text):
        return f": write a dot, {text.replace(',', '.')[:40]}"
    if re.fullmatch(r"[0-9][0-9 _'\u00a0\u202f]*(\.[0-9]+)?", text):
        return ": write it without separators"
    if re.fullmatch(r"-[0-9.]+", text):
        return ": it may not be negative"
    if re.fullmatch(r"[0-9.]+[eE][+-]?[0-9]+", text):
        return ": write all its digits, without an exponent"
    return " such as 1.50"


def parse_quantity(text: str, unit: Unit) -> int:
    """``300``, ``300 min``, ``10 GB`` in steps of a unit.

    Raises:
        ValueError: no number, an unknown or foreign unit, or no whole number of steps.

    >>> parse_quantity("300 min", Unit("s"))
    18000
    """
    match = _QUANTITY.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text[:40]!r} is no quantity such as 300 or 300 {unit.name}")
    number, named = match[1], match[2] or unit.name
    if named == unit.name and len(number.partition(".")[2]) > unit.decimals:
        raise ValueError(_too_fine(text, unit))
    if named == unit.name:
        return parse_decimal(number, unit.decimals)
    family = next((family for family in FAMILIES if unit.name in family), {})
    if named not in family:
        known = ", ".join(family) or unit.name
        raise ValueError(f"{text[:40]!r}: the unit here is {unit.name}; {named!r} is none of: {known}")
    steps = Fraction(parse_decimal(number, 9) * family[named] * unit.steps, 10**9 * family[unit.name])
    if steps.denominator != 1:
        raise ValueError(_too_fine(text, unit))
    return int(steps)


def _too_fine(text: str, unit: Unit) -> str:
    finest = format_quantity(1, unit)
    return f"{text[:40]} is no whole number of steps of {finest}, the finest counted here: a smaller unit, or decimals?"


def format_quantity(steps: int, unit: Unit) -> str:
    """Steps as a number and its unit, exact, without idle zeros.

    >>> format_quantity(1500, Unit("GB", 3))
    '1.5 GB'
    """
    return f"{format_decimal(steps, unit.decimals)} {unit.name}"


#: Since 1972 every zone is whole minutes off UTC, which bands need.
FIRST_S: Final = int(datetime(1972, 1, 1, tzinfo=UTC).timestamp())
LAST_S: Final = int(datetime(2200, 1, 1, tzinfo=UTC).timestamp())


def parse_instant(text: str, zone: str) -> int:
    """A date (midnight in the zone) or an ISO 8601 time (in the zone unless it has an offset), as epoch seconds.

    An hour that comes twice when clocks go back means its first coming.

    Raises:
        ValueError: neither, a fraction of a second, a time that clocks skip, or one outside 1972 to 2200.
    """
    found_s = _instant_s(text, zone)
    if not FIRST_S <= found_s < LAST_S:
        raise ValueError(f"{text[:40]} is outside the years 1972 to 2199")
    return found_s


def _instant_s(text: str, zone: str) -> int:
    try:
        if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text, re.ASCII):
            return int(datetime.combine(date.fromisoformat(text), time(), zone_of(zone)).timestamp())
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{text[:40]!r} is no date such as 2026-01-31, nor 2026-01-31T18:00:00+03:00") from error
    if len(text) < len("2026-01-31T18:00") or found.microsecond:
        raise ValueError(f"{text[:40]!r} is no time to the second such as 2026-01-31T18:00:00")
    if found.tzinfo is None:
        found = found.replace(tzinfo=zone_of(zone))
        _refuse_gap(found, text, zone)
    return int(found.timestamp())


def _refuse_gap(local: datetime, text: str, zone: str) -> None:
    back = datetime.fromtimestamp(local.timestamp(), local.tzinfo)
    if back.replace(tzinfo=None, fold=0) != local.replace(tzinfo=None, fold=0):
        raise ValueError(f"{text[:40]} never was in {zone}: clocks went forward over it; give the offset")


def format_date(time_s: int, zone: str) -> str:
    """An instant as a catalogue would write it: the date alone at midnight."""
    local = datetime.fromtimestamp(time_s, UTC).astimezone(zone_of(zone))
    return local.date().isoformat() if (local.hour, local.minute, local.second) == (0, 0, 0) else local.isoformat()


def check_currency(code: str) -> str:
    """A currency of hundredths.

    Raises:
        ValueError: it is not.
    """
    if not _CURRENCY.fullmatch(code):
        raise ValueError(f"{code[:40]!r} is no currency: three capital letters, such as RUB")
    if code in NOT_HUNDREDTHS:
        raise ValueError(f"{code} is not counted in hundredths; such currencies are not supported")
    return code
