"""The synthetic base is what its docstring says: complete, consistent, the same each time."""

from contextlib import closing
from itertools import pairwise

import psycopg2
import pytest

from loadtests.base import BILL_ON, CATALOGUE, RHYTHMS, fill_base, slots

SUBSCRIBERS = 400

_UNOWNED = """
    SELECT count(*) FROM usage_events e
    WHERE NOT EXISTS (
        SELECT FROM orders o
        JOIN order_terms t ON t.id = o.terms_id
        JOIN catalogue_plans p ON p.number = t.plan
        WHERE o.account_id = e.account_id AND e.item = ANY (p.items)
          AND e.counts_at >= o.starts_at AND e.counts_at < coalesce(o.ends_at, 'infinity')
    )
"""

_BROKEN_ROWS = """
    SELECT count(*) FROM order_periods a
    JOIN order_periods b ON b.order_id = a.order_id AND b.part = a.part AND b.period_start > a.period_start
    WHERE b.period_start < a.period_end
"""

_ALL = """
    SELECT md5(string_agg(one, ' ' ORDER BY one)) FROM (
        SELECT (a.number, t.plan, o.quantity, o.starts_at, o.ends_at, o.trial_until, o.minimum_minor, o.codes,
                (SELECT string_agg(p.part || p.period_start, ',' ORDER BY p.part, p.period_start)
                 FROM order_periods p WHERE p.order_id = o.id),
                (SELECT string_agg(s.from_at || ' ' || coalesce(s.until_at::text, ''), ',')
                 FROM order_suspensions s WHERE s.order_id = o.id))::text AS one
        FROM orders o JOIN order_terms t ON t.id = o.terms_id JOIN accounts a ON a.id = o.account_id
        UNION ALL
        SELECT (a.number, e.item, e.at, e.quantity_micro, e.duration_s, e.destination)::text
        FROM usage_events e JOIN accounts a ON a.id = e.account_id
    ) AS every
"""


def ask(dsn, query):
    with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cur:
        cur.execute(query)
        return cur.fetchone()


@pytest.fixture
def filled(database):
    return fill_base(database.dsn, SUBSCRIBERS, 3, 5)


def test_a_base_holds_what_was_asked_for(database, filled):
    assert (filled.subscribers, filled.orders, filled.events) == (SUBSCRIBERS, 3 * SUBSCRIBERS, 5 * SUBSCRIBERS)
    assert ask(database.dsn, "SELECT count(*) FROM usage_keys") == (filled.events,)
    assert ask(database.dsn, "SELECT count(*), min(account_id) FROM billing_accounts") == (
        SUBSCRIBERS,
        filled.first_account,
    )
    assert ask(database.dsn, f"SELECT count(*) FROM catalogue_plans, catalogues WHERE name = '{CATALOGUE}'") == (20,)


def test_orders_of_a_base_are_in_every_state(database, filled):
    query = """
        SELECT count(ends_at), count(trial_until), count(settled_at), count(codes), count(price_minor),
               count(*) FILTER (WHERE minimum_minor > 0), count(*) FILTER (WHERE payer_account_id <> account_id),
               (SELECT count(*) FROM order_suspensions), (SELECT count(*) FROM manual_lines)
        FROM orders
    """
    assert all(count > 0 for count in ask(database.dsn, query))


def test_every_event_of_a_base_belongs_to_an_order(database, filled):
    assert ask(database.dsn, "SELECT count(*) FROM usage_events") == (filled.events,)
    assert ask(database.dsn, _UNOWNED) == (0,)


def test_periods_of_a_base_follow_one_another(database, filled):
    assert filled.periods > SUBSCRIBERS
    assert ask(database.dsn, _BROKEN_ROWS) == (0,)
    for slot in slots():
        assert all(before < after for before, after in pairwise(slot.periods))
    assert len(RHYTHMS) == 10
    assert BILL_ON.day == 1


def test_the_same_arguments_make_the_same_base(database, pg, filled):
    first = ask(database.dsn, _ALL)
    with closing(psycopg2.connect(database.admin_dsn)) as connection:
        connection.autocommit = True
        with connection.cursor() as cur:
            cur.execute("SET session_replication_role = 'replica'")
            for table in ("order_periods", "usage_events", "usage_keys", "order_suspensions", "manual_lines", "orders"):
                cur.execute(f"DELETE FROM {table}")
            cur.execute("ALTER TABLE accounts DISABLE TRIGGER USER")
            cur.execute("DELETE FROM billing_accounts")
            cur.execute("DELETE FROM customers")
            cur.execute("DELETE FROM accounts")
            cur.execute("ALTER TABLE accounts ENABLE TRIGGER USER")
    again = fill_base(database.admin_dsn, SUBSCRIBERS, 3, 5)
    assert again.first_account > filled.first_account
    assert ask(database.dsn, _ALL) == first
