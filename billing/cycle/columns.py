"""Columns of Arrow as arrays of NumPy, and back: what reading and writing a shard share.

Rules. Instants are UTC seconds in arrays and microseconds in the database. A row without a value stands for what the
caller says, or is refused.

Does not know: tables of the database.
"""

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from billing.charging.records import (
    NONE,
)
from billing.database.link import CycleStoreError
from ratingcore.arrays import Ints

MICROSECONDS: Final = 1_000_000
UTC_INSTANT: Final = pa.timestamp("us", "UTC")


def ints(table: pa.Table, name: str, missing: int | None = None) -> Ints:
    """A column of integers or instants (microseconds) as int64; ``missing`` stands for NULL."""
    found = table[name].combine_chunks()
    found = found.cast(pa.int64()) if found.type != pa.int64() else found
    if found.null_count:
        if missing is None:
            raise CycleStoreError(f"column {name} has a row without a value")
        found = pc.fill_null(found, missing)
    return np.asarray(found)


def seconds(table: pa.Table, name: str, missing: int | None = None) -> Ints:
    """A column of instants as UTC seconds; ``missing`` stands for NULL."""
    column = table[name]
    seconds = np.floor_divide(ints(table, name, 0), MICROSECONDS)
    if not column.null_count:
        return seconds
    if missing is None:
        raise CycleStoreError(f"column {name} has a row without a value")
    is_null = np.asarray(column.combine_chunks().is_null().cast(pa.uint8())).astype(bool)
    return np.where(is_null, missing, seconds)


def bytes_in(table: pa.Table, name: str) -> Any:
    return np.asarray(table[name].combine_chunks().cast(pa.uint8()))


def dictionary_in(table: pa.Table, name: str) -> tuple[Any, tuple[str, ...]]:
    """A column of text as codes (int32) and words; NULL is code -1."""
    found = table[name].combine_chunks().dictionary_encode()
    codes = np.asarray(pc.fill_null(found.indices, -1)).astype(np.int32)
    return codes, tuple(found.dictionary.to_pylist())


def words_of(words: tuple[str, ...], codes: Any) -> pa.Array:
    return pa.array(words, pa.string()).take(pa.array(codes))


def values_at(values: Ints, places: Ints) -> pa.Array:
    """values[places], NULL where a place is NONE."""
    missing = places == NONE
    if not len(values):
        return pa.nulls(len(places), pa.int64())
    return pa.array(values[np.where(missing, 0, places)], mask=missing)


def instants_of(seconds: Ints) -> pa.Array:
    return pa.array(seconds * MICROSECONDS).view(UTC_INSTANT)
