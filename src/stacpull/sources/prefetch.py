"""Reading ahead: the next page is on its way while the current one is planned.

    async with prefetch(source.pages(…)) as pages:
        async for page in pages:
            …

The upstream iterator runs in one task, which lives exactly as long as the `async with` block: however that is
left, the task is cancelled, awaited, and the iterator closed. What upstream raises comes out where its next
element would have come, and what the block raises comes out of the block as it is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Generic, TypeVar

__all__ = ["Prefetched", "prefetch"]

T = TypeVar("T")


class Prefetched(AsyncIterator[T], Generic[T]):
    """What has been read ahead; to be iterated over once, by one task."""

    def __init__(self, depth: int) -> None:
        self._ready: deque[T] = deque()
        self._room = asyncio.Semaphore(depth)
        self._news = asyncio.Event()
        self._end: Exception | None = None

    async def fill(self, upstream: AsyncGenerator[T]) -> None:
        """Take from `upstream` as room allows, until it ends, fails or this is cancelled."""
        end: Exception = RuntimeError("the task that reads ahead was cancelled")
        try:
            async with aclosing(upstream):
                await self._room.acquire()
                async for element in upstream:
                    self._ready.append(element)
                    self._news.set()
                    await self._room.acquire()
            end = StopAsyncIteration()
        except Exception as error:  # noqa: BLE001 - it is raised again where the element would have come
            end = error
        finally:
            self._end = end
            self._news.set()

    async def __anext__(self) -> T:
        while not self._ready:
            if self._end is not None:
                raise self._end
            self._news.clear()
            await self._news.wait()
        self._room.release()
        return self._ready.popleft()


@asynccontextmanager
async def prefetch(upstream: AsyncGenerator[T], depth: int = 1) -> AsyncIterator[Prefetched[T]]:
    """Run `upstream` at most `depth` elements ahead of what has been taken.

    The first element is read as soon as the block is entered.
    """
    ahead = Prefetched[T](depth)
    failed: Exception | None = None
    async with asyncio.TaskGroup() as group:
        task = group.create_task(ahead.fill(upstream))
        try:
            yield ahead
        except Exception as error:  # noqa: BLE001 - raised below, where the group cannot wrap it
            failed = error
        finally:
            task.cancel()
    if failed is not None:
        raise failed
