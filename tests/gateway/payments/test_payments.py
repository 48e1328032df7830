"""A payment's life over the wire, in both protocols, against real PostgreSQL."""

import asyncio
import re

import pytest

from gateway.partners.contracts import set_contract

ACTIVE, INACTIVE, OTHER, UNKNOWN = "79160000001", "79160000002", "79160000003", "79169999999"


def test_a_pay_credits_once_and_its_repeat_is_the_same_to_the_letter(town, pay):
    async def story():
        async with town.gateway() as peer:
            query = pay(1001)
            _, first = await peer.get("/pay/osmp", query.encode())
            _, again = await peer.get("/pay/osmp", query.encode())
            assert first == again
            assert b"<result>0</result>" in first
            assert await town.balance(ACTIVE) == 25_000
            assert await town.balance("clearing:osmp:RUB") == -25_000
            assert await town.balance("transit:RUB") == 0
            steps = await town.rows("SELECT step FROM transfers ORDER BY id")
            assert steps == [("hold",), ("post",)]
            assert [row[0] for row in await town.attempts(1)] == ["repeat"]

    asyncio.run(story())


def test_cyberplat_repeats_authcode_and_date_from_the_first_answer(town, payment):
    async def story():
        async with town.gateway() as peer:
            first = await peer.cyberplat(payment(500001))
            await asyncio.sleep(1.1)  # the reply's date has seconds
            again = await peer.cyberplat(payment(500001))
            assert (first.code, again.code) == (0, 0)
            assert (first.payment_id, first.date) == (again.payment_id, again.date)
            status = await peer.cyberplat("action=status&receipt=500001")
            assert (status.code, status.payment_id, status.date) == (0, first.payment_id, first.date)
            assert await town.balance(ACTIVE) == 25_000

    asyncio.run(story())


def test_fifty_parallel_pays_of_one_key_over_two_gateways_make_one_credit(town, pay):
    async def story():
        async with town.gateway() as one, town.gateway() as other:
            query = pay(1002)
            replies = await asyncio.gather(*[(one, other)[n % 2].osmp(query) for n in range(50)])
            assert {reply.code for reply in replies} == {0}
            assert len({reply.payment_id for reply in replies}) == 1
            assert await town.balance(ACTIVE) == 25_000

    asyncio.run(story())


def test_the_same_key_with_another_sum_or_account_is_refused_and_on_record(town, pay):
    async def story():
        async with town.gateway() as peer:
            assert (await peer.osmp(pay(1003))).code == 0
            assert (await peer.osmp(pay(1003, amount="251.00"))).code == 300
            assert (await peer.osmp(pay(1003, account=OTHER))).code == 300
            assert await town.balance(ACTIVE) == 25_000
            assert await town.balance(OTHER) == 0
            conflicts = await town.attempts(2, "conflict")
            assert [row[1] for row in conflicts] == ["conflict", "conflict"]
            assert await town.one("SELECT count(*) FROM payment_events") == 1
            assert (await peer.osmp(pay(1003))).code == 0

    asyncio.run(story())


def test_one_key_on_two_accounts_at_once_over_two_gateways_credits_one(town, pay):
    async def story():
        async with town.gateway() as one, town.gateway() as other:
            for key in range(2000, 2020):
                replies = await asyncio.gather(one.osmp(pay(key, account=ACTIVE)), other.osmp(pay(key, account=OTHER)))
                assert sorted(reply.code for reply in replies) == [0, 300]
            assert await town.balance(ACTIVE) + await town.balance(OTHER) == 20 * 25_000

    asyncio.run(story())


def test_a_refused_pay_is_looked_at_again_when_its_reason_may_have_gone(town, pay):
    async def story():
        async with town.gateway() as peer:
            query = pay(1004, account=UNKNOWN)
            assert (await peer.osmp(query)).code == 5
            assert (await peer.osmp(query)).code == 5
            async with town.cursor() as cur:
                await cur.execute("INSERT INTO accounts (number, kind) VALUES (%s, 'subscriber')", (UNKNOWN,))
            assert (await peer.osmp(query)).code == 0
            assert await town.balance(UNKNOWN) == 25_000
            events = await town.rows("SELECT event, state, reason FROM payment_events ORDER BY seq")
            assert events == [("refuse", "refused", "account_not_found"), ("accept", "posted", "ok")]

    asyncio.run(story())


def test_a_refusal_that_cannot_change_is_replayed_although_the_bounds_moved(town, pay):
    async def story():
        async with town.gateway() as peer:
            assert (await peer.osmp(pay(1005, amount="0.99"))).code == 241
            assert (await peer.osmp(pay(1006, amount="15000.01"))).code == 242
            assert (await peer.osmp(pay(1005, amount="0.99"))).code == 241
            assert (await peer.osmp(pay(1007, account=INACTIVE))).code == 79
            assert await town.one("SELECT count(*) FROM transfers") == 0

    asyncio.run(story())


def test_check_reads_and_stores_no_payment(town):
    async def story():
        async with town.gateway() as peer:
            _, body = await peer.get("/pay/osmp", f"command=check&txn_id=1&account={ACTIVE}&sum=10.00".encode())
            assert b"<result>0</result>" in body
            assert "Иванов Иван" in body.decode()
            assert (await peer.osmp(f"command=check&txn_id=1&account={UNKNOWN}&sum=10.00")).code == 5
            assert (await peer.cyberplat(f"action=check&number={ACTIVE}&type=1&amount=10.00")).code == 0
            assert await town.one("SELECT count(*) FROM payments") == 0
            assert {row[0] for row in await town.attempts(3)} == {"call", "refusal"}

    asyncio.run(story())


def test_cancel_takes_the_money_back_once_and_the_pay_then_says_cancelled(town, payment):
    async def story():
        async with town.gateway() as peer:
            paid = await peer.cyberplat(payment(500002))
            cancelled = await peer.cyberplat("action=cancel&receipt=500002&mes=1")
            assert (cancelled.code, cancelled.payment_id) == (0, paid.payment_id)
            assert (await peer.cyberplat("action=cancel&receipt=500002&mes=1")).code == 7
            again = await peer.cyberplat(payment(500002))
            assert (again.code, again.payment_id) == (7, paid.payment_id)
            assert (await peer.cyberplat("action=status&receipt=500002")).code == 7
            assert await town.balance(ACTIVE) == 0
            assert await town.balance("clearing:cyberplat:RUB") == 0
            assert (await peer.cyberplat("action=cancel&receipt=999&mes=1")).code == 4

    asyncio.run(story())


def test_osmp_cancels_by_our_number_and_only_its_own_payments(town, pay, payment):
    async def story():
        async with town.gateway() as peer:
            paid = await peer.osmp(pay(1008))
            foreign = await peer.cyberplat(payment(500003))
            assert (await peer.osmp(f"command=cancel&prv_txn={foreign.payment_id}")).code == 0  # Pegas: unknown is 0
            assert await town.balance(ACTIVE) == 50_000
            assert (await peer.osmp(f"command=cancel&prv_txn={paid.payment_id}")).code == 0
            assert (await peer.osmp(f"command=cancel&prv_txn={paid.payment_id}")).code == 0
            assert await town.balance(ACTIVE) == 25_000
            assert (await peer.osmp(pay(1008))).code == 300

    asyncio.run(story())


def test_a_cancel_is_impossible_once_the_money_is_spent(town, pay):
    async def story():
        async with town.gateway() as peer:
            paid = await peer.osmp(pay(1009))
            async with town.cursor(town.owner_dsn) as cur:
                await cur.execute(
                    "INSERT INTO transfers (source, source_id, step, debit_account_id, credit_account_id,"
                    " amount_minor, currency) SELECT 'invoice', 1, 'charge', a.id, b.id, 1, 'RUB'"
                    " FROM accounts a, accounts b WHERE a.number = %s AND b.number = 'transit:RUB'",
                    (ACTIVE,),
                )
                await cur.execute(
                    "UPDATE accounts SET balance_minor = balance_minor"
                    " + CASE number WHEN %s THEN -1 ELSE 1 END WHERE number IN (%s, 'transit:RUB')",
                    (ACTIVE, ACTIVE),
                )
            assert (await peer.osmp(f"command=cancel&prv_txn={paid.payment_id}")).code == 251
            assert await town.one("SELECT state FROM payments") == "posted"

    asyncio.run(story())


def test_the_registry_question_lists_the_days_payments(town, pay):
    async def story():
        async with town.gateway() as peer:
            await peer.osmp(f"command=pay&txn_id=7&txn_date=20261120101530&account={ACTIVE}&sum=10.00")
            await peer.osmp(f"command=pay&txn_id=8&txn_date=20261120235959&account={ACTIVE}&sum=20.00")
            await peer.osmp(f"command=pay&txn_id=9&txn_date=20261121000000&account={ACTIVE}&sum=30.00")
            _, body = await peer.get("/pay/osmp", b"command=verify&date=20261120")
            assert re.findall(rb'txn_id="(\d+)"', body) == [b"7", b"8"]

    asyncio.run(story())


def test_a_credited_payment_is_answered_from_its_state_although_every_limit_moved(town, pay):
    async def story():
        async with town.gateway() as peer, town.cursor() as cur:
            query = pay(1010)
            first = await peer.osmp(query)
            await cur.execute("SELECT body FROM contracts WHERE partner_id = %s", (town.ids["osmp"],))
            body = (await cur.fetchone())[0]
            tight = {
                "max_minor": 101,
                "account_pattern": "[0-9]{3}",
                "services": ["5"],
                "date_past_s": 0,
                "date_future_s": 0,
            }
            await set_contract(cur, "osmp", body | tight, "test")
            await peer.reads_contracts()
            again = await peer.osmp(query)
            assert (again.code, again.payment_id) == (0, first.payment_id)

    asyncio.run(story())


@pytest.mark.parametrize(
    ("limit", "code", "reason"),
    [
        ({"account_pattern": "[0-9]{3}"}, 4, "bad_account_format"),
        ({"services": ["5"]}, 300, "bad_service"),
        ({"date_past_s": 0, "date_future_s": None}, 300, "bad_date"),
        ({"date_past_s": None, "date_future_s": 0}, 0, None),
        ({"max_minor": 24_999}, 242, "amount_too_large"),
    ],
)
def test_each_limit_of_the_contract_refuses_a_new_payment_with_its_own_code(town, limit, code, reason):
    async def story():
        async with town.cursor() as cur:
            await cur.execute("SELECT body FROM contracts WHERE partner_id = %s", (town.ids["osmp"],))
            await set_contract(cur, "osmp", (await cur.fetchone())[0] | limit, "test")
        async with town.gateway() as peer:
            query = f"command=pay&txn_id=5&txn_date=20261101101530&account={ACTIVE}&sum=250.00"
            assert (await peer.osmp(query)).code == code
            if reason:
                assert await town.rows("SELECT state, reason FROM payments") == [("refused", reason)]
                assert await town.one("SELECT count(*) FROM transfers") == 0

    asyncio.run(story())
