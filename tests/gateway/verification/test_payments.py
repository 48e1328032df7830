"""gateway.verification.payments: a database the program wrote is clean, and one corrupted row of each truth is
found."""

import asyncio
import socket
from contextlib import closing
from typing import Any

import aiopg
import psycopg2
import pytest

from adapters.messages import Reason
from billing.database.away import DatabaseAway
from gateway.journal.documents import payment_documents
from gateway.journal.journal import Journal
from gateway.journal.relay import RelayOptions, rebuild, run_relay
from gateway.payments.records import Attempt, Command, OperatorCancel
from gateway.verification.journal import document_faults
from gateway.verification.live import Report, verify
from tests.gateway.shop import act, note_attempt, open_shop

#: A payment of each life that `busy_day` leaves, by its partner's key.
POSTED, REVERSED, REFUSED, TOMBSTONE, TAKEN_LATER = "1001", "1002", "1003", "1004", "1005"


async def busy_day(dsn: str) -> None:
    """Payments in every state that partners and people can bring about today."""
    shop = await open_shop(dsn)
    await act(
        dsn,
        [
            shop.pay(POSTED, "79161234567", 25_000),
            shop.pay(REVERSED, "79265550102", 10_000),
            shop.pay(REFUSED, "70000000000", 500),
            shop.pay(TAKEN_LATER, "79990000000", 700),
            shop.pay("77", "79031112233", 123_456, "cyber-demo"),
        ],
    )
    await act(dsn, [shop.cancel(REVERSED), shop.cancel(TOMBSTONE)])
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cur:
        cur.execute("INSERT INTO accounts (number, kind) VALUES ('79990000000', 'subscriber')")
        cur.execute("SELECT id FROM payments WHERE partner_key = '77'")
        other = cur.fetchone()[0]
    await act(dsn, [shop.pay(TAKEN_LATER, "79990000000", 700)])
    await act(dsn, [Command(OperatorCancel(other, "двойная оплата"), None, "user:anna")])
    await note_attempt(dsn, Attempt("bad_source", Reason.BAD_SOURCE, remote_ip="198.51.100.9"))


def corrupt(admin_dsn: str, *statements: str) -> None:
    """Do what nobody may, as a superuser with triggers off."""
    with closing(psycopg2.connect(admin_dsn)) as connection, connection, connection.cursor() as cur:
        cur.execute("SET session_replication_role = replica")
        for statement in statements:
            cur.execute(statement)


def verified(database: Any, uri: str, name: str, *statements: str) -> Report:
    """A busy day, carried into the journal; then the statements; then verify."""

    async def story() -> Report:
        journal = Journal(uri, name)
        await busy_day(database.dsn)
        corrupt(database.admin_dsn, "DELETE FROM outbox")  # as a relay leaves it; the rebuild writes the documents
        await rebuild(database.dsn, journal)
        corrupt(database.admin_dsn, *statements)
        report = await verify(database.admin_dsn, journal, wait_s=0.2)
        journal.close()
        return report

    return asyncio.run(story())


def found_in(report: Report) -> list[tuple[int, str]]:
    return [(finding.truth, finding.what) for finding in report.findings]


def test_a_database_the_program_wrote_is_clean_and_every_check_examined_something(
    database: Any, journal_uri: str, journal_name: str
) -> None:
    report = verified(database, journal_uri, journal_name)
    assert found_in(report) == []
    assert report.is_clean
    assert {check.truth for check in report.checks} == {1, 2, 3, 4, 5}
    assert [check.name for check in report.checks if check.examined == 0] == []
    assert report.lines()[-1] == "no differences"
    payments = next(check for check in report.checks if check.of == "payments")
    assert payments.examined == 6


def test_verify_needs_no_more_rights_than_the_programs_role_has(
    database: Any, journal_uri: str, journal_name: str
) -> None:
    async def story() -> Report:
        await busy_day(database.dsn)
        journal = Journal(journal_uri, journal_name)
        await rebuild(database.dsn, journal)
        corrupt(database.admin_dsn, "DELETE FROM outbox")
        report = await verify(database.dsn, journal, wait_s=0.2)
        journal.close()
        return report

    assert asyncio.run(story()).is_clean


OF = "(SELECT id FROM payments WHERE partner_key = '{}')"

#: (truth, words of the finding, what is done to the database)
CORRUPTIONS: list[tuple[int, str, list[str]]] = [
    (3, "has no contract 99", [f"UPDATE payments SET contract_version = 99 WHERE partner_key = '{POSTED}'"]),
    (3, "is another", [f"UPDATE payments SET account_number = '1' WHERE partner_key = '{POSTED}'"]),
    (
        1,
        "accounts.balance_minor is numeric",
        [
            "DROP TRIGGER accounts_dunning_lift ON accounts",
            "DROP TRIGGER accounts_balance_bears ON accounts",
            "ALTER TABLE accounts ALTER balance_minor TYPE numeric",
        ],
    ),
    (2, "balances sum to", ["UPDATE accounts SET balance_minor = 1 WHERE number = '79031112233'"]),
    (2, "account 79161234567", ["UPDATE accounts SET balance_minor = 24999 WHERE number = '79161234567'"]),
    (
        3,
        "partner 1 key '1001': payments",
        [
            "ALTER TABLE payments DROP CONSTRAINT payments_partner_id_partner_key_key",
            f"UPDATE payments SET partner_key = '1001' WHERE id = {OF.format(REFUSED)}",
        ],
    ),
    (
        3,
        "no valid unique index on (partner_id, partner_key)",
        ["ALTER TABLE payments DROP CONSTRAINT payments_partner_id_partner_key_key"],
    ),
    (
        3,
        "transfers hold; its events cause hold, post",
        [f"DELETE FROM transfers WHERE step = 'post' AND source_id = {OF.format(POSTED)}"],
    ),
    (
        3,
        "transfers reverse; its events cause none",
        [
            "INSERT INTO transfers"
            " (source, source_id, step, debit_account_id, credit_account_id, amount_minor, currency)"
            f" SELECT 'payment', {OF.format(REFUSED)}, 'reverse', debit_account_id, credit_account_id, 500, 'RUB'"
            f" FROM transfers WHERE step = 'reverse' AND source_id = {OF.format(REVERSED)}"
        ],
    ),
    (
        3,
        "post amount is 250.01, must be 250.00",
        [f"UPDATE transfers SET amount_minor = 25001 WHERE step = 'post' AND source_id = {OF.format(POSTED)}"],
    ),
    (
        3,
        "post accounts",
        [
            "UPDATE transfers SET credit_account_id = (SELECT id FROM accounts WHERE number = '79265550102')"
            f" WHERE step = 'post' AND source_id = {OF.format(POSTED)}"
        ],
    ),
    (
        3,
        "pass through transit accounts",
        [
            "UPDATE transfers SET credit_account_id = (SELECT id FROM accounts WHERE number = '79265550102')"
            f" WHERE step = 'hold' AND source_id = {OF.format(POSTED)}",
            "UPDATE transfers SET debit_account_id = (SELECT id FROM accounts WHERE number = '79265550102')"
            f" WHERE step = 'post' AND source_id = {OF.format(POSTED)}",
        ],
    ),
    (3, "is of payment 5, not there", [f"UPDATE transfers SET source_id = 5 WHERE source_id = {OF.format(POSTED)}"]),
    (
        4,
        "state is reversed, must be posted",
        [f"UPDATE payments SET state = 'reversed' WHERE id = {OF.format(POSTED)}"],
    ),
    (4, "version is 9, must be 1", [f"UPDATE payments SET version = 9 WHERE id = {OF.format(POSTED)}"]),
    (4, "reason is other, must be ok", [f"UPDATE payments SET reason = 'other' WHERE id = {OF.format(POSTED)}"]),
    (
        4,
        "registered_at is",
        [f"UPDATE payments SET registered_at = created_at - interval '1 s' WHERE id = {OF.format(POSTED)}"],
    ),
    (
        4,
        "registered_at is",
        [f"UPDATE payments SET registered_at = created_at WHERE id = {OF.format(TAKEN_LATER)}"],
    ),
    (4, "updated_at is", [f"UPDATE payments SET updated_at = now() WHERE id = {OF.format(POSTED)}"]),
    (4, "it has no events", [f"DELETE FROM payment_events WHERE payment_id = {OF.format(POSTED)}"]),
    (4, "event 1 has number 2", [f"UPDATE payment_events SET seq = 2 WHERE payment_id = {OF.format(POSTED)}"]),
    (
        4,
        "cannot happen in state posted",
        [
            f"UPDATE payment_events SET event = 'void' WHERE seq = 2 AND payment_id = {OF.format(REVERSED)}",
        ],
    ),
    (
        4,
        "event 1 (nonsense) cannot happen in state new",
        [f"UPDATE payment_events SET event = 'nonsense' WHERE payment_id = {OF.format(POSTED)}"],
    ),
    (
        4,
        "says held, the table posted",
        [f"UPDATE payment_events SET state = 'held' WHERE payment_id = {OF.format(POSTED)}"],
    ),
    (
        4,
        "payment 5 does not exist but has event 1 (refuse)",
        [f"UPDATE payment_events SET payment_id = 5 WHERE payment_id = {OF.format(REFUSED)}"],
    ),
    (4, "no enabled trigger refuses UPDATE on payment_events", ["ALTER TABLE payment_events DISABLE TRIGGER ALL"]),
    (4, "role kopeck_app may UPDATE payment_events", ["GRANT UPDATE ON payment_events TO kopeck_app"]),
    (4, "role kopeck_app may TRUNCATE payments", ["GRANT TRUNCATE ON payments TO kopeck_app"]),
    (
        5,
        "amount: the journal has 25000, PostgreSQL 25001",
        [f"UPDATE payments SET amount_minor = 25001 WHERE id = {OF.format(POSTED)}"],
    ),
    (
        5,
        "the journal has version 1, PostgreSQL 2",
        [f"UPDATE payments SET version = 2 WHERE id = {OF.format(POSTED)}"],
    ),
    (
        5,
        "timeline: the journal has",
        [f"UPDATE payment_events SET remote_ip = '' WHERE payment_id = {OF.format(POSTED)}"],
    ),
    (5, "PostgreSQL does not know it", [f"DELETE FROM payments WHERE id = {OF.format(POSTED)}"]),
    (5, "has not carried change", [f"INSERT INTO outbox (topic, ref) VALUES ('payment', {OF.format(POSTED)})"]),
]


@pytest.mark.parametrize(
    ("truth", "words", "statements"), CORRUPTIONS, ids=[f"{truth}-{words}" for truth, words, _ in CORRUPTIONS]
)
def test_one_corrupted_row_is_found_and_printed(
    database: Any, journal_uri: str, journal_name: str, truth: int, words: str, statements: list[str]
) -> None:
    report = verified(database, journal_uri, journal_name, *statements)
    assert any(of == truth and words in what for of, what in found_in(report)), found_in(report)
    assert not report.is_clean
    assert any(words in line for line in report.lines())
    assert report.lines()[-1].endswith("differences")


def test_a_database_in_motion_is_clean(database: Any, journal_uri: str, journal_name: str) -> None:
    async def story() -> tuple[Report, int]:
        journal = Journal(journal_uri, journal_name)
        shop = await open_shop(database.dsn)
        stop = asyncio.Event()

        async def traffic() -> int:
            done = 0
            while not stop.is_set():
                keys = [str(number) for number in range(done, done + 10)]
                await act(database.dsn, [shop.pay(key, "79161234567", 100) for key in keys])
                await act(database.dsn, [shop.cancel(key) for key in keys[::3]])
                done += 10
            return done

        relay = asyncio.create_task(run_relay(RelayOptions(database.dsn, 50, 0.02), journal, stop))
        payments = asyncio.create_task(traffic())
        await asyncio.sleep(0.3)
        report = await verify(database.dsn, journal, wait_s=30)
        stop.set()
        await relay
        journal.close()
        return report, await payments

    report, done = asyncio.run(story())
    assert found_in(report) == []
    assert done >= 20
    assert all(check.examined for check in report.checks if check.truth == 5)


def test_no_transaction_is_open_between_slices(
    database: Any, journal_uri: str, journal_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.verification.payments.BATCH", 2)
    monkeypatch.setattr("gateway.verification.journal.BATCH", 2)
    asked: list[tuple[str, int]] = []

    async def story() -> Report:
        await busy_day(database.dsn)
        journal = Journal(journal_uri, journal_name)
        await rebuild(database.dsn, journal)
        corrupt(database.admin_dsn, "DELETE FROM outbox")
        with closing(psycopg2.connect(database.admin_dsn)) as watch, watch.cursor() as cur:
            watch.autocommit = True

            def say(what: str, done: int, of: int | None) -> None:
                cur.execute(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND application_name IN ('kopeck-verify', 'kopeck-bill') AND state LIKE 'idle in transaction%'"
                )
                asked.append((what, cur.fetchone()[0]))

            report = await verify(database.dsn, journal, wait_s=0.2, say=say)
        journal.close()
        return report

    assert asyncio.run(story()).is_clean
    assert {what for what, _ in asked} >= {
        "transfers",
        "accounts",
        "payments",
        "payment keys",
        "payments in the journal",
    }
    assert [what for what, is_open in asked if is_open] == []


def test_a_doubled_key_is_found_where_it_lies_on_two_pages(
    database: Any, journal_uri: str, journal_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rows in (2, 3, 4):
        monkeypatch.setattr("gateway.verification.payments.SLICE_ROWS", rows)
        name = f"{journal_name}_{rows}"
        if rows == 2:
            report = verified(
                database, journal_uri, name,
                "ALTER TABLE payments DROP CONSTRAINT payments_partner_id_partner_key_key",
                f"UPDATE payments SET partner_key = '1001' WHERE id = {OF.format(REFUSED)}",
            )  # fmt: skip
        else:
            report = asyncio.run(verify(database.admin_dsn, None))
        keys = next(check for check in report.checks if check.name.startswith("each partner's key"))
        assert (keys.examined, keys.found) == (6, 2)
        assert "partner 1 key '1001': payments" in keys.findings[1].what


def late(database: Any, uri: str, name: str, carry: Any, wait_s: float) -> Report:
    """The journal as it was before two payments changed; ``carry`` runs beside verify."""

    async def story() -> Report:
        journal = Journal(uri, name)
        shop = await open_shop(database.dsn)
        await act(database.dsn, [shop.pay("2000", "79161234567", 100)])
        await rebuild(database.dsn, journal)
        corrupt(database.admin_dsn, "DELETE FROM outbox")
        await act(database.dsn, [shop.pay("2001", "79161234567", 100)])
        await act(database.dsn, [shop.pay("2002", "79161234567", 100)])
        beside = asyncio.create_task(carry(journal))
        report = await verify(database.dsn, journal, wait_s=wait_s)
        beside.cancel()
        await asyncio.gather(beside, return_exceptions=True)
        journal.close()
        return report

    return asyncio.run(story())


def test_what_the_relay_has_still_to_carry_is_waited_for(database: Any, journal_uri: str, journal_name: str) -> None:
    async def carry(journal: Journal) -> None:
        await asyncio.sleep(1.5)
        await run_relay(RelayOptions(database.dsn, 50, 0.02), journal, asyncio.Event())

    report = late(database, journal_uri, journal_name, carry, wait_s=60)
    assert found_in(report) == []
    assert not any(check.note for check in report.checks)


def test_a_relay_that_carries_slowly_is_told_and_is_no_difference(
    database: Any, journal_uri: str, journal_name: str
) -> None:
    async def behind(journal: Journal) -> None:
        """Carries the first of the two changes, and never the second."""
        await asyncio.sleep(1.0)
        async with aiopg.connect(database.dsn) as connection, connection.cursor() as cur:
            await cur.execute("SELECT id, ref FROM outbox ORDER BY id LIMIT 1")
            row, payment = await cur.fetchone()
            await journal.put_payments(await payment_documents(cur, [payment]))
            await cur.execute("DELETE FROM outbox WHERE id = %s", (row,))

    report = late(database, journal_uri, journal_name, behind, wait_s=5)
    assert found_in(report) == []
    assert any("is behind by" in check.note for check in report.checks)


def test_a_relay_that_carries_nothing_is_a_difference(database: Any, journal_uri: str, journal_name: str) -> None:
    async def carry(_: Journal) -> None:
        await asyncio.sleep(0)

    found = found_in(late(database, journal_uri, journal_name, carry, wait_s=1.0))
    assert len(found) == 1
    assert "the relay has not carried change" in found[0][1]


def test_a_payment_without_its_document_is_found(database: Any, journal_uri: str, journal_name: str) -> None:
    async def story() -> Report:
        journal = Journal(journal_uri, journal_name)
        await busy_day(database.dsn)
        corrupt(database.admin_dsn, "DELETE FROM outbox")
        await rebuild(database.dsn, journal)
        ids = [payment_id async for batch in journal.payment_ids(100) for payment_id in batch]
        await journal._db.payments.delete_one({"_id": ids[0]})
        report = await verify(database.dsn, journal, wait_s=0.2)
        journal.close()
        return report

    assert [(truth, what.split(": ")[1]) for truth, what in found_in(asyncio.run(story()))] == [
        (5, "the journal has no document of it")
    ]


def test_a_renamed_subscriber_is_a_note_and_no_difference(database: Any, journal_uri: str, journal_name: str) -> None:
    rename = "UPDATE accounts SET name = 'Берёзкина Анна' WHERE number = '79161234567'"
    report = verified(database, journal_uri, journal_name, rename)
    assert report.is_clean
    assert any("1 documents are worded" in line for line in report.lines())


def test_a_journal_ahead_of_the_snapshot_is_no_difference() -> None:
    expected = {"_id": 1, "version": 2, "state": "posted", "timeline": []}
    assert document_faults(expected, {**expected, "version": 3, "state": "reversed"}) == []
    assert document_faults(expected, dict(expected)) == []
    assert document_faults(expected, {**expected, "state": "held"}) == [
        "state: the journal has 'held', PostgreSQL 'posted'"
    ]


def test_an_empty_database_is_clean_and_every_check_says_that_it_examined_nothing(
    database: Any, journal_uri: str, journal_name: str
) -> None:
    async def story() -> Report:
        journal = Journal(journal_uri, journal_name)
        report = await verify(database.dsn, journal, wait_s=0.2)
        journal.close()
        return report

    report = asyncio.run(story())
    assert report.is_clean
    assert sum("EXAMINED NOTHING" in line for line in report.lines()) >= 8


def test_without_a_journal_truth_5_is_reported_as_not_examined(database: Any) -> None:
    report = asyncio.run(verify(database.dsn, None))
    last = report.checks[-1]
    assert (last.truth, last.examined, last.note) == (5, 0, "no journal was given: not examined")


def test_a_journal_that_is_away_is_a_finding(database: Any) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        journal = Journal(f"mongodb://127.0.0.1:{unused.getsockname()[1]}/?directConnection=true", "nowhere")

        async def story() -> Report:
            shop = await open_shop(database.dsn)
            await act(database.dsn, [shop.pay("1", "79161234567", 100)])
            return await verify(database.dsn, journal, wait_s=0.1)

        report = asyncio.run(story())
        journal.close()
    assert [truth for truth, _ in found_in(report)] == [5]
    assert "cannot be read" in found_in(report)[0][1]


def test_a_database_that_is_away_is_told_from_one_that_differs() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(DatabaseAway):
            asyncio.run(verify(f"host=127.0.0.1 port={port} dbname=x user=x", None))
