"""The address of a list and what it asks: the query string to a question and back.

Rules. Pure: the present instant, the zone, the language and the user's columns are arguments. Everything lives in the
address; a question has one canonical address, and reading that gives the same question. What cannot be read keeps its
typed text and gets a message beside its field, and a parameter that the list does not know is named: nothing is
swallowed, and while anything is wrong there is no question at all.

    COLUMN               the value of a text or code; a choice, several times
    COLUMN.match         contains, starts, equals; the first that the field allows is left out
    COLUMN.min, .max     bounds of a number or sum, both included
    COLUMN.from, .to     days, both included; COLUMN.period: a preset in their place (filters.PERIODS)
    COLUMN.is            empty, filled
    sort                 a column, "-" before it for the greatest first
    columns              those shown, in order, dots between
    place                where the page begins (billing.listing.places)
    count                exact: count all, whatever it takes

Does not know: HTTP, the database.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode
from zoneinfo import ZoneInfo

from billing.language import Language
from billing.listing.places import MAX_CHARS
from billing.listing.records import (
    GRAM_CHARS,
    Between,
    Condition,
    Emptiness,
    Field,
    Match,
    OneOf,
    Question,
    RowOrder,
    Search,
    TextIs,
)
from ratingcore.money import read_typed_sum
from web.site.filters import PERIODS, midnight, period_days, typed_date, written
from web.site.lists.declaration import Kind, ListColumn, Listing

#: Longest text of one field, and most values of one choice.
MAX_TEXT: Final = 200
MAX_VALUES: Final = 100
_MAX_BIGINT: Final = 2**63 - 1

Arguments = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class ListRequest:
    """What an address asks of a list.

    typed: parameters of columns as they stand in the fields. errors: parameter to sentence. unknown: parameters that
    the list has not. question: None while anything is wrong. place: as text, still to be read. columns: those that are
    shown. days: what the fields of a column of days show, from and to.
    """

    listing: Listing
    typed: Mapping[str, tuple[str, ...]]
    order: str
    columns: tuple[str, ...]
    place: str = ""
    is_patient: bool = False
    errors: Mapping[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    question: Question | None = None
    days: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def is_plain(self) -> bool:
        """Nothing is asked for but the list."""
        return not self.typed

    def one(self, parameter: str) -> str:
        """The typed value of a parameter, or ""."""
        return self.typed.get(parameter, ("",))[0]

    def pairs(self, **changes: str) -> list[tuple[str, str]]:
        """The canonical query as pairs, from the first page. changes: sort, columns, place, count."""
        pairs = [(name, value) for name in parameters_of(self.listing) for value in self.typed.get(name, ())]
        rest = {"sort": self.order, "columns": ".".join(self.columns), **changes}
        defaults = {"sort": self.listing.order, "columns": ".".join(self.listing.shown)}
        return pairs + [(name, value) for name, value in rest.items() if value and value != defaults.get(name)]

    def query(self, **changes: str) -> str:
        """The canonical query string; `pairs` says with which changes."""
        return urlencode(self.pairs(**changes))

    def address(self, **changes: str) -> str:
        """The canonical address."""
        query = self.query(**changes)
        return f"{self.listing.path}?{query}" if query else self.listing.path

    @property
    def own_address(self) -> str:
        """The address of this very page."""
        place = {"place": self.place} if self.place else {}
        return self.address(**place, **({"count": "exact"} if self.is_patient else {}))

    def is_canonical(self, query: str) -> bool:
        """Whether a query string is already that of `own_address`."""
        own = self.own_address.partition("?")[2]
        return sorted(parse_qsl(query, keep_blank_values=True)) == sorted(parse_qsl(own))


def parameters_of(listing: Listing) -> list[str]:
    """Every parameter that the filters of a list may have, in the order of an address."""
    return [parameter for column in listing.columns for parameter in _parameters(listing, column)]


def matches_of(known: Field) -> tuple[Match, ...]:
    """How a text field may be compared, the usual way first."""
    if known.search is Search.WORDS:
        return (Match.CONTAINS, Match.STARTS, Match.EQUALS)
    return (Match.EQUALS,) if known.equals or known.type != "text" else (Match.STARTS, Match.EQUALS)


def read_request(
    listing: Listing,
    arguments: Arguments,
    language: Language,
    now: datetime,
    zone: ZoneInfo,
    *,
    chosen: Sequence[str] = (),
    options: Mapping[str, Sequence[tuple[str, str]]] | None = None,
) -> ListRequest:
    """Read the query string of a list.

    Args:
        chosen: the columns that the user keeps for it. options: choices that come from the database, by column.
    """
    reader = _Reader(listing, arguments, language, now.astimezone(zone).date(), zone)
    reader.options = options or {}
    known = {*parameters_of(listing), "sort", "columns", "place", "count"}
    unknown = tuple(sorted(name for name in arguments if name not in known))
    conditions = tuple(condition for column in listing.columns for condition in reader.conditions(column))
    order, sort = reader.order()
    columns = reader.columns(chosen)
    count = reader.one("count")
    if count not in ("", "exact"):
        reader.errors["count"] = language.gettext("The count is “exact” or left out.")
    place = reader.one("place")
    if len(place) > MAX_CHARS:
        place = place[:MAX_CHARS]
    is_right = not reader.errors and not unknown
    return ListRequest(
        listing,
        reader.typed,
        sort,
        columns,
        place,
        count == "exact",
        reader.errors,
        unknown,
        Question(conditions, order) if is_right else None,
        reader.days,
    )


def _parameters(listing: Listing, column: ListColumn) -> list[str]:
    known = listing.source.fields[column.name]
    parts: tuple[str, ...] = ()
    match known.search:
        case Search.WORDS | Search.CODE:
            parts = ("", "match") if len(matches_of(known)) > 1 else ("",)
        case Search.CHOICE:
            parts = ("",)
        case Search.RANGE:
            parts = ("period", "from", "to") if column.kind in (Kind.DATE, Kind.INSTANT) else ("min", "max")
    if known.is_null and parts:
        parts += ("is",)
    return [f"{column.name}.{part}" if part else column.name for part in parts]


class _Reader:
    """One reading of one address."""

    def __init__(self, listing: Listing, arguments: Arguments, language: Language, today: date, zone: ZoneInfo) -> None:
        self.listing = listing
        self.arguments = arguments
        self._ = language.gettext
        self.today = today
        self.zone = zone
        self.typed: dict[str, tuple[str, ...]] = {}
        self.errors: dict[str, str] = {}
        self.days: dict[str, tuple[str, str]] = {}
        self.options: Mapping[str, Sequence[tuple[str, str]]] = {}

    def one(self, parameter: str) -> str:
        """The value of a parameter with single blanks; the last, where a form names it twice."""
        values = self.arguments.get(parameter, ())
        return " ".join(values[-1].split()) if values else ""

    def order(self) -> tuple[RowOrder, str]:
        """The order and its canonical text."""
        sort = self.one("sort") or self.listing.order
        name = sort.removeprefix("-")
        column = self.listing.by_name.get(name)
        if column is None or not self.listing.source.fields[name].is_ordered:
            self.errors["sort"] = self._("The list cannot be ordered by “%(name)s”.", name=name[:40])
            sort, name = self.listing.order, self.listing.order.removeprefix("-")
        return RowOrder(name, sort.startswith("-")), sort

    def columns(self, chosen: Sequence[str]) -> tuple[str, ...]:
        """The columns that are shown: the address's, else the user's, else the list's."""
        known = self.listing.by_name
        text = self.one("columns")
        if not text:  # a column that was given up since is not missed
            return tuple(name for name in chosen if name in known) or self.listing.shown
        names = tuple(dict.fromkeys(text.split(".")))
        strange = [name for name in names if name not in known]
        if strange:
            self.errors["columns"] = self._("The list has no column “%(name)s”.", name=strange[0][:40])
            return self.listing.shown
        return names

    def conditions(self, column: ListColumn) -> list[Condition]:
        """What the address asks of one column."""
        known = self.listing.source.fields[column.name]
        found: list[Condition] = []
        if known.is_null:
            found += self._emptiness(column)
        match known.search:
            case Search.WORDS | Search.CODE:
                found += self._text(column, known)
            case Search.CHOICE:
                found += self._choice(column)
            case Search.RANGE:
                found += self._days(column) if column.kind in (Kind.DATE, Kind.INSTANT) else self._bounds(column, known)
        return found

    def _keep(self, parameter: str, *values: str) -> None:
        if any(values):
            self.typed[parameter] = values

    def _emptiness(self, column: ListColumn) -> list[Condition]:
        parameter = f"{column.name}.is"
        text = self.one(parameter)
        if text not in ("", "empty", "filled"):
            self.errors[parameter] = self._("This is “empty”, “filled” or left out.")
        self._keep(parameter, text)
        return [Emptiness(column.name, text == "empty")] if text in ("empty", "filled") else []

    def _text(self, column: ListColumn, known: Field) -> list[Condition]:
        text = self.one(column.name)
        wish = self.one(f"{column.name}.match")
        allowed = matches_of(known)
        if wish and wish not in [match.value for match in allowed]:
            self.errors[column.name] = self._("This column cannot be compared so.")
        self._keep(column.name, text)
        if not text:
            return []
        match = Match(wish) if column.name not in self.errors and wish else allowed[0]
        if match is not allowed[0]:
            self._keep(f"{column.name}.match", match.value)
        if len(text) > MAX_TEXT or "\0" in text:
            self.errors[column.name] = self._("At most %(most)s letters.", most=MAX_TEXT)
        elif match is Match.CONTAINS and len(text) < GRAM_CHARS:
            self.errors[column.name] = self._("At least %(least)s letters, or choose how it begins.", least=GRAM_CHARS)
        elif known.type != "text" and not (text.isascii() and text.isdecimal() and len(text) < 10):
            self.errors[column.name] = self._("This is a number.")
        return [TextIs(column.name, match, text)]

    def _choice(self, column: ListColumn) -> list[Condition]:
        values = tuple(dict.fromkeys(value.strip() for value in self.arguments.get(column.name, ()) if value.strip()))
        self._keep(column.name, *values)
        known = {*column.words, *(value for value, _ in self.options.get(column.name, ()))}
        if not known.issuperset(values) or len(values) > MAX_VALUES or any("\0" in value for value in values):
            self.errors[column.name] = self._("Choose from the list.")
        return [OneOf(column.name, values)] if values else []

    def _bounds(self, column: ListColumn, known: Field) -> list[Condition]:
        bounds: list[int | None] = []
        for part in ("min", "max"):
            parameter = f"{column.name}.{part}"
            text = self.one(parameter)
            self._keep(parameter, text)
            number = _typed_number(text, column.kind is Kind.MONEY) if text else None
            if text and (number is None or abs(number) > _MAX_BIGINT):
                is_money = column.kind is Kind.MONEY
                self.errors[parameter] = self._("A sum, such as 1 234,56.") if is_money else self._("A number.")
            bounds.append(number)
        least, most = bounds
        if least is not None and most is not None and least > most:
            self.errors[f"{column.name}.max"] = self._("The upper bound is below the lower one.")
        if known.type == "integer":
            most = None if most is None else min(most, 2**31 - 1)
            least = None if least is None else max(-(2**31), min(least, 2**31 - 1))
        return [] if bounds == [None, None] else [Between(column.name, least, most)]

    def _days(self, column: ListColumn) -> list[Condition]:
        name, first, last = column.name, None, None
        period = self.one(f"{name}.period")
        typed = {part: self.one(f"{name}.{part}") for part in ("from", "to")}
        if period and period not in PERIODS:
            self.errors[f"{name}.from"] = self._("There is no such period.")
        elif period:
            # A preset wins over days that merely stood in the fields when it was pressed.
            first, last = period_days(period, self.today)
            self._keep(f"{name}.period", period)
        else:
            days: dict[str, date | None] = {}
            for part, text in typed.items():
                self._keep(f"{name}.{part}", text)
                days[part] = typed_date(text) if text else None
                if text and days[part] is None:
                    self.errors[f"{name}.{part}"] = self._("A day, such as 31.12.2026.")
            first, last = days["from"], days["to"]
            if first and last and first > last:
                self.errors[f"{name}.to"] = self._("The end is before the beginning.")
            preset = next((preset for preset in PERIODS if (first, last) == period_days(preset, self.today)), None)
            if preset is not None:  # days of a preset are the preset, so that they move on with the calendar
                self.typed = {key: value for key, value in self.typed.items() if not key.startswith(f"{name}.")}
                self._keep(f"{name}.period", preset)
        self.days[name] = (written(first) if first else typed["from"], written(last) if last else typed["to"])
        if first is None and last is None:
            return []
        after = None if last is None else last + timedelta(days=1)
        if column.kind is Kind.DATE:
            return [Between(name, first, after, is_below=True)]
        since, until = (None if day is None else midnight(day, self.zone) for day in (first, after))
        return [Between(name, since, until, is_below=True)]


def _typed_number(text: str, is_money: bool) -> int | None:
    """Minor units, or a whole number, as people type them; a minus before them.

    >>> _typed_number("-1 234,5", True), _typed_number("1 000", False), _typed_number("1,5", False)
    (-123450, 1000, None)
    """
    is_negative = text[:1] in ("-", "\u2212")
    digits = text[1:].strip() if is_negative else text
    number: Any
    if is_money:
        typed = read_typed_sum(digits)
        number = None if typed is None else typed.amount
    else:
        plain = digits.replace(" ", "")
        number = int(plain) if plain.isascii() and plain.isdecimal() and len(plain) < 20 else None
    return None if number is None else -int(number) if is_negative else int(number)


def date_parameters(listing: Listing) -> set[str]:
    """Parameters that say days: a view without them keeps those of the page."""
    return {
        parameter
        for parameter in parameters_of(listing)
        if parameter.rpartition(".")[2] in ("period", "from", "to") and "." in parameter
    }


def with_dates(listing: Listing, query: str, current: ListRequest) -> str:
    """The query of a saved view; where it names no days, with those of the page that is open."""
    pairs = parse_qsl(query)
    dates = date_parameters(listing)
    if any(name in dates for name, _ in pairs):
        return query
    return urlencode([pair for pair in current.pairs() if pair[0] in dates] + pairs)
