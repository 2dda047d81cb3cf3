"""The pool takes jobs from the bounded queue, fetches them, and passes on their outcomes.

The fast path takes the jobs that it can; the others become tasks. The last types here describe what may
transfer the assets in place of the pool: the entry points `stacpull.workers`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol

from stacpull.engine.asset_transfer import AssetTransfer, JobT, ResultT, TransferTools
from stacpull.hosts import MOST_HOSTS
from stacpull.models import Arrival, Failure, FailureKind, Job
from stacpull.net.gate import MAX_REFUSALS
from stacpull.transfer.attempt import AssetFetcher

if TYPE_CHECKING:
    from stacpull.config.options import Options
    from stacpull.engine.fast_path import FastPath
    from stacpull.engine.network import Network
    from stacpull.engine.store_client import OutcomeSender
    from stacpull.events import Listener
    from stacpull.selection import Selection

_NO_FAULT = frozenset({FailureKind.ORDERED, FailureKind.OUTSIDE})
"""Kinds that do not count as failures (`--max-failures`)."""
_MAY_BE_OF_HOST = frozenset({FailureKind.REFUSED, FailureKind.NETWORK, FailureKind.STALLED})


class JobQueue(Generic[JobT]):
    """The jobs that wait for a pool, or for the workers beside it. A full queue makes its producer wait."""

    def __init__(self, room: float = inf) -> None:
        self._room = room
        self._jobs: deque[JobT] = deque()
        self._has_ended = False
        self._changed = asyncio.Event()
        self.news = asyncio.Event()
        """Set when jobs are added. Whoever waits for it clears it."""

    @property
    def waiting(self) -> int:
        return len(self._jobs)

    async def put(self, jobs: Sequence[JobT]) -> None:
        at = 0
        while at < len(jobs) and not self._has_ended:
            if len(self._jobs) >= self._room:
                await self._change()
                continue
            end = int(min(len(jobs), at + self._room - len(self._jobs)))
            self._jobs.extend(jobs[at:end])
            at = end
            self.news.set()
            self._changed.set()

    async def has_some(self) -> bool:
        while not self._jobs and not self._has_ended:
            await self._change()
        return bool(self._jobs)

    def take(self, most: int) -> list[JobT]:
        jobs = self._jobs
        taken = [jobs.popleft() for _ in range(min(most, len(jobs)))]
        self._changed.set()
        return taken

    def end(self) -> None:
        """End the queue: jobs that are added later are dropped."""
        self._has_ended = True
        self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


class OutcomeSink(ABC, Generic[JobT, ResultT]):
    """Takes the outcomes of a pool, and has the slots of the process: each job that is begun takes one.

    No slot is taken while `most_unpublished` complete parts wait to be published.
    """

    def __init__(self, slots: int, most_unpublished: float = inf) -> None:
        self._slots = self._free = slots
        self._most_unpublished = most_unpublished
        self._unpublished = 0
        self._changed = asyncio.Event()

    @abstractmethod
    def put(self, job: JobT, received: ResultT) -> None:
        """Take a received asset, and free its slot when it is on the disk."""

    @abstractmethod
    def fail(self, job: JobT, failure: Failure, attempts: int) -> None:
        """Take a final failure, whose slot was already freed."""

    async def take_slots(self, most: int) -> int:
        """Wait until a slot is free; take `most` slots, or as many as are free, and return how many."""
        while self._free <= 0 or self._unpublished >= self._most_unpublished:
            await self._change()
        taken = min(most, self._free)
        self._free -= taken
        return taken

    def free_slots(self, count: int = 1) -> None:
        self._free += count
        self._changed.set()

    async def all_slots_free(self) -> None:
        """Wait until all slots are free: each job that was begun has an outcome, which is safe."""
        while self._free < self._slots:
            await self._change()

    def delivered(self, count: int) -> None:
        self._unpublished += count

    def published(self, count: int) -> None:
        self._unpublished -= count
        self._changed.set()

    async def wait_for_publisher(self) -> None:
        while self._unpublished >= self._most_unpublished:
            await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()


class Pool(Generic[JobT, ResultT]):
    def __init__(
        self,
        queue: JobQueue[JobT],
        sink: OutcomeSink[JobT, ResultT],
        tools: TransferTools[JobT, ResultT],
        *,
        most_deferred: int = MAX_REFUSALS - 1,
        count_failures: Callable[[int], bool] = lambda _: False,
        fast: FastPath | None = None,
    ) -> None:
        self._queue = queue
        self.sink = sink
        self._tools = tools
        self._stopping = False
        self._failures: DeferredFailures[JobT] = DeferredFailures(sink.fail, most_deferred, count_failures)
        self._fast = fast
        self._group = asyncio.TaskGroup()

    @property
    def given_up_hosts(self) -> Mapping[str, str]:
        """The hosts that were given up, and why; their assets stay pending."""
        return self._failures.given_up_hosts

    async def run(self) -> None:
        try:
            async with self._group:
                while await self._queue.has_some():
                    slots = await self.sink.take_slots(self._queue.waiting)
                    jobs = self._queue.take(slots)  # workers may have taken some meanwhile
                    self.sink.free_slots(slots - len(jobs))
                    for job in jobs:
                        # only the pool of a mirror has a fast path
                        if self._fast is None or not self._fast.begin(job, self):  # type: ignore[arg-type]
                            self.fetch(job)
                await self.sink.all_slots_free()
        finally:
            if self._fast is not None:
                self._fast.close()
        if not self._stopping:
            self._failures.report_all()

    def no_more(self) -> None:
        self._queue.end()

    def stop(self) -> None:
        """Take no further jobs. Transfers in flight continue. Jobs in the queue stay pending."""
        self._stopping = True
        self._queue.take(self._queue.waiting)
        self._queue.end()

    def fail(self, job: JobT, failure: Failure, attempts: int) -> None:
        self._failures.fail(job, failure, attempts)

    def fetch(self, job: JobT, first: AssetFetcher[JobT, ResultT] | None = None, since: float = 0.0) -> None:
        """Fetch an asset by the general path; `first` completes an attempt that was started at `since`."""

        async def run() -> None:
            transfer = AssetTransfer(job, self._tools, first, since)
            outcome = await transfer.run()
            if isinstance(outcome, Failure):
                self.sink.free_slots()
                self.fail(transfer.job, outcome, transfer.attempts)
            else:
                self.sink.put(transfer.job, outcome)

        self.spawn(run())

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` as a task of this pool, unless the run is ending because of an error."""
        try:
            self._group.create_task(work)
        except RuntimeError:  # the group takes no more tasks
            work.close()


class DeferredFailures(Generic[JobT]):
    """Defers failures that the host may have caused, and drops them if the host is down.

    A host that refuses everything or does not respond proves nothing about its assets, which stay pending.
    `count` gets 1 for each failed asset, and -N when N deferred ones are dropped. If it returns True, the run
    stops, and nothing is deferred any more: the failures say why.
    """

    def __init__(
        self,
        report: Callable[[JobT, Failure, int], None],
        most: int = MAX_REFUSALS - 1,
        count: Callable[[int], bool] = lambda _: False,
    ) -> None:
        self._count = count
        self._report = report
        self._most = most
        self._waiting: dict[str, deque[tuple[JobT, Failure, int]]] = {}
        self.given_up_hosts: dict[str, str] = {}

    def fail(self, job: JobT, failure: Failure, attempts: int) -> None:
        """Take a final failure, or DOWN, which leaves the asset pending."""
        host = failure.host
        if self._most and failure.kind is FailureKind.DOWN:
            if dropped := self._waiting.pop(host, None):
                self._count(-len(dropped))
            if len(self.given_up_hosts) < MOST_HOSTS:
                self.given_up_hosts[host] = failure.message
            return
        are_too_many = failure.kind not in _NO_FAULT and self._count(1)
        if are_too_many or (host not in self._waiting and len(self._waiting) >= MOST_HOSTS):
            self.report_all()
        if are_too_many or failure.kind not in _MAY_BE_OF_HOST:
            self._report(job, failure, attempts)
            return
        waiting = self._waiting.setdefault(host, deque())
        waiting.append((job, failure, attempts))
        if len(waiting) > self._most:  # the run was not stopped, so there was a success in between
            self._report(*waiting.popleft())

    def report_all(self) -> None:
        """Report all deferred failures: the work has ended without being stopped, or too many have failed."""
        for waiting in self._waiting.values():
            for deferred in waiting:
                self._report(*deferred)
        self._waiting.clear()


# --- workers in place of the pool -------------------------------------------------------------------------


class JobRunner(Protocol):
    """Runs the jobs of a queue: `Pool`, or workers. Its methods mean the same as those of `Pool`."""

    @property
    def given_up_hosts(self) -> Mapping[str, str]: ...

    async def run(self) -> None: ...

    def no_more(self) -> None: ...

    def stop(self) -> None: ...


class RunOfWorkers(NamedTuple):
    """What the entry point `dask` in the group `stacpull.workers` gets; it returns a `JobRunner`."""

    options: Options
    network: Network
    """Its counters include the effort of the workers."""
    work: Path
    """DEST, or the work directory of a bucket."""
    is_local: bool
    selection: Selection
    queue: JobQueue[Job]
    pool: Pool[Job, Arrival | None]
    """The pool of the process of the command, on `own_queue`. It takes the failures of workers."""
    own_queue: JobQueue[Job]
    """Jobs that the process of the command transfers itself."""
    outcomes: OutcomeSender
    emit: Listener
