"""Processor time of the machine, and of the servers of a benchmark: what a tool had to share it with."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
_IDLE = slice(3, 5)
"""idle and iowait, among the columns of `cpu` in /proc/stat (proc_stat(5)): user, nice, system, idle, ..."""
_STEAL = 8
"""Columns up to steal; those behind it are counted in user and nice as well."""
_TIMES = slice(11, 13)
"""utime and stime, among the columns behind the name in /proc/PID/stat."""


class MachineTime(NamedTuple):
    """Seconds of processor time so far."""

    busy: float
    """Of all processors, with what the hypervisor gave to other machines."""
    servers: float
    """Of the processes below this one that are running."""


def machine_time() -> MachineTime:
    """Return what was spent so far; nothing where there is no /proc."""
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
