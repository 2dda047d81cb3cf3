"""The parts of a worker on another machine: a directory of its own among the parts.

    parts/<16 hex digits>.<here|far>/     what one worker writes, until it ends
    parts/<16 hex digits>.<here|far>/seen     a token: the worker reads it to prove that it sees this DEST
    parts/<16 hex digits>.<here|far>/synced   everything here is durable: the worker has parked it

Nobody can be sure that such a worker has ended: the connection may be cut while it still writes. So a worker
that is lost is locked out: what is in its directory moves to the parts, and the directory is removed.
Whatever it does after that, by name, fails. (A file that it still has open may be continued by another
worker: both write the same bytes of the same object at the same places.)

Its whole parts are always durable, since it syncs each one before it gets its name, and so are objects in a
bucket (`store.staged_objects`). Its unfinished parts may
have lost bytes in the middle if its machine has lost power. They are kept only if the worker has marked them
as synced, or if its machine is this one (`here`), where `engine.recovery` decides what can be trusted.
"""

from __future__ import annotations

import errno
import os
import re
import time
from contextlib import suppress
from pathlib import Path

from stacpull.store.regular import open_regular

SEEN, SYNCED = "seen", "synced"
_HERE, _FAR = ".here", ".far"
_NAME = re.compile(r"[0-9a-f]{16}\.(here|far)")
_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_ATTEMPTS, _PAUSE = 50, 0.01
"""Attempts to empty a directory that its worker still writes to, and seconds between two."""
_LONGEST_TOKEN = 64


def new_name(*, here: bool) -> str:
    """Return a name that no worker had before; `here`: it is on the same machine as the store process."""
    return os.urandom(8).hex() + (_HERE if here else _FAR)


def is_name(name: str) -> bool:
    """Return True if `name` is that of such a directory."""
    return _NAME.fullmatch(name) is not None


def make(parts: int, name: str, token: str) -> None:
    """Make the directory of a worker.

    Args:
        parts: A descriptor of the parts directory.
        name: Its name.
        token: What the worker must find there.

    Raises:
        OSError: It cannot be made.
    """
    os.mkdir(name, 0o755, dir_fd=parts)
    fd = os.open(name, _OPEN, dir_fd=parts)
    try:
        with os.fdopen(os.open(SEEN, _CREATE, 0o644, dir_fd=fd), "w") as file:
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
    """Make everything in the directory of a worker durable, and mark it so.

    Raises:
        OSError: Something did not reach the disk.
    """
    for path in sorted(directory.iterdir()):
        with suppress(FileNotFoundError), os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
            os.fsync(file.fileno())  # a whole part may be published meanwhile
    (directory / SYNCED).touch()


def collect(parts: int) -> None:
    """Take all workers' directories into the parts.

    Raises:
        OSError: One cannot be moved.
    """
    for name in filter(is_name, os.listdir(parts)):
        collect_one(parts, name)


def collect_one(parts: int, name: str) -> None:
    """Take what is in the directory of a worker into the parts, and remove the directory.

    Args:
        parts: A descriptor of the parts directory.
        name: The name of the worker's directory; it may be gone.

    Raises:
        OSError: It cannot be moved.
    """
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
                return  # after the last attempt it stays for the next run: what is in it does no harm
    finally:
        os.close(fd)


def _empty(fd: int, parts: int, *, keep_all: bool) -> None:
    """Move or remove what is in a directory. The bytes of a part move after what describes them."""
    for entry in sorted(os.listdir(fd), key=lambda entry: entry.endswith(".part")):
        with suppress(FileNotFoundError):  # its worker has renamed it meanwhile
            if entry in (SEEN, SYNCED) or not (keep_all or entry.endswith((".whole", ".sent", ".upload"))):
                os.unlink(entry, dir_fd=fd)
            else:
                os.rename(entry, entry, src_dir_fd=fd, dst_dir_fd=parts)
