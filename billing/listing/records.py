"""What a list is made of, and what may be asked of it.

Rules. A `ListSource` is a constant of a store: its SQL is written by us, and nothing that a person typed ever becomes
part of it; values travel as parameters. What orders a list is never null, and the key makes it unique, so a page is the
rows after a place and each row is seen once. A join finds one row at most for each row of the table; a join that must
find one stands in ``ListSource.table``. A field says which joins it needs, so counting pays for no more than the filter
names.

Does not know: languages, addresses, pages; statements (store).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from billing.refusals import Refusal

#: Letters that a search inside words needs at least: the index holds runs of three.
GRAM_CHARS: Final = 3


class Search(StrEnum):
    """How a field is asked for.

    code: a number or code, as it is written: equal, or its beginning. words: a name, in any case: a part of it of three
    letters or more, its beginning, or all of it. range: between two values. choice: one or more of known values.
    none: not at all.
    """

    CODE = "code"
    WORDS = "words"
    RANGE = "range"
    CHOICE = "choice"
    NONE = "none"


class Match(StrEnum):
    """How a text is compared."""

    CONTAINS = "contains"
    STARTS = "starts"
    EQUALS = "equals"


@dataclass(frozen=True, slots=True)
class Field:
    """A value of a row.

    sql: its expression, over the table and ``joins``. type: of SQL, to which what is asked is cast. is_ordered: whether
    a list may be ordered by it; order_sql: by which expression, never null, where that is not what is compared.
    implied: by a choice, a condition that every such row meets and that an index or a cheap join finds; it makes a
    search fast and changes no result. is_null: whether a row may have none; then a search may ask for the empty ones.
    is_quick: an index finds it.

    is_costly: it is computed by a query for each row; the planner is kept from believing that few rows meet a condition
    on it, and so from computing it for all of them before the first page is full.

    within, asked: where rows are found from the other side, a search is ``within`` with its condition over the
    expression ``asked`` in place of ``{}``. equals: a condition for one whole text, given in place of ``{}``.
    """

    sql: str
    joins: tuple[str, ...] = ()
    type: str = "text"
    search: Search = Search.NONE
    is_ordered: bool = False
    order_sql: str = ""
    implied: Mapping[str, str] = field(default_factory=dict)
    is_null: bool = False
    is_quick: bool = False
    is_costly: bool = False
    within: str = ""
    asked: str = ""
    equals: str = ""

    @property
    def compared(self) -> str:
        """The expression that texts are compared with, and indexes are made on: by code point on any server."""
        sql = self.asked or self.sql
        if self.search is Search.WORDS:
            return f'search_fold({sql}) COLLATE "C"'
        return f'({sql}) COLLATE "C"' if self.search is Search.CODE and self.type == "text" else sql

    @property
    def order(self) -> str:
        """The expression that a list is ordered by; empty where it is not."""
        return (self.order_sql or self.compared) if self.is_ordered else ""


@dataclass(frozen=True, slots=True)
class Sums:
    """Minor units and their currency: expressions over the source's table, or over ``joins``, which lead from ``r.key``
    (the key of a row of the list) to any number of rows."""

    amount: str
    currency: str
    joins: str = ""


@dataclass(frozen=True, slots=True)
class ListSource:
    """Where rows come from.

    table: the FROM of the list, one row for each row of it. key: its unique expression, key_type of SQL. joins: by
    name, in the order in which they may be written; needs: a join that another stands on. always: a condition of every
    row. sums: what is added up, by currency. legal_entity: the condition of a right that is
    limited to legal entities, over the array ``%(legal_entities)s``; empty for a list that belongs to none.
    """

    name: str
    table: str
    key: str
    key_type: str
    fields: Mapping[str, Field]
    joins: Mapping[str, str] = field(default_factory=dict)
    needs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    always: str = "true"
    sums: Sums | None = None
    legal_entity: str = ""
    legal_entity_joins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OneOf:
    """The field is one of these values."""

    field: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Between:
    """The field lies between two values of its type; None: no bound. The upper one is not in it if ``is_below``."""

    field: str
    least: Any = None
    most: Any = None
    is_below: bool = False


@dataclass(frozen=True, slots=True)
class TextIs:
    """The field compares so with a text."""

    field: str
    match: Match
    text: str


@dataclass(frozen=True, slots=True)
class Emptiness:
    """The field has no value, or has one."""

    field: str
    is_empty: bool


Condition = OneOf | Between | TextIs | Emptiness


@dataclass(frozen=True, slots=True)
class RowOrder:
    """By which field, empty for the key; from the greatest down if ``is_descending``."""

    field: str = ""
    is_descending: bool = True


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a source. legal_entities: ids the asker may see; None: all."""

    conditions: tuple[Condition, ...] = ()
    order: RowOrder = RowOrder()
    legal_entities: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class ListPlace:
    """Where a page begins: after a row, or before it if not ``is_forward``.

    order, key: of that row, as PostgreSQL writes them. seen: how many rows lay before the page when it was left.
    """

    is_forward: bool
    order: str
    key: str
    seen: int


Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rows:
    """A page. first: how many rows lie before it, as far as is known. previous, next: where the neighbours begin."""

    rows: tuple[Row, ...]
    first: int
    previous: ListPlace | None
    next: ListPlace | None


@dataclass(frozen=True, slots=True)
class Count:
    """How many rows a question finds. sums: minor units by currency, None where they were not added up.

    is_exact: counted; else an estimate, and ``at_least`` rows there are for certain.
    """

    rows: int
    is_exact: bool
    at_least: int = 0
    sums: Mapping[str, int] | None = None


class ListError(Refusal):
    """The list cannot be shown as asked."""

    default_code = "list_refused"


class PlaceError(ListError):
    """The address of a page is damaged, or belongs to another filter."""

    default_code = "list_place"


class TooSlow(ListError):
    """The time for one list ran out: no index serves what was asked."""

    default_code = "list_too_slow"
