"""The report of a benchmark: a table for people, a JSON object for programs."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from scripts.benchmarks.figures import summary
from scripts.benchmarks.rounds import Measured

_BUSY = 0.5
_OTHERS = 0.2
"""If other programs take more cores than this, wall times mean little."""


def as_dict(measured: Measured) -> dict[str, Any]:
    """Return the JSON object of a scenario."""
    scenario = measured.scenario
    return {
        "name": scenario.name,
        "about": scenario.about,
        "mix": scenario.mix.name,
        "files": measured.files,
        "bytes": measured.size,
        "origin": measured.origin,
        "link": measured.link,
        "rtt_ms": measured.rtt_ms,
        "destination": measured.destination,
        "rounds": measured.rounds,
        "tools": summary(measured.outcomes, measured.files),
    }


def lines(row: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the table for the JSON object of a scenario."""
    yield f"{row['name']}: {row['about']}"
    yield (
        f"  {row['files']:,} files, {row['bytes'] / 1e6:,.0f} MB, from {row['origin']}, "
        f"{_way(row)}, to {row['destination']}; medians of {_rounds(row['rounds'])}"
    )
    yield (
        "  tool          wall s  to ours    CPU s   user s    sys s  µs a file  to ours      MB  switches  "
        "origin's CPU s"
    )
    for tool, figures in row["tools"].items():
        yield f"  {tool:<12}{_row(figures)}"
    others = max((figures.get("others_cores", 0) for figures in row["tools"].values()), default=0)
    if others > _OTHERS:
        yield (
            f"  busy: other programs took up to {others:.1f} of {os.cpu_count()} cores during a run. "
            "The wall times mean nothing; compare the CPU times of many rounds"
        )


def _way(row: Mapping[str, Any]) -> str:
    """Return the description of the link and its measured round trip."""
    return f"{row['link']}, measured {row['rtt_ms']} ms" if row["rtt_ms"] else str(row["link"])


def _rounds(number: int) -> str:
    return "1 round" if number == 1 else f"{number} rounds"


def _row(figures: Mapping[str, Any]) -> str:
    for word in ("skipped", "failed"):
        if word in figures:
            return f"  {word}: {figures[word]}"
    wall, cpu = _times(figures["wall_to_ours"]), _times(figures["cpu_to_ours"])
    return (
        f"{figures['wall_s']:8.2f} {wall:>8} {figures['cpu_s']:8.2f} {figures['user_s']:8.2f} "
        f"{figures['system_s']:8.2f} {figures['cpu_us_per_file']:10,.0f} {cpu:>8} "
        f"{figures['memory_mb']:7,.0f} {figures['switches']:9,} {figures['origin_cpu_s']:15.2f}"
    )


def _times(figure: float | None) -> str:
    return "" if figure is None else f"{figure:.2f}"


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
