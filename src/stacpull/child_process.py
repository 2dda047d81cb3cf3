"""Starting a process of a run (the store process, a worker process), and waiting for its end.

While a process starts, SIGINT and SIGTERM are blocked, so that neither ends it before it ignores them.
`mirror` forks its store process while it has no other thread: then both share the imports of one process.
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
from math import inf
from pathlib import Path

import msgspec

from stacpull.errors import WorkerError
from stacpull.system import GARBAGE_AFTER

_CODE = f"import gc; gc.set_threshold({GARBAGE_AFTER}); from {{}} import main; main()"
_PATIENCE = 2.0  # seconds that a process has to end by itself once its socket is closed
_KILL_SECONDS = 1.0
"""Seconds to wait for the end of processes that were killed, which may be waiting for the disk."""
_HARMLESS = frozenset({"PATH", "HOME", "LANG", "TMPDIR", "TZ", "GLIBC_TUNABLES", "STACPULL_PORTABLE"})
_HARMLESS_PREFIXES = ("PYTHON", "LC_", "LD_", "DYLD_", "MALLOC_", "OPENSSL_", "SSL_CERT_")
"""Variables of the interpreter and of libraries, that never hold a credential."""
_UTF8 = ("-X", "utf8") if sys.flags.utf8_mode else ()
"""File names have the same encoding in all processes of a run."""


class ForkedProcess(msgspec.Struct, eq=False):
    """A process that was forked, with the members of `subprocess.Popen` that are used here."""

    pid: int
    returncode: int | None = None
    """The exit code, or the negative number of the signal that ended the process; None while it runs."""

    def poll(self) -> int | None:
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:  # the system has reaped it, as SIGCHLD is ignored
                pid, status = self.pid, 0
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def kill(self) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


ChildProcess = subprocess.Popen[bytes] | ForkedProcess
ConnectedProcess = tuple[ChildProcess, socket.socket]  # with our end of its socket
_running: set[ChildProcess] = set()
_early: dict[str, ConnectedProcess] = {}  # by module, until `spawn` takes it


@contextmanager
def fork_early(module: str) -> Iterator[None]:
    """Fork a process before it is needed, if this process is known to have no other thread (on Linux).

    The first call of `spawn` in the block for this module returns the process. It is killed if there is no
    such call. Import what both processes need before.
    """
    if not _has_threads():
        _early[module] = _start(lambda theirs: _fork(module, theirs))
    try:
        yield
    finally:
        if (unused := _early.pop(module, None)) is not None:
            unused[1].close()
            reap(unused[0], 0)


def spawn(module: str) -> ConnectedProcess:
    """Run the `main` of a module, with its socket as argument 1. Any thread may call this."""
    return _early.pop(module, None) or _start(
        lambda theirs: subprocess.Popen(  # noqa: S603 -- this interpreter with a module of stacpull
            python_command("-c", _CODE.format(module), str(theirs.fileno())),
            env=python_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
        )
    )


@contextmanager
def run_process(module: str) -> Iterator[ConnectedProcess]:
    """Run the `main` of a module for the block. At its end, the process gets some time, then it is killed."""
    process, sock = spawn(module)
    try:
        yield process, sock
    finally:
        sock.close()
        reap(process)


def _start(start: Callable[[socket.socket], ChildProcess]) -> ConnectedProcess:
    ours, theirs = socket.socketpair()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
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
    try:
        return len(list(Path("/proc/self/task").iterdir())) > 1
    except OSError:  # not Linux
        return True


def _fork(module: str, theirs: socket.socket) -> ForkedProcess:
    if (pid := os.fork()) != 0:
        return ForkedProcess(pid)
    try:
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(nothing, 1)
        for descriptor in [int(opened.name) for opened in Path("/proc/self/fd").iterdir()]:
            if descriptor not in (0, 1, 2, theirs.fileno()):
                with suppress(OSError):  # the descriptor of the listed directory is closed
                    os.close(descriptor)
        variables = python_environment()
        os.environ.clear()
        os.environ.update(variables)
        sys.argv[:] = ["-c", str(theirs.detach())]
        with suppress(OSError):  # the name that `ps` shows
            Path("/proc/self/comm").write_text(f"stacpull-{module.rpartition('.')[2].partition('_')[0]}")
        import_module(module).main()
    except BaseException:  # noqa: BLE001 - nothing of this process may run the code of the command
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(1)


def reap(process: ChildProcess, patience: float = _PATIENCE) -> int:
    if not _have_ended([process], patience):
        process.kill()
        _have_ended([process], inf)
    _running.discard(process)
    return process.returncode or 0


def kill_all() -> None:
    """Kill every process that was started, so that none outlives this one. For a signal handler."""
    running = list(_running)
    for process in running:
        process.kill()
    _have_ended(running, _KILL_SECONDS)


def _have_ended(processes: Sequence[ChildProcess], patience: float) -> bool:
    deadline, pause = time.monotonic() + patience, 0.0005
    while any(process.poll() is None for process in processes):
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
    return True


def python_command(*arguments: str) -> list[str]:
    return [sys.executable, *_UTF8, "-P", *arguments]


def python_environment() -> dict[str, str]:
    """Return an environment without credentials, because others can read it (`/proc/PID/environ`)."""
    harmless = {
        name: value
        for name, value in os.environ.items()
        if name in _HARMLESS or name.startswith(_HARMLESS_PREFIXES)
    }
    paths = [path or str(Path.cwd()) for path in sys.path]
    return {**harmless, "PYTHONPATH": os.pathsep.join(paths)}
