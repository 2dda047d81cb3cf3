"""Where workers hand in what they received: writer thread, then publisher, with a bound on what waits.

Handing in costs no thread hop. A worker waits only when the disk is behind: when too much lies in memory
unwritten (a kill would lose it), or too many whole parts wait to be published.
"""

from __future__ import annotations

import asyncio

from stacpull.engine.publisher import Publisher
from stacpull.models import Failure, Job, Received
from stacpull.store.writer import Arrived, BodyWriter

__all__ = ["Intake"]

_UNWRITTEN_BYTES = 32 * 1024 * 1024
_UNPUBLISHED = 4096
"""Whole parts that may wait for the publisher."""


class Intake:
    """Counts what is between the workers and the ledger. `put` and `fail` are called on the loop."""

    def __init__(self, publisher: Publisher, *, unwritten: int) -> None:
        """Make an intake.

        Args:
            publisher: Takes whole parts and failures.
            unwritten: How many bodies may lie in memory unwritten: with those in flight, what a kill costs.
        """
        self._publisher = publisher
        self._most_unwritten = unwritten
        self._loop = asyncio.get_running_loop()
        self._room = asyncio.Event()
        self._waiting = 0
        self._handed = self._written = self._published = 0
        self._handed_bytes = self._written_bytes = 0
        self.writer: BodyWriter | None = None

    async def put(self, job: Job, received: Received) -> None:
        """Hand in an asset that came in whole."""
        while self._is_full():
            self._waiting += 1
            self._room.clear()
            try:
                if self._is_full():
                    await self._room.wait()
            finally:
                self._waiting -= 1
        self._handed += 1
        self._handed_bytes += received.size if received.body is not None else 0
        if self.writer is None:
            raise RuntimeError("the intake has no writer")
        self.writer.put(job, received)

    def fail(self, job: Job, failure: Failure, attempts: int) -> None:
        """Hand in an asset that failed for good."""
        self._publisher.fail(job, failure, attempts)

    def deliver(self, batch: list[Arrived]) -> None:
        """Pass whole parts on to the publisher (on the writer's thread)."""
        self._written += len(batch)
        self._written_bytes += sum(r.size for _, r, _ in batch if r.body is not None)
        self._publisher.deliver(batch)
        self._wake()

    def published(self, count: int) -> None:
        """Hear that `count` parts left the queue (on the publisher's thread)."""
        self._published += count
        self._wake()

    def _is_full(self) -> bool:
        return (
            self._handed - self._written >= self._most_unwritten
            or self._handed_bytes - self._written_bytes >= _UNWRITTEN_BYTES
            or self._written - self._published >= _UNPUBLISHED
        )

    def _wake(self) -> None:
        if self._waiting:
            self._loop.call_soon_threadsafe(self._room.set)
