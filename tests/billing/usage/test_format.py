"""Formats of usage files: strict, with file and line."""

import re
from pathlib import Path

import pytest

from billing.usage.format import FormatError, parse_format
from tests.billing.usage.usage_files import CALLS, calls


def test_a_format_says_what_it_reads() -> None:
    made = calls()
    assert made.used_columns() == ("phone", "type", "begun", "minutes", "called", "id")
    assert made.has_header
    assert (made.separator, made.quote_character) == (";", '"')


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('delimiter = ";"', 'delimitr = ";"', "f.toml:4: delimitr: there is no setting 'delimitr' here"),
        ('source = "switch"', 'source = "Коммутатор"', "f.toml:3: source: expected `str` matching regex"),
        ('source = "switch"', "", "f.toml:1: source is missing"),
        ('column = "minutes"', 'column = "minutes"\nmultiply = "60"', "f.toml:21: quantity.multiply: expected `int`"),
        ('column = "minutes"', 'column = "minutes"\nmultiply = 0', "f.toml:21: quantity.multiply: expected `int` >= 1"),
        ('zone = "Europe/Moscow"', 'zone = "Europe/Moskau"', "f.toml:17: time.zone: 'Europe/Moskau' is no IANA"),
        ("%H:%M:%S", "%H:%M:%H", "f.toml:16: time.format: %H stands twice"),
        ("%d.%m.%Y ", "%d.%m ", "f.toml:16: time.format: %Y is missing"),
        ("%H:%M:%S", "%H:%M:%S%f", "f.toml:16: time.format: %f stands for a fraction"),
        ("%H:%M:%S", "%I:%M:%S", "f.toml:16: time.format: %I is not known"),
        ('delimiter = ";"', 'delimiter = "1"', "f.toml:4: delimiter: is one ASCII character"),
        ('delimiter = ";"', "delimiter = '\"'", "f.toml:1: quote: cannot be the delimiter too"),
        ('delimiter = ";"', 'charset = "utf-16"', "f.toml:4: charset: 'utf-16' is none of: utf-8"),
        ('delimiter = ";"', 'columns = ["id"]', "f.toml:8: account.column: there is no column 'phone'; there are id"),
        ('delimiter = ";"', "positions = { a = [1, 2] }", "f.toml:4: positions: belongs to files of kind fixed"),
        ('kind = "csv"', 'kind = "jsonlines"', "f.toml:4: delimiter: has no meaning in a file of kind jsonlines"),
        ('kind = "csv"', 'kind = "xml"', "f.toml:2: kind: invalid enum value 'xml'"),
        ('key = ["id"]', "key = []", "f.toml:5: key: expected `array` of length >= 1"),
        ('key = ["id"]', 'key = ["id", "id"]', "f.toml:5: key: names a column twice"),
        ('"2" = "sms"', '"2" = "с м с"', "f.toml:10: item: item number 'с м с' must be"),
        ('column = "type"', 'value = "voice"', "f.toml:12: item.map: maps a column's values, and there is no column"),
        ("[account]", "[account", "f.toml:7: not valid TOML"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_line(old, new, message) -> None:
    assert old in CALLS
    with pytest.raises(FormatError) as caught:
        parse_format(CALLS.replace(old, new, 1), "f.toml")
    assert str(caught.value).startswith(message)


def test_the_page_for_operators_documents_every_setting_and_its_example_works() -> None:
    page = (Path(__file__).parents[3] / "docs" / "usage.md").read_text("utf-8")
    example = re.search(r"```toml\n(.*?)```", page, re.DOTALL)
    assert example is not None
    made = parse_format(example[1], "docs/usage.md")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    for name in made.__struct_fields__:
        part = getattr(made, name)
        for field in getattr(part, "__struct_fields__", ()):
            assert any(f"{name}." in row and f"{field}`" in row for row in rows), f"{name}.{field}"
        assert any(f"| `{name}" in row for row in rows), name


def test_a_huge_file_is_no_format() -> None:
    with pytest.raises(FormatError, match="no format file"):
        parse_format("#" * 300_000, "f.toml")
