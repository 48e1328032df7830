"""The catalogue as the core wants it: one table of prices for many items and buyers, ready to be compiled.

Rules. Buyers who see the same price share a row, however many they are: a customer or group whom no price list names is
nobody in particular. Rows are in the order in which they were first asked for. Quantities of mediation (millionths of
the item's unit) become steps exactly or not at all.

Does not know: events, promotions in force (their free units make prices of their own: `resolve_price`), compilation.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from billing.catalogue import Buyer, Catalogue, Resolved, named_customers, resolve_price
from billing.catalogue_units import Unit
from ratingcore import tariff as core

#: In place of a row for a buyer whom nothing gives a price; the kernel rejects such lines one by one.
NO_ROW: Final = -1

MICRO_PER_UNIT: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class PriceTables:
    """prices: what the core compiles; rows: where the price of (item, buyer) is in it, or NO_ROW; resolved: by row."""

    prices: core.Catalogue
    rows: Mapping[tuple[str, Buyer], int]
    resolved: tuple[Resolved, ...]


def price_tables(catalogue: Catalogue, wanted: Iterable[tuple[str, Buyer]]) -> PriceTables:
    """Prices of these items for these buyers.

    Raises:
        ValueError: nobody of them has a price of anything.
    """
    rows: dict[tuple[str, Buyer], int] = {}
    known: dict[tuple[str, Buyer], int] = {}
    places: dict[tuple[int, ...], int] = {}
    resolved: list[Resolved] = []
    for item, buyer in wanted:
        key = item, narrowed(catalogue, item, buyer)
        if key not in known:
            known[key] = _row_of(resolve_price(catalogue, *key), places, resolved)
        rows[item, buyer] = known[key]
    if not resolved:
        raise ValueError("none of these buyers has a price of any of these items")
    prices = tuple(one.price for one in resolved)
    tables = core.Catalogue(prices, catalogue.start_s, catalogue.end_s, tuple(catalogue.pools))
    return PriceTables(tables, rows, tuple(resolved))


def is_recurring(catalogue: Catalogue, item: str, resolved: Mapping[str, Resolved | None]) -> bool:
    """Does this item's price read no quantity, so that it is charged for time and needs no usage?

    Every step of every version is then a flat of the period, a multiplier, a cap or a minimum commitment. A percentage
    item is recurring when all items that it is a percentage of are, as far as the order has them.

    Args:
        resolved: prices of all the order's items for its buyer, None where there is none (free units left aside).
    """
    found = resolved[item]
    if found is None:
        return False
    parts_of = catalogue.items[item].percentage_of
    if parts_of:
        return all(is_recurring(catalogue, one, resolved) for one in parts_of if one in resolved)
    return all(_is_of_period(step) for _, tariff in found.price.versions for step in tariff.steps)


def _is_of_period(step: core.Step) -> bool:
    if isinstance(step, core.Flat):
        return step.scope == core.Scope.PERIOD
    return isinstance(step, core.Multiplier | core.Cap | core.MinimumCommitment)


def narrowed(catalogue: Catalogue, item: str, buyer: Buyer) -> Buyer:
    """The buyer as far as price lists of this item can tell him from others."""
    customers, groups = named_customers(catalogue, item, buyer.currency)
    return replace(
        buyer,
        customer=buyer.customer if buyer.customer in customers else "",
        group=buyer.group if buyer.group in groups else "",
    )


def _row_of(found: Resolved | None, places: dict[tuple[int, ...], int], resolved: list[Resolved]) -> int:
    """The row of a price: an old one where the very same versions are in force at the same times."""
    if found is None:
        return NO_ROW
    stretches = [(one.since_s, id(one.version), one.tax_ppm) for one in found.versions]
    key = tuple(number for stretch in stretches for number in stretch)
    if key not in places:
        places[key] = len(resolved)
        resolved.append(found)
    return places[key]


def steps_of_micro(quantity_micro: int, unit: Unit) -> int:
    """A quantity in millionths of a unit in the unit's steps.

    Raises:
        ValueError: no whole number of steps.

    >>> steps_of_micro(1_500_000, Unit("GB", 3))
    1500
    """
    steps, rest = divmod(quantity_micro * unit.steps, MICRO_PER_UNIT)
    if rest:
        raise ValueError(
            f"{quantity_micro} millionths of {unit.name} are no whole number of steps of 10^-{unit.decimals}"
        )
    return steps
