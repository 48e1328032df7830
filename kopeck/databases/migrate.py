"""Brings a database to the schema this program needs: numbered SQL files of ``migrations/`` through yoyo.

Rules. The owner runs them, never the program's role. One at a time per database: a session's advisory lock, which
dies with its session (yoyo's own lock is a table row that survives a kill, so it is cleared once we hold ours). A
file is sent whole, as PostgreSQL alone knows where a statement ends inside ``$$``; the file and its mark commit
together, so a kill leaves either both or neither.

Does not know: what the migrations do.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import psycopg2
import yoyo
from yoyo.backends.core.postgresql import PostgresqlBackend
from yoyo.connections import parse_uri
from yoyo.migrations import Migration, StepCollector

from billing.database.session import IDLE_COMMAND_S, session_dsn
from billing.refusals import Unavailable

#: pg_advisory_lock key: "kopeck" as a number, so that it is found in pg_locks by whoever looks.
ADVISORY_LOCK = int.from_bytes(b"kopeck", "big")


class MigrateError(Unavailable):
    """The database could not be brought up to date; the message is for the operator."""


class DatabaseUnreachable(MigrateError):
    """Nobody answers, or the answer is no; a later attempt may do better."""


@dataclass(frozen=True, slots=True)
class Status:
    """applied, pending: ids in order. unknown: applied by a newer program than this one."""

    applied: tuple[str, ...]
    pending: tuple[str, ...]
    unknown: tuple[str, ...]


def migrate(owner_dsn: str) -> tuple[str, ...]:
    """Apply what is pending; return the ids that were applied now.

    Raises:
        MigrateError: no connection, the wrong role, or a migration failed (it then left no trace).
    """
    applied: list[str] = []
    try:
        with _backend(owner_dsn) as backend:
            done = set(backend.get_applied_migration_hashes())
            for migration in (one for one in _migrations() if one.hash not in done):
                _apply(backend, migration)
                applied.append(str(migration.id))
            backend.execute("GRANT SELECT ON _yoyo_migration TO kopeck_app")
    except psycopg2.Error as error:
        raise MigrateError(f"cannot migrate with this role: {error}".strip()) from error
    return tuple(applied)


def _apply(backend: "_Backend", migration: Migration) -> None:
    try:
        backend.apply_one(migration)
    except psycopg2.Error as error:
        raise MigrateError(f"migration {migration.id} failed, nothing of it was kept: {error}".strip()) from error


def status(owner_dsn: str) -> Status:
    """What is applied and what is pending. Raises MigrateError when there is no connection."""
    ours = [str(migration.id) for migration in _migrations()]
    applied = _applied(owner_dsn)
    return Status(
        tuple(name for name in ours if name in applied),
        tuple(name for name in ours if name not in applied),
        tuple(sorted(applied - set(ours))),
    )


def require_current(dsn: str) -> None:
    """For a process about to serve: refuse a schema older than the program. Any role may ask.

    Raises:
        MigrateError: migrations are pending; DatabaseUnreachable: no connection.
    """
    pending = status(dsn).pending
    if pending:
        raise MigrateError(f"the database lacks {len(pending)} migration(s), first {pending[0]}: run `kopeck migrate`")


def _applied(dsn: str) -> set[str]:
    with closing(_connect(dsn)) as connection, connection.cursor() as cur:
        cur.execute("SELECT to_regclass('_yoyo_migration') IS NOT NULL")
        if not cur.fetchone()[0]:
            return set()
        cur.execute("SELECT migration_id FROM _yoyo_migration")
        return {row[0] for row in cur.fetchall()}


def _session(dsn: str) -> str:
    return session_dsn(dsn, name="kopeck-migrate", idle_transaction_s=IDLE_COMMAND_S)


def _connect(dsn: str) -> Any:
    try:
        return psycopg2.connect(_session(dsn))
    except psycopg2.Error as error:
        raise DatabaseUnreachable(f"cannot connect to the database: {error}".strip()) from error


@contextmanager
def _backend(dsn: str) -> Iterator["_Backend"]:
    with closing(_connect(dsn)) as guard:
        guard.autocommit = True
        with guard.cursor() as cur:
            cur.execute("SELECT pg_advisory_lock(%s)", (ADVISORY_LOCK,))
        with _Backend(dsn) as backend:
            backend.init_database()
            backend.break_lock()
            yield backend


class _Backend(PostgresqlBackend):  # type: ignore[misc]
    """yoyo's backend that takes any libpq connection string and applies a migration and its mark in one commit."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        super().__init__(parse_uri("postgresql:///"), yoyo.default_migration_table)

    def connect(self, dburi: Any) -> Any:
        connection = psycopg2.connect(_session(self._dsn))
        connection.autocommit = True
        return connection

    def apply_one(self, migration: Migration, force: bool = False, mark: bool = True) -> None:
        self.ensure_internal_schema_updated()
        with self.transaction():
            migration.process_steps(self, "apply", force=force)
            self.mark_one(migration)


class _WholeFile(Migration):  # type: ignore[misc]
    """A migration whose single step is its file. Files apply in the order of their numbers and no other."""

    def load(self) -> None:
        if self.loaded:
            return
        self.source = Path(self.path).read_text("utf-8")
        collector = StepCollector(migration=self)
        collector.add_step(self.source)
        self.steps = collector.create_steps(self.use_transactions)


def _migrations() -> list[Migration]:
    folder = Path(str(files("migrations")))
    found = sorted(folder.glob("*.sql"))
    if not found:
        raise MigrateError(f"no migrations in {folder}: the installation is incomplete")
    return [_WholeFile(path.stem, str(path), source_dir=str(folder)) for path in found]
