"""What becomes of planned instants that have come: one run, several, none. Plain functions of what is known.

Rules.
 1. Of the instants that are undecided, all but the newest were missed; so was the newest if it is decided later than
    ``late_after_s``. A host that was away for a minute runs what it finds at its time.
 2. Missed.SKIP: missed ones do not run. Missed.ONCE: the newest runs and stands for all. Missed.EACH: the newest
    ``missed_max`` run one after another, in order; older ones do not.
 3. While an earlier run of the schedule is not over, Overlap.SKIP skips what would run now, and Overlap.QUEUE lets it
    wait. Runs that are caught up each wait for one another under both.
 4. Every undecided instant is in exactly one decision; MAX_NAMED of them by themselves, older ones counted together.

Does not know: calendars, rows, clocks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from billing.work.schedules.records import (
    MAX_QUEUED,
    Missed,
    Overlap,
    RunDecision,
    RunReason,
    ScheduleTerms,
)


@dataclass(frozen=True, slots=True)
class Undecided:
    """Planned instants that have come. newest: ascending. older: how many there are before them; older_s: the first."""

    newest: Sequence[int]
    older: int = 0
    older_s: int = 0


def decide(terms: ScheduleTerms, undecided: Undecided, now_s: int, is_busy: bool, queued: int) -> list[RunDecision]:
    """Decisions in the order of their instants. is_busy: a run is not over. queued: runs that wait for it."""
    if not undecided.newest:
        return []
    newest = undecided.newest[-1]
    is_on_time = now_s - newest <= terms.late_after_s
    running = _running(terms, undecided.newest, is_on_time)
    why_not = {Missed.SKIP: RunReason.MISSED, Missed.ONCE: RunReason.MERGED, Missed.EACH: RunReason.TOO_MANY}
    decisions = []
    if undecided.older:
        decisions.append(RunDecision(undecided.older_s, "skipped", why_not[terms.missed], stands_for=undecided.older))
    first = True
    for instant in undecided.newest:
        if instant not in running:
            decisions.append(RunDecision(instant, "skipped", why_not[terms.missed]))
            continue
        reason = RunReason.DUE if is_on_time and instant == newest else RunReason.CAUGHT_UP
        waits = is_busy or queued > 0 or not first
        if not waits:
            decisions.append(RunDecision(instant, "run", reason))
        elif terms.overlap is Overlap.SKIP and len(running) == 1:
            decisions.append(RunDecision(instant, "skipped", RunReason.OVERLAP))
        elif queued >= MAX_QUEUED:
            decisions.append(RunDecision(instant, "skipped", RunReason.QUEUE_FULL))
        else:
            decisions.append(RunDecision(instant, "queued", reason))
            queued += 1
        first = False
    return decisions


def _running(terms: ScheduleTerms, newest: Sequence[int], is_on_time: bool) -> frozenset[int]:
    """Those that run, unless another run is in their way."""
    if terms.missed is Missed.EACH:
        return frozenset(newest[-terms.missed_max :])
    if terms.missed is Missed.SKIP and not is_on_time:
        return frozenset()
    return frozenset(newest[-1:])
