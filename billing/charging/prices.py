"""Prices of a billing run in tables: every price a row, every version of it numbers that columns can be looked up in.

Rules. A row is one resolved price: buyers who pay the same share it. Rows of a catalogue are compiled together for the
kernel, again only when a shard brought a price that none before it had. For each version the table holds what a line
without usage comes to when it closes (asked of the kernel once a version, so that recurring charges cost no call), its
tax and rounding, and which versions of the row go into one line (`group`: those of one tax and rounding).

An order's own price for an item that the catalogue gives none stands in rows without steps: the item's tax over time.

Does not know: orders, periods, promotions but for their free units.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from billing.catalogue.model import Buyer, Catalogue, Promotion, Resolved, resolve_price
from billing.catalogue.tables import NO_ROW, narrowed
from ratingcore import tariff as core
from ratingcore.arrays import Bytes, Codes, Ints
from ratingcore.compile import Compiled, compile_catalogue
from ratingcore.rate import close_lines, make_lines, new_accumulators
from ratingcore.rounding import Rounding

#: Instants are below it, so that row * SPAN + instant orders versions of all rows in one column.
_SPAN: Final = 2**40
#: Taxes of an item without a price are known for as long as its tax class is.
_NO_HORIZON: Final = (0, _SPAN - 1)


@dataclass(frozen=True, slots=True)
class VersionInForce:
    """A version of a row. close_micro: of a line without usage; close_reject: a ``tariff.Reject``."""

    since_s: int
    close_micro: int
    close_reject: int
    tax: core.Tax
    rounding: Rounding


@dataclass
class Row:
    """A price. local: its place in the compiled tables of its catalogue, NO_ROW without steps."""

    catalogue_id: int
    local: int
    item: str
    versions: tuple[VersionInForce, ...]
    horizon: tuple[int, int]
    needs_close: bool


@dataclass(frozen=True, slots=True)
class RowTable:
    """All rows as columns: catalogue to end_s by row, group_version by row and group, the rest by version.

    first: a row's first version; groups, group_first: how many groups it has, and where in group_version they begin.
    returns: some row comes back to a tax and rounding it had before.
    """

    catalogue: Ints
    local: Ints
    first: Ints
    groups: Ints
    group_first: Ints
    needs_close: NDArray[np.bool_]
    start_s: Ints
    end_s: Ints
    group_version: Ints
    keys: Ints
    close_micro: Ints
    close_reject: Bytes
    group: Ints
    tax_ppm: Ints
    inside: Bytes
    rounding: Codes
    returns: bool

    def versions_at(self, row: Ints, time_s: Ints) -> tuple[Ints, Bytes]:
        """The version in force, and a ``tariff.Reject`` where there is none; the version is then the row's first."""
        found = np.searchsorted(self.keys, row * _SPAN + time_s, side="right") - 1
        reject = np.where(found < self.first[row], core.Reject.NO_PRICE, core.Reject.OK).astype(np.uint8)
        outside = (time_s < self.start_s[row]) | (time_s >= self.end_s[row])
        reject[outside] = core.Reject.OUT_OF_HORIZON
        return np.maximum(found, self.first[row]), reject


@dataclass
class PriceBook:
    """A catalogue's rows while they grow. seen: rows by what makes a price; compiled: None after a new row."""

    catalogue: Catalogue
    prices: list[core.Price] = field(default_factory=list)
    by_request: dict[tuple[Any, ...], int] = field(default_factory=dict)
    by_contents: dict[tuple[Any, ...], int] = field(default_factory=dict)
    resolved: dict[tuple[str, Buyer], Resolved | None] = field(default_factory=dict)
    compiled: Compiled | None = None


class PriceRows:
    """The rows of a run, by catalogue; they only grow."""

    def __init__(self, catalogues: Mapping[int, Catalogue]) -> None:
        self.books: Final = {number: PriceBook(catalogue) for number, catalogue in catalogues.items()}
        self.rows: Final[list[Row]] = []
        self._table: RowTable | None = None

    def resolve(self, catalogue_id: int, item: str, buyer: Buyer) -> Resolved | None:
        """The price of an item without free units."""
        book = self.books[catalogue_id]
        key = item, narrowed(book.catalogue, item, buyer)
        if key not in book.resolved:
            book.resolved[key] = resolve_price(book.catalogue, *key)
        return book.resolved[key]

    def row_of(self, catalogue_id: int, item: str, buyer: Buyer, gifts: Iterable[Promotion] = ()) -> int:
        """The row of a price, NO_ROW where nobody ever gives this buyer one. gifts: promotions of free units."""
        book, given = self.books[catalogue_id], tuple(gifts)
        request = (item, narrowed(book.catalogue, item, buyer), tuple(one.number for one in given))
        if request not in book.by_request:
            book.by_request[request] = self._add(catalogue_id, item, buyer, given)
        return book.by_request[request]

    def tax_row(self, catalogue_id: int, item: str) -> int:
        """A row for an item that has no price: its tax class, inside, rounded half away from zero."""
        book = self.books[catalogue_id]
        if (item,) not in book.by_request:
            tax = book.catalogue.taxes.get(book.catalogue.items[item].tax)
            rates = tax.rates if tax else ((0, 0),)
            versions = tuple(
                VersionInForce(max(0, since_s), 0, core.Reject.OK, core.Tax(ppm, inside=True), Rounding.HALF_AWAY)
                for since_s, ppm in rates
            )
            book.by_request[(item,)] = self._append(Row(catalogue_id, NO_ROW, item, versions, _NO_HORIZON, False))
        return book.by_request[(item,)]

    def table(self) -> RowTable:
        """All rows so far."""
        if self._table is None:
            self._table = _table_of(self.rows)
        return self._table

    def compiled(self, catalogue_id: int) -> Compiled:
        """The kernel's tables of a catalogue's rows so far.

        Raises:
            ValueError: it has no row.
        """
        book = self.books[catalogue_id]
        if book.compiled is None:
            book.compiled = compile_catalogue(_core_of(book.catalogue, book.prices))
        return book.compiled

    def _add(self, catalogue_id: int, item: str, buyer: Buyer, gifts: tuple[Promotion, ...]) -> int:
        book = self.books[catalogue_id]
        plain = self.resolve(catalogue_id, item, buyer)
        if plain is None:
            return NO_ROW
        segments = [(one.since_s, id(one.version), one.tax_ppm) for one in plain.versions]
        contents = (item, tuple(segments), tuple(one.number for one in gifts))
        if contents not in book.by_contents:
            priced = resolve_price(book.catalogue, item, buyer, gifts) if gifts else plain
            assert priced is not None  # free units make no price go away
            book.by_contents[contents] = self._append(_row_of(catalogue_id, book, item, priced.price))
            book.prices.append(priced.price)
            book.compiled = None
        return book.by_contents[contents]

    def _append(self, row: Row) -> int:
        self.rows.append(row)
        self._table = None
        return len(self.rows) - 1


def _core_of(catalogue: Catalogue, prices: Iterable[core.Price]) -> core.Catalogue:
    return core.Catalogue(tuple(prices), catalogue.start_s, catalogue.end_s, tuple(catalogue.pools))


def _row_of(catalogue_id: int, book: PriceBook, item: str, price: core.Price) -> Row:
    horizon = (book.catalogue.start_s, book.catalogue.end_s)
    # A fresh line for each version. One that begins after the horizon is never in force: its close is a reject.
    row = np.arange(len(price.versions))
    lines = make_lines(compile_catalogue(_core_of(book.catalogue, [price])), np.zeros_like(row), row)
    begins = np.array([max(since_s, book.catalogue.start_s) for since_s, _ in price.versions], np.int64)
    closed = close_lines(lines, new_accumulators(lines), row, begins)
    versions = [
        VersionInForce(max(0, since_s), amount_micro, reject, tariff.tax, tariff.rounding)
        for (since_s, tariff), amount_micro, reject in zip(
            price.versions, closed.amount_micro.tolist(), closed.reject.tolist(), strict=True
        )
    ]
    needs_close = any(
        isinstance(step, core.MinimumCommitment | core.Flat) for _, tariff in price.versions for step in tariff.steps
    )
    return Row(catalogue_id, len(book.prices), item, tuple(versions), horizon, needs_close)


def _table_of(rows: list[Row]) -> RowTable:
    counts = np.array([len(row.versions) for row in rows], np.int64)
    first = np.cumsum(counts) - counts
    groups = [_groups_of(row) for row in rows]
    keys = [number * _SPAN + version.since_s for number, row in enumerate(rows) for version in row.versions]
    every = [version for row in rows for version in row.versions]
    sizes = np.array([max(group) + 1 for group in groups], np.int64)
    begins = [before + group.index(one) for before, group in zip(first, groups, strict=True) for one in set(group)]
    return RowTable(
        catalogue=np.array([row.catalogue_id for row in rows], np.int64),
        local=np.array([row.local for row in rows], np.int64),
        first=first,
        groups=sizes,
        group_first=np.cumsum(sizes) - sizes,
        needs_close=np.array([row.needs_close for row in rows], np.bool_),
        start_s=np.array([row.horizon[0] for row in rows], np.int64),
        end_s=np.array([row.horizon[1] for row in rows], np.int64),
        group_version=np.array(sorted(begins), np.int64),
        keys=np.array(keys, np.int64),
        close_micro=np.array([version.close_micro for version in every], np.int64),
        close_reject=np.array([version.close_reject for version in every], np.uint8),
        group=np.array([number for group in groups for number in group], np.int64),
        tax_ppm=np.array([version.tax.rate_ppm for version in every], np.int64),
        inside=np.array([version.tax.inside for version in every], np.uint8),
        rounding=np.array([version.rounding for version in every], np.int8),
        returns=any(group != sorted(group) for group in groups),
    )


def _groups_of(row: Row) -> list[int]:
    """For each version which of the row's pairs of tax and rounding it has, in order of their first version."""
    pairs = list(dict.fromkeys((version.tax, version.rounding) for version in row.versions))
    return [pairs.index((version.tax, version.rounding)) for version in row.versions]
