"""The linter: one catalogue per finding, and the example it gives, which is the judge's word."""

from billing.catalogue.linter import check_catalogue
from billing.catalogue.nodes import Problem, Severity
from tests.billing.catalogue.catalogues import HEAD, example, one_price, read

PLAIN = "items: {use: {unit: s}}\n"


def findings(text: str, **files: str) -> dict[str, Problem]:
    found = check_catalogue(read(text, **files))
    return {one.code: one for one in found}


def test_a_sound_catalogue_has_no_findings() -> None:
    assert findings(one_price("- per_unit: {price: 1}")) == {}


def test_every_finding_carries_an_example_and_a_place() -> None:
    found = check_catalogue(example("mobile.yaml"))
    assert [one.code for one in found] == ["prefix-missing"]
    assert found[0].example == "a call to 1..."
    assert str(found[0]).startswith("mobile.yaml:46:5: warning: ")


def test_a_volume_price_by_which_more_costs_less_is_warned_of() -> None:
    one = findings(one_price("- volume: {tiers: [{upto: 1000, price: 2}, {price: 1.50}]}"))["total-falls"]
    assert one.severity == Severity.WARNING
    assert one.example == "1000 s cost 2000.00, 1001 s cost 1501.50"
    assert one.place.line == 15


def test_a_stairstep_that_falls_is_warned_of_and_one_that_rises_is_not() -> None:
    falls = one_price("- stairstep: {tiers: [{upto: 10, flat: 5}, {flat: 4}]}")
    rises = one_price("- stairstep: {tiers: [{upto: 10, flat: 5}, {flat: 6}]}")
    assert findings(falls)["total-falls"].example == "10 s cost 5.00, 11 s cost 4.00"
    assert findings(rises) == {}


def test_graduated_prices_never_fall_however_cheap_the_last_tier() -> None:
    assert findings(one_price("- graduated: {tiers: [{upto: 10, price: 5}, {price: 0}]}")) == {}


def test_a_tier_above_the_cap_is_unreachable() -> None:
    steps = "- graduated: {tiers: [{upto: 10, price: 5}, {upto: 20, price: 4}, {price: 3}]}\n- cap: {maximum: 50}"
    one = findings(one_price(steps))["tier-unreachable"]
    assert "tier 2 is never paid, the cap 50.00 comes first" in one.message
    assert one.example == "10 s cost 50.00 before the cap"
    assert findings(one_price(steps.replace("maximum: 50", "maximum: 90.01"))) == {}


def test_a_tier_that_increments_step_over_is_unreachable() -> None:
    steps = (
        "- increments: {first: 60, next: 60}\n"
        "- stairstep: {each: event, tiers: [{upto: 60, flat: 1}, {upto: 90, flat: 2}, {flat: 3}]}"
    )
    one = findings(one_price(steps))["tier-unreachable"]
    assert "no event ends in tier 2" in one.message
    assert one.example == "an event of 61 s counts as 120 s"


CLOCK = """\
calendars:
  c:
    bands:
      - {band: day, days: all, from: 08:00, until: 20:00}
      - {band: night, days: all, from: 20:00, until: 08:00}
"""


def test_a_band_without_a_charging_step_is_warned_of_with_an_hour() -> None:
    steps = "- per_unit: {price: 1, bands: [day]}"
    one = findings(one_price(steps, version="calendar: c", more=CLOCK))["band-free"]
    assert one.example == "1 s on Thu 2026-01-01 00:00 cost 0.00"
    both = steps + "\n- per_unit: {price: 0, bands: [night]}"
    assert findings(one_price(both, version="calendar: c", more=CLOCK)) == {}


def test_a_prefix_that_ten_longer_ones_cover_is_unreachable() -> None:
    rates = ", ".join(f"{{prefix: '7{digit}', price: 1}}" for digit in range(10))
    more = f"rate_cards: {{c: {{unit: s, rates: [{{prefix: '7', price: 1}}, {rates}, {{prefix: '', price: 1}}]}}}}"
    one = findings(one_price("- rate_card: {card: c}", more=more))["prefix-unreachable"]
    assert "prefix '7' is never the longest, for longer ones cover every number" in one.message
    assert one.example == "a call to 700000000000000 is rated by prefix '70'"


def test_numbers_without_a_rate_are_warned_of_with_one() -> None:
    rates = ", ".join(f"{{prefix: '{digit}', price: 1}}" for digit in "023456789")
    more = f"rate_cards: {{c: {{unit: s, rates: [{rates}, {{prefix: '12', price: 1}}]}}}}"
    assert findings(one_price("- rate_card: {card: c}", more=more))["prefix-missing"].example == "a call to 11..."


def test_an_item_of_a_plan_without_a_price_is_an_error() -> None:
    text = (
        HEAD
        + "items: {use: {unit: s}, sms: {unit: piece}}\nplans: {p: {items: [use, sms]}}\n"
        + ("prices: [{item: use, plan: p, versions: [{from: 2026-01-01, steps: [flat: {amount: 1}]}]}]\n")
    )
    one = findings(text)["price-missing"]
    assert one.severity == Severity.ERROR
    assert one.message == "item sms has no price in RUB for plan p, currency RUB"
    assert one.example == "sms used on 2026-01-01, plan p, currency RUB"
    assert findings(text.replace("sms: {unit: piece}", "sms: {unit: piece, manual: true}")) == {}


def test_a_currency_in_which_only_part_of_a_plan_has_prices_is_an_error() -> None:
    def price(item: str, currency: str) -> str:
        versions = "[{from: 2026-01-01, steps: [flat: {amount: 1}]}]"
        return f"  - {{item: {item}, plan: p, currency: {currency}, versions: {versions}}}\n"

    text = HEAD + "items: {a: {unit: s}, b: {unit: s}}\nplans: {p: {items: [a, b]}}\nprices:\n"
    whole = text + price("a", "RUB") + price("b", "RUB") + price("a", "EUR")
    assert findings(whole)["price-missing"].message == "item b has no price in EUR for plan p, currency EUR"
    assert findings(whole + price("b", "EUR")) == {}


def test_a_price_that_begins_after_its_plan_and_one_handed_back_to_nobody_are_errors() -> None:
    late = (
        HEAD
        + "items: {a: {unit: s}, b: {unit: s}}\nplans: {p: {items: [a, b]}}\nprices:\n"
        + (
            "  - {item: a, plan: p, versions: [{from: 2026-01-01, steps: [flat: {amount: 1}]}]}\n"
            "  - {item: b, plan: p, versions: [{from: 2026-02-01, steps: [flat: {amount: 1}]}]}\n"
        )
    )
    assert findings(late)["price-missing"].example == "b used on 2026-01-01, plan p, currency RUB"
    handed = (
        HEAD
        + PLAIN
        + "prices:\n"
        + (
            "  - item: use\n    group: staff\n    versions:\n      - {from: 2026-01-01, steps: [flat: {amount: 1}]}\n"
            "      - {from: 2026-03-01, as_below: true}\n"
        )
    )
    assert findings(handed)["price-missing"].example == "use used on 2026-03-01, group staff, currency RUB"


def test_a_tax_class_without_a_rate_on_the_day_is_an_error() -> None:
    more = "taxes: {vat: {rates: [{from: 2026-02-01, percent: 22}]}}"
    one = findings(one_price("- flat: {amount: 1}", item="tax: vat", more=more))["tax-missing"]
    assert one.severity == Severity.ERROR
    assert one.example == "use used on 2026-01-01"


def test_prices_whose_meters_disagree_are_an_error() -> None:
    text = (
        HEAD
        + PLAIN
        + "prices:\n"
        + (
            "  - {item: use, versions: [{from: 2026-01-01, steps: [per_unit: {price: 1, meter: m}]}]}\n"
            "  - item: use\n    group: staff\n    versions:\n"
            "      - {from: 2026-02-01, steps: [per_unit: {price: 1, meter: m, each: event}]}\n"
        )
    )
    assert "counts by event in one version and by period in another" in findings(text)["meter-conflict"].message


def test_a_sum_that_can_drive_a_line_below_zero_is_warned_of_unless_it_is_kept_above() -> None:
    def promoted(more: str) -> str:
        gift = f"promotions: [{{promotion: gift, from: 2026-01-01, amount: 100, items: [use]{more}}}]"
        return one_price("- per_unit: {price: 2}", more=gift)

    assert findings(promoted(""))["below-zero"].example == "1 s of use cost 2.00, after promotions -98.00"
    assert findings(promoted(", keep_above_zero: true")) == {}


def test_a_step_that_changes_nothing_is_warned_of() -> None:
    one = findings(one_price("- per_unit: {price: 2}\n- allowance: {quantity: 100}"))["step-idle"]
    assert one.message == "item use, RUB: step 2, Allowance: no step after it charges"
    assert one.example == "1 s cost 2.00 with it, 2.00 without it"


def test_promotions_of_free_units_that_do_not_fit_a_price_together_are_an_error() -> None:
    gift = "  - {promotion: g%d, from: 2026-01-01, free_units: 1, items: [use]}\n"
    more = "promotions:\n" + "".join(gift % number for number in range(32))
    one = findings(one_price("- per_unit: {price: 2}", more=more))["meter-conflict"]
    assert one.message.startswith("item use cannot have all its promotions of free units at once: a tariff has 1 to 32")


def test_a_pool_nobody_fills_a_promotion_for_nobody_and_unused_names_are_warned_of() -> None:
    more = "pools: {m: {unit: s}, idle: {unit: s}}\nplans: {p: {items: [use]}, q: {}}\n" + (
        "promotions: [{promotion: x, from: 2026-01-01, percent: 5, items: [use], plans: [q]}]\n"
    )
    found = findings(one_price("- allowance: {pool: m}\n- per_unit: {price: 1}", more=more))
    assert sorted(found) == ["pool-empty", "promotion-idle", "unused"]
    assert found["unused"].message == "nothing refers to pool idle"


def test_every_fall_in_a_long_list_of_tiers_is_found() -> None:
    lines = "".join(f"      - {{upto: {n}, price: {1_000 - n + 1}}}\n" for n in range(1, 1_000))
    steps = f"- volume:\n    tiers:\n{lines}      - {{price: 0}}\n- cap: {{maximum: 1000000}}"
    falls = [one for one in check_catalogue(read(one_price(steps))) if one.code == "total-falls"]
    assert len(falls) == 499  # n x (1001 - n) rises up to 500, stays, and falls from 501 on
