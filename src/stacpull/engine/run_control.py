"""Runs walk and pool side by side, until everything is done, a stop is requested, or DEST is lost.

If the source cannot be read, or a host is down, the other transfers are completed first.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from stacpull.arguments import or_default
from stacpull.errors import CredentialsError, InterruptedRunError, SourceError, StacpullError, ungrouped
from stacpull.net.status import REFUSALS
from stacpull.threads import background_task

if TYPE_CHECKING:
    from stacpull.engine.pool import Pool

GRACE = 5.0  # seconds that transfers in flight have after a stop

T = TypeVar("T")


async def walk_and_transfer(
    walk: Callable[[], Awaitable[None]],
    pool: "Pool[Any, Any]",
    background: Sequence[Callable[[], Coroutine[Any, Any, None]]],
    stop: asyncio.Event,
    fatal_error: asyncio.Future[BaseException],
) -> None:
    """Run both. A stop cancels the walk, and after `GRACE` the pool. An error in `fatal_error` ends both."""
    unreadable: StacpullError | None = None

    async def walked() -> None:
        nonlocal unreadable
        try:
            await walk()
        except (SourceError, CredentialsError) as error:
            unreadable = error  # raised at the end: here, it would cancel the transfers

    async with asyncio.TaskGroup() as group:
        watchers = [group.create_task(work()) for work in background]
        watchers.append(group.create_task(raise_fatal_error(fatal_error)))
        stopped = group.create_task(stop.wait())
        running = group.create_task(pool.run())
        walking = group.create_task(walked())
        await asyncio.wait([walking, stopped], return_when=asyncio.FIRST_COMPLETED)
        if walking.done():
            pool.end_queue()
            await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            walking.cancel()
            pool.stop()
            await asyncio.wait([running], timeout=GRACE)
            running.cancel()
        await asyncio.wait([running, walking])
        for task in (*watchers, stopped):
            task.cancel()
    if unreadable is not None:
        raise unreadable
    if pool.down_hosts and not stop.is_set():
        text = " ".join(reason.message for reason in pool.down_hosts.values())
        text += f" The assets of {' and '.join(pool.down_hosts)} stay pending for `resume`."
        is_refused = any(reason.status in REFUSALS for reason in pool.down_hosts.values())
        raise CredentialsError(text) if is_refused else SourceError(text)


async def raise_fatal_error(fatal_error: asyncio.Future[BaseException]) -> NoReturn:
    await asyncio.wait([fatal_error])  # an `await` would cancel it together with this task
    raise fatal_error.result()


class StopEvent(asyncio.Event):
    reason: str | None = None  # None for a stop that the user requested


@asynccontextmanager
async def timed_stop(stop: asyncio.Event | None, seconds: float) -> AsyncIterator[StopEvent]:
    """Yield an event that is set with `stop` or after `seconds` (0: no limit); `stop` is never set here."""
    stopping = StopEvent()
    stop = or_default("stop", asyncio.Event, stop)
    if stop.is_set():
        stopping.set()

    async def pass_on() -> None:
        try:
            async with asyncio.timeout(seconds or None):
                await stop.wait()
        except TimeoutError:
            stopping.reason = f"stopped after {seconds:,g} s by --stop-after"
        stopping.set()

    async with background_task(pass_on()):
        yield stopping


@asynccontextmanager
async def run_at_end(work: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Do `work` after the block. An error of the block, unless it is a stop, wins over one of `work`."""
    try:
        yield
    except BaseException as error:
        with nullcontext() if isinstance(error, InterruptedRunError) else suppress(Exception):
            await work()
        raise
    await work()


async def run_stoppable(work: Coroutine[Any, Any, T], stop: asyncio.Event, grace: float = 0.0) -> T:
    """Return the result of `work`, which is cancelled `grace` seconds after a stop."""
    with ungrouped():
        async with asyncio.TaskGroup() as group:
            working = group.create_task(work)
            stopped = group.create_task(stop.wait())
            if stop.is_set() and not grace:
                working.cancel()
            await asyncio.wait([working, stopped], return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait([working], timeout=grace)
            working.cancel()
            stopped.cancel()
    if working.cancelled():
        reason = stop.reason if isinstance(stop, StopEvent) else None
        raise InterruptedRunError(f"{(reason or 'interrupted').capitalize()}.")
    return working.result()
