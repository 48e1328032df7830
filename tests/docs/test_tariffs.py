"""The page for product managers is true: its examples are rated, its arithmetic is done, its commands are run."""

import ast
import io
import operator
import re
import shlex
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import pytest

from billing.catalogue import linter as catalogue_check
from billing.catalogue.steps import KINDS
from billing.rating.bills import BillTerms, rate_usage
from billing.rating.rated_file import COLUMNS, read_usage
from kopeck.cli.main import main
from tests.billing.catalogue.catalogues import EXAMPLES, one_price, read

ROOT = Path(__file__).resolve().parents[2]
PAGES = {name: (ROOT / "docs" / name).read_text("utf-8") for name in ("tariffs.md", "tariffs.ru.md")}
OF_THE_ITEM = ("unit", "decimals")
OF_THE_VERSION = ("calendar", "rounding", "steps")
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


class Example(NamedTuple):
    """A fragment of a catalogue and a row of its table."""

    page: str
    title: str
    fragment: str
    used: str
    formula: str
    pays: str


def examples_of(page: str) -> list[Example]:
    found = []
    for section in re.split(r"^### ", PAGES[page], flags=re.MULTILINE)[1:]:
        (fragment,) = re.findall(r"```yaml\n(.*?)```", section, flags=re.DOTALL)
        rows = re.findall(r"^\| (.+?) \| (.+?) \| (-?[\d.,]+) \|$", section, flags=re.MULTILINE)
        assert rows, section[:40]
        found += [Example(page, section.split("\n")[0], fragment, *row) for row in rows]
    return found


EVERY = [example for page in PAGES for example in examples_of(page)]


def catalogue_of(fragment: str):
    """The fragment's lines, each top-level key put where it belongs."""
    pieces = re.split(r"^(?=\S)", fragment, flags=re.MULTILINE)
    by_key = {piece.partition(":")[0]: piece for piece in pieces if piece.strip()}
    item = {key: by_key.pop(key) for key in OF_THE_ITEM if key in by_key}
    version = {key: by_key.pop(key) for key in OF_THE_VERSION if key in by_key}
    tax = by_key.pop("tax", "")
    if "taxes" in by_key:
        item["tax"] = "tax: vat\n"
    steps = re.sub(r"^  ", "", version.pop("steps").partition("\n")[2], flags=re.MULTILINE)
    unit = item.pop("unit").partition(":")[2].strip()
    return read(
        one_price(steps, unit, "".join(by_key.values()), "".join(item.values()), "".join(version.values()) + tax)
    )


def usage_of(used: str) -> str:
    rows = []
    for number, event in enumerate(used.split(" + ")):
        quantity, time, destination = re.fullmatch(r"(.+?)(?: (?:at|в) (\S+))?(?: (?:to|на) (\d+))?", event).groups()
        rows.append(f"7,use,{time or f'2026-02-02T12:{number:02d}:00'},{quantity},{destination or ''}")
    return "account,item,time,quantity,destination\n" + "\n".join(rows) + "\n"


def number_of(text: str) -> Fraction:
    return Fraction(text.replace(",", "."))


@pytest.mark.parametrize("example", EVERY, ids=lambda one: f"{one.page}: {one.title}: {one.used}")
def test_an_example_costs_what_the_page_says(example) -> None:
    catalogue = catalogue_of(example.fragment)
    plan = next(iter(catalogue.plans), "")
    usage, bad = read_usage("page.csv", io.BytesIO(usage_of(example.used).encode()), catalogue, plan)
    (bill,), unrated = rate_usage(catalogue, usage, BillTerms("RUB"))
    assert [*bad, *unrated] == []
    assert bill.total == number_of(example.pays) * 100


def worked(expression: str) -> Fraction:
    """The value of an expression of numbers, + - x / and brackets, exactly."""

    def value(node: ast.expr) -> Fraction:
        if isinstance(node, ast.BinOp):
            return OPERATORS[type(node.op)](value(node.left), value(node.right))
        assert isinstance(node, ast.Constant)
        return Fraction(ast.get_source_segment(text, node))

    text = re.sub(r"(\d),(\d)", r"\1.\2", expression).replace(" x ", " * ").strip()
    return value(ast.parse(text, mode="eval").body)


@pytest.mark.parametrize("example", EVERY, ids=lambda one: f"{one.page}: {one.title}: {one.used}")
def test_the_arithmetic_by_hand_comes_to_what_is_paid(example) -> None:
    exact, rounded, last = example.formula.partition("≈")
    values = [worked(part) for part in exact.split("=")]
    assert len(set(values)) == 1
    if rounded:
        assert abs(worked(last) - values[0]) <= Fraction(1, 200)
    assert worked(last if rounded else exact.split("=")[-1]) == number_of(example.pays)


def test_both_pages_have_the_same_examples_and_there_are_many() -> None:
    english, russian = (examples_of(page) for page in PAGES)
    assert len(english) >= 40
    assert [one.fragment for one in english] == [one.fragment for one in russian]
    assert [number_of(one.pays) for one in english] == [number_of(one.pays) for one in russian]


@pytest.mark.parametrize("page", PAGES)
def test_every_kind_of_step_every_column_and_every_finding_is_on_the_page(page) -> None:
    fragments = "".join(one.fragment for one in examples_of(page))
    for kind in KINDS:
        assert f"- {kind}:" in fragments or kind == "surcharge", kind
        assert f"`{kind}`" in PAGES[page]
    for column in COLUMNS:
        assert f"`{column}`" in PAGES[page]
    source = Path(catalogue_check.__file__).read_text("utf-8")
    codes = set(re.findall(r'"([a-z]+-[a-z]+|unused)"', source))
    assert len(codes) >= 12
    for code in codes:
        assert f"| `{code}` |" in PAGES[page], code


@pytest.mark.parametrize("page", PAGES)
def test_the_files_of_the_tutorial_are_those_of_the_examples(page) -> None:
    shown = re.findall(r"```\w+ file=(\S+)\n(.*?)```", PAGES[page], flags=re.DOTALL)
    assert sorted(name for name, _ in shown) == ["mobile.yaml", "roaming.csv", "usage.csv"]
    for name, text in shown:
        assert text == (EXAMPLES / name).read_text("utf-8"), name


def transcripts() -> list[tuple[str, str, str]]:
    return [
        (page, command, said)
        for page, text in PAGES.items()
        for block in re.findall(r"```console\n(\$ .*?)\n```", text, flags=re.DOTALL)
        for command, _, said in [block.removeprefix("$ ").partition("\n")]
    ]


def test_each_page_has_its_transcripts() -> None:
    assert len(transcripts()) == 6


@pytest.mark.parametrize(("page", "command", "said"), transcripts())
def test_a_command_of_the_page_says_what_the_page_shows(page, command, said, capsys, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(command)[1:])
    assert not ended.value.code
    assert capsys.readouterr().out.replace("\u00a0", " ").rstrip() == said
