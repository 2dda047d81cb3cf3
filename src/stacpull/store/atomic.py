"""Writing a whole file that is not an asset: it is replaced completely or not at all.

The new content is written to a hidden file in the same directory, synced, and renamed at the end. A kill
leaves the old file unchanged, and the next writer replaces the hidden file. Only one process may write a file
at a time; a second one is rejected.
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
from stacpull.store.disk_errors import destination_errors

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_ATTEMPTS = 10


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file for writing that replaces the one at `path` at the end, on stable storage."""
    part = path.with_name(f".{path.name}.part")
    with destination_errors(path):
        with open(locked_file(part, path), "wb", buffering=1 << 20) as file:
            try:
                file.truncate(0)
                yield file
                file.flush()
                os.fsync(file.fileno())
                part.replace(path)
            except BaseException:
                part.unlink(missing_ok=True)  # while it is locked: later it may belong to another writer
                raise
        sync_directory(path.parent)


def locked_file(part: Path, path: Path) -> int:
    """Open or create the hidden file `part` of a writer of `path`; return its descriptor.

    It is locked until it is closed, and still has the content left by a kill. A link, or a file that also has
    another name, is removed and not written to.
    """
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(FileNotFoundError):
            found = part.lstat()
            if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
                part.unlink()
        fd = os.open(part, _FLAGS, 0o666)
        try:
            with contextlib.suppress(OSError):  # of a file system without locks
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    text = f"Another process is writing {path}: wait for it, or stop it first."
                    raise DestinationError(text) from error
            status = os.fstat(fd)
            if status.st_nlink == 1 and os.path.samestat(status, part.lstat()):
                return fd
        except FileNotFoundError:  # the previous writer has just renamed it
            pass
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    raise DestinationError(f"Other processes are writing {path}: try again.")


def sync_file(file: BinaryIO) -> None:
    os.fsync(file.fileno())


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # it can be written and not read
        os.sync()
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
