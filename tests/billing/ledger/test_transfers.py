"""The ledger against real PostgreSQL: conservation under overlapping batches, keys, floors, append-only."""

import asyncio
from contextlib import asynccontextmanager

import aiopg
import psycopg2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.ledger.account_store import create_accounts, post_manual, statement, system_account
from billing.ledger.accounts import AccountError, NewAccount
from billing.ledger.transfer_store import post_transfers, write_transfers
from billing.ledger.transfers import Transfer, TransferRefusal, admit, deltas
from ratingcore.money import Minor


@asynccontextmanager
async def transaction(dsn):
    connection = await aiopg.connect(dsn)
    try:
        cur = await connection.cursor()
        await cur.execute("BEGIN")
        yield cur
        await cur.execute("COMMIT")
    finally:
        await connection.close()


async def open_accounts(dsn):
    """Four subscribers, one prepaid account and two system accounts; their ids in this order."""
    async with transaction(dsn) as cur:
        people = [NewAccount(f"s{n}") for n in range(4)] + [NewAccount("p0", kind="prepaid")]
        await create_accounts(cur, people)
        await cur.execute("SELECT id FROM accounts ORDER BY id")
        ids = [row[0] for row in await cur.fetchall()]
        return [
            *ids,
            await system_account(cur, "clearing", "x", "RUB"),
            await system_account(cur, "adjustment", "", "RUB"),
        ]


async def read(dsn, query, *values):
    async with transaction(dsn) as cur:
        await cur.execute(query, values)
        return await cur.fetchall()


def transfer(source_id, debit, credit, amount, step="post"):
    return Transfer("manual", source_id, step, debit, credit, Minor(amount), "RUB")


def test_a_transfer_moves_money_and_its_repeat_moves_nothing(database):
    async def story():
        ids = await open_accounts(database.dsn)
        one = transfer(1, ids[6], ids[0], 500)
        for outcome in ("posted", "repeated"):
            async with transaction(database.dsn) as cur:
                posting = await post_transfers(cur, [one])
                assert getattr(posting, outcome) == (one,)
        async with transaction(database.dsn) as cur:
            posting = await post_transfers(cur, [transfer(1, ids[6], ids[0], 501)])
            assert posting.refused[0][1] is TransferRefusal.KEY_WITH_OTHER_CONTENTS
        balances = dict(await read(database.dsn, "SELECT id, balance_minor FROM accounts WHERE balance_minor <> 0"))
        assert balances == {ids[0]: 500, ids[6]: -500}
        async with transaction(database.dsn) as cur:
            assert [line.amount for line in await statement(cur, ids[0], 10)] == [500]
            assert [line.amount for line in await statement(cur, ids[6], 10)] == [-500]

    asyncio.run(story())


def test_every_refusal_has_its_word_and_stops_nobody_else(database):
    async def story():
        ids = await open_accounts(database.dsn)
        async with transaction(database.dsn) as cur:
            await cur.execute("INSERT INTO accounts (number, kind, currency) VALUES ('usd', 'clearing', 'USD')")
            await cur.execute("SELECT id FROM accounts WHERE number = 'usd'")
            dollars = (await cur.fetchone())[0]
            posting = await post_transfers(
                cur,
                [
                    transfer(1, ids[6], ids[0], 0),
                    transfer(2, ids[0], ids[0], 1),
                    transfer(3, ids[6], 10**9, 1),
                    transfer(4, ids[6], dollars, 1),
                    transfer(5, ids[4], ids[6], 1),
                    transfer(6, ids[6], ids[4], 10),
                    transfer(7, ids[4], ids[0], 10),
                    transfer(8, ids[4], ids[0], 1),
                ],
            )
        assert [(t.source_id, why) for t, why in posting.refused] == [
            (1, TransferRefusal.NOT_POSITIVE),
            (2, TransferRefusal.SAME_ACCOUNT),
            (3, TransferRefusal.UNKNOWN_ACCOUNT),
            (4, TransferRefusal.OTHER_CURRENCY),
            (5, TransferRefusal.BELOW_FLOOR),
            (8, TransferRefusal.BELOW_FLOOR),
        ]
        assert [t.source_id for t in posting.posted] == [6, 7]

    asyncio.run(story())


def test_the_database_itself_holds_the_floor(database):
    async def story():
        ids = await open_accounts(database.dsn)
        with pytest.raises(psycopg2.errors.CheckViolation):
            async with transaction(database.dsn) as cur:
                await write_transfers(cur, [transfer(1, ids[4], ids[0], 1)], system_ids=())

    asyncio.run(story())


@pytest.mark.parametrize(
    "verb", ["UPDATE transfers SET amount_minor = 1", "DELETE FROM transfers", "TRUNCATE transfers CASCADE"]
)
def test_neither_the_program_nor_the_owner_can_change_a_transfer(database, verb):
    async def story():
        ids = await open_accounts(database.dsn)
        async with transaction(database.dsn) as cur:
            await post_transfers(cur, [transfer(1, ids[6], ids[0], 5)])
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            await read(database.dsn, verb)
        with pytest.raises(psycopg2.errors.RaiseException, match="append-only"):
            await read(database.owner_dsn, verb)
        assert await read(database.dsn, "SELECT amount_minor FROM transfers") == [(5,)]

    asyncio.run(story())


def test_an_account_opens_empty_and_is_never_deleted(database):
    async def story():
        await open_accounts(database.dsn)
        with pytest.raises(psycopg2.errors.RaiseException, match="opens with balance 0"):
            await read(
                database.owner_dsn, "INSERT INTO accounts (number, kind, balance_minor) VALUES ('x', 'subscriber', 1)"
            )
        with pytest.raises(psycopg2.errors.RaiseException, match="append-only"):
            await read(database.owner_dsn, "DELETE FROM accounts")

    asyncio.run(story())


def test_a_manual_posting_acts_once_a_key_and_says_why_it_may_not(database):
    async def story():
        ids = await open_accounts(database.dsn)
        posting = {"actor": "user:anna", "why": "opening balance", "debit_id": ids[6], "currency": "RUB"}
        for _ in range(2):
            async with transaction(database.dsn) as cur:
                await post_manual(cur, key="open-1", credit_id=ids[0], amount=Minor(700), **posting)
        assert await read(database.dsn, "SELECT balance_minor FROM accounts WHERE id = %s", ids[0]) == [(700,)]
        with pytest.raises(AccountError, match="not positive"):
            async with transaction(database.dsn) as cur:
                await post_manual(cur, key="open-2", credit_id=ids[0], amount=Minor(0), **posting)

    asyncio.run(story())


_BATCH = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 6), st.integers(0, 6), st.integers(-1, 100)), min_size=1, max_size=12
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(_BATCH, min_size=2, max_size=8))
def test_overlapping_batches_conserve_money_and_never_deadlock(database, batches):
    """Keys, accounts and amounts collide in every way; all batches run at once on connections of their own."""

    async def story():
        async with transaction(database.dsn) as cur:
            await cur.execute("SELECT id FROM accounts ORDER BY id")
            ids = [row[0] for row in await cur.fetchall()]
        if not ids:
            ids = await open_accounts(database.dsn)
        async with transaction(database.dsn) as cur:
            await cur.execute("SELECT coalesce(max(source_id), 0) + 1 FROM transfers")
            base = (await cur.fetchone())[0]

        async def run(batch):
            wanted = [transfer(base + key, ids[debit], ids[credit], amount) for key, debit, credit, amount in batch]
            while True:
                try:
                    async with transaction(database.dsn) as cur:
                        return await post_transfers(cur, wanted)
                except psycopg2.errors.UniqueViolation:  # another batch took one of the keys first: look again
                    continue

        postings = await asyncio.gather(*[run(batch) for batch in batches])
        posted = [t for posting in postings for t in posting.posted]
        assert len({t.key for t in posted}) == len(posted)
        sums = await read(
            database.dsn,
            "SELECT a.id, a.balance_minor, coalesce((SELECT sum(amount_minor) FROM transfers WHERE credit_account_id"
            " = a.id), 0) - coalesce((SELECT sum(amount_minor) FROM transfers WHERE debit_account_id = a.id), 0),"
            " a.floor_minor FROM accounts a",
        )
        assert all(balance == moved for _, balance, moved, _ in sums)
        assert sum(balance for _, balance, _, _ in sums) == 0
        assert all(floor is None or balance >= floor for _, balance, _, floor in sums)
        count = await read(database.dsn, "SELECT count(*) FROM transfers WHERE source_id >= %s", base)
        assert count == [(len(posted),)]

    asyncio.run(story())


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(1, 10**15)), max_size=30))
def test_deltas_of_any_transfers_sum_to_zero(moves):
    transfers = [transfer(n, debit, credit, amount) for n, (debit, credit, amount) in enumerate(moves)]
    assert sum(deltas(transfers).values()) == 0


def test_admit_lets_a_later_transfer_spend_what_an_earlier_one_brought():
    accounts = {1: ("RUB", 0, None), 2: ("RUB", 0, 0)}
    posting = admit([transfer(1, 1, 2, 10), transfer(2, 2, 1, 10), transfer(3, 2, 1, 1)], accounts, {})
    assert [t.source_id for t in posting.posted] == [1, 2]
    assert posting.refused[0][1] is TransferRefusal.BELOW_FLOOR
