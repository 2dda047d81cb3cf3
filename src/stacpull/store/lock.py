"""One mirror at a time on a DEST: an advisory lock, released when its processes end, however they end.

The store process and the worker processes of a run hold it as well. If the process that the lock file names
is killed, they end soon, and the next run waits for that before it touches anything.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from stacpull.errors import DestinationError

_ATTEMPTS = 100
_INSTANT = 0.01
"""Seconds between two attempts."""
_END_ATTEMPTS = 1000
"""Attempts to wait for the other processes of a run that was killed: they end soon."""


def _lock_path(dest: Path) -> Path:
    return dest / ".stacpull" / "lock"


class MirrorLock:
    """Held while a run works on DEST. A lock file left by a killed process is not in the way."""

    def __init__(self, dest: Path) -> None:
        """Take the lock.

        Raises:
            DestinationError: another process holds it.
            OSError: the lock file cannot be made, or the file system knows no locks.
        """
        self._fd = os.open(_lock_path(dest), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            _take(self._fd, dest)
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, str(os.getpid()).encode(), 0)
        except BaseException:
            os.close(self._fd)
            raise

    def fileno(self) -> int:
        """Return the descriptor of the lock: a process that inherits it holds the lock as well."""
        return self._fd

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Let the next one in; the lock file names no process any more."""
        with suppress(OSError):
            os.ftruncate(self._fd, 0)
        os.close(self._fd)


@contextmanager
def kept_still(dest: Path) -> Iterator[None]:
    """Keep every run out of DEST while the block reads it. Others that only read are welcome.

    A place that knows no locks, or has no lock file, is read as it is: a copy, a read-only disk.

    Raises:
        DestinationError: a run is at work on it.
    """
    try:
        fd = os.open(_lock_path(dest), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        yield
        return
    try:
        with suppress(OSError):
            _take(fd, dest, fcntl.LOCK_SH)
        yield
    finally:
        os.close(fd)


def _locked(fd: int, kind: int, attempts: int) -> bool:
    """Lock, in so many attempts; return False if others hold it all the time."""
    for attempt in range(attempts):
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt < attempts - 1:
                time.sleep(_INSTANT)
        else:
            return True
    return False


def _take(fd: int, dest: Path, kind: int = fcntl.LOCK_EX) -> None:
    """Lock, trying for a moment: whoever asks for the state (`is_held`) locks for an instant.

    If the process that the file names is gone, its store process still publishes what was received, and is
    waited for.
    """
    if _locked(fd, kind, _ATTEMPTS):
        return
    holder = _named(fd)
    if holder is not None and not _is_alive(holder):
        if _locked(fd, kind, _END_ATTEMPTS):
            return
        raise DestinationError(
            f"Process {holder} started a mirror on {dest} and is gone, but another process works there: "
            "one that it started (`pgrep -f stacpull.engine`), or a mirror on another machine or in another "
            "container. Wait for it or end it, then resume."
        )
    named = "" if holder is None else f" (process {holder})"
    raise DestinationError(
        f"Another mirror is running on {dest}{named}, or it is being verified: wait for it, or stop it first."
    )


def holder(dest: Path) -> int | None:
    """Return the process id that the lock file of DEST names; None if it names none that is alive."""
    try:
        fd = os.open(_lock_path(dest), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        process = _named(fd)
    except OSError:
        return None
    finally:
        os.close(fd)
    return process if process is not None and _is_alive(process) else None


def _named(fd: int) -> int | None:
    """Return the process id in an open lock file."""
    text = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
    return int(text) if text.isascii() and text.isdigit() else None


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's
        return True
    return True


def is_held(dest: Path) -> bool:
    """Return True if a process works on DEST now."""
    try:
        fd = os.open(_lock_path(dest), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no locks here, so none is held
        return False
    finally:
        os.close(fd)
    return False
