"""Starting a process of a run (the store process, a worker process), and waiting for its end.

The child process inherits one end of a socket pair, standard error, and the descriptors that the caller
names. A child process also inherits the signal mask of the thread that starts it. SIGINT and SIGTERM are
blocked in this thread during the start, so neither can end the child process before it ignores them.
`python_process` has its command line and environment.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from stacpull.errors import WorkerError
from stacpull.python_process import python_command, python_environment
from stacpull.system import GARBAGE_AFTER

_START = f"import gc; gc.set_threshold({GARBAGE_AFTER}); from {{}} import main; main()"
_PATIENCE = 2.0
"""Seconds that a process has to end by itself once its socket is closed."""
_KILL_SECONDS = 1.0
"""Seconds to wait for processes that were killed: one may be waiting for the disk."""
_running: set[subprocess.Popen[bytes]] = set()
"""Processes that were started and not reaped yet."""
_BLOCKED = (signal.SIGINT, signal.SIGTERM)

Started = tuple["subprocess.Popen[bytes]", socket.socket]
"""A process, and this process's end of its socket."""
_early: dict[str, tuple[Started, Sequence[str]]] = {}
"""Processes that were started before they are needed, and their arguments, by module."""


@contextmanager
def started_early(module: str, arguments: Sequence[str] = ()) -> Iterator[None]:
    """Start a process now, so that its imports take place beside those of this process.

    The first call of `spawn` in the block for the same module returns this process. It is killed if that call
    has other arguments, or if there is no such call.

    Args:
        module: See `spawn`.
        arguments: See `spawn`.

    Raises:
        WorkerError: The process cannot be started.
    """
    _early[module] = spawn(module, arguments=arguments), arguments
    try:
        yield
    finally:
        if (unused := _early.pop(module, None)) is not None:
            discard(unused[0])


def spawn(module: str, *inherited: int, arguments: Sequence[str] = ()) -> Started:
    """Start a process. It takes some milliseconds, and may be called in any thread.

    Args:
        module: The module whose `main` it runs. Argument 1 is the descriptor of its end of the socket.
        inherited: Descriptors that it holds as long as it lives: a lock.
        arguments: Further arguments.

    Returns:
        The process, and this process's end of the socket.

    Raises:
        WorkerError: The process cannot be started.
    """
    if (early := _early.pop(module, None)) is not None:
        if not inherited and early[1] == arguments:
            return early[0]
        discard(early[0])
    ours, theirs = socket.socketpair()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    try:
        process = subprocess.Popen(  # noqa: S603 -- this interpreter with a module of stacpull
            python_command("-c", _START.format(module), str(theirs.fileno()), *arguments),
            env=python_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(), *inherited),
        )
    except OSError as error:
        ours.close()
        raise WorkerError(f"A process of stacpull cannot be started: {error}.") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
    _running.add(process)
    return process, ours


def reap(process: subprocess.Popen[bytes]) -> int:
    """Wait until a process whose socket is closed has ended. A process that does not end is killed.

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


def discard(started: Started) -> None:
    """Kill a process that is not needed after all."""
    process, sock = started
    sock.close()
    process.kill()
    process.wait()
    _running.discard(process)


def kill_all() -> None:
    """Kill every process that was started, so that none outlives this one. For a signal handler."""
    running = list(_running)
    for process in running:
        process.kill()
    deadline = time.monotonic() + _KILL_SECONDS
    while any(process.poll() is None for process in running) and time.monotonic() < deadline:
        time.sleep(0.005)
