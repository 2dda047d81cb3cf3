"""Starting a worker process, and seeing to its end.

By spawn: a fresh interpreter that inherits its end of a socket pair, the lock of the workers
(`store.lock.workers_lock`), standard error, and nothing else. Its environment holds no credential
(`config.environment.handed_down`). SIGINT and SIGTERM are blocked while it is started, and a process begins
with the mask of its parent's thread: so none of the two can end it before it ignores them.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from stacpull.config.environment import handed_down
from stacpull.errors import WorkerError

__all__ = ["Started", "kill_all", "reap", "spawn"]

_UTF8 = ("-X", "utf8") if sys.flags.utf8_mode else ()
"""File names have the same encoding in all processes of a run."""
_PATIENCE = 2.0
"""Seconds for a process to end by itself whose socket is closed."""
_KILL_SECONDS = 1.0
"""Seconds for processes to end that were killed: one may wait for the disk."""
_running: set[subprocess.Popen[bytes]] = set()
"""What was started and has not been reaped."""
_LEFT_TO_US = (signal.SIGINT, signal.SIGTERM)

Started = tuple["subprocess.Popen[bytes]", socket.socket]
"""A process, and our end of the socket."""


def spawn(module: str, *inherited: int) -> Started:
    """Start a process of stacpull's (in any thread; it takes some milliseconds).

    Args:
        module: what it runs; its argument is the descriptor of its end of the socket.
        inherited: descriptors that it holds as long as it lives: a lock.

    Raises:
        WorkerError: it cannot be started.
    """
    ours, theirs = socket.socketpair()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _LEFT_TO_US)
    try:
        process = subprocess.Popen(  # noqa: S603 - this interpreter, with a module of ours
            [sys.executable, *_UTF8, "-P", "-m", module, str(theirs.fileno())],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), *inherited),
        )
    except OSError as error:
        ours.close()
        raise WorkerError(f"A process of stacpull's cannot be started: {error}.") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
    _running.add(process)
    return process, ours


def _environment() -> dict[str, str]:
    """Return what it is started with: it finds modules where this process does."""
    start, _ = handed_down()
    paths = [path or str(Path.cwd()) for path in sys.path]
    return {**start, "PYTHONPATH": os.pathsep.join(paths)}


def reap(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end of a process whose socket is closed; one that does not end is killed.

    Returns:
        Its exit code, negative for the signal that ended it.
    """
    try:
        return process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
    finally:
        _running.discard(process)


def kill_all() -> None:
    """Kill every process that was started, so that none outlives this one; for a handler of signals."""
    running = list(_running)
    for process in running:
        process.kill()
    deadline = time.monotonic() + _KILL_SECONDS
    while any(process.poll() is None for process in running) and time.monotonic() < deadline:
        time.sleep(0.005)
