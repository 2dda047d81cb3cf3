"""Running asynchronous work under signals.

The first SIGINT or SIGTERM asks the work to stop: work that knows how is told by an event and ends by itself,
other work is cancelled. The second one ends the process at once; what is on disk can be resumed either way.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from stacpull.cli.entry import begun
from stacpull.engine.loop import run_on_loop
from stacpull.errors import InterruptedRunError

__all__ = ["run", "run_until_stopped"]

T = TypeVar("T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run `work`; a signal cancels it.

    Raises:
        InterruptedRunError: It was cancelled by a signal.
    """
    asked = False

    async def watched() -> T:
        task = asyncio.current_task()

        def stop() -> None:
            nonlocal asked
            asked = True
            if task is not None:
                task.cancel()

        with _signals(stop):
            return await work

    try:
        return run_on_loop(watched())
    except asyncio.CancelledError:
        if asked:
            raise InterruptedRunError("interrupted") from None
        raise


def run_until_stopped(start: Callable[[asyncio.Event], Coroutine[Any, Any, T]]) -> T:
    """Run the work that `start` makes around an event; a signal sets the event, the work ends by itself."""

    async def watched() -> T:
        event = asyncio.Event()

        def stop() -> None:
            event.set()
            sys.stderr.write("\nstacpull: stopping; once more to stop at once\n")

        with _signals(stop):
            return await start(event)

    return run_on_loop(watched())


@contextlib.contextmanager
def _signals(first: Callable[[], None]) -> Iterator[None]:
    """Call `first` at the first signal and leave the process at the second, within the context."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread only, whose program decides about them
        return
    begun()
    loop = asyncio.get_running_loop()
    seen = 0

    def handle() -> None:
        nonlocal seen
        seen += 1
        if seen > 1:
            _leave_at_once()
        first()

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        loop.add_signal_handler(number, handle)
    try:
        yield
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, before[number])  # the loop would leave SIGTERM to the system


def _leave_at_once() -> None:
    """End the process without unwinding; the newline leaves the terminal below the progress bars."""
    sys.stderr.write("\n")
    sys.stderr.flush()
    os._exit(InterruptedRunError.exit_code)
