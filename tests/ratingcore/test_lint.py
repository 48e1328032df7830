"""Findings are proved: every example, rated by the judge, shows what its finding says."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ratingcore.bands import DAYS, Rule, calendar_of
from ratingcore.lint import Finding, findings_of
from ratingcore.reference import Event, Line, Rated, State, longest_prefix, rate_event
from ratingcore.tariff import (
    MAX_METER,
    MAX_QUANTITY,
    Allowance,
    Cap,
    Catalogue,
    Flat,
    Graduated,
    Increments,
    Multiplier,
    PerUnit,
    Price,
    Rate,
    RateCard,
    Reject,
    Scope,
    Stairstep,
    Step,
    Tariff,
    Tier,
    Volume,
)
from tests.ratingcore.random_tariffs import SMALL, curves

START_S, END_S = 1_774_742_400, 1_774_742_400 + 7 * 86_400
WEEK = calendar_of("Europe/Moscow", [Rule(DAYS, 0, 480, "night"), Rule(DAYS, 480, 1440, "day")])


def catalogue_of(*tariffs: Tariff, since_s: int = START_S) -> Catalogue:
    versions = tuple((since_s + 86_400 * number, tariff) for number, tariff in enumerate(tariffs))
    return Catalogue((Price(((START_S, Tariff((PerUnit(1),))),)), Price(versions)), START_S, END_S)


def findings(*steps: Step, calendar: object = None) -> list[Finding]:
    found = findings_of(catalogue_of(Tariff(steps, calendar)))  # type: ignore[arg-type]
    assert {finding.price for finding in found} <= {1}
    return found


def rated(catalogue: Catalogue, event: Event) -> Rated:
    """An event on a line of the second price, by itself."""
    return rate_event(catalogue, [Line(0, 0), Line(0, 1)], State(), replace(event, line=1))[0]


@pytest.mark.parametrize(
    "step",
    [
        Volume((Tier(10, 5), Tier(20, 3), Tier(None, 1))),
        Stairstep((Tier(10, 0, 50), Tier(20, 0, 30), Tier(None, 0, 20))),
    ],
)
def test_buying_more_for_less_is_found_at_each_tiers_end(step: Step) -> None:
    found = findings(step)
    assert [finding.rule for finding in found] == ["less for more"] * 2
    assert [[event.quantity for event in finding.examples] for finding in found] == [[10, 11], [20, 21]]
    catalogue = catalogue_of(Tariff((step,)))
    for finding in found:
        less, more = (rated(catalogue, event).amount_micro for event in finding.examples)
        assert more < less


@given(st.one_of([curves(SMALL, kind, ()) for kind in (Graduated, Volume, Stairstep)]))
@settings(max_examples=60, deadline=None)
def test_a_curve_without_that_finding_never_falls(step: Graduated | Volume | Stairstep) -> None:
    catalogue = catalogue_of(Tariff((step,)))
    totals = [rated(catalogue, Event(0, START_S, quantity)).amount_micro for quantity in range(80)]
    falls = {quantity for quantity in range(79) if totals[quantity + 1] < totals[quantity]}
    found = [finding for finding in findings_of(catalogue) if finding.rule == "less for more"]
    assert falls == {finding.examples[0].quantity for finding in found}


def test_a_tier_beyond_every_meter_is_found() -> None:
    (found,) = findings(Graduated((Tier(MAX_QUANTITY, 1), Tier(None, 1)), scope=Scope.EVENT))
    assert (found.rule, found.step) == ("tier never reached", 0)
    (found,) = findings(Graduated((Tier(MAX_METER, 1), Tier(None, 1))))
    assert found.rule == "tier never reached"
    assert findings(Graduated((Tier(MAX_QUANTITY, 1), Tier(None, 1)))) == []


def test_a_prefix_all_of_whose_numbers_have_longer_ones_is_found() -> None:
    rates = (Rate("79", 1), *(Rate(f"79{digit}", 2 + digit) for digit in range(10)))
    (found,) = findings(Flat(1), RateCard(rates))
    assert (found.rule, found.step, found.price, found.version) == ("prefix never reached", 1, 1, 0)
    assert longest_prefix(rates, found.examples[0].destination) != 0
    assert findings(RateCard(rates[:-1])) == [], "with one digit left it is reached"


@given(st.lists(st.text("0123456789", max_size=2), min_size=1, max_size=120, unique=True))
@settings(max_examples=60, deadline=None)
def test_a_prefix_is_found_unreached_exactly_when_no_longer_number_reaches_it(prefixes: list[str]) -> None:
    rates = tuple(Rate(prefix, 1 + number) for number, prefix in enumerate(prefixes))
    numbers = [f"{number:04d}" for number in range(10_000)]
    found = {
        finding.text.split("'")[1] for finding in findings(RateCard(rates)) if finding.rule == "prefix never reached"
    }
    reached = {rates[index].prefix for number in numbers[::7] if (index := longest_prefix(rates, number)) is not None}
    assert found == set(prefixes) - reached


def test_a_prefix_that_costs_what_the_shorter_one_costs_is_found() -> None:
    rates = (Rate("7", 5), Rate("79", 7), Rate("7916", 7), Rate("74", 5, fee_micro=1))
    (found,) = findings(RateCard(rates))
    assert (found.rule, found.examples[0].destination) == ("prefix changes nothing", "7916")


@pytest.mark.parametrize(
    ("steps", "idle"),
    [
        ([PerUnit(1), Increments(60, 60)], 1),
        ([PerUnit(1), Allowance(5)], 1),
        ([Multiplier(500_000), PerUnit(1)], 0),
        ([Increments(60, 60), Cap(5), PerUnit(1)], 1),
    ],
)
def test_a_step_that_changes_nothing_is_found(steps: list[Step], idle: int) -> None:
    (found,) = findings(*steps)
    assert (found.rule, found.step) == ("step changes nothing", idle)
    events = [Event(0, START_S, quantity) for quantity in (1, 59, 61)]
    with_it, without = catalogue_of(Tariff(tuple(steps))), catalogue_of(Tariff(tuple(steps[:idle] + steps[idle + 1 :])))
    assert [rated(with_it, event).amount_micro for event in events] == [
        rated(without, event).amount_micro for event in events
    ]


def test_a_step_confined_to_bands_that_others_leave_alone_changes_nothing() -> None:
    found = findings(PerUnit(1), Flat(3, bands=("night",)), Cap(5, bands=("day",)), calendar=WEEK)
    assert found == []
    found = findings(PerUnit(1, bands=("night",)), Cap(5, bands=("day",)), Flat(1, bands=("day",)), calendar=WEEK)
    assert [(finding.rule, finding.step) for finding in found] == [("step changes nothing", 1)]


def test_a_band_in_which_nothing_is_charged_is_found() -> None:
    tariff = Tariff((PerUnit(1, bands=("day",)), Cap(5)), WEEK)
    (found,) = findings_of(catalogue_of(tariff))
    assert found.rule == "band without price"
    outcome = rated(catalogue_of(tariff), found.examples[0])
    assert (outcome.parts[0].band, outcome.amount_micro) == ("night", 0)


def test_time_without_a_price_and_versions_out_of_time_are_found() -> None:
    late = catalogue_of(Tariff((PerUnit(1),)), since_s=START_S + 5)
    (found,) = findings_of(late)
    assert found.rule == "no price"
    assert rated(late, found.examples[0]).reject == Reject.NO_PRICE
    past = catalogue_of(Tariff((PerUnit(1),)), Tariff((PerUnit(2),)), since_s=START_S - 86_400)
    assert [(finding.rule, finding.version) for finding in findings_of(past)] == [("never in force", 0)]
    future = catalogue_of(Tariff((PerUnit(1),)), Tariff((PerUnit(2),)), since_s=END_S - 86_400)
    assert [(finding.rule, finding.version) for finding in findings_of(future)] == [
        ("no price", 0),
        ("never in force", 1),
    ]


def test_a_sound_catalogue_has_no_findings() -> None:
    assert findings(Increments(60, 60), Allowance(300), Graduated((Tier(10, 5), Tier(None, 3))), Cap(100)) == []


@pytest.mark.parametrize(
    "steps",
    [
        (PerUnit(1), Allowance(pool="family")),
        (
            Allowance(5, meter="m", bands=("day",)),
            Allowance(5, meter="m", bands=("night",)),
            PerUnit(1, bands=("night",)),
        ),
        (Increments(60, 60, bands=("day",)), RateCard((Rate("", 1),), bands=("night",)), Flat(1, bands=("day",))),
    ],
)
def test_a_step_that_takes_from_what_others_share_is_not_idle(steps: tuple[Step, ...]) -> None:
    catalogue = Catalogue((Price(((START_S, Tariff(steps, WEEK)),)),), START_S, END_S, ("family",))
    assert [finding.rule for finding in findings_of(catalogue) if finding.rule == "step changes nothing"] == []


def test_ten_thousand_tiers_are_looked_through() -> None:
    tiers = (*(Tier(number, 10_001 - number) for number in range(1, 10_000)), Tier(None, 1))
    assert findings(Graduated(tiers)) == []
    found = findings(Volume(tiers))
    assert found[0].examples[0].quantity == 5_001
    assert len(found) == 4_999
