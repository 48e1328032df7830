"""The home page: what came in today, what is stuck, late or waits for a person; each number opens its list.

Rules. Figures come from totals and indexes of what is open, and are kept some seconds, so many readers cost as one. A
figure is for those who may see its list, and of their legal entities. One that cannot be counted in its time says so in
its own card. A day is the site's zone's; it is compared with the same weekday a week before, up to the same time.

Does not know: how figures are counted.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from billing.invoicing.list_store import INVOICE_ROWS
from billing.language import N_
from billing.listing.records import OneOf, Question
from billing.listing.store import count_of
from billing.work.deliveries.desk_store import count_open
from billing.work.jobs.records import JobState
from billing.work.jobs.store import count_jobs
from billing.work.schedules.store import database_clock, standing
from gateway.journal.figures_store import HourSum, PartnerCount, UnderWay, counts_by_partner, sums_by_hour, under_way
from gateway.journal.totals import Totals, payment_totals
from gateway.payments.states import State
from web.access.rights import Open, Right
from web.console.home_store import limit_time, open_runs, waiting_approvals
from web.site.charts import BarChart, bar_chart
from web.site.filters import midnight, written
from web.site.page import Page
from web.site.site import DATABASE_ERRORS

log = logging.getLogger(__name__)

#: A payment that is under way for longer is stuck.
STUCK: Final = timedelta(minutes=15)
WEEK: Final = timedelta(days=7)
HOUR: Final = timedelta(hours=1)
#: How long a figure is kept, and one that reads many rows.
KEPT_S: Final = 10.0
COSTLY_KEPT_S: Final = 60.0
#: What one figure may take.
FIGURE_LIMIT_MS: Final = 1_500
ACCEPTED: Final = (State.POSTED.value,)
UNDER_WAY: Final = (State.HELD.value, State.SENT.value, State.UNKNOWN.value)
#: A payment that was refused, given back or voided did not succeed; what is under way is not decided.
FAILED: Final = (State.REFUSED.value, State.VOIDED.value, State.REVERSED.value)
APPROVING: Final = (Right.MONEY_APPROVE, Right.PARTNERS_APPROVE, Right.ROLES_APPROVE)
_AWAY: Final = N_("not counted: the database did not answer in time")


@dataclass(frozen=True, slots=True)
class FigureCard:
    """One number that waits for people. value: None where it could not be counted. tone: of a number above 0.

    money: (minor units, currency); lines: what stands under the number.
    """

    title: str
    href: str
    value: int | None
    is_at_least: bool = False
    tone: str = "bad"
    money: tuple[tuple[int, str], ...] = ()
    line: str = ""


@dataclass(frozen=True, slots=True)
class DayTotal:
    """One currency: today and a week before by the same time; change: whole per cent, None without a week before."""

    currency: str
    count: int
    amount: int
    count_before: int
    amount_before: int

    @property
    def change(self) -> int | None:
        """How much more came in than a week before, in per cent, half away from zero."""
        if not self.amount_before:
            return None
        more = (self.amount - self.amount_before) * 100
        half = self.amount_before // 2
        return (more + half) // self.amount_before if more >= 0 else -((-more + half) // self.amount_before)


@dataclass(frozen=True, slots=True)
class HourLine:
    """One hour of the day: its beginning and, of today and a week before, count and minor units. Hours to come have
    None."""

    at: datetime
    count: int | None
    amount: int | None
    count_before: int
    amount_before: int


@dataclass(frozen=True, slots=True)
class Today:
    """Payments accepted today. hours and chart: by currency."""

    totals: tuple[DayTotal, ...]
    hours: dict[str, tuple[HourLine, ...]]


@dataclass(frozen=True, slots=True)
class PartnerRate:
    """How payments of one partner ended today. rate: accepted of those decided, per mille; None: none is decided."""

    code: str
    name: str
    accepted: int
    failed: int
    open: int

    @property
    def rate(self) -> int | None:
        """Per mille, rounded down: 1000 only when none failed."""
        decided = self.accepted + self.failed
        return self.accepted * 1000 // decided if decided else None


def day_totals(today: Totals, before: Totals) -> tuple[DayTotal, ...]:
    """Both days by currency, in order of currency."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for place, totals in ((0, today), (2, before)):
        for line in totals.sums:
            counts[line.currency][place] += line.count
            counts[line.currency][place + 1] += line.amount
    return tuple(DayTotal(currency, *counts[currency]) for currency in sorted(counts))


def hour_lines(start: datetime, hours: int, now: datetime, today: Sequence[HourSum], before: Sequence[HourSum],
               start_before: datetime) -> tuple[HourLine, ...]:  # fmt: skip
    """The hours of a day that begins at ``start``, beside those of the day that begins at ``start_before``."""
    of_today = {line.at: line for line in today}
    of_before = {line.at: line for line in before}
    lines = []
    for number in range(hours):
        at = start + number * HOUR
        now_line, then_line = of_today.get(at), of_before.get(start_before + number * HOUR)
        is_to_come = at > now
        lines.append(
            HourLine(
                at,
                None if is_to_come else now_line.count if now_line else 0,
                None if is_to_come else now_line.amount_minor if now_line else 0,
                then_line.count if then_line else 0,
                then_line.amount_minor if then_line else 0,
            )
        )
    return tuple(lines)


def partner_rates(counts: Sequence[PartnerCount]) -> tuple[PartnerRate, ...]:
    """By partner, the worst first."""
    states: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for line in counts:
        states[line.code, line.name][line.state] = line.count
    rates = [
        PartnerRate(code, name, *(sum(of.get(state, 0) for state in group) for group in (ACCEPTED, FAILED, UNDER_WAY)))
        for (code, name), of in states.items()
    ]
    return tuple(sorted(rates, key=lambda rate: (1001 if rate.rate is None else rate.rate, rate.name)))


class HomePage(Page):
    """GET /."""

    needs = Open.TO_SIGNED_IN
    section = "home"

    async def get(self) -> None:
        """The figures that who asks may see."""
        sees_payments = self.may(Right.PAYMENTS_VIEW)
        day = self.now.astimezone(self.site.zone).date()
        cards, today, rates = await asyncio.gather(
            self._cards(),
            self._figure(("today", day), KEPT_S, self._today) if sees_payments else _nothing(),
            self._figure(("partners", day), KEPT_S, self._partners) if sees_payments else _nothing(),
        )
        await self.show(
            "home.html",
            cards=cards,
            sees_payments=sees_payments,
            today=today,
            charts=self._charts(today) if today else {},
            rates=rates,
            away=self._(_AWAY),
            states={"accepted": ACCEPTED, "failed": FAILED, "open": UNDER_WAY},
            hour_text=lambda at: f"{at.astimezone(self.site.zone):%H:%M}",
            compared=self._(COMPARED[day.weekday()]),
            day_before=written(day - WEEK),
        )

    async def _cards(self) -> list[FigureCard]:
        wanted = [make for rights, make in self._makers() if any(map(self.may, rights))]
        return [await make() for make in wanted]

    def _makers(self) -> Sequence[tuple[Sequence[Right], Callable[[], Awaitable[FigureCard]]]]:
        return (
            ((Right.PAYMENTS_VIEW,), self._stuck),
            ((Right.INVOICES_VIEW,), self._overdue),
            (APPROVING, self._approvals),
            ((Right.DELIVERIES_VIEW,), self._deliveries),
            ((Right.JOBS_VIEW,), self._jobs),
            ((Right.SCHEDULES_VIEW,), self._schedules),
            ((Right.RUNS_VIEW,), self._runs),
        )

    async def _figure(self, key: tuple[Any, ...], seconds: float, count: Callable[[Any], Awaitable[Any]]) -> Any:
        """A figure, kept; None where the database does not answer in its time."""

        async def counted() -> Any:
            async with self.site.transaction("READ ONLY") as cur:
                await limit_time(cur, FIGURE_LIMIT_MS)
                return await count(cur)

        try:
            return await self.site.figures.get(key, seconds, counted)
        except DATABASE_ERRORS as error:
            log.warning("figure_away", extra={"figure": str(key[0]), "error": str(error)})
            return None

    def _at(self, path: str, **query: Any) -> str:
        """The address of a list, or "" in a version that has no such page."""
        has_page = path in self.application.settings["paths"]
        return f"{path}?{urlencode(query, doseq=True)}" if has_page and query else path if has_page else ""

    # -- payments

    async def _today(self, cur: Any) -> Today:
        now = self.now
        day = now.astimezone(self.site.zone).date()
        start, start_before = midnight(day, self.site.zone), midnight(day - WEEK, self.site.zone)
        end = midnight(day + timedelta(days=1), self.site.zone)
        before = start_before + (now - start)
        totals = day_totals(
            await payment_totals(cur, start, now, ACCEPTED), await payment_totals(cur, start_before, before, ACCEPTED)
        )
        hours = -(-(end - start) // HOUR)
        first, first_before = _hour(start), _hour(start_before)
        sums = await sums_by_hour(cur, first, first + hours * HOUR, ACCEPTED)
        sums_before = await sums_by_hour(cur, first_before, first_before + hours * HOUR, ACCEPTED)
        currencies = sorted({line.currency for line in (*sums, *sums_before)})
        lines = {
            currency: hour_lines(
                first, hours, now, [line for line in sums if line.currency == currency],
                [line for line in sums_before if line.currency == currency], first_before,
            )
            for currency in currencies
        }  # fmt: skip
        return Today(totals, lines)

    async def _partners(self, cur: Any) -> tuple[PartnerRate, ...]:
        start = _hour(midnight(self.now.astimezone(self.site.zone).date(), self.site.zone))
        return partner_rates(await counts_by_partner(cur, start, _hour(self.now) + HOUR))

    def _charts(self, today: Today) -> dict[str, BarChart]:
        charts = {}
        for currency, lines in today.hours.items():
            labels = [f"{line.at.astimezone(self.site.zone):%H:%M}" for line in lines]
            charts[currency] = bar_chart(
                [line.amount or 0 for line in lines], labels, [line.amount_before for line in lines]
            )
        return charts

    async def _stuck(self) -> FigureCard:
        lines: list[UnderWay] | None = await self._figure(
            ("stuck",), KEPT_S, lambda cur: under_way(cur, self.now - STUCK)
        )
        title = self._("Payments under way for over %(minutes)s minutes", minutes=STUCK // timedelta(minutes=1))
        href = self._at("/payments", period="year", state=UNDER_WAY)
        if lines is None:
            return FigureCard(title, href, None)
        money = tuple((line.amount_minor, line.currency) for line in lines)
        oldest = min((line.oldest for line in lines), default=None)
        told = self._("the oldest since %(time)s", time=self._instant(oldest)) if oldest else ""
        return FigureCard(title, href, sum(line.count for line in lines), money=money, line=told)

    # -- what waits for people

    async def _overdue(self) -> FigureCard:
        entities = self.access.entities(Right.INVOICES_VIEW)
        scope = None if entities is None else tuple(sorted(entities))
        question = Question((OneOf("state", ("overdue",)),), legal_entities=scope)
        count = await self._figure(
            ("overdue", scope), COSTLY_KEPT_S,
            lambda cur: count_of(cur, INVOICE_ROWS, question, timeout_ms=FIGURE_LIMIT_MS),
        )  # fmt: skip
        title, href = self._("Invoices overdue"), self._at("/invoices", state="overdue")
        if count is None:
            return FigureCard(title, href, None)
        if not count.is_exact:
            return FigureCard(title, href, count.at_least or count.rows, is_at_least=True, line=self._("an estimate"))
        money = tuple((amount, currency) for currency, amount in sorted((count.sums or {}).items()))
        return FigureCard(title, href, count.rows, money=money, line=self._("their totals") if money else "")

    async def _approvals(self) -> FigureCard:
        number = await self._figure(("approvals",), KEPT_S, waiting_approvals)
        return FigureCard(self._("Requests waiting for approval"), self._at("/approvals"), number, tone="warn")

    async def _deliveries(self) -> FigureCard:
        counts = await self._figure(("deliveries",), KEPT_S, count_open)
        number = None if counts is None else sum(line.count for line in counts if line.state == "manual")
        return FigureCard(
            self._("Deliveries waiting for a person"), self._at("/deliveries", state="manual"), number, tone="warn"
        )

    async def _jobs(self) -> FigureCard:
        counts = await self._figure(("jobs",), KEPT_S, count_jobs)
        number = None if counts is None else counts.failed
        return FigureCard(self._("Jobs failed"), self._at("/jobs", state=JobState.FAILED.value), number)

    async def _schedules(self) -> FigureCard:
        async def count(cur: Any) -> Any:
            return await standing(cur, await database_clock(cur))

        counts = await self._figure(("schedules",), KEPT_S, count)
        number = None if counts is None else counts.late + counts.with_problem
        return FigureCard(self._("Schedules late or broken"), self._at("/schedules"), number)

    async def _runs(self) -> FigureCard:
        runs = await self._figure(("runs",), KEPT_S, open_runs)
        href = self._at("/runs", state=("running", "reviewed", "approving"))
        number = None if runs is None else len(runs)
        waits = any(state == "reviewed" for _, state in runs or ())
        line = self._("waits for review") if waits else ""
        return FigureCard(self._("Billing runs under way"), href, number, tone="info", line=line)

    def _instant(self, at: datetime) -> str:
        return self.formats.instant(at, self.site.zone)


#: What today is compared with, by weekday.
COMPARED: Final = (
    N_("than Monday a week ago by this time"), N_("than Tuesday a week ago by this time"),
    N_("than Wednesday a week ago by this time"), N_("than Thursday a week ago by this time"),
    N_("than Friday a week ago by this time"), N_("than Saturday a week ago by this time"),
    N_("than Sunday a week ago by this time"),
)  # fmt: skip


async def _nothing() -> None:
    return None


def _hour(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
