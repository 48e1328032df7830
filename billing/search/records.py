"""What a search found: groups of rows, each of one kind.

Rules. Rows that an exact number, phone, e-mail or code named stand before those that a part of it found. A group holds
few rows; where there are more it says by which filter of the kind's list they are seen, if the list has such a filter.

Does not know: pages, addresses, languages.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from billing.listing.records import Condition
from billing.search.terms import SearchKind


@dataclass(frozen=True, slots=True)
class FoundGroup:
    """Rows of one kind. exact: how many at the head were named exactly. has_more: there are rows beside these.

    conditions: the filter of the kind's list that finds them all; empty where it has none.
    """

    kind: SearchKind
    rows: tuple[Mapping[str, Any], ...] = ()
    exact: int = 0
    has_more: bool = False
    conditions: tuple[Condition, ...] = ()
