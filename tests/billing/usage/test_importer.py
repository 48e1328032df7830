"""Imports of usage files over a real database: each row acts once, and nothing is half-loaded."""

import asyncio
import io
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import aiopg
import psycopg2
import pytest

from billing.database.adbc import ImportStoreError, import_connection
from billing.files.format import Format, parse_format
from billing.files.lines import UsageFileError
from billing.usage.importer import ImportResult, Refeed, import_file, read_corrected, refeed_as_they_are, refeed_lines
from billing.usage.load_store import LoadCounts, NewImport, lock_source
from billing.usage.store import UsageError, drop_rejects, list_imports, list_rejects
from tests.billing.usage.usage_files import CALLS, CALLS_HEADER, NOW, call, calls

NEW = NewImport("switch", "calls", CALLS, "calls.csv", "accept", "test")


@pytest.fixture
def sql(database) -> Iterator[Any]:
    """A cursor of the program's role, with accounts 79010000000 to 79010000099."""
    with closing(psycopg2.connect(database.dsn)) as opened, opened.cursor() as cur:
        opened.autocommit = True
        cur.execute("SET timezone = 'UTC'")
        cur.execute(
            "INSERT INTO accounts (number, kind) "
            "SELECT (79010000000 + n)::text, 'subscriber' FROM generate_series(0, 99) n"
        )
        yield cur


def load(database, *lines: str, made: Format | None = None, new: NewImport = NEW, **more: Any) -> ImportResult:
    data = (CALLS_HEADER + "".join(lines)).encode()
    return import_file(database.dsn, io.BytesIO(data), made or calls(), new, now=lambda: NOW, **more)


def ask(cur: Any, statement: str) -> list[tuple[Any, ...]]:
    cur.execute(statement)
    return list(cur.fetchall())


def stored(database, work: Any) -> Any:
    """Run a store function with an aiopg cursor in a transaction of its own."""

    async def run() -> Any:
        async with aiopg.connect(database.dsn) as opened, opened.cursor() as cur:
            await cur.execute("BEGIN")
            result = await work(cur)
            await cur.execute("COMMIT")
            return result

    return asyncio.run(run())


def rejects_of(database, import_id: int) -> list[tuple[int, str]]:
    found = stored(database, lambda cur: list_rejects(cur, import_id))
    return [(reject.line, reject.reason) for reject in found]


def test_a_row_is_kept_with_its_account_and_where_it_came_from(database, sql) -> None:
    assert load(database, call(1), call(2)).counts == LoadCounts(2, 2, 0, 0, 0)
    assert ask(
        sql,
        "SELECT number, item, at::text, counts_at = at, quantity_micro, destination, import_id, line "
        "FROM usage_events JOIN accounts ON accounts.id = account_id ORDER BY line",
    ) == [
        ("79010000001", "voice", "2026-11-20 07:00:00+00", True, 1_500_000, "74951112233", 1, line) for line in (2, 3)
    ]


def test_months_have_partitions_of_their_own(database, sql) -> None:
    load(database, call(1, begun="01.10.2026 02:59:59"), call(2, begun="01.10.2026 03:00:00"), call(3))
    assert ask(sql, "SELECT tableoid::regclass::text FROM usage_events ORDER BY line") == [
        ("usage_events_202609",),
        ("usage_events_202610",),
        ("usage_events_202611",),
    ]


def test_overlapping_files_act_once(database, sql) -> None:
    load(database, *(call(key) for key in range(10)))
    assert load(database, *(call(key) for key in range(5, 15))).counts == LoadCounts(10, 5, 5, 0, 0)
    assert ask(sql, "SELECT count(*), count(DISTINCT id) FROM usage_events") == [(15, 15)]


def test_the_same_file_is_left_alone_unless_it_is_wanted_again(database, sql) -> None:
    first = load(database, call(1), call(2))
    assert load(database, call(1), call(2)) == ImportResult(first.import_id, LoadCounts(), same_as=first.import_id)
    assert load(database, call(1), call(2), again=True).counts == LoadCounts(2, 0, 2, 0, 0)
    assert ask(sql, "SELECT count(*) FROM usage_events") == [(2,)]


def test_a_key_with_other_contents_is_rejected_and_the_first_row_stays(database, sql) -> None:
    load(database, call(1), call(2))
    for number, changed in enumerate(
        (call(1, minutes="2"), call(1, phone="79010000002"), call(1, begun="20.11.2026 10:00:01"))
    ):
        outcome = load(database, changed)
        assert outcome.counts == LoadCounts(1, 0, 0, 1, 0), number
        assert rejects_of(database, outcome.import_id) == [(2, "key_conflict")]
    assert ask(sql, "SELECT DISTINCT quantity_micro FROM usage_events") == [(1_500_000,)]
    assert ask(sql, "SELECT detail FROM usage_rejects LIMIT 1") == [
        ("the key was used with other contents by line 2 of import 1",)
    ]


@pytest.mark.parametrize("block", [64, 1 << 20])
def test_a_key_twice_in_one_file_acts_once_whether_or_not_blocks_part_it(database, sql, block) -> None:
    lines = [call(1), call(2), call(1), call(1, minutes="9"), call(3)]
    outcome = load(database, *lines, block_bytes=block, batch_rows=1)
    assert outcome.counts == LoadCounts(5, 3, 1, 1, 0)
    assert rejects_of(database, outcome.import_id) == [(5, "key_conflict")]


@pytest.mark.parametrize("rows", [1, 7, 10**6])
def test_blocks_and_batches_of_any_size_come_to_the_same(database, sql, rows) -> None:
    load(database, call(3), call(11))
    lines = [call(key % 17, phone="nobody" if key in (4, 9) else "79010000001") for key in range(20)]
    lines[19] = call(2, minutes="8")
    outcome = load(database, *lines, block_bytes=150, batch_rows=rows)
    assert outcome.counts == LoadCounts(20, 13, 4, 3, 0)
    kept = stored(database, lambda cur: list_rejects(cur, outcome.import_id))
    assert [(one.line, one.reason, one.raw.decode() + "\n") for one in kept] == [
        (6, "unknown_account", lines[4]),
        (11, "unknown_account", lines[9]),
        (21, "key_conflict", lines[19]),
    ]
    assert kept[2].detail == f"the key was used with other contents by line 4 of import {outcome.import_id}"
    assert ask(
        sql, "SELECT count(*), count(DISTINCT key) FROM usage_keys k JOIN usage_events e ON e.id = k.usage_id"
    ) == [(15, 15)]


def test_events_of_a_file_lie_by_account_and_time_and_are_numbered_so(database, sql) -> None:
    chance = random.Random(3)
    lines = [
        call(key, phone=str(79010000000 + chance.randrange(9)), begun=f"{chance.randrange(1, 21):02d}.11.2026 10:00:00")
        for key in range(200)
    ]
    load(database, *lines)
    found = ask(sql, "SELECT account_id, at, line, id FROM usage_events ORDER BY ctid")
    assert found == sorted(found)
    assert [row[3] for row in found] == sorted(row[3] for row in found)


def test_an_import_tells_where_its_time_went(database, sql) -> None:
    stages = load(database, call(1)).stages
    assert min(stages.read_s, stages.waited_s, stages.keys_s, stages.events_s, stages.commit_s) > 0


def test_a_rejected_row_does_not_take_the_key(database, sql) -> None:
    outcome = load(database, call(1, phone="1"), call(1))
    assert outcome.counts == LoadCounts(2, 1, 0, 1, 0)
    assert ask(sql, "SELECT line FROM usage_events") == [(3,)]


def test_a_key_belongs_to_its_source(database, sql) -> None:
    load(database, call(1))
    other = parse_format(CALLS.replace('"switch"', '"other"'), "f")
    new = NewImport("other", "calls", CALLS, "calls.csv", "accept", "test")
    assert load(database, call(1), made=other, new=new).counts.accepted == 1


def test_money_of_our_own_accounts_is_nobody_s_usage(database, sql) -> None:
    sql.execute("INSERT INTO accounts (number, kind) VALUES ('bank', 'bank')")
    outcome = load(database, call(1, phone="bank"), call(2, phone="nobody"))
    assert rejects_of(database, outcome.import_id) == [(2, "unknown_account"), (3, "unknown_account")]


def test_items_are_held_against_catalogues_once_there_is_one(database, sql) -> None:
    with closing(psycopg2.connect(database.admin_dsn)) as owner, owner, owner.cursor() as cur:
        cur.execute("INSERT INTO catalogues (name) VALUES ('main')")
        cur.execute(
            "INSERT INTO catalogue_versions (catalogue_id, version, main_file, sha256, currency, zone, starts_at, "
            "ends_at, actor) SELECT id, 1, 'a.yaml', repeat('0', 64), 'RUB', 'UTC', now(), now() + interval '1 year', "
            "'test' FROM catalogues"
        )
        cur.execute(
            "INSERT INTO catalogue_items (version_id, number, names, unit, decimals, category, tax, is_manual, "
            "percentage_of) SELECT id, 'sms', '{}', 'piece', 0, '', '', false, '{}' FROM catalogue_versions"
        )
    outcome = load(database, call(1, minutes="1"), call(2, minutes="1").replace(";1;", ";2;", 1))
    assert outcome.counts == LoadCounts(2, 1, 0, 1, 0)
    assert rejects_of(database, outcome.import_id) == [(2, "unknown_item")]


def test_a_failed_import_leaves_only_its_record(database, sql) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 300:
                raise OSError("the disk went away")
            return super().read(100)

        def seekable(self) -> bool:
            return False

    data = (CALLS_HEADER + "".join(call(key) for key in range(20))).encode()
    with pytest.raises(OSError, match="went away"):
        import_file(database.dsn, Broken(data), calls(), NEW, block_bytes=100, batch_rows=1, now=lambda: NOW)
    assert ask(sql, "SELECT count(*) FROM usage_events") == [(0,)]
    assert ask(sql, "SELECT count(*) FROM usage_keys") == [(0,)]
    (record,) = stored(database, lambda cur: list_imports(cur, 10))
    assert (record.state, record.failure) == ("failed", "the disk went away")


def test_a_file_that_is_mostly_wrong_is_refused_whole(database, sql) -> None:
    lines = [call(key, minutes="x" if key % 3 else "1") for key in range(30)]
    with pytest.raises(UsageFileError, match=r"20 of 30 lines would be rejected.*right format"):
        load(database, *lines)
    assert ask(sql, "SELECT (SELECT count(*) FROM usage_events), (SELECT count(*) FROM usage_rejects)") == [(0, 0)]


def test_one_import_of_a_source_at_a_time(database, sql) -> None:
    with import_connection(database.dsn) as other:
        lock_source(other, "switch")
        with pytest.raises(ImportStoreError, match="another import of source 'switch' is under way"):
            load(database, call(1))
    assert load(database, call(1)).counts.accepted == 1


def test_sources_are_imported_side_by_side(database, sql) -> None:
    def one(name: str) -> LoadCounts:
        made = parse_format(CALLS.replace('"switch"', f'"{name}"'), "f")
        new = NewImport(name, "calls", CALLS, "calls.csv", "accept", "test")
        lines = [call(key, begun=f"{1 + key % 20:02d}.{month}.2026 10:00:00") for key in range(60) for month in (9, 10)]
        return load(database, *dict.fromkeys(lines[:60]), made=made, new=new, block_bytes=500, batch_rows=1).counts

    with ThreadPoolExecutor(4) as pool:
        for counts in pool.map(one, ["a", "b", "c", "d"]):
            assert counts.lines == counts.accepted + counts.repeated + counts.rejected
            assert counts.accepted == 30
    assert ask(sql, "SELECT count(*) FROM usage_events") == [(120,)]


KILLED = """
import sys
from billing.usage.importer import import_file
from billing.usage.load_store import NewImport
from tests.billing.usage.usage_files import CALLS, NOW, calls
new = NewImport("switch", "calls", CALLS, "calls.csv", "accept", "test")
show = lambda read_bytes, counts: print(counts.accepted, flush=True)
import_file(sys.argv[1], sys.stdin.buffer, calls(), new, progress=show, block_bytes=200, batch_rows=1, now=lambda: NOW)
"""


def test_a_killed_import_leaves_nothing_and_runs_again(database, sql) -> None:
    data = (CALLS_HEADER + "".join(call(key) for key in range(20))).encode()
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, database.dsn],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ.copy(),
    )
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(data[:800])
    child.stdin.flush()
    assert child.stdout.readline() != b""
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdin.close()
    child.stdout.close()
    assert ask(sql, "SELECT count(*) FROM usage_events") == [(0,)]
    assert ask(sql, "SELECT state FROM usage_imports") == [("running",)]
    deadline = time.monotonic() + 20
    while ask(sql, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") != [(0,)]:
        assert time.monotonic() < deadline, "the killed import's sessions live on"
        time.sleep(0.05)
    assert import_file(database.dsn, io.BytesIO(data), calls(), NEW, now=lambda: NOW).counts.accepted == 20
    assert ask(sql, "SELECT state, failure FROM usage_imports ORDER BY id") == [
        ("failed", "its process ended before the file did"),
        ("done", None),
    ]


def test_late_events_count_in_the_open_period_or_are_rejected(database, sql) -> None:
    sql.execute("UPDATE usage_open SET open_from = '2026-11-01 00:00:00+00'")
    old = call(1, begun="20.10.2026 10:00:00")
    assert load(database, old, call(2)).counts == LoadCounts(2, 2, 0, 0, 1)
    assert ask(
        sql, "SELECT at::date::text, counts_at::text, tableoid::regclass::text FROM usage_events WHERE line = 2"
    ) == [("2026-10-20", "2026-11-01 00:00:00+00", "usage_events_202611")]
    strict = NewImport("switch", "calls", CALLS, "calls.csv", "reject", "test")
    outcome = load(database, call(3, begun="20.10.2026 10:00:00"), new=strict)
    assert rejects_of(database, outcome.import_id) == [(2, "late")]
    assert load(database, old, call(2), again=True).counts.repeated == 2


def test_what_is_closed_stays_closed(database, sql) -> None:
    sql.execute("UPDATE usage_open SET open_from = '2026-11-01 00:00:00+00'")
    sql.execute(
        "INSERT INTO bill_runs (bill_on, kind, actor, usage_until) VALUES ('2026-11-01', 'post', 'test', '2026-11-01')"
    )
    for earlier in ("NULL", "'2026-10-01 00:00:00+00'"):
        with pytest.raises(psycopg2.Error, match="stays closed"):
            sql.execute(f"UPDATE usage_open SET open_from = {earlier}")


@pytest.mark.parametrize("table", ["usage_events", "usage_keys", "usage_rejects"])
def test_the_database_keeps_usage_from_everybody(database, sql, table) -> None:
    load(database, call(1), call(2, minutes="x"))
    for statement in (f"DELETE FROM {table}", f"TRUNCATE {table}"):
        with pytest.raises(psycopg2.Error, match="permission denied"):
            sql.execute(statement)
        with (
            closing(psycopg2.connect(database.owner_dsn)) as owner,
            owner.cursor() as cur,
            pytest.raises(psycopg2.Error, match="append-only"),
        ):
            cur.execute(statement)


def test_rejects_are_fed_again_once_their_cause_is_gone(database, sql) -> None:
    first = load(database, call(1), call(2, phone="new"), call(3, minutes="x"), "cut")
    assert rejects_of(database, first.import_id) == [(3, "unknown_account"), (4, "quantity"), (5, "cut_line")]
    sql.execute("INSERT INTO accounts (number, kind) VALUES ('new', 'subscriber')")
    new = NewImport("switch", "calls", CALLS, "rejects", "accept", "test", first.import_id)
    again = refeed_as_they_are(database.dsn, first.import_id, calls(), CALLS_HEADER.strip(), new)
    assert again is not None
    assert again.counts == LoadCounts(2, 1, 0, 1, 0)
    assert rejects_of(database, first.import_id) == [(5, "cut_line")]
    assert [reason for _, reason in rejects_of(database, again.import_id)] == ["quantity"]
    assert ask(sql, "SELECT count(*) FROM usage_events") == [(2,)]


def test_corrected_rejects_act_and_are_done_with(database, sql) -> None:
    first = load(database, call(1), call(2, minutes="x"), call(3, minutes="y"))
    ids = [reject.id for reject in stored(database, lambda cur: list_rejects(cur, first.import_id))]
    new = NewImport("switch", "calls", CALLS, "rejects", "accept", "test", first.import_id)
    found, lines = read_corrected(f"#|a comment\n{ids[0]}|{call(2, minutes='7')}\n".encode())
    assert found == (ids[0],)
    outcome = refeed_lines(database.dsn, Refeed(first.import_id, found), lines, calls(), CALLS_HEADER.strip(), new)
    assert outcome.counts == LoadCounts(1, 1, 0, 0, 0)
    assert rejects_of(database, first.import_id) == [(4, "quantity")]
    with pytest.raises(ImportStoreError, match="1 of these lines are no open rejects of import 1"):
        refeed_lines(database.dsn, Refeed(first.import_id, found), lines, calls(), CALLS_HEADER.strip(), new)


@pytest.mark.parametrize("data", [b"", b"x|1\n", b"1;2\n", b"1|a\n1|b\n", b"|a\n"])
def test_a_file_that_is_no_corrected_export_is_refused(data) -> None:
    with pytest.raises(UsageFileError):
        read_corrected(data)


def test_rejects_are_given_up_with_a_reason(database, sql) -> None:
    first = load(database, call(1), call(2, minutes="x"), call(3, minutes="y"))
    with pytest.raises(UsageError, match="why"):
        stored(database, lambda cur: drop_rejects(cur, first.import_id, None, " ", "test"))
    with pytest.raises(UsageError, match="no open rejects"):
        stored(database, lambda cur: drop_rejects(cur, first.import_id, [10**9], "test calls", "test"))
    assert stored(database, lambda cur: drop_rejects(cur, first.import_id, None, "test calls", "test")) == 2
    assert ask(sql, "SELECT DISTINCT state, dropped_why, actor FROM usage_rejects") == [
        ("dropped", "test calls", "test")
    ]


def test_any_raw_bytes_of_a_reject_are_kept(database, sql) -> None:
    data = CALLS_HEADER.encode() + b"\x00\xff\\x'\"\n" + call(1).encode()
    outcome = import_file(database.dsn, io.BytesIO(data), calls(), NEW, now=lambda: NOW)
    (kept,) = stored(database, lambda cur: list_rejects(cur, outcome.import_id))
    assert kept.raw == b"\x00\xff\\x'\""


def test_a_database_that_is_away_is_one_sentence() -> None:
    with pytest.raises(ImportStoreError, match="the database refused"):
        import_file("host=127.0.0.1 port=1 dbname=none", io.BytesIO(b""), calls(), NEW)
