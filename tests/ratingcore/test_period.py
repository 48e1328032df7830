"""A subscriber's month from usage to taxed lines, by kernels, found right with a pocket calculator."""

import numpy as np

from ratingcore.bands import DAYS, Rule, calendar_of
from ratingcore.compile import compile_catalogue
from ratingcore.digits import pack_numbers
from ratingcore.lines import add_events, new_sums, round_sums, tax_lines
from ratingcore.money import parse_price_micro
from ratingcore.rate import close_lines, make_events, make_lines, new_accumulators, rate_events
from ratingcore.tariff import (
    Allowance,
    Catalogue,
    Flat,
    Graduated,
    Increments,
    Multiplier,
    Package,
    Price,
    Rate,
    RateCard,
    Tariff,
    Tier,
)

MARCH_S = 1_772_312_400  # 1 March 2026, 00:00 in Moscow
APRIL_S = MARCH_S + 31 * 86_400
HOUR = 3600
MEGABYTE = 1_000_000

NIGHTS = calendar_of("Europe/Moscow", [Rule(DAYS, 0, 480, "night"), Rule(DAYS, 480, 1440, "day")])
#: 500 roubles a month; 300 minutes, then 2.00 a minute up to the hundredth, 1.50 beyond, half at night; 10 GB, then
#: 90.00 for every started GB; roaming by the number called.
FEE = Tariff((Flat(parse_price_micro("500")),))
CALLS = Tariff(
    (
        Increments(60, 60),
        Allowance(300 * 60),
        Graduated((Tier(100 * 60, parse_price_micro("2")), Tier(None, parse_price_micro("1.5"))), per=60),
        Multiplier(500_000, bands=("night",)),
    ),
    NIGHTS,
)
DATA = Tariff((Allowance(10_000 * MEGABYTE), Package(parse_price_micro("90"), 1_000 * MEGABYTE)))
ROAMING = Tariff(
    (
        RateCard(
            (
                Rate("49", parse_price_micro("9"), first=60, next=60),
                Rate("4915", parse_price_micro("12.5"), fee_micro=parse_price_micro("3"), first=1, next=1),
            )
        ),
    )
)


def test_a_month_of_a_mobile_subscriber_comes_to_what_a_pocket_calculator_says() -> None:
    prices = tuple(Price(((MARCH_S, tariff),)) for tariff in (FEE, CALLS, DATA, ROAMING))
    lines = make_lines(compile_catalogue(Catalogue(prices, MARCH_S, APRIL_S)), range(4), [0] * 4)
    memory, sums = new_accumulators(lines), new_sums(4)
    noon, night = MARCH_S + 12 * HOUR, MARCH_S + 86_400 + 2 * HOUR
    usage = [
        # line, start, quantity, duration, number
        (1, noon, 299 * 60 + 1, 299 * 60 + 1, ""),  # 300 started minutes: all free
        (1, noon + 6 * HOUR, 90 * 60, 90 * 60, ""),  # 90 minutes at 2.00: 180.00
        (1, night, 30 * 60, 30 * 60, ""),  # 10 at 2.00 and 20 at 1.50 are 50.00, at night half: 25.00
        (1, MARCH_S + 2 * 86_400 + 8 * HOUR - 120, 240, 240, ""),  # two minutes at night, two by day: 1.50 and 3.00
        (2, noon, 9_999 * MEGABYTE, 0, ""),  # free
        (2, noon, 2 * MEGABYTE, 0, ""),  # 1 MB free, 1 MB starts a GB: 90.00
        (2, noon, 999 * MEGABYTE, 0, ""),  # ends that GB: nothing
        (3, noon, 61, 0, "4930123456"),  # two minutes at 9.00: 18.00
        (3, noon, 30, 0, "4915123456"),  # 3.00 and half of 12.50: 9.25
    ]
    line, time_s, quantity, duration_s, number = zip(*usage, strict=True)
    events = make_events(line, time_s, quantity, duration_s, pack_numbers(number))
    for rated, rows in (
        (rate_events(lines, memory, events), line),
        (close_lines(lines, memory, range(4), APRIL_S - 1), range(4)),
    ):
        assert not rated.reject.any()
        add_events(sums, list(rows), rated.amount_micro, rated.reject)
    rounded = round_sums(sums)
    assert rounded.amount_minor.tolist() == [50_000, 18_000 + 2_500 + 450, 9_000, 1_800 + 925]
    taxed = tax_lines(rounded.amount_minor, np.full(4, 220_000), np.ones(4, np.uint8))
    # 500.00 * 22 / 122 = 90.1639...; 209.50: 37.7786...; 90.00: 16.2295...; 27.25: 4.9139...
    assert taxed.tax_minor.tolist() == [9_016, 3_778, 1_623, 491]
    assert int(taxed.gross_minor.sum()) == 82_675
