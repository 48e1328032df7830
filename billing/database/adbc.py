"""ADBC: how connections for columns are opened, what statements are run by, and how its failures read.

Rules. The driver is imported here and nowhere else. Sessions are those of `billing.database.session`. ADBC is strict
about types: what is bound is int64, text, or cast in the statement. It reads by binary COPY only where a statement has
no parameters, so such statements are filled with integers, and with nothing else.

Does not know: statements.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import adbc_driver_manager
import pyarrow as pa
from adbc_driver_postgresql import dbapi

from billing.database.cursors import ColumnConnection
from billing.database.session import IDLE_IMPORT_S, session_dsn
from billing.refusals import Unavailable


class ImportStoreError(Unavailable):
    """The database did not take a file, and nothing of the file is kept. The message is for people."""


def connect(dsn: str, *, name: str, idle_transaction_s: float) -> Any:
    """An ADBC connection of the DB-API kind, in a transaction that the caller commits.

    Raises:
        adbc_driver_manager.Error: no connection.
    """
    return dbapi.connect(session_dsn(dsn, name=name, idle_transaction_s=idle_transaction_s))


@contextmanager
def import_connection(dsn: str) -> Iterator[Any]:
    """A connection for loading a file; it rolls back what was not committed.

    Raises:
        ImportStoreError: no connection, or the database refused a statement inside the block.
    """
    try:
        with connect(dsn, name="kopeck-import", idle_transaction_s=IDLE_IMPORT_S) as opened:
            yield opened
    except adbc_driver_manager.Error as error:
        raise ImportStoreError(f"the database refused: {sentence_of(error)}") from error


def sentence_of(error: Exception) -> str:
    """The database's sentence without the driver's words around it, in one line."""
    text = str(error).strip()
    for start in ("ERROR:", "FATAL:", "PANIC:", "connection to server", "Failed to connect"):
        if start in text:
            text = text[text.index(start) :]
            break
    lines = itertools.takewhile(lambda line: not line.startswith(("LINE ", "Query was")), text.splitlines())
    return " ".join(" ".join(lines).split())[:500]


def do(opened: ColumnConnection, statement: str, parameters: Sequence[Any] = ()) -> None:
    """Execute a statement without a result."""
    with opened.cursor() as cur:
        cur.execute(statement, tuple(parameters) or None)


def rows(opened: ColumnConnection, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """The few rows of a statement as tuples."""
    with opened.cursor() as cur:
        cur.execute(statement, tuple(parameters) or None)
        return list(cur.fetchall())


def columns(opened: ColumnConnection, statement: str) -> pa.Table:
    """The many rows of a statement as columns of one chunk each: by binary COPY, and therefore without parameters."""
    with opened.cursor() as cur:
        cur.execute(statement)
        return cur.fetch_arrow_table().combine_chunks()


def ingest(opened: ColumnConnection, table: str, data: pa.Table, *, temporary: bool = False) -> None:
    """Append rows to a table by binary COPY. Columns that are not named get their defaults."""
    if data.num_rows:
        with opened.cursor() as cur:
            cur.adbc_ingest(table, data, mode="append", temporary=temporary)
