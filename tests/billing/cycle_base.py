"""A few subscribers for tests of the billing cycle, written straight into a real database.

The catalogue has plan `basic`: `fee` 300.00 a month and `voice` 1.00 a minute, with VAT of 22 % inside, and item
`setup` with an order's own price. Everything is in Moscow's time.
"""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

import psycopg2

from billing import cycle_run
from billing.catalogue_store import Source, catalogue_of, save_version
from billing.cycle_plan import NewRun
from kopeck.transactions import in_transaction

CATALOGUE = b"""\
kopeck_catalogue: 1
name: cycle
currency: RUB
zone: Europe/Moscow
taxes:
  vat:
    rates: [{from: 2019-01-01, percent: 20}, {from: 2026-01-01, percent: 22}]
items:
  fee: {name: Fee, unit: piece, tax: vat}
  voice: {name: Calls, unit: s, tax: vat}
  setup: {name: Connection, unit: piece, tax: vat, manual: true}
plans:
  basic: {name: Basic, items: [fee, voice]}
prices:
  - {item: fee, versions: [{from: 2025-01-01, steps: [{flat: {amount: 300.00}}]}]}
  - {item: fee, group: staff, versions: [{from: 2025-01-01, steps: [{flat: {amount: 100.00}}]}]}
  - {item: voice, versions: [{from: 2025-01-01, steps: [{per_unit: {price: 1.00, per: 1 min}}]}]}
promotions:
  - {promotion: spring, name: Spring, code: SPRING, from: 2025-01-01, items: [fee], percent: 50}
"""

FEBRUARY = date(2026, 2, 1)
MARCH = date(2026, 3, 1)

_TERMS = """
    INSERT INTO order_terms (catalogue_id, plan, item, currency, kind, interval_unit, interval_count, anchor_day,
                             anchor_month, zone, in_advance, proration)
    VALUES (%(catalogue_id)s, %(plan)s, %(item)s, 'RUB', %(kind)s, 'month', 1, 1, 1, 'Europe/Moscow', %(in_advance)s,
            'day')
    ON CONFLICT (catalogue_id, plan, item, currency, kind, interval_unit, interval_count, anchor_day, anchor_month,
                 zone, in_advance, proration, anchor_phase)
    DO UPDATE SET kind = excluded.kind RETURNING id
"""

_ORDER = """
    INSERT INTO orders (account_id, payer_account_id, terms_id, quantity, starts_at, ends_at, minimum_minor,
                        price_minor, codes)
    SELECT account_id, payer_account_id, %(terms_id)s, %(quantity)s, %(starts_at)s, %(ends_at)s, %(minimum_minor)s,
           %(price_minor)s, %(codes)s
    FROM billing_accounts WHERE account_id = %(account_id)s RETURNING id
"""


@dataclass
class Base:
    """A database and short ways to write into it as its owner."""

    dsn: str
    owner: Any
    catalogue_id: int

    def one(self, statement: str, *values: Any) -> Any:
        """The first value of the first row."""
        return self.rows(statement, *values)[0][0]

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self.owner.cursor() as cur:
            cur.execute(statement, values or None)
            return list(cur.fetchall()) if cur.description else []

    @contextmanager
    def without_trigger(self, table: str, trigger: str) -> Iterator[None]:
        """Do what this trigger refuses to everybody."""
        self.rows(f"ALTER TABLE {table} DISABLE TRIGGER {trigger}")
        yield
        self.rows(f"ALTER TABLE {table} ENABLE TRIGGER {trigger}")

    def subscriber(
        self, number: str, *, kind: str = "subscriber", payer: int | None = None, entity: int = 1, group: str = ""
    ) -> int:
        """An account with its customer; returns the account's id."""
        account_id = self.one("INSERT INTO accounts (number, kind) VALUES (%s, %s) RETURNING id", number, kind)
        customer_id = self.one(
            "INSERT INTO customers (number, customer_group) VALUES (%s, %s) RETURNING id", number, group
        )
        self.rows(
            "INSERT INTO billing_accounts (account_id, customer_id, payer_account_id, legal_entity_id) "
            "VALUES (%s, %s, %s, %s)",
            account_id,
            customer_id,
            payer or account_id,
            entity,
        )
        return int(account_id)

    def order(
        self,
        account_id: int,
        *,
        plan: str = "basic",
        item: str = "",
        kind: str = "recurring",
        in_advance: bool = False,
        quantity: int = 1,
        starts_at: str = "2026-01-01T00:00:00+03:00",
        ends_at: str | None = None,
        minimum_minor: int = 0,
        price_minor: int | None = None,
        codes: Sequence[str] | None = None,
    ) -> int:
        """An order; returns its id."""
        values = {
            "catalogue_id": self.catalogue_id,
            "plan": "" if item else plan,
            "item": item,
            "kind": kind,
            "in_advance": in_advance,
            "quantity": quantity,
            "starts_at": starts_at,
            "ends_at": ends_at,
            "minimum_minor": minimum_minor,
            "price_minor": price_minor,
            "codes": list(codes) if codes is not None else None,
            "account_id": account_id,
        }
        with self.owner.cursor() as cur:
            cur.execute(_TERMS, values)
            values["terms_id"] = cur.fetchone()[0]
            cur.execute(_ORDER, values)
            return int(cur.fetchone()[0])

    def call(self, account_id: int, at: str, minutes: int) -> None:
        """A call, as mediation stores it."""
        self.rows("SELECT usage_month(%s)::text", at)
        self.rows(
            "INSERT INTO usage_events (id, account_id, item, at, counts_at, quantity_micro, import_id, line) "
            "VALUES (nextval('usage_ids'), %s, 'voice', %s, %s, %s, 1, 1)",
            account_id,
            at,
            at,
            minutes * 60 * 1_000_000,
        )

    def pay(self, account_id: int, amount_minor: int) -> None:
        """Money from nowhere in particular."""
        bank = self.one(
            "INSERT INTO accounts (number, kind) VALUES ('bank:RUB', 'bank') "
            "ON CONFLICT (number) DO UPDATE SET name = '' RETURNING id"
        )
        key = self.one(
            "INSERT INTO manual_postings (key, actor, why) "
            "VALUES (gen_random_uuid()::text, 'test', 'test') RETURNING id"
        )
        debit, credit = (bank, account_id) if amount_minor > 0 else (account_id, bank)
        self.rows(
            "INSERT INTO transfers (source, source_id, step, debit_account_id, credit_account_id, amount_minor, "
            "currency) VALUES ('manual', %s, 'post', %s, %s, %s, 'RUB')",
            key,
            debit,
            credit,
            abs(amount_minor),
        )
        self.rows("UPDATE accounts SET balance_minor = balance_minor + %s WHERE id = %s", amount_minor, account_id)
        self.rows("UPDATE accounts SET balance_minor = balance_minor - %s WHERE id = %s", amount_minor, bank)

    def balance(self, account_id: int) -> int:
        return int(self.one("SELECT balance_minor FROM accounts WHERE id = %s", account_id))

    def invoices(self) -> list[tuple[str, int, int]]:
        """(full number, account, total) of what is issued, by number."""
        return self.rows(
            "SELECT full_number, account_id, total_minor FROM numbered_invoices WHERE block_state = 'issued' "
            "ORDER BY series_id, number"
        )

    def bill(self, bill_on: date = FEBRUARY, kind: str = "post", shard_payers: int = 1_000) -> cycle_run.Outcome:
        """A run from plan to numbers by one process."""
        run_id = cycle_run.start_run(self.dsn, NewRun(bill_on, kind, "test", shard_payers=shard_payers))
        return cycle_run.go_on(self.dsn, run_id, cycle_run.Crew(1))

    def differences(self) -> list[str]:
        """What does not add up: balances beside transfers, invoices beside lines and transfers, gaps in numbers."""
        return [what for what, statement in _DIFFERENCES.items() if self.rows(statement)]


_DIFFERENCES = {
    "balances": """
        SELECT a.id FROM accounts a LEFT JOIN (
            SELECT id, sum(delta) AS delta FROM (
                SELECT credit_account_id AS id, amount_minor AS delta FROM transfers
                UNION ALL SELECT debit_account_id, -amount_minor FROM transfers) s GROUP BY id) m USING (id)
        WHERE a.balance_minor <> coalesce(m.delta, 0)
    """,
    "lines": """
        SELECT i.id FROM invoices i LEFT JOIN (
            SELECT invoice_id, sum(net_minor) AS net, sum(tax_minor) AS tax FROM invoice_lines GROUP BY 1) l
          ON l.invoice_id = i.id
        WHERE (i.net_minor, i.tax_minor) IS DISTINCT FROM (l.net, l.tax)
    """,
    "transfers": """
        SELECT i.id FROM invoices i JOIN invoice_blocks b ON b.id = i.id >> 20 AND b.state IN ('posted', 'issued')
        LEFT JOIN (SELECT source_id, sum(CASE WHEN d.kind LIKE 'su%' OR d.kind = 'prepaid' THEN amount_minor
                                              ELSE -amount_minor END) AS total
                   FROM transfers t JOIN accounts d ON d.id = t.debit_account_id
                   WHERE source = 'invoice' GROUP BY 1) t ON t.source_id = i.id
        WHERE coalesce(t.total, 0) <> i.total_minor
    """,
    "gaps": """
        SELECT s.id FROM invoice_series s
        LEFT JOIN numbered_invoices n ON n.series_id = s.id AND n.block_state = 'issued'
        GROUP BY s.id HAVING count(DISTINCT n.number) <> s.next_number - 1 OR count(n.id) <> s.next_number - 1
    """,
}


@contextmanager
def cycle_base(dsn: str, owner_dsn: str) -> Iterator[Base]:
    """The catalogue of this module in a migrated database."""
    source = Source("cycle.yaml", {"cycle.yaml": CATALOGUE})

    async def load(cur: Any) -> None:
        await save_version(cur, source, catalogue_of(source), "test")

    in_transaction(dsn, load)
    with closing(psycopg2.connect(owner_dsn)) as owner:
        owner.autocommit = True
        base = Base(dsn, owner, 0)
        base.catalogue_id = base.one("SELECT id FROM catalogues WHERE name = 'cycle'")
        yield base
