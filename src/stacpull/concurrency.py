"""Work on many values at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

from stacpull.errors import ungrouped

T = TypeVar("T")


async def for_each(values: Collection[T], work: Callable[[T], Awaitable[None]], most: int) -> None:
    """Call `work` with each value, in that order, with at most `most` calls at once."""
    waiting = iter(values)

    async def work_on_next() -> None:
        for value in waiting:
            await work(value)

    with ungrouped():
        async with asyncio.TaskGroup() as group:
            for _ in range(min(most, len(values))):
                group.create_task(work_on_next())
