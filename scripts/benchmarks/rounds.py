"""Run a scenario: in each round every tool downloads once, and its tree is compared with the origin."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from scripts.benchmarks import destinations, tools
from scripts.benchmarks.bucket_destination import Gateway, bucket, check_bucket, gateway, light_gateway
from scripts.benchmarks.checking import WrongTreeError, check
from scripts.benchmarks.figures import Figure, Outcome, another_round, beside
from scripts.benchmarks.lacking import Unavailable
from scripts.benchmarks.links import Link, check_round_trip, link
from scripts.benchmarks.machine_time import machine_time
from scripts.benchmarks.mixes import File, write_files
from scripts.benchmarks.origins import Origin, origin
from scripts.benchmarks.scenarios import BUCKETS, Scenario
from scripts.benchmarks.tools import Task, Tool

PATIENCE = 90.0
"""Time limit of one run of a tool, in seconds."""
FOREVER = float("inf")
_LEAST = 5.0
_TAIL = 200
_YARDSTICK = Path(__file__).with_name("yardstick.py")


class FailedError(Exception):
    """A tool failed; the message gives the reason."""


class TooLongError(FailedError):
    """A tool exceeded its time limit."""


class _Results(NamedTuple):
    """The results so far by name of the tool: correct runs, reasons for skipping, reasons for failure."""

    runs: dict[str, list[Figure]]
    skipped: dict[str, str]
    failed: dict[str, str]


@dataclass(frozen=True)
class Plan:
    """How to run a scenario: the commands of the installed tools, and why others are `absent`.

    With --quick the scenario should be done at `due`, and nothing runs after `latest`. Both are times of
    time.monotonic, otherwise FOREVER.
    """

    tools: dict[str, list[str]]
    absent: dict[str, str]
    rounds: int
    quick: bool
    due: float
    latest: float
    say: Callable[[str], None]

    def check_time(self) -> None:
        """Raise Unavailable if no time is left."""
        if time.monotonic() >= self.latest:
            raise Unavailable("the minute of --quick was over")

    def chosen(self) -> list[Tool]:
        """Return the installed tools in the order of the table."""
        return [tool for tool in tools.TOOLS if tool.name in self.tools]


@dataclass
class Measured:
    """The setup of a scenario and the outcome of each tool."""

    scenario: Scenario
    files: int
    size: int
    origin: str
    link: str
    rtt_ms: float | None
    destination: str
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def rounds(self) -> int:
        """The number of complete rounds."""
        return max((len(outcome.runs) for outcome in self.outcomes), default=0)


def measure(scenario: Scenario, plan: Plan) -> Measured:
    """Run a scenario. Raises Unavailable if this machine cannot."""
    plan.check_time()
    files = scenario.mix.files(scenario.items_of(quick=plan.quick))
    size = sum(file.size for file in files)
    room = destinations.room(size, len(files))
    with ExitStack() as stack:
        memory, about = destinations.memory(size + room)
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=memory, prefix="stacpull-bench-")))
        root, logs = work / "root", work / "logs"
        root.mkdir()
        logs.mkdir()
        kind = "memory" if scenario.destination in BUCKETS else scenario.destination
        with destinations.destination(kind, work, room):
            pass  # fail early if the destination is unavailable
        way = stack.enter_context(link(scenario.rtt_ms, logs))
        write_files(root, files)
        served = stack.enter_context(origin(scenario.origin, way, root, files, logs, capped=scenario.capped))
        target = None
        if scenario.destination == "bucket":
            target = stack.enter_context(gateway(served, logs, size * plan.rounds * len(plan.tools)))
            about = f"a new bucket of {'the same' if served.keys else 'a'} radosgw for each run"
        elif scenario.destination in BUCKETS:
            target = stack.enter_context(light_gateway())
            about = "a new bucket of a light server for each run"
        measured = Measured(
            scenario,
            len(files),
            size,
            served.about,
            way.about,
            _round_trip(way, served, scenario.rtt_ms),
            about if scenario.destination != "ext4" else "a new ext4 on a loop device for each run",
        )
        course = _Course(scenario, plan, files, served, way, work, room, target)
        measured.outcomes = list(course.outcomes())
        return measured


def _round_trip(way: Link, served: Origin, wanted: float) -> float | None:
    if not wanted:
        return None
    port = int(served.base.rpartition(":")[2])
    found = way.round_trip(port)
    check_round_trip(found, wanted)
    return round(found, 1)


@dataclass(frozen=True)
class _Course:
    """The runs of a scenario."""

    scenario: Scenario
    plan: Plan
    files: list[File]
    served: Origin
    way: Link
    work: Path
    room: int
    gateway: Gateway | None
    """Set if the destination is a bucket."""

    def outcomes(self) -> Iterator[Outcome]:
        """Run the rounds; a tool that is skipped or fails does not run again."""
        names = [tool.name for tool in self.plan.chosen()]
        results = _Results({name: [] for name in names}, dict(self.plan.absent), {})
        done, longest = 0, 0.0
        while another_round(done, self.plan.rounds, longest, self._left()):
            before = time.monotonic()
            if not self._round(results):
                break
            done, longest = done + 1, max(longest, time.monotonic() - before)
        for name in (tool.name for tool in tools.TOOLS):
            if name in names or name in results.skipped:
                runs = tuple(results.runs.get(name, ())[: max(done, 1)])
                yield Outcome(name, runs, results.skipped.get(name), results.failed.get(name))

    def _round(self, results: _Results) -> bool:
        """Run every tool once; return False if a later round exceeds the time of --quick."""
        out = results.skipped.keys() | results.failed.keys()
        able = [tool for tool in self.plan.chosen() if tool.name not in out]
        for position, tool in enumerate(able):
            try:
                results.runs[tool.name].append(self._run(tool, self._patience(len(able) - position)))
            except Unavailable as reason:
                results.skipped[tool.name] = str(reason)
            except (FailedError, WrongTreeError) as error:
                hurried = isinstance(error, TooLongError) and self.plan.quick
                if hurried and results.runs[tool.name]:
                    return False
                results.failed[tool.name] = f"{error}, the time limit of --quick" if hurried else str(error)
        return True

    def _left(self) -> float:
        return self.plan.due - time.monotonic()

    def _patience(self, tools_left: int) -> float:
        """Return the time limit of the next run: with --quick twice its share. Raises Unavailable."""
        self.plan.check_time()
        latest = self.plan.latest - time.monotonic()
        return min(PATIENCE, latest, max(_LEAST, self._left() / tools_left * 2))

    def _run(self, tool: Tool, patience: float) -> Figure:
        """Run a tool once and compare its tree. Raises Unavailable, FailedError, WrongTreeError."""
        self.plan.say(f"{self.scenario.name}: {tool.name}")
        kind = "memory" if self.gateway else self.scenario.destination
        with (
            destinations.destination(kind, self.work, self.room) as dest,
            tempfile.TemporaryDirectory(dir=self.work, prefix="lists-") as lists,
            bucket(self.gateway) if self.gateway else nullcontext() as target,
        ):
            task = Task(self.served, self.files, dest, Path(lists), target)
            invocation = tool.invoke(self.plan.tools[tool.name], task)
            environment = tools.environment(invocation, task.work)
            before = machine_time()
            figure = yardstick(invocation.command, self.way.tools, environment, task.work, patience)
            spent = [after - then for after, then in zip(machine_time(), before, strict=True)]
            figure = beside(figure, *spent)
            if target is None:
                check(self.served.root, self.files, dest, tool.place, tool.own)
            else:
                check_bucket(self.served.root, self.files, target, tool.place, tool.own)
        return figure


def yardstick(
    command: list[str], prefix: Iterable[str], environment: dict[str, str], work: Path, patience: float
) -> Figure:
    """Run `prefix` and a command under the yardstick. Raises FailedError unless the exit code is 0."""
    result, log = work / "yardstick.json", work / "output.log"
    measuring = [sys.executable, "-I", "-S", str(_YARDSTICK), str(result), str(patience)]
    with log.open("wb") as output:
        _wait(
            subprocess.Popen(
                [*prefix, *measuring, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=work,
            )
        )
    if not result.exists():
        raise FailedError(f"could not be run: {_tail(log)}")
    taken = json.loads(result.read_text())
    if taken["code"] is None:
        raise TooLongError(f"not done after {patience:.0f} s")
    if taken["code"] != 0:
        raise FailedError(f"ended with {taken['code']}: {_tail(log)}")
    user, system = taken["user"], taken["system"]
    return Figure(taken["wall"], user + system, taken["memory"], user, system, taken["switches"])


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Wait for a yardstick. If interrupted, terminate it, which also ends the tool."""
    try:
        process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise


def _tail(log: Path) -> str:
    """Return the end of the output of a tool on one line."""
    text = log.read_text(errors="replace")[-_TAIL:]
    return " ".join(text.split()) or "no output"
