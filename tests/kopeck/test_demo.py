"""The demo's data: enough to look at, and made by the ways of a real installation."""

import asyncio
import re
from contextlib import closing
from datetime import UTC, datetime

import psycopg2
import pytest

from gateway.verify import verify
from kopeck.demo import SUBSCRIBERS, demo_lines, demo_password, make_demo
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
    subscribers = _rows(database, "SELECT number, name, state, balance_minor FROM accounts WHERE kind = 'subscriber'")
    assert len(subscribers) == SUBSCRIBERS
    assert all(re.fullmatch("79[0-9]{9}", row[0]) for row in subscribers)
    assert all(re.fullmatch(r"[А-ЯЁ][а-яё]+ [А-ЯЁ][а-яё]+ [А-ЯЁ][а-яё]+", row[1]) for row in subscribers)
    assert sum(1 for row in subscribers if row[2] == "inactive") == SUBSCRIBERS // 100
    assert sum(1 for row in subscribers if row[3] > 0) > SUBSCRIBERS / 3
    report = asyncio.run(verify(database.dsn, None))
    assert report.is_clean, report.lines()


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
