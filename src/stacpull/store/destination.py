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
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from stacpull.errors import DestinationError
from stacpull.models import Failure, FailureKind
from stacpull.store.regular import open_regular
from stacpull.store.renaming import rename_new

__all__ = ["Destination", "destination_error", "is_destination_failure"]

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_COMPARED = 1 << 20
_HELD_DIRECTORIES = 64
_NO_NAMES = frozenset({"", ".", ".."})

_SENTENCES = {
    errno.ENOSPC: "The disk of {dest} is full (bytes or inodes): free some space, then `stacpull resume`.",
    errno.EDQUOT: "Your quota on {dest} is used up: free some space, then run `stacpull resume`.",
    errno.EROFS: "{dest} is on a read-only file system.",
    errno.EACCES: "No permission to write {place}.",
    errno.EPERM: "No permission to write {place}.",
    errno.EIO: "The disk of {dest} reports an error: check it, then run `stacpull resume`.",
    errno.EMFILE: "Too many open files: raise `ulimit -n` or lower --concurrency.",
    errno.ENFILE: "The system has too many open files: lower --concurrency.",
    errno.ENOENT: "{dest} cannot be written: no files can be created there, or it was removed meanwhile.",
    errno.ESTALE: "{dest} was removed while it was being written.",
}


def is_destination_failure(error: OSError) -> bool:
    """Return True if `error` concerns the whole destination, not one name in it."""
    return error.errno in _SENTENCES


def destination_error(error: OSError, dest: Path) -> DestinationError:
    """Return the error with a sentence for the user.

    Args:
        error: What failed. Where it names a path below `dest`, that is where a permission is missing.
        dest: The mirror.
    """
    sentence = _SENTENCES.get(
        error.errno or 0, "{dest} cannot be written: " + (error.strerror or str(error)) + "."
    )
    place = _refused(error, dest)
    where = f"in {place}" if place.is_dir() else str(place)
    return DestinationError(sentence.format(dest=dest, place=where))


def _refused(error: OSError, dest: Path) -> Path:
    """Return the file or directory that an error is about, `dest` if it does not name one."""
    moved_to = error.filename2  # of a rename: its directory is what a permission may be missing for
    named = error.filename if moved_to is None else Path(moved_to).parent
    place = Path(named) if isinstance(named, str | Path) else dest
    while place != dest and dest in place.parents:
        if os.path.lexists(place):
            return place
        place = place.parent
    return dest


class Destination:
    """The directory tree of one mirror, open for writing.

    Several threads may use it at once: one writes and renames parts, and threads of adoption link files into
    the parts directory; those touch its descriptor only. One alone does everything else, with the directories
    that are held open.
    """

    def __init__(self, dest: Path, *, most_held: int = _HELD_DIRECTORIES) -> None:
        """Open DEST, making it and `.stacpull/parts` if need be.

        Args:
            dest: the mirror.
            most_held: how many of its directories may be held open at once.

        Raises:
            DestinationError: it cannot be made or written.
        """
        self.path = dest
        self.most_held = most_held
        with ExitStack() as opened:
            try:
                _make_with_parents(dest)
                self.fd = os.open(dest, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                opened.callback(os.close, self.fd)
                own = _open_or_make(self.fd, ".stacpull")
                opened.callback(os.close, own)
                self.parts_fd = _open_or_make(own, "parts")
            except OSError as error:
                if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.ELOOP):
                    raise DestinationError(f"{dest} is not a directory that can be written to.") from error
                raise destination_error(error, dest) from error
            opened.pop_all()
            os.close(own)
        self._held: OrderedDict[str, int] = OrderedDict()
        self._touched = {""}

    def take_touched(self) -> list[str]:
        """Return the directories whose entries changed since the last call: they are to be synced."""
        touched, self._touched = sorted(self._touched), set()
        return touched

    def touch(self, directory: str) -> None:
        """Have a directory synced whose entries an earlier run changed, with those above it.

        Raises:
            DestinationError: it cannot be opened.
        """
        try:
            self.directory(directory)
        except OSError as error:
            raise destination_error(error, self.path) from error
        self._touched.add(directory)

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
                written = os.write(fd, body)
                while written < len(body):
                    written += os.write(fd, memoryview(body)[written:])
                return os.fstat(fd).st_ino
            except OSError:
                os.unlink(name, dir_fd=self.parts_fd)  # room for the ledger, on a disk that is full
                raise
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

        Raises:
            DestinationError: the disk is full, read-only or broken.
        """
        try:
            _refuse_odd(name)
            fd = self.directory(directory)
            try:
                is_placed = self._rename(part, fd, name, replace=replace)
            except OSError as error:
                raise self._named(error, directory) from error
            if not is_placed:
                return Failure(
                    FailureKind.EXISTS,
                    f"{_path(directory, name)} exists and is not of this mirror: move it away, "
                    "then run `stacpull retry`. "
                    "If the ledger is older than the files (a restored backup), run "
                    "`stacpull verify --rebuild` first.",
                )
            self._touched.add(directory)
        except OSError as error:
            if is_destination_failure(error):
                raise destination_error(error, self.path) from error
            in_the_way = error.errno in (errno.ENOTDIR, errno.ELOOP)
            reason = "a link or file is in the way" if in_the_way else error.strerror
            return Failure(FailureKind.NAME, f"{_path(directory, name)!r} cannot be written: {reason}.")
        return None

    def _rename(self, part: str, directory: int, name: str, *, replace: bool) -> bool:
        """Rename a part into an open directory; False if what has that name must stay."""
        try:
            if rename_new(part, self.parts_fd, name, directory):
                return True
        except FileExistsError:
            if not replace:
                return False
        if not _is_free(directory, name, replace=replace):
            return False
        os.rename(part, name, src_dir_fd=self.parts_fd, dst_dir_fd=directory)
        return True

    def is_free(self, directory: str, name: str) -> bool:
        """Return True if nothing has that name: neither a file, nor a link, nor a directory."""
        try:
            return _is_free(self.directory(directory, make=False), name, replace=False)
        except OSError:
            return not os.path.lexists(self.path / directory / name)

    def holds_same(self, part: str, directory: str, name: str) -> bool:
        """Return True if a regular file with the content of that part is there already."""
        try:
            there = os.open(name, _READ, dir_fd=self.directory(directory, make=False))
        except OSError:
            return False
        with os.fdopen(there, "rb") as one:
            try:
                with os.fdopen(os.open(part, _READ, dir_fd=self.parts_fd), "rb") as other:
                    return _is_same(one, other)
            except OSError as error:
                raise destination_error(error, self.path) from error

    @contextmanager
    def opened(self, directories: Sequence[str]) -> Iterator[list[int]]:
        """Open these directories of the mirror for the length of the block.

        Raises:
            DestinationError: one of them cannot be opened.
        """
        with ExitStack() as stack:
            fds: list[int] = []
            try:
                for path in directories:
                    fds.append(os.dup(self.directory(path, make=False)))
                    stack.callback(os.close, fds[-1])
            except OSError as error:
                raise destination_error(error, self.path) from error
            yield fds

    def has(self, path: str) -> bool:
        """Return False if nothing is at `path`, relative to DEST; True also where that is not known.

        It may be called from any thread.
        """
        if os.access(path, os.F_OK, dir_fd=self.fd):  # half the time of a stat, and true of nearly all
            return True
        try:
            os.stat(path, dir_fd=self.fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            return True
        return True

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

    def tidy(self, directory: str) -> None:
        """Remove a directory of the mirror that is empty, and those above it likewise; DEST stays."""
        while directory:
            above, _, name = directory.rpartition("/")
            held = self._held.pop(directory, None)
            if held is not None:
                os.close(held)
            try:
                os.rmdir(name, dir_fd=self.directory(above, make=False))
            except FileNotFoundError:
                pass
            except OSError as error:
                self._touched.add(directory)
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) and is_destination_failure(error):
                    raise destination_error(error, self.path) from error
                return
            self._touched.discard(directory)
            directory = above
        self._touched.add("")

    def read(self, directory: str, name: str) -> bytes | None:
        """Return the contents of a regular file of the mirror, None if it cannot be read."""
        try:
            fd = open_regular(name, os.O_RDONLY, dir_fd=self.directory(directory, make=False))
        except OSError:
            return None
        with os.fdopen(fd, "rb") as file:
            return file.read()

    def directory(self, path: str, *, make: bool = True) -> int:
        """Return a descriptor of a directory in DEST, valid until the next call.

        Raises:
            OSError: a component is a link or a file (ENOTDIR, ELOOP), is no name (EINVAL), or cannot be made.
        """
        if not path:
            return self.fd
        fd = self._held.get(path)
        if fd is not None:
            self._held.move_to_end(path)
            return fd
        parent, _, last = path.rpartition("/")
        _refuse_odd(last)
        above = self.directory(parent, make=make)
        try:
            fd = _open_or_make(above, last) if make else os.open(last, _OPEN_DIRECTORY, dir_fd=above)
        except OSError as error:
            raise self._named(error, path) from error
        self._touched.add(parent)  # also where it was there: a killed run may have made it, unsynced
        self._held[path] = fd
        if len(self._held) > self.most_held:
            os.close(self._held.popitem(last=False)[1])
        return fd

    def _named(self, error: OSError, path: str) -> OSError:
        """Return the same error about a directory, given by its path relative to DEST."""
        return OSError(error.errno, error.strerror, str(self.path / path))


def _open_or_make(above: int, name: str) -> int:
    """Open a directory, made if it is not there; a link is not followed."""
    try:
        return os.open(name, _OPEN_DIRECTORY, dir_fd=above)
    except FileNotFoundError:
        os.mkdir(name, 0o755, dir_fd=above)
        return os.open(name, _OPEN_DIRECTORY, dir_fd=above)


def _make_with_parents(dest: Path) -> None:
    """Make DEST and what is missing above it, each entry synced: a mirror whose root is lost is lost."""
    if dest.is_dir():
        return
    if not dest.parent.is_dir():
        _make_with_parents(dest.parent)
    dest.mkdir(exist_ok=True)
    fd = os.open(dest.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _is_same(one: BinaryIO, other: BinaryIO) -> bool:
    """Return True if two files have the same content, or are one file."""
    first, second = os.fstat(one.fileno()), os.fstat(other.fileno())
    if not stat.S_ISREG(first.st_mode) or first.st_size != second.st_size:
        return False
    if os.path.samestat(first, second):
        return True
    while chunk := one.read(_COMPARED):
        if chunk != other.read(_COMPARED):
            return False
    return True


def _refuse_odd(name: str) -> None:
    """Refuse what is no name of an entry: planning makes names safe, and this is the last door.

    Raises:
        OSError: EINVAL.
    """
    if name in _NO_NAMES or "/" in name or "\0" in name:
        raise OSError(errno.EINVAL, "it is not a name", name)


def _path(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


def _is_free(directory: int, name: str, *, replace: bool) -> bool:
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return True
    return replace and stat.S_ISREG(found.st_mode)
