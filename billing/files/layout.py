"""Layouts: how the lines of a text file become columns, whatever the columns mean.

Rules. A layout is checked as a whole before a file is opened: one that was accepted cannot fail later because of
itself. Its names are those of the settings that people write, and a problem says which of them is wrong.

Does not know: where settings come from, which columns are wanted, bytes, lines.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

MAX_COLUMNS: Final = 1_000
MAX_LINE_BYTES: Final = 1 << 20
#: Charsets whose bytes below 128 are ASCII, so that lines, delimiters and control characters are found in the bytes.
CHARSETS: Final = ("utf-8", "cp1251", "cp866", "koi8-r", "iso-8859-1", "iso-8859-5", "iso-8859-15", "cp1252", "ascii")

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Count = Annotated[int, Meta(ge=0, le=1_000_000)]


class SettingsTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A table of settings that people write; names that are not known are refused."""


class Layout(SettingsTable, frozen=True, kw_only=True):
    """How a file is laid out.

    columns: names in order, where the file has no header. positions: first and last character of each column of a
    fixed-width file, counted from 1. last_line_ends: False takes a last line without its end for a whole one.
    """

    kind: Literal["csv", "tsv", "fixed", "jsonlines"]
    charset: str = "utf-8"
    delimiter: Annotated[str, Meta(min_length=1, max_length=1)] | None = None
    quote: Annotated[str, Meta(max_length=1)] | None = None
    header: bool | None = None
    columns: tuple[Name, ...] = ()
    positions: Mapping[str, tuple[int, int]] = {}
    skip_lines: Count = 0
    skip_prefix: Annotated[str, Meta(max_length=100)] = ""
    last_line_ends: bool = True
    max_line_bytes: Annotated[int, Meta(ge=64, le=MAX_LINE_BYTES)] = 65_536

    @property
    def has_header(self) -> bool:
        """Whether the first line names the columns; csv and tsv do unless they are told."""
        return (self.kind in ("csv", "tsv") and not self.columns) if self.header is None else self.header

    @property
    def separator(self) -> str:
        return "\t" if self.kind == "tsv" else self.delimiter or ","

    @property
    def quote_character(self) -> str:
        """Empty: quotes are characters as any other; so in tsv unless it is told."""
        return ('"' if self.kind == "csv" else "") if self.quote is None else self.quote


@dataclass(frozen=True, slots=True)
class SettingProblem:
    """place: path of the setting's names; what: is wrong with it."""

    place: tuple[str, ...]
    what: str


def problems_of_layout(layout: Layout) -> Iterator[SettingProblem]:
    """What single settings cannot show."""
    if layout.charset not in CHARSETS:
        yield SettingProblem(("charset",), f"{layout.charset!r} is none of: {', '.join(CHARSETS)}")
    if layout.kind in ("csv", "tsv"):
        yield from _problems_of_separators(layout)
    for name in () if layout.kind in ("csv", "tsv") else ("delimiter", "quote", "header", "columns"):
        if getattr(layout, name) not in (None, ()):
            yield SettingProblem((name,), f"has no meaning in a file of kind {layout.kind}")
    if (layout.kind == "fixed") != bool(layout.positions):
        yield SettingProblem(("positions",), "belongs to files of kind fixed, and they need it")
    for name, (first, last) in layout.positions.items():
        if not 1 <= first <= last <= MAX_LINE_BYTES:
            yield SettingProblem(("positions", name), "is first and last character, counted from 1")
    yield from _problems_of_columns(layout)


def _problems_of_separators(layout: Layout) -> Iterator[SettingProblem]:
    if layout.kind == "tsv" and layout.delimiter not in (None, "\t"):
        yield SettingProblem(("delimiter",), 'tsv is separated by tabs; for another delimiter say kind = "csv"')
    for name, given in (("delimiter", layout.delimiter or ""), ("quote", layout.quote or "")):
        if given and (not given.isascii() or given in "\r\n\0 " or given.isalnum()):
            yield SettingProblem((name,), "is one ASCII character: no letter, digit, blank or line end")
    if layout.separator == layout.quote_character:
        yield SettingProblem(("quote",), "cannot be the delimiter too")
    if not layout.has_header and not layout.columns:
        yield SettingProblem(("columns",), "names the columns in order where the file has no header")
    if layout.has_header and layout.columns:
        yield SettingProblem(("columns",), "comes from the file's header; leave it out, or say header = false")


def _problems_of_columns(layout: Layout) -> Iterator[SettingProblem]:
    if len(layout.columns) > MAX_COLUMNS:
        yield SettingProblem(("columns",), f"more than {MAX_COLUMNS}")
    for name in layout.columns:
        if layout.columns.count(name) > 1:
            yield SettingProblem(("columns",), f"column {name!r} stands twice")
