"""A list as it is declared: its source, its columns, its words. docs/pages.md shows a whole one.

Rules. A column bears the name of its field in the source (billing.listing), and so do the column in a file and the
parameter in an address. A column that no filter serves says why in ``why_not``. A declaration that contradicts its
source is an error when it is made, not when somebody opens the page. Texts are msgids (billing.language.N_).

Does not know: requests, statements, HTML.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final
from urllib.parse import quote

from billing.database.cursors import Cursor
from billing.language import Language
from billing.listing.records import ListSource, Row, Search
from web.access.rights import Right

#: Parameters of an address that are none of a column.
RESERVED: Final = frozenset({"sort", "columns", "place", "count", "view", "csrf"})
_NAME: Final = re.compile(r"[a-z][a-z_]{0,39}")
_IN_BRACES: Final = re.compile(r"\{(\w+)\}")

#: Values of a field that are known only to the database: (value, label) each.
Options = Callable[[Cursor], Awaitable[Sequence[tuple[str, str]]]]
#: A number of rows in words, such as ``lambda language, n: language.ngettext("%(num)s thing", "%(num)s things", n)``.
Noun = Callable[[Language, int], str]


class Kind(StrEnum):
    """What the values of a column are: how they are written, and how they are asked for."""

    TEXT = "text"
    CODE = "code"  # an id or a number of a document
    NUMBER = "number"
    MONEY = "money"  # minor units
    SUMS = "sums"  # minor units by currency
    DATE = "date"
    INSTANT = "instant"
    STATE = "state"  # one of known codes, with a word and a colour


@dataclass(frozen=True, slots=True)
class ListColumn:
    """A column of a list.

    name: of its field. title: its words. link: the address of what it names, fields of the row in braces; the value is
    no link where one of them is empty. under: a field that stands below the value (such as the name beside a number),
    under_link: its address. currency: the field with the currency of a sum. words: code to its word; tones: kind of
    the codes in web/site/tones.py. options: choices from the database, in place of words. place: on a narrow page's
    card (web/site/columns.py). is_shown: unless the user chooses columns. is_primary: its filter stands in the first
    row. why_not: why it has no filter. told: the value in words, for a column whose value is none of the kinds.
    address: as link, where it depends on more than the fields. reads: further fields that these two read.
    """

    name: str
    title: str
    kind: Kind = Kind.TEXT
    link: str = ""
    under: str = ""
    under_link: str = ""
    currency: str = ""
    words: Mapping[str, str] = field(default_factory=dict)
    tones: str = ""
    options: Options | None = None
    place: str = "line"
    is_shown: bool = True
    is_primary: bool = False
    why_not: str = ""
    told: Callable[[Language, Row], str] | None = None
    address: Callable[[Row], str] | None = None
    reads: tuple[str, ...] = ()

    @property
    def fields(self) -> set[str]:
        """Fields of the source that this column reads."""
        linked = {name for link in (self.link, self.under_link) for name in _IN_BRACES.findall(link)}
        return {self.name, *linked, *self.reads} | {name for name in (self.under, self.currency) if name}


@dataclass(frozen=True, slots=True)
class Tab:
    """A filter that everybody needs, above the list. query: as in the address."""

    title: str
    query: str


@dataclass(frozen=True, slots=True)
class BulkAction:
    """What is done to many rows at once, by a job with a result for each row.

    name: in addresses, on record, and part of the job's kind ``bulk.NAME``. title, question: words; the question tells
    what will happen. needs: the right to do it. typed_above: more rows than this are confirmed by typing their number.
    label: the field that names a row in the job's results.
    """

    name: str
    title: str
    question: str
    needs: Right
    label: str
    typed_above: int = 100


@dataclass(frozen=True, slots=True)
class AddLink:
    """The way from a list to the page that makes one more of what it lists, for those with its right."""

    title: str
    path: str
    needs: Right


@dataclass(frozen=True, slots=True)
class Listing:
    """A list page.

    name: its path without the slash, its right, and the name of its exported files. noun: tells a number of its rows.
    order: a column, ``-`` before it for the greatest first. needs: the right to see it; exports: the right
    to take all of it away. actions: what is done to many rows at once. adds: the page that makes one more.
    """

    name: str
    title: str
    source: ListSource
    columns: tuple[ListColumn, ...]
    order: str
    noun: Noun
    needs: Right
    lead: str = ""
    exports: Right = Right.EXPORTS_RUN
    section: str = ""
    tabs: tuple[Tab, ...] = ()
    actions: tuple[BulkAction, ...] = ()
    adds: AddLink | None = None

    def __post_init__(self) -> None:
        """Refuse what does not hold together."""
        names = [column.name for column in self.columns]
        problems = [f"column {name} stands twice" for name in {*names} if names.count(name) > 1]
        if not _NAME.fullmatch(self.name):
            problems.append("its name is no name of a list")
        for column in self.columns:
            problems += [f"the source has no field {name}" for name in column.fields if name not in self.source.fields]
            if not _NAME.fullmatch(column.name) or column.name in RESERVED:
                problems.append(f"column {column.name} cannot be a parameter of an address")
            known = self.source.fields.get(column.name)
            if known and (known.search is Search.NONE) != bool(column.why_not):
                problems.append(f"column {column.name} has no filter and does not say why, or has one and says why not")
            if known and known.search is Search.CHOICE and not (column.words or column.options):
                problems.append(f"column {column.name} is chosen from nothing")
        order = self.source.fields.get(self.order.removeprefix("-"))
        if order is None or not order.is_ordered or self.order.removeprefix("-") not in names:
            problems.append(f"it is not ordered by {self.order}")
        if problems:
            raise ValueError(f"list {self.name}: {'; '.join(problems)}")

    @property
    def path(self) -> str:
        """Where the list stands."""
        return f"/{self.name}"

    @property
    def by_name(self) -> dict[str, ListColumn]:
        """The columns by their names."""
        return {column.name: column for column in self.columns}

    @property
    def shown(self) -> tuple[str, ...]:
        """The columns that are shown to who has chosen none."""
        return tuple(column.name for column in self.columns if column.is_shown)

    def fields_of(self, names: Sequence[str]) -> list[str]:
        """Fields that these columns read, in the order of the source."""
        columns = self.by_name
        wanted = {name for column in names for name in columns[column].fields}
        return [name for name in self.source.fields if name in wanted]


def linked(link: str, row: Row) -> str:
    """The address that a column's link is for a row; empty where the row lacks a value that it names.

    >>> linked("/customers/{number}", {"number": "A/7"}), linked("/customers/{number}", {"number": None})
    ('/customers/A%2F7', '')
    """
    names = _IN_BRACES.findall(link)
    if not link or any(row[name] in (None, "") for name in names):
        return ""
    values: dict[str, Any] = {name: quote(str(row[name]), safe="") for name in names}
    return link.format(**values)
