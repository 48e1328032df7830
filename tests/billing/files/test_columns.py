"""Lines to columns: every line one row or one reject, whatever quotes it holds."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.files.columns import find_columns, split_block
from billing.files.lines import UnreadableFile, read_blocks
from billing.usage.format import parse_format
from tests.billing.usage.usage_files import UNHURRIED

PLAIN = """
source = "s"
key = ["a"]
[account]
column = "a"
[item]
value = "i"
[time]
column = "b"
format = "unix_s"
[quantity]
column = "c"
"""


def split(data: str, head: str) -> tuple[list[dict[str, str]], dict[int, str]]:
    made = parse_format(head + PLAIN, "f")
    rows: list[dict[str, str]] = []
    bad: dict[int, str] = {}
    places = {} if made.has_header else find_columns(made, made.used_columns(), None)
    for block in read_blocks(io.BytesIO(data.encode()), made):
        places = find_columns(made, made.used_columns(), block.header) if block.header is not None else places
        found = split_block(block, made, made.used_columns(), places)
        names = list(found.texts)
        values = zip(*(found.texts[name].to_pylist() for name in names), strict=True)
        rows += [dict(zip(names, row, strict=True)) for row in values]
        bad.update({reject.line: reject.reason for reject in found.rejects})
        assert len(found.numbers) + len(found.rejects) == len(block.lines)
    return rows, bad


CSV = 'kind = "csv"\ncolumns = ["a", "b", "c"]\n'


def test_quotes_are_taken_whole_or_the_line_is_rejected() -> None:
    data = '"1,5","say ""no""", x \n1,"2,3\n4,5,6\n7,8"9,0\n"a"b,1,2\n1,2\n1,2,3,4\n,,\n'
    rows, bad = split(data, CSV)
    assert rows == [
        {"a": "1,5", "b": 'say "no"', "c": "x"},
        {"a": "4", "b": "5", "c": "6"},
        {"a": "", "b": "", "c": ""},
    ]
    assert bad == {2: "quotes", 4: "quotes", 5: "quotes", 6: "columns", 7: "columns"}


CELL = st.text(st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\ufeff"), max_size=6)


@UNHURRIED
@given(
    st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=8), st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL])
)
def test_what_a_csv_writer_wrote_is_read_back(cells, quoting) -> None:
    target = io.StringIO()
    csv.writer(target, quoting=quoting, lineterminator="\n").writerows(cells)
    rows, bad = split(target.getvalue(), CSV)
    assert [tuple(row.values()) for row in rows] == [tuple(cell.strip(" \t") for cell in row) for row in cells]
    assert bad == {}


@UNHURRIED
@given(st.text(st.sampled_from('",;x \t1\\|\n'), max_size=60))
def test_any_text_gives_each_line_one_row_or_one_reject(text) -> None:
    rows, bad = split(text + "\n1,2,3\n", CSV)
    lines = [line for line in (text + "\n1,2,3").split("\n") if line]
    assert len(rows) + len(bad) == len(lines)
    assert rows[-1] == {"a": "1", "b": "2", "c": "3"}


def test_tabs_separate_and_quotes_are_plain_in_tsv() -> None:
    rows, bad = split('a\tc\tb\n"1\t2\t3\n', 'kind = "tsv"\n')
    assert (rows, bad) == ([{"a": '"1', "b": "3", "c": "2"}], {})


@pytest.mark.parametrize("delimiter", ["|", "^", ".", "]", "-", "*"])
def test_any_delimiter_is_only_itself(delimiter) -> None:
    head = f'kind = "csv"\ndelimiter = "{delimiter}"\n'
    rows, bad = split(f'a{delimiter}b{delimiter}c\n"x{delimiter}y"{delimiter}2{delimiter}3\n', head)
    assert (rows, bad) == ([{"a": f"x{delimiter}y", "b": "2", "c": "3"}], {})


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("a,b\n", "the header has no column 'c': a, b"),
        ("a,b,c,a\n", "the header has more than one column 'a'"),
        ('a,"b,c\n', "the header cannot be read"),
    ],
)
def test_a_header_that_lacks_a_column_refuses_the_file(header, message) -> None:
    with pytest.raises(UnreadableFile, match=message):
        split(header + "1,2,3\n", 'kind = "csv"\n')


def test_fixed_width_counts_characters_not_bytes() -> None:
    head = 'kind = "fixed"\npositions = { a = [1, 3], b = [4, 5], c = [6, 7] }\n'
    rows, bad = split("ёж 12 3rest\nёж 12\n", head)
    assert rows == [{"a": "ёж", "b": "12", "c": "3"}]
    assert bad == {2: "columns"}


def test_json_numbers_stay_text_to_the_digit() -> None:
    lines = [
        '{"a": "x", "b": 1, "c": 0.1234567890123456789}',
        '{"a": 12345678901234567890123, "b": null}',
        '{"a": 1e3, "b": 2, "c": 3}',
        '{"a": true}',
        '{"a": [1]}',
        "[1]",
        "{",
        '{"a": 1} {"a": 2}',
    ]
    rows, bad = split("\n".join(lines) + "\n", 'kind = "jsonlines"\n')
    assert rows[0] == {"a": "x", "b": "1", "c": "0.1234567890123456789"}
    assert rows[1] == {"a": "12345678901234567890123", "b": "", "c": ""}
    assert rows[2]["a"] == "1e3"
    assert bad == dict.fromkeys(range(4, 9), "json")


def test_dots_lead_into_json_objects() -> None:
    made = parse_format('kind = "jsonlines"\n' + PLAIN.replace('"c"', '"c.d"'), "f")
    block = next(read_blocks(io.BytesIO(b'{"a": 1, "b": 2, "c": {"d": 3}}\n'), made))
    assert split_block(block, made, made.used_columns(), {}).texts["c.d"].to_pylist() == ["3"]


def test_a_deep_json_line_is_rejected() -> None:
    _, bad = split('{"a":' * 10_000 + "\n", 'kind = "jsonlines"\n')
    assert bad == {1: "json"}
