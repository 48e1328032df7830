"""Columns of values that a statement reads as rows: names and types are told once, for SQL and for the values.

Rules. A column travels as one array literal (billing.database.arrays). Its parameter is the alias and its name, so
columns stand beside other parameters of a statement.

Does not know: tables.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from billing.database.arrays import int_array, text_array

_LITERALS: Final[Mapping[str, Callable[[Iterable[Any]], str]]] = {
    "bigint": int_array,
    "int": int_array,
    "text": text_array,
}


@dataclass(frozen=True, slots=True)
class Unnested:
    """Columns by name with their types ('bigint', 'int' or 'text'). number: a column that counts the rows from 1.

    >>> people = Unnested("p", {"id": "bigint", "name": "text"})
    >>> people.source
    'unnest(%(p_id)s::bigint[], %(p_name)s::text[]) AS p (id, name)'
    >>> people.values([(1, "ann"), (None, "ben")])
    {'p_id': '{1,NULL}', 'p_name': '{"ann","ben"}'}
    """

    alias: str
    types: Mapping[str, str]
    number: str = ""

    @property
    def source(self) -> str:
        """What stands after FROM."""
        arrays = ", ".join(f"%({self.alias}_{name})s::{kind}[]" for name, kind in self.types.items())
        names = ", ".join([*self.types, self.number] if self.number else self.types)
        return f"unnest({arrays}){' WITH ORDINALITY' if self.number else ''} AS {self.alias} ({names})"

    def values(self, rows: Iterable[Sequence[Any]]) -> dict[str, str]:
        """Parameters of rows, each with its values in the order of the columns. ValueError: too few or too many."""
        columns: list[list[Any]] = [[] for _ in self.types]
        for row in rows:
            for column, value in zip(columns, row, strict=True):
                column.append(value)
        return {
            f"{self.alias}_{name}": _LITERALS[kind](column)
            for (name, kind), column in zip(self.types.items(), columns, strict=True)
        }
