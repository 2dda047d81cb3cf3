"""The pool: it takes jobs from the bounded queue, has them fetched, and hands on what came of each.

Jobs are taken in batches, as many as there are slots for. The fast path gets those that it takes; every other
one, and what the fast path hands over, is a task of its own (`engine.asset_transfer`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
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
from stacpull.engine.held_failures import HeldFailures
from stacpull.models import Failure
from stacpull.net.gate import MAX_REFUSALS

J_contra = TypeVar("J_contra", bound=Fetchable, contravariant=True)
T_contra = TypeVar("T_contra", contravariant=True)


class OutcomeSink(Protocol[J_contra, T_contra]):
    """What outcomes are handed to (`engine.intake.Intake`)."""

    async def slots(self, most: int) -> int:
        """Wait until there is room for more outcomes; return for how many: at most `most`, at least one."""
        ...

    def put(self, job: J_contra, received: T_contra) -> None:
        """Take what came in; its slot is free again when it is safe."""
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
        intake: OutcomeSink[J, T],
        tools: TransferTools[J, T],
        *,
        slots: int,
        held: int = MAX_REFUSALS - 1,
        on_failure: Callable[[], None] = lambda: None,
        fast: Callable[[Pool[J, T]], Fast[J]] | None = None,
    ) -> None:
        """Prepare.

        Args:
            queue: where jobs come from.
            intake: where outcomes go.
            tools: what a transfer needs.
            slots: Jobs at once.
            held: failures of a host that are held back (`engine.held_failures`).
            on_failure: called for each asset that fails.
            fast: makes the fast path, which hands to this pool what it has received; None: there is none.
        """
        self._queue = queue
        self._intake = intake
        self._tools = tools
        self._waiter: asyncio.Future[None] | None = None
        """Waits for the end of a job."""
        self._open = 0
        """Jobs that have begun and not ended."""
        self._slots = slots
        self._stopping = False
        self._fed = False
        self._failures: HeldFailures[J] = HeldFailures(intake.fail, held, on_failure)
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
        self._failures.hand_in_all()

    def no_more(self) -> None:
        """Say that nothing will be added to the queue: the pool ends after the last job."""
        self._fed = True
        self._pass_on()

    def resize(self, slots: int) -> None:
        """Have so many jobs at once from now on; those that have begun continue."""
        self._slots = slots
        self._wake()

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
        self._intake.put(job, received)
        self._open -= 1
        if self._waiter is not None:
            self._wake()

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
            waiting = self._queue.qsize()
            room = await self._room()
            slots = await self._intake.slots(min(room, 1 + waiting))
            if self._stopping:
                self._intake.give_back(slots)
                continue
            self._begin(job)
            for left in range(slots - 1, 0, -1):
                try:
                    more = self._queue.get_nowait()
                except asyncio.QueueEmpty:
                    more = None
                if more is None:
                    self._intake.give_back(left)
                    break
                self._begin(more)
        while self._open:
            await self._news()

    async def _room(self) -> int:
        """Return how many jobs may begin, as soon as one may."""
        while self._open >= self._slots:
            await self._news()
        return self._slots - self._open

    async def _news(self) -> None:
        """Wait until a job has ended."""
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _begin(self, job: J) -> None:
        self._open += 1
        if self._fast is None or not self._fast.begin(job):
            self.fetch(job)

    def _end(self) -> None:
        self._open -= 1
        self._wake()

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
            self._intake.give_back()
            self.fail(transfer.job, outcome, transfer.attempts)
        else:
            self._intake.put(transfer.job, outcome)
        self._end()


async def _raised(error: BaseException) -> None:
    raise error
