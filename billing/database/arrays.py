"""Columns of values as PostgreSQL array literals.

psycopg2 writes a list as ``ARRAY[...]`` with each element adapted and quoted by itself, and the server parses each one
as an expression. A literal is one string on both sides: at a hundred payments a batch, a third of the path's cost.

Does not know: tables.
"""

from collections.abc import Iterable

_SPECIAL = str.maketrans({"\\": "\\\\", '"': '\\"'})


def int_array(values: Iterable[int | None]) -> str:
    """Integers, or None for NULL.

    >>> int_array([1, None, -2])
    '{1,NULL,-2}'
    """
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def text_array(values: Iterable[str | None]) -> str:
    r"""Any text PostgreSQL takes (no NUL), or None for NULL.

    >>> text_array(["a", "", None, 'q"\\'])
    '{"a","",NULL,"q\\"\\\\"}'
    """
    return "{" + ",".join(["NULL" if value is None else f'"{_escaped(value)}"' for value in values]) + "}"


def _escaped(value: str) -> str:
    return value.translate(_SPECIAL) if '"' in value or "\\" in value else value
