"""Figures of runs, and what is made of them: medians and ratios. Pure."""

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
    """The most, in bytes."""
    user: float = 0.0
    """Of the processor time, what the tool itself took."""
    system: float = 0.0
    """And what the kernel took for it."""
    switches: int = 0
    """How often a processor changed from one of its threads to another thread."""
    origin_cpu: float = 0.0
    """Processor time of the origin."""
    others_cpu: float = 0.0
    """Processor time of everything else on the machine."""


class Outcome(NamedTuple):
    """What one tool did in a scenario: its runs that were right, or why there are none (or no more)."""

    tool: str
    runs: tuple[Figure, ...] = ()
    skipped: str | None = None
    failed: str | None = None


def median(runs: Sequence[Figure]) -> Figure:
    """The median of each figure by itself; of memory the largest. Raises ValueError if there are no runs."""
    if not runs:
        raise ValueError("there are no runs to take the median of")
    middle = Figure._make(map(statistics.median, zip(*runs, strict=True)))
    return middle._replace(memory=max(run.memory for run in runs))


def beside(figure: Figure, busy: float, origin: float) -> Figure:
    """The figure with what else the machine did meanwhile, in seconds of processor time.

    Args:
        figure: Of the tool.
        busy: All that the machine did.
        origin: Of that, the origin's.
    """
    return figure._replace(origin_cpu=origin, others_cpu=max(0.0, busy - origin - figure.cpu))


def ratio(theirs: float, ours: float | None) -> float | None:
    """How many times ours theirs is; None where ours is not known."""
    return round(theirs / ours, 3) if ours else None


def summary(outcomes: Sequence[Outcome], files: int) -> dict[str, dict[str, Any]]:
    """The figures of each tool by its name, as docs/performance.md describes them.

    A tool that failed has no figures, also where earlier rounds of it were right: half a measurement is none.
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
    """Whether one more round is run: always a first one, others only if one as long as the longest fits.

    `longest` is the longest round so far in seconds, `left` what is left for the scenario (without --quick
    infinite).
    """
    return done == 0 or (done < wanted and longest <= left)
