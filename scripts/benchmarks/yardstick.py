"""Run a program and measure wall time, processor time and memory of it and all its descendants.

    python -I -S yardstick.py RESULT SECONDS PROGRAM ARGUMENT...

Writes a JSON object to RESULT: `code` (exit code, negative for a signal; null if it was killed after
SECONDS), `wall` and `cpu` in seconds, `memory` in bytes. It is a separate process with few imports, for two
reasons. getrusage counts all children that were waited for, and as a "subreaper" (prctl(2)) this process also
inherits those whose parent did not wait. Linux also counts the memory of the parent before exec: a small
parent keeps that small (about 10 MB, the least possible figure).

Memory is the largest resident set, or for a program with several processes the largest sum of their
proportional set sizes (proc(5), smaps_rollup), sampled four times a second.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

LOOK = 0.25
"""Seconds between two samples of the memory."""
LINGER = 5.0
"""Seconds before descendants that outlive the program are killed."""
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


def main(result: str, seconds: str, *command: str) -> None:
    """Run `command` for at most `seconds`, and write the figures to the file `result`."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        taken = _run(command, float(seconds))
    finally:
        _end_all()
    Path(result).write_text(json.dumps(taken))


def _run(command: tuple[str, ...], seconds: float) -> dict[str, object]:
    started = time.monotonic()
    pid = os.posix_spawnp(command[0], command, os.environ)
    memory = _watch(pid, started + seconds)
    wall = time.monotonic() - started
    done = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if done else None
    _end_all(LINGER if done else 0)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    memory = max(memory, usage.ru_maxrss * 1024)
    return {
        "code": code,
        "wall": wall,
        "cpu": usage.ru_utime + usage.ru_stime,
        "memory": memory,
    }


def _watch(pid: int, deadline: float) -> int:
    """Wait for `pid` until the deadline; return the peak memory while there were several processes."""
    peak = 0
    ending = os.pidfd_open(pid)
    try:
        while (left := deadline - time.monotonic()) > 0:
            if select.select([ending], [], [], min(LOOK, left))[0]:
                break
            tree = list(_descendants(os.getpid()))
            if len(tree) > 1:
                peak = max(peak, sum(map(_proportional_set, tree)))
    finally:
        os.close(ending)
    return peak


def _end_all(patience: float = 0) -> None:
    """Wait for all children, and kill those still running after `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid:
            continue
        if time.monotonic() >= deadline:
            for child in _descendants(os.getpid()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
        time.sleep(0.01)


def _descendants(pid: int) -> Iterator[int]:
    """Yield all descendants of `pid`; one that ends meanwhile is skipped."""
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (thread / "children").read_text().split()):
                yield child
                yield from _descendants(child)


def _proportional_set(pid: int) -> int:
    """Return the proportional set size of a process in bytes."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main(*sys.argv[1:])
