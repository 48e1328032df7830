"""A month of the whole base, rated twice out of PostgreSQL: under the catalogues in force and under a draft.

Rules. Nothing is written. A range of accounts is one transaction, read once and computed twice.

Does not know: what the month comes to (billing.simulation.whatif), how it is shown.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from billing.catalogue.model import Catalogue, prices_as_of
from billing.catalogue.store import Source, catalogue_of
from billing.charging.records import Range
from billing.charging.tariffs import Tariffs, prepare_tariffs
from billing.cycle.store import read_terms
from billing.cycle.usage_store import read_usage
from billing.database.cursors import ColumnConnection
from billing.database.link import Link
from billing.orders.terms import OrderTerms
from billing.simulation.store import (
    CalendarMonth,
    MonthError,
    NamedBuyers,
    NewestCatalogue,
    newest_catalogues,
    numbers_of,
    ranges_of_orders,
    read_orders,
)
from billing.simulation.usage_run import AWAY_S, named_in, timed, with_draft
from billing.simulation.whatif import Compared, compare, due_in, usage_of
from billing.simulation.workers import Work, each_range

#: Accounts of a range.
ACCOUNTS_PER_RANGE: Final = 20_000


@dataclass(frozen=True, slots=True)
class WhatIf:
    """A comparison, and what it was made of. numbers: of the accounts it names, by id."""

    month: CalendarMonth
    in_force: NewestCatalogue
    compared: Compared
    numbers: Mapping[int, str]
    seconds: dict[str, float]
    took_s: float


@dataclass(frozen=True, slots=True)
class WhatIfJob:
    """What a process is told, all of it plain values. as_of_s: as of ``compare_base``."""

    dsn: str
    before: tuple[tuple[int, Source], ...]
    after: tuple[tuple[int, Source], ...]
    draft_id: int
    as_of_s: int | None
    terms: dict[int, OrderTerms]
    month: CalendarMonth


def compare_base(
    dsn: str,
    month: CalendarMonth,
    draft: tuple[Catalogue, Source],
    as_of_s: int | None = None,
    processes: int = 0,
    progress: Callable[[int, int, int], None] = lambda _done, _of, _orders: None,
) -> WhatIf:
    """Rate a month under the newest catalogues and under a draft in place of the one of its name.

    Args:
        as_of_s: rate the draft at the prices that it has in force at this instant; None: at those of the month.
        progress: told ranges done, how many there are, and orders so far.

    Raises:
        MonthError: nothing is sold under a catalogue of this name; CycleStoreError: the database refused or is away.
    """
    begun = time.perf_counter()
    link = Link(dsn, AWAY_S)
    try:
        stored = link.run(newest_catalogues)
        drafted = with_draft(stored, draft, must_exist=True)
        terms = link.run(read_terms)
        zones = {one.zone for one in terms.values()}
        until_s = max((month.bounds_s(zone)[1] for zone in zones), default=0)
        ranges = link.run(lambda opened: ranges_of_orders(opened, until_s, ACCOUNTS_PER_RANGE))
        if not ranges:
            raise MonthError(f"no order began before the end of {month.label}: there is nothing to compare")
        in_force = next(one for one in stored if one.name == draft[0].name)
        before, after = (tuple((one.catalogue_id, one.source) for one in some) for some in (stored, drafted))
        job = WhatIfJob(dsn, before, after, in_force.catalogue_id, as_of_s, terms, month)
        found, seconds = Compared(), dict[str, float]()
        for done, (one, spent) in enumerate(each_range(make_comparing, job, ranges, processes), 1):
            found.add(one)
            for stage, spent_s in spent.items():
                seconds[stage] = seconds.get(stage, 0.0) + spent_s
            progress(done, len(ranges), found.orders)
        named = [one.account_id for one in (*found.up, *found.down)]
        named += [one.account_id for one in (*found.before.listed, *found.after.listed)]
        numbers = link.run(lambda opened: numbers_of(opened, named))
    finally:
        link.close()
    return WhatIf(month, in_force, found, numbers, seconds, time.perf_counter() - begun)


def make_comparing(job: WhatIfJob) -> Work[tuple[Compared, dict[str, float]]]:
    """The work of a process."""
    before = {number: catalogue_of(source) for number, source in job.before}
    after = {number: catalogue_of(source) for number, source in job.after}
    if job.as_of_s is not None:
        after[job.draft_id] = prices_as_of(after[job.draft_id], job.as_of_s)
    both = prepare_tariffs(before, job.terms), prepare_tariffs(after, job.terms)
    named = named_in(both)
    link = Link(job.dsn, AWAY_S)

    def work(accounts: Range) -> tuple[Compared, dict[str, float]]:
        return link.run(lambda opened: _compared(opened, job, both, named, accounts))

    return work


def _compared(
    opened: ColumnConnection, job: WhatIfJob, both: tuple[Tariffs, Tariffs], named: NamedBuyers, accounts: Range
) -> tuple[Compared, dict[str, float]]:
    seconds: dict[str, float] = {}
    month = job.month
    with timed(seconds, "orders"):
        until_s = max(month.bounds_s(zone)[1] for zone in both[0].zones)
        shard = read_orders(opened, accounts, until_s, month.following, named)
    with timed(seconds, "due"):
        shard, before = due_in(shard, both[0], month)
        _, after = due_in(shard, both[1], month)
        wanted = usage_of(shard, ((before, both[0]), (after, both[1])))
    with timed(seconds, "usage"):
        shard = replace(shard, events=read_usage(opened, accounts, wanted))
    with timed(seconds, "rate"):
        return compare(shard, (before, both[0]), (after, both[1])), seconds
