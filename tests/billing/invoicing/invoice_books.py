"""Invoices for tests, written into the database as a billing run writes them, but by hand and one at a time."""

import asyncio
import itertools
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import aiopg
import psycopg2
from psycopg2.extras import Json

from billing.catalogue.store import Source, catalogue_of, save_version
from ratingcore import reference
from ratingcore import tariff as core
from ratingcore.money import Minor

_keys = itertools.count(1)

CATALOGUE = """\
kopeck_catalogue: 1
name: test
currency: RUB
zone: Europe/Moscow
valid: {from: 2020-01-01, until: 2040-01-01}
taxes:
  vat: {name: VAT, rates: [{from: 2019-01-01, percent: 20}, {from: 2026-01-01, percent: 22}]}
  export: {name: Export, rates: [{from: 2019-01-01, percent: 0}]}
items:
  fee: {name: {ru: Абонентская плата, en: Monthly fee}, unit: piece, tax: vat}
  data: {name: {ru: Мобильный интернет, en: Mobile internet}, unit: GB, decimals: 3, tax: vat}
  setup: {name: {ru: Подключение, en: Connection}, unit: piece, tax: vat}
  roaming: {name: {ru: Роуминг, en: Roaming}, unit: piece, tax: export}
  licence: {name: {ru: Лицензия, en: Licence}, unit: piece}
plans:
  home: {name: {ru: Домашний 100, en: Home 100}, items: [fee, data]}
  abroad: {name: {ru: За границей, en: Abroad}, items: [licence, roaming]}
  software: {name: {ru: Программы, en: Software}, items: [licence]}
prices:
  - {item: fee, versions: [{from: 2020-01-01, tax: inside, steps: [flat: {amount: 490.00}]}]}
  - {item: data, versions: [{from: 2020-01-01, tax: inside, steps: [per_unit: {price: 100.00}]}]}
  - {item: setup, versions: [{from: 2020-01-01, tax: inside, steps: [flat: {amount: 50.00}]}]}
  - {item: roaming, versions: [{from: 2020-01-01, tax: inside, steps: [flat: {amount: 90.00}]}]}
  - {item: licence, versions: [{from: 2020-01-01, tax: inside, steps: [flat: {amount: 70.00}]}]}
"""


#: No test of these rooms takes longer.
LONGEST_TEST_S = 30.0


def utc_today() -> date:
    """The day it is now. `see_one_day` before a test keeps it the same through the test."""
    return datetime.now(UTC).date()


def see_one_day() -> None:
    """Wait for the next day where midnight is so near that a test could run over it."""
    now = datetime.now(UTC)
    left_s = (datetime.combine(now.date() + timedelta(days=1), datetime.min.time(), UTC) - now).total_seconds()
    if left_s < LONGEST_TEST_S:
        time.sleep(left_s + 0.01)


@dataclass(frozen=True)
class Charge:
    """A line to be. amount: before tax on top; quantity: in steps of the item."""

    amount: int
    item: str = "fee"
    kind: str = "recurring"
    order_id: int | None = None
    quantity: int = 1
    discount: int = 0
    tax_ppm: int = 220_000
    inside: bool = True
    start: datetime = datetime(2026, 9, 30, 21, tzinfo=UTC)
    end: datetime = datetime(2026, 10, 31, 21, tzinfo=UTC)
    manual_line_id: int | None = None

    @property
    def net_tax(self) -> tuple[int, int]:
        net, tax, _ = reference.tax_of(Minor(self.amount), core.Tax(self.tax_ppm, self.inside))
        return net, tax


@dataclass
class Books:
    """A connection to a test's database, as the program's role, and what was put in it.

    admin_dsn: the superuser's, for periods of runs that are done, which nobody else may write.
    """

    dsn: str
    version_id: int = 0
    catalogue_id: int = 0
    terms: dict[tuple[Any, ...], int] = field(default_factory=dict)
    admin_dsn: str = ""

    def ask(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with closing(psycopg2.connect(self.dsn)) as connection, connection, connection.cursor() as cur:
            cur.execute(statement, values or None)
            return cur.fetchall() if cur.description else []

    def forge(self, statement: str, *values: Any) -> None:
        """Do what triggers refuse to everybody, as the superuser where the books know him."""
        with (
            closing(psycopg2.connect(self.admin_dsn or self.dsn)) as connection,
            connection,
            connection.cursor() as cur,
        ):
            if self.admin_dsn:
                cur.execute("SET session_replication_role = replica")
            cur.execute(statement, values or None)

    def one(self, statement: str, *values: Any) -> Any:
        return self.ask(statement, *values)[0][0]

    def catalogue(self) -> None:
        """Items fee and data in plan home, and setup, loaded as ``kopeck catalog load`` does."""

        async def load() -> int:
            async with aiopg.connect(self.dsn) as connection, connection.cursor() as cur:
                await cur.execute("BEGIN")
                source = Source("test.yaml", {"test.yaml": CATALOGUE.encode()})
                version, _ = await save_version(cur, source, catalogue_of(source), "t")
                await cur.execute("COMMIT")
                return version.id

        self.version_id = asyncio.run(load())
        self.catalogue_id = self.one("SELECT catalogue_id FROM catalogue_versions WHERE id = %s", self.version_id)

    def account(
        self,
        number: str,
        *,
        name: str = "",
        group: str = "",
        language: str = "ru",
        zone: str = "Europe/Moscow",
        **known: Any,
    ) -> int:
        """A customer with an account of the same number. known: contacts, details."""
        account = self.one("INSERT INTO accounts (number, kind) VALUES (%s, 'subscriber') RETURNING id", number)
        customer = self.one(
            "INSERT INTO customers (number, name, customer_group, language, contacts, details)"
            " VALUES (%s, %s, %s, %s, %s, %s) RETURNING id",
            number, name or f"Customer {number}", group, language, Json(known.get("contacts", {})),
            Json(known.get("details", {})),
        )  # fmt: skip
        self.ask(
            "INSERT INTO billing_accounts (account_id, customer_id, payer_account_id, zone) VALUES (%s, %s, %s, %s)",
            account, customer, account, zone,
        )  # fmt: skip
        return int(account)

    def order(
        self, account: int, starts: str, *, plan: str = "home", item: str = "", in_advance: bool = False,
        proration: str = "day", ends: str | None = None, payer: int | None = None, anchor: int = 1,
        kind: str = "recurring",
    ) -> int:  # fmt: skip
        key = (plan, item, kind, anchor, in_advance, proration)
        if key not in self.terms:
            self.terms[key] = self.one(
                "INSERT INTO order_terms (catalogue_id, plan, item, currency, kind, interval_unit, interval_count,"
                " anchor_day, anchor_month, zone, in_advance, proration)"
                " VALUES (%s, %s, %s, 'RUB', %s, 'month', 1, %s, 1, 'Europe/Moscow', %s, %s) RETURNING id",
                self.catalogue_id, plan, item, *key[2:],
            )  # fmt: skip
        return int(
            self.one(
                "INSERT INTO orders (account_id, payer_account_id, terms_id, starts_at, ends_at, created_at)"
                " VALUES (%s, %s, %s, %s, %s, '2020-01-01') RETURNING id",
                account, payer or account, self.terms[key], starts, ends,
            )
        )  # fmt: skip

    def period(
        self, order: int, part: str, start: str, end: str, *, run: int, invoice: int | None = None, **more: Any
    ) -> None:
        """A record of a period; waived unless there is an invoice. more: amount, num, den, reason."""
        self.forge(
            "INSERT INTO order_periods VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            order, part, start, end, "billed" if invoice else "waived",
            more.get("reason", "" if invoice else "nothing_to_bill"), more.get("num", 1), more.get("den", 1),
            more.get("amount", 0), invoice, run,
        )  # fmt: skip

    def run(self, bill_on: date, state: str = "done") -> int:
        kind = "post" if state in ("done", "running") else "review"
        steps = {"running": (), "approving": ("reviewed", "approving")}.get(state, (state,))
        with closing(psycopg2.connect(self.dsn)) as connection, connection, connection.cursor() as cur:
            cur.execute(
                "INSERT INTO bill_runs (bill_on, kind, actor) VALUES (%s, %s, 't') RETURNING id", (bill_on, kind)
            )
            (run,) = cur.fetchone()
            for step in steps:
                finished = "now()" if step in ("done", "void") else "NULL"
                cur.execute(f"UPDATE bill_runs SET state = %s, finished_at = {finished} WHERE id = %s", (step, run))
        if self.catalogue_id:
            self.ask("INSERT INTO bill_run_catalogues VALUES (%s, %s, %s)", run, self.catalogue_id, self.version_id)
        return int(run)

    def invoices(
        self,
        run: int,
        bills: Sequence[tuple[int, Sequence[Charge]]],
        *,
        on: date,
        due_days: int = 14,
        state: str = "issued",
    ) -> list[int]:
        """A block with an invoice of each (account, lines); posted unless it is a draft."""
        shard = self.one("SELECT count(*) FROM bill_shards WHERE run_id = %s", run)
        self.ask(
            "INSERT INTO bill_shards (run_id, shard_no, first_account_id, last_account_id) VALUES (%s, %s, %s, %s)",
            run, shard, min(one for one, _ in bills), max(one for one, _ in bills),
        )  # fmt: skip
        self.ask(
            "UPDATE bill_shards SET state = %s, invoices_count = %s, lines_count = %s"
            " WHERE run_id = %s AND shard_no = %s",
            "drafted" if state == "draft" else "posted", len(bills), sum(len(lines) for _, lines in bills), run, shard,
        )  # fmt: skip
        number = self.one("SELECT next_number FROM invoice_series WHERE id = 1") if state == "issued" else None
        with closing(psycopg2.connect(self.dsn)) as connection, connection, connection.cursor() as cur:
            cur.execute(
                "INSERT INTO invoice_blocks (series_id, run_id, shard_no, invoices_count, state, first_number,"
                " issued_at) VALUES (1, %s, %s, %s, %s, %s, CASE WHEN %s THEN now() END) RETURNING id",
                (run, shard, len(bills), state, number, state == "issued"),
            )
            (block,) = cur.fetchone()
            ids = [(block << 20) + place for place in range(len(bills))]
            for one, (account, lines) in zip(ids, bills, strict=True):
                _invoice(cur, one, account, lines, on, on + timedelta(days=due_days))
        if number:
            self.ask("UPDATE invoice_series SET next_number = next_number + %s WHERE id = 1", len(bills))
        for one, (account, lines) in zip(ids, bills, strict=True):
            for place, step in enumerate(("revenue", "tax")):
                amount = sum(line.net_tax[place] for line in lines)
                if state != "draft" and amount:
                    self.transfer("invoice", one, step, account, self.system(step), amount)
        self.ask(
            "INSERT INTO bill_shard_totals SELECT %s, %s, currency, sum(net_minor), sum(tax_minor), sum(total_minor)"
            " FROM invoices WHERE id >> 20 = %s GROUP BY currency",
            run, shard, block,
        )  # fmt: skip
        return ids

    def system(self, kind: str) -> int:
        number = f"{kind}:RUB"
        self.ask("INSERT INTO accounts (number, kind) VALUES (%s, %s) ON CONFLICT DO NOTHING", number, kind)
        return int(self.one("SELECT id FROM accounts WHERE number = %s", number))

    def pay(self, account: int, amount: int) -> int:
        """Money from a person's posting (as the ledger sees it, like a payment); returns the transfer."""
        key = f"pay-{next(_keys)}"
        posting = self.one("INSERT INTO manual_postings (key, actor, why) VALUES (%s, 't', 'pays') RETURNING id", key)
        return self.transfer("manual", posting, "post", self.system("adjustment"), account, amount)

    def transfer(self, source: str, source_id: int, step: str, debit: int, credit: int, amount: int) -> int:
        if amount < 0:
            debit, credit, amount = credit, debit, -amount
        made = self.one(
            "INSERT INTO transfers (source, source_id, step, debit_account_id, credit_account_id, amount_minor,"
            " currency) VALUES (%s, %s, %s, %s, %s, %s, 'RUB') RETURNING id",
            source, source_id, step, debit, credit, amount,
        )  # fmt: skip
        self.ask(
            "UPDATE accounts SET balance_minor = balance_minor + CASE id WHEN %s THEN -%s ELSE %s END"
            " WHERE id IN (%s, %s)",
            debit, amount, amount, debit, credit,
        )  # fmt: skip
        return int(made)

    def direct(self, transfer: int, invoice: int, amount: int) -> None:
        self.ask(
            "INSERT INTO payment_allocations (transfer_id, invoice_id, amount_minor, actor) VALUES (%s, %s, %s, 't')",
            transfer, invoice, amount,
        )  # fmt: skip

    def balance(self, account: int) -> int:
        return int(self.one("SELECT balance_minor FROM accounts WHERE id = %s", account))


def _invoice(cur: Any, id_: int, account: int, lines: Sequence[Charge], on: date, due: date) -> None:
    """An invoice with its lines, in the transaction of its block."""
    net, tax = (sum(line.net_tax[place] for line in lines) for place in (0, 1))
    cur.execute(
        "INSERT INTO invoices VALUES (%s, %s, 'RUB', %s, %s, %s, %s, %s, NULL)",
        (id_, account, on, due, net, tax, net + tax),
    )
    for number, line in enumerate(lines, 1):
        cur.execute(
            "INSERT INTO invoice_lines VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            (id_, number, line.kind, line.order_id, line.manual_line_id, line.item, line.start, line.end,
             line.quantity, line.discount, line.amount, line.tax_ppm, line.inside, *line.net_tax),
        )  # fmt: skip
