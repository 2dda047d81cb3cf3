"""Assets in flight: the limits on those between a host and the ledger, and what is sent of one that came in.

- Slots: an asset takes a slot of its process before it is fetched. The slot is free again when its bytes are
  on the disk as a complete part, when the store process has them, or if it has failed. So assets that are
  being fetched, and those that wait in memory, are never more than there are slots.
- Bytes (`engine.part_sender`): a process has at most 4 MiB of bodies under way to the store process. The
  first process passes on those of its workers, so it holds no more than that for each. The store process
  takes no further bodies while it holds 64 MiB that are to be published (`store.buffered_parts`).
- Complete parts: while too many wait to be published, no slot is given, and no job to a worker.

So all processes wait for a slow disk or bucket.
"""

from __future__ import annotations

import asyncio

from stacpull.models import Arrival, Job, Received
from stacpull.planning.layout import final_name
from stacpull.store.complete_parts import complete_part_name

_MOST_UNPUBLISHED = 4096
"""Complete parts that may wait to be published."""


class InFlight:
    """The slots of a process: the base of what takes outcomes from a pool (`engine.pool.OutcomeSink`)."""

    def __init__(self, slots: int) -> None:
        """Make so many slots, all of them free."""
        self._slots = self._free = slots
        self._unpublished = 0
        self._changed = asyncio.Event()

    async def slots(self, most: int) -> int:
        """Wait until a slot is free; take `most` slots, or as many as are free, and return how many."""
        while self._free <= 0 or self._unpublished >= _MOST_UNPUBLISHED:
            self._changed.clear()
            await self._changed.wait()
        taken = min(most, self._free)
        self._free -= taken
        return taken

    def give_back(self, count: int = 1) -> None:
        """Free slots of assets that do not wait to be published: they failed, or have not changed."""
        self._free += count
        self._changed.set()

    def resize(self, slots: int) -> None:
        """Have so many slots from now on."""
        self.give_back(slots - self._slots)
        self._slots = slots

    def written(self, count: int) -> None:
        """Free the slots of assets that are on the disk now; they wait to be published."""
        self._unpublished += count
        self.give_back(count)

    def published(self, count: int) -> None:
        """Count assets that do not wait to be published any more."""
        self._unpublished -= count
        self._changed.set()

    async def may_continue(self) -> None:
        """Wait while too many complete parts wait to be published."""
        while self._unpublished >= _MOST_UNPUBLISHED:
            self._changed.clear()
            await self._changed.wait()


def arrival_of(job: Job, received: Received) -> Arrival:
    """Return an asset that came in as it is sent to the store process: its names are final now.

    Args:
        job: The job of the asset.
        received: The result of its transfer.
    """
    filename, (etag, modified) = received.filename, received.validator
    etag = modified if etag is None else etag  # as `Validator.kept`
    name, directory = job.name, job.directory
    if name is None:
        name = final_name(None, job.name_template, filename, directory)
    part = complete_part_name(
        job.row, job.generation, received.size, etag, filename, unproven=not received.verified
    )
    if etag is not None and not etag.isascii():  # it may not be valid Unicode
        etag = etag.encode("utf-8", "backslashreplace").decode()
    return Arrival(  # by position, for speed
        job.row,
        job.item_row,
        job.generation,
        directory,
        name,
        received.size,
        0,
        received.digest,
        etag,
        not received.verified,
        part,
        None if received.body is None else memoryview(received.body),
        source=received.source,
    )
