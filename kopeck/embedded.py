"""Where the databases are: the external ones that settings name, or embedded servers of this machine.

Rules. One process holds the lock of the data folder and with it the embedded servers; the kernel drops the lock when
that process dies, however it dies. Everyone else of this machine attaches to the servers by the addresses recorded in
``embedded.json`` (readable by the owner alone). A command that finds nobody running starts the servers for itself
and stops them again.

Does not know: migrations, demo data, what runs on the databases.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec
import structlog

from kopeck.embedded_journal import JournalServer
from kopeck.embedded_postgres import APP, OWNER, EmbeddedError, Postgres, write_private
from kopeck.settings import Settings

_ATTACH_TIMEOUT_S = 30.0

log = structlog.get_logger("kopeck.embedded")


class Stores(msgspec.Struct, frozen=True):
    """Addresses of both databases. owner_dsn is empty where only the operator knows it.

    started_here: this command started the servers for itself, so nothing else of ours runs on them.
    """

    dsn: str
    owner_dsn: str
    journal_uri: str
    journal_database: str
    started_here: bool = False


class Servers(msgspec.Struct, frozen=True):
    """Embedded servers this process is the parent of; None where the database is external or somebody else's."""

    postgres: Postgres | None = None
    journal: JournalServer | None = None


@contextmanager
def open_stores(settings: Settings, *, may_make: bool = False) -> Iterator[Stores]:
    """The databases for one command: attach to running embedded servers, else start them for its duration.

    Args:
        may_make: whether there may be no embedded databases yet, and the command makes them.

    Raises:
        EmbeddedError: there are none; a command given in another folder would begin with empty ones.
    """
    if not needs_embedded(settings):
        yield _external(settings)
        return
    folder = settings.data_path()
    must_exist = not may_make and not settings.database.dsn  # a journal alone is made again from PostgreSQL
    if must_exist and not folder.exists():
        raise EmbeddedError(_nothing_in(folder))
    lock = _take_lock(folder)
    if lock is None:
        yield attach(settings)
        return
    if must_exist and not (folder / "postgres" / "data").exists():
        lock.close()
        raise EmbeddedError(_nothing_in(folder))
    with lock, _serve(settings) as (stores, _):
        yield msgspec.structs.replace(stores, started_here=True)


def _nothing_in(folder: Path) -> str:
    return (
        f"there are no databases in {folder}: `kopeck run` makes them there; those of another folder are found by "
        "running this command in it, or by KOPECK_DATA_DIR"
    )


@contextmanager
def host_stores(settings: Settings) -> Iterator[tuple[Stores, Servers]]:
    """The databases for `kopeck run`, which is the parent of the embedded servers.

    Raises:
        EmbeddedError: another process already hosts the servers of this folder.
    """
    if not needs_embedded(settings):
        yield _external(settings), Servers()
        return
    lock = _take_lock(settings.data_path())
    if lock is None:
        raise EmbeddedError(f"another kopeck is running on {settings.data_path()}: stop it, or choose another data_dir")
    with lock, _serve(settings) as served:
        yield served


def attach(settings: Settings) -> Stores:
    """Addresses of servers that run already, embedded by another process or external.

    Raises:
        EmbeddedError: nobody hosts the embedded servers.
    """
    if not needs_embedded(settings):
        return _external(settings)
    if not settings.data_path().exists():
        raise EmbeddedError(_nothing_in(settings.data_path()))
    record = _record_path(settings.data_path())
    deadline = time.monotonic() + _ATTACH_TIMEOUT_S
    while not record.exists():  # the host records the addresses once its servers are ready
        lock = _take_lock(settings.data_path())
        if lock is not None:
            lock.close()
            raise EmbeddedError(
                f"no embedded databases are running in {settings.data_path()}: "
                "start `kopeck run` first, or name external databases in the settings"
            )
        if time.monotonic() > deadline:
            raise EmbeddedError(f"the embedded databases of {settings.data_path()} did not become ready")
        time.sleep(0.1)
    return msgspec.json.decode(record.read_bytes(), type=Stores)


def needs_embedded(settings: Settings) -> bool:
    return not settings.database.dsn or settings.journal.is_embedded


def _external(settings: Settings) -> Stores:
    return Stores(settings.database.dsn, settings.database.owner_dsn, settings.journal.uri, settings.journal.database)


@contextmanager
def _serve(settings: Settings) -> Iterator[tuple[Stores, Servers]]:
    folder = settings.data_path()
    record = _record_path(folder)
    record.unlink(missing_ok=True)
    stores = _external(settings)
    postgres = None if settings.database.dsn else Postgres(folder / "postgres")
    journal = JournalServer(folder / "journal") if settings.journal.is_embedded else None
    try:
        if journal is not None:
            journal.launch()
        if postgres is not None:
            postgres.start()
            stores = msgspec.structs.replace(stores, dsn=postgres.dsn(APP), owner_dsn=postgres.dsn(OWNER))
        if journal is not None:
            journal.wait_until_ready()
            stores = msgspec.structs.replace(stores, journal_uri=journal.uri)
        write_private(record, json.dumps(msgspec.to_builtins(stores), indent=1))
        yield stores, Servers(postgres, journal)
    finally:
        record.unlink(missing_ok=True)
        if journal is not None:
            journal.stop()
        if postgres is not None:
            postgres.stop()


def _record_path(folder: Path) -> Path:
    return folder / "embedded.json"


def _take_lock(folder: Path) -> IO[bytes] | None:
    """The folder's lock as an open file, or None while another process holds it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.fdopen(os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600), "r+b")
    except OSError as error:
        raise EmbeddedError(f"cannot use {folder}: {error.strerror}; whose folder is it?") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
