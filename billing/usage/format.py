"""Formats of usage files: what a file of events looks like, declared in TOML and checked strictly.

A format is a layout (billing.files.layout: how lines become columns) and says how columns become events (account, item,
time, quantity, duration, destination, key). docs/usage.md documents every name; unknown ones are refused.

Rules. Every message names file and line. A format that was accepted cannot fail later because of itself.

Does not know: bytes, lines, databases, accounts.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from billing.files.layout import Layout, Name, SettingProblem, SettingsTable, problems_of_layout
from billing.files.times import EPOCH_UNITS, TimePatternError, parse_pattern
from billing.refusals import Refusal

MAX_FORMAT_BYTES: Final = 256 * 1024

Factor = Annotated[int, Meta(ge=1, le=10**12)]


class FormatError(Refusal):
    """A format file that cannot be used; the message is ``file:line: what is wrong``."""

    default_code = "format_refused"


class AccountField(SettingsTable, frozen=True):
    """column: holds the account's number. strip_prefix: taken off its front. strip_leading_zeros: likewise."""

    column: Name
    strip_prefix: str = ""
    strip_leading_zeros: bool = False


class ItemField(SettingsTable, frozen=True):
    """The item's number: a column's text, put through ``map`` where there is one, or one value for all lines."""

    column: Name | None = None
    value: Name | None = None
    map: Mapping[str, str] = {}


class TimeField(SettingsTable, frozen=True):
    """When the event began.

    format: unix_s, unix_ms, or a pattern of billing.files.times. zone: for times that do not say theirs. gap,
    ambiguous: local times that a change of clocks skipped or repeated. oldest_days, future_s: how far from now a time
    may lie.
    """

    column: Name | tuple[Name, ...]
    format: Name
    zone: Name = "UTC"
    gap: Literal["reject", "forward"] = "reject"
    ambiguous: Literal["reject", "earlier", "later"] = "reject"
    oldest_days: Annotated[int, Meta(ge=1, le=3_660)] = 366
    future_s: Annotated[int, Meta(ge=0, le=86_400 * 31)] = 3_600


class QuantityField(SettingsTable, frozen=True):
    """How much, in the item's unit: the column's number times ``multiply`` over ``divide``, kept to a millionth.

    rounding: what becomes of finer parts; with exact such a line is rejected. maximum: whole units an event may have.
    """

    column: Name | None = None
    value: Annotated[int, Meta(ge=0, le=10**12)] | None = None
    decimal: Literal[".", ","] = "."
    multiply: Factor = 1
    divide: Factor = 1
    rounding: Literal["exact", "half_away", "up", "down"] = "exact"
    maximum: Annotated[int, Meta(ge=1, le=10**12)] = 10**12


class DurationField(SettingsTable, frozen=True):
    """Whole seconds over which the quantity was used; needed where prices change by the hour."""

    column: Name


class DestinationField(SettingsTable, frozen=True):
    """The other number, or whatever a rate card looks up. strip: characters taken out of it, such as `` ()-+``."""

    column: Name
    strip: Annotated[str, Meta(max_length=20)] = ""


class Format(Layout, frozen=True, kw_only=True):
    """One format file.

    source: whose keys these are; formats that name one source share its keys. key: columns that together name an event
    for good. late: what becomes of events in closed periods.
    """

    source: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
    key: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=8)]
    account: AccountField
    item: ItemField
    time: TimeField
    quantity: QuantityField
    duration: DurationField | None = None
    destination: DestinationField | None = None
    late: Literal["accept", "reject"] = "accept"
    max_rejects_percent: Annotated[int, Meta(ge=0, le=100)] = 50

    def used_columns(self) -> tuple[str, ...]:
        """Every column the format reads, once each."""
        return tuple(dict.fromkeys(name for name, _ in _columns_with_places(self)))

    def time_columns(self) -> tuple[str, ...]:
        return (self.time.column,) if isinstance(self.time.column, str) else self.time.column


def parse_format(text: str, name: str) -> Format:
    """The format a TOML text declares.

    Args:
        name: what messages call it.

    Raises:
        FormatError: naming file and line.
    """
    if len(text) > MAX_FORMAT_BYTES:
        raise FormatError(f"{name}:1: longer than {MAX_FORMAT_BYTES} characters: no format file")
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise FormatError(_syntax_message(text, name, str(error))) from error
    try:
        made = msgspec.convert(tree, Format)
    except msgspec.ValidationError as error:
        what, _, path = str(error).partition(" - at `$")
        place = tuple(re.findall(r"[\w-]+", path))
        unknown = re.search(r"unknown field `([^`]*)`", what)
        place = (*place, unknown[1]) if unknown else place
        what = f"there is no setting {unknown[1]!r} here" if unknown else _said_plainly(what)
        raise FormatError(_at(text, name, SettingProblem(place, what))) from error
    for problem in _problems(made):
        raise FormatError(_at(text, name, problem))
    return made


def _said_plainly(what: str) -> str:
    missing = re.search(r"missing required field `([^`]*)`", what)
    return f"{missing[1]} is missing" if missing else what[0].lower() + what[1:]


def _syntax_message(text: str, name: str, message: str) -> str:
    found = re.search(r"\(at line (\d+), column \d+\)", message)
    line = int(found[1]) if found else text.count("\n") + 1
    return f"{name}:{line}: not valid TOML: {message.partition(' (at ')[0]}"


def _at(text: str, name: str, problem: SettingProblem) -> str:
    where = ".".join(problem.place)
    return f"{name}:{_line_of(text, problem.place)}: {where + ': ' if where else ''}{problem.what}"


def _line_of(text: str, place: tuple[str, ...]) -> int:
    """The line where the longest known beginning of a path stands; 1 where nothing of it does."""
    best, best_depth, section = 1, 0, ()  # type: tuple[int, int, tuple[str, ...]]
    for number, line in enumerate(text.split("\n"), 1):
        heading = re.match(r"\s*\[\s*([^\]]+?)\s*\]", line)
        if heading:
            section = tuple(part.strip(" \"'") for part in heading[1].split("."))
            here = section
        else:
            key = re.match(r"\s*[\"']?([\w.-]+)[\"']?\s*=", line)
            if not key:
                continue
            here = (*section, *key[1].split("."))
        if len(here) > best_depth and place[: len(here)] == here:
            best, best_depth = number, len(here)
    return best


def _columns_with_places(made: Format) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield made.account.column, ("account", "column")
    if made.item.column is not None:
        yield made.item.column, ("item", "column")
    for column in made.time_columns():
        yield column, ("time", "column")
    if made.quantity.column is not None:
        yield made.quantity.column, ("quantity", "column")
    if made.duration is not None:
        yield made.duration.column, ("duration", "column")
    if made.destination is not None:
        yield made.destination.column, ("destination", "column")
    for column in made.key:
        yield column, ("key",)


def _problems(made: Format) -> Iterator[SettingProblem]:
    """What single settings cannot show."""
    yield from problems_of_layout(made)
    yield from _problems_of_columns(made)
    yield from _problems_of_fields(made)


def _problems_of_columns(made: Format) -> Iterator[SettingProblem]:
    known = made.columns or tuple(made.positions)
    for name, place in _columns_with_places(made):
        if known and name not in known:
            yield SettingProblem(place, f"there is no column {name!r}; there are {', '.join(known)}")
    if len(set(made.key)) != len(made.key):
        yield SettingProblem(("key",), "names a column twice")


def _problems_of_fields(made: Format) -> Iterator[SettingProblem]:
    if (made.item.column is None) == (made.item.value is None):
        yield SettingProblem(("item",), "needs either column or value")
    if made.item.map and made.item.column is None:
        yield SettingProblem(("item", "map"), "maps a column's values, and there is no column")
    for number in (*made.item.map.values(), *([made.item.value] if made.item.value else [])):
        if not 1 <= len(number) <= 64 or not all(letter.isalnum() or letter in "._:-" for letter in number):
            yield SettingProblem(("item",), f"item number {number[:80]!r} must be 1 to 64 letters, digits or ._:-")
    if (made.quantity.column is None) == (made.quantity.value is None):
        yield SettingProblem(("quantity",), "needs either column or value")
    if not made.time_columns() or len(made.time_columns()) > 4:
        yield SettingProblem(("time", "column"), "is one column, or a list of two to four that are joined by a space")
    if not _is_zone(made.time.zone):
        yield SettingProblem(("time", "zone"), f"{made.time.zone!r} is no IANA time zone, such as Europe/Moscow")
    if made.time.format not in EPOCH_UNITS:
        try:
            parse_pattern(made.time.format)
        except TimePatternError as error:
            yield SettingProblem(("time", "format"), str(error))


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, LookupError):  # a bad path, a folder of the database, no such zone
        return False
    return True
