"""What orders buy, prepared once a process and run: terms, and the baskets of priced items that orders come down to.

Rules. Millions of orders are few *stocks*: a plan or item of a catalogue, a currency, a buyer as far as price lists
and promotions can tell him from others, and whether the order has a price of its own. A stock says which items are
recurring. A *basket* is a stock with the promotions in force: those that act on its items at one instant in one
period of the order. Between two dates of a catalogue's promotions nothing changes, nor between two of their period
counts, so instants and period numbers are taken by the stretch (`Edges`). What a stock or basket cannot be billed
for, and why, is its `failure`.

Does not know: which orders there are, what is due.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np
from numpy.typing import NDArray

from billing.calendar import Cadence, Interval, local_midnight
from billing.catalogue import Buyer, Catalogue, Promotion, percentage_order, plan_grants, plan_items, promotions_for
from billing.catalogue_tables import NO_ROW, is_recurring
from billing.cycle_prices import PriceRows
from billing.cycle_records import OrderTerms
from ratingcore import tariff as core
from ratingcore.arrays import Ints

#: How an order is prorated, as in TermsTable.proration.
PRORATIONS: Final = ("none", "day", "second")
BY_NOTHING, BY_DAY, BY_SECOND = range(3)


@dataclass(frozen=True, slots=True)
class Offer:
    """What an order is on, whatever its rhythm."""

    catalogue_id: int
    plan: str
    item: str
    currency: str


@dataclass(frozen=True, slots=True)
class TermsTable:
    """Terms as columns by terms_id; cadence is NONE and known False where there are no such terms."""

    known: NDArray[np.bool_]
    cadence: Ints
    zone: Ints
    offer: Ints
    in_advance: NDArray[np.bool_]
    once: NDArray[np.bool_]
    proration: Ints


@dataclass(frozen=True, slots=True)
class Failing:
    """Why something cannot be billed: a code and a sentence."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Goods:
    """An item of a stock. place: in the invoice's order. row: of its price without free units, or NO_ROW.

    of_items: of a percentage, what it is taken of. level: of a percentage, above those of all it is taken of; else 0.
    """

    item: str
    place: int
    row: int
    recurring: bool
    of_items: tuple[str, ...] = ()
    level: int = 0


@dataclass(frozen=True, slots=True)
class Stock:
    """What orders of one offer have for one buyer. by_hand: at a price of the order's own.

    grants: (pool's place, quantity) a period. failure: of every part; advance_failure: of orders in advance.
    tax_rows: rows of what has a price, in the plan's order: a minimum takes the tax of the first in force.
    """

    offer: Offer
    buyer: Buyer
    by_hand: bool
    goods: tuple[Goods, ...] = ()
    has_metered: bool = False
    grants: tuple[tuple[int, int], ...] = ()
    failure: Failing | None = None
    advance_failure: Failing | None = None
    tax_rows: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Priced:
    """An item of a basket: its goods, the row to rate by (with free units), and the discounts as a set's number."""

    goods: Goods
    row: int
    discounts: int


@dataclass(frozen=True, slots=True)
class Basket:
    """A stock under the promotions of one stretch of time and periods."""

    stock: int
    priced: tuple[Priced, ...]


@dataclass(frozen=True, slots=True)
class Edges:
    """Where a catalogue's promotions change: instants, and the last period of those that end by count."""

    times: Ints
    periods: Ints

    def time_of(self, stretch: int) -> int:
        """An instant of a stretch of ``np.searchsorted(times, ..., side="right")``."""
        return int(self.times[stretch - 1]) if stretch else (int(self.times[0]) - 1 if len(self.times) else 0)

    def period_of(self, stretch: int) -> int:
        """A period number of a stretch of ``np.searchsorted(periods, ..., side="left")``."""
        return int(self.periods[stretch - 1]) + 1 if stretch else 1


class Tariffs:
    """Terms and catalogues of a run, and what was derived of them so far. Not shared between threads."""

    def __init__(self, catalogues: Mapping[int, Catalogue], terms: Mapping[int, OrderTerms]) -> None:
        self.catalogues: Final = dict(catalogues)
        self.prices: Final = PriceRows(self.catalogues)
        self.cadences: Final[list[Cadence]] = []
        self.zones: Final[list[str]] = []
        self.offers: Final[list[Offer]] = []
        self.terms: Final = _terms_table(self, terms)
        self.edges: Final = {number: _edges_of(one.promotions) for number, one in self.catalogues.items()}
        self.named: Final = {number: _named_in(one) for number, one in self.catalogues.items()}
        self.stocks: Final[list[Stock]] = []
        self.baskets: Final[list[Basket]] = []
        #: Sets of promotions that take money off a line; 0 is none.
        self.discounts: Final[list[tuple[Promotion, ...]]] = [()]
        self.item_names: Final[list[str]] = [""]
        self._items: Final[dict[str, int]] = {"": 0}
        self._stocks: Final[dict[tuple[int, Buyer, bool], int]] = {}
        self._baskets: Final[dict[tuple[int, tuple[str, ...], int, int], int]] = {}
        self._discounts: Final[dict[tuple[int, tuple[str, ...]], int]] = {}

    def item_code(self, item: str) -> int:
        """The code of an item's name in the columns of this process."""
        if item not in self._items:
            self._items[item] = len(self.item_names)
            self.item_names.append(item)
        return self._items[item]

    def stock(self, offer: int, group: str, customer: str, by_hand: bool) -> int:
        """The stock of an offer for a buyer. by_hand: the order has its own price."""
        one = self.offers[offer]
        groups, customers = self.named.get(one.catalogue_id, (frozenset(), frozenset()))
        buyer = Buyer(
            one.currency, one.plan, group if group in groups else "", customer if customer in customers else ""
        )
        key = offer, buyer, by_hand
        if key not in self._stocks:
            self._stocks[key] = len(self.stocks)
            self.stocks.append(_stock_of(self, one, buyer, by_hand))
        return self._stocks[key]

    def basket(self, stock: int, codes: tuple[str, ...], time_stretch: int, period_stretch: int) -> int:
        """The basket of a stock. The stretches are those of its catalogue's edges; codes: promotion codes given."""
        key = stock, codes, time_stretch, period_stretch
        if key not in self._baskets:
            self._baskets[key] = len(self.baskets)
            edges = self.edges[self.stocks[stock].offer.catalogue_id]
            at = edges.time_of(time_stretch), edges.period_of(period_stretch)
            self.baskets.append(_basket_of(self, stock, codes, *at))
        return self._baskets[key]

    def discount_set(self, catalogue_id: int, promotions: Sequence[Promotion]) -> int:
        """The number of a set of promotions, free units left out."""
        acting = tuple(one for one in promotions if not one.free_units)
        key = catalogue_id, tuple(one.number for one in acting)
        if acting and key not in self._discounts:
            self._discounts[key] = len(self.discounts)
            self.discounts.append(acting)
        return self._discounts[key] if acting else 0

    def bounds(self, bill_on: date) -> Ints:
        """By zone: the instant at which the run's date begins there."""
        return np.array([local_midnight(bill_on, zone) for zone in self.zones], np.int64)


def prepare_tariffs(catalogues: Mapping[int, Catalogue], terms: Mapping[int, OrderTerms]) -> Tariffs:
    """What the shards of a run have in common.

    Args:
        catalogues: by catalogue_id, in the version frozen for the run.
        terms: rows of order_terms by id: all that any order of the shards names.

    Raises:
        ValueError: terms with a cadence or zone there is not.
    """
    return Tariffs(catalogues, terms)


def _terms_table(tariffs: Tariffs, terms: Mapping[int, OrderTerms]) -> TermsTable:
    size = max(terms, default=0) + 1
    numbers: dict[str, dict[object, int]] = {"cadence": {}, "zone": {}, "offer": {}}
    columns = {name: np.full(size, -1, np.int64) for name in ("cadence", "zone", "offer", "proration")}
    flags = {name: np.zeros(size, np.bool_) for name in ("known", "in_advance", "once")}
    for number, one in terms.items():
        interval = Interval(one.interval_unit, one.interval_count)
        found: dict[str, object] = {
            "cadence": Cadence(interval, one.anchor_day, one.anchor_month, one.zone, one.anchor_phase),
            "zone": one.zone,
            "offer": Offer(one.catalogue_id, one.plan, one.item, one.currency),
        }
        for name, value in found.items():
            columns[name][number] = numbers[name].setdefault(value, len(numbers[name]))
        columns["proration"][number] = PRORATIONS.index(one.proration)
        flags["known"][number], flags["in_advance"][number] = True, one.in_advance
        flags["once"][number] = one.kind == "one_time"
    for name, kept in (("cadence", tariffs.cadences), ("zone", tariffs.zones), ("offer", tariffs.offers)):
        kept.extend(numbers[name])  # type: ignore[arg-type]
    return TermsTable(**columns, **flags)  # type: ignore[arg-type]


def _edges_of(promotions: Iterable[Promotion]) -> Edges:
    every = list(promotions)
    times = {one.since_s for one in every} | {one.until_s for one in every if one.until_s is not None}
    periods = {one.periods for one in every if one.periods}
    return Edges(np.array(sorted(times), np.int64), np.array(sorted(periods), np.int64))


def _named_in(catalogue: Catalogue) -> tuple[frozenset[str], frozenset[str]]:
    """(groups, customers) that anything in a catalogue names."""
    groups = {one.group for one in catalogue.prices} | {group for one in catalogue.promotions for group in one.groups}
    return frozenset(groups) - {""}, frozenset(one.customer for one in catalogue.prices) - {""}


# ---- stocks


def _stock_of(tariffs: Tariffs, offer: Offer, buyer: Buyer, by_hand: bool) -> Stock:
    catalogue = tariffs.catalogues.get(offer.catalogue_id)
    failure = _unknown(catalogue, offer, by_hand)
    if catalogue is None or failure is not None:
        return Stock(offer, buyer, by_hand, failure=failure)
    listed = plan_items(catalogue, offer.plan) if offer.plan else (offer.item,)
    items = percentage_order(catalogue, listed)
    resolved = {item: tariffs.prices.resolve(offer.catalogue_id, item, buyer) for item in items}
    goods: list[Goods] = []
    levels: dict[str, int] = {}
    for place, item in enumerate(items):
        row = tariffs.prices.row_of(offer.catalogue_id, item, buyer)
        if by_hand and row == NO_ROW:
            row = tariffs.prices.tax_row(offer.catalogue_id, item)
        of_items = () if by_hand else tuple(one for one in catalogue.items[item].percentage_of if one in resolved)
        is_part = bool(catalogue.items[item].percentage_of) and not by_hand
        levels[item] = 1 + max((levels.get(one, 0) for one in of_items), default=0) if is_part else 0
        goods.append(
            Goods(item, place, row, by_hand or is_recurring(catalogue, item, resolved), of_items, levels[item])
        )
    recurring = {one.item: one.recurring for one in goods}
    mixed = [one.item for one in goods if len({recurring[base] for base in one.of_items}) > 1]
    pools = tuple(catalogue.pools)
    grants = plan_grants(catalogue, offer.plan) if offer.plan else {}
    rows = {one.item: one.row for one in goods}
    return Stock(
        offer,
        buyer,
        by_hand,
        tuple(goods),
        any(not one.recurring for one in goods),
        tuple((pools.index(pool), quantity) for pool, quantity in grants.items()),
        advance_failure=_mixed(mixed[0]) if mixed else None,
        tax_rows=tuple(rows[item] for item in listed if rows[item] != NO_ROW),
    )


def _mixed(item: str) -> Failing:
    return Failing(
        "mixed_percentage", f"item {item} is a percentage of recurring and of metered items, in an order in advance"
    )


def _unknown(catalogue: Catalogue | None, offer: Offer, by_hand: bool) -> Failing | None:
    if catalogue is None:
        return Failing("unknown_catalogue", f"the run has no version of catalogue {offer.catalogue_id}")
    if offer.plan and offer.plan not in catalogue.plans:
        return Failing("unknown_plan", f"catalogue {catalogue.name} has no plan {offer.plan}")
    if offer.item and offer.item not in catalogue.items:
        return Failing("unknown_item", f"catalogue {catalogue.name} has no item {offer.item}")
    if by_hand and not (offer.item and catalogue.items[offer.item].manual):
        return Failing("price_not_manual", f"{offer.plan or offer.item} allows no price of an order's own")
    return None


# ---- baskets


def _basket_of(tariffs: Tariffs, stock: int, codes: tuple[str, ...], time_s: int, period: int) -> Basket:
    one = tariffs.stocks[stock]
    catalogue = tariffs.catalogues[one.offer.catalogue_id]
    priced = []
    for goods in one.goods:
        acting = promotions_for(catalogue, goods.item, one.buyer, codes, time_s, period)
        gifts = [promotion for promotion in acting if promotion.free_units]
        row = goods.row
        if gifts and row != NO_ROW and not goods.recurring:
            row = tariffs.prices.row_of(one.offer.catalogue_id, goods.item, one.buyer, gifts)
        priced.append(Priced(goods, row, tariffs.discount_set(one.offer.catalogue_id, acting)))
    return Basket(stock, tuple(priced))


# ---- baskets as columns


@dataclass(frozen=True, slots=True)
class Shelf:
    """Some of the items of many baskets, one after the other: those of basket b from first[b] to first[b + 1].

    steps: of the item's unit; divisor: millionths of the unit in one step.
    """

    first: Ints
    item: Ints
    place: Ints
    row: Ints
    discounts: Ints
    level: Ints
    divisor: Ints
    steps: Ints
    goods: tuple[Goods, ...]

    def expand(self, basket: Ints) -> tuple[Ints, Ints]:
        """(index into ``basket``, index into the shelf) of every item of these baskets, in order."""
        counts = self.first[basket + 1] - self.first[basket]
        rows = np.repeat(np.arange(len(basket)), counts)
        ends = np.cumsum(counts)
        return rows, np.arange(len(rows)) + np.repeat(self.first[basket] - (ends - counts), counts)


@dataclass(frozen=True, slots=True)
class Shelves:
    """recurring, metered: items that are no percentages; taken: percentages of recurring items, and of others."""

    recurring: Shelf
    metered: Shelf
    taken_recurring: Shelf
    taken_metered: Shelf


def shelves_of(tariffs: Tariffs, baskets: Sequence[int]) -> Shelves:
    """The items of these baskets, sorted by how they are billed."""
    found = [tariffs.baskets[number] for number in baskets]

    def shelf(recurring: bool, taken: bool) -> Shelf:
        chosen = [
            [one for one in basket.priced if one.goods.recurring == recurring and (one.goods.level > 0) == taken]
            for basket in found
        ]
        every = [one for some in chosen for one in some]
        owners = [basket.stock for basket, some in zip(found, chosen, strict=True) for _ in some]
        return _shelf_of(tariffs, [len(some) for some in chosen], every, owners)

    return Shelves(shelf(True, False), shelf(False, False), shelf(True, True), shelf(False, True))


def _shelf_of(tariffs: Tariffs, counts: list[int], every: list[Priced], owners: list[int]) -> Shelf:
    steps = []
    for one, stock in zip(every, owners, strict=True):
        catalogue = tariffs.catalogues[tariffs.stocks[stock].offer.catalogue_id]
        steps.append(catalogue.items[one.goods.item].unit.steps)
    unit = np.array(steps, np.int64)
    return Shelf(
        first=np.concatenate([[0], np.cumsum(np.array(counts, np.int64))]).astype(np.int64),
        item=np.array([tariffs.item_code(one.goods.item) for one in every], np.int64),
        place=np.array([one.goods.place for one in every], np.int64),
        row=np.array([one.row for one in every], np.int64),
        discounts=np.array([one.discounts for one in every], np.int64),
        level=np.array([one.goods.level for one in every], np.int64),
        divisor=1_000_000 // np.maximum(unit, 1),
        steps=unit,
        goods=tuple(one.goods for one in every),
    )


def reject_reason(reject: int) -> str:
    """The code of a failure for what the core rejects: its name in small letters."""
    return core.Reject(reject).name.lower()
