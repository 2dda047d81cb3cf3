"""Reading DEST, which others may have changed: no link is followed, and no pipe or device is waited for."""

import errno
import itertools
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from stacpull.digests import new_hasher
from stacpull.models import path_in_dest

MAX_DOCUMENT_SIZE = 64 << 20  # bytes of a document, or of a line, that is read from DEST
NO_NAMES = frozenset({"", ".", ".."})
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SAFE_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_BATCH = 1024  # entries of a directory that are sorted together: by inode, the order on many disks
_READ = 1 << 20
_NOT_A_DOCUMENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.ENXIO}  # or no regular file
_KINDS = {stat.S_IFREG: "a file", stat.S_IFDIR: "a directory", stat.S_IFLNK: "a link"}

IsStopped = Callable[[], bool]  # returns True once a long read must end


def never() -> bool:
    return False


def is_name(text: str) -> bool:
    return text not in NO_NAMES and "/" not in text and "\0" not in text


class WaitHooks(NamedTuple):
    """Callbacks while waiting for DEST: `warn` (from any thread), and `is_stopped` to give up.

    Unanswered requests are repeated for minutes. After a stop, or before DEST has answered once
    in this run (`has_answered`), they are repeated only for seconds.
    """

    warn: Callable[[str], None] = lambda _: None
    is_stopped: IsStopped = never
    has_answered: bool = False


NO_HOOKS = WaitHooks()


class FileEntry(NamedTuple):
    path: str
    is_file: bool


class FileState(NamedTuple):
    """The state of a path. `obstacle` is anything other than a readable regular file: "a link at c"."""

    size: int | None = None
    digest: bytes | None = None
    obstacle: str | None = None
    readable: bool = True
    modified: float | None = None  # without a digest: the time of the last write, in seconds since 1970


def open_regular(path: str | Path, flags: int, *, dir_fd: int | None = None, mode: int = 0o644) -> int:
    fd = os.open(path, flags | _SAFE_FLAGS, mode, dir_fd=dir_fd)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    return fd


class StoredFiles(Protocol):
    """The files of a mirror, for reading. Any thread may call any method. `name` is the name of DEST."""

    name: str

    def state_of(
        self, path: str, *, algorithm: str | None = "sha256", is_stopped: IsStopped = never
    ) -> FileState:
        """Return the state, without following links. `algorithm=None` leaves out the digest.

        If `is_stopped` returns True, there is no digest, and the size is that of the whole file.
        """

    def has(self, path: str) -> bool:
        """Return True if there is something at `path`, False if that cannot be determined."""

    def read(self, path: str) -> bytes | None:
        """Return None if there is no regular file of up to 64 MiB. Raises `OSError` if it cannot be read."""

    def open(self, path: str) -> BinaryIO:
        """Open a regular file for reading. Raises `OSError` if there is none, or it cannot be read."""

    def walk(self, skipped: frozenset[str], prefix: str = "") -> Iterator[Sequence[FileEntry]]:
        """Yield all entries but directories, in batches, without the top-level names `skipped`.

        `prefix` ends with a slash. Unreadable directories are left out; for DEST itself, raises `OSError`.
        """

    def close(self) -> None: ...


def may_exist(files: StoredFiles, path: str) -> bool:
    """Return True if there is something at `path`, or if that cannot be determined."""
    return files.has(path) or not files.state_of(path, algorithm=None).readable


class DirectoryFiles:
    """Files of a directory. Links are not followed: whoever can write to DEST could have any file read."""

    def __init__(self, dest: Path, fd: int | None = None) -> None:
        self.path = dest
        self.name = str(dest)
        if fd is None:
            fd = os.open(dest, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.fd = fd

    def close(self) -> None:
        os.close(self.fd)

    def _obstacle_above(self, path: str) -> str | None:
        """Return what is in the place of a parent directory, such as "a link at c"; None if it is missing."""
        parent = ""
        for name in path.split("/")[:-1]:
            parent = path_in_dest(parent, name)
            if name in NO_NAMES:
                return f"a path that leads out of it at {parent}"
            try:
                mode = os.stat(parent, dir_fd=self.fd, follow_symlinks=False).st_mode
            except OSError:
                return None
            if not stat.S_ISDIR(mode):
                return f"{_kind(mode)} at {parent}"
        return None

    def state_of(
        self, path: str, *, algorithm: str | None = "sha256", is_stopped: IsStopped = never
    ) -> FileState:
        obstacle = self._obstacle_above(path)
        if obstacle is not None:
            return FileState(obstacle=obstacle)
        try:
            file_stat = os.stat(path, dir_fd=self.fd, follow_symlinks=False)
            if not stat.S_ISREG(file_stat.st_mode):
                return FileState(obstacle=_kind(file_stat.st_mode))
            if algorithm is None:
                return FileState(file_stat.st_size, modified=file_stat.st_mtime)
            fd = open_regular(path, os.O_RDONLY, dir_fd=self.fd)
            with os.fdopen(fd, "rb", buffering=0) as file:
                return hashed_state(file.read, file_stat.st_size, algorithm, is_stopped)
        except (FileNotFoundError, NotADirectoryError):
            return FileState()
        except OSError as error:
            return FileState(obstacle=f"a file that cannot be read ({error.strerror})", readable=False)

    def has(self, path: str) -> bool:
        return os.access(path, os.F_OK, dir_fd=self.fd, follow_symlinks=False)  # faster than a stat

    def read(self, path: str) -> bytes | None:
        try:
            with self.open(path) as file:
                if os.fstat(file.fileno()).st_size <= MAX_DOCUMENT_SIZE:
                    return file.read()
        except OSError as error:
            if error.errno not in _NOT_A_DOCUMENT:
                raise self._with_path(error, path) from error
        return None

    def _with_path(self, error: OSError, path: str) -> OSError:
        return OSError(error.errno, error.strerror, str(self.path / path))

    def open(self, path: str) -> BinaryIO:
        obstacle = self._obstacle_above(path)
        if obstacle is not None:
            raise OSError(errno.ELOOP, obstacle, str(self.path / path))
        try:
            return os.fdopen(open_regular(path, os.O_RDONLY, dir_fd=self.fd), "rb")
        except OSError as error:
            raise self._with_path(error, path) from error

    def walk(self, skipped: frozenset[str], prefix: str = "") -> Iterator[Sequence[FileEntry]]:
        unread = [self._listing(prefix, skipped)]  # no recursion: anybody can nest thousands of directories
        while unread:
            try:
                files, directories = next(unread[-1])
            except (StopIteration, OSError) as error:  # if it is unreadable, `state_of` reports its files
                if isinstance(error, OSError) and len(unread) == 1:
                    raise
                unread.pop()
                continue
            unread += [self._listing(directory, frozenset()) for directory in directories]
            if files:
                yield files

    def _listing(self, prefix: str, skipped: frozenset[str]) -> Iterator[tuple[list[FileEntry], list[str]]]:
        with os.scandir(f"{self.path}/{prefix}") as entries:  # a link put there meanwhile only adds names
            while batch := list(itertools.islice(entries, _BATCH)):
                files = []
                directories = []
                for entry in sorted(batch, key=os.DirEntry.inode):
                    if entry.name in skipped:
                        continue
                    path = prefix + entry.name
                    if entry.is_dir(follow_symlinks=False):
                        directories.append(f"{path}/")
                    else:
                        files.append(FileEntry(path, entry.is_file(follow_symlinks=False)))
                yield files, directories


def _kind(mode: int) -> str:
    return _KINDS.get(stat.S_IFMT(mode), "a pipe, socket or device")


def hashed_state(
    read: Callable[[int], bytes | memoryview], stated_size: int, algorithm: str, is_stopped: IsStopped
) -> FileState:
    """Return size and digest of what `read` returns; only the `stated_size` if `is_stopped` ended it."""
    size = 0
    hasher = new_hasher(algorithm)
    while data := read(_READ):
        size += len(data)
        hasher.update(data)
        if size >= _READ and is_stopped():
            return FileState(stated_size)
    return FileState(size, hasher.digest())


def sync_path(path: str | Path, flags: int = 0, *, dir_fd: int | None = None) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags, dir_fd=dir_fd)
    except PermissionError:  # a directory that can be written but not read
        os.sync()
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
