"""Settings of the interpreter in stacpull's own processes: memory, cycle collector, event loop.

glibc raises its mmap threshold to the largest freed block (mallopt(3), "M_MMAP_THRESHOLD"), so each thread
would keep the memory of its largest page. So the threshold is fixed, and threads share one heap.
"""

import ctypes
import gc
import os
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

from stacpull.errors import RUN_AGAIN, DestinationError
from stacpull.system import GARBAGE_AFTER

T = TypeVar("T")

_BUS_ERROR = f"The disk of DEST failed (SIGBUS). What is recorded is safe: check it, then {RUN_AGAIN}."
_M_TRIM_THRESHOLD = -1  # these three: malloc.h of glibc
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_LARGE = 2 * 1024 * 1024  # bytes: bodies in memory (1 MiB) and pieces of long files are smaller
_SLACK = 8 * 1024 * 1024  # bytes that may be free at the end of a heap before it shrinks, not 128 KiB


def tune_memory() -> None:
    """Make glibc's malloc return large blocks and use one heap, and collect cycles seldom."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE)
        mallopt(_M_TRIM_THRESHOLD, _SLACK)
        mallopt(_M_ARENA_MAX, 1)
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER, 50, 100)


def _end_of_bus_error(_number: int) -> None:
    os.write(2, f"stacpull: {_BUS_ERROR}\n".encode())
    os._exit(DestinationError.exit_code)


_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int)(_end_of_bus_error)


def handle_bus_errors() -> None:
    """Make a SIGBUS end this process with a message.

    SQLite maps the index of its log into memory, so a full file system causes a SIGBUS. A handler in Python
    would never be called, because the access is repeated before it.
    """
    ctypes.CDLL(None).signal(signal.SIGBUS, _HANDLER)


def run_on_loop(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on uvloop, which needs less CPU time than the loop of asyncio."""
    import asyncio  # noqa: PLC0415 - not in the store process

    from uvloop import new_event_loop  # noqa: PLC0415

    tune_memory()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(coroutine)
