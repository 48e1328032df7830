"""What becomes of instants that have come: each is in one decision, by the rules for missed ones and overlap."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.work.schedules.decide import Undecided, decide
from billing.work.schedules.records import MAX_NAMED, MAX_QUEUED, Missed, Overlap, RunReason, ScheduleTerms

NOW_S = 1_800_000_000


def terms(missed: Missed = Missed.ONCE, overlap: Overlap = Overlap.SKIP, missed_max: int = 7) -> ScheduleTerms:
    return ScheduleTerms("bill.run", "daily at 03:00", "UTC", missed=missed, overlap=overlap, missed_max=missed_max)


def told(decisions: object) -> list[tuple[int, str, str]]:
    return [(NOW_S - made.planned_s, made.decision, made.reason.value) for made in decisions]  # type: ignore[attr-defined]


def come(*ago_s: int) -> Undecided:
    return Undecided([NOW_S - ago for ago in ago_s])


def test_an_instant_at_its_time_runs_by_every_rule() -> None:
    for missed in Missed:
        assert told(decide(terms(missed), come(5), NOW_S, False, 0)) == [(5, "run", "due")]


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        (Missed.SKIP, [(7200, "skipped", "missed"), (3600, "skipped", "missed")]),
        (Missed.ONCE, [(7200, "skipped", "merged"), (3600, "run", "caught_up")]),
        (Missed.EACH, [(7200, "run", "caught_up"), (3600, "queued", "caught_up")]),
    ],
)
def test_instants_that_are_late_go_by_the_rule_for_missed_ones(
    missed: Missed, expected: list[tuple[int, str, str]]
) -> None:
    assert told(decide(terms(missed), come(7200, 3600), NOW_S, False, 0)) == expected


@pytest.mark.parametrize(
    ("missed", "expected"),
    [
        (Missed.SKIP, [(120, "skipped", "missed"), (60, "skipped", "missed"), (0, "run", "due")]),
        (Missed.ONCE, [(120, "skipped", "merged"), (60, "skipped", "merged"), (0, "run", "due")]),
        (Missed.EACH, [(120, "run", "caught_up"), (60, "queued", "caught_up"), (0, "queued", "due")]),
    ],
)
def test_the_newest_of_several_is_at_its_time(missed: Missed, expected: list[tuple[int, str, str]]) -> None:
    assert told(decide(terms(missed), come(120, 60, 0), NOW_S, False, 0)) == expected


def test_no_more_than_the_newest_so_many_are_made_up() -> None:
    decisions = decide(terms(Missed.EACH, missed_max=2), come(180, 120, 60, 0), NOW_S, False, 0)
    assert told(decisions) == [
        (180, "skipped", "too_many"),
        (120, "skipped", "too_many"),
        (60, "run", "caught_up"),
        (0, "queued", "due"),
    ]


@pytest.mark.parametrize(
    ("overlap", "queued", "expected"),
    [
        (Overlap.SKIP, 0, ("skipped", "overlap")),
        (Overlap.QUEUE, 0, ("queued", "due")),
        (Overlap.QUEUE, MAX_QUEUED, ("skipped", "queue_full")),
    ],
)
def test_while_a_run_is_not_over_the_rule_for_overlap_decides(
    overlap: Overlap, queued: int, expected: tuple[str, str]
) -> None:
    assert told(decide(terms(overlap=overlap), come(0), NOW_S, True, queued)) == [(0, *expected)]


def test_older_instants_are_counted_in_one_decision() -> None:
    undecided = Undecided([NOW_S], older=50_000, older_s=NOW_S - 3_000_000)
    first, last = decide(terms(), undecided, NOW_S, False, 0)
    assert (first.stands_for, first.reason, first.decision) == (50_000, RunReason.MERGED, "skipped")
    assert last.decision == "run"


@given(
    st.lists(st.integers(NOW_S - 10_000_000, NOW_S), unique=True, max_size=MAX_NAMED).map(sorted),
    st.integers(0, 5),
    st.sampled_from(Missed),
    st.sampled_from(Overlap),
    st.integers(1, MAX_NAMED),
    st.booleans(),
    st.integers(0, MAX_QUEUED),
)
def test_every_instant_is_in_one_decision(
    newest: list[int], older: int, missed: Missed, overlap: Overlap, missed_max: int, is_busy: bool, queued: int
) -> None:
    older = older if newest else 0
    undecided = Undecided(newest, older, newest[0] - 60 if older else 0)
    decisions = decide(terms(missed, overlap, missed_max), undecided, NOW_S, is_busy, queued)
    assert sum(made.stands_for for made in decisions) == len(newest) + older
    assert [made.planned_s for made in decisions if made.stands_for == 1][-len(newest) :] == newest
    running = [made for made in decisions if made.decision == "run"]
    assert len(running) <= 1
    assert not (running and (is_busy or queued))
    assert queued + sum(made.decision == "queued" for made in decisions) <= MAX_QUEUED
    acting = [made for made in decisions if made.decision != "skipped"]
    assert len(acting) <= (missed_max if missed is Missed.EACH else 1)
