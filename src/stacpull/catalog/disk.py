"""What the catalog does with the disk itself: look at what is there, follow no symlink."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from stacpull.errors import DestinationError

__all__ = ["read_first_line", "read_regular", "refuse_symlinks"]

_NOTHING_THERE = frozenset({errno.ENOENT, errno.ELOOP, errno.ENOTDIR})
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def refuse_symlinks(dest: Path, directory: str) -> None:
    """Look at each part of `directory` below `dest`: what is there must be a directory itself.

    Raises:
        DestinationError: One is a symlink or a file, or `directory` leads out of `dest`.
    """
    parts = PurePosixPath(directory).parts
    if not parts or ".." in parts or directory.startswith("/"):
        raise DestinationError(
            f"{directory!r} is not a place inside {dest}: choose another collection or DEST."
        )
    place = dest
    for part in parts:
        place = place / part
        try:
            mode = place.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISDIR(mode):
            kind = "a symlink" if stat.S_ISLNK(mode) else "a file"
            raise DestinationError(
                f"{place} is {kind} where a directory belongs: move it away, then run `stacpull resume`."
            )


def read_regular(path: Path | str) -> bytes | None:
    """Return the bytes of a regular file, None if there is none (a symlink or a directory is none)."""
    try:
        descriptor = os.open(path, _READ)
    except OSError as error:
        if error.errno in _NOTHING_THERE:
            return None
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        data = os.read(descriptor, status.st_size + 1)
        if len(data) == status.st_size:
            return data
        pieces = [data]  # it grows, or is very long
        while data := os.read(descriptor, 1 << 20):
            pieces.append(data)
        return b"".join(pieces)
    finally:
        os.close(descriptor)


def read_first_line(path: Path) -> bytes | None:
    """Return the first line of a regular file, None if there is none."""
    file = _opened(path)
    if file is None:
        return None
    with file:
        return file.readline()


def _opened(path: Path) -> BinaryIO | None:
    try:
        descriptor = os.open(path, _READ)
    except OSError as error:
        if error.errno in _NOTHING_THERE:
            return None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return open(descriptor, "rb")  # noqa: PTH123  # a descriptor, opened without following symlinks
