"""A recipient that cannot be reached is left alone for a while, and then tried by one delivery.

Rules. Failures count while they follow each other: one answer of any kind begins anew. At the limit the queue is held
for `hold_s`; after it one delivery goes as a probe, and its answer opens the queue or holds it again. How long a
recipient has been failing is kept too, for the rule that hands a queue over to a person.

Does not know: deliveries, rows.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Breaker:
    """failures: transport errors in a row. held_until: no delivery goes before; None while the queue flows.

    failing_since: the first failure of any kind after the last success; None: the last one was a success.
    """

    failures: int = 0
    held_until: datetime | None = None
    failing_since: datetime | None = None


def probe_only(breaker: Breaker, limit: int) -> bool:
    """Whether one delivery may go and no more."""
    return breaker.failures >= limit


def is_held(breaker: Breaker, now: datetime) -> bool:
    """Whether no delivery may go."""
    return breaker.held_until is not None and breaker.held_until > now


def probing(breaker: Breaker, now: datetime, lease_s: float) -> Breaker:
    """The breaker while its probe is under way: held until the probe's lease ends."""
    return replace(breaker, held_until=now + timedelta(seconds=lease_s))


def after_results(
    breaker: Breaker, results: Iterable[tuple[bool, bool]], *, limit: int, hold_s: float, now: datetime
) -> Breaker:
    """The breaker after results in their order: (was a success, was a transport error)."""
    failures, since = breaker.failures, breaker.failing_since
    answered = False
    for is_success, is_transport in results:
        failures = failures + 1 if is_transport else 0
        answered = answered or not is_transport
        since = None if is_success else (since or now)
    if failures >= limit:
        return Breaker(failures, now + timedelta(seconds=hold_s), since)
    return Breaker(failures, None if answered or failures else breaker.held_until, since)
