"""A shop for tests of customers and orders: a catalogue that has every case of what can be ordered, loaded."""

from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any

import psycopg2

from billing.catalogue_store import Source, save_version
from billing.customers import NewCustomer, add_customer
from kopeck.transactions import in_transaction
from tests.billing.catalogues import HEAD, read

CATALOGUE = (
    HEAD
    + """\
valid: {from: 2025-01-01, until: 2030-01-01}
items:
  fee: {unit: piece}
  calls: {unit: s}
  fund: {percentage_of: [fee, calls]}
  club: {unit: piece}
  setup: {unit: piece}
  work: {unit: piece, manual: true}
plans:
  basic: {items: [fee, calls]}
  plus: {items: [fee, calls], extends: basic}
  mixed: {items: [fee, calls, fund]}
  dear: {items: [club]}
prices:
  - {item: fee, versions: [{from: 2025-01-01, steps: [flat: {amount: 300.00}]}]}
  - {item: fee, plan: plus, versions: [{from: 2025-01-01, steps: [flat: {amount: 500.00}]}]}
  - {item: calls, versions: [{from: 2025-01-01, steps: [per_unit: {price: 0.02}]}]}
  - {item: fund, versions: [{from: 2025-01-01, steps: [percentage: {percent: 1}]}]}
  - {item: club, group: vip, versions: [{from: 2026-06-01, steps: [flat: {amount: 900.00}]}]}
  - {item: setup, versions: [{from: 2025-01-01, steps: [flat: {amount: 100.00}]}]}
promotions:
  - {promotion: half, code: HALF, from: 2025-01-01, percent: 50}
"""
)


def act(database: Any, work: Callable[[Any], Awaitable[Any]]) -> Any:
    """Run in one transaction of the program."""
    return in_transaction(database.dsn, work)


def open_shop(database: Any) -> None:
    """Load the catalogue and add customers ann, ben (vip) and eve (in USD)."""

    async def work(cur: Any) -> None:
        text = CATALOGUE.encode()
        await save_version(cur, Source("test.yaml", {"test.yaml": text}), read(CATALOGUE), "test")
        await add_customer(cur, NewCustomer("ann"))
        await add_customer(cur, NewCustomer("ben", group="vip"))
        await add_customer(cur, NewCustomer("eve", currency="USD"))

    act(database, work)


def rows(database: Any, query: str, *values: Any) -> list[tuple[Any, ...]]:
    """What the database says."""
    with closing(psycopg2.connect(database.dsn)) as connection, connection.cursor() as cur:
        cur.execute(query, values)
        return cur.fetchall()


def bill(database: Any, number: str, part: str, start: str, end: str) -> None:
    """Write down that a period of an order is billed, as a run does."""
    with closing(psycopg2.connect(database.dsn)) as connection, connection, connection.cursor() as cur:
        cur.execute(
            "INSERT INTO bill_runs (bill_on, kind, actor) VALUES (%s, 'post', 'test') RETURNING id",
            (end[:10],),
        )
        (run_id,) = cur.fetchone()
        cur.execute(
            "INSERT INTO order_periods (order_id, part, period_start, period_end, outcome, reason, active_num, "
            "active_den, amount_minor, run_id) SELECT id, %s, %s::timestamptz, %s::timestamptz, 'billed', '', 1, 1, "
            "30000, %s FROM orders WHERE number = %s",
            (part, f"{start}+03", f"{end}+03", run_id, number),
        )
        cur.execute("UPDATE bill_runs SET state = 'done', finished_at = now() WHERE id = %s", (run_id,))
