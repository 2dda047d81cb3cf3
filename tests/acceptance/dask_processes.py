"""A Dask scheduler and workers as processes on loopback, as an administrator starts them.

They are forked (`forked_command`): starting one takes a second of processor time.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Self

from tests.acceptance.command import environment, wait_until
from tests.acceptance.forked_command import MODULES, ForkedProcess, Forker
from tests.serving import free_ports

Process = subprocess.Popen[bytes] | ForkedProcess
_SCHEDULER = "distributed.cli.dask_scheduler"
_WORKER = "distributed.cli.dask_worker"
_SETTINGS = {
    "DASK_DISTRIBUTED__ADMIN__TICK__LIMIT": "1h",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "debug",
}


@cache
def _forker() -> Forker:
    ours = "stacpull_dask.cluster", "stacpull_dask.relay"
    return Forker(environment(**_SETTINGS), *MODULES, "distributed.comm.tcp", *ours, _SCHEDULER, _WORKER)


class DaskProcesses:
    """One scheduler and its workers: what still runs at the end of the block is killed.

    Args:
        place: A directory for the scheduler file, the logs and the workers.
        forked: False for a test that searches the memory of the scheduler: it is started. A process that was
            forked has the memory of the one that forked it.
    """

    def __init__(
        self, place: Path, workers: int = 2, env: Mapping[str, str] | None = None, *, forked: bool = True
    ) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self.place = place
        self.env = {**(environment() if env is None else env), **_SETTINGS}
        self.file = place / "scheduler.json"
        self.port = free_ports(1)
        self.workers: list[Process] = []
        self._count = workers
        self._forked = forked
        self.scheduler = self._start_scheduler()

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        for _ in range(self._count):
            self.add_worker()
        return self

    def __exit__(self, *_: object) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()

    def _start_scheduler(self) -> Process:
        arguments = ["--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"]
        self.file.unlink(missing_ok=True)
        arguments += ["--scheduler-file", str(self.file)]
        started = self._start("scheduler", _SCHEDULER, arguments, self.env, forked=self._forked)
        assert wait_until(self._is_up), self.log()
        return started

    def _is_up(self) -> bool:
        with suppress(OSError, ValueError):
            return bool(json.loads(self.file.read_text()))
        return False

    def add_worker(self, host: str = "127.0.0.1", env: Mapping[str, str | None] | None = None) -> Process:
        """Start one more worker; it joins when it is up."""
        arguments = [self.address, "--no-nanny", "--nthreads", "1", "--memory-limit", "0", "--no-dashboard"]
        arguments += ["--local-directory", str(self.place), "--host", host, "--death-timeout", "60"]
        whole = {name: value for name, value in {**self.env, **(env or {})}.items() if value is not None}
        worker = self._start("worker", _WORKER, arguments, whole)
        self.workers.append(worker)
        return worker

    def _start(
        self, name: str, module: str, arguments: list[str], env: Mapping[str, str], *, forked: bool = True
    ) -> Process:
        """Start a process that logs to a file of its own."""
        code = f"import sys; sys.argv[0] = 'dask'; from {module} import main; main()"
        path = self.place / f"{len(list(self.place.glob('*.log')))}-{name}.log"
        with path.open("wb") as log, Path(os.devnull).open("rb") as nothing:
            streams = nothing, log, log
            if forked and _forker().can_run(env):
                numbers = (stream.fileno() for stream in streams)
                command = ["dask", *arguments]
                return _forker().fork(command, env, None, *numbers, module=module)
            command = [sys.executable, "-c", code, *arguments]
            return subprocess.Popen(command, None, None, *streams, env=env, start_new_session=True)

    def restart(self) -> None:
        """Start the scheduler again, at the same address, and as many workers; those that run are killed."""
        self.__exit__()
        self.workers.clear()
        self.scheduler = self._start_scheduler()
        self.__enter__()

    def log(self) -> str:
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.place.glob("*.log")))
