"""Batches when things go wrong: database away, locks held, poison, deadlines, failpoints by name."""

import asyncio
from dataclasses import replace

import psycopg2
import pytest

from adapters.messages import Pay, Reason, Status
from gateway.payments import failpoints
from gateway.payments.records import Command, OperatorCancel
from ratingcore.money import Minor
from tests.gateway.until import until

ACTIVE, OTHER = "79160000001", "79160000003"


def command(peer, key, account=ACTIVE, amount=100):
    book = peer.gateway.contracts.book
    return Command(Pay(str(key), account, Minor(amount)), book.by_code["osmp"].terms, "partner:osmp")


def test_a_hundred_commands_at_once_go_into_few_batches_and_all_are_answered(town):
    async def story():
        async with town.gateway() as peer:
            answers = await asyncio.gather(*[peer.gateway.core.submit(command(peer, key)) for key in range(300)])
            assert {answer.reason for answer in answers} == {Reason.OK}
            assert await town.balance(ACTIVE) == 300 * 100
            stamps = await town.one("SELECT count(DISTINCT xmin::text) FROM payments")
            assert stamps < 100

    asyncio.run(story())


def test_a_payment_to_an_account_somebody_holds_waits_and_the_others_do_not(town):
    async def story():
        async with town.gateway() as peer, town.cursor() as cur:
            await cur.execute("BEGIN")
            await cur.execute("SELECT 1 FROM accounts WHERE number = %s FOR UPDATE", (ACTIVE,))
            held = peer.gateway.core.submit(command(peer, 1))
            free = peer.gateway.core.submit(command(peer, 2, account=OTHER))
            assert (await free).reason is Reason.OK
            assert not held.done()
            await cur.execute("ROLLBACK")
            assert (await held).reason is Reason.OK

    asyncio.run(story())


def test_a_payment_that_waits_too_long_is_answered_temporary_and_its_repeat_succeeds(town):
    async def story():
        async with town.gateway(core={"request_deadline_s": 0.4}) as peer, town.cursor() as cur:
            await cur.execute("BEGIN")
            await cur.execute("SELECT 1 FROM accounts WHERE number = %s FOR UPDATE", (ACTIVE,))
            answer = await peer.gateway.core.submit(command(peer, 1))
            assert answer.reason in (Reason.TEMPORARY, Reason.IN_PROGRESS)
            await cur.execute("ROLLBACK")
            await asyncio.sleep(0.1)
            answer = await peer.gateway.core.submit(command(peer, 1))
            assert answer.reason in (Reason.OK, Reason.DUPLICATE_OK)
            assert await town.balance(ACTIVE) == 100

    asyncio.run(story())


def test_a_poisonous_command_never_takes_its_neighbours_down(town):
    async def story():
        async with town.gateway() as peer:
            # 65 characters break payments_partner_key_check; no adapter lets such a key through.
            poison = peer.gateway.core.submit(command(peer, "9" * 65))
            neighbours = [peer.gateway.core.submit(command(peer, key)) for key in range(20)]
            assert {(await answer).reason for answer in neighbours} == {Reason.OK}
            assert (await poison).reason is Reason.TEMPORARY
            assert await town.balance(ACTIVE) == 2_000

    asyncio.run(story())


def test_every_connection_may_be_killed_and_payments_go_on(town, database):
    async def story():
        async with town.gateway() as peer:
            assert (await peer.gateway.core.submit(command(peer, 0))).reason is Reason.OK
            answers = []
            for key in range(1, 40):
                if key % 10 == 0:
                    async with town.cursor(database.admin_dsn) as cur:
                        await cur.execute(
                            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                            " WHERE application_name = 'kopeck-gateway' AND datname = current_database()"
                        )
                answers.append(await peer.gateway.core.submit(command(peer, key)))
            assert {answer.reason for answer in answers} <= {Reason.OK, Reason.DUPLICATE_OK}
            assert await town.balance(ACTIVE) == 40 * 100

    asyncio.run(story())


def test_a_statement_the_server_cancels_does_not_hang_its_waiters(town, database):
    """aiopg raises CancelledError for it, which passes by `except Exception`."""

    async def story():
        async with town.gateway(core={"lock_timeout_s": 60.0}) as peer, town.cursor() as cur:
            assert (await peer.gateway.core.submit(command(peer, 0))).reason is Reason.OK
            await cur.execute("BEGIN")
            await cur.execute("SELECT FROM accounts WHERE number = 'clearing:osmp:RUB' FOR UPDATE")
            answer = peer.gateway.core.submit(command(peer, 1))
            await asyncio.sleep(0.2)  # it waits for the clearing account now
            async with town.cursor(database.admin_dsn) as admin:
                await admin.execute(
                    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'kopeck-gateway' AND wait_event_type = 'Lock'"
                )
                assert await admin.fetchall() == [(True,)]
            await cur.execute("ROLLBACK")
            assert (await answer).reason is Reason.OK
            assert await town.balance(ACTIVE) == 200

    asyncio.run(story())


def test_with_the_database_away_the_answer_is_temporary_and_at_once(town, database, pg):
    async def story():
        async with town.gateway(core={"away_grace_s": 0.3}) as peer:
            assert (await peer.gateway.core.submit(command(peer, 1))).reason is Reason.OK
            set_connections(pg, database.name, allowed=False)
            try:
                first = await peer.gateway.core.submit(command(peer, 2))
                assert first.reason in (Reason.TEMPORARY, Reason.IN_PROGRESS)
                assert not peer.gateway.is_ready
                answers = await asyncio.gather(*[peer.gateway.core.submit(command(peer, k)) for k in range(3, 50)])
                assert {answer.reason for answer in answers} == {Reason.TEMPORARY}
            finally:
                set_connections(pg, database.name, allowed=True)
            await until(lambda: peer.gateway.is_ready, "the gateway is not ready again")
            answers = await asyncio.gather(*[peer.gateway.core.submit(command(peer, key)) for key in range(2, 50)])
            assert {answer.reason for answer in answers} <= {Reason.OK, Reason.DUPLICATE_OK}
            assert await town.balance(ACTIVE) == 49 * 100

    asyncio.run(story())


def test_a_queue_over_its_limit_is_answered_temporary(town):
    async def story():
        async with town.gateway(core={"queue_max": 10}) as peer:
            answers = await asyncio.gather(*[peer.gateway.core.submit(command(peer, key)) for key in range(50)])
            reasons = [answer.reason for answer in answers]
            assert set(reasons) == {Reason.OK, Reason.TEMPORARY}
            assert await town.balance(ACTIVE) == 100 * reasons.count(Reason.OK)

    asyncio.run(story())


def test_an_operator_cancels_whatever_the_contract_says_once(town):
    async def story():
        async with town.gateway() as peer:
            paid = await peer.gateway.core.submit(command(peer, 1))
            cancel = Command(OperatorCancel(paid.payment_id, "wrong account"), None, "user:anna")
            assert (await peer.gateway.core.submit(cancel)).reason is Reason.OK
            assert (await peer.gateway.core.submit(cancel)).reason is Reason.ALREADY_CANCELLED
            nobody = Command(OperatorCancel(1, "x"), None, "user:anna")
            assert (await peer.gateway.core.submit(nobody)).reason is Reason.PAYMENT_NOT_FOUND
            events = await town.rows("SELECT event, actor, note FROM payment_events ORDER BY seq")
            assert events[1] == ("reverse", "user:anna", "wrong account")
            assert await town.balance(ACTIVE) == 0

    asyncio.run(story())


def test_a_person_takes_back_what_a_debtor_was_paid_by_mistake_only_knowing_of_the_debt(town):
    async def story():
        async with town.gateway() as peer:
            paid = await peer.gateway.core.submit(command(peer, 1))
            async with town.cursor() as cur:
                await cur.execute("UPDATE accounts SET balance_minor = 40 WHERE number = %s", (ACTIVE,))
            cancel = OperatorCancel(paid.payment_id, "wrong account")
            refused = await peer.gateway.core.submit(Command(cancel, None, "user:anna"))
            assert refused.reason is Reason.CANCEL_IMPOSSIBLE
            knowing = replace(cancel, may_owe=True)
            assert (await peer.gateway.core.submit(Command(knowing, None, "user:anna"))).reason is Reason.OK
            assert await town.balance(ACTIVE) == -60

    asyncio.run(story())


def test_a_floor_holds_although_a_person_accepts_a_debt(town):
    async def story():
        async with town.gateway() as peer:
            paid = await peer.gateway.core.submit(command(peer, 1))
            async with town.cursor(town.owner_dsn) as cur:
                await cur.execute(
                    "UPDATE accounts SET balance_minor = 40, floor_minor = 0 WHERE number = %s", (ACTIVE,)
                )
            knowing = Command(OperatorCancel(paid.payment_id, "wrong account", may_owe=True), None, "user:anna")
            assert (await peer.gateway.core.submit(knowing)).reason is Reason.CANCEL_IMPOSSIBLE
            assert await town.balance(ACTIVE) == 40

    asyncio.run(story())


def test_a_partner_whose_contract_is_broken_keeps_nobody_from_taking_its_payments_back(town):
    async def story():
        async with town.gateway() as peer:
            paid = await peer.gateway.core.submit(command(peer, 1))
            async with town.cursor() as cur:
                await cur.execute(
                    "INSERT INTO contracts (partner_id, version, body, created_by) VALUES (%s, 2, '{}', 'test')",
                    (town.ids["osmp"],),
                )
            await peer.reads_contracts()
            assert "osmp" not in peer.gateway.contracts.book.by_code
            cancel = Command(OperatorCancel(paid.payment_id, "wrong account"), None, "user:anna")
            assert (await peer.gateway.core.submit(cancel)).reason is Reason.OK
            assert await town.balance(ACTIVE) == 0

    asyncio.run(story())


def test_stopping_answers_what_is_in_flight(town):
    async def story():
        async with town.gateway() as peer:
            waiting = [peer.gateway.core.submit(command(peer, key)) for key in range(200)]
            await peer.gateway.stop(5)
            assert {answer.result().reason for answer in waiting} == {Reason.OK}
            assert (await peer.gateway.core.submit(command(peer, 1))).reason is Reason.TEMPORARY

    asyncio.run(story())


def test_a_status_question_sees_what_was_just_paid(town):
    async def story():
        async with town.gateway() as peer:
            terms = peer.gateway.contracts.book.by_code["osmp"].terms
            for key in range(20):
                paid = await peer.gateway.core.submit(command(peer, key))
                asked = await peer.gateway.core.submit(Command(Status(str(key)), terms, "partner:osmp"))
                assert (asked.reason, asked.payment_id) == (Reason.OK, paid.payment_id)

    asyncio.run(story())


def test_only_known_failpoints_can_be_armed():
    for spec in ("nowhere", "after_commit_before_reply:0", "after_commit_before_reply:x"):
        with pytest.raises(ValueError, match="failpoint"):
            failpoints.arm([spec])
    failpoints.hit("after_commit_before_reply")


def set_connections(pg, name, *, allowed):
    """Let nobody but the superuser into a database, and end who is in: PostgreSQL is away for this test alone."""
    with psycopg2.connect(pg.dsn("postgres", "postgres")) as connection:
        connection.autocommit = True
        with connection.cursor() as cur:
            cur.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {allowed}")
            cur.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
    connection.close()
