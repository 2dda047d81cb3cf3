"""A thread that writes bodies which are too long to be sent to the store process, each as a whole part.

It takes whatever has gathered, computes sha256, writes each body under its name, and passes the batch on. A
body is on disk a moment after it came in, so a kill costs what is in flight and no more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue

from msgspec.structs import replace

from stacpull.digests import digest_of
from stacpull.models import Checksum, IncomingPart, Job, Received, incoming_part
from stacpull.store.protocol import Store
from stacpull.store.complete_parts import complete_part_name

_WrittenPart = tuple[IncomingPart, str]
"""A whole part, and the name that it has now."""
_BATCH = 64
_GATHER = 0.002
"""Seconds that the first body of a batch waits for others: each waking of the thread costs the loop too."""


class BodyWriter:
    """One thread that writes parts. `deliver` and `on_error` are called on that thread.

    Args:
        destination: Where they are written.
        checksum: Algorithm of the digest to compute; None: none.
        deliver: Called with each batch that is written.
        on_error: Called with what ends the thread early.
        durable: True to sync each part before it gets its name.
    """

    def __init__(
        self,
        destination: Store,
        *,
        checksum: str | None,
        deliver: Callable[[list[IncomingPart]], None],
        on_error: Callable[[BaseException], None],
        durable: bool = False,
    ) -> None:
        self._durable = durable
        self._destination = destination
        self._checksum = checksum
        self._deliver = deliver
        self._on_error = on_error
        self._queue: SimpleQueue[tuple[Job, Received] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="stacpull-writer", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, job: Job, received: Received) -> None:
        """Hand over a received asset; returns at once."""
        self._queue.put((job, received))

    def close(self) -> None:
        """Write what is there, then end the thread."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while (batch := self._next_batch()) is not None:
                staged = [self._stage(job, received) for job, received in batch]
                if self._durable:
                    self._destination.sync_parts([name for _, name in staged if name])
                self._deliver([self._named(*one) for one in staged])
        except BaseException as error:  # noqa: BLE001 -- the run must hear of it, whatever it is
            self._on_error(error)

    def _next_batch(self) -> list[tuple[Job, Received]] | None:
        """Wait for one body, take up to `_BATCH` that are there; None at the end."""
        first = self._queue.get()
        if first is None:
            return None
        time.sleep(_GATHER)
        batch = [first]
        while len(batch) < _BATCH:
            try:
                more = self._queue.get_nowait()
            except Empty:
                break
            if more is None:
                self._queue.put(None)
                break
            batch.append(more)
        return batch

    def _stage(self, job: Job, received: Received) -> _WrittenPart:
        """Write a body: under its final name, unless it must be durable before it has that.

        What the service of DEST copies has no part: its name is empty.
        """
        if received.source is not None:
            return incoming_part(job, received, sha256=received.digest), ""
        name = complete_part_name(
            job.row,
            job.generation,
            received.size,
            received.validator.kept,
            received.filename,
            unproven=not received.verified,
        )
        if received.body is None:
            part = incoming_part(job, received, part=name, sha256=received.digest)
            return part, _part_name(received.part)
        sha256 = received.digest
        if self._checksum is not None:
            sha256 = digest_of(Checksum(self._checksum, b""), received.body)
        staged = f"{job.row}.{job.generation}.tmp" if self._durable else name
        identity = self._destination.write_part(staged, received.body)
        return incoming_part(job, received, part=name, identity=identity, sha256=sha256), staged

    def _named(self, part: IncomingPart, staged: str) -> IncomingPart:
        if staged and (staged != part.part or not part.identity):
            return replace(part, identity=self._destination.rename_part(staged, part.part))
        return part


def _part_name(part: Path | None) -> str:
    if part is None:
        raise ValueError("a received asset has neither body nor part")
    return part.name
