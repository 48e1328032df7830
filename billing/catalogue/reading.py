"""The reading of one catalogue's file: what was read so far, what was wrong, and the values every section has.

Rules. A value that cannot be is refused with its place (NodeRefused); ``CatalogueReading.attempt`` keeps the refusal,
and the reading goes on.

Does not know: sections (reader, prices, promotions, calendars).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from billing.catalogue.model import Item, Names, Plan, Pool, TaxClass
from billing.catalogue.nodes import (
    MAX_PROBLEMS,
    CatalogueError,
    Fields,
    Node,
    NodeRefused,
    Place,
    Problem,
    ProblemsTold,
    Scalar,
    Table,
    near,
    text_of,
)
from billing.catalogue.steps import Card
from billing.catalogue.units import MAX_DECIMALS, PERCENT_DECIMALS, Unit, parse_decimal, parse_instant
from ratingcore.bands import Calendar, zone_of

MAX_NAME_CHARS: Final = 64

Beside = Callable[[str], bytes]
T = TypeVar("T")


@dataclass
class CatalogueReading:
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


def check_zone(text: str) -> str:
    zone_of(text)
    return text


def read_value(node: Node, what: str, parse: Callable[[str], T]) -> T:
    """A scalar through a parser whose ValueError says what is wrong."""
    text = text_of(node, what)
    try:
        return parse(text)
    except ValueError as error:
        raise NodeRefused(node.place, f"{what}: {error}") from error


def read_instant(node: Node | None, reading: CatalogueReading) -> int | None:
    return None if node is None else read_value(node, "date", lambda text: parse_instant(text, reading.zone))


def read_identifier(node: Node, what: str) -> str:
    text = text_of(node, what)
    plain = all(char.isalnum() or char in "-_." for char in text)
    if not 1 <= len(text) <= MAX_NAME_CHARS or not plain:
        raise NodeRefused(node.place, f"{what} {text[:40]!r} is 1 to {MAX_NAME_CHARS} letters, digits, - _ or .")
    return text


def read_names(fields: Fields, default: str) -> Names:
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


def known_name(node: Node, section: str, reading: CatalogueReading) -> str:
    """A name that a section defines."""
    text = text_of(node, section)
    if text not in reading.defined[section]:
        what = {"taxes": "tax class", "rate_cards": "rate card"}.get(section, section.removesuffix("s"))
        raise NodeRefused(node.place, f"there is no {what} {text[:80]!r}", near(text, reading.defined[section]))
    return text


def known_names(fields: Fields, name: str, section: str, reading: CatalogueReading) -> tuple[str, ...]:
    found = [known_name(node, section, reading) for node in fields.nodes(name)]
    if len(set(found)) != len(found):
        raise NodeRefused(fields.place_of(name), f"{name} names something twice")
    return tuple(found)


def read_boolean(fields: Fields, name: str) -> bool:
    node = fields.take(name)
    if node is None:
        return False
    text = text_of(node, name)
    if text not in ("true", "false"):
        raise NodeRefused(node.place, f"{name} is true or false, not {text[:40]!r}")
    return text == "true"


def read_whole(fields: Fields, name: str, default: int, low: int, high: int) -> int:
    node = fields.take(name)
    if node is None:
        return default
    found = read_value(node, name, lambda text: parse_decimal(text, 0))
    if not low <= found <= high:
        raise NodeRefused(node.place, f"{name} is {low} to {high:,}, not {found:,}")
    return found


def read_unit(fields: Fields) -> Unit:
    """One word, or a word per language: the first of them is the unit's name, all are what documents call it."""
    node = fields.require("unit")
    names = _by_language(node) if isinstance(node, Table) else {"": text_of(node, "unit")}
    for name in names.values():
        if not (name[:1].isalpha() and len(name) <= 20 and name.isprintable() and " " not in name):
            raise NodeRefused(node.place, f"unit {name[:40]!r} is one word such as s, min, GB, piece")
    first = next(iter(names.values()))
    return Unit(first, read_whole(fields, "decimals", 0, 0, MAX_DECIMALS), {} if "" in names else names)


def read_ppm(node: Node, what: str) -> int:
    return read_value(node, what, lambda text: parse_decimal(text, PERCENT_DECIMALS))
