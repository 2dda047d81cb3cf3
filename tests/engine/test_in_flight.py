"""Slots: nothing is begun while the disk is behind, and no longer than that."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from stacpull.engine.pool import OutcomeSink
from stacpull.errors import DestinationError
from stacpull.models import Arrival, Failure, Job
from stacpull.store.local_store import LocalStore
from stacpull.store.writer_thread import WriterThread
from stacpull.transfer.arrival import arrival_of


def job(row: int) -> Job:
    return Job(row, 1, 0, "a", "https://b.example/a", None, "c/i", f"{row}.tif")


def arrival(row: int, size: int) -> Arrival:
    return arrival_of(job(row), size, "f", None, b"x" * size)


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


def test_many_tasks_with_few_slots_lose_nothing(tmp_path: Path) -> None:
    """A real thread writes: a task that waits is always woken."""
    destination = LocalStore(tmp_path)
    errors: list[BaseException] = []

    async def course() -> list[Arrival]:
        loop, flight, written = asyncio.get_running_loop(), Slots(2), list[Arrival]()

        def deliver(batch: list[Arrival]) -> None:
            written.extend(batch)
            loop.call_soon_threadsafe(flight.free_slots, len(batch))

        writer = WriterThread(destination, checksum="sha256", deliver=deliver, on_error=errors.append)

        async def put_some(task: int) -> None:
            for number in range(20):
                await flight.take_slots(1)
                writer.put(arrival(20 * task + number, number))

        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            for task in range(20):
                group.create_task(put_some(task))
        await asyncio.to_thread(writer.close)
        return written

    delivered = asyncio.run(course())
    assert sorted(one.row for one in delivered) == list(range(400))
    assert len(list(destination.staged.parts.iterdir())) == 400
    assert errors == []
    destination.close()


def test_a_writer_that_fails_reports_it_and_ends(tmp_path: Path) -> None:
    destination = LocalStore(tmp_path)
    errors: list[BaseException] = []
    delivered: list[Arrival] = []
    writer = WriterThread(destination, checksum="sha256", deliver=delivered.extend, on_error=errors.append)
    writer.put(arrival_of(job(1), 3, "f", None, "nowhere.whole"))
    writer._thread.join(timeout=10)
    writer.put(arrival(2, 1))
    writer.close()
    assert [type(error) for error in errors] == [DestinationError]
    assert delivered == []
    destination.close()
