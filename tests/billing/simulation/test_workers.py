"""Ranges are worked on by processes, all of them once; one that dies is told in a sentence."""

import os
from copy import copy
from typing import Any

import pytest

from billing.simulation.workers import WorkerDied, each_range

# The work of a process is `copy` of the job: a built-in function, so that it crosses to other processes.
RANGES: Any = list(range(-20, 1))


@pytest.mark.parametrize("processes", [1, 2])
def test_every_range_is_done_once(processes: int) -> None:
    assert sorted(each_range(copy, abs, RANGES, processes)) == list(range(21))


def test_without_ranges_nothing_is_done() -> None:
    assert list(each_range(copy, abs, [])) == []


def test_a_process_that_dies_is_told_in_a_sentence() -> None:
    with pytest.raises(WorkerDied, match=r"^a worker process died .* nothing was written: run it again$"):
        list(each_range(copy, os._exit, RANGES, 2))


def test_what_the_work_raises_is_raised_here() -> None:
    with pytest.raises(ValueError, match="chr"):
        list(each_range(copy, chr, RANGES, 2))
