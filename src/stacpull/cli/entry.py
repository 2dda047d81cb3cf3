"""The process `stacpull`: its standard streams and signals are made safe before anything else is imported.

Imports take most of the time of a short command. The handlers of signals are those of the interpreter,
because the event loop runs none of its own while it is blocked.
"""

from __future__ import annotations

import atexit
import errno
import gc
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TextIO, TypeVar

from stacpull.errors import DestinationError, InterruptedRunError, UsageError
from stacpull.system import GARBAGE_AFTER, require_posix

if TYPE_CHECKING:
    import asyncio

    from _typeshed import ReadableBuffer

    from stacpull.cli.progress import Display

T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOPPING = "Stopping: running transfers get 5 s. Another Ctrl-C or SIGTERM quits at once."


def main() -> NoReturn:
    try:
        require_posix()
    except ImportError as problem:
        sys.stderr.write(f"stacpull: {problem}\n")
        sys.exit(UsageError.exit_code)
    for number in SIGNALS:
        signal.signal(number, exit_at_once)
    for descriptor in (0, 1, 2):  # in this order, because open() takes the lowest free descriptor
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - lives as long as the process
    output, sys.stdout = _safe_stream(1, sys.stdout)
    _, sys.stderr = _safe_stream(2, sys.stderr)
    gc.set_threshold(GARBAGE_AFTER)
    from stacpull.cli.main import execute

    try:
        code = execute()
        sys.stdout.flush()
    finally:  # the exit code is final: a signal that comes now does not change it
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
    if output.problem is not None and output.problem.errno != errno.EPIPE:
        sys.stderr.write(f"stacpull: Standard output cannot be written: {output.problem.strerror}.\n")
        code = code or DestinationError.exit_code
    # The process ends at once, because the interpreter would first free every object.
    atexit._run_exitfuncs()  # noqa: SLF001 -- what sys.exit calls, too
    sys.stderr.flush()
    os._exit(code)


class _StandardStream(io.FileIO):
    """A standard stream that never fails: after the first error (`problem`), the rest goes to /dev/null."""

    problem: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except OSError as problem:
            self.problem = problem
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return memoryview(data).nbytes


def _safe_stream(descriptor: int, stream: TextIO | None) -> tuple[_StandardStream, TextIO]:
    raw = _StandardStream(descriptor, "w", closefd=False)
    return raw, io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(stream, "encoding", "utf-8"),
        errors="backslashreplace",  # file names may hold bytes that are not text
        line_buffering=descriptor == 2 or raw.isatty(),  # noqa: PLR2004 - standard error
    )


def exit_at_once(_number: int, _frame: FrameType | None) -> NoReturn:
    """End the process; KeyboardInterrupt would become a RuntimeError while a class is being made."""
    _say("Interrupted.")
    os._exit(InterruptedRunError.exit_code)


class _Handler:
    """Stops the work at the first signal; the second one ends the process and its child processes at once."""

    is_stopping = False
    stop: Callable[[], object] | None = None

    def __init__(self, show: Display | None, kill_all: Callable[[], None]) -> None:
        self._show = show
        self._kill_all = kill_all

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        """Handle one signal; an exception here would surface anywhere in the program."""
        if self.is_stopping:
            done = ""
            if self._show is not None:
                self._show.close()
                done = self._show.done()
            self._kill_all()
            _say(f"Quit{done}. Run the same command again to resume.")
            os._exit(InterruptedRunError.exit_code)
        self.is_stopping = True
        if self._show is not None:
            self._show.hide()
        _say(STOPPING)
        if self.stop is not None:
            with suppress(RuntimeError):  # the loop is closed: the work has ended
                self.stop()


def run(start: Callable[[asyncio.Event], Coroutine[Any, Any, T]], show: Display | None = None) -> T:
    """Run the work that `start` returns for an event. A signal sets the event, and the work ends itself."""
    import asyncio

    from stacpull.child_process import kill_all
    from stacpull.runtime import handle_bus_errors, run_on_loop

    handler = _Handler(show, kill_all)

    async def watched() -> T:
        event = asyncio.Event()
        handler.stop = partial(asyncio.get_running_loop().call_soon_threadsafe, event.set)
        if handler.is_stopping:
            handler.stop()
        return await start(event)

    handle_bus_errors()
    before = {}
    if threading.current_thread() is threading.main_thread():  # no other thread gets signals
        before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        return run_on_loop(watched())
    finally:
        if show is not None:
            show.close()
        for number, previous in before.items():
            signal.signal(number, previous)


def _say(text: str) -> None:
    with suppress(OSError):
        os.write(2, f"stacpull: {text}\n".encode())
