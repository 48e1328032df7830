"""What a run of dunning would do, without doing it: counts by step, the largest debts, and each account if asked.

Rules. It finds what is due by the very query of a run (billing.invoicing.dunning), takes no lock and writes nothing.

Does not know: how it is shown.
"""

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import date
from itertools import groupby

from billing.database.cursors import Cursor
from billing.invoicing.dunning import DueStep, find_due_steps, find_settled, next_span
from billing.invoicing.dunning_store import count_touched_orders, names_of
from ratingcore.money import Minor


@dataclass(frozen=True, slots=True)
class Debtor:
    """An account of which something is due. actions: in the order in which a run would do them."""

    account: str
    customer: str
    overdue: Minor
    currency: str
    oldest_due_on: date
    actions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class StepCount:
    """How many accounts a step would come to, and what they owe overdue in one currency."""

    group: str
    step: int
    action: str
    currency: str
    accounts: int
    overdue: Minor


@dataclass(slots=True)
class Preview:
    """Sums of the spans previewed so far. largest: the most debtors that are kept, by debt."""

    most: int
    steps: dict[tuple[str, int, str, str], tuple[int, int]] = field(default_factory=dict)
    largest: list[Debtor] = field(default_factory=list)
    lifted: int = 0
    suspended: int = 0
    cancelled: int = 0

    @property
    def counts(self) -> list[StepCount]:
        """By group, step and currency."""
        return [StepCount(*key, accounts, Minor(sum_)) for key, (accounts, sum_) in sorted(self.steps.items())]


async def preview_span(
    cur: Cursor, preview: Preview, after: int, today: date | None, tell: Callable[[Iterable[Debtor]], None]
) -> tuple[int | None, int]:
    """Add the next accounts after an id to a preview; returns the id to go on from (None at the end) and how many.

    Args:
        tell: gets the debtors of the span, by account id.

    Raises:
        DunningError: a date to come.
    """
    span = await next_span(cur, after, today)
    if span is None:
        return None, 0
    due = await find_due_steps(cur, span)
    preview.lifted += len(await find_settled(cur, span))
    debtors = await _debtors(cur, due)
    tell(debtors)
    preview.largest = heapq.nlargest(preview.most, [*preview.largest, *debtors], key=lambda debtor: debtor.overdue)
    for step in due:
        key = (step.group, step.step, step.action, step.currency)
        accounts, overdue = preview.steps.get(key, (0, 0))
        preview.steps[key] = accounts + 1, overdue + step.overdue
    ids = {
        name: sorted({step.account_id for step in due if step.action == action})
        for name, action in (("suspended", "suspension"), ("cancelled", "cancellation"))
    }
    if any(ids.values()):
        suspended, cancelled = await count_touched_orders(cur, **ids)
        preview.suspended += suspended
        preview.cancelled += cancelled
    return span.last if span.goes_on else None, span.count


async def _debtors(cur: Cursor, due: list[DueStep]) -> list[Debtor]:
    if not due:
        return []
    names = await names_of(cur, sorted({step.account_id for step in due}))
    debtors = []
    for account_id, steps in groupby(due, key=lambda step: step.account_id):
        due_steps = [*steps]
        owes, actions = due_steps[0], tuple(step.action for step in due_steps)
        account, customer = names[account_id]
        debtors.append(Debtor(account, customer, owes.overdue, owes.currency, owes.oldest_due_on, actions))
    return debtors
