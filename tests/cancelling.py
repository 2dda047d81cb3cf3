"""Waiting in an event loop, and cancellations while a thread works."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest


async def cancelled_between(
    work: Coroutine[Any, Any, object], entered: threading.Event, proceed: threading.Event
) -> None:
    """Cancel `work` twice while a thread of it waits from `entered` to `proceed`."""
    running = asyncio.create_task(work)
    await asyncio.to_thread(entered.wait)
    for _ in range(2):
        running.cancel()
        await asyncio.sleep(0.01)
    proceed.set()
    with pytest.raises(asyncio.CancelledError):
        await running


async def cancelled_before_its_thread(work: Coroutine[Any, Any, object]) -> None:
    """Cancel work that waits for a thread, while the only one is busy."""
    asyncio.get_running_loop().set_default_executor(thread := ThreadPoolExecutor(1))
    thread.submit((is_free := threading.Event()).wait)
    working = asyncio.create_task(work)
    await settle()
    working.cancel()
    is_free.set()
    with pytest.raises(asyncio.CancelledError):
        await working


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that sets no event."""
    async with asyncio.timeout(300):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.005)


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)
