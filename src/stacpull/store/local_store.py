"""A directory as DEST. Nothing is written outside it or through a symlink; unknown files are not overwritten.

Directories are opened one component at a time, so that no name and no link leads outside.

An fsync takes milliseconds, so millions of files would take days. `syncfs` syncs a group at once, but reports
errors only since Linux 5.8, and only on some file systems. A failed sync is never repeated: the lost pages
are gone from the cache, and a second sync would report success.
"""

import ctypes
import errno
import os
import re
import stat
import sys
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from stacpull.errors import DestinationError, destination_error, destination_errors, is_destination_failure
from stacpull.models import BucketLocation, Failure, FailureKind, Placement
from stacpull.store.inspection import NO_HOOKS, DirectoryFiles, StoredFiles, WaitHooks, is_name, sync_path
from stacpull.store.protocol import Store, exists_failure, store_kind
from stacpull.store.staging import StagedParts, open_or_make

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

HELD_DIRECTORIES = 32  # of DEST, which stay open: opening one again takes longer than renaming a file
_SYNCED_AT_ONCE = 8  # files or directories, in as many threads
_NOREPLACE = 1  # linux/fs.h
_NO_RENAMEAT2 = frozenset({errno.EINVAL, errno.ENOSYS, errno.EPERM})  # if it is not supported

GROUP_SYNC = {0xEF53, 0x58465342, 0x9123683E, 0xF2F52010, 0x2FC12FC1, 0x01021994}
"""ext, xfs, btrfs, f2fs, zfs and tmpfs, by f_type (`statfs(2)`): `syncfs` syncs them and reports errors."""
_NETWORK = frozenset({0x6969, 0x517B, 0xFF534D42, 0xFE534D42, 0x0BD00BD0, 0x47504653, 0x00C36400, 0x01021997})
"""nfs, smb, cifs, smb2, lustre, gpfs, ceph and 9p."""
_LIBC = ctypes.CDLL(None, use_errno=True)
_SYNCFS_REPORTS_ERRORS = (5, 8)
_NO_SYNCFS = frozenset({errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP})  # if it is not offered: nothing is lost


def open_store(
    work: Path, location: BucketLocation | None, hooks: WaitHooks = NO_HOOKS, worker_parts: str = ""
) -> Store:
    """`worker_parts` is the directory of a worker among the parts."""
    if location is None:
        return LocalStore(work, worker_parts=worker_parts)
    kind = store_kind(location)
    return kind.open_store(StagedParts(work, worker_parts, are_renamed=False), location, hooks)


@contextmanager
def open_files(
    work: Path, location: BucketLocation | None, hooks: WaitHooks = NO_HOOKS
) -> Iterator[StoredFiles]:
    try:
        if location is None:
            files: StoredFiles = DirectoryFiles(work)
        else:
            files = store_kind(location).open_files(location, hooks)
    except PermissionError as error:
        raise DestinationError(f"No permission to read {work}.") from error
    with closing(files):
        yield files


class LocalStore(DirectoryFiles):
    """A directory as DEST. Several threads may write, rename and link parts, and read files.

    Only one thread may use its other methods, because they open and close directories of DEST.
    """

    is_local = True

    def __init__(self, dest: Path, *, worker_parts: str = "") -> None:
        self.staged = StagedParts(dest, worker_parts)
        DirectoryFiles.__init__(self, dest)
        self._held: OrderedDict[str, int] = OrderedDict()
        self.unsynced = {""}  # directories

    def close(self) -> None:
        while self._held:
            os.close(self._held.popitem()[1])
        self.staged.close()
        DirectoryFiles.close(self)

    @cached_property
    def sync_covers_ledger(self) -> bool:
        """True if one `syncfs` makes everything durable that was written since DEST was opened."""
        kernel = tuple(map(int, re.findall(r"\d+", os.uname().release)))
        if kernel < _SYNCFS_REPORTS_ERRORS or _file_system(self.fd) not in GROUP_SYNC:
            return False
        try:
            syncfs(self.fd)
        except OSError as error:
            if error.errno in _NO_SYNCFS:
                return False
            raise destination_error(error, self.path) from error
        return True

    @cached_property
    def _threads(self) -> "ThreadPoolExecutor":
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 -- it imports logging

        return ThreadPoolExecutor(_SYNCED_AT_ONCE, "stacpull-fsync")

    def sync(self, parts: Sequence[str]) -> None:
        directories = self.unsynced
        self.unsynced = set()
        sync_part = partial(sync_path, flags=os.O_NOFOLLOW, dir_fd=self.staged.fd)
        try:
            if self.sync_covers_ledger:
                syncfs(self.fd)
                return
            list(self._threads.map(sync_part, parts))
            list(self._threads.map(self._sync_directory, directories))
        except OSError as error:
            raise destination_error(error, self.path) from error

    def _sync_directory(self, path: str) -> None:
        with suppress(FileNotFoundError):  # the directory was removed, with its files
            sync_path(path or ".", os.O_NOFOLLOW, dir_fd=self.fd)

    def place(self, files: Sequence[Placement]) -> list[Failure | None]:
        return list(map(self._place, files))

    def _place(self, file: Placement) -> Failure | None:
        if not is_name(file.name):
            return Failure(FailureKind.NAME, f"{file.path!r} cannot be written: it is not a name.")
        try:
            if self._rename(file, self.directory(file.directory)):
                self.unsynced.add(file.directory)
                return None
            return exists_failure(file.path)
        except OSError as error:
            if is_destination_failure(error):
                raise destination_error(self._with_path(error, file.directory), self.path) from error
            reason = error.strerror
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                reason = f"there is {self._obstacle_above(file.path)}, which must be moved away"
            return Failure(FailureKind.NAME, f"{file.path!r} cannot be written: {reason}.")

    def _rename(self, file: Placement, directory: int) -> bool:
        try:
            if rename_new(file.part, self.staged.fd, file.name, directory):
                return True
        except FileExistsError:
            if not file.may_replace:
                return False
        with suppress(FileNotFoundError):
            existing = os.stat(file.name, dir_fd=directory, follow_symlinks=False)
            if not (file.may_replace and stat.S_ISREG(existing.st_mode)):
                return False
        os.rename(file.part, file.name, src_dir_fd=self.staged.fd, dst_dir_fd=directory)
        return True

    def find(self, path: str) -> tuple[int, int] | None:
        directory, _, name = path.rpartition("/")
        try:
            file_stat = os.stat(name, dir_fd=self.directory(directory, make=False), follow_symlinks=False)
        except OSError as error:
            if is_destination_failure(error) and error.errno != errno.ENOENT:
                raise destination_error(error, self.path) from error
            return None
        self.unsynced.add(directory)
        if not stat.S_ISREG(file_stat.st_mode):
            return None
        return file_stat.st_ino, file_stat.st_size

    def remove(self, path: str) -> None:
        directory, _, name = path.rpartition("/")
        if self.find(path) is not None:  # a link in its place stays
            with destination_errors(self.path), suppress(FileNotFoundError):
                os.unlink(name, dir_fd=self.directory(directory, make=False))
        self._remove_empty(directory)

    def _remove_empty(self, directory: str) -> None:
        while directory:
            parent, _, name = directory.rpartition("/")
            held_fd = self._held.pop(directory, None)
            if held_fd is not None:
                os.close(held_fd)
            try:
                os.rmdir(name, dir_fd=self.directory(parent, make=False))
            except FileNotFoundError:
                pass
            except OSError as error:
                self.unsynced.add(directory)
                if is_destination_failure(error):  # other errors: the directory is not empty
                    raise destination_error(error, self.path) from error
                return
            self.unsynced.discard(directory)
            directory = parent
        self.unsynced.add("")

    def directory(self, path: str, *, make: bool = True) -> int:
        """Return a descriptor of a directory in DEST, valid until the next call."""
        if not path:
            return self.fd
        fd = self._held.get(path)
        if fd is not None:
            self._held.move_to_end(path)
            return fd
        parent, _, name = path.rpartition("/")
        if not is_name(name):
            raise OSError(errno.EINVAL, "it is not a name", name)
        parent_fd = self.directory(parent, make=make)
        try:
            fd = open_or_make(parent_fd, name, make=make)
        except OSError as error:
            raise self._with_path(error, path) from error
        self.unsynced.add(parent)  # even if it existed: a killed run may have made it without a sync
        self._held[path] = fd
        if len(self._held) > HELD_DIRECTORIES:
            os.close(self._held.popitem(last=False)[1])
        return fd


def rename_new(old: str, old_directory: int, new: str, new_directory: int) -> bool:
    """Rename a file unless the new name is taken; False if that is not supported.

    `renameat2(2)` (Linux 3.15, glibc 2.28) checks and renames in one step, so that no file that appears in
    between is overwritten. NFS and musl do not have it: there, the caller checks first, then renames.
    """
    call = getattr(_LIBC, "renameat2", None)
    if call is None:
        return False
    if call(old_directory, os.fsencode(old), new_directory, os.fsencode(new), _NOREPLACE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NO_RENAMEAT2:
        return False
    raise OSError(code, os.strerror(code), new)


def is_on_network(fd: int) -> bool:
    """Return True on a network file system: SQLite's write-ahead log does not work there."""
    return _file_system(fd) in _NETWORK


def _file_system(fd: int) -> int:
    buffer = ctypes.create_string_buffer(256)
    if _LIBC.fstatfs(fd, buffer) != 0:
        return 0
    f_type = buffer.raw[: ctypes.sizeof(ctypes.c_long)]  # the first field of `struct statfs`
    return int.from_bytes(f_type, sys.byteorder) & 0xFFFFFFFF


def syncfs(fd: int) -> None:
    if _LIBC.syncfs(fd) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
