"""Columns: the array types that kernels take, and the checks every kernel's Python face makes.

Rules. A kernel is handed C-contiguous arrays of exactly its dtype and of equal length; a face makes them so with
``column`` and refuses what would lose a value on the way (a float, a number beyond the type). Nothing is clipped.

Does not know: what a column means.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]
Indices = NDArray[np.int32]
Bytes = NDArray[np.uint8]
Codes = NDArray[np.int8]


def column(name: str, values: ArrayLike, dtype: DTypeLike, length: int | None = None) -> NDArray[Any]:
    """``values`` as a contiguous one-dimensional array of ``dtype``; the same array where it is one already.

    Raises:
        TypeError: values that are not integers.
        ValueError: not one-dimensional, of another length than ``length``, or beyond the range of ``dtype``.
    """
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name}: a column has one dimension, not {array.ndim}")
    if length is not None and array.shape[0] != length:
        raise ValueError(f"{name}: {array.shape[0]} values, expected {length}")
    target = np.dtype(dtype)
    if array.dtype == target:
        return np.ascontiguousarray(array)
    if array.size == 0:
        return np.zeros(0, target)
    if array.dtype.kind not in "iub":
        raise TypeError(f"{name}: integers expected, not {array.dtype}")
    bounds = np.iinfo(target)
    if int(array.min()) < bounds.min or int(array.max()) > bounds.max:
        raise ValueError(f"{name}: a value outside {bounds.min} to {bounds.max}")
    return np.ascontiguousarray(array.astype(target))


def require_range(name: str, array: NDArray[Any], low: int, high: int) -> None:
    """Refuse a column with a value outside ``low`` to ``high``, both included, naming the first such row.

    Raises:
        ValueError: there is one.
    """
    if array.size and (int(array.min()) < low or int(array.max()) > high):
        row = int(np.flatnonzero((array < low) | (array > high))[0])
        raise ValueError(f"{name}: row {row} is {int(array[row])}, outside {low} to {high}")
