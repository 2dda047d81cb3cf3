"""A file of the user's own, outside of any mirror, that is replaced whole or stays as it was.

What is written goes to a hidden name beside the file, is synced, and renamed over it at the end. A kill
leaves the file as it was, and the next writer replaces what the kill left. Of two writers of a file the
second one is refused.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from stacpull.errors import DestinationError
from stacpull.store.disk_errors import destination_error

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_ATTEMPTS = 10


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write to that replaces what is at `path` at the end, on stable storage by then.

    Raises:
        DestinationError: The file cannot be written, or another process is writing it; what was there is
            unchanged.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        with open(locked_file(part, path), "wb", buffering=1 << 20) as file:
            try:
                file.truncate(0)
                yield file
                file.flush()
                os.fsync(file.fileno())
                part.replace(path)
            except BaseException:
                part.unlink(missing_ok=True)  # while it is locked: afterwards it can be another writer's
                raise
        _sync_directory(path.parent)
    except OSError as error:
        raise destination_error(error, path, again="run the command again") from error


def locked_file(part: Path, path: Path) -> int:
    """Open the file `part`, made if it does not exist, and lock it. Closing it unlocks it.

    Args:
        part: What a writer of `path` keeps beside it.
        path: What messages name.

    Returns:
        A descriptor for reading and writing. What a kill left in the file is still there.

    Raises:
        DestinationError: Another process has locked it.
        OSError: It cannot be opened.
    """
    for _ in range(_ATTEMPTS):
        try:
            fd = os.open(part, _FLAGS, 0o666)
        except OSError:
            if not part.is_symlink():
                raise
            part.unlink(missing_ok=True)
            continue
        try:
            with _lock_refused(path):
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(fd)
            is_ours = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
            if is_ours and os.path.samestat(status, part.lstat()):
                return fd
            if not is_ours and status.st_nlink:
                part.unlink(missing_ok=True)
        except FileNotFoundError:  # the writer before has just renamed it
            pass
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    raise DestinationError(f"{path} is being written by others: try again.")


@contextlib.contextmanager
def _lock_refused(path: Path) -> Iterator[None]:
    """Translate the error of a lock. A file system without locks is written without."""
    try:
        yield
    except BlockingIOError as error:
        raise DestinationError(
            f"Another process is writing {path}: wait for it, or stop it first."
        ) from error
    except OSError:
        pass


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_file(path: Path) -> None:
    """Remove a file that a writer has left and that will not be continued, if it is there.

    Raises:
        DestinationError: It cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise destination_error(error, path) from error
