"""Starting a process of a run (the store process, a worker process), and waiting for its end.

The child process inherits one end of a socket pair and standard error. A child process also inherits the
signal mask of the thread that starts it. SIGINT and SIGTERM are blocked in this thread during the start, so
neither can end the child process before it ignores them. `python_process` has its command line and
environment.

A child process is a new interpreter. The command `mirror` forks its store process instead, while it has no
other thread and no event loop: then most modules are imported once and not twice, which saves a third of the
CPU time of a small mirror.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from stacpull.errors import WorkerError
from stacpull.python_process import drop_foreign_variables, python_command, python_environment
from stacpull.system import GARBAGE_AFTER

_START = f"import gc; gc.set_threshold({GARBAGE_AFTER}); from {{}} import main; main()"
_PATIENCE = 2.0
"""Seconds that a process has to end by itself once its socket is closed."""
_KILL_SECONDS = 1.0
"""Seconds to wait for processes that were killed: one may be waiting for the disk."""
_BLOCKED = (signal.SIGINT, signal.SIGTERM)


class ForkedProcess:
    """A process that was forked: those members of `subprocess.Popen` that a run uses."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        """Its exit code, negative for the signal that ended it; None while it runs."""

    def poll(self) -> int | None:
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # the system has reaped it, as SIGCHLD is ignored
                pid, status = self.pid, 0
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        began, pause = time.monotonic(), 0.0005
        while (code := self.poll()) is None:
            if timeout is not None and time.monotonic() - began > timeout:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
        return code

    def kill(self) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


ChildProcess = subprocess.Popen[bytes] | ForkedProcess
Started = tuple[ChildProcess, socket.socket]
"""A process, and this process's end of its socket."""
_running: set[ChildProcess] = set()
"""Processes that were started and not reaped yet."""
_early: dict[str, tuple[Started, Sequence[str]]] = {}
"""Processes that were started before they are needed, and their arguments, by module."""


@contextmanager
def started_early(module: str, arguments: Sequence[str] = (), *, shared: str) -> Iterator[None]:
    """Start a process before it is needed. It is forked if this process has no other thread (Linux).

    A process that cannot be forked is started at once, so that its imports take place beside those of this
    process. The first call of `spawn` in the block for the same module returns the process. It is killed if
    that call has other arguments, or if there is no such call. This process imports the module `shared`
    before it forks, because both processes need it.
    """
    if not _has_threads():
        import_module(shared)
    if _has_threads():
        started = spawn(module, arguments=arguments)
    else:

        def fork(theirs: socket.socket) -> ForkedProcess:
            pid = os.fork()
            if pid == 0:
                _run_forked(module, theirs, arguments)
            return ForkedProcess(pid)

        started = _started(fork)
    _early[module] = started, arguments
    try:
        yield
    finally:
        if (unused := _early.pop(module, None)) is not None:
            discard(unused[0])


def spawn(module: str, arguments: Sequence[str] = ()) -> Started:
    """Start a process that runs the `main` of a module. Any thread may call this.

    Argument 1 is the descriptor of its end of the socket; `arguments` follow.
    """
    if (early := _early.pop(module, None)) is not None:
        if early[1] == arguments:
            return early[0]
        discard(early[0])
    return _started(
        lambda theirs: subprocess.Popen(  # noqa: S603 -- this interpreter with a module of stacpull
            python_command("-c", _START.format(module), str(theirs.fileno()), *arguments),
            env=python_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
        )
    )


def _started(start: Callable[[socket.socket], ChildProcess]) -> Started:
    """Start a process by a function that is given the process's end of the socket."""
    ours, theirs = socket.socketpair()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    try:
        process = start(theirs)
    except OSError as error:
        ours.close()
        raise WorkerError(f"A process of stacpull cannot be started: {error}.") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
    _running.add(process)
    return process, ours


def _has_threads() -> bool:
    """Whether this process has several threads, those of libraries included, or that cannot be known."""
    try:
        return len(list(Path("/proc/self/task").iterdir())) > 1
    except OSError:  # not Linux
        return True


def _run_forked(module: str, theirs: socket.socket, arguments: Sequence[str]) -> NoReturn:
    """Run the `main` of a module with the descriptors, variables and arguments that `spawn` would give it."""
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        for descriptor in [int(opened.name) for opened in Path("/proc/self/fd").iterdir()]:
            if descriptor not in (0, 1, 2, theirs.fileno()):
                with suppress(OSError):  # that of the directory is closed
                    os.close(descriptor)
        drop_foreign_variables()
        sys.argv[:] = ["-c", str(theirs.detach()), *arguments]
        with suppress(OSError):  # `ps` shows it
            Path("/proc/self/comm").write_text(f"stacpull-{module.rpartition('.')[2].partition('_')[0]}")
        import_module(module).main()
    except BaseException:  # noqa: BLE001 - nothing of this process may run the code of the command
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(1)


def reap(process: ChildProcess) -> int:
    """Wait until a process whose socket is closed has ended, or kill it; return its exit code."""
    try:
        return process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
    finally:
        _running.discard(process)


def discard(started: Started) -> None:
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
