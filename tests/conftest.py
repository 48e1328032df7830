"""Fixtures every room's tests share: real servers, started once a session, and a fresh database a test.

``pg``            the embedded PostgreSQL cluster of this session, with a migrated template database
``database``      a fresh migrated database: ``.dsn`` (the program's role), ``.owner_dsn``, ``.name``
``journal_uri``   the embedded journal server of this session
``journal_name``  the name of a database in it that no other test uses

Async tests call ``asyncio.run`` themselves. Servers live under the system's temporary folder and are not durable
(fsync off): a killed process is survived, a power cut is not.
"""

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg2
import pytest
from psycopg2 import sql

from kopeck.embedded_journal import JournalServer
from kopeck.embedded_postgres import APP, DATABASE, OWNER, SUPERUSER, Postgres
from kopeck.migrate import migrate

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class TestDatabase:
    """One test's database. admin_dsn: the superuser in it, for tests that corrupt rows."""

    __test__ = False

    name: str
    dsn: str
    owner_dsn: str
    admin_dsn: str


@pytest.fixture(scope="session")
def server_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="kopeck-"))  # not pytest's own: its parents are closed to other users
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
                sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(
                    sql.Identifier(name), sql.Identifier(DATABASE), sql.Identifier(OWNER)
                )
            )
            yield TestDatabase(name, pg.dsn(APP, name), pg.dsn(OWNER, name), pg.dsn(SUPERUSER, name))
            cur.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def journal_server(server_folder: Path) -> Iterator[JournalServer]:
    server = JournalServer(server_folder / "journal", cache_size="128M")
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def journal_uri(journal_server: JournalServer) -> str:
    return journal_server.uri


@pytest.fixture
def journal_name() -> str:
    return f"test_{next(_numbers)}"
