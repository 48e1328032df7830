"""Truth 11: what a customer pays depends on what happened, not on when runs were made or in how many files usage came.

The same customers live the same months under several schedules of runs and files, and then once more, billed in one run
at the end: every customer pays the same.
"""

import io
import random
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg2
import pytest

from billing.catalogue.store import Source, catalogue_of, save_version
from billing.cycle import run as cycle_run
from billing.cycle.plan import NewRun
from billing.usage.format import parse_format
from billing.usage.importer import import_file
from billing.usage.load_store import NewImport
from billing.verification.cycle import verify_cycle
from billing.verification.usage import verify_usage
from kopeck.databases.transactions import in_transaction
from tests.billing.cycle.base import Base

CATALOGUE = b"""\
kopeck_catalogue: 1
name: cycle
currency: RUB
zone: Europe/Moscow
taxes:
  vat:
    rates: [{from: 2019-01-01, percent: 20}, {from: 2026-01-01, percent: 22}]
items:
  fee: {name: Fee, unit: piece, tax: vat}
  voice: {name: Calls, unit: s, tax: vat}
  sms: {name: Messages, unit: piece, tax: vat}
  fund: {name: Fund, tax: vat, percentage_of: [voice, sms]}
pools:
  minutes: {unit: s}
plans:
  small: {items: [fee, voice, sms, fund], pools: [{pool: minutes, quantity: 30 min}]}
  large: {items: [fee, voice, sms, fund], pools: [{pool: minutes, quantity: 60 min}]}
  more: {items: [sms], pools: [{pool: minutes, quantity: 10 min}]}
prices:
  - {item: fee, versions: [{from: 2025-01-01, steps: [{flat: {amount: 300.00}}]}]}
  - item: voice
    versions: [{from: 2025-01-01, steps: [allowance: {pool: minutes}, per_unit: {price: 1.37, per: 1 min}]}]
  - item: voice
    plan: large
    versions: [{from: 2025-01-01, steps: [allowance: {pool: minutes}, per_unit: {price: 0.51, per: 1 min}]}]
  - item: sms
    versions:
      - from: 2025-01-01
        steps: [volume: {tiers: [{upto: 20, price: 1.11}, {upto: 60, price: 0.93}, {price: 0.49}]}]
  - {item: fund, versions: [{from: 2025-01-01, steps: [{percentage: {percent: 1.2}}]}]}
"""

FORMAT = """
kind = "csv"
source = "switch"
delimiter = ";"
key = ["id"]
max_rejects_percent = 0
[account]
column = "number"
[item]
column = "item"
[time]
column = "at"
format = "unix_s"
oldest_days = 3660
[quantity]
column = "quantity"
"""

FIRST, LAST = date(2026, 1, 1), date(2026, 4, 1)
DAY = 86_400


def instant(day: date, seconds: int = 0) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) - 3 * 3600 + seconds


def the_end() -> datetime:
    return datetime.fromtimestamp(instant(LAST, 60 * DAY), UTC)


def written(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


@dataclass(frozen=True)
class Bought:
    """An order: [starts, ends) in days since FIRST; ends 0: it goes on."""

    plan: str
    starts: int
    ends: int = 0
    in_advance: bool = False
    minimum: int = 0


@dataclass(frozen=True)
class Used:
    """Usage. at: seconds since FIRST; came: the day on which the file came."""

    item: str
    at: int
    came: int
    quantity: int


@dataclass(frozen=True)
class Life:
    bought: tuple[Bought, ...]
    used: tuple[Used, ...]


DAYS = (LAST - FIRST).days


def lives(seed: int) -> list[Life]:
    """Customers: plan changes in the month, second orders, ends, and usage of which much is late."""
    dice = random.Random(seed)
    change, end = dice.randint(5, 50), dice.randint(40, 80)
    shapes = [
        (Bought("small", 0),),
        (Bought("small", 0, change), Bought("large", change)),
        (Bought("large", 0, change), Bought("small", change)),
        (Bought("small", 0, change), Bought("large", change, change + 9), Bought("small", change + 9)),
        (Bought("small", 0, end),),
        (Bought("small", 0, end, minimum=40_000),),
        (Bought("small", 0), Bought("more", 0, change), Bought("more", end)),
        (Bought("large", 3, 0, in_advance=True, minimum=32_000), Bought("more", change, end)),
    ]
    found = []
    for shape in shapes:
        used = []
        until = max(one.ends or DAYS for one in shape)
        for _ in range(60):
            at = dice.randint(shape[0].starts * DAY, until * DAY - 1)
            delay = dice.choice((0, 0, 0, 1, 3, 12, 35))
            item = dice.choice(("voice", "voice", "sms"))
            quantity = dice.randint(30, 600) if item == "voice" else dice.randint(1, 4)
            used.append(Used(item, at, at // DAY + 1 + delay, quantity))
        found.append(Life(shape, tuple(used)))
    return found


class Town:
    """Lives in a database."""

    def __init__(self, base: Base, world: list[Life], name: str) -> None:
        self.base, self.world, self.name = base, world, name
        self.accounts = [base.subscriber(f"{name}{number}") for number in range(len(world))]
        self.done: set[tuple[int, int]] = set()
        self.known: dict[tuple[int, int], int] = {}
        self.keys = 0

    def orders_of(self, day: int) -> None:
        """Orders begin and end on their day; nobody knows before."""
        for number, life in enumerate(self.world):
            for nth, one in enumerate(life.bought):
                if one.starts <= day and (number, nth) not in self.known:
                    self.known[number, nth] = self.base.order(
                        self.accounts[number],
                        plan=one.plan,
                        in_advance=one.in_advance,
                        minimum_minor=one.minimum,
                        starts_at=written(instant(FIRST, one.starts * DAY)),
                    )
                if one.ends and one.ends <= day:
                    self.base.rows(
                        "UPDATE orders SET ends_at = %s WHERE id = %s AND ends_at IS NULL",
                        written(instant(FIRST, one.ends * DAY)),
                        self.known[number, nth],
                    )

    def files_of(self, day: int, files: int = 1) -> None:
        """The usage that came up to this day, in this many files."""
        lines = []
        for number, life in enumerate(self.world):
            for nth, one in enumerate(life.used):
                if one.came <= day and (number, nth) not in self.done:
                    self.done.add((number, nth))
                    at = instant(FIRST, one.at)
                    lines.append(f"{self.name}-{number}-{nth};{self.name}{number};{one.item};{at};{one.quantity}\n")
        for part in range(files):
            if lines[part::files]:
                data = "id;number;item;at;quantity\n" + "".join(lines[part::files])
                new = NewImport("switch", "switch", FORMAT, f"{day}-{part}.csv", "accept", "test")
                made = parse_format(FORMAT, "switch.toml")
                outcome = import_file(self.base.dsn, io.BytesIO(data.encode()), made, new, now=the_end)
                assert outcome.counts.rejected == 0

    def paid(self) -> list[int]:
        return [-self.base.balance(account) for account in self.accounts]


def bill(base: Base, day: int, kind: str = "post", account: str = "") -> None:
    run_id = cycle_run.start_run(
        base.dsn, NewRun(FIRST + timedelta(days=day), kind, "test", account=account, shard_payers=3)
    )
    outcome = cycle_run.go_on(base.dsn, run_id, cycle_run.Crew(1))
    assert outcome.summary.is_clean, outcome.summary
    if kind == "review":
        cycle_run.approve(base.dsn, run_id, "test")
        cycle_run.go_on(base.dsn, run_id, cycle_run.Crew(1))


def monthly(town: Town, day: int, dice: random.Random) -> None:
    if day in (31, 59, 90):
        town.files_of(day)
        bill(town.base, day)


def often(town: Town, day: int, dice: random.Random) -> None:
    if day % 5 == 0:
        town.files_of(day, 2)
        bill(town.base, day)


def single(town: Town, day: int, dice: random.Random) -> None:
    """Runs of single payers, between a few for everybody."""
    if dice.random() < 0.2:
        town.files_of(day)
        bill(town.base, day, dice.choice(("post", "review")), f"{town.name}{dice.randrange(len(town.world))}")
    if day in (40, 75):
        bill(town.base, day)


def reviewed(town: Town, day: int, dice: random.Random) -> None:
    """Reviews that wait while usage comes, some of them void."""
    if day % 15 == 9:
        town.files_of(day)
    if day % 15 == 10:
        run_id = cycle_run.start_run(town.base.dsn, NewRun(FIRST + timedelta(days=day), "review", "test"))
        cycle_run.go_on(town.base.dsn, run_id, cycle_run.Crew(1))
        town.files_of(day)
        if dice.random() < 0.4:
            cycle_run.void_review(town.base.dsn, run_id)
        else:
            cycle_run.approve(town.base.dsn, run_id, "test")
            cycle_run.go_on(town.base.dsn, run_id, cycle_run.Crew(1))


def once(town: Town, day: int, dice: random.Random) -> None:
    """One run at the end."""


@pytest.fixture
def base(database: Any) -> Iterator[Base]:
    source = Source("cycle.yaml", {"cycle.yaml": CATALOGUE})

    async def load(cur: Any) -> None:
        await save_version(cur, source, catalogue_of(source), "test")

    in_transaction(database.dsn, load)
    with closing(psycopg2.connect(database.owner_dsn)) as owner:
        owner.autocommit = True
        made = Base(database.dsn, owner, 0)
        made.catalogue_id = made.one("SELECT id FROM catalogues WHERE name = 'cycle'")
        yield made


async def checked(cur: Any) -> list[str]:
    checks = [*await verify_usage(cur), *await verify_cycle(cur, None)]
    return [str(finding) for check in checks for finding in check.findings]


def live(base: Base, world: list[Life], name: str, schedule: Callable[..., None], seed: int, last: int) -> list[int]:
    """What the customers of a world have paid when all their usage has come and been billed from day ``last`` on."""
    town, dice = Town(base, world, name), random.Random(seed)
    for day in range(DAYS + 1):
        town.orders_of(day)
        schedule(town, day, dice)
    town.files_of(DAYS + 100, 2)
    bill(base, last)
    bill(base, last + 1)  # what came when usage was closed up to the day before
    return town.paid()


@pytest.mark.parametrize(("schedule", "seed"), [(monthly, 1), (often, 2), (single, 3), (reviewed, 4)])
def test_what_a_customer_pays_does_not_depend_on_when_runs_are_made(
    base: Base, schedule: Callable[..., None], seed: int
) -> None:
    world = lives(seed)
    paid = live(base, world, "A", schedule, seed, DAYS)
    assert paid == live(base, world, "B", once, seed, DAYS + 2)
    assert min(paid) > 0
    assert base.one("SELECT count(*) FROM order_periods WHERE part = 'late' AND outcome = 'billed'") > 0
    assert base.differences() == []
    assert in_transaction(base.dsn, checked) == []


@pytest.mark.parametrize("days", [(31,), (15, 31), (10, 12, 20, 31)])
def test_a_plan_change_in_the_month_goes_on_with_what_the_first_plan_left(base: Base, days: tuple[int, ...]) -> None:
    """25 of 30 minutes, then 40 of a plan with 60: five are too many, whenever runs are made."""
    calls = (
        Used("voice", 3 * DAY, 4, 25 * 60),
        Used("voice", 12 * DAY, 13, 10 * 60),
        Used("voice", 20 * DAY, 21, 30 * 60),
    )
    town = Town(base, [Life((Bought("small", 0, 9), Bought("large", 9)), calls)], "A")
    for day in range(32):
        town.orders_of(day)
        town.files_of(day)
        if day in days:
            bill(base, day)
    usage = base.rows("SELECT l.quantity, l.amount_minor FROM invoice_lines l WHERE item = 'voice' ORDER BY order_id")
    assert usage == [(1_500, 0), (2_400, 255)]


@pytest.mark.parametrize("files", [1, 2, 5])
def test_in_how_many_files_usage_came_is_nothing_to_its_price(base: Base, files: int) -> None:
    """A volume price, whose tier more usage changes, and a percentage of it: late usage makes a credit of the line."""
    used = tuple(Used("sms", number * DAY, 40 if number % 2 else 3, 6) for number in range(11))
    town = Town(base, [Life((Bought("small", 0),), used)], "A")
    town.orders_of(0)
    town.files_of(31, files)
    bill(base, 31)
    town.files_of(58, files)
    bill(base, 59)
    town.files_of(60, files)
    bill(base, 60)
    sums = base.rows("SELECT item, sum(amount_minor)::bigint FROM invoice_lines GROUP BY item ORDER BY item")
    assert dict(sums) == {"fee": 60_000, "fund": round(66 * 49 * 0.012), "sms": 66 * 49}  # more than 60: 0.49 each
    assert in_transaction(base.dsn, checked) == []
