"""Waiting in tests: generous, because the machine may be busy, and over as soon as what is waited for is there."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

#: Longest wait. It is no statement about speed: only a test that fails waits as long.
SOON_S = 30.0


async def until(happened: Callable[[], Awaitable[T] | T], what: str, pause_s: float = 0.02) -> T:
    """Ask again and again; the first answer that is true.

    Raises:
        AssertionError: none within SOON_S. what: the sentence of the failure.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + SOON_S
    while True:
        answer = happened()
        result: T = await answer if inspect.isawaitable(answer) else answer
        if result:
            return result
        if loop.time() > end:
            raise AssertionError(f"{what}; last answer: {result!r}")
        await asyncio.sleep(pause_s)
