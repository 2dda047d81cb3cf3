"""Runs walk and pool concurrently, until everything is done, a stop is requested, or DEST is lost.

If the source cannot be read, or a host was given up, other transfers continue before the error is raised.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from stacpull.arguments import instance
from stacpull.errors import (
    CredentialsError,
    InterruptedRunError,
    SourceError,
    StacpullError,
    quantity,
    ungrouped,
)
from stacpull.events import Listener, Notice
from stacpull.net.gate import REFUSALS
from stacpull.selection import Selection

if TYPE_CHECKING:
    from stacpull.engine.pool import Pool
    from stacpull.engine.walk import WalkSummary

GRACE = 5.0  # seconds that transfers in flight have after a stop
_MOST_NAMED = 400  # characters of asset keys in a warning

T = TypeVar("T")


async def walk_and_transfer(
    walk: Callable[[], Awaitable[None]],
    pool: Pool[Any, Any],
    tick: Callable[[], Coroutine[Any, Any, None]],
    *,
    stop: asyncio.Event,
    broken: asyncio.Future[BaseException],
) -> None:
    """A stop cancels the walk, and the pool after `GRACE`. An error in `broken` ends both, and is raised."""
    unreadable: StacpullError | None = None

    async def walked() -> None:
        nonlocal unreadable
        try:
            await walk()
        except (SourceError, CredentialsError) as error:
            unreadable = error  # raised later: here it would cancel the transfers

    async with asyncio.TaskGroup() as group:
        others = [group.create_task(tick()), group.create_task(raise_when_broken(broken))]
        stopped = group.create_task(stop.wait())
        running = group.create_task(pool.run())
        walking = group.create_task(walked())
        await asyncio.wait([walking, stopped], return_when=asyncio.FIRST_COMPLETED)
        walking.cancel()
        if not stop.is_set():
            pool.no_more()
            await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
        if not running.done():
            pool.stop()
            await asyncio.wait([running], timeout=GRACE)
            running.cancel()
        await asyncio.wait([running, walking])
        for task in (*others, stopped):
            task.cancel()
    if unreadable is not None:
        raise unreadable
    if pool.given_up_hosts and not stop.is_set():
        hosts, reasons = " and ".join(pool.given_up_hosts), pool.given_up_hosts.values()
        text = " ".join(reason.message for reason in reasons)
        text += f" The assets of {hosts} stay pending: resume later."
        is_refused = any(reason.status in REFUSALS for reason in reasons)
        raise CredentialsError(text) if is_refused else SourceError(text)


async def raise_when_broken(broken: asyncio.Future[BaseException]) -> NoReturn:
    await asyncio.wait([broken])  # an `await` would cancel it together with this task
    raise broken.result()


class StopEvent(asyncio.Event):
    reason: str | None = None  # None if it was requested


@asynccontextmanager
async def timed_stop(
    stop: asyncio.Event | None, seconds: float, on_event: Listener | None
) -> AsyncIterator[StopEvent]:
    """Yield an event that is set with `stop` or after `seconds` (0: no limit); `stop` is never set here."""
    stopping, stop = StopEvent(), instance("stop", asyncio.Event, stop)
    if stop.is_set():
        stopping.set()

    async def pass_on() -> None:
        try:
            async with asyncio.timeout(seconds or None):
                await stop.wait()
        except TimeoutError:
            stopping.reason = f"stopped after {seconds:,g} s (--stop-after)"
            if on_event is not None and not stopping.is_set():
                on_event(Notice("info", f"Stopping after {seconds:,g} s (--stop-after)."))
        stopping.set()

    async with beside(pass_on()):
        yield stopping


@asynccontextmanager
async def beside(coroutine: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    with ungrouped():
        async with asyncio.TaskGroup() as group:
            running = group.create_task(coroutine)
            try:
                yield
            finally:
                running.cancel()


async def unless_stopped(
    function: Callable[[], Coroutine[Any, Any, T]], stop: asyncio.Event, grace: float = 0.0
) -> T:
    """Return the result of `function`; it is cancelled `grace` seconds after a stop."""
    with ungrouped():
        async with asyncio.TaskGroup() as group:
            working = group.create_task(function())
            stopped = group.create_task(stop.wait())
            if stop.is_set() and not grace:
                working.cancel()
            await asyncio.wait([working, stopped], return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait([working], timeout=grace)
            working.cancel()
            stopped.cancel()
    if working.cancelled():
        raise InterruptedRunError(f"{(getattr(stop, 'reason', None) or 'interrupted').capitalize()}.")
    return working.result()


def nothing_to_fetch(selection: Selection, summary: WalkSummary, counts: Mapping[str, int]) -> str | None:
    """Return why a run has no assets; None if it has. `counts` is by the names of the counters of a run."""
    seen, matched = counts.get("items_seen", 0), counts.get("items_matched", 0)
    excluded, web_pages = counts.get("assets_excluded", 0), counts.get("assets_pages", 0)
    planned = sum(counts.get(f"assets_{state}", 0) for state in ("pending", "done", "failed"))
    is_area = selection.bbox and (seen == 0 or "bbox" in summary.left_out)
    order = " --bbox is W,S,E,N: longitude comes before latitude." if is_area else ""
    if matched == 0 and seen:
        return f"Nothing matched: {seen:,} items were seen, and the filters kept none of them.{order}"
    if planned:
        return None
    if seen == 0:
        return f"Nothing matched: the source listed no items.{order}"
    if web_pages:
        filters = " or by the filters" if excluded else ""
        why = f"every asset was left out: as a web page (--include-pages){filters}"
    else:
        why = "the asset filters dropped every asset" if excluded else "they have no assets"
    keys = ", ".join(sorted(summary.excluded))[:_MOST_NAMED]
    named = f" Keys: {keys} (one per --asset)." if keys else ""
    return f"{quantity(matched, 'item')} matched, but {why}.{named}"
