"""Rate columns of events under a compiled catalogue: the face of the kernel in ``_rate.pyx``.

Rules. A *line* is what is billed together over a period: one price for one owner (the account whose pools it shares).
Events are rated in the order given; what one leaves in its line's meters and its owner's pools the next one finds, so
any split of the same events into batches gives the same amounts. A rejected event costs nothing and leaves no trace.
``accumulators`` are changed in place, everything else is only read. The GIL is released; several threads share a call
by ranges of lines.

Does not know: where events and accumulators are kept, which events are late, what an invoice is.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ratingcore import _rate
from ratingcore.arrays import Bytes, Indices, Ints, Words, column, require_range
from ratingcore.compile import EDGE_SHIFT, Compiled
from ratingcore.digits import NO_NUMBER
from ratingcore.tariff import (
    MAX_DURATION_S,
    MAX_EVENT_MICRO,
    MAX_METER,
    MAX_METERS,
    MAX_POOLS,
    MAX_QUANTITY,
    meter_width,
)

assert _rate.limits() == (
    MAX_QUANTITY,
    MAX_METER,
    MAX_EVENT_MICRO,
    MAX_DURATION_S,
    MAX_METERS,
    MAX_POOLS,
    EDGE_SHIFT,
    NO_NUMBER,
)

LINE: Final = np.dtype([("price", "i4"), ("owner", "i4"), ("base", "i8")])
MAX_THREADS: Final = 256


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines under a catalogue, made by ``make_lines``.

    records: one LINE each; words: of all their meters together; owners: how many there are.
    """

    compiled: Compiled
    records: NDArray[Any]
    words: int
    owners: int


@dataclass(frozen=True, slots=True)
class Accumulators:
    """What a period remembers, changed in place by ``rate_events`` and ``close_lines``.

    meters: the words of every line's meters, from its ``base`` on, laid out by ``Compiled.slots``.
    pools: what is left, row ``owner * pools + pool``.
    """

    meters: Ints
    pools: Ints


@dataclass(frozen=True, slots=True)
class Events:
    """Columns of events, all of one length; made by ``make_events``. Empty duration or destination: none has any."""

    line: Ints
    time_s: Ints
    quantity: Ints
    duration_s: Ints
    destination: Words


@dataclass(frozen=True, slots=True)
class RatedColumns:
    """Columns of what came out, one row an event.

    amount_micro: its price; version: of its line's price; tier: reached by the last curve; rate: the last used,
    within its card; -1 where there was none. reject: a ``tariff.Reject``, 0 where the event was rated.
    """

    amount_micro: Ints
    version: Indices
    tier: Indices
    rate: Indices
    reject: Bytes


def make_lines(compiled: Compiled, price: ArrayLike, owner: ArrayLike) -> Lines:
    """Lines with these prices and owners.

    Args:
        price: index of the catalogue's price, per line.
        owner: 0 and up; ascending where several threads are to share the work.

    Raises:
        TypeError, ValueError: columns that are not such.
    """
    prices = column("price", price, np.int32)
    owners = column("owner", owner, np.int32, len(prices))
    require_range("price", prices, 0, len(compiled.slots) - 1)
    require_range("owner", owners, 0, 2**31 - 1)
    words: Ints = compiled.prices["slots"].astype(np.int64)[prices]
    records = np.zeros(len(prices), LINE)
    records["price"], records["owner"] = prices, owners
    records["base"] = np.cumsum(words) - words
    return Lines(compiled, records, int(words.sum()), int(owners.max()) + 1 if len(owners) else 0)


def new_accumulators(lines: Lines, pools: ArrayLike | None = None) -> Accumulators:
    """Accumulators at the start of a period.

    Args:
        pools: what every owner has in every pool, shape (owners, pools); nothing where it is None.

    Raises:
        TypeError, ValueError: pools of another shape, or negative.
    """
    width = len(lines.compiled.pools)
    left = np.zeros(lines.owners * width, np.int64)
    if pools is not None:
        given = np.asarray(pools)
        if given.shape != (lines.owners, width):
            raise ValueError(f"pools: shape {given.shape}, expected {(lines.owners, width)}")
        left = column("pools", given.reshape(-1), np.int64).copy()
        require_range("pools", left, 0, MAX_METER)
    # Never empty: the kernel takes the address of the first word.
    padded = left if len(left) else np.zeros(1, np.int64)
    return Accumulators(np.zeros(max(1, lines.words), np.int64), padded)


def make_events(
    line: ArrayLike,
    time_s: ArrayLike,
    quantity: ArrayLike,
    duration_s: ArrayLike | None = None,
    destination: ArrayLike | None = None,
) -> Events:
    """Columns of events.

    Args:
        line: row of the lines. Rows there are not are rejected one by one, not refused here.
        time_s: UTC epoch seconds of the start.
        quantity: steps of the item's unit.
        duration_s: seconds over which the quantity was used; None: at an instant.
        destination: keys of ``digits.pack_numbers``; None: no numbers.

    Raises:
        TypeError, ValueError: columns that are not integers or not of one length.
    """
    rows = column("line", line, np.int64)
    count = len(rows)
    return Events(
        rows,
        column("time_s", time_s, np.int64, count),
        column("quantity", quantity, np.int64, count),
        np.zeros(0, np.int64) if duration_s is None else column("duration_s", duration_s, np.int64, count),
        np.zeros(0, np.uint64) if destination is None else column("destination", destination, np.uint64, count),
    )


def rate_events(lines: Lines, accumulators: Accumulators, events: Events, threads: int = 1) -> RatedColumns:
    """Rate events in order; see the module's rules.

    Args:
        threads: how many share the work. More than one needs lines in ascending order of owner.

    Raises:
        ValueError: accumulators of other lines, or lines that threads cannot share.
    """
    return _run(lines, accumulators, events, threads, closing=False)


def close_lines(
    lines: Lines, accumulators: Accumulators, line: ArrayLike, time_s: int | Ints, threads: int = 1
) -> RatedColumns:
    """What these lines still owe as their period ends: flats never charged, minimums not reached.

    A second close of the same lines adds nothing.

    Args:
        line: rows of the lines.
        time_s: the last instant of the period, of all lines or of each; the version in force then applies.

    Raises:
        TypeError, ValueError: as ``make_events`` and ``rate_events``.
    """
    rows = column("line", line, np.int64)
    events = make_events(rows, np.full(len(rows), time_s, np.int64), np.zeros(len(rows), np.int64))
    return _run(lines, accumulators, events, threads, closing=True)


def _run(lines: Lines, accumulators: Accumulators, events: Events, threads: int, closing: bool) -> RatedColumns:
    _check(lines, accumulators, threads)
    compiled, count = lines.compiled, len(events.line)
    # Not filled: the kernel writes every row, and threads then share the cost of the pages.
    out = RatedColumns(
        np.empty(count, np.int64),
        np.empty(count, np.int32),
        np.empty(count, np.int32),
        np.empty(count, np.int32),
        np.empty(count, np.uint8),
    )
    if count == 0:
        return out
    tables = [getattr(compiled, field.name) for field in fields(compiled)[4:]]
    columns = [getattr(events, field.name) for field in fields(events)]
    outs = [getattr(out, field.name) for field in fields(out)]
    horizon = (compiled.start_s, compiled.end_s, len(compiled.pools))
    memory = (lines.records, accumulators.meters, accumulators.pools)
    spans = ranges_of(lines, threads)

    def rate_span(number: int) -> None:
        picks = _picks(events.line, spans, number)
        arguments: list[Any] = [*horizon, *tables, *memory, *columns, closing, len(spans) > 1, picks, *outs]
        _rate.rate_columns(*arguments)

    if len(spans) == 1:
        rate_span(0)
        return out
    with ThreadPoolExecutor(len(spans)) as pool:
        list(pool.map(rate_span, range(len(spans))))
    return out


def _picks(line: Ints, spans: list[tuple[int, int]], number: int) -> Ints:
    """Rows of the events whose line is in this span; the outer spans also take those of lines there are not."""
    if len(spans) == 1:
        return np.zeros(0, np.int64)
    low, high = spans[number]
    if number == 0:
        return np.flatnonzero(line < high)
    if number == len(spans) - 1:
        return np.flatnonzero(line >= low)
    return np.flatnonzero((line >= low) & (line < high))


def _check(lines: Lines, accumulators: Accumulators, threads: int) -> None:
    words, pools = max(1, lines.words), max(1, lines.owners * len(lines.compiled.pools))
    for name, array, length in (("meters", accumulators.meters, words), ("pools", accumulators.pools, pools)):
        if array.shape != (length,):
            raise ValueError(f"accumulators: {name} of shape {array.shape}, these lines need ({length},)")
    if not 1 <= threads <= MAX_THREADS:
        raise ValueError(f"threads: {threads}, outside 1 to {MAX_THREADS}")
    if threads > 1 and (np.diff(lines.records["owner"]) < 0).any():
        raise ValueError("threads share lines by owner: make lines in ascending order of owner")


def ranges_of(lines: Lines, threads: int) -> list[tuple[int, int]]:
    """Rows of lines in at most ``threads`` ranges of like size that tile them all; no owner is in two."""
    owner, count = lines.records["owner"], len(lines.records)
    cuts = {0, count}
    for number in range(1, threads):
        row = count * number // threads
        if 0 < row < count:
            cuts.add(int(np.searchsorted(owner, owner[row], side="left")))
    ordered = sorted(cuts)
    return list(pairwise(ordered)) or [(0, 0)]


def read_meters(lines: Lines, accumulators: Accumulators, line: int) -> dict[tuple[str, str], int]:
    """What one line remembers, by (meter, what it holds), as the judge's ``State`` has it."""
    record = lines.records[line]
    found = {}
    for key, slot in lines.compiled.slots[int(record["price"])]:
        at = int(record["base"]) + slot
        found[key] = int(accumulators.meters[at])
        if key[1] == "amount":
            found[key] = int(accumulators.meters[at + 1]) * 2**64 + int(accumulators.meters[at]) % 2**64
    return found


def carry_over(old: Lines, accumulators: Accumulators, new: Lines) -> Accumulators:
    """The same lines' memory under another compilation: a version was added to a price, or a plan was changed.

    Meters that both prices of a line name alike go on, others begin at nothing; so do pools, by their names.

    Args:
        old, new: the same lines in the same order, with the same owners.

    Raises:
        ValueError: lines that are not the same, or accumulators of others.
    """
    _check(old, accumulators, 1)
    if not np.array_equal(old.records["owner"], new.records["owner"]):
        raise ValueError("carry over: the lines' owners differ")
    carried = new_accumulators(new)
    pairs = np.stack([old.records["price"], new.records["price"]], axis=1)
    for before, after in np.unique(pairs, axis=0).tolist():
        rows = np.flatnonzero((pairs[:, 0] == before) & (pairs[:, 1] == after))
        slots = dict(new.compiled.slots[after])
        for key, slot in old.compiled.slots[before]:
            for word in range(meter_width([key]) if key in slots else 0):
                words = accumulators.meters[old.records["base"][rows] + slot + word]
                carried.meters[new.records["base"][rows] + slots[key] + word] = words
    left, there = _pool_rows(old, accumulators), _pool_rows(new, carried)
    for at, name in enumerate(old.compiled.pools):
        if name in new.compiled.pools:
            there[:, new.compiled.pools.index(name)] = left[:, at]
    return carried


def _pool_rows(lines: Lines, accumulators: Accumulators) -> Ints:
    """A view of pools, one row an owner."""
    width = len(lines.compiled.pools)
    return accumulators.pools[: lines.owners * width].reshape(lines.owners, width)
