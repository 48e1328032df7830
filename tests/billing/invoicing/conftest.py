"""What every test of invoicing begins with."""

import pytest

from tests.billing.invoicing.invoice_books import see_one_day


@pytest.fixture(autouse=True)
def one_day() -> None:
    """The day does not change in a test: what it expects is counted from the day it began on."""
    see_one_day()
