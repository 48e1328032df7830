"""Raw text, cells of spreadsheets and targets on this site."""

import doctest
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.language import Formats
from ratingcore.money import read_typed_sum
from web.console.payments import payments
from web.console.payments.payments import csv_lines
from web.site import formatting as shown
from web.site import page
from web.site.page import safe_target


@given(st.integers(min_value=0, max_value=10**15), st.sampled_from(["ru", "en"]))
def test_a_shown_sum_can_be_typed_back(minor, code):
    typed = read_typed_sum(Formats(code).money(minor, "RUB"))
    assert typed is not None
    assert typed.amount == minor
    assert typed.is_marked


@given(st.integers(min_value=-(2**63), max_value=2**63 - 1))
def test_a_spreadsheet_sum_is_the_exact_sum(minor):
    text = shown.decimal_comma(minor)
    assert int(text.replace(",", "")) == minor
    assert text[-3] == ","


def test_instants_are_told_in_the_configured_zone():
    at = datetime(2026, 11, 23, 21, 5, 9, tzinfo=UTC)
    moscow = ZoneInfo("Europe/Moscow")
    assert shown.spreadsheet_instant(at, moscow) == "24.11.2026 00:05:09"
    assert shown.machine_instant(at, moscow) == "2026-11-24T00:05:09+03:00"
    assert shown.spreadsheet_instant(None, moscow) == ""


def test_a_zone_is_named_with_its_offset_at_that_time():
    winter, summer = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
    assert shown.zone_name(ZoneInfo("Europe/Berlin"), winter) == "Europe/Berlin, UTC+1"
    assert shown.zone_name(ZoneInfo("Europe/Berlin"), summer) == "Europe/Berlin, UTC+2"
    assert shown.zone_name(ZoneInfo("Asia/Kolkata"), winter) == "Asia/Kolkata, UTC+5:30"
    assert shown.zone_name(ZoneInfo("America/St_Johns"), winter) == "America/St_Johns, UTC-3:30"


def test_invisible_letters_of_a_strangers_text_are_written_out():
    assert shown.raw("7\u202e21\u200b\x07 ok\r\nnext\tтекст") == "7\\u202e21\\u200b\\u0007 ok\nnext\tтекст"


@pytest.mark.parametrize("cell", ["=1+1", "+7916", "-5", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
def test_no_cell_of_an_export_is_a_formula(cell):
    assert shown.spreadsheet_cell(cell) == "'" + cell


@pytest.mark.parametrize(
    ("cell", "written"),
    [
        ("Anna,=1+1", "Anna,'=1+1"),
        ("Anna;@SUM(A1)", "Anna;'@SUM(A1)"),
        ("Anna\t-5", "Anna\t'-5"),
        ('Anna,"=1+1"', 'Anna,"\'=1+1"'),
        ("a=b, c - d", "a=b, c - d"),
    ],
)
def test_no_part_of_a_cell_becomes_a_formula_where_cells_are_separated_otherwise(cell, written):
    assert shown.spreadsheet_cell(cell) == written


def test_csv_cells_keep_separators_quotes_and_line_ends():
    assert csv_lines([["a;b", 'say "x"', "two\nlines", "=1"]]) == '"a;b";"say ""x""";"two\nlines";\'=1\r\n'


@pytest.mark.parametrize(
    "target",
    [
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "https://evil.example/",
        "javascript:alert(1)",
        "/\t/evil.example",
        " /payments",
        "/payments\r\nSet-Cookie: a=b",
        "/пример",
        "payments",
        "",
        "/sign-out",
        "/sign-in?next=/x",
        "/" + "x" * 3000,
    ],
)
def test_no_target_leads_off_this_site(target):
    assert safe_target(target) == "/payments"


@pytest.mark.parametrize("target", ["/payments/7", "/payments?q=a+b&state=posted", "/audit?q=%D0%B0"])
def test_a_target_on_this_site_is_kept(target):
    assert safe_target(target) == target


@pytest.mark.parametrize("module", [page, payments, shown])
def test_examples_in_docstrings_hold(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
