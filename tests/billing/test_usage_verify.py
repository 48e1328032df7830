"""billing.usage_verify: usage that the program wrote is clean, and one corrupted row of each kind is found."""

import asyncio
import io
from contextlib import closing
from typing import Any

import aiopg
import psycopg2
import pytest

from billing.usage_bulk import NewImport
from billing.usage_import import import_file, refeed_as_they_are
from billing.usage_verify import TRUTH, verify_usage
from billing.verify_records import Check
from tests.billing.usage_files import CALLS, CALLS_HEADER, NOW, call, calls

NEW = NewImport("switch", "calls", CALLS, "calls.csv", "accept", "test")


def do(dsn: str, *statements: str) -> None:
    with closing(psycopg2.connect(dsn)) as opened, opened, opened.cursor() as cur:
        for statement in statements:
            cur.execute(statement)


@pytest.fixture
def used(database) -> Any:
    """Two months of calls in two imports, a late one, a repeat, and rejects of which one was fed again."""
    do(database.dsn, "INSERT INTO accounts (number, kind) VALUES ('79010000001', 'subscriber')")
    lines = [
        call(1),
        call(2),
        call(2),
        call(3, begun="01.10.2026 10:00:00"),
        call(4, phone="new"),
        call(5, minutes="x"),
    ]
    import_file(database.dsn, io.BytesIO((CALLS_HEADER + "".join(lines)).encode()), calls(), NEW, now=lambda: NOW)
    do(
        database.dsn,
        "INSERT INTO accounts (number, kind) VALUES ('new', 'subscriber')",
        "UPDATE usage_open SET open_from = '2026-11-01'",
    )
    late = CALLS_HEADER + call(6, begun="02.10.2026 10:00:00")
    import_file(database.dsn, io.BytesIO(late.encode()), calls(), NEW, now=lambda: NOW)
    again = NewImport("switch", "calls", CALLS, "rejects", "accept", "test", 1)
    assert refeed_as_they_are(database.dsn, 1, calls(), CALLS_HEADER.strip(), again) is not None
    return database


def checked(dsn: str) -> list[Check]:
    async def run() -> list[Check]:
        async with aiopg.connect(dsn) as opened, opened.cursor() as cur:
            return await verify_usage(cur)

    return asyncio.run(run())


def findings(dsn: str) -> list[str]:
    return [finding.what for check in checked(dsn) for finding in check.findings]


def test_usage_written_by_the_program_is_clean_and_every_check_examined_something(used) -> None:
    checks = checked(used.dsn)
    assert [(check.name, check.findings) for check in checks if not check.is_clean or not check.examined] == []
    assert {check.truth for check in checks} == {TRUTH}
    assert [check.examined for check in checks] == [5, 5, 3, 3, 3]


def test_the_owner_cannot_take_an_event_out_of_its_month_by_the_months_own_name(used) -> None:
    with pytest.raises(psycopg2.errors.RaiseException, match="append-only"):
        do(used.admin_dsn, "DELETE FROM usage_events_202610 WHERE line = 2 AND import_id = 1")


def test_a_database_without_usage_is_clean(database) -> None:
    assert findings(database.dsn) == []


@pytest.mark.parametrize(
    ("words", "statement"),
    [
        ("key '1' has no event", "DELETE FROM usage_events WHERE line = 2 AND import_id = 1"),
        ("has no key", "DELETE FROM usage_keys WHERE key = '1'"),
        ("1 keys share an event", "INSERT INTO usage_keys SELECT 1, 'x', usage_id, counts_at FROM usage_keys LIMIT 1"),
        ("key '1' has no event", "UPDATE usage_keys SET counts_at = counts_at + interval '1 s' WHERE key = '1'"),
        ("1 events count before they happened", "ALTER TABLE usage_events DROP CONSTRAINT "
         "usage_events_check; UPDATE usage_events SET at = counts_at + interval '1 s' "
         "WHERE line = 2 AND import_id = 1"),
        ("import 1: 3 lines accepted, 2 such events", "DELETE FROM usage_events WHERE line = 2 AND import_id = 1"),
        ("import 2: 1 lines late, 0 such events", "UPDATE usage_events SET at = counts_at WHERE import_id = 2"),
        ("are of import 99, which is not there", "UPDATE usage_events SET import_id = 99 WHERE import_id = 2"),
        ("import 2 is failed and has 1", "UPDATE usage_imports SET state = 'failed', failure = 'x' WHERE id = 2"),
        ("import 1: 2 lines rejected, 1 kept", "DELETE FROM usage_rejects WHERE import_id = 1 AND reason = 'quantity'"),
        ("of 2 lines and of rejects of import 2", "UPDATE usage_imports SET refeeds_id = 2 WHERE id = 3"),
        ("fed again by import 3, which is done, of 2 lines", "UPDATE usage_rejects SET state = 'open', "
         "refed_import_id = NULL WHERE import_id = 1 AND reason = 'quantity'"),
        ("no enabled trigger refuses DELETE on usage_keys", "ALTER TABLE usage_keys DISABLE TRIGGER ALL"),
        ("role kopeck_app may UPDATE usage_events", "GRANT UPDATE ON usage_events TO kopeck_app"),
    ],
)  # fmt: skip
def test_one_corrupted_row_is_found(used, words, statement) -> None:
    do(used.admin_dsn, "SET session_replication_role = replica", statement)
    found = findings(used.dsn)
    assert any(words in what for what in found), found


def test_an_event_outside_its_month_is_found(used) -> None:
    do(
        used.admin_dsn,
        "ALTER TABLE usage_events DETACH PARTITION usage_events_202610",
        "ALTER TABLE usage_events_202610 RENAME TO usage_events_202612",
        "ALTER TABLE usage_events ATTACH PARTITION usage_events_202612 "
        "FOR VALUES FROM ('2026-10-01') TO ('2026-11-01')",
    )
    assert any(
        "usage_events_202612, import 1: an event counts at 2026-10-01 07:00:00Z" in one for one in findings(used.dsn)
    )


def test_an_archived_month_is_no_difference_and_is_told(used) -> None:
    do(used.admin_dsn, "ALTER TABLE usage_events DETACH PARTITION usage_events_202610")
    checks = checked(used.dsn)
    assert [check.findings for check in checks if not check.is_clean] == []
    assert [check.note for check in checks if check.note] == [
        "1 keys are of months that were archived",
        "events of archived months are not counted",
    ]
