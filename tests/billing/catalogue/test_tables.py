"""A catalogue's prices in the compiled kernel: the same micro as the judge, and one row for all who pay the same."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.catalogue.model import Buyer, resolve_price
from billing.catalogue.tables import NO_ROW, is_recurring, steps_of_micro
from billing.catalogue.units import Unit, parse_instant
from billing.charging.prices import PriceRows
from ratingcore import reference
from ratingcore import tariff as core
from ratingcore.compile import Compiled, compile_catalogue
from ratingcore.digits import pack_numbers
from ratingcore.rate import make_events, make_lines, new_accumulators, rate_events
from tests.billing.catalogue.catalogues import HEAD, example, read

MOBILE = example("mobile.yaml")
ITEMS = ("fee", "voice", "data", "roaming")
START_S = parse_instant("2025-12-20", "Europe/Moscow")


def test_buyers_who_pay_the_same_share_a_row_and_others_do_not() -> None:
    price = "versions: [{from: 2026-01-01, steps: [flat: {amount: %s}]}]"
    catalogue = read(
        f"{HEAD}items: {{use: {{unit: piece}}}}\nplans: {{p: {{items: [use]}}}}\nprices:\n"
        f"  - {{item: use, {price % 1}}}\n  - {{item: use, customer: '7', {price % 2}}}\n"
        f"  - {{item: use, group: staff, {price % 3}}}\n"
    )
    buyers = [Buyer("RUB", customer=str(number)) for number in range(1_000)]
    extra = [Buyer("RUB", "p"), Buyer("RUB", group="staff"), Buyer("RUB", group="guests"), Buyer("EUR")]
    rows = PriceRows({1: catalogue})
    assert {rows.row_of(1, "use", buyer) for buyer in buyers} == {0, 1}
    assert [rows.row_of(1, "use", buyer) for buyer in extra] == [0, 2, 0, NO_ROW]
    assert len(rows.rows) == len(rows.books[1].prices) == 3


NUMBERS = st.sampled_from(("7", "9715", "1", ""))
USE = st.tuples(st.integers(0, 3), st.integers(0, 30 * 86_400), st.integers(0, 40_000), NUMBERS)
USES = st.lists(USE, min_size=1, max_size=20)


def prices_of_items() -> core.Catalogue:
    prices = [resolve_price(MOBILE, item, Buyer("RUB", "smart")).price for item in ITEMS]
    return core.Catalogue(tuple(prices), MOBILE.start_s, MOBILE.end_s, tuple(MOBILE.pools))


@pytest.fixture(scope="module")
def compiled() -> Compiled:
    return compile_catalogue(prices_of_items())


@settings(max_examples=50, deadline=None)
@given(USES)
def test_the_kernel_rates_a_catalogue_of_yaml_as_the_judge_does(compiled, uses) -> None:
    ordered = sorted(uses, key=lambda use: use[1])
    events = [reference.Event(at, START_S + s, quantity, quantity, number) for at, s, quantity, number in ordered]
    judged, _ = reference.rate_events(
        prices_of_items(),
        [reference.Line(0, row) for row in range(len(ITEMS))],
        reference.State({}, {(0, "minutes"): 18_000}),
        events,
    )
    lines = make_lines(compiled, np.arange(len(ITEMS), dtype=np.int32), np.zeros(len(ITEMS), np.int32))
    columns = make_events(
        np.array([one.line for one in events]),
        np.array([one.time_s for one in events]),
        np.array([one.quantity for one in events]),
        np.array([one.duration_s for one in events]),
        pack_numbers([one.destination for one in events]),
    )
    rated = rate_events(lines, new_accumulators(lines, np.array([[18_000]])), columns)
    assert rated.amount_micro.tolist() == [one.amount_micro for one in judged]
    assert rated.reject.tolist() == [one.reject for one in judged]


@given(st.integers(0, 10**18), st.integers(0, 6))
def test_millionths_of_a_unit_become_steps_exactly_or_not_at_all(steps, decimals) -> None:
    unit = Unit("GB", decimals)
    micro = steps * 10 ** (6 - decimals)
    assert steps_of_micro(micro, unit) == steps
    if decimals < 6:
        with pytest.raises(ValueError, match="no whole number of steps"):
            steps_of_micro(micro + 1, unit)


MIXED = read(
    HEAD
    + """\
items:
  fee: {unit: piece}
  call: {unit: s}
  each: {unit: piece}
  later: {unit: piece}
  care: {percentage_of: [fee, gone]}
  levy: {percentage_of: [fee, call]}
  top: {percentage_of: [care]}
  gone: {unit: piece}
prices:
  - item: fee
    versions:
      - from: 2026-01-01
        steps: [flat: {amount: 1}, discount: {percent: 10}, cap: {maximum: 5}, minimum_commitment: {minimum: 1}]
  - {item: call, versions: [{from: 2026-01-01, steps: [per_unit: {price: 1}]}]}
  - {item: each, versions: [{from: 2026-01-01, steps: [flat: {amount: 1, each: event}]}]}
  - item: later
    versions: [{from: 2026-01-01, steps: [flat: {amount: 1}]}, {from: 2026-02-01, steps: [per_unit: {price: 1}]}]
  - {item: care, versions: [{from: 2026-01-01, steps: [percentage: {percent: 1}]}]}
  - {item: levy, versions: [{from: 2026-01-01, steps: [percentage: {percent: 1}]}]}
  - {item: top, versions: [{from: 2026-01-01, steps: [percentage: {percent: 1}]}]}
"""
)


@pytest.mark.parametrize(
    ("item", "others", "expected"),
    [
        ("fee", (), True),
        ("call", (), False),
        ("each", (), False),
        ("later", (), False),
        ("gone", (), False),
        ("care", ("fee",), True),
        ("care", ("fee", "gone"), False),
        ("care", (), True),
        ("levy", ("fee", "call"), False),
        ("levy", ("fee",), True),
        ("top", ("care", "fee"), True),
    ],
)
def test_an_item_is_recurring_when_its_price_reads_no_quantity(item, others, expected) -> None:
    resolved = {one: resolve_price(MIXED, one, Buyer("RUB")) for one in (item, *others)}
    assert is_recurring(MIXED, item, resolved) is expected
