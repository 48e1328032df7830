"""A list as a file: CSV or XLSX, row by row, with the columns of the screen.

Rules. A file has a heading and a line for each row; what stands below a value on the screen is a column of its own, and
so is the currency of sums. Numbers are numbers, never words: the semicolon form writes them and days as spreadsheets of
the Russian locale read them, the comma form as programs do. No cell is a formula whatever a customer is called (OWASP,
CSV injection): CSV cells get an apostrophe, XLSX cells are text and stay so when they are edited. A sheet ends at
SHEET_ROWS and the next begins with the heading. Memory does not grow with the rows.

Does not know: where rows come from, where the file goes.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, tzinfo
from decimal import Decimal
from enum import StrEnum
from typing import IO, Any, Final, Protocol

import xlsxwriter
from xlsxwriter.format import Format
from xlsxwriter.worksheet import Worksheet

from billing.language import Language
from billing.listing.records import Row
from ratingcore.money import Minor, format_minor
from web.site.formatting import decimal_comma, spreadsheet_cell
from web.site.lists.declaration import Kind, ListColumn, Listing

#: Lines of a sheet of XLSX, the heading among them.
SHEET_ROWS: Final = 1_048_576
#: Longest text of a cell of XLSX.
CELL_CHARS: Final = 32_767
#: Whole numbers above this are no longer exact in a spreadsheet: they are written as text.
_EXACT_MAX: Final = 10**15
_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


class FileFormat(StrEnum):
    """What a file is."""

    XLSX = "xlsx"
    CSV = "csv"
    CSV_SEMICOLON = "csv-semicolon"

    @property
    def ending(self) -> str:
        """Of the file's name."""
        return "xlsx" if self is FileFormat.XLSX else "csv"

    @property
    def media_type(self) -> str:
        """As HTTP names it."""
        if self is FileFormat.XLSX:
            return "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
        return "text/csv; charset=utf-8"


#: A cell: text, a whole number, money in minor units (Decimal of units), a day, an instant of a zone (naive), or none.
Cell = str | int | Decimal | date | datetime | None


class Columns:
    """The columns of a file of a list.

    names: those of the screen, in order. labels: words of codes, by column.
    """

    def __init__(
        self,
        listing: Listing,
        names: Sequence[str],
        language: Language,
        zone: tzinfo,
        labels: Mapping[str, Mapping[str, str]],
    ) -> None:
        self._zone = zone
        self._labels = labels
        self._language = language
        self._told = {name: column.told for name, column in listing.by_name.items() if column.told is not None}
        self._readers: list[tuple[str, str, Kind]] = []  # (heading, field, kind)
        by_name = listing.by_name
        titles = {column.name: language.gettext(column.title) for column in listing.columns}
        for name in names:
            column = by_name[name]
            self._readers.append((titles[name], name, column.kind))
            if column.under and column.under not in names:
                title = titles.get(column.under) or language.gettext("%(title)s: name", title=titles[name])
                self._readers.append((title, column.under, Kind.TEXT))
            if column.currency and not self._has(column.currency) and column.currency not in names:
                self._readers.append((language.gettext("Currency"), column.currency, Kind.TEXT))

    def _has(self, field: str) -> bool:
        return any(known == field for _, known, _ in self._readers)

    @property
    def heading(self) -> list[str]:
        """The first line."""
        return [title for title, _, _ in self._readers]

    def cells(self, row: Row) -> list[Cell]:
        """A row."""
        return [
            self._told[name](self._language, row) if name in self._told else self._cell(row[name], name, kind)
            for _, name, kind in self._readers
        ]

    def _cell(self, value: Any, name: str, kind: Kind) -> Cell:
        if value is None or value == "":
            return None
        match kind:
            case Kind.MONEY:
                return Decimal(format_minor(Minor(value)))
            case Kind.SUMS:
                return "; ".join(f"{format_minor(Minor(amount))} {currency}" for currency, amount in value.items())
            case Kind.NUMBER:
                return int(value)
            case Kind.DATE:
                return value  # type: ignore[no-any-return]
            case Kind.INSTANT:
                return value.astimezone(self._zone).replace(tzinfo=None, microsecond=0)  # type: ignore[no-any-return]
        return self._labels.get(name, {}).get(value, str(value))


class ListFile(Protocol):
    """A file that is being written."""

    def write(self, rows: Iterable[Sequence[Cell]]) -> None:
        """Add rows."""

    def close(self) -> None:
        """Write what is left; the file itself stays open."""


def list_file(form: FileFormat, file: IO[bytes], heading: Sequence[str], title: str) -> ListFile:
    """A file of a list in ``file``, its heading written. title: of the sheet."""
    return (
        _Xlsx(file, heading, title)
        if form is FileFormat.XLSX
        else _Csv(file, heading, form is FileFormat.CSV_SEMICOLON)
    )


class _Csv:
    """UTF-8 with its mark, by which spreadsheets know it."""

    def __init__(self, file: IO[bytes], heading: Sequence[str], is_russian: bool) -> None:
        self._file = file
        self._is_russian = is_russian
        self._file.write("\ufeff".encode())
        self.write([heading])

    def write(self, rows: Iterable[Sequence[Cell]]) -> None:
        text = io.StringIO()
        writer = csv.writer(text, delimiter=";" if self._is_russian else ",")
        writer.writerows([self._told(cell) for cell in row] for row in rows)
        self._file.write(text.getvalue().encode())

    def close(self) -> None:
        self._file.flush()

    def _told(self, cell: Cell) -> str:
        match cell:
            case None:
                return ""
            case str():
                return spreadsheet_cell(cell)
            case datetime():
                return cell.strftime("%d.%m.%Y %H:%M:%S" if self._is_russian else "%Y-%m-%d %H:%M:%S")
            case date():
                return cell.strftime("%d.%m.%Y") if self._is_russian else cell.isoformat()
            case Decimal():
                return decimal_comma(int(cell.scaleb(2))) if self._is_russian else str(cell)
        return str(cell)


class _Xlsx:
    """A workbook whose rows go to a temporary file at once."""

    def __init__(self, file: IO[bytes], heading: Sequence[str], title: str) -> None:
        self._book = xlsxwriter.Workbook(file, {"constant_memory": True, "default_date_format": "dd.mm.yyyy"})
        self._heading = heading
        self._title = "".join(letter for letter in title if letter not in "[]:*?/\\'")[:25] or "1"
        self._formats: dict[type, Format] = {
            Decimal: self._book.add_format({"num_format": "#,##0.00"}),
            date: self._book.add_format({"num_format": "dd.mm.yyyy"}),
            datetime: self._book.add_format({"num_format": "dd.mm.yyyy hh:mm:ss"}),
        }
        self._quoted = self._book.add_format({"quote_prefix": True})
        self._bold = self._book.add_format({"bold": True, "bottom": 1})
        self._sheets = 0
        self._line = 0
        self._sheet = self._next_sheet()

    def write(self, rows: Iterable[Sequence[Cell]]) -> None:
        for row in rows:
            if self._line == SHEET_ROWS:
                self._sheet = self._next_sheet()
            for place, cell in enumerate(row):
                if cell is not None:
                    self._put(place, cell)
            self._line += 1

    def close(self) -> None:
        self._book.close()

    def _put(self, place: int, cell: Cell) -> None:
        sheet, line = self._sheet, self._line
        if isinstance(cell, str):
            is_risky = cell.startswith(_FORMULA_STARTS)
            sheet.write_string(line, place, cell[:CELL_CHARS], self._quoted if is_risky else None)
        elif isinstance(cell, int | Decimal):
            if not -_EXACT_MAX <= cell <= _EXACT_MAX:
                sheet.write_string(line, place, str(cell))
            else:
                sheet.write_number(line, place, cell, self._formats.get(type(cell)))
        elif isinstance(cell, date):
            sheet.write_datetime(line, place, cell, self._formats[type(cell)])

    def _next_sheet(self) -> Worksheet:
        self._sheets += 1
        name = self._title if self._sheets == 1 else f"{self._title} {self._sheets}"
        sheet: Worksheet = self._book.add_worksheet(name)
        sheet.freeze_panes(1, 0)
        sheet.set_column(0, max(0, len(self._heading) - 1), 18)
        for place, title in enumerate(self._heading):
            sheet.write_string(0, place, title, self._bold)
        self._line = 1
        return sheet


def labels_of(columns: Iterable[ListColumn], language: Language) -> dict[str, dict[str, str]]:
    """Words of the codes of each column."""
    return {column.name: {code: language.gettext(words) for code, words in column.words.items()} for column in columns}
