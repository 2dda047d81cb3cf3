"""DEST as a place to put files: nothing outside it, nothing through a symlink, nothing unknown overwritten.

Directories are opened one component at a time without following links, and files are renamed between
directory descriptors, so that neither a hostile name nor a link put there meanwhile leads outside.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from stacpull.errors import DestinationError
from stacpull.models import Failure, FailureKind

__all__ = ["Destination", "destination_error", "is_destination_failure"]

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_HELD_DIRECTORIES = 64

_SENTENCES = {
    errno.ENOSPC: "The disk of {dest} is full (bytes or inodes): free some space, then run `stacpull resume`.",
    errno.EDQUOT: "Your quota on {dest} is used up: free some space, then run `stacpull resume`.",
    errno.EROFS: "{dest} is on a read-only file system.",
    errno.EACCES: "No permission to write in {dest}.",
    errno.EPERM: "No permission to write in {dest}.",
    errno.EIO: "The disk of {dest} reports an error: check it, then run `stacpull resume`.",
    errno.EMFILE: "Too many open files: raise `ulimit -n` or lower --concurrency.",
    errno.ENFILE: "The system has too many open files: lower --concurrency.",
    errno.ENOENT: "{dest} has vanished while it was being written.",
    errno.ESTALE: "{dest} has vanished while it was being written.",
}


def is_destination_failure(error: OSError) -> bool:
    """Return True if `error` concerns the whole destination, not one name in it."""
    return error.errno in _SENTENCES


def destination_error(error: OSError, dest: Path) -> DestinationError:
    """Return the sentence for an error that concerns the whole destination."""
    sentence = _SENTENCES.get(
        error.errno or 0, "{dest} cannot be written: " + (error.strerror or str(error)) + "."
    )
    return DestinationError(sentence.format(dest=dest))


class Destination:
    """The directory tree of one mirror, open for writing. Used by one thread at a time."""

    def __init__(self, dest: Path) -> None:
        """Open DEST, making it and `.stacpull/parts` if need be.

        Raises:
            DestinationError: it cannot be made or written.
        """
        self.path = dest
        try:
            dest.mkdir(parents=True, exist_ok=True)
            self.fd = os.open(dest, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            own, _ = self._open_or_make(self.fd, ".stacpull")
            self.parts_fd, _ = self._open_or_make(own, "parts")
            os.close(own)
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.EEXIST):
                raise DestinationError(f"{dest} is not a directory that can be written to.") from error
            raise destination_error(error, dest) from error
        self._held: OrderedDict[str, int] = OrderedDict()
        self._touched: set[str] = set()

    def take_touched(self) -> list[str]:
        """Return the directories whose entries changed since the last call: they are to be synced."""
        touched, self._touched = sorted(self._touched), set()
        return touched

    @property
    def parts(self) -> Path:
        """The directory of unfinished downloads."""
        return self.path / ".stacpull" / "parts"

    def close(self) -> None:
        """Release all descriptors."""
        for fd in (*self._held.values(), self.parts_fd, self.fd):
            os.close(fd)
        self._held.clear()

    def write_part(self, name: str, body: bytes) -> int:
        """Write a new part file in one go and return its inode.

        Raises:
            DestinationError: the disk is full or fails.
        """
        try:
            fd = self._create_part(name)
            try:
                view = memoryview(body)
                while view:
                    view = view[os.write(fd, view) :]
                return os.fstat(fd).st_ino
            finally:
                os.close(fd)
        except OSError as error:
            raise destination_error(error, self.path) from error

    def _create_part(self, name: str) -> int:
        try:
            return os.open(name, _CREATE, 0o644, dir_fd=self.parts_fd)
        except FileExistsError:  # left by a kill
            os.unlink(name, dir_fd=self.parts_fd)
            return os.open(name, _CREATE, 0o644, dir_fd=self.parts_fd)

    def rename_part(self, old: str, new: str) -> int:
        """Give a part another name and return its inode."""
        try:
            os.rename(old, new, src_dir_fd=self.parts_fd, dst_dir_fd=self.parts_fd)
            return os.stat(new, dir_fd=self.parts_fd, follow_symlinks=False).st_ino
        except OSError as error:
            raise destination_error(error, self.path) from error

    def drop_part(self, name: str) -> None:
        """Remove a part, if it is there."""
        try:
            os.unlink(name, dir_fd=self.parts_fd)
        except FileNotFoundError:
            return
        except OSError as error:
            raise destination_error(error, self.path) from error

    def place(self, part: str, directory: str, name: str, *, replace: bool) -> Failure | None:
        """Rename a part into place; return why not, if the name is in the way.

        Args:
            part: name of the part file.
            directory: where it goes, relative to DEST, `/` between segments.
            name: its final name.
            replace: True if a regular file of that name is ours and may go (a newer version of an asset).
        """
        try:
            fd = self.directory(directory)
            if not _is_free(fd, name, replace=replace):
                return Failure(
                    FailureKind.EXISTS,
                    f"{directory}/{name} exists and is not of this mirror: move it away, then run `stacpull retry`.",
                )
            os.rename(part, name, src_dir_fd=self.parts_fd, dst_dir_fd=fd)
            self._touched.add(directory)
        except OSError as error:
            if is_destination_failure(error):
                raise destination_error(error, self.path) from error
            reason = (
                "a link or file is in the way"
                if error.errno in (errno.ENOTDIR, errno.ELOOP)
                else error.strerror
            )
            return Failure(FailureKind.NAME, f"{directory}/{name} cannot be written: {reason}.")
        return None

    @contextmanager
    def opened(self, directories: Sequence[str]) -> Iterator[list[int]]:
        """Open these directories of the mirror for the length of the block."""
        fds: list[int] = []
        try:
            for path in directories:
                fds.append(os.dup(self.directory(path, make=False)))
            yield fds
        finally:
            for fd in fds:
                os.close(fd)

    def identity(self, directory: str, name: str) -> tuple[int, int] | None:
        """Return (inode, size in bytes) of a regular file in DEST, None if there is none."""
        try:
            found = os.stat(name, dir_fd=self.directory(directory, make=False), follow_symlinks=False)
        except OSError:
            return None
        return (found.st_ino, found.st_size) if stat.S_ISREG(found.st_mode) else None

    def remove(self, directory: str, name: str) -> None:
        """Remove one of our own files, if it is there."""
        try:
            os.unlink(name, dir_fd=self.directory(directory, make=False))
        except OSError as error:
            if is_destination_failure(error) and error.errno != errno.ENOENT:
                raise destination_error(error, self.path) from error

    def read(self, directory: str, name: str) -> bytes | None:
        """Return the contents of a file of the mirror, None if it cannot be read."""
        try:
            fd = os.open(
                name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.directory(directory, make=False)
            )
        except OSError:
            return None
        with open(fd, "rb") as file:
            return file.read()

    def directory(self, path: str, *, make: bool = True) -> int:
        """Return a descriptor of a directory in DEST, valid until the next call.

        Raises:
            OSError: a component is a link or a file (ENOTDIR, ELOOP), or cannot be made.
        """
        if not path:
            return self.fd
        fd = self._held.get(path)
        if fd is not None:
            self._held.move_to_end(path)
            return fd
        parent, _, last = path.rpartition("/")
        above = self.directory(parent, make=make)
        if make:
            fd, made = self._open_or_make(above, last)
            if made:
                self._touched.add(parent)
        else:
            fd = os.open(last, _OPEN_DIRECTORY, dir_fd=above)
        self._held[path] = fd
        if len(self._held) > _HELD_DIRECTORIES:
            os.close(self._held.popitem(last=False)[1])
        return fd

    @staticmethod
    def _open_or_make(above: int, name: str) -> tuple[int, bool]:
        try:
            return os.open(name, _OPEN_DIRECTORY, dir_fd=above), False
        except FileNotFoundError:
            os.mkdir(name, 0o755, dir_fd=above)
            return os.open(name, _OPEN_DIRECTORY, dir_fd=above), True


def _is_free(directory: int, name: str, *, replace: bool) -> bool:
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return True
    return replace and stat.S_ISREG(found.st_mode)
