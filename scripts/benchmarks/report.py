"""The report of a benchmark: medians and ratios, as a table for people and a JSON object for programs."""

from __future__ import annotations

import os
import platform
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scripts.benchmarks.measuring import Figure

OURS = "stacpull"
_BUSY = 0.5


def summary(
    runs: Mapping[str, Sequence[Figure]], skipped: Mapping[str, str], failed: Mapping[str, str], files: int
) -> dict[str, dict[str, Any]]:
    """Return the medians of each tool by name, and the largest memory.

    A tool that failed once has no figures, even if its earlier rounds were correct.
    """
    right = {name: _median(found) for name, found in runs.items() if name not in failed}
    ours = right.get(OURS)
    rows = {name: _figures(middle, ours, files) for name, middle in right.items()}
    return {
        **rows,
        **{name: {"failed": reason} for name, reason in failed.items()},
        **{name: {"skipped": reason} for name, reason in skipped.items()},
    }


def _median(runs: Sequence[Figure]) -> Figure:
    middle = Figure._make(map(statistics.median, zip(*runs, strict=True)))
    return middle._replace(memory=max(run.memory for run in runs))


def _figures(middle: Figure, ours: Figure | None, files: int) -> dict[str, Any]:
    return {
        "wall_s": round(middle.wall, 3),
        "wall_to_ours": round(middle.wall / ours.wall, 3) if ours else None,
        "cpu_s": round(middle.cpu, 3),
        "cpu_us_per_file": round(middle.cpu / files * 1e6, 1),
        "cpu_to_ours": round(middle.cpu / ours.cpu, 3) if ours else None,
        "memory_mb": round(middle.memory / 1e6, 1),
    }


def lines(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the table for the JSON object of a scenario."""
    yield f"{row['name']}: {row['about']}"
    yield (
        f"  {row['files']:,} files, {row['bytes'] / 1e6:,.0f} MB, from {row['origin']}, "
        f"to {row['destination']}; medians, rounds: {row['rounds']}"
    )
    yield "  tool          wall s  to ours    CPU s  µs a file  to ours      MB"
    for tool, figures in row["tools"].items():
        yield f"  {tool:<12}{_row(figures)}"


def _row(figures: Mapping[str, Any]) -> str:
    for word in ("skipped", "failed"):
        if word in figures:
            return f"  {word}: {figures[word]}"
    wall, cpu = (
        "" if times is None else f"{times:.2f}" for times in (figures["wall_to_ours"], figures["cpu_to_ours"])
    )
    return (
        f"{figures['wall_s']:8.2f} {wall:>8} {figures['cpu_s']:8.2f} {figures['cpu_us_per_file']:10,.0f} "
        f"{cpu:>8} {figures['memory_mb']:7,.0f}"
    )


def machine() -> dict[str, Any]:
    """Return a description of this machine; `load` is the average of the last minute."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "cores": os.cpu_count(),
        "processor": _processor(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return found[1] if found else platform.machine()


def warning(load: float, cores: int) -> str | None:
    """Return a warning if the machine is busy, else None."""
    if load <= _BUSY * cores:
        return None
    return f"this machine is busy (load {load:.1f} on {cores} cores): figures and even ratios are inaccurate"
