"""The usage of a month of the whole base rated out of PostgreSQL: ranges of accounts on processes, totals added up.

Rules. Nothing is written. A range is one transaction; its usage is read in columns and rated by
`billing.simulation.usage`.

Does not know: what usage comes to, how it is shown.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Final

from billing.catalogue.model import Catalogue
from billing.catalogue.store import Source, catalogue_of
from billing.charging.records import Range
from billing.charging.tariffs import Tariffs, prepare_tariffs
from billing.cycle.store import read_terms
from billing.cycle.usage_store import read_usage_of_range
from billing.database.cursors import ColumnConnection
from billing.database.link import Link
from billing.orders.terms import OrderTerms
from billing.simulation.store import (
    CalendarMonth,
    MonthError,
    NamedBuyers,
    NewestCatalogue,
    newest_catalogues,
    ranges_of_usage,
    read_buyers,
    read_orders,
)
from billing.simulation.usage import ItemTotal, Key, UncoveredUsage, rate_month
from billing.simulation.workers import Work, each_range

#: Events of a range: what a process holds in memory at once.
EVENTS_PER_RANGE: Final = 250_000
#: How long a database that is away is waited for: nothing is lost by giving up.
AWAY_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class RatedMonth:
    """What the usage of a month comes to. seconds: of all processes by stage; took_s: on the clock."""

    month: CalendarMonth
    zone: str
    catalogues: tuple[NewestCatalogue, ...]
    totals: dict[Key, ItemTotal]
    accounts: int
    processes: int
    seconds: dict[str, float]
    took_s: float

    @property
    def rated(self) -> int:
        return sum(one.rows for one in self.totals.values())

    @property
    def rejects(self) -> dict[str, int]:
        found = ItemTotal()
        for one in self.totals.values():
            found.add(ItemTotal(rejects=one.rejects))
        return found.rejects


@dataclass(frozen=True, slots=True)
class RatedRange:
    """What a range of accounts came to."""

    totals: dict[Key, ItemTotal]
    accounts: int
    events: int
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UsageJob:
    """What a process is told, all of it plain values."""

    dsn: str
    sources: tuple[tuple[int, Source], ...]
    terms: dict[int, OrderTerms]
    following: date
    plan: str
    from_s: int
    until_s: int


def with_draft(
    stored: Sequence[NewestCatalogue], draft: tuple[Catalogue, Source] | None, must_exist: bool = False
) -> list[NewestCatalogue]:
    """The stored catalogues with a draft in place of the one of its name; a new name is one more.

    Raises:
        MonthError: must_exist, and there is none of its name.
    """
    if draft is None:
        return list(stored)
    catalogue, source = draft
    number = {one.name: one.catalogue_id for one in stored}.get(catalogue.name)
    if number is None and must_exist:
        known = ", ".join(sorted(one.name for one in stored)) or "none"
        raise MonthError(f"nothing is sold under a catalogue {catalogue.name!r}; the database has: {known}")
    if number is None:
        # Before all others: usage that no order covers is looked up in it first.
        return [NewestCatalogue(0, catalogue.name, 0, source), *stored]
    return [replace(one, version=0, source=source) if one.catalogue_id == number else one for one in stored]


def named_in(tariffs: Sequence[Tariffs]) -> NamedBuyers:
    """Groups and customers whom any of these catalogues names."""
    every = [pair for one in tariffs for pair in one.named.values()]
    return NamedBuyers(
        frozenset[str]().union(*(groups for groups, _ in every)),
        frozenset[str]().union(*(customers for _, customers in every)),
    )


def rate_base(
    dsn: str,
    month: CalendarMonth,
    draft: tuple[Catalogue, Source] | None = None,
    plan: str = "",
    processes: int = 0,
    progress: Callable[[int, int, int], None] = lambda _done, _of, _events: None,
) -> RatedMonth:
    """Rate the usage of a month under the newest catalogues, or under a draft in place of one of them.

    Args:
        plan: whose prices usage has that no order covers; empty: everybody's.
        processes: 0: one a core.
        progress: told ranges done, how many there are, and events so far.

    Raises:
        MonthError: there is no catalogue, or no such plan; CycleStoreError: the database refused or is away.
    """
    begun = time.perf_counter()
    link = Link(dsn, AWAY_S)
    try:
        stored = with_draft(link.run(newest_catalogues), draft)
        if not stored:
            raise MonthError("there is no catalogue: `kopeck catalogue load`, or name a draft by --catalogue")
        catalogues = {one.catalogue_id: catalogue_of(one.source) for one in stored}
        zone = _zone(list(catalogues.values()), plan, draft)
        from_s, until_s = month.bounds_s(zone)
        terms = link.run(read_terms)
        ranges = link.run(lambda opened: ranges_of_usage(opened, from_s, until_s, EVENTS_PER_RANGE))
    finally:
        link.close()
    sources = tuple((one.catalogue_id, one.source) for one in stored)
    job = UsageJob(dsn, sources, terms, month.following, plan, from_s, until_s)
    totals: dict[Key, ItemTotal] = {}
    seconds: dict[str, float] = {}
    accounts = events = 0
    for done, one in enumerate(each_range(make_rating, job, ranges, processes), 1):
        accounts, events = accounts + one.accounts, events + one.events
        for key, total in one.totals.items():
            totals.setdefault(key, ItemTotal()).add(total)
        for stage, spent in one.seconds.items():
            seconds[stage] = seconds.get(stage, 0.0) + spent
        progress(done, len(ranges), events)
    took_s = time.perf_counter() - begun
    return RatedMonth(month, zone, tuple(stored), dict(sorted(totals.items())), accounts, processes, seconds, took_s)


def _zone(catalogues: Sequence[Catalogue], plan: str, draft: tuple[Catalogue, Source] | None) -> str:
    if plan and not any(plan in one.plans for one in catalogues):
        raise MonthError(f"no catalogue has a plan {plan[:60]!r}")
    return draft[0].zone if draft else catalogues[0].zone


def make_rating(job: UsageJob) -> Work[RatedRange]:
    """The work of a process."""
    tariffs = prepare_tariffs({number: catalogue_of(source) for number, source in job.sources}, job.terms)
    named = named_in([tariffs])
    link = Link(job.dsn, AWAY_S)

    def rate(accounts: Range) -> RatedRange:
        return link.run(lambda opened: _rated(opened, job, tariffs, named, accounts))

    return rate


def _rated(
    opened: ColumnConnection, job: UsageJob, tariffs: Tariffs, named: NamedBuyers, accounts: Range
) -> RatedRange:
    seconds: dict[str, float] = {}
    with timed(seconds, "orders"):
        shard = read_orders(opened, accounts, job.until_s, job.following, named)
        outside = UncoveredUsage(job.plan, read_buyers(opened, accounts, named))
    with timed(seconds, "usage"):
        usage = read_usage_of_range(opened, accounts.first, accounts.last, job.from_s, job.until_s)
        shard = replace(shard, events=usage)
    with timed(seconds, "rate"):
        totals, count = rate_month(shard, tariffs, outside, job.from_s, job.until_s)
    return RatedRange(totals, count, len(usage.id), seconds)


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Add what passes within to a stage."""
    begun = time.perf_counter()
    yield
    seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - begun
