"""gateway.journal.figures_store: what it counts is what counting the payments one by one gives."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import aiopg

from gateway.journal.figures_store import counts_by_partner, ids_named, sums_by_hour, under_way
from gateway.journal.totals import fold
from tests.gateway.shop import act, open_shop

DAY = datetime(2026, 11, 23, tzinfo=UTC)


@contextlib.asynccontextmanager
async def opened(dsn: str) -> AsyncIterator[Any]:
    async with aiopg.connect(dsn, options="-c timezone=UTC") as connection, connection.cursor() as cur:
        yield cur


async def some_payments(dsn: str) -> None:
    """Payments over a day and more, some refused, some cancelled later."""
    shop = await open_shop(dsn)
    for number in range(30):
        at = DAY + timedelta(minutes=number * 53)
        partner = ("osmp-demo", "cyber-demo")[number % 2]
        account = ("79161234567", "70000000000")[number % 3 == 2]
        await act(dsn, [shop.pay(str(number), account, 100 + number, partner)], at)
        if number % 7 == 0:
            await act(dsn, [shop.cancel(str(number), partner)], at + timedelta(hours=3))


def test_hours_and_partners_are_those_of_the_payments_folded_or_not(database: Any) -> None:
    async def story() -> None:
        await some_payments(database.dsn)
        start, end = DAY + timedelta(hours=2), DAY + timedelta(hours=20)
        async with opened(database.dsn) as cur:
            await cur.execute(
                "SELECT date_trunc('hour', p.created_at), w.code, p.state, p.amount_minor FROM payments p"
                " JOIN partners w ON w.id = p.partner_id WHERE p.created_at >= %s AND p.created_at < %s",
                (start, end),
            )
            rows = await cur.fetchall()
            hours: Counter[datetime] = Counter(row[0].astimezone(UTC) for row in rows if row[2] == "posted")
            money = {
                hour: sum(row[3] for row in rows if row[2] == "posted" and row[0].astimezone(UTC) == hour)
                for hour in hours
            }
            for limit in (0, 7, 1_000):
                if limit:
                    await fold(cur, limit=limit)
                sums = await sums_by_hour(cur, start, end, ["posted"])
                assert [(line.at, line.currency, line.count, line.amount_minor) for line in sums] == [
                    (hour, "RUB", hours[hour], money[hour]) for hour in sorted(hours)
                ]
                counts = await counts_by_partner(cur, start, end)
                assert Counter({(line.code, line.state): line.count for line in counts}) == Counter(
                    (row[1], row[2]) for row in rows
                )

    asyncio.run(story())


def test_under_way_is_what_is_neither_posted_nor_given_back(database: Any) -> None:
    async def story() -> None:
        await some_payments(database.dsn)
        async with opened(database.dsn) as cur, opened(database.owner_dsn) as owner:
            assert await under_way(cur, DAY + timedelta(days=9)) == []
            for state, key in (("held", "3"), ("sent", "4"), ("unknown", "6")):
                await owner.execute("UPDATE payments SET state = %s WHERE partner_key = %s", (state, key))
            [line] = await under_way(cur, DAY + timedelta(minutes=6 * 53))
            assert (line.currency, line.count, line.amount_minor) == ("RUB", 2, 103 + 104)
            assert line.oldest == DAY + timedelta(minutes=3 * 53)

    asyncio.run(story())


def test_a_payment_is_named_by_its_id_and_by_the_key_of_any_partner(database: Any) -> None:
    async def story() -> None:
        await some_payments(database.dsn)
        async with opened(database.dsn) as cur:
            [payment] = await ids_named(cur, None, ["5", "no such"], 10)
            assert await ids_named(cur, payment, [], 10) == [payment]
            assert await ids_named(cur, payment, ["4"], 10) != [payment]
            assert len(await ids_named(cur, None, [str(number) for number in range(30)], 8)) == 8
            assert await ids_named(cur, None, ["5%"], 10) == []

    asyncio.run(story())
