"""A mirror on a Dask cluster whose scheduler, workers and coordinator are killed at random moments.

The moments are random in what the replica has sent. A killed worker is replaced, and the run continues.
After a kill of the scheduler the whole cluster is replaced; its run may end by itself, or is killed as well.
After each end the mirror is inspected as it is (`inspected_mirror`), and the last run must complete it.
"""

from __future__ import annotations

import random
import signal
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from tests.acceptance.chaos import Bodies, Chaos, ChaosReport, Kill
from tests.acceptance.command import Running, environment, wait_until
from tests.acceptance.dask_processes import DaskProcesses
from tests.ran import Ran

from stacpull_replicas import MlhubReplica, run_in_thread

VICTIMS = ("worker", "scheduler", "coordinator")
_SCHEDULER_LOST = 1
"""The exit code of a run that has neither scheduler nor workers."""


class _DaskChaos(Chaos):
    def __init__(
        self,
        replica: MlhubReplica,
        place: Path,
        workers: int,
        draw: random.Random,
        say: Callable[[str], None],
    ) -> None:
        super().__init__(replica, place / "mirror", "KILL", draw, 0.0, say)
        self._place = place
        self._workers = workers
        self._clusters = 0

    def _cluster(self) -> AbstractContextManager[DaskProcesses]:
        self._clusters += 1
        self._processes = DaskProcesses(self._place / f"dask-{self._clusters}", self._workers)
        return self._processes

    def _arguments(self) -> list[str]:
        return [*super()._arguments(), "--dask", self._processes.address]

    def _complete(self) -> Ran:
        with self._cluster():
            return super()._complete()

    def _one_life(self, bodies: Bodies, left: int, turn: int) -> list[Kill]:
        """Run until the coordinator or the scheduler is killed; no kills if it came to its own end."""
        bodies.begin_life()
        kills: list[Kill] = []
        with self._cluster() as processes, Running(self._arguments(), environment(self.replica)) as process:
            while True:
                missing = len(self.assets) - len(bodies.sent)
                wanted = bodies.in_life + self._draw.randint(1, max(1, missing // (2 * left)))
                wait_until(
                    lambda: bodies.drain() or not process.is_alive() or bodies.in_life >= wanted,  # noqa: B023
                    180,
                )
                if not process.is_alive():
                    break
                victim = self._draw.choice(VICTIMS) if left > 1 else "coordinator"
                kills.append(Kill(victim, True, ""))
                if victim == "worker":
                    self._draw.choice(processes.workers[-self._workers :]).kill()
                    processes.add_worker()
                    left -= 1
                    continue
                if victim == "coordinator":
                    process.signal(signal.SIGKILL)
                else:
                    processes.scheduler.kill()
                    for worker in processes.workers if self._draw.random() < 1 / 2 else ():
                        worker.kill()
                break
            ran = process.ended(180)
        if ran.code not in (0, -signal.SIGKILL, _SCHEDULER_LOST):
            self.report.complaints.append(f"a run ended with {ran.code}: {ran.err[-500:]}")
        if "Traceback" in ran.err:
            self.report.complaints.append(f"a run printed a traceback: {ran.err[-2000:]}")
        return kills


def dask_chaos(
    *,
    items: int,
    kills: int,
    afresh: int = 10,
    workers: int = 2,
    seed: int = 7,
    latency_ms: float = 20,
    say: Callable[[str], None] = lambda _text: None,
) -> ChaosReport:
    draw = random.Random(seed)
    with (
        tempfile.TemporaryDirectory(prefix="stacpull-dask-") as place,
        run_in_thread(MlhubReplica(items=items, seed=seed, latency_ms=latency_ms)) as replica,
    ):
        return _DaskChaos(replica, Path(place), workers, draw, say).run(kills, afresh)
