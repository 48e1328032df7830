"""Rows by name: what a statement calls its columns is what a record calls its fields, in any order.

Rules. A column that no field takes, a field that no column fills and two columns of one name are errors at the first
row, so a statement and its record cannot drift apart in silence.

Does not know: statements, records.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from billing.database.cursors import Cursor

R = TypeVar("R")


async def named_rows(cur: Cursor) -> list[dict[str, Any]]:
    """All rows of the last statement, each as values by column name.

    Raises:
        ValueError: two columns have one name.
    """
    names = [column.name for column in cur.description]
    if len(set(names)) < len(names):
        raise ValueError(f"two columns have one name: {', '.join(names)}")
    return [dict(zip(names, row, strict=True)) for row in await cur.fetchall()]


async def records(cur: Cursor, record: type[R]) -> list[R]:
    """All rows of the last statement as records of a data class whose fields are its columns.

    Raises:
        TypeError: a column is no field, or a field no column.
    """
    return [record(**row) for row in await named_rows(cur)]


async def first_record(cur: Cursor, record: type[R]) -> R | None:
    """The first row of the last statement as a record, or None."""
    found = await records(cur, record)
    return found[0] if found else None


def part_of(row: Mapping[str, Any], record: type[R]) -> R:
    """The record of a data class whose fields are among the columns of a row. KeyError: one is not."""
    return record(**{field.name: row[field.name] for field in fields(record)})  # type: ignore[arg-type]
