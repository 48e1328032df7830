"""billing.verification.lines: how many lines the judge is given."""

from collections.abc import Iterator

import pytest

from billing.verification.lines import check_explained
from kopeck.databases.transactions import in_transaction
from tests.billing.cycle.base import Base, cycle_base

SUBSCRIBERS = 7


@pytest.fixture
def base(database) -> Iterator[Base]:
    with cycle_base(database.dsn, database.owner_dsn) as made:
        for number in range(SUBSCRIBERS):
            account = made.subscriber(f"S{number}")
            made.order(account)
            made.order(account)
        made.bill()
        yield made


@pytest.mark.parametrize(
    ("sample", "examined"), [(None, 2 * SUBSCRIBERS), (1_000, 2 * SUBSCRIBERS), (2 * SUBSCRIBERS, 2 * SUBSCRIBERS)]
)
def test_every_line_is_judged_where_there_are_no_more_than_asked_for(base: Base, sample, examined) -> None:
    check = in_transaction(base.dsn, lambda cur: check_explained(cur, sample))
    assert (check.examined, check.findings) == (examined, ())


def test_a_sample_has_no_more_lines_than_asked_for_and_one_of_an_invoice(base: Base) -> None:
    check = in_transaction(base.dsn, lambda cur: check_explained(cur, 2))
    assert check.examined in (1, 2)  # one where all draws hit the same invoice
    assert in_transaction(base.dsn, lambda cur: check_explained(cur, 0)).examined == 0
