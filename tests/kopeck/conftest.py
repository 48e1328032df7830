"""The ``kopeck`` command, called in this process against a fresh database."""

import io
import logging
import sys
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from kopeck.cli import main


class Said(NamedTuple):
    """What a command answered."""

    status: int
    out: str
    err: str


@pytest.fixture
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def kopeck(database, journal_uri, journal_name, monkeypatch, capsys, restored_logging) -> Callable[..., Said]:
    monkeypatch.setenv("KOPECK_DATABASE__DSN", database.dsn)
    monkeypatch.setenv("KOPECK_DATABASE__OWNER_DSN", database.owner_dsn)
    monkeypatch.setenv("KOPECK_JOURNAL__URI", journal_uri)
    monkeypatch.setenv("KOPECK_JOURNAL__DATABASE", journal_name)

    def run(*arguments: str, stdin: str | bytes = "") -> Said:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), "utf-8"))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return Said(int(ended.value.code or 0), said.out, said.err)

    return run
