"""What store functions are lent: a cursor of aiopg, or a connection of ADBC. The caller owns the transaction.

Rules. A store asks for no more than this, so whatever opens the connection (a lane, a page, a command, a test) may lend
it. Rows come as tuples and are made records before they leave the store.

Does not know: how connections are opened (billing/database/adbc.py for columns).
"""

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, TypeAlias

#: What fills the places of a statement: by order, or by name.
Parameters: TypeAlias = "Sequence[Any] | Mapping[str, Any] | None"


class Cursor(Protocol):
    """A cursor of aiopg inside the caller's transaction, or on a connection that commits each statement by itself."""

    @property
    def rowcount(self) -> int:
        """Rows the last statement returned or changed."""
        ...

    @property
    def description(self) -> Any:
        """Columns of the last statement; each has a ``name``."""
        ...

    @property
    def connection(self) -> Any:
        """The connection it stands on, for callers that must close a broken one."""
        ...

    async def execute(self, operation: Any, parameters: Parameters = None) -> Any:
        """Run one statement."""
        ...

    async def fetchone(self) -> Any:
        """The next row as a tuple, or None."""
        ...

    async def fetchmany(self, size: int) -> list[Any]:
        """The next ``size`` rows, fewer at the end."""
        ...

    async def fetchall(self) -> list[Any]:
        """The rest of the rows."""
        ...

    def mogrify(self, operation: Any, parameters: Parameters = None) -> bytes:
        """The statement with its places filled, as it would be sent."""
        ...


class ColumnCursor(Protocol):
    """A cursor of ADBC: rows as tuples, or whole results as Arrow columns."""

    def __enter__(self) -> "ColumnCursor": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def execute(self, operation: str, parameters: Any = None) -> Any:
        """Run one statement."""
        ...

    def fetchone(self) -> Any:
        """The next row as a tuple, or None."""
        ...

    def fetchall(self) -> list[Any]:
        """The rest of the rows."""
        ...

    def fetch_arrow_table(self) -> Any:
        """The result as a pyarrow Table."""
        ...

    def fetch_record_batch(self) -> Any:
        """The result as a pyarrow RecordBatchReader."""
        ...

    def adbc_ingest(self, table_name: str, data: Any, mode: Any = "append", *, temporary: bool = False) -> int:
        """Append columns to a table by binary COPY; returns how many rows."""
        ...


class ColumnConnection(Protocol):
    """A connection of ADBC in one transaction at a time."""

    def cursor(self) -> ColumnCursor:
        """A cursor; close it, or use it in ``with``."""
        ...

    def commit(self) -> None:
        """Commit what was done since the last commit."""
        ...

    def rollback(self) -> None:
        """Undo what was done since the last commit."""
        ...

    def close(self) -> None:
        """Give the connection up; what was not committed is rolled back."""
        ...
