from datetime import date
import pytest
from tests.billing.test_cycle_histories import live, run_dates, found_by_verify, with_connection


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_more(database, seed):
    kinds = live(database, 60, seed, run_dates(date(2025, 10, 1), date(2026, 5, 1), seed))
    with with_connection(database.dsn) as c, c.cursor() as cur:
        cur.execute("SELECT part, outcome, count(*), sum(amount_minor) FROM order_periods GROUP BY 1,2 ORDER BY 1")
        print(cur.fetchall())
        cur.execute(
            "SELECT count(*) FROM order_periods p JOIN orders o ON o.id=p.order_id WHERE part='late' and o.settled_at is not null"
        )
        print("settled late", cur.fetchall())
    assert found_by_verify(database.dsn, None) == []
