"""A synthetic base of subscribers, made inside PostgreSQL by set-based SQL: what a billing run is measured and hurt on.

It stands the day before its run of `BILL_ON`: everybody has orders of twenty plans (all price models, rhythms, zones,
in advance and in arrears), a month of usage in files as mediation stores them, and the records of the month before.
What was before, another system has billed: those records carry no invoice. Most orders are plain; some begin late, are
on trial, suspended, ended, settled, have a minimum, a code, a quantity or a payer other than themselves. Nothing in it
fails to be billed, and every event belongs to an order.

Rules. The same arguments make the same base, so that two databases can be compared. All tables have the indexes,
constraints and triggers of the migrations, and the program's own role may fill them. The catalogue is loaded by the
command. Whatever is decided about a subscriber is arithmetic of his number, so SQL needs no list.

Does not know: what the run makes of it.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import psycopg2

#: The run this base waits for, and the one its records tell of.
BILL_ON: Final = date(2026, 11, 1)
BILLED_ON: Final = date(2026, 10, 1)

CATALOGUE: Final = "synthetic"
#: As many connections fill it as the smallest machine has cores.
CONNECTIONS: Final = 2
#: Subscribers a statement: what it holds in memory and what is lost when it fails.
CHUNK: Final = 250_000

#: (anchor, zone, in advance, proration), as many of ten as they are of the orders.
RHYTHMS: Final = (
    *[(1, "Europe/Moscow", False, "day")] * 3,
    (1, "Asia/Yekaterinburg", False, "second"),
    (1, "Europe/Kaliningrad", True, "day"),
    (1, "Europe/Moscow", True, "day"),
    (10, "Europe/Moscow", False, "second"),
    (15, "Asia/Vladivostok", True, "second"),
    (25, "Europe/Moscow", False, "none"),
    (31, "Europe/Moscow", False, "day"),
)

#: What a plan charges by use: (item, its steps). Some plans charge by use for nothing.
_STEPS: Final = {
    "voice": (
        "[{per_unit: {price: 1.90, per: 1 min, free: 20 min}}]",
        "[{increments: {first: 1 min, next: 1 min, grace: 3 s}}, {graduated: {per: 1 min, tiers: "
        "[{upto: 60 min, price: 2.00}, {upto: 300 min, price: 1.50}, {price: 1.00}]}}]",
        "[{increments: {first: 1 min, next: 1 s}}, {allowance: {pool: minutes}}, "
        "{per_unit: {price: 2.40, per: 1 min}}]",
        "[{per_unit: {price: 1.20, per: 1 min}}, {minimum_commitment: {minimum: 50.00}}]",
    ),
    "data": (
        "[{package: {price: 15.00, size: 100 MB, free: 1 GB}}]",
        "[{allowance: {quantity: 2 GB}}, {per_unit: {price: 0.09}}, {cap: {maximum: 350.00}}]",
        "[{volume: {tiers: [{upto: 5000, price: 0.07}, {price: 0.05}]}}]",
        "[{allowance: {pool: traffic}}, {package: {price: 9.00, size: 50 MB}}]",
    ),
    "sms": (
        "[{flat: {amount: 1.95, each: event}}]",
        "[{stairstep: {tiers: [{upto: 10, flat: 15.00}, {upto: 100, flat: 70.00}, {flat: 99.00}]}}]",
        "[{per_unit: {price: 2.10, free: 3}}]",
        "[{per_unit: {price: 1.70}}, {discount: {percent: 12.5}}]",
    ),
    "abroad": ("[{rate_card: {card: world}}]",) * 4,
}
_USED: Final = (
    *[("voice", "data"), ("voice", "data", "sms"), ("data", "sms"), ("voice", "abroad")] * 4,
    (),
    (),
    ("voice",),
    (),
)

_CATALOGUE_HEAD: Final = """\
kopeck_catalogue: 1
name: synthetic
currency: RUB
zone: Europe/Moscow
taxes:
  vat:
    rates: [{from: 2019-01-01, percent: 20}, {from: 2026-01-01, percent: 22}]
items:
  fee: {name: Monthly fee, unit: piece, tax: vat}
  service: {name: Service charge, tax: vat, percentage_of: [fee]}
  voice: {name: Calls, unit: s, tax: vat}
  data: {name: Mobile internet, unit: MB, tax: vat}
  sms: {name: Messages, unit: piece, tax: vat}
  abroad: {name: Calls abroad, unit: s, tax: vat}
  setup: {name: Connection, unit: piece, tax: vat, manual: true}
pools:
  minutes: {unit: s}
  traffic: {unit: MB}
rate_cards:
  world:
    unit: s
    defaults: {per: 1 min, first: 1 min, next: 1 min}
    rates:
      - {prefix: "", price: 30.00}
      - {prefix: "7", price: 3.00}
      - {prefix: "7495", price: 1.50, first: 1 s, next: 1 s}
      - {prefix: "971", price: 50.00, fee: 5.00}
promotions:
  - {promotion: autumn, name: Autumn, code: AUTUMN, from: 2026-01-01, items: [fee], percent: 30, periods: 3}
"""


@dataclass(frozen=True, slots=True)
class Slot:
    """What one of the choices an order has means: its terms, and the tiles it has been through (UTC seconds).

    tiles: starts of the tile that was billed, of the one after it, and so on.
    """

    plan: int
    anchor: int
    zone: str
    in_advance: bool
    proration: str
    tiles: tuple[int, ...]

    @property
    def used(self) -> tuple[str, ...]:
        return _USED[self.plan]

    @property
    def current(self) -> int:
        """Start of the tile in which orders of this base begin late, end or pause."""
        return self.tiles[2 if self.in_advance else 1]


@dataclass(frozen=True, slots=True)
class Filled:
    """What a base holds, and ids of its accounts: first_account and those after it."""

    first_account: int
    subscribers: int
    orders: int
    periods: int
    events: int


class BaseError(Exception):
    """The base could not be made; the message says why."""


def catalogue_text() -> str:
    """The catalogue of twenty plans as YAML."""
    plans, prices = ["plans:"], ["prices:"]
    for number, used in enumerate(_USED):
        items = ["fee", *(["service"] if number % 5 == 0 else []), *used]
        grants = " pools: [{pool: minutes, quantity: 60 min}, {pool: traffic, quantity: 3 GB}]," if used else ""
        plans.append(f"  {_plan(number)}: {{name: Plan {number + 1},{grants} items: [{', '.join(items)}]}}")
        rubles, kopecks = divmod(fee_minor(number), 100)
        fee = f"[{{flat: {{amount: {rubles}.{kopecks:02d}}}}}]"
        prices.append(_price("fee", fee, number))
        prices += [_price(item, _STEPS[item][number // 4 % 4], number) for item in used]
    prices += [
        _price("service", "[{percentage: {percent: 1.5, fixed: 3.00}}]"),
        _price("setup", "[{flat: {amount: 990.00}}]"),
    ]
    return _CATALOGUE_HEAD + "\n".join([*plans, *prices]) + "\n"


def fee_minor(plan: int) -> int:
    """What a plan costs a month before anything is used, in minor units."""
    return 100 * (150 + 37 * plan) + plan * 7 % 100


def _plan(number: int) -> str:
    return f"plan{number + 1:02d}"


def _price(item: str, steps: str, plan: int | None = None) -> str:
    narrowed = "" if plan is None else f" plan: {_plan(plan)},"
    return f"  - {{item: {item},{narrowed} versions: [{{from: 2025-01-01, steps: {steps}}}]}}"


def slots() -> list[Slot]:
    """Every choice: those with usage first, so that an account's first order can be one of them."""
    found = [
        Slot(plan, anchor, zone, in_advance, proration, _tiles(anchor, zone))
        for plan in range(len(_USED))
        for anchor, zone, in_advance, proration in RHYTHMS
    ]
    return sorted(found, key=lambda slot: not slot.used)


def _tiles(anchor: int, zone: str) -> tuple[int, ...]:
    """Starts of four monthly tiles; the first is the last that had ended by `BILLED_ON`."""
    first = BILLED_ON.month - (1 if anchor == 1 else 2)
    return tuple(_boundary(2026, first + place, anchor, zone) for place in range(4))


def _boundary(year: int, month: int, anchor: int, zone: str) -> int:
    following = date(year + month // 12, month % 12 + 1, 1)
    day = min(anchor, (following - timedelta(days=1)).day)
    return int(datetime(year, month, day, tzinfo=ZoneInfo(zone)).timestamp())


# ---- SQL. n: a subscriber's number from 0; j: which of his orders; seed: what makes bases different.

#: Foreign keys and the floor of an account's kind hold by construction; looking them up takes half of the time.
_NO_TRIGGERS: Final = """
    SELECT set_config('session_replication_role', 'replica', true)
    WHERE current_setting('is_superuser')::boolean
"""

_ACCOUNTS: Final = """
    WITH made AS (
        INSERT INTO accounts (number, kind, name)
        SELECT 'S' || %(seed)s || '-' || lpad(n::text, 8, '0'), 'subscriber', 'Subscriber ' || n
        FROM generate_series(0, %(subscribers)s - 1) n
        RETURNING id
    )
    SELECT min(id), max(id) FROM made
"""

_CUSTOMERS: Final = """
    WITH made AS (
        INSERT INTO customers (number, name, language)
        SELECT 'C' || %(seed)s || '-' || lpad(n::text, 8, '0'), 'Customer ' || n,
               CASE WHEN n %% 9 = 0 THEN 'en' ELSE 'ru' END
        FROM generate_series(0, %(subscribers)s - 1) n
        RETURNING id
    )
    SELECT min(id), max(id) FROM made
"""

#: Every 25th is the child of the one before him, who pays.
_CHILDREN: Final = """
    UPDATE customers SET parent_id = id - 1
    WHERE id BETWEEN %(first_customer)s AND %(first_customer)s + %(subscribers)s - 1
      AND (id - %(first_customer)s) %% 25 = 24
"""

_BILLING_ACCOUNTS: Final = """
    INSERT INTO billing_accounts (account_id, customer_id, payer_account_id, due_days)
    SELECT %(first_account)s + n, %(first_customer)s + n,
           %(first_account)s + n - (n %% 25 = 24)::int, 10 + n %% 3 * 5
    FROM generate_series(%(low)s, %(high)s) n
"""

_TERMS: Final = """
    INSERT INTO order_terms (catalogue_id, plan, item, currency, kind, interval_unit, interval_count, anchor_day,
                             anchor_month, zone, in_advance, proration)
    SELECT c.id, t.plan, t.item, 'RUB', t.kind, 'month', 1, t.anchor_day, 1, t.zone, t.in_advance, t.proration
    FROM unnest(%(plan)s::text[], %(item)s::text[], %(kind)s::text[], %(anchor_day)s::int[], %(zone)s::text[],
                %(in_advance)s::bool[], %(proration)s::text[])
             AS t (plan, item, kind, anchor_day, zone, in_advance, proration)
    JOIN catalogues c ON c.name = 'synthetic'
    ON CONFLICT DO NOTHING
"""

_TERMS_IDS: Final = """
    SELECT t.id, t.plan, t.anchor_day, t.zone, t.in_advance, t.proration
    FROM order_terms t JOIN catalogues c ON c.id = t.catalogue_id
    WHERE c.name = 'synthetic'
"""

_SLOTS: Final = """
    slots AS (
        SELECT slot - 1 AS slot, terms_id, to_timestamp(billed) AS billed, to_timestamp(following) AS following,
               to_timestamp(later) AS later, to_timestamp(current) AS current, in_advance, used
        FROM unnest(%(terms_id)s::int[], %(billed)s::bigint[], %(following)s::bigint[], %(later)s::bigint[],
                    %(current)s::bigint[], %(in_advance)s::bool[], %(used)s::text[]) WITH ORDINALITY
                 AS s (terms_id, billed, following, later, current, in_advance, used, slot)
    )
"""

#: state: 0 to 2 begins late, 3 and 4 on trial, 5 to 7 ended, 8 settled, 9 one-time; an account's first order is plain.
_ORDERS: Final = f"""
    WITH {_SLOTS}, wanted AS (
        SELECT n, j, n * 31 + j * 17 + %(seed)s AS h,
               CASE WHEN j = 0 THEN (n * 48271 + %(seed)s) %% %(used_slots)s
                    ELSE (n * 69621 + j * 7 + %(seed)s) %% %(slots)s END AS slot,
               CASE WHEN j = 0 THEN 99 ELSE (n * 13 + j * 7 + %(seed)s) %% 100 END AS state
        FROM generate_series(%(low)s::bigint, %(high)s::bigint) n, generate_series(0, %(orders_per)s - 1) j
    )
    INSERT INTO orders (account_id, payer_account_id, terms_id, quantity, starts_at, ends_at, trial_until,
                        minimum_minor, price_minor, codes, settled_at)
    SELECT %(first_account)s + n, %(first_account)s + n - (n %% 25 = 24)::int,
           CASE WHEN state = 9 THEN %(one_time_terms_id)s ELSE terms_id END,
           CASE WHEN h %% 10 = 3 THEN 3 ELSE 1 END,
           CASE WHEN state < 3 OR state = 9 THEN current + interval '9 days 5 hours'
                WHEN state < 5 THEN current ELSE billed END,
           CASE WHEN state BETWEEN 5 AND 7 THEN current + interval '20 days 7 hours'
                WHEN state = 8 THEN following END,
           CASE WHEN state IN (3, 4) THEN current + interval '14 days' END,
           CASE WHEN h %% 25 = 13 AND state <> 9 THEN 60000 ELSE 0 END,
           CASE WHEN state = 9 AND h %% 3 = 0 THEN 49900 END,
           CASE WHEN h %% 20 = 5 THEN ARRAY['AUTUMN'] END,
           CASE WHEN state = 8 THEN %(billed_at)s::timestamptz END
    FROM wanted JOIN slots USING (slot)
"""

_SUSPENSIONS: Final = f"""
    WITH {_SLOTS}, rhythm AS (SELECT DISTINCT terms_id, current FROM slots)
    INSERT INTO order_suspensions (order_id, from_at, until_at, reason, actor)
    SELECT o.id, current + interval '5 days 3 hours',
           CASE WHEN o.account_id %% 2 = 0 THEN current + interval '12 days' END, 'asked', 'system:base'
    FROM orders o JOIN rhythm USING (terms_id)
    WHERE o.account_id BETWEEN %(first_account)s + %(low)s AND %(first_account)s + %(high)s
      AND o.ends_at IS NULL AND o.starts_at < current
      AND ((o.account_id - %(first_account)s) * 7 + o.terms_id * 3 + %(seed)s) %% 100 < 2
"""

#: In arrears the first tile; in advance also the second, and what was used in the first.
_PERIODS: Final = f"""
    WITH {_SLOTS}, rhythm AS (
        SELECT DISTINCT terms_id, billed, following, later, in_advance, used <> '' AS used FROM slots
    )
    INSERT INTO order_periods (order_id, part, period_start, period_end, outcome, active_num, active_den, amount_minor,
                               run_id)
    SELECT o.id, p.part, p.period_start, p.period_end, 'billed', 1, 1, 0, %(run_id)s
    FROM orders o JOIN rhythm USING (terms_id),
         LATERAL (VALUES ('advance', billed, following, in_advance),
                         ('advance', following, later, in_advance AND o.ends_at IS DISTINCT FROM following),
                         ('arrears', billed, following, NOT in_advance OR used OR o.minimum_minor > 0)
                 ) AS p (part, period_start, period_end, is_due)
    WHERE o.account_id BETWEEN %(first_account)s + %(low)s AND %(first_account)s + %(high)s
      AND o.starts_at = billed AND p.is_due
"""

_MANUAL: Final = """
    INSERT INTO manual_lines (key, account_id, payer_account_id, description, amount_minor, tax_ppm, tax_inside,
                              bill_on, actor, why)
    SELECT 'base-' || %(seed)s || '-' || n, %(first_account)s + n, %(first_account)s + n - (n %% 25 = 24)::int,
           'Replacement of a card', CASE WHEN n %% 3 = 0 THEN -5000 ELSE 15000 END, 220000, true,
           %(billed_at)s::timestamptz::date + 7, 'system:base', 'made up'
    FROM generate_series(%(low)s, %(high)s) n
    WHERE n %% 100 = 7
"""

_RUN: Final = """
    INSERT INTO bill_runs (bill_on, kind, actor, started_at)
    VALUES (%(billed_on)s, 'post', 'system:base', %(billed_at)s) RETURNING id
"""

_RUN_DONE: Final = "UPDATE bill_runs SET state = 'done', finished_at = %(billed_at)s WHERE id = %(run_id)s"

_SOURCE: Final = """
    WITH made AS (INSERT INTO usage_sources (name) VALUES ('base') ON CONFLICT (name) DO NOTHING RETURNING id)
    SELECT id FROM made UNION ALL SELECT id FROM usage_sources WHERE name = 'base' LIMIT 1
"""

_IMPORT: Final = """
    INSERT INTO usage_imports (source_id, format_name, format_text, file_name, late, actor, state, lines_count,
                               accepted_count, finished_at)
    VALUES (%(source_id)s, 'base', '', %(file_name)s, 'accept', 'system:base', 'done', %(subscribers)s,
            %(subscribers)s, now())
    RETURNING id
"""

#: A file has an event of everybody, in the order of accounts; the next file has the next, some hours later.
_EVENTS: Final = f"""
    WITH {_SLOTS}, wanted AS MATERIALIZED (
        SELECT nextval('usage_ids') AS id, n, n * 37 + %(file)s * 101 + %(seed)s AS h, following,
               (string_to_array(used, ' '))[1 + %(file)s %% array_length(string_to_array(used, ' '), 1)] AS item
        FROM generate_series(%(low)s::bigint, %(high)s::bigint) n
        JOIN slots ON slot = (n * 48271 + %(seed)s) %% %(used_slots)s
    ), timed AS MATERIALIZED (
        SELECT *, following + make_interval(secs => %(file)s * %(gap_s)s + h %% %(gap_s)s) AS at FROM wanted
    ), keyed AS (
        INSERT INTO usage_keys (source_id, key, usage_id, counts_at)
        SELECT %(source_id)s, lpad((%(file)s)::text, 4, '0') || '-' || lpad(n::text, 9, '0'), id, at FROM timed
    )
    INSERT INTO usage_events (id, account_id, item, at, counts_at, quantity_micro, duration_s, destination, import_id,
                              line)
    SELECT id, %(first_account)s + n, item, at, at,
           CASE item WHEN 'sms' THEN 1 WHEN 'data' THEN 1 + h %% 900 ELSE 1 + h %% 600 END * 1000000,
           CASE WHEN item IN ('voice', 'abroad') THEN 1 + h %% 600 ELSE 0 END,
           CASE item WHEN 'voice' THEN '79161234567'
                     WHEN 'abroad' THEN (ARRAY['79037654321', '74951112233', '971501234567', '4915123456'])[1 + h %% 4]
                     ELSE '' END,
           %(import_id)s, n + 1
    FROM timed
"""

_COUNTS: Final = """
    SELECT (SELECT count(*) FROM orders WHERE account_id BETWEEN %(first_account)s AND %(last_account)s),
           (SELECT count(*) FROM order_periods WHERE run_id = %(run_id)s)
"""


def fill_base(
    dsn: str,
    subscribers: int,
    orders_per: int = 2,
    events_per: int = 10,
    seed: int = 1,
    say: Callable[[str], None] = lambda _: None,
) -> Filled:
    """Fill a migrated database with subscribers, their orders and usage, ready for the run of `BILL_ON`.

    Args:
        dsn: connection string of the program's role, or of a superuser, who is faster; nobody else may open accounts
            meanwhile.
        orders_per: orders of a subscriber, 1 at least.
        events_per: usage events of a subscriber within the month that is due.
        say: told what is being made.

    Raises:
        BaseError: the catalogue was refused, or somebody else opened accounts meanwhile.
    """
    load_catalogue(dsn)
    choices = slots()
    known: dict[str, Any] = {"seed": seed, "subscribers": subscribers, "orders_per": orders_per}
    known |= {"billed_on": BILLED_ON, "billed_at": datetime.combine(BILLED_ON, datetime.min.time(), UTC)}
    known |= _choices(dsn, choices)
    say("accounts and customers")
    known["first_account"], known["first_customer"] = _both(dsn, (_ACCOUNTS, known), (_CUSTOMERS, known))
    known["last_account"] = known["first_account"] + subscribers - 1
    known["run_id"] = _one(dsn, _RUN, known)
    _one(dsn, _CHILDREN, known)
    for what, statement in (
        ("billing accounts", _BILLING_ACCOUNTS),
        ("orders", _ORDERS),
        ("suspensions", _SUSPENSIONS),
        ("periods", _PERIODS),
        ("manual lines", _MANUAL),
    ):
        say(what)
        _in_chunks(dsn, [(statement, known)], subscribers)
    _one(dsn, _RUN_DONE, known)
    _fill_usage(dsn, known, choices, events_per, say)
    orders, periods = _row(dsn, _COUNTS, known)
    return Filled(known["first_account"], subscribers, orders, periods, subscribers * events_per)


def load_catalogue(dsn: str) -> None:
    """Load the catalogue by the command, as an operator does.

    Raises:
        BaseError: it was refused.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KOPECK_")}
    with tempfile.TemporaryDirectory(prefix="kopeck-base-") as folder:
        path = Path(folder) / f"{CATALOGUE}.yaml"
        path.write_text(catalogue_text(), "utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "kopeck", "catalog", "load", str(path)],
            env=environment
            | {"KOPECK_DATABASE__DSN": dsn, "KOPECK_JOURNAL__URI": "embedded", "KOPECK_DATA_DIR": folder},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise BaseError(f"the catalogue was refused: {done.stdout}{done.stderr}")


def _choices(dsn: str, choices: Sequence[Slot]) -> dict[str, Any]:
    """Make the terms of all slots, and say what slots are as columns for SQL."""
    rows = [(_plan(one.plan), "", "recurring", one.anchor, one.zone, one.in_advance, one.proration) for one in choices]
    rows.append(("", "setup", "one_time", 1, "Europe/Moscow", False, "none"))
    names = ("plan", "item", "kind", "anchor_day", "zone", "in_advance", "proration")
    _one(dsn, _TERMS, dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    ids = {tuple(row[1:]): row[0] for row in _rows(dsn, _TERMS_IDS, {})}
    return {
        "terms_id": [ids[_plan(one.plan), one.anchor, one.zone, one.in_advance, one.proration] for one in choices],
        "billed": [one.tiles[0] for one in choices],
        "following": [one.tiles[1] for one in choices],
        "later": [one.tiles[2] for one in choices],
        "current": [one.current for one in choices],
        "in_advance": [one.in_advance for one in choices],
        "used": [" ".join(one.used) for one in choices],
        "slots": len(choices),
        "used_slots": sum(bool(one.used) for one in choices),
        "one_time_terms_id": ids["", 1, "Europe/Moscow", False, "none"],
    }


def _fill_usage(
    dsn: str, known: dict[str, Any], choices: Sequence[Slot], events_per: int, say: Callable[[str], None]
) -> None:
    """Files of usage over the tile that is due, which is 28 days long at least."""
    months = {datetime.fromtimestamp(start, UTC).replace(day=1) for one in choices for start in one.tiles[1:3]}
    for month in sorted(months):
        _one(dsn, "SELECT usage_month(%(month)s)", {"month": month})
    gap_s = 28 * 86_400 // max(1, events_per)
    source_id = _one(dsn, _SOURCE, {})
    for file in range(events_per):
        say(f"usage, file {file + 1} of {events_per}")
        asked = known | {"source_id": source_id, "file": file, "gap_s": gap_s, "file_name": f"base-{file}.csv"}
        asked["import_id"] = _one(dsn, _IMPORT, asked)
        _in_chunks(dsn, [(_EVENTS, asked)], known["subscribers"])


def _rows(dsn: str, statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Run a statement in a transaction of its own."""
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cur:
        cur.execute(_NO_TRIGGERS)
        cur.execute(statement, values)
        return list(cur.fetchall()) if cur.description else []


def _row(dsn: str, statement: str, values: dict[str, Any]) -> tuple[Any, ...]:
    return next(iter(_rows(dsn, statement, values)), (None,))


def _one(dsn: str, statement: str, values: dict[str, Any]) -> Any:
    return _row(dsn, statement, values)[0]


def _both(dsn: str, *statements: tuple[str, dict[str, Any]]) -> list[int]:
    """Run statements that insert `subscribers` rows side by side; returns the first id each of them made."""
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        made = [pool.submit(_row, dsn, *one) for one in statements]
        found = [one.result() for one in made]
    for (_, values), (first, last) in zip(statements, found, strict=True):
        if last - first + 1 != values["subscribers"]:
            raise BaseError("somebody else opened accounts or added customers meanwhile")
    return [first for first, _ in found]


def _in_chunks(dsn: str, statements: Sequence[tuple[str, dict[str, Any]]], subscribers: int) -> None:
    """Run statements for ranges of subscribers, several at a time, each a transaction."""
    size = min(CHUNK, -(-subscribers // CONNECTIONS))
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        made = [
            pool.submit(_rows, dsn, statement, values | {"low": low, "high": min(low + size, subscribers) - 1})
            for low in range(0, subscribers, size)
            for statement, values in statements
        ]
        for one in made:
            one.result()
