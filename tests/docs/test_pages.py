"""The page on list pages is true: its example is taken from it, served, and used: filter, export and form."""

import csv
import io
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

import web.app
from tests.billing.invoicing.invoice_books import Books
from tests.web.conftest import running
from web.console.listings import LISTINGS
from web.site.lists.pages import list_page
from web.site.templates import FOLDER, Templates

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "pages.md").read_text("utf-8")
EXAMPLE = PAGE.partition("### An example, whole")[2]
PYTHON = re.findall(r"```python\n(.*?)```", EXAMPLE, re.DOTALL)
[TEMPLATE] = re.findall(r"```jinja\n(.*?)```", EXAMPLE, re.DOTALL)


def test_the_example_has_under_a_hundred_lines() -> None:
    assert len(PYTHON) == 2
    assert 50 < sum(len(block.splitlines()) for block in [*PYTHON, TEMPLATE]) < 100


@pytest.fixture
def served(database, journal_uri, journal_name, monkeypatch, tmp_path):
    """The example as the page has it, in a web process."""
    names: dict[str, object] = {"__name__": "example"}
    for block in PYTHON:
        exec(compile(block, "docs/pages.md", "exec"), names)
    example = SimpleNamespace(**names)
    folder = tmp_path / "templates"
    shutil.copytree(FOLDER, folder)
    (folder / "charge.html").write_text(TEMPLATE, "utf-8")
    monkeypatch.setattr(Templates.__init__, "__defaults__", (folder,))
    monkeypatch.setitem(LISTINGS, "charges", example.CHARGES)
    more = (("/charges", list_page(example.CHARGES)), ("/charges/new", example.NewChargePage))
    monkeypatch.setattr(web.app, "ROUTES", (*web.app.ROUTES, *more))
    with running(database.dsn, database.owner_dsn, journal_uri, journal_name) as process:
        yield process


def test_the_example_lists_filters_exports_and_takes_one_more(served) -> None:
    books = Books(served.dsn)
    books.account("A1", name="ООО «Ромашка»")
    books.account("A2", name="Иванов")
    person = served.person("anna")
    form = {"key": "k1", "account": "A1", "description": "Выезд мастера", "amount": "1 500,00", "why": "заявка 7"}
    assert "Новый" in person.find("/charges").words or "New charge" in person.find("/charges").words
    refused = person.post("/charges/new", {**form, "amount": "много"}, "/charges/new")
    assert refused.status == 400
    assert 'value="много"' in refused.text
    assert person.post("/charges/new", form, "/charges/new").location == "/charges"
    other = {**form, "key": "k2", "account": "A2", "amount": "20,50"}
    assert person.post("/charges/new", other, "/charges/new").status == 303
    words = person.find("/charges", customer="ромаш").words.replace("\u00a0", " ")
    assert "1 500,00 ₽" in words
    assert "20,50" not in words
    answer = person.post("/lists/charges/export", {"query": "state=waits", "format": "csv"}, "/charges")
    lines = list(csv.reader(io.StringIO(answer.body.decode("utf-8-sig"))))
    assert sorted(line[3] for line in lines[1:]) == ["1500.00", "20.50"]
    assert served.person("vera").get("/charges/new").status == 403
