"""Looking at DEST without changing it: a walk that follows no link, and files read and hashed.

Both keep memory flat: a directory is listed in stretches, a file read in pieces. Reading is meant for
threads; checksums and the system calls release the interpreter's lock, so that all cores are used.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from stacpull.digests import new_hasher
from stacpull.models import Checksum

__all__ = ["Entry", "Look", "look_at", "obstacle", "walk"]

_STRETCH = 1024
"""Entries of a directory sorted at a time: by inode, which is the order on many disks."""
_READ = 1 << 20
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NO_FILE = frozenset({errno.ENOENT, errno.ENOTDIR})
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISLNK, "a link"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


class Entry(NamedTuple):
    """Something in DEST that is no directory: its path relative to DEST with `/`."""

    path: str
    is_file: bool
    """False for links, devices, pipes."""


class Look(NamedTuple):
    """What was found at a path. `obstacle` says what is there instead of a regular file that can be read."""

    size: int | None = None
    sha256: bytes | None = None
    obstacle: str | None = None
    readable: bool = True


def walk(dest: Path, skipped: frozenset[str]) -> Iterator[Sequence[Entry]]:
    """Yield what is below `dest`, some entries of one directory at a time; `skipped` are names at the top.

    A directory that cannot be read is passed over: `look_at` reports each file that should be in it.

    Raises:
        OSError: `dest` itself cannot be read.
    """
    with os.scandir(dest) as listed:
        yield from _walk(str(dest), "", listed, skipped)


def _walk(
    top: str, directory: str, listed: Iterator[os.DirEntry[str]], skipped: frozenset[str]
) -> Iterator[Sequence[Entry]]:
    prefix = f"{directory}/" if directory else ""
    while stretch := list(itertools.islice(listed, _STRETCH)):
        stretch = sorted((one for one in stretch if one.name not in skipped), key=os.DirEntry.inode)
        inner = [one.name for one in stretch if one.is_dir(follow_symlinks=False)]
        files = [
            Entry(prefix + one.name, one.is_file(follow_symlinks=False))
            for one in stretch
            if not one.is_dir(follow_symlinks=False)
        ]
        if files:
            yield files
        for name in inner:
            with suppress(OSError), os.scandir(f"{top}/{prefix}{name}") as within:
                yield from _walk(top, prefix + name, within, frozenset())


def look_at(
    root: int,
    path: str,
    *,
    hashed: bool,
    algorithm: str = "sha256",
    is_stopped: Callable[[], bool] = lambda: False,
) -> Look:
    """Look at one file below the directory descriptor `root`; links in its last place are not followed.

    Args:
        root: descriptor of DEST.
        path: relative to it.
        hashed: True to read it all and compute its digest.
        algorithm: of that digest.
        is_stopped: asked between two pieces of a long file; then the look is given up, unhashed.
    """
    try:
        if not hashed:
            return _of_stat(os.stat(path, dir_fd=root, follow_symlinks=False))
        fd = os.open(path, _OPEN, dir_fd=root)
    except OSError as error:
        in_the_way = obstacle(root, path)
        if in_the_way is not None or error.errno in _NO_FILE:
            return Look(obstacle=in_the_way)
        return Look(obstacle=_unreadable(error), readable=False)
    try:
        found = _of_stat(os.fstat(fd))
        if found.obstacle is not None:
            return found
        size, digest = _read(fd, algorithm, is_stopped)
        return Look(size, digest)
    except OSError as error:
        return Look(obstacle=_unreadable(error), readable=False)
    finally:
        os.close(fd)


def _unreadable(error: OSError) -> str:
    return f"it cannot be read ({error.strerror})"


def _of_stat(found: os.stat_result) -> Look:
    if stat.S_ISREG(found.st_mode):
        return Look(found.st_size)
    return Look(obstacle=_kind(found.st_mode))


def _kind(mode: int) -> str:
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "a device")


def _read(fd: int, algorithm: str, is_stopped: Callable[[], bool]) -> tuple[int, bytes | None]:
    """Return how many bytes there are, and their digest (None if stopped). Most files are one read."""
    data = os.read(fd, _READ)
    size, digest = len(data), new_hasher(Checksum(algorithm, b""))
    digest.update(data)
    while data:
        if size >= _READ and is_stopped():
            return size, None
        data = os.read(fd, _READ)
        size += len(data)
        digest.update(data)
    return size, digest.digest()


def obstacle(root: int, path: str) -> str | None:
    """Return what is in the way of a file at `path`: at its own place, or in that of a directory above it.

    Returns:
        For example "a link at bigearthnet"; None if nothing is there, or a regular file.
    """
    above, _, _ = path.rpartition("/")
    for place in [*_above(above), path]:
        try:
            mode = os.stat(place, dir_fd=root, follow_symlinks=False).st_mode
        except OSError:
            return None
        if place == path:
            return None if stat.S_ISREG(mode) else _kind(mode)
        if not stat.S_ISDIR(mode):
            what = "a file" if stat.S_ISREG(mode) else _kind(mode)
            return f"{what} at {place}"
    return None


def _above(directory: str) -> Iterator[str]:
    """Yield a directory and those above it, the topmost first."""
    segments = directory.split("/") if directory else []
    for count in range(1, len(segments) + 1):
        yield "/".join(segments[:count])
