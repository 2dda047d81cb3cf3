"""Syncing a group of files to stable storage, and reporting every failure.

An fsync takes 1-10 ms: days for eight million files. `syncfs` syncs a group, but reports errors only since
Linux 5.8, and on some file systems. A failed sync is never repeated: the lost pages are gone from the cache,
and a second sync would report success.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import BinaryIO, Protocol

from stacpull.errors import DestinationError
from stacpull.system import is_linux

GROUP_SYNC = {
    0xEF53: "ext2, ext3, ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0xF2F52010: "f2fs",
    0x2FC12FC1: "zfs",
    0x01021994: "tmpfs: nothing to sync",
}
"""File systems that `syncfs` syncs, reporting errors, by `statfs(2)`'s f_type."""
_NETWORK = {
    0x6969: "nfs",
    0x517B: "smb",
    0xFF534D42: "cifs",
    0xFE534D42: "smb2",
    0x0BD00BD0: "lustre",
    0x47504653: "gpfs",
    0x00C36400: "ceph",
    0x01021997: "9p",
}
_SYNCFS_HONEST = (5, 8)
_REFUSED = frozenset({errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP})
"""Errors of `syncfs` if a sandbox or the kernel does not offer it. No data is lost then."""
_THREADS = 8


class Sync(Protocol):
    """Syncs part files (names in the parts directory), then directories (descriptors)."""

    covers_ledger: bool  # True if the sync of the data includes the ledger's log

    def sync(self, files: Sequence[str], directories: Iterable[int]) -> None: ...


def is_on_network(fd: int) -> bool:
    """Return True on a network file system: SQLite's write-ahead log does not work there."""
    return _file_system(fd) in _NETWORK


def _file_system(fd: int) -> int:
    buffer = ctypes.create_string_buffer(256)
    if not is_linux() or _libc().fstatfs(fd, buffer) != 0:
        return 0
    return int.from_bytes(buffer.raw[: ctypes.sizeof(ctypes.c_long)], sys.byteorder) & 0xFFFFFFFF


def choose(dest_fd: int, parts_fd: int) -> Sync:
    """Return the cheapest reliable sync for DEST, whose descriptor was opened before the first write."""
    kernel = re.match(r"(\d+)\.(\d+)", os.uname().release)
    is_honest = kernel is not None and (int(kernel[1]), int(kernel[2])) >= _SYNCFS_HONEST
    if not is_honest or _file_system(dest_fd) not in GROUP_SYNC:
        return FileSync(parts_fd)
    group = GroupSync(dest_fd)
    try:
        group.sync((), ())
    except DestinationError as error:
        cause = error.__cause__
        if not isinstance(cause, OSError) or cause.errno not in _REFUSED:
            raise
        return FileSync(
            parts_fd,
            f"The system does not allow syncing a whole file system ({cause.strerror}): stacpull syncs each "
            "file separately, which is slower.",
        )
    return group


class GroupSync:
    """`syncfs(2)`: syncs everything written to DEST's file system, in one call."""

    covers_ledger = True

    def __init__(self, dest_fd: int) -> None:
        self._fd = dest_fd

    def sync(self, files: Sequence[str], directories: Iterable[int]) -> None:
        del files, directories
        if _libc().syncfs(self._fd) != 0:
            error = OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            raise _failed(error) from error


class FileSync:
    covers_ledger = False

    def __init__(self, parts_fd: int, reason: str | None = None) -> None:
        """`reason` tells the user why there is no group sync, if one was expected."""
        self.reason = reason
        self._parts_fd = parts_fd
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 -- it imports logging

        self._threads = ThreadPoolExecutor(_THREADS, "stacpull-fsync")

    def sync(self, files: Sequence[str], directories: Iterable[int]) -> None:
        try:
            list(self._threads.map(self._sync_part, files))
            list(self._threads.map(os.fsync, directories))
        except OSError as error:
            raise _failed(error) from error

    def _sync_part(self, name: str) -> None:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._parts_fd)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


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


def _failed(error: OSError) -> DestinationError:
    return DestinationError(
        f"The destination's disk failed to store data ({error.strerror}): check it, then `stacpull resume`."
    )


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
