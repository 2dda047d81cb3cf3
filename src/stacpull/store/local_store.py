"""A directory as DEST. Nothing is written outside it or through a symlink; unknown files are not overwritten.

Directories are opened one component at a time without following links: neither a hostile name nor a link that
is created during the run leads outside.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import cache, cached_property
from pathlib import Path

from stacpull.errors import (
    DestinationError,
    destination_error,
    destination_errors,
    is_destination_failure,
)
from stacpull.models import Arrival, BucketLocation, Failure, FailureKind, path_in_dest
from stacpull.store.file_sync import FileSync, Sync, choose
from stacpull.store.inspection import DirectoryFiles
from stacpull.store.protocol import (
    HELD_DIRECTORIES,
    NO_NAMES,
    Placement,
    Store,
    StoredFiles,
    foreign_file,
    store_kind,
)
from stacpull.store.staging import OPEN_DIRECTORY, StagedParts, open_or_make
from stacpull.system import is_linux

_NOREPLACE = 1  # linux/fs.h
_FILE_NAMES = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
_NOT_HAD = frozenset({errno.EINVAL, errno.ENOSYS, errno.EPERM})
"""Errors of `renameat2` if the file system, the kernel or a sandbox does not support it."""


def open_store(
    work: Path,
    location: BucketLocation | None,
    *,
    most_held: int = HELD_DIRECTORIES,
    on_silent: Callable[[str], None] = lambda _: None,
) -> Store:
    if location is None:
        return LocalStore(work, most_held=most_held)
    return store_kind(location).open_store(work, location, on_silent)


@contextmanager
def open_files(
    work: Path, location: BucketLocation | None, *, on_silent: Callable[[str], None] = lambda _: None
) -> Iterator[StoredFiles]:
    try:
        files: StoredFiles = (
            DirectoryFiles(work) if location is None else store_kind(location).open_files(location, on_silent)
        )
    except PermissionError as error:
        raise DestinationError(f"No permission to read {work}.") from error
    with closing(files):
        yield files


class LocalStore(DirectoryFiles):
    """Several threads may write, rename and link parts, and read files: they use descriptors that stay open.

    One thread does everything else, because other directories are opened and closed as needed.
    """

    is_local = True

    def __init__(
        self,
        dest: Path,
        *,
        most_held: int = HELD_DIRECTORIES,
        sync: Sync | None = None,
        worker_parts: str = "",
    ) -> None:
        """`most_held` directories are held open at once. `sync` defaults to the cheapest reliable one."""
        self.most_held = most_held
        self._given_sync = sync
        self.staged = StagedParts(dest, worker_parts)
        try:
            DirectoryFiles.__init__(self, dest)
        except OSError as error:
            self.staged.close()
            raise destination_error(error, dest) from error
        self._held: OrderedDict[str, int] = OrderedDict()
        self.changed = {""}

    def close(self) -> None:
        for fd in self._held.values():
            os.close(fd)
        self._held.clear()
        self.staged.close()
        DirectoryFiles.close(self)

    @cached_property
    def _sync(self) -> Sync:
        return self._given_sync or choose(self.fd, self.staged.parts_fd)

    @property
    def covers_ledger(self) -> bool:
        return self._sync.covers_ledger

    @property
    def warning(self) -> str | None:
        """Why files are synced one by one although a group sync was expected."""
        return self._sync.reason if isinstance(self._sync, FileSync) else None

    def sync(self, parts: Sequence[str]) -> None:
        changed, self.changed = sorted(self.changed), set()
        if parts or self.covers_ledger:
            self._sync.sync(parts, ())
        if self.covers_ledger:
            return
        for start in range(0, len(changed), self.most_held):
            with self.opened(changed[start : start + self.most_held]) as directories:
                self._sync.sync((), directories)

    @contextmanager
    def opened(self, directories: Sequence[str]) -> Iterator[list[int]]:
        """Open these directories. One that was removed is left out: its files are lost."""
        with ExitStack() as stack:
            fds: list[int] = []
            for path in directories:
                with destination_errors(self.path), suppress(FileNotFoundError):
                    fds.append(os.dup(self.directory(path, make=False)))
                    stack.callback(os.close, fds[-1])
            yield fds

    def place(self, files: Sequence[Arrival | Placement]) -> list[Failure | None]:
        return [self._place(file.part, file.directory, file.name, replace=file.may_replace) for file in files]

    def _place(self, part: str, directory: str, name: str, *, replace: bool) -> Failure | None:
        try:
            _refuse_odd(name)
            fd = self.directory(directory)
            try:
                is_placed = self._rename(part, fd, name, replace=replace)
            except OSError as error:
                raise self._named(error, directory) from error
        except OSError as error:
            if is_destination_failure(error):
                raise destination_error(error, self.path) from error
            is_obstructed = error.errno in (errno.ENOTDIR, errno.ELOOP)
            reason = "a link or file is in its path" if is_obstructed else error.strerror
            return Failure(
                FailureKind.NAME, f"{path_in_dest(directory, name)!r} cannot be written: {reason}."
            )
        if is_placed:
            self.changed.add(directory)
            return None
        return foreign_file(
            path_in_dest(directory, name),
            hint="If the ledger is older than the files (a restored copy), run "
            "`stacpull retry DEST --adopt`.",
        )

    def _rename(self, part: str, directory: int, name: str, *, replace: bool) -> bool:
        try:
            if rename_new(part, self.staged.parts_fd, name, directory):
                return True
        except FileExistsError:
            if not replace:
                return False
        with suppress(FileNotFoundError):
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if not (replace and stat.S_ISREG(found.st_mode)):
                return False
        os.rename(part, name, src_dir_fd=self.staged.parts_fd, dst_dir_fd=directory)
        return True

    def identity(self, directory: str, name: str) -> tuple[int, int] | None:
        try:
            found = os.stat(name, dir_fd=self.directory(directory, make=False), follow_symlinks=False)
        except OSError:
            return None
        self.changed.add(directory)
        return (found.st_ino, found.st_size) if stat.S_ISREG(found.st_mode) else None

    def remove(self, directory: str, name: str) -> None:
        try:
            if self.identity(directory, name) is not None:  # not a link or directory that has taken its place
                os.unlink(name, dir_fd=self.directory(directory, make=False))
        except OSError as error:
            if is_destination_failure(error) and error.errno != errno.ENOENT:
                raise destination_error(error, self.path) from error
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
                self.changed.add(directory)
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) and is_destination_failure(error):
                    raise destination_error(error, self.path) from error
                return
            self.changed.discard(directory)
            directory = above
        self.changed.add("")

    def directory(self, path: str, *, make: bool = True) -> int:
        """Return a descriptor of a directory in DEST, valid until the next call."""
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
            fd = open_or_make(above, last) if make else os.open(last, OPEN_DIRECTORY, dir_fd=above)
        except OSError as error:
            raise self._named(error, path) from error
        self.changed.add(parent)  # even if it existed: a killed run may have made it without a sync
        self._held[path] = fd
        if len(self._held) > self.most_held:
            os.close(self._held.popitem(last=False)[1])
        return fd


def _refuse_odd(name: str) -> None:
    """Reject an invalid name of an entry. Planning makes names safe; this is the final check."""
    if name in NO_NAMES or "/" in name or "\0" in name:
        raise OSError(errno.EINVAL, "it is not a name", name)


def rename_new(old: str, old_directory: int, new: str, new_directory: int) -> bool:
    """Rename a file unless the new name is taken; False if that is not supported.

    `renameat2(2)` (Linux 3.15, glibc 2.28) checks and renames in one step, so that no file that appears in
    between is overwritten. NFS and macOS do not have it: the caller checks first and then renames.
    """
    call = _renameat2()
    if call is None:
        return False
    names = old.encode(*_FILE_NAMES), new.encode(*_FILE_NAMES)  # like os.fsencode, in a third of the time
    if call(old_directory, names[0], new_directory, names[1], _NOREPLACE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NOT_HAD:
        return False
    raise OSError(code, os.strerror(code), new)


@cache
def _renameat2() -> Callable[[int, bytes, int, bytes, int], int] | None:
    if not is_linux():
        return None
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is not None:
        call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    return call
