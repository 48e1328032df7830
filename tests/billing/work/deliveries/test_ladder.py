"""billing.work.deliveries.ladder: the schedules of the fact sheets to the second, and jitter that can be computed."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.work.deliveries.ladder import (
    STANDARD_LADDER,
    WEBHOOK_LADDER,
    Ladder,
    next_due,
    wait_s,
)

FIRST = datetime(2027, 1, 1, 10, tzinfo=UTC)


def tries(ladder, key="k", retry_after_s=None):
    """Times of all tries, each of which gets a temporary answer at once."""
    moments = [FIRST]
    while True:
        due = next_due(
            ladder,
            len(moments),
            key,
            first_at=FIRST,
            tried_at=moments[-1],
            now=moments[-1],
            retry_after_s=retry_after_s,
        )
        if due is None:
            return moments
        moments.append(due)


def without_jitter(ladder):
    return Ladder(ladder.waits_s, ladder.then_s, ladder.stop_s, 0)


def test_the_worked_schedule_of_the_fact_sheet():
    moments = tries(without_jitter(STANDARD_LADDER))
    clock = [f"{moment:%H:%M}" for moment in moments[:9]]
    assert clock == ["10:00", "10:01", "10:03", "10:08", "10:18", "10:33", "11:03", "12:03", "13:03"]
    assert moments[-1] <= FIRST + timedelta(hours=72) < moments[-1] + timedelta(hours=1)


def test_webhooks_are_tried_ten_times_over_75_hours_35_minutes_5_seconds():
    moments = tries(without_jitter(WEBHOOK_LADDER))
    assert len(moments) == 10
    assert moments[-1] - FIRST == timedelta(hours=75, minutes=35, seconds=5)


@given(st.text(min_size=1, max_size=40), st.integers(1, 30))
def test_jitter_is_the_same_for_a_key_and_stays_within_its_percent(key, step):
    wait = wait_s(STANDARD_LADDER, step, key)
    plain = wait_s(without_jitter(STANDARD_LADDER), step, key)
    assert wait == wait_s(STANDARD_LADDER, step, key)
    assert 0.8 * plain <= wait <= 1.2 * plain


def test_jitter_differs_between_keys():
    assert len({wait_s(STANDARD_LADDER, 1, f"key-{number}") for number in range(100)}) > 90


def test_retry_after_makes_a_wait_longer_never_shorter_and_is_bounded():
    assert tries(without_jitter(STANDARD_LADDER), retry_after_s=1)[1] == FIRST + timedelta(seconds=60)
    assert tries(without_jitter(STANDARD_LADDER), retry_after_s=90)[1] == FIRST + timedelta(seconds=90)
    assert tries(without_jitter(STANDARD_LADDER), retry_after_s=10**9)[1] == FIRST + timedelta(days=1)


def test_what_is_answered_late_is_not_tried_in_the_past():
    now = FIRST + timedelta(minutes=30)
    due = next_due(STANDARD_LADDER, 1, "k", first_at=FIRST, tried_at=FIRST, now=now, retry_after_s=None)
    assert due == now


@pytest.mark.parametrize("waits", [(0,), (-5, 60)])
def test_a_ladder_that_does_not_wait_is_none(waits):
    with pytest.raises(ValueError, match="1 or more"):
        Ladder(waits, None, 60)
