"""What a catalogue file may say, and how it is told off: file, line, what and a hint."""

import re
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.catalogue import nodes as catalogue_yaml
from billing.catalogue.linter import check_catalogue
from billing.catalogue.model import Buyer, find_cycle, plan_grants, plan_items, resolve_price
from billing.catalogue.nodes import CatalogueError, Problem, read_yaml
from billing.catalogue.units import Unit, format_quantity, parse_decimal, parse_instant, parse_quantity
from ratingcore import tariff as core
from tests.billing.catalogue.catalogues import EXAMPLES, HEAD, example, one_price, read

FLAT = "- flat: {amount: 1}"


def refusal(text: str, **files: str) -> str:
    with pytest.raises(CatalogueError) as refused:
        read(text, **files)
    return str(refused.value)


def test_the_example_of_the_documentation_is_read() -> None:
    catalogue = example("mobile.yaml")
    assert list(catalogue.items) == ["fee", "voice", "data", "roaming"]
    assert plan_grants(catalogue, "smart") == {"minutes": 18_000}
    assert len(catalogue.cards["roaming"][0].rates) == 4


def test_prices_are_the_scalars_text_and_never_a_float() -> None:
    resolved = resolve_price(read(one_price("- per_unit: {price: 0.1234567}")), "use", Buyer("RUB"))
    assert resolved.price.versions[0][1].steps == (core.PerUnit(12_345_670),)
    quoted = resolve_price(read(one_price("- per_unit: {price: '0.1234567'}")), "use", Buyer("RUB"))
    assert quoted.price == resolved.price


def test_a_price_is_kept_to_a_millionth_of_a_kopeck_and_refused_beyond() -> None:
    assert "has 9 decimals, at most 8" in refusal(one_price("- per_unit: {price: 0.123456789}"))


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        ("1,50", "write a dot, 1.50"),
        ("1e3", "write all its digits, without an exponent"),
        ("1_000", "write it without separators"),
        ("-1.50", "it may not be negative"),
        (".inf", "is no number"),
        ("0x10", "is no number"),
        ("99999999999999999999999999", "more than 20 digits"),
        ("10000000001", "at most 10,000,000,000.00"),
        ("[1]", "price is one value, not a list"),
        ("", "per_unit needs the field 'price'"),
    ],
)
def test_a_price_that_is_none_is_refused_with_advice(written, advice) -> None:
    said = refusal(one_price(f"- per_unit:\n    price: {written}"))
    assert advice in said
    assert re.match(r"test\.yaml:1[0-9]:[0-9]+: error: ", said)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("just text", "a catalogue has named fields, not a single value"),
        ("- a\n- b", "a catalogue has named fields, not a list"),
        ("a: 1\na: 2", "the key 'a' comes twice"),
        ("a: &x 1\nb: *x", "anchors (&) and aliases (*) are not accepted"),
        ("a: !!python/object:os.system x", "is not accepted"),
        ("a: 1\n---\nb: 2", "a second document"),
        ("a: [1", "not YAML"),
        ("a: 'x", "not YAML"),
        ("\ta: 1", "not YAML"),
        ("a: \x00", "control character"),
        ("a: " + "[" * 100, "nested deeper than 24"),
        ("? [a]\n: 1", "a key is a plain text"),
        ("a: " + "x" * 3000, "a text of 3,000 characters"),
        ("kopeck_catalogue: 2", "kopeck_catalogue is 1"),
        (HEAD.replace("RUB", "JPY"), "not counted in hundredths"),
        (HEAD.replace("RUB", "rub"), "is no currency"),
        (HEAD.replace("Europe/Moscow", "Mars/Olympus"), "no time zone 'Mars/Olympus'"),
        (HEAD, "the catalogue has no price"),
        (HEAD + "pricez: []\n", "did you mean 'prices'?"),
        (HEAD + "items: [a]\n", "items has a named record each"),
    ],
)
def test_a_file_that_is_no_catalogue_is_refused(text, message) -> None:
    assert message in refusal(text)


def test_a_file_in_another_encoding_is_refused_with_its_line() -> None:
    with pytest.raises(CatalogueError, match=r"f\.yaml:2: error: byte 0xcf is no UTF-8"):
        read_yaml("f.yaml", b"a: 1\nb: " + "Плата".encode("cp1251"))


def test_an_alias_bomb_costs_nothing() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
    assert "anchors" in refusal(bomb)


def test_a_file_too_long_and_one_of_too_many_values_are_refused(monkeypatch) -> None:
    with pytest.raises(CatalogueError, match=r"8,000,001 bytes, at most 8,000,000"):
        read_yaml("f.yaml", b" " * 8_000_001)
    monkeypatch.setattr(catalogue_yaml, "MAX_NODES", 1_000)
    with pytest.raises(CatalogueError, match="more than 1,000 values"):
        read_yaml("f.yaml", b"[" + b"1," * 1_001 + b"]")


def test_ten_thousand_tiers_are_refused_and_a_thousand_are_read() -> None:
    def tiers(count: int) -> str:
        lines = "".join(f"      - {{upto: {n}, price: 1}}\n" for n in range(1, count))
        return one_price(f"- graduated:\n    tiers:\n{lines}      - {{price: 1}}")

    assert "10,000 tiers, at most 1,000 are read" in refusal(tiers(10_000))
    assert len(read(tiers(1_000)).prices[0].versions[0].tariff.steps[0].tiers) == 1_000


@pytest.mark.parametrize(
    ("tiers", "message"),
    [
        ("[{upto: 10, price: 1}, {above: 12, price: 2}]", "above 10 s up to 12 s are in no tier, 11 s for one"),
        ("[{upto: 10, price: 1}, {above: 8, price: 2}]", "above 8 s up to 10 s are in two tiers, 9 s for one"),
        ("[{upto: 10, price: 1}, {upto: 10, price: 2}, {price: 1}]", "the tier ends at 10 s, not above 10 s"),
        ("[{upto: 10, price: 1}]", "quantities above 10 s are in no tier, 11 s for one"),
        ("[{price: 1}, {upto: 10, price: 1}]", "a tier after the one without end"),
        ("[{upto: 10}, {price: 1}]", "a tier has a price, a flat, or both"),
        ("[{upto: 10, prise: 1}, {price: 1}]", "no field 'prise' [format]\n    hint: did you mean 'price'?"),
        ("[{upto: 10 GB, price: 1}, {price: 1}]", "the unit here is s; 'GB' is none of: s, min, h"),
        (
            "[{upto: 1.5, price: 1}, {price: 1}]",
            "1.5 is no whole number of steps of 1 s, the finest counted here: a smaller unit, or decimals?",
        ),
        ("[]", "1 to 100000 tiers, not 0"),
    ],
)
def test_tiers_follow_one_another(tiers, message) -> None:
    assert message in refusal(one_price(f"- graduated: {{tiers: {tiers}}}"))


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("- flatt: {amount: 1}", "a step has no field 'flatt'"),
        ("- flat: {amount: 1}\n  cap: {maximum: 1}", "a step is one key"),
        ("- flat: {amount: 1, each: week}", "each is period or event, not 'week'"),
        ("- flat: {amount: 1, bands: [night]}", "confined to bands, but the tariff has no calendar"),
        ("- flat: {ammount: 1}", "flat needs the field 'amount' [format]\n    hint: is 'ammount' meant to be it?"),
        ("- flat: {amount: 1, ammount: 1}", "did you mean 'amount'?"),
        ("- allowance: {pool: minutes}", "there is no pool 'minutes'"),
        ("- allowance: {}", "an allowance has a quantity of its own, or a pool"),
        ("- rate_card: {card: roaming}", "there is no rate card 'roaming'"),
        ("- increments: {first: 60, next: 0}", "next: it is above zero"),
        ("- discount: {percent: 101}", "at most 100 percent"),
        ("- percentage: {percent: 1, minimum: 2, maximum: 1}", "the maximum 1.00 is below the minimum 2.00"),
        ("- flat: 5", "flat has named fields, not a single value"),
        ("- flat: {amount: 1, meter: step 1}", "a meter's name"),
        ("- increments: {first: 1, next: 1}\n- increments: {first: 1, next: 1}", "already counts increments"),
    ],
)
def test_a_step_that_is_none_is_refused(steps, message) -> None:
    assert message in refusal(one_price(steps))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("plans: {p: {items: [user]}}", "there is no item 'user'"),
        ("plans: {p: {items: [use], extends: q}}", "there is no plan 'q'"),
        ("plans: {p: {items: [use, use]}}", "names something twice"),
        ("plans: {p: {extends: q}, q: {extends: r}, r: {extends: p}}", "in a circle: p -> q -> r -> p"),
        ("taxes: {vat: {rates: []}}", "needs rates: in ascending order"),
        ("taxes: {vat: {rates: [{from: 2026-13-01, percent: 1}]}}", "is no date such as 2026-01-31"),
        ("calendars: {c: {bands: [{band: a, days: mon-fri}]}}", "sat 00:00 is in no band"),
        ("calendars: {c: {bands: [{band: a, days: all}, {band: b, days: sun}]}}", "sun 00:00 is in two bands"),
        ("calendars: {c: {bands: [{band: a, days: all, from: 25:00}]}}", "'25:00' is no time of day"),
        ("calendars: {c: {bands: [{band: a, days: fri-mon}]}}", "'fri-mon' is no day"),
        ("promotions: [{promotion: x, from: 2026-01-01}]", "a promotion has one of: percent, amount"),
        ("promotions: [{promotion: x, from: 2026-02-01, until: 2026-01-01, percent: 1}]", "ends before it begins"),
        ("promotions: [{promotion: x, from: 2026-02-01, percent: 101}]", "at most 100 percent"),
        ("promotions: [{promotion: x, from: 2026-02-01, free_units: 1}]", "free units need items: of one unit"),
        ("rate_cards: {c: {unit: s}}", "has rates: or a file: of its own"),
        ("rate_cards: {c: {unit: s, file: ../secret.csv}}", "is the plain name of a file beside"),
        ("rate_cards: {c: {unit: s, file: none.csv}}", "cannot read none.csv: No such file"),
        ("rate_cards: {c: {unit: s, rates: [{prefix: 7, price: 1}, {prefix: 7, price: 2}]}}", "'7' comes twice"),
        ("rate_cards: {c: {unit: s, rates: [{prefix: +7, price: 1}]}}", "is not of digits"),
        ("rate_cards: {c: {unit: s, rates: [{prefix: 7}]}}", "prefix '7' has no price"),
    ],
)
def test_names_and_records_hold_together(more, message) -> None:
    assert message in refusal(one_price(FLAT, more=more))


def test_a_circle_of_percentages_is_refused() -> None:
    text = HEAD + "items: {a: {percentage_of: [b]}, b: {percentage_of: [a]}}\n"
    assert "items are percentages of one another in a circle: a -> b -> a" in refusal(text)


def test_a_circle_of_ten_thousand_plans_is_found_quickly() -> None:
    began = time.process_time()
    cycle = find_cycle({f"p{n}": [f"p{(n + 1) % 10_000}"] for n in range(10_000)})
    assert len(cycle) == 10_001
    assert time.process_time() - began < 60  # quadratic is bearable, exponential would never end


def test_several_mistakes_are_told_at_once_in_order_of_their_lines() -> None:
    said = refusal(one_price("- flat: {amount: x}\n- cap: {maximum: y}", more="plans: {p: {items: [nothing]}}"))
    lines = [int(line) for line in re.findall(r"test\.yaml:(\d+)", said)]
    assert len(lines) >= 3
    assert lines == sorted(lines)


def test_the_same_price_twice_is_refused_with_the_first_ones_line() -> None:
    twice = one_price(FLAT) + "  - item: use\n    versions: [{from: 2026-02-01, steps: [flat: {amount: 1}]}]\n"
    assert "a price of item use, RUB comes twice" in refusal(twice)
    assert "the first stands on line 10" in refusal(twice)


def test_a_rate_card_comes_from_a_file_with_its_own_lines_in_messages() -> None:
    text = one_price("- rate_card: {card: c}", more="rate_cards: {c: {unit: s, file: card.csv}}")
    card = read(text, card_csv="prefix;price;fee\n7;1.50;\n;2;1\n").cards["c"][0]
    assert card.rates == (core.Rate("7", 150_000_000, 1), core.Rate("", 200_000_000, 1, 100_000_000))
    assert "card.csv:3: error: price: '1,5' is no number: write a dot" in refusal(
        text, card_csv="prefix;price\n7;1\n8;1,5\n"
    )
    assert "column 'preis' is not known" in refusal(text, card_csv="prefix,preis\n7,1\n")
    assert "3 cells, and 2 columns" in refusal(text, card_csv="prefix,price\n7,1,1\n")
    assert "card.csv:3: error: not CSV" in refusal(text, card_csv='prefix,price\n7,"1\n')
    assert refusal(text, card_csv="prefix,price\n7,x\n").count("error:") == 1  # what follows from it is not told
    assert "holds no rates" in refusal(text, card_csv="prefix,price\n")


def test_bands_past_midnight_and_lists_of_days() -> None:
    calendar = example("mobile.yaml").calendars["night"][0]
    assert calendar.week[0] == ((0, 0), (420, 1), (1380, 0))


def test_the_most_specific_price_in_force_applies_and_as_below_hands_back() -> None:
    def listed(amount: int, more: str = "", versions: str = "") -> str:
        return (
            f"  - item: use\n{more}    versions:\n      - {{from: 2026-01-01, steps: [flat: {{amount: {amount}}}]}}\n"
            + versions
        )

    catalogue = read(
        HEAD
        + "items: {use: {unit: piece}}\nplans: {base: {items: [use]}, big: {extends: base}}\nprices:\n"
        + listed(1)
        + listed(2, "    plan: base\n")
        + listed(3, "    group: staff\n")
        + listed(4, "    customer: '7'\n", "      - {from: 2026-06-01, as_below: true}\n")
        + listed(5, "    plan: big\n")
    )
    assert plan_items(catalogue, "big") == ("use",)

    def amounts(**who: str) -> list[int]:
        resolved = resolve_price(catalogue, "use", Buyer("RUB", **who))
        return [tariff.steps[0].amount_micro // 10**8 for _, tariff in resolved.price.versions]

    assert amounts() == [1]
    assert amounts(plan="base") == [2]
    assert amounts(plan="big") == [5]
    assert amounts(plan="big", group="staff") == [3]
    assert amounts(plan="base", customer="7") == [4, 2]
    assert resolve_price(catalogue, "use", Buyer("EUR")) is None


def test_a_change_of_the_tax_rate_begins_a_new_version_of_every_price() -> None:
    resolved = resolve_price(example("mobile.yaml"), "fee", Buyer("RUB", "smart"))
    assert [tariff.tax.rate_ppm for _, tariff in resolved.price.versions] == [200_000, 220_000]
    assert resolved.price.versions[1][0] == parse_instant("2026-01-01", "Europe/Moscow")


@given(st.integers(0, 10**15), st.sampled_from(("s", "MB", "piece")), st.integers(0, 6))
def test_quantities_are_printed_so_that_they_are_read_again(steps, name, decimals) -> None:
    unit = Unit(name, decimals)
    assert parse_quantity(format_quantity(steps, unit), unit) == steps


@pytest.mark.parametrize(
    ("text", "unit", "steps"),
    [
        ("300 min", Unit("s"), 18_000),
        ("1.5GB", Unit("MB"), 1_500),
        ("1 GiB", Unit("B"), 2**30),
        ("2", Unit("kWh", 3), 2_000),
    ],
)
def test_units_convert_within_their_family(text, unit, steps) -> None:
    assert parse_quantity(text, unit) == steps


@pytest.mark.parametrize("text", ["1.5 s", "1 day", "min", "", "1 2", "1 min min", "--1"])
def test_what_is_no_whole_number_of_steps_is_refused(text) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_quantity(text, Unit("s"))


def test_a_time_that_clocks_skip_is_refused_and_one_that_comes_twice_is_the_first() -> None:
    with pytest.raises(ValueError, match="never was in Europe/Berlin"):
        parse_instant("2026-03-29T02:30:00", "Europe/Berlin")
    twice = parse_instant("2026-10-25T02:30:00", "Europe/Berlin")
    assert twice == parse_instant("2026-10-25T02:30:00+02:00", "Europe/Berlin")


@pytest.mark.parametrize("text", ["1971-12-31", "2200-01-02", "9999-12-31T23:59:59+00:00", "0001-01-01"])
def test_a_date_beyond_what_bands_can_tell_is_refused(text) -> None:
    with pytest.raises(ValueError, match="outside the years 1972 to 2199"):
        parse_instant(text, "Africa/Monrovia")


def test_decimals_are_exact() -> None:
    assert parse_decimal("0.00000001", 8) == 1
    assert parse_decimal("1.500000000000", 2) == 150


SOURCE = (EXAMPLES / "mobile.yaml").read_text("utf-8")
PIECES = (
    "{",
    "}",
    "[",
    "]",
    ":",
    "-",
    "'",
    "\n",
    " ",
    "&a",
    "*a",
    "!",
    "0",
    "-1",
    "1e9",
    "null",
    "all",
    "night",
    "€",
    "\x07",
)


def problems_of(read_it, *arguments, **files) -> tuple[Problem, ...]:
    try:
        read_it(*arguments, **files)
    except CatalogueError as error:
        return error.problems
    return ()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.integers(0, len(SOURCE)), st.integers(0, 12), st.sampled_from(PIECES)), max_size=4))
def test_any_damage_to_a_file_gives_a_catalogue_or_an_error_with_a_place(edits) -> None:
    text = SOURCE
    for at, cut, piece in edits:
        text = text[:at] + piece + text[at + cut :]

    def read_and_check() -> None:
        check_catalogue(read(text, roaming_csv="prefix,price\n7,1\n"))

    found = problems_of(read_and_check)
    assert all(problem.place.line >= 1 and problem.message for problem in found)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_yaml_or_an_error(data) -> None:
    assert len(problems_of(read_yaml, "f.yaml", data)) <= 1
