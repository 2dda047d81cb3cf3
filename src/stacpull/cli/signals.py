"""What SIGINT and SIGTERM do: leave before the work starts, stop it, or quit at the second signal.

The handlers belong to the interpreter and not to the event loop, which runs none while it is blocked.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    import asyncio

    from stacpull.cli.progress import Display

T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOPPING = "Stopping... (Ctrl-C again to quit now)"
_INTERRUPTED = 130
"""`errors.InterruptedRunError.exit_code`, which would have to be imported."""
_has_begun = False


def mark_begun() -> None:
    """Let a signal that comes now, or after the command has done its work, end the process silently."""
    global _has_begun  # noqa: PLW0603 - handlers of signals belong to the process
    _has_begun = True


def leave(_number: int, _frame: FrameType | None) -> NoReturn:
    """End the process before or after its work.

    KeyboardInterrupt is not raised: Python would turn it into a RuntimeError while a class is being made.
    """
    if not _has_begun:
        _say("Interrupted before anything started.")
    os._exit(_INTERRUPTED)


class _Handler:
    """Stops the work at the first signal; the second one ends the process and its child processes at once."""

    is_stopping = False
    stop: Callable[[], object] | None = None
    """Stops the work, on the running loop."""

    def __init__(self, show: Display | None, kill_all: Callable[[], None]) -> None:
        self._show = show
        self._kill_all = kill_all

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Handle one signal; an exception here would surface anywhere in the program."""
        if self.is_stopping:
            done = self._show.abandon() if self._show is not None else ""
            self._kill_all()
            _say(f"Quit{done}. Run the same command again to resume.")
            os._exit(_INTERRUPTED)
        self.is_stopping = True
        if self._show is None or not self._show.stopping():
            _say(STOPPING)
        if self.stop is not None:
            with suppress(RuntimeError):  # the loop is closed: the work has ended
                self.stop()


def run(
    start: Callable[[asyncio.Event], Coroutine[Any, Any, T]],
    show: Display | None = None,
    *,
    cancels: bool = False,
) -> T:
    """Run the work that `start` makes. A signal sets the event that it is given, and the work ends itself."""
    import asyncio

    from stacpull.child_process import kill_all
    from stacpull.errors import InterruptedRunError
    from stacpull.runtime import handle_bus_errors, run_on_loop

    handler = _Handler(show, kill_all)

    async def watched() -> T:
        event, task = asyncio.Event(), asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that runs has one
        stop = task.cancel if cancels else event.set
        handler.stop = partial(asyncio.get_running_loop().call_soon_threadsafe, stop)
        if handler.is_stopping:
            handler.stop()
        return await start(event)

    handle_bus_errors()
    before = {}
    if threading.current_thread() is threading.main_thread():  # no other thread gets signals
        mark_begun()
        before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        return run_on_loop(watched())
    except asyncio.CancelledError:
        if handler.is_stopping:
            raise InterruptedRunError("Interrupted.") from None
        raise
    finally:
        if show is not None:
            show.close()
        for number, previous in before.items():
            signal.signal(number, previous)


def _say(text: str) -> None:
    with suppress(OSError):
        os.write(2, f"stacpull: {text}\n".encode())
