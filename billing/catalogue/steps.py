"""Steps of a price and rate cards: the part of the catalogue's format that becomes ratingcore's records.

Rules. A step is one key, its kind, over its fields; STEP_FIELDS says which field of YAML is which field of the core's
record and how it is read. Tiers follow one another without gap: `above`, where it is written, must be where the tier
before ended. A rate card's rates stand inline or in a CSV file beside the catalogue, with the same names.

Does not know: what a step does (ratingcore.reference says).
"""

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from billing.catalogue.model import Pool
from billing.catalogue.nodes import Fields, Node, NodeRefused, Place, ProblemsTold, Scalar, near, text_of
from billing.catalogue.units import (
    PERCENT_DECIMALS,
    Unit,
    format_quantity,
    parse_decimal,
    parse_quantity,
)
from billing.wording import PRICE_DECIMALS
from ratingcore import tariff as core

MAX_TIERS: Final = 1_000
MAX_CARD_BYTES: Final = 32_000_000
MAX_CARD_RATES: Final = 500_000
MAX_LINE_CHARS: Final = 2_000


@dataclass(frozen=True, slots=True)
class Card:
    """A rate card: the core's step without bands, and what it is counted and paid in."""

    number: str
    unit: Unit
    currency: str
    step: core.RateCard
    place: Place


@dataclass(frozen=True, slots=True)
class StepContext:
    """What reading a step needs of the rest of the file. defined: names per section, wrong ones too."""

    unit: Unit
    currency: str
    pools: Mapping[str, Pool]
    cards: Mapping[str, Card]
    defined: Mapping[str, tuple[str, ...]]
    used_cards: set[str]


class Into(NamedTuple):
    """Where a YAML field goes and how it is read; must: it has to be there."""

    field: str
    kind: str
    must: bool = False


_EACH: Final = {"each": Into("scope", "scope")}
_COMMON: Final = {"bands": Into("bands", "bands"), "meter": Into("meter", "text")}
_UNMETERED: Final = {"bands": Into("bands", "bands")}

#: Per kind: the core's record and its fields by their names in YAML.
STEP_FIELDS: Final[Mapping[str, tuple[type[Any], Mapping[str, Into]]]] = {
    "flat": (core.Flat, {"amount": Into("amount_micro", "money", True), **_EACH, **_COMMON}),
    "per_unit": (
        core.PerUnit,
        {
            "price": Into("price_micro", "money", True),
            "per": Into("per", "per"),
            "free": Into("free", "quantity"),
            **_EACH,
            **_COMMON,
        },
    ),
    "graduated": (
        core.Graduated,
        {"tiers": Into("tiers", "tiers", True), "per": Into("per", "per"), **_EACH, **_COMMON},
    ),
    "volume": (core.Volume, {"tiers": Into("tiers", "tiers", True), "per": Into("per", "per"), **_EACH, **_COMMON}),
    "stairstep": (core.Stairstep, {"tiers": Into("tiers", "tiers", True), **_EACH, **_COMMON}),
    "package": (
        core.Package,
        {
            "price": Into("price_micro", "money", True),
            "size": Into("size", "step", True),
            "free": Into("free", "quantity"),
            **_EACH,
            **_COMMON,
        },
    ),
    "percentage": (
        core.Percentage,
        {
            "percent": Into("rate_ppm", "percent", True),
            "fixed": Into("fixed_micro", "money"),
            "minimum": Into("minimum_micro", "money"),
            "maximum": Into("maximum_micro", "money"),
            "free_events": Into("free_events", "count"),
            **_COMMON,
        },
    ),
    "increments": (
        core.Increments,
        {
            "first": Into("first", "first", True),
            "next": Into("next", "step", True),
            "grace": Into("grace", "quantity"),
            **_UNMETERED,
        },
    ),
    "allowance": (
        core.Allowance,
        {"quantity": Into("quantity", "quantity"), "pool": Into("pool", "pool"), **_COMMON},
    ),
    "discount": (core.Multiplier, {"percent": Into("ratio_ppm", "less", True), **_UNMETERED}),
    "surcharge": (core.Multiplier, {"percent": Into("ratio_ppm", "more", True), **_UNMETERED}),
    "cap": (core.Cap, {"maximum": Into("maximum_micro", "money", True), **_EACH, **_COMMON}),
    "minimum_commitment": (
        core.MinimumCommitment,
        {"minimum": Into("minimum_micro", "money", True), "meter": Into("meter", "text")},
    ),
}
KINDS: Final = (*STEP_FIELDS, "rate_card")


def read_step(number: int, node: Node, context: StepContext) -> core.Step:
    """One step of a price. Raises Refused with the place of what is wrong."""
    outer = Fields(node, "a step")
    kinds = [kind for kind in KINDS if outer.take(kind) is not None]
    outer.done()
    if len(kinds) != 1:
        raise NodeRefused(
            outer.place, f"a step is one key, its kind, over its fields; here are {len(kinds)}", near("", KINDS)
        )
    kind = kinds[0]
    fields = Fields(outer.require(kind), kind)
    if kind == "rate_card":
        return _rate_card_step(fields, context)
    record, known = STEP_FIELDS[kind]
    values = {}
    for name, into in known.items():
        found = fields.require(name) if into.must else fields.take(name)
        if found is not None:
            values[into.field] = _read_field(name, into.kind, found, kind, context)
    fields.done()
    if record in (core.PerUnit, core.Graduated, core.Volume):
        values.setdefault("per", context.unit.steps)
    if record is core.Allowance and ("quantity" in values) == ("pool" in values):
        raise NodeRefused(fields.place, "an allowance has a quantity of its own, or a pool")
    return _made(record, values, number)


def _made(record: type[Any], values: dict[str, Any], number: int) -> core.Step:
    """The record. A step that counts by event keeps to a meter of its own, apart from one that counts by period."""
    if values.get("scope") == core.Scope.EVENT:
        values.setdefault("meter", f"step {number + 1} by event")
    step: core.Step = record(**values)
    return step


def _rate_card_step(fields: Fields, context: StepContext) -> core.RateCard:
    node = fields.require("card")
    name = text_of(node, "card")
    bands = _texts(fields.take("bands"), "bands")
    fields.done()
    if name not in context.defined["rate_cards"]:
        raise NodeRefused(node.place, f"there is no rate card {name[:80]!r}", near(name, context.defined["rate_cards"]))
    if name not in context.cards:
        raise ProblemsTold
    card = context.cards[name]
    if card.currency != context.currency:
        raise NodeRefused(node.place, f"rate card {name} is in {card.currency}, this price in {context.currency}")
    if card.unit != context.unit:
        raise NodeRefused(
            node.place,
            f"rate card {name} counts {_unit_text(card.unit)}, the item {_unit_text(context.unit)}",
            f"write {_unit_fields(context.unit)} in the card",
        )
    context.used_cards.add(name)
    return core.RateCard(card.step.rates, bands)


def _unit_fields(unit: Unit) -> str:
    return f"unit: {unit.name}" + (f", decimals: {unit.decimals}" if unit.decimals else "")


def _unit_text(unit: Unit) -> str:
    return f"{unit.name} with {unit.decimals} decimals"


def _read_field(name: str, kind: str, node: Node, step: str, context: StepContext) -> Any:
    match kind:
        case "tiers":
            return read_tiers(node, step, context.unit)
        case "bands":
            return _texts(node, name)
        case "pool":
            return _pool(node, context)
        case "scope":
            text = text_of(node, name)
            if text not in ("period", "event"):
                raise NodeRefused(node.place, f"each is period or event, not {text[:40]!r}")
            return core.Scope.EVENT if text == "event" else core.Scope.PERIOD
        case "text":
            return _meter_name(node)
        case _:
            return _number(name, kind, node, context.unit)


def _number(name: str, kind: str, node: Node, unit: Unit) -> int:
    text = text_of(node, name)
    try:
        match kind:
            case "money":
                return _within(0, core.MAX_PRICE_MICRO, parse_decimal(text, PRICE_DECIMALS), "10,000,000,000.00")
            case "count":
                return _within(0, core.MAX_QUANTITY, parse_decimal(text, 0))
            case "percent":
                return _within(0, core.MAX_RATIO_PPM, parse_decimal(text, PERCENT_DECIMALS), "100,000 percent")
            case "less":
                return 1_000_000 - _within(0, 1_000_000, parse_decimal(text, PERCENT_DECIMALS), "100 percent")
            case "more":
                return 1_000_000 + _within(0, 999_000_000, parse_decimal(text, PERCENT_DECIMALS), "99,900 percent")
            case "per" | "step":
                return _within(1, core.MAX_PER, parse_quantity(text, unit))
            case "first":
                return _within(0, core.MAX_PER, parse_quantity(text, unit))
            case _:
                return _within(0, core.MAX_QUANTITY, parse_quantity(text, unit))
    except ValueError as error:
        hint = _FLOAT_HINT if isinstance(node, Scalar) and ("e" in text.lower() and kind == "money") else ""
        raise NodeRefused(node.place, f"{name}: {error}", hint) from error


_FLOAT_HINT: Final = "prices are decimal texts, never floating-point numbers"


def _within(low: int, high: int, value: int, shown: str = "") -> int:
    if value < low:
        raise ValueError("it is above zero")
    if value > high:
        raise ValueError(f"it is at most {shown or f'{high:,} steps of the unit'}")
    return value


def _meter_name(node: Node) -> str:
    text = text_of(node, "meter")
    if not 1 <= len(text) <= 40 or not text.isprintable() or text.startswith(("step ", "promotion ")):
        raise NodeRefused(
            node.place, f"a meter's name is up to 40 characters, not beginning with 'step ': {text[:40]!r}"
        )
    return text


def _texts(node: Node | None, what: str) -> tuple[str, ...]:
    if node is None:
        return ()
    nodes = getattr(node, "nodes", (node,))
    return tuple(text_of(one, what) for one in nodes)


def _pool(node: Node, context: StepContext) -> str:
    name = text_of(node, "pool")
    if name not in context.defined["pools"]:
        raise NodeRefused(node.place, f"there is no pool {name[:80]!r}", near(name, context.defined["pools"]))
    pool = context.pools.get(name)
    if pool is not None and pool.unit != context.unit:
        counts = f"pool {name} counts {_unit_text(pool.unit)}, the item {_unit_text(context.unit)}"
        hint = f"write {_unit_fields(context.unit)} in the pool; a grant may still say its own: 300 min, 1.5 GB"
        raise NodeRefused(node.place, counts, hint)
    return name


# ---- tiers


def read_tiers(node: Node, step: str, unit: Unit) -> tuple[core.Tier, ...]:
    """Tiers in ascending order, the last without end."""
    nodes = getattr(node, "nodes", (node,))
    if len(nodes) > MAX_TIERS:
        hint = "nobody can check such a list; a rate card holds long tables"
        raise NodeRefused(node.place, f"{len(nodes):,} tiers, at most {MAX_TIERS:,} are read", hint)
    tiers: list[core.Tier] = []
    below = 0
    for one in nodes:
        fields = Fields(one, f"a tier of {step}")
        tier = _read_tier(fields, step, unit, below)
        if tiers and tiers[-1].upto is None:
            raise NodeRefused(fields.place, "a tier after the one without end", "give the tier before it an upto")
        tiers.append(tier)
        below = tier.upto or below
    if tiers and tiers[-1].upto is not None:
        example = format_quantity(below + 1, unit)
        hint = "leave upto out of the last tier"
        raise NodeRefused(
            node.place, f"quantities above {format_quantity(below, unit)} are in no tier, {example} for one", hint
        )
    return tuple(tiers)


def _read_tier(fields: Fields, step: str, unit: Unit, below: int) -> core.Tier:
    numbers: dict[str, int | None] = {}
    kinds = {"above": "quantity", "upto": "quantity", "flat": "money"}
    for name, kind in (kinds if step == "stairstep" else {**kinds, "price": "money"}).items():
        node = fields.take(name)
        numbers[name] = None if node is None else _number(name, kind, node, unit)
    above, upto = numbers["above"], numbers["upto"]
    if above is not None and above != below:
        low, high = sorted((above, below))
        trouble = "in no tier" if above > below else "in two tiers"
        message = f"quantities above {format_quantity(low, unit)} up to {format_quantity(high, unit)} are {trouble}"
        raise NodeRefused(fields.place_of("above"), f"{message}, {format_quantity(low + 1, unit)} for one")
    if upto is not None and upto <= below:
        message = f"the tier ends at {format_quantity(upto, unit)}, not above {format_quantity(below, unit)}"
        raise NodeRefused(fields.place_of("upto"), f"{message}, where it begins", "write tiers in ascending order")
    fields.done()  # a price that is misspelt is no tier without a price
    if numbers.get("price") is None and numbers["flat"] is None:
        raise NodeRefused(fields.place, "a tier has a price, a flat, or both", "write price: 0 for a free tier")
    return core.Tier(upto, numbers.get("price") or 0, numbers["flat"] or 0)


# ---- rate cards

#: Columns of a rate card: the core's field and how it is read.
RATE_FIELDS: Final[Mapping[str, Into]] = {
    "price": Into("price_micro", "money", True),
    "per": Into("per", "per"),
    "fee": Into("fee_micro", "money"),
    "minimum": Into("minimum_micro", "money"),
    "first": Into("first", "first"),
    "next": Into("next", "step"),
    "grace": Into("grace", "quantity"),
}


def read_card_rates(
    number: str, fields: Fields, unit: Unit, currency: str, file: str, beside: Callable[[str], bytes]
) -> Card:
    """A rate card with its rates, from the catalogue itself or from the file it names."""
    defaults: dict[str, int] = {"per": unit.steps}
    default_node = fields.take("defaults")
    if default_node is not None:
        given = Fields(default_node, "defaults of a rate card")
        for name, into in RATE_FIELDS.items():
            node = None if name == "price" else given.take(name)
            if node is not None:
                defaults[into.field] = _number(name, into.kind, node, unit)
        given.done()
    name_node, inline = fields.take("file"), fields.nodes("rates")
    if (name_node is None) == (not inline):
        raise NodeRefused(fields.place, f"rate card {number} has rates: or a file: of its own")
    rows = _inline_rows(inline) if name_node is None else _csv_rows(name_node, beside)
    rates = _rates(rows, unit, defaults)
    if not rates:
        raise NodeRefused(fields.place, f"rate card {number} holds no rates")
    return Card(number, unit, currency, core.RateCard(rates), fields.place)


def _rates(
    rows: Iterator[tuple[Place, dict[str, Node]]], unit: Unit, defaults: dict[str, int]
) -> tuple[core.Rate, ...]:
    rates: list[core.Rate] = []
    seen: dict[str, Place] = {}
    for place, row in rows:
        rate = _rate(place, row, unit, defaults)
        if rate.prefix in seen:
            raise NodeRefused(place, f"prefix {rate.prefix!r} comes twice", f"it stands at {seen[rate.prefix]} already")
        seen[rate.prefix] = place
        rates.append(rate)
        if len(rates) > MAX_CARD_RATES:
            raise NodeRefused(place, f"more than {MAX_CARD_RATES:,} rates in one card")
    return tuple(rates)


def _rate(place: Place, row: dict[str, Node], unit: Unit, defaults: dict[str, int]) -> core.Rate:
    prefix_node = row.pop("prefix", None)
    prefix = text_of(prefix_node, "prefix") if prefix_node else ""
    if prefix_node is None or (prefix and not (prefix.isascii() and prefix.isdigit())):
        hint = 'write a plus or zeros of dialling away: 7495; prefix: "" matches every number'
        raise NodeRefused(
            place, f"prefix {prefix[:40]!r} is not of digits" if prefix else "a rate needs its prefix", hint
        )
    if len(prefix) > core.MAX_PREFIX_DIGITS:
        raise NodeRefused(place, f"prefix {prefix[:40]!r} has more than {core.MAX_PREFIX_DIGITS} digits")
    values = dict(defaults)
    for name, into in RATE_FIELDS.items():
        node = row.get(name)
        if node is not None:
            values[into.field] = _number(name, into.kind, node, unit)
        elif into.must:
            raise NodeRefused(place, f"prefix {prefix!r} has no {name}")
    return core.Rate(prefix, **values)


def _inline_rows(nodes: tuple[Node, ...]) -> Iterator[tuple[Place, dict[str, Node]]]:
    for node in nodes:
        fields = Fields(node, "a rate")
        row = {name: fields.take(name) for name in ("prefix", *RATE_FIELDS)}
        fields.text("note", "")
        fields.done()
        yield fields.place, {name: one for name, one in row.items() if one is not None}


def _csv_rows(name_node: Node, beside: Callable[[str], bytes]) -> Iterator[tuple[Place, dict[str, Node]]]:
    name = text_of(name_node, "file")
    if not name or name.startswith(".") or any(char in name for char in "/\\:\0") or len(name) > 100:
        raise NodeRefused(name_node.place, f"file {name[:40]!r} is the plain name of a file beside the catalogue")
    try:
        data = beside(name)
    except OSError as error:
        raise NodeRefused(name_node.place, f"cannot read {name}: {error.strerror or error}") from error
    if len(data) > MAX_CARD_BYTES:
        raise NodeRefused(Place(name, 1), f"{len(data):,} bytes, at most {MAX_CARD_BYTES:,} are read")
    yield from csv_rows(name, data, ("prefix", *RATE_FIELDS, "note"), ("prefix", "price"))


def csv_rows(
    name: str, data: bytes, known: tuple[str, ...], needed: tuple[str, ...]
) -> Iterator[tuple[Place, dict[str, Node]]]:
    """Rows of a CSV file as scalars by column; empty cells are left out, but for a prefix, which may be empty.

    Raises:
        Refused: not UTF-8, no CSV, or a header that names other columns.
    """
    try:
        lines = data.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise NodeRefused(
            Place(name, line), f"byte {data[error.start]:#04x} is no UTF-8", "save it as UTF-8"
        ) from error
    first = lines[0] if lines else ""
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] = []
    try:
        for cells in reader:
            place = Place(name, reader.line_num)
            if not header:
                header = [cell.strip().lower() for cell in cells]
                _check_header(place, header, known, needed)
            elif cells:
                yield place, _row(place, header, cells)
    except csv.Error as error:
        raise NodeRefused(Place(name, reader.line_num), f"not CSV: {error}") from error


def _check_header(place: Place, header: list[str], known: tuple[str, ...], needed: tuple[str, ...]) -> None:
    for column in header:
        if column not in known:
            raise NodeRefused(place, f"column {column[:40]!r} is not known", f"known are: {', '.join(known)}")
    if len(set(header)) != len(header):
        raise NodeRefused(place, "a column stands twice")
    missing = [column for column in needed if column not in header]
    if missing:
        raise NodeRefused(place, f"the first line must name the columns, {missing[0]} among them", ", ".join(known))


def _row(place: Place, header: list[str], cells: list[str]) -> dict[str, Node]:
    if len(cells) != len(header) or sum(map(len, cells)) > MAX_LINE_CHARS:
        raise NodeRefused(place, f"{len(cells)} cells, and {len(header)} columns")
    stripped = {column: cell.strip() for column, cell in zip(header, cells, strict=True)}
    return {column: Scalar(place, cell, True) for column, cell in stripped.items() if cell or column == "prefix"}
