"""Limits how much may wait on the way of an asset from the network to its final name.

Three limits hold:

- Slots (`Intake`): assets that are received, or wait in the memory of this process. A transfer takes a slot
  before it begins. The slot is free again when the asset is a whole part on the disk, when the store process
  has its body, or when the asset has failed.
- Bytes (`engine.part_sender`): bodies that a process has sent and the store process does not have yet. The
  first process passes on the bodies of its workers, so it holds at most that much for each of them. The store
  process takes no more bodies while it holds 64 MiB that are not published (`store.held_parts`).
- Parts (`Backlog`): whole parts that wait to be published, whoever received them. While there are too many,
  the first process takes no slot, and gives no jobs to workers.

So a slow disk or bucket slows the transfers down, in all processes.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from stacpull.models import Failure, Job, Received

_UNPUBLISHED = 4096
"""Whole parts that may wait for the publisher."""


class Publishes(Protocol):
    """Where outcomes go (`engine.store_client.StoreClient`)."""

    def put(self, job: Job, received: Received) -> None:
        """Take what came in; `Intake.written` is called when it is safe from the end of this process."""
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
        self._caught_up = asyncio.Event()
        self._waiting = 0

    @property
    def is_long(self) -> bool:
        """True if nothing more should come in for now."""
        return self._waiting >= _UNPUBLISHED

    def wrote(self, count: int) -> None:
        """Add parts that were written."""
        self._waiting += count

    def published(self, count: int) -> None:
        """Subtract parts that do not wait any more."""
        self._waiting -= count
        self._caught_up.set()

    async def wait_until_short(self) -> None:
        """Wait until it is not long."""
        while self.is_long:
            self._caught_up.clear()
            await self._caught_up.wait()


class Intake:
    """Counts what is between the pool and the ledger."""

    def __init__(self, store: Publishes, backlog: Backlog, *, slots: int) -> None:
        """Make an intake with so many slots."""
        self._store = store
        self._backlog = backlog
        self._slots = self._free = slots
        self._freed = asyncio.Event()

    def resize(self, slots: int) -> None:
        """Have so many slots from now on."""
        self._free += slots - self._slots
        self._slots = slots
        self._freed.set()

    async def slots(self, most: int) -> int:
        """Take slots for the next assets as soon as one is free; return how many: `most`, or fewer."""
        while self._free <= 0 or self._backlog.is_long:
            if self._free <= 0:
                self._freed.clear()
                await self._freed.wait()
            else:
                await self._backlog.wait_until_short()
        taken = min(most, self._free)
        self._free -= taken
        return taken

    def put(self, job: Job, received: Received) -> None:
        """Hand in an asset that came in whole; its slot is free when it is written."""
        if received.unchanged:
            self._store.confirm(job)
            self.give_back()
            return
        self._store.put(job, received)

    def fail(self, job: Job, failure: Failure, attempts: int) -> None:
        """Hand in an asset that failed for good; its slot was given back before, by `give_back`."""
        self._store.fail(job, failure, attempts)

    def give_back(self, count: int = 1) -> None:
        """Free the slots of assets of which nothing came in."""
        self._free += count
        self._freed.set()

    def written(self, count: int) -> None:
        """Free the slots of so many assets: they are on the disk, and wait to be published."""
        self._backlog.wrote(count)
        self.give_back(count)
