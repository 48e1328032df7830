"""A catalogue as a price sheet: items, plans and prices in force, in words a product manager can read.

Rules. A price is the version in force at the instant asked for, of every list that has one; a list that begins later is
shown with its first date. A step is told by its kind and its first numbers; tiers and cards by how many they have.

Does not know: promotions in force for one buyer (resolve_price), terminals.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from billing.catalogue.model import Catalogue, PriceList, PriceVersion, plan_grants, plan_items
from billing.catalogue.units import Unit, format_date
from billing.language import N_
from billing.wording import Words
from ratingcore import tariff as core

#: The judge's kinds of steps in words.
KINDS: Final[Mapping[str, str]] = {
    "Flat": N_("flat"),
    "PerUnit": N_("per unit"),
    "Graduated": N_("graduated"),
    "Volume": N_("volume"),
    "Stairstep": N_("stairstep"),
    "Package": N_("package"),
    "Percentage": N_("percentage"),
    "RateCard": N_("rate card"),
    "MinimumCommitment": N_("minimum commitment"),
    "Increments": N_("increments"),
    "Allowance": N_("allowance"),
    "Multiplier": N_("multiplied by"),
    "Cap": N_("at most"),
}

#: Customers of a price: all of them, or those that its selectors name.
BUYERS: Final[Mapping[str, str]] = {
    "plan": N_("plan"),
    "group": N_("group"),
    "customer": N_("customer"),
    "for_all": N_("for everybody"),
}

Rows = Sequence[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class PriceSheet:
    """Rows of text.

    items: number, name, unit, tax. plans: number, name, items, grants. prices: item, for whom, from, price, currency.
    """

    items: Rows
    plans: Rows
    prices: Rows


def price_sheet(catalogue: Catalogue, at_s: int, language: str) -> PriceSheet:
    """What a catalogue sells. at_s: the instant whose prices are wanted, epoch seconds; language: a code."""
    words = Words(language, catalogue.currency)
    items = [
        (item.number, words.name(item.names), words.unit(item.unit.name, item.unit.names), item.tax or "-")
        for item in catalogue.items.values()
    ]
    plans = [
        (
            plan.number,
            words.name(plan.names),
            ", ".join(plan_items(catalogue, plan.number)),
            _grants(catalogue, plan.number, words),
        )
        for plan in catalogue.plans.values()
    ]
    return PriceSheet(
        items, plans, [row for listing in catalogue.prices for row in _prices(catalogue, listing, at_s, language)]
    )


def _grants(catalogue: Catalogue, plan: str, words: Words) -> str:
    granted = (
        f"{pool} {words.quantity(quantity, catalogue.pools[pool].unit)}"
        for pool, quantity in plan_grants(catalogue, plan).items()
    )
    return ", ".join(granted) or "-"


def _prices(catalogue: Catalogue, listing: PriceList, at_s: int, language: str) -> Iterator[tuple[str, ...]]:
    version = _in_force(listing, at_s)
    words = Words(language, listing.currency)
    narrowed = buyers_words(listing, words)
    since = format_date(version.since_s, catalogue.zone)
    unit = catalogue.items[listing.item].unit
    yield listing.item, narrowed, since, _price(version, unit, words), listing.currency


def buyers_words(listing: PriceList, words: Words) -> str:
    """The customers of a list's prices."""
    narrowed = [f"{words.say(BUYERS[name])} {value}" for name, value in listing.selectors if value]
    return ", ".join(narrowed) or words.say(BUYERS["for_all"])


def _in_force(listing: PriceList, at_s: int) -> PriceVersion:
    begun = [version for version in listing.versions if version.since_s <= at_s]
    return begun[-1] if begun else listing.versions[0]


def _price(version: PriceVersion, unit: Unit, words: Words) -> str:
    if version.tariff is None:
        return "-"
    return "; ".join(_step(step, unit, words) for step in version.tariff.steps) or "-"


def _step(step: Any, unit: Unit, words: Words) -> str:
    name = type(step).__name__
    kind = words.say(KINDS[name]) if name in KINDS else name.lower()
    match step:
        case core.Flat():
            return f"{kind} {words.price(step.amount_micro)}"
        case core.PerUnit():
            return f"{kind} {words.price(step.price_micro)} / {words.quantity(step.per, unit)}"
        case core.Package():
            return f"{kind} {words.price(step.price_micro)} / {words.quantity(step.size, unit)}"
        case core.Percentage():
            return f"{kind} {words.percent(step.rate_ppm)} %"
        case core.Allowance():
            return f"{kind} {step.pool or words.quantity(step.quantity, unit)}"
        case core.Multiplier():
            return f"{kind} {words.percent(step.ratio_ppm)} %"
        case core.Cap():
            return f"{kind} {words.price(step.maximum_micro)}"
        case core.Graduated() | core.Volume() | core.Stairstep():
            return f"{kind} ({len(step.tiers)})"
        case core.RateCard():
            return f"{kind} ({len(step.rates)})"
    return kind
