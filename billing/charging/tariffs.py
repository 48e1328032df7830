"""What orders buy, prepared once a process and run: terms, and the charge sets of priced items that orders come down
to.

Rules. Millions of orders are few *entitlements*: a plan or item of a catalogue, a currency, a buyer as far as price
lists and promotions can tell him from others, and whether the order has a price of its own. An entitlement says which
items are recurring. A *charge set* is an entitlement with the promotions in force: those that act on its items at one
instant in one period of the order. Between two dates of a catalogue's promotions nothing changes, nor between two of
their period counts, so instants and period numbers are taken by the segment (`Edges`). What an entitlement or charge
set cannot be billed for, and why, is its `failure`.

Does not know: which orders there are, what is due.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np
from numpy.typing import NDArray

from billing.calendar import Cadence, Interval, local_midnight
from billing.catalogue.model import (
    Buyer,
    Catalogue,
    Promotion,
    percentage_order,
    plan_grants,
    plan_items,
    promotions_for,
)
from billing.catalogue.tables import NO_ROW, is_recurring
from billing.charging.prices import PriceRows
from billing.orders.terms import OrderTerms
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
class Charge:
    """An item of an entitlement. place: in the invoice's order. row: of its price without free units, or NO_ROW.

    of_items: of a percentage, what it is taken of. level: of a percentage, above those of all it is taken of; else 0.
    """

    item: str
    place: int
    row: int
    recurring: bool
    of_items: tuple[str, ...] = ()
    level: int = 0


@dataclass(frozen=True, slots=True)
class Entitlement:
    """What orders of one offer have for one buyer. by_hand: at a price of the order's own.

    grants: (pool's place, quantity) a period. failure: of every part; advance_failure: of orders in advance.
    tax_rows: rows of what has a price, in the plan's order: a minimum takes the tax of the first in force.
    """

    offer: Offer
    buyer: Buyer
    by_hand: bool
    charges: tuple[Charge, ...] = ()
    has_metered: bool = False
    grants: tuple[tuple[int, int], ...] = ()
    failure: Failing | None = None
    advance_failure: Failing | None = None
    tax_rows: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PricedCharge:
    """An item of a charge_set: its charge, the row to rate by (with free units), and the discounts as a set's
    number."""

    charge: Charge
    row: int
    discounts: int


@dataclass(frozen=True, slots=True)
class ChargeSet:
    """An entitlement under the promotions of one segment of time and periods. failure: why it cannot be priced."""

    entitlement: int
    priced: tuple[PricedCharge, ...]
    failure: Failing | None = None


@dataclass(frozen=True, slots=True)
class Edges:
    """Where a catalogue's promotions change: instants, and the last period of those that end by count."""

    times: Ints
    periods: Ints

    def time_of(self, segment: int) -> int:
        """An instant of a segment of ``np.searchsorted(times, ..., side="right")``."""
        return int(self.times[segment - 1]) if segment else (int(self.times[0]) - 1 if len(self.times) else 0)

    def period_of(self, segment: int) -> int:
        """A period number of a segment of ``np.searchsorted(periods, ..., side="left")``."""
        return int(self.periods[segment - 1]) + 1 if segment else 1


_NO_EDGES: Final = Edges(np.zeros(0, np.int64), np.zeros(0, np.int64))


class Tariffs:
    """Terms and catalogues of a run, and what was derived of them so far. Not shared between threads."""

    def __init__(
        self, catalogues: Mapping[int, Catalogue], terms: Mapping[int, OrderTerms], unreadable: Mapping[int, str]
    ) -> None:
        self.catalogues: Final = dict(catalogues)
        self.unreadable: Final = dict(unreadable)
        self.prices: Final = PriceRows(self.catalogues)
        self.cadences: Final[list[Cadence]] = []
        self.zones: Final[list[str]] = []
        self.offers: Final[list[Offer]] = []
        self.terms: Final = _terms_table(self, terms)
        self.edges: Final = {number: _edges_of(one.promotions) for number, one in self.catalogues.items()}
        self.named: Final = {number: _named_in(one) for number, one in self.catalogues.items()}
        self.entitlements: Final[list[Entitlement]] = []
        self.charge_sets: Final[list[ChargeSet]] = []
        #: Sets of promotions that take money off a line; 0 is none.
        self.discounts: Final[list[tuple[Promotion, ...]]] = [()]
        self.item_names: Final[list[str]] = [""]
        self._items: Final[dict[str, int]] = {"": 0}
        self._entitlements: Final[dict[tuple[int, Buyer, bool], int]] = {}
        self._charge_sets: Final[dict[tuple[int, tuple[str, ...], int, int], int]] = {}
        self._discounts: Final[dict[tuple[int, tuple[str, ...]], int]] = {}

    def item_code(self, item: str) -> int:
        """The code of an item's name in the columns of this process."""
        if item not in self._items:
            self._items[item] = len(self.item_names)
            self.item_names.append(item)
        return self._items[item]

    def entitlement(self, offer: int, group: str, customer: str, by_hand: bool) -> int:
        """The entitlement of an offer for a buyer. by_hand: the order has its own price."""
        one = self.offers[offer]
        groups, customers = self.named.get(one.catalogue_id, (frozenset(), frozenset()))
        buyer = Buyer(
            one.currency, one.plan, group if group in groups else "", customer if customer in customers else ""
        )
        key = offer, buyer, by_hand
        if key not in self._entitlements:
            made = _entitlement_of(self, one, buyer, by_hand)
            self._entitlements[key] = len(self.entitlements)
            self.entitlements.append(made)
        return self._entitlements[key]

    def charge_set(self, entitlement: int, codes: tuple[str, ...], time_segment: int, period_segment: int) -> int:
        """The charge set of an entitlement. The segments are those of its catalogue's edges; codes: promotion codes
        given."""
        key = entitlement, codes, time_segment, period_segment
        if key not in self._charge_sets:
            edges = self.edges.get(self.entitlements[entitlement].offer.catalogue_id, _NO_EDGES)
            at = edges.time_of(time_segment), edges.period_of(period_segment)
            made = _charge_set_of(self, entitlement, codes, *at)
            self._charge_sets[key] = len(self.charge_sets)
            self.charge_sets.append(made)
        return self._charge_sets[key]

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


def prepare_tariffs(
    catalogues: Mapping[int, Catalogue], terms: Mapping[int, OrderTerms], unreadable: Mapping[int, str] | None = None
) -> Tariffs:
    """What the shards of a run have in common.

    Args:
        catalogues: by catalogue_id, in the version frozen for the run.
        terms: rows of order_terms by id: all that any order of the shards names.
        unreadable: why other catalogues of the run cannot be used, by id: orders on them fail, and no others.

    Raises:
        ValueError: terms with a cadence or zone there is not.
    """
    return Tariffs(catalogues, terms, unreadable or {})


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
            "offer": Offer(one.catalogue, one.plan, one.item, one.currency),
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


# ---- entitlements


def _entitlement_of(tariffs: Tariffs, offer: Offer, buyer: Buyer, by_hand: bool) -> Entitlement:
    """The entitlement; what of its catalogue is beyond a limit of rating is its failure, and nobody else's."""
    catalogue = tariffs.catalogues.get(offer.catalogue_id)
    failure = _unknown(tariffs, catalogue, offer, by_hand)
    if catalogue is None or failure is not None:
        return Entitlement(offer, buyer, by_hand, failure=failure)
    try:
        return _priced_stock(tariffs, catalogue, offer, buyer, by_hand)
    except ValueError as error:
        return Entitlement(offer, buyer, by_hand, failure=_bad_catalogue(catalogue, error))


def _bad_catalogue(catalogue: Catalogue, error: Exception) -> Failing:
    return Failing("bad_catalogue", f"catalogue {catalogue.name} cannot be rated by: {error}")


def _priced_stock(tariffs: Tariffs, catalogue: Catalogue, offer: Offer, buyer: Buyer, by_hand: bool) -> Entitlement:
    listed = plan_items(catalogue, offer.plan) if offer.plan else (offer.item,)
    items = percentage_order(catalogue, listed)
    resolved = {item: tariffs.prices.resolve(offer.catalogue_id, item, buyer) for item in items}
    charges: list[Charge] = []
    levels: dict[str, int] = {}
    for place, item in enumerate(items):
        row = tariffs.prices.row_of(offer.catalogue_id, item, buyer)
        if by_hand and row == NO_ROW:
            row = tariffs.prices.tax_row(offer.catalogue_id, item)
        of_items = () if by_hand else tuple(one for one in catalogue.items[item].percentage_of if one in resolved)
        is_part = bool(catalogue.items[item].percentage_of) and not by_hand
        levels[item] = 1 + max((levels.get(one, 0) for one in of_items), default=0) if is_part else 0
        charges.append(
            Charge(item, place, row, by_hand or is_recurring(catalogue, item, resolved), of_items, levels[item])
        )
    recurring = {one.item: one.recurring for one in charges}
    mixed = [one.item for one in charges if len({recurring[base] for base in one.of_items}) > 1]
    pools = tuple(catalogue.pools)
    grants = plan_grants(catalogue, offer.plan) if offer.plan else {}
    rows = {one.item: one.row for one in charges}
    return Entitlement(
        offer,
        buyer,
        by_hand,
        tuple(charges),
        any(not one.recurring for one in charges),
        tuple((pools.index(pool), quantity) for pool, quantity in grants.items()),
        advance_failure=_mixed(mixed[0]) if mixed else None,
        tax_rows=tuple(rows[item] for item in listed if rows[item] != NO_ROW),
    )


def _mixed(item: str) -> Failing:
    return Failing(
        "mixed_percentage", f"item {item} is a percentage of recurring and of metered items, in an order in advance"
    )


def _unknown(tariffs: Tariffs, catalogue: Catalogue | None, offer: Offer, by_hand: bool) -> Failing | None:
    if offer.catalogue_id in tariffs.unreadable:
        return Failing("bad_catalogue", tariffs.unreadable[offer.catalogue_id])
    if catalogue is None:
        return Failing("unknown_catalogue", f"the run has no version of catalogue {offer.catalogue_id}")
    if offer.plan and offer.plan not in catalogue.plans:
        return Failing("unknown_plan", f"catalogue {catalogue.name} has no plan {offer.plan}")
    if offer.item and offer.item not in catalogue.items:
        return Failing("unknown_item", f"catalogue {catalogue.name} has no item {offer.item}")
    if by_hand and not (offer.item and catalogue.items[offer.item].manual):
        return Failing("price_not_manual", f"{offer.plan or offer.item} allows no price of an order's own")
    return None


# ---- charge sets


def _charge_set_of(tariffs: Tariffs, entitlement: int, codes: tuple[str, ...], time_s: int, period: int) -> ChargeSet:
    one = tariffs.entitlements[entitlement]
    if one.failure is not None:
        return ChargeSet(entitlement, ())
    catalogue = tariffs.catalogues[one.offer.catalogue_id]
    try:
        return ChargeSet(entitlement, _priced_goods(tariffs, catalogue, one, codes, time_s, period))
    except ValueError as error:
        return ChargeSet(entitlement, (), _bad_catalogue(catalogue, error))


def _priced_goods(
    tariffs: Tariffs, catalogue: Catalogue, one: Entitlement, codes: tuple[str, ...], time_s: int, period: int
) -> tuple[PricedCharge, ...]:
    priced = []
    for charge in one.charges:
        acting = promotions_for(catalogue, charge.item, one.buyer, codes, time_s, period)
        gifts = [promotion for promotion in acting if promotion.free_units]
        row = charge.row
        if gifts and row != NO_ROW and not charge.recurring:
            row = tariffs.prices.row_of(one.offer.catalogue_id, charge.item, one.buyer, gifts)
        priced.append(PricedCharge(charge, row, tariffs.discount_set(one.offer.catalogue_id, acting)))
    return tuple(priced)


# ---- charge sets as columns


@dataclass(frozen=True, slots=True)
class ChargeTable:
    """Some of the items of many charge sets, one after the other: those of charge set b from first[b] to first[b + 1].

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
    charges: tuple[Charge, ...]

    def expand(self, charge_set: Ints) -> tuple[Ints, Ints]:
        """(index into ``charge_set``, index into the charge table) of every item of these charge sets, in order."""
        counts = self.first[charge_set + 1] - self.first[charge_set]
        rows = np.repeat(np.arange(len(charge_set)), counts)
        ends = np.cumsum(counts)
        return rows, np.arange(len(rows)) + np.repeat(self.first[charge_set] - (ends - counts), counts)


@dataclass(frozen=True, slots=True)
class ChargeTables:
    """recurring, metered: items that are no percentages; taken: percentages of recurring items, and of others."""

    recurring: ChargeTable
    metered: ChargeTable
    taken_recurring: ChargeTable
    taken_metered: ChargeTable


def charge_tables_of(tariffs: Tariffs, charge_sets: Sequence[int]) -> ChargeTables:
    """The items of these charge sets, sorted by how they are billed."""
    found = [tariffs.charge_sets[number] for number in charge_sets]

    def charge_table(recurring: bool, taken: bool) -> ChargeTable:
        chosen = [
            [one for one in charge_set.priced if one.charge.recurring == recurring and (one.charge.level > 0) == taken]
            for charge_set in found
        ]
        every = [one for some in chosen for one in some]
        owners = [charge_set.entitlement for charge_set, some in zip(found, chosen, strict=True) for _ in some]
        return _charge_table_of(tariffs, [len(some) for some in chosen], every, owners)

    return ChargeTables(
        charge_table(True, False), charge_table(False, False), charge_table(True, True), charge_table(False, True)
    )


def _charge_table_of(tariffs: Tariffs, counts: list[int], every: list[PricedCharge], owners: list[int]) -> ChargeTable:
    steps = []
    for one, entitlement in zip(every, owners, strict=True):
        catalogue = tariffs.catalogues[tariffs.entitlements[entitlement].offer.catalogue_id]
        steps.append(catalogue.items[one.charge.item].unit.steps)
    unit = np.array(steps, np.int64)
    return ChargeTable(
        first=np.concatenate([[0], np.cumsum(np.array(counts, np.int64))]).astype(np.int64),
        item=np.array([tariffs.item_code(one.charge.item) for one in every], np.int64),
        place=np.array([one.charge.place for one in every], np.int64),
        row=np.array([one.row for one in every], np.int64),
        discounts=np.array([one.discounts for one in every], np.int64),
        level=np.array([one.charge.level for one in every], np.int64),
        divisor=1_000_000 // np.maximum(unit, 1),
        steps=unit,
        charges=tuple(one.charge for one in every),
    )


def reject_reason(reject: int) -> str:
    """The code of a failure for what the core rejects: its name in small letters."""
    return core.Reject(reject).name.lower()
