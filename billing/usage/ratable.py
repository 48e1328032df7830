"""What billing could rate of an event: whole steps of its item, and a number called that some price has a rate for.

Rules. Only what no price of any catalogue in force could take is refused: where several catalogues have an item, the
finest steps count, and the rates of all its prices; an item with a price that looks up no number, or only in some bands
of a calendar, has no rate missing. A destination is a number of digits whatever the price.

Does not know: whose event it is, when it happened, prices of the past.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from billing.catalogue.model import Catalogue
from ratingcore import tariff as core
from ratingcore.arrays import Ints, Words
from ratingcore.digits import KEY_DIGITS, MAX_NUMBER_CHARS, pack_number, pack_numbers

Flags = NDArray[np.bool_]

_MICRO_DECIMALS: Final = 6
_KEY_BITS: Final = 64
_DIGIT_BITS: Final = 4


@dataclass(frozen=True, slots=True)
class Ratable:
    """What items take. divisors: millionths of the unit in a step. rates: ascending (first, last) keys of the numbers
    that have a rate, two arrays, by item; an item that needs none is not among them."""

    divisors: Mapping[str, int] = field(default_factory=dict)
    rates: Mapping[str, tuple[Words, Words]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unratable:
    """Rows that nothing could rate. no_number, no_rate: of their destination."""

    broken_step: Flags
    no_number: Flags
    no_rate: Flags


def ratable_under(catalogues: Iterable[Catalogue]) -> Ratable:
    """What the items of these catalogues take together."""
    every = list(catalogues)
    divisors: dict[str, int] = {}
    for catalogue in every:
        for item in catalogue.items.values():
            if not item.percentage_of:
                divisor = 10 ** (_MICRO_DECIMALS - item.unit.decimals)
                divisors[item.number] = min(divisor, divisors.get(item.number, divisor))
    prefixes = {item: _prefixes(every, item) for item in divisors}
    return Ratable(divisors, {item: _ranges(found) for item, found in prefixes.items() if found is not None})


def _prefixes(catalogues: Iterable[Catalogue], item: str) -> set[str] | None:
    """Prefixes of all rates of an item's prices; None where some price needs none."""
    found: set[str] = set()
    for catalogue in catalogues:
        for one in catalogue.prices:
            for version in one.versions if one.item == item else ():
                if version.tariff is None:
                    continue
                cards = [step for step in version.tariff.steps if isinstance(step, core.RateCard)]
                if not cards or any(card.bands for card in cards):
                    return None
                found.update(rate.prefix for card in cards for rate in card.rates)
    return found or None


def _ranges(prefixes: Iterable[str]) -> tuple[Words, Words]:
    """Keys of the numbers with one of these prefixes, as ranges that do not overlap."""
    ranges: list[list[int]] = []
    for low, high in sorted(_range(prefix) for prefix in prefixes):
        if ranges and low <= ranges[-1][1] + 1:
            ranges[-1][1] = max(ranges[-1][1], high)
        else:
            ranges.append([low, high])
    return np.array([low for low, _ in ranges], np.uint64), np.array([high for _, high in ranges], np.uint64)


def _range(prefix: str) -> tuple[int, int]:
    low = pack_number(prefix)
    return low, low + (1 << (_KEY_BITS - _DIGIT_BITS * min(len(prefix), KEY_DIGITS))) - 1


def unratable(item: pa.Array, quantity_micro: Ints, destination: pa.Array, ratable: Ratable) -> Unratable:
    """Which rows no price could rate. item: numbers, with few distinct values."""
    coded = item.dictionary_encode()
    codes, names = np.asarray(coded.indices), coded.dictionary.to_pylist()
    divisor = np.array([ratable.divisors.get(name, 1) for name in names] or [1], np.int64)
    known = np.array([name in ratable.divisors for name in names] or [False], np.bool_)
    size = len(codes)
    none = np.zeros(size, np.bool_)
    broken = quantity_micro % divisor[codes] != 0 if size else none
    no_number, no_rate = none.copy(), none.copy()
    has_any = size > 0 and (pc.max(pc.binary_length(destination)).as_py() or 0) > 0
    if has_any:
        no_number = known[codes] & ~np.asarray(
            pc.match_substring_regex(destination, f"^[0-9]{{0,{MAX_NUMBER_CHARS}}}$").to_numpy(zero_copy_only=False)
        ).astype(np.bool_)
    for code, name in enumerate(names):
        if name in ratable.rates:
            rows = np.flatnonzero((codes == code) & ~no_number)
            keys = number_keys(destination, rows) if has_any else None
            no_rate[rows] = ~_within(np.zeros(len(rows), np.uint64) if keys is None else keys, *ratable.rates[name])
    return Unratable(broken, no_number, no_rate)


def _within(keys: Words, first: Words, last: Words) -> Flags:
    place = np.searchsorted(first, keys, side="right") - 1
    found: Flags = (place >= 0) & (keys <= last[np.maximum(place, 0)])
    return found


def number_keys(destination: Any, rows: Ints) -> Words | None:
    """Packed numbers of these rows of an Arrow array of strings; None where none of them has any."""
    if destination is None:
        return None
    _, offsets, data = destination.buffers()
    wide = "large" in str(destination.type)
    places = np.frombuffer(offsets, np.int64 if wide else np.int32)[destination.offset :].astype(np.int64)
    begin, length = places[rows], places[rows + 1] - places[rows]
    width = min(int(length.max(initial=0)), MAX_NUMBER_CHARS + 1)
    if width == 0:
        return None
    text = np.frombuffer(data, np.uint8)
    letters = np.zeros((len(rows), width), np.uint8)
    common = min(int(length.min()), width)  # most numbers are of one length
    for place in range(common):
        letters[:, place] = text[begin + place]
    for place in range(common, width):
        held = np.flatnonzero(length > place)
        letters[held, place] = text[begin[held] + place]
    numbers: Any = letters.view(f"S{width}").reshape(-1)
    return pack_numbers(numbers)
