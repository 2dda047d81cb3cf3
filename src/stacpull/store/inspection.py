"""Reading DEST without changing it: a walk that follows no links, and reading and hashing of files.

Both use little memory: a directory is listed in batches, and a file is read in pieces. Use threads to read:
checksums and system calls release the interpreter's lock, so that all cores are used.
"""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from stacpull.digests import new_hasher
from stacpull.models import Checksum
from stacpull.store.protocol import Entry, FileState, IsStopped, StoredFiles, never

if TYPE_CHECKING:
    from stacpull.reports import Disk  # not in the store process: it takes 10 ms
from stacpull.store.regular import NO_NAMES, open_regular

_STRETCH = 1024
"""Entries of a directory that are sorted together: by inode, which is the order on many disks."""
_READ = 1 << 20
_SHORT = 1 << 16
"""Bytes of the first read of a document. Nearly all documents are shorter."""
LONGEST_DOCUMENT = 64 << 20
"""The most bytes of a document or of a line in DEST that are read. A page of a source is not longer."""
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_NO_FILE = frozenset({errno.ENOENT, errno.ENOTDIR})
_NOT_REGULAR = _NO_FILE | {errno.ELOOP, errno.EINVAL, errno.ENXIO}
"""Errors of `open_regular` if there is no file, or something other than a regular file."""
_MOST_CHECKED = 4096
"""Directories that are remembered as free of links."""
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISLNK, "a link"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
)


class DirectoryFiles:
    """The files of a mirror in a directory, for reading (`StoredFiles`).

    No file is read through a link: otherwise anyone who can write to DEST could have any file read.
    """

    def __init__(self, dest: Path) -> None:
        """Open DEST.

        Raises:
            OSError: It is not a directory, or cannot be opened.
        """
        self.path = dest
        self.fd = os.open(dest, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._checked = {""}

    def close(self) -> None:
        """Close DEST."""
        os.close(self.fd)

    @property
    def name(self) -> str:
        return str(self.path)

    def state_of(
        self, path: str, *, algorithm: str | None = "sha256", is_stopped: IsStopped = never
    ) -> FileState:
        above = self._obstacle_above(path)
        if above is not None:
            return FileState(obstacle=above)
        return state_of(self.fd, path, algorithm=algorithm, is_stopped=is_stopped)

    def _obstacle_above(self, path: str) -> str | None:
        """Return the obstacle in the place of a parent directory, if any. Directories are checked once."""
        directory = path.rpartition("/")[0]
        if directory in self._checked:
            return None
        is_there, above = _look_at_directory(self.fd, directory)
        if is_there:
            if len(self._checked) >= _MOST_CHECKED:
                self._checked = {""}
            self._checked.add(directory)
        return above

    def has(self, path: str) -> bool:
        if os.access(path, os.F_OK, dir_fd=self.fd):  # half the time of a stat, and nearly always true
            return True
        try:
            os.stat(path, dir_fd=self.fd, follow_symlinks=False)
        except OSError:
            return False
        return True

    def read(self, path: str) -> bytes | None:
        if self._obstacle_above(path) is not None:
            return None
        try:
            return read_file(path, self.fd)
        except OSError as error:
            raise self._named(error, path) from error

    def _named(self, error: OSError, path: str) -> OSError:
        """Return the same error for a path relative to DEST."""
        return OSError(error.errno, error.strerror, str(self.path / path))

    def open(self, path: str) -> BinaryIO:
        above = self._obstacle_above(path)
        if above is not None:
            raise OSError(errno.ELOOP, above, str(self.path / path))
        try:
            return os.fdopen(open_regular(path, os.O_RDONLY, dir_fd=self.fd), "rb")
        except OSError as error:
            raise self._named(error, path) from error

    def modified(self, path: str) -> float | None:
        try:
            return os.stat(path, dir_fd=self.fd, follow_symlinks=False).st_mtime
        except OSError:
            return None

    def names(self, directory: str) -> list[str]:
        return [entry.name for entry in (self.path / directory).iterdir()]

    def walk(self, skipped: frozenset[str]) -> Iterator[Sequence[Entry]]:
        return walk(self.path, skipped)


def digest_in(
    files: StoredFiles, path: str, checksum: Checksum, is_stopped: IsStopped = never
) -> bytes | None:
    """Return the digest of a file with the algorithm and size of `checksum`, None if stopped.

    Raises:
        OSError: The file does not exist or cannot be read.
    """
    with files.open(path) as file:
        found = digest_by(file.read, checksum, is_stopped)
    return None if found is None else found[1]


def digest_by(
    read: Callable[[int], bytes | memoryview], checksum: Checksum, is_stopped: IsStopped
) -> tuple[int, bytes] | None:
    """Return the number of bytes that `read` yields, and their digest; None if stopped."""
    data = read(_READ)
    size, hasher = len(data), new_hasher(checksum)
    hasher.update(data)
    while data:
        if size >= _READ and is_stopped():
            return None
        data = read(_READ)
        size += len(data)
        hasher.update(data)
    return size, hasher.digest()


def disk_of(path: Path) -> Disk:
    """Return the disk space at `path`, or at its nearest existing parent."""
    from stacpull.reports import Disk  # noqa: PLC0415 -- see above

    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        found = os.statvfs(path)
    except OSError:
        return Disk(None, None)
    inodes = found.f_favail if found.f_files else None
    return Disk(found.f_bavail * found.f_frsize, inodes)


def read_file(path: str, directory: int) -> bytes | None:
    """Return the bytes of a regular file below a directory descriptor, None if there is none.

    A file of more than `LONGEST_DOCUMENT` bytes is not a document of a mirror: the result is None.

    Raises:
        OSError: It cannot be read.
    """
    try:
        fd = open_regular(path, os.O_RDONLY, dir_fd=directory)
    except OSError as error:
        if error.errno in _NOT_REGULAR:
            return None
        raise
    try:
        data = os.read(fd, _SHORT)
        if len(data) < _SHORT:
            return data
        pieces, size = [data], len(data)
        while size <= LONGEST_DOCUMENT and (data := os.read(fd, _READ)):
            pieces.append(data)
            size += len(data)
        return b"".join(pieces) if size <= LONGEST_DOCUMENT else None
    finally:
        os.close(fd)


def lines_in(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a file, up to one of more than `LONGEST_DOCUMENT` bytes, which no mirror has."""
    while line := file.readline(LONGEST_DOCUMENT + 1):
        if len(line) > LONGEST_DOCUMENT:
            yield b""  # an entry that is not JSON
            return
        yield line


def walk(dest: Path, skipped: frozenset[str]) -> Iterator[Sequence[Entry]]:
    """Yield the entries below `dest` in batches of one directory, except the top-level names `skipped`.

    A directory that cannot be read is skipped: `state_of` reports each file that should be in it.

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
        stretch = sorted((entry for entry in stretch if entry.name not in skipped), key=os.DirEntry.inode)
        inner = [entry.name for entry in stretch if entry.is_dir(follow_symlinks=False)]
        files = [
            Entry(prefix + entry.name, entry.is_file(follow_symlinks=False))
            for entry in stretch
            if not entry.is_dir(follow_symlinks=False)
        ]
        if files:
            yield files
        for name in inner:
            with suppress(OSError), os.scandir(f"{top}/{prefix}{name}") as within:
                yield from _walk(top, prefix + name, within, frozenset())


def state_of(
    root: int, path: str, *, algorithm: str | None = "sha256", is_stopped: IsStopped = never
) -> FileState:
    """Return the state of a file below the descriptor `root`. A link in its place is not followed.

    Args:
        root: descriptor of DEST.
        path: relative to it.
        algorithm: the algorithm of its digest, which reads the file; None for no digest.
        is_stopped: called between two pieces of a long file. If it returns True, there is no digest, and the
            size is that of `os.stat`.
    """
    try:
        if algorithm is None:
            return _of_stat(os.stat(path, dir_fd=root, follow_symlinks=False))
        fd = os.open(path, _OPEN, dir_fd=root)
    except OSError as error:
        above = obstacle(root, path)
        if above is not None or error.errno in _NO_FILE:
            return FileState(obstacle=above)
        return FileState(obstacle=_unreadable(error), readable=False)
    try:
        found = _of_stat(os.fstat(fd))
        if found.obstacle is not None:
            return found
        hashed = digest_by(partial(os.read, fd), Checksum(algorithm, b""), is_stopped)
        return found if hashed is None else FileState(*hashed)
    except OSError as error:
        return FileState(obstacle=_unreadable(error), readable=False)
    finally:
        os.close(fd)


def _unreadable(error: OSError) -> str:
    return f"it cannot be read ({error.strerror})"


def _of_stat(found: os.stat_result) -> FileState:
    if stat.S_ISREG(found.st_mode):
        return FileState(found.st_size)
    return FileState(obstacle=_kind(found.st_mode))


def _kind(mode: int) -> str:
    return next((name for is_kind, name in _KINDS if is_kind(mode)), "a device")


def obstacle(root: int, path: str) -> str | None:
    """Return the obstacle for a file at `path`: in its place, or in the place of a parent directory.

    Returns:
        For example "a link at bigearthnet"; None if there is nothing or a regular file.
    """
    _, above = _look_at_directory(root, path.rpartition("/")[0])
    if above is not None:
        return above
    try:
        mode = os.stat(path, dir_fd=root, follow_symlinks=False).st_mode
    except OSError:
        return None
    return None if stat.S_ISREG(mode) else _kind(mode)


def _look_at_directory(root: int, directory: str) -> tuple[bool, str | None]:
    """Return whether a directory and all its parents are directories, and the topmost obstacle.

    The result is (False, None) if one of them is missing: a link may take its place later.
    """
    segments = directory.split("/") if directory else []
    for count in range(1, len(segments) + 1):
        place = "/".join(segments[:count])
        if segments[count - 1] in NO_NAMES:
            return False, f"a path that leads out of it at {place}"
        try:
            mode = os.stat(place, dir_fd=root, follow_symlinks=False).st_mode
        except OSError:
            return False, None
        if not stat.S_ISDIR(mode):
            what = "a file" if stat.S_ISREG(mode) else _kind(mode)
            return False, f"{what} at {place}"
    return True, None
