"""Bringing a group of files to stable storage, and telling honestly when that failed.

One fsync a file costs 1-10 ms on a user's disk: days for eight million. `syncfs` on one descriptor of DEST,
opened before the first write and held, brings a whole group down at once. It is only trusted where it
reports write errors (Linux 5.8 on) and the file system is known to honour it, and only used where the system
permits it (some sandboxes do not); elsewhere each file and directory is synced, in threads. A failed sync is
never tried again and believed: the pages it lost are gone from the cache.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
import sys
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import Protocol

from stacpull.errors import DestinationError
from stacpull.system import is_linux


class FileSystem(Enum):
    """How far a file system is trusted."""

    GROUP = "syncfs syncs it and reports errors"
    SINGLE = "files are synced one by one"
    NETWORK = "as SINGLE, and SQLite's WAL does not work on it"


_MAGIC = {
    0xEF53: FileSystem.GROUP,  # ext2, ext3, ext4
    0x58465342: FileSystem.GROUP,  # xfs
    0x9123683E: FileSystem.GROUP,  # btrfs
    0xF2F52010: FileSystem.GROUP,  # f2fs
    0x2FC12FC1: FileSystem.GROUP,  # zfs
    0x01021994: FileSystem.GROUP,  # tmpfs: nothing to sync
    0x6969: FileSystem.NETWORK,  # nfs
    0x517B: FileSystem.NETWORK,  # smb
    0xFF534D42: FileSystem.NETWORK,  # cifs
    0xFE534D42: FileSystem.NETWORK,  # smb2
    0x0BD00BD0: FileSystem.NETWORK,  # lustre
    0x47504653: FileSystem.NETWORK,  # gpfs
    0x00C36400: FileSystem.NETWORK,  # ceph
    0x01021997: FileSystem.NETWORK,  # 9p
}
"""`statfs(2)`'s f_type."""

_SYNCFS_HONEST = (5, 8)
_REFUSED = frozenset({errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP})
"""What `syncfs` fails with where a sandbox or the kernel does not offer it; nothing was lost then."""
_NOT_FULL = frozenset({errno.ENOTSUP, errno.EINVAL, errno.ENOTTY})
"""What F_FULLFSYNC fails with where a file system does not have it (network, FAT)."""
_THREADS = 8


class Sync(Protocol):
    """Brings data, then names, to stable storage."""

    covers_ledger: bool
    """True if the ledger's log is synced along with the data."""

    def sync(self, files: Sequence[str], directories: Iterable[int]) -> None:
        """Sync part files (names in the parts directory) and directories (descriptors).

        Raises:
            DestinationError: something did not reach the disk; nothing of the group may be trusted.
        """
        ...


def file_system(fd: int) -> FileSystem:
    """Classify the file system behind the descriptor `fd`."""
    if not is_linux():
        return FileSystem.SINGLE
    buffer = ctypes.create_string_buffer(256)
    if _libc().fstatfs(fd, buffer) != 0:
        return FileSystem.SINGLE
    kind = int.from_bytes(buffer.raw[: ctypes.sizeof(ctypes.c_long)], sys.byteorder) & 0xFFFFFFFF
    return _MAGIC.get(kind, FileSystem.SINGLE)


def choose(dest_fd: int, parts_fd: int) -> Sync:
    """Return the cheapest sync that can be trusted at DEST.

    Args:
        dest_fd: a descriptor of DEST, opened before the first write.
        parts_fd: a descriptor of the parts directory.

    Raises:
        DestinationError: the disk fails.
    """
    if file_system(dest_fd) is not FileSystem.GROUP or _kernel() < _SYNCFS_HONEST:
        return FileSync(parts_fd)
    error = _syncfs(dest_fd)
    if error is None:
        return GroupSync(dest_fd)
    if error.errno not in _REFUSED:
        raise _failed(error)
    return FileSync(
        parts_fd,
        f"The system refuses to sync a whole file system ({error.strerror}): stacpull syncs each file by "
        "itself, which is slower.",
    )


class GroupSync:
    """`syncfs(2)`: everything that was written to DEST's file system so far, in one call."""

    covers_ledger = True

    def __init__(self, dest_fd: int) -> None:
        self._fd = dest_fd

    def sync(self, files: Sequence[str], directories: Iterable[int]) -> None:
        """See `Sync.sync`."""
        del files, directories
        error = _syncfs(self._fd)
        if error is not None:
            raise _failed(error)


class FileSync:
    """fsync of each file, then of each directory, in a few threads."""

    covers_ledger = False

    def __init__(self, parts_fd: int, reason: str | None = None) -> None:
        """Prepare.

        Args:
            parts_fd: a descriptor of the parts directory.
            reason: a sentence for the user that says why there is no group sync, where one was expected.
        """
        self.reason = reason
        self._parts_fd = parts_fd
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 -- it imports logging

        self._threads = ThreadPoolExecutor(_THREADS, "stacpull-fsync")

    def sync(self, files: Sequence[str], directories: Iterable[int]) -> None:
        """See `Sync.sync`."""
        try:
            list(self._threads.map(self._sync_part, files))
            list(self._threads.map(_full_sync, directories))
        except OSError as error:
            raise _failed(error) from error

    def _sync_part(self, name: str) -> None:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._parts_fd)
        try:
            _full_sync(fd)
        finally:
            os.close(fd)


def _syncfs(fd: int) -> OSError | None:
    """Sync the file system of a descriptor; return the error if that failed."""
    if _libc().syncfs(fd) == 0:
        return None
    return OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _full_sync(fd: int) -> None:
    full = getattr(fcntl, "F_FULLFSYNC", None)  # macOS: fsync alone leaves data in the drive's cache
    if full is not None:
        try:
            fcntl.fcntl(fd, full)
        except OSError as error:
            if error.errno not in _NOT_FULL:
                raise
        else:
            return
    os.fsync(fd)


def _failed(error: OSError) -> DestinationError:
    return DestinationError(
        f"The destination's disk failed to store data ({error.strerror}): check it, then `stacpull resume`."
    )


def _kernel() -> tuple[int, int]:
    """Return the version of the kernel, (0, 0) if it has an odd one."""
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


_LIBC: list[ctypes.CDLL] = []


def _libc() -> ctypes.CDLL:
    if not _LIBC:
        _LIBC.append(ctypes.CDLL(None, use_errno=True))
    return _LIBC[0]
