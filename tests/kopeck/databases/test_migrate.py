"""Migrations on a real database."""

from contextlib import closing

import psycopg2
import pytest

from kopeck.databases import migrate as subject


def test_a_second_run_applies_nothing(database) -> None:
    assert subject.migrate(database.owner_dsn) == ()


def test_status_lists_every_file_as_applied_and_none_pending(database) -> None:
    status = subject.status(database.owner_dsn)
    assert status.applied[:2] == ("0001-ledger", "0002-payments")
    assert status.pending == ()
    assert status.unknown == ()


def test_the_programs_role_may_ask_but_not_migrate(database) -> None:
    subject.require_current(database.dsn)
    with closing(psycopg2.connect(database.admin_dsn)) as connection, connection, connection.cursor() as cur:
        cur.execute("DELETE FROM _yoyo_migration WHERE migration_id = '0001-ledger'")
    with pytest.raises(subject.MigrateError, match="lacks 1 migration"):
        subject.require_current(database.dsn)
    with pytest.raises(subject.MigrateError):
        subject.migrate(database.dsn)


def test_a_failing_migration_leaves_no_trace(database, tmp_path, monkeypatch) -> None:
    (tmp_path / "9999-broken.sql").write_text("CREATE TABLE half (id int); SELECT 1 / 0;")
    monkeypatch.setattr(subject, "files", lambda _: tmp_path)
    with pytest.raises(subject.MigrateError, match=r"9999-broken.*division by zero"):
        subject.migrate(database.owner_dsn)
    with closing(psycopg2.connect(database.owner_dsn)) as connection, connection.cursor() as cur:
        cur.execute("SELECT to_regclass('half')")
        assert cur.fetchone() == (None,)


def test_a_lock_row_left_by_a_killed_run_does_not_block_the_next(database, tmp_path, monkeypatch) -> None:
    with closing(psycopg2.connect(database.owner_dsn)) as connection, connection, connection.cursor() as cur:
        cur.execute("INSERT INTO yoyo_lock (locked, ctime, pid) VALUES (1, now(), 1)")
    (tmp_path / "9999-more.sql").write_text("CREATE TABLE more (id int);")
    monkeypatch.setattr(subject, "files", lambda _: tmp_path)
    assert subject.migrate(database.owner_dsn) == ("9999-more",)


def test_no_connection_is_one_clear_message() -> None:
    with pytest.raises(subject.MigrateError, match="cannot connect"):
        subject.migrate("postgresql://nobody@127.0.0.1:1/none")
