"""What tables of prices for the core are made by: who pays the same, what is charged for time, how units become steps.

Rules. Buyers who see the same price are one, however many they are: a customer or group whom no price list names is
nobody in particular. Quantities of mediation (millionths of the item's unit) become steps exactly or not at all.

Does not know: the tables themselves (billing.charging.prices, billing.rating.bulk), events, compilation.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from billing.catalogue.model import Buyer, Catalogue, Resolved, named_customers
from billing.catalogue.units import Unit
from ratingcore import tariff as core

#: In place of a row for a buyer whom nothing gives a price; the kernel rejects such lines one by one.
NO_ROW: Final = -1

MICRO_PER_UNIT: Final = 1_000_000


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
