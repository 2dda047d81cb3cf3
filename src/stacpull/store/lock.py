"""The lock of DEST: only one run at a time. It is an advisory lock, which all processes of the run hold.

It is released when the last process of the run ends. If a run was killed, the next run waits for that.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from stacpull.errors import DestinationError
from stacpull.models import OWN_DIRECTORY

_PAUSE = 0.01  # seconds between two attempts
_ATTEMPTS = 100  # to get the lock: `is_held` takes it for a moment
_END_ATTEMPTS = 1000  # while the other processes of a killed run end: the store process still publishes


@contextmanager
def mirror_lock(work: Path) -> Iterator[int]:
    """Hold the lock of a run; a process that inherits the descriptor also holds it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(work / OWN_DIRECTORY / "lock", flags, 0o600)
    with os.fdopen(fd, "rb+", buffering=0) as file:
        _take(file.fileno(), work, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        try:
            yield file.fileno()
        finally:
            with suppress(OSError):
                file.truncate(0)


@contextmanager
def runs_excluded(work: Path) -> Iterator[None]:
    """Exclude runs, but not readers. On a copy without lock file, or a read-only disk, exclude nothing."""
    with ExitStack() as stack:
        with suppress(OSError):
            _take(stack.enter_context(_open_lock_file(work)).fileno(), work, fcntl.LOCK_SH)
        yield


def holder(work: Path) -> int | None:
    with suppress(OSError), _open_lock_file(work) as file:
        process = _recorded_process(file.fileno())
        if process is not None and _is_alive(process):
            return process
    return None


def is_held(work: Path) -> bool:
    with suppress(OSError), _open_lock_file(work) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False  # also if there is no lock file, or locks are not supported


def _open_lock_file(work: Path) -> BinaryIO:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    return os.fdopen(os.open(work / OWN_DIRECTORY / "lock", flags), "rb")


def _take(fd: int, work: Path, kind: int) -> None:
    for attempt in range(_END_ATTEMPTS):
        with suppress(BlockingIOError):
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
            return
        process = _recorded_process(fd)
        if attempt >= _ATTEMPTS and (process is None or _is_alive(process)):
            break
        time.sleep(_PAUSE)
    user = "Another process" if process is None else f"Process {process}, or one that it started,"
    raise DestinationError(f"{user} is using {work}: wait until it ends, or stop it.")


def _recorded_process(fd: int) -> int | None:
    text = os.pread(fd, 9, 0)  # numbers of processes are below 2 ** 22
    return int(text) if text.isdigit() else None


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError as error:
        return isinstance(error, PermissionError)  # it is of another user
    return True
