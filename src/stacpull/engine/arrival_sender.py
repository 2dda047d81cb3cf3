"""Sends received assets to the store process, or from a worker to the first network process.

    received ─┬▶ small body ─▶ batch ────────────▶ message with bodies
              └▶ any other ──▶ thread: part file ─▶ message with names

The network process of a run and each worker process have an `ArrivalSender`. Its memory and files are
limited:

- Slots: an asset takes a slot of its process before it is fetched. The slot is free again when its bytes are
  on the disk as a complete part, when the store process has them, or when it has failed. So there are never
  more assets in transfer and in memory than slots.
- Bytes: a process sends no further batch while 4 MiB of bodies are unconfirmed. The first process passes on
  the bodies of its workers, so it has at most this much per worker. The store process accepts no further
  bodies while it has 64 MiB of unpublished ones (`store.buffered_parts`).
- Complete parts: while too many wait to be published, no slot is assigned, and workers get no jobs.

So all processes wait for a slow disk or bucket.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from copy import copy
from functools import partial
from typing import TypeVar

import msgspec

from stacpull.models import Arrival, HeldBody, Job
from stacpull.store.complete_parts import part_name_of
from stacpull.store.protocol import Store
from stacpull.store.writer_thread import WriterThread
from stacpull.threads import to_its_end

T = TypeVar("T")

_MOST_UNPUBLISHED = 4096
"""Complete parts that may wait to be published."""
LONGEST_TO_DIRECTORY = 32 << 10
"""The most bytes of a body that is sent: copying a longer one takes longer than writing it here. For a bucket
the limit is `LONGEST_HELD`, because the store process uploads it from memory."""
MOST_UNDER_WAY = 4 << 20
"""Bytes of bodies that were sent and that the store process has not confirmed."""
_BATCH = 64
_BATCH_SIZE = 1 << 20
"""Bytes."""
_GATHER = 0.002
"""Seconds that a body waits for others, because each message takes system calls of both processes."""


class _ArrivalBatch(msgspec.Struct, eq=False):
    """Assets that are sent in one message."""

    arrivals: list[Arrival] = []
    size: int = 0
    """Bytes."""
    on_taken: list[Callable[[], None]] = []
    """Called when the store process has it."""


class TransferSlots:
    """The slots of a process, for an `engine.pool.OutcomeSink`."""

    def __init__(self, slots: int) -> None:
        """Create `slots` free slots."""
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

    def free_slots(self, count: int = 1) -> None:
        """Free slots."""
        self._free += count
        self._changed.set()

    def resize(self, slots: int) -> None:
        """Set the number of slots."""
        self.free_slots(slots - self._slots)
        self._slots = slots

    def written(self, count: int) -> None:
        """Free the slots of assets that are on the disk. They wait to be published."""
        self._unpublished += count
        self.free_slots(count)

    def published(self, count: int) -> None:
        """Record that assets were published."""
        self._unpublished -= count
        self._changed.set()

    async def wait_for_publisher(self) -> None:
        """Wait while too many complete parts wait to be published."""
        while self._unpublished >= _MOST_UNPUBLISHED:
            self._changed.clear()
            await self._changed.wait()


class ArrivalSender(TransferSlots, ABC):
    """Takes the outcomes of a pool, and sends them on. Use it on one event loop.

    Args:
        slots: Assets that may be in flight.
        destination: The store for bodies that are not sent.
        longest: The most bytes of a body that is sent; longer ones are written.
        checksum: Algorithm of the digest to record; None for none.
        on_broken: Called with the error if nothing can be written any more.
        durable: True to sync each part before it gets its name.
    """

    def __init__(
        self,
        slots: int,
        destination: Store,
        *,
        longest: int,
        checksum: str | None,
        on_broken: Callable[[BaseException], None],
        durable: bool = False,
    ) -> None:
        super().__init__(slots)
        self._longest = longest
        self._loop = asyncio.get_running_loop()
        self._batch = _ArrivalBatch()
        self._unsent: deque[_ArrivalBatch] = deque()
        self._sent: deque[_ArrivalBatch] = deque()
        """The unconfirmed batches, without their assets."""
        self._under_way = 0
        self._nothing_unsent = asyncio.Event()
        self._writer = WriterThread(
            destination,
            checksum=checksum,
            deliver=partial(self._on_loop, self._send_names),
            on_error=partial(self._on_loop, on_broken),
            durable=durable,
        )

    @abstractmethod
    def send_arrivals(self, arrivals: list[Arrival]) -> None:
        """Send assets: all of them with their bodies, or none."""

    @abstractmethod
    def send_unchanged(self, job: Job) -> None:
        """Report an asset that has not changed."""

    def start_writer(self) -> None:
        """Start the thread that writes."""
        self._writer.start()

    def put(self, job: Job, arrival: Arrival | None) -> None:
        """Take an asset that was received; None if it has not changed."""
        if arrival is None:
            self.send_unchanged(job)
            self.free_slots()
            return
        body = arrival.body
        if body is None or arrival.size > self._longest:
            self._writer.put(copy(arrival))  # it is changed there, and `engine.sharing` may still use it
            return
        arrival.part = part_name_of(arrival)
        batch = self._batch
        batch.arrivals.append(arrival)
        batch.size += arrival.size
        if isinstance(body.obj, HeldBody):
            batch.on_taken.append(body.obj.on_taken)
        if len(batch.arrivals) >= _BATCH or batch.size >= _BATCH_SIZE:
            self._end_batch()
        elif len(batch.arrivals) == 1:
            self._loop.call_later(_GATHER, self._end_batch)

    def bodies_written(self, count: int) -> None:
        """Record that the store process has the next batch, with `count` assets."""
        batch = self._sent.popleft()
        self._under_way -= batch.size
        for taken in batch.on_taken:
            taken()
        self.written(count)
        self._send_some()

    async def all_sent(self) -> None:
        """Wait until all bodies are sent."""
        self._end_batch()
        while self._unsent:
            self._nothing_unsent.clear()
            await self._nothing_unsent.wait()

    async def flush(self) -> None:
        """Write and send everything. Nothing may be added after that."""
        await to_its_end(self._writer.close)
        self._end_batch()
        while self._unsent:
            self._send_next()

    def _on_loop(self, function: Callable[[T], None], value: T) -> None:
        """Call a function on the loop, from the writer's thread."""
        self._loop.call_soon_threadsafe(function, value)

    def _send_names(self, arrivals: list[Arrival]) -> None:
        self.send_arrivals(arrivals)
        self.written(len(arrivals))

    def _end_batch(self) -> None:
        if self._batch.arrivals:
            self._unsent.append(self._batch)
            self._batch = _ArrivalBatch()
            self._send_some()

    def _send_some(self) -> None:
        while self._unsent and (
            not self._under_way or self._under_way + self._unsent[0].size <= MOST_UNDER_WAY
        ):
            self._send_next()
        if not self._unsent:
            self._nothing_unsent.set()

    def _send_next(self) -> None:
        batch = self._unsent.popleft()
        arrivals, batch.arrivals = batch.arrivals, []
        self._sent.append(batch)
        self._under_way += batch.size
        self.send_arrivals(arrivals)
