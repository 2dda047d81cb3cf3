"""One mirror at a time on a DEST: an advisory lock that the system drops with the process, however it ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType

from stacpull.errors import DestinationError

__all__ = ["MirrorLock", "is_held"]


def _lock_path(dest: Path) -> Path:
    return dest / ".stacpull" / "lock"


class MirrorLock:
    """Held while a run works on DEST. A lock file left by a killed process is not in the way."""

    def __init__(self, dest: Path) -> None:
        """Take the lock.

        Raises:
            DestinationError: another process holds it.
        """
        self._fd = os.open(_lock_path(dest), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            raise DestinationError(
                f"Another mirror is running on {dest}"
                + (f" (process {holder})" if holder else "")
                + ": wait for it, or stop it first."
            ) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, str(os.getpid()).encode(), 0)

    def __enter__(self) -> MirrorLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Let the next one in."""
        os.close(self._fd)


def is_held(dest: Path) -> bool:
    """Return True if a process works on DEST now."""
    try:
        fd = os.open(_lock_path(dest), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False
