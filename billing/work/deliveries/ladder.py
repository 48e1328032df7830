"""When a delivery is tried again: waits as data, moved a little by its key.

Rules. A wait is counted from the start of the try before it. The first waits are listed; after the last one every
further wait is `then_s`, or there is none and the ladder ends. No try is later than `stop_s` after the first one.
Jitter is the same for the same key and step, so a schedule can be computed by whoever asks.

Does not know: what is delivered, clocks.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

#: Steps of jitter: parts per million of a wait.
_MILLION: Final = 1_000_000
#: Longest Retry-After that is honoured.
RETRY_AFTER_MAX_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Ladder:
    """waits_s: seconds after the first, second, ... try. then_s: after all later ones; None: there are none.

    stop_s: longest time from the first try to the last. jitter_percent: how far a wait is moved, either way.
    """

    waits_s: tuple[int, ...]
    then_s: int | None
    stop_s: int
    jitter_percent: int = 20

    def __post_init__(self) -> None:
        if (
            not all(wait > 0 for wait in self.waits_s)
            or self.stop_s < 0
            or (self.then_s is not None and self.then_s < 1)
        ):
            raise ValueError("waits are seconds, 1 or more")
        if not 0 <= self.jitter_percent < 100:
            raise ValueError("jitter is 0 to 99 percent")


#: retry.md, section 5: 1, 2, 5, 10, 15, 30, 60 minutes, then each hour, for 72 hours.
STANDARD_LADDER: Final = Ladder((60, 120, 300, 600, 900, 1_800, 3_600), 3_600, 72 * 3_600)
#: Standard Webhooks 1.0.0: ten tries, the last 75:35:05 after the first.
WEBHOOK_LADDER: Final = Ladder(
    (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400), None, 4 * 86_400, jitter_percent=10
)


def wait_s(ladder: Ladder, step: int, key: str) -> float | None:
    """Seconds from the try with number ``step`` (the first is 1) to the next one; None: there is no next one.

    >>> [wait_s(Ladder((60, 120), 300, 900, 0), step, "k") for step in (1, 2, 3, 9)]
    [60.0, 120.0, 300.0, 300.0]
    """
    listed = ladder.waits_s
    plain = listed[step - 1] if step <= len(listed) else ladder.then_s
    return None if plain is None else plain * _factor(ladder.jitter_percent, step, key)


def next_due(
    ladder: Ladder,
    step: int,
    key: str,
    *,
    first_at: datetime,
    tried_at: datetime,
    now: datetime,
    retry_after_s: float | None,
) -> datetime | None:
    """When a delivery is tried again whose try ``step`` began at ``tried_at``; None: its time is over.

    retry_after_s: what the receiver asked for; it only makes a wait longer. Never before ``now``.
    """
    wait = wait_s(ladder, step, key)
    if wait is None:
        return None
    due = max(tried_at + timedelta(seconds=wait), now)
    if retry_after_s is not None:
        due = max(due, now + timedelta(seconds=min(max(retry_after_s, 0), RETRY_AFTER_MAX_S)))
    return due if due <= first_at + timedelta(seconds=ladder.stop_s) else None


def _factor(jitter_percent: int, step: int, key: str) -> float:
    if not jitter_percent:
        return 1.0
    drawn = int.from_bytes(hashlib.sha256(f"{step}:{key}".encode()).digest()[:8], "big") % (2 * _MILLION + 1)
    return 1 + jitter_percent / 100 * (drawn - _MILLION) / _MILLION
