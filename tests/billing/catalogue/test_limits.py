"""What a catalogue may not hold although it can be read, and what messages say of broken input."""

import io

import pytest

from billing.catalogue.linter import check_catalogue
from billing.catalogue.nodes import CatalogueError, Problem, Severity
from billing.catalogue.reader import read_catalogue
from billing.rating.rated_file import read_usage
from billing.wording import Words
from tests.billing.catalogue.catalogues import HEAD, example, one_price, read

PERCENT = "- percentage: {percent: 10}"


def errors(text: str) -> list[Problem]:
    return [one for one in check_catalogue(read(text)) if one.severity == Severity.ERROR]


def problem(text: str) -> Problem:
    """The first thing that is wrong with a catalogue that cannot be read."""
    with pytest.raises(CatalogueError) as raised:
        read_catalogue("test.yaml", text.encode(), lambda name: b"")
    return raised.value.problems[0]


@pytest.mark.parametrize(
    ("unit", "item", "counted"),
    [
        ("EUR", "", "EUR with 0 decimals"),
        ("RUB", "decimals: 3", "RUB with 3 decimals"),
        ("s", "", "s with 0 decimals"),
        ("GB", "decimals: 2", "GB with 2 decimals"),
    ],
)
def test_a_percentage_of_what_does_not_count_money_is_an_error(unit: str, item: str, counted: str) -> None:
    (one,) = errors(one_price(PERCENT, unit=unit, item=item))
    assert one.code == "percentage-unit"
    assert one.message.endswith(f"a percentage is of money, with 2 decimals, and the item counts {counted}")
    assert one.hint == "write unit: RUB and decimals: 2 at item use"
    assert one.place.line > 8


def test_a_percentage_of_money_is_none() -> None:
    assert errors(one_price(PERCENT, unit="RUB", item="decimals: 2")) == []


@pytest.mark.parametrize(("count", "codes"), [(16, []), (17, ["limit"])])
def test_more_pools_than_rating_takes_are_an_error(count: int, codes: list[str]) -> None:
    pools = "pools:\n" + "".join(f"  p{number}: {{unit: s}}\n" for number in range(count))
    found = errors(one_price("- per_unit: {price: 1}", more=pools))
    assert [one.code for one in found] == codes
    assert [one.message for one in found] == [f"{count} pools: a catalogue has 16 at most" for _ in codes]


@pytest.mark.parametrize("name", ["''", "{ru: ' '}"])
def test_an_empty_name_is_an_error_with_its_line(name: str) -> None:
    text = one_price("- per_unit: {price: 1}", item=f"name: {name}")
    (one,) = errors(text)
    assert (one.code, one.message) == ("name", "the name of item use is empty")
    assert str(one).startswith("test.yaml:")
    assert Words("ru", "RUB").name({}) == ""


@pytest.mark.parametrize("name", [r'"a\e[31mred"', r'"a\0b"', r'{ru: "a\nb"}'])
def test_a_name_that_cannot_be_shown_is_an_error_with_its_line(name: str) -> None:
    (one,) = errors(one_price("- per_unit: {price: 1}", item=f"name: {name}"))
    assert one.code == "name"
    assert "holds a character that cannot be shown" in one.message
    assert one.place.line == 7


def test_groups_and_codes_hold_no_control_characters_either() -> None:
    price = '  - {item: use, group: "a\\0", versions: [{from: 2026-01-01, steps: [per_unit: {price: 1}]}]}\n'
    code = 'promotions: [{promotion: p, code: "a\\e", from: 2026-01-01, items: [use], percent: 5}]\n'
    found = errors(one_price("- per_unit: {price: 1}") + price + code)
    assert [one.message.partition(" holds")[0] for one in found] == ["the group of use", "the code of promotion p"]


def test_a_pool_in_another_unit_than_its_item_says_what_to_write() -> None:
    one = problem(
        one_price("- allowance: {pool: minutes}\n- per_unit: {price: 1}", more="pools: {minutes: {unit: min}}")
    )
    assert one.message == "pool minutes counts min with 0 decimals, the item s with 0 decimals"
    assert one.hint == "write unit: s in the pool; a grant may still say its own: 300 min, 1.5 GB"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            one_price("- percentage: {percent: 1, maximum: 1, minimum: 5}", unit="RUB", item="decimals: 2"),
            "the maximum 1.00 is below the minimum 5.00",
        ),
        (
            HEAD + "valid: {from: 2026-02-01, until: 2026-01-01}\n",
            "valid ends before it begins: until is not after from",
        ),
        (HEAD + "items:\n  use: {<<: {unit: s}}\n", "merge keys (<<) are not accepted"),
        (one_price("- per_unit: {price: 1}", item="name: {}"), "no language is named"),
        (HEAD + "items:\n  'a b': {unit: s}\n", "the name of an item 'a b' is 1 to 64 letters, digits, - _ or ."),
    ],
)
def test_a_message_says_what_a_person_wrote(text: str, message: str) -> None:
    one = problem(text)
    assert message in one.message
    assert one.place.line > 4


HEADER = "account,item,time,quantity\n"
ROW = "1,voice,2026-11-02T10:15:00,90 s\n"


def usage_problem(data: bytes) -> Problem:
    with pytest.raises(CatalogueError) as raised:
        read_usage("u.csv", io.BytesIO(data), example("mobile.yaml"))
    return raised.value.problems[0]


def test_a_quoted_header_is_read_as_quoted_rows_are() -> None:
    data = '"account";"item";"time";"quantity"\n"1";"voice";"2026-11-02T10:15:00";"90 s"\n'
    rows, rejected = read_usage("u.csv", io.BytesIO(data.encode()), example("mobile.yaml"))
    assert ([one.account for one in rows], rejected) == (["1"], [])


@pytest.mark.parametrize(
    ("data", "message", "hint"),
    [
        (b"", "the file is empty", "it names the columns: account, item, "),
        (b"\n1,2\n", "the first line is empty", "it names the columns: "),
        ((HEADER + ROW).replace("\n", "\r").encode(), "its lines end in CR alone", "tr '\\r' '\\n'"),
        (b"\xff\xfe" + (HEADER + ROW).encode("utf-16-le"), "byte 0xff is no UTF-8", "iconv -f utf-16 -t utf-8"),
        ((HEADER + ROW).encode("utf-16-le"), "holds a zero byte: not a text file", "iconv -f utf-16 -t utf-8"),
        (b'"account,item\n', "not CSV: ", ""),
    ],
)
def test_a_usage_file_that_is_none_says_why(data: bytes, message: str, hint: str) -> None:
    one = usage_problem(data)
    assert one.message.startswith(message)
    assert hint in one.hint
    assert str(one.place) == "u.csv:1"


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("x" * 201, "account is longer than 200 characters"),
        ("a\x1b", "account 'a\\x1b' holds a character that cannot be"),
    ],
)
def test_a_cell_that_cannot_be_is_told_apart(cell: str, why: str) -> None:
    rows, (rejected,) = read_usage("u.csv", io.BytesIO((HEADER + cell + ROW[1:]).encode()), example("mobile.yaml"))
    assert rows == []
    assert rejected.reason.startswith(why)
