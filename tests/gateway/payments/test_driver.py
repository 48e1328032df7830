"""gateway.payments.driver: tasks end although a cancellation was lost."""

import asyncio

from gateway.payments.driver import end_tasks


def test_a_poll_that_lost_its_cancellation_ends_all_the_same():
    lost = []

    async def poll():
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if lost:
                    raise
                lost.append("once")

    async def story():
        polls = [asyncio.create_task(poll()), asyncio.create_task(asyncio.sleep(0))]
        await asyncio.sleep(0)
        await asyncio.wait_for(end_tasks(polls, again_s=0.01), 30)
        return [task.done() for task in polls]

    assert asyncio.run(story()) == [True, True]
    assert lost == ["once"]


def test_what_a_task_raised_does_not_reach_who_ends_it():
    async def fail():
        raise ValueError("no")

    async def story():
        task = asyncio.create_task(fail())
        await asyncio.sleep(0)
        await end_tasks([task])

    asyncio.run(story())
