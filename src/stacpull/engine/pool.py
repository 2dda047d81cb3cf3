"""The pool takes jobs from the bounded queue, has them fetched, and passes on their outcomes.

Jobs are taken in batches, as many as there are slots. The fast path takes those that it can; every other job,
and each that the fast path hands over, becomes a task (`engine.asset_transfer`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar

from stacpull.engine.asset_transfer import (
    AssetTransfer,
    AttemptCall,
    Fetchable,
    J,
    StartedAttempt,
    T,
    TransferTools,
)
from stacpull.engine.shares import BATCH, Shares
from stacpull.hosts import MOST_HOSTS
from stacpull.models import Failure, FailureKind, Job
from stacpull.net.gate import MAX_REFUSALS

_NO_FAULT = frozenset({FailureKind.ORDERED, FailureKind.OUTSIDE})
"""Kinds that are not counted as failures (`--max-failures`)."""
_MAY_BE_OF_HOST = frozenset({FailureKind.REFUSED, FailureKind.NETWORK, FailureKind.STALLED})

J_contra = TypeVar("J_contra", bound=Fetchable, contravariant=True)
T_contra = TypeVar("T_contra", contravariant=True)


class OutcomeSink(Protocol[J_contra, T_contra]):
    """Takes the outcomes of a pool, and limits its jobs (`engine.store_client.StoreClient`)."""

    async def slots(self, most: int) -> int:
        """Wait until a slot is free; take `most` slots, or as many as are free, and return how many."""
        ...

    def put(self, job: J_contra, received: T_contra) -> None:
        """Take what came in; its slot is free again when it is on the disk."""
        ...

    def fail(self, job: J_contra, failure: Failure, attempts: int) -> None:
        """Take a failure that is final; its slot was given back before."""
        ...

    def give_back(self, count: int = 1) -> None:
        """Free the slots of jobs of which nothing came in."""
        ...


class Fast(Protocol[J_contra]):
    """What fetches without a task (`fastpath.path.FastPath`)."""

    async def open(self) -> None:
        """Get ready."""
        ...

    def begin(self, job: J_contra) -> bool:
        """Begin to fetch `job`; return False if it must be fetched otherwise."""
        ...

    async def close(self) -> None:
        """End what is under way."""
        ...


class Pool(Generic[J, T]):
    """Fetches the jobs of one queue, in which None says that there is nothing more."""

    def __init__(
        self,
        queue: asyncio.Queue[J | None],
        sink: OutcomeSink[J, T],
        tools: TransferTools[J, T],
        *,
        held: int = MAX_REFUSALS - 1,
        on_failure: Callable[[], None] = lambda: None,
        fast: Callable[[Pool[J, T]], Fast[J]] | None = None,
    ) -> None:
        """Prepare.

        Args:
            queue: where jobs come from.
            sink: where outcomes go. It has a slot for each job.
            tools: what a transfer needs.
            held: failures of a host that wait (`DeferredFailures`).
            on_failure: called for each asset that fails.
            fast: makes the fast path, which hands to this pool what it has received; None: there is none.
        """
        self._queue = queue
        self._sink = sink
        self._tools = tools
        self._ended: asyncio.Future[None] | None = None
        """Done at the end of the last job, once there are no more."""
        self._open = 0
        """Jobs that have begun and not ended."""
        self._stopping = False
        self._fed = False
        self._failures: DeferredFailures[J] = DeferredFailures(sink.fail, held, on_failure)
        self._fast = None if fast is None else fast(self)
        self._group = asyncio.TaskGroup()

    @property
    def left(self) -> Mapping[str, str]:
        """Why assets were left pending, by host that was given up."""
        return self._failures.left

    async def run(self) -> None:
        """Work until everything that was fed is done, or `stop` was called.

        Raises:
            CredentialsError: a host refused 50 requests in a row; what it refused stays pending.
            StacpullError: something else stops the run.
        """
        if self._fast is not None:
            await self._fast.open()
        try:
            async with self._group:
                await self._feed()
        finally:
            if self._fast is not None:
                await self._fast.close()
        self._failures.report_all()

    def no_more(self) -> None:
        """Say that nothing will be added to the queue: the pool ends after the last job."""
        self._fed = True
        self._pass_on()

    def stop(self) -> None:
        """Take no further job; what is under way continues. Jobs left in the queue stay pending."""
        self._stopping = True
        while not self._queue.empty():
            self._queue.get_nowait()
        self.no_more()

    def fail(self, job: J, failure: Failure, attempts: int) -> None:
        """Take a failure that is final, of a job of this pool or of a worker process."""
        self._failures.fail(job, failure, attempts)

    # What the fast path calls (`fastpath.path.TransferSink`).

    def received(self, job: J, received: T) -> None:
        """Take an asset that came in."""
        self._sink.put(job, received)
        self._open -= 1
        if not self._open:
            self._end()

    def handed_over(self, job: J, attempt: AttemptCall[J, T], since: float) -> None:
        """Take an asset whose first attempt, begun at `since`, is to be ended by the general path."""
        self.spawn(self._run_transfer(AssetTransfer(job, self._tools, StartedAttempt(attempt, since))))

    def fetch(self, job: J) -> None:
        """Have an asset fetched by the general path: the fast path does not take it after all."""
        self.spawn(self._run_transfer(AssetTransfer(job, self._tools)))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` as a task of this pool, unless the run is ending because of an error."""
        try:
            self._group.create_task(work)
        except RuntimeError:  # the group takes no more tasks
            work.close()

    def broke(self, error: BaseException) -> None:
        """End the run: there is a defect in the fast path."""
        self.spawn(_raised(error))

    # The jobs.

    async def _feed(self) -> None:
        """Begin jobs until there are no more; return when all have ended."""
        while (job := await self._next()) is not None:
            slots = await self._sink.slots(1 + self._queue.qsize())
            if self._stopping:
                self._sink.give_back(slots)
                continue
            self._begin(job)
            for left in range(slots - 1, 0, -1):
                try:
                    more = self._queue.get_nowait()
                except asyncio.QueueEmpty:
                    more = None
                if more is None:
                    self._sink.give_back(left)
                    break
                self._begin(more)
        if self._open:
            self._ended = asyncio.get_running_loop().create_future()
            await self._ended

    def _begin(self, job: J) -> None:
        self._open += 1
        if self._fast is None or not self._fast.begin(job):
            self.fetch(job)

    def _end(self) -> None:
        """Let `run` return, if it waits for the last job."""
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def _pass_on(self) -> None:
        """Wake a task that waits at the queue; it wakes the next one."""
        if not self._queue.full():
            self._queue.put_nowait(None)

    async def _next(self) -> J | None:
        """Return the next job, None if there will be none."""
        if not (self._fed and self._queue.empty()):
            job = await self._queue.get() if self._queue.empty() else self._queue.get_nowait()
            if job is not None and not self._stopping:
                return job
        self._pass_on()
        return None

    async def _run_transfer(self, transfer: AssetTransfer[J, T]) -> None:
        outcome = await transfer.run()
        if isinstance(outcome, Failure):
            self._sink.give_back()
            self.fail(transfer.job, outcome, transfer.attempts)
        else:
            self._sink.put(transfer.job, outcome)
        self._open -= 1
        if not self._open:
            self._end()


async def _raised(error: BaseException) -> None:
    raise error


class DeferredFailures(Generic[J]):
    """Passes failures on; those that may be the fault of their host wait, and are dropped if it is given up.

    A host that refuses everything, or does not answer, says nothing about any asset. The client stops the
    run at the 50th refusal in a row, and gives up a host that has not answered for long. Failures before that
    wait here, so that their assets are pending afterwards, and not failed.

    Args:
        report: Called with a job, its failure and the number of attempts.
        most: How many failures of a host wait; with 0 everything is reported at once, DOWN included.
        on_failure: Called for each failure that is final, also if it waits.
    """

    def __init__(
        self,
        report: Callable[[J, Failure, int], None],
        most: int = MAX_REFUSALS - 1,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self._on_failure = on_failure
        self._report = report
        self._most = most
        self._waiting: dict[str, deque[tuple[J, Failure, int]]] = {}
        self.left: dict[str, str] = {}
        """Why assets are left pending, by host that was given up."""

    def fail(self, job: J, failure: Failure, attempts: int) -> None:
        """Take a failure that is final, or DOWN: then the asset stays pending."""
        if self._most and failure.kind is FailureKind.DOWN:
            self._waiting.pop(failure.host, None)
            if len(self.left) < MOST_HOSTS:
                self.left[failure.host] = failure.message
            return
        if failure.kind not in _NO_FAULT:
            self._on_failure()
        if failure.kind not in _MAY_BE_OF_HOST:
            self._report(job, failure, attempts)
            return
        if failure.host not in self._waiting and len(self._waiting) >= MOST_HOSTS:
            for one in self._waiting.pop(next(iter(self._waiting))):
                self._report(*one)
        waiting = self._waiting.setdefault(failure.host, deque())
        waiting.append((job, failure, attempts))
        if len(waiting) > self._most:  # the run continues, so there was a success in between
            self._report(*waiting.popleft())

    def report_all(self) -> None:
        """Report everything that waits: the work has ended without being stopped."""
        for waiting in self._waiting.values():
            while waiting:
                self._report(*waiting.popleft())


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
