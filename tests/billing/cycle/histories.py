"""Random histories of customers, lived in the database by plain SQL, as orders and usage would arrive.

A history is the same for the same seed. Between two runs everything happens that may: orders, changes of plan,
suspensions, ends (back-dated too), trials, usage early and late, manual lines, payments, new payers, new versions of
the catalogue with back-dated prices. What staff's commands would refuse does not happen here either: nothing ends or
pauses before the end of the last period billed in arrears.
"""

import random
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg2

from billing.calendar import Interval
from billing.catalogue.model import Catalogue
from billing.catalogue.reader import read_catalogue
from billing.invoicing.credit_notes import CreditRequest
from billing.invoicing.credit_store import credit_invoice
from billing.invoicing.invoices import InvoiceError
from billing.usage.store import UsageError
from billing.usage.voids import Correction, VoidRequest, correct_events, void_events
from kopeck.databases.transactions import in_transaction
from ratingcore.money import Minor
from tests.billing.cycle.judge import NEVER, Book, Manual, Order, Payer, Usage, World

DAY = 86_400
ZONES = ("Europe/Moscow", "Europe/Kaliningrad", "Asia/Vladivostok", "America/New_York")
INTERVALS = (("month", 1),) * 6 + (
    ("day", 1),
    ("day", 10),
    ("week", 1),
    ("week", 2),
    ("month", 2),
    ("quarter", 1),
    ("year", 1),
)
PLANS = ("basic", "talk", "net", "office", "cloud", "world", "shop", "family")
#: Plans all whose percentages are of one sort, so that they may be charged in advance.
IN_ADVANCE = ("basic", "talk", "office", "world", "shop", "family")
#: What is used, how much at most (in millionths of the unit), and the smallest step.
USED = {
    "voice": (900, 1_000_000),
    "sms": (3, 1_000_000),
    "data": (400, 1_000_000),
    "storage": (9_000, 1_000),
    "cpu": (800, 10_000),
    "traffic": (9_000, 1_000),
    "abroad": (400, 1_000_000),
    "turnover": (900_000, 10_000),
    "extra": (4, 1_000_000),
}
USED_BY = {
    "basic": (),
    "talk": ("voice", "sms"),
    "net": ("data", "voice"),
    "office": (),
    "cloud": ("storage", "cpu", "traffic"),
    "world": ("abroad",),
    "shop": ("turnover",),
    "family": ("voice", "sms", "extra"),
    "late": (),
    "": (),
}
CHANGES = {
    "fee": "flat: {amount: %s}",
    "talk": "flat: {amount: %s}",
    "line": "flat: {amount: %s}",
    "voice": "per_unit: {price: %s, per: 1 min}",
    "data": "per_unit: {price: %s}",
    "cpu": "per_unit: {price: %s}",
    "archive": "flat: {amount: %s}",
}
CATALOGUE = Path(__file__).with_name("catalogue.yaml")


def seconds(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def when(time_s: int) -> datetime:
    return datetime.fromtimestamp(time_s, UTC)


@dataclass
class Tariffs:
    """The catalogue and the price changes that were added to it."""

    added: dict[str, list[tuple[date, str]]] = field(default_factory=dict)

    def change(self, dice: random.Random, day: date) -> None:
        """A new price of something, in force a while before or after ``day``."""
        name = dice.choice(sorted(CHANGES))
        since = day + timedelta(days=dice.randint(-70, 40))
        known = self.added.setdefault(name, [])
        if name == "archive":
            since = date(2024, 7, 1)
        if all(at != since for at, _ in known):
            price = f"{dice.randint(1, 400)}.{dice.randint(0, 99):02d}"
            known.append((since, CHANGES[name] % price))

    def text(self) -> str:
        text = CATALOGUE.read_text("utf-8")
        for name, changes in self.added.items():
            rows = [f"- {{from: {since}, steps: [{{{steps}}}]}}" for since, steps in sorted(changes)]
            text = text.replace(f"      # changes of {name}\n", "".join(f"      {row}\n" for row in rows))
        return text

    def read(self) -> Catalogue:
        return read_catalogue(CATALOGUE.name, self.text().encode(), lambda name: (CATALOGUE.parent / name).read_bytes())


@dataclass
class Customer:
    number: str
    customer: int
    account: int
    zone: str
    currency: str
    parent: "Customer | None" = None
    parent_pays: bool = False


@dataclass
class Bought:
    """An order as the history remembers it, to know what may still happen to it."""

    id: int
    owner: Customer
    plan: str
    in_advance: bool
    one_time: bool
    zone: str
    starts: int
    ends: int = NEVER
    pauses: list[tuple[int, int]] = field(default_factory=list)


@dataclass
class UsageFile:
    """The import under way, and what it has stored."""

    id: int
    lines: int = 0
    late: int = 0


class History:
    """Customers and what they do; everything goes through one connection of the program's role.

    minimums: how many orders have one. shifts: days by which usage lies before or after those of its file. ahead: how
    many credit notes prefer lines that are to be adjusted.
    """

    minimums = 0.12
    shifts: tuple[int, ...] = (*(0,) * 12, -40, -3, 2)
    ahead = 0.7

    def __init__(self, dsn: str, customers: int, seed: int) -> None:
        self.dice = random.Random(seed)
        self.chance = random.Random(-seed)  # of credit notes
        self.dsn = dsn
        self.connection = psycopg2.connect(dsn)
        self.cur = self.connection.cursor()
        self.tariffs = Tariffs()
        self.customers: list[Customer] = []
        self.bought: list[Bought] = []
        self.keys = 0
        self.mended = 0
        self.months: set[tuple[int, int]] = set()
        self.catalogue_id = self.source_id = 0
        self.usage: dict[int, list[Usage]] = {}
        self.file = UsageFile(0)
        self._wanted = customers

    def close(self) -> None:
        self.connection.close()

    def row(self, statement: str, *values: Any) -> Any:
        self.cur.execute(statement, values)
        return self.cur.fetchone()

    def do(self, statement: str, *values: Any) -> None:
        self.cur.execute(statement, values)

    # ---- beginning

    def begin(self, day: date) -> None:
        """Customers, some with parents, some prepaid, one in another currency."""
        (self.catalogue_id,) = self.row("SELECT id FROM catalogues WHERE name = 'histories'")
        (self.source_id,) = self.row("INSERT INTO usage_sources (name) VALUES ('sim') RETURNING id")
        for number in range(self._wanted):
            self.customers.append(self._new_customer(number))
        for customer in self.customers:
            for _ in range(self.dice.choice((1, 1, 2, 3))):
                self.buy(customer, seconds(day) + self.dice.randint(-40, 30) * DAY + self.dice.randint(0, DAY - 1))
        self.connection.commit()

    def _new_customer(self, number: int) -> Customer:
        dice = self.dice
        zone = dice.choice(ZONES)
        currency = "USD" if number % 17 == 9 else "RUB"
        name = f"H-{number}"
        group = dice.choice(("", "", "", "vip"))
        (customer,) = self.row(
            "INSERT INTO customers (number, name, customer_group) VALUES (%s, %s, %s) RETURNING id", name, name, group
        )
        kind = "prepaid" if number % 11 == 5 else "subscriber"
        (account,) = self.row(
            "INSERT INTO accounts (number, kind, currency) VALUES (%s, %s, %s) RETURNING id", name, kind, currency
        )
        self.do(
            "INSERT INTO billing_accounts (account_id, customer_id, payer_account_id, zone, due_days)"
            " VALUES (%s, %s, %s, %s, %s)",
            *(account, customer, account, zone, dice.randint(0, 30)),
        )
        made = Customer(name, customer, account, zone, currency)
        parents = [one for one in self.customers if one.parent is None and one.currency == currency]
        if number % 6 == 4 and parents:
            made.parent = dice.choice(parents)
            self.do("UPDATE customers SET parent_id = %s WHERE id = %s", made.parent.customer, customer)
            self.pay_for(made, True)
        return made

    # ---- what happens

    def live(self, since: date, until: date, book: Book) -> None:
        """Everything that happens between two runs."""
        days = max(1, (until - since).days)
        self._import(since, until)
        for customer in self.customers:
            chances = (
                (0.06, self._order),
                (0.05, self._change_plan),
                (0.06, self._suspend),
                (0.35, self._resume),
                (0.07, self._cancel),
                (0.08, self._charge),
                (0.40, self._pay),
                (0.02, self._move),
            )
            for chance, act in chances:
                if self.dice.random() < chance * days / 30:
                    at = seconds(since) + self.dice.randint(0, days * DAY - 1)
                    act(customer, at, book)
        self.connection.commit()
        for _ in range(max(1, len(self.customers) * days // 100)):
            self._credit(until)
        for _ in range(max(1, len(self.customers) * days // 200)):
            self._mend()

    def _order(self, customer: Customer, at: int, _: Book) -> None:
        self.buy(customer, at + self.dice.choice((0, 0, 0, 12, 40, -20, -75)) * DAY)

    def buy(self, customer: Customer, starts: int, plan: str = "", replaces: int | None = None) -> Bought:
        """An order of anything; with a plan an order of that."""
        dice = self.dice
        item, kind = "", "recurring"
        if customer.currency == "USD":
            plan = "basic"
        elif not plan:
            what = dice.random()
            if what < 0.08:
                item, kind = dice.choice(("setup", "visit", "hosting")), "one_time"
            elif what < 0.16:
                item = dice.choice(("hosting", "fee", "line"))
            else:
                plan = "late" if what > 0.985 else dice.choice(PLANS)
        unit, count = dice.choice(INTERVALS)
        anchor_day = dice.randint(1, 31) if unit in ("month", "quarter", "year") else 1
        anchor_day = dice.randint(1, 7) if unit == "week" else anchor_day
        anchor_month = dice.randint(1, 12) if unit in ("quarter", "year") or (unit, count) == ("month", 2) else 1
        phase = dice.randrange(Interval(unit, count).steps)
        in_advance = kind == "recurring" and (plan in IN_ADVANCE or item != "") and dice.random() < 0.6
        zone = dice.choice((customer.zone, dice.choice(ZONES)))
        proration = dice.choice(("none", "day", "second"))
        terms = (self.catalogue_id, plan, item, customer.currency, kind, unit, count, anchor_day, anchor_month, zone)
        price = None
        if item == "hosting" or (item == "setup" and dice.random() < 0.5):
            price = dice.randint(0, 500_000)
        trial = starts + dice.randint(1, 60 * DAY) if kind == "recurring" and dice.random() < 0.15 else None
        minimum = dice.choice((30_000, 77_777)) if kind == "recurring" and dice.random() < self.minimums else 0
        codes = [code for code in ("WELCOME", "GIFT", "FIRST") if dice.random() < 0.12]
        (number,) = self.row(
            "INSERT INTO orders (account_id, payer_account_id, terms_id, quantity, starts_at, trial_until,"
            " minimum_minor, price_minor, codes, replaces_id)"
            " SELECT account_id, payer_account_id, %s, %s, %s, %s, %s, %s, %s, %s FROM billing_accounts"
            " WHERE account_id = %s RETURNING id",
            *(self._terms(*terms, in_advance, proration, phase), dice.choice((1, 1, 1, 2, 7)), when(starts)),
            *(when(trial) if trial else None, minimum, price, codes or None, replaces, customer.account),
        )
        bought = Bought(number, customer, plan, in_advance, kind == "one_time", zone, starts)
        self.bought.append(bought)
        return bought

    def _terms(self, *terms: Any) -> int:
        names = "catalogue_id, plan, item, currency, kind, interval_unit, interval_count, anchor_day, anchor_month,"
        names += " zone, in_advance, proration, anchor_phase"
        marks = ", ".join(["%s"] * len(terms))
        self.do(f"INSERT INTO order_terms ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING", *terms)
        (number,) = self.row(f"SELECT id FROM order_terms WHERE ({names}) = ({marks})", *terms)
        return int(number)

    def _running(self, customer: Customer) -> Bought | None:
        found = [one for one in self.bought if one.owner is customer and not one.one_time and one.ends == NEVER]
        return self.dice.choice(found) if found else None

    def _earliest(self, one: Bought, book: Book) -> int:
        """Before it, nothing of an order may change any more."""
        billed = [record.end for record in book.records.values() if record.order == one.id and record.part == "arrears"]
        paused = [until if until != NEVER else since + 1 for since, until in one.pauses]
        return max(one.starts, *billed, *paused, 0)

    def _end(self, one: Bought, at: int) -> None:
        one.ends = at
        self.do("UPDATE orders SET ends_at = %s WHERE id = %s", when(at), one.id)

    def _change_plan(self, customer: Customer, at: int, book: Book) -> None:
        one = self._running(customer)
        if one is None or not one.plan:
            return
        at = max(at, self._earliest(one, book))
        self._end(one, at)
        self.buy(customer, at, self.dice.choice(PLANS), one.id)

    def _cancel(self, customer: Customer, at: int, book: Book) -> None:
        one = self._running(customer)
        if one is not None:
            at += self.dice.choice((0, 0, 10, 25, -15, -50)) * DAY
            self._end(one, max(at, self._earliest(one, book)))

    def _suspend(self, customer: Customer, at: int, book: Book) -> None:
        one = self._running(customer)
        if one is None or any(until == NEVER for _, until in one.pauses):
            return
        since = max(at - self.dice.choice((0, 0, 9)) * DAY, self._earliest(one, book))
        until = since + self.dice.randint(1, 40 * DAY) if self.dice.random() < 0.4 else NEVER
        self.do(
            "INSERT INTO order_suspensions (order_id, from_at, until_at, reason, actor) VALUES (%s, %s, %s, %s, 'sim')"
            " ON CONFLICT (order_id) WHERE until_at IS NULL DO NOTHING",
            *(one.id, when(since), when(until) if until != NEVER else None, self.dice.choice(("asked", "dunning"))),
        )
        if self.cur.rowcount:  # else its payer's balance suspended it before
            one.pauses.append((since, until))

    def _resume(self, customer: Customer, at: int, book: Book) -> None:
        for one in self.bought:
            if one.owner is customer and one.pauses and one.pauses[-1][1] == NEVER:
                since, _ = one.pauses.pop()
                until = max(at, self._earliest(one, book), since + 1)
                one.pauses.append((since, until))
                self.do(
                    "UPDATE order_suspensions SET until_at = %s"
                    " WHERE order_id = %s AND until_at IS NULL AND reason <> 'balance'",
                    *(when(until), one.id),
                )

    def _charge(self, customer: Customer, at: int, _: Book) -> None:
        self.keys += 1
        self.do(
            "INSERT INTO manual_lines (key, account_id, payer_account_id, description, amount_minor, tax_ppm,"
            " tax_inside, bill_on, actor, why) SELECT %s, account_id, payer_account_id, 'By hand', %s, %s, %s, %s,"
            " 'sim', 'made up' FROM billing_accounts WHERE account_id = %s",
            *(f"m-{self.keys}", self.dice.choice((-4_999, 12_345, 100, 7)), self.dice.choice((0, 100_000, 220_000))),
            *(self.dice.random() < 0.5, when(at + self.dice.randint(-5, 20) * DAY).date(), customer.account),
        )

    def _pay(self, customer: Customer, _at: int, _book: Book) -> None:
        amount = self.dice.randint(1, 300_000)
        self.keys += 1
        (posting,) = self.row(
            "INSERT INTO manual_postings (key, actor, why) VALUES (%s, 'sim', 'a payment') RETURNING id",
            f"p-{self.keys}",
        )
        number = f"bank:{customer.currency}"
        self.do(
            "INSERT INTO accounts (number, kind, currency) VALUES (%s, 'bank', %s) ON CONFLICT DO NOTHING",
            *(number, customer.currency),
        )
        (bank,) = self.row("SELECT id FROM accounts WHERE number = %s", number)
        self.do(
            "INSERT INTO transfers (source, source_id, step, debit_account_id, credit_account_id, amount_minor,"
            " currency) VALUES ('manual', %s, 'payment', %s, %s, %s, %s)",
            *(posting, bank, customer.account, amount, customer.currency),
        )
        for account, change in ((customer.account, amount), (bank, -amount)):
            self.do("UPDATE accounts SET balance_minor = balance_minor + %s WHERE id = %s", change, account)

    def _credit(self, until: date) -> None:
        """A credit note of some of a line or all of it, mostly of one that is to be adjusted or was just now."""
        self.do(
            "SELECT n.full_number, l.line, l.net_minor + l.tax_minor,"
            " t.in_advance AND (coalesce(o.ends_at < l.period_end, false) OR EXISTS ("
            "   SELECT FROM order_suspensions s WHERE s.order_id = o.id AND s.from_at < l.period_end"
            "   AND coalesce(s.until_at, 'infinity') > l.period_start))"
            " FROM numbered_invoices n JOIN invoice_lines l ON l.invoice_id = n.id"
            " JOIN orders o ON o.id = l.order_id JOIN order_terms t ON t.id = o.terms_id"
            " WHERE n.block_state = 'issued' AND n.corrects_id IS NULL AND l.period_end > %s ORDER BY n.id, l.line",
            when(seconds(until) - 20 * DAY),
        )
        every = self.cur.fetchall()
        self.connection.commit()
        found = [one for one in every if one[3]] if self.chance.random() < self.ahead else every
        if not found:
            return
        number, line, gross, _ = self.chance.choice(found)
        self.keys += 1
        some = Minor(self.chance.randint(1, gross)) if gross > 0 and self.chance.random() < 0.6 else None
        wanted = CreditRequest(None if some is None and self.chance.random() < 0.2 else (line,), some)
        key = f"c-{self.keys}"
        with suppress(InvoiceError):  # nothing is left, or not so much
            in_transaction(
                self.dsn, lambda cur: credit_invoice(cur, number, wanted, key=key, actor="sim", why="made up")
            )

    def _mend(self) -> None:
        """Void an event or correct it, mostly one that was left by a run; what is billed is refused."""
        self.do("SELECT usage_id FROM bill_failures WHERE usage_id IS NOT NULL ORDER BY id DESC LIMIT 5")
        failed = [one for (one,) in self.cur.fetchall()]
        self.connection.commit()
        every = [event for events in self.usage.values() for event in events]
        found = [event for event in every if event.id in failed]
        if not found or self.chance.random() < 0.3:
            found = every[-200:]
        if not found:
            return
        event = self.chance.choice(found)
        self.keys += 1
        asked = VoidRequest(f"v-{self.keys}", "made up", "sim")
        micro = (
            event.quantity_micro + 1 if self.chance.random() < 0.1 else event.quantity_micro // 10**6 * 10**6 + 10**6
        )
        correction = Correction(event.id, quantity_micro=micro)
        events = self.usage[event.account]
        with suppress(UsageError):
            if self.chance.random() < 0.5:
                in_transaction(self.dsn, lambda cur: void_events(cur, [event.id], asked))
                events.remove(event)
            else:
                done = in_transaction(self.dsn, lambda cur: correct_events(cur, [correction], asked))
                events.remove(event)
                events.append(replace(event, id=done.replaced[event.id], quantity_micro=micro))
            self.mended += 1

    def _move(self, customer: Customer, _at: int, _book: Book) -> None:
        if customer.parent is not None:
            self.pay_for(customer, not customer.parent_pays)

    def pay_for(self, customer: Customer, parent_pays: bool) -> None:
        """From now on the parent pays for a customer, or he himself does."""
        customer.parent_pays = parent_pays
        assert customer.parent is not None
        payer = customer.parent.account if parent_pays else customer.account
        for statement in (
            "UPDATE billing_accounts SET payer_account_id = %s WHERE account_id = %s",
            "UPDATE orders SET payer_account_id = %s WHERE account_id = %s AND settled_at IS NULL",
            "UPDATE manual_lines SET payer_account_id = %s WHERE account_id = %s AND invoice_id IS NULL",
        ):
            self.do(statement, payer, customer.account)

    def _import(self, since: date, until: date) -> None:
        """A file of everybody's usage."""
        (number,) = self.row(
            "INSERT INTO usage_imports (source_id, format_name, format_text, file_name, late, actor)"
            " VALUES (%s, 'sim', '', %s, 'accept', 'sim') RETURNING id",
            *(self.source_id, f"{until}.csv"),
        )
        self.file = UsageFile(number)
        for customer in self.customers:
            self._use(customer, since, until)
        self.do(
            "UPDATE usage_imports SET state = 'done', lines_count = %s, accepted_count = %s, late_count = %s,"
            " finished_at = now() WHERE id = %s",
            *(self.file.lines, self.file.lines, self.file.late, number),
        )

    def _use(self, customer: Customer, since: date, until: date) -> None:
        """Usage of what the customer's orders measure, some of it late, some of it early."""
        items = sorted(
            {
                item
                for one in self.bought
                if one.owner is customer and one.starts < seconds(until) and one.ends > seconds(since)
                for item in USED_BY[one.plan]
            }
        )
        days = max(1, (until - since).days)
        for _ in range(int(len(items) * days * 0.12 + self.dice.random())):
            at = seconds(since) + self.dice.randint(0, days * DAY - 1)
            at += self.dice.choice(self.shifts) * DAY
            self._used(customer, self.dice.choice(items), at)

    def _used(self, customer: Customer, item: str, at: int) -> None:
        (open_from,) = self.row("SELECT open_from FROM usage_open")
        counts_at = max(at, int(open_from.timestamp())) if open_from else at
        month = (when(counts_at).year, when(counts_at).month)
        if month not in self.months:
            self.do("SELECT usage_month(%s)", when(counts_at))
            self.months.add(month)
        most, step = USED[item]
        quantity = self.dice.randint(1, most) * step + (1 if self.dice.random() < 0.0005 else 0)
        is_call = item in ("voice", "abroad")
        duration = quantity // 1_000_000 if is_call else 0
        numbers = ("79161234567", "74951112233", "971501234567", "4915123456")
        destination = self.dice.choice(numbers) if item == "abroad" else ""
        (number,) = self.row("SELECT nextval('usage_ids')")
        self.file.lines += 1
        self.file.late += counts_at != at
        self.do(
            "INSERT INTO usage_events (id, account_id, item, at, counts_at, quantity_micro, duration_s, destination,"
            " import_id, line) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            *(number, customer.account, item, when(at), when(counts_at), quantity, duration, destination),
            *(self.file.id, self.file.lines),
        )
        self.do(
            "INSERT INTO usage_keys (source_id, key, usage_id, counts_at) VALUES (%s, %s, %s, %s)",
            *(self.source_id, f"u-{number}", number, when(counts_at)),
        )
        event = Usage(number, customer.account, item, at, counts_at, quantity, duration, destination)
        self.usage.setdefault(customer.account, []).append(event)

    # ---- what the judge is told

    def world(self) -> World:
        """Everything as it stands in the database."""
        self.connection.commit()
        return read_world(self.cur, self.usage)


class LateHistory(History):
    """Much usage comes late, to orders that mostly have a minimum, and credit notes are of any line."""

    minimums = 0.7
    shifts = (0, 0, -20, -40)
    ahead = 0.0


def read_world(cur: Any, usage: dict[int, list[Usage]]) -> World:
    """Payers, orders and manual lines of the database."""
    pauses: dict[int, list[tuple[int, int]]] = {}
    cur.execute(f"SELECT order_id, {_s('from_at')}, {_s('until_at')} FROM order_suspensions ORDER BY 1, 2")
    for order, since, until in cur.fetchall():
        pauses.setdefault(order, []).append((since, until))
    cur.execute(
        "SELECT o.id, o.account_id,"
        " CASE WHEN o.settled_at IS NULL THEN o.payer_account_id ELSE b.payer_account_id END, t.plan, t.item,"
        " t.currency, t.kind, t.interval_unit,"
        " t.interval_count, t.anchor_day, t.anchor_month, t.zone, t.in_advance, t.proration, t.anchor_phase,"
        " o.quantity,"
        f" {_s('o.starts_at')}, {_s('o.ends_at')}, coalesce(extract(epoch FROM o.trial_until)::bigint, 0),"
        " o.minimum_minor, o.price_minor, coalesce(o.codes, '{}'), c.customer_group, c.number"
        " FROM orders o JOIN order_terms t ON t.id = o.terms_id JOIN billing_accounts b USING (account_id)"
        " JOIN customers c ON c.id = b.customer_id ORDER BY o.account_id, o.id"
    )
    orders: dict[int, list[Order]] = {}
    for row in cur.fetchall():
        order = Order(*row[:21], tuple(row[21]), *row[22:], tuple(pauses.get(row[0], ())))
        orders.setdefault(order.account, []).append(order)
    cur.execute(
        "SELECT a.id, a.currency, a.balance_minor, a.floor_minor FROM accounts a JOIN billing_accounts b"
        " ON b.account_id = a.id"
    )
    payers = {row[0]: Payer(*row) for row in cur.fetchall()}
    cur.execute(
        "SELECT m.id, m.payer_account_id, m.amount_minor, m.tax_ppm, m.tax_inside, m.bill_on, b.zone"
        " FROM manual_lines m JOIN billing_accounts b ON b.account_id = m.account_id"
    )
    manual = [Manual(*row) for row in cur.fetchall()]
    cur.execute(
        "SELECT l.order_id, l.kind, l.item, extract(epoch FROM l.period_start)::bigint, l.tax_ppm, l.tax_inside,"
        " -sum(c.amount_minor)::bigint"
        " FROM invoice_lines c JOIN invoices n ON n.id = c.invoice_id"
        " JOIN invoice_lines l ON l.invoice_id = n.corrects_id AND l.line = c.line"
        " WHERE c.kind = 'credit' AND l.order_id IS NOT NULL GROUP BY 1, 2, 3, 4, 5, 6"
    )
    credited = {row[:6]: row[6] for row in cur.fetchall()}
    sorted_usage = {account: sorted(rows, key=lambda one: (one.at, one.id)) for account, rows in usage.items()}
    return World(payers, orders, sorted_usage, manual, credited)


def _s(column: str) -> str:
    return f"coalesce(extract(epoch FROM {column})::bigint, {NEVER})"


def with_connection(dsn: str) -> Any:
    return closing(psycopg2.connect(dsn))
