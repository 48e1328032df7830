"""Attempts on record, best effort: calls that changed no payment, written behind the caller's back.

Rules. A bounded buffer and one connection of its own: a flood of nonsense can neither slow payments nor fill memory;
what does not fit is counted and dropped. Conflicts do not come here: they are written with their batch.

Does not know: what the attempts mean.
"""

import asyncio
import logging
from collections import deque
from datetime import UTC, datetime
from typing import Final

import psycopg2

from gateway import metrics, store
from gateway.decide import Attempt
from gateway.driver import end_tasks
from gateway.lanes import Connection, CoreOptions, DatabaseAway, at_the_edge

log = logging.getLogger(__name__)

BUFFER_MAX: Final = 20_000
WRITE_MAX: Final = 1_000
PAUSE_S: Final = 0.2


class AttemptWriter:
    """Owns the buffer and the task that empties it."""

    def __init__(self, options: CoreOptions) -> None:
        self._connection = Connection(options)
        self._buffer: deque[tuple[datetime, Attempt]] = deque()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start writing on the running loop."""
        self._task = asyncio.create_task(self._run())

    def record(self, attempt: Attempt) -> None:
        """Remember an attempt, unless too many wait."""
        if len(self._buffer) >= BUFFER_MAX:
            metrics.ATTEMPTS_DROPPED.inc()
            return
        self._buffer.append((datetime.now(UTC), attempt))

    async def stop(self) -> None:
        """Write what waits, once, then close."""
        if self._task is not None:
            await end_tasks([self._task])
        while self._buffer and await self._write_some():
            pass
        await self._connection.discard()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(PAUSE_S)
            try:
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
            await at_the_edge(self._connection, lambda cur: store.insert_attempts(cur, taken))
        except DatabaseAway:
            self._buffer.extendleft(reversed(taken))
            return False
        except psycopg2.Error as error:
            log.error("attempts_not_written", extra={"count": len(taken), "error": str(error)})
            metrics.ATTEMPTS_DROPPED.inc(len(taken))
        return True
