"""Concurrent loops, reading ahead, and blocking calls in threads. A cancelled task waits for its thread."""

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, aclosing, asynccontextmanager
from typing import Any, TypeVar

from stacpull.errors import ungrouped

T = TypeVar("T")


async def for_each(values: Collection[T], function: Callable[[T], Awaitable[None]], limit: int) -> None:
    waiting = iter(values)

    async def work_on_next() -> None:
        for value in waiting:
            await function(value)

    with ungrouped():
        async with asyncio.TaskGroup() as group:
            for _ in range(min(limit, len(values))):
                group.create_task(work_on_next())


@asynccontextmanager
async def prefetch(upstream: AsyncGenerator[T]) -> AsyncIterator[AsyncGenerator[T]]:
    """Read `upstream` one element ahead of the consumer, in a task that the context owns."""
    ready = asyncio.Queue[T | Exception | None]()

    async def fill() -> None:
        try:
            async with aclosing(upstream):
                async for element in upstream:
                    ready.put_nowait(element)
                    await ready.join()
            ready.put_nowait(None)
        except Exception as error:  # noqa: BLE001 - raised again in place of the next element
            ready.put_nowait(error)

    async def elements() -> AsyncGenerator[T]:
        while (element := await ready.get()) is not None:
            ready.task_done()
            if isinstance(element, Exception):
                raise element
            yield element

    async with background_task(fill()):
        yield elements()


@asynccontextmanager
async def background_task(coroutine: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    with ungrouped():
        async with asyncio.TaskGroup() as group:
            running = group.create_task(coroutine)
            try:
                yield
            finally:
                running.cancel()


@asynccontextmanager
async def enter_in_thread(context: AbstractContextManager[T]) -> AsyncIterator[T]:
    """Enter and exit a blocking context manager in a thread; it is also exited after a cancellation."""
    entered = ExitStack()  # empty if `context` could not be entered

    async def exit_in_thread(*error: Any) -> bool | None:
        return await shielded_to_thread(lambda: entered.__exit__(*error))

    async with AsyncExitStack() as stack:
        stack.push_async_exit(exit_in_thread)
        yield await shielded_to_thread(lambda: entered.enter_context(context))


async def shielded_to_thread(
    function: Callable[[], T],
    on_cancelled: Callable[[], object] = lambda: None,
    threads: ThreadPoolExecutor | None = None,
) -> T:
    """Run blocking work in a thread. If this is cancelled, even several times, it still waits for the end."""
    working = asyncio.get_running_loop().run_in_executor(threads, function)
    cancelled: asyncio.CancelledError | None = None
    while not working.done():
        try:
            await asyncio.wait([working])
        except asyncio.CancelledError as error:
            cancelled = error
            on_cancelled()
    if cancelled is not None:
        raise cancelled from working.exception()
    return working.result()


class StoppableExecutor:
    """Runs all calls in one thread, because a library may only work in the thread that created an object."""

    def __init__(self, stop: asyncio.Event | None) -> None:
        self._stop = stop
        self._cancelled = threading.Event()
        self._executor = ThreadPoolExecutor(1)

    async def run(self, function: Callable[[], T]) -> T:
        return await shielded_to_thread(function, self._cancelled.set, self._executor)

    def is_stopped(self) -> bool:
        return self._cancelled.is_set() or (self._stop is not None and self._stop.is_set())
