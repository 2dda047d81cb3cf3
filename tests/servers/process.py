"""Real servers as child processes on loopback: found, started, waited for, ended by their own process.

A part that is not installed (`scripts/install-test-tools` does that) is a reason to skip, printed with `-ra`.
One that is there and does not start is an error: it would hide what it was to judge.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOOLS = Path(os.environ.get("TESTS_TOOLS") or os.environ.get("STACPULL_TOOLS") or ROOT / ".venv-tools")
"""Where `scripts/install-test-tools` puts what is packaged for Python, each in a venv of its own."""

_PAUSE = 0.02
_OUTLIVED_BY_NONE = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
"""Takes a server along when the tests are killed, where Linux offers that."""


def program_path(name: str, *, venv: str | None = None) -> str:
    """The path of a program, of the system or of a venv of tools; skips the test if it is not installed."""
    path = shutil.which(name, path=None if venv is None else str(TOOLS / venv / "bin"))
    if path is None and venv is None:
        path = shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")
    if path is None:
        import pytest  # noqa: PLC0415 - scripts/bench starts these servers where there is no pytest

        pytest.skip(f"{venv or name} is not installed: bash scripts/install-test-tools {venv or name}")
    return path


def is_listening(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False


def wait_for(condition: Callable[[], object], what: str, timeout: float = 300) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not in {timeout} s")
        time.sleep(_PAUSE)


@contextmanager
def running(
    command: Sequence[str | Path],
    log: Path,
    *,
    ready: Callable[[], object],
    env: Mapping[str, str] | None = None,
    patience: float = 5,
) -> Iterator[subprocess.Popen[bytes]]:
    """A server from the moment that it is `ready` to the end of the context. Its output goes to `log`."""

    def is_up() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"{command[0]} ended with {process.returncode}:\n{log.read_text()[-2000:]}")
        return bool(ready())

    with log.open("wb") as output:
        process = subprocess.Popen(
            [*_OUTLIVED_BY_NONE, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
        )
        try:
            wait_for(is_up, f"{command[0]} is ready")
            yield process
        finally:
            stop(process, patience)


def stop(process: subprocess.Popen[bytes], patience: float) -> None:
    """End a server and wait for it; one that does not listen for `patience` seconds is killed."""
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
