"""The pool: workers that take jobs from the bounded queue, and hand on what came of each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar

from stacpull.engine.course import Course, Fetchable, J, T, Tools
from stacpull.engine.held_failures import HeldFailures
from stacpull.models import Failure
from stacpull.net.gate import MAX_REFUSALS

__all__ = ["Pool", "Takes"]

J_contra = TypeVar("J_contra", bound=Fetchable, contravariant=True)
T_contra = TypeVar("T_contra", contravariant=True)


class Takes(Protocol[J_contra, T_contra]):
    """What outcomes are handed to (`engine.intake.Intake`)."""

    async def slot(self) -> None:
        """Wait until there is room for one more outcome."""
        ...

    def put(self, job: J_contra, received: T_contra) -> None:
        """Take what came in; its slot is free again when it is safe."""
        ...

    def fail(self, job: J_contra, failure: Failure, attempts: int) -> None:
        """Take a failure that is final; its slot was given back before."""
        ...

    def give_back(self) -> None:
        """Free the slot of a job of which nothing came in."""
        ...


class Pool(Generic[J, T]):
    """A fixed number of workers over one queue, in which None says that there is nothing more."""

    def __init__(
        self,
        queue: asyncio.Queue[J | None],
        intake: Takes[J, T],
        tools: Tools[J, T],
        *,
        workers: int,
        held: int = MAX_REFUSALS - 1,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare.

        Args:
            queue: where jobs come from.
            intake: where outcomes go.
            tools: what a course needs.
            workers: jobs at once.
            held: failures of a host that are held back (`engine.held_failures`).
            on_failure: called for each asset that fails.
        """
        self._queue = queue
        self._intake = intake
        self._tools = tools
        self._workers = workers
        self._stopping = False
        self._fed = False
        self._retired = False
        self._failures: HeldFailures[J] = HeldFailures(intake.fail, held, on_failure)

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
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._work())
        self._failures.hand_in_all()

    def no_more(self) -> None:
        """Say that nothing will be added to the queue: idle workers end, the others after their last job."""
        self._fed = True
        self._pass_on()

    def stop(self) -> None:
        """Take no further job; what is under way goes on. Jobs left in the queue stay pending."""
        self._stopping = True
        while not self._queue.empty():
            self._queue.get_nowait()
        self.no_more()

    def retire(self) -> None:
        """Leave the queue to others: each worker ends after its job, or after the one it waits for now."""
        self._retired = True

    def _pass_on(self) -> None:
        """Wake one worker that waits at the queue; it wakes the next."""
        if not self._queue.full():
            self._queue.put_nowait(None)

    async def _next(self) -> J | None:
        """Return the next job, None if there will be none."""
        if self._retired:
            return None
        if not (self._fed and self._queue.empty()):
            job = await self._queue.get() if self._queue.empty() else self._queue.get_nowait()
            if job is not None and not self._stopping:
                return job
        self._pass_on()
        return None

    async def _work(self) -> None:
        await self._intake.slot()
        while (job := await self._next()) is not None:
            course = Course(job, self._tools)
            outcome = await course.run()
            if isinstance(outcome, Failure):
                self._intake.give_back()
                self._failures.fail(course.job, outcome, course.attempts)
            else:
                self._intake.put(course.job, outcome)
            await self._intake.slot()
