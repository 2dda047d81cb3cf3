"""Figures of runs, and what is made of them: medians and ratios. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

OURS = "stacpull"


class Figure(NamedTuple):
    """One run: seconds of wall and of processor time (all processes), most memory in bytes."""

    wall: float
    cpu: float
    memory: int


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
    return Figure(
        statistics.median(run.wall for run in runs),
        statistics.median(run.cpu for run in runs),
        max(run.memory for run in runs),
    )


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
