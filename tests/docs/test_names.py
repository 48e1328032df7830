"""Files and modules that pages and docstrings name are there: a name that moved is found where it is still told."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from gateway.events.types import EVENT_TYPES
from kopeck.settings import documented_settings

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("adapters", "billing", "gateway", "kopeck", "loadtests", "ratingcore", "tests", "web")
#: Places that pages name by a word in capitals: of a file that is yet to be written.
UNWRITTEN = re.compile("(NAME|ROLE|AREA|NNNN)")
ENDINGS = "py|pyx|pyi|sql|md|toml|html|css|js|yaml|csv|typ"
#: A path in backticks. Bare names of files (`decide.py`) are told beside their folder and not looked for.
PATH = re.compile(rf"`+([a-z_]+(?:/[\w*-]+)*/(?:[\w*.-]+\.(?:{ENDINGS}))?)`+")
#: A module, or what stands in one, with its room.
DOTTED = re.compile(rf"(?<![\w./@-])((?:{'|'.join(ROOMS)})(?:\.\w+)+)")
#: In a docstring a path needs no backticks.
BARE_PATH = re.compile(rf"(?<![\w./@-])((?:{'|'.join((*ROOMS, 'docs', 'migrations'))})/[\w./*-]+\.(?:{ENDINGS}))\b")
#: Fewer names than this, and the guard looked at the wrong place.
LEAST_NAMES = 300
#: Settings are told in the same form as modules.
SETTINGS = frozenset(setting.name for setting in documented_settings())
#: So are types of events.
EVENTS = tuple(f"{event_type}." for event_type in EVENT_TYPES)


def paths_in(text: str, bare: bool) -> Iterator[str]:
    found = {*PATH.findall(text), *(BARE_PATH.findall(text) if bare else ())}
    for path in sorted(found):
        if path.partition("/")[0] in (*ROOMS, "docs", "migrations") or path.endswith((".py", ".pyx")):
            yield path


@cache
def is_there(name: str) -> bool:
    """Whether a path from the root, or a dotted module, or a name of a module is there."""
    if UNWRITTEN.search(name) or name in SETTINGS or name.endswith(".example"):  # a host of no one, RFC 2606
        return True
    if any(event_type.startswith(f"{name}.") for event_type in EVENTS):
        return True
    if "/" in name:
        return any(ROOT.glob(name)) or any((ROOT / room / name).exists() for room in ROOMS)  # billing/cycle as cycle
    parts = name.split(".")
    for size in range(len(parts), 0, -1):
        place = ROOT.joinpath(*parts[:size])
        module = next(
            (place.with_suffix(f".{end}") for end in ("py", "pyx") if place.with_suffix(f".{end}").exists()), 0
        )
        if module:
            return size == len(parts) or bool(re.search(rf"\b{parts[size]}\b", module.read_text("utf-8")))
        if place.is_dir():
            inside = place / "__init__.py"
            said = inside.read_text("utf-8") if inside.exists() else ""
            return size == len(parts) or bool(re.search(rf"\b{parts[size]}\b", said))
    return False


def names_of_page(page: Path) -> Iterator[str]:
    text = page.read_text("utf-8")
    yield from paths_in(text, bare=False)
    for quoted in re.findall(r"`([^`\n]+)`", text):
        yield from DOTTED.findall(quoted)


def names_of_module(text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            said = ast.get_docstring(node) or ""
            yield from paths_in(said, bare=True)
            yield from DOTTED.findall(said)


def named() -> Iterator[tuple[str, str]]:
    """Who names what."""
    for page in [*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"]:
        yield from ((page.relative_to(ROOT).as_posix(), name) for name in names_of_page(page))
    for room in ROOMS:
        for module in sorted((ROOT / room).rglob("*.py")):
            told = names_of_module(module.read_text("utf-8"))
            yield from ((module.relative_to(ROOT).as_posix(), name) for name in told)


def test_what_pages_and_docstrings_name_is_there() -> None:
    names = list(named())
    assert len(names) > LEAST_NAMES
    assert [f"{where} names {name}" for where, name in names if not is_there(name)] == []


@pytest.mark.parametrize(
    "said",
    [
        "gateway/payments/decided.py",
        "`billing/cycle/tariffs.py`",
        "billing.usage.stores",
        "billing.usage.store.no_such_name",
        "`docs/nowhere.md`",
        "migrations/0000-nothing.sql",
    ],
)
def test_a_planted_name_of_nothing_is_seen(said: str, tmp_path: Path) -> None:
    assert [name for name in names_of_module(f'"""It is told in {said}."""') if not is_there(name)]
    page = tmp_path / "page.md"
    page.write_text(f"It is told in `{said.strip('`')}`, see there.\n")
    assert [name for name in names_of_page(page) if not is_there(name)]


@pytest.mark.parametrize("said", ["gateway/payments/decide.py", "billing.usage.store.UsageError", "billing.cycle"])
def test_a_name_of_something_is_none(said: str) -> None:
    assert [name for name in names_of_module(f'"""It is told in {said}."""') if is_there(name)]
