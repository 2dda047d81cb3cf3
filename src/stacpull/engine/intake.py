"""The way from the workers to the disk: one slot for each asset that a kill would cost.

A worker takes a slot before it fetches, and the slot is free again when what came in lies on disk as a whole
part (or the asset has failed). So what is in flight and what waits in memory to be written are never more
than there are slots. Handing in costs no thread hop; slots run out only when the disk is behind, or when too
many whole parts wait to be published.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Protocol

from stacpull.models import Failure, Job, Received
from stacpull.store.writer import Arrived, BodyWriter

__all__ = ["Backlog", "Intake", "Publishes"]

_UNPUBLISHED = 4096
"""Whole parts that may wait for the publisher."""


class Publishes(Protocol):
    """Where outcomes go in the end (`engine.publisher.Publisher`); callable from any thread."""

    def deliver(self, batch: list[Arrived]) -> None:
        """Take whole parts."""
        ...

    def confirm(self, job: Job) -> None:
        """Take an asset of which the source said that it has not changed."""
        ...

    def fail(self, job: Job, failure: Failure, attempts: int) -> None:
        """Take an asset that failed for good."""
        ...


class Backlog:
    """Counts the whole parts that wait for the publisher, whoever wrote them."""

    def __init__(self) -> None:
        """Begin with none."""
        self._loop = asyncio.get_running_loop()
        self._caught_up = asyncio.Event()
        self._lock = threading.Lock()  # parts come from the writer's thread and from other processes
        self._written = 0
        self._published = 0  # counted on the publisher's thread

    @property
    def is_long(self) -> bool:
        """True if nothing more should come in for now."""
        return self._written - self._published >= _UNPUBLISHED

    def wrote(self, count: int) -> None:
        """Hear that `count` parts were written (on any thread)."""
        with self._lock:
            self._written += count

    def published(self, count: int) -> None:
        """Hear that `count` parts left the queue (on the publisher's thread)."""
        self._published += count
        if not self._caught_up.is_set():
            self._loop.call_soon_threadsafe(self._caught_up.set)

    async def bearable(self) -> None:
        """Wait until it is not long."""
        while self.is_long:
            self._caught_up.clear()
            if self.is_long:
                await self._caught_up.wait()


class Intake:
    """Counts what is between the workers and the ledger. `slot`, `put` and `fail` are called on the loop."""

    def __init__(self, publisher: Publishes, backlog: Backlog, *, slots: int) -> None:
        """Make an intake with so many slots."""
        self._publisher = publisher
        self._backlog = backlog
        self._free = slots
        self._freed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.writer: BodyWriter | None = None

    async def slots(self, most: int) -> int:
        """Take slots for the next assets as soon as one is free; return how many: `most`, or fewer."""
        while self._free <= 0 or self._backlog.is_long:
            if self._free <= 0:
                self._freed.clear()
                await self._freed.wait()
            else:
                await self._backlog.bearable()
        taken = min(most, self._free)
        self._free -= taken
        return taken

    def put(self, job: Job, received: Received) -> None:
        """Hand in an asset that came in whole; its slot is free when it is written."""
        if received.unchanged:
            self._publisher.confirm(job)
            self.give_back()
            return
        if self.writer is None:
            raise RuntimeError("the intake has no writer")
        self.writer.put(job, received)

    def fail(self, job: Job, failure: Failure, attempts: int) -> None:
        """Hand in an asset that failed for good; its slot was given back before, by `give_back`."""
        self._publisher.fail(job, failure, attempts)

    def give_back(self, count: int = 1) -> None:
        """Free the slots of assets of which nothing came in."""
        self._free += count
        self._freed.set()

    def deliver(self, batch: list[Arrived]) -> None:
        """Pass whole parts on to the publisher (on the writer's thread)."""
        self._backlog.wrote(len(batch))
        self._publisher.deliver(batch)
        self._loop.call_soon_threadsafe(self.give_back, len(batch))
