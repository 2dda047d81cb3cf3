"""Running asynchronous work under signals.

The first SIGINT or SIGTERM asks the work to stop: an event is set, or the work is cancelled. The second one
ends the process and those it started at once, even when the event loop is blocked. What is on disk can be
resumed either way.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from types import FrameType
from typing import Any, TypeVar

from stacpull.cli.entry import begun
from stacpull.cli.progress import Display
from stacpull.engine.child_process import kill_all
from stacpull.engine.loop import run_on_loop
from stacpull.errors import InterruptedRunError

T = TypeVar("T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STOPPING = b"stacpull: Stopping after current transfers... (Ctrl-C again to quit now)\n"


def run(work: Coroutine[Any, Any, T], show: Display | None = None) -> T:
    """Run `work`; a signal cancels it.

    Args:
        work: What to run.
        show: The display on the terminal, if there is one.

    Raises:
        InterruptedRunError: A signal cancelled it.
    """
    asked = False

    async def watched() -> T:
        task = asyncio.current_task()

        def stop() -> None:
            nonlocal asked
            asked = True
            if task is not None:
                task.cancel()

        with _signals(stop, show):
            return await work

    try:
        return run_on_loop(watched())
    except asyncio.CancelledError:
        if asked:
            raise InterruptedRunError("Interrupted.") from None
        raise


def run_until_stopped(
    start: Callable[[asyncio.Event], Coroutine[Any, Any, T]], show: Display | None = None
) -> T:
    """Run the work that `start` makes around an event; a signal sets the event, and the work ends itself.

    Args:
        start: Called with the event.
        show: The display on the terminal, if there is one.
    """

    async def watched() -> T:
        event = asyncio.Event()
        with _signals(event.set, show):
            return await start(event)

    return run_on_loop(watched())


@contextlib.contextmanager
def _signals(stop: Callable[[], None], show: Display | None) -> Iterator[None]:
    """Within the context, call `stop` at the first signal and leave the process at the second.

    The handlers are those of the interpreter and not of the event loop, which runs none while it is blocked.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only, whose program decides about them
        return
    begun()
    loop = asyncio.get_running_loop()
    asked = False

    def handle(_number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            if show is not None:
                show.abandon()
            kill_all()
            os._exit(InterruptedRunError.exit_code)
        asked = True
        if show is None or not show.stopping():
            with contextlib.suppress(OSError):
                os.write(2, _STOPPING)
        loop.call_soon_threadsafe(stop)

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in _SIGNALS:
            signal.signal(number, before[number])
