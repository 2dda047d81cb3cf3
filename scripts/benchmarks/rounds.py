"""Run a scenario: in each round every tool downloads once, and its tree is compared with the origin."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.benchmarks import report, tools
from scripts.benchmarks.bucket_destination import Gateway, bucket, check_bucket, gateway
from scripts.benchmarks.checking import WrongTreeError, check
from scripts.benchmarks.lacking import Unavailable
from scripts.benchmarks.measuring import FailedError, Figure, measured
from scripts.benchmarks.mixes import File, write_files
from scripts.benchmarks.origins import Origin, origin
from scripts.benchmarks.scenarios import Scenario
from scripts.benchmarks.tools import Task, Tool

PATIENCE = 90.0
"""Time limit of one run of a tool, in seconds."""
_MEMORY = Path("/dev/shm")  # noqa: S108 - only the parent of a new directory
_SPARE = 256 << 20
_PER_FILE = 8192  # an inode and the unused part of the last block


@dataclass(frozen=True)
class Plan:
    """How to run a scenario: the commands of the installed tools, and why others are `absent`.

    `place` is where to write files; None for memory if it has room.
    """

    tools: dict[str, list[str]]
    absent: dict[str, str]
    rounds: int
    quick: bool
    place: Path | None
    say: Callable[[str], None]


def measure(scenario: Scenario, plan: Plan) -> dict[str, Any]:
    """Run a scenario and return its row of the report. Raises Unavailable if this machine cannot."""
    files = scenario.mix.files(scenario.items_of(quick=plan.quick))
    size = sum(file.size for file in files)
    with ExitStack() as stack:
        place = _place(plan.place, 2 * size + size // 10 + len(files) * _PER_FILE + _SPARE)
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=place, prefix="stacpull-bench-")))
        root, logs = work / "root", work / "logs"
        root.mkdir()
        logs.mkdir()
        write_files(root, files)
        served = stack.enter_context(origin(scenario.origin, root, files, logs))
        target, destination = None, str(place)
        if scenario.into_bucket:
            target = stack.enter_context(gateway(logs, size * plan.rounds * len(plan.tools)))
            destination = "a new bucket of a radosgw for each run"
        runs: dict[str, list[Figure]] = {}
        skipped, failed = dict(plan.absent), dict[str, str]()
        for _ in range(plan.rounds):
            for tool in tools.TOOLS:
                if tool.name not in plan.tools or tool.name in skipped or tool.name in failed:
                    continue
                plan.say(f"{scenario.name}: {tool.name}")
                try:
                    figure = _run(tool, plan.tools[tool.name], served, files, work, target)
                    runs.setdefault(tool.name, []).append(figure)
                except Unavailable as reason:
                    skipped[tool.name] = str(reason)
                except (FailedError, WrongTreeError) as error:
                    failed[tool.name] = str(error)
    return {
        "name": scenario.name,
        "about": scenario.about,
        "files": len(files),
        "bytes": size,
        "origin": served.about,
        "destination": destination,
        "rounds": plan.rounds,
        "tools": report.summary(runs, skipped, failed, len(files)),
    }


def _place(wanted: Path | None, needed: int) -> Path:
    """Return a directory with `needed` free bytes: the wanted one, or memory, or else one on disk."""
    places = [wanted] if wanted else [_MEMORY, Path(tempfile.gettempdir())]
    for place in places:
        if os.access(place, os.W_OK) and shutil.disk_usage(place).free >= needed:
            return place
    raise Unavailable(f"needs {needed / 1e9:.1f} GB in {' or '.join(map(str, places))}")


def _run(
    tool: Tool, start: list[str], served: Origin, files: list[File], work: Path, target: Gateway | None
) -> Figure:
    """Run a tool once and compare its tree. Raises Unavailable, FailedError, WrongTreeError."""
    with (
        tempfile.TemporaryDirectory(dir=work, prefix="dest-") as dest,
        tempfile.TemporaryDirectory(dir=work, prefix="lists-") as lists,
        bucket(target) if target else nullcontext() as made,
    ):
        task = Task(served, files, Path(dest), Path(lists), made)
        invocation = tool.invoke(start, task)
        environment = tools.environment(invocation, task.work)
        figure = measured(invocation.command, task.work, PATIENCE, environment)
        if made is None:
            check(served.root, files, task.dest, tool.place, tool.own)
        else:
            check_bucket(served.root, files, made, tool.place, tool.own)
    return figure
