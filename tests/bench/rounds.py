"""One scenario, from its first byte to its figures: tools in turn, round after round, every tree compared."""

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

from tests.bench import destinations, tools
from tests.bench.bucket_destination import Gateway, bucket, check_bucket, gateway
from tests.bench.checking import WrongTreeError, check
from tests.bench.figures import Figure, Outcome, another_round, beside
from tests.bench.lacking import Unavailable
from tests.bench.links import Link, check_round_trip, link
from tests.bench.machine_time import machine_time
from tests.bench.mixes import File, write_files
from tests.bench.origins import Origin, origin
from tests.bench.scenarios import Scenario
from tests.bench.tools import Task, Tool

PATIENCE = 90.0
"""Seconds that a tool may take for one run."""
FOREVER = float("inf")
_LEAST = 5.0
_TAIL = 200
_YARDSTICK = Path(__file__).with_name("yardstick.py")


class FailedError(Exception):
    """A tool did not do its job; the message says what happened."""


class TooLongError(FailedError):
    """A tool took longer than it may."""


class _Told(NamedTuple):
    """What is known of the tools so far, each by name: runs that were right, why skipped, why failed."""

    runs: dict[str, list[Figure]]
    skipped: dict[str, str]
    failed: dict[str, str]


@dataclass(frozen=True)
class Plan:
    """How a scenario is to be run: by the tools that are there, each with the command that starts it.

    `absent` are the reasons why others are not. With --quick the scenario should be done at `due`, and
    nothing runs past `latest` (both by time.monotonic, else FOREVER).
    """

    tools: dict[str, list[str]]
    absent: dict[str, str]
    rounds: int
    quick: bool
    due: float
    latest: float
    say: Callable[[str], None]

    def check_time(self) -> None:
        """Nothing if there is time left. Raises Unavailable."""
        if time.monotonic() >= self.latest:
            raise Unavailable("the minute of --quick was over")

    def chosen(self) -> list[Tool]:
        """The tools that are there, in the order of the table."""
        return [tool for tool in tools.TOOLS if tool.name in self.tools]


@dataclass
class Measured:
    """A scenario that was run: where, and what each tool did."""

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
        """The rounds that were run to their end."""
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
        kind = "memory" if scenario.destination == "bucket" else scenario.destination
        with destinations.destination(kind, work, room):
            pass  # before anything is made for a destination that cannot be had
        way = stack.enter_context(link(scenario.rtt_ms, logs))
        write_files(root, files)
        served = stack.enter_context(origin(scenario.origin, way, root, files, logs, capped=scenario.capped))
        target = None
        if scenario.destination == "bucket":
            target = stack.enter_context(gateway(served, logs, size * plan.rounds * len(plan.tools)))
            about = f"a new bucket of {'the same' if served.keys else 'a'} radosgw a run"
        measured = Measured(
            scenario,
            len(files),
            size,
            served.about,
            way.about,
            _round_trip(way, served, scenario.rtt_ms),
            about if scenario.destination != "ext4" else "a fresh ext4 on a loop device a run",
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
    """Where the destination is a bucket."""

    def outcomes(self) -> Iterator[Outcome]:
        """Run the rounds; a tool that cannot or fails is not asked again."""
        names = [tool.name for tool in self.plan.chosen()]
        told = _Told({name: [] for name in names}, dict(self.plan.absent), {})
        done, longest = 0, 0.0
        while another_round(done, self.plan.rounds, longest, self._left()):
            before = time.monotonic()
            if not self._round(told):
                break
            done, longest = done + 1, max(longest, time.monotonic() - before)
        for name in (tool.name for tool in tools.TOOLS):
            if name in names or name in told.skipped:
                runs = tuple(told.runs.get(name, ())[: max(done, 1)])
                yield Outcome(name, runs, told.skipped.get(name), told.failed.get(name))

    def _round(self, told: _Told) -> bool:
        """Run every tool once; False if the time of --quick was over before the end of a later round."""
        able = [t for t in self.plan.chosen() if t.name not in told.skipped and t.name not in told.failed]
        for position, tool in enumerate(able):
            try:
                told.runs[tool.name].append(self._run(tool, self._patience(len(able) - position)))
            except Unavailable as reason:
                told.skipped[tool.name] = str(reason)
            except (FailedError, WrongTreeError) as error:
                hurried = isinstance(error, TooLongError) and self.plan.quick
                if hurried and told.runs[tool.name]:
                    return False
                told.failed[tool.name] = f"{error}, all that --quick had for it" if hurried else str(error)
        return True

    def _left(self) -> float:
        return self.plan.due - time.monotonic()

    def _patience(self, tools_left: int) -> float:
        """Seconds that the next run may take: with --quick twice its share, if any. Raises Unavailable."""
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
    """Run a command under the yardstick, with `prefix` in front. Raises FailedError unless it ends with 0."""
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
        raise FailedError(f"could not be run: {_last_words(log)}")
    taken = json.loads(result.read_text())
    if taken["code"] is None:
        raise TooLongError(f"not done after {patience:.0f} s")
    if taken["code"] != 0:
        raise FailedError(f"ended with {taken['code']}: {_last_words(log)}")
    user, system = taken["user"], taken["system"]
    return Figure(taken["wall"], user + system, taken["memory"], user, system, taken["switches"])


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Wait for a yardstick. If that is interrupted it is asked to end, so that it takes the tool along."""
    try:
        process.wait()
    except BaseException:
        process.terminate()
        process.wait()
        raise


def _last_words(log: Path) -> str:
    """The end of what a tool said, on one line."""
    said = log.read_text(errors="replace")[-_TAIL:]
    return " ".join(said.split()) or "it said nothing"
