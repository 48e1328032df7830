"""The examples in docstrings of billing say what happens."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOM = Path(__file__).parents[2] / "billing"
MODULES = sorted(
    ".".join(path.relative_to(ROOM).with_suffix("").parts)
    for path in ROOM.rglob("*.py")
    if ">>> " in path.read_text("utf-8")
)


def test_there_are_examples() -> None:
    assert "invoicing.amount_in_words" in MODULES


@pytest.mark.parametrize("name", MODULES)
def test_every_example_in_a_docstring_gives_what_it_shows(name: str) -> None:
    result = doctest.testmod(import_module(f"billing.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
