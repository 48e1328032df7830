"""What a new catalogue changes, as buyers see it."""

from billing.catalogue.diff import Change, changes_of_the_past, diff_catalogues
from billing.catalogue.units import parse_instant
from tests.billing.catalogue.catalogues import HEAD, one_price, read

NOW_S = parse_instant("2026-06-01", "Europe/Moscow")


def changes(old: str, new: str) -> list[Change]:
    return diff_catalogues(read(old), read(new))


def test_the_same_catalogue_written_otherwise_is_no_change() -> None:
    old = one_price("- per_unit: {price: 1.50}")
    new = "# a remark\n" + one_price("- per_unit:\n    price: '1.5'").replace("name: test", "name:   test")
    assert changes(old, new) == []


def test_a_price_from_a_date_on_is_a_change_for_those_it_is_for_with_an_example() -> None:
    old = one_price("- per_unit: {price: 2, per: 1 min}")
    (one,) = changes(old, old + "      - {from: 2026-07-01, steps: [per_unit: {price: 3, per: 1 min}]}\n")
    assert (one.what, one.whom) == ("item use, RUB", "everybody without a plan")
    assert one.change == "costs something else from 2026-07-01"
    assert one.example == "1 s: 0.03333333 -> 0.05"
    assert changes_of_the_past([one], NOW_S) == []


def test_a_price_changed_in_its_first_version_rewrites_the_past() -> None:
    found = changes(one_price("- per_unit: {price: 2}"), one_price("- per_unit: {price: 3}"))
    assert [one.example for one in changes_of_the_past(found, NOW_S)] == ["1 s: 2.00 -> 3.00"]


def test_a_change_far_up_the_tiers_is_found_with_a_quantity_that_shows_it() -> None:
    def tiers(last: str) -> str:
        return one_price(f"- graduated: {{tiers: [{{upto: 12345, price: 1}}, {{price: {last}}}]}}")

    assert changes(tiers("0.5"), tiers("0.4"))[0].example == "12346 s: 12345.50 -> 12345.40"


def test_a_new_prefix_of_a_rate_card_is_shown_by_a_call_to_it() -> None:
    def card(more: str) -> str:
        rates = f"rate_cards: {{c: {{unit: s, rates: [{{prefix: '7', price: 1}}{more}]}}}}"
        return one_price("- rate_card: {card: c}", more=rates)

    assert changes(card(""), card(", {prefix: '79', price: 2}"))[0].example == "1 s to 79: 1.00 -> 2.00"


def test_circles_with_the_same_change_are_told_together_and_others_apart() -> None:
    def text(amount: int, staff: int) -> str:
        price = "versions: [{from: 2026-01-01, steps: [flat: {amount: %s}]}]"
        return (
            f"{HEAD}items: {{use: {{unit: piece}}}}\nplans: {{p: {{items: [use]}}, q: {{items: [use]}}}}\nprices:\n"
            f"  - {{item: use, {price % amount}}}\n  - {{item: use, group: staff, {price % staff}}}\n"
        )

    everybody, staff = changes(text(1, 5), text(2, 6))
    assert everybody.whom == "everybody without a plan; plan p; plan q"
    assert staff.whom == "group staff; plan p, group staff; plan q, group staff"
    assert [one.example for one in (everybody, staff)] == ["0 piece: 1.00 -> 2.00", "0 piece: 5.00 -> 6.00"]


def test_moving_a_price_from_everybody_to_the_only_plan_is_told_for_those_without_one_alone() -> None:
    old = one_price("- flat: {amount: 1}", more="plans: {p: {items: [use]}}")
    (one,) = changes(old, old.replace("item: use\n", "item: use\n    plan: p\n"))
    assert (one.whom, one.change) == ("everybody without a plan", "has no price any more from 2026-01-01")


def test_items_plans_pools_promotions_and_tax_rates_are_compared() -> None:
    old = one_price(
        "- flat: {amount: 1}", item="tax: vat", more="taxes: {vat: {rates: [{from: 2025-01-01, percent: 20}]}}"
    )
    more = (
        "\nplans: {p: {items: [use], pools: [{pool: m, quantity: 1 h}]}}\npools: {m: {unit: s}}\n"
        "promotions: [{promotion: x, from: 2026-08-01, percent: 5, plans: [p]}]\n"
    )
    new = old.replace("percent: 20}", "percent: 20}, {from: 2027-01-01, percent: 22}") + more
    found = {one.what: one for one in changes(old, new)}
    assert found["tax class vat"].change == "changed: rates"
    assert found["plan p"].change == "added"
    assert found["promotion x"].whom == "plans p"
    assert found["item use, RUB"].change == "costs something else from 2027-01-01"
    assert found["item use, RUB"].example == "tax 20 % inside -> 22 % inside"
    less = new.replace("quantity: 1 h", "quantity: 30 min")
    assert [one.change for one in changes(new, less)] == ["pool m: 3600 s -> 1800 s"]


def test_finer_steps_of_the_same_unit_are_no_change_of_price() -> None:
    """An item that gets a decimal, with its pool: two minutes cost what they cost."""
    pools = "pools: {minutes: {unit: s%s}}\nplans: {plan: {items: [use], pools: [{pool: minutes, quantity: 30 min}]}}\n"
    steps = (
        "- increments: {first: 1 min, next: 1 min}\n- allowance: {pool: minutes}\n- per_unit: {price: %s, per: 1 min}"
    )
    old = one_price(steps % "2.00", more=pools % "")
    new = one_price(steps % "2.00", item="decimals: 1", more=pools % ", decimals: 1")
    assert [(one.what, one.change) for one in changes(old, new)] == [("item use", "changed: unit")]
    dearer = one_price(steps % "3.00", item="decimals: 1", more=pools % ", decimals: 1")
    assert {one.example for one in changes(old, dearer) if one.example} == {"1 s: 2.00 -> 3.00"}
