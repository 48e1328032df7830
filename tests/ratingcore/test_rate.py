"""The kernel before its judge: every column, meter and pool, in one batch or in many, on one thread or more."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings

from ratingcore import reference
from ratingcore.bands import DAYS, Rule, calendar_of
from ratingcore.compile import compile_catalogue
from ratingcore.digits import pack_numbers
from ratingcore.rate import (
    Accumulators,
    Lines,
    RatedColumns,
    carry_over,
    close_lines,
    make_events,
    make_lines,
    new_accumulators,
    ranges_of,
    rate_events,
    read_meters,
)
from ratingcore.tariff import (
    MAX_QUANTITY,
    Allowance,
    Cap,
    Catalogue,
    Curve,
    Flat,
    Graduated,
    Increments,
    MinimumCommitment,
    Multiplier,
    Package,
    Percentage,
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
from tests.ratingcore.random_tariffs import END_S, POOLS, SPRING_S, START_S, Trial, trials

COLUMNS = ("amount_micro", "version", "tier", "rate", "reject")


def rows(rated: RatedColumns) -> list[tuple[int, ...]]:
    return list(zip(*(getattr(rated, name).tolist() for name in COLUMNS), strict=True))


def judged_rows(rated: list[reference.Rated]) -> list[tuple[int, ...]]:
    return [tuple(int(getattr(one, name)) for name in COLUMNS) for one in rated]


def columns_of(events: list[reference.Event]) -> dict[str, object]:
    return {
        "line": [event.line for event in events],
        "time_s": [event.time_s for event in events],
        "quantity": [event.quantity for event in events],
        "duration_s": [event.duration_s for event in events],
        "destination": pack_numbers([event.destination for event in events]),
    }


def compare(trial: Trial) -> None:
    """Kernel and judge over one trial; asserts at every place where they may differ."""
    compiled = compile_catalogue(trial.catalogue)
    lines = make_lines(compiled, [line.price for line in trial.lines], [line.owner for line in trial.lines])
    memory = new_accumulators(lines, trial.pools)
    pools = {(owner, name): row[at] for owner, row in enumerate(trial.pools) for at, name in enumerate(POOLS)}
    judged, state = reference.rate_events(trial.catalogue, trial.lines, reference.State({}, pools), trial.events)
    found: list[tuple[int, ...]] = []
    for low, high in zip([0, *trial.cuts], [*trial.cuts, len(trial.events)], strict=True):
        batch = make_events(**columns_of(trial.events[low:high]))
        found += rows(rate_events(lines, memory, batch, trial.threads))
    assert found == judged_rows(judged)
    assert [reference.recompute(one) for one in judged] == [one.amount_micro for one in judged]
    compare_memory(trial, lines, memory, state)
    for _ in range(2):
        closed = rows(close_lines(lines, memory, range(len(trial.lines)), END_S - 1, trial.threads))
        judged = []
        for line in range(len(trial.lines)):
            one, state = reference.close_line(trial.catalogue, trial.lines, state, line, END_S - 1)
            judged.append(one)
        assert closed == judged_rows(judged)
        assert [reference.recompute(one) for one in judged] == [one.amount_micro for one in judged]
        compare_memory(trial, lines, memory, state)
    assert not any(row[0] for row in closed), "a second close adds nothing"


def compare_memory(trial: Trial, lines: Lines, memory: Accumulators, state: reference.State) -> None:
    for line in range(len(trial.lines)):
        for key, value in read_meters(lines, memory, line).items():
            assert state.meters.get((line, *key), 0) == value, key
    for (owner, name), left in state.pools.items():
        assert memory.pools[owner * len(POOLS) + POOLS.index(name)] == left


QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@given(trials())
@settings(max_examples=200, deadline=None, suppress_health_check=QUIET)
def test_the_kernel_equals_the_judge_on_random_tariffs_events_batches_and_threads(trial: Trial) -> None:
    compare(trial)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(25))
def test_the_kernel_equals_the_judge_on_ten_thousand_random_tariffs(part: int) -> None:
    """In parts, for Hypothesis remembers every example of a run."""
    search = settings(max_examples=400, deadline=None, suppress_health_check=QUIET, database=None)
    search(seed(part)(given(trials())(compare)))()


NIGHT_AND_DAY = calendar_of("Europe/Berlin", [Rule(DAYS, 0, 180, "night"), Rule(DAYS, 180, 1440, "day")])


def card(price: int, fee: int, minimum: int, first: int, following: int, bands: tuple[str, ...]) -> RateCard:
    return RateCard((Rate("7", price, 1, fee, minimum, first, following, grace=1),), bands)


@pytest.mark.parametrize(
    "steps",
    [
        (card(2, 3, 9, 2, 3, ("night",)), card(1, 5, 20, 3, 1, ("day",))),
        (card(1, 5, 20, 3, 1, ("night",)), card(2, 3, 9, 2, 3, ("day",))),
        (Increments(2, 3), Flat(7, Scope.EVENT, ("day",)), PerUnit(1, bands=("day",)), PerUnit(2, bands=("night",))),
        (Allowance(5), Volume((Tier(3, 9), Tier(6, 4), Tier(None, 1))), Cap(15, Scope.EVENT), Multiplier(500_000)),
        (Percentage(3, 5, 12, 30, 1), Flat(1, bands=("day",)), MinimumCommitment(1_000)),
    ],
    ids=["cards", "cards reversed", "increments", "curve", "percentage"],
)
def test_calls_around_an_edge_of_bands_are_rated_second_by_second_as_the_judge_says(steps: tuple[Step, ...]) -> None:
    """Every start and end within six seconds of the edge; the quantity is the duration, or a third more."""
    spans = [(start, end) for start in range(-6, 7) for end in range(start, 7)]
    usage = [
        reference.Event(0, SPRING_S + start, (end - start) * share // 3, end - start, "7")
        for start, end in spans
        for share in (3, 4)
    ]
    catalogue = Catalogue((Price(((START_S, Tariff(steps, NIGHT_AND_DAY)),)),), START_S, END_S, POOLS)
    compare(Trial(catalogue, [reference.Line(0, 0)], usage, [[0, 0]], [], 1))


@pytest.mark.parametrize(
    "curve",
    [
        PerUnit(10**10, free=3),
        PerUnit(10**10, per=7),
        Package(3 * 10**10, 7, 3),
        Package(10**10, 1),
        Graduated((Tier(5, 10**9, 1), Tier(10**8, 10**10), Tier(None, 10**10 + 1)), per=3),
        Volume((Tier(10**8, 10**10), Tier(None, 10**10 - 1, 7))),
        Stairstep((Tier(5, 0, 10**18), Tier(None, 0, 9 * 10**17))),
    ],
    ids=lambda curve: type(curve).__name__,
)
@pytest.mark.parametrize("steps", [1, 2])
def test_curves_where_64_bits_end_are_rated_as_the_judge_says(curve: Curve, steps: int) -> None:
    """Step by step over the narrow limit, then so far that the total leaves 64 bits while every event stays in."""
    tariff = Tariff((curve, PerUnit(0))[:steps])
    catalogue = Catalogue((Price(((START_S, tariff),)),), START_S, END_S, POOLS)
    narrow = min(int(compile_catalogue(catalogue).steps["narrow"][0]), 10**17)
    assert narrow > 10**7
    quantities = [narrow - 9, *[1] * 20, *[narrow] * 5, *[1] * 20, narrow + 3, 3 * narrow, 5 * narrow]
    usage = [reference.Event(0, START_S, quantity) for quantity in quantities]
    compare(Trial(catalogue, [reference.Line(0, 0)], usage, [[0, 0]], [], 1))


def test_every_prefix_is_found_from_its_first_number_to_its_last() -> None:
    """All prefixes share their first five digits, so many ranges lie under one entry of the index."""
    prefixes = sorted({f"79161{number}" for number in (*range(7, 200, 7), *range(3_000, 9_999, 37))})
    rates = tuple(Rate(prefix, index, per=1) for index, prefix in enumerate(prefixes))
    near = [(prefix, prefix + "0", prefix + "9" * 11, prefix[:-1], str(int(prefix) + 1)) for prefix in prefixes]
    numbers = [number for around in near for number in around]
    lines = many_lines(1, 1, Tariff((RateCard(rates),)))
    count = len(numbers)
    events = make_events([0] * count, [START_S] * count, [1] * count, destination=pack_numbers(numbers))
    rated = rate_events(lines, new_accumulators(lines), events)
    expected = [reference.longest_prefix(rates, number) for number in numbers]
    assert rated.rate.tolist() == [-1 if rate is None else rate for rate in expected]
    assert rated.reject.tolist() == [Reject.NO_RATE if rate is None else Reject.OK for rate in expected]
    assert {Reject.NO_RATE, Reject.OK} == set(rated.reject.tolist())


def test_calls_that_wait_for_others_are_rated_as_if_they_had_not() -> None:
    """Calls at terms of 30 bits and wider, curves, cards among steps and rejects, more than wait at a time."""
    plain = RateCard((Rate("79", 7_000_001, 60, first=60, next=6, minimum_micro=5), Rate("7", 3, grace=9)))
    tariffs = ((plain,), (RateCard((Rate("7", 2**40),)),), (Graduated((Tier(900, 3), Tier(None, 2))),))
    steps: tuple[tuple[Step, ...], ...] = (*tariffs, (Allowance(2_000), plain))
    catalogue = Catalogue(tuple(Price(((START_S, Tariff(one)),)) for one in steps), START_S, END_S)
    lines = [reference.Line(owner, owner % len(steps)) for owner in range(10)]
    events = [
        reference.Event(
            (number * 7) % 11 - (number % 97 == 0),
            START_S + number if number % 53 else END_S,
            number * number % 1_201,
            0,
            ("7911", "7", "8", "78123")[number * 5 % 13 % 4],
        )
        for number in range(1_000)
    ]
    judged, _ = reference.rate_events(catalogue, lines, reference.State({}, {}), events)
    made = make_lines(compile_catalogue(catalogue), [one.price for one in lines], [one.owner for one in lines])
    for threads in (1, 3):
        rated = rate_events(made, new_accumulators(made), make_events(**columns_of(events)), threads)
        assert rows(rated) == judged_rows(judged)
    assert {Reject.OK, Reject.BAD_LINE, Reject.NO_RATE, Reject.OUT_OF_HORIZON} == {one.reject for one in judged}


def test_a_card_with_more_rates_than_stay_in_cache_is_found_alike() -> None:
    rates = tuple(Rate(f"7{number}", number, per=1) for number in range(10_000, 15_000))
    numbers = ["7", "8", "71", *(f"7{number}55" for number in range(9_990, 15_010, 13))]
    lines = many_lines(1, 3, Tariff((RateCard(rates),)))
    count = len(numbers)
    events = make_events(
        [number % 5 - 1 for number in range(count)],
        [START_S] * count,
        [1] * count,
        destination=pack_numbers(numbers),
    )
    rated = rate_events(lines, new_accumulators(lines), events)
    expected = [reference.longest_prefix(rates, number) for number in numbers]
    for row, rate in enumerate(expected):
        if not 0 <= events.line[row] < 3:
            assert rated.reject[row] == Reject.BAD_LINE
        else:
            assert rated.rate[row] == (-1 if rate is None else rate)
            assert rated.amount_micro[row] == (0 if rate is None else rates[rate].price_micro)
    assert {Reject.OK, Reject.NO_RATE, Reject.BAD_LINE} == set(rated.reject.tolist())


def test_a_catalogue_is_good_from_its_first_second_to_its_last() -> None:
    lines = many_lines(1, 1, Tariff((PerUnit(1),)))
    times = [START_S - 1, START_S, END_S - 1, END_S]
    rated = rate_events(lines, new_accumulators(lines), make_events([0] * 4, times, [1] * 4))
    assert rated.reject.tolist() == [Reject.OUT_OF_HORIZON, Reject.OK, Reject.OK, Reject.OUT_OF_HORIZON]


@pytest.mark.parametrize(("ratio_ppm", "amounts"), [(500_000, [2, -2]), (499_999, [1, -1]), (500_001, [2, -2])])
def test_half_a_micro_goes_away_from_zero_on_both_sides(ratio_ppm: int, amounts: list[int]) -> None:
    lines = many_lines(1, 1, Tariff((Volume((Tier(1, 3), Tier(None, 0))), Multiplier(ratio_ppm))))
    rated = rate_events(lines, new_accumulators(lines), make_events([0, 0], [START_S] * 2, [1, 1]))
    assert rated.amount_micro.tolist() == amounts


def test_a_rejected_event_leaves_meters_and_pools_as_they_were() -> None:
    lines = many_lines(1, 2, Tariff((Allowance(5), Allowance(pool="family"), Flat(1), PerUnit(10**18))))
    memory = new_accumulators(lines, [[50]])
    before = (memory.meters.copy(), memory.pools.copy())
    rated = rate_events(lines, memory, make_events([0, 1], [START_S] * 2, [10**9] * 2))
    assert rated.reject.tolist() == [Reject.OUT_OF_RANGE] * 2
    assert (memory.meters == before[0]).all()
    assert (memory.pools == before[1]).all()


TIERS = (Tier(100, 5_000_000), Tier(500, 4_000_000), Tier(None, 3_000_000))
#: Seven units free of the line's own, then what the family has, then three tiers, at least 5 kopecks a period.
PLAN = Tariff(
    (
        Flat(1_000),
        Allowance(7),
        Allowance(pool="family"),
        Graduated(TIERS, per=60, meter="units"),
        MinimumCommitment(5_000_000, meter="bill"),
    )
)


def many_lines(prices: int, count: int, plan: Tariff = PLAN) -> Lines:
    """``count`` lines over ``prices`` prices, three lines an owner."""
    catalogue = Catalogue((Price(((START_S, plan),)),) * prices, START_S, END_S, ("family",))
    rows = np.arange(count)
    return make_lines(compile_catalogue(catalogue), rows % prices, rows // 3)


def test_threads_change_nothing() -> None:
    random = np.random.default_rng(7)
    lines = many_lines(2, 3_001)
    events = make_events(
        random.integers(-1, 3_002, 100_000),
        random.integers(START_S, END_S, 100_000),
        random.integers(0, 200, 100_000),
    )
    runs = []
    for threads in (1, 2, 5):
        memory = new_accumulators(lines, np.full((lines.owners, 1), 50))
        runs.append((rate_events(lines, memory, events, threads), memory))
    for rated, memory in runs[1:]:
        assert rows(rated) == rows(runs[0][0])
        assert (memory.meters == runs[0][1].meters).all()
        assert (memory.pools == runs[0][1].pools).all()
    assert {Reject.OK, Reject.BAD_LINE} == set(runs[0][0].reject.tolist())


@pytest.mark.parametrize("threads", [1, 2, 3, 7, 256])
@pytest.mark.parametrize("count", [0, 1, 2, 7, 100])
def test_ranges_tile_the_lines_and_part_no_owner(count: int, threads: int) -> None:
    lines = many_lines(1, count)
    spans = ranges_of(lines, threads)
    assert len(spans) <= threads
    assert [row for low, high in spans for row in range(low, high)] == list(range(count))
    owner = lines.records["owner"]
    assert all(owner[low - 1] != owner[low] for low, _ in spans if low)


def test_meters_and_pools_go_on_under_a_new_compilation() -> None:
    old = many_lines(2, 9)
    newer = Tariff((Graduated(TIERS, per=60, meter="units"), Flat(9, meter="new"), *PLAN.steps[:3], *PLAN.steps[4:]))
    catalogue = Catalogue((Price(((START_S, newer),)),) * 2, START_S, END_S, ("roaming", "family"))
    new = make_lines(compile_catalogue(catalogue), old.records["price"][::-1], old.records["owner"])
    memory = new_accumulators(old, np.full((3, 1), 50))
    rate_events(old, memory, make_events(range(9), [START_S] * 9, range(10, 100, 10)))
    carried = carry_over(old, memory, new)
    for line in range(9):
        before, after = read_meters(old, memory, line), read_meters(new, carried, line)
        assert after[("units", "quantity")] == before[("units", "quantity")]
        assert after[("new", "charged")] == 0
        assert after[("bill", "amount")] == before[("bill", "amount")] > 0
    assert carried.pools.reshape(3, 2)[:, 1].tolist() == memory.pools.tolist()
    assert carried.pools.reshape(3, 2)[:, 0].tolist() == [0, 0, 0]


def test_meters_of_other_lines_are_not_carried_over() -> None:
    lines = many_lines(1, 6)
    with pytest.raises(ValueError, match="owners differ"):
        carry_over(lines, new_accumulators(lines), many_lines(1, 7))


@pytest.mark.parametrize(
    ("quantity", "price", "amount", "reject"),
    [
        (9, 10**18, 9 * 10**18, Reject.OK),
        (10, 10**18, 0, Reject.OUT_OF_RANGE),
        (MAX_QUANTITY, 9, 9 * 10**18, Reject.OK),
        (MAX_QUANTITY, 10**18, 0, Reject.OUT_OF_RANGE),
        (MAX_QUANTITY + 1, 0, 0, Reject.BAD_QUANTITY),
        (-1, 0, 0, Reject.BAD_QUANTITY),
        (2**63 - 1, 0, 0, Reject.BAD_QUANTITY),
    ],
)
@pytest.mark.parametrize("steps", [1, 2])
def test_the_largest_amount_is_rated_and_the_next_is_rejected_never_wrapped(
    steps: int, quantity: int, price: int, amount: int, reject: Reject
) -> None:
    lines = many_lines(1, 1, Tariff((PerUnit(price), PerUnit(0))[:steps]))
    memory = new_accumulators(lines)
    rated = rate_events(lines, memory, make_events([0], [START_S], [quantity]))
    assert (rated.amount_micro[0], rated.reject[0]) == (amount, reject)
    assert memory.meters.any() == (reject == Reject.OK)


def test_a_full_meter_rejects() -> None:
    lines = many_lines(1, 1, Tariff((PerUnit(0),)))
    rated = rate_events(lines, new_accumulators(lines), make_events([0] * 5, [START_S] * 5, [MAX_QUANTITY] * 5))
    assert rated.reject.tolist() == [0, 0, 0, 0, Reject.OUT_OF_RANGE]


def test_no_events_and_no_lines_are_no_trouble() -> None:
    lines = many_lines(1, 0)
    assert rows(rate_events(lines, new_accumulators(lines), make_events([], [], []))) == []
    assert rate_events(lines, new_accumulators(lines), make_events([0], [START_S], [1])).reject.tolist() == [
        Reject.BAD_LINE
    ]


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda lines: make_lines(lines.compiled, [1], [0]), "price: row 0 is 1"),
        (lambda lines: make_lines(lines.compiled, [0], [-1]), "owner: row 0 is -1"),
        (lambda lines: make_lines(lines.compiled, [0, 0], [0]), "owner: 1 values, expected 2"),
        (lambda lines: new_accumulators(lines, [[1], [2], [3]]), "pools: shape"),
        (lambda lines: new_accumulators(lines, [[1], [-2]]), "pools: row 1 is -2"),
        (lambda lines: make_events([0], [0, 1], [1]), "time_s: 2 values, expected 1"),
        (lambda lines: make_events([[0]], [0], [1]), "one dimension"),
        (lambda lines: make_events([0], [0], [1], destination=[-1]), "destination: a value outside"),
        (
            lambda lines: rate_events(lines, new_accumulators(many_lines(1, 1)), make_events([0], [0], [1])),
            "accumulators: meters of shape",
        ),
        (lambda lines: rate_events(lines, new_accumulators(lines), make_events([0], [0], [1]), 0), "threads: 0"),
        (
            lambda lines: rate_events(
                make_lines(lines.compiled, [0, 0], [1, 0]), new_accumulators(lines), make_events([0], [0], [1]), 2
            ),
            "accumulators|ascending order of owner",
        ),
    ],
)
def test_columns_that_do_not_fit_are_refused(attempt: Callable[[Lines], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attempt(many_lines(1, 4))


def test_a_float_is_no_quantity() -> None:
    with pytest.raises(TypeError, match="quantity: integers expected, not float64"):
        make_events([0], [0], [0.5])


def test_calls_where_30_bits_end_are_rated_as_the_judge_says() -> None:
    """Either side of the short way of a rate card: every term at its last narrow value and at the next one."""
    end = 2**30
    rates = tuple(
        Rate(str(number), price, per, fee, minimum, first, following, grace)
        for number, (price, per, fee, minimum, first, following, grace) in enumerate(
            (
                (end - 1, 1, 10**18, 0, end - 1, end - 1, 0),
                (end, 1, 10**18, 0, 1, 1, 0),
                (end - 1, 10**12, 0, 10**18, 0, end - 1, end - 1),
                (1, 2, 0, 10**9, end, end, end),
                (end - 1, 7, 5, 9, 0, 7, 6),
            )
        )
    )
    catalogue = Catalogue((Price(((START_S, Tariff((RateCard(rates),))),)),), START_S, END_S, POOLS)
    quantities = [0, 1, 6, 7, 8, end - 2, end - 1, end, end + 1, 2 * end]
    calls = [reference.Event(0, START_S, q, 0, str(number)) for number in range(6) for q in quantities]
    compare(Trial(catalogue, [reference.Line(0, 0)], calls, [[0, 0]], [7], 1))
