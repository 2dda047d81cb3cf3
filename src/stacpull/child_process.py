"""Starting a process of a run (the store process, a worker process), and waiting for its end.

While a process starts, SIGINT and SIGTERM are blocked, so that neither ends it before it ignores them.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from stacpull.errors import DestinationError
from stacpull.system import GARBAGE_AFTER

_CODE = f"import gc; gc.set_threshold({GARBAGE_AFTER}); from {{}} import main; main()"
_END_SECONDS = 2.0  # seconds that a process has to end by itself once its socket is closed
_KILL_SECONDS = 1.0  # seconds until processes that were killed end: they may be waiting for the disk
_HARMLESS = frozenset({"PATH", "HOME", "LANG", "TMPDIR", "TZ", "GLIBC_TUNABLES"})
_HARMLESS_PREFIXES = ("PYTHON", "LC_", "LD_", "MALLOC_", "OPENSSL_", "SSL_CERT_")
"""Variables of the interpreter and of libraries that never hold a credential."""
_UTF8 = ("-X", "utf8") if sys.flags.utf8_mode else ()  # file names have the same encoding in all processes

ChildProcess = subprocess.Popen[bytes]
ConnectedProcess = tuple[ChildProcess, socket.socket]  # with our end of its socket
_running: set[ChildProcess] = set()


def spawn(module: str) -> ConnectedProcess:
    """Run the `main` of a module, with its socket as argument 1. Any thread may call this."""
    ours, theirs = socket.socketpair()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        process = subprocess.Popen(  # noqa: S603 -- this interpreter with a module of stacpull
            python_command("-c", _CODE.format(module), str(theirs.fileno())),
            env=python_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
        )
        _running.add(process)  # while signals are blocked, because a second signal kills all of `_running`
    except OSError as error:
        ours.close()
        raise DestinationError(f"A process of stacpull cannot be started: {error}.") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
    return process, ours


@contextmanager
def run_process(module: str) -> Iterator[ConnectedProcess]:
    """Run the `main` of a module for the block. At its end, the process gets some time, then it is killed."""
    process, sock = spawn(module)
    try:
        yield process, sock
    finally:
        sock.close()
        reap(process)


def reap(process: ChildProcess) -> int:
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _running.discard(process)
    return process.returncode


def kill_all() -> None:
    """Kill every process that was started, so that none outlives this one. For a signal handler."""
    running = list(_running)
    until = time.monotonic() + _KILL_SECONDS
    for process in running:
        process.kill()
    for process in running:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, until - time.monotonic()))


def python_command(*arguments: str) -> list[str]:
    return [sys.executable, *_UTF8, "-P", *arguments]


def python_environment() -> dict[str, str]:
    """Return an environment without credentials, which the process does not need."""
    harmless = {
        name: value
        for name, value in os.environ.items()
        if name in _HARMLESS or name.startswith(_HARMLESS_PREFIXES)
    }
    paths = [path or str(Path.cwd()) for path in sys.path]
    return {**harmless, "PYTHONPATH": os.pathsep.join(paths)}
