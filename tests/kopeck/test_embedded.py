"""The embedded servers, killed and started again."""

import os
import signal
from contextlib import closing

import psycopg2
import pymongo

from kopeck.embedded_journal import JournalServer
from kopeck.embedded_postgres import OWNER, Postgres


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
    server = JournalServer(server_folder / "journal-killed", cache_size="64M")
    server.start()
    try:
        uri = server.uri
        with pymongo.MongoClient(uri) as client:
            client["kept"]["things"].insert_one({"_id": 7})
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        server = JournalServer(server_folder / "journal-killed", cache_size="64M")
        server.start()
        assert server.uri == uri
        with pymongo.MongoClient(uri) as client:
            assert client["kept"]["things"].find_one({"_id": 7}) == {"_id": 7}
    finally:
        server.stop()
