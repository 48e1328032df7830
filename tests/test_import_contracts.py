"""The contracts about imports look at something, and see a breach."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
LINT = str(Path(sys.executable).parent / "lint-imports")


def _linted(folder: Path) -> tuple[int, str]:
    done = subprocess.run([LINT, "--no-cache", "--no-logo"], cwd=folder, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def copy(tmp_path) -> Path:
    """The rooms' Python files alone, so that a breach can be planted."""
    for room in SETTINGS["root_packages"]:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__", "*.so", "static"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_every_room_is_examined_and_every_contract_kept(copy) -> None:
    status, said = _linted(copy)
    assert status == 0, said
    files, dependencies = (int(number) for number in re.search(r"Analyzed (\d+) files, (\d+) dep", said).groups())
    ours = sum(1 for room in SETTINGS["root_packages"] for _ in (copy / room).rglob("*.py"))
    assert files >= ours > 50
    assert dependencies > 100
    assert f"{len(SETTINGS['contracts'])} kept, 0 broken" in said


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("ratingcore/money.py", "import adapters.messages", "imports point down"),
        ("billing/ledger/accounts.py", "import gateway.payments.states", "imports point down"),
        ("gateway/payments/states.py", "import web.access.users", "imports point down"),
        ("adapters/osmp.py", "import socket", "do no input or output"),
        ("loadtests/__init__.py", "import billing.ledger.transfers", "loadtests import no store"),
        ("web/access/users.py", "import motor", "one file knows MongoDB"),
        ("gateway/payments/store.py", "import aiopg", "one file each opens connections"),
        ("billing/orders/rules.py", "import billing.cycle.plan", "billing: imports point down its layers"),
        ("billing/ledger/accounts.py", "import billing.usage.values", "billing: imports point down its layers"),
        ("billing/database/link.py", "import adbc_driver_postgresql", "one file each opens connections"),
    ],
)
def test_a_planted_breach_is_seen(copy, file, line, contract) -> None:
    with (copy / file).open("a", encoding="utf-8") as breached:
        breached.write(f"\n{line}\n")
    status, said = _linted(copy)
    assert status == 1
    assert re.search(rf"{contract}.* BROKEN", said), said
