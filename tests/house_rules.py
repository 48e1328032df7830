"""Rules of the house that linters do not know: `make check` runs ``python -m tests.house_rules``.

Rules. One idea, one word: a class name stands once in a room. SQL stands in stores only. A folder holds few files, a
file tells one story. Every package has tests of its own. A guard that examined nothing fails. Each exception stands
below with its reason, and one that is no longer needed is a finding too.

Does not know: imports between rooms and layers (import-linter, pyproject.toml).
"""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

ROOMS: Final = ("adapters", "billing", "gateway", "kopeck", "ratingcore", "web")
MAX_FILES: Final = 16
MAX_LINES: Final = 500
#: A module longer than that says why in a paragraph of its docstring that begins so.
LONG: Final = "Long because"
#: Fewer modules than this, and the guard looked at the wrong place.
LEAST_MODULES: Final = 100

#: A module that holds SQL by its name: a store reads and writes rows for the package it stands in. A package with
#: several has them by what they store: load_store, import_store.
STORE: Final = re.compile(r"(\w+_)?store")
#: Packages whose whole purpose is SQL.
SQL_PACKAGES: Final = {
    "billing/verification": "a check is a statement and the sentence about what it finds",
    "billing/database": "the edge itself: sessions, locks, temporary tables",
    "gateway/verification": "a check is a statement and the sentence about what it finds",
    "kopeck/databases": "the edge itself: roles, migrations, transactions of commands",
    "web/access": "users, sessions, tries and the audit record are rows and little else",
}
#: Other modules that hold SQL, each with its reason.
SQL_MODULES: Final[Mapping[str, str]] = {
    "gateway/journal/totals.py": "counting is the statement: each row is in one of two tables, and all read both",
    "gateway/payments/fence_store.py": "the store of fences: their locks and sessions are none of a batch's",
    "billing/cycle/plan.py": "planning is one transaction: its statements in their order are the plan",
    "billing/cycle/posting.py": "what a shard posts and in which order its rows are locked is told by the statements",
    "billing/cycle/summary.py": "a summary is its sums, and the sums are statements",
    "billing/cycle/abandon.py": "one statement, and the rule of which runs may be given up is in it",
    "billing/cycle/run.py": "one statement: which run is resumed",
    "billing/invoicing/dunning.py": "which steps are due is one statement over debts, delays and what happened before: "
    "its rules are those statements, numbered at its head",
}

#: Tables that one package stores, and the packages whose statements may read them; all others read the view's name.
STORED: Final[Mapping[str, str]] = {
    "invoice_lines": "billed_lines",
    "transfers": "posted_transfers",
    "order_periods": "recorded_periods",
}
STORING: Final = ("billing/charging", "billing/cycle", "billing/ledger", "billing/verification", "gateway/verification")

#: Names that every module of a package has, because another module takes any of them through one interface.
INTERFACES: Final = {("adapters", "Dialect"): "adapters.protocols takes any dialect's module"}

_STATEMENT: Final = re.compile(
    r"\s*(SELECT\s|INSERT\s+INTO\s|UPDATE\s+\w+\s+(AS\s|SET\s|\w+\s+SET\s)|DELETE\s+FROM\s|WITH\s+(RECURSIVE\s+)?\w+\s+(AS|\()"
    r"|CREATE\s+(TEMP|TABLE|INDEX)|TRUNCATE\s|LOCK\s+TABLE|SET\s+(LOCAL|timezone)|COPY\s+\w+)"
)
_READ: Final = re.compile(rf"\b(?:FROM|JOIN)\s+(?:ONLY\s+)?({'|'.join(STORED)})\b")


class Module(NamedTuple):
    """A file of code. path: with slashes, from the root."""

    path: str
    text: str

    @property
    def room(self) -> str:
        return self.path.partition("/")[0]

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2].rpartition(".")[0]


def modules_of(root: Path) -> list[Module]:
    """Every file of code in the rooms."""
    paths = [path for room in ROOMS for ending in ("py", "pyx") for path in (root / room).rglob(f"*.{ending}")]
    return [Module(path.relative_to(root).as_posix(), path.read_text("utf-8")) for path in sorted(paths)]


def twin_classes(modules: Iterable[Module]) -> Iterator[str]:
    """Classes of one name in one room."""
    homes: dict[tuple[str, str], list[str]] = defaultdict(list)
    for module in modules:
        if module.path.endswith(".py"):
            for node in ast.parse(module.text).body:
                if isinstance(node, ast.ClassDef):
                    homes[module.room, node.name].append(module.path)
    for (room, name), paths in sorted(homes.items()):
        if len(paths) > 1 and (room, name) not in INTERFACES:
            yield f"class {name} stands {len(paths)} times in {room}: {', '.join(paths)}"


def sql_outside_stores(modules: Iterable[Module]) -> Iterator[str]:
    """Statements in modules that are no stores, and exceptions that need none."""
    seen = set()
    for module in modules:
        if not module.path.endswith(".py"):
            continue
        has_sql = [line for line, text in _strings(ast.parse(module.text)) if _STATEMENT.match(text)]
        if has_sql and module.path in SQL_MODULES:
            seen.add(module.path)
        elif has_sql and not STORE.fullmatch(module.name) and module.folder not in SQL_PACKAGES:
            yield f"{module.path}:{has_sql[0]}: SQL outside a store; move it to {module.folder}/store.py or *_store.py"
    for path in sorted(set(SQL_MODULES) - seen):
        yield f"{path} is an exception for SQL and holds none"


def reads_past_views(modules: Iterable[Module]) -> Iterator[str]:
    """Statements that read another package's tables instead of the views named for them."""
    for module in modules:
        if module.folder in STORING or not module.path.endswith(".py"):
            continue
        for line, text in _strings(ast.parse(module.text)):
            for table in _READ.findall(text):
                yield f"{module.path}:{line}: reads table {table}; read the view {STORED[table]}"


def _strings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def full_folders(modules: Iterable[Module]) -> Iterator[str]:
    """Folders of too many files."""
    counts: dict[str, int] = defaultdict(int)
    for module in modules:
        counts[module.folder] += module.name != "__init__"
    yield from (
        f"{folder} holds {n} files of code, {MAX_FILES} at most" for folder, n in counts.items() if n > MAX_FILES
    )


def long_files(modules: Iterable[Module]) -> Iterator[str]:
    """Files that tell more than one story, or do not say why they are long."""
    for module in modules:
        lines = len(module.text.splitlines())
        if lines > MAX_LINES and not re.search(rf"^(# )?{LONG} ", module.text, re.MULTILINE):
            yield f"{module.path} has {lines} lines, more than {MAX_LINES}, and no '{LONG} ...' at its head"


def untested_packages(modules: Iterable[Module], root: Path) -> Iterator[str]:
    """Packages without tests in the folder of the same name."""
    folders = {module.folder for module in modules if module.name != "__init__"}
    for folder in sorted(folders):
        tests = root / "tests" / folder
        if not any(tests.rglob("test_*.py")):
            yield f"{folder} has no tests in tests/{folder}"


def findings(root: Path) -> list[str]:
    """Everything that is against a rule, a sentence each."""
    modules = modules_of(root)
    found = [
        *twin_classes(modules),
        *sql_outside_stores(modules),
        *reads_past_views(modules),
        *full_folders(modules),
        *long_files(modules),
    ]
    found += untested_packages(modules, root)
    if len(modules) < LEAST_MODULES:
        found.append(f"only {len(modules)} modules were examined: the guard looks at the wrong place")
    return found


def main() -> int:
    """Print what was found; 1 where anything was."""
    root = Path(__file__).resolve().parents[1]
    found = findings(root)
    print(*found, sep="\n") if found else print(f"house rules: {len(modules_of(root))} modules, all in order")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
