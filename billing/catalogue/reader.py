"""A catalogue's YAML nodes to records, strictly: whatever is not understood is an error with file, line and a hint.

Rules. Each piece (an item, a price version, a step) is read by itself, so that one mistake hides no other; up to
MAX_PROBLEMS are told at once. Names must be defined somewhere in the file, in any order. Files of rate cards lie
beside the catalogue. Nothing is returned unless everything was right.

Does not know: whether a tariff is wise (linter), how files are opened (the caller says), single sections that have a
module of their own (prices, promotions, calendars), values (reading).
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final, TypeVar

from billing.catalogue.calendars import read_calendar
from billing.catalogue.model import (
    Catalogue,
    Item,
    Plan,
    Pool,
    PriceList,
    Promotion,
    TaxClass,
    find_cycle,
    is_ascending,
)
from billing.catalogue.nodes import (
    CatalogueError,
    Fields,
    Node,
    NodeRefused,
    Place,
    Problem,
    Scalar,
    Table,
    read_yaml,
    text_of,
)
from billing.catalogue.prices import read_price_list
from billing.catalogue.promotions import read_promotion
from billing.catalogue.reading import (
    Beside,
    CatalogueReading,
    check_zone,
    known_name,
    known_names,
    read_boolean,
    read_identifier,
    read_instant,
    read_names,
    read_ppm,
    read_unit,
    read_value,
)
from billing.catalogue.steps import Card, read_card_rates
from billing.catalogue.units import Unit, check_currency, parse_quantity
from ratingcore import tariff as core

FORMAT: Final = "1"
DEFAULT_YEARS_S: Final = 10 * 366 * 86_400
SECTIONS: Final = ("taxes", "calendars", "items", "pools", "rate_cards", "plans", "prices", "promotions")

T = TypeVar("T")


def read_catalogue(file: str, data: bytes, beside: Beside) -> Catalogue:
    """The catalogue in a YAML file.

    Args:
        file: what messages call it.
        beside: the bytes of a file that lies beside it, by its plain name; OSError where there is none.

    Raises:
        CatalogueError: all that is wrong with it.
    """
    reading = CatalogueReading(file, beside)
    root = read_yaml(file, data)
    try:
        fields = Fields(root, "a catalogue")
        head = _read_head(fields, reading)
    except NodeRefused as refused:
        raise CatalogueError([refused.problem]) from refused
    _note_names(fields, reading)
    prices = _read_sections(fields, reading)
    promotions = _listed(fields, "promotions", "promotion", reading, read_promotion)
    _refuse_twins(prices, promotions, reading)
    reading.attempt(fields.done)
    reading.attempt(lambda: _refuse_cycles(reading))
    if reading.problems:
        raise CatalogueError(sorted(reading.problems, key=lambda one: (one.place.file != file, one.place.line)))
    return _finish(reading, head, prices, promotions, fields.place)


def _finish(
    reading: CatalogueReading,
    head: tuple[str, int | None, int | None],
    prices: list[PriceList],
    promotions: list[Promotion],
    place: Place,
) -> Catalogue:
    name, start_s, end_s = head
    dates = [version.since_s for one in prices for version in one.versions]
    if not dates:
        raise CatalogueError([Problem(place, "the catalogue has no price", "add prices: with item, and versions")])
    begins = min(dates) if start_s is None else start_s
    ends = min(max(dates) + DEFAULT_YEARS_S, begins + core.MAX_HORIZON_S) if end_s is None else end_s
    if not 0 < ends - begins <= core.MAX_HORIZON_S or max(dates) >= ends:
        hint = "prices of more than twenty years do not fit one catalogue; set valid: {from: ..., until: ...}"
        raise CatalogueError([Problem(place, "the catalogue's dates span no time, or more than twenty years", hint)])
    return Catalogue(
        name,
        reading.file,
        reading.currency,
        reading.zone,
        begins,
        ends,
        reading.taxes,
        reading.calendars,
        reading.items,
        reading.pools,
        reading.plans,
        {number: (card.step, card.place) for number, card in reading.cards.items()},
        frozenset(reading.used_cards),
        tuple(prices),
        tuple(promotions),
    )


def _read_head(fields: Fields, reading: CatalogueReading) -> tuple[str, int | None, int | None]:
    version = fields.require("kopeck_catalogue")
    if text_of(version, "kopeck_catalogue") != FORMAT:
        raise NodeRefused(version.place, f"kopeck_catalogue is {FORMAT}, the version of this format")
    name = read_identifier(fields.require("name"), "name")
    reading.currency = read_value(fields.require("currency"), "currency", check_currency)
    reading.zone = read_value(fields.require("zone"), "zone", check_zone)
    valid = fields.take("valid")
    if valid is None:
        return name, None, None
    span = Fields(valid, "valid")
    start_s, end_s = read_instant(span.take("from"), reading), read_instant(span.take("until"), reading)
    span.done()
    if start_s is not None and end_s is not None and end_s <= start_s:
        raise NodeRefused(span.place_of("until"), "valid ends before it begins: until is not after from")
    return name, start_s, end_s


def _note_names(fields: Fields, reading: CatalogueReading) -> None:
    """Names of all sections first, so that order in the file is free."""
    for section in SECTIONS[:6]:
        node = fields.take(section)
        reading.defined[section] = tuple(node.entries) if isinstance(node, Table) else ()


def _read_sections(fields: Fields, reading: CatalogueReading) -> list[PriceList]:
    _section(fields, "taxes", "tax class", reading, _read_tax, reading.taxes)
    _section(fields, "calendars", "calendar", reading, read_calendar, reading.calendars)
    _section(fields, "items", "item", reading, _read_item, reading.items)
    _section(fields, "pools", "pool", reading, _read_pool, reading.pools)
    _section(fields, "rate_cards", "rate card", reading, _read_card, reading.cards)
    _section(fields, "plans", "plan", reading, _read_plan, reading.plans)
    return _listed(fields, "prices", "price list", reading, read_price_list)


def _section(
    fields: Fields,
    section: str,
    what: str,
    reading: CatalogueReading,
    read: Callable[[str, Fields, CatalogueReading], Any],
    into: dict[str, Any],
) -> None:
    """A section of named records."""
    node = fields.take(section)
    if node is None:
        return

    def read_one(number: str, key: Place, value: Node) -> Any:
        read_identifier(Scalar(key, number, False), f"the name of {'an' if what[0] in 'aeiou' else 'a'} {what}")
        one = Fields(value, f"{what} {number}")
        found = read(number, one, reading)
        one.done()
        return found

    def entries() -> Mapping[str, tuple[Place, Node]]:
        if not isinstance(node, Table):
            raise NodeRefused(node.place, f"{section} has a named record each", f"write `{section}:`, below it `NAME:`")
        return node.entries

    for number, (key, value) in (reading.attempt(entries) or {}).items():
        found = reading.attempt(partial(read_one, number, key, value))
        if found is not None:
            into[number] = found


def _listed(
    fields: Fields,
    section: str,
    what: str,
    reading: CatalogueReading,
    read: Callable[[Fields, CatalogueReading], T | None],
) -> list[T]:
    """A section that is a list of records."""

    def read_one(node: Node) -> T | None:
        one = Fields(node, f"a {what}")
        found = read(one, reading)
        one.done()
        return found

    found = [reading.attempt(partial(read_one, node)) for node in fields.nodes(section)]
    return [one for one in found if one is not None]


# ---- sections


def _read_tax(number: str, fields: Fields, reading: CatalogueReading) -> TaxClass:
    names = read_names(fields, number)
    rates = []
    for node in fields.nodes("rates"):
        one = Fields(node, "a tax rate")
        since_s = read_instant(one.require("from"), reading)
        rates.append((since_s or 0, read_ppm(one.require("percent"), "percent")))
        one.done()
        if not 0 <= rates[-1][1] <= 10_000_000:
            raise NodeRefused(one.place, "a tax is at most 1000 percent")
    if not rates or not is_ascending(since_s for since_s, _ in rates):
        raise NodeRefused(fields.place, f"tax class {number} needs rates: in ascending order of their dates")
    return TaxClass(number, names, tuple(rates), fields.place)


def _read_item(number: str, fields: Fields, reading: CatalogueReading) -> Item:
    names = read_names(fields, number)
    tax = fields.take("tax")
    percentage_of = known_names(fields, "percentage_of", "items", reading)
    if percentage_of:
        unit = Unit("money", 2)
        if fields.take("unit") is not None or fields.take("decimals") is not None:
            raise NodeRefused(fields.place_of("unit"), "a percentage item counts money", "leave out unit and decimals")
    else:
        unit = read_unit(fields)
    return Item(
        number,
        names,
        unit,
        fields.text("category", ""),
        known_name(tax, "taxes", reading) if tax else "",
        read_boolean(fields, "manual"),
        percentage_of,
        fields.place,
    )


def _read_pool(number: str, fields: Fields, _: CatalogueReading) -> Pool:
    return Pool(number, read_unit(fields), fields.place)


def _read_card(number: str, fields: Fields, reading: CatalogueReading) -> Card:
    currency = fields.take("currency")
    unit = read_unit(fields)
    return read_card_rates(
        number,
        fields,
        unit,
        read_value(currency, "currency", check_currency) if currency else reading.currency,
        reading.file,
        reading.beside,
    )


def _read_plan(number: str, fields: Fields, reading: CatalogueReading) -> Plan:
    names = read_names(fields, number)
    extends = fields.take("extends")
    return Plan(
        number,
        names,
        known_names(fields, "items", "items", reading),
        tuple(_grants(fields, reading)),
        known_name(extends, "plans", reading) if extends else "",
        fields.place,
    )


def _grants(fields: Fields, reading: CatalogueReading) -> Iterator[tuple[str, int]]:
    seen: set[str] = set()
    for node in fields.nodes("pools"):
        one = Fields(node, "a pool's grant")
        pool = known_name(one.require("pool"), "pools", reading)
        if pool in seen:
            raise NodeRefused(one.place, f"pool {pool} is granted twice")
        seen.add(pool)
        unit = reading.pools[pool].unit if pool in reading.pools else Unit("piece")
        quantity = read_value(one.require("quantity"), "quantity", partial(parse_quantity, unit=unit))
        one.done()
        if not 0 < quantity <= core.MAX_QUANTITY:
            raise NodeRefused(one.place, f"a grant is 1 to {core.MAX_QUANTITY:,} steps of its pool")
        yield pool, quantity


def _refuse_twins(prices: list[PriceList], promotions: list[Promotion], reading: CatalogueReading) -> None:
    seen: dict[tuple[str, ...], Place] = {}
    for key, what, place in [
        *((("price", *_selectors(one)), f"a price of {one.label}", one.place) for one in prices),
        *((("promotion", one.number), f"promotion {one.number}", one.place) for one in promotions),
    ]:
        if key in seen:
            message = f"{what} comes twice"
            reading.problems.append(Problem(place, message, f"the first stands on line {seen[key].line}: add versions"))
        seen.setdefault(key, place)


def _selectors(one: PriceList) -> tuple[str, ...]:
    return one.item, one.currency, one.plan, one.group, one.customer


def _refuse_cycles(reading: CatalogueReading) -> None:
    plans = {number: [plan.extends] for number, plan in reading.plans.items() if plan.extends}
    items = {number: item.percentage_of for number, item in reading.items.items() if item.percentage_of}
    for what, edges, records in (
        ("plans extend", plans, reading.plans),
        ("items are percentages of", items, reading.items),
    ):
        cycle = find_cycle(edges)
        if cycle:
            shown = " -> ".join(cycle if len(cycle) <= 12 else [*cycle[:10], "...", cycle[-1]])
            raise NodeRefused(
                records[cycle[0]].place, f"{what} one another in a circle: {shown}", "break it at one of them"
            )
