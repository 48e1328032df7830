"""A file of events to void or to correct: CSV with named columns to corrections.

Rules. The first line names the columns: event, and for corrections item, quantity, duration, destination; a file of
numbers alone needs no such line. An empty cell changes nothing. A line that is wrong refuses the file, with its place.

Does not know: whether events exist.
"""

import csv
import io
from collections.abc import Mapping
from typing import Final

from billing.catalogue.units import parse_decimal
from billing.usage.store import UsageError
from billing.usage.voids import MAX_EVENTS, Correction

COLUMNS: Final = ("event", "item", "quantity", "duration", "destination")
_MICRO_DECIMALS: Final = 6
_MAX_ID: Final = 2**63 - 1


def read_corrections(name: str, data: bytes, *, only_events: bool = False) -> list[Correction]:
    """What a file says of events, in its order.

    Args:
        name: what messages call the file. only_events: it has no other column.

    Raises:
        UsageError: with file and line.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{name}:{line}: not UTF-8") from error
    first = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), strict=True)
    header: list[str] = []
    found: list[Correction] = []
    try:
        for cells in reader:
            place = f"{name}:{reader.line_num}"
            values = [cell.strip() for cell in cells]
            if not any(values):
                continue
            if not header:
                header = _header(place, values, only_events)
                if header != [cell.lower() for cell in values]:
                    found.append(_read(place, header, values))
                continue
            found.append(_read(place, header, values))
            if len(found) > MAX_EVENTS:
                raise UsageError(f"{place}: more than {MAX_EVENTS:,} events: split the file")
    except csv.Error as error:
        raise UsageError(f"{name}:{reader.line_num}: not CSV: {error}") from error
    if not found:
        raise UsageError(f"{name}: no events in the file")
    return found


def _header(place: str, values: list[str], only_events: bool) -> list[str]:
    if len(values) == 1 and values[0].isascii() and values[0].isdigit():
        return ["event"]
    header = [cell.lower() for cell in values]
    known = COLUMNS[:1] if only_events else COLUMNS
    for column in header:
        if column not in known:
            raise UsageError(f"{place}: column {column[:40]!r} is not known: one of {', '.join(known)}")
    if "event" not in header or len(set(header)) != len(header):
        raise UsageError(f"{place}: the first line names the columns, each once, event among them")
    return header


def _read(place: str, header: list[str], values: list[str]) -> Correction:
    if len(values) != len(header):
        raise UsageError(f"{place}: {len(values)} cells, and {len(header)} columns")
    try:
        return correction_of({column: cell for column, cell in zip(header, values, strict=True) if cell})
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from error


def correction_of(values: Mapping[str, str]) -> Correction:
    """A correction from what a person wrote, by column; what is not there stays as it was.

    Raises:
        UsageError: a value is none.
    """
    quantity = values.get("quantity")
    try:
        micro = None if quantity is None else parse_decimal(quantity, _MICRO_DECIMALS)
    except ValueError as error:
        raise UsageError(f"quantity: {error}") from error
    event_id = _whole("event", values.get("event", ""), _MAX_ID)
    duration = values.get("duration")
    seconds = None if duration is None else _whole("duration", duration, 2**31 - 1)
    return Correction(event_id, values.get("item"), micro, seconds, values.get("destination"))


def _whole(name: str, text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 19 or int(text) > most:
        raise UsageError(f"{name} {text[:40]!r} is no whole number")
    return int(text)
