"""Measure the processor time of the machine and of the servers of a benchmark."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_IDLE = slice(3, 5)
"""The columns idle and iowait of the line `cpu` in /proc/stat: user, nice, system, idle, … (proc_stat(5))."""
_STEAL = 8
"""The columns up to steal. Later columns are included in user and nice."""
_TIMES = slice(11, 13)
"""The columns utime and stime after the name in /proc/PID/stat."""


class MachineTime(NamedTuple):
    """Seconds of processor time so far."""

    busy: float
    """Of all processors, including the time that the hypervisor gave to other machines."""
    servers: float
    """Of the running descendants of this process."""


def machine_time() -> MachineTime:
    """Return the times so far; 0 without /proc."""
    busy = 0
    with contextlib.suppress(OSError):
        columns = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
        busy = sum(columns[:_STEAL]) - sum(columns[_IDLE])
    return MachineTime(busy / _TICKS, sum(map(_ticks, _below(os.getpid()))) / _TICKS)


def _ticks(pid: int) -> int:
    with contextlib.suppress(OSError):
        return sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[_TIMES]))
    return 0


def _below(pid: int) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (thread / "children").read_text().split()):
                yield child
                yield from _below(child)
