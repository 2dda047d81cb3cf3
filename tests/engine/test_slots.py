"""The pool and its slots: what a kill would cost is never more than there are slots."""

from __future__ import annotations

import asyncio

import pytest
from tests.engine.test_pool import refused
from tests.virtual_clock import VirtualClock

from stacpull.engine.asset_transfer import TransferTools
from stacpull.engine.pool import JobQueue, OutcomeSink, Pool
from stacpull.models import Arrival, Failure, Job, Json
from stacpull.net.retry import RetryPolicy
from stacpull.net.transport import TransferError
from stacpull.planning.layout import arrival_of
from stacpull.sources.item_reader import ItemReader

JOBS = 60


def job(row: int) -> Job:
    return Job(row, 1, 0, "a", f"https://b.example/{row}", None, "c/i", f"{row}.tif")


class Disk(OutcomeSink[Job, Arrival]):
    """Origin, slow writer and publisher in one: counts what is between the first two."""

    def __init__(self, slots: int) -> None:
        super().__init__(slots)
        self.in_flight = 0
        self.unwritten: list[tuple[Job, Arrival]] = []
        self.most = 0
        self.done: list[int] = []
        self.failed: list[int] = []

    async def fetch(self, wanted: Job, *, count_refusal: bool) -> Arrival:
        self.in_flight += 1
        self._look()
        await asyncio.sleep(0.0005)
        self.in_flight -= 1
        if wanted.row % 7 == 0:
            raise TransferError(refused(404))
        return arrival_of(wanted, 1, "f", None, b"x")

    def put(self, job: Job, received: Arrival) -> None:
        self.unwritten.append((job, received))
        self._look()

    def fail(self, job: Job, _failure: Failure, _attempts: int) -> None:
        self.failed.append(job.row)

    def _look(self) -> None:
        self.most = max(self.most, self.in_flight + len(self.unwritten))

    async def write(self) -> None:
        """Write what waits, some at a time, slower than it comes in."""
        while len(self.done) + len(self.failed) < JOBS:
            await asyncio.sleep(0.002)
            batch, self.unwritten[:3] = self.unwritten[:3], []
            self.done += [one.row for one, _ in batch]
            self.free_slots(len(batch))


async def _never(_href: str) -> Json:
    raise AssertionError("no item is read here")


@pytest.mark.parametrize("workers", [1, 4, 16])
def test_assets_in_flight_and_unwritten_never_exceed_the_slots(workers: int) -> None:
    async def course() -> Disk:
        disk, clock = Disk(workers), VirtualClock()
        tools = TransferTools(disk, ItemReader(_never, clock), RetryPolicy(), clock, lambda _failure: None)
        queue = JobQueue[Job](JOBS)
        pool = Pool(queue, disk, tools)
        await queue.put([job(row) for row in range(1, JOBS + 1)])
        pool.no_more()
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            group.create_task(disk.write())
            await pool.run()
            assert disk.unwritten == []
        return disk

    disk = asyncio.run(course())
    assert disk.most == workers
    assert sorted(disk.done + disk.failed) == list(range(1, JOBS + 1))
