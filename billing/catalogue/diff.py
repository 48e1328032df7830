"""What changes between two catalogues, for whom and from when.

Rules. Prices are compared as buyers see them, not as files write them: for every kind of buyer of either catalogue the
tariffs in force are laid side by side over time, so moving a price from everybody to all plans is no change. A change
of price carries an example from the judge, a quantity that costs something else. Instants tell whether the past would
be re-written.

Does not know: how many customers a plan has.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from billing.catalogue.linter import buyers_of, cost_micro
from billing.catalogue.model import Buyer, Catalogue, Promotion, plan_grants, plan_items, resolve_price
from billing.catalogue.nodes import Place
from billing.catalogue.tables import is_recurring
from billing.catalogue.units import Unit, format_date, format_quantity
from billing.wording import format_price
from ratingcore import reference
from ratingcore import tariff as core

_NOWHERE = Place("", 0)
#: Fields of steps, tiers and rates that count steps of the item's unit.
_QUANTITIES = frozenset({"per", "free", "size", "quantity", "first", "next", "grace", "upto"})


@dataclass(frozen=True, slots=True)
class Change:
    """One change.

    whom: circles of buyers. since_s, until_s: for use in which time; None: not bound to one. plan: whose contents
    change, which no date holds back.
    """

    what: str
    change: str
    whom: str = ""
    since_s: int | None = None
    until_s: int | None = None
    example: str = ""
    plan: str = ""


def diff_catalogues(old: Catalogue, new: Catalogue) -> list[Change]:
    """All changes from ``old`` to ``new``."""
    return [
        *_head_changes(old, new),
        *_records("tax class", old.taxes, new.taxes),
        *_records("item", old.items, new.items),
        *_plan_changes(old, new),
        *_price_changes(old, new),
        *_promotion_changes(old, new),
    ]


def _head_changes(old: Catalogue, new: Catalogue) -> Iterator[Change]:
    for name in ("currency", "zone"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            yield Change(name, f"{before} -> {after}", "everybody", min(old.start_s, new.start_s))
    spans = [(format_date(one.start_s, one.zone), format_date(one.end_s, one.zone)) for one in (old, new)]
    if old.start_s != new.start_s or new.end_s < old.end_s:  # lasting longer changes nothing there was
        before, after = (f"{start} to {end}" for start, end in spans)
        first = min(old.start_s, new.start_s) if old.start_s != new.start_s else min(old.end_s, new.end_s)
        yield Change("valid", f"{before} -> {after}", "everybody", first)


def _records(what: str, old: Any, new: Any) -> Iterator[Change]:
    """Named records that came, went or changed; what they cost is told with the prices."""
    for number in sorted(old.keys() | new.keys()):
        before, after = old.get(number), new.get(number)
        if before is None or after is None:
            yield Change(f"{what} {number}", "added" if before is None else "removed")
        elif replace(before, place=_NOWHERE) != replace(after, place=_NOWHERE):
            yield Change(f"{what} {number}", _fields_changed(before, after))


def _fields_changed(before: Any, after: Any) -> str:
    names = [name for name in before.__slots__ if name != "place" and getattr(before, name) != getattr(after, name)]
    return f"changed: {', '.join(names)}"


def _plan_changes(old: Catalogue, new: Catalogue) -> Iterator[Change]:
    """What a plan holds has no dates: it acts on every bill made after the load."""
    for number in sorted(old.plans.keys() | new.plans.keys()):
        before, after = old.plans.get(number), new.plans.get(number)
        whom = f"plan {number}"
        if before is None or after is None:
            yield Change(whom, "added") if before is None else Change(whom, "removed", whom, plan=number)
            continue
        if before.names != after.names:
            yield Change(whom, "changed: names", whom)
        had, has = set(plan_items(old, number)), set(plan_items(new, number))
        yield from (Change(whom, f"item {item} added", whom, plan=number) for item in sorted(has - had))
        yield from (Change(whom, f"item {item} removed", whom, plan=number) for item in sorted(had - has))
        grants, now = plan_grants(old, number), plan_grants(new, number)
        for pool in sorted(grants.keys() | now.keys()):
            units = [(one.pools.get(pool) or other.pools[pool]).unit for one, other in ((old, new), (new, old))]
            finest = max(units, key=lambda unit: unit.steps)
            counted = [
                one.get(pool, 0) * (finest.steps // unit.steps) for one, unit in zip((grants, now), units, strict=True)
            ]
            if counted[0] != counted[1] or units[0].name != units[1].name:
                shown = " -> ".join(
                    format_quantity(one.get(pool, 0), unit) for one, unit in zip((grants, now), units, strict=True)
                )
                yield Change(whom, f"pool {pool}: {shown}", whom, plan=number)


def _promotion_changes(old: Catalogue, new: Catalogue) -> Iterator[Change]:
    before = {one.number: one for one in old.promotions}
    after = {one.number: one for one in new.promotions}
    for change in _records("promotion", before, after):
        number = change.what.removeprefix("promotion ")
        both = [one[number] for one in (after, before) if number in one]
        yield replace(change, since_s=min(one.since_s for one in both), whom=_promoted(both[0]))


def _promoted(promotion: Promotion) -> str:
    words = [
        f"{name} {', '.join(values)}"
        for name, values in (("plans", promotion.plans), ("groups", promotion.groups))
        if values
    ]
    return "; ".join(words) or "everybody"


# ---- prices


def _price_changes(old: Catalogue, new: Catalogue) -> Iterator[Change]:
    """Changes of price; one that is the same for several circles of buyers is told once, with all of them."""
    for item in sorted(old.items.keys() & new.items.keys()):
        circles: dict[Change, list[str]] = {}
        for buyer in _buyers(old, new, item):
            if not buyer.plan or (buyer.plan in old.plans and buyer.plan in new.plans):
                for change in _changes_for(old, new, item, buyer):
                    circles.setdefault(change, []).append(_circle(buyer))
        yield from (replace(change, whom="; ".join(whom)) for change, whom in circles.items())


def _circle(buyer: Buyer) -> str:
    words = [f"{name} {getattr(buyer, name)}" for name in ("plan", "group", "customer") if getattr(buyer, name)]
    return ", ".join(words) or "everybody without a plan"


def _buyers(old: Catalogue, new: Catalogue, item: str) -> list[Buyer]:
    found = [buyer for one in (old, new) for buyer, _ in buyers_of(one, item)]
    return sorted(set(found), key=lambda one: (one.currency, one.plan, one.group, one.customer))


def _changes_for(old: Catalogue, new: Catalogue, item: str, buyer: Buyer) -> Iterator[Change]:
    before, after = (_timeline(one, item, buyer) for one in (old, new))
    had, unit = old.items[item].unit, new.items[item].unit
    if had.name == unit.name and had.steps != unit.steps:
        # Counted in other steps of the same unit: both are laid side by side in the finer ones.
        finest = max(had, unit, key=lambda one: one.steps)
        before, after = _in_steps(before, finest.steps // had.steps), _in_steps(after, finest.steps // unit.steps)
        unit = finest
    for since_s, until_s, was, now in _differences(before, after):
        what = f"item {item}, {buyer.currency}"
        since_shown = format_date(since_s, new.zone)
        if was is None or now is None:
            change = "has a price" if was is None else "has no price any more"
        else:
            change = "costs something else"
        example = _example(was, now, since_s, unit)
        yield Change(what, f"{change} from {since_shown}", "", since_s, until_s, example)


def _timeline(catalogue: Catalogue, item: str, buyer: Buyer) -> list[tuple[int, core.Tariff | None]]:
    resolved = resolve_price(catalogue, item, buyer)
    if resolved is None:
        return []
    known: list[tuple[int, core.Tariff | None]] = list(resolved.price.versions)
    return sorted([*known, *((gap_s, None) for gap_s in resolved.gaps)], key=lambda one: one[0])


def _in_steps(timeline: list[tuple[int, core.Tariff | None]], times: int) -> list[tuple[int, core.Tariff | None]]:
    """The same prices for steps so many times finer."""
    return [(since_s, tariff and _finer(tariff, times)) for since_s, tariff in timeline] if times > 1 else timeline


def _finer(tariff: core.Tariff, times: int) -> core.Tariff:
    try:
        return replace(tariff, steps=tuple(_finer_record(step, times) for step in tariff.steps))
    except ValueError:
        return tariff  # a quantity passes its limit in finer steps: then the difference is told


def _finer_record(record: Any, times: int) -> Any:
    """A step, a tier or a rate with its quantities in finer steps."""
    changed: dict[str, Any] = {
        one.name: getattr(record, one.name) * times
        for one in fields(record)
        if one.name in _QUANTITIES and getattr(record, one.name) is not None
    }
    for name in ("tiers", "rates"):
        if hasattr(record, name):
            changed[name] = tuple(_finer_record(one, times) for one in getattr(record, name))
    return replace(record, **changed)


def _differences(
    before: list[tuple[int, core.Tariff | None]], after: list[tuple[int, core.Tariff | None]]
) -> Iterator[tuple[int, int | None, core.Tariff | None, core.Tariff | None]]:
    """Stretches of time in which the tariffs differ: (from, until, was, is)."""
    edges = sorted({since_s for since_s, _ in [*before, *after]})
    for number, since_s in enumerate(edges):
        was, now = _at(before, since_s), _at(after, since_s)
        if was is not now and was != now:
            yield since_s, edges[number + 1] if number + 1 < len(edges) else None, was, now


def _at(timeline: list[tuple[int, core.Tariff | None]], time_s: int) -> core.Tariff | None:
    begun = [tariff for since_s, tariff in timeline if since_s <= time_s]
    return begun[-1] if begun else None


def _example(was: core.Tariff | None, now: core.Tariff | None, time_s: int, unit: Unit) -> str:
    """A quantity that costs something else, with both costs."""
    for quantity, destination in _samples([one for one in (was, now) if one is not None], unit):
        costs = [None if one is None else _cost(one, time_s, quantity, destination) for one in (was, now)]
        if costs[0] != costs[1]:
            shown = ["no price" if cost is None else format_price(cost) for cost in costs]
            to = f" to {destination}" if destination else ""
            return f"{format_quantity(quantity, unit)}{to}: {shown[0]} -> {shown[1]}"
    if was is not None and now is not None and was.tax != now.tax:
        rates = [
            f"{tariff.tax.rate_ppm / 10_000:g} % {'inside' if tariff.tax.inside else 'outside'}"
            for tariff in (was, now)
        ]
        return f"tax {rates[0]} -> {rates[1]}"
    return ""


def _cost(tariff: core.Tariff, time_s: int, quantity: int, destination: str) -> int:
    pools = tuple({step.pool: 0 for step in tariff.steps if isinstance(step, core.Allowance) and step.pool})
    events = [reference.Event(0, time_s, quantity, 0, destination)] if quantity else [reference.Event(0, time_s, 0)]
    return cost_micro(tariff, events, pools)


def _samples(tariffs: Iterable[core.Tariff], unit: Unit) -> Iterator[tuple[int, str]]:
    """(quantity, destination) pairs that may tell tariffs apart: round ones, ends of tiers, allowances, prefixes."""
    quantities = {0, *(unit.steps * 10**power for power in range(7))}
    rates: list[set[core.Rate]] = []
    for tariff in tariffs:
        for step in tariff.steps:
            if isinstance(step, core.Graduated | core.Volume | core.Stairstep):
                quantities |= {(tier.upto or 0) + 1 for tier in step.tiers[:50]}
            if isinstance(step, core.Allowance) and step.quantity:
                quantities |= {step.quantity + unit.steps, step.quantity + 1}
            if isinstance(step, core.RateCard):
                rates.append(set(step.rates))
    destinations = {""}
    if rates:
        changed = rates[0] ^ rates[-1] if len(rates) > 1 else rates[0]
        destinations = {*sorted(rate.prefix for rate in changed)[:5], min(rate.prefix for rate in rates[0])}
    for quantity in sorted(one for one in quantities if one <= core.MAX_QUANTITY):
        for destination in sorted(destinations):
            yield quantity, destination


def changes_of_the_past(changes: Iterable[Change], now_s: int) -> list[Change]:
    """Changes that act on bills for use before ``now_s``."""
    return [one for one in changes if one.since_s is not None and one.since_s < now_s]


def plans_changed_at_once(changes: Iterable[Change]) -> list[str]:
    """Plans whose contents differ. These have no dates: every bill made after the load is made with the new ones."""
    return sorted({one.plan for one in changes if one.plan})


def charged_otherwise(old: Catalogue, new: Catalogue) -> list[str]:
    """Items that some buyer pays by the period in one catalogue and by use in the other.

    What is paid by the period may be billed in advance, what is paid by use never is: an item that turns would be
    billed again at the end of a period that was paid in advance, or not at all.
    """
    turned = {
        item
        for item in old.items.keys() & new.items.keys()
        for buyer, _ in [*buyers_of(old, item), *buyers_of(new, item)]
        if None not in (kinds := {_is_by_period(one, item, buyer) for one in (old, new)}) and len(kinds) > 1
    }
    return sorted(turned)


def _is_by_period(catalogue: Catalogue, item: str, buyer: Buyer) -> bool | None:
    """None for a buyer who has no price of the item."""
    if buyer.plan and buyer.plan not in catalogue.plans:
        return None
    items = {item, *(plan_items(catalogue, buyer.plan) if buyer.plan else ())}
    resolved = {one: resolve_price(catalogue, one, buyer) for one in items}
    return is_recurring(catalogue, item, resolved) if resolved[item] is not None else None
