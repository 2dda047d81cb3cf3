"""The queue of jobs: its producer waits for room, a pool for jobs, and workers for news."""

from __future__ import annotations

import asyncio

from stacpull.engine.pool import JobQueue
from stacpull.models import Job


def job(row: int) -> Job:
    return Job(row, 1, 0, "a", "https://b.example/a", None, "c/i", f"{row}.tif")


def test_the_queue_is_bounded_and_keeps_order() -> None:
    room = 128

    async def course() -> None:
        queue, jobs = JobQueue[Job](room), [job(row) for row in range(room + 5)]
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            adding = group.create_task(queue.put(jobs))
            await asyncio.sleep(0)
            assert (queue.waiting, adding.done()) == (room, False)
            assert queue.take(2) == jobs[:2]
            await asyncio.sleep(0.001)
            assert (queue.waiting, adding.done()) == (room, False)
            assert queue.take(3) == jobs[2:5]
            await adding
        assert queue.take(room + 1) == jobs[5:]
        assert queue.take(1) == []

    asyncio.run(course())


def test_a_pool_waits_for_jobs_or_the_end() -> None:
    async def course() -> None:
        queue = JobQueue[Job]()
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            for end in (False, True):
                waiting = group.create_task(queue.has_some())
                await asyncio.sleep(0.001)
                assert not waiting.done()
                if end:
                    queue.end()
                else:
                    await queue.put([job(1)])
                assert await waiting is not end
                queue.take(1)

    asyncio.run(course())


def test_the_last_jobs_are_taken_after_the_end_and_later_ones_are_dropped() -> None:
    async def course() -> None:
        queue = JobQueue[Job](1)
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            adding = group.create_task(queue.put([job(1), job(2)]))
            await asyncio.sleep(0)
            queue.end()
            await adding
        assert await queue.has_some()
        assert queue.take(3) == [job(1)]
        assert not await queue.has_some()

    asyncio.run(course())


def test_the_queue_signals_each_new_job_even_if_a_task_waits_for_it() -> None:
    async def course() -> None:
        queue = JobQueue[Job](2)
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            waiting = group.create_task(queue.has_some())
            await asyncio.sleep(0)
            await queue.put([job(1)])
            assert await waiting
        assert queue.news.is_set()
        queue.news.clear()
        await queue.put([job(2)])
        assert queue.news.is_set()

    asyncio.run(course())
