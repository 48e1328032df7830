"""The examples in docstrings say what happens."""

import doctest
from importlib import import_module

import pytest

MODULES = ["digits", "money", "reference", "rounding"]


@pytest.mark.parametrize("name", MODULES)
def test_every_example_in_a_docstring_gives_what_it_shows(name: str) -> None:
    result = doctest.testmod(import_module(f"ratingcore.{name}"))
    assert result.attempted > 0
    assert result.failed == 0
