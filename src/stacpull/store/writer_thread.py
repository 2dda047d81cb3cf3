"""A thread that writes as complete parts the bodies that are too long to be sent to the store process.

It takes up to 64 waiting bodies, computes digests, writes each body under its name, and passes the batch on.
A body is on disk a moment after it was received, so a kill only costs the transfers in flight.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue

from stacpull.digests import digest_of
from stacpull.models import Arrival, Checksum
from stacpull.store.complete_parts import part_name_of
from stacpull.store.protocol import Store

_BATCH = 64
_GATHER = 0.002
"""Seconds that the first body of a batch waits for others, because waking the thread also costs the loop."""


class WriterThread:
    """One thread that writes parts. It starts with the first one, and calls `deliver` and `on_error`.

    Args:
        destination: The store for the parts.
        checksum: Algorithm of the digest to compute; None for none.
        deliver: Called with each written batch.
        on_error: Called with an error that ends the thread.
    """

    def __init__(
        self,
        destination: Store,
        *,
        checksum: str | None,
        deliver: Callable[[list[Arrival]], None],
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._destination = destination
        self._checksum = checksum
        self._deliver = deliver
        self._on_error = on_error
        self._queue: SimpleQueue[Arrival | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="stacpull-writer", daemon=True)

    def put(self, arrival: Arrival) -> None:
        """Queue a received asset: the thread writes its body as a complete part, and changes `arrival`."""
        self._queue.put(arrival)
        if self._thread.ident is None:
            self._thread.start()

    def close(self) -> None:
        """Write the waiting bodies, then end the thread."""
        self._queue.put(None)
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            while (batch := self._next_batch()) is not None:
                staged = [(arrival, self._stage(arrival)) for arrival in batch]
                self._deliver([self._name(*written) for written in staged])
        except BaseException as error:  # noqa: BLE001 -- every error must end the run
            self._on_error(error)

    def _next_batch(self) -> list[Arrival] | None:
        """Wait for one body, and take up to `_BATCH` waiting ones; return None at the end."""
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

    def _stage(self, arrival: Arrival) -> str:
        """Write a body under the name of a complete part.

        Returns:
            The current name of the part.
        """
        part = arrival.part
        arrival.part = part_name_of(arrival)
        if arrival.body is None:
            if not part:
                raise ValueError("a received asset has neither body nor part")
            return part
        if self._checksum is not None:
            arrival.digest = digest_of(Checksum(self._checksum, b""), arrival.body)
        arrival.identity = self._destination.staged.write_part(arrival.part, arrival.body)
        arrival.body = None
        return arrival.part

    def _name(self, arrival: Arrival, staged: str) -> Arrival:
        """Give a part its name as a complete part.

        It may have another one, if its ETag, which is in the name, was escaped.
        """
        if staged != arrival.part or not arrival.identity:
            arrival.identity = self._destination.staged.rename_part(staged, arrival.part)
        return arrival
