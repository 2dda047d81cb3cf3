"""Runs walk and pool concurrently, until everything is done, a stop is requested, or DEST is lost.

    walk ─▶ queue ─▶ pool      a stop ends the walk, the pool takes nothing more,
                               and transfers in flight have a few seconds to end

If the source cannot be read or refuses the credentials, the walk ends, but planned transfers continue: the
error is raised after these transfers. If the store process or the lease of a bucket is lost, everything ends
at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from stacpull.arguments import instance
from stacpull.errors import CredentialsError, InterruptedRunError, SourceError, StacpullError, ungrouped
from stacpull.events import Listener, Notice

if TYPE_CHECKING:
    from stacpull.engine.workers import JobRunner

_GRACE = 5.0
"""Seconds that transfers in flight have after a stop."""

T = TypeVar("T")


async def walk_and_transfer(
    walk: Callable[[], Awaitable[None]],
    pool: JobRunner,
    tick: Callable[[], Coroutine[Any, Any, None]],
    *,
    stop: asyncio.Event,
    broken: asyncio.Future[BaseException],
) -> None:
    """Run `walk`, which adds jobs, and the pool to their end; `tick` runs concurrently until then.

    Args:
        walk: Cancelled by a stop.
        pool: Stopped by a stop, and cancelled a few seconds later.
        tick: Cancelled at the end.
        stop: Set to end the work early.
        broken: Has an error as its result once nothing can be written any more. The error is raised.

    Raises:
        SourceError: The source cannot be read to its end, or assets stay pending because their host does not
            respond.
        BaseExceptionGroup: The other errors that end the work.
    """
    async with asyncio.TaskGroup() as group:
        others = [group.create_task(tick()), group.create_task(raise_when_broken(broken))]
        stopped = group.create_task(stop.wait())
        running = group.create_task(pool.run())
        walking = group.create_task(_walked(walk))
        await asyncio.wait([walking, stopped], return_when=asyncio.FIRST_COMPLETED)
        walking.cancel()
        if not stop.is_set():
            pool.no_more()
            await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            pool.stop()
            await asyncio.wait([running], timeout=_GRACE)
            running.cancel()
        await asyncio.wait([running, walking])
        for task in (*others, stopped):
            task.cancel()
    if not walking.cancelled() and (unreadable := walking.result()) is not None:
        raise unreadable
    if pool.given_up_hosts and not stop.is_set():
        hosts = " and ".join(pool.given_up_hosts)
        raise SourceError(
            f"{' '.join(pool.given_up_hosts.values())} The assets of {hosts} stay pending: "
            f"resume when {hosts} can be reached."
        )


async def raise_when_broken(broken: asyncio.Future[BaseException]) -> NoReturn:
    """Wait for the error that ends the work, and raise it."""
    await asyncio.wait([broken])  # an `await` would cancel it together with this task
    raise broken.result()


async def _walked(walk: Callable[[], Awaitable[None]]) -> SourceError | CredentialsError | None:
    """Run the walk; return the error if the source could not be read to its end, else None.

    The error is returned and not raised, so that it does not cancel the transfers.
    """
    try:
        await walk()
    except (SourceError, CredentialsError) as error:
        return error
    return None


class FailureLimit:
    """Stops a run in which more assets fail than the user allows (`--max-failures`).

    Args:
        most: The most failures; None for any number.
        stop: Set when there are more.
    """

    def __init__(self, most: int | None, stop: asyncio.Event) -> None:
        self._most = most
        self._stop = stop
        self._failed = 0

    def count(self, failed: int) -> bool:
        """Add to the number of failed assets (`DeferredFailures`); return True if too many have failed."""
        self._failed += failed
        if self._is_exceeded():
            self._stop.set()
        return self._is_exceeded()

    def check(self) -> None:
        """Raise if too many have failed.

        Raises:
            StacpullError: More assets have failed than are allowed.
        """
        if self._is_exceeded():
            raise StacpullError(
                f"The run stopped after {self._failed:,} failures (--max-failures {self._most}): the rest is "
                "pending. `stacpull failures` says why; `stacpull resume` continues."
            )

    def _is_exceeded(self) -> bool:
        return self._most is not None and self._failed > self._most


@asynccontextmanager
async def timed_stop(
    stop: asyncio.Event | None, seconds: float, on_event: Listener | None
) -> AsyncIterator[asyncio.Event]:
    """Give a new event that stops the work. It is set when `stop` is set, and after `seconds` at the latest.

    0 seconds mean no limit. `stop` belongs to the caller, who may use it for several runs: it is never set
    here.

    Raises:
        UsageError: `stop` is not an event of asyncio. To wait for one of `threading` would block the loop.
    """
    stopping, stop = asyncio.Event(), instance("stop", asyncio.Event, stop)
    if stop.is_set():
        stopping.set()

    def on_time() -> None:
        if on_event is not None and not stopping.is_set():
            on_event(Notice("info", f"Stopping after {seconds:,g} s (--stop-after): resume to continue."))
        stopping.set()

    timer = asyncio.get_running_loop().call_later(seconds, on_time) if seconds else None
    async with passed_on(stop, stopping.set):
        try:
            yield stopping
        finally:
            if timer is not None:
                timer.cancel()


@asynccontextmanager
async def passed_on(stop: asyncio.Event, on_stop: Callable[[], object]) -> AsyncIterator[None]:
    """Call `on_stop` once `stop` is set, until the block ends."""

    async def wait() -> None:
        await stop.wait()
        on_stop()

    with ungrouped():
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(wait())
            try:
                yield
            finally:
                waiting.cancel()


async def within_grace(work: Coroutine[Any, Any, T], stop: asyncio.Event) -> T | None:
    """Run `work` to its end. A few seconds after a stop it is cancelled.

    Args:
        work: It may check `stop` to end early by itself.
        stop: Set to end the work early.

    Returns:
        The result of `work`, None if it was cancelled.

    Raises:
        BaseExceptionGroup: The errors of `work`.
    """
    working = await _raced(work, stop, grace=_GRACE)
    return None if working.cancelled() else working.result()


async def unless_stopped(work: Callable[[], Coroutine[Any, Any, T]], stop: asyncio.Event) -> T:
    """Return the result of `work`; a stop cancels it.

    Raises:
        InterruptedRunError: `stop` was set before the work had ended.
    """
    if stop.is_set():
        raise InterruptedRunError("Interrupted.")
    with ungrouped():
        working = await _raced(work(), stop, grace=0)
    if working.cancelled():
        raise InterruptedRunError("Interrupted.")
    return working.result()


async def _raced(work: Coroutine[Any, Any, T], stop: asyncio.Event, grace: float) -> asyncio.Task[T]:
    """Run `work` to its end. It is cancelled `grace` seconds after a stop."""
    async with asyncio.TaskGroup() as group:
        working = group.create_task(work)
        stopped = group.create_task(stop.wait())
        news: list[asyncio.Future[Any]] = [working, stopped]
        await asyncio.wait(news, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait([working], timeout=grace)
        working.cancel()
        stopped.cancel()
    return working
