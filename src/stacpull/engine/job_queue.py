"""The bounded queue between the producer and whoever transfers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from stacpull.engine.shares import BATCH, Shares
from stacpull.models import Job


class JobQueue(asyncio.Queue["Job | None"]):
    """The bounded queue of jobs, with a signal when something comes into it.

    It has one producer. `_init`, `_get` and `_put` are what asyncio has subclasses override.
    """

    on_put: Callable[[], None] = staticmethod(lambda: None)

    def waiting(self) -> int:
        """Return how many jobs there are: None comes behind the last one."""
        return 0 if not self._held or self._held[0] is None else len(self._held)

    def _init(self, maxsize: int) -> None:
        self._room = maxsize
        self._held: deque[Job | None] = deque()

    def _get(self) -> Job | None:
        return self._held.popleft()

    def _put(self, item: Job | None) -> None:
        self._held.append(item)
        self.on_put()

    async def put_all(self, jobs: Sequence[Job]) -> None:
        """Add jobs, as many at once as there is room for; wait for room for the others."""
        at = 0
        while at < len(jobs):
            await self.put(jobs[at])  # it waits for room, and wakes the task that waits for a job
            room = max(0, self._room - len(self._held))
            self._held.extend(islice(jobs, at + 1, at + 1 + room))
            at += 1 + room

    def get_nowait(self) -> Job | None:
        """Return the first one, as `asyncio.Queue.get_nowait`: the producer waits only while it is full."""
        if not self._held or len(self._held) >= self._room:
            return super().get_nowait()
        return self._held.popleft()

    def qsize(self) -> int:
        """Return how many members there are."""
        return len(self._held)

    def empty(self) -> bool:
        """Return True if there are none."""
        return not self._held


_DASK_WORKERS = 16
"""Workers for which the queue is long enough, where it is not known how many there will be."""


def job_queue(shares: Shares, *, dask: bool = False) -> JobQueue:
    """Return a queue that is long enough to keep all workers busy: with processes, some messages full."""
    workers = _DASK_WORKERS if dask else len(shares.workers)
    return JobQueue(2 * shares.own.slots + 4 * BATCH * workers)
