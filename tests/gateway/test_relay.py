"""gateway.relay: nothing is lost on the way to the journal, whoever dies and however late a commit is."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiopg
import pytest

from adapters.messages import Reason
from gateway import relay
from gateway.decide import Attempt
from gateway.journal import Journal
from gateway.journal_search import JournalAway
from gateway.relay import Rebuilt, RelayOptions, drain, rebuild, relay_batch, run_relay
from kopeck.embedded_journal import WHEEL, JournalServer
from tests.gateway.shop import act, note_attempt, open_shop

SOON_S = 30.0


@contextlib.asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[Any]:
    async with aiopg.connect(dsn, options="-c timezone=UTC") as connection, connection.cursor() as cur:
        yield cur


@contextlib.asynccontextmanager
async def relays(dsn: str, journal: Journal, count: int = 1, batch_max: int = 50) -> AsyncIterator[None]:
    """Relays that run until the block ends, and then must have ended well."""
    stop = asyncio.Event()
    options = RelayOptions(dsn, batch_max, poll_s=0.02)
    tasks = [asyncio.create_task(run_relay(options, journal, stop)) for _ in range(count)]
    try:
        yield
    finally:
        stop.set()
        await asyncio.gather(*tasks)


async def left(dsn: str, wait_s: float = SOON_S) -> int:
    """Payment rows that the outbox still holds after waiting for it to become empty."""
    async with opened(dsn) as cur:
        return await drain(cur, 2**62, wait_s, poll_s=0.02)


async def one_value(dsn: str, statement: str) -> Any:
    async with opened(dsn) as cur:
        await cur.execute(statement)
        return (await cur.fetchone())[0]


async def versions(dsn: str, journal: Journal) -> tuple[dict[int, int], dict[int, int]]:
    """(version by payment in PostgreSQL, the same in the journal)."""
    async with opened(dsn) as cur:
        await cur.execute("SELECT id, version FROM payments")
        held = dict(await cur.fetchall())
    found = [payment_id async for ids in journal.payment_ids(100) for payment_id in ids]
    return held, {key: document["version"] for key, document in (await journal.payments_by_id(found)).items()}


def told(uri: str, name: str, story: Callable[[Journal], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        journal = Journal(uri, name)
        try:
            return await story(journal)
        finally:
            journal.close()

    return asyncio.run(run())


def test_payments_and_attempts_reach_the_journal_and_leave_the_outbox(
    database: Any, journal_uri: str, journal_name: str
) -> None:
    async def story(journal: Journal) -> tuple[Any, ...]:
        shop = await open_shop(database.dsn)
        await act(database.dsn, [shop.pay("1", "79161234567", 100), shop.pay("2", "70000000000", 100)])
        await note_attempt(database.dsn, Attempt("bad_source", Reason.BAD_SOURCE, remote_ip="198.51.100.9"))
        async with relays(database.dsn, journal):
            assert await left(database.dsn) == 0
            await act(database.dsn, [shop.cancel("1")])
            assert await left(database.dsn) == 0
        return (
            *await versions(database.dsn, journal),
            await one_value(database.dsn, "SELECT count(*) FROM outbox"),
            await journal.attempt(1),
        )

    held, found, rows, attempt = told(journal_uri, journal_name, story)
    assert found == held
    assert sorted(held.values()) == [1, 2]
    assert rows == 0
    assert attempt["remote_ip"] == "198.51.100.9"


def test_several_relays_share_the_work_while_payments_change(
    database: Any, journal_uri: str, journal_name: str
) -> None:
    async def story(journal: Journal) -> Any:
        shop = await open_shop(database.dsn)
        async with relays(database.dsn, journal, count=3, batch_max=7):
            for start in range(0, 100, 20):
                keys = [str(number) for number in range(start, start + 20)]
                await act(database.dsn, [shop.pay(key, "79161234567", 100) for key in keys])
                await act(database.dsn, [shop.cancel(key) for key in keys[::2]])
            assert await left(database.dsn) == 0
        return await versions(database.dsn, journal)

    held, found = told(journal_uri, journal_name, story)
    assert len(held) == 100
    assert found == held


def test_a_change_that_commits_late_is_not_skipped(database: Any, journal_uri: str, journal_name: str) -> None:
    async def story(journal: Journal) -> Any:
        shop = await open_shop(database.dsn)
        await act(database.dsn, [shop.pay("1", "79161234567", 100)])
        payment_id = await one_value(database.dsn, "SELECT id FROM payments")
        async with relays(database.dsn, journal), opened(database.dsn) as late:
            assert await left(database.dsn) == 0
            await late.execute("BEGIN")  # takes a low outbox id now, and commits after higher ones were relayed
            await late.execute("INSERT INTO outbox (topic, ref) VALUES ('payment', %s)", (payment_id,))
            await late.execute("UPDATE payments SET version = 2 WHERE id = %s", (payment_id,))
            await act(database.dsn, [shop.pay(str(number), "79265550102", 100) for number in range(2, 20)])
            assert await left(database.dsn) == 0
            before = await journal.payment(payment_id)
            await late.execute("COMMIT")
            assert await left(database.dsn) == 0
        return before, await versions(database.dsn, journal)

    before, (held, found) = told(journal_uri, journal_name, story)
    assert before["version"] == 1
    assert found == held
    assert max(held.values()) == 2


def test_a_relay_that_dies_before_it_gave_the_rows_up_leaves_them_to_the_next(
    database: Any, journal_uri: str, journal_name: str
) -> None:
    class Died(Exception):
        pass

    class Dying(Journal):
        """A journal whose acknowledgement never arrives: the documents are written, the relay dies."""

        async def put_payments(self, documents: Any, *, refresh: bool = False) -> Any:
            await super().put_payments(documents, refresh=refresh)
            raise Died

    async def story(journal: Journal) -> Any:
        shop = await open_shop(database.dsn)
        await act(database.dsn, [shop.pay("1", "79161234567", 100), shop.pay("2", "79161234567", 100)])
        dying = Dying(journal_uri, journal_name)
        async with opened(database.dsn) as taking, opened(database.dsn) as reading:
            with pytest.raises(Died):
                await relay_batch(taking, reading, dying, 10)
            rows = await one_value(database.dsn, "SELECT count(*) FROM outbox")
            again = await relay_batch(taking, reading, journal, 10)
        dying.close()
        return rows, again.done, await versions(database.dsn, journal)

    rows, done, (held, found) = told(journal_uri, journal_name, story)
    assert (rows, done) == (2, 2)
    assert found == held


def test_rows_that_another_relay_holds_are_left_to_it(database: Any, journal_uri: str, journal_name: str) -> None:
    async def story(journal: Journal) -> tuple[int, int]:
        shop = await open_shop(database.dsn)
        await act(database.dsn, [shop.pay(str(number), "79161234567", 100) for number in range(6)])
        async with opened(database.dsn) as other, opened(database.dsn) as taking, opened(database.dsn) as reading:
            await other.execute("BEGIN")
            await other.execute("SELECT FROM outbox ORDER BY id LIMIT 4 FOR UPDATE")
            free = await relay_batch(taking, reading, journal, 10)
            await other.execute("ROLLBACK")
            rest = await relay_batch(taking, reading, journal, 10)
        return free.done, rest.done

    assert told(journal_uri, journal_name, story) == (2, 4)


def test_payments_go_on_while_mongodb_is_away_and_the_relay_catches_up(
    database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "BACK_OFF_S", (0.05, 0.2))
    with tempfile.TemporaryDirectory(prefix="kopeck-") as folder:
        server = JournalServer(Path(folder), cache_mb=64, kind=WHEEL)
        server.start()

        async def story() -> Any:
            journal = Journal(server.uri, "away")
            shop = await open_shop(database.dsn)
            async with relays(database.dsn, journal):
                await act(database.dsn, [shop.pay("1", "79161234567", 100)])
                assert await left(database.dsn) == 0
                await asyncio.to_thread(server.kill)
                await act(database.dsn, [shop.pay("2", "79161234567", 100), shop.cancel("1")])
                waiting = await left(database.dsn, wait_s=1.0)
                with pytest.raises(JournalAway):
                    await journal.payment(1)
                # Started from this thread: the server is tied to the life of the thread that starts it.
                server.start()
                assert await left(database.dsn) == 0
            outcome = waiting, await versions(database.dsn, journal)
            journal.close()
            return outcome

        try:
            waiting, (held, found) = asyncio.run(story())
        finally:
            server.stop()
    assert waiting == 2
    assert found == held
    assert sorted(held.values()) == [1, 2]


def test_the_relay_outlives_a_broken_database_connection(
    database: Any, journal_uri: str, journal_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "BACK_OFF_S", (0.05, 0.2))

    async def story(journal: Journal) -> Any:
        shop = await open_shop(database.dsn)
        async with relays(database.dsn, journal, count=2):
            await act(database.dsn, [shop.pay("1", "79161234567", 100)])
            assert await left(database.dsn) == 0
            cut = await one_value(
                database.admin_dsn,
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE application_name = 'kopeck-relay' AND datname = current_database()",
            )
            await act(database.dsn, [shop.pay("2", "79161234567", 100)])
            assert await left(database.dsn) == 0
        return cut, await versions(database.dsn, journal)

    cut, (held, found) = told(journal_uri, journal_name, story)
    assert cut == 10  # two lanes of two connections and the one of the totals, twice
    assert found == held


def test_a_document_that_mongodb_refuses_neither_blocks_the_others_nor_is_forgotten(
    database: Any, journal_uri: str, journal_name: str
) -> None:
    async def story(journal: Journal) -> Any:
        shop = await open_shop(database.dsn)
        await act(database.dsn, [shop.pay(str(number), "79161234567", 100) for number in range(3)])
        async with opened(database.admin_dsn) as admin:
            await admin.execute("SET session_replication_role = replica")
            await admin.execute(
                "UPDATE payment_events SET request = repeat('x', 17000000) "
                "WHERE payment_id = (SELECT min(id) FROM payments)"
            )
        async with relays(database.dsn, journal):
            waiting = await left(database.dsn, wait_s=2.0)
        held, found = await versions(database.dsn, journal)
        return waiting, sorted(held.keys() - found.keys()), min(held)

    waiting, missing, too_large = told(journal_uri, journal_name, story)
    assert waiting == 1
    assert missing == [too_large]


def test_an_attempt_that_retention_deleted_meanwhile_leaves_the_outbox(
    database: Any, journal_uri: str, journal_name: str
) -> None:
    async def story(journal: Journal) -> Any:
        await note_attempt(database.dsn, Attempt("call", Reason.OK))
        await one_value(database.owner_dsn, "WITH gone AS (DELETE FROM attempts RETURNING 1) SELECT count(*) FROM gone")
        async with opened(database.dsn) as taking, opened(database.dsn) as reading:
            batch = await relay_batch(taking, reading, journal, 10)
        return batch.done, await one_value(database.dsn, "SELECT count(*) FROM outbox")

    assert told(journal_uri, journal_name, story) == (1, 0)


def test_a_relay_steps_over_carried_rows_once_while_an_old_snapshot_keeps_them(
    database: Any, journal_uri: str, journal_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "FLOOR_MARGIN", 50)

    async def story(journal: Journal) -> tuple[int, int, int]:
        floor = relay._Floor()
        async with opened(database.dsn) as old, opened(database.dsn) as taking, opened(database.dsn) as reading:
            await old.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            await old.execute("SELECT count(*) FROM outbox")
            await taking.execute("INSERT INTO outbox (topic, ref) SELECT 'attempt', n FROM generate_series(1, 5000) n")
            while True:
                batch = await relay_batch(taking, reading, journal, 500, floor=floor.begin(1.0))
                floor.took(batch.highest)
                if not batch.done:
                    break

            async def stepped_over(from_id: int) -> int:
                statement = taking.mogrify(relay._TAKE, {"limit": 500, "aside": [], "floor": from_id}).decode()
                await taking.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement)
                return int((await taking.fetchone())[0][0]["Plan"]["Shared Hit Blocks"])

            full_look = floor.begin(1.0 + relay.FULL_LOOK_S)
            return full_look, await stepped_over(floor.begin(2.0 + relay.FULL_LOOK_S)), await stepped_over(0)

    full_look, near, far = told(journal_uri, journal_name, story)
    assert full_look == 0
    assert near * 5 < far


def test_a_row_below_the_floor_is_carried_by_the_next_full_look(
    database: Any, journal_uri: str, journal_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "FLOOR_MARGIN", 0)
    monkeypatch.setattr(relay, "FULL_LOOK_S", 0.5)

    async def story(journal: Journal) -> Any:
        shop = await open_shop(database.dsn)
        async with relays(database.dsn, journal), opened(database.dsn) as late:
            await act(database.dsn, [shop.pay("1", "79161234567", 100)])
            payment_id = await one_value(database.dsn, "SELECT id FROM payments")
            await late.execute("BEGIN")
            await late.execute("INSERT INTO outbox (topic, ref) VALUES ('payment', %s)", (payment_id,))
            await late.execute("UPDATE payments SET version = 2 WHERE id = %s", (payment_id,))
            await act(database.dsn, [shop.pay(str(number), "79265550102", 100) for number in range(2, 20)])
            await late.execute("COMMIT")
            assert await left(database.dsn) == 0
        return await versions(database.dsn, journal)

    held, found = told(journal_uri, journal_name, story)
    assert found == held


def test_the_totals_are_folded_while_mongodb_is_away_and_the_lag_is_told(database: Any) -> None:
    async def story() -> tuple[int, Any, float, float]:
        nowhere = Journal("mongodb://127.0.0.1:9/?directConnection=true", "nowhere")
        shop = await open_shop(database.dsn)
        await act(database.dsn, [shop.pay(str(number), "79161234567", 100) for number in range(30)])
        try:
            async with relays(database.dsn, nowhere):
                for _ in range(200):
                    waiting = await one_value(database.dsn, "SELECT count(*) FROM payment_total_changes")
                    if not waiting and relay.OUTBOX_ROWS._value.get():
                        break
                    await asyncio.sleep(0.05)
            total = await one_value(database.dsn, "SELECT sum(payments) FROM payment_totals")
            return waiting, total, relay.OUTBOX_ROWS._value.get(), relay.OUTBOX_AGE._value.get()
        finally:
            nowhere.close()

    waiting, total, rows, age_s = asyncio.run(story())
    assert (waiting, total, rows) == (0, 30, 30)
    assert age_s >= 0


def test_a_rebuild_counts_the_totals_again(database: Any, journal_uri: str, journal_name: str) -> None:
    async def story(journal: Journal) -> int:
        shop = await open_shop(database.dsn)
        await act(database.dsn, [shop.pay("1", "79161234567", 100)])
        await one_value(database.admin_dsn, "DELETE FROM payment_total_changes RETURNING id")
        await rebuild(database.dsn, journal)
        return int(await one_value(database.dsn, "SELECT sum(payments) FROM payment_totals"))

    assert told(journal_uri, journal_name, story) == 1


def test_a_journal_database_dropped_under_a_relay_gets_its_indexes_back(
    database: Any, journal_uri: str, journal_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "INDEXES_EVERY_S", 0.0)

    async def story(journal: Journal) -> set[str]:
        shop = await open_shop(database.dsn)
        async with relays(database.dsn, journal):
            await act(database.dsn, [shop.pay("1", "79161234567", 100)])
            assert await left(database.dsn) == 0
            await journal._client.drop_database(journal_name)
            await act(database.dsn, [shop.pay("2", "79161234567", 100)])
            assert await left(database.dsn) == 0
            await asyncio.sleep(0.2)
        return set(await journal._db.payments.index_information())

    assert {"by_time", "by_terms", "by_state", "by_partner", "by_amount", "by_key"} <= told(
        journal_uri, journal_name, story
    )


def test_a_rebuild_makes_every_document_again_and_reports_how_far_it_is(
    database: Any, journal_uri: str, journal_name: str
) -> None:
    async def story(journal: Journal) -> Any:
        shop = await open_shop(database.dsn)
        await act(database.dsn, [shop.pay(str(number), "79161234567", 100) for number in range(23)])
        await note_attempt(database.dsn, Attempt("call", Reason.OK))
        await note_attempt(database.dsn, Attempt("call", Reason.OK))
        reports: list[Rebuilt] = []
        done = await rebuild(database.dsn, journal, reports.append, batch_max=10)
        return done, reports, await versions(database.dsn, journal), await journal.attempt(2)

    done, reports, (held, found), attempt = told(journal_uri, journal_name, story)
    assert found == held
    assert attempt is not None
    assert (done.payments, done.attempts, done.after_payment, done.after_attempt) == (23, 2, max(held), 2)
    assert [report.payments for report in reports] == [10, 20, 23, 23]
    assert reports[-1] == done


def test_a_rebuild_goes_on_after_the_ids_it_last_reported(database: Any, journal_uri: str, journal_name: str) -> None:
    async def story(journal: Journal) -> Any:
        shop = await open_shop(database.dsn)
        await act(database.dsn, [shop.pay(str(number), "79161234567", 100) for number in range(23)])
        reports: list[Rebuilt] = []

        def interrupted(report: Rebuilt) -> None:
            reports.append(report)
            if len(reports) == 2:
                raise KeyError("interrupted")

        with pytest.raises(KeyError, match="interrupted"):
            await rebuild(database.dsn, journal, interrupted, batch_max=10)
        done = await rebuild(database.dsn, journal, after_payment=reports[-1].after_payment, batch_max=10)
        return done, await versions(database.dsn, journal)

    done, (held, found) = told(journal_uri, journal_name, story)
    assert done.payments == 3
    assert found == held


def test_a_rebuild_refreshes_names_that_changed_since(database: Any, journal_uri: str, journal_name: str) -> None:
    async def story(journal: Journal) -> Any:
        shop = await open_shop(database.dsn)
        await act(database.dsn, [shop.pay("1", "79161234567", 100)])
        await rebuild(database.dsn, journal)
        async with opened(database.dsn) as cur:
            await cur.execute("UPDATE accounts SET name = 'Берёзкина Анна' WHERE number = '79161234567'")
        await rebuild(database.dsn, journal)
        return await journal.payment(await one_value(database.dsn, "SELECT id FROM payments"))

    document = told(journal_uri, journal_name, story)
    assert document["account_name"] == "Берёзкина Анна"
    assert "березкина" in document["terms"]
