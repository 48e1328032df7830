"""What billing cannot rate is rejected by the import, with its line, and nothing else is."""

import io
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.catalogue.store import Source, catalogue_of, save_version
from billing.usage.importer import import_file
from billing.usage.mediation import mediate
from billing.usage.ratable import number_keys, ratable_under, unratable
from billing.usage.values import Known
from ratingcore.digits import pack_number
from ratingcore.reference import longest_prefix
from tests.billing.catalogue.catalogues import HEAD, read
from tests.billing.usage.test_importer import NEW, ask, load, rejects_of, sql, stored
from tests.billing.usage.usage_files import CALLS_HEADER, NOW, UNHURRIED, call, calls

__all__ = ["sql"]

WORLD = (
    HEAD
    + """\
items:
  voice: {unit: s}
  data: {unit: GB, decimals: 3}
  abroad: {unit: s}
  mixed: {unit: s}
  evening: {unit: s}
calendars:
  days:
    bands:
      - {band: day, days: all, from: 08:00, until: 20:00}
      - {band: night, days: all, from: 20:00, until: 08:00}
rate_cards:
  world:
    unit: s
    rates: [{prefix: 7, price: 1}, {prefix: 49, price: 2}, {prefix: 4930, price: 3}, {prefix: 5, price: 1}]
  other: {unit: s, rates: [{prefix: 1, price: 1}]}
plans:
  home: {items: [mixed, abroad]}
prices:
  - {item: voice, versions: [{from: 2026-01-01, steps: [per_unit: {price: 1}]}]}
  - {item: data, versions: [{from: 2026-01-01, steps: [per_unit: {price: 1}]}]}
  - {item: abroad, versions: [{from: 2026-01-01, steps: [rate_card: {card: world}]}]}
  - {item: abroad, plan: home, versions: [{from: 2026-01-01, steps: [rate_card: {card: other}]}]}
  - {item: mixed, versions: [{from: 2026-01-01, steps: [rate_card: {card: other}]}]}
  - {item: mixed, plan: home, versions: [{from: 2026-01-01, steps: [per_unit: {price: 1}]}]}
  - item: evening
    versions:
      - from: 2026-01-01
        calendar: days
        steps: [{rate_card: {card: other, bands: [night]}}, {per_unit: {price: 1, bands: [day]}}]
"""
)
RATABLE = ratable_under([read(WORLD)])


def wrong(item: str, micro: int, to: str = "") -> list[str]:
    """What is wrong with one event."""
    found = unratable(pa.array([item]), np.array([micro], np.int64), pa.array([to]), RATABLE)
    return [name for name in ("broken_step", "no_number", "no_rate") if getattr(found, name)[0]]


@pytest.mark.parametrize(
    ("item", "micro", "to", "expected"),
    [
        ("voice", 60_000_000, "", []),
        ("voice", 60_500_000, "", ["broken_step"]),
        ("data", 1_001_000, "", []),
        ("data", 1_001_500, "", ["broken_step"]),
        ("voice", 1_000_000, "unknown", ["no_number"]),
        ("voice", 1_000_000, "79161234567", []),
        ("abroad", 1_000_000, "79161234567", []),
        ("abroad", 1_000_000, "1800", []),
        ("abroad", 1_000_000, "4", ["no_rate"]),
        ("abroad", 1_000_000, "", ["no_rate"]),
        ("abroad", 1_000_000, "48", ["no_rate"]),
        ("abroad", 1_000_000, "5", []),
        ("abroad", 1_000_000, "+7", ["no_number"]),
        ("mixed", 1_000_000, "33", []),
        ("evening", 1_000_000, "33", []),
        ("nobody's", 1, "unknown", []),
    ],
)
def test_what_no_price_could_take_is_wrong(item: str, micro: int, to: str, expected: list[str]) -> None:
    assert wrong(item, micro, to) == expected


@UNHURRIED
@given(st.lists(st.text("0123456789", min_size=0, max_size=18), max_size=30))
def test_rates_are_missing_where_the_judge_finds_none(numbers: list[str]) -> None:
    cards = [step for one in read(WORLD).prices if one.item == "abroad" for step in one.versions[0].tariff.steps]
    rates = [rate for card in cards for rate in card.rates]
    item, called = pa.array(["abroad"] * len(numbers), pa.string()), pa.array(numbers, pa.string())
    found = unratable(item, np.zeros(len(numbers), np.int64), called, RATABLE)
    assert found.no_rate.tolist() == [longest_prefix(rates, number) is None for number in numbers]
    keys = number_keys(pa.array(numbers, pa.string()), np.arange(len(numbers)))
    assert keys is None or keys.tolist() == [pack_number(number) for number in numbers]


def test_a_slice_of_a_column_is_read_from_its_own_place() -> None:
    column = pa.array(["7", "4", "5", "48"]).slice(1, 2)
    found = unratable(pa.array(["abroad"] * 2), np.zeros(2, np.int64), column, RATABLE)
    assert found.no_rate.tolist() == [True, False]


def test_a_line_is_rejected_with_its_reason() -> None:
    data = CALLS_HEADER + call(1, minutes="60") + call(2, minutes="60,5") + call(3, minutes="60").replace("+7 495", "x")
    (part,) = mediate(io.BytesIO(data.encode()), calls(), "accept", Known(int(NOW.timestamp()), ratable=RATABLE))
    assert [(one.line, one.reason, one.detail) for one in part.rejects] == [
        (3, "quantity_step", "the quantity is in no whole steps of item 'voice'"),
        (4, "destination_number", "the destination 'x1112233' is no number of digits"),
    ]


def save(database: Any, text: str) -> None:
    source = Source("test.yaml", {"test.yaml": text.encode()})
    stored(database, lambda cur: save_version(cur, source, catalogue_of(source), "test"))


def test_an_import_asks_the_catalogues_in_force(database, sql) -> None:
    save(database, WORLD)
    only_abroad = WORLD.replace("  voice: {unit: s}\n", "  voice: {unit: s, decimals: 1}\n").replace(
        "name: test", "name: two"
    )
    outcome = load(database, call(1, minutes="60"), call(2, minutes="60,5"))
    assert rejects_of(database, outcome.import_id) == [(3, "quantity_step")]
    save(database, only_abroad)  # another catalogue counts tenths: now it could be rated
    assert load(database, call(3, minutes="60"), call(4, minutes="60,5")).counts.rejected == 0
    made = calls()
    abroad = CALLS_HEADER + call(5, minutes="1").replace("+7 495", "33") + call(6, minutes="1")
    made = msgspec.structs.replace(made, item=msgspec.structs.replace(made.item, map={"1": "abroad"}))
    outcome = import_file(database.dsn, io.BytesIO(abroad.encode()), made, NEW, now=lambda: NOW)
    assert rejects_of(database, outcome.import_id) == [(2, "no_rate")]
    assert ask(sql, "SELECT count(*) FROM usage_events WHERE item = 'abroad'") == [(1,)]
