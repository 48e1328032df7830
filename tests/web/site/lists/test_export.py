"""Files of lists: what a cell becomes, in each form."""

import csv
import io
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
from python_calamine import CalamineWorkbook

from billing.language import language_of
from billing.listing.records import Field, ListSource, Search
from web.access.rights import Right
from web.site.lists import export
from web.site.lists.declaration import Kind, ListColumn, Listing
from web.site.lists.export import Columns, FileFormat, list_file

SOURCE = ListSource(
    "things", "things t", "t.id", "bigint",
    {
        "code": Field("t.code", search=Search.CODE, is_ordered=True),
        "owner": Field("t.owner"), "owner_name": Field("t.owner_name"), "currency": Field("t.currency"),
        "sum": Field("t.sum", (), "bigint", Search.RANGE), "sums": Field("t.sums"),
        "size": Field("t.size", (), "bigint", Search.RANGE), "state": Field("t.state", search=Search.CHOICE),
        "day": Field("t.day", (), "date", Search.RANGE), "at": Field("t.at", (), "timestamptz", Search.RANGE),
    },
)  # fmt: skip
THINGS = Listing(
    "things", "Things", SOURCE,
    (
        ListColumn("code", "Code", Kind.CODE),
        ListColumn("owner", "Owner", under="owner_name", why_not="-"),
        ListColumn("sum", "Sum", Kind.MONEY, currency="currency"),
        ListColumn("sums", "Sums", Kind.SUMS, why_not="-"),
        ListColumn("size", "Size", Kind.NUMBER),
        ListColumn("state", "State", Kind.STATE, words={"new": "is new"}),
        ListColumn("day", "Day", Kind.DATE),
        ListColumn("at", "At", Kind.INSTANT),
    ),
    "code", lambda language, n: str(n), Right.CUSTOMERS_VIEW,
)  # fmt: skip
ROW = {
    "code": "=1+1", "owner": "7", "owner_name": "+7 «Ёлка»; a", "sum": -123_456, "currency": "RUB",
    "sums": {"RUB": 5, "EUR": 3_000_000_000}, "size": 10**16, "state": "new", "day": date(2026, 3, 1),
    "at": datetime(2026, 3, 1, 21, 30, 5, 7, tzinfo=UTC),
}  # fmt: skip
#: The instant of ROW in Moscow, as a spreadsheet has it: without a zone.
AT = datetime(2026, 3, 2, 0, 30, 5, tzinfo=UTC).replace(tzinfo=None)
EMPTY = dict.fromkeys(ROW)
HEADING = ["Code", "Owner", "Owner: name", "Sum", "Currency", "Sums", "Size", "State", "Day", "At"]


@pytest.fixture
def columns() -> Columns:
    labels = {"state": {"new": "is new"}}
    return Columns(THINGS, THINGS.shown, language_of("en"), ZoneInfo("Europe/Moscow"), labels)


def written(form, columns, rows) -> bytes:
    file = io.BytesIO()
    out = list_file(form, file, columns.heading, "Things: [all]")
    out.write(columns.cells(row) for row in rows)
    out.close()
    return file.getvalue()


def test_a_csv_for_programs(columns) -> None:
    content = written(FileFormat.CSV, columns, [ROW, EMPTY])
    assert content.startswith("\ufeff".encode())
    lines = list(csv.reader(io.StringIO(content.decode("utf-8-sig"))))
    assert lines == [
        HEADING,
        ["'=1+1", "7", "'+7 «Ёлка»; a", "-1234.56", "RUB", "0.05 RUB; 30000000.00 EUR", str(10**16), "is new",
         "2026-03-01", "2026-03-02 00:30:05"],
        [""] * 10,
    ]  # fmt: skip


def test_a_csv_for_spreadsheets_of_the_russian_locale(columns) -> None:
    lines = list(
        csv.reader(io.StringIO(written(FileFormat.CSV_SEMICOLON, columns, [ROW]).decode("utf-8-sig")), delimiter=";")
    )
    assert lines[1][3] == "-1234,56"
    assert lines[1][8:] == ["01.03.2026", "02.03.2026 00:30:05"]


def test_a_workbook_holds_numbers_days_and_texts_that_are_no_formulas(columns) -> None:
    content = written(FileFormat.XLSX, columns, [ROW, EMPTY])
    sheet = CalamineWorkbook.from_filelike(io.BytesIO(content)).get_sheet_by_index(0).to_python()
    assert sheet[0] == HEADING
    assert sheet[1] == [
        "=1+1", "7", "+7 «Ёлка»; a", -1234.56, "RUB", "0.05 RUB; 30000000.00 EUR", str(10**16), "is new",
        date(2026, 3, 1), AT,
    ]  # fmt: skip
    assert b"<f>" not in content


def test_rows_beyond_a_sheet_go_to_the_next_with_the_heading(columns, monkeypatch) -> None:
    monkeypatch.setattr(export, "SHEET_ROWS", 3)
    book = CalamineWorkbook.from_filelike(io.BytesIO(written(FileFormat.XLSX, columns, [ROW] * 5)))
    assert book.sheet_names == ["Things all", "Things all 2", "Things all 3"]
    sheets = [book.get_sheet_by_index(place).to_python() for place in range(3)]
    assert [len(sheet) for sheet in sheets] == [3, 3, 2]
    assert all(sheet[0] == HEADING for sheet in sheets)
