"""What follows an attempt: the table, walked whole."""

import itertools

import pytest

from billing.work.jobs.records import Ending, JobState
from billing.work.jobs.rules import INTERRUPTION_LADDER_S, JobKind, next_of

HOWS = ("done", "cancelled", "refused", "error", "silent", "interrupted")


def kind(**more):
    return JobKind("module:function", **more)


@pytest.mark.parametrize(
    ("how", "repeatable", "errors", "asked", "state", "wait_s", "failure"),
    [
        ("done", False, 0, False, "done", 0, ""),
        ("done", False, 0, True, "done", 0, ""),
        ("refused", True, 0, False, "failed", 0, "refused"),
        ("cancelled", True, 0, True, "cancelled", 0, ""),
        ("cancelled", True, 0, False, "queued", 0, ""),
        ("error", False, 0, False, "queued", 30, "error"),
        ("error", False, 1, False, "queued", 60, "error"),
        ("error", False, 2, False, "failed", 0, "error"),
        ("error", False, 0, True, "failed", 0, "error"),
        ("silent", False, 0, False, "failed", 0, "silent"),
        ("silent", True, 0, False, "queued", 30, "silent"),
        ("interrupted", False, 0, False, "failed", 0, "interrupted"),
        ("interrupted", True, 0, False, "queued", 0, "interrupted"),
        ("interrupted", True, 0, True, "cancelled", 0, ""),
    ],
)
def test_each_ending_has_what_follows(how, repeatable, errors, asked, state, wait_s, failure):
    following = next_of(
        kind(ladder_s=(30, 60), is_repeatable=repeatable), Ending(how), errors, 0, is_cancel_asked=asked
    )
    assert (following.state, following.wait_s, following.failure) == (state, wait_s, failure)


def test_no_job_goes_on_for_ever_by_itself():
    for how, repeatable in itertools.product(("error", "silent", "interrupted"), (False, True)):
        errors = interruptions = tries = 0
        while tries < 100:
            tries += 1
            following = next_of(
                kind(ladder_s=(1, 2, 3), is_repeatable=repeatable), Ending(how), errors, interruptions,
                is_cancel_asked=False,
            )  # fmt: skip
            if following.state is not JobState.QUEUED:
                break
            errors, interruptions = following.errors, following.interruptions
        assert following.state is JobState.FAILED
        assert tries <= 1 + max(3, len(INTERRUPTION_LADDER_S))


def test_a_job_that_was_asked_to_stop_is_never_queued_again():
    for how, repeatable in itertools.product(HOWS, (False, True)):
        following = next_of(kind(ladder_s=(1,), is_repeatable=repeatable), Ending(how), 0, 0, is_cancel_asked=True)
        assert following.state is not JobState.QUEUED
