"""`kopeck attempts forget`: by age alone, in slices, in both databases."""

import asyncio
from contextlib import closing
from datetime import UTC, datetime, timedelta

import psycopg2
import psycopg2.errors
import pytest

from gateway.journal.journal import Journal


def add_attempts(database, ages_days) -> None:
    with closing(psycopg2.connect(database.dsn)) as connection, connection, connection.cursor() as cur:
        for age in ages_days:
            cur.execute(
                "INSERT INTO attempts (at, kind, reason) VALUES (now() - %s * interval '1 day', 'malformed', 'x')",
                (age,),
            )


def left(database) -> int:
    with closing(psycopg2.connect(database.dsn)) as connection, connection.cursor() as cur:
        cur.execute("SELECT count(*) FROM attempts")
        return cur.fetchone()[0]


def test_attempts_older_than_the_setting_are_deleted_in_slices_and_the_younger_stay(
    kopeck, database, journal_uri, journal_name, monkeypatch
) -> None:
    async def in_journal(*ages_days):
        journal = Journal(journal_uri, journal_name)
        documents = [
            {"_id": number, "at": datetime.now(UTC) - timedelta(days=age), "kind": "malformed", "terms": []}
            for number, age in enumerate(ages_days)
        ]
        await journal.put_attempts(documents)
        journal.close()

    asyncio.run(in_journal(500, 401, 399))
    monkeypatch.setattr("kopeck.work.kinds.attempts_forget.SLICE", 3)
    add_attempts(database, [500, 450, 420, 402, 401, 399, 31, 1])
    said = kopeck("attempts", "forget")
    assert said.status == 0, said.err
    assert said.out.startswith("5 attempts from before ")
    assert said.out.endswith("and 2 of the journal's\n")
    assert left(database) == 3
    assert kopeck("attempts", "forget", "--days", "30").out.startswith("2 attempts")
    assert left(database) == 1
    assert kopeck("attempts", "forget", "--days", "29").status == 2


def test_the_programs_role_can_delete_no_young_attempt(database) -> None:
    add_attempts(database, [1])
    with closing(psycopg2.connect(database.dsn)) as connection, connection.cursor() as cur:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cur.execute("DELETE FROM attempts")
        connection.rollback()
        with pytest.raises(psycopg2.errors.RaiseException, match="30 days"):
            cur.execute("SELECT forget_attempts(now(), 10)")
    assert left(database) == 1
