"""The arithmetic of the home page: changes against a week ago, hours of a day, how partners' payments ended."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from gateway.journal.figures_store import HourSum, PartnerCount
from gateway.journal.totals import Sum, Totals
from web.console.home import DayTotal, PartnerRate, day_totals, hour_lines, partner_rates

START = datetime(2026, 11, 23, 21, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_days_are_put_together_by_currency() -> None:
    today = Totals(3, (Sum("EUR", "posted", 1, 500), Sum("RUB", "posted", 2, 3_000)))
    before = Totals(4, (Sum("RUB", "posted", 4, 2_000),))
    assert day_totals(today, before) == (DayTotal("EUR", 1, 500, 0, 0), DayTotal("RUB", 2, 3_000, 4, 2_000))


@given(st.integers(0, 10**15), st.integers(1, 10**15))
def test_a_change_is_the_nearest_per_cent_and_turns_with_its_sign(amount: int, before: int) -> None:
    change = DayTotal("RUB", 1, amount, 1, before).change
    assert change is not None
    assert abs(change * before - (amount - before) * 100) * 2 <= before
    assert change >= -100


def test_nothing_a_week_ago_is_no_change() -> None:
    assert DayTotal("RUB", 1, 100, 0, 0).change is None
    assert DayTotal("RUB", 0, 0, 1, 100).change == -100


def test_hours_to_come_have_no_figures() -> None:
    before = START - timedelta(days=7)
    lines = hour_lines(
        START, 24, START + 2 * HOUR, [HourSum(START + HOUR, "RUB", 3, 900)],
        [HourSum(before + 5 * HOUR, "RUB", 1, 100)], before,
    )  # fmt: skip
    assert [line.count for line in lines[:4]] == [0, 3, 0, None]
    assert [line.amount for line in lines[:4]] == [0, 900, 0, None]
    assert [(line.count_before, line.amount_before) for line in lines if line.count_before] == [(1, 100)]
    assert [line.at for line in lines] == [START + number * HOUR for number in range(24)]


def test_partners_by_rate_the_worst_first_and_under_way_decides_nothing() -> None:
    rates = partner_rates(
        [
            PartnerCount("a", "Альфа", "posted", 999), PartnerCount("a", "Альфа", "refused", 1),
            PartnerCount("b", "Бета", "posted", 1), PartnerCount("b", "Бета", "reversed", 1),
            PartnerCount("b", "Бета", "voided", 1), PartnerCount("c", "Вега", "held", 2),
            PartnerCount("c", "Вега", "unknown", 1),
        ]
    )  # fmt: skip
    assert rates == (
        PartnerRate("b", "Бета", 1, 2, 0), PartnerRate("a", "Альфа", 999, 1, 0), PartnerRate("c", "Вега", 0, 0, 3),
    )  # fmt: skip
    assert [rate.rate for rate in rates] == [333, 999, None]
