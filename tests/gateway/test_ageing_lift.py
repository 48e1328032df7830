"""A partner's payment lifts ageing in its own transaction, through the same path as every payment."""

import asyncio
from datetime import UTC, datetime, timedelta

import aiopg

from billing.ageing import run_chunk
from tests.billing.invoice_books import Books, Charge
from tests.gateway.shop import act, open_shop

TODAY = datetime.now(UTC).date()
NUMBER = "79161234567"


async def aged(dsn: str) -> None:
    async with aiopg.connect(dsn) as connection, connection.cursor() as cur:
        await cur.execute("BEGIN")
        await run_chunk(cur, 0, None, "t")
        await cur.execute("COMMIT")


def test_a_partners_payment_resumes_orders_once_nothing_is_overdue(database) -> None:
    shop = asyncio.run(open_shop(database.dsn))
    books = Books(database.dsn)
    books.catalogue()
    account = books.one("SELECT id FROM accounts WHERE number = %s", NUMBER)
    customer = books.one("INSERT INTO customers (number) VALUES ('C1') RETURNING id")
    books.ask("INSERT INTO billing_accounts (account_id, customer_id, payer_account_id) VALUES (%s, %s, %s)",
              account, customer, account)  # fmt: skip
    books.order(account, "2026-01-01 00:00+03")
    on = TODAY - timedelta(days=40)
    books.invoices(books.run(on), [(account, [Charge(10_000)])], on=on)
    books.ask("UPDATE ageing_settings SET days_between = 0")
    asyncio.run(aged(database.dsn))
    still = "SELECT count(*) FROM order_suspensions WHERE until_at IS NULL"
    assert books.one(still) == 1

    asyncio.run(act(database.dsn, [shop.pay("1", NUMBER, 4_000)]))
    assert books.one(still) == 1
    asyncio.run(act(database.dsn, [shop.pay("2", NUMBER, 6_000)]))
    assert books.balance(account) == 0
    assert books.one(still) == 0
    assert books.one("SELECT action FROM ageing_events ORDER BY id DESC LIMIT 1") == "lifted"
