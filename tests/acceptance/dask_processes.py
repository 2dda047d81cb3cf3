"""A Dask scheduler and workers as processes on loopback, as an administrator starts them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.acceptance.command import environment, wait_until

from stacpull_replicas import MlhubReplica

_START = "import sys; sys.argv[0] = 'dask'; from distributed.cli.{0} import main; main()"
_SETTINGS = {
    "DASK_DISTRIBUTED__ADMIN__TICK__LIMIT": "1h",
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False",
    "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "debug",
}


class DaskProcesses:
    """One scheduler and its workers: what still runs at the end of the block is killed.

    Args:
        place: A directory for the scheduler file, the logs and the workers.
        workers: How many workers to start.
        env: Their environment.
    """

    def __init__(self, place: Path, workers: int = 2, env: Mapping[str, str] | None = None) -> None:
        place.mkdir(parents=True, exist_ok=True)
        self.place = place
        self.env = {**(environment() if env is None else env), **_SETTINGS}
        self.file = place / "scheduler.json"
        self.port = _free_port()
        self.workers: list[subprocess.Popen[bytes]] = []
        self._count = workers
        self.scheduler = self._start_scheduler()

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        for _ in range(self._count):
            self.add_worker()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()

    def _start_scheduler(self) -> subprocess.Popen[bytes]:
        arguments = ["--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"]
        self.file.unlink(missing_ok=True)
        started = self._start("dask_scheduler", [*arguments, "--scheduler-file", str(self.file)])
        assert wait_until(self._is_up, 60), self.log()
        return started

    def _is_up(self) -> bool:
        with suppress(OSError, ValueError):
            return bool(json.loads(self.file.read_text()))
        return False

    def add_worker(
        self, host: str = "127.0.0.1", env: Mapping[str, str | None] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start one more worker; it joins when it is up."""
        arguments = [self.address, "--no-nanny", "--nthreads", "1", "--memory-limit", "0", "--no-dashboard"]
        arguments += ["--local-directory", str(self.place), "--host", host, "--death-timeout", "3"]
        self.workers.append(self._start("dask_worker", arguments, env or {}))
        return self.workers[-1]

    def restart_scheduler(self) -> None:
        """Kill the scheduler, and start another one at its address with as many workers."""
        self.scheduler.send_signal(signal.SIGKILL)
        self.scheduler.wait()
        self.scheduler = self._start_scheduler()

    def replace_workers(self) -> None:
        """Kill all workers, and start as many."""
        for process in self.workers:
            process.kill()
            process.wait()
        self.workers.clear()
        for _ in range(self._count):
            self.add_worker()

    def log(self) -> str:
        """What all of them have logged."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.place.glob("*.log")))

    def _start(
        self, module: str, arguments: list[str], env: Mapping[str, str | None] | None = None
    ) -> subprocess.Popen[bytes]:
        number = len(list(self.place.glob("*.log")))
        whole = {name: value for name, value in {**self.env, **(env or {})}.items() if value is not None}
        with (self.place / f"{number}-{module}.log").open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-c", _START.format(module), *arguments],
                env=whole,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


def alive_children(process: subprocess.Popen[bytes]) -> list[int]:
    """The stacpull worker processes of a Dask worker."""
    from tests.security.watch import workers_of  # noqa: PLC0415 - it imports much

    return workers_of(process.pid)


def with_keys(replica: MlhubReplica) -> dict[str, str]:
    """An environment with the credentials for a replica."""
    return environment(replica)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_alive(pid: int) -> bool:
    """True while a process runs."""
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False
