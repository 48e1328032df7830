"""gateway.payment_totals: sums by hour that are the payments' at every instant, whoever folds, repeats or dies."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import aiopg
import psycopg2
import pytest

from gateway.payment_totals import (
    Sum,
    Totals,
    fold,
    payment_hours,
    payment_minutes,
    payment_seconds,
    payment_totals,
    rebuild_totals,
    verify_payment_totals,
)
from tests.gateway.shop import act, open_shop

DAY = datetime(2026, 11, 23, tzinfo=UTC)
NUMBERS = ("79161234567", "79265550102", "70000000000")


@contextlib.asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[Any]:
    async with aiopg.connect(dsn, options="-c timezone=UTC") as connection, connection.cursor() as cur:
        yield cur


async def some_payments(dsn: str, count: int = 40) -> None:
    """Payments over two days, some refused, some cancelled later."""
    shop = await open_shop(dsn)
    for number in range(count):
        at = DAY + timedelta(minutes=number * 67)
        partner = ("osmp-demo", "cyber-demo")[number % 2]
        await act(dsn, [shop.pay(str(number), NUMBERS[number % 3], 100 + number, partner)], at)
        if number % 5 == 0:
            await act(dsn, [shop.cancel(str(number), partner)], at + timedelta(hours=3))


async def counted(cur: Any, start: datetime, end: datetime, states: Sequence[str], partners: Sequence[str]) -> Totals:
    """The judge: the payments themselves."""
    await cur.execute(
        "SELECT p.currency, p.state, count(*), sum(p.amount_minor)::bigint FROM payments p"
        " JOIN partners w ON w.id = p.partner_id WHERE p.created_at >= %s AND p.created_at < %s"
        " AND (%s OR p.state = ANY(%s)) AND (%s OR w.code = ANY(%s)) GROUP BY 1, 2 ORDER BY 1, 2",
        (start, end, not states, list(states), not partners, list(partners)),
    )
    sums = tuple(Sum(*row) for row in await cur.fetchall())
    return Totals(sum(line.count for line in sums), sums)


def told(story: Callable[[], Awaitable[Any]]) -> Any:
    return asyncio.run(story())  # type: ignore[arg-type]


RANGES = [
    (DAY, DAY + timedelta(days=2)),
    (DAY - timedelta(hours=5, minutes=30), DAY + timedelta(hours=18, minutes=30)),  # a day of Asia/Kolkata
    (DAY + timedelta(minutes=5), DAY + timedelta(minutes=50)),  # within one hour
    (DAY + timedelta(minutes=5), DAY + timedelta(hours=1, minutes=50)),
    (DAY - timedelta(days=2), DAY),
]
WANTED: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    ((), ()),
    (("posted",), ()),
    ((), ("osmp-demo",)),
    (("refused", "reversed"), ("cyber-demo", "osmp-demo")),
    (("posted",), ("nobody",)),
]


@pytest.mark.parametrize("folded", ["not folded", "half folded", "folded"])
def test_totals_are_those_of_the_payments_whatever_is_folded(database: Any, folded: str) -> None:
    async def story() -> None:
        await some_payments(database.dsn)
        async with opened(database.dsn) as cur:
            if folded != "not folded":
                assert (await fold(cur, limit=20))[0] == 20
            while folded == "folded" and (await fold(cur, limit=7))[0]:
                pass
            seen = 0
            for start, end in RANGES:
                for states, partners in WANTED:
                    expected = await counted(cur, start, end, states, partners)
                    assert await payment_totals(cur, start, end, states, partners) == expected
                    seen += expected.count
            assert seen > 100

    told(story)


def test_hours_are_counted_from_either_end(database: Any) -> None:
    async def story() -> None:
        await some_payments(database.dsn)
        async with opened(database.dsn) as cur:
            await fold(cur, limit=30)
            end = DAY + timedelta(days=2)
            newest = await payment_hours(cur, DAY, end, True, 1_000)
            oldest = await payment_hours(cur, DAY, end, False, 5, (), ("osmp-demo",))
            await cur.execute(
                "SELECT date_trunc('hour', created_at, 'UTC'), count(*) FROM payments GROUP BY 1 ORDER BY 1 DESC"
            )
            assert newest == [(row[0], row[1]) for row in await cur.fetchall()]
            assert oldest == [(DAY + timedelta(minutes=m) // timedelta(hours=1) * timedelta(hours=1), 1)
                              for m in (0, 134, 268, 402, 536)]  # fmt: skip
            await cur.execute(
                "SELECT date_trunc('minute', created_at), count(*) FROM payments"
                " WHERE created_at >= %s AND created_at < %s GROUP BY 1 ORDER BY 1",
                (DAY, DAY + timedelta(hours=1)),
            )
            judged = await cur.fetchall()
            assert await payment_minutes(cur, DAY) == judged
            await rebuild_totals(cur)
            assert await payment_minutes(cur, DAY) == judged
            assert judged
            minute = judged[0][0]
            assert sum(count for _, count in await payment_seconds(cur, minute)) == judged[0][1]

    told(story)


def test_many_folds_at_once_a_killed_one_and_payments_meanwhile_lose_and_double_nothing(database: Any) -> None:
    async def story() -> None:
        shop = await open_shop(database.dsn)
        stop = asyncio.Event()

        async def folding(seed: int) -> None:
            rolls = random.Random(seed)
            while not stop.is_set():
                async with opened(database.dsn) as cur:
                    await cur.execute("BEGIN")
                    await fold(cur, limit=rolls.randrange(1, 9))
                    if rolls.random() < 0.4:  # killed before it committed
                        await cur.execute("SELECT pg_backend_pid()")
                        continue
                    await cur.execute("COMMIT")

        folders = [asyncio.create_task(folding(seed)) for seed in range(3)]
        for start in range(0, 60, 6):
            at = DAY + timedelta(minutes=start)
            keys = [str(number) for number in range(start, start + 6)]
            await act(database.dsn, [shop.pay(key, "79161234567", 100) for key in keys], at)
            await act(database.dsn, [shop.cancel(key) for key in keys[::2]], at)
            async with opened(database.dsn) as cur:
                await cur.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
                end = DAY + timedelta(days=1)
                assert await payment_totals(cur, DAY, end) == await counted(cur, DAY, end, (), ())
        async with opened(database.dsn) as cur:
            await rebuild_totals(cur)  # beside the folds
        stop.set()
        await asyncio.gather(*folders)
        async with opened(database.dsn) as cur:
            [check] = await verify_payment_totals(cur)
            while (await fold(cur))[0]:
                pass
            [folded] = await verify_payment_totals(cur)
        assert (check.found, folded.found) == (0, 0)
        assert folded.examined > 0

    told(story)


def test_totals_that_were_tampered_with_are_told_and_made_again(database: Any) -> None:
    async def story() -> None:
        await some_payments(database.dsn, 10)
        async with opened(database.dsn) as cur:
            await fold(cur, limit=5)
        with psycopg2.connect(database.admin_dsn) as connection, connection.cursor() as admin:
            admin.execute("UPDATE payment_totals SET payments = payments + 2 WHERE state = 'posted'")
            admin.execute("DELETE FROM payment_total_changes WHERE state = 'refused'")
        async with opened(database.dsn) as cur:
            [before] = await verify_payment_totals(cur)
            await rebuild_totals(cur)
            [after] = await verify_payment_totals(cur)
        assert before.found >= 2
        assert "kopeck journal rebuild" in before.findings[0].what
        assert after.found == 0

    told(story)


def test_a_fold_leaves_what_is_below_its_floor(database: Any) -> None:
    async def story() -> None:
        await some_payments(database.dsn, 3)
        async with opened(database.dsn) as cur:
            await cur.execute("SELECT id FROM payment_total_changes ORDER BY id DESC LIMIT 2")
            [[highest], [below]] = await cur.fetchall()
            assert await fold(cur, floor=highest) == (1, highest)
            assert (await fold(cur, floor=0))[1] == below
            assert await fold(cur) == (0, 0)

    told(story)
