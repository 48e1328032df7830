"""The demo's data: enough to look at, and made by the ways of a real installation."""

import asyncio
import itertools
import re
from contextlib import closing
from datetime import UTC, date, datetime, timedelta

import psycopg2
import pytest

from gateway.verification.live import verify
from kopeck.databases.transactions import in_transaction
from kopeck.local import demo
from kopeck.local.demo import SUBSCRIBERS, demo_lines, demo_password, make_demo
from kopeck.local.demo_billing import PEOPLE, month_before, open_for_business, usage_file
from kopeck.local.run import BILLING_LINES
from kopeck.settings import Settings


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(data_dir=str(tmp_path / "data"))


def _rows(database, sql: str) -> list[tuple]:
    with closing(psycopg2.connect(database.dsn)) as connection, connection.cursor() as cur:
        cur.execute(sql)
        return cur.fetchall()


def test_the_demo_is_made_once_and_adds_up(database, settings) -> None:
    assert make_demo(settings, database.dsn) is True
    assert make_demo(settings, database.dsn) is False
    assert _rows(database, "SELECT code, state FROM partners ORDER BY code") == [
        ("cyberplat-demo", "active"),
        ("osmp-demo", "active"),
    ]
    subscribers = _rows(database, "SELECT number, name, state, balance_minor FROM accounts WHERE number LIKE '79%'")
    assert len(subscribers) == SUBSCRIBERS
    assert all(re.fullmatch("79[0-9]{9}", row[0]) for row in subscribers)
    assert all(re.fullmatch(r"[А-ЯЁ][а-яё]+ [А-ЯЁ][а-яё]+ [А-ЯЁ][а-яё]+", row[1]) for row in subscribers)
    assert sum(1 for row in subscribers if row[2] == "inactive") == SUBSCRIBERS // 100
    assert sum(1 for row in subscribers if row[3] > 0) > SUBSCRIBERS / 3
    report = asyncio.run(verify(database.dsn, None))
    assert report.is_clean, report.lines()


def test_last_month_is_billed_and_the_printed_lines_work(kopeck, database, settings, tmp_path, monkeypatch) -> None:
    make_demo(settings, database.dsn)
    assert _rows(database, "SELECT bill_on, state, actor FROM bill_runs") == [
        (_next(month_before(datetime.now(UTC))), "done", demo.ACTOR)
    ]
    assert _rows(database, "SELECT count(*) FROM bill_failures") == [(0,)]
    # Ten people and the company that pays for two more; advance, part of a month, a promotion, a charge by hand.
    assert _rows(database, "SELECT count(*), min(full_number) FROM numbered_invoices") == [(11, "I-000001")]
    kinds = _rows(database, "SELECT DISTINCT kind FROM invoice_lines ORDER BY 1")
    assert kinds == [("manual",), ("recurring",), ("usage",)]
    parts = _rows(database, "SELECT part, count(*) FROM order_periods GROUP BY 1 ORDER BY 1")
    assert parts == [("advance", 2), ("arrears", PEOPLE)]
    shares = "SELECT count(*) FROM order_periods WHERE 0 < active_num AND active_num < active_den"
    assert _rows(database, shares) == [(3,)]
    assert _rows(database, "SELECT count(*) > 0 FROM invoice_lines WHERE discount_minor > 0") == [(True,)]
    monkeypatch.chdir(tmp_path)
    for line in BILLING_LINES:
        said = kopeck(*line.split())
        assert (said.status, said.err) == (0, "")
        assert said.out
    assert (tmp_path / "I-000001.pdf").read_bytes().startswith(b"%PDF")


def _next(month):
    return (month + timedelta(days=31)).replace(day=1)


def test_a_start_killed_before_the_month_was_billed_is_made_up_for(database, settings) -> None:
    (settings.data_path() / "demo").mkdir(parents=True)
    people = [(account.number, account.name) for account, _ in itertools.islice(demo._subscribers(), PEOPLE)]

    async def fill(cur) -> None:
        await demo._fill(cur, demo._load_or_make_secrets(settings), "")
        await open_for_business(cur, people, date(2026, 8, 1), demo.ACTOR)

    in_transaction(database.dsn, fill)
    assert make_demo(settings, database.dsn) is True
    assert _rows(database, "SELECT bill_on, invoices_count FROM bill_runs r JOIN bill_shards s ON run_id = r.id") == [
        (date(2026, 9, 1), 11)
    ]
    assert make_demo(settings, database.dsn) is False


def test_the_usage_of_a_month_is_the_same_each_time_and_lies_within_it() -> None:
    people = [str(number) for number in range(PEOPLE)]
    assert usage_file(people, date(2028, 2, 1)) == usage_file(people, date(2028, 2, 1))
    rows = [line.split(";") for line in usage_file(people, date(2028, 2, 1)).splitlines()[1:]]
    assert {row[1] for row in rows} == set(people)
    days = {row[2][:10] for row in rows}
    assert days == {f"{day:02d}.02.2028" for day in range(1, 30)}


def test_a_database_with_partners_is_left_alone_and_no_login_is_promised(kopeck, database, settings) -> None:
    kopeck("partner", "add", "qiwi", "--name", "QIWI", "--protocol", "osmp")
    assert make_demo(settings, database.dsn) is False
    assert demo_password(settings) == ""


def test_lines_carry_fresh_ids_each_time_they_are_printed(database, settings) -> None:
    make_demo(settings, database.dsn)
    first = demo_lines(settings, datetime(2026, 11, 23, 12, tzinfo=UTC))
    second = demo_lines(settings, datetime(2026, 11, 23, 12, 0, 1, tzinfo=UTC))
    ids = [re.findall(r"(?:txn_id|receipt)=([0-9]+)", line) for line in (*first, *second)]
    assert len({one for found in ids for one in found}) == 6


def test_secrets_stay_the_same_over_starts_and_private_to_their_owner(settings) -> None:
    assert demo_password(settings) == ""
    assert demo_lines(settings, datetime.now(UTC)) == []
    folder = settings.data_path() / "demo"
    folder.mkdir(parents=True)
    password = demo_password(settings)
    assert password == demo_password(settings) != ""
    assert folder.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())
