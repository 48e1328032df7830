"""Columns of tables: what a heading says, how its cells are set, and where a cell stands on a narrow page's card.

Rules. A table and its narrow form are the same markup: below 44rem of its own width every row is a card, whose places
are named here. Money and numbers are right-aligned with figures of one width.

Does not know: rows, templates, where values come from.
"""

from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

#: How cells are set: text, code (an id; may break anywhere), number, money, time, mark (a badge), actions (buttons).
KINDS: Final = ("text", "code", "number", "money", "time", "mark", "actions")
#: Where a cell stands on a card: title and figure share the first line; under (left) and mark (right), any number of
#: them, the lines below; each ``line`` is one line with its heading before it, ``block`` one without; ``none`` is out.
PLACES: Final = ("title", "figure", "under", "mark", "line", "block", "none")
SORTED: Final = ("", "ascending", "descending")


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    title: the heading, in words. sort: the address of the list sorted by this column, if it can be.
    sorted: how it is sorted now. is_silent: the heading is read aloud and not shown.
    """

    title: str
    kind: str = "text"
    place: str = "line"
    sort: str = ""
    sorted: str = ""
    is_silent: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.place not in PLACES or self.sorted not in SORTED:
            raise ValueError(f"no such column: {self}")

    @property
    def cell(self) -> Markup:
        """Attributes of a cell of this column: ``<td {{ columns["sum"].cell }}>``.

        >>> Column("Sum", "money", "figure").cell
        Markup('role="cell" class="money at-figure"')
        """
        return self._attributes("cell")

    @property
    def row_heading(self) -> Markup:
        """Attributes of a cell that names its row: ``<th {{ columns["name"].row_heading }}>``."""
        return Markup('scope="row" {}').format(self._attributes("rowheader"))

    def _attributes(self, role: str) -> Markup:
        attributes = Markup('role="{}" class="{} at-{}"').format(role, self.kind, self.place)
        if self.place == "line" and self.title and not self.is_silent:
            attributes += Markup(' data-label="{}"').format(self.title)
        return attributes
