"""The figures of runs, and their medians and ratios. No I/O."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

OURS = "stacpull"


class Figure(NamedTuple):
    """One run of a tool, with all of its processes. Times in seconds."""

    wall: float
    cpu: float
    memory: int
    """The peak, in bytes."""
    user: float = 0.0
    """Processor time in user mode."""
    system: float = 0.0
    """Processor time in the kernel."""
    switches: int = 0
    """Context switches of its threads."""
    origin_cpu: float = 0.0
    """Processor time of the origin."""
    others_cpu: float = 0.0
    """Processor time of everything else on the machine."""


class Outcome(NamedTuple):
    """The correct runs of one tool in a scenario, or why it was skipped or failed."""

    tool: str
    runs: tuple[Figure, ...] = ()
    skipped: str | None = None
    failed: str | None = None


def median(runs: Sequence[Figure]) -> Figure:
    """Return the median of each figure, but the largest memory. Raises ValueError if there are no runs."""
    if not runs:
        raise ValueError("there are no runs to take the median of")
    middle = Figure._make(map(statistics.median, zip(*runs, strict=True)))
    return middle._replace(memory=max(run.memory for run in runs))


def beside(figure: Figure, busy: float, origin: float) -> Figure:
    """Return the figure with the processor time that the rest of the machine took meanwhile.

    Args:
        figure: A run of the tool.
        busy: Seconds of processor time of the whole machine.
        origin: Seconds of processor time of the origin.
    """
    return figure._replace(origin_cpu=origin, others_cpu=max(0.0, busy - origin - figure.cpu))


def ratio(theirs: float, ours: float | None) -> float | None:
    """Return `theirs` divided by `ours`, None if ours is unknown."""
    return round(theirs / ours, 3) if ours else None


def summary(outcomes: Sequence[Outcome], files: int) -> dict[str, dict[str, Any]]:
    """Return the figures of each tool by name, as docs/performance.md describes them.

    A tool that failed once has no figures, even if its earlier rounds were correct.
    """
    right = {o.tool: median(o.runs) for o in outcomes if o.runs and not o.failed}
    ours = right.get(OURS)
    return {
        outcome.tool: _row(right[outcome.tool], ours, outcome, files)
        if outcome.tool in right
        else {"failed": outcome.failed}
        if outcome.failed
        else {"skipped": outcome.skipped}
        for outcome in outcomes
    }


def _row(middle: Figure, ours: Figure | None, outcome: Outcome, files: int) -> dict[str, Any]:
    return {
        "wall_s": round(middle.wall, 3),
        "cpu_s": round(middle.cpu, 3),
        "cpu_us_per_file": round(middle.cpu / files * 1e6, 1),
        "memory_mb": round(middle.memory / 1e6, 1),
        "user_s": round(middle.user, 3),
        "system_s": round(middle.system, 3),
        "switches": round(middle.switches),
        "origin_cpu_s": round(middle.origin_cpu, 3),
        "others_cores": round(max(run.others_cpu / run.wall for run in outcome.runs), 2),
        "wall_to_ours": ratio(middle.wall, ours.wall if ours else None),
        "cpu_to_ours": ratio(middle.cpu, ours.cpu if ours else None),
        "runs": [
            {"wall_s": round(r.wall, 3), "cpu_s": round(r.cpu, 3), "memory_mb": round(r.memory / 1e6, 1)}
            for r in outcome.runs
        ],
    }


def another_round(done: int, wanted: int, longest: float, left: float) -> bool:
    """Return whether to run another round: always a first one, a later one only if it fits into the time.

    `longest` is the longest round so far in seconds. `left` is the time left for the scenario in seconds
    (infinite without --quick).
    """
    return done == 0 or (done < wanted and longest <= left)
