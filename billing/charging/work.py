"""A shard while it is billed: what is known of it, the lines made so far, and why some periods cannot be billed."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from billing.charging.amounts import Cause, Drafts
from billing.charging.due import Due
from billing.charging.prices import RowTable
from billing.charging.records import (
    Failure,
    ShardInput,
)
from billing.charging.tariffs import ChargeTables, Tariffs, reject_reason
from billing.charging.usage import reject_words
from ratingcore.arrays import Ints


@dataclass
class Work:
    """A shard on its way: what is known of it, and what came up so far. Lives for one ``bill_shard``."""

    shard: ShardInput
    tariffs: Tariffs
    due: Due
    charge_tables: ChargeTables
    table: RowTable
    drafts: list[Drafts] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    events: int = 0

    def order_of(self, period: Ints) -> Ints:
        return self.due.periods.order[period]

    def fail_periods(self, period: Ints, reject: Any, what: Iterable[str]) -> None:
        """A cause for every one of these periods, by a reject of the core and what could not be rated."""
        for one, code, name in zip(period.tolist(), reject.tolist(), what, strict=True):
            self.causes.append(Cause(one, reject_reason(code), f"item {name} cannot be billed: {reject_words(code)}"))
