"""Rate a long usage file under a catalogue: the rows by the kernel, all else as ``billing.rating.bills`` does.

Rules. The same bills to the micro as by the judge, but without derivations. Prices that are the same share a row of one
compiled table. What the kernel remembers of a line and its pools is handed to the judge, who closes the line and takes
percentages: that is work by line, not by row.

Does not know: files, words.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from billing.catalogue.model import Buyer, Catalogue, Promotion, Resolved, resolve_price
from billing.catalogue.tables import narrowed
from billing.rating.bills import (
    Bill,
    BillTerms,
    Bulk,
    MonthlyUsage,
    close_month,
    months_of,
    pools_at_start,
    reason_of,
    tables_of,
    without_price,
)
from billing.rating.rated_file import RejectedRow, Usage
from ratingcore import reference
from ratingcore import tariff as core
from ratingcore.compile import compile_catalogue
from ratingcore.digits import pack_numbers
from ratingcore.rate import (
    Accumulators,
    Lines,
    RatedColumns,
    make_events,
    make_lines,
    new_accumulators,
    rate_events,
    read_meters,
)

#: Up to this many rows the judge rates a file in a minute or two, and derives every amount.
JUDGED_ROWS: Final = 200_000


class _Prices:
    """Prices of buyers whom lists cannot tell apart, found once; lives for one file."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, Buyer, tuple[int, ...]], Resolved | None] = {}
        self.rows: dict[int, int] = {}
        self.prices: list[core.Price] = []

    def resolve(self, catalogue: Catalogue, item: str, buyer: Buyer, gifts: Sequence[Promotion]) -> Resolved | None:
        key = (item, narrowed(catalogue, item, buyer), tuple(id(one) for one in gifts))
        if key not in self.known:
            self.known[key] = found = resolve_price(catalogue, item, key[1], gifts)
            if found is not None:
                self.rows[id(found.price)] = len(self.prices)
                self.prices.append(found.price)
        return self.known[key]


@dataclass(frozen=True, slots=True)
class _PlacedRows:
    """Rows that have a line, and the line of each. first: of each month's lines."""

    rows: list[Usage]
    line: list[int]
    first: list[int]


def rate_in_bulk(
    catalogue: Catalogue, usage: Sequence[Usage], terms: BillTerms
) -> tuple[list[Bill], list[RejectedRow]]:
    """What ``rate_usage`` gives, without the events of lines; rejected rows come in another order."""
    prices, rejected = _Prices(), list[RejectedRow]()
    months = list(months_of(catalogue, usage, terms, prices.resolve))
    placed = _placed(months, rejected)
    if not prices.prices:
        return [], rejected
    tables = core.Catalogue(tuple(prices.prices), catalogue.start_s, catalogue.end_s, tuple(catalogue.pools))
    price = [prices.rows[id(one)] for month in months for one in month.prices]
    owner = [number for number, month in enumerate(months) for _ in month.prices]
    lines = make_lines(compile_catalogue(tables), price, owner)
    memory = new_accumulators(lines, _pools(catalogue, months[: lines.owners]))
    rated = _rate(lines, memory, placed)
    _gather(months, placed, rated, rejected)
    bills = []
    for month, first in zip(months, placed.first, strict=True):
        bill = close_month(catalogue, month, tables_of(catalogue, month), _state(month, first, lines, memory))
        bills += [bill] if bill.lines else []
    return bills, rejected


def _placed(months: list[MonthlyUsage], rejected: list[RejectedRow]) -> _PlacedRows:
    placed, first = _PlacedRows([], [], []), 0
    for month in months:
        placed.first.append(first)
        for one in month.rows:
            number = month.orders[one.plan, one.group].rows.get(one.item)
            if number is None:
                rejected.append(without_price(one))
                continue
            placed.rows.append(one)
            placed.line.append(first + number)
        first += len(month.prices)
    return placed


def _pools(catalogue: Catalogue, months: list[MonthlyUsage]) -> list[list[int]] | None:
    if not catalogue.pools:
        return None
    granted = [pools_at_start(catalogue, month) for month in months]
    return [[min(core.MAX_METER, left.get((0, pool), 0)) for pool in catalogue.pools] for left in granted]


def _rate(lines: Lines, memory: Accumulators, placed: _PlacedRows) -> RatedColumns:
    rows = placed.rows
    time_s, quantity, duration_s = (
        np.fromiter((getattr(one, name) for one in rows), np.int64, len(rows))
        for name in ("time_s", "quantity", "duration_s")
    )
    called = pack_numbers([one.destination for one in rows]) if any(one.destination for one in rows) else None
    return rate_events(lines, memory, make_events(placed.line, time_s, quantity, duration_s, called))


def _gather(months: list[MonthlyUsage], placed: _PlacedRows, rated: RatedColumns, rejected: list[RejectedRow]) -> None:
    """What rows came to, into the orders they are of; sums are Python's integers, which have no end."""
    owners = iter(enumerate(months))
    number, month = next(owners)
    verdicts = zip(
        placed.rows,
        placed.line,
        rated.reject.tolist(),
        rated.version.tolist(),
        rated.amount_micro.tolist(),
        strict=True,
    )
    for one, line, reject, version, amount_micro in verdicts:
        while line >= placed.first[number] + len(month.prices):
            number, month = next(owners)
        if reject:
            rejected.append(RejectedRow(one.place, reason_of(core.Reject(reject), one)))
            continue
        bulk = month.orders[one.plan, one.group].bulk.setdefault(one.item, Bulk())
        bulk.used += one.quantity
        bulk.sums_micro[version] = bulk.sums_micro.get(version, 0) + amount_micro


def _state(month: MonthlyUsage, first: int, lines: Lines, memory: Accumulators) -> reference.State:
    """The kernel's memory of one month as the judge's."""
    meters = {
        (number, *key): value
        for number in range(len(month.prices))
        for key, value in read_meters(lines, memory, first + number).items()
    }
    if not month.prices:
        return reference.State({}, {})
    names = lines.compiled.pools
    base = int(lines.records["owner"][first]) * len(names)
    return reference.State(meters, {(0, name): int(memory.pools[base + at]) for at, name in enumerate(names)})
