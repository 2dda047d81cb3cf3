"""The intake: workers wait when the disk is behind, and never for longer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from stacpull.engine import intake as room
from stacpull.engine.intake import Backlog, Intake
from stacpull.errors import DestinationError
from stacpull.models import Failure, FailureKind, IncomingPart, Job, Received
from stacpull.store.destination import Destination
from stacpull.store.writer import BodyWriter


class Sink:
    """What stands for the store: it keeps what comes."""

    def __init__(self) -> None:
        self.put_in: list[tuple[Job, Received]] = []
        self.failures: list[tuple[Job, Failure, int]] = []
        self.unchanged: list[Job] = []

    def put(self, job: Job, received: Received) -> None:
        self.put_in.append((job, received))

    def confirm(self, job: Job) -> None:
        self.unchanged.append(job)

    def fail(self, job: Job, failure: Failure, attempts: int) -> None:
        self.failures.append((job, failure, attempts))


def job(row: int) -> Job:
    return Job(row, 1, 0, "a", "https://b.example/a", None, "c/i", f"{row}.tif")


def body(size: int) -> Received:
    return Received(size, None, "f", body=b"x" * size)


async def put_all(intake: Intake, count: int) -> None:
    for row in range(1, count + 1):
        await intake.slots(1)
        intake.put(job(row), body(1))


def test_no_slot_is_free_before_something_is_written() -> None:
    async def course() -> None:
        sink = Sink()
        intake = Intake(sink, Backlog(), slots=8)
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            putting = group.create_task(put_all(intake, 9))
            await asyncio.sleep(0.02)
            assert len(sink.put_in) == 8
            assert not putting.done()
            intake.written(1)
            await putting

    asyncio.run(course())


def test_an_asset_that_has_not_changed_frees_its_slot() -> None:
    async def course() -> None:
        sink = Sink()
        intake = Intake(sink, Backlog(), slots=1)
        for row in (1, 2):
            await asyncio.wait_for(intake.slots(1), 10)
            intake.put(job(row), Received(1, None, "f", unchanged=True))
        assert [one.row for one in sink.unchanged] == [1, 2]
        assert sink.put_in == []

    asyncio.run(course())


def test_an_asset_that_failed_frees_its_slot() -> None:
    async def course() -> None:
        sink = Sink()
        intake = Intake(sink, Backlog(), slots=1)
        await intake.slots(1)
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            waiting = group.create_task(intake.slots(1))
            await asyncio.sleep(0.02)
            assert not waiting.done()
            intake.give_back()
            intake.fail(job(1), Failure(FailureKind.GONE, "Gone."), 3)
            await waiting
        assert [(one.row, attempts) for one, _, attempts in sink.failures] == [(1, 3)]

    asyncio.run(course())


def test_no_slot_is_free_while_too_many_whole_parts_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_UNPUBLISHED", 3)

    async def course() -> None:
        backlog = Backlog()
        intake = Intake(Sink(), backlog, slots=100)
        await put_all(intake, 3)
        intake.written(3)
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            waiting = [group.create_task(intake.slots(1)) for _ in (4, 5)]
            await asyncio.sleep(0.02)
            assert not any(task.done() for task in waiting)
            backlog.published(1)
        assert all(task.done() for task in waiting)

    asyncio.run(course())


def test_a_worker_that_is_cancelled_while_it_waits_leaves_no_trace() -> None:
    async def course() -> None:
        intake = Intake(Sink(), Backlog(), slots=1)
        await put_all(intake, 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(intake.slots(1), 0.01)
        intake.written(1)
        async with asyncio.timeout(10):
            await intake.slots(1)

    asyncio.run(course())


def test_many_workers_through_a_narrow_intake_lose_nothing(tmp_path: Path) -> None:
    """A real thread writes: a worker that waits is always woken."""
    destination = Destination(tmp_path)
    errors: list[BaseException] = []

    async def course() -> list[IncomingPart]:
        loop, sink, written = asyncio.get_running_loop(), Sink(), list[IncomingPart]()
        intake = Intake(sink, Backlog(), slots=2)

        def deliver(batch: list[IncomingPart]) -> None:
            written.extend(batch)
            loop.call_soon_threadsafe(intake.written, len(batch))

        writer = BodyWriter(destination, checksum="sha256", deliver=deliver, on_error=errors.append)
        sink.put = writer.put  # type: ignore[method-assign]
        writer.start()
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            for worker in range(20):
                group.create_task(_put_some(intake, worker))
        await asyncio.to_thread(writer.close)
        return written

    delivered = asyncio.run(course())
    assert sorted(one.row for one in delivered) == list(range(400))
    assert len(list(destination.parts.iterdir())) == 400
    assert errors == []
    destination.close()


async def _put_some(intake: Intake, worker: int) -> None:
    for number in range(20):
        await intake.slots(1)
        intake.put(job(20 * worker + number), body(number))


def test_a_writer_that_fails_says_so_and_ends(tmp_path: Path) -> None:
    destination = Destination(tmp_path)
    errors: list[BaseException] = []
    delivered: list[IncomingPart] = []
    writer = BodyWriter(destination, checksum="sha256", deliver=delivered.extend, on_error=errors.append)
    missing = Received(3, None, "f", part=tmp_path / "nowhere.whole")
    writer.put(job(1), missing)
    writer.start()
    writer._thread.join(timeout=10)
    writer.put(job(2), body(1))
    writer.close()
    assert [type(error) for error in errors] == [DestinationError]
    assert delivered == []
    destination.close()
