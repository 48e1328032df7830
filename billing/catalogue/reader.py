"""A catalogue's YAML nodes to records, strictly: whatever is not understood is an error with file, line and a hint.

Rules. Each piece (an item, a price version, a step) is read by itself, so that one mistake hides no other; up to
MAX_PROBLEMS are told at once. Names must be defined somewhere in the file, in any order. Files of rate cards lie
beside the catalogue. Nothing is returned unless everything was right.

Does not know: whether a tariff is wise (catalogue_check), how files are opened (the caller says).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import partial
from itertools import pairwise
from typing import Any, Final, TypeVar

from billing.catalogue.model import (
    Catalogue,
    Item,
    Names,
    Plan,
    Pool,
    PriceList,
    PriceVersion,
    Promotion,
    TaxClass,
    find_cycle,
    is_ascending,
)
from billing.catalogue.nodes import (
    MAX_PROBLEMS,
    CatalogueError,
    Fields,
    Listing,
    Node,
    NodeRefused,
    Place,
    Problem,
    ProblemsTold,
    Scalar,
    Table,
    near,
    read_yaml,
    text_of,
)
from billing.catalogue.steps import Card, StepContext, read_card_rates, read_step
from billing.catalogue.units import (
    MAX_DECIMALS,
    PERCENT_DECIMALS,
    PRICE_DECIMALS,
    Unit,
    check_currency,
    parse_decimal,
    parse_instant,
    parse_quantity,
)
from ratingcore import tariff as core
from ratingcore.bands import DAYS, MINUTES, Calendar, Rule, calendar_of, zone_of
from ratingcore.rounding import rounding_of

FORMAT: Final = "1"
MAX_NAME_CHARS: Final = 64
DEFAULT_YEARS_S: Final = 10 * 366 * 86_400
SECTIONS: Final = ("taxes", "calendars", "items", "pools", "rate_cards", "plans", "prices", "promotions")

Beside = Callable[[str], bytes]
T = TypeVar("T")


@dataclass
class _CatalogueReading:
    """What has been read so far of one file; lives for one ``read_catalogue``."""

    file: str
    beside: Beside
    problems: list[Problem] = field(default_factory=list)
    currency: str = ""
    zone: str = "UTC"
    taxes: dict[str, TaxClass] = field(default_factory=dict)
    calendars: dict[str, tuple[Calendar, Place]] = field(default_factory=dict)
    items: dict[str, Item] = field(default_factory=dict)
    pools: dict[str, Pool] = field(default_factory=dict)
    cards: dict[str, Card] = field(default_factory=dict)
    plans: dict[str, Plan] = field(default_factory=dict)
    used_cards: set[str] = field(default_factory=set)
    #: Every name defined in a section, also where its definition is wrong: it then is no unknown name as well.
    defined: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def attempt(self, read: Callable[[], T]) -> T | None:
        """Read one piece; what is wrong with it is kept, and the reading goes on."""
        if len(self.problems) >= MAX_PROBLEMS:
            raise CatalogueError(self.problems)
        try:
            return read()
        except NodeRefused as refused:
            self.problems.append(refused.problem)
        except ProblemsTold:
            pass  # because of a problem that is among them
        return None


def read_catalogue(file: str, data: bytes, beside: Beside) -> Catalogue:
    """The catalogue in a YAML file.

    Args:
        file: what messages call it.
        beside: the bytes of a file that lies beside it, by its plain name; OSError where there is none.

    Raises:
        CatalogueError: all that is wrong with it.
    """
    reading = _CatalogueReading(file, beside)
    root = read_yaml(file, data)
    try:
        fields = Fields(root, "a catalogue")
        head = _read_head(fields, reading)
    except NodeRefused as refused:
        raise CatalogueError([refused.problem]) from refused
    _read_names(fields, reading)
    prices = _read_sections(fields, reading)
    promotions = _listed(fields, "promotions", "promotion", reading, _read_promotion)
    _refuse_twins(prices, promotions, reading)
    reading.attempt(fields.done)
    reading.attempt(lambda: _refuse_cycles(reading))
    if reading.problems:
        raise CatalogueError(sorted(reading.problems, key=lambda one: (one.place.file != file, one.place.line)))
    return _finish(reading, head, prices, promotions, fields.place)


def _finish(
    reading: _CatalogueReading,
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


def _read_head(fields: Fields, reading: _CatalogueReading) -> tuple[str, int | None, int | None]:
    version = fields.require("kopeck_catalogue")
    if text_of(version, "kopeck_catalogue") != FORMAT:
        raise NodeRefused(version.place, f"kopeck_catalogue is {FORMAT}, the version of this format")
    name = _identifier(fields.require("name"), "name")
    reading.currency = _value(fields.require("currency"), "currency", check_currency)
    reading.zone = _value(fields.require("zone"), "zone", _zone)
    valid = fields.take("valid")
    if valid is None:
        return name, None, None
    span = Fields(valid, "valid")
    start_s, end_s = _instant(span.take("from"), reading), _instant(span.take("until"), reading)
    span.done()
    if start_s is not None and end_s is not None and end_s <= start_s:
        raise NodeRefused(span.place_of("until"), "valid ends before it begins: until is not after from")
    return name, start_s, end_s


def _zone(text: str) -> str:
    zone_of(text)
    return text


def _read_names(fields: Fields, reading: _CatalogueReading) -> None:
    """Names of all sections first, so that order in the file is free."""
    for section in SECTIONS[:6]:
        node = fields.take(section)
        reading.defined[section] = tuple(node.entries) if isinstance(node, Table) else ()


def _read_sections(fields: Fields, reading: _CatalogueReading) -> list[PriceList]:
    _section(fields, "taxes", "tax class", reading, _read_tax, reading.taxes)
    _section(fields, "calendars", "calendar", reading, _read_calendar, reading.calendars)
    _section(fields, "items", "item", reading, _read_item, reading.items)
    _section(fields, "pools", "pool", reading, _read_pool, reading.pools)
    _section(fields, "rate_cards", "rate card", reading, _read_card, reading.cards)
    _section(fields, "plans", "plan", reading, _read_plan, reading.plans)
    return _listed(fields, "prices", "price list", reading, _read_price_list)


def _section(
    fields: Fields,
    section: str,
    what: str,
    reading: _CatalogueReading,
    read: Callable[[str, Fields, _CatalogueReading], Any],
    into: dict[str, Any],
) -> None:
    """A section of named records."""
    node = fields.take(section)
    if node is None:
        return

    def read_one(number: str, key: Place, value: Node) -> Any:
        _identifier(Scalar(key, number, False), f"the name of {'an' if what[0] in 'aeiou' else 'a'} {what}")
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
    reading: _CatalogueReading,
    read: Callable[[Fields, _CatalogueReading], T | None],
) -> list[T]:
    """A section that is a list of records."""

    def read_one(node: Node) -> T | None:
        one = Fields(node, f"a {what}")
        found = read(one, reading)
        one.done()
        return found

    found = [reading.attempt(partial(read_one, node)) for node in fields.nodes(section)]
    return [one for one in found if one is not None]


# ---- values


def _value(node: Node, what: str, parse: Callable[[str], T]) -> T:
    """A scalar through a parser whose ValueError says what is wrong."""
    text = text_of(node, what)
    try:
        return parse(text)
    except ValueError as error:
        raise NodeRefused(node.place, f"{what}: {error}") from error


def _instant(node: Node | None, reading: _CatalogueReading) -> int | None:
    return None if node is None else _value(node, "date", lambda text: parse_instant(text, reading.zone))


def _identifier(node: Node, what: str) -> str:
    text = text_of(node, what)
    plain = all(char.isalnum() or char in "-_." for char in text)
    if not 1 <= len(text) <= MAX_NAME_CHARS or not plain:
        raise NodeRefused(node.place, f"{what} {text[:40]!r} is 1 to {MAX_NAME_CHARS} letters, digits, - _ or .")
    return text


def _names(fields: Fields, default: str) -> Names:
    """``name: Text`` in every language, or a text per language."""
    node = fields.take("name")
    if node is None:
        return {"": default}
    if isinstance(node, Scalar):
        return {"": node.text}
    if not isinstance(node, Table):
        raise NodeRefused(node.place, "name is a text, or a text per language", "write name: {ru: ..., en: ...}")
    return _by_language(node)


def _by_language(node: Table) -> Names:
    """A text per language, at least one."""
    if not node.entries:
        raise NodeRefused(node.place, "no language is named", "write {ru: ..., en: ...}")
    for language, (place, _) in node.entries.items():
        if not (len(language) == 2 and language.isascii() and language.islower()):
            raise NodeRefused(place, f"{language[:20]!r} is no language such as ru or en")
    return {language: text_of(value, language) for language, (_, value) in node.entries.items()}


def _known(node: Node, section: str, reading: _CatalogueReading) -> str:
    """A name that a section defines."""
    text = text_of(node, section)
    if text not in reading.defined[section]:
        what = {"taxes": "tax class", "rate_cards": "rate card"}.get(section, section.removesuffix("s"))
        raise NodeRefused(node.place, f"there is no {what} {text[:80]!r}", near(text, reading.defined[section]))
    return text


def _known_list(fields: Fields, name: str, section: str, reading: _CatalogueReading) -> tuple[str, ...]:
    found = [_known(node, section, reading) for node in fields.nodes(name)]
    if len(set(found)) != len(found):
        raise NodeRefused(fields.place_of(name), f"{name} names something twice")
    return tuple(found)


def _boolean(fields: Fields, name: str) -> bool:
    node = fields.take(name)
    if node is None:
        return False
    text = text_of(node, name)
    if text not in ("true", "false"):
        raise NodeRefused(node.place, f"{name} is true or false, not {text[:40]!r}")
    return text == "true"


def _whole(fields: Fields, name: str, default: int, low: int, high: int) -> int:
    node = fields.take(name)
    if node is None:
        return default
    found = _value(node, name, lambda text: parse_decimal(text, 0))
    if not low <= found <= high:
        raise NodeRefused(node.place, f"{name} is {low} to {high:,}, not {found:,}")
    return found


def _unit(fields: Fields) -> Unit:
    """One word, or a word per language: the first of them is the unit's name, all are what documents call it."""
    node = fields.require("unit")
    names = _by_language(node) if isinstance(node, Table) else {"": text_of(node, "unit")}
    for name in names.values():
        if not (name[:1].isalpha() and len(name) <= 20 and name.isprintable() and " " not in name):
            raise NodeRefused(node.place, f"unit {name[:40]!r} is one word such as s, min, GB, piece")
    first = next(iter(names.values()))
    return Unit(first, _whole(fields, "decimals", 0, 0, MAX_DECIMALS), {} if "" in names else names)


def _ppm(node: Node, what: str) -> int:
    return _value(node, what, lambda text: parse_decimal(text, PERCENT_DECIMALS))


# ---- sections


def _read_tax(number: str, fields: Fields, reading: _CatalogueReading) -> TaxClass:
    names = _names(fields, number)
    rates = []
    for node in fields.nodes("rates"):
        one = Fields(node, "a tax rate")
        since_s = _instant(one.require("from"), reading)
        rates.append((since_s or 0, _ppm(one.require("percent"), "percent")))
        one.done()
        if not 0 <= rates[-1][1] <= 10_000_000:
            raise NodeRefused(one.place, "a tax is at most 1000 percent")
    if not rates or not is_ascending(since_s for since_s, _ in rates):
        raise NodeRefused(fields.place, f"tax class {number} needs rates: in ascending order of their dates")
    return TaxClass(number, names, tuple(rates), fields.place)


def _read_calendar(number: str, fields: Fields, reading: _CatalogueReading) -> tuple[Calendar, Place]:
    zone = _value(fields.take("zone") or Scalar(fields.place, reading.zone, False), "zone", _zone)
    holidays = [_value(node, "holiday", _local_date) for node in fields.nodes("holidays")]
    rules: list[Rule] = []
    for node in fields.nodes("bands"):
        rules += _band_rules(Fields(node, "a band"))
    try:
        return calendar_of(zone, rules, holidays), fields.place
    except ValueError as error:
        hint = (
            "each minute of mon to sun and of holiday is in one band; one may pass midnight: from: 23:00, until: 06:00"
        )
        raise NodeRefused(fields.place, f"calendar {number}: {error}", hint) from error


def _local_date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text[:40]!r} is no date such as 2026-01-01") from error


def _band_rules(fields: Fields) -> list[Rule]:
    """A band's line: rules for its days; a time that runs past midnight becomes two."""
    band = _identifier(fields.require("band"), "band")
    days = tuple(day for node in fields.nodes("days") for day in _days(node)) or DAYS
    start = _minute(fields.take("from"), 0)
    end = _minute(fields.take("until"), MINUTES)
    fields.done()
    if start == end:
        raise NodeRefused(fields.place, f"band {band!r} lasts no time", "leave out from and until for the whole day")
    if start < end:
        return [Rule(days, start, end, band)]
    early = [Rule(days, 0, end, band)] if end else []
    return [*early, Rule(days, start, MINUTES, band)]


def _days(node: Node) -> tuple[str, ...]:
    """``mon``, ``mon-fri``, ``all`` or ``holiday``."""
    text = text_of(node, "days")
    if text == "all":
        return DAYS
    first, dash, last = text.partition("-")
    if first in DAYS and not dash:
        return (first,)
    if first in DAYS[:7] and last in DAYS[:7] and DAYS.index(first) < DAYS.index(last):
        return DAYS[DAYS.index(first) : DAYS.index(last) + 1]
    raise NodeRefused(node.place, f"{text[:40]!r} is no day", f"write all, mon-fri, or some of: {', '.join(DAYS)}")


def _minute(node: Node | None, default: int) -> int:
    if node is None:
        return default
    text = text_of(node, "time")
    hour, colon, minute = text.partition(":")
    good = colon and len(minute) == 2 and hour.isascii() and hour.isdigit() and minute.isascii() and minute.isdigit()
    if not good or (text != "24:00" and not (int(hour[:4]) < 24 and int(minute) < 60)):
        raise NodeRefused(node.place, f"{text[:40]!r} is no time of day such as 08:00")
    return int(hour) * 60 + int(minute)


def _read_item(number: str, fields: Fields, reading: _CatalogueReading) -> Item:
    names = _names(fields, number)
    tax = fields.take("tax")
    percentage_of = _known_list(fields, "percentage_of", "items", reading)
    if percentage_of:
        unit = Unit("money", 2)
        if fields.take("unit") is not None or fields.take("decimals") is not None:
            raise NodeRefused(fields.place_of("unit"), "a percentage item counts money", "leave out unit and decimals")
    else:
        unit = _unit(fields)
    return Item(
        number,
        names,
        unit,
        fields.text("category", ""),
        _known(tax, "taxes", reading) if tax else "",
        _boolean(fields, "manual"),
        percentage_of,
        fields.place,
    )


def _read_pool(number: str, fields: Fields, _: _CatalogueReading) -> Pool:
    return Pool(number, _unit(fields), fields.place)


def _read_card(number: str, fields: Fields, reading: _CatalogueReading) -> Card:
    currency = fields.take("currency")
    unit = _unit(fields)
    return read_card_rates(
        number,
        fields,
        unit,
        _value(currency, "currency", check_currency) if currency else reading.currency,
        reading.file,
        reading.beside,
    )


def _read_plan(number: str, fields: Fields, reading: _CatalogueReading) -> Plan:
    names = _names(fields, number)
    extends = fields.take("extends")
    return Plan(
        number,
        names,
        _known_list(fields, "items", "items", reading),
        tuple(_grants(fields, reading)),
        _known(extends, "plans", reading) if extends else "",
        fields.place,
    )


def _grants(fields: Fields, reading: _CatalogueReading) -> Iterator[tuple[str, int]]:
    seen: set[str] = set()
    for node in fields.nodes("pools"):
        one = Fields(node, "a pool's grant")
        pool = _known(one.require("pool"), "pools", reading)
        if pool in seen:
            raise NodeRefused(one.place, f"pool {pool} is granted twice")
        seen.add(pool)
        unit = reading.pools[pool].unit if pool in reading.pools else Unit("piece")
        quantity = _value(one.require("quantity"), "quantity", partial(parse_quantity, unit=unit))
        one.done()
        if not 0 < quantity <= core.MAX_QUANTITY:
            raise NodeRefused(one.place, f"a grant is 1 to {core.MAX_QUANTITY:,} steps of its pool")
        yield pool, quantity


def _read_price_list(fields: Fields, reading: _CatalogueReading) -> PriceList | None:
    item = _known(fields.require("item"), "items", reading)
    currency = fields.take("currency")
    plan = fields.take("plan")
    money = _value(currency, "currency", check_currency) if currency else reading.currency
    narrowed = (
        _known(plan, "plans", reading) if plan else "",
        fields.text("group", ""),
        fields.text("customer", ""),
    )
    nodes = fields.nodes("versions")
    if not nodes:
        raise NodeRefused(
            fields.place, f"the price of item {item} needs versions:", "write versions: with from: and steps:"
        )
    if item not in reading.items:
        return None  # the item itself is wrong, and has been told
    versions = [reading.attempt(partial(_read_version, node, item, money, reading)) for node in nodes]
    found = [one for one in versions if one is not None]
    for before, after in pairwise(found):
        if after.since_s <= before.since_s:
            raise NodeRefused(
                after.place, "versions come in ascending order of from", "each date once, the oldest first"
            )
    return PriceList(item, money, *narrowed, tuple(found), fields.place)


def _read_version(node: Node, item: str, currency: str, reading: _CatalogueReading) -> PriceVersion:
    fields = Fields(node, f"a price version of item {item}")
    since_s = _instant(fields.require("from"), reading) or 0
    if _boolean(fields, "as_below"):
        fields.done()
        return PriceVersion(since_s, None, True, "", (), fields.place)
    tax = fields.text("tax", "inside")
    if tax not in ("inside", "outside"):
        raise NodeRefused(fields.place_of("tax"), f"tax is inside or outside (the price), not {tax[:40]!r}")
    rounding = _value(fields.take("rounding") or Scalar(fields.place, "half_away", False), "rounding", rounding_of)
    calendar_node = fields.take("calendar")
    calendar = _known(calendar_node, "calendars", reading) if calendar_node else ""
    unit = reading.items[item].unit
    context = StepContext(unit, currency, reading.pools, reading.cards, reading.defined, reading.used_cards)
    steps_node = fields.require("steps")
    nodes = steps_node.nodes if isinstance(steps_node, Listing) else ()
    steps = [reading.attempt(partial(read_step, number, node, context)) for number, node in enumerate(nodes)]
    fields.done()
    places = tuple(one.place for one in nodes)
    if calendar and calendar not in reading.calendars:
        raise ProblemsTold
    clock = reading.calendars[calendar][0] if calendar else None
    if not nodes:
        hint = "write `- graduated: {per: ..., tiers: [...]}` or another kind of step"
        raise NodeRefused(steps_node.place, "steps is a list of one or more steps", hint)
    good = tuple(step for step in steps if step is not None)
    if len(good) != len(nodes):
        raise ProblemsTold
    try:
        tariff = core.Tariff(good, clock, rounding)
    except ValueError as error:
        raise NodeRefused(_step_place(str(error), places, steps_node.place), str(error)) from error
    return PriceVersion(since_s, tariff, tax == "inside", calendar, places, fields.place)


def _step_place(message: str, places: tuple[Place, ...], default: Place) -> Place:
    """The place of the step that a message of the core names by its number."""
    word = message.removeprefix("step ").split(" ")[0]
    return places[int(word) - 1] if word.isdigit() and 1 <= int(word) <= len(places) else default


def _read_promotion(fields: Fields, reading: _CatalogueReading) -> Promotion:
    number = _identifier(fields.require("promotion"), "promotion")
    names = _names(fields, number)
    items = _known_list(fields, "items", "items", reading)
    since_s = _instant(fields.require("from"), reading) or 0
    until_s = _instant(fields.take("until"), reading)
    if until_s is not None and until_s <= since_s:
        raise NodeRefused(fields.place_of("until"), f"promotion {number} ends before it begins")
    gifts = _gift(fields, items, reading)
    return Promotion(
        number,
        names,
        fields.text("code", ""),
        since_s,
        until_s,
        items,
        _known_list(fields, "plans", "plans", reading),
        tuple(text_of(node, "groups") for node in fields.nodes("groups")),
        _whole(fields, "periods", 0, 0, 1200) or gifts.pop("periods", 0),
        _whole(fields, "order", 100, 0, 1_000_000),
        _boolean(fields, "keep_above_zero"),
        fields.place,
        **gifts,
    )


def _gift(fields: Fields, items: tuple[str, ...], reading: _CatalogueReading) -> dict[str, Any]:
    """What a promotion takes off: exactly one of four."""
    kinds = ("percent", "amount", "free_units", "free_periods")
    given = {kind: node for kind in kinds if (node := fields.take(kind)) is not None}
    currency = fields.take("currency")
    if len(given) != 1:
        raise NodeRefused(fields.place, f"a promotion has one of: {', '.join(kinds)}")
    ((kind, node),) = given.items()
    match kind:
        case "percent":
            ppm = _ppm(node, "percent")
            if not 0 < ppm <= 1_000_000:
                raise NodeRefused(node.place, "a promotion takes more than 0 and at most 100 percent off")
            return {"percent_ppm": ppm}
        case "amount":
            money = _value(currency, "currency", check_currency) if currency else reading.currency
            amount = _value(node, "amount", lambda text: parse_decimal(text, PRICE_DECIMALS))
            if not 0 < amount <= core.MAX_PRICE_MICRO:
                raise NodeRefused(node.place, "a promotion's amount is above zero and at most 10,000,000,000.00")
            return {"amount_micro": amount, "currency": money}
        case "free_units":
            units = {reading.items[item].unit for item in items if item in reading.items}
            if len(units) != 1:
                raise NodeRefused(node.place, "free units need items: of one unit")
            quantity = _value(node, "free_units", lambda text: parse_quantity(text, units.pop()))
            if not 0 < quantity <= core.MAX_QUANTITY:
                raise NodeRefused(node.place, "free units are more than nothing")
            return {"free_units": quantity}
        case _:
            periods = _value(node, "free_periods", lambda text: parse_decimal(text, 0))
            if not 0 < periods <= 1200 or fields.take("periods") is not None:
                raise NodeRefused(node.place, "free_periods is 1 to 1200, and takes the place of periods")
            return {"free_period": True, "periods": periods}


def _refuse_twins(prices: list[PriceList], promotions: list[Promotion], reading: _CatalogueReading) -> None:
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


def _refuse_cycles(reading: _CatalogueReading) -> None:
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


def shown_date(time_s: int, zone: str) -> str:
    """An instant as a catalogue would write it: the date alone at midnight."""
    local = datetime.fromtimestamp(time_s, UTC).astimezone(zone_of(zone))
    return local.date().isoformat() if (local.hour, local.minute, local.second) == (0, 0, 0) else local.isoformat()
