"""web.site.figures: counted once in its seconds, by whom there are many; a failure is told and not kept."""

import asyncio

import pytest

from web.site.figures import MOST, Figures


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_many_who_ask_are_one_count_until_its_seconds_are_over() -> None:
    clock, counts = Clock(), []

    async def count() -> int:
        await asyncio.sleep(0)
        counts.append(1)
        return len(counts)

    async def story() -> None:
        figures = Figures(clock)
        assert await asyncio.gather(*(figures.get("a", 10, count) for _ in range(20))) == [1] * 20
        clock.now += 9
        assert await figures.get("a", 10, count) == 1
        assert await figures.get("b", 10, count) == 2
        clock.now += 2
        assert await figures.get("a", 10, count) == 3

    asyncio.run(story())


def test_a_failure_is_told_to_all_who_wait_and_counted_again_by_the_next() -> None:
    tries = []

    async def count() -> int:
        tries.append(1)
        await asyncio.sleep(0)
        if len(tries) == 1:
            raise TimeoutError
        return 7

    async def story() -> None:
        figures = Figures()
        told = await asyncio.gather(*(figures.get("a", 10, count) for _ in range(3)), return_exceptions=True)
        assert [type(error) for error in told] == [TimeoutError] * 3
        assert await figures.get("a", 10, count) == 7
        assert len(tries) == 2

    asyncio.run(story())


def test_one_who_goes_away_leaves_the_others_their_figure() -> None:
    async def count() -> int:
        await asyncio.sleep(0.01)
        return 7

    async def story() -> None:
        figures = Figures()
        gone = asyncio.ensure_future(figures.get("a", 10, count))
        stays = asyncio.ensure_future(figures.get("a", 10, count))
        await asyncio.sleep(0)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert await stays == 7

    asyncio.run(story())


def test_no_more_than_most_are_kept() -> None:
    async def story() -> None:
        figures, counts = Figures(), []

        async def count() -> None:
            counts.append(1)

        for key in [*range(MOST + 1), 0, MOST]:
            await figures.get(key, 10, count)
        assert len(counts) == MOST + 2

    asyncio.run(story())
