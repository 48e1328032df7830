"""The linter of catalogues: what will surprise a customer or stop a bill, each finding with an input that shows it.

Rules. ``check_catalogue`` looks at a catalogue that was read without error (which has already refused gaps, overlaps
and references to nothing). Amounts in examples come from the judge, never from arithmetic of this module. An error
forbids publishing: some order could not be billed. A warning asks whether it is meant.

Does not know: how findings are shown.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

from billing.catalogue.limits import limit_findings
from billing.catalogue.model import (
    Buyer,
    Catalogue,
    Item,
    PriceList,
    PriceVersion,
    Promotion,
    Resolved,
    discounts_of,
    plan_chain,
    plan_grants,
    plan_items,
    promotions_for,
    resolve_price,
    tax_ppm_at,
)
from billing.catalogue.nodes import Place, Problem, Severity
from billing.catalogue.units import Unit, format_date, format_quantity
from billing.wording import format_price
from ratingcore import lint, reference
from ratingcore import tariff as core
from ratingcore.bands import DAYS, band_at, zone_of

Findings = Iterator[Problem]

_CHARGING = core.Curve | core.Flat | core.Percentage | core.RateCard
_TIERED = (core.Graduated, core.Volume, core.Stairstep)


def check_catalogue(catalogue: Catalogue) -> list[Problem]:
    """All findings, errors first, then in order of place."""
    found = [
        *limit_findings(catalogue),
        *_price_findings(catalogue),
        *_tax_findings(catalogue),
        *_version_findings(catalogue),
        *_card_findings(catalogue),
        *_pool_findings(catalogue),
        *_promotion_findings(catalogue),
        *_unused_findings(catalogue),
    ]
    unique = list(dict.fromkeys(found))
    return sorted(unique, key=lambda one: (one.severity != Severity.ERROR, one.place.file, one.place.line, one.code))


def _warning(place: Place, code: str, message: str, example: str, hint: str = "") -> Problem:
    return Problem(place, message, hint, Severity.WARNING, code, example)


def _error(place: Place, code: str, message: str, example: str, hint: str = "") -> Problem:
    return Problem(place, message, hint, Severity.ERROR, code, example)


# ---- the judge's word


def cost_micro(tariff: core.Tariff, events: Iterable[reference.Event], pools: tuple[str, ...] = ()) -> int:
    """What a line with these events comes to, its close included, before rounding. Pools are empty."""
    given = list(events)
    times = [event.time_s for event in given] or [0]
    price = core.Price(((min(times), tariff),))
    catalogue = core.Catalogue((price,), min(times), max(times) + core.MAX_DURATION_S, pools)
    lines = [reference.Line(0, 0)]
    rated, state = reference.rate_events(catalogue, lines, reference.State(), given)
    closed, _ = reference.close_line(catalogue, lines, state, 0, max(times))
    return sum(one.amount_micro for one in rated) + closed.amount_micro


def _pools_of(tariff: core.Tariff) -> tuple[str, ...]:
    return tuple({step.pool: 0 for step in tariff.steps if isinstance(step, core.Allowance) and step.pool})


# ---- prices and taxes


def buyers_of(catalogue: Catalogue, item: str) -> list[tuple[Buyer, Place]]:
    """Every kind of buyer whose price of an item may differ, and where his entitlement is written."""
    lists = [one for one in catalogue.prices if one.item == item]
    narrowed = {(one.group, one.customer): one.place for one in lists if one.group or one.customer}
    found = []
    for plan in (number for number in catalogue.plans if item in plan_items(catalogue, number)):
        for currency in sorted(_currencies_of(catalogue, plan)):
            found.append((Buyer(currency, plan), catalogue.plans[plan].place))
            found += [(Buyer(currency, plan, *who), place) for who, place in narrowed.items()]
    found += [(Buyer(one.currency, one.plan, one.group, one.customer), one.place) for one in lists]
    return found


def _currencies_of(catalogue: Catalogue, plan: str) -> set[str]:
    chain = plan_chain(catalogue, plan)
    return {one.currency for one in catalogue.prices if one.plan in chain} or {catalogue.currency}


def _price_findings(catalogue: Catalogue) -> Findings:
    starts = {
        (plan, currency): _plan_start(catalogue, plan, currency)
        for plan in catalogue.plans
        for currency in _currencies_of(catalogue, plan)
    }
    for item in catalogue.items.values():
        buyers = buyers_of(catalogue, item.number)
        if not buyers and not item.manual:
            yield _error(item.place, "price-missing", f"item {item.number} has no price", f"any use of {item.number}")
        for buyer, place in buyers:
            begins = starts.get((buyer.plan, buyer.currency), catalogue.start_s)
            yield from _price_findings_of(catalogue, item, buyer, place, begins)


def _price_findings_of(catalogue: Catalogue, item: Item, buyer: Buyer, place: Place, begins: int) -> Findings:
    shown = ", ".join(f"{name} {value}" for name, value in _buyer_words(buyer))
    try:
        resolved = resolve_price(catalogue, item.number, buyer)
    except ValueError as error:
        yield _error(place, "meter-conflict", f"prices of item {item.number} do not fit together: {error}", shown)
        return
    gifts = [one for one in catalogue.promotions if one.free_units and item.number in one.items]
    try:
        resolve_price(catalogue, item.number, buyer, gifts)
    except ValueError as error:
        message = f"item {item.number} cannot have all its promotions of free units at once: {error}"
        yield _error(gifts[0].place, "meter-conflict", message, shown, "fewer steps, or fewer promotions")
    if resolved is None:
        if not item.manual:
            message = f"item {item.number} has no price in {buyer.currency} for {shown}"
            date = format_date(catalogue.start_s, catalogue.zone)
            hint = f"add a price of {item.number} with currency: {buyer.currency}, or take the item out of the plan"
            yield _error(place, "price-missing", message, f"{item.number} used on {date}, {shown}", hint)
        return
    first = resolved.versions[0]
    if buyer.plan and first.since_s > begins and not item.manual:
        message = (
            f"item {item.number} of plan {buyer.plan} has no price before {format_date(first.since_s, catalogue.zone)}"
        )
        date = format_date(begins, catalogue.zone)
        yield _error(
            place, "price-missing", message, f"{item.number} used on {date}, {shown}", "date the price earlier"
        )
    for gap_s in resolved.gaps:
        date = format_date(gap_s, catalogue.zone)
        message = f"from {date} no list has a price of item {item.number} for {shown}"
        hint = "as_below hands back to a less specific list, which must have a price then"
        yield _error(place, "price-missing", message, f"{item.number} used on {date}, {shown}", hint)


def _buyer_words(buyer: Buyer) -> Iterator[tuple[str, str]]:
    for name in ("plan", "group", "customer"):
        if getattr(buyer, name):
            yield name, getattr(buyer, name)
    yield "currency", buyer.currency


def _plan_start(catalogue: Catalogue, plan: str, currency: str) -> int:
    """When a plan can first be used in a currency: the first date any of its items has a price of the plan's own."""
    chain = plan_chain(catalogue, plan)
    dates = [
        version.since_s
        for one in catalogue.prices
        if one.plan in chain and one.currency == currency and not one.group and not one.customer
        for version in one.versions
    ]
    return max(min(dates, default=catalogue.start_s), catalogue.start_s)


def _tax_findings(catalogue: Catalogue) -> Findings:
    for one in catalogue.prices:
        tax = catalogue.taxes.get(catalogue.items[one.item].tax)
        for version in one.versions:
            if tax is not None and tax_ppm_at(tax, max(version.since_s, catalogue.start_s)) is None:
                date = format_date(max(version.since_s, catalogue.start_s), catalogue.zone)
                message = f"tax class {tax.number} has no rate on {date}, when a price of item {one.item} begins"
                example = f"{one.item} used on {date}"
                yield _error(version.place, "tax-missing", message, example, f"give {tax.number} a rate from {date}")


# ---- steps


def _version_findings(catalogue: Catalogue) -> Findings:
    for one in catalogue.prices:
        for version in one.versions:
            if version.tariff is not None:
                unit = catalogue.items[one.item].unit
                yield from _core_findings(one, version, version.tariff, unit)
                yield from _unreachable_tiers(one, version, version.tariff, unit)
                yield from _free_bands(one, version, version.tariff, unit)


def _core_findings(one: PriceList, version: PriceVersion, tariff: core.Tariff, unit: Unit) -> Findings:
    """What the core knows to be odd about steps. Rate cards are looked at by themselves, once and not per price."""
    steps = [replace(step, rates=step.rates[:1]) if isinstance(step, core.RateCard) else step for step in tariff.steps]
    price = core.Price(((version.since_s, replace(tariff, steps=tuple(steps))),))
    tables = core.Catalogue((price,), version.since_s, version.since_s + 1, _pools_of(tariff))
    for finding in lint.findings_of(tables):
        place = version.step_places[finding.step] if finding.step >= 0 else version.place
        match finding.rule:
            case "less for more":
                yield _falling_total(one, place, tariff.steps[finding.step], finding, unit)
            case "tier never reached":
                yield _warning(place, "tier-unreachable", f"{one.label}: {finding.text}", "any use")
            case "step changes nothing":
                used = reference.Event(0, version.since_s, unit.steps)
                example = f"{format_quantity(unit.steps, unit)} cost {format_price(_bare_cost(tariff, used))} with it"
                without = [step for number, step in enumerate(steps) if number != finding.step]
                if without:
                    bare = _bare_cost(replace(tariff, steps=tuple(without)), used)
                    example += f", {format_price(bare)} without it"
                yield _warning(place, "step-idle", f"{one.label}: step {finding.step + 1}, {finding.text}", example)


def _bare_cost(tariff: core.Tariff, event: reference.Event) -> int:
    return cost_micro(tariff, [event], _pools_of(tariff))


def _falling_total(one: PriceList, place: Place, step: core.Step, finding: lint.Finding, unit: Unit) -> Problem:
    alone = core.Tariff((replace(step, bands=()),) if isinstance(step, core.Volume | core.Stairstep) else (step,))
    shown = [
        f"{format_quantity(event.quantity, unit)} cost {format_price(cost_micro(alone, [event]))}"
        for event in finding.examples
    ]
    hint = "graduated prices each slice by itself and never falls"
    return _warning(place, "total-falls", f"{one.label}: more costs less at the end of a tier", ", ".join(shown), hint)


def _unreachable_tiers(one: PriceList, version: PriceVersion, tariff: core.Tariff, unit: Unit) -> Findings:
    for number, step in enumerate(tariff.steps):
        if not isinstance(step, _TIERED):
            continue
        place = version.step_places[number]
        grid = next((s for s in tariff.steps[:number] if isinstance(s, core.Increments) and not s.bands), None)
        if grid is not None and step.scope == core.Scope.EVENT:
            yield from _skipped_tiers(one, place, step, grid, unit)
        cap = _cap_over(tariff, number)
        if cap is not None:
            yield from _capped_tiers(one, place, step, cap, unit)


def _skipped_tiers(
    one: PriceList, place: Place, step: core.Graduated | core.Volume | core.Stairstep, grid: core.Increments, unit: Unit
) -> Findings:
    """Tiers of an event that fall between two increments."""
    below = 0
    for number, tier in enumerate(step.tiers, 1):
        reached = reference.increments_of(grid, core.MAX_QUANTITY, max(1, below + 1))
        if tier.upto is not None and reached > tier.upto:
            message = f"{one.label}: no event ends in tier {number}, for increments step over it"
            asked, counted = format_quantity(below + 1, unit), format_quantity(reached, unit)
            yield _warning(place, "tier-unreachable", message, f"an event of {asked} counts as {counted}")
        below = tier.upto or below


def _cap_over(tariff: core.Tariff, number: int) -> core.Cap | None:
    """The cap that holds down what this step charges, where nothing between them lowers it."""
    step = tariff.steps[number]
    for later in tariff.steps[number + 1 :]:
        if isinstance(later, core.Multiplier):
            return None
        if isinstance(later, core.Cap) and not later.bands and not core.bands_of(step):
            return later if later.scope == core.scope_of(step) else None
    return None


def _capped_tiers(
    one: PriceList, place: Place, step: core.Graduated | core.Volume | core.Stairstep, cap: core.Cap, unit: Unit
) -> Findings:
    """Tiers that begin where the cap was reached already, and never fall below it again."""
    starts = [(tier.upto or 0) + 1 for tier in step.tiers[:-1]]
    costs = [reference.total_micro(reference.curve_total(step, start)[0]) for start in starts]
    for number, start in enumerate(starts):
        ended = reference.total_micro(reference.curve_total(step, start - 1)[0])
        if ended >= cap.maximum_micro and min(costs[number:]) >= cap.maximum_micro:
            message = (
                f"{one.label}: tier {number + 2} is never paid, the cap {format_price(cap.maximum_micro)} comes first"
            )
            example = f"{format_quantity(start - 1, unit)} cost {format_price(ended)} before the cap"
            yield _warning(place, "tier-unreachable", message, example)
            return  # so are those above it; one example shows them all


def _free_bands(one: PriceList, version: PriceVersion, tariff: core.Tariff, unit: Unit) -> Findings:
    """Bands in which nothing charges for use, while something does in others."""
    charging = [step for step in tariff.steps if isinstance(step, _CHARGING) and not _is_period_fee(step)]
    if tariff.calendar is None or not charging or any(not core.bands_of(step) for step in charging):
        return
    covered = {band for step in charging for band in core.bands_of(step)}
    for band in tariff.calendar.bands:
        if band not in covered:
            time_s = _instant_in(tariff, band, version.since_s)
            if time_s is None:
                continue
            cost = cost_micro(tariff, [reference.Event(0, time_s, unit.steps, 0, "7")], _pools_of(tariff))
            local = datetime.fromtimestamp(time_s, UTC).astimezone(zone_of(tariff.calendar.zone))
            message = f"{one.label}: no step charges for use in band {band!r}"
            example = f"{format_quantity(unit.steps, unit)} on {local:%a %Y-%m-%d %H:%M} cost {format_price(cost)}"
            yield _warning(version.place, "band-free", message, example, "write a step with price: 0 if it is free")


def _is_period_fee(step: core.Step) -> bool:
    return isinstance(step, core.Flat) and step.scope == core.Scope.PERIOD


def _instant_in(tariff: core.Tariff, band: str, since_s: int) -> int | None:
    """An instant of a band within eight days, to the quarter of an hour; holidays may hide one."""
    calendar = tariff.calendar
    assert calendar is not None
    for quarter in range(len(DAYS) * 96):
        time_s = since_s + quarter * 900
        if calendar.bands[band_at(calendar, time_s)] == band:
            return time_s
    return None


# ---- rate cards


def _card_findings(catalogue: Catalogue) -> Findings:
    for number, (card, place) in catalogue.cards.items():
        prefixes = {rate.prefix for rate in card.rates}
        hidden = sorted(_hidden_prefixes(prefixes))
        if hidden:
            called = hidden[0].ljust(core.MAX_PREFIX_DIGITS, "0")
            found = reference.longest_prefix(card.rates, called)
            reached = card.rates[found].prefix if found is not None else ""
            shown = (
                f"prefix {hidden[0]!r} is"
                if len(hidden) == 1
                else f"{len(hidden)} prefixes, {hidden[0]!r} for one, are"
            )
            message = f"rate card {number}: {shown} never the longest, for longer ones cover every number"
            yield _warning(place, "prefix-unreachable", message, f"a call to {called} is rated by prefix {reached!r}")
        missing = _missing_prefix(prefixes)
        if missing and reference.longest_prefix(card.rates, missing) is None:
            message = f"rate card {number}: some numbers have no rate; a call to one cannot be billed"
            hint = 'a rate with prefix "" matches every other number'
            yield _warning(place, "prefix-missing", message, f"a call to {missing}...", hint)


def _hidden_prefixes(prefixes: set[str]) -> set[str]:
    """Prefixes all of whose ten continuations are covered by longer ones, from the longest up.

    A number that ends with the prefix itself still matches it: telephone numbers do not, so it is a warning.
    """
    covered: set[str] = set()
    hidden: set[str] = set()
    by_length = sorted(prefixes, key=len, reverse=True)
    below = {prefix[:length] for prefix in prefixes for length in range(len(prefix))}
    for stem in sorted(below | set(by_length), key=len, reverse=True):
        if all(stem + digit in covered for digit in "0123456789"):
            if stem in prefixes:
                hidden.add(stem)
            covered.add(stem)
        elif stem in prefixes:
            covered.add(stem)
    return hidden


def _missing_prefix(prefixes: set[str]) -> str:
    """Digits that begin no rate's prefix and follow none, the shortest; empty where every number has a rate."""
    if "" in prefixes:
        return ""
    stems = {prefix[:length] for prefix in prefixes for length in range(len(prefix))}
    for stem in sorted(stems, key=lambda one: (len(one), one)):
        if any(stem[:length] in prefixes for length in range(len(stem) + 1)):
            continue
        for digit in "1234567890":
            if stem + digit not in prefixes and stem + digit not in stems:
                return stem + digit
    return ""


# ---- pools and promotions


def _pool_findings(catalogue: Catalogue) -> Findings:
    for plan in catalogue.plans:
        grants = plan_grants(catalogue, plan)
        for item in plan_items(catalogue, plan):
            for resolved in _resolutions(catalogue, item, plan):
                for pool in sorted({name for one in resolved.versions for name in _pools_of_version(one.version)}):
                    if pool not in grants:
                        message = f"plan {plan} puts nothing into pool {pool}, which item {item} draws on"
                        example = f"the first {catalogue.items[item].unit.name} of {item} in plan {plan} is charged"
                        yield _warning(catalogue.plans[plan].place, "pool-empty", message, example)


def _pools_of_version(version: PriceVersion) -> tuple[str, ...]:
    return _pools_of(version.tariff) if version.tariff else ()


def _resolutions(catalogue: Catalogue, item: str, plan: str) -> Iterator[Resolved]:
    """An item's prices in a plan, in each currency; what does not fit together has been told elsewhere."""
    for currency in sorted(_currencies_of(catalogue, plan)):
        try:
            resolved = resolve_price(catalogue, item, Buyer(currency, plan))
        except ValueError:
            continue
        if resolved is not None:
            yield resolved


def _promotion_findings(catalogue: Catalogue) -> Findings:
    for promotion in catalogue.promotions:
        plans = [plan for plan in catalogue.plans if _concerns(catalogue, promotion, plan)]
        if promotion.plans and not plans:
            message = f"promotion {promotion.number} meets none of its items in its plans"
            yield _warning(promotion.place, "promotion-idle", message, f"any order of {', '.join(promotion.plans)}")
        if promotion.amount_micro:
            yield from _below_zero(catalogue, promotion, plans)


def _concerns(catalogue: Catalogue, promotion: Promotion, plan: str) -> bool:
    items = plan_items(catalogue, plan)
    in_plan = not promotion.plans or any(one in promotion.plans for one in plan_chain(catalogue, plan))
    return in_plan and (not promotion.items or any(item in promotion.items for item in items))


def _below_zero(catalogue: Catalogue, promotion: Promotion, plans: list[str]) -> Findings:
    """The smallest lines a month may have: no use at all, and one unit of it."""
    group = promotion.groups[0] if promotion.groups else ""
    codes = [one.code for one in catalogue.promotions if one.code]
    start_s = max(promotion.since_s, catalogue.start_s)
    for plan in plans or [""]:
        buyer = Buyer(promotion.currency, plan, group)
        for item in plan_items(catalogue, plan) if plan else promotion.items:
            acting = promotions_for(catalogue, item, buyer, codes, start_s, 1)
            if promotion not in acting:
                continue
            found = _smallest_line(catalogue, item, buyer, start_s)
            if found is None:
                continue
            used, cost = found
            steps = discounts_of(acting, cost)
            if steps and steps[-1].after_micro < 0:
                unit = catalogue.items[item].unit
                message = f"promotion {promotion.number} can drive the line of item {item} below zero"
                where = f" in plan {plan}" if plan else ""
                example = (
                    f"{format_quantity(used, unit)} of {item}{where} cost {format_price(cost)}, "
                    f"after promotions {format_price(steps[-1].after_micro)}"
                )
                hint = "keep_above_zero: true takes no more than the line holds"
                yield _warning(promotion.place, "below-zero", message, example, hint)
                return


def _smallest_line(catalogue: Catalogue, item: str, buyer: Buyer, time_s: int) -> tuple[int, int] | None:
    """(quantity, cost in micro) of the smallest line above zero among a few small ones."""
    try:
        resolved = resolve_price(catalogue, item, buyer)
    except ValueError:
        return None  # told elsewhere
    if resolved is None:
        return None
    tariff = [tariff for since_s, tariff in resolved.price.versions if since_s <= time_s][-1:]
    steps = catalogue.items[item].unit.steps
    found = []
    for one in tariff:
        prefix = next((step.rates[0].prefix for step in one.steps if isinstance(step, core.RateCard)), "")
        for quantity in (0, steps):
            events = [reference.Event(0, time_s, quantity, 0, prefix)] if quantity else []
            cost = cost_micro(one, events, _pools_of(one))
            found += [(quantity, cost)] if cost > 0 else []
    return min(found, key=lambda pair: pair[1], default=None)


# ---- what nothing refers to


def _unused_findings(catalogue: Catalogue) -> Findings:
    calendars = {version.calendar for one in catalogue.prices for version in one.versions}
    taxes = {item.tax for item in catalogue.items.values()}
    pools = {pool for one in catalogue.prices for version in one.versions for pool in _pools_of_version(version)}
    for what, defined, used in (
        ("tax class", {name: tax.place for name, tax in catalogue.taxes.items()}, taxes),
        ("calendar", {name: place for name, (_, place) in catalogue.calendars.items()}, calendars),
        ("pool", {name: pool.place for name, pool in catalogue.pools.items()}, pools),
        ("rate card", {name: place for name, (_, place) in catalogue.cards.items()}, catalogue.used_cards),
    ):
        for name in sorted(set(defined) - set(used)):
            yield _warning(defined[name], "unused", f"nothing refers to {what} {name}", f"{what} {name}")
