"""The page on the billing cycle is true: its example is billed by the program, line by line, and worked by hand."""

import io
import re
import shlex
from contextlib import closing
from datetime import UTC, date, datetime
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import psycopg2
import pytest

from billing.calendar import local_midnight
from billing.charging.records import PARTS
from billing.cycle.plan import NewRun
from billing.cycle.run import Crew, go_on, start_run
from billing.orders.orders import end_order, replace_order, withdraw_end
from billing.usage.format import parse_format
from billing.usage.importer import import_file
from billing.usage.load_store import NewImport
from kopeck.databases.transactions import in_transaction
from tests.docs.test_tariffs import number_of, worked

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "billing.md").read_text("utf-8")
EXAMPLE = PAGE.partition("## An example by hand")[2].partition("\n## ")[0]
ZONE = "Europe/Moscow"
FORMAT = """\
kind = "csv"
source = "page"
key = ["account", "started"]
account.column = "account"
item.column = "item"
time = { column = "started", format = "%Y-%m-%dT%H:%M:%S", zone = "Europe/Moscow" }
quantity = { column = "quantity", multiply = 60 }
"""
USAGE = """\
account,item,started,quantity
1001,calls,2026-02-12T10:00:00,90
1001,calls,2026-03-20T10:00:00,30
"""
LINES = """
    SELECT i.invoiced_on, o.number, l.item, (l.period_start AT TIME ZONE %s)::date,
           (l.period_end AT TIME ZONE %s)::date, l.amount_minor, l.tax_minor
    FROM numbered_invoices i JOIN invoice_lines l ON l.invoice_id = i.id JOIN orders o ON o.id = l.order_id
    ORDER BY i.number, l.line
"""


class Line(NamedTuple):
    """A row of the page's tables: on the invoice of which run, for what, from when until when, and how much."""

    run: date
    order: str
    item: str
    start: date
    end: date
    by_hand: str
    amount_minor: int


def lines_of_the_page() -> list[Line]:
    found = []
    for section in re.split(r"^Invoice of the run of ", EXAMPLE, flags=re.MULTILINE)[1:]:
        run = date.fromisoformat(section[:10])
        for row in re.findall(r"^\| (O-\d.*) \|$", section, flags=re.MULTILINE):
            order, item, start, end, by_hand, amount = row.split(" | ")
            days = date.fromisoformat(start), date.fromisoformat(end)
            found.append(Line(run, order, item, *days, by_hand, int(number_of(amount) * 100)))
    return found


@pytest.fixture
def home(kopeck, tmp_path):
    """The page's catalogue is loaded, and there is its customer."""
    ((name, text),) = re.findall(r"```yaml file=(\S+)\n(.*?)```", EXAMPLE, flags=re.DOTALL)
    (tmp_path / name).write_text(text, "utf-8")
    kopeck("catalogue", "load", str(tmp_path / name))
    kopeck("customer", "add", "1001")


@pytest.fixture
def kopeck(kopeck):
    """Runs a command that must succeed."""

    def run(*words: str) -> None:
        said = kopeck(*words)
        assert said.status == 0, said.err

    return run


def bill(dsn: str, day: date) -> None:
    go_on(dsn, start_run(dsn, NewRun(day, "post", "test")), Crew(1))


def lines_billed(dsn: str) -> list[tuple]:
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cur:
        cur.execute("SELECT count(*) FROM bill_failures")
        assert cur.fetchone() == (0,)
        cur.execute(LINES, (ZONE, ZONE))
        return cur.fetchall()


def test_the_example_is_billed_as_the_page_says(home, kopeck, database) -> None:
    (command,) = re.findall(r"^    kopeck (order add .*)$", EXAMPLE, flags=re.MULTILINE)
    kopeck(*shlex.split(command))
    new = NewImport("page", "page", FORMAT, "page.csv", "accept", "test")
    made = parse_format(FORMAT, "page.toml")
    then = datetime(2026, 3, 21, tzinfo=UTC)
    done = import_file(database.dsn, io.BytesIO(USAGE.encode()), made, new, now=lambda: then)
    assert (done.counts.accepted, done.counts.rejected) == (2, 0)
    first, second, third = sorted({line.run for line in lines_of_the_page()})
    bill(database.dsn, first)
    bill(database.dsn, second)
    change = local_midnight(date(2026, 3, 10), ZONE)
    in_transaction(
        database.dsn, lambda cur: replace_order(cur, "O-1", change, "test", plan="home_plus", new_number="O-2")
    )
    bill(database.dsn, third)
    billed = lines_billed(database.dsn)
    assert [row[:6] for row in billed] == [(*line[:5], line.amount_minor) for line in lines_of_the_page()]
    (tax,) = re.findall(r"385\.71 x 22 / 122 ≈ ([\d.]+)", EXAMPLE)
    assert billed[0][6] == int(number_of(tax) * 100)


@pytest.mark.parametrize("later", [None, "2026-04-20"], ids=["withdrawn", "moved"])
def test_an_end_that_was_known_in_advance_and_went_away_is_charged_for(home, kopeck, database, later) -> None:
    kopeck(*shlex.split("order add 1001 --plan home --number O-1 --starts 2026-03-01 --ends 2026-03-11 --in-advance"))
    bill(database.dsn, date(2026, 3, 1))
    if later is None:
        in_transaction(database.dsn, lambda cur: withdraw_end(cur, "O-1", "test"))
    else:
        ends_s = local_midnight(date.fromisoformat(later), ZONE)
        in_transaction(database.dsn, lambda cur: end_order(cur, "O-1", ends_s, "test", is_exact=True))
    bill(database.dsn, date(2026, 4, 1))
    march = [(str(row[0]), row[5]) for row in lines_billed(database.dsn) if row[3] == date(2026, 3, 1)]
    assert march == [("2026-03-01", 193_55), ("2026-04-01", 406_46)]  # 193.55 x (31 - 10) / 10


@pytest.mark.parametrize("line", lines_of_the_page(), ids=lambda line: f"{line.run} {line.order} {line.item}")
def test_the_arithmetic_by_hand_comes_to_the_line(line) -> None:
    exact, rounded, last = re.sub(r" -(?=\d)", " 0 - ", line.by_hand).partition("≈")
    values = {worked(part) for part in exact.split("=")}
    assert len(values) == 1
    billed = Fraction(line.amount_minor, 100)
    assert abs(billed - values.pop()) <= Fraction(1, 200)
    assert not rounded or worked(last) == billed


def test_every_part_has_its_row_and_the_example_its_seven_lines() -> None:
    for part in PARTS:
        assert f"| `{part}` |" in PAGE, part
    assert len(lines_of_the_page()) == 7
