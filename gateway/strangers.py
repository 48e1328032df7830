"""What is kept of callers that proved nothing: little, and bounded, however many they are.

Rules. Of each kind of attempt a process keeps STRANGERS_PER_S a second in full, with a burst of STRANGERS_BURST. What
is over that becomes one attempt per partner, source address, reason and minute, with the number of its calls and the
text of the first; of those there are at most GROUPS_MAX a minute. What is over that too is counted by a metric alone.
A text is STRANGER_TEXT characters. The answer to a call that is not kept in full waits STRANGER_PAUSE_S: connections
are limited, so that limits what a flood costs, and a partner with a wrong password loses nothing by it.

Does not know: SQL, HTTP, what a stranger is (gateway.server says so).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from gateway import metrics
from gateway.decide import Attempt

#: Characters of a stranger's request that are kept.
STRANGER_TEXT: Final = 300
#: Attempts of a kind that a process keeps in full: in the long run, per second, and at once.
STRANGERS_PER_S: Final = 10.0
STRANGERS_BURST: Final = 100
#: How long the answer waits to a call that is over that.
STRANGER_PAUSE_S: Final = 0.5
#: Groups of calls that a process counts at once.
GROUPS_MAX: Final = 1_000
MINUTE_S: Final = 60.0

#: Makes the text of an attempt's request; called when it is written, not while the caller waits.
Text = Callable[[], str]


@dataclass(frozen=True, slots=True)
class Recorded:
    """An attempt on its way to the database: when it came, and how its text is made."""

    at: datetime
    attempt: Attempt
    text: Text | None = None


class TokenBucket:
    """Lets ``per_s`` through in the long run and ``burst`` at once. Times in seconds of any steady clock."""

    __slots__ = ("_at_s", "_burst", "_per_s", "_tokens")

    def __init__(self, per_s: float, burst: int, now_s: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._tokens = float(burst)
        self._at_s = now_s

    def take(self, now_s: float) -> bool:
        """Take a token if there is one.

        >>> bucket = TokenBucket(2.0, 1, 0.0)
        >>> [bucket.take(0.0), bucket.take(0.0), bucket.take(0.5)]
        [True, False, True]
        """
        self._tokens = min(self._tokens + (now_s - self._at_s) * self._per_s, self._burst)
        self._at_s = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class StrangerLimit:
    """Decides what is kept of strangers' calls, and counts the rest."""

    def __init__(self) -> None:
        self._buckets: dict[str, TokenBucket] = {}
        self._groups: dict[tuple[int | None, str, str], Recorded] = {}
        self._since_s = 0.0

    def admit(self, recorded: Recorded, now_s: float) -> Recorded | None:
        """The attempt when it is to be kept in full; None when it was counted instead."""
        attempt = recorded.attempt
        bucket = self._buckets.get(attempt.kind)
        if bucket is None:
            bucket = self._buckets[attempt.kind] = TokenBucket(STRANGERS_PER_S, STRANGERS_BURST, now_s)
        if bucket.take(now_s):
            return recorded
        metrics.STRANGERS_COUNTED.labels(attempt.kind).inc()
        if not self._groups:
            self._since_s = now_s
        key = (attempt.partner_id, attempt.remote_ip, attempt.reason.value)
        group = self._groups.get(key)
        if group is not None:
            counted = replace(group.attempt, calls=group.attempt.calls + 1)
            self._groups[key] = replace(group, attempt=counted)
        elif len(self._groups) < GROUPS_MAX:
            self._groups[key] = recorded
        return None

    def due(self, now_s: float, *, at_once: bool = False) -> list[Recorded]:
        """The groups, once a minute since the first of them has passed (or ``at_once``); they are forgotten here."""
        if not self._groups or not (at_once or now_s - self._since_s >= MINUTE_S):
            return []
        groups = list(self._groups.values())
        self._groups.clear()
        return groups
