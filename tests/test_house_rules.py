"""The rules of the house hold, and each of them sees what is planted against it."""

from pathlib import Path

import pytest

from tests import house_rules
from tests.house_rules import Module, findings, full_folders, long_files, modules_of, reads_past_views, twin_classes

ROOT = Path(house_rules.__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def modules() -> list[Module]:
    return modules_of(ROOT)


def test_the_house_is_in_order() -> None:
    assert findings(ROOT) == []


def test_a_guard_that_looks_at_the_wrong_place_says_so(tmp_path) -> None:
    assert "only 0 modules were examined: the guard looks at the wrong place" in findings(tmp_path)


@pytest.mark.parametrize(
    ("path", "text", "told"),
    [
        ("billing/orders/planted.py", "class Invoice:\n    pass\n", "class Invoice stands 2 times in billing: "),
        ("web/site/planted.py", 'ASK = "SELECT id FROM users"\n', "web/site/planted.py:1: SQL outside a store"),
        (
            "gateway/port/planted.py",
            'x = f"UPDATE payments SET state = {1}"\n',
            "gateway/port/planted.py:1: SQL outside",
        ),
        (
            "web/site/store.py",
            '"""."""\nQ = "SELECT 1 FROM transfers t"\n',
            "web/site/store.py:2: reads table transfers",
        ),
        ("kopeck/planted.py", "x = 1\n" * 501, "kopeck/planted.py has 501 lines"),
        ("billing/planted/planted.py", "x = 1\n", "billing/planted has no tests in tests/billing/planted"),
    ],
)
def test_what_is_planted_is_seen(modules, path, text, told) -> None:
    planted = [*modules, Module(path, text)]
    found = [
        *twin_classes(planted),
        *house_rules.sql_outside_stores(planted),
        *reads_past_views(planted),
        *long_files(planted),
        *house_rules.untested_packages(planted, ROOT),
    ]
    assert len(found) == 1
    assert found[0].startswith(told)


def test_a_seventeenth_file_of_a_folder_is_seen() -> None:
    folder = [Module(f"web/site/m{number}.py", "") for number in range(16)]
    assert [*full_folders([*folder, Module("web/site/__init__.py", "")])] == []
    assert [*full_folders([*folder, Module("web/site/more.py", "")])] == ["web/site holds 17 files of code, 16 at most"]


def test_an_exception_that_nothing_needs_is_a_finding(modules, monkeypatch) -> None:
    monkeypatch.setattr(house_rules, "SQL_MODULES", {**house_rules.SQL_MODULES, "web/app.py": "planted"})
    assert [*house_rules.sql_outside_stores(modules)] == ["web/app.py is an exception for SQL and holds none"]
