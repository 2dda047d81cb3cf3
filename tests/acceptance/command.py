"""The command `stacpull` as a process, as a user runs it: its output, its exit code, its resources."""

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Self

import pytest
from tests.acceptance.forked_command import MODULES, ForkedProcess, Forker
from tests.ran import Ran
from tests.security.watch import CURRENT, arguments_of, stores_of

import stacpull as package
from stacpull_replicas import MlhubReplica

LIMIT = 300
"""Seconds after which what a test waits for counts as not coming: a machine may be under heavy load."""
STORE_SECONDS = 10
"""How long a store process may outlive a command that was killed: as long as the next run waits for it."""
_LOOK = 0.02
"""Seconds between two looks at the arguments of its processes: each takes a third of a millisecond.

They become a tenth of the time that it runs, but no more than ten times as long.
"""
COMMAND = Path(sys.executable).with_name("stacpull")
ROOT = Path(__file__).resolve().parents[2]
BIGEARTHNET = ROOT / "configs" / "bigearthnet.toml"
LABELS, SOURCE = "bigearthnet_v1_labels", "bigearthnet_v1_source"
SMALL = 12
"""The patches of the replica `small_hub`: of thirteen files each, so more than are transferred at once."""

_SOURCE = str(Path(package.__file__).parents[1])
"""Where the package is imported from: the tree that is tested, wherever the command was installed from."""
_FOREIGN = ("AWS_", "MLHUB_", "STACPULL_", "PYTHON")


def environment(*replicas: MlhubReplica, **more: str | None) -> dict[str, str]:
    """This process's environment without what concerns stacpull and AWS, with the exports of replicas.

    A value of None in `more` takes a variable away.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    kept |= {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/nonexistent/config"}
    kept["AWS_SHARED_CREDENTIALS_FILE"] = "/nonexistent/credentials"
    kept["PYTHONPATH"] = _SOURCE
    for replica in replicas:
        kept |= replica.exports()
    return {name: value for name, value in {**kept, **more}.items() if value is not None}


def export_here(replica: MlhubReplica, set_variable: Callable[[str, str], object]) -> None:
    """Set the exports of a replica in this process, for runs within it."""
    for name, value in replica.exports().items():
        set_variable(name, value)


def mirror_of(source: str, dest: Path, *options: str) -> list[str]:
    """The arguments of the main job: the notebook's tree, of all items unless `options` differ."""
    return ["mirror", source, str(dest), "-C", LABELS, "--config", str(BIGEARTHNET), *options]


@cache
def forker() -> Forker:
    return Forker(environment())


class Running:
    """A command while it runs: `with Running(…) as process`; what still runs at the end is killed.

    Its output goes to files, so that it never waits for a reader. After SIGKILL its store process publishes
    what was received: `ended` and the end of the block wait for that.

    Args:
        program: Another program than the command.
        under: The command line of strace, which follows the command from its first line on.
        forked: False for tests of what starting it means: it is started and not forked (`forked_command`).
    """

    def __init__(
        self,
        arguments: list[str],
        env: Mapping[str, str],
        cwd: Path | None = None,
        program: str | Path = COMMAND,
        *,
        under: Sequence[str] = (),
        forked: bool = True,
        by: Callable[[], Forker] = forker,
        given: bytes = b"",
    ) -> None:
        self._out = tempfile.TemporaryFile()  # noqa: SIM115 - closed at the end of the context
        self._err = tempfile.TemporaryFile()  # noqa: SIM115
        command = [str(program), *arguments]
        self.process: ForkedProcess | subprocess.Popen[bytes]
        self._tracer: subprocess.Popen[bytes] | None = None
        is_python = program == COMMAND or (str(program) == sys.executable and arguments[:1] == ["-c"])
        with tempfile.TemporaryFile() as read:
            read.write(given)
            read.seek(0)
            streams = read, self._out, self._err
            if forked and is_python and by().can_run(env):
                numbers = (stream.fileno() for stream in streams)
                self.process = by().fork(command, env, cwd, *numbers, traced=bool(under))
                if under:
                    self._tracer = subprocess.Popen([*under, "-p", str(self.process.pid)])
            else:
                self.process = subprocess.Popen([*under, *command], None, None, *streams, env=env, cwd=cwd)
        self.pid = self.process.pid
        self._end = os.pidfd_open(self.pid)
        self._outliving: list[int] = []
        """Descriptors (pidfd_open(2)) of store processes that outlive the command, as it was killed."""
        self._given = b"".join(os.fsencode(argument) + b"\0" for argument in arguments)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.signal(signal.SIGKILL)
            self.process.wait()
        self._await_stores()
        os.close(self._end)
        self._out.close()
        self._err.close()

    def is_alive(self) -> bool:
        return self.process.returncode is None and not select.select([self._end], [], [], 0)[0]

    def signal(self, number: int) -> bool:
        """Send a signal; False if it had ended before."""
        if not self.is_alive():
            return False
        if number == signal.SIGKILL:
            for store in stores_of(self.pid):
                with suppress(ProcessLookupError):
                    self._outliving.append(os.pidfd_open(store))
        os.kill(self.pid, number)
        return True

    def kill_with_store(self) -> bool:
        """Kill it, and its store process, which would publish what has come in; False if it had ended."""
        stores = stores_of(self.pid)
        was_alive = self.signal(signal.SIGKILL)
        for store in stores:
            with suppress(ProcessLookupError):
                os.kill(store, signal.SIGKILL)
        return was_alive

    def _await_stores(self) -> None:
        """Wait for the end of the store processes that a kill has left to themselves, and of the tracer."""
        if self._tracer is not None:
            self._tracer.wait(STORE_SECONDS)
        while self._outliving:
            store = self._outliving.pop()
            is_over, _, _ = select.select([store], [], [], STORE_SECONDS)
            os.close(store)
            assert is_over, f"the store process still runs {STORE_SECONDS} s after the kill"

    def printed(self) -> str:
        return self._text(self._out)

    def error_output(self) -> str:
        return self._text(self._err)

    def ended(self, timeout: float = LIMIT) -> Ran:
        """Wait for its end, and fail if that does not come."""
        began = time.monotonic()
        deadline = began + timeout
        while self.is_alive():
            CURRENT.arguments |= {line for line in arguments_of(self.pid) if not line.endswith(self._given)}
            if time.monotonic() > deadline:
                raise AssertionError(f"still running after {timeout} s:\n{self._text(self._err)}")
            pause = min(max(_LOOK, (time.monotonic() - began) / 10), 10 * _LOOK)
            select.select([self._end], [], [], pause)
        code = self.process.wait()
        self._await_stores()
        out, err = self._text(self._out), self._text(self._err)
        CURRENT.printed += [out, err]
        return Ran(code, out, err)

    @staticmethod
    def _text(file: Any) -> str:
        return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode()  # the offset is shared


def run(
    arguments: list[str], env: Mapping[str, str], cwd: Path | None = None, *, timeout: float = LIMIT
) -> Ran:
    with Running(arguments, env, cwd) as process:
        return process.ended(timeout)


def stacpull(*arguments: object, given: str = "", cwd: Path | None = None, **env: str) -> Ran:
    """Run the command with this on standard input, and with these variables besides the usual ones."""
    with Running([*map(str, arguments)], environment(**env), cwd, given=given.encode()) as process:
        return process.ended()


def wait_until(condition: Callable[[], object], timeout: float = LIMIT, pause: float = 0.003) -> bool:
    """Wait for a condition; False if it never came true. One that takes long is looked at less often."""
    deadline = time.monotonic() + timeout
    looked = time.thread_time()
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(max(pause, 4 * (time.thread_time() - looked)))
        looked = time.thread_time()
    return True


WITHOUT_PRIVILEGE = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
"""Put before a command of the superuser: permissions bind it like everybody else."""


@cache
def unprivileged_forker() -> Forker:
    """Return a process that forks commands of one whom permissions bind."""
    return Forker(environment(), *MODULES, under=WITHOUT_PRIVILEGE if os.geteuid() == 0 else ())


def unprivileged(*arguments: str) -> Ran:
    """Run the command as one whom permissions bind."""
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("permissions do not bind the superuser, and there is no setpriv")
    with Running([*arguments], environment(), by=unprivileged_forker) as process:
        return process.ended()
