"""Slots: nothing is begun while the disk is behind, and no longer than that."""

from __future__ import annotations

import asyncio

import pytest

from stacpull.engine.pool import OutcomeSink
from stacpull.models import Arrival, Failure, Job


class Slots(OutcomeSink[Job, Arrival]):
    """A sink that gets no outcomes."""

    def put(self, job: Job, received: Arrival) -> None:
        raise AssertionError(job, received)

    def fail(self, job: Job, failure: Failure, attempts: int) -> None:
        raise AssertionError(job, failure, attempts)


async def take(flight: Slots, count: int) -> None:
    for _ in range(count):
        await flight.take_slots(1)


def test_no_slot_is_free_before_one_is_given_back() -> None:
    async def course() -> None:
        flight = Slots(8)
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            await take(flight, 8)
            waiting = group.create_task(take(flight, 1))
            await asyncio.sleep(0.02)
            assert not waiting.done()
            flight.free_slots()
            await waiting

    asyncio.run(course())


def test_as_many_slots_are_taken_as_are_free() -> None:
    async def course() -> None:
        flight = Slots(5)
        assert [await flight.take_slots(3), await flight.take_slots(3)] == [3, 2]
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            waiting = group.create_task(flight.all_slots_free())
            for _ in range(5):
                await asyncio.sleep(0.001)
                assert not waiting.done()
                flight.free_slots()

    asyncio.run(course())


def test_no_slot_is_free_while_too_many_complete_parts_wait() -> None:
    async def course() -> None:
        flight = Slots(100, most_unpublished=3)
        await take(flight, 3)
        flight.delivered(3)
        flight.free_slots(3)
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            waiting = [group.create_task(flight.take_slots(1)) for _ in (4, 5)]
            waiting.append(group.create_task(flight.wait_for_publisher()))
            await asyncio.sleep(0.02)
            assert not any(task.done() for task in waiting)
            flight.published(1)
        assert all(task.done() for task in waiting)

    asyncio.run(course())


def test_a_task_that_is_cancelled_while_it_waits_takes_no_slot() -> None:
    async def course() -> None:
        flight = Slots(1)
        await flight.take_slots(1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(flight.take_slots(1), 0.01)
        flight.free_slots()
        async with asyncio.timeout(10):
            await flight.take_slots(1)

    asyncio.run(course())
