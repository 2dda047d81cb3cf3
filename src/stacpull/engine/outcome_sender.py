"""Sends the outcomes of a pool to the store process, or from a worker to the first network process.

    received ─┬▶ small body ─▶ batch ────────────▶ message with bodies
              └▶ any other ──▶ thread: part file ─▶ message with names

The network process of a run and each worker process have an `OutcomeSender`. Its memory and files are
limited:

- Slots (`engine.pool.OutcomeSink`): an asset takes a slot of its process before it is fetched. The slot is
  free again when its bytes are on the disk as a complete part, when the store process has them, or when it
  has failed. So there are never more assets in transfer and in memory than slots.
- Bytes: a process sends no further batch while 4 MiB of bodies are unconfirmed. The first process passes on
  the bodies of its workers, so the first process has at most 4 MiB per worker.
- Complete parts: while too many wait to be published, no slot is assigned, and workers get no jobs.

So all processes wait for a slow disk or bucket.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from functools import partial
from math import inf

import msgspec

from stacpull.digests import digest_of
from stacpull.engine.messages import Arrivals
from stacpull.engine.pool import OutcomeSink
from stacpull.ledger.outcomes import AssetFailure, UnchangedAsset
from stacpull.models import Arrival, Checksum, Failure, FailureKind, Job
from stacpull.redact import Secrets
from stacpull.store.protocol import Store
from stacpull.store.staging import part_name_of
from stacpull.threads import to_its_end

LONGEST_SENT = 32 << 10
"""The most bytes of a body that is sent: copying a longer one takes longer than writing it here."""
MOST_UNDER_WAY = 4 << 20
"""Bytes of bodies that were sent and that the store process has not confirmed."""
_BATCH = 64
_BATCH_SIZE = 1 << 20
"""Bytes."""
_GATHER = 0.002
"""Seconds that a body waits for others: messages and wake-ups of a thread take system calls."""


class _ArrivalBatch(msgspec.Struct, eq=False):
    arrivals: list[Arrival] = []
    size: int = 0


class OutcomeSender(OutcomeSink[Job, Arrival | None]):
    """Sends the outcomes of a pool. Use it on one event loop.

    Bodies of more than `longest` bytes are written to `destination`. `on_broken` is called with the error if
    nothing can be written any more.
    """

    def __init__(
        self,
        destination: Store,
        send: Callable[[msgspec.Struct], None],
        secrets: Secrets,
        *,
        longest: int,
        checksum: str | None,
        on_broken: Callable[[BaseException], None],
        slots: int,
        most_unpublished: float = inf,
    ) -> None:
        super().__init__(slots, most_unpublished)
        self._destination = destination
        self._send_message = send
        self._secrets = secrets
        self._longest = longest
        self._checksum = None if checksum is None else Checksum(checksum, b"")
        self._on_broken = on_broken
        self._loop = asyncio.get_running_loop()
        self._batch = _ArrivalBatch()
        self._unsent: deque[_ArrivalBatch] = deque()
        self._under_way = 0
        self._on_written: deque[Callable[[int], None]] = deque()
        """Callbacks for the confirmations of messages with bodies, in their order."""
        self._long: list[Arrival] = []
        """Assets that the thread writes next."""
        self._writer = ThreadPoolExecutor(1, "stacpull-writer")
        self._writing: set[asyncio.Future[list[Arrival]]] = set()

    def put(self, job: Job, received: Arrival | None) -> None:
        """Take an asset that was received; None if it has not changed."""
        if received is None:
            self.send_unchanged(job)
            self.free_slots()
            return
        body = received.body
        if body is None or received.size > self._longest:
            # a copy, because it is changed there, and `engine.fetching` may still use it
            self._long.append(copy(received))
            if len(self._long) == 1:
                self._loop.call_later(_GATHER, self._write_long)
            return
        received.part = part_name_of(received)
        batch = self._batch
        batch.arrivals.append(received)
        batch.size += received.size
        if len(batch.arrivals) >= _BATCH or batch.size >= _BATCH_SIZE:
            self._end_batch()
        elif len(batch.arrivals) == 1:
            self._loop.call_later(_GATHER, self._end_batch)

    def fail(self, job: Job, failure: Failure, attempts: int) -> None:
        counted = 0 if failure.kind is FailureKind.ORDERED else attempts
        cut = failure.scrubbed(self._secrets)
        self._send_message(AssetFailure(job.row, job.item_row, job.generation, cut, counted))

    def send_unchanged(self, job: Job) -> None:
        self._send_message(UnchangedAsset(job.row, job.item_row, job.generation))

    def send(self, arrivals: list[Arrival], on_written: Callable[[int], None]) -> None:
        """Send assets at once: those of a batch, or those that a worker has received."""
        self.delivered(len(arrivals))
        if any(arrival.body is not None for arrival in arrivals):
            self._on_written.append(on_written)
        self._send_message(Arrivals(arrivals))

    def bodies_written(self, count: int) -> None:
        """Record that the store process has the `count` bodies of the oldest unconfirmed message."""
        self._on_written.popleft()(count)

    async def flush(self) -> None:
        """Write and send everything. Nothing may be added after that."""
        self._write_long()
        try:
            while self._writing:
                await asyncio.wait(self._writing)
        finally:
            await to_its_end(self._writer.shutdown)  # the descriptors of DEST are closed next
        self._end_batch()
        while self._unsent:
            self._send_next()

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

    def _send_next(self) -> None:
        batch = self._unsent.popleft()
        arrivals, batch.arrivals = batch.arrivals, []  # the bodies are not kept until they are confirmed
        self._under_way += batch.size
        self.send(arrivals, partial(self._batch_written, batch))

    def _batch_written(self, batch: _ArrivalBatch, count: int) -> None:
        self._under_way -= batch.size
        self.free_slots(count)
        self._send_some()

    # --- the thread for long bodies ----------------------------------------------------------------------

    def _write_long(self) -> None:
        long, self._long = self._long, []
        if long:
            writing = self._loop.run_in_executor(self._writer, self._write, long)
            self._writing.add(writing)
            writing.add_done_callback(self._send_written)

    def _write(self, arrivals: list[Arrival]) -> list[Arrival]:
        """Write bodies as complete parts, and name existing parts as such. Return the assets."""
        for arrival in arrivals:
            part, arrival.part = arrival.part, part_name_of(arrival)
            if arrival.body is not None:
                if self._checksum is not None:
                    arrival.digest = digest_of(self._checksum, arrival.body)
                arrival.identity = self._destination.staged.write_part(arrival.part, arrival.body)
                arrival.body = None
            elif part != arrival.part or not arrival.identity:  # the ETag, which is in the name, was escaped
                arrival.identity = self._destination.staged.rename_part(part, arrival.part)
        return arrivals

    def _send_written(self, writing: asyncio.Future[list[Arrival]]) -> None:
        self._writing.discard(writing)
        if (error := writing.exception()) is not None:
            self._on_broken(error)
            return
        arrivals = writing.result()
        self.send(arrivals, self.free_slots)  # without bodies, so nothing confirms it
        self.free_slots(len(arrivals))
