"""What tests of commands of billing begin with."""

from datetime import timedelta

import pytest

from tests.billing.invoicing.invoice_books import Books, Charge, see_one_day, utc_today


@pytest.fixture(autouse=True)
def one_day() -> None:
    """The day does not change in a test: what it expects is counted from the day it began on."""
    see_one_day()


@pytest.fixture
def books(database) -> Books:
    """Two customers; A1 has an old invoice of two lines and a new one, A2 an old one in English."""
    today = utc_today()
    long_ago = today - timedelta(days=100)
    found = Books(database.dsn)
    found.catalogue()
    first = found.account("A1", name="Ромашка")
    second = found.account("A2", name="Daisy Ltd", language="en")
    order = found.order(first, "2026-01-01 00:00+03")
    lines = [Charge(12_200, order_id=order), Charge(2_440, "data", "usage", order, 1_500)]
    found.invoices(found.run(long_ago), [(first, lines), (second, [Charge(6_100)])], on=long_ago)
    found.invoices(found.run(today), [(first, [Charge(1_220)])], on=today)
    return found
