"""A usage file for ``kopeck rate``: CSV with named columns to events, and rows that are none with their reason.

Rules. account, item, time and quantity are needed; duration, destination, plan, group and id are optional. A time is
ISO 8601, in the catalogue's zone where it has no offset. A quantity is in the item's unit (or says its own: `90 s`,
`1.5 GB`). A duration is in seconds; an item counted in time lasts as long as its quantity, unless the row says
otherwise. A bad row is a reject with file, line and reason and stops nothing. A broken header, a file that is no text
or one of more than MAX_ROWS is refused. An id that comes twice is rejected the second time.

Does not know: prices; how usage gets into a database (that is mediation, `kopeck usage import`).
"""

import codecs
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Final

from billing.catalogue.model import Catalogue, Item
from billing.catalogue.nodes import CatalogueError, Place, Problem, near
from billing.catalogue.units import TIME, parse_instant, parse_quantity
from ratingcore.digits import is_number
from ratingcore.tariff import MAX_DURATION_S, MAX_QUANTITY

COLUMNS: Final = ("account", "item", "time", "quantity", "duration", "destination", "plan", "group", "id")
NEEDED: Final = COLUMNS[:4]
#: Rows and bills are held in memory until all are shown.
MAX_ROWS: Final = 1_000_000
MAX_LINE_BYTES: Final = 10_000
MAX_CELL_CHARS: Final = 200
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class Usage:
    """One row: quantity in steps of its item's unit, instants in UTC epoch seconds."""

    place: Place
    account: str
    item: str
    time_s: int
    quantity: int
    duration_s: int
    destination: str
    plan: str
    group: str


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that costs nothing because it could not be understood or rated."""

    place: Place
    reason: str


def read_usage(
    name: str, source: IO[bytes], catalogue: Catalogue, plan: str = "", group: str = "", charset: str = "utf-8"
) -> tuple[list[Usage], list[RejectedRow]]:
    """All rows of a usage file.

    Args:
        name: what messages call the file.
        plan, group: for rows that name none. charset: of the file.

    Raises:
        CatalogueError: the file as a whole is no usage file.
    """
    lines = _lines(name, source, charset)
    first = next(lines, "")
    header = _header(name, first)
    reader = csv.reader(lines, delimiter=_delimiter(first), strict=True)
    found: list[Usage] = []
    rejected: list[RejectedRow] = []
    ids: set[str] = set()
    for place, cells in _rows(name, reader):
        if len(found) + len(rejected) >= MAX_ROWS:
            hint = "larger files are for `kopeck usage import`"
            raise CatalogueError([Problem(place, f"more than {MAX_ROWS:,} rows", hint)])
        try:
            values = _values(header, cells)
            usage = _usage(place, {"plan": plan, "group": group, **values}, catalogue)
            key = values.get("id", "")
            if key in ids:
                raise ValueError(f"id {key!r} came before: a row acts once")
            ids |= {key} if key else set()
            found.append(usage)
        except ValueError as error:
            rejected.append(RejectedRow(place, str(error)))
    return found, rejected


def _lines(name: str, source: IO[bytes], charset: str) -> Iterator[str]:
    """Lines as text. What is no text ends the file, for nothing behind it can be trusted."""
    for number, line in enumerate(iter(lambda: source.readline(MAX_LINE_BYTES + 1), b""), 1):
        place = Place(name, number)
        if len(line) > MAX_LINE_BYTES:
            raise CatalogueError([Problem(place, f"a line of more than {MAX_LINE_BYTES:,} bytes")])
        try:
            text = (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).decode(charset)
        except UnicodeDecodeError as error:
            message = f"byte {line[error.start]:#04x} is no {charset.upper()}"
            hint = "one that Excel wrote in Russia is read with --charset cp1251"
            if line.startswith(_UTF_16):
                hint = "convert it, for example: iconv -f utf-16 -t utf-8"
            raise CatalogueError([Problem(place, message, hint)]) from error
        if "\0" in text:
            hint = "where it is UTF-16, convert it: iconv -f utf-16 -t utf-8"
            raise CatalogueError([Problem(place, "holds a zero byte: not a text file", hint)])
        if "\r" in text.removesuffix("\n").removesuffix("\r"):
            hint = "convert it, for example: tr '\\r' '\\n'"
            raise CatalogueError([Problem(place, "its lines end in CR alone", hint)])
        yield text


def _delimiter(first: str) -> str:
    return max(",;\t", key=first.count)


def _header(name: str, first: str) -> list[str]:
    place = Place(name, 1)
    if not first.strip():
        message = "the file is empty" if not first else "the first line is empty"
        raise CatalogueError([Problem(place, message, f"it names the columns: {', '.join(COLUMNS)}")])
    try:
        cells = next(csv.reader([first.strip()], delimiter=_delimiter(first), strict=True))
    except csv.Error as error:
        raise CatalogueError([Problem(place, f"not CSV: {error}")]) from error
    header = [cell.strip().lower() for cell in cells]
    for column in header:
        if column not in COLUMNS:
            hint = near(column, COLUMNS)
            raise CatalogueError([Problem(place, f"column {column[:40]!r} is not known", hint)])
    missing = [column for column in NEEDED if column not in header]
    if missing or len(set(header)) != len(header):
        message = f"the first line must name the columns, each once, {', '.join(NEEDED)} among them"
        raise CatalogueError([Problem(place, message)])
    return header


def _rows(name: str, reader: Iterator[list[str]]) -> Iterator[tuple[Place, list[str]]]:
    number = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            line = getattr(reader, "line_num", number)
            raise CatalogueError([Problem(Place(name, line + 1), f"not CSV: {error}")]) from error
        if cells is None:
            return
        number = getattr(reader, "line_num", number)
        if cells:
            yield Place(name, number + 1), cells  # the header was taken before


def _values(header: list[str], cells: list[str]) -> dict[str, str]:
    if len(cells) != len(header):
        raise ValueError(f"{len(cells)} cells, and {len(header)} columns")
    values = {name: cell.strip() for name, cell in zip(header, cells, strict=True) if cell.strip()}
    for name, text in values.items():
        if len(text) > MAX_CELL_CHARS:
            raise ValueError(f"{name} is longer than {MAX_CELL_CHARS} characters")
        if not text.isprintable():
            raise ValueError(f"{name} {text[:40]!r} holds a character that cannot be shown")
    missing = [name for name in NEEDED if name not in values]
    if missing:
        raise ValueError(f"no {missing[0]}")
    return values


def _usage(place: Place, values: dict[str, str], catalogue: Catalogue) -> Usage:
    item = catalogue.items.get(values["item"])
    if item is None:
        raise ValueError(f"there is no item {values['item'][:40]!r}; {near(values['item'], catalogue.items)}")
    if item.percentage_of:
        raise ValueError(f"item {item.number} is a percentage of others: nothing is used of it")
    if values["plan"] and values["plan"] not in catalogue.plans:
        raise ValueError(f"there is no plan {values['plan'][:40]!r}; {near(values['plan'], catalogue.plans)}")
    time_s = parse_instant(values["time"], catalogue.zone)
    if not catalogue.start_s <= time_s < catalogue.end_s:
        raise ValueError(f"time {values['time']} is outside the catalogue's dates")
    quantity = parse_quantity(values["quantity"], item.unit)
    if quantity > MAX_QUANTITY:
        raise ValueError(f"quantity {values['quantity'][:40]} is absurd")
    destination = values.get("destination", "").removeprefix("+")
    if not is_number(destination):
        raise ValueError(f"destination {destination[:40]!r} is not of digits")
    duration_s = _duration(values.get("duration", ""), item, quantity)
    plan, group = values["plan"], values["group"]
    return Usage(place, values["account"], item.number, time_s, quantity, duration_s, destination, plan, group)


def _duration(text: str, item: Item, quantity: int) -> int:
    if text:
        if not (text.isascii() and text.isdigit()) or len(text) > 9 or int(text) > MAX_DURATION_S:
            raise ValueError(f"duration {text[:40]!r} is no whole number of seconds up to {MAX_DURATION_S:,}")
        return int(text)
    if item.unit.name not in TIME:
        return 0
    seconds = quantity * TIME[item.unit.name] // item.unit.steps
    if seconds > MAX_DURATION_S:
        raise ValueError(f"quantity lasts {seconds:,} seconds, longer than {MAX_DURATION_S:,}")
    return seconds
