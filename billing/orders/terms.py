"""The terms of orders: what is sold, in which rhythm, how prorated. Few terms stand for many orders.

Rules. Terms are one record in two places: an order that is asked for names its catalogue (`WantedTerms`), a row of
order_terms holds the catalogue's id (`OrderTerms`). The other twelve fields are the same; two orders of equal fields
share one row.

Does not know: what terms may say (billing.orders.rules), prices.
"""

from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from billing.calendar import Cadence, Interval

CatalogueKey = TypeVar("CatalogueKey", str, int)


@dataclass(frozen=True)  # without slots: a frozen class that has them cannot be called by an alias with its type
class Terms(Generic[CatalogueKey]):
    """What is sold in which rhythm. catalogue: its name or its id; plan or item: the other one is empty."""

    catalogue: CatalogueKey
    plan: str
    item: str
    currency: str
    kind: str
    interval_unit: str
    interval_count: int
    anchor_day: int
    anchor_month: int
    zone: str
    in_advance: bool
    proration: str
    anchor_phase: int = 0

    @property
    def cadence(self) -> Cadence:
        """The periods of these terms. Raises ValueError for a rhythm that has none."""
        interval = Interval(self.interval_unit, self.interval_count)
        return Cadence(interval, self.anchor_day, self.anchor_month, self.zone, self.anchor_phase)

    @property
    def what(self) -> str:
        return f"plan {self.plan}" if self.plan else f"item {self.item}"


#: Terms as an order asks for them: the catalogue by its name.
WantedTerms: TypeAlias = Terms[str]
#: A row of order_terms: the catalogue by its id.
OrderTerms: TypeAlias = Terms[int]
