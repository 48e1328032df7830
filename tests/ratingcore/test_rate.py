"""The kernel before its judge: every column, meter and pool, in one batch or in many, on one thread or more."""

import pytest
from hypothesis import HealthCheck, given, settings

from ratingcore import reference
from ratingcore.compile import compile_catalogue
from ratingcore.digits import pack_numbers
from ratingcore.rate import (
    Accumulators,
    Rated,
    close_lines,
    make_events,
    make_lines,
    new_accumulators,
    rate_events,
    read_meters,
)
from tests.ratingcore.random_tariffs import END_S, POOLS, Trial, trials

COLUMNS = ("amount_micro", "version", "tier", "rate", "reject")


def rows(rated: Rated) -> list[tuple[int, ...]]:
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
    memory = new_accumulators(compiled, lines, trial.pools)
    pools = {(owner, name): row[at] for owner, row in enumerate(trial.pools) for at, name in enumerate(POOLS)}
    judged, state = reference.rate_events(trial.catalogue, trial.lines, reference.State({}, pools), trial.events)
    found: list[tuple[int, ...]] = []
    for low, high in zip([0, *trial.cuts], [*trial.cuts, len(trial.events)], strict=True):
        batch = make_events(**columns_of(trial.events[low:high]))
        found += rows(rate_events(compiled, lines, memory, batch, trial.threads))
    assert found == judged_rows(judged)
    assert [reference.recompute(one) for one in judged] == [one.amount_micro for one in judged]
    compare_memory(trial, compiled, lines, memory, state)
    for _ in range(2):
        closed = rows(close_lines(compiled, lines, memory, range(len(trial.lines)), END_S - 1, trial.threads))
        judged = []
        for line in range(len(trial.lines)):
            one, state = reference.close_line(trial.catalogue, trial.lines, state, line, END_S - 1)
            judged.append(one)
        assert closed == judged_rows(judged)
        assert [reference.recompute(one) for one in judged] == [one.amount_micro for one in judged]
        compare_memory(trial, compiled, lines, memory, state)
    assert not any(row[0] for row in closed), "a second close adds nothing"


def compare_memory(trial: Trial, compiled, lines, memory: Accumulators, state: reference.State) -> None:  # type: ignore[no-untyped-def]
    for line in range(len(trial.lines)):
        for key, value in read_meters(compiled, lines, memory, line).items():
            assert state.meters.get((line, *key), 0) == value, key
    for (owner, name), left in state.pools.items():
        assert memory.pools[owner * len(POOLS) + POOLS.index(name)] == left


QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@given(trials())
@settings(max_examples=300, deadline=None, suppress_health_check=QUIET)
def test_the_kernel_equals_the_judge_on_random_tariffs_events_batches_and_threads(trial: Trial) -> None:
    compare(trial)


@pytest.mark.slow
@given(trials())
@settings(max_examples=10_000, deadline=None, suppress_health_check=QUIET)
def test_the_kernel_equals_the_judge_on_ten_thousand_random_tariffs(trial: Trial) -> None:
    compare(trial)
