"""The parts of a Dask worker: a separate directory among the parts.

    parts/<16 hex digits>.<here|far>/         the parts of one worker, until it ends
    parts/<16 hex digits>.<here|far>/seen     a token: the worker reads it to prove that it sees this DEST
    parts/<16 hex digits>.<here|far>/synced   everything in the directory is durable: the worker has parked it

It is never certain that such a worker has ended: the connection may be lost while it still writes. So a lost
worker is locked out: the files in its directory are moved to the parts, and the directory is removed. After
that, the worker can no longer open or rename its files. (Another worker may continue a file that it still has
open: both write the same bytes of the same object at the same offsets.)

Its complete parts are always durable, because the worker syncs each part before renaming it. So are objects
in a bucket (`store.staged_objects`). If the worker's machine lost power, unfinished parts may have lost bytes
in the middle. Unfinished parts are only kept if the worker has marked them as synced, or if it runs on this
machine (`here`), where `engine.recovery` decides which parts to trust.
"""

from __future__ import annotations

import errno
import os
import re
import time
from contextlib import suppress
from pathlib import Path

from stacpull.store.regular import CREATE, open_regular

SEEN, SYNCED = "seen", "synced"
_HERE, _FAR = ".here", ".far"
_NAME = re.compile(r"[0-9a-f]{16}\.(here|far)")
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ATTEMPTS, _PAUSE = 50, 0.01
"""Attempts to empty a directory while its worker still writes to it, and seconds between them."""
_LONGEST_TOKEN = 64


def new_name(*, here: bool) -> str:
    """Return a new name; `here` is True if the worker is on the same machine as the store process."""
    return os.urandom(8).hex() + (_HERE if here else _FAR)


def is_name(name: str) -> bool:
    """Return True if `name` is the name of a worker's directory."""
    return _NAME.fullmatch(name) is not None


def make(parts: int, name: str, token: str) -> None:
    """Create the directory of a worker.

    Args:
        parts: A descriptor of the parts directory.
        name: Its name.
        token: The token that the worker must read.

    Raises:
        OSError: It cannot be created.
    """
    os.mkdir(name, 0o755, dir_fd=parts)
    fd = os.open(name, _OPEN, dir_fd=parts)
    try:
        with os.fdopen(os.open(SEEN, CREATE, 0o600, dir_fd=fd), "w") as file:
            file.write(token)
    finally:
        os.close(fd)


def token_in(directory: Path) -> str | None:
    """Return the token in the directory of a worker, None if it cannot be read."""
    try:
        with os.fdopen(open_regular(directory / SEEN, os.O_RDONLY), "rb") as file:
            return file.read(_LONGEST_TOKEN).decode("ascii", "replace")
    except OSError:
        return None


def mark_synced(directory: Path) -> None:
    """Sync everything in the directory of a worker, and mark it as synced.

    Raises:
        OSError: A sync failed.
    """
    for path in sorted(directory.iterdir()):
        with suppress(FileNotFoundError), os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
            os.fsync(file.fileno())  # a complete part may be published at the same time
    (directory / SYNCED).touch()


def collect(parts: int, name: str | None = None) -> None:
    """Move the files of workers' directories to the parts, and remove the directories.

    Args:
        parts: A descriptor of the parts directory.
        name: The directory of one worker, which may not exist; None for those of all workers.

    Raises:
        OSError: A file cannot be moved.
    """
    for directory in filter(is_name, os.listdir(parts)) if name is None else [name]:
        _collect(parts, directory)


def _collect(parts: int, name: str) -> None:
    try:
        fd = os.open(name, _OPEN, dir_fd=parts)
    except FileNotFoundError:
        return
    try:
        keep_all = name.endswith(_HERE) or os.access(SYNCED, os.F_OK, dir_fd=fd)
        for _ in range(_ATTEMPTS):
            _empty(fd, parts, keep_all=keep_all)
            try:
                os.rmdir(name, dir_fd=parts)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                time.sleep(_PAUSE)
            else:
                return
        # the worker still writes there: the directory stays for the next run, and its files do no harm
    finally:
        os.close(fd)


def _empty(fd: int, parts: int, *, keep_all: bool) -> None:
    """Move or remove the files of a directory. A part is moved after its description."""
    for entry in sorted(os.listdir(fd), key=lambda entry: entry.endswith(".part")):
        with suppress(FileNotFoundError):  # its worker has just renamed it
            if entry in (SEEN, SYNCED) or not (keep_all or entry.endswith((".whole", ".sent", ".upload"))):
                os.unlink(entry, dir_fd=fd)
            else:
                os.rename(entry, entry, src_dir_fd=fd, dst_dir_fd=parts)
