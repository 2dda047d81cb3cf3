"""The queue of jobs: it behaves like asyncio's, and signals new and waiting jobs."""

from __future__ import annotations

import asyncio

import pytest

from stacpull.engine.pool import job_queue
from stacpull.engine.shares import share_out
from stacpull.models import Job


def job(row: int) -> Job:
    return Job(row, 1, 0, "a", "https://b.example/a", None, "c/i", f"{row}.tif")


@pytest.mark.parametrize(("processes", "room"), [(1, 128), (2, 64 + 256)])
def test_the_queue_is_bounded_and_keeps_order(processes: int, room: int) -> None:
    queue = job_queue(share_out(processes, 64, 64))
    for row in range(room):
        assert (queue.qsize(), queue.waiting(), queue.full()) == (row, row, False)
        queue.put_nowait(job(row))
    assert queue.full()
    assert [queue.get_nowait() for _ in range(room)] == [job(row) for row in range(room)]
    assert queue.empty()


def test_the_end_mark_does_not_count_as_a_job() -> None:
    queue = job_queue(share_out(1, 64, 64))
    queue.put_nowait(job(1))
    queue.put_nowait(None)
    assert (queue.waiting(), queue.qsize()) == (2, 2)  # known only when it is its turn
    queue.get_nowait()
    assert (queue.waiting(), queue.qsize(), queue.empty()) == (0, 1, False)


def test_the_queue_signals_each_new_job_even_if_a_task_waits_for_it() -> None:
    async def course() -> None:
        queue = job_queue(share_out(1, 64, 64))
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            taking = group.create_task(queue.get())
            await asyncio.sleep(0)
            await queue.put(job(1))
        assert taking.result() == job(1)
        assert queue.news.is_set()
        queue.news.clear()
        await queue.put(job(2))
        assert queue.news.is_set()

    asyncio.run(course())
