"""A mirror on a Dask cluster whose scheduler, workers and coordinator are killed at random moments.

The moments are random in what the replica has sent. A killed worker is replaced, and the run continues.
After a kill of the scheduler the whole cluster is replaced; its run may end by itself, or is killed as well.
After each end the mirror is inspected as it is (`inspected_mirror`), and the last run must complete it.
"""

from __future__ import annotations

import random
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.acceptance.chaos import WORKERS, Bodies
from tests.acceptance.command import Running, environment, mirror_of, run, wait_until
from tests.acceptance.dask_processes import DaskProcesses
from tests.acceptance.inspected_mirror import InspectedMirror
from tests.acceptance.trees import Damage, damage, expected_files

from stacpull_replicas import MlhubReplica, run_in_thread

VICTIMS = ("worker", "scheduler", "coordinator")
_SCHEDULER_LOST = 1
"""The exit code of a run that has neither scheduler nor workers."""


@dataclass
class DaskChaosReport:
    """What became of the mirror."""

    items: int
    files: int
    workers: int
    kills: dict[str, int] = field(default_factory=lambda: dict.fromkeys(VICTIMS, 0))
    """By victim."""
    damage: Damage = field(default_factory=Damage)
    files_again: int = 0
    bytes_again: int = 0
    bound: int = 0
    """Files that the kills may cost at most: what was in flight."""
    exit_codes: list[int] = field(default_factory=list)
    looks: int = 0
    seconds: float = 0.0
    complaints: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """How many kills there were."""
        return sum(self.kills.values())

    @property
    def is_right(self) -> bool:
        """True if nothing is wrong."""
        return not self.complaints


class _DaskChaos:
    def __init__(
        self,
        replica: MlhubReplica,
        place: Path,
        workers: int,
        draw: random.Random,
        say: Callable[[str], None],
    ) -> None:
        self.replica = replica
        self.dest = place / "mirror"
        self.assets = expected_files(replica.dataset, range(replica.dataset.items))
        self.report = DaskChaosReport(replica.dataset.items, len(self.assets), workers)
        self._place = place
        self._draw = draw
        self._say = say
        self._rest = InspectedMirror(self.dest, self.assets)
        self._bodies = Bodies(replica)
        self._mirror = 0

    def run(self, kills: int, afresh: int) -> DaskChaosReport:
        """Kill so many times; a new mirror is begun after each `afresh`."""
        started = time.monotonic()
        while (
            left := kills - self.report.total
        ) > 0:  # the last one may be two: a worker, then the coordinator
            self._mirror += 1
            self.dest = self._place / f"mirror-{self._mirror}"
            self._rest = InspectedMirror(self.dest, self.assets)
            self._bodies.drain()
            self._bodies.sent.clear()
            self._one_mirror(min(left, afresh))
            if self.report.complaints:
                break
        self.report.seconds = time.monotonic() - started
        self.report.bound = WORKERS * self.report.total
        if self.report.files_again > self.report.bound:
            self.report.complaints.append("more was fetched again than the kills may cost")
        return self.report

    def _one_mirror(self, kills: int) -> None:
        before = self.report.total
        while (done := self.report.total - before) < kills:
            with DaskProcesses(self._place / f"dask-{self.report.total}", self.report.workers) as processes:
                if not self._one_life(processes, kills - done):
                    break
        with DaskProcesses(self._place / f"last-{self._mirror}", self.report.workers) as processes:
            last = run(self._arguments(processes), environment(self.replica), timeout=600)
        self.report.exit_codes.append(last.code)
        if last.code:
            self.report.complaints.append(f"the completing run ended with {last.code}: {last.err[-500:]}")
        self._bodies.drain()
        self._look("complete")
        wrong = self.report.damage = damage(self.dest, self.assets)
        if wrong:
            self.report.complaints.append(f"mirror {self._mirror}: {wrong}")
        again = self._bodies.again()
        self.report.files_again += sum(map(len, again.values()))
        self.report.bytes_again += sum(map(sum, again.values()))

    def _arguments(self, processes: DaskProcesses) -> list[str]:
        return mirror_of(self.replica.base_url, self.dest, "--dask", processes.address, "--no-progress")

    def _one_life(self, processes: DaskProcesses, left: int) -> bool:
        """Run until the coordinator or the scheduler is killed; return False if it came to its own end."""
        self._bodies.begin_life()
        with Running(self._arguments(processes), environment(self.replica)) as process:
            while True:
                missing = len(self.assets) - len(self._bodies.sent)
                wanted = self._bodies.in_life + self._draw.randint(1, max(1, missing // (2 * left)))
                self._wait(process, wanted)
                if not process.is_alive():
                    break
                victim = self._draw.choice(VICTIMS)
                self.report.kills[victim] += 1
                number = self.report.total
                self._say(f"mirror {self._mirror}, kill {number}: {victim}, {missing} files missing")
                if victim == "coordinator":
                    process.signal(signal.SIGKILL)
                    break
                if victim == "scheduler":
                    processes.scheduler.kill()
                    if self._draw.random() < 1 / 2:
                        for worker in processes.workers:
                            worker.kill()
                    break
                self._draw.choice(processes.workers[-self.report.workers :]).kill()
                processes.add_worker()
                left -= 1
                if not left:
                    process.signal(signal.SIGKILL)
                    self.report.kills["coordinator"] += 1
                    break
            ran = process.ended(180)
        if ran.code not in (0, -signal.SIGKILL, _SCHEDULER_LOST):
            self.report.complaints.append(f"a run ended with {ran.code}: {ran.err[-500:]}")
        if "Traceback" in ran.err:
            self.report.complaints.append(f"a run printed a traceback: {ran.err[-2000:]}")
        self._look(f"after kill {self.report.total}")
        return ran.code != 0

    def _wait(self, process: Running, wanted: int) -> None:
        def is_time() -> bool:
            self._bodies.drain()
            return not process.is_alive() or self._bodies.in_life >= wanted

        wait_until(is_time, timeout=180)

    def _look(self, when: str) -> None:
        self.report.looks += 1
        for complaint in self._rest.complaints():
            self.report.complaints.append(f"mirror {self._mirror}, {when}: {complaint}")


def dask_chaos(
    *,
    items: int,
    kills: int,
    afresh: int = 10,
    workers: int = 2,
    seed: int = 7,
    latency_ms: float = 20,
    say: Callable[[str], None] = lambda _text: None,
) -> DaskChaosReport:
    """Run the whole experiment on a replica of its own, in a temporary directory."""
    with (
        tempfile.TemporaryDirectory(prefix="stacpull-dask-") as place,
        run_in_thread(MlhubReplica(items=items, seed=seed, latency_ms=latency_ms)) as replica,
    ):
        return _DaskChaos(replica, Path(place), workers, random.Random(seed), say).run(kills, afresh)
