"""What a kind of job is, and what follows when an attempt at a job ends: one table, no clock, no database.

Rules.
 1. done is final. A refusal is final until a person begins the job again: asking again changes nothing.
 2. After an error a job waits as long as the ladder of its kind says for that error, and is begun again; at the end of
    the ladder it has failed.
 3. A job whose process was lost is begun again if its kind is repeatable: at once, then after pauses, so that a job
    that kills its processes does not do so for ever. Otherwise nobody knows what of it was done: it has failed as
    interrupted, and a person decides.
 4. A job that was asked to be cancelled is not begun again by itself, whatever ended its attempt.
 5. A repeatable job that stops because its process drains is begun again at once, and nothing is counted.

Does not know: who runs jobs, time.
"""

from dataclasses import dataclass
from typing import Final

from billing.work.jobs.records import Ending, JobState, Next

#: Pauses in seconds before a repeatable job is begun again whose process was lost, by how often that happened.
INTERRUPTION_LADDER_S: Final = (0, 10, 60, 600)
#: Pauses that suit most work that fails for lack of something: half a minute, two, ten, an hour.
USUAL_LADDER_S: Final = (30, 120, 600, 3_600)


@dataclass(frozen=True, slots=True)
class JobKind:
    """How jobs of a kind are done.

    place: ``module:function`` of the work.
    ladder_s: pauses after errors, in order. is_repeatable: whether an attempt that was cut off anywhere may be begun
    again: what it did is found done, or is done again without harm.
    silent_s: an attempt that tells nothing for this long is ended. cancel_grace_s: as long as work that was asked to
    stop may take to stop.
    """

    place: str
    ladder_s: tuple[int, ...] = ()
    is_repeatable: bool = False
    silent_s: float = 1_800
    cancel_grace_s: float = 60


def next_of(kind: JobKind, ending: Ending, errors: int, interruptions: int, *, is_cancel_asked: bool) -> Next:
    """What follows an attempt that ended. errors, interruptions: counted before it. Pure.

    >>> kind = JobKind("module:function", ladder_s=(30,))
    >>> next_of(kind, Ending("error", "no answer"), 0, 0, is_cancel_asked=False).wait_s
    30
    >>> next_of(kind, Ending("error", "no answer"), 1, 0, is_cancel_asked=False).failure
    'error'
    """
    if ending.how == "done":
        return Next(JobState.DONE, errors=errors, interruptions=interruptions)
    if ending.how == "refused":
        return Next(JobState.FAILED, failure="refused", errors=errors, interruptions=interruptions)
    if ending.how == "cancelled":
        state = JobState.CANCELLED if is_cancel_asked else JobState.QUEUED
        return Next(state, errors=errors, interruptions=interruptions)
    if ending.how == "interrupted":
        if is_cancel_asked:
            return Next(JobState.CANCELLED, errors=errors, interruptions=interruptions + 1)
        if kind.is_repeatable and interruptions < len(INTERRUPTION_LADDER_S):
            wait_s = INTERRUPTION_LADDER_S[interruptions]
            return Next(JobState.QUEUED, wait_s, "interrupted", errors, interruptions + 1)
        return Next(JobState.FAILED, 0, "interrupted", errors, interruptions + 1)
    # error, and silent: whether a silent attempt did its work is not known, so only a repeatable kind tries again
    may_try = ending.how == "error" or kind.is_repeatable
    if may_try and errors < len(kind.ladder_s) and not is_cancel_asked:
        return Next(JobState.QUEUED, kind.ladder_s[errors], ending.how, errors + 1, interruptions)
    return Next(JobState.FAILED, 0, ending.how, errors + 1, interruptions)
