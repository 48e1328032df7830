"""The demo's billing: the example catalogue, some customers with orders, a month of usage, and that month's invoices.

Rules. Customers and orders come in the transaction that makes the demo. Usage and the billing run have transactions of
their own, as always; a start that was killed before they were done is made up for by the next one. Everything goes by
the functions of the commands.

Does not know: partners, payments.
"""

import io
import random
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import structlog

from billing.catalogue.store import save_version
from billing.customers.customers import add_customer
from billing.customers.legal_entities import set_entity
from billing.customers.records import LegalEntity, NewCustomer
from billing.cycle.plan import NewRun
from billing.cycle.run import Crew, go_on, run_under_way, start_run
from billing.database.cursors import Cursor
from billing.files.format import parse_format
from billing.orders.charges import add_charge
from billing.orders.orders import add_order, end_order, suspend_order
from billing.orders.records import ManualCharge, WantedOrder
from billing.usage.importer import import_file
from billing.usage.load_store import NewImport
from kopeck.cli.billing.catalogue import load_catalogue
from web.access.audit import record

EXAMPLES: Final = Path(__file__).parents[1] / "examples"
ZONE: Final = ZoneInfo("Europe/Moscow")
COMPANY: Final = "romashka"
#: A number in the partners' pattern of accounts, so that the company can be paid for as well.
COMPANY_ACCOUNT: Final = "74951234567"
#: Of the people who get orders, the last so many work for the company, which pays for them.
EMPLOYEES: Final = 2
PEOPLE: Final = 12

log = structlog.get_logger("kopeck.local.demo")

_SELLER: Final = LegalEntity(
    "main",
    "ООО «Пример связи»",
    {
        "inn": "7700000000",
        "kpp": "770001001",
        "address": "101000, Москва, Примерная улица, дом 1",
        "bank": "АО «Банк для примера»",
        "bik": "044500000",
        "account": "40702810000000000000",
        "correspondent_account": "30101810000000000000",
        "director": "Примеров П. П.",
        "accountant": "Образцова О. О.",
    },
    {},
)


def month_before(now: datetime) -> date:
    """The first day of the last calendar month that is over."""
    return (now.astimezone(ZONE).date().replace(day=1) - timedelta(days=1)).replace(day=1)


async def open_for_business(cur: Cursor, people: Sequence[tuple[str, str]], month: date, actor: str) -> None:
    """A catalogue, customers and orders as of a month. people: accounts that are there, and their owners' names."""
    await _load_catalogue(cur, actor)
    await set_entity(cur, _SELLER)
    details = {"inn": "7700000001", "kpp": "770001001"}
    contacts = {"address": "101000, Москва, Примерная улица, дом 2", "email": "office@example.com"}
    await add_customer(
        cur,
        NewCustomer(COMPANY, "ООО «Ромашка»", "business", contacts=contacts, details=details, account=COMPANY_ACCOUNT),
    )
    for place, (number, name) in enumerate(people):
        is_employee = place >= len(people) - EMPLOYEES
        parent = COMPANY if is_employee else ""
        await add_customer(cur, NewCustomer(number, name, "", parent, is_employee))
        await add_order(cur, _wanted(place, number, month), actor)
    await suspend_order(cur, "demo-5", _at(month, 14), _at(month, 19), actor, "on holiday")
    await end_order(cur, "demo-6", _at(month, 19), actor, "moved away")
    charge = ManualCharge(
        "demo-connection", COMPANY_ACCOUNT, "Подключение офиса", 150_000, 220_000, True, month, "agreed by phone"
    )
    await add_charge(cur, charge, actor)


def _wanted(place: int, account: str, month: date) -> WantedOrder:
    """Orders of the same plan, so that what differs on the invoices is what differs here."""
    return WantedOrder(
        account,
        f"demo-{place + 1}",
        plan="smart",
        starts=str(month + timedelta(days=9) if place == 2 else month),
        anchor_day=1,
        in_advance=place == 1,
        codes=("WELCOME",) if place == 3 else (),
    )


async def _load_catalogue(cur: Cursor, actor: str) -> None:
    catalogue, source = load_catalogue(EXAMPLES / "mobile.yaml")
    saved, is_new = await save_version(cur, source, catalogue, actor, "the example of docs/tariffs.md")
    if is_new:
        detail = {"version": saved.version, "sha256": saved.sha256, "changes": 0}
        await record(cur, actor, "catalogue_loaded", "", "catalogue", saved.name, **detail)


def _at(month: date, days: int) -> int:
    day = month + timedelta(days=days)
    return int(datetime(day.year, day.month, day.day, tzinfo=ZONE).timestamp())


def bill_month(dsn: str, folder: Path, people: Sequence[str], since: datetime, actor: str) -> None:
    """Import the usage of the month that begins at ``since`` and bill it. folder: for the files, to look at."""
    month = since.astimezone(ZONE).date()
    form, usage = (EXAMPLES / "switch.toml").read_text("utf-8"), usage_file(people, month).encode()
    name = f"usage-{month:%Y-%m}.csv"
    (folder / name).write_bytes(usage)
    (folder / "switch.toml").write_text(form, "utf-8")
    made = parse_format(form, "switch.toml")
    new = NewImport(made.source, "switch", form, name, made.late, actor)
    counts = import_file(dsn, io.BytesIO(usage), made, new).counts
    run_id = run_under_way(dsn) or start_run(dsn, NewRun(_next(month), "post", actor))
    outcome = go_on(dsn, run_id, Crew(1))
    if counts.rejected or outcome.troubles or not outcome.summary.is_clean:
        log.error("the demo's month is not billed whole: kopeck bill status", run=run_id, rejected=counts.rejected)


def _next(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)


def usage_file(people: Sequence[str], month: date) -> str:
    """A month of calls and traffic as a switch would write it; the same for the same month."""
    rows = sorted(_rows(people, month))
    lines = [
        f"{number};{account};{at:%d.%m.%Y %H:%M:%S};{kind};{quantity};{seconds};{called}"
        for number, (at, account, kind, quantity, seconds, called) in enumerate(rows, 1)
    ]
    return "\n".join(["call_id;msisdn;started;type;quantity;seconds;called", *lines, ""])


def _rows(people: Sequence[str], month: date) -> Iterator[tuple[datetime, str, str, int, int, str]]:
    chance = random.Random(month.toordinal())
    days = (_next(month) - month).days

    def moment(from_day: int, until_day: int) -> datetime:
        day = month + timedelta(days=chance.randrange(from_day, until_day))
        return datetime.combine(day, time()) + timedelta(seconds=chance.randrange(86_400 - 3_600))

    for place, account in enumerate(people):
        # Only while the order is there and not paused: the third begins on the 10th, the sixth ends with the 19th.
        first, last = (9 if place == 2 else 0), (19 if place == 5 else 14 if place == 4 else days)
        for _ in range(chance.randrange(30, 110)):
            seconds = chance.randrange(2, 720)
            yield moment(first, last), account, "C", seconds, seconds, f"79{chance.randrange(10**9):09d}"
        for day in range(first, last):
            yield moment(day, day + 1), account, "D", chance.randrange(20, 700), 0, ""
        if place % 3 == 0:
            seconds = chance.randrange(30, 400)
            yield moment(first, last), account, "R", seconds, seconds, f"90{chance.randrange(10**9):09d}"
