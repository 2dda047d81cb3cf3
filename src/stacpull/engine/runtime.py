"""The interpreter of our own processes: its memory, its cycle collector, and its event loop.

Large blocks are given back to the system, and cycles are searched for seldom.

glibc raises its threshold for blocks of their own (mmap) to the size of the largest block that was ever
freed, up to 32 MB (mallopt(3), "M_MMAP_THRESHOLD"). A page of items that a thread of asyncio's pool decodes
then moves into the heap of that thread, and each thread keeps what its largest page took: 5 MB times six, in
steps over the first hundred thousand assets. With a fixed threshold a large block goes back to the system
when it is freed; with one heap for all threads, what one thread has freed serves the others. The threads hold
the interpreter's lock while they allocate, so they do not wait for each other.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h of glibc
_LARGE = 2 * 1024 * 1024
"""Bytes. Bodies kept in memory (1 MiB) and pieces of long files are less, and stay in the heap."""
_SLACK = 8 * 1024 * 1024
"""Bytes that may be free at the end of a heap before it shrinks; the default is 128 KiB."""

_GARBAGE_AFTER = 100_000
"""Objects made before the cycle collector looks. With its default of 700 it searches the same long-lived
objects thousands of times in a run of millions of small assets, which make no cycles: 5 % of the time."""


def collect_seldom() -> None:
    """Have the cycle collector leave alone what exists now, and look seldom."""
    gc.freeze()
    gc.set_threshold(_GARBAGE_AFTER, 50, 100)


def give_back_large_blocks() -> bool:
    """Have malloc keep no large block, and one heap; False where it is not glibc's, and stays as it is."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(
        mallopt(_M_MMAP_THRESHOLD, _LARGE) and mallopt(_M_TRIM_THRESHOLD, _SLACK) and mallopt(_M_ARENA_MAX, 1)
    )


def trim() -> None:
    """Return all free memory of the C heap to the system, if this is glibc."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


def run_on_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run on uvloop where it is installed: half the processor time of small transfers."""
    import asyncio  # noqa: PLC0415 - not in the store process

    give_back_large_blocks()
    collect_seldom()
    try:
        from uvloop import new_event_loop  # noqa: PLC0415 - may be missing
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(work)
