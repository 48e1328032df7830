"""Figures that many people look at: counted once in some seconds, whatever the number of readers.

Rules. What is being counted is counted once: those who ask meanwhile wait for the same answer. A failure is told to
all who waited and not kept. A key names everything that the figure depends on, rights included.

Does not know: what is counted.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final

#: Figures kept at once; the oldest go first.
MOST: Final = 500


class Figures:
    """The figures of one process."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._kept: dict[Hashable, tuple[float, asyncio.Task[Any]]] = {}

    async def get(self, key: Hashable, seconds: float, count: Callable[[], Awaitable[Any]]) -> Any:
        """The figure of a key: that of the last ``seconds``, or counted now.

        Raises:
            Exception: what ``count`` raises.
        """
        known = self._kept.get(key)
        if known is None or (known[1].done() and (known[0] <= self._now() or _failed(known[1]))):
            self._kept.pop(key, None)
            while len(self._kept) >= MOST:
                self._kept.pop(next(iter(self._kept)))
            known = (self._now() + seconds, asyncio.ensure_future(_counted(count)))
            self._kept[key] = known
        # Who goes away does not take the answer from the others.
        return await asyncio.shield(known[1])


def _failed(task: asyncio.Task[Any]) -> bool:
    return task.cancelled() or task.exception() is not None


async def _counted(count: Callable[[], Awaitable[Any]]) -> Any:
    return await count()
