"""The catalogue: what is sold, in which plans, at which prices, and which price a buyer pays when.

Rules. A price list belongs to an item and a currency and may be narrowed to a plan, a customer group and a customer.
Of the lists that fit a buyer the most specific one with a version in force applies: customer before group before
plan before everybody; of a plan and the plans it extends, the nearest. A version is in force from its date until the
next one of its list; a version `as_below` hands back to the less specific list. Tax is that of the item's tax class
on the day, so a change of the tax rate begins a new version of every price under it.

Promotions act in the order of their `order` number. Free units come off the quantity before it is priced; percents,
sums and free periods come off the line's exact sum, each off what those before it left, before the one rounding.

Does not know: files (reader), storage (store), what an event costs (ratingcore).
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

from billing.catalogue.nodes import Place
from billing.catalogue.units import Unit
from ratingcore import tariff as core
from ratingcore.bands import Calendar
from ratingcore.rounding import MICRO_PER_MINOR, divide

Names = Mapping[str, str]

#: The meter of a promotion's free units; a name no catalogue can spell.
PROMOTION_METER: Final = "promotion "


@dataclass(frozen=True, slots=True)
class TaxClass:
    """rates: (in force from, part of a million of the net), ascending."""

    number: str
    names: Names
    rates: tuple[tuple[int, int], ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Item:
    """Something that is charged for. tax: its class, or empty. percentage_of: items whose sums it is a part of.

    manual: a person may set its price on an order.
    """

    number: str
    names: Names
    unit: Unit
    category: str
    tax: str
    manual: bool
    percentage_of: tuple[str, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class Pool:
    """A shared allowance's name and what it is counted in."""

    number: str
    unit: Unit
    place: Place


@dataclass(frozen=True, slots=True)
class Plan:
    """A bundle of items. grants: (pool, quantity) a period.

    extends: the plan whose items, prices and grants it has as well.
    """

    number: str
    names: Names
    items: tuple[str, ...]
    grants: tuple[tuple[str, int], ...]
    extends: str
    place: Place


@dataclass(frozen=True, slots=True)
class PriceVersion:
    """From when a price list costs what. tariff: without its tax rate; None: as the less specific list says."""

    since_s: int
    tariff: core.Tariff | None
    tax_inside: bool
    calendar: str
    step_places: tuple[Place, ...]
    place: Place


@dataclass(frozen=True, slots=True)
class PriceList:
    """The versions of an item's price in a currency for those it is narrowed to (empty: for all)."""

    item: str
    currency: str
    plan: str
    group: str
    customer: str
    versions: tuple[PriceVersion, ...]
    place: Place

    @property
    def label(self) -> str:
        """How messages call it."""
        narrowed = [f"{name} {value}" for name, value in self.selectors if value]
        return ", ".join([f"item {self.item}", self.currency, *narrowed])

    @property
    def selectors(self) -> tuple[tuple[str, str], ...]:
        """(name, value) of what narrows it, the most specific first."""
        return (("customer", self.customer), ("group", self.group), ("plan", self.plan))


@dataclass(frozen=True, slots=True)
class Promotion:
    """What comes off. One of percent_ppm, amount_micro, free_units and free_period is set.

    code: who has not given it does not get it; empty: everybody. since_s, until_s: periods that begin within.
    items, plans, groups: empty means all. periods: the order's first so many; 0: all.
    """

    number: str
    names: Names
    code: str
    since_s: int
    until_s: int | None
    items: tuple[str, ...]
    plans: tuple[str, ...]
    groups: tuple[str, ...]
    periods: int
    order: int
    keep_above_zero: bool
    place: Place
    currency: str = ""
    percent_ppm: int = 0
    amount_micro: int = 0
    free_units: int = 0
    free_period: bool = False


@dataclass(frozen=True, slots=True)
class Catalogue:
    """One version of everything, good for events in [start_s, end_s)."""

    name: str
    file: str
    currency: str
    zone: str
    start_s: int
    end_s: int
    taxes: Mapping[str, TaxClass]
    calendars: Mapping[str, tuple[Calendar, Place]]
    items: Mapping[str, Item]
    pools: Mapping[str, Pool]
    plans: Mapping[str, Plan]
    cards: Mapping[str, tuple[core.RateCard, Place]]
    used_cards: frozenset[str]
    prices: tuple[PriceList, ...]
    promotions: tuple[Promotion, ...]
    _lists: dict[tuple[str, str, str], list[PriceList]] = field(default_factory=dict, compare=False, repr=False)
    _named: dict[tuple[str, str], tuple[frozenset[str], frozenset[str]]] = field(
        default_factory=dict, compare=False, repr=False
    )
    _taxed: dict[tuple[int, int], core.Tariff] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Buyer:
    """Whose price is asked for."""

    currency: str
    plan: str = ""
    group: str = ""
    customer: str = ""


@dataclass(frozen=True, slots=True)
class InForce:
    """A segment of a resolved price: which list and version, under which tax rate. since_s: from when."""

    since_s: int
    listing: PriceList
    version: PriceVersion
    tax_ppm: int


@dataclass(frozen=True, slots=True)
class Resolved:
    """A buyer's price of an item over time. versions go with ``price.versions`` one to one.

    gaps: instants from which no list has a price, though one had before.
    """

    price: core.Price
    versions: tuple[InForce, ...]
    gaps: tuple[int, ...]


def plan_chain(catalogue: Catalogue, plan: str) -> list[str]:
    """A plan and those it extends, the nearest first; none for no plan."""
    chain: list[str] = []
    while plan and plan not in chain:
        chain.append(plan)
        plan = catalogue.plans[plan].extends
    return chain


def plan_items(catalogue: Catalogue, plan: str) -> tuple[str, ...]:
    """Items of a plan, those of the plans it extends first."""
    found = [item for number in reversed(plan_chain(catalogue, plan)) for item in catalogue.plans[number].items]
    return tuple(dict.fromkeys(found))


def plan_grants(catalogue: Catalogue, plan: str) -> dict[str, int]:
    """What a plan puts into pools each period; a nearer plan's grant replaces the farther one's."""
    grants: dict[str, int] = {}
    for number in reversed(plan_chain(catalogue, plan)):
        grants.update(catalogue.plans[number].grants)
    return grants


def resolve_price(
    catalogue: Catalogue, item: str, buyer: Buyer, free_units: Iterable[Promotion] = ()
) -> Resolved | None:
    """What an item costs this buyer over time, or None where no list ever has a price for him.

    Args:
        free_units: promotions in force whose free units come off the quantity.
    """
    ranked = _ranked_lists(catalogue, item, buyer)
    gifts = tuple(free_units)
    segments, gaps = _segments(catalogue, item, ranked)
    if not segments:
        return None
    versions = tuple(
        (one.since_s, with_free_units(_taxed(catalogue, one.version, one.tax_ppm), gifts)) for one in segments
    )
    return Resolved(core.Price(versions), tuple(segments), tuple(gaps))


def _ranked_lists(catalogue: Catalogue, item: str, buyer: Buyer) -> list[PriceList]:
    """Lists that fit, the most specific first."""
    chain = plan_chain(catalogue, buyer.plan)
    fitting = [
        one
        for customer in dict.fromkeys(("", buyer.customer))
        for one in _lists_of(catalogue).get((item, buyer.currency, customer), ())
        if one.group in ("", buyer.group) and (not one.plan or one.plan in chain)
    ]

    def rank(one: PriceList) -> tuple[bool, bool, int]:
        return bool(one.customer), bool(one.group), len(chain) - chain.index(one.plan) if one.plan else 0

    return sorted(fitting, key=rank, reverse=True)


def _lists_of(catalogue: Catalogue) -> Mapping[tuple[str, str, str], list[PriceList]]:
    """Price lists by item, currency and customer, made once: there may be one a customer."""
    if not catalogue._lists:
        for one in catalogue.prices:
            catalogue._lists.setdefault((one.item, one.currency, one.customer), []).append(one)
    return catalogue._lists


def named_customers(catalogue: Catalogue, item: str, currency: str) -> tuple[frozenset[str], frozenset[str]]:
    """(customers, groups) whom price lists of an item name."""
    key = (item, currency)
    if key not in catalogue._named:
        lists = [one for one in catalogue.prices if (one.item, one.currency) == key]
        customers, groups = (frozenset(getattr(one, name) for one in lists) - {""} for name in ("customer", "group"))
        catalogue._named[key] = customers, groups
    return catalogue._named[key]


def _segments(catalogue: Catalogue, item: str, ranked: list[PriceList]) -> tuple[list[InForce], list[int]]:
    changes = {version.since_s for one in ranked for version in one.versions}
    tax = catalogue.taxes.get(catalogue.items[item].tax)
    taxed = [since_s for since_s, _ in tax.rates] if tax else []
    first = min(changes, default=0)
    found: list[InForce] = []
    gaps: list[int] = []
    for since_s in sorted(changes | {at for at in taxed if at > first}):
        now = _in_force(ranked, since_s)
        if now is None:
            gaps += [since_s] if found else []
            continue
        one = InForce(since_s, *now, tax_ppm_at(tax, since_s) or 0)
        if not found or replace(one, since_s=found[-1].since_s) != found[-1]:
            found.append(one)
    return found, gaps


def _in_force(ranked: list[PriceList], time_s: int) -> tuple[PriceList, PriceVersion] | None:
    for one in ranked:
        begun = [version for version in one.versions if version.since_s <= time_s]
        if begun and begun[-1].tariff is not None:
            return one, begun[-1]
    return None


def tax_ppm_at(tax: TaxClass | None, time_s: int) -> int | None:
    """The rate of a tax class at an instant; None before its first date, 0 without a class."""
    if tax is None:
        return 0
    begun = [ppm for since_s, ppm in tax.rates if since_s <= time_s]
    return begun[-1] if begun else None


def _taxed(catalogue: Catalogue, version: PriceVersion, ppm: int) -> core.Tariff:
    """The version's tariff with its tax. Kept: a tariff with a long rate card takes a while to check."""
    assert version.tariff is not None  # segments hold versions with a price only
    key = (id(version), ppm)
    if key not in catalogue._taxed:
        tax = core.Tax(ppm, version.tax_inside)
        catalogue._taxed[key] = version.tariff if version.tariff.tax == tax else replace(version.tariff, tax=tax)
    return catalogue._taxed[key]


def with_free_units(tariff: core.Tariff, gifts: tuple[Promotion, ...]) -> core.Tariff:
    """The tariff with allowances for free units, after increments at its head and before everything else."""
    if not gifts:
        return tariff
    at = 0
    while at < len(tariff.steps) and isinstance(tariff.steps[at], core.Increments):
        at += 1
    allowances = [core.Allowance(gift.free_units, meter=PROMOTION_METER + gift.number) for gift in gifts]
    # Unnamed meters take their name from their place: pin them, for the places behind the allowances move.
    named = [_with_meter(number, step) for number, step in enumerate(tariff.steps)]
    return replace(tariff, steps=(*named[:at], *allowances, *named[at:]))


def _with_meter(number: int, step: core.Step) -> core.Step:
    keys = core.step_meters(number, step)
    if not keys or isinstance(step, core.Increments | core.RateCard | core.Multiplier):
        return step
    return replace(step, meter=keys[0][0][0])


def prices_as_of(catalogue: Catalogue, time_s: int) -> Catalogue:
    """The catalogue with the prices it has in force at an instant, at all times; lists that begin later are gone.

    Taxes and promotions keep their dates.
    """
    prices = []
    for one in catalogue.prices:
        begun = [version for version in one.versions if version.since_s <= time_s]
        if begun:
            first = replace(begun[-1], since_s=min(catalogue.start_s, one.versions[0].since_s))
            prices.append(replace(one, versions=(first,)))
    return replace(catalogue, prices=tuple(prices), _lists={}, _named={}, _taxed={})


# ---- promotions


def promotions_for(
    catalogue: Catalogue, item: str, buyer: Buyer, codes: Iterable[str], period_start_s: int, period_number: int
) -> list[Promotion]:
    """Promotions in force for an item's line of a period, in the order in which they act.

    Args:
        codes: codes the buyer has given.
        period_number: which period of the order it is, from 1.
    """
    given = frozenset(codes)
    chain = plan_chain(catalogue, buyer.plan)
    found = [
        one
        for one in catalogue.promotions
        if (not one.items or item in one.items)
        and (not one.plans or any(plan in one.plans for plan in chain))
        and (not one.groups or buyer.group in one.groups)
        and (not one.currency or one.currency == buyer.currency)
        and (not one.code or one.code in given)
        and one.since_s <= period_start_s
        and (one.until_s is None or period_start_s < one.until_s)
        and (not one.periods or period_number <= one.periods)
    ]
    return sorted(found, key=lambda one: (one.order, one.number))


@dataclass(frozen=True, slots=True)
class Discount:
    """What one promotion took off a line, in micro."""

    promotion: Promotion
    before_micro: int
    after_micro: int


def discounts_of(promotions: Iterable[Promotion], sum_micro: int) -> list[Discount]:
    """Take promotions off a line's exact sum, one after the other. A line of nothing has nothing taken off."""
    steps: list[Discount] = []
    for one in promotions:
        if one.free_units or sum_micro <= 0:
            continue  # free units came off the quantity
        left = _discounted(one, sum_micro)
        steps.append(Discount(one, sum_micro, left))
        sum_micro = left
    return steps


def _discounted(promotion: Promotion, sum_micro: int) -> int:
    if promotion.free_period:
        return 0
    if promotion.percent_ppm:
        return sum_micro - divide(sum_micro * promotion.percent_ppm, MICRO_PER_MINOR)
    left = sum_micro - promotion.amount_micro
    return max(left, 0) if promotion.keep_above_zero else left


# ---- cycles


def find_cycle(edges: Mapping[str, Iterable[str]]) -> list[str]:
    """A cycle among names, its first name repeated at the end, or nothing. Not recursive: chains may be long."""
    done: set[str] = set()
    for root in edges:
        path: list[str] = []
        stack: list[Iterator[str]] = [iter((root,))]
        while stack:
            name = next(stack[-1], None)
            if name is None:
                stack.pop()
                if path:
                    done.add(path.pop())
            elif name in path:
                return [*path[path.index(name) :], name]
            elif name in edges and name not in done:
                path.append(name)
                stack.append(iter(tuple(edges[name])))
    return []


def percentage_order(catalogue: Catalogue, items: Iterable[str]) -> list[str]:
    """Items in an order in which every percentage comes after what it is a percentage of."""
    todo = list(dict.fromkeys(items))
    ordered: list[str] = []
    while todo:
        ready = [item for item in todo if not set(catalogue.items[item].percentage_of) & set(todo) - {item}]
        ordered += ready
        todo = [item for item in todo if item not in ready]
        assert ready, "the reader refuses cycles"
    return ordered


def is_ascending(values: Iterable[int]) -> bool:
    """Each above the one before."""
    return all(before < after for before, after in pairwise(values))
