"""Attempts on record, best effort: calls that changed no payment, written behind the caller's back.

Rules. A bounded buffer and one connection of its own: a flood of nonsense can neither slow payments nor fill memory;
what does not fit is counted and dropped. Texts are made here, when an attempt is written, a few at a time, so that a
flood's scrubbing never delays the answer to a payer. Card numbers are masked wherever they stand, unless they are the
number of an account we have. Conflicts do not come here: they are written with their batch.

Does not know: what the attempts mean, which callers are strangers.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import psycopg2

from adapters.cards import card_numbers, mask_cards
from gateway import metrics, store
from gateway.decide import Attempt
from gateway.driver import end_tasks
from gateway.lanes import Connection, CoreOptions, DatabaseAway, at_the_edge
from gateway.strangers import Recorded, StrangerLimit, Text

log = logging.getLogger(__name__)

BUFFER_MAX: Final = 20_000
WRITE_MAX: Final = 1_000
PAUSE_S: Final = 0.2
#: Texts made before the loop's other work has its turn.
TEXTS_AT_ONCE: Final = 20
#: Kinds whose key is a payment's or may become one: it is kept to the letter, whatever it looks like.
_KEYED: Final = frozenset({"call", "repeat", "refusal", "conflict", "overload"})


class AttemptWriter:
    """Owns the buffer and the task that empties it."""

    def __init__(self, options: CoreOptions) -> None:
        self._connection = Connection(options)
        self._buffer: deque[Recorded] = deque()
        self._strangers = StrangerLimit()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start writing on the running loop."""
        self._task = asyncio.create_task(self._run())

    def record(self, attempt: Attempt, text: Text | None = None) -> None:
        """Remember an attempt, unless too many wait. text: makes what is kept of its request."""
        self._keep(Recorded(datetime.now(UTC), attempt, text))

    def record_stranger(self, attempt: Attempt, text: Text | None = None) -> bool:
        """The same for a call of a caller that proved nothing: within the limits of gateway.strangers.

        False: it is over them, and was counted.
        """
        recorded = self._strangers.admit(Recorded(datetime.now(UTC), attempt, text), _steady_s())
        if recorded is not None:
            self._keep(recorded)
        return recorded is not None

    async def stop(self) -> None:
        """Write what waits, once, then close."""
        if self._task is not None:
            await end_tasks([self._task])
        self._take_strangers(at_once=True)
        while self._buffer and await self._write_some():
            pass
        await self._connection.discard()

    def _keep(self, recorded: Recorded) -> None:
        if len(self._buffer) >= BUFFER_MAX:
            metrics.ATTEMPTS_DROPPED.inc(recorded.attempt.calls)
            return
        self._buffer.append(recorded)

    def _take_strangers(self, *, at_once: bool = False) -> None:
        for group in self._strangers.due(_steady_s(), at_once=at_once):
            self._keep(group)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(PAUSE_S)
            try:
                self._take_strangers()
                while len(self._buffer) >= WRITE_MAX and await self._write_some():
                    pass
                if self._buffer:
                    await self._write_some()
            except Exception:
                # Losing some attempts is allowed; losing the task that writes them is not.
                log.exception("attempts_not_written")

    async def _write_some(self) -> bool:
        taken = [self._buffer.popleft() for _ in range(min(len(self._buffer), WRITE_MAX))]
        try:
            rows = await self._with_texts(taken)
        except asyncio.CancelledError:
            self._buffer.extendleft(reversed(taken))
            raise
        try:
            known = await self._known_numbers([attempt for _, attempt in rows])
            rows = [(at, _masked(attempt, known)) for at, attempt in rows]
            await at_the_edge(self._connection, lambda cur: store.insert_attempts(cur, rows))
        except DatabaseAway:
            self._buffer.extendleft(reversed(taken))
            return False
        except psycopg2.Error as error:
            log.error("attempts_not_written", extra={"count": len(taken), "error": str(error)})
            metrics.ATTEMPTS_DROPPED.inc(len(taken))
        return True

    async def _with_texts(self, taken: Sequence[Recorded]) -> list[tuple[datetime, Attempt]]:
        rows = []
        for number, recorded in enumerate(taken):
            if number % TEXTS_AT_ONCE == 0:
                await asyncio.sleep(0)
            attempt = recorded.attempt
            if recorded.text is not None:
                attempt = replace(attempt, request_text=recorded.text())
            rows.append((recorded.at, attempt))
        return rows

    async def _known_numbers(self, attempts: Sequence[Attempt]) -> set[str]:
        """Of all that look like a card's number: those that are an account's."""
        cards: set[str] = set()
        for attempt in attempts:
            cards |= card_numbers(attempt.account_number) | card_numbers(attempt.request_text)
        if not cards:
            return set()
        return await at_the_edge(self._connection, lambda cur: store.known_numbers(cur, sorted(cards)))


def _masked(attempt: Attempt, known: set[str]) -> Attempt:
    key = attempt.key
    if attempt.kind in _KEYED:
        known = known | {key}
    else:
        key = mask_cards(key, known)
    return replace(
        attempt,
        key=key,
        account_number=mask_cards(attempt.account_number, known),
        request_text=mask_cards(attempt.request_text, known),
    )


def _steady_s() -> float:
    return asyncio.get_running_loop().time()
