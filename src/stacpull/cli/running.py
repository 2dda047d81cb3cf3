"""Runs asynchronous work, and stops it on signals.

The first SIGINT or SIGTERM stops the work: an event is set, or the work is cancelled. The second one ends the
process and its child processes at once, even if the event loop is blocked. The run can be resumed either way.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from types import FrameType
from typing import Any, TypeVar

from stacpull.child_process import kill_all
from stacpull.cli.entry import mark_begun
from stacpull.cli.progress import STOPPING, Display
from stacpull.errors import InterruptedRunError
from stacpull.runtime import handle_bus_errors, run_on_loop

T = TypeVar("T")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(
    start: Callable[[asyncio.Event], Coroutine[Any, Any, T]],
    show: Display | None = None,
    *,
    cancels: bool = False,
) -> T:
    """Run the work that `start` makes. A signal sets the event that it is given, and the work ends itself.

    Args:
        start: Called with the event.
        show: The display on the terminal, if there is one.
        cancels: True for work that cannot end itself: a signal cancels it.

    Raises:
        InterruptedRunError: A signal cancelled the work.
    """

    async def watched() -> T:
        stop, task = asyncio.Event(), asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that runs has one
        signals.connect(task.cancel if cancels else stop.set)
        return await start(stop)

    handle_bus_errors()
    with _signals(show) as signals:
        try:
            return run_on_loop(watched())
        except asyncio.CancelledError:
            if signals.is_stopping:
                raise InterruptedRunError("Interrupted.") from None
            raise


class _Signals:
    """The first SIGINT or SIGTERM stops the work, the second one ends the process."""

    def __init__(self, show: Display | None) -> None:
        self.is_stopping = False
        """True if a signal has come."""
        self._show = show
        self._stop: Callable[[], object] | None = None

    def connect(self, stop: Callable[[], object]) -> None:
        """Call `stop` once, on the running loop, at the first signal or now if that has already come."""
        self._stop = partial(asyncio.get_running_loop().call_soon_threadsafe, stop)
        if self.is_stopping:
            self._call_stop()

    def handle(self, _number: int, _frame: FrameType | None) -> None:
        """Handle one signal; an exception here would surface anywhere in the program."""
        if self.is_stopping:
            done = ""
            if self._show is not None:
                self._show.abandon()
                done = self._show.done_text()
            kill_all()
            with contextlib.suppress(OSError):
                os.write(2, f"stacpull: Quit{done}. Run the same command again to resume.\n".encode())
            os._exit(InterruptedRunError.exit_code)
        self.is_stopping = True
        if self._show is None or not self._show.stopping():
            with contextlib.suppress(OSError):
                os.write(2, f"stacpull: {STOPPING}\n".encode())
        self._call_stop()

    def _call_stop(self) -> None:
        stop, self._stop = self._stop, None
        if stop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the work has ended
                stop()


@contextlib.contextmanager
def _signals(show: Display | None) -> Iterator[_Signals]:
    """Handle signals from before the event loop is created until the display is closed.

    The handlers are those of the interpreter and not of the event loop, which runs none while it is blocked.
    """
    signals, before = _Signals(show), {}
    if threading.current_thread() is threading.main_thread():  # no other thread gets signals
        mark_begun()
        before = {number: signal.signal(number, signals.handle) for number in _SIGNALS}
    try:
        yield signals
    finally:
        if show is not None:
            show.close()
        for number, handler in before.items():
            signal.signal(number, handler)
