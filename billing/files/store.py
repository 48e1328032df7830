"""Temporary tables of a load: rows of a file are staged, judged by the database, and those that are bad set aside.

Rules. The tables live in the transaction of the load. A line set aside with a reason is bad; one without a reason is
harmless, such as a repeat. The caller names the tables, from constants of its own, never from a file.

Does not know: what the rows mean, when a load is refused (billing.files.tables).
"""

from typing import Final

import pyarrow as pa

from billing.database.adbc import do, rows
from billing.database.cursors import ColumnConnection

#: No loops: the planner knows nothing of tables that the file itself fills, and would look each line up among all.
SESSION: Final = ("SET LOCAL work_mem = '128MB'", "SET LOCAL enable_nestloop = off", "SET LOCAL jit = off")

#: Rows that a load will not take, told from inside the database.
BAD_TABLE: Final = "CREATE TEMPORARY TABLE import_bad (line bigint, reason text) ON COMMIT DROP"

_BAD: Final = "SELECT line, reason FROM import_bad ORDER BY line"


def stage(opened: ColumnConnection, table: str, data: pa.Table) -> None:
    """Append rows to a temporary table by binary COPY."""
    if data.num_rows:
        with opened.cursor() as cur:
            cur.adbc_ingest(table, data, mode="append", temporary=True)


def set_aside(opened: ColumnConnection, table: str, lines: str) -> None:
    """Take lines out of a staging table; ``lines`` selects (line, reason) of them, a null reason for harmless ones."""
    do(opened, f"INSERT INTO import_bad {lines}")
    do(opened, f"DELETE FROM {table} s USING import_bad b WHERE b.line = s.line")


def bad_lines(opened: ColumnConnection) -> tuple[list[tuple[int, str]], int]:
    """((line, reason) of lines set aside with a reason, how many without one)."""
    lines = rows(opened, _BAD)
    return [(line, reason) for line, reason in lines if reason], sum(reason is None for _, reason in lines)


def count_rows(opened: ColumnConnection, table: str) -> int:
    """How many rows a temporary table has."""
    return int(rows(opened, f"SELECT count(*) FROM {table}")[0][0])
