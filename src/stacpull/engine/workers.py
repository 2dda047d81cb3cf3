"""What transfers the assets of a run in place of its own pool: the entry points `stacpull.workers`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from stacpull.config.options import Options
    from stacpull.engine.network import Network
    from stacpull.engine.outcome_sender import OutcomeSender
    from stacpull.engine.pool import JobQueue, Pool
    from stacpull.events import Listener
    from stacpull.models import Arrival, Job
    from stacpull.selection import Selection


class JobRunner(Protocol):
    """Runs the jobs of a queue: `Pool`, or workers."""

    @property
    def given_up_hosts(self) -> Mapping[str, str]:
        """The hosts that were given up, and why; their assets stay pending."""

    async def run(self) -> None:
        """Work until all jobs have an outcome, or `stop` was called; an error of it ends the run."""

    def no_more(self) -> None:
        """End the queue: `run` ends after the last job."""

    def stop(self) -> None:
        """Begin no more jobs. `run` ends after the transfers in flight."""


class RunOfWorkers(NamedTuple):
    options: Options
    network: Network
    """Its counters include the effort of the workers."""
    work: Path
    """DEST, or the work directory of a bucket."""
    is_local: bool
    """True if DEST is a directory."""
    selection: Selection
    queue: JobQueue[Job]
    pool: Pool[Job, Arrival | None]
    """The pool of the process of the command, on `own_queue`. It takes the failures of workers."""
    own_queue: JobQueue[Job]
    """Jobs that the process of the command transfers itself."""
    outcomes: OutcomeSender
    emit: Listener


class WorkersOfRun(Protocol):
    """An entry point in the group `stacpull.workers`. `--dask` uses the one named `dask`."""

    def __call__(self, run: RunOfWorkers) -> JobRunner:
        """Return what transfers the assets of a run."""

    def check(self, options: Options) -> None:
        """Raise `UsageError` if options contradict each other, before anything is created."""
