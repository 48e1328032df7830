"""Defects that a review with fresh eyes found, each as the story that showed it."""

import asyncio
import contextlib
import os
import resource
import socket
import time

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from adapters.messages import Pay, Reason
from billing.ledger.account_store import post_manual, system_account
from gateway.partners.contract_book import read_book
from gateway.partners.contracts import set_contract
from gateway.partners.keys import add_key
from gateway.partners.records import ContractError
from gateway.payments.records import Attempt, Command
from gateway.verification.payments import _ORPHANS
from ratingcore.money import Minor
from tests.gateway.until import until

ACTIVE, OTHER, UNKNOWN = "79160000001", "79160000003", "79169999999"
IBOX = {"cancel": "cancel_txn_id", "cancel_unknown_code": 0}


async def change(town, code, dialect=None, **common):
    async with town.cursor() as cur:
        await cur.execute(
            "SELECT body FROM contracts WHERE partner_id = %s ORDER BY version DESC LIMIT 1", (town.ids[code],)
        )
        body = (await cur.fetchone())[0] | common
        body["dialect"] = body.get("dialect", {}) | (dialect or {})
        await set_contract(cur, code, body, "test")


def command(peer, key, account=ACTIVE):
    terms = peer.gateway.contracts.book.by_code["osmp"].terms
    return Command(Pay(str(key), account, Minor(100)), terms, "partner:osmp")


@contextlib.contextmanager
def a_thousand_descriptors():
    """What a thousand partners' connections do to the numbers of the next ones."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2_000:
        lacking = f"this takes 2,000 open files, and the machine allows {hard} (ulimit -Hn)"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(lacking)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2_000), hard))
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(1_100)]
    try:
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_cancel_acknowledged_after_a_refusal_closes_the_key_for_good(town, pay):
    async def story():
        await change(town, "osmp", IBOX, cancel_tombstone=True)
        async with town.gateway() as peer, town.cursor() as cur:
            query = pay(31, account=UNKNOWN)
            assert (await peer.osmp(query)).code == 5
            assert (await peer.osmp("command=cancel&txn_id=31&cancel_txn_id=32&sum=250.00")).code == 0
            await cur.execute("INSERT INTO accounts (number, kind) VALUES (%s, 'subscriber')", (UNKNOWN,))
            assert (await peer.osmp(query)).code == 300
            assert await town.balance(UNKNOWN) == 0
            assert await town.rows("SELECT state, version FROM payments") == [("voided", 2)]

    asyncio.run(story())


def test_a_contract_that_acknowledges_cancels_it_does_not_take_is_refused(town):
    with pytest.raises(ContractError, match="cancel_unknown_code"):
        asyncio.run(change(town, "osmp", IBOX, cancel_tombstone=True, cancel_allowed=False))


def test_a_question_about_a_pay_in_work_gets_no_final_answer(town, payment):
    async def story():
        async with town.gateway() as peer, town.cursor() as cur:
            await cur.execute("BEGIN")
            await cur.execute("SELECT FROM accounts WHERE number = %s FOR UPDATE", (ACTIVE,))
            paying = asyncio.create_task(peer.cyberplat(payment(71)))
            await asyncio.sleep(0.2)
            assert (await peer.cyberplat("action=status&receipt=71")).code == 8
            assert (await peer.cyberplat("action=cancel&receipt=71&mes=1")).code == 9
            await cur.execute("ROLLBACK")
            assert (await paying).code == 0
            assert (await peer.cyberplat("action=status&receipt=71")).code == 0
            assert (await peer.cyberplat("action=status&receipt=72")).code == 6
            assert not peer.gateway.core._in_work

    asyncio.run(story())


def test_commands_on_held_accounts_do_not_starve_the_rest(town):
    async def story():
        async with town.cursor() as cur:
            await cur.execute(
                "INSERT INTO accounts (number, kind) SELECT 'h' || n, 'subscriber' FROM generate_series(1, 1500) n"
            )
        async with town.gateway() as peer, town.cursor() as cur:
            await cur.execute("BEGIN")
            await cur.execute("SELECT count(*) FROM (SELECT FROM accounts WHERE number LIKE 'h%' FOR NO KEY UPDATE) h")
            held = [peer.gateway.core.submit(command(peer, n, f"h{n}")) for n in range(1, 1_501)]
            free = [await asyncio.wait_for(peer.gateway.core.submit(command(peer, 9_000 + n)), 10) for n in range(20)]
            assert {answer.reason for answer in free} == {Reason.OK}
            assert not any(answer.done() for answer in held)
            await cur.execute("ROLLBACK")
            assert {(await answer).reason for answer in held} == {Reason.OK}

    asyncio.run(story())


def test_a_cancel_that_a_prepaid_account_cannot_bear_is_impossible_not_poison(town, pay):
    async def story():
        await change(town, "osmp", cancel_needs_balance=False)
        async with town.gateway() as peer, town.cursor() as cur:
            await cur.execute("INSERT INTO accounts (number, kind) VALUES ('79165550000', 'prepaid')")
            paid = await peer.osmp(pay(51, account="79165550000"))
            await cur.execute("BEGIN")
            revenue = await system_account(cur, "revenue", "", "RUB")
            account = await town.one("SELECT id FROM accounts WHERE number = '79165550000'")
            spent = {"debit_id": account, "credit_id": revenue, "amount": Minor(100), "currency": "RUB"}
            await post_manual(cur, key="k", actor="test", why="spent", **spent)
            await cur.execute("COMMIT")
            assert (await peer.osmp(f"command=cancel&prv_txn={paid.payment_id}")).code == 251

    asyncio.run(story())


def test_sql_errors_on_high_descriptors_stall_nobody(town, pay):
    async def story():
        async with town.gateway() as one, town.gateway() as other:
            poison = one.gateway.core.submit(command(one, "9" * 65))
            neighbours = [one.gateway.core.submit(command(one, key)) for key in range(20)]
            answers = await asyncio.wait_for(asyncio.gather(*neighbours), 10)
            assert {answer.reason for answer in answers} == {Reason.OK}
            assert (await asyncio.wait_for(poison, 10)).reason is Reason.TEMPORARY
            for key in range(2000, 2010):
                both = asyncio.gather(one.osmp(pay(key)), other.osmp(pay(key, account=OTHER)))
                assert sorted(reply.code for reply in await asyncio.wait_for(both, 10)) == [0, 300]

    with a_thousand_descriptors():
        asyncio.run(story())


def test_a_database_that_became_read_only_is_away_until_it_is_not(town, database, pay):
    async def story():
        async with town.gateway(core={"away_grace_s": 0.2}) as peer, town.cursor(database.admin_dsn) as cur:
            assert (await peer.osmp(pay(1))).code == 0
            await cur.execute(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
            await cur.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'kopeck-gateway' AND datname = current_database()"
            )
            assert (await peer.osmp(pay(2))).code in (1, 90)
            assert not peer.gateway.is_ready
            await cur.execute(f"ALTER DATABASE {database.name} RESET default_transaction_read_only")
            await until(lambda: peer.gateway.is_ready, "the gateway is not ready again")
            assert (await peer.osmp(pay(2))).code == 0

    asyncio.run(story())


def test_a_cancelled_connect_ends_neither_the_poll_of_contracts_nor_the_attempts(town, database):
    async def story():
        async with town.gateway() as peer:
            async with town.cursor(database.admin_dsn) as cur:
                await cur.execute(f"ALTER DATABASE {database.name} SET statement_timeout = '100ms'")
                await cur.execute("SET statement_timeout = 0")
                await cur.execute("BEGIN")
                await cur.execute("LOCK TABLE contracts_revision, attempts IN ACCESS EXCLUSIVE MODE")
                await cur.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'kopeck-gateway' AND datname = current_database()"
                )
                peer.gateway.attempts.record(Attempt("malformed", Reason.BAD_REQUEST, detail="seen"))
                await asyncio.sleep(1)
                await cur.execute("ROLLBACK")
                await cur.execute(f"ALTER DATABASE {database.name} RESET statement_timeout")
            assert (await town.attempts(1))[0][3] == "seen"
            await change(town, "osmp", max_minor=7_000)
            await peer.reads_contracts()
            assert peer.gateway.contracts.book.by_code["osmp"].contract.max_minor == 7_000

    asyncio.run(story())


def test_the_book_is_of_one_instant(town):
    """A digest and its key replaced in one transaction between two queries of the reader."""

    class Spy:
        def __init__(self, cur):
            self.cur = cur
            self.seen = 0

        async def execute(self, query, *values):
            self.seen += 1
            if self.seen == 4:  # BEGIN, revision, transit accounts, and before the keys
                await change(town, "cyberplat", {"digest": "sha256"})
                async with town.cursor() as other:
                    key = rsa.generate_private_key(65537, 1024).public_key()
                    pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
                    await add_key(other, "cyberplat", "verify", pem.decode(), "test")
            await self.cur.execute(query, *values)

        def __getattr__(self, name):
            return getattr(self.cur, name)

    async def story():
        async with town.cursor() as cur:
            await cur.execute("SELECT now()")
            now = (await cur.fetchone())[0]
            book = await read_book(Spy(cur), "", now)
            binding = book.by_code["cyberplat"]
            assert (binding.contract.dialect.digest, len(binding.keys.verify)) == ("sha1", 1)

    asyncio.run(story())


def test_registry_questions_take_one_connection_however_many_there_are(town, database):
    async def story():
        async with town.gateway() as peer, town.cursor(database.admin_dsn) as cur:
            asked = [asyncio.create_task(peer.osmp("command=verify&date=20261120")) for _ in range(60)]
            most = 0
            while not all(task.done() for task in asked):
                await cur.execute(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE application_name = 'kopeck-gateway' AND datname = current_database()"
                )
                most = max(most, (await cur.fetchone())[0])
                await asyncio.sleep(0.002)
            assert {(await task).code for task in asked} <= {0, 1}
            assert most <= 7  # two lanes, reader, contracts, attempts, probe, and one registry

    asyncio.run(story())


def test_a_key_this_program_does_not_support_breaks_its_own_partner_alone(town, pay):
    unsupported = (  # a public key on secp112r1, which no build of the library carries
        "-----BEGIN PUBLIC KEY-----\nMDIwEAYHKoZIzj0CAQYFK4EEAAYDHgAEF0oC"
        "7eFCBPvsJl7pZzsTz+0fFYq3fC2vWQ==\n-----END PUBLIC KEY-----\n"
    )

    async def story():
        async with town.gateway() as peer, town.cursor(town.owner_dsn) as cur:
            await cur.execute(
                "INSERT INTO partner_keys (partner_id, purpose, material, created_by) VALUES (%s, 'verify', %s, 'x')",
                (town.ids["cyberplat"], unsupported),
            )
            await peer.reads_contracts()
            assert peer.gateway.contracts.book.broken == ("cyberplat",)
            assert (await peer.osmp(pay(1))).code == 0

    asyncio.run(story())


def test_a_repeat_survives_a_change_of_how_account_numbers_are_written(town, pay):
    async def story():
        async with town.gateway() as peer, town.cursor() as cur:
            await cur.execute("INSERT INTO accounts (number, kind) VALUES ('0123', 'subscriber')")
            query = pay(61, account="0123")
            first = await peer.osmp(query)
            await change(town, "osmp", strip_leading_zeros=True)
            await peer.reads_contracts()
            again = await peer.osmp(query)
            assert (again.code, again.payment_id) == (0, first.payment_id)

    asyncio.run(story())


def test_another_number_under_a_key_is_a_conflict_whatever_else_the_contract_changed(town, pay):
    async def story():
        async with town.gateway() as peer, town.cursor() as cur:
            await cur.execute(
                "INSERT INTO accounts (number, kind) VALUES ('0123', 'subscriber'), ('123', 'subscriber')"
            )
            assert (await peer.osmp(pay(62, account="0123"))).code == 0
            await change(town, "osmp", max_minor=1_000_000)
            await peer.reads_contracts()
            assert (await peer.osmp(pay(62, account="123"))).code == 300
            assert (await peer.osmp(pay(62, account="0123"))).code == 0
            assert (await town.balance("0123"), await town.balance("123")) == (25_000, 0)

    asyncio.run(story())


def test_a_number_taken_without_its_zeros_is_the_same_when_they_are_kept_again(town, pay):
    async def story():
        await change(town, "osmp", strip_leading_zeros=True)
        async with town.gateway() as peer, town.cursor() as cur:
            await cur.execute("INSERT INTO accounts (number, kind) VALUES ('123', 'subscriber')")
            assert (await peer.osmp(query := pay(63, account="0123"))).code == 0
            await change(town, "osmp", strip_leading_zeros=False)
            await peer.reads_contracts()
            assert (await peer.osmp(query)).code == 0

    asyncio.run(story())


def test_a_payment_refused_with_zeros_is_accepted_once_the_contract_drops_them(town, pay):
    async def story():
        async with town.gateway() as peer, town.cursor() as cur:
            await cur.execute("INSERT INTO accounts (number, kind) VALUES ('7', 'subscriber')")
            assert (await peer.osmp(query := pay(64, account="007"))).code == 5
            await change(town, "osmp", strip_leading_zeros=True)
            await peer.reads_contracts()
            assert [(await peer.osmp(query)).code for _ in range(2)] == [0, 0]
            assert await town.balance("7") == 25_000
            assert await town.rows("SELECT account_number FROM payments") == [("007",)]
            assert await town.rows("SELECT note FROM payment_events ORDER BY seq") == [("",), ("account 7",)]
        async with town.cursor() as cur:
            await cur.execute(_ORPHANS, {"after": 0, "last": 10**12, "limit": 5})
            assert await cur.fetchall() == []

    asyncio.run(story())


def test_head_is_answered_without_a_body(town):
    async def story():
        async with town.gateway() as peer:
            reader, writer = await asyncio.open_connection("127.0.0.1", peer.port)
            writer.write(b"HEAD /pay/osmp HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(), 5)
            assert answer.startswith(b"HTTP/1.1 405")
            assert answer.endswith(b"\r\n\r\n")
            writer.close()

    asyncio.run(story())


def test_a_client_that_does_not_read_its_replies_loses_its_connection(town):
    async def story():
        async with town.gateway(header_timeout_s=0.5, body_timeout_s=0.5) as peer:
            stuck = socket.socket()
            stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            stuck.connect(("127.0.0.1", peer.port))
            stuck.setblocking(False)
            # Answered at once, without the pause that strangers over their limit get.
            asked = b"PUT /pay/osmp HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
            end = time.monotonic() + 30
            gone = False
            while not gone and time.monotonic() < end:
                try:
                    stuck.send(asked * 200)
                except BlockingIOError:
                    await asyncio.sleep(0.05)
                except OSError:
                    gone = True
            stuck.close()
            assert gone

    asyncio.run(story())
